//! A registry in this process: honest by default, hostile as configured.
//!
//! It keeps everything in memory, logs every request, and misbehaves by [`Config`] (what the registry is like) and by
//! [`Fault`] (what befalls single requests). It never connects to anything.

pub mod auth;
pub mod fault;
pub mod http;
mod manifests;
mod routes;
mod server;
mod state;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barge::oci::{Descriptor, Digest};

pub use auth::{Auth, TokenAuth};
pub use fault::{Action, Fault, LocationForm, Matcher};
pub use http::{Head, Response};
pub use state::Phantom;

use super::images::Content;
use server::Server;
use state::Stored;

/// What the registry answers to an index of which some children are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SparsePolicy {
    /// Takes it.
    #[default]
    Accept,
    /// As distribution: 400, one `MANIFEST_BLOB_UNKNOWN` per absent child, its digest in `detail`.
    RefuseLikeV2,
    /// As zot: 400 `MANIFEST_INVALID`, no child named.
    RefuseLikeZot,
    /// As quay: 400 `MANIFEST_INVALID`, the first absent child in the message.
    RefuseLikeQuay,
    /// As ECR: 400 `ReferencedImagesNotFoundException`.
    RefuseLikeEcr,
    /// As v3 with a list of platforms: an index with a platform-less descriptor drops the connection, others are taken.
    CrashOnPlatformless,
}

/// How `POST …?mount=` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mount {
    /// 201 where `from` has the blob, else 202.
    #[default]
    Honest,
    /// Always 202 and a session.
    Never,
    /// 201 without `from` too, from wherever the blob lies (distribution-spec's automatic content discovery).
    Anywhere,
    /// This status, e.g. 401, 404, 405.
    Status(u16),
}

/// What the registry is like.
#[derive(Debug, Clone)]
pub struct Config {
    /// Answer to sparse indexes.
    pub sparse: SparsePolicy,
    /// Authentication.
    pub auth: Auth,
    /// Pushing to a repository that nobody created is 404 `NAME_UNKNOWN`.
    pub requires_repository: bool,
    /// Names with more components are 400 `NAME_INVALID`.
    pub max_path_components: usize,
    /// Request bodies above this are answered 413 (HTML) before they are read.
    pub body_limit: Option<u64>,
    /// Whether the referrers API is there; without it its paths are 404 and `OCI-Subject` is never sent.
    pub referrers_api: bool,
    /// The most entries of one page of tags, repositories or referrers.
    pub page_size: usize,
    /// Form of the uploads' `Location`.
    pub location: LocationForm,
    /// `OCI-Chunk-Min-Length`: announced, and a chunk after a smaller one is 400 `BLOB_UPLOAD_INVALID`.
    pub chunk_min_length: Option<u64>,
    /// Answer to mounts.
    pub mount: Mount,
    /// `POST …?digest=` with the whole blob is taken (201); else 202 as distribution answers.
    pub single_post: bool,
    /// Manifests by sha512 are taken; else 400 `DIGEST_INVALID` as distribution answers.
    pub sha512: bool,
    /// A manifest PUT is refused while its config or layers are absent.
    pub checks_blobs: bool,
    /// Manifests above this many bytes are 413.
    pub max_manifest: usize,
    /// GET of an OCI manifest without its type in `Accept` is 404, as 2.8 answers.
    pub strict_accept: bool,
    /// `Range` of blobs is honoured.
    pub ranges: bool,
    /// `DELETE` is honoured; else 405.
    pub delete: bool,
    /// Extra headers of every answer.
    pub headers: Vec<(String, String)>,
    /// Time that every answer takes at least, to make overlaps visible.
    pub latency: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sparse: SparsePolicy::Accept,
            auth: Auth::None,
            requires_repository: false,
            max_path_components: usize::MAX,
            body_limit: None,
            referrers_api: false,
            page_size: usize::MAX,
            location: LocationForm::Absolute,
            chunk_min_length: None,
            mount: Mount::Honest,
            single_post: false,
            sha512: true,
            checks_blobs: true,
            max_manifest: 4 * 1024 * 1024,
            strict_accept: true,
            ranges: true,
            delete: true,
            headers: Vec::new(),
            latency: Duration::ZERO,
        }
    }
}

/// One request as it was seen.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Method, path, query and headers.
    pub head: Head,
    /// The status answered; none if the connection was closed without an answer.
    pub status: Option<u16>,
    /// Bytes of body received.
    pub received: u64,
    /// Bytes of body sent (as announced by the answer; a cut one sent fewer).
    pub sent: u64,
    /// Number of the request, by the order in which heads were read.
    pub sequence: usize,
    /// Number of the connection it came by.
    pub connection: usize,
    /// When its head was read.
    pub started: Instant,
    /// When its answer was sent.
    pub ended: Instant,
}

impl Logged {
    /// Returns whether method and path fit, as in [`Matcher::on`].
    pub fn is(&self, methods: &str, path: &str) -> bool {
        Matcher::on(methods, path).matches(&self.head)
    }

    /// `METHOD path?query -> status`, for messages.
    pub fn line(&self) -> String {
        let query = if self.head.query.is_empty() { "" } else { "?" };
        let status = self.status.map_or("closed".to_owned(), |status| status.to_string());
        format!("{} {}{query}{} -> {status}", self.head.method, self.head.path, self.head.query)
    }
}

/// Names a declared fault, to ask how often it struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(usize);

/// A running hostile registry; dropping it closes every connection.
pub struct Hostile {
    server: Arc<Server>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

impl Hostile {
    /// Starts a registry on a free loopback port.
    pub fn start(config: Config) -> Self {
        let (server, acceptor) = Server::start(config);
        Self { server, acceptor: Some(acceptor) }
    }

    /// Starts an honest registry.
    pub fn honest() -> Self {
        Self::start(Config::default())
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.server.host
    }

    /// Declares a fault.
    pub fn fault(&self, fault: Fault) -> FaultId {
        let mut faults = self.server.faults.lock().unwrap();
        faults.push((fault, 0));
        FaultId(faults.len() - 1)
    }

    /// Takes all faults back; the identifiers given out before are void.
    pub fn clear_faults(&self) {
        self.server.faults.lock().unwrap().clear();
    }

    /// How often a fault struck.
    pub fn struck(&self, id: FaultId) -> usize {
        let faults = self.server.faults.lock().unwrap();
        let (fault, seen) = &faults[id.0];
        seen.saturating_sub(fault.skip).min(fault.times.unwrap_or(usize::MAX))
    }

    /// Changes what the registry is like from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.server.config.lock().unwrap());
    }

    /// Stores the whole of `root`, as far as `content` has it, without a request.
    pub fn seed(&self, repository: &str, content: &Content, root: &Descriptor, tag: Option<&str>) {
        for descriptor in content.closure(root) {
            let bytes = Arc::new(content.blobs[&descriptor.digest].clone());
            match content.manifests.get(&descriptor.digest) {
                None => self.server.store().put_blob(repository, &descriptor.digest, bytes),
                Some(media_type) => {
                    let stored = Stored { media_type: media_type.clone(), bytes };
                    let mut store = self.server.store();
                    let repository = store.repositories.entry(repository.to_owned()).or_default();
                    repository.manifests.insert(descriptor.digest.clone(), stored);
                }
            }
        }
        if let Some(tag) = tag {
            self.tag(repository, tag, &root.digest);
        }
    }

    /// Points a tag at a digest, whether it is there or not.
    pub fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        let mut store = self.server.store();
        let repository = store.repositories.entry(repository.to_owned()).or_default();
        repository.tags.insert(tag.to_owned(), digest.clone());
    }

    /// Makes an empty repository, for [`Config::requires_repository`].
    pub fn create_repository(&self, name: &str) {
        self.server.store().repositories.entry(name.to_owned()).or_default();
    }

    /// Takes a blob or manifest out of a repository; tags stay.
    pub fn remove(&self, repository: &str, digest: &Digest) {
        let mut store = self.server.store();
        if let Some(repository) = store.repositories.get_mut(repository) {
            repository.blobs.remove(digest);
            repository.manifests.remove(digest);
        }
    }

    /// Replaces the bytes of a blob or manifest behind its digest.
    pub fn corrupt(&self, digest: &Digest, bytes: Vec<u8>) {
        let mut store = self.server.store();
        let bytes = Arc::new(bytes);
        for repository in store.repositories.values_mut() {
            if let Some(stored) = repository.manifests.get_mut(digest) {
                stored.bytes = Arc::clone(&bytes);
            }
        }
        if let Some(blob) = store.blobs.get_mut(digest) {
            *blob = bytes;
        }
    }

    /// Takes a blob away while the registry goes on saying that it is there.
    pub fn phantom(&self, repository: &str, digest: &Digest, size: u64, kind: Phantom) {
        let mut store = self.server.store();
        let repository = store.repositories.entry(repository.to_owned()).or_default();
        repository.blobs.remove(digest);
        repository.phantoms.insert(digest.clone(), (kind, size));
    }

    /// The bytes of a manifest, by tag or digest.
    pub fn manifest(&self, repository: &str, selector: &str) -> Option<Vec<u8>> {
        let store = self.server.store();
        let (_, stored) = store.repositories.get(repository)?.manifest(selector)?;
        Some(stored.bytes.to_vec())
    }

    /// Whether a repository has a blob.
    pub fn has_blob(&self, repository: &str, digest: &Digest) -> bool {
        let store = self.server.store();
        let repository = store.repositories.get(repository);
        repository.is_some_and(|repository| repository.blobs.contains(digest))
    }

    /// The tags of a repository.
    pub fn tags(&self, repository: &str) -> BTreeMap<String, Digest> {
        let store = self.server.store();
        let repository = store.repositories.get(repository);
        repository.map(|r| r.tags.clone()).unwrap_or_default()
    }

    /// How many blobs, manifests and tags a repository has.
    pub fn counts(&self, repository: &str) -> (usize, usize, usize) {
        let store = self.server.store();
        let repository = store.repositories.get(repository);
        repository.map(|r| (r.blobs.len(), r.manifests.len(), r.tags.len())).unwrap_or_default()
    }

    /// The names of all repositories.
    pub fn repositories(&self) -> Vec<String> {
        self.server.store().repositories.keys().cloned().collect()
    }

    /// How many upload sessions are open.
    pub fn open_uploads(&self) -> usize {
        self.server.store().uploads.len()
    }

    /// Makes all tokens given out so far worthless.
    pub fn expire_tokens(&self) {
        self.server.store().tokens.expire();
    }

    /// All requests so far, in the order they ended.
    pub fn requests(&self) -> Vec<Logged> {
        self.server.log.lock().unwrap().clone()
    }

    /// The requests of these methods to paths that contain a text, see [`Matcher::on`].
    pub fn requests_on(&self, methods: &str, path: &str) -> Vec<Logged> {
        let mut requests = self.requests();
        requests.retain(|request| request.is(methods, path));
        requests
    }

    /// The requests that could change something: POST, PUT, PATCH and DELETE, but for those to `/token`.
    pub fn writes(&self) -> Vec<Logged> {
        self.requests_on("POST|PUT|PATCH|DELETE", "/v2/")
    }

    /// The requests for tokens.
    pub fn token_requests(&self) -> Vec<Logged> {
        let mut requests = self.requests();
        requests.retain(|request| request.head.path == "/token");
        requests
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.server.log.lock().unwrap().clear();
    }

    /// All requests so far as lines, for messages.
    pub fn transcript(&self) -> String {
        let lines: Vec<String> = self.requests().iter().map(Logged::line).collect();
        lines.join("\n")
    }

    /// The most requests that were under way at the same time, of those that have ended.
    pub fn max_parallel(&self) -> usize {
        self.max_parallel_on(&Matcher::any())
    }

    /// The same, of the requests that match.
    pub fn max_parallel_on(&self, matcher: &Matcher) -> usize {
        let mut requests = self.requests();
        requests.retain(|request| matcher.matches(&request.head));
        let at =
            |instant: Instant| requests.iter().filter(|r| r.started <= instant && instant < r.ended).count();
        requests.iter().map(|request| at(request.started)).max().unwrap_or(0)
    }

    /// How many connections were opened.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.server.stop();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
