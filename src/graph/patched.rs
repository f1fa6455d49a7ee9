//! What of a graph is rebuilt at the far side: a patch travels in the place of the content.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Graph, Kind, Node, NodeId, Presence};
use crate::graph::reliance::Seen;
use crate::oci::{Descriptor, Digest};

/// A patch, by which a node's content is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Digest of the patch.
    pub digest: Digest,
    /// Length of the patch in bytes.
    pub size: u64,
    /// How content is rebuilt by it, with a version.
    pub codec: String,
    /// What it builds on, in the order of the patch.
    pub bases: Vec<Digest>,
    /// Which of the sources has it.
    pub source: u16,
}

/// Content of the far side that patches build on: its length in bytes, and where it was seen.
pub type FarContent = BTreeMap<Digest, (u64, Vec<Seen>)>;

/// The patches of a graph.
#[derive(Debug, Default)]
pub struct Patches {
    by_node: HashMap<NodeId, Patch>,
    /// Nodes that no image reaches, and that patches build on.
    support: HashSet<NodeId>,
}

impl Graph {
    /// Lets a patch travel in the place of a node's content.
    pub fn patch(&mut self, id: NodeId, patch: Patch) {
        if let Some((_, node)) = self.nodes.get_index_mut(id as usize) {
            node.presence = Presence::Patched;
            self.patches.by_node.insert(id, patch);
        }
    }

    /// Adds content that no image reaches and that patches build on: it travels as it is until a patch takes its
    /// place.
    pub fn add_support(&mut self, content: &Descriptor, source: u16) -> NodeId {
        if let Some(id) = self.find(&content.digest) {
            return id;
        }
        let known = self.media_types.iter().position(|known| *known == content.media_type);
        let media_type = known.unwrap_or_else(|| {
            self.media_types.push(content.media_type.clone());
            self.media_types.len() - 1
        }) as u16;
        let (size, presence) = (content.size, Presence::Shipped);
        let node = Node { size, kind: Kind::Layer, presence, source, media_type, edges: (0, 0) };
        let id = self.nodes.insert_full(content.digest.clone(), node).0 as NodeId;
        self.patches.support.insert(id);
        id
    }

    /// Returns the patch that travels in the place of a node's content.
    #[must_use]
    pub fn patch_of(&self, id: NodeId) -> Option<&Patch> {
        self.patches.by_node.get(&id)
    }

    /// Returns the nodes that are rebuilt, with their patches, sorted by digest.
    #[must_use]
    pub fn patched(&self) -> Vec<(NodeId, &Patch)> {
        let mut all: Vec<(NodeId, &Patch)> =
            self.patches.by_node.iter().map(|(id, patch)| (*id, patch)).collect();
        all.sort_by(|a, b| self.digest(a.0).cmp(self.digest(b.0)));
        all
    }

    /// Returns whether no image reaches a node, and only patches build on it.
    #[must_use]
    pub fn is_support(&self, id: NodeId) -> bool {
        self.patches.support.contains(&id)
    }

    /// Returns what travels for a node: digest, length in bytes, and which of the sources has it.
    #[must_use]
    pub fn travelling(&self, id: NodeId) -> (&Digest, u64, u16) {
        match self.patch_of(id) {
            Some(patch) => (&patch.digest, patch.size, patch.source),
            None => (self.digest(id), self.node(id).size, self.node(id).source),
        }
    }

    /// Returns everything in a list of nodes and what travels of that on which their patches build, each once.
    #[must_use]
    pub fn with_support(&self, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
        if self.patches.by_node.is_empty() {
            return nodes;
        }
        let mut seen: HashSet<NodeId> = nodes.iter().copied().collect();
        let mut at = 0;
        while let Some(id) = nodes.get(at).copied() {
            let bases = self.patch_of(id).map(|patch| patch.bases.as_slice()).unwrap_or_default();
            let here = bases.iter().filter_map(|base| self.find(base));
            let here = here.filter(|id| !matches!(self.node(*id).presence, Presence::Absent(_)));
            nodes.extend(here.filter(|id| seen.insert(*id)));
            at += 1;
        }
        nodes
    }
}
