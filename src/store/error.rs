//! What can go wrong at a place that holds blobs.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::oci::{Digest, ManifestError};

/// One entry of a registry's error body (distribution-spec, "Error Codes"), stripped of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryMessage {
    /// The code, e.g. `MANIFEST_BLOB_UNKNOWN`; empty where the body was not in the registry format.
    pub code: String,
    /// The message; for a body that is not the registry format, its first line.
    pub message: String,
    /// The detail as compact JSON, empty where there was none.
    pub detail: String,
}

impl fmt::Display for RegistryMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            ("", message) => f.write_str(message),
            (code, "") => f.write_str(code),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

/// Why a store could not do what it was asked.
///
/// `place` is the name of the store for messages, `what` names the thing asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place answered, and does not have it. For a registry: 404 and nothing else.
    #[error("{place} does not have {what}")]
    NotFound {
        /// The place asked.
        place: String,
        /// What was asked for.
        what: String,
    },
    /// 401 or 403 after every credential there is was tried.
    #[error("{place} denied access to {what} ({status}{})", listed(.messages))]
    Denied {
        /// The place asked.
        place: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        messages: Vec<RegistryMessage>,
    },
    /// The registry understood and will not do it: any other 4xx, or a 5xx after the retries.
    #[error("{place} answered {status} to {what}{}", listed(.messages))]
    Refused {
        /// The place asked.
        place: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        messages: Vec<RegistryMessage>,
    },
    /// No answer: name, connection, TLS, time-out, or a connection that ended too early, after the retries.
    #[error("{place} could not be reached for {what}")]
    Unreachable {
        /// The place asked.
        place: String,
        /// What was asked for.
        what: String,
        /// What the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// None of the places that stand for a repository gave it.
    #[error("{what} of {place} can't be had from any of the places that stand for it: {}", each(.errors))]
    Nowhere {
        /// The repository, by its own name.
        place: String,
        /// What was asked for.
        what: String,
        /// What each of the places said.
        errors: Vec<(String, StoreError)>,
    },
    /// Content stopped coming in the middle, again and again.
    #[error("{place} stopped in the middle of {what}")]
    Interrupted {
        /// The place asked.
        place: String,
        /// What was being read, and how far it came.
        what: String,
        /// What the network or the medium said.
        #[source]
        source: io::Error,
    },
    /// Content came that is not what its digest or size says.
    #[error("what {place} holds as {digest} is not that content: {why}")]
    Damaged {
        /// The place asked.
        place: String,
        /// The digest asked for.
        digest: Digest,
        /// How the content differs.
        why: String,
    },
    /// A manifest that can't be used.
    #[error("{place} holds a manifest {digest} that can't be used")]
    Manifest {
        /// The place asked.
        place: String,
        /// The manifest's digest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// The place itself is not in the form it should have: a broken tar, a layout without `index.json`, an answer
    /// outside the protocol.
    #[error("{place} can't be used: {why}")]
    Invalid {
        /// The place asked.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was to be sent could not be read; the sending was broken off.
    #[error("{what} could not be read to send it to {place}")]
    Content {
        /// The place it was to go to.
        place: String,
        /// What was being sent.
        what: String,
        /// What its reader said.
        #[source]
        source: io::Error,
    },
    /// The folder for working files could not be used.
    #[error("working files can't be kept in {}", .folder.display())]
    Scratch {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A local file could not be read or written.
    #[error("{}: {action}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, e.g. `could not be opened`.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Returns whether the place answered that it does not have the thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// `PLACE: what it said; PLACE: what it said`.
fn each(errors: &[(String, StoreError)]) -> String {
    let texts: Vec<String> =
        errors.iter().map(|(place, error)| format!("{place}: {}", chain(error))).collect();
    texts.join("; ")
}

/// `: code: message; code: message`, or nothing.
fn listed(messages: &[RegistryMessage]) -> String {
    if messages.is_empty() {
        return String::new();
    }
    // Registries repeat themselves, once for each thing that is wrong.
    let mut texts: Vec<String> = messages.iter().map(ToString::to_string).collect();
    texts.dedup();
    texts.truncate(4);
    format!(": {}", texts.join("; "))
}

/// Returns an error and its causes in one line, saying nothing twice.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
