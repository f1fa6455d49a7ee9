//! `barge merge` and several bundles at once: patches are applied where everything is there, and carried on where not.

use super::{Desk, Release, digests};
use crate::support::client::Client;
use crate::support::peers::{RealRegistry, command, run};

/// Three releases, packed whole, and as deltas each on the one before.
struct Months {
    desk: Desk,
    releases: [Release; 3],
}

fn months() -> Months {
    let source = RealRegistry::start();
    let releases = [1, 2, 3].map(Release::of);
    let desk = Desk::new();
    for (at, release) in (1..).zip(&releases) {
        release.fill(source.host());
        let names = release.names(source.host());
        desk.run(&format!("pack {names} -o v{at}.oci.tar"));
        if at > 1 {
            let base = at - 1;
            desk.run(&format!("pack {names} --base v{base}.oci.tar -o v{at}.barge"))
                .stdout_has(" in place of 6 layers, ");
        }
    }
    Months { desk, releases }
}

#[test]
fn a_whole_bundle_and_deltas_are_the_last_state_packed() {
    let Months { desk, .. } = months();
    for (at, (bundles, expected)) in [
        ("v1.oci.tar v2.barge", "v2.oci.tar"),
        ("v2.barge v1.oci.tar", "v2.oci.tar"),
        ("v1.oci.tar v2.barge v3.barge", "v3.oci.tar"),
        ("v3.barge v1.oci.tar v2.barge", "v3.oci.tar"),
        ("v2.oci.tar v3.barge --memory 256M", "v3.oci.tar"),
        ("v2.oci.tar v3.barge --jobs 1", "v3.oci.tar"),
    ]
    .into_iter()
    .enumerate()
    {
        desk.run(&format!("merge {bundles} -o merged{at}.oci.tar"));
        assert!(desk.bytes(&format!("merged{at}.oci.tar")) == desk.bytes(expected), "{bundles}");
    }
    // Into a layout: the same files as packing makes.
    desk.run("merge v1.oci.tar v2.barge v3.barge -o oci:layout");
    desk.run("pack v3.oci.tar -o oci:expected");
    run(command("diff").arg("-r").args([desk.path("layout/blobs"), desk.path("expected/blobs")]));
    assert!(desk.bytes("layout/index.json") == desk.bytes("expected/index.json"));
    desk.run("verify layout");
    // One image of it, and one missing in between.
    desk.run("merge v1.oci.tar v2.barge --image team/solo -o solo.oci.tar");
    assert_eq!(desk.record("solo.oci.tar").images.len(), 1);
    let missing = desk.fails("merge v1.oci.tar v3.barge -o none.oci.tar", 5);
    missing.stderr_has("v3.barge follows v2.oci.tar");
    assert!(!desk.path("none.oci.tar").exists() && !desk.path("none.oci.tar.partial").exists());
}

#[test]
fn deltas_alone_are_a_longer_delta_with_all_patches_in_between() {
    let Months { desk, releases } = months();
    let [first, second, third] = &releases;
    desk.run("merge v2.barge v3.barge -o long.barge");
    desk.run("merge v3.barge v2.barge -o turned.barge");
    assert!(desk.bytes("long.barge") == desk.bytes("turned.barge"));
    desk.run("verify long.barge");
    let of = |release: &Release| {
        let new = &release.layers;
        digests([&new.base, &new.lib, &new.app, &new.data, &new.conf, &new.solo])
    };
    let both = of(second).union(&of(third)).cloned().collect();
    assert_eq!(desk.rebuilt("long.barge"), both);

    // Onto the first release.
    let b = RealRegistry::start();
    first.fill(b.host());
    let pushed = desk.run(&format!("push long.barge {} --receipt long.json", b.host()));
    pushed.stdout_has("as the bundle says");
    third.assert_copied(b.host(), "");
    // What is only in between is not left at the target.
    assert!(!b.blob_file(&second.layers.solo.digest).exists());
    // Onto a site that has the second already, where the first is gone.
    let b = RealRegistry::start();
    second.fill(b.host());
    desk.run(&format!("push long.barge {}", b.host())).stdout_has("DONE:");
    third.assert_copied(b.host(), "");
    // The last delta alone, and both at once.
    let b = RealRegistry::start();
    first.fill(b.host());
    desk.run(&format!("push v2.barge {}", b.host()));
    desk.run(&format!("push v3.barge {}", b.host()));
    third.assert_copied(b.host(), "");
    let b = RealRegistry::start();
    first.fill(b.host());
    desk.run(&format!("push v3.barge v2.barge {}", b.host())).stdout_has("DONE:");
    third.assert_copied(b.host(), "");
    // The long one on the whole one is the last state again.
    desk.run("merge long.barge v1.oci.tar -o again.oci.tar");
    assert!(desk.bytes("again.oci.tar") == desk.bytes("v3.oci.tar"));
    // Where neither is, nothing changes.
    let b = RealRegistry::start();
    desk.fails(&format!("push long.barge {}", b.host()), 5).stderr_has("NOTHING CHANGED");
    assert!(Client::plain(b.host()).tags("team/app").is_empty());
}

#[test]
fn a_whole_bundle_and_deltas_fill_an_empty_registry() {
    let Months { desk, releases } = months();
    for bundles in ["v1.oci.tar v2.barge", "v2.barge v1.oci.tar"] {
        let b = RealRegistry::start();
        desk.run(&format!("push {bundles} {}", b.host())).stdout_has("as the bundle says");
        releases[1].assert_copied(b.host(), "");
    }
    let b = RealRegistry::start();
    desk.run(&format!("push v1.oci.tar v2.barge v3.barge {}/site", b.host())).stdout_has("DONE:");
    releases[2].assert_copied(b.host(), "site/");
}

#[test]
fn a_delta_is_a_base_and_a_place_of_content() {
    let Months { desk, releases } = months();
    // What the second release has is in no one file: the whole first one and a delta give it.
    let source = RealRegistry::start();
    releases[2].fill(source.host());
    let names = desk.record("v3.oci.tar").images.iter().map(|image| image.name.clone()).collect::<Vec<_>>();
    let images: Vec<String> = names
        .iter()
        .map(|name| format!("{name}={}/{}:{}", source.host(), name.name.repository, super::TAG))
        .collect();
    let images = images.join(" ");
    desk.run(&format!("pack {images} --base v2.barge --base-content v1.oci.tar -o chain.barge"))
        .stdout_has(" in place of 6 layers, ");
    desk.run("merge v1.oci.tar v2.barge chain.barge -o again.oci.tar");
    let b = RealRegistry::start();
    desk.run(&format!("push again.oci.tar {}", b.host()));
    releases[2].assert_copied(b.host(), "");
    // Alone a delta gives nothing of what it patches: its layers travel whole, and that is said.
    let alone = desk.run(&format!("pack {images} --base v2.barge -o alone.barge"));
    assert!(desk.rebuilt("alone.barge").is_empty(), "{alone}");
    alone.stderr_has("travels whole");
    desk.run(&format!("push v1.oci.tar v2.barge alone.barge {}/alone", b.host())).stdout_has("DONE:");
    releases[2].assert_copied(b.host(), "alone/");
    // By files only, without any registry.
    desk.run("diff v2.oci.tar v3.oci.tar -o files.barge").stdout_has(" in place of 6 layers, ");
    desk.run("merge v2.oci.tar files.barge -o files.oci.tar");
    assert!(desk.bytes("files.oci.tar") == desk.bytes("v3.oci.tar"));
}
