//! What people should know of a plan: platforms that images lack, content that is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Options, PackError, list};
use crate::graph::survey::{Failure, Survey};
use crate::graph::{Graph, Image, Presence};
use crate::oci::{Digest, Platform, Reference};
use crate::request::Request;
use crate::select::{Reason, unanswered};
use crate::store::StoreError;
use crate::transfer::archive;

/// A warning: one cause, and everything it concerns.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// What is the matter, for all items alike.
    pub cause: String,
    /// What it concerns.
    pub items: Vec<String>,
}

/// Returns the platforms that an image has where it comes from, whether they travel or not.
fn platforms_there(graph: &Graph, image: &Image) -> Vec<Platform> {
    let (mut have, left) = graph.image_platforms(image);
    have.extend(left);
    have
}

/// Returns the platforms that are wanted of an image.
fn wanted_of(image: &Image, options: &Options) -> Vec<Platform> {
    let mut wanted: Vec<Platform> =
        image.wanted.iter().flat_map(|own| options.wanted.of(own)).cloned().collect();
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Checks that each wanted platform is one that some image has of which it is wanted: else it is a mistake in writing.
pub(super) fn check_platforms(graph: &Graph, options: &Options) -> Result<(), PackError> {
    let mut asked: BTreeMap<Platform, Vec<Platform>> = BTreeMap::new();
    for image in &graph.images {
        let have = platforms_there(graph, image);
        if !have.is_empty() {
            for platform in wanted_of(image, options) {
                asked.entry(platform).or_default().extend(have.iter().cloned());
            }
        }
    }
    for (platform, mut have) in asked {
        have.sort();
        have.dedup();
        if !unanswered(std::slice::from_ref(&platform), &have.iter().collect::<Vec<_>>()).0.is_empty() {
            return Err(PackError::NoSuchPlatform { platform, have });
        }
    }
    Ok(())
}

/// An image that has none of the platforms that are wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Empty {
    /// Its name.
    pub name: Reference,
    /// The platforms that it has.
    pub have: Vec<Platform>,
    /// The platforms that are wanted of it.
    pub wanted: Vec<Platform>,
}

/// Finds the images of which nothing would travel.
pub(super) fn left_empty(graph: &Graph, options: &Options) -> Vec<Empty> {
    let empty = |image: &Image| {
        let (kept, have) = graph.image_platforms(image);
        let wanted = wanted_of(image, options);
        let is_empty = kept.is_empty() && !have.is_empty() && graph.runnable_manifests(image).is_empty();
        (is_empty && !wanted.is_empty()).then(|| Empty { name: image.name.clone(), have, wanted })
    };
    graph.images.iter().filter_map(empty).collect()
}

/// Takes images of which nothing would travel out of a survey, as such that can't be had, and returns their names.
pub(super) fn set_aside_empty(
    survey: &mut Survey,
    empty: Vec<Empty>,
    options: &Options,
) -> Result<Vec<Reference>, PackError> {
    let mut names = Vec::new();
    for image in empty {
        if !options.keep_going {
            return Err(PackError::NothingOfImage(image));
        }
        let Empty { name, have, wanted } = image;
        survey.roots.retain(|root| root.name != name);
        let why = format!("nothing of it would travel: it has {}, not {}", list(&have), list(&wanted));
        let error = Arc::new(StoreError::Invalid { place: name.to_string(), why });
        survey.failures.push(Failure { name: name.clone(), error });
        names.push(name);
    }
    survey.failures.sort_by_key(|failure| failure.name.to_string());
    if survey.roots.is_empty() {
        return Err(PackError::NothingLeft(std::mem::take(&mut survey.failures)));
    }
    Ok(names)
}

/// Says which images lack a wanted platform.
pub(super) fn platform_warnings(graph: &Graph, options: &Options) -> Result<Vec<Warning>, PackError> {
    let mut lacking_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut inexact_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for image in &graph.images {
        let have = platforms_there(graph, image);
        if have.is_empty() {
            continue;
        }
        let wanted = wanted_of(image, options);
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
