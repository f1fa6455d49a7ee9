//! Whether a file system can hold what is planned, asked before the first blob is fetched.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::TransferError;

/// Type number of FAT in Linux's `statfs`.
const MSDOS_SUPER_MAGIC: i64 = 0x4d44;
/// FAT keeps lengths in 32 bits.
const FAT_LIMIT: u64 = u32::MAX as u64;

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Length of the longest file.
    pub longest: u64,
    /// Bytes that are not there yet.
    pub bytes: u64,
}

/// Checks that the file system of `file`, at `path`, can hold it at `length` bytes.
///
/// # Errors
/// As [`check`].
pub fn check_room(path: &Path, file: &File, length: u64) -> Result<(), TransferError> {
    let taken = file.metadata().map_or(0, |metadata| metadata.blocks() * 512);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    check(folder, file, Need { longest: length, bytes: length.saturating_sub(taken) })
}

/// Checks that the file system of `folder`, on which `file` is open, can take what is needed.
///
/// # Errors
/// [`TransferError::NoSpace`] or [`TransferError::TooLong`]; a file system that does not tell is not an error.
pub fn check(folder: &Path, file: &File, need: Need) -> Result<(), TransferError> {
    let Ok(stat) = rustix::fs::fstatfs(file) else {
        return Ok(());
    };
    let free = stat.f_bavail.saturating_mul(stat.f_bsize.unsigned_abs());
    decide(folder, stat.f_type, free, need)
}

fn decide(folder: &Path, file_system: i64, free: u64, need: Need) -> Result<(), TransferError> {
    let folder = || folder.to_owned();
    if file_system == MSDOS_SUPER_MAGIC && need.longest > FAT_LIMIT {
        let (folder, system) = (folder(), "FAT");
        return Err(TransferError::TooLong { folder, system, needed: need.longest, limit: FAT_LIMIT });
    }
    if free < need.bytes {
        return Err(TransferError::NoSpace { folder: folder(), needed: need.bytes, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fat_holds_four_gib_less_one_byte_and_others_more() {
        const EXT4: i64 = 0xef53;
        let folder = Path::new("/media/usb");
        let outcome = |system, longest| decide(folder, system, u64::MAX, Need { longest, bytes: 0 });
        assert!(outcome(MSDOS_SUPER_MAGIC, FAT_LIMIT).is_ok());
        let Err(TransferError::TooLong { system: "FAT", needed, limit, .. }) =
            outcome(MSDOS_SUPER_MAGIC, 1 << 32)
        else {
            panic!("a file too long for FAT was let pass");
        };
        assert_eq!((needed, limit), (1 << 32, (1 << 32) - 1));
        assert!(outcome(EXT4, 1 << 40).is_ok());
    }

    #[test]
    fn what_is_there_already_needs_no_room_again() {
        let decide = |bytes| decide(Path::new("x"), 0, 100, Need { longest: 1000, bytes });
        assert!(decide(100).is_ok());
        assert!(matches!(decide(101), Err(TransferError::NoSpace { needed: 101, free: 100, .. })));
    }
}
