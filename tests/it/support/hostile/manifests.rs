//! Manifests: `Accept` rules, what is checked at a PUT, and the ways to refuse a sparse index.

use std::sync::Arc;

use barge::oci::{Descriptor, Digest, media_type};
use serde_json::{Value, json};

use super::SparsePolicy;
use super::fault::Action;
use super::http::Response;
use super::routes::Context;
use super::state::Stored;
use crate::support::images::children;

impl Context<'_> {
    /// Answers a request for a manifest; none drops the connection.
    pub(super) fn manifest(&mut self, name: &str, selector: &str) -> Option<Response> {
        match self.head.method.as_str() {
            "GET" | "HEAD" => Some(self.get_manifest(name, selector)),
            "PUT" => self.put_manifest(name, selector),
            "DELETE" if self.config.delete => Some(self.delete_manifest(name, selector)),
            _ => Some(Response::error(405, "UNSUPPORTED", "the operation is unsupported", &Value::Null)),
        }
    }

    fn get_manifest(&self, name: &str, selector: &str) -> Response {
        for action in self.actions {
            if let (Action::HeadLies(size), "HEAD") = (action, self.head.method.as_str()) {
                let mut response = Response::new(200).with("Content-Type", media_type::OCI_MANIFEST);
                response.wire.announced = Some(*size);
                return response;
            }
        }
        let unknown =
            Response::error(404, "MANIFEST_UNKNOWN", "manifest unknown", &json!({ "reference": selector }));
        let found = self.repository(name).and_then(|repository| repository.manifest(selector));
        let Some((digest, stored)) = found else {
            return unknown;
        };
        let accept = self.head.headers_joined("accept");
        let oci = matches!(stored.media_type.as_str(), media_type::OCI_MANIFEST | media_type::OCI_INDEX);
        if oci && self.config.strict_accept && !accept.contains(&stored.media_type) {
            return unknown;
        }
        Response::new(200)
            .with("Content-Type", &stored.media_type)
            .with("Docker-Content-Digest", &digest.to_string())
            .with("Etag", &format!("\"{digest}\""))
            .body(stored.bytes.to_vec())
    }

    fn delete_manifest(&mut self, name: &str, selector: &str) -> Response {
        let repository = self.store.repositories.get_mut(name);
        let gone = repository.is_some_and(|repository| match selector.parse::<Digest>() {
            Ok(digest) => {
                repository.tags.retain(|_, tagged| *tagged != digest);
                repository.manifests.remove(&digest).is_some()
            }
            Err(_) => repository.tags.remove(selector).is_some(),
        });
        if gone {
            Response::new(202)
        } else {
            Response::error(404, "MANIFEST_UNKNOWN", "manifest unknown", &Value::Null)
        }
    }

    fn put_manifest(&mut self, name: &str, selector: &str) -> Option<Response> {
        let invalid = |message: &str| {
            Some(Response::error(400, "MANIFEST_INVALID", message, &json!({ "message": message })))
        };
        if self.body.len() > self.config.max_manifest {
            return Some(Response::error(413, "SIZE_INVALID", "manifest too large", &Value::Null));
        }
        let Ok(document) = serde_json::from_slice::<Value>(&self.body) else {
            return invalid("manifest invalid");
        };
        let media_type = self
            .head
            .header("content-type")
            .or(document["mediaType"].as_str())
            .unwrap_or_default()
            .to_owned();
        if document["mediaType"].as_str().is_some_and(|own| own != media_type) {
            return invalid("the media type in the body is not that of the header");
        }
        let digest = match selector.parse::<Digest>() {
            Ok(digest) if !digest.matches(&self.body) => {
                return Some(Response::error(
                    400,
                    "DIGEST_INVALID",
                    "provided digest did not match uploaded content",
                    &Value::Null,
                ));
            }
            Ok(Digest::Sha512(_)) if !self.config.sha512 => {
                return Some(Response::error(
                    400,
                    "DIGEST_INVALID",
                    "invalid digest algorithm",
                    &Value::Null,
                ));
            }
            Ok(digest) => digest,
            Err(_) => Digest::sha256(&self.body),
        };
        if media_type::is_index(&media_type) {
            match self.judge_index(name, &document) {
                Verdict::Take => {}
                Verdict::Refuse(response) => return Some(*response),
                Verdict::Crash => return None,
            }
        } else if self.config.checks_blobs {
            let absent: Vec<Descriptor> = children(&document)
                .into_iter()
                .filter(|child| {
                    let repository = self.repository(name);
                    !media_type::is_foreign_layer(&child.media_type)
                        && !repository.is_some_and(|r| r.accepts_blob(&child.digest))
                })
                .collect();
            if !absent.is_empty() {
                return Some(blobs_unknown(&absent));
            }
        }
        let subject = document["subject"]["digest"].as_str().map(str::to_owned);
        let stored = Stored { media_type, bytes: Arc::new(std::mem::take(&mut self.body)) };
        let repository = self.store.repositories.entry(name.to_owned()).or_default();
        repository.manifests.insert(digest.clone(), stored);
        if selector.parse::<Digest>().is_err() {
            repository.tags.insert(selector.to_owned(), digest.clone());
        }
        let mut response = Response::new(201)
            .with("Location", &format!("/v2/{name}/manifests/{digest}"))
            .with("Docker-Content-Digest", &digest.to_string());
        if let (Some(subject), true) = (subject, self.config.referrers_api) {
            response.set("OCI-Subject", &subject);
        }
        Some(response)
    }

    fn judge_index(&mut self, name: &str, document: &Value) -> Verdict {
        let listed = children(document);
        if self.struck(|action| matches!(action, Action::ChildrenUnknown)) {
            return Verdict::Refuse(Box::new(blobs_unknown(&listed)));
        }
        let repository = self.repository(name);
        let absent: Vec<Descriptor> = listed
            .iter()
            .filter(|child| {
                !repository.is_some_and(|repository| {
                    repository.manifests.contains_key(&child.digest)
                        || (!media_type::is_manifest(&child.media_type)
                            && repository.accepts_blob(&child.digest))
                })
            })
            .cloned()
            .collect();
        if self.struck(|action| matches!(action, Action::StoreStubs)) {
            let repository = self.store.repositories.entry(name.to_owned()).or_default();
            for child in absent {
                let stub = Stored { media_type: child.media_type, bytes: Arc::new(b"{}".to_vec()) };
                repository.manifests.insert(child.digest, stub);
            }
            return Verdict::Take;
        }
        if self.config.sparse == SparsePolicy::CrashOnPlatformless {
            let without = listed.iter().any(|child| child.platform.is_none());
            return if without { Verdict::Crash } else { Verdict::Take };
        }
        let Some(first) = absent.first() else {
            return Verdict::Take;
        };
        let refuse = |code: &str, message: &str| {
            Verdict::Refuse(Box::new(Response::error(400, code, message, &Value::Null)))
        };
        match self.config.sparse {
            SparsePolicy::Accept | SparsePolicy::CrashOnPlatformless => Verdict::Take,
            SparsePolicy::RefuseLikeV2 => Verdict::Refuse(Box::new(blobs_unknown(&absent))),
            SparsePolicy::RefuseLikeZot => refuse("MANIFEST_INVALID", "manifest invalid"),
            SparsePolicy::RefuseLikeQuay => {
                let message = format!("Could not find child manifest with digest `{}`", first.digest);
                Verdict::Refuse(Box::new(Response::error(
                    400,
                    "MANIFEST_INVALID",
                    "manifest invalid",
                    &json!({ "message": message }),
                )))
            }
            SparsePolicy::RefuseLikeEcr => refuse(
                "ReferencedImagesNotFoundException",
                "The image manifest references images that do not exist in the repository",
            ),
        }
    }
}

/// What is thought of an index.
enum Verdict {
    Take,
    Refuse(Box<Response>),
    Crash,
}

/// Distribution's answer to a manifest whose parts are absent: one error for each.
fn blobs_unknown(absent: &[Descriptor]) -> Response {
    let errors: Vec<_> = absent
        .iter()
        .map(|child| ("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", json!(child.digest)))
        .collect();
    Response::errors(400, &errors)
}
