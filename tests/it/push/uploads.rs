//! Registries that make uploading hard.

use barge::oci::Descriptor;

use super::{Packed, assert_tag, assert_whole, pack, shop};
use crate::support::hostile::fault::{too_many_html, too_many_json, too_many_text};
use crate::support::hostile::{
    Action, Auth, Config, Fault, Hostile, LocationForm, Matcher, Mount, TokenAuth,
};
use crate::support::images::{Content, layer};
use crate::support::peers::{PASSWORD, USER, push_content};

/// An image with one layer of this size, and a bundle of it.
fn image(size: usize) -> (Content, Descriptor, Packed) {
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, size)]);
    let from = Hostile::honest();
    push_content(from.host(), "app", &content, &image, Some("v1"));
    let bundle = pack(&[&format!("{}/app:v1", from.host())], &[]);
    (content, image, bundle)
}

#[track_caller]
fn assert_arrives(to: &Hostile, (content, image, bundle): &(Content, Descriptor, Packed), more: &[&str]) {
    let outcome = bundle.push(to.host(), more);
    assert_eq!(outcome.code, 0, "{outcome}\n{}", to.transcript());
    assert_tag(to.host(), "app", "v1", content, image);
    assert_whole(to.host(), "app", content, image);
}

#[test]
fn every_form_of_location_is_followed() {
    let image = image(5000);
    for form in
        [LocationForm::Relative, LocationForm::Absolute, LocationForm::OtherScheme, LocationForm::WithQuery]
    {
        let to = Hostile::start(Config { location: form, ..Config::default() });
        assert_arrives(&to, &image, &[]);
    }
}

#[test]
fn a_mount_that_fails_becomes_an_upload() {
    let shop = shop();
    let bundle = shop.pack(&["--attachments", "none"]);
    for mount in [Mount::Never, Mount::Status(401), Mount::Status(404), Mount::Status(405)] {
        let to = Hostile::start(Config { mount, ..Config::default() });
        let done = bundle.push(to.host(), &[]).success();
        assert!(done.stdout.contains("mounted 0 blobs"), "{mount:?} {done}");
        for (repository, root) in [("team/app", &shop.app), ("team/tool", &shop.tool)] {
            assert_tag(to.host(), repository, "v1", &shop.content, root);
            assert_whole(to.host(), repository, &shop.content, root);
        }
        // The session that a 202 opened is used, not left open.
        assert_eq!(to.open_uploads(), 0, "{mount:?}\n{}", to.transcript());
    }
}

#[test]
fn a_body_too_large_goes_in_chunks() {
    let image = image(3_000_000);
    let to = Hostile::start(Config {
        body_limit: Some(1024 * 1024),
        location: LocationForm::WithQuery,
        ..Config::default()
    });
    assert_arrives(&to, &image, &[]);
    let refused = to.requests_on("PUT|PATCH", "/uploads/").into_iter().filter(|r| r.status == Some(413));
    assert!(refused.count() >= 1 && !to.requests_on("PATCH", "/uploads/").is_empty(), "{}", to.transcript());
}

#[test]
fn a_token_that_ends_between_the_last_chunk_and_the_put_is_renewed() {
    let mut content = Content::new();
    let root = content.image("linux/amd64", &[layer(1, 2_500_000)]);
    let from = Hostile::honest();
    push_content(from.host(), "app", &content, &root, Some("v1"));
    let bundle = pack(&[&format!("{}/app:v1", from.host())], &[]);
    let to = Hostile::start(Config {
        auth: Auth::Token(TokenAuth::default()),
        body_limit: Some(1024 * 1024),
        ..Config::default()
    });
    let last = Matcher::on("PUT", "/uploads/").and(|head| head.header("content-length") == Some("0"));
    let fault = to.fault(Fault::new(last, Action::ExpireTokens).once());
    let whole = to.fault(Fault::on("PUT", "/manifests/sha256:", Action::ExpireTokens).once());
    let creds = format!("{USER}:{PASSWORD}");
    let done = bundle.push(to.host(), &["--creds", &creds]);
    assert_eq!(done.code, 0, "{done}\n{}", to.transcript());
    assert_eq!((to.struck(fault), to.struck(whole)), (1, 1), "{}", to.transcript());
    to.configure(|config| config.auth = Auth::None);
    assert_tag(to.host(), "app", "v1", &content, &root);
    assert_whole(to.host(), "app", &content, &root);
}

#[test]
fn passing_failures_pass() {
    let image = image(200_000);
    let cases: Vec<(&str, &str, &str, Action)> = vec![
        ("the session is forgotten", "PUT", "/uploads/", Action::ForgetSession),
        ("429 as JSON", "POST", "/uploads/", too_many_json(Some("0"))),
        ("429 as text", "PUT", "/uploads/", too_many_text(Some("0"))),
        ("429 as a page", "PUT", "/manifests/", too_many_html(None)),
        ("500 for a manifest", "PUT", "/manifests/", Action::status(500)),
        ("503 for an upload", "PUT", "/uploads/", Action::status(503)),
        ("closed before the body", "PUT", "/uploads/", Action::CloseBefore),
        ("closed before the manifest", "PUT", "/manifests/", Action::CloseBefore),
        ("the answer is lost", "PUT", "/uploads/", Action::DropAnswer),
        ("cut, and kept", "PUT", "/uploads/", Action::CutUpload { after: 70_000, keep: true }),
        ("cut, and lost", "PUT", "/uploads/", Action::CutUpload { after: 70_000, keep: false }),
        ("the tag's answer is lost", "PUT", "/manifests/v1", Action::DropAnswer),
    ];
    for (what, methods, path, action) in cases {
        let to = Hostile::honest();
        let fault = to.fault(Fault::on(methods, path, action).once());
        assert_arrives(&to, &image, &[]);
        assert_eq!(to.struck(fault), 1, "{what}");
    }
}

#[test]
fn old_and_curt_servers_will_do() {
    let image = image(50_000);
    for action in [Action::ConnectionClose, Action::Http10] {
        let to = Hostile::honest();
        to.fault(Fault::on("*", "", action));
        assert_arrives(&to, &image, &[]);
    }
}

#[test]
fn repositories_that_must_be_made_first_are_listed() {
    let shop = shop();
    let bundle = shop.pack(&["--attachments", "none"]);
    let to = Hostile::start(Config { requires_repository: true, ..Config::default() });
    let failed = bundle.push(to.host(), &[]).code(4);
    for name in ["team/app", "team/tool"] {
        assert!(failed.stderr.contains(&format!("{}/{name}", to.host())), "{failed}");
    }
    to.create_repository("team/app");
    let failed = bundle.push(to.host(), &[]).code(4);
    assert!(failed.stderr.contains(&format!("{}/team/tool", to.host())), "{failed}");
    assert!(!failed.stderr.contains(&format!("{}/team/app", to.host())), "{failed}");
    to.create_repository("team/tool");
    bundle.push(to.host(), &[]).success().stdout_has("DONE:");
}

#[test]
fn children_that_a_registry_sees_late_are_waited_for() {
    let shop = shop();
    let bundle = shop.pack(&["--attachments", "none"]);
    let to = Hostile::honest();
    let path = format!("/team/app/manifests/{}", shop.app.digest);
    let fault = to.fault(Fault::on("PUT", &path, Action::ChildrenUnknown).times(2));
    bundle.push(to.host(), &[]).success();
    assert_eq!(to.struck(fault), 2);
    assert_tag(to.host(), "team/app", "v1", &shop.content, &shop.app);
}

#[test]
fn credentials_never_follow_an_upload_to_another_host() {
    let (_, _, bundle) = image(5000);
    let other = Hostile::honest();
    let to = Hostile::start(Config {
        auth: Auth::Basic,
        location: LocationForm::OtherHost(other.host().to_owned()),
        ..Config::default()
    });
    let creds = format!("{}={USER}:{PASSWORD}", to.host());
    // The other host knows of no such session: the push fails, and tells it nothing.
    let failed = bundle.push(to.host(), &["--creds", &creds, "--retry-times", "0"]);
    assert_ne!(failed.code, 0, "{failed}");
    for request in other.requests() {
        assert!(request.head.header("authorization").is_none(), "{}", request.line());
    }
    assert!(to.requests_on("PUT", "/manifests/").is_empty());
}

#[test]
fn a_proxy_that_says_413_and_hangs_up_gets_chunks() {
    let image = image(9_000_000);
    let to = Hostile::honest();
    let large = Matcher::on("PUT|PATCH", "/uploads/").and(|head| {
        let length = head.header("content-length").and_then(|length| length.parse::<u64>().ok());
        length.is_some_and(|length| length > 3_000_000)
    });
    let page = crate::support::hostile::Response::html(413, "Request Entity Too Large");
    let fault = to.fault(Fault::new(large, Action::RespondAndReset(page)));
    assert_arrives(&to, &image, &[]);
    assert!(to.struck(fault) >= 1 && !to.requests_on("PATCH", "/uploads/").is_empty(), "{}", to.transcript());
}

#[test]
fn a_registry_that_denies_is_found_out_before_any_write() {
    let (_, _, bundle) = image(5000);
    for (status, code) in [(401, "UNAUTHORIZED"), (403, "DENIED")] {
        let to = Hostile::honest();
        to.fault(Fault::on("*", "/v2/app/", Action::error(status, code)));
        let failed = bundle.push(to.host(), &[]).code(4);
        assert!(failed.stderr.contains("log in"), "{failed}");
        assert!(to.requests_on("PUT|PATCH", "/v2/").is_empty(), "{}", to.transcript());
    }
}

#[test]
fn a_registry_that_stores_something_else_is_found_out() {
    let (_, _, bundle) = image(5000);
    let to = Hostile::honest();
    to.fault(Fault::on("GET", "/manifests/v1", Action::ReplaceBody(b"{}".to_vec())).after(1));
    let failed = bundle.push(to.host(), &[]);
    assert_ne!(failed.code, 0, "{failed}\n{}", to.transcript());
}
