//! Charts and releases: they bring the images that they name.

use std::collections::BTreeSet;
use std::path::Path;

use barge::bundle::Bundle;
use barge::graph::Part;
use barge::oci::Descriptor;
use serde_json::json;

use super::parts::{labelled, parts};
use super::{Scene, everything, expected as meant};
use crate::support::images::{Content, gzip, layer_of, tar_of};
use crate::support::peers::{RealRegistry, command, run};

/// A packaged chart.
pub(super) fn chart(name: &str, image: Option<&str>) -> Vec<u8> {
    let annotations = image.map_or(String::new(), |image| {
        format!("annotations:\n  artifacthub.io/images: |\n    - name: it\n      image: {image}\n")
    });
    let metadata = format!("apiVersion: v2\nname: {name}\nversion: 1.2.3\n{annotations}");
    gzip(&tar_of(&[
        (&format!("{name}/Chart.yaml"), metadata.as_bytes()),
        (&format!("{name}/values.yaml"), b"a: 1\n"),
    ]))
}

#[test]
fn charts_bring_the_images_that_they_are_known_to_need() {
    let scene = Scene::new();
    let host = scene.a.host();
    std::fs::write(scene.path("one.tgz"), chart("one", Some(&format!("{host}/team/app:v1")))).unwrap();
    std::fs::write(scene.path("two.tgz"), chart("two", None)).unwrap();
    scene.file("list.txt", "{A}/team/tool:v1.0.0\n");
    scene.file(
        "wanted.yaml",
        "apiVersion: barge/v1\ncharts:\n  - ./one.tgz\n  - chart: ./two.tgz\n    name: '{A}/shop/two:9'\n",
    );
    let told = scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    told.stderr_has("chart two 1.2.3 travels without images").stderr_has("--chart-images FILE");
    scene.barge(&["push", "site.oci.tar", scene.b.host()]).run().success();
    let found: Vec<String> = everything(&scene.b).into_keys().collect();
    assert_eq!(found, ["charts/one:1.2.3", "shop/two:9", "team/app:v1"]);
    assert_eq!(everything(&scene.b)["team/app:v1"], scene.index.digest);
    let parts = parts(&scene, "site.oci.tar");
    assert_eq!(
        parts.iter().map(|(_, part)| *part).collect::<Vec<_>>(),
        [Part::Chart, Part::Image, Part::Chart]
    );
    // A chart at a registry is carried as it is there, and a list says what it needs.
    let chart = format!("oci://{}/shop/two:9", scene.b.host());
    let pack = ["pack", "--chart", &chart, "--chart-images", "list.txt", "-o", "two.oci.tar"];
    let told = scene.barge(&pack).run().success();
    assert!(!told.stderr.contains("without images"), "{told}");
    let other = RealRegistry::start();
    scene.barge(&["push", "two.oci.tar", other.host()]).run().success();
    assert_eq!(everything(&other)["shop/two:9"], everything(&scene.b)["shop/two:9"]);
    assert_eq!(everything(&other).into_keys().collect::<Vec<_>>(), ["shop/two:9", "team/tool:v1.0.0"]);
    scene
        .barge(&["pack", "--chart-images", "list.txt", "-o", "x.tar"])
        .run()
        .code(2)
        .stderr_has("none is named");
    scene.barge(&["pack", "--chart", "https://x.example/one", "-o", "x.tar"]).run().code(2);
    let broken = scene.barge(&["pack", "--chart", "list.txt", "-o", "x.tar"]).run().code(3);
    broken.stderr_has("list.txt");
}

#[test]
fn a_file_alone_runs_no_templates() {
    let scene = Scene::new();
    std::fs::write(scene.path("one.tgz"), chart("one", None)).unwrap();
    std::fs::create_dir(scene.path("bin")).unwrap();
    let helm = format!(
        "#!/bin/sh\ntouch {}\necho 'kind: Pod'\necho 'spec: {{containers: [{{image: {}/team/app:v1}}]}}'\n",
        scene.path("ran").display(),
        scene.a.host()
    );
    // Another process writes it: one that is open for writing can't be run.
    let write = "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    run(command("sh").args(["-c", write, "sh", &helm]).arg(scene.path("bin/helm")));
    scene.file("wanted.yaml", "apiVersion: barge/v1\ncharts:\n  - {chart: ./one.tgz, render: true}\n");
    let path = format!("{}:/usr/bin:/bin", scene.path("bin").display());
    let pack = |name: &str| scene.barge(&["pack", "-f", "wanted.yaml", "-o", name]).env("PATH", &path);
    let told = pack("none.oci.tar").run().success();
    told.stderr_has("wanted.yaml:3 asks for rendering; say --render-charts to run `helm template`");
    assert!(!scene.path("ran").exists());
    let told = pack("all.oci.tar").args(["--render-charts"]).run().success();
    assert!(scene.path("ran").exists() && !told.stderr.contains("asks for rendering"), "{told}");
    assert_eq!((parts(&scene, "none.oci.tar").len(), parts(&scene, "all.oci.tar").len()), (1, 2));
}

/// Puts a release of two components into the first registry; the second is `team/app`.
pub(super) fn release(scene: &Scene) -> Descriptor {
    let host = scene.a.host();
    let tags = [
        ("app", format!("{host}/team/app@{}", scene.index.digest)),
        ("tool", format!("{host}/team/tool@{}", scene.tools["v1.0.0"].digest)),
    ]
    .map(|(name, from)| json!({ "name": name, "from": { "kind": "DockerImage", "name": from } }));
    let list = json!({ "kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": { "name": "4.18.1" },
        "spec": { "tags": tags } });
    let files = layer_of(&[("release-manifests/image-references", list.to_string().as_bytes())]);
    let mut content = Content::new();
    let root = labelled(&mut content, "linux/amd64", &[files], &json!({ "io.openshift.release": "4.18.1" }));
    scene.a.push("ocp/release", &content, &root, Some("4.18.1-x86_64"));
    root
}

#[test]
fn a_release_brings_its_components_under_the_names_of_a_mirrored_release() {
    let scene = Scene::new();
    let root = release(&scene);
    let expected = [
        ("openshift/release-images:4.18.1-x86_64", &root),
        ("openshift/release:4.18.1-x86_64-app", &scene.index),
        ("openshift/release:4.18.1-x86_64-tool", &scene.tools["v1.0.0"]),
    ];
    let text = "\
kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  platform:
    release: '{A}/ocp/release:4.18.1-x86_64'
";
    assert_eq!(scene.carried(text, &[]), meant(&expected));
    let name = format!("{}/ocp/release:4.18.1-x86_64", scene.a.host());
    scene.barge(&["pack", "--release", &name, "-o", "flag.oci.tar"]).run().success();
    scene.barge(&["pack", "-f", "wanted", "-o", "file.oci.tar"]).run().success();
    let read = |name: &str| std::fs::read(scene.path(name)).unwrap();
    assert!(read("flag.oci.tar") == read("file.oci.tar"));
    let parts = parts(&scene, "flag.oci.tar");
    let kinds: BTreeSet<Part> = parts.iter().map(|(_, part)| *part).collect();
    assert_eq!(kinds, BTreeSet::from([Part::Release, Part::Component]));
    let host = scene.a.host();
    let reference = Bundle::open(&scene.path("flag.oci.tar")).unwrap();
    let reference =
        reference.record().unwrap().images.iter().find(|one| one.name.to_string().ends_with("-app")).unwrap();
    assert_eq!(
        reference.reference.as_ref().unwrap().to_string(),
        format!("{host}/team/app@{}", scene.index.digest)
    );
    // A name that was given is kept, and the components are beside it.
    let named = format!("mirror.example:5000/own/ocp:9={name}");
    scene.barge(&["pack", "--release", &named, "-o", "named.oci.tar"]).run().success();
    scene.file("named.yaml", &format!("apiVersion: barge/v1\nreleases: ['{named}']\n"));
    scene.barge(&["pack", "-f", "named.yaml", "-o", "named-2.oci.tar"]).run().success();
    for file in ["named.oci.tar", "named-2.oci.tar"] {
        let bundle = Bundle::open(&scene.path(file)).unwrap();
        let names: BTreeSet<String> =
            bundle.record().unwrap().images.iter().map(|image| image.name.to_string()).collect();
        let meant = ["openshift/release:9-app", "openshift/release:9-tool", "own/ocp:9"];
        assert_eq!(names, meant.map(|name| format!("mirror.example:5000/{name}")).into(), "{file}");
    }
    for (flags, what) in [
        (vec!["--release-signature", "x"], "none is named"),
        (vec!["--release", &name, "--release", &name, "--release-signature", "x"], "which of the releases"),
    ] {
        scene.barge(&["pack", "-o", "x.oci.tar"]).args(flags).run().code(2).stderr_has(what);
    }
    let no_release = format!("{host}/team/tool:nightly");
    let told = scene.barge(&["pack", "--release", &no_release, "-o", "x.oci.tar"]).run().code(3);
    told.stderr_has("is no release image");
    assert!(!Path::new(&scene.path("x.oci.tar")).exists());
}
