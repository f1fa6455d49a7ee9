//! What is written for a set with something of everything, and that it is what the schemas of the resources ask for.

use std::collections::BTreeMap;
use std::path::Path;

use barge::graph::Part;
use serde_json::Value;

use super::{Cargo, Place, files_in, sidecar};

/// A release with two signatures, components, operators, catalogs, and images of all kinds of names.
fn mixed() -> [Cargo; 3] {
    let mut release = Cargo::default();
    let root = release.image(
        Part::Release,
        "quay.test/openshift/release-images:4.18.1-x86_64",
        "quay.test/openshift-release-dev/ocp-release:4.18.1-x86_64",
        1,
    );
    release.sign(&root, b"a signature \xff");
    release.sign(&root, b"another");
    for (name, seed) in [("etcd", 2), ("oauth-proxy", 3)] {
        let name = format!("quay.test/openshift/release:4.18.1-x86_64-{name}");
        release.image(Part::Component, &name, "quay.test/openshift-release-dev/ocp-v4.0-art-dev@", seed);
    }
    let mut operators = Cargo::default();
    operators.image(Part::Operator, "reg.test/ibm/operator@", "reg.test/ibm/operator@", 4);
    operators.image(Part::Operator, "reg.test/ibm/proxy:v1", "reg.test/ibm/proxy:v1", 5);
    operators.image(Part::Operator, "reg.test/new/place:1.0", "reg.test/old/place@", 6);
    operators.image(Part::Catalog, "reg.test/ibm/index:v1", "reg.test/ibm/index:v1", 7);
    operators.image(Part::Catalog, "other.test:5000/olm/index:v1", "other.test:5000/olm/index:v1", 8);
    operators.image(Part::Catalog, "reg.test/ibm/My__cat.alog-index@".to_lowercase().as_str(), "", 9);
    let mut generic = Cargo::default();
    generic.image(Part::Image, "registry.example/app:v1", "registry.example/app:v1", 10);
    generic.image(Part::Image, "docker.io/library/alpine:3", "docker.io/library/alpine:3", 11);
    generic.image(Part::Image, "host.example:5000/team/tool@", "host.example:5000/team/tool@", 12);
    generic.image(Part::Image, "host.example:5000/team/both:2", "host.example:5000/team/both:2@", 13);
    generic.image(Part::Image, "host.example:5000/team/both:3", "host.example:5000/team/both:two", 14);
    // From a file: nobody knows what it was pulled by.
    generic.image(Part::Image, "localhost/built/here:v1", "", 15);
    generic.image(Part::Chart, "registry.example/charts/web:1.0.0", "registry.example/charts/web:1.0.0", 16);
    [release, operators, generic]
}

fn packed(place: &Place) -> [String; 3] {
    let names = ["release.oci.tar", "operators.oci.tar", "generic.oci.tar"];
    for (cargo, name) in mixed().iter().zip(names) {
        cargo.pack(&place.path(name));
    }
    names.map(ToOwned::to_owned)
}

/// Renames files for file systems on which people may check this repository out.
fn without_colons(files: BTreeMap<String, String>) -> BTreeMap<String, String> {
    files.into_iter().map(|(name, text)| (name.replace(':', "_"), text)).collect()
}

/// Compares a folder with one that is kept in the repository; `UPDATE_GOLDEN` replaces that.
fn assert_golden(place: &Place, folder: &str, golden: &str) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/resources/golden").join(golden);
    let found = without_colons(place.files(folder));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(&kept);
        for (name, text) in &found {
            std::fs::create_dir_all(kept.join(name).parent().unwrap()).unwrap();
            std::fs::write(kept.join(name), text).unwrap();
        }
    }
    let kept = files_in(&kept);
    assert_eq!(found.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, text) in &found {
        assert_eq!(text, &kept[name], "{name}");
    }
}

#[test]
fn every_file_is_byte_for_byte_what_it_was() {
    let place = Place::new();
    let names = packed(&place);
    let args = [names[0].as_str(), &names[1], &names[2], "--registry", "mirror.example:8443/ocp"];
    let done = place.resources(&args).success();
    let done =
        done.stdout_has("DONE: 22 files for 16 images are in out").stdout_has("next: oc apply -f out\n");
    let done =
        done.stderr_has("does not have its tag at the mirror").stderr_has("1 chart is in images.txt only");
    assert!(
        done.stderr.contains("host.example:5000/team/both:two is mirror.example:8443/ocp/team/both:3 there"),
        "{done}"
    );
    assert_golden(&place, "out", "mixed");
    place.resources(&args).success().stdout_has("NOTHING CHANGED: 22 files");
    for (version, golden) in [("4.12", "ocp-4.12"), ("4.17", "ocp-4.17")] {
        let place = Place::new();
        packed(&place);
        let more = ["--ocp", version, "--insecure"];
        let done = place.resources(&[&args[..], &more[..]].concat()).success();
        let is_old = version == "4.12";
        assert_eq!(done.stderr.contains("for pulls by digest only"), is_old, "{done}");
        done.stderr_has("insecureRegistries");
        assert_golden(&place, "out", golden);
    }
}

#[test]
fn the_order_and_kind_of_inputs_do_not_show() {
    let place = Place::new();
    let [release, operators, generic] = packed(&place);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/resources/golden/mixed");
    let registry = ["--registry", "mirror.example:8443/ocp"];
    for papers in [
        [generic.as_str(), &operators, &release],
        [&release, "generic.barge.json", "operators.barge.json"],
        ["operators.barge.json", &release, &generic],
    ] {
        let _ = std::fs::remove_dir_all(place.path("out"));
        place.resources(&[&papers[..], &registry[..]].concat()).success();
        assert_eq!(without_colons(place.files("out")), files_in(&golden), "{papers:?}");
    }
    // Twice the same is once.
    let twice = [&release, "release.barge.json", &generic, &operators, &operators, "--registry", registry[1]];
    place.resources(&twice).success().stdout_has("NOTHING CHANGED");
    // Without the bundle of the release, its signatures are not there.
    let _ = std::fs::remove_dir_all(place.path("out"));
    let said = place.resources(&["release.barge.json", registry[0], registry[1]]).success();
    said.stderr_has("its signatures are in the bundle, which was not given");
    assert!(!place.path("out/signature-configmap.yaml").exists());
}

/// Paths of fields, and the type of each.
type Fields = &'static [(&'static str, &'static str)];

/// The resources that are written, with the fields that their schemas require and the type of each.
const REQUIRED: [(&str, &str, Fields); 6] = [
    (
        "ImageDigestMirrorSet",
        "config.openshift.io/v1",
        &[
            ("/spec/imageDigestMirrors/*/source", "string"),
            ("/spec/imageDigestMirrors/*/mirrors/*", "string"),
        ],
    ),
    (
        "ImageTagMirrorSet",
        "config.openshift.io/v1",
        &[("/spec/imageTagMirrors/*/source", "string"), ("/spec/imageTagMirrors/*/mirrors/*", "string")],
    ),
    (
        "ImageContentSourcePolicy",
        "operator.openshift.io/v1alpha1",
        &[
            ("/spec/repositoryDigestMirrors/*/source", "string"),
            ("/spec/repositoryDigestMirrors/*/mirrors/*", "string"),
        ],
    ),
    (
        "CatalogSource",
        "operators.coreos.com/v1alpha1",
        &[("/metadata/namespace", "string"), ("/spec/sourceType", "string"), ("/spec/image", "string")],
    ),
    (
        "ClusterCatalog",
        "olm.operatorframework.io/v1",
        &[("/spec/source/type", "string"), ("/spec/source/image/ref", "string")],
    ),
    (
        "ConfigMap",
        "v1",
        &[("/metadata/namespace", "string"), ("/metadata/labels", "object"), ("/binaryData/*", "string")],
    ),
];

/// Returns all values at a path, in which `*` stands for every item.
fn at<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a Value> {
    match (path, value) {
        ([], value) => vec![value],
        (["*", rest @ ..], Value::Array(items)) => items.iter().flat_map(|item| at(item, rest)).collect(),
        (["*", rest @ ..], Value::Object(fields)) => {
            fields.values().flat_map(|item| at(item, rest)).collect()
        }
        ([key, rest @ ..], value) => value.get(*key).map(|item| at(item, rest)).unwrap_or_default(),
    }
}

fn is_dns_label(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(fits)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[test]
fn every_resource_has_what_its_schema_requires() {
    let mut kinds = std::collections::BTreeSet::new();
    for golden in ["mixed", "ocp-4.12", "ocp-4.17"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/resources/golden").join(golden);
        let mut names = std::collections::BTreeSet::new();
        for (path, text) in files_in(&folder) {
            if !path.ends_with(".yaml") || path.contains('/') {
                continue;
            }
            let value: Value =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
            let kind = value["kind"].as_str().unwrap();
            let (_, version, fields) = REQUIRED.iter().find(|(known, ..)| *known == kind).unwrap();
            assert_eq!(value["apiVersion"], *version, "{path}");
            let name = value["metadata"]["name"].as_str().unwrap();
            assert!(is_dns_label(name), "{path}: {name}");
            assert!(names.insert((kind.to_owned(), name.to_owned())), "{path}: {name} is there twice");
            for (field, kind) in *fields {
                let keys: Vec<&str> = field.trim_start_matches('/').split('/').collect();
                let found = at(&value, &keys);
                assert!(!found.is_empty(), "{path} lacks {field}");
                let is_right = |value: &&Value| match *kind {
                    "string" => value.as_str().is_some_and(|text| !text.is_empty()),
                    _ => value.is_object(),
                };
                assert!(found.iter().all(is_right), "{path}: {field}");
            }
            kinds.insert(kind.to_owned());
        }
    }
    assert_eq!(kinds.len(), REQUIRED.len(), "{kinds:?}");
    // And as another reader of YAML and TOML sees them.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/resources/golden");
    let script = "import glob, sys, tomllib, yaml\n\
                  for f in glob.glob(sys.argv[1] + '/**/*.yaml', recursive=True): assert isinstance(yaml.safe_load(open(f)), dict), f\n\
                  n = [tomllib.load(open(f, 'rb')) for e in ('conf', 'toml') for f in glob.glob(sys.argv[1] + '/**/*.' + e, recursive=True)]\n\
                  assert len(n) > 5";
    crate::support::peers::run(crate::support::peers::command("python3").args(["-c", script]).arg(folder));
}

#[test]
fn long_policies_are_split() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    cargo.image(Part::Operator, "reg.test/a/a:v1", "reg.test/a/a@", 1);
    let bundle = cargo.pack(&place.path("a.barge"));
    sidecar(&bundle, &place.path("many.json"), |record| {
        let first = record.images[0].clone();
        record.images = (0..3000)
            .map(|at| {
                let mut image = first.clone();
                image.name.name.repository = format!("renamed/{}/image-{at:05}", "p".repeat(60));
                let reference = image.reference.as_mut().unwrap();
                reference.name.repository = format!("a/{}/image-{at:05}", "q".repeat(60));
                image
            })
            .collect();
    });
    for (version, start) in [("4.8", "icsp"), ("4.14", "idms")] {
        let _ = std::fs::remove_dir_all(place.path("out"));
        place.resources(&["many.json", "--registry", "mirror.example", "--ocp", version]).success();
        let files = place.files("out");
        let mut sources = std::collections::BTreeSet::new();
        let parts: Vec<&String> = files.keys().filter(|name| name.starts_with(start)).collect();
        let expected: Vec<String> =
            (0..parts.len()).map(|at| format!("{start}-operator-{at}.yaml")).collect();
        assert_eq!(parts, expected.iter().collect::<Vec<_>>());
        assert!(parts.len() > 2, "{parts:?}");
        for (part, number) in parts.iter().zip(0..) {
            let text = &files[*part];
            assert!(text.len() <= 250_000, "{part} has {} bytes", text.len());
            assert!(number + 1 == parts.len() || text.len() > 240_000, "{part} has {} bytes", text.len());
            let value: Value = serde_saphyr::from_str(text).unwrap();
            let name = value["metadata"]["name"].as_str().unwrap();
            assert!(name.ends_with(&format!("operator-{number}")), "{name}");
            assert_eq!(value["metadata"]["labels"].is_object(), version == "4.8");
            let field = if version == "4.8" { "repositoryDigestMirrors" } else { "imageDigestMirrors" };
            for entry in value["spec"][field].as_array().unwrap() {
                assert!(sources.insert(entry["source"].as_str().unwrap().to_owned()));
            }
        }
        assert_eq!(sources.len(), 3000);
    }
}
