//! Misbehaviour as data: which requests, how often, what happens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::http::{Head, Response};

/// Says which requests a fault befalls.
#[derive(Clone)]
pub struct Matcher(Arc<dyn Fn(&Head) -> bool + Send + Sync>);

impl Matcher {
    /// Any request.
    pub fn any() -> Self {
        Self::new(|_| true)
    }

    /// Whatever the closure says.
    pub fn new(predicate: impl Fn(&Head) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(predicate))
    }

    /// Requests of these methods (`PUT`, `GET|HEAD`, `*`) whose path contains a text.
    pub fn on(methods: &str, path: &str) -> Self {
        let (methods, path) = (methods.to_owned(), path.to_owned());
        Self::new(move |head| {
            (methods == "*" || methods.split('|').any(|method| method == head.method))
                && head.path.contains(&path)
        })
    }

    /// Also wants the path to begin so.
    pub fn starting(self, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        self.and(move |head| head.path.starts_with(&prefix))
    }

    /// Also wants the path to end so.
    pub fn ending(self, suffix: &str) -> Self {
        let suffix = suffix.to_owned();
        self.and(move |head| head.path.ends_with(&suffix))
    }

    /// Also wants the query to contain a text (as sent, still encoded).
    pub fn query(self, text: &str) -> Self {
        let text = text.to_owned();
        self.and(move |head| head.query.contains(&text))
    }

    /// Also wants a header.
    pub fn header(self, name: &'static str) -> Self {
        self.and(move |head| head.header(name).is_some())
    }

    /// Also wants what the closure says.
    pub fn and(self, predicate: impl Fn(&Head) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |head| (self.0)(head) && predicate(head))
    }

    /// Returns whether the request is meant.
    pub fn matches(&self, head: &Head) -> bool {
        (self.0)(head)
    }
}

/// A fault: once declared it befalls matching requests until its times are used up.
#[derive(Clone)]
pub struct Fault {
    /// Which requests.
    pub when: Matcher,
    /// How many of them are let pass first.
    pub skip: usize,
    /// How many are hit then.
    pub times: Option<usize>,
    /// What happens to them.
    pub action: Action,
}

impl Fault {
    /// A fault for ever.
    pub fn new(when: Matcher, action: Action) -> Self {
        Self { when, skip: 0, times: None, action }
    }

    /// A fault on these methods and paths containing a text, see [`Matcher::on`].
    pub fn on(methods: &str, path: &str, action: Action) -> Self {
        Self::new(Matcher::on(methods, path), action)
    }

    /// Only so many times.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Only once.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only after so many matching requests have passed.
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }
}

/// How an upload's `Location` is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocationForm {
    /// A path.
    Relative,
    /// A full URL.
    Absolute,
    /// A full URL whose scheme is https although the registry speaks http, as behind a careless proxy.
    OtherScheme,
    /// A path with a query that changes with every answer; PATCH and PUT must use the newest.
    WithQuery,
    /// A full URL on another `host:port`.
    OtherHost(String),
}

/// What a fault does. Those marked (answer) let the registry do its work and change what it says.
#[derive(Clone)]
pub enum Action {
    /// Reads the body, does nothing, answers this.
    Respond(Response),
    /// Answers this before reading the body, then closes; what the client goes on sending is thrown away.
    RespondEarly(Response),
    /// Answers this before reading the body and closes at once, so that a client that is still sending is reset.
    RespondAndReset(Response),
    /// Answers what the closure makes of the request.
    Custom(Arc<dyn Fn(&Head) -> Response + Send + Sync>),
    /// Closes the connection after the head, without reading a body or answering.
    CloseBefore,
    /// Does the work, then closes without answering: the client can't know.
    DropAnswer,
    /// Reads so many bytes of the request's body and closes; an upload session keeps them if `keep`.
    CutUpload {
        /// Bytes read before the connection closes.
        after: usize,
        /// Whether the session counts them.
        keep: bool,
    },
    /// Waits before doing anything.
    Stall(Duration),
    /// (answer) Sends so many bytes of the body, waits, goes on.
    StallBody(usize, Duration),
    /// (answer) Sends the body no faster than this many bytes a second.
    Throttle(usize),
    /// (answer) Closes after so many bytes of a body announced in full.
    CutBody(usize),
    /// (answer) The body is so many bytes longer, and announced so.
    ExtraBytes(usize),
    /// (answer) The body ends after so many bytes, and is announced so.
    ShortBody(usize),
    /// (answer) One bit of the body's byte at this offset is flipped.
    FlipByte(usize),
    /// (answer) The body is another.
    ReplaceBody(Vec<u8>),
    /// (answer) `Docker-Content-Digest` names something else.
    WrongDigestHeader,
    /// (answer) There is no `Docker-Content-Digest`.
    NoDigestHeader,
    /// (answer) A header is set.
    SetHeader(String, String),
    /// (answer) A header is missing.
    RemoveHeader(String),
    /// `Range` is overlooked: 200 and the whole.
    IgnoreRange,
    /// (answer) `Content-Range` says one byte further than what is sent.
    WrongContentRange,
    /// (answer) 206 with an empty body where bytes were asked for.
    EmptyPartial,
    /// 307 to the same path on another `http://host:port`; the query `expires=1` is added.
    RedirectTo(String),
    /// (answer) HTTP/1.0, without a length.
    Http10,
    /// (answer) `Connection: close`, and it is.
    ConnectionClose,
    /// (answer) `Transfer-Encoding: chunked`.
    Chunked,
    /// (answer) The upload's `Location` in another form.
    Location(LocationForm),
    /// The upload session of the request is gone: 404 `BLOB_UPLOAD_UNKNOWN`.
    ForgetSession,
    /// HEAD says that the blob or manifest is there, with this size.
    HeadLies(u64),
    /// An index PUT is refused naming every child, as by a registry whose parts do not know of each other yet.
    ChildrenUnknown,
    /// An index PUT is taken; absent children are made up as `{}`.
    StoreStubs,
    /// All tokens given out so far are worth nothing from here on.
    ExpireTokens,
}

impl Action {
    /// Answers a status with an empty body.
    pub fn status(status: u16) -> Self {
        Self::Respond(Response::new(status))
    }

    /// Answers an error document.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Respond(Response::error(status, code, "made by a test", &Value::Null))
    }

    /// A `Warning: 299` header (distribution-spec, "Warnings").
    pub fn warning(text: &str) -> Self {
        Self::SetHeader("Warning".to_owned(), format!("299 - \"{text}\""))
    }

    /// What a proxy says of a body it finds too large.
    pub fn too_large_html() -> Self {
        Self::RespondEarly(Response::html(413, "Request Entity Too Large"))
    }

    /// 401 that does not say how to authenticate.
    pub fn unauthorized_without_challenge() -> Self {
        Self::Respond(Response::error(401, "UNAUTHORIZED", "authentication required", &Value::Null))
    }
}

/// 429 as JSON, as registries write it.
pub fn too_many_json(retry_after: Option<&str>) -> Action {
    let response = Response::error(429, "TOOMANYREQUESTS", "too many requests", &Value::Null);
    Action::Respond(retry(response, retry_after))
}

/// 429 as text.
pub fn too_many_text(retry_after: Option<&str>) -> Action {
    Action::Respond(retry(Response::text(429, "Too Many Requests (HAP429).\n"), retry_after))
}

/// 429 as a proxy's page.
pub fn too_many_html(retry_after: Option<&str>) -> Action {
    Action::Respond(retry(Response::html(429, "Too Many Requests"), retry_after))
}

/// The date form of `Retry-After`.
pub fn retry_date(after: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + after)
}

fn retry(response: Response, retry_after: Option<&str>) -> Response {
    match retry_after {
        Some(value) => response.with("Retry-After", value),
        None => response,
    }
}
