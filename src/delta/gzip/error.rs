//! What can be wrong.

use std::fmt;
use std::io;

/// Why a stream was not taken apart.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The stream can't be read.
    #[error("can't read the gzip stream")]
    Read(#[source] io::Error),
    /// A part can't be written.
    #[error("can't write what a gzip stream consists of")]
    Write(#[source] io::Error),
    /// The input does not start as a gzip stream does.
    #[error("not a gzip stream")]
    NotGzip,
    /// The stream ends too early.
    #[error("the gzip stream is cut off")]
    CutOff,
    /// The stream is not well-formed.
    #[error("the gzip stream is damaged: {0}")]
    Damaged(&'static str),
}

/// Why the parts were not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A part can't be read.
    #[error("can't read the {0}")]
    Read(Part, #[source] io::Error),
    /// The stream can't be written.
    #[error("can't write the gzip stream")]
    Write(#[source] io::Error),
    /// A part ends too early.
    #[error("the {0} end too early")]
    Short(Part),
    /// A part has more than belongs to the stream.
    #[error("the {0} have more than the blocks tell of")]
    Long(Part),
    /// The parts don't make a stream.
    #[error("the parts of the gzip stream don't fit: {0}")]
    Unfit(&'static str),
}

/// One of the three parts of a gzip stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The plain bytes.
    Plain,
    /// Literal runs and matches.
    Tokens,
    /// Everything else.
    Blocks,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain bytes",
            Self::Tokens => "tokens",
            Self::Blocks => "blocks",
        })
    }
}

/// A flaw in what both sides read: headers and code tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flaw(pub &'static str);

impl From<Flaw> for SplitError {
    fn from(flaw: Flaw) -> Self {
        Self::Damaged(flaw.0)
    }
}

impl From<Flaw> for JoinError {
    fn from(flaw: Flaw) -> Self {
        Self::Unfit(flaw.0)
    }
}
