//! Layout directories.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::{Layout, LayoutFiles, OpenBlob};
use crate::oci::Digest;
use crate::store::tar::FileSlice;
use crate::store::{Result, StoreError};

/// A layout in a directory, `oci:DIR`.
pub type LayoutDirectory = Layout<DirectoryFiles>;

impl LayoutDirectory {
    /// Opens the layout in a directory.
    ///
    /// # Errors
    /// [`StoreError::Io`] if there is no such directory, [`StoreError::Invalid`] if it is no layout.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(DirectoryFiles::open(path)?)
    }
}

/// The files of a layout directory.
///
/// Below the directory itself no link is followed and nothing but regular files is opened: who can write into a
/// layout must not choose which files of this machine are packed, nor make the program wait for a pipe.
#[derive(Debug)]
pub struct DirectoryFiles {
    path: PathBuf,
    root: OwnedFd,
}

impl DirectoryFiles {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it can't be opened as one.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(|error| StoreError::Io {
            path: path.to_owned(),
            action: "could not be opened as a folder",
            source: error.into(),
        })?;
        Ok(Self { path: path.to_owned(), root })
    }

    /// Opens a blob's file and returns its length; none if it is not there.
    ///
    /// # Errors
    /// As [`LayoutFiles::blob_size`].
    pub fn blob_file(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        self.file(&digest.blob_path())
    }

    /// Opens a regular file by its path below the directory; none if it, or a folder on the way, is not there.
    fn file(&self, path: &str) -> Result<Option<(File, u64)>> {
        let io = |error: Errno| StoreError::Io {
            path: self.path.join(path),
            action: "could not be opened",
            source: error.into(),
        };
        let mut folder: Option<OwnedFd> = None;
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            let within = folder.as_ref().unwrap_or(&self.root);
            let wanted =
                if components.peek().is_some() { FileType::Directory } else { FileType::RegularFile };
            // Looked at before it is opened: opening a device can do things, and the message can say what it is.
            match statat(within, component, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(io(error)),
                Ok(status) => {
                    self.expect(path, component, FileType::from_raw_mode(status.st_mode), wanted)?;
                }
            }
            // It may have been exchanged since, so the flags say it again and the open file is asked again.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = match openat(within, component, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                other => other.map_err(io)?,
            };
            let status = fstat(&opened).map_err(io)?;
            self.expect(path, component, FileType::from_raw_mode(status.st_mode), wanted)?;
            if wanted == FileType::RegularFile {
                let size = u64::try_from(status.st_size).unwrap_or(0);
                return Ok(Some((File::from(opened), size)));
            }
            folder = Some(opened);
        }
        Ok(None)
    }

    fn expect(&self, path: &str, component: &str, found: FileType, wanted: FileType) -> Result<()> {
        if found == wanted {
            return Ok(());
        }
        let found = match found {
            FileType::Symlink => "a symbolic link, and links in a layout are not followed",
            FileType::Fifo => "a pipe",
            FileType::Directory => "a folder",
            FileType::RegularFile => "a file where a folder should be",
            _ => "neither a file nor a folder",
        };
        Err(StoreError::Invalid { place: self.place(), why: format!("`{component}` of `{path}` is {found}") })
    }
}

impl LayoutFiles for DirectoryFiles {
    fn place(&self) -> String {
        format!("oci:{}", self.path.display())
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn root_file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some((file, size)) = self.file(name)? else {
            return Ok(None);
        };
        read_small(self, name, FileSlice::new(file, 0, size, 0), limit).map(Some)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.file(&digest.blob_path())?.map(|(_, size)| size))
    }

    fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Option<OpenBlob<'_>>> {
        Ok(self
            .file(&digest.blob_path())?
            .map(|(file, size)| OpenBlob { size, reader: Box::new(FileSlice::new(file, 0, size, offset)) }))
    }
}

/// Reads a small file whole.
pub(super) fn read_small<F: std::borrow::Borrow<File>>(
    files: &dyn LayoutFiles,
    name: &str,
    mut slice: FileSlice<F>,
    limit: u64,
) -> Result<Vec<u8>> {
    if slice.remaining() > limit {
        return Err(StoreError::Invalid {
            place: files.place(),
            why: format!("its file `{name}` has {} bytes; at most {limit} are read", slice.remaining()),
        });
    }
    let mut bytes = Vec::new();
    slice.read_to_end(&mut bytes).map_err(|source| StoreError::Io {
        path: files.path().to_owned(),
        action: "could not be read",
        source,
    })?;
    Ok(bytes)
}
