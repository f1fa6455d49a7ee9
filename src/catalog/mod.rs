//! Operator catalogs: what they list, and which of it is wanted.
//!
//! A catalog is an image whose file system holds a list of packages, as files or as a database. It is read through a
//! [`Source`](crate::store::Source) like any image; nothing is run.

pub mod files;
mod filter;
#[cfg(test)]
mod testing;

pub use filter::{ChannelFilter, Filter, PackageFilter, Range};
