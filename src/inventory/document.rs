//! The file around a content part: which target, when, and what came of a push.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Content;
use crate::graph::Part;
use crate::oci::{Digest, Reference};

/// Media type of an inventory.
pub const INVENTORY_TYPE: &str = "application/vnd.barge.inventory.v1+json";
/// Media type of a receipt.
pub const RECEIPT_TYPE: &str = "application/vnd.barge.receipt.v1+json";
/// Version of the form that is written, `major.minor`.
const FORMAT_VERSION: &str = "1.0";
/// The major version that can be read.
const FORMAT_MAJOR: &str = "1";
/// The first bytes of a zstd frame.
pub(crate) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Level of compression: digests are random, so a higher one gains nothing.
const COMPRESSION: i32 = 9;
/// More than any inventory has: what unpacks to more is refused.
pub(crate) const MAX_SIZE: u64 = 1 << 30;

/// Which of the two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was found at a target.
    Inventory,
    /// What a push left in place.
    Receipt,
}

/// How much of a target was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything that the registry's catalogue lists.
    Registry,
    /// All tags of the repositories listed.
    Repositories,
    /// Some images only.
    Images,
}

/// An image that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRow {
    /// Its name at the target; none where names were omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why.
    pub why: String,
}

/// What came of one image of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeRow {
    /// The name under which it travelled; none where names were omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Reference>,
    /// Its root at the target, where a flag of the push changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_root: Option<Digest>,
    /// `pushed`, `unchanged`, `refused` or `failed`.
    pub outcome: String,
    /// What it is in what was asked for.
    #[serde(default, skip_serializing_if = "Part::is_image")]
    pub part: Part,
    /// What it was pulled by before it travelled; none where names were omitted, or where it came from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Its root as it travelled.
    pub root: Digest,
    /// Its name at the target; none where names were omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Reference>,
    /// Why it failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// An inventory or a receipt. Fields in alphabetical order, as canonical JSON has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// IDs of the bundles that were pushed, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundles: Vec<Digest>,
    /// Whether every blob was proved by reading, not only listed by manifests.
    #[serde(default)]
    pub checked: bool,
    /// What is there.
    pub content: Content,
    /// Images that could not be read, and so are not in `content`.
    #[serde(default)]
    pub failed: Vec<FailedRow>,
    format_version: String,
    media_type: String,
    /// What came of each image of a push.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<OutcomeRow>,
    /// How much of the target was looked at.
    pub scope: Scope,
    /// The state code of the images in `content`.
    pub state: String,
    /// When it was looked at, RFC 3339 in UTC.
    pub taken: String,
    /// The target: a registry and the path below which everything lies. None where names were omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Why an inventory or receipt can't be read.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The file can't be read.
    #[error("{} can't be read", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not JSON, or of another shape.
    #[error("{} is not a valid inventory or receipt", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another document.
    #[error("{} has the media type `{found}`, which is no inventory or receipt", .path.display())]
    MediaType {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        found: String,
    },
    /// A newer form.
    #[error("{} has format version {found}; this barge reads version {FORMAT_MAJOR}: use a newer barge", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
}

/// Returns the time now, as an inventory writes it.
#[must_use]
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Returns how long ago a time was, as an inventory writes it; none if that lies in the future, or is no time.
#[must_use]
pub fn age(taken: &str) -> Option<Duration> {
    let taken = humantime::parse_rfc3339(taken).ok()?;
    SystemTime::now().duration_since(taken).ok()
}

impl Inventory {
    /// Makes a document of what was found now at `target`.
    #[must_use]
    pub fn new(kind: Kind, target: String, scope: Scope, content: Content) -> Self {
        let media_type = match kind {
            Kind::Inventory => INVENTORY_TYPE,
            Kind::Receipt => RECEIPT_TYPE,
        };
        Self {
            bundles: Vec::new(),
            checked: false,
            failed: Vec::new(),
            format_version: FORMAT_VERSION.to_owned(),
            media_type: media_type.to_owned(),
            outcomes: Vec::new(),
            scope,
            state: content.state(),
            taken: now(),
            target: Some(target),
            content,
        }
    }

    /// Returns which document it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.media_type == RECEIPT_TYPE { Kind::Receipt } else { Kind::Inventory }
    }

    /// Returns how long ago it was taken; none if that lies in the future, or is no time.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        age(&self.taken)
    }

    /// Takes every name off; the state code stays what it was.
    pub fn omit_names(&mut self) {
        self.content.omit_names();
        self.target = None;
        self.failed.iter_mut().for_each(|row| (row.name, row.why) = (None, "its name is omitted".to_owned()));
        for row in &mut self.outcomes {
            (row.image, row.reference, row.target, row.why) = (None, None, None, None);
        }
    }

    /// Reads a document from a file, plain or compressed with zstd.
    ///
    /// # Errors
    /// [`InventoryError`].
    pub fn read(path: &Path) -> Result<Self, InventoryError> {
        let io = |source| InventoryError::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let mut magic = Vec::new();
        Read::take(&mut file, 4).read_to_end(&mut magic).map_err(io)?;
        let is_compressed = magic == ZSTD_MAGIC;
        let whole = io::Cursor::new(magic).chain(file);
        let parsed = if is_compressed {
            let decoder = zstd::Decoder::new(whole).map_err(io)?;
            serde_json::from_reader(BufReader::with_capacity(256 * 1024, Read::take(decoder, MAX_SIZE)))
        } else {
            serde_json::from_reader(BufReader::with_capacity(256 * 1024, whole))
        };
        let found: Self =
            parsed.map_err(|source| InventoryError::Invalid { path: path.to_owned(), source })?;
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(80).collect();
        if ![INVENTORY_TYPE, RECEIPT_TYPE].contains(&found.media_type.as_str()) {
            return Err(InventoryError::MediaType { path: path.to_owned(), found: shown(&found.media_type) });
        }
        if found.format_version.split('.').next() != Some(FORMAT_MAJOR) {
            return Err(InventoryError::Version {
                path: path.to_owned(),
                found: shown(&found.format_version),
            });
        }
        Ok(found)
    }

    /// Writes the document's canonical bytes, compressed with zstd on request.
    ///
    /// # Errors
    /// What `to` says on writing.
    pub fn write(&self, mut to: impl Write, compressed: bool) -> io::Result<()> {
        if compressed {
            let mut out = io::BufWriter::new(zstd::Encoder::new(to, COMPRESSION)?);
            serde_json::to_writer(&mut out, self)?;
            let encoder = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            encoder.finish()?.flush()
        } else {
            let mut out = io::BufWriter::new(&mut to);
            serde_json::to_writer(&mut out, self)?;
            out.flush()
        }
    }
}
