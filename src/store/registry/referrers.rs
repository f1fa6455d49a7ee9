//! What is attached to a manifest (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").

use serde::Deserialize;
use ureq::http::Method;

use super::super::{Result, StoreError, attached_tag};
use super::Repository;
use super::http::resolve;
use super::pull::{MAX_PAGES, RawManifest, read_page};
use super::url::next_link;
use crate::oci::{Descriptor, Digest, Manifest, media_type};

/// How a registry told what refers to a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referrers {
    /// The registry has the API; this is its list, in its order, the same entry possibly twice.
    Api(Vec<Descriptor>),
    /// It lacks the API; this is the index under the fallback tag, if there is one.
    Fallback(Option<RawManifest>),
}

/// A page of the API's answer: entries are read one by one, so that a strange one does not hide the others.
#[derive(Deserialize)]
struct Page {
    manifests: Option<Vec<serde_json::Value>>,
}

impl Repository {
    /// Asks what refers to a manifest: by the API, else by the fallback tag.
    ///
    /// # Errors
    /// Whatever kept the registry from answering. Only a registry that lacks the API is asked for the tag: one that
    /// is busy or denies access is an error, not an empty list.
    pub fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        match self.listed_referrers(subject)? {
            Some(list) => Ok(Referrers::Api(list)),
            None => Ok(Referrers::Fallback(self.fallback_index(subject)?)),
        }
    }

    /// Reads the API's list; `None` where there is no API.
    pub(super) fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let what = format!("the referrers of {subject}");
        let endpoint = self.endpoint();
        let headers = [("Accept", media_type::OCI_INDEX.to_owned())];
        let mut list = Vec::new();
        let mut url = endpoint.url(&self.target(&format!("referrers/{subject}")))?;
        for page in 0..MAX_PAGES {
            let answer = endpoint.get(&Method::GET, &url, &headers, self.purpose(), &what)?;
            match answer.status {
                200 => {}
                // How registries without the API answer its path.
                400 | 404 | 405 | 406 | 501 if page == 0 => {
                    answer.discard();
                    return Ok(None);
                }
                _ => return Err(endpoint.refused(&what, answer)),
            }
            let next = answer
                .headers("Link")
                .find_map(next_link)
                .map(|link| resolve(&url, link))
                .transpose()
                .map_err(|why| endpoint.invalid(&what, &why))?;
            let parsed = match read_page(endpoint, answer, &what) {
                Ok(parsed) => serde_json::from_value::<Page>(parsed).ok(),
                Err(StoreError::Invalid { .. }) => None,
                Err(error) => return Err(error),
            };
            // A web page with status 200, or JSON that is no index: no API.
            let Some(entries) = parsed.and_then(|page| page.manifests) else {
                if page == 0 {
                    return Ok(None);
                }
                return Err(endpoint.invalid(&what, "a page of the list is not an index"));
            };
            let before = list.len();
            list.extend(
                entries
                    .into_iter()
                    .filter_map(|entry| serde_json::from_value::<Descriptor>(entry).ok())
                    .filter(|entry| entry.digest != *subject),
            );
            match next {
                Some(next) if list.len() > before => {
                    endpoint.same_origin(&next, &what)?;
                    url = next;
                }
                _ => return Ok(Some(list)),
            }
        }
        Err(endpoint.invalid(&what, "the list has no end"))
    }

    /// Reads the index under the fallback tag; what is no index, or is the subject itself, counts as none.
    pub(super) fn fallback_index(&self, subject: &Digest) -> Result<Option<RawManifest>> {
        let manifest = self.get_manifest(&attached_tag(subject, ""))?;
        Ok(manifest.filter(|manifest| {
            !subject.matches(&manifest.bytes)
                && matches!(Manifest::parse(&manifest.bytes, &manifest.media_type), Ok(Manifest::Index(_)))
        }))
    }
}

/// Returns the entries of a fallback index.
pub(super) fn entries(index: &RawManifest) -> Vec<Descriptor> {
    match Manifest::parse(&index.bytes, &index.media_type) {
        Ok(Manifest::Index(parsed)) => parsed.manifests,
        _ => Vec::new(),
    }
}
