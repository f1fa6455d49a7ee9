//! Images, indexes and artifacts made by code: fixed times and seeds, so the same call makes the same bytes.
//!
//! Manifests are written indented, so that code which parses and writes them again cannot pass unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use barge::oci::media_type::{
    self, DOCKER_CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_LAYER,
    OCI_LAYER_GZIP, OCI_MANIFEST,
};
use barge::oci::{Algorithm, Descriptor, Digest, Hasher, Platform};
use barge::store::attached_tag;
use serde_json::{Value, json};

use super::tarball::{TarFormat, TarWriter};

/// Docker's gzip-compressed layer.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's uncompressed layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's foreign (non-distributable) layer.
pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// The layer of a cosign signature.
pub const COSIGN_PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The time written into configs.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// A piece of content, not yet part of a [`Content`].
#[derive(Debug, Clone)]
pub struct Blob {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What they are.
    pub media_type: String,
    /// For a layer: the digest of its uncompressed tar.
    pub diff_id: Digest,
}

impl Blob {
    /// Makes a blob that is no compressed layer.
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        Self { diff_id: digest.clone(), digest, media_type: media_type.to_owned(), bytes }
    }

    /// The same bytes under another media type.
    pub fn typed(mut self, media_type: &str) -> Self {
        media_type.clone_into(&mut self.media_type);
        self
    }

    /// The same bytes named by their SHA-512 digest.
    pub fn by_sha512(mut self) -> Self {
        self.digest = sha512(&self.bytes);
        self
    }

    /// The descriptor of the blob.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.bytes.len() as u64)
    }
}

/// The SHA-512 digest of some bytes.
pub fn sha512(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

/// `size` pseudo-random bytes (`SplitMix64`), the same for the same seed for ever.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A gzip-compressed layer: a tar with two files of noise, `size` bytes together.
pub fn layer(seed: u64, size: usize) -> Blob {
    gzip_layer(&noise_tar(seed, size))
}

/// The same layer uncompressed.
pub fn plain_layer(seed: u64, size: usize) -> Blob {
    Blob::new(OCI_LAYER, noise_tar(seed, size))
}

/// A gzip-compressed layer that holds these files.
pub fn layer_of(files: &[(&str, &[u8])]) -> Blob {
    gzip_layer(&tar_of(files))
}

/// A tar with these files, mode 0644, owner 0, time 0.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new(), TarFormat::Ustar);
    for (name, bytes) in files {
        tar.file(name, bytes);
    }
    tar.finish()
}

fn noise_tar(seed: u64, size: usize) -> Vec<u8> {
    let first = noise(seed, size - size / 3);
    let second = noise(!seed, size / 3);
    tar_of(&[(&format!("srv/{seed}/large.bin"), &first), (&format!("srv/{seed}/small.bin"), &second)])
}

fn gzip_layer(tar: &[u8]) -> Blob {
    let mut blob = Blob::new(OCI_LAYER_GZIP, gzip(tar));
    blob.diff_id = Digest::sha256(tar);
    blob
}

/// Compresses with a header that names no file and no time.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Undoes [`gzip`]; bytes that are not gzip come back as they are.
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// An image config for a platform (`linux/arm/v7`) over these layers.
pub fn config(platform: &str, diff_ids: &[Digest]) -> Blob {
    let mut document = platform_json(platform);
    document["created"] = json!(CREATED);
    document["config"] = json!({ "Cmd": ["/bin/true"] });
    document["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    document["history"] = diff_ids
        .iter()
        .map(|id| json!({ "created": CREATED, "created_by": format!("made {}", id.short()) }))
        .collect();
    Blob::new(OCI_CONFIG, serde_json::to_vec(&document).unwrap())
}

/// The platform object of `os/architecture[/variant]`, as written there (nothing is normalised).
fn platform_json(platform: &str) -> Value {
    let mut parts = platform.splitn(3, '/');
    let mut object = json!({ "os": parts.next().unwrap(), "architecture": parts.next().unwrap() });
    if let Some(variant) = parts.next() {
        object["variant"] = json!(variant);
    }
    object
}

/// A descriptor as JSON; what is empty is left out.
pub fn descriptor_json(descriptor: &Descriptor) -> Value {
    let mut value = json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    });
    if let Some(platform) = &descriptor.platform {
        value["platform"] = json!(platform);
    }
    if !descriptor.annotations.is_empty() {
        value["annotations"] = json!(descriptor.annotations);
    }
    if let Some(artifact_type) = &descriptor.artifact_type {
        value["artifactType"] = json!(artifact_type);
    }
    if let Some(data) = &descriptor.data {
        value["data"] = json!(data);
    }
    if !descriptor.urls.is_empty() {
        value["urls"] = json!(descriptor.urls);
    }
    value
}

/// The two families of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// The image specification's.
    Oci,
    /// Docker's.
    Docker,
}

/// Blobs and manifests in memory.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// Everything, manifests too.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// The media types of those that are manifests.
    pub manifests: BTreeMap<Digest, String>,
}

impl Content {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a blob.
    pub fn blob(&mut self, blob: &Blob) -> Descriptor {
        self.blobs.insert(blob.digest.clone(), blob.bytes.clone());
        blob.descriptor()
    }

    /// Adds a manifest.
    pub fn manifest(&mut self, media_type: &str, document: &Value) -> Descriptor {
        self.manifest_bytes(media_type, serde_json::to_vec_pretty(document).unwrap())
    }

    /// Adds a manifest of exactly these bytes.
    pub fn manifest_bytes(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.manifests.insert(descriptor.digest.clone(), media_type.to_owned());
        self.blobs.insert(descriptor.digest.clone(), bytes);
        descriptor
    }

    /// Adds bytes under a digest they need not have: damaged content, or an index that lists itself.
    pub fn lie(&mut self, digest: &Digest, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        if media_type::is_manifest(media_type) {
            self.manifests.insert(digest.clone(), media_type.to_owned());
        }
        let size = bytes.len() as u64;
        self.blobs.insert(digest.clone(), bytes);
        Descriptor::new(media_type, digest.clone(), size)
    }

    /// Names a manifest that is here by its SHA-512 digest too, and returns that descriptor.
    pub fn manifest_by_sha512(&mut self, descriptor: &Descriptor) -> Descriptor {
        let bytes = self.blobs[&descriptor.digest].clone();
        let mut renamed = descriptor.clone();
        renamed.digest = sha512(&bytes);
        self.manifests.insert(renamed.digest.clone(), descriptor.media_type.clone());
        self.blobs.insert(renamed.digest.clone(), bytes);
        renamed
    }

    /// Adds an OCI image; its descriptor says the platform.
    pub fn image(&mut self, platform: &str, layers: &[Blob]) -> Descriptor {
        self.image_as(Flavor::Oci, platform, layers)
    }

    /// Adds an image with Docker's media types.
    pub fn docker_image(&mut self, platform: &str, layers: &[Blob]) -> Descriptor {
        self.image_as(Flavor::Docker, platform, layers)
    }

    /// Adds an image of either flavor. Docker's changes the types of OCI gzip and plain layers, no others.
    pub fn image_as(&mut self, flavor: Flavor, platform: &str, layers: &[Blob]) -> Descriptor {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let mut config = config(platform, &diff_ids);
        let media_type = match flavor {
            Flavor::Oci => OCI_MANIFEST,
            Flavor::Docker => {
                config = config.typed(DOCKER_CONFIG);
                DOCKER_MANIFEST
            }
        };
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let mut descriptor = self.blob(layer);
                if flavor == Flavor::Docker {
                    match descriptor.media_type.as_str() {
                        OCI_LAYER_GZIP => DOCKER_LAYER_GZIP.clone_into(&mut descriptor.media_type),
                        OCI_LAYER => DOCKER_LAYER.clone_into(&mut descriptor.media_type),
                        _ => {}
                    }
                }
                descriptor_json(&descriptor)
            })
            .collect();
        let config = descriptor_json(&self.blob(&config));
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config,
            "layers": layers,
        });
        let mut descriptor = self.manifest(media_type, &document);
        descriptor.platform = Some(platform.parse::<Platform>().unwrap());
        descriptor
    }

    /// Adds an OCI image index of these children, which may be anything and need not be here.
    pub fn index(&mut self, children: &[Descriptor]) -> Descriptor {
        self.index_as(Flavor::Oci, children)
    }

    /// Adds an index of Docker's type.
    pub fn docker_index(&mut self, children: &[Descriptor]) -> Descriptor {
        self.index_as(Flavor::Docker, children)
    }

    /// Adds an index of either flavor.
    pub fn index_as(&mut self, flavor: Flavor, children: &[Descriptor]) -> Descriptor {
        let media_type = match flavor {
            Flavor::Oci => OCI_INDEX,
            Flavor::Docker => DOCKER_INDEX,
        };
        let children: Vec<Value> = children.iter().map(descriptor_json).collect();
        let document = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children });
        self.manifest(media_type, &document)
    }

    /// Adds the attestation that buildx writes for a child of an index, to be listed after it.
    pub fn attestation(&mut self, child: &Descriptor) -> Descriptor {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{ "name": "demo", "digest": { "sha256": child.digest.hex() } }],
            "predicate": { "builder": { "id": "" } },
        });
        let statement = Blob::new("application/vnd.in-toto+json", serde_json::to_vec(&statement).unwrap());
        let mut layer = descriptor_json(&self.blob(&statement));
        layer["annotations"] = json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" });
        let config = descriptor_json(&self.blob(&config("unknown/unknown", &[statement.digest])));
        let document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": [layer],
        });
        let mut descriptor = self.manifest(OCI_MANIFEST, &document);
        descriptor.platform = Some(Platform::new("unknown", "unknown", ""));
        descriptor.annotations = BTreeMap::from([
            ("vnd.docker.reference.digest".to_owned(), child.digest.to_string()),
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ]);
        descriptor
    }

    /// Adds an artifact attached to `subject` by its `subject` field, with OCI's empty config.
    pub fn artifact(&mut self, subject: &Descriptor, artifact_type: &str, payload: &[u8]) -> Descriptor {
        let empty = descriptor_json(&self.blob(&Blob::new(OCI_EMPTY, "{}")));
        let payload = descriptor_json(&self.blob(&Blob::new("application/octet-stream", payload)));
        let subject = Descriptor::new(subject.media_type.clone(), subject.digest.clone(), subject.size);
        let document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": empty,
            "layers": [payload],
            "subject": descriptor_json(&subject),
            "annotations": { "org.opencontainers.image.created": CREATED },
        });
        let mut descriptor = self.manifest(OCI_MANIFEST, &document);
        descriptor.artifact_type = Some(artifact_type.to_owned());
        descriptor
    }

    /// Adds a fallback referrers index over these referrers; the tag it belongs under comes with it.
    pub fn referrers_index(&mut self, subject: &Digest, referrers: &[Descriptor]) -> (String, Descriptor) {
        (attached_tag(subject, ""), self.index(referrers))
    }

    /// Adds a signature as cosign stores it; the tag it belongs under (`sha256-<hex>.sig`) comes with it.
    pub fn signature(&mut self, subject: &Digest, repository: &str) -> (String, Descriptor) {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": repository },
                "image": { "docker-manifest-digest": subject },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = Blob::new(COSIGN_PAYLOAD, serde_json::to_vec(&payload).unwrap());
        let mut layer = descriptor_json(&self.blob(&payload));
        layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": "bm90IGEgc2lnbmF0dXJl" });
        let config = json!({
            "architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [payload.digest] },
        });
        let config = Blob::new(OCI_CONFIG, serde_json::to_vec(&config).unwrap());
        let document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor_json(&self.blob(&config)),
            "layers": [layer],
        });
        (attached_tag(subject, ".sig"), self.manifest(OCI_MANIFEST, &document))
    }

    /// Adds an image whose base is a foreign layer at `url`; `present` says whether its bytes are here too.
    pub fn foreign_image(&mut self, foreign: &Blob, url: &str, present: bool, own: &Blob) -> Descriptor {
        let config = config("windows/amd64", &[foreign.diff_id.clone(), own.diff_id.clone()]);
        let mut base = foreign.clone().typed(DOCKER_FOREIGN_LAYER).descriptor();
        base.urls = vec![url.to_owned()];
        if present {
            self.blob(foreign);
        }
        let own = own.clone().typed(DOCKER_LAYER_GZIP);
        let document = json!({
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": descriptor_json(&self.blob(&config.typed(DOCKER_CONFIG))),
            "layers": [descriptor_json(&base), descriptor_json(&self.blob(&own))],
        });
        let mut descriptor = self.manifest(DOCKER_MANIFEST, &document);
        descriptor.platform = Some(Platform::new("windows", "amd64", ""));
        descriptor
    }

    /// Adds an artifact whose `layers` is `null`, as Go encoders write an empty list.
    pub fn null_layers(&mut self) -> Descriptor {
        let config = descriptor_json(&self.blob(&Blob::new("application/vnd.example+json", "{}")));
        let document = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": null,
        });
        self.manifest(OCI_MANIFEST, &document)
    }

    /// Adds an unsigned schema 1 manifest.
    pub fn schema1(&mut self, layer: &Blob) -> Descriptor {
        self.blob(layer);
        let document = json!({
            "schemaVersion": 1, "name": "demo/old", "tag": "v1", "architecture": "amd64",
            "fsLayers": [{ "blobSum": layer.digest }],
            "history": [{ "v1Compatibility": "{\"id\":\"0\"}" }],
        });
        self.manifest(media_type::DOCKER_SCHEMA1, &document)
    }

    /// The whole of `root`, children before parents, each once; what is not here is left out, subjects too.
    pub fn closure(&self, root: &Descriptor) -> Vec<Descriptor> {
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        self.walk(root, &mut seen, &mut found);
        found
    }

    fn walk(&self, descriptor: &Descriptor, seen: &mut BTreeSet<Digest>, found: &mut Vec<Descriptor>) {
        let Some(bytes) = self.blobs.get(&descriptor.digest) else {
            return;
        };
        if !seen.insert(descriptor.digest.clone()) {
            return;
        }
        if self.manifests.contains_key(&descriptor.digest) {
            let document: Value = serde_json::from_slice(bytes).unwrap();
            for child in children(&document) {
                self.walk(&child, seen, found);
            }
        }
        found.push(descriptor.clone());
    }
}

/// The config, layers and children that a manifest's JSON lists.
pub fn children(document: &Value) -> Vec<Descriptor> {
    let lists = ["layers", "manifests"].into_iter();
    let listed = lists.filter_map(|name| document[name].as_array()).flatten();
    let schema1 = document["fsLayers"].as_array().into_iter().flatten();
    document
        .get("config")
        .into_iter()
        .chain(listed)
        .map(|child| serde_json::from_value(child.clone()).unwrap())
        .chain(schema1.map(|layer| {
            let digest = layer["blobSum"].as_str().unwrap().parse().unwrap();
            Descriptor::new(DOCKER_LAYER_GZIP, digest, 0)
        }))
        .collect()
}
