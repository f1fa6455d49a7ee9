//! What is attached to the manifests of a layout.

use std::collections::{BTreeMap, HashMap};

use super::names::is_derived;
use super::{Layout, LayoutFiles};
use crate::oci::{Descriptor, Digest, Manifest, media_type};
use crate::store::{ATTACHED_TAG_SUFFIXES, Attached, Result, StoreError, attached_tag};

/// What the entries of `index.json` are attached to, found out once.
#[derive(Default)]
pub(super) struct Attachments {
    /// Entries whose manifest has a `subject`, by that digest.
    referrers: BTreeMap<Digest, Vec<Descriptor>>,
    /// Entries with a tag derived from a digest, by that tag.
    tagged: HashMap<String, Vec<Descriptor>>,
}

impl Attachments {
    /// Reads the manifests of all entries for their subjects.
    ///
    /// Their bytes are not checked here: a wrong one is found out when what it attaches is read. Entries whose
    /// manifest is missing or can't be read as one have no subject.
    pub(super) fn read<F: LayoutFiles>(layout: &Layout<F>) -> Result<Self> {
        let mut found = Self::default();
        for entry in &layout.listed {
            for tag in entry.tags().filter(|tag| is_derived(tag)) {
                found.tagged.entry(tag).or_default().push(entry.descriptor.clone());
            }
            let descriptor = &entry.descriptor;
            if !descriptor.media_type.is_empty() && !media_type::is_manifest(&descriptor.media_type) {
                continue;
            }
            let bytes = match layout.manifest_bytes(&descriptor.digest) {
                Ok(Some(bytes)) => bytes,
                Ok(None) | Err(StoreError::Manifest { .. }) => continue,
                Err(error) => return Err(error),
            };
            let subject = Manifest::parse(&bytes, &descriptor.media_type)
                .ok()
                .and_then(|manifest| Some(manifest.subject()?.digest.clone()));
            if let Some(subject) = subject {
                found.referrers.entry(subject).or_default().push(descriptor.clone());
            }
        }
        Ok(found)
    }

    /// Lists what is attached to `subject`, each thing once for each way it is attached.
    pub(super) fn of<F: LayoutFiles>(&self, layout: &Layout<F>, subject: &Digest) -> Result<Vec<Attached>> {
        let mut list: Vec<Attached> = Vec::new();
        let mut add = |descriptor: &Descriptor, tag: Option<&str>| {
            // A subject is not attached to itself, whatever a fallback tag points at.
            let known =
                |one: &Attached| one.descriptor.digest == descriptor.digest && one.tag.as_deref() == tag;
            if descriptor.digest != *subject && !list.iter().any(known) {
                list.push(Attached { descriptor: descriptor.clone(), tag: tag.map(str::to_owned) });
            }
        };
        for descriptor in self.referrers.get(subject).into_iter().flatten() {
            add(descriptor, None);
        }
        for index in self.tagged.get(&attached_tag(subject, "")).into_iter().flatten() {
            if index.digest == *subject {
                continue;
            }
            let Some(bytes) = layout.manifest_bytes(&index.digest)? else {
                continue;
            };
            let manifest = Manifest::parse(&bytes, &index.media_type).map_err(|source| {
                StoreError::Manifest { place: layout.files.place(), digest: index.digest.clone(), source }
            })?;
            if let Manifest::Index(index) = manifest {
                for descriptor in &index.manifests {
                    add(descriptor, None);
                }
            }
        }
        for suffix in ATTACHED_TAG_SUFFIXES {
            let tag = attached_tag(subject, suffix);
            for descriptor in self.tagged.get(&tag).into_iter().flatten() {
                add(descriptor, Some(&tag));
            }
        }
        Ok(list)
    }
}
