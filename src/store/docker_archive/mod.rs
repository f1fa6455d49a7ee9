//! Docker archives, `docker-archive:FILE`: what `docker save` and its imitators write.
//!
//! Since Docker 25 such a file is an OCI layout with a `manifest.json` beside it, and is read as that layout: its
//! manifests are the image's own. Older ones have no manifests at all, only a list of configurations and uncompressed
//! layers (moby, `image/spec/v1.2.md`, "Combined Image JSON + Filesystem Changeset Format"). For these a manifest is
//! made, the same one whenever the same archive is read; it is not the one the image has at its registry, and
//! [`DockerArchive::is_made`] says so.

mod contents;
mod made;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use self::contents::Contents;
use self::made::{Content, Maker};
use super::layout::{
    Found, LayoutArchive, LayoutFiles, Listed, Named, ambiguous, digest_in, find, open_archive, quoted,
};
use super::tar::FileSlice;
use super::{Attached, Result, Source, StoreError};
use crate::oci::{Descriptor, Digest, Manifest};

/// A docker archive.
pub struct DockerArchive {
    path: PathBuf,
    file: File,
    layout: Option<LayoutArchive>,
    /// Everything that has a name or a place in `index.json` or `manifest.json`.
    listed: Vec<Listed>,
    /// What each entry of `manifest.json` means.
    images: Vec<Descriptor>,
    /// Made manifests, and the configurations and layers they refer to.
    contents: HashMap<Digest, Content>,
    made: HashSet<Digest>,
}

impl DockerArchive {
    /// Opens a docker archive.
    ///
    /// Layers that are compressed inside are read here once, for their digests.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the file can't be read; [`StoreError::Invalid`] if it is compressed, cut off or damaged,
    /// is no docker archive, or has an image whose parts are missing or don't fit together.
    pub fn open(path: &Path) -> Result<Self> {
        let place = place_of(path);
        let (file, length) = open_archive(path, &place)?;
        let contents = Contents::scan(&file, length, path, &place)?;
        let layout = if contents.has("oci-layout") && contents.has("index.json") {
            Some(LayoutArchive::open(path)?)
        } else {
            None
        };
        let items = made::read_items(&file, &contents, path, &place)?;
        if items.is_none() && layout.is_none() {
            let why = if contents.has("repositories") {
                "it was written by a Docker older than 1.10, without `manifest.json`; load and save it again with a \
                 current one"
            } else {
                "it is no docker archive: the file `manifest.json` is missing"
            };
            return Err(StoreError::Invalid { place, why: why.to_owned() });
        }
        let mut listed = match &layout {
            Some(layout) => usable(layout)?,
            None => Vec::new(),
        };
        let mut maker = Maker::new(&file, &contents, path, &place);
        let mut configs = None;
        let mut images = Vec::new();
        for item in items.unwrap_or_default() {
            if let Some(layout) = &layout {
                let named = item.repo_tags.iter().find_map(|tag| match find(&listed, tag) {
                    Found::One(descriptor) => Some(descriptor.clone()),
                    Found::None | Found::Many(_) => None,
                });
                if let Some(descriptor) = named {
                    images.push(descriptor);
                    continue;
                }
                if configs.is_none() {
                    configs = Some(by_config(layout, &listed)?);
                }
            }
            let config = Digest::from_blob_path(&item.config);
            let known = config.and_then(|config| configs.as_ref()?.get(&config).cloned());
            let descriptor = match known {
                Some(descriptor) => descriptor,
                None => maker.make(&item)?,
            };
            images.push(descriptor.clone());
            if item.repo_tags.is_empty() && maker.has_made(&descriptor.digest) {
                listed.push(Listed { names: Vec::new(), descriptor: descriptor.clone() });
            }
            listed.extend(
                item.repo_tags
                    .into_iter()
                    .map(|tag| Listed { names: vec![tag], descriptor: descriptor.clone() }),
            );
        }
        let (contents, made) = maker.finish();
        Ok(Self { path: path.to_owned(), file, layout, listed, images, contents, made })
    }

    /// Lists the images: those of `index.json`, then those that only `manifest.json` lists, in their orders.
    ///
    /// An image with several tags is listed once for each.
    ///
    /// # Errors
    /// None today: the lists were read when the archive was opened.
    pub fn names(&self) -> Result<Vec<Named>> {
        Ok(self.listed.iter().map(Listed::named).collect())
    }

    /// Returns whether a manifest was made by this program, because the archive has none for the image.
    #[must_use]
    pub fn is_made(&self, manifest: &Digest) -> bool {
        self.made.contains(manifest)
    }

    fn not_found(&self, what: String) -> StoreError {
        StoreError::NotFound { place: self.place(), what }
    }
}

impl Source for DockerArchive {
    fn place(&self) -> String {
        place_of(&self.path)
    }

    /// A selector is a digest, `@` and the image's place in `manifest.json` counted from 0, one of its `RepoTags`, a
    /// reference that means the same, or the tag alone. An empty one means the only image there is.
    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        if let Some(place) = selector.strip_prefix('@').and_then(|place| place.parse::<usize>().ok()) {
            return self
                .images
                .get(place)
                .cloned()
                .ok_or_else(|| self.not_found(format!("image {place} (it has {})", self.images.len())));
        }
        if let Some(digest) = digest_in(selector) {
            if let Some(entry) = self.listed.iter().find(|entry| entry.descriptor.digest == digest) {
                return Ok(entry.descriptor.clone());
            }
            return match &self.layout {
                Some(layout) => layout.resolve(&digest.to_string()),
                None => Err(self.not_found(digest.to_string())),
            };
        }
        match find(&self.listed, selector) {
            Found::One(descriptor) => Ok(descriptor.clone()),
            Found::None => Err(self.not_found(quoted(selector))),
            Found::Many(digests) => Err(ambiguous(self.place(), selector, &digests)),
        }
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        match (self.contents.get(&descriptor.digest), &self.layout) {
            (Some(Content::Bytes(bytes)), _) => Ok(bytes.clone()),
            (_, Some(layout)) => layout.manifest(descriptor),
            (_, None) => Err(self.not_found(descriptor.digest.to_string())),
        }
    }

    /// Only a layout inside has something attached: the older form has no place for it.
    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.layout.as_ref().map_or_else(|| Ok(Vec::new()), |layout| layout.attached(subject))
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (found, reader): (u64, Box<dyn Read + Send>) = match (self.contents.get(digest), &self.layout) {
            (Some(Content::Bytes(bytes)), _) => {
                let start = usize::try_from(offset).map_or(bytes.len(), |start| start.min(bytes.len()));
                (bytes.len() as u64, Box::new(&bytes[start..]))
            }
            (Some(Content::Stored { offset: start, size }), _) => {
                (*size, Box::new(FileSlice::new(&self.file, *start, *size, offset)))
            }
            (None, Some(layout)) => return layout.open_blob(digest, size, offset),
            (None, None) => return Err(self.not_found(digest.to_string())),
        };
        if found != size {
            return Err(StoreError::Damaged {
                place: self.place(),
                digest: digest.clone(),
                why: format!("it has {found} bytes where {size} were announced"),
            });
        }
        Ok(reader)
    }
}

/// Lists the entries of the layout whose manifests are there; containerd's image store saves some without.
fn usable(layout: &LayoutArchive) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for named in layout.names()? {
        if layout.files().blob_size(&named.descriptor.digest)?.is_some() {
            listed.push(Listed::from_annotations(named.descriptor));
        }
    }
    Ok(listed)
}

/// Finds the image manifests that the layout lists, by their configurations.
fn by_config(layout: &LayoutArchive, listed: &[Listed]) -> Result<HashMap<Digest, Descriptor>> {
    let mut found = HashMap::new();
    for Listed { descriptor, .. } in listed {
        let bytes = match layout.manifest(descriptor) {
            Ok(bytes) => bytes,
            // Other blobs may be listed too.
            Err(StoreError::Manifest { .. }) => continue,
            Err(error) => return Err(error),
        };
        if let Ok(Manifest::Image(image)) = Manifest::parse(&bytes, &descriptor.media_type) {
            found.entry(image.config.digest).or_insert_with(|| descriptor.clone());
        }
    }
    Ok(found)
}

fn place_of(path: &Path) -> String {
    format!("docker-archive:{}", path.display())
}

#[cfg(test)]
mod tests;
