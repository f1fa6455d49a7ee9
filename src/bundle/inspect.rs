//! Inspection: what a bundle says it holds. Head and trailer are read, and manifests only where a tree is asked for;
//! nothing is checked beyond that, which is what verification is for.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Bundle;
use super::record::Record;
use super::table::Role;
use super::verify::Amount;
use crate::graph::reliance::BaseEntry;
use crate::graph::{Change, Part};
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference, media_type};
use crate::select::{Reason, choosable};
use crate::store::layout::LayoutFiles;
use crate::store::{Result, Source, StoreError, read_manifest};

/// How deep manifests may nest in a tree, as when packing.
const MAX_DEPTH: usize = 16;

/// What a bundle, or any OCI layout, says of itself.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The file or folder.
    pub path: PathBuf,
    /// The bundle ID; none for a layout of another producer.
    pub bundle: Option<Digest>,
    /// Version of the format; none for a layout of another producer.
    pub format_version: Option<String>,
    /// Length of the file in bytes; none for a folder.
    pub length: Option<u64>,
    /// What head and trailer alone tell of damage.
    pub fault: Option<String>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether `docker load` finds images in it.
    pub has_docker_manifest: bool,
    /// The images, in the order of the record or of `index.json`.
    pub images: Vec<ImageSummary>,
    /// Images that could not be had whole when it was packed.
    pub failed: Vec<String>,
    /// Content that travels; none for a layout of another producer, where it takes a scan to tell.
    pub held: Option<Amount>,
    /// Manifests of platforms that do not travel, kept for later.
    pub unshipped: Amount,
    /// Places of content that could not be had.
    pub gaps: Amount,
    /// Content that is left out on purpose, by reason.
    pub absent: BTreeMap<Reason, Amount>,
    /// Content that is rebuilt by patches; none where no patch travels.
    pub patches: Option<PatchSummary>,
    /// What it builds on, where it is a delta bundle.
    pub bases: Vec<BaseEntry>,
    /// Digests that were changed on purpose before the images travelled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub digest_map: Vec<Change>,
    /// Names that the bases have and that are no longer wanted.
    pub removed: Vec<String>,
    /// The state code that a push should read back; none for a layout of another producer.
    pub state: Option<String>,
}

/// What a bundle says of its patches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchSummary {
    /// How many pieces of content are rebuilt.
    pub count: u64,
    /// Bytes of the patches.
    pub bytes: u64,
    /// Bytes of the content that is rebuilt by them.
    pub content_bytes: u64,
    /// Bytes that do not travel because of them, at the least: what travels for them only is taken off, and content that
    /// another patch builds on counts for nothing, since it may be a step on the way.
    pub saved_bytes: u64,
    /// Content of the far side that they build on.
    pub far_side: Amount,
    /// Content that travels only because they build on it.
    pub held: Amount,
}

/// By which patch content of a tree is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchNote {
    /// What it is rebuilt from.
    pub bases: Vec<Digest>,
    /// How, with a version.
    pub codec: String,
    /// Digest of the patch.
    pub patch: Digest,
    /// Length of the patch in bytes.
    pub size: u64,
}

/// What a bundle says of an image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// Its name; none for an entry of a layout that has none.
    pub name: Option<String>,
    /// Its root.
    pub root: Digest,
    /// Type of its root.
    pub media_type: String,
    /// Length of its root in bytes.
    pub size: u64,
    /// What it is in what was asked for.
    #[serde(skip_serializing_if = "Part::is_image")]
    pub part: Part,
    /// Platforms that travel, where they are known.
    pub platforms: Vec<Platform>,
    /// How many manifests are attached to it; none where it takes reading manifests to tell.
    pub attached: Option<usize>,
    /// Everything below it, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<Node>,
}

/// Where content of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is", content = "reason")]
pub enum Presence {
    /// In the bundle.
    Held,
    /// A manifest of a platform that does not travel: in the bundle, and not pushed.
    Unshipped,
    /// Left out on purpose.
    Absent(Reason),
    /// Rebuilt by a patch, which is in the bundle.
    Patched,
    /// Could not be had when the bundle was packed.
    Gap,
    /// Not there, and nothing says why. A layout of another producer may leave out what it likes.
    Unknown,
}

/// A piece of content in a tree.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// What it is to the one above: `image`, `index`, `manifest`, `config`, `layer`, `blob` or `attached`.
    pub kind: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it runs on, as its index says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Type of the artifact, for what is attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The tag it is found by, for what is attached by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Where it is.
    pub presence: Presence,
    /// By which patch it is rebuilt, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchNote>,
    /// Why what is below it is not shown: its manifest can't be read, or was shown before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What is below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

impl Node {
    /// Returns the platforms of manifests below that do not travel, sorted, each once.
    #[must_use]
    pub fn platforms_left_out(&self) -> Vec<Platform> {
        let (mut list, mut stack) = (Vec::new(), vec![self]);
        while let Some(node) = stack.pop() {
            if node.presence != Presence::Held {
                list.extend(node.platform.clone());
            }
            stack.extend(&node.children);
        }
        list.sort();
        list.dedup();
        list
    }
}

/// Sums up a bundle, without reading any blob.
///
/// # Errors
/// What reading the index of a layout says.
pub fn summarize(bundle: &Bundle) -> Result<Summary> {
    let record = bundle.record();
    let id = bundle.id().cloned();
    let mut summary = match record {
        Some(record) => of_record(record, id, bundle.path()),
        None => Summary { path: bundle.path().to_owned(), ..Summary::default() },
    };
    summary.fault = bundle.fault();
    summary.is_folder = bundle.layout_directory().is_some();
    summary.has_docker_manifest = has_docker_manifest(bundle);
    if !summary.is_folder {
        let length = match bundle.archive() {
            Some(archive) => Some(archive.length),
            None => std::fs::metadata(bundle.path()).ok().map(|metadata| metadata.len()),
        };
        summary.length = length;
    }
    if record.is_none() {
        summary.images.extend(bundle.names()?.into_iter().map(|(name, descriptor)| ImageSummary {
            name,
            part: Part::Image,
            platforms: choosable(&descriptor).cloned().into_iter().collect(),
            root: descriptor.digest,
            media_type: descriptor.media_type,
            size: descriptor.size,
            attached: None,
            tree: None,
        }));
    }
    Ok(summary)
}

/// Sums up a record, with or without its bundle at hand.
#[must_use]
pub fn of_record(record: &Record, id: Option<Digest>, path: &Path) -> Summary {
    let mut summary = Summary {
        path: path.to_owned(),
        bundle: id,
        format_version: Some(record.format_version.clone()),
        failed: record.failed.iter().map(|failed| failed.name.to_string()).collect(),
        bases: record.base.as_ref().map_or(Vec::new(), |base| base.bases.clone()),
        patches: patches_of(record),
        digest_map: record.digest_map.clone(),
        removed: record.base.as_ref().map_or(Vec::new(), |base| base.removed.clone()),
        state: Some(record.state()),
        ..Summary::default()
    };
    let mut held = Amount::default();
    for row in record.blobs.iter() {
        match row.role {
            Role::Unshipped => summary.unshipped.add(row.size),
            Role::Gap => summary.gaps.add(row.size),
            _ => held.add(row.size),
        }
    }
    summary.held = Some(held);
    for row in record.absent.iter() {
        summary.absent.entry(row.reason).or_default().add(row.size);
    }
    for image in &record.images {
        let row = record.blobs.find(&image.root).map(|(_, row)| row);
        summary.images.push(ImageSummary {
            name: Some(image.name.to_string()),
            root: image.root.clone(),
            size: row.as_ref().map_or(0, |row| row.size),
            media_type: row.map_or(String::new(), |row| row.media_type.to_owned()),
            part: image.part,
            platforms: image.platforms.clone(),
            attached: Some(image.attached.len()),
            tree: None,
        });
    }
    summary
}

/// Sums up the patches of a record; none if it has none.
fn patches_of(record: &Record) -> Option<PatchSummary> {
    if record.patches.is_empty() {
        return None;
    }
    let mut sum = PatchSummary::default();
    let steps: HashSet<&Digest> = record.patches.iter().flat_map(|row| &row.bases).collect();
    let mut given = 0_u64;
    for row in record.patches.iter() {
        sum.count += 1;
        sum.content_bytes = sum.content_bytes.saturating_add(row.size);
        if !steps.contains(&row.target) {
            given = given.saturating_add(row.size);
        }
    }
    for row in record.blobs.iter() {
        match row.role {
            Role::Base => sum.held.add(row.size),
            Role::Patch => sum.bytes = sum.bytes.saturating_add(row.size),
            _ => {}
        }
    }
    record.far_content().iter().for_each(|row| sum.far_side.add(row.size));
    sum.saved_bytes = given.saturating_sub(sum.bytes.saturating_add(sum.held.bytes));
    Some(sum)
}

fn has_docker_manifest(bundle: &Bundle) -> bool {
    match (bundle.record(), bundle.layout_archive()) {
        (Some(record), _) => record.docker_manifest.is_some() && bundle.archive().is_some(),
        (None, Some(layout)) => {
            let found = layout
                .files()
                .root_file(super::head::DOCKER_MANIFEST_PATH, crate::store::layout::MAX_ROOT_FILE);
            matches!(found, Ok(Some(_)))
        }
        (None, None) => false,
    }
}

/// Finds the images that a name means: as it is written, or as the full reference that it stands for.
#[must_use]
pub fn find_images(summary: &Summary, name: &str) -> Vec<usize> {
    let full = name.parse::<Reference>().ok().map(|name| name.with_default_tag().to_string());
    let is_meant = |image: &ImageSummary| {
        let found = image.name.as_deref();
        found == Some(name) || (found.is_some() && found == full.as_deref()) || image.root.to_string() == name
    };
    (0..summary.images.len()).filter(|at| is_meant(&summary.images[*at])).collect()
}

/// Reads the manifests of an image and returns everything below its root, attachments too.
#[must_use]
pub fn tree(bundle: &Bundle, image: &ImageSummary) -> Node {
    let root = Descriptor::new(image.media_type.clone(), image.root.clone(), image.size);
    let mut walk = Walk { bundle, seen: HashSet::new() };
    walk.manifest(&root, "image", 0)
}

struct Walk<'a> {
    bundle: &'a Bundle,
    /// Manifests whose content was shown: again and again it could be without end.
    seen: HashSet<Digest>,
}

impl Walk<'_> {
    fn leaf(&self, descriptor: &Descriptor, kind: &'static str) -> Node {
        Node {
            kind,
            digest: descriptor.digest.clone(),
            media_type: descriptor.media_type.clone(),
            size: descriptor.size,
            platform: choosable(descriptor).cloned(),
            artifact_type: None,
            tag: None,
            presence: self.presence(&descriptor.digest),
            patch: self.patch(&descriptor.digest),
            note: None,
            children: Vec::new(),
        }
    }

    fn presence(&self, digest: &Digest) -> Presence {
        let Some(record) = self.bundle.record() else {
            return if self.bundle.holds(digest) { Presence::Held } else { Presence::Unknown };
        };
        match (record.blobs.find(digest), record.absent.find(digest)) {
            (Some((_, row)), _) => match row.role {
                Role::Unshipped => Presence::Unshipped,
                Role::Gap => Presence::Gap,
                _ => Presence::Held,
            },
            (None, Some(row)) => Presence::Absent(row.reason),
            (None, None) => Self::rebuilt(record, digest),
        }
    }

    /// Returns whether content is rebuilt by a patch that is there.
    fn rebuilt(record: &Record, digest: &Digest) -> Presence {
        let patch = record.patches.find(digest).and_then(|row| record.blobs.find(&row.patch));
        match patch.map(|(_, patch)| patch.role) {
            Some(Role::Gap) => Presence::Gap,
            Some(_) => Presence::Patched,
            None => Presence::Unknown,
        }
    }

    fn patch(&self, digest: &Digest) -> Option<PatchNote> {
        let record = self.bundle.record()?;
        let row = record.patches.find(digest)?;
        let (_, patch) = record.blobs.find(&row.patch)?;
        let (bases, codec) = (row.bases.clone(), row.codec.clone());
        Some(PatchNote { bases, codec, patch: row.patch.clone(), size: patch.size })
    }

    fn manifest(&mut self, descriptor: &Descriptor, kind: &'static str, depth: usize) -> Node {
        let mut node = self.leaf(descriptor, kind);
        if !matches!(node.presence, Presence::Held | Presence::Unshipped) {
            return node;
        }
        if !self.seen.insert(descriptor.digest.clone()) {
            node.note = Some("shown above".to_owned());
            return node;
        }
        if depth >= MAX_DEPTH {
            node.note = Some(format!("nested deeper than {MAX_DEPTH} levels"));
            return node;
        }
        let manifest = read_manifest(self.bundle, descriptor).and_then(|bytes| {
            Manifest::parse(&bytes, &descriptor.media_type).map_err(|source| StoreError::Manifest {
                place: self.bundle.place(),
                digest: descriptor.digest.clone(),
                source,
            })
        });
        match manifest {
            Ok(Manifest::Index(index)) => {
                for child in &index.manifests {
                    let is_index = media_type::is_index(&child.media_type);
                    let is_manifest = media_type::is_manifest(&child.media_type)
                        || (child.media_type.is_empty() && choosable(child).is_some());
                    node.children.push(match (is_index, is_manifest) {
                        (true, _) => self.manifest(child, "index", depth + 1),
                        (false, true) => self.manifest(child, "manifest", depth + 1),
                        (false, false) => self.leaf(child, "blob"),
                    });
                }
            }
            Ok(Manifest::Image(image)) => {
                node.children.push(self.leaf(&image.config, "config"));
                node.children.extend(image.layers.iter().map(|layer| self.leaf(layer, "layer")));
            }
            Err(error) => node.note = Some(error.to_string()),
        }
        if node.presence == Presence::Held {
            self.attached(&mut node, depth);
        }
        node
    }

    fn attached(&mut self, node: &mut Node, depth: usize) {
        let list = match self.bundle.attached(&node.digest) {
            Ok(list) => list,
            Err(error) => {
                node.note.get_or_insert(format!("what is attached can't be told: {error}"));
                return;
            }
        };
        for attached in list {
            let mut child = self.manifest(&attached.descriptor, "attached", depth + 1);
            child.artifact_type = attached.descriptor.artifact_type;
            child.tag = attached.tag;
            node.children.push(child);
        }
    }
}
