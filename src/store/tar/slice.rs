//! A range of an open file.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Reads a range of a file with `pread`, so that many readers share one open file.
#[derive(Debug)]
pub struct FileSlice<F> {
    file: F,
    position: u64,
    end: u64,
}

impl<F: Borrow<File>> FileSlice<F> {
    /// Makes a reader over `length` bytes from byte `start` that begins `skip` bytes into them; skipping more than
    /// there are leaves none.
    #[must_use]
    pub fn new(file: F, start: u64, length: u64, skip: u64) -> Self {
        let end = start.saturating_add(length);
        Self { file, position: start.saturating_add(skip).min(end), end }
    }

    /// Returns how many bytes are left, if the file is as long as it was said to be.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.end - self.position
    }
}

impl<F: Borrow<File>> Read for FileSlice<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining()).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.borrow().read_at(&mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}
