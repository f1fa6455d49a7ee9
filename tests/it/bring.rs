//! What users bring: files of each kind, packed from one registry and pushed to another, where just what they ask for is.

mod catalogs;
mod charts;
mod each;
mod files;
mod parts;
mod planned;
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barge::oci::{Descriptor, Digest};
use tempfile::TempDir;

use crate::support::barge::{Barge, barge};
use crate::support::images::{Content, layer};
use crate::support::peers::RealRegistry;

/// Everything that a registry holds under a name: `REPOSITORY:TAG` to the digest of the root.
pub fn everything(registry: &RealRegistry) -> BTreeMap<String, Digest> {
    let client = registry.client();
    let catalogue = client.request("GET", "/v2/_catalog?n=1000", &[], None).json();
    let mut found = BTreeMap::new();
    for repository in catalogue["repositories"].as_array().unwrap() {
        let repository = repository.as_str().unwrap();
        for tag in client.tags(repository) {
            let bytes = client.manifest(repository, &tag).unwrap();
            found.insert(format!("{repository}:{tag}"), Digest::sha256(&bytes));
        }
    }
    found
}

/// Two registries and a folder, with images at the first of them.
pub struct Scene {
    pub a: RealRegistry,
    pub b: RealRegistry,
    pub temp: TempDir,
    pub content: Content,
    /// The children of the index `app:v1`: linux/amd64 and linux/arm64.
    pub children: Vec<Descriptor>,
    pub index: Descriptor,
    /// Of `tool`, by tag.
    pub tools: BTreeMap<&'static str, Descriptor>,
}

impl Scene {
    pub fn new() -> Self {
        let (a, b, temp) = (RealRegistry::start(), RealRegistry::start(), tempfile::tempdir().unwrap());
        let mut content = Content::new();
        let children: Vec<Descriptor> = ["linux/amd64", "linux/arm64"]
            .iter()
            .zip(1..)
            .map(|(platform, seed)| content.image(platform, &[layer(seed, 900)]))
            .collect();
        let index = content.index(&children);
        a.push("team/app", &content, &index, Some("v1"));
        let mut tools = BTreeMap::new();
        for (tag, seed) in ["v1.0.0", "v1.1.0", "v2.0.0-rc.1", "v2.0.0", "nightly"].into_iter().zip(10..) {
            let tool = content.image("linux/amd64", &[layer(seed, 700)]);
            a.push("team/tool", &content, &tool, Some(tag));
            tools.insert(tag, tool);
        }
        Self { a, b, temp, content, children, index, tools }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Writes a file, `A` being the first registry's host.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text.replace("{A}", self.a.host())).unwrap();
        path
    }

    /// Begins a command in the folder.
    pub fn barge(&self, args: &[&str]) -> Barge {
        barge(args).dir(self.temp.path())
    }

    /// Packs what a file asks for and pushes that to the second registry; returns what is there then.
    #[track_caller]
    pub fn carried(&self, text: &str, push: &[&str]) -> BTreeMap<String, Digest> {
        self.file("wanted", text);
        self.barge(&["pack", "-f", "wanted", "-o", "site.oci.tar"]).run().success();
        self.barge(&["push", "site.oci.tar", self.b.host()]).args(push).run().success();
        std::fs::remove_file(self.path("site.oci.tar")).unwrap();
        everything(&self.b)
    }
}

/// Returns names with what they are to mean.
pub fn expected(names: &[(&str, &Descriptor)]) -> BTreeMap<String, Digest> {
    names.iter().map(|(name, root)| ((*name).to_owned(), root.digest.clone())).collect()
}

/// Returns the names of the files of a folder, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
