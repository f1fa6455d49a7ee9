//! What a verification found, as data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::kinds::{kind_of, rank};
use crate::graph::reliance::BaseEntry;
use crate::oci::Digest;
use crate::select::Reason;

/// The most findings that a report keeps: whoever reads more of them one by one is not helped by them, and a hostile
/// file could otherwise fill the memory with them.
const MAX_FINDINGS: usize = 200_000;

/// What a finding costs: an image, and those of its platforms that need what is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cost {
    /// The image's name.
    pub image: String,
    /// The platforms; empty where it is not tied to one, as with a signature of the whole image.
    pub platforms: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stable name of its kind, one of [`KINDS`](super::KINDS).
    pub id: &'static str,
    /// The content it concerns.
    pub digest: Option<Digest>,
    /// Where in the file, in bytes from its start.
    pub offset: Option<u64>,
    /// What exactly is wrong; text from the file is cut and escaped.
    pub detail: String,
    /// The images that need the content.
    pub costs: Vec<Cost>,
}

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A bundle, by its record.
    Bundle,
    /// An OCI layout of another producer.
    Layout,
    /// A bundle without a record that can be used: what of it could be found.
    Remains,
}

/// A number of pieces of content, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes, as descriptors or the table say.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Content that was to be read; the bytes are those that could be read and were hashed.
    pub checked: Amount,
    /// Content that is whole.
    pub whole: Amount,
    /// Content that is there and damaged or unreadable.
    pub damaged: Amount,
    /// Content that should be there and is not: cut off, a gap, or never packed.
    pub missing: Amount,
    /// Content that is left out on purpose, by reason.
    pub absent: BTreeMap<Reason, Amount>,
    /// Content that is rebuilt from patches; the bytes are its own, not those of the patches.
    pub rebuilt: Amount,
}

/// An image, and whether all of it that should be there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageState {
    /// Its name, or its digest where it has none.
    pub name: String,
    /// Its root, where it is known.
    pub root: Option<Digest>,
    /// The platforms that travel, where they are known.
    pub platforms: Vec<String>,
    /// Whether it is whole.
    pub whole: bool,
}

/// A piece of content that must be sent again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resend {
    /// Its digest.
    pub digest: Digest,
    /// Its type; empty where nothing says it.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The file or folder.
    pub path: PathBuf,
    /// What it is.
    pub form: Form,
    /// The bundle ID, as the bytes of the record give it.
    pub bundle: Option<Digest>,
    /// What it builds on, where it is a delta bundle.
    pub bases: Vec<BaseEntry>,
    /// Length of the file in bytes; none for a folder.
    pub length: Option<u64>,
    /// Up to which byte the file is whole, where it was cut off.
    pub whole_until: Option<u64>,
    /// Whether only some images were asked for, and only their content was read.
    pub restricted: bool,
    /// What was counted.
    pub counts: Counts,
    /// The images, sorted by name.
    pub images: Vec<ImageState>,
    /// What is wrong, the gravest first.
    pub findings: Vec<Finding>,
    /// How many more findings there were than are kept.
    pub more_findings: u64,
    /// What must be sent again, sorted by digest.
    pub resend: Vec<Resend>,
}

impl Report {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns how many images are whole, and how many are not.
    #[must_use]
    pub fn images_whole(&self) -> (usize, usize) {
        let whole = self.images.iter().filter(|image| image.whole).count();
        (whole, self.images.len() - whole)
    }

    /// Returns the findings by kind, in the order of [`KINDS`](super::KINDS).
    #[must_use]
    pub fn by_kind(&self) -> Vec<(&'static super::Kind, &[Finding])> {
        let groups = self.findings.chunk_by(|a, b| a.id == b.id);
        groups.filter_map(|group| Some((kind_of(group.first()?.id)?, group))).collect()
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    more: u64,
}

impl Findings {
    /// Adds a finding about a place in the file.
    pub(super) fn at(&mut self, id: &'static str, offset: u64, detail: impl Into<String>) {
        self.add(id, None, Some(offset), detail.into());
    }

    /// Adds a finding about content.
    pub(super) fn content(
        &mut self,
        id: &'static str,
        digest: &Digest,
        offset: Option<u64>,
        detail: impl Into<String>,
    ) {
        self.add(id, Some(digest.clone()), offset, detail.into());
    }

    /// Adds a finding about the whole.
    pub(super) fn whole(&mut self, id: &'static str, detail: impl Into<String>) {
        self.add(id, None, None, detail.into());
    }

    fn add(&mut self, id: &'static str, digest: Option<Digest>, offset: Option<u64>, detail: String) {
        debug_assert!(kind_of(id).is_some(), "{id} is not in the table");
        if self.list.len() >= MAX_FINDINGS {
            self.more += 1;
            return;
        }
        self.list.push(Finding { id, digest, offset, detail, costs: Vec::new() });
    }

    /// Returns the words of the first finding.
    pub(super) fn first(&self) -> Option<String> {
        self.list.first().map(|finding| finding.detail.clone())
    }

    /// Returns the findings, sorted, and how many more there were.
    pub(super) fn finish(mut self) -> (Vec<Finding>, u64) {
        self.list.sort_by(|a, b| {
            let key = |f: &Finding| (rank(f.id), f.offset);
            key(a)
                .cmp(&key(b))
                .then_with(|| (&a.digest, &a.detail, &a.costs).cmp(&(&b.digest, &b.detail, &b.costs)))
        });
        self.list.dedup();
        (self.list, self.more)
    }

    pub(super) fn list_mut(&mut self) -> &mut Vec<Finding> {
        &mut self.list
    }
}

/// Cuts text from a file for a message and escapes what a terminal would act on.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
