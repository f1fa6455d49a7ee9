//! Mapping files of `oc image mirror -f`, which ibm-pak reads and writes too: `SRC@DIGEST=DST:TAG` a line.
//!
//! A destination never has a digest, so an image without a tag gets one made of its digest. With a folder between the
//! two ends the other end is `file://REPOSITORY:TAG`, below the folder that `--dir` or `--from-dir` names. What is
//! attached by a tag is an image to `oc` and has a line of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Entry;
use super::shell::quoted;
use super::{Context, Leg, Notes, Origin, Plan, PlanError, Written, counted};
use crate::oci::{Digest, RepositoryName};

/// Writes a plan as a mapping file.
///
/// # Errors
/// [`PlanError::NothingToSay`].
pub fn write(plan: &Plan, context: &Context<'_>) -> Result<Written, PlanError> {
    let mut notes = plan.notes.clone();
    let mut lines = Lines { by_target: BTreeMap::new(), leg: context.leg };
    let (said, rest): (Vec<&Entry>, Vec<&Entry>) =
        plan.entries.iter().partition(|entry| sayable(entry, &mut notes));
    let mut hosts: BTreeSet<&str> = BTreeSet::new();
    for entry in &said {
        let Some(from) = entry.registry() else { continue };
        hosts.insert(&from.registry);
        lines.add(from, entry.tagged(), entry, &entry.tag);
        if entry.is_nested() {
            notes.add(
                "has an index inside its index, which `oc image mirror` may not copy",
                entry.name.to_string(),
            );
        }
    }
    let images = lines.by_target.len();
    for entry in &said {
        attached(entry, &mut lines, &mut notes);
        if let Some(single) = &entry.single {
            notes.add(
                super::skopeo::SINGLE,
                format!("{}: {single} for {}", entry.destination(), entry.root.digest),
            );
        }
    }
    if said.is_empty() && !plan.entries.is_empty() {
        return Err(PlanError::NothingToSay { format: "a mapping", notes: notes.finish() });
    }
    let mut left_out: Vec<String> = rest.into_iter().map(Entry::source).collect();
    let filter = filter(&said, &mut notes, &mut left_out);
    left_out.sort();
    let attached = lines.by_target.len() - images;
    if context.leg != Leg::ToFilesystem {
        hosts.insert(&plan.destination.registry);
    }
    if context.leg == Leg::FromFilesystem {
        hosts.retain(|host| *host == plan.destination.registry);
    }
    let (insecure, secure): (Vec<&str>, Vec<&str>) = hosts.iter().partition(|host| (context.insecure)(host));
    if !insecure.is_empty() {
        for host in secure {
            notes.add(
                "is spoken to without checking its certificate too, for `oc` has one `--insecure` for all; with \
                 --leg to-filesystem and --leg from-filesystem each side has its own",
                host,
            );
        }
    }
    let command = command(context, &filter, !insecure.is_empty());
    let mut text = format!(
        "# {} and {} for {}",
        counted(images, "image"),
        counted(attached, "attached tag"),
        plan.destination
    );
    text.push_str(match context.leg {
        Leg::Whole => ", to be copied by\n",
        Leg::ToFilesystem => ", into a folder first by\n",
        Leg::FromFilesystem => ", from the folder by\n",
    });
    text.push_str(&format!("#   {command}\n"));
    let mut sorted: Vec<String> = lines.by_target.into_values().map(|(_, line)| line).collect();
    sorted.sort();
    for line in sorted {
        text.push_str(&line);
        text.push('\n');
    }
    Ok(Written { text, notes: notes.finish(), left_out, images, attached, command })
}

/// Returns whether a mapping has words for an image, and notes what it has not.
fn sayable(entry: &Entry, notes: &mut Notes) -> bool {
    match &*entry.origin {
        Origin::Registry(_) => true,
        Origin::Layout(_) if entry.registry().is_some() => {
            notes.add(
                "is taken from where it was packed, for a mapping names no bundle or layout",
                entry.source(),
            );
            true
        }
        _ => {
            notes.add(
                "left out: a mapping names images in registries only; `barge push` or `barge mirror` carries these",
                entry.source(),
            );
            false
        }
    }
}

fn attached(entry: &Entry, lines: &mut Lines, notes: &mut Notes) {
    let mut referrers = 0;
    for attached in entry.found(notes) {
        let from = match &*attached.origin {
            Origin::Registry(name) => Some(name),
            _ => entry.registry(),
        };
        let (Some(tag), Some(from)) = (&attached.tag, from) else {
            referrers += 1;
            continue;
        };
        if !lines.add(from, &attached.descriptor.digest, entry, tag) {
            notes.add(super::skopeo::TAKEN, format!("{}:{tag}", entry.target));
        }
    }
    if referrers > 0 {
        notes.add(
            "left out: `oc image mirror` copies no referrers; `barge mirror` does",
            format!("{}: {}", entry.name, counted(referrers, "referrer")),
        );
    }
    for orphan in entry.orphaned() {
        notes.add(super::skopeo::ORPHANED, format!("{} of {}", orphan.descriptor.digest, entry.name));
    }
}

struct Lines {
    by_target: BTreeMap<String, (Digest, String)>,
    leg: Leg,
}

impl Lines {
    /// Adds a line; returns false, and adds none, if the target is that of another image.
    fn add(&mut self, from: &RepositoryName, digest: &Digest, entry: &Entry, tag: &str) -> bool {
        let target = format!("{}:{tag}", entry.target);
        if let Some((known, _)) = self.by_target.get(&target) {
            return known == digest;
        }
        let source = format!("{from}@{digest}");
        let file = format!("file://{}:{tag}", entry.target.repository);
        let line = match self.leg {
            Leg::Whole => format!("{source}={target}"),
            Leg::ToFilesystem => format!("{source}={file}"),
            Leg::FromFilesystem => format!("{file}={target}"),
        };
        self.by_target.insert(target, (digest.clone(), line));
        true
    }
}

/// Returns the regular expression of the platforms that travel: one for all images, for a command has one only.
fn filter(said: &[&Entry], notes: &mut Notes, left_out: &mut Vec<String>) -> String {
    if !said.iter().any(|entry| entry.is_sparse()) {
        return ".*".to_owned();
    }
    let indexes = || said.iter().filter(|entry| entry.single.is_none() && !entry.children.is_empty());
    // `oc` spells a platform of which nothing is said as a lone slash.
    let spelled = |child: &super::entry::Child| child.spelled.clone().unwrap_or_else(|| "/".to_owned());
    let kept: BTreeSet<String> =
        indexes().flat_map(|entry| &entry.children).filter(|child| child.kept).map(spelled).collect();
    for entry in indexes() {
        let (mut more, mut some) = (BTreeSet::new(), false);
        for child in &entry.children {
            match kept.contains(&spelled(child)) {
                // Attestations of other platforms are small, and can't be told apart by a platform.
                true if !child.kept && child.platform.is_some() => more.insert(spelled(child)),
                true => {
                    some = true;
                    false
                }
                false => false,
            };
        }
        if !more.is_empty() {
            let more: Vec<String> = more.into_iter().collect();
            notes.add(
                "gets more than was asked for, for one command has one filter of platforms",
                format!("{}: {}", entry.name, more.join(", ")),
            );
        }
        if !some {
            left_out.push(entry.source());
            notes.add(
                "left out by `oc image mirror`: none of its platforms passes the filter",
                entry.name.to_string(),
            );
        } else if entry.is_sparse() {
            notes.add(super::skopeo::SPARSE, entry.name.to_string());
        }
    }
    let words: Vec<String> = kept.iter().map(|word| regex::escape(word)).collect();
    match &words[..] {
        [one] => format!("^{one}$"),
        words => format!("^({})$", words.join("|")),
    }
}

fn command(context: &Context<'_>, filter: &str, insecure: bool) -> String {
    let file = match context.leg {
        Leg::Whole => "images-mapping.txt",
        Leg::ToFilesystem => "images-mapping-to-filesystem.txt --dir=FOLDER",
        Leg::FromFilesystem => "images-mapping-from-filesystem.txt --from-dir=FOLDER",
    };
    let insecure = if insecure { " --insecure" } else { "" };
    let login = context.auth_file.map_or(String::new(), |file| format!(" -a {}", quoted(file)));
    format!(
        "oc image mirror -f {file} --keep-manifest-list --filter-by-os={}{insecure}{login}",
        quoted(filter)
    )
}
