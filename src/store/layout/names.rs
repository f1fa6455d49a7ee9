//! Names of images in a local place, and what a selector means among them.

use std::collections::BTreeSet;

use super::{CONTAINERD_NAME, REF_NAME};
use crate::oci::reference::is_tag;
use crate::oci::{Descriptor, Digest, Reference};
use crate::store::StoreError;

/// An image that a place lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name: a full reference where the place has one, else whatever it is called; none if it has no name.
    pub name: Option<String>,
    /// What the name means.
    pub descriptor: Descriptor,
}

/// An image that a place lists, under all its names.
#[derive(Debug, Clone)]
pub(in crate::store) struct Listed {
    /// The names; the first is the one to show.
    pub(in crate::store) names: Vec<String>,
    pub(in crate::store) descriptor: Descriptor,
}

impl Listed {
    /// Takes the names from the annotations of an entry of `index.json`.
    pub(in crate::store) fn from_annotations(descriptor: Descriptor) -> Self {
        let get = |key| descriptor.annotations.get(key).filter(|name| !name.is_empty());
        let mut names: Vec<String> =
            [get(REF_NAME), get(CONTAINERD_NAME)].into_iter().flatten().cloned().collect();
        // `docker save` writes the bare tag into the first and the whole reference into the second.
        if names.len() == 2 && is_tag(&names[0]) {
            names.swap(0, 1);
        }
        names.dedup();
        Self { names, descriptor }
    }

    pub(in crate::store) fn named(&self) -> Named {
        Named { name: self.names.first().cloned(), descriptor: self.descriptor.clone() }
    }

    /// Returns the tags by which the image can be meant: bare ones, and those of full references.
    pub(super) fn tags(&self) -> impl Iterator<Item = String> {
        self.names.iter().filter_map(
            |name| {
                if is_tag(name) { Some(name.clone()) } else { as_reference(name)?.tag }
            },
        )
    }
}

/// What a selector means.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Found<'a> {
    None,
    One(&'a Descriptor),
    /// Different images, which only their digests tell apart.
    Many(Vec<Digest>),
}

/// Finds what a selector means: an exact name before a reference of the same meaning before a tag.
///
/// An empty selector means the only image, not counting what is attached to one by a derived tag.
pub(in crate::store) fn find<'a>(listed: &'a [Listed], selector: &str) -> Found<'a> {
    if selector.is_empty() {
        return one_of(listed.iter().filter(|entry| !entry.tags().any(|tag| is_derived(&tag))));
    }
    let exact = one_of(listed.iter().filter(|entry| entry.names.iter().any(|name| name == selector)));
    if exact != Found::None {
        return exact;
    }
    if let Ok(wanted) = selector.parse::<Reference>() {
        let wanted = wanted.with_default_tag();
        let means = |name: &String| as_reference(name).is_some_and(|found| found == wanted);
        let same = one_of(listed.iter().filter(|entry| entry.names.iter().any(means)));
        if same != Found::None {
            return same;
        }
    }
    one_of(listed.iter().filter(|entry| entry.tags().any(|tag| tag == selector)))
}

/// Returns the digest that a selector is, or that pins the reference it is.
pub(in crate::store) fn digest_in(selector: &str) -> Option<Digest> {
    selector.parse().ok().or_else(|| selector.parse::<Reference>().ok()?.digest)
}

/// Makes the error for a name that means several images.
pub(in crate::store) fn ambiguous(place: String, selector: &str, digests: &[Digest]) -> StoreError {
    let list: Vec<String> = digests.iter().take(10).map(ToString::to_string).collect();
    let more = if digests.len() > list.len() { ", …" } else { "" };
    let what =
        if selector.is_empty() { "it holds".to_owned() } else { format!("{} means", quoted(selector)) };
    StoreError::Invalid {
        place,
        why: format!(
            "{what} {} different images: {}{more}; name one by its full name or its digest",
            digests.len(),
            list.join(", ")
        ),
    }
}

/// Quotes a selector for a message.
pub(in crate::store) fn quoted(selector: &str) -> String {
    if selector.is_empty() {
        return "any image".to_owned();
    }
    let text: String = selector.chars().take(300).collect();
    format!("`{}`", text.escape_debug())
}

/// Tells whether a tag is derived from a digest (`sha256-<hex>` with an optional suffix).
pub(super) fn is_derived(tag: &str) -> bool {
    ["sha256-", "sha512-"].iter().any(|prefix| {
        tag.strip_prefix(prefix)
            .and_then(|rest| rest.get(..64))
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

/// Reads a name as a reference, if it is written like one: a bare word is a tag and not a repository.
fn as_reference(name: &str) -> Option<Reference> {
    if !name.contains(['/', ':']) {
        return None;
    }
    name.parse().ok().map(Reference::with_default_tag)
}

fn one_of<'a>(entries: impl Iterator<Item = &'a Listed>) -> Found<'a> {
    let mut first = None;
    let mut digests = BTreeSet::new();
    for entry in entries {
        first.get_or_insert(&entry.descriptor);
        digests.insert(&entry.descriptor.digest);
    }
    match (first, digests.len()) {
        (None, _) => Found::None,
        (Some(descriptor), 1) => Found::One(descriptor),
        _ => Found::Many(digests.into_iter().cloned().collect()),
    }
}
