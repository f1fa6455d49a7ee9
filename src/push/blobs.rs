//! The first stage of a push: all blobs, each uploaded once however many repositories need it.

use std::sync::Arc;

use super::report::Counted;
use super::send::{sources_fault, upload};
use super::{Prepared, PresenceProof, PushError, RepoId, lock};
use crate::graph::NodeId;
use crate::oci::Digest;
use crate::store::registry::{Mount, UploadSession};
use crate::store::{Result, Source, StoreError};
use crate::transfer::{Progress, for_each};

impl Prepared<'_> {
    /// Returns whether a repository of the target has a blob.
    pub(super) fn is_present(&self, repo: RepoId, id: NodeId) -> Result<bool> {
        let (digest, size) = (self.graph.digest(id), self.graph.node(id).size);
        let repository = &self.repositories[repo];
        match self.options.presence {
            // Nothing of a blob of no bytes can be read; it is always carried and uploaded.
            _ if size == 0 => Ok(false),
            PresenceProof::Read => repository.proves_blob(digest, size),
            PresenceProof::Head => Ok(repository.head_blob(digest)?.is_some()),
        }
    }

    pub(super) fn bring_blobs(&self, progress: &dyn Progress) -> std::result::Result<(), PushError> {
        let bytes = self.blobs.keys().map(|id| self.graph.node(*id).size).sum();
        progress.begin(self.blobs.len(), bytes, 0);
        for_each(self.options.jobs, self.blobs.len(), |at| {
            let Some((id, repos)) = self.blobs.get_index(at) else { return Ok(()) };
            let (digest, size) = (self.graph.digest(*id), self.graph.node(*id).size);
            progress.start(digest, size);
            let outcome = self.bring_blob(*id, repos, progress);
            progress.finish(digest);
            outcome
        })
    }

    /// Brings one blob to all repositories that need it.
    fn bring_blob(
        &self,
        id: NodeId,
        repos: &[RepoId],
        progress: &dyn Progress,
    ) -> std::result::Result<(), PushError> {
        let size = self.graph.node(id).size;
        let mut home = self.relied.get(&id).copied();
        let mut lacking = Vec::new();
        for repo in repos {
            match self.was_present(*repo, id) {
                Ok(true) => {
                    home.get_or_insert(*repo);
                    self.state.counters.blob(Counted::Present, size);
                }
                Ok(false) => lacking.push(*repo),
                Err(error) => self.blob_failed(*repo, id, error)?,
            }
        }
        if lacking.is_empty() {
            progress.advance(self.graph.digest(id), size);
        }
        for repo in lacking {
            match self.give(repo, id, home, progress) {
                Ok(()) => {
                    home.get_or_insert(repo);
                }
                Err(error) => self.blob_failed(repo, id, error)?,
            }
        }
        Ok(())
    }

    /// Brings a blob to one repository: from `home`, another repository that surely has it, or by upload.
    fn give(&self, repo: RepoId, id: NodeId, home: Option<RepoId>, progress: &dyn Progress) -> Result<()> {
        let (digest, size) = (self.graph.digest(id), self.graph.node(id).size);
        let mut session = None;
        if let Some(home) = home
            && size > 0
        {
            match self.repositories[repo].mount_blob(digest, &self.repositories[home].name().repository)? {
                Mount::Mounted => {
                    self.state.counters.blob(Counted::Mounted, size);
                    return Ok(());
                }
                Mount::Upload(opened) => session = Some(opened),
                Mount::Refused => {}
            }
        }
        self.send(repo, id, session, progress)
    }

    /// Uploads a blob from the source, or from the target's own repository where only that has it.
    pub(super) fn send(
        &self,
        repo: RepoId,
        id: NodeId,
        session: Option<UploadSession>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (digest, node) = (self.graph.digest(id), self.graph.node(id));
        if let Some(rebuild) = self.rebuilds.get(&id) {
            self.send_rebuilt(repo, id, rebuild, session, progress)?;
            self.state.counters.blob(Counted::Uploaded, node.size);
            self.state.counters.blob(Counted::Rebuilt, node.size);
            return Ok(());
        }
        let source: &dyn Source = match self.relied.get(&id) {
            Some(home) => &self.repositories[*home],
            None => &*self.sources[usize::from(node.source)],
        };
        upload(&self.repositories[repo], source, digest, node.size, session, progress)?;
        self.state.counters.blob(Counted::Uploaded, node.size);
        Ok(())
    }

    /// Notes that a blob could not be brought, or ends the push where it is not to go on.
    fn blob_failed(&self, repo: RepoId, id: NodeId, error: StoreError) -> std::result::Result<(), PushError> {
        if is_repository_unknown(&error) {
            return Err(PushError::NoRepositories(self.unknown_repositories(repo)));
        }
        let (error, is_lost) = match sources_fault(error) {
            Ok(fault) => {
                let is_lost = is_loss(&fault);
                (Arc::new(fault), is_lost)
            }
            Err(own) => (Arc::new(own), false),
        };
        if is_lost {
            lock(&self.state.lost).insert(id);
        }
        // What the target had when it was asked and lost since costs the images that need it; the rest is in hand.
        let depends = self.relied.contains_key(&id) || self.rebuilds.contains_key(&id);
        let goes_on = self.options.keep_going || (is_lost && depends);
        if !goes_on {
            let digest: Digest = self.graph.digest(id).clone();
            return Err(PushError::Blob { image: self.image_needing(repo, id), digest, source: error });
        }
        self.fail(repo, id, error, false);
        Ok(())
    }

    /// Returns the name of an image that needs a node in a repository.
    fn image_needing(&self, repo: RepoId, id: NodeId) -> crate::oci::Reference {
        let images = self.going();
        let mut in_repo = images.filter(|(_, target)| target.1 == repo).map(|(image, _)| image);
        let found = in_repo.find(|image| self.graph.image_closure(image).contains(&id));
        found.unwrap_or(&self.graph.images[0]).name.clone()
    }

    /// Lists the repositories of this push that the registry does not know.
    fn unknown_repositories(&self, sure: RepoId) -> Vec<String> {
        let unknown = std::sync::Mutex::new(vec![self.repositories[sure].name().to_string()]);
        let asked = for_each(self.options.jobs, self.own, |at| {
            if at != sure && matches!(self.repositories[at].tags(), Err(StoreError::NotFound { .. })) {
                lock(&unknown).push(self.repositories[at].name().to_string());
            }
            Ok::<(), ()>(())
        });
        debug_assert!(asked.is_ok());
        let mut unknown = unknown.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        unknown.sort();
        unknown
    }
}

/// Returns whether a source has the content no more, or not as it was; not being reached is no loss.
fn is_loss(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. } | StoreError::Damaged { .. } | StoreError::Io { .. })
}

/// Returns whether a registry refused an upload because the repository must be made first.
fn is_repository_unknown(error: &StoreError) -> bool {
    match error {
        StoreError::Refused { status: 404, messages, .. } => messages
            .iter()
            .any(|message| matches!(message.code.as_str(), "NAME_UNKNOWN" | "RepositoryNotFoundException")),
        _ => false,
    }
}
