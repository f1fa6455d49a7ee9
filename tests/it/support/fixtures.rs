//! The fixtures of the repository, as the code that makes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use barge::oci::Descriptor;

use super::archives::layout_files;
use super::images::{Content, layer, layer_of};

/// The repository of the multi-architecture fixture.
pub const MULTIARCH_REPOSITORY: &str = "registry.example/demo/hello";

/// The platforms of the multi-architecture fixture.
pub const MULTIARCH_PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/arm/v7"];

/// Where the fixtures lie.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// An image for three platforms with an attestation for each, and a signature of its index: content, roots by name
/// (the index first).
pub fn multiarch() -> (Content, Vec<(String, Descriptor)>) {
    let mut content = Content::new();
    let base = layer_of(&[("etc/hello.conf", b"greeting = hello\n".repeat(64).as_slice())]);
    let mut children = Vec::new();
    for (seed, platform) in (1..).zip(MULTIARCH_PLATFORMS) {
        children.push(content.image(platform, &[base.clone(), layer(seed, 24 * 1024)]));
    }
    for at in 0..children.len() {
        let attestation = content.attestation(&children[at]);
        children.push(attestation);
    }
    let index = content.index(&children);
    let (tag, signature) = content.signature(&index.digest, MULTIARCH_REPOSITORY);
    let roots = vec![
        (format!("{MULTIARCH_REPOSITORY}:v1"), index),
        (format!("{MULTIARCH_REPOSITORY}:{tag}"), signature),
    ];
    (content, roots)
}

/// Every fixture file by its path under `fixtures/`.
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let (content, roots) = multiarch();
    let roots: Vec<(&str, Descriptor)> = roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    layout_files(&content, &roots)
        .into_iter()
        .map(|(name, bytes)| (format!("multiarch/{name}"), bytes))
        .collect()
}

/// What lies on disk in the folders that [`files`] makes; other fixtures are other tests' concern.
pub fn files_on_disk() -> BTreeMap<String, Vec<u8>> {
    let root = directory();
    walkdir::WalkDir::new(root.join("multiarch"))
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry.path().strip_prefix(&root).unwrap();
            (name.to_str().unwrap().to_owned(), fs::read(entry.path()).unwrap())
        })
        .collect()
}
