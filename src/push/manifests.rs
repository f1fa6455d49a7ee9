//! The second stage of a push: manifests by digest, children before parents.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::report::Counted;
use super::sparse::{self, Policy, Refusal};
use super::{Prepared, PushError, RepoId, lock};
use crate::graph::{Kind, NodeId, Presence};
use crate::oci::{Descriptor, Digest, media_type};
use crate::select::Reason;
use crate::store::{Result, StoreError};
use crate::transfer::{Progress, for_each};

/// Type of the artifact that keeps the original of an index that was rewritten.
pub const ORIGINAL_INDEX_TYPE: &str = "application/vnd.barge.original-index.v1+json";
/// Pauses before an index is put again whose children the registry does not see yet.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

/// A manifest that goes to a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Work {
    /// How many levels of manifests are below it.
    height: u32,
    pub(super) repo: RepoId,
    pub(super) id: NodeId,
    /// What it is attached to, for what is attached.
    subjects: Vec<NodeId>,
}

impl Prepared<'_> {
    /// Lists the manifests to put, by height: those below the roots, and those of attached content.
    pub(super) fn manifest_work(&self) -> (Vec<Work>, Vec<Work>) {
        let (mut own, mut attached): (BTreeMap<_, _>, BTreeMap<(RepoId, NodeId), Vec<NodeId>>) =
            Default::default();
        for (image, (_, repo)) in self.going() {
            for id in self.shipped_manifests(image.root) {
                own.insert((*repo, id), Vec::new());
            }
            for attachment in &image.attached {
                for id in self.shipped_manifests(attachment.node) {
                    attached.entry((*repo, id)).or_default().push(attachment.subject);
                }
            }
        }
        attached.retain(|key, _| !own.contains_key(key));
        let mut heights = HashMap::new();
        let mut sorted = |work: BTreeMap<(RepoId, NodeId), Vec<NodeId>>| {
            let mut work: Vec<Work> = work
                .into_iter()
                .map(|((repo, id), subjects)| Work {
                    height: self.height(id, &mut heights),
                    repo,
                    id,
                    subjects,
                })
                .collect();
            work.sort();
            work
        };
        (sorted(own), sorted(attached))
    }

    fn shipped_manifests(&self, root: NodeId) -> impl Iterator<Item = NodeId> {
        self.graph.closure(root).into_iter().filter(|id| {
            let node = self.graph.node(*id);
            node.kind.is_manifest() && node.presence == Presence::Shipped
        })
    }

    fn height(&self, id: NodeId, known: &mut HashMap<NodeId, u32>) -> u32 {
        if let Some(height) = known.get(&id) {
            return *height;
        }
        let manifests =
            self.graph.children(id).iter().filter(|child| self.graph.node(**child).kind.is_manifest());
        let height = manifests.map(|child| self.height(*child, known) + 1).max().unwrap_or(0);
        known.insert(id, height);
        height
    }

    /// Returns whether what a manifest is attached to has another digest at the target.
    pub(super) fn is_below_rewritten(&self, work: &Work) -> bool {
        let rewritten = lock(&self.state.rewritten);
        !work.subjects.is_empty()
            && work.subjects.iter().all(|subject| rewritten.contains_key(&(work.repo, *subject)))
    }

    /// Puts manifests, a level at a time.
    pub(super) fn put_manifests(
        &self,
        work: &[Work],
        progress: &dyn Progress,
    ) -> std::result::Result<(), PushError> {
        for level in work.chunk_by(|a, b| a.height == b.height) {
            for_each(self.options.jobs, level.len(), |at| {
                let Work { repo, id, .. } = level[at];
                match self.put(repo, id, progress) {
                    Ok(()) => Ok(()),
                    Err(error) if is_fatal(&error) => Err(self.unusable(repo, error)),
                    Err(error) => {
                        self.fail(repo, id, Arc::new(error), false);
                        Ok(())
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Puts one manifest; what became of it is noted, and an error is one of its own.
    fn put(&self, repo: RepoId, id: NodeId, progress: &dyn Progress) -> Result<()> {
        let failed_child = {
            let failed = lock(&self.state.failed);
            self.graph.children(id).iter().find_map(|child| failed.get(&(repo, *child)).cloned())
        };
        if let Some(cause) = failed_child {
            // People are told of what is wrong itself, not of all that it is part of.
            lock(&self.state.failed).entry((repo, id)).or_insert(cause);
            return Ok(());
        }
        let rewritten = lock(&self.state.rewritten);
        if self.graph.children(id).iter().any(|child| rewritten.contains_key(&(repo, *child))) {
            drop(rewritten);
            return self.put_rewritten(repo, id);
        }
        drop(rewritten);
        let absent = self.absent_children(id);
        if !absent.is_empty() && self.was_replaced_before(repo, id)? {
            return Ok(());
        }
        let digest = self.graph.digest(id).to_string();
        let repository = &self.repositories[repo];
        // Some registries make up stubs for the absent children of an index: another length is another manifest.
        let is_there = self.is_manifest_there(repo, id)?;
        if is_there && !self.is_shadowed(repo, id, &absent)? {
            self.state.counters.one(Counted::ManifestPresent);
            return Ok(());
        }
        let bytes = self.content(id)?;
        let media_type = self.graph.media_type(id);
        let media_type = if media_type.is_empty() { media_type::OCI_MANIFEST } else { media_type };
        let present = self.present_children(id);
        let mut pauses = PAUSES.iter();
        let mut was_forced = false;
        loop {
            let Err(error) = repository.put_manifest(&digest, media_type, &bytes) else {
                self.state.counters.one(Counted::ManifestWritten);
                lock(&self.state.written).insert((repo, id));
                return Ok(());
            };
            match sparse::refusal(&error, &absent, &present) {
                Refusal::Sparse if self.are_there(repo, id)? => return self.refused(repo, id, error),
                // The registry said that blobs are there which are not: they are uploaded by force, once.
                Refusal::Sparse | Refusal::Missing(_)
                    if self.graph.node(id).kind == Kind::Manifest && !was_forced =>
                {
                    was_forced = true;
                    if let Some(error) = self.find_lost(repo, id)? {
                        return Err(error);
                    }
                    for child in self.graph.children(id) {
                        if self.graph.node(*child).presence == Presence::Shipped {
                            self.send(repo, *child, None, progress)?;
                        }
                    }
                }
                Refusal::Sparse | Refusal::Missing(_) if self.graph.node(id).kind == Kind::Index => {
                    let Some(pause) = pauses.next() else { return Err(error) };
                    std::thread::sleep(*pause);
                }
                _ => return Err(error),
            }
        }
    }

    /// Returns whether a repository has a manifest by its digest and with its length, as the preflight found, or else
    /// asks. The answer is not kept: each manifest of a repository is looked for once, and what is put changes it.
    pub(super) fn is_manifest_there(&self, repo: RepoId, id: NodeId) -> Result<bool> {
        if let Some(is_there) = lock(&self.state.there).get(&(repo, id)) {
            return Ok(*is_there);
        }
        let there = self.repositories[repo].head_manifest(&self.graph.digest(id).to_string())?;
        Ok(there.is_some_and(|there| there.size == self.graph.node(id).size))
    }

    /// Looks again for what a manifest relies on: the target may have lost it since it was proved.
    fn find_lost(&self, repo: RepoId, id: NodeId) -> Result<Option<StoreError>> {
        for child in self.graph.children(id) {
            let is_relied = matches!(self.graph.node(*child).presence,
                Presence::Absent(reason) if reason != Reason::Foreign);
            if is_relied && !self.is_present(repo, *child)? {
                lock(&self.state.lost).insert(*child);
                return Ok(Some(self.absence(repo, *child)));
            }
        }
        Ok(None)
    }

    fn content(&self, id: NodeId) -> Result<Vec<u8>> {
        let digest = self.graph.digest(id);
        let damaged = |why: &str| StoreError::Damaged {
            place: "the plan's working file".to_owned(),
            digest: digest.clone(),
            why: why.to_owned(),
        };
        match self.survey.content(digest) {
            Ok(Some(bytes)) if digest.matches(&bytes) => Ok(bytes),
            Ok(_) => Err(damaged("it is not there as it was read")),
            Err(source) => Err(StoreError::Io {
                path: "the plan's working file".into(),
                action: "could not be read",
                source,
            }),
        }
    }

    fn present_children(&self, id: NodeId) -> Vec<Digest> {
        let present = |child: &&NodeId| self.graph.node(**child).presence == Presence::Shipped;
        self.graph
            .children(id)
            .iter()
            .filter(present)
            .map(|child| self.graph.digest(*child).clone())
            .collect()
    }

    /// Asks whether every child that is meant to be at the target is there.
    fn are_there(&self, repo: RepoId, id: NodeId) -> Result<bool> {
        for child in self.graph.children(id) {
            let node = self.graph.node(*child);
            if node.presence != Presence::Shipped {
                continue;
            }
            let is_there = if node.kind.is_manifest() {
                self.repositories[repo].head_manifest(&self.graph.digest(*child).to_string())?.is_some()
            } else {
                self.is_present(repo, *child)? || node.size == 0
            };
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does what the policy says with an index that was refused for being sparse.
    fn refused(&self, repo: RepoId, id: NodeId, error: StoreError) -> Result<()> {
        match self.options.policy {
            Policy::Require => {
                self.fail(repo, id, Arc::new(error), true);
                Ok(())
            }
            Policy::Rewrite => self.put_rewritten(repo, id),
            Policy::Single => {
                let Some(only) = self.only_runnable(id) else {
                    self.fail(repo, id, Arc::new(error), true);
                    return Ok(());
                };
                lock(&self.state.rewritten).insert((repo, id), self.graph.descriptor(only));
                Ok(())
            }
        }
    }

    /// Returns the one image below an index that is pushed; none if there are several.
    fn only_runnable(&self, id: NodeId) -> Option<NodeId> {
        let ships = |child: &NodeId| {
            self.graph.is_runnable(*child) && self.graph.node(*child).presence == Presence::Shipped
        };
        let runnable: Vec<NodeId> = self.graph.closure(id).into_iter().filter(ships).collect();
        match runnable[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Takes over what an earlier run put in place of a sparse index under the same policy. The target need not be asked
    /// again whether it takes the original; and docker-registry 2.8 would say that it has it, by the blob that keeps
    /// the original's bytes.
    fn was_replaced_before(&self, repo: RepoId, id: NodeId) -> Result<bool> {
        let replacement = match self.options.policy {
            Policy::Require => None,
            Policy::Rewrite if self.present_children(id).is_empty() => None,
            Policy::Rewrite => {
                let (new, subject) = self.rewritten_form(repo, id, &self.content(id)?)?;
                self.repositories[repo].head_manifest(&new.digest.to_string())?.map(|_| subject)
            }
            Policy::Single => match self.only_runnable(id) {
                Some(only) if self.is_tagged_as(repo, id, only)? == Some(true) => {
                    Some(self.graph.descriptor(only))
                }
                _ => None,
            },
        };
        let Some(replacement) = replacement else { return Ok(false) };
        self.state.counters.one(Counted::ManifestPresent);
        lock(&self.state.rewritten).insert((repo, id), replacement);
        Ok(true)
    }

    /// Returns whether a tag that is to name `root` names `named` at the target; none where no tag is to name it.
    fn is_tagged_as(&self, repo: RepoId, root: NodeId, named: NodeId) -> Result<Option<bool>> {
        let images = self.going();
        let targets = images.filter(|(image, target)| image.root == root && target.1 == repo);
        let mut has_tag = None;
        for tag in targets.filter_map(|(_, (target, _))| target.tag.as_deref()) {
            let there = self.repositories[repo].head_manifest(tag)?;
            if there.is_some_and(|there| there.digest == *self.graph.digest(named)) {
                return Ok(Some(true));
            }
            has_tag = Some(false);
        }
        Ok(has_tag)
    }

    /// Returns whether the original of a rewritten index may be all that the target has of a sparse index: as a blob,
    /// which docker-registry 2.8 also gives for a manifest, whoever kept it there. Only a tag proves the manifest: a
    /// registry that refuses sparse indexes puts none on it.
    fn is_shadowed(&self, repo: RepoId, id: NodeId, absent: &[Digest]) -> Result<bool> {
        if absent.is_empty() || self.options.policy == Policy::Require {
            return Ok(false);
        }
        if let Some(is_proven) = self.is_tagged_as(repo, id, id)? {
            return Ok(!is_proven);
        }
        if self.present_children(id).is_empty() {
            return Ok(false);
        }
        let (new, _) = self.rewritten_form(repo, id, &self.content(id)?)?;
        Ok(self.repositories[repo].head_manifest(&new.digest.to_string())?.is_some())
    }

    /// Makes an index that lists only what is there.
    fn rewritten_form(
        &self,
        repo: RepoId,
        id: NodeId,
        bytes: &[u8],
    ) -> Result<(sparse::Rewritten, Descriptor)> {
        let keep: HashSet<Digest> = self.present_children(id).into_iter().collect();
        let replaced: BTreeMap<Digest, Descriptor> = {
            let rewritten = lock(&self.state.rewritten);
            let children = self.graph.children(id).iter();
            children
                .filter_map(|child| {
                    Some((self.graph.digest(*child).clone(), rewritten.get(&(repo, *child))?.clone()))
                })
                .collect()
        };
        let new = sparse::rewrite(bytes, |digest| keep.contains(digest), &replaced).map_err(|error| {
            let why = format!("it can't be rewritten: {error}");
            StoreError::Invalid { place: self.graph.digest(id).to_string(), why }
        })?;
        let subject = Descriptor::new(self.graph.media_type(id), new.digest.clone(), new.bytes.len() as u64);
        Ok((new, subject))
    }

    /// Puts an index that lists only what is there, and the original attached to it.
    fn put_rewritten(&self, repo: RepoId, id: NodeId) -> Result<()> {
        if self.present_children(id).is_empty() {
            let why = "none of its images is there: rewritten, it would list nothing".to_owned();
            return Err(StoreError::Invalid { place: self.graph.digest(id).to_string(), why });
        }
        let bytes = self.content(id)?;
        let (new, subject) = self.rewritten_form(repo, id, &bytes)?;
        let repository = &self.repositories[repo];
        let media_type = self.graph.media_type(id).to_owned();
        repository.put_manifest(&new.digest.to_string(), &media_type, &new.bytes)?;
        self.attach_original(repo, &bytes, &media_type, &subject)?;
        self.state.counters.one(Counted::ManifestWritten);
        lock(&self.state.rewritten).insert((repo, id), subject);
        Ok(())
    }

    /// Attaches the original bytes of an index to the one that was made of it.
    fn attach_original(
        &self,
        repo: RepoId,
        original: &[u8],
        media_type: &str,
        subject: &Descriptor,
    ) -> Result<()> {
        let repository = &self.repositories[repo];
        let empty = Descriptor::of(media_type::OCI_EMPTY, b"{}");
        let layer = Descriptor::of(media_type, original);
        for (descriptor, bytes) in [(&empty, &b"{}"[..]), (&layer, original)] {
            if !repository.proves_blob(&descriptor.digest, descriptor.size)? {
                repository.upload_blob(&descriptor.digest, descriptor.size, None, &mut |offset| {
                    Ok(Box::new(&bytes[(offset as usize).min(bytes.len())..]))
                })?;
            }
        }
        let brief = |descriptor: &Descriptor| json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": ORIGINAL_INDEX_TYPE,
            "config": brief(&empty),
            "layers": [brief(&layer)],
            "subject": brief(subject),
        })
        .to_string();
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
        let put = repository.put_manifest(
            &descriptor.digest.to_string(),
            media_type::OCI_MANIFEST,
            manifest.as_bytes(),
        )?;
        if !put.subject_indexed {
            let listed =
                super::referrers::Entry::new(&descriptor, Some(ORIGINAL_INDEX_TYPE), &BTreeMap::new());
            super::referrers::merge(repository, &subject.digest, &[listed])?;
        }
        Ok(())
    }
}

/// Returns whether an error concerns the target as a whole, so that no other manifest will fare better.
fn is_fatal(error: &StoreError) -> bool {
    matches!(error, StoreError::Denied { .. })
}
