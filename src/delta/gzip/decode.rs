//! Reading bits, and the tables that find symbols in them.

use std::io::{self, ErrorKind, Read};

use super::codes::{self, DISTANCE_BASE, DISTANCE_EXTRA, END, LENGTH_BASE, LENGTH_EXTRA, Lengths};
use super::error::SplitError;

/// Size of the buffer for input.
const CAPACITY: usize = 128 * 1024;
/// Zeros after the end of the input, so that reading ahead needs no care there.
const PADDING: usize = 64;
/// How many bytes there must be for the longest record: four refills of the bit buffer, with room to spare.
pub(super) const AHEAD: usize = 40;

/// The bits of a gzip stream.
pub(super) struct Bits<'a> {
    reader: &'a mut dyn Read,
    /// Input, and padding when it has ended.
    pub(super) buffer: Vec<u8>,
    /// The next byte for `ahead`.
    pub(super) position: usize,
    /// The bits ahead, the next one lowest. Those from `count` on are not accounted for.
    pub(super) ahead: u64,
    /// How many bits were taken from the bytes before `position` and not used.
    pub(super) count: u32,
    end: usize,
    ended: bool,
}

impl<'a> Bits<'a> {
    /// Reads from `reader`.
    pub(super) fn new(reader: &'a mut dyn Read) -> Self {
        let buffer = vec![0; CAPACITY + PADDING];
        Self { reader, buffer, position: 0, ahead: 0, count: 0, end: 0, ended: false }
    }

    /// Makes [`AHEAD`] bytes available, padding among them if the input ends, and returns up to where they reach.
    ///
    /// # Errors
    /// If the input can't be read, or if more bits than there were have been used.
    pub(super) fn fill(&mut self) -> Result<usize, SplitError> {
        self.read(AHEAD)?;
        if !self.ended {
            return Ok(self.end);
        }
        if self.is_cut_off() {
            return Err(SplitError::CutOff);
        }
        // What was used lies before the end, and the bit buffer reaches at most eight bytes further.
        Ok(self.end + PADDING)
    }

    /// Reads until there are `wanted` bytes or the input ends.
    fn read(&mut self, wanted: usize) -> Result<(), SplitError> {
        if self.position + wanted <= self.end || self.ended {
            return Ok(());
        }
        // The bytes that the bit buffer has stay, for going back to them.
        let dropped = self.position.saturating_sub(8);
        self.buffer.copy_within(dropped..self.end, 0);
        self.end -= dropped;
        self.position -= dropped;
        while self.position + wanted > self.end && !self.ended {
            match self.reader.read(&mut self.buffer[self.end..CAPACITY]) {
                Ok(0) => {
                    self.ended = true;
                    self.buffer[self.end..self.end + PADDING].fill(0);
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(SplitError::Read(error)),
            }
        }
        Ok(())
    }

    /// Takes `count` bits, at most 32.
    pub(super) fn take(&mut self, count: u32) -> Result<u32, SplitError> {
        if self.count < count {
            self.fill()?;
            refill(&self.buffer, &mut self.position, &mut self.ahead, &mut self.count);
        }
        let taken = self.ahead & ((1 << count) - 1);
        self.ahead >>= count;
        self.count -= count;
        if self.is_cut_off() { Err(SplitError::CutOff) } else { Ok(taken as u32) }
    }

    /// Returns whether more bits than there were have been used.
    pub(super) fn is_cut_off(&self) -> bool {
        self.ended && self.position * 8 > self.end * 8 + self.count as usize
    }

    /// Takes the bits up to the next byte, and goes on by bytes.
    pub(super) fn align(&mut self) -> Result<u8, SplitError> {
        let padding = self.take(self.count & 7)? as u8;
        self.position -= self.count as usize / 8;
        (self.ahead, self.count) = (0, 0);
        Ok(padding)
    }

    /// Returns the bytes that follow, `wanted` or more unless the input ends. Only after [`Bits::align`].
    pub(super) fn bytes(&mut self, wanted: usize) -> Result<&[u8], SplitError> {
        debug_assert!(self.count == 0, "not at a byte");
        self.read(wanted)?;
        Ok(&self.buffer[self.position..self.end])
    }

    /// Passes over bytes that [`Bits::bytes`] returned.
    pub(super) fn consume(&mut self, count: usize) {
        self.position = self.end.min(self.position + count);
    }

    /// Takes a byte. Only after [`Bits::align`].
    pub(super) fn next(&mut self) -> Result<u8, SplitError> {
        let byte = *self.bytes(1)?.first().ok_or(SplitError::CutOff)?;
        self.position += 1;
        Ok(byte)
    }

    /// Takes exactly `N` bytes. Only after [`Bits::align`].
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SplitError> {
        let array = *self.bytes(N)?.first_chunk().ok_or(SplitError::CutOff)?;
        self.position += N;
        Ok(array)
    }
}

/// Takes whole bytes into the bit buffer until it has 56 bits or more.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is the inner loop")]
pub(super) fn refill(buffer: &[u8], position: &mut usize, bits: &mut u64, count: &mut u32) {
    let mut word = [0; 8];
    word.copy_from_slice(&buffer[*position..*position + 8]);
    // The bits above `count` may be there already, from the same bytes.
    *bits |= u64::from_le_bytes(word) << *count;
    *position += (63 - *count as usize) >> 3;
    *count |= 0x38;
}

/// The entry is a literal, which stands from bit 16 on.
pub(super) const LITERAL: u32 = 1 << 31;
/// The entry is none of a literal, a length or a distance.
pub(super) const SPECIAL: u32 = 1 << 15;
/// The special entry leads to a second table: its first entry from bit 16 on, its index bits from bit 8 on.
pub(super) const SECOND: u32 = 1 << 14;
/// The special entry is the end of the block; one without this and [`SECOND`] is a code that is not defined.
pub(super) const STOP: u32 = 1 << 13;
/// Index bits of the first table for literals and lengths.
pub(super) const LITERAL_BITS: u32 = 11;
/// Index bits of the first table for distances.
pub(super) const DISTANCE_BITS: u32 = 9;

/// Tables for the codes of a block.
///
/// An entry has in its low byte how many bits to pass over, extra bits included; from bit 8 on the length of the code;
/// from bit 16 on the literal, or the length or distance without its extra bits.
pub(super) struct Tables {
    /// For literals, lengths and the end.
    pub(super) literals: Vec<u32>,
    /// For distances.
    pub(super) distances: Vec<u32>,
}

impl Tables {
    /// Makes tables that know no code.
    pub(super) fn new() -> Self {
        Self { literals: Vec::new(), distances: Vec::new() }
    }

    /// Makes the tables for codes.
    pub(super) fn set(&mut self, lengths: &Lengths) {
        build(&mut self.literals, LITERAL_BITS, &lengths.literals, |symbol, length| match symbol {
            0..END => LITERAL | (symbol as u32) << 16 | length << 8 | length,
            END => SPECIAL | STOP | length,
            _ => value(symbol - END - 1, length, &LENGTH_BASE, &LENGTH_EXTRA),
        });
        build(&mut self.distances, DISTANCE_BITS, &lengths.distances, |symbol, length| {
            value(symbol, length, &DISTANCE_BASE, &DISTANCE_EXTRA)
        });
    }
}

/// Returns the entry of a length or distance.
fn value(index: usize, length: u32, base: &[u16], extra: &[u8]) -> u32 {
    match (base.get(index), extra.get(index)) {
        (Some(&base), Some(&extra)) => u32::from(base) << 16 | length << 8 | (length + u32::from(extra)),
        _ => SPECIAL,
    }
}

/// Makes a table with `first_bits` index bits, and behind it those that its entries lead to.
fn build<const N: usize>(
    table: &mut Vec<u32>,
    first_bits: u32,
    lengths: &[u8; N],
    entry: impl Fn(usize, u32) -> u32,
) {
    table.clear();
    table.resize(1 << first_bits, SPECIAL);
    let codes = codes::canonical(lengths);
    let mask = (1 << first_bits) - 1;
    // How many index bits the second tables need.
    let mut second = [0_u8; 1 << LITERAL_BITS];
    for (&length, &code) in lengths.iter().zip(&codes).filter(|(length, _)| u32::from(**length) > first_bits)
    {
        let bits = &mut second[usize::from(code) & mask];
        *bits = (*bits).max(length - first_bits as u8);
    }
    for (symbol, (&length, &code)) in lengths.iter().zip(&codes).enumerate() {
        let (length, code) = (u32::from(length), usize::from(code));
        if length == 0 {
            continue;
        }
        let entry = entry(symbol, length);
        if length <= first_bits {
            for at in (code..1 << first_bits).step_by(1 << length) {
                table[at] = entry;
            }
            continue;
        }
        let bits = u32::from(second[code & mask]);
        if table[code & mask] & SECOND == 0 {
            table[code & mask] = (table.len() as u32) << 16 | SPECIAL | SECOND | bits << 8;
            table.resize(table.len() + (1 << bits), SPECIAL);
        }
        let start = (table[code & mask] >> 16) as usize;
        for at in (code >> first_bits..1 << bits).step_by(1 << (length - first_bits)) {
            table[start + at] = entry;
        }
    }
}

/// Turns an error of a writer into one of taking apart.
pub(super) fn written<T>(result: io::Result<T>) -> Result<T, SplitError> {
    result.map_err(SplitError::Write)
}
