//! Behaviour against servers that misbehave in one way each.

use std::io::{self, Cursor, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::limits::lock;
use super::testserver::{Reply, Seen, Server, reply};
use super::*;
use crate::oci::{Descriptor, Digest, media_type};
use crate::store::{Source, StoreError, attached_tag};

const INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn manifest(body: &str) -> Reply {
    reply(200)
        .with("Content-Type", media_type::OCI_INDEX)
        .with("Docker-Content-Digest", Digest::sha256(body.as_bytes()))
        .body(body)
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 251) as u8).collect()
}

/// Uploads; the offsets at which the content was opened come back too.
fn upload(repository: &Repository, bytes: &[u8]) -> (crate::store::Result<()>, Vec<u64>) {
    let mut opened = Vec::new();
    let mut open = |offset: u64| {
        opened.push(offset);
        let mut cursor = Cursor::new(bytes);
        cursor.set_position(offset);
        Ok(Box::new(cursor) as Box<dyn Read + Send + '_>)
    };
    let result = repository.upload_blob(&Digest::sha256(bytes), bytes.len() as u64, None, &mut open);
    (result, opened)
}

// Who is asking.

/// A registry with a token server of its own, whose tokens are `t1`, `t2`, …; only the newest is good.
fn token_registry(lifetime: u32) -> (Server, Arc<AtomicU32>) {
    let issued = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&issued);
    let server = Server::start(move |seen| {
        if seen.is("GET", "/token") {
            std::thread::sleep(Duration::from_millis(50));
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(200).body(format!(r#"{{"token":"t{number}","expires_in":{lifetime}}}"#));
        }
        let good = format!("Bearer t{}", counter.load(Ordering::SeqCst));
        if seen.header("Authorization") != Some(&good) {
            let host = seen.header("Host").unwrap();
            return reply(401).with(
                "WWW-Authenticate",
                format!(r#"Bearer realm="http://{host}/token",service="s t",scope="x""#),
            );
        }
        manifest(INDEX)
    });
    (server, issued)
}

#[test]
fn many_workers_share_one_token() {
    let (server, issued) = token_registry(300);
    let repository = server.push();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| repository.get_manifest("v1").unwrap().unwrap());
        }
    });
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    let token = server
        .seen()
        .into_iter()
        .find(|seen| seen.is("GET", "/token"))
        .unwrap();
    assert_eq!(
        token.target,
        "/token?service=s%20t&scope=repository:app:pull,push"
    );
}

#[test]
fn a_token_refused_in_use_is_renewed_once_by_all() {
    let (server, issued) = token_registry(300);
    let repository = server.pull();
    repository.get_manifest("v1").unwrap();
    // What the registry took until now, it no longer takes.
    issued.fetch_add(10, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| repository.get_manifest("v1").unwrap().unwrap());
        }
    });
    assert_eq!(server.count("GET", "/token"), 2);
}

#[test]
fn a_short_lived_token_is_renewed_before_it_is_refused() {
    let (server, _) = token_registry(1);
    let repository = server.pull();
    repository.get_manifest("v1").unwrap();
    std::thread::sleep(Duration::from_millis(900));
    repository.get_manifest("v1").unwrap();
    let refused = server
        .seen()
        .iter()
        .filter(|seen| {
            seen.is("GET", "/v2/app")
                && seen.header("Authorization") != Some("Bearer t1")
                && seen.header("Authorization") != Some("Bearer t2")
        })
        .count();
    assert_eq!((refused, server.count("GET", "/token")), (0, 2));
}

#[test]
fn basic_is_tried_where_a_401_says_nothing_and_anonymous_is_denied() {
    let server = Server::start(|seen| match seen.header("Authorization") {
        _ if seen.target == "/v2/" => reply(200),
        Some("Basic dTpw") => manifest(INDEX),
        _ => reply(401).body("<html><b>who are you?</b>"),
    });
    let mut options = Server::options();
    options.credentials = vec![(None, "u".into(), "p".into())];
    assert!(
        server
            .repository(options, Access::Pull)
            .get_manifest("v1")
            .unwrap()
            .is_some()
    );
    let error = server.pull().get_manifest("v1").unwrap_err();
    assert!(
        matches!(&error, StoreError::Denied { status: 401, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("who are you?"), "{error}");
}

#[test]
fn an_identity_token_is_posted_and_a_server_without_oauth_is_asked_by_get() {
    let oauth = Arc::new(AtomicBool::new(true));
    let has_oauth = Arc::clone(&oauth);
    let server = Server::start(move |seen| {
        if seen.is("POST", "/token") {
            return if has_oauth.load(Ordering::SeqCst) {
                reply(200).body(r#"{"access_token":"good"}"#)
            } else {
                reply(404)
            };
        }
        if seen.is("GET", "/token") {
            return reply(200).body(r#"{"token":"good"}"#);
        }
        if seen.header("Authorization") == Some("Bearer good") {
            return manifest(INDEX);
        }
        let host = seen.header("Host").unwrap();
        reply(401).with(
            "WWW-Authenticate",
            format!(r#"Basic realm="x", Bearer realm="http://{host}/token",service="s""#),
        )
    });
    for has in [true, false] {
        oauth.store(has, Ordering::SeqCst);
        let mut options = Server::options();
        options.credentials = vec![(Some(server.host.clone()), "<token>".into(), "a+b".into())];
        server
            .repository(options, Access::Pull)
            .get_manifest("v1")
            .unwrap()
            .unwrap();
    }
    let posted = server
        .seen()
        .into_iter()
        .find(|seen| seen.method == "POST")
        .unwrap();
    let form = String::from_utf8(posted.body).unwrap();
    assert!(
        form.contains("grant_type=refresh_token&refresh_token=a%2Bb&"),
        "{form}"
    );
    assert!(form.ends_with("&service=s&scope=repository:app:pull"), "{form}");
    assert_eq!(server.count("GET", "/token"), 1);
}

#[test]
fn a_token_that_names_other_rights_denies_the_push_early() {
    let server = Server::start(|seen| {
        if seen.is("GET", "/token") {
            return reply(200).body(r#"{"token":"t","scope":"repository:app:pull"}"#);
        }
        let host = seen.header("Host").unwrap();
        reply(401).with(
            "WWW-Authenticate",
            format!(r#"Bearer realm="http://{host}/token""#),
        )
    });
    assert!(server.pull().check().is_ok());
    assert!(matches!(server.push().check(), Err(StoreError::Denied { .. })));
}

#[test]
fn credentials_stay_when_a_redirect_leaves() {
    let storage = Server::start(|_| reply(200).body("content"));
    let elsewhere = storage.host.clone();
    let server = Server::start(move |seen| {
        if seen.header("Authorization").is_none() {
            return reply(401).with("WWW-Authenticate", "Basic realm=\"r\"");
        }
        if seen.target.contains("/blobs/") {
            return reply(307).with("Location", format!("http://{elsewhere}/b?X-Signature=s3cret"));
        }
        reply(200)
    });
    let mut options = Server::options();
    options.credentials = vec![(None, "u".into(), "p".into())];
    let repository = server.repository(options, Access::Pull);
    let mut text = String::new();
    let digest = Digest::sha256(b"content");
    repository
        .open_blob(&digest, 7, 0)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "content");
    let there = &storage.seen()[0];
    assert_eq!(there.target, "/b?X-Signature=s3cret");
    assert_eq!(there.header("Authorization"), None);
    assert!(
        server
            .seen()
            .iter()
            .any(|seen| seen.header("Authorization").is_some())
    );
}

#[test]
fn no_error_shows_the_query_of_a_presigned_url() {
    let server = Server::start(|seen| {
        if seen.target.contains("/blobs/") {
            // Nobody listens there.
            return reply(307).with("Location", "http://127.0.0.1:1/b?X-Signature=s3cret");
        }
        reply(200)
    });
    let mut options = Server::options();
    options.retry_times = 0;
    let repository = server.repository(options, Access::Pull);
    let error = repository.open_blob(&Digest::sha256(b"x"), 1, 0).err().unwrap();
    assert!(matches!(error, StoreError::Unreachable { .. }));
    assert!(!format!("{error:?} {error}").contains("s3cret"));
}

#[test]
fn credentials_and_bodies_respect_where_an_upload_location_leads() {
    let elsewhere = Server::start(|seen| match seen.method.as_str() {
        "PUT" => reply(201),
        _ => reply(405),
    });
    let there = elsewhere.host.clone();
    let server = Server::start(move |seen| {
        if seen.header("Authorization").is_none() {
            return reply(401).with("WWW-Authenticate", "Basic realm=\"r\"");
        }
        if seen.method == "POST" {
            return reply(202).with("Location", format!("http://{there}/up?s=1"));
        }
        reply(200)
    });
    let mut options = Server::options();
    options.credentials = vec![(None, "u".into(), "p".into())];
    upload(&server.repository(options, Access::Push), b"abc")
        .0
        .unwrap();
    let put = &elsewhere.seen()[0];
    assert_eq!(put.header("Authorization"), None);
    assert_eq!(put.body, b"abc");
    assert_eq!(put.target, format!("/up?s=1&digest={}", Digest::sha256(b"abc")));
}

// Busy, slow and broken servers.

#[test]
fn a_429_in_three_shapes_and_a_503_are_waited_out() {
    for (status, shape, body) in [
        (503, "1", "starting"),
        (
            429,
            "1",
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
        ),
        (429, "Thu, 01 Jan 1970 00:00:00 GMT", "too many requests"),
        (429, "", "<html><h1>429 Too Many Requests</h1></html>"),
    ] {
        let asked = AtomicU32::new(0);
        let server = Server::start(move |seen| {
            if seen.target.contains("referrers") && asked.fetch_add(1, Ordering::SeqCst) == 0 {
                let busy = reply(status).body(body);
                return if shape.is_empty() {
                    busy
                } else {
                    busy.with("Retry-After", shape)
                };
            }
            reply(200).body(INDEX)
        });
        let start = Instant::now();
        let found = server.pull().referrers(&Digest::sha256(b"x")).unwrap();
        assert_eq!(found, Referrers::Api(Vec::new()));
        if shape == "1" {
            assert!(start.elapsed() >= Duration::from_secs(1));
        }
    }
}

#[test]
fn a_429_without_end_is_an_error_and_never_an_empty_list() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/" => reply(200),
        target if target.contains("manifests") => reply(404),
        _ => reply(429).with("Retry-After", 0).body("busy\u{1b}[0m"),
    });
    let error = server.pull().referrers(&Digest::sha256(b"x")).unwrap_err();
    assert!(
        matches!(&error, StoreError::Refused { status: 429, .. }),
        "{error:?}"
    );
    assert!(!error.to_string().contains('\u{1b}'));
    assert_eq!(server.count("GET", "/v2/app/referrers"), 4);
}

#[test]
fn a_stalled_body_ends_with_an_error_within_the_idle_time_out() {
    let server = Server::start(|seen| {
        if seen.target.contains("/blobs/") {
            let mut stalled = reply(200).body("content");
            stalled.stall = Duration::from_secs(20);
            return stalled;
        }
        reply(200)
    });
    let mut options = Server::options();
    options.idle_timeout = Duration::from_millis(300);
    let repository = server.repository(options, Access::Pull);
    let start = Instant::now();
    let mut reader = repository.open_blob(&Digest::sha256(b"content"), 7, 0).unwrap();
    assert!(reader.read(&mut [0; 7]).is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn http_1_0_and_a_manifest_that_breaks_off_once_are_read() {
    let asked = AtomicU32::new(0);
    let server = Server::start(move |seen| {
        let mut answer = manifest(INDEX);
        if seen.target.ends_with("/v1") && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.length = Some(INDEX.len() + 10);
        }
        answer.old = seen.target.ends_with("/old") || seen.target == "/v2/";
        answer
    });
    let repository = server.pull();
    for selector in ["old", "v1"] {
        let read = repository.get_manifest(selector).unwrap().unwrap();
        assert_eq!(read.bytes, INDEX.as_bytes());
        assert_eq!(read.media_type, media_type::OCI_INDEX);
    }
}

#[test]
fn a_dropped_manifest_put_is_tried_twice_and_then_unreachable() {
    let server = Server::start(|seen| {
        let mut answer = reply(200);
        answer.drop = seen.method == "PUT";
        answer
    });
    let error = server
        .push()
        .put_manifest("v1", media_type::OCI_INDEX, INDEX.as_bytes())
        .unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert_eq!(server.count("PUT", "/v2/app/manifests/v1"), 2);
}

#[test]
fn an_unreachable_registry_is_said_so_once_for_all_that_wait() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut options = Server::options();
    options.retry_times = 2;
    let name = RepositoryName {
        registry: format!("127.0.0.1:{port}"),
        repository: "app".into(),
    };
    let repository = Client::new(options).unwrap().repository(&name, Access::Pull);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = repository.get_manifest("v1").unwrap_err();
                assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

// Manifests.

#[test]
fn only_a_404_is_absent() {
    let server = Server::start(|seen| match seen.target.rsplit('/').next().unwrap() {
        "" => reply(200),
        "absent" => reply(404),
        "denied" => reply(403).body(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
        _ => reply(500),
    });
    let mut options = Server::options();
    options.retry_times = 0;
    let repository = server.repository(options, Access::Pull);
    assert_eq!(repository.get_manifest("absent").unwrap(), None);
    assert_eq!(repository.head_manifest("absent").unwrap(), None);
    assert!(matches!(
        repository.head_manifest("denied"),
        Err(StoreError::Denied { status: 403, .. })
    ));
    assert!(matches!(
        repository.head_manifest("broken"),
        Err(StoreError::Refused { status: 500, .. })
    ));
}

#[test]
fn a_head_that_says_too_little_is_followed_by_a_get() {
    let server = Server::start(|seen| match (seen.method.as_str(), seen.target.as_str()) {
        ("HEAD", "/v2/app/manifests/bare") => reply(200),
        ("HEAD", "/v2/app/manifests/none") => reply(405),
        ("GET", "/v2/app/manifests/bare" | "/v2/app/manifests/none") => {
            assert!(seen.header("Accept").unwrap().contains(media_type::DOCKER_INDEX));
            reply(200).with("Content-Type", "application/json").body(INDEX)
        }
        _ => manifest(INDEX),
    });
    let expected = Descriptor::of(media_type::OCI_INDEX, INDEX.as_bytes());
    for selector in ["bare", "none", "full"] {
        assert_eq!(
            server.pull().head_manifest(selector).unwrap().as_ref(),
            Some(&expected),
            "{selector}"
        );
    }
    assert_eq!(server.count("GET", "/v2/app/manifests/full"), 0);
}

#[test]
fn what_is_not_what_was_asked_for_is_damage() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/" => reply(200),
        "/v2/app/manifests/lies" => manifest(INDEX).body("{}"),
        "/v2/app/manifests/large" => manifest(INDEX).body(vec![b' '; 4 * 1024 * 1024 + 1]),
        _ => reply(200).with("Content-Type", media_type::OCI_INDEX).body("{}"),
    });
    let repository = server.pull();
    assert!(matches!(
        repository.get_manifest("lies"),
        Err(StoreError::Damaged { .. })
    ));
    let other = Digest::sha256(b"other");
    match repository.get_manifest(&other.to_string()) {
        Err(StoreError::Damaged { digest, .. }) => assert_eq!(digest, other),
        result => panic!("{result:?}"),
    }
    assert!(matches!(
        repository.get_manifest("large"),
        Err(StoreError::Manifest { .. })
    ));
}

#[test]
fn tags_are_paged_and_a_circle_of_pages_ends() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/app/tags/list" => reply(200)
            .with("Link", "</v2/app/tags/list?last=b&n=2>; rel=\"next\"")
            .body(r#"{"tags":["a","b"]}"#),
        "/v2/app/tags/list?last=b&n=2" => reply(200)
            .with("Link", "</v2/app/tags/list>; rel=\"next\"")
            .body(r#"{"tags":["c"]}"#),
        "/v2/_catalog" => reply(200)
            .with("Link", "<http://127.0.0.1:1/v2/_catalog>; rel=\"next\"")
            .body(r#"{"repositories":["x"]}"#),
        _ => reply(200),
    });
    assert_eq!(server.pull().tags().unwrap(), ["a", "b", "c"]);
    let client = Client::new(Server::options()).unwrap();
    assert!(matches!(
        client.catalog(&server.host),
        Err(StoreError::Invalid { .. })
    ));
}

#[test]
fn warnings_are_kept_once_and_clean() {
    let server = Server::start(|_| {
        manifest(INDEX)
            .with("Warning", "299 - \"old \\\"thing\\\"\u{202e}\"")
            .with("Warning", "199 - \"other\"")
    });
    let client = Client::new(Server::options()).unwrap();
    let name = RepositoryName {
        registry: server.host.clone(),
        repository: "app".into(),
    };
    let repository = client.repository(&name, Access::Pull);
    repository.get_manifest("a").unwrap();
    repository.get_manifest("b").unwrap();
    assert_eq!(client.warnings(), [format!("{}: old \"thing\"", server.host)]);
}

// Referrers.

#[test]
fn without_the_api_the_fallback_tag_counts_unless_it_is_no_index_or_the_subject() {
    let entry = Descriptor::of(media_type::OCI_MANIFEST, b"signature");
    let row = format!(
        r#"{{"mediaType":"{}","digest":"{}","size":9}}"#,
        entry.media_type, entry.digest
    );
    let index = INDEX.replace("[]", &format!("[{row},{row}]"));
    let subjects: Vec<Digest> = [&b"good"[..], b"html", b"image", INDEX.as_bytes(), b"none"]
        .map(Digest::sha256)
        .to_vec();
    let tags: Vec<String> = subjects.iter().map(|subject| attached_tag(subject, "")).collect();
    let html = format!("/v2/app/referrers/{}", subjects[1]);
    let server = Server::start(move |seen| {
        let name = seen.target.rsplit('/').next().unwrap();
        if seen.target == html {
            return reply(200)
                .with("Content-Type", "text/html")
                .body("<html>login</html>");
        }
        match tags.iter().position(|tag| tag == name) {
            Some(0 | 1) => manifest(&index),
            Some(2) => manifest("{}").with("X", "y").body(r#"{"config":{}}"#),
            Some(3) => manifest(INDEX),
            _ if seen.target == "/v2/" => reply(200),
            _ => reply(404),
        }
    });
    let repository = server.pull();
    for (subject, found) in subjects.iter().zip([1, 1, 9, 0, 0]) {
        match repository.attached(subject) {
            Ok(list) => assert_eq!(list.len(), found, "{subject}"),
            // The third lies about its digest, which is an error rather than nothing.
            Err(StoreError::Damaged { .. }) => assert_eq!(found, 9),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(repository.attached(&subjects[0]).unwrap()[0].descriptor, entry);
    assert!(matches!(
        repository.referrers(&subjects[0]),
        Ok(Referrers::Fallback(Some(_)))
    ));
    assert_eq!(
        repository.referrers(&subjects[3]).unwrap(),
        Referrers::Fallback(None)
    );
}

#[test]
fn referrers_are_paged_and_tags_of_cosign_found() {
    let subject = Digest::sha256(b"subject");
    let row = |text: &str| {
        format!(
            r#"{{"mediaType":"x","digest":"{}","size":1}}"#,
            Digest::sha256(text.as_bytes())
        )
    };
    let pages = [
        INDEX.replace("[]", &format!("[{},{{\"digest\":\"odd\"}}]", row("a"))),
        INDEX.replace("[]", &format!("[{},{}]", row("a"), row("b"))),
    ];
    let signature = attached_tag(&subject, ".sig");
    let server = Server::start(move |seen| {
        if seen.target.ends_with(&signature) {
            return manifest(INDEX);
        }
        match (
            seen.target.contains("/referrers/"),
            seen.target.contains("page=2"),
        ) {
            (true, false) => reply(200).with("Link", "<?page=2>; rel=next").body(&pages[0]),
            (true, true) => reply(200).body(&pages[1]),
            _ if seen.target == "/v2/" => reply(200),
            _ => reply(404),
        }
    });
    let found = server.pull().attached(&subject).unwrap();
    let tags: Vec<bool> = found.iter().map(|attached| attached.tag.is_some()).collect();
    assert_eq!(tags, [false, false, true]);
}

// Blobs.

#[test]
fn a_blob_opens_at_an_offset_however_the_range_is_answered() {
    let bytes = content(1000);
    let digest = Digest::sha256(&bytes);
    let whole = bytes.clone();
    let mode = Arc::new(AtomicU32::new(0));
    let shape = Arc::clone(&mode);
    let server = Server::start(move |seen| {
        if seen.target == "/v2/" {
            return reply(200);
        }
        let start: usize = seen.header("Range").unwrap()[6..]
            .trim_end_matches('-')
            .parse()
            .unwrap();
        match shape.load(Ordering::SeqCst) {
            0 => reply(206)
                .with("Content-Range", format!("bytes {start}-999/1000"))
                .body(&whole[start..]),
            1 => reply(200).body(&whole),
            _ => reply(206).with("Content-Range", "bytes 0-999/1000").body(&whole),
        }
    });
    let repository = server.pull();
    for shape in 0..2 {
        mode.store(shape, Ordering::SeqCst);
        let mut read = Vec::new();
        repository
            .open_blob(&digest, 1000, 400)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, &bytes[400..], "{shape}");
    }
    mode.store(2, Ordering::SeqCst);
    assert!(matches!(
        repository.open_blob(&digest, 1000, 400),
        Err(StoreError::Invalid { .. })
    ));
}

#[test]
fn presence_is_a_byte_that_came() {
    let server = Server::start(|seen| {
        let name = seen.target.rsplit(':').next().unwrap();
        let is = |text: &str| name == Digest::sha256(text.as_bytes()).hex();
        if is("there") {
            reply(206).with("Content-Range", "bytes 0-0/5").body("t")
        } else if is("whole") {
            reply(200).body("whole")
        } else if is("empty") {
            reply(206).with("Content-Range", "bytes 0-0/5")
        } else if is("short") {
            let mut short = reply(206).with("Content-Range", "bytes 0-0/5");
            short.length = Some(1);
            short
        } else if is("other size") {
            reply(206).with("Content-Range", "bytes 0-0/6").body("t")
        } else if seen.target == "/v2/" {
            reply(200)
        } else {
            reply(404)
        }
    });
    let mut options = Server::options();
    options.retry_times = 1;
    let repository = server.repository(options, Access::Pull);
    for (name, proved) in [
        ("there", true),
        ("whole", true),
        ("empty", false),
        ("short", false),
        ("other size", false),
        ("absent", false),
    ] {
        let digest = Digest::sha256(name.as_bytes());
        assert_eq!(repository.proves_blob(&digest, 5).unwrap(), proved, "{name}");
    }
    assert!(!repository.proves_blob(&Digest::sha256(b"there"), 0).unwrap());
}

// Uploads: a registry that keeps sessions in memory.

#[derive(Default)]
struct Sessions {
    bytes: Mutex<Vec<(u32, Vec<u8>)>>,
    next: AtomicU32,
    done: Mutex<Vec<Vec<u8>>>,
}

impl Sessions {
    fn answer(&self, seen: &Seen) -> Reply {
        if seen.is("POST", "/v2/app/blobs/uploads/") {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            lock(&self.bytes).push((number, Vec::new()));
            return reply(202).with("Location", format!("/up/{number}?v=0"));
        }
        let Some(rest) = seen.target.strip_prefix("/up/") else {
            return reply(if seen.target == "/v2/" { 200 } else { 404 });
        };
        let number: u32 = rest.split('?').next().unwrap().parse().unwrap();
        let mut all = lock(&self.bytes);
        let Some((_, bytes)) = all.iter_mut().find(|(known, _)| *known == number) else {
            return reply(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
        };
        let state = |bytes: &[u8], status| {
            reply(status)
                .with("Location", format!("/up/{number}?v={}", bytes.len()))
                .with("Range", format!("0-{}", bytes.len().saturating_sub(1)))
        };
        match seen.method.as_str() {
            "PATCH" => {
                let range = seen.header("Content-Range").unwrap();
                if range.split('-').next() != Some(&bytes.len().to_string()) {
                    return state(bytes, 416);
                }
                bytes.extend_from_slice(&seen.body);
                state(bytes, 202)
            }
            "GET" => state(bytes, 204),
            "DELETE" => {
                all.retain(|(known, _)| *known != number);
                reply(204)
            }
            "PUT" => {
                bytes.extend_from_slice(&seen.body);
                let digest = Digest::sha256(bytes).to_string();
                if !seen.target.ends_with(&format!("digest={digest}")) {
                    return reply(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                lock(&self.done).push(bytes.clone());
                reply(201)
            }
            _ => reply(405),
        }
    }
}

fn upload_server(
    trouble: impl Fn(&Seen, &Sessions) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Arc<Sessions>) {
    let sessions = Arc::new(Sessions::default());
    let shared = Arc::clone(&sessions);
    let server = Server::start(move |seen| trouble(seen, &shared).unwrap_or_else(|| shared.answer(seen)));
    (server, sessions)
}

#[test]
fn a_blob_goes_up_in_one_request_and_an_empty_one_too() {
    let (server, sessions) = upload_server(|_, _| None);
    for bytes in [content(3000), Vec::new()] {
        let (result, opened) = upload(&server.push(), &bytes);
        result.unwrap();
        assert_eq!(opened.len(), usize::from(!bytes.is_empty()));
        assert_eq!(lock(&sessions.done).pop().unwrap(), bytes);
    }
    assert_eq!(server.count("PATCH", "/"), 0);
    assert!(
        server
            .seen()
            .iter()
            .filter(|seen| seen.method == "PUT")
            .all(|seen| seen.header("Content-Length").is_some())
    );
}

#[test]
fn above_the_threshold_chunks_go_up_through_the_newest_location_and_one_reader() {
    let (server, sessions) = upload_server(|_, _| None);
    let mut options = Server::options();
    options.chunk_threshold = 100;
    let bytes = content(250);
    let (result, opened) = upload(&server.repository(options, Access::Push), &bytes);
    result.unwrap();
    assert_eq!(opened, [0]);
    assert_eq!(lock(&sessions.done)[0], bytes);
    let targets: Vec<String> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.target.starts_with("/up/"))
        .map(|seen| {
            format!(
                "{} {} {}",
                seen.method,
                &seen.target[..10.min(seen.target.len())],
                seen.header("Content-Range").unwrap_or("-")
            )
        })
        .collect();
    assert_eq!(
        targets,
        [
            "PATCH /up/0?v=0 0-99",
            "PATCH /up/0?v=10 100-199",
            "PATCH /up/0?v=20 200-249",
            "PUT /up/0?v=25 -"
        ]
    );
}

#[test]
fn a_413_leads_to_ever_smaller_chunks_even_when_it_comes_early_as_html() {
    let sessions = Arc::new(Sessions::default());
    let shared = Arc::clone(&sessions);
    let too_large = |seen: &Seen| {
        let length: u64 = seen.header("Content-Length")?.parse().ok()?;
        (length > 700_000)
            .then(|| reply(413).body("<html><title>413 Request Entity Too Large</title></html>"))
    };
    let server = Server::new(too_large, move |seen| shared.answer(seen));
    let mut options = Server::options();
    options.chunk_size = 2_000_000;
    let bytes = content(5_000_000);
    let digest = Digest::sha256(&bytes);
    // Smaller than 1 MiB it does not go: the limit of this server is one that no registry can work behind.
    let (result, opened) = upload(&server.repository(options.clone(), Access::Push), &bytes);
    let error = result.unwrap_err();
    assert!(
        error.to_string().contains("413 Request Entity Too Large"),
        "{error}"
    );
    assert!(opened.iter().all(|offset| *offset == 0), "{opened:?}");
    options.chunk_size = 500_000;
    upload(&server.repository(options, Access::Push), &bytes)
        .0
        .unwrap();
    assert_eq!(Digest::sha256(&lock(&sessions.done)[0]), digest);
    assert!(server.seen().iter().all(|seen| seen.whole));
}

#[test]
fn a_session_that_is_gone_is_started_again() {
    let lost = AtomicBool::new(false);
    let (server, sessions) = upload_server(move |seen, _| {
        (seen.method == "PATCH" && seen.target.contains("v=100") && !lost.swap(true, Ordering::SeqCst))
            .then(|| reply(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#))
    });
    let mut options = Server::options();
    options.chunk_threshold = 100;
    let bytes = content(250);
    let (result, opened) = upload(&server.repository(options, Access::Push), &bytes);
    result.unwrap();
    assert_eq!(opened, [0, 0]);
    assert_eq!(server.count("POST", "/v2/app/blobs/uploads/"), 2);
    assert_eq!(lock(&sessions.done)[0], bytes);
}

#[test]
fn a_chunk_whose_answer_was_lost_is_not_sent_again() {
    let lost = AtomicBool::new(false);
    let (server, sessions) = upload_server(move |seen, sessions| {
        if seen.method == "PATCH" && seen.target.contains("v=100") && !lost.swap(true, Ordering::SeqCst) {
            sessions.answer(seen);
            let mut nothing = reply(202);
            nothing.drop = true;
            return Some(nothing);
        }
        None
    });
    let mut options = Server::options();
    options.chunk_threshold = 100;
    let bytes = content(450);
    let (result, opened) = upload(&server.repository(options, Access::Push), &bytes);
    result.unwrap();
    assert_eq!(opened, [0, 200]);
    assert_eq!(lock(&sessions.done)[0], bytes);
}

#[test]
fn a_416_is_settled_by_asking_where_the_registry_is() {
    let confused = AtomicBool::new(false);
    let (server, sessions) = upload_server(move |seen, sessions| {
        if seen.method == "PATCH" && seen.target.contains("v=100") && !confused.swap(true, Ordering::SeqCst) {
            // It lost a part of what it confirmed.
            lock(&sessions.bytes)[0].1.truncate(60);
            return Some(reply(416));
        }
        None
    });
    let mut options = Server::options();
    options.chunk_threshold = 100;
    let bytes = content(250);
    let (result, opened) = upload(&server.repository(options, Access::Push), &bytes);
    result.unwrap();
    assert_eq!(opened, [0, 60]);
    assert_eq!(lock(&sessions.done)[0], bytes);
}

#[test]
fn a_401_at_the_end_of_a_long_upload_is_answered_with_a_new_token() {
    let issued = Arc::new(AtomicU32::new(0));
    let sessions = Arc::new(Sessions::default());
    let server = Server::start(move |seen| {
        if seen.is("GET", "/token") {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(200).body(format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        let good = if seen.method == "PUT" {
            "Bearer t2"
        } else {
            "Bearer t1"
        };
        if seen.header("Authorization") != Some(good) {
            let host = seen.header("Host").unwrap();
            return reply(401).with(
                "WWW-Authenticate",
                format!(r#"Bearer realm="http://{host}/token""#),
            );
        }
        sessions.answer(seen)
    });
    let bytes = content(300);
    let (result, opened) = upload(&server.push(), &bytes);
    result.unwrap();
    assert_eq!(opened, [0, 0], "the body is opened again for the replay");
}

#[test]
fn damaged_content_breaks_the_upload_off_and_comes_back_as_its_own_error() {
    struct Damaged(u64);
    impl Read for Damaged {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it hashes to something else",
                ));
            }
            let count = into.len().min(self.0 as usize);
            into[..count].fill(7);
            self.0 -= count as u64;
            Ok(count)
        }
    }
    for threshold in [u64::MAX, 100] {
        let (server, sessions) = upload_server(|_, _| None);
        let mut options = Server::options();
        options.chunk_threshold = threshold;
        let repository = server.repository(options, Access::Push);
        let mut opened = 0;
        let mut open = |_| {
            opened += 1;
            Ok(Box::new(Damaged(240)) as Box<dyn Read + Send>)
        };
        let error = repository
            .upload_blob(&Digest::sha256(b"x"), 250, None, &mut open)
            .unwrap_err();
        match error {
            StoreError::Content { source, .. } => {
                assert_eq!(source.to_string(), "it hashes to something else");
            }
            error => panic!("{error:?}"),
        }
        assert_eq!(opened, 1, "not tried again");
        assert!(lock(&sessions.done).is_empty());
        assert_eq!(server.count("DELETE", "/up/0"), 1);
        let whole_puts = server
            .seen()
            .iter()
            .filter(|seen| seen.method == "PUT" && seen.whole)
            .count();
        assert_eq!(whole_puts, 0, "the server never saw a complete body");
    }
}

#[test]
fn a_busy_server_gets_the_same_request_again_and_a_broken_connection_leads_to_chunks() {
    for (broken, chunks) in [(false, 0), (true, 30)] {
        let failed = AtomicBool::new(false);
        let (server, sessions) = upload_server(move |seen, _| {
            (seen.method == "PUT" && !failed.swap(true, Ordering::SeqCst)).then(|| {
                let mut trouble = reply(503).with("Retry-After", 0);
                trouble.drop = broken;
                trouble
            })
        });
        let bytes = content(3000);
        let (result, opened) = upload(&server.push(), &bytes);
        result.unwrap();
        assert_eq!(opened, [0, 0]);
        assert_eq!(server.count("PATCH", "/up/"), chunks);
        assert_eq!(lock(&sessions.done)[0], bytes);
    }
}

#[test]
fn an_upload_whose_last_answer_was_lost_is_not_made_again() {
    let (server, sessions) = upload_server(|seen, sessions| match seen.method.as_str() {
        "PUT" => {
            sessions.answer(seen);
            let mut lost = reply(201);
            lost.drop = true;
            Some(lost)
        }
        "GET" if seen.target.contains("/blobs/sha256") && !lock(&sessions.done).is_empty() => {
            Some(reply(206).with("Content-Range", "bytes 0-0/250").body("x"))
        }
        _ => None,
    });
    let bytes = content(250);
    let (result, opened) = upload(&server.push(), &bytes);
    result.unwrap();
    assert_eq!((opened, lock(&sessions.done).len()), (vec![0], 1));
}

#[test]
fn a_put_answered_202_is_no_success() {
    let (server, _) = upload_server(|seen, _| (seen.method == "PUT").then(|| reply(202)));
    let error = upload(&server.push(), b"abc").0.unwrap_err();
    assert!(
        matches!(error, StoreError::Refused { status: 202, .. }),
        "{error:?}"
    );
}

#[test]
fn mounts_are_made_opened_or_refused() {
    let (server, sessions) = upload_server(|seen, _| {
        let from = seen.target.split("from=").nth(1)?;
        Some(match from {
            "yes" => reply(201),
            "no" => reply(401),
            "old" => reply(405),
            _ => return None,
        })
    });
    let repository = server.push();
    let digest = Digest::sha256(b"abc");
    assert!(matches!(
        repository.mount_blob(&digest, "yes").unwrap(),
        Mount::Mounted
    ));
    for from in ["no", "old"] {
        assert!(
            matches!(repository.mount_blob(&digest, from).unwrap(), Mount::Refused),
            "{from}"
        );
    }
    let Mount::Upload(session) = repository.mount_blob(&digest, "else").unwrap() else {
        panic!("no session")
    };
    let mut open = |_| Ok(Box::new(&b"abc"[..]) as Box<dyn Read + Send>);
    repository
        .upload_blob(&digest, 3, Some(session), &mut open)
        .unwrap();
    assert_eq!(lock(&sessions.done)[0], b"abc");
    assert_eq!(server.count("POST", "/"), 4, "the session of the mount is used");
}

#[test]
fn loopback_is_recognised_by_name_and_number() {
    for yes in [
        "localhost",
        "LOCALHOST:5000",
        "a.localhost:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]",
        "[::1]:5000",
    ] {
        assert!(is_loopback(yes), "{yes}");
    }
    for no in [
        "localhost.example",
        "registry.example",
        "128.0.0.1",
        "[::2]:1",
        "127.0.0.1.example",
        "docker.io",
    ] {
        assert!(!is_loopback(no), "{no}");
    }
}
