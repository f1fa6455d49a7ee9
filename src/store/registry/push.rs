//! Writing: manifests, mounts, and the sessions by which blobs are uploaded (the uploading itself is in `upload`).

use std::fmt;
use std::io::Read;

use ureq::http::Method;

use super::super::{Result, StoreError};
use super::Repository;
use super::endpoint::Purpose;
use super::http::{Answer, resolve};
use super::url::{Url, encode_query};
use crate::oci::Digest;

/// Opens the content of a blob at an offset in bytes; called again for every repetition.
///
/// The reader must give an error instead of the last bytes if the content is not what its digest says: the upload
/// is then broken off, so that the registry never sees a complete blob.
pub type OpenBody<'a> = dyn FnMut(u64) -> Result<Box<dyn Read + Send + 'a>> + 'a;

/// What a registry said to a manifest that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutManifest {
    /// Whether it lists the manifest among the referrers of its subject by itself (`OCI-Subject`); if not, the
    /// fallback index is the client's to write.
    pub subject_indexed: bool,
}

/// What came of asking to take a blob from another repository.
#[derive(Debug)]
pub enum Mount {
    /// The blob is there now, the registry says.
    Mounted,
    /// The registry did not, and opened an upload instead.
    Upload(UploadSession),
    /// The registry will not: not known, not allowed, not supported.
    Refused,
}

/// An upload that a registry has opened.
pub struct UploadSession {
    pub(super) url: Url,
    /// The smallest chunk that the registry takes, in bytes (`OCI-Chunk-Min-Length`), the last one excepted.
    pub(super) smallest_chunk: u64,
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadSession({})", self.url)
    }
}

impl Repository {
    /// Writes a manifest under a tag or its digest, exactly these bytes.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Denied`] with what the registry says, whatever the status (a 404 is
    /// here a missing repository); [`StoreError::Damaged`] if it stored something else; [`StoreError::Unreachable`]
    /// if the connection broke twice, which is also how some registries refuse a sparse index.
    pub fn put_manifest(&self, selector: &str, media_type: &str, bytes: &[u8]) -> Result<PutManifest> {
        let what = format!("PUT {}", self.manifest_name(selector));
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("manifests/{selector}")))?;
        let headers = [("Content-Type", media_type.to_owned())];
        let answer = endpoint.send(&Method::PUT, &url, &headers, bytes, self.purpose(), 1, &what)?;
        if !matches!(answer.status, 200..=204) {
            return Err(endpoint.refused(&what, answer));
        }
        let said = answer.header("Docker-Content-Digest").and_then(|digest| digest.parse::<Digest>().ok());
        if let Some(said) = said
            && !said.matches(bytes)
        {
            let digest = said.same_algorithm_over(bytes);
            return Err(StoreError::Damaged {
                place: self.0.name.to_string(),
                digest,
                why: format!("the registry stored it as {said}"),
            });
        }
        let subject_indexed = answer.header("OCI-Subject").is_some();
        answer.discard();
        Ok(PutManifest { subject_indexed })
    }

    /// Deletes a manifest, or a tag where the registry can (distribution-spec, "Deleting Tags").
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not there, else what the registry says.
    pub fn delete_manifest(&self, selector: &str) -> Result<()> {
        let what = format!("DELETE {}", self.manifest_name(selector));
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target(&format!("manifests/{selector}")))?;
        let scope = format!("{},delete", self.0.scope);
        let purpose = Purpose { repository: &self.0.name.repository, scope: &scope };
        let answer = endpoint.get(&Method::DELETE, &url, &[], purpose, &what)?;
        match answer.status {
            200..=204 => {
                answer.discard();
                Ok(())
            }
            404 => Err(StoreError::NotFound {
                place: self.0.name.registry.clone(),
                what: self.manifest_name(selector),
            }),
            _ => Err(endpoint.refused(&what, answer)),
        }
    }

    /// Asks the registry to take a blob from its repository `from` (distribution-spec, "Mounting a blob from another
    /// repository").
    ///
    /// # Errors
    /// Whatever kept the registry from answering. That it will not is [`Mount::Refused`].
    pub fn mount_blob(&self, digest: &Digest, from: &str) -> Result<Mount> {
        let what = format!("mount of blob {digest} from {from}");
        let endpoint = self.endpoint();
        let url = endpoint
            .url(&self.target("blobs/uploads/"))?
            .with_query("mount", &encode_query(&digest.to_string()))
            .with_query("from", &encode_query(from));
        // A token for this one request: one that grew with every repository would end in a URL too long.
        let scope = format!("{} repository:{from}:pull", self.0.scope);
        let purpose = Purpose { repository: &self.0.name.repository, scope: &scope };
        let answer = match endpoint.send(&Method::POST, &url, &[], &[], purpose, 1, &what) {
            Ok(answer) => answer,
            // Of the token server: the repository mounted from may be denied, or unknown to it.
            Err(StoreError::Denied { .. } | StoreError::Refused { .. }) => return Ok(Mount::Refused),
            Err(error) => return Err(error),
        };
        match answer.status {
            201 => {
                answer.discard();
                Ok(Mount::Mounted)
            }
            202 => Ok(match self.session(&url, &answer) {
                Ok(session) => {
                    answer.discard();
                    Mount::Upload(session)
                }
                Err(_) => Mount::Refused,
            }),
            429 => Err(endpoint.refused(&what, answer)),
            _ => {
                answer.discard();
                Ok(Mount::Refused)
            }
        }
    }

    /// Opens an upload.
    pub(super) fn start_upload(&self, what: &str) -> Result<UploadSession> {
        let endpoint = self.endpoint();
        let url = endpoint.url(&self.target("blobs/uploads/"))?;
        // A session opened by a request whose answer was lost is left to the registry's own cleaning.
        let resets = endpoint.http.options.retry_times;
        let answer = endpoint.send(&Method::POST, &url, &[], &[], self.purpose(), resets, what)?;
        if answer.status != 202 {
            return Err(endpoint.refused(what, answer));
        }
        let session = self.session(&url, &answer).map_err(|why| endpoint.invalid(what, &why))?;
        answer.discard();
        Ok(session)
    }

    fn session(&self, asked: &Url, answer: &Answer) -> std::result::Result<UploadSession, String> {
        Ok(UploadSession {
            url: self.moved(asked, answer)?.ok_or("an upload was opened without a `Location`")?,
            smallest_chunk: answer
                .header("OCI-Chunk-Min-Length")
                .and_then(|length| length.parse().ok())
                .unwrap_or(0),
        })
    }

    /// Resolves the `Location` of an answer, if it has one.
    pub(super) fn moved(&self, asked: &Url, answer: &Answer) -> std::result::Result<Option<Url>, String> {
        let Some(location) = answer.header("Location") else {
            return Ok(None);
        };
        let url = resolve(asked, location)?;
        self.endpoint().http.may_leave(&asked.origin, &url.origin)?;
        Ok(Some(url))
    }
}
