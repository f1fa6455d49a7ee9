//! Catalogs: they bring the images that they name.

use std::collections::{BTreeMap, BTreeSet};

use barge::bundle::Bundle;
use barge::graph::Part;
use barge::oci::{Descriptor, Digest};
use serde_json::{Value, json};

use super::{Scene, everything, listing};
use crate::support::images::{Blob, Content, config, layer, layer_of};
use crate::support::peers::RealRegistry;

/// Every manifest that a registry keeps, by repository, as its storage has them: tags say nothing of what has none.
fn manifests(registry: &RealRegistry) -> BTreeMap<String, BTreeSet<Digest>> {
    let root = registry.storage().join("docker/registry/v2/repositories");
    let mut found: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&root).into_iter().filter_map(Result::ok) {
        let path = entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let Some((repository, rest)) = path.split_once("/_manifests/revisions/sha256/") else { continue };
        let Some((hex, "link")) = rest.split_once('/') else { continue };
        found.entry(repository.to_owned()).or_default().insert(format!("sha256:{hex}").parse().unwrap());
    }
    found
}

/// Adds an image with labels.
pub fn labelled(content: &mut Content, platform: &str, layers: &[Blob], labels: &Value) -> Descriptor {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let mut document: Value = serde_json::from_slice(&config(platform, &diff_ids).bytes).unwrap();
    document["config"]["Labels"] = labels.clone();
    let config =
        Blob::new("application/vnd.oci.image.config.v1+json", serde_json::to_vec(&document).unwrap());
    let part =
        |one: &Descriptor| json!({ "mediaType": one.media_type, "digest": one.digest, "size": one.size });
    let layers: Vec<Value> = layers.iter().map(|layer| part(&content.blob(layer))).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part(&content.blob(&config)), "layers": layers,
    });
    let mut descriptor = content.manifest("application/vnd.oci.image.manifest.v1+json", &manifest);
    descriptor.platform = Some(platform.parse().unwrap());
    descriptor
}

/// The images of operators at the first registry: the bundles `foo.v1.0.0`, `foo.v1.1.0` and `bar.v0.1.0`, what each
/// of them runs, and what all of them share.
pub struct Operators {
    pub bundles: [Descriptor; 3],
    pub runs: [Descriptor; 3],
    shared: Descriptor,
}

const NAMES: [&str; 3] = ["foo.v1.0.0", "foo.v1.1.0", "bar.v0.1.0"];

impl Operators {
    pub fn at(scene: &Scene) -> Self {
        let mut content = Content::new();
        let mut image = |seed| content.image("linux/amd64", &[layer(seed, 400)]);
        let (bundles, runs) = ([image(70), image(71), image(72)], [image(73), image(74), image(75)]);
        let shared = image(76);
        for (bundle, run) in bundles.iter().zip(&runs) {
            scene.a.push("ops/bundle", &content, bundle, None);
            scene.a.push("ops/run", &content, run, None);
        }
        scene.a.push("ops/proxy", &content, &shared, Some("v1"));
        Self { bundles, runs, shared }
    }

    fn bundle(&self, scene: &Scene, at: usize) -> String {
        format!("{}/ops/bundle@{}", scene.a.host(), self.bundles[at].digest)
    }

    fn related(&self, scene: &Scene, at: usize) -> [String; 2] {
        let host = scene.a.host();
        [format!("{host}/ops/run:any@{}", self.runs[at].digest), format!("{host}/ops/proxy:v1")]
    }

    /// The documents of a file-based catalog.
    pub fn documents(&self, scene: &Scene) -> String {
        let mut documents = vec![
            json!({ "schema": "olm.package", "name": "foo", "defaultChannel": "stable" }),
            json!({ "schema": "olm.channel", "package": "foo", "name": "stable", "entries": [
                { "name": NAMES[0] }, { "name": NAMES[1], "replaces": NAMES[0] } ] }),
            json!({ "schema": "olm.package", "name": "bar", "defaultChannel": "alpha" }),
            json!({ "schema": "olm.channel", "package": "bar", "name": "alpha", "entries": [{ "name": NAMES[2] }] }),
        ];
        for (at, name) in NAMES.iter().enumerate() {
            let (package, version) = name.split_once(".v").unwrap();
            let images = self.related(scene, at);
            let related: Vec<Value> =
                images.iter().map(|image| json!({ "name": "", "image": image })).collect();
            documents.push(json!({
                "schema": "olm.bundle", "name": name, "package": package, "image": self.bundle(scene, at),
                "properties": [{ "type": "olm.package", "value": { "packageName": package, "version": version } }],
                "relatedImages": related,
            }));
        }
        documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Puts a file-based catalog for two platforms into the first registry.
    pub fn catalog(&self, scene: &Scene) -> (Content, Descriptor) {
        let mut content = Content::new();
        let documents = self.documents(scene);
        let labels = json!({ "operators.operatorframework.io.index.configs.v1": "/configs" });
        let files = layer_of(&[("configs/all/catalog.json", documents.as_bytes())]);
        let children = ["linux/amd64", "linux/s390x"].map(|platform| {
            let own = layer_of(&[("bin/opm", platform.as_bytes())]);
            labelled(&mut content, platform, &[own, files.clone()], &labels)
        });
        let index = content.index(&children);
        scene.a.push("ns/index", &content, &index, Some("v1"));
        (content, index)
    }

    /// Puts a catalog in a database into the first registry.
    fn database(&self, scene: &Scene) -> Descriptor {
        let path = scene.path("index.db");
        let database = rusqlite::Connection::open(&path).unwrap();
        let mut sql = "\
            CREATE TABLE operatorbundle (name TEXT PRIMARY KEY, csv TEXT, bundle TEXT, bundlepath TEXT, skiprange TEXT, \
              version TEXT, replaces TEXT, skips TEXT);\
            CREATE TABLE package (name TEXT PRIMARY KEY, default_channel TEXT);\
            CREATE TABLE channel (name TEXT, package_name TEXT, head_operatorbundle_name TEXT, \
              PRIMARY KEY(name, package_name));\
            CREATE TABLE channel_entry (entry_id INTEGER PRIMARY KEY, channel_name TEXT, package_name TEXT, \
              operatorbundle_name TEXT, replaces INTEGER, depth INTEGER);\
            CREATE TABLE related_image (image TEXT, operatorbundle_name TEXT);\
            CREATE TABLE properties (type TEXT, value TEXT, operatorbundle_name TEXT, operatorbundle_version TEXT, \
              operatorbundle_path TEXT);\
            INSERT INTO package VALUES ('foo', 'stable'), ('bar', 'alpha');\
            INSERT INTO channel VALUES ('stable', 'foo', 'foo.v1.1.0'), ('alpha', 'bar', 'bar.v0.1.0');\
            INSERT INTO channel_entry VALUES (1, 'stable', 'foo', 'foo.v1.1.0', 2, 0), \
              (2, 'stable', 'foo', 'foo.v1.0.0', NULL, 1), (3, 'alpha', 'bar', 'bar.v0.1.0', NULL, 0);"
            .to_owned();
        for (at, name) in NAMES.iter().enumerate() {
            let version = name.split_once(".v").unwrap().1;
            let path = self.bundle(scene, at);
            sql.push_str(&format!(
                "INSERT INTO operatorbundle (name, bundlepath, version) VALUES ('{name}', '{path}', '{version}');"
            ));
            for image in self.related(scene, at) {
                sql.push_str(&format!("INSERT INTO related_image VALUES ('{image}', '{name}');"));
            }
        }
        database.execute_batch(&sql).unwrap();
        drop(database);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let mut content = Content::new();
        let labels = json!({ "operators.operatorframework.io.index.database.v1": "/database/index.db" });
        let layers = [layer_of(&[("bin/opm", b"old")]), layer_of(&[("database/index.db", &bytes)])];
        let image = labelled(&mut content, "linux/amd64", &layers, &labels);
        scene.a.push("ns/index", &content, &image, Some("v1"));
        image
    }

    /// What is at the target when these bundles travelled.
    fn expected(
        &self,
        bundles: &[usize],
        more: &[(&str, &[&Descriptor])],
    ) -> BTreeMap<String, BTreeSet<Digest>> {
        let of = |all: &[Descriptor; 3]| bundles.iter().map(|at| all[*at].digest.clone()).collect();
        let mut expected = BTreeMap::from([
            ("ops/bundle".to_owned(), of(&self.bundles)),
            ("ops/run".to_owned(), of(&self.runs)),
            ("ops/proxy".to_owned(), BTreeSet::from([self.shared.digest.clone()])),
        ]);
        for (repository, roots) in more {
            let digests = roots.iter().map(|root| root.digest.clone()).collect();
            expected.insert((*repository).to_owned(), digests);
        }
        expected
    }
}

fn push(scene: &Scene, file: &str) -> BTreeMap<String, BTreeSet<Digest>> {
    scene.barge(&["push", file, scene.b.host()]).run().success();
    manifests(&scene.b)
}

pub(super) fn parts(scene: &Scene, file: &str) -> Vec<(String, Part)> {
    let bundle = Bundle::open(&scene.path(file)).unwrap();
    let images = bundle.record().unwrap().images.iter();
    images.map(|image| (image.name.path(), image.part)).collect()
}

pub const FILTERED: &str = "\
apiVersion: barge/v1
catalogs:
  - catalog: {A}/ns/index:v1
    packages:
      - name: foo
";

#[test]
fn a_catalog_travels_byte_for_byte_with_the_images_of_what_is_wanted() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    let (content, index) = operators.catalog(&scene);
    scene.file("wanted.yaml", FILTERED);
    let told = scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    told.stderr_has("lists operators that are not carried").stderr_has("ns/index:v1");
    let children = content.closure(&index);
    let manifests: Vec<&Descriptor> = children
        .iter()
        .filter(|child| content.manifests.contains_key(&child.digest))
        .chain([&index])
        .collect();
    let expected = operators.expected(&[1], &[("ns/index", &manifests)]);
    assert_eq!(push(&scene, "site.oci.tar"), expected);
    assert_eq!(everything(&scene.b)["ns/index:v1"], index.digest);
    let parts = parts(&scene, "site.oci.tar");
    let of = |part| parts.iter().filter(|(_, one)| *one == part).count();
    assert_eq!((of(Part::Catalog), of(Part::Operator), parts.len()), (1, 3, 4), "{parts:?}");
    // What was named with a tag and a digest is pulled by the digest, and both are kept.
    let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
    let run =
        bundle.record().unwrap().images.iter().find(|one| one.name.name.repository == "ops/run").unwrap();
    assert_eq!(run.name.selector(), operators.runs[1].digest.to_string());
    assert_eq!(run.reference.as_ref().unwrap().tag.as_deref(), Some("any"));
}

#[test]
fn a_catalog_of_which_all_is_wanted_brings_all_and_warns_of_nothing() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    let (content, index) = operators.catalog(&scene);
    let text = "\
kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  operators:
    - catalog: {A}/ns/index:v1
      full: true
      targetCatalog: ns2/index
      targetTag: v9
";
    scene.file("wanted.yaml", text);
    let told = scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    assert!(!told.stderr.contains("not carried"), "{told}");
    let children = content.closure(&index);
    let manifests: Vec<&Descriptor> = children
        .iter()
        .filter(|child| content.manifests.contains_key(&child.digest))
        .chain([&index])
        .collect();
    let expected = operators.expected(&[0, 1, 2], &[("ns2/index", &manifests)]);
    assert_eq!(push(&scene, "site.oci.tar"), expected);
    assert_eq!(everything(&scene.b)["ns2/index:v9"], index.digest);
}

#[test]
fn a_rebuilt_catalog_lists_what_travels_under_digests_that_are_mapped() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    let (_, index) = operators.catalog(&scene);
    scene.file("wanted.yaml", &FILTERED.replace("    packages", "    rebuildCatalog: true\n    packages"));
    let pack = |name: &str| {
        let told = scene.barge(&["pack", "-f", "wanted.yaml", "-o", name]).run().success();
        told.stderr_has("was rebuilt and is").stderr_has("signatures among it")
    };
    pack("site.oci.tar").never_says("not carried; the console");
    let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
    let record = bundle.record().unwrap();
    let catalog = record.images.iter().find(|image| image.part == Part::Catalog).unwrap();
    assert_ne!(catalog.root, index.digest);
    assert_eq!(record.digest_map.len(), 3, "the index and two images");
    let root = record.digest_map.iter().find(|change| change.old == index.digest).unwrap();
    assert_eq!((&root.new, &root.image), (&catalog.root, &catalog.name));
    let told = scene.barge(&["inspect", "site.oci.tar"]).run().success();
    told.stdout_has("changed  3 digests on purpose");
    push(&scene, "site.oci.tar");
    assert_eq!(everything(&scene.b)["ns/index:v1"], catalog.root);
    // The same catalog and filter give the same bytes.
    pack("again.oci.tar");
    let read = |name: &str| std::fs::read(scene.path(name)).unwrap();
    assert!(read("site.oci.tar") == read("again.oci.tar"));
    // What is at the target is a catalog, and all of it is there.
    let whole = "apiVersion: barge/v1\ncatalogs: [{catalog: '{B}/ns/index:v1', full: true}]\n";
    scene.file("whole.yaml", &whole.replace("{B}", scene.b.host()));
    scene.barge(&["pack", "-f", "whole.yaml", "-o", "whole.oci.tar"]).run().success();
    let names: Vec<String> = parts(&scene, "whole.oci.tar").into_iter().map(|(name, _)| name).collect();
    let expected = [
        "ns/index:v1".to_owned(),
        format!("ops/bundle@{}", operators.bundles[1].digest),
        "ops/proxy:v1".to_owned(),
        format!("ops/run@{}", operators.runs[1].digest),
    ];
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(expected));
}

#[test]
fn an_interrupted_pack_of_a_catalog_goes_on_unless_the_catalog_is_another_by_then() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    let (mut content, _) = operators.catalog(&scene);
    scene.file("wanted.yaml", &FILTERED.replace("    packages", "    rebuildCatalog: true\n    packages"));
    let pack = |name: &str| scene.barge(&["pack", "-f", "wanted.yaml", "-o", name, "--retry-times", "0"]);
    pack("whole.oci.tar").run().success();
    let lost = scene.a.client().manifest("ops/run", &operators.runs[1].digest.to_string()).unwrap();
    let lost: Value = serde_json::from_slice(&lost).unwrap();
    let lost: Digest = lost["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let file = scene.a.blob_file(&lost);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![0; bytes.len()]).unwrap();
    let stopped = pack("site.oci.tar").run();
    assert!(stopped.code != 0 && scene.path("site.oci.tar.partial").exists(), "{stopped}");
    std::fs::write(&file, bytes).unwrap();
    // Another catalog under the same tag means another plan.
    let tag = |content: &Content, root: &Descriptor| scene.a.push("ns/index", content, root, Some("v1"));
    let documents = operators.documents(&scene).replace("foo", "fob");
    let labels = json!({ "operators.operatorframework.io.index.configs.v1": "/configs" });
    let files = layer_of(&[("configs/c.json", documents.replace("fob\"", "foo\"").as_bytes())]);
    let other = labelled(&mut content, "linux/amd64", &[files], &labels);
    tag(&content, &other);
    pack("site.oci.tar").run().code(3).stderr_has("other arguments");
    let (content, index) = operators.catalog(&scene);
    tag(&content, &index);
    pack("site.oci.tar").run().success().stderr_has("going on with the plan that was made");
    let read = |name: &str| std::fs::read(scene.path(name)).unwrap();
    assert!(read("site.oci.tar") == read("whole.oci.tar"));
}

#[test]
fn a_catalog_in_a_database_travels_untouched() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    let image = operators.database(&scene);
    for text in
        [FILTERED.to_owned(), FILTERED.replace("    packages", "    rebuildCatalog: true\n    packages")]
    {
        scene.file("wanted.yaml", &text);
        let told = scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
        told.stderr_has("the console will list operators that are not carried");
        let expected = operators.expected(&[1], &[("ns/index", &[&image])]);
        assert_eq!(push(&scene, "site.oci.tar"), expected);
        std::fs::remove_file(scene.path("site.oci.tar")).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_catalog_or_a_filter_is_said_with_the_line_of_the_file() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    operators.catalog(&scene);
    for (from, to, what) in [
        ("name: foo", "name: fooo", "nothing is left of the catalog"),
        ("name: foo\n", "name: foo\n        minVersion: 9.0.0\n", "nothing is left"),
        ("ns/index:v1", "team/app:v1", "is no operator catalog"),
        ("ns/index:v1", "ns/index:v2", "ns/index:v2"),
    ] {
        scene.file("wanted.yaml", &FILTERED.replace(from, to));
        let told = scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run();
        assert!([3, 4].contains(&told.code), "{told}");
        told.stderr_has("wanted.yaml:3").stderr_has(what);
        assert_eq!(listing(scene.temp.path()), ["wanted.yaml"]);
    }
}
