//! Fetching one blob: counted, hashed, resumed where the connection ends early, never trusted.

use std::io::{self, Read};
use std::time::Duration;

use super::Progress;
use crate::oci::{Digest, Hasher};
use crate::store::{Source, StoreError};

/// Length of the pieces in which blobs are read and written, in bytes. Larger ones gain nothing measurable, and every
/// worker holds one.
pub const PIECE: usize = 256 * 1024;
/// How many times a blob is taken up again after its connection ended early, without a byte gained in between.
const FRUITLESS_TRIES: u32 = 4;
/// The pause before the first repetition; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Which side a failed copy failed on.
#[derive(Debug)]
pub enum FetchError {
    /// The content could not be had from the source, or is not what its digest says.
    Source(StoreError),
    /// The target could not take it.
    Sink(StoreError),
}

/// Where a fetch starts: at the beginning, or after bytes that are hashed already.
pub struct Start {
    /// How many bytes are there.
    pub offset: u64,
    /// The hash over them.
    pub hasher: Hasher,
}

/// Fetches a blob's content piece by piece and hands each to `write` with its offset.
///
/// The content is counted and hashed on the way. If it ends early it is taken up where it ended; if it turns out wrong
/// after having been put together from several answers, it is fetched once more from the beginning, in one.
///
/// # Errors
/// [`FetchError::Source`] if the source can't give content with this digest and size, [`FetchError::Sink`] if `write`
/// failed.
pub fn fetch(
    source: &dyn Source,
    digest: &Digest,
    size: u64,
    start: Option<Start>,
    progress: &dyn Progress,
    piece: &mut Vec<u8>,
    mut write: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
) -> Result<(), FetchError> {
    piece.resize(PIECE, 0);
    let mut patched = start.is_some();
    let fresh = || Start { offset: 0, hasher: Hasher::new(digest.algorithm()) };
    let mut state = start.unwrap_or_else(fresh);
    loop {
        let pieces = read_all(source, digest, size, &mut state, progress, piece, &mut write)?;
        let found = std::mem::replace(&mut state, fresh()).hasher.finish();
        if found == *digest {
            return Ok(());
        }
        patched |= pieces > 1;
        if !patched {
            let why = format!("its bytes hash to {found}");
            return Err(FetchError::Source(StoreError::Damaged {
                place: source.place(),
                digest: digest.clone(),
                why,
            }));
        }
        progress.restart(digest, size);
        patched = false;
    }
}

/// Reads until `size` bytes are there; returns how many answers it took.
fn read_all(
    source: &dyn Source,
    digest: &Digest,
    size: u64,
    state: &mut Start,
    progress: &dyn Progress,
    piece: &mut [u8],
    write: &mut impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
) -> Result<u32, FetchError> {
    let damaged = |why: String| {
        FetchError::Source(StoreError::Damaged { place: source.place(), digest: digest.clone(), why })
    };
    let (mut answers, mut fruitless) = (0, 0);
    while state.offset < size || answers == 0 {
        let before = state.offset;
        let mut reader = source.open_blob(digest, size, state.offset).map_err(FetchError::Source)?;
        answers += 1;
        let ended = loop {
            match reader.read(piece) {
                Ok(0) => break None,
                Ok(count) => {
                    if state.offset + count as u64 > size {
                        return Err(damaged(format!("more than the announced {size} bytes came")));
                    }
                    state.hasher.update(&piece[..count]);
                    write(state.offset, &piece[..count]).map_err(FetchError::Sink)?;
                    state.offset += count as u64;
                    progress.advance(digest, count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        if state.offset >= size {
            break;
        }
        fruitless = if state.offset > before { 0 } else { fruitless + 1 };
        if fruitless >= FRUITLESS_TRIES {
            return Err(match ended {
                None => damaged(format!("it ends after {} of {size} bytes", state.offset)),
                Some(error) => FetchError::Source(StoreError::Interrupted {
                    place: source.place(),
                    what: format!("{digest}, after {} of {size} bytes", state.offset),
                    source: error,
                }),
            });
        }
        std::thread::sleep(FIRST_PAUSE * 2u32.pow(fruitless));
    }
    Ok(answers)
}
