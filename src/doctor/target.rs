//! The document that says what a target does: what `barge doctor --json` prints and `--for` reads.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{CHECKS, Finding, State};
use crate::oci::RepositoryName;
use crate::push::names::Destination;

/// Media type of the document.
pub const TARGET_TYPE: &str = "application/vnd.barge.target.v1+json";
/// Version of the form that is written, `major.minor`.
const FORMAT_VERSION: &str = "1.0";
/// The major version that can be read.
const FORMAT_MAJOR: &str = "1";
/// More than any such document has, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// What a registry does with an index of which children are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SparseAnswer {
    /// It takes the index and hands it out as it is.
    Accepted,
    /// It refuses it.
    Refused,
    /// It takes it, and changes it or makes the absent children up.
    Stubbed,
    /// Something that a later version knows of.
    #[serde(other)]
    Other,
}

/// How a registry lists what refers to a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Referring {
    /// By the referrers API.
    Api,
    /// Not at all: clients keep a tag.
    Tag,
    /// It refuses manifests that refer to another.
    Refused,
    /// Something that a later version knows of.
    #[serde(other)]
    Other,
}

/// What was found out of a target, for programs. What is not known is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// Whether it offers a catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<bool>,
    /// Whether blobs can be uploaded in chunks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks: Option<bool>,
    /// Whether it makes repositories by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creates_repositories: Option<bool>,
    /// Whether it lets manifests be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<bool>,
    /// The largest blob that it takes, in bytes; nobody finds that out, a person may add it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blob_bytes: Option<u64>,
    /// The largest manifest that it was seen to take, in bytes, where it refused a larger one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_manifest_bytes: Option<u64>,
    /// How many components a repository's path may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_path_components: Option<usize>,
    /// The smallest chunk, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_chunk_bytes: Option<u64>,
    /// Whether blobs can be taken from another repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<bool>,
    /// How it lists what refers to a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Referring>,
    /// What it does with an index of which children are absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse: Option<SparseAnswer>,
    /// The largest file that the medium takes, in bytes; a person may add it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<u64>,
}

/// What was found out of a target. Fields in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// What was found out, for programs.
    #[serde(default)]
    pub facts: Facts,
    /// What was found out, for people: each check once, the worst first.
    #[serde(default)]
    pub findings: Vec<Finding>,
    format_version: String,
    /// What was written at the registry and could not be taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    media_type: String,
    /// The words to add to a push.
    #[serde(default)]
    pub push: Vec<String>,
    /// The repository below which things were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<String>,
    /// When it was found out, RFC 3339 in UTC.
    #[serde(default)]
    pub taken: String,
    /// The registry, and the path below which everything is to go.
    pub target: String,
}

/// Why a document can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
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
    #[error("{} does not say what a target does", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another document.
    #[error("{} does not say what a target does: its media type is `{found}`, not `{TARGET_TYPE}`", .path.display())]
    MediaType {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Written for a later version.
    #[error("{} has version {found} of its form; this program reads {FORMAT_MAJOR}.x", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The target is no registry.
    #[error("{} names no registry: `{found}`", .path.display())]
    NoRegistry {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

impl Target {
    pub(super) fn new(destination: &Destination, scratch: Option<&RepositoryName>) -> Self {
        Self {
            facts: Facts::default(),
            findings: Vec::new(),
            format_version: FORMAT_VERSION.to_owned(),
            left: Vec::new(),
            media_type: TARGET_TYPE.to_owned(),
            push: Vec::new(),
            scratch: scratch.map(ToString::to_string),
            taken: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            target: destination.to_string(),
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.iter().all(|known| known.id != finding.id) {
            self.findings.push(finding);
        }
    }

    /// Adds the checks that were not made, and sorts.
    pub(super) fn complete(&mut self, unasked: &str) {
        for id in CHECKS {
            self.add(Finding::new(id, State::Unknown, unasked));
        }
        let place = |id: &str| CHECKS.iter().position(|known| *known == id);
        self.findings.sort_by_key(|finding| (finding.state, place(&finding.id)));
        for finding in &self.findings {
            self.push.extend(finding.flags.iter().cloned());
        }
    }

    /// Returns the worst state of all findings.
    #[must_use]
    pub fn worst(&self) -> State {
        self.findings.iter().map(|finding| finding.state).min().unwrap_or(State::Ok)
    }

    /// Returns where everything is to go.
    ///
    /// # Errors
    /// What is wrong with the text, for a document that was edited.
    pub fn destination(&self) -> Result<Destination, crate::push::names::NamingError> {
        self.target.parse()
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn read(path: &Path) -> Result<Self, TargetError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            #[serde(default)]
            format_version: String,
            #[serde(default)]
            media_type: String,
        }
        let path_of = || path.to_owned();
        let io = |source| TargetError::Io { path: path_of(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_SIZE).read_to_end(&mut bytes).map_err(io)?;
        let invalid = |source| TargetError::Invalid { path: path_of(), source };
        let head: Head = serde_json::from_slice(&bytes).map_err(invalid)?;
        if head.media_type != TARGET_TYPE {
            let found = head.media_type.chars().take(200).collect();
            return Err(TargetError::MediaType { path: path_of(), found });
        }
        if head.format_version.split('.').next() != Some(FORMAT_MAJOR) {
            let found = head.format_version.chars().take(200).collect();
            return Err(TargetError::Version { path: path_of(), found });
        }
        let target: Self = serde_json::from_slice(&bytes).map_err(invalid)?;
        if target.destination().is_err() {
            let found = target.target.chars().take(200).collect();
            return Err(TargetError::NoRegistry { path: path_of(), found });
        }
        Ok(target)
    }
}
