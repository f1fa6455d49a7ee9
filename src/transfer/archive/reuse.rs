//! Content of an earlier unfinished file that is laid out otherwise.

use super::files::Files;
use crate::bundle::Bundle;

/// An earlier unfinished file that is laid out otherwise. Its own head says where its content lies; whether it came that
/// far shows when it is copied, for every byte is hashed then.
pub struct Reuse(pub(super) Bundle);

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
