//! What came of a push, as data.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Missing, Prepared, PushError};
use crate::graph::Part;
use crate::inventory::Content;
use crate::oci::{Digest, Reference};
use crate::transfer::for_each;

/// What came of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageOutcome {
    /// It is there now, and was not before.
    Pushed,
    /// It was there before.
    Unchanged,
    /// The target refused its index because children of it are left out.
    Refused,
    /// Some part of it could not be put in place; its tag is what it was.
    Failed,
}

impl ImageOutcome {
    /// Returns the word that receipts and result documents have for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What came of one image, with the names.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// The name it travelled under.
    pub name: Reference,
    /// What it was pulled by before it travelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What it is in what was asked for.
    #[serde(skip_serializing_if = "Part::is_image")]
    pub part: Part,
    /// Its name at the target.
    pub target: Reference,
    /// Its root as it travelled.
    pub root: Digest,
    /// Its root at the target, where a flag changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_root: Option<Digest>,
    /// What came of it.
    pub outcome: ImageOutcome,
    /// Why, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Attached content that was dropped because its subject has another digest now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Digest>,
}

/// What was moved and what was not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Blobs uploaded.
    pub uploaded_blobs: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Blobs that the target took from another of its repositories.
    pub mounted_blobs: u64,
    /// Their bytes.
    pub mounted_bytes: u64,
    /// Blobs that were there.
    pub present_blobs: u64,
    /// Their bytes.
    pub present_bytes: u64,
    /// Manifests written, indexes of referrers among them.
    pub manifests_written: u64,
    /// Manifests that were there.
    pub manifests_present: u64,
    /// Tags written.
    pub tags_written: u64,
    /// Blobs, among those uploaded, that were rebuilt from patches.
    pub rebuilt_blobs: u64,
    /// Their bytes.
    pub rebuilt_bytes: u64,
}

impl Counts {
    /// Returns whether anything was sent to the target that changes it.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.uploaded_blobs + self.mounted_blobs + self.manifests_written + self.tags_written > 0
    }
}

/// What came of a push.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether all content was proved by reading or sent, and none taken for present because its manifest is there.
    pub proved: bool,
    /// The images, sorted by name.
    pub images: Vec<ImageReport>,
    /// What was moved and what was not.
    pub counts: Counts,
    /// Content that neither the source nor the target could give, and that images failed for.
    pub missing: Vec<Missing>,
    /// What the images that are in place have at the target: the content part of a receipt.
    #[serde(skip)]
    pub content: Content,
}

impl Report {
    /// Returns how many images had this outcome.
    #[must_use]
    pub fn count(&self, outcome: ImageOutcome) -> usize {
        self.images.iter().filter(|image| image.outcome == outcome).count()
    }
}

/// Counts from many threads.
#[derive(Default)]
pub(super) struct Counters {
    counts: [AtomicU64; 11],
}

#[derive(Clone, Copy)]
pub(super) enum Counted {
    Uploaded = 0,
    Mounted = 2,
    Present = 4,
    ManifestWritten = 6,
    ManifestPresent = 7,
    TagWritten = 8,
    Rebuilt = 9,
}

impl Counters {
    /// Counts a blob and its bytes.
    pub(super) fn blob(&self, what: Counted, bytes: u64) {
        self.one(what);
        self.counts[what as usize + 1].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts one.
    pub(super) fn one(&self, what: Counted) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Counts {
        let count = |at: usize| self.counts[at].load(Ordering::Relaxed);
        Counts {
            uploaded_blobs: count(0),
            uploaded_bytes: count(1),
            mounted_blobs: count(2),
            mounted_bytes: count(3),
            present_blobs: count(4),
            present_bytes: count(5),
            manifests_written: count(6),
            manifests_present: count(7),
            tags_written: count(8),
            rebuilt_blobs: count(9),
            rebuilt_bytes: count(10),
        }
    }
}

/// What a push would do with one piece of content in one repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The repository.
    pub repository: String,
    /// `upload`, `rebuild` (from a patch, and upload), `mount`, `put`, `tag` or `skip`.
    pub action: &'static str,
    /// The digest, or the tag.
    pub what: String,
    /// Length in bytes.
    pub size: u64,
}

/// What a push would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rehearsal {
    /// The steps: blobs, then manifests, then tags; sorted within each.
    pub steps: Vec<Step>,
}

/// Asks the target about everything, and writes nothing.
pub(super) fn rehearse(push: &Prepared<'_>) -> Result<Rehearsal, PushError> {
    let steps: Mutex<Vec<Step>> = Mutex::default();
    let add = |repo: usize, action, what: String, size| {
        let repository = push.repositories[repo].name().to_string();
        super::lock(&steps).push(Step { repository, action, what, size });
    };
    let sorted = |steps: &Mutex<Vec<Step>>| {
        let mut steps = std::mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner));
        steps.sort();
        steps
    };
    for_each::<PushError>(push.options.jobs, push.blobs.len(), |at| {
        let Some((id, repos)) = push.blobs.get_index(at) else { return Ok(()) };
        let (digest, size) = (push.graph.digest(*id).to_string(), push.graph.node(*id).size);
        let mut is_somewhere = push.relied.contains_key(id);
        let mut lacking = Vec::new();
        for repo in repos {
            if push.look(*repo, *id)? {
                is_somewhere = true;
                add(*repo, "skip", digest.clone(), size);
            } else {
                lacking.push(*repo);
            }
        }
        for repo in lacking {
            let brought = if push.rebuilds.contains_key(id) { "rebuild" } else { "upload" };
            add(repo, if is_somewhere { "mount" } else { brought }, digest.clone(), size);
            is_somewhere = true;
        }
        Ok(())
    })?;
    let mut all = sorted(&steps);
    let (own, attached) = push.manifest_work();
    let work: Vec<_> = own.into_iter().chain(attached).collect();
    for_each::<PushError>(push.options.jobs, work.len(), |at| {
        let (repo, id) = (work[at].repo, work[at].id);
        let digest = push.graph.digest(id).to_string();
        let size = push.graph.node(id).size;
        let is_there = push.is_manifest_there(repo, id).map_err(|source| push.unusable(repo, source))?;
        add(repo, if is_there { "skip" } else { "put" }, digest, size);
        Ok(())
    })?;
    all.extend(sorted(&steps));
    for (image, (target, repo)) in push.going() {
        if let Some(tag) = &target.tag {
            let there =
                push.repositories[*repo].head_manifest(tag).map_err(|source| push.unusable(*repo, source))?;
            let is_same = there.is_some_and(|there| there.digest == *push.graph.digest(image.root));
            add(*repo, if is_same { "skip" } else { "tag" }, tag.clone(), 0);
        }
    }
    all.extend(sorted(&steps));
    Ok(Rehearsal { steps: all })
}
