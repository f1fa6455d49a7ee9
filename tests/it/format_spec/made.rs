//! Bundles made through the library, from layouts in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barge::bundle::record::RECORD_PATH;
use barge::graph::Part;
use barge::graph::survey::Wish;
use barge::oci::{Descriptor, Digest};
use barge::pack::{Options, Outcome, Output, PackError, Prepared};
use barge::select::{Attachments, Wanted};
use barge::store::Source;
use barge::store::layout::LayoutDirectory;
use barge::transfer::Silent;
use serde_json::Value;

use super::walk::{Entry, walk};
use crate::support::archives::write_layout;
use crate::support::images::{Blob, Content, plain_layer};

/// The repository of the golden image that has an index.
pub const WEB: &str = "registry.example/site/web";
/// The repository of the golden image that has none.
pub const WORKER: &str = "registry.example/site/worker";
/// The type of layers that may not be redistributed.
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// A source and what is asked of it.
pub struct Site {
    pub content: Content,
    /// Names and roots, attachments by tag among them.
    pub roots: Vec<(String, Descriptor)>,
    /// The names that are packed as images.
    pub images: Vec<String>,
    pub platforms: Vec<&'static str>,
    /// The layer that only the second image has.
    pub own_layer: Digest,
}

/// The site of the golden files. The layers are plain tar, so no compressor has a part in their bytes.
///
/// - `web:v1`: an index of linux/amd64 (selected), linux/arm64 (not selected) and linux/s390x (listed, and not there),
///   with a signature of the index by tag and an SBOM of the amd64 image as a referrer.
/// - `worker:v1`: an image without an index, of `web`'s base layer, one of its own and a non-distributable one.
pub fn site() -> Site {
    let mut content = Content::new();
    let base = plain_layer(1, 3000);
    let amd64 = content.image("linux/amd64", &[base.clone(), plain_layer(2, 2000)]);
    let arm64 = content.image("linux/arm64", &[plain_layer(3, 3000), plain_layer(4, 2000)]);
    let s390x = Content::new().image("linux/s390x", &[plain_layer(5, 1000)]);
    let web = content.index(&[amd64.clone(), arm64, s390x]);
    let (tag, signature) = content.signature(&web.digest, WEB);
    let sbom = content.artifact(&amd64, "application/spdx+json", br#"{"spdxVersion":"SPDX-2.3"}"#);
    let own = plain_layer(6, 2500);
    let worker = content.image("linux/amd64", &[base, own.clone(), plain_layer(7, 4000).typed(FOREIGN)]);
    let roots = vec![
        (format!("{WORKER}:v1"), worker),
        (format!("{WEB}:v1"), web),
        (format!("{WEB}:{tag}"), signature),
        (String::new(), sbom),
    ];
    Site {
        content,
        roots,
        images: vec![format!("{WORKER}:v1"), format!("{WEB}:v1")],
        platforms: vec!["linux/amd64"],
        own_layer: own.digest,
    }
}

/// The golden site without the layer that only `worker:v1` has.
pub fn site_that_lacks_a_layer() -> Site {
    let mut site = site();
    site.content.blobs.remove(&site.own_layer);
    site
}

/// A site of one image for linux/amd64 with this layer.
pub fn one_image(layer: &Blob) -> Site {
    let mut content = Content::new();
    let image = content.image("linux/amd64", std::slice::from_ref(layer));
    Site {
        content,
        roots: vec![("registry.example/one:v1".to_owned(), image)],
        images: vec!["registry.example/one:v1".to_owned()],
        platforms: Vec::new(),
        own_layer: layer.digest.clone(),
    }
}

/// How a site is packed.
#[derive(Clone, Copy)]
pub struct How {
    pub jobs: usize,
    pub keep_going: bool,
    pub reversed: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { jobs: 2, keep_going: false, reversed: false }
    }
}

/// Packs a site to `output`.
pub fn pack(site: &Site, how: How, output: Output) -> Result<Outcome, Box<PackError>> {
    let temp = tempfile::tempdir().unwrap();
    let roots: Vec<(&str, Descriptor)> = site.roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    write_layout(temp.path(), &site.content, &roots);
    let source: Arc<dyn Source> = Arc::new(LayoutDirectory::open(temp.path()).unwrap());
    let mut names = site.images.clone();
    if how.reversed {
        names.reverse();
    }
    pack_from(source, &names, &site.platforms, how, output)
}

/// Packs images of any source.
pub fn pack_from(
    source: Arc<dyn Source>,
    names: &[String],
    platforms: &[&str],
    how: How,
    output: Output,
) -> Result<Outcome, Box<PackError>> {
    let options = options(platforms, how, output);
    let prepared = Prepared::new(vec![source], &wishes(names), options).map_err(Box::new)?;
    prepared.write(&Silent).map_err(Box::new)
}

/// Asks for images by their names in the first source.
pub fn wishes(names: &[String]) -> Vec<Wish> {
    let wish = |name: &String| Wish {
        name: name.parse().unwrap(),
        reference: None,
        source: 0,
        selector: name.clone(),
        platforms: Vec::new(),
        part: Part::Image,
    };
    names.iter().map(wish).collect()
}

/// The options of a pack.
pub fn options(platforms: &[&str], how: How, output: Output) -> Options {
    Options {
        wanted: Wanted {
            platforms: platforms.iter().map(|text| text.parse().unwrap()).collect(),
            foreign_layers: false,
        },
        strict_platforms: false,
        attachments: Attachments::All,
        keep_going: how.keep_going,
        jobs: how.jobs,
        max_size: None,
        restart: false,
        output,
    }
}

/// An archive in memory, with the pieces that most tests look at.
pub struct Made {
    pub bytes: Vec<u8>,
    pub sidecar: Vec<u8>,
    pub entries: Vec<Entry>,
    pub record: Value,
}

impl Made {
    /// Takes an archive apart.
    pub fn new(bytes: Vec<u8>, sidecar: Vec<u8>) -> Self {
        let entries = walk(&bytes);
        let record = entries.iter().find(|entry| entry.path == RECORD_PATH).expect("a record");
        let record = serde_json::from_slice(record.content(&bytes)).unwrap();
        Self { bytes, sidecar, entries, record }
    }

    /// Packs a site into an archive.
    pub fn of(site: &Site, how: How) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("site.oci.tar");
        if let Err(error) = pack(site, how, Output::Archive(path.clone())) {
            panic!("{error:?}");
        }
        let sidecar = std::fs::read(temp.path().join("site.barge.json")).unwrap();
        Self::new(std::fs::read(path).unwrap(), sidecar)
    }

    /// The entry with this path.
    #[track_caller]
    pub fn entry(&self, path: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.path == path).unwrap_or_else(|| panic!("no entry `{path}`"))
    }

    /// The content of the entry with this path.
    #[track_caller]
    pub fn content(&self, path: &str) -> &[u8] {
        self.entry(path).content(&self.bytes)
    }

    /// A JSON file of the head.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        serde_json::from_slice(self.content(path)).unwrap()
    }

    /// The length of the head, from the paths of the entries alone.
    pub fn head_length(&self) -> u64 {
        let names = ["oci-layout", "index.json", "barge.json", "manifest.json", ".barge-pad"];
        let first = self.entries.iter().find(|entry| !names.contains(&entry.path.as_str()));
        first.expect("a body or a trailer").start
    }

    /// The rows of the blob table.
    pub fn rows(&self) -> &Vec<Value> {
        self.record["blobs"].as_array().unwrap()
    }

    /// The row of this digest.
    #[track_caller]
    pub fn row(&self, digest: &Digest) -> &Value {
        let text = digest.to_string();
        self.rows().iter().find(|row| row["digest"] == text.as_str()).expect("a row")
    }

    /// Writes the archive into a folder.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        write(&self.bytes, folder, name)
    }
}

/// Writes bytes as a file.
pub fn write(bytes: &[u8], folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}
