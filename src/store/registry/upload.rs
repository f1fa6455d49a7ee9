//! Uploading a blob: in one request, in chunks where a server has a limit, going on where a broken connection left
//! off (distribution-spec, "Pushing blobs").

use std::io::Read;
use std::time::Duration;

use ureq::http::Method;

use super::super::{Result, StoreError};
use super::Repository;
use super::endpoint::{Base, Endpoint};
use super::http::{Answer, Call, Failure, Payload, Sending};
use super::messages;
use super::push::{OpenBody, UploadSession};
use super::retry;
use super::url::{Url, encode_query};
use crate::oci::Digest;

/// The smallest chunk that is tried before a 413 is final: nginx's default body limit.
const SMALLEST_CHUNK: u64 = 1024 * 1024;

/// How an attempt to upload ended, if not well.
enum Stop {
    /// The body was too large for the server, or for something before it.
    TooLarge(Box<StoreError>),
    /// The session is gone; a new one may do better.
    Gone(Box<StoreError>),
    /// A passing failure: the session may still be there.
    Broken(Box<StoreError>, Option<Duration>),
    /// The server counts differently; its word is asked for.
    OutOfStep(Box<StoreError>),
    /// No use to go on.
    Final(Box<StoreError>),
}

/// One upload, while it lasts.
struct Upload<'a, 'b> {
    repository: &'a Repository,
    endpoint: &'a Endpoint,
    base: Base,
    digest: &'a Digest,
    size: u64,
    what: String,
    open: &'a mut OpenBody<'b>,
    /// The content, and the offset it stands at: kept from chunk to chunk, so that its reader sees every byte once.
    content: Option<(u64, Box<dyn Read + Send + 'b>)>,
    /// Bytes per request; `None` for all in one.
    chunk: Option<u64>,
    /// Whether the server was taken at its word about what it already has.
    resumed: bool,
}

/// Why a streamed request has no answer.
enum NoAnswer {
    Http(Failure),
    Open(StoreError),
}

type Step<T> = std::result::Result<T, Stop>;

impl Repository {
    /// Uploads a blob of `size` bytes, in the session of a mount that was not made or in one of its own.
    ///
    /// # Errors
    /// [`StoreError::Content`] with the reader's own error if the content could not be read, after the upload was
    /// broken off; what `open` said; else what the registry says, or why it could not be reached.
    pub fn upload_blob(
        &self,
        digest: &Digest,
        size: u64,
        session: Option<UploadSession>,
        open: &mut OpenBody<'_>,
    ) -> Result<()> {
        let endpoint = self.endpoint();
        let options = &endpoint.http.options;
        let mut upload = Upload {
            repository: self,
            endpoint,
            base: endpoint.base()?,
            digest,
            size,
            what: format!("upload of blob {digest} to {}", self.name().repository),
            open,
            content: None,
            chunk: (size > options.chunk_threshold).then_some(options.chunk_size.max(1)),
            resumed: false,
        };
        upload.run(session)
    }
}

impl Upload<'_, '_> {
    fn run(&mut self, mut session: Option<UploadSession>) -> Result<()> {
        let retries = self.endpoint.http.options.retry_times;
        let mut failures = 0;
        loop {
            let mut current = match session.take() {
                Some(session) => session,
                None => self.repository.start_upload(&self.what)?,
            };
            self.resumed = false;
            let (error, wait) = match self.attempt(&mut current) {
                Ok(()) => return Ok(()),
                Err(Stop::TooLarge(error)) => {
                    self.cancel(&current);
                    if !self.shrink(current.smallest_chunk) {
                        return Err(*error);
                    }
                    continue;
                }
                Err(Stop::Final(error)) => {
                    if !matches!(*error, StoreError::Unreachable { .. }) {
                        self.cancel(&current);
                    }
                    return Err(*error);
                }
                Err(Stop::Gone(error)) => (error, None),
                Err(Stop::Broken(error, wait)) => (error, wait),
                Err(Stop::OutOfStep(error)) => {
                    self.cancel(&current);
                    (error, None)
                }
            };
            failures += 1;
            if failures > retries {
                return Err(*error);
            }
            std::thread::sleep(wait.unwrap_or_else(|| retry::backoff(failures)));
        }
    }

    /// Makes the chunks smaller, after a 413 or what may have been one; `false` if they can't be.
    fn shrink(&mut self, smallest: u64) -> bool {
        let most = self.endpoint.http.options.chunk_size.max(1);
        let was = self.chunk.unwrap_or(self.size).min(self.size);
        let next = (was / 2).min(most).max(smallest).max(SMALLEST_CHUNK.min(most));
        if next >= was {
            return false;
        }
        self.chunk = Some(next);
        true
    }

    fn attempt(&mut self, session: &mut UploadSession) -> Step<()> {
        if self.chunk.is_some() && self.size > 0 {
            return self.in_chunks(session, 0);
        }
        let url = session.url.with_query("digest", &encode_query(&self.digest.to_string()));
        let result = if self.size == 0 {
            self.bytes(&Method::PUT, &url)
        } else {
            self.stream(&Method::PUT, &url, 0, self.size, &[])
        }
        .and_then(|answer| self.completed(answer));
        match result {
            Err(Stop::Broken(error, wait)) if self.size > 0 => self.after_break(session, error, wait),
            result => result,
        }
    }

    /// Goes on after an upload in one request was broken off.
    fn after_break(
        &mut self,
        session: &mut UploadSession,
        error: Box<StoreError>,
        wait: Option<Duration>,
    ) -> Step<()> {
        std::thread::sleep(wait.unwrap_or_else(|| retry::backoff(1)));
        // Perhaps only the answer was lost.
        if self.is_there() {
            return Ok(());
        }
        if !matches!(*error, StoreError::Unreachable { .. }) {
            // The server said itself that it was busy or broken.
            self.cancel(session);
            return Err(Stop::Gone(error));
        }
        // A reset in mid-body is also how a proxy says 413, so what follows is in chunks.
        self.shrink(session.smallest_chunk);
        match self.offset(session)? {
            Some(offset) if self.chunk.is_some() => self.in_chunks(session, offset),
            _ => Err(Stop::Gone(error)),
        }
    }

    fn is_there(&self) -> bool {
        self.repository.proves_blob(self.digest, self.size).unwrap_or(false)
    }

    /// Sends everything from `offset` on in `PATCH` requests, then completes with an empty `PUT`.
    fn in_chunks(&mut self, session: &mut UploadSession, mut offset: u64) -> Step<()> {
        let retries = self.endpoint.http.options.retry_times;
        let mut failures = 0;
        while offset < self.size {
            let chunk = self.chunk.unwrap_or(self.size).max(session.smallest_chunk).max(1);
            let length = chunk.min(self.size - offset);
            let stop = match self.patch(session, offset, length) {
                Ok(reached) if reached > offset && reached <= self.size => {
                    offset = reached;
                    failures = 0;
                    continue;
                }
                Ok(_) => Stop::OutOfStep(Box::new(
                    self.endpoint.invalid(&self.what, "the registry lost count of the bytes it was sent"),
                )),
                Err(stop) => stop,
            };
            failures += 1;
            let (error, wait) = match stop {
                Stop::TooLarge(error) if self.shrink(session.smallest_chunk) => {
                    failures -= 1;
                    (error, Some(Duration::ZERO))
                }
                Stop::TooLarge(error) => return Err(Stop::Final(error)),
                Stop::Broken(error, wait) => {
                    if matches!(*error, StoreError::Unreachable { .. }) {
                        self.shrink(session.smallest_chunk);
                    }
                    (error, wait)
                }
                Stop::OutOfStep(error) => (error, Some(Duration::ZERO)),
                stop => return Err(stop),
            };
            if failures > retries {
                return Err(Stop::Final(error));
            }
            std::thread::sleep(wait.unwrap_or_else(|| retry::backoff(failures)));
            // Never from where we believe to be: some registries take bytes at any offset and put them anywhere.
            match self.offset(session)? {
                Some(reached) => offset = reached,
                None => return Err(Stop::Gone(error)),
            }
        }
        self.complete(session)
    }

    /// Sends one chunk; returns how far the registry says it is.
    fn patch(&mut self, session: &mut UploadSession, offset: u64, length: u64) -> Step<u64> {
        let headers = [
            ("Content-Type", "application/octet-stream".to_owned()),
            // Without `bytes`, unlike RFC 9110 (distribution-spec, "Pushing a blob in chunks").
            ("Content-Range", format!("{offset}-{}", offset + length - 1)),
        ];
        let url = session.url.clone();
        let answer = self.stream(&Method::PATCH, &url, offset, length, &headers)?;
        if !matches!(answer.status, 200..=204) {
            return Err(self.stopped(answer));
        }
        self.moved(session, &answer)?;
        let reached = match answer.header("Range") {
            Some(range) => reached(range),
            None => Some(offset + length),
        };
        answer.discard();
        match reached {
            // "0-0" is one byte to the specification, and none to distribution.
            Some(1) if length == 1 => Ok(1),
            Some(1) | None => Ok(offset),
            Some(reached) => Ok(reached),
        }
    }

    /// Completes a chunked upload.
    fn complete(&mut self, session: &mut UploadSession) -> Step<()> {
        let retries = self.endpoint.http.options.retry_times;
        let url = session.url.with_query("digest", &encode_query(&self.digest.to_string()));
        let mut failures = 0;
        loop {
            let result = self.bytes(&Method::PUT, &url).and_then(|answer| self.completed(answer));
            match result {
                Err(Stop::Broken(_, wait)) if failures < retries => {
                    failures += 1;
                    std::thread::sleep(wait.unwrap_or_else(|| retry::backoff(failures)));
                    // Perhaps only the answer was lost.
                    if self.is_there() {
                        return Ok(());
                    }
                }
                result => return result,
            }
        }
    }

    /// Asks the registry how many bytes it has; `None` where it can't be told for sure.
    fn offset(&mut self, session: &mut UploadSession) -> Step<Option<u64>> {
        let answer = self
            .endpoint
            .get(&Method::GET, &session.url, &[], self.repository.purpose(), &self.what)
            .map_err(|error| Stop::Final(Box::new(error)))?;
        if !matches!(answer.status, 200..=204) {
            return Err(Stop::Gone(Box::new(self.endpoint.refused(&self.what, answer))));
        }
        self.moved(session, &answer)?;
        let reached = answer.header("Range").and_then(reached);
        answer.discard();
        self.resumed = true;
        Ok(reached.filter(|reached| *reached > 1 && *reached <= self.size))
    }

    /// Sends a request whose body is a part of the content.
    fn stream(
        &mut self,
        method: &Method,
        url: &Url,
        offset: u64,
        length: u64,
        headers: &[(&'static str, String)],
    ) -> Step<Answer> {
        let Self { endpoint, base, open, content, repository, .. } = self;
        let own = url.origin.is(&base.origin);
        let insecure = endpoint.is_insecure(base, url);
        let result = endpoint.authorised(base, repository.purpose(), |authorization| {
            let (_, mut reader) = match content.take().filter(|(at, _)| *at == offset) {
                Some(content) => content,
                None => (offset, open(offset).map_err(NoAnswer::Open)?),
            };
            let mut sending = Sending::new(&mut *reader, length, endpoint.http.rate.clone());
            let answer = endpoint.http.exchange(Call {
                method: method.clone(),
                url,
                headers,
                authorization: authorization.filter(|_| own),
                payload: Payload::Stream(&mut sending),
                insecure,
            });
            let sent = length - sending.left();
            let mut answer = answer.map_err(NoAnswer::Http)?;
            *content = Some((offset + sent, reader));
            answer.foreign = !own;
            Ok(answer)
        });
        match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(NoAnswer::Open(error))) => Err(Stop::Final(Box::new(error))),
            Ok(Err(NoAnswer::Http(failure))) => Err(self.broken(failure)),
            Err(failure) => Err(Stop::Final(Box::new(self.endpoint.no_token(&self.what, failure)))),
        }
    }

    /// Sends a request with an empty body.
    fn bytes(&self, method: &Method, url: &Url) -> Step<Answer> {
        let own = url.origin.is(&self.base.origin);
        let result = self.endpoint.authorised(&self.base, self.repository.purpose(), |authorization| {
            let mut answer = self.endpoint.http.exchange(Call {
                method: method.clone(),
                url,
                headers: &[],
                authorization: authorization.filter(|_| own),
                payload: Payload::Bytes(&[]),
                insecure: self.endpoint.is_insecure(&self.base, url),
            })?;
            answer.foreign = !own;
            Ok(answer)
        });
        match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(self.broken(failure)),
            Err(failure) => Err(Stop::Final(Box::new(self.endpoint.no_token(&self.what, failure)))),
        }
    }

    /// Gives up a session, as a courtesy: whether it works does not matter.
    fn cancel(&self, session: &UploadSession) {
        let own = session.url.origin.is(&self.base.origin);
        let _ = self
            .endpoint
            .authorised(&self.base, self.repository.purpose(), |authorization| {
                self.endpoint.http.exchange(Call {
                    method: Method::DELETE,
                    url: &session.url,
                    headers: &[],
                    authorization: authorization.filter(|_| own),
                    payload: Payload::None,
                    insecure: self.endpoint.is_insecure(&self.base, &session.url),
                })
            })
            .map(|answer| answer.map(Answer::discard));
    }

    fn moved(&self, session: &mut UploadSession, answer: &Answer) -> Step<()> {
        match self.repository.moved(&session.url, answer) {
            Ok(Some(url)) => session.url = url,
            Ok(None) => {}
            Err(why) => return Err(Stop::Final(Box::new(self.endpoint.invalid(&self.what, &why)))),
        }
        Ok(())
    }

    /// Judges the answer to the request that was to complete the upload.
    fn completed(&self, answer: Answer) -> Step<()> {
        if matches!(answer.status, 201 | 204) {
            let said =
                answer.header("Docker-Content-Digest").and_then(|digest| digest.parse::<Digest>().ok());
            answer.discard();
            // Content uploaded under one algorithm is confirmed under another by some registries.
            return match said {
                Some(said) if said.algorithm() == self.digest.algorithm() && said != *self.digest => {
                    Err(Stop::Final(Box::new(StoreError::Damaged {
                        place: self.repository.name().to_string(),
                        digest: self.digest.clone(),
                        why: format!("the registry stored it as {said}"),
                    })))
                }
                _ => Ok(()),
            };
        }
        if (200..300).contains(&answer.status) {
            let status = answer.status;
            let mut messages = answer.messages();
            messages.push(messages::plain("the upload was not completed by the request that should have"));
            let error = self.endpoint.refusal(&self.what, status, messages);
            return Err(Stop::Final(Box::new(error)));
        }
        // What the registry has may not be what it said it has.
        if self.resumed && answer.status == 400 {
            return Err(Stop::Gone(Box::new(self.endpoint.refused(&self.what, answer))));
        }
        Err(self.stopped(answer))
    }

    /// Judges an answer that is no success.
    fn stopped(&self, answer: Answer) -> Stop {
        let status = answer.status;
        let wait = answer.retry_after();
        let error = Box::new(self.endpoint.refused(&self.what, answer));
        match status {
            413 => Stop::TooLarge(error),
            404 => Stop::Gone(error),
            416 => Stop::OutOfStep(error),
            status if retry::is_transient(status) => Stop::Broken(error, wait),
            _ => Stop::Final(error),
        }
    }

    /// Judges a failure to get an answer.
    fn broken(&self, failure: Failure) -> Stop {
        let passing = failure.is_passing();
        let error = match failure {
            Failure::Content(source) => StoreError::Content {
                place: self.endpoint.name.clone(),
                what: format!("blob {}", self.digest),
                source,
            },
            failure => self.endpoint.failed(&self.what, failure),
        };
        let error = Box::new(error);
        if passing { Stop::Broken(error, None) } else { Stop::Final(error) }
    }
}

/// Reads the `Range: 0-b` of an upload's status: the number of bytes there.
pub(super) fn reached(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes").map_or(range, |rest| rest.trim_start_matches(['=', ' ']));
    range.split_once('-')?.1.trim().parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_range_are_read() {
        assert_eq!(reached("0-99"), Some(100));
        assert_eq!(reached("bytes=0-99"), Some(100));
        assert_eq!(reached("0-0"), Some(1));
        assert_eq!(reached("nonsense"), None);
        assert_eq!(reached("0-18446744073709551615"), None);
    }
}
