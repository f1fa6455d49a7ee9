//! The text itself: every requirement has its test, and the schema describes the record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::golden;
use crate::support::peers::{command, run};

const TEXT: &str = include_str!("../../../format-spec/bundle.md");
const SCHEMA: &str = include_str!("../../../format-spec/barge.schema.json");

/// The requirements of the text: number, sentence.
fn requirements() -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for paragraph in TEXT.split("\n\n").filter_map(|paragraph| paragraph.trim().strip_prefix("**B-")) {
        let (number, sentence) = paragraph.split_once("** ").expect("`**B-n** `");
        let earlier = found.insert(number.parse().unwrap(), sentence.to_owned());
        assert!(earlier.is_none(), "B-{number} stands twice");
    }
    found
}

/// The numbers that names of test functions have, with the names: `b_12_…`, `b_12_b_13_…`.
fn tested() -> BTreeMap<u32, Vec<String>> {
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for file in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
        if file.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
            let name = pair[1].trim_start_matches("fn ").split('(').next().unwrap();
            let mut rest = name;
            while let Some((number, after)) = rest.strip_prefix("b_").and_then(|rest| rest.split_once('_'))
                && let Ok(number) = number.parse()
            {
                found.entry(number).or_default().push(name.to_owned());
                rest = after;
            }
        }
    }
    found
}

#[test]
fn every_requirement_has_a_test_and_every_test_a_requirement() {
    let (requirements, tested) = (requirements(), tested());
    assert!(requirements.len() > 60, "the text was not understood");
    for (number, sentence) in &requirements {
        assert!(sentence.contains("MUST"), "B-{number} requires nothing: {sentence}");
        assert!(!sentence.trim_end_matches('.').contains(". "), "B-{number} is more than a sentence");
        let names = tested.get(number);
        assert!(names.is_some(), "no test names B-{number}: {sentence}");
    }
    for (number, names) in &tested {
        assert!(requirements.contains_key(number), "{names:?} name B-{number}, which is no requirement");
    }
    let stray = TEXT.split("\n\n").filter(|text| {
        text.contains(" MUST ") && !text.trim().starts_with("**B-") && !text.contains("RFC 2119")
    });
    assert_eq!(stray.count(), 0, "a MUST without a number");
}

#[test]
fn numbers_that_the_text_refers_to_exist() {
    let requirements = requirements();
    let referred: BTreeSet<u32> = TEXT
        .split("B-")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect();
    assert!(referred.iter().all(|number| requirements.contains_key(number)), "{referred:?}");
}

/// Checks a value against the part of JSON Schema that the schema uses; anything else in it is a panic.
struct Checker {
    schema: Value,
    faults: Vec<String>,
    /// What is to match which pattern.
    patterns: Vec<(String, String)>,
}

impl Checker {
    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        for (keyword, rule) in schema.as_object().unwrap() {
            let fits = match keyword.as_str() {
                "$ref" => {
                    let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap().to_owned();
                    let target = self.schema.pointer(&pointer).expect("a definition").clone();
                    self.check(&target, value, at);
                    true
                }
                "type" => match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    other => panic!("type `{other}`"),
                },
                "required" => {
                    let names = rule.as_array().unwrap();
                    names.iter().all(|name| value.get(name.as_str().unwrap()).is_some())
                }
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            self.check(rule, value, &format!("{at}/{name}"));
                        }
                    }
                    true
                }
                "items" => {
                    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}/{place}"));
                    }
                    true
                }
                "enum" => rule.as_array().unwrap().contains(value),
                "const" => rule == value,
                "minimum" => value.as_u64() >= rule.as_u64(),
                "maximum" => value.as_u64() <= rule.as_u64(),
                "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
                "uniqueItems" => {
                    let items = value.as_array().into_iter().flatten().map(ToString::to_string);
                    let count = value.as_array().map_or(0, Vec::len);
                    items.collect::<BTreeSet<_>>().len() == count
                }
                "pattern" => {
                    if let Some(text) = value.as_str() {
                        self.patterns.push((rule.as_str().unwrap().to_owned(), text.to_owned()));
                    }
                    true
                }
                "$schema" | "$id" | "$defs" | "title" | "description" => true,
                other => panic!("the checker does not know `{other}`"),
            };
            if !fits {
                self.faults.push(format!("{at}: {keyword}"));
            }
        }
    }
}

/// What of a record does not fit the schema.
fn faults(record: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut checker = Checker { schema: schema.clone(), faults: Vec::new(), patterns: Vec::new() };
    checker.check(&schema, record, "");
    // Python has the regular expressions.
    let script = "import json, re, sys\n\
        print(*[t for p, t in json.loads(sys.argv[1]) if not re.search(p, t)], sep='\\n')";
    let patterns = serde_json::to_string(&checker.patterns).unwrap();
    let output = run(command("python3").args(["-c", script, &patterns]));
    let unmatched = String::from_utf8(output.stdout).unwrap();
    checker.faults.extend(unmatched.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    checker.faults
}

#[test]
fn the_golden_records_fit_the_schema() {
    for made in [golden::whole(), golden::with_gap()] {
        assert_eq!(faults(&made.record), Vec::<String>::new());
    }
}

#[test]
fn records_that_are_wrong_do_not_fit_the_schema() {
    let edits: [fn(&mut Value); 9] = [
        |record| record["mediaType"] = json!("application/json"),
        |record| record["formatVersion"] = json!("2.0"),
        |record| drop(record.as_object_mut().unwrap().remove("requires")),
        |record| record["index"] = json!("sha256:00"),
        |record| record["blobs"][0]["role"] = json!("thing"),
        |record| record["blobs"][0]["offset"] = json!(-1),
        |record| record["absent"][0]["reason"] = json!("whim"),
        |record| record["images"][0]["name"] = json!("web"),
        |record| drop(record["images"][0].as_object_mut().unwrap().remove("root")),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut record = golden::whole().record;
        edit(&mut record);
        assert_eq!(faults(&record).len(), 1, "edit {at}: {:?}", faults(&record));
    }
    let mut later = golden::whole().record;
    later["surprise"] = json!({});
    assert_eq!(faults(&later), Vec::<String>::new());
}

#[test]
fn the_schema_describes_every_field_that_is_written() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let fields = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let whole = golden::whole();
    let known = fields(&schema["properties"]);
    assert_eq!(fields(&whole.record), known);
    for (list, name) in [("blobs", "blobRow"), ("absent", "absentRow"), ("images", "image")] {
        let known = fields(&schema["$defs"][name]["properties"]);
        for row in whole.record[list].as_array().unwrap() {
            assert!(fields(row).is_subset(&known), "{row}");
        }
    }
}
