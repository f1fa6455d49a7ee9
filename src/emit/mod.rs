//! What users take: the work of a plan in the formats of other tools, which carry it out in barge's place; and
//! [`resources`], the files by which clusters and container engines find what a push put in place.
//!
//! [`Plan`] is what is to be done, entry by entry; each format is one way to write it down, and none of them asks
//! anybody anything. What a format can't say is a note, never dropped: [`Written`] has the text and the notes.
//!
//! | format | for | what it can't say |
//! | --- | --- | --- |
//! | [`mapping`] | `oc image mirror -f`, ibm-pak | layouts, archives and bundles; referrers; other platforms for each image |
//! | [`skopeo`] | a POSIX shell | referrers; parts of a layout |
//! | [`regsync`] | `regsync once -c` | archives |
//! | [`json`] | programs | nothing |
//!
//! References come from people and from content: every text is written for the language it goes into ([`shell`] words,
//! JSON strings in YAML), and what has no safe form there is left out with a note.

pub mod entry;
pub mod json;
pub mod mapping;
mod notes;
mod origin;
mod plan;
pub mod regsync;
pub mod resources;
pub mod shell;
pub mod skopeo;
mod tags;

pub use notes::Notes;
pub use origin::{Layout, Origin, Places};
pub use plan::{Options, Plan, PlanError};

use crate::pack::Warning;

/// Which part of the way a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leg {
    /// From the sources to the target in one go.
    #[default]
    Whole,
    /// From the sources into a folder on a medium.
    ToFilesystem,
    /// From that folder to the target.
    FromFilesystem,
}

/// What a format wants to know beside the plan.
pub struct Context<'a> {
    /// Which part of the way is meant; formats that know no folders ignore it.
    pub leg: Leg,
    /// Tells whether a registry may be spoken to without TLS, or with a certificate that nobody vouches for.
    pub insecure: &'a dyn Fn(&str) -> bool,
    /// The file with credentials, where one was named.
    pub auth_file: Option<&'a str>,
    /// The folder with certificates, where one was named.
    pub cert_dir: Option<&'a str>,
}

/// A plan, written down.
#[derive(Debug, Clone)]
pub struct Written {
    /// The text.
    pub text: String,
    /// What people should know: what the format can't say, and what was decided for them.
    pub notes: Vec<Warning>,
    /// Images that are in the plan and not in the text, sorted.
    pub left_out: Vec<String>,
    /// How many images the text copies.
    pub images: usize,
    /// How many pieces of attached content the text copies.
    pub attached: usize,
    /// The command that carries it out, where the text is a file called as it says.
    pub command: String,
}

/// Returns `1 image` or `2 images`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
