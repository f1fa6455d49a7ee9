//! What is said of one image holds for it alone, and what is said otherwise the next time is another command.

use barge::bundle::Bundle;
use barge::oci::{Descriptor, Digest, Platform};
use barge::request::{Request, WantedBlob, WantedImage};

use super::{Scene, listing};
use crate::support::images::{Content, layer};

/// The images of a bundle with their platforms.
fn platforms(scene: &Scene, file: &str) -> Vec<(String, Vec<String>)> {
    let bundle = Bundle::open(&scene.path(file)).unwrap();
    let images = &bundle.record().unwrap().images;
    let texts = |list: &[Platform]| list.iter().map(ToString::to_string).collect();
    images.iter().map(|image| (image.name.path(), texts(&image.platforms))).collect()
}

#[test]
fn a_platform_that_no_image_has_is_a_mistake_in_a_file_too() {
    let scene = Scene::new();
    let tool = "  - {A}/team/tool:v1.0.0\n";
    let head = "apiVersion: barge/v1\n";
    // Of all that the file asks for, and of one image among others.
    let of_all =
        format!("{head}defaults: {{platforms: [linux/amd46]}}\nimages:\n  - {{A}}/team/app:v1\n{tool}");
    let of_one = format!(
        "{head}images:\n{tool}  - image: {{A}}/team/app:v1\n    platforms: [linux/amd64, linux/amd46]\n"
    );
    for (text, have) in [(of_all, "linux/amd64, linux/arm64"), (of_one, "linux/amd64, linux/arm64")] {
        scene.file("wanted", &text);
        for more in [&[][..], &["--keep-going"]] {
            let run = scene.barge(&["pack", "-f", "wanted", "-o", "site.oci.tar"]).args(more).run().code(3);
            run.stderr_has(&format!("no image has the platform linux/amd46; they have {have}"));
            assert_eq!(listing(scene.temp.path()), ["wanted"]);
        }
    }
}

#[test]
fn an_image_of_which_nothing_would_travel_fails() {
    let scene = Scene::new();
    let mut content = Content::new();
    let child = content.image("linux/s390x", &[layer(40, 400)]);
    let index = content.index(&[child]);
    scene.a.push("team/odd", &content, &index, Some("v1"));
    let text = "apiVersion: barge/v1\ndefaults: {platforms: [linux/arm64]}\nimages:\n  - {A}/team/app:v1\n  - {A}/team/odd:v1\n";
    scene.file("wanted", text);
    let pack = ["pack", "-f", "wanted", "-o", "site.oci.tar"];
    let failed = scene.barge(&pack).run().code(3);
    failed.stderr_has("/team/odd:v1 would travel: it has linux/s390x, not linux/arm64").stderr_has("hint: ");
    assert_eq!(listing(scene.temp.path()), ["wanted"]);
    scene.barge(&pack).arg("--keep-going").run().code(1).stdout_has("PARTIAL").stderr_has("/team/odd:v1");
    assert_eq!(
        platforms(&scene, "site.oci.tar"),
        [("team/app:v1".to_owned(), vec!["linux/arm64".to_owned()])]
    );
    // Once it has the platform, the same command brings it.
    let mut content = Content::new();
    let child = content.image("linux/arm64", &[layer(41, 400)]);
    let index = content.index(&[child]);
    scene.a.push("team/odd", &content, &index, Some("v1"));
    scene.barge(&pack).arg("--keep-going").run().success().stdout_has("DONE");
    assert_eq!(platforms(&scene, "site.oci.tar").len(), 2);
}

/// The layer of an image.
fn layer_of(scene: &Scene, image: &Descriptor) -> Descriptor {
    let is_layer = |one: &&Descriptor| one.media_type.contains("layer");
    scene.content.closure(image).iter().find(is_layer).unwrap().clone()
}

#[test]
fn another_list_of_a_charts_images_is_another_command() {
    let scene = Scene::new();
    let folder = scene.path("web");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.0.0\n").unwrap();
    scene.file("list.txt", "{A}/team/tool:v1.0.0\n{A}/team/tool:v1.1.0\n");
    let file = "apiVersion: barge/v1\ncharts:\n  - chart: ./web\n    images: ./list.txt\n    platforms: [linux/amd64]\n";
    scene.file("wanted", file);
    let layer = layer_of(&scene, &scene.tools["v1.1.0"]);
    let stored = scene.a.blob_file(&layer.digest);
    let bytes = std::fs::read(&stored).unwrap();
    std::fs::remove_file(&stored).unwrap();
    let pack = ["pack", "-f", "wanted", "-o", "site.oci.tar", "--jobs", "1"];
    scene.barge(&pack).run().code(4);
    assert!(scene.path("site.oci.tar.partial.journal").exists(), "{:?}", listing(scene.temp.path()));
    std::fs::write(&stored, bytes).unwrap();
    for (name, text) in [
        ("list.txt", "{A}/team/tool:v1.0.0\n{A}/team/tool:v2.0.0\n".to_owned()),
        ("wanted", file.replace("    platforms: [linux/amd64]\n", "")),
    ] {
        let before = std::fs::read_to_string(scene.path(name)).unwrap();
        scene.file(name, &text);
        scene.barge(&pack).run().code(3).stderr_has("was begun with other arguments");
        std::fs::write(scene.path(name), before).unwrap();
    }
    scene.barge(&pack).run().success();
    let mut names: Vec<String> =
        platforms(&scene, "site.oci.tar").into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["charts/web:1.0.0", "team/tool:v1.0.0", "team/tool:v1.1.0"]);
}

#[test]
fn a_request_sends_of_each_image_the_platforms_that_travelled_of_it() {
    let scene = Scene::new();
    let mut content = Content::new();
    let children =
        [("linux/amd64", 50), ("linux/arm64", 51)].map(|(one, seed)| content.image(one, &[layer(seed, 600)]));
    let other = content.index(&children);
    scene.a.push("team/other", &content, &other, Some("v1"));
    let host = scene.a.host();
    let lost = |content: &Content, child: &Descriptor, name: &str, root: &Descriptor| {
        let is_layer = |one: &&Descriptor| one.media_type.contains("layer");
        let layer = content.closure(child).iter().find(is_layer).unwrap().clone();
        let blob = WantedBlob {
            digest: layer.digest,
            images: Vec::new(),
            media_type: layer.media_type,
            size: layer.size,
        };
        let image = WantedImage {
            name: Some(format!("{host}/{name}")),
            platforms: child.platform.iter().cloned().collect(),
            reference: Some(format!("{host}/{name}@{}", root.digest).parse().unwrap()),
            root: Some(root.digest.clone()),
        };
        (blob, vec![image])
    };
    let request = Request::new(
        [
            lost(&scene.content, &scene.children[0], "team/app:v1", &scene.index),
            lost(&content, &children[1], "team/other:v1", &other),
        ],
        vec![Digest::sha256(b"a bundle")],
    );
    request.write(&scene.path("missing.json")).unwrap();
    let expected = [("team/app:v1", "linux/amd64"), ("team/other:v1", "linux/arm64")]
        .map(|(name, platform)| (name.to_owned(), vec![platform.to_owned()]));
    scene.barge(&["pack", "--request", "missing.json", "-o", "one.barge"]).run().success();
    assert_eq!(platforms(&scene, "one.barge"), expected);
    // As they are named again.
    let names = ["team/app:v1", "team/other:v1"].map(|name| format!("{host}/{name}"));
    let named = ["pack", "--request", "missing.json", "-o", "two.barge", &names[0], &names[1]];
    scene.barge(&named).run().success();
    assert_eq!(platforms(&scene, "two.barge"), expected);
    // The command line goes before that.
    let all =
        ["pack", "--request", "missing.json", "-o", "all.barge", "--platform", "linux/amd64,linux/arm64"];
    scene.barge(&all).run().success();
    assert!(platforms(&scene, "all.barge").iter().all(|(_, platforms)| platforms.len() == 2));
}

#[test]
fn the_order_of_two_references_to_one_image_does_not_show() {
    let scene = Scene::new();
    let digest = &scene.index.digest;
    let lines = [
        format!("{{A}}/team/app:v1@{digest}=there.example/x/app:1\n"),
        format!("{{A}}/team/app@{digest}=there.example/x/app:1\n"),
    ];
    let mut bytes = Vec::new();
    for (at, text) in [lines.concat(), format!("{}{}", lines[1], lines[0])].iter().enumerate() {
        scene.file("wanted", text);
        let file = format!("{at}.oci.tar");
        scene.barge(&["pack", "-f", "wanted", "-o", &file]).run().success();
        bytes.push(std::fs::read(scene.path(&file)).unwrap());
    }
    assert!(bytes[0] == bytes[1]);
}
