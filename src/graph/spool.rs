//! An append-only file of records, each a JSON line and, for content, the bytes after it.
//!
//! It keeps the manifests of a survey out of memory, and it is the journal from which a killed pack goes on: everything
//! needed to plan again stands in it. A torn last record, as a kill leaves it, is ignored and overwritten.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line that is read back, in bytes: far above what is ever written, to bound what a damaged file costs.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// The file, written from many threads.
#[derive(Debug)]
pub struct Spool {
    file: File,
    end: Mutex<u64>,
}

impl Spool {
    /// Starts at the end of what `file` validly holds, as [`Spool::replay`] found it (0 for a new file).
    #[must_use]
    pub fn new(file: File, end: u64) -> Self {
        Self { file, end: Mutex::new(end) }
    }

    /// Starts in a nameless temporary file that goes when it is closed.
    ///
    /// # Errors
    /// What the system says if no temporary file can be made.
    pub fn temporary() -> io::Result<Self> {
        Ok(Self::new(tempfile::tempfile()?, 0))
    }

    /// Appends a record without content.
    ///
    /// # Errors
    /// What the system says on writing.
    pub fn append<R: Serialize>(&self, record: &R) -> io::Result<()> {
        self.append_content(record, &[]).map(|_| ())
    }

    /// Appends a record and its content; returns the content's offset in the file, for [`Spool::read`].
    ///
    /// # Errors
    /// What the system says on writing.
    pub fn append_content<R: Serialize>(&self, record: &R, content: &[u8]) -> io::Result<u64> {
        let mut bytes = serde_json::to_vec(record)?;
        bytes.push(b'\n');
        let line = bytes.len() as u64;
        if !content.is_empty() {
            bytes.extend_from_slice(content);
            bytes.push(b'\n');
        }
        let mut end = self.end.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.file.write_all_at(&bytes, *end)?;
        let at = *end + line;
        *end += bytes.len() as u64;
        Ok(at)
    }

    /// Reads `length` bytes of content at `offset`.
    ///
    /// # Errors
    /// What the system says on reading.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// What the system says on syncing.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads records from the start of a file, calling `each` with the record and the offset of its content;
    /// `length_of` says how many content bytes follow a record. Returns the end of the last whole record.
    ///
    /// # Errors
    /// What the system says on reading. A record that is not whole or not of type `R` ends the reading without error.
    pub fn replay<R: DeserializeOwned>(
        file: &File,
        length_of: impl Fn(&R) -> u64,
        mut each: impl FnMut(R, u64),
    ) -> io::Result<u64> {
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        reader.seek(SeekFrom::Start(0))?;
        let mut at = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line)? as u64;
            if line.last() != Some(&b'\n') {
                return Ok(at);
            }
            let Ok(record) = serde_json::from_slice::<R>(&line) else {
                return Ok(at);
            };
            let content = length_of(&record);
            let rest = if content == 0 { 0 } else { content.saturating_add(1) };
            let Some(next) = (at + read).checked_add(rest).filter(|next| *next <= length) else {
                return Ok(at);
            };
            each(record, at + read);
            reader.seek_relative(i64::try_from(rest).unwrap_or(i64::MAX))?;
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_a_torn_tail_does_not() {
        let file = tempfile::tempfile().unwrap();
        let spool = Spool::new(file.try_clone().unwrap(), 0);
        spool.append(&0u64).unwrap();
        let at = spool.append_content(&5u64, b"he\nlo").unwrap();
        spool.append(&0u64).unwrap();
        assert_eq!(spool.read(at, 5).unwrap(), b"he\nlo");
        let whole = file.metadata().unwrap().len();
        for length in 0..=whole {
            let cut = tempfile::tempfile().unwrap();
            cut.write_all_at(&spool.read(0, length as usize).unwrap(), 0).unwrap();
            let mut seen = Vec::new();
            let end = Spool::replay(&cut, |n: &u64| *n, |n, at| seen.push((n, at))).unwrap();
            let expected = [(2, 0), (at + 6, 5), (whole, 0)];
            let want: Vec<u64> = expected.iter().filter(|(end, _)| *end <= length).map(|(_, n)| *n).collect();
            assert_eq!(seen.iter().map(|(n, _)| *n).collect::<Vec<_>>(), want, "cut at {length}");
            assert_eq!(
                end,
                expected.iter().map(|(end, _)| *end).filter(|end| *end <= length).max().unwrap_or(0)
            );
        }
    }
}
