//! Joining what a gzip stream consists of.

use std::io::{Read, Write};

use crc32fast::Hasher;

use super::buffers::{Sink, Source};
use super::codes::{self, Lengths};
use super::encode::{Bits, Codes, NONE, Places, flush};
use super::error::{JoinError, Part};
use super::{LONG_RUN, MEMBER, ODD_258, OWN_CHECK, PADDED, TRAILING};

/// Size of the buffers.
const CAPACITY: usize = 128 * 1024;
/// The most plain bytes that a record without a long run stands for.
const REACH: usize = 254 + 258;
/// Room for the most bytes that such a record becomes: 254 literals of 15 bits, a match of 48, and eight for a flush.
const ROOM: usize = 512;

/// Makes a gzip stream of plain bytes, tokens and blocks: what [`split`](super::split) took apart gives the same bytes.
///
/// Reads and writes by buffers of its own. None of the three needs to be trusted: memory is fixed, and what is written is
/// no longer than nine times what is read.
///
/// # Errors
/// What the readers and the writer say; and if the three don't fit together, or are not used up.
pub fn join(
    plain: &mut dyn Read,
    tokens: &mut dyn Read,
    blocks: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), JoinError> {
    let mut join = Join {
        plain: Plain { source: Source::new(plain, CAPACITY), checksum: Hasher::new(), size: 0 },
        tokens: Source::new(tokens, CAPACITY),
        blocks: Source::new(blocks, CAPACITY),
        out: Bits::new(Sink::new(out, CAPACITY)),
        places: Places::new(),
    };
    join.stream(&Codes::new(&Lengths::fixed()))?;
    if join.plain.fill(1)? > 0 {
        return Err(JoinError::Long(Part::Plain));
    }
    if join.tokens.fill(1).map_err(|error| JoinError::Read(Part::Tokens, error))? > 0 {
        return Err(JoinError::Long(Part::Tokens));
    }
    join.out.sink.flush().map_err(JoinError::Write)
}

/// The plain bytes, and the checksum of those that were consumed.
struct Plain<'a> {
    source: Source<'a>,
    checksum: Hasher,
    /// Plain bytes of the member, modulo 2³².
    size: u32,
}

impl Plain<'_> {
    /// Reads until there are `wanted` bytes or the input ends; returns how many there are.
    fn fill(&mut self, wanted: usize) -> Result<usize, JoinError> {
        self.source.fill(wanted).map_err(|error| JoinError::Read(Part::Plain, error))
    }

    /// Passes over bytes.
    fn consume(&mut self, count: usize) {
        let bytes = &self.source.bytes()[..count];
        self.checksum.update(bytes);
        self.size = self.size.wrapping_add(count as u32);
        self.source.consume(count);
    }

    /// Takes up to `wanted` bytes for `f`, one at least, and passes over them.
    fn take<T>(
        &mut self,
        wanted: u64,
        f: impl FnOnce(&[u8]) -> Result<T, JoinError>,
    ) -> Result<u64, JoinError> {
        let available = self.fill(1)?;
        if available == 0 {
            return Err(JoinError::Short(Part::Plain));
        }
        // Also bounds what is taken at once.
        let count = wanted.min(available.min(CAPACITY / 4) as u64);
        f(&self.source.bytes()[..count as usize])?;
        self.consume(count as usize);
        Ok(count)
    }
}

/// A gzip stream being made.
struct Join<'a> {
    plain: Plain<'a>,
    tokens: Source<'a>,
    blocks: Source<'a>,
    out: Bits<'a>,
    places: Places,
}

/// Takes a byte of a part.
fn next(source: &mut Source, part: Part) -> Result<u8, JoinError> {
    source.next().map_err(|error| JoinError::Read(part, error))?.ok_or(JoinError::Short(part))
}

/// Takes a varint of a part: at most ten bytes, and none of them in vain.
fn varint(source: &mut Source, part: Part) -> Result<u64, JoinError> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = next(source, part)?;
        if shift == 63 && byte > 1 || shift > 0 && byte == 0 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(JoinError::Unfit("a number is not written as it should be"))
}

impl Join<'_> {
    /// Makes all of the stream.
    fn stream(&mut self, fixed: &Codes) -> Result<(), JoinError> {
        self.member(fixed)?;
        loop {
            match self.blocks.next().map_err(|error| JoinError::Read(Part::Blocks, error))? {
                None => return Ok(()),
                Some(MEMBER) => self.member(fixed)?,
                Some(TRAILING) => break,
                Some(_) => {
                    return Err(JoinError::Unfit("neither a member nor trailing bytes follow a member"));
                }
            }
        }
        loop {
            let count = self.blocks.fill(1).map_err(|error| JoinError::Read(Part::Blocks, error))?;
            if count == 0 {
                return Ok(());
            }
            self.out.sink.put_all(self.blocks.bytes()).map_err(JoinError::Write)?;
            self.blocks.consume(count);
        }
    }

    /// Makes a member.
    fn member(&mut self, fixed: &Codes) -> Result<(), JoinError> {
        codes::read_header(&mut || {
            let byte = next(&mut self.blocks, Part::Blocks)?;
            self.out.sink.put(byte).map_err(JoinError::Write)?;
            Ok::<_, JoinError>(byte)
        })?;
        (self.plain.checksum, self.plain.size) = (Hasher::new(), 0);
        while !self.block(fixed)? {}
        let end = next(&mut self.blocks, Part::Blocks)?;
        self.align(end >> 1)?;
        let mut check = u64::from(self.plain.checksum.clone().finalize()) | u64::from(self.plain.size) << 32;
        if end & OWN_CHECK != 0 {
            let mut bytes = [0; 8];
            for byte in &mut bytes {
                *byte = next(&mut self.blocks, Part::Blocks)?;
            }
            check = u64::from_le_bytes(bytes);
        }
        self.out.sink.put_all(&check.to_le_bytes()).map_err(JoinError::Write)
    }

    /// Fills the last byte up with padding.
    fn align(&mut self, padding: u8) -> Result<(), JoinError> {
        match self.out.align(padding).map_err(JoinError::Write)? {
            true => Ok(()),
            false => Err(JoinError::Unfit("more padding bits than there is room for")),
        }
    }

    /// Makes a block and returns whether it is the member's last.
    fn block(&mut self, fixed: &Codes) -> Result<bool, JoinError> {
        let head = next(&mut self.blocks, Part::Blocks)?;
        self.out.put(u64::from(head & 7), 3).map_err(JoinError::Write)?;
        match head >> 1 {
            0 | 4 => self.stored(head & PADDED != 0)?,
            1 => {
                let matches = varint(&mut self.blocks, Part::Blocks)?;
                let run = varint(&mut self.blocks, Part::Blocks)?;
                self.compressed(fixed, matches, run)?;
            }
            2 => {
                let matches = varint(&mut self.blocks, Part::Blocks)?;
                let run = varint(&mut self.blocks, Part::Blocks)?;
                let (mut bits, mut left) = (0, 0);
                let lengths = Lengths::read(&mut |count| {
                    if left < count {
                        bits |= u32::from(next(&mut self.blocks, Part::Blocks)?) << left;
                        left += 8;
                    }
                    let taken = bits & ((1 << count) - 1);
                    bits >>= count;
                    left -= count;
                    self.out.put(u64::from(taken), count).map_err(JoinError::Write)?;
                    Ok::<_, JoinError>(taken)
                })?;
                if bits != 0 {
                    return Err(JoinError::Unfit("bits behind the header of a block"));
                }
                self.compressed(&Codes::new(&lengths), matches, run)?;
            }
            _ => return Err(JoinError::Unfit("a block is of an unknown type")),
        }
        Ok(head & 1 != 0)
    }

    /// Makes a stored block.
    fn stored(&mut self, padded: bool) -> Result<(), JoinError> {
        let padding = if padded { next(&mut self.blocks, Part::Blocks)? } else { 0 };
        if padded && padding == 0 {
            return Err(JoinError::Unfit("padding bits that should be other than zero"));
        }
        self.align(padding)?;
        let (low, high) = (next(&mut self.blocks, Part::Blocks)?, next(&mut self.blocks, Part::Blocks)?);
        self.out.sink.put_all(&[low, high, !low, !high]).map_err(JoinError::Write)?;
        let mut left = u64::from(u16::from_le_bytes([low, high]));
        while left > 0 {
            left -= self.plain.take(left, |bytes| self.out.sink.put_all(bytes).map_err(JoinError::Write))?;
        }
        Ok(())
    }

    /// Makes the content of a compressed block.
    fn compressed(&mut self, codes: &Codes, matches: u64, run: u64) -> Result<(), JoinError> {
        let mut left = matches;
        while left > 0 {
            let done = self.records(codes, left)?;
            left -= done;
            if done == 0 {
                self.record(codes)?;
                left -= 1;
            }
        }
        self.literals(codes, run)?;
        self.out.put(u64::from(codes.end >> 8), codes.end & 0xff).map_err(JoinError::Write)
    }

    /// Makes up to `matches` records that lie in the buffers and have no long run; returns how many.
    fn records(&mut self, codes: &Codes, matches: u64) -> Result<u64, JoinError> {
        self.tokens.fill(4).map_err(|error| JoinError::Read(Part::Tokens, error))?;
        self.plain.fill(REACH)?;
        let out = &mut self.out;
        out.sink.room(2 * ROOM).map_err(JoinError::Write)?;
        let (plain, tokens) = (self.plain.source.bytes(), self.tokens.bytes());
        let buffer = out.sink.buffer.as_mut_slice();
        let last = buffer.len() - ROOM;
        let (mut position, mut bits, mut count) = (out.sink.position, out.rest, out.count);
        let (mut at, mut done, mut seen) = (0, 0, 0);
        for token in tokens.chunks_exact(4).take(usize::try_from(matches).unwrap_or(usize::MAX)) {
            let (run, length) = (usize::from(token[0]), usize::from(token[1]));
            let place = u16::from_le_bytes([token[2], token[3]]);
            if token[0] == LONG_RUN || position > last || plain.len() - at < run + length + 3 {
                break;
            }
            // Three literals have 45 bits at most, and 63 can be held.
            for literals in plain[at..at + run].chunks(3) {
                for &literal in literals {
                    let code = codes.literals[usize::from(literal)];
                    seen |= code;
                    bits |= u64::from(code >> 8) << count;
                    count += code & 0xff;
                }
                flush(buffer, &mut position, &mut bits, &mut count);
            }
            at += run + length + 3;
            let mut code = codes.lengths[length];
            if place & ODD_258 != 0 {
                code = if length == 255 { codes.odd_258 } else { NONE };
            }
            seen |= code;
            bits |= u64::from(code >> 8) << count;
            count += code & 0xff;
            let (code, size, flag) = self.places.code(codes, place & !ODD_258);
            seen |= flag;
            bits |= code << count;
            count += size;
            flush(buffer, &mut position, &mut bits, &mut count);
            done += 1;
        }
        (out.sink.position, out.rest, out.count) = (position, bits, count);
        self.tokens.consume(4 * done);
        self.plain.consume(at);
        if seen & NONE != 0 {
            return Err(JoinError::Unfit("a symbol has no code in its block"));
        }
        Ok(done as u64)
    }

    /// Makes a record, whatever it is.
    fn record(&mut self, codes: &Codes) -> Result<(), JoinError> {
        let mut run = u64::from(next(&mut self.tokens, Part::Tokens)?);
        if run == u64::from(LONG_RUN) {
            let excess = varint(&mut self.tokens, Part::Tokens)?;
            run = run.checked_add(excess).ok_or(JoinError::Unfit("a run is longer than a stream can be"))?;
        }
        let [length, low, high] = [(); 3].map(|()| next(&mut self.tokens, Part::Tokens));
        let (length, place) = (length?, u16::from_le_bytes([low?, high?]));
        self.literals(codes, run)?;
        let mut left = u64::from(length) + 3;
        while left > 0 {
            left -= self.plain.take(left, |_| Ok(()))?;
        }
        let mut code = codes.lengths[usize::from(length)];
        if place & ODD_258 != 0 {
            code = if length == 255 { codes.odd_258 } else { NONE };
        }
        let (distance, size, flag) = self.places.code(codes, place & !ODD_258);
        if (code | flag) & NONE != 0 {
            return Err(JoinError::Unfit("a symbol has no code in its block"));
        }
        self.out.put(u64::from(code >> 8), code & 0xff).map_err(JoinError::Write)?;
        self.out.put(distance, size).map_err(JoinError::Write)
    }

    /// Makes a run of literals.
    fn literals(&mut self, codes: &Codes, run: u64) -> Result<(), JoinError> {
        let mut left = run;
        while left > 0 {
            let out = &mut self.out;
            left -= self.plain.take(left, |bytes| {
                // A quarter of the capacity, of 15 bits each, is less than half of it.
                out.sink.room(CAPACITY / 2).map_err(JoinError::Write)?;
                let (buffer, position) = (out.sink.buffer.as_mut_slice(), &mut out.sink.position);
                let mut seen = 0;
                for literals in bytes.chunks(3) {
                    for &literal in literals {
                        let code = codes.literals[usize::from(literal)];
                        seen |= code;
                        out.rest |= u64::from(code >> 8) << out.count;
                        out.count += code & 0xff;
                    }
                    flush(buffer, position, &mut out.rest, &mut out.count);
                }
                if seen & NONE != 0 {
                    return Err(JoinError::Unfit("a symbol has no code in its block"));
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
