//! Writing the files into a folder, without touching what others have there.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{MARK, Made};
use crate::transfer::{TransferError, write_whole};

/// Why files can't be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something that barge did not write has the name of a file.
    #[error("{} is there and was not written by barge", .0.display())]
    Foreign(PathBuf),
    /// The folder can't be made or looked into.
    #[error("{} {action}", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file can't be written.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Whether any file is another one than before.
    pub changed: bool,
    /// Files of an earlier run that this one did not make, sorted.
    pub stale: Vec<String>,
}

/// Writes each file whole; nothing where any of them would replace what is not barge's.
///
/// # Errors
/// [`FolderError`].
pub fn write(made: &Made, folder: &Path) -> Result<Written, FolderError> {
    let mut written = Written::default();
    let mut work = Vec::new();
    for file in &made.files {
        let path = folder.join(&file.path);
        if is_same(&path, &file.bytes)? {
            continue;
        }
        work.push((path, &file.bytes));
    }
    for (path, bytes) in work {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| FolderError::Io {
                path: parent.to_owned(),
                action: "can't be made",
                source,
            })?;
        }
        write_whole(&path, |out| out.write_all(bytes))?;
        written.changed = true;
    }
    written.stale = stale(made, folder);
    Ok(written)
}

/// Returns whether the file is there as it should be; it may be written over if barge wrote it.
fn is_same(path: &Path, bytes: &[u8]) -> Result<bool, FolderError> {
    match fs::symlink_metadata(path) {
        // A parent that is a file is found out when it is made.
        Err(_) => Ok(false),
        Ok(metadata) if metadata.is_file() && is_own(path) => {
            Ok(metadata.len() == bytes.len() as u64 && fs::read(path).is_ok_and(|found| found == bytes))
        }
        Ok(_) => Err(FolderError::Foreign(path.to_owned())),
    }
}

fn is_own(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MARK.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == MARK.as_bytes()
}

/// Finds files of earlier runs at the places where barge writes, which would be applied with the others.
fn stale(made: &Made, folder: &Path) -> Vec<String> {
    let is_kind = |path: &Path| {
        let ends = ["conf", "toml", "txt", "yaml"];
        path.extension().is_some_and(|end| ends.iter().any(|kind| end == *kind))
    };
    // What can't be looked into was not written by barge, or not by who runs it now.
    let entries = walkdir::WalkDir::new(folder).max_depth(3).sort_by_file_name().into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file() && is_kind(entry.path()));
    let mut found = Vec::new();
    for entry in files {
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path()).display().to_string();
        if !made.files.iter().any(|file| file.path == path) && is_own(entry.path()) {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{File, Taker};
    use super::*;

    fn made(files: &[(&str, &str)]) -> Made {
        let file = |(path, text): &(&str, &str)| File::new(*path, "x", Taker::Everybody, text);
        Made { files: files.iter().map(file).collect(), ..Made::default() }
    }

    #[test]
    fn own_files_are_replaced_and_others_never() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("new/folder");
        let first = made(&[("a.yaml", "1"), ("deep/b.conf", "2")]);
        assert_eq!(write(&first, &folder).unwrap(), Written { changed: true, stale: Vec::new() });
        assert_eq!(fs::read_to_string(folder.join("deep/b.conf")).unwrap(), format!("{MARK}\n2"));
        assert!(!write(&first, &folder).unwrap().changed);
        let second = made(&[("a.yaml", "3")]);
        let stale = vec!["deep/b.conf".to_owned()];
        assert_eq!(write(&second, &folder).unwrap(), Written { changed: true, stale });
        fs::write(folder.join("z.yaml"), "theirs").unwrap();
        let third = made(&[("a.yaml", "4"), ("z.yaml", "5")]);
        assert!(
            matches!(write(&third, &folder), Err(FolderError::Foreign(path)) if path.ends_with("z.yaml"))
        );
        assert_eq!(
            fs::read_to_string(folder.join("a.yaml")).unwrap(),
            format!("{MARK}\n3"),
            "nothing was written"
        );
        fs::remove_file(folder.join("z.yaml")).unwrap();
        std::os::unix::fs::symlink("a.yaml", folder.join("z.yaml")).unwrap();
        assert!(matches!(write(&third, &folder), Err(FolderError::Foreign(_))));
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("file");
        fs::write(&folder, "x").unwrap();
        assert!(matches!(write(&made(&[("a.yaml", "1")]), &folder), Err(FolderError::Io { .. })));
    }
}
