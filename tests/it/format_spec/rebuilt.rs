//! §15: content that is rebuilt, as writers describe it and readers take it.

use std::collections::BTreeSet;
use std::io::Write;

use barge::bundle::Bundle;
use barge::bundle::record::{Record, RecordError};
use barge::delta::layer::Form;
use barge::delta::patch::{BaseHead, Head, StreamPatch, write as write_patch};
use barge::delta::scratch::Scratch;
use barge::oci::Digest;
use barge::oci::media_type::OCI_LAYER;
use barge::pack::Output;
use serde_json::{Value, json};

use super::build::{replaced, with_edited_record};
use super::delta::tagged;
use super::golden;
use super::made::{How, Made, WORKER, pack, write};
use crate::bundles::{check, kinds};
use crate::patched::{Year, patch_of, year};
use crate::support::barge::barge;
use crate::support::images::{Blob, children, plain_layer};
use crate::support::peers::RealRegistry;

/// A change of a record.
type Edit<'a> = &'a dyn Fn(&mut Value);

fn rows<'a>(made: &'a Made, list: &str) -> Vec<&'a Value> {
    made.record[list].as_array().into_iter().flatten().collect()
}

fn far(made: &Made) -> Vec<&Value> {
    made.record["base"]["content"].as_array().into_iter().flatten().collect()
}

fn digest(value: &Value) -> Digest {
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

/// How many files a registry has in its storage.
fn stored(registry: &RealRegistry) -> usize {
    let entries = walkdir::WalkDir::new(registry.storage()).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).count()
}

/// Writes a bundle with an edited record, and pushes it to a registry that has January.
fn push_edited(year: &Year, made: &Made, edit: Edit<'_>) {
    write(&with_edited_record(made, edit), year.temp.path(), "edited.barge");
    let site = RealRegistry::start();
    year.run(&format!("push jan.oci.tar {}", site.host())).success();
    let before = stored(&site);
    let refused = year.run(&format!("push edited.barge {}", site.host()));
    assert_ne!(refused.code, 0, "{refused}");
    assert_eq!(stored(&site), before, "{refused}");
}

#[test]
fn b_94_a_codec_that_is_not_known_is_refused_before_anything_is_changed() {
    let year = year();
    let made = year.made("feb.barge");
    let edit: Edit<'_> = &|record| record["patches"][0]["codec"] = json!("layer/2");
    let mut record = made.record.clone();
    edit(&mut record);
    let refused = Record::read(record.to_string().as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("layer/2") && refused.contains("newer barge"), "{refused}");
    assert_eq!(kinds(&year.check_edited(&made, edit))[0], "record-newer");
    push_edited(&year, &made, edit);
}

/// Asserts that a record is refused once it is edited.
fn assert_refused(made: &Made, edits: &[Edit<'_>]) {
    for (at, edit) in edits.iter().enumerate() {
        let mut record = made.record.clone();
        assert!(Record::read(record.to_string().as_bytes()).is_ok());
        edit(&mut record);
        let read = Record::read(record.to_string().as_bytes());
        assert!(matches!(read, Err(RecordError::Patches(_))), "edit {at}: {read:?}");
        let temp = tempfile::tempdir().unwrap();
        let path = write(&with_edited_record(made, edit), temp.path(), "a.barge");
        assert!(Bundle::open(&path).is_err(), "edit {at}");
    }
}

#[test]
fn b_95_rows_that_contradict_the_record_are_refused() {
    let made = golden::patched();
    let push = |list: &mut Value, row: Value| list.as_array_mut().unwrap().push(row);
    let held = |record: &mut Value| {
        let target = record["patches"][0]["target"].clone();
        let rows = record["blobs"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["role"] == "config").unwrap()["digest"] = target;
    };
    let no_patch = |record: &mut Value| {
        let rows = record["blobs"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["role"] == "patch").unwrap()["role"] = json!("layer");
    };
    assert_refused(
        &made,
        &[
            &|record| {
                let row = record["patches"][0].clone();
                push(&mut record["patches"], row);
            },
            &held,
            &|record| record["patches"][0]["target"] = record["absent"][0]["digest"].clone(),
            &no_patch,
            &|record| record["patches"][0]["patch"] = json!(Digest::sha256(b"nowhere")),
            &|record| record["patches"][0]["bases"] = json!([]),
            &|record| {
                let base = record["patches"][0]["bases"][0].clone();
                record["patches"][0]["bases"] = json!(vec![base; 17]);
            },
            &|record| record["patches"][0]["bases"][0] = json!(Digest::sha256(b"nowhere")),
        ],
    );
}

#[test]
fn b_96_nothing_is_rebuilt_from_itself() {
    let year = year();
    let around = |record: &mut Value| {
        let targets = [0, 1].map(|at| record["patches"][at]["target"].clone());
        let [one, other] = targets;
        push_base(record, 0, other);
        push_base(record, 1, one);
    };
    let own = |record: &mut Value| {
        let target = record["patches"][0]["target"].clone();
        push_base(record, 0, target);
    };
    assert_refused(&year.made("long.barge"), &[&around, &own]);
}

fn push_base(record: &mut Value, at: usize, base: Value) {
    let bases = record["patches"][at]["bases"].as_array_mut().unwrap();
    if !bases.contains(&base) {
        bases.push(base);
    }
}

#[test]
fn b_97_patches_and_what_only_they_need_are_not_delivered() {
    let year = year();
    for (name, made) in [("held.barge", year.made("held.barge")), ("long.barge", year.made("long.barge"))] {
        let bundle = Bundle::open(&year.path(name)).unwrap();
        let site = RealRegistry::start();
        year.run(&format!("push jan.oci.tar {}", site.host())).success();
        year.run(&format!("push {name} {}", site.host())).success();
        for row in made.rows().iter().filter(|row| ["patch", "base"].contains(&row["role"].as_str().unwrap()))
        {
            let digest = digest(&row["digest"]);
            assert!(bundle.holds(&digest) && !bundle.ships(&digest));
            assert!(!site.blob_file(&digest).exists(), "{row}");
        }
        assert!(site.blob_file(&year.layers[2].digest).exists());
    }
    // Nor is such content taken for a layer.
    let whole = year.made("feb-whole.barge");
    let report = year.check_edited(&whole, |record| {
        let rows = record["blobs"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["role"] == "layer").unwrap()["role"] = json!("base");
    });
    assert!(kinds(&report).contains(&"closure-missing"), "{:#?}", report.findings);
    assert_eq!(report.images_whole(), (1, 1));
}

#[test]
fn b_98_b_101_what_patches_build_on_is_found_first_and_the_content_is_asked_for() {
    let year = year();
    let [first, second, _] = &year.layers;
    let site = RealRegistry::start();
    year.run(&format!("push jan.oci.tar {}", site.host())).success();
    // Tags, links and all stay, and the registry says that it has what it lost.
    site.delete_blob_data(&first.digest);
    let before = stored(&site);
    let refused = year.run(&format!("push feb.barge {} --request again.json", site.host()));
    assert_ne!(refused.code, 0, "{refused}");
    assert_eq!(stored(&site), before, "{refused}");
    assert_eq!(site.client().tags("site/db"), ["v1"]);
    let request: Value = serde_json::from_slice(&std::fs::read(year.path("again.json")).unwrap()).unwrap();
    let asked: Vec<&str> =
        request["blobs"].as_array().unwrap().iter().map(|blob| blob["digest"].as_str().unwrap()).collect();
    assert!(asked.contains(&second.digest.to_string().as_str()), "{asked:?}");
    let patch = patch_of(&year.made("feb.barge"), &second.digest).to_string();
    assert!(
        !asked.contains(&patch.as_str()) && !asked.contains(&first.digest.to_string().as_str()),
        "{asked:?}"
    );
}

#[test]
fn b_99_a_patch_of_something_else_than_its_row_says_is_refused() {
    let year = year();
    let long = year.made("long.barge");
    let swap: Edit<'_> = &|record| {
        let first = record["patches"][0]["patch"].take();
        record["patches"][0]["patch"] = std::mem::replace(&mut record["patches"][1]["patch"], first);
    };
    let reverse: Edit<'_> = &|record| {
        for row in record["patches"].as_array_mut().unwrap() {
            row["bases"].as_array_mut().unwrap().reverse();
        }
    };
    for (at, edit) in [swap, reverse].into_iter().enumerate() {
        write(&with_edited_record(&long, edit), year.temp.path(), "edited.barge");
        let refused = year.run(&format!("merge jan.oci.tar edited.barge -o none{at}.oci.tar"));
        assert_ne!(refused.code, 0, "{refused}");
        assert!(!year.path(&format!("none{at}.oci.tar")).exists());
        assert!(refused.stderr.contains("other content than the record says"), "{refused}");
    }
}

/// A patch that says that it gives `target`, and gives the first bytes of its base.
fn liar(target: &Digest, size: u64, base: &BaseHead) -> Vec<u8> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let mut plain = StreamPatch::new(&scratch).unwrap();
    plain.copy(0, 0, size).unwrap();
    let empty = || StreamPatch::new(&scratch).unwrap().finish().unwrap();
    let head = Head { target: target.clone(), size, form: Form::Raw, bases: vec![base.clone()] };
    let mut out = Vec::new();
    write_patch(&mut out, &head, [plain.finish().unwrap(), empty(), empty()]).unwrap();
    out.flush().unwrap();
    out
}

#[test]
fn b_100_p_25_what_is_rebuilt_and_what_it_is_rebuilt_from_is_hashed_before_it_counts() {
    let temp = tempfile::tempdir().unwrap();
    let run = |line: &str| barge(line.split(' ')).dir(temp.path()).env("TMPDIR", temp.path()).run();
    let mut bytes = plain_layer(1, 6000).bytes;
    for (at, name) in ["v1", "v2"].into_iter().enumerate() {
        bytes[3000..].iter_mut().take(2 * at).for_each(|byte| *byte ^= 0xff);
        let site = tagged(name, &[Blob::new(OCI_LAYER, bytes.clone())]);
        let output = Output::Archive(temp.path().join(format!("{name}.oci.tar")));
        pack(&site, How::default(), output).unwrap();
    }
    run("diff v1.oci.tar v2.oci.tar -o v2.barge").success();
    let made = |name: &str, sidecar: &str| {
        let file = |name: &str| std::fs::read(temp.path().join(name)).unwrap();
        Made::new(file(name), file(sidecar))
    };
    let (base, made) = (made("v1.oci.tar", "v1.barge.json"), made("v2.barge", "v2.barge.barge.json"));
    let row = rows(&made, "patches")[0];
    let named = digest(&row["bases"][0]);
    let size = base.row(&named)["size"].as_u64().unwrap();
    let lie = liar(
        &digest(&row["target"]),
        row["size"].as_u64().unwrap(),
        &BaseHead { digest: named.clone(), size, form: Form::Raw },
    );
    write(&replaced(&made, &digest(&row["patch"]), &lie), temp.path(), "lie.barge");
    let report = check(&temp.path().join("lie.barge")).unwrap();
    assert!(report.is_clean(), "only rebuilding tells: {:#?}", report.findings);
    let merged = run("merge v1.oci.tar lie.barge -o none.oci.tar");
    assert_ne!(merged.code, 0, "{merged}");
    assert!(!temp.path().join("none.oci.tar").exists());
    // At a target: the image that is there stays, and the one that can't be rebuilt does not come.
    let site = RealRegistry::start();
    run(&format!("push v1.oci.tar {}", site.host())).success();
    let refused = run(&format!("push lie.barge {}", site.host()));
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.to_string().contains(row["target"].as_str().unwrap()), "{refused}");
    assert_eq!(site.client().tags("team/app"), ["v1"]);
    assert!(!site.blob_file(&digest(&row["target"])).exists());
    // A base of the right size and other bytes.
    let mut bytes = base.bytes.clone();
    bytes[base.entry(&named.blob_path()).data as usize + 5000] ^= 1;
    write(&bytes, temp.path(), "bad.oci.tar");
    let merged = run("merge bad.oci.tar v2.barge -o bad-merged.oci.tar");
    assert_ne!(merged.code, 0, "{merged}");
    assert!(!temp.path().join("bad-merged.oci.tar").exists());
    run("merge v1.oci.tar v2.barge -o merged.oci.tar").success();
    run(&format!("push v2.barge {}", site.host())).success();
}

/// The first row of a role.
fn role<'r>(record: &'r mut Value, role: &str) -> &'r mut Value {
    let rows = record["blobs"].as_array_mut().unwrap();
    rows.iter_mut().find(|row| row["role"] == role).unwrap()
}

#[test]
fn b_102_what_can_not_be_of_patches_is_reported() {
    let year = year();
    let (long, held) = (year.made("long.barge"), year.made("held.barge"));
    let edits: [(&Made, Edit<'_>, &str); 12] = [
        (&long, &|record| record["patches"].as_array_mut().unwrap().reverse(), "not in the one form"),
        (&long, &|record| record["base"]["content"].as_array_mut().unwrap().reverse(), "out of order"),
        (
            &long,
            &|record| {
                let row = json!({ "digest": Digest::sha256(b"more"), "size": 5 });
                record["base"]["content"].as_array_mut().unwrap().push(row);
            },
            "and none does",
        ),
        (&long, &|record| record["base"]["content"][0]["size"] = json!(0), "no bytes"),
        (&long, &|record| record["requires"] = json!([]), "does not require"),
        (
            &held,
            &|record| drop(record.as_object_mut().unwrap().remove("patches")),
            "requires readers to know of patches",
        ),
        (
            &held,
            &|record| drop(record.as_object_mut().unwrap().remove("patches")),
            "nothing is rebuilt by it",
        ),
        (
            &held,
            &|record| drop(record.as_object_mut().unwrap().remove("patches")),
            "patches build on, and none",
        ),
        (&held, &|record| role(record, "patch")["mediaType"] = json!("x/y"), "type of something else"),
        (
            &long,
            &|record| {
                let patch = record["patches"][0]["patch"].clone();
                record["patches"][0]["bases"].as_array_mut().unwrap().push(patch);
            },
            "which is no layer",
        ),
        (
            &long,
            &|record| {
                let base = record["patches"][0]["bases"][0].clone();
                record["patches"][0]["bases"].as_array_mut().unwrap().push(base);
            },
            "twice over",
        ),
        (
            &long,
            &|record| {
                for row in record["patches"].as_array_mut().unwrap() {
                    row["size"] = json!(7);
                }
            },
            "and the record rebuilds it with 7",
        ),
    ];
    for (at, (made, edit, words)) in edits.into_iter().enumerate() {
        let report = year.check_edited(made, edit);
        let found = report.findings.iter().any(|finding| finding.detail.contains(words));
        assert!(found, "edit {at}: {:#?}", report.findings);
    }
    // Without a base, where all that patches build on is in the bundle.
    let alone = year.check_edited(&held, |record| {
        let bases = record["patches"][0]["bases"].as_array_mut().unwrap();
        bases.retain(|base| *base == year.layers[1].digest.to_string());
        let record = record.as_object_mut().unwrap();
        record.remove("base");
        record["absent"].as_array_mut().unwrap().iter_mut().for_each(|row| {
            row.as_object_mut().unwrap().remove("repositories");
        });
    });
    assert!(alone.findings.iter().any(|finding| finding.detail.contains("it has patches, and nothing says")));
    // A manifest can't be rebuilt: who has no base could not tell what it needs.
    let feb = year.made("feb.barge");
    let manifest = year.check_edited(&feb, |record| {
        let rows = record["blobs"].as_array_mut().unwrap();
        let at = rows.iter().position(|row| row["role"] == "manifest").unwrap();
        let row = rows.remove(at);
        let mut patch = record["patches"][0].clone();
        (patch["target"], patch["size"]) = (row["digest"].clone(), row["size"].clone());
        record["patches"] = json!([record["patches"][0], patch]);
        record["patches"].as_array_mut().unwrap().sort_by_key(|row| row["target"].to_string());
    });
    assert!(manifest.findings.iter().any(|finding| finding.detail.contains("manifests always travel")));
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
