//! The last stage of a push: tags, and reading back what they name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::report::{Counted, ImageOutcome, ImageReport};
use super::sparse::{self, Refusal};
use super::{Prepared, PushError, RepoId, lock};
use crate::graph::{NodeId, Presence};
use crate::oci::{Digest, media_type};
use crate::store::{Result, StoreError, chain};
use crate::transfer::for_each;

impl Prepared<'_> {
    /// Tags content that is attached by tags.
    pub(super) fn tag_attached(&self) -> std::result::Result<(), PushError> {
        let mut tags: BTreeMap<(RepoId, String), (NodeId, NodeId)> = BTreeMap::new();
        for (image, (_, repo)) in self.going() {
            for attachment in &image.attached {
                if let Some(tag) = &attachment.tag {
                    tags.insert((*repo, tag.clone()), (attachment.node, attachment.subject));
                }
            }
        }
        let work: Vec<_> = tags.into_iter().collect();
        for_each(self.options.jobs, work.len(), |at| {
            let ((repo, tag), (id, subject)) = &work[at];
            let is_dropped = lock(&self.state.rewritten).contains_key(&(*repo, *subject));
            let is_failed = lock(&self.state.failed).contains_key(&(*repo, *id));
            if is_dropped || is_failed || self.graph.node(*id).presence != Presence::Shipped {
                return Ok(());
            }
            if let Err(error) = self.tag(*repo, tag, *id) {
                self.fail(*repo, *id, Arc::new(error), false);
            }
            Ok(())
        })
    }

    /// Tags the images of which every part is in place, and reads their roots back.
    pub(super) fn tag_images(&self) -> std::result::Result<Vec<ImageReport>, PushError> {
        let reports: Mutex<Vec<(usize, ImageReport)>> = Mutex::default();
        for_each(self.options.jobs, self.graph.images.len(), |at| {
            let report = self.tag_image(at);
            lock(&reports).push((at, report));
            Ok::<(), PushError>(())
        })?;
        let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The images of a graph are sorted by name.
        reports.sort_by_key(|(at, _)| *at);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    fn tag_image(&self, at: usize) -> ImageReport {
        let image = &self.graph.images[at];
        let (target, repo) = &self.targets[at];
        let new = lock(&self.state.rewritten).get(&(*repo, image.root)).map(|new| new.digest.clone());
        let mut report = ImageReport {
            name: image.name.clone(),
            reference: image.reference.clone(),
            part: image.part,
            target: target.clone(),
            root: self.graph.digest(image.root).clone(),
            new_root: new.clone(),
            outcome: ImageOutcome::Failed,
            why: None,
            dropped: Vec::new(),
        };
        let rewritten = lock(&self.state.rewritten);
        let dropped =
            image.attached.iter().filter(|attached| rewritten.contains_key(&(*repo, attached.subject)));
        report.dropped = dropped.map(|attached| self.graph.digest(attached.node).clone()).collect();
        drop(rewritten);
        if let Some(cause) = self.failure_of(at) {
            report.outcome = if cause.is_sparse { ImageOutcome::Refused } else { ImageOutcome::Failed };
            report.why = Some(format!("{}: {}", cause.digest, chain(&*cause.error)));
            return report;
        }
        match self.settle(*repo, image.root, target.tag.as_deref(), new.as_ref()) {
            Ok(outcome) => report.outcome = outcome,
            Err(error) => {
                let absent = self.absent_children(image.root);
                // A registry may say that it has an index, by the blob of another image, and refuse to tag it.
                if sparse::refusal(&error, &absent, &[]) == Refusal::Sparse {
                    report.outcome = ImageOutcome::Refused;
                }
                report.why = Some(chain(&error));
            }
        }
        report
    }

    /// Puts the tag of an image, where it has one, and compares what the target then gives for it.
    fn settle(
        &self,
        repo: RepoId,
        root: NodeId,
        tag: Option<&str>,
        new: Option<&Digest>,
    ) -> Result<ImageOutcome> {
        let repository = &self.repositories[repo];
        let digest = new.unwrap_or(self.graph.digest(root));
        let selector = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let is_there = |found: &Option<crate::store::registry::RawManifest>| {
            found.as_ref().is_some_and(|found| found.digest == *digest)
        };
        let is_written = lock(&self.state.written).contains(&(repo, root));
        if tag.is_none() && new.is_none() && !is_written {
            // It was there when it was asked for.
            return Ok(ImageOutcome::Unchanged);
        }
        let before = repository.get_manifest(&selector)?;
        let mut outcome = ImageOutcome::Pushed;
        if tag.is_none() || is_there(&before) {
            // A digest that is there may have been put by this very run; then the image was pushed all the same.
            if is_there(&before)
                && !(tag.is_none() && (is_written || self.state.counters.snapshot().changed()))
            {
                outcome = ImageOutcome::Unchanged;
            }
        } else {
            let manifest = match new {
                None => self.content_of(root)?,
                Some(new) => repository
                    .get_manifest(&new.to_string())?
                    .ok_or_else(|| self.lost(repo, new))
                    .map(|raw| (raw.media_type, raw.bytes))?,
            };
            repository.put_manifest(&selector, &manifest.0, &manifest.1)?;
            self.state.counters.one(Counted::TagWritten);
        }
        if outcome == ImageOutcome::Pushed && !is_there(&repository.get_manifest(&selector)?) {
            return Err(self.lost(repo, digest));
        }
        if let Some(tag) = tag.filter(|_| self.options.tag_children) {
            self.tag_children_of(repo, root, tag)?;
        }
        Ok(outcome)
    }

    fn lost(&self, repo: RepoId, digest: &Digest) -> StoreError {
        StoreError::Damaged {
            place: self.repositories[repo].name().to_string(),
            digest: digest.clone(),
            why: "the target took it and does not give it back".to_owned(),
        }
    }

    fn content_of(&self, id: NodeId) -> Result<(String, Vec<u8>)> {
        let digest = self.graph.digest(id);
        let bytes = self.survey.content(digest).map_err(|source| StoreError::Io {
            path: "the plan's working file".into(),
            action: "could not be read",
            source,
        })?;
        let bytes = bytes.ok_or_else(|| StoreError::NotFound {
            place: "the plan's working file".to_owned(),
            what: digest.to_string(),
        })?;
        let media_type = self.graph.media_type(id);
        Ok((if media_type.is_empty() { media_type::OCI_MANIFEST } else { media_type }.to_owned(), bytes))
    }

    /// Puts a tag on a manifest that is in place, unless it is on it already.
    fn tag(&self, repo: RepoId, tag: &str, id: NodeId) -> Result<()> {
        let repository = &self.repositories[repo];
        let digest = self.graph.digest(id);
        if repository.head_manifest(tag)?.is_some_and(|there| there.digest == *digest) {
            return Ok(());
        }
        let (media_type, bytes) = self.content_of(id)?;
        repository.put_manifest(tag, &media_type, &bytes)?;
        self.state.counters.one(Counted::TagWritten);
        Ok(())
    }

    /// Tags the children of an index as `TAG-os-architecture[-variant]`.
    fn tag_children_of(&self, repo: RepoId, root: NodeId, tag: &str) -> Result<()> {
        for child in self.graph.closure(root) {
            let node = self.graph.node(child);
            if child == root || !node.kind.is_manifest() || node.presence != Presence::Shipped {
                continue;
            }
            let suffix = match self.graph.platform(child) {
                Some(platform) => platform.to_string().replace(['/', ' ', '(', ')'], "-"),
                None => self.graph.digest(child).short(),
            };
            let name: String = format!("{tag}-{suffix}").chars().take(128).collect();
            self.tag(repo, name.trim_end_matches('-'), child)?;
        }
        Ok(())
    }
}
