//! The plan: in what order the content of a graph travels, and what it amounts to.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::graph::{Graph, Kind, NodeId, Presence};
use crate::oci::{Digest, Platform, Reference};
use crate::select::Reason;

/// Returns the nodes whose content goes into a bundle, in the order of the file: manifests (those kept of platforms
/// that are not selected too), then configurations, then everything else; within each, depth-first over the images
/// sorted by name.
#[must_use]
pub fn file_order(graph: &Graph) -> Vec<NodeId> {
    let section = |kind: Kind| match kind {
        Kind::Index | Kind::Manifest => 0,
        Kind::Config => 1,
        Kind::Layer | Kind::Opaque => 2,
    };
    let held = |presence: Presence| matches!(presence, Presence::Shipped | Presence::Unshipped);
    let mut order: Vec<(u8, NodeId)> = graph
        .nodes()
        .filter(|(_, _, node)| held(node.presence))
        .map(|(id, _, node)| (section(node.kind), id))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, id)| id).collect()
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
    /// The largest pieces, largest first, with the first image that needs each.
    pub largest: Vec<Item>,
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
            if graph.node(id).presence == Presence::Shipped {
                bytes += graph.node(id).size;
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
            Presence::Unshipped => {}
        }
    }
    summary.deduplicated_bytes = all - summary.bytes;
    travelling.sort_by_key(|id| (std::cmp::Reverse(graph.node(*id).size), *id));
    summary.largest = travelling
        .into_iter()
        .take(LARGEST)
        .filter_map(|id| {
            let image = &graph.images[*owner.get(&id)?];
            Some(Item {
                digest: graph.digest(id).clone(),
                size: graph.node(id).size,
                image: image.name.clone(),
            })
        })
        .collect();
    summary
}
