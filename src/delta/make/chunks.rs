//! Cutting content where the content says so, so that equal parts are cut alike wherever they stand.

use std::io::{self, Read};

use xxhash_rust::xxh3::xxh3_128;

use crate::delta::scratch::Stream;

/// Pseudo-random words for the rolling hash, one for each byte: `splitmix64` from zero.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = 0_u64;
    let mut at = 0;
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = word ^ (word >> 31);
        at += 1;
    }
    table
}

/// Adds a byte to the rolling hash, which is over the last 64.
pub(super) fn roll(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[byte as usize])
}

/// A chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chunk {
    pub hash: u128,
    pub offset: u64,
    pub length: u32,
}

/// Returns the size that chunks of content of this length have on average, as a power of two: such that there are at most
/// about half a million.
pub(super) fn average_log(length: u64) -> u32 {
    (length >> 19).next_power_of_two().trailing_zeros().clamp(14, 24)
}

/// Cuts `length` bytes at `offset` into chunks of 1/4 to 4 times 2 to the `average_log`.
pub(super) fn cut(
    stream: &Stream,
    offset: u64,
    length: u64,
    average_log: u32,
    mut chunk: impl FnMut(Chunk),
) -> io::Result<()> {
    let least = 1_usize << (average_log - 2);
    let most = 4_usize << average_log;
    let mut reader = stream.reader(offset).take(length);
    let mut buffer = Vec::new();
    let (mut start, mut offset) = (0, offset);
    loop {
        if buffer.len() - start < most {
            buffer.drain(..start);
            start = 0;
            let wanted = (most.max(1 << 20) * 2 - buffer.len()) as u64;
            reader.by_ref().take(wanted).read_to_end(&mut buffer)?;
            if buffer.is_empty() {
                return Ok(());
            }
        }
        let rest = &buffer[start..];
        let count = boundary(rest, least, most, average_log);
        chunk(Chunk { hash: xxh3_128(&rest[..count]), offset, length: count as u32 });
        start += count;
        offset += count as u64;
    }
}

/// Returns the one of `known`, which is sorted, that is equal to `chunk`; of several, the one at `expected`, where the one
/// before ended, or else the first. There may be as many as there are chunks, so they are never looked at one by one.
pub(super) fn same<'a>(known: &'a [Chunk], chunk: &Chunk, expected: u64) -> Option<&'a Chunk> {
    let next = known.binary_search(&Chunk { offset: expected, ..*chunk });
    let index = next.unwrap_or_else(|_| known.partition_point(|other| other.hash < chunk.hash));
    known.get(index).filter(|found| found.hash == chunk.hash && found.length == chunk.length)
}

fn boundary(bytes: &[u8], least: usize, most: usize, average_log: u32) -> usize {
    let end = bytes.len().min(most);
    if end <= least {
        return end;
    }
    let mut hash = 0;
    // The upper bits depend on the most bytes.
    let mask = u64::MAX << (64 - average_log);
    for (at, byte) in bytes[..end].iter().enumerate().skip(least - 64) {
        hash = roll(hash, *byte);
        if at >= least && hash & mask == 0 {
            return at;
        }
    }
    end
}
