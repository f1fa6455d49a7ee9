//! What is verified, brought into one form: tables of content and a list of images, wherever they came from.

use std::fs::File;
use std::io::Read;

use super::read::{Extent, ReadAt, Verdict, read_extent, read_full};
use super::walk::NodeId;
use crate::bundle::head::GAP_PREFIX;
use crate::bundle::patches::{ContentRow, PatchRow};
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
    /// Content that is rebuilt from patches, sorted by digest.
    pub(super) patches: Vec<PatchRow>,
    /// Content of the far side that patches build on.
    pub(super) far_content: Vec<ContentRow>,
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
        let far_content = record.far_content().to_vec();
        let Record { blobs, absent, images, failed, patches, .. } = record;
        let find = |digest: &Digest| {
            if let Some((_, row)) = blobs.find(digest) {
                Descriptor::new(row.media_type, digest.clone(), row.size)
            } else if let Some(row) = absent.find(digest) {
                Descriptor::new(row.media_type, row.digest, row.size)
            } else if let Some(row) = patches.find(digest) {
                Descriptor::new(&row.media_type, digest.clone(), row.size)
            } else {
                // In no table: the walk will say so.
                Descriptor::new("", digest.clone(), 0)
            }
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
        let patches = patches.iter().cloned().collect();
        Self { place, blobs, absent, patches, far_content, images, recorded: true, strict: true, states }
    }

    /// Finds how content is rebuilt: the place of its row in `patches`.
    pub(super) fn rebuilt(&self, digest: &Digest) -> Option<usize> {
        self.patches.binary_search_by(|row| row.target.cmp(digest)).ok()
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

    /// Returns the node of the content that the row `at` of `patches` rebuilds.
    pub(super) fn target_node(&self, at: usize) -> NodeId {
        (self.blobs.len() + at) as NodeId
    }

    /// Returns the first node of content that is in no table.
    pub(super) fn first_lost(&self) -> NodeId {
        (self.blobs.len() + self.patches.len()) as NodeId
    }

    /// Reads the start of a row's content, at most `limit` bytes of it; none if it can't be had.
    pub(super) fn start_of(&self, at: usize, limit: u64) -> Option<Vec<u8>> {
        let row = self.blobs.get(at)?;
        let mut bytes = vec![0; row.size.min(limit) as usize];
        let (file, start) = match &self.place {
            Place::File { file, base, .. } => (file, base + row.offset),
            Place::Folder(files) => (&files.blob_file(row.digest).ok()??.0, 0),
        };
        (read_full(file, &mut bytes, start).ok()? == bytes.len()).then_some(bytes)
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
