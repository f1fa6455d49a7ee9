//! What the hostile registry stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use barge::oci::{Descriptor, Digest};
use serde_json::Value;

use super::auth::Tokens;
use crate::support::images::descriptor_json;

/// How a blob that is not there pretends to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phantom {
    /// HEAD says 200; GET says 404 and a manifest that refers to it is refused, until it is uploaded.
    HeadOnly,
    /// As 2.8 after the data of a cached blob was removed: HEAD 200, GET and ranged GET begin well and bring no
    /// byte, a mount and a manifest that refers to it are taken.
    LikeV2,
}

/// A manifest as it was put.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
}

/// One repository.
#[derive(Debug, Default)]
pub struct Repository {
    /// Blobs linked here.
    pub blobs: BTreeSet<Digest>,
    /// Blobs that pretend to be here, with the size they claim.
    pub phantoms: BTreeMap<Digest, (Phantom, u64)>,
    /// Manifests by digest.
    pub manifests: BTreeMap<Digest, Stored>,
    /// Tags.
    pub tags: BTreeMap<String, Digest>,
}

impl Repository {
    /// Finds a manifest by tag or digest.
    pub fn manifest(&self, selector: &str) -> Option<(Digest, &Stored)> {
        let digest = match selector.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => self.tags.get(selector)?.clone(),
        };
        let stored = self.manifests.get(&digest)?;
        Some((digest, stored))
    }

    /// Returns whether a manifest may refer to this blob.
    pub fn accepts_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest) || matches!(self.phantoms.get(digest), Some((Phantom::LikeV2, _)))
    }

    /// The referrers of a digest, as descriptors, sorted by digest.
    pub fn referrers(&self, subject: &Digest) -> Vec<Value> {
        let wanted = subject.to_string();
        let mut found = Vec::new();
        for (digest, stored) in &self.manifests {
            let Ok(document) = serde_json::from_slice::<Value>(&stored.bytes) else {
                continue;
            };
            if document["subject"]["digest"] != wanted {
                continue;
            }
            let size = stored.bytes.len() as u64;
            let mut value =
                descriptor_json(&Descriptor::new(stored.media_type.clone(), digest.clone(), size));
            let artifact_type = document.get("artifactType").unwrap_or(&document["config"]["mediaType"]);
            if !artifact_type.is_null() {
                value["artifactType"] = artifact_type.clone();
            }
            if let Some(annotations) = document.get("annotations").filter(|a| !a.is_null()) {
                value["annotations"] = annotations.clone();
            }
            found.push(value);
        }
        found
    }
}

/// An upload in progress.
#[derive(Debug, Default)]
pub struct Upload {
    /// Where it belongs.
    pub repository: String,
    /// What came so far.
    pub bytes: Vec<u8>,
    /// Number of the newest `Location` given out.
    pub state: usize,
    /// Whether a chunk was below the minimum, so that no other may follow.
    pub had_short_chunk: bool,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Store {
    /// Bytes of all blobs.
    pub blobs: BTreeMap<Digest, Arc<Vec<u8>>>,
    /// Repositories by name.
    pub repositories: BTreeMap<String, Repository>,
    /// Uploads by session.
    pub uploads: BTreeMap<String, Upload>,
    /// Sessions opened so far.
    pub sessions: usize,
    /// Tokens given out.
    pub tokens: Tokens,
}

impl Store {
    /// Adds a blob to a repository.
    pub fn put_blob(&mut self, repository: &str, digest: &Digest, bytes: Arc<Vec<u8>>) {
        self.blobs.insert(digest.clone(), bytes);
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.phantoms.remove(digest);
        repository.blobs.insert(digest.clone());
    }

    /// Opens an upload session.
    pub fn open_upload(&mut self, repository: &str) -> String {
        self.sessions += 1;
        let session = format!("session-{}", self.sessions);
        let upload = Upload { repository: repository.to_owned(), ..Upload::default() };
        self.uploads.insert(session.clone(), upload);
        session
    }
}
