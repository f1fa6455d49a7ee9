//! HTTP as this client speaks it: one exchange, redirects, and trying again.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, Method, Request};
use ureq::{Agent, Body, SendBody};

use super::super::RegistryMessage;
use super::limits::{Places, Rate, lock, read_limited};
use super::messages;
use super::options::Options;
use super::retry;
use super::tls::{EXPECT_TIMEOUT, Trust, Trusts};
use super::url::{Origin, Url};

/// How many redirects are followed; registries use one, their storage now and then a second.
const MAX_REDIRECTS: u32 = 5;
/// Bodies of this many bytes and more are announced with `Expect: 100-continue`: below, sending costs less than asking.
const EXPECT_FROM: u64 = 1024 * 1024;
/// How often a host may let `Expect` time out before it is no longer asked.
const EXPECT_CHANCES: u32 = 2;
/// How many different warnings are kept.
const MAX_WARNINGS: usize = 100;

/// What all exchanges share.
pub(super) struct Http {
    pub options: Options,
    trust: Trusts,
    hosts: Mutex<HashMap<(Origin, bool), Arc<Host>>>,
    pub rate: Option<Arc<Rate>>,
    warnings: Mutex<Vec<String>>,
}

/// One origin, with its connections and limits.
struct Host {
    agent: Agent,
    places: Places,
    /// How often `Expect: 100-continue` was not answered in time.
    ignored_expect: AtomicU32,
}

/// What goes along with a request.
pub(super) enum Payload<'a, 'b> {
    /// No body and no `Content-Length`.
    None,
    /// A body in memory.
    Bytes(&'a [u8]),
    /// A body that is read while it is sent.
    Stream(&'a mut Sending<'b>),
}

/// One request.
pub(super) struct Call<'a, 'b> {
    pub method: Method,
    pub url: &'a Url,
    pub headers: &'a [(&'static str, String)],
    pub authorization: Option<&'a str>,
    pub payload: Payload<'a, 'b>,
    /// Whether the host may be asked without TLS or with an unverified certificate.
    pub insecure: bool,
}

/// What came back: any status.
pub(super) struct Answer {
    pub status: u16,
    headers: HeaderMap,
    body: Body,
    /// Where the answer came from, after redirects.
    pub url: Url,
    /// Whether a redirect led to another origin.
    pub foreign: bool,
    /// The longest time to wait before asking again, whatever the server asks for.
    longest_wait: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The network failed.
    Network(ureq::Error),
    /// The server broke a rule that must not be bent.
    Protocol(String),
    /// The content to send could not be read.
    Content(io::Error),
}

impl Failure {
    /// Returns whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Network(ureq::Error::Io(error)) => {
                // How rustls says that a certificate is not good, or that the far side speaks no TLS.
                error.kind() != io::ErrorKind::InvalidData
            }
            Self::Network(error) => matches!(
                error,
                ureq::Error::Timeout(_)
                    | ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::Protocol(_)
                    | ureq::Error::ConnectProxyFailed(_)
                    | ureq::Error::BodyStalled
            ),
            Self::Protocol(_) | Self::Content(_) => false,
        }
    }
}

/// Says it in words that hold no URL.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // rustls's word for it would not be understood; what can be done about it is in `connector`.
            Self::Network(ureq::Error::Io(error)) if error.to_string().contains("CaUsedAsEndEntity") => {
                f.write_str(
                    "the certificate of the server is self-signed; to trust it, put it as a `.crt` file into the \
                     certificate folder",
                )
            }
            Self::Network(ureq::Error::Io(error)) | Self::Content(error) => write!(f, "{error}"),
            Self::Network(ureq::Error::Timeout(which)) => write!(f, "nothing came in time ({which})"),
            Self::Network(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => {
                f.write_str("the URL is not valid")
            }
            Self::Network(error) => write!(f, "{error}"),
            Self::Protocol(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl Http {
    pub fn new(options: Options, trust: Trusts, warnings: Vec<String>) -> Self {
        Self {
            rate: options.limit_rate.map(|rate| Arc::new(Rate::new(rate))),
            options,
            trust,
            hosts: Mutex::default(),
            warnings: Mutex::new(warnings),
        }
    }

    /// Returns what a server is trusted by.
    pub fn trust(&self, origin: &Origin) -> &Trust {
        self.trust.of(origin)
    }

    fn host(&self, origin: &Origin, insecure: bool) -> Arc<Host> {
        let mut hosts = lock(&self.hosts);
        let host = hosts.entry((origin.clone(), insecure)).or_insert_with(|| {
            Arc::new(Host {
                agent: self.trust.of(origin).agent(&self.options, origin, insecure),
                places: Places::new(self.options.jobs),
                ignored_expect: AtomicU32::new(0),
            })
        });
        Arc::clone(host)
    }

    /// Keeps a warning, once.
    pub fn warn(&self, text: String) {
        let mut warnings = lock(&self.warnings);
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    /// Sends one request and reads the head of its answer; follows nothing and repeats nothing.
    pub fn exchange(&self, call: Call<'_, '_>) -> Result<Answer, Failure> {
        let host = self.host(&call.url.origin, call.insecure);
        let Call { method, url, headers, authorization, payload, .. } = call;
        let sending = match payload {
            Payload::Stream(sending) => sending,
            Payload::Bytes(bytes) => {
                return self.send(&host, &method, url, headers, authorization, bytes, &[]);
            }
            Payload::None => return self.send(&host, &method, url, headers, authorization, (), &[]),
        };
        let asks =
            sending.left >= EXPECT_FROM && host.ignored_expect.load(Ordering::Relaxed) < EXPECT_CHANCES;
        let length = ("Content-Length", sending.left.to_string());
        let expect = ("Expect", "100-continue".to_owned());
        let mut more: &[_] = &[length, expect];
        if !asks {
            more = &more[..1];
        }
        let start = Instant::now();
        let answer =
            self.send(&host, &method, url, headers, authorization, SendBody::from_reader(sending), more);
        if let Some(error) = sending.failed.take() {
            return Err(Failure::Content(error));
        }
        if asks {
            // 417: "the expectation could not be met" (RFC 9110, section 15.5.18).
            if matches!(&answer, Ok(answer) if answer.status == 417) && sending.first_read.is_none() {
                host.ignored_expect.store(EXPECT_CHANCES, Ordering::Relaxed);
                let body = SendBody::from_reader(sending);
                let answer = self.send(&host, &method, url, headers, authorization, body, &more[..1]);
                return match sending.failed.take() {
                    Some(error) => Err(Failure::Content(error)),
                    None => answer,
                };
            }
            if sending.first_read.is_some_and(|read| read.duration_since(start) >= EXPECT_TIMEOUT) {
                host.ignored_expect.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, for three kinds of body")]
    fn send(
        &self,
        host: &Host,
        method: &Method,
        url: &Url,
        headers: &[(&'static str, String)],
        authorization: Option<&str>,
        body: impl ureq::AsSendBody,
        more: &[(&'static str, String)],
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method.clone()).uri(url.as_text());
        for (name, value) in headers.iter().chain(more) {
            request = request.header(*name, value);
        }
        if let Some(value) = authorization {
            request = request.header("Authorization", value);
        }
        let request = request.body(body).map_err(|error| Failure::Network(error.into()))?;
        let patience = if matches!(*method, Method::PUT | Method::PATCH) {
            self.options.idle_timeout.saturating_mul(self.options.upload_patience)
        } else {
            self.options.idle_timeout
        }
        .max(Duration::from_millis(1));
        let mut request = host.agent.configure_request(request).timeout_recv_response(Some(patience));
        if patience > self.options.idle_timeout {
            request = request.timeout_per_read(Some(patience));
        }
        let request = request.build();
        // A streamed body only starts in turn: what it is read from may need a place at this very host.
        let place = Some(host.places.take()).filter(|_| more.is_empty());
        let response = host.agent.run(request).map_err(Failure::Network)?;
        drop(place);
        let (parts, body) = response.into_parts();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            url: url.clone(),
            foreign: false,
            longest_wait: self.options.longest_wait,
        };
        if answer.status == 429 {
            host.places.too_many(answer.retry_after().unwrap_or_default());
        } else {
            host.places.answered();
        }
        self.collect_warnings(&answer);
        Ok(answer)
    }

    /// `Warning: 299 - "text"` (distribution-spec, "Warnings").
    fn collect_warnings(&self, answer: &Answer) {
        for value in answer.headers.get_all("Warning") {
            let text = String::from_utf8_lossy(value.as_bytes());
            if let Some(text) = text.strip_prefix("299 ") {
                let text = text.split_once('"').map_or(text, |(_, quoted)| quoted);
                let text = text.trim_end().trim_end_matches('"').replace("\\\"", "\"");
                let text = messages::clean(&text, 500);
                if !text.is_empty() {
                    self.warn(format!("{}: {text}", answer.url.origin.authority));
                }
            }
        }
    }

    /// Sends a request without a body and follows redirects; the authorization stays with its origin.
    pub fn follow(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&'static str, String)],
        authorization: Option<&str>,
        insecure: bool,
    ) -> Result<Answer, Failure> {
        let mut url = url.clone();
        let mut authorization = authorization;
        let mut insecure = insecure;
        let mut foreign = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut answer = self.exchange(Call {
                method: method.clone(),
                url: &url,
                headers,
                authorization,
                payload: Payload::None,
                insecure,
            })?;
            answer.foreign = foreign;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let Some(location) = answer.header("Location") else {
                return Ok(answer);
            };
            let next = resolve(&url, location).map_err(Failure::Protocol)?;
            self.may_leave(&url.origin, &next.origin).map_err(Failure::Protocol)?;
            if !next.origin.is(&url.origin) {
                // Once left, the origin stays left: a redirect back is not the registry asking.
                authorization = None;
                foreign = true;
                insecure = self.options.is_insecure(&next.origin.authority);
            }
            answer.discard();
            url = next;
        }
        Err(Failure::Protocol(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    /// Refuses to go from TLS to plain HTTP, except to hosts that the user called insecure.
    pub fn may_leave(&self, from: &Origin, to: &Origin) -> Result<(), String> {
        if from.tls && !to.tls && !self.options.is_insecure(&to.authority) {
            return Err(format!("it sends us from TLS to plain HTTP at {}", to.authority));
        }
        Ok(())
    }

    /// Repeats a request while it fails for passing reasons.
    ///
    /// `resets` bounds how often a failed connection is tried again, the options how often a status is.
    pub fn patiently(
        &self,
        resets: u32,
        mut go: impl FnMut() -> Result<Answer, Failure>,
    ) -> Result<Answer, Failure> {
        let mut failures = 0;
        let mut expired = false;
        loop {
            let wait = match go() {
                // A presigned URL may have expired on the way: the registry makes a new one.
                Ok(answer) if answer.foreign && matches!(answer.status, 401 | 403) && !expired => {
                    expired = true;
                    answer.discard();
                    continue;
                }
                Ok(answer) if retry::is_transient(answer.status) && failures < self.options.retry_times => {
                    let asked = answer.retry_after();
                    answer.discard();
                    asked.unwrap_or_else(|| retry::backoff(failures + 1))
                }
                Ok(answer) => return Ok(answer),
                Err(failure) if failure.is_passing() && failures < resets => retry::backoff(failures + 1),
                Err(failure) => return Err(failure),
            };
            failures += 1;
            std::thread::sleep(wait);
        }
    }
}

/// Resolves a `Location`, saying what is wrong without repeating it.
pub(super) fn resolve(base: &Url, location: &str) -> Result<Url, String> {
    base.join(location).map_err(|why| format!("it sends us to a place that can't be used: {why}"))
}

impl Answer {
    /// Returns a header that is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Returns all values of a header.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns `Content-Length`.
    pub fn length(&self) -> Option<u64> {
        self.header("Content-Length")?.parse().ok()
    }

    /// Returns `Content-Type` without its parameters.
    pub fn media_type(&self) -> &str {
        let value = self.header("Content-Type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// Returns how long the server asks to wait, as far as that is done.
    pub fn retry_after(&self) -> Option<Duration> {
        let asked = retry::retry_after(self.header("Retry-After")?, SystemTime::now())?;
        Some(asked.min(self.longest_wait))
    }

    /// Returns the body's reader.
    pub fn into_reader(self) -> impl Read + Send + 'static {
        self.body.into_reader()
    }

    /// Reads the body up to one byte more than `most`.
    pub fn read(self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.into_reader().take(most + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads what the body of a refusal says; a body that breaks off says nothing.
    pub fn messages(self) -> Vec<RegistryMessage> {
        let mut bytes = Vec::new();
        let _ = self.body.into_reader().take(messages::MAX_ERROR_BODY).read_to_end(&mut bytes);
        messages::parse(&bytes)
    }

    /// Reads a short body to its end, so that the connection can be used again.
    pub fn discard(self) {
        if self.length().is_some_and(|length| length <= messages::MAX_ERROR_BODY) {
            let _ = io::copy(&mut self.body.into_reader(), &mut io::sink());
        }
    }
}

/// A part of some content that is being sent: exactly `left` bytes, or an error.
pub(super) struct Sending<'a> {
    content: &'a mut (dyn Read + Send + 'a),
    rate: Option<Arc<Rate>>,
    left: u64,
    /// Why the content could not be read. Kept aside, so that it is never taken for an error of the network.
    failed: Option<io::Error>,
    first_read: Option<Instant>,
}

impl<'a> Sending<'a> {
    pub fn new(content: &'a mut (dyn Read + Send + 'a), length: u64, rate: Option<Arc<Rate>>) -> Self {
        Self { content, rate, left: length, failed: None, first_read: None }
    }

    /// Returns how many bytes were not read.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Sending<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.first_read.get_or_insert_with(Instant::now);
        if self.left == 0 || into.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let result = loop {
            match read_limited(self.rate.as_ref(), self.content, &mut into[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let error = match result {
            Ok(0) => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the content ends {} bytes early", self.left),
            ),
            Ok(count) => {
                self.left -= count as u64;
                return Ok(count);
            }
            Err(error) => error,
        };
        // ureq gets some error and drops the connection: the server never sees a complete body.
        self.failed = Some(error);
        Err(io::Error::other("the content could not be read"))
    }
}
