//! Inventories that were interrupted, and how they go on.

use super::*;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::support::hostile::{Action, Fault};

/// A registry with five repositories of four images each.
fn rows() -> (Hostile, Content) {
    let registry = Hostile::honest();
    let mut content = Content::new();
    for repository in 0..5u64 {
        for tag in 0..4u64 {
            let root = content.image("linux/amd64", &[layer(10 * repository + tag, 200)]);
            registry.seed(&format!("row/r{repository}"), &content, &root, Some(&format!("v{tag}")));
        }
    }
    (registry, content)
}

#[test]
fn a_run_that_was_stopped_goes_on_without_asking_twice() {
    let (registry, _) = rows();
    let desk = Desk::new();
    let take = |name: &str, more: &[&str]| {
        desk.take(name, &[registry.host(), "--jobs", "1", "--retry-times", "0"]).args(more).run()
    };
    take("whole.json", &[]).success();
    registry.forget_requests();
    // In the third repository, at its third image.
    registry.fault(Fault::on("GET", "/manifests/sha256:", Action::status(503)).after(10));
    let said = take("b.json", &[]).code(4);
    said.stderr_has("b.json.partial").stderr_has("503").stderr_has("row/r2:v2");
    assert_eq!(desk.listing(), ["b.json.partial", "whole.json"]);
    let partial = desk.file("b.json.partial");
    assert_eq!(std::fs::metadata(&partial).unwrap().permissions().mode() & 0o777, 0o600);
    let answered = |path: &str| -> BTreeSet<String> {
        let requests = registry.requests_on("*", path).into_iter();
        requests.filter(|request| request.status == Some(200)).map(|request| request.head.path).collect()
    };
    let asked = || -> BTreeSet<String> { &answered("/manifests/sha256:") | &answered("/tags/list") };
    let before = asked();
    assert_eq!(before.len(), 10 + 3);
    registry.clear_faults();
    registry.forget_requests();
    // Another question is refused and changes nothing, and a torn line costs no more than itself.
    let other = desk.take("b.json", &[&format!("{}/row/r1", registry.host())]).run().code(3);
    other.stderr_has("other arguments").stderr_has("--restart");
    take("b.json", &["--check-blobs"]).code(3);
    assert!(registry.requests().is_empty(), "{}", registry.transcript());
    std::fs::OpenOptions::new()
        .append(true)
        .open(&partial)
        .unwrap()
        .write_all(b"{\"found\":{\"repo")
        .unwrap();
    take("b.json", &[]).success().stderr_has("went on with what was found");
    // What a batch did not finish is asked again: of the third repository all but its tags.
    let again: BTreeSet<String> = &before & &asked();
    assert_eq!(again.len(), 2, "{again:?}");
    assert!(again.iter().all(|path| path.starts_with("/v2/row/r2/manifests/")), "{again:?}");
    assert_eq!(asked().len(), 12 + 2);
    assert!(registry.requests_on("*", "/row/r1/").is_empty());
    assert!(answered("_catalog").is_empty(), "the catalogue stands in the journal");
    assert_eq!(desk.listing(), ["b.json", "whole.json"]);
    assert_eq!(desk.read("b.json").content.id(), desk.read("whole.json").content.id());
}

#[test]
fn a_restart_forgets_what_was_found() {
    let (registry, _) = rows();
    let desk = Desk::new();
    let place = format!("{}/row/", registry.host());
    registry.fault(Fault::on("GET", "/row/r3/manifests/", Action::status(429)));
    let more = ["--jobs", "1", "--retry-times", "0"];
    desk.take("b.json", &[&place]).args(more).run().code(4);
    registry.clear_faults();
    registry.forget_requests();
    let one = format!("{}/row/r1", registry.host());
    desk.take("b.json", &[&one, "--restart"]).run().success().never_says("went on");
    let found = desk.read("b.json");
    assert_eq!(names(&found), ["row/r1:v0", "row/r1:v1", "row/r1:v2", "row/r1:v3"]);
    assert_eq!(found.content.holdings.repositories(), ["row/r1"]);
    assert_eq!(desk.listing(), ["b.json"]);
}

#[test]
fn a_check_that_was_stopped_proves_nothing_twice() {
    let (registry, content) = rows();
    let desk = Desk::new();
    let take = || {
        desk.take("b.json", &[registry.host(), "--check-blobs", "--jobs", "1", "--retry-times", "0"]).run()
    };
    // Each repository has eight blobs; the last of the second is not reached.
    registry.fault(
        Fault::new(
            crate::support::hostile::Matcher::on("GET", "/blobs/").header("range"),
            Action::CloseBefore,
        )
        .after(15),
    );
    take().code(4);
    registry.clear_faults();
    registry.forget_requests();
    take().success();
    assert!(registry.requests_on("GET", "/row/r0/").is_empty(), "{}", registry.transcript());
    assert_eq!(registry.requests_on("GET", "/row/r1/blobs/").len(), 8 + 4);
    let found = desk.read("b.json");
    assert!(found.checked);
    assert_eq!(found.content.holdings.len(), content.blobs.len());
}
