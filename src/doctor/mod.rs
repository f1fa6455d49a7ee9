//! What a target will do on the day of the transfer, found out before it; and what this machine can do.
//!
//! [`examine`] asks a registry. Without a scratch repository it only reads: no `POST`, `PUT`, `PATCH` or `DELETE` is
//! sent. With one it tries things out there with a few tiny blobs and manifests, and takes them away again where the
//! registry lets it; the [`Ledger`] knows what was written, so that an interruption cleans up too. What was found is a
//! [`Target`], a document that `pack` and `diff` read ([`decide`]). No check waits longer than the client's time-outs.

mod decide;
mod ledger;
mod look;
mod machine;
mod probe;
mod size;
mod target;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::decide::{Decision, decide};
pub use self::ledger::Ledger;
pub use self::machine::{Machine, Places, examine_machine};
pub use self::target::{Facts, Referring, SparseAnswer, TARGET_TYPE, Target, TargetError};
use crate::oci::RepositoryName;
use crate::push::names::Destination;
use crate::store::registry;
use crate::store::{Result, StoreError, chain};

/// How much is left of a good certificate when it becomes a warning: the time in which a new one can be had.
const SHORT_LIVED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The checks of a registry, in the order in which they are made.
pub const CHECKS: [&str; 14] = [
    "reachable",
    "tls",
    "api",
    "auth",
    "catalogue",
    "push",
    "repositories",
    "depth",
    "chunks",
    "mount",
    "sparse",
    "referrers",
    "manifest-size",
    "delete",
];

/// How a check came out; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A push fails as things stand.
    Failed,
    /// It goes with a flag, or something is to be known.
    Warning,
    /// It could not be found out, or was not asked.
    Unknown,
    /// As it should be.
    Ok,
}

impl State {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Ok => "ok",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check: a word that stays the same.
    pub id: String,
    /// How it came out.
    pub state: State,
    /// What was seen.
    pub seen: String,
    /// The words to add to commands that talk to this registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// What else may be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    fn new(id: &str, state: State, seen: impl Into<String>) -> Self {
        Self { id: id.to_owned(), state, seen: seen.into(), flags: Vec::new(), hint: None }
    }

    fn flags<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.flags.extend(words.map(str::to_owned));
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What to examine.
#[derive(Debug, Clone)]
pub struct Options {
    /// How to talk to the registry.
    pub client: registry::Options,
    /// The registry, and the path below which everything is to go.
    pub destination: Destination,
    /// The repository below which things may be written; none for looking only.
    pub scratch: Option<RepositoryName>,
    /// How long the registry may take to answer.
    pub patience: Duration,
}

/// Examines a registry. What was written is gone again afterwards, or listed in [`Target::left`].
///
/// # Errors
/// [`StoreError`] for a credential file or certificate folder that can't be read; what the registry does is a finding.
pub fn examine(options: &Options, ledger: &Ledger, progress: &dyn Fn(&'static str)) -> Result<Target> {
    let mut target = Target::new(&options.destination, options.scratch.as_ref());
    let client = look::look(options, &mut target, progress)?;
    if let (Some(client), Some(scratch)) = (&client, &options.scratch) {
        probe::Prober::new(client, scratch, options.patience, ledger, &mut target).run(progress);
        progress("delete");
        let cleaned = ledger.clean();
        cleaned.tell(&mut target);
    }
    let asked = match (client.is_some(), options.scratch.is_some()) {
        (true, false) => "only writing tells: give --repo SCRATCH to find out",
        (true, true) => "the registry did not let it be tried",
        _ => "the checks before it failed",
    };
    target.complete(asked);
    Ok(target)
}

/// What an error comes to in a finding.
fn why(error: &StoreError) -> String {
    match error {
        StoreError::Refused { status, messages, .. } | StoreError::Denied { status, messages, .. } => {
            match messages.first() {
                Some(message) => format!("{status} {message}"),
                None => status.to_string(),
            }
        }
        StoreError::Unreachable { source, .. } => source.to_string(),
        other => chain(other),
    }
}

/// Returns whether a registry wants repositories to be made before they are pushed to.
fn wants_repository(error: &StoreError) -> bool {
    let StoreError::Refused { status, messages, .. } = error else { return false };
    let named = |message: &crate::store::RegistryMessage| {
        matches!(message.code.as_str(), "NAME_UNKNOWN" | "RepositoryNotFoundException" | "NOT_FOUND")
    };
    *status == 404 && (messages.iter().any(named) || messages.is_empty())
}
