//! Signatures, attestations, SBOMs and other referrers, however a registry tells of them.

use barge::oci::{Descriptor, Digest};
use barge::select::Reason;

use super::{Packed, pack, temp};
use crate::support::hostile::fault::too_many_html;
use crate::support::hostile::{Action, Config, Fault, Hostile};
use crate::support::images::{Content, layer};

const SIGNATURE: &str = "application/vnd.cncf.notary.signature";
const SBOM: &str = "application/spdx+json";

/// An index of two platforms, with cosign's tags on the index and one child.
struct Signed {
    content: Content,
    children: [Descriptor; 2],
    index: Descriptor,
    tagged: Vec<(String, Descriptor)>,
}

fn signed() -> Signed {
    let mut content = Content::new();
    let children =
        [("linux/amd64", 1), ("linux/arm64", 2)].map(|(p, seed)| content.image(p, &[layer(seed, 900)]));
    let index = content.index(&children);
    let mut tagged = Vec::new();
    for subject in [&index.digest, &children[0].digest, &children[1].digest] {
        let (tag, signature) = content.signature(subject, "app");
        for suffix in [".att", ".sbom"] {
            let (_, other) = content.signature(subject, &format!("app{suffix}"));
            tagged.push((tag.replace(".sig", suffix), other));
        }
        tagged.push((tag, signature));
    }
    Signed { content, children, index, tagged }
}

impl Signed {
    fn seed(&self, hostile: &Hostile) -> String {
        hostile.seed("app", &self.content, &self.index, Some("v1"));
        for (tag, root) in &self.tagged {
            hostile.seed("app", &self.content, root, Some(tag));
        }
        format!("{}/app:v1", hostile.host())
    }
}

#[test]
fn tags_derived_from_digests_are_looked_for_on_roots_and_kept_children() {
    let signed = signed();
    let hostile = Hostile::honest();
    let name = signed.seed(&hostile);
    let temp = temp();
    let all = temp.path().join("all.tar");
    pack(&all, [&name]).run().success();
    let packed = Packed::open(&all);
    for (_, root) in &signed.tagged {
        packed.has_all(&signed.content, root);
    }
    let mut tags: Vec<_> = packed.image(&name).attached.iter().map(|a| a.tag.clone().unwrap()).collect();
    tags.sort();
    let mut expected: Vec<_> = signed.tagged.iter().map(|(tag, _)| tag.clone()).collect();
    expected.sort();
    assert_eq!(tags, expected);
    let mut names: Vec<String> = expected.iter().map(|tag| format!("{}/app:{tag}", hostile.host())).collect();
    names.push(name.clone());
    names.sort();
    assert_eq!(packed.names(), names);

    // What belongs to a platform that is left out is left out, and not asked for.
    hostile.forget_requests();
    let sparse = temp.path().join("sparse.tar");
    pack(&sparse, [&name, "--platform", "linux/amd64"]).run().success();
    let packed = Packed::open(&sparse);
    let left = signed.children[1].digest.hex();
    for (tag, root) in &signed.tagged {
        assert_eq!(packed.blob(&root.digest).is_some(), !tag.contains(&left), "{tag}");
    }
    assert!(hostile.requests_on("*", &format!("sha256-{left}")).is_empty(), "{}", hostile.transcript());

    for (choice, wanted) in [("signatures", &[".sig"][..]), ("none", &[])] {
        let path = temp.path().join(format!("{choice}.tar"));
        pack(&path, [&name, "--attachments", choice]).run().success();
        let packed = Packed::open(&path);
        for (tag, root) in &signed.tagged {
            let is_wanted = wanted.iter().any(|suffix| tag.ends_with(suffix));
            assert_eq!(packed.blob(&root.digest).is_some(), is_wanted, "{choice} {tag}");
        }
    }
}

/// Referrers of the index and of the first child, and referrers of those.
fn referring(content: &mut Content, index: &Descriptor, child: &Descriptor) -> Vec<Descriptor> {
    let mut all = Vec::new();
    for at in 0..5 {
        all.push(content.artifact(index, SBOM, format!("sbom {at}").as_bytes()));
    }
    let sbom = content.artifact(child, SBOM, b"of the child");
    let signature = content.artifact(&sbom, SIGNATURE, b"signed");
    let second = content.artifact(&signature, SIGNATURE, b"countersigned");
    all.extend([sbom, signature, second, content.artifact(child, SIGNATURE, b"child signed")]);
    all
}

#[test]
fn referrers_come_by_the_paged_api_and_by_the_fallback_tag_alike() {
    let mut content = Content::new();
    let children = ["linux/amd64", "linux/arm64"].map(|p| content.image(p, &[layer(1, 900)]));
    let index = content.index(&children);
    let all = referring(&mut content, &index, &children[0]);
    let temp = temp();
    let mut files = Vec::new();
    for api in [true, false] {
        let hostile = Hostile::start(Config { referrers_api: api, page_size: 2, ..Config::default() });
        hostile.seed("app", &content, &index, Some("v1"));
        for artifact in &all {
            hostile.seed("app", &content, artifact, None);
        }
        if !api {
            let mut fallback = content.clone();
            let subject_of = |artifact: &Descriptor| -> Digest {
                let document: serde_json::Value =
                    serde_json::from_slice(&content.blobs[&artifact.digest]).unwrap();
                document["subject"]["digest"].as_str().unwrap().parse().unwrap()
            };
            for subject in content.manifests.keys() {
                let mut list: Vec<Descriptor> =
                    all.iter().filter(|a| subject_of(a) == *subject).cloned().collect();
                if let Some(first) = list.first().cloned() {
                    // Listed twice, as clients that race leave it.
                    list.push(first);
                    let (tag, root) = fallback.referrers_index(subject, &list);
                    hostile.seed("app", &fallback, &root, Some(&tag));
                }
            }
        }
        let path = temp.path().join(format!("{api}.tar"));
        let name = format!("r.example/app:v1={}/app:v1", hostile.host());
        pack(&path, [&name]).run().success();
        let packed = Packed::open(&path);
        for artifact in &all {
            packed.has_all(&content, artifact);
        }
        let image = packed.image("r.example/app:v1");
        assert_eq!(image.attached.len(), all.len());
        assert!(image.attached.iter().all(|attached| attached.tag.is_none()));
        // Without names: an importer must not take them for images.
        assert_eq!(packed.names().iter().filter(|name| name.is_empty()).count(), all.len());
        files.push((packed.record().images[0].attached.clone(), packed.entries["index.json"].clone()));
        let signatures = temp.path().join("signatures.tar");
        pack(&signatures, [&name, "--attachments", "signatures"]).run().success();
        let packed = Packed::open(&signatures);
        assert_eq!(packed.record().images[0].attached.len(), 1, "only what signs the image itself");
        std::fs::remove_file(&signatures).unwrap();
    }
    assert!(files[0] == files[1]);
}

#[test]
fn strange_answers_about_referrers() {
    let mut content = Content::new();
    let child = content.image("linux/amd64", &[layer(1, 900)]);
    let index = content.index(std::slice::from_ref(&child));
    let gone = content.artifact(&child, SBOM, b"listed and not there");
    let (tag, fallback) = content.referrers_index(&child.digest, std::slice::from_ref(&gone));
    let hostile = Hostile::honest();
    hostile.seed("app", &content, &index, Some("v1"));
    // The fallback tag of the index resolves to the index itself.
    let own = barge::store::attached_tag(&index.digest, "");
    hostile.tag("app", &own, &index.digest);
    hostile.seed("app", &content, &fallback, Some(&tag));
    hostile.remove("app", &gone.digest);
    let temp = temp();
    let path = temp.path().join("out.tar");
    let name = format!("{}/app:v1", hostile.host());
    let outcome = pack(&path, [&name]).run().success();
    outcome.stderr_has(&gone.digest.to_string());
    let packed = Packed::open(&path);
    packed.has_all(&content, &index);
    assert_eq!(packed.absent(&gone.digest), Some(Reason::Source));
    assert_eq!(packed.names(), [name]);
}

#[test]
fn a_registry_that_is_busy_or_denies_has_not_said_that_there_are_none() {
    let signed = signed();
    for path in ["/referrers/", ".sig", "/manifests/sha256-"] {
        for action in [too_many_html(None), Action::status(403), Action::status(503)] {
            let hostile = Hostile::start(Config { referrers_api: true, ..Config::default() });
            let name = signed.seed(&hostile);
            hostile.fault(Fault::on("*", path, action));
            let temp = temp();
            let out = temp.path().join("out.tar");
            pack(&out, [&name, "--retry-times", "0"]).run().code(4).stderr_has(&name);
            assert!(super::listing(temp.path()).is_empty());
        }
    }
}

#[test]
fn what_is_attached_is_chosen_from_by_each_who_wants_what_it_is_attached_to() {
    let mut content = Content::new();
    let mut both = |seed| {
        let children = [("linux/amd64", seed), ("linux/arm64", seed + 1)]
            .map(|(platform, seed)| content.image(platform, &[layer(seed, 900)]));
        (content.index(&children), children)
    };
    let ((index, _), (attached, parts)) = (both(1), both(3));
    let hostile = Hostile::honest();
    hostile.seed("app", &content, &index, Some("v1"));
    let tag = barge::store::attached_tag(&index.digest, ".att");
    hostile.seed("app", &content, &attached, Some(&tag));
    let signatures = parts.each_ref().map(|part| content.signature(&part.digest, "app"));
    for (tag, signature) in &signatures {
        hostile.seed("app", &content, signature, Some(tag));
    }
    let temp = temp();
    let host = hostile.host();
    let file = temp.path().join("wanted.yaml");
    let text = format!(
        "apiVersion: barge/v1\nimages:\n- {{image: '{host}/app:v1', platforms: [linux/amd64]}}\n- {{image: \
         '{host}/app:v1', name: '{host}/other:v1', platforms: [linux/arm64]}}\n"
    );
    std::fs::write(&file, text).unwrap();
    for jobs in ["1", "8"] {
        let path = temp.path().join(format!("{jobs}.tar"));
        hostile.forget_requests();
        pack(&path, ["-f", file.to_str().unwrap(), "--jobs", jobs]).run().success();
        let packed = Packed::open(&path);
        for root in parts.iter().chain(signatures.iter().map(|(_, signature)| signature)) {
            packed.has_all(&content, root);
        }
        // Nobody is asked twice for it.
        let asked = hostile.requests_on("GET", &format!("/manifests/{tag}")).len();
        assert!(asked <= 1, "{}", hostile.transcript());
    }
}

#[test]
fn attachments_of_one_image_in_two_repositories_are_found_in_both() {
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 900)]);
    let (tag, signature) = content.signature(&image.digest, "b");
    let hostile = Hostile::honest();
    hostile.seed("a", &content, &image, Some("v1"));
    hostile.seed("b", &content, &image, Some("v1"));
    hostile.seed("b", &content, &signature, Some(&tag));
    let temp = temp();
    let mut names = ["a", "b"].map(|name| format!("{}/{name}:v1", hostile.host()));
    let mut files = Vec::new();
    for at in 0..2 {
        let path = temp.path().join(format!("{at}.tar"));
        pack(&path, &names).args(["--jobs", "1"]).run().success();
        Packed::open(&path).has_all(&content, &signature);
        files.push(std::fs::read(path).unwrap());
        names.reverse();
    }
    assert!(files[0] == files[1]);
}
