//! Bundles for the tests of verification and inspection: packed by the library, taken apart and put together wrongly.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barge::bundle::Bundle;
use barge::bundle::record::{RECORD_PATH, Record};
use barge::bundle::trailer::{TRAILER_PATH, TRAILER_SIZE, Trailer};
use barge::bundle::verify::{Finding, Options, Report, VerifyError, verify};
use barge::graph::Part;
use barge::graph::survey::Wish;
use barge::oci::{Descriptor, Digest};
use barge::pack::{self, Output, Prepared};
use barge::select::{Attachments, Wanted};
use barge::store::Source;
use barge::store::archive::{END_OF_ARCHIVE, entry_length, header, padded};
use barge::store::layout::LayoutDirectory;
use barge::transfer::Silent;
use tempfile::TempDir;

use crate::support::archives::write_layout;
use crate::support::images::{Blob, Content, layer};

/// The names of the images of [`content`].
pub const NAMES: [&str; 2] = ["registry.example/demo/app:v1", "registry.example/demo/tool:v1"];

/// Two images that share a layer: an index for two platforms with a signature, and an image for one.
pub struct Demo {
    pub content: Content,
    pub roots: Vec<(String, Descriptor)>,
    pub shared: Blob,
    /// The manifests of the first image: amd64, which is packed, and arm64, which is not.
    pub children: [Descriptor; 2],
    pub signature: Descriptor,
}

/// Makes the content of a small bundle.
pub fn demo() -> Demo {
    let mut content = Content::new();
    let shared = layer(1, 2500);
    let amd64 = content.image("linux/amd64", &[shared.clone(), layer(2, 1500)]);
    let arm64 = content.image("linux/arm64", &[shared.clone(), layer(3, 1200)]);
    let index = content.index(&[amd64.clone(), arm64.clone()]);
    let (tag, signature) = content.signature(&index.digest, "registry.example/demo/app");
    let tool = content.image("linux/amd64", &[shared.clone(), layer(4, 900)]);
    let roots = vec![
        (NAMES[0].to_owned(), index),
        (NAMES[1].to_owned(), tool),
        (format!("registry.example/demo/app:{tag}"), signature.clone()),
    ];
    Demo { content, roots, shared, children: [amd64, arm64], signature }
}

/// Writes content as a layout folder and returns its path.
pub fn write_demo_layout(folder: &Path, demo: &Demo) -> PathBuf {
    let roots: Vec<(&str, Descriptor)> = demo.roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    let layout = folder.join("layout");
    write_layout(&layout, &demo.content, &roots);
    layout
}

/// How the bundles here are packed.
pub fn pack_options(output: Output) -> pack::Options {
    pack::Options {
        wanted: Wanted { platforms: vec!["linux/amd64".parse().unwrap()], foreign_layers: false },
        strict_platforms: false,
        attachments: Attachments::All,
        keep_going: false,
        jobs: 2,
        max_size: None,
        restart: false,
        output,
    }
}

/// Packs images of a layout.
pub fn pack_layout(layout: &Path, names: &[&str], options: pack::Options) {
    let source: Arc<dyn Source> = Arc::new(LayoutDirectory::open(layout).unwrap());
    let wishes: Vec<Wish> = names
        .iter()
        .map(|name| Wish {
            name: name.parse().unwrap(),
            reference: None,
            source: 0,
            selector: (*name).to_owned(),
            platforms: Vec::new(),
            part: Part::Image,
        })
        .collect();
    Prepared::new(vec![source], &wishes, options).unwrap().write(&Silent).unwrap();
}

/// A folder with a bundle packed for linux/amd64, and its bytes.
pub struct Packed {
    pub temp: TempDir,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub demo: Demo,
}

/// Packs the demo content.
pub fn packed() -> Packed {
    let temp = tempfile::tempdir().unwrap();
    let demo = demo();
    let layout = write_demo_layout(temp.path(), &demo);
    let path = temp.path().join("site.oci.tar");
    pack_layout(&layout, &NAMES, pack_options(Output::Archive(path.clone())));
    let bytes = std::fs::read(&path).unwrap();
    Packed { temp, path, bytes, demo }
}

impl Packed {
    /// The bundle, opened.
    pub fn bundle(&self) -> Bundle {
        Bundle::open(&self.path).unwrap()
    }

    /// Where the content of a digest begins in the file.
    pub fn offset(&self, digest: &Digest) -> u64 {
        let bundle = self.bundle();
        let (_, row) = bundle.record().unwrap().blobs.find(digest).unwrap();
        bundle.archive().unwrap().head_length + row.offset
    }

    /// Where a file of the head begins: its content, and its length.
    pub fn head_file(&self, path: &str) -> (u64, u64) {
        let bundle = self.bundle();
        let found = bundle.archive().unwrap().head.iter().find(|(name, ..)| name == path).unwrap();
        (found.1, found.2)
    }

    /// Verifies other bytes in place of the bundle's.
    pub fn verify_bytes(&self, bytes: &[u8]) -> Result<Report, VerifyError> {
        let path = self.temp.path().join("other.oci.tar");
        std::fs::write(&path, bytes).unwrap();
        check(&path)
    }

    /// Verifies the bundle with another record, with digest and length in the trailer made to fit.
    pub fn verify_record(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Report {
        let bytes = self.with_record(edit);
        self.verify_bytes(&bytes).unwrap()
    }

    /// The bundle with another record, with all that hangs on its digest and length made to fit.
    pub fn with_record(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let (start, size) = self.head_file(RECORD_PATH);
        let old = &self.bytes[start as usize..(start + size) as usize];
        let mut value = serde_json::from_slice(old).unwrap();
        edit(&mut value);
        self.with_head(None, &value)
    }

    /// The bundle with another index.json and record.
    pub fn with_head(&self, index: Option<&[u8]>, record: &serde_json::Value) -> Vec<u8> {
        let record_bytes = record.to_string().into_bytes();
        let archive = self.bundle();
        let archive = archive.archive().unwrap();
        let mut made = Vec::new();
        for (path, start, size) in &archive.head {
            let old = &self.bytes[*start as usize..(start + size) as usize];
            let content: &[u8] = match (path.as_str(), index) {
                (RECORD_PATH, _) => &record_bytes,
                ("index.json", Some(index)) => index,
                _ => old,
            };
            entry(&mut made, path, content);
        }
        let body_end = self.bytes.len() as u64 - END_OF_ARCHIVE - entry_length(TRAILER_PATH, TRAILER_SIZE);
        made.extend_from_slice(&self.bytes[archive.head_length as usize..body_end as usize]);
        finish(&mut made, &record_bytes);
        made
    }

    /// The record.
    pub fn record(&self) -> Record {
        self.bundle().record().unwrap().clone()
    }
}

/// Appends an entry as barge writes it.
pub fn entry(bytes: &mut Vec<u8>, path: &str, content: &[u8]) {
    bytes.extend_from_slice(&header(path, content.len() as u64));
    bytes.extend_from_slice(content);
    bytes.resize(padded(bytes.len() as u64) as usize, 0);
}

/// Appends trailer and end of an archive with this record.
pub fn finish(bytes: &mut Vec<u8>, record: &[u8]) {
    let length = bytes.len() as u64 + entry_length(TRAILER_PATH, TRAILER_SIZE) + END_OF_ARCHIVE;
    let trailer = Trailer {
        record: Digest::sha256(record),
        record_size: record.len() as u64,
        length,
        volume: 1,
        volumes: 1,
    };
    entry(bytes, TRAILER_PATH, &trailer.to_bytes());
    bytes.resize(length as usize, 0);
}

/// Verifies a file or folder.
pub fn check(path: &Path) -> Result<Report, VerifyError> {
    verify(path, &Options { cached: true, jobs: 2, ..Options::default() }, &Silent)
}

/// The kinds of a report's findings, each once.
pub fn kinds(report: &Report) -> Vec<&'static str> {
    report.by_kind().into_iter().map(|(kind, _)| kind.id).collect()
}

/// The first finding of a kind.
#[track_caller]
pub fn finding<'r>(report: &'r Report, id: &str) -> &'r Finding {
    let found = report.findings.iter().find(|finding| finding.id == id);
    found.unwrap_or_else(|| panic!("no {id} in {:#?}", report.findings))
}

/// Whether each image is whole, by name.
pub fn whole(report: &Report) -> Vec<(&str, bool)> {
    report.images.iter().map(|image| (image.name.as_str(), image.whole)).collect()
}
