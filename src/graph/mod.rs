//! The graph: everything that a set of images reaches, each piece of content once.
//!
//! [`Survey`] learns the manifests, [`Graph::build`] derives the graph from them in one fixed order: depth-first over
//! the images sorted by name. Nothing here touches network or disk but through a [`Source`](crate::store::Source) and
//! the survey's spool.

mod build;
mod part;
pub mod patched;
pub mod reliance;
pub mod spool;
pub mod survey;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use indexmap::IndexMap;

use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::select::{Reason, Select};
pub use part::{Change, Part};
use patched::Patches;
use reliance::Reliance;
use survey::Survey;

/// Index of a node in its graph.
pub type NodeId = u32;

/// What a piece of content is to the manifests that refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An image index.
    Index,
    /// An image manifest.
    Manifest,
    /// An image's configuration, or what an artifact has in its place.
    Config,
    /// A layer.
    Layer,
    /// An entry of an index that is no manifest.
    Opaque,
}

impl Kind {
    /// Returns whether the content is a manifest, which registries keep apart from blobs.
    #[must_use]
    pub fn is_manifest(self) -> bool {
        matches!(self, Self::Index | Self::Manifest)
    }
}

/// Whether content travels. Where content is reached in several ways, the greatest holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// Left out.
    Absent(Reason),
    /// A manifest of a platform that was not selected: kept on media, not pushed.
    Unshipped,
    /// A patch travels, by which it is rebuilt.
    Patched,
    /// Travels.
    Shipped,
}

/// One piece of content.
#[derive(Debug, Clone)]
pub struct Node {
    /// Length in bytes.
    pub size: u64,
    /// What it is to the manifests that refer to it.
    pub kind: Kind,
    /// Whether it travels.
    pub presence: Presence,
    /// Which of the survey's sources has it.
    pub source: u16,
    media_type: u16,
    edges: (u32, u32),
}

/// Content attached to a manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The manifest it is attached to.
    pub subject: NodeId,
    /// The attached manifest.
    pub node: NodeId,
    /// The tag it is found by; none for a referrer.
    pub tag: Option<String>,
}

/// A named image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name under which it travels.
    pub name: Reference,
    /// What it was pulled by, where the source was a registry.
    pub reference: Option<Reference>,
    /// What it is in what was asked for.
    pub part: Part,
    /// The platforms wanted of it, once for each way in which it was asked for; an empty list is what is wanted of all.
    pub wanted: Vec<Vec<Platform>>,
    /// Its root.
    pub root: NodeId,
    /// What is attached to its manifests, in depth-first order.
    pub attached: Vec<Attachment>,
}

/// The closure of some images.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: IndexMap<Digest, Node>,
    edges: Vec<NodeId>,
    media_types: Vec<String>,
    platforms: HashMap<NodeId, Platform>,
    runnable: HashMap<NodeId, bool>,
    /// The images, sorted by name.
    pub images: Vec<Image>,
    /// Digests that were changed on purpose, sorted by image and old digest.
    pub changed: Vec<Change>,
    /// What the graph relies on at the far side; none where it relies on nothing.
    pub reliance: Option<Reliance>,
    patches: Patches,
}

/// A survey does not fit together: its spool was damaged, or content contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The spool can't be read.
    #[error("the working file of the plan can't be read")]
    Spool(#[from] std::io::Error),
    /// Two descriptors give one digest different sizes, so at least one of them lies.
    #[error("{digest} is said to have {first} bytes in one place and {second} in another (below {image})")]
    SizeClash {
        /// The image below which the second was found.
        image: Reference,
        /// The digest.
        digest: Digest,
        /// One size.
        first: u64,
        /// The other.
        second: u64,
    },
    /// More kinds of media types than any real set of images has.
    #[error("the images name more than 65,535 different media types")]
    TooManyTypes,
}

impl Graph {
    /// Derives the graph of a survey.
    ///
    /// # Errors
    /// [`GraphError`]: a spool that can't be read, or content that contradicts itself.
    pub fn build(survey: &Survey, select: &dyn Select) -> Result<Self, GraphError> {
        build::build(survey, select)
    }

    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether there is nothing in the graph.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the nodes with their digests, in depth-first order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Digest, &Node)> {
        self.nodes.iter().enumerate().map(|(id, (digest, node))| (id as NodeId, digest, node))
    }

    /// Returns a node.
    ///
    /// # Panics
    /// If `id` is not of this graph.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// Returns a node's digest.
    ///
    /// # Panics
    /// If `id` is not of this graph.
    #[must_use]
    pub fn digest(&self, id: NodeId) -> &Digest {
        self.nodes.get_index(id as usize).expect("the node is of this graph").0
    }

    /// Returns those of the changes on purpose that are about images of the graph as they are in it, in order and none
    /// twice.
    #[must_use]
    pub fn changes_among<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) -> Vec<Change> {
        let names: HashSet<&Reference> = self.images.iter().map(|image| &image.name).collect();
        let is_here = |change: &&Change| names.contains(&change.image) && self.find(&change.new).is_some();
        let mut found: Vec<Change> = changes.into_iter().filter(is_here).cloned().collect();
        found.sort_by_cached_key(|change| (change.image.to_string(), change.old.clone(), change.new.clone()));
        found.dedup();
        found
    }

    /// Finds a node by its digest.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<NodeId> {
        self.nodes.get_index_of(digest).map(|id| id as NodeId)
    }

    /// Returns a node's media type.
    #[must_use]
    pub fn media_type(&self, id: NodeId) -> &str {
        &self.media_types[usize::from(self.node(id).media_type)]
    }

    /// Returns what a manifest refers to, in its order; nothing for other content.
    #[must_use]
    pub fn children(&self, id: NodeId) -> &[NodeId] {
        let (start, end) = self.node(id).edges;
        &self.edges[Range { start: start as usize, end: end as usize }]
    }

    /// Returns the platform of a manifest, as its index or its configuration says.
    #[must_use]
    pub fn platform(&self, id: NodeId) -> Option<&Platform> {
        self.platforms.get(&id)
    }

    /// Returns whether a node is the manifest of an image that a runtime can start.
    #[must_use]
    pub fn is_runnable(&self, id: NodeId) -> bool {
        self.runnable.get(&id).copied().unwrap_or(false)
    }

    /// Returns a node's descriptor: type, digest and size.
    #[must_use]
    pub fn descriptor(&self, id: NodeId) -> Descriptor {
        Descriptor::new(self.media_type(id), self.digest(id).clone(), self.node(id).size)
    }

    /// Returns everything below `root`, itself first, depth-first, each once.
    #[must_use]
    pub fn closure(&self, root: NodeId) -> Vec<NodeId> {
        self.closure_of(std::iter::once(root))
    }

    /// Returns everything below an image's root and its attachments, depth-first, each once.
    #[must_use]
    pub fn image_closure(&self, image: &Image) -> Vec<NodeId> {
        self.closure_of(std::iter::once(image.root).chain(image.attached.iter().map(|a| a.node)))
    }

    fn closure_of(&self, roots: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let mut stack: Vec<NodeId> = roots.collect();
        stack.reverse();
        let (mut order, mut seen) = (Vec::new(), std::collections::HashSet::new());
        while let Some(id) = stack.pop() {
            if seen.insert(id) {
                order.push(id);
                stack.extend(self.children(id).iter().rev());
            }
        }
        order
    }

    /// Returns the manifests of an image that a runtime could start and that travel, with their platforms.
    #[must_use]
    pub fn runnable_manifests(&self, image: &Image) -> Vec<NodeId> {
        let mut found = self.closure(image.root);
        found.retain(|id| self.is_runnable(*id) && self.node(*id).presence == Presence::Shipped);
        found
    }

    /// Returns the platforms of an image that travel and those that were left out, sorted, each once.
    #[must_use]
    pub fn image_platforms(&self, image: &Image) -> (Vec<Platform>, Vec<Platform>) {
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for id in self.closure(image.root) {
            if let Some(platform) = self.platform(id) {
                let list = if self.node(id).presence == Presence::Shipped { &mut kept } else { &mut left };
                list.push(platform.clone());
            }
        }
        for list in [&mut kept, &mut left] {
            list.sort();
            list.dedup();
        }
        (kept, left)
    }

    /// Marks content as left out, where it would have travelled.
    pub fn leave_out(&mut self, id: NodeId, reason: Reason) {
        if let Some((_, node)) = self.nodes.get_index_mut(id as usize) {
            node.presence = Presence::Absent(reason);
        }
    }
}
