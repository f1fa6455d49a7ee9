//! Which contents are alike, told by a few numbers for each.

use std::io;

use super::chunks::roll;
use crate::delta::scratch::Stream;

/// How many numbers a sketch has.
pub(super) const FEATURES: usize = 4;

/// What is looked at, from the start of a content.
const SAMPLE: u64 = 256 << 10;

/// Contents below this size have too little to be told by.
pub(super) const LEAST: u64 = 256;

/// Returns the features of the content: for each of several hashes of windows of 64 bytes the smallest one. Two contents
/// share a feature about as likely as they share a window.
pub(super) fn sketch(
    plain: &Stream,
    offset: u64,
    size: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<[u64; FEATURES]> {
    buffer.resize(size.min(SAMPLE) as usize, 0);
    plain.read_at(buffer, offset)?;
    let mut features = [u64::MAX; FEATURES];
    let mut hash = 0;
    for byte in buffer.iter() {
        hash = roll(hash, *byte);
        // One window in eight, the same ones wherever they stand.
        if hash >> 61 == 0 {
            let mut mixed = hash;
            for feature in &mut features {
                mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
                *feature = mixed.min(*feature);
            }
        }
    }
    Ok(features)
}
