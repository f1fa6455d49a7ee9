//! Why an image's files can't be read.

use std::io;

use crate::oci::Digest;
use crate::store::StoreError;
use crate::store::tar::TarFault;

/// Why an image's files can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageFilesError {
    /// What the place said, content that is not what its digest says among it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An artifact, which has no file system.
    #[error("{digest} in {place} is no image that can run: it has no file system")]
    NotAnImage {
        /// The place.
        place: String,
        /// The manifest.
        digest: Digest,
    },
    /// An index that lists attestations and artifacts only.
    #[error("the index {digest} in {place} lists no image that can run")]
    NoRunnable {
        /// The place.
        place: String,
        /// The index.
        digest: Digest,
    },
    /// A config that can't be used.
    #[error("the config {digest} of the image in {place} can't be used: {why}")]
    Config {
        /// The place.
        place: String,
        /// The config.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that is no tar file.
    #[error("the layer {digest} in {place} can't be read as a tar file")]
    Layer {
        /// The place.
        place: String,
        /// The layer.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        fault: TarFault,
    },
    /// A layer that can't be used although it is what its digest says.
    #[error("the layer {digest} in {place} can't be used: {why}")]
    Unusable {
        /// The place.
        place: String,
        /// The layer.
        digest: Digest,
        /// Why.
        why: String,
    },
    /// More is there than is read.
    #[error("`{path}` of the image in {place} is longer than the {limit} bytes that are read of it")]
    TooLarge {
        /// The place.
        place: String,
        /// The file or folder.
        path: String,
        /// The limit.
        limit: u64,
    },
    /// A file that the image does not have.
    #[error("the image {digest} in {place} has no file `{path}`")]
    NoFile {
        /// The place.
        place: String,
        /// The image's manifest.
        digest: Digest,
        /// The file.
        path: String,
    },
    /// A link that leads nowhere or in a circle.
    #[error("`{path}` of the image in {place} is a link that can't be followed: {why}")]
    Link {
        /// The place.
        place: String,
        /// The link.
        path: String,
        /// Why not.
        why: String,
    },
    /// More links out of a folder, or to lower layers, than are followed.
    #[error(
        "the folder `{path}` of the image in {place} has links to {count} files outside it or in lower layers, and no \
         more than {limit} are followed"
    )]
    TooManyLinks {
        /// The place.
        place: String,
        /// The folder.
        path: String,
        /// How many there are.
        count: usize,
        /// How many are followed.
        limit: usize,
    },
    /// More layers than are read.
    #[error("the image {digest} in {place} has {count} layers, and no more than {limit} are read")]
    TooManyLayers {
        /// The place.
        place: String,
        /// The image's manifest.
        digest: Digest,
        /// How many there are.
        count: usize,
        /// How many are read.
        limit: usize,
    },
    /// Layers that are each within their bounds and together are not.
    #[error(
        "reading the layers of the image {digest} in {place} comes to more than {limit} bytes, many times what they have"
    )]
    TooMuch {
        /// The place.
        place: String,
        /// The image's manifest.
        digest: Digest,
        /// The limit.
        limit: u64,
    },
    /// What is read can't be kept.
    #[error("`{path}` can't be written to a working file")]
    Write {
        /// The file in the image.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
