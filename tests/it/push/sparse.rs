//! Indexes of which platforms were left out, at registries that take them and at such that do not.

use barge::oci::{Descriptor, Digest};
use barge::store::attached_tag;
use serde_json::Value;

use super::{Packed, Shop, assert_tag, assert_whole, shop};
use crate::support::barge::barge;
use crate::support::client::Client;
use crate::support::hostile::{Action, Config, Fault, Hostile, SparsePolicy};
use crate::support::images::{Content, children, layer};
use crate::support::peers::{RealRegistry, blob_exists, get_manifest_bytes, push_content};

/// A bundle of both images with one platform of the index.
fn sparse() -> (Shop, Packed) {
    let shop = shop();
    let bundle = shop.pack(&["--platform", "linux/amd64"]);
    (shop, bundle)
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn digests(index: &[u8]) -> Vec<Digest> {
    children(&json(index)).into_iter().map(|child| child.digest).collect()
}

#[test]
fn a_real_registry_refuses_and_the_other_images_go_on() {
    let (shop, bundle) = sparse();
    let real = RealRegistry::start();
    push_content(real.host(), "team/app", &shop.content, &shop.tool, Some("v1"));
    let refused = bundle.push(real.host(), &[]).code(1).stderr_has("--sparse rewrite").stdout_has("PARTIAL");
    assert!(
        refused.stderr.contains("distribution 3 `validation.manifests.indexes.platforms: none`"),
        "{refused}"
    );
    // The tag is what it was, and the other image is there.
    assert_tag(real.host(), "team/app", "v1", &shop.content, &shop.tool);
    assert_tag(real.host(), "team/tool", "v1", &shop.content, &shop.tool);
    let only = format!("{}/team/app:v1", json_names(&bundle)[0].split('/').next().unwrap());
    bundle.push(real.host(), &["--image", &only]).code(4);
}

/// The names of the images of a bundle, from its index.
fn json_names(bundle: &Packed) -> Vec<String> {
    let opened = barge::bundle::Bundle::open(&bundle.path).unwrap();
    let names = opened.names().unwrap().into_iter().filter_map(|(name, _)| name);
    names.filter(|name| !name.contains(":sha256-")).collect()
}

#[test]
fn rewriting_keeps_what_is_there_and_the_original() {
    let (shop, bundle) = sparse();
    let real = RealRegistry::start();
    let map = bundle.folder.path().join("map.json");
    let rewrite = ["--sparse", "rewrite", "--digest-map", map.to_str().unwrap()];
    let done = bundle.push(real.host(), &rewrite).success().stdout_has("DONE:");
    let host = real.host();
    let new = get_manifest_bytes(host, "team/app", "v1").unwrap();
    let old = &shop.content.blobs[&shop.app.digest];
    let kept: Vec<Digest> = digests(old).into_iter().filter(|digest| *digest != shop.arm64.digest).collect();
    assert_eq!(digests(&new), kept);
    let mut expected = json(old);
    expected["manifests"].as_array_mut().unwrap().retain(|m| m["digest"] != shop.arm64.digest.to_string());
    assert_eq!(json(&new), expected);
    let new_digest = Digest::sha256(&new);
    // The map.
    let written = json(&std::fs::read(&map).unwrap());
    assert_eq!(written.as_array().unwrap().len(), 1, "{written}");
    assert_eq!(written[0]["old"], shop.app.digest.to_string());
    assert_eq!(written[0]["new"], new_digest.to_string());
    // The original, attached to the new index.
    let listed = json(&get_manifest_bytes(host, "team/app", &attached_tag(&new_digest, "")).unwrap());
    assert_eq!(listed["manifests"].as_array().unwrap().len(), 1, "{listed}");
    let artifact = listed["manifests"][0]["digest"].as_str().unwrap();
    let artifact = json(&get_manifest_bytes(host, "team/app", artifact).unwrap());
    assert_eq!(artifact["subject"]["digest"], new_digest.to_string());
    assert_eq!(artifact["layers"][0]["digest"], shop.app.digest.to_string());
    assert!(blob_exists(host, "team/app", &shop.app.digest));
    // Signatures: the child's stays, the index's is dropped and said.
    let tags = Client::plain(host).tags("team/app");
    assert!(tags.contains(&shop.signatures[1].0) && !tags.contains(&shop.signatures[0].0), "{tags:?}");
    assert!(tags.contains(&shop.referrers.0), "{tags:?}");
    assert!(done.stderr.contains(&shop.signatures[0].1.digest.to_string()), "{done}");
    assert_whole(host, "team/app", &shop.content, &shop.amd64);
    assert_whole(host, "team/app", &shop.content, &shop.artifact);
    // Again: nothing is sent, and the map is the same.
    let log = real.log().len();
    bundle.push(host, &rewrite).success().stdout_has("NOTHING CHANGED");
    let log = real.log().split_off(log);
    assert!(!["POST", "PUT", "PATCH"].iter().any(|method| log.contains(method)), "{log}");
    assert_eq!(json(&std::fs::read(&map).unwrap()), written);
}

/// An index of three platforms at a registry, packed once for each list of them.
fn months(lists: &[&str]) -> (Content, [Descriptor; 3], Descriptor, Vec<Packed>) {
    let mut content = Content::new();
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x"];
    let mut seed = 0;
    let children = platforms.map(|platform| {
        seed += 1;
        content.image(platform, &[layer(seed, 700)])
    });
    let index = content.index(&children);
    let source = Hostile::honest();
    source.seed("app", &content, &index, Some("v1"));
    let name = format!("{}/app:v1", source.host());
    let mut packed: Vec<Packed> = Vec::new();
    for list in lists {
        let base = packed.first().map(|first| first.path().to_owned());
        let base: Vec<&str> = base.iter().flat_map(|base| ["--base", base.as_str()]).collect();
        packed.push(super::pack(&[&name], &[&["--platform", *list], &base[..]].concat()));
    }
    (content, children, index, packed)
}

#[test]
fn what_was_rewritten_is_widened_by_what_comes_later() {
    let lists = ["linux/amd64", "linux/amd64,linux/arm64", "linux/amd64,linux/arm64,linux/s390x"];
    let (content, children, index, packed) = months(&lists);
    let real = RealRegistry::start();
    let rewrite = ["--sparse", "rewrite"];
    for (at, bundle) in packed[..2].iter().enumerate() {
        bundle.push(real.host(), &rewrite).success().stdout_has("DONE:");
        let there = digests(&get_manifest_bytes(real.host(), "app", "v1").unwrap());
        let expected: Vec<Digest> = children[..=at].iter().map(|child| child.digest.clone()).collect();
        assert_eq!(there, expected);
        let log = real.log().len();
        bundle.push(real.host(), &rewrite).success().stdout_has("NOTHING CHANGED");
        let log = real.log().split_off(log);
        assert!(!["POST", "PUT", "PATCH"].iter().any(|method| log.contains(method)), "{log}");
    }
    packed[2].push(real.host(), &rewrite).success().stdout_has("DONE:");
    assert_tag(real.host(), "app", "v1", &content, &index);
    packed[2].push(real.host(), &rewrite).success().stdout_has("NOTHING CHANGED");
}

#[test]
fn another_single_platform_follows_the_first_where_the_original_was_kept() {
    let (content, children, _, packed) = months(&["linux/amd64", "linux/arm64"]);
    let real = RealRegistry::start();
    packed[0].push(real.host(), &["--sparse", "rewrite"]).success();
    for done in ["DONE:", "NOTHING CHANGED"] {
        packed[1].push(real.host(), &["--sparse", "single"]).success().stdout_has(done);
        assert_tag(real.host(), "app", "v1", &content, &children[1]);
    }
}

#[test]
fn an_index_of_which_nothing_is_there_is_not_rewritten_to_an_empty_one() {
    let (shop, from, real) = (shop(), Hostile::honest(), RealRegistry::start());
    shop.fill(from.host());
    let name = format!("{}/team/app:v1", from.host());
    let mirror = ["mirror", &name, real.host(), "--platform", "linux/riscv64", "--no-attachments"];
    let failed = barge(mirror).args(["--sparse", "rewrite"]).run();
    assert_ne!(failed.code, 0, "{failed}");
    let failed = failed.stderr_has("rewritten, it would list nothing");
    assert!(get_manifest_bytes(real.host(), "team/app", "v1").is_none(), "{failed}");
}

#[test]
fn a_single_platform_goes_under_the_tag() {
    let (shop, bundle) = sparse();
    let real = RealRegistry::start();
    let done = barge(["push", "--json", "--sparse", "single", bundle.path(), real.host()]).run().success();
    assert_tag(real.host(), "team/app", "v1", &shop.content, &shop.amd64);
    assert_eq!(done.json()["digestMap"][0]["new"], shop.amd64.digest.to_string(), "{done}");
}

#[test]
fn who_takes_sparse_indexes_gets_the_exact_bytes() {
    let (shop, bundle) = sparse();
    for policy in ["require", "rewrite"] {
        let to = Hostile::honest();
        bundle.push(to.host(), &["--sparse", policy]).success().stdout_has("DONE:");
        assert_tag(to.host(), "team/app", "v1", &shop.content, &shop.app);
        assert!(to.manifest("team/app", &shop.arm64.digest.to_string()).is_none());
        bundle.push(to.host(), &["--sparse", policy]).success().stdout_has("NOTHING CHANGED");
    }
}

#[test]
fn every_shape_of_refusal_is_known() {
    let (usual, odd) = (sparse(), platformless());
    for policy in [
        SparsePolicy::RefuseLikeV2,
        SparsePolicy::RefuseLikeZot,
        SparsePolicy::RefuseLikeQuay,
        SparsePolicy::RefuseLikeEcr,
        SparsePolicy::CrashOnPlatformless,
    ] {
        let (shop, bundle) = if policy == SparsePolicy::CrashOnPlatformless { &odd } else { &usual };
        let to = Hostile::start(Config { sparse: policy, ..Config::default() });
        let refused = bundle.push(to.host(), &[]).code(1);
        assert!(
            refused.stderr.contains("the registry refuses an index of which platforms"),
            "{policy:?} {refused}"
        );
        assert!(!to.tags("team/app").contains_key("v1"), "{policy:?}");
        assert_tag(to.host(), "team/tool", "v1", &shop.content, &shop.tool);
        if policy != SparsePolicy::CrashOnPlatformless {
            bundle.push(to.host(), &["--sparse", "rewrite"]).success();
            assert_eq!(digests(&to.manifest("team/app", "v1").unwrap()).len(), 2, "{policy:?}");
        }
    }
}

/// A sparse index with a descriptor that has no platform; nothing is attached, for an index of referrers has none either.
fn platformless() -> (Shop, Packed) {
    let mut shop = shop();
    let mut plain = shop.amd64.clone();
    plain.platform = None;
    plain.digest = shop.tool.digest.clone();
    plain.size = shop.tool.size;
    shop.app = shop.content.index(&[shop.amd64.clone(), shop.arm64.clone(), plain]);
    let bundle = shop.pack(&["--platform", "linux/amd64", "--attachments", "none"]);
    (shop, bundle)
}

#[test]
fn a_child_that_is_meant_to_be_there_is_a_failure() {
    let (shop, bundle) = sparse();
    let to = Hostile::start(Config { sparse: SparsePolicy::RefuseLikeV2, ..Config::default() });
    to.fault(Fault::on("PUT", &format!("/team/app/manifests/{}", shop.app.digest), Action::ChildrenUnknown));
    let failed = bundle.push(to.host(), &["--sparse", "rewrite"]).code(1);
    assert!(failed.stderr.contains("not pushed; the tag is what it was"), "{failed}");
    assert!(!failed.stderr.contains("refuses an index"), "{failed}");
    assert!(!to.tags("team/app").contains_key("v1"));
    assert_eq!(to.tags("team/tool")["v1"], shop.tool.digest);
}

#[test]
fn stubs_for_absent_children_are_not_taken_for_them() {
    let (shop, bundle) = sparse();
    let to = Hostile::start(Config { sparse: SparsePolicy::RefuseLikeV2, ..Config::default() });
    to.fault(Fault::on("PUT", "/team/app/manifests/", Action::StoreStubs));
    bundle.push(to.host(), &[]).success();
    assert_tag(to.host(), "team/app", "v1", &shop.content, &shop.app);
    to.clear_faults();
    // The whole index comes later: what is in the way has the absent child's name and is not it.
    let whole = shop.pack(&[]);
    whole.push(to.host(), &[]).success();
    let child: &Descriptor = &shop.arm64;
    assert_whole(to.host(), "team/app", &shop.content, child);
}

#[test]
fn an_image_asked_for_by_digest_is_named_when_it_is_refused() {
    let shop = shop();
    let from = Hostile::honest();
    shop.fill(from.host());
    let name = format!("{}/team/app@{}", from.host(), shop.app.digest);
    let bundle = super::pack(&[&name], &["--platform", "linux/amd64"]);
    let to = Hostile::start(Config { sparse: SparsePolicy::RefuseLikeV2, ..Config::default() });
    let refused = bundle.push(to.host(), &[]).code(4);
    assert!(refused.stderr.contains("asked for by digest"), "{refused}");
    assert!(refused.stderr.contains(&name), "{refused}");
}
