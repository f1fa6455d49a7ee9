//! Taking a gzip stream apart.

use std::io::{Read, Write};

use crc32fast::Hasher;

use super::buffers::Sink;
use super::codes::{self, Lengths, WINDOW};
use super::decode::{
    AHEAD, Bits, DISTANCE_BITS, LITERAL, LITERAL_BITS, SECOND, SPECIAL, STOP, Tables, refill, written,
};
use super::error::{Flaw, SplitError};
use super::{LONG_RUN, MEMBER, ODD_258, OWN_CHECK, PADDED, TRAILING};
use crate::delta::layer::Mark;

/// How many plain bytes are decoded before they are written; also the distance of marks.
const CHUNK: usize = 64 * 1024;
/// Where in the window decoding stops to write.
const LIMIT: usize = WINDOW + CHUNK;
/// Room behind the limit: three literals, a match, and what copying by sixteen bytes writes too much.
const BEHIND: usize = 3 + 258 + 16;
/// Room for a record: four bytes, or with a long run 14.
const RECORD: usize = 16;
/// Size of the buffers for tokens and blocks.
const CAPACITY: usize = 64 * 1024;

/// Takes a gzip stream apart into plain bytes, tokens and blocks, from which [`join`](super::join) makes the same bytes.
///
/// Reads and writes by buffers of its own. `mark` is called about every 64 KiB of plain bytes, with the place of a record
/// in the tokens; the places ascend. What is written before an error has no use.
///
/// # Errors
/// What the reader and the writers say; and whatever is no well-formed gzip stream, from its start to its last member.
pub fn split(
    gzip: &mut dyn Read,
    plain: &mut dyn Write,
    tokens: &mut dyn Write,
    blocks: &mut dyn Write,
    mark: &mut dyn FnMut(Mark),
) -> Result<(), SplitError> {
    let mut fixed = Tables::new();
    fixed.set(&Lengths::fixed());
    let mut split = Split {
        input: Bits::new(gzip),
        window: Window::new(plain, mark),
        tokens: Sink::new(tokens, CAPACITY),
        blocks: Sink::new(blocks, CAPACITY),
    };
    if !codes::starts_member(split.input.bytes(4)?) {
        return Err(SplitError::NotGzip);
    }
    split.stream(&fixed)?;
    written(split.window.write())?;
    written(split.tokens.flush())?;
    written(split.blocks.flush())
}

/// The plain bytes: those before the current place, and room for more.
struct Window<'a> {
    plain: &'a mut dyn Write,
    mark: &'a mut dyn FnMut(Mark),
    buffer: Vec<u8>,
    /// Where the next byte goes.
    position: usize,
    /// Up to where the bytes are written.
    written: usize,
    /// Up to where the bytes are in the checksum.
    summed: usize,
    /// Where the member starts, as far as it is here: matches reach no further back.
    low: usize,
    /// Where the literals since the last record start.
    run: usize,
    /// Literals of the same run that are no longer here.
    gone: u64,
    /// Plain bytes before the buffer.
    before: u64,
    /// The place that was marked last.
    marked: u64,
    checksum: Hasher,
    /// Plain bytes of the member, modulo 2³².
    size: u32,
}

impl<'a> Window<'a> {
    fn new(plain: &'a mut dyn Write, mark: &'a mut dyn FnMut(Mark)) -> Self {
        Self {
            plain,
            mark,
            buffer: vec![0; LIMIT + BEHIND],
            position: 0,
            written: 0,
            summed: 0,
            low: 0,
            run: 0,
            gone: 0,
            before: 0,
            marked: 0,
            checksum: Hasher::new(),
            size: 0,
        }
    }

    /// Brings the checksum up to the current place.
    fn sum(&mut self) {
        let bytes = &self.buffer[self.summed..self.position];
        self.checksum.update(bytes);
        self.size = self.size.wrapping_add(bytes.len() as u32);
        self.summed = self.position;
    }

    /// Writes what is not written.
    fn write(&mut self) -> std::io::Result<()> {
        self.sum();
        self.plain.write_all(&self.buffer[self.written..self.position])?;
        self.written = self.position;
        Ok(())
    }

    /// Makes room if there is none.
    fn room(&mut self, tokens: u64, blocks: u64) -> Result<(), SplitError> {
        if self.position < LIMIT {
            return Ok(());
        }
        written(self.write())?;
        let plain = self.before + self.run as u64 - self.gone;
        if plain > self.marked {
            (self.mark)(Mark { plain, tokens, blocks });
            self.marked = plain;
        }
        self.gone += (self.position - self.run) as u64;
        let dropped = self.position - WINDOW;
        self.buffer.copy_within(dropped..self.position, 0);
        self.before += dropped as u64;
        self.low = self.low.saturating_sub(dropped);
        (self.position, self.written, self.summed, self.run) = (WINDOW, WINDOW, WINDOW, WINDOW);
        Ok(())
    }

    /// Ends the run of literals and returns how many they were.
    fn end_run(&mut self) -> u64 {
        let run = self.gone + (self.position - self.run) as u64;
        (self.run, self.gone) = (self.position, 0);
        run
    }
}

/// A gzip stream being taken apart.
struct Split<'a> {
    input: Bits<'a>,
    window: Window<'a>,
    tokens: Sink<'a>,
    blocks: Sink<'a>,
}

impl Split<'_> {
    /// Takes all of the input apart.
    fn stream(&mut self, fixed: &Tables) -> Result<(), SplitError> {
        let mut dynamic = Tables::new();
        loop {
            self.member(fixed, &mut dynamic)?;
            let next = self.input.bytes(4)?;
            if next.is_empty() {
                return Ok(());
            }
            if !codes::starts_member(next) {
                break;
            }
            written(self.blocks.put(MEMBER))?;
        }
        written(self.blocks.put(TRAILING))?;
        loop {
            let rest = self.input.bytes(1)?;
            if rest.is_empty() {
                return Ok(());
            }
            written(self.blocks.put_all(rest))?;
            let count = rest.len();
            self.input.consume(count);
        }
    }

    /// Takes a member apart.
    fn member(&mut self, fixed: &Tables, dynamic: &mut Tables) -> Result<(), SplitError> {
        codes::read_header(&mut || {
            let byte = self.input.next()?;
            written(self.blocks.put(byte))?;
            Ok::<_, SplitError>(byte)
        })?;
        let window = &mut self.window;
        window.sum();
        (window.checksum, window.size, window.low) = (Hasher::new(), 0, window.position);
        while !self.block(fixed, dynamic)? {}
        let padding = self.input.align()?;
        self.window.sum();
        let check: [u8; 8] = self.input.array()?;
        let sum = self.window.checksum.clone().finalize();
        let own = u64::from_le_bytes(check) != u64::from(sum) | u64::from(self.window.size) << 32;
        written(self.blocks.put(padding << 1 | if own { OWN_CHECK } else { 0 }))?;
        if own { written(self.blocks.put_all(&check)) } else { Ok(()) }
    }

    /// Takes a block apart and returns whether it is the member's last.
    fn block(&mut self, fixed: &Tables, dynamic: &mut Tables) -> Result<bool, SplitError> {
        let head = self.input.take(3)? as u8;
        match head >> 1 {
            0 => self.stored(head)?,
            1 => {
                let (matches, run) = self.compressed(fixed)?;
                written(self.blocks.put(head))?;
                written(self.blocks.put_varint(matches))?;
                written(self.blocks.put_varint(run))?;
            }
            2 => {
                // The header goes behind the counts, which are known at the end only. It has 562 bytes at most.
                let mut header = Vec::with_capacity(128);
                let mut free = 0;
                let lengths = Lengths::read(&mut |count| {
                    let bits = self.input.take(count)?;
                    for bit in 0..count {
                        if free == 0 {
                            header.push(0);
                            free = 8;
                        }
                        if let Some(last) = header.last_mut() {
                            *last |= ((bits >> bit & 1) as u8) << (8 - free);
                        }
                        free -= 1;
                    }
                    Ok::<_, SplitError>(bits)
                })?;
                dynamic.set(&lengths);
                let (matches, run) = self.compressed(dynamic)?;
                written(self.blocks.put(head))?;
                written(self.blocks.put_varint(matches))?;
                written(self.blocks.put_varint(run))?;
                written(self.blocks.put_all(&header))?;
            }
            _ => return Err(Flaw("a block is of an unknown type").into()),
        }
        Ok(head & 1 != 0)
    }

    /// Takes a stored block apart.
    fn stored(&mut self, head: u8) -> Result<(), SplitError> {
        let padding = self.input.align()?;
        let [low, high, not_low, not_high] = self.input.array()?;
        if (low, high) != (!not_low, !not_high) {
            return Err(Flaw("the length of a stored block is not what its complement says").into());
        }
        let mut left = usize::from(u16::from_le_bytes([low, high]));
        while left > 0 {
            self.window.room(self.tokens.total(), self.blocks.total())?;
            let bytes = self.input.bytes(1)?;
            if bytes.is_empty() {
                return Err(SplitError::CutOff);
            }
            let position = self.window.position;
            let count = left.min(bytes.len()).min(LIMIT - position);
            self.window.buffer[position..position + count].copy_from_slice(&bytes[..count]);
            self.window.position += count;
            self.input.consume(count);
            left -= count;
        }
        self.window.end_run();
        written(self.blocks.put(head | if padding == 0 { 0 } else { PADDED }))?;
        if padding != 0 {
            written(self.blocks.put(padding))?;
        }
        written(self.blocks.put_all(&[low, high]))
    }

    /// Takes the content of a compressed block apart; returns the number of its matches and the length of the literal
    /// run after the last one.
    fn compressed(&mut self, tables: &Tables) -> Result<(u64, u64), SplitError> {
        let mut matches = 0;
        loop {
            let available = self.input.fill()?;
            self.window.room(self.tokens.total(), self.blocks.total())?;
            written(self.tokens.room(2 * RECORD))?;
            let ended = self.records(tables, available, &mut matches)?;
            if ended {
                return Ok((matches, self.window.end_run()));
            }
        }
    }

    /// Decodes while there are `available` input and room; returns whether the block has ended.
    fn records(&mut self, tables: &Tables, available: usize, matches: &mut u64) -> Result<bool, SplitError> {
        let input = &self.input.buffer[..available];
        let last_input = available - AHEAD;
        let literals = tables.literals.as_slice();
        let window = &mut self.window;
        let (out, low) = (window.buffer.as_mut_slice(), window.low);
        let tokens = self.tokens.buffer.as_mut_slice();
        let last_token = tokens.len() - RECORD;
        let (mut position, mut bits, mut count) = (self.input.position, self.input.ahead, self.input.count);
        let (mut at, mut run, mut gone) = (window.position, window.run, window.gone);
        let (mut token, mut found) = (self.tokens.position, 0);

        let ended = loop {
            if position > last_input || at >= LIMIT || token > last_token {
                break Ok(false);
            }
            refill(input, &mut position, &mut bits, &mut count);
            let mut entry = literals[bits as usize & ((1 << LITERAL_BITS) - 1)];
            // Of the 56 bits, three literals from the first table take at most 33.
            for _ in 0..2 {
                if entry & LITERAL == 0 {
                    break;
                }
                bits >>= entry & 0xff;
                count -= entry & 0xff;
                out[at] = (entry >> 16) as u8;
                at += 1;
                entry = literals[bits as usize & ((1 << LITERAL_BITS) - 1)];
            }
            if entry & SPECIAL != 0 && entry & SECOND != 0 {
                let index = (bits >> LITERAL_BITS) as usize & ((1 << (entry >> 8 & 0x1f)) - 1);
                entry = literals[(entry >> 16) as usize + index];
            }
            let before = bits;
            bits >>= entry & 0xff;
            count -= entry & 0xff;
            if entry & LITERAL != 0 {
                out[at] = (entry >> 16) as u8;
                at += 1;
                continue;
            }
            if entry & SPECIAL != 0 {
                let stop = entry & STOP != 0;
                break if stop { Ok(true) } else { Err(Flaw("a literal has a code that is not defined")) };
            }
            let (code, all) = (entry >> 8 & 0x1f, entry & 0xff);
            let length = (entry >> 16) as usize + ((before & ((1 << all) - 1)) >> code) as usize;

            refill(input, &mut position, &mut bits, &mut count);
            let distances = tables.distances.as_slice();
            let mut entry = distances[bits as usize & ((1 << DISTANCE_BITS) - 1)];
            if entry & SPECIAL != 0 {
                if entry & SECOND != 0 {
                    let index = (bits >> DISTANCE_BITS) as usize & ((1 << (entry >> 8 & 0x1f)) - 1);
                    entry = distances[(entry >> 16) as usize + index];
                }
                if entry & SPECIAL != 0 {
                    break Err(Flaw("a distance has a code that is not defined"));
                }
            }
            let (distance_code, distance_all) = (entry >> 8 & 0x1f, entry & 0xff);
            let distance =
                (entry >> 16) as usize + ((bits & ((1 << distance_all) - 1)) >> distance_code) as usize;
            bits >>= distance_all;
            count -= distance_all;
            if distance > at - low {
                break Err(Flaw("a match reaches back before the start"));
            }

            let mut place = (distance - 1) as u16;
            if length == 258 && all > code {
                place |= ODD_258;
            }
            let literal_run = gone + (at - run) as u64;
            gone = 0;
            let short = literal_run.min(u64::from(LONG_RUN)) as u8;
            tokens[token] = short;
            token += 1;
            if short == LONG_RUN {
                let mut excess = literal_run - u64::from(LONG_RUN);
                while excess >= 0x80 {
                    tokens[token] = excess as u8 | 0x80;
                    token += 1;
                    excess >>= 7;
                }
                tokens[token] = excess as u8;
                token += 1;
            }
            let [low_byte, high_byte] = place.to_le_bytes();
            tokens[token..token + 3].copy_from_slice(&[(length - 3) as u8, low_byte, high_byte]);
            token += 3;
            found += 1;
            copy(out, at, distance, length);
            at += length;
            run = at;
        };
        (self.input.position, self.input.ahead, self.input.count) = (position, bits, count);
        (window.position, window.run, window.gone, self.tokens.position) = (at, run, gone, token);
        *matches += found;
        match ended {
            Err(_) if self.input.is_cut_off() => Err(SplitError::CutOff),
            other => Ok(other?),
        }
    }
}

/// Copies a match of `length` bytes to `at`, from `distance` bytes before; may write up to 15 bytes behind it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is the inner loop")]
fn copy(out: &mut [u8], at: usize, distance: usize, length: usize) {
    let from = at - distance;
    if distance >= 16 {
        let mut done = 0;
        while done < length {
            let mut chunk = [0; 16];
            chunk.copy_from_slice(&out[from + done..from + done + 16]);
            out[at + done..at + done + 16].copy_from_slice(&chunk);
            done += 16;
        }
    } else if distance == 1 {
        let byte = out[from];
        out[at..at + length].fill(byte);
    } else {
        for index in 0..length {
            out[at + index] = out[from + index];
        }
    }
}
