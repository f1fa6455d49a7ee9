//! The files of container engines: `registries.conf.d` (podman, CRI-O, buildah, skopeo), `hosts.toml` (containerd) and
//! `registries.yaml` (k3s, RKE2).
//!
//! The first goes by repository and says everything. containerd goes by host: it can put a path before all repositories of
//! one, and nothing else. k3s can rename too, one repository to one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::scope::{before, joined};
use super::text::{quoted, yaml};
use super::{File, Made, Mirrored, Options, Taker};
use crate::oci::RepositoryName;
use crate::oci::reference::DEFAULT_REGISTRY;

/// Where the registry is that references without a host mean.
const DEFAULT_SERVER: &str = "registry-1.docker.io";

/// Which pulls a mirror of a repository answers.
#[derive(Clone, Copy, Default)]
struct Answers {
    digests: bool,
    tags: bool,
}

/// Makes the drop-in for programs built on containers/image.
pub(super) fn registries_conf(images: &[&Mirrored], options: &Options, made: &mut Made) {
    let mut repositories: BTreeMap<&RepositoryName, BTreeMap<&RepositoryName, Answers>> = BTreeMap::new();
    for image in images {
        let mirrors = repositories.entry(&image.reference.name).or_default();
        let answers = mirrors.entry(&image.target.name).or_default();
        answers.digests |= image.answers_digest();
        answers.tags |= image.answers_tag();
    }
    let mut text = String::new();
    let mut count = 0;
    for (source, mut mirrors) in repositories {
        mirrors.retain(|_, answers| answers.digests || answers.tags);
        if mirrors.is_empty() {
            continue;
        }
        count += 1;
        let name = quoted(&source.to_string());
        text.push_str(&format!("\n[[registry]]\nprefix = {name}\nlocation = {name}\n"));
        for (mirror, answers) in mirrors {
            let location = quoted(&mirror.to_string());
            text.push_str(&format!("\n[[registry.mirror]]\nlocation = {location}\n"));
            // Without it a mirror is asked for everything.
            match (answers.digests, answers.tags) {
                (true, false) => text.push_str("pull-from-mirror = \"digest-only\"\n"),
                (false, _) => text.push_str("pull-from-mirror = \"tag-only\"\n"),
                (true, true) => {}
            }
            if options.is_insecure {
                text.push_str("insecure = true\n");
            }
        }
    }
    if count > 0 {
        let repositories = if count == 1 { "repository" } else { "repositories" };
        let what = format!("mirrors of {count} {repositories}");
        made.files.push(File::new("registries.conf.d/50-barge.conf", what, Taker::Podman, &text));
    }
}

/// The images of one host, by what lies before their paths at the mirror: the mirror's host and a path.
type Prefixes<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Mirrored>>;

/// Makes the host files of containerd.
pub(super) fn hosts_toml(images: &[&Mirrored], options: &Options, made: &mut Made) {
    let pairs: BTreeSet<(String, String)> = images
        .iter()
        .map(|image| (image.target.name.to_string(), image.reference.name.to_string()))
        .collect();
    let mut hosts: BTreeMap<&str, Prefixes<'_>> = BTreeMap::new();
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for image in images {
        let (source, target) = (&image.reference.name, &image.target.name);
        all.entry(&source.registry).or_default().insert(&source.repository);
        match before(&target.repository, &source.repository) {
            Some(path) => {
                let prefixes = hosts.entry(&source.registry).or_default();
                prefixes.entry((&target.registry, path)).or_default().push(image);
            }
            None => made.say(
                "is renamed, which containerd can't do: pull it by its new name",
                &format!("{source} is {target}"),
            ),
        }
    }
    for (host, prefixes) in hosts {
        // Those that are renamed too: they are looked for all the same.
        let repositories = all.get(host).cloned().unwrap_or_default();
        // What is at most places comes first: it is asked first.
        let mut order: Vec<(&(&str, &str), &Vec<&Mirrored>)> = prefixes.iter().collect();
        order.sort_by_key(|(prefix, images)| (std::cmp::Reverse(images.len()), **prefix));
        let mut text = format!("server = {}\n", quoted(&format!("https://{}", server(host))));
        let mut count = 0;
        for ((registry, path), images) in order {
            // Every repository of the host is looked for there: another one's images must not be found.
            let is_mixed = repositories.iter().any(|repository| {
                let at = joined(registry, &joined(path, repository));
                let from = format!("{host}/{repository}");
                let mut found = pairs.range((at.clone(), String::new())..).take_while(|(to, _)| *to == at);
                found.clone().next().is_some() && !found.any(|(_, source)| *source == from)
            });
            if is_mixed {
                for image in images {
                    made.say(
                        "is below a path where containerd would find other images for names of the same host: pull it by \
                         its new name",
                        &format!("{} is {}", image.reference.name, image.target.name),
                    );
                }
                continue;
            }
            count += 1;
            text.push_str(&mirror_host(registry, path, options.is_insecure));
        }
        if count > 0 {
            let path = format!("certs.d/{host}/hosts.toml");
            made.files.push(File::new(path, format!("mirror of {host}"), Taker::Containerd, &text));
        }
    }
}

fn mirror_host(registry: &str, path: &str, is_insecure: bool) -> String {
    let scheme = if is_insecure { "http" } else { "https" };
    let place = if path.is_empty() { registry.to_owned() } else { format!("{registry}/v2/{path}") };
    let mut text = format!("\n[host.{}]\n", quoted(&format!("{scheme}://{place}")));
    text.push_str("  capabilities = [\"pull\", \"resolve\"]\n");
    if !path.is_empty() {
        text.push_str("  override_path = true\n");
    }
    if is_insecure {
        text.push_str("  skip_verify = true\n");
    }
    text
}

fn server(host: &str) -> &str {
    if host == DEFAULT_REGISTRY { DEFAULT_SERVER } else { host }
}

/// Makes the file of k3s and RKE2.
pub(super) fn registries_yaml(images: &[&Mirrored], options: &Options, made: &mut Made) {
    let mut hosts: BTreeMap<&str, BTreeMap<&str, BTreeSet<&RepositoryName>>> = BTreeMap::new();
    for image in images {
        let source = &image.reference.name;
        let repositories = hosts.entry(&source.registry).or_default();
        repositories.entry(&source.repository).or_default().insert(&image.target.name);
    }
    let scheme = if options.is_insecure { "http" } else { "https" };
    let mut mirrors = Map::new();
    let mut registries = BTreeSet::new();
    for (host, repositories) in hosts {
        let mut endpoints = BTreeSet::new();
        let mut renamed: BTreeMap<&str, &str> = BTreeMap::new();
        for (repository, targets) in repositories {
            endpoints.extend(targets.iter().map(|target| target.registry.as_str()));
            let paths: BTreeSet<&str> = targets.iter().map(|target| target.repository.as_str()).collect();
            // A repository is looked for under one path at all endpoints: its own, where it has that.
            let taken = if paths.contains(repository) { Some(repository) } else { paths.first().copied() };
            let Some(taken) = taken else { continue };
            renamed.insert(repository, taken);
            for path in paths.into_iter().filter(|path| *path != taken) {
                made.say(
                    "is at more than one path, of which k3s and RKE2 look at one: pull the others by their new names",
                    &format!("{host}/{repository} is {taken} and {path}"),
                );
            }
        }
        let mut mirror = json!({
            "endpoint": endpoints.iter().map(|endpoint| format!("{scheme}://{endpoint}")).collect::<Vec<_>>(),
        });
        let rewrite = rewrites(&renamed);
        if !rewrite.is_empty() {
            mirror["rewrite"] = Value::Object(rewrite);
        }
        mirrors.insert(host.to_owned(), mirror);
        registries.extend(endpoints);
    }
    if mirrors.is_empty() {
        return;
    }
    let count = mirrors.len();
    let mut document = json!({ "mirrors": mirrors });
    if options.is_insecure {
        let config =
            |registry: &str| (registry.to_owned(), json!({ "tls": { "insecure_skip_verify": true } }));
        document["configs"] = Value::Object(registries.into_iter().map(config).collect());
    }
    let what = if count == 1 { "mirror of 1 host".to_owned() } else { format!("mirrors of {count} hosts") };
    made.files.push(File::new("k3s/registries.yaml", what, Taker::Rancher, &yaml(&document)));
}

/// Returns the rules by which paths become those at the mirror. The one rule that fits is taken in no certain order, so no
/// two of them fit one path.
fn rewrites(renamed: &BTreeMap<&str, &str>) -> Map<String, Value> {
    let prefixes: BTreeSet<Option<&str>> =
        renamed.iter().map(|(repository, taken)| before(taken, repository)).collect();
    if let [Some(prefix)] = prefixes.iter().collect::<Vec<_>>()[..] {
        return match *prefix {
            "" => Map::new(),
            prefix => Map::from_iter([("^(.*)$".to_owned(), format!("{prefix}/$1").into())]),
        };
    }
    // A rule for what stays would do no harm, and no good.
    let moved = renamed.iter().filter(|(repository, taken)| repository != taken);
    moved
        .map(|(repository, taken)| (format!("^{}$", repository.replace('.', "\\.")), (*taken).into()))
        .collect()
}
