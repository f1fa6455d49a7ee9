//! Writes tar files that are the same each time: no times, no owners, two modes.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use crate::oci::Digest;

/// A tar in memory, of files and folders of the owner 0 at the time 0; files have mode 0644, folders 0755.
pub(crate) struct Tarball(Builder<Vec<u8>>);

impl Tarball {
    /// Starts a tar.
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(&format!("{path}/"), EntryType::Directory, 0o755, &[])
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, EntryType::Regular, 0o644, bytes)
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        self.0.append_data(&mut header, path, bytes)
    }

    /// Ends the tar, and returns it as gzip with a header that names no file and no time, with the digest of the tar.
    pub(crate) fn into_gzip(self) -> io::Result<(Vec<u8>, Digest)> {
        let tar = self.0.into_inner()?;
        let diff_id = Digest::sha256(&tar);
        let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::default());
        encoder.write_all(&tar)?;
        Ok((encoder.finish()?, diff_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes_and_long_names_are_kept() {
        let long = format!("configs/{}/catalog.json", "x".repeat(150));
        let make = || {
            let mut tar = Tarball::new();
            tar.folder("configs").unwrap();
            tar.file(&long, b"{}").unwrap();
            tar.into_gzip().unwrap()
        };
        let (bytes, diff_id) = make();
        assert_eq!(make(), (bytes.clone(), diff_id.clone()));
        // No flags, no time (RFC 1952, section 2.3).
        assert_eq!(bytes[3..8], [0, 0, 0, 0, 0]);
        let mut tar = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
        assert!(diff_id.matches(&tar));
        let mut archive = tar::Archive::new(&tar[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["configs/".to_owned(), long]);
    }
}
