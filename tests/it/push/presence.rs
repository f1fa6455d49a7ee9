//! What registries say to have, and do not.

use super::{assert_tag, assert_whole, shop};
use crate::support::hostile::{Hostile, Phantom};
use crate::support::peers::{RealRegistry, RegistryOptions, blob_exists};

#[test]
fn a_blob_that_a_cache_believes_in_is_brought_again() {
    let real =
        RealRegistry::start_with(&RegistryOptions { inmemory_cache: true, ..RegistryOptions::default() });
    let shop = shop();
    let bundle = shop.pack(&["--attachments", "none"]);
    bundle.push(real.host(), &[]).success();
    real.delete_blob_data(&shop.shared.digest);
    // Asking is deceived, and that is why it is not the default.
    bundle.push(real.host(), &["--presence", "head"]).success().stdout_has("NOTHING CHANGED");
    assert!(!blob_exists(real.host(), "team/app", &shop.shared.digest));
    bundle.push(real.host(), &[]).success().stdout_has("DONE:");
    assert_whole(real.host(), "team/app", &shop.content, &shop.app);
    assert_whole(real.host(), "team/tool", &shop.content, &shop.tool);
}

#[test]
fn a_blob_that_only_the_manifest_misses_is_uploaded_by_force_once() {
    let shop = shop();
    let bundle = shop.pack(&["--attachments", "none"]);
    let to = Hostile::honest();
    let size = shop.shared.bytes.len() as u64;
    to.phantom("team/app", &shop.shared.digest, size, Phantom::HeadOnly);
    let done = bundle.push(to.host(), &["--presence", "head"]).success();
    assert!(done.stdout.contains("DONE:"), "{done}");
    assert_tag(to.host(), "team/app", "v1", &shop.content, &shop.app);
    assert_whole(to.host(), "team/app", &shop.content, &shop.app);
    let of_shared = |put: &crate::support::hostile::Logged| {
        put.head.path.starts_with("/v2/team/app/") && put.head.query.contains(&shop.shared.digest.hex())
    };
    let puts = to.requests_on("PUT", "/blobs/uploads/");
    // Both platforms' manifests need it, and may both find out at the same time.
    let count = puts.iter().filter(|put| of_shared(put)).count();
    assert!((1..=2).contains(&count), "{}", to.transcript());
}

#[test]
fn a_registry_that_takes_manifests_over_phantoms_gets_the_blob() {
    let shop = shop();
    let bundle = shop.pack(&["--attachments", "none"]);
    let to = Hostile::honest();
    let size = shop.shared.bytes.len() as u64;
    to.phantom("team/app", &shop.shared.digest, size, Phantom::LikeV2);
    bundle.push(to.host(), &[]).success().stdout_has("DONE:");
    assert_whole(to.host(), "team/app", &shop.content, &shop.app);
    assert_whole(to.host(), "team/tool", &shop.content, &shop.tool);
}
