//! Bundles whose layers travel as patches: what verification and inspection say of them.

use std::path::PathBuf;

use barge::bundle::Bundle;
use barge::bundle::inspect::{Node, Presence, of_record, summarize, tree};
use barge::bundle::record::Record;
use barge::bundle::verify::{Finding, Options, Report, verify};
use barge::oci::Digest;
use barge::pack::Output;
use barge::transfer::Silent;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bundles::{check, kinds, whole};
use crate::format_spec::build::with_edited_record;
use crate::format_spec::made::{How, Made, Site, pack, write};
use crate::support::barge::{Outcome, barge};
use crate::support::images::{Blob, Content, layer, layer_of, noise};

/// The repository of an image of which one layer changes each month.
pub const DB: &str = "registry.example/site/db";
/// An image that stays as it is.
pub const WEB: &str = "registry.example/site/web:v1";

/// Three months: bundles of each, and deltas that take whoever has one month to the next.
pub struct Year {
    pub temp: TempDir,
    /// The layer that changes, month by month.
    pub layers: [Blob; 3],
}

/// The layer of a month: each changes some bytes of the one before, and the last has a file of another layer too.
fn monthly(month: usize) -> Blob {
    let mut data = noise(40, 30_000);
    for at in 0..month {
        data[1000 * at + 500] ^= 0xff;
        data.splice(20_000..20_000, noise(50 + at as u64, 40));
    }
    let (month, more) = (month.to_string(), noise(60, 8000));
    let mut files: Vec<(&str, &[u8])> = vec![("srv/db/data.bin", &data), ("srv/db/month", month.as_bytes())];
    if month == "2" {
        // What was in a layer of its own before.
        files.push(("srv/db/more.bin", &more));
    }
    layer_of(&files)
}

/// What is in a layer of its own for two months.
fn more() -> Blob {
    layer_of(&[("srv/db/more.bin", &noise(60, 8000))])
}

fn site(month: usize, layer_of_month: &Blob) -> Site {
    let mut content = Content::new();
    let os = layer(1, 6000);
    let mut layers = vec![os.clone(), layer_of_month.clone()];
    if month < 3 {
        layers.push(more());
    }
    let db = content.image("linux/amd64", &layers);
    let web = content.image("linux/amd64", &[os, layer(2, 5000)]);
    let roots = vec![(format!("{DB}:v{month}"), db), (WEB.to_owned(), web)];
    let images = roots.iter().map(|(name, _)| name.clone()).collect();
    Site { content, roots, images, platforms: Vec::new(), own_layer: layer_of_month.digest.clone() }
}

/// Packs three months: `jan`, `feb` and `mar` whole (`.oci.tar`), and as deltas `feb` and `mar` on the month before, with
/// patches; `feb-whole` without; `long` of both with patches, `held` of `feb-whole` and `mar` (`.barge`).
pub fn year() -> Year {
    let year = Year { temp: tempfile::tempdir().unwrap(), layers: [0, 1, 2].map(monthly) };
    for (at, name) in ["jan", "feb", "mar"].iter().enumerate() {
        let path = year.path(&format!("{name}.oci.tar"));
        pack(&site(at + 1, &year.layers[at]), How::default(), Output::Archive(path)).unwrap();
    }
    year.run("diff jan.oci.tar feb.oci.tar -o feb.barge").success();
    year.run("diff jan.oci.tar feb.oci.tar -o feb-whole.barge --layer-delta off").success();
    year.run("diff feb.oci.tar mar.oci.tar -o mar.barge").success();
    year.run("merge feb.barge mar.barge -o long.barge").success();
    year.run("merge feb-whole.barge mar.barge -o held.barge").success();
    year
}

impl Year {
    /// A file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Runs a command line. Working files are kept in this year's own folder, since tests that run at the same time do the
    /// same work.
    pub fn run(&self, line: &str) -> Outcome {
        barge(line.split(' ')).dir(self.temp.path()).env("TMPDIR", self.temp.path()).run()
    }

    /// A bundle, in memory.
    pub fn made(&self, name: &str) -> Made {
        let sidecar = std::fs::read(self.path(&format!("{name}.barge.json"))).unwrap();
        Made::new(std::fs::read(self.path(name)).unwrap(), sidecar)
    }

    /// Verifies other bytes.
    pub fn check(&self, bytes: &[u8]) -> Report {
        check(&write(bytes, self.temp.path(), "other.barge")).unwrap()
    }

    /// Verifies a bundle with an edited record.
    pub fn check_edited(&self, made: &Made, edit: impl FnOnce(&mut Value)) -> Report {
        self.check(&with_edited_record(made, edit))
    }

    /// Verifies a bundle in which a blob is damaged.
    fn check_damaged(&self, made: &Made, digest: &Digest) -> Report {
        let mut bytes = made.bytes.clone();
        bytes[made.entry(&digest.blob_path()).data as usize + 100] ^= 1;
        self.check(&bytes)
    }
}

/// The patch by which content is rebuilt.
#[track_caller]
pub fn patch_of(made: &Made, target: &Digest) -> Digest {
    let rows = made.record["patches"].as_array().unwrap();
    let row = rows.iter().find(|row| row["target"] == target.to_string()).expect("a patch");
    row["patch"].as_str().unwrap().parse().unwrap()
}

fn names(month: usize) -> [String; 2] {
    [format!("{DB}:v{month}"), WEB.to_owned()]
}

/// What is asked for again.
fn resent(report: &Report) -> Vec<(&Digest, u64)> {
    report.resend.iter().map(|one| (&one.digest, one.size)).collect()
}

/// Who pays for a finding.
fn costs(finding: &Finding) -> Vec<&str> {
    finding.costs.iter().map(|cost| cost.image.as_str()).collect()
}

#[test]
fn bundles_with_patches_are_whole() {
    let year = year();
    for (name, month, rebuilt) in [("feb", 2, 1), ("mar", 3, 1), ("long", 3, 2), ("held", 3, 1)] {
        let report = check(&year.path(&format!("{name}.barge"))).unwrap();
        assert!(report.is_clean(), "{name}: {:#?}", report.findings);
        let names = names(month);
        assert_eq!(whole(&report), [(names[0].as_str(), true), (WEB, true)]);
        assert_eq!(report.counts.rebuilt.count, rebuilt, "{name}");
        assert!(report.resend.is_empty());
    }
    let size = year.layers[1].bytes.len() as u64;
    assert_eq!(check(&year.path("feb.barge")).unwrap().counts.rebuilt.bytes, size);
    year.run("verify feb.barge").success().stdout_has("rebuilds 1 blob");
    // As a folder, too.
    year.run("merge feb.barge mar.barge -o oci:folder").success();
    year.run("verify folder").success().stdout_has("rebuilds 2 blobs");
}

#[test]
fn a_lost_patch_costs_what_needs_its_target_and_the_target_is_asked_for() {
    let year = year();
    let made = year.made("feb.barge");
    let target = &year.layers[1];
    let patch = patch_of(&made, &target.digest);
    let wanted = vec![(&target.digest, target.bytes.len() as u64)];
    let db = names(2)[0].clone();
    let gap = year.check_edited(&made, |record| {
        let rows = record["blobs"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["role"] == "patch").unwrap()["role"] = json!("gap");
    });
    let cut = year.check(&made.bytes[..made.entry(&patch.blob_path()).data as usize]);
    for (report, kind) in
        [(year.check_damaged(&made, &patch), "blob-damaged"), (gap, "gap"), (cut, "truncated")]
    {
        assert_eq!(kinds(&report), [kind], "{:#?}", report.findings);
        assert_eq!(costs(&report.findings[0]), [db.as_str()], "{kind}");
        assert_eq!(whole(&report), [(db.as_str(), false), (WEB, true)], "{kind}");
        assert_eq!(resent(&report), wanted, "{kind}");
        assert_eq!(report.resend[0].media_type, target.media_type);
    }
    // And so it is written.
    year.check_damaged(&made, &patch);
    year.run("verify other.barge --request again.json").code(1);
    let request: Value = serde_json::from_slice(&std::fs::read(year.path("again.json")).unwrap()).unwrap();
    assert_eq!(request["blobs"].as_array().unwrap().len(), 1);
    assert_eq!(request["blobs"][0]["digest"], target.digest.to_string());
    assert_eq!(request["images"][0]["name"], db);
}

#[test]
fn what_only_patches_need_costs_what_is_rebuilt_from_it() {
    let year = year();
    let [_, second, third] = &year.layers;
    let wanted = vec![(&third.digest, third.bytes.len() as u64)];
    // A step on the way, which no image has, and content that travels for a patch only.
    let long = year.made("long.barge");
    let held = year.made("held.barge");
    assert_eq!(held.row(&second.digest)["role"], "base");
    for (made, lost) in [
        (&long, patch_of(&long, &second.digest)),
        (&long, patch_of(&long, &third.digest)),
        (&held, second.digest.clone()),
        (&held, patch_of(&held, &third.digest)),
    ] {
        let report = year.check_damaged(made, &lost);
        assert_eq!(kinds(&report), ["blob-damaged"]);
        assert_eq!(costs(&report.findings[0]), [names(3)[0].as_str()], "{lost}");
        assert_eq!(resent(&report), wanted, "{lost}");
    }
    // Content that an image has, and patches of other images build on, is asked for itself.
    let both = year.check_edited(&held, |record| {
        let rows = record["blobs"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["role"] == "base").unwrap()["role"] = json!("layer");
    });
    assert!(both.is_clean(), "{:#?}", both.findings);
    let held = Made::new(std::fs::read(year.path("other.barge")).unwrap(), Vec::new());
    let report = year.check_damaged(&held, &second.digest);
    assert_eq!(resent(&report), [(&second.digest, second.bytes.len() as u64)]);
    assert_eq!(costs(&report.findings[0]), [names(3)[0].as_str()]);
}

#[test]
fn only_the_patches_of_the_named_image_are_read() {
    let year = year();
    let made = year.made("long.barge");
    year.check_damaged(&made, &patch_of(&made, &year.layers[1].digest));
    let only = |name: &str| {
        let options = Options { images: vec![name.to_owned()], ..Options::default() };
        verify(&year.path("other.barge"), &options, &Silent).unwrap()
    };
    let web = only(WEB);
    assert!(web.is_clean() && web.counts.rebuilt.count == 0, "{:#?}", web.findings);
    let db = only(&names(3)[0]);
    assert_eq!((kinds(&db), db.counts.rebuilt.count), (vec!["blob-damaged"], 2));
    assert_eq!(db.resend[0].digest, year.layers[2].digest);
}

#[test]
fn a_patch_that_says_something_else_than_the_record_is_as_good_as_lost() {
    type Edit<'a> = &'a dyn Fn(&mut Value);
    let year = year();
    let long = year.made("long.barge");
    let size = |rows: &mut Value| {
        for row in rows.as_array_mut().unwrap() {
            row["size"] = json!(row["size"].as_u64().unwrap() + 1);
        }
    };
    let edits: [(Edit<'_>, &str, usize); 3] = [
        (
            &|record| {
                let rows = &mut record["patches"];
                let first = rows[0]["patch"].take();
                rows[0]["patch"] = std::mem::replace(&mut rows[1]["patch"], first);
            },
            "the record rebuilds",
            2,
        ),
        (
            &|record| {
                for row in record["patches"].as_array_mut().unwrap() {
                    row["bases"].as_array_mut().unwrap().reverse();
                }
            },
            "from other content",
            1,
        ),
        (&|record| size(&mut record["base"]["content"]), "another size", 2),
    ];
    for (at, (edit, words, count)) in edits.into_iter().enumerate() {
        let report = year.check_edited(&long, edit);
        assert_eq!(kinds(&report), ["patch-mismatch"], "edit {at}: {:#?}", report.findings);
        assert_eq!(report.findings.len(), count, "edit {at}: {:#?}", report.findings);
        assert!(report.findings[0].detail.contains(words), "{:#?}", report.findings);
        assert_eq!(costs(&report.findings[0]), [names(3)[0].as_str()], "edit {at}");
        assert_eq!(resent(&report), [(&year.layers[2].digest, year.layers[2].bytes.len() as u64)]);
    }
    let report = year.check_edited(&long, |record| size(&mut record["patches"]));
    assert!(kinds(&report).contains(&"size-mismatch") && kinds(&report).contains(&"patch-mismatch"));
    assert_eq!(report.images_whole(), (1, 1));
}

/// The nodes of a tree that are layers, with where they are.
fn layers(node: &Node) -> Vec<&Node> {
    let own = (node.kind == "layer").then_some(node);
    own.into_iter().chain(node.children.iter().flat_map(layers)).collect()
}

#[test]
fn inspection_shows_what_is_rebuilt_and_from_what() {
    let year = year();
    let [first, second, third] = &year.layers;
    let bundle = Bundle::open(&year.path("feb.barge")).unwrap();
    let summary = summarize(&bundle).unwrap();
    let made = year.made("feb.barge");
    let patch = patch_of(&made, &second.digest);
    let patch_size = made.row(&patch)["size"].as_u64().unwrap();
    let size = |blob: &Blob| blob.bytes.len() as u64;
    let patches = summary.patches.as_ref().unwrap();
    assert_eq!((patches.count, patches.bytes, patches.content_bytes), (1, patch_size, size(second)));
    assert_eq!(patches.saved_bytes, size(second) - patch_size);
    assert_eq!((patches.far_side.count, patches.far_side.bytes), (1, size(first)));
    assert_eq!(patches.held.count, 0);
    let sidecar = Record::read(made.sidecar.as_slice()).unwrap();
    assert_eq!(of_record(&sidecar, None, &year.path("x")).patches, summary.patches);
    let tree = tree(&bundle, &summary.images[0]);
    let [os, own, _] = &layers(&tree)[..] else { panic!("{tree:#?}") };
    assert_eq!(os.presence, Presence::Absent(barge::select::Reason::Base));
    assert_eq!((own.presence, &own.digest), (Presence::Patched, &second.digest));
    let note = own.patch.as_ref().unwrap();
    assert_eq!((&note.patch, note.size, &note.bases[..]), (&patch, patch_size, &[first.digest.clone()][..]));

    let shown = year.run("inspect feb.barge --tree").success();
    shown
        .stdout_has("rebuilds 1 blob")
        .stdout_has("that the far side has")
        .stdout_has(&format!("[patched from {}: ", first.digest.short()))
        .stdout_has("[left out: the far side has it already]");
    year.run("inspect feb-whole.barge --tree").success().stdout_has("[whole]");
    let json = year.run("inspect feb.barge --json --tree").success().json();
    assert_eq!(json["patches"]["contentBytes"], size(second));
    let layer = &json["images"][0]["tree"]["children"][2];
    assert_eq!(layer["presence"], json!({ "is": "patched" }));
    assert_eq!(layer["patch"]["bases"], json!([first.digest]));

    // A step on the way saves nothing by itself, and what travels for patches only is taken off.
    let long = summarize(&Bundle::open(&year.path("long.barge")).unwrap()).unwrap().patches.unwrap();
    assert_eq!((long.count, long.content_bytes), (2, size(second) + size(third)));
    assert_eq!(long.saved_bytes, size(third) - long.bytes);
    let held = summarize(&Bundle::open(&year.path("held.barge")).unwrap()).unwrap().patches.unwrap();
    assert_eq!((held.held.bytes, held.far_side.count), (size(second), 1));
    assert_eq!(held.saved_bytes, size(third) - held.bytes - size(second));
    year.run("inspect held.barge").success().stdout_has("here for that only");
    let none = summarize(&Bundle::open(&year.path("jan.oci.tar")).unwrap()).unwrap();
    assert_eq!(none.patches, None);
    // Of a patch that could not be had, the content could not be had.
    let gap = with_edited_record(&made, |record| {
        let rows = record["blobs"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["role"] == "patch").unwrap()["role"] = json!("gap");
    });
    write(&gap, year.temp.path(), "gap.barge");
    year.run("inspect gap.barge --tree").stdout_has("[could not be had]");
}
