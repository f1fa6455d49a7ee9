//! `barge plan` through the program: the text of each format, and that other tools carry it out.

mod files;
mod run;
mod sources;
mod sparse;

use barge::oci::Descriptor;
use serde_json::{Value, json};

use crate::support::barge::{Outcome, barge};
use crate::support::client::Client;
use crate::support::hostile::Hostile;
use crate::support::images::{Content, layer};
use crate::support::peers::{blob_exists, get_manifest_bytes, push_content};

/// What the tests plan for: an index with attachments, an image of Docker's types, and two images without a tag.
struct Stock {
    content: Content,
    amd64: Descriptor,
    s390x: Descriptor,
    attestation: Descriptor,
    app: Descriptor,
    tool: Descriptor,
    pinned: [Descriptor; 2],
    signature: (String, Descriptor),
    referrers: (String, Descriptor),
}

fn stock() -> Stock {
    let mut content = Content::new();
    let shared = layer(1, 3000);
    let amd64 = content.image("linux/amd64", &[shared.clone(), layer(2, 900)]);
    let s390x = content.image("linux/s390x", &[shared.clone(), layer(3, 800)]);
    let attestation = content.attestation(&amd64);
    let app = content.index(&[amd64.clone(), s390x.clone(), attestation.clone()]);
    let tool = content.docker_image("linux/amd64", &[shared.clone(), layer(4, 700)]);
    let pinned = [5, 6].map(|seed| content.image("linux/amd64", &[shared.clone(), layer(seed, 500)]));
    let signature = content.signature(&app.digest, "registry.example/team/app");
    let sbom = content.artifact(&amd64, "application/vnd.example.sbom", b"parts");
    let referrers = content.referrers_index(&amd64.digest, &[sbom]);
    Stock { content, amd64, s390x, attestation, app, tool, pinned, signature, referrers }
}

impl Stock {
    /// Fills a registry.
    fn fill(&self, host: &str) {
        let push = |repository, root, tag| push_content(host, repository, &self.content, root, tag);
        push("team/app", &self.app, Some("v1"));
        push("team/tool", &self.tool, Some("v2"));
        push("team/app", &self.signature.1, Some(&self.signature.0));
        push("team/app", &self.referrers.1, Some(&self.referrers.0));
        self.pinned.iter().for_each(|root| push("team/db", root, None));
    }

    /// The images of a registry, as arguments.
    fn images(&self, host: &str) -> Vec<String> {
        let mut images = vec![format!("{host}/team/app:v1"), format!("{host}/team/tool:v2")];
        images.extend(self.pinned.iter().map(|root| format!("{host}/team/db@{}", root.digest)));
        images
    }

    /// Asserts that a registry gives everything of `root`, and what the tag is.
    #[track_caller]
    fn assert_there(&self, host: &str, repository: &str, tag: &str, root: &Descriptor) {
        assert_eq!(
            get_manifest_bytes(host, repository, tag).as_ref(),
            Some(&self.content.blobs[&root.digest]),
            "{repository}:{tag}"
        );
        for descriptor in self.content.closure(root) {
            let digest = &descriptor.digest;
            if self.content.manifests.contains_key(digest) {
                let found = get_manifest_bytes(host, repository, &digest.to_string());
                assert_eq!(found.as_ref(), Some(&self.content.blobs[digest]), "{repository}@{digest}");
            } else {
                assert!(blob_exists(host, repository, digest), "{repository}@{digest}");
            }
        }
    }
}

/// The tag that an image without one gets.
fn made(root: &Descriptor) -> String {
    format!("sha256-{}", &root.digest.hex()[..12])
}

fn plan(images: &[String], format: &str, more: &[&str]) -> Outcome {
    barge(["plan", "--to", "reg.test/mirror", "--format", format]).args(images).args(more).run()
}

/// A registry that counts requests, filled, and the images in it. It lists referrers by its API.
fn shop() -> (Stock, Hostile, Vec<String>) {
    let (stock, from) = (stock(), Hostile::honest());
    stock.fill(from.host());
    from.forget_requests();
    let images = stock.images(from.host());
    (stock, from, images)
}

#[test]
fn a_mapping_says_what_oc_does() {
    let (stock, from, images) = shop();
    let done = plan(&images, "mapping", &[]).success();
    let host = from.host();
    let mut lines = vec![
        format!("{host}/team/app@{}=reg.test/mirror/team/app:v1", stock.app.digest),
        format!(
            "{host}/team/app@{}=reg.test/mirror/team/app:{}",
            stock.signature.1.digest, stock.signature.0
        ),
        format!("{host}/team/tool@{}=reg.test/mirror/team/tool:v2", stock.tool.digest),
    ];
    lines.extend(
        stock
            .pinned
            .iter()
            .map(|root| format!("{host}/team/db@{}=reg.test/mirror/team/db:{}", root.digest, made(root))),
    );
    lines.sort();
    let expected = format!(
        "# 4 images and 1 attached tag for reg.test/mirror, to be copied by\n\
         #   oc image mirror -f images-mapping.txt --keep-manifest-list --filter-by-os='.*' --insecure\n{}\n",
        lines.join("\n")
    );
    assert_eq!(done.stdout, expected, "{done}");
    let done =
        done.stderr_has("has no tag and gets one made of its digest (2)").stderr_has("copies no referrers");
    done.stderr_has("team/app:v1: 1 referrer").stderr_has("next: oc image mirror -f images-mapping.txt");
    assert!(from.writes().is_empty(), "{}", from.transcript());
    assert!(from.requests_on("*", "/blobs/").len() <= 3, "{}", from.transcript());
    // The order of the arguments does not show, and attachments can be left out.
    let turned: Vec<String> = images.iter().rev().cloned().collect();
    assert_eq!(plan(&turned, "mapping", &[]).success().stdout, expected);
    let bare = plan(&images, "mapping", &["--no-attachments"]).success().never_says(".sig");
    assert!(!bare.stderr.contains("referrer"), "{bare}");
}

#[test]
fn a_mapping_goes_through_a_folder_in_two_legs() {
    let (stock, from, images) = shop();
    let to = plan(&images[..1], "mapping", &["--leg", "to-filesystem", "--no-attachments"]).success();
    let command = "oc image mirror -f images-mapping-to-filesystem.txt --dir=FOLDER --keep-manifest-list";
    let app = format!("{}/team/app@{}", from.host(), stock.app.digest);
    assert_eq!(
        to.stdout,
        format!(
            "# 1 image and 0 attached tags for reg.test/mirror, into a folder first by\n\
             #   {command} --filter-by-os='.*' --insecure\n{app}=file://mirror/team/app:v1\n"
        )
    );
    let back = plan(&images[..1], "mapping", &["--leg", "from-filesystem", "--no-attachments"]).success();
    let command =
        "oc image mirror -f images-mapping-from-filesystem.txt --from-dir=FOLDER --keep-manifest-list";
    assert_eq!(
        back.stdout,
        format!(
            "# 1 image and 0 attached tags for reg.test/mirror, from the folder by\n\
             #   {command} --filter-by-os='.*'\nfile://mirror/team/app:v1=reg.test/mirror/team/app:v1\n"
        )
    );
    plan(&images[..1], "regsync", &["--leg", "to-filesystem"]).code(2).stderr_has("--leg is for");
}

#[test]
fn a_script_names_every_source_by_digest() {
    let (stock, from, images) = shop();
    let done = plan(&images, "skopeo", &[]).success();
    let host = from.host();
    let line = |from: String, to: String| {
        format!("skopeo copy --all --preserve-digests --src-tls-verify=false docker://{from} docker://{to}\n")
    };
    let mut expected = String::from(
        "#!/bin/sh\n# Copies 4 images and 1 attached tag to reg.test/mirror: sh copy.sh\n\
         # Run again after a failure, it goes on: what is there is not copied again.\nset -eu\n",
    );
    expected +=
        &line(format!("{host}/team/app@{}", stock.app.digest), "reg.test/mirror/team/app:v1".to_owned());
    let mut pinned: Vec<&Descriptor> = stock.pinned.iter().collect();
    pinned.sort_by_key(|root| root.digest.to_string());
    for root in pinned {
        let target = format!("reg.test/mirror/team/db:{}", made(root));
        expected += &line(format!("{host}/team/db@{}", root.digest), target);
    }
    expected +=
        &line(format!("{host}/team/tool@{}", stock.tool.digest), "reg.test/mirror/team/tool:v2".to_owned());
    let (tag, signature) = &stock.signature;
    expected +=
        &line(format!("{host}/team/app@{}", signature.digest), format!("reg.test/mirror/team/app:{tag}"));
    assert_eq!(done.stdout, expected, "{done}");
    done.stderr_has("skopeo copies no referrers").stderr_has("next: sh copy.sh");
    assert!(from.writes().is_empty(), "{}", from.transcript());
}

#[test]
fn regsync_gets_an_entry_an_image() {
    let (stock, from, images) = shop();
    let done = plan(&images[..2], "regsync", &[]).success();
    let host = from.host();
    let entry = |repository: &str, tag: &str, root: &Descriptor| {
        format!(
            "  - source: \"{host}/{repository}@{}\"\n    target: \"reg.test/mirror/{repository}:{tag}\"\n    \
             type: image\n    referrers: true\n    digestTags: true\n",
            root.digest
        )
    };
    let expected = format!(
        "# 2 images for reg.test/mirror: regsync once -c regsync.yaml\nversion: 1\ncreds:\n  - registry: \"{host}\"\n    \
         tls: disabled\nsync:\n{}{}",
        entry("team/app", "v1", &stock.app),
        entry("team/tool", "v2", &stock.tool)
    );
    assert_eq!(done.stdout, expected, "{done}");
    let read: Value = serde_saphyr::from_str(&done.stdout).unwrap();
    assert_eq!(read["sync"][1]["target"], "reg.test/mirror/team/tool:v2");
    let bare = plan(&images[..1], "regsync", &["--no-attachments"]).success();
    assert!(!bare.stdout.contains("referrers"), "{bare}");
}

#[test]
fn programs_get_everything() {
    let (stock, from, images) = shop();
    let done = plan(&images, "json", &["--platform", "linux/amd64"]).success();
    let document = done.json();
    assert_eq!(document["mediaType"], "application/vnd.barge.plan.v1+json");
    assert_eq!(document["destination"], "reg.test/mirror");
    let all = document["images"].as_array().unwrap();
    assert_eq!(all.len(), 4, "{document}");
    let app = &all[0];
    assert_eq!(app["name"], format!("{}/team/app:v1", from.host()));
    assert_eq!(app["reference"], app["name"]);
    assert_eq!(app["part"], "image");
    assert_eq!(app["source"]["repository"], format!("{}/team/app", from.host()));
    assert_eq!(app["root"]["digest"], stock.app.digest.to_string());
    assert_eq!(app["root"]["mediaType"], stock.app.media_type);
    assert_eq!((&app["target"], &app["tag"]), (&json!("reg.test/mirror/team/app"), &json!("v1")));
    assert_eq!(app["platforms"], json!([{ "os": "linux", "architecture": "amd64" }]));
    assert_eq!(app["leftOut"], json!([{ "os": "linux", "architecture": "s390x" }]));
    let manifests = app["manifests"].as_array().unwrap();
    let travels: Vec<(&str, bool)> =
        manifests.iter().map(|one| (one["digest"].as_str().unwrap(), one["travels"] == true)).collect();
    let expected = [(&stock.amd64, true), (&stock.s390x, false), (&stock.attestation, true)];
    let expected = expected.map(|(one, travels)| (one.digest.to_string(), travels));
    assert_eq!(travels, expected.iter().map(|(digest, t)| (digest.as_str(), *t)).collect::<Vec<_>>());
    let attached = app["attached"].as_array().unwrap();
    assert!(attached.iter().any(|one| one["tag"] == stock.signature.0), "{app}");
    assert!(attached.iter().any(|one| one.get("tag").is_none()), "{app}");
    assert_eq!(all[1]["tagIsMade"], true);
    assert_eq!(document["failed"], json!([]));
    assert!(
        document["notes"].as_array().unwrap().iter().any(|note| note["items"].as_array().unwrap().len() == 2)
    );
    // The one document is the same with --json; other formats put their text into one.
    let same = plan(&images, "json", &["--platform", "linux/amd64", "--json"]).success();
    assert_eq!(same.stdout, done.stdout);
    let mapping = plan(&images, "mapping", &["--json"]).success().json();
    assert_eq!(mapping["plan"], plan(&images, "mapping", &[]).success().stdout);
    assert!(mapping["notes"].as_array().unwrap().iter().any(|note| {
        note["cause"].as_str().unwrap().contains("referrers") && note["items"].as_array().unwrap().len() == 1
    }));
    assert_eq!((&mapping["exitCode"], &mapping["command"]), (&json!(0), &json!("plan")));
    assert!(from.writes().is_empty(), "{}", from.transcript());
}

#[test]
fn digests_without_tags_never_collapse() {
    let (stock, from, mut images) = shop();
    // A tag that looks like the made one and means something else is in the way.
    let taken = made(&stock.pinned[0]);
    push_content(from.host(), "team/db", &stock.content, &stock.tool, Some(&taken));
    images.push(format!("{}/team/db:{taken}", from.host()));
    let done = plan(&images[2..], "mapping", &[]).success();
    let targets: Vec<&str> = done
        .stdout
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap().1)
        .collect();
    let mut unique = targets.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!((targets.len(), unique.len()), (3, 3), "{done}");
    assert!(
        done.stdout.contains(&format!("@{}=reg.test/mirror/team/db:{taken}\n", stock.tool.digest)),
        "{done}"
    );
    assert!(targets.iter().all(|target| !target.contains('@')), "{done}");
}

#[test]
fn colliding_destinations_name_both_sources() {
    let (stock, from, images) = shop();
    let other = Hostile::honest();
    push_content(other.host(), "team/app", &stock.content, &stock.tool, Some("v1"));
    let both = [images[0].clone(), format!("{}/team/app:v1", other.host())];
    for format in ["mapping", "skopeo", "regsync", "json"] {
        let refused =
            plan(&both, format, &[]).code(3).stderr_has("would both become reg.test/mirror/team/app:v1");
        let refused =
            refused.stderr_has(from.host()).stderr_has(other.host()).stderr_has("--strip-registry=false");
        assert!(refused.stdout.is_empty(), "{refused}");
    }
    let apart = plan(&both, "mapping", &["--strip-registry", "false"]).success();
    assert!(apart.stdout.contains("reg.test/mirror/127.0.0.1-"), "{apart}");
    let mapped = format!("{}=elsewhere", other.host());
    plan(&both, "mapping", &["--map", &mapped]).success().stdout_has("reg.test/mirror/elsewhere/team/app:v1");
    // The same image twice is one line, and said.
    push_content(other.host(), "team/app", &stock.content, &stock.app, Some("v1"));
    let same = plan(&both, "mapping", &["--no-attachments"]).success();
    assert_eq!(same.stdout.matches("team/app:v1\n").count(), 1, "{same}");
    let twice = format!("{}/team/app@{} as reg.test/mirror/team/app:v1", other.host(), stock.app.digest);
    let same = same.stderr_has("the same image under one name");
    assert!(same.stderr.contains(&twice) || same.stdout.contains(other.host()), "{same}");
    assert!(same.stderr.contains(from.host()) && same.stderr.contains(other.host()), "{same}");
}

#[test]
fn what_can_not_be_had_is_said() {
    let (_, from, mut images) = shop();
    images.push(format!("{}/team/none:v1", from.host()));
    plan(&images, "mapping", &[]).code(4).stderr_has("team/none:v1");
    let some = plan(&images, "mapping", &["--keep-going"]).code(1).stderr_has("could not be had");
    assert_eq!(some.stdout.lines().filter(|line| !line.starts_with('#')).count(), 5, "{some}");
    let document = plan(&images, "json", &["--keep-going"]).code(1).json();
    assert!(document["failed"][0]["image"].as_str().unwrap().ends_with("team/none:v1"), "{document}");
    plan(&[], "mapping", &[]).code(2).stderr_has("no image was named");
    barge(["plan", "x", "--to", "not a registry", "--format", "json"])
        .run()
        .code(2)
        .stderr_has("is not a registry");
    assert!(Client::plain(from.host()).tags("mirror/team/app").is_empty());
}
