//! Sending one blob: hashed while it goes, so that the medium is read once, and never completed if it is damaged.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lock;
use crate::oci::Digest;
use crate::store::body::{Body, Start};
use crate::store::registry::{Repository, UploadSession};
use crate::store::{Result, Source, StoreError};
use crate::transfer::Progress;

/// How far apart the states are from which a broken upload can go on without hashing from the beginning, in bytes. A
/// state takes some hundred bytes, so a blob of a terabyte keeps a few megabytes of them.
const STATES_APART: u64 = 32 * 1024 * 1024;

/// Uploads a blob from its source.
///
/// # Errors
/// What the target says, or what the source says: see [`sources_fault`].
pub(super) fn upload(
    repository: &Repository,
    source: &dyn Source,
    digest: &Digest,
    size: u64,
    session: Option<UploadSession>,
    progress: &dyn Progress,
) -> Result<()> {
    let states = Mutex::new(vec![Start::at_zero(digest)]);
    let sent = Mutex::new(0);
    let has_another = AtomicBool::new(false);
    let mut open = |offset: u64| -> Result<Box<dyn Read + Send + '_>> {
        let start = {
            let mut states = lock(&states);
            let fits = states.iter().rposition(|state| state.offset <= offset).unwrap_or(0);
            states.truncate(fits + 1);
            states[fits].clone()
        };
        let mut body = Body::new(source, digest, size, start);
        let mut piece = vec![0; 64 * 1024];
        while body.state().offset < offset {
            let left = (offset - body.state().offset).min(piece.len() as u64) as usize;
            let count = body.next(&mut piece[..left]);
            has_another.fetch_or(body.has_another(), Ordering::Relaxed);
            if count? == 0 {
                break;
            }
        }
        let before = std::mem::replace(&mut *lock(&sent), offset);
        if before > offset {
            progress.restart(digest, before - offset);
        }
        Ok(Box::new(Sending {
            body,
            states: &states,
            sent: &sent,
            progress,
            digest,
            has_another: &has_another,
        }))
    };
    let mut session = session;
    loop {
        let outcome = repository.upload_blob(digest, size, session.take(), &mut open);
        // Each round leaves the source one place less.
        if outcome.is_ok() || !has_another.swap(false, Ordering::Relaxed) {
            return outcome;
        }
    }
}

struct Sending<'a> {
    body: Body<'a>,
    states: &'a Mutex<Vec<Start>>,
    sent: &'a Mutex<u64>,
    progress: &'a dyn Progress,
    digest: &'a Digest,
    has_another: &'a AtomicBool,
}

impl Read for Sending<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer);
        self.has_another.fetch_or(self.body.has_another(), Ordering::Relaxed);
        let count = count?;
        let state = self.body.state();
        let mut states = lock(self.states);
        if states.last().is_none_or(|last| state.offset >= last.offset + STATES_APART) {
            states.push(state.clone());
        }
        drop(states);
        *lock(self.sent) += count as u64;
        self.progress.advance(self.digest, count as u64);
        Ok(count)
    }
}

/// Returns the source's error where an upload failed because the source could not give the content.
pub(super) fn sources_fault(error: StoreError) -> std::result::Result<StoreError, StoreError> {
    match error {
        StoreError::Content { source, place, what } => match source.downcast::<StoreError>() {
            Ok(error) => Ok(error),
            Err(source) => Err(StoreError::Content { source, place, what }),
        },
        other => Err(other),
    }
}
