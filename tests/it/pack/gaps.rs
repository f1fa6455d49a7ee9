//! `--keep-going`: what can be had is packed, what can't is recorded, and the next run brings only that.

use std::fs;
use std::path::PathBuf;

use barge::bundle::table::Role;
use barge::oci::{Descriptor, Digest};

use super::{Packed, listing, pack, temp};
use crate::support::hostile::{Action, Fault, Hostile};
use crate::support::images::{Content, layer};
use crate::support::peers::skopeo;

struct Scene {
    hostile: Hostile,
    content: Content,
    images: Vec<Descriptor>,
    own: Vec<Digest>,
    names: Vec<String>,
    temp: tempfile::TempDir,
}

impl Scene {
    /// Three images that share a layer.
    fn new() -> Self {
        Self::of(3)
    }

    fn of(count: u64) -> Self {
        let hostile = Hostile::honest();
        let mut content = Content::new();
        let (mut images, mut own, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..count {
            let layers = [layer(50, 4000), layer(at, 9000)];
            let image = content.image("linux/amd64", &layers);
            hostile.seed(&format!("app{at}"), &content, &image, Some("v1"));
            names.push(format!("{}/app{at}:v1", hostile.host()));
            own.push(layers[1].digest.clone());
            images.push(image);
        }
        Self { hostile, content, images, own, names, temp: temp() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn undisturbed(&self) -> Vec<u8> {
        let path = self.path("undisturbed.tar");
        pack(&path, &self.names).run().success();
        fs::read(path).unwrap()
    }
}

#[test]
fn a_blob_that_cannot_be_had_costs_its_image_only() {
    let scene = Scene::of(9);
    let expected = scene.undisturbed();
    let blob = scene.own[1].to_string();
    for (at, action) in
        [Action::status(404), Action::FlipByte(100), Action::status(403)].into_iter().enumerate()
    {
        scene.hostile.clear_faults();
        scene.hostile.fault(Fault::on("GET", &blob, action));
        let path = scene.path(&format!("{at}.oci.tar"));
        let command = || pack(&path, &scene.names).arg("--keep-going");
        let outcome = command().arg("--json").run().code(1).stderr_has(&blob).stderr_has(&scene.names[1]);
        let document = outcome.json();
        assert_eq!(document["outcome"], "PARTIAL");
        assert_eq!(document["exitCode"], 1);
        assert_eq!(document["failed"][0]["digest"], blob.as_str());
        let packed = Packed::open(&path);
        let failed: Vec<String> = packed.record().failed.iter().map(|entry| entry.name.to_string()).collect();
        assert_eq!(failed, [scene.names[1].clone()]);
        let whole: Vec<String> =
            scene.names.iter().filter(|name| **name != scene.names[1]).cloned().collect();
        assert_eq!(packed.names(), whole);
        assert_eq!(packed.role(&scene.own[1]), Some(Role::Gap));
        assert_eq!(packed.blob(&scene.own[1]), None);
        assert!(packed.entries.contains_key(&format!(".barge-gap/{}", scene.own[1].hex())));
        assert!(packed.entries.contains_key(".barge-pad"));
        packed.has_all(&scene.content, &scene.images[0]);
        packed.has_all(&scene.content, &scene.images[2]);
        let layout = scene.path(&format!("layout{at}"));
        for at in [0, 2] {
            let source = format!("oci-archive:{}:{}", path.display(), scene.names[at]);
            skopeo(["copy", &source, &format!("oci:{}:v{at}", layout.display())]);
        }
        // Again without luck: the same. Then with: whole, and nothing else was asked for.
        let before = fs::read(&path).unwrap();
        command().run().code(1).stdout_has("PARTIAL").stdout_has("8 of 9 images").stdout_has("next: ");
        assert!(fs::read(&path).unwrap()[..4096] == before[..4096]);
        scene.hostile.clear_faults();
        scene.hostile.forget_requests();
        command().run().success().stdout_has("DONE");
        let blobs = scene.hostile.requests_on("GET", "/blobs/");
        assert_eq!(blobs.len(), 1, "{}", scene.hostile.transcript());
        assert!(scene.hostile.requests_on("*", "/manifests/").is_empty());
        assert!(fs::read(&path).unwrap() == expected);
        let sidecar = scene.path(&format!("{at}.barge.json"));
        assert!(fs::read(sidecar).unwrap() == fs::read(scene.path("undisturbed.barge.json")).unwrap());
        fs::remove_dir_all(layout).unwrap();
    }
    let left = listing(scene.temp.path());
    assert!(left.iter().all(|name| !name.contains(".partial")), "{left:?}");
}

#[test]
fn an_image_that_cannot_be_resolved_at_first_and_later_can() {
    let scene = Scene::new();
    let expected = scene.undisturbed();
    for (at, action) in [Action::status(404), Action::status(403)].into_iter().enumerate() {
        let path = scene.path(&format!("{at}.tar"));
        let command = || pack(&path, &scene.names).args(["--keep-going", "--retry-times", "0"]);
        scene.hostile.fault(Fault::on("*", "/v2/app1/", action));
        command().run().code(1).stdout_has("2 of 3 images").stderr_has(&scene.names[1]);
        let packed = Packed::open(&path);
        assert_eq!(packed.record().failed[0].name.to_string(), scene.names[1]);
        assert_eq!(packed.record().failed[0].root, None);
        // A run in between that gets nowhere at all takes nothing away.
        let before = fs::read(&path).unwrap();
        scene.hostile.fault(Fault::on("*", "/v2/", Action::status(503)));
        pack(&path, &scene.names).args(["--retry-times", "0"]).run().code(4);
        assert!(fs::read(&path).unwrap() == before);
        scene.hostile.clear_faults();
        scene.hostile.forget_requests();
        command().run().success();
        assert!(fs::read(&path).unwrap() == expected);
        for own in [&scene.own[0], &scene.own[2]] {
            assert!(scene.hostile.requests_on("GET", &own.to_string()).is_empty(), "copied, not fetched");
        }
    }
    let left = listing(scene.temp.path());
    assert!(left.iter().all(|name| !name.contains(".partial")), "{left:?}");
}

#[test]
fn what_ended_with_gaps_is_not_another_commands_to_replace() {
    let scene = Scene::new();
    let path = scene.path("out.tar");
    scene.hostile.fault(Fault::on("GET", &scene.own[1].to_string(), Action::status(404)));
    pack(&path, &scene.names).arg("--keep-going").run().code(1);
    let before = fs::read(&path).unwrap();
    scene.hostile.clear_faults();
    pack(&path, &scene.names[..1]).run().code(3).stderr_has("other arguments");
    assert!(fs::read(&path).unwrap() == before);
    pack(&path, &scene.names).run().success();
    assert!(fs::read(&path).unwrap() == scene.undisturbed());
}

#[test]
fn nothing_at_all_is_no_bundle() {
    let scene = Scene::new();
    scene.hostile.fault(Fault::on("*", "/manifests/", Action::status(404)));
    let path = scene.path("out.tar");
    let outcome = pack(&path, &scene.names).arg("--keep-going").run().code(4);
    outcome.stderr_has("none of the 3 images can be had");
    assert!(listing(scene.temp.path()).is_empty());
}

#[test]
fn folders_and_layouts_go_on_as_well() {
    let scene = Scene::new();
    let blob = scene.own[1].to_string();
    for (at, fault) in ["/v2/app1/", &blob].into_iter().enumerate() {
        let folder = scene.path(&format!("medium{at}"));
        fs::create_dir(&folder).unwrap();
        let layout = format!("oci:{}", scene.path(&format!("layout{at}")).display());
        scene.hostile.fault(Fault::on("GET|HEAD", fault, Action::status(404)));
        for output in [&folder, &PathBuf::from(&layout)] {
            pack(output, &scene.names).arg("--keep-going").run().code(1);
        }
        scene.hostile.clear_faults();
        scene.hostile.forget_requests();
        pack(&folder, &scene.names).arg("--keep-going").run().success();
        assert_eq!(scene.hostile.requests_on("GET", &scene.own[0].to_string()).len(), 0);
        let left = listing(&folder);
        let [record, archive] = &left[..] else { panic!("{left:?}") };
        assert_eq!(record.replace(".barge.json", ".oci.tar"), *archive);
        assert!(fs::read(folder.join(archive)).unwrap() == scene.undisturbed());
        pack(layout.as_ref(), &scene.names).run().success();
        let again = scene.path(&format!("again{at}.tar"));
        pack(&again, [layout.strip_prefix("oci:").unwrap()]).run().success();
        let packed = Packed::open(&again);
        for image in &scene.images {
            packed.has_all(&scene.content, image);
        }
    }
}
