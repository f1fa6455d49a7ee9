//! What goes wrong between two sites, and how they come together again.

use std::collections::BTreeSet;

use barge::oci::Digest;
use barge::request::Request;

use super::{Desk, Month, brought, lacking};
use crate::support::hostile::Hostile;
use crate::support::peers::{RealRegistry, RegistryOptions, push_content};

struct Scene {
    desk: Desk,
    a: Hostile,
    b: Hostile,
    january: Month,
    february: Month,
    march: Month,
}

/// A has March, B has January; `feb.barge` follows `jan.oci.tar`, `mar.barge` follows `feb.barge`.
fn scene() -> Scene {
    let (a, b) = (Hostile::honest(), Hostile::honest());
    let (january, february, march) = (Month::january(), Month::february(), Month::march());
    let desk = Desk::new();
    for (month, name) in [(&january, "jan.oci.tar"), (&february, "feb.oci.tar"), (&march, "mar.oci.tar")] {
        month.fill(a.host());
        month.pack(a.host(), &desk.path(name));
    }
    desk.run("diff jan.oci.tar feb.oci.tar -o feb.barge");
    desk.run("diff feb.barge.barge.json mar.oci.tar -o mar.barge");
    desk.run(&format!("push jan.oci.tar {}", b.host()));
    b.forget_requests();
    Scene { desk, a, b, january, february, march }
}

#[test]
fn a_delta_without_the_one_before_it_changes_nothing() {
    let Scene { desk, b, january, march, .. } = scene();
    let lost = desk.fails(&format!("push mar.barge {}", b.host()), 5);
    lost.stderr_has("NOTHING CHANGED").stderr_has(&format!("barge push feb.barge mar.barge {}", b.host()));
    assert!(b.writes().is_empty(), "{}", b.transcript());
    january.assert_at(b.host(), "");
    assert!(b.manifest("team/app", "v3").is_none());
    // Both, in the wrong order.
    desk.run(&format!("push mar.barge feb.barge {}", b.host())).stdout_has("DONE:");
    march.assert_at(b.host(), "");
    desk.run(&format!("push feb.barge mar.barge {}", b.host())).stdout_has("NOTHING CHANGED");
    march.assert_at(b.host(), "");
}

#[test]
fn a_delta_that_changes_nothing_does_not_stand_for_what_it_follows() {
    let Scene { desk, b, .. } = scene();
    desk.run("diff feb.oci.tar feb.oci.tar -o same.barge");
    let lost = desk.fails(&format!("push same.barge {}", b.host()), 5);
    lost.stderr_has(&format!("barge push feb.oci.tar same.barge {}", b.host()));
}

#[test]
fn all_at_once_in_any_order_is_the_last_state() {
    for order in [
        "jan.oci.tar feb.barge mar.barge",
        "mar.barge jan.oci.tar feb.barge",
        "feb.barge mar.barge jan.oci.tar",
        "mar.barge mar.barge feb.barge jan.oci.tar",
    ] {
        let Scene { desk, march, .. } = scene();
        let target = Hostile::honest();
        desk.run(&format!("push {order} {}", target.host())).stdout_has("DONE:");
        march.assert_at(target.host(), "");
    }
}

#[test]
fn a_delta_for_another_site_changes_nothing() {
    let Scene { desk, a, b, february, march, .. } = scene();
    let c = Hostile::honest();
    desk.run(&format!("push feb.oci.tar {}", c.host()));
    desk.run(&format!("inventory {} -o c.json", c.host()));
    desk.run(&format!("diff c.json {} -o for-c.barge", a.host()));
    desk.fails(&format!("push for-c.barge {}", b.host()), 5).stderr_has("NOTHING CHANGED");
    // A site that has nothing of it is told that it is another one's.
    let empty = Hostile::honest();
    let other = desk.fails(&format!("push for-c.barge {}", empty.host()), 5);
    other.stderr_has("bundle for another site").stderr_has(desk.json("c.json")["state"].as_str().unwrap());
    assert!(b.writes().is_empty(), "{}", b.transcript());
    assert!(february.image("team/new", "v1") != march.image("team/new", "v1"));
    desk.run(&format!("push for-c.barge {}", c.host()));
    march.assert_at(c.host(), "");
}

/// What a request asks for, and the images that need it.
fn asked(desk: &Desk, name: &str) -> (BTreeSet<Digest>, usize) {
    let request = Request::read(&desk.path(name)).unwrap();
    (request.blobs.iter().map(|blob| blob.digest.clone()).collect(), request.images.len())
}

#[test]
fn a_request_brings_what_was_lost_and_only_that() {
    let Scene { desk, a, b, january, february, march } = scene();
    let still_wanted = super::blobs(&march);
    let mut lost = lacking(&february, &january);
    lost.retain(|digest| still_wanted.contains(digest));
    let failed = desk.fails(&format!("push mar.barge {} --request missing.json", b.host()), 5);
    failed
        .stderr_has("all of 3 images need it")
        .stderr_has(&format!("push feb.barge mar.barge {}", b.host()));
    assert_eq!(asked(&desk, "missing.json"), (lost.clone(), 3));
    // At A the tags name something else by now; what is asked for is known by its digest.
    push_content(a.host(), "team/new", &january.content, january.image("team/tool", "v1"), Some("v1"));
    desk.run("pack --request missing.json -o from-registry.barge");
    desk.run("pack mar.oci.tar --request missing.json -o from-bundle.barge");
    desk.run("diff --request missing.json mar.oci.tar -o by-diff.barge");
    assert!(desk.bytes("from-bundle.barge") == desk.bytes("by-diff.barge"));
    for name in ["from-registry.barge", "by-diff.barge"] {
        let record = desk.record(name);
        assert_eq!(brought(&record), lost, "{name}");
        for order in [format!("{name} mar.barge"), format!("mar.barge {name}")] {
            let target = Hostile::honest();
            desk.run(&format!("push jan.oci.tar {}", target.host()));
            desk.run(&format!("push {order} {}", target.host())).stdout_has("as the bundle says");
            march.assert_at(target.host(), "");
        }
        // By itself it lacks what the delta brings, and says so; after it with --keep-going there is nothing to say.
        desk.fails(&format!("push {name} {} --request other.json", b.host()), 5);
    }
    desk.fails("diff --request missing.json jan.oci.tar -o none.barge", 3);
    assert!(!desk.path("none.barge").exists());
    assert!(b.writes().is_empty());
}

#[test]
fn a_sparse_update_is_topped_up_sparse() {
    let Scene { desk, a, february, .. } = scene();
    let b = Hostile::honest();
    let name = format!("{}/team/app", a.host());
    desk.run(&format!("pack {name}:v1 --platform linux/amd64 -o narrow.oci.tar"));
    desk.run(&format!("pack {name}:v2 --platform linux/amd64 --base narrow.oci.tar -o update.barge"));
    // The first was never pushed.
    desk.fails(&format!("push update.barge {} --request missing.json", b.host()), 5);
    desk.run("pack --request missing.json --platform linux/amd64 -o topup.barge");
    desk.run(&format!("push update.barge topup.barge {}", b.host())).stdout_has("as the bundle says");
    let children: serde_json::Value =
        serde_json::from_slice(&february.content.blobs[&february.image("team/app", "v2").digest]).unwrap();
    let amd64: Digest = children["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
    let arm64 = children["manifests"][1]["digest"].as_str().unwrap();
    assert!(b.manifest("team/app", &amd64.to_string()).is_some());
    assert!(b.manifest("team/app", arm64).is_none());
}

#[test]
fn content_that_was_collected_behind_a_cache_is_found_to_be_gone() {
    let b = RealRegistry::start_with(&RegistryOptions { inmemory_cache: true, ..RegistryOptions::default() });
    let Scene { desk, january, february, .. } = scene();
    desk.run(&format!("push jan.oci.tar {}", b.host()));
    desk.run(&format!("inventory {} -o b.json", b.host()));
    let gone = super::shared().digest;
    b.delete_blob_data(&gone);
    // The registry goes on saying that it is there.
    let head = b.client().request("HEAD", &format!("/v2/team/app/blobs/{gone}"), &[], None);
    assert_eq!(head.status, 200);
    desk.run("diff b.json feb.oci.tar -o update.barge");
    let log = b.log().len();
    let missing = desk.fails(&format!("push update.barge {}", b.host()), 5);
    missing.stderr_has("NOTHING CHANGED").stderr_has("garbage collection");
    let new = &b.log()[log..];
    assert!(!["POST /", "PUT /", "PATCH /"].iter().any(|method| new.contains(method)), "{new}");
    let tool = b.client().manifest("team/tool", "v1").unwrap();
    assert!(january.image("team/tool", "v1").digest.matches(&tool));
    // What a checked inventory says is what is there.
    desk.fails(&format!("inventory --check-blobs {} -o checked.json", b.host()), 1);
    assert_eq!(asked(&desk, "update.request.json").0, [gone].into());
    desk.run("diff --request update.request.json feb.oci.tar -o topup.barge");
    // The images of the update are not there yet, so the two go together.
    desk.run(&format!("push update.barge topup.barge {}", b.host())).stdout_has("as the bundle says");
    february.assert_at(b.host(), "");
    desk.run(&format!("push update.barge {}", b.host())).stdout_has("NOTHING CHANGED");
}

#[test]
fn a_top_up_goes_first_where_the_images_are_there() {
    let b = RealRegistry::start();
    let Scene { desk, february, march, .. } = scene();
    desk.run(&format!("push feb.oci.tar {} --receipt b.json", b.host()));
    // Collected after the receipt was written: only the top-up brings it back, for what is there and what is to come.
    let gone = super::shared().digest;
    b.delete_blob_data(&gone);
    desk.run("diff b.json mar.oci.tar -o update.barge");
    desk.fails(&format!("push update.barge {}", b.host()), 5);
    desk.run("diff --request update.request.json feb.oci.tar mar.oci.tar -o topup.barge");
    desk.run(&format!("push update.barge topup.barge {}", b.host()));
    march.assert_at(b.host(), "");
    b.delete_blob_data(&gone);
    desk.fails(&format!("push mar.oci.tar {} --dry-run", b.host()), 0);
    desk.fails(&format!("push update.barge {}", b.host()), 5);
    desk.run(&format!("push topup.barge {}", b.host())).stdout_has("DONE:");
    desk.run(&format!("push update.barge {}", b.host())).stdout_has("NOTHING CHANGED");
    march.assert_at(b.host(), "");
    drop(february);
}

#[test]
fn the_same_bundle_twice_changes_nothing() {
    let Scene { desk, b, february, .. } = scene();
    desk.run(&format!("push feb.barge feb.barge {}", b.host())).stdout_has("DONE:");
    b.forget_requests();
    for line in ["feb.barge", "feb.barge feb.barge", "jan.oci.tar feb.barge"] {
        desk.run(&format!("push {line} {}", b.host()))
            .stdout_has("NOTHING CHANGED")
            .stdout_has("as the bundle says");
    }
    assert!(b.writes().is_empty(), "{}", b.transcript());
    february.assert_at(b.host(), "");
}
