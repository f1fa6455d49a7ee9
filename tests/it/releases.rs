//! Release payloads: which images they consist of, and the signatures that travel with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barge::oci::{Descriptor, Digest, Reference};
use barge::release::{self, RELEASE_SIGNATURE, RELEASE_SIGNATURE_CONTENT, Release, ReleaseError};
use barge::store::made::Made;
use barge::store::registry::{Access, Client, Options};
use barge::store::{Source, read_manifest};
use serde_json::{Value, json};

use crate::support::images::{Blob, Content, config, layer_of};
use crate::support::peers::{RealRegistry, command, run};

fn digest(seed: &str) -> Digest {
    Digest::sha256(seed.as_bytes())
}

/// A list of components.
fn references(components: &[(&str, &str)]) -> Value {
    let tags: Vec<Value> = components
        .iter()
        .map(|(name, from)| json!({ "name": name, "from": { "kind": "DockerImage", "name": from }, "annotations": { "x": "y" } }))
        .collect();
    json!({ "kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": { "name": "4.18.1" }, "spec": { "tags": tags } })
}

/// Adds a release image of three layers, the list replaced in the last but one.
fn release_image(
    content: &mut Content,
    platform: &str,
    list: Option<&Value>,
    label: Option<&str>,
) -> Descriptor {
    let text = list.map(|list| serde_json::to_vec_pretty(list).unwrap());
    let mut layers = vec![layer_of(&[("release-manifests/image-references", b"{}"), ("bin/cvo", b"x")])];
    match &text {
        Some(text) => layers.push(layer_of(&[("release-manifests/image-references", text)])),
        None => layers.push(layer_of(&[("release-manifests/.wh.image-references", b"")])),
    }
    layers.push(layer_of(&[("release-manifests/0000_50_a.yaml", b"kind: A\n")]));
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let mut document: Value = serde_json::from_slice(&config(platform, &diff_ids).bytes).unwrap();
    if let Some(label) = label {
        document["config"]["Labels"] = json!({ "io.openshift.release": label });
    }
    let config =
        Blob::new("application/vnd.oci.image.config.v1+json", serde_json::to_vec(&document).unwrap());
    let part = |descriptor: &Descriptor| json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size });
    let layers: Vec<Value> = layers.iter().map(|layer| part(&content.blob(layer))).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part(&content.blob(&config)), "layers": layers,
    });
    let mut descriptor = content.manifest("application/vnd.oci.image.manifest.v1+json", &manifest);
    descriptor.platform = Some(platform.parse().unwrap());
    descriptor
}

/// The content as a source.
fn source(content: &Content) -> Arc<dyn Source> {
    let mut made = Made::new("registry.example/release");
    for (digest, bytes) in &content.blobs {
        match content.manifests.get(digest) {
            Some(media_type) => made.add_manifest(media_type, bytes.clone()),
            None => made.add_blob("application/octet-stream", bytes.clone()),
        };
    }
    Arc::new(made)
}

fn open(
    content: &Content,
    root: &Descriptor,
    name: &str,
    signatures: &[PathBuf],
) -> Result<Release, ReleaseError> {
    release::open(source(content), root, &name.parse().unwrap(), signatures, None)
}

/// The error's whole text.
fn refused(result: Result<Release, ReleaseError>) -> String {
    barge::store::chain(&result.unwrap_err())
}

const NAME: &str = "registry.example/ocp/release:4.18.1-x86_64";

fn good() -> Value {
    references(&[
        ("etcd", &format!("registry.example/ocp/art@{}", digest("etcd"))),
        ("cli", &format!("other.example/ocp/art@{}", digest("cli"))),
    ])
}

#[test]
fn a_release_in_a_registry_names_its_components_and_their_names_after_it() {
    let registry = RealRegistry::start();
    let mut content = Content::new();
    let root = release_image(&mut content, "linux/amd64", Some(&good()), None);
    registry.push("ocp/release", &content, &root, Some("4.18.1-x86_64"));
    let name: Reference = format!("{}/ocp/release:4.18.1-x86_64", registry.host()).parse().unwrap();
    let client = Client::new(Options::default()).unwrap();
    let source: Arc<dyn Source> = Arc::new(client.repository(&name.name, Access::Pull));
    let root = source.resolve("4.18.1-x86_64").unwrap();
    let release = release::open(source, &root, &name, &[], None).unwrap();
    let host = registry.host();
    assert_eq!(release.name.to_string(), format!("{host}/openshift/release-images:4.18.1-x86_64"));
    let components: Vec<(String, String, String)> = release
        .components
        .iter()
        .map(|one| (one.part.clone(), one.reference.to_string(), one.name.to_string()))
        .collect();
    assert_eq!(
        components,
        [
            (
                "cli".to_owned(),
                format!("other.example/ocp/art@{}", digest("cli")),
                format!("{host}/openshift/release:4.18.1-x86_64-cli")
            ),
            (
                "etcd".to_owned(),
                format!("registry.example/ocp/art@{}", digest("etcd")),
                format!("{host}/openshift/release:4.18.1-x86_64-etcd")
            ),
        ]
    );
    assert!(release.warnings.is_empty());
    assert_eq!(
        release.source.resolve("4.18.1-x86_64").unwrap().digest,
        root.digest,
        "all else comes from below"
    );
}

#[test]
fn the_version_is_that_of_the_tag_else_of_the_label_else_of_the_list() {
    for (architecture, label, name, tag) in [
        ("amd64", Some("4.18.9"), "r.example/x:mine".to_owned(), "mine"),
        ("amd64", Some("4.18.9"), format!("r.example/x@{}", digest("a")), "4.18.9-x86_64"),
        ("arm64", Some("4.18.9"), format!("r.example/x@{}", digest("a")), "4.18.9-aarch64"),
        ("s390x", None, format!("r.example/x@{}", digest("a")), "4.18.1-s390x"),
        ("amd64", None, format!("r.example/x:4.1@{}", digest("a")), "4.1"),
    ] {
        let mut content = Content::new();
        let root = release_image(&mut content, &format!("linux/{architecture}"), Some(&good()), label);
        let release = open(&content, &root, &name, &[]).unwrap();
        assert_eq!(release.tag, tag);
        assert_eq!(release.components[0].name.to_string(), format!("r.example/openshift/release:{tag}-cli"));
    }
    let mut content = Content::new();
    let mut list = good();
    list["metadata"] = json!({});
    let root = release_image(&mut content, "linux/amd64", Some(&list), None);
    let error = refused(open(&content, &root, &format!("r.example/x@{}", digest("a")), &[]));
    assert!(error.contains("nothing tells the version of release image r.example/x@sha256:"), "{error}");
}

#[test]
fn a_release_of_several_architectures_is_read_from_one_and_that_is_said() {
    let mut content = Content::new();
    let children = ["linux/arm64", "linux/amd64"]
        .map(|platform| release_image(&mut content, platform, Some(&good()), None));
    let root = content.index(&children);
    let release = open(&content, &root, NAME, &[]).unwrap();
    assert_eq!((release.components.len(), release.warnings.len()), (2, 1));
    assert!(release.warnings[0].contains("of 2 architectures; its components were read from that of arm64"));
}

#[test]
fn what_is_no_release_is_refused_by_name() {
    let no_digest = references(&[("etcd", "registry.example/ocp/art:4.18")]);
    let twice = references(&[
        ("etcd", &format!("r.example/a@{}", digest("a"))),
        ("etcd", &format!("r.example/b@{}", digest("b"))),
    ]);
    let strange = references(&[("etcd", "two words")]);
    let unnamed = references(&[("no tag", &format!("r.example/a@{}", digest("a")))]);
    let inner = json!({ "kind": "ImageStream", "spec": { "tags": [{ "name": "etcd" }] } });
    for (list, why) in [
        (None, "is no release image: it has no file `release-manifests/image-references`"),
        (Some(&no_digest), "names its component `etcd` as `registry.example/ocp/art:4.18`, without a digest"),
        (Some(&twice), "its component `etcd` is there twice"),
        (Some(&strange), "its component `etcd` is `two words`"),
        (Some(&unnamed), "its component `no tag` can't be named"),
        (Some(&inner), "its component `etcd` names no image"),
        (Some(&references(&[])), "it names no component"),
        (Some(&json!({ "kind": "List", "spec": {} })), "it is a `List`, no `ImageStream`"),
        (Some(&json!(7)), "can't be used: "),
    ] {
        let mut content = Content::new();
        let root = release_image(&mut content, "linux/amd64", list, None);
        let error = refused(open(&content, &root, NAME, &[]));
        assert!(error.contains(why) && error.contains(NAME), "{error}");
    }
}

/// A key of `gpg`, and what it signs.
pub struct Signer(tempfile::TempDir);

impl Signer {
    pub fn new() -> Self {
        let signer = Self(tempfile::tempdir().unwrap());
        let batch = ["--quick-generate-key", "tester@registry.example", "ed25519", "sign", "never"];
        signer.gpg(&["--passphrase", ""], &batch);
        signer
    }

    fn gpg(&self, options: &[&str], args: &[&str]) {
        run(command("gpg")
            .arg("--homedir")
            .arg(self.0.path())
            .args(["--batch", "--quiet", "--yes"])
            .args(options)
            .args(args));
    }

    /// Writes a signature that says it is about an image.
    pub fn sign(&self, about: &Digest, file: &str, options: &[&str]) -> PathBuf {
        let payload = json!({
            "critical": {
                "type": "atomic container signature",
                "image": { "docker-manifest-digest": about },
                "identity": { "docker-reference": NAME },
            },
            "optional": { "creator": "tester" },
        });
        let path = |name: &str| self.0.path().join(name);
        fs::write(path("payload.json"), payload.to_string()).unwrap();
        let (out, from) = (path(file), path("payload.json"));
        self.gpg(options, &["--output", out.to_str().unwrap(), "--sign", from.to_str().unwrap()]);
        out
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // The agent that gpg started for this folder.
        let _ = command("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).output();
    }
}

/// What is attached to a release: the manifest as JSON, and its layer.
fn artifact(release: &Release, root: &Descriptor) -> Vec<(Value, Vec<u8>)> {
    let attached = release.source.attached(&root.digest).unwrap();
    attached
        .iter()
        .map(|attached| {
            assert_eq!(attached.tag, None);
            let bytes = read_manifest(&*release.source, &attached.descriptor).unwrap();
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            let layer: Digest = document["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
            (document, release.source.bytes(&layer).unwrap().to_vec())
        })
        .collect()
}

#[test]
fn s_1_s_2_a_signature_of_gnupg_travels_byte_for_byte_attached_to_the_release() {
    let mut content = Content::new();
    let child = release_image(&mut content, "linux/amd64", Some(&good()), None);
    let root = content.index(&[child]);
    let signer = Signer::new();
    let files = [
        signer.sign(&root.digest, "zip", &[]),
        signer.sign(&root.digest, "plain", &["-z", "0"]),
        signer.sign(&root.digest, "zlib", &["--compress-algo", "zlib"]),
        signer.sign(&root.digest, "armoured", &["--armor"]),
    ];
    let release = open(&content, &root, NAME, &files).unwrap();
    assert_eq!(release.signatures, 4);
    let artifacts = artifact(&release, &root);
    assert_eq!(artifacts.len(), 4);
    for ((document, bytes), file) in artifacts.iter().zip(&files) {
        assert_eq!(document["artifactType"], RELEASE_SIGNATURE);
        assert_eq!(document["layers"][0]["mediaType"], RELEASE_SIGNATURE_CONTENT);
        assert_eq!(document["subject"]["digest"], json!(root.digest));
        assert_eq!(document["subject"]["size"], json!(root.size));
        assert_eq!(*bytes, fs::read(file).unwrap());
    }
    let mut read = release::signatures(&*release.source, &root.digest).unwrap();
    let mut expected: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
    // The same again is the same artifact.
    let again = open(&content, &root, NAME, &files).unwrap();
    assert_eq!(again.source.attached(&root.digest).unwrap(), release.source.attached(&root.digest).unwrap());
}

#[test]
fn s_3_a_signature_of_another_release_is_refused_with_both_digests() {
    let mut content = Content::new();
    let root = release_image(&mut content, "linux/amd64", Some(&good()), None);
    let signer = Signer::new();
    let file = signer.sign(&digest("other"), "other", &[]);
    let error = refused(open(&content, &root, NAME, std::slice::from_ref(&file)));
    let expected = format!(
        "{} is a signature of {}, and release image {NAME} is {}",
        file.display(),
        digest("other"),
        root.digest
    );
    assert_eq!(error, expected);
    let path = |name: &str, bytes: &[u8]| {
        let path = signer.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    for (file, why) in [
        (path("text", b"hello"), "is no release signature: it is no OpenPGP message"),
        (path("large", &vec![b'x'; 1024 * 1024 + 1]), "more than the 1048576 bytes"),
        (PathBuf::from("/nowhere/signature"), "/nowhere/signature can't be read"),
    ] {
        let error = refused(open(&content, &root, NAME, &[file]));
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn s_4_what_else_is_attached_is_passed_over() {
    let mut content = Content::new();
    let root = release_image(&mut content, "linux/amd64", Some(&good()), None);
    let mut made = Made::over(source(&content));
    let signer = Signer::new();
    let file = signer.sign(&root.digest, "good", &[]);
    let attach = |made: &mut Made, artifact_type: &str, layers: usize| {
        let layer = made.add_blob("text/plain", b"text".to_vec());
        let layer = json!({ "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size });
        let document = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": artifact_type,
            "config": layer, "layers": vec![layer.clone(); layers], "subject": layer,
        });
        let bytes = serde_json::to_vec(&document).unwrap();
        let manifest = made.add_manifest("application/vnd.oci.image.manifest.v1+json", bytes);
        made.attach(&root.digest, manifest);
    };
    attach(&mut made, "application/vnd.example.sbom", 1);
    attach(&mut made, RELEASE_SIGNATURE, 2);
    let release =
        release::open(Arc::new(made), &root, &NAME.parse().unwrap(), std::slice::from_ref(&file), None)
            .unwrap();
    assert_eq!(release.source.attached(&root.digest).unwrap().len(), 3);
    assert_eq!(release::signatures(&*release.source, &root.digest).unwrap(), [read(&file)]);
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
