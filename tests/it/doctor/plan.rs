//! What `pack` and `diff` make of what is known of the target.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::barge::{Outcome, barge};
use crate::support::hostile::{Config, Hostile, SparsePolicy};
use crate::support::images::{Content, layer};
use crate::support::peers::push_content;

/// A registry with `team/app:v1` for two platforms and `team/tool:v1`, and a folder.
struct Desk {
    source: Hostile,
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let mut content = Content::new();
        let amd64 = content.image("linux/amd64", &[layer(1, 3000)]);
        let arm64 = content.image("linux/arm64", &[layer(2, 2000)]);
        let app = content.index(&[amd64, arm64]);
        let tool = content.image("linux/amd64", &[layer(3, 900)]);
        let artifact = content.artifact(&tool, "application/vnd.example.sbom", b"parts");
        let source = Hostile::start(Config { referrers_api: true, ..Config::default() });
        push_content(source.host(), "team/app", &content, &app, Some("v1"));
        push_content(source.host(), "team/tool", &content, &tool, Some("v1"));
        push_content(source.host(), "team/tool", &content, &artifact, None);
        Self { source, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn image(&self, name: &str) -> String {
        format!("{}/team/{name}:v1", self.source.host())
    }

    /// Writes what is known of a target.
    fn known(&self, target: &str, facts: &Value) {
        let document = json!({
            "mediaType": "application/vnd.barge.target.v1+json",
            "formatVersion": "1.0",
            "target": target,
            "facts": facts,
        });
        self.write(&document.to_string());
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file("target.json"), text).unwrap();
    }

    /// Packs both images for the target.
    fn pack(&self, more: &[&str]) -> Outcome {
        let images = [self.image("app"), self.image("tool")];
        let run = barge(["pack", "-o", "site.oci.tar", "--restart", "--for", "target.json"]);
        let _ = std::fs::remove_file(self.file("site.oci.tar"));
        run.dir(self.folder.path()).args(images).args(more).run()
    }

    fn is_packed(&self) -> bool {
        self.file("site.oci.tar").exists()
    }
}

const ONE: [&str; 2] = ["--platform", "linux/amd64"];

#[test]
fn a_target_that_refuses_sparse_indexes_is_told_of_before_the_trip() {
    let desk = Desk::new();
    for answer in ["refused", "stubbed"] {
        desk.known("registry.example/m", &json!({ "sparse": answer }));
        let said = desk.pack(&ONE).success().stderr_has("takes no index of which platforms were left out");
        assert!(
            said.stderr.contains(&desk.image("app")) && !said.stderr.contains(&desk.image("tool")),
            "{said}"
        );
        let next = said.stdout.lines().last().unwrap();
        assert!(next.ends_with("barge push site.oci.tar registry.example/m --sparse rewrite)"), "{said}");
        // All platforms: nothing to say.
        desk.pack(&[]).success().never_says("--sparse").never_says("platforms were left out");
    }
    let strict = [ONE[0], ONE[1], "--strict-target"];
    let said = desk.pack(&strict).code(3).stderr_has("registry.example/m would not take all of it");
    assert!(said.stderr.contains(&desk.image("app")) && !desk.is_packed(), "{said}");
    desk.known("registry.example/m", &json!({ "sparse": "accepted" }));
    desk.pack(&strict).success().never_says("--sparse");
    desk.known("registry.example/m", &json!({}));
    desk.pack(&ONE).success().stderr_has("it is not known whether the target takes");
    let document = desk.pack(&["--json"]).success().json();
    assert_eq!(document["push"], "barge push site.oci.tar registry.example/m");
}

#[test]
fn how_to_talk_to_the_target_goes_into_the_push_and_what_is_not_needed_does_not() {
    let desk = Desk::new();
    let words = ["--insecure", "registry.example", "--sparse", "rewrite", "--max-path-components", "4"];
    desk.write(
        &json!({
            "mediaType": "application/vnd.barge.target.v1+json",
            "formatVersion": "1.0",
            "target": "registry.example",
            "facts": { "sparse": "refused", "maxPathComponents": 4 },
            "push": words,
        })
        .to_string(),
    );
    let said = desk.pack(&[]).success();
    let push = "barge push site.oci.tar registry.example --insecure registry.example)";
    assert!(said.stdout.lines().last().unwrap().ends_with(push), "{said}");
}

#[test]
fn names_that_are_too_deep_are_joined_at_the_push() {
    let desk = Desk::new();
    desk.known("registry.example/m", &json!({ "maxPathComponents": 2 }));
    let said = desk
        .pack(&[])
        .success()
        .stderr_has("--max-path-components 2")
        .stderr_has("registry.example/m/team/app:v1");
    assert!(said.stdout.contains("registry.example/m --max-path-components 2)"), "{said}");
    desk.known("registry.example/m", &json!({ "maxPathComponents": 3 }));
    desk.pack(&[]).success().never_says("--max-path-components");
    desk.known("registry.example/m/n", &json!({ "maxPathComponents": 2 }));
    desk.pack(&[]).code(3).stderr_has("no room");
    assert!(!desk.is_packed());
}

#[test]
fn two_images_of_one_name_at_the_target_are_an_error_now() {
    let desk = Desk::new();
    desk.known("registry.example", &json!({}));
    let files = || std::fs::read_dir(desk.folder.path()).unwrap().count();
    let two = ["one.example/x:1", "two.example/x:1"];
    let images = [format!("{}={}", two[0], desk.image("app")), format!("{}={}", two[1], desk.image("tool"))];
    let run = barge(["pack", "-o", "x.oci.tar", "--for", "target.json"]).dir(desk.folder.path()).args(images);
    let said = run.run().code(3).stderr_has("would both become registry.example/x:1");
    assert!(two.iter().all(|name| said.stderr.contains(name)), "{said}");
    assert_eq!(files(), 1, "a working file stays");
}

#[test]
fn what_is_too_large_is_an_error_now() {
    let desk = Desk::new();
    desk.known("registry.example", &json!({ "maxManifestBytes": 200 }));
    let said = desk.pack(&[]).code(3).stderr_has("the target refuses manifests this large");
    assert!(said.stderr.contains(&desk.image("app")) && !desk.is_packed(), "{said}");
    desk.known("registry.example", &json!({ "maxBlobBytes": 2500, "maxManifestBytes": 1 << 20 }));
    let said = desk.pack(&[]).code(3).stderr_has("the target refuses blobs this large");
    assert!(!said.stderr.contains(&desk.image("tool")), "{said}");
    desk.known("registry.example", &json!({ "volumeSize": 1000 }));
    desk.pack(&[]).success().stderr_has("larger than the medium takes in one file");
}

#[test]
fn other_habits_of_the_target_are_warned_of() {
    let desk = Desk::new();
    desk.known("registry.example/m", &json!({ "createsRepositories": false, "referrers": "refused" }));
    let said = desk.pack(&[]).success().stderr_has("must be made at the target before the push");
    assert!(said.stderr.contains("registry.example/m/team/tool"), "{said}");
    let refused = "the target refuses what is attached to these";
    assert!(said.stderr.contains(&format!("{refused}; pack with --attachments none")), "{said}");
    desk.pack(&["--attachments", "none"]).success().never_says(refused);
}

#[test]
fn what_failed_when_the_target_was_asked_is_told() {
    let desk = Desk::new();
    let seen = "uploads are refused (405 UNSUPPORTED)";
    desk.write(
        &json!({
            "mediaType": "application/vnd.barge.target.v1+json",
            "formatVersion": "1.0",
            "target": "registry.example",
            "findings": [
                { "id": "push", "state": "failed", "seen": seen },
                { "id": "catalogue", "state": "warning", "seen": "not offered (404)" },
            ],
        })
        .to_string(),
    );
    let told = desk.pack(&[]).success().stderr_has("a push fails").stderr_has(&format!("push: {seen}"));
    assert!(!told.stderr.contains("not offered"), "{told}");
    desk.pack(&["--strict-target"]).code(3).stderr_has(seen);
}

#[test]
fn documents_that_are_none_are_refused_before_anything_is_asked() {
    let desk = Desk::new();
    desk.source.forget_requests();
    let good = json!({ "mediaType": "application/vnd.barge.target.v1+json", "formatVersion": "1.0", "target": "r.example" });
    let edited = |field: &str, value: Value| {
        let mut document = good.clone();
        document[field] = value;
        document.to_string()
    };
    for (text, why) in [
        ("{".to_owned(), "does not say what a target does"),
        (
            edited("mediaType", json!("application/vnd.barge.request.v1+json")),
            "its media type is `application/vnd.barge.request.v1+json`",
        ),
        (edited("formatVersion", json!("2.0")), "has version 2.0 of its form; this program reads 1.x"),
        (edited("target", json!("no registry")), "names no registry"),
        (edited("facts", json!({ "volumeSize": "4G" })), "does not say what a target does"),
    ] {
        desk.write(&text);
        desk.pack(&[]).code(3).stderr_has(why).stderr_has("hint: barge doctor");
    }
    std::fs::remove_file(desk.file("target.json")).unwrap();
    desk.pack(&[]).code(3).stderr_has("target.json can't be read");
    assert!(desk.source.requests().is_empty(), "{}", desk.source.transcript());
    barge(["pack", "x", "-o", "y", "--strict-target"]).run().code(2).stderr_has("--for");
}

#[test]
fn what_doctor_says_is_what_makes_the_push_work() {
    let desk = Desk::new();
    let config = Config { sparse: SparsePolicy::RefuseLikeV2, max_path_components: 2, ..Config::default() };
    let target = Hostile::start(config);
    let place = format!("{}/m", target.host());
    barge(["doctor", &place, "--repo", "m/s", "-o", "target.json"]).dir(desk.folder.path()).run().success();
    let said = desk.pack(&ONE).success();
    let next = said.stdout.lines().last().unwrap();
    let command = next.split("(then, at the target: barge ").nth(1).unwrap().strip_suffix(')').unwrap();
    assert_eq!(command, format!("push site.oci.tar {place} --sparse rewrite --max-path-components 2"));
    barge(["push", "site.oci.tar", &place]).dir(desk.folder.path()).run().code(4);
    barge(command.split(' ')).dir(desk.folder.path()).run().success();
    assert!(target.tags("m/team-app").contains_key("v1"), "{:?}", target.repositories());
}

#[test]
fn diff_knows_the_target_too() {
    let desk = Desk::new();
    barge(["pack", "-o", "base.oci.tar", &desk.image("tool")]).dir(desk.folder.path()).run().success();
    desk.known("registry.example/m", &json!({ "sparse": "refused" }));
    let images = [desk.image("app"), desk.image("tool")];
    let diff = |more: &[&str]| {
        let run = barge(["diff", "base.oci.tar", &images[0], &images[1], "--for", "target.json"]);
        run.dir(desk.folder.path()).args(more).run()
    };
    let warning = "takes no index of which platforms were left out";
    diff(&ONE).success().stderr_has(warning).stderr_has(&images[0]);
    let said = diff(&[ONE[0], ONE[1], "-o", "delta.oci.tar"]).success().stderr_has(warning);
    assert!(said.stdout.contains("delta.oci.tar registry.example/m --sparse rewrite)"), "{said}");
    diff(&[ONE[0], ONE[1], "--strict-target"]).code(3);
    diff(&[]).success().never_says(warning);
    desk.write("[]");
    diff(&[]).code(3).stderr_has("does not say what a target does");
}
