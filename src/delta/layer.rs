//! A layer taken apart.

use super::scratch::Stream;

/// How a blob is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Not at all: the plain bytes are the blob's own.
    Raw,
    /// As a gzip stream (RFC 1952): plain bytes, tokens, blocks.
    Gzip,
}

/// Where the three streams stand at one moment of taking a gzip stream apart: what comes before in one belongs to what
/// comes before in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Plain bytes so far.
    pub plain: u64,
    /// Bytes of tokens so far.
    pub tokens: u64,
    /// Bytes of blocks so far.
    pub blocks: u64,
}

/// A layer taken apart, in working files.
#[derive(Debug, Clone)]
pub struct Layer {
    /// How it was taken apart.
    pub form: Form,
    /// Length of the blob in bytes.
    pub size: u64,
    /// The plain bytes.
    pub plain: Stream,
    /// The tokens; empty unless the form is [`Form::Gzip`].
    pub tokens: Stream,
    /// The blocks; empty unless the form is [`Form::Gzip`].
    pub blocks: Stream,
    /// Where the streams stand, about every 64 KiB of plain bytes, ascending.
    pub marks: Vec<Mark>,
}
