//! A repository as a survey asks it, with what the stocktake knows beyond it: the tags, and that the registry is gone.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, OnceLock};

use crate::oci::{Descriptor, Digest};
use crate::store::registry::Repository;
use crate::store::{Attached, Result, Source, StoreError, chain};

/// Returns whether an error is about the registry as a whole and not about one image: the same would befall all others.
pub(super) fn is_fatal(error: &StoreError) -> bool {
    match error {
        StoreError::NotFound { .. }
        | StoreError::Damaged { .. }
        | StoreError::Manifest { .. }
        | StoreError::Invalid { .. } => false,
        // A storage that lost one manifest answers 500 to it for ever; busy or absent servers say so.
        StoreError::Refused { status, .. } => matches!(status, 408 | 429 | 502..=504),
        _ => true,
    }
}

/// Set by the first fatal error, to what it said: nobody asks the registry any more, each with its own retries.
#[derive(Debug, Default)]
pub(super) struct Halt(OnceLock<String>);

impl Halt {
    /// Notes a fatal error.
    pub fn watch<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && is_fatal(error)
        {
            self.0.get_or_init(|| chain(error));
        }
        result
    }
}

/// Stands for a request that was not made.
#[derive(Debug, thiserror::Error)]
#[error("nothing more was asked after an earlier failure: {0}")]
struct NotAsked(String);

/// Returns whether an error stands for a request that was not made because an earlier one had failed.
pub(super) fn is_consequence(error: &StoreError) -> bool {
    matches!(error, StoreError::Unreachable { source, .. } if source.is::<NotAsked>())
}

/// A repository, watched.
pub(super) struct Watched {
    pub repository: Repository,
    /// All of its tags; none where they were not listed.
    pub tags: Option<Arc<HashSet<String>>>,
    pub halt: Arc<Halt>,
}

impl Watched {
    fn ask<T>(&self, what: &str, ask: impl FnOnce(&Repository) -> Result<T>) -> Result<T> {
        if let Some(cause) = self.halt.0.get() {
            return Err(StoreError::Unreachable {
                place: self.repository.name().registry.clone(),
                what: what.to_owned(),
                source: Box::new(NotAsked(cause.clone())),
            });
        }
        self.halt.watch(ask(&self.repository))
    }

    /// Proves a blob by a byte of it.
    pub fn proves(&self, digest: &Digest, size: u64) -> Result<bool> {
        self.ask(&format!("blob {digest}"), |repository| repository.proves_blob(digest, size))
    }
}

impl Source for Watched {
    fn place(&self) -> String {
        self.repository.place()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        self.ask(&format!("manifest {selector}"), |repository| repository.resolve(selector))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.ask(&format!("manifest {}", descriptor.digest), |repository| repository.manifest(descriptor))
    }

    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let may_be = |tag: &str| self.tags.as_ref().is_none_or(|tags| tags.contains(tag));
        self.ask(&format!("what is attached to {subject}"), |repository| {
            repository.attached_by(subject, may_be)
        })
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if self.halt.0.get().is_some() {
            return Ok(Box::new(std::io::empty()));
        }
        self.repository.open_blob(digest, size, offset)
    }
}
