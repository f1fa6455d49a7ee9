//! Carries out a plan into one archive file.
//!
//! The head and the place of every blob are known, so workers write straight into the file under its `.partial` name. A
//! blob counts as done once its bytes are durable and the journal says so. The trailer comes last, the final name after
//! it: a file under its final name is whole, or says in its record what it lacks.

mod files;
mod reuse;
mod writer;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use self::writer::Writer;
use super::journal::{Earlier, Journal};
use super::room::check_room;
use super::{Progress, TransferError};
use crate::bundle::head::{GAP_PREFIX, Head};
use crate::bundle::record::Record;
use crate::bundle::trailer::{TRAILER_PATH, TRAILER_SIZE, Trailer};
use crate::graph::survey::Survey;
use crate::graph::{Graph, NodeId};
use crate::oci::{Digest, Reference};
use crate::store::archive::{ArchiveFile, END_OF_ARCHIVE, entry_length, header};
use crate::store::{Source, StoreError};

pub use self::files::Files;
pub use self::reuse::Reuse;

/// What to write.
pub struct Job<'a> {
    /// The survey, which holds the manifests.
    pub survey: &'a Survey,
    /// The graph.
    pub graph: &'a Graph,
    /// The content in the order of the file.
    pub order: &'a [NodeId],
    /// Where content comes from, as the survey numbers it.
    pub sources: &'a [Arc<dyn Source>],
    /// Names that could not be had.
    pub unresolved: &'a [Reference],
    /// How many blobs at once.
    pub jobs: usize,
    /// Whether content that can't be had leaves a gap instead of ending the work.
    pub keep_going: bool,
    /// An earlier file with other places for the same content.
    pub reuse: Option<&'a Reuse>,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The bundle ID.
    pub id: Digest,
    /// The record.
    pub record: Record,
    /// Length of the file in bytes.
    pub length: u64,
    /// Bytes of blobs fetched by this run.
    pub fetched: u64,
    /// Bytes of blobs that an earlier run had written.
    pub kept: u64,
    /// Content that could not be had, each with an image that needs it and the reason.
    pub gaps: Vec<(Digest, Reference, StoreError)>,
    /// How long the last sync took, which waits for the medium.
    pub sync_time: Duration,
}

/// Returns the length that the finished archive of `head` has.
#[must_use]
pub fn archive_length(head: &Head) -> u64 {
    head.length() + head.body_length + entry_length(TRAILER_PATH, TRAILER_SIZE) + END_OF_ARCHIVE
}

/// Writes the archive for `job`, going on where `earlier` ended.
///
/// # Errors
/// [`TransferError`]; without `keep_going` the first blob that can't be had ends the work. What was written stays under
/// the partial name, and the journal says how far it is good.
pub fn write(
    job: &Job<'_>,
    files: &Files,
    journal: Journal,
    earlier: Option<&Earlier>,
    progress: &dyn Progress,
) -> Result<Written, TransferError> {
    let head = Head::compose(job.graph, job.order, &HashSet::new(), job.unresolved)?;
    let is_new = !files.partial.exists();
    let file = open_partial(files, earlier.is_some())?;
    if let Err(error) = check_room(&files.partial, &file, archive_length(&head)) {
        // Nothing was begun, so nothing stays.
        if is_new && earlier.is_none() {
            std::fs::remove_file(&files.partial).ok();
            journal.remove()?;
        }
        return Err(error);
    }
    let archive = ArchiveFile::new(file, files.partial.clone());
    let reserved = head.length();
    head.write(&archive, reserved).map_err(TransferError::Target)?;

    let writer = Writer::new(job, &head, &archive, earlier, progress);
    let total: u64 = head.record.blobs.iter().map(|row| row.size).sum();
    progress.begin(head.record.blobs.len(), total, writer.kept.load(Ordering::Relaxed));
    let outcome = writer.run();
    let gaps = std::mem::take(&mut *writer.gaps.lock().unwrap_or_else(PoisonError::into_inner));
    let (fetched, kept) = (writer.fetched.load(Ordering::Relaxed), writer.kept.load(Ordering::Relaxed));
    outcome?;
    drop(writer);

    let head = if gaps.is_empty() {
        head
    } else {
        let places: HashSet<usize> = gaps.iter().map(|gap| gap.0).collect();
        for at in &places {
            let (digest, size, _) = job.graph.travelling(job.order[*at]);
            let path = format!("{GAP_PREFIX}{}", digest.hex());
            let row = head.record.blobs.get(*at);
            let offset = reserved + row.map_or(0, |row| row.offset);
            let blocks = header(&path, size);
            archive.write_at(&blocks, offset - blocks.len() as u64).map_err(TransferError::Target)?;
        }
        let head = Head::compose(job.graph, job.order, &places, job.unresolved)?;
        head.write(&archive, reserved).map_err(TransferError::Target)?;
        head
    };
    let length = reserved + head.body_length + entry_length(TRAILER_PATH, TRAILER_SIZE) + END_OF_ARCHIVE;
    let sync_time = finish(&archive, &head, reserved, length, files)?;
    if gaps.is_empty() && job.unresolved.is_empty() {
        journal.remove()?;
    }
    let gaps = gaps
        .into_iter()
        .map(|(at, error)| {
            let id = job.order[at];
            (job.graph.digest(id).clone(), owner(job.graph, id), error)
        })
        .collect();
    Ok(Written { id: head.id.clone(), record: head.record, length, fetched, kept, gaps, sync_time })
}

/// Opens the unfinished file: a new one that nobody else has, or the one that an earlier run left, also where that run
/// ended with gaps and gave it the final name.
fn open_partial(files: &Files, goes_on: bool) -> Result<File, TransferError> {
    let local = |action| move |source| TransferError::Local { path: files.partial.clone(), action, source };
    if goes_on && !files.partial.exists() && files.archive.exists() {
        std::fs::rename(&files.archive, &files.partial)
            .map_err(local("the unfinished file can't be taken up"))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if !(goes_on && files.partial.exists()) {
        options.create_new(true);
    }
    options.open(&files.partial).map_err(local("the file can't be created"))
}

/// Writes the trailer, makes all durable and gives the final names; returns how long the sync took.
fn finish(
    archive: &ArchiveFile,
    head: &Head,
    reserved: u64,
    length: u64,
    files: &Files,
) -> Result<Duration, TransferError> {
    let trailer =
        Trailer { record: head.id.clone(), record_size: head.record_size, length, volume: 1, volumes: 1 };
    archive
        .write_entry(reserved + head.body_length, TRAILER_PATH, &trailer.to_bytes())
        .and_then(|()| archive.set_length(length - END_OF_ARCHIVE))
        .and_then(|()| archive.set_length(length))
        .map_err(TransferError::Target)?;
    let start = Instant::now();
    archive.sync().map_err(TransferError::Target)?;
    let sync_time = start.elapsed();
    super::write_whole_alone(&files.sidecar, |out| head.record.write(out))?;
    std::fs::rename(&files.partial, &files.archive).map_err(|source| TransferError::Local {
        path: files.archive.clone(),
        action: "the finished file can't be given its name",
        source,
    })?;
    super::sync_folder_of(&files.archive);
    Ok(sync_time)
}

/// Returns the name of the first image that needs a node.
///
/// # Panics
/// If the graph has no image.
#[must_use]
pub fn owner(graph: &Graph, id: NodeId) -> Reference {
    let needs = |image: &&crate::graph::Image| graph.with_support(graph.image_closure(image)).contains(&id);
    let image = graph.images.iter().find(needs).or(graph.images.first());
    image.map(|image| image.name.clone()).expect("a node is below an image")
}
