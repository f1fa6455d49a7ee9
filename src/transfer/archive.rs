//! Carries out a plan into one archive file.
//!
//! The head and the place of every blob are known, so workers write straight into the file under its `.partial` name. A
//! blob counts as done once its bytes are durable and the journal says so. The trailer comes last, the final name after
//! it: a file under its final name is whole, or says in its record what it lacks.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::body::Start;
use super::fetch::{FetchError, PIECE, fetch};
use super::journal::{Earlier, Journal, Mark};
use super::room::check_room;
use super::{Progress, TransferError, for_each};
use crate::bundle::Bundle;
use crate::bundle::head::{GAP_PREFIX, Head};
use crate::bundle::record::Record;
use crate::bundle::trailer::{TRAILER_PATH, TRAILER_SIZE, Trailer};
use crate::graph::survey::Survey;
use crate::graph::{Graph, NodeId};
use crate::oci::{Descriptor, Digest, Hasher, Reference};
use crate::store::archive::{ArchiveFile, END_OF_ARCHIVE, entry_length, header, header_length, padded};
use crate::store::{Attached, Source, StoreError};

/// How much is written at the most before it is made durable and journalled, in bytes and in time: what a kill costs.
const CHECKPOINT_BYTES: u64 = 1 << 30;
const CHECKPOINT_TIME: Duration = Duration::from_secs(5);
/// Blobs from this size on are taken up in the middle by a later run; smaller ones are fetched again.
const RESUMABLE: u64 = 16 * 1024 * 1024;
/// Blobs up to this size are written with their header and padding in one call.
const SMALL: u64 = PIECE as u64;

/// The names of the files of one archive.
#[derive(Debug, Clone)]
pub struct Files {
    /// The final name.
    pub archive: PathBuf,
    /// The name while it is unfinished.
    pub partial: PathBuf,
    /// The journal.
    pub journal: PathBuf,
    /// The copy of the record beside the archive.
    pub sidecar: PathBuf,
    /// An earlier unfinished file that is laid out otherwise, while content is copied from it.
    pub old: PathBuf,
}

impl Files {
    /// Returns the names for an archive called `archive`, whose unfinished form is called after `stem`.
    #[must_use]
    pub fn new(archive: &Path, stem: &Path) -> Self {
        let with = |path: &Path, suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let text = archive.to_string_lossy();
        let base = [".oci.tar", ".tar", ".barge"]
            .iter()
            .find_map(|suffix| text.strip_suffix(suffix))
            .unwrap_or(&text);
        Self {
            archive: archive.to_owned(),
            partial: with(stem, ".partial"),
            journal: with(stem, ".partial.journal"),
            old: with(stem, ".partial.old"),
            sidecar: PathBuf::from(format!("{base}.barge.json")),
        }
    }

    /// Moves an unfinished file aside, to copy from it what the new plan needs too.
    ///
    /// # Errors
    /// [`TransferError::Local`] for what the system says.
    pub fn set_aside(&self, unfinished: &Path) -> Result<(), TransferError> {
        std::fs::rename(unfinished, &self.old).map_err(|source| TransferError::Local {
            path: unfinished.to_owned(),
            action: "the earlier file can't be moved aside",
            source,
        })?;
        let sidecar = Self::new(unfinished, unfinished).sidecar;
        if unfinished != self.partial && sidecar != self.sidecar {
            // A record of a file that is no more; that it stays is no harm.
            std::fs::remove_file(&sidecar).ok();
        }
        Ok(())
    }
}

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

/// An earlier unfinished file that is laid out otherwise. Its own head says where its content lies; whether it came that
/// far shows when it is copied, for every byte is hashed then.
pub struct Reuse(Bundle);

impl Reuse {
    /// Opens the file that was set aside; none if there is none, or nothing can be told of what it holds.
    #[must_use]
    pub fn open(files: &Files) -> Option<Self> {
        Bundle::open(&files.old).ok().filter(|bundle| bundle.record().is_some()).map(Self)
    }

    /// Removes the file, all of whose use is over. That it stays is no harm but for its room.
    pub fn discard(files: &Files) {
        std::fs::remove_file(&files.old).ok();
    }
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
            let node = job.graph.node(job.order[*at]);
            let digest = job.graph.digest(job.order[*at]);
            let path = format!("{GAP_PREFIX}{}", digest.hex());
            let row = head.record.blobs.get(*at);
            let offset = reserved + row.map_or(0, |row| row.offset);
            let blocks = header(&path, node.size);
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
    super::write_whole(&files.sidecar, |out| head.record.write(out))?;
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
    let needs = |image: &&crate::graph::Image| graph.image_closure(image).contains(&id);
    let image = graph.images.iter().find(needs).or(graph.images.first());
    image.map(|image| image.name.clone()).expect("a node is below an image")
}

struct Writer<'a> {
    job: &'a Job<'a>,
    head: &'a Head,
    start: u64,
    archive: &'a ArchiveFile,
    progress: &'a dyn Progress,
    done: HashSet<u32>,
    reached: HashMap<u32, u64>,
    goes_on: bool,
    kept: AtomicU64,
    fetched: AtomicU64,
    gaps: Mutex<Vec<(usize, StoreError)>>,
    marks: Mutex<Marks>,
    wake: Condvar,
    over: AtomicBool,
}

/// What was written and is not journalled yet.
#[derive(Default)]
struct Marks {
    finished: Vec<u32>,
    begun: HashMap<u32, u64>,
    bytes: u64,
}

impl<'a> Writer<'a> {
    fn new(
        job: &'a Job<'a>,
        head: &'a Head,
        archive: &'a ArchiveFile,
        earlier: Option<&Earlier>,
        progress: &'a dyn Progress,
    ) -> Self {
        let done: HashSet<u32> =
            earlier.map(|earlier| earlier.done.iter().copied().collect()).unwrap_or_default();
        let reached = earlier.map(|earlier| earlier.reached.iter().copied().collect()).unwrap_or_default();
        let size = |at: &u32| head.record.blobs.get(*at as usize).map_or(0, |row| row.size);
        let kept: u64 = done.iter().map(size).sum();
        Self {
            job,
            head,
            start: head.length(),
            archive,
            progress,
            done,
            reached,
            goes_on: earlier.is_some(),
            kept: AtomicU64::new(kept),
            fetched: AtomicU64::new(0),
            gaps: Mutex::default(),
            marks: Mutex::default(),
            wake: Condvar::new(),
            over: AtomicBool::new(false),
        }
    }

    fn run(&self) -> Result<(), TransferError> {
        std::thread::scope(|scope| {
            let keeper = scope.spawn(|| self.keep_journal());
            let outcome = for_each(self.job.jobs, self.job.order.len(), |at| self.blob(at));
            self.over.store(true, Ordering::Release);
            self.wake.notify_all();
            let kept = keeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What was written is journalled also where the work failed: the next run goes on from here.
            outcome.and(kept)
        })
    }

    /// Makes what was written durable and journals it, now and then and at the end.
    fn keep_journal(&self) -> Result<(), TransferError> {
        let mut last = Instant::now();
        loop {
            let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = |marks: &mut Marks| {
                !self.over.load(Ordering::Acquire)
                    && marks.bytes < CHECKPOINT_BYTES
                    && (last.elapsed() < CHECKPOINT_TIME || marks.bytes == 0)
            };
            let waited = self.wake.wait_timeout_while(marks, CHECKPOINT_TIME / 4, is_due);
            let (mut marks, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            let over = self.over.load(Ordering::Acquire);
            if timeout.timed_out() && !over {
                continue;
            }
            let finished = std::mem::take(&mut marks.finished);
            let begun: Vec<(u32, u64)> = marks.begun.iter().map(|(blob, bytes)| (*blob, *bytes)).collect();
            marks.bytes = 0;
            drop(marks);
            self.archive.sync().map_err(TransferError::Target)?;
            self.journal(finished, begun)?;
            last = Instant::now();
            if over {
                return Ok(());
            }
        }
    }

    fn journal(&self, finished: Vec<u32>, begun: Vec<(u32, u64)>) -> Result<(), TransferError> {
        let spool = self.job.survey.spool();
        let write = || {
            if !finished.is_empty() {
                spool.append(&Mark::Done { blobs: finished })?;
            }
            for (blob, bytes) in begun {
                spool.append(&Mark::Reached { blob, bytes })?;
            }
            spool.sync()
        };
        write().map_err(|source| TransferError::Local {
            path: "the journal".into(),
            action: "can't be written",
            source,
        })
    }

    fn blob(&self, at: usize) -> Result<(), TransferError> {
        if self.done.contains(&(at as u32)) {
            return Ok(());
        }
        let id = self.job.order[at];
        let node = self.job.graph.node(id);
        let digest = self.job.graph.digest(id);
        self.progress.start(digest, node.size);
        let outcome = self.bring(at, id);
        self.progress.finish(digest);
        match outcome {
            Ok(is_new) => {
                let count = if is_new { &self.fetched } else { &self.kept };
                count.fetch_add(node.size, Ordering::Relaxed);
                let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
                marks.finished.push(at as u32);
                marks.begun.remove(&(at as u32));
                marks.bytes += node.size;
                if marks.bytes >= CHECKPOINT_BYTES {
                    self.wake.notify_all();
                }
                Ok(())
            }
            Err(FetchError::Sink(error)) => Err(TransferError::Target(error)),
            Err(FetchError::Source(error)) if self.job.keep_going => {
                self.gaps.lock().unwrap_or_else(PoisonError::into_inner).push((at, error));
                Ok(())
            }
            Err(FetchError::Source(source)) => {
                let image = owner(self.job.graph, id);
                Err(TransferError::Blob { image, digest: digest.clone(), source })
            }
        }
    }

    /// Brings one blob to its place; returns whether it came from its source, and not from an earlier run.
    fn bring(&self, at: usize, id: NodeId) -> Result<bool, FetchError> {
        let node = self.job.graph.node(id);
        let digest = self.job.graph.digest(id);
        let row = self.head.record.blobs.get(at).expect("the table has a row for each place of the order");
        let data = self.start + row.offset;
        let path = digest.blob_path();
        let from = &*self.job.sources[usize::from(node.source)];
        let surveyed = self.job.survey.content(digest).map_err(|source| {
            FetchError::Sink(StoreError::Io { path: "the journal".into(), action: "can't be read", source })
        })?;
        if let Some(bytes) = surveyed {
            return self.copy(at, id, &Held { bytes, place: from }).map(|()| true);
        }
        if self.goes_on && self.is_there(&path, digest, node.size, data) {
            self.progress.advance(digest, node.size);
            return Ok(false);
        }
        if let Some(Reuse(earlier)) = self.job.reuse.filter(|reuse| reuse.0.holds(digest)) {
            match self.copy(at, id, earlier) {
                Ok(()) => return Ok(false),
                Err(FetchError::Source(_)) => self.progress.restart(digest, 0),
                Err(error) => return Err(error),
            }
        }
        self.copy(at, id, from).map(|()| true)
    }

    /// Returns whether an earlier run wrote the blob to its end, and was killed before its journal said so.
    fn is_there(&self, path: &str, digest: &Digest, size: u64, data: u64) -> bool {
        let expected = header(path, size);
        let mut found = vec![0; expected.len()];
        let is_begun =
            self.archive.read_at(&mut found, data - expected.len() as u64).is_ok() && found == expected;
        is_begun && self.hash_written(digest, data, size).is_some_and(|hasher| hasher.finish() == *digest)
    }

    /// Copies one blob to its place.
    fn copy(&self, at: usize, id: NodeId, from: &dyn Source) -> Result<(), FetchError> {
        let node = self.job.graph.node(id);
        let digest = self.job.graph.digest(id);
        let row = self.head.record.blobs.get(at).expect("the table has a row for each place of the order");
        let data = self.start + row.offset;
        let path = digest.blob_path();
        let mut piece = Vec::new();
        if node.size <= SMALL {
            let mut entry = header(&path, node.size);
            let header_size = entry.len();
            fetch(from, digest, node.size, None, self.progress, &mut piece, |offset, bytes| {
                entry.truncate(header_size + offset as usize);
                entry.extend_from_slice(bytes);
                Ok(())
            })?;
            entry.resize(padded(entry.len() as u64) as usize, 0);
            return self.archive.write_at(&entry, data - header_size as u64).map_err(FetchError::Sink);
        }
        let blocks = header(&path, node.size);
        self.archive.write_at(&blocks, data - header_length(&path, node.size)).map_err(FetchError::Sink)?;
        let begun = match self.reached.get(&(at as u32)) {
            Some(bytes) if *bytes <= node.size => self.hash_begun(digest, data, *bytes),
            _ => None,
        };
        let mut noted = 0;
        fetch(from, digest, node.size, begun, self.progress, &mut piece, |offset, bytes| {
            self.archive.write_at(bytes, data + offset)?;
            let end = offset + bytes.len() as u64;
            if node.size >= RESUMABLE && (end < noted || end - noted >= RESUMABLE) {
                noted = end;
                let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
                marks.begun.insert(at as u32, end);
                marks.bytes += RESUMABLE;
            }
            Ok(())
        })?;
        let padding = vec![0; (padded(node.size) - node.size) as usize];
        self.archive.write_at(&padding, data + node.size).map_err(FetchError::Sink)
    }

    /// Hashes again what an earlier run wrote of a blob; `None` if it can't be read back.
    fn hash_begun(&self, digest: &Digest, data: u64, bytes: u64) -> Option<Start> {
        let hasher = self.hash_written(digest, data, bytes)?;
        self.progress.advance(digest, bytes);
        Some(Start { offset: bytes, hasher })
    }

    fn hash_written(&self, digest: &Digest, data: u64, bytes: u64) -> Option<Hasher> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        while offset < bytes {
            let want = (bytes - offset).min(PIECE as u64) as usize;
            self.archive.read_at(&mut piece[..want], data + offset).ok()?;
            hasher.update(&piece[..want]);
            offset += want as u64;
        }
        Some(hasher)
    }
}

/// Content that the survey read, with the name of the place it came from.
struct Held<'a> {
    bytes: Vec<u8>,
    place: &'a dyn Source,
}

impl Source for Held<'_> {
    fn place(&self) -> String {
        self.place.place()
    }

    fn resolve(&self, selector: &str) -> crate::store::Result<Descriptor> {
        self.place.resolve(selector)
    }

    fn manifest(&self, _: &Descriptor) -> crate::store::Result<Vec<u8>> {
        Ok(self.bytes.clone())
    }

    fn attached(&self, subject: &Digest) -> crate::store::Result<Vec<Attached>> {
        self.place.attached(subject)
    }

    fn open_blob(&self, _: &Digest, _: u64, offset: u64) -> crate::store::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(&self.bytes[(offset as usize).min(self.bytes.len())..]))
    }
}
