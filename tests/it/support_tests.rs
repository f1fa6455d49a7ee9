//! Tests of the test support itself: what it writes is read by real tools, and its faults do what they say.

mod hostile;

use std::fs;

use crate::support::archives::{
    DockerArchive, TarStyle, write_docker_archive, write_layout, write_layout_tar,
};
use crate::support::barge::barge;
use crate::support::client::Client;
use crate::support::containerd::Containerd;
use crate::support::fixtures;
use crate::support::hostile::Hostile;
use crate::support::images::{Content, layer, plain_layer, sha512};
use crate::support::peers::{
    PASSWORD, RealRegistry, RegistryOptions, USER, blob_exists, get_manifest_bytes, gnu_tar, push_content,
    skopeo, umoci,
};
use crate::support::tarball::TarFormat;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// An index of two images with an attestation, of Docker's and OCI's types in turn.
fn two_platforms(docker: bool) -> (Content, barge::oci::Descriptor) {
    let mut content = Content::new();
    let shared = layer(1, 3000);
    let make = if docker { Content::docker_image } else { Content::image };
    let amd64 = make(&mut content, "linux/amd64", &[shared.clone(), layer(2, 2000)]);
    let arm = make(&mut content, "linux/arm/v7", &[shared, layer(3, 2000)]);
    let index = if docker {
        content.docker_index(&[amd64, arm])
    } else {
        let attestation = content.attestation(&amd64);
        content.index(&[amd64, arm, attestation])
    };
    (content, index)
}

#[test]
fn the_same_calls_make_the_same_bytes() {
    assert_eq!(layer(7, 5000).digest, layer(7, 5000).digest);
    assert_ne!(layer(7, 5000).digest, layer(8, 5000).digest);
    assert_eq!(layer(7, 5000).diff_id, plain_layer(7, 5000).digest);
    assert_eq!(two_platforms(false).0.blobs, two_platforms(false).0.blobs);
}

#[test]
fn skopeo_copies_from_a_real_registry() {
    let registry = RealRegistry::start();
    let temp = temp();
    for (docker, tag) in [(false, "oci"), (true, "docker")] {
        let (content, index) = two_platforms(docker);
        push_content(registry.host(), "demo/app", &content, &index, Some(tag));
        let bytes = get_manifest_bytes(registry.host(), "demo/app", tag).unwrap();
        assert_eq!(bytes, content.blobs[&index.digest]);
        let source = format!("docker://{}/demo/app:{tag}", registry.host());
        let target = format!("dir:{}", temp.path().join(tag).display());
        skopeo(["copy", "--all", "--src-tls-verify=false", &source, &target]);
        assert_eq!(fs::read(temp.path().join(tag).join("manifest.json")).unwrap(), bytes);
    }
    let blob = layer(1, 3000);
    assert!(blob_exists(registry.host(), "demo/app", &blob.digest));
    registry.delete_blob_data(&blob.digest);
    assert!(!blob_exists(registry.host(), "demo/app", &blob.digest));
}

#[test]
fn a_real_registry_speaks_tls_and_asks_for_a_password() {
    let registry = RealRegistry::start_with(&RegistryOptions {
        auth: true,
        tls: true,
        inmemory_cache: true,
        storage: None,
        ..RegistryOptions::default()
    });
    let (content, index) = two_platforms(false);
    registry.push("demo/app", &content, &index, Some("v1"));
    assert_eq!(registry.client().tags("demo/app"), ["v1"]);
    let stranger =
        Client::new(registry.host(), Some(&fs::read(registry.certificates().join("ca.crt")).unwrap()), None);
    assert_eq!(stranger.request("GET", "/v2/", &[], None).status, 401);
    let raw = skopeo([
        "inspect",
        "--raw",
        &format!("--cert-dir={}", registry.certificates().display()),
        &format!("--creds={USER}:{PASSWORD}"),
        &format!("docker://{}/demo/app:v1", registry.host()),
    ]);
    assert_eq!(raw.as_bytes(), content.blobs[&index.digest]);
    // The cache goes on saying that a blob is there after its data went away.
    let blob = layer(1, 3000);
    let path = format!("/v2/demo/app/blobs/{}", blob.digest);
    registry.delete_blob_data(&blob.digest);
    assert_eq!(registry.client().request("HEAD", &path, &[], None).status, 200);
}

#[test]
fn skopeo_copies_to_and_from_the_hostile_registry() {
    let (from, to) = (Hostile::honest(), Hostile::honest());
    let (content, index) = two_platforms(false);
    from.seed("a/b", &content, &index, Some("v1"));
    let (source, target) =
        (format!("docker://{}/a/b:v1", from.host()), format!("docker://{}/c:v2", to.host()));
    skopeo(["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", &source, &target]);
    assert_eq!(to.manifest("c", "v2").unwrap(), content.blobs[&index.digest]);
    assert!(to.has_blob("c", &layer(3, 2000).digest));
    assert!(from.writes().is_empty(), "{}", from.transcript());
    assert_eq!(to.open_uploads(), 0);
}

#[test]
fn tools_read_the_layouts() {
    let temp = temp();
    let (content, index) = two_platforms(false);
    let layout = temp.path().join("layout");
    write_layout(&layout, &content, &[("v1", index.clone())]);
    assert!(umoci(["ls", "--layout", layout.to_str().unwrap()]).contains("v1"));
    let raw = skopeo(["inspect", "--raw", &format!("oci:{}:v1", layout.display())]);
    assert_eq!(raw.as_bytes(), content.blobs[&index.digest]);
    for (at, format) in (0..).zip([TarFormat::Ustar, TarFormat::Gnu, TarFormat::Pax]) {
        let path = temp.path().join(format!("{at}.tar"));
        let style = TarStyle { blobs_first: at == 1, dot_slash: at != 0, directories: at == 2, format };
        write_layout_tar(&path, &content, &[("v1", index.clone())], style);
        let raw = skopeo(["inspect", "--raw", &format!("oci-archive:{}:v1", path.display())]);
        assert_eq!(raw.as_bytes(), content.blobs[&index.digest], "{format:?}");
        assert!(gnu_tar(["-tf", path.to_str().unwrap()]).contains("index.json"));
    }
}

#[test]
fn long_names_fit_gnu_and_pax() {
    let temp = temp();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 100).by_sha512()]);
    let image = content.manifest_by_sha512(&image);
    assert_eq!(image.digest, sha512(&content.blobs[&image.digest]));
    for format in [TarFormat::Gnu, TarFormat::Pax] {
        let path = temp.path().join("x.tar");
        let style = TarStyle { format, ..TarStyle::default() };
        write_layout_tar(&path, &content, &[("v1", image.clone())], style);
        assert!(gnu_tar(["-tf", path.to_str().unwrap()]).contains(&image.digest.blob_path()));
    }
}

#[test]
fn skopeo_reads_the_docker_archives() {
    let temp = temp();
    let mut content = Content::new();
    let shared = layer(1, 3000);
    let first = content.image("linux/amd64", &[shared.clone(), layer(2, 2000)]);
    let second = content.image("linux/amd64", &[shared, layer(3, 2000)]);
    for style in [DockerArchive::New, DockerArchive::Old, DockerArchive::OldWithLinks] {
        let path = temp.path().join(format!("{style:?}.tar"));
        write_docker_archive(
            &path,
            &content,
            style,
            &[(&first, &["one:v1", "one:latest"]), (&second, &["two:v1"])],
        );
        for name in ["one:v1", "two:v1"] {
            let source = format!("docker-archive:{}:{name}", path.display());
            let target = format!("oci:{}:x", temp.path().join(format!("{style:?}-{name}")).display());
            skopeo(["copy", &source, &target]);
        }
        let listed = gnu_tar(["-tvf", path.to_str().unwrap()]);
        assert_eq!(listed.contains(" -> ../"), style == DockerArchive::OldWithLinks);
    }
}

#[test]
fn containerd_imports_a_layout() {
    let temp = temp();
    let mut content = Content::new();
    let mut image = content.image("linux/amd64", &[layer(1, 3000)]);
    image.annotations.insert("io.containerd.image.name".to_owned(), "registry.example/a:v1".to_owned());
    let path = temp.path().join("x.tar");
    write_layout_tar(&path, &content, &[("v1", image.clone())], TarStyle::default());
    let containerd = Containerd::start();
    containerd.ctr(["images", "import", path.to_str().unwrap()]);
    let listed = containerd.ctr(["images", "ls"]);
    assert!(listed.contains("registry.example/a:v1") && listed.contains(&image.digest.to_string()));
}

#[test]
fn barge_runs_in_a_home_of_its_own() {
    let command = barge(["--version"]);
    assert!(command.home().is_dir());
    command.run().success().never_says("panicked");
}

/// Remakes `fixtures/` when `BARGE_REMAKE_FIXTURES` is set.
#[test]
fn fixtures_are_what_the_code_makes() {
    let made = fixtures::files();
    if std::env::var_os("BARGE_REMAKE_FIXTURES").is_some() {
        for name in fixtures::files_on_disk().keys() {
            fs::remove_file(fixtures::directory().join(name)).unwrap();
        }
        for (name, bytes) in &made {
            let path = fixtures::directory().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    let found = fixtures::files_on_disk();
    assert!(
        found == made,
        "fixtures differ: set BARGE_REMAKE_FIXTURES=1 to remake them\non disk {:?}\nmade    {:?}",
        found.keys().collect::<Vec<_>>(),
        made.keys().collect::<Vec<_>>()
    );
    assert!(made.values().map(Vec::len).sum::<usize>() < 300_000);
}
