//! `barge resources` through the program: what it writes, byte for byte, and what real programs make of it.

mod engines;
mod golden;
mod inputs;
mod receipts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barge::bundle::{Bundle, Record};
use barge::graph::Part;
use barge::graph::survey::Wish;
use barge::oci::Descriptor;
use barge::oci::media_type::RELEASE_SIGNATURE;
use barge::pack::{Options, Output, Prepared};
use barge::select::{Attachments, Wanted};
use barge::store::Source;
use barge::store::layout::LayoutDirectory;
use barge::transfer::Silent;
use tempfile::TempDir;

use crate::support::archives::write_layout;
use crate::support::barge::{Outcome, barge};
use crate::support::images::{Content, layer};

/// Images to pack: what each is called, what it was pulled by, and what it is.
#[derive(Default)]
struct Cargo {
    content: Content,
    images: Vec<(String, Option<String>, Part, Descriptor)>,
    attached: Vec<Descriptor>,
}

impl Cargo {
    /// Adds a small image, the same for the same seed; `@` at the end of a name or reference stands for its digest.
    fn image(&mut self, part: Part, name: &str, reference: &str, seed: u64) -> Descriptor {
        let root = self.content.image("linux/amd64", &[layer(seed, 300)]);
        self.add(part, name, reference, &root);
        root
    }

    fn add(&mut self, part: Part, name: &str, reference: &str, root: &Descriptor) {
        let full = |text: &str| match text.strip_suffix('@') {
            Some(text) => format!("{text}@{}", root.digest),
            None => text.to_owned(),
        };
        let reference = (!reference.is_empty()).then(|| full(reference));
        self.images.push((full(name), reference, part, root.clone()));
    }

    /// Attaches a release signature.
    fn sign(&mut self, release: &Descriptor, signature: &[u8]) {
        let artifact = self.content.artifact(release, RELEASE_SIGNATURE, signature);
        self.attached.push(artifact);
    }

    /// Packs everything and returns the bundle; its record lies beside it.
    fn pack(&self, path: &Path) -> PathBuf {
        let temp = tempfile::tempdir().unwrap();
        let mut roots: Vec<(&str, Descriptor)> =
            self.images.iter().map(|(name, _, _, root)| (name.as_str(), root.clone())).collect();
        roots.extend(self.attached.iter().map(|descriptor| ("", descriptor.clone())));
        write_layout(temp.path(), &self.content, &roots);
        let source: Arc<dyn Source> = Arc::new(LayoutDirectory::open(temp.path()).unwrap());
        let wishes: Vec<Wish> = self
            .images
            .iter()
            .map(|(name, reference, part, root)| Wish {
                name: name.parse().unwrap(),
                reference: reference.as_ref().map(|reference| reference.parse().unwrap()),
                source: 0,
                selector: root.digest.to_string(),
                platforms: Vec::new(),
                part: *part,
            })
            .collect();
        let options = Options {
            wanted: Wanted { platforms: Vec::new(), foreign_layers: false },
            strict_platforms: false,
            attachments: Attachments::All,
            keep_going: false,
            jobs: 2,
            max_size: None,
            restart: false,
            output: Output::Archive(path.to_owned()),
        };
        let prepared =
            Prepared::new(vec![source], &wishes, options).unwrap_or_else(|error| panic!("{error}"));
        prepared.write(&Silent).unwrap_or_else(|error| panic!("{error}"));
        path.to_owned()
    }
}

/// A folder of the test's own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs `barge resources` into the folder `out`.
    fn resources(&self, args: &[&str]) -> Outcome {
        barge(["resources", "-o", "out"]).args(args).dir(self.0.path()).run()
    }

    /// All files of a folder.
    fn files(&self, folder: &str) -> BTreeMap<String, String> {
        files_in(&self.path(folder))
    }
}

fn files_in(folder: &Path) -> BTreeMap<String, String> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

/// Writes the record of a bundle with other images in it.
fn sidecar(bundle: &Path, path: &Path, change: impl FnOnce(&mut Record)) {
    let bundle = Bundle::open(bundle).unwrap();
    let mut record = bundle.record().unwrap().clone();
    change(&mut record);
    record.write(std::fs::File::create(path).unwrap()).unwrap();
}
