//! `barge doctor` through the program: what it finds out of real registries and of hostile ones, what it leaves there,
//! and what `--for` makes of it.

mod hostile;
mod interrupted;
mod plan;
mod real;
mod spec;

use serde_json::Value;

use crate::support::barge::{Outcome, barge};

/// Asks about a registry and returns the document.
fn ask(host: &str, more: &[&str]) -> Outcome {
    barge(["doctor", "--json", host]).args(more).run()
}

/// What one check found: its state, what was seen, its flags.
#[track_caller]
fn finding(document: &Value, id: &str) -> (String, String, Vec<String>) {
    let findings = document["findings"].as_array().unwrap();
    let found: Vec<&Value> = findings.iter().filter(|finding| finding["id"] == id).collect();
    assert_eq!(found.len(), 1, "{id} in {document:#}");
    let text = |field: &str| found[0][field].as_str().unwrap().to_owned();
    let flags = found[0]["flags"].as_array().into_iter().flatten();
    (text("state"), text("seen"), flags.map(|flag| flag.as_str().unwrap().to_owned()).collect())
}

/// Asserts the state of a check, and returns what was seen.
#[track_caller]
fn state(document: &Value, id: &str, expected: &str) -> String {
    let (state, seen, _) = finding(document, id);
    assert_eq!(state, expected, "{id}: {seen} in {document:#}");
    seen
}

/// The words for a push.
fn push(document: &Value) -> Vec<&str> {
    document["push"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn this_machine_is_looked_at_without_a_registry() {
    let tool = barge(["doctor", "--json"]);
    std::fs::create_dir_all(tool.home().join(".docker")).unwrap();
    let auth = tool.home().join(".docker/config.json");
    std::fs::write(&auth, r#"{"auths":{"registry.example":{"auth":"dXNlcjpoaWRkZW4="}}}"#).unwrap();
    let scratch = tool.home().display().to_string();
    let said = tool.args(["--scratch", &scratch]).run().success().never_says("dXNlcjpoaWRkZW4=");
    let document = said.json();
    assert_eq!((&document["outcome"], &document["command"]), (&"DONE".into(), &"doctor".into()));
    for id in ["version", "cpus", "open-files", "hashing"] {
        state(&document, id, "ok");
    }
    for id in ["space", "space-temporary", "space-scratch"] {
        assert!(finding(&document, id).1.contains("iB free in"), "{document:#}");
    }
    let seen = state(&document, "credentials", "ok");
    assert!(seen.contains(&auth.display().to_string()) && seen.contains("registry.example"), "{seen}");
    assert!(document["hashOneCore"].as_u64().unwrap() > 1_000_000, "{document:#}");
    assert!(state(&document, "version", "ok").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_machine_in_trouble_is_told_so() {
    let tool = barge(["doctor", "--scratch", "/nowhere/at/all"]);
    std::fs::create_dir_all(tool.home().join(".docker")).unwrap();
    std::fs::write(tool.home().join(".docker/config.json"), "hunter2").unwrap();
    let said = tool.run().code(1).never_says("hunter2");
    assert!(said.stdout.starts_with("PARTIAL: this machine: "), "{said}");
    let rows: Vec<&str> = said.stdout.lines().skip(1).take(2).collect();
    assert!(rows[0].contains("failed   space-scratch"), "the worst comes first: {said}");
    assert!(said.stdout.contains("warning  credentials"), "{said}");
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    barge(["doctor", "not a registry"]).run().code(2).stderr_has("not a registry");
    barge(["doctor", "--repo", "x"]).run().code(2);
    barge(["doctor", "127.0.0.1:1", "--repo", "UPPER"]).run().code(2).stderr_has("is not a repository");
    barge(["doctor", "127.0.0.1:1", "--timeout", "0"]).run().code(2);
}
