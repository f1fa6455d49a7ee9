//! What a bundle is beyond an OCI layout: its record, its trailer, what is absent and why.

pub mod chain;
pub mod head;
pub mod inspect;
mod open;
pub mod patches;
pub mod recipe;
pub mod record;
pub mod table;
pub mod trailer;
mod union;
pub mod verify;
pub mod workshop;

pub use open::{Archive, Bundle};
pub use record::Record;
pub use union::{Held, Union};
