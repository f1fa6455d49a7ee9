//! For random image sets and what becomes of them: a delta on what is there is as good as everything anew.

use std::collections::BTreeMap;

use barge::oci::Descriptor;
use barge::oci::media_type::OCI_LAYER;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use super::{Desk, assert_image, brought};
use crate::support::archives::write_layout;
use crate::support::hostile::{Config, Hostile};
use crate::support::images::{Blob, Content, layer};

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

/// An image of the first month, if it is there then, and what becomes of it.
#[derive(Debug, Clone)]
struct Fate {
    before: Option<Made>,
    change: Change,
}

fn attached() -> impl Strategy<Value = (Option<u8>, Vec<u8>)> {
    (proptest::option::of(0u8..2), btree_set(0u8..3, 0..2).prop_map(|set| set.into_iter().collect()))
}

fn made() -> impl Strategy<Value = Made> {
    // Few seeds, so that layers are shared within an image, between images, and between months.
    let platforms = btree_map(0..PLATFORMS.len(), vec(0u64..7, 1..4), 1..4);
    (platforms, any::<bool>(), any::<bool>(), attached()).prop_map(
        |(platforms, index, attestation, (signature, sboms))| {
            let has_index = index || platforms.len() > 1;
            Made { platforms, has_index, attestation: attestation && has_index, signature, sboms }
        },
    )
}

fn fate() -> impl Strategy<Value = Fate> {
    let change = prop_oneof![
        2 => Just(Change::Kept),
        1 => Just(Change::Removed),
        2 => made().prop_map(Change::Replaced),
        1 => attached().prop_map(|(signature, sboms)| Change::Resigned(signature, sboms)),
    ];
    (proptest::option::weighted(0.75, made()), change).prop_map(|(before, change)| Fate { before, change })
}

impl Fate {
    fn after(&self) -> Option<Made> {
        match (&self.change, &self.before) {
            (Change::Kept, before) => before.clone(),
            (Change::Removed, _) => None,
            (Change::Replaced(made), _) => Some(made.clone()),
            (Change::Resigned(signature, sboms), before) => before.as_ref().map(|before| Made {
                signature: *signature,
                sboms: sboms.clone(),
                ..before.clone()
            }),
        }
    }
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

fn holds_for(fates: &[Fate]) -> Result<(), TestCaseError> {
    let before: Vec<Option<Made>> = fates.iter().map(|fate| fate.before.clone()).collect();
    let after: Vec<Option<Made>> = fates.iter().map(Fate::after).collect();
    let is_empty = |images: &[Option<Made>]| images.iter().all(Option::is_none);
    prop_assume!(!is_empty(&before) && !is_empty(&after));
    prop_assume!(!is_ambiguous(&before) && !is_ambiguous(&after));
    let (x, y) = (set(&before), set(&after));
    let desk = Desk::new();
    for (set, name) in [(&x, "x"), (&y, "y")] {
        set.write(&desk, name);
        desk.run(&format!("pack oci:{name} -o {name}.oci.tar"));
    }
    desk.run("diff x.oci.tar y.oci.tar -o delta.barge");
    desk.run("merge delta.barge x.oci.tar -o merged.oci.tar");
    prop_assert!(desk.bytes("merged.oci.tar") == desk.bytes("y.oci.tar"), "merged is not what was packed");

    // Nothing travels that the base has, and everything else does; content of no bytes always.
    let held = brought(&desk.record("x.oci.tar"));
    for digest in brought(&desk.record("delta.barge")) {
        prop_assert!(
            !held.contains(&digest) || y.content.blobs[&digest].is_empty(),
            "{digest} travels again"
        );
    }

    let target = Hostile::start(Config { referrers_api: true, ..Config::default() });
    let anew = Hostile::start(Config { referrers_api: true, ..Config::default() });
    desk.run(&format!("push x.oci.tar {}", target.host()));
    desk.run(&format!("push delta.barge {}", target.host()));
    desk.run(&format!("push y.oci.tar {}", anew.host()));
    for host in [target.host(), anew.host()] {
        for (repository, tag, root) in &y.roots {
            let digest = root.digest.to_string();
            let selector = if tag.is_empty() { &digest } else { tag };
            assert_image(host, repository, selector, &y.content, root);
        }
    }
    Ok(())
}

#[test]
fn a_delta_on_what_is_there_is_as_good_as_everything_anew() {
    let cases = std::env::var("BARGE_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(16);
    let config = Cases { cases, failure_persistence: None, max_shrink_iters: 60, ..Cases::default() };
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(&vec(fate(), 1..6), |fates| holds_for(&fates)) {
        panic!("{error}");
    }
}
