//! What reading an image's layers comes to, however often and by whichever way.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::oci::{Descriptor, Digest};

/// How many bytes may be read of any image.
const ALWAYS_ALLOWED: u64 = 1024 * 1024 * 1024;
/// How many times the length of its layers may be read of an image, beyond [`ALWAYS_ALLOWED`].
const MAX_RATIO: u64 = 100;

/// What was read of an image.
#[derive(Debug, Default)]
pub(super) struct Spent(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    /// Bytes of layers, as they are and unpacked.
    read: u64,
    /// The layers that are known to be what their digests say: what others claim to be long allows nothing.
    proven: BTreeSet<Digest>,
    /// Their length together.
    length: u64,
}

impl Spent {
    /// Checks whether another layer may be read.
    ///
    /// # Errors
    /// The limit, if that is passed already. One layer is bounded by itself.
    pub(super) fn check(&self) -> Result<(), u64> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = ALWAYS_ALLOWED.saturating_add(sums.length.saturating_mul(MAX_RATIO));
        if sums.read > limit { Err(limit) } else { Ok(()) }
    }

    /// Takes note of a layer that was read to its proven end.
    pub(super) fn add(&self, layer: &Descriptor, unpacked: u64) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.read = sums.read.saturating_add(layer.size).saturating_add(unpacked);
        if sums.proven.insert(layer.digest.clone()) {
            sums.length = sums.length.saturating_add(layer.size);
        }
    }
}
