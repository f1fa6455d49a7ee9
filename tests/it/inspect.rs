//! Inspection, by library and by command line, and the command line of verification.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use barge::bundle::Bundle;
use barge::bundle::inspect::{Node, Presence, summarize, tree};
use barge::bundle::patches::PatchTable;
use barge::bundle::record::{RECORD_PATH, RECORD_TYPE, Record};
use barge::bundle::table::{AbsentTable, BlobRow, BlobTable, Role};
use barge::bundle::trailer::{TRAILER_PATH, TRAILER_SIZE, Trailer};
use barge::oci::Digest;
use barge::select::Reason;
use barge::store::archive::{END_OF_ARCHIVE, entry_length, header, header_length};

use crate::bundles::{NAMES, Packed, entry, packed, write_demo_layout};
use crate::support::barge::{Outcome, barge};
use crate::support::peers::skopeo;

fn run(packed: &Packed, args: &[&str]) -> Outcome {
    barge(args).dir(packed.temp.path()).run()
}

fn lines(node: &Node, depth: usize, out: &mut Vec<String>) {
    out.push(format!("{}{} {:?}", " ".repeat(depth), node.kind, node.presence));
    for child in &node.children {
        lines(child, depth + 1, out);
    }
}

#[test]
fn a_tree_shows_what_is_there_and_what_is_left_out() {
    let packed = packed();
    let bundle = packed.bundle();
    let summary = summarize(&bundle).unwrap();
    assert_eq!(summary.images.len(), 2);
    assert_eq!(summary.absent[&Reason::Platform].count, 2);
    assert_eq!(summary.unshipped.count, 1);
    let root = tree(&bundle, &summary.images[0]);
    let mut shown = Vec::new();
    lines(&root, 0, &mut shown);
    assert_eq!(
        shown,
        [
            "image Held",
            " manifest Held",
            "  config Held",
            "  layer Held",
            "  layer Held",
            " manifest Unshipped",
            "  config Absent(Platform)",
            "  layer Held",
            "  layer Absent(Platform)",
            " attached Held",
            "  config Held",
            "  layer Held",
        ]
    );
    assert_eq!(root.platforms_left_out(), ["linux/arm64".parse().unwrap()]);
    let attached = &root.children[2];
    assert!(
        attached.tag.as_ref().unwrap().strip_suffix(".sig").is_some()
            && attached.digest == packed.demo.signature.digest
    );
    assert_eq!(root.children[1].presence, Presence::Unshipped);
}

#[test]
fn inspect_lists_images_and_the_commands_of_other_tools() {
    let packed = packed();
    let outcome = run(&packed, &["inspect", "site.oci.tar"]).success();
    let id = packed.bundle().id().unwrap().to_string();
    let outcome = outcome
        .stdout_has("DONE: site.oci.tar is a complete bundle")
        .stdout_has(&id)
        .stdout_has("2 blobs")
        .stdout_has("ctr images import --platform linux/amd64 site.oci.tar")
        .stdout_has("docker load -i site.oci.tar")
        .stdout_has("next: barge verify site.oci.tar");
    for name in NAMES {
        assert!(outcome.stdout.contains(name));
    }
    assert!(outcome.stdout.starts_with("DONE: "));
    // The command is what it says it is.
    let command = outcome.stdout.lines().find(|line| line.trim().starts_with("skopeo")).unwrap();
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let archive = format!("oci-archive:{}:{}", packed.path.display(), NAMES[0]);
    let target = format!("oci:{}:x", packed.temp.path().join("copied").display());
    let copied: Vec<&str> = words
        .iter()
        .map(|word| match *word {
            word if word.starts_with("oci-archive:") => archive.as_str(),
            word if word.starts_with("docker://") => target.as_str(),
            word => word,
        })
        .collect();
    skopeo(copied);
}

#[test]
fn inspect_shows_one_image_or_the_tree_or_a_document() {
    let packed = packed();
    let outcome = run(&packed, &["inspect", "site.oci.tar", "--image", NAMES[0], "--tree"]).success();
    let outcome = outcome
        .stdout_has("left out  linux/arm64")
        .stdout_has("[kept, not pushed: its platform was not selected]")
        .stdout_has("[left out: platforms that were not selected]")
        .stdout_has("by tag sha256-");
    assert!(!outcome.stdout.contains(NAMES[1]));
    let outcome = run(&packed, &["inspect", "site.oci.tar", "--json"]).success();
    let document = outcome.json();
    assert_eq!(document["command"], "inspect");
    assert_eq!(document["outcome"], "DONE");
    assert_eq!(document["images"][0]["name"], NAMES[0]);
    assert_eq!(document["images"][0]["platforms"][0]["architecture"], "amd64");
    assert_eq!(document["absent"]["platform"]["count"], 2);
    run(&packed, &["inspect", "site.oci.tar", "--image", "other:v1"]).code(3).stderr_has(NAMES[0]);
}

#[test]
fn inspect_says_of_a_cut_file_that_it_is_not_complete() {
    let packed = packed();
    fs::write(&packed.path, &packed.bytes[..packed.bytes.len() - 3000]).unwrap();
    run(&packed, &["inspect", "site.oci.tar"])
        .code(1)
        .stdout_has("PARTIAL: site.oci.tar is a bundle that is not complete")
        .stdout_has("cut off");
    fs::write(&packed.path, b"no bundle").unwrap();
    run(&packed, &["inspect", "site.oci.tar"]).code(3).stderr_has("next: barge verify");
}

#[test]
fn inspect_lists_a_layout_of_another_tool() {
    let packed = packed();
    write_demo_layout(packed.temp.path(), &packed.demo);
    let outcome = run(&packed, &["inspect", "./layout", "--tree"]).success();
    outcome
        .stdout_has("an OCI layout of another tool")
        .stdout_has(NAMES[1])
        .stdout_has("skopeo copy --all oci:./layout:");
}

/// Writes a bundle of `count` blobs and a terabyte, all holes.
fn write_huge(path: &Path, count: u64) {
    let each = (1_u64 << 40) / count;
    let mut at = 0;
    let rows: Vec<BlobRow> = (0..count)
        .map(|seed| {
            let digest = Digest::sha256(&seed.to_le_bytes());
            let name = digest.blob_path();
            let offset = at + header_length(&name, each);
            at += entry_length(&name, each);
            let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
            BlobRow { digest, media_type, offset, role: Role::Layer, size: each }
        })
        .collect();
    let index =
        br#"{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#;
    let record = Record {
        base: None,
        absent: AbsentTable::default(),
        blobs: BlobTable::new(rows).unwrap(),
        digest_map: Vec::new(),
        docker_manifest: None,
        failed: Vec::new(),
        format_version: "1.0".to_owned(),
        images: Vec::new(),
        index: Digest::sha256(index),
        media_type: RECORD_TYPE.to_owned(),
        patches: PatchTable::default(),
        requires: Vec::new(),
    };
    let mut record_bytes = Vec::new();
    record.write(&mut record_bytes).unwrap();
    let mut head = Vec::new();
    entry(&mut head, "oci-layout", &barge::bundle::head::layout_file());
    entry(&mut head, "index.json", index);
    entry(&mut head, RECORD_PATH, &record_bytes);
    let length = head.len() as u64 + at + entry_length(TRAILER_PATH, TRAILER_SIZE) + END_OF_ARCHIVE;
    let (id, size) = record.id();
    let trailer = Trailer { record: id, record_size: size, length, volume: 1, volumes: 1 };
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(length).unwrap();
    file.seek(SeekFrom::Start(head.len() as u64 + at)).unwrap();
    file.write_all(&header(TRAILER_PATH, TRAILER_SIZE)).unwrap();
    file.write_all(&trailer.to_bytes()).unwrap();
    let mut first = [0; 10];
    fs::File::open(path).unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"oci-layout");
}

#[test]
fn a_terabyte_in_a_hundred_thousand_blobs_opens_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("huge.oci.tar");
    write_huge(&path, 100_000);
    let began = std::time::Instant::now();
    let summary = summarize(&Bundle::open(&path).unwrap()).unwrap();
    assert_eq!(summary.held.unwrap().count, 100_000);
    assert!(summary.fault.is_none() && summary.length.unwrap() > 1 << 40);
    // A scan over the headers alone would take that many reads; the bound is loose for busy machines.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn verify_says_done_and_what_to_type_next() {
    let packed = packed();
    let outcome = run(&packed, &["verify", "site.oci.tar"]).success();
    assert!(outcome.stdout.starts_with("DONE: site.oci.tar is whole: 2 images\n"), "{outcome}");
    assert!(outcome.stdout.ends_with("next: barge push site.oci.tar REGISTRY\n"), "{outcome}");
    let document =
        run(&packed, &["verify", "site.oci.tar", "--json", "--cached", "--jobs", "1"]).success().json();
    assert_eq!(document["outcome"], "DONE");
    assert_eq!(document["files"][0]["findings"], serde_json::json!([]));
    let outcome = run(&packed, &["verify", "site.oci.tar", "--request", "resend.json"]).success();
    outcome.stderr_has("no request was written");
    assert!(!packed.temp.path().join("resend.json").exists());
}

#[test]
fn verify_tells_what_damage_costs_and_writes_a_request() {
    let packed = packed();
    let mut bytes = packed.bytes.clone();
    let own = packed.demo.content.closure(&packed.demo.roots[1].1)[2].digest.clone();
    bytes[packed.offset(&own) as usize] ^= 1;
    fs::write(packed.temp.path().join("bad.oci.tar"), &bytes).unwrap();
    let outcome = run(&packed, &["verify", "bad.oci.tar"]).code(1);
    assert!(
        outcome.stdout.starts_with("PARTIAL: bad.oci.tar is not as it was sent: 1 of 2 images whole"),
        "{outcome}"
    );
    outcome
        .stdout_has("blob-damaged: 1 finding, concerns 1 image")
        .stdout_has(&own.to_string())
        .stdout_has(&format!("needed by {} (linux/amd64)", NAMES[1]))
        .stdout_has("next: barge verify bad.oci.tar --request resend.json");
    let outcome = run(&packed, &["verify", "bad.oci.tar", "--request", "resend.json"]).code(1);
    outcome.stdout_has("next: carry resend.json back");
    let request: serde_json::Value =
        serde_json::from_slice(&fs::read(packed.temp.path().join("resend.json")).unwrap()).unwrap();
    assert_eq!(request["blobs"][0]["digest"], own.to_string());
    // Each file is reported in its turn.
    let outcome = run(&packed, &["verify", "site.oci.tar", "bad.oci.tar"]).code(1);
    outcome.stdout_has("DONE: site.oci.tar").stdout_has("PARTIAL: bad.oci.tar");
    run(&packed, &["verify", "bad.oci.tar", "--image", NAMES[0]]).success();
    for at in packed.demo.roots.iter().map(|(_, root)| packed.offset(&root.digest)) {
        bytes[at as usize] ^= 1;
    }
    fs::write(packed.temp.path().join("bad.oci.tar"), &bytes).unwrap();
    let outcome = run(&packed, &["verify", "bad.oci.tar"]).code(1);
    assert!(outcome.stdout.starts_with("FAILED: "), "{outcome}");
}

#[test]
fn verify_refuses_what_is_no_bundle() {
    let packed = packed();
    fs::write(packed.temp.path().join("x.tar"), [7; 2000]).unwrap();
    run(&packed, &["verify", "x.tar"]).code(3).stderr_has("neither a bundle nor an OCI layout");
    run(&packed, &["verify", "none.tar"]).code(3);
    run(&packed, &["verify", "site.oci.tar", "--image", "other"]).code(3).stderr_has(NAMES[0]);
    let document = run(&packed, &["verify", "x.tar", "--json"]).code(3).json();
    assert_eq!(document["error"]["kind"], "no-bundle");
}

fn golden(name: &str) -> String {
    crate::support::fixtures::directory().join("golden").join(name).display().to_string()
}

#[test]
fn inspect_says_what_a_delta_builds_on_and_offers_no_import() {
    let bundle = golden("site-delta.barge");
    let sidecar = golden("site-delta.barge.barge.json");
    let base = Record::read(fs::read(golden("site.barge.json")).unwrap().as_slice()).unwrap();
    let record = Record::read(fs::read(&sidecar).unwrap().as_slice()).unwrap();
    let relied = record.absent.iter().filter(|row| row.reason == Reason::Base);
    let (count, size) = relied.fold((0, 0), |(count, size), row| (count + 1, size + row.size));
    let shown = barge(["inspect", &bundle]).run().success().stdout_has("is a complete delta bundle");
    for (file, outcome) in [(&bundle, shown), (&sidecar, barge(["inspect", &sidecar]).run().success())] {
        let builds_on = format!("builds on site.oci.tar {} (bundle, state {})", base.id().0, base.state());
        let outcome = outcome
            .stdout_has(&builds_on)
            .stdout_has(&format!("requires {count} blobs, "))
            .stdout_has(&format!("state    {}, what push should read back", record.state()))
            .stdout_has("no longer wanted, and never deleted: 1 name\n    registry.example/site/web:v1\n")
            .stdout_has(&record.id().0.to_string());
        assert!(!outcome.stdout.contains("skopeo") && !outcome.stdout.contains("docker load"), "{outcome}");
        let document = barge(["inspect", file, "--json"]).run().success().json();
        assert_eq!(document["absent"]["base"], serde_json::json!({ "count": count, "bytes": size }));
        assert_eq!(document["bases"][0]["name"], "site.oci.tar");
        assert_eq!(document["removed"], serde_json::json!(["registry.example/site/web:v1"]));
        assert_eq!(document["state"], record.state());
        assert_eq!(document["importCommands"], serde_json::json!([]));
    }
    barge(["inspect", &bundle]).run().stdout_has("other tools find nothing to import in it");
    barge(["inspect", &golden("site.oci.tar")])
        .run()
        .success()
        .stdout_has(&format!("state    {}, what push should read back", base.state()));
    barge(["inspect", &sidecar, "--tree"]).run().code(2).stderr_has("a sidecar has no manifests");
    barge(["inspect", &sidecar, "--image", "other:v1"]).run().code(3).stderr_has("site/web:v2");
}

#[test]
fn verify_says_of_a_delta_what_it_leaves_to_the_far_side() {
    let bundle = golden("site-delta.barge");
    let outcome = barge(["verify", &bundle]).run().success();
    outcome
        .stdout_has("is whole as a delta: 3 images")
        .stdout_has("builds on site.oci.tar sha256:")
        .stdout_has("that the far side has; push proves it there");
    let document = barge(["verify", &bundle, "--json"]).run().success().json();
    assert_eq!(document["files"][0]["bases"][0]["kind"], "bundle");
}

#[test]
fn inspect_reads_inventories_and_receipts() {
    let temp = tempfile::tempdir().unwrap();
    let inventory = golden("site.inventory.json");
    let read = |name: &str| barge::inventory::Inventory::read(golden(name).as_ref()).unwrap();
    barge(["inspect", &inventory])
        .run()
        .success()
        .stdout_has("is an inventory of target.example:5000, taken 2026-02-01T06:30:00Z, ")
        .stdout_has(&read("site.inventory.json").content.id().to_string())
        .stdout_has("scope    everything that the registry lists")
        .stdout_has("checked  blobs as manifests list them, not read")
        .stdout_has(&format!("next: barge diff {inventory} TARGET -o FILE.barge"));
    let receipt = golden("site.receipt.json");
    barge(["inspect", &receipt])
        .run()
        .code(1)
        .stdout_has("PARTIAL: ")
        .stdout_has("is a receipt of a push to target.example:5000")
        .stdout_has("images   1 failed, 2 pushed")
        .stdout_has("not in place: 1 image\n  registry.example/site/zero:v1: failed: the target refused the manifest\n");
    let document = barge(["inspect", &receipt, "--json"]).run().code(1).json();
    assert_eq!(document["kind"], "receipt");
    assert_eq!(document["outcomes"], serde_json::json!({ "failed": 1, "pushed": 2 }));
    assert_eq!(document["problems"][0]["image"], "registry.example/site/zero:v1");
    assert_eq!(document["images"], 2);
    assert_eq!(document["state"], read("site.receipt.json").state);
    // Compressed, and without names.
    let mut omitted = read("site.receipt.json");
    omitted.omit_names();
    let path = temp.path().join("r.json.zst");
    omitted.write(fs::File::create(&path).unwrap(), true).unwrap();
    let outcome = barge(["inspect", "r.json.zst"]).dir(temp.path()).run().code(1);
    assert!(!outcome.stdout.contains("example"), "{outcome}");
    outcome.stdout_has("a target that it does not name").stdout_has("(no name): failed");
    // Another state than its images have.
    let text = fs::read_to_string(&inventory).unwrap();
    let state = read("site.inventory.json").state;
    fs::write(temp.path().join("i.json"), text.replace(&state, "AAAAA-BBBBB")).unwrap();
    barge(["inspect", "i.json"])
        .dir(temp.path())
        .run()
        .code(1)
        .stdout_has(&format!("its images make {state}"));
    barge(["inspect", &inventory, "--tree"]).run().code(2);
}

#[test]
fn inspect_reads_requests() {
    let temp = tempfile::tempdir().unwrap();
    let path = golden("site.request.json");
    barge(["inspect", &path])
        .run()
        .success()
        .stdout_has("is a request for 3 blobs, ")
        .stdout_has("  registry.example/site/web:v1  ")
        .stdout_has("    2 blobs, ")
        .stdout_has("it does not say which images need 1 blob, ")
        .stdout_has(&format!("next: barge pack --request {path} -o topup.barge"));
    let document = barge(["inspect", &path, "--json"]).run().success().json();
    assert_eq!(document["images"][0]["wanted"]["count"], 1);
    assert_eq!(document["blobs"]["count"], 3);
    let mut request = barge::request::Request::read(path.as_ref()).unwrap();
    request.omit_names();
    request.write(&temp.path().join("r.json")).unwrap();
    let outcome = barge(["inspect", "r.json"]).dir(temp.path()).run().success();
    assert!(!outcome.stdout.contains("registry.example"), "{outcome}");
    outcome.stdout_has("it does not say which images need 3 blobs");
}

#[test]
fn inspect_says_what_is_wrong_with_documents() {
    let temp = tempfile::tempdir().unwrap();
    let inspect = |bytes: &[u8]| {
        fs::write(temp.path().join("a.json"), bytes).unwrap();
        barge(["inspect", "a.json"]).dir(temp.path()).run()
    };
    for name in ["site.inventory.json", "site.receipt.json", "site.request.json", "site.barge.json"] {
        let bytes = fs::read(golden(name)).unwrap();
        inspect(&bytes[..bytes.len() / 2]).code(3).stderr_has("a.json can't be read: it is not JSON");
        let text = String::from_utf8(bytes).unwrap();
        inspect(text.replace(r#""formatVersion":"1.0""#, r#""formatVersion":"2.0""#).as_bytes())
            .code(3)
            .stderr_has("use a newer barge");
        inspect(text.replace("sha256:", "sha257:").as_bytes()).code(3).stderr_has("a.json");
    }
    inspect(br#"{"mediaType":"application/x"}"#).code(3).stderr_has("its media type is `application/x`");
    inspect(b"{}").code(3).stderr_has("it does not say its media type");
    let document = barge(["inspect", "a.json", "--json"]).dir(temp.path()).run().code(3).json();
    assert_eq!(document["error"]["kind"], "no-document");
}
