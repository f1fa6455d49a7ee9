//! Reading pieces of a base's stream without a call to the system for each.

use std::io;

use crate::delta::scratch::Stream;

/// From this length on, in bytes, a piece is read where it is wanted.
const DIRECT: usize = 32 * 1024;
/// How much is read for a short piece in a new place, in bytes: a page, which costs little more than the piece.
const LEAST: usize = 4 * 1024;
/// How much is read at most where pieces follow each other, in bytes.
const MOST: usize = 256 * 1024;

/// A base's stream, with a window on where it was read last.
pub(super) struct Window<'a> {
    stream: &'a Stream,
    bytes: Vec<u8>,
    start: u64,
    filled: usize,
    /// How much the next miss reads, if it is near.
    ahead: usize,
}

impl<'a> Window<'a> {
    pub(super) fn new(stream: &'a Stream) -> Self {
        Self { stream, bytes: Vec::new(), start: 0, filled: 0, ahead: LEAST }
    }

    /// Returns the length of the stream.
    pub(super) fn len(&self) -> u64 {
        self.stream.len()
    }

    /// Reads exactly the bytes at `offset`, which are within the stream.
    pub(super) fn read(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if out.len() >= DIRECT {
            return self.stream.read_at(out, offset);
        }
        if !self.holds(offset, out.len()) {
            self.load(offset, out.len())?;
        }
        let at = (offset - self.start) as usize;
        out.copy_from_slice(&self.bytes[at..at + out.len()]);
        Ok(())
    }

    fn holds(&self, offset: u64, length: usize) -> bool {
        offset >= self.start && offset + length as u64 <= self.start + self.filled as u64
    }

    /// Moves the window to `offset`: more at a time as long as pieces go forward in small steps.
    fn load(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let end = self.start + self.filled as u64;
        let near = offset >= self.start && offset <= end + self.ahead as u64;
        self.ahead = if near { (self.ahead * 4).min(MOST) } else { LEAST };
        let count = (length.max(self.ahead) as u64).min(self.stream.len() - offset) as usize;
        if self.bytes.len() < count {
            self.bytes.resize(count, 0);
        }
        self.filled = 0;
        self.stream.read_at(&mut self.bytes[..count], offset)?;
        (self.start, self.filled) = (offset, count);
        Ok(())
    }
}
