//! §3 to §7 and §9 to §13: where things lie in a bundle, what stands beside it, and what writers owe.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use barge::bundle::Bundle;
use barge::oci::Digest;
use barge::pack::Output;
use barge::store::Source;
use barge::store::layout::LayoutDirectory;
use serde_json::{Value, json};

use super::build::trailer;
use super::golden;
use super::made::{How, Made, Site, WEB, WORKER, one_image, pack, pack_from, site};
use super::walk::BLOCK;
use crate::support::archives::write_layout;
use crate::support::containerd::Containerd;
use crate::support::images::{Content, children, plain_layer};
use crate::support::peers::skopeo;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image for two platforms, both of which travel.
fn two_platforms() -> Site {
    let mut content = Content::new();
    let amd64 = content.image("linux/amd64", &[plain_layer(1, 500)]);
    let arm64 = content.image("linux/arm64", &[plain_layer(2, 500)]);
    let index = content.index(&[amd64, arm64]);
    let name = "registry.example/two:v1".to_owned();
    let own_layer = plain_layer(1, 500).digest;
    Site { content, roots: vec![(name.clone(), index)], images: vec![name], platforms: Vec::new(), own_layer }
}

fn head_paths(made: &Made) -> Vec<&str> {
    let length = made.head_length();
    made.entries.iter().filter(|entry| entry.start < length).map(|entry| entry.path.as_str()).collect()
}

#[test]
fn b_8_the_head_has_its_entries_in_order() {
    assert_eq!(head_paths(&golden::whole()), ["oci-layout", "index.json", "barge.json", "manifest.json"]);
    assert_eq!(
        head_paths(&golden::with_gap()),
        ["oci-layout", "index.json", "barge.json", "manifest.json", ".barge-pad"]
    );
    let made = Made::of(&two_platforms(), How::default());
    assert_eq!(head_paths(&made), ["oci-layout", "index.json", "barge.json"]);
}

#[test]
fn b_9_oci_layout_has_exactly_its_30_bytes() {
    let made = golden::whole();
    let content = made.content("oci-layout");
    assert_eq!((content.len(), content), (30, br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice()));
}

#[test]
fn b_12_offsets_count_from_the_end_of_the_head() {
    for made in [golden::whole(), golden::with_gap()] {
        let head = made.head_length();
        assert_eq!(made.rows()[0]["offset"], BLOCK, "the first blob's header is the only thing before it");
        for row in made.rows().iter().filter(|row| row["role"] != "gap") {
            let start = (head + row["offset"].as_u64().unwrap()) as usize;
            let content = &made.bytes[start..start + row["size"].as_u64().unwrap() as usize];
            assert_eq!(Digest::sha256(content).to_string(), row["digest"].as_str().unwrap());
        }
    }
}

#[test]
fn b_13_a_pad_of_zeros_keeps_the_blobs_in_their_places() {
    let (whole, gap) = (golden::whole(), golden::with_gap());
    assert_eq!(gap.head_length(), whole.head_length());
    let pad = gap.entry(".barge-pad");
    assert_eq!(pad.end(), gap.head_length());
    assert!(pad.content(&gap.bytes).iter().all(|byte| *byte == 0));
    for (row, moved) in whole.rows().iter().zip(gap.rows()) {
        assert_eq!((&row["digest"], &row["offset"]), (&moved["digest"], &moved["offset"]));
    }

    // A head that loses more than a block: many images lack the same layer.
    let mut site = one_image(&plain_layer(3, 900));
    let root = site.roots[0].1.clone();
    for number in 0..20 {
        let name = format!("registry.example/many:v{number}");
        site.images.push(name.clone());
        site.roots.push((name, root.clone()));
    }
    let mut content = Content::new();
    let other = content.image("linux/amd64", &[plain_layer(4, 900)]);
    site.content.blobs.extend(content.blobs);
    site.content.manifests.extend(content.manifests);
    site.roots.push(("registry.example/other:v1".to_owned(), other));
    site.images.push("registry.example/other:v1".to_owned());
    let whole = Made::of(&site, How::default());
    site.content.blobs.remove(&site.own_layer);
    let gap = Made::of(&site, How { keep_going: true, ..How::default() });
    let pad = gap.entry(".barge-pad");
    assert!(pad.size > 0 && pad.content(&gap.bytes).iter().all(|byte| *byte == 0), "{}", pad.size);
    assert_eq!(gap.head_length(), whole.head_length());
}

#[test]
fn b_14_the_body_is_the_blobs_of_the_table_in_its_order() {
    for made in [golden::whole(), golden::with_gap()] {
        let expected = made.rows().iter().map(|row| {
            let hex = row["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let folder = if row["role"] == "gap" { ".barge-gap" } else { "blobs/sha256" };
            (format!("{folder}/{hex}"), row["size"].as_u64().unwrap())
        });
        let head = head_paths(&made).len();
        let body = &made.entries[head..made.entries.len() - 1];
        let found: Vec<(String, u64)> = body.iter().map(|entry| (entry.path.clone(), entry.size)).collect();
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

/// The section of a row by its media type.
fn section(row: &Value) -> u8 {
    let media_type = row["mediaType"].as_str().unwrap();
    match media_type {
        _ if media_type.contains(".manifest.") || media_type.contains(".index.") => 0,
        _ if media_type.contains(".config.") || media_type.contains(".empty.") => 1,
        _ => 2,
    }
}

#[test]
fn b_15_manifests_come_first_then_configs_then_the_rest() {
    for made in [golden::whole(), golden::with_gap()] {
        let sections: Vec<u8> = made.rows().iter().map(section).collect();
        assert!(sections.is_sorted(), "{sections:?}");
        assert_eq!(sections.iter().collect::<BTreeSet<_>>().len(), 3);
    }
}

/// What the walk of the text meets below a manifest, in order.
fn meet(content: &Content, digest: &Digest, met: &mut Vec<Digest>) {
    if met.contains(digest) {
        return;
    }
    met.push(digest.clone());
    if content.manifests.contains_key(digest)
        && let Some(bytes) = content.blobs.get(digest)
    {
        for child in children(&serde_json::from_slice(bytes).unwrap()) {
            meet(content, &child.digest, met);
        }
    }
}

#[test]
fn b_16_blobs_stand_in_the_order_in_which_a_depth_first_walk_meets_them() {
    let site = site();
    let [(_, worker), (_, web), (_, signature), (_, sbom)] = &site.roots[..] else { panic!() };
    let mut met = Vec::new();
    // `…/web:v1` sorts before `…/worker:v1`; the index is met before the amd64 manifest, and so are their attachments.
    for root in [web, signature, sbom, worker] {
        meet(&site.content, &root.digest, &mut met);
    }
    let made = golden::whole();
    let place =
        |row: &Value| met.iter().position(|digest| row["digest"] == digest.to_string().as_str()).unwrap();
    let places: Vec<(u8, usize)> = made.rows().iter().map(|row| (section(row), place(row))).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn b_17_a_gap_keeps_the_place_of_a_blob() {
    let (whole, gap) = (golden::whole(), golden::with_gap());
    let missing = &site().own_layer;
    assert_eq!(gap.row(missing)["role"], "gap");
    let entry = gap.entry(&format!(".barge-gap/{}", missing.hex()));
    let blob = whole.entry(&missing.blob_path());
    assert_eq!((entry.start, entry.data, entry.size), (blob.start, blob.data, blob.size));
    assert_eq!(gap.rows().iter().filter(|row| row["role"] == "gap").count(), 1);
    assert!(gap.entries.iter().all(|entry| entry.path != missing.blob_path()));
}

#[test]
fn b_18_images_with_a_gap_are_failed_and_stand_nowhere_else() {
    let gap = golden::with_gap();
    let worker = format!("{WORKER}:v1");
    assert_eq!(gap.record["failed"][0]["name"], worker.as_str());
    assert_eq!(gap.record["failed"].as_array().unwrap().len(), 1);
    assert!(!gap.record["images"].to_string().contains(&worker));
    for file in ["index.json", "manifest.json"] {
        let text = String::from_utf8(gap.content(file).to_vec()).unwrap();
        assert!(text.contains(WEB) && !text.contains(WORKER), "{file}");
    }
    let whole = golden::whole();
    assert!(whole.record["failed"].as_array().unwrap().is_empty());
}

#[test]
fn b_20_the_trailer_has_exactly_its_512_bytes() {
    for made in [golden::whole(), golden::with_gap()] {
        let record = made.content("barge.json");
        assert_eq!(made.content(".barge-trailer"), trailer(record, made.bytes.len() as u64));
        assert_eq!(made.entries.last().unwrap().path, ".barge-trailer");
    }
}

#[test]
fn b_25_the_sidecar_has_the_bytes_of_the_record() {
    for made in [golden::whole(), golden::with_gap()] {
        assert_eq!(made.sidecar, made.content("barge.json"));
    }
}

#[test]
fn b_26_the_sidecar_is_named_after_the_archive() {
    let site = one_image(&plain_layer(1, 100));
    for (archive, sidecar) in [
        ("a.oci.tar", "a.barge.json"),
        ("b.tar", "b.barge.json"),
        ("c.barge", "c.barge.barge.json"),
        ("d.tar.tar", "d.tar.barge.json"),
        ("e.img", "e.img.barge.json"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        pack(&site, How::default(), Output::Archive(temp.path().join(archive)))
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(names(temp.path()), BTreeSet::from([archive.to_owned(), sidecar.to_owned()]));
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn b_27_an_unfinished_archive_does_not_have_the_final_name() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.oci.tar");
    let outcome = pack(&super::made::site_that_lacks_a_layer(), How::default(), Output::Archive(path));
    assert!(outcome.is_err());
    let names = names(temp.path());
    assert!(!names.contains("a.oci.tar") && !names.contains("a.barge.json"), "{names:?}");
    let partial = Bundle::open(&temp.path().join("a.oci.tar.partial")).unwrap();
    assert!(partial.record().is_some() && partial.fault().is_some());
}

/// The name of a descriptor in `index.json`.
fn name(descriptor: &Value) -> Option<&str> {
    descriptor["annotations"][REF_NAME].as_str()
}

#[test]
fn b_44_index_json_lists_the_names_in_order_and_then_the_nameless() {
    let site = site();
    let index = golden::whole().json("index.json");
    let manifests = index["manifests"].as_array().unwrap();
    let named: Vec<&str> = manifests.iter().filter_map(name).collect();
    let mut expected: Vec<&str> =
        site.roots.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty()).collect();
    expected.sort_unstable();
    assert_eq!(named, expected);
    assert_eq!(manifests.len(), named.len() + 1);
    let sbom = &site.roots[3].1;
    assert_eq!(manifests[3]["digest"], sbom.digest.to_string().as_str());
    for (name, root) in &site.roots {
        let found = manifests.iter().find(|entry| self::name(entry).unwrap_or_default() == name).unwrap();
        assert_eq!(found["digest"], root.digest.to_string().as_str());
        assert_eq!(found["mediaType"], root.media_type.as_str());
        assert_eq!(found["size"], root.size);
    }
}

#[test]
fn b_45_tools_find_images_by_ref_name() {
    let index = golden::whole().json("index.json");
    let names: Vec<Option<&str>> = index["manifests"].as_array().unwrap().iter().map(name).collect();
    assert_eq!(names.iter().flatten().count(), 3);
    let path = golden::folder().join("site.oci.tar");
    let site = site();
    for name in &site.images {
        let raw = skopeo(["inspect", "--raw", &format!("oci-archive:{}:{name}", path.display())]);
        let root = &site.roots.iter().find(|(other, _)| other == name).unwrap().1;
        assert!(root.digest.matches(raw.as_bytes()), "{name}");
    }
}

#[test]
fn b_46_only_images_that_can_be_started_have_containerds_name() {
    let index = golden::whole().json("index.json");
    let with_name: BTreeMap<&str, &str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| Some((name(entry)?, entry["annotations"][CONTAINERD_NAME].as_str()?)))
        .collect();
    let (web, worker) = (format!("{WEB}:v1"), format!("{WORKER}:v1"));
    assert_eq!(with_name, BTreeMap::from([(web.as_str(), web.as_str()), (&worker, &worker)]));

    // An artifact that is asked for by name is named, and not for containerd.
    let mut content = Content::new();
    let empty = content.image("linux/amd64", &[]);
    let artifact = content.artifact(&empty, "application/vnd.example", b"data");
    let name = "registry.example/artifact:v1".to_owned();
    let own_layer = artifact.digest.clone();
    let roots = vec![(name.clone(), artifact)];
    let site = Site { content, roots, images: vec![name.clone()], platforms: Vec::new(), own_layer };
    let index = Made::of(&site, How::default()).json("index.json");
    assert_eq!(index["manifests"][0]["annotations"], json!({ REF_NAME: name }));
}

#[test]
fn b_46_containerd_imports_the_images_under_their_names() {
    let daemon = Containerd::start();
    let site = one_image(&plain_layer(1, 1000));
    let temp = tempfile::tempdir().unwrap();
    let path = Made::of(&site, How::default()).write(temp.path(), "a.oci.tar");
    daemon.ctr(["images", "import", "--platform", "linux/amd64", path.to_str().unwrap()]);
    let list = daemon.ctr(["images", "list", "--quiet"]);
    assert_eq!(list.lines().collect::<Vec<_>>(), ["registry.example/one:v1"]);
}

#[test]
fn b_47_referrers_without_a_tag_have_no_annotation() {
    let index = golden::whole().json("index.json");
    let sbom = index["manifests"].as_array().unwrap().last().unwrap();
    let fields: Vec<&String> = sbom.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["digest", "mediaType", "size"]);
}

#[test]
fn b_48_index_json_is_canonical() {
    let site = site();
    let mut named: Vec<_> = site.roots.iter().filter(|(name, _)| !name.is_empty()).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected: Vec<String> = named
        .iter()
        .map(|(name, root)| {
            let containerd = if name.ends_with(":v1") {
                format!(r#""{CONTAINERD_NAME}":"{name}","#)
            } else {
                String::new()
            };
            let (digest, media_type, bytes) = (&root.digest, &root.media_type, root.size);
            format!(
                r#"{{"annotations":{{{containerd}"{REF_NAME}":"{name}"}},"digest":"{digest}","mediaType":"{media_type}","size":{bytes}}}"#
            )
        })
        .collect();
    let sbom = &site.roots[3].1;
    expected.push(format!(
        r#"{{"digest":"{}","mediaType":"{}","size":{}}}"#,
        sbom.digest, sbom.media_type, sbom.size
    ));
    let expected = format!(
        r#"{{"manifests":[{}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}}"#,
        expected.join(",")
    );
    let made = golden::whole();
    assert_eq!(String::from_utf8_lossy(made.content("index.json")), expected);
}

#[test]
fn b_49_the_record_has_the_digests_of_index_json_and_manifest_json() {
    for made in [golden::whole(), golden::with_gap()] {
        let digest = |path| Digest::sha256(made.content(path)).to_string();
        assert_eq!(made.record["index"], digest("index.json").as_str());
        assert_eq!(made.record["dockerManifest"], digest("manifest.json").as_str());
    }
    let made = Made::of(&two_platforms(), How::default());
    assert!(made.record.get("dockerManifest").is_none());
}

#[test]
fn b_51_manifest_json_lists_images_that_docker_load_can_take() {
    // `worker` lacks its non-distributable layer; `web` has one platform of its three.
    let manifest = golden::whole().json("manifest.json");
    let tags: Vec<&Value> = manifest.as_array().unwrap().iter().map(|entry| &entry["RepoTags"]).collect();
    assert_eq!(tags, [&json!([format!("{WEB}:v1")])]);
    // Two platforms of one name are none that it can take; one of them is.
    let mut site = two_platforms();
    assert!(Made::of(&site, How::default()).entries.iter().all(|entry| entry.path != "manifest.json"));
    site.platforms = vec!["linux/arm64"];
    assert!(Made::of(&site, How::default()).entries.iter().any(|entry| entry.path == "manifest.json"));
    // Nor can it take an image without a tag.
    let site = one_image(&plain_layer(1, 100));
    let name = format!("registry.example/one@{}", site.roots[0].1.digest);
    let site = Site { images: vec![name.clone()], roots: vec![(name, site.roots[0].1.clone())], ..site };
    assert!(Made::of(&site, How::default()).entries.iter().all(|entry| entry.path != "manifest.json"));
}

#[test]
fn b_52_manifest_json_is_canonical_and_points_to_the_blobs() {
    let mut site = site();
    site.images.push(format!("{WEB}:v2"));
    let root = site.roots[1].1.clone();
    site.roots.push((format!("{WEB}:v2"), root));
    let made = Made::of(&site, How::default());
    let amd64 = &children(&serde_json::from_slice(&site.content.blobs[&site.roots[1].1.digest]).unwrap())[0];
    let parts = children(&serde_json::from_slice(&site.content.blobs[&amd64.digest]).unwrap());
    let paths: Vec<String> = parts.iter().map(|part| part.digest.blob_path()).collect();
    let expected = format!(
        r#"[{{"Config":"{}","Layers":["{}","{}"],"RepoTags":["{WEB}:v1","{WEB}:v2"]}}]"#,
        paths[0], paths[1], paths[2]
    );
    assert_eq!(String::from_utf8_lossy(made.content("manifest.json")), expected);
}

#[test]
fn b_53_a_layout_directory_has_the_same_record() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("site");
    pack(&site(), How::default(), Output::Layout(folder.clone())).unwrap_or_else(|error| panic!("{error}"));
    let whole = golden::whole();
    for file in ["oci-layout", "index.json", "barge.json", "manifest.json"] {
        assert_eq!(std::fs::read(folder.join(file)).unwrap(), whole.content(file), "{file}");
    }
    let files = walkdir::WalkDir::new(&folder).into_iter().map(Result::unwrap);
    let found: HashSet<String> = files
        .filter(|file| file.file_type().is_file())
        .map(|file| file.path().strip_prefix(&folder).unwrap().to_str().unwrap().to_owned())
        .collect();
    let expected = whole.entries.iter().map(|entry| entry.path.clone());
    assert_eq!(found, expected.filter(|path| path != ".barge-trailer").collect());
    assert_eq!(names(temp.path()), BTreeSet::from(["site".to_owned()]));
}

#[test]
fn b_57_neither_order_nor_workers_nor_place_change_a_byte() {
    let whole = golden::whole().bytes;
    for jobs in [1, 8] {
        for reversed in [false, true] {
            let made = Made::of(&site(), How { jobs, reversed, ..How::default() });
            assert!(made.bytes == whole, "{jobs} jobs, reversed: {reversed}");
        }
    }
}

#[test]
fn b_57_an_interruption_or_a_gap_that_is_filled_changes_no_byte() {
    for keep_going in [false, true] {
        let site = site();
        let temp = tempfile::tempdir().unwrap();
        let layout = temp.path().join("layout");
        let roots: Vec<_> = site.roots.iter().map(|(name, root)| (name.as_str(), root.clone())).collect();
        write_layout(&layout, &site.content, &roots);
        let blob = layout.join(site.own_layer.blob_path());
        let output = temp.path().join("site.oci.tar");
        let run = || {
            let source: Arc<dyn Source> = Arc::new(LayoutDirectory::open(&layout).unwrap());
            let how = How { keep_going, ..How::default() };
            pack_from(source, &site.images, &site.platforms, how, Output::Archive(output.clone()))
        };
        std::fs::remove_file(&blob).unwrap();
        assert_eq!(run().is_ok(), keep_going);
        std::fs::write(&blob, &site.content.blobs[&site.own_layer]).unwrap();
        run().unwrap_or_else(|error| panic!("{error}"));
        assert!(std::fs::read(&output).unwrap() == golden::whole().bytes, "keep going: {keep_going}");
        assert_eq!(std::fs::read(temp.path().join("site.barge.json")).unwrap(), golden::whole().sidecar);
    }
}

#[test]
fn b_51_an_attestation_is_no_second_image() {
    let mut content = Content::new();
    let amd64 = content.image("linux/amd64", &[plain_layer(1, 500)]);
    let attestation = content.attestation(&amd64);
    let index = content.index(&[amd64, attestation]);
    let name = "registry.example/built:v1".to_owned();
    let own_layer = plain_layer(1, 500).digest;
    let roots = vec![(name.clone(), index)];
    let site = Site { content, roots, images: vec![name], platforms: vec!["linux/amd64"], own_layer };
    let made = Made::of(&site, How::default());
    assert_eq!(made.json("manifest.json").as_array().unwrap().len(), 1);
}
