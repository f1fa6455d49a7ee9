//! The honest half: the distribution specification's end points over the store, names, tags, blobs and referrers.

use std::sync::Arc;

use barge::oci::Digest;
use serde_json::{Value, json};

use super::Config;
use super::auth::{self, Auth};
use super::fault::Action;
use super::http::{Head, Response};
use super::server::Server;
use super::state::{Phantom, Repository, Store};

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Ping,
    Catalog,
    Tags(String),
    Manifest(String, String),
    Blob(String, String),
    Uploads(String),
    Upload(String, String),
    Referrers(String, String),
}

impl Route {
    fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        match rest.trim_matches('/') {
            "" => return Some(Self::Ping),
            "_catalog" => return Some(Self::Catalog),
            _ => {}
        }
        let rest = rest.strip_prefix('/')?;
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags(name.to_owned()));
        }
        let split =
            |word: &str| rest.rsplit_once(word).map(|(name, tail)| (name.to_owned(), tail.to_owned()));
        if let Some((name, session)) = split("/blobs/uploads/") {
            return Some(if session.is_empty() { Self::Uploads(name) } else { Self::Upload(name, session) });
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return Some(Self::Uploads(name.to_owned()));
        }
        split("/blobs/")
            .map(|(name, digest)| Self::Blob(name, digest))
            .or_else(|| split("/manifests/").map(|(name, selector)| Self::Manifest(name, selector)))
            .or_else(|| split("/referrers/").map(|(name, digest)| Self::Referrers(name, digest)))
    }

    fn repository(&self) -> &str {
        match self {
            Self::Ping | Self::Catalog => "",
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => name,
        }
    }
}

/// A request with what it is answered from.
pub(super) struct Context<'a> {
    pub(super) head: &'a Head,
    pub(super) body: Vec<u8>,
    pub(super) actions: &'a [Action],
    pub(super) config: &'a Config,
    pub(super) host: &'a str,
    pub(super) store: &'a mut Store,
}

impl Server {
    /// Answers a request as the specification says, the policies of the configuration applied; none drops the
    /// connection.
    pub(super) fn answer(
        &self,
        head: &Head,
        body: Vec<u8>,
        actions: &[Action],
        config: &Config,
    ) -> Option<Response> {
        for action in actions {
            if let Action::RedirectTo(host) = action {
                let location = format!("http://{host}{}?expires=1", head.path);
                return Some(Response::new(307).with("Location", &location));
            }
        }
        let mut store = self.store();
        if head.path == "/token" {
            let Auth::Token(config) = &config.auth else {
                return Some(Response::new(404));
            };
            return Some(store.tokens.issue(config, head, &body));
        }
        let Some(route) = Route::parse(&head.path) else {
            return Some(Response::text(404, "404 page not found\n"));
        };
        let mut context = Context { head, body, actions, config, host: &self.host, store: &mut store };
        if let Some(refusal) = context.admit(&route) {
            return Some(refusal);
        }
        if let Route::Manifest(name, selector) = &route {
            return context.manifest(name, selector);
        }
        Some(context.other(&route))
    }

    /// Adds to an upload what arrived before the connection broke.
    pub(super) fn keep_partial(&self, head: &Head, body: &[u8]) {
        if let Some(Route::Upload(_, session)) = Route::parse(&head.path)
            && let Some(upload) = self.store().uploads.get_mut(&session)
        {
            upload.bytes.extend_from_slice(body);
        }
    }
}

impl Context<'_> {
    /// Returns whether a fault of this kind struck.
    pub(super) fn struck(&self, is: impl Fn(&Action) -> bool) -> bool {
        self.actions.iter().any(is)
    }

    /// The repository, if it exists.
    pub(super) fn repository(&self, name: &str) -> Option<&Repository> {
        self.store.repositories.get(name)
    }

    /// Applies authentication and the rules on names; `Some` is the refusal.
    fn admit(&mut self, route: &Route) -> Option<Response> {
        let name = route.repository();
        let writes = !matches!(self.head.method.as_str(), "GET" | "HEAD");
        let action = match self.head.method.as_str() {
            "GET" | "HEAD" => "pull",
            "DELETE" if !matches!(route, Route::Upload(..)) => "delete",
            _ => "push",
        };
        let from = self.head.parameter("from");
        let mut rights = Vec::new();
        if !name.is_empty() {
            rights.push((name, action));
        }
        if let Some(from) = from.as_deref().filter(|_| matches!(route, Route::Uploads(_))) {
            rights.push((from, "pull"));
        }
        let refusal = auth::check(&self.config.auth, &mut self.store.tokens, self.host, self.head, &rights);
        if refusal.is_some() {
            return refusal;
        }
        if name.split('/').count() > self.config.max_path_components {
            return Some(Response::error(400, "NAME_INVALID", "invalid repository name", &Value::Null));
        }
        let absent = !name.is_empty() && !self.store.repositories.contains_key(name);
        if absent && (self.config.requires_repository || !writes) && !matches!(route, Route::Referrers(..)) {
            return Some(Response::error(
                404,
                "NAME_UNKNOWN",
                "repository name not known to registry",
                &json!({ "name": name }),
            ));
        }
        None
    }

    fn other(&mut self, route: &Route) -> Response {
        let method = self.head.method.as_str();
        match (route, method) {
            (Route::Ping, "GET" | "HEAD") => {
                Response::json(200, &json!({})).with("Docker-Distribution-API-Version", "registry/2.0")
            }
            (Route::Catalog, "GET") => {
                let names = self.store.repositories.keys().cloned().collect();
                self.page(names, "repositories", json!({}))
            }
            (Route::Tags(name), "GET") => {
                let repository = self.repository(name);
                let tags = repository.map(|r| r.tags.keys().cloned().collect()).unwrap_or_default();
                self.page(tags, "tags", json!({ "name": name }))
            }
            (Route::Blob(name, digest), "GET" | "HEAD") => self.get_blob(name, digest),
            (Route::Blob(name, digest), "DELETE") if self.config.delete => {
                let removed = digest.parse().is_ok_and(|digest| {
                    let repository = self.store.repositories.get_mut(name);
                    repository.is_some_and(|r| r.blobs.remove(&digest))
                });
                if removed { Response::new(202) } else { blob_unknown(digest) }
            }
            (Route::Uploads(name), "POST") => self.open_upload(name),
            (Route::Upload(name, session), "GET" | "PATCH" | "PUT" | "DELETE") => self.upload(name, session),
            (Route::Referrers(name, digest), "GET") => self.referrers(name, digest),
            _ => Response::error(405, "UNSUPPORTED", "the operation is unsupported", &Value::Null),
        }
    }

    /// One page of a list of names, from after `last`, at most `n`.
    fn page(&self, names: Vec<String>, field: &str, mut document: Value) -> Response {
        let last = self.head.parameter("last").unwrap_or_default();
        let asked = self.head.parameter("n").and_then(|n| n.parse().ok());
        let size = asked.unwrap_or(usize::MAX).min(self.config.page_size);
        let rest: Vec<String> = names.into_iter().filter(|name| *name > last).collect();
        let page = &rest[..size.min(rest.len())];
        document[field] = json!(page);
        let response = Response::json(200, &document);
        match page.last() {
            Some(last) if page.len() < rest.len() => {
                let next = format!("<{}?n={size}&last={last}>; rel=\"next\"", self.head.path);
                response.with("Link", &next)
            }
            _ => response,
        }
    }

    fn referrers(&self, name: &str, subject: &str) -> Response {
        if !self.config.referrers_api {
            return Response::text(404, "404 page not found\n");
        }
        let Ok(subject) = subject.parse::<Digest>() else {
            return Response::error(400, "DIGEST_INVALID", "invalid digest", &Value::Null);
        };
        let mut found =
            self.repository(name).map(|repository| repository.referrers(&subject)).unwrap_or_default();
        let wanted = self.head.parameter("artifactType");
        if let Some(wanted) = &wanted {
            found.retain(|descriptor| descriptor["artifactType"] == json!(wanted));
        }
        let start = self.head.parameter("page").and_then(|n| n.parse().ok()).unwrap_or(0);
        let end = found.len().min(usize::saturating_add(start, self.config.page_size));
        let more = end < found.len();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": barge::oci::media_type::OCI_INDEX,
            "manifests": &found[start.min(end)..end],
        });
        let mut response = Response::json(200, &document);
        response.set("Content-Type", barge::oci::media_type::OCI_INDEX);
        if wanted.is_some() {
            response.set("OCI-Filters-Applied", "artifactType");
        }
        if more {
            let next = format!("<{}?page={end}>; rel=\"next\"", self.head.path);
            response.set("Link", &next);
        }
        response
    }

    fn get_blob(&self, name: &str, digest: &str) -> Response {
        for action in self.actions {
            if let (Action::HeadLies(size), "HEAD") = (action, self.head.method.as_str()) {
                let mut response = Response::new(200).with("Docker-Content-Digest", digest);
                response.wire.announced = Some(*size);
                return response;
            }
        }
        let found = digest.parse::<Digest>().ok().and_then(|digest| {
            let repository = self.repository(name)?;
            if let Some((kind, size)) = repository.phantoms.get(&digest) {
                return Some((digest, Err((*kind, *size))));
            }
            let linked = repository.blobs.contains(&digest);
            let bytes = self.store.blobs.get(&digest).filter(|_| linked)?;
            Some((digest, Ok(Arc::clone(bytes))))
        });
        let Some((digest, blob)) = found else {
            return blob_unknown(digest);
        };
        let base = |status| {
            Response::new(status)
                .with("Content-Type", "application/octet-stream")
                .with("Accept-Ranges", "bytes")
                .with("Docker-Content-Digest", &digest.to_string())
        };
        let total = match &blob {
            Ok(bytes) => bytes.len() as u64,
            Err((_, size)) => *size,
        };
        let ignores = !self.config.ranges || self.struck(|action| matches!(action, Action::IgnoreRange));
        let range = self.head.header("range").filter(|_| !ignores);
        let (mut response, start, end) = match range.map_or(Span::Whole, |text| parse_range(text, total)) {
            Span::Whole => (base(200), 0, total),
            Span::Beyond => {
                let header = format!("bytes */{total}");
                return Response::new(416).with("Content-Range", &header);
            }
            Span::Part(start, end) => {
                let header = format!("bytes {start}-{}/{total}", end - 1);
                (base(206).with("Content-Range", &header), start, end)
            }
        };
        match blob {
            Ok(bytes) => response.body(&bytes[start as usize..end as usize]),
            Err((Phantom::HeadOnly, _)) if self.head.method != "HEAD" => blob_unknown(&digest.to_string()),
            Err(_) => {
                // The length is announced and no byte comes.
                response.wire.announced = Some(end - start);
                response.wire.close = self.head.method != "HEAD";
                response
            }
        }
    }
}

fn blob_unknown(digest: &str) -> Response {
    Response::error(404, "BLOB_UNKNOWN", "blob unknown to registry", &json!({ "digest": digest }))
}

/// What a `Range` header asks for.
enum Span {
    /// Nothing that is understood: the whole.
    Whole,
    /// Bytes that are not there.
    Beyond,
    /// From the first to before the second.
    Part(u64, u64),
}

/// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n`.
fn parse_range(text: &str, total: u64) -> Span {
    let Some((start, end)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-')) else {
        return Span::Whole;
    };
    let (start, end) = match (start.parse::<u64>(), end.parse::<u64>()) {
        (Ok(start), Ok(end)) => (start, end.saturating_add(1).min(total)),
        (Ok(start), Err(_)) if end.is_empty() => (start, total),
        (Err(_), Ok(tail)) if start.is_empty() => (total.saturating_sub(tail), total),
        _ => return Span::Whole,
    };
    if start < end { Span::Part(start, end) } else { Span::Beyond }
}
