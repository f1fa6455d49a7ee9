//! Killed in each phase and run again: what comes out does not show it.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::{Desk, Month};
use crate::support::hostile::{Action, Config, Fault, Hostile};
use crate::support::images::{Blob, Content, noise};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A month of large layers, so that there is time to be killed in.
fn heavy(seeds: &[(&'static str, &[u64])]) -> Month {
    let mut month = Month { content: Content::new(), images: Vec::new(), attached: Vec::new() };
    for (repository, seeds) in seeds {
        let layers = seeds.iter().map(|seed| Blob::new(LAYER, noise(*seed, 700_000 + *seed as usize)));
        let root = month.content.image("linux/amd64", &layers.collect::<Vec<_>>());
        month.images.push((repository, "v1", root));
    }
    month
}

struct Scene {
    desk: Desk,
    a: Hostile,
    february: Month,
}

/// A has February; January is a file.
fn scene() -> Scene {
    let a = Hostile::honest();
    let january = heavy(&[("one", &[1, 2]), ("two", &[1, 3])]);
    let february = heavy(&[("one", &[1, 2, 4, 5]), ("two", &[1, 6, 7]), ("three", &[1, 8])]);
    let desk = Desk::new();
    january.fill(a.host());
    january.pack(a.host(), &desk.path("jan.oci.tar"));
    february.fill(a.host());
    february.pack(a.host(), &desk.path("feb.oci.tar"));
    Scene { desk, a, february }
}

/// Kills `line` with `-o OUTPUT` at several moments within `longest` milliseconds, runs it to its end, and asserts that the file is the one that an
/// undisturbed run writes.
fn kill_and_go_on(desk: &Desk, line: &str, suffix: &str, longest: u8) {
    let words = |output: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.extend(["-o".to_owned(), output.to_owned()]);
        words
    };
    desk.barge(words(&format!("whole{suffix}"))).run().success();
    let expected = desk.bytes(&format!("whole{suffix}"));
    let mut kills = 0;
    for round in 1..=3 {
        let output = format!("killed{round}{suffix}");
        // Later each time, until it is at its end before that.
        for at in 0..20 {
            let mut running = desk.barge(words(&output)).spawn();
            sleep(Duration::from_millis(at * round * u64::from(longest) / 30));
            if running.has_ended() {
                break;
            }
            running.kill();
            kills += usize::from(running.wait().code == -1);
            let is_there = desk.path(&output).exists();
            assert!(!is_there || desk.bytes(&output) == expected, "a file under its final name is whole");
        }
        let outcome = desk.barge(words(&output)).run().success();
        assert!(desk.bytes(&output) == expected, "after kills: {outcome}");
    }
    assert!(kills > 0, "nothing was ever killed");
    assert!(!desk.names().iter().any(|name| name.contains(".partial")), "{:?}", desk.names());
}

#[test]
fn the_packing_of_a_delta() {
    let scene = scene();
    scene.a.fault(Fault::on("GET", "/blobs/", Action::Throttle(8_000_000)));
    let names = scene.february.names(scene.a.host()).join(" ");
    kill_and_go_on(&scene.desk, &format!("pack {names} --base jan.oci.tar"), ".barge", 120);
}

#[test]
fn a_diff_of_a_registry() {
    let scene = scene();
    scene.a.fault(Fault::on("GET", "/blobs/", Action::Throttle(8_000_000)));
    kill_and_go_on(&scene.desk, &format!("diff jan.oci.tar {}", scene.a.host()), ".barge", 120);
}

#[test]
fn a_diff_of_bundles() {
    let scene = scene();
    kill_and_go_on(&scene.desk, "diff --jobs 1 jan.oci.tar feb.oci.tar", ".barge", 30);
}

#[test]
fn a_merge() {
    let scene = scene();
    scene.desk.run("diff jan.oci.tar feb.oci.tar -o feb.barge");
    kill_and_go_on(&scene.desk, "merge --jobs 1 jan.oci.tar feb.barge", ".oci.tar", 30);
    assert!(scene.desk.bytes("whole.oci.tar") == scene.desk.bytes("feb.oci.tar"));
}

#[test]
fn a_diff_for_each_site() {
    let scene = scene();
    let desk = &scene.desk;
    let line = "diff --jobs 1 --each jan.oci.tar empty feb.oci.tar -o";
    crate::support::archives::write_layout(&desk.path("empty"), &Content::new(), &[]);
    let line = line.replace(" empty ", " oci:empty ");
    desk.run(&format!("{line} whole"));
    let files = |folder: &Path| -> std::collections::BTreeMap<_, _> {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
    };
    for byte in noise(3, 6) {
        let mut running = desk.barge(format!("{line} out").split_whitespace()).spawn();
        sleep(Duration::from_millis(u64::from(byte) / 2));
        if !running.has_ended() {
            running.kill();
        }
        running.wait();
    }
    desk.run(&format!("{line} out"));
    let (made, whole) = (files(&desk.path("out")), files(&desk.path("whole")));
    assert_eq!(made.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    assert!(made == whole);
}

#[test]
fn the_push_of_a_delta() {
    let (january, february) = (Month::january(), Month::february());
    let a = Hostile::honest();
    let desk = Desk::new();
    january.fill(a.host());
    january.pack(a.host(), &desk.path("jan.oci.tar"));
    february.fill(a.host());
    february.pack(a.host(), &desk.path("feb.oci.tar"));
    desk.run("diff jan.oci.tar feb.oci.tar -o feb.barge");
    for count in [1, 5, 9, 14, 19, 24, 27] {
        let b = Hostile::start(Config { latency: Duration::from_millis(3), ..Config::default() });
        desk.run(&format!("push jan.oci.tar {}", b.host()));
        b.forget_requests();
        let mut running = desk.barge(["push", "--jobs", "2", "feb.barge", b.host()]).spawn();
        while b.writes().len() < count && !running.has_ended() {
            sleep(Duration::from_millis(2));
        }
        running.kill();
        running.wait();
        // Until the end a tag is what it was or the whole of what it should be.
        let tool = &b.tags("team/tool")["v1"];
        if *tool == february.image("team/tool", "v1").digest {
            let root = february.image("team/tool", "v1");
            super::assert_image(b.host(), "team/tool", "v1", &february.content, root);
        } else {
            assert_eq!(*tool, january.image("team/tool", "v1").digest, "after {count}");
        }
        desk.run(&format!("push feb.barge {}", b.host()));
        february.assert_at(b.host(), "");
        desk.run(&format!("push feb.barge {}", b.host())).stdout_has("NOTHING CHANGED");
    }
}

#[test]
fn an_inventory() {
    let (january, march) = (Month::january(), Month::march());
    let b = Hostile::start(Config { latency: Duration::from_millis(10), ..Config::default() });
    january.fill(b.host());
    march.fill(b.host());
    let desk = Desk::new();
    let line = format!("inventory --check-blobs --jobs 1 {} -o", b.host());
    desk.run(&format!("{line} whole.json"));
    let content = |name: &str| {
        let mut document = desk.json(name);
        document.as_object_mut().unwrap().remove("taken");
        document
    };
    for count in [1, 4, 9, 16, 25] {
        let name = format!("after{count}.json");
        b.forget_requests();
        let mut running = desk.barge(format!("{line} {name}").split_whitespace()).spawn();
        super::wait_for("the requests", || b.requests().len() >= count || running.has_ended());
        running.kill();
        running.wait();
        assert!(!desk.path(&name).exists());
        desk.run(&format!("{line} {name}"));
        assert_eq!(content(&name), content("whole.json"));
    }
    assert!(!desk.names().iter().any(|name| name.contains(".partial")), "{:?}", desk.names());
}
