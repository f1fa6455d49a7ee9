//! Writing bits, and the codes that symbols are written with.

use std::io;

use super::buffers::Sink;
use super::codes::{
    self, DISTANCE_BASE, DISTANCE_EXTRA, END, LENGTH_258, LENGTH_BASE, LENGTH_EXTRA, Lengths,
};

/// The code is not defined.
pub(super) const NONE: u32 = 1 << 31;

/// The codes of a block: in the low byte how many bits, from bit 8 on the bits.
pub(super) struct Codes {
    /// By literal.
    pub(super) literals: [u32; 256],
    /// By length less three; extra bits included.
    pub(super) lengths: [u32; 256],
    /// Of symbol 284 with the extra bits 31.
    pub(super) odd_258: u32,
    /// By distance symbol, without extra bits.
    pub(super) distances: [u32; 32],
    /// Of the end of the block.
    pub(super) end: u32,
}

impl Codes {
    /// Makes the codes that have these lengths.
    pub(super) fn new(lengths: &Lengths) -> Self {
        let codes = codes::canonical(&lengths.literals);
        let code = |symbol: usize| match lengths.literals[symbol] {
            0 => NONE,
            length => u32::from(codes[symbol]) << 8 | u32::from(length),
        };
        let with_extra = |symbol: usize, extra: u32| match code(symbol) {
            NONE => NONE,
            code => {
                let bits = u32::from(LENGTH_EXTRA[symbol - END - 1]);
                (code | extra << (code & 0xff) << 8) + bits
            }
        };
        let mut all = Self {
            literals: std::array::from_fn(code),
            lengths: [NONE; 256],
            odd_258: with_extra(LENGTH_258 - 1, 31),
            distances: [NONE; 32],
            end: code(END),
        };
        for (index, &base) in LENGTH_BASE.iter().enumerate() {
            for extra in 0..1 << LENGTH_EXTRA[index] {
                // Length 258 is met twice, and its own symbol comes later.
                all.lengths[usize::from(base) - 3 + extra as usize] = with_extra(END + 1 + index, extra);
            }
        }
        let codes = codes::canonical(&lengths.distances);
        for (symbol, code) in all.distances.iter_mut().enumerate().take(DISTANCE_BASE.len()) {
            if lengths.distances[symbol] > 0 {
                *code = u32::from(codes[symbol]) << 8 | u32::from(lengths.distances[symbol]);
            }
        }
        all
    }
}

/// What a distance symbol is followed by, by distance less one: for those below 256, and by 128 for all others.
pub(super) struct Places {
    symbols: [u8; 512],
}

impl Places {
    /// Makes the table.
    pub(super) fn new() -> Self {
        let mut symbols = [0; 512];
        for symbol in 0..DISTANCE_BASE.len() {
            let first = usize::from(DISTANCE_BASE[symbol]) - 1;
            for place in first..first + (1 << DISTANCE_EXTRA[symbol]) {
                symbols[if place < 256 { place } else { 256 + (place >> 7) }] = symbol as u8;
            }
        }
        Self { symbols }
    }

    /// Returns the code of a distance less one, at most 32,767, and its extra bits, as one.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is the inner loop")]
    pub(super) fn code(&self, codes: &Codes, place: u16) -> (u64, u32, u32) {
        let index = if place < 256 { usize::from(place) } else { 256 + usize::from(place >> 7) };
        let symbol = usize::from(self.symbols[index & 511] & 31);
        let code = codes.distances[symbol];
        let symbol = symbol.min(DISTANCE_BASE.len() - 1);
        let extra = u64::from(place.wrapping_sub(DISTANCE_BASE[symbol] - 1));
        let bits = code & 0xff;
        (u64::from(code >> 8) | extra << bits, bits + u32::from(DISTANCE_EXTRA[symbol]), code)
    }
}

/// The bits of a gzip stream.
pub(super) struct Bits<'a> {
    /// The whole bytes.
    pub(super) sink: Sink<'a>,
    /// Bits that are no whole byte yet, and none above them.
    pub(super) rest: u64,
    /// How many, fewer than eight.
    pub(super) count: u32,
}

impl<'a> Bits<'a> {
    /// Writes to `sink`.
    pub(super) fn new(sink: Sink<'a>) -> Self {
        Self { sink, rest: 0, count: 0 }
    }

    /// Adds bits, at most 56.
    pub(super) fn put(&mut self, bits: u64, count: u32) -> io::Result<()> {
        self.sink.room(8)?;
        self.rest |= bits << self.count;
        self.count += count;
        flush(&mut self.sink.buffer, &mut self.sink.position, &mut self.rest, &mut self.count);
        Ok(())
    }

    /// Fills the byte up with `padding`; returns whether there are bits in it that don't fit.
    pub(super) fn align(&mut self, padding: u8) -> io::Result<bool> {
        let free = self.count.wrapping_neg() & 7;
        if u32::from(padding) >= 1 << free {
            return Ok(false);
        }
        self.put(u64::from(padding), free)?;
        Ok(true)
    }
}

/// Moves the whole bytes of at most 64 bits to the buffer, which has room for eight.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is the inner loop")]
pub(super) fn flush(buffer: &mut [u8], position: &mut usize, bits: &mut u64, count: &mut u32) {
    buffer[*position..*position + 8].copy_from_slice(&bits.to_le_bytes());
    *position += (*count >> 3) as usize;
    *bits >>= *count & 0x38;
    *count &= 7;
}
