//! The fallback index of referrers at the target.

use barge::oci::Descriptor;
use serde_json::Value;

use super::shop;
use crate::support::client::Client;
use crate::support::hostile::Hostile;
use crate::support::images::Content;

fn listed(hostile: &Hostile, tag: &str) -> Vec<String> {
    let index: Value = serde_json::from_slice(&hostile.manifest("team/app", tag).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_targets_own_entries_stay_as_far_as_they_resolve() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let to = Hostile::honest();
    let mut own = Content::new();
    let kept = own.artifact(&shop.amd64, "application/vnd.example.scan", b"kept");
    let gone = own.artifact(&shop.amd64, "application/vnd.example.scan", b"gone");
    to.seed("team/app", &own, &kept, None);
    let entries: [Descriptor; 3] = [gone, kept.clone(), kept.clone()];
    let (tag, index) = own.referrers_index(&shop.amd64.digest, &entries);
    let alone = own.blobs[&index.digest].clone();
    let reply =
        Client::plain(to.host()).put_manifest("team/app", &tag, barge::oci::media_type::OCI_INDEX, &alone);
    assert_eq!(reply.status, 201, "{}", reply.text());
    bundle.push(to.host(), &[]).success();
    let both = [kept.digest.to_string(), shop.artifact.digest.to_string()];
    assert_eq!(listed(&to, &tag), both);
    bundle.push(to.host(), &[]).success().stdout_has("NOTHING CHANGED");
    assert_eq!(listed(&to, &tag), both);
}

#[test]
fn a_registry_that_lists_referrers_gets_no_index() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let to = Hostile::honest();
    to.configure(|config| config.referrers_api = true);
    bundle.push(to.host(), &[]).success();
    assert!(to.tags("team/app").keys().all(|tag| *tag != shop.referrers.0), "{:?}", to.tags("team/app"));
    let path = format!("/v2/team/app/referrers/{}", shop.amd64.digest);
    let reply = Client::plain(to.host()).request("GET", &path, &[], None).json();
    assert_eq!(reply["manifests"][0]["digest"], shop.artifact.digest.to_string(), "{reply}");
}
