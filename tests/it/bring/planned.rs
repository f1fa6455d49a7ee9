//! Plans of what consists of several images: releases, charts and catalogs.

use barge::bundle::Bundle;
use barge::graph::Part;
use barge::oci::Digest;
use serde_json::{Value, json};

use super::Scene;
use super::charts::{chart, release};
use super::parts::{FILTERED, Operators};
use crate::releases::Signer;
use crate::support::barge::Outcome;

fn plan(scene: &Scene, format: &str, args: &[&str]) -> Outcome {
    scene.barge(&["plan", "--to", "reg.test/m", "--format", format]).args(args).run()
}

/// The image of a plan that has this name at the target.
fn image<'a>(document: &'a Value, target: &str) -> &'a Value {
    let images = document["images"].as_array().unwrap();
    images.iter().find(|image| image["target"] == target).unwrap_or_else(|| panic!("{target} in {document}"))
}

#[test]
fn a_release_is_planned_with_its_own_image_from_where_it_is() {
    let scene = Scene::new();
    let root = release(&scene);
    let signer = Signer::new();
    let signature = signer.sign(&root.digest, "signature", &[]);
    let host = scene.a.host();
    let name = format!("{host}/ocp/release:4.18.1-x86_64");
    let args = ["--release", &name, "--release-signature", signature.to_str().unwrap()];
    let source = format!("{host}/ocp/release@{}", root.digest);
    let to = "reg.test/m/openshift/release-images:4.18.1-x86_64";
    for (format, text) in [
        ("mapping", format!("{source}={to}\n")),
        ("skopeo", format!("docker://{source} docker://{to}\n")),
        ("regsync", format!("  - source: \"{source}\"\n    target: \"{to}\"\n")),
    ] {
        let done = plan(&scene, format, &args).success().stdout_has(&text);
        let done = done.stderr_has("left out: barge attaches it itself").stderr_has("3 images and 0 attach");
        assert!(done.stdout.contains("release:4.18.1-x86_64-app"), "{done}");
        // What is not asked for is not told.
        plan(&scene, format, &args[..2]).success().stdout_has(&text).never_says("left out");
    }
    // A signature that was given travels with signatures alone, and is never dropped in silence.
    let pack = |attachments: &str, file: &str| {
        let flags = ["--attachments", attachments, "-o", file];
        scene.barge(&["pack"]).args(args).args(flags).run()
    };
    for (attachments, file) in [("signatures", "signed.oci.tar"), ("all", "all.oci.tar")] {
        pack(attachments, file).success();
        let bundle = Bundle::open(&scene.path(file)).unwrap();
        let images = &bundle.record().unwrap().images;
        let image = images.iter().find(|image| image.root == root.digest).unwrap();
        assert_eq!(image.attached.len(), 1, "{attachments}");
    }
    pack("none", "x.oci.tar").code(2).stderr_has("a release's signature is given");
    let document = plan(&scene, "json", &args).success().json();
    let image = image(&document, "reg.test/m/openshift/release-images");
    assert_eq!(image["source"], json!({ "kind": "registry", "repository": format!("{host}/ocp/release") }));
    assert_eq!(image["attached"][0]["source"], json!({ "kind": "made" }), "{image}");
}

#[test]
fn a_chart_of_a_registry_is_planned_and_one_of_a_file_is_told() {
    let scene = Scene::new();
    std::fs::write(scene.path("two.tgz"), chart("two", None)).unwrap();
    scene.file(
        "wanted.yaml",
        "apiVersion: barge/v1\ncharts:\n  - chart: ./two.tgz\n    name: '{A}/shop/two:9'\n",
    );
    scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    scene.barge(&["push", "site.oci.tar", scene.b.host()]).run().success();
    let root = Digest::sha256(&scene.b.client().manifest("shop/two", "9").unwrap());
    let chart = format!("oci://{}/shop/two:9", scene.b.host());
    let line = format!("{}/shop/two@{root}=reg.test/m/shop/two:9\n", scene.b.host());
    plan(&scene, "mapping", &["--chart", &chart]).success().stdout_has(&line);
    let told = plan(&scene, "mapping", &["-f", "wanted.yaml"]).code(3);
    told.stderr_has("none of the images can be said as a mapping").stderr_has("shop/two:9");
}

#[test]
fn a_rebuilt_catalog_is_at_no_source() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    let (_, index) = operators.catalog(&scene);
    scene.file("wanted.yaml", &FILTERED.replace("    packages", "    rebuildCatalog: true\n    packages"));
    scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
    let images = &bundle.record().unwrap().images;
    let catalog = images.iter().find(|image| image.part == Part::Catalog).unwrap();
    let old = format!("{}/ns/index:v1@{}", scene.a.host(), index.digest);
    assert_eq!(catalog.reference.as_ref().unwrap().to_string(), old);
    assert_ne!(catalog.root, index.digest);
    // Neither as it is made, nor from the bundle, is there a line that no registry could answer.
    for input in [&["-f", "wanted.yaml"][..], &["./site.oci.tar"]] {
        for format in ["mapping", "regsync"] {
            let done = plan(&scene, format, input).code(1).stderr_has("left out: ").stderr_has("ns/index:v1");
            assert!(!done.stdout.contains("ns/index"), "{done}");
            assert!(done.stdout.contains("ops/run"), "{done}");
        }
    }
    let document = plan(&scene, "json", &["-f", "wanted.yaml"]).success().json();
    assert_eq!(image(&document, "reg.test/m/ns/index")["source"], json!({ "kind": "made" }));
}

#[test]
fn clusters_learn_both_digests_of_a_rebuilt_catalog() {
    let scene = Scene::new();
    let operators = Operators::at(&scene);
    let (_, index) = operators.catalog(&scene);
    scene.file("wanted.yaml", &FILTERED.replace("    packages", "    rebuildCatalog: true\n    packages"));
    scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
    let images = &bundle.record().unwrap().images;
    let new = &images.iter().find(|image| image.part == Part::Catalog).unwrap().root;
    let (from, to) = (format!("{}/ns/index", scene.a.host()), format!("{}/ns/index", scene.b.host()));
    scene.barge(&["push", "site.oci.tar", scene.b.host(), "--receipt", "receipt.json"]).run().success();
    for papers in [&["site.oci.tar", "--registry", scene.b.host()][..], &["receipt.json"]] {
        let _ = std::fs::remove_dir_all(scene.path("out"));
        let done = scene.barge(&["resources", "-o", "out"]).args(papers).run().success();
        done.stderr_has("has another digest at the mirror")
            .stderr_has(&format!("{from}@{} is {new} now", index.digest));
        let rows = std::fs::read_to_string(scene.path("out/images.txt")).unwrap();
        assert!(rows.contains(&format!("{from}@{}\t{to}@{new}\n", index.digest)), "{rows}");
        assert!(!rows.contains(&format!("{from}@{new}")), "{rows}");
    }
}
