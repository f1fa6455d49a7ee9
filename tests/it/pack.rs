//! `barge pack`, run as people run it: what it writes is read back with a tar reader of its own and with real tools.

mod attachments;
mod gaps;
mod graph;
mod limits;
mod mirrors;
mod platforms;
mod readers;
mod resume;
mod same;
mod sources;
mod wanted;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use barge::bundle::Bundle;
use barge::bundle::record::{ImageEntry, Record};
use barge::bundle::table::Role;
use barge::oci::{Descriptor, Digest};
use barge::select::Reason;
use serde_json::Value;

use crate::support::barge::{Barge, barge};
use crate::support::images::Content;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Begins `barge pack -o OUTPUT`.
fn pack<S: AsRef<OsStr>>(output: &Path, args: impl IntoIterator<Item = S>) -> Barge {
    barge(["pack", "-o"]).arg(output).args(args)
}

/// The names of everything in a folder, sorted.
fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A finished archive, read entry by entry.
struct Packed {
    bundle: Bundle,
    entries: BTreeMap<String, Vec<u8>>,
}

impl Packed {
    /// Reads an archive that must be one without fault.
    #[track_caller]
    fn open(path: &Path) -> Self {
        let mut entries = BTreeMap::new();
        let mut tar = tar::Archive::new(std::fs::File::open(path).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(entries.insert(name.clone(), bytes).is_none(), "{name} stands in the archive twice");
        }
        let bundle = Bundle::open(path).unwrap();
        assert_eq!(bundle.fault(), None);
        assert!(bundle.record().is_some(), "{} has no record", path.display());
        Self { bundle, entries }
    }

    fn record(&self) -> &Record {
        self.bundle.record().unwrap()
    }

    #[track_caller]
    fn image(&self, name: &str) -> &ImageEntry {
        let found = self.record().images.iter().find(|image| image.name.to_string() == name);
        found.unwrap_or_else(|| panic!("no image {name} among {:?}", self.names()))
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&self.entries["index.json"]).unwrap()
    }

    /// The names in `index.json`, in its order; empty for an entry without one.
    fn names(&self) -> Vec<String> {
        let index = self.index();
        let name = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].clone();
        let names = index["manifests"].as_array().unwrap().iter().map(name);
        names.map(|name| name.as_str().unwrap_or_default().to_owned()).collect()
    }

    fn blob(&self, digest: &Digest) -> Option<&Vec<u8>> {
        self.entries.get(&digest.blob_path())
    }

    fn role(&self, digest: &Digest) -> Option<Role> {
        self.record().blobs.find(digest).map(|(_, row)| row.role)
    }

    fn absent(&self, digest: &Digest) -> Option<Reason> {
        self.record().absent.find(digest).map(|row| row.reason)
    }

    /// Asserts that everything that `content` has below `root` is here, byte for byte.
    #[track_caller]
    fn has_all(&self, content: &Content, root: &Descriptor) {
        for descriptor in content.closure(root) {
            let found = self.blob(&descriptor.digest);
            assert_eq!(found, Some(&content.blobs[&descriptor.digest]), "{}", descriptor.digest);
            assert!(self.role(&descriptor.digest).is_some_and(Role::is_shipped), "{}", descriptor.digest);
        }
    }

    /// Asserts that nothing below `root` is here, for `reason`, but for what is in `except`.
    #[track_caller]
    fn lacks_all(&self, content: &Content, root: &Descriptor, reason: Reason, except: &[&Digest]) {
        for descriptor in content.closure(root) {
            if !except.contains(&&descriptor.digest) {
                assert_eq!(self.blob(&descriptor.digest), None, "{}", descriptor.digest);
                assert_eq!(self.absent(&descriptor.digest), Some(reason), "{}", descriptor.digest);
            }
        }
    }
}
