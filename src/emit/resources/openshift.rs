//! The resources of `OpenShift` clusters: mirror sets or content source policies, catalogs, signatures of releases.
//!
//! A set for each of release, operators and everything else, so that one can be taken without the others. Digest mirrors
//! hold everything that has its digest at the mirror, whatever it was pulled by; tag mirrors what has its tag there. Catalogs are in
//! neither: a cluster is told of them by their names at the mirror.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use serde_json::{Value, json};

use super::scope::Scopes;
use super::signatures::Signature;
use super::text::yaml;
use super::{File, Made, Mirrored, OpenShift, Options, Taker};
use crate::graph::Part;
use crate::oci::{Algorithm, Digest};

/// The longest resource in bytes: `oc apply` keeps a copy in an annotation, and annotations hold 256 KiB.
const MAX_RESOURCE: usize = 250_000;
/// The longest DNS label, RFC 1123.
const MAX_LABEL: usize = 63;

/// A kind of resource that lists mirrors.
struct Form {
    kind: &'static str,
    version: &'static str,
    /// The field of the specification that lists them.
    list: &'static str,
    /// How the file's name begins.
    file: &'static str,
    /// How the resource's name begins.
    name: &'static str,
    /// Whether it is about pulls by tag, and not about those by digest.
    is_by_tag: bool,
}

const DIGESTS: Form = Form {
    kind: "ImageDigestMirrorSet",
    version: "config.openshift.io/v1",
    list: "imageDigestMirrors",
    file: "idms-",
    name: "idms-",
    is_by_tag: false,
};
const TAGS: Form = Form {
    kind: "ImageTagMirrorSet",
    version: "config.openshift.io/v1",
    list: "imageTagMirrors",
    file: "itms-",
    name: "itms-",
    is_by_tag: true,
};
const POLICY: Form = Form {
    kind: "ImageContentSourcePolicy",
    version: "operator.openshift.io/v1alpha1",
    list: "repositoryDigestMirrors",
    file: "icsp-",
    name: "",
    is_by_tag: false,
};

fn group(part: Part) -> &'static str {
    match part {
        Part::Release | Part::Component => "release",
        Part::Operator | Part::Catalog => "operator",
        Part::Image | Part::Chart => "generic",
    }
}

/// Makes the mirror sets, or the policies of versions that have no sets.
pub(super) fn mirrors(images: &[&Mirrored], scopes: &Scopes, options: &Options, made: &mut Made) {
    let is_old = options.openshift.is_some_and(|version| version < OpenShift::MIRROR_SETS);
    let forms: &[Form] = if is_old { &[POLICY] } else { &[DIGESTS, TAGS] };
    for form in forms {
        let mut groups: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        for image in images {
            let is_meant = match form.is_by_tag {
                true => image.answers_tag(),
                // What is pulled by tag today too: pods are pinned later, and more mirrors do no harm.
                false => image.answers_digest(),
            };
            let Some((source, mirror)) = scopes.entry(&image.reference.name, &image.target.name) else {
                continue;
            };
            if !is_meant {
                continue;
            }
            if !is_taken(source) || !is_taken(mirror) {
                made.say("is at a host that no mirror set of OpenShift can name", &image.reference);
                continue;
            }
            groups.entry(group(image.part)).or_default().entry(source).or_default().insert(mirror);
        }
        for (group, mirrors) in groups {
            resources(form, group, &mirrors, made);
        }
    }
    if is_old {
        for image in images.iter().filter(|image| image.answers_tag()) {
            made.say(
                "is mirrored for pulls by digest only, as OpenShift before 4.13 can't do otherwise: by tag, pull it by its \
                 new name",
                &format!("{} is {}", image.reference.name, image.pulled_by()),
            );
        }
    }
}

/// Makes the resources of one kind and group: one, or as many as the limit of their size takes.
fn resources(form: &Form, group: &str, mirrors: &BTreeMap<&str, BTreeSet<&str>>, made: &mut Made) {
    let document = |at: usize, list: &[Value]| {
        let mut metadata = json!({ "name": format!("{}{group}-{at}", form.name) });
        if form.name.is_empty() && group == "operator" {
            metadata["labels"] = json!({ "operators.openshift.org/catalog": "true" });
        }
        yaml(&json!({
            "apiVersion": form.version, "kind": form.kind, "metadata": metadata, "spec": { form.list: list },
        }))
    };
    let mut written = 0;
    let mut list: Vec<Value> = Vec::new();
    let mut size = 0;
    let mut write = |list: &mut Vec<Value>| {
        let sources = if list.len() == 1 { "1 source".to_owned() } else { format!("{} sources", list.len()) };
        let path = format!("{}{group}-{written}.yaml", form.file);
        let text = document(written, list);
        made.files.push(File::new(path, format!("{}, {sources}", form.kind), Taker::OpenShift, &text));
        list.clear();
        written += 1;
    };
    let head = document(usize::MAX, &[]).len() + super::MARK.len() + 1;
    for (source, mirrors) in mirrors {
        let entry = json!({ "mirrors": mirrors, "source": source });
        // As deep as it will stand, less the keys above it.
        let more =
            yaml(&json!({ "spec": { form.list: [&entry] } })).len() - form.list.len() - "spec:\n  :\n".len();
        if !list.is_empty() && head + size + more > MAX_RESOURCE {
            write(&mut list);
            size = 0;
        }
        size += more;
        list.push(entry);
    }
    if !list.is_empty() {
        write(&mut list);
    }
}

/// Returns whether the schema of mirror sets takes a source or mirror: its hosts are DNS names, with a port or without.
fn is_taken(place: &str) -> bool {
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// Makes the resources by which a cluster finds operator catalogs.
pub(super) fn catalogs<'a>(images: impl Iterator<Item = &'a Mirrored>, options: &Options, made: &mut Made) {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for image in images {
        let pulled_by = image.pulled_by();
        let name = pulled_by.name.repository.rsplit('/').next().unwrap_or_default();
        let version = pulled_by.tag.clone().unwrap_or_else(|| image.now.short());
        names.entry(label(&format!("{name}-{version}"))).or_default().insert(pulled_by.to_string());
    }
    let has_cluster_catalogs = options.openshift.is_none_or(|version| version >= OpenShift::CLUSTER_CATALOGS);
    for (label, images) in names {
        for image in &images {
            // Two catalogs that would have one name both get another, whatever the order in which they came.
            let is_alone = images.len() == 1 && "cs-".len() + label.len() <= MAX_LABEL;
            let label = if is_alone { label.clone() } else { told_apart(&label, image) };
            let name = format!("cs-{label}");
            let source = json!({
                "apiVersion": "operators.coreos.com/v1alpha1",
                "kind": "CatalogSource",
                "metadata": { "name": name, "namespace": "openshift-marketplace" },
                "spec": { "image": image, "sourceType": "grpc" },
            });
            made.files.push(File::new(
                format!("{name}.yaml"),
                format!("CatalogSource of {image}"),
                Taker::OpenShift,
                &yaml(&source),
            ));
            if !has_cluster_catalogs {
                continue;
            }
            let name = format!("cc-{label}");
            let catalog = json!({
                "apiVersion": "olm.operatorframework.io/v1",
                "kind": "ClusterCatalog",
                "metadata": { "name": name },
                "spec": { "source": { "image": { "ref": image }, "type": "Image" } },
            });
            made.files.push(File::new(
                format!("{name}.yaml"),
                format!("ClusterCatalog of {image}, from OpenShift 4.18 on"),
                Taker::OpenShift,
                &yaml(&catalog),
            ));
        }
    }
}

/// Makes text fit for the end of a DNS label.
fn label(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(fit).collect::<String>().trim_end_matches('-').to_owned()
}

/// Adds to a label what only this image has.
fn told_apart(label: &str, image: &str) -> String {
    let mark = Digest::sha256(image.as_bytes()).short();
    let room = MAX_LABEL - "cs-".len() - mark.len() - 1;
    let cut: String = label.chars().take(room).collect();
    format!("{}-{mark}", cut.trim_end_matches('-'))
}

/// Makes the resource that holds signatures of releases.
pub(super) fn signatures(signatures: &[Signature], made: &mut Made) {
    let mut by_release: BTreeMap<String, BTreeSet<&[u8]>> = BTreeMap::new();
    for signature in signatures.iter().filter(|one| one.release.algorithm() == Algorithm::Sha256) {
        by_release.entry(signature.release.hex()).or_default().insert(&signature.bytes);
    }
    if by_release.is_empty() {
        return;
    }
    let mut data = serde_json::Map::new();
    for (hex, all) in &by_release {
        for (bytes, number) in all.iter().zip(1..) {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            data.insert(format!("sha256-{hex}-{number}"), text.into());
        }
    }
    let count = data.len();
    let map = json!({
        "apiVersion": "v1",
        "binaryData": data,
        "kind": "ConfigMap",
        "metadata": {
            "labels": { "release.openshift.io/verification-signatures": "" },
            "name": "mirrored-release-signatures",
            "namespace": "openshift-config-managed",
        },
    });
    let what =
        format!("ConfigMap, {count} {} of releases", if count == 1 { "signature" } else { "signatures" });
    made.files.push(File::new("signature-configmap.yaml", what, Taker::OpenShift, &yaml(&map)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_dns_allows() {
        for (text, expected) in [
            ("index-v4.18", "index-v4-18"),
            ("my_index-V1_Beta.", "my-index-v1-beta"),
            ("redhat__operators-v1--", "redhat--operators-v1"),
        ] {
            assert_eq!(label(text), expected);
        }
        let long = label(&format!("{}-v1", "i".repeat(120)));
        let told = told_apart(&long, "dst.test/a:v1");
        assert_eq!(told.len() + 3, MAX_LABEL);
        assert_ne!(told, told_apart(&long, "dst.test/b:v1"));
    }

    #[test]
    fn hosts_that_mirror_sets_take() {
        for (place, expected) in
            [("reg.test", true), ("reg.test:5000/a/b_c", true), ("[::1]:5000/a", false), ("my_host/a", false)]
        {
            assert_eq!(is_taken(place), expected, "{place}");
        }
    }
}
