//! Why a patch can't be read, or a layer not be rebuilt.

use std::io;

use super::BASES_MAX;
use crate::delta::gzip::JoinError;
use crate::oci::digest::Digest;

/// Why a blob is no patch that can be used.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The blob is not what the format asks for.
    #[error("the patch is not valid: {0}")]
    Invalid(#[source] Invalid),
    /// The blob can't be read from its working file.
    #[error("can't read the patch from its working file")]
    Scratch(#[source] io::Error),
}

/// Why a layer could not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The patch itself is wrong; no base can make it right.
    #[error("the patch is not valid: {0}")]
    Invalid(#[source] Invalid),
    /// A base layer is not the one that the patch names, or not there.
    #[error("base layer {digest} does not fit the patch: {what}")]
    Base {
        /// The base's digest as the patch has it.
        digest: Digest,
        /// What does not fit.
        what: &'static str,
    },
    /// A working file can't be read.
    #[error("can't read a working file")]
    Scratch(#[source] io::Error),
    /// The error of the writer that takes the layer, as it is.
    #[error(transparent)]
    Out(io::Error),
}

/// What is wrong with a patch.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Another first eight bytes.
    #[error("it does not start as patches do")]
    Magic,
    /// The head or the lengths after it end too early.
    #[error("it ends within its head")]
    ShortHead,
    /// An integer that is not in its shortest form or does not fit.
    #[error("an integer is badly formed")]
    Number,
    /// A digest that can't be read.
    #[error("it names something that is no digest")]
    Digest,
    /// An unknown way to take a layer apart.
    #[error("form {0} is not known; a newer barge may know it")]
    Form(u8),
    /// No base, or too many.
    #[error("it has {0} bases instead of 1 to {BASES_MAX}")]
    Bases(u64),
    /// Lengths that contradict each other.
    #[error("its lengths contradict each other: {0}")]
    Lengths(&'static str),
    /// Operations that can't be followed.
    #[error("in the {stream}: {what}")]
    Stream {
        /// Which stream they describe.
        stream: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// Packed bytes that zstd refuses.
    #[error("in the {stream}: {part} can't be unpacked ({cause})")]
    Unpack {
        /// Which stream they are of.
        stream: &'static str,
        /// Which part.
        part: &'static str,
        /// What zstd says.
        cause: &'static str,
    },
    /// Streams that are no gzip stream together.
    #[error("what it gives is no gzip stream: {0}")]
    Join(#[source] JoinError),
    /// A layer of another size.
    #[error("it does not give a layer of {0} bytes")]
    Size(u64),
}

impl From<Invalid> for RebuildError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<PatchError> for RebuildError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Invalid(invalid) => Self::Invalid(invalid),
            PatchError::Scratch(error) => Self::Scratch(error),
        }
    }
}
