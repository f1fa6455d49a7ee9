//! The plan: what was asked for, where it is and where it goes, from what the survey found.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::entry::{Attachment, Child, Entry};
use super::notes::Notes;
use super::origin::{Origin, Places};
use super::tags::tags;
use crate::graph::{Image, NodeId, Presence};
use crate::input::SaidAt;
use crate::oci::{Digest, Reference};
use crate::pack::{Prepared, Warning};
use crate::push::names::{Destination, Naming, NamingError};
use crate::push::sparse::Policy;
use crate::select::{Attachments, Reason};
use crate::store::chain;

/// How to plan.
#[derive(Debug, Clone)]
pub struct Options {
    /// How images are named at the target.
    pub naming: Naming,
    /// What goes under the tag of an image of which platforms are left out: the exact index, or the one platform.
    /// Nobody else rewrites an index.
    pub sparse: Policy,
    /// Where files say what travels under a name.
    pub said: SaidAt,
}

/// What is to be done, whoever does it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything goes.
    pub destination: Destination,
    /// The images, sorted by name.
    pub entries: Vec<Entry>,
    /// Images that could not be had, with the reason.
    pub failed: Vec<(String, String)>,
    /// Which attached content is wanted.
    pub attachments: Attachments,
    /// What people should know, whatever the format.
    pub notes: Notes,
}

/// Why there is no plan, or no text of it.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A name can't be made.
    #[error(transparent)]
    Naming(#[from] NamingError),
    /// Two different images under one name.
    #[error("{first} and {second} would both become {target}")]
    Collision {
        /// One image, with where it comes from.
        first: String,
        /// The other.
        second: String,
        /// The name at the target.
        target: String,
    },
    /// One platform was to go under the tag, and there are several.
    #[error("{image} keeps {count} platforms, of which one alone can go under its tag")]
    SeveralPlatforms {
        /// The image.
        image: Reference,
        /// How many.
        count: usize,
    },
    /// The format has no words for any of the images.
    #[error("none of the images can be said as {format}")]
    NothingToSay {
        /// The format.
        format: &'static str,
        /// Why.
        notes: Vec<Warning>,
    },
    /// The survey's working file can't be read.
    #[error("the working file of the plan can't be read")]
    Spool(#[from] std::io::Error),
}

impl Plan {
    /// Plans what was surveyed.
    ///
    /// # Errors
    /// [`PlanError`]: names that can't be made or collide, several platforms for one tag.
    pub fn of(prepared: &Prepared, places: &Places, options: &Options) -> Result<Self, PlanError> {
        let graph = &prepared.graph;
        let mut targets = Vec::new();
        for image in &graph.images {
            targets.push((options.naming.target(&image.name)?, graph.digest(image.root).clone()));
        }
        let tags = tags(&targets);
        let mut notes = Notes::from(prepared.warnings.clone());
        let mut entries: Vec<Entry> = Vec::new();
        let mut taken: HashMap<String, usize> = HashMap::new();
        for ((image, (target, _)), (tag, tag_is_made)) in graph.images.iter().zip(targets).zip(tags) {
            let mut entry = entry(prepared, places, image)?;
            (entry.target, entry.tag, entry.tag_is_made) = (target.name, tag, tag_is_made);
            if options.sparse == Policy::Single {
                entry.single = single(prepared, image, &entry)?;
            }
            let destination = entry.destination();
            match taken.get(&destination).map(|at| &entries[*at]) {
                None => {
                    taken.insert(destination, entries.len());
                    entries.push(entry);
                }
                Some(first) if first.root.digest == entry.root.digest => notes.add(
                    "the same image under one name, which is copied from the first",
                    format!("{} and {} as {destination}", first.source(), entry.source()),
                ),
                Some(first) => {
                    let told = |entry: &Entry| match &options.said.of(&entry.name)[..] {
                        [] => entry.source(),
                        spots => format!("{} ({})", entry.source(), spots.join(", ")),
                    };
                    let (first, second) = (told(first), told(&entry));
                    return Err(PlanError::Collision { first, second, target: destination });
                }
            }
        }
        for entry in entries.iter().filter(|entry| entry.tag_is_made) {
            notes.add(
                "has no tag and gets one made of its digest",
                format!("{} as {}", entry.name, entry.destination()),
            );
        }
        let failed = prepared.failures.iter();
        Ok(Self {
            destination: options.naming.destination.clone(),
            entries,
            failed: failed.map(|one| (one.name.to_string(), chain(&*one.error))).collect(),
            attachments: prepared.attachments(),
            notes,
        })
    }
}

fn entry(prepared: &Prepared, places: &Places, image: &Image) -> Result<Entry, PlanError> {
    let graph = &prepared.graph;
    let origin = |id: NodeId| places.origin(prepared.source(graph.node(id)), graph.digest(id));
    let (platforms, left_out) = graph.image_platforms(image);
    let attached =
        image.attached.iter().filter(|attached| graph.node(attached.node).presence == Presence::Shipped);
    let attached = attached.map(|attached| Attachment {
        descriptor: graph.descriptor(attached.node),
        tag: attached.tag.clone(),
        subject: graph.digest(attached.subject).clone(),
        origin: origin(attached.node),
    });
    // Content that several places have is one; each image is taken from where it was asked for.
    let own = image.reference.as_ref().and_then(|reference| places.registry(&reference.name));
    let origin = match (origin(image.root), own) {
        (origin, Some(own)) if matches!(*origin, Origin::Registry(_)) => own,
        (origin, _) => origin,
    };
    let lacking = match &*origin {
        Origin::Layout(_) => graph
            .image_closure(image)
            .into_iter()
            .filter(|id| match graph.node(*id).presence {
                Presence::Shipped | Presence::Absent(Reason::Foreign) => false,
                Presence::Unshipped => graph.node(*id).kind.is_manifest(),
                Presence::Absent(_) | Presence::Patched => true,
            })
            .count(),
        _ => 0,
    };
    Ok(Entry {
        name: image.name.clone(),
        reference: image.reference.clone(),
        part: image.part,
        origin: Arc::clone(&origin),
        root: graph.descriptor(image.root),
        target: image.name.name.clone(),
        tag: String::new(),
        tag_is_made: false,
        children: children(prepared, image)?,
        platforms,
        left_out,
        attached: attached.collect(),
        lacking,
        single: None,
    })
}

/// The part of an index that tells how it spells its platforms.
#[derive(Deserialize)]
struct Spelling {
    manifests: Vec<SpelledEntry>,
}

#[derive(Deserialize)]
struct SpelledEntry {
    digest: Digest,
    #[serde(default)]
    platform: Option<SpelledPlatform>,
}

#[derive(Deserialize)]
struct SpelledPlatform {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
}

impl SpelledPlatform {
    /// Returns the platform in one word; none if it has letters that no platform has.
    fn word(self) -> Option<String> {
        let (os, architecture) = (self.os.unwrap_or_default(), self.architecture.unwrap_or_default());
        let word = match self.variant.filter(|variant| !variant.is_empty()) {
            Some(variant) => format!("{os}/{architecture}/{variant}"),
            None => format!("{os}/{architecture}"),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        (word.len() <= 100 && word.bytes().all(is_plain)).then_some(word)
    }
}

fn children(prepared: &Prepared, image: &Image) -> Result<Vec<Child>, PlanError> {
    let graph = &prepared.graph;
    let (mut spelled, mut children) = (HashMap::new(), Vec::new());
    for id in graph.closure(image.root) {
        if !graph.node(id).kind.is_manifest() {
            continue;
        }
        if let Some(bytes) = prepared.content(graph.digest(id))?
            && let Ok(index) = serde_json::from_slice::<Spelling>(&bytes)
        {
            let words =
                index.manifests.into_iter().filter_map(|entry| Some((entry.digest, entry.platform?.word()?)));
            spelled.extend(words);
        }
        if id != image.root {
            children.push(Child {
                descriptor: graph.descriptor(id),
                spelled: spelled.get(graph.digest(id)).cloned(),
                platform: graph.platform(id).cloned(),
                kept: graph.node(id).presence == Presence::Shipped,
            });
        }
    }
    Ok(children)
}

/// Returns the one platform that travels, where others are left out.
fn single(prepared: &Prepared, image: &Image, entry: &Entry) -> Result<Option<Digest>, PlanError> {
    if !entry.children.iter().any(|child| !child.kept) {
        return Ok(None);
    }
    match prepared.graph.runnable_manifests(image)[..] {
        [] => Ok(None),
        [only] => Ok(Some(prepared.graph.digest(only).clone())),
        ref several => Err(PlanError::SeveralPlatforms { image: entry.name.clone(), count: several.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_spelled_as_they_are_or_not_at_all() {
        let word = |text: &str| serde_json::from_str::<SpelledPlatform>(text).unwrap().word();
        let spelled = |text: &str| Some(text.to_owned());
        assert_eq!(
            word(r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#),
            spelled("linux/arm64/v8")
        );
        assert_eq!(word(r#"{"os":"linux","architecture":"amd64","variant":""}"#), spelled("linux/amd64"));
        assert_eq!(word(r#"{"os":null}"#), spelled("/"));
        for hostile in ["linux\\nr.test/a@sha256:0=r.test/b:1", "li'nux", "a b", "$(x)", "\\u202e"] {
            assert_eq!(word(&format!(r#"{{"os":"{hostile}","architecture":"amd64"}}"#)), None, "{hostile}");
        }
    }
}
