//! `index.json` against the record: it names what tools that know nothing of bundles may import, and nothing else.

use std::collections::HashSet;

use serde::Deserialize;

use super::report::{Findings, shown};
use super::subject::{Root, Subject};
use super::walk::Closure;
use crate::bundle::head::{CONTAINERD_NAME, REF_NAME, attached_name};
use crate::bundle::record::Record;
use crate::oci::reference::is_tag;
use crate::oci::{Descriptor, Digest};

/// What `index.json` lists, an entry that is no descriptor being none.
#[derive(Deserialize)]
struct IndexFile {
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Good(Box<Descriptor>),
    Bad(serde::de::IgnoredAny),
}

/// Returns what an index lists, by name, and how many entries are no descriptors.
pub(super) fn roots_of(bytes: &[u8]) -> Result<(Vec<Root>, usize), serde_json::Error> {
    let index: IndexFile = serde_json::from_slice(bytes)?;
    let mut bad = 0;
    let mut roots = Vec::new();
    for entry in index.manifests.unwrap_or_default() {
        let Entry::Good(descriptor) = entry else {
            bad += 1;
            continue;
        };
        let name = name_of(&descriptor).unwrap_or_else(|| descriptor.digest.to_string());
        let platforms = crate::select::choosable(&descriptor).cloned().into_iter().collect();
        let descriptor = Some(*descriptor);
        roots.push(Root { name, descriptor, attached: Vec::new(), platforms, failed: false });
    }
    Ok((roots, bad))
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    let get = |key| descriptor.annotations.get(key).filter(|name| !name.is_empty());
    match (get(REF_NAME), get(CONTAINERD_NAME)) {
        // `docker save` writes the bare tag into the first and the whole reference into the second.
        (Some(tag), Some(full)) if is_tag(tag) => Some(full.clone()),
        (name, full) => name.or(full).cloned(),
    }
}

/// A name, if there is one, and what it means.
type Meaning = (Option<String>, Digest);

/// What the `index.json` of a bundle lists, and what the record could have it list.
pub(super) struct Listing {
    listed: Vec<Meaning>,
    /// For each image of the record: the image itself, then what is attached to it.
    images: Vec<Vec<Meaning>>,
}

impl Listing {
    /// Reads an index and compares its descriptors with the record's table.
    pub(super) fn of(record: &Record, bytes: &[u8], findings: &mut Findings) -> Option<Self> {
        let Ok(index) = serde_json::from_slice::<IndexFile>(bytes) else {
            findings.whole("index-unlisted", "`index.json` is no image index");
            return None;
        };
        let mut listed = Vec::new();
        for entry in index.manifests.unwrap_or_default() {
            let Entry::Good(entry) = entry else {
                findings.whole("index-unlisted", "`index.json` lists something that is no descriptor");
                continue;
            };
            let name = entry.annotations.get(REF_NAME).cloned();
            let shown_name = shown_name(name.as_deref());
            if let Some(alias) = entry.annotations.get(CONTAINERD_NAME)
                && Some(alias) != name.as_ref()
            {
                let text =
                    format!("`index.json` gives {shown_name} a second name for containerd: {}", shown(alias));
                findings.content("index-unlisted", &entry.digest, None, text);
            }
            match record.blobs.find(&entry.digest) {
                Some((_, row)) if row.size == entry.size && row.media_type == entry.media_type => {}
                _ => {
                    let text = format!(
                        "`index.json` lists it ({shown_name}) with a type or size that the record does not have"
                    );
                    findings.content("index-unlisted", &entry.digest, None, text);
                }
            }
            listed.push((name, entry.digest));
        }
        let images = record.images.iter().map(|image| {
            let attached = image.attached.iter().map(|entry| {
                let name = entry.tag.as_ref().map(|tag| attached_name(&image.name.name, tag));
                (name, entry.digest.clone())
            });
            std::iter::once((Some(image.name.to_string()), image.root.clone())).chain(attached).collect()
        });
        Some(Self { listed, images: images.collect() })
    }

    /// Compares with what the images need: one that relies on what the far side has must not be listed, or a tool that
    /// knows nothing of deltas would import half of it; every other one must.
    pub(super) fn check(
        &self,
        subject: &Subject,
        closure: &Closure,
        chosen: &[usize],
        findings: &mut Findings,
    ) {
        let reliance = closure.reliance(subject);
        let mut importable = HashSet::new();
        let mut relying = HashSet::new();
        let mut listed: HashSet<&Meaning> = self.listed.iter().collect();
        // The images of the record are the first of the subject's.
        for (at, image) in self.images.iter().enumerate() {
            let [own, ..] = &image[..] else { continue };
            let relies = match chosen.binary_search(&at).is_ok() {
                true => reliance.of(subject, closure, at),
                false => None,
            };
            match relies {
                Some(true) => relying.extend(image),
                Some(false) => {
                    importable.extend(image);
                    if !listed.contains(own) {
                        let text =
                            format!("`index.json` does not list it as {}", shown_name(own.0.as_deref()));
                        findings.content("index-unlisted", &own.1, None, text);
                    }
                }
                // What it needs can't be told, or was not asked: neither is wrong.
                None => {
                    for one in image {
                        listed.remove(one);
                    }
                }
            }
        }
        for one @ (name, digest) in &self.listed {
            if importable.contains(one) || !listed.contains(one) {
                continue;
            }
            let name = shown_name(name.as_deref());
            let text = match relying.contains(one) {
                true => format!(
                    "`index.json` lists it ({name}), and some of what it needs is left out because the far side has it, or rebuilt there"
                ),
                false => format!("`index.json` lists it ({name}) and the record does not"),
            };
            findings.content("index-unlisted", digest, None, text);
        }
    }
}

fn shown_name(name: Option<&str>) -> String {
    shown(name.unwrap_or("without a name"))
}
