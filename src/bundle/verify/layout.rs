//! Opening layouts without a record, layout folders, and what remains of a bundle whose record can't be used.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::head::{HeadFile, check_files, read_record};
use super::index::roots_of;
use super::report::{Findings, Form, shown};
use super::salvage::{HEAD_PATHS, Item, finding_of, scan};
use super::subject::{MAX_SIZE, Place, Root, State, Subject, read_range};
use super::{Opened, VerifyError};
use crate::bundle::head::{GAP_PREFIX, INDEX_PATH, LAYOUT_PATH, layout_file};
use crate::bundle::record::RECORD_PATH;
use crate::bundle::table::{AbsentTable, BlobRow, BlobTable, Role};
use crate::bundle::trailer::TRAILER_PATH;
use crate::oci::Digest;
use crate::store::layout::{DirectoryFiles, LayoutFiles, MAX_ROOT_FILE};
use crate::store::tar::{EntryKind, TarFault};
use crate::store::{Result, StoreError};

/// Opens a tar file by its headers: a layout of any producer, or what remains of a bundle.
pub(super) fn open_tar(
    file: File,
    length: u64,
    path: &Path,
    form: Form,
    findings: &mut Findings,
) -> std::result::Result<Opened, VerifyError> {
    let mut head: Vec<HeadFile> = Vec::new();
    let mut rows: Vec<BlobRow> = Vec::new();
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut whole_until = None;
    scan(&file, 0..length, &mut |item| {
        let entry = match item {
            Item::Entry(entry) => entry,
            Item::Fault(fault) => {
                if let TarFault::Truncated { offset, .. } | TarFault::MissingEnd { offset } = &fault {
                    whole_until.get_or_insert(*offset);
                }
                let (id, text) = finding_of(&fault);
                findings.at(id, fault.offset(), text);
                return;
            }
        };
        let digest = Digest::from_blob_path(&entry.path);
        let is_head = HEAD_PATHS.contains(&entry.path.as_str());
        if entry.kind != EntryKind::File {
            // Folders and whatever else a producer packs along are no part of the layout.
            if digest.is_some() || is_head {
                let text =
                    format!("`{}` is no regular file, and is not followed or read", shown(&entry.path));
                findings.at("entry-unusable", entry.start, text);
            }
            return;
        }
        if is_head {
            if head.iter().any(|found| found.path == entry.path) {
                findings.at("entry-duplicate", entry.start, format!("`{}` is there twice", entry.path));
            }
            head.push(HeadFile {
                path: entry.path,
                start: entry.start,
                data: entry.data_offset,
                size: entry.size,
            });
        } else if let Some(digest) = digest {
            if !seen.insert(digest.clone()) {
                findings.content("entry-duplicate", &digest, Some(entry.start), "it is there twice");
                // As if the archive had been unpacked, the later one counts.
                rows.retain(|row| row.digest != digest);
            }
            rows.push(BlobRow {
                digest,
                media_type: String::new(),
                offset: entry.data_offset,
                role: Role::Opaque,
                size: entry.size,
            });
        } else if form == Form::Remains && entry.path != TRAILER_PATH && !entry.path.starts_with(GAP_PREFIX) {
            findings.at(
                "entry-unlisted",
                entry.start,
                format!("`{}` is no part of a bundle", shown(&entry.path)),
            );
        }
    });
    if head.is_empty() && rows.is_empty() {
        return Err(VerifyError::NoLayout { path: path.to_owned(), first: findings.first() });
    }
    let read = |name: &str| {
        let found = head.iter().rev().find(|found| found.path == name)?;
        Some(read_range(&file, found.data, found.size, MAX_ROOT_FILE))
    };
    check_marker(read(LAYOUT_PATH), form, findings);
    let images = roots(read(INDEX_PATH), findings);
    let blobs = table(rows, path)?;
    let states = vec![State::Unread; blobs.len()];
    let place = Place::File { file, base: 0, exact: false };
    let (absent, strict) = (AbsentTable::default(), whole_until.is_some());
    let subject = Subject {
        place,
        blobs,
        absent,
        patches: Vec::new(),
        far_content: Vec::new(),
        images,
        recorded: false,
        strict,
        states,
    };
    let length = Some(length);
    Ok(Opened { subject, form, bundle: None, length, whole_until, listing: None, bases: Vec::new() })
}

fn table(rows: Vec<BlobRow>, path: &Path) -> std::result::Result<BlobTable, VerifyError> {
    let fits = |row: &BlobRow| row.size <= MAX_SIZE && row.offset <= MAX_SIZE;
    let rows = rows.into_iter().filter(fits);
    BlobTable::new(rows).map_err(|error| {
        StoreError::Invalid { place: path.display().to_string(), why: error.to_string() }.into()
    })
}

fn check_marker(found: Option<io::Result<Vec<u8>>>, form: Form, findings: &mut Findings) {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let text = match found {
        Some(Ok(bytes)) if form == Form::Remains && bytes == layout_file() => return,
        Some(Ok(bytes)) => match serde_json::from_slice::<Marker>(&bytes) {
            Ok(marker) if form == Form::Layout && marker.image_layout_version.starts_with("1.") => return,
            Ok(marker) => format!("`oci-layout` says version `{}`", shown(&marker.image_layout_version)),
            Err(error) => format!("`oci-layout` is malformed: {error}"),
        },
        Some(Err(error)) => format!("`oci-layout` can't be read: {error}"),
        None => "`oci-layout` is not found".to_owned(),
    };
    findings.whole("layout-mismatch", text);
}

fn roots(found: Option<io::Result<Vec<u8>>>, findings: &mut Findings) -> Vec<Root> {
    let text = match found {
        Some(Ok(bytes)) => match roots_of(&bytes) {
            Ok((roots, 0)) => return roots,
            Ok((roots, bad)) => {
                findings.whole("index-mismatch", format!("`index.json` lists {bad} that are no descriptors"));
                return roots;
            }
            Err(error) => format!("`index.json` is malformed: {error}"),
        },
        Some(Err(error)) => format!("`index.json` can't be read: {error}"),
        None => "`index.json` is not found".to_owned(),
    };
    findings.whole("index-mismatch", shown(&text));
    Vec::new()
}

/// Opens a layout folder, with a record or without.
pub(super) fn open_folder(path: &Path, findings: &mut Findings) -> std::result::Result<Opened, VerifyError> {
    let files = DirectoryFiles::open(path)?;
    let read = |name: &str| root_file(&files, name);
    if read(LAYOUT_PATH).is_none() && read(INDEX_PATH).is_none() {
        return Err(VerifyError::NoLayout { path: path.to_owned(), first: None });
    }
    let mut form = Form::Layout;
    if let Some(bytes) = read(RECORD_PATH) {
        let record = match bytes {
            Ok(bytes) => read_record(bytes.as_slice(), findings),
            Err(error) => Err(("record-damaged", format!("`barge.json` can't be read: {error}"))),
        };
        match record {
            Ok(found) => {
                let listing = check_files(&found.record, &read, findings);
                let bases = found.record.base.as_ref().map_or(Vec::new(), |base| base.bases.clone());
                check_listed(path, &files, Some(&found.record.blobs), findings)?;
                let bundle = Some(found.id);
                let subject = Subject::of_record(found.record, Place::Folder(files));
                let (form, length, whole_until) = (Form::Bundle, None, None);
                return Ok(Opened { subject, form, bundle, length, whole_until, listing, bases });
            }
            Err((id, text)) => {
                findings.whole(id, text);
                form = Form::Remains;
            }
        }
    }
    check_marker(read(LAYOUT_PATH), form, findings);
    let images = roots(read(INDEX_PATH), findings);
    let rows = check_listed(path, &files, None, findings)?;
    let blobs = table(rows, path)?;
    let states = vec![State::Unread; blobs.len()];
    let (absent, place) = (AbsentTable::default(), Place::Folder(files));
    let subject = Subject {
        place,
        blobs,
        absent,
        patches: Vec::new(),
        far_content: Vec::new(),
        images,
        recorded: false,
        strict: false,
        states,
    };
    let (bundle, length, whole_until) = (None, None, None);
    Ok(Opened { subject, form, bundle, length, whole_until, listing: None, bases: Vec::new() })
}

/// Reads a file at a folder's root; one that is no regular file is as good as one that can't be read.
fn root_file(files: &DirectoryFiles, name: &str) -> Option<io::Result<Vec<u8>>> {
    files.root_file(name, MAX_ROOT_FILE).map_err(io::Error::other).transpose()
}

/// Lists the blobs of a folder; reports those that are not in `known`, where there is a record, and files that are no
/// blobs.
fn check_listed(
    path: &Path,
    files: &DirectoryFiles,
    known: Option<&BlobTable>,
    findings: &mut Findings,
) -> Result<Vec<BlobRow>> {
    let mut rows = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let folder = path.join("blobs").join(algorithm);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(StoreError::Io { path: folder, action: "can't be listed", source }),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(source) => {
                    return Err(StoreError::Io { path: folder, action: "can't be listed", source });
                }
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = Digest::from_blob_path(&format!("blobs/{algorithm}/{name}"));
            match (digest, known) {
                (Some(digest), Some(known))
                    if known.find(&digest).is_none_or(|(_, row)| row.role == Role::Gap) =>
                {
                    findings.content("entry-unlisted", &digest, None, "the record does not list it as held");
                }
                (Some(_), Some(_)) => {}
                (Some(digest), None) => match files.blob_size(&digest) {
                    Ok(size) => rows.push(BlobRow {
                        digest,
                        media_type: String::new(),
                        offset: 0,
                        role: Role::Opaque,
                        size: size.unwrap_or(0),
                    }),
                    Err(error) => {
                        findings.content("entry-unusable", &digest, None, shown(&error.to_string()));
                    }
                },
                (None, _) => {
                    let text = format!("`blobs/{algorithm}/{}` is no blob by its name", shown(&name));
                    findings.whole("entry-unlisted", text);
                }
            }
        }
    }
    rows.sort_by(|a, b| a.digest.cmp(&b.digest));
    Ok(rows)
}
