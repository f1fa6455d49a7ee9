//! One registry: where its API is, how it wants to be authenticated to, and requests made that way.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use ureq::http::Method;

use super::super::{RegistryMessage, Result, StoreError};
use super::challenge::{self, Challenge};
use super::credentials::{Credential, Credentials};
use super::http::{Answer, Call, Failure, Http, Payload};
use super::limits::lock;
use super::messages;
use super::retry;
use super::token::{self, NoToken, Realm, Token, Tokens};
use super::url::{Origin, Url};
use crate::oci::reference::DEFAULT_REGISTRY;

/// The host that serves Docker Hub's API (Docker's `DefaultV2Registry`).
pub(super) const HUB_API: &str = "registry-1.docker.io";

/// A registry, shared by all its repositories.
pub(super) struct Endpoint {
    /// The registry as references name it.
    pub name: String,
    /// Whether a rule allows plain HTTP and unverified TLS, where the options don't.
    insecure: bool,
    pub http: Arc<Http>,
    credentials: Arc<Credentials>,
    base: Mutex<Discovery>,
    scheme: Mutex<Scheme>,
    tokens: Tokens,
}

#[derive(Default)]
struct Discovery {
    found: Option<Base>,
    failed: Option<(Instant, String)>,
}

/// Where the API answers.
#[derive(Clone)]
pub(super) struct Base {
    pub origin: Origin,
    pub insecure: bool,
}

/// How a registry wants to be authenticated to.
#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    /// Not at all, as far as it said.
    Open,
    Basic,
    Bearer(Realm),
}

/// What a request is for: decides credentials and token.
#[derive(Clone, Copy)]
pub(super) struct Purpose<'a> {
    /// Path of the repository, empty for requests to the registry as such.
    pub repository: &'a str,
    /// Token scopes, separated by spaces.
    pub scope: &'a str,
}

/// What went with a request.
enum Shown {
    Nothing,
    Basic(String),
    Token(Token),
}

impl Shown {
    fn header(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Basic(value) => Some(value.clone()),
            Self::Token(token) => Some(format!("Bearer {}", token.text)),
        }
    }
}

impl Endpoint {
    pub fn new(name: &str, insecure: bool, http: Arc<Http>, credentials: Arc<Credentials>) -> Self {
        Self {
            name: name.to_owned(),
            insecure,
            http,
            credentials,
            base: Mutex::default(),
            scheme: Mutex::new(Scheme::Open),
            tokens: Tokens::default(),
        }
    }

    /// Finds out where the API answers and what it wants, once.
    pub fn base(&self) -> Result<Base> {
        let asked = Instant::now();
        let mut state = lock(&self.base);
        if let Some(base) = &state.found {
            return Ok(base.clone());
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(when, _)| *when > asked) {
            return Err(self.unreachable("GET /v2/", why.clone()));
        }
        match self.discover() {
            Ok(base) => {
                state.found = Some(base.clone());
                Ok(base)
            }
            Err(error) => {
                if let StoreError::Unreachable { source, .. } = &error {
                    state.failed = Some((Instant::now(), source.to_string()));
                }
                Err(error)
            }
        }
    }

    /// Returns where the API may answer, in the order in which it is tried.
    pub fn candidates(&self) -> Vec<Base> {
        let host = if self.name == DEFAULT_REGISTRY { HUB_API } else { &self.name };
        let insecure = self.insecure || self.http.options.is_insecure(&self.name);
        let base = |tls, insecure| Base { origin: Origin::new(tls, host), insecure };
        if super::is_loopback(host) {
            vec![base(false, true), base(true, insecure)]
        } else if insecure {
            vec![base(true, true), base(false, true)]
        } else {
            vec![base(true, false)]
        }
    }

    fn discover(&self) -> Result<Base> {
        let what = "GET /v2/";
        let candidates = self.candidates();
        let mut failures = 0;
        loop {
            let mut first_failure = None;
            let mut asked_to_wait = None;
            for base in &candidates {
                match self.ping(base) {
                    Ok(Some(answer)) if retry::is_transient(answer.status) => {
                        if failures >= self.http.options.retry_times {
                            return Err(self.refused(what, answer));
                        }
                        asked_to_wait = answer.retry_after();
                        first_failure = None;
                        answer.discard();
                        break;
                    }
                    Ok(Some(answer)) => {
                        let mut scheme = lock(&self.scheme);
                        if let Some(wanted) = wanted(&answer, base) {
                            *scheme = wanted;
                        }
                        answer.discard();
                        return Ok(base.clone());
                    }
                    // It speaks, and means another candidate.
                    Ok(None) => {}
                    Err(failure) => {
                        first_failure.get_or_insert(failure);
                    }
                }
            }
            if let Some(failure) = first_failure
                && (!failure.is_passing() || failures >= self.http.options.retry_times)
            {
                return Err(self.failed(what, failure));
            }
            if failures > self.http.options.retry_times {
                return Err(self.unreachable(what, "it answers in neither HTTP nor HTTPS".to_owned()));
            }
            failures += 1;
            std::thread::sleep(asked_to_wait.unwrap_or_else(|| retry::backoff(failures)));
        }
    }

    /// Asks a candidate; `None` if it says that it speaks TLS.
    fn ping(&self, base: &Base) -> std::result::Result<Option<Answer>, Failure> {
        let url = Url::new(base.origin.clone(), "/v2/");
        let answer = self.http.exchange(Call {
            method: Method::GET,
            url: &url,
            headers: &[],
            authorization: None,
            payload: Payload::None,
            insecure: base.insecure,
        })?;
        if base.origin.tls {
            return Ok(Some(answer));
        }
        if matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
            let to_tls = answer
                .header("Location")
                .and_then(|location| Url::parse(location).ok())
                .is_some_and(|to| to.origin.tls && to.origin.host() == base.origin.host());
            return Ok((!to_tls).then_some(answer));
        }
        if answer.status == 400 {
            // Go's words: "Client sent an HTTP request to an HTTPS server."; nginx: "The plain HTTP request was sent
            // to HTTPS port".
            let text = answer.read(messages::MAX_ERROR_BODY).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
            if text.contains("https") {
                return Ok(None);
            }
            return Err(Failure::Protocol("it answered 400 to `GET /v2/`".to_owned()));
        }
        Ok(Some(answer))
    }

    fn credential(&self, repository: &str) -> Option<Credential> {
        self.credentials.find(&self.name, repository, &|text| self.http.warn(text))
    }

    /// Fetches, or takes from the cache, the token for a purpose; `None` where the registry wants no token.
    pub fn token(&self, base: &Base, purpose: Purpose<'_>) -> std::result::Result<Option<Token>, NoToken> {
        let scheme = lock(&self.scheme).clone();
        let Scheme::Bearer(realm) = scheme else {
            return Ok(None);
        };
        let fetch = || {
            let credential = self.credential(purpose.repository);
            token::fetch(&self.http, &base.origin, base.insecure, &realm, purpose.scope, credential.as_ref())
        };
        self.tokens.get(purpose.scope, fetch).map(Some)
    }

    fn show(&self, base: &Base, purpose: Purpose<'_>, basic: bool) -> std::result::Result<Shown, NoToken> {
        if basic || *lock(&self.scheme) == Scheme::Basic {
            let credential = self.credential(purpose.repository);
            return Ok(credential.map_or(Shown::Nothing, |credential| Shown::Basic(credential.basic())));
        }
        Ok(self.token(base, purpose)?.map_or(Shown::Nothing, Shown::Token))
    }

    /// Runs a request with what the registry wants shown, and once more with something fresher if it says 401.
    ///
    /// The error is that of the token server; whatever `go` returns is handed on.
    pub fn authorised<E>(
        &self,
        base: &Base,
        purpose: Purpose<'_>,
        mut go: impl FnMut(Option<&str>) -> std::result::Result<Answer, E>,
    ) -> std::result::Result<std::result::Result<Answer, E>, NoToken> {
        let mut basic = false;
        let mut refreshed = false;
        loop {
            let shown = self.show(base, purpose, basic)?;
            let answer = match go(shown.header().as_deref()) {
                Ok(answer) if answer.status == 401 && !answer.foreign => answer,
                other => return Ok(other),
            };
            let wanted = wanted(&answer, base);
            match (&shown, wanted) {
                // Nothing shown, and now it says what it wants.
                (Shown::Nothing, Some(scheme)) if !refreshed => {
                    if scheme == Scheme::Basic && self.credential(purpose.repository).is_none() {
                        return Ok(Ok(answer));
                    }
                    refreshed = true;
                    *lock(&self.scheme) = scheme;
                }
                // An expired or revoked token.
                (Shown::Token(token), wanted) if !refreshed => {
                    refreshed = true;
                    self.tokens.forget(purpose.scope, &token.text);
                    if let Some(scheme @ Scheme::Bearer(_)) = wanted {
                        *lock(&self.scheme) = scheme;
                    }
                }
                // 401 without a word about what is wanted.
                (Shown::Nothing | Shown::Token(_), None)
                    if !basic && self.credential(purpose.repository).is_some() =>
                {
                    basic = true;
                }
                _ => return Ok(Ok(answer)),
            }
            answer.discard();
        }
    }

    /// Makes a request without a body; redirects are followed and passing failures repeated.
    pub fn get(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&'static str, String)],
        purpose: Purpose<'_>,
        what: &str,
    ) -> Result<Answer> {
        let base = self.base()?;
        let own = url.origin.is(&base.origin);
        let insecure = self.is_insecure(&base, url);
        self.authorised(&base, purpose, |authorization| {
            let authorization = authorization.filter(|_| own);
            let mut answer = self.http.patiently(self.http.options.retry_times, || {
                self.http.follow(method, url, headers, authorization, insecure)
            })?;
            answer.foreign |= !own;
            Ok(answer)
        })
        .map_err(|failure| self.no_token(what, failure))?
        .map_err(|failure| self.failed(what, failure))
    }

    /// Makes a request to the registry itself with a body in memory; `resets` says how often it is repeated after a broken connection.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    pub fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&'static str, String)],
        body: &[u8],
        purpose: Purpose<'_>,
        resets: u32,
        what: &str,
    ) -> Result<Answer> {
        let base = self.base()?;
        self.authorised(&base, purpose, |authorization| {
            self.http.patiently(resets, || {
                self.http.exchange(Call {
                    method: method.clone(),
                    url,
                    headers,
                    authorization,
                    payload: Payload::Bytes(body),
                    insecure: base.insecure,
                })
            })
        })
        .map_err(|failure| self.no_token(what, failure))?
        .map_err(|failure| self.failed(what, failure))
    }

    /// Whether a URL that the registry gave may be asked without TLS or verification.
    pub fn is_insecure(&self, base: &Base, url: &Url) -> bool {
        (base.insecure && url.origin.is(&base.origin)) || self.http.options.is_insecure(&url.origin.authority)
    }

    /// Makes the URL of an API path.
    pub fn url(&self, target: &str) -> Result<Url> {
        Ok(Url::new(self.base()?.origin, target))
    }

    /// Refuses a link to another origin: the list would be somebody else's.
    pub fn same_origin(&self, url: &Url, what: &str) -> Result<()> {
        if url.origin.is(&self.base()?.origin) {
            Ok(())
        } else {
            Err(self.invalid(what, "the list goes on at another host"))
        }
    }

    // Errors. `what` names the request and never holds a query or a credential.

    pub fn unreachable(&self, what: &str, why: String) -> StoreError {
        StoreError::Unreachable { place: self.name.clone(), what: what.to_owned(), source: why.into() }
    }

    pub fn invalid(&self, what: &str, why: &str) -> StoreError {
        StoreError::Invalid { place: self.name.clone(), why: format!("{what}: {why}") }
    }

    pub fn failed(&self, what: &str, failure: Failure) -> StoreError {
        match failure {
            Failure::Protocol(why) => self.invalid(what, &why),
            failure => StoreError::Unreachable {
                place: self.name.clone(),
                what: what.to_owned(),
                source: Box::new(failure),
            },
        }
    }

    pub fn no_token(&self, what: &str, failure: NoToken) -> StoreError {
        match failure {
            NoToken::Denied(status @ (400 | 401 | 403), messages) => {
                StoreError::Denied { place: self.name.clone(), what: what.to_owned(), status, messages }
            }
            NoToken::Denied(status, messages) => StoreError::Refused {
                place: self.name.clone(),
                what: format!("{what} (at its token server)"),
                status,
                messages,
            },
            NoToken::Unreachable(why) => {
                self.unreachable(what, format!("its token server could not be asked: {why}"))
            }
            NoToken::Invalid(why) => self.invalid(what, &why),
        }
    }

    /// Makes the error out of an answer that is no success: 401 and 403 are `Denied`, the rest `Refused`.
    pub fn refused(&self, what: &str, answer: Answer) -> StoreError {
        let status = answer.status;
        self.refusal(what, status, answer.messages())
    }

    pub fn refusal(&self, what: &str, status: u16, messages: Vec<RegistryMessage>) -> StoreError {
        let place = self.name.clone();
        let what = what.to_owned();
        if matches!(status, 401 | 403) {
            StoreError::Denied { place, what, status, messages }
        } else {
            StoreError::Refused { place, what, status, messages }
        }
    }
}

/// Reads what a 401 asks for: a token before a password, since that is what registries that offer both mean.
fn wanted(answer: &Answer, base: &Base) -> Option<Scheme> {
    if answer.status != 401 {
        return None;
    }
    let challenges: Vec<Challenge> = answer.headers("WWW-Authenticate").flat_map(challenge::parse).collect();
    let here = Url::new(base.origin.clone(), "/v2/");
    let bearer = challenges.iter().filter(|challenge| challenge.scheme == "bearer").find_map(|challenge| {
        Some(Scheme::Bearer(Realm {
            url: here.join(challenge.get("realm")?).ok()?,
            service: challenge.get("service").map(str::to_owned),
        }))
    });
    bearer.or_else(|| challenges.iter().any(|challenge| challenge.scheme == "basic").then_some(Scheme::Basic))
}
