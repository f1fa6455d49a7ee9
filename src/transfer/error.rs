//! What can go wrong while a plan is carried out.

use std::io;
use std::path::PathBuf;

use crate::bundle::head::HeadError;
use crate::graph::GraphError;
use crate::graph::survey::SurveyError;
use crate::oci::{Digest, Reference};
use crate::store::StoreError;

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Some content that an image needs could not be had or delivered.
    #[error("{image} needs {digest}, which can't be transferred")]
    Blob {
        /// An image that needs it.
        image: Reference,
        /// The content's digest.
        digest: Digest,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The place written to failed.
    #[error("the result can't be written")]
    Target(#[source] StoreError),
    /// A local file of the transfer's own can't be used.
    #[error("{}: {action}", .path.display())]
    Local {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The final name is taken by something else.
    #[error("{} exists and is {what}", .path.display())]
    Exists {
        /// The final name.
        path: PathBuf,
        /// What stands there.
        what: String,
    },
    /// Another process works on the same file.
    #[error("another barge is writing {}", .0.display())]
    Busy(PathBuf),
    /// An unfinished file of other arguments stands in the way.
    #[error("{} was begun with other arguments", .0.display())]
    OtherArguments(PathBuf),
    /// The file system has not enough room.
    #[error("{} has {free} bytes free and {needed} are needed", .folder.display())]
    NoSpace {
        /// The folder written to.
        folder: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The file system can't hold a file that long.
    #[error("{} is on a {system} file system, which holds files of up to {limit} bytes; this one has {needed}", .folder.display())]
    TooLong {
        /// The folder written to.
        folder: PathBuf,
        /// Name of the file system.
        system: &'static str,
        /// Bytes needed.
        needed: u64,
        /// The longest file it holds.
        limit: u64,
    },
    /// The finished file does not read back as it was written.
    #[error("{} does not read back as it was written", .path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// Digests that are wrong on the medium.
        digests: Vec<Digest>,
    },
    /// The survey failed.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// The graph contradicts itself.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The head can't be composed.
    #[error(transparent)]
    Head(#[from] HeadError),
}
