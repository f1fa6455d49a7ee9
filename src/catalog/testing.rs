//! Images in memory for the tests of this room.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::{Value, json};

use crate::oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST};
use crate::oci::{Descriptor, Digest};
use crate::store::{Attached, Result, Source, StoreError};

/// Content in memory, found by its digest.
#[derive(Default)]
pub(super) struct Memory {
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Memory {
    pub(super) fn add(&mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::of(media_type, &bytes);
        self.blobs.insert(descriptor.digest.clone(), bytes);
        descriptor
    }

    /// Puts other bytes in the place of what is there.
    pub(super) fn damage(&mut self, digest: &Digest, bytes: Vec<u8>) {
        self.blobs.insert(digest.clone(), bytes);
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        self.blobs.remove(digest);
    }

    /// Adds an image of these layers, with these labels.
    pub(super) fn image(&mut self, labels: &[(&str, &str)], layers: &[Descriptor]) -> Descriptor {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let config = json!({ "os": "linux", "architecture": "amd64", "config": { "Labels": labels } });
        let config = self.add(OCI_CONFIG, config.to_string());
        self.image_of(&config, layers)
    }

    /// Adds a manifest.
    pub(super) fn image_of(&mut self, config: &Descriptor, layers: &[Descriptor]) -> Descriptor {
        let layers: Vec<Value> = layers.iter().map(written).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": written(config), "layers": layers,
        });
        self.add(OCI_MANIFEST, manifest.to_string())
    }

    pub(super) fn index(&mut self, children: &[(&Descriptor, &str)]) -> Descriptor {
        let children: Vec<Value> = children
            .iter()
            .map(|(child, platform)| {
                let mut value = written(child);
                let (os, architecture) = platform.split_once('/').unwrap();
                value["platform"] = json!({ "os": os, "architecture": architecture });
                value
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
        self.add(OCI_INDEX, index.to_string())
    }

    /// Adds a gzip layer with these files.
    pub(super) fn layer(&mut self, files: &[(&str, &[u8])]) -> Descriptor {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            put(&mut tar, name, bytes);
        }
        self.add(OCI_LAYER_GZIP, gzip(&tar.into_inner().unwrap()))
    }
}

/// Adds a file of any name, or a folder if the name ends with a slash.
pub(super) fn put(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let kind = if name.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular };
    link(tar, name, kind, "", bytes);
}

/// Adds an entry of any kind.
pub(super) fn link(
    tar: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    to: &str,
    bytes: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    let fields = header.as_old_mut();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..to.len()].copy_from_slice(to.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn written(descriptor: &Descriptor) -> Value {
    json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size })
}

impl Source for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        Err(StoreError::NotFound { place: self.place(), what: selector.to_owned() })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.blobs
            .get(&descriptor.digest)
            .cloned()
            .ok_or_else(|| StoreError::NotFound { place: self.place(), what: descriptor.digest.to_string() })
    }

    fn attached(&self, _: &Digest) -> Result<Vec<Attached>> {
        Ok(Vec::new())
    }

    fn open_blob(&self, digest: &Digest, _: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let bytes = self
            .blobs
            .get(digest)
            .ok_or_else(|| StoreError::NotFound { place: self.place(), what: digest.to_string() })?;
        let offset = usize::try_from(offset).unwrap().min(bytes.len());
        Ok(Box::new(io::Cursor::new(&bytes[offset..])))
    }
}
