//! The texts themselves: every requirement has its test, and the schemas describe the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use barge::pack::Output;
use serde_json::{Value, json};

use super::golden;
use super::made::{How, one_image, pack};
use crate::support::barge::barge;
use crate::support::images::plain_layer;
use crate::support::peers::{RealRegistry, command, run};

/// The texts, with the letter of their requirements.
const TEXTS: [(&str, &str); 7] = [
    ("B", include_str!("../../../format-spec/bundle.md")),
    ("G", include_str!("../../../format-spec/gzip.md")),
    ("P", include_str!("../../../format-spec/patch.md")),
    ("I", include_str!("../../../format-spec/inventory.md")),
    ("R", include_str!("../../../format-spec/request.md")),
    ("S", include_str!("../../../format-spec/release-signature.md")),
    ("Y", include_str!("../../../format-spec/barge-yaml.md")),
];
const RECORD: &str = include_str!("../../../format-spec/barge.schema.json");
const INVENTORY: &str = include_str!("../../../format-spec/barge-inventory.schema.json");
const REQUEST: &str = include_str!("../../../format-spec/barge-request.schema.json");

/// A requirement: the letter of its text, and its number.
type Number = (&'static str, u32);

/// The requirements of the texts: number, sentence.
fn requirements() -> BTreeMap<Number, String> {
    let mut found = BTreeMap::new();
    for (letter, text) in TEXTS {
        let start = format!("**{letter}-");
        for paragraph in text.split("\n\n").filter_map(|paragraph| paragraph.trim().strip_prefix(&start)) {
            let (number, sentence) = paragraph.split_once("** ").expect("`**B-n** `");
            let earlier = found.insert((letter, number.parse().unwrap()), sentence.to_owned());
            assert!(earlier.is_none(), "{letter}-{number} stands twice");
        }
    }
    found
}

/// The number that a test's name goes on with: `b_12_…`.
fn next_number(name: &str) -> Option<(Number, &str)> {
    TEXTS.iter().find_map(|(letter, _)| {
        let rest = name.strip_prefix(&letter.to_lowercase())?.strip_prefix('_')?;
        let (number, rest) = rest.split_once('_')?;
        Some(((*letter, number.parse().ok()?), rest))
    })
}

/// The numbers that names of test functions have, with the names: `b_12_…`, `b_12_b_13_…`.
fn tested() -> BTreeMap<Number, Vec<String>> {
    let mut found: BTreeMap<Number, Vec<String>> = BTreeMap::new();
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
            while let Some((number, after)) = next_number(rest) {
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
    assert!(requirements.len() > 100, "the texts were not understood");
    for ((letter, number), sentence) in &requirements {
        assert!(sentence.contains("MUST"), "{letter}-{number} requires nothing: {sentence}");
        assert!(!sentence.trim_end_matches('.').contains(". "), "{letter}-{number} is more than a sentence");
        let names = tested.get(&(*letter, *number));
        assert!(names.is_some(), "no test names {letter}-{number}: {sentence}");
    }
    for (number, names) in &tested {
        assert!(requirements.contains_key(number), "{names:?} name {number:?}, which is no requirement");
    }
    for (letter, text) in TEXTS {
        let start = format!("**{letter}-");
        let stray = text.split("\n\n").filter(|text| {
            text.contains(" MUST ") && !text.trim().starts_with(&start) && !text.contains("RFC 2119")
        });
        assert_eq!(stray.count(), 0, "a MUST without a number");
    }
}

#[test]
fn numbers_that_the_texts_refer_to_exist() {
    let requirements = requirements();
    for ((letter, _), (_, text)) in TEXTS.iter().flat_map(|one| TEXTS.iter().map(move |other| (one, other))) {
        let start = format!("{letter}-");
        let referred = text
            .split(&start)
            .skip(1)
            .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        let unknown: Vec<u32> =
            referred.filter(|number| !requirements.contains_key(&(*letter, *number))).collect();
        assert!(unknown.is_empty(), "{letter}: {unknown:?}");
    }
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
                "type" => match rule.as_array() {
                    Some(types) => types.iter().any(|name| is_of_type(value, name.as_str().unwrap())),
                    None => is_of_type(value, rule.as_str().unwrap()),
                },
                "required" => {
                    let names = rule.as_array().unwrap();
                    !value.is_object() || names.iter().all(|name| value.get(name.as_str().unwrap()).is_some())
                }
                "additionalProperties" => {
                    assert_eq!(rule, &json!(false));
                    let known = schema["properties"].as_object().unwrap();
                    value.as_object().is_none_or(|fields| fields.keys().all(|name| known.contains_key(name)))
                }
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            self.check(rule, value, &format!("{at}/{name}"));
                        }
                    }
                    true
                }
                "prefixItems" => {
                    let items = value.as_array().into_iter().flatten();
                    for (place, (item, rule)) in items.zip(rule.as_array().unwrap()).enumerate() {
                        self.check(rule, item, &format!("{at}/{place}"));
                    }
                    true
                }
                "minItems" => {
                    value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())
                }
                "maxItems" => {
                    value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap())
                }
                "minProperties" => {
                    value.as_object().is_none_or(|fields| fields.len() as u64 >= rule.as_u64().unwrap())
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

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("type `{other}`"),
    }
}

/// What of a record does not fit the schema.
fn faults(record: &Value) -> Vec<String> {
    faults_by(RECORD, record)
}

/// What of a document does not fit a schema.
pub(crate) fn faults_by(schema: &str, record: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
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
    for made in [golden::whole(), golden::with_gap(), golden::delta(), golden::patched()] {
        assert_eq!(faults(&made.record), Vec::<String>::new());
    }
}

/// The documents that are no records, with their schemas.
const DOCUMENTS: [(&str, &str); 3] =
    [("site.inventory.json", INVENTORY), ("site.receipt.json", INVENTORY), ("site.request.json", REQUEST)];

#[test]
fn the_golden_documents_fit_their_schemas() {
    for (name, schema) in DOCUMENTS {
        assert_eq!(faults_by(schema, &golden::document(name)), Vec::<String>::new(), "{name}");
    }
    for (schema, known) in [(INVENTORY, "site.receipt.json"), (REQUEST, "site.request.json")] {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let described = schema["properties"].as_object().unwrap();
        let document = golden::document(known);
        assert!(document.as_object().unwrap().keys().all(|field| described.contains_key(field)));
    }
}

#[test]
fn documents_that_are_wrong_do_not_fit_their_schemas() {
    type Edit = fn(&mut Value);
    let edits: [(usize, Edit); 9] = [
        (0, |it| it["mediaType"] = json!("application/json")),
        (0, |it| it["content"]["blobs"][0] = json!(["sha256:00", 1, 0, []])),
        (0, |it| drop(it["content"]["blobs"][0].as_array_mut().unwrap().pop())),
        (0, |it| it["scope"] = json!("some")),
        (0, |it| it["state"] = json!("WERC8GMRZG")),
        (0, |it| it["checked"] = json!("yes")),
        (1, |it| drop(it["outcomes"][0].as_object_mut().unwrap().remove("root"))),
        (2, |it| it["blobs"][0]["size"] = json!(-1)),
        (2, |it| drop(it.as_object_mut().unwrap().remove("images"))),
    ];
    for (at, (which, edit)) in edits.into_iter().enumerate() {
        let (name, schema) = DOCUMENTS[which];
        let mut document = golden::document(name);
        edit(&mut document);
        let faults = faults_by(schema, &document);
        assert_eq!(faults.len(), 1, "edit {at}: {faults:?}");
    }
}

#[test]
fn documents_that_the_commands_write_fit_their_schemas() {
    let temp = tempfile::tempdir().unwrap();
    for flags in [&[][..], &["--omit-names", "--restart"][..]] {
        let inventory = super::documents::real(temp.path(), flags, &[""]);
        assert_eq!(faults_by(INVENTORY, &inventory), Vec::<String>::new());
        std::fs::remove_file(temp.path().join("real.json")).unwrap();
    }
    let made = golden::whole();
    let mut bytes = made.bytes.clone();
    let entry = made.entry(&super::made::site().own_layer.blob_path());
    bytes[entry.data as usize] ^= 1;
    super::made::write(&bytes, temp.path(), "bad.oci.tar");
    barge(["verify", "bad.oci.tar", "--request", "again.json"]).dir(temp.path()).run().code(1);
    let request = serde_json::from_slice(&std::fs::read(temp.path().join("again.json")).unwrap()).unwrap();
    assert_eq!(faults_by(REQUEST, &request), Vec::<String>::new());
    let registry = RealRegistry::start();
    let site = one_image(&plain_layer(1, 100));
    pack(&site, How::default(), Output::Archive(temp.path().join("one.oci.tar"))).unwrap();
    let push = barge(["push", "one.oci.tar", registry.host(), "--receipt", "receipt.json"]);
    push.dir(temp.path()).run().success();
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(temp.path().join("receipt.json")).unwrap()).unwrap();
    assert_eq!(faults_by(INVENTORY, &receipt), Vec::<String>::new());
    assert_eq!(receipt["outcomes"][0]["outcome"], "pushed");
}

#[test]
fn records_that_are_wrong_do_not_fit_the_schema() {
    let edits: [fn(&mut Value); 12] = [
        |record| record["base"]["bases"][0]["kind"] = json!("wish"),
        |record| record["base"]["repositories"][0] = json!({}),
        |record| record["absent"][0]["repositories"] = json!([]),
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
        let mut record = golden::delta().record;
        edit(&mut record);
        assert_eq!(faults(&record).len(), 1, "edit {at}: {:?}", faults(&record));
    }
    let edits: [fn(&mut Value); 5] = [
        |record| record["patches"] = json!([]),
        |record| record["patches"][0]["bases"] = json!([]),
        |record| record["patches"][0]["codec"] = json!(""),
        |record| drop(record["patches"][0].as_object_mut().unwrap().remove("target")),
        |record| record["base"]["content"][0]["repositories"] = json!([]),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut record = golden::patched().record;
        edit(&mut record);
        assert_eq!(faults(&record).len(), 1, "edit {at} of patches: {:?}", faults(&record));
    }
    let mut later = golden::whole().record;
    later["surprise"] = json!({});
    assert_eq!(faults(&later), Vec::<String>::new());
}

#[test]
fn the_schema_describes_every_field_that_is_written() {
    let schema: Value = serde_json::from_str(RECORD).unwrap();
    let fields = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let (delta, patched) = (golden::delta().record, golden::patched().record);
    let changed = super::record::changed().record;
    let both = |a: &Value, b: &Value| -> BTreeSet<String> { fields(a).union(&fields(b)).cloned().collect() };
    let known = fields(&schema["properties"]);
    assert_eq!(&both(&delta, &patched) | &fields(&changed), known);
    assert_eq!(faults(&changed), Vec::<String>::new());
    assert_eq!(fields(&changed["digestMap"][0]), fields(&schema["$defs"]["changeRow"]["properties"]));
    assert_eq!(fields(&changed["images"][0]), fields(&schema["$defs"]["image"]["properties"]));
    let known = fields(&schema["$defs"]["base"]["properties"]);
    assert_eq!(both(&delta["base"], &patched["base"]), known);
    let content = fields(&schema["$defs"]["contentRow"]["properties"]);
    assert_eq!(fields(&patched["base"]["content"][0]), content);
    assert_eq!(fields(&patched["patches"][0]), fields(&schema["$defs"]["patchRow"]["properties"]));
    for (list, name) in [("blobs", "blobRow"), ("absent", "absentRow"), ("images", "image")] {
        let known = fields(&schema["$defs"][name]["properties"]);
        let rows = [&delta, &patched].into_iter().flat_map(|record| record[list].as_array().unwrap());
        for row in rows {
            assert!(fields(row).is_subset(&known), "{row}");
        }
    }
}
