//! Registries of every habit that is known.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ask, finding, push, state};
use crate::support::hostile::fault::too_many_json;
use crate::support::hostile::{Action, Auth, Config, Fault, Hostile, Mount, SparsePolicy, TokenAuth};
use crate::support::images::{Content, layer};
use crate::support::peers::{PASSWORD, USER, push_content};

/// Where things are tried.
const SCRATCH: &str = "team/scratch";

/// Asserts that nothing of a probe is left.
#[track_caller]
pub(super) fn assert_empty(registry: &Hostile) {
    for name in registry.repositories() {
        assert_eq!(registry.counts(&name), (0, 0, 0), "{name} has something left\n{}", registry.transcript());
    }
    assert_eq!(registry.open_uploads(), 0, "{}", registry.transcript());
}

/// Asks everything of a registry that is like this.
#[track_caller]
fn probe(config: Config, code: i32) -> (Hostile, Value) {
    let registry = Hostile::start(config);
    let document = ask(registry.host(), &["--repo", SCRATCH]).code(code).json();
    assert_empty(&registry);
    (registry, document)
}

#[test]
fn one_that_takes_everything_needs_no_flag() {
    let (registry, document) = probe(Config { referrers_api: true, ..Config::default() }, 0);
    for id in barge::doctor::CHECKS {
        state(&document, id, "ok");
    }
    assert!(push(&document).is_empty(), "{document:#}");
    assert_eq!(document["facts"]["sparse"], "accepted");
    assert_eq!(document["facts"]["referrers"], "api");
    assert_eq!(document["facts"]["maxPathComponents"], Value::Null);
    let outside =
        registry.writes().into_iter().find(|request| !request.head.path.starts_with("/v2/team/scratch/"));
    assert!(outside.is_none(), "written outside of the scratch repository: {outside:?}");
}

#[test]
fn without_a_scratch_repository_no_request_could_change_anything() {
    for auth in [Auth::None, Auth::Token(TokenAuth { refresh_tokens: true, ..TokenAuth::default() })] {
        let registry = Hostile::start(Config { auth, referrers_api: true, ..Config::default() });
        ask(registry.host(), &["--creds", &format!("{USER}:{PASSWORD}")]).success();
        assert!(registry.writes().is_empty(), "{}", registry.transcript());
    }
}

#[test]
fn every_shape_of_a_refused_sparse_index_is_known() {
    for policy in [
        SparsePolicy::RefuseLikeV2,
        SparsePolicy::RefuseLikeZot,
        SparsePolicy::RefuseLikeQuay,
        SparsePolicy::RefuseLikeEcr,
    ] {
        let (_, document) = probe(Config { sparse: policy, ..Config::default() }, 0);
        assert!(state(&document, "sparse", "warning").contains("is refused (400"), "{policy:?} {document:#}");
        assert_eq!(document["facts"]["sparse"], "refused", "{policy:?}");
        assert_eq!(push(&document), ["--sparse", "rewrite"]);
    }
    let registry = Hostile::honest();
    registry.fault(Fault::on("PUT", "/manifests/barge-doctor-sparse", Action::CloseBefore));
    let document = ask(registry.host(), &["--repo", SCRATCH]).success().json();
    assert!(state(&document, "sparse", "warning").contains("dropping the connection"), "{document:#}");
    assert_empty(&registry);
}

#[test]
fn made_up_children_are_seen_through() {
    let registry = Hostile::start(Config { sparse: SparsePolicy::RefuseLikeV2, ..Config::default() });
    registry.fault(Fault::on("PUT", "/manifests/", Action::StoreStubs));
    let document = ask(registry.host(), &["--repo", SCRATCH]).success().json();
    assert!(state(&document, "sparse", "warning").contains("made up"), "{document:#}");
    assert_eq!(
        (&document["facts"]["sparse"], push(&document)),
        (&"stubbed".into(), vec!["--sparse", "rewrite"])
    );
    let registry = Hostile::honest();
    let other = Action::ReplaceBody(b"{\"manifests\":[]}".to_vec());
    registry.fault(Fault::on("GET", "/manifests/barge-doctor-sparse", other));
    let document = ask(registry.host(), &["--repo", SCRATCH]).success().json();
    assert!(state(&document, "sparse", "warning").contains("and changed"), "{document:#}");
}

#[test]
fn mounts_that_are_not_made_are_told() {
    for (mount, seen) in
        [(Mount::Never, "not done (202)"), (Mount::Status(405), "refused"), (Mount::Status(401), "refused")]
    {
        let (_, document) = probe(Config { mount, ..Config::default() }, 0);
        assert!(state(&document, "mount", "warning").contains(seen), "{mount:?} {document:#}");
        assert_eq!(document["facts"]["mounts"], false);
    }
}

#[test]
fn chunks_are_tried_where_they_are_small() {
    let registry = Hostile::honest();
    registry.fault(Fault::on("PATCH", "/blobs/uploads/", Action::error(405, "UNSUPPORTED")));
    let document = ask(registry.host(), &["--repo", SCRATCH]).success().json();
    assert!(state(&document, "chunks", "warning").contains("405 UNSUPPORTED"), "{document:#}");
    assert_eq!(document["facts"]["chunks"], false);
    assert_empty(&registry);
    let (_, document) = probe(Config { chunk_min_length: Some(200), ..Config::default() }, 0);
    assert!(state(&document, "chunks", "ok").contains("of 200 bytes at least"), "{document:#}");
    let (registry, document) = probe(Config { chunk_min_length: Some(5 << 20), ..Config::default() }, 0);
    assert!(state(&document, "chunks", "ok").contains("not tried"), "{document:#}");
    assert_eq!(document["facts"]["minChunkBytes"], 5 << 20);
    assert!(registry.requests_on("PATCH", "/").is_empty());
}

#[test]
fn the_size_of_manifests_is_found_with_three_tries() {
    for (limit, taken) in [(1 << 20, 1 << 20), (2 << 20, 2 << 20), (3 << 20, 3 << 20), (4096, 0)] {
        let (registry, document) = probe(Config { max_manifest: limit, ..Config::default() }, 0);
        assert!(state(&document, "manifest-size", "warning").contains("413"), "{document:#}");
        assert_eq!(document["facts"]["maxManifestBytes"], taken, "{limit}");
        assert!(registry.requests_on("PUT", "/manifests/barge-doctor-size").len() <= 3);
    }
}

#[test]
fn repositories_that_must_be_made_first_are_told() {
    let config = Config { requires_repository: true, ..Config::default() };
    let (_, document) = probe(config.clone(), 1);
    assert!(state(&document, "push", "failed").contains("does not exist (404 NAME_UNKNOWN"), "{document:#}");
    assert!(state(&document, "repositories", "warning").contains("must be made"), "{document:#}");
    let registry = Hostile::start(config);
    registry.create_repository(SCRATCH);
    let document = ask(registry.host(), &["--repo", SCRATCH]).success().json();
    state(&document, "push", "ok");
    assert!(state(&document, "repositories", "warning").contains("404 NAME_UNKNOWN"), "{document:#}");
    assert_eq!(document["facts"]["createsRepositories"], false);
    state(&document, "depth", "unknown");
    assert_empty(&registry);
}

#[test]
fn the_depth_of_paths_is_found() {
    for limit in [2, 3, 4, 7] {
        let (_, document) = probe(Config { max_path_components: limit, ..Config::default() }, 0);
        let (state, seen, flags) = finding(&document, "depth");
        assert_eq!(
            (state.as_str(), &document["facts"]["maxPathComponents"]),
            ("warning", &limit.into()),
            "{seen}"
        );
        assert_eq!(flags, ["--max-path-components", &limit.to_string()]);
    }
    let registry = Hostile::honest();
    registry.fault(Fault::on("POST", "/scratch/a/", Action::error(403, "DENIED")));
    let document = ask(registry.host(), &["--repo", SCRATCH]).success().json();
    assert!(state(&document, "depth", "unknown").contains("is denied"), "{document:#}");
}

#[test]
fn manifests_that_refer_to_another_may_be_refused() {
    let registry = Hostile::honest();
    let with_subject = Fault::on("PUT", "/manifests/sha256:", Action::error(400, "MANIFEST_INVALID"));
    registry.fault(with_subject);
    let document = ask(registry.host(), &["--repo", SCRATCH]).success().json();
    assert!(state(&document, "referrers", "warning").contains("is refused (400"), "{document:#}");
    assert_eq!(document["facts"]["referrers"], "refused");
    assert_empty(&registry);
}

#[test]
fn rights_are_read_from_tokens_and_from_what_happens() {
    let registry = Hostile::start(Config { auth: Auth::Basic, ..Config::default() });
    let creds = format!("{USER}:{PASSWORD}");
    registry.fault(Fault::on("POST", "/blobs/uploads/", Action::error(403, "DENIED")));
    let said = ask(registry.host(), &["--repo", SCRATCH, "--creds", &creds]).code(1).never_says(&creds);
    assert!(state(&said.json(), "push", "failed").contains("denied (403 DENIED"), "{said}");
    let auth = Auth::Token(TokenAuth { anonymous_pull: true, ..TokenAuth::default() });
    let registry = Hostile::start(Config { auth, ..Config::default() });
    let document = ask(registry.host(), &["--repo", SCRATCH]).code(1).json();
    assert!(state(&document, "auth", "ok").contains("gives one to anybody"), "{document:#}");
    state(&document, "push", "failed");
    let said = ask(registry.host(), &["--repo", SCRATCH, "--creds", &creds]).success().never_says(&creds);
    assert!(state(&said.json(), "auth", "ok").contains("(bearer)"), "{said}");
    assert_empty(&registry);
}

#[test]
fn what_is_no_registry_is_told() {
    let registry = Hostile::honest();
    registry.fault(Fault::on("GET", "/v2/", Action::status(404)));
    let document = ask(registry.host(), &[]).code(1).json();
    assert!(state(&document, "api", "failed").contains("it is no registry"), "{document:#}");
    registry.clear_faults();
    registry.fault(Fault::on("GET", "/v2/", Action::status(503)));
    let document = ask(registry.host(), &[]).code(1).json();
    assert!(state(&document, "api", "failed").contains("503"), "{document:#}");
    registry.clear_faults();
    registry.fault(Fault::on("GET", "/_catalog", Action::status(404)));
    let document = ask(registry.host(), &[]).success().json();
    assert!(state(&document, "catalogue", "warning").contains("not offered (404)"), "{document:#}");
}

#[test]
fn nothing_waits_for_ever() {
    let long = || Action::Stall(Duration::from_secs(120));
    let begun = Instant::now();
    let registry = Hostile::honest();
    registry.fault(Fault::on("GET", "/v2/", long()));
    let document = ask(registry.host(), &["--timeout", "1"]).code(1).json();
    assert!(state(&document, "reachable", "failed").contains("no answer"), "{document:#}");
    for (methods, path, id) in [
        ("PUT", "/manifests/barge-doctor-sparse", "sparse"),
        ("PATCH", "/blobs/uploads/", "chunks"),
        ("GET", "/referrers/", "referrers"),
    ] {
        let registry = Hostile::honest();
        registry.fault(Fault::on(methods, path, long()));
        let document = ask(registry.host(), &["--repo", SCRATCH, "--timeout", "1"]).success().json();
        state(&document, id, "unknown");
        state(&document, "manifest-size", "ok");
        assert_empty(&registry);
    }
    // One that falls silent altogether is not asked everything.
    let registry = Hostile::honest();
    registry.fault(Fault::on("POST|PUT|PATCH|GET|HEAD|DELETE", "/scratch/", long()).after(9));
    let document = ask(registry.host(), &["--repo", SCRATCH, "--timeout", "1"]).code(1).json();
    assert!(state(&document, "reachable", "failed").contains("stopped answering"), "{document:#}");
    assert!(!document["left"].as_array().unwrap().is_empty(), "{document:#}");
    assert!(state(&document, "manifest-size", "unknown").contains("stopped answering"), "{document:#}");
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
}

#[test]
fn one_that_asks_for_patience_is_not_waited_for_long() {
    let begun = Instant::now();
    let registry = Hostile::honest();
    registry.fault(Fault::on("PUT", "/manifests/", too_many_json(Some("300"))));
    let document = ask(registry.host(), &["--repo", SCRATCH, "--timeout", "1"]).json();
    assert!(state(&document, "sparse", "unknown").contains("429"), "{document:#}");
    assert_empty(&registry);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    let registry = Hostile::honest();
    registry.fault(Fault::on("PUT", "/manifests/", Action::error(500, "UNKNOWN")));
    let document = ask(registry.host(), &["--repo", SCRATCH]).code(1).json();
    assert!(
        state(&document, "push", "failed").contains("the manifest of an image is not (500"),
        "{document:#}"
    );
    assert_empty(&registry);
    let registry = Hostile::honest();
    registry.fault(Fault::on("PUT", "/manifests/", Action::DropAnswer));
    ask(registry.host(), &["--repo", SCRATCH]).json();
    assert_empty(&registry);
}

#[test]
fn two_that_ask_at_once_and_what_was_there_are_left_alone() {
    let registry = Hostile::honest();
    let of_others = ["barge-doctor-sparse", "barge-doctor-image", "barge-doctor-size"];
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 100)]);
    of_others.iter().for_each(|tag| push_content(registry.host(), SCRATCH, &content, &image, Some(tag)));
    let before = registry.tags(SCRATCH);
    let documents = std::thread::scope(|scope| {
        let run = || ask(registry.host(), &["--repo", SCRATCH]).success().json();
        let runs = [scope.spawn(run), scope.spawn(run)];
        runs.map(|run| run.join().unwrap())
    });
    for document in documents {
        state(&document, "sparse", "ok");
        assert_eq!(document["facts"]["sparse"], "accepted", "{document:#}");
    }
    assert_eq!(registry.tags(SCRATCH), before);
    let manifests = registry.requests_on("PUT", "/manifests/barge-doctor-sparse-");
    let paths: std::collections::BTreeSet<&str> =
        manifests.iter().map(|request| request.head.path.as_str()).collect();
    assert_eq!(paths.len(), 2, "{}", registry.transcript());
}
