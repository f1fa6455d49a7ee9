//! Where images come from, and what they are called.

use std::fs;

use barge::oci::Digest;
use serde_json::{Value, json};

use super::{Packed, pack, temp};
use crate::support::archives::{
    DockerArchive, TarStyle, write_docker_archive, write_layout, write_layout_tar,
};
use crate::support::hostile::{Config, Hostile};
use crate::support::images::{Content, gunzip, layer};
use crate::support::peers::RealRegistry;
use crate::support::tarball::TarFormat;

#[test]
fn references_of_every_form_come_from_a_real_registry() {
    let registry = RealRegistry::start();
    let host = registry.host();
    let mut content = Content::new();
    let images: Vec<_> =
        (0..5).map(|seed| content.image("linux/amd64", &[layer(9, 4000), layer(seed, 3000)])).collect();
    registry.push("demo/app", &content, &images[0], Some("v1"));
    registry.push("demo/app", &content, &images[1], Some("v2"));
    for image in &images[2..] {
        registry.push("demo/db", &content, image, Some("moved"));
    }
    let temp = temp();
    let path = temp.path().join("site.oci.tar");
    let digest = |at: usize| images[at].digest.to_string();
    let asked = [
        format!("{host}/demo/app:v1"),
        format!("docker://{host}/demo/app:v2"),
        format!("{host}/demo/db@{}", digest(2)),
        format!("{host}/demo/db@{}", digest(3)),
        format!("{host}/demo/db:stable@{}", digest(4)),
        format!("tools/renamed:1={host}/demo/app:v1"),
    ];
    pack(&path, &asked).run().success().stdout_has("DONE: ").stdout_has("6 images").stdout_has("\nnext: ");
    let packed = Packed::open(&path);
    let mut expected: Vec<(String, usize)> = vec![
        (format!("{host}/demo/app:v1"), 0),
        (format!("{host}/demo/app:v2"), 1),
        (format!("{host}/demo/db@{}", digest(2)), 2),
        (format!("{host}/demo/db@{}", digest(3)), 3),
        (format!("{host}/demo/db:stable"), 4),
        ("docker.io/tools/renamed:1".to_owned(), 0),
    ];
    expected.sort();
    let index = packed.index();
    for ((name, at), entry) in expected.iter().zip(index["manifests"].as_array().unwrap()) {
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], json!(name));
        assert_eq!(entry["annotations"]["io.containerd.image.name"], json!(name));
        assert_eq!(entry["digest"], json!(digest(*at)));
        assert_eq!(packed.image(name).root, images[*at].digest);
    }
    assert_eq!(packed.names().len(), expected.len());
    for image in &images {
        packed.has_all(&content, image);
    }
    // What a renamed image was pulled by is not forgotten, nor is what a tag meant.
    let renamed = packed.image("docker.io/tools/renamed:1").reference.clone().unwrap();
    assert_eq!(renamed.to_string(), format!("{host}/demo/app:v1@{}", digest(0)));
    // The copy of the record beside the archive is the record inside.
    let sidecar = fs::read(temp.path().join("site.barge.json")).unwrap();
    assert_eq!(sidecar, packed.entries["barge.json"]);
    assert_eq!(Some(&Digest::sha256(&sidecar)), packed.bundle.id());
}

#[test]
fn all_tags_of_a_repository_come_whatever_the_length_of_its_pages() {
    let hostile = Hostile::start(Config { page_size: 2, ..Config::default() });
    let mut content = Content::new();
    for seed in 0..5 {
        let image = content.image("linux/amd64", &[layer(seed, 1000)]);
        hostile.seed("demo/app", &content, &image, Some(&format!("v{seed}")));
        let (tag, signature) = content.signature(&image.digest, "demo/app");
        hostile.seed("demo/app", &content, &signature, Some(&tag));
    }
    let temp = temp();
    let path = temp.path().join("all.tar");
    pack(&path, ["--all-tags", &format!("{}/demo/app", hostile.host())]).run().success();
    let packed = Packed::open(&path);
    let names: Vec<String> = packed.record().images.iter().map(|image| image.name.to_string()).collect();
    let expected: Vec<String> = (0..5).map(|n| format!("{}/demo/app:v{n}", hostile.host())).collect();
    assert_eq!(names, expected);
    assert!(packed.record().images.iter().all(|image| image.attached.len() == 1));
}

#[test]
fn a_list_names_images_and_a_wrong_line_is_named() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 1000)]);
    hostile.seed("a", &content, &image, Some("v1"));
    hostile.seed("b", &content, &image, Some("v1"));
    let temp = temp();
    let list = temp.path().join("list.txt");
    let path = temp.path().join("out.tar");
    let host = hostile.host();
    fs::write(&list, format!("# all\n\n{host}/a:v1   # the first\r\n  other/name:2={host}/b:v1\n")).unwrap();
    let run = || pack(&path, ["--from-file"]).arg(&list).run();
    run().success();
    assert_eq!(Packed::open(&path).names(), [format!("{host}/a:v1"), "docker.io/other/name:2".to_owned()]);
    fs::write(&list, format!("{host}/a:v1\nNo Such Thing\n")).unwrap();
    run().code(2).stderr_has("line 2").stderr_has("list.txt");
}

#[test]
fn layouts_in_every_dress_give_the_same_bundle() {
    let temp = temp();
    let mut content = Content::new();
    let children = ["linux/amd64", "linux/arm64"].map(|p| content.image(p, &[layer(1, 5000)]));
    let index = content.index(&children);
    let roots = [("r.example/app:v1", index.clone())];
    let folder = temp.path().join("layout");
    write_layout(&folder, &content, &roots);
    let mut sources = vec![
        format!("oci:{}:r.example/app:v1", folder.display()),
        format!("oci:{}", folder.display()),
        folder.display().to_string(),
        format!("r.example/app:v1=oci:{}", folder.display()),
    ];
    for format in [TarFormat::Ustar, TarFormat::Gnu, TarFormat::Pax] {
        for bits in 0..8 {
            let style = TarStyle {
                blobs_first: bits & 1 > 0,
                dot_slash: bits & 2 > 0,
                directories: bits & 4 > 0,
                format,
            };
            let path = temp.path().join(format!("{format:?}{bits}.tar"));
            write_layout_tar(&path, &content, &roots, style);
            sources.push(format!("oci-archive:{}", path.display()));
            sources.push(path.display().to_string());
        }
    }
    let mut first = None;
    for (at, source) in sources.iter().enumerate() {
        let out = temp.path().join(format!("out{at}.oci.tar"));
        pack(&out, [source]).run().success();
        let bytes = fs::read(&out).unwrap();
        assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{source}");
    }
    let packed = Packed::open(&temp.path().join("out0.oci.tar"));
    packed.has_all(&content, &index);
    assert_eq!(packed.names(), ["r.example/app:v1"]);
}

#[test]
fn what_has_no_full_name_must_be_given_one() {
    let temp = temp();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 500)]);
    let other = content.image("linux/amd64", &[layer(2, 500)]);
    let layout = temp.path().join("layout");
    write_layout(&layout, &content, &[("lint", image.clone()), ("", other.clone())]);
    let out = temp.path().join("out.tar");
    let source = format!("oci:{}", layout.display());
    pack(&out, [&source]).run().code(2).stderr_has("give it a name");
    pack(&out, [format!("tools/lint:v3={source}")]).run().code(2).stderr_has("2 images");
    pack(&out, [format!("tools/lint:v3={source}:lint")]).run().success();
    assert_eq!(Packed::open(&out).image("docker.io/tools/lint:v3").root, image.digest);
    let by_digest = temp.path().join("digest.tar");
    pack(&by_digest, [format!("tools/other={source}:{}", other.digest)]).run().success();
    assert_eq!(Packed::open(&by_digest).image("docker.io/tools/other:latest").root, other.digest);
    // A mistyped file never becomes an image of the default registry.
    pack(&out, ["feb.tar"]).run().code(3).stderr_has("feb.tar");
}

#[test]
fn docker_archives_old_and_new() {
    let temp = temp();
    let mut content = Content::new();
    let shared = layer(1, 6000);
    let image = content.docker_image("linux/amd64", &[shared.clone(), layer(2, 100)]);
    let second = content.docker_image("linux/amd64", &[shared.clone(), layer(3, 100)]);
    let write = |name: &str, style| {
        let path = temp.path().join(name);
        let images: [(_, &[&str]); 2] = [(&image, &["app:v1", "app:v2"]), (&second, &["tool:1"])];
        write_docker_archive(&path, &content, style, &images);
        path
    };
    let names = ["docker.io/library/app:v1", "docker.io/library/app:v2", "docker.io/library/tool:1"]
        .map(str::to_owned);
    let mut made = Vec::new();
    for (name, style) in [
        ("new.tar", DockerArchive::New),
        ("old.tar", DockerArchive::Old),
        ("links.tar", DockerArchive::OldWithLinks),
    ] {
        let path = write(name, style);
        let out = temp.path().join(format!("{name}.oci.tar"));
        let outcome = pack(&out, [format!("docker-archive:{}", path.display())]).run().success();
        let packed = Packed::open(&out);
        assert_eq!(packed.names(), names);
        let root = packed.image(&names[0]).root.clone();
        let is_made = style != DockerArchive::New;
        assert_eq!(root == image.digest, !is_made, "{name}");
        assert_eq!(outcome.stderr.contains("has no manifest"), is_made, "{outcome}");
        // The configuration, and so the diff IDs, are as they were; the layers are those uncompressed.
        let manifest: Value = serde_json::from_slice(packed.blob(&root).unwrap()).unwrap();
        let config: Digest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(packed.blob(&config), Some(&content.blobs[&config]));
        let layers = manifest["layers"].as_array().unwrap();
        for (layer, source) in layers.iter().zip([&shared, &layer(2, 100)]) {
            let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
            assert_eq!(gunzip(packed.blob(&digest).unwrap()), gunzip(&source.bytes));
            assert!(!is_made || digest == source.diff_id);
        }
        made.push(fs::read(&out).unwrap());
        // By its path alone it is the same.
        let again = temp.path().join(format!("{name}.again.tar"));
        pack(&again, [path.display().to_string()]).run().success();
        assert!(fs::read(&again).unwrap() == made[made.len() - 1], "{name}");
    }
    assert!(made[1] == made[2], "links are only another way to write the same");
    let one = temp.path().join("one.tar");
    let source = format!("docker-archive:{}:tool:1", temp.path().join("old.tar").display());
    pack(&one, [source]).run().success();
    assert_eq!(Packed::open(&one).names(), ["docker.io/library/tool:1"]);
}

#[test]
fn a_bundle_is_a_source_with_what_it_left_out() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let amd = content.image("linux/amd64", &[layer(1, 5000)]);
    let arm = content.image("linux/arm64", &[layer(2, 5000)]);
    let index = content.index(&[amd.clone(), arm.clone()]);
    let (tag, signature) = content.signature(&index.digest, "app");
    let sbom = content.artifact(&amd, "application/spdx+json", b"sbom");
    let (fallback, referrers) = content.referrers_index(&amd.digest, std::slice::from_ref(&sbom));
    for (tag, root) in [("v1", &index), (tag.as_str(), &signature), (fallback.as_str(), &referrers)] {
        hostile.seed("app", &content, root, Some(tag));
    }
    let temp = temp();
    let (first, second) = (temp.path().join("first.oci.tar"), temp.path().join("second.oci.tar"));
    let name = format!("{}/app:v1", hostile.host());
    pack(&first, ["--platform", "linux/amd64", &name]).run().success();
    drop(hostile);
    pack(&second, [&first]).run().success();
    let (one, two) = (Packed::open(&first), Packed::open(&second));
    two.has_all(&content, &amd);
    two.has_all(&content, &signature);
    two.has_all(&content, &sbom);
    let absent = |packed: &Packed| packed.record().absent.iter().collect::<Vec<_>>();
    assert_eq!(absent(&one), absent(&two));
    assert_eq!(one.names(), two.names());
    assert_eq!(one.role(&arm.digest), two.role(&arm.digest));
    let of = |packed: &Packed| packed.record().images[0].clone();
    assert_eq!((of(&one).attached, of(&one).platforms), (of(&two).attached, of(&two).platforms));
}
