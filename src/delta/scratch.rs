//! Working space on disk: files without names, which the system removes however the process ends.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder for working files.
#[derive(Debug, Clone)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Works in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes an empty working file.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(&self) -> io::Result<StreamWriter> {
        let file = tempfile::tempfile_in(&self.folder)?;
        Ok(StreamWriter { out: BufWriter::with_capacity(256 * 1024, file), length: 0 })
    }
}

/// A working file that is being written.
#[derive(Debug)]
pub struct StreamWriter {
    out: BufWriter<File>,
    length: u64,
}

impl StreamWriter {
    /// Ends writing.
    ///
    /// # Errors
    /// What the system says on writing the rest.
    pub fn finish(self) -> io::Result<Stream> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Stream { file: Arc::new(file), length: self.length })
    }
}

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A finished working file; clones share it.
#[derive(Debug, Clone)]
pub struct Stream {
    file: Arc<File>,
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
        self.file.read_exact_at(bytes, offset)
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
        let count = self.stream.file.read_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
