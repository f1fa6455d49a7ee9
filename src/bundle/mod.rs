//! What a bundle is beyond an OCI layout: its record, its trailer, what is absent and why.

pub mod record;
pub mod table;
pub mod trailer;

pub use record::Record;
