//! The plan: in what order the content of a graph travels, and what it amounts to.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::graph::{Graph, Kind, NodeId, Presence};
use crate::oci::{Digest, Platform, Reference};
use crate::select::Reason;

/// Returns the nodes whose content or patches go into a bundle, in the order of the file: manifests (those kept of
/// platforms that are not selected too), then configurations, then everything else; within each, depth-first over the
/// images sorted by name; and last, by digest, what only patches build on.
#[must_use]
pub fn file_order(graph: &Graph) -> Vec<NodeId> {
    let section = |kind: Kind| match kind {
        Kind::Index | Kind::Manifest => 0,
        Kind::Config => 1,
        Kind::Layer | Kind::Opaque => 2,
    };
    let held = |presence: Presence| !matches!(presence, Presence::Absent(_));
    let mut order: Vec<(u8, NodeId)> = graph
        .nodes()
        .filter(|(id, _, node)| held(node.presence) && !graph.is_support(*id))
        .map(|(id, _, node)| (section(node.kind), id))
        .collect();
    order.sort_unstable();
    let mut support: Vec<NodeId> =
        graph.nodes().map(|(id, ..)| id).filter(|id| graph.is_support(*id)).collect();
    support.sort_by(|a, b| graph.digest(*a).cmp(graph.digest(*b)));
    order.into_iter().map(|(_, id)| id).chain(support).collect()
}

/// What one image of a plan amounts to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// The name under which it travels.
    pub name: Reference,
    /// Its root.
    pub root: Digest,
    /// Platforms that travel.
    pub platforms: Vec<Platform>,
    /// Platforms that are left out.
    pub left_out: Vec<Platform>,
    /// How many manifests are attached to it.
    pub attached: usize,
    /// Bytes of its content that travels, shared or not.
    pub bytes: u64,
}

/// What a plan amounts to.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The images.
    pub images: Vec<ImageSummary>,
    /// How many pieces of content travel.
    pub blobs: usize,
    /// Their bytes, each counted once.
    pub bytes: u64,
    /// Bytes saved because images share content.
    pub deduplicated_bytes: u64,
    /// How many pieces of content are left out, by reason.
    pub absent: BTreeMap<Reason, (usize, u64)>,
    /// What travels as patches.
    pub patched: Patched,
    /// The largest pieces, largest first, with the first image that needs each.
    pub largest: Vec<Item>,
}

/// What travels as patches, in a summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Patched {
    /// How many pieces of content.
    pub count: usize,
    /// Bytes of the patches.
    pub bytes: u64,
    /// Bytes of the content that is rebuilt by them.
    pub content_bytes: u64,
}

/// One piece of content in a summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// An image that needs it.
    pub image: Reference,
}

/// How many of the largest pieces a summary names.
const LARGEST: usize = 5;

/// Sums up what travels.
#[must_use]
pub fn summarize(graph: &Graph) -> Summary {
    let mut summary = Summary::default();
    let mut owner: HashMap<NodeId, usize> = HashMap::new();
    let mut all = 0;
    for (at, image) in graph.images.iter().enumerate() {
        let mut bytes = 0;
        for id in graph.image_closure(image) {
            if matches!(graph.node(id).presence, Presence::Shipped | Presence::Patched) {
                bytes += graph.travelling(id).1;
                owner.entry(id).or_insert(at);
            }
        }
        all += bytes;
        let (platforms, left_out) = graph.image_platforms(image);
        summary.images.push(ImageSummary {
            name: image.name.clone(),
            root: graph.digest(image.root).clone(),
            platforms,
            left_out,
            attached: image.attached.len(),
            bytes,
        });
    }
    let mut travelling = Vec::new();
    for (id, _, node) in graph.nodes() {
        match node.presence {
            Presence::Shipped => {
                summary.blobs += 1;
                summary.bytes += node.size;
                travelling.push(id);
            }
            Presence::Absent(reason) => {
                let (count, bytes) = summary.absent.entry(reason).or_default();
                *count += 1;
                *bytes += node.size;
            }
            Presence::Patched => {
                let (_, size, _) = graph.travelling(id);
                summary.blobs += 1;
                summary.bytes += size;
                summary.patched.count += 1;
                summary.patched.bytes += size;
                summary.patched.content_bytes += node.size;
                travelling.push(id);
            }
            Presence::Unshipped => {}
        }
    }
    // What only patches build on is of no image.
    summary.deduplicated_bytes = u64::saturating_sub(all, summary.bytes);
    travelling.sort_by_key(|id| (std::cmp::Reverse(graph.travelling(*id).1), *id));
    summary.largest = travelling
        .into_iter()
        .take(LARGEST)
        .filter_map(|id| {
            let image = &graph.images[*owner.get(&id)?];
            Some(Item {
                digest: graph.digest(id).clone(),
                size: graph.travelling(id).1,
                image: image.name.clone(),
            })
        })
        .collect();
    summary
}
