//! A bundle's archive against its record: everything in the file is where the record puts it, and nothing else is there.

use std::fs::File;

use super::head::FoundHead;
use super::read::first_not_zero;
use super::report::Findings;
use super::salvage::{Item, finding_of, scan};
use super::subject::{State, Subject, is_aligned, read_range};
use crate::bundle::table::{BlobRef, BlobTable};
use crate::bundle::trailer::{TRAILER_PATH, TRAILER_SIZE, Trailer};
use crate::oci::Digest;
use crate::store::archive::{END_OF_ARCHIVE, entry_length, header, header_length};

/// What the file should be, and is.
pub(super) struct Shape {
    /// Where the offsets of the table count from.
    pub(super) base: u64,
    /// Where the trailer's header should begin; none if the table makes no sense.
    pub(super) body_end: Option<u64>,
    /// Up to which byte the file is whole, where it was cut off.
    pub(super) whole_until: Option<u64>,
}

/// Returns the length that the rows take, if they stand one behind the other as barge writes them.
fn body_length(blobs: &BlobTable) -> Option<u64> {
    let mut at = 0_u64;
    for row in blobs.iter() {
        let (start, end) = Subject::extent(0, &row)?;
        if start != at {
            return None;
        }
        at = end;
    }
    Some(at)
}

/// Returns where the offsets of the table count from: the end of the head, also where the head's end is damaged.
pub(super) fn base_of(
    file: &File,
    length: u64,
    head: &FoundHead,
    blobs: &BlobTable,
    trailer: Option<&Trailer>,
) -> u64 {
    if head.faults.iter().all(|(_, at, _)| *at != head.end) {
        return head.end;
    }
    let behind =
        body_length(blobs).map(|body| body + entry_length(TRAILER_PATH, TRAILER_SIZE) + END_OF_ARCHIVE);
    let by_length = |length: u64| behind.and_then(|behind| length.checked_sub(behind));
    let candidates = [
        Some(head.end),
        head.resumed,
        trailer.and_then(|trailer| by_length(trailer.length)),
        by_length(length),
    ];
    let fits = |base: &u64| {
        // More than damage could take away at one place, and few enough to look at.
        let rows = blobs.iter().take(16);
        rows.filter(|row| is_headed(file, *base, row)).count()
    };
    // The first of equals: `max_by_key` would take the last.
    candidates.into_iter().flatten().rev().max_by_key(fits).unwrap_or(head.end)
}

fn is_headed(file: &File, base: u64, row: &BlobRef<'_>) -> bool {
    let Some((start, _)) = Subject::extent(base, row) else { return false };
    let expected = header(&Subject::entry_path(row), row.size);
    read_range(file, start, expected.len() as u64, u64::MAX).is_ok_and(|bytes| bytes == expected)
}

/// Checks the table against the file's length and itself, and the file's end; rows that can't be read are marked.
pub(super) fn check_shape(
    file: &File,
    length: u64,
    base: u64,
    blobs: &BlobTable,
    states: &mut [State],
    findings: &mut Findings,
) -> Shape {
    let body = body_length(blobs);
    if body.is_none() {
        check_places(file, length, base, blobs, states, findings);
    }
    let body_end = body.and_then(|body| base.checked_add(body));
    let mut shape = Shape { base, body_end, whole_until: None };
    let behind = entry_length(TRAILER_PATH, TRAILER_SIZE) + END_OF_ARCHIVE;
    let Some(expected) = body_end.and_then(|end| end.checked_add(behind)) else {
        return shape;
    };
    if length < expected {
        let (mut whole, mut cut, mut until) = (0, 0, base.min(length));
        for (at, row) in blobs.iter().enumerate() {
            // Content is whole without its padding; the entry is not.
            let data_end = base + row.offset + row.size;
            if data_end <= length {
                whole += 1;
                until = Subject::extent(base, &row).map_or(until, |(_, end)| end.min(length));
            } else {
                cut += 1;
                states[at] = State::Missing;
            }
        }
        shape.whole_until = Some(until);
        findings.at(
            "truncated",
            until,
            format!(
                "the file has {length} bytes of {expected}; it is whole up to byte {until}: {whole} pieces of content lie \
                 before the cut and {cut} behind it"
            ),
        );
    } else if length > expected {
        findings.at(
            "length-mismatch",
            expected,
            format!("the file has {length} bytes where its record makes {expected}"),
        );
    }
    shape
}

/// Checks rows that do not stand one behind the other: each overlap and each place that no row takes.
fn check_places(
    file: &File,
    length: u64,
    base: u64,
    blobs: &BlobTable,
    states: &mut [State],
    findings: &mut Findings,
) {
    let mut extents = Vec::new();
    for (at, row) in blobs.iter().enumerate() {
        match Subject::extent(base, &row) {
            Some((start, end)) if end <= length && is_aligned(start) => extents.push((start, end, at)),
            _ => {
                let text = format!(
                    "the record puts {} bytes at {} behind the head, where no file can have them",
                    row.size, row.offset
                );
                findings.content("table-misplaced", row.digest, None, text);
                states[at] = State::Missing;
            }
        }
    }
    extents.sort_unstable();
    let mut reached = base;
    for (start, end, at) in extents {
        let Some(row) = blobs.get(at) else { continue };
        if start < reached {
            let text = format!("the record puts it into bytes that other content has up to byte {reached}");
            findings.content("table-overlap", row.digest, Some(start), text);
        } else if start > reached {
            findings.content(
                "table-misplaced",
                row.digest,
                Some(start),
                format!("the record leaves room before it from byte {reached}"),
            );
            check_unlisted(file, reached..start, blobs, base, findings);
        }
        reached = reached.max(end);
    }
}

/// Reports every entry in a range that is not where the table puts it.
pub(super) fn check_unlisted(
    file: &File,
    range: std::ops::Range<u64>,
    blobs: &BlobTable,
    base: u64,
    findings: &mut Findings,
) {
    scan(file, range, &mut |item| {
        match item {
            Item::Entry(entry) if entry.path == TRAILER_PATH => {}
            Item::Entry(entry) => {
                let digest = Digest::from_blob_path(&entry.path);
                match digest.as_ref().and_then(|digest| blobs.find(digest)) {
                    Some((_, row)) if base.checked_add(row.offset) == Some(entry.data_offset) => {}
                    Some((_, row)) => findings.content(
                        "entry-duplicate",
                        row.digest,
                        Some(entry.start),
                        "an entry of its name is here, where the record has none",
                    ),
                    None => {
                        let text = format!("`{}` is not in the record", super::report::shown(&entry.path));
                        findings.at("entry-unlisted", entry.start, text);
                    }
                }
            }
            Item::Fault(fault) => {
                let (id, text) = finding_of(&fault);
                // Where the file ends is looked at elsewhere; broken headers are found with the content they belong to.
                if id == "hostile-path" || id == "entry-unusable" {
                    findings.at(id, fault.offset(), text);
                }
            }
        }
    });
}

/// Checks the trailer and what follows it.
pub(super) fn check_end(
    file: &File,
    length: u64,
    shape: &Shape,
    blobs: &BlobTable,
    record: (&Digest, u64),
    findings: &mut Findings,
) {
    // The trailer of a file that was cut off is missing with all the rest.
    if shape.whole_until.is_some() {
        return;
    }
    let start = shape
        .body_end
        .or_else(|| length.checked_sub(entry_length(TRAILER_PATH, TRAILER_SIZE) + END_OF_ARCHIVE));
    let Some(start) = start else { return };
    let data = start + header_length(TRAILER_PATH, TRAILER_SIZE);
    let expected = header(TRAILER_PATH, TRAILER_SIZE);
    if !read_range(file, start, expected.len() as u64, u64::MAX).is_ok_and(|bytes| bytes == expected) {
        findings.at(
            "tar-header-damaged",
            start,
            "the tar header of the trailer is not the one that barge writes",
        );
    }
    let trailer = read_range(file, data, TRAILER_SIZE, u64::MAX).ok();
    match trailer.as_deref().and_then(Trailer::parse) {
        None => findings.at("trailer-missing", data, "there is no trailer where the file should end"),
        Some(trailer) => {
            if (&trailer.record, trailer.record_size) != record {
                let text = format!(
                    "the trailer belongs to the record {} ({} bytes), the record here is {} ({} bytes)",
                    trailer.record, trailer.record_size, record.0, record.1
                );
                findings.at("trailer-mismatch", data, text);
            }
            if (trailer.volume, trailer.volumes) != (1, 1) {
                let text = format!("the trailer says volume {} of {}", trailer.volume, trailer.volumes);
                findings.at("trailer-mismatch", data, text);
            }
            if trailer.length != length {
                let text = format!("the trailer says {} bytes, the file has {length}", trailer.length);
                findings.at("length-mismatch", data, text);
            }
        }
    }
    let end = data + TRAILER_SIZE;
    if let Some(place) = first_not_zero(file, end, length) {
        if place < end + END_OF_ARCHIVE {
            findings.at("end-mark", place, "not zero, in the two blocks that end the archive");
        } else {
            findings.at("trailing-data", place, "there is data behind the archive's end");
        }
        check_unlisted(file, start..length, blobs, shape.base, findings);
    }
}
