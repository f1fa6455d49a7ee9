//! Carries out a plan into an OCI layout directory.
//!
//! The layout grows as `DIR.partial` and gets its name when it is whole. Every blob is written under a temporary name
//! and renamed when its digest is right, so a later run takes over whole blobs after hashing them again.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::archive::{Job, Written, owner};
use super::fetch::{FetchError, PIECE, fetch};
use super::room::{self, Need};
use super::{Progress, TransferError, for_each, sync_folder_of, write_whole_alone};
use crate::bundle::head::{DOCKER_MANIFEST_PATH, Head, INDEX_PATH, LAYOUT_PATH, layout_file};
use crate::bundle::record::RECORD_PATH;
use crate::graph::NodeId;
use crate::oci::{Digest, Hasher};
use crate::store::{Source, StoreError};

/// Writes the layout for `job` at `folder`.
///
/// # Errors
/// [`TransferError`]; without `keep_going` the first blob that can't be had ends the work, and what was written stays
/// in `DIR.partial`.
pub fn write(job: &Job<'_>, folder: &Path, progress: &dyn Progress) -> Result<Written, TransferError> {
    let partial = PathBuf::from(format!("{}.partial", folder.display()));
    let local = |path: &Path, action| {
        let path = path.to_owned();
        move |source| TransferError::Local { path, action, source }
    };
    take_up(job, folder, &partial)?;
    std::fs::create_dir_all(&partial).map_err(local(&partial, "the folder can't be made"))?;
    let partial_file = File::open(&partial).map_err(local(&partial, "the folder can't be opened"))?;
    // Held until the end: a second process must not sweep away what this one writes.
    if let Err(TryLockError::WouldBlock) = partial_file.try_lock() {
        return Err(TransferError::Busy(folder.to_owned()));
    }
    for algorithm in ["sha256", "sha512"] {
        let needed = job.order.iter().any(|id| job.graph.travelling(*id).0.algorithm().as_str() == algorithm);
        if needed || algorithm == "sha256" {
            let path = partial.join("blobs").join(algorithm);
            std::fs::create_dir_all(&path).map_err(local(&path, "the folder can't be made"))?;
        }
    }
    let head = Head::compose(job.graph, job.order, &HashSet::new(), job.unresolved)?;
    check_room(&head, &partial, &partial_file)?;
    let writer = Writer {
        job,
        folder: &partial,
        progress,
        fetched: AtomicU64::new(0),
        kept: AtomicU64::new(0),
        gaps: Mutex::default(),
    };
    progress.begin(job.order.len(), head.record.blobs.iter().map(|row| row.size).sum(), 0);
    for_each(job.jobs, job.order.len(), |at| writer.blob(at))?;
    let Writer { fetched, kept, gaps, .. } = writer;
    let gaps = gaps.into_inner().unwrap_or_else(PoisonError::into_inner);
    let head = if gaps.is_empty() {
        head
    } else {
        Head::compose(job.graph, job.order, &gaps.iter().map(|gap| gap.0).collect(), job.unresolved)?
    };
    write_whole_alone(&partial.join(LAYOUT_PATH), |out| out.write_all(&layout_file()))?;
    write_whole_alone(&partial.join(RECORD_PATH), |out| head.record.write(out))?;
    let docker_manifest = partial.join(DOCKER_MANIFEST_PATH);
    match &head.docker_manifest {
        Some(bytes) => write_whole_alone(&docker_manifest, |out| out.write_all(bytes))?,
        None if docker_manifest.exists() => {
            std::fs::remove_file(&docker_manifest).map_err(local(&docker_manifest, "can't be removed"))?;
        }
        None => {}
    }
    sweep(&head, &partial)?;
    write_whole_alone(&partial.join(INDEX_PATH), |out| out.write_all(&head.index))?;
    let start = Instant::now();
    rustix::fs::syncfs(&partial_file)
        .map_err(|error| local(&partial, "the folder can't be made durable")(io::Error::from(error)))?;
    let sync_time = start.elapsed();
    std::fs::rename(&partial, folder)
        .map_err(local(folder, "the finished layout can't be given its name"))?;
    sync_folder_of(folder);
    let gaps = gaps
        .into_iter()
        .map(|(at, error)| (job.graph.digest(job.order[at]).clone(), owner(job.graph, job.order[at]), error))
        .collect();
    Ok(Written {
        id: head.id.clone(),
        length: head.record.blobs.iter().map(|row| row.size).sum(),
        record: head.record,
        fetched: fetched.into_inner(),
        kept: kept.into_inner(),
        gaps,
        sync_time,
    })
}

/// Removes what an earlier run fetched and this one has no use for: a tag may have moved in between.
fn sweep(head: &Head, partial: &Path) -> Result<(), TransferError> {
    let wanted: HashSet<PathBuf> =
        head.record.blobs.iter().map(|row| partial.join(row.digest.blob_path())).collect();
    for algorithm in ["sha256", "sha512"] {
        let folder = partial.join("blobs").join(algorithm);
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().filter(|entry| !wanted.contains(&entry.path())) {
            std::fs::remove_file(entry.path()).map_err(|source| TransferError::Local {
                path: entry.path(),
                action: "a file of an earlier run can't be removed",
                source,
            })?;
        }
    }
    Ok(())
}

/// Checks that the file system can hold what is not there yet.
fn check_room(head: &Head, partial: &Path, partial_file: &File) -> Result<(), TransferError> {
    let missing = |size: &u64, digest: &Digest| {
        let path = partial.join(digest.blob_path());
        !path.metadata().is_ok_and(|metadata| metadata.len() == *size)
    };
    let rows = head.record.blobs.iter();
    let sizes: Vec<u64> = rows.filter(|row| missing(&row.size, row.digest)).map(|row| row.size).collect();
    let longest = sizes.iter().copied().max().unwrap_or(0);
    room::check(partial, partial_file, Need { longest, bytes: sizes.iter().sum() })
}

/// Makes way for the layout: nothing stands under its name, or a layout that an earlier run of the same images ended
/// with gaps.
fn take_up(job: &Job<'_>, folder: &Path, partial: &Path) -> Result<(), TransferError> {
    if !folder.exists() || is_empty(folder) {
        return Ok(());
    }
    let names: BTreeSet<String> = job
        .graph
        .images
        .iter()
        .map(|image| &image.name)
        .chain(job.unresolved)
        .map(ToString::to_string)
        .collect();
    let is_ours = crate::bundle::Bundle::open(folder).is_ok_and(|bundle| {
        bundle.record().is_some_and(|record| {
            let failed = record.failed.iter().map(|entry| &entry.name);
            let found = record.images.iter().map(|entry| &entry.name).chain(failed);
            !record.failed.is_empty() && found.map(ToString::to_string).collect::<BTreeSet<_>>() == names
        })
    });
    if !is_ours || partial.exists() {
        return Err(TransferError::Exists { path: folder.to_owned(), what: "not empty".to_owned() });
    }
    std::fs::rename(folder, partial).map_err(|source| TransferError::Local {
        path: folder.to_owned(),
        action: "the unfinished layout can't be taken up",
        source,
    })
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

struct Writer<'a> {
    job: &'a Job<'a>,
    folder: &'a Path,
    progress: &'a dyn Progress,
    fetched: AtomicU64,
    kept: AtomicU64,
    gaps: Mutex<Vec<(usize, StoreError)>>,
}

impl Writer<'_> {
    fn blob(&self, at: usize) -> Result<(), TransferError> {
        let id = self.job.order[at];
        let (digest, size, _) = self.job.graph.travelling(id);
        let path = self.folder.join(digest.blob_path());
        self.progress.start(digest, size);
        let outcome = if is_whole(&path, digest, size) {
            self.progress.advance(digest, size);
            self.kept.fetch_add(size, Ordering::Relaxed);
            Ok(())
        } else {
            self.bring(id, &path)
        };
        self.progress.finish(digest);
        match outcome {
            Ok(()) => Ok(()),
            Err(FetchError::Sink(error)) => Err(TransferError::Target(error)),
            Err(FetchError::Source(error)) if self.job.keep_going => {
                self.gaps.lock().unwrap_or_else(PoisonError::into_inner).push((at, error));
                Ok(())
            }
            Err(FetchError::Source(source)) => {
                Err(TransferError::Blob { image: owner(self.job.graph, id), digest: digest.clone(), source })
            }
        }
    }

    fn bring(&self, id: NodeId, path: &Path) -> Result<(), FetchError> {
        let (digest, size, source) = self.job.graph.travelling(id);
        let failed = |source| {
            FetchError::Sink(StoreError::Io { path: path.to_owned(), action: "could not be written", source })
        };
        let surveyed = self.job.survey.content(digest).map_err(failed)?;
        let from: &dyn Source = &*self.job.sources[usize::from(source)];
        let unfinished = path.with_extension("partial");
        let mut file = File::create(&unfinished).map_err(failed)?;
        match surveyed {
            Some(bytes) if digest.matches(&bytes) => file.write_all(&bytes).map_err(failed)?,
            _ => fetch(from, digest, size, None, self.progress, &mut Vec::new(), |offset, bytes| {
                std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).map_err(|source| {
                    StoreError::Io { path: path.to_owned(), action: "could not be written", source }
                })
            })?,
        }
        self.fetched.fetch_add(size, Ordering::Relaxed);
        std::fs::rename(&unfinished, path).map_err(failed)
    }
}

/// Returns whether a file of an earlier run has the content it should have.
fn is_whole(path: &Path, digest: &Digest, size: u64) -> bool {
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == size) {
        return false;
    }
    let mut hasher = Hasher::new(digest.algorithm());
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return hasher.finish() == *digest,
            Ok(count) => hasher.update(&piece[..count]),
            Err(_) => return false,
        }
    }
}
