//! The damage suite: whatever happens to a bundle's bytes is found, said exactly, and never a panic.

use std::collections::BTreeSet;

use barge::bundle::head::{DOCKER_MANIFEST_PATH, INDEX_PATH, LAYOUT_PATH};
use barge::bundle::record::RECORD_PATH;
use barge::bundle::trailer::Trailer;
use barge::bundle::verify::{Report, VerifyError};
use barge::oci::Digest;
use proptest::prelude::*;
use serde_json::json;

use crate::bundles::{NAMES, Packed, entry, finding, finish, kinds, packed, whole};
use crate::support::images::descriptor_json;

fn flipped(packed: &Packed, at: u64) -> Result<Report, VerifyError> {
    let mut bytes = packed.bytes.clone();
    bytes[at as usize] ^= 0x10;
    packed.verify_bytes(&bytes)
}

#[test]
fn an_undamaged_bundle_has_no_findings() {
    let packed = packed();
    let report = packed.verify_bytes(&packed.bytes).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(whole(&report), [(NAMES[0], true), (NAMES[1], true)]);
    assert_eq!(report.bundle.as_ref(), packed.bundle().id());
    assert_eq!(report.counts.whole.count, packed.record().blobs.len() as u64);
    assert_eq!(report.counts.checked, report.counts.whole);
    // The other platform's config and layer.
    assert_eq!(report.counts.absent.values().map(|amount| amount.count).sum::<u64>(), 2);
}

/// Also says, by running it, that no flip makes anything panic.
#[test]
fn every_flipped_bit_is_found() {
    let packed = packed();
    let mut silent = Vec::new();
    for at in (0..packed.bytes.len() as u64).step_by(64) {
        if let Ok(report) = flipped(&packed, at)
            && report.is_clean()
        {
            silent.push(at);
        }
    }
    assert!(silent.is_empty(), "flips at {silent:?} were not found");
}

#[test]
fn b_66_a_flip_is_called_by_what_it_hit_the_index_too() {
    let packed = packed();
    let record = packed.record();
    let amd64 = &packed.demo.children[0].digest;
    let length = packed.bytes.len() as u64;
    let head_length = packed.bundle().archive().unwrap().head_length;
    let mut cases = vec![
        ("the trailer's header", length - 2048, vec!["tar-header-damaged"]),
        ("the trailer's first line", length - 1536, vec!["trailer-missing"]),
        ("the first end block", length - 1024, vec!["end-mark"]),
        ("the last byte", length - 1, vec!["end-mark"]),
        ("the first blob's header", head_length + 3, vec!["tar-header-damaged"]),
        ("a manifest", packed.offset(amd64), vec!["blob-damaged"]),
        ("a manifest's header", packed.offset(amd64) - 400, vec!["tar-header-damaged"]),
        ("a layer", packed.offset(&packed.demo.shared.digest) + 1000, vec!["blob-damaged"]),
    ];
    let shared = record.blobs.find(&packed.demo.shared.digest).unwrap().1;
    cases.push(("padding", packed.offset(shared.digest) + shared.size, vec!["padding"]));
    for (path, id) in [
        (LAYOUT_PATH, "layout-mismatch"),
        (INDEX_PATH, "index-mismatch"),
        (DOCKER_MANIFEST_PATH, "docker-manifest-mismatch"),
    ] {
        let (start, size) = packed.head_file(path);
        cases.push((path, start + 1, vec![id]));
        cases.push((path, start - 300, vec!["tar-header-damaged"]));
        cases.push((path, start + size, vec!["padding"]));
    }
    for (what, at, expected) in cases {
        let report = flipped(&packed, at).unwrap();
        let found = kinds(&report);
        // A header that is gone takes its file along.
        let found: Vec<_> = found
            .into_iter()
            .filter(|id| !(expected == ["tar-header-damaged"] && id.ends_with("-mismatch")))
            .collect();
        assert_eq!(found, expected, "{what} at byte {at}: {:#?}", report.findings);
    }
}

#[test]
fn what_damage_costs_is_said_by_image_and_platform() {
    let packed = packed();
    let costs = |digest: &Digest| {
        let report = flipped(&packed, packed.offset(digest) + 10).unwrap();
        let finding = finding(&report, "blob-damaged");
        assert_eq!(finding.digest.as_ref(), Some(digest));
        assert_eq!(report.resend.len(), 1);
        assert_eq!(report.resend[0].digest, *digest);
        let lost: Vec<String> =
            finding.costs.iter().map(|cost| format!("{} {}", cost.image, cost.platforms.join(","))).collect();
        let broken: Vec<String> =
            report.images.iter().filter(|image| !image.whole).map(|image| image.name.clone()).collect();
        assert_eq!(broken, finding.costs.iter().map(|cost| cost.image.clone()).collect::<Vec<_>>());
        lost
    };
    let (app, tool) = (format!("{} linux/amd64", NAMES[0]), format!("{} linux/amd64", NAMES[1]));
    assert_eq!(costs(&packed.demo.shared.digest), [app.clone(), tool.clone()]);
    assert_eq!(costs(&packed.demo.children[0].digest), std::slice::from_ref(&app));
    assert_eq!(costs(&packed.demo.children[1].digest), [format!("{} linux/arm64", NAMES[0])]);
    assert_eq!(costs(&packed.demo.roots[0].1.digest), [app]);
    assert_eq!(costs(&packed.demo.roots[1].1.digest), [tool]);
    assert_eq!(costs(&packed.demo.signature.digest), [format!("{} ", NAMES[0])]);
}

#[test]
fn a_file_that_was_cut_says_what_of_it_is_whole() {
    let packed = packed();
    let bundle = packed.bundle();
    let base = bundle.archive().unwrap().head_length;
    for cut in (0..packed.bytes.len() as u64).step_by(512) {
        let report = match packed.verify_bytes(&packed.bytes[..cut as usize]) {
            Ok(report) => report,
            // Less than one entry.
            Err(VerifyError::NoLayout { .. }) if cut <= 512 => continue,
            Err(error) => panic!("cut at {cut}: {error}"),
        };
        let found = finding(&report, "truncated");
        assert!(found.offset.unwrap() <= cut, "cut at {cut}: {found:?}");
        if cut < base {
            assert_eq!(report.counts.whole.count, 0);
            continue;
        }
        assert_eq!(kinds(&report), ["truncated"], "cut at {cut}: {:#?}", report.findings);
        let rows = packed.record();
        let before = rows.blobs.iter().filter(|row| base + row.offset + row.size <= cut);
        let whole: BTreeSet<&Digest> = before.map(|row| row.digest).collect();
        assert_eq!(report.counts.whole.count, whole.len() as u64, "cut at {cut}");
        let resend: BTreeSet<&Digest> = report.resend.iter().map(|resend| &resend.digest).collect();
        assert!(resend.is_disjoint(&whole));
        assert_eq!(resend.len() + whole.len(), rows.blobs.len());
        let until = report.whole_until.unwrap();
        assert!(until <= cut && (until + 2048 > cut || !resend.is_empty()), "{until} of {cut}");
    }
}

#[test]
fn an_image_before_the_cut_survives() {
    let packed = packed();
    let record = packed.record();
    let base = packed.bundle().archive().unwrap().head_length;
    let last = record.blobs.iter().last().unwrap();
    let report = packed.verify_bytes(&packed.bytes[..(base + last.offset + 1) as usize]).unwrap();
    assert_eq!(report.images_whole(), (1, 1), "{:#?}", report.images);
    assert_eq!(report.resend.len(), 1);
    assert_eq!(finding(&report, "truncated").costs.len(), 1);
}

#[test]
fn a_record_that_no_longer_parses_leaves_what_can_be_found() {
    let packed = packed();
    let (start, _) = packed.head_file(RECORD_PATH);
    let report = flipped(&packed, start).unwrap();
    assert_eq!(kinds(&report), ["record-damaged"], "{:#?}", report.findings);
    // By index.json, in which the signature has a name too.
    assert_eq!(report.images_whole(), (3, 0));
    assert_eq!(report.counts.whole.count, packed.record().blobs.len() as u64);
    // A second damage is found all the same.
    let mut bytes = packed.bytes.clone();
    bytes[start as usize] ^= 0x10;
    bytes[packed.offset(&packed.demo.shared.digest) as usize] ^= 1;
    let report = packed.verify_bytes(&bytes).unwrap();
    assert_eq!(kinds(&report), ["record-damaged", "blob-damaged"]);
    assert_eq!(report.images_whole(), (1, 2));
}

#[test]
fn a_damaged_header_of_the_record_does_not_cost_the_record() {
    let packed = packed();
    let (start, _) = packed.head_file(RECORD_PATH);
    for at in [start - 512, start - 380, start - 356] {
        let report = flipped(&packed, at).unwrap();
        assert_eq!(kinds(&report), ["tar-header-damaged"], "{:#?}", report.findings);
        assert_eq!(report.images_whole(), (2, 0));
        assert_eq!(report.bundle.as_ref(), packed.bundle().id());
    }
}

#[test]
fn b_64_entries_that_the_record_does_not_list_are_found() {
    let packed = packed();
    let hidden = b"#!/bin/sh\n";
    let record_bytes = {
        let (start, size) = packed.head_file(RECORD_PATH);
        packed.bytes[start as usize..(start + size) as usize].to_vec()
    };
    let length = packed.bytes.len();
    let base = packed.bundle().archive().unwrap().head_length as usize;
    // Appended as `tar -r` does: over the end mark.
    let mut appended = packed.bytes[..length - 1024].to_vec();
    entry(&mut appended, "extra/run.sh", hidden);
    appended.resize(appended.len() + 1024, 0);
    let report = packed.verify_bytes(&appended).unwrap();
    assert!(finding(&report, "entry-unlisted").detail.contains("extra/run.sh"), "{:#?}", report.findings);
    // Before the trailer, with a trailer that fits.
    let mut before = packed.bytes[..length - 2048].to_vec();
    entry(&mut before, "extra/run.sh", hidden);
    finish(&mut before, &record_bytes);
    let report = packed.verify_bytes(&before).unwrap();
    assert!(finding(&report, "entry-unlisted").detail.contains("extra/run.sh"), "{:#?}", report.findings);
    // Between the head and the first blob.
    let mut between = packed.bytes[..base].to_vec();
    entry(&mut between, "extra/run.sh", hidden);
    between.extend_from_slice(&packed.bytes[base..length - 2048]);
    finish(&mut between, &record_bytes);
    let report = packed.verify_bytes(&between).unwrap();
    assert!(finding(&report, "entry-unlisted").detail.contains("extra/run.sh"), "{:#?}", report.findings);
    // In the head.
    let mut first = Vec::new();
    entry(&mut first, "extra/run.sh", hidden);
    first.extend_from_slice(&packed.bytes[..length - 2048]);
    finish(&mut first, &record_bytes);
    assert!(!packed.verify_bytes(&first).unwrap().is_clean());
}

#[test]
fn a_trailer_of_another_bundle_is_found() {
    let packed = packed();
    let mut bytes = packed.bytes[..packed.bytes.len() - 2048].to_vec();
    finish(&mut bytes, b"another record");
    let report = packed.verify_bytes(&bytes).unwrap();
    assert_eq!(kinds(&report), ["trailer-mismatch"]);
    assert_eq!(report.images_whole(), (2, 0));
}

#[test]
fn a_trailer_of_another_length_or_volume_is_found() {
    let packed = packed();
    let start = packed.bytes.len() - 1536;
    let trailer = Trailer::parse(&packed.bytes[start..start + 512]).unwrap();
    for (trailer, id) in [
        (Trailer { length: trailer.length + 512, ..trailer.clone() }, "length-mismatch"),
        (Trailer { volume: 2, volumes: 2, ..trailer.clone() }, "trailer-mismatch"),
        (Trailer { record_size: trailer.record_size + 1, ..trailer.clone() }, "trailer-mismatch"),
    ] {
        let mut bytes = packed.bytes.clone();
        bytes[start..start + 512].copy_from_slice(&trailer.to_bytes());
        assert_eq!(kinds(&packed.verify_bytes(&bytes).unwrap()), [id]);
    }
}

/// A head that shrank leaves room, which a pad of zeros fills.
#[test]
fn a_pad_is_no_finding_and_holds_nothing_but_zeros() {
    let packed = packed();
    let base = packed.bundle().archive().unwrap().head_length as usize;
    let (start, size) = packed.head_file(RECORD_PATH);
    let record = &packed.bytes[start as usize..(start + size) as usize];
    for length in [0, 1536] {
        let mut padded = packed.bytes[..base].to_vec();
        entry(&mut padded, ".barge-pad", &vec![0; length]);
        padded.extend_from_slice(&packed.bytes[base..packed.bytes.len() - 2048]);
        finish(&mut padded, record);
        assert!(packed.verify_bytes(&padded).unwrap().is_clean());
        if length > 0 {
            padded[base + 512 + 700] = 1;
            assert_eq!(kinds(&packed.verify_bytes(&padded).unwrap()), ["padding"]);
        }
    }
}

#[test]
fn b_64_a_second_entry_for_one_blob_is_found() {
    let packed = packed();
    let (start, size) = packed.head_file(RECORD_PATH);
    let record_bytes = packed.bytes[start as usize..(start + size) as usize].to_vec();
    let mut bytes = packed.bytes[..packed.bytes.len() - 2048].to_vec();
    // Readers that unpack take the later one.
    entry(&mut bytes, &packed.demo.shared.digest.blob_path(), b"other");
    finish(&mut bytes, &record_bytes);
    let report = packed.verify_bytes(&bytes).unwrap();
    let found = finding(&report, "entry-duplicate");
    assert_eq!(found.digest.as_ref(), Some(&packed.demo.shared.digest));
}

#[test]
fn a_record_that_lies_about_places_is_found() {
    let packed = packed();
    let row = |record: &mut serde_json::Value, at: usize, field: &str, value: serde_json::Value| {
        record["blobs"][at][field] = value;
    };
    let report = packed.verify_record(|record| row(record, 4, "offset", json!(512)));
    assert!(kinds(&report).contains(&"table-overlap"), "{:#?}", report.findings);
    let report = packed.verify_record(|record| {
        let offset = record["blobs"][4]["offset"].as_u64().unwrap();
        row(record, 4, "offset", json!(offset + 512));
    });
    assert!(kinds(&report).contains(&"tar-header-damaged"), "{:#?}", report.findings);
    let at = packed.record().blobs.find(&packed.demo.shared.digest).unwrap().0;
    for size in [1_u64 << 63, u64::MAX, (1 << 62) + 1, 1 << 40] {
        let report = packed.verify_record(|record| row(record, at, "size", json!(size)));
        let found = kinds(&report);
        assert!(found.contains(&"table-misplaced") || found.contains(&"truncated"), "{found:?}");
        assert!(found.contains(&"size-mismatch"), "{found:?}");
        let report = packed.verify_record(|record| row(record, 4, "offset", json!(size)));
        assert!(kinds(&report).contains(&"table-misplaced"), "{:#?}", report.findings);
    }
    let report = packed.verify_record(|record| row(record, 0, "offset", json!(0)));
    assert!(kinds(&report).contains(&"table-misplaced"), "{:#?}", report.findings);
}

#[test]
fn a_size_that_is_off_by_one_within_the_padding_is_found() {
    let packed = packed();
    let at = packed.record().blobs.find(&packed.demo.shared.digest).unwrap().0;
    let report = packed.verify_record(|record| {
        let size = record["blobs"][at]["size"].as_u64().unwrap();
        record["blobs"][at]["size"] = json!(size + 1);
    });
    let found = kinds(&report);
    assert!(found.contains(&"blob-damaged") && found.contains(&"size-mismatch"), "{found:?}");
}

#[test]
fn b_65_a_closure_that_the_record_does_not_cover_is_found() {
    let packed = packed();
    let absent = packed.record().absent.iter().next().unwrap().digest;
    let report = packed.verify_record(|record| {
        record["absent"].as_array_mut().unwrap().retain(|row| row["digest"] != json!(absent));
    });
    assert_eq!(kinds(&report), ["closure-missing"], "{:#?}", report.findings);
    let found = finding(&report, "closure-missing");
    assert_eq!(found.digest.as_ref(), Some(&absent));
    assert_eq!(found.costs[0].image, NAMES[0]);
    assert_eq!(found.costs[0].platforms, ["linux/arm64"]);
    // What a manifest that travels needs can't be left out with a platform.
    let shared = json!(packed.demo.shared.digest);
    let report = packed.verify_record(|record| {
        let rows = record["blobs"].as_array_mut().unwrap();
        let at = rows.iter().position(|row| row["digest"] == shared).unwrap();
        let row = rows.remove(at);
        let absent = json!({ "digest": shared, "mediaType": row["mediaType"], "reason": "platform", "size": row["size"] });
        let list = record["absent"].as_array_mut().unwrap();
        list.push(absent);
        list.sort_by_key(|row| row["digest"].as_str().unwrap().to_owned());
    });
    assert!(kinds(&report).contains(&"closure-missing"), "{:#?}", report.findings);
    assert_eq!(report.images_whole(), (0, 2));
}

#[test]
fn images_under_other_names_are_found() {
    let packed = packed();
    let report = packed.verify_record(|record| {
        let images = record["images"].as_array_mut().unwrap();
        let (first, second) = (images[0]["name"].clone(), images[1]["name"].clone());
        (images[0]["name"], images[1]["name"]) = (second, first);
        images.reverse();
    });
    assert!(kinds(&report).contains(&"index-unlisted"), "{:#?}", report.findings);
    let report = packed.verify_record(|record| {
        record["images"].as_array_mut().unwrap().pop();
    });
    assert_eq!(kinds(&report), ["index-unlisted"]);
    let report = packed.verify_record(|record| record["images"][0]["attached"] = json!([]));
    assert_eq!(kinds(&report), ["index-unlisted"]);
    let report = packed.verify_record(|record| {
        let shared = &packed.demo.shared.digest;
        record["images"][1]["attached"] = json!([{ "digest": Digest::sha256(b"no"), "subject": shared }]);
    });
    assert!(kinds(&report).contains(&"closure-missing"), "{:#?}", report.findings);
}

#[test]
fn records_that_are_not_canonical_or_newer_are_found() {
    let packed = packed();
    let report = packed.verify_record(|record| record["surprise"] = json!(1));
    assert_eq!(kinds(&report), ["record-damaged"]);
    // A later minor version may say more.
    let report = packed.verify_record(|record| {
        record["surprise"] = json!(1);
        record["formatVersion"] = json!("1.1");
    });
    assert!(report.is_clean(), "{:#?}", report.findings);
    for (field, value) in [("formatVersion", json!("2.0")), ("requires", json!(["warp"]))] {
        let report = packed.verify_record(|record| record[field] = value);
        assert_eq!(kinds(&report), ["record-newer"], "{:#?}", report.findings);
        assert_eq!(report.images_whole(), (3, 0));
    }
}

#[test]
fn data_that_is_other_content_and_wrong_sizes_are_found() {
    for (field, value, expected) in [
        ("data", json!("bm8="), "data-mismatch"),
        ("data", json!("%"), "data-mismatch"),
        ("size", json!(1), "size-mismatch"),
    ] {
        let mut demo = crate::bundles::demo();
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&demo.content.blobs[&demo.roots[1].1.digest]).unwrap();
        manifest["config"][field] = value;
        demo.roots[1].1 = demo.content.manifest("application/vnd.oci.image.manifest.v1+json", &manifest);
        let temp = tempfile::tempdir().unwrap();
        let layout = crate::bundles::write_demo_layout(temp.path(), &demo);
        let report = crate::bundles::check(&layout).unwrap();
        assert_eq!(kinds(&report), [expected], "{:#?}", report.findings);
        assert_eq!(report.images_whole(), (2, 1));
        assert_eq!(finding(&report, expected).costs.len(), 1);
    }
    let mut demo = crate::bundles::demo();
    let config = demo.content.closure(&demo.roots[1].1)[0].clone();
    let mut described = descriptor_json(&config);
    let encoded = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        &demo.content.blobs[&config.digest],
    );
    described["data"] = json!(encoded);
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&demo.content.blobs[&demo.roots[1].1.digest]).unwrap();
    manifest["config"] = described;
    demo.roots[1].1 = demo.content.manifest("application/vnd.oci.image.manifest.v1+json", &manifest);
    let temp = tempfile::tempdir().unwrap();
    let layout = crate::bundles::write_demo_layout(temp.path(), &demo);
    assert!(crate::bundles::check(&layout).unwrap().is_clean());
}

/// What a medium or a copy that lost pages leaves: zeros in their places.
#[test]
fn pages_of_zeros_cost_what_lies_in_them() {
    let packed = packed();
    let base = packed.bundle().archive().unwrap().head_length as usize;
    let rows = packed.record();
    let mut kept_by_record = 0;
    for start in (0..packed.bytes.len()).step_by(1024) {
        let end = (start + 1024).min(packed.bytes.len());
        let mut bytes = packed.bytes.clone();
        bytes[start..end].fill(0);
        if bytes == packed.bytes {
            continue;
        }
        let report = packed.verify_bytes(&bytes).unwrap();
        assert!(!report.is_clean(), "zeros at {start}");
        let hit = rows.blobs.iter().filter(|row| {
            let data = base + row.offset as usize;
            start < data + row.size as usize && data - 512 < end
        });
        let whole = rows.blobs.len() - hit.count();
        assert_eq!(report.counts.whole.count as usize, whole, "zeros at {start}: {:#?}", report.findings);
        kept_by_record += usize::from(report.bundle.is_some());
    }
    assert!(kept_by_record > 20, "{kept_by_record}");
}

#[test]
fn garbage_is_no_bundle() {
    let packed = packed();
    for size in [0, 1, 511, 512, 1024, 100_000] {
        let bytes = crate::support::images::noise(7, size);
        assert!(matches!(packed.verify_bytes(&bytes), Err(VerifyError::NoLayout { .. })), "{size}");
        assert!(matches!(packed.verify_bytes(&vec![0; size]), Err(VerifyError::NoLayout { .. })), "{size}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any change of any bytes is found, whatever it is.
    #[test]
    fn any_change_is_found(changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..12), cut in 0..2000_usize, grow in 0..3_usize) {
        let packed = bundle_for_changes();
        let mut bytes = packed.bytes.clone();
        for (at, change) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        bytes.truncate(bytes.len() - cut.saturating_sub(1000));
        bytes.resize(bytes.len() + grow * 512, 0);
        if bytes != packed.bytes
            && let Ok(report) = packed.verify_bytes(&bytes)
        {
            prop_assert!(!report.is_clean());
        }
    }

    /// Blocks in another order are found.
    #[test]
    fn exchanged_blocks_are_found(first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>()) {
        let packed = bundle_for_changes();
        let mut bytes = packed.bytes.clone();
        let (first, second) = (first.index(bytes.len() / 512), second.index(bytes.len() / 512));
        for at in 0..512 {
            bytes.swap(first * 512 + at, second * 512 + at);
        }
        if bytes != packed.bytes
            && let Ok(report) = packed.verify_bytes(&bytes)
        {
            prop_assert!(!report.is_clean());
        }
    }
}

/// One bundle for all cases; each thread has a file of its own.
fn bundle_for_changes() -> &'static Packed {
    use std::cell::OnceCell;
    thread_local! {
        static PACKED: OnceCell<&'static Packed> = const { OnceCell::new() };
    }
    PACKED.with(|cell| *cell.get_or_init(|| Box::leak(Box::new(packed()))))
}
