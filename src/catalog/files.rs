//! The merged file system of an image, read without unpacking it anywhere.
//!
//! Layers are read from the last to the first, each to its end and hashed against its digest, so that nothing is handed
//! out that is not the image's. Whiteouts and opaque folders hide what lies below them (image-spec `layer.md`), hard
//! links are content, symbolic links are followed within the image. What a layer unpacks to is bounded, what all reading
//! of an image comes to, and what is kept of it too.

mod error;
mod layer;
mod merge;
mod open;
mod spent;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::Value;

use crate::oci::{Descriptor, Platform};
use crate::store::body::{Body, Start};
use crate::store::tar::TarFault;
use crate::store::{Source, StoreError};

use self::merge::{Found, Merge};
use self::spent::Spent;

pub use self::error::ImageFilesError;
pub(super) use self::merge::normalised;
pub(super) use self::open::{children, read_config};

/// How many layers are read of an image; builders make up to 127.
const MAX_LAYERS: usize = 512;
/// How many links are followed one after the other.
const MAX_HOPS: usize = 8;
/// How many files that links of a folder lead to, outside it or in a lower layer, are read: each is a reading of layers.
const MAX_FOLLOWED: usize = 64;

/// The file system of one image.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    place: String,
    manifest: Descriptor,
    layers: Vec<Descriptor>,
    config: Value,
    labels: BTreeMap<String, String>,
    spent: Arc<Spent>,
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
        let (descriptor, image) = open::find(source, root, platform, 0)?.ok_or_else(no_runnable)?;
        if !image.is_runnable() {
            return Err(ImageFilesError::NotAnImage { place: source.place(), digest: descriptor.digest });
        }
        let count = image.layers.len();
        if count > MAX_LAYERS {
            let (place, digest) = (source.place(), descriptor.digest);
            return Err(ImageFilesError::TooManyLayers { place, digest, count, limit: MAX_LAYERS });
        }
        let config = read_config(source, &image.config)?;
        let config: Value = serde_json::from_slice(&config).map_err(|error| ImageFilesError::Config {
            place: source.place(),
            digest: image.config.digest.clone(),
            why: error.to_string(),
        })?;
        let labels = config["config"]["Labels"].as_object();
        let labels = labels.into_iter().flatten();
        let labels =
            labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        let (place, layers, spent) = (source.place(), image.layers, Arc::default());
        Ok(Self { place, manifest: descriptor, layers, config, labels, spent })
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
        let mut dir = merge::normalised(dir.as_bytes());
        for _ in 0..MAX_HOPS {
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
                        Found::Content(value, _) => drop(kept.insert(path, value)),
                        Found::Link(target) => links.push((at, target, path)),
                        // It is about what the image has in the end, whichever layer it is in.
                        Found::Symbolic(target) => links.push((self.layers.len() - 1, target, path)),
                    }
                }
                if merge.is_covered() {
                    break;
                }
            }
            if let Some(target) = merge.into_moved() {
                dir = target;
                continue;
            }
            self.follow(source, &dir, links, (left, limit_total), &mut |path, value| {
                let value = take(&path, value);
                kept.insert(path, value);
            })?;
            return Ok(kept);
        }
        Err(self.link(&dir, "it leads on and on, or in a circle"))
    }

    /// Reads what links lead to; each is the number of the uppermost layer that counts, the target and the link. `left` is how
    /// many bytes may be read still, and how many could from the start.
    fn follow(
        &self,
        source: &dyn Source,
        dir: &str,
        mut links: Vec<(usize, String, String)>,
        (mut left, limit): (u64, u64),
        take: &mut dyn FnMut(String, Vec<u8>),
    ) -> Result<(), ImageFilesError> {
        links.sort();
        let targets = links.chunk_by(|one, other| (one.0, &one.1) == (other.0, &other.1));
        let count = targets.clone().count();
        if count > MAX_FOLLOWED {
            let (place, path) = (self.place.clone(), format!("/{dir}"));
            return Err(ImageFilesError::TooManyLinks { place, path, count, limit: MAX_FOLLOWED });
        }
        for links in targets {
            let (at, target, first) = &links[0];
            let path = if dir.is_empty() { first.clone() } else { format!("{dir}/{first}") };
            let mut bytes = Vec::new();
            self.extract_from(source, *at, target, &mut bytes, left).map_err(|error| match error {
                ImageFilesError::NoFile { .. } => {
                    self.link(&path, &format!("the image has no file `/{target}`"))
                }
                ImageFilesError::Link { why, .. } => self.link(&path, &why),
                ImageFilesError::TooLarge { .. } => self.too_large(dir, limit),
                error => error,
            })?;
            for (_, _, path) in links {
                left = left.checked_sub(bytes.len() as u64).ok_or_else(|| self.too_large(dir, limit))?;
                take(path.clone(), bytes.clone());
            }
        }
        Ok(())
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
        for _ in 0..MAX_HOPS {
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
                Some((_, merge::Looked::Symbolic(target))) => wanted = target,
                Some((_, merge::Looked::Gone)) | None => return Err(self.no_file(path)),
            }
        }
        Err(self.link(path, "it leads on and on, or in a circle"))
    }

    fn link(&self, path: &str, why: &str) -> ImageFilesError {
        let path = format!("/{}", path.trim_start_matches('/'));
        ImageFilesError::Link { place: self.place.clone(), path, why: why.to_owned() }
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
        self.spent.check().map_err(|limit| ImageFilesError::TooMuch {
            place: self.place.clone(),
            digest: self.manifest.digest.clone(),
            limit,
        })?;
        let mut unpacked = 0;
        let mut body = Body::new(source, &layer.digest, layer.size, Start::at_zero(&layer.digest));
        let outcome = match layer::unpack(&mut body, layer.size) {
            Ok(mut tar) => {
                let outcome = read(&mut tar);
                unpacked = tar.into_inner().count();
                outcome
            }
            Err(error) => Err(self.of_layer(layer, error)),
        };
        // Bytes that are not the layer's explain whatever went wrong with them before.
        let mut scrap = vec![0; 64 * 1024];
        loop {
            match body.next(&mut scrap) {
                Ok(0) => {
                    self.spent.add(layer, unpacked);
                    return outcome;
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
