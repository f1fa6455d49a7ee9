//! The record `barge.json`: what a bundle is, what it holds, and what is left out of it and why.
//!
//! Its bytes are canonical (`format-spec/`, "Canonical JSON"): the fields of every object below stand in alphabetical
//! order, which the order of the struct fields gives. The SHA-256 of these bytes is the bundle ID.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::patches::{self, ContentRow, PatchTable, PatchesError};
use super::table::{AbsentRow, AbsentTable, BlobTable};
use crate::graph::reliance::{BaseEntry, Seen};
use crate::graph::{Change, Part};
use crate::inventory::state_code;
use crate::oci::{Algorithm, Digest, Hasher, Platform, Reference};
use crate::select::Reason;

/// Path of the record in an archive.
pub const RECORD_PATH: &str = "barge.json";
/// Media type of the record.
pub const RECORD_TYPE: &str = "application/vnd.barge.bundle.v1+json";
/// Version of the format written, `major.minor`.
pub const FORMAT_VERSION: &str = "1.0";
/// The major version that can be read.
const FORMAT_MAJOR: &str = "1";
/// Features that this version knows; a bundle that requires another is refused.
const KNOWN_FEATURES: [&str; 1] = [patches::FEATURE];

/// Content attached to a manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachedEntry {
    /// Digest of the attached manifest.
    pub digest: Digest,
    /// Digest of the manifest it is attached to.
    pub subject: Digest,
    /// The tag it is found by; none for a referrer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// A named image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageEntry {
    /// What is attached to its manifests.
    #[serde(default)]
    pub attached: Vec<AttachedEntry>,
    /// The name under which it travels.
    pub name: Reference,
    /// What it is in what was asked for.
    #[serde(default, skip_serializing_if = "Part::is_image")]
    pub part: Part,
    /// Platforms that travel, sorted; empty where none is known.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// What it was pulled by, with the digest it meant; none where the source was a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Digest of its root manifest.
    pub root: Digest,
}

/// An image that is not whole in the bundle, because content could not be had when it was packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedEntry {
    /// The name that was asked for.
    pub name: Reference,
    /// Digest of its root manifest, where the name could be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
}

/// What a delta bundle builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// The bases, sorted.
    pub bases: Vec<BaseEntry>,
    /// Content of the far side that patches build on, sorted by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<ContentRow>,
    /// Names that the bases have and that are no longer wanted, sorted. Nothing is ever deleted for them.
    #[serde(default)]
    pub removed: Vec<String>,
    /// The repositories that the rows of `absent` and `content` point to, sorted.
    #[serde(default)]
    pub repositories: Vec<Seen>,
}

/// The record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Content of the closure that is left out, with the reasons.
    #[serde(default)]
    pub absent: AbsentTable,
    /// What it builds on, where it is a delta bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Box<BaseRecord>>,
    /// Content that the bundle holds, in the order of the file.
    pub blobs: BlobTable,
    /// Digests that were changed on purpose before the images travelled, sorted by image and old digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digest_map: Vec<Change>,
    /// Digest of `manifest.json`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_manifest: Option<Digest>,
    /// Images that are not whole because some content could not be had, sorted by name.
    #[serde(default)]
    pub failed: Vec<FailedEntry>,
    /// Version of the format, `major.minor`.
    pub format_version: String,
    /// Images that are whole, sorted by name.
    pub images: Vec<ImageEntry>,
    /// Digest of `index.json`.
    pub index: Digest,
    /// Always [`RECORD_TYPE`].
    pub media_type: String,
    /// Content that is rebuilt at the far side.
    #[serde(default, skip_serializing_if = "PatchTable::is_empty")]
    pub patches: PatchTable,
    /// Features that a reader must know.
    #[serde(default)]
    pub requires: Vec<String>,
}

/// Why a record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or JSON of another shape, or tables that contradict themselves.
    #[error("the record `barge.json` is not valid")]
    Invalid(#[from] serde_json::Error),
    /// Another document.
    #[error("`barge.json` has the media type `{0}`, not `{RECORD_TYPE}`")]
    MediaType(String),
    /// A row that points beyond the list of repositories.
    #[error("`barge.json` says of {0} that a repository has it which it does not list")]
    Repository(Digest),
    /// Patches that can't be used.
    #[error(transparent)]
    Patches(#[from] PatchesError),
    /// A newer format.
    #[error("the bundle has format version {0}; this barge reads version {FORMAT_MAJOR}: use a newer barge")]
    Version(String),
    /// A feature of a newer version.
    #[error("the bundle needs the feature `{0}`, which this barge does not know: use a newer barge")]
    Feature(String),
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`]: not valid, or of a version or with features that this crate does not know.
    pub fn read(from: impl Read) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_reader(from)?;
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(80).collect();
        if record.media_type != RECORD_TYPE {
            return Err(RecordError::MediaType(shown(&record.media_type)));
        }
        if record.format_version.split('.').next() != Some(FORMAT_MAJOR) {
            return Err(RecordError::Version(shown(&record.format_version)));
        }
        if let Some(feature) =
            record.requires.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()))
        {
            return Err(RecordError::Feature(shown(feature)));
        }
        // What a row says of repositories is looked up without asking again.
        let listed = record.base.as_ref().map_or(0, |base| base.repositories.len());
        let far = record.far_content();
        let is_listed = |places: &[u32]| places.iter().all(|at| (*at as usize) < listed);
        let absent = record.absent.iter().find(|row| !is_listed(&row.repositories)).map(|row| row.digest);
        let content = far.iter().find(|row| !is_listed(&row.repositories)).map(|row| row.digest.clone());
        if let Some(digest) = absent.or(content) {
            return Err(RecordError::Repository(digest));
        }
        record.patches.check(&record.blobs, |digest| record.absent.find(digest).is_some(), far)?;
        Ok(record)
    }

    /// Returns why content of the closure does not travel; what is rebuilt by a patch builds on what the far side has.
    #[must_use]
    pub fn left_out(&self, digest: &Digest) -> Option<Reason> {
        let absent = self.absent.find(digest).map(|row| row.reason);
        absent.or_else(|| self.patches.find(digest).map(|_| Reason::Base))
    }

    /// Returns what patches build on at the far side.
    #[must_use]
    pub fn far_content(&self) -> &[ContentRow] {
        self.base.as_ref().map(|base| base.content.as_slice()).unwrap_or_default()
    }

    /// Reads a record and computes the bundle ID and the length of its bytes on the way.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn read_hashed(from: impl Read) -> Result<(Self, Digest, u64), RecordError> {
        struct Hashing<R>(R, Hasher, u64);
        impl<R: Read> Read for Hashing<R> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.read(buffer)?;
                self.1.update(&buffer[..count]);
                self.2 += count as u64;
                Ok(count)
            }
        }
        let hashing = Hashing(from, Hasher::new(Algorithm::Sha256), 0);
        let mut hashing = io::BufReader::with_capacity(256 * 1024, hashing);
        let record = Self::read(&mut hashing)?;
        let Hashing(_, hasher, size) = hashing.into_inner();
        Ok((record, hasher.finish(), size))
    }

    /// Writes the record's canonical bytes.
    ///
    /// # Errors
    /// What `to` says on writing.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        serde_json::to_writer(to, self).map_err(io::Error::from)
    }

    /// Returns the repositories in which a base saw absent content.
    #[must_use]
    pub fn seen(&self, row: &AbsentRow) -> Vec<Seen> {
        self.places(&row.repositories)
    }

    /// Returns the repositories at places in the record's list.
    #[must_use]
    pub fn places(&self, places: &[u32]) -> Vec<Seen> {
        let listed = self.base.as_ref().map(|base| base.repositories.as_slice()).unwrap_or_default();
        places.iter().filter_map(|at| listed.get(*at as usize)).cloned().collect()
    }

    /// Returns the state code that a target should read back once the bundle is pushed.
    #[must_use]
    pub fn state(&self) -> String {
        let images = self.images.iter();
        state_code(images.map(|image| (image.name.to_string(), &image.root, image.platforms.as_slice())))
    }

    /// Returns the bundle ID and the length of the record's bytes, without keeping them.
    ///
    /// # Panics
    /// Never: hashing does no I/O.
    #[must_use]
    pub fn id(&self) -> (Digest, u64) {
        struct Count(Hasher, u64);
        impl Write for Count {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                self.1 += bytes.len() as u64;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        // Buffered: the serializer writes a token at a time, and hashing is by blocks.
        let mut count = io::BufWriter::with_capacity(64 * 1024, Count(Hasher::new(Algorithm::Sha256), 0));
        self.write(&mut count).and_then(|()| count.flush()).expect("hashing does no I/O");
        let Ok(Count(hasher, length)) = count.into_inner() else { unreachable!("flushed above") };
        (hasher.finish(), length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn record() -> Record {
        let digest = Digest::sha256(b"root");
        Record {
            absent: AbsentTable::default(),
            base: None,
            blobs: BlobTable::default(),
            digest_map: vec![Change {
                image: "r.example/a:v1".parse().unwrap(),
                new: digest.clone(),
                old: Digest::sha256(b"old"),
            }],
            docker_manifest: None,
            failed: Vec::new(),
            format_version: FORMAT_VERSION.to_owned(),
            images: vec![ImageEntry {
                attached: vec![AttachedEntry { digest: digest.clone(), subject: digest.clone(), tag: None }],
                name: "r.example/a:v1".parse().unwrap(),
                part: Part::Operator,
                platforms: vec!["linux/arm/v7".parse().unwrap()],
                reference: None,
                root: digest.clone(),
            }],
            index: digest,
            media_type: RECORD_TYPE.to_owned(),
            patches: PatchTable::default(),
            requires: Vec::new(),
        }
    }

    #[test]
    fn the_bytes_are_canonical() {
        let mut bytes = Vec::new();
        record().write(&mut bytes).unwrap();
        // serde_json's own maps are sorted, so this re-serialisation is the canonical form.
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), value.to_string());
        assert_eq!(record().id(), (Digest::sha256(&bytes), bytes.len() as u64));
    }

    #[test]
    fn unknown_fields_are_skipped_and_unknown_versions_and_features_refused() {
        let read = |edit: fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(record()).unwrap();
            edit(&mut value);
            Record::read(value.to_string().as_bytes())
        };
        assert!(read(|value| value["surprise"] = 1.into()).is_ok());
        assert!(read(|value| value["formatVersion"] = "1.7".into()).is_ok());
        assert!(matches!(read(|v| v["formatVersion"] = "2.0".into()), Err(RecordError::Version(_))));
        assert!(matches!(read(|v| v["mediaType"] = "x".into()), Err(RecordError::MediaType(_))));
        assert!(matches!(
            read(|v| v["requires"] = serde_json::json!(["warp"])),
            Err(RecordError::Feature(_))
        ));
        assert!(matches!(read(|v| v["blobs"] = 3.into()), Err(RecordError::Invalid(_))));
    }
}
