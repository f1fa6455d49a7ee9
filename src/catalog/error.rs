//! Why a catalog can't be read.

use crate::oci::Digest;

use super::files::ImageFilesError;

/// Why a catalog can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The image's files can't be read.
    #[error(transparent)]
    Files(#[from] ImageFilesError),
    /// An image that is no catalog.
    #[error(
        "the image {digest} in {place} is no operator catalog: it has neither the label `{}` nor `{}`",
        super::FILES_LABEL,
        super::DATABASE_LABEL
    )]
    NoLabel {
        /// The place.
        place: String,
        /// The image's manifest.
        digest: Digest,
    },
    /// A label that names a folder without a document.
    #[error("the catalog {digest} in {place} has no document below `{dir}`, where its label says")]
    NoDocument {
        /// The place.
        place: String,
        /// The image's manifest.
        digest: Digest,
        /// The folder.
        dir: String,
    },
    /// A file that can't be understood.
    #[error("`{file}` of the catalog in {place}, document {number} (line {line}): {why}")]
    Document {
        /// The place.
        place: String,
        /// The file in the image.
        file: String,
        /// Number of the document in the file, from 1.
        number: usize,
        /// The line of the file where the document, or what is wrong with it, begins.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A line of an `.indexignore` that is no pattern.
    #[error("`{file}` of the catalog in {place}, line {line}: {why}")]
    Ignore {
        /// The place.
        place: String,
        /// The file in the image.
        file: String,
        /// The line.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Documents that contradict each other.
    #[error("the catalog in {place} contradicts itself: {why}")]
    Contradiction {
        /// The place.
        place: String,
        /// How.
        why: String,
    },
    /// A database that can't be used.
    #[error("the database `{file}` of the catalog in {place} can't be used: {why}")]
    Database {
        /// The place.
        place: String,
        /// The database's file in the image.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The database can't be kept in a working file.
    #[error("the database `{file}` of the catalog in {place} can't be kept in a working file")]
    Scratch {
        /// The place.
        place: String,
        /// The database's file in the image.
        file: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
