//! What executables (and tokens) have in common: long stretches that are equal but for addresses here and there.
//!
//! The method is that of Colin Percival's `bsdiff`: find exact matches that beat the alignment of the match before, and let
//! each alignment grow over mismatches to both sides as long as more than half of the bytes fit. In place of a suffix array
//! there are two tables of seeds, which is several times faster; where a seed occurs often, what lies nearest to the
//! alignment before is tried first.

/// A piece of the new content; offsets are into the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Equal to the old bytes.
    Copy { offset: usize, length: usize },
    /// Similar to the old bytes.
    Add { offset: usize, length: usize },
    /// Not like anything found.
    New { length: usize },
}

impl Piece {
    /// Returns how many new bytes it stands for.
    pub fn length(self) -> usize {
        match self {
            Self::Copy { length, .. } | Self::Add { length, .. } | Self::New { length } => length,
        }
    }
}

/// The short seed: less would be found all over machine code.
const SHORT: usize = 8;
/// The long seed.
const LONG: usize = 24;
/// Every how many bytes of the old content have a seed.
const SHORT_STEP: usize = 2;
const LONG_STEP: usize = 4;
/// How many places of a short seed are tried on each side of the expected one.
const TRIES: usize = 8;
/// Where the alignment goes on for so long, nothing better is looked for.
const FOLLOW: usize = 32;
/// By how many bytes a match must beat the alignment before; from `bsdiff`.
const BETTER: usize = 8;
/// From this length on, equal bytes within a similar stretch are copied; with less, two operations more cost what they save.
const COPY_MIN: usize = 128;

/// Returns the memory that [`differ`] takes for old content of `size` bytes.
pub(super) fn memory(size: u64) -> u64 {
    let (heads, long) = sizes(size as usize);
    4 * (heads as u64 + 1 + size / SHORT_STEP as u64 + long as u64)
}

/// Returns how many slots the tables have.
fn sizes(size: usize) -> (usize, usize) {
    let heads = (size / SHORT_STEP / 2).next_power_of_two().clamp(1 << 8, 1 << 22);
    let long = (size / LONG_STEP).next_power_of_two().clamp(1 << 8, 1 << 23);
    (heads, long)
}

/// Describes `new` by `old`, piece after piece. Both are below 4 GiB.
pub(super) fn differ(new: &[u8], old: &[u8], mut piece: impl FnMut(Piece)) {
    let index = Index::new(old);
    let end = new.len();
    let (mut scan, mut length, mut position) = (0_usize, 0_usize, 0_usize);
    // Where the alignment that is followed starts, in both.
    let (mut last_scan, mut last_position) = (0_usize, 0_usize);
    while scan < end {
        scan += length;
        let mut score = 0_usize;
        let mut counted = scan;
        let align = |at: usize| (at + last_position).wrapping_sub(last_scan);
        let fits = |at: usize| old.get(align(at)).is_some_and(|byte| *byte == new[at]);
        while scan < end {
            let run = common(&new[scan..], old.get(align(scan)..).unwrap_or(&[]));
            if run >= FOLLOW || run == end - scan {
                scan += run;
                (score, counted) = (0, scan);
                length = 0;
                continue;
            }
            (length, position) = index.search(new, scan, align(scan), run);
            while counted < scan + length {
                score += usize::from(fits(counted));
                counted += 1;
            }
            if length > score + BETTER {
                break;
            }
            if length == score && length != 0 {
                scan += length;
                (score, counted) = (0, scan);
                length = 0;
                continue;
            }
            if counted > scan {
                score -= usize::from(fits(scan));
            } else {
                counted = scan + 1;
            }
            scan += 1;
        }
        if scan >= end {
            (scan, length, position) = (end, 0, 0);
        }
        let mut forward = grow(new[last_scan..scan].iter().zip(old.get(last_position..).unwrap_or(&[])));
        let mut backward = 0;
        if scan < end {
            backward = grow(new[last_scan..scan].iter().rev().zip(old[..position].iter().rev()));
            let overlap = (last_scan + forward + backward).saturating_sub(scan);
            if overlap > 0 {
                let (a, b) = (last_scan + forward - overlap, last_position + forward - overlap);
                let c = position - backward;
                let keep = split(&new[a..a + overlap], &old[b..b + overlap], &old[c..c + overlap]);
                forward -= overlap - keep;
                backward -= keep;
            }
        }
        similar(&new[last_scan..last_scan + forward], old, last_position, &mut piece);
        let left = scan - backward - last_scan - forward;
        if left > 0 {
            piece(Piece::New { length: left });
        }
        last_scan = scan - backward;
        last_position = position - backward;
    }
}

/// Returns how far it is worth going: where the bytes that are equal exceed the others by most.
fn grow<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> usize {
    let (mut score, mut best, mut length) = (0_isize, 0_isize, 0);
    for (count, (new, old)) in pairs.enumerate() {
        score += if new == old { 1 } else { -1 };
        if score > best {
            (best, length) = (score, count + 1);
        }
    }
    length
}

/// Returns how many of the bytes that two alignments claim go to the first.
fn split(new: &[u8], first: &[u8], second: &[u8]) -> usize {
    let (mut score, mut best, mut keep) = (0_isize, 0_isize, 0);
    for at in 0..new.len() {
        score += isize::from(new[at] == first[at]) - isize::from(new[at] == second[at]);
        if score > best {
            (best, keep) = (score, at + 1);
        }
    }
    keep
}

/// Describes a stretch that is similar to the old bytes at `offset`.
fn similar(new: &[u8], old: &[u8], offset: usize, piece: &mut impl FnMut(Piece)) {
    let old = &old[offset.min(old.len())..];
    let (mut at, mut from) = (0, 0);
    while at < new.len() {
        let run = common(&new[at..], &old[at..]);
        if run >= COPY_MIN || (run == new.len() && run > 0) {
            if at > from {
                piece(Piece::Add { offset: offset + from, length: at - from });
            }
            piece(Piece::Copy { offset: offset + at, length: run });
            from = at + run;
        }
        at += run.max(1);
    }
    if new.len() > from {
        piece(Piece::Add { offset: offset + from, length: new.len() - from });
    }
}

/// Returns how many bytes both start with in common.
fn common(a: &[u8], b: &[u8]) -> usize {
    let most = a.len().min(b.len());
    let (a, b) = (&a[..most], &b[..most]);
    let mut length = 0;
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let different = word(x) ^ word(y);
        if different != 0 {
            return length + different.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + a[length..].iter().zip(&b[length..]).take_while(|(x, y)| x == y).count()
}

/// Reads eight bytes.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

/// Mixes a seed; the upper bits are the good ones. The factor is 2⁶⁴ divided by the golden ratio.
fn mix(seed: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn short_hash(bytes: &[u8], slots: usize) -> usize {
    (mix(word(bytes)) >> (64 - slots.trailing_zeros())) as usize
}

fn long_hash(bytes: &[u8], slots: usize) -> usize {
    let seed = mix(mix(mix(word(bytes)) ^ word(&bytes[8..])).rotate_left(29) ^ word(&bytes[16..]));
    (seed >> (64 - slots.trailing_zeros())) as usize
}

/// The seeds of the old content.
struct Index<'a> {
    old: &'a [u8],
    /// Where the places of each short seed start in `places`.
    heads: Vec<u32>,
    /// Places of short seeds, ascending for each seed.
    places: Vec<u32>,
    /// The last place of each long seed, plus one.
    long: Vec<u32>,
}

impl<'a> Index<'a> {
    fn new(old: &'a [u8]) -> Self {
        let (slots, long_slots) = sizes(old.len());
        let mut heads = vec![0_u32; slots + 1];
        let starts = || (0..(old.len() + 1).saturating_sub(SHORT)).step_by(SHORT_STEP);
        for at in starts() {
            heads[short_hash(&old[at..], slots)] += 1;
        }
        let mut sum = 0;
        for head in &mut heads {
            sum += *head;
            *head = sum;
        }
        // Filled from the back: then each head ends at the start of its places.
        let mut places = vec![0_u32; sum as usize];
        for at in starts().rev() {
            let head = &mut heads[short_hash(&old[at..], slots)];
            *head -= 1;
            places[*head as usize] = at as u32;
        }
        let mut long = vec![0_u32; long_slots];
        for at in (0..(old.len() + 1).saturating_sub(LONG)).step_by(LONG_STEP) {
            long[long_hash(&old[at..], long_slots)] = at as u32 + 1;
        }
        Self { old, heads, places, long }
    }

    /// Returns length and place of a long match for the new bytes at `scan`; `run` bytes match where they are expected.
    fn search(&self, new: &[u8], scan: usize, expected: usize, run: usize) -> (usize, usize) {
        let rest = &new[scan..];
        let mut best = if run > 0 { (run, expected) } else { (0, 0) };
        if rest.len() >= LONG {
            let place = self.long[long_hash(rest, self.long.len())] as usize;
            if place > 0 {
                let length = common(rest, &self.old[place - 1..]);
                if length > best.0 {
                    best = (length, place - 1);
                }
            }
        }
        if best.0 >= LONG || rest.len() < SHORT {
            return best;
        }
        let slot = short_hash(rest, self.heads.len() - 1);
        let places = &self.places[self.heads[slot] as usize..self.heads[slot + 1] as usize];
        let middle = places.partition_point(|place| (*place as usize) < expected);
        for place in &places[middle.saturating_sub(TRIES)..places.len().min(middle + TRIES)] {
            let place = *place as usize;
            let length = common(rest, &self.old[place..]);
            if length > best.0 {
                best = (length, place);
            }
        }
        best
    }
}
