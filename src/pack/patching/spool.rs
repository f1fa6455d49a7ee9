//! Patches on disk, under names that say what they were made of: an interrupted run does not make them again, and several
//! bundles of one run share them.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Made;
use crate::bundle::patches::CODEC;
use crate::delta::make::Effort;
use crate::delta::patch::{HEAD_MAX, Head};
use crate::delta::scratch::Stream;
use crate::oci::{Algorithm, Descriptor, Digest, Hasher};
use crate::store::{Attached, Result, Source, StoreError};

/// A folder of patches. It is removed when the work is done, and stays where that was interrupted.
#[derive(Debug)]
pub struct PatchSpool {
    folder: PathBuf,
    /// The files by what their bytes hash to.
    files: Mutex<HashMap<Digest, PathBuf>>,
    /// Held as long as the spool is in use.
    _lock: Option<File>,
}

/// Returns the name of the patch for `target` from `candidates`: a digest over all that decides what it is.
pub(super) fn key(target: &Digest, candidates: &[&Digest], effort: Effort) -> String {
    let mut lines = vec![format!("{CODEC} {effort:?} {}", env!("CARGO_PKG_VERSION")), target.to_string()];
    lines.extend(candidates.iter().map(ToString::to_string));
    Digest::sha256(lines.join("\n").as_bytes()).hex()
}

/// What an earlier run made of a layer.
pub(super) enum Kept {
    /// It did not come to it.
    Nothing,
    /// That there is no use in a patch.
    NoUse,
    /// A patch.
    Patch(Made),
}

impl PatchSpool {
    /// Opens the spool of the work that `name` stands for, in a folder for working files. Where another process is at the
    /// same work, or the folder could be written to by others, it is a new one, which is of no use to a later run.
    ///
    /// # Errors
    /// [`StoreError::Scratch`] if it can't be made.
    pub fn open(scratch: &Path, name: &Digest) -> Result<Self> {
        let folder = scratch.join(format!("barge-patches-{}", name.short()));
        let failed = |source| StoreError::Scratch { folder: folder.clone(), source };
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // What others put there is not taken up; file systems without owners let anybody.
        let probe = tempfile::tempfile_in(scratch).and_then(|file| file.metadata()).map_err(failed)?;
        let found = std::fs::symlink_metadata(&folder).map_err(failed)?;
        let is_own = found.is_dir() && found.uid() == probe.uid() && found.mode().trailing_zeros() >= 6;
        if is_own {
            let lock = File::open(&folder).map_err(failed)?;
            if lock.try_lock().is_ok() {
                return Ok(Self { folder, files: Mutex::default(), _lock: Some(lock) });
            }
        }
        let private =
            tempfile::Builder::new().prefix("barge-patches-").tempdir_in(scratch).map_err(failed)?;
        Ok(Self { folder: private.keep(), files: Mutex::default(), _lock: None })
    }

    /// Removes the spool; that it stays is no harm but for its room.
    pub fn remove(&self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Scratch { folder: self.folder.clone(), source }
    }

    /// Returns what an earlier run made of a layer.
    pub(super) fn kept(&self, key: &str) -> Result<Kept> {
        if self.folder.join(format!("{key}.none")).exists() {
            return Ok(Kept::NoUse);
        }
        let path = self.folder.join(key);
        let Ok(mut file) = File::open(&path) else { return Ok(Kept::Nothing) };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut start = Vec::new();
        let size = pass(&mut file, |piece| {
            start.extend_from_slice(&piece[..piece.len().min(HEAD_MAX - start.len())]);
            hasher.write_all(piece)
        });
        let size = size.map_err(|error| self.failed(error))?;
        // It was given its name when it was whole; one that makes no sense all the same is made again.
        let Ok(head) = Head::read(&start, size) else { return Ok(Kept::Nothing) };
        let bases = head.bases.into_iter().map(|base| (base.digest, base.size)).collect();
        let digest = hasher.finish();
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), path);
        Ok(Kept::Patch(Made { digest, size, bases }))
    }

    /// Keeps a patch, or that there is no use in one; returns the digest of the patch.
    pub(super) fn keep(&self, key: &str, patch: Option<&Stream>) -> Result<Digest> {
        let path = self.folder.join(if patch.is_some() { key.to_owned() } else { format!("{key}.none") });
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            if let Some(patch) = patch {
                pass(&mut patch.reader(0), |piece| {
                    hasher.update(piece);
                    file.write_all(piece)
                })?;
            }
            // What has its name is whole, whatever happens to the machine: nobody looks into it again.
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)
        };
        write().map_err(|error| self.failed(error))?;
        let digest = hasher.finish();
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), path);
        Ok(digest)
    }
}

/// Hands everything on, piece by piece; returns how much it was.
fn pass(from: &mut dyn Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut piece = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(size),
            count => {
                to(&piece[..count])?;
                size += count as u64;
            }
        }
    }
}

impl Source for PatchSpool {
    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        Err(StoreError::NotFound { place: self.place(), what: selector.to_owned() })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        Err(StoreError::NotFound { place: self.place(), what: descriptor.digest.to_string() })
    }

    fn attached(&self, _: &Digest) -> Result<Vec<Attached>> {
        Ok(Vec::new())
    }

    fn open_blob(&self, digest: &Digest, _: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        let path =
            path.ok_or_else(|| StoreError::NotFound { place: self.place(), what: digest.to_string() })?;
        let opened = File::open(&path).and_then(|mut file| {
            io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
            Ok(file)
        });
        let file = opened.map_err(|source| StoreError::Io { path, action: "can't be opened", source })?;
        Ok(Box::new(file))
    }
}
