//! For random image sets and what becomes of them: a delta on what is there is as good as everything anew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use barge::oci::Descriptor;
use barge::oci::media_type::OCI_LAYER;
use proptest::bool::weighted;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use super::{Desk, brought};
use crate::support::archives::write_layout;
use crate::support::hostile::{Config, Hostile};
use crate::support::images::{Blob, Content, layer, layer_of, noise};

/// How many layers travelled as patches in all cases.
static PATCHES: AtomicUsize = AtomicUsize::new(0);
const HOST: &str = "registry.example";
const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/arm/v7"];

/// An image: its layers for each platform, and what is attached to it.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    /// Number of the platform, seeds of its layers. One alone may be without an index.
    platforms: BTreeMap<usize, Vec<u64>>,
    has_index: bool,
    attestation: bool,
    /// Which of its signatures, which is another manifest under the same tag.
    signature: Option<u8>,
    sboms: Vec<u8>,
}

/// What becomes of an image from one month to the next.
#[derive(Debug, Clone)]
enum Change {
    Kept,
    Removed,
    Replaced(Made),
    /// The same root, with something else attached.
    Resigned(Option<u8>, Vec<u8>),
}

/// An image of the first month, if it is there then, and what becomes of it in the months after.
#[derive(Debug, Clone)]
struct Fate {
    first: Option<Made>,
    changes: [Change; 2],
}

fn attached() -> impl Strategy<Value = (Option<u8>, Vec<u8>)> {
    (proptest::option::of(0u8..2), btree_set(0u8..3, 0..2).prop_map(|set| set.into_iter().collect()))
}

fn made() -> impl Strategy<Value = Made> {
    // Few seeds, so that layers are shared within an image, between images, and between months.
    let seeds = || vec(0u64..11, 1..4);
    let platforms = (seeds(), btree_map(1..PLATFORMS.len(), seeds(), 0..3));
    (platforms, any::<bool>(), any::<bool>(), attached()).prop_map(
        |((first, mut platforms), index, attestation, (signature, sboms))| {
            platforms.insert(0, first);
            let has_index = index || platforms.len() > 1;
            Made { platforms, has_index, attestation: attestation && has_index, signature, sboms }
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => Just(Change::Kept),
        1 => Just(Change::Removed),
        2 => made().prop_map(Change::Replaced),
        1 => attached().prop_map(|(signature, sboms)| Change::Resigned(signature, sboms)),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    let first = proptest::option::weighted(0.75, made());
    (first, [change(), change()]).prop_map(|(first, changes)| Fate { first, changes })
}

impl Change {
    fn of(&self, before: Option<Made>) -> Option<Made> {
        match self {
            Self::Kept => before,
            Self::Removed => None,
            Self::Replaced(made) => Some(made.clone()),
            Self::Resigned(signature, sboms) => {
                before.map(|before| Made { signature: *signature, sboms: sboms.clone(), ..before })
            }
        }
    }
}

/// A layer most of which the other layers of its kind have too, so that a patch travels in its place.
fn alike(seed: u64) -> Blob {
    let (common, own) = (noise(7, 9000), noise(seed, 700));
    layer_of(&[
        ("usr/lib/common", &common),
        ("etc/own", &own),
        ("usr/share/more", &common[..seed as usize * 500]),
    ])
}

/// A month as a layout, and what a registry must have of it: repository, tag (empty for a referrer), root.
struct Set {
    content: Content,
    roots: Vec<(String, String, Descriptor)>,
}

fn set(images: &[Option<Made>]) -> Set {
    let mut set = Set { content: Content::new(), roots: Vec::new() };
    for (at, made) in images.iter().enumerate() {
        let Some(made) = made else { continue };
        let content = &mut set.content;
        let mut children: Vec<Descriptor> = Vec::new();
        for (platform, seeds) in &made.platforms {
            // One of the layers has no bytes at all: nothing proves such a one, so it always travels.
            let layers = seeds.iter().map(|seed| match seed {
                0 => Blob::new(OCI_LAYER, ""),
                7.. => alike(*seed),
                seed => layer(*seed, 300 * *seed as usize),
            });
            let layers: Vec<Blob> = layers.collect();
            children.push(content.image(PLATFORMS[*platform], &layers));
        }
        if made.attestation {
            let attestation = content.attestation(&children[0]);
            children.push(attestation);
        }
        let root = if made.has_index { content.index(&children) } else { children[0].clone() };
        let repository = format!("set/image{}", at % 3);
        set.roots.push((repository.clone(), format!("v{at}"), root.clone()));
        if let Some(number) = made.signature {
            let (tag, signature) = content.signature(&root.digest, &format!("signature {number}"));
            set.roots.push((repository.clone(), tag, signature));
        }
        for number in &made.sboms {
            let sbom = content.artifact(&root, "application/vnd.example.sbom", &[*number]);
            set.roots.push((repository.clone(), String::new(), sbom));
        }
    }
    // Two names of one image have the same attachments: what stands twice is one.
    let mut seen: BTreeMap<(String, String), Descriptor> = BTreeMap::new();
    set.roots.retain(|(repository, tag, root)| {
        tag.is_empty() || seen.insert((repository.clone(), tag.clone()), root.clone()).is_none()
    });
    set
}

impl Set {
    fn write(&self, desk: &Desk, name: &str) {
        let named: Vec<(String, Descriptor)> = self
            .roots
            .iter()
            .map(|(repository, tag, root)| match tag.as_str() {
                "" => (String::new(), root.clone()),
                tag => (format!("{HOST}/{repository}:{tag}"), root.clone()),
            })
            .collect();
        let roots: Vec<(&str, Descriptor)> = named.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
        write_layout(&desk.path(name), &self.content, &roots);
    }
}

/// Returns whether one subject is signed differently under two names, which one layout can't say.
fn is_ambiguous(images: &[Option<Made>]) -> bool {
    let mut attached: Vec<(Made, &Made)> = Vec::new();
    for made in images.iter().flatten() {
        let bare = Made { signature: None, sboms: Vec::new(), ..made.clone() };
        if attached.iter().any(|(other, full)| *other == bare && *full != made) {
            return true;
        }
        attached.push((bare, made));
    }
    false
}

/// How three months are packed.
#[derive(Debug, Clone)]
struct Ways {
    /// Whether each month is packed for one platform alone.
    narrow: [bool; 3],
    /// Whether the second delta is made on the first, and not on the second month.
    on_delta: bool,
}

fn ways() -> impl Strategy<Value = Ways> {
    let narrow = [weighted(0.25), weighted(0.25), weighted(0.25)];
    (narrow, any::<bool>()).prop_map(|(narrow, on_delta)| Ways { narrow, on_delta })
}

/// Asserts that a target has everything of a month that it has after a push of that alone.
fn assert_as_anew(desk: &Desk, name: &str, set: &Set, target: &Hostile, is_narrow: bool) {
    let anew = Hostile::start(Config { referrers_api: true, ..Config::default() });
    desk.run(&format!("push {name} {}", anew.host())).stdout_has("as the bundle says");
    for (repository, tag, root) in &set.roots {
        if !tag.is_empty() {
            assert_eq!(target.tags(repository)[tag], root.digest, "{repository}:{tag}");
            assert_eq!(anew.tags(repository)[tag], root.digest);
        }
        for descriptor in set.content.closure(root) {
            let digest = &descriptor.digest;
            let has = |host: &Hostile| match set.content.manifests.contains_key(digest) {
                true => {
                    host.manifest(repository, &digest.to_string()).is_some_and(|bytes| digest.matches(&bytes))
                }
                false => host.has_blob(repository, digest),
            };
            assert!(has(&anew) || is_narrow, "{digest} in {repository} of {name} pushed by itself");
            assert!(has(target) || !has(&anew), "{digest} in {repository} of {name}");
        }
    }
}

fn holds_for(fates: &[Fate], ways: &Ways) -> Result<(), TestCaseError> {
    let mut months: Vec<Vec<Option<Made>>> = vec![fates.iter().map(|fate| fate.first.clone()).collect()];
    for at in 0..2 {
        let next = fates.iter().zip(&months[at]).map(|(fate, made)| fate.changes[at].of(made.clone()));
        months.push(next.collect());
    }
    for month in &months {
        prop_assume!(month.iter().any(Option::is_some) && !is_ambiguous(month));
    }
    let sets: Vec<Set> = months.iter().map(|month| set(month)).collect();
    let desk = Desk::new();
    for ((set, name), narrow) in sets.iter().zip(["x", "y", "z"]).zip(ways.narrow) {
        set.write(&desk, name);
        let platform = if narrow { "--platform linux/amd64" } else { "" };
        desk.run(&format!("pack oci:{name} -o {name}.oci.tar {platform}"));
    }
    let target = Hostile::start(Config { referrers_api: true, ..Config::default() });
    desk.run(&format!("push x.oci.tar {}", target.host())).stdout_has("as the bundle says");
    let second = if ways.on_delta { "1.barge" } else { "y.oci.tar" };
    let steps = [("x.oci.tar", "y", "1.barge"), (second, "z", "2.barge")];
    for (at, (base, name, delta)) in steps.into_iter().enumerate() {
        desk.run(&format!("diff {base} {name}.oci.tar -o {delta}"));
        // Nothing travels that the base has; content of no bytes always does.
        let held = brought(&desk.record(["x.oci.tar", "y.oci.tar"][at]));
        for digest in brought(&desk.record(delta)) {
            let is_empty = sets[at + 1].content.blobs[&digest].is_empty();
            prop_assert!(!held.contains(&digest) || is_empty, "{digest} travels again");
        }
        desk.run(&format!("push {delta} {}", target.host())).stdout_has("as the bundle says");
        assert_as_anew(&desk, &format!("{name}.oci.tar"), &sets[at + 1], &target, ways.narrow[at + 1]);
    }
    PATCHES.fetch_add(desk.record("1.barge").patches.len(), Ordering::Relaxed);
    PATCHES.fetch_add(desk.record("2.barge").patches.len(), Ordering::Relaxed);
    desk.run("merge 1.barge 2.barge -o long.barge");
    // Where the first month is the second, both deltas are on one and the same: then only the command line says which
    // is the later one.
    let is_ordered = desk.id("x.oci.tar") != desk.id("y.oci.tar");
    let turned = if is_ordered { "2.barge 1.barge x.oci.tar" } else { "1.barge 2.barge x.oci.tar" };
    for (at, (bundles, whole)) in [
        ("1.barge x.oci.tar", "y.oci.tar"),
        (turned, "z.oci.tar"),
        ("x.oci.tar 1.barge 2.barge", "z.oci.tar"),
        ("x.oci.tar long.barge", "z.oci.tar"),
    ]
    .into_iter()
    .enumerate()
    {
        desk.run(&format!("merge {bundles} -o merged{at}.oci.tar"));
        let is_same = desk.bytes(&format!("merged{at}.oci.tar")) == desk.bytes(whole);
        prop_assert!(is_same, "{bundles} together are not {whole}");
    }
    Ok(())
}

#[test]
fn a_delta_on_what_is_there_is_as_good_as_everything_anew() {
    let cases = std::env::var("BARGE_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let config = Cases { cases, failure_persistence: None, max_shrink_iters: 60, ..Cases::default() };
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(&(vec(fate(), 1..6), ways()), |(fates, ways)| holds_for(&fates, &ways)) {
        panic!("{error}");
    }
    assert!(PATCHES.load(Ordering::Relaxed) > 0, "no layer travelled as a patch");
}
