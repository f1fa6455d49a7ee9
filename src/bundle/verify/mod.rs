//! Verification: everything that is wrong with a bundle or layout, collected as data, never only the first.
//!
//! Nothing is believed. The structure is compared with what barge writes, byte for byte; every piece of content is
//! hashed; every image is walked through the manifests that are really there; and for each finding it is said which
//! images and platforms it costs and what has to be sent again. Nothing here speaks with the network.
//!
//! - [`head`] finds the head, also a damaged one; `archive` compares the file with the record's table.
//! - `index` compares `index.json` with what the images need.
//! - `layout` opens what has no record that can be used; `salvage` scans tar files that are broken somewhere.
//! - `patches` judges what the record says of content that is rebuilt, and compares patches with it.
//! - `read` reads and hashes; `walk` walks; `judge` draws the conclusions.

mod archive;
mod head;
mod index;
mod judge;
mod kinds;
mod layout;
mod patches;
mod read;
mod report;
mod salvage;
mod subject;
mod walk;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use kinds::{KINDS, Kind, kind_of};
pub use report::{Amount, Cost, Counts, Finding, Form, ImageState, Report, Resend};

use self::index::Listing;
use self::read::{Buffers, Verdict};
use self::report::{Findings, shown};
use self::subject::{Place, State, Subject, forget};
use self::walk::Closure;
use crate::bundle::record::RECORD_PATH;
use crate::bundle::table::{BlobRef, Role};
use crate::bundle::trailer::{TRAILER_SIZE, Trailer};
use crate::graph::reliance::BaseEntry;
use crate::oci::{Digest, Reference};
use crate::store::archive::END_OF_ARCHIVE;
use crate::store::layout::open_archive;
use crate::store::{StoreError, chain};
use crate::transfer::{Progress, for_each};

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The images to verify; empty for all. Only what they need is read.
    pub images: Vec<String>,
    /// Whether to read what the system has in memory, instead of the medium.
    pub cached: bool,
    /// How many pieces of content at once; 0 for as many as there are processors.
    pub jobs: usize,
}

/// Why there is nothing to verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file or folder can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing of a bundle or layout is in it.
    #[error("{} holds neither a bundle nor an OCI layout, nor any remains of one{}", .path.display(), because(.first.as_ref()))]
    NoLayout {
        /// The file or folder.
        path: PathBuf,
        /// The first thing that was wrong with it.
        first: Option<String>,
    },
    /// An image was asked for that is not in it.
    #[error("{} has no image `{name}`", .path.display())]
    NoImage {
        /// The file or folder.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// The names it has, sorted.
        have: Vec<String>,
    },
}

fn because(first: Option<&String>) -> String {
    first.map_or_else(String::new, |first| format!(": {first}"))
}

/// What was opened.
struct Opened {
    subject: Subject,
    form: Form,
    bundle: Option<Digest>,
    length: Option<u64>,
    whole_until: Option<u64>,
    /// What `index.json` lists, where a record says what it should list.
    listing: Option<Listing>,
    /// What it builds on, where it is a delta bundle.
    bases: Vec<BaseEntry>,
}

/// Verifies a bundle, or any OCI layout, in a file or folder.
///
/// # Errors
/// [`VerifyError`] if there is nothing that could be verified. All else is a finding.
pub fn verify(path: &Path, options: &Options, progress: &dyn Progress) -> Result<Report, VerifyError> {
    let mut findings = Findings::default();
    let metadata = std::fs::metadata(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        action: "could not be opened",
        source,
    })?;
    let mut opened = if metadata.is_dir() {
        layout::open_folder(path, &mut findings)?
    } else {
        open_file(path, options, &mut findings)?
    };
    let subject = &mut opened.subject;
    let chosen = choose(path, subject, &options.images)?;
    let restricted = !options.images.is_empty();
    let mut closure = walk::walk(subject, &chosen, &mut findings);
    if let Some(listing) = &opened.listing {
        listing.check(subject, &closure, &chosen, &mut findings);
    }
    let hashed = read_all(subject, &closure, restricted, options, progress, &mut findings);
    patches::check_heads(subject, &mut closure, restricted, &mut findings);
    for at in &chosen {
        let root = &subject.images[*at];
        if root.failed {
            findings.whole(
                "failed-image",
                format!("{} could not be had whole when the bundle was packed", root.name),
            );
            if let Some(finding) = findings.list_mut().last_mut() {
                finding.digest = root.descriptor.as_ref().map(|descriptor| descriptor.digest.clone());
            }
        }
    }
    let judgement = judge::judge(subject, &closure, &chosen, restricted, findings.list_mut());
    let (findings, more_findings) = findings.finish();
    let mut counts = judgement.counts;
    counts.checked = hashed;
    Ok(Report {
        path: path.to_owned(),
        form: opened.form,
        bundle: opened.bundle,
        bases: opened.bases,
        length: opened.length,
        whole_until: opened.whole_until,
        restricted,
        counts,
        images: judgement.images,
        findings,
        more_findings,
        resend: judgement.resend,
    })
}

/// Opens a file: by its record where that can be used, else by its headers.
fn open_file(path: &Path, options: &Options, findings: &mut Findings) -> Result<Opened, VerifyError> {
    let (file, length) = open_archive(path, &path.display().to_string())?;
    if !options.cached {
        forget(&file);
    }
    let trailer = read_trailer(&file, length);
    let head = head::find(&file, length, trailer.as_ref());
    let Some(place) = head.file(RECORD_PATH).cloned() else {
        let form = if trailer.is_some() { Form::Remains } else { Form::Layout };
        if form == Form::Remains {
            findings.whole("record-damaged", "`barge.json` is not found, and there is a trailer");
        }
        return layout::open_tar(file, length, path, form, findings);
    };
    let found = match head::read_record(head::slice(&file, &place), findings) {
        Ok(found) => found,
        Err((id, text)) => {
            findings.at(id, place.start, text);
            return layout::open_tar(file, length, path, Form::Remains, findings);
        }
    };
    let record = &found.record;
    let base = archive::base_of(&file, length, &head, &record.blobs, trailer.as_ref());
    head::check_entries(&file, &head, base, findings);
    let read = |name: &str| {
        let found = head.file(name)?;
        Some(subject::read_range(&file, found.data, found.size, crate::store::layout::MAX_ROOT_FILE))
    };
    let listing = head::check_files(record, &read, findings);
    let bases = record.base.as_ref().map_or(Vec::new(), |base| base.bases.clone());
    let mut states = vec![State::Unread; record.blobs.len()];
    let shape = archive::check_shape(&file, length, base, &record.blobs, &mut states, findings);
    archive::check_end(&file, length, &shape, &record.blobs, (&found.id, found.size), findings);
    let mut subject = Subject::of_record(found.record, Place::File { file, base, exact: true });
    subject.states = states;
    Ok(Opened {
        subject,
        form: Form::Bundle,
        bundle: Some(found.id),
        length: Some(length),
        whole_until: shape.whole_until,
        listing,
        bases,
    })
}

fn read_trailer(file: &std::fs::File, length: u64) -> Option<Trailer> {
    let mut bytes = [0; TRAILER_SIZE as usize];
    let at = length.checked_sub(END_OF_ARCHIVE + TRAILER_SIZE)?;
    file.read_exact_at(&mut bytes, at).ok()?;
    Trailer::parse(&bytes)
}

/// Finds the images that were asked for; all of them where none was named.
fn choose(path: &Path, subject: &Subject, names: &[String]) -> Result<Vec<usize>, VerifyError> {
    if names.is_empty() {
        return Ok((0..subject.images.len()).collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let full = name.parse::<Reference>().ok().map(|name| name.with_default_tag().to_string());
        let is_meant = |image: &str| image == name || Some(image) == full.as_deref();
        let found = (0..subject.images.len()).filter(|at| is_meant(&subject.images[*at].name));
        let before = chosen.len();
        chosen.extend(found);
        if chosen.len() == before {
            let mut have: Vec<String> = subject.images.iter().map(|image| shown(&image.name)).collect();
            have.sort();
            return Err(VerifyError::NoImage { path: path.to_owned(), name: name.clone(), have });
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// Reads and hashes everything that was asked for, in the order of the file.
fn read_all(
    subject: &mut Subject,
    closure: &Closure,
    restricted: bool,
    options: &Options,
    progress: &dyn Progress,
    findings: &mut Findings,
) -> Amount {
    for (at, row) in subject.blobs.iter().enumerate() {
        if row.role == Role::Gap {
            subject.states[at] = State::Missing;
            if !restricted || closure.reached[at] {
                findings.content(
                    "gap",
                    row.digest,
                    None,
                    format!("{} bytes that could not be had", row.size),
                );
            }
        }
    }
    let is_wanted =
        |at: &usize| (!restricted || closure.reached[*at]) && subject.states[*at] == State::Unread;
    let mut wanted: Vec<u32> = (0..subject.blobs.len()).filter(is_wanted).map(|at| at as u32).collect();
    let in_folder = matches!(subject.place, Place::Folder(_));
    if !in_folder {
        // A table need not be in the order of the file; the medium is read in it all the same.
        wanted.sort_by_key(|at| subject.blobs.get(*at as usize).map(|row| row.offset));
    }
    let size = |at: &u32| subject.blobs.get(*at as usize).map_or(0, |row| row.size);
    progress.begin(wanted.len(), wanted.iter().map(size).fold(0, u64::saturating_add), 0);
    let jobs = match options.jobs {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        jobs => jobs,
    };
    let buffers = Buffers::default();
    let hashed: Mutex<Amount> = Mutex::default();
    // Only what is not whole is kept: the rest is all but the states.
    let bad: Mutex<Vec<(u32, Bad)>> = Mutex::default();
    let work = |place: usize| -> Result<(), std::convert::Infallible> {
        let at = wanted[place];
        let Some(row) = subject.blobs.get(at as usize) else { return Ok(()) };
        progress.start(row.digest, row.size);
        let outcome = buffers.with(|buffer| subject.read(&row, buffer, options.cached, progress));
        let bytes = outcome.as_ref().map_or(0, |verdict| verdict.hashed);
        hashed.lock().unwrap_or_else(PoisonError::into_inner).add(bytes);
        if let Some(outcome) = Bad::of(&row, outcome) {
            bad.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
        }
        progress.finish(row.digest);
        Ok(())
    };
    let Ok(()) = for_each(jobs, wanted.len(), work);
    let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.sort_by_key(|(at, _)| *at);
    for at in &wanted {
        subject.states[*at as usize] = State::Whole;
    }
    let mut unheaded = false;
    for (at, bad) in bad {
        let at = at as usize;
        let Some(row) = subject.blobs.get(at) else { continue };
        unheaded |= bad.report(&row, subject, findings);
        subject.states[at] = bad.state(row.digest);
    }
    if unheaded
        && let Place::File { file, base, exact: true } = &subject.place
        && let Ok(metadata) = file.metadata()
    {
        // Something may have been put between.
        archive::check_unlisted(file, *base..metadata.len(), &subject.blobs, *base, findings);
    }
    hashed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong with a row's content.
enum Bad {
    Read(Verdict),
    Missing,
    Length(String),
    Open(String),
}

impl Bad {
    fn of(row: &BlobRef<'_>, outcome: crate::store::Result<Verdict>) -> Option<Self> {
        match outcome {
            Ok(verdict)
                if verdict.header
                    && verdict.padding.is_none()
                    && verdict.failure.is_none()
                    && verdict.found.as_ref() == Some(row.digest) =>
            {
                None
            }
            Ok(verdict) => Some(Self::Read(verdict)),
            Err(error) if error.is_not_found() => Some(Self::Missing),
            Err(StoreError::Damaged { why, .. }) => Some(Self::Length(why)),
            Err(error) => Some(Self::Open(chain(&error))),
        }
    }

    /// Returns the state of the content. Content behind a damaged header is as good as damaged: no tool finds it.
    fn state(&self, digest: &Digest) -> State {
        match self {
            Self::Missing => State::Missing,
            Self::Read(verdict) if verdict.header && verdict.found.as_ref() == Some(digest) => State::Whole,
            Self::Read(_) | Self::Length(_) | Self::Open(_) => State::Damaged,
        }
    }

    /// Reports what is wrong; returns whether a header is.
    fn report(&self, row: &BlobRef<'_>, subject: &Subject, findings: &mut Findings) -> bool {
        let start = match &subject.place {
            Place::File { base, .. } => Some(base + row.offset),
            Place::Folder(_) => None,
        };
        let verdict = match self {
            Self::Missing => {
                findings.content(
                    "blob-missing",
                    row.digest,
                    None,
                    format!("{} bytes are not there", row.size),
                );
                return false;
            }
            Self::Length(why) => {
                findings.content("blob-damaged", row.digest, start, why);
                return false;
            }
            Self::Open(why) => {
                findings.content("blob-unreadable", row.digest, start, shown(why));
                return false;
            }
            Self::Read(verdict) => verdict,
        };
        let is_content = verdict.found.as_ref() == Some(row.digest);
        match &verdict.failure {
            Some((at, Some(error))) => {
                findings.content(
                    "blob-unreadable",
                    row.digest,
                    Some(*at),
                    format!("reading failed: {error}"),
                );
            }
            Some((at, None)) => {
                findings.content(
                    "blob-unreadable",
                    row.digest,
                    Some(*at),
                    "the file ended while it was read",
                );
            }
            None if !is_content => {
                let found = verdict.found.as_ref().map(ToString::to_string).unwrap_or_default();
                let text = format!("its {} bytes hash to {found}", row.size);
                findings.content("blob-damaged", row.digest, start, text);
            }
            None => {}
        }
        if !verdict.header {
            let whole = if is_content { "; the content itself is whole" } else { "" };
            let text = format!("the tar header before it is not the one that barge writes{whole}");
            findings.content("tar-header-damaged", row.digest, start, text);
        }
        if let Some(at) = verdict.padding {
            findings.content(
                "padding",
                row.digest,
                Some(at),
                "not zero, behind the content, which is not touched",
            );
        }
        !verdict.header
    }
}
