//! Manifests for images that come without one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use super::contents::Contents;
use crate::oci::manifest::MAX_MANIFEST_SIZE;
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, media_type};
use crate::store::layout::MAX_ROOT_FILE;
use crate::store::tar::{Compression, FileSlice};
use crate::store::{Result, StoreError};

/// The largest configuration that is read, in bytes: twice what containers/image accepts
/// (`iolimits.MaxConfigBodySize`).
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// A zstd-compressed OCI layer (image-spec `layer.md`).
const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    /// Name of the configuration in the archive.
    pub(super) config: String,
    /// Full names.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) repo_tags: Vec<String>,
    /// Names of the layers in the archive, base first.
    #[serde(default, deserialize_with = "null_is_empty")]
    layers: Vec<String>,
}

/// Reads `null` as an empty list: Go writes it for an image without tags.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Where the content of a digest is.
pub(super) enum Content {
    /// Here: a manifest or a configuration.
    Bytes(Vec<u8>),
    /// In the archive: a layer.
    Stored {
        /// Offset of its first byte in the file.
        offset: u64,
        /// Length in bytes.
        size: u64,
    },
}

/// Reads `manifest.json`, if there is one.
pub(super) fn read_items(
    file: &File,
    contents: &Contents,
    path: &Path,
    place: &str,
) -> Result<Option<Vec<Item>>> {
    if !contents.has("manifest.json") {
        return Ok(None);
    }
    let invalid = |why: String| StoreError::Invalid { place: place.to_owned(), why };
    let (offset, size) = contents.find("manifest.json").map_err(invalid)?;
    if size > MAX_ROOT_FILE {
        return Err(invalid(format!(
            "its `manifest.json` has {size} bytes; at most {MAX_ROOT_FILE} are read"
        )));
    }
    let bytes = read(file, offset, size, path)?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| invalid(format!("its `manifest.json` is malformed: {error}")))
}

/// Makes manifests and keeps what they refer to.
pub(super) struct Maker<'a> {
    file: &'a File,
    names: &'a Contents,
    path: &'a Path,
    place: &'a str,
    contents: HashMap<Digest, Content>,
    made: HashSet<Digest>,
    /// Digests of compressed layers by their offset: layers are shared by images.
    hashed: HashMap<u64, Digest>,
}

/// The manifest as it is written. The order of the fields is that of the specification's examples, and fixed: the
/// digest depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    schema_version: u8,
    media_type: &'static str,
    config: Part,
    layers: Vec<Part>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: &'static str,
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    /// Digests of the uncompressed layers.
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(file: &'a File, names: &'a Contents, path: &'a Path, place: &'a str) -> Self {
        Self {
            file,
            names,
            path,
            place,
            contents: HashMap::new(),
            made: HashSet::new(),
            hashed: HashMap::new(),
        }
    }

    /// Returns whether a manifest is one of those made here.
    pub(super) fn has_made(&self, manifest: &Digest) -> bool {
        self.made.contains(manifest)
    }

    /// Returns all content by digest, and the digests of the made manifests.
    pub(super) fn finish(self) -> (HashMap<Digest, Content>, HashSet<Digest>) {
        (self.contents, self.made)
    }

    /// Makes the manifest of an image and returns its descriptor.
    ///
    /// Its types are OCI's although the content comes from Docker: it will lie in an OCI layout, and there skopeo and
    /// podman find no manifest of another type. The configuration stays as it is, so Docker's own fields are kept.
    pub(super) fn make(&mut self, item: &Item) -> Result<Descriptor> {
        let config = self.config(item)?;
        let diff_ids = serde_json::from_slice::<Config>(&config)
            .map_err(|error| self.invalid(item, format!("its configuration can't be used: {error}")))?
            .rootfs
            .diff_ids
            .unwrap_or_default();
        if diff_ids.len() != item.layers.len() {
            let why = format!(
                "it has {} layers, but its configuration lists {}",
                item.layers.len(),
                diff_ids.len()
            );
            return Err(self.invalid(item, why));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in item.layers.iter().zip(diff_ids) {
            layers.push(self.layer(item, name, diff_id)?);
        }
        let manifest = Made {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            config: Part {
                media_type: media_type::OCI_CONFIG,
                digest: Digest::sha256(&config),
                size: config.len() as u64,
            },
            layers,
        };
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|error| self.invalid(item, format!("no manifest can be made for it: {error}")))?;
        if bytes.len() as u64 > MAX_MANIFEST_SIZE {
            return Err(self.invalid(item, "it has more layers than a manifest can list"));
        }
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        self.contents.insert(manifest.config.digest, Content::Bytes(config));
        self.contents.insert(descriptor.digest.clone(), Content::Bytes(bytes));
        self.made.insert(descriptor.digest.clone());
        Ok(descriptor)
    }

    fn config(&self, item: &Item) -> Result<Vec<u8>> {
        let (offset, size) = self
            .names
            .find(&item.config)
            .map_err(|why| self.invalid(item, format!("its configuration {why}")))?;
        if size > MAX_CONFIG {
            let why = format!("its configuration has {size} bytes; at most {MAX_CONFIG} are read");
            return Err(self.invalid(item, why));
        }
        let bytes = read(self.file, offset, size, self.path)?;
        // The file is named by its digest, which is the image's ID: the one proof this format has.
        let named: Option<Digest> = Digest::from_blob_path(&item.config).or_else(|| {
            let hex = item.config.strip_suffix(".json")?;
            format!("sha256:{hex}").parse().ok()
        });
        match named {
            Some(digest) if !digest.matches(&bytes) => Err(StoreError::Damaged {
                place: self.place.to_owned(),
                why: format!("its bytes hash to {}", digest.same_algorithm_over(&bytes)),
                digest,
            }),
            _ => Ok(bytes),
        }
    }

    fn layer(&mut self, item: &Item, name: &str, diff_id: Digest) -> Result<Part> {
        let (offset, size) =
            self.names.find(name).map_err(|why| self.invalid(item, format!("its layer {why}")))?;
        let first = read(self.file, offset, size.min(16), self.path)?;
        let (media_type, digest) = match Compression::of(&first) {
            // Content that is not its diff ID is found out when it is transferred: the diff ID is the digest.
            None => (media_type::OCI_LAYER, diff_id),
            Some(Compression::Gzip) => (media_type::OCI_LAYER_GZIP, self.hash(offset, size)?),
            Some(Compression::Zstd) => (OCI_LAYER_ZSTD, self.hash(offset, size)?),
            Some(other) => {
                let why = format!(
                    "its layer `{}` is compressed with {}, for which images have no layer type",
                    name.escape_debug(),
                    other.name()
                );
                return Err(self.invalid(item, why));
            }
        };
        self.contents.entry(digest.clone()).or_insert(Content::Stored { offset, size });
        // Where two entries are said to be the same layer, the first is the one that is read.
        let size = match self.contents.get(&digest) {
            Some(Content::Stored { size, .. }) => *size,
            _ => size,
        };
        Ok(Part { media_type, digest, size })
    }

    fn hash(&mut self, offset: u64, size: u64) -> Result<Digest> {
        if let Some(known) = self.hashed.get(&offset) {
            return Ok(known.clone());
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut slice = FileSlice::new(self.file, offset, size, 0);
        let mut piece = vec![0; 256 * 1024];
        loop {
            match slice.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => hasher.update(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(unreadable(self.path, source)),
            }
        }
        let digest = hasher.finish();
        self.hashed.insert(offset, digest.clone());
        Ok(digest)
    }

    fn invalid(&self, item: &Item, why: impl std::fmt::Display) -> StoreError {
        let name = item.repo_tags.first().unwrap_or(&item.config);
        let name: String = name.chars().take(200).collect();
        StoreError::Invalid {
            place: self.place.to_owned(),
            why: format!("image `{}`: {why}", name.escape_debug()),
        }
    }
}

/// Reads a part of the file; the caller has bounded `size`.
fn read(file: &File, offset: u64, size: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    FileSlice::new(file, offset, size, 0)
        .read_to_end(&mut bytes)
        .map_err(|source| unreadable(path, source))?;
    Ok(bytes)
}

fn unreadable(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), action: "could not be read", source }
}
