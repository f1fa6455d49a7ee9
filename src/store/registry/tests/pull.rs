//! Manifests, lists, referrers and blobs.

use super::*;

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
    assert!(matches!(repository.head_manifest("denied"), Err(StoreError::Denied { status: 403, .. })));
    assert!(matches!(repository.head_manifest("broken"), Err(StoreError::Refused { status: 500, .. })));
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
        assert_eq!(server.pull().head_manifest(selector).unwrap().as_ref(), Some(&expected), "{selector}");
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
    assert!(matches!(repository.get_manifest("lies"), Err(StoreError::Damaged { .. })));
    let other = Digest::sha256(b"other");
    match repository.get_manifest(&other.to_string()) {
        Err(StoreError::Damaged { digest, .. }) => assert_eq!(digest, other),
        result => panic!("{result:?}"),
    }
    assert!(matches!(repository.get_manifest("large"), Err(StoreError::Manifest { .. })));
}

#[test]
fn tags_are_paged_and_a_circle_of_pages_ends() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/app/tags/list" => reply(200)
            .with("Link", "</v2/app/tags/list?last=b&n=2>; rel=\"next\"")
            .body(r#"{"tags":["a","b"]}"#),
        "/v2/app/tags/list?last=b&n=2" => {
            reply(200).with("Link", "</v2/app/tags/list>; rel=\"next\"").body(r#"{"tags":["c"]}"#)
        }
        "/v2/_catalog" => reply(200)
            .with("Link", "<http://127.0.0.1:1/v2/_catalog>; rel=\"next\"")
            .body(r#"{"repositories":["x"]}"#),
        _ => reply(200),
    });
    assert_eq!(server.pull().tags().unwrap(), ["a", "b", "c"]);
    let client = Client::new(Server::options()).unwrap();
    assert!(matches!(client.catalog(&server.host), Err(StoreError::Invalid { .. })));
}

#[test]
fn warnings_are_kept_once_and_clean() {
    let server = Server::start(|_| {
        manifest(INDEX)
            .with("Warning", "299 - \"old \\\"thing\\\"\u{202e}\"")
            .with("Warning", "199 - \"other\"")
    });
    let client = Client::new(Server::options()).unwrap();
    let name = RepositoryName { registry: server.host.clone(), repository: "app".into() };
    let repository = client.repository(&name, Access::Pull);
    repository.get_manifest("a").unwrap();
    repository.get_manifest("b").unwrap();
    assert_eq!(client.warnings(), [format!("{}: old \"thing\"", server.host)]);
}

// Referrers.

#[test]
fn without_the_api_the_fallback_tag_counts_unless_it_is_no_index_or_the_subject() {
    let entry = Descriptor::of(media_type::OCI_MANIFEST, b"signature");
    let row = format!(r#"{{"mediaType":"{}","digest":"{}","size":9}}"#, entry.media_type, entry.digest);
    let index = INDEX.replace("[]", &format!("[{row},{row}]"));
    let subjects: Vec<Digest> =
        [&b"good"[..], b"html", b"image", INDEX.as_bytes(), b"none"].map(Digest::sha256).to_vec();
    let tags: Vec<String> = subjects.iter().map(|subject| attached_tag(subject, "")).collect();
    let html = format!("/v2/app/referrers/{}", subjects[1]);
    let server = Server::start(move |seen| {
        let name = seen.target.rsplit('/').next().unwrap();
        if seen.target == html {
            return reply(200).with("Content-Type", "text/html").body("<html>login</html>");
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
    assert!(matches!(repository.referrers(&subjects[0]), Ok(Referrers::Fallback(Some(_)))));
    assert_eq!(repository.referrers(&subjects[3]).unwrap(), Referrers::Fallback(None));
}

#[test]
fn referrers_are_paged_and_tags_of_cosign_found() {
    let subject = Digest::sha256(b"subject");
    let row = |text: &str| {
        format!(r#"{{"mediaType":"x","digest":"{}","size":1}}"#, Digest::sha256(text.as_bytes()))
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
        match (seen.target.contains("/referrers/"), seen.target.contains("page=2")) {
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
        let start: usize = seen.header("Range").unwrap()[6..].trim_end_matches('-').parse().unwrap();
        match shape.load(Ordering::SeqCst) {
            0 => reply(206).with("Content-Range", format!("bytes {start}-999/1000")).body(&whole[start..]),
            1 => reply(200).body(&whole),
            _ => reply(206).with("Content-Range", "bytes 0-999/1000").body(&whole),
        }
    });
    let repository = server.pull();
    for shape in 0..2 {
        mode.store(shape, Ordering::SeqCst);
        let mut read = Vec::new();
        repository.open_blob(&digest, 1000, 400).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, &bytes[400..], "{shape}");
    }
    mode.store(2, Ordering::SeqCst);
    assert!(matches!(repository.open_blob(&digest, 1000, 400), Err(StoreError::Invalid { .. })));
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
