//! Between two real registries.

use super::{assert_tag, assert_whole, pack, shop};
use crate::support::barge::barge;
use crate::support::hostile::Hostile;
use crate::support::peers::{PASSWORD, RealRegistry, RegistryOptions, USER, skopeo};

/// What two real registries have after one run between them.
#[test]
fn what_was_packed_at_one_registry_is_at_the_other() {
    let (from, to) = (RealRegistry::start(), RealRegistry::start());
    let shop = shop();
    shop.fill(from.host());
    let names = ["app", "tool"].map(|name| format!("{}/team/{name}:v1", from.host()));
    let bundle = pack(&[&names[0], &names[1]], &[]);
    drop(from);
    let target = format!("{}/mirror", to.host());
    let done = bundle.push(&target, &[]).success().stdout_has("DONE:");
    assert!(done.stdout.contains(&format!("mirror/team/app:v1  {}", shop.app.digest)), "{done}");
    for (repository, root, tag) in [
        ("mirror/team/app", &shop.app, "v1"),
        ("mirror/team/tool", &shop.tool, "v1"),
        ("mirror/team/app", &shop.signatures[0].1, &shop.signatures[0].0),
        ("mirror/team/app", &shop.signatures[1].1, &shop.signatures[1].0),
    ] {
        assert_whole(to.host(), repository, &shop.content, root);
        assert_tag(to.host(), repository, tag, &shop.content, root);
    }
    // The fallback index is written anew: what it lists is what counts.
    assert_whole(to.host(), "mirror/team/app", &shop.content, &shop.artifact);
    let index = to.client().manifest("mirror/team/app", &shop.referrers.0).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let listed = index["manifests"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{index}");
    assert_eq!(listed[0]["digest"], shop.artifact.digest.to_string());
    assert_eq!(listed[0]["artifactType"], "application/vnd.example.sbom");
    let raw = skopeo([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{}/mirror/team/app:v1", to.host()),
    ]);
    assert_eq!(barge::oci::Digest::sha256(raw.as_bytes()), shop.app.digest);

    let log = to.log().len();
    bundle.push(&target, &[]).success().stdout_has("NOTHING CHANGED");
    let new = &to.log()[log..];
    assert!(new.contains("GET /v2/") && !["POST", "PUT", "PATCH"].iter().any(|m| new.contains(m)), "{new}");
}

#[test]
fn a_second_push_only_reads_and_little() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    for api in [false, true] {
        let to = Hostile::honest();
        to.configure(|config| config.referrers_api = api);
        bundle.push(to.host(), &[]).success().stdout_has("DONE:");
        to.forget_requests();
        let again = barge(["push", "--json", bundle.path(), to.host()]).run().success();
        assert_eq!(again.json()["outcome"], "NOTHING CHANGED");
        assert!(to.writes().is_empty(), "{}", to.transcript());
        let read: u64 = to.requests_on("GET", "/blobs/").iter().map(|request| request.sent).sum();
        let blobs = to.requests_on("*", "/blobs/").len();
        // amd64, arm64, the attestation, the tool, two signatures, the artifact: a config and a layer each, one layer
        // more for the two of the app; the layer that both repositories have is read in both.
        assert_eq!((blobs, read), (16, 16), "{}", to.transcript());
        // The index, its three children, the tool, two signatures, the artifact: once each, and each tag once.
        let manifests = to.requests_on("*", "/manifests/");
        let tags = 2 + 2;
        let fallback = usize::from(!api);
        assert_eq!(manifests.len(), 8 + tags + fallback, "{}", to.transcript());
        assert_eq!(to.requests_on("*", "/referrers/").len(), 1);
    }
}

#[test]
fn tls_is_verified_and_credentials_are_needed() {
    let options = RegistryOptions { auth: true, tls: true, ..RegistryOptions::default() };
    let (from, to) = (RealRegistry::start_with(&options), RealRegistry::start_with(&options));
    let shop = shop();
    from.push("team/app", &shop.content, &shop.app, Some("v1"));
    let (image, target) = (format!("{}/team/app:v1", from.host()), format!("{}/copy", to.host()));
    let creds = format!("{USER}:{PASSWORD}");
    let trust = tempfile::tempdir().unwrap();
    for (registry, name) in [(&from, "from.crt"), (&to, "to.crt")] {
        std::fs::copy(registry.certificates().join("ca.crt"), trust.path().join(name)).unwrap();
    }
    let trust = trust.path().to_str().unwrap();
    barge(["mirror", &image, &target, "--creds", &creds]).run().code(4);
    let denied = barge(["mirror", &image, &target, "--cert-dir", trust]).run();
    denied.code(4).stderr_has("hint: log in").never_says(PASSWORD);
    let wrong =
        barge(["mirror", &image, &target, "--cert-dir", trust, "--creds", &format!("{USER}:wr0ng")]).run();
    wrong.code(4).never_says("wr0ng");
    barge(["mirror", &image, &target, "--cert-dir", trust, "--creds", &creds]).run().success();
    let there = to.client().manifest("copy", "v1").expect("the tag was put");
    assert!(shop.app.digest.matches(&there));
    let again = barge(["mirror", &image, &target, "--tls-verify", "false", "--creds", &creds]).run();
    again.success().stdout_has("NOTHING CHANGED");
}
