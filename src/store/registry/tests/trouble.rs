//! Busy, slow and broken servers.

use super::*;

#[test]
fn a_429_in_three_shapes_and_a_503_are_waited_out() {
    for (status, shape, body) in [
        (503, "1", "starting"),
        (429, "1", r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#),
        (429, "Thu, 01 Jan 1970 00:00:00 GMT", "too many requests"),
        (429, "", "<html><h1>429 Too Many Requests</h1></html>"),
    ] {
        let asked = AtomicU32::new(0);
        let server = Server::start(move |seen| {
            if seen.target.contains("referrers") && asked.fetch_add(1, Ordering::SeqCst) == 0 {
                let busy = reply(status).body(body);
                return if shape.is_empty() { busy } else { busy.with("Retry-After", shape) };
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
    assert!(matches!(&error, StoreError::Refused { status: 429, .. }), "{error:?}");
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
    let error = server.push().put_manifest("v1", media_type::OCI_INDEX, INDEX.as_bytes()).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert_eq!(server.count("PUT", "/v2/app/manifests/v1"), 2);
}

#[test]
fn an_unreachable_registry_is_said_so_once_for_all_that_wait() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut options = Server::options();
    options.retry_times = 2;
    let name = RepositoryName { registry: format!("127.0.0.1:{port}"), repository: "app".into() };
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
