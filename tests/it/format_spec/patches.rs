//! §15: content that is rebuilt, as writers describe it.

use std::collections::BTreeSet;

use barge::oci::Digest;
use serde_json::{Value, json};

use super::golden;
use super::made::{Made, WORKER};
use crate::bundles::check;
use crate::patched::{Year, patch_of, year};
use crate::support::barge::barge;
use crate::support::images::children;

/// The rows of a list of the record, where it has that.
pub fn rows<'a>(made: &'a Made, list: &str) -> Vec<&'a Value> {
    made.record[list].as_array().into_iter().flatten().collect()
}

/// What patches build on at the far side.
pub fn far(made: &Made) -> Vec<&Value> {
    made.record["base"]["content"].as_array().into_iter().flatten().collect()
}

/// The digest that a value is.
pub fn digest(value: &Value) -> Digest {
    value.as_str().unwrap().parse().unwrap()
}

/// Bundles with patches: on the far side, on each other, on what travels for that only, and the golden one.
fn bundles(year: &Year) -> Vec<Made> {
    let mut all: Vec<Made> =
        ["feb", "mar", "long", "held"].iter().map(|name| year.made(&format!("{name}.barge"))).collect();
    all.push(golden::patched());
    all
}

/// The head of a patch as `patch.md` has it: digests and sizes, the target first.
fn head(patch: &[u8]) -> Vec<(Digest, u64)> {
    let mut at = 8;
    let number = |at: &mut usize| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = patch[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let blob = |at: &mut usize| {
        let length = number(at) as usize;
        let text = std::str::from_utf8(&patch[*at..*at + length]).unwrap();
        *at += length;
        let size = number(at);
        *at += 1;
        (text.parse().unwrap(), size)
    };
    let mut found = vec![blob(&mut at)];
    let count = patch[at];
    at += 1;
    found.extend((0..count).map(|_| blob(&mut at)));
    found
}

#[test]
fn b_85_the_lists_are_sorted_and_not_there_where_they_are_empty() {
    let year = year();
    for made in bundles(&year) {
        assert!(rows(&made, "patches").is_sorted_by_key(|row| row["target"].as_str().unwrap()));
        assert!(far(&made).is_sorted_by_key(|row| row["digest"].as_str().unwrap()));
    }
    assert!(rows(&year.made("long.barge"), "patches").len() > 1 && far(&year.made("mar.barge")).len() > 1);
    for made in [golden::whole(), golden::delta(), year.made("feb-whole.barge")] {
        assert!(made.record.get("patches").is_none());
        assert!(made.record.get("base").is_none_or(|base| base.get("content").is_none()));
    }
}

#[test]
fn b_86_the_feature_is_required_exactly_where_there_are_patches() {
    for made in bundles(&year()) {
        assert_eq!(made.record["requires"], json!(["patches"]));
    }
    for made in [golden::whole(), golden::delta()] {
        assert_eq!(made.record["requires"], json!([]));
    }
}

#[test]
fn b_87_rows_say_what_the_patches_say() {
    let mut counts = BTreeSet::new();
    for made in bundles(&year()) {
        for row in rows(&made, "patches") {
            let head = head(made.content(&digest(&row["patch"]).blob_path()));
            assert_eq!((digest(&row["target"]), row["size"].as_u64().unwrap()), head[0]);
            let bases: Vec<Digest> = row["bases"].as_array().unwrap().iter().map(digest).collect();
            assert_eq!(bases, head[1..].iter().map(|(base, _)| base.clone()).collect::<Vec<_>>());
            assert_eq!(row["codec"], "layer/1");
            counts.insert(bases.len());
        }
    }
    assert_eq!(counts, BTreeSet::from([1, 2]));
}

#[test]
fn b_88_each_base_is_somewhere_and_nothing_else_is_listed() {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let year = year();
    for made in bundles(&year) {
        let held: BTreeSet<String> = made.rows().iter().map(|row| text(&row["digest"])).collect();
        let targets: BTreeSet<String> =
            rows(&made, "patches").iter().map(|row| text(&row["target"])).collect();
        let bases: BTreeSet<String> = rows(&made, "patches")
            .iter()
            .flat_map(|row| row["bases"].as_array().unwrap())
            .map(text)
            .filter(|base| !held.contains(base) && !targets.contains(base))
            .collect();
        assert_eq!(far(&made).iter().map(|row| text(&row["digest"])).collect::<BTreeSet<_>>(), bases);
    }
    let golden = golden::patched();
    let seen = far(&golden)[0]["repositories"].as_array().unwrap();
    let seen = seen.iter().map(|at| &golden.record["base"]["repositories"][at.as_u64().unwrap() as usize]);
    assert_eq!(seen.collect::<Vec<_>>(), [&json!({ "source": WORKER })]);
}

#[test]
fn b_89_a_bundle_with_patches_says_what_it_builds_on() {
    for made in bundles(&year()) {
        assert!(!made.record["base"]["bases"].as_array().unwrap().is_empty());
    }
}

#[test]
fn b_90_only_layers_are_rebuilt() {
    for made in bundles(&year()) {
        let absent: BTreeSet<&str> =
            rows(&made, "absent").iter().map(|row| row["digest"].as_str().unwrap()).collect();
        let held: BTreeSet<&str> = made.rows().iter().map(|row| row["digest"].as_str().unwrap()).collect();
        for row in rows(&made, "patches") {
            assert!(row["mediaType"].as_str().unwrap().contains("layer"));
            let target = row["target"].as_str().unwrap();
            assert!(!absent.contains(target) && !held.contains(target));
        }
    }
}

#[test]
fn b_91_patches_and_what_only_they_need_have_roles_of_their_own() {
    let year = year();
    for made in bundles(&year) {
        let patches: BTreeSet<&str> =
            rows(&made, "patches").iter().map(|row| row["patch"].as_str().unwrap()).collect();
        for row in made.rows() {
            let is_patch = patches.contains(row["digest"].as_str().unwrap());
            assert_eq!(row["role"] == "patch", is_patch);
            assert_eq!(row["mediaType"] == "application/vnd.barge.patch.v1", is_patch);
        }
    }
    let held = year.made("held.barge");
    let support: Vec<&Value> = held.rows().iter().filter(|row| row["role"] == "base").collect();
    assert_eq!(support.len(), 1);
    assert_eq!(support[0]["digest"], year.layers[1].digest.to_string());
    assert_eq!(support[0]["mediaType"], year.layers[1].media_type);
}

#[test]
fn b_92_patches_stand_where_their_content_would_and_what_only_they_need_comes_last() {
    let year = year();
    let last = |made: &Made| digest(&made.rows().last().unwrap()["digest"]);
    let long = year.made("long.barge");
    assert_eq!(last(&long), patch_of(&long, &year.layers[1].digest));
    assert_eq!(last(&year.made("held.barge")), year.layers[1].digest);
    // What the manifest of the golden image lists, with patches in the places of layers.
    let made = golden::patched();
    let manifest: Value =
        serde_json::from_slice(made.content(&digest(&made.rows()[0]["digest"]).blob_path())).unwrap();
    let held: BTreeSet<Digest> = made.rows().iter().map(|row| digest(&row["digest"])).collect();
    let patches: Vec<(Digest, Digest)> =
        rows(&made, "patches").iter().map(|row| (digest(&row["target"]), digest(&row["patch"]))).collect();
    let travels = |layer: Digest| match patches.iter().find(|(target, _)| *target == layer) {
        Some((_, patch)) => Some(patch.clone()),
        None => held.contains(&layer).then_some(layer),
    };
    let expected: Vec<Digest> =
        children(&manifest).into_iter().filter_map(|child| travels(child.digest)).collect();
    assert_eq!(patches.len(), 2);
    let order: Vec<Digest> = made.rows()[1..].iter().map(|row| digest(&row["digest"])).collect();
    assert_eq!(order, expected);
}

#[test]
fn b_93_patches_give_their_targets_bit_for_bit() {
    let year = year();
    year.run("merge jan.oci.tar feb.barge mar.barge -o all.oci.tar").success();
    year.run("merge jan.oci.tar held.barge -o held.oci.tar").success();
    for name in ["all", "held"] {
        let made = std::fs::read(year.path(&format!("{name}.oci.tar"))).unwrap();
        assert!(made == std::fs::read(year.path("mar.oci.tar")).unwrap(), "{name}");
    }
    let (folder, next) = (golden::folder(), super::months::changed_bundle());
    let temp = tempfile::tempdir().unwrap();
    let [base, delta] = ["site.oci.tar", "site-patch.barge"].map(|name| folder.join(name));
    let merge = barge(["merge"]).arg(base).arg(delta).args(["-o", "next.oci.tar"]);
    merge.dir(temp.path()).run().success();
    assert!(std::fs::read(temp.path().join("next.oci.tar")).unwrap() == next.bytes);
}

#[test]
fn the_golden_bundle_with_patches_is_whole_and_small() {
    let made = golden::patched();
    let report = check(&golden::folder().join("site-patch.barge")).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.counts.rebuilt.count, 2);
    assert!(made.json("index.json")["manifests"].as_array().unwrap().is_empty());
    let types: BTreeSet<&str> =
        rows(&made, "patches").iter().map(|row| row["mediaType"].as_str().unwrap()).collect();
    assert_eq!(types.len(), 2, "a plain layer and a gzip layer");
}
