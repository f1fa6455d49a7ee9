//! Operator catalogs: what they list, and which of it is wanted.
//!
//! A catalog is an image whose file system holds a list of packages, as files or as a database. It is read through a
//! [`Source`] like any image; nothing is run.

mod children;
mod database;
mod document;
mod error;
mod fbc;
pub mod files;
mod filter;
mod model;
pub mod rebuild;
mod select;
#[cfg(test)]
mod testing;

pub use children::{PlatformCatalog, read_all};
pub use document::{Document, DocumentHead};
pub use error::CatalogError;
pub use fbc::documents;
pub use filter::{ChannelFilter, Filter, PackageFilter, Range};
pub use model::{Bundle, Catalog, Channel, Entry, Form, HeadError, Package};
pub use select::{FilterError, SelectedPackage, Selection, kept_defaults, select_all};

use self::files::ImageFiles;
use crate::oci::Descriptor;
use crate::store::Source;

/// The label that names the folder of a file-based catalog.
pub const FILES_LABEL: &str = "operators.operatorframework.io.index.configs.v1";
/// The label that names the database of an `SQLite` catalog.
pub const DATABASE_LABEL: &str = "operators.operatorframework.io.index.database.v1";

/// Reads the catalog that an image holds; of an index, that of the first child that can run. Others may hold others:
/// [`read_all`].
///
/// # Errors
/// [`CatalogError`]: the image can't be read or is no catalog, or what it lists can't be understood.
pub fn read(source: &dyn Source, root: &Descriptor) -> Result<Catalog, CatalogError> {
    read_files(source, &ImageFiles::open(source, root, None)?)
}

/// Reads the catalog that an opened image holds.
///
/// # Errors
/// As [`read`].
pub fn read_files(source: &dyn Source, files: &ImageFiles) -> Result<Catalog, CatalogError> {
    // An image with both is served from its files: that is what its label was moved for.
    if let Some(dir) = files.labels().get(FILES_LABEL) {
        fbc::read(source, files, dir)
    } else if let Some(path) = files.labels().get(DATABASE_LABEL) {
        database::read(source, files, path)
    } else {
        Err(CatalogError::NoLabel {
            place: files.place().to_owned(),
            digest: files.manifest().digest.clone(),
        })
    }
}
