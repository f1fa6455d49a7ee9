//! Layouts in tar files, whoever made them.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::directory::read_small;
use super::{Layout, LayoutFiles, OpenBlob};
use crate::oci::Digest;
use crate::store::tar::{Compression, Entry, EntryKind, FileSlice, Scan, TarFault};
use crate::store::{Result, StoreError};

/// A layout in a tar file, `oci-archive:FILE`.
pub type LayoutArchive = Layout<ArchiveFiles>;

impl LayoutArchive {
    /// Opens the layout in a tar file.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the file can't be read, [`StoreError::Invalid`] if it is compressed, cut off or damaged,
    /// or holds no layout.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(ArchiveFiles::open(path)?)
    }
}

/// The files at a layout's root that are ever read.
const ROOT_FILES: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];

/// The files of a layout in a tar file: where each blob lies, found by one scan over the headers.
///
/// Entries come in any order. Where a blob is there twice the later entry counts, as if the archive had been unpacked.
#[derive(Debug)]
pub struct ArchiveFiles {
    path: PathBuf,
    file: File,
    /// Sorted by digest; 56 bytes a blob.
    blobs: Vec<Row>,
    /// Blobs that are there as links, sorted.
    links: Vec<Digest>,
    root: [Option<(u64, u64)>; ROOT_FILES.len()],
}

#[derive(Debug)]
struct Row {
    digest: Digest,
    offset: u64,
    size: u64,
}

impl ArchiveFiles {
    /// Opens and scans a tar file.
    ///
    /// # Errors
    /// As [`LayoutArchive::open`], except that it need not hold a layout.
    pub fn open(path: &Path) -> Result<Self> {
        let place = place_of(path);
        let (file, length) = open_archive(path, &place)?;
        let mut found = Contents::default();
        for item in Scan::new(&file, length) {
            match item {
                Ok(entry) => found.take(&entry, &place)?,
                Err(fault) => found.forgive(fault, path, &place)?,
            }
        }
        let Contents { mut blobs, mut links, root } = found;
        // The sort is stable, so of equal digests the last in the file is the last here.
        blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
        blobs.reverse();
        blobs.dedup_by(|later, kept| later.digest == kept.digest);
        blobs.reverse();
        blobs.shrink_to_fit();
        links.sort();
        links.dedup();
        Ok(Self { path: path.to_owned(), file, blobs, links, root })
    }

    /// Returns where a blob lies in the file: offset and length in bytes.
    #[must_use]
    pub fn position(&self, digest: &Digest) -> Option<(u64, u64)> {
        let row = self.blobs.binary_search_by(|row| row.digest.cmp(digest)).ok()?;
        Some((self.blobs[row].offset, self.blobs[row].size))
    }

    /// As [`ArchiveFiles::position`], and an error for a link.
    fn find(&self, digest: &Digest) -> Result<Option<(u64, u64)>> {
        let position = self.position(digest);
        if position.is_none() && self.links.binary_search(digest).is_ok() {
            return Err(StoreError::Invalid {
                place: self.place(),
                why: format!("`{}` is a link, and links in a layout are not followed", digest.blob_path()),
            });
        }
        Ok(position)
    }
}

impl LayoutFiles for ArchiveFiles {
    fn place(&self) -> String {
        place_of(&self.path)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn root_file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let position = ROOT_FILES.iter().position(|known| *known == name);
        let Some((offset, size)) = position.and_then(|position| self.root[position]) else {
            return Ok(None);
        };
        read_small(self, name, FileSlice::new(&self.file, offset, size, 0), limit).map(Some)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.find(digest)?.map(|(_, size)| size))
    }

    fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Option<OpenBlob<'_>>> {
        Ok(self.find(digest)?.map(|(start, size)| OpenBlob {
            size,
            reader: Box::new(FileSlice::new(&self.file, start, size, offset)),
        }))
    }
}

/// What a scan has found so far.
#[derive(Default)]
struct Contents {
    blobs: Vec<Row>,
    links: Vec<Digest>,
    root: [Option<(u64, u64)>; ROOT_FILES.len()],
}

impl Contents {
    fn take(&mut self, entry: &Entry, place: &str) -> Result<()> {
        let invalid = |why: String| StoreError::Invalid { place: place.to_owned(), why };
        if let Some(position) = ROOT_FILES.iter().position(|known| *known == entry.path) {
            if entry.kind != EntryKind::File {
                return Err(invalid(format!("`{}` in it is not a regular file", entry.path)));
            }
            // Which of two is obeyed depends on the reader.
            if self.root[position].replace((entry.data_offset, entry.size)).is_some() {
                return Err(invalid(format!("it has two files `{}`", entry.path)));
            }
            return Ok(());
        }
        let Some(digest) = Digest::from_blob_path(&entry.path) else {
            return Ok(());
        };
        match &entry.kind {
            EntryKind::File => self.blobs.push(Row { digest, offset: entry.data_offset, size: entry.size }),
            EntryKind::Link { .. } => self.links.push(digest),
            EntryKind::Directory | EntryKind::Other(_) => {}
        }
        Ok(())
    }

    /// Passes over faults that can't change what is read.
    fn forgive(&mut self, fault: TarFault, path: &Path, place: &str) -> Result<()> {
        match fault {
            // Never read.
            TarFault::TrailingData { .. } => Ok(()),
            TarFault::LinkOutside { path, .. } => {
                self.links.extend(Digest::from_blob_path(&path));
                Ok(())
            }
            fault => Err(refusal(fault, path, place)),
        }
    }
}

/// Makes the error for a fault that an archive is refused for.
pub(in crate::store) fn refusal(fault: TarFault, path: &Path, place: &str) -> StoreError {
    let fault = match fault {
        TarFault::Io { source, .. } => {
            return StoreError::Io { path: path.to_owned(), action: "could not be read", source };
        }
        fault => fault,
    };
    let advice = match fault {
        TarFault::Truncated { .. } | TarFault::MissingEnd { .. } => "; copy or make the file again",
        TarFault::BadChecksum { offset: 0 } => "; the file may be no tar file",
        _ => "",
    };
    StoreError::Invalid { place: place.to_owned(), why: format!("{fault}{advice}") }
}

/// Opens a file that should be a plain tar file, and returns its length.
///
/// # Errors
/// [`StoreError::Io`] if it can't be opened or read; [`StoreError::Invalid`] if it is no regular file, or compressed:
/// then the message has the command that unpacks it.
pub fn open_archive(path: &Path, place: &str) -> Result<(File, u64)> {
    let io = |source: std::io::Error| StoreError::Io {
        path: path.to_owned(),
        action: "could not be opened",
        source,
    };
    let invalid = |why: String| StoreError::Invalid { place: place.to_owned(), why };
    // Without waiting: the name may be that of a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).map_err(|error| io(error.into()))?);
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(invalid("it is a folder, not a file; a layout folder is named `oci:DIR`".to_owned()));
    }
    if !metadata.is_file() {
        return Err(invalid("it is not a regular file".to_owned()));
    }
    let mut first = [0; 16];
    let read = crate::store::tar::read_full(&file, &mut first, 0).map_err(io)?;
    if let Some(compression) = Compression::of(&first[..read]) {
        return Err(invalid(format!(
            "it is compressed with {}, and is read in place; unpack it first: {}",
            compression.name(),
            compression.command(path)
        )));
    }
    Ok((file, metadata.len()))
}

fn place_of(path: &Path) -> String {
    format!("oci-archive:{}", path.display())
}
