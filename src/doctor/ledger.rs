//! What was written at a registry, so that it can be taken away again, whoever does it.
//!
//! Everything is noted before it is sent, and nothing is sent once the cleaning has begun: a signal that arrives in the
//! middle waits for the one request that is under way, and then cleans up.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::target::Target;
use super::{Finding, State, why};
use crate::oci::Digest;
use crate::store::registry::{Mount, Repository, UploadSession};
use crate::store::{Result, StoreError};

/// After how many requests without an answer the cleaning is given up.
const MOST_SILENT: u32 = 2;

/// What was written.
pub(super) enum Trace {
    /// A manifest, and the tag it was put under.
    Manifest(Repository, Digest, Option<String>),
    /// A blob.
    Blob(Repository, Digest),
    /// An upload that is open.
    Upload(Repository, UploadSession),
    /// A repository that was not there before, by its name.
    Repository(Repository),
}

/// What was written at a registry during an examination, and is to be taken away.
#[derive(Default)]
pub struct Ledger(Mutex<Written>);

#[derive(Default)]
struct Written {
    closed: bool,
    traces: Vec<Trace>,
}

/// What came of taking everything away.
#[derive(Default)]
pub(super) struct Cleaned {
    deleted: usize,
    left: Vec<String>,
    /// Repositories whose name stays.
    names: Vec<String>,
    /// Repositories in which something stays.
    filled: BTreeSet<String>,
    refused: Option<String>,
    manifests: Option<bool>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Written>> {
        let written = self.lock();
        if written.closed {
            let why = "the examination was interrupted".to_owned();
            return Err(StoreError::Invalid { place: "the scratch repository".to_owned(), why });
        }
        Ok(written)
    }

    /// Notes what is about to be written, and writes it.
    pub(super) fn write<T>(&self, trace: Trace, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut written = self.open()?;
        written.traces.push(trace);
        let outcome = write();
        if outcome.as_ref().is_err_and(is_refusal) {
            written.traces.pop();
        }
        outcome
    }

    /// Notes something that comes with what is written anyway.
    pub(super) fn note(&self, trace: Trace) {
        self.lock().traces.push(trace);
    }

    /// Opens an upload and gives it up again; returns the smallest chunk that the registry takes.
    pub(super) fn try_upload(&self, repository: &Repository) -> Result<u64> {
        let mut written = self.open()?;
        let session = repository.open_upload()?;
        let smallest = session.smallest_chunk();
        if repository.cancel_upload(&session).is_err() {
            written.traces.push(Trace::Upload(repository.clone(), session));
        }
        Ok(smallest)
    }

    /// Uploads a blob in chunks, the last one completed by an empty request; gives the upload up if that fails.
    pub(super) fn upload_chunks(
        &self,
        repository: &Repository,
        digest: &Digest,
        chunks: &[&[u8]],
    ) -> Result<bool> {
        let mut written = self.open()?;
        let mut session = repository.open_upload()?;
        written.traces.push(Trace::Blob(repository.clone(), digest.clone()));
        let mut offset = 0;
        let mut counted = true;
        let mut send = || {
            for chunk in chunks {
                let reached = repository.send_chunk(&mut session, offset, chunk)?;
                offset += chunk.len() as u64;
                counted &= reached.is_none_or(|reached| reached == offset);
            }
            repository.finish_upload(&session, digest)
        };
        let sent = send();
        if sent.as_ref().is_err_and(is_refusal) {
            written.traces.pop();
        }
        if sent.is_err() && repository.cancel_upload(&session).is_err() {
            written.traces.push(Trace::Upload(repository.clone(), session));
        }
        sent.map(|()| counted)
    }

    /// Asks for a blob of another repository; an upload that is opened instead is given up.
    pub(super) fn mount(&self, repository: &Repository, digest: &Digest, from: &str) -> Result<Mount> {
        let mut written = self.open()?;
        let mount = repository.mount_blob(digest, from)?;
        match &mount {
            Mount::Mounted => written.traces.push(Trace::Blob(repository.clone(), digest.clone())),
            // As a courtesy: where it can't be given up the registry's own cleaning ends it.
            Mount::Upload(session) => drop(repository.cancel_upload(session)),
            Mount::Refused => {}
        }
        Ok(mount)
    }

    /// Takes everything away again, the newest first. Nothing can be written afterwards; a second call finds nothing.
    pub(super) fn clean(&self) -> Cleaned {
        let mut written = self.lock();
        written.closed = true;
        let traces = std::mem::take(&mut written.traces);
        let mut cleaned = Cleaned::default();
        let mut silent = 0;
        for trace in traces.iter().rev() {
            if silent >= MOST_SILENT {
                cleaned.leave(trace, "the registry does not answer");
                continue;
            }
            let outcome = match trace {
                Trace::Manifest(repository, digest, tag) => {
                    let outcome = delete_manifest(repository, digest, tag.as_deref());
                    match &outcome {
                        Ok(true) => cleaned.manifests = Some(true),
                        Err(StoreError::Refused { .. } | StoreError::Denied { .. }) => {
                            cleaned.manifests.get_or_insert(false);
                        }
                        _ => {}
                    }
                    outcome
                }
                Trace::Blob(repository, digest) => found(repository.delete_blob(digest)),
                Trace::Upload(repository, session) => {
                    // A session that is gone already is as well.
                    found(repository.cancel_upload(session)).or_else(|error| match error {
                        StoreError::Refused { status: 404, .. } => Ok(false),
                        error => Err(error),
                    })
                }
                Trace::Repository(repository) => {
                    cleaned.names.push(repository.name().to_string());
                    Ok(false)
                }
            };
            match outcome {
                Ok(was_there) => cleaned.deleted += usize::from(was_there),
                Err(error) => {
                    silent += u32::from(matches!(error, StoreError::Unreachable { .. }));
                    cleaned.refused.get_or_insert_with(|| why(&error));
                    cleaned.leave(trace, &why(&error));
                }
            }
        }
        cleaned
    }

    /// Takes everything away and says in a sentence what came of it; nothing where there was nothing.
    pub fn sweep(&self) -> String {
        let cleaned = self.clean();
        match (cleaned.deleted, cleaned.left.is_empty()) {
            (0, true) if cleaned.names.is_empty() => String::new(),
            (_, true) => format!("what was written is deleted again{}", cleaned.empty_names()),
            _ => format!("could not be deleted again: {}{}", cleaned.left.join(", "), cleaned.empty_names()),
        }
    }
}

/// Returns whether an error says for sure that nothing was written.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Denied { .. } | StoreError::Refused { status: 400..=499, .. })
}

/// Deletes a manifest, and its tag where that outlives it.
fn delete_manifest(repository: &Repository, digest: &Digest, tag: Option<&str>) -> Result<bool> {
    let was_there = found(repository.delete_manifest(&digest.to_string()))?;
    if let Some(tag) = tag
        && was_there
        && let Ok(Some(descriptor)) = repository.head_manifest(tag)
        && descriptor.digest == *digest
    {
        found(repository.delete_manifest(tag))?;
    }
    Ok(was_there)
}

fn found(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Cleaned {
    fn leave(&mut self, trace: &Trace, why: &str) {
        match trace {
            Trace::Manifest(repository, ..) | Trace::Blob(repository, _) => {
                self.filled.insert(repository.name().to_string());
            }
            Trace::Upload(..) | Trace::Repository(_) => {}
        }
        let text = match trace {
            Trace::Manifest(repository, digest, tag) => {
                let tag = tag.as_ref().map_or(String::new(), |tag| format!(", tag {tag}"));
                format!("manifest {}@{digest}{tag} ({why})", repository.name())
            }
            Trace::Blob(repository, digest) => format!("blob {}@{digest} ({why})", repository.name()),
            Trace::Upload(repository, _) => format!("an open upload in {} ({why})", repository.name()),
            // A name is not taken away; whether anything is in it the other traces tell.
            Trace::Repository(repository) => return self.names.push(repository.name().to_string()),
        };
        self.left.push(text);
    }

    /// Says which names stay with nothing in them: `; the names A and B may stay in the catalogue, empty`.
    fn empty_names(&self) -> String {
        let names: Vec<&str> =
            self.names.iter().filter(|name| !self.filled.contains(*name)).map(String::as_str).collect();
        match &names[..] {
            [] => String::new(),
            [name] => format!("; the name {name} may stay in the catalogue, empty"),
            names => format!("; the names {} may stay in the catalogue, empty", names.join(" and ")),
        }
    }

    /// Makes a finding of it.
    pub(super) fn tell(self, target: &mut Target) {
        target.facts.deletes = self.manifests;
        if self.deleted == 0 && self.left.is_empty() {
            return;
        }
        let names = self.names.iter().map(|name| match self.filled.contains(name) {
            true => format!("the repository {name}"),
            false => format!("the empty repository {name}"),
        });
        target.left = self.left.iter().cloned().chain(names).collect();
        let stay = match target.left.len() {
            1 => "1 thing stays".to_owned(),
            count => format!("{count} things stay"),
        };
        let finding = match &self.refused {
            None => {
                let seen = format!(
                    "all that was written is deleted, its bytes with the next garbage collection{}",
                    self.empty_names()
                );
                Finding::new("delete", State::Ok, seen)
            }
            Some(why) => Finding::new(
                "delete",
                State::Warning,
                format!("not all that was written could be deleted ({why}); {stay}"),
            )
            .hint("a push needs no right to delete; what stays is listed below and may be removed by hand"),
        };
        target.add(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::{Access, Client, Options};

    #[test]
    fn nothing_is_written_once_the_cleaning_has_begun() {
        let client = Client::new(Options::default()).unwrap();
        // Nobody listens there: a request would be another error.
        let repository = client.repository(&"127.0.0.1:1/x".parse().unwrap(), Access::Push);
        let ledger = Ledger::default();
        assert_eq!(ledger.sweep(), "");
        let digest = Digest::sha256(b"x");
        assert!(matches!(ledger.try_upload(&repository), Err(StoreError::Invalid { .. })));
        assert!(matches!(ledger.mount(&repository, &digest, "y"), Err(StoreError::Invalid { .. })));
        let trace = Trace::Blob(repository.clone(), digest);
        assert!(ledger.write(trace, || -> Result<()> { panic!("it was written") }).is_err());
        assert_eq!(ledger.sweep(), "", "what was not written is not taken away");
    }
}
