//! The operations that give a stream from its start to its end.

use super::varint;

/// A piece of a base's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which base, counted from zero in the order of the head.
    pub base: usize,
    /// Where it starts in that base's stream, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// One operation (§4 of the text).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The base's bytes.
    Copy(Segment),
    /// The base's bytes, each plus (modulo 256) the next byte of `diff`.
    Add(Segment),
    /// As many bytes of the current frame of `data`.
    Data(u64),
    /// The next frame of `data`.
    Frame {
        /// Its length in the patch.
        packed: u64,
        /// How many bytes it gives.
        raw: u64,
        /// What it is decoded with: these joined.
        prefix: Vec<Segment>,
    },
}

/// The first byte of [`Op::Copy`].
pub(super) const COPY: u8 = 0;
/// The first byte of [`Op::Add`].
pub(super) const ADD: u8 = 1;
/// The first byte of [`Op::Data`].
pub(super) const DATA: u8 = 2;
/// The first byte of [`Op::Frame`].
pub(super) const FRAME: u8 = 3;

/// Where the segment named last ended, for each base: offsets are coded as the difference to it (P-16).
#[derive(Debug, Clone, Default)]
pub struct Positions {
    ends: [u64; super::BASES_MAX],
}

impl Positions {
    /// Appends the code of `op` to `out`.
    ///
    /// The base of a segment must be below [`super::BASES_MAX`], and its end below 2⁶³.
    pub fn encode(&mut self, op: &Op, out: &mut Vec<u8>) {
        match op {
            Op::Copy(segment) => {
                out.push(COPY);
                self.push(segment, out);
            }
            Op::Add(segment) => {
                out.push(ADD);
                self.push(segment, out);
            }
            Op::Data(length) => {
                out.push(DATA);
                varint::push(out, *length);
            }
            Op::Frame { packed, raw, prefix } => {
                out.push(FRAME);
                varint::push(out, *packed);
                varint::push(out, *raw);
                varint::push(out, prefix.len() as u64);
                for segment in prefix {
                    self.push(segment, out);
                }
            }
        }
    }

    fn push(&mut self, segment: &Segment, out: &mut Vec<u8>) {
        let end = &mut self.ends[segment.base];
        let away = segment.offset.wrapping_sub(*end).cast_signed();
        varint::push(out, segment.base as u64);
        varint::push(out, varint::zigzag(away));
        varint::push(out, segment.length);
        *end = segment.offset + segment.length;
    }
}
