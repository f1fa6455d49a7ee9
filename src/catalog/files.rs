//! The merged file system of an image, read without unpacking it anywhere.
//!
//! Layers are read from the last to the first, each to its end and hashed against its digest, so that nothing is handed
//! out that is not the image's. Whiteouts and opaque folders hide what lies below them (image-spec `layer.md`), hard
//! links are content, symbolic links are not followed. What a layer unpacks to is bounded, and what is kept of it too.

mod layer;
mod merge;

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;

use crate::oci::manifest::{ImageIndex, ImageManifest, Manifest};
use crate::oci::{Descriptor, Digest, Platform};
use crate::store::body::{Body, Start, read_whole};
use crate::store::tar::TarFault;
use crate::store::{Source, StoreError, read_manifest};

use self::merge::{Found, Merge};

/// The largest image config that is read, in bytes; the field's are some kilobytes.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;
/// How many hard links that lead out of a folder, or to a lower layer, are followed: each is a reading of layers.
const MAX_FOLLOWED: usize = 64;

/// The file system of one image.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    place: String,
    manifest: Descriptor,
    layers: Vec<Descriptor>,
    config: Value,
    labels: BTreeMap<String, String>,
}

/// Why an image's files can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageFilesError {
    /// What the place said, content that is not what its digest says among it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An artifact, which has no file system.
    #[error("{digest} in {place} is no image that can run: it has no file system")]
    NotAnImage {
        /// The place.
        place: String,
        /// The manifest.
        digest: Digest,
    },
    /// An index that lists attestations and artifacts only.
    #[error("the index {digest} in {place} lists no image that can run")]
    NoRunnable {
        /// The place.
        place: String,
        /// The index.
        digest: Digest,
    },
    /// A config that can't be used.
    #[error("the config {digest} of the image in {place} can't be used: {why}")]
    Config {
        /// The place.
        place: String,
        /// The config.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that is no tar file.
    #[error("the layer {digest} in {place} can't be read as a tar file")]
    Layer {
        /// The place.
        place: String,
        /// The layer.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        fault: TarFault,
    },
    /// A layer that can't be used although it is what its digest says.
    #[error("the layer {digest} in {place} can't be used: {why}")]
    Unusable {
        /// The place.
        place: String,
        /// The layer.
        digest: Digest,
        /// Why.
        why: String,
    },
    /// More is there than is read.
    #[error("`{path}` of the image in {place} is longer than the {limit} bytes that are read of it")]
    TooLarge {
        /// The place.
        place: String,
        /// The file or folder.
        path: String,
        /// The limit.
        limit: u64,
    },
    /// A file that the image does not have.
    #[error("the image {digest} in {place} has no file `{path}`")]
    NoFile {
        /// The place.
        place: String,
        /// The image's manifest.
        digest: Digest,
        /// The file.
        path: String,
    },
    /// Hard links that lead nowhere, in a circle, or too far.
    #[error("`{path}` of the image in {place} is a hard link that can't be followed")]
    Link {
        /// The place.
        place: String,
        /// The link.
        path: String,
    },
    /// What is read can't be kept.
    #[error("`{path}` can't be written to a working file")]
    Write {
        /// The file in the image.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ImageFiles {
    /// Finds the image that `root` means and reads its config: of an index the child for `platform`, else the first that
    /// can run.
    ///
    /// # Errors
    /// [`ImageFilesError`]: the place can't give it, or it is no image with a file system.
    pub fn open(
        source: &dyn Source,
        root: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<Self, ImageFilesError> {
        let no_runnable =
            || ImageFilesError::NoRunnable { place: source.place(), digest: root.digest.clone() };
        let (descriptor, image) = find(source, root, platform, 0)?.ok_or_else(no_runnable)?;
        if !image.is_runnable() {
            return Err(ImageFilesError::NotAnImage { place: source.place(), digest: descriptor.digest });
        }
        let config = read_config(source, &image.config)?;
        let labels = config["config"]["Labels"].as_object();
        let labels = labels.into_iter().flatten();
        let labels =
            labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        Ok(Self { place: source.place(), manifest: descriptor, layers: image.layers, config, labels })
    }

    /// Returns the labels in the config.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Returns the config as it is.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Returns the image's manifest: of an index, that of the child.
    #[must_use]
    pub fn manifest(&self) -> &Descriptor {
        &self.manifest
    }

    /// Returns the layers, base first.
    #[must_use]
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// Returns the name of the place that the image is read from, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Reads all files below a folder, by their path below it; nothing if there is no such folder.
    ///
    /// # Errors
    /// [`ImageFilesError`], [`ImageFilesError::TooLarge`] if there are more than `limit_total` bytes of them.
    pub fn read_tree(
        &self,
        source: &dyn Source,
        dir: &str,
        limit_total: u64,
    ) -> Result<BTreeMap<String, Vec<u8>>, ImageFilesError> {
        self.collect(source, dir, limit_total, |_, bytes| bytes)
    }

    /// Reads all files below a folder one after the other and keeps what `take` makes of each, by its path below the
    /// folder. Files come in no special order, and one that a later entry of the same layer replaces may come too.
    ///
    /// # Errors
    /// As [`read_tree`](Self::read_tree).
    pub fn collect<T: Clone>(
        &self,
        source: &dyn Source,
        dir: &str,
        limit_total: u64,
        mut take: impl FnMut(&str, Vec<u8>) -> T,
    ) -> Result<BTreeMap<String, T>, ImageFilesError> {
        let dir = merge::normalised(dir.as_bytes());
        let mut merge = Merge::new(&dir);
        let (mut kept, mut left, mut links) = (BTreeMap::new(), limit_total, Vec::new());
        for (at, layer) in self.layers.iter().enumerate().rev() {
            let too_large = || self.too_large(&dir, limit_total);
            let found = self.read_layer(source, layer, |tar| {
                merge
                    .layer(tar, &mut left, &too_large, &mut take)
                    .map_err(|error| self.of_layer(layer, error))
            })?;
            for (path, node) in found {
                match node {
                    Found::Content(value) => drop(kept.insert(path, value)),
                    Found::Link(target) => links.push((at, path, target)),
                }
            }
            if merge.is_covered() {
                break;
            }
        }
        if links.len() > MAX_FOLLOWED {
            return Err(ImageFilesError::Link { place: self.place.clone(), path: links[0].1.clone() });
        }
        for (at, path, target) in links {
            let mut bytes = Vec::new();
            self.extract_from(source, at, &target, &mut bytes, left)?;
            left -= bytes.len() as u64;
            let value = take(&path, bytes);
            kept.insert(path, value);
        }
        Ok(kept)
    }

    /// Writes one file to `to`. What was written before an error is worth nothing.
    ///
    /// # Errors
    /// [`ImageFilesError`], [`ImageFilesError::TooLarge`] if the file has more than `limit` bytes.
    pub fn extract(
        &self,
        source: &dyn Source,
        path: &str,
        to: &mut dyn Write,
        limit: u64,
    ) -> Result<(), ImageFilesError> {
        let Some(last) = self.layers.len().checked_sub(1) else { return Err(self.no_file(path)) };
        self.extract_from(source, last, path, to, limit)
    }

    /// Writes a file as it is when the layers up to number `last` are applied.
    fn extract_from(
        &self,
        source: &dyn Source,
        mut last: usize,
        path: &str,
        to: &mut dyn Write,
        limit: u64,
    ) -> Result<(), ImageFilesError> {
        let mut wanted = merge::normalised(path.as_bytes());
        for _ in 0..MAX_DEPTH {
            let mut found = None;
            for at in (0..=last).rev() {
                let layer = &self.layers[at];
                let too_large = || self.too_large(path, limit);
                let outcome = self.read_layer(source, layer, |tar| {
                    merge::find_file(tar, &wanted, to, limit, &too_large)
                        .map_err(|error| self.of_layer(layer, error))
                })?;
                if let Some(outcome) = outcome {
                    found = Some((at, outcome));
                    break;
                }
            }
            match found {
                Some((_, merge::Looked::Written)) => return Ok(()),
                Some((at, merge::Looked::Link(target))) => (last, wanted) = (at, target),
                Some((_, merge::Looked::Gone)) | None => return Err(self.no_file(path)),
            }
        }
        Err(ImageFilesError::Link { place: self.place.clone(), path: path.to_owned() })
    }

    fn no_file(&self, path: &str) -> ImageFilesError {
        ImageFilesError::NoFile {
            place: self.place.clone(),
            digest: self.manifest.digest.clone(),
            path: path.to_owned(),
        }
    }

    fn too_large(&self, path: &str, limit: u64) -> ImageFilesError {
        ImageFilesError::TooLarge {
            place: self.place.clone(),
            path: format!("/{}", path.trim_start_matches('/')),
            limit,
        }
    }

    /// Says which layer an error is about.
    fn of_layer(&self, layer: &Descriptor, error: merge::MergeError) -> ImageFilesError {
        let (place, digest) = (self.place.clone(), layer.digest.clone());
        match error {
            merge::MergeError::Tar(TarFault::Io { offset, source }) => {
                // What is behind the layer's bytes says best what is wrong with them.
                match source.downcast::<StoreError>().map_err(io::Error::downcast::<layer::TooMuch>) {
                    Ok(error) => error.into(),
                    Err(Ok(bomb)) => ImageFilesError::Unusable { place, digest, why: bomb.to_string() },
                    Err(Err(source)) => {
                        ImageFilesError::Layer { place, digest, fault: TarFault::Io { offset, source } }
                    }
                }
            }
            merge::MergeError::Tar(fault) => ImageFilesError::Layer { place, digest, fault },
            merge::MergeError::Unusable(why) => ImageFilesError::Unusable { place, digest, why },
            merge::MergeError::Other(error) => *error,
        }
    }

    /// Gives a layer's tar file to `read`, and reads the layer to its proven end whatever comes of that.
    fn read_layer<T>(
        &self,
        source: &dyn Source,
        layer: &Descriptor,
        read: impl FnOnce(&mut layer::Tar<'_>) -> Result<T, ImageFilesError>,
    ) -> Result<T, ImageFilesError> {
        let mut body = Body::new(source, &layer.digest, layer.size, Start::at_zero(&layer.digest));
        let outcome = match layer::unpack(&mut body, layer.size) {
            Ok(mut tar) => read(&mut tar),
            Err(error) => Err(self.of_layer(layer, error)),
        };
        // Bytes that are not the layer's explain whatever went wrong with them before.
        let mut scrap = vec![0; 64 * 1024];
        loop {
            match body.next(&mut scrap) {
                Ok(0) => return outcome,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Finds the image that a descriptor means; none for an index without one.
fn find(
    source: &dyn Source,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
    depth: usize,
) -> Result<Option<(Descriptor, ImageManifest)>, ImageFilesError> {
    let bytes = read_manifest(source, descriptor)?;
    let manifest = Manifest::parse(&bytes, &descriptor.media_type).map_err(|error| StoreError::Manifest {
        place: source.place(),
        digest: descriptor.digest.clone(),
        source: error,
    })?;
    let index = match manifest {
        Manifest::Image(image) => return Ok(Some((descriptor.clone(), *image))),
        Manifest::Index(index) => index,
    };
    if depth == MAX_DEPTH {
        return Ok(None);
    }
    let mut missing = None;
    for child in in_order(&index, platform) {
        match find(source, child, platform, depth + 1) {
            Ok(Some((descriptor, image))) if image.is_runnable() => return Ok(Some((descriptor, image))),
            Ok(_) => {}
            // A sparse copy has some of the children only.
            Err(ImageFilesError::Store(error)) if error.is_not_found() => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    missing.map_or(Ok(None), |error| Err(error.into()))
}

/// Lists what may be images, the best for a platform first.
fn in_order<'a>(index: &'a ImageIndex, platform: Option<&Platform>) -> Vec<&'a Descriptor> {
    let is_unknown = |child: &&Descriptor| child.platform.as_ref().is_some_and(Platform::is_unknown);
    let mut children: Vec<&Descriptor> =
        index.manifests.iter().filter(|child| child.attests().is_none() && !is_unknown(child)).collect();
    if let Some(wanted) = platform {
        // The sort is stable: what answers equally well stays in the index's order.
        let rank = |child: &Descriptor| child.platform.as_ref().and_then(|platform| platform.answers(wanted));
        children.sort_by_key(|child| std::cmp::Reverse(rank(child)));
    }
    children
}

/// Reads an image config.
fn read_config(source: &dyn Source, descriptor: &Descriptor) -> Result<Value, ImageFilesError> {
    let unusable = |why: String| ImageFilesError::Config {
        place: source.place(),
        digest: descriptor.digest.clone(),
        why,
    };
    if descriptor.size > MAX_CONFIG {
        return Err(unusable(format!("it has {} bytes, and {MAX_CONFIG} are read", descriptor.size)));
    }
    let bytes = read_whole(source, &descriptor.digest, descriptor.size)?;
    serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests;
