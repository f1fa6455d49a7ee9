//! Taking gzip streams apart and joining them again, as `format-spec/gzip.md` has it.
//!
//! [`split`] decodes a stream and writes down all that the encoder chose: the plain bytes, the tokens (after how many
//! literals which match) and the blocks (everything else: headers, code tables, counts, padding). [`join`] encodes the
//! same bytes again from the three. It chooses nothing, so it depends on no compressor.
//!
//! Both stream: their memory is the same for all inputs, under a MiB.

mod buffers;
mod codes;
mod decode;
mod encode;
mod error;
mod join;
mod split;

pub use error::{JoinError, Part, SplitError};
pub use join::join;
pub use split::split;

/// Marks a literal run in the tokens that is too long for a byte; the excess follows as a varint.
const LONG_RUN: u8 = 255;
/// Marks in a record's distance that length 258 is coded as symbol 284 with the extra bits 31.
const ODD_258: u16 = 0x8000;
/// Marks in the first byte of a stored block's part that padding bits follow that are not zero.
const PADDED: u8 = 8;
/// Marks in the byte that ends a member that CRC32 and ISIZE follow.
const OWN_CHECK: u8 = 1;
/// The byte between members.
const MEMBER: u8 = 1;
/// The byte before what follows the last member.
const TRAILING: u8 = 2;
