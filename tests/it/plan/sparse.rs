//! Images of which platforms stay behind.

use barge::oci::Descriptor;
use serde_json::Value;

use super::run::{run_script, try_script};
use super::{plan, shop};
use crate::support::barge::barge;
use crate::support::hostile::Hostile;
use crate::support::images::layer;
use crate::support::peers::{RealRegistry, get_manifest_bytes, push_content};

const ONE: [&str; 2] = ["--platform", "linux/amd64"];

#[test]
fn one_filter_keeps_the_platforms_of_all() {
    let (_, from, images) = shop();
    let done = plan(&images, "mapping", &ONE).success();
    let command = "--keep-manifest-list --filter-by-os='^(linux/amd64|unknown/unknown)$' --insecure\n";
    let done = done.stdout_has(command).stderr_has("has to take an index of which platforms are absent");
    assert!(!done.stderr.contains("more than was asked for"), "{done}");
    // What spells its platform otherwise passes too; what has none of them does not, and is told.
    let mut content = super::stock().content;
    let arm = content.image("linux/arm64", &[layer(7, 300)]);
    let spelled = |variant: &str, of: &Descriptor| {
        let mut child =
            serde_json::json!({ "mediaType": of.media_type, "digest": of.digest, "size": of.size });
        child["platform"] = serde_json::json!({ "os": "linux", "architecture": "arm64" });
        if !variant.is_empty() {
            child["platform"]["variant"] = Value::from(variant);
        }
        child
    };
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [spelled("v8", &arm)],
    });
    let index = content.manifest("application/vnd.oci.image.index.v1+json", &document);
    push_content(from.host(), "team/arm", &content, &index, Some("v1"));
    let all = [images[0].clone(), format!("{}/team/arm:v1", from.host())];
    let both = plan(&all, "mapping", &["--platform", "linux/amd64,linux/arm64"]).success();
    both.stdout_has("--filter-by-os='^(linux/amd64|linux/arm64/v8|unknown/unknown)$'");
    let empty = plan(&all, "mapping", &ONE).code(3);
    empty.stderr_has("team/arm:v1 would travel: it has linux/arm64, not linux/amd64");
    let rest = plan(&all, "mapping", &[&ONE[..], &["--keep-going"]].concat()).code(1);
    rest.stdout_has("team/app:v1").stderr_has("team/arm:v1");
    plan(&images, "mapping", &["--platform", "linux/riscv64"]).code(3).stderr_has("linux/riscv64");
}

#[test]
fn regsync_is_told_the_platforms() {
    let (_, _from, images) = shop();
    let done = plan(&images[..2], "regsync", &ONE).success();
    assert_eq!(done.stdout.matches("platforms: [\"linux/amd64\",\"unknown/unknown\"]").count(), 1, "{done}");
    done.stderr_has("has to take an index of which platforms are absent");
}

#[test]
fn skopeo_copies_the_children_and_then_the_exact_index() {
    let (stock, from, images) = shop();
    let to = Hostile::honest();
    let target = format!("{}/mirror", to.host());
    let script = |more: &[&str]| {
        barge(["plan", "--to", &target, "--format", "skopeo"])
            .args(&images[..1])
            .args(ONE)
            .args(more)
            .run()
            .success()
    };
    let done = script(&[]).stderr_has("has to take an index of which platforms are absent");
    assert_eq!(done.stdout.matches("--multi-arch=index-only").count(), 1, "{done}");
    let folder = tempfile::tempdir().unwrap();
    run_script(folder.path(), &done.stdout, &[]);
    let check = |to: &Hostile| {
        assert_eq!(to.tags("mirror/team/app")["v1"], stock.app.digest);
        assert!(to.manifest("mirror/team/app", &stock.amd64.digest.to_string()).is_some());
        assert!(to.manifest("mirror/team/app", &stock.attestation.digest.to_string()).is_some());
        assert!(to.manifest("mirror/team/app", &stock.s390x.digest.to_string()).is_none());
        assert_eq!(to.tags("mirror/team/app")[&stock.signature.0], stock.signature.1.digest);
    };
    check(&to);
    // A registry that wants all platforms refuses; nothing is under the tag then.
    let real = RealRegistry::start();
    let refused = try_script(folder.path(), &done.stdout.replace(to.host(), real.host()), &[]);
    assert!(!refused.status.success());
    assert!(get_manifest_bytes(real.host(), "mirror/team/app", "v1").is_none());
    // The same through a folder.
    let to = Hostile::honest();
    let (away, back) = (script(&["--leg", "to-filesystem"]), script(&["--leg", "from-filesystem"]));
    let medium = folder.path().join("medium");
    run_script(folder.path(), &away.stdout, &[medium.to_str().unwrap()]);
    drop(from);
    let back = back.stdout.replace(target.split('/').next().unwrap(), to.host());
    run_script(folder.path(), &back, &[medium.to_str().unwrap()]);
    check(&to);
}

#[test]
fn one_platform_goes_under_the_tag_on_demand() {
    let (stock, from, images) = shop();
    let real = RealRegistry::start();
    let target = format!("{}/mirror", real.host());
    let done = barge(["plan", "--to", &target, "--format", "skopeo", "--sparse", "single"])
        .args(&images[..2])
        .args(ONE)
        .run()
        .success()
        .stderr_has("one platform goes under the tag")
        .stderr_has(&format!("{} for {}", stock.amd64.digest, stock.app.digest))
        .stderr_has("it is attached to an index that does not travel");
    let folder = tempfile::tempdir().unwrap();
    run_script(folder.path(), &done.stdout, &[]);
    stock.assert_there(real.host(), "mirror/team/app", "v1", &stock.amd64);
    stock.assert_there(real.host(), "mirror/team/tool", "v2", &stock.tool);
    assert!(get_manifest_bytes(real.host(), "mirror/team/app", &stock.signature.0).is_none());
    let single = ["--sparse", "single", "--platform", "linux/amd64"];
    let line = format!("{}/team/app@{}=reg.test/mirror/team/app:v1\n", from.host(), stock.amd64.digest);
    let mapping = plan(&images[..1], "mapping", &single).success().stdout_has(&line);
    mapping.stdout_has("--filter-by-os='.*'").stderr_has("one platform goes under the tag");
    let regsync = plan(&images[..1], "regsync", &single).success();
    regsync
        .stdout_has(&format!("team/app@{}\"", stock.amd64.digest))
        .stderr_has("one platform goes under the tag");
    assert_eq!(
        plan(&images[..1], "json", &single).success().json()["images"][0]["single"],
        stock.amd64.digest.to_string()
    );
}

#[test]
fn several_platforms_never_share_a_tag() {
    let (mut stock, from, _) = shop();
    let third = stock.content.image("linux/arm64", &[layer(8, 200)]);
    let index = stock.content.index(&[stock.amd64.clone(), stock.s390x.clone(), third]);
    push_content(from.host(), "team/three", &stock.content, &index, Some("v1"));
    let images = [format!("{}/team/three:v1", from.host())];
    let two = ["--platform", "linux/amd64,linux/s390x", "--sparse", "single"];
    plan(&images, "skopeo", &two).code(3).stderr_has("team/three:v1 keeps 2 platforms").stderr_has("hint:");
    plan(&images, "skopeo", &["--sparse", "single"]).success().never_says("one platform goes under");
}
