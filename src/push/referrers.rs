//! The fallback index of referrers at registries without the API (distribution-spec, "Referrers Tag Schema").
//!
//! The index belongs to the target: its own entries stay, as far as they still resolve there. Registries check the
//! entries of an index, so one that is gone would make the whole index be refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};

use super::report::Counted;
use super::{Prepared, PushError, RepoId, lock};
use crate::graph::{NodeId, Presence};
use crate::oci::{Descriptor, Digest, Manifest, media_type};
use crate::store::registry::{Referrers, Repository};
use crate::store::{Result, StoreError, attached_tag};
use crate::transfer::for_each;

/// How many times an index is read, merged and written until nobody else wrote in between.
const TRIES: usize = 5;

/// An entry of the index.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    digest: Digest,
    value: Value,
}

impl Entry {
    pub(super) fn new(
        descriptor: &Descriptor,
        artifact_type: Option<&str>,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let mut value = json!({
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
        });
        if let Some(artifact_type) = artifact_type.filter(|name| !name.is_empty()) {
            value["artifactType"] = json!(artifact_type);
        }
        if !annotations.is_empty() {
            value["annotations"] = json!(annotations);
        }
        Self { digest: descriptor.digest.clone(), value }
    }
}

/// One lock a subject in this process: two images of one push may have the same subject.
fn subject_lock(repository: &Repository, subject: &Digest) -> Arc<Mutex<()>> {
    type Locks = Mutex<HashMap<String, Arc<Mutex<()>>>>;
    static LOCKS: OnceLock<Locks> = OnceLock::new();
    let key = format!("{}@{subject}", repository.name());
    lock(LOCKS.get_or_init(Mutex::default)).entry(key).or_default().clone()
}

/// Brings `ours` into the fallback index of `subject`; returns whether anything was written.
///
/// # Errors
/// What the registry says, or [`StoreError::Invalid`] if others keep writing the same index.
pub(super) fn merge(repository: &Repository, subject: &Digest, ours: &[Entry]) -> Result<bool> {
    let guard = subject_lock(repository, subject);
    let _held = lock(&guard);
    let tag = attached_tag(subject, "");
    let mut wrote = false;
    for _ in 0..TRIES {
        let existing = match repository.referrers(subject)? {
            Referrers::Api(_) => return Ok(wrote),
            Referrers::Fallback(index) => index,
        };
        let mut entries: Vec<Value> = Vec::new();
        let mut known: Vec<Digest> = Vec::new();
        if let Some(index) = &existing {
            let document: Value = serde_json::from_slice(&index.bytes).unwrap_or_default();
            for entry in document["manifests"].as_array().into_iter().flatten() {
                let digest = entry["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
                if let Some(digest) = digest.filter(|digest| !known.contains(digest)) {
                    known.push(digest);
                    entries.push(entry.clone());
                }
            }
        }
        let new: Vec<&Entry> = ours.iter().filter(|entry| !known.contains(&entry.digest)).collect();
        if new.is_empty() {
            return Ok(wrote);
        }
        let mut resolving = Vec::new();
        for (entry, digest) in entries.into_iter().zip(&known) {
            if repository.head_manifest(&digest.to_string())?.is_some() {
                resolving.push(entry);
            }
        }
        resolving.extend(new.into_iter().map(|entry| entry.value.clone()));
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": resolving });
        repository.put_manifest(&tag, media_type::OCI_INDEX, index.to_string().as_bytes())?;
        wrote = true;
    }
    let why = format!("the referrers of {subject} are being changed by somebody else; push again later");
    Err(StoreError::Invalid { place: repository.name().to_string(), why })
}

impl Prepared<'_> {
    /// Sees to it that all pushed referrers are listed at the target.
    pub(super) fn list_referrers(&self) -> std::result::Result<(), PushError> {
        let mut by_subject: BTreeMap<(RepoId, NodeId), Vec<NodeId>> = BTreeMap::new();
        for (image, (_, repo)) in self.going() {
            for attachment in image.attached.iter().filter(|attachment| attachment.tag.is_none()) {
                let list = by_subject.entry((*repo, attachment.subject)).or_default();
                if !list.contains(&attachment.node) {
                    list.push(attachment.node);
                }
            }
        }
        let work: Vec<_> = by_subject.into_iter().collect();
        for_each(self.options.jobs, work.len(), |at| {
            let ((repo, subject), nodes) = &work[at];
            if lock(&self.state.rewritten).contains_key(&(*repo, *subject)) {
                return Ok(());
            }
            let ours: Vec<Entry> = nodes.iter().filter_map(|node| self.entry(*repo, *node)).collect();
            if ours.is_empty() {
                return Ok(());
            }
            match merge(&self.repositories[*repo], self.graph.digest(*subject), &ours) {
                Ok(true) => self.state.counters.one(Counted::ManifestWritten),
                Ok(false) => {}
                Err(error) => self.fail(*repo, nodes[0], Arc::new(error), false),
            }
            Ok(())
        })
    }

    /// Returns the entry of a referrer that is in place; none for one that is not.
    fn entry(&self, repo: RepoId, id: NodeId) -> Option<Entry> {
        if self.graph.node(id).presence != Presence::Shipped
            || lock(&self.state.failed).contains_key(&(repo, id))
        {
            return None;
        }
        let bytes = self.survey.content(self.graph.digest(id)).ok()??;
        let manifest = Manifest::parse(&bytes, self.graph.media_type(id)).ok()?;
        // Only a manifest that says so itself is a referrer; tags and indexes may list anything.
        manifest.subject()?;
        let descriptor = self.graph.descriptor(id);
        Some(match &manifest {
            Manifest::Image(image) => {
                Entry::new(&descriptor, Some(image.referrer_type()), &image.annotations)
            }
            Manifest::Index(index) => {
                Entry::new(&descriptor, index.artifact_type.as_deref(), &index.annotations)
            }
        })
    }
}
