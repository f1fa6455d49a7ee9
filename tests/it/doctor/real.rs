//! Real registries, in the ways they are set up.

use std::path::Path;

use super::{ask, finding, push, state};
use crate::support::barge::barge;
use crate::support::images::{Content, layer};
use crate::support::peers::{PASSWORD, RealRegistry, RegistryOptions, USER};

/// The links by which a registry keeps content in a repository or below it.
fn links(registry: &RealRegistry, repository: &str) -> Vec<String> {
    let folder = registry.storage().join("docker/registry/v2/repositories").join(repository);
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let links = files.filter(|file| file.file_name() == "link");
    links.map(|file| file.path().display().to_string()).collect()
}

fn catalogue(registry: &RealRegistry) -> Vec<String> {
    let reply = registry.client().request("GET", "/v2/_catalog", &[], None);
    serde_json::from_value(reply.json()["repositories"].clone()).unwrap()
}

/// Puts an image in, which is nobody's business.
fn fill(registry: &RealRegistry) {
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 500)]);
    registry.push("team/app", &content, &image, Some("v1"));
}

#[test]
fn everything_is_found_out_and_nothing_stays() {
    let registry = RealRegistry::start();
    fill(&registry);
    let before = (catalogue(&registry), links(&registry, "team"));
    let place = format!("{}/mirror", registry.host());
    let document = ask(&place, &["--repo", "scratch/doctor"]).success().json();
    for id in
        ["reachable", "tls", "api", "auth", "catalogue", "push", "repositories", "depth", "chunks", "mount"]
    {
        state(&document, id, "ok");
    }
    assert!(state(&document, "sparse", "warning").contains("MANIFEST_BLOB_UNKNOWN"), "{document:#}");
    assert!(state(&document, "referrers", "ok").contains("no API"));
    assert!(state(&document, "manifest-size", "ok").contains("4 MiB"));
    assert!(state(&document, "delete", "ok").contains("is deleted"), "{document:#}");
    assert_eq!(push(&document), ["--sparse", "rewrite"]);
    assert_eq!(document["facts"]["sparse"], "refused");
    assert_eq!(document["facts"]["deletes"], true);
    assert_eq!(document["target"], place);
    // What is left is said, and is names only.
    assert_eq!(links(&registry, "scratch"), Vec::<String>::new());
    assert_eq!(links(&registry, "team"), before.1);
    let mut named: Vec<String> = catalogue(&registry);
    named.retain(|name| !before.0.contains(name));
    let left = document["left"].as_array().into_iter().flatten();
    let left: Vec<&str> = left.map(|text| text.as_str().unwrap()).collect();
    for name in &named {
        let said = format!("the empty repository {}/{name}", registry.host());
        assert!(left.contains(&said.as_str()), "{name} stays and is not told: {left:?}");
    }
    let log = registry.log();
    assert!(!log.contains("/v2/mirror/"), "something was asked of the target's own path: {log}");
}

#[test]
fn people_get_a_table_with_the_worst_first_and_the_push_last() {
    let registry = RealRegistry::start();
    let said = barge(["doctor", registry.host(), "--probe"]).run().success();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], format!("DONE: {}: 13 of 14 checks ok, 1 warning", registry.host()));
    assert!(
        lines[1].starts_with("  warning  sparse ") && lines[1].ends_with("-> --sparse rewrite"),
        "{said}"
    );
    let next = format!("next: barge push BUNDLE {} --sparse rewrite", registry.host());
    assert_eq!(lines.last(), Some(&next.as_str()));
    assert!(said.stderr.contains(&format!("below {}/barge-doctor, and deletes", registry.host())), "{said}");
    let path = "out/target.json";
    let tool = barge(["doctor", registry.host(), "-o", path]);
    std::fs::create_dir(tool.home().join("out")).unwrap();
    let file = tool.home().join(path);
    let running = tool.spawn();
    let said = running_to_end(running, &file);
    assert!(said.contains("application/vnd.barge.target.v1+json"), "{said}");
}

/// Waits for the end of a run and reads a file that it wrote before its home goes.
fn running_to_end(mut running: crate::support::barge::Running, file: &Path) -> String {
    while !running.has_ended() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn without_a_scratch_repository_nothing_is_written() {
    let registry = RealRegistry::start();
    let document = ask(registry.host(), &[]).success().json();
    for id in ["sparse", "referrers", "mount", "chunks", "manifest-size", "depth", "push", "delete"] {
        assert!(state(&document, id, "unknown").contains("--repo"), "{document:#}");
    }
    let log = registry.log();
    assert!(!["POST", "PUT", "PATCH", "DELETE"].iter().any(|method| log.contains(method)), "{log}");
    assert_eq!(document["facts"], serde_json::json!({ "catalogue": true }));
}

#[test]
fn who_we_are_is_told_and_no_password() {
    let registry = RealRegistry::start_with(&RegistryOptions { auth: true, ..RegistryOptions::default() });
    let encoded = "dGVzdGVyOnNlY3JldA==";
    let none = ask(registry.host(), &["--repo", "s"]).code(1).json();
    assert!(state(&none, "auth", "failed").contains("no credentials are known"), "{none:#}");
    assert!(state(&none, "push", "unknown").contains("the checks before it failed"));
    let wrong = ask(registry.host(), &["--creds", "tester:wr0ng"]).code(1).never_says("wr0ng");
    assert!(state(&wrong.json(), "auth", "failed").contains("given by --creds are rejected"), "{wrong}");
    let creds = format!("{USER}:{PASSWORD}");
    let right = ask(registry.host(), &["--repo", "s", "--creds", &creds]).success();
    let right = right.never_says(&creds).never_says(encoded);
    assert!(state(&right.json(), "auth", "ok").contains("given by --creds are accepted"));
    state(&right.json(), "push", "ok");
    state(&right.json(), "delete", "ok");
    // The file is named, and what it says is not.
    let tool = barge(["doctor", "--json", registry.host()]);
    let file = tool.home().join("auth.json");
    let content = format!(r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}"#, registry.host());
    std::fs::write(&file, content).unwrap();
    let file = file.display().to_string();
    let said = tool.args(["--authfile", &file]).run().success().never_says(encoded).never_says(&creds);
    let (_, seen, flags) = finding(&said.json(), "auth");
    assert!(seen.contains(&file) && seen.contains("basic"), "{seen}");
    assert_eq!(flags, ["--authfile", &file]);
}

#[test]
fn a_registry_that_is_read_only_is_known() {
    let registry =
        RealRegistry::start_with(&RegistryOptions { read_only: true, ..RegistryOptions::default() });
    let document = ask(registry.host(), &["--repo", "s"]).code(1).json();
    assert!(state(&document, "push", "failed").contains("uploads are refused (405"), "{document:#}");
    assert!(state(&document, "sparse", "unknown").contains("did not let it be tried"));
    assert_eq!(document["outcome"], "PARTIAL");
}

#[test]
fn what_can_not_be_deleted_is_listed() {
    let registry = RealRegistry::start_with(&RegistryOptions { keeps: true, ..RegistryOptions::default() });
    let document = ask(registry.host(), &["--repo", "s"]).success().json();
    assert!(state(&document, "delete", "warning").contains("405"), "{document:#}");
    assert_eq!(document["facts"]["deletes"], false);
    let left: Vec<String> = serde_json::from_value(document["left"].clone()).unwrap();
    let manifests: Vec<&String> = left.iter().filter(|text| text.starts_with("manifest ")).collect();
    assert!(!manifests.is_empty(), "{left:?}");
    for text in manifests {
        let digest = text.split('@').nth(1).unwrap().split([',', ' ']).next().unwrap();
        assert!(registry.client().manifest("s", digest).is_some(), "{text}");
    }
    assert!(left.iter().any(|text| text.starts_with("blob ")), "{left:?}");
    // What things are in is not empty, and all that stays is counted alike.
    assert!(left.contains(&format!("the repository {}/s", registry.host())), "{left:?}");
    assert!(!left.iter().any(|text| text.contains("empty repository")), "{left:?}");
    let seen = state(&document, "delete", "warning");
    assert!(seen.ends_with(&format!("; {} things stay", left.len())), "{seen} {left:?}");
}

#[test]
fn a_certificate_of_the_site_s_own_is_judged() {
    let registry = RealRegistry::start_with(&RegistryOptions { tls: true, ..RegistryOptions::default() });
    let document = ask(registry.host(), &["--repo", "s"]).code(1).json();
    let (state_of, seen, flags) = finding(&document, "tls");
    // Which folder it is to be is not known: nothing to type, and nothing for the document.
    assert_eq!((state_of.as_str(), flags.len()), ("failed", 0));
    assert!(push(&document).is_empty(), "{document:#}");
    assert!(
        document["findings"][0]["hint"].as_str().unwrap().contains("give --cert-dir DIR"),
        "{document:#}"
    );
    let said = barge(["doctor", registry.host(), "--repo", "s"]).run().code(1);
    assert!(said.stdout.lines().last().unwrap().ends_with("(after the cause is mended)"), "{said}");
    assert!(
        seen.contains("no authority that is trusted here") && seen.contains("fingerprint sha256:"),
        "{seen}"
    );
    state(&document, "reachable", "ok");
    state(&document, "auth", "unknown");
    let certificates = registry.certificates().display().to_string();
    let document = ask(registry.host(), &["--repo", "s", "--cert-dir", &certificates]).success().json();
    let (state_of, seen, flags) = finding(&document, "tls");
    assert!(seen.contains("is trusted, valid until 20"), "{seen}");
    assert_eq!((state_of.as_str(), flags), ("ok", vec!["--cert-dir".to_owned(), certificates.clone()]));
    assert_eq!(push(&document), ["--sparse", "rewrite", "--cert-dir", &certificates]);
    let document = ask(registry.host(), &["--insecure", "127.0.0.1"]).success().json();
    let (state_of, seen, flags) = finding(&document, "tls");
    assert!(seen.contains("accepted unverified"), "{seen}");
    assert_eq!((state_of.as_str(), &flags[0]), ("warning", &"--insecure".to_owned()));
}

/// The address of this machine in a spelling that passes for a name, of which no certificate is.
fn elsewhere(registry: &RealRegistry) -> String {
    registry.host().replace("127.0.0.1", "0x7f000001")
}

#[test]
fn a_certificate_that_ends_soon_is_told() {
    let options = RegistryOptions { tls: true, short_lived: true, ..RegistryOptions::default() };
    let registry = RealRegistry::start_with(&options);
    let certificates = registry.certificates().display().to_string();
    let document = ask(registry.host(), &["--cert-dir", &certificates]).success().json();
    assert!(state(&document, "tls", "warning").contains("is trusted, valid until"), "{document:#}");
}

#[test]
fn plain_http_is_found_out_without_showing_a_password() {
    let registry = RealRegistry::start_with(&RegistryOptions { auth: true, ..RegistryOptions::default() });
    let place = elsewhere(&registry);
    let creds = format!("{USER}:{PASSWORD}");
    let said = barge(["doctor", &place, "--repo", "s", "--creds", &creds]).run().code(1);
    assert!(said.stdout.contains(&format!("speaks plain HTTP only  -> --insecure {place}")), "{said}");
    let next = said.stdout.lines().last().unwrap();
    assert_eq!(next, format!("next: barge doctor {place} --repo s --creds - --insecure {place}"));
    assert!(!registry.log().contains(USER), "{}", registry.log());
    let document = ask(&place, &["--creds", &creds, "--insecure", &place]).success().json();
    assert!(state(&document, "tls", "warning").contains("in the clear"), "{document:#}");
    assert_eq!(push(&document), ["--insecure", &place, "--creds", "-"]);
    let said =
        barge(["doctor", &place, "--repo", "s", "--insecure", &place, "--creds", &creds]).run().success();
    let next = said.stdout.lines().last().unwrap();
    assert_eq!(
        next,
        format!("next: barge push BUNDLE {place} --insecure {place} --sparse rewrite --creds -")
    );
    // Rejected ones are to be typed again, once.
    let said = barge(["doctor", registry.host(), "--creds=tester:wr0ng"]).run().code(1).never_says("wr0ng");
    let next = said.stdout.lines().last().unwrap();
    assert_eq!(
        next,
        format!("next: barge doctor {} --creds -   (after the cause is mended)", registry.host())
    );
}

#[test]
fn a_place_where_nobody_is_fails_soon() {
    let begun = std::time::Instant::now();
    let said = barge(["doctor", "127.0.0.1:1", "--repo", "s"]).run().code(1);
    assert!(said.stdout.starts_with("PARTIAL: 127.0.0.1:1: 0 of 14 checks ok, 1 failed"), "{said}");
    assert!(said.stdout.contains("can't be connected to"), "{said}");
    assert!(said.stdout.lines().last().unwrap().ends_with("(after the cause is mended)"), "{said}");
    assert!(begun.elapsed().as_secs() < 20);
    let document = ask("registry.invalid", &[]).code(1).json();
    assert!(state(&document, "reachable", "failed").contains("can't be resolved"), "{document:#}");
}
