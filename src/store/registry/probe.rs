//! What only somebody wants to know who finds out what a registry is like: how it introduces itself, where the
//! credentials come from, and single steps of an upload.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use ureq::http::Method;

use super::super::{Result, StoreError};
use super::certificate::Certificate;
use super::credentials::CredentialSource;
use super::endpoint::{Base, Purpose};
use super::http::{Answer, Call, Payload};
use super::push::UploadSession;
use super::url::{Origin, Url, encode_query};
use super::{Client, Repository, challenge, pull, token};
use crate::oci::Digest;

/// How a registry wants to be authenticated to, before it has seen any credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wants {
    /// Not at all.
    Nothing,
    /// By a password.
    Basic,
    /// By tokens of the server at this place.
    Bearer(String),
    /// It says neither.
    Unknown,
}

/// How a registry answers `GET /v2/` to a stranger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether plain HTTP or an unverified certificate was accepted.
    pub insecure: bool,
    /// The status.
    pub status: u16,
    /// `Docker-Distribution-Api-Version`.
    pub version: Option<String>,
    /// `X-Sparse-Manifest-Support`, which quay sends.
    pub sparse: Option<String>,
    /// How it wants to be authenticated to.
    pub wants: Wants,
    /// How long it took to answer.
    pub took: Duration,
}

/// What became of a connection to a registry, before any TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The host and port.
    pub place: String,
    /// How many addresses its name has.
    pub addresses: usize,
    /// How long it took to find the addresses and to connect to one; or why there is no connection.
    pub took: std::result::Result<Duration, String>,
}

impl Client {
    /// Asks `GET /v2/` without credentials.
    ///
    /// # Errors
    /// Whatever kept the registry from answering.
    pub fn hello(&self, registry: &str) -> Result<Hello> {
        let endpoint = self.endpoint(registry);
        let base = endpoint.base()?;
        let url = Url::new(base.origin.clone(), "/v2/");
        let begun = Instant::now();
        let http = &endpoint.http;
        let answer = http
            .patiently(http.options.retry_times, || {
                http.exchange(Call {
                    method: Method::GET,
                    url: &url,
                    headers: &[],
                    authorization: None,
                    payload: Payload::None,
                    insecure: base.insecure,
                })
            })
            .map_err(|failure| endpoint.failed("GET /v2/", failure))?;
        let text = |name: &str| answer.header(name).map(|value| super::messages::clean(value, 100));
        let hello = Hello {
            tls: base.origin.tls,
            insecure: base.insecure,
            status: answer.status,
            version: text("Docker-Distribution-Api-Version"),
            sparse: text("X-Sparse-Manifest-Support"),
            wants: wants(&answer, &base),
            took: begun.elapsed(),
        };
        answer.discard();
        Ok(hello)
    }

    /// Connects to a registry and lets go again; `None` where a proxy stands between.
    #[must_use]
    pub fn reach(&self, registry: &str, patience: Duration) -> Option<Reach> {
        let origin = self.origin(registry)?;
        let begun = Instant::now();
        let mut reach = Reach { place: place(&origin), addresses: 0, took: Ok(Duration::ZERO) };
        reach.took = addresses(&origin).and_then(|addresses| {
            reach.addresses = addresses.len();
            connect(&addresses, patience).map(|_| begun.elapsed())
        });
        Some(reach)
    }

    /// Reads the certificate that a registry shows, trusted or not; `None` where a proxy stands between. Nothing is
    /// sent but the beginning of TLS.
    ///
    /// # Errors
    /// Why there is no certificate, in words.
    #[must_use]
    pub fn certificate(
        &self,
        registry: &str,
        patience: Duration,
    ) -> Option<std::result::Result<Certificate, String>> {
        let origin = self.origin(registry)?;
        let origin = Origin { tls: true, ..origin };
        Some(addresses(&origin).and_then(|addresses| {
            let stream = connect(&addresses, patience)?;
            stream
                .set_read_timeout(Some(patience))
                .and_then(|()| stream.set_write_timeout(Some(patience)))
                .map_err(|error| error.to_string())?;
            self.0.http.trust(&origin).certificate(stream, origin.host())
        }))
    }

    /// The origin that is asked first, where no proxy stands between.
    fn origin(&self, registry: &str) -> Option<Origin> {
        let origin = self.endpoint(registry).candidates().into_iter().next()?.origin;
        let proxied = self.0.http.options.proxy_from_environment
            && !super::is_loopback(&origin.authority)
            && ureq::Proxy::try_from_env().is_some();
        (!proxied).then_some(origin)
    }

    /// Returns where the credentials for a repository come from.
    #[must_use]
    pub fn credential_source(&self, registry: &str, repository: &str) -> Option<CredentialSource> {
        self.0.credentials.source(registry, repository, &|text| self.0.http.warn(text))
    }

    /// Asks for the first name of the catalogue.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, or whatever kept the registry from answering.
    pub fn has_catalog(&self, registry: &str) -> Result<()> {
        let endpoint = self.endpoint(registry);
        let what = "the catalogue";
        let purpose = Purpose { repository: "", scope: "registry:catalog:*" };
        let url = endpoint.url("/v2/_catalog")?.with_query("n", "1");
        let answer = endpoint.get(&Method::GET, &url, &[], purpose, what)?;
        match answer.status {
            200 => match pull::read_page(&endpoint, answer, what)?.get("repositories") {
                Some(_) => Ok(()),
                None => Err(endpoint.invalid(what, "the answer has another form")),
            },
            404 => Err(StoreError::NotFound { place: endpoint.name.clone(), what: what.to_owned() }),
            _ => Err(endpoint.refused(what, answer)),
        }
    }
}

impl Repository {
    /// Returns whether the token for this repository grants `push`; `None` where that can't be told.
    ///
    /// # Errors
    /// [`StoreError::Denied`] if there is no token for it, or whatever kept the token server from answering.
    pub fn grants_push(&self) -> Result<Option<bool>> {
        let endpoint = self.endpoint();
        let what = format!("pushing to {}", self.0.name);
        let base = endpoint.base()?;
        let token =
            endpoint.token(&base, self.purpose()).map_err(|failure| endpoint.no_token(&what, failure))?;
        Ok(token.and_then(|token| token::grants_push(&token, &self.0.name.repository)))
    }

    /// Opens an upload.
    ///
    /// # Errors
    /// What the registry says, whatever the status; or why it could not be reached.
    pub fn open_upload(&self) -> Result<UploadSession> {
        self.start_upload(&format!("an upload to {}", self.0.name.repository))
    }

    /// Sends one chunk of an upload and returns how many bytes the registry says it has, where it says so.
    ///
    /// # Errors
    /// What the registry says, or why it could not be reached.
    pub fn send_chunk(&self, session: &mut UploadSession, offset: u64, bytes: &[u8]) -> Result<Option<u64>> {
        let what = format!("a chunk of an upload to {}", self.0.name.repository);
        let headers = [
            ("Content-Type", "application/octet-stream".to_owned()),
            ("Content-Range", format!("{offset}-{}", (offset + bytes.len() as u64).saturating_sub(1))),
        ];
        let url = session.url.clone();
        let answer = self.in_session(&Method::PATCH, &url, &headers, bytes, &what)?;
        if !matches!(answer.status, 200..=204) {
            return Err(self.endpoint().refused(&what, answer));
        }
        let moved = self.moved(&url, &answer).map_err(|why| self.endpoint().invalid(&what, &why))?;
        let reached = answer.header("Range").and_then(super::upload::reached);
        answer.discard();
        if let Some(url) = moved {
            session.url = url;
        }
        Ok(reached)
    }

    /// Completes an upload of which all bytes were sent.
    ///
    /// # Errors
    /// What the registry says, or why it could not be reached.
    pub fn finish_upload(&self, session: &UploadSession, digest: &Digest) -> Result<()> {
        let what = format!("the end of an upload to {}", self.0.name.repository);
        let url = session.url.with_query("digest", &encode_query(&digest.to_string()));
        let answer = self.in_session(&Method::PUT, &url, &[], &[], &what)?;
        if !matches!(answer.status, 201 | 204) {
            return Err(self.endpoint().refused(&what, answer));
        }
        answer.discard();
        Ok(())
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// What the registry says, or why it could not be reached.
    pub fn cancel_upload(&self, session: &UploadSession) -> Result<()> {
        let what = format!("giving up an upload to {}", self.0.name.repository);
        let answer = self.in_session(&Method::DELETE, &session.url, &[], &[], &what)?;
        if !matches!(answer.status, 200..=204) {
            return Err(self.endpoint().refused(&what, answer));
        }
        answer.discard();
        Ok(())
    }

    /// Deletes a blob (distribution-spec, "Deleting Blobs").
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not there, else what the registry says.
    pub fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let what = format!("DELETE blob {digest}");
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("blobs/{digest}")))?;
        let scope = format!("{},delete", self.0.scope);
        let purpose = Purpose { repository: &self.0.name.repository, scope: &scope };
        let answer = endpoint.get(&Method::DELETE, &url, &[], purpose, &what)?;
        match answer.status {
            200..=204 => {
                answer.discard();
                Ok(())
            }
            404 => Err(StoreError::NotFound { place: self.0.name.registry.clone(), what }),
            _ => Err(endpoint.refused(&what, answer)),
        }
    }

    /// Sends one request of an upload; credentials stay with their origin, nothing is repeated.
    fn in_session(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&'static str, String)],
        bytes: &[u8],
        what: &str,
    ) -> Result<Answer> {
        let endpoint = self.endpoint();
        let base = endpoint.base()?;
        let own = url.origin.is(&base.origin);
        endpoint
            .authorised(&base, self.purpose(), |authorization| {
                let payload = if *method == Method::DELETE { Payload::None } else { Payload::Bytes(bytes) };
                let mut answer = endpoint.http.exchange(Call {
                    method: method.clone(),
                    url,
                    headers,
                    authorization: authorization.filter(|_| own),
                    payload,
                    insecure: endpoint.is_insecure(&base, url),
                })?;
                answer.foreign = !own;
                Ok(answer)
            })
            .map_err(|failure| endpoint.no_token(what, failure))?
            .map_err(|failure| endpoint.failed(what, failure))
    }
}

impl UploadSession {
    /// Returns the smallest chunk that the registry takes, in bytes; 0 where it says none.
    #[must_use]
    pub fn smallest_chunk(&self) -> u64 {
        self.smallest_chunk
    }
}

fn wants(answer: &Answer, base: &Base) -> Wants {
    if answer.status != 401 {
        return Wants::Nothing;
    }
    let here = Url::new(base.origin.clone(), "/v2/");
    let challenges: Vec<challenge::Challenge> =
        answer.headers("WWW-Authenticate").flat_map(challenge::parse).collect();
    let bearer = challenges
        .iter()
        .filter(|challenge| challenge.scheme == "bearer")
        .find_map(|challenge| here.join(challenge.get("realm")?).ok());
    match bearer {
        Some(realm) => Wants::Bearer(realm.origin.to_string()),
        None if challenges.iter().any(|challenge| challenge.scheme == "basic") => Wants::Basic,
        None => Wants::Unknown,
    }
}

fn place(origin: &Origin) -> String {
    format!("{}:{}", origin.host(), origin.port())
}

fn addresses(origin: &Origin) -> std::result::Result<Vec<SocketAddr>, String> {
    let host = origin.host().trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = (host, origin.port())
        .to_socket_addrs()
        .map_err(|error| format!("the name {host} can't be resolved: {error}"))?
        .collect();
    if found.is_empty() { Err(format!("the name {host} has no address")) } else { Ok(found) }
}

/// Connects to the first address that answers; all together within `patience`.
fn connect(addresses: &[SocketAddr], patience: Duration) -> std::result::Result<TcpStream, String> {
    let end = Instant::now() + patience;
    let mut last = String::new();
    for address in addresses {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}
