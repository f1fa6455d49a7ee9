//! Classic chart repositories: what is chosen, checked and refused, and who is asked for what.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barge::chart::{self, Reach};
use barge::input::{ChartOrder, ChartPlace};
use barge::oci::Digest;
use barge::store::registry::{Client, Options};

use super::{blob, manifest, names, open, order, package, refused};
use crate::support::hostile::{Action, Fault, Hostile, Response};
use crate::support::images::{Blob, Content};
use crate::support::peers::RealRegistry;

/// A repository at `/stable` of a server that answers what it is told.
pub(super) struct Repository(Hostile);

impl Repository {
    pub(super) fn new(index: &str) -> Self {
        let server = Hostile::honest();
        server.fault(Fault::on("GET", "/stable/index.yaml", Action::Respond(Response::text(200, index))));
        Self(server)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/stable", self.0.host())
    }

    pub(super) fn has(&self, path: &str, bytes: &[u8]) {
        self.0.fault(Fault::on("GET", path, Action::Respond(Response::new(200).body(bytes))));
    }

    pub(super) fn order(&self, version: Option<&str>) -> ChartOrder {
        order(ChartPlace::Repository {
            url: self.url(),
            chart: "app".to_owned(),
            version: version.map(ToOwned::to_owned),
        })
    }
}

/// An index of these versions of `app`: version, address, digest.
pub(super) fn index(entries: &[(&str, &str, &str)]) -> String {
    let mut text = "apiVersion: v1\nentries:\n  other:\n  - version: 9.0.0\n  app:\n".to_owned();
    for (version, url, digest) in entries {
        text += &format!(
            "  - version: {version}\n    urls: [{url:?}]\n    digest: {digest:?}\n    created: 2024-01-01\n"
        );
    }
    text
}

#[test]
fn a_repository_gives_the_newest_release_or_the_version_named_and_its_digest_is_checked() {
    let old = package("app", "1.0.0", Some("r.example/a:1"));
    let new = package("app", "1.10.0", Some("r.example/a:10"));
    let hex = |bytes: &[u8]| Digest::sha256(bytes).hex();
    let repository = Repository::new(&index(&[
        ("1.0.0", "../files/app-1.0.0.tgz", &format!("sha256:{}", hex(&old))),
        ("1.10.0", "app-1.10.0.tgz", &hex(&new)),
        ("2.0.0-rc.1", "app-2.tgz", ""),
        ("1.9.0", "app-1.9.0.tgz", &hex(b"other")),
    ]));
    repository.has("/files/app-1.0.0.tgz", &old);
    repository.has("/stable/app-1.10.0.tgz", &new);
    repository.has("/stable/app-1.9.0.tgz", &old);
    repository.has("/stable/app-2.tgz", &package("app", "2.0.0-rc.1", Some("r.example/a:2")));
    let charted = open(&repository.order(None)).unwrap();
    assert_eq!(charted.name.to_string(), "localhost/charts/app:1.10.0");
    assert_eq!((names(&charted), charted.warnings.len()), (vec!["r.example/a:10".to_owned()], 0));
    assert_eq!(blob(&charted, &manifest(&charted).1["layers"][0]), new);
    assert_eq!(names(&open(&repository.order(Some("1.0.0"))).unwrap()), ["r.example/a:1"]);
    let unproved = open(&repository.order(Some("2.0.0-rc.1"))).unwrap();
    assert_eq!(unproved.name.to_string(), "localhost/charts/app:2.0.0-rc.1");
    assert!(
        refused(open(&repository.order(Some("1.9.0"))))
            .contains("its `index.yaml` announces it, and the bytes hash to")
    );
    let error = refused(open(&repository.order(Some("3.0.0"))));
    assert!(
        error.contains("lists no chart `app` of version `3.0.0`; the newest versions are 2.0.0-rc.1, 1.10.0"),
        "{error}"
    );
    let mut absent = repository.order(None);
    absent.place = ChartPlace::Repository { url: repository.url(), chart: "gone".to_owned(), version: None };
    assert!(refused(open(&absent)).contains("lists no release of a chart `gone`"));
}

#[test]
fn credentials_stay_with_the_repository_and_hosts_that_are_not_allowed_are_not_asked() {
    let bytes = package("app", "1.0.0", Some("r.example/a:1"));
    let other = Hostile::honest();
    other.fault(Fault::on("GET", "/app.tgz", Action::Respond(Response::new(200).body(bytes.clone()))));
    let repository = Hostile::honest();
    let text =
        index(&[("1.0.0", &format!("http://{}/app.tgz", other.host()), &Digest::sha256(&bytes).hex())]);
    repository.fault(Fault::on(
        "GET",
        "/index.yaml",
        Action::Custom(Arc::new(move |head| match head.header("authorization") {
            Some("Basic bWU6c2VjcmV0") => Response::text(200, &text),
            _ => Response::text(401, "who are you").with("WWW-Authenticate", "Basic realm=\"x\""),
        })),
    ));
    let place = |url: String| order(ChartPlace::Repository { url, chart: "app".to_owned(), version: None });
    let with = |credentials: Vec<(Option<String>, String, String)>| {
        let client = Client::new(Options { credentials, retry_times: 1, ..Options::default() }).unwrap();
        let reach = Reach::new(&client, &std::env::temp_dir());
        chart::open(&place(format!("http://{}", repository.host())), &reach)
    };
    let me = |host: Option<&str>| (host.map(ToOwned::to_owned), "me".to_owned(), "secret".to_owned());
    // What was given for every registry is not shown to a chart repository.
    let error = refused(with(vec![me(None)]));
    assert!(error.contains("denied access") && !error.contains("secret"), "{error}");
    assert!(repository.requests().iter().all(|request| request.head.header("authorization").is_none()));
    let charted = with(vec![me(Some(repository.host())), me(Some(other.host()))]).unwrap();
    assert_eq!(names(&charted), ["r.example/a:1"]);
    assert!(other.requests().iter().all(|request| request.head.header("authorization").is_none()));
    assert!(repository.requests().iter().any(|request| request.head.header("authorization").is_some()));
    // Plain HTTP to a host that is not on this machine, other schemes, user names in the address.
    for (url, why) in [
        ("http://charts.registry.example/x", "plain HTTP is not allowed for charts.registry.example"),
        ("file:///etc", "neither http nor https"),
        ("https://me:secret@charts.registry.example", "user information"),
    ] {
        let error = refused(open(&place(url.to_owned())));
        assert!(error.contains(why) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn an_index_that_is_broken_endless_or_elsewhere_is_said() {
    let repository = Repository::new("entries: [");
    let error = refused(open(&repository.order(None)));
    assert!(error.contains(&repository.url()) && error.contains("its `index.yaml`: "), "{error}");
    let repository = Repository::new("entries: {}");
    repository.0.clear_faults();
    assert!(refused(open(&repository.order(None))).contains("does not have /stable/index.yaml"));
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, last) in
        [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f"), ("h", "g"), ("i", "h")]
    {
        bomb += &format!(
            "{name}: &{name} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"
        );
    }
    bomb += "entries: *i\n";
    let start = Instant::now();
    let error = refused(open(&Repository::new(&bomb).order(None)));
    assert!(error.contains("`index.yaml`") && start.elapsed() < Duration::from_secs(20), "{error}");
    // More than is read: known by the announced length, before the body.
    let large = Response {
        wire: crate::support::hostile::http::Wire { announced: Some(65 << 20), ..Default::default() },
        ..Response::text(200, "")
    };
    let repository = Repository::new("");
    repository.0.clear_faults();
    repository.0.fault(Fault::on("GET", "/stable/index.yaml", Action::Respond(large)));
    assert!(
        refused(open(&repository.order(None))).contains("has more than the 67108864 bytes that are read")
    );
    // The file is another chart than the one asked for.
    let bytes = package("evil", "1.0.0", None);
    let repository = Repository::new(&index(&[("1.0.0", "a.tgz", &Digest::sha256(&bytes).hex())]));
    repository.has("/stable/a.tgz", &bytes);
    assert!(
        refused(open(&repository.order(None))).contains("chart `app` was asked for, and it is evil 1.0.0")
    );
}

#[test]
fn an_index_may_point_into_a_registry() {
    let registry = RealRegistry::start();
    let bytes = package("app", "1.0.0+x", Some("r.example/a:1"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tgz");
    fs::write(&path, bytes).unwrap();
    let local = open(&order(ChartPlace::File(path))).unwrap();
    let (text, document) = manifest(&local);
    let mut content = Content::new();
    for part in [&document["config"], &document["layers"][0]] {
        content.blob(&Blob::new(part["mediaType"].as_str().unwrap(), blob(&local, part)));
    }
    let root = content.manifest_bytes("application/vnd.oci.image.manifest.v1+json", text);
    registry.push("charts/app", &content, &root, Some("1.0.0_x"));
    let name = format!("{}/charts/app:1.0.0_x", registry.host());
    let repository =
        Repository::new(&index(&[("1.0.0+x", &format!("oci://{}/charts/app:1.0.0+x", registry.host()), "")]));
    let place = |url: &str, version: Option<&str>| {
        order(ChartPlace::Repository {
            url: url.to_owned(),
            chart: "app".to_owned(),
            version: version.map(ToOwned::to_owned),
        })
    };
    for wanted in
        [place(&repository.url(), None), place(&format!("oci://{}/charts", registry.host()), Some("1.0.0+x"))]
    {
        let charted = open(&wanted).unwrap();
        assert_eq!(
            (charted.name.to_string(), charted.reference.unwrap().to_string()),
            (name.clone(), name.clone())
        );
    }
    let error = refused(open(&place(&format!("oci://{}/charts", registry.host()), None)));
    assert!(error.contains("needs a version"), "{error}");
}
