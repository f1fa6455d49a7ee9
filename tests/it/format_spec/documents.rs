//! Inventories, receipts and requests.

use std::path::Path;

use barge::base::{FarSide, Joining, Known};
use barge::graph::Part;
use barge::graph::reliance::{Holds, Seen};
use barge::inventory::{Content, Gathering, ImageRow, Inventory, InventoryError, Kind, Scope, state_code};
use barge::oci::Digest;
use barge::pack::Output;
use barge::request::{Request, RequestError};
use serde_json::{Value, json};

use super::golden;
use super::made::{Made, site, write};
use super::months::{self, pack_for};
use super::record::{has_null_or_fraction, python_canonical};
use crate::support::barge::barge;
use crate::support::images::{Content as Blobs, plain_layer};
use crate::support::peers::RealRegistry;

const BOTH: [&str; 2] = ["site.inventory.json", "site.receipt.json"];

fn read(document: &Value) -> Result<Inventory, InventoryError> {
    let temp = tempfile::tempdir().unwrap();
    Inventory::read(&write(document.to_string().as_bytes(), temp.path(), "a.json"))
}

fn read_request(document: &Value) -> Result<Request, RequestError> {
    let temp = tempfile::tempdir().unwrap();
    Request::read(&write(document.to_string().as_bytes(), temp.path(), "a.json"))
}

fn edited(name: &str, edit: impl FnOnce(&mut Value)) -> Value {
    let mut document = golden::document(name);
    edit(&mut document);
    document
}

/// Takes the inventory of a real registry with two repositories that share a layer.
pub fn real(folder: &Path, flags: &[&str], what: &[&str]) -> Value {
    let registry = RealRegistry::start();
    let mut content = Blobs::new();
    for (seed, repository) in ["team/app", "team/tool"].into_iter().enumerate() {
        let layers = [plain_layer(1, 300), plain_layer(seed as u64 + 2, 200)];
        let image = content.image("linux/amd64", &layers);
        registry.push(repository, &content, &image, Some("v1"));
    }
    let places: Vec<String> = what.iter().map(|place| format!("{}{place}", registry.host())).collect();
    barge(["inventory", "-o", "real.json"]).args(flags).args(places).dir(folder).run().success();
    serde_json::from_slice(&std::fs::read(folder.join("real.json")).unwrap()).unwrap()
}

#[test]
fn i_1_r_1_documents_are_canonical_json() {
    for name in BOTH.into_iter().chain(["site.request.json"]) {
        let bytes = golden::file(name);
        assert!(python_canonical(&bytes) == bytes, "{name}");
        assert!(!has_null_or_fraction(&golden::document(name)), "{name}");
    }
}

#[test]
fn i_2_i_3_i_4_other_types_and_versions_are_refused_and_unknown_fields_are_not() {
    for name in BOTH {
        let fails = |edit: fn(&mut Value)| read(&edited(name, edit)).unwrap_err();
        let other = fails(|document| document["mediaType"] = json!("application/json"));
        assert!(matches!(other, InventoryError::MediaType { .. }));
        let newer = fails(|document| document["formatVersion"] = json!("2.0"));
        assert!(matches!(newer, InventoryError::Version { .. }));
        let later = edited(name, |document| {
            document["formatVersion"] = json!("1.9");
            document["surprise"] = json!({});
            document["content"]["surprise"] = json!(1);
            document["content"]["images"][0]["surprise"] = json!([]);
        });
        assert_eq!(read(&later).unwrap().content.id(), read(&golden::document(name)).unwrap().content.id());
    }
}

#[test]
fn r_2_r_3_r_4_other_types_and_versions_are_refused_and_unknown_fields_are_not() {
    let fails = |edit: fn(&mut Value)| read_request(&edited("site.request.json", edit)).unwrap_err();
    assert!(matches!(fails(|it| it["mediaType"] = json!("x")), RequestError::MediaType(_)));
    assert!(matches!(fails(|it| it["formatVersion"] = json!("2.0")), RequestError::Version(_)));
    let later = edited("site.request.json", |it| {
        it["surprise"] = json!({});
        it["blobs"][0]["surprise"] = json!(1);
    });
    assert_eq!(read_request(&later).unwrap(), read_request(&golden::document("site.request.json")).unwrap());
}

#[test]
fn i_5_the_content_id_says_nothing_of_time_or_place() {
    let whole = golden::whole();
    let mut inventory = months::inventory(&whole);
    let text = golden::document(BOTH[0])["content"].to_string();
    assert_eq!(inventory.content.id(), Digest::sha256(text.as_bytes()));
    (inventory.target, inventory.taken) =
        (Some("elsewhere.example".to_owned()), "2027-01-01T00:00:00Z".to_owned());
    assert_eq!(inventory.content.id(), Digest::sha256(text.as_bytes()));
}

#[test]
fn i_6_i_7_rows_and_the_lists_that_they_point_to_are_sorted() {
    let temp = tempfile::tempdir().unwrap();
    let documents = [golden::document(BOTH[0]), golden::document(BOTH[1]), real(temp.path(), &[], &[""])];
    for document in documents {
        let content = &document["content"];
        let texts = |list: &str| -> Vec<String> {
            content[list].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let (types, repositories) = (texts("mediaTypes"), texts("repositories"));
        assert!(types.is_sorted_by(|a, b| a < b) && repositories.is_sorted_by(|a, b| a < b));
        let rows = content["blobs"].as_array().unwrap();
        assert!(rows.len() > 4 && rows.is_sorted_by(|a, b| a[0].as_str() < b[0].as_str()));
        for row in rows {
            assert_eq!(row.as_array().unwrap().len(), 4);
            assert!(row[2].as_u64().unwrap() < types.len() as u64);
            let places: Vec<u64> = row[3].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
            assert!(places.is_sorted_by(|a, b| a < b), "{row}");
            assert!(places.iter().all(|at| *at < repositories.len() as u64), "{row}");
        }
        assert!(content["images"].as_array().unwrap().is_sorted_by_key(|image| image["name"].to_string()));
    }
}

#[test]
fn i_8_rows_that_point_nowhere_or_are_out_of_order_are_refused() {
    let edits: [fn(&mut Value); 4] = [
        |content| content["blobs"][0][2] = json!(99),
        |content| content["blobs"][0][3] = json!([99]),
        |content| content["blobs"].as_array_mut().unwrap().reverse(),
        |content| content["blobs"][1] = content["blobs"][0].clone(),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let document = edited(BOTH[0], |document| edit(&mut document["content"]));
        assert!(matches!(read(&document), Err(InventoryError::Invalid { .. })), "edit {at}");
    }
}

#[test]
fn i_9_names_are_relative_to_the_target() {
    let temp = tempfile::tempdir().unwrap();
    let document = real(temp.path(), &[], &["/team/"]);
    assert!(document["target"].as_str().unwrap().ends_with("/team"), "{}", document["target"]);
    assert_eq!(document["content"]["repositories"], json!(["app", "tool"]));
    let images = document["content"]["images"].as_array().unwrap();
    let names: Vec<&Value> = images.iter().map(|image| &image["name"]).collect();
    assert_eq!(names, ["app:v1", "tool:v1"]);
}

#[test]
fn i_10_the_state_is_that_of_the_images() {
    for name in BOTH {
        let document = read(&golden::document(name)).unwrap();
        let images = document.content.images.iter().map(|image| {
            let name = match &image.source {
                Some(source) => source.to_string(),
                None => image.name.clone().unwrap(),
            };
            (name, &image.root, image.platforms.as_slice())
        });
        assert_eq!(document.state, state_code(images));
    }
    // A receipt reads back what the bundle says; an inventory does not know the names that things travelled under.
    let record = barge::bundle::record::Record::read(golden::whole().sidecar.as_slice()).unwrap();
    assert_eq!(golden::document(BOTH[1])["state"], record.state());
}

#[test]
fn i_11_the_scope_is_no_larger_than_what_was_looked_at() {
    let temp = tempfile::tempdir().unwrap();
    for (what, scope) in [("", "registry"), ("/team/app", "repositories"), ("/team/app:v1", "images")] {
        assert_eq!(real(temp.path(), &["--restart"], &[what])["scope"], scope, "{what}");
        std::fs::remove_file(temp.path().join("real.json")).unwrap();
    }
    assert_eq!(golden::document(BOTH[1])["scope"], "images");
}

#[test]
fn i_12_only_an_inventory_whose_blobs_were_read_is_checked() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(real(temp.path(), &[], &[""])["checked"], false);
    std::fs::remove_file(temp.path().join("real.json")).unwrap();
    assert_eq!(real(temp.path(), &["--check-blobs", "--restart"], &[""])["checked"], true);
}

#[test]
fn i_13_a_receipt_lists_bundles_and_outcomes_and_holds_what_is_in_place() {
    let receipt = golden::document(BOTH[1]);
    let whole = golden::whole();
    assert_eq!(receipt["bundles"], json!([Digest::sha256(whole.content("barge.json"))]));
    let rows = receipt["outcomes"].as_array().unwrap();
    assert!(rows.is_sorted_by_key(|row| row["image"].as_str()));
    let images = receipt["content"]["images"].as_array().unwrap();
    for row in rows {
        let is_in_place = ["pushed", "unchanged"].contains(&row["outcome"].as_str().unwrap());
        assert_eq!(images.iter().any(|image| image["source"] == row["image"]), is_in_place, "{row}");
        assert_eq!(row.get("why").is_none(), is_in_place, "{row}");
    }
    assert!(images.iter().all(|image| image.get("source").is_some()));
    let inventory = golden::document(BOTH[0]);
    assert!(inventory.get("bundles").is_none() && inventory.get("outcomes").is_none());
}

#[test]
fn i_19_a_receipt_says_what_images_are_and_what_they_were_pulled_by() {
    let (registry, temp) = (RealRegistry::start(), tempfile::tempdir().unwrap());
    let site = super::made::one_image(&plain_layer(1, 100));
    let made = super::record::packed_as(&site, &[Part::Operator], Vec::new());
    made.write(temp.path(), "a.oci.tar");
    let push = barge(["push", "a.oci.tar", registry.host(), "--receipt", "receipt.json"]);
    push.dir(temp.path()).run().success();
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(temp.path().join("receipt.json")).unwrap()).unwrap();
    let (row, image) = (&receipt["outcomes"][0], &made.record["images"][0]);
    assert_eq!((&row["part"], &row["reference"]), (&json!("operator"), &image["reference"]));
    assert!(row["reference"].as_str().unwrap().starts_with("original.example/it:v0@sha256:"));
    assert!(golden::document(BOTH[1])["outcomes"][0].get("part").is_none());
}

/// A document about the target `b` that holds these blobs of a byte in these repositories.
fn known(kind: Kind, target: &str, taken: &str, scope: Scope, held: &[(&str, &str)]) -> Known {
    let mut gathering = Gathering::default();
    for (blob, repository) in held {
        gathering.add(&Digest::sha256(blob.as_bytes()), 1, "application/x", Some(repository));
    }
    let content = Content::new(Vec::<ImageRow>::new(), gathering.finish());
    let mut document = Inventory::new(kind, target.to_owned(), scope, content);
    taken.clone_into(&mut document.taken);
    Known::of_inventory(document)
}

fn seen(far_side: &FarSide, blob: &str, size: u64) -> bool {
    far_side.seen(&Digest::sha256(blob.as_bytes()), size).is_some()
}

#[test]
fn i_14_i_15_of_one_target_the_newest_word_on_a_repository_counts() {
    let (jan, feb, mar) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
    let old = || known(Kind::Inventory, "b", jan, Scope::Registry, &[("x", "app"), ("y", "tool")]);
    let join = |bases| FarSide::join(bases, None).unwrap();
    for (scope, held) in [
        (Scope::Registry, [false, false, true]),
        (Scope::Repositories, [false, true, true]),
        (Scope::Images, [true, true, true]),
    ] {
        let new = || known(Kind::Inventory, "b", feb, scope, &[("z", "app")]);
        for bases in [vec![old(), new()], vec![new(), old()]] {
            let far_side = join(bases);
            assert_eq!(["x", "y", "z"].map(|blob| seen(&far_side, blob, 1)), held, "{scope:?}");
        }
    }
    let receipt = |taken| known(Kind::Receipt, "b", taken, Scope::Images, &[("r", "app")]);
    let middle = || known(Kind::Inventory, "b", feb, Scope::Repositories, &[("z", "app")]);
    assert!(
        seen(&join(vec![receipt(mar), middle()]), "r", 1)
            && !seen(&join(vec![receipt(jan), middle()]), "r", 1)
    );
    assert!(seen(&join(vec![receipt(mar), middle()]), "z", 1), "a receipt takes nothing away");
    // Different targets are different states.
    let two = || vec![old(), known(Kind::Inventory, "c", jan, Scope::Registry, &[("x", "app")])];
    assert!(FarSide::join(two(), None).is_err());
    let common = FarSide::join(two(), Some(Joining::Common)).unwrap();
    assert_eq!(["x", "y"].map(|blob| seen(&common, blob, 1)), [true, false]);
}

#[test]
fn i_16_content_of_another_size_is_other_content() {
    let far_side =
        FarSide::join(vec![known(Kind::Inventory, "b", "", Scope::Registry, &[("x", "app")])], None).unwrap();
    assert!(seen(&far_side, "x", 1) && !seen(&far_side, "x", 2));
    let found = far_side.seen(&Digest::sha256(b"x"), 1).unwrap();
    assert_eq!(found, [Seen::Path("app".to_owned())]);
}

#[test]
fn i_17_r_8_names_that_are_omitted_are_nowhere() {
    let whole = golden::whole();
    let temp = tempfile::tempdir().unwrap();
    let mut shown = Vec::new();
    for document in [months::inventory(&whole), months::receipt(&whole)] {
        let mut omitted = document.clone();
        omitted.omit_names();
        assert_eq!(omitted.state, document.state);
        let path = temp.path().join("a.json");
        omitted.write(std::fs::File::create(&path).unwrap(), false).unwrap();
        assert_eq!(Inventory::read(&path).unwrap().content.id(), omitted.content.id());
        let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(value["content"]["repositories"], json!([]));
        shown.push(value.to_string());
    }
    let mut request = months::request(&whole);
    request.omit_names();
    shown.push(String::from_utf8(request.bytes()).unwrap());
    for text in shown {
        assert!(!text.contains("example") && !text.contains("site/"), "{text}");
    }
    let real = real(temp.path(), &["--omit-names"], &[""]);
    assert!(!real.to_string().contains("team") && real.get("target").is_none(), "{real}");
}

#[test]
fn i_18_a_compressed_document_is_read_as_a_plain_one() {
    let temp = tempfile::tempdir().unwrap();
    for name in BOTH {
        let plain = read(&golden::document(name)).unwrap();
        let path = temp.path().join("a.json.zst");
        plain.write(std::fs::File::create(&path).unwrap(), true).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
        assert_eq!(Inventory::read(&path).unwrap().content.id(), plain.content.id());
    }
}

#[test]
fn r_5_r_6_what_is_asked_for_and_the_images_are_sorted_and_stand_once() {
    let request = golden::document("site.request.json");
    let blobs = request["blobs"].as_array().unwrap();
    assert!(blobs.len() == 3 && blobs.is_sorted_by(|a, b| a["digest"].as_str() < b["digest"].as_str()));
    let images = request["images"].as_array().unwrap();
    assert!(images.len() == 2 && images.is_sorted_by(|a, b| a["name"].as_str() < b["name"].as_str()));
    let places: Vec<Option<&Value>> = blobs.iter().map(|blob| blob.get("images")).collect();
    assert!(places.contains(&Some(&json!([0, 1]))) && places.contains(&Some(&json!([1]))));
    assert!(places.contains(&None), "one whose images nobody knows");
}

#[test]
fn r_7_a_place_beyond_the_images_is_none() {
    let beyond = edited("site.request.json", |it| it["blobs"][0]["images"] = json!([0, 7]));
    assert_eq!(read_request(&beyond).unwrap().blobs[0].images, [0]);
}

#[test]
fn r_9_a_top_up_has_what_is_asked_for_and_builds_on_the_request() {
    let temp = tempfile::tempdir().unwrap();
    let whole = golden::whole();
    let mut request = months::request(&whole);
    request.blobs.retain(|blob| blob.digest == site().own_layer);
    let id = Digest::sha256(&request.bytes());
    let output = Output::Archive(temp.path().join("topup.barge"));
    let path = pack_for(FarSide::all_but(request.clone()), Some(request), &site(), output);
    let sidecar = std::fs::read(temp.path().join("topup.barge.barge.json")).unwrap();
    let made = Made::new(std::fs::read(path).unwrap(), sidecar);
    assert_eq!(made.record["base"]["bases"], json!([{ "id": id, "kind": "request" }]));
    // Of the two images only the one that needs it, with its manifest.
    let names: Vec<&Value> =
        made.record["images"].as_array().unwrap().iter().map(|image| &image["name"]).collect();
    assert_eq!(names, ["registry.example/site/worker:v1"]);
    let rows: Vec<&Value> = made.rows().iter().map(|row| &row["role"]).collect();
    assert_eq!(rows, ["manifest", "layer"]);
    assert_eq!(made.rows()[1]["digest"], site().own_layer.to_string());
}

#[test]
fn r_10_a_top_up_has_the_platforms_that_travelled() {
    let temp = tempfile::tempdir().unwrap();
    let layout = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/multiarch");
    let source = format!("registry.example/app:v1=oci:{layout}");
    let pack = |args: &[&str]| {
        barge(["pack"]).arg(&source).args(args).dir(temp.path()).run().success();
        barge::bundle::Bundle::open(&temp.path().join(args[1])).unwrap()
    };
    let whole = pack(&["-o", "whole.oci.tar", "--platform", "linux/amd64"]);
    let record = whole.record().unwrap();
    let layer = record.blobs.iter().find(|row| row.role == barge::bundle::table::Role::Layer).unwrap();
    let wanted = |platforms: Vec<barge::oci::Platform>| {
        let image = barge::request::WantedImage {
            name: Some("registry.example/app:v1".to_owned()),
            platforms,
            reference: None,
            root: Some(record.images[0].root.clone()),
        };
        let blob = barge::request::WantedBlob {
            digest: layer.digest.clone(),
            images: Vec::new(),
            media_type: layer.media_type.to_owned(),
            size: layer.size,
        };
        Request::new([(blob, vec![image])], Vec::new())
    };
    let platforms = |bundle: &barge::bundle::Bundle| {
        let platforms = &bundle.record().unwrap().images[0].platforms;
        platforms.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    wanted(record.images[0].platforms.clone()).write(&temp.path().join("sparse.json")).unwrap();
    let sparse = pack(&["-o", "sparse.barge", "--request", "sparse.json"]);
    assert_eq!(platforms(&sparse), ["linux/amd64"]);
    let named =
        pack(&["-o", "named.barge", "--request", "sparse.json", "--platform", "linux/amd64,linux/arm64"]);
    assert_eq!(platforms(&named), ["linux/amd64", "linux/arm64"]);
    // Of a request that does not say it, all.
    wanted(Vec::new()).write(&temp.path().join("any.json")).unwrap();
    assert_eq!(platforms(&pack(&["-o", "any.barge", "--request", "any.json"])).len(), 3);
}
