//! Who is asking: tokens, passwords, and where they may go.

use super::*;

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
    let token = server.seen().into_iter().find(|seen| seen.is("GET", "/token")).unwrap();
    assert_eq!(token.target, "/token?service=s%20t&scope=repository:app:pull,push");
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
    assert!(server.repository(options, Access::Pull).get_manifest("v1").unwrap().is_some());
    let error = server.pull().get_manifest("v1").unwrap_err();
    assert!(matches!(&error, StoreError::Denied { status: 401, .. }), "{error:?}");
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
        server.repository(options, Access::Pull).get_manifest("v1").unwrap().unwrap();
    }
    let posted = server.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    let form = String::from_utf8(posted.body).unwrap();
    assert!(form.contains("grant_type=refresh_token&refresh_token=a%2Bb&"), "{form}");
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
        reply(401).with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))
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
    repository.open_blob(&digest, 7, 0).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    let there = &storage.seen()[0];
    assert_eq!(there.target, "/b?X-Signature=s3cret");
    assert_eq!(there.header("Authorization"), None);
    assert!(server.seen().iter().any(|seen| seen.header("Authorization").is_some()));
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
    upload(&server.repository(options, Access::Push), b"abc").0.unwrap();
    let put = &elsewhere.seen()[0];
    assert_eq!(put.header("Authorization"), None);
    assert_eq!(put.body, b"abc");
    assert_eq!(put.target, format!("/up?s=1&digest={}", Digest::sha256(b"abc")));
}
