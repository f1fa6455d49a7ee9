//! The registry client: the distribution specification over HTTP, and everything real registries add to it.
//!
//! # What is guaranteed
//! - Credentials go to the registry's own origin, and to its token server only over TLS (in plain HTTP only to the
//!   registry's own host or this machine). They never follow a redirect, an upload `Location` or a `Link` to another
//!   origin, and no error holds them or the query of a presigned URL.
//! - Only a 404 means "not there". Presence of a blob is proved by a byte of it.
//! - Nothing waits for ever: every connection has an idle time-out, every repetition and every list a bound.
//! - Manifests are handed out with the digest that was computed over them; blobs as they come, for the caller to
//!   hash.
//!
//! # Map
//! `url`, `challenge`, `messages`, `retry` and `limits` are pure; `tls`, `connector` and `http` know connections, redirects and
//! repetition; `credentials`, `token` and `endpoint` know who is asking; `pull`, `referrers` and `push` are the API; `rule` knows which
//! mirrors stand for a repository, and `places` asks them; `document` reads what lies beside registries: chart repositories; `probe` and
//! `certificate` find out what a registry is like.

mod certificate;
mod challenge;
mod connector;
mod credentials;
mod document;
mod endpoint;
mod http;
mod limits;
mod messages;
mod options;
mod places;
mod probe;
mod pull;
mod push;
mod referrers;
mod retry;
mod rule;
mod tls;
mod token;
mod upload;
mod url;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

pub use self::certificate::{Certificate, Distrust};
use self::credentials::Credentials;
pub use self::credentials::{CredentialFile, CredentialSource, credential_files};
pub use self::document::Site;
use self::endpoint::{Endpoint, Purpose};
use self::http::Http;
use self::limits::lock;
pub(crate) use self::messages::clean as clean_text;
pub use self::options::Options;
pub use self::places::Places;
pub use self::probe::{Hello, Reach, Wants};
pub use self::pull::RawManifest;
pub use self::push::{Mount, OpenBody, PutManifest, UploadSession};
pub use self::referrers::Referrers;
pub use self::rule::{Mirror, Rule};
use super::Result;
use crate::oci::RepositoryName;

/// A client for any number of registries. Clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    http: Arc<Http>,
    credentials: Arc<Credentials>,
    /// By name, and whether a rule allows plain HTTP and unverified TLS there.
    endpoints: Mutex<HashMap<(String, bool), Arc<Endpoint>>>,
    lost: places::Lost,
    said: places::Said,
}

impl Client {
    /// Makes a client. Reads the credential files and the certificate folder; talks to nobody.
    ///
    /// # Errors
    /// [`StoreError::Io`](super::StoreError::Io) or [`StoreError::Invalid`](super::StoreError::Invalid) if a file
    /// that was named is not there or not what it should be.
    pub fn new(options: Options) -> Result<Self> {
        let mut warnings = Vec::new();
        options.rules.iter().try_for_each(Rule::check)?;
        let credentials = Credentials::new(&options, &mut warnings)?;
        let trust = tls::Trusts::new(&options)?;
        Ok(Self(Arc::new(Shared {
            http: Arc::new(Http::new(options, trust, warnings)),
            credentials: Arc::new(credentials),
            endpoints: Mutex::default(),
            lost: Mutex::default(),
            said: Mutex::default(),
        })))
    }

    /// Returns whether a registry may be spoken to in plain HTTP, or with a certificate that nobody vouches for: in
    /// general, or for what a rule says of the whole of it.
    #[must_use]
    pub fn is_insecure(&self, registry: &str) -> bool {
        let options = &self.0.http.options;
        let by_rule = |rule: &Rule| rule.insecure && rule::means_host(&rule.prefix, registry);
        is_loopback(registry) || options.is_insecure(registry) || options.rules.iter().any(by_rule)
    }

    /// Returns a repository, to be read or written. Talks to nobody.
    #[must_use]
    pub fn repository(&self, name: &RepositoryName, access: Access) -> Repository {
        self.repository_by(name, access, false)
    }

    fn repository_by(&self, name: &RepositoryName, access: Access, insecure: bool) -> Repository {
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        Repository(Arc::new(Inner {
            endpoint: self.endpoint_by(&name.registry, insecure),
            scope: format!("repository:{}:{actions}", name.repository),
            name: name.clone(),
            access,
        }))
    }

    /// Returns what registries sent as `Warning: 299` (distribution-spec, "Warnings") and what the client itself has
    /// to say, each once, with the host in front, without control characters.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.0.http.warnings()
    }

    /// Lists the repositories of a registry that offers a catalogue, in its order.
    ///
    /// # Errors
    /// [`StoreError::NotFound`](super::StoreError::NotFound) if it has none, or whatever kept it from answering.
    pub fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        let endpoint = self.endpoint(registry);
        let purpose = Purpose { repository: "", scope: "registry:catalog:*" };
        pull::list(&endpoint, "/v2/_catalog", "repositories", purpose, "the catalogue")
    }

    fn endpoint(&self, registry: &str) -> Arc<Endpoint> {
        self.endpoint_by(registry, false)
    }

    fn endpoint_by(&self, registry: &str, insecure: bool) -> Arc<Endpoint> {
        let mut endpoints = lock(&self.0.endpoints);
        Arc::clone(endpoints.entry((registry.to_owned(), insecure)).or_insert_with(|| {
            let (http, credentials) = (Arc::clone(&self.0.http), Arc::clone(&self.0.credentials));
            Arc::new(Endpoint::new(registry, insecure, http, credentials))
        }))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.0.http.options).finish_non_exhaustive()
    }
}

/// What a repository is opened for: decides the scope of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// One repository of a registry. Clones are the same repository.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    endpoint: Arc<Endpoint>,
    name: RepositoryName,
    access: Access,
    scope: String,
}

impl Repository {
    /// Returns the repository's name.
    #[must_use]
    pub fn name(&self) -> &RepositoryName {
        &self.0.name
    }

    fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    fn purpose(&self) -> Purpose<'_> {
        Purpose { repository: &self.0.name.repository, scope: &self.0.scope }
    }

    /// The path of something in the repository's API.
    fn target(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.0.name.repository)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({}, {:?})", self.0.name, self.0.access)
    }
}

/// Returns whether a registry is on this machine (`localhost`, `*.localhost`, `127.0.0.0/8`, `[::1]`, with any port)
/// and so is spoken to in plain HTTP by default.
#[must_use]
pub fn is_loopback(registry: &str) -> bool {
    let host = url::split_port(registry).0.to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .and_then(|host| host.parse::<Ipv6Addr>().ok())
            .is_some_and(|address| address.is_loopback())
}
