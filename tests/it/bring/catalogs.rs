//! Catalogs on every way: which digests changed is told whatever verb carries them.

use std::collections::BTreeSet;

use barge::bundle::Bundle;
use serde_json::{Value, json};

use super::parts::{FILTERED, Operators};
use super::{Scene, everything};

/// Old and new digests of the first catalog's rebuilt form, as the record of a bundle has them.
fn rebuilt(scene: &Scene) -> BTreeSet<(String, String)> {
    scene.file("wanted.yaml", &FILTERED.replace("    packages", "    rebuildCatalog: true\n    packages"));
    scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
    let rows = &bundle.record().unwrap().digest_map;
    assert_eq!(rows.len(), 3, "{rows:?}");
    rows.iter().map(|row| (row.old.to_string(), row.new.to_string())).collect()
}

fn pairs(rows: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(&row["old"]), text(&row["new"]))).collect()
}

#[test]
fn the_digests_of_a_rebuilt_catalog_are_mapped_whatever_verb_carries_it() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    operators.catalog(&scene);
    let expected = rebuilt(&scene);
    let name = format!("{}/ns/index:v1", scene.a.host());
    for words in
        [vec!["push", "site.oci.tar"], vec!["mirror", "-f", "wanted.yaml"], vec!["push", "site.oci.tar"]]
    {
        let run = scene.barge(&words).args([scene.b.host(), "--digest-map", "map.json", "--json"]).run();
        let told = run.success().json();
        let written: Value = serde_json::from_slice(&std::fs::read(scene.path("map.json")).unwrap()).unwrap();
        assert_eq!(pairs(&written), expected, "{words:?}");
        assert_eq!(told["digestMap"], written);
        for row in written.as_array().unwrap() {
            assert_eq!(row["image"], json!(name));
            assert_eq!(row["target"], json!(format!("{}/ns/index:v1", scene.b.host())));
        }
        std::fs::remove_file(scene.path("map.json")).unwrap();
    }
    let new = everything(&scene.b)["ns/index:v1"].to_string();
    assert!(expected.iter().any(|(_, one)| *one == new));
    // What the push itself changes is told beside it: the old index is the new one's, and that another's.
    let words = ["pack", "site.oci.tar", "--platform", "linux/amd64", "-o", "one.oci.tar"];
    scene.barge(&words).run().success();
    let host = format!("{}/one", scene.b.host());
    let words = ["push", "one.oci.tar", &host, "--sparse", "single", "--digest-map", "map.json"];
    scene.barge(&words).run().success();
    let written: Value = serde_json::from_slice(&std::fs::read(scene.path("map.json")).unwrap()).unwrap();
    let single = everything(&scene.b)["one/ns/index:v1"].to_string();
    assert_ne!(single, new);
    let written = pairs(&written);
    assert!(written.contains(&(new, single)), "{written:?}");
    assert!(written.is_superset(&expected), "{written:?}");
}
