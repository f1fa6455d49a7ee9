//! §15: content that is rebuilt, as readers take it.

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
use super::made::{How, Made, pack, write};
use super::patches::{digest, rows};
use crate::bundles::{check, kinds};
use crate::patched::{Year, patch_of, year};
use crate::support::barge::barge;
use crate::support::images::{Blob, plain_layer};
use crate::support::peers::RealRegistry;

/// A change of a record.
type Edit<'a> = &'a dyn Fn(&mut Value);

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
