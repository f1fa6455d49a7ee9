//! New bytes with what they resemble before them, packed by zstd.

use std::io;
use std::ops::Range;

use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use super::follow::join;
use crate::delta::patch::{Segment, StreamPatch, segments_max};
use crate::delta::scratch::Stream;

/// The level that is always tried: where most is found already, a deeper search than the usual one takes no time that
/// counts.
const LEVEL: i32 = 12;
/// The level that is tried for the most effort.
const LEVEL_MAX: i32 = 19;

/// So many times the new bytes, a prefix costs more time, at both sides, than it can save bytes. A patch may have twice as
/// much.
const PREFIX_RATIO: usize = 4096;

/// One of a group's operations; those that take from a frame or from differences do so in order.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Copy(Segment),
    Add(Segment),
    Data(u64),
}

/// Part of a stream's patch: operations with at most one frame.
#[derive(Debug, Default)]
pub(super) struct Part {
    pieces: Vec<Piece>,
    diff: Vec<u8>,
    prefix: Vec<Segment>,
    raw: u64,
    packed: Vec<u8>,
}

impl Part {
    /// Returns about how many bytes of memory it takes.
    pub fn size(&self) -> u64 {
        (self.pieces.capacity() * size_of::<Piece>()
            + self.prefix.capacity() * size_of::<Segment>()
            + self.diff.capacity()
            + self.packed.capacity()) as u64
    }

    /// Adds it to a stream's patch.
    pub fn write(&self, patch: &mut StreamPatch) -> io::Result<()> {
        let mut framed = false;
        let mut diff = self.diff.as_slice();
        for piece in &self.pieces {
            match *piece {
                Piece::Copy(old) => patch.copy(old.base, old.offset, old.length)?,
                Piece::Add(old) => {
                    let (now, rest) = diff.split_at(old.length as usize);
                    patch.add(old.base, old.offset, now)?;
                    diff = rest;
                }
                Piece::Data(length) => {
                    if !framed {
                        patch.frame(&self.packed, self.raw, &self.prefix)?;
                        framed = true;
                    }
                    patch.data(length)?;
                }
            }
        }
        Ok(())
    }
}

/// A part that is being made. Base content and new bytes stand in one buffer: zstd's output depends on whether they do,
/// and must not depend on chance.
pub(super) struct Maker {
    part: Part,
    buffer: Vec<u8>,
    prefix: usize,
    /// Where each range of the prefix starts in the buffer.
    starts: Vec<usize>,
}

impl Maker {
    /// Starts with base content from `ranges` of the streams that `stream` gives; `room` bytes may be new.
    pub fn new<'a>(
        ranges: impl IntoIterator<Item = Segment>,
        room: u64,
        stream: impl Fn(usize) -> &'a Stream,
    ) -> io::Result<Self> {
        let ranges = join(ranges.into_iter().map(|range| (range, 0)).collect());
        let prefix: Vec<_> = ranges.into_iter().map(|(range, _)| range).collect();
        let length: u64 = prefix.iter().map(|range| range.length).sum();
        let mut buffer = Vec::with_capacity((length + room) as usize);
        buffer.resize(length as usize, 0);
        let mut starts = Vec::with_capacity(prefix.len());
        let mut rest = buffer.as_mut_slice();
        for range in &prefix {
            let (now, later) = rest.split_at_mut(range.length as usize);
            starts.push(length as usize - now.len() - later.len());
            stream(range.base).read_at(now, range.offset)?;
            rest = later;
        }
        Ok(Self { part: Part { prefix, ..Part::default() }, prefix: buffer.len(), buffer, starts })
    }

    /// Returns the base content.
    pub fn base(&self) -> &[u8] {
        &self.buffer[..self.prefix]
    }

    /// Returns where `old`, which is part of a range, stands in the base content.
    pub fn find(&self, old: &Segment) -> Range<usize> {
        let ranges = &self.part.prefix;
        let behind = ranges.partition_point(|range| (range.base, range.offset) <= (old.base, old.offset));
        let Some(index) = behind.checked_sub(1) else { return 0..0 };
        let start = self.starts[index] + (old.offset - ranges[index].offset) as usize;
        start..start + old.length as usize
    }

    /// Goes on with base bytes.
    pub fn copy(&mut self, old: Segment) {
        self.part.pieces.push(Piece::Copy(old));
    }

    /// Goes on with `new`, told by its difference to the base's bytes.
    pub fn add(&mut self, old: Segment, new: &[u8], bytes: &[u8]) {
        self.part.pieces.push(Piece::Add(old));
        self.part.diff.extend(difference(new, bytes));
    }

    /// Goes on with what stands at `at` in the base content.
    pub fn copy_found(&mut self, at: usize, length: usize) {
        self.found(at, length, Piece::Copy);
    }

    /// Goes on with `new`, told by its difference to what stands at `at` in the base content.
    pub fn add_found(&mut self, at: usize, new: &[u8]) {
        self.found(at, new.len(), Piece::Add);
        self.part.diff.extend(difference(new, &self.buffer[at..at + new.len()]));
    }

    /// Adds a piece for each range that is touched.
    fn found(&mut self, at: usize, length: usize, piece: fn(Segment) -> Piece) {
        let first = self.starts.partition_point(|start| *start <= at) - 1;
        let (mut inside, mut left) = ((at - self.starts[first]) as u64, length as u64);
        for range in &self.part.prefix[first..] {
            let length = left.min(range.length - inside);
            self.part.pieces.push(piece(Segment { base: range.base, offset: range.offset + inside, length }));
            left -= length;
            inside = 0;
            if left == 0 {
                return;
            }
        }
    }

    /// Goes on with new bytes.
    pub fn data(&mut self, new: &[u8]) {
        if !new.is_empty() {
            self.part.pieces.push(Piece::Data(new.len() as u64));
            self.buffer.extend_from_slice(new);
        }
    }

    /// Goes on with new bytes that are read.
    pub fn read(&mut self, stream: &Stream, at: u64, length: u64) -> io::Result<()> {
        let start = self.buffer.len();
        self.buffer.resize(start + length as usize, 0);
        stream.read_at(&mut self.buffer[start..], at)?;
        self.part.pieces.push(Piece::Data(length));
        Ok(())
    }

    /// Packs the new bytes; at the highest level too if `max`, and keeps the smaller.
    pub fn finish(mut self, max: bool) -> io::Result<Part> {
        let (mut prefix, new) = self.buffer.split_at(self.prefix);
        self.part.raw = new.len() as u64;
        let (raw, segments) = (self.part.raw, self.part.prefix.len() as u64);
        if prefix.len() / PREFIX_RATIO > new.len() || segments > segments_max(raw) {
            prefix = &[];
            self.part.prefix.clear();
        }
        if !new.is_empty() {
            self.part.packed = pack(prefix, new, LEVEL)?;
            if max {
                let other = pack(prefix, new, LEVEL_MAX)?;
                if other.len() < self.part.packed.len() {
                    self.part.packed = other;
                }
            }
        }
        self.part.packed.shrink_to_fit();
        self.part.diff.shrink_to_fit();
        Ok(self.part)
    }
}

/// Returns what `add` gives: each new byte less the old one.
fn difference(new: &[u8], old: &[u8]) -> impl Iterator<Item = u8> {
    new.iter().zip(old).map(|(new, old)| new.wrapping_sub(*old))
}

/// Packs `new`, which must stand behind `prefix` in memory.
fn pack(prefix: &[u8], new: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let total = (prefix.len() + new.len()) as u64;
    let window = total.next_power_of_two().trailing_zeros().clamp(10, 27);
    let mut context = CCtx::create();
    let mut packed = Vec::with_capacity(compress_bound(new.len()));
    let mut work = || {
        context.set_parameter(CParameter::CompressionLevel(level))?;
        context.set_parameter(CParameter::WindowLog(window))?;
        // Also for little content: the usual search gives up where there are many short matches.
        context.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
        context.set_parameter(CParameter::ContentSizeFlag(true))?;
        context.set_parameter(CParameter::ChecksumFlag(false))?;
        context.ref_prefix(prefix)?;
        context.compress2(&mut packed, new)
    };
    work().map_err(|code| io::Error::other(format!("zstd: {}", get_error_name(code))))?;
    Ok(packed)
}

/// Returns the memory that packing `new` bytes behind `prefix` takes at most, beside the buffer.
pub(super) fn memory(prefix: u64, new: u64, max: bool) -> u64 {
    // Tables for 4 and 8 Mi places, long-distance matching, output; level 19 has binary trees for 16 Mi.
    let total = (prefix + new).next_power_of_two();
    let tables = total.min(8 << 20) * 4 + total.min(4 << 20) * 6 + total.min(128 << 20) / 8;
    let trees = if max { total.min(16 << 20) * 8 + (8 << 20) } else { 0 };
    (2 << 20) + tables.max(trees + total.min(128 << 20) / 8) + 2 * new
}
