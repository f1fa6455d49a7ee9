//! `barge push` and `barge mirror` through the program: real registries on both sides, and hostile ones.

mod bundles;
mod delta;
mod interrupted;
mod mirror;
mod naming;
mod order;
mod papers;
mod presence;
mod real;
mod referrers;
mod sparse;
mod uploads;

use std::path::PathBuf;

use barge::oci::Descriptor;
use tempfile::TempDir;

use crate::support::barge::{Outcome, barge};
use crate::support::client::Client;
use crate::support::hostile::Hostile;
use crate::support::images::{Blob, Content, layer};
use crate::support::peers::{blob_exists, get_manifest_bytes, push_content};

/// What the tests carry: an index for two platforms with everything that can be attached, and an image that shares a
/// layer with it.
struct Shop {
    content: Content,
    /// Layer of all images.
    shared: Blob,
    amd64: Descriptor,
    arm64: Descriptor,
    /// Index of both and of an attestation of the first.
    app: Descriptor,
    tool: Descriptor,
    /// Signatures by tag: of the index, and of its first child.
    signatures: [(String, Descriptor); 2],
    /// An artifact attached to the first child, and the fallback index that lists it.
    artifact: Descriptor,
    referrers: (String, Descriptor),
}

fn shop() -> Shop {
    let mut content = Content::new();
    let shared = layer(1, 3000);
    let amd64 = content.image("linux/amd64", &[shared.clone(), layer(2, 2000)]);
    let arm64 = content.image("linux/arm64", &[shared.clone(), layer(3, 1800)]);
    let attestation = content.attestation(&amd64);
    let app = content.index(&[amd64.clone(), arm64.clone(), attestation]);
    let tool = content.image("linux/amd64", &[shared.clone(), layer(4, 900)]);
    let signatures =
        [&app, &amd64].map(|subject| content.signature(&subject.digest, "registry.example/team/app"));
    let artifact = content.artifact(&amd64, "application/vnd.example.sbom", b"parts");
    let referrers = content.referrers_index(&amd64.digest, std::slice::from_ref(&artifact));
    Shop { content, shared, amd64, arm64, app, tool, signatures, artifact, referrers }
}

impl Shop {
    /// Fills a registry, real or not, with `team/app:v1` and `team/tool:v1`.
    fn fill(&self, host: &str) {
        push_content(host, "team/app", &self.content, &self.app, Some("v1"));
        push_content(host, "team/tool", &self.content, &self.tool, Some("v1"));
        for (tag, attached) in self.signatures.iter().chain([&self.referrers]) {
            push_content(host, "team/app", &self.content, attached, Some(tag));
        }
    }

    /// Packs both images and returns the bundle.
    fn pack(&self, more: &[&str]) -> Packed {
        let source = Hostile::honest();
        self.fill(source.host());
        let names = ["app", "tool"].map(|name| format!("{}/team/{name}:v1", source.host()));
        pack(&[&names[0], &names[1]], more)
    }
}

/// A bundle in a folder of its own.
struct Packed {
    folder: TempDir,
    path: PathBuf,
}

impl Packed {
    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Pushes it.
    fn push(&self, target: &str, more: &[&str]) -> Outcome {
        barge(["push", self.path(), target]).args(more).run()
    }
}

fn pack(names: &[&str], more: &[&str]) -> Packed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.oci.tar");
    barge(["pack", "-o", path.to_str().unwrap()]).args(names).args(more).run().success();
    Packed { folder, path }
}

/// Asserts that a repository gives everything of `root`, byte for byte.
#[track_caller]
fn assert_whole(host: &str, repository: &str, content: &Content, root: &Descriptor) {
    for descriptor in content.closure(root) {
        let digest = &descriptor.digest;
        if content.manifests.contains_key(digest) {
            let found = get_manifest_bytes(host, repository, &digest.to_string());
            assert_eq!(found.as_ref(), Some(&content.blobs[digest]), "{repository}@{digest}");
        } else {
            assert!(blob_exists(host, repository, digest), "{repository}@{digest}");
        }
    }
}

/// Asserts what a tag names.
#[track_caller]
fn assert_tag(host: &str, repository: &str, tag: &str, content: &Content, root: &Descriptor) {
    let found = Client::plain(host).manifest(repository, tag);
    assert_eq!(found.as_ref(), Some(&content.blobs[&root.digest]), "{repository}:{tag}");
}
