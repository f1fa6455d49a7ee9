//! The hostile registry is honest by default, and its faults do what they say.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{temp, two_platforms};
use crate::support::archives::write_layout;
use crate::support::client::Client;
use crate::support::hostile::fault::{retry_date, too_many_html, too_many_json, too_many_text};
use crate::support::hostile::{
    Action, Auth, Config, Fault, Hostile, LocationForm, Matcher, Mount, Phantom, Response, SparsePolicy,
    TokenAuth,
};
use crate::support::images::{Blob, Content, layer, plain_layer};
use crate::support::peers::{
    PASSWORD, RealRegistry, RegistryOptions, USER, blob_exists, push_content, skopeo,
};

#[test]
fn odd_content_is_served_as_it_is() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[]);
    let opaque = content.blob(&Blob::new("application/vnd.buildkit.cacheconfig.v0", "cache"));
    let empty = content.blob(&Blob::new("application/octet-stream", ""));
    let nested = content.index(std::slice::from_ref(&image));
    let index = content.index(&[nested, opaque, empty.clone()]);
    hostile.seed("a", &content, &index, Some("v1"));
    let client = Client::plain(hostile.host());
    assert_eq!(client.manifest("a", "v1").unwrap(), content.blobs[&index.digest]);
    assert!(blob_exists(hostile.host(), "a", &empty.digest));
    let nothing = content.null_layers();
    assert!(String::from_utf8_lossy(&content.blobs[&nothing.digest]).contains("\"layers\": null"));
    let old = content.schema1(&layer(1, 10));
    assert_eq!(content.closure(&old).len(), 2);
    let foreign = content.foreign_image(&layer(2, 10), "https://layers.example/x", false, &layer(3, 10));
    assert_eq!(content.closure(&foreign).len(), 3);
    client.push("b", &content, &foreign, Some("v1"));
    assert_eq!(hostile.tags("b")["v1"], foreign.digest);
}

#[test]
fn referrers_are_listed_and_paged() {
    let hostile = Hostile::start(Config { referrers_api: true, page_size: 2, ..Config::default() });
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 100)]);
    let client = Client::plain(hostile.host());
    client.push("a", &content, &image, Some("v1"));
    for (payload, kind) in [("1", "text/one"), ("2", "text/two"), ("3", "text/two")] {
        let artifact = content.artifact(&image, kind, payload.as_bytes());
        client.push("a", &content, &artifact, None);
    }
    let put = &hostile.requests_on("PUT", "/manifests/");
    assert_eq!(put.len(), 5);
    let path = format!("/v2/a/referrers/{}", image.digest);
    let first = client.request("GET", &path, &[], None);
    assert_eq!(first.json()["manifests"].as_array().unwrap().len(), 2);
    let link = first.header("link").unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    let rest = client.request("GET", next, &[], None);
    assert_eq!(rest.json()["manifests"].as_array().unwrap().len(), 1);
    let filtered = client.request("GET", &format!("{path}?artifactType=text/one"), &[], None);
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);
    hostile.configure(|config| config.referrers_api = false);
    assert_eq!(client.request("GET", &path, &[], None).status, 404);
}

#[test]
fn sparse_indexes_are_refused_in_many_ways() {
    let mut content = Content::new();
    let here = content.image("linux/amd64", &[layer(1, 100)]);
    let absent = Content::new().image("linux/arm64", &[layer(2, 100)]);
    let mut plain = here.clone();
    plain.platform = None;
    let index = content.index(&[here.clone(), absent.clone()]);
    let without_platform = content.index(&[plain]);
    let put = |hostile: &Hostile, descriptor: &barge::oci::Descriptor| {
        let path = "/v2/a/manifests/v1";
        let bytes = &content.blobs[&descriptor.digest];
        let headers = [("content-type", descriptor.media_type.as_str())];
        Client::plain(hostile.host()).try_request("PUT", path, &headers, Some(bytes))
    };
    for (policy, status, code, tells) in [
        (SparsePolicy::Accept, 201, "", false),
        (SparsePolicy::RefuseLikeV2, 400, "MANIFEST_BLOB_UNKNOWN", true),
        (SparsePolicy::RefuseLikeZot, 400, "MANIFEST_INVALID", false),
        (SparsePolicy::RefuseLikeQuay, 400, "MANIFEST_INVALID", true),
        (SparsePolicy::RefuseLikeEcr, 400, "ReferencedImagesNotFoundException", false),
    ] {
        let hostile = Hostile::start(Config { sparse: policy, ..Config::default() });
        hostile.seed("a", &content, &here, None);
        let reply = put(&hostile, &index).unwrap();
        assert_eq!(reply.status, status, "{policy:?}: {}", reply.text());
        assert!(reply.text().contains(code), "{policy:?}: {}", reply.text());
        assert_eq!(reply.text().contains(&absent.digest.to_string()), tells);
    }
    let hostile = Hostile::start(Config { sparse: SparsePolicy::CrashOnPlatformless, ..Config::default() });
    hostile.seed("a", &content, &here, None);
    assert!(put(&hostile, &without_platform).is_err());
    assert_eq!(put(&hostile, &index).unwrap().status, 201);
    hostile.fault(Fault::on("PUT", "/manifests/", Action::StoreStubs).once());
    assert_eq!(put(&hostile, &index).unwrap().status, 201);
    let stub = hostile.manifest("a", &absent.digest.to_string());
    assert_eq!(stub.unwrap(), b"{}");
    hostile.fault(Fault::on("PUT", "/manifests/", Action::ChildrenUnknown).once());
    assert_eq!(put(&hostile, &index).unwrap().status, 400);
    assert_eq!(put(&hostile, &index).unwrap().status, 201);
}

/// A hostile registry with one blob in `a`, a client of it, and the blob's path.
fn with_blob(config: Config) -> (Hostile, Client, Blob, String) {
    let hostile = Hostile::start(config);
    let mut content = Content::new();
    let blob = layer(1, 10_000);
    let image = content.image("linux/amd64", std::slice::from_ref(&blob));
    hostile.seed("a", &content, &image, Some("v1"));
    let client = Client::plain(hostile.host());
    let path = format!("/v2/a/blobs/{}", blob.digest);
    (hostile, client, blob, path)
}

#[test]
fn downloads_break_in_every_way() {
    let (hostile, client, blob, path) = with_blob(Config::default());
    let once = |action| {
        hostile.clear_faults();
        hostile.fault(Fault::on("GET", "/blobs/", action).once())
    };
    let get = |headers: &[(&str, &str)]| client.try_request("GET", &path, headers, None);
    let range: &[(&str, &str)] = &[("range", "bytes=10-19")];

    let part = get(range).unwrap();
    assert_eq!((part.status, part.body.as_slice()), (206, &blob.bytes[10..20]));
    let id = once(Action::CutBody(100));
    assert!(get(&[]).is_err());
    assert_eq!(get(&[]).unwrap().body, blob.bytes);
    assert_eq!(hostile.struck(id), 1);
    once(Action::ExtraBytes(3));
    assert_eq!(get(&[]).unwrap().body.len(), blob.bytes.len() + 3);
    once(Action::ShortBody(3));
    assert_eq!(get(&[]).unwrap().body, blob.bytes[..3]);
    once(Action::FlipByte(5));
    assert_eq!(get(&[]).unwrap().body[5], blob.bytes[5] ^ 1);
    once(Action::IgnoreRange);
    assert_eq!(get(range).unwrap().status, 200);
    once(Action::EmptyPartial);
    let empty = get(range).unwrap();
    assert_eq!((empty.status, empty.body.len()), (206, 0));
    once(Action::WrongContentRange);
    let wrong = get(range).unwrap();
    let total = blob.bytes.len();
    assert_eq!(wrong.header("content-range"), Some(format!("bytes 11-20/{total}").as_str()));
    once(Action::WrongDigestHeader);
    let wrong = get(&[]).unwrap();
    assert_ne!(wrong.header("docker-content-digest"), Some(blob.digest.to_string().as_str()));
    once(Action::NoDigestHeader);
    assert!(get(&[]).unwrap().header("docker-content-digest").is_none());
    for action in [Action::Http10, Action::ConnectionClose, Action::Chunked] {
        once(action);
        assert_eq!(get(&[]).unwrap().body, blob.bytes);
    }
    once(Action::CloseBefore);
    assert!(get(&[]).is_err());
    let started = Instant::now();
    once(Action::StallBody(100, Duration::from_millis(200)));
    assert_eq!(get(&[]).unwrap().body, blob.bytes);
    assert!(started.elapsed() >= Duration::from_millis(200));
    let other = Hostile::honest();
    once(Action::RedirectTo(other.host().to_owned()));
    let moved = get(&[]).unwrap();
    assert_eq!(moved.status, 307);
    assert!(moved.header("location").unwrap().contains(other.host()));
    once(Action::warning("old"));
    assert_eq!(get(&[]).unwrap().header("warning"), Some("299 - \"old\""));
    let date = retry_date(Duration::from_secs(2));
    for action in [too_many_json(Some("1")), too_many_text(Some(&date)), too_many_html(None)] {
        once(action);
        assert_eq!(get(&[]).unwrap().status, 429);
    }
}

#[test]
fn phantoms_are_there_only_in_name() {
    let (hostile, client, blob, path) = with_blob(Config::default());
    let size = blob.bytes.len() as u64;
    hostile.phantom("a", &blob.digest, size, Phantom::LikeV2);
    let head = client.request("HEAD", &path, &[], None);
    assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
    assert!(client.try_request("GET", &path, &[("range", "bytes=0-0")], None).is_err());
    hostile.phantom("a", &blob.digest, size, Phantom::HeadOnly);
    assert_eq!(client.request("HEAD", &path, &[], None).status, 200);
    assert_eq!(client.request("GET", &path, &[], None).status, 404);
    let manifest = client.manifest("a", "v1").unwrap();
    let media_type = barge::oci::media_type::OCI_MANIFEST;
    let refused = client.put_manifest("a", "v2", media_type, &manifest);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["errors"][0]["detail"], json!(blob.digest.to_string()));
}

/// The phantom of kind `LikeV2` is what Debian's registry does with its stock cache.
#[test]
fn phantoms_do_as_a_real_registry_does() {
    let real =
        RealRegistry::start_with(&RegistryOptions { inmemory_cache: true, ..RegistryOptions::default() });
    let (hostile, _, blob, path) = with_blob(Config::default());
    push_content(
        real.host(),
        "a",
        &{
            let mut content = Content::new();
            content.image("linux/amd64", std::slice::from_ref(&blob));
            content
        },
        &blob.descriptor(),
        None,
    );
    real.delete_blob_data(&blob.digest);
    hostile.phantom("a", &blob.digest, blob.bytes.len() as u64, Phantom::LikeV2);
    let mount = format!("/v2/b/blobs/uploads/?mount={}&from=a", blob.digest);
    let answers = |host: &str| {
        let client = Client::plain(host);
        let head = client.request("HEAD", &path, &[], None);
        let length = head.header("content-length").map(str::to_owned);
        let whole = client.try_request("GET", &path, &[], None).is_err();
        let part = client.try_request("GET", &path, &[("range", "bytes=0-0")], None).is_err();
        let mounted = client.request("POST", &mount, &[], Some(b"")).status;
        (head.status, length, whole, part, mounted)
    };
    let expected = (200, Some(blob.bytes.len().to_string()), true, true, 201);
    assert_eq!(answers(real.host()), expected);
    assert_eq!(answers(hostile.host()), expected);
}

#[test]
fn skopeo_uploads_in_chunks_of_unknown_number() {
    let hostile = Hostile::start(Config { location: LocationForm::Relative, ..Config::default() });
    let temp = temp();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[plain_layer(1, 50_000)]);
    write_layout(temp.path(), &content, &[("v1", image)]);
    let (source, target) =
        (format!("oci:{}:v1", temp.path().display()), format!("docker://{}/a:v1", hostile.host()));
    skopeo([
        "copy",
        "--dest-tls-verify=false",
        "--dest-compress-format=gzip",
        "--dest-compress",
        &source,
        &target,
    ]);
    let patches = hostile.requests_on("PATCH", "/uploads/");
    let chunked =
        |request: &&crate::support::hostile::Logged| request.head.header("transfer-encoding").is_some();
    assert!(patches.iter().any(|r| chunked(&r)), "{}", hostile.transcript());
}

#[test]
fn early_ends_and_lost_answers() {
    let (hostile, client, blob, _) = with_blob(Config { chunk_min_length: Some(1000), ..Config::default() });
    let open = || client.request("POST", "/v2/b/blobs/uploads/", &[], Some(b""));
    assert_eq!(open().header("oci-chunk-min-length"), Some("1000"));
    let opened = open();
    let location = opened.header("location").unwrap();
    let patch = |bytes: &[u8]| client.request("PATCH", location, &[], Some(bytes)).status;
    assert_eq!([patch(&[0; 1000]), patch(&[0; 10]), patch(&[0; 10])], [202, 202, 400]);
    // The work is done and the client does not hear of it.
    hostile.fault(Fault::on("PUT", "/uploads/", Action::DropAnswer).once());
    let opened = open();
    let url = format!("{}?digest={}", opened.header("location").unwrap(), blob.digest);
    assert!(client.try_request("PUT", &url, &[], Some(&blob.bytes)).is_err());
    assert!(hostile.has_blob("b", &blob.digest));
    assert_eq!(hostile.requests_on("PUT", "").last().unwrap().status, None);
    // Without lingering, whoever goes on sending is cut off.
    let page = Response::html(413, "Request Entity Too Large");
    hostile.fault(Fault::on("POST", "", Action::RespondAndReset(page)).once());
    let reply = client.try_request("POST", "/v2/b/blobs/uploads/", &[], Some(&vec![0; 8_000_000]));
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status == 413));
    for form in [LocationForm::OtherScheme, LocationForm::OtherHost("127.0.0.1:9".to_owned())] {
        hostile.clear_faults();
        hostile.fault(Fault::on("POST", "", Action::Location(form.clone())));
        let opened = open();
        let location = opened.header("location").unwrap();
        assert_eq!(location.starts_with("https://"), form == LocationForm::OtherScheme);
        assert_eq!(location.contains(hostile.host()), form == LocationForm::OtherScheme);
    }
}

#[test]
fn uploads_go_on_where_they_broke() {
    let hostile = Hostile::start(Config { location: LocationForm::WithQuery, ..Config::default() });
    let client = Client::plain(hostile.host());
    let blob = layer(4, 5000);
    let half = 2000;
    let opened = client.request("POST", "/v2/a/blobs/uploads/", &[], Some(b""));
    let first = opened.header("location").unwrap().to_owned();
    hostile.fault(Fault::on("PATCH", "/uploads/", Action::CutUpload { after: half, keep: true }).once());
    assert!(client.try_request("PATCH", &first, &[], Some(&blob.bytes)).is_err());
    let status = client.request("GET", &first, &[], None);
    assert_eq!(status.header("range"), Some("0-1999"));
    let second = status.header("location").unwrap();
    let stale = client.request("PATCH", &first, &[], Some(&blob.bytes[half..]));
    assert_eq!(stale.status, 400);
    let gap = client.request("PATCH", second, &[("content-range", "2001-2002")], Some(b"xx"));
    assert_eq!(gap.status, 416);
    let third = gap.header("location").unwrap();
    let sent = client.request("PATCH", third, &[], Some(&blob.bytes[half..]));
    let fourth = format!("{}&digest={}", sent.header("location").unwrap(), blob.digest);
    assert_eq!(client.request("PUT", &fourth, &[], Some(b"")).status, 201);
    assert!(hostile.has_blob("a", &blob.digest));
    let gone = client.request("PUT", &fourth, &[], Some(b""));
    assert_eq!(gone.json()["errors"][0]["code"], "BLOB_UPLOAD_UNKNOWN");
    hostile.fault(Fault::on("PATCH|PUT", "/uploads/", Action::ForgetSession).once());
    let opened = client.request("POST", "/v2/a/blobs/uploads/", &[], Some(b""));
    let location = opened.header("location").unwrap();
    assert_eq!(client.request("PATCH", location, &[], Some(b"x")).status, 404);
}

#[test]
fn limits_and_names_are_enforced() {
    let hostile = Hostile::start(Config {
        body_limit: Some(1000),
        requires_repository: true,
        max_path_components: 2,
        ..Config::default()
    });
    let client = Client::plain(hostile.host());
    let post = |name: &str| client.request("POST", &format!("/v2/{name}/blobs/uploads/"), &[], Some(b""));
    assert_eq!(post("a").json()["errors"][0]["code"], "NAME_UNKNOWN");
    assert_eq!(post("a/b/c").json()["errors"][0]["code"], "NAME_INVALID");
    hostile.create_repository("a");
    let opened = post("a");
    let location = opened.header("location").unwrap();
    let large = client.request("PATCH", location, &[], Some(&vec![0; 2_000_000]));
    assert_eq!(large.status, 413);
    assert!(large.text().contains("<html>"));
    let log = hostile.requests_on("PATCH", "");
    assert_eq!((log[0].status, log[0].received), (Some(413), 0));
}

#[test]
fn mounts_are_answered_as_told() {
    let (hostile, client, blob, _) = with_blob(Config::default());
    let path = format!("/v2/b/blobs/uploads/?mount={}&from=a", blob.digest);
    for (mount, status) in [(Mount::Never, 202), (Mount::Status(401), 401), (Mount::Status(405), 405)] {
        hostile.configure(|config| config.mount = mount);
        assert_eq!(client.request("POST", &path, &[], Some(b"")).status, status);
        assert!(!hostile.has_blob("b", &blob.digest));
    }
    hostile.configure(|config| config.mount = Mount::Honest);
    assert_eq!(client.request("POST", &path, &[], Some(b"")).status, 201);
    assert!(hostile.has_blob("b", &blob.digest));
}

#[test]
fn skopeo_gets_tokens_and_they_end() {
    let hostile = Hostile::start(Config { auth: Auth::Token(TokenAuth::default()), ..Config::default() });
    let (content, index) = two_platforms(false);
    hostile.seed("a/b", &content, &index, Some("v1"));
    let raw = skopeo([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("--creds={USER}:{PASSWORD}"),
        &format!("docker://{}/a/b:v1", hostile.host()),
    ]);
    assert_eq!(raw.as_bytes(), content.blobs[&index.digest]);
    assert_eq!(hostile.token_requests().len(), 1);

    let named = Client::new(hostile.host(), None, Some((USER, PASSWORD)));
    let plain = Client::plain(hostile.host());
    let scope = "scope=repository:x:pull&scope=repository:a/b:pull,push";
    let token = |last: bool| {
        hostile.configure(|config| {
            config.auth = Auth::Token(TokenAuth { honours_only_last_scope: last, ..TokenAuth::default() });
        });
        let reply = named.request("GET", &format!("/token?{scope}"), &[], None);
        format!("Bearer {}", reply.json()["token"].as_str().unwrap())
    };
    let get = |token: &str, name: &str| {
        let path = format!("/v2/{name}/tags/list");
        plain.request("GET", &path, &[("authorization", token)], None)
    };
    let good = token(false);
    assert_eq!(get(&good, "a/b").status, 200);
    assert_eq!(get(&good, "x").status, 404);
    let last = token(true);
    assert_eq!(get(&last, "x").status, 401);
    assert_eq!(get(&last, "a/b").status, 200);
    hostile.fault(Fault::new(Matcher::any(), Action::ExpireTokens).once());
    let refused = get(&last, "a/b");
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer realm="));
}

#[test]
fn overlapping_requests_are_counted() {
    let (hostile, client, _, path) =
        with_blob(Config { latency: Duration::from_millis(150), ..Config::default() });
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| client.request("GET", &path, &[], None));
        }
    });
    assert_eq!(hostile.max_parallel(), 3);
    assert_eq!(hostile.connections(), 3);
    hostile.fault(Fault::on("GET", "/blobs/", Action::Respond(Response::new(503))).after(1));
    assert_eq!(client.request("GET", &path, &[], None).status, 200);
    assert_eq!(client.request("GET", &path, &[], None).status, 503);
    assert_eq!(hostile.max_parallel_on(&Matcher::on("PUT", "")), 0);
}

#[test]
fn lists_are_paged() {
    let hostile = Hostile::start(Config { page_size: 2, ..Config::default() });
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[]);
    for tag in ["a", "b", "c", "d", "e"] {
        hostile.seed(&format!("demo/{tag}"), &content, &image, None);
        hostile.seed("demo/a", &content, &image, Some(tag));
    }
    let client = Client::plain(hostile.host());
    for (start, field) in [("/v2/demo/a/tags/list?n=1000", "tags"), ("/v2/_catalog", "repositories")] {
        let (mut next, mut pages) = (Some(start.to_owned()), Vec::new());
        while let Some(path) = next {
            let reply = client.request("GET", &path, &[], None);
            pages.push(reply.json()[field].as_array().unwrap().len());
            let link = reply.header("link");
            next = link.map(|link| link[1..].split('>').next().unwrap().to_owned());
        }
        assert_eq!(pages, [2, 2, 1], "{field}");
    }
}

#[test]
fn passwords_and_refresh_tokens_are_checked() {
    let (hostile, stranger, blob, path) = with_blob(Config { auth: Auth::Basic, ..Config::default() });
    let named = Client::new(hostile.host(), None, Some((USER, PASSWORD)));
    let refused = stranger.request("GET", &path, &[], None);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Basic realm=\"test\"")));
    assert_eq!(named.request("GET", &path, &[], None).body, blob.bytes);
    hostile.configure(|config| {
        config.auth = Auth::Token(TokenAuth { refresh_tokens: true, uses: Some(1), ..TokenAuth::default() });
    });
    let first = named.request("GET", "/token?scope=repository:a:pull", &[], None);
    let refresh = first.json()["refresh_token"].as_str().unwrap().to_owned();
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&scope=repository%3Aa%3Apull");
    let again = stranger.request("POST", "/token", &[], Some(form.as_bytes()));
    let token = format!("Bearer {}", again.json()["access_token"].as_str().unwrap());
    let statuses = [(); 2].map(|()| {
        let headers = [("authorization", token.as_str())];
        stranger.request("GET", &path, &headers, None).status
    });
    assert_eq!(statuses, [200, 401]);
    hostile.configure(|config| {
        config.auth = Auth::Token(TokenAuth { anonymous_pull: true, ..TokenAuth::default() });
    });
    let anyone = stranger.request("GET", "/token?scope=repository:a:pull,push", &[], None);
    let token = format!("Bearer {}", anyone.json()["token"].as_str().unwrap());
    let headers = [("authorization", token.as_str())];
    assert_eq!(stranger.request("GET", &path, &headers, None).status, 200);
    let push = stranger.request("POST", "/v2/a/blobs/uploads/", &headers, Some(b""));
    assert_eq!(push.status, 401);
}
