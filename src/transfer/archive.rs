//! Carries out a plan into one archive file.
//!
//! The head and the place of every blob are known, so workers write straight into the file under its `.partial` name. A
//! blob counts as done once its bytes are durable and the journal says so. The trailer comes last, the final name after
//! it: a file under its final name is whole, or says in its record what it lacks.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::body::Start;
use super::fetch::{FetchError, PIECE, fetch};
use super::journal::{Earlier, Journal, Mark};
use super::{Progress, TransferError, for_each};
use crate::bundle::head::{GAP_PREFIX, Head};
use crate::bundle::record::Record;
use crate::bundle::trailer::{TRAILER_PATH, TRAILER_SIZE, Trailer};
use crate::graph::survey::Survey;
use crate::graph::{Graph, NodeId};
use crate::oci::{Descriptor, Digest, Hasher, Reference};
use crate::store::archive::{ArchiveFile, END_OF_ARCHIVE, entry_length, header, header_length, padded};
use crate::store::tar::FileSlice;
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
            sidecar: PathBuf::from(format!("{base}.barge.json")),
        }
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

/// Content of an earlier unfinished file that is laid out otherwise.
#[derive(Debug)]
pub struct Reuse {
    path: PathBuf,
    file: File,
    places: HashMap<Digest, u64>,
}

impl Reuse {
    /// Takes over what an earlier run wrote for `head` at the places `done` into the file at `path`.
    ///
    /// # Errors
    /// [`TransferError::Local`] if the file can't be opened.
    pub fn new(path: &Path, head: &Head, done: &[u32]) -> Result<Self, TransferError> {
        let file = File::open(path).map_err(|source| TransferError::Local {
            path: path.to_owned(),
            action: "the earlier file can't be opened",
            source,
        })?;
        let start = head.length();
        let rows = done.iter().filter_map(|at| head.record.blobs.get(*at as usize));
        let places = rows.map(|row| (row.digest.clone(), start + row.offset)).collect();
        Ok(Self { path: path.to_owned(), file, places })
    }

    /// Removes the earlier file, all of whose use is over. That it stays is no harm but for its room.
    pub fn discard(&self) {
        std::fs::remove_file(&self.path).ok();
    }
}

impl Source for Reuse {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn resolve(&self, selector: &str) -> crate::store::Result<Descriptor> {
        Err(StoreError::NotFound { place: self.place(), what: selector.to_owned() })
    }

    fn manifest(&self, descriptor: &Descriptor) -> crate::store::Result<Vec<u8>> {
        Err(StoreError::NotFound { place: self.place(), what: descriptor.digest.to_string() })
    }

    fn attached(&self, _: &Digest) -> crate::store::Result<Vec<Attached>> {
        Ok(Vec::new())
    }

    fn open_blob(
        &self,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> crate::store::Result<Box<dyn Read + Send + '_>> {
        match self.places.get(digest) {
            Some(place) => Ok(Box::new(FileSlice::new(&self.file, *place, size, offset))),
            None => Err(StoreError::NotFound { place: self.place(), what: digest.to_string() }),
        }
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
    let file = open_partial(files, earlier.is_some())?;
    check_room(&files.partial, &file, archive_length(&head))?;
    let archive = ArchiveFile::new(file, files.partial.clone());
    let reserved = head.length();
    head.write(&archive, reserved).map_err(TransferError::Target)?;

    let writer = Writer::new(job, &head, &archive, earlier, progress);
    let total: u64 = head.record.blobs.iter().map(|row| row.size).sum();
    progress.begin(head.record.blobs.len(), total, writer.kept);
    let outcome = writer.run();
    let gaps = std::mem::take(&mut *writer.gaps.lock().unwrap_or_else(PoisonError::into_inner));
    let (fetched, kept) = (writer.fetched.load(Ordering::Relaxed), writer.kept);
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

/// Checks that the file system can hold the file.
///
/// # Errors
/// [`TransferError::NoSpace`] or [`TransferError::TooLong`]; a file system that does not tell is not an error.
pub fn check_room(path: &Path, file: &File, length: u64) -> Result<(), TransferError> {
    /// Type number of FAT in Linux's `statfs`.
    const MSDOS_SUPER_MAGIC: i64 = 0x4d44;
    /// FAT keeps lengths in 32 bits.
    const FAT_LIMIT: u64 = u32::MAX as u64;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(stat) = rustix::fs::fstatfs(file) else {
        return Ok(());
    };
    if stat.f_type == MSDOS_SUPER_MAGIC && length > FAT_LIMIT {
        let (folder, system) = (folder.to_owned(), "FAT");
        return Err(TransferError::TooLong { folder, system, needed: length, limit: FAT_LIMIT });
    }
    let taken = file.metadata().map_or(0, |metadata| metadata.blocks() * 512);
    let needed = length.saturating_sub(taken);
    let free = stat.f_bavail.saturating_mul(stat.f_bsize.unsigned_abs());
    if free < needed {
        return Err(TransferError::NoSpace { folder: folder.to_owned(), needed, free });
    }
    Ok(())
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
    kept: u64,
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
        let kept = done.iter().map(size).sum();
        Self {
            job,
            head,
            start: head.length(),
            archive,
            progress,
            done,
            reached,
            kept,
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
            Ok(()) => {
                self.fetched.fetch_add(node.size, Ordering::Relaxed);
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

    /// Brings one blob to its place.
    fn bring(&self, at: usize, id: NodeId) -> Result<(), FetchError> {
        let node = self.job.graph.node(id);
        let digest = self.job.graph.digest(id);
        let row = self.head.record.blobs.get(at).expect("the table has a row for each place of the order");
        let data = self.start + row.offset;
        let path = digest.blob_path();
        let from = &*self.job.sources[usize::from(node.source)];
        let surveyed = self.job.survey.content(digest).map_err(|source| {
            FetchError::Sink(StoreError::Io { path: "the journal".into(), action: "can't be read", source })
        })?;
        let held = surveyed.map(|bytes| Held { bytes, place: from });
        let reused = self.job.reuse.filter(|reuse| reuse.places.contains_key(digest));
        let from: &dyn Source = match (&held, reused) {
            (Some(held), _) => held,
            (None, Some(reuse)) => reuse,
            (None, None) => from,
        };
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
                marks.bytes += bytes.len() as u64;
            }
            Ok(())
        })?;
        let padding = vec![0; (padded(node.size) - node.size) as usize];
        self.archive.write_at(&padding, data + node.size).map_err(FetchError::Sink)
    }

    /// Hashes again what an earlier run wrote of a blob; `None` if it can't be read back.
    fn hash_begun(&self, digest: &Digest, data: u64, bytes: u64) -> Option<Start> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        while offset < bytes {
            let want = (bytes - offset).min(PIECE as u64) as usize;
            self.archive.read_at(&mut piece[..want], data + offset).ok()?;
            hasher.update(&piece[..want]);
            offset += want as u64;
        }
        self.progress.advance(digest, bytes);
        Some(Start { offset, hasher })
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
