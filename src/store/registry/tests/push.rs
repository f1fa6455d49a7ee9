//! Uploads and mounts, at a registry that keeps sessions in memory.

use super::*;

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
        ["PATCH /up/0?v=0 0-99", "PATCH /up/0?v=10 100-199", "PATCH /up/0?v=20 200-249", "PUT /up/0?v=25 -"]
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
    assert!(error.to_string().contains("413 Request Entity Too Large"), "{error}");
    assert!(opened.iter().all(|offset| *offset == 0), "{opened:?}");
    options.chunk_size = 500_000;
    upload(&server.repository(options, Access::Push), &bytes).0.unwrap();
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
        let good = if seen.method == "PUT" { "Bearer t2" } else { "Bearer t1" };
        if seen.header("Authorization") != Some(good) {
            let host = seen.header("Host").unwrap();
            return reply(401).with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#));
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
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it hashes to something else"));
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
        let error = repository.upload_blob(&Digest::sha256(b"x"), 250, None, &mut open).unwrap_err();
        match error {
            StoreError::Content { source, .. } => {
                assert_eq!(source.to_string(), "it hashes to something else");
            }
            error => panic!("{error:?}"),
        }
        assert_eq!(opened, 1, "not tried again");
        assert!(lock(&sessions.done).is_empty());
        assert_eq!(server.count("DELETE", "/up/0"), 1);
        let whole_puts = server.seen().iter().filter(|seen| seen.method == "PUT" && seen.whole).count();
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
    assert!(matches!(error, StoreError::Refused { status: 202, .. }), "{error:?}");
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
    assert!(matches!(repository.mount_blob(&digest, "yes").unwrap(), Mount::Mounted));
    for from in ["no", "old"] {
        assert!(matches!(repository.mount_blob(&digest, from).unwrap(), Mount::Refused), "{from}");
    }
    let Mount::Upload(session) = repository.mount_blob(&digest, "else").unwrap() else {
        panic!("no session")
    };
    let mut open = |_| Ok(Box::new(&b"abc"[..]) as Box<dyn Read + Send>);
    repository.upload_blob(&digest, 3, Some(session), &mut open).unwrap();
    assert_eq!(lock(&sessions.done)[0], b"abc");
    assert_eq!(server.count("POST", "/"), 4, "the session of the mount is used");
}
