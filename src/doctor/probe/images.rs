//! The checks that push manifests: an index of which a child is absent, one that refers to another, ever larger ones.

use std::time::Instant;

use serde_json::json;

use super::super::ledger::Trace;
use super::super::size::{self, Sized};
use super::super::{Finding, Referring, SparseAnswer, State, why};
use super::{Blobs, Prober};
use crate::oci::{Digest, media_type};
use crate::push::sparse::{Refusal, refusal};
use crate::store::registry::Referrers;
use crate::store::{Result, StoreError};

/// The type of what is pushed, which says to everybody whose it is.
const ARTIFACT_TYPE: &str = "application/vnd.barge.doctor.v1";
/// What the tags begin with; the rest is the run's own, for two that ask at once must not read each other's.
const TAG: &str = "barge-doctor";

impl Prober<'_> {
    fn image(&self, blobs: &Blobs, more: &serde_json::Value) -> Vec<u8> {
        let mut image = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": blobs.config.0,
                "size": blobs.config.1.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": blobs.layer.0,
                "size": blobs.layer.1.len(),
            }],
            "annotations": { "vnd.barge.doctor": self.run },
        });
        if let (Some(image), Some(more)) = (image.as_object_mut(), more.as_object()) {
            image.extend(more.clone());
        }
        image.to_string().into_bytes()
    }

    /// Returns a tag of this run only.
    fn tag(&self, what: &str) -> String {
        format!("{TAG}-{what}-{}", self.run)
    }

    /// Puts a manifest under its digest or a tag.
    fn put(&self, tag: Option<String>, media_type: &str, bytes: &[u8]) -> Result<bool> {
        let digest = Digest::sha256(bytes);
        let selector = tag.clone().unwrap_or_else(|| digest.to_string());
        let trace = Trace::Manifest(self.repository.clone(), digest, tag);
        self.ledger
            .write(trace, || self.repository.put_manifest(&selector, media_type, bytes))
            .map(|put| put.subject_indexed)
    }

    /// Pushes an index of which one child is there and the other is not.
    pub(super) fn sparse(&mut self, blobs: &Blobs) {
        let child = self.image(blobs, &json!({}));
        if let Err(error) = self.put(Some(self.tag("image")), media_type::OCI_MANIFEST, &child) {
            let seen = format!("blobs are taken, and the manifest of an image is not ({})", why(&error));
            self.replace(Finding::new("push", State::Failed, seen));
            return self.unknown("sparse", &error);
        }
        let (present, absent) = (Digest::sha256(&child), Digest::sha256(self.run.as_bytes()));
        let entry = |digest: &Digest, size: usize, architecture: &str| {
            json!({
                "mediaType": media_type::OCI_MANIFEST,
                "digest": digest,
                "size": size,
                "platform": { "architecture": architecture, "os": "linux" },
            })
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [entry(&present, child.len(), "amd64"), entry(&absent, child.len(), "arm64")],
            "annotations": { "vnd.barge.doctor": self.run },
        })
        .to_string()
        .into_bytes();
        let begun = Instant::now();
        let refused = |seen: String| {
            Finding::new("sparse", State::Warning, seen).flags(["--sparse", "rewrite"]).hint(
                "the digest of such an image changes; or pack all platforms, or push one alone by --sparse single",
            )
        };
        let tag = self.tag("sparse");
        match self.put(Some(tag.clone()), media_type::OCI_INDEX, &index) {
            Ok(_) => {
                let (answer, seen) = self.read_back(&tag, &index, &absent);
                self.target.facts.sparse = Some(answer);
                self.add(match answer {
                    SparseAnswer::Accepted => Finding::new("sparse", State::Ok, seen),
                    _ => refused(seen),
                });
            }
            Err(error) => {
                let timed_out =
                    matches!(error, StoreError::Unreachable { .. }) && begun.elapsed() >= self.patience;
                let is_there = matches!(self.repository.head_manifest(&present.to_string()), Ok(Some(_)));
                let told = refusal(&error, std::slice::from_ref(&absent), std::slice::from_ref(&present));
                if timed_out || !is_there || told != Refusal::Sparse {
                    return self.unknown("sparse", &error);
                }
                self.target.facts.sparse = Some(SparseAnswer::Refused);
                let how = match &error {
                    StoreError::Unreachable { .. } => "by dropping the connection".to_owned(),
                    error => why(error),
                };
                self.add(refused(format!("an index of which platforms were left out is refused ({how})")));
            }
        }
    }

    /// Reads an index back that was taken: a 201 is no proof.
    fn read_back(&self, tag: &str, index: &[u8], absent: &Digest) -> (SparseAnswer, String) {
        match self.repository.get_manifest(tag) {
            Ok(Some(found)) if found.bytes == index => {}
            Ok(Some(_)) | Err(StoreError::Damaged { .. }) => {
                return (
                    SparseAnswer::Stubbed,
                    "an index of which platforms were left out is taken, and changed".to_owned(),
                );
            }
            Ok(None) => {
                return (SparseAnswer::Stubbed, "an index is taken, and is not there afterwards".to_owned());
            }
            Err(error) => {
                return (
                    SparseAnswer::Accepted,
                    format!("taken, and could not be read back ({})", why(&error)),
                );
            }
        }
        match self.repository.get_manifest(&absent.to_string()) {
            Ok(Some(_)) | Err(StoreError::Damaged { .. } | StoreError::Manifest { .. }) => (
                SparseAnswer::Stubbed,
                "an index of which platforms were left out is taken, and the absent ones are made up"
                    .to_owned(),
            ),
            _ => (
                SparseAnswer::Accepted,
                "an index of which platforms were left out is taken, and handed out as it is".to_owned(),
            ),
        }
    }

    pub(super) fn referrers(&mut self, blobs: &Blobs) {
        let child = self.image(blobs, &json!({}));
        let subject = Digest::sha256(&child);
        let artifact = self.image(
            blobs,
            &json!({
                "artifactType": ARTIFACT_TYPE,
                "subject": {
                    "mediaType": media_type::OCI_MANIFEST,
                    "digest": subject,
                    "size": child.len(),
                },
            }),
        );
        let indexed = match self.put(None, media_type::OCI_MANIFEST, &artifact) {
            Ok(indexed) => indexed,
            Err(error @ StoreError::Refused { status: 400..=428, .. }) => {
                self.target.facts.referrers = Some(Referring::Refused);
                let seen = format!("a manifest that refers to another is refused ({})", why(&error));
                return self.add(
                    Finding::new("referrers", State::Warning, seen)
                        .hint("pack with --attachments signatures or none: what is attached is not taken"),
                );
            }
            Err(error) => return self.unknown("referrers", &error),
        };
        let digest = Digest::sha256(&artifact);
        match self.repository.referrers(&subject) {
            Ok(Referrers::Api(list)) => {
                self.target.facts.referrers = Some(Referring::Api);
                let listed = list.iter().any(|entry| entry.digest == digest);
                self.add(if listed {
                    Finding::new("referrers", State::Ok, "listed by the API")
                } else {
                    let seen = "the API does not list what was just pushed";
                    Finding::new("referrers", State::Warning, seen).hint("some take a while: ask again later")
                });
            }
            Ok(Referrers::Fallback(_)) => {
                self.target.facts.referrers = Some(Referring::Tag);
                let said = if indexed { ", though OCI-Subject says so" } else { "" };
                let seen = format!("no API{said}: a push keeps the tag sha256-… instead");
                self.add(Finding::new("referrers", State::Ok, seen));
            }
            Err(error) => self.unknown("referrers", &error),
        }
    }

    pub(super) fn manifest_size(&mut self, blobs: &Blobs) {
        let plain = self.image(blobs, &json!({ "artifactType": ARTIFACT_TYPE }));
        let found = size::largest(|bytes| {
            let manifest = size::padded(&plain, bytes);
            self.put(Some(self.tag("size")), media_type::OCI_MANIFEST, &manifest).map(|_| ())
        });
        match found {
            Ok(Sized::All(most)) => {
                let seen = format!("manifests of {} are taken", size::shown(most));
                self.add(Finding::new("manifest-size", State::Ok, seen));
            }
            Ok(Sized::Upto { taken, refused, error }) => {
                self.target.facts.max_manifest_bytes = Some(taken);
                let seen = format!(
                    "manifests of {} are taken, of {} refused ({})",
                    size::shown(taken),
                    size::shown(refused),
                    why(&error)
                );
                self.add(Finding::new("manifest-size", State::Warning, seen).hint(
                    "give this document to `barge pack --for`: it names the images that are too large",
                ));
            }
            Err(error) => self.unknown("manifest-size", &error),
        }
    }
}
