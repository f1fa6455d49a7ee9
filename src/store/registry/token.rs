//! Tokens: fetching them from a registry's token server, keeping them, and reading what they grant
//! (distribution's "token authentication" and "oauth2" pages).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use ureq::http::Method;

use super::super::RegistryMessage;
use super::credentials::Credential;
use super::http::{Answer, Call, Failure, Http, Payload};
use super::limits::lock;
use super::url::{Origin, Url, encode_query};

/// Lifetime of a token that says none (distribution's "token authentication": 60 seconds).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// How long before its end a token is renewed, at most: the time a request may wait in a queue.
const MARGIN: Duration = Duration::from_secs(10);
/// The longest answer of a token server that is read, in bytes; real tokens are a few kilobytes.
const MAX_TOKEN_BODY: u64 = 1024 * 1024;
/// The name by which this program calls itself at `OAuth2` endpoints.
const CLIENT_ID: &str = "barge";

/// Where tokens come from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Realm {
    pub url: Url,
    pub service: Option<String>,
}

/// A token, with what its server said of it.
#[derive(Clone)]
pub(super) struct Token {
    pub text: String,
    /// The scopes granted, where the answer names them.
    pub scope: Option<String>,
    expires: Instant,
}

/// Why there is no token.
#[derive(Clone)]
pub(super) enum NoToken {
    /// The token server refused.
    Denied(u16, Vec<RegistryMessage>),
    /// It could not be asked; in words.
    Unreachable(String),
    /// Its answer is not one.
    Invalid(String),
}

/// The tokens of one registry, by scope.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Arc<Mutex<Slot>>>>);

#[derive(Default)]
struct Slot {
    token: Option<Token>,
    failed: Option<(Instant, NoToken)>,
}

impl Tokens {
    fn slot(&self, scope: &str) -> Arc<Mutex<Slot>> {
        Arc::clone(lock(&self.0).entry(scope.to_owned()).or_default())
    }

    /// Returns the token for a scope. The slot is locked while a token is fetched, so of many workers one fetches;
    /// those that waited share its result, a failure included.
    pub fn get(&self, scope: &str, fetch: impl FnOnce() -> Result<Token, NoToken>) -> Result<Token, NoToken> {
        let asked = Instant::now();
        let slot = self.slot(scope);
        let mut slot = lock(&slot);
        if let Some(token) = slot.token.as_ref().filter(|token| token.expires > Instant::now()) {
            return Ok(token.clone());
        }
        if let Some((_, failure)) = slot.failed.as_ref().filter(|(when, _)| *when > asked) {
            return Err(failure.clone());
        }
        match fetch() {
            Ok(token) => {
                slot.failed = None;
                slot.token = Some(token.clone());
                Ok(token)
            }
            Err(failure) => {
                slot.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Drops a token that a registry refused, unless it was replaced already.
    pub fn forget(&self, scope: &str, text: &str) {
        let slot = self.slot(scope);
        let mut slot = lock(&slot);
        if slot.token.as_ref().is_some_and(|token| token.text == text) {
            slot.token = None;
        }
    }
}

#[derive(Deserialize)]
struct TokenBody {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
    #[serde(default)]
    scope: Option<String>,
}

/// Fetches a token from a realm for scopes that are separated by spaces.
pub(super) fn fetch(
    http: &Http,
    registry: &Origin,
    insecure: bool,
    realm: &Realm,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<Token, NoToken> {
    let credential = credential.filter(|_| {
        let trusted = may_show(registry, insecure, &realm.url.origin);
        if !trusted {
            http.warn(format!(
                "{}: credentials are not sent to the token server at {}, which has no TLS",
                registry.authority, realm.url.origin
            ));
        }
        trusted
    });
    let insecure = (insecure && realm.url.origin.host() == registry.host())
        || http.options.is_insecure(&realm.url.origin.authority);
    let answer = match credential {
        Some(Credential::Identity(refresh)) => {
            let answer = by_refresh_token(http, realm, scope, refresh, insecure);
            match answer {
                // Not every server has the OAuth2 form.
                Ok(answer) if matches!(answer.status, 404 | 405) => {
                    answer.discard();
                    by_query(http, realm, scope, credential, insecure)
                }
                answer => answer,
            }
        }
        _ => by_query(http, realm, scope, credential, insecure),
    }
    .map_err(|failure| NoToken::Unreachable(failure.to_string()))?;
    let status = answer.status;
    if !(200..300).contains(&status) {
        return Err(NoToken::Denied(status, answer.messages()));
    }
    // The lifetime counts from here: the clocks of servers are not trusted.
    let now = Instant::now();
    let bytes = answer.read(MAX_TOKEN_BODY).map_err(|error| NoToken::Unreachable(error.to_string()))?;
    let body: TokenBody = serde_json::from_slice(&bytes)
        .map_err(|_| NoToken::Invalid("the answer of the token server is not JSON".to_owned()))?;
    let text = [body.token, body.access_token]
        .into_iter()
        .flatten()
        .find(|text| !text.is_empty())
        .ok_or_else(|| NoToken::Invalid("the token server gave no token".to_owned()))?;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(NoToken::Invalid("the token server gave a token that can't be sent".to_owned()));
    }
    let lifetime = body
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|lifetime| !lifetime.is_zero())
        .unwrap_or(DEFAULT_LIFETIME)
        // A bound, so that the sum can't overflow; a token refused before its time is renewed anyway.
        .min(Duration::from_secs(24 * 3600));
    Ok(Token { text, scope: body.scope, expires: now + lifetime.saturating_sub(MARGIN.min(lifetime / 4)) })
}

/// Whether credentials may be shown to a token server: over TLS, or in plain HTTP to the host of a registry that is
/// spoken to that way anyway, or on this machine.
fn may_show(registry: &Origin, insecure: bool, realm: &Origin) -> bool {
    realm.tls
        || super::is_loopback(&realm.authority)
        || (realm.host() == registry.host() && (!registry.tls || insecure))
}

fn by_query(
    http: &Http,
    realm: &Realm,
    scope: &str,
    credential: Option<&Credential>,
    insecure: bool,
) -> Result<Answer, Failure> {
    let mut url = realm.url.clone();
    if let Some(service) = &realm.service {
        url = url.with_query("service", &encode_query(service));
    }
    for scope in scope.split_ascii_whitespace() {
        url = url.with_query("scope", &encode_query(scope));
    }
    if let Some(Credential::Basic { user, .. }) = credential {
        url = url.with_query("account", &encode_query(user));
    }
    let authorization = credential.map(Credential::basic);
    http.patiently(http.options.retry_times, || {
        http.follow(&Method::GET, &url, &[], authorization.as_deref(), insecure)
    })
}

fn by_refresh_token(
    http: &Http,
    realm: &Realm,
    scope: &str,
    refresh: &str,
    insecure: bool,
) -> Result<Answer, Failure> {
    let mut form =
        format!("grant_type=refresh_token&refresh_token={}&client_id={CLIENT_ID}", encode_query(refresh));
    if let Some(service) = &realm.service {
        form.push_str("&service=");
        form.push_str(&encode_query(service));
    }
    if !scope.is_empty() {
        form.push_str("&scope=");
        form.push_str(&encode_query(scope));
    }
    let headers = [("Content-Type", "application/x-www-form-urlencoded".to_owned())];
    http.patiently(http.options.retry_times, || {
        http.exchange(Call {
            method: Method::POST,
            url: &realm.url,
            headers: &headers,
            authorization: None,
            payload: Payload::Bytes(form.as_bytes()),
            insecure,
        })
    })
}

/// Returns whether a token grants `push` on a repository; `None` where it can't be told.
///
/// Nothing is verified: the answer only serves to say early what the registry would say late.
pub(super) fn grants_push(token: &Token, repository: &str) -> Option<bool> {
    #[derive(Deserialize)]
    struct Claims {
        access: Option<Vec<Access>>,
    }
    #[derive(Deserialize)]
    struct Access {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        actions: Option<Vec<String>>,
    }
    let pushes = |action: &str| matches!(action.trim(), "push" | "*");
    let mut parts = token.text.split('.');
    let claims = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(payload), Some(_), None) => URL_SAFE_NO_PAD
            .decode(payload.trim_end_matches('='))
            .ok()
            .and_then(|json| serde_json::from_slice::<Claims>(&json).ok()),
        _ => None,
    };
    if let Some(access) = claims.and_then(|claims| claims.access) {
        return Some(access.iter().any(|entry| {
            entry.kind == "repository"
                && entry.name == repository
                && entry.actions.iter().flatten().any(|action| pushes(action))
        }));
    }
    let scope = token.scope.as_deref().filter(|scope| scope.contains(':'))?;
    Some(scope.split_ascii_whitespace().any(|entry| {
        entry
            .strip_prefix("repository:")
            .and_then(|entry| entry.strip_prefix(repository))
            .and_then(|entry| entry.strip_prefix(':'))
            .is_some_and(|actions| actions.split(',').any(pushes))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: String, scope: Option<&str>) -> Token {
        Token { text, scope: scope.map(str::to_owned), expires: Instant::now() }
    }

    fn jwt(claims: &str) -> Token {
        token(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims)), None)
    }

    #[test]
    fn rights_are_read_where_they_can_be() {
        let access = |name: &str, actions: &str| {
            jwt(&format!(r#"{{"access":[{{"type":"repository","name":"{name}","actions":{actions}}}]}}"#))
        };
        assert_eq!(grants_push(&access("a/b", r#"["pull","push"]"#), "a/b"), Some(true));
        assert_eq!(grants_push(&access("a/b", r#"["*"]"#), "a/b"), Some(true));
        assert_eq!(grants_push(&access("a/b", r#"["pull"]"#), "a/b"), Some(false));
        assert_eq!(grants_push(&access("a/bc", r#"["push"]"#), "a/b"), Some(false));
        assert_eq!(grants_push(&jwt(r#"{"access":[]}"#), "a/b"), Some(false));
        assert_eq!(grants_push(&jwt(r#"{"sub":"me"}"#), "a/b"), None);
        assert_eq!(grants_push(&token("opaque".into(), None), "a/b"), None);
        assert_eq!(grants_push(&token("a.b.c".into(), None), "a/b"), None);
        let scoped = |scope| grants_push(&token("opaque".into(), Some(scope)), "a/b");
        assert_eq!(scoped("repository:a/b:pull,push"), Some(true));
        assert_eq!(scoped("repository:a/b:pull repository:x:push"), Some(false));
        assert_eq!(scoped("default"), None);
    }

    #[test]
    fn credentials_are_shown_over_tls_or_where_plain_http_is_spoken_anyway() {
        let origin = |text: &str| Url::parse(text).unwrap().origin;
        let tls = origin("https://r.example/");
        let plain = origin("http://r.example:5000/");
        assert!(may_show(&tls, false, &origin("https://auth.example/t")));
        assert!(!may_show(&tls, false, &origin("http://auth.example/t")));
        assert!(!may_show(&tls, false, &origin("http://r.example/t")));
        assert!(may_show(&plain, true, &origin("http://r.example:5001/t")));
        assert!(!may_show(&plain, true, &origin("http://auth.example/t")));
        assert!(may_show(&plain, true, &origin("http://127.0.0.1:5001/t")));
    }

    #[test]
    fn those_who_waited_for_a_failed_fetch_share_its_failure() {
        let tokens = Tokens::default();
        let fetched = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let result = tokens.get("s", || {
                        fetched.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(100));
                        Err(NoToken::Denied(401, Vec::new()))
                    });
                    assert!(result.is_err());
                });
            }
        });
        assert_eq!(fetched.into_inner(), 1);
    }
}
