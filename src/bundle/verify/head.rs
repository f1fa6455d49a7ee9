//! The head of an archive: finding it, also where a part of it is damaged, and judging its files.

use std::fs::File;
use std::io::{self, Read};

use serde::Deserialize;

use super::index::Listing;
use super::read::{first_not_zero, read_full};
use super::report::{Findings, shown};
use super::salvage::{HEAD_PATHS, finding_of, resync};
use super::subject::read_range;
use crate::bundle::head::{DOCKER_MANIFEST_PATH, INDEX_PATH, LAYOUT_PATH, PAD_PATH, layout_file};
use crate::bundle::patches::PatchesError;
use crate::bundle::record::{RECORD_PATH, Record, RecordError};
use crate::bundle::trailer::Trailer;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::select::Reason;
use crate::store::archive::{BLOCK, header, padded};
use crate::store::layout::MAX_ROOT_FILE;
use crate::store::tar::{EntryKind, FileSlice, Scan};

/// How far the next header is looked for behind a damaged one of the head, in bytes: beyond the largest index that is
/// read, and the record of more content than any bundle has had.
const SEARCH: u64 = 4 * MAX_ROOT_FILE;

/// A file of the head.
#[derive(Debug, Clone)]
pub(super) struct HeadFile {
    /// Its path.
    pub(super) path: String,
    /// Where its header begins.
    pub(super) start: u64,
    /// Where its content begins.
    pub(super) data: u64,
    /// Length of its content in bytes.
    pub(super) size: u64,
}

impl HeadFile {
    fn end(&self) -> u64 {
        self.data + padded(self.size)
    }
}

/// What was found of a head.
#[derive(Debug, Default)]
pub(super) struct FoundHead {
    /// Its files, in the order of the file.
    pub(super) files: Vec<HeadFile>,
    /// Where its chain of headers ends: at the first blob, or at something damaged.
    pub(super) end: u64,
    /// Where a header was found again behind something damaged at `end`.
    pub(super) resumed: Option<u64>,
    /// What is wrong: kind, offset, words.
    pub(super) faults: Vec<(&'static str, u64, String)>,
}

impl FoundHead {
    /// Returns a file by its path.
    pub(super) fn file(&self, path: &str) -> Option<&HeadFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Finds the head of an archive, going on behind a damaged header where the next one can be found.
pub(super) fn find(file: &File, length: u64, trailer: Option<&Trailer>) -> FoundHead {
    let mut head = FoundHead::default();
    loop {
        let at = head.end;
        let fault = match Scan::at(file, length, at).until_end_mark().next() {
            Some(Ok(entry)) if HEAD_PATHS.contains(&entry.path.as_str()) && entry.kind == EntryKind::File => {
                head.end = entry.end();
                head.files.push(HeadFile {
                    path: entry.path,
                    start: entry.start,
                    data: entry.data_offset,
                    size: entry.size,
                });
                continue;
            }
            Some(Ok(_)) => return head,
            Some(Err(fault)) => {
                let (id, text) = finding_of(&fault);
                (id, at, text)
            }
            // Zeros: a part of the file was never written, or was lost.
            None => ("tar-header-damaged", at, "there are zeros where a tar header should be".to_owned()),
        };
        // The record is the one file that the trailer knows by length and digest.
        if let Some(trailer) = trailer
            && head.file(RECORD_PATH).is_none()
            && digest_of(file, at + BLOCK, trailer.record_size).is_ok_and(|digest| digest == trailer.record)
        {
            let found = HeadFile {
                path: RECORD_PATH.to_owned(),
                start: at,
                data: at + BLOCK,
                size: trailer.record_size,
            };
            head.end = found.end();
            head.files.push(found);
            head.faults.push(fault);
            continue;
        }
        let limit = length.min(at.saturating_add(SEARCH));
        let next = resync(file, at.saturating_add(BLOCK)..limit);
        let goes_on = next.filter(|next| {
            let entry = Scan::at(file, length, *next).until_end_mark().next();
            matches!(entry, Some(Ok(entry)) if HEAD_PATHS.contains(&entry.path.as_str()))
        });
        head.faults.push(fault);
        let Some(next) = goes_on else {
            head.resumed = next;
            return head;
        };
        head.end = next;
    }
}

/// Hashes a range of a file.
///
/// # Errors
/// What reading says, an early end among it.
fn digest_of(file: &File, start: u64, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut piece = vec![0; 64 * 1024];
    let mut at = 0;
    while at < size {
        let want = (size - at).min(piece.len() as u64) as usize;
        let count =
            read_full(file, &mut piece[..want], start.saturating_add(at)).map_err(|(_, error)| error)?;
        if count < want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&piece[..count]);
        at += count as u64;
    }
    Ok(hasher.finish())
}

/// A record that was read, with what its bytes are.
pub(super) struct ReadRecord {
    pub(super) record: Record,
    pub(super) id: Digest,
    pub(super) size: u64,
}

/// Reads a record and judges it by itself.
///
/// # Errors
/// Kind and words of a finding, where it can't be used.
pub(super) fn read_record(
    from: impl Read,
    findings: &mut Findings,
) -> Result<ReadRecord, (&'static str, String)> {
    let (record, id, size) = Record::read_hashed(from).map_err(|error| {
        let id = match &error {
            RecordError::Version(_)
            | RecordError::Feature(_)
            | RecordError::Patches(PatchesError::Codec(..)) => "record-newer",
            RecordError::Invalid(_)
            | RecordError::MediaType(_)
            | RecordError::Repository(_)
            | RecordError::Patches(_) => "record-damaged",
        };
        let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
        (id, format!("{error}{}", shown(&cause)))
    })?;
    // A later minor version may have fields that this one does not write.
    if record.format_version == crate::bundle::record::FORMAT_VERSION && record.id() != (id.clone(), size) {
        findings.whole("record-damaged", "`barge.json` is not in the one form in which barge writes it");
    }
    let names: Vec<String> = record.images.iter().map(|image| image.name.to_string()).collect();
    if let Some((first, second)) =
        names.iter().zip(names.iter().skip(1)).find(|(first, second)| first >= second)
    {
        findings.whole(
            "record-damaged",
            format!("it lists {} before {}, out of order", shown(first), shown(second)),
        );
    }
    for row in record.absent.iter().filter(|row| record.blobs.find(&row.digest).is_some()) {
        findings.content("record-damaged", &row.digest, None, "it is listed both as held and as left out");
    }
    check_reliance(&record, findings);
    super::patches::check_rows(&record, findings);
    Ok(ReadRecord { record, id, size })
}

/// Checks what a delta bundle says of what it builds on.
fn check_reliance(record: &Record, findings: &mut Findings) {
    let mut damaged = |text: &str| findings.whole("record-damaged", text);
    if let Some(base) = &record.base {
        if base.bases.is_empty() {
            damaged("it is a delta bundle and does not say what it builds on");
        }
        for (list, is_sorted) in [
            ("bases", base.bases.is_sorted_by(|a, b| a < b)),
            ("removed names", base.removed.is_sorted_by(|a, b| a < b)),
            ("repositories", base.repositories.is_sorted_by(|a, b| a < b)),
        ] {
            if !is_sorted {
                damaged(&format!("its list of {list} is out of order, or has something twice"));
            }
        }
    }
    for row in record.absent.iter() {
        let is_relied_on = row.reason == Reason::Base;
        let text = if is_relied_on && record.base.is_none() {
            "it is left out because the far side has it, and nothing says what the bundle builds on"
        } else if is_relied_on && row.size == 0 {
            "it is left out because the far side has it, and has no bytes by which that could be proved"
        } else if !is_relied_on && !row.repositories.is_empty() {
            "repositories are listed for it, and it is not left out because the far side has it"
        } else if !row.repositories.is_sorted_by(|a, b| a < b) {
            "the repositories listed for it are out of order, or one is there twice"
        } else {
            continue;
        };
        findings.content("record-damaged", &row.digest, None, text);
    }
}

/// Compares the entries of a head with what barge writes, to the byte: order, headers, padding.
pub(super) fn check_entries(file: &File, head: &FoundHead, base: u64, findings: &mut Findings) {
    let mut expected_start = 0;
    let mut last = None;
    for found in &head.files {
        let place = HEAD_PATHS.iter().position(|path| *path == found.path);
        if last >= place {
            findings.at(
                "entry-duplicate",
                found.start,
                format!("`{}` is there twice or out of order", found.path),
            );
        }
        last = place;
        let expected = header(&found.path, found.size);
        let start = found.data.checked_sub(expected.len() as u64);
        let known = head.faults.iter().any(|(_, at, _)| *at == found.start);
        let bytes = read_range(file, start.unwrap_or(0), expected.len() as u64, u64::MAX);
        if !known && (start != Some(found.start) || !bytes.is_ok_and(|bytes| bytes == expected)) {
            let text = format!("the tar header of `{}` is not the one that barge writes", found.path);
            findings.at("tar-header-damaged", found.start, text);
        }
        if found.start != expected_start && !head.faults.iter().any(|(_, at, _)| *at < found.start) {
            findings.at(
                "entry-unlisted",
                expected_start,
                format!("there is something before `{}`", found.path),
            );
        }
        let tail = found.data + found.size;
        // A pad is nothing but zeros.
        let from = if found.path == PAD_PATH { found.data } else { tail };
        if let Some(place) = first_not_zero(file, from, found.end()) {
            findings.at("padding", place, format!("not zero, behind `{}`", found.path));
        }
        expected_start = found.end();
    }
    for (id, at, text) in head.faults.iter().filter(|(_, at, _)| *at < base) {
        findings.at(id, *at, text.clone());
    }
}

/// Judges the files of a head but the record, which `read` hands out by path. Returns what `index.json` lists, if it is
/// the one of the record.
pub(super) fn check_files(
    record: &Record,
    read: &dyn Fn(&str) -> Option<io::Result<Vec<u8>>>,
    findings: &mut Findings,
) -> Option<Listing> {
    let mut listing = None;
    match read(LAYOUT_PATH) {
        Some(Ok(bytes)) if bytes == layout_file() => {}
        other => findings.whole("layout-mismatch", unlike(LAYOUT_PATH, other)),
    }
    match read(INDEX_PATH) {
        Some(Ok(bytes)) if Digest::sha256(&bytes) == record.index => {
            listing = Listing::of(record, &bytes, findings);
        }
        other => findings.whole("index-mismatch", unlike(INDEX_PATH, other)),
    }
    match (&record.docker_manifest, read(DOCKER_MANIFEST_PATH)) {
        (None, None) => {}
        (None, Some(_)) => findings
            .whole("docker-manifest-mismatch", "`manifest.json` is there and the record knows of none"),
        (Some(digest), Some(Ok(bytes))) if Digest::sha256(&bytes) == *digest => {
            check_docker_manifest(record, &bytes, findings);
        }
        (Some(_), other) => findings.whole("docker-manifest-mismatch", unlike(DOCKER_MANIFEST_PATH, other)),
    }
    listing
}

fn unlike(path: &str, found: Option<io::Result<Vec<u8>>>) -> String {
    match found {
        None => format!("`{path}` is not found"),
        Some(Err(error)) => format!("`{path}` can't be read: {error}"),
        Some(Ok(bytes)) => format!(
            "`{path}` has other content ({} bytes that hash to {})",
            bytes.len(),
            Digest::sha256(&bytes)
        ),
    }
}

/// Checks that what `docker load` would read is in the bundle.
fn check_docker_manifest(record: &Record, bytes: &[u8], findings: &mut Findings) {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Loadable {
        config: String,
        #[serde(default)]
        layers: Vec<String>,
    }
    let Ok(images) = serde_json::from_slice::<Vec<Loadable>>(bytes) else {
        findings.whole("docker-manifest-mismatch", "`manifest.json` is no list of images");
        return;
    };
    for path in images.iter().flat_map(|image| image.layers.iter().chain([&image.config])) {
        let row = Digest::from_blob_path(path)
            .and_then(|digest| record.blobs.find(&digest).map(|(_, row)| row.role));
        if !row.is_some_and(crate::bundle::table::Role::is_shipped) {
            let text = format!("`manifest.json` refers to `{}`, which the bundle does not hold", shown(path));
            findings.whole("docker-manifest-mismatch", text);
        }
    }
}

/// Makes a reader over a file of the head.
pub(super) fn slice<'f>(file: &'f File, found: &HeadFile) -> FileSlice<&'f File> {
    FileSlice::new(file, found.data, found.size, 0)
}
