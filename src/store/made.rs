//! Content that was made here and is held in memory: artifacts written around a file, manifests that were changed.
//!
//! It may lie over another source, which then answers for everything that was not made: so an image of which only a few
//! small parts are new is one source again. Nothing here is large: manifests, configurations, and layers of text.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use super::{Attached, Result, Source, StoreError};
use crate::oci::{Descriptor, Digest};

/// A source of content that was made here.
#[derive(Clone)]
pub struct Made {
    place: String,
    contents: HashMap<Digest, Arc<[u8]>>,
    names: BTreeMap<String, Descriptor>,
    /// By subject, in the order in which it was attached.
    attached: BTreeMap<Digest, Vec<Descriptor>>,
    below: Option<Arc<dyn Source>>,
}

impl Made {
    /// Makes an empty source that goes by the name `place` in messages.
    #[must_use]
    pub fn new(place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            contents: HashMap::new(),
            names: BTreeMap::new(),
            attached: BTreeMap::new(),
            below: None,
        }
    }

    /// Makes an empty source over another, which answers for all that is not made here and gives the place its name.
    #[must_use]
    pub fn over(below: Arc<dyn Source>) -> Self {
        let place = below.place();
        Self { below: Some(below), ..Self::new(place) }
    }

    /// Adds a blob and returns its descriptor.
    pub fn add_blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.contents.insert(descriptor.digest.clone(), bytes.into());
        descriptor
    }

    /// Adds a manifest and returns its descriptor. A manifest is found by its digest; [`Made::name`] gives it a name.
    pub fn add_manifest(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = self.add_blob(media_type, bytes);
        self.names.insert(descriptor.digest.to_string(), descriptor.clone());
        descriptor
    }

    /// Gives a manifest a name, by which it is found before the source below is asked.
    pub fn name(&mut self, selector: impl Into<String>, descriptor: Descriptor) {
        self.names.insert(selector.into(), descriptor);
    }

    /// Attaches a manifest to another, made here or lying below: as a referrer, listed before those of the source below.
    pub fn attach(&mut self, subject: &Digest, descriptor: Descriptor) {
        let list = self.attached.entry(subject.clone()).or_default();
        if list.iter().all(|known| known.digest != descriptor.digest) {
            list.push(descriptor);
        }
    }

    /// Returns the bytes of content that was made here.
    #[must_use]
    pub fn bytes(&self, digest: &Digest) -> Option<&[u8]> {
        self.contents.get(digest).map(AsRef::as_ref)
    }

    fn not_found(&self, what: impl fmt::Display) -> StoreError {
        StoreError::NotFound { place: self.place.clone(), what: what.to_string() }
    }
}

impl Source for Made {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        match (self.names.get(selector), &self.below) {
            (Some(descriptor), _) => Ok(descriptor.clone()),
            (None, Some(below)) => below.resolve(selector),
            (None, None) => Err(self.not_found(format_args!("`{}`", selector.escape_debug()))),
        }
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        match (self.contents.get(&descriptor.digest), &self.below) {
            (Some(bytes), _) => Ok(bytes.to_vec()),
            (None, Some(below)) => below.manifest(descriptor),
            (None, None) => Err(self.not_found(&descriptor.digest)),
        }
    }

    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let mut all: Vec<Attached> = Vec::new();
        for descriptor in self.attached.get(subject).into_iter().flatten() {
            all.push(Attached { descriptor: descriptor.clone(), tag: None });
        }
        // What was made here is not known below, where asking for what is attached to it could cost requests.
        if let Some(below) = &self.below
            && !self.contents.contains_key(subject)
        {
            all.extend(below.attached(subject)?);
        }
        Ok(all)
    }

    fn giver(&self, digest: &Digest) -> String {
        match &self.below {
            Some(below) if !self.contents.contains_key(digest) => below.giver(digest),
            _ => self.place(),
        }
    }

    fn distrust(&self, digest: &Digest, error: &StoreError) -> bool {
        let below = self.below.as_ref().filter(|_| !self.contents.contains_key(digest));
        below.is_some_and(|below| below.distrust(digest, error))
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let bytes = match (self.contents.get(digest), &self.below) {
            (Some(bytes), _) => bytes,
            (None, Some(below)) => return below.open_blob(digest, size, offset),
            (None, None) => return Err(self.not_found(digest)),
        };
        if bytes.len() as u64 != size {
            return Err(StoreError::Damaged {
                place: self.place.clone(),
                digest: digest.clone(),
                why: format!("it has {} bytes where {size} were announced", bytes.len()),
            });
        }
        let start = usize::try_from(offset).map_or(bytes.len(), |start| start.min(bytes.len()));
        Ok(Box::new(&bytes[start..]))
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made")
            .field("place", &self.place)
            .field("contents", &self.contents.len())
            .field("names", &self.names)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type::{OCI_CONFIG, OCI_MANIFEST};
    use crate::store::read_manifest;

    fn text(source: &dyn Source, descriptor: &Descriptor, offset: u64) -> String {
        let mut text = String::new();
        source
            .open_blob(&descriptor.digest, descriptor.size, offset)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn what_was_made_is_found_by_name_and_digest() {
        let mut made = Made::new("chart:./app.tgz");
        let blob = made.add_blob(OCI_CONFIG, b"0123456789".to_vec());
        let manifest = made.add_manifest(OCI_MANIFEST, b"{}".to_vec());
        made.name("v1", manifest.clone());
        assert_eq!(made.place(), "chart:./app.tgz");
        assert_eq!(made.resolve("v1").unwrap(), manifest);
        assert_eq!(made.resolve(&manifest.digest.to_string()).unwrap(), manifest);
        assert_eq!(read_manifest(&made, &manifest).unwrap(), b"{}");
        assert_eq!((text(&made, &blob, 0).as_str(), text(&made, &blob, 7).as_str()), ("0123456789", "789"));
        assert_eq!(text(&made, &blob, 99), "");
        let error = made.open_blob(&blob.digest, 3, 0).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(made.resolve("v2").unwrap_err().is_not_found());
        let absent = Descriptor::of(OCI_MANIFEST, b"absent");
        assert!(made.manifest(&absent).unwrap_err().is_not_found());
        assert!(made.open_blob(&absent.digest, 6, 0).err().unwrap().is_not_found());
        assert!(made.attached(&absent.digest).unwrap().is_empty());
    }

    #[test]
    fn the_source_below_answers_for_the_rest() {
        let mut below = Made::new("registry.example/app");
        let (old, deep) =
            (below.add_manifest(OCI_MANIFEST, b"{ }".to_vec()), below.add_blob(OCI_CONFIG, b"deep".to_vec()));
        below.name("v1", old.clone());
        let signature = below.add_manifest(OCI_MANIFEST, b"{\"a\":1}".to_vec());
        below.attach(&old.digest, signature.clone());
        let mut made = Made::over(Arc::new(below));
        assert_eq!(made.place(), "registry.example/app");
        assert_eq!((made.resolve("v1").unwrap(), text(&made, &deep, 0).as_str()), (old.clone(), "deep"));
        let new = made.add_manifest(OCI_MANIFEST, b"{}".to_vec());
        made.name("v1", new.clone());
        assert_eq!(made.resolve("v1").unwrap(), new, "what was made hides what lies below");
        assert_eq!(made.manifest(&old).unwrap(), b"{ }");
        let more = made.add_manifest(OCI_MANIFEST, b"{\"b\":1}".to_vec());
        made.attach(&old.digest, more.clone());
        made.attach(&old.digest, more.clone());
        let attached: Vec<Digest> = made
            .attached(&old.digest)
            .unwrap()
            .into_iter()
            .map(|attached| attached.descriptor.digest)
            .collect();
        assert_eq!(attached, [more.digest, signature.digest]);
        assert!(made.attached(&new.digest).unwrap().is_empty());
    }
}
