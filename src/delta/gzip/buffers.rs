//! Buffers between the codec and the caller's readers and writers.

use std::io::{self, ErrorKind, Read, Write};

/// Bytes to be read, a buffer's worth at a time.
pub(super) struct Source<'a> {
    reader: &'a mut dyn Read,
    buffer: Vec<u8>,
    position: usize,
    end: usize,
    ended: bool,
}

impl<'a> Source<'a> {
    /// Reads from `reader` by buffers of `capacity` bytes.
    pub(super) fn new(reader: &'a mut dyn Read, capacity: usize) -> Self {
        Self { reader, buffer: vec![0; capacity], position: 0, end: 0, ended: false }
    }

    /// Reads until there are `wanted` bytes, at most the capacity, or the input ends; returns how many there are.
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        debug_assert!(wanted <= self.buffer.len(), "more than the buffer holds");
        if self.end - self.position < wanted && !self.ended {
            self.buffer.copy_within(self.position..self.end, 0);
            self.end -= self.position;
            self.position = 0;
            while self.end < wanted && !self.ended {
                match self.reader.read(&mut self.buffer[self.end..]) {
                    Ok(0) => self.ended = true,
                    Ok(count) => self.end += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(self.end - self.position)
    }

    /// Returns what is read and not consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.position..self.end]
    }

    /// Passes over `count` of the bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.position = self.end.min(self.position + count);
    }

    /// Reads a byte; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<u8>> {
        if self.position == self.end && self.fill(1)? == 0 {
            return Ok(None);
        }
        let byte = self.buffer[self.position];
        self.position += 1;
        Ok(Some(byte))
    }
}

/// Bytes to be written, a buffer's worth at a time.
pub(super) struct Sink<'a> {
    writer: &'a mut dyn Write,
    /// Room for bytes; those before `position` are to be written.
    pub(super) buffer: Vec<u8>,
    /// How many bytes there are.
    pub(super) position: usize,
    written: u64,
}

impl<'a> Sink<'a> {
    /// Writes to `writer` by buffers of `capacity` bytes.
    pub(super) fn new(writer: &'a mut dyn Write, capacity: usize) -> Self {
        Self { writer, buffer: vec![0; capacity], position: 0, written: 0 }
    }

    /// Makes room for `wanted` bytes, at most the capacity.
    pub(super) fn room(&mut self, wanted: usize) -> io::Result<()> {
        if self.buffer.len() - self.position < wanted { self.flush() } else { Ok(()) }
    }

    /// Writes what is in the buffer.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer[..self.position])?;
        self.written += self.position as u64;
        self.position = 0;
        Ok(())
    }

    /// Returns how many bytes came here so far.
    pub(super) fn total(&self) -> u64 {
        self.written + self.position as u64
    }

    /// Adds a byte.
    pub(super) fn put(&mut self, byte: u8) -> io::Result<()> {
        self.room(1)?;
        self.buffer[self.position] = byte;
        self.position += 1;
        Ok(())
    }

    /// Adds bytes.
    pub(super) fn put_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.room(1)?;
            let count = bytes.len().min(self.buffer.len() - self.position);
            self.buffer[self.position..self.position + count].copy_from_slice(&bytes[..count]);
            self.position += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Adds a varint: seven bits a byte, the low ones first, the high bit where more follow.
    pub(super) fn put_varint(&mut self, mut value: u64) -> io::Result<()> {
        while value >= 0x80 {
            self.put(value as u8 | 0x80)?;
            value >>= 7;
        }
        self.put(value as u8)
    }
}
