//! Reading: rights, tags, manifests and blobs; and the repository as a [`Source`].

use std::io::{self, Read};

use serde::Deserialize;
use ureq::http::Method;

use super::super::{ATTACHED_TAG_SUFFIXES, Attached, Result, Source, StoreError, attached_tag};
use super::endpoint::{Endpoint, Purpose};
use super::http::{Answer, resolve};
use super::limits::Limited;
use super::messages;
use super::token;
use super::url::next_link;
use super::{Access, Repository};
use crate::oci::manifest::MAX_MANIFEST_SIZE;
use crate::oci::{Descriptor, Digest, ManifestError, media_type};

/// The longest page of a list that is read, in bytes: a million short tags.
const MAX_PAGE: u64 = 32 * 1024 * 1024;
/// How many pages of a list are read: a bound for servers whose links never end.
pub(super) const MAX_PAGES: usize = 10_000;

/// A manifest as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Type as the registry said it in `Content-Type`; as the body says, where the registry named no manifest type.
    pub media_type: String,
    /// Digest computed over the bytes, with the algorithm it was asked by.
    pub digest: Digest,
    /// The bytes, at most [`MAX_MANIFEST_SIZE`].
    pub bytes: Vec<u8>,
}

impl RawManifest {
    /// Makes the descriptor that names this manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.bytes.len() as u64)
    }
}

impl Repository {
    /// Checks that the registry can be reached and lets the user do what the repository was opened for, as far as
    /// that can be told without changing anything: the token must be had, and for [`Access::Push`] must not be one
    /// that names other rights.
    ///
    /// # Errors
    /// [`StoreError::Denied`] if the rights are missing, or whatever kept the registry from answering.
    pub fn check(&self) -> Result<()> {
        let what = match self.0.access {
            Access::Pull => format!("pulling from {}", self.0.name),
            Access::Push => format!("pushing to {}", self.0.name),
        };
        let endpoint = self.endpoint();
        let base = endpoint.base()?;
        let token =
            endpoint.token(&base, self.purpose()).map_err(|failure| endpoint.no_token(&what, failure))?;
        let Some(token) = token else {
            // Without tokens the registry itself must take the password. (With tokens `/v2/` says nothing: some
            // registries refuse it to anonymous tokens that pull well.)
            let url = endpoint.url("/v2/")?;
            let answer = endpoint.get(&Method::GET, &url, &[], self.purpose(), &what)?;
            if matches!(answer.status, 401 | 403) {
                return Err(endpoint.refused(&what, answer));
            }
            answer.discard();
            return Ok(());
        };
        if self.0.access == Access::Push && token::grants_push(&token, &self.0.name.repository) == Some(false)
        {
            let why = "the token that the registry gives for these credentials does not grant `push`";
            return Err(endpoint.refusal(&what, 403, vec![messages::plain(why)]));
        }
        Ok(())
    }

    /// Lists the tags, in the registry's order (distribution-spec, "Listing Tags").
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the repository is not known, or whatever kept the registry from answering.
    pub fn tags(&self) -> Result<Vec<String>> {
        let what = format!("the tags of {}", self.0.name.repository);
        list(self.endpoint(), &self.target("tags/list"), "tags", self.purpose(), &what)
    }

    /// Asks what a tag or digest means, without reading it where the registry says enough.
    ///
    /// # Errors
    /// Whatever kept the registry from answering; not having it is `None`.
    pub fn head_manifest(&self, selector: &str) -> Result<Option<Descriptor>> {
        let what = self.manifest_name(selector);
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("manifests/{selector}")))?;
        let answer = endpoint.get(&Method::HEAD, &url, &[accept()], self.purpose(), &what)?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            status if super::retry::is_transient(status) => return Err(endpoint.refused(&what, answer)),
            // No HEAD here; and what a HEAD refuses has no body that says why.
            _ => return Ok(self.get_manifest(selector)?.map(|manifest| manifest.descriptor())),
        }
        let digest = answer.header("Docker-Content-Digest").and_then(|digest| digest.parse::<Digest>().ok());
        let fits = |digest: &Digest| selector.parse::<Digest>().is_ok_and(|asked| asked == *digest);
        match (digest, answer.length()) {
            (Some(digest), Some(size))
                if size > 0
                    && media_type::is_manifest(answer.media_type())
                    && (!selector.contains(':') || fits(&digest)) =>
            {
                Ok(Some(Descriptor::new(answer.media_type(), digest, size)))
            }
            _ => Ok(self.get_manifest(selector)?.map(|manifest| manifest.descriptor())),
        }
    }

    /// Reads a manifest by tag or digest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes are not what was asked for, or not what the registry says they are;
    /// [`StoreError::Manifest`] if they are more than [`MAX_MANIFEST_SIZE`]; else whatever kept the registry from
    /// answering. Not having it is `None`.
    pub fn get_manifest(&self, selector: &str) -> Result<Option<RawManifest>> {
        let what = self.manifest_name(selector);
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("manifests/{selector}")))?;
        let mut failures = 0;
        let (answered, bytes) = loop {
            let answer = endpoint.get(&Method::GET, &url, &[accept()], self.purpose(), &what)?;
            match answer.status {
                200 => {}
                404 => {
                    answer.discard();
                    return Ok(None);
                }
                _ => return Err(endpoint.refused(&what, answer)),
            }
            let digest =
                answer.header("Docker-Content-Digest").and_then(|digest| digest.parse::<Digest>().ok());
            let media_type = answer.media_type().to_owned();
            match answer.read(MAX_MANIFEST_SIZE) {
                Ok(bytes) => break ((digest, media_type), bytes),
                // A body that broke off.
                Err(_) if failures < endpoint.http.options.retry_times => failures += 1,
                Err(error) => return Err(endpoint.unreachable(&what, error.to_string())),
            }
        };
        let (said, media_type) = answered;
        let asked = selector.parse::<Digest>().ok();
        let place = self.place();
        if bytes.len() as u64 > MAX_MANIFEST_SIZE {
            let Some(digest) = asked.or(said) else {
                return Err(endpoint.invalid(&what, "it has more than 4 MiB"));
            };
            return Err(StoreError::Manifest {
                place,
                digest,
                source: ManifestError::TooLarge(bytes.len() as u64),
            });
        }
        // Asked by digest, only that digest counts: registries name the same content by another algorithm.
        let expected = asked.or(said);
        let digest = match &expected {
            Some(expected) => expected.same_algorithm_over(&bytes),
            None => Digest::sha256(&bytes),
        };
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(StoreError::Damaged {
                place,
                digest: expected,
                why: format!("its bytes hash to {digest}"),
            });
        }
        Ok(Some(RawManifest { media_type: known_type(media_type, &bytes), digest, bytes }))
    }

    /// Asks for the size of a blob. What a HEAD says is not proof: see [`Repository::proves_blob`].
    ///
    /// # Errors
    /// Whatever kept the registry from answering; not having it is `None`.
    pub fn head_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let what = format!("blob {digest}");
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("blobs/{digest}")))?;
        let answer = endpoint.get(&Method::HEAD, &url, &[], self.purpose(), &what)?;
        match (answer.status, answer.length()) {
            (200, Some(size)) => return Ok(Some(size)),
            (404, _) if !answer.foreign => return Ok(None),
            (401 | 403, _) if !answer.foreign => return Err(endpoint.refused(&what, answer)),
            // No HEAD here, or a storage whose presigned URL is good for GET only.
            _ => {}
        }
        let range = [("Range", "bytes=0-0".to_owned())];
        let answer = endpoint.get(&Method::GET, &url, &range, self.purpose(), &what)?;
        let size = match answer.status {
            206 => content_range(&answer).and_then(|(_, total)| total),
            200 => answer.length(),
            404 => return Ok(None),
            // An empty blob has no first byte (RFC 9110, section 15.5.17).
            416 => Some(0),
            _ => return Err(endpoint.refused(&what, answer)),
        };
        size.map(Some).ok_or_else(|| endpoint.invalid(&what, "the registry does not say its size"))
    }

    /// Proves that a blob can be read, by reading its first byte; an empty blob can't be proved.
    ///
    /// # Errors
    /// Whatever kept the registry from answering; not having the blob is `false`.
    pub fn proves_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        if size == 0 {
            return Ok(false);
        }
        let what = format!("blob {digest}");
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("blobs/{digest}")))?;
        let range = [("Range", "bytes=0-0".to_owned())];
        let mut failures = 0;
        loop {
            let answer = endpoint.get(&Method::GET, &url, &range, self.purpose(), &what)?;
            let said = match answer.status {
                206 => content_range(&answer).and_then(|(_, total)| total),
                200 => answer.length(),
                404 | 416 => {
                    answer.discard();
                    return Ok(false);
                }
                _ => return Err(endpoint.refused(&what, answer)),
            };
            if said.is_some_and(|said| said != size) {
                return Ok(false);
            }
            let ranged = answer.status == 206;
            let mut reader = answer.into_reader();
            match reader.read(&mut [0]) {
                Ok(count) => {
                    if ranged && count == 1 {
                        // Ends the body, so that the connection is used again; that of a 200 is dropped.
                        let _ = reader.read(&mut [0]);
                    }
                    return Ok(count == 1);
                }
                Err(_) if failures < endpoint.http.options.retry_times => failures += 1,
                // A body announced and never sent, time after time, is what a registry does whose storage lost it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(endpoint.unreachable(&what, error.to_string())),
            }
        }
    }

    /// Lists what is attached to a manifest as [`Source::attached`] does, asking only for those of the tags derived from
    /// its digest that may be there: whoever has the list of tags spares the requests for the others.
    ///
    /// # Errors
    /// Whatever kept the registry from answering.
    pub fn attached_by(&self, subject: &Digest, may_be: impl Fn(&str) -> bool) -> Result<Vec<Attached>> {
        let descriptors = match self.listed_referrers(subject)? {
            Some(list) => list,
            None if may_be(&attached_tag(subject, "")) => self
                .fallback_index(subject)?
                .map(|index| super::referrers::entries(&index))
                .unwrap_or_default(),
            None => Vec::new(),
        };
        let mut all: Vec<Attached> = Vec::new();
        for descriptor in descriptors {
            if all.iter().all(|known| known.descriptor.digest != descriptor.digest) {
                all.push(Attached { descriptor, tag: None });
            }
        }
        for suffix in ATTACHED_TAG_SUFFIXES {
            let tag = attached_tag(subject, suffix);
            if may_be(&tag)
                && let Some(descriptor) = self.head_manifest(&tag)?
            {
                all.push(Attached { descriptor, tag: Some(tag) });
            }
        }
        Ok(all)
    }

    pub(super) fn manifest_name(&self, selector: &str) -> String {
        let sign = if selector.contains(':') { '@' } else { ':' };
        format!("manifest {}{sign}{selector}", self.0.name.repository)
    }
}

impl Source for Repository {
    fn place(&self) -> String {
        self.0.name.to_string()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        self.head_manifest(selector)?.ok_or_else(|| StoreError::NotFound {
            place: self.0.name.registry.clone(),
            what: self.manifest_name(selector),
        })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let selector = descriptor.digest.to_string();
        self.get_manifest(&selector)?.map(|manifest| manifest.bytes).ok_or_else(|| StoreError::NotFound {
            place: self.0.name.registry.clone(),
            what: self.manifest_name(&selector),
        })
    }

    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.attached_by(subject, |_| true)
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if offset > 0 && offset >= size {
            return Ok(Box::new(io::empty()));
        }
        let what = format!("blob {digest}");
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("blobs/{digest}")))?;
        let range = [("Range", format!("bytes={offset}-"))];
        let headers = if offset > 0 { &range[..] } else { &[] };
        let answer = endpoint.get(&Method::GET, &url, headers, self.purpose(), &what)?;
        let mut skip = 0;
        match answer.status {
            206 => match content_range(&answer) {
                Some((start, _)) if start == offset => {}
                _ => return Err(endpoint.invalid(&what, "another range came than the one asked for")),
            },
            200 => skip = offset,
            404 => {
                return Err(StoreError::NotFound { place: self.0.name.registry.clone(), what });
            }
            _ => return Err(endpoint.refused(&what, answer)),
        }
        let content = Content { left: answer.length(), inner: answer.into_reader(), skip };
        Ok(match &endpoint.http.rate {
            None => Box::new(content),
            Some(rate) => Box::new(Limited { inner: content, rate: rate.clone() }),
        })
    }
}

/// A blob's content as it comes.
struct Content<R> {
    inner: R,
    /// What is still to come, where the server said so.
    left: Option<u64>,
    /// What comes first and was not asked for.
    skip: u64,
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.skip > 0 {
            let skipped = io::copy(&mut (&mut self.inner).take(self.skip), &mut io::sink())?;
            if skipped < self.skip {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.left = self.left.map(|left| left.saturating_sub(skipped));
            self.skip = 0;
        }
        let count = self.inner.read(into)?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count as u64);
            if *left == 0 && count > 0 {
                // Callers stop when they have all; the connection is free for the next request only after the end
                // was read.
                self.left = None;
                let _ = self.inner.read(&mut [0]);
            }
        }
        Ok(count)
    }
}

/// Reads `Content-Range: bytes a-b/total` (RFC 9110, section 14.4): the start, and the total where it is known.
fn content_range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let value = answer.header("Content-Range")?;
    let (range, total) = value.strip_prefix("bytes")?.trim_start().split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    Some((start, total.trim().parse().ok()))
}

/// The `Accept` that a manifest needs, on HEAD as on GET.
pub(super) fn accept() -> (&'static str, String) {
    ("Accept", media_type::MANIFEST_TYPES.join(", "))
}

/// Takes the body's own type where the header names none that could be a manifest's.
fn known_type(said: String, bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let vague = matches!(said.as_str(), "" | "application/json" | "application/octet-stream" | "text/plain");
    if !vague {
        return said;
    }
    serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type).unwrap_or(said)
}

/// Reads a paged list of names (distribution-spec, "Listing Tags").
pub(super) fn list(
    endpoint: &Endpoint,
    target: &str,
    field: &str,
    purpose: Purpose<'_>,
    what: &str,
) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut url = endpoint.url(target)?;
    for _ in 0..MAX_PAGES {
        let answer = endpoint.get(&Method::GET, &url, &[], purpose, what)?;
        match answer.status {
            200 => {}
            404 => {
                return Err(StoreError::NotFound { place: endpoint.name.clone(), what: what.to_owned() });
            }
            _ => return Err(endpoint.refused(what, answer)),
        }
        let next = answer
            .headers("Link")
            .find_map(next_link)
            .map(|link| resolve(&url, link))
            .transpose()
            .map_err(|why| endpoint.invalid(what, &why))?;
        let page = read_page(endpoint, answer, what)?;
        let page = match page.get(field) {
            // Go writes an empty list as null.
            None | Some(serde_json::Value::Null) => Vec::new(),
            Some(serde_json::Value::Array(list)) => list.clone(),
            Some(_) => return Err(endpoint.invalid(what, "the answer has another form")),
        };
        let mut grew = false;
        for name in page.iter().filter_map(|name| name.as_str()) {
            if seen.insert(name.to_owned()) {
                names.push(name.to_owned());
                grew = true;
            }
        }
        match next {
            // A link that leads nowhere new would lead there for ever.
            Some(next) if grew => {
                endpoint.same_origin(&next, what)?;
                url = next;
            }
            _ => return Ok(names),
        }
    }
    Err(endpoint.invalid(what, "the list has no end"))
}

/// Reads one page of a list as JSON.
pub(super) fn read_page(endpoint: &Endpoint, answer: Answer, what: &str) -> Result<serde_json::Value> {
    let bytes = answer.read(MAX_PAGE).map_err(|error| endpoint.unreachable(what, error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|_| endpoint.invalid(what, "the answer is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vague_type_is_made_precise_by_the_body() {
        let body = br#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
        assert_eq!(known_type("application/json".into(), body), media_type::OCI_INDEX);
        assert_eq!(known_type(media_type::DOCKER_INDEX.into(), body), media_type::DOCKER_INDEX);
        assert_eq!(known_type(String::new(), b"no json"), "");
    }

    #[test]
    fn what_a_200_sends_too_much_is_skipped() {
        let mut content = Content { inner: &b"0123456789"[..], left: Some(10), skip: 4 };
        let mut text = String::new();
        content.read_to_string(&mut text).unwrap();
        assert_eq!(text, "456789");
        let mut short = Content { inner: &b"012"[..], left: None, skip: 4 };
        assert!(short.read(&mut [0; 8]).is_err());
    }
}
