//! How large a manifest may be: three tries between what everybody takes and what nobody need take.

use crate::oci::manifest::MAX_MANIFEST_SIZE;
use crate::store::{Result, StoreError};

const MIB: u64 = 1024 * 1024;

/// What was found out.
pub(super) enum Sized {
    /// Whatever was tried is taken.
    All(u64),
    /// Something in between.
    Upto {
        /// The largest that was taken; 0 for none of those tried.
        taken: u64,
        /// The smallest that was refused.
        refused: u64,
        /// How.
        error: StoreError,
    },
}

/// Finds out up to which size manifests are taken, with three tries at most.
pub(super) fn largest(mut put: impl FnMut(u64) -> Result<()>) -> Result<Sized> {
    let mut taken = 0;
    let mut refused = match put(MAX_MANIFEST_SIZE) {
        Ok(()) => return Ok(Sized::All(MAX_MANIFEST_SIZE)),
        Err(error) => (MAX_MANIFEST_SIZE, error),
    };
    for _ in 0..2 {
        let next = if taken == 0 { refused.0 / 2 } else { u64::midpoint(taken, refused.0) };
        match put(next) {
            Ok(()) => taken = next,
            Err(error) => refused = (next, error),
        }
    }
    let (refused, error) = refused;
    // A registry that was too slow, or busy, said nothing about sizes; one that cut off the largest only, did.
    let says_nothing = |error: &StoreError| {
        matches!(error, StoreError::Unreachable { .. } | StoreError::Refused { status: 429 | 500..=599, .. })
    };
    if taken == 0 && says_nothing(&error) {
        return Err(error);
    }
    Ok(Sized::Upto { taken, refused, error })
}

/// Makes a manifest exactly so long, by an annotation.
pub(super) fn padded(manifest: &[u8], length: u64) -> Vec<u8> {
    let Some(body) = manifest.strip_suffix(b"}") else { return manifest.to_vec() };
    // The annotations are the first field of the manifest, as `serde_json` sorts them.
    let text = String::from_utf8_lossy(body);
    let text = text.replacen("\"annotations\":{", "\"annotations\":{\"vnd.barge.doctor.padding\":\"@\",", 1);
    let padding = (length as usize).saturating_sub(text.len());
    let mut padded = text.replacen('@', &"-".repeat(padding), 1).into_bytes();
    padded.push(b'}');
    padded
}

/// Returns a size for people.
pub(super) fn shown(bytes: u64) -> String {
    match bytes {
        0 => "less than 1 MiB".to_owned(),
        bytes if bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
        bytes => format!("{} KiB", bytes / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> StoreError {
        StoreError::Refused { place: String::new(), what: String::new(), status, messages: Vec::new() }
    }

    #[test]
    fn three_tries_find_the_size_to_the_mebibyte() {
        for (limit, taken, smallest) in [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 4)] {
            let mut tries = 0;
            let found = largest(|bytes| {
                tries += 1;
                if bytes <= limit * MIB { Ok(()) } else { Err(refused(413)) }
            });
            let Ok(Sized::Upto { taken: found, refused, .. }) = found else { panic!("{limit}") };
            assert_eq!((found, refused, tries), (taken * MIB, smallest * MIB, 3));
        }
        assert!(matches!(largest(|_| Ok(())), Ok(Sized::All(MAX_MANIFEST_SIZE))));
        assert!(largest(|_| Err(refused(503))).is_err());
    }

    #[test]
    fn padding_makes_it_as_long_as_wanted_and_valid() {
        let manifest = serde_json::json!({ "annotations": { "a": "b" }, "z": 1 }).to_string();
        for length in [200, 4096, MAX_MANIFEST_SIZE] {
            let padded = padded(manifest.as_bytes(), length);
            assert_eq!(padded.len() as u64, length);
            assert!(serde_json::from_slice::<serde_json::Value>(&padded).is_ok());
        }
    }
}
