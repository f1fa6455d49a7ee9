//! What travels when the far side has something already: two sites that only files connect, deltas, merging.

mod bases;
mod compare;
mod corners;
mod each;
mod evolution;
mod interrupted;
mod lost;
mod merge;
mod sites;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barge::bundle::Bundle;
use barge::bundle::record::Record;
use barge::oci::{Descriptor, Digest};
use barge::select::Reason;
use serde_json::Value;

use crate::support::barge::{Barge, Outcome, barge};
use crate::support::client::Client;
use crate::support::images::{Blob, Content, layer};
use crate::support::peers::{blob_exists, get_manifest_bytes, push_content};

/// What a vendor offers in one month: named images, and what is attached to them by tag.
struct Month {
    content: Content,
    /// Repository, tag, root.
    images: Vec<(&'static str, &'static str, Descriptor)>,
    /// Repository, tag, root.
    attached: Vec<(&'static str, String, Descriptor)>,
}

/// The layer that all images share, so large that no bundle without it can be mistaken for one with it.
fn shared() -> Blob {
    layer(1, 40_000)
}

fn image(content: &mut Content, platform: &str, seeds: &[u64]) -> Descriptor {
    let own = seeds.iter().map(|seed| layer(*seed, 2000));
    content.image(platform, &std::iter::once(shared()).chain(own).collect::<Vec<_>>())
}

fn index(content: &mut Content, seeds: &[u64]) -> Descriptor {
    let children = ["linux/amd64", "linux/arm64"].map(|platform| image(content, platform, seeds));
    let attestation = content.attestation(&children[0]);
    content.index(&[children[0].clone(), children[1].clone(), attestation])
}

impl Month {
    /// January: an app for two platforms with a signature, and a tool.
    fn january() -> Self {
        let mut month = Self { content: Content::new(), images: Vec::new(), attached: Vec::new() };
        let app = index(&mut month.content, &[10, 11]);
        let tool = image(&mut month.content, "linux/amd64", &[20]);
        month.images = vec![("team/app", "v1", app), ("team/tool", "v1", tool)];
        month.sign(0);
        month
    }

    /// February: a second version of the app beside the first, another tool under the same tag, a new image of layers
    /// that the app has.
    fn february() -> Self {
        let mut month = Self::january();
        let app = index(&mut month.content, &[10, 12]);
        let tool = image(&mut month.content, "linux/amd64", &[20, 21]);
        let new = image(&mut month.content, "linux/amd64", &[10, 30]);
        month.images[1].2 = tool;
        month.images.push(("team/app", "v2", app));
        month.images.push(("team/new", "v1", new));
        month.sign(2);
        month
    }

    /// March: the first app and the tool are gone, the second app is as it was, the new image is another, and there is a
    /// third app.
    fn march() -> Self {
        let mut month = Self::february();
        let app = index(&mut month.content, &[10, 12, 13]);
        let new = image(&mut month.content, "linux/amd64", &[20, 30, 31]);
        month.images.retain(|(repository, tag, _)| (*repository, *tag) == ("team/app", "v2"));
        month.attached.remove(0);
        month.images.push(("team/app", "v3", app));
        month.images.push(("team/new", "v1", new));
        month
    }

    fn sign(&mut self, at: usize) {
        let (repository, _, root) = self.images[at].clone();
        let (tag, signature) = self.content.signature(&root.digest, repository);
        self.attached.push((repository, tag, signature));
    }

    /// Fills a registry, real or not.
    fn fill(&self, host: &str) {
        for (repository, tag, root) in &self.images {
            push_content(host, repository, &self.content, root, Some(tag));
        }
        for (repository, tag, root) in &self.attached {
            push_content(host, repository, &self.content, root, Some(tag));
        }
    }

    /// The images as arguments of `pack`.
    fn names(&self, host: &str) -> Vec<String> {
        let names = self.images.iter();
        names.map(|(repository, tag, _)| format!("{host}/{repository}:{tag}")).collect()
    }

    fn image(&self, repository: &str, tag: &str) -> &Descriptor {
        let found = self.images.iter().find(|image| (image.0, image.1) == (repository, tag));
        &found.unwrap().2
    }

    /// Asserts that a target gives all of it below `prefix` (empty, or with a slash at its end), byte for byte.
    #[track_caller]
    fn assert_at(&self, host: &str, prefix: &str) {
        let images = self.images.iter().map(|(repository, tag, root)| (*repository, *tag, root));
        let attached = self.attached.iter().map(|(repository, tag, root)| (*repository, tag.as_str(), root));
        for (repository, tag, root) in images.chain(attached) {
            assert_image(host, &format!("{prefix}{repository}"), tag, &self.content, root);
        }
    }

    /// Writes it as a bundle, by way of a registry at `host` that has it.
    fn pack(&self, host: &str, path: &Path) -> Outcome {
        barge(["pack", "-o"]).arg(path).args(self.names(host)).run().success()
    }
}

/// Asserts what a tag names, and that everything below it is there, byte for byte.
#[track_caller]
fn assert_image(host: &str, repository: &str, tag: &str, content: &Content, root: &Descriptor) {
    let found = Client::plain(host).manifest(repository, tag);
    assert_eq!(found.as_ref(), Some(&content.blobs[&root.digest]), "{repository}:{tag}");
    for descriptor in content.closure(root) {
        let digest = &descriptor.digest;
        if content.manifests.contains_key(digest) {
            let found = get_manifest_bytes(host, repository, &digest.to_string());
            assert_eq!(found.as_ref(), Some(&content.blobs[digest]), "{repository}@{digest}");
        } else {
            assert!(blob_exists(host, repository, digest), "{repository}@{digest} of {tag}");
        }
    }
}

/// Working files of one test.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    /// Begins a `barge` that runs here: files are named without their folder.
    fn barge<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Barge {
        barge(args).dir(self.0.path())
    }

    /// Runs it to the end, which is a good one. Words are split at blanks.
    #[track_caller]
    fn run(&self, line: &str) -> Outcome {
        self.fails(line, 0)
    }

    /// Runs it to the end, which is this exit code.
    #[track_caller]
    fn fails(&self, line: &str, code: i32) -> Outcome {
        self.barge(line.split_whitespace()).run().code(code)
    }

    fn record(&self, name: &str) -> Record {
        let bundle = Bundle::open(&self.path(name)).unwrap();
        assert_eq!(bundle.fault(), None);
        bundle.record().unwrap().clone()
    }

    fn id(&self, name: &str) -> Digest {
        Bundle::open(&self.path(name)).unwrap().id().unwrap().clone()
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// What a bundle relies on, by digest.
fn relied(record: &Record) -> BTreeSet<Digest> {
    let rows = record.absent.iter().filter(|row| row.reason == Reason::Base);
    rows.map(|row| row.digest.clone()).collect()
}

/// The blobs that are no manifests and that are in `wanted` and not in `had`.
fn lacking(wanted: &Month, had: &Month) -> BTreeSet<Digest> {
    blobs(wanted).difference(&blobs(had)).cloned().collect()
}

/// The configs and layers of everything that a month offers.
fn blobs(month: &Month) -> BTreeSet<Digest> {
    let roots = month.images.iter().map(|image| &image.2).chain(month.attached.iter().map(|image| &image.2));
    let all = roots.flat_map(|root| month.content.closure(root)).map(|descriptor| descriptor.digest);
    all.filter(|digest| !month.content.manifests.contains_key(digest)).collect()
}

/// The configs and layers that a bundle brings, as they are or as patches.
fn brought(record: &Record) -> BTreeSet<Digest> {
    let rows = record.blobs.iter().filter(|row| row.role.is_shipped());
    let blobs = rows.filter(|row| !barge::oci::media_type::is_manifest(row.media_type));
    let patched = record.patches.iter().map(|row| row.target.clone());
    blobs.map(|row| row.digest.clone()).chain(patched).collect()
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}
