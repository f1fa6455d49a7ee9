//! Reading `ops` and `diff`: one zstd frame each, unpacked bit by bit.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::open::Part;
use super::{Invalid, RebuildError, WINDOW_LOG};
use crate::delta::scratch::Stream;

/// Length of the buffers before and after unpacking, in bytes.
const BUFFER: usize = 64 * 1024;

/// The bytes of one frame, in sequence.
pub(super) struct Unpack<'a> {
    blob: &'a Stream,
    /// Names of stream and part, for errors.
    stream: &'static str,
    part: &'static str,
    /// Where the next packed bytes are, and where they end.
    offset: u64,
    end: u64,
    /// How many unpacked bytes are still to come from zstd.
    raw_left: u64,
    context: Option<DCtx<'static>>,
    ended: bool,
    packed: Buffer,
    raw: Buffer,
}

/// Bytes of which some were taken.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    at: usize,
    filled: usize,
}

impl<'a> Unpack<'a> {
    pub(super) fn new(blob: &'a Stream, part: Part, stream: &'static str, name: &'static str) -> Self {
        Self {
            blob,
            stream,
            part: name,
            offset: part.offset,
            end: part.offset + part.length,
            raw_left: part.raw,
            context: None,
            // A part of nothing is no frame.
            ended: part.length == 0,
            packed: Buffer::default(),
            raw: Buffer::default(),
        }
    }

    /// Returns the next byte.
    pub(super) fn byte(&mut self) -> Result<u8, RebuildError> {
        let byte = self.some()?[0];
        self.raw.at += 1;
        Ok(byte)
    }

    /// Adds the next bytes to those of `out`, modulo 256.
    pub(super) fn add_to(&mut self, mut out: &mut [u8]) -> Result<(), RebuildError> {
        while !out.is_empty() {
            let some = self.some()?;
            let count = some.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            for (byte, difference) in now.iter_mut().zip(some) {
                *byte = byte.wrapping_add(*difference);
            }
            self.raw.at += count;
            out = later;
        }
        Ok(())
    }

    /// Makes sure that all was used, and that nothing follows the frame.
    pub(super) fn finish(&mut self) -> Result<(), RebuildError> {
        if self.raw.at < self.raw.filled || self.raw_left > 0 {
            return Err(self.invalid("not all is used"));
        }
        while !self.ended {
            self.step()?;
            if self.raw.filled > 0 {
                return Err(self.invalid("it is longer than recorded"));
            }
        }
        if self.offset < self.end || self.packed.at < self.packed.filled {
            return Err(self.invalid("something follows its frame"));
        }
        Ok(())
    }

    /// Returns what is unpacked and not used yet, at least one byte.
    fn some(&mut self) -> Result<&[u8], RebuildError> {
        while self.raw.at == self.raw.filled {
            if self.raw_left == 0 || self.ended {
                return Err(self.invalid("it ends too early"));
            }
            self.step()?;
            let count = self.raw.filled as u64;
            self.raw_left =
                self.raw_left.checked_sub(count).ok_or_else(|| self.invalid("it is longer than recorded"))?;
        }
        Ok(&self.raw.bytes[self.raw.at..self.raw.filled])
    }

    /// Fills the buffer of unpacked bytes, which are all used, with what one call gives; perhaps nothing.
    fn step(&mut self) -> Result<(), RebuildError> {
        if self.packed.at == self.packed.filled {
            self.read()?;
        }
        if self.context.is_none() {
            let mut context = DCtx::try_create().ok_or_else(out_of_memory)?;
            context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(|code| self.refused(code))?;
            self.raw.bytes = vec![0; BUFFER];
            self.context = Some(context);
        }
        let Some(context) = &mut self.context else { return Err(out_of_memory()) };
        let mut input = InBuffer::around(&self.packed.bytes[self.packed.at..self.packed.filled]);
        let mut output = OutBuffer::around(self.raw.bytes.as_mut_slice());
        let hint = context.decompress_stream(&mut output, &mut input);
        let (used, filled) = (input.pos(), output.pos());
        let hint = hint.map_err(|code| self.refused(code))?;
        self.ended = hint == 0;
        let stuck = used == 0 && filled == 0 && !self.ended && self.offset == self.end;
        self.packed.at += used;
        (self.raw.at, self.raw.filled) = (0, filled);
        // Nothing more to give to a frame that asks for it.
        if stuck && self.packed.at == self.packed.filled {
            return Err(self.invalid("its frame is cut off"));
        }
        Ok(())
    }

    /// Reads the next packed bytes, where there are some.
    fn read(&mut self) -> Result<(), RebuildError> {
        let count = (self.end - self.offset).min(BUFFER as u64);
        self.packed.bytes.resize(count as usize, 0);
        self.blob.read_at(&mut self.packed.bytes, self.offset).map_err(RebuildError::Scratch)?;
        self.offset += count;
        (self.packed.at, self.packed.filled) = (0, count as usize);
        Ok(())
    }

    fn invalid(&self, cause: &'static str) -> RebuildError {
        Invalid::Unpack { stream: self.stream, part: self.part, cause }.into()
    }

    fn refused(&self, code: usize) -> RebuildError {
        self.invalid(get_error_name(code))
    }
}

/// The system has no memory for a decoder.
pub(super) fn out_of_memory() -> RebuildError {
    RebuildError::Scratch(std::io::ErrorKind::OutOfMemory.into())
}
