//! Files of what is wanted: the examples of each kind, the schema of barge.yaml, and what `format-spec/barge-yaml.md` requires.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use barge::input::{FileError, Order, Place, read_order};
use serde_json::{Value, json};

use crate::format_spec::faults_by;

const SCHEMA: &str = include_str!("../../format-spec/barge-yaml.schema.json");

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/files").join(name)
}

/// Reads lines as a barge.yaml; the first of them is the file's second.
fn own(lines: &str) -> Result<Order, FileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wanted");
    std::fs::write(&path, format!("apiVersion: barge/v1\n{lines}")).unwrap();
    read_order(&path)
}

/// Checks that lines are refused in a line of the file, with these words.
#[track_caller]
fn refused(lines: &str, line: usize, words: &[&str]) {
    let error = own(lines).expect_err(lines);
    assert_eq!(error.at().map(|at| at.line), Some(line), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("wanted:{line}: ")), "the file and line are not named: {said}");
    words.iter().for_each(|word| assert!(said.contains(word), "no `{word}` in: {said}"));
}

fn names(order: &Order) -> Vec<String> {
    order.images.iter().filter_map(|image| Some(image.argument.name.as_ref()?.to_string())).collect()
}

#[test]
fn the_examples_of_every_kind_are_read() {
    let count = |order: &Order| {
        [
            &order.images.len(),
            &order.tags.len(),
            &order.catalogs.len(),
            &order.charts.len(),
            &order.releases.len(),
        ]
        .map(|count| *count)
    };
    for (name, expected) in [
        ("barge.yaml", [8, 1, 2, 3, 1]),
        ("images-mapping.txt", [4, 2, 0, 0, 0]),
        ("imageset.yaml", [2, 0, 2, 2, 1]),
        ("hauler.yaml", [3, 0, 0, 3, 0]),
        ("images.txt", [3, 0, 0, 0, 0]),
    ] {
        let order = read_order(&fixture(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(count(&order), expected, "{name}");
        assert!(order.images.iter().all(|image| image.at.as_ref().is_some_and(|at| at.line > 0)));
    }
    let left: BTreeSet<_> =
        std::fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "an example that no test reads: {left:?}");
}

#[test]
fn the_example_of_a_barge_yaml_fits_the_schema_and_names_it() {
    let text = std::fs::read_to_string(fixture("barge.yaml")).unwrap();
    let hint = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
    let schema = fixture("").join(hint);
    assert_eq!(std::fs::read_to_string(schema).unwrap(), SCHEMA);
    let document: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(faults_by(SCHEMA, &document), Vec::<String>::new());
    // The example shows every field that there is.
    let mut shown = BTreeSet::new();
    fields_of(&document, &mut shown);
    for (pointer, fields) in schema_objects() {
        let hidden: Vec<_> = fields.iter().filter(|field| !shown.contains(*field)).collect();
        assert!(hidden.is_empty(), "{pointer}: the example has no {hidden:?}");
    }
}

fn fields_of(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            fields_of(value, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| fields_of(item, found)),
        _ => {}
    }
}

#[test]
fn files_that_are_wrong_do_not_fit_the_schema() {
    let good: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(fixture("barge.yaml")).unwrap()).unwrap();
    let edits: [fn(&mut Value); 14] = [
        |it| it["apiVersion"] = json!("barge/v2"),
        |it| it["kind"] = json!("Basket"),
        |it| it["surprise"] = json!(1),
        |it| it["images"][2]["surprise"] = json!(1),
        |it| drop(it["images"][2].as_object_mut().unwrap().remove("image")),
        |it| it["images"][0] = json!(3.1),
        |it| it["images"][2]["platforms"] = json!(["amd64"]),
        |it| it["images"][4]["tags"]["latest"] = json!(0),
        |it| it["defaults"]["attachments"] = json!("some"),
        |it| it["catalogs"][0]["packages"][0]["channels"][0]["minVersion"] = json!("1.2"),
        |it| it["catalogs"][0]["full"] = json!("yes"),
        |it| it["charts"][2]["values"] = json!("v.yaml"),
        |it| it["layouts"][0] = json!(""),
        |it| drop(it["registries"][0].as_object_mut().unwrap().remove("prefix")),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut document = good.clone();
        edit(&mut document);
        let faults = faults_by(SCHEMA, &document);
        assert_eq!(faults.len(), 1, "edit {at}: {faults:?}");
    }
}

/// The objects that the schema describes: where, and their fields.
fn schema_objects() -> Vec<(String, BTreeSet<String>)> {
    fn walk(value: &Value, at: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
        let Some(object) = value.as_object() else { return };
        if let Some(fields) = object.get("properties").and_then(Value::as_object) {
            assert_eq!(object.get("additionalProperties"), Some(&json!(false)), "{at}");
            found.push((at.to_owned(), fields.keys().cloned().collect()));
        }
        for (name, value) in object {
            walk(value, &format!("{at}/{name}"), found);
        }
    }
    let mut found = Vec::new();
    walk(&serde_json::from_str(SCHEMA).unwrap(), "", &mut found);
    found
}

#[test]
fn the_reader_and_the_schema_know_the_same_fields() {
    const PACKAGES: &str = "/properties/catalogs/items/properties/packages/items";
    let channels = format!("{PACKAGES}/properties/channels/items");
    let places = [
        ("", "zz: 1\n"),
        ("/properties/defaults", "defaults: {zz: 1}\n"),
        ("/properties/images/items", "images: [{zz: 1}]\n"),
        ("/properties/images/items/properties/tags", "images: [{image: a, tags: {zz: 1}}]\n"),
        ("/$defs/local", "layouts: [{zz: 1}]\n"),
        ("/$defs/local", "archives: [{zz: 1}]\n"),
        ("/properties/catalogs/items", "catalogs: [{zz: 1}]\n"),
        (PACKAGES, "catalogs: [{packages: [{zz: 1}]}]\n"),
        (channels.as_str(), "catalogs: [{packages: [{channels: [{zz: 1}]}]}]\n"),
        ("/properties/charts/items", "charts: [{zz: 1}]\n"),
        ("/properties/releases/items", "releases: [{zz: 1}]\n"),
        ("/properties/registries/items", "registries: [{zz: 1}]\n"),
        ("/properties/registries/items/properties/mirrors/items", "registries: [{mirrors: [{zz: 1}]}]\n"),
    ];
    let mut described = schema_objects();
    for (pointer, lines) in places {
        let Err(FileError::Field { field, known, .. }) = own(lines) else { panic!("{lines}") };
        assert_eq!(field, "zz");
        let known: BTreeSet<String> = known.into_iter().map(str::to_owned).collect();
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let fields = schema.pointer(pointer).unwrap()["properties"].as_object().unwrap();
        assert_eq!(fields.keys().cloned().collect::<BTreeSet<_>>(), known, "{pointer}");
        described.retain(|(place, _)| place != pointer);
    }
    assert!(described.is_empty(), "not tried: {described:?}");
}

#[test]
fn y_1_other_versions_and_kinds_are_refused() {
    refused("kind: Basket\n", 2, &["`kind: Basket`"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("barge.yaml");
    for (text, word) in
        [("apiVersion: barge/v2\n", "`apiVersion: barge/v2`"), ("images: [a]\n", "`apiVersion`")]
    {
        std::fs::write(&path, text).unwrap();
        let said = read_order(&path).unwrap_err().to_string();
        assert!(said.contains("barge.yaml:1: ") && said.contains(word), "{said}");
    }
    assert_eq!(names(&own("kind: Bundle\nimages: [a]\n").unwrap()), ["docker.io/library/a:latest"]);
}

#[test]
fn y_2_unknown_fields_are_refused_with_file_line_and_field() {
    refused(
        "images:\n- image: a\n  platfroms: []\n",
        4,
        &["unknown field `platfroms`", "did you mean `platforms`?"],
    );
    let hint = own("image: a\n").unwrap_err().hint().unwrap();
    assert!(hint.contains("`images`") && hint.contains("`volumeSize`"), "{hint}");
}

#[test]
fn y_3_a_field_that_stands_twice_is_refused() {
    refused("images: [a]\nimages: [b]\n", 3, &["the field `images` stands here twice"]);
}

#[test]
fn y_4_bombs_are_refused_in_bounded_time() {
    let mut bomb = "images:\n- &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        bomb.push_str(&format!("- &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(9)));
    }
    let begun = std::time::Instant::now();
    let said = own(&bomb).unwrap_err().to_string();
    assert!(said.contains("more than a file may hold, through repetition, nesting or length"), "{said}");
    let deep = format!("images: {}", "[".repeat(1_000_000));
    refused(&deep, 2, &["more than a file may hold"]);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn y_5_paths_are_relative_to_the_folder_of_the_file() {
    let order = read_order(&fixture("barge.yaml")).unwrap();
    let places: Vec<&Place> = order.images.iter().map(|image| &image.argument.place).collect();
    assert!(places.contains(&&Place::Layout(fixture("./layouts/tool"))), "{places:?}");
    assert!(places.contains(&&Place::File(fixture("./last-month.oci.tar"))), "{places:?}");
    assert_eq!(order.releases[0].signatures, [fixture("./signature-1")]);
    assert_eq!(order.registries[1].auth_file, Some(fixture("./auth.json")));
}

#[test]
fn y_6_nothing_is_taken_from_the_environment() {
    let text = "images:\n- {image: 'reg.test/a:v1', name: 'reg.test/b:${HOME}'}\n";
    refused(text, 3, &["`reg.test/b:${HOME}` can't be used here"]);
    let order = own("blocked: ['$HOME', '${USER}', '~']\n");
    // A pattern stays as it was written, where it is one.
    assert!(order.is_err_and(|error| error.to_string().contains("`${USER}` is no regular expression")));
    assert_eq!(own("blocked: ['$HOME']\n").unwrap().blocked[0].pattern.as_str(), "$HOME");
}

#[test]
fn y_7_a_name_takes_over_tag_or_digest() {
    let digest = barge::oci::Digest::sha256(b"x");
    let text = format!(
        "images:\n- {{image: 'reg.test/a:v1', name: reg.test/b}}\n- {{image: 'reg.test/c@{digest}', name: reg.test/d}}\n\
         - {{image: 'reg.test/e:v1@{digest}', names: [reg.test/f, 'reg.test/g:v2']}}\n"
    );
    let expected = ["reg.test/b:v1", &format!("reg.test/d@{digest}"), "reg.test/f:v1", "reg.test/g:v2"];
    assert_eq!(names(&own(&text).unwrap()), expected);
}

#[test]
fn y_8_a_name_with_a_digest_is_refused() {
    let digest = barge::oci::Digest::sha256(b"x");
    for item in ["images:\n- image", "catalogs:\n- catalog", "charts:\n- chart", "layouts:\n- path"] {
        refused(&format!("{item}: ./a\n  name: reg.test/b@{digest}\n"), 4, &["has a digest"]);
    }
}

#[test]
fn y_9_one_name_for_two_sources_is_refused_with_both_lines() {
    refused(
        "images:\n- reg.test/a:v1\n- {image: 'reg.test/b:v1', name: reg.test/a}\n",
        4,
        &["reg.test/a:v1 is to name reg.test/b:v1, and names reg.test/a:v1 already (the first is in line 3)"],
    );
    assert_eq!(own("images: [a, a]\n").unwrap().images.len(), 1);
}

/// What `tags` with these fields chooses of these.
fn chosen(fields: &str, tags: &[&str]) -> Vec<String> {
    let order = own(&format!("images:\n- {{image: reg.test/a, tags: {{{fields}}}}}\n")).unwrap();
    order.tags[0].choice.choose(tags.iter().map(|tag| (*tag).to_owned()).collect())
}

#[test]
fn y_10_a_pattern_is_to_match_whole_tags() {
    assert_eq!(chosen("match: 'v1|v10'", &["v1", "v10", "v100", "av1"]), ["v1", "v10"]);
}

#[test]
fn y_11_ranges_and_counts_are_of_versions() {
    let tags = ["v1.2.3", "1.3.0", "1.3", "latest", "1.4.0-rc.1", "2.0.0"];
    assert_eq!(chosen("semver: '>=1.2, <2'", &tags), ["1.3.0", "v1.2.3"]);
    assert_eq!(chosen("semver: '>=1.4.0-rc.0, <2'", &tags), ["1.4.0-rc.1"]);
    assert_eq!(chosen("latest: 9", &tags), ["2.0.0", "1.3.0", "v1.2.3"]);
}

#[test]
fn y_12_the_latest_are_the_highest() {
    let tags = ["v1.10.0", "v1.9.0", "v1.2.0"];
    assert_eq!(chosen("latest: 2", &tags), ["v1.10.0", "v1.9.0"]);
    assert_eq!(chosen("latest: 1, semver: '<1.10'", &tags), ["v1.9.0"]);
}

/// A catalog with these packages, of which the first is in the fifth line.
fn catalog(packages: &str) -> String {
    format!("catalogs:\n- catalog: reg.test/index:v1\n  packages:\n{packages}")
}

#[test]
fn y_13_packages_and_channels_are_named_once_and_defaults_are_among_them() {
    refused(
        &catalog("  - {name: a}\n  - {name: a}\n"),
        6,
        &["package a stands here twice (the first is in line 5)"],
    );
    let channels = "  - name: a\n    channels:\n    - {name: b}\n    - {name: b}\n";
    refused(&catalog(channels), 8, &["channel b stands here twice (the first is in line 7)"]);
    let default = "  - {name: a, defaultChannel: c, channels: [{name: b}]}\n";
    refused(&catalog(default), 5, &["the default channel c of package a is not among its channels here"]);
}

#[test]
fn y_14_versions_that_can_not_be_are_refused() {
    for (fields, words) in [
        ("minVersion: '1.2'", "`1.2` is no version x.y.z"),
        ("minVersion: 2.0.0, maxVersion: 1.0.0", "the lowest version 2.0.0 is above the highest, 1.0.0"),
        ("minVersion: 1.0.0, channels: [{name: b, maxVersion: 2.0.0}]", "has versions of its own"),
    ] {
        refused(&catalog(&format!("  - {{name: a, {fields}}}\n")), 5, &[words]);
    }
    let full = "catalogs:\n- catalog: a\n  full: true\n  packages: [{name: a, channels: [{name: b, minVersion: 1.0.0}]}]\n";
    refused(full, 5, &["`full` takes every version"]);
}

#[test]
fn y_15_prefixes_stand_once_and_something_is_asked() {
    refused("registries:\n- prefix: a.test\n- prefix: a.test\n", 4, &["the prefix a.test stands here twice"]);
    refused(
        "registries:\n- {prefix: a.test, mirrorsOnly: true}\n",
        3,
        &["`mirrorsOnly` leaves nothing to ask"],
    );
}
