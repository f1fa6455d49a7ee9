//! The patch format, and rebuilding by it.
//!
//! A patch is one blob that, with the base layers it names, gives a target layer bit for bit. It describes each of the
//! target's three streams (plain bytes, tokens, blocks) by operations: copy from the same stream of a base, copy and add
//! differences, take new bytes. `format-spec/patch.md` is its text.

mod error;
mod head;
mod open;
mod ops;
mod rebuild;
mod sequence;
mod unpack;
mod varint;
mod window;
mod write;

pub use error::{Invalid, PatchError, RebuildError};
pub use head::{BaseHead, Head};
pub use open::{HEAD_MAX, Patch};
pub use ops::{Op, Positions, Segment};
pub use rebuild::rebuild;
pub use write::{FinishedStreamPatch, StreamPatch, write};

/// The media type of a patch blob.
pub const MEDIA_TYPE: &str = "application/vnd.barge.patch.v1";

/// The first bytes of a patch blob (P-2).
pub const MAGIC: [u8; 8] = *b"BARGEPT1";

/// Most base layers of one patch (P-6).
pub const BASES_MAX: usize = 16;

/// Most bytes that one frame of `data` gives (P-22): what a reader holds of each stream at a time.
pub const FRAME_MAX: u64 = 32 << 20;

/// Most bytes of base content before a frame (P-23): what a reader holds while it decodes one.
pub const PREFIX_MAX: u64 = 64 << 20;

/// Most segments that a frame's prefix is joined from (P-23).
pub const SEGMENTS_MAX: usize = 1 << 20;

/// Returns how many bytes the prefix of a frame that gives `raw` bytes has at most (P-23, P-26).
#[must_use]
pub fn prefix_max(raw: u64) -> u64 {
    raw.saturating_mul(8192).saturating_add(64 << 10).min(PREFIX_MAX)
}

/// Returns of how many segments the prefix of a frame that gives `raw` bytes is joined at most (P-23, P-27): each may be
/// a read from a place of its own.
#[must_use]
pub fn segments_max(raw: u64) -> u64 {
    raw.saturating_add(256).min(SEGMENTS_MAX as u64)
}

/// The largest window of the frames `ops` and `diff`, as a power of two (P-11): 8 MiB. Six such frames are read at a time.
pub const WINDOW_LOG: u32 = 23;
