//! What an image may be made of, and what is refused.

use barge::bundle::table::Role;
use barge::oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use barge::oci::{Descriptor, Digest};
use barge::select::Reason;
use serde_json::{Value, json};

use super::{Packed, listing, pack, temp};
use crate::support::archives::write_layout;
use crate::support::barge::Outcome;
use crate::support::hostile::{Action, Fault, Hostile, Response};
use crate::support::images::{Blob, Content, descriptor_json, layer, sha512};

/// Packs `app:v1` of a registry that has `root` of `content`.
fn packed(content: &Content, root: &Descriptor, args: &[&str]) -> (Outcome, Packed) {
    let hostile = Hostile::honest();
    hostile.seed("app", content, root, Some("v1"));
    let temp = temp();
    let path = temp.path().join("out.tar");
    let outcome = pack(&path, [format!("{}/app:v1", hostile.host())]).args(args).run().success();
    (outcome, Packed::open(&path))
}

/// The same where it must fail, leaving nothing.
fn refused(content: &Content, root: &Descriptor) -> Outcome {
    let hostile = Hostile::honest();
    hostile.seed("app", content, root, Some("v1"));
    let temp = temp();
    let outcome = pack(&temp.path().join("out.tar"), [format!("{}/app:v1", hostile.host())]).run();
    assert_eq!(listing(temp.path()), Vec::<String>::new(), "{outcome}");
    outcome
}

#[test]
fn nested_indexes_docker_lists_and_entries_that_are_no_manifests() {
    let mut content = Content::new();
    let images = ["linux/amd64", "linux/arm64"].map(|p| content.docker_image(p, &[layer(1, 900)]));
    let list = content.docker_index(&images);
    let inner = content.index(&[list, images[0].clone()]);
    let cache = content.blob(&Blob::new("application/x-cache", "opaque"));
    let empty = content.blob(&Blob::new("application/x-empty", ""));
    let index = content.index(&[inner, cache.clone(), empty.clone()]);
    let (_, packed) = packed(&content, &index, &[]);
    packed.has_all(&content, &index);
    assert_eq!(packed.role(&cache.digest), Some(Role::Opaque));
    assert_eq!(packed.blob(&empty.digest), Some(&Vec::new()));
    assert_eq!(packed.record().blobs.len(), content.blobs.len());
}

#[test]
fn artifacts_of_any_shape() {
    let mut content = Content::new();
    let null = content.null_layers();
    let none = content.image("linux/amd64", &[]);
    let nothing = content.blob(&Blob::new("application/x-nothing", ""));
    let chart = Blob::new("application/vnd.cncf.helm.config.v1+json", "{\"name\":\"x\"}");
    let chart = descriptor_json(&content.blob(&chart));
    let helm = content.manifest(
        OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": chart,
            "layers": [descriptor_json(&nothing), descriptor_json(&nothing)],
        }),
    );
    let mut inline = nothing.clone();
    inline.media_type = "application/vnd.oci.empty.v1+json".to_owned();
    inline.digest = Digest::sha256(b"{}");
    inline.size = 2;
    inline.data = Some("e30=".to_owned());
    content.blob(&Blob::new("application/vnd.oci.empty.v1+json", "{}"));
    let with_data = content.manifest(
        OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x-thing",
            "config": descriptor_json(&inline), "layers": [descriptor_json(&inline)],
        }),
    );
    let index = content.index(&[null, none, helm, with_data]);
    let (_, packed) = packed(&content, &index, &[]);
    packed.has_all(&content, &index);
}

#[test]
fn content_named_by_sha512_goes_round() {
    let temp = temp();
    let mut content = Content::new();
    let by_512 = layer(4, 5000).by_sha512();
    let image = content.image("linux/amd64", &[layer(3, 400), by_512.clone()]);
    let image = content.manifest_by_sha512(&image);
    write_layout(&temp.path().join("in"), &content, &[("r.example/a:v1", image.clone())]);
    let (tar, again) = (temp.path().join("a.tar"), temp.path().join("again.tar"));
    pack(&tar, [format!("oci:{}", temp.path().join("in").display())]).run().success();
    let packed = Packed::open(&tar);
    packed.has_all(&content, &image);
    assert_eq!(packed.blob(&sha512(&by_512.bytes)), Some(&by_512.bytes));
    let out = format!("oci:{}", temp.path().join("out").display());
    pack(out.as_ref(), [&tar]).run().success();
    pack(&again, [temp.path().join("out")]).run().success();
    assert!(std::fs::read(&tar).unwrap() == std::fs::read(&again).unwrap());
    // Registries can hold such blobs below a manifest of the usual kind.
    let (_, from_registry) = self::packed(&content, &image, &[]);
    from_registry.has_all(&content, &image);
}

#[test]
fn foreign_layers_are_left_out_and_said() {
    let mut content = Content::new();
    let (foreign, own) = (layer(1, 4000), layer(2, 400));
    let image = content.foreign_image(&foreign, "https://vendor.example/layer", true, &own);
    let (outcome, out) = packed(&content, &image, &[]);
    outcome
        .stderr_has("non-distributable")
        .stderr_has("--foreign-layers")
        .stderr_has(&foreign.digest.to_string());
    assert_eq!(out.absent(&foreign.digest), Some(Reason::Foreign));
    assert_eq!(out.blob(&foreign.digest), None);
    assert!(out.blob(&own.digest).is_some());
    // An image that is not whole can't be loaded.
    assert!(!out.entries.contains_key("manifest.json"));
    let (outcome, out) = packed(&content, &image, &["--foreign-layers"]);
    outcome.never_says("non-distributable");
    out.has_all(&content, &image);
    assert!(out.record().absent.is_empty());
}

#[test]
fn what_the_source_lists_and_does_not_have_is_absent_and_said() {
    let mut content = Content::new();
    let here = content.image("linux/amd64", &[layer(1, 900)]);
    let gone = content.image("linux/arm64", &[layer(2, 900)]);
    let nested_gone = content.image("linux/s390x", &[layer(3, 900)]);
    let nested = content.index(std::slice::from_ref(&nested_gone));
    let index = content.index(&[here.clone(), gone.clone(), nested.clone()]);
    content.blobs.remove(&gone.digest);
    content.blobs.remove(&nested_gone.digest);
    let (outcome, packed) = packed(&content, &index, &[]);
    outcome
        .stderr_has("the source")
        .stderr_has(&gone.digest.to_string())
        .stderr_has(&nested_gone.digest.to_string());
    packed.has_all(&content, &here);
    for digest in [&gone.digest, &nested_gone.digest] {
        assert_eq!(packed.absent(digest), Some(Reason::Source));
        assert_eq!(packed.role(digest), None);
    }
    assert_eq!(packed.role(&nested.digest), Some(Role::Index));
    let row = packed.record().absent.find(&gone.digest).unwrap();
    assert_eq!(row.platform.map(|platform| platform.to_string()).as_deref(), Some("linux/arm64"));
}

#[test]
fn schema_1_is_refused_with_the_reason() {
    let mut content = Content::new();
    let old = content.schema1(&layer(1, 300));
    refused(&content, &old).code(3).stderr_has("schema 1").stderr_has(&old.digest.to_string());
    let index = content.index(&[old]);
    refused(&content, &index).code(3).stderr_has("schema 1");
}

#[test]
fn manifests_that_are_not_what_their_digest_says_are_refused_by_name() {
    // An index that lists itself can only be a lie.
    let mut content = Content::new();
    let own = Digest::sha256(b"the index itself");
    let listed = Descriptor::new(OCI_INDEX, own.clone(), 10);
    let document =
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor_json(&listed)] });
    let looped = content.lie(&own, OCI_INDEX, serde_json::to_vec(&document).unwrap());
    refused(&content, &looped).code(3).stderr_has(&own.to_string());

    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 300)]);
    let index = content.index(std::slice::from_ref(&image));
    let mut bytes = content.blobs[&image.digest].clone();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    content.lie(&image.digest, OCI_MANIFEST, bytes);
    refused(&content, &index).code(3).stderr_has(&image.digest.to_string());

    // The announced size is wrong.
    let mut content = Content::new();
    let mut image = content.image("linux/amd64", &[layer(1, 300)]);
    image.size += 1;
    let index = content.index(std::slice::from_ref(&image));
    refused(&content, &index).code(3).stderr_has(&image.digest.to_string());
}

#[test]
fn bombs_are_refused() {
    let mut content = Content::new();
    let filler = "x".repeat(4 * 1024 * 1024);
    let large =
        content.manifest(OCI_INDEX, &json!({ "schemaVersion": 2, "manifests": [], "filler": filler }));
    refused(&content, &large).code(3).stderr_has("at most 4194304");
    // The limit is for what is read, whatever was announced.
    let mut small = large.clone();
    small.size = 500;
    let index = content.index(&[small]);
    refused(&content, &index).code(3).stderr_has(&large.digest.to_string());

    // Nested where nobody looks it is only bytes; where a list of children belongs it is none.
    let hostile = Hostile::honest();
    let image = content.image("linux/amd64", &[]);
    hostile.seed("app", &content, &image, Some("v1"));
    for (field, code) in [("unknown", 0), ("manifests", 3)] {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        let deep = format!("{{\"schemaVersion\":2,\"{field}\":{open}{close}}}");
        let answer = Response::new(200).with("Content-Type", OCI_INDEX).body(deep);
        hostile.clear_faults();
        hostile.fault(Fault::on("GET|HEAD", "/manifests/", Action::Respond(answer)));
        let temp = temp();
        let path = temp.path().join("out.tar");
        let outcome = pack(&path, [format!("{}/app:v1", hostile.host())]).run().code(code);
        assert!(code == 0 || outcome.stderr.contains("can't be used"), "{outcome}");
    }

    // Twenty indexes one in the other are more than any image needs.
    let mut content = Content::new();
    let mut root = content.image("linux/amd64", &[]);
    for _ in 0..20 {
        root = content.index(&[root]);
    }
    refused(&content, &root).code(3).stderr_has("nested deeper");
}

#[test]
fn one_digest_has_one_size() {
    let mut content = Content::new();
    let shared = layer(1, 5000);
    let image = content.image("linux/amd64", std::slice::from_ref(&shared));
    let mut document: Value = serde_json::from_slice(&content.blobs[&image.digest]).unwrap();
    document["layers"][0]["size"] = json!(4999);
    let liar = content.manifest(OCI_MANIFEST, &document);
    let index = content.index(&[image, liar]);
    refused(&content, &index)
        .code(3)
        .stderr_has(&shared.digest.to_string())
        .stderr_has("4999")
        .stderr_has(&shared.bytes.len().to_string());
}

#[test]
fn a_manifest_that_is_a_layer_elsewhere_brings_its_own_content_all_the_same() {
    let mut content = Content::new();
    let inner = content.image("linux/amd64", &[layer(1, 700)]);
    // Its bytes as the layer of an artifact that comes first.
    let carrier = content.manifest(
        OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor_json(&content.clone().blob(&Blob::new("application/x-c", "{}"))),
            "layers": [descriptor_json(&Descriptor::new("application/x-doc", inner.digest.clone(), inner.size))],
        }),
    );
    content.blob(&Blob::new("application/x-c", "{}"));
    let index = content.index(&[carrier, inner]);
    let (_, packed) = packed(&content, &index, &[]);
    packed.has_all(&content, &index);
}

#[test]
fn what_one_repository_lacks_another_may_have() {
    let mut content = Content::new();
    let here = content.image("linux/amd64", &[layer(1, 900)]);
    let elsewhere = content.image("linux/arm64", &[layer(2, 900)]);
    let index = content.index(&[here, elsewhere.clone()]);
    let hostile = Hostile::honest();
    hostile.seed("b", &content, &index, Some("v1"));
    let mut sparse = content.clone();
    sparse.blobs.remove(&elsewhere.digest);
    hostile.seed("a", &sparse, &index, Some("v1"));
    hostile.seed("c", &sparse, &index, Some("v1"));
    let temp = temp();
    let names = ["a", "b", "c"].map(|name| format!("{}/{name}:v1", hostile.host()));
    let mut files = Vec::new();
    for (at, order) in [[0, 1, 2], [1, 2, 0], [2, 1, 0]].into_iter().enumerate() {
        let path = temp.path().join(format!("{at}.tar"));
        let outcome = pack(&path, order.map(|at| &names[at])).args(["--jobs", "1"]).run().success();
        outcome.never_says("does not have it");
        let packed = Packed::open(&path);
        packed.has_all(&content, &index);
        assert!(packed.record().absent.is_empty());
        files.push(std::fs::read(path).unwrap());
    }
    assert!(files[0] == files[1] && files[1] == files[2]);
}
