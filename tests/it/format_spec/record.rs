//! §8: the record, as writers make it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use barge::bundle::Bundle;
use barge::graph::survey::Wish;
use barge::graph::{Change, Part};
use barge::oci::{Descriptor, Digest};
use barge::pack::{Asked, Options, Output, Prepared};
use barge::select::{Attachments, Wanted};
use barge::store::layout::LayoutDirectory;
use barge::transfer::Silent;
use serde_json::Value;

use super::build::{with_edited_record, with_record};
use super::golden;
use super::made::{How, Made, Site, one_image, site, site_that_lacks_a_layer, write};
use crate::support::archives::write_layout;
use crate::support::barge::barge;
use crate::support::images::{Content, children, plain_layer};
use crate::support::peers::{command, run};

/// Python's canonical form of a JSON document.
pub fn python_canonical(document: &[u8]) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let path = write(document, temp.path(), "document.json");
    let script = "import json, sys\n\
        text = json.dumps(json.load(open(sys.argv[1], encoding='utf-8')), sort_keys=True,\n    \
        separators=(',', ':'), ensure_ascii=False)\n\
        sys.stdout.buffer.write(text.encode('utf-8'))";
    run(command("python3").args(["-c", script]).arg(path)).stdout
}

pub fn has_null_or_fraction(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => !number.is_u64(),
        Value::Array(items) => items.iter().any(has_null_or_fraction),
        Value::Object(fields) => fields.values().any(has_null_or_fraction),
        _ => false,
    }
}

#[test]
fn b_28_the_record_is_canonical_json() {
    // Everything that has an escape, and what must have none: solidus, DEL, letters beyond ASCII.
    let strange = "application/x \"\\/\u{8}\t\n\u{c}\r\u{0}\u{1f}\u{7f}é\u{2028}😀";
    let made = Made::of(&one_image(&plain_layer(1, 100).typed(strange)), How::default());
    let bytes = made.content("barge.json");
    let expected =
        r#""mediaType":"application/x \"\\/\b\t\n\f\r\u0000\u001f"#.to_owned() + "\u{7f}é\u{2028}😀\"";
    assert!(std::str::from_utf8(bytes).unwrap().contains(&expected));
    let golden = [golden::whole(), golden::with_gap(), golden::delta(), golden::patched()];
    let records = golden.map(|made| made.sidecar).into_iter().chain([bytes.to_vec()]);
    for record in records {
        assert!(python_canonical(&record) == record, "{}", String::from_utf8_lossy(&record));
        assert!(!has_null_or_fraction(&serde_json::from_slice(&record).unwrap()));
    }
}

#[test]
fn b_29_the_bundle_id_is_the_digest_of_the_bytes_as_they_stand() {
    let temp = tempfile::tempdir().unwrap();
    let made = golden::whole();
    let id = |bytes: &[u8]| {
        let bundle = Bundle::open(&write(bytes, temp.path(), "a.tar")).unwrap();
        assert_eq!(bundle.fault(), None);
        bundle.id().cloned().unwrap()
    };
    assert_eq!(id(&made.bytes), Digest::sha256(made.content("barge.json")));
    let spaced = serde_json::to_vec_pretty(&made.record).unwrap();
    assert_eq!(id(&with_record(&made, &spaced)), Digest::sha256(&spaced));
    let with_more = with_edited_record(&made, |record| record["surprise"] = true.into());
    assert_ne!(id(&with_more), Digest::sha256(made.content("barge.json")));
}

#[test]
fn b_30_every_field_is_there_also_when_it_is_empty() {
    let made = Made::of(&one_image(&plain_layer(1, 100)), How::default());
    let mut fields: Vec<&str> = made.record.as_object().unwrap().keys().map(String::as_str).collect();
    fields.retain(|field| *field != "dockerManifest");
    let all = ["absent", "blobs", "failed", "formatVersion", "images", "index", "mediaType", "requires"];
    assert_eq!(fields, all);
    for field in ["absent", "failed", "requires"] {
        assert_eq!(made.record[field], serde_json::json!([]), "{field}");
    }
    assert_eq!(made.record["formatVersion"], "1.0");
    assert_eq!(made.record["mediaType"], "application/vnd.barge.bundle.v1+json");
    assert_eq!(made.record["images"][0]["attached"], serde_json::json!([]));
}

#[test]
fn b_35_each_blob_and_each_gap_has_one_row() {
    for made in [golden::whole(), golden::with_gap()] {
        let rows: BTreeMap<String, u64> = made
            .rows()
            .iter()
            .map(|row| {
                let hex = row["digest"].as_str().unwrap().split(':').nth(1).unwrap().to_owned();
                (hex, row["size"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(rows.len(), made.rows().len());
        let in_body = |path: &str| path.starts_with("blobs/") || path.starts_with(".barge-gap/");
        let body: BTreeMap<String, u64> = made
            .entries
            .iter()
            .filter(|entry| in_body(&entry.path))
            .map(|entry| (entry.path.rsplit('/').next().unwrap().to_owned(), entry.size))
            .collect();
        assert_eq!(rows, body);
    }
}

fn reasons(record: &Value) -> BTreeMap<&str, &str> {
    let rows = record["absent"].as_array().unwrap().iter();
    rows.map(|row| (row["digest"].as_str().unwrap(), row["reason"].as_str().unwrap())).collect()
}

#[test]
fn b_38_what_the_manifests_refer_to_is_in_one_of_the_three_tables() {
    for made in [golden::whole(), golden::with_gap(), golden::delta(), golden::patched()] {
        let held: BTreeSet<&str> = made.rows().iter().map(|row| row["digest"].as_str().unwrap()).collect();
        let absent = reasons(&made.record);
        let patches = made.record["patches"].as_array().into_iter().flatten();
        let rebuilt: BTreeSet<&str> = patches.map(|row| row["target"].as_str().unwrap()).collect();
        let mut reached = BTreeSet::new();
        for row in made
            .rows()
            .iter()
            .filter(|row| ["index", "manifest", "unshipped"].contains(&row["role"].as_str().unwrap()))
        {
            let digest: Digest = row["digest"].as_str().unwrap().parse().unwrap();
            let document: Value = serde_json::from_slice(made.content(&digest.blob_path())).unwrap();
            reached.extend(children(&document).into_iter().map(|child| child.digest.to_string()));
        }
        let images = made.record["images"].as_array().unwrap();
        for attached in images.iter().flat_map(|image| image["attached"].as_array().unwrap()) {
            reached.insert(attached["digest"].as_str().unwrap().to_owned());
        }
        for digest in &reached {
            let places = u32::from(held.contains(digest.as_str()))
                + u32::from(absent.contains_key(digest.as_str()))
                + u32::from(rebuilt.contains(digest.as_str()));
            assert_eq!(places, 1, "{digest}");
        }
        assert!(absent.keys().all(|digest| reached.contains(*digest)), "absent and not of the closure");
        let rows = made.record["absent"].as_array().unwrap();
        assert!(rows.is_sorted_by_key(|row| row["digest"].as_str().unwrap()));
    }
}

#[test]
fn b_39_the_first_reason_of_several_is_given() {
    let made = golden::whole();
    let site = site();
    let found = reasons(&made.record);
    let web: Value = serde_json::from_slice(&site.content.blobs[&site.roots[1].1.digest]).unwrap();
    // Not selected, and not there either.
    assert_eq!(found[children(&web)[2].digest.to_string().as_str()], "source");
    let worker: Value = serde_json::from_slice(&site.content.blobs[&site.roots[0].1.digest]).unwrap();
    assert_eq!(found[children(&worker)[3].digest.to_string().as_str()], "foreign");

    // A non-distributable layer of a platform that is not selected, and layers that both platforms share.
    let mut content = Content::new();
    let (shared, own) = (plain_layer(1, 300), plain_layer(2, 300));
    let foreign = plain_layer(3, 300).typed("application/vnd.oci.image.layer.nondistributable.v1.tar");
    let amd64 = content.image("linux/amd64", std::slice::from_ref(&shared));
    let arm64 = content.image("linux/arm64", &[shared.clone(), own.clone(), foreign.clone()]);
    // The one that is not selected comes first.
    let index = content.index(&[arm64, amd64]);
    let name = "registry.example/two:v1".to_owned();
    let roots = vec![(name.clone(), index)];
    let site = Site {
        content,
        roots,
        images: vec![name],
        platforms: vec!["linux/amd64"],
        own_layer: own.digest.clone(),
    };
    let made = Made::of(&site, How::default());
    let found = reasons(&made.record);
    assert_eq!(found[foreign.digest.to_string().as_str()], "foreign");
    assert_eq!(found[own.digest.to_string().as_str()], "platform");
    assert_eq!(made.row(&shared.digest)["role"], "layer");
}

#[test]
fn b_40_images_are_sorted_by_name_and_each_is_there_once() {
    let mut site = site();
    site.images.push(site.images[0].clone());
    let made = Made::of(&site, How { reversed: true, ..How::default() });
    let names: Vec<&Value> =
        made.record["images"].as_array().unwrap().iter().map(|image| &image["name"]).collect();
    assert_eq!(names, ["registry.example/site/web:v1", "registry.example/site/worker:v1"]);
}

#[test]
fn b_41_platforms_are_normal_sorted_and_each_is_there_once() {
    let mut content = Content::new();
    let mut child = |platform: &str, seed| content.image(platform, &[plain_layer(seed, 100)]);
    let mut children = [
        child("linux/arm64/v8", 1),
        child("linux/arm", 2),
        child("windows/amd64", 3),
        child("linux/amd64", 4),
        child("linux/amd64/v3", 5),
        child("linux/amd64", 6),
        child("windows/amd64", 7),
    ];
    for (at, version) in [(2, "10.0.2"), (6, "10.0.1")] {
        children[at].platform.as_mut().unwrap().os_version = Some(version.to_owned());
    }
    let index = content.index(&children);
    let name = "registry.example/all:v1".to_owned();
    let own_layer = index.digest.clone();
    let roots = vec![(name.clone(), index)];
    let site = Site { content, roots, images: vec![name], platforms: Vec::new(), own_layer };
    let made = Made::of(&site, How::default());
    let expected = r#"[{"architecture":"amd64","os":"linux"},{"architecture":"amd64","os":"linux","variant":"v3"},{"architecture":"amd64","os":"windows","os.version":"10.0.1"},{"architecture":"amd64","os":"windows","os.version":"10.0.2"},{"architecture":"arm","os":"linux","variant":"v7"},{"architecture":"arm64","os":"linux"}]"#;
    assert_eq!(made.record["images"][0]["platforms"].to_string(), expected);
}

/// Packs with wishes of the test's own.
fn pack_wishes(site: &Site, wishes: &[Wish]) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let roots: Vec<(&str, Descriptor)> = site.roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    write_layout(&temp.path().join("layout"), &site.content, &roots);
    let source = LayoutDirectory::open(&temp.path().join("layout")).unwrap();
    let path = temp.path().join("a.oci.tar");
    let options = Options {
        wanted: Wanted::default(),
        strict_platforms: false,
        attachments: Attachments::All,
        keep_going: true,
        jobs: 2,
        max_size: None,
        restart: false,
        output: Output::Archive(path.clone()),
    };
    let prepared = Prepared::new(vec![Arc::new(source)], wishes, options);
    prepared
        .unwrap_or_else(|error| panic!("{error}"))
        .write(&Silent)
        .unwrap_or_else(|error| panic!("{error}"));
    Made::new(std::fs::read(path).unwrap(), std::fs::read(temp.path().join("a.barge.json")).unwrap())
}

/// Packs the site's images as parts of something, one of them changed on the way.
pub fn packed_as(site: &Site, parts: &[Part], changed: Vec<Change>) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let roots: Vec<(&str, Descriptor)> = site.roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    write_layout(&temp.path().join("layout"), &site.content, &roots);
    let source = LayoutDirectory::open(&temp.path().join("layout")).unwrap();
    let path = temp.path().join("a.oci.tar");
    let wishes = site.images.iter().flat_map(|name| {
        let asked = wish(name, Some("original.example/it:v0"), name);
        parts.iter().map(move |part| Wish { part: *part, ..asked.clone() })
    });
    let asked =
        Asked { sources: vec![Arc::new(source)], wishes: wishes.collect(), changed, ..Asked::default() };
    let options = super::made::options(&site.platforms, How::default(), Output::Archive(path.clone()));
    Prepared::of(asked, options).unwrap().write(&Silent).unwrap();
    Made::new(std::fs::read(path).unwrap(), std::fs::read(temp.path().join("a.barge.json")).unwrap())
}

/// A bundle of which one image was changed before it was packed.
pub fn changed() -> Made {
    let site = site();
    let row = |image: &str, new: &Digest, old: &str| Change {
        image: image.parse().unwrap(),
        new: new.clone(),
        old: Digest::sha256(old.as_bytes()),
    };
    let (worker, web) = (&site.roots[0], &site.roots[1]);
    let child: Value = serde_json::from_slice(&site.content.blobs[&web.1.digest]).unwrap();
    let child = children(&child)[0].digest.clone();
    let changes = vec![
        row(&web.0, &web.1.digest, "an index"),
        row(&worker.0, &Digest::sha256(b"of another run"), "nothing that travels"),
        row("registry.example/elsewhere:v1", &web.1.digest, "an image that does not travel"),
        row(&web.0, &child, "a child"),
    ];
    packed_as(&site, &[Part::Catalog], changes)
}

#[test]
fn b_103_b_104_digests_that_were_changed_on_purpose_are_listed_and_stay_so_in_a_copy() {
    let made = changed();
    let rows = made.record["digestMap"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let mut old = ["an index", "a child"].map(|text| Digest::sha256(text.as_bytes()).to_string());
    old.sort();
    for (row, old) in rows.iter().zip(old) {
        assert_eq!(
            (row["image"].as_str().unwrap(), &row["old"]),
            ("registry.example/site/web:v1", &old.into())
        );
        assert!(made.rows().iter().any(|blob| blob["digest"] == row["new"]));
    }
    assert!(golden::whole().record.get("digestMap").is_none());
    assert!(python_canonical(&made.sidecar) == made.sidecar);
    let temp = tempfile::tempdir().unwrap();
    made.write(temp.path(), "a.oci.tar");
    for (verb, output) in [("pack", "b.oci.tar"), ("merge", "c.oci.tar")] {
        barge([verb, "./a.oci.tar", "-o", output]).dir(temp.path()).run().success();
        let copy = Bundle::open(&temp.path().join(output)).unwrap();
        assert_eq!(
            serde_json::to_value(&copy.record().unwrap().digest_map).unwrap(),
            made.record["digestMap"]
        );
        assert_eq!(copy.record().unwrap().images[0].part, Part::Catalog);
    }
    // Under another name they are that name's.
    let source = "registry.example/other/site:v9=oci-archive:a.oci.tar:registry.example/site/web:v1";
    barge(["pack", source, "-o", "d.oci.tar"]).dir(temp.path()).run().success();
    let copy = Bundle::open(&temp.path().join("d.oci.tar")).unwrap();
    let mut renamed = made.record["digestMap"].clone();
    for row in renamed.as_array_mut().unwrap() {
        row["image"] = "registry.example/other/site:v9".into();
    }
    assert_eq!(serde_json::to_value(&copy.record().unwrap().digest_map).unwrap(), renamed);
    let told = barge(["inspect", "a.oci.tar"]).dir(temp.path()).run().success();
    told.stdout_has("changed  2 digests on purpose").stdout_has("as        an operator catalog");
    let told = barge(["inspect", "a.oci.tar", "--json"]).dir(temp.path()).run().success().json();
    assert_eq!(told["digestMap"], made.record["digestMap"]);
    assert_eq!(told["images"][0]["part"], "catalog");
}

#[test]
fn b_105_b_106_an_image_says_what_it_is_in_what_was_asked_for() {
    let site = one_image(&plain_layer(1, 100));
    let order = [Part::Image, Part::Chart, Part::Operator, Part::Component, Part::Catalog, Part::Release];
    let words = ["image", "chart", "operator", "component", "catalog", "release"];
    for at in 1..order.len() {
        let made = packed_as(&site, &[order[at], order[at - 1], Part::Image], Vec::new());
        assert_eq!(made.record["images"][0]["part"], words[at]);
        assert!(python_canonical(&made.sidecar) == made.sidecar);
    }
    let made = packed_as(&site, &[Part::Image], Vec::new());
    assert!(made.record["images"][0].get("part").is_none());
    let later = with_edited_record(&made, |record| record["images"][0]["part"] = "voyage".into());
    let temp = tempfile::tempdir().unwrap();
    let bundle = Bundle::open(&write(&later, temp.path(), "later.oci.tar")).unwrap();
    assert_eq!(bundle.record().unwrap().images[0].part, Part::Image);
}

fn wish(name: &str, reference: Option<&str>, selector: &str) -> Wish {
    Wish {
        name: name.parse().unwrap(),
        reference: reference.map(|text| text.parse().unwrap()),
        source: 0,
        selector: selector.to_owned(),
        platforms: Vec::new(),
        part: Part::Image,
    }
}

#[test]
fn b_42_the_reference_has_the_digest_that_it_meant() {
    let site = one_image(&plain_layer(1, 100));
    let (name, root) = (&site.roots[0].0, &site.roots[0].1.digest);
    let wishes = [
        wish("there.example/one:v1", Some("here.example/one:v1"), name),
        wish("there.example/one:v2", None, name),
    ];
    let made = pack_wishes(&site, &wishes);
    let images = &made.record["images"];
    assert_eq!(images[0]["reference"], format!("here.example/one:v1@{root}"));
    assert!(images[1].get("reference").is_none());
    assert_eq!(
        (&images[0]["root"], &images[1]["root"]),
        (&root.to_string().into(), &root.to_string().into())
    );
    // Of what was changed before it travelled, that of what it was made of; in a copy under another name too.
    let made = changed();
    let old = Digest::sha256(b"an index");
    assert_eq!(made.record["images"][0]["reference"], format!("original.example/it:v0@{old}"));
    assert_ne!(made.record["images"][0]["root"], old.to_string());
    let temp = tempfile::tempdir().unwrap();
    made.write(temp.path(), "a.oci.tar");
    let web = "x.example/it:v1=oci-archive:./a.oci.tar:registry.example/site/web:v1";
    barge(["pack", web, "-o", "b.oci.tar"]).dir(temp.path()).run().success();
    let copy = Bundle::open(&temp.path().join("b.oci.tar")).unwrap();
    let reference = copy.record().unwrap().images[0].reference.clone().unwrap();
    assert_eq!(reference.to_string(), format!("original.example/it:v0@{old}"));
}

#[test]
fn b_43_each_name_is_in_one_of_images_and_failed() {
    let site = site_that_lacks_a_layer();
    let asked = [
        "registry.example/site/zero:v1",
        "registry.example/site/worker:v1",
        "registry.example/site/web:v1",
        "registry.example/nowhere:v1",
    ];
    let wishes: Vec<Wish> = asked.iter().map(|name| wish(name, None, name)).collect();
    let made = pack_wishes(&site, &wishes);
    let names = |list: &str| -> Vec<String> {
        let rows = made.record[list].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("images"), ["registry.example/site/web:v1"]);
    let failed =
        ["registry.example/nowhere:v1", "registry.example/site/worker:v1", "registry.example/site/zero:v1"];
    assert_eq!(names("failed"), failed);
    let rows = &made.record["failed"];
    assert!(rows[0].get("root").is_none() && rows[2].get("root").is_none());
    assert_eq!(rows[1]["root"], site.roots[0].1.digest.to_string());
}

#[test]
fn b_74_a_copy_of_a_bundle_keeps_its_references() {
    let site = one_image(&plain_layer(1, 100));
    let name = &site.roots[0].0;
    let made = pack_wishes(&site, &[wish("there.example/one:v1", Some("here.example/one:v1"), name)]);
    let temp = tempfile::tempdir().unwrap();
    made.write(temp.path(), "a.oci.tar");
    barge(["pack", "./a.oci.tar", "-o", "b.oci.tar"]).dir(temp.path()).run().success();
    let copy = Bundle::open(&temp.path().join("b.oci.tar")).unwrap();
    let reference = made.record["images"][0]["reference"].as_str().unwrap();
    assert!(reference.starts_with("here.example/one:v1@sha256:"));
    let kept = copy.record().unwrap().images[0].reference.as_ref().unwrap();
    assert_eq!(kept.to_string(), reference);
}
