//! What a layer has in it, in few bytes: to choose bases by.

use std::io;

use super::tar::{MEMBERS_MAX, scan};
use crate::delta::layer::Layer;

/// The files of a layer by hashes: 48 bytes for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Sorted.
    files: Vec<File>,
    /// Indexes of files, sorted by path.
    by_path: Vec<u32>,
    /// Indexes of files, sorted by masked path.
    by_masked: Vec<u32>,
}

/// A file that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct File {
    /// Hash of the content, in halves: 128 bits would be aligned to 16 bytes.
    hash: (u64, u64),
    size: u64,
    path: u64,
    /// Hash of the path with each run of digits as one sign.
    masked: u64,
}

/// Takes the fingerprint of a layer; of what is no tar, it is empty.
///
/// # Errors
/// What reading the plain bytes says.
pub fn fingerprint(layer: &Layer) -> io::Result<Fingerprint> {
    let members = scan(&layer.plain, MEMBERS_MAX)?;
    let mut files: Vec<File> = members
        .iter()
        .filter(|member| member.size > 0 && member.path != 0)
        .map(|member| File {
            hash: ((member.hash >> 64) as u64, member.hash as u64),
            size: member.size,
            path: member.path,
            masked: member.masked,
        })
        .collect();
    files.sort_unstable();
    let sorted_by = |key: fn(&File) -> u64| {
        let mut indexes: Vec<u32> = (0..files.len() as u32).collect();
        indexes.sort_unstable_by_key(|index| (key(&files[*index as usize]), *index));
        indexes
    };
    let (by_path, by_masked) = (sorted_by(|file| file.path), sorted_by(|file| file.masked));
    Ok(Fingerprint { files, by_path, by_masked })
}

impl Fingerprint {
    /// Returns how many bytes of files a layer with this fingerprint has from the `other` one: those with the same content
    /// count in full, those with the same path (or the same but for numbers) half.
    #[must_use]
    pub fn shared(&self, other: &Self) -> u64 {
        let same = |file: &File| {
            let key = (file.hash, file.size);
            other.files.binary_search_by_key(&key, |other| (other.hash, other.size)).is_ok()
        };
        let found = |indexes: &[u32], key: fn(&File) -> u64, file: &File| {
            indexes.binary_search_by_key(&key(file), |index| key(&other.files[*index as usize])).is_ok()
        };
        let counted = self.files.iter().map(|file| {
            if same(file) {
                file.size
            } else if found(&other.by_path, |file| file.path, file)
                || found(&other.by_masked, |file| file.masked, file)
            {
                file.size / 2
            } else {
                0
            }
        });
        counted.sum()
    }

    /// Returns how many files it speaks of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns whether it speaks of no files: an empty layer, or no tar.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
