//! Reads tar files by scanning their headers: where each entry lies, and what is wrong with it.
//!
//! The input is hostile or damaged until shown otherwise. Nothing is extracted and no number from the file is believed:
//! sizes are checked against the file's length before they are added to an offset, names are checked before they are
//! handed out, and what an extension header may make this reader allocate is bounded. Where the readers of the field
//! disagree about a header, the entry is a fault rather than a guess; where they agree, this one follows Go's
//! `archive/tar`, which skopeo, podman, containerd and docker read with.
//!
//! Faults are values with offsets ([`TarFault`]). A scan goes on after a fault that leaves the next entry's place
//! known, and ends after one that does not ([`TarFault::ends_scan`]). Files are read with `pread`, never mapped: a
//! medium that fails under a mapping would kill the process instead of being a finding.

mod compressed;
mod extension;
mod header;
mod name;
mod scan;
mod slice;
mod stream;
mod write;

use std::io;

pub use compressed::Compression;
pub use header::{Header, HeaderFault, parse_header_block};
pub(in crate::store) use name::normalise;
pub use scan::Scan;
pub(in crate::store) use scan::read_full;
pub use slice::FileSlice;
pub use stream::{StreamEntry, TarStream};
pub(crate) use write::Tarball;

/// The unit that tar files are made of, in bytes (POSIX `pax`, "ustar Interchange Format").
pub const BLOCK: u64 = 512;

/// One entry of a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name, relative to the archive's root, without `.` components and trailing `/`; empty for the root itself.
    pub path: String,
    /// What the entry is.
    pub kind: EntryKind,
    /// Offset of the first block of the entry, PAX and GNU extension headers included.
    pub start: u64,
    /// Offset of the header block that is followed by the data.
    pub header_offset: u64,
    /// Offset of the data.
    pub data_offset: u64,
    /// Length of the data in bytes; it lies within the file.
    pub size: u64,
}

impl Entry {
    /// Returns the offset just after the entry's data and its padding, where the next entry begins in a whole file.
    #[must_use]
    pub fn end(&self) -> u64 {
        (self.data_offset + self.size).next_multiple_of(BLOCK)
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic or hard link to another name in the archive.
    Link {
        /// The name linked to, relative to the archive's root and normalised as [`Entry::path`].
        target: String,
    },
    /// Anything else, by its type flag: devices, pipes, producers' own types.
    Other(u8),
}

/// What is wrong at a place in a tar file.
#[derive(Debug, thiserror::Error)]
pub enum TarFault {
    /// The file ends before the header, the extension or the data that began at `offset`.
    #[error(
        "the file is cut off: what begins at byte {offset}{} needs {needed} bytes and {available} are left",
        named(.path.as_ref())
    )]
    Truncated {
        /// Where the cut-off thing begins.
        offset: u64,
        /// Name of the entry, where it is known.
        path: Option<String>,
        /// Bytes it needs from `offset`; saturated at `u64::MAX`.
        needed: u64,
        /// Bytes there are from `offset`.
        available: u64,
    },
    /// A header block's checksum is wrong: the block is damaged, or no header.
    #[error("the tar header at byte {offset} is damaged: its checksum does not fit")]
    BadChecksum {
        /// Offset of the block.
        offset: u64,
    },
    /// A size that is no number, negative, or beyond 64 bits.
    #[error("the tar header at byte {offset} has a size that is no number of bytes")]
    BadSize {
        /// Offset of the block.
        offset: u64,
    },
    /// An extension header that is broken, repeated, contradicts another or is longer than readers accept.
    #[error("the extension header at byte {offset} can't be used: {why}")]
    BadExtension {
        /// Offset of the extension's header block.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name that must not be used: absolute, with `..`, with a zero byte, not UTF-8, or too long.
    #[error("the entry at byte {offset} has the name `{path}`, which is refused: {why}")]
    HostilePath {
        /// Offset of the entry's first block.
        offset: u64,
        /// The name, cut and with everything unprintable escaped.
        path: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// A link to something that is not in the archive.
    #[error("the entry `{path}` at byte {offset} is a link to `{target}`, outside the archive")]
    LinkOutside {
        /// Offset of the entry's first block.
        offset: u64,
        /// Name of the link.
        path: String,
        /// Its target, cut and with everything unprintable escaped.
        target: String,
    },
    /// A sparse file in one of GNU's forms, whose content is not stored as it is.
    #[error("the entry `{path}` at byte {offset} is a sparse file, a form that most readers don't know")]
    Sparse {
        /// Offset of the entry's first block.
        offset: u64,
        /// Name of the entry.
        path: String,
    },
    /// The file ends where an entry could begin, without the two zero blocks that end an archive.
    #[error("the archive has no end mark at byte {offset}: it may be cut off")]
    MissingEnd {
        /// Where the end mark should be.
        offset: u64,
    },
    /// Something other than zeros follows the end mark.
    #[error("there is data at byte {offset}, after the archive's end")]
    TrailingData {
        /// Offset of the first block that is not zero.
        offset: u64,
    },
    /// The file could not be read.
    #[error("byte {offset} could not be read")]
    Io {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl TarFault {
    /// Returns where the fault is, in bytes from the file's start.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match self {
            Self::Truncated { offset, .. }
            | Self::BadChecksum { offset }
            | Self::BadSize { offset }
            | Self::BadExtension { offset, .. }
            | Self::HostilePath { offset, .. }
            | Self::LinkOutside { offset, .. }
            | Self::Sparse { offset, .. }
            | Self::MissingEnd { offset }
            | Self::TrailingData { offset }
            | Self::Io { offset, .. } => *offset,
        }
    }

    /// Returns whether nothing can follow this fault: the place of the next entry is unknown, or there is none.
    #[must_use]
    pub fn ends_scan(&self) -> bool {
        !matches!(self, Self::HostilePath { .. } | Self::LinkOutside { .. } | Self::Sparse { .. })
    }
}

/// ` (`name`)`, or nothing.
fn named(path: Option<&String>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!(" (`{path}`)"))
}

#[cfg(test)]
mod tests;
