//! What readers owe: bundles that are wrong in one way each, and what becomes of them.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use barge::bundle::Bundle;
use barge::oci::{Descriptor, Digest};
use barge::pack::Output;
use barge::store::{Source, StoreError};
use serde_json::{Value, json};

use super::build::{archive, block, body, entry, pax, trailer, with_edited_record, with_record};
use super::golden;
use super::made::{How, Made, pack, pack_from, site, write};
use super::walk::BLOCK;
use crate::support::archives::{TarStyle, write_layout_tar};
use crate::support::images::{Content, plain_layer};
use crate::support::tarball::{TarFormat, TarWriter};

/// Opens bytes as a bundle.
fn open(bytes: &[u8]) -> Result<Bundle, StoreError> {
    let temp = tempfile::tempdir().unwrap();
    // The file stays readable through the open bundle.
    Bundle::open(&write(bytes, temp.path(), "a.oci.tar"))
}

/// Reads a blob of the size that its row gives.
fn read(bundle: &Bundle, row: &Value) -> Result<Vec<u8>, StoreError> {
    let digest: Digest = row["digest"].as_str().unwrap().parse().unwrap();
    let mut bytes = Vec::new();
    bundle.open_blob(&digest, row["size"].as_u64().unwrap(), 0)?.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

/// The place of the row of the golden site's own layer, a layer of `worker:v1` alone.
fn own_layer(made: &Made) -> usize {
    let digest = site().own_layer.to_string();
    made.rows().iter().position(|row| row["digest"] == digest.as_str()).unwrap()
}

#[test]
fn b_10_the_head_ends_at_the_first_other_entry() {
    let made = golden::whole();
    let record = made.content("barge.json");
    let head = [("oci-layout", made.content("oci-layout")), ("index.json", made.content("index.json"))];
    // Behind a blob, behind an unknown entry, or no regular file: not of the head.
    let mut late = body(&made).to_vec();
    late.extend(entry("barge.json", record));
    assert!(open(&archive(&head, &late, record)).unwrap().record().is_none());
    let mut behind = entry("README", b"hello");
    behind.extend(entry("barge.json", record));
    behind.extend(body(&made));
    assert!(open(&archive(&head, &behind, record)).unwrap().record().is_none());
    let mut link = TarWriter::new(Vec::new(), TarFormat::Ustar);
    link.file("oci-layout", made.content("oci-layout"));
    link.file("index.json", made.content("index.json"));
    link.symlink("barge.json", "blobs/sha256/x");
    link.file("blobs/sha256/x", record);
    assert!(open(&link.finish()).is_ok_and(|bundle| bundle.record().is_none()));
    // The end of the head is where the offsets count from, whatever order its entries have.
    let turned = [("barge.json", record), head[1], head[0]];
    let bundle = open(&archive(&turned, body(&made), record)).unwrap();
    for row in made.rows() {
        assert!(Digest::sha256(&read(&bundle, row).unwrap()).to_string() == row["digest"].as_str().unwrap());
    }
}

#[test]
fn b_11_an_archive_without_a_record_is_a_layout_at_most() {
    let temp = tempfile::tempdir().unwrap();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[plain_layer(1, 100)]);
    let path = temp.path().join("layout.tar");
    write_layout_tar(&path, &content, &[("registry.example/a:v1", image)], TarStyle::default());
    let bundle = Bundle::open(&path).unwrap();
    assert!(bundle.record().is_none() && bundle.id().is_none() && bundle.archive().is_none());
    assert_eq!(bundle.names().unwrap().len(), 1);
}

#[test]
fn b_19_a_gap_is_no_content() {
    let made = golden::with_gap();
    let bundle = open(&made.bytes).unwrap();
    assert_eq!(bundle.fault(), None);
    let row = &made.rows()[own_layer(&made)];
    assert!(!bundle.holds(&site().own_layer) && !bundle.ships(&site().own_layer));
    assert!(read(&bundle, row).is_err_and(|error| error.is_not_found()));
    // Nor if someone says so in the record alone.
    let claims =
        with_edited_record(&made, |record| record["blobs"][own_layer(&made)]["role"] = json!("layer"));
    assert!(matches!(read(&open(&claims).unwrap(), row), Err(StoreError::Damaged { .. })));
}

#[test]
fn b_21_only_the_exact_trailer_in_its_place_is_one() {
    let made = golden::whole();
    let at = made.entry(".barge-trailer").data as usize;
    let fault = |bytes: &[u8]| open(bytes).unwrap().fault();
    assert_eq!(fault(&made.bytes), None);
    let record = made.content("barge.json");
    let right = String::from_utf8(trailer(record, made.bytes.len() as u64)).unwrap();
    let id = Digest::sha256(record);
    for (from, to) in [
        ("barge-trailer 1\n", "barge-trailer 2\n"),
        ("length ", "length 0"),
        ("length ", "length +"),
        ("length ", "length  "),
        ("volume 1 of 1\n", "volume 1 of 1 "),
        ("volume 1", "Volume 1"),
        (id.hex().as_str(), id.hex().to_uppercase().as_str()),
        ("record ", "record\t"),
    ] {
        let mut wrong = right.replacen(from, to, 1).into_bytes();
        // What grew takes the place of a space of the filling.
        if wrong.len() > 512 {
            wrong.remove(400);
        }
        assert_ne!(wrong, right.as_bytes());
        let mut bytes = made.bytes.clone();
        bytes[at..at + 512].copy_from_slice(&wrong);
        assert!(fault(&bytes).is_some_and(|fault| fault.contains("trailer")), "{from:?} -> {to:?}");
    }
    for changed in [511, 510, 300] {
        let mut bytes = made.bytes.clone();
        bytes[at + changed] = b'x';
        assert!(fault(&bytes).is_some(), "byte {changed}");
    }
    // Padded as a tape writer pads it, the file does not end in a trailer.
    let mut bytes = made.bytes.clone();
    bytes.resize(bytes.len().next_multiple_of(10240), 0);
    assert!(fault(&bytes).is_some());
}

#[test]
fn b_22_a_bundle_that_was_cut_is_reported_wherever_it_was_cut() {
    let made = golden::whole();
    let record_end = made.entry("barge.json").end();
    let temp = tempfile::tempdir().unwrap();
    let path = made.write(temp.path(), "a.oci.tar");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for blocks in (0..made.bytes.len() / BLOCK).rev() {
        let length = (blocks * BLOCK) as u64;
        file.set_len(length).unwrap();
        match Bundle::open(&path) {
            Ok(bundle) => assert!(bundle.record().is_some() && bundle.fault().is_some(), "{length}"),
            Err(_) => assert!(length < record_end, "{length}: a head that is there still says what it is"),
        }
    }
}

#[test]
fn b_23_a_record_that_the_trailer_does_not_name_is_reported() {
    let made = golden::whole();
    // A record of the same length and meaning.
    let text = String::from_utf8(made.content("barge.json").to_vec()).unwrap();
    let other = text.replacen("\"requires\":[]", "\"requireX\":[]", 1);
    assert_ne!(text, other);
    let start = made.entry("barge.json").data as usize;
    let mut bytes = made.bytes.clone();
    bytes[start..start + other.len()].copy_from_slice(other.as_bytes());
    let fault = open(&bytes).unwrap().fault().expect("a fault");
    assert!(fault.contains("record"), "{fault}");
    // The right digest with a wrong length.
    let at = made.entry(".barge-trailer").data as usize;
    let lie = String::from_utf8(trailer(text.as_bytes(), made.bytes.len() as u64)).unwrap();
    let size = format!(" {}\n", text.len());
    let lie = lie.replacen(&size, &format!(" {}\n", text.len() + 1), 1);
    let mut bytes = made.bytes.clone();
    bytes[at..at + 512].copy_from_slice(lie.as_bytes());
    assert!(open(&bytes).unwrap().fault().is_some());
}

#[test]
fn b_24_a_file_of_another_length_than_the_trailer_says_is_reported() {
    let made = golden::whole();
    let trailer_at = made.entry(".barge-trailer").start as usize;
    // A block more before the trailer, and one less.
    let mut longer = made.bytes.clone();
    longer.splice(trailer_at..trailer_at, [0; BLOCK]);
    let mut shorter = made.bytes.clone();
    shorter.drain(trailer_at - BLOCK..trailer_at);
    for bytes in [longer, shorter] {
        let fault = open(&bytes).unwrap().fault().expect("a fault");
        assert!(fault.contains(&bytes.len().to_string()), "{fault}");
    }
}

/// What opening the golden bundle with an edited record says.
fn refusal(edit: impl FnOnce(&mut Value)) -> Option<String> {
    open(&with_edited_record(&golden::whole(), edit)).err().map(|error| error.to_string())
}

#[test]
fn b_31_another_media_type_is_refused() {
    let refused = refusal(|record| record["mediaType"] = json!("application/vnd.barge.bundle.v2+json"));
    assert!(refused.unwrap().contains("vnd.barge.bundle.v2"));
}

#[test]
fn b_32_another_major_version_is_refused_and_a_minor_one_is_not() {
    for version in ["2.0", "0.9", "10.0", "", "v1.0"] {
        assert!(refusal(|record| record["formatVersion"] = json!(version)).is_some(), "{version}");
    }
    assert_eq!(refusal(|record| record["formatVersion"] = json!("1.17")), None);
}

#[test]
fn b_33_a_feature_that_is_not_known_is_refused() {
    let refused = refusal(|record| record["requires"] = json!(["warp"]));
    assert!(refused.unwrap().contains("warp"));
}

#[test]
fn b_34_fields_that_are_not_known_are_ignored_everywhere() {
    let made = golden::whole();
    let bytes = with_edited_record(&made, |record| {
        record["later"] = json!({ "a": [1, null] });
        for list in ["absent", "blobs", "images"] {
            record[list][0]["later"] = json!(0.5);
        }
        record["images"][0]["attached"][0]["later"] = json!("x");
        record["images"][0]["platforms"][0]["os.features"] = json!(["win32k"]);
        record["failed"] = json!([{ "name": "registry.example/f:v1", "later": true }]);
    });
    let bundle = open(&bytes).unwrap();
    assert_eq!(bundle.fault(), None);
    assert_eq!(bundle.names().unwrap().len(), 2);
    assert_eq!(bundle.record().unwrap().blobs.len(), made.rows().len());
}

#[test]
fn b_36_a_digest_in_two_rows_is_refused() {
    for list in ["absent", "blobs"] {
        let refused = refusal(|record| {
            let row = record[list][1].clone();
            record[list].as_array_mut().unwrap().push(row);
        });
        assert!(refused.unwrap().contains("twice"), "{list}");
    }
    let text = String::from_utf8(golden::whole().sidecar).unwrap();
    let twice = text.replacen("\"requires\":[]", "\"requires\":[],\"blobs\":[]", 1);
    assert!(open(&with_record(&golden::whole(), twice.as_bytes())).is_err(), "a field that stands twice");
}

#[test]
fn b_37_an_unshipped_manifest_is_held_and_not_delivered() {
    let made = golden::whole();
    let bundle = open(&made.bytes).unwrap();
    let row = made.rows().iter().find(|row| row["role"] == "unshipped").unwrap();
    let digest: Digest = row["digest"].as_str().unwrap().parse().unwrap();
    assert!(bundle.holds(&digest) && !bundle.ships(&digest));
    let shown = bundle.record().unwrap().images[0].platforms.iter().map(ToString::to_string);
    assert_eq!(shown.collect::<Vec<_>>(), ["linux/amd64"]);
}

#[test]
fn b_50_names_and_roots_come_from_the_record() {
    let made = golden::whole();
    let record = made.content("barge.json");
    let signature = &site().roots[2].1;
    let name = "registry.example/site/evil:v1";
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": signature.media_type, "digest": signature.digest, "size": signature.size,
        "annotations": { "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name },
    }]});
    let index = index.to_string();
    let head = [
        ("oci-layout", made.content("oci-layout")),
        ("index.json", index.as_bytes()),
        ("barge.json", record),
        ("manifest.json", b"[]"),
    ];
    let bundle = open(&archive(&head, body(&made), record)).unwrap();
    let names: Vec<String> = bundle.names().unwrap().into_iter().filter_map(|(name, _)| name).collect();
    assert_eq!(names, ["registry.example/site/web:v1", "registry.example/site/worker:v1"]);
    assert!(bundle.resolve(name).is_err());
    assert_eq!(bundle.resolve("registry.example/site/web:v1").unwrap().digest, site().roots[1].1.digest);
}

/// The golden site as a layout directory below `folder`.
fn layout(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("site");
    pack(&site(), How::default(), Output::Layout(path.clone())).unwrap_or_else(|error| panic!("{error}"));
    path
}

#[test]
fn b_54_offsets_have_no_meaning_in_a_layout_directory() {
    let temp = tempfile::tempdir().unwrap();
    let folder = layout(temp.path());
    let mut record = golden::whole().record;
    for row in record["blobs"].as_array_mut().unwrap() {
        row["offset"] = json!(u64::MAX);
    }
    std::fs::write(folder.join("barge.json"), record.to_string()).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    assert_eq!(bundle.record().unwrap().images.len(), 2);
    for row in golden::whole().rows() {
        let digest: Digest = row["digest"].as_str().unwrap().parse().unwrap();
        assert!(digest.matches(&read(&bundle, row).unwrap()));
    }
}

#[test]
fn b_55_links_and_pipes_in_a_layout_directory_are_not_opened() {
    let temp = tempfile::tempdir().unwrap();
    let folder = layout(temp.path());
    let digest = &site().own_layer;
    let (blob, aside) = (folder.join(digest.blob_path()), temp.path().join("aside"));
    std::fs::rename(&blob, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &blob).unwrap();
    let made = golden::whole();
    let row = &made.rows()[own_layer(&made)];
    assert!(read(&Bundle::open(&folder).unwrap(), row).is_err());
    std::fs::remove_file(&blob).unwrap();
    crate::support::peers::run(crate::support::peers::command("mkfifo").arg(&blob));
    assert!(read(&Bundle::open(&folder).unwrap(), row).is_err());
    let record = folder.join("barge.json");
    std::fs::rename(&record, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &record).unwrap();
    assert!(Bundle::open(&folder).is_err());
}

#[test]
fn b_56_the_name_says_nothing_about_whether_a_bundle_is_finished() {
    let temp = tempfile::tempdir().unwrap();
    let made = golden::whole();
    let whole = Bundle::open(&made.write(temp.path(), "a.oci.tar.partial")).unwrap();
    assert_eq!(whole.fault(), None);
    let cut = write(&made.bytes[..made.bytes.len() - 2048], temp.path(), "a.oci.tar");
    assert!(Bundle::open(&cut).unwrap().fault().is_some());
}

#[test]
fn b_58_a_flipped_bit_in_a_blob_is_found_before_it_is_passed_on() {
    let made = golden::whole();
    let names = site().images;
    for row in made.rows().iter().filter(|row| row["role"] != "unshipped") {
        let at = made.head_length() + row["offset"].as_u64().unwrap() + row["size"].as_u64().unwrap() / 2;
        let mut bytes = made.bytes.clone();
        bytes[at as usize] ^= 0x10;
        let temp = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(&write(&bytes, temp.path(), "a.oci.tar")).unwrap();
        assert_eq!(bundle.fault(), None, "the head and the trailer are whole");
        let output = temp.path().join("b.oci.tar");
        let outcome = pack_from(
            Arc::new(bundle),
            &names,
            &["linux/amd64"],
            How::default(),
            Output::Archive(output.clone()),
        );
        assert!(outcome.is_err() && !output.exists(), "{row}");
    }
}

#[test]
fn b_59_a_blob_behind_another_header_is_refused() {
    let made = golden::whole();
    let at = own_layer(&made);
    let row = &made.rows()[at];
    let path = site().own_layer.blob_path();
    let size = row["size"].as_u64().unwrap();
    let start = made.entry(&path).start as usize;
    let mut time = block(&path, size, b'0');
    time[146] = b'1';
    for header in [
        block("blobs/sha256/other", size, b'0'),
        block(&path, size - 1, b'0'),
        block(&path, size, b'5'),
        block(&format!("./{path}"), size, b'0'),
        time,
        [0; BLOCK],
    ] {
        let mut bytes = made.bytes.clone();
        bytes[start..start + BLOCK].copy_from_slice(&header);
        let bundle = open(&bytes).unwrap();
        assert!(matches!(read(&bundle, row), Err(StoreError::Damaged { .. })));
        assert!(read(&bundle, &made.rows()[0]).is_ok(), "other blobs are as good as before");
    }
    // A table that points to another blob, or into one.
    for offset in [made.rows()[0]["offset"].clone(), json!(row["offset"].as_u64().unwrap() + 1), json!(0)] {
        let bytes = with_edited_record(&made, |record| record["blobs"][at]["offset"] = offset);
        assert!(matches!(read(&open(&bytes).unwrap(), row), Err(StoreError::Damaged { .. })));
    }
}

#[test]
fn b_60_offsets_and_sizes_beyond_the_file_are_refused() {
    let made = golden::whole();
    let at = own_layer(&made);
    let length = made.bytes.len() as u64;
    for (offset, size) in [
        (length, 5120),
        (u64::MAX, 5120),
        (u64::MAX - made.head_length(), 5120),
        (u64::MAX - made.head_length() - 5119, 5120),
        (27136, u64::MAX),
        (27136, u64::MAX - made.head_length() - 27136),
        (1 << 63, 1 << 63),
    ] {
        let bytes = with_edited_record(&made, |record| {
            record["blobs"][at]["offset"] = json!(offset);
            record["blobs"][at]["size"] = json!(size);
        });
        let bundle = open(&bytes).unwrap();
        let row = &json!({ "digest": made.rows()[at]["digest"], "size": size });
        assert!(matches!(read(&bundle, row), Err(StoreError::Damaged { .. })), "{offset} {size}");
    }
    // The header is there and the content is cut.
    let path = site().own_layer.blob_path();
    let bundle = open(&made.bytes[..made.entry(&path).data as usize + 1000]).unwrap();
    assert!(matches!(read(&bundle, &made.rows()[at]), Err(StoreError::Damaged { .. })));
}

#[test]
fn b_61_a_size_that_the_manifest_does_not_give_is_refused() {
    let made = golden::whole();
    let bundle = open(&made.bytes).unwrap();
    let row = &made.rows()[own_layer(&made)];
    for size in [0, 5119, 5121, u64::MAX] {
        let asked = json!({ "digest": row["digest"], "size": size });
        assert!(matches!(read(&bundle, &asked), Err(StoreError::Damaged { .. })), "{size}");
    }
}

#[test]
fn b_62_paths_that_lead_outside_and_links_are_not_used() {
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[plain_layer(1, 100)]);
    let bytes = &content.blobs[&image.digest];
    let path = image.digest.blob_path();
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": image.media_type, "digest": image.digest, "size": image.size,
    }]});
    let read = |write: &dyn Fn(&mut TarWriter<Vec<u8>>)| {
        let mut tar = TarWriter::new(Vec::new(), TarFormat::Gnu);
        tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        tar.file("index.json", index.to_string().as_bytes());
        write(&mut tar);
        let bundle = open(&tar.finish())?;
        bundle.manifest(&Descriptor::new(image.media_type.clone(), image.digest.clone(), image.size))
    };
    assert_eq!(read(&|tar| tar.file(&path, bytes)).unwrap(), *bytes);
    for name in [format!("/{path}"), format!("../{path}"), format!("a/../{path}"), format!("{path}/..")] {
        assert!(read(&|tar| tar.file(&name, bytes)).is_err(), "{name}");
    }
    let linked = |link: &dyn Fn(&mut TarWriter<Vec<u8>>)| {
        read(&|tar| {
            tar.file("elsewhere", bytes);
            link(tar);
        })
    };
    assert!(linked(&|tar| tar.symlink(&path, "../../elsewhere")).is_err());
    assert!(linked(&|tar| tar.hardlink(&path, "elsewhere")).is_err());
    assert!(linked(&|tar| tar.symlink(&path, "/etc/passwd")).is_err());
}

#[test]
fn b_63_sizes_that_a_file_only_claims_cost_no_memory() {
    let made = golden::whole();
    // An allocation of any of these sizes would end the test by an abort.
    let mut claims = vec![block("barge.json", 0o777_7777_7777, b'0').to_vec()];
    for size in [1_u64 << 40, i64::MAX as u64, u64::MAX] {
        let digits = size.to_string();
        let record = format!("{} size={digits}\n", digits.len() + 9);
        let mut claim = pax(&record);
        claim.extend(block("barge.json", 0, b'0'));
        claims.push(claim);
    }
    claims.push(block("PaxHeaders/size", 0o777_7777_7777, b'x').to_vec());
    for claim in claims {
        let mut bytes = entry("oci-layout", made.content("oci-layout"));
        bytes.extend(claim);
        bytes.extend(entry("index.json", made.content("index.json")));
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        assert!(open(&bytes).is_err());
    }
    // A manifest that the table says is huge.
    let bytes = with_edited_record(&made, |record| record["blobs"][0]["size"] = json!(1_u64 << 62));
    let root = &site().roots[1].1;
    let huge = Descriptor::new(root.media_type.clone(), root.digest.clone(), 1 << 62);
    assert!(open(&bytes).unwrap().manifest(&huge).is_err());
}
