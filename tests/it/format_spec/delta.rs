//! Delta bundles: what stands in their records, what other tools see of them, and how they follow each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use barge::base::{FarSide, Joining, Known, Table, load_file};
use barge::bundle::Bundle;
use barge::bundle::chain::Chain;
use barge::bundle::record::Record;
use barge::bundle::verify::Report;
use barge::graph::reliance::{BaseEntry, BaseKind};
use barge::oci::Digest;
use barge::pack::Output;
use serde_json::{Value, json};

use super::build::{archive, body, with_edited_record};
use super::golden;
use super::made::{How, Made, Site, WEB, WORKER, one_image, pack, write};
use super::months::{self, TOOL, delta, february, months, pack_for};
use crate::bundles::{check, kinds};
use crate::support::barge::barge;
use crate::support::images::{Blob, Content, plain_layer};
use crate::support::peers::{RealRegistry, command, run};

fn absent(made: &Made) -> impl Iterator<Item = &Value> {
    made.record["absent"].as_array().unwrap().iter()
}

fn relied_on(made: &Made) -> Vec<&Value> {
    absent(made).filter(|row| row["reason"] == "base").collect()
}

/// A bundle of a site for a far side.
fn made_for(far_side: FarSide, site: &Site) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let path = pack_for(far_side, None, site, Output::Archive(temp.path().join("a.barge")));
    Made::new(std::fs::read(path).unwrap(), std::fs::read(temp.path().join("a.barge.barge.json")).unwrap())
}

/// A base that has this content and nothing else.
fn base_of(held: &[(&Digest, u64)]) -> Known {
    let mut table = Table::default();
    held.iter().for_each(|(digest, size)| table.add(digest, *size, []));
    let entry = BaseEntry { id: Digest::sha256(b"x"), kind: BaseKind::Bundle, name: None, state: None };
    Known { entry, target: None, taken: String::new(), scope: None, images: Vec::new(), table }
}

fn alone(known: Known) -> FarSide {
    FarSide::join(vec![known], None).unwrap()
}

#[test]
fn b_67_manifests_and_empty_content_travel_always() {
    let made = golden::delta();
    assert!(!relied_on(&made).is_empty());
    assert!(relied_on(&made).iter().all(|row| !row["mediaType"].as_str().unwrap().contains("manifest")));
    let roots = made.record["images"].as_array().unwrap().iter().map(|image| &image["root"]);
    for root in roots {
        assert!(made.rows().iter().any(|row| row["digest"] == *root), "{root}");
    }
    // The base has all of this, and only the config can be left out.
    let empty = Blob::new("application/vnd.oci.image.layer.v1.tar", Vec::new());
    let site = one_image(&empty);
    let held: Vec<(&Digest, u64)> =
        site.content.blobs.iter().map(|(digest, bytes)| (digest, bytes.len() as u64)).collect();
    let made = made_for(alone(base_of(&held)), &site);
    assert_eq!((relied_on(&made).len(), made.rows().len()), (1, 2));
    assert_eq!(made.row(&empty.digest)["size"], 0);
}

#[test]
fn b_68_rows_say_where_a_base_saw_what_they_left_out() {
    let made = golden::delta();
    let listed = made.record["base"]["repositories"].as_array().unwrap();
    for row in absent(&made) {
        let Some(places) = row.get("repositories") else {
            assert_ne!(row["reason"], "base");
            continue;
        };
        assert_eq!(row["reason"], "base");
        let places: Vec<u64> = places.as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
        assert!(!places.is_empty() && places.is_sorted_by(|a, b| a < b), "{places:?}");
        assert!(places.iter().all(|at| (*at as usize) < listed.len()));
    }
    let shared = plain_layer(1, 3000).digest.to_string();
    let row = absent(&made).find(|row| row["digest"] == shared.as_str()).unwrap();
    assert_eq!(row["repositories"], json!([0, 1]));
    assert_eq!(*listed, [json!({ "source": WEB }), json!({ "source": WORKER })]);
    // A sidecar does not say which repository has what: it may be in any that its images went to.
    let sidecar = alone(load_file(&golden::folder().join("site.barge.json"), 2).unwrap());
    let made = made_for(sidecar, &february());
    assert!(!relied_on(&made).is_empty() && absent(&made).all(|row| row.get("repositories").is_none()));
    assert_eq!(made.record["base"]["repositories"], json!([{ "source": WEB }, { "source": WORKER }]));
}

#[test]
fn b_69_a_row_that_points_to_no_repository_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let beyond = |record: &mut Value| {
        let rows = record["absent"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["reason"] == "base").unwrap()["repositories"] = json!([0, 2]);
    };
    let bytes = with_edited_record(&golden::delta(), beyond);
    assert!(Bundle::open(&write(&bytes, temp.path(), "a.barge")).is_err());
    let mut record = golden::delta().record;
    assert!(Record::read(record.to_string().as_bytes()).is_ok());
    beyond(&mut record);
    assert!(Record::read(record.to_string().as_bytes()).is_err());
}

#[test]
fn b_70_the_field_base_is_there_exactly_where_something_was_built_on() {
    assert!(golden::whole().record.get("base").is_none());
    assert_eq!(golden::delta().record["base"]["bases"].as_array().unwrap().len(), 1);
    // A base of which nothing could be used is a base all the same.
    let made = made_for(alone(base_of(&[])), &one_image(&plain_layer(1, 100)));
    assert!(relied_on(&made).is_empty() && made.record["base"]["bases"][0]["kind"] == "bundle");
}

#[test]
fn b_71_bases_removed_names_and_repositories_are_sorted() {
    let months = months();
    let whole = golden::whole();
    let both = || vec![months.known(), Known::of_inventory(months::inventory(&whole))];
    let turned = || both().into_iter().rev().collect();
    let join = |bases| FarSide::join(bases, Some(Joining::Union)).unwrap();
    let made = made_for(join(both()), &months::march());
    assert_eq!(made.record, made_for(join(turned()), &months::march()).record);
    let base = &made.record["base"];
    let texts = |list: &str, field: &str| -> Vec<String> {
        let entries = base[list].as_array().unwrap().iter();
        entries.map(|entry| entry.get(field).unwrap_or(entry).as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts("bases", "id").len(), 2);
    assert!(texts("bases", "id").is_sorted_by(|a, b| a < b));
    assert_eq!(texts("removed", ""), [format!("{WEB}:v1"), "site/web:v1".to_owned()]);
    let seen: Vec<String> =
        base["repositories"].as_array().unwrap().iter().map(ToString::to_string).collect();
    // Paths stand before sources.
    assert_eq!(seen[..2], [r#"{"path":"site/web"}"#, r#"{"path":"site/worker"}"#]);
    assert_eq!(seen[2..], [format!(r#"{{"source":"{WEB}"}}"#), format!(r#"{{"source":"{WORKER}"}}"#)]);
}

#[test]
fn b_72_each_kind_of_base_has_its_id_and_name() {
    let months = months();
    let whole = golden::whole();
    let id = Digest::sha256(whole.content("barge.json"));
    let state = Record::read(whole.sidecar.as_slice()).unwrap().state();
    let entry = |kind, id: &Digest, name: Option<&str>, state: Option<&str>| BaseEntry {
        id: id.clone(),
        kind,
        name: name.map(str::to_owned),
        state: state.map(str::to_owned),
    };
    assert_eq!(months.known().entry, entry(BaseKind::Bundle, &id, Some("site.oci.tar"), Some(&state)));
    let sidecar = load_file(&golden::folder().join("site.barge.json"), 2).unwrap();
    assert_eq!(sidecar.entry, months.known().entry);
    let known = |name: &str| load_file(&golden::folder().join(name), 2).unwrap().entry;
    assert_eq!(known("site-delta.barge.barge.json"), known("site-delta.barge"));
    for (name, kind) in
        [("site.inventory.json", BaseKind::Inventory), ("site.receipt.json", BaseKind::Receipt)]
    {
        let document = golden::document(name);
        let id = Digest::sha256(document["content"].to_string().as_bytes());
        let known = load_file(&golden::folder().join(name), 2).unwrap();
        assert_eq!(known.entry, entry(kind, &id, None, document["state"].as_str()));
    }
    let inventory = months::inventory(&whole);
    let id = inventory.content.id();
    assert_eq!((Known::of_registry(inventory).entry.id), id);
    let request = months::request(&whole);
    let id = Digest::sha256(&golden::file("site.request.json"));
    assert_eq!(FarSide::all_but(request).entries, [entry(BaseKind::Request, &id, None, None)]);
    // A layout has no ID of its own: one is made of what its images reach.
    let layout = months.temp.path().join("layout");
    let site = one_image(&plain_layer(1, 100));
    let roots: Vec<(&str, _)> = site.roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    crate::support::archives::write_layout(&layout, &site.content, &roots);
    let mut lines: Vec<String> =
        site.content.blobs.iter().map(|(digest, bytes)| format!("{digest} {}\n", bytes.len())).collect();
    lines.push(format!("{} {}\n", site.roots[0].0, site.roots[0].1.digest));
    lines.sort();
    let id = Digest::sha256(lines.concat().as_bytes());
    let known = load_file(&layout, 2).unwrap();
    assert_eq!(known.entry, entry(BaseKind::Layout, &id, Some("layout"), None));
}

/// Lists what `index.json` names, and how many have no name.
fn importable(made: &Made) -> (BTreeSet<String>, usize) {
    let index = made.json("index.json");
    let entries = index["manifests"].as_array().unwrap();
    let name =
        |entry: &Value| Some(entry.get("annotations")?["org.opencontainers.image.ref.name"].to_string());
    let names: BTreeSet<String> = entries.iter().filter_map(name).collect();
    let nameless = entries.len() - names.len();
    (names, nameless)
}

#[test]
fn b_75_the_index_names_no_image_that_relies_on_the_far_side() {
    let names = BTreeSet::from([json!(format!("{TOOL}:v1")).to_string()]);
    assert_eq!(importable(&golden::delta()), (names, 0));
    // Nor one that does so only by what is attached to it.
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[plain_layer(1, 100)]);
    let sbom = content.artifact(&image, "application/spdx+json", b"{}");
    let repository = "registry.example/one".to_owned();
    let own_layer = plain_layer(1, 100).digest;
    let images = vec![format!("{repository}:v1")];
    let roots = vec![(images[0].clone(), image), (String::new(), sbom.clone())];
    let site = Site { content, roots, images, platforms: Vec::new(), own_layer };
    assert_eq!(importable(&made_for(alone(base_of(&[])), &site)).1, 1);
    let manifest: Value = serde_json::from_slice(&site.content.blobs[&sbom.digest]).unwrap();
    let layer = crate::support::images::children(&manifest).remove(1);
    let made = made_for(alone(base_of(&[(&layer.digest, layer.size)])), &site);
    assert_eq!(relied_on(&made).len(), 1);
    assert_eq!(importable(&made), (BTreeSet::new(), 0));
    let temp = tempfile::tempdir().unwrap();
    let report = check(&made.write(temp.path(), "a.barge")).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    // Nor one of which something is rebuilt.
    assert_eq!(importable(&golden::patched()), (BTreeSet::new(), 0));
}

/// Verifies the golden delta with another index, which the record knows.
fn with_index(made: &Made, edit: impl FnOnce(&mut Vec<Value>)) -> Report {
    let mut index = made.json("index.json");
    edit(index["manifests"].as_array_mut().unwrap());
    let index = index.to_string().into_bytes();
    let mut record = made.record.clone();
    record["index"] = json!(Digest::sha256(&index));
    let record = record.to_string().into_bytes();
    let mut head = vec![
        ("oci-layout", made.content("oci-layout")),
        ("index.json", index.as_slice()),
        ("barge.json", record.as_slice()),
    ];
    if made.record.get("dockerManifest").is_some() {
        head.push(("manifest.json", made.content("manifest.json")));
    }
    let temp = tempfile::tempdir().unwrap();
    check(&write(&archive(&head, body(made), &record), temp.path(), "a.barge")).unwrap()
}

#[test]
fn b_76_a_wrong_index_of_a_delta_is_reported() {
    let made = golden::delta();
    let report = with_index(&made, |_| {});
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.images_whole(), (3, 0));
    let missing = with_index(&made, Vec::clear);
    assert_eq!(kinds(&missing), ["index-unlisted"]);
    let patched = relying_on_nothing(golden::patched());
    for (made, name) in [(made, "v1"), (patched, "v2")] {
        let worker = made.record["images"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(worker["name"], format!("{WORKER}:{name}"));
        let root: Digest = worker["root"].as_str().unwrap().parse().unwrap();
        let row = made.row(&root).clone();
        let listed = with_index(&made, |manifests| {
            let annotations = json!({ "org.opencontainers.image.ref.name": worker["name"] });
            let (media_type, size) = (&row["mediaType"], &row["size"]);
            manifests.push(
                json!({ "annotations": annotations, "digest": root, "mediaType": media_type, "size": size }),
            );
        });
        assert_eq!(kinds(&listed), ["index-unlisted"]);
        assert!(listed.findings[0].detail.contains("the far side has it"), "{:#?}", listed.findings);
    }
}

/// The bundle as if what it relies on were left out because the source does not have it: then only patches keep its image
/// out of the index.
fn relying_on_nothing(mut made: Made) -> Made {
    for row in made.record["absent"].as_array_mut().unwrap() {
        let row = row.as_object_mut().unwrap();
        row.insert("reason".to_owned(), json!("source"));
        row.remove("repositories");
    }
    made
}

/// A change of a record.
type Edit<'a> = &'a dyn Fn(&mut Value);

#[test]
fn b_77_what_a_record_can_not_say_of_its_base_is_reported() {
    let temp = tempfile::tempdir().unwrap();
    let made = golden::delta();
    let empty = |record: &mut Value| {
        record["absent"].as_array_mut().unwrap().iter_mut().find(|row| row["reason"] == "base").unwrap()["size"] =
            json!(0);
    };
    let manifest = |record: &mut Value| {
        let blobs = record["blobs"].as_array_mut().unwrap();
        let at = blobs.iter().position(|row| row["role"] == "manifest").unwrap();
        let row = blobs.remove(at);
        let absent = record["absent"].as_array_mut().unwrap();
        absent.push(json!({
            "digest": row["digest"], "mediaType": row["mediaType"], "reason": "base", "size": row["size"],
        }));
        absent.sort_by_key(|row| row["digest"].to_string());
    };
    let edits: [(Edit<'_>, &str); 6] = [
        (&|record| drop(record.as_object_mut().unwrap().remove("base")), "nothing says what"),
        (&|record| record["base"]["bases"] = json!([]), "does not say what it builds on"),
        (&|record| record["base"]["removed"] = json!(["b", "a"]), "out of order"),
        (&|record| record["absent"][0]["repositories"] = json!([1, 0]), "out of order"),
        (&empty, "no bytes"),
        (&manifest, "manifests always travel"),
    ];
    for (at, (edit, words)) in edits.into_iter().enumerate() {
        let strip = |record: &mut Value| {
            edit(record);
            // Without a base there is nothing that places could point to.
            if record.get("base").is_none() {
                let rows = record["absent"].as_array_mut().unwrap().iter_mut();
                rows.for_each(|row| drop(row.as_object_mut().unwrap().remove("repositories")));
            }
        };
        let path = write(&with_edited_record(&made, strip), temp.path(), "a.barge");
        let report = check(&path).unwrap();
        let found = report.findings.iter().any(|finding| finding.detail.contains(words));
        assert!(found, "edit {at}: {:#?}", report.findings);
    }
}

#[test]
fn b_78_a_delta_that_is_given_a_name_is_called_barge() {
    let temp = tempfile::tempdir().unwrap();
    let far_side = alone(base_of(&[]));
    let site = one_image(&plain_layer(1, 100));
    let path = pack_for(far_side, None, &site, Output::Folder(temp.path().to_owned()));
    let name = path.file_name().unwrap().to_str().unwrap();
    let stem = name.strip_suffix(".barge").expect("its suffix");
    assert!(!stem.ends_with(".oci") && temp.path().join(format!("{name}.barge.json")).is_file());
    pack(&site, How::default(), Output::Folder(temp.path().to_owned())).unwrap();
    let names = std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_str().unwrap().ends_with(".oci.tar")).count(), 1);
}

/// Computes the state code of a record as the text has it.
fn python_state(record: &Value) -> String {
    let script = "import hashlib, json, sys\n\
        def platform(p):\n    \
        text = p['os'] + '/' + p['architecture'] + ('/' + p['variant'] if 'variant' in p else '')\n    \
        return text + (' (' + p['os.version'] + ')' if 'os.version' in p else '')\n\
        lines = {f\"{i['name']} {i['root']} {','.join(sorted(map(platform, i['platforms'])))}\\n\".encode()\n    \
        for i in json.loads(sys.argv[1])}\n\
        bits = int.from_bytes(hashlib.sha256(b''.join(sorted(lines))).digest(), 'big') >> 206\n\
        code = ''.join('0123456789ABCDEFGHJKMNPQRSTVWXYZ'[bits >> 5 * (9 - n) & 31] for n in range(10))\n\
        print(code[:5] + '-' + code[5:])";
    let output = run(command("python3").args(["-c", script, &record["images"].to_string()]));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn b_79_the_state_code_is_made_of_names_roots_and_platforms() {
    for made in [golden::whole(), golden::with_gap(), golden::delta(), golden::patched()] {
        let record = Record::read(made.sidecar.as_slice()).unwrap();
        assert_eq!(record.state(), python_state(&made.record));
    }
    let mut record = golden::whole().record;
    record["images"][0]["platforms"] = json!([
        { "architecture": "arm", "os": "linux", "variant": "v7" },
        { "architecture": "amd64", "os": "windows", "os.version": "10.0.20348.1" },
    ]);
    let read = Record::read(record.to_string().as_bytes()).unwrap();
    assert_eq!(read.state(), python_state(&record));
    assert_eq!(python_state(&json!({ "images": [] })), "WERC8-GMRZG");
}

#[test]
fn b_80_b_81_bundles_follow_each_other_and_the_last_word_on_a_name_counts() {
    let months = months();
    let open = |path: &std::path::PathBuf| Arc::new(Bundle::open(path).unwrap());
    let [jan, feb, mar] = [&months.jan, &months.feb, &months.mar].map(open);
    let ids = |bundles: &[Arc<Bundle>]| -> Vec<Digest> {
        bundles.iter().map(|bundle| bundle.id().unwrap().clone()).collect()
    };
    let right = ids(&[jan.clone(), feb.clone(), mar.clone()]);
    for given in [[&mar, &jan, &feb], [&mar, &feb, &jan], [&feb, &mar, &jan], [&jan, &mar, &feb]] {
        let chain = Chain::of(given.map(Clone::clone).to_vec()).unwrap();
        assert_eq!(ids(&chain.bundles), right);
        // March has another image under the name, and drops all others.
        assert_eq!(chain.images.keys().collect::<Vec<_>>(), [&format!("{WORKER}:v1")]);
        let root = &mar.record().unwrap().images[0].root;
        assert_eq!(chain.images.values().next().unwrap().root, *root);
        let removed: Vec<String> = chain.removed.iter().cloned().collect();
        assert_eq!(removed, [format!("{TOOL}:v1"), format!("{WEB}:v1"), format!("{WEB}:v2")]);
    }
    let chain = Chain::of(vec![feb, jan]).unwrap();
    let names: Vec<&String> = chain.images.keys().collect();
    assert_eq!(names, [&format!("{TOOL}:v1"), &format!("{WEB}:v2"), &format!("{WORKER}:v1")]);
}

#[test]
fn b_82_a_bundle_that_is_followed_and_not_given_is_named() {
    let months = months();
    let open = |path: &std::path::PathBuf| Arc::new(Bundle::open(path).unwrap());
    let chain = Chain::of(vec![open(&months.mar), open(&months.jan)]).unwrap();
    let [unfollowed] = &chain.unfollowed[..] else { panic!("{:?}", chain.unfollowed) };
    assert_eq!(unfollowed.bundle, "mar.barge");
    assert_eq!(unfollowed.base.name.as_deref(), Some("site-delta.barge"));
    assert_eq!(Some(&unfollowed.base.id), open(&months.feb).id());
    let merged =
        barge(["merge", "mar.barge", "-o", "all.oci.tar", "site.oci.tar"]).dir(months.temp.path()).run();
    assert_ne!(merged.code, 0, "{merged}");
    assert!(merged.stderr.contains("site-delta.barge"), "{merged}");
    assert!(merged.stderr.contains(&unfollowed.base.id.short()), "{merged}");
}

/// An image for linux/amd64 under a tag of one repository.
pub fn tagged(tag: &str, layers: &[Blob]) -> Site {
    let mut content = Content::new();
    let image = content.image("linux/amd64", layers);
    let name = format!("registry.example/team/app:{tag}");
    let own_layer = layers[0].digest.clone();
    Site { content, roots: vec![(name.clone(), image)], images: vec![name], platforms: Vec::new(), own_layer }
}

#[test]
fn b_73_b_83_b_84_a_push_believes_no_base_and_deletes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (shared, own) = (plain_layer(1, 3000), plain_layer(2, 500));
    let jan = temp.path().join("jan.oci.tar");
    pack(&tagged("v1", std::slice::from_ref(&shared)), How::default(), Output::Archive(jan.clone())).unwrap();
    let feb = tagged("v2", &[shared.clone(), own.clone()]);
    let feb = delta(&jan, &feb, temp.path().join("feb.barge"));
    let record = Bundle::open(&feb).unwrap().record().unwrap().clone();
    assert_eq!(record.base.unwrap().removed, ["registry.example/team/app:v1"]);

    let push = |file: &str, host: &str| barge(["push", file, host]).dir(temp.path()).run();
    let stored = |registry: &RealRegistry| -> usize {
        let entries = walkdir::WalkDir::new(registry.storage()).into_iter().map(Result::unwrap);
        entries.filter(|entry| entry.file_type().is_file()).count()
    };
    let other = RealRegistry::start();
    let failed = push("feb.barge", other.host());
    assert_ne!(failed.code, 0, "{failed}");
    assert_eq!(stored(&other), 0, "something was written");

    let site = RealRegistry::start();
    push("jan.oci.tar", site.host()).success();
    push("feb.barge", site.host()).success();
    assert_eq!(site.client().tags("team/app"), ["v1", "v2"]);
    // Tags, links and all stay, and the registry says that it has what it lost.
    site.delete_blob_data(&shared.digest);
    let lost = delta(&jan, &tagged("v3", &[shared, plain_layer(3, 400)]), temp.path().join("mar.barge"));
    let before = stored(&site);
    let failed = push(lost.file_name().unwrap().to_str().unwrap(), site.host());
    assert_ne!(failed.code, 0, "{failed}");
    assert_eq!((stored(&site), site.client().tags("team/app").len()), (before, 2));
}

#[test]
fn a_delta_of_the_golden_site_is_whole() {
    let report = check(&golden::folder().join("site-delta.barge")).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.bases.len(), 1);
    assert_eq!(
        report.counts.absent[&barge::select::Reason::Base].count as usize,
        relied_on(&golden::delta()).len()
    );
}
