//! The honest half: mounts and uploads.

use std::sync::Arc;

use barge::oci::Digest;
use serde_json::{Value, json};

use super::Mount;
use super::fault::{Action, LocationForm};
use super::http::Response;
use super::routes::Context;
use super::state::Repository;

impl Context<'_> {
    pub(super) fn open_upload(&mut self, name: &str) -> Response {
        if let Some(digest) = self.head.parameter("mount")
            && let Some(response) = self.mount(name, &digest)
        {
            return response;
        }
        if self.config.single_post
            && let Some(digest) = self.head.parameter("digest")
        {
            let body = std::mem::take(&mut self.body);
            return self.finish_blob(name, &digest, body);
        }
        self.store.repositories.entry(name.to_owned()).or_default();
        let session = self.store.open_upload(name);
        self.progress(202, name, &session)
    }

    /// Mounts a blob; none means that an upload is opened instead.
    fn mount(&mut self, name: &str, digest: &str) -> Option<Response> {
        let parsed: Digest = digest.parse().ok()?;
        let has = |repository: &Repository| repository.accepts_blob(&parsed);
        let found = match self.config.mount {
            Mount::Status(status) => {
                let code = if status == 401 { "UNAUTHORIZED" } else { "UNSUPPORTED" };
                return Some(Response::error(status, code, "no mounting here", &Value::Null));
            }
            Mount::Never => None,
            Mount::Anywhere => self.store.repositories.values().find(|r| has(r)),
            Mount::Honest => {
                let from = self.head.parameter("from")?;
                self.store.repositories.get(&from).filter(|r| has(r))
            }
        }?;
        let phantom = found.phantoms.get(&parsed).copied();
        let target = self.store.repositories.entry(name.to_owned()).or_default();
        match phantom {
            Some(phantom) => {
                target.phantoms.insert(parsed, phantom);
            }
            None => {
                target.blobs.insert(parsed);
            }
        }
        Some(self.created_blob(name, digest))
    }

    fn created_blob(&self, name: &str, digest: &str) -> Response {
        let path = format!("/v2/{name}/blobs/{digest}");
        Response::new(201).with("Location", &self.located(&path)).with("Docker-Content-Digest", digest)
    }

    /// The form of `Location` in force.
    fn form(&self) -> &LocationForm {
        let of_action = self.actions.iter().find_map(|action| match action {
            Action::Location(form) => Some(form),
            _ => None,
        });
        of_action.unwrap_or(&self.config.location)
    }

    fn located(&self, path: &str) -> String {
        match self.form() {
            LocationForm::Relative | LocationForm::WithQuery => path.to_owned(),
            LocationForm::Absolute => format!("http://{}{path}", self.host),
            LocationForm::OtherScheme => format!("https://{}{path}", self.host),
            LocationForm::OtherHost(host) => format!("http://{host}{path}"),
        }
    }

    /// Tells how far an upload is.
    fn progress(&mut self, status: u16, name: &str, session: &str) -> Response {
        let mut path = format!("/v2/{name}/blobs/uploads/{session}");
        let with_query = *self.form() == LocationForm::WithQuery;
        let upload = self.store.uploads.get_mut(session).unwrap();
        upload.state += 1;
        if with_query {
            path += &format!("?_state=s%2B{}&_lb=a", upload.state);
        }
        // "0-0" for an empty upload is what distribution answers.
        let range = format!("0-{}", upload.bytes.len().saturating_sub(1));
        let mut response = Response::new(status).with("Range", &range).with("Docker-Upload-UUID", session);
        response.set("Location", &self.located(&path));
        if let (Some(length), "POST") = (self.config.chunk_min_length, self.head.method.as_str()) {
            response.set("OCI-Chunk-Min-Length", &length.to_string());
        }
        response
    }

    pub(super) fn upload(&mut self, name: &str, session: &str) -> Response {
        let unknown =
            Response::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", &Value::Null);
        if self.struck(|action| matches!(action, Action::ForgetSession)) {
            self.store.uploads.remove(session);
        }
        let with_query = *self.form() == LocationForm::WithQuery;
        let Some(upload) = self.store.uploads.get_mut(session) else {
            return unknown;
        };
        if upload.repository != name {
            return unknown;
        }
        let method = self.head.method.as_str();
        if method == "GET" {
            return self.progress(204, name, session);
        }
        if method == "DELETE" {
            self.store.uploads.remove(session);
            return Response::new(204);
        }
        let state = self.head.parameter("_state");
        if with_query && state != Some(format!("s+{}", upload.state)) {
            return Response::error(400, "BLOB_UPLOAD_INVALID", "stale upload location", &Value::Null);
        }
        if let Some(range) = self.head.header("content-range") {
            let start = range.split_once('-').and_then(|(start, _)| start.parse::<usize>().ok());
            if start != Some(upload.bytes.len()) {
                return self.progress(416, name, session);
            }
        }
        if method == "PATCH" {
            // A chunk below the minimum can only be the last: the one after it betrays that it was not.
            if upload.had_short_chunk {
                let message = "a chunk below the minimum was not the last";
                return Response::error(400, "BLOB_UPLOAD_INVALID", message, &Value::Null);
            }
            let length = self.body.len() as u64;
            upload.had_short_chunk = self.config.chunk_min_length.is_some_and(|min| length < min);
            upload.bytes.append(&mut self.body);
            return self.progress(202, name, session);
        }
        let Some(digest) = self.head.parameter("digest") else {
            return Response::error(400, "DIGEST_INVALID", "no digest given", &Value::Null);
        };
        let mut bytes = std::mem::take(&mut upload.bytes);
        bytes.append(&mut self.body);
        self.store.uploads.remove(session);
        self.finish_blob(name, &digest, bytes)
    }

    fn finish_blob(&mut self, name: &str, digest: &str, bytes: Vec<u8>) -> Response {
        match digest.parse::<Digest>() {
            Ok(parsed) if parsed.matches(&bytes) => {
                self.store.put_blob(name, &parsed, Arc::new(bytes));
                self.created_blob(name, digest)
            }
            _ => Response::error(
                400,
                "DIGEST_INVALID",
                "provided digest did not match uploaded content",
                &json!(digest),
            ),
        }
    }
}
