//! Room, rights, limits, and what is there already.

use std::fs;
use std::path::Path;

use barge::oci::Descriptor;
use serde_json::json;

use super::{Packed, listing, pack, temp};
use crate::support::barge::barge;
use crate::support::hostile::{Action, Fault, Hostile};
use crate::support::images::{Blob, Content, layer, noise};
use crate::support::peers::{command, run};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn seeded(size: usize) -> (Hostile, Content, Descriptor, String) {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let layers = [Blob::new(LAYER, noise(1, size)), layer(2, 1000)];
    let image = content.image("linux/amd64", &layers);
    hostile.seed("app", &content, &image, Some("v1"));
    let name = format!("{}/app:v1", hostile.host());
    (hostile, content, image, name)
}

/// A file system of the test's own, unmounted at the end. Needs root.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(args: &[&str]) -> Self {
        let folder = temp();
        run(command("mount").args(args).arg(folder.path()));
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = command("umount").arg(self.0.path()).status();
    }
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_blob() {
    let (hostile, content, image, name) = seeded(3_000_000);
    let medium = Mounted::new(&["-t", "tmpfs", "-o", "size=2m", "none"]);
    let archive = medium.path().join("out.tar");
    let layout = format!("oci:{}", medium.path().join("layout").display());
    for output in [archive.as_path(), layout.as_ref(), medium.path()] {
        hostile.forget_requests();
        let outcome = pack(output, [&name]).run().code(3);
        outcome.stderr_has("bytes free and").stderr_has("more are needed");
        assert!(hostile.requests_on("GET", &content.closure(&image)[1].digest.to_string()).is_empty());
    }
    assert_eq!(listing(medium.path()), ["layout.partial"]);
    // With room made, the same command goes through.
    run(command("mount").args(["-o", "remount,size=16m"]).arg(medium.path()));
    pack(&archive, [&name]).run().success();
    Packed::open(&archive).has_all(&content, &image);
}

#[test]
fn room_that_goes_away_while_packing_leaves_what_can_be_gone_on_with() {
    let (_hostile, content, image, name) = seeded(3_000_000);
    let medium = Mounted::new(&["-t", "tmpfs", "-o", "size=4m", "none"]);
    let path = medium.path().join("out.tar");
    let running = pack(&path, [&name, "--limit-rate", "2M"]).spawn();
    let partial = medium.path().join("out.tar.partial");
    while fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 100_000 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fs::write(medium.path().join("filler"), noise(5, 5_000_000)).unwrap_err();
    running.wait().code(3).stderr_has("No space left");
    assert!(!path.exists());
    fs::remove_file(medium.path().join("filler")).unwrap();
    pack(&path, [&name]).run().success();
    Packed::open(&path).has_all(&content, &image);
}

#[test]
fn a_folder_that_takes_no_files_is_said() {
    let (_hostile, _, _, name) = seeded(1000);
    let medium = Mounted::new(&["-t", "tmpfs", "-o", "ro", "none"]);
    let path = medium.path().join("out.tar");
    pack(&path, [&name]).run().code(3).stderr_has("out.tar").stderr_has("Read-only");
    pack(&medium.path().join("gone/out.tar"), [&name]).run().code(3).stderr_has("No such file");
    pack(&medium.path().join("gone/"), [&name]).arg("-q").run().code(2).stderr_has("is the medium mounted");
}

#[test]
fn the_umask_holds() {
    use std::os::unix::fs::PermissionsExt;
    let (_hostile, content, image, name) = seeded(1000);
    let temp = temp();
    for (umask, mode) in [("077", 0o600), ("022", 0o644)] {
        let path = temp.path().join(format!("{umask}.tar"));
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let mut sh = command("sh");
        sh.args(["-c", &script, env!("CARGO_BIN_EXE_barge"), "pack", "-o"]).arg(&path).arg(&name);
        run(sh.env("HOME", temp.path()));
        Packed::open(&path).has_all(&content, &image);
        for file in [path, temp.path().join(format!("{umask}.barge.json"))] {
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode, "{}", file.display());
        }
    }
}

#[test]
fn what_is_there_already_is_left_alone() {
    let (hostile, mut content, _, name) = seeded(5000);
    let temp = temp();
    let path = temp.path().join("out.tar");
    let layout = temp.path().join("layout");
    let folder = temp.path().join("medium");
    fs::create_dir(&folder).unwrap();
    let in_layout = format!("oci:{}", layout.display());
    let outputs = [path.as_path(), in_layout.as_ref(), &folder];
    for output in outputs {
        pack(output, [&name]).run().success().stdout_has("DONE");
    }
    let before = (fs::read(&path).unwrap(), listing(&folder), fs::read(layout.join("index.json")).unwrap());
    hostile.forget_requests();
    for output in outputs {
        let outcome = pack(output, [&name]).arg("--json").run().success();
        assert_eq!(outcome.json()["outcome"], "NOTHING CHANGED");
        pack(output, [&name]).run().success().stdout_has("NOTHING CHANGED");
    }
    assert!(
        hostile.requests_on("GET", "/blobs/").len() <= 6,
        "at most a configuration is read for its platform"
    );
    let other = content.image("linux/amd64", &[layer(9, 10)]);
    hostile.seed("app", &content, &other, Some("v1"));
    for output in &outputs[..2] {
        pack(output, [&name]).run().code(3).stderr_has("exists and is").stderr_has("hint: ");
    }
    let now = (fs::read(&path).unwrap(), listing(&folder), fs::read(layout.join("index.json")).unwrap());
    assert!(before == now);
    fs::write(temp.path().join("notes.tar"), "not a bundle").unwrap();
    let notes = temp.path().join("notes.tar");
    pack(&notes, [&name]).run().code(3).stderr_has("exists and is something else");
    assert_eq!(fs::read(&notes).unwrap(), b"not a bundle");
    let left = listing(temp.path());
    assert!(left.iter().all(|name| !name.contains(".partial")), "{left:?}");
}

#[test]
fn a_layout_that_was_killed_keeps_nothing_of_what_a_tag_meant_before() {
    let (hostile, content, image, name) = seeded(5000);
    let temp = temp();
    let output = format!("oci:{}", temp.path().join("layout").display());
    let config = content.closure(&image)[0].digest.to_string();
    let mut other = Content::new();
    let old = other.image("linux/amd64", &[layer(70, 500), layer(71, 500)]);
    hostile.seed("app", &other, &old, Some("v1"));
    let gone = layer(71, 500).digest.to_string();
    hostile.fault(Fault::on("GET", &gone, Action::status(404)));
    pack(output.as_ref(), [&name]).run().code(4);
    hostile.clear_faults();
    hostile.tag("app", "v1", &image.digest);
    pack(output.as_ref(), [&name]).run().success();
    let blobs = listing(&temp.path().join("layout/blobs/sha256"));
    let mut expected: Vec<String> = content.closure(&image).iter().map(|d| d.digest.hex()).collect();
    expected.sort();
    assert_eq!(blobs, expected, "{config}");
}

#[test]
fn a_folder_gets_a_file_with_a_name_that_any_medium_takes() {
    let (_hostile, content, image, name) = seeded(5000);
    let temp = temp();
    let folder = format!("{}/", temp.path().display());
    let outcome = pack(folder.as_ref(), [&name]).run().success();
    let names = listing(temp.path());
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        assert!(
            name.len() <= 64
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
        );
    }
    let archive = temp.path().join(&names[1]);
    outcome.stdout_has(&names[1]);
    let packed = Packed::open(&archive);
    packed.has_all(&content, &image);
    assert!(names[1].contains(&packed.bundle.id().unwrap().hex()[..12]), "{names:?}");
}

#[test]
fn a_limit_names_the_largest_pieces() {
    let (hostile, content, image, name) = seeded(300_000);
    let temp = temp();
    let path = temp.path().join("out.tar");
    let outcome = pack(&path, [&name, "--max-size", "200K"]).run().code(3);
    let largest = &content.closure(&image)[1];
    outcome.stderr_has(&largest.digest.to_string()).stderr_has(&name).stderr_has("--max-size");
    assert!(hostile.requests_on("GET", &largest.digest.to_string()).is_empty());
    assert!(listing(temp.path()).is_empty());
    pack(&path, [&name, "--max-size", "400K"]).run().success();
}

#[test]
fn a_dry_run_writes_nothing_and_tells_programs_the_plan() {
    let (hostile, mut content, image, name) = seeded(300_000);
    let sibling = content.image("linux/arm64", &[Blob::new(LAYER, noise(1, 300_000))]);
    let index = content.index(&[image.clone(), sibling]);
    hostile.seed("multi", &content, &index, Some("v1"));
    let multi = format!("{}/multi:v1", hostile.host());
    let temp = temp();
    let path = temp.path().join("out.tar");
    let args = ["--dry-run", "--platform", "linux/amd64"];
    let outcome = pack(&path, [&name, &multi]).args(args).run().success();
    outcome.stdout_has("NOTHING CHANGED: this was a dry run").stdout_has("left out  linux/arm64");
    let outcome = barge(["pack", "--json", &name, &multi]).args(args).run().success();
    let document = outcome.json();
    let plan = &document["plan"];
    assert_eq!((&document["dryRun"], &document["command"]), (&json!(true), &json!("pack")));
    let closure = content.closure(&image);
    let sizes: u64 = closure.iter().map(|descriptor| descriptor.size).sum();
    let index_size = content.blobs[&index.digest].len() as u64;
    assert_eq!(plan["blobs"], json!(closure.len() + 1));
    assert_eq!(plan["bytes"], json!(sizes + index_size));
    assert_eq!(plan["deduplicatedBytes"], json!(sizes));
    assert_eq!(plan["images"][1]["leftOut"][0]["architecture"], "arm64");
    assert!(listing(temp.path()).is_empty());
    assert!(hostile.requests_on("GET", &closure[1].digest.to_string()).is_empty());
}

#[test]
fn programs_get_one_document_whatever_happens() {
    let (hostile, _, image, name) = seeded(3000);
    let temp = temp();
    let path = temp.path().join("out.tar");
    let done = pack(&path, [&name, "--json"]).run().success().json();
    assert_eq!((&done["outcome"], &done["exitCode"], &done["barge"]), (&json!("DONE"), &json!(0), &json!(1)));
    assert_eq!(done["images"][0]["root"], json!(image.digest));
    assert_eq!(done["length"], json!(fs::metadata(&path).unwrap().len()));
    hostile.fault(Fault::on("*", "/manifests/", Action::status(404)));
    let failed = pack(&temp.path().join("no.tar"), [&name, "--json"]).run().code(4).json();
    assert_eq!((&failed["outcome"], &failed["error"]["kind"]), (&json!("FAILED"), &json!("not-found")));
    let usage = barge(["pack", "--json", &name]).run().code(2).json();
    assert_eq!(usage["error"]["kind"], "usage");
    let bad = barge(["pack", "--json", "-o", "x.tar", "No"]).dir(temp.path()).run().code(2).json();
    assert_eq!(bad["error"]["kind"], "input");
}

#[test]
fn no_more_room_is_taken_than_the_file_and_its_journal() {
    let (hostile, ..) = seeded(100);
    let mut content = Content::new();
    let layers: Vec<Blob> = (0..6).map(|seed| Blob::new(LAYER, noise(seed, 700_000))).collect();
    let image = content.image("linux/amd64", &layers);
    hostile.seed("six", &content, &image, Some("v1"));
    hostile.fault(Fault::on("GET", &layers[5].digest.to_string(), Action::status(404)));
    let temp = temp();
    let path = temp.path().join("out.tar");
    let name = format!("{}/six:v1", hostile.host());
    pack(&path, [&name]).run().code(4);
    assert_eq!(listing(temp.path()), ["out.tar.partial", "out.tar.partial.journal"]);
    let length = |name: &str| fs::metadata(temp.path().join(name)).unwrap().len();
    assert!(length("out.tar.partial.journal") < 10_000);
    hostile.clear_faults();
    pack(&path, [&name]).run().success();
    assert!(length("out.tar") < 6 * 700_000 + 20_000);
}
