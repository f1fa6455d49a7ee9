//! Bundles that were damaged or edited, and working folders that can't be used: nothing of it reaches a target.

use std::path::PathBuf;

use barge::bundle::Bundle;
use barge::bundle::patches::{CODEC, PatchRow};
use barge::bundle::trailer::Trailer;
use barge::oci::Digest;

use super::{Desk, Release, TAG};
use crate::support::barge::Outcome;
use crate::support::hostile::Hostile;
use crate::support::peers::{command, run_any};

/// B has the first release, `v2.barge` brings the second.
struct Scene {
    desk: Desk,
    a: Hostile,
    b: Hostile,
    first: Release,
    second: Release,
}

fn scene() -> Scene {
    let (a, b) = (Hostile::honest(), Hostile::honest());
    let (first, second) = (Release::of(1), Release::of(2));
    let desk = Desk::new();
    first.fill(a.host());
    first.fill(b.host());
    desk.run(&format!("pack {} -o v1.oci.tar", first.names(a.host())));
    second.fill(a.host());
    desk.run(&format!("pack {} --base v1.oci.tar -o v2.barge", second.names(a.host())));
    b.forget_requests();
    Scene { desk, a, b, first, second }
}

impl Scene {
    /// How a layer is rebuilt.
    fn row(&self, target: &Digest) -> PatchRow {
        self.desk.record("v2.barge").patches.find(target).unwrap().clone()
    }

    /// Asserts that no manifest, no tag and none of these blobs came to B.
    #[track_caller]
    fn assert_untouched(&self, repositories: &[&str], blobs: &[&Digest]) {
        self.first.assert_tagged(self.b.host(), repositories);
        for repository in repositories {
            // Another platform's manifest may be there: what is not whole is what must not.
            for selector in [TAG, &self.second.root(repository).digest.to_string()] {
                let path = format!("/v2/{repository}/manifests/{selector}");
                assert!(self.b.requests_on("PUT", &path).is_empty(), "{}", self.b.transcript());
            }
            for digest in blobs {
                assert!(!self.b.has_blob(repository, digest), "{digest} in {repository}");
            }
        }
    }
}

/// Flips a bit in the middle of a blob of a bundle.
fn flip(path: &PathBuf, digest: &Digest) {
    let opened = Bundle::open(path).unwrap();
    let (_, row) = opened.record().unwrap().blobs.find(digest).unwrap();
    let at = (opened.archive().unwrap().head_length + row.offset + row.size / 2) as usize;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_patch_is_found_and_costs_only_its_images() {
    let scene = scene();
    let Scene { desk, b, second, .. } = &scene;
    let target = &second.layers.lib.digest;
    let patch = scene.row(target).patch;
    flip(&desk.path("v2.barge"), &patch);
    desk.fails("verify v2.barge", 1).stdout_has(&patch.to_string());
    let failed = desk.fails(&format!("push v2.barge {} --keep-going", b.host()), 1);
    failed.stdout_has("PARTIAL").stderr_has(&target.to_string()).stderr_has("team/app");
    scene.assert_untouched(&["team/app"], &[target]);
    second.assert_one_copied(b.host(), "", "team/solo");
    second.assert_one_copied(b.host(), "", "team/tool");
    let merged = desk.fails("merge v1.oci.tar v2.barge -o merged.oci.tar", 3);
    merged.stderr_has(&patch.to_string());
    assert!(!desk.path("merged.oci.tar").exists());
}

/// Edits `barge.json` in its place, where no length changes, and gives the bundle the trailer that fits.
fn edit(desk: &Desk, name: &str, edits: &[(&str, &str)]) {
    let mut bytes = desk.bytes("v2.barge");
    let record = serde_json::to_vec(&desk.record("v2.barge")).unwrap();
    let start = bytes.windows(record.len()).position(|window| window == record).unwrap();
    let mut text = String::from_utf8(record.clone()).unwrap();
    // Two that change places must not undo each other.
    for (at, (from, _)) in edits.iter().enumerate() {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, &format!("\u{1}{at}\u{1}"));
    }
    for (at, (_, to)) in edits.iter().enumerate() {
        text = text.replace(&format!("\u{1}{at}\u{1}"), to);
    }
    assert_eq!(text.len(), record.len());
    assert_ne!(text.as_bytes(), record);
    bytes[start..start + record.len()].copy_from_slice(text.as_bytes());
    let at = bytes.len() - 1024 - 512;
    let trailer = Trailer::parse(&bytes[at..at + 512]).unwrap();
    let trailer = Trailer { record: Digest::sha256(text.as_bytes()), ..trailer };
    bytes[at..at + 512].copy_from_slice(&trailer.to_bytes());
    std::fs::write(desk.path(name), bytes).unwrap();
}

#[test]
fn a_record_with_other_patches_is_refused_before_anything_is_sent() {
    let scene = scene();
    let Scene { desk, b, second, first, .. } = &scene;
    let row = scene.row(&second.layers.base.digest);
    let (target, patch) = (row.target.to_string(), row.patch.to_string());
    let nowhere = Digest::sha256(b"nowhere").to_string();
    let refused = |name: &str, edits: &[(&str, &str)], says: &str| {
        edit(desk, name, edits);
        let pushed = desk.fails(&format!("push {name} {} --keep-going", b.host()), 3);
        pushed.stderr_has(says).never_says("panicked");
        let merged = desk.fails(&format!("merge v1.oci.tar {name} -o merged.oci.tar"), 3);
        merged.stderr_has(says);
        assert_ne!(desk.barge(&format!("verify {name}")).run().code, 0);
        assert!(b.writes().is_empty(), "{}", b.transcript());
    };
    let codec = |number: u8| format!("\"codec\":\"layer/{number}\"");
    assert!(CODEC == "layer/1");
    refused("codec.barge", &[(&codec(1), &codec(9))], "use a newer barge");
    // A base that nothing is said of.
    let base = first.layers.base.digest.to_string();
    assert_eq!(row.bases.len(), 1, "{row:?}");
    let bases = format!("\"bases\":[\"{base}\"],\"codec\"");
    let edited = format!("\"bases\":[\"{nowhere}\"],\"codec\"");
    refused("base.barge", &[(&bases, &edited)], "does not say where that is");
    let itself = format!("\"bases\":[\"{target}\"],\"codec\"");
    refused("itself.barge", &[(&bases, &itself)], "from itself");
    let lost = (format!("\"patch\":\"{patch}\""), format!("\"patch\":\"{nowhere}\""));
    refused("patch.barge", &[(&lost.0, &lost.1)], "does not list");
    refused("twice.barge", &[(&format!("\"target\":\"{target}\""), &format!("\"target\":\"{base}\""))], "");
    scene.assert_untouched(&["team/app", "team/tool", "team/solo"], &[]);
}

#[test]
fn patches_that_changed_places_rebuild_nothing() {
    let scene = scene();
    let Scene { desk, b, second, .. } = &scene;
    let rows = [&second.layers.base, &second.layers.solo].map(|layer| scene.row(&layer.digest));
    let named = rows.each_ref().map(|row| format!("\"patch\":\"{}\"", row.patch));
    edit(desk, "swapped.barge", &[(&named[0], &named[1]), (&named[1], &named[0])]);
    let pushed = desk.fails(&format!("push swapped.barge {}", b.host()), 1);
    pushed.stderr_has("a patch of other content").stdout_has("PARTIAL").never_says("panicked");
    let layers = [&second.layers.base.digest, &second.layers.solo.digest];
    scene.assert_untouched(&["team/app", "team/tool", "team/solo"], &layers);
    desk.fails("merge v1.oci.tar swapped.barge -o merged.oci.tar", 3).stderr_has("a patch of other content");
    assert!(!desk.path("merged.oci.tar").exists());
}

/// Runs `barge` where no file may become longer than this many KiB.
fn limited(desk: &Desk, kib: u64, line: &str) -> Outcome {
    let binary = env!("CARGO_BIN_EXE_barge");
    let script = format!("trap '' XFSZ; ulimit -f {}; exec {binary} {line}", kib * 2);
    let home = tempfile::tempdir().unwrap();
    let output = run_any(
        command("sh")
            .args(["-c", &script])
            .current_dir(desk.path(""))
            .env("HOME", home.path())
            .env("TMPDIR", desk.path("scratch"))
            .env("NO_COLOR", "1"),
    );
    Outcome::of(line, &output)
}

#[test]
fn a_working_folder_that_is_missing_or_full_is_named_and_nothing_is_half_written() {
    let scene = scene();
    let Scene { desk, a, b, first, second } = &scene;
    let pack = format!("pack {} --base v1.oci.tar -o full.barge", second.names(a.host()));
    let push = format!("push v2.barge {} --keep-going", b.host());
    let merge = "merge v1.oci.tar v2.barge -o full.barge".to_owned();
    let files = || {
        let entries = std::fs::read_dir(desk.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name.to_str().unwrap().starts_with("full")).collect::<Vec<_>>()
    };
    for line in [&pack, &push, &merge] {
        let missing = desk.fails(&format!("{line} --scratch no/such/folder"), 3);
        missing.stderr_has("no/such/folder").stderr_has("--scratch DIR");
        assert!(files().is_empty(), "{:?}", files());
    }
    std::fs::create_dir(desk.path("small")).unwrap();
    for line in [&pack, &push, &merge] {
        let full = limited(desk, 100, &format!("{line} --scratch small"));
        assert!(full.code == 3 || (*line == push && full.code == 1), "{full}");
        full.stderr_has("small").stderr_has("--scratch").never_says("panicked");
        assert!(!desk.path("full.barge").exists());
    }
    // No layer is taken for lost: what is asked of the far side is room, not content.
    assert!(!desk.path("v2.request.json").exists());
    scene.assert_untouched(&["team/app", "team/tool"], &[&second.layers.base.digest]);
    first.assert_tagged(b.host(), &["team/app", "team/tool"]);
    desk.run(&push);
    second.assert_copied(b.host(), "");
}
