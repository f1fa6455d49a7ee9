//! The head of an archive: everything before the first blob, known before the first blob is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, BufWriter, Write};

use oci_spec::image::{DescriptorBuilder, ImageIndexBuilder, MediaType, OciLayoutBuilder};

use super::patches::{ContentRow, FEATURE, PatchRow, PatchTable};
use super::record::{
    AttachedEntry, BaseRecord, FORMAT_VERSION, FailedEntry, ImageEntry, RECORD_PATH, RECORD_TYPE, Record,
};
use super::table::{AbsentRow, AbsentTable, BlobRow, BlobTable, Role, TableError};
use crate::delta::patch::MEDIA_TYPE;
use crate::graph::{Change, Graph, Image, Kind, NodeId, Presence};
use crate::oci::{Digest, Reference, RepositoryName};
use crate::select::Reason;
use crate::store::archive::{ArchiveFile, BLOCK, entry_length, header, header_length, padded};
use crate::store::{Result, StoreError};

/// Path of the file that makes a folder or archive an OCI layout.
pub const LAYOUT_PATH: &str = "oci-layout";
/// Path of the layout's index.
pub const INDEX_PATH: &str = "index.json";
/// Path of the file by which `docker load` finds images.
pub const DOCKER_MANIFEST_PATH: &str = "manifest.json";
/// Path of the entry that fills the place of a head that shrank.
pub const PAD_PATH: &str = ".barge-pad";
/// Folder of the entries that keep the places of content that could not be had.
pub const GAP_PREFIX: &str = ".barge-gap/";

/// Annotation by which a layout names its manifests (image-spec `annotations.md`).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation by which containerd names the images it imports.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The head, composed and not yet written.
#[derive(Debug)]
pub struct Head {
    /// The record.
    pub record: Record,
    /// The bundle ID: digest of the record's bytes.
    pub id: Digest,
    /// Length of the record's bytes.
    pub record_size: u64,
    /// Bytes of `index.json`.
    pub index: Vec<u8>,
    /// Bytes of `manifest.json`, where an image can be loaded by it.
    pub docker_manifest: Option<Vec<u8>>,
    /// Length of everything after the head and before the trailer's header, in bytes.
    pub body_length: u64,
}

/// Why a head can't be composed.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The content does not fit in a table.
    #[error("the bundle's table can't be made")]
    Table(#[from] TableError),
    /// A document could not be written; a defect, since all its values were checked before.
    #[error("the bundle's index can't be made")]
    Document(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Returns the bytes of `oci-layout`.
///
/// # Panics
/// Never: every field is given.
#[must_use]
pub fn layout_file() -> Vec<u8> {
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build();
    serde_json::to_vec(&layout.expect("every field is given")).expect("plain text")
}

impl Head {
    /// Composes the head for content in the given order of the file.
    ///
    /// `gaps` holds the places in `order` of content that could not be had: the images that need it are listed as
    /// failed. `unresolved` are names that never became part of the graph.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn compose(
        graph: &Graph,
        order: &[NodeId],
        gaps: &HashSet<usize>,
        unresolved: &[Reference],
    ) -> std::result::Result<Self, HeadError> {
        let missing: HashSet<NodeId> = gaps.iter().map(|at| order[*at]).collect();
        let (mut whole, mut failed) = (Vec::new(), Vec::new());
        for image in &graph.images {
            if missing.is_empty()
                || !graph.with_support(graph.image_closure(image)).iter().any(|id| missing.contains(id))
            {
                whole.push(image);
            } else {
                failed.push(FailedEntry {
                    name: image.name.clone(),
                    root: Some(graph.digest(image.root).clone()),
                });
            }
        }
        failed.extend(unresolved.iter().map(|name| FailedEntry { name: name.clone(), root: None }));
        failed.sort_by_cached_key(|entry| entry.name.to_string());

        let mut at = 0;
        let rows = order.iter().enumerate().map(|(place, id)| {
            let (digest, size, _) = graph.travelling(*id);
            let path = digest.blob_path();
            let offset = at + header_length(&path, size);
            at += entry_length(&path, size);
            let (role, media_type) = match graph.node(*id).presence {
                Presence::Patched => (Role::Patch, MEDIA_TYPE),
                _ if graph.is_support(*id) => (Role::Base, graph.media_type(*id)),
                presence => (role(graph.node(*id).kind, presence), graph.media_type(*id)),
            };
            let role = if gaps.contains(&place) { Role::Gap } else { role };
            BlobRow { digest: digest.clone(), media_type: media_type.to_owned(), offset, role, size }
        });
        let blobs = BlobTable::new(rows)?;
        let body_length = at;
        // A tool that knows nothing of deltas must find nothing to import, never half an image.
        let is_relied_on = |id: &NodeId| {
            matches!(graph.node(*id).presence, Presence::Absent(Reason::Base) | Presence::Patched)
        };
        let importable: Vec<&Image> = whole
            .iter()
            .filter(|image| !graph.image_closure(image).iter().any(is_relied_on))
            .copied()
            .collect();
        let index = index(graph, &importable)?;
        let docker_manifest = docker_manifest(graph, &whole)?;
        let patches = patches(graph);
        let record = Record {
            absent: absent(graph)?,
            base: graph.reliance.as_ref().map(|reliance| {
                Box::new(BaseRecord {
                    bases: reliance.bases.clone(),
                    content: far_content(&reliance.content),
                    removed: reliance.removed.clone(),
                    repositories: reliance.repositories.clone(),
                })
            }),
            blobs,
            digest_map: {
                let is_whole = |change: &&Change| whole.iter().any(|image| image.name == change.image);
                graph.changed.iter().filter(is_whole).cloned().collect()
            },
            docker_manifest: docker_manifest.as_deref().map(Digest::sha256),
            failed,
            format_version: FORMAT_VERSION.to_owned(),
            images: whole.iter().map(|image| image_entry(graph, image)).collect(),
            index: Digest::sha256(&index),
            media_type: RECORD_TYPE.to_owned(),
            requires: if patches.is_empty() { Vec::new() } else { vec![FEATURE.to_owned()] },
            patches,
        };
        let (id, record_size) = record.id();
        Ok(Self { record, id, record_size, index, docker_manifest, body_length })
    }

    /// Returns the head's length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        let docker = self.docker_manifest.as_ref();
        entry_length(LAYOUT_PATH, layout_file().len() as u64)
            + entry_length(INDEX_PATH, self.index.len() as u64)
            + entry_length(RECORD_PATH, self.record_size)
            + docker.map_or(0, |bytes| entry_length(DOCKER_MANIFEST_PATH, bytes.len() as u64))
    }

    /// Writes the head at the start of an archive, filling up to `reserved` bytes, the length of the head that was
    /// planned first.
    ///
    /// # Errors
    /// [`StoreError::Io`], or [`StoreError::Invalid`] if the head is longer than `reserved`.
    pub fn write(&self, archive: &ArchiveFile, reserved: u64) -> Result<()> {
        let length = self.length();
        if length > reserved {
            let why = format!("its head has {length} bytes where {reserved} were planned");
            return Err(StoreError::Invalid { place: "the archive".to_owned(), why });
        }
        let mut out = BufWriter::with_capacity(256 * 1024, At { archive, offset: 0 });
        let written = self.write_entries(&mut out, reserved - length).and_then(|()| out.flush());
        // The sink's own errors say more than the wrapped ones.
        written.map_err(|error| match error.downcast::<StoreError>() {
            Ok(error) => error,
            Err(source) => {
                StoreError::Io { path: "the archive".into(), action: "could not be written", source }
            }
        })
    }

    fn write_entries(&self, out: &mut impl Write, rest: u64) -> io::Result<()> {
        write_entry(out, LAYOUT_PATH, &layout_file())?;
        write_entry(out, INDEX_PATH, &self.index)?;
        out.write_all(&header(RECORD_PATH, self.record_size))?;
        self.record.write(&mut *out)?;
        write_zeros(out, padded(self.record_size) - self.record_size)?;
        if let Some(bytes) = &self.docker_manifest {
            write_entry(out, DOCKER_MANIFEST_PATH, bytes)?;
        }
        if rest > 0 {
            // Lengths are whole blocks, so there is room for the header of the pad whenever there is room at all.
            out.write_all(&header(PAD_PATH, rest - BLOCK))?;
            write_zeros(out, rest - BLOCK)?;
        }
        Ok(())
    }
}

fn write_entry(out: &mut impl Write, path: &str, content: &[u8]) -> io::Result<()> {
    let size = content.len() as u64;
    out.write_all(&header(path, size))?;
    out.write_all(content)?;
    write_zeros(out, padded(size) - size)
}

fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), out).map(|_| ())
}

/// Writes one piece after another into an archive.
struct At<'a> {
    archive: &'a ArchiveFile,
    offset: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.archive.write_at(bytes, self.offset).map_err(io::Error::other)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn role(kind: Kind, presence: Presence) -> Role {
    match kind {
        _ if presence == Presence::Unshipped => Role::Unshipped,
        Kind::Index => Role::Index,
        Kind::Manifest => Role::Manifest,
        Kind::Config => Role::Config,
        Kind::Layer => Role::Layer,
        Kind::Opaque => Role::Opaque,
    }
}

fn image_entry(graph: &Graph, image: &Image) -> ImageEntry {
    let attached = image.attached.iter().map(|attachment| AttachedEntry {
        digest: graph.digest(attachment.node).clone(),
        subject: graph.digest(attachment.subject).clone(),
        tag: attachment.tag.clone(),
    });
    let root = graph.digest(image.root);
    // What a reference meant stays true of an image that was changed since, here or where it was packed before.
    let is_root = |change: &&Change| change.image == image.name && change.new == *root;
    let old = graph.changed.iter().find(is_root).map_or(root, |change| &change.old);
    let meant = |reference: Reference| Reference {
        digest: Some(reference.digest.clone().unwrap_or_else(|| old.clone())),
        ..reference
    };
    ImageEntry {
        attached: attached.collect(),
        name: image.name.clone(),
        part: image.part,
        platforms: graph.image_platforms(image).0,
        reference: image.reference.clone().map(meant),
        root: root.clone(),
    }
}

fn far_content(content: &[(Digest, u64, Vec<u32>)]) -> Vec<ContentRow> {
    let rows = content.iter().map(|(digest, size, repositories)| ContentRow {
        digest: digest.clone(),
        repositories: repositories.clone(),
        size: *size,
    });
    rows.collect()
}

fn patches(graph: &Graph) -> PatchTable {
    let rows = graph.patched().into_iter().map(|(id, patch)| PatchRow {
        bases: patch.bases.clone(),
        codec: patch.codec.clone(),
        media_type: graph.media_type(id).to_owned(),
        patch: patch.digest.clone(),
        size: graph.node(id).size,
        target: graph.digest(id).clone(),
    });
    PatchTable::new(rows.collect())
}

fn absent(graph: &Graph) -> std::result::Result<AbsentTable, TableError> {
    AbsentTable::new(graph.nodes().filter_map(|(id, digest, node)| match node.presence {
        Presence::Absent(reason) => Some(AbsentRow {
            digest: digest.clone(),
            media_type: graph.media_type(id).to_owned(),
            platform: graph.platform(id).cloned(),
            reason,
            repositories: graph.reliance.as_ref().map_or(Vec::new(), |reliance| reliance.places(id).to_vec()),
            size: node.size,
        }),
        _ => None,
    }))
}

/// Makes `index.json`: a descriptor a name, then one for each referrer that has no name.
fn index(graph: &Graph, images: &[&Image]) -> std::result::Result<Vec<u8>, HeadError> {
    let mut named = BTreeMap::new();
    let mut nameless = BTreeSet::new();
    for image in images {
        let runnable = !graph.runnable_manifests(image).is_empty();
        named.insert(image.name.to_string(), (image.root, runnable));
        for attachment in &image.attached {
            // A referrer that the source lists and does not have is nothing to import.
            if graph.node(attachment.node).presence != Presence::Shipped {
                continue;
            }
            match &attachment.tag {
                Some(tag) => {
                    let name = attached_name(&image.name.name, tag);
                    named.entry(name).or_insert((attachment.node, false));
                }
                None => {
                    nameless.insert((graph.digest(attachment.node).clone(), attachment.node));
                }
            }
        }
    }
    let descriptor = |id: NodeId, annotations: Option<HashMap<String, String>>| {
        let mut builder = DescriptorBuilder::default()
            .media_type(MediaType::from(graph.media_type(id)))
            .digest(oci_digest(graph.digest(id))?)
            .size(graph.node(id).size);
        if let Some(annotations) = annotations {
            builder = builder.annotations(annotations);
        }
        builder.build().map_err(|error| HeadError::Document(Box::new(error)))
    };
    let mut manifests = Vec::new();
    for (name, (id, runnable)) in named {
        let mut annotations = HashMap::from([(REF_NAME.to_owned(), name.clone())]);
        // On anything that is no image this annotation makes containerd's import fail.
        if runnable {
            annotations.insert(CONTAINERD_NAME.to_owned(), name);
        }
        manifests.push(descriptor(id, Some(annotations))?);
    }
    for (_, id) in nameless {
        manifests.push(descriptor(id, None)?);
    }
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(|error| HeadError::Document(Box::new(error)))?;
    // By way of a value, whose maps are sorted: the type's own maps have no order, and bytes must not vary.
    let value = serde_json::to_value(&index).map_err(|error| HeadError::Document(Box::new(error)))?;
    Ok(value.to_string().into_bytes())
}

fn oci_digest(digest: &Digest) -> std::result::Result<oci_spec::image::Digest, HeadError> {
    digest.to_string().parse().map_err(|error: oci_spec::OciSpecError| HeadError::Document(Box::new(error)))
}

/// Returns the name of content attached by a tag to an image of `repository`.
#[must_use]
pub fn attached_name(repository: &RepositoryName, tag: &str) -> String {
    format!("{repository}:{tag}")
}

/// Makes `manifest.json` for the images that `docker load` can take: tagged, and whole for exactly one platform.
fn docker_manifest(graph: &Graph, images: &[&Image]) -> std::result::Result<Option<Vec<u8>>, HeadError> {
    let mut by_manifest: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for image in images {
        let Some(tag) = &image.name.tag else { continue };
        if let [manifest] = graph.runnable_manifests(image)[..]
            && graph.children(manifest).iter().all(|id| graph.node(*id).presence == Presence::Shipped)
        {
            by_manifest.entry(manifest).or_default().push(format!("{}:{tag}", image.name.name));
        }
    }
    if by_manifest.is_empty() {
        return Ok(None);
    }
    let path = |id: &NodeId| graph.digest(*id).blob_path();
    let mut entries: Vec<serde_json::Value> = Vec::new();
    for (manifest, tags) in by_manifest {
        if let [config, layers @ ..] = graph.children(manifest) {
            let layers: Vec<String> = layers.iter().map(path).collect();
            entries.push(serde_json::json!({ "Config": path(config), "Layers": layers, "RepoTags": tags }));
        }
    }
    serde_json::to_vec(&entries).map(Some).map_err(|error| HeadError::Document(Box::new(error)))
}
