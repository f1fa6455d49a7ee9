//! Writing patches.
//!
//! The three parts of a stream's patch (`ops`, `diff`, `data`) come into being side by side, so each goes to a working file
//! of its own. The same calls give the same bytes: levels depend on lengths only.

use std::io::{self, Read, Write};

use super::ops::{Op, Positions, Segment};
use super::{BASES_MAX, FRAME_MAX, Head, WINDOW_LOG, prefix_max, segments_max, varint};
use crate::delta::scratch::{Scratch, Stream, StreamWriter};

/// Up to this length `ops` and `diff` are packed at [`HIGH`]: a second or two of work at most.
const SMALL: u64 = 4 << 20;
/// The zstd level for short parts.
const HIGH: i32 = 19;
/// The zstd level for long ones: a long `diff` is mostly zeros, which this level packs at about 100 MB/s.
const LOW: i32 = 9;

/// The patch of one stream that is being made.
///
/// Calls describe the stream from its start to its end. What adjoins is joined, also in the prefixes of frames; lengths of
/// zero are nothing.
#[derive(Debug)]
pub struct StreamPatch {
    scratch: Scratch,
    ops: StreamWriter,
    diff: StreamWriter,
    data: StreamWriter,
    positions: Positions,
    pending: Option<Op>,
    code: Vec<u8>,
    length: u64,
    frame_left: u64,
}

/// The finished patch of one stream.
#[derive(Debug, Clone)]
pub struct FinishedStreamPatch {
    length: u64,
    ops: Packed,
    diff: Packed,
    data: Stream,
}

/// A part as one zstd frame; nothing at all if the part is empty.
#[derive(Debug, Clone)]
struct Packed {
    bytes: Stream,
    raw: u64,
}

impl StreamPatch {
    /// Starts the patch of an empty stream, with working files in `scratch`.
    ///
    /// # Errors
    /// What the system says on making them.
    pub fn new(scratch: &Scratch) -> io::Result<Self> {
        Ok(Self {
            scratch: scratch.clone(),
            ops: scratch.file()?,
            diff: scratch.file()?,
            data: scratch.file()?,
            positions: Positions::default(),
            pending: None,
            code: Vec::new(),
            length: 0,
            frame_left: 0,
        })
    }

    /// Returns the length in bytes of the stream as described so far.
    #[must_use]
    pub fn described(&self) -> u64 {
        self.length
    }

    /// Goes on with `length` bytes at `offset` of the same stream of a base.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a base or an end that no patch can name, else what the system says on writing.
    pub fn copy(&mut self, base: usize, offset: u64, length: u64) -> io::Result<()> {
        let segment = Segment { base, offset, length };
        check(&segment)?;
        if length == 0 {
            return Ok(());
        }
        self.length += length;
        match &mut self.pending {
            Some(Op::Copy(last)) if adjoins(last, &segment) => last.length += length,
            _ => self.put(Op::Copy(segment))?,
        }
        Ok(())
    }

    /// Goes on with the bytes at `offset` of the same stream of a base, each plus (modulo 256) the one of `diff`.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn add(&mut self, base: usize, offset: u64, diff: &[u8]) -> io::Result<()> {
        let segment = Segment { base, offset, length: diff.len() as u64 };
        check(&segment)?;
        if diff.is_empty() {
            return Ok(());
        }
        self.length += segment.length;
        self.diff.write_all(diff)?;
        match &mut self.pending {
            Some(Op::Add(last)) if adjoins(last, &segment) => last.length += segment.length,
            _ => self.put(Op::Add(segment))?,
        }
        Ok(())
    }

    /// Adds the frame that the next [`Self::data`] calls take from: one zstd frame that gives `raw` bytes after
    /// `ZSTD_DCtx_refPrefix` with the segments of `prefix` joined.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the frame before is not used up or if this one is empty or larger than a patch
    /// may have, or its prefix is ([`FRAME_MAX`], [`prefix_max`], [`segments_max`]), else what the system says on writing.
    pub fn frame(&mut self, packed: &[u8], raw: u64, prefix: &[Segment]) -> io::Result<()> {
        if self.frame_left > 0 {
            return Err(invalid(format!("{} bytes of the frame before are not used", self.frame_left)));
        }
        if raw == 0 || raw > FRAME_MAX || packed.is_empty() || packed.len() > packed_max(raw) {
            return Err(invalid(format!("a frame of {} bytes that gives {raw}", packed.len())));
        }
        let mut joined: Vec<Segment> = Vec::with_capacity(prefix.len());
        for segment in prefix.iter().filter(|segment| segment.length > 0) {
            check(segment)?;
            match joined.last_mut() {
                Some(last) if adjoins(last, segment) => last.length += segment.length,
                _ => joined.push(*segment),
            }
        }
        let length: u128 = joined.iter().map(|segment| u128::from(segment.length)).sum();
        if length > u128::from(prefix_max(raw)) || joined.len() as u64 > segments_max(raw) {
            let count = joined.len();
            return Err(invalid(format!("a prefix of {length} bytes in {count} segments for {raw} bytes")));
        }
        self.data.write_all(packed)?;
        self.frame_left = raw;
        self.put(Op::Frame { packed: packed.len() as u64, raw, prefix: joined })
    }

    /// Goes on with the next `length` bytes of the current frame.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the frame has less left, else what the system says on writing.
    pub fn data(&mut self, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        if length > self.frame_left {
            return Err(invalid(format!("{length} bytes of a frame that has {} left", self.frame_left)));
        }
        self.frame_left -= length;
        self.length += length;
        match &mut self.pending {
            Some(Op::Data(last)) => *last += length,
            _ => self.put(Op::Data(length))?,
        }
        Ok(())
    }

    /// Ends the stream, and packs what describes it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the last frame is not used up, else what the system says on reading and writing.
    pub fn finish(mut self) -> io::Result<FinishedStreamPatch> {
        if self.frame_left > 0 {
            return Err(invalid(format!("{} bytes of the last frame are not used", self.frame_left)));
        }
        self.flush()?;
        let data = self.data.finish()?;
        let ops = pack(&self.ops.finish()?, &self.scratch)?;
        let diff = pack(&self.diff.finish()?, &self.scratch)?;
        Ok(FinishedStreamPatch { length: self.length, ops, diff, data })
    }

    /// Writes the operation before, and keeps `op` to be joined with what follows.
    fn put(&mut self, op: Op) -> io::Result<()> {
        self.flush()?;
        self.pending = Some(op);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(op) = self.pending.take() {
            self.code.clear();
            self.positions.encode(&op, &mut self.code);
            self.ops.write_all(&self.code)?;
        }
        Ok(())
    }
}

impl FinishedStreamPatch {
    /// Returns the length in bytes of the stream that it describes.
    #[must_use]
    pub fn described(&self) -> u64 {
        self.length
    }

    /// Returns how many bytes it takes in a patch, its lengths not counted.
    #[must_use]
    pub fn packed(&self) -> u64 {
        self.ops.bytes.len() + self.diff.bytes.len() + self.data.len()
    }
}

/// Writes the patch that gives `head.target` to `out`: plain bytes, tokens and blocks in this order. Returns its length.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for no base or too many, else what reading the working files or writing says.
pub fn write(out: &mut impl Write, head: &Head, streams: [FinishedStreamPatch; 3]) -> io::Result<u64> {
    let mut bytes = head.encode()?;
    for stream in &streams {
        for number in [
            stream.length,
            stream.ops.bytes.len(),
            stream.ops.raw,
            stream.diff.bytes.len(),
            stream.diff.raw,
            stream.data.len(),
        ] {
            varint::push(&mut bytes, number);
        }
    }
    out.write_all(&bytes)?;
    let mut length = bytes.len() as u64;
    for stream in streams {
        for part in [stream.ops.bytes, stream.diff.bytes, stream.data] {
            length += copy_all(&part, out)?;
        }
    }
    Ok(length)
}

/// Most bytes of a frame that gives `raw`: what zstd makes of bytes that it can't pack.
pub(super) fn packed_max(raw: u64) -> usize {
    zstd::zstd_safe::compress_bound(raw as usize)
}

/// Packs a part as one frame.
fn pack(part: &Stream, scratch: &Scratch) -> io::Result<Packed> {
    let mut file = scratch.file()?;
    if !part.is_empty() {
        let level = if part.len() <= SMALL { HIGH } else { LOW };
        let mut encoder = zstd::Encoder::new(&mut file, level)?;
        encoder.set_pledged_src_size(Some(part.len()))?;
        if part.len() > 1 << WINDOW_LOG {
            encoder.window_log(WINDOW_LOG)?;
        }
        copy_all(part, &mut encoder)?;
        encoder.finish()?;
    }
    Ok(Packed { bytes: file.finish()?, raw: part.len() })
}

/// Copies a working file by large reads.
fn copy_all(from: &Stream, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut reader = from.reader(0);
    let mut copied = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..count])?;
        copied += count as u64;
    }
}

/// Returns whether `next` starts where `last` ends.
fn adjoins(last: &Segment, next: &Segment) -> bool {
    last.base == next.base && last.offset + last.length == next.offset
}

/// Refuses what has no code.
fn check(segment: &Segment) -> io::Result<()> {
    let end = segment.offset.checked_add(segment.length);
    if segment.base >= BASES_MAX || end.is_none_or(|end| end > i64::MAX.cast_unsigned()) {
        return Err(invalid(format!(
            "{} bytes at {} of base {}",
            segment.length, segment.offset, segment.base
        )));
    }
    Ok(())
}

fn invalid(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("no patch can have this: {what}"))
}
