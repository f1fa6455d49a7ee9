//! Carries out a plan: workers, retries, verification of every byte, resume, progress events.
//!
//! Nothing here knows of terminals: whoever wants to show something implements [`Progress`].

pub mod archive;
mod error;
pub mod fetch;
pub mod journal;
pub mod layout;
pub mod room;

pub use error::TransferError;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::oci::Digest;

/// Told of what happens, from any worker.
pub trait Progress: Sync {
    /// The work begins: so many blobs with so many bytes, of which some were done by an earlier run.
    fn begin(&self, blobs: usize, bytes: u64, done_bytes: u64);
    /// A blob is started.
    fn start(&self, digest: &Digest, size: u64);
    /// Bytes of a blob moved.
    fn advance(&self, digest: &Digest, bytes: u64);
    /// A blob that was counted with [`Progress::advance`] starts over: its bytes do not count.
    fn restart(&self, digest: &Digest, bytes: u64);
    /// A blob is finished, one way or another.
    fn finish(&self, digest: &Digest);
    /// Something that people should know now.
    fn note(&self, text: &str);
}

/// Shows nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: usize, _: u64, _: u64) {}
    fn start(&self, _: &Digest, _: u64) {}
    fn advance(&self, _: &Digest, _: u64) {}
    fn restart(&self, _: &Digest, _: u64) {}
    fn finish(&self, _: &Digest) {}
    fn note(&self, _: &str) {}
}

/// Does `work` for `0..count` on `jobs` threads, in order of starting, until all is done or one returns an error.
///
/// Returns the first error by index among those that occurred; work that had started is finished first.
///
/// # Errors
/// What `work` returned.
pub fn for_each<E: Send>(
    jobs: usize,
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return None;
            }
            if let Err(error) = work(at) {
                stop.store(true, Ordering::Relaxed);
                return Some((at, error));
            }
        }
        None
    };
    let mut errors: Vec<(usize, E)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.clamp(1, count.max(1))).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    errors.sort_by_key(|(at, _)| *at);
    errors.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// Writes a small local file whole or not at all: under a temporary name beside it, synced, then renamed.
///
/// # Errors
/// [`TransferError::Local`] for what the system says.
pub fn write_whole(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&mut tempfile::NamedTempFile>) -> io::Result<()>,
) -> Result<(), TransferError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".barge-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(folder)?;
        let mut out = BufWriter::new(&mut file);
        content(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_data()?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(|_| ()).map_err(|source| TransferError::Local {
        path: path.to_owned(),
        action: "could not be written",
        source,
    })
}

/// The same for a file that nobody else can be writing, because whoever writes it holds a lock: its temporary name is its
/// own with `.partial`, so that what a kill leaves is written over by the next run.
///
/// # Errors
/// As [`write_whole`].
pub fn write_whole_alone(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), TransferError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let write = || {
        let mut file = File::create(&partial)?;
        let mut out = BufWriter::new(&mut file);
        content(&mut out)?;
        out.flush()?;
        drop(out);
        file.sync_data()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|source| TransferError::Local {
        path: path.to_owned(),
        action: "could not be written",
        source,
    })
}

/// Makes a rename in the folder of `path` durable, where the file system can; a rename is atomic all the same.
pub(crate) fn sync_folder_of(path: &Path) {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        // FAT and some network file systems refuse to sync a folder; there is nothing else to try.
        folder.sync_all().ok();
    }
}
