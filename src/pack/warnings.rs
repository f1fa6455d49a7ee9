//! What people should know of a plan: platforms that images lack, content that is left out.

use std::collections::BTreeMap;

use super::{Options, PackError, list};
use crate::graph::{Graph, Presence};
use crate::oci::{Digest, Platform};
use crate::request::Request;
use crate::select::{Reason, unanswered};
use crate::transfer::archive;

/// A warning: one cause, and everything it concerns.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// What is the matter, for all items alike.
    pub cause: String,
    /// What it concerns.
    pub items: Vec<String>,
}

/// Says which images lack a wanted platform.
pub(super) fn platform_warnings(graph: &Graph, options: &Options) -> Result<Vec<Warning>, PackError> {
    let mut lacking_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut inexact_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut all: Vec<Platform> = Vec::new();
    for image in &graph.images {
        let (mut have, left) = graph.image_platforms(image);
        have.extend(left);
        if image.wanted.iter().any(Vec::is_empty) {
            all.extend(have.iter().cloned());
        }
        if have.is_empty() {
            continue;
        }
        let mut wanted: Vec<Platform> =
            image.wanted.iter().flat_map(|own| options.wanted.of(own)).cloned().collect();
        wanted.sort();
        wanted.dedup();
        let (lacking, inexact) = unanswered(&wanted, &have.iter().collect::<Vec<_>>());
        if options.strict_platforms && !lacking.is_empty() {
            let lacking = lacking.into_iter().cloned().collect();
            return Err(PackError::PlatformLacking { image: image.name.clone(), lacking });
        }
        // An image without an index is packed whatever its platform is; it must not pass for the wanted one.
        let has_no_choice = !graph.node(image.root).kind.is_manifest() || graph.is_runnable(image.root);
        for platform in lacking {
            let note = if has_no_choice {
                format!(" (has only {}, which is packed)", list(&have))
            } else {
                String::new()
            };
            lacking_by.entry(platform.to_string()).or_default().push(format!("{}{note}", image.name));
        }
        for platform in inexact {
            inexact_by.entry(platform.to_string()).or_default().push(image.name.to_string());
        }
    }
    all.sort();
    all.dedup();
    if !all.is_empty() {
        let (nowhere, _) = unanswered(&options.wanted.platforms, &all.iter().collect::<Vec<_>>());
        if let Some(platform) = nowhere.first() {
            return Err(PackError::NoSuchPlatform { platform: (*platform).clone(), have: all });
        }
    }
    let lacking = lacking_by
        .into_iter()
        .map(|(platform, items)| Warning { cause: format!("without the platform {platform}"), items });
    let inexact = inexact_by.into_iter().map(|(platform, items)| Warning {
        cause: format!("another variant stands in for {platform}"),
        items,
    });
    Ok(lacking.chain(inexact).collect())
}

/// Says what is left out that nobody asked to leave out.
pub(super) fn absence_warnings(graph: &Graph) -> Vec<Warning> {
    let (mut foreign, mut source) = (Vec::new(), Vec::new());
    for (id, digest, node) in graph.nodes() {
        let list = match node.presence {
            Presence::Absent(Reason::Foreign) => &mut foreign,
            Presence::Absent(Reason::Source) => &mut source,
            _ => continue,
        };
        list.push(format!("{digest} of {}", archive::owner(graph, id)));
    }
    let warning = |cause: &str, items: Vec<String>| {
        (!items.is_empty()).then(|| Warning { cause: cause.to_owned(), items })
    };
    [
        warning("non-distributable layer left out (`--foreign-layers` includes it)", foreign),
        warning("listed by the source, which does not have it", source),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Says what of a request none of the images has.
pub(super) fn unmet(graph: &Graph, request: &Request) -> Option<Warning> {
    let travels =
        |digest: &Digest| graph.find(digest).is_some_and(|id| graph.node(id).presence == Presence::Shipped);
    let lacking = request.blobs.iter().filter(|blob| !travels(&blob.digest));
    let items: Vec<String> = lacking.map(|blob| format!("{} ({} bytes)", blob.digest, blob.size)).collect();
    let cause = "requested, and in none of the images that were named".to_owned();
    (!items.is_empty()).then_some(Warning { cause, items })
}
