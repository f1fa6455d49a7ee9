//! The names that an archive and what belongs to it have in the file system.

use std::path::{Path, PathBuf};

use crate::transfer::TransferError;

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
        // The suffix of a delta stays: beside `feb.oci.tar` often stands what was sent of it, `feb.barge`.
        let base = [".oci.tar", ".tar"].iter().find_map(|suffix| text.strip_suffix(suffix)).unwrap_or(&text);
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
