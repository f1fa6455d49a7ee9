//! Documents that lie at a web address and are no part of a registry: chart repositories, and the charts they list.

use super::http::{Answer, Failure};
use super::url::Url;
use super::{Client, is_loopback};
use crate::store::{Result, StoreError};
use ureq::http::Method;

/// A place on the web from which documents are read, e.g. a chart repository.
///
/// It is asked in plain HTTP only where that is allowed for its host (loopback and hosts called insecure). Credentials are
/// shown to the site's own origin, only after it asked for them, and only those that are kept for exactly that host:
/// never one that was given for every registry, and never to another host that the site's documents or redirects name.
pub struct Site<'a> {
    client: &'a Client,
    /// The address, with a slash at the end of its path.
    base: Url,
}

impl Client {
    /// Returns the site at an address. Talks to nobody.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the address is none of `https://…`, or one of `http://…` where that is not allowed.
    pub fn site(&self, address: &str) -> Result<Site<'_>> {
        let place: String = address.chars().take(300).collect();
        let place = place.split(['?', '#']).next().unwrap_or_default().escape_debug().to_string();
        let invalid = |why: &str| StoreError::Invalid { place: without_user(&place), why: why.to_owned() };
        let (path, query) = match address.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (address, None),
        };
        let mut text = path.trim_end_matches('/').to_owned();
        text.push('/');
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        let base = Url::parse(&text).map_err(invalid)?;
        let site = Site { client: self, base };
        site.may_ask(&site.base).map_err(|why| invalid(&why))?;
        Ok(site)
    }
}

/// Leaves out what stands before an `@` in an address: it may be a password.
fn without_user(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{}", &address[..start + 3], &address[end + 1..])
        }
        _ => address.to_owned(),
    }
}

impl Site<'_> {
    /// Returns the site's address, for messages: without its query.
    #[must_use]
    pub fn address(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    /// Returns the address of a document that the site names, for messages.
    #[must_use]
    pub fn address_of(&self, document: &str) -> String {
        self.base.join(document).map_or_else(|_| self.address(), |url| url.to_string())
    }

    /// Reads a document: a path below the site's address, or an absolute address that the site names.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a 404, [`StoreError::Invalid`] for more than `most` bytes or an address that must not
    /// be asked, or whatever kept it from being read.
    pub fn read(&self, document: &str, most: u64) -> Result<Vec<u8>> {
        let invalid = |why: String| StoreError::Invalid { place: self.address(), why };
        let mut url =
            self.base.join(document).map_err(|why| invalid(format!("a document it names: {why}")))?;
        if let Some((_, query)) = self.base.as_text().split_once('?')
            && url.origin.is(&self.base.origin)
            && !url.as_text().contains('?')
            && let Some((name, value)) = query.split_once('=')
        {
            // As `helm` does: the query of the repository's address goes along, tokens are given so.
            url = url.with_query(name, value);
        }
        self.may_ask(&url).map_err(|why| invalid(format!("{url}: {why}")))?;
        let mut failures = 0;
        loop {
            let answer = self.ask(&url)?;
            match answer.status {
                200 => {}
                404 => {
                    answer.discard();
                    return Err(StoreError::NotFound {
                        place: url.origin.authority.clone(),
                        what: url.path().to_owned(),
                    });
                }
                status => {
                    let (place, what) = (url.origin.authority.clone(), format!("GET {}", url.path()));
                    let messages = answer.messages();
                    return Err(if matches!(status, 401 | 403) {
                        StoreError::Denied { place, what, status, messages }
                    } else {
                        StoreError::Refused { place, what, status, messages }
                    });
                }
            }
            let too_long = || invalid(format!("{url} has more than the {most} bytes that are read"));
            if answer.length().is_some_and(|length| length > most) {
                return Err(too_long());
            }
            let announced = answer.length();
            match answer.read(most) {
                Ok(bytes) if bytes.len() as u64 > most => return Err(too_long()),
                Ok(bytes) if announced.is_none_or(|length| length == bytes.len() as u64) => return Ok(bytes),
                // A body that broke off.
                Ok(_) | Err(_) if failures < self.client.0.http.options.retry_times => failures += 1,
                Ok(_) => return Err(unreachable(&url, "the connection ended too early".into())),
                Err(error) => return Err(unreachable(&url, Box::new(error))),
            }
        }
    }

    fn ask(&self, url: &Url) -> Result<Answer> {
        let http = &self.client.0.http;
        let insecure = http.options.is_insecure(&url.origin.authority);
        let ask = |authorization: Option<&str>| {
            http.patiently(http.options.retry_times, || {
                http.follow(&Method::GET, url, &[], authorization, insecure)
            })
            .map_err(|failure| match failure {
                Failure::Protocol(why) => StoreError::Invalid {
                    place: url.origin.authority.clone(),
                    why: format!("GET {}: {why}", url.path()),
                },
                failure => unreachable(url, Box::new(failure)),
            })
        };
        let answer = ask(None)?;
        if answer.status != 401 || answer.foreign || !url.origin.is(&self.base.origin) {
            return Ok(answer);
        }
        let warn = |text| http.warn(text);
        let Some(credential) = self.client.0.credentials.of_host(&url.origin.authority, &warn) else {
            return Ok(answer);
        };
        answer.discard();
        ask(Some(&credential.basic()))
    }

    /// Refuses plain HTTP where it is not allowed.
    fn may_ask(&self, url: &Url) -> std::result::Result<(), String> {
        let host = &url.origin.authority;
        if url.origin.tls || is_loopback(host) || self.client.0.http.options.is_insecure(host) {
            return Ok(());
        }
        Err(format!("plain HTTP is not allowed for {host}; `--insecure {host}` allows it"))
    }
}

fn unreachable(url: &Url, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError::Unreachable {
        place: url.origin.authority.clone(),
        what: format!("GET {}", url.path()),
        source,
    }
}
