//! Configuration of `regsync` (`regsync once -c FILE`): an entry an image, pinned by digest.
//!
//! Every value is a JSON string, which YAML reads as it is; regsync expands `{{`, which no reference has. It copies
//! referrers and attached tags itself, and with `platforms` an index of which the other platforms are absent.

use std::collections::BTreeSet;

use serde_json::json;

use super::entry::Entry;
use super::{Context, Notes, Origin, Plan, PlanError, Written, counted};
use crate::select::Attachments;
use crate::store::registry::is_loopback;

/// Writes a plan as a configuration.
///
/// # Errors
/// [`PlanError::NothingToSay`].
pub fn write(plan: &Plan, context: &Context<'_>) -> Result<Written, PlanError> {
    let mut notes = plan.notes.clone();
    let mut entries = String::new();
    let mut hosts: BTreeSet<&str> = BTreeSet::from([plan.destination.registry.as_str()]);
    let (mut images, mut attached, mut left_out) = (0, 0, Vec::new());
    for entry in &plan.entries {
        let Some(source) = source(entry, &mut notes) else {
            left_out.push(entry.source());
            continue;
        };
        images += 1;
        let found = entry.found(&mut notes);
        let tagged = found.iter().filter(|attached| attached.tag.is_some()).count();
        hosts.extend(entry.registry().map(|name| name.registry.as_str()));
        entries.push_str(&format!(
            "  - source: {}\n    target: {}\n",
            json!(source),
            json!(entry.destination())
        ));
        entries.push_str("    type: image\n");
        if entry.is_sparse() {
            notes.add(super::skopeo::SPARSE, entry.name.to_string());
            // An empty text means what has no platform.
            let kept: BTreeSet<&str> = entry
                .children
                .iter()
                .filter(|child| child.kept)
                .map(|child| child.spelled.as_deref().unwrap_or_default())
                .collect();
            entries.push_str(&format!("    platforms: {}\n", json!(kept)));
        }
        if let Some(single) = &entry.single {
            let item = format!("{}: {single} for {}", entry.destination(), entry.root.digest);
            notes.add(super::skopeo::SINGLE, item);
        }
        for orphan in entry.orphaned() {
            notes.add(super::skopeo::ORPHANED, format!("{} of {}", orphan.descriptor.digest, entry.name));
        }
        match plan.attachments {
            Attachments::All => {
                attached += found.len();
                entries.push_str("    referrers: true\n    digestTags: true\n");
            }
            Attachments::Signatures => {
                attached += tagged;
                // Whatever is attached by a tag goes with that; of referrers, only all could.
                entries.push_str("    digestTags: true\n");
                if found.len() > tagged {
                    notes.add(
                        "left out: regsync copies all referrers or none; `barge mirror` copies signatures alone",
                        format!("{}: {}", entry.name, counted(found.len() - tagged, "referrer")),
                    );
                }
            }
            Attachments::None => {}
        }
    }
    if images == 0 && !plan.entries.is_empty() {
        return Err(PlanError::NothingToSay { format: "a configuration of regsync", notes: notes.finish() });
    }
    let command = "regsync once -c regsync.yaml".to_owned();
    let mut text =
        format!("# {} for {}: {command}\nversion: 1\n", counted(images, "image"), plan.destination);
    let insecure: Vec<&str> = hosts.into_iter().filter(|host| (context.insecure)(host)).collect();
    if !insecure.is_empty() {
        text.push_str("creds:\n");
        for host in insecure {
            // Registries of this machine are spoken to in plain HTTP, others without asking who vouches for them.
            let tls = if is_loopback(host) { "disabled" } else { "insecure" };
            text.push_str(&format!("  - registry: {}\n    tls: {tls}\n", json!(host)));
        }
    }
    text.push_str(if images == 0 { "sync: []\n" } else { "sync:\n" });
    text.push_str(&entries);
    left_out.sort();
    Ok(Written { text, notes: notes.finish(), left_out, images, attached, command })
}

/// Returns the source of an image, or notes why there is none.
fn source(entry: &Entry, notes: &mut Notes) -> Option<String> {
    let digest = entry.tagged();
    match (&*entry.origin, entry.registry()) {
        (Origin::Registry(name), _) => Some(format!("{name}@{digest}")),
        (Origin::Layout(layout), _) if !layout.is_archive && is_plain(layout.path.to_str()) => {
            Some(format!("ocidir://{}@{digest}", layout.path.display()))
        }
        (Origin::Layout(_), Some(name)) => {
            notes.add("is taken from where it was packed, for regsync reads no archives", entry.source());
            Some(format!("{name}@{digest}"))
        }
        _ => {
            notes.add(
                "left out: regsync reads registries and layout folders only; `barge push` or `barge mirror` carries these",
                entry.source(),
            );
            None
        }
    }
}

/// Returns whether regsync takes a path, which it splits at `:` and `@`.
fn is_plain(path: Option<&str>) -> bool {
    path.is_some_and(|path| {
        path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.".contains(&byte)) && !path.is_empty()
    })
}
