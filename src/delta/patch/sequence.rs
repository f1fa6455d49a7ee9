//! One stream of a target, from its start to its end.
//!
//! All that comes from the patch is checked before it is followed: bases and ranges against what the bases have, lengths
//! against what is left of the stream and of `data`. Every operation but FRAME gives something, and what a frame's prefix
//! takes is bounded by what the frame gives. So the length of the stream bounds the work.

use zstd::zstd_safe::{DCtx, find_frame_compressed_size, get_error_name};

use super::open::StreamParts;
use super::ops::{ADD, COPY, DATA, FRAME, Segment};
use super::unpack::{Unpack, out_of_memory};
use super::varint::{Partial, Step, unzigzag};
use super::window::Window;
use super::write::packed_max;
use super::{BASES_MAX, FRAME_MAX, Invalid, RebuildError, prefix_max, segments_max};
use crate::delta::scratch::Stream;

/// A stream that is being given.
pub(super) struct Sequence<'a> {
    /// Its name, for errors.
    name: &'static str,
    blob: &'a Stream,
    bases: Vec<Window<'a>>,
    ops: Unpack<'a>,
    diff: Unpack<'a>,
    /// Where the next frame is, and where `data` ends.
    data: u64,
    data_end: u64,
    /// Where the segment named last ended, for each base.
    ends: [u64; BASES_MAX],
    /// What the current operation still gives.
    current: Current,
    /// The current frame, and how much of it is used.
    frame: Vec<u8>,
    used: usize,
    /// How much of the stream is not given yet.
    left: u64,
}

/// The rest of an operation.
enum Current {
    Copy(Segment),
    Add(Segment),
    Data(u64),
}

impl<'a> Sequence<'a> {
    /// Starts the stream that `parts` of `blob` describe by the same stream of each base.
    pub(super) fn new(
        name: &'static str,
        blob: &'a Stream,
        parts: StreamParts,
        bases: impl Iterator<Item = &'a Stream>,
    ) -> Self {
        Self {
            name,
            blob,
            bases: bases.map(Window::new).collect(),
            ops: Unpack::new(blob, parts.ops, name, "`ops`"),
            diff: Unpack::new(blob, parts.diff, name, "`diff`"),
            data: parts.data.offset,
            data_end: parts.data.offset + parts.data.length,
            ends: [0; BASES_MAX],
            current: Current::Data(0),
            frame: Vec::new(),
            used: 0,
            left: parts.length,
        }
    }

    /// Fills `out`; less only at the end of the stream, where everything was used up.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, RebuildError> {
        let count = self.left.min(out.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let room = &mut out[done..count];
            let given = match &mut self.current {
                Current::Copy(segment) => from_base(&mut self.bases, segment, room)?,
                Current::Add(segment) => {
                    let given = from_base(&mut self.bases, segment, room)?;
                    self.diff.add_to(&mut room[..given])?;
                    given
                }
                Current::Data(left) => {
                    let given = room.len().min(*left as usize);
                    room[..given].copy_from_slice(&self.frame[self.used..self.used + given]);
                    self.used += given;
                    *left -= given as u64;
                    given
                }
            };
            if given == 0 {
                self.next()?;
            }
            done += given;
            self.left -= given as u64;
        }
        if self.left == 0 {
            self.finish()?;
        }
        Ok(count)
    }

    /// Makes sure that everything is given and used.
    pub(super) fn finish(&mut self) -> Result<(), RebuildError> {
        if self.left > 0 {
            return Err(self.invalid("it is longer than what the layer takes"));
        }
        if self.used < self.frame.len() || self.data < self.data_end {
            return Err(self.invalid("not all of `data` is used"));
        }
        // The last frame is done with, and the other streams may need the memory.
        self.frame = Vec::new();
        self.used = 0;
        self.ops.finish()?;
        self.diff.finish()
    }

    /// Goes to the next operation. The one before is used up, so all that is left may come from it.
    fn next(&mut self) -> Result<(), RebuildError> {
        match self.ops.byte()? {
            COPY => self.current = Current::Copy(self.segment(self.left)?),
            ADD => self.current = Current::Add(self.segment(self.left)?),
            DATA => {
                let length = self.number()?;
                if length == 0 || length > (self.frame.len() - self.used) as u64 || length > self.left {
                    return Err(self.invalid("more is taken from a frame than it has"));
                }
                self.current = Current::Data(length);
            }
            FRAME => self.frame()?,
            _ => return Err(self.invalid("an operation is not known")),
        }
        Ok(())
    }

    /// Reads a segment of at most `most` bytes.
    fn segment(&mut self, most: u64) -> Result<Segment, RebuildError> {
        let base = self.number()?;
        let away = unzigzag(self.number()?);
        let length = self.number()?;
        let Some(window) = usize::try_from(base).ok().and_then(|base| self.bases.get(base)) else {
            return Err(self.invalid("a base is named that there is not"));
        };
        let base = base as usize;
        let offset = self.ends[base].checked_add_signed(away);
        let end = offset.and_then(|offset| offset.checked_add(length));
        let (Some(offset), Some(end)) = (offset, end) else {
            return Err(self.invalid("a range is beyond all numbers"));
        };
        if end > window.len() {
            return Err(self.invalid("a range is beyond the end of its base"));
        }
        if length == 0 || length > most {
            return Err(self.invalid("a range is empty, or longer than what is left"));
        }
        self.ends[base] = end;
        Ok(Segment { base, offset, length })
    }

    /// Decodes the next frame of `data`.
    fn frame(&mut self) -> Result<(), RebuildError> {
        if self.used < self.frame.len() {
            return Err(self.invalid("a frame starts before the one before is used up"));
        }
        let packed = self.number()?;
        let raw = self.number()?;
        let count = self.number()?;
        if raw == 0 || raw > FRAME_MAX || raw > self.left {
            return Err(self.invalid("a frame is empty, or larger than it may be"));
        }
        if packed > packed_max(raw) as u64 || packed > self.data_end - self.data {
            return Err(self.invalid("a frame takes more than there is"));
        }
        let prefix = self.prefix(count, raw)?;
        let mut bytes = vec![0; packed as usize];
        self.blob.read_at(&mut bytes, self.data).map_err(RebuildError::Scratch)?;
        self.data += packed;
        let refused =
            |code| Invalid::Unpack { stream: self.name, part: "a frame", cause: get_error_name(code) };
        // Decoders take several frames where they get them; a patch has one.
        if find_frame_compressed_size(&bytes).map_err(refused)? != bytes.len() {
            return Err(self.invalid("a frame is not as long as recorded"));
        }
        self.frame.clear();
        self.used = 0;
        self.frame.reserve_exact(raw as usize);
        let mut context = DCtx::try_create().ok_or_else(out_of_memory)?;
        context.ref_prefix(&prefix).map_err(refused)?;
        context.decompress(&mut self.frame, &bytes).map_err(refused)?;
        if self.frame.len() as u64 != raw {
            return Err(self.invalid("a frame does not give as much as recorded"));
        }
        Ok(())
    }

    /// Reads the prefix of a frame that gives `raw` bytes: `count` segments joined.
    fn prefix(&mut self, count: u64, raw: u64) -> Result<Vec<u8>, RebuildError> {
        if count > segments_max(raw) {
            return Err(self.invalid("a prefix has too many segments for what its frame gives"));
        }
        let most = prefix_max(raw);
        let mut segments = Vec::new();
        let mut length = 0;
        for _ in 0..count {
            let segment = self.segment(u64::MAX)?;
            if segment.length > most - length {
                return Err(self.invalid("a prefix is longer than it may be for what its frame gives"));
            }
            length += segment.length;
            segments.push(segment);
        }
        let mut prefix = vec![0; length as usize];
        let mut rest = prefix.as_mut_slice();
        for mut segment in segments {
            let (now, later) = rest.split_at_mut(segment.length as usize);
            from_base(&mut self.bases, &mut segment, now)?;
            rest = later;
        }
        Ok(prefix)
    }

    fn number(&mut self) -> Result<u64, RebuildError> {
        let mut partial = Partial::default();
        loop {
            match partial.take(self.ops.byte()?) {
                Step::More(more) => partial = more,
                Step::Done(value) => return Ok(value),
                Step::Bad => return Err(Invalid::Number.into()),
            }
        }
    }

    fn invalid(&self, what: &'static str) -> RebuildError {
        Invalid::Stream { stream: self.name, what }.into()
    }
}

/// Reads the start of `segment` into `out`, as much as both have, and takes it off the segment.
fn from_base(bases: &mut [Window<'_>], segment: &mut Segment, out: &mut [u8]) -> Result<usize, RebuildError> {
    let count = segment.length.min(out.len() as u64) as usize;
    if count > 0 {
        bases[segment.base].read(segment.offset, &mut out[..count]).map_err(RebuildError::Scratch)?;
        segment.offset += count as u64;
        segment.length -= count as u64;
    }
    Ok(count)
}
