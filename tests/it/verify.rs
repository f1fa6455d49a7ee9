//! Verification of what is not damaged in its bytes: other producers' layouts, folders, gaps, single images, requests.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use barge::bundle::verify::{Form, Options, VerifyError, verify};
use barge::oci::Digest;
use barge::pack::Output;
use barge::request::Request;
use barge::transfer::Progress;
use serde_json::Value;

use crate::bundles::{
    NAMES, check, demo, finding, kinds, pack_layout, pack_options, packed, whole, write_demo_layout,
};
use crate::support::archives::{DockerArchive, TarStyle, write_docker_archive, write_layout_tar};
use crate::support::images::{Blob, Content, layer};
use crate::support::peers::{gnu_tar, skopeo, umoci};
use crate::support::tarball::{TarFormat, TarWriter};

/// Remembers what was read.
#[derive(Default)]
struct Seen(Mutex<Vec<Digest>>);

impl Progress for Seen {
    fn begin(&self, _: usize, _: u64, _: u64) {}
    fn start(&self, digest: &Digest, _: u64) {
        self.0.lock().unwrap().push(digest.clone());
    }
    fn advance(&self, _: &Digest, _: u64) {}
    fn restart(&self, _: &Digest, _: u64) {}
    fn finish(&self, _: &Digest) {}
    fn note(&self, _: &str) {}
}

#[test]
fn only_the_content_of_the_named_image_is_read() {
    let packed = packed();
    let mut bytes = packed.bytes.clone();
    let own = packed.demo.content.closure(&packed.demo.children[0])[2].digest.clone();
    bytes[packed.offset(&own) as usize] ^= 1;
    fs::write(&packed.path, &bytes).unwrap();
    let seen = Seen::default();
    let options = |name: &str| Options { images: vec![name.to_owned()], ..Options::default() };
    let report = verify(&packed.path, &options(NAMES[1]), &seen).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert!(report.restricted && whole(&report) == [(NAMES[1], true)]);
    let mut read = seen.0.into_inner().unwrap();
    read.sort();
    let mut closure: Vec<Digest> =
        packed.demo.content.closure(&packed.demo.roots[1].1).into_iter().map(|d| d.digest).collect();
    closure.sort();
    assert_eq!(read, closure);
    let report = verify(&packed.path, &options(NAMES[0]), &Seen::default()).unwrap();
    assert_eq!(kinds(&report), ["blob-damaged"]);
    let error = verify(&packed.path, &options("registry.example/other"), &Seen::default()).unwrap_err();
    assert!(matches!(&error, VerifyError::NoImage { have, .. } if *have == NAMES), "{error}");
}

#[test]
fn the_request_names_what_must_be_sent_again() {
    let packed = packed();
    let clean = check(&packed.path).unwrap();
    let file = packed.temp.path().join("resend.json");
    assert_eq!(Request::of_verification(&clean), None);
    let shared = &packed.demo.shared;
    let mut bytes = packed.bytes.clone();
    bytes[packed.offset(&shared.digest) as usize] ^= 1;
    let report = packed.verify_bytes(&bytes).unwrap();
    Request::of_verification(&report).unwrap().write(&file).unwrap();
    let bytes = fs::read(&file).unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), value.to_string(), "canonical");
    assert_eq!(value["mediaType"], "application/vnd.barge.request.v1+json");
    assert_eq!(value["bundles"], serde_json::json!([packed.bundle().id().unwrap()]));
    let names: Vec<&Value> = value["images"].as_array().unwrap().iter().map(|image| &image["name"]).collect();
    assert_eq!(names, NAMES);
    assert_eq!(value["blobs"][0]["digest"], shared.digest.to_string());
    assert_eq!(value["blobs"][0]["mediaType"], shared.media_type);
    assert_eq!(value["blobs"][0]["size"], shared.bytes.len());
    assert_eq!(value["blobs"].as_array().unwrap().len(), 1);
}

#[test]
fn layouts_that_other_tools_write_are_clean() {
    let temp = tempfile::tempdir().unwrap();
    let demo = demo();
    let layout = write_demo_layout(temp.path(), &demo);
    assert_eq!(kinds(&check(&layout).unwrap()), [""; 0]);
    let source = format!("oci:{}:{}", layout.display(), NAMES[0]);
    let archive = temp.path().join("skopeo.tar");
    skopeo(["copy", "--all", &source, &format!("oci-archive:{}:v1", archive.display())]);
    let report = check(&archive).unwrap();
    assert!(report.is_clean() && report.form == Form::Layout, "{:#?}", report.findings);
    assert_eq!(whole(&report), [("v1", true)]);
    let copy = temp.path().join("copy");
    skopeo(["copy", "--all", &source, &format!("oci:{}:v1", copy.display())]);
    assert!(check(&copy).unwrap().is_clean());
    let unpacked = temp.path().join("umoci");
    umoci(["init", "--layout", unpacked.to_str().unwrap()]);
    umoci(["new", "--image", &format!("{}:v1", unpacked.display())]);
    let report = check(&unpacked).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(whole(&report), [("v1", true)]);
    let tarred = temp.path().join("tarred.tar");
    gnu_tar(["-C", layout.to_str().unwrap(), "-cf", tarred.to_str().unwrap(), "."]);
    assert!(check(&tarred).unwrap().is_clean());
    let saved = temp.path().join("saved.tar");
    let tool = &demo.roots[1].1;
    write_docker_archive(&saved, &demo.content, DockerArchive::New, &[(tool, &["tool:v1"])]);
    let report = check(&saved).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[test]
fn every_tar_dialect_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 3000), layer(2, 100).by_sha512()]);
    let path = temp.path().join("x.tar");
    for format in [TarFormat::Gnu, TarFormat::Pax] {
        for blobs_first in [false, true] {
            let style = TarStyle { blobs_first, dot_slash: true, directories: true, format };
            write_layout_tar(&path, &content, &[("v1", image.clone())], style);
            let report = check(&path).unwrap();
            assert!(report.is_clean(), "{format:?}: {:#?}", report.findings);
            assert_eq!(report.counts.whole.count, 4);
        }
    }
}

#[test]
fn a_sparse_layout_of_another_producer_is_clean_and_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let mut demo = demo();
    // As skopeo leaves it out: with its manifest. As docker does: without.
    let own = demo.content.closure(&demo.children[1]);
    for part in [&own[0], &own[2]] {
        demo.content.blobs.remove(&part.digest);
    }
    let with_manifest = check(&write_demo_layout(&temp.path().join("a"), &demo)).unwrap();
    assert!(with_manifest.is_clean(), "{:#?}", with_manifest.findings);
    assert_eq!(with_manifest.counts.absent.values().map(|a| a.count).sum::<u64>(), 2);
    demo.content.blobs.remove(&demo.children[1].digest);
    let without = check(&write_demo_layout(&temp.path().join("b"), &demo)).unwrap();
    assert!(without.is_clean(), "{:#?}", without.findings);
    assert_eq!(without.counts.absent.values().map(|a| a.count).sum::<u64>(), 1);
    // All platforms left out is nobody's purpose.
    demo.content.blobs.remove(&demo.children[0].digest);
    let nothing = check(&write_demo_layout(&temp.path().join("c"), &demo)).unwrap();
    assert_eq!(kinds(&nothing), ["closure-missing"]);
    assert_eq!(nothing.images_whole(), (2, 1));
}

#[test]
fn a_layout_that_lacks_a_layer_is_found() {
    let temp = tempfile::tempdir().unwrap();
    let mut demo = demo();
    demo.content.blobs.remove(&demo.shared.digest);
    let report = check(&write_demo_layout(temp.path(), &demo)).unwrap();
    assert_eq!(kinds(&report), ["closure-missing"]);
    assert_eq!(finding(&report, "closure-missing").costs.len(), 2);
    assert_eq!(report.images_whole(), (1, 2));
    assert_eq!(report.resend.len(), 1);
}

#[test]
fn hostile_names_and_doubles_in_other_tars_are_found() {
    let temp = tempfile::tempdir().unwrap();
    let demo = demo();
    let path = temp.path().join("x.tar");
    for (name, expected) in [
        ("../evil", "hostile-path"),
        ("/etc/passwd", "hostile-path"),
        ("blobs/sha256/link", "hostile-path"),
        ("index.json", "entry-duplicate"),
        (demo.shared.digest.blob_path().as_str(), "entry-duplicate"),
    ] {
        let roots = [("tool:v1", demo.roots[1].1.clone())];
        write_layout_tar(&path, &demo.content, &roots, TarStyle::default());
        let bytes = fs::read(&path).unwrap();
        let mut tar = TarWriter::new(bytes[..bytes.len() - 1024].to_vec(), TarFormat::Ustar);
        match name {
            "blobs/sha256/link" => tar.symlink(name, "../../../etc/passwd"),
            name => tar.file(name, br#"{"schemaVersion":2,"manifests":[]}"#),
        }
        fs::write(&path, tar.finish()).unwrap();
        assert!(kinds(&check(&path).unwrap()).contains(&expected), "{name}");
    }
}

fn packed_folder(temp: &Path) -> (std::path::PathBuf, crate::bundles::Demo) {
    let demo = demo();
    let layout = write_demo_layout(temp, &demo);
    let folder = temp.join("site");
    pack_layout(&layout, &NAMES, pack_options(Output::Layout(folder.clone())));
    (folder, demo)
}

#[test]
fn a_packed_folder_is_verified_by_its_record() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, demo) = packed_folder(temp.path());
    let report = check(&folder).unwrap();
    assert!(report.is_clean() && report.form == Form::Bundle, "{:#?}", report.findings);
    assert_eq!(report.images_whole(), (2, 0));
    let blob = folder.join(demo.shared.digest.blob_path());
    let mut bytes = demo.shared.bytes.clone();
    bytes[7] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(kinds(&check(&folder).unwrap()), ["blob-damaged"]);
    fs::write(&blob, &bytes[1..]).unwrap();
    assert_eq!(kinds(&check(&folder).unwrap()), ["blob-damaged"]);
    fs::remove_file(&blob).unwrap();
    let report = check(&folder).unwrap();
    assert_eq!(kinds(&report), ["blob-missing"]);
    assert_eq!(report.resend.len(), 1);
    // What is no regular file is not read, and the rest is.
    fs::create_dir(&blob).unwrap();
    let report = check(&folder).unwrap();
    assert_eq!(kinds(&report), ["blob-unreadable"]);
    assert_eq!(report.counts.whole.count + 1, report.counts.checked.count);
    fs::remove_dir(&blob).unwrap();
    fs::write(&blob, &demo.shared.bytes).unwrap();
    fs::write(folder.join("blobs/sha256").join(Digest::sha256(b"stray").hex()), "stray").unwrap();
    assert_eq!(kinds(&check(&folder).unwrap()), ["entry-unlisted"]);
}

#[test]
fn gaps_and_failed_images_are_findings() {
    let temp = tempfile::tempdir().unwrap();
    let demo = demo();
    let layout = write_demo_layout(temp.path(), &demo);
    let own = demo.content.closure(&demo.roots[1].1)[2].clone();
    fs::remove_file(layout.join(own.digest.blob_path())).unwrap();
    let path = temp.path().join("partial.oci.tar");
    let mut options = pack_options(Output::Archive(path.clone()));
    options.keep_going = true;
    pack_layout(&layout, &NAMES, options);
    let report = check(&path).unwrap();
    assert_eq!(kinds(&report), ["gap", "failed-image"], "{:#?}", report.findings);
    assert_eq!(finding(&report, "gap").costs[0].image, NAMES[1]);
    assert_eq!(finding(&report, "failed-image").costs[0].image, NAMES[1]);
    assert_eq!(whole(&report), [(NAMES[0], true), (NAMES[1], false)]);
    assert_eq!(report.resend.iter().map(|resend| &resend.digest).collect::<Vec<_>>(), [&own.digest]);
}

#[test]
fn an_image_whose_signature_could_not_be_had_is_not_whole() {
    let temp = tempfile::tempdir().unwrap();
    let demo = demo();
    let layout = write_demo_layout(temp.path(), &demo);
    let payload = demo.content.closure(&demo.signature)[1].clone();
    fs::remove_file(layout.join(payload.digest.blob_path())).unwrap();
    let path = temp.path().join("partial.oci.tar");
    let mut options = pack_options(Output::Archive(path.clone()));
    options.keep_going = true;
    pack_layout(&layout, &NAMES, options);
    let report = check(&path).unwrap();
    assert_eq!(kinds(&report), ["gap", "failed-image"], "{:#?}", report.findings);
    assert_eq!(whole(&report), [(NAMES[0], false), (NAMES[1], true)]);
}

/// Layers are tar files too: where a header is lost, what stands in a layer is not taken for entries of the archive.
#[test]
fn the_inside_of_a_layer_is_not_taken_for_entries() {
    let temp = tempfile::tempdir().unwrap();
    let mut inner = TarWriter::new(Vec::new(), TarFormat::Pax);
    for name in ["a", "../evil", "/etc/passwd", "b"] {
        inner.file(name, b"x");
    }
    let mut content = Content::new();
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", inner.finish());
    let image = content.image("linux/amd64", std::slice::from_ref(&layer));
    let path = temp.path().join("x.tar");
    write_layout_tar(&path, &content, &[("v1", image)], TarStyle::default());
    let mut bytes = fs::read(&path).unwrap();
    let name = layer.digest.blob_path();
    let header = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    bytes[header] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let report = check(&path).unwrap();
    assert_eq!(kinds(&report), ["closure-missing", "tar-header-damaged"], "{:#?}", report.findings);
    assert_eq!(report.counts.missing.count, 1);
}

#[test]
fn what_is_no_bundle_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    assert!(matches!(check(temp.path()), Err(VerifyError::NoLayout { .. })));
    assert!(matches!(check(&temp.path().join("none.tar")), Err(VerifyError::Store(_))));
    let gzip = temp.path().join("x.tar.gz");
    fs::write(&gzip, crate::support::images::gzip(b"x")).unwrap();
    assert!(matches!(check(&gzip), Err(VerifyError::Store(_))));
}

#[test]
fn the_report_is_the_same_whatever_the_number_of_jobs() {
    let packed = packed();
    let mut bytes = packed.bytes.clone();
    for digest in [&packed.demo.shared.digest, &packed.demo.signature.digest] {
        bytes[packed.offset(digest) as usize] ^= 1;
    }
    fs::write(&packed.path, &bytes).unwrap();
    let report = |jobs| {
        let options = Options { jobs, ..Options::default() };
        serde_json::to_string(&verify(&packed.path, &options, &Seen::default()).unwrap()).unwrap()
    };
    assert_eq!(report(1), report(7));
}

#[test]
fn the_golden_bundles_are_as_they_should_be() {
    let golden = crate::support::fixtures::directory().join("golden");
    let report = check(&golden.join("site.oci.tar")).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    let report = check(&golden.join("site-gap.oci.tar")).unwrap();
    assert_eq!(kinds(&report), ["gap", "failed-image"], "{:#?}", report.findings);
}
