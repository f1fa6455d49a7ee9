//! Writing an archive: tar entries at places that are known beforehand.
//!
//! The size of every entry is known before it is written, so entries are written with `pwrite` by many workers, each at
//! its own place. Entries are ustar; from 8 GiB on, the size stands in a PAX record, which every reader understands
//! (the base-256 form that many writers use there is not in the standard), and so does the path of a sha512 blob.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Result, StoreError};

/// Length of a tar block in bytes.
pub const BLOCK: u64 = 512;
/// Length of the two zero blocks that end an archive.
pub const END_OF_ARCHIVE: u64 = 2 * BLOCK;
/// The largest size that fits in a ustar header: eleven octal digits.
const MAX_USTAR_SIZE: u64 = 0o777_7777_7777;
/// Name of the PAX header entry; the name does not matter, the common tools write one of this kind.
const PAX_PATH: &str = "PaxHeaders/size";

/// The longest path that is written to a ustar header's name field; the prefix field is never used.
const MAX_USTAR_PATH: usize = 100;

fn needs_pax(path: &str, size: u64) -> bool {
    size > MAX_USTAR_SIZE || path.len() > MAX_USTAR_PATH
}

/// Returns the length of an entry's header blocks.
#[must_use]
pub fn header_length(path: &str, size: u64) -> u64 {
    if needs_pax(path, size) { 3 * BLOCK } else { BLOCK }
}

/// Returns `size` rounded up to whole blocks.
#[must_use]
pub fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK) * BLOCK
}

/// Returns the length that an entry takes in the archive: header blocks, content and padding.
#[must_use]
pub fn entry_length(path: &str, size: u64) -> u64 {
    header_length(path, size) + padded(size)
}

/// Makes the header blocks of an entry: a regular file, mode 0644, no owner, no time. The last block is the header
/// proper, before it stands the PAX record where one is needed.
///
/// # Panics
/// If `path` is absolute or longer than a PAX block holds: barge names no such entry.
#[must_use]
pub fn header(path: &str, size: u64) -> Vec<u8> {
    if !needs_pax(path, size) {
        return ustar(path, size, tar::EntryType::Regular).to_vec();
    }
    let mut records = String::new();
    if path.len() > MAX_USTAR_PATH {
        records.push_str(&pax_record("path", path));
    }
    if size > MAX_USTAR_SIZE {
        records.push_str(&pax_record("size", &size.to_string()));
    }
    assert!(records.len() as u64 <= BLOCK, "barge's entry names are short");
    let mut blocks = ustar(PAX_PATH, records.len() as u64, tar::EntryType::XHeader).to_vec();
    blocks.extend_from_slice(records.as_bytes());
    blocks.resize(2 * BLOCK as usize, 0);
    // With a record in force the field is ignored; GNU tar cuts the one and writes zero for the other as well.
    let name = &path[path.len().saturating_sub(MAX_USTAR_PATH)..];
    blocks.extend_from_slice(&ustar(
        name,
        if size > MAX_USTAR_SIZE { 0 } else { size },
        tar::EntryType::Regular,
    ));
    blocks
}

fn ustar(path: &str, size: u64, kind: tar::EntryType) -> [u8; BLOCK as usize] {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).expect("barge's entry names are short and relative");
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    *header.as_bytes()
}

/// Makes a PAX record (POSIX.1-2017, pax "Extended Header"): its length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// A file that is written at places.
#[derive(Debug)]
pub struct ArchiveFile {
    file: File,
    path: PathBuf,
}

impl ArchiveFile {
    /// Wraps an open file; `path` is for messages.
    #[must_use]
    pub fn new(file: File, path: PathBuf) -> Self {
        Self { file, path }
    }

    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// [`StoreError::Io`], a full disk among them.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed("could not be written", source))
    }

    /// Reads exactly `bytes.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`StoreError::Io`], an early end of the file among them.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|source| self.failed("could not be read back", source))
    }

    /// Writes a whole entry whose header starts at `start`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_entry(&self, start: u64, path: &str, content: &[u8]) -> Result<()> {
        let mut bytes = header(path, content.len() as u64);
        bytes.extend_from_slice(content);
        bytes.resize(padded(bytes.len() as u64) as usize, 0);
        self.write_at(&bytes, start)
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| self.failed("could not be made durable", source))
    }

    /// Cuts or extends the file to `length` bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|source| self.failed("could not be given its length", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), action, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn paths() -> [String; 3] {
        let sha512 = crate::oci::Hasher::new(crate::oci::Algorithm::Sha512).finish();
        [Digest::sha256(b"").blob_path(), sha512.blob_path(), format!(".barge-gap/{}", sha512.hex())]
    }

    #[test]
    fn headers_have_the_length_they_are_said_to_have() {
        for size in [0, 1, 511, 512, 513, MAX_USTAR_SIZE, MAX_USTAR_SIZE + 1, u64::MAX / 2] {
            for path in paths() {
                assert_eq!(header(&path, size).len() as u64, header_length(&path, size), "{path} {size}");
            }
        }
    }

    #[test]
    fn the_tar_crate_reads_long_paths_and_sizes_on_both_sides_of_8_gib() {
        for size in [0, MAX_USTAR_SIZE, MAX_USTAR_SIZE + 1] {
            for path in paths() {
                let bytes = header(&path, size);
                let mut archive = tar::Archive::new(&bytes[..]);
                let entry = archive.entries().unwrap().next().unwrap().unwrap();
                assert_eq!(entry.size(), size);
                assert_eq!(entry.path().unwrap().to_str(), Some(path.as_str()));
            }
        }
    }

    #[test]
    fn a_pax_record_counts_its_own_length() {
        for value in
            ["1", "1234567", "12345678901234567890", &"9".repeat(90), &"9".repeat(91), &"9".repeat(92)]
        {
            let record = pax_record("size", value);
            assert_eq!(record.split(' ').next().unwrap().parse::<usize>().unwrap(), record.len());
        }
    }
}
