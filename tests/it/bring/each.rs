//! What is said of one image holds for it alone, and what is said otherwise the next time is another command.

use barge::bundle::Bundle;
use barge::oci::{Descriptor, Platform};

use super::{Scene, listing};

/// The images of a bundle with their platforms.
fn platforms(scene: &Scene, file: &str) -> Vec<(String, Vec<String>)> {
    let bundle = Bundle::open(&scene.path(file)).unwrap();
    let images = &bundle.record().unwrap().images;
    let texts = |list: &[Platform]| list.iter().map(ToString::to_string).collect();
    images.iter().map(|image| (image.name.path(), texts(&image.platforms))).collect()
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
    let names: Vec<String> = platforms(&scene, "site.oci.tar").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["charts/web:1.0.0", "team/tool:v1.0.0", "team/tool:v1.1.0"]);
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
