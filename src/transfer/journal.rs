//! The journal beside an unfinished archive: what the plan is, and how much of it is done.
//!
//! It starts as the spool of the survey, so it pins what every name meant, and goes on with marks about blobs that are
//! durable in the file. It is readable by its owner only, locked while somebody works with it, and removed at the end.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::TransferError;
use crate::graph::spool::Spool;
use crate::graph::survey::Finding;
use crate::oci::{Digest, Reference};

/// Version of the journal's lines; a journal of another version is started over.
const VERSION: u32 = 1;

/// One line about the transfer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Mark {
    /// The first line.
    Begin {
        /// Version of the journal.
        version: u32,
        /// Digest over the arguments that decide the result.
        arguments: Digest,
        /// When the names were resolved, in seconds since 1970.
        resolved: u64,
    },
    /// A name that could not be had; the plan is without it.
    Unresolved {
        /// The name.
        name: Reference,
    },
    /// What is written now. Places in a plan mean nothing in another, so what was marked before is void.
    Plan {
        /// The ID of the bundle without gaps.
        head: Digest,
    },
    /// Blobs, by their place in the plan, that are whole and durable in the file.
    Done {
        /// Places.
        blobs: Vec<u32>,
    },
    /// A blob of which the first bytes are durable in the file.
    Reached {
        /// Its place in the plan.
        blob: u32,
        /// How many bytes.
        bytes: u64,
    },
}

/// A line of either kind; the tags tell them apart.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Mark(Mark),
    Finding(Finding),
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Earlier {
    /// What its survey found, with the places of contents in the spool.
    pub findings: Vec<(Finding, u64)>,
    /// Names that its survey could not have.
    pub unresolved: Vec<Reference>,
    /// The ID of the bundle that was being written.
    pub plan: Option<Digest>,
    /// Places of blobs that are whole in the file.
    pub done: Vec<u32>,
    /// How far begun blobs came: place, bytes.
    pub reached: Vec<(u32, u64)>,
    /// How long ago the names were resolved.
    pub age: Duration,
}

/// An open, locked journal.
#[derive(Debug)]
pub struct Journal {
    /// Where it lies.
    pub path: PathBuf,
    /// What an earlier run with the same arguments left, if its survey was complete.
    pub earlier: Option<Earlier>,
    /// Whether an earlier run with the same arguments, or one that is to be restarted with others, began it.
    pub is_taken_up: bool,
    file: File,
    end: u64,
}

/// Opens a journal that nobody else works with, or makes it, for its owner only. On a file system without locks it is
/// opened all the same.
///
/// # Errors
/// [`TransferError::Busy`] with `busy` if another process holds it, [`TransferError::Local`] for what the system says.
pub(crate) fn open_locked(path: &Path, busy: &Path) -> Result<File, TransferError> {
    let local = |action| move |source| TransferError::Local { path: path.to_owned(), action, source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(local("the journal can't be opened"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TransferError::Busy(busy.to_owned())),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(local("the journal can't be locked")(error)),
    }
}

impl Journal {
    /// Opens the journal at `path`, or starts one, for the arguments with this digest.
    ///
    /// `is_unfinished` says whether a file is there that the journal of an earlier run speaks of; `restart` lets other
    /// arguments take it over.
    ///
    /// # Errors
    /// [`TransferError::Busy`] if another process holds it, [`TransferError::OtherArguments`] if it belongs to other
    /// arguments and their file is unfinished, [`TransferError::Local`] for what the system says.
    pub fn open(
        path: &Path,
        partial: &Path,
        is_unfinished: bool,
        arguments: &Digest,
        restart: bool,
    ) -> Result<Self, TransferError> {
        let local = |action| move |source| TransferError::Local { path: path.to_owned(), action, source };
        // Without locks the exclusive creation of the partial file still guards it.
        let file = open_locked(path, partial)?;
        let mut earlier = Earlier::default();
        let (mut begun, mut complete) = (None, false);
        let length = |line: &Line| match line {
            Line::Finding(Finding::Content { size, .. }) => *size,
            _ => 0,
        };
        let end = Spool::replay(&file, length, |line, at| match line {
            Line::Mark(Mark::Begin { version, arguments, resolved }) => {
                begun = Some((version, arguments, resolved));
            }
            Line::Mark(Mark::Unresolved { name }) => earlier.unresolved.push(name),
            Line::Mark(Mark::Plan { head }) => {
                earlier.plan = Some(head);
                earlier.done.clear();
                earlier.reached.clear();
            }
            Line::Mark(Mark::Done { blobs }) => earlier.done.extend(blobs),
            Line::Mark(Mark::Reached { blob, bytes }) => earlier.reached.push((blob, bytes)),
            Line::Finding(Finding::Complete) => complete = true,
            Line::Finding(finding) => earlier.findings.push((finding, at)),
        })
        .map_err(local("the journal can't be read"))?;
        let is_other = begun.as_ref().is_some_and(|(_, begun, _)| begun != arguments);
        let is_taken_up = begun.is_some() && (!is_other || restart);
        let mut journal = Self { path: path.to_owned(), earlier: None, is_taken_up, file, end };
        match begun {
            Some((VERSION, ref begun, resolved)) if complete && begun == arguments => {
                let resolved = UNIX_EPOCH + Duration::from_secs(resolved);
                earlier.age = SystemTime::now().duration_since(resolved).unwrap_or_default();
                journal.earlier = Some(earlier);
            }
            _ if is_other && is_unfinished && !restart => {
                return Err(TransferError::OtherArguments(partial.to_owned()));
            }
            _ => journal.start_over(arguments)?,
        }
        Ok(journal)
    }

    /// Forgets what an earlier run left and begins anew.
    ///
    /// # Errors
    /// [`TransferError::Local`] for what the system says.
    pub fn start_over(&mut self, arguments: &Digest) -> Result<(), TransferError> {
        let resolved = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let begin = Mark::Begin { version: VERSION, arguments: arguments.clone(), resolved };
        let started = self.file.set_len(0).and_then(|()| {
            let mut line = serde_json::to_vec(&begin)?;
            line.push(b'\n');
            std::os::unix::fs::FileExt::write_all_at(&self.file, &line, 0)?;
            Ok(line.len() as u64)
        });
        self.end = started.map_err(|source| TransferError::Local {
            path: self.path.clone(),
            action: "the journal can't be started",
            source,
        })?;
        self.earlier = None;
        Ok(())
    }

    /// Returns the spool that continues the journal; it shares the file and the lock.
    ///
    /// # Errors
    /// [`TransferError::Local`] if the file handle can't be shared.
    pub fn spool(&self) -> Result<Spool, TransferError> {
        let file = self.file.try_clone().map_err(|source| TransferError::Local {
            path: self.path.clone(),
            action: "the journal can't be shared",
            source,
        })?;
        Ok(Spool::new(file, self.end))
    }

    /// Removes the journal.
    ///
    /// # Errors
    /// [`TransferError::Local`] for what the system says.
    pub fn remove(self) -> Result<(), TransferError> {
        std::fs::remove_file(&self.path).map_err(|source| TransferError::Local {
            path: self.path.clone(),
            action: "the finished journal can't be removed",
            source,
        })
    }
}

impl Drop for Journal {
    /// Unlocks: closing alone does not while a child process that is just being started holds a copy of the handle.
    fn drop(&mut self) {
        self.file.unlock().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, arguments: &str) -> Result<Journal, TransferError> {
        opened(folder, arguments, false)
    }

    fn opened(folder: &Path, arguments: &str, restart: bool) -> Result<Journal, TransferError> {
        let (journal, partial) = (folder.join("j"), folder.join("p"));
        let arguments = Digest::sha256(arguments.as_bytes());
        Journal::open(&journal, &partial, partial.exists(), &arguments, restart)
    }

    #[test]
    fn a_complete_survey_is_found_again_and_an_incomplete_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), "a").unwrap();
        let spool = journal.spool().unwrap();
        spool.append_content(&Finding::Content { digest: Digest::sha256(b"x"), size: 3 }, b"a\nb").unwrap();
        drop((journal, spool));
        let journal = open(folder.path(), "a").unwrap();
        assert!(journal.earlier.is_none(), "the survey was not complete");
        let spool = journal.spool().unwrap();
        spool.append_content(&Finding::Content { digest: Digest::sha256(b"x"), size: 3 }, b"a\nb").unwrap();
        spool.append(&Finding::Complete).unwrap();
        spool.append(&Mark::Done { blobs: vec![4, 2] }).unwrap();
        spool.append(&Mark::Reached { blob: 7, bytes: 99 }).unwrap();
        drop((journal, spool));
        let journal = open(folder.path(), "a").unwrap();
        let earlier = journal.earlier.as_ref().unwrap();
        assert_eq!((&earlier.done[..], &earlier.reached[..]), (&[4, 2][..], &[(7, 99)][..]));
        let [(Finding::Content { .. }, at)] = earlier.findings[..] else { panic!("{:?}", earlier.findings) };
        assert_eq!(journal.spool().unwrap().read(at, 3).unwrap(), b"a\nb");
    }

    #[test]
    fn other_arguments_are_refused_only_where_there_is_something_to_lose() {
        let folder = tempfile::tempdir().unwrap();
        let complete = |arguments| {
            let journal = open(folder.path(), arguments).unwrap();
            journal.spool().unwrap().append(&Finding::Complete).unwrap();
        };
        complete("a");
        complete("b");
        std::fs::write(folder.path().join("p"), b"").unwrap();
        assert!(matches!(open(folder.path(), "a"), Err(TransferError::OtherArguments(_))));
        let journal = open(folder.path(), "b").unwrap();
        assert!(journal.earlier.is_some() && journal.is_taken_up);
        drop(journal);
        let journal = opened(folder.path(), "a", true).unwrap();
        assert!(journal.earlier.is_none() && journal.is_taken_up, "a restart may ask for something else");
    }

    #[test]
    fn only_one_process_works_with_a_journal_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let held = open(folder.path(), "a").unwrap();
        assert_eq!(std::fs::metadata(&held.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(open(folder.path(), "a"), Err(TransferError::Busy(_))));
        drop(held);
        assert!(open(folder.path(), "a").is_ok());
    }
}
