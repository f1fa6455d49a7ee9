use std::fs;
use std::io::Write;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::oci::media_type::{OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST};
use crate::store::layout::{CONTAINERD_NAME, LayoutDirectory, REF_NAME};
use crate::store::read_manifest;

/// Builds the tar file of an archive.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, content).unwrap();
        self
    }

    fn link(mut self, name: &str, target: &str, kind: tar::EntryType) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn open(self) -> Result<DockerArchive> {
        opened(&self.bytes())
    }
}

fn opened(bytes: &[u8]) -> Result<DockerArchive> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.tar");
    fs::write(&path, bytes).unwrap();
    DockerArchive::open(&path)
}

fn message<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

/// A configuration over layers, and its name in an archive.
fn config(layers: &[&[u8]], seed: &str) -> (String, Vec<u8>) {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", Digest::sha256(layer))).collect();
    // Written out, since a digest below depends on every byte.
    let bytes = format!(
        r#"{{"architecture":"amd64","os":"linux","seed":"{seed}","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    )
    .into_bytes();
    (format!("{}.json", Digest::sha256(&bytes).hex()), bytes)
}

fn list(images: &[(&str, &[&str], &[&str])]) -> Vec<u8> {
    let items: Vec<_> = images
        .iter()
        .map(|(config, tags, layers)| {
            serde_json::json!({"Config": config, "RepoTags": tags, "Layers": layers})
        })
        .collect();
    serde_json::to_vec(&items).unwrap()
}

fn read_blob(source: &dyn Source, digest: &Digest, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.open_blob(digest, size, 0).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn image(source: &dyn Source, root: &Descriptor) -> crate::oci::ImageManifest {
    let bytes = read_manifest(source, root).unwrap();
    match Manifest::parse(&bytes, &root.media_type).unwrap() {
        Manifest::Image(image) => *image,
        Manifest::Index(_) => panic!("an index"),
    }
}

/// Reads all that an image is made of, checking every digest.
fn check_closure(source: &dyn Source, root: &Descriptor) {
    let image = image(source, root);
    for part in std::iter::once(&image.config).chain(&image.layers) {
        let bytes = read_blob(source, &part.digest, part.size);
        assert!(part.digest.matches(&bytes), "{}", part.digest);
    }
}

const ONE: &[u8] = b"layer one";
const TWO: &[u8] = b"layer two, longer";

/// An archive as Docker 20 writes it, with a layer shared through a link.
fn old_style() -> Archive {
    let (a, a_bytes) = config(&[ONE, TWO], "a");
    let (b, b_bytes) = config(&[ONE], "b");
    Archive::new()
        .file("1111/layer.tar", ONE)
        .file("1111/VERSION", b"1.0")
        .file("2222/layer.tar", TWO)
        .link("3333/layer.tar", "../1111/layer.tar", tar::EntryType::Symlink)
        .file(&a, &a_bytes)
        .file(&b, &b_bytes)
        .file(
            "manifest.json",
            &list(&[
                (&a, &["app:v1", "registry.example/app:v1"], &["1111/layer.tar", "2222/layer.tar"]),
                (&b, &["tool:latest"], &["3333/layer.tar"]),
            ]),
        )
}

#[test]
fn an_image_without_a_manifest_is_given_the_same_one_each_time() {
    let archive = old_style().open().unwrap();
    let root = archive.resolve("app:v1").unwrap();
    assert!(archive.is_made(&root.digest));
    assert_eq!(root.media_type, OCI_MANIFEST);
    check_closure(&archive, &root);
    let image = image(&archive, &root);
    assert_eq!(image.config.media_type, OCI_CONFIG);
    let layers: Vec<_> =
        image.layers.iter().map(|l| (l.media_type.as_str(), l.digest.clone(), l.size)).collect();
    assert_eq!(
        layers,
        [
            (OCI_LAYER, Digest::sha256(ONE), ONE.len() as u64),
            (OCI_LAYER, Digest::sha256(TWO), TWO.len() as u64)
        ]
    );
    // Written down: a change of this digest would change what is already at registries.
    assert_eq!(
        root.digest.to_string(),
        "sha256:0a99bfc830a46b60840dd5c2584b48179aa3b5a6e7ecef13d423e47a1566ad44"
    );
    assert!(archive.attached(&root.digest).unwrap().is_empty());
    // Through the link.
    check_closure(&archive, &archive.resolve("tool").unwrap());
}

#[test]
fn selectors_are_tags_references_places_and_digests() {
    let archive = old_style().open().unwrap();
    let (a, b) = (archive.resolve("@0").unwrap(), archive.resolve("@1").unwrap());
    assert_ne!(a.digest, b.digest);
    for (selector, wanted) in [
        ("app:v1", &a),
        ("registry.example/app:v1", &a),
        ("docker.io/library/app:v1", &a),
        ("v1", &a),
        ("tool", &b),
        ("latest", &b),
        (&a.digest.to_string(), &a),
    ] {
        assert_eq!(archive.resolve(selector).unwrap(), *wanted, "{selector}");
    }
    for missing in ["@2", "app", "nothing:v1", &Digest::sha256(b"no").to_string()] {
        assert!(archive.resolve(missing).unwrap_err().is_not_found(), "{missing}");
    }
    assert!(message(archive.resolve("")).contains("2 different images"));
    let names: Vec<_> = archive.names().unwrap().into_iter().map(|n| n.name.unwrap()).collect();
    assert_eq!(names, ["app:v1", "registry.example/app:v1", "tool:latest"]);
}

#[test]
fn hard_links_and_images_without_tags_are_read() {
    let (name, bytes) = config(&[ONE, ONE], "x");
    let archive = Archive::new()
        .file(&name, &bytes)
        .file("a/layer.tar", ONE)
        .link("b/layer.tar", "a/layer.tar", tar::EntryType::Link)
        .file(
            "manifest.json",
            format!(r#"[{{"Config":"{name}","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}}]"#)
                .as_bytes(),
        )
        .open()
        .unwrap();
    let root = archive.resolve("").unwrap();
    check_closure(&archive, &root);
    let names = archive.names().unwrap();
    assert_eq!((names.len(), &names[0].name), (1, &None));
}

#[test]
fn what_does_not_fit_together_is_refused_and_named() {
    let (name, bytes) = config(&[ONE], "x");
    let base = || Archive::new().file(&name, &bytes).file("one.tar", ONE);
    let listing = |layers: &[&str]| list(&[(&name, &["app:v1"], layers)]);
    for (archive, reason) in [
        (base().file("manifest.json", &listing(&[])), "0 layers"),
        (base().file("manifest.json", &listing(&["one.tar", "one.tar"])), "2 layers"),
        (base().file("manifest.json", &listing(&["two.tar"])), "`two.tar` is missing"),
        (base().file("manifest.json", &listing(&["../one.tar"])), "`..` component"),
        (base().file("manifest.json", &listing(&["/one.tar"])), "absolute"),
        (
            base()
                .link("a", "b", tar::EntryType::Symlink)
                .link("b", "a", tar::EntryType::Symlink)
                .file("manifest.json", &listing(&["a"])),
            "circle",
        ),
        (
            base()
                .link("d/out", "../../../etc/passwd", tar::EntryType::Symlink)
                .file("manifest.json", &listing(&["d/out"])),
            "`d/out` is missing",
        ),
        (Archive::new().file("one.tar", ONE).file("manifest.json", &listing(&["one.tar"])), "configuration"),
        (
            Archive::new()
                .file(&name, b"{}")
                .file("one.tar", ONE)
                .file("manifest.json", &listing(&["one.tar"])),
            "hash to",
        ),
        (Archive::new().file("c", b"{}").file("manifest.json", &list(&[("c", &["app:v1"], &[])])), "rootfs"),
        (base().file("manifest.json", b"{"), "malformed"),
        (base().file("manifest.json", b"[{}]"), "malformed"),
        (base().file("manifest.json", b"[]").file("./manifest.json", b"[]"), "two files"),
        (base(), "`manifest.json` is missing"),
        (base().file("repositories", b"{}"), "older than 1.10"),
    ] {
        let text = message(archive.open());
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn links_are_followed_to_a_bound() {
    let chain = |links: usize| {
        let (name, bytes) = config(&[ONE], "x");
        let mut archive = Archive::new().file(&name, &bytes).file("0", ONE);
        for link in 1..=links {
            let target = (link - 1).to_string();
            archive = archive.link(&link.to_string(), &target, tar::EntryType::Symlink);
        }
        archive.file("manifest.json", &list(&[(&name, &["app:v1"], &[&links.to_string()])])).open()
    };
    assert!(chain(40).is_ok());
    assert!(message(chain(41)).contains("circle"));
}

#[test]
fn compressed_layers_have_the_digest_of_what_is_stored() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(ONE).unwrap();
    let gzip = encoder.finish().unwrap();
    let (name, bytes) = config(&[ONE, TWO], "x");
    let archive = Archive::new()
        .file("one", &gzip)
        .file("two", TWO)
        .file(&name, &bytes)
        .file("manifest.json", &list(&[(&name, &["app:v1"], &["one", "two"])]))
        .open()
        .unwrap();
    let root = archive.resolve("").unwrap();
    check_closure(&archive, &root);
    let layers = image(&archive, &root).layers;
    assert_eq!((layers[0].media_type.as_str(), &layers[0].digest), (OCI_LAYER_GZIP, &Digest::sha256(&gzip)));
    assert_eq!(layers[1].digest, Digest::sha256(TWO));
}

/// An archive that is a layout too, as Docker 25 and later write it.
fn new_style(name: &str, with_manifest: bool) -> (Archive, Descriptor) {
    let (_, config_bytes) = config(&[ONE], "x");
    let config_digest = Digest::sha256(&config_bytes);
    let layer = Digest::sha256(ONE);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": config_bytes.len()},
        "layers": [{"mediaType": OCI_LAYER, "digest": layer, "size": ONE.len()}],
        "annotations": {"kept": "yes"},
    })
    .to_string();
    let root = Descriptor::of(OCI_MANIFEST, manifest.as_bytes());
    let mut entry = serde_json::json!({
        "mediaType": OCI_MANIFEST, "digest": root.digest, "size": root.size,
    });
    if !name.is_empty() {
        entry["annotations"] = serde_json::json!({REF_NAME: "v1", CONTAINERD_NAME: name});
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let mut archive =
        Archive::new().file(&config_digest.blob_path(), &config_bytes).file(&layer.blob_path(), ONE);
    if with_manifest {
        archive = archive.file(&root.digest.blob_path(), manifest.as_bytes());
    }
    let archive = archive
        .file("index.json", index.as_bytes())
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("manifest.json", &list(&[(&config_digest.blob_path(), &["app:v1"], &[&layer.blob_path()])]));
    (archive, root)
}

#[test]
fn a_layout_inside_is_preferred_to_a_made_manifest() {
    let (archive, root) = new_style("docker.io/library/app:v1", true);
    let archive = archive.open().unwrap();
    for selector in ["app:v1", "docker.io/library/app:v1", "v1", "@0", ""] {
        assert_eq!(archive.resolve(selector).unwrap().digest, root.digest, "{selector}");
    }
    assert!(!archive.is_made(&root.digest));
    assert_eq!(archive.names().unwrap().len(), 1);
    check_closure(&archive, &root);
}

#[test]
fn a_layout_that_does_not_know_the_tag_knows_the_configuration() {
    let (archive, root) = new_style("", true);
    let archive = archive.open().unwrap();
    assert_eq!(archive.resolve("app:v1").unwrap().digest, root.digest);
    assert!(!archive.is_made(&root.digest));
}

#[test]
fn a_layout_without_the_manifest_is_no_help() {
    let (archive, root) = new_style("docker.io/library/app:v1", false);
    let archive = archive.open().unwrap();
    let made = archive.resolve("app:v1").unwrap();
    assert_ne!(made.digest, root.digest);
    assert!(archive.is_made(&made.digest));
    check_closure(&archive, &made);
}

#[test]
fn archives_of_skopeo_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let Ok(output) = Command::new(program).args(arguments).current_dir(folder.path()).output() else {
            // Not installed: nothing to compare with.
            return false;
        };
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        true
    };
    if !run("umoci", &["init", "--layout", "made"]) || !run("umoci", &["new", "--image", "made:tool"]) {
        return;
    }
    for file in ["one", "two"] {
        fs::write(folder.path().join(file), file.repeat(1000)).unwrap();
        run("umoci", &["insert", "--image", "made:tool", file, &format!("/{file}")]);
    }
    if !run("skopeo", &["copy", "-q", "oci:made:tool", "docker-archive:saved.tar:r.example/tool:v1"]) {
        return;
    }
    let archive = DockerArchive::open(&folder.path().join("saved.tar")).unwrap();
    let root = archive.resolve("r.example/tool:v1").unwrap();
    assert_eq!(image(&archive, &root).layers.len(), 2);
    check_closure(&archive, &root);

    // What was made is a layout that skopeo reads back to the same layers.
    let copy = folder.path().join("copy");
    let read = image(&archive, &root);
    fs::create_dir_all(copy.join("blobs/sha256")).unwrap();
    for part in std::iter::once(&read.config).chain(&read.layers) {
        fs::write(copy.join(part.digest.blob_path()), read_blob(&archive, &part.digest, part.size)).unwrap();
    }
    fs::write(copy.join(root.digest.blob_path()), archive.manifest(&root).unwrap()).unwrap();
    fs::write(copy.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": root.media_type, "digest": root.digest, "size": root.size,
        "annotations": {REF_NAME: "v1"},
    }]});
    fs::write(copy.join("index.json"), index.to_string()).unwrap();
    run("skopeo", &["copy", "-q", "oci:copy:v1", "oci:again:v1"]);
    let again = LayoutDirectory::open(&folder.path().join("again")).unwrap();
    let copied = again.resolve("v1").unwrap();
    assert_eq!(image(&again, &copied).config.digest, read.config.digest);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<usize>(), 1_u8..), 1..6)) {
        let mut bytes = old_style().bytes();
        let length = bytes.len();
        for (position, value) in flips {
            bytes[position % length] ^= value;
        }
        if let Ok(archive) = opened(&bytes) {
            for named in archive.names().unwrap() {
                let _ = archive.manifest(&named.descriptor);
            }
        }
    }
}
