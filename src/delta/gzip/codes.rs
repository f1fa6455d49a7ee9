//! What both sides know of gzip and DEFLATE (RFC 1952, RFC 1951): headers, code lengths, the meaning of symbols.

use super::error::Flaw;

/// The symbol that ends a block.
pub(super) const END: usize = 256;
/// The longest code in bits.
pub(super) const MAX_BITS: usize = 15;
/// How far back a match reaches at most.
pub(super) const WINDOW: usize = 32 * 1024;
/// The symbol that means length 258 without extra bits.
pub(super) const LENGTH_258: usize = 285;

/// The least length that a symbol from 257 on means.
pub(super) const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
/// The number of extra bits of a symbol from 257 on.
pub(super) const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// The least distance that a distance symbol means.
pub(super) const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];
/// The number of extra bits of a distance symbol.
pub(super) const DISTANCE_EXTRA: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
/// The order in which a dynamic header has the lengths of the code for code lengths.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The code lengths of a block; 0 for symbols without a code.
#[derive(Debug, Clone)]
pub(super) struct Lengths {
    /// Of literals, the end of the block, and lengths. Those from 286 on have no meaning.
    pub(super) literals: [u8; 288],
    /// Of distances. Those from 30 on have no meaning.
    pub(super) distances: [u8; 32],
}

impl Lengths {
    /// Returns the lengths of fixed codes.
    pub(super) fn fixed() -> Self {
        let mut literals = [8; 288];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        Self { literals, distances: [5; 32] }
    }

    /// Reads the header of a block with dynamic codes; `take` gives a number of bits, at most seven.
    ///
    /// # Errors
    /// Those of `take`; a flaw if the codes are not usable.
    pub(super) fn read<E: From<Flaw>>(take: &mut impl FnMut(u32) -> Result<u32, E>) -> Result<Self, E> {
        let literals = take(5)? as usize + 257;
        let distances = take(5)? as usize + 1;
        let count = take(4)? as usize + 4;
        if literals > LENGTH_258 + 1 || distances > DISTANCE_BASE.len() {
            return Err(Flaw("a code table has too many symbols").into());
        }
        let mut small = [0; 19];
        for &symbol in &ORDER[..count] {
            small[symbol] = take(3)? as u8;
        }
        check(&small)?;
        let codes = canonical(&small);
        let mut all = [0; 288 + 32];
        let mut at = 0;
        while at < literals + distances {
            let symbol = read_symbol(&small, &codes, take)?;
            let (length, repeat) = match symbol {
                16 if at == 0 => return Err(Flaw("a code table repeats a length before the first").into()),
                16 => (all[at - 1], 3 + take(2)? as usize),
                17 => (0, 3 + take(3)? as usize),
                18 => (0, 11 + take(7)? as usize),
                length => (length, 1),
            };
            if repeat > literals + distances - at {
                return Err(Flaw("a code table has too many lengths").into());
            }
            all[at..at + repeat].fill(length);
            at += repeat;
        }
        let mut lengths = Self { literals: [0; 288], distances: [0; 32] };
        lengths.literals[..literals].copy_from_slice(&all[..literals]);
        lengths.distances[..distances].copy_from_slice(&all[literals..literals + distances]);
        check(&lengths.literals)?;
        check(&lengths.distances)?;
        if lengths.literals[END] == 0 {
            return Err(Flaw("a code table has no code for the end of the block").into());
        }
        Ok(lengths)
    }
}

/// Reads a symbol bit by bit, as is good enough for headers.
fn read_symbol<E: From<Flaw>>(
    lengths: &[u8; 19],
    codes: &[u16; 19],
    take: &mut impl FnMut(u32) -> Result<u32, E>,
) -> Result<u8, E> {
    let mut bits = 0;
    // Codes for code lengths have at most seven bits, their lengths being written in three.
    for length in 1..=7_u8 {
        bits |= (take(1)? as u16) << (length - 1);
        let found = (0..19_u8).find(|&s| lengths[s as usize] == length && codes[s as usize] == bits);
        if let Some(symbol) = found {
            return Ok(symbol);
        }
    }
    Err(Flaw("a code table uses a code that is not defined").into())
}

/// Checks that lengths make a prefix code: a complete one, or a single code of one bit, or none at all.
fn check(lengths: &[u8]) -> Result<(), Flaw> {
    let (mut used, mut count) = (0_u32, 0);
    for &length in lengths.iter().filter(|&&length| length > 0) {
        used += 1 << (MAX_BITS - usize::from(length));
        count += 1;
    }
    match used.cmp(&(1 << MAX_BITS)) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Flaw("a code table is over-subscribed")),
        // A single code of a length other than one, half the space, is not what RFC 1951 allows.
        std::cmp::Ordering::Less if count == 0 || count == 1 && used == 1 << (MAX_BITS - 1) => Ok(()),
        std::cmp::Ordering::Less => Err(Flaw("a code table is incomplete")),
    }
}

/// Returns the canonical codes for lengths, with the first bit of the stream lowest; 0 for symbols without a code.
pub(super) fn canonical<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut counts = [0_u16; MAX_BITS + 1];
    for &length in lengths {
        counts[usize::from(length)] += 1;
    }
    counts[0] = 0;
    let mut next = [0_u16; MAX_BITS + 2];
    for bits in 1..=MAX_BITS {
        next[bits + 1] = next[bits].wrapping_add(counts[bits]) << 1;
    }
    let mut codes = [0; N];
    for (code, &length) in codes.iter_mut().zip(lengths) {
        if length > 0 {
            let next = &mut next[usize::from(length)];
            *code = next.reverse_bits() >> (16 - u32::from(length));
            *next = next.wrapping_add(1);
        }
    }
    codes
}

/// Reads a member's header; `next` gives its bytes one by one.
///
/// # Errors
/// Those of `next`; a flaw if these are not the bytes of a header.
pub(super) fn read_header<E: From<Flaw>>(next: &mut impl FnMut() -> Result<u8, E>) -> Result<(), E> {
    let mut fixed = [0; 10];
    for byte in &mut fixed {
        *byte = next()?;
    }
    if !starts_member(&fixed) {
        return Err(Flaw("a member does not start as one").into());
    }
    let flags = fixed[3];
    if flags & 4 != 0 {
        let length = u16::from_le_bytes([next()?, next()?]);
        for _ in 0..length {
            next()?;
        }
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            while next()? != 0 {}
        }
    }
    if flags & 2 != 0 {
        next()?;
        next()?;
    }
    Ok(())
}

/// Returns whether bytes, of which four are looked at, start a member: its magic, DEFLATE, and no reserved flag.
pub(super) fn starts_member(bytes: &[u8]) -> bool {
    matches!(bytes, [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_example_in_rfc_1951() {
        // Section 3.2.2: lengths (3, 3, 3, 3, 3, 2, 4, 4) give 010 011 100 101 110 00 1110 1111.
        let codes = canonical(&[3, 3, 3, 3, 3, 2, 4, 4]);
        assert_eq!(codes, [0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111]);
    }

    #[test]
    fn codes_must_be_complete_or_single() {
        assert!(check(&[0, 1, 0]).is_ok() && check(&[0; 4]).is_ok() && check(&[1, 2, 2]).is_ok());
        assert!(check(&[2, 0]).is_err() && check(&[1, 2]).is_err() && check(&[1, 1, 1]).is_err());
    }
}
