//! Rebuilding a layer from an old one, bit for bit: taking gzip streams apart and joining them again, patches between
//! what they consist of, and making such patches.
//!
//! A layer's digest is over its compressed bytes, and those can't be computed from the files in it. But a gzip stream is
//! no more than its plain bytes, the *tokens* that the encoder chose (which runs of literals, which matches) and the
//! *blocks* (boundaries, code tables, headers, padding). [`gzip`] takes a stream apart into these three and joins them
//! to the same bytes; [`patch`] describes each of the three by what an old layer has of it; [`make`] finds out how.
//! Whoever rebuilds runs decoders only. `format-spec/patch.md` is the text of all this.

pub mod gzip;
pub mod layer;
pub mod make;
pub mod patch;
pub mod scratch;
pub mod shelf;
