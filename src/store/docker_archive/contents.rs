//! The names in a docker archive and what they lead to.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use crate::store::layout::refusal;
use crate::store::tar::{EntryKind, Scan, TarFault, normalise};
use crate::store::{Result, StoreError};

/// How many links are followed from one name: Linux's limit (`path_resolution(7)`). More are a circle or a trick.
const MAX_LINKS: usize = 40;

/// How many bytes of names are kept. An image takes some 100 names of 70 bytes, so this is thousands of images.
const MAX_NAMES: usize = 64 * 1024 * 1024;

/// What a name is.
enum Item {
    File { offset: u64, size: u64 },
    Link(String),
    Other,
}

/// The names in the archive.
pub(super) struct Contents(HashMap<String, Item>);

impl Contents {
    /// Scans the archive. As if it were unpacked, the later of two equal names counts; but not for `manifest.json`.
    pub(super) fn scan(file: &File, length: u64, path: &Path, place: &str) -> Result<Self> {
        let invalid = |why: &str| StoreError::Invalid { place: place.to_owned(), why: why.to_owned() };
        let mut names = HashMap::new();
        let mut bytes = 0_usize;
        for entry in Scan::new(file, length) {
            let entry = match entry {
                Ok(entry) => entry,
                // Neither is ever read. A name that links outside is as good as absent.
                Err(TarFault::TrailingData { .. } | TarFault::LinkOutside { .. }) => continue,
                Err(fault) => return Err(refusal(fault, path, place)),
            };
            bytes += entry.path.len();
            let item = match entry.kind {
                EntryKind::File => Item::File { offset: entry.data_offset, size: entry.size },
                EntryKind::Link { target } => {
                    bytes += target.len();
                    Item::Link(target)
                }
                EntryKind::Directory | EntryKind::Other(_) => Item::Other,
            };
            if bytes > MAX_NAMES {
                return Err(invalid("it has too many entries for a docker archive"));
            }
            let is_list = entry.path == "manifest.json";
            if names.insert(entry.path, item).is_some() && is_list {
                return Err(invalid("it has two files `manifest.json`"));
            }
        }
        Ok(Self(names))
    }

    /// Returns whether a name is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Follows a name to the data it stands for: offset and length in bytes.
    ///
    /// Links are names in this archive only, so nothing outside it can be reached.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(super) fn find(&self, name: &str) -> std::result::Result<(u64, u64), String> {
        let shown = || format!("`{}`", name.chars().take(200).collect::<String>().escape_debug());
        let mut current =
            normalise(name.as_bytes()).map_err(|why| format!("the name {} is refused: {why}", shown()))?;
        for _ in 0..=MAX_LINKS {
            match self.0.get(&current) {
                Some(Item::File { offset, size }) => return Ok((*offset, *size)),
                Some(Item::Link(target)) => current.clone_from(target),
                Some(Item::Other) => return Err(format!("{} is no file", shown())),
                None => return Err(format!("{} is missing", shown())),
            }
        }
        Err(format!("{} is a link in a circle", shown()))
    }
}
