//! The document as `format-spec/target.md` has it.

use std::path::Path;

use barge::doctor::{Target, TargetError};
use serde_json::{Value, json};

use super::ask;
use crate::format_spec::text::faults_by;
use crate::support::hostile::{Auth, Config, Hostile, SparsePolicy, TokenAuth};
use crate::support::peers::{PASSWORD, RealRegistry, USER};

const SCHEMA: &str = include_str!("../../../format-spec/barge-target.schema.json");

/// A document that a registry of few talents gave.
fn document() -> Value {
    let registry = Hostile::start(Config {
        sparse: SparsePolicy::RefuseLikeV2,
        max_path_components: 3,
        max_manifest: 1 << 20,
        chunk_min_length: Some(100),
        delete: false,
        ..Config::default()
    });
    ask(registry.host(), &["--repo", "s"]).success().json()
}

fn read(document: &Value) -> Result<Target, TargetError> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("target.json");
    std::fs::write(&path, document.to_string()).unwrap();
    Target::read(&path)
}

fn with(field: &str, value: Value) -> Value {
    let mut document = json!({ "mediaType": "application/vnd.barge.target.v1+json", "formatVersion": "1.0", "target": "r.example" });
    document[field] = value;
    document
}

#[test]
fn t_1_t_2_other_types_and_versions_are_refused() {
    assert!(matches!(read(&with("mediaType", json!("text/plain"))), Err(TargetError::MediaType { .. })));
    assert!(matches!(read(&with("formatVersion", json!("2.0"))), Err(TargetError::Version { .. })));
    assert!(matches!(read(&with("formatVersion", json!("10.0"))), Err(TargetError::Version { .. })));
    assert!(read(&with("formatVersion", json!("1.7"))).is_ok());
    assert!(matches!(Target::read(Path::new("/nowhere")), Err(TargetError::Io { .. })));
}

#[test]
fn t_3_unknown_fields_and_words_are_no_errors() {
    let facts = json!({ "sparse": "sometimes", "referrers": "by post", "surprise": [], "volumeSize": 7 });
    let target = read(&with("facts", facts)).unwrap();
    assert_eq!(target.facts.volume_size, Some(7));
    assert!(read(&with("surprise", json!({}))).is_ok());
}

#[test]
fn t_4_what_is_not_known_is_not_there() {
    let registry = Hostile::honest();
    let document = ask(registry.host(), &[]).success().json();
    assert_eq!(document["facts"], json!({ "catalogue": true }));
}

#[test]
fn t_5_no_document_has_a_secret() {
    let auth = Auth::Token(TokenAuth { refresh_tokens: true, ..TokenAuth::default() });
    for auth in [Auth::Basic, auth] {
        let registry = Hostile::start(Config { auth, ..Config::default() });
        let creds = format!("{USER}:{PASSWORD}");
        let said = ask(registry.host(), &["--repo", "s", "--creds", &creds]).success();
        let said = said.never_says(&creds).never_says("dGVzdGVyOnNlY3JldA==").never_says(PASSWORD);
        let tokens = registry.requests();
        let tokens = tokens.iter().filter_map(|request| request.head.header("authorization"));
        for token in tokens.filter_map(|header| header.split(' ').nth(1)) {
            assert!(!said.stdout.contains(token) && !said.stderr.contains(token), "{said}");
        }
    }
}

#[test]
fn documents_fit_their_schema_and_wrong_ones_do_not() {
    let document = document();
    assert_eq!(faults_by(SCHEMA, &document), Vec::<String>::new(), "{document:#}");
    assert!(read(&document).is_ok());
    let registry = RealRegistry::start();
    let real = ask(registry.host(), &["--repo", "s"]).success().json();
    assert_eq!(faults_by(SCHEMA, &real), Vec::<String>::new(), "{real:#}");
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let described = schema["properties"]["facts"]["properties"].as_object().unwrap();
    assert!(document["facts"].as_object().unwrap().keys().all(|fact| described.contains_key(fact)));
    let edits: [fn(&mut Value); 5] = [
        |it| it["mediaType"] = json!("application/json"),
        |it| it["formatVersion"] = json!("2.0"),
        |it| it["facts"]["maxPathComponents"] = json!("3"),
        |it| it["findings"][0]["state"] = json!("fine"),
        |it| drop(it.as_object_mut().unwrap().remove("target")),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut wrong = document.clone();
        edit(&mut wrong);
        assert_eq!(faults_by(SCHEMA, &wrong).len(), 1, "edit {at}");
    }
}
