//! Each kind of file, there and back.

use barge::bundle::Bundle;

use super::{Scene, everything, expected as meant};
use crate::support::archives::write_layout;
use crate::support::barge::barge;
use crate::support::hostile::{Action, Fault, Hostile};
use crate::support::images::{Content, layer};

#[test]
fn a_barge_yaml_brings_just_what_it_asks_for() {
    let scene = Scene::new();
    let mut content = Content::new();
    let local = content.image("linux/amd64", &[layer(50, 500)]);
    write_layout(&scene.path("layout"), &content, &[("local/thing:v7", local.clone())]);
    let text = "\
apiVersion: barge/v1
defaults:
  platforms: [linux/amd64]
images:
  - {A}/team/app:v1
  - image: {A}/team/app:v1
    name: {A}/team/arm:v1
    platforms: [linux/arm64]
  - image: {A}/team/tool
    tags: {semver: '>=1.1.0', latest: 2}
  - {A}/team/tool:nightly
layouts:
  - path: layout
blocked:
  - tool:night
";
    let found = scene.carried(text, &["--sparse", "single"]);
    // An index of which two images want a platform each is whole again.
    let expected = [
        ("team/app:v1", &scene.index),
        ("team/arm:v1", &scene.index),
        ("team/tool:v1.1.0", &scene.tools["v1.1.0"]),
        ("team/tool:v2.0.0", &scene.tools["v2.0.0"]),
        ("local/thing:v7", &local),
    ];
    assert_eq!(found, meant(&expected));
}

#[test]
fn platforms_of_one_image_hold_at_the_target() {
    let scene = Scene::new();
    let text = "\
apiVersion: barge/v1
defaults: {platforms: [linux/amd64]}
images:
  - image: {A}/team/app:v1
    platforms: [linux/arm64]
";
    let found = scene.carried(text, &["--sparse", "single"]);
    assert_eq!(found, meant(&[("team/app:v1", &scene.children[1])]));
    // What the command line says goes before a file's defaults, and not before what an image says itself.
    let text = text.replace("platforms: [linux/arm64]", "name: '{A}/team/one:v1'");
    scene.file("wanted", &text);
    let pack = ["pack", "-f", "wanted", "-o", "site.oci.tar", "--platform", "linux/arm64"];
    scene.barge(&pack).run().success();
    let platforms = |file: &str| -> Vec<String> {
        let bundle = Bundle::open(&scene.path(file)).unwrap();
        let images = &bundle.record().unwrap().images;
        images.iter().flat_map(|image| image.platforms.iter().map(ToString::to_string)).collect()
    };
    assert_eq!(platforms("site.oci.tar"), ["linux/arm64"]);
    let own = text.replace("name: '{A}/team/one:v1'", "platforms: [linux/amd64]");
    scene.file("own", &own);
    scene.barge(&["pack", "-f", "own", "-o", "own.oci.tar", "--platform", "linux/arm64"]).run().success();
    assert_eq!(platforms("own.oci.tar"), ["linux/amd64"]);
}

#[test]
fn a_mapping_file_gives_the_names_to_push_under() {
    let scene = Scene::new();
    let digest = &scene.tools["v2.0.0"].digest;
    let text = format!(
        "# what goes where\n\
         docker://{{A}}/team/app:v1=docker://there.example:5000/mirror/app:v1.0.6\n\
         {{A}}/team/tool@{digest}=there.example:5000/mirror/tool:pinned\n\
         {{A}}/team/tool:v1.0.0 there.example:5000/one:a there.example:5000/two:b\n"
    );
    let expected = [
        ("mirror/app:v1.0.6", &scene.index),
        ("mirror/tool:pinned", &scene.tools["v2.0.0"]),
        ("one:a", &scene.tools["v1.0.0"]),
        ("two:b", &scene.tools["v1.0.0"]),
    ];
    assert_eq!(scene.carried(&text, &[]), meant(&expected));
    // The host that is not used is said once, and where things came from is kept.
    let told = scene.barge(&["pack", "-f", "wanted", "-o", "again.oci.tar"]).run().success();
    assert_eq!(told.stderr.matches("there.example:5000 is not used").count(), 1, "{told}");
    let bundle = Bundle::open(&scene.path("again.oci.tar")).unwrap();
    let image =
        bundle.record().unwrap().images.iter().find(|image| image.name.to_string().ends_with("one:a"));
    let reference = image.unwrap().reference.as_ref().unwrap().to_string();
    assert_eq!(reference, format!("{}/team/tool:v1.0.0@{}", scene.a.host(), scene.tools["v1.0.0"].digest));
}

#[test]
fn an_image_set_configuration_brings_its_additional_images() {
    let scene = Scene::new();
    let text = "\
kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  additionalImages:
    - name: {A}/team/app:v1
      targetRepo: x/y
      targetTag: '2'
    - name: {A}/team/tool:v1.0.0
    - name: {A}/team/tool:v2.0.0
  blockedImages:
    - name: tool:v2
";
    let expected = [("x/y:2", &scene.index), ("team/tool:v1.0.0", &scene.tools["v1.0.0"])];
    assert_eq!(scene.carried(text, &[]), meant(&expected));
    let told = scene.barge(&["pack", "-f", "wanted", "-o", "again.oci.tar"]).run().success();
    told.stderr_has("left out because wanted:11 blocks them").stderr_has("/team/tool:v2.0.0");
}

#[test]
fn a_manifest_of_hauler_and_a_list_bring_their_images() {
    let scene = Scene::new();
    let text = "\
apiVersion: content.hauler.cattle.io/v1
kind: Images
metadata: {name: some}
spec:
  images:
    - name: {A}/team/tool:v1.0.0
    - name: {A}/team/app:v1
      platform: linux/arm64
";
    let expected = [("team/app:v1", &scene.children[1]), ("team/tool:v1.0.0", &scene.tools["v1.0.0"])];
    assert_eq!(scene.carried(text, &["--sparse", "single"]), meant(&expected));
    let scene = Scene::new();
    let list = "# images\n{A}/team/app:v1\n\n{A}/team/tool:nightly # the last\n";
    let expected = [("team/app:v1", &scene.index), ("team/tool:nightly", &scene.tools["nightly"])];
    assert_eq!(scene.carried(list, &[]), meant(&expected));
}

#[test]
fn several_files_and_arguments_add_up() {
    let scene = Scene::new();
    scene.file(
        "one.yaml",
        "apiVersion: barge/v1\ndefaults: {platforms: [linux/arm64]}\nimages: ['{A}/team/app:v1']\n",
    );
    scene.file("two.txt", "{A}/team/tool:v1.0.0\n");
    scene.file("three.txt", "{A}/team/tool:nightly\n");
    let direct = format!("{}/team/tool:v1.1.0", scene.a.host());
    let pack = ["pack", "-f", "one.yaml", "-f", "two.txt", "--from-file", "three.txt", &direct];
    // What one file wants of its own images is not wanted of the others.
    let told = scene.barge(&pack).args(["-o", "site.oci.tar"]).run().success();
    assert!(!told.stderr.contains("without the platform"), "{told}");
    scene.barge(&["push", "site.oci.tar", scene.b.host(), "--sparse", "single"]).run().success();
    let expected = [
        ("team/app:v1", &scene.children[1]),
        ("team/tool:nightly", &scene.tools["nightly"]),
        ("team/tool:v1.0.0", &scene.tools["v1.0.0"]),
        ("team/tool:v1.1.0", &scene.tools["v1.1.0"]),
    ];
    assert_eq!(everything(&scene.b), meant(&expected));
}

#[test]
fn mirror_takes_files_too_and_what_they_say_of_sparse_indexes() {
    let scene = Scene::new();
    let text = "\
apiVersion: barge/v1
defaults: {platforms: [linux/arm64], sparse: single}
images:
  - {A}/team/app:v1
  - image: {A}/team/tool:v1.0.0
    name: there.example/tool:one
";
    scene.file("wanted.yaml", text);
    let host = scene.b.host();
    // One image that lacks the platform has no index to choose from, and goes as it is.
    scene.barge(&["mirror", "-f", "wanted.yaml", host]).run().success();
    let expected = [("team/app:v1", &scene.children[1]), ("tool:one", &scene.tools["v1.0.0"])];
    assert_eq!(everything(&scene.b), meant(&expected));
    // The command line goes before the file.
    let other = crate::support::peers::RealRegistry::start();
    scene.barge(&["mirror", "-f", "wanted.yaml", other.host(), "--sparse", "require"]).run().code(1);
    assert!(!everything(&other).contains_key("team/app:v1"));
    // Elsewhere it is for later.
    let told = scene.barge(&["pack", "-f", "wanted.yaml", "-o", "site.oci.tar"]).run().success();
    told.stderr_has("what wanted.yaml says of sparse indexes is for the push: say --sparse single to push");
}

#[test]
fn diff_compares_with_what_files_ask_for() {
    let scene = Scene::new();
    scene.file("jan.txt", "{A}/team/tool:v1.0.0\n");
    scene.file("feb.txt", "{A}/team/tool:v1.0.0\n{A}/team/app:v1\n");
    scene.barge(&["pack", "-f", "jan.txt", "-o", "jan.oci.tar"]).run().success();
    let told = scene.barge(&["diff", "jan.oci.tar", "-f", "feb.txt", "--json"]).run().success().json();
    assert_eq!(told["comparison"]["new"].as_array().unwrap().len(), 1);
    assert_eq!(told["comparison"]["same"], 1);
    scene.barge(&["diff", "jan.oci.tar", "-f", "feb.txt", "-o", "feb.barge"]).run().success();
    scene.barge(&["push", "jan.oci.tar", "feb.barge", scene.b.host()]).run().success();
    let expected = [("team/app:v1", &scene.index), ("team/tool:v1.0.0", &scene.tools["v1.0.0"])];
    assert_eq!(everything(&scene.b), meant(&expected));
    let told = scene.barge(&["diff", "jan.oci.tar", "jan.oci.tar", "-f", "feb.txt"]).run().code(2);
    told.stderr_has("with -f the files are the target, and `jan.oci.tar` is one too");
    scene.barge(&["diff", "-f", "feb.txt"]).run().code(2).stderr_has("name what the site has");
    scene.barge(&["diff", "--each", "jan.oci.tar", "-f", "feb.txt"]).run().code(2);
}

#[test]
fn a_stopped_pack_of_files_goes_on_with_their_platforms() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let children = [("linux/amd64", 1), ("linux/arm64", 2)]
        .map(|(platform, seed)| content.image(platform, &[layer(seed, 200_000), layer(seed + 10, 900)]));
    let index = content.index(&children);
    hostile.seed("app", &content, &index, Some("v1"));
    let temp = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: barge/v1\ndefaults: {{platforms: [linux/amd64]}}\nimages:\n  - image: {}/app:v1\n    \
         platforms: [linux/arm64]\n",
        hostile.host()
    );
    std::fs::write(temp.path().join("wanted.yaml"), &text).unwrap();
    let pack = |name: &str| {
        barge(["pack", "-f", "wanted.yaml", "-o", name, "-j", "1", "--retry-times", "0"]).dir(temp.path())
    };
    pack("whole.oci.tar").run().success();
    hostile.fault(Fault::on("GET", "/blobs/", Action::status(500)).after(1));
    pack("site.oci.tar").run().code(4);
    assert!(temp.path().join("site.oci.tar.partial").exists());
    hostile.clear_faults();
    // Other platforms are another plan, however much of the file is the same.
    let other = text.replace("linux/arm64", "linux/amd64");
    std::fs::write(temp.path().join("wanted.yaml"), other).unwrap();
    pack("site.oci.tar").run().code(3).stderr_has("other arguments");
    // Where it stands in the file does not matter.
    std::fs::write(temp.path().join("wanted.yaml"), format!("# a comment\n{text}")).unwrap();
    let told = pack("site.oci.tar").run().success();
    told.stderr_has("going on with the plan that was made");
    let read = |name: &str| std::fs::read(temp.path().join(name)).unwrap();
    assert!(read("site.oci.tar") == read("whole.oci.tar"));
}

#[test]
fn a_killed_pack_of_files_goes_on() {
    let mut scene = Scene::new();
    let big = scene.content.image("linux/amd64", &[layer(80, 3_000_000), layer(81, 900)]);
    scene.a.push("team/big", &scene.content, &big, Some("v1"));
    let text = "apiVersion: barge/v1\ndefaults: {platforms: [linux/amd64]}\nimages:\n  - {A}/team/big:v1\n  \
                - image: {A}/team/app:v1\n    platforms: [linux/arm64]\n  \
                - image: {A}/team/tool\n    tags: {match: 'v1.*'}\n";
    scene.file("wanted.yaml", text);
    let pack = |name: &str| scene.barge(&["pack", "-f", "wanted.yaml", "-o", name]);
    pack("whole.oci.tar").run().success();
    let mut running = pack("site.oci.tar").args(["--limit-rate", "400K"]).spawn();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !scene.path("site.oci.tar.partial").exists() {
        assert!(std::time::Instant::now() < deadline && !running.has_ended(), "it never began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.kill();
    drop(running);
    // A tag that moves meanwhile is not resolved again.
    scene.a.push("team/big", &scene.content, &scene.tools["v1.0.0"], Some("v1"));
    pack("site.oci.tar").run().success().stderr_has("going on with the plan that was made");
    let read = |name: &str| std::fs::read(scene.path(name)).unwrap();
    assert!(read("site.oci.tar") == read("whole.oci.tar"));
    scene.barge(&["push", "site.oci.tar", scene.b.host(), "--sparse", "single"]).run().success();
    let expected = [
        ("team/app:v1", &scene.children[1]),
        ("team/big:v1", &big),
        ("team/tool:v1.0.0", &scene.tools["v1.0.0"]),
        ("team/tool:v1.1.0", &scene.tools["v1.1.0"]),
    ];
    assert_eq!(everything(&scene.b), meant(&expected));
}
