//! Deltas inside layers, end to end: made from what this side has, rebuilt from what the target has, bit for bit.

mod damage;
mod making;
mod merging;
mod places;
mod repeated;
mod sharing;
mod sites;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use barge::bundle::Bundle;
use barge::bundle::record::Record;
use barge::oci::{Descriptor, Digest};

use crate::support::barge::{Barge, Outcome, barge};
use crate::support::client::Client;
use crate::support::images::{Blob, Content};
use crate::support::layers::{Encoder, assert_copied, edited, image_of, layer, tree};
use crate::support::peers::push_content;

/// The tag of all images: it moves from release to release.
const TAG: &str = "stable";

/// The layers of a release, from 1; each is that of the release before with a line more.
struct Layers {
    base: Blob,
    lib: Blob,
    app: Blob,
    data: Blob,
    conf: Blob,
    /// Of an image that shares nothing with the others.
    solo: Blob,
}

impl Layers {
    fn of(release: usize) -> Self {
        // Every release has its own file changed beside those of the releases before.
        let changed = |seed, count, each, last: bool| {
            let mut files = tree(seed, count, each);
            for one in 2..=release {
                let at = if last { count - 1 } else { (one * 3) % count };
                files = edited(&files, &[at], one as u64);
            }
            files
        };
        Self {
            base: layer(&changed(1, 24, 30_000, false), Encoder::Flate2(6)),
            lib: layer(&changed(2, 8, 30_000, false), Encoder::Gzip),
            app: layer(&changed(3, 10, 40_000, false), Encoder::Pigz),
            // The end of a tar is another frame block: the blocks before are as they were.
            data: layer(&changed(4, 12, 60_000, true), Encoder::Zstd),
            conf: layer(&changed(5, 6, 20_000, false), Encoder::Plain),
            solo: layer(&changed(6, 8, 20_000, false), Encoder::Flate2(9)),
        }
    }
}

/// What a vendor offers at a time.
struct Release {
    content: Content,
    /// Repositories and roots; all of one tag.
    images: Vec<(&'static str, Descriptor)>,
    layers: Layers,
}

impl Release {
    /// An app for two platforms, a tool on the same base, and an image of its own.
    fn of(number: usize) -> Self {
        let (mut content, layers) = (Content::new(), Layers::of(number));
        let Layers { base, lib, app, data, conf, solo } = &layers;
        let amd64 = image_of(&mut content, "linux/amd64", &[("base", base), ("lib", lib), ("app", app)]);
        let arm64 = image_of(&mut content, "linux/arm64", &[("base", base), ("app", app)]);
        let tool = image_of(&mut content, "linux/amd64", &[("base", base), ("data", data), ("conf", conf)]);
        let alone = image_of(&mut content, "linux/amd64", &[("solo", solo)]);
        let root = content.index(&[amd64, arm64]);
        let images = vec![("team/app", root), ("team/solo", alone), ("team/tool", tool)];
        Self { content, images, layers }
    }

    /// Fills a registry, real or not.
    fn fill(&self, host: &str) {
        for (repository, root) in &self.images {
            push_content(host, repository, &self.content, root, Some(TAG));
        }
    }

    /// The images as arguments.
    fn names(&self, host: &str) -> String {
        let names = self.images.iter().map(|(repository, _)| format!("{host}/{repository}:{TAG}"));
        names.collect::<Vec<_>>().join(" ")
    }

    fn root(&self, repository: &str) -> &Descriptor {
        &self.images.iter().find(|image| image.0 == repository).unwrap().1
    }

    /// Asserts that skopeo gets all of it from a registry, below `prefix` (empty, or with a slash at its end).
    #[track_caller]
    fn assert_copied(&self, host: &str, prefix: &str) {
        for (repository, _) in &self.images {
            self.assert_one_copied(host, prefix, repository);
        }
    }

    #[track_caller]
    fn assert_one_copied(&self, host: &str, prefix: &str, repository: &str) {
        let name = format!("{prefix}{repository}:{TAG}");
        assert_copied(host, &name, &self.content, self.root(repository));
    }

    /// Asserts that tags still name this release; blobs are not asked for.
    #[track_caller]
    fn assert_tagged(&self, host: &str, repositories: &[&str]) {
        for repository in repositories {
            let found = Client::plain(host).manifest(repository, TAG);
            assert!(
                found.as_ref() == Some(&self.content.blobs[&self.root(repository).digest]),
                "{repository}"
            );
        }
    }
}

/// Working files of one test.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("scratch")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn size(&self, name: &str) -> u64 {
        std::fs::metadata(self.path(name)).unwrap().len()
    }

    /// Begins a `barge` that runs here, with a folder for working files of this desk.
    fn barge(&self, line: &str) -> Barge {
        barge(line.split_whitespace()).dir(self.0.path()).env("TMPDIR", self.path("scratch"))
    }

    /// Runs it to the end, which is a good one.
    #[track_caller]
    fn run(&self, line: &str) -> Outcome {
        self.fails(line, 0)
    }

    /// Runs it to the end, which is this exit code; no working file stays behind.
    #[track_caller]
    fn fails(&self, line: &str, code: i32) -> Outcome {
        let outcome = self.barge(line).run().code(code);
        if code == 0 {
            assert_eq!(self.working_files(), Vec::<String>::new(), "{outcome}");
        }
        outcome
    }

    /// The names of what is in the folder for working files.
    fn working_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("scratch")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn record(&self, name: &str) -> Record {
        let bundle = Bundle::open(&self.path(name)).unwrap();
        assert_eq!(bundle.fault(), None);
        bundle.record().unwrap().clone()
    }

    /// What a bundle rebuilds.
    fn rebuilt(&self, name: &str) -> BTreeSet<Digest> {
        self.record(name).patches.iter().map(|row| row.target.clone()).collect()
    }
}

/// The digests of layers.
fn digests<'a>(layers: impl IntoIterator<Item = &'a Blob>) -> BTreeSet<Digest> {
    layers.into_iter().map(|layer| layer.digest.clone()).collect()
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}
