//! Reading and hashing: every byte comes from the medium, and a medium that fails is a finding.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::oci::{Digest, Hasher};
use crate::transfer::Progress;

/// How much is read at once, in bytes: it stays in a core's second-level cache between the copy out of the page cache
/// and the hashing, and is many times what a medium needs to be read sequentially.
pub(super) const PIECE: usize = 512 * 1024;
/// How often a failed read is tried again: sticks and optical drives often succeed the second time.
const RETRIES: u32 = 3;
/// How long to wait before the first retry; it doubles each time. A USB device that was reset needs about a second.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });

/// Something that is read at places.
pub(super) trait ReadAt: Sync {
    /// Reads at `offset`, as `pread` does.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// Reads until the buffer is full or the file ends, trying again where reading fails.
///
/// # Errors
/// The place and the last error, after the retries.
pub(super) fn read_full(
    from: &dyn ReadAt,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, (u64, io::Error)> {
    let (mut filled, mut failures) = (0, 0);
    while filled < buffer.len() {
        let at = offset.saturating_add(filled as u64);
        match from.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if failures >= RETRIES => return Err((at, error)),
            Err(_) => {
                std::thread::sleep(PAUSE * 2u32.pow(failures));
                failures += 1;
            }
        }
    }
    Ok(filled)
}

/// Returns the first byte of a range that is not zero; the end of the file, or what can't be read, ends the range.
pub(super) fn first_not_zero(from: &dyn ReadAt, start: u64, end: u64) -> Option<u64> {
    let mut piece = vec![0; 64 * 1024];
    let mut at = start;
    while at < end {
        let want = (end - at).min(piece.len() as u64) as usize;
        let count = read_full(from, &mut piece[..want], at).ok().filter(|count| *count > 0)?;
        if let Some(found) = piece[..count].iter().position(|byte| *byte != 0) {
            return Some(at + found as u64);
        }
        at += count as u64;
    }
    None
}

/// What is to be read: header blocks that must have exact bytes, content with a digest, padding that must be zero.
pub(super) struct Extent<'a> {
    /// Where the header begins, or the content where no header is compared.
    pub(super) start: u64,
    /// The exact header blocks; empty where they are not compared.
    pub(super) header: &'a [u8],
    /// Digest of the content.
    pub(super) digest: &'a Digest,
    /// Length of the content in bytes.
    pub(super) size: u64,
    /// Length of the padding in bytes.
    pub(super) padding: u64,
}

/// What reading an extent showed.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Whether the header is as it should be.
    pub(super) header: bool,
    /// What the content hashes to; none if not all of it could be read.
    pub(super) found: Option<Digest>,
    /// The first byte of the padding that is not zero.
    pub(super) padding: Option<u64>,
    /// Where reading failed and what the system said; no error where the file simply ended.
    pub(super) failure: Option<(u64, Option<io::Error>)>,
    /// Bytes of content that were hashed.
    pub(super) hashed: u64,
}

/// Reads an extent from start to end.
pub(super) fn read_extent(
    from: &dyn ReadAt,
    extent: &Extent<'_>,
    buffer: &mut [u8],
    progress: &dyn Progress,
) -> Verdict {
    let mut verdict = Verdict { header: true, ..Verdict::default() };
    let data = extent.header.len() as u64;
    let content_end = data + extent.size;
    let end = content_end + extent.padding;
    let mut hasher = Hasher::new(extent.digest.algorithm());
    let mut at = 0;
    while at < end {
        let want = (end - at).min(buffer.len() as u64) as usize;
        let count = match read_full(from, &mut buffer[..want], extent.start + at) {
            Ok(count) => count,
            Err((place, error)) => {
                verdict.failure = Some((place, Some(error)));
                return verdict;
            }
        };
        let piece = &buffer[..count];
        let part = |from: u64, to: u64| {
            let clamp = |bound: u64| (bound.saturating_sub(at)).min(count as u64) as usize;
            clamp(from)..clamp(to)
        };
        let header = &piece[part(0, data)];
        if !header.is_empty() {
            let expected = &extent.header[at as usize..at as usize + header.len()];
            verdict.header &= header == expected;
        }
        let content = &piece[part(data, content_end)];
        if !content.is_empty() {
            hasher.update(content);
            verdict.hashed += content.len() as u64;
            progress.advance(extent.digest, content.len() as u64);
        }
        let padding = part(content_end, end);
        if let Some(dirty) = piece[padding.clone()].iter().position(|byte| *byte != 0) {
            let place = extent.start + at + (padding.start + dirty) as u64;
            verdict.padding.get_or_insert(place);
        }
        at += count as u64;
        if count < want {
            verdict.failure = Some((extent.start + at, None));
            if at < content_end {
                return verdict;
            }
            break;
        }
    }
    verdict.found = Some(hasher.finish());
    verdict
}

/// Buffers that workers borrow, so that there are never more than there are workers.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// Lends a buffer of [`PIECE`] bytes.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let lent = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = lent.unwrap_or_else(|| vec![0; PIECE]);
        let result = work(&mut buffer);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::transfer::Silent;

    /// Bytes of which some can't be read, for a while or for ever.
    struct Failing {
        bytes: Vec<u8>,
        bad: std::ops::Range<u64>,
        times: AtomicU32,
    }

    impl ReadAt for Failing {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let end = (offset + buffer.len() as u64).min(self.bytes.len() as u64);
            if offset < self.bad.end && end > self.bad.start && self.times.load(Ordering::Relaxed) > 0 {
                if offset >= self.bad.start {
                    self.times.fetch_sub(1, Ordering::Relaxed);
                    return Err(io::Error::from_raw_os_error(5));
                }
                // What lies before a bad sector is read, as the system does.
                let count = (self.bad.start - offset) as usize;
                buffer[..count].copy_from_slice(&self.bytes[offset as usize..][..count]);
                return Ok(count);
            }
            let count = end.saturating_sub(offset) as usize;
            buffer[..count].copy_from_slice(&self.bytes[offset as usize..][..count]);
            Ok(count)
        }
    }

    fn read(times: u32, size: u64) -> Verdict {
        let bytes = vec![7; 3000];
        let digest = Digest::sha256(&bytes);
        let medium = Failing { bytes, bad: 1000..1512, times: times.into() };
        let extent = Extent { start: 0, header: &[], digest: &digest, size, padding: 0 };
        let verdict = read_extent(&medium, &extent, &mut [0; 700], &Silent);
        assert_eq!(verdict.found == Some(digest), verdict.failure.is_none());
        verdict
    }

    #[test]
    fn a_read_that_fails_for_a_while_succeeds() {
        assert!(read(0, 3000).failure.is_none());
        assert!(read(RETRIES, 3000).failure.is_none());
    }

    #[test]
    fn a_read_that_goes_on_failing_is_given_up_at_its_place() {
        let (place, error) = read(u32::MAX, 3000).failure.unwrap();
        assert_eq!((place, error.unwrap().raw_os_error()), (1000, Some(5)));
    }

    #[test]
    fn a_file_that_ends_early_is_no_error_and_not_whole() {
        let (place, error) = read(0, 4000).failure.unwrap();
        assert!(place == 3000 && error.is_none());
    }

    #[test]
    fn header_and_padding_are_compared_across_pieces() {
        let content = vec![1; 1000];
        let digest = Digest::sha256(&content);
        let header = [5; 512];
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(&content);
        bytes.resize(512 + 1024, 0);
        for piece in [1, 7, 512, 1000, 4096] {
            let check = |at: Option<usize>| {
                let mut bytes = bytes.clone();
                if let Some(at) = at {
                    bytes[at] ^= 1;
                }
                let medium = Failing { bytes, bad: 0..0, times: 0.into() };
                let extent = Extent { start: 0, header: &header, digest: &digest, size: 1000, padding: 24 };
                let verdict = read_extent(&medium, &extent, &mut vec![0; piece], &Silent);
                (verdict.header, verdict.found.as_ref() == Some(&digest), verdict.padding)
            };
            assert_eq!(check(None), (true, true, None));
            assert_eq!(check(Some(511)), (false, true, None));
            assert_eq!(check(Some(512)), (true, false, None));
            assert_eq!(check(Some(1511)), (true, false, None));
            assert_eq!(check(Some(1512)), (true, true, Some(1512)));
            assert_eq!(check(Some(1535)), (true, true, Some(1535)));
        }
    }
}
