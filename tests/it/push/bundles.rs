//! Several bundles as one source, damaged ones, and such that rely on what the target has.

use barge::oci::Digest;

use super::{Packed, assert_tag, assert_whole, pack, shop};
use crate::support::barge::barge;
use crate::support::hostile::Hostile;
use crate::support::images::{Content, layer};

#[test]
fn several_bundles_are_one_source_in_any_order() {
    let shop = shop();
    let from = Hostile::honest();
    shop.fill(from.host());
    let app = pack(&[&format!("{}/team/app:v1", from.host())], &[]);
    let tool = pack(&[&format!("{}/team/tool:v1", from.host())], &[]);
    from.forget_requests();
    for (first, second) in [(&app, &tool), (&tool, &app)] {
        let to = Hostile::honest();
        barge(["push", first.path(), second.path(), to.host()]).run().success();
        for (repository, root) in [("team/app", &shop.app), ("team/tool", &shop.tool)] {
            assert_whole(to.host(), repository, &shop.content, root);
            assert_tag(to.host(), repository, "v1", &shop.content, root);
        }
    }
    assert!(from.requests().is_empty(), "a push of bundles asked the source: {}", from.transcript());
}

/// Flips a byte in the middle of a blob of a bundle.
fn flip(bundle: &Packed, digest: &Digest) {
    let opened = barge::bundle::Bundle::open(&bundle.path).unwrap();
    let (_, row) = opened.record().unwrap().blobs.find(digest).unwrap();
    let at = (opened.archive().unwrap().head_length + row.offset + row.size / 2) as usize;
    let mut bytes = std::fs::read(&bundle.path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&bundle.path, bytes).unwrap();
}

#[test]
fn damage_is_named_and_never_reaches_the_target() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let damaged = layer(4, 900).digest;
    flip(&bundle, &damaged);
    let to = Hostile::honest();
    // What the tag of the damaged image names before.
    to.seed("team/tool", &shop.content, &shop.amd64, Some("v1"));
    let failed = bundle.push(to.host(), &[]).code(3);
    assert!(failed.stderr.contains("team/tool:v1 needs"), "{failed}");
    assert!(failed.stderr.contains(&damaged.to_string()), "{failed}");
    assert!(to.requests_on("PUT", "/manifests/").is_empty(), "{}", to.transcript());
    assert!(!to.has_blob("team/tool", &damaged));

    let some = bundle.push(to.host(), &["--keep-going"]).code(1).stdout_has("PARTIAL");
    assert!(some.stderr.contains(&damaged.to_string()), "{some}");
    assert_tag(to.host(), "team/app", "v1", &shop.content, &shop.app);
    assert_whole(to.host(), "team/app", &shop.content, &shop.app);
    assert_eq!(to.tags("team/tool")["v1"], shop.amd64.digest);
    assert!(!to.has_blob("team/tool", &damaged));
    let completed = to.requests_on("PUT", "/blobs/uploads/").into_iter().filter(|put| {
        put.head.query.contains(&damaged.hex()) && put.status.is_some_and(|status| status < 300)
    });
    assert_eq!(completed.count(), 0, "{}", to.transcript());
}

/// A layout of an image that lacks its second layer, and the image's content.
fn incomplete() -> (tempfile::TempDir, Content, barge::oci::Descriptor, Digest) {
    let mut content = Content::new();
    let lacking = layer(2, 900);
    let image = content.image("linux/amd64", &[layer(1, 500), lacking.clone()]);
    let folder = tempfile::tempdir().unwrap();
    let name = "registry.example/team/app:v1";
    crate::support::archives::write_layout(folder.path(), &content, &[(name, image.clone())]);
    std::fs::remove_file(folder.path().join(lacking.digest.blob_path())).unwrap();
    (folder, content, image, lacking.digest)
}

#[test]
fn what_the_bundle_lacks_is_taken_from_the_target() {
    let (folder, content, image, lacking) = incomplete();
    let bundle = format!("oci:{}", folder.path().display());
    let to = Hostile::honest();
    let failed = barge(["push", &bundle, to.host()]).run().code(5);
    assert!(failed.stderr.contains(&lacking.to_string()), "{failed}");
    assert!(to.writes().is_empty(), "{}", to.transcript());
    to.seed("team/app", &content, &image, Some("old"));
    barge(["push", &bundle, to.host()]).run().success();
    assert_tag(to.host(), "team/app", "v1", &content, &image);
    let uploads = to.requests_on("POST", "/blobs/uploads/");
    assert!(uploads.is_empty(), "{}", to.transcript());
}
