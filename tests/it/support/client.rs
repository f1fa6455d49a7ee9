//! A small registry client, independent of barge's own, by which tests fill registries and look into them.

use std::sync::Arc;
use std::time::Duration;

use barge::oci::media_type::MANIFEST_TYPES;
use barge::oci::{Descriptor, Digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::http::Request;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::images::Content;

/// What a registry answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

/// Talks to one registry.
pub struct Client {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
}

impl Client {
    /// A client for a plain HTTP registry without authentication.
    pub fn plain(host: &str) -> Self {
        Self::new(host, None, None)
    }

    /// A client; with the PEM of an authority it speaks TLS and trusts only that.
    pub fn new(host: &str, authority: Option<&[u8]>, credentials: Option<(&str, &str)>) -> Self {
        let roots: Vec<Certificate<'static>> =
            authority.iter().map(|pem| Certificate::from_pem(pem).unwrap()).collect();
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(60)))
            .tls_config(tls)
            .build()
            .new_agent();
        let scheme = if authority.is_some() { "https" } else { "http" };
        Self {
            agent,
            base: format!("{scheme}://{host}"),
            authorization: credentials.map(|(user, password)| {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
            }),
        }
    }

    /// Sends a request to a path, or to a full URL, and returns the answer whatever its status.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Reply {
        self.try_request(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, a broken connection being an error.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Reply, ureq::Error> {
        let url = if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        let mut request = Request::builder().method(method).uri(url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body).unwrap())?,
            None => self.agent.run(request.body(()).unwrap())?,
        };
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let body = response.body_mut().with_config().limit(1 << 32).read_to_vec()?;
        Ok(Reply { status: response.status().as_u16(), headers, body })
    }

    /// Reads a manifest's bytes by tag or digest.
    pub fn manifest(&self, repository: &str, selector: &str) -> Option<Vec<u8>> {
        let accept = MANIFEST_TYPES.join(", ");
        let path = format!("/v2/{repository}/manifests/{selector}");
        let reply = self.request("GET", &path, &[("accept", &accept)], None);
        (reply.status == 200).then_some(reply.body)
    }

    /// The tags of a repository, none if it does not exist.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let reply = self.request("GET", &format!("/v2/{repository}/tags/list"), &[], None);
        if reply.status == 404 {
            return Vec::new();
        }
        serde_json::from_value::<Option<_>>(reply.json()["tags"].clone()).unwrap().unwrap_or_default()
    }

    /// Uploads a blob.
    pub fn push_blob(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        let path = format!("/v2/{repository}/blobs/{digest}");
        if self.request("HEAD", &path, &[], None).status == 200 {
            return;
        }
        let path = format!("/v2/{repository}/blobs/uploads/");
        let opened = self.request("POST", &path, &[], Some(b""));
        assert_eq!(opened.status, 202, "{}", opened.text());
        let location = opened.header("location").unwrap();
        let separator = if location.contains('?') { '&' } else { '?' };
        let headers = [("content-type", "application/octet-stream")];
        let url = format!("{location}{separator}digest={digest}");
        let done = self.request("PUT", &url, &headers, Some(bytes));
        assert_eq!(done.status, 201, "{}", done.text());
    }

    /// Puts a manifest under a tag or digest and returns the answer.
    pub fn put_manifest(&self, repository: &str, selector: &str, media_type: &str, bytes: &[u8]) -> Reply {
        let path = format!("/v2/{repository}/manifests/{selector}");
        self.request("PUT", &path, &[("content-type", media_type)], Some(bytes))
    }

    /// Pushes the whole of `root`, blobs first, manifests children first, then the tag.
    pub fn push(&self, repository: &str, content: &Content, root: &Descriptor, tag: Option<&str>) {
        let closure = content.closure(root);
        let is_manifest = |descriptor: &&Descriptor| content.manifests.contains_key(&descriptor.digest);
        for blob in closure.iter().filter(|d| !is_manifest(d)) {
            self.push_blob(repository, &blob.digest, &content.blobs[&blob.digest]);
        }
        let tagged = tag.map(|tag| (tag.to_owned(), root));
        let by_digest = closure.iter().filter(is_manifest).map(|d| (d.digest.to_string(), d));
        for (selector, manifest) in by_digest.chain(tagged) {
            let bytes = &content.blobs[&manifest.digest];
            let media_type = &content.manifests[&manifest.digest];
            let reply = self.put_manifest(repository, &selector, media_type, bytes);
            assert_eq!(reply.status, 201, "{selector}: {}", reply.text());
        }
    }
}
