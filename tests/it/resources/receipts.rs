//! What receipts of real pushes give: only what is in place, and with the digests that it has now.

use barge::graph::Part;
use barge::inventory::Inventory;
use barge::oci::{Descriptor, Digest};
use serde_json::Value;

use super::{Cargo, Place};
use crate::support::barge::{Outcome, barge};
use crate::support::client::Client;
use crate::support::hostile::{Config, Hostile, SparsePolicy};
use crate::support::images::layer;
use crate::support::peers::{RealRegistry, push_content};

/// A bundle with one platform of an index, by tag and by digest, and a whole image; the index.
fn sparse(place: &Place) -> (Descriptor, String) {
    let mut cargo = Cargo::default();
    let amd64 = cargo.content.image("linux/amd64", &[layer(1, 300)]);
    let arm64 = cargo.content.image("linux/arm64", &[layer(2, 300)]);
    let index = cargo.content.index(&[amd64, arm64]);
    let tool = cargo.content.image("linux/amd64", &[layer(3, 300)]);
    let source = Hostile::honest();
    push_content(source.host(), "team/app", &cargo.content, &index, Some("v1"));
    push_content(source.host(), "team/tool", &cargo.content, &tool, Some("v1"));
    let host = source.host().to_owned();
    let names = [
        format!("{host}/team/app:v1"),
        format!("{host}/pinned/app:v1={host}/team/app@{}", index.digest),
        format!("{host}/team/tool:v1"),
    ];
    barge(["pack", "-o", "site.barge", "--platform", "linux/amd64"])
        .args(names)
        .dir(place.0.path())
        .run()
        .success();
    (index, host)
}

fn push(place: &Place, to: &str, more: &[&str]) -> Outcome {
    barge(["push", "site.barge", to, "--receipt", "receipt.json"]).args(more).dir(place.0.path()).run()
}

#[test]
fn a_digest_that_a_real_registry_made_necessary_stands_as_it_is_now() {
    let place = Place::new();
    let (index, host) = sparse(&place);
    // The bundle alone can't know.
    let alone = place.resources(&["site.barge", "--registry", "m.example"]).success();
    alone
        .stderr_has("left platforms out: if its push had --sparse rewrite or single")
        .stderr_has("site.barge");
    for policy in ["rewrite", "single"] {
        let real = RealRegistry::start();
        let _ = std::fs::remove_file(place.path("receipt.json"));
        let _ = std::fs::remove_dir_all(place.path("out"));
        push(&place, &format!("{}/site", real.host()), &["--sparse", policy]).success();
        let new = Digest::sha256(&Client::plain(real.host()).manifest("site/team/app", "v1").unwrap());
        assert_ne!(new, index.digest);
        // A cluster may know the mirror by another name than who pushed.
        for (mirror, more) in
            [(real.host(), &[][..]), ("mirror.example:5000", &["--registry", "mirror.example:5000"])]
        {
            let done =
                place.resources(&[&["receipt.json"], more].concat()).success().stdout_has("for 3 images");
            let done = done.stderr_has("has another digest at the mirror");
            assert!(
                done.stderr.contains(&format!("{host}/team/app@{} is {new} now", index.digest)),
                "{done}"
            );
            let files = place.files("out");
            let rows: Vec<String> = [
                format!("{host}/team/app:v1\t{mirror}/site/team/app:v1"),
                format!("{host}/team/app@{}\t{mirror}/site/pinned/app@{new}", index.digest),
                format!("{host}/team/app@{}\t{mirror}/site/team/app@{new}", index.digest),
                format!("{host}/team/tool:v1\t{mirror}/site/team/tool:v1"),
            ]
            .into();
            let list: Vec<&str> = files["images.txt"].lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(list, rows, "{policy}");
            // By digest only the image that is what it was can be pulled; by tag all that have one.
            let sources = |file: &str, field: &str| -> Vec<String> {
                let value: Value = serde_saphyr::from_str(&files[file]).unwrap();
                let list = value["spec"][field].as_array().unwrap().clone();
                list.iter().map(|entry| entry["source"].as_str().unwrap().to_owned()).collect()
            };
            assert_eq!(sources("idms-generic-0.yaml", "imageDigestMirrors"), [format!("{host}/team")]);
            // One of its two names is another path: so both of its mirrors are listed for the repository itself.
            assert_eq!(
                sources("itms-generic-0.yaml", "imageTagMirrors"),
                [format!("{host}/team"), format!("{host}/team/app")]
            );
            let conf = &files["registries.conf.d/50-barge.conf"];
            let app = conf.split("[[registry]]").find(|part| part.contains("team/app\"")).unwrap();
            assert!(app.contains("pull-from-mirror = \"tag-only\""), "{conf}");
            assert!(!app.contains("pinned"), "{conf}");
            let tool = conf.split("[[registry]]").find(|part| part.contains("team/tool\"")).unwrap();
            assert!(!tool.contains("pull-from-mirror"), "{conf}");
        }
    }
}

#[test]
fn what_was_refused_or_failed_is_left_out_and_said() {
    let place = Place::new();
    let (_, host) = sparse(&place);
    let to = Hostile::start(Config { sparse: SparsePolicy::RefuseLikeV2, ..Config::default() });
    push(&place, to.host(), &[]).code(1);
    let partial =
        place.resources(&["receipt.json"]).code(1).stdout_has("PARTIAL: ").stdout_has("for 1 image ");
    assert!(partial.stderr.contains("not at the mirror, and so in none of the files (2)"), "{partial}");
    assert!(partial.stderr.contains(&format!("{host}/team/app:v1: ")), "{partial}");
    let files = place.files("out");
    assert!(files.values().all(|text| !text.contains("team/app")), "{files:#?}");
    // A later push that put it in place makes up for it, whatever the order in which the receipts are named.
    std::fs::rename(place.path("receipt.json"), place.path("first.json")).unwrap();
    push(&place, to.host(), &["--sparse", "rewrite"]).success();
    for papers in [["first.json", "receipt.json"], ["receipt.json", "first.json"]] {
        place.resources(&papers).success().stdout_has("for 3 images");
    }
    // A bundle that the receipt is about adds nothing that is not in place, and needs no registry.
    place.resources(&["first.json", "site.barge"]).code(1).stdout_has("for 1 image ");
    // Nothing at all in place.
    let mut receipt = Inventory::read(&place.path("first.json")).unwrap();
    receipt.outcomes.retain(|row| row.outcome == "refused");
    receipt.write(std::fs::File::create(place.path("none.json")).unwrap(), false).unwrap();
    place.resources(&["none.json"]).code(3).stderr_has("no image is at the mirror");
}

#[test]
fn signatures_come_from_the_bundle_beside_the_receipt() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    let root = cargo.image(
        Part::Release,
        "q.test/openshift/release-images:4.18.1",
        "q.test/dev/ocp-release:4.18.1",
        1,
    );
    cargo.sign(&root, b"signed");
    cargo.pack(&place.path("site.barge"));
    let to = Hostile::honest();
    push(&place, &format!("{}/ocp", to.host()), &[]).success();
    let alone = place.resources(&["receipt.json"]).success();
    alone
        .stderr_has("its signatures are in the bundle, which was not given")
        .stdout_has("next: oc apply -f out");
    place.resources(&["receipt.json", "site.barge"]).success().never_says("signatures are in the bundle");
    let map: Value = serde_saphyr::from_str(&place.files("out")["signature-configmap.yaml"]).unwrap();
    // "signed" in base64.
    assert_eq!(map["binaryData"][format!("sha256-{}-1", root.digest.hex())], "c2lnbmVk");
    assert_eq!(map["binaryData"].as_object().unwrap().len(), 1);
    let idms = &place.files("out")["idms-release-0.yaml"];
    assert!(idms.contains("source: q.test/dev/ocp-release\n"), "{idms}");
    // A release without a signature: the cluster will not update to it.
    cargo.attached.clear();
    cargo.pack(&place.path("unsigned.barge"));
    let said = place.resources(&["unsigned.barge", "--registry", "m.example"]).success();
    said.stderr_has("has no signature with it");
}
