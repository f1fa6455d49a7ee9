//! Resolving names once, where several plans are made of them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use crate::graph::survey::Wish;
use crate::oci::Digest;
use crate::store::Source;
use crate::transfer::for_each;

/// Resolves names once, so that several surveys find the same. What can't be resolved stays as it is, and fails where it is
/// surveyed.
pub fn pin(sources: &[Arc<dyn Source>], wishes: &mut [Wish], jobs: usize) {
    let found: Mutex<Vec<(usize, Digest)>> = Mutex::default();
    let resolve = |at: usize| {
        let wish: &Wish = &wishes[at];
        if let Ok(descriptor) = sources[wish.source].resolve(&wish.selector) {
            found.lock().unwrap_or_else(PoisonError::into_inner).push((at, descriptor.digest));
        }
        Ok::<(), Infallible>(())
    };
    let Ok(()) = for_each(jobs, wishes.len(), resolve);
    for (at, digest) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        wishes[at].selector = digest.to_string();
    }
}
