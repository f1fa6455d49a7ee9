//! Long runs of bytes that two streams have in common.

use super::differ::{common, common_end, word};

/// The window whose hash is looked for, and every how many bytes of the old content have one. A run of twice this length
/// is always found.
const WINDOW: usize = 32;

/// A run: `length` bytes at `new` of the new content are those at `old` of the old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub new: usize,
    pub old: usize,
    pub length: usize,
}

/// Returns the memory that [`runs`] takes for old content of `size` bytes, its result left out.
pub(super) fn memory(size: u64) -> u64 {
    4 * slots(size as usize) as u64
}

fn slots(size: usize) -> usize {
    (size / WINDOW * 2).next_power_of_two().clamp(1 << 8, 1 << 23)
}

fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let first = word(bytes).wrapping_mul(FACTOR) ^ word(&bytes[8..]);
    let second = word(&bytes[16..]).wrapping_mul(FACTOR) ^ word(&bytes[24..]).rotate_left(32);
    (first.rotate_left(23) ^ second).wrapping_mul(FACTOR)
}

/// Finds runs of at least `least` bytes, ascending in `new` and without overlap. Both contents are below 4 GiB.
pub(super) fn runs(new: &[u8], old: &[u8], least: usize) -> Vec<Run> {
    let slots = slots(old.len());
    let shift = 64 - slots.trailing_zeros();
    let mut table = vec![0_u32; slots];
    for at in (0..(old.len() + 1).saturating_sub(WINDOW)).step_by(WINDOW) {
        let slot = &mut table[(hash(&old[at..]) >> shift) as usize];
        // The first place stays: of a long run of one byte, all windows are alike.
        if *slot == 0 {
            *slot = at as u32 + 1;
        }
    }
    let mut found: Vec<Run> = Vec::new();
    let (mut at, mut taken) = (0, 0);
    while at + WINDOW <= new.len() {
        let place = table[(hash(&new[at..]) >> shift) as usize] as usize;
        if place == 0 {
            at += 1;
            continue;
        }
        let mut place = place - 1;
        // Where the run before would go on, is likelier than where such bytes stand first.
        if let Some(last) = found.last() {
            let expected = last.old + (at - last.new);
            if old.get(expected..expected + WINDOW) == Some(&new[at..at + WINDOW]) {
                place = expected;
            }
        }
        let forward = common(&new[at..], &old[place..]);
        if forward < WINDOW {
            at += 1;
            continue;
        }
        let backward = common_end(&new[taken..at], &old[..place]);
        if forward + backward >= least {
            found.push(Run { new: at - backward, old: place - backward, length: forward + backward });
            taken = at + forward;
            at = taken;
        } else {
            at += forward / 2;
        }
    }
    found
}
