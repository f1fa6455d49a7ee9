//! Others read what was packed, without barge.

use std::fs;

use barge::oci::{Descriptor, Digest};
use serde_json::Value;

use super::{Packed, pack, temp};
use crate::support::containerd::Containerd;
use crate::support::hostile::Hostile;
use crate::support::images::{Content, layer};
use crate::support::peers::{RealRegistry, gnu_tar, skopeo, umoci};

/// An index for two platforms with attestations, a signature of the index, and an SBOM that refers to a child.
fn signed(content: &mut Content) -> (Descriptor, Vec<(String, Descriptor)>) {
    let amd = content.image("linux/amd64", &[layer(1, 9000), layer(2, 3000)]);
    let arm = content.image("linux/arm64", &[layer(1, 9000), layer(3, 3000)]);
    let attestations = [content.attestation(&amd), content.attestation(&arm)];
    let index = content.index(&[amd.clone(), arm, attestations[0].clone(), attestations[1].clone()]);
    let sbom = content.artifact(&amd, "application/spdx+json", b"an SBOM");
    let tagged =
        vec![content.signature(&index.digest, "demo/app"), content.referrers_index(&amd.digest, &[sbom])];
    (index, tagged)
}

#[test]
fn skopeo_copies_out_the_same_bytes() {
    let registry = RealRegistry::start();
    let mut content = Content::new();
    let (index, tagged) = signed(&mut content);
    registry.push("demo/app", &content, &index, Some("v1"));
    for (tag, root) in &tagged {
        registry.push("demo/app", &content, root, Some(tag));
    }
    let single = content.image("linux/amd64", &[layer(7, 2000)]);
    registry.push("demo/one", &content, &single, Some("v2"));
    let temp = temp();
    let path = temp.path().join("site.oci.tar");
    let names = ["demo/app:v1", "demo/one:v2"].map(|name| format!("{}/{name}", registry.host()));
    pack(&path, &names).run().success();
    for (name, root) in names.iter().zip([&index, &single]) {
        let at_source =
            skopeo(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).into_bytes();
        let source = format!("oci-archive:{}:{name}", path.display());
        let here = skopeo(["inspect", "--raw", &source]).into_bytes();
        assert_eq!(here, at_source);
        assert!(root.digest.matches(&here));
    }
    let layout = temp.path().join("layout");
    let source = format!("oci-archive:{}:{}", path.display(), names[0]);
    skopeo(["copy", "--all", &source, &format!("oci:{}:v1", layout.display())]);
    for descriptor in content.closure(&index) {
        let bytes = fs::read(layout.join(descriptor.digest.blob_path())).unwrap();
        assert_eq!(bytes, content.blobs[&descriptor.digest]);
    }
}

#[test]
fn skopeo_reads_a_sparse_bundle_and_docker_load_finds_its_image() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let (index, _) = signed(&mut content);
    hostile.seed("demo/app", &content, &index, Some("v1"));
    let temp = temp();
    let path = temp.path().join("site.oci.tar");
    let name = format!("{}/demo/app:v1", hostile.host());
    // An attestation beside the image does not make it less loadable.
    pack(&path, [&name, "--platform", "linux/amd64"]).run().success();
    let packed = Packed::open(&path);
    let docker: Value = serde_json::from_slice(&packed.entries["manifest.json"]).unwrap();
    assert_eq!(docker[0]["RepoTags"], serde_json::json!([name]));
    assert_eq!(docker[0]["Layers"].as_array().unwrap().len(), 2);
    for path in docker[0]["Layers"].as_array().unwrap().iter().chain([&docker[0]["Config"]]) {
        assert!(packed.entries.contains_key(path.as_str().unwrap()), "{path}");
    }
    let digest = Digest::sha256(&packed.entries["manifest.json"]);
    assert_eq!(packed.record().docker_manifest, Some(digest));
    let layout = temp.path().join("layout");
    let target = format!("oci:{}:v1", layout.display());
    for source in ["docker-archive", "oci-archive"] {
        let source = format!("{source}:{}:{name}", path.display());
        skopeo(["--override-arch=amd64", "--override-os=linux", "copy", &source, &target]);
    }
}

#[test]
fn umoci_unpacks_a_packed_layout() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(5, 4000), layer(6, 4000)]);
    hostile.seed("demo/app", &content, &image, Some("v1"));
    let temp = temp();
    let layout = temp.path().join("layout");
    let name = format!("{}/demo/app:v1", hostile.host());
    let output = format!("oci:{}", layout.display());
    pack(output.as_ref(), [&name]).run().success();
    assert!(!temp.path().join("layout.partial").exists());
    let listed = umoci(["ls", "--layout", layout.to_str().unwrap()]);
    assert_eq!(listed.trim(), name);
    // umoci takes no name with a slash or colon on its command line.
    let plain = temp.path().join("plain");
    skopeo(["copy", &format!("oci:{}:{name}", layout.display()), &format!("oci:{}:v1", plain.display())]);
    let unpacked = temp.path().join("unpacked");
    let reference = format!("{}:v1", plain.display());
    umoci(["unpack", "--rootless", "--image", &reference, unpacked.to_str().unwrap()]);
    for seed in [5, 6] {
        assert!(unpacked.join(format!("rootfs/srv/{seed}/large.bin")).is_file());
    }
}

#[test]
fn containerd_imports_every_name_and_only_images() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let (index, tagged) = signed(&mut content);
    hostile.seed("demo/app", &content, &index, Some("v1"));
    for (tag, root) in &tagged {
        hostile.seed("demo/app", &content, root, Some(tag));
    }
    let single = content.docker_image("linux/amd64", &[layer(7, 2000)]);
    hostile.seed("demo/one", &content, &single, Some("v2"));
    let temp = temp();
    let names = ["demo/app:v1", "demo/one:v2"].map(|name| format!("{}/{name}", hostile.host()));
    let daemon = Containerd::start();
    for (file, platforms) in
        [("all.tar", &["--all-platforms"][..]), ("sparse.tar", &["--platform", "linux/amd64"])]
    {
        let path = temp.path().join(file);
        let ours = if file == "all.tar" { &[][..] } else { platforms };
        pack(&path, &names).args(ours).run().success();
        let import: Vec<&str> =
            ["images", "import", "--no-unpack"].into_iter().chain(platforms.iter().copied()).collect();
        daemon.ctr(import.into_iter().chain([path.to_str().unwrap()]));
        let listed = daemon.ctr(["images", "ls"]);
        for (name, root) in names.iter().zip([&index, &single]) {
            let line = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
            let line = line.unwrap_or_else(|| panic!("no {name} in\n{listed}"));
            assert!(line.contains(&root.digest.to_string()), "{line}");
        }
        for name in &names {
            daemon.ctr(["images", "rm", name]);
        }
    }
}

#[test]
fn gnu_tar_lists_and_extracts() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let (index, _) = signed(&mut content);
    hostile.seed("demo/app", &content, &index, Some("v1"));
    let temp = temp();
    let path = temp.path().join("site.oci.tar");
    pack(&path, [format!("{}/demo/app:v1", hostile.host())]).run().success();
    let text = path.to_str().unwrap();
    let listed = gnu_tar(["-tvf", text]);
    let lines: Vec<&str> = listed.lines().collect();
    for line in &lines {
        assert!(line.starts_with("-rw-r--r-- 0/0 "), "{line}");
        assert!(line.contains(" 1970-01-01 "), "{line}");
    }
    let name = |line: &&str| line.rsplit(' ').next().unwrap().to_owned();
    let order: Vec<String> = lines.iter().map(name).collect();
    assert_eq!(order[..3], ["oci-layout", "index.json", "barge.json"]);
    assert_eq!(order[3], index.digest.blob_path());
    assert_eq!(order.last().unwrap(), ".barge-trailer");
    let folder = temp.path().join("extracted");
    fs::create_dir(&folder).unwrap();
    gnu_tar(["-C", folder.to_str().unwrap(), "-xf", text]);
    for descriptor in content.closure(&index) {
        let bytes = fs::read(folder.join(descriptor.digest.blob_path())).unwrap();
        assert_eq!(bytes, content.blobs[&descriptor.digest]);
    }
    assert_eq!(fs::read(folder.join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
}
