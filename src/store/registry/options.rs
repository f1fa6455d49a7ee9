//! What a user may set about talking to registries.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::retry::LONGEST_ASKED;
use super::rule::{Rule, means_host};

/// How often a failed request is made again: enough for a restart of the server behind a balancer.
const RETRY_TIMES: u32 = 4;
/// How long nothing may arrive or leave: longer than the pauses of a busy registry, shorter than a person's patience.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many times the idle time-out a server may think about an upload: hashing many gigabytes takes minutes.
const UPLOAD_PATIENCE: u32 = 15;
/// Requests to one host at a time: saturates a gigabit link in trials, and few registries answer it with 429.
const JOBS: usize = 8;
/// Size of the pieces of a chunked upload: under the 100 MB body limit that proxies commonly have.
const CHUNK_SIZE: u64 = 32 * 1024 * 1024;

/// Settings of a [`Client`](super::Client).
///
/// The default reads nothing from the environment; [`Options::from_environment`] does.
#[derive(Clone)]
pub struct Options {
    /// File with credentials in the format of Docker's `config.json` or podman's `auth.json`; helpers that it names
    /// are run.
    pub auth_file: Option<PathBuf>,
    /// Files looked for, in this order, where `auth_file` is not given; absent ones are skipped.
    pub default_auth_files: Vec<PathBuf>,
    /// Credentials given directly: host (`None` for every registry that is no mirror of a rule), user, password. With
    /// the user `<token>` the password is an identity token.
    pub credentials: Vec<(Option<String>, String, String)>,
    /// How certain registries are reached: mirrors, certificates, credentials of their own.
    pub rules: Vec<Rule>,
    /// Hosts, with or without port, where plain HTTP and unverified TLS are allowed; `*` stands for all.
    pub insecure: Vec<String>,
    /// Folder whose `*.crt` are further certificate authorities and whose `*.cert` and `*.key` are client
    /// certificates.
    pub cert_dir: Option<PathBuf>,
    /// How often a request that failed for a passing reason is made again.
    pub retry_times: u32,
    /// How long a connection may stand still.
    pub idle_timeout: Duration,
    /// How many times the idle time-out a server may think about what it was sent.
    pub upload_patience: u32,
    /// The longest time that is waited before a request is made again, whatever the server asks for.
    pub longest_wait: Duration,
    /// The most requests to one host at the same time.
    pub jobs: usize,
    /// Bytes per second over all transfers, both directions together.
    pub limit_rate: Option<u64>,
    /// Blobs with more bytes than this are uploaded in chunks; smaller ones in one request, until a server says 413.
    pub chunk_threshold: u64,
    /// Bytes per chunk.
    pub chunk_size: u64,
    /// Whether `HTTPS_PROXY`, `ALL_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment apply; loopback registries
    /// are always reached directly.
    pub proxy_from_environment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth_file: None,
            default_auth_files: Vec::new(),
            credentials: Vec::new(),
            rules: Vec::new(),
            insecure: Vec::new(),
            cert_dir: None,
            retry_times: RETRY_TIMES,
            idle_timeout: IDLE_TIMEOUT,
            upload_patience: UPLOAD_PATIENCE,
            longest_wait: LONGEST_ASKED,
            jobs: JOBS,
            limit_rate: None,
            chunk_threshold: u64::MAX,
            chunk_size: CHUNK_SIZE,
            proxy_from_environment: false,
        }
    }
}

impl Options {
    /// Makes the default options with what the environment says: the usual credential files
    /// (`$REGISTRY_AUTH_FILE`, else `$XDG_RUNTIME_DIR/containers/auth.json`, then `$DOCKER_CONFIG/config.json` or
    /// `~/.docker/config.json`) and proxies.
    #[must_use]
    pub fn from_environment() -> Self {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let default_auth_files = match folder("REGISTRY_AUTH_FILE") {
            Some(file) => vec![file],
            None => [
                folder("XDG_RUNTIME_DIR").map(|path| path.join("containers/auth.json")),
                folder("DOCKER_CONFIG")
                    .or_else(|| folder("HOME").map(|home| home.join(".docker")))
                    .map(|path| path.join("config.json")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        Self { default_auth_files, proxy_from_environment: true, ..Self::default() }
    }

    /// Returns whether plain HTTP and unverified TLS are allowed for a registry or host, whatever is done there. Rules
    /// allow it for what they speak of alone.
    pub(super) fn is_insecure(&self, authority: &str) -> bool {
        self.insecure.iter().any(|entry| means_host(entry, authority))
    }
}

/// Shows everything but the secrets.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("auth_file", &self.auth_file)
            .field("default_auth_files", &self.default_auth_files)
            .field("credentials", &format_args!("{} given", self.credentials.len()))
            .field("rules", &self.rules)
            .field("insecure", &self.insecure)
            .field("cert_dir", &self.cert_dir)
            .field("retry_times", &self.retry_times)
            .field("idle_timeout", &self.idle_timeout)
            .field("upload_patience", &self.upload_patience)
            .field("longest_wait", &self.longest_wait)
            .field("jobs", &self.jobs)
            .field("limit_rate", &self.limit_rate)
            .field("chunk_threshold", &self.chunk_threshold)
            .field("chunk_size", &self.chunk_size)
            .field("proxy_from_environment", &self.proxy_from_environment)
            .finish()
    }
}
