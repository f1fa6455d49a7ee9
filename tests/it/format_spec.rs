//! The formats as `format-spec/` has them: each numbered requirement has a test that names its number.
//!
//! What a bundle should look like is worked out here from the text and the golden files, with a tar reader of these
//! tests' own, with Python and with GNU tar; the code under test only writes the files and refuses bad ones.

mod archive;
pub mod build;
mod delta;
mod documents;
mod golden;
mod layout;
pub mod made;
mod months;
mod patches;
mod reader;
mod rebuilt;
mod record;
mod text;
pub mod walk;

pub(crate) use text::faults_by;
