//! The journal of an inventory that is being taken: what was asked, and line by line what was found.
//!
//! It is readable by its owner only, locked while somebody works with it, and removed at the end. The lists of
//! repositories and tags stand in it too, so that a run that is taken up asks for nothing twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::StocktakeError;
use crate::inventory::{FailedRow, ImageRow, now};
use crate::oci::Digest;
use crate::transfer::TransferError;
use crate::transfer::journal::open_locked;

/// Version of the lines; a journal of another version is begun anew.
const VERSION: u32 = 1;

/// What a batch of images of one repository came to.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    /// The repository, relative to the place.
    pub repository: String,
    /// Tags and digests that are done with.
    pub selectors: Vec<String>,
    /// Images that are there.
    pub images: Vec<ImageRow>,
    /// Images that could not be read.
    pub failed: Vec<FailedRow>,
    /// What the rows' numbers mean.
    pub media_types: Vec<String>,
    /// Content that is there: digest, size, number of its media type.
    pub rows: Vec<(Digest, u64, u32)>,
    /// Blobs that are listed and not there.
    pub missing: Vec<Digest>,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Line {
    /// The first line.
    Begin {
        /// Version of the lines.
        version: u32,
        /// Digest over what was asked.
        question: Digest,
        /// When, RFC 3339 in UTC.
        begun: String,
    },
    /// The repositories below a path, as the catalogue listed them.
    Catalogue {
        /// The path; empty for the whole registry.
        prefix: String,
        /// Their paths at the registry.
        repositories: Vec<String>,
    },
    /// The tags of a repository.
    Tags {
        /// The repository, relative to the place.
        repository: String,
        /// All of them.
        tags: Vec<String>,
    },
    /// A batch that was looked at.
    Found(Found),
}

/// What an earlier run left.
#[derive(Debug)]
pub(super) struct Earlier {
    /// Whether there was one.
    pub goes_on: bool,
    /// When the first run began.
    pub begun: String,
    /// Repositories by the path below which they were listed.
    pub catalogues: HashMap<String, Vec<String>>,
    /// Tags by repository.
    pub tags: HashMap<String, Vec<String>>,
    /// What was found.
    pub found: Vec<Found>,
}

impl Earlier {
    /// Nothing, now.
    pub fn new() -> Self {
        Self {
            goes_on: false,
            begun: now(),
            catalogues: HashMap::new(),
            tags: HashMap::new(),
            found: Vec::new(),
        }
    }
}

/// An open, locked journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    end: Mutex<u64>,
}

impl Journal {
    /// Opens the journal at `path`, or begins one, for the question with this digest.
    ///
    /// # Errors
    /// [`StocktakeError::OtherArguments`] if it holds answers to another question and is not to be restarted,
    /// [`TransferError::Busy`] if another process holds it, [`TransferError::Local`] for what the system says.
    pub fn open(path: &Path, question: &Digest, restart: bool) -> Result<(Self, Earlier), StocktakeError> {
        let local = |action| move |source| TransferError::Local { path: path.to_owned(), action, source };
        // Without locks two runs at once would each ask everything, and the last one win.
        let file = open_locked(path, path)?;
        let (earlier, end) = if restart {
            (None, 0)
        } else {
            replay(&file, question).map_err(|error| match error {
                Replay::Other => StocktakeError::OtherArguments(path.to_owned()),
                Replay::Io(error) => local("the journal can't be read")(error).into(),
            })?
        };
        file.set_len(end).map_err(local("the journal can't be written"))?;
        let journal = Self { path: path.to_owned(), file, end: Mutex::new(end) };
        if let Some(earlier) = earlier {
            return Ok((journal, earlier));
        }
        let earlier = Earlier::new();
        let (question, begun) = (question.clone(), earlier.begun.clone());
        journal.append(&Line::Begin { version: VERSION, question, begun })?;
        Ok((journal, earlier))
    }

    /// Writes a line, durably.
    ///
    /// # Errors
    /// [`TransferError::Local`] for what the system says.
    pub fn append(&self, line: &Line) -> Result<(), TransferError> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.write_all_at(&bytes, *end)?;
            self.file.sync_data()?;
            Ok(bytes.len() as u64)
        });
        *end += written.map_err(|source| TransferError::Local {
            path: self.path.clone(),
            action: "the journal can't be written",
            source,
        })?;
        Ok(())
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

/// Why a journal can't be taken up.
enum Replay {
    /// It was begun for another question, or is no journal at all.
    Other,
    /// It can't be read.
    Io(io::Error),
}

/// Reads what an earlier run left, with the end of the last whole line; none where there is nothing to go on from.
fn replay(file: &File, question: &Digest) -> Result<(Option<Earlier>, u64), Replay> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let (mut earlier, mut is_ours, mut at) = (Earlier::new(), false, 0);
    let mut begun_for = None;
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(Replay::Io)?;
        // What a kill tore off, and all after it, is asked again.
        let line = match text.last() {
            Some(b'\n') => serde_json::from_slice::<Line>(&text).ok(),
            _ => None,
        };
        match line {
            Some(Line::Begin { version, question: asked, begun }) if begun_for.is_none() => {
                is_ours = version == VERSION && asked == *question;
                begun_for = Some(asked);
                earlier.begun = begun;
            }
            Some(Line::Catalogue { prefix, repositories }) if begun_for.is_some() => {
                earlier.catalogues.insert(prefix, repositories);
            }
            Some(Line::Tags { repository, tags }) if begun_for.is_some() => {
                earlier.tags.insert(repository, tags);
            }
            Some(Line::Found(found)) if begun_for.is_some() => earlier.found.push(found),
            // A file of somebody else's is not written over; a torn first line is nobody's.
            _ if begun_for.is_none()
                && !text.is_empty()
                && !b"{\"begin\"".starts_with(&text[..text.len().min(8)]) =>
            {
                return Err(Replay::Other);
            }
            _ => break,
        }
        at += read as u64;
    }
    earlier.goes_on = !(earlier.catalogues.is_empty() && earlier.tags.is_empty() && earlier.found.is_empty());
    match (earlier.goes_on, is_ours) {
        (false, _) => Ok((None, 0)),
        (true, true) => Ok((Some(earlier), at)),
        (true, false) => Err(Replay::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, question: &str) -> Result<(Journal, Earlier), StocktakeError> {
        Journal::open(path, &Digest::sha256(question.as_bytes()), false)
    }

    fn filled(path: &Path) {
        let (journal, _) = open(path, "q").unwrap();
        journal
            .append(&Line::Catalogue { prefix: String::new(), repositories: vec!["a".to_owned()] })
            .unwrap();
        journal.append(&Line::Tags { repository: "a".to_owned(), tags: vec!["v1".to_owned()] }).unwrap();
        let rows = vec![(Digest::sha256(b"x"), 3, 0)];
        let found = Found { repository: "a".to_owned(), rows, ..Found::default() };
        journal.append(&Line::Found(found)).unwrap();
    }

    #[test]
    fn whole_lines_come_back_and_a_torn_one_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.json.partial");
        filled(&path);
        let whole = std::fs::read(&path).unwrap();
        let begun = open(&path, "q").unwrap().1.begun;
        let ends: Vec<usize> =
            whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (journal, earlier) = open(&path, "q").unwrap();
            let lines = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(earlier.goes_on, lines >= 2, "cut at {length}");
            assert_eq!(earlier.catalogues.len(), usize::from(lines >= 2), "cut at {length}");
            assert_eq!(earlier.tags.len(), usize::from(lines >= 3), "cut at {length}");
            assert_eq!(earlier.found.len(), usize::from(lines >= 4), "cut at {length}");
            assert!(lines < 2 || earlier.begun == begun);
            journal.append(&Line::Tags { repository: "b".to_owned(), tags: Vec::new() }).unwrap();
            drop(journal);
            assert!(open(&path, "q").unwrap().1.tags.contains_key("b"), "cut at {length}");
        }
    }

    #[test]
    fn another_question_and_another_file_are_left_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.json.partial");
        filled(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(open(&path, "other"), Err(StocktakeError::OtherArguments(_))));
        assert!(open(&path, "q").unwrap().1.goes_on, "a refusal changes nothing");
        let (journal, earlier) = Journal::open(&path, &Digest::sha256(b"other"), true).unwrap();
        assert!(!earlier.goes_on);
        assert!(matches!(open(&path, "other"), Err(StocktakeError::Local(TransferError::Busy(_)))));
        drop(journal);
        assert!(open(&path, "q").is_ok(), "nothing was found for it");
        std::fs::write(&path, "notes of mine").unwrap();
        assert!(matches!(open(&path, "q"), Err(StocktakeError::OtherArguments(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"notes of mine");
    }
}
