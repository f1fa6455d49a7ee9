//! Registries and networks that misbehave.

use std::time::Duration;

use super::{Packed, listing, pack, temp};
use crate::support::hostile::fault::{retry_date, too_many_html, too_many_json, too_many_text};
use crate::support::hostile::{Action, Auth, Config, Fault, Hostile, Matcher, TokenAuth};
use crate::support::images::{Blob, Content, layer, noise};
use crate::support::peers::{PASSWORD, RealRegistry, RegistryOptions, USER};

/// An image of two layers, one larger than any buffer.
fn image() -> (Content, barge::oci::Descriptor, [Blob; 2]) {
    let mut content = Content::new();
    let layers = [Blob::new("application/vnd.oci.image.layer.v1.tar", noise(1, 900_000)), layer(2, 3000)];
    let image = content.image("linux/amd64", &layers);
    (content, image, layers)
}

fn seeded(config: Config) -> (Hostile, Content, barge::oci::Descriptor, [Blob; 2], String) {
    let hostile = Hostile::start(config);
    let (content, image, layers) = image();
    hostile.seed("app", &content, &image, Some("v1"));
    let name = format!("{}/app:v1", hostile.host());
    (hostile, content, image, layers, name)
}

#[test]
fn passing_trouble_is_overcome() {
    let (hostile, content, image, layers, name) = seeded(Config::default());
    let large = format!("/blobs/{}", layers[0].digest);
    let temp = temp();
    let soon = retry_date(Duration::from_secs(1));
    let faults: Vec<(&str, Vec<Fault>)> = vec![
        ("429 as JSON", vec![Fault::on("GET", "/blobs/", too_many_json(Some("0"))).times(2)]),
        ("429 as text", vec![Fault::on("*", "/manifests/", too_many_text(Some(&soon))).once()]),
        ("429 as a page", vec![Fault::on("*", "/v2/", too_many_html(None)).once()]),
        ("503", vec![Fault::on("GET", "/blobs/", Action::status(503)).once()]),
        ("no answer", vec![Fault::on("*", "/v2/app", Action::CloseBefore).times(2)]),
        ("a body that breaks off", vec![Fault::on("GET", &large, Action::CutBody(500_000)).once()]),
        ("one that breaks off thrice", vec![Fault::on("GET", &large, Action::CutBody(200_000)).times(3)]),
        (
            "a range answered with all",
            vec![
                Fault::on("GET", &large, Action::CutBody(500_000)).once(),
                Fault::new(Matcher::on("GET", &large).header("range"), Action::IgnoreRange),
            ],
        ),
        ("chunks", vec![Fault::on("GET", "/v2/", Action::Chunked)]),
        ("HTTP/1.0", vec![Fault::on("GET", "/v2/", Action::Http10)]),
        ("closing connections", vec![Fault::on("*", "/v2/", Action::ConnectionClose)]),
        ("no digest header", vec![Fault::on("*", "/manifests/", Action::NoDigestHeader)]),
    ];
    for (at, (what, faults)) in faults.into_iter().enumerate() {
        hostile.clear_faults();
        hostile.forget_requests();
        for fault in faults {
            hostile.fault(fault);
        }
        let path = temp.path().join(format!("{at}.tar"));
        let outcome = pack(&path, [&name]).run();
        assert_eq!(outcome.code, 0, "{what}: {outcome}\n{}", hostile.transcript());
        Packed::open(&path).has_all(&content, &image);
    }
}

#[test]
fn a_broken_body_goes_on_where_it_broke() {
    let (hostile, _, _, layers, name) = seeded(Config::default());
    let large = format!("/blobs/{}", layers[0].digest);
    hostile.fault(Fault::on("GET", &large, Action::CutBody(500_000)).once());
    let temp = temp();
    pack(&temp.path().join("out.tar"), [&name]).run().success();
    let ranges: Vec<_> = hostile
        .requests_on("GET", &large)
        .iter()
        .map(|request| request.head.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=500000-".to_owned())]);
}

#[test]
fn content_that_is_wrong_is_refused_by_name_and_leaves_no_bundle() {
    let (hostile, _, _, layers, name) = seeded(Config::default());
    for layer in &layers {
        let path = format!("/blobs/{}", layer.digest);
        let short = layer.bytes[..600].to_vec();
        for (action, why) in [
            (Action::FlipByte(700), "hash to"),
            (Action::ExtraBytes(1), "more than the announced"),
            (Action::ReplaceBody(short), "416"),
            (Action::WrongContentRange, "another range"),
        ] {
            hostile.clear_faults();
            match action {
                Action::WrongContentRange => {
                    hostile.fault(Fault::on("GET", &path, Action::CutBody(600)).once());
                }
                // Asked for the rest, it says that there is none.
                Action::ReplaceBody(_) => {
                    let ranged = Matcher::on("GET", &path).header("range");
                    hostile.fault(Fault::new(ranged, Action::status(416)));
                }
                _ => {}
            }
            hostile.fault(Fault::on("GET", &path, action));
            let temp = temp();
            let outcome = pack(&temp.path().join("out.tar"), [&name]).run();
            assert!([3, 4].contains(&outcome.code), "{outcome}");
            let outcome = outcome.stderr_has(&layer.digest.to_string()).stderr_has(&name).stderr_has(why);
            outcome.stderr_has("hint: what was fetched is kept").stderr_has("--keep-going");
            assert_eq!(listing(temp.path()), ["out.tar.partial", "out.tar.partial.journal"]);
        }
    }
    hostile.clear_faults();
    hostile.fault(Fault::on("*", "/manifests/", Action::WrongDigestHeader));
    let temp = temp();
    pack(&temp.path().join("out.tar"), [&name])
        .run()
        .code(4)
        .stderr_has("does not have manifest app@sha256:0123");
    assert!(listing(temp.path()).is_empty());
}

#[test]
fn the_connection_of_one_blob_that_stalls_and_ends_costs_only_that_blob() {
    let (hostile, content, image, layers, name) = seeded(Config::default());
    let large = format!("/blobs/{}", layers[0].digest);
    hostile.fault(Fault::on("GET", &large, Action::StallBody(300_000, Duration::from_millis(300))).once());
    let temp = temp();
    let path = temp.path().join("out.tar");
    pack(&path, [&name]).run().success();
    Packed::open(&path).has_all(&content, &image);
    assert_eq!(hostile.requests_on("GET", &layers[1].digest.to_string()).len(), 1);
}

#[test]
fn the_digest_a_tag_had_first_is_what_is_packed() {
    let (hostile, content, image, _, name) = seeded(Config::default());
    let mut other = Content::new();
    let moved = other.image("linux/amd64", &[layer(77, 100)]);
    hostile.seed("app", &other, &moved, None);
    // Moves the tag behind the first answer to it.
    hostile.fault(Fault::on("*", "/manifests/v1", Action::RedirectTo("127.0.0.1:9".to_owned())).after(1));
    let temp = temp();
    let path = temp.path().join("out.tar");
    pack(&path, [&name]).run().success();
    assert_eq!(Packed::open(&path).image(&name).root, image.digest);
    Packed::open(&path).has_all(&content, &image);
    assert_eq!(hostile.requests_on("*", "/manifests/v1").len(), 1, "{}", hostile.transcript());
}

#[test]
fn logging_in_works_in_every_way_and_its_absence_shows_before_anything_is_fetched() {
    let creds = format!("{USER}:{PASSWORD}");
    let one_use = TokenAuth { uses: Some(2), ..TokenAuth::default() };
    for auth in [
        Auth::Basic,
        Auth::Token(TokenAuth::default()),
        // Every token is worn out in the middle of the work.
        Auth::Token(one_use),
        Auth::Token(TokenAuth { refresh_tokens: true, access_token_only: true, ..TokenAuth::default() }),
    ] {
        let (hostile, content, image, _, name) = seeded(Config { auth, ..Config::default() });
        let open = Hostile::honest();
        open.seed("free", &content, &image, Some("v1"));
        let free = format!("{}/free:v1", open.host());
        let temp = temp();
        let path = temp.path().join("out.tar");
        // All repositories are asked before any manifest is read.
        let outcome = pack(&path, [&free, &name]).run().code(4);
        outcome.stderr_has("log in").never_says(PASSWORD);
        assert!(
            open.requests_on("*", "/blobs/").is_empty() && open.requests_on("*", "/manifests/").is_empty()
        );
        let specific = format!("{}={creds}", hostile.host());
        pack(&path, [&name, &free, "--creds", &specific]).run().success().never_says(PASSWORD);
        Packed::open(&path).has_all(&content, &image);
        let sent = |hostile: &Hostile| {
            hostile.requests().iter().any(|request| request.head.header("authorization").is_some())
        };
        assert!(sent(&hostile) && !sent(&open), "credentials are for one host");
    }
}

#[test]
fn a_real_registry_with_a_password_and_a_certificate_of_its_own() {
    let registry =
        RealRegistry::start_with(&RegistryOptions { auth: true, tls: true, ..RegistryOptions::default() });
    let (content, image, _) = image();
    registry.push("app", &content, &image, Some("v1"));
    let name = format!("{}/app:v1", registry.host());
    let temp = temp();
    let path = temp.path().join("out.tar");
    let certificates = registry.certificates();
    let trusted = || pack(&path, [name.as_str(), "--cert-dir"]).arg(&certificates);
    pack(&path, [&name]).run().code(4).stderr_has("certificate");
    trusted().run().code(4).stderr_has("log in");
    trusted().args(["--creds", "-"]).input(format!("{USER}:{PASSWORD}\n")).run().success();
    Packed::open(&path).has_all(&content, &image);
}

#[test]
fn a_redirect_takes_no_credentials_along() {
    let creds = format!("{USER}:{PASSWORD}");
    let (hostile, content, image, layers, name) = seeded(Config { auth: Auth::Basic, ..Config::default() });
    let storage = Hostile::honest();
    storage.seed("app", &content, &image, None);
    hostile.fault(Fault::on("GET", "/blobs/", Action::RedirectTo(storage.host().to_owned())));
    // The first presigned URL has expired by the time the rest is asked for.
    let large = layers[0].digest.to_string();
    storage.fault(Fault::on("GET", &large, Action::CutBody(400_000)).once());
    let temp = temp();
    let path = temp.path().join("out.tar");
    pack(&path, [&name, "--creds", &creds]).run().success();
    Packed::open(&path).has_all(&content, &image);
    assert!(!storage.requests().is_empty());
    assert!(storage.requests().iter().all(|request| request.head.header("authorization").is_none()));
}

#[test]
fn tokens_that_end_while_packing_are_renewed() {
    let auth = Auth::Token(TokenAuth { anonymous_pull: true, ..TokenAuth::default() });
    let (hostile, content, image, _, name) = seeded(Config { auth, ..Config::default() });
    hostile.fault(Fault::on("GET", "/blobs/", Action::ExpireTokens).once());
    let temp = temp();
    let path = temp.path().join("out.tar");
    pack(&path, [&name]).run().success();
    Packed::open(&path).has_all(&content, &image);
    assert!(hostile.token_requests().len() >= 2);
}

#[test]
fn a_refusal_without_a_challenge_is_said_as_one() {
    let (hostile, _, _, _, name) = seeded(Config::default());
    hostile.fault(Fault::on("*", "/v2/", Action::unauthorized_without_challenge()));
    let temp = temp();
    pack(&temp.path().join("out.tar"), [&name]).run().code(4).stderr_has("401").stderr_has("log in");
    assert!(listing(temp.path()).is_empty());
}

#[test]
fn warnings_of_a_registry_are_passed_on_once() {
    let (hostile, _, _, _, name) = seeded(Config::default());
    hostile.fault(Fault::on("*", "/v2/", Action::warning("old client")));
    let temp = temp();
    let outcome = pack(&temp.path().join("out.tar"), [&name]).run().success();
    assert_eq!(outcome.stderr.matches("a registry says").count(), 1, "{outcome}");
    outcome.stderr_has("old client");
}
