//! Working space on disk: files without names, which the system removes however the process ends.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder for working files; clones share its limit.
#[derive(Debug, Clone)]
pub struct Scratch {
    folder: Arc<Path>,
    budget: Option<Arc<Budget>>,
}

/// How much the working files of a folder may hold together.
#[derive(Debug)]
struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Scratch {
    /// Works in `folder`, with as much as there is room for.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), budget: None }
    }

    /// Works in `folder` with files of at most `limit` bytes together, those being written included.
    ///
    /// What would go beyond it fails with [`io::ErrorKind::StorageFull`]; a file that is dropped gives its bytes back.
    #[must_use]
    pub fn with_limit(folder: &Path, limit: u64) -> Self {
        let budget = Budget { limit, used: AtomicU64::new(0) };
        Self { folder: folder.into(), budget: Some(Arc::new(budget)) }
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns how many bytes the working files hold together; zero where there is no limit, since nobody counts then.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.budget.as_ref().map_or(0, |budget| budget.used.load(Ordering::Relaxed))
    }

    /// Makes an empty working file.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(&self) -> io::Result<StreamWriter> {
        let file = tempfile::tempfile_in(&self.folder)?;
        let lease = Lease { scratch: self.clone(), held: 0 };
        Ok(StreamWriter { out: BufWriter::with_capacity(256 * 1024, file), length: 0, lease })
    }
}

/// The bytes that one working file holds of the limit.
#[derive(Debug)]
struct Lease {
    scratch: Scratch,
    held: u64,
}

impl Lease {
    /// Takes `count` more.
    fn take(&mut self, count: u64) -> io::Result<()> {
        if let Some(budget) = &self.scratch.budget {
            let more = |used: u64| used.checked_add(count).filter(|used| *used <= budget.limit);
            if budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
                return Err(self.full(&format!("they may take {} bytes together", budget.limit)));
            }
            self.held += count;
        }
        Ok(())
    }

    /// Gives back `count`, which were not written after all.
    fn give_back(&mut self, count: u64) {
        if let Some(budget) = &self.scratch.budget {
            budget.used.fetch_sub(count, Ordering::Relaxed);
            self.held -= count;
        }
    }

    /// Names the folder where the system says only that something is full.
    fn named(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.full(&error),
            _ => error,
        }
    }

    fn full(&self, cause: &dyn Display) -> io::Error {
        let folder = self.scratch.folder.display();
        let what =
            format!("no room for working files in `{folder}`: {cause} (`--scratch` names another folder)");
        io::Error::new(io::ErrorKind::StorageFull, what)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

/// A working file that is being written.
#[derive(Debug)]
pub struct StreamWriter {
    out: BufWriter<File>,
    length: u64,
    lease: Lease,
}

impl StreamWriter {
    /// Ends writing.
    ///
    /// # Errors
    /// What the system says on writing the rest; [`io::ErrorKind::StorageFull`] names the folder.
    pub fn finish(self) -> io::Result<Stream> {
        let Self { out, length, lease } = self;
        let file = out.into_inner().map_err(|error| lease.named(error.into_error()))?;
        Ok(Stream { file: Arc::new(Finished { file, _lease: lease }), length })
    }
}

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lease.take(bytes.len() as u64)?;
        let count = match self.out.write(bytes) {
            Ok(count) => count,
            Err(error) => {
                self.lease.give_back(bytes.len() as u64);
                return Err(self.lease.named(error));
            }
        };
        self.lease.give_back((bytes.len() - count) as u64);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().map_err(|error| self.lease.named(error))
    }
}

/// The file of a [`Stream`]; dropped with the last clone.
#[derive(Debug)]
struct Finished {
    file: File,
    _lease: Lease,
}

/// A finished working file; clones share it.
#[derive(Debug, Clone)]
pub struct Stream {
    file: Arc<Finished>,
    length: u64,
}

impl Stream {
    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Returns whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads exactly the bytes at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] beyond the end, else what the system says.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.file.read_exact_at(bytes, offset)
    }

    /// Reads from `offset` on.
    #[must_use]
    pub fn reader(&self, offset: u64) -> StreamReader {
        StreamReader { stream: self.clone(), offset }
    }
}

/// Reads a working file in sequence; unbuffered.
#[derive(Debug)]
pub struct StreamReader {
    stream: Stream,
    offset: u64,
}

impl Read for StreamReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.file.file.read_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_share_the_limit_and_give_back() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::with_limit(folder.path(), 1000);
        let mut one = scratch.file().unwrap();
        one.write_all(&[1; 600]).unwrap();
        let mut two = scratch.clone().file().unwrap();
        two.write_all(&[2; 400]).unwrap();
        assert_eq!(scratch.used(), 1000);
        let error = two.write_all(&[2]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
        assert!(error.to_string().contains("`--scratch`"), "{error}");

        let one = one.finish().unwrap();
        let again = one.clone();
        drop(one);
        assert_eq!(scratch.used(), 1000, "a clone holds the file");
        drop(again);
        assert_eq!(scratch.used(), 400);
        two.write_all(&[2; 600]).unwrap();
        let two = two.finish().unwrap();
        assert_eq!(two.len(), 1000);
        drop(two);
        assert_eq!(scratch.used(), 0);
        let mut dropped = scratch.file().unwrap();
        dropped.write_all(&[3; 1000]).unwrap();
        drop(dropped);
        assert_eq!(scratch.used(), 0, "a file that was never finished");
    }

    #[test]
    fn a_full_disk_is_told_with_the_folder() {
        let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
        let lease = Lease { scratch: Scratch::new(Path::new("/some/folder")), held: 0 };
        let mut writer = StreamWriter { out: BufWriter::new(full), length: 0, lease };
        writer.write_all(b"x").unwrap();
        let error = writer.flush().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("`/some/folder`"), "{error}");
    }
}
