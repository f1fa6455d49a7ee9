//! Writing the blobs: many at once, each to its place, with a journal of what is durable.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Job, Reuse, owner};
use crate::bundle::head::Head;
use crate::graph::NodeId;
use crate::oci::{Descriptor, Digest, Hasher};
use crate::store::archive::{ArchiveFile, header, header_length, padded};
use crate::store::body::Start;
use crate::store::{Attached, Source, StoreError};
use crate::transfer::fetch::{FetchError, PIECE, fetch};
use crate::transfer::journal::{Earlier, Mark};
use crate::transfer::{Progress, TransferError, for_each};

/// How much is written at the most before it is made durable and journalled, in bytes and in time: what a kill costs.
const CHECKPOINT_BYTES: u64 = 1 << 30;
const CHECKPOINT_TIME: Duration = Duration::from_secs(5);
/// Blobs from this size on are taken up in the middle by a later run; smaller ones are fetched again.
const RESUMABLE: u64 = 16 * 1024 * 1024;
/// Blobs up to this size are written with their header and padding in one call.
const SMALL: u64 = PIECE as u64;

/// What the workers that write into one file share.
pub(super) struct Writer<'a> {
    job: &'a Job<'a>,
    head: &'a Head,
    start: u64,
    archive: &'a ArchiveFile,
    progress: &'a dyn Progress,
    done: HashSet<u32>,
    reached: HashMap<u32, u64>,
    goes_on: bool,
    pub(super) kept: AtomicU64,
    pub(super) fetched: AtomicU64,
    pub(super) gaps: Mutex<Vec<(usize, StoreError)>>,
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
    /// Prepares the work on `head`, whose blobs `earlier` has in part.
    pub(super) fn new(
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

    /// Brings every blob to its place, and keeps the journal meanwhile.
    pub(super) fn run(&self) -> Result<(), TransferError> {
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
        let (digest, size, _) = self.job.graph.travelling(id);
        self.progress.start(digest, size);
        let outcome = self.bring(at, id);
        self.progress.finish(digest);
        match outcome {
            Ok(is_new) => {
                let count = if is_new { &self.fetched } else { &self.kept };
                count.fetch_add(size, Ordering::Relaxed);
                let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
                marks.finished.push(at as u32);
                marks.begun.remove(&(at as u32));
                marks.bytes += size;
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
        let (digest, size, source) = self.job.graph.travelling(id);
        let row = self.head.record.blobs.get(at).expect("the table has a row for each place of the order");
        let data = self.start + row.offset;
        let path = digest.blob_path();
        let from = &*self.job.sources[usize::from(source)];
        let surveyed = self.job.survey.content(digest).map_err(|source| {
            FetchError::Sink(StoreError::Io { path: "the journal".into(), action: "can't be read", source })
        })?;
        if let Some(bytes) = surveyed {
            return self.copy(at, id, &Held { bytes, place: from }).map(|()| true);
        }
        if self.goes_on && self.is_there(&path, digest, size, data) {
            self.progress.advance(digest, size);
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
        let (digest, size, _) = self.job.graph.travelling(id);
        let row = self.head.record.blobs.get(at).expect("the table has a row for each place of the order");
        let data = self.start + row.offset;
        let path = digest.blob_path();
        let mut piece = Vec::new();
        if size <= SMALL {
            let mut entry = header(&path, size);
            let header_size = entry.len();
            fetch(from, digest, size, None, self.progress, &mut piece, |offset, bytes| {
                entry.truncate(header_size + offset as usize);
                entry.extend_from_slice(bytes);
                Ok(())
            })?;
            entry.resize(padded(entry.len() as u64) as usize, 0);
            return self.archive.write_at(&entry, data - header_size as u64).map_err(FetchError::Sink);
        }
        let blocks = header(&path, size);
        self.archive.write_at(&blocks, data - header_length(&path, size)).map_err(FetchError::Sink)?;
        let begun = match self.reached.get(&(at as u32)) {
            Some(bytes) if *bytes <= size => self.hash_begun(digest, data, *bytes),
            _ => None,
        };
        let mut noted = 0;
        fetch(from, digest, size, begun, self.progress, &mut piece, |offset, bytes| {
            self.archive.write_at(bytes, data + offset)?;
            let end = offset + bytes.len() as u64;
            if size >= RESUMABLE && (end < noted || end - noted >= RESUMABLE) {
                noted = end;
                let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
                marks.begun.insert(at as u32, end);
                marks.bytes += RESUMABLE;
            }
            Ok(())
        })?;
        let padding = vec![0; (padded(size) - size) as usize];
        self.archive.write_at(&padding, data + size).map_err(FetchError::Sink)
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
