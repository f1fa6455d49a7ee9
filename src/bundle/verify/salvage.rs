//! Scanning tar files that may be damaged anywhere: where the chain of headers breaks, it is taken up again further on.

use std::fs::File;
use std::ops::Range;

use super::read::{PIECE, first_not_zero, read_full};
use crate::bundle::head::{DOCKER_MANIFEST_PATH, GAP_PREFIX, INDEX_PATH, LAYOUT_PATH, PAD_PATH};
use crate::bundle::record::RECORD_PATH;
use crate::bundle::trailer::TRAILER_PATH;
use crate::oci::Digest;
use crate::store::tar::{BLOCK, Entry, Scan, TarFault, parse_header_block};

/// The files that may stand in the head of a bundle.
pub(super) const HEAD_PATHS: [&str; 5] =
    [LAYOUT_PATH, INDEX_PATH, RECORD_PATH, DOCKER_MANIFEST_PATH, PAD_PATH];

/// What a scan comes upon.
#[derive(Debug)]
pub(super) enum Item {
    /// An entry.
    Entry(Entry),
    /// Something wrong.
    Fault(TarFault),
}

/// Returns whether a name is one that layouts have: only such an entry is believed where the chain of headers is
/// broken, since layers are tar files too and have headers inside.
fn is_known(path: &str) -> bool {
    HEAD_PATHS.contains(&path)
        || path == TRAILER_PATH
        || path.starts_with(GAP_PREFIX)
        || Digest::from_blob_path(path).is_some()
}

/// Scans `range` of a file, where an entry begins at its start, telling `take` of entries and faults.
///
/// The end mark ends the scan only where nothing but zeros follows it: elsewhere it is a place that was lost.
pub(super) fn scan(file: &File, range: Range<u64>, take: &mut dyn FnMut(Item)) {
    let mut start = range.start;
    // While lost, nothing counts but entries with names that layouts have.
    let mut lost = false;
    loop {
        let mut scan = Scan::at(file, range.end, start).until_end_mark();
        let broken = loop {
            let before = scan.position();
            match scan.next() {
                None if lost => break scan.position(),
                None => {
                    let Some(place) = first_not_zero(file, scan.position(), range.end) else { return };
                    take(Item::Fault(TarFault::TrailingData { offset: place - place % BLOCK }));
                    break place - place % BLOCK;
                }
                Some(Ok(entry)) if lost && !is_known(&entry.path) => {}
                Some(Ok(entry)) => {
                    lost = false;
                    take(Item::Entry(entry));
                }
                Some(Err(fault)) => {
                    let offset = fault.offset();
                    let ends = fault.ends_scan();
                    let stops = matches!(fault, TarFault::MissingEnd { .. });
                    if !lost {
                        take(Item::Fault(fault));
                    }
                    if stops {
                        return;
                    }
                    if ends {
                        break offset.max(before).saturating_add(BLOCK);
                    }
                }
            }
        };
        lost = true;
        match resync(file, broken..range.end) {
            Some(next) => start = next,
            None => return,
        }
    }
}

/// Finds the next block that is a tar header, or an extension before one, and could begin an entry of a layout.
pub(super) fn resync(file: &File, range: Range<u64>) -> Option<u64> {
    let mut buffer = vec![0; PIECE];
    let mut at = range.start.checked_next_multiple_of(BLOCK)?;
    while at < range.end {
        let want = (range.end - at).min(PIECE as u64) as usize;
        // Beyond a bad place there may be good ones.
        let Ok(count) = read_full(file, &mut buffer[..want], at) else {
            at += PIECE as u64;
            continue;
        };
        for (block, offset) in
            buffer[..count].as_chunks::<{ BLOCK as usize }>().0.iter().zip((at..).step_by(512))
        {
            if let Ok(Some(header)) = parse_header_block(block) {
                let extends = matches!(header.type_flag, b'x' | b'L');
                if extends
                    || std::str::from_utf8(&header.path)
                        .is_ok_and(|path| is_known(path.trim_start_matches("./")))
                {
                    return Some(offset);
                }
            }
        }
        if count < want || count < BLOCK as usize {
            return None;
        }
        at += (count as u64 / BLOCK) * BLOCK;
    }
    None
}

/// Returns the kind and the words of the finding for a fault.
pub(super) fn finding_of(fault: &TarFault) -> (&'static str, String) {
    let id = match fault {
        TarFault::Truncated { .. } | TarFault::MissingEnd { .. } => "truncated",
        TarFault::BadChecksum { .. } | TarFault::BadSize { .. } | TarFault::BadExtension { .. } => {
            "tar-header-damaged"
        }
        TarFault::HostilePath { .. } | TarFault::LinkOutside { .. } => "hostile-path",
        TarFault::Sparse { .. } => "entry-unusable",
        TarFault::TrailingData { .. } => "trailing-data",
        TarFault::Io { source, .. } => return ("blob-unreadable", format!("{fault}: {source}")),
    };
    (id, fault.to_string())
}
