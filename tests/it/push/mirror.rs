//! From registry to registry.

use super::{assert_tag, assert_whole, shop};
use crate::support::barge::barge;
use crate::support::client::Client;
use crate::support::hostile::{Action, Auth, Config, Fault, Hostile, Logged};
use crate::support::peers::{PASSWORD, RealRegistry, USER, get_manifest_bytes};

#[test]
fn one_image_gets_the_exact_name() {
    let (from, to) = (RealRegistry::start(), RealRegistry::start());
    let shop = shop();
    shop.fill(from.host());
    let image = format!("{}/team/app:v1", from.host());
    for (name, tag) in [("other/name", "v1"), ("other/name:v2", "v2")] {
        barge(["mirror", &image, &format!("{}/{name}", to.host())]).run().success().stdout_has("DONE:");
        assert_tag(to.host(), "other/name", tag, &shop.content, &shop.app);
    }
    assert_whole(to.host(), "other/name", &shop.content, &shop.app);
    for (tag, signature) in &shop.signatures {
        assert_tag(to.host(), "other/name", tag, &shop.content, signature);
    }
    assert!(Client::plain(to.host()).tags("other/name").contains(&shop.referrers.0));
    let again = barge(["mirror", &image, &format!("{}/other/name", to.host())]).run();
    again.success().stdout_has("NOTHING CHANGED");
}

#[test]
fn several_images_or_a_slash_make_a_prefix() {
    let (from, to) = (Hostile::honest(), Hostile::honest());
    let shop = shop();
    shop.fill(from.host());
    let images = ["app", "tool"].map(|name| format!("{}/team/{name}:v1", from.host()));
    barge(["mirror", &images[0], &format!("{}/one/", to.host())]).run().success();
    barge(["mirror", &images[0], &images[1], &format!("{}/two", to.host())]).run().success();
    assert_eq!(to.repositories(), ["one/team/app", "two/team/app", "two/team/tool"]);
    for (repository, root) in
        [("one/team/app", &shop.app), ("two/team/app", &shop.app), ("two/team/tool", &shop.tool)]
    {
        assert_tag(to.host(), repository, "v1", &shop.content, root);
        assert_whole(to.host(), repository, &shop.content, root);
    }
    assert!(from.writes().iter().all(|r| r.ended < to.requests()[0].started), "the source was written to");
}

#[test]
fn a_complete_target_costs_the_source_no_blob() {
    let (from, to) = (Hostile::honest(), Hostile::honest());
    let shop = shop();
    shop.fill(from.host());
    let image = format!("{}/team/app:v1", from.host());
    let target = format!("{}/team/app", to.host());
    barge(["mirror", &image, &target]).run().success();
    from.forget_requests();
    to.forget_requests();
    barge(["mirror", &image, &target]).run().success().stdout_has("NOTHING CHANGED");
    assert!(from.requests_on("*", "/blobs/").is_empty(), "{}", from.transcript());
    assert!(to.writes().is_empty(), "{}", to.transcript());
}

#[test]
fn one_platform_follows_the_sparse_policies() {
    let from = Hostile::honest();
    let real = RealRegistry::start();
    let shop = shop();
    shop.fill(from.host());
    let image = format!("{}/team/app:v1", from.host());
    let target = format!("{}/team/app", real.host());
    let mirror =
        |more: &[&str]| barge(["mirror", &image, &target, "--platform", "linux/amd64"]).args(more).run();
    mirror(&[]).code(4).stderr_has("--sparse rewrite");
    assert!(get_manifest_bytes(real.host(), "team/app", "v1").is_none());
    mirror(&["--sparse", "rewrite"]).success();
    let index: serde_json::Value =
        serde_json::from_slice(&get_manifest_bytes(real.host(), "team/app", "v1").unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    mirror(&["--sparse", "rewrite"]).success().stdout_has("NOTHING CHANGED");
    // That the registry has the original's bytes, attached to the rewritten index, makes it no index.
    mirror(&["--sparse", "single"]).success();
    let log = real.log().len();
    mirror(&["--sparse", "single"]).success().stdout_has("NOTHING CHANGED");
    let log = real.log().split_off(log);
    assert!(!["POST", "PUT", "PATCH"].iter().any(|method| log.contains(method)), "{log}");
    assert_tag(real.host(), "team/app", "v1", &shop.content, &shop.amd64);
}

#[test]
fn credentials_stay_with_their_host() {
    let shop = shop();
    let open = Hostile::honest();
    let closed = Hostile::start(Config { auth: Auth::Basic, ..Config::default() });
    for host in [&open, &closed] {
        host.seed("team/tool", &shop.content, &shop.tool, Some("v1"));
    }
    let creds = format!("{}={USER}:{PASSWORD}", closed.host());
    for (from, to) in [(&open, &closed), (&closed, &open)] {
        let (image, target) = (format!("{}/team/tool:v1", from.host()), format!("{}/copy", to.host()));
        barge(["mirror", &image, &target, "--creds", &creds]).run().success();
        assert_eq!(to.tags("copy")["v1"], shop.tool.digest);
    }
    let has_secret = |request: &Logged| request.head.header("authorization").is_some();
    assert!(!open.requests().iter().any(has_secret), "{}", open.transcript());
    assert!(closed.requests().iter().any(has_secret));
}

#[test]
fn a_source_that_flips_a_byte_leaves_nothing_tagged() {
    let (from, to) = (Hostile::honest(), Hostile::honest());
    let shop = shop();
    shop.fill(from.host());
    let digest = &shop.shared.digest;
    from.fault(Fault::on("GET", &format!("/blobs/{digest}"), Action::FlipByte(1000)));
    let image = format!("{}/team/tool:v1", from.host());
    let failed = barge(["mirror", &image, &format!("{}/team/tool", to.host())]).run();
    assert!(failed.code == 3 || failed.code == 4, "{failed}");
    assert!(failed.stderr.contains(&digest.to_string()), "{failed}");
    assert!(to.requests_on("PUT", "/manifests/").is_empty(), "{}", to.transcript());
    assert!(!to.has_blob("team/tool", digest));
    from.clear_faults();
    barge(["mirror", &image, &format!("{}/team/tool", to.host())]).run().success();
    assert_whole(to.host(), "team/tool", &shop.content, &shop.tool);
}

#[test]
fn one_image_that_is_not_there_leaves_the_others_going_only_when_told() {
    let (from, to) = (Hostile::honest(), Hostile::honest());
    let shop = shop();
    shop.fill(from.host());
    let images = ["none", "tool"].map(|name| format!("{}/team/{name}:v1", from.host()));
    let mirror = |more: &[&str]| barge(["mirror", &images[0], &images[1], to.host()]).args(more).run();
    let failed = mirror(&[]).code(4);
    assert!(failed.stderr.contains("team/none"), "{failed}");
    assert!(to.writes().is_empty(), "{}", to.transcript());
    mirror(&["--keep-going"]).code(1).stdout_has("PARTIAL").stderr_has("team/none");
    assert_tag(to.host(), "team/tool", "v1", &shop.content, &shop.tool);
}
