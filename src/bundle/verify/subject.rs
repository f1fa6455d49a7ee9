//! What is verified, brought into one form: tables of content and a list of images, wherever they came from.

use std::fs::File;
use std::io::Read;

use super::read::{Extent, ReadAt, Verdict, read_extent, read_full};
use crate::bundle::head::GAP_PREFIX;
use crate::bundle::record::{AttachedEntry, Record};
use crate::bundle::table::{AbsentTable, BlobRef, BlobTable, Role};
use crate::oci::manifest::MAX_MANIFEST_SIZE;
use crate::oci::{Descriptor, Digest, Platform};
use crate::store::archive::{BLOCK, header, padded};
use crate::store::layout::{DirectoryFiles, LayoutFiles};
use crate::store::{Result, StoreError};
use crate::transfer::Progress;

/// The largest content that is believed to be in a file: far beyond every file system, and small enough that no sum
/// of two such numbers overflows.
pub(super) const MAX_SIZE: u64 = 1 << 60;

/// What is known of the content of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not read.
    Unread,
    /// Hashes to its digest.
    Whole,
    /// There, and not that content, or not readable.
    Damaged,
    /// Not there.
    Missing,
}

/// An image that should be in the bundle.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Its name, or its digest where it has none.
    pub(super) name: String,
    /// Its root, where it is known.
    pub(super) descriptor: Option<Descriptor>,
    /// What is attached to its manifests.
    pub(super) attached: Vec<AttachedEntry>,
    /// The platforms that travel.
    pub(super) platforms: Vec<Platform>,
    /// Whether the record itself says that it is not whole.
    pub(super) failed: bool,
}

/// Where the content lies.
pub(super) enum Place {
    /// In a tar file; the offsets of the table count from `base`. In an exact one, headers and padding are what barge
    /// writes, to the byte.
    File { file: File, base: u64, exact: bool },
    /// In a folder.
    Folder(DirectoryFiles),
}

/// What is verified.
pub(super) struct Subject {
    pub(super) place: Place,
    pub(super) blobs: BlobTable,
    pub(super) absent: AbsentTable,
    pub(super) images: Vec<Root>,
    /// Whether a record says what is left out.
    pub(super) recorded: bool,
    /// Whether what nobody says is left out must be there: by a record, or because the file was cut off.
    pub(super) strict: bool,
    /// The state of each row of `blobs`.
    pub(super) states: Vec<State>,
}

impl Subject {
    /// Makes the subject of a record.
    pub(super) fn of_record(record: Record, place: Place) -> Self {
        let Record { blobs, absent, images, failed, .. } = record;
        let find = |digest: &Digest| match (blobs.find(digest), absent.find(digest)) {
            (Some((_, row)), _) => Descriptor::new(row.media_type, digest.clone(), row.size),
            (None, Some(row)) => Descriptor::new(row.media_type, row.digest, row.size),
            // In neither table: the walk will say so.
            (None, None) => Descriptor::new("", digest.clone(), 0),
        };
        let whole = images.into_iter().map(|image| Root {
            name: image.name.to_string(),
            descriptor: Some(find(&image.root)),
            attached: image.attached,
            platforms: image.platforms,
            failed: false,
        });
        let failed = failed.into_iter().map(|entry| Root {
            name: entry.name.to_string(),
            descriptor: entry.root.as_ref().map(find),
            attached: Vec::new(),
            platforms: Vec::new(),
            failed: true,
        });
        let images = whole.chain(failed).collect();
        let states = vec![State::Unread; blobs.len()];
        Self { place, blobs, absent, images, recorded: true, strict: true, states }
    }

    /// Returns the path of a row's entry.
    pub(super) fn entry_path(row: &BlobRef<'_>) -> String {
        match row.role {
            Role::Gap => format!("{GAP_PREFIX}{}", row.digest.hex()),
            _ => row.digest.blob_path(),
        }
    }

    /// Reads a row's content and all that belongs to its entry.
    ///
    /// # Errors
    /// What opening a file of a folder says; a file that is not there is [`StoreError::NotFound`].
    pub(super) fn read(
        &self,
        row: &BlobRef<'_>,
        buffer: &mut [u8],
        cached: bool,
        progress: &dyn Progress,
    ) -> Result<Verdict> {
        match &self.place {
            Place::File { file, base, exact } => {
                let path = Self::entry_path(row);
                let header = if *exact { header(&path, row.size) } else { Vec::new() };
                let extent = Extent {
                    start: base + row.offset - header.len() as u64,
                    header: &header,
                    digest: row.digest,
                    size: row.size,
                    padding: if *exact { padded(row.size) - row.size } else { 0 },
                };
                Ok(read_extent(file, &extent, buffer, progress))
            }
            Place::Folder(files) => {
                let (file, length) = files.blob_file(row.digest)?.ok_or_else(|| StoreError::NotFound {
                    place: files.place(),
                    what: row.digest.to_string(),
                })?;
                if !cached {
                    forget(&file);
                }
                if length != row.size {
                    return Err(StoreError::Damaged {
                        place: files.place(),
                        digest: row.digest.clone(),
                        why: format!("it has {length} bytes where {} belong", row.size),
                    });
                }
                let extent = Extent { start: 0, header: &[], digest: row.digest, size: row.size, padding: 0 };
                Ok(read_extent(&file, &extent, buffer, progress))
            }
        }
    }

    /// Reads the content of a row that is a manifest; none if it can't be had or is not that content, which reading it
    /// in its turn will show.
    pub(super) fn manifest(&self, at: usize) -> Option<Vec<u8>> {
        let row = self.blobs.get(at)?;
        if row.size > MAX_MANIFEST_SIZE || self.states[at] == State::Missing || row.role == Role::Gap {
            return None;
        }
        let mut bytes = vec![0; row.size as usize];
        let read = |from: &dyn ReadAt, bytes: &mut [u8], start| read_full(from, bytes, start).ok();
        let count = match &self.place {
            Place::File { file, base, .. } => read(file, &mut bytes, base + row.offset)?,
            Place::Folder(files) => {
                let (file, _) = files.blob_file(row.digest).ok()??;
                read(&file, &mut bytes, 0)?
            }
        };
        (count == bytes.len() && row.digest.matches(&bytes)).then_some(bytes)
    }

    /// Returns where the header of a row begins and where its padding ends, in bytes from the file's start; none if
    /// that is beyond any file.
    pub(super) fn extent(base: u64, row: &BlobRef<'_>) -> Option<(u64, u64)> {
        if row.size > MAX_SIZE || row.offset > MAX_SIZE {
            return None;
        }
        let header = crate::store::archive::header_length(&Self::entry_path(row), row.size);
        let data = base.checked_add(row.offset)?;
        // The head is in front of the first header: an offset that reaches into it is none.
        let start = data.checked_sub(header).filter(|start| *start >= base)?;
        Some((start, data + padded(row.size)))
    }
}

/// Drops what the system keeps of a file in memory, so that reading it reads the medium. What can't be dropped (a file
/// system in memory, pages in use) is no failure.
pub(super) fn forget(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).ok();
}

/// Reads a range of a file into memory.
pub(super) fn read_range(file: &File, start: u64, size: u64, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    crate::store::tar::FileSlice::new(file, start, size.min(limit), 0).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns whether an offset lies at the start of a block.
pub(super) fn is_aligned(offset: u64) -> bool {
    offset.is_multiple_of(BLOCK)
}
