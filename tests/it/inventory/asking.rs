//! What is asked of registries, and what odd answers come to.

use super::*;

use barge::input::{RegistryArgument, list_registry};
use barge::oci::media_type::OCI_MANIFEST;
use serde_json::json;

use crate::support::hostile::{Action, Config, Fault};
use crate::support::images::{COSIGN_PAYLOAD, descriptor_json};

fn filled() -> (Hostile, Shop, Desk) {
    let (registry, shop) = (Hostile::honest(), shop());
    shop.fill(registry.host(), "");
    registry.forget_requests();
    (registry, shop, Desk::new())
}

/// The config of an image's manifest.
fn config_of(content: &Content, image: &Descriptor) -> String {
    let manifest: serde_json::Value = serde_json::from_slice(&content.blobs[&image.digest]).unwrap();
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn only_manifests_are_read() {
    let (registry, shop, desk) = filled();
    desk.take("b.json", &[registry.host()]).run().success();
    assert_eq!(registry.requests_on("GET|HEAD", "").len(), registry.requests().len());
    // Of images without an index the configuration alone tells the platform.
    let mut configs: Vec<String> =
        [&shop.tool, &shop.base].map(|image| config_of(&shop.content, image)).to_vec();
    let mut read: Vec<String> = registry
        .requests_on("*", "/blobs/")
        .iter()
        .map(|request| request.head.path.rsplit('/').next().unwrap().to_owned())
        .collect();
    configs.sort();
    read.sort();
    assert_eq!(read, configs, "{}", registry.transcript());
    // The tags are known: none that is not there is asked for.
    let refused = registry.requests().into_iter().filter(|request| request.status == Some(404));
    assert!(refused.clone().all(|request| request.head.path.contains("/referrers/")));
}

#[test]
fn every_blob_is_asked_for_one_byte_once_in_each_repository() {
    let (registry, shop, desk) = filled();
    desk.take("b.json", &[registry.host(), "--check-blobs"]).run().success();
    let mut proofs: Vec<String> = registry
        .requests_on("GET", "/blobs/")
        .into_iter()
        .filter(|request| request.head.header("range") == Some("bytes=0-0"))
        .map(|request| request.head.path)
        .collect();
    let count = proofs.len();
    proofs.sort();
    proofs.dedup();
    assert_eq!(proofs.len(), count, "{}", registry.transcript());
    let found = desk.read("b.json");
    let is_blob = |digest: &&Digest| !shop.content.manifests.contains_key(digest);
    let blobs: usize = ["team/app", "team/tool", "other/base"]
        .iter()
        .map(|repository| held(&found, repository).iter().filter(is_blob).count())
        .sum();
    assert_eq!(count, blobs);
    assert!(registry.requests_on("POST|PUT|PATCH|DELETE", "").is_empty());
}

#[test]
fn absent_platforms_and_foreign_layers_are_not_held() {
    let (registry, desk) = (Hostile::honest(), Desk::new());
    let mut content = Content::new();
    let amd64 = content.image("linux/amd64", &[layer(1, 500)]);
    let arm64 = content.image("linux/arm64", &[layer(2, 500)]);
    let sparse = content.index(&[amd64.clone(), arm64.clone()]);
    let foreign = layer(3, 500);
    let windows = content.foreign_image(&foreign, "https://registry.example/layer", true, &layer(4, 500));
    registry.seed("sparse", &content, &sparse, Some("v1"));
    registry.remove("sparse", &arm64.digest);
    // The same index is whole in another repository.
    registry.seed("whole", &content, &sparse, Some("v1"));
    registry.seed("windows", &content, &windows, Some("v1"));
    let with = || held(&desk.read("b.json"), "windows").contains(&foreign.digest);
    desk.take("b.json", &[registry.host()]).run().success();
    let found = desk.read("b.json");
    assert!(!with());
    assert!(
        held(&found, "sparse").contains(&amd64.digest) && !held(&found, "sparse").contains(&arm64.digest)
    );
    assert!(held(&found, "whole").contains(&arm64.digest));
    let platforms: Vec<usize> = found.content.images.iter().map(|image| image.platforms.len()).collect();
    assert_eq!(platforms[..2], [1, 2]);
    desk.take("b.json", &[registry.host(), "--check-blobs"]).run().success();
    assert!(with(), "it was read");
    registry.remove("windows", &foreign.digest);
    desk.take("b.json", &[registry.host(), "--check-blobs"]).run().success();
    assert!(!with());
}

#[test]
fn an_image_that_can_not_be_used_costs_itself_alone() {
    let (registry, shop, desk) = filled();
    let mut content = Content::new();
    let own = layer(9, 700);
    let good = content.image("linux/amd64", &[own.clone()]);
    let mut lying = own.descriptor();
    lying.size += 1;
    let empty = content.blob(&Blob::new(COSIGN_PAYLOAD, noise(5, 30)));
    let document = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor_json(&empty), "layers": [descriptor_json(&lying)] });
    let liar = content.manifest(OCI_MANIFEST, &document);
    registry.seed("team/clash", &content, &good, Some("a"));
    registry.seed("team/clash", &content, &liar, Some("b"));
    registry.tag("team/app", "gone", &Digest::sha256(b"nothing"));
    registry.corrupt(&shop.base.digest, b"{}".to_vec());
    let said = desk.take("b.json", &[registry.host()]).run().code(1);
    assert!(said.stdout.starts_with("PARTIAL: "), "{said}");
    said.stdout_has("4 of 7 images").stderr_has("could not be read");
    let found = desk.read("b.json");
    assert_eq!(names(&found), ["team/app:latest", "team/app:v1", "team/clash:a", "team/tool:v1"]);
    let failed: Vec<_> = found.failed.iter().map(|row| row.name.as_deref().unwrap()).collect();
    assert_eq!(failed, ["other/base:v1", "team/app:gone", "team/clash:b"]);
    assert!(found.failed[2].why.contains("bytes in one place"), "{:?}", found.failed);
    assert_eq!(desk.listing(), ["b.json"]);
}

#[test]
fn an_empty_blob_can_not_be_proved_and_is_kept() {
    let (registry, desk) = (Hostile::honest(), Desk::new());
    let mut content = Content::new();
    let empty = Blob::new("application/vnd.example", "");
    let image = content.image("linux/amd64", &[empty.clone(), layer(1, 100)]);
    registry.seed("app", &content, &image, Some("v1"));
    desk.take("b.json", &[registry.host(), "--check-blobs"]).run().success();
    assert!(held(&desk.read("b.json"), "app").contains(&empty.digest));
}

#[test]
fn a_repository_that_was_named_and_is_not_there_is_said() {
    let (registry, _, desk) = filled();
    let [none, app] = ["team/none", "team/app"].map(|name| format!("{}/{name}", registry.host()));
    desk.take("b.json", &[&none, &app]).run().code(1).stderr_has("team/none: ");
    let found = desk.read("b.json");
    assert_eq!(names(&found), ["team/app:latest", "team/app:v1"]);
    assert_eq!(found.failed[0].name.as_deref(), Some("team/none"));
}

#[test]
fn arguments_are_listed_as_wishes() {
    let (registry, shop, _) = filled();
    let client = barge::store::registry::Client::new(barge::store::registry::Options::default()).unwrap();
    let list = |texts: &[String]| {
        let arguments: Vec<_> = texts.iter().map(|text| RegistryArgument::parse(text).unwrap()).collect();
        list_registry(&client, &arguments).unwrap()
    };
    let host = registry.host();
    assert!(list(&[]).is_none());
    let team = list(&[format!("{host}/team/")]).unwrap();
    assert_eq!(team.relative, ["app:latest", "app:v1", "tool:v1"]);
    assert_eq!((team.place.to_string(), team.sources.len()), (format!("{host}/team"), 2));
    let wish = &team.wishes[2];
    assert_eq!(wish.name.to_string(), format!("{host}/team/tool:v1"));
    assert_eq!(team.sources[wish.source].resolve(&wish.selector).unwrap().digest, shop.tool.digest);
    let pinned = format!("{host}/other/base@{}", shop.base.digest);
    let some = list(&[pinned, format!("{host}/team/tool"), format!("{host}/team/tool:v1")]).unwrap();
    assert_eq!(some.relative, [&format!("other/base@{}", shop.base.digest), "team/tool:v1"]);
}

#[test]
fn a_registry_without_a_catalogue_says_so() {
    let (registry, _, desk) = filled();
    for status in [401, 403, 404, 405] {
        registry.clear_faults();
        registry.fault(Fault::on("GET", "/v2/_catalog", Action::status(status)));
        let said = desk.take("b.json", &[registry.host()]).run().code(4);
        said.stderr_has("does not offer a catalogue").stderr_has("hint: name repositories");
        assert!(desk.listing().is_empty(), "{status}");
    }
    let app = format!("{}/team/app", registry.host());
    desk.take("b.json", &[&app]).run().success();
    assert_eq!(names(&desk.read("b.json")), ["team/app:latest", "team/app:v1"]);
    let registry = Hostile::start(Config::default());
    desk.take("empty.json", &[registry.host()]).run().success().stdout_has("0 images");
    assert!(desk.read("empty.json").content.holdings.is_empty());
}

#[test]
fn what_may_not_be_read_is_said() {
    let (registry, _, desk) = filled();
    registry.fault(Fault::on("GET", "/team/app/tags", Action::error(403, "DENIED")));
    desk.take("b.json", &[registry.host()]).run().code(1).stderr_has("team/app").stderr_has("denied access");
    assert_eq!(names(&desk.read("b.json")), ["other/base:v1", "team/tool:v1"]);
    // Named, it is what was asked for; and with nothing to be seen at all a login is missing.
    desk.take("c.json", &[&format!("{}/team/app", registry.host())]).run().code(4).stderr_has("log in");
    registry.fault(Fault::on("GET", "/tags/list", Action::error(403, "DENIED")));
    desk.take("c.json", &[registry.host(), "--restart"]).run().code(4).stderr_has("log in");
    assert!(!desk.file("c.json").exists());
}

#[test]
fn command_lines_that_make_no_sense_are_refused() {
    let (registry, _, desk) = filled();
    let host = registry.host();
    desk.take("b.json", &[]).run().code(2);
    desk.take("b.json", &["b.json"]).run().code(2).stderr_has("no registry");
    desk.take("b.json", &[host, "registry.example/app"]).run().code(2).stderr_has("two registries");
    barge(["inventory", host]).run().code(2).stderr_has("-o FILE");
    let list = desk.file("list");
    std::fs::write(&list, "./layout\n").unwrap();
    desk.take("b.json", &["--from-file", list.to_str().unwrap()]).run().code(2);
    std::fs::write(desk.file("b.json"), "mine").unwrap();
    desk.take("b.json", &[host]).run().code(3).stderr_has("something else");
    assert_eq!(std::fs::read(desk.file("b.json")).unwrap(), b"mine");
    assert!(registry.requests().is_empty(), "{}", registry.transcript());
    assert_eq!(desk.listing(), ["b.json", "list"]);
}
