//! Fetching one blob piece by piece into some place.

use super::Progress;
use crate::oci::Digest;
use crate::store::body::{Body, Start};
use crate::store::{Source, StoreError};

/// Length of the pieces in which blobs are read and written, in bytes. Larger ones gain nothing measurable, and every
/// worker holds one.
pub const PIECE: usize = 256 * 1024;

/// Which side a failed copy failed on.
#[derive(Debug)]
pub enum FetchError {
    /// The content could not be had from the source, or is not what its digest says.
    Source(StoreError),
    /// The target could not take it.
    Sink(StoreError),
}

/// Fetches a blob's content piece by piece and hands each to `write` with its offset.
///
/// If the content turns out wrong after having been put together from several answers, or from what an earlier run
/// left, it is fetched once more from the beginning, in one; and so from each other place that the source has.
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
    let was_begun = start.is_some();
    let mut is_second = false;
    let mut start = start.unwrap_or_else(|| Start::at_zero(digest));
    loop {
        let mut body = Body::new(source, digest, size, start);
        let error = loop {
            let offset = body.state().offset;
            match body.next(piece) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    write(offset, &piece[..count]).map_err(FetchError::Sink)?;
                    progress.advance(digest, count as u64);
                }
                Err(error) => break error,
            }
        };
        let is_patched = was_begun || body.answers() > 1;
        let has_another = body.has_another();
        if !has_another && (is_second || !is_patched || !matches!(error, StoreError::Damaged { .. })) {
            return Err(FetchError::Source(error));
        }
        progress.restart(digest, body.state().offset);
        is_second |= !has_another;
        start = Start::at_zero(digest);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::sync::Mutex;

    use super::*;
    use crate::oci::Descriptor;
    use crate::store::Attached;
    use crate::transfer::Silent;

    /// Answers each opening with the next of its answers: bytes served from the offset asked for, then an end or error.
    struct Scripted(Mutex<Vec<(Vec<u8>, usize, bool)>>);

    struct Answer(Vec<u8>, bool);

    impl Read for Answer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(buffer.len()).min(7);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            if count == 0 && self.1 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(count) }
        }
    }

    impl Source for Scripted {
        fn place(&self) -> String {
            "the script".to_owned()
        }
        fn resolve(&self, _: &str) -> crate::store::Result<Descriptor> {
            unreachable!()
        }
        fn manifest(&self, _: &Descriptor) -> crate::store::Result<Vec<u8>> {
            unreachable!()
        }
        fn attached(&self, _: &Digest) -> crate::store::Result<Vec<Attached>> {
            unreachable!()
        }
        fn open_blob(
            &self,
            _: &Digest,
            _: u64,
            offset: u64,
        ) -> crate::store::Result<Box<dyn Read + Send + '_>> {
            let mut answers = self.0.lock().unwrap();
            let (bytes, end, resets) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            let end = end.min(bytes.len());
            Ok(Box::new(Answer(bytes[(offset as usize).min(end)..end].to_vec(), resets)))
        }
    }

    const GOOD: &[u8] = b"the content of a layer, as it should be";

    fn fetched(answers: Vec<(Vec<u8>, usize, bool)>) -> Result<Vec<u8>, FetchError> {
        let mut file = vec![0; GOOD.len()];
        let source = Scripted(Mutex::new(answers));
        let (digest, size) = (Digest::sha256(GOOD), GOOD.len() as u64);
        fetch(&source, &digest, size, None, &Silent, &mut Vec::new(), |at, bytes| {
            file[at as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
        .map(|()| file)
    }

    #[test]
    fn content_is_put_together_from_broken_answers() {
        let answers = vec![(GOOD.to_vec(), 10, true), (GOOD.to_vec(), 20, false), (GOOD.to_vec(), 99, false)];
        assert_eq!(fetched(answers).unwrap(), GOOD);
    }

    #[test]
    fn content_patched_wrong_is_fetched_once_more_in_one() {
        let mut bad = GOOD.to_vec();
        bad[3] ^= 1;
        let answers = vec![(bad, 10, true), (GOOD.to_vec(), 99, false)];
        assert_eq!(fetched(answers).unwrap(), GOOD);
    }

    #[test]
    fn wrong_long_and_short_content_is_damage() {
        let mut bad = GOOD.to_vec();
        bad[3] ^= 1;
        let long = [GOOD, b"!"].concat();
        for (answer, why) in [(bad, "hash"), (long, "more than"), (GOOD[..30].to_vec(), "ends after 30")] {
            match fetched(vec![(answer, 99, false)]) {
                Err(FetchError::Source(error @ StoreError::Damaged { .. })) => {
                    assert!(error.to_string().contains(why), "{error}");
                }
                other => panic!("{why}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_source_that_keeps_breaking_off_is_named() {
        let outcome = fetched(vec![(GOOD.to_vec(), 10, true)]);
        assert!(matches!(outcome, Err(FetchError::Source(StoreError::Interrupted { .. }))));
    }
}
