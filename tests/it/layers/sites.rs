//! Two registries with nothing but files between them, and what is lost or damaged at the far one.

use std::fs;

use barge::request::Request;

use super::{Desk, Release, digests};
use crate::support::layers::snapshot;
use crate::support::peers::{RealRegistry, RegistryOptions};

/// Registry A offers the second release, B has the first, and `v2.barge` brings it from the one to the other.
struct Scene {
    desk: Desk,
    a: RealRegistry,
    b: RealRegistry,
    first: Release,
    second: Release,
}

fn scene() -> Scene {
    let a = RealRegistry::start();
    let b = RealRegistry::start_with(&RegistryOptions { inmemory_cache: true, ..Default::default() });
    let (first, second) = (Release::of(1), Release::of(2));
    let desk = Desk::new();
    first.fill(a.host());
    desk.run(&format!("pack {} -o v1.oci.tar", first.names(a.host())));
    desk.run(&format!("push v1.oci.tar {}", b.host()));
    desk.run(&format!("inventory {} -o b.json", b.host()));
    second.fill(a.host());
    let names = second.names(a.host());
    desk.run(&format!("pack {names} --base b.json -o v2.barge"))
        .stdout_has(" in place of 6 layers, ")
        .stdout_has(" not sent");
    Scene { desk, a, b, first, second }
}

#[test]
fn a_second_release_travels_as_changed_bytes() {
    let Scene { desk, a, b, first, second } = scene();
    let names = second.names(a.host());
    // Every layer was changed, and every one is rebuilt from what B has: nothing but the inventory and A was there.
    let new = &second.layers;
    let all = digests([&new.base, &new.lib, &new.app, &new.data, &new.conf, &new.solo]);
    assert_eq!(desk.rebuilt("v2.barge"), all);
    desk.run(&format!("pack {names} --base b.json --layer-delta off -o whole.barge")).never_says("patches  ");
    assert!(desk.rebuilt("whole.barge").is_empty());
    let (small, whole) = (desk.size("v2.barge"), desk.size("whole.barge"));
    assert!(small * 4 < whole, "{small} of {whole}");
    desk.run("verify v2.barge");
    let rehearsed = desk.run(&format!("--json push v2.barge {} --dry-run", b.host())).json();
    let steps = rehearsed["steps"].as_array().unwrap();
    let rebuilt = |digest: &str| steps.iter().any(|s| s["action"] == "rebuild" && s["what"] == digest);
    assert!(all.iter().all(|digest| rebuilt(&digest.to_string())), "{rehearsed:#}");
    first.assert_tagged(b.host(), &["team/app", "team/tool", "team/solo"]);

    let asked = a.log().len();
    let pushed = desk.run(&format!("push v2.barge {} --receipt b2.json", b.host()));
    pushed.stdout_has("as the bundle says");
    assert_eq!(a.log().len(), asked, "the push asked the source");
    second.assert_copied(b.host(), "");
    desk.run(&format!("push v2.barge {}", b.host())).stdout_has("NOTHING CHANGED");

    // The receipt names what was rebuilt, and is the base of the next release.
    let receipt = String::from_utf8(desk.bytes("b2.json")).unwrap();
    assert!(all.iter().all(|digest| receipt.contains(&digest.hex())));
    let third = Release::of(3);
    third.fill(a.host());
    desk.run(&format!("diff b2.json {} -o v3.barge", a.host())).stdout_has(" in place of 6 layers, ");
    desk.run(&format!("push v3.barge {}", b.host()));
    third.assert_copied(b.host(), "");
}

#[test]
fn a_base_that_was_removed_at_the_target_is_asked_for_as_the_layer_it_gives() {
    let Scene { desk, a, b, first, second } = scene();
    let gone = &first.layers.base.digest;
    let record = desk.record("v2.barge");
    let rows = record.patches.iter().filter(|row| row.bases.contains(gone));
    let targets: std::collections::BTreeSet<_> = rows.map(|row| row.target.clone()).collect();
    assert!(targets.contains(&second.layers.base.digest));
    // The registry's cache goes on saying that it is there.
    b.delete_blob_data(gone);
    let head = b.client().request("HEAD", &format!("/v2/team/app/blobs/{gone}"), &[], None);
    assert_eq!(head.status, 200, "this registry is meant to have a cache");
    let before = snapshot(b.storage());
    let failed = desk.fails(&format!("push v2.barge {} --request missing.json", b.host()), 5);
    failed.stderr_has("NOTHING CHANGED").stderr_has(&second.layers.base.digest.to_string());
    assert_eq!(snapshot(b.storage()), before);

    let request = Request::read(&desk.path("missing.json")).unwrap();
    let asked: std::collections::BTreeSet<_> = request.blobs.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(asked, targets);
    desk.run("pack --request missing.json -o topup.barge");
    let brought = desk.record("topup.barge");
    assert!(targets.iter().all(|target| brought.blobs.find(target).is_some()));
    assert!(desk.size("topup.barge") < desk.size("v1.oci.tar"));
    desk.run(&format!("push topup.barge v2.barge {}", b.host())).stdout_has("DONE:");
    second.assert_copied(b.host(), "");
    drop(a);
}

#[test]
fn a_base_that_was_damaged_at_the_target_costs_only_the_images_on_it() {
    let Scene { desk, a, b, first, second } = scene();
    let file = b.blob_file(&first.layers.base.digest);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, bytes).unwrap();
    let target = second.layers.base.digest.to_string();
    let manifests = |host: &RealRegistry| {
        let stored = snapshot(host.storage());
        let of_damaged = |name: &String| {
            name.contains("_manifests/") && (name.contains("/team/app/") || name.contains("/team/tool/"))
        };
        stored.into_iter().filter(|(name, _)| of_damaged(name)).collect::<Vec<_>>()
    };
    let before = manifests(&b);
    let failed = desk.fails(&format!("push v2.barge {} --request missing.json", b.host()), 1);
    failed
        .stdout_has("PARTIAL")
        .stderr_has(&target)
        .stderr_has(&first.layers.base.digest.to_string())
        .stderr_has("team/app")
        .stdout_has("barge pack --request missing.json");
    assert_eq!(manifests(&b), before);
    first.assert_tagged(b.host(), &["team/app", "team/tool"]);
    second.assert_one_copied(b.host(), "", "team/solo");
    assert!(!b.blob_file(&second.layers.base.digest).exists());
    let request = Request::read(&desk.path("missing.json")).unwrap();
    assert!(request.find(&second.layers.base.digest).is_some());

    desk.run("pack --request missing.json -o topup.barge");
    assert!(desk.record("topup.barge").blobs.find(&second.layers.base.digest).is_some());
    desk.run(&format!("push topup.barge v2.barge {}", b.host())).stdout_has("DONE:");
    second.assert_copied(b.host(), "");
    drop(a);
}
