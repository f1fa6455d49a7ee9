//! The graph: everything that a set of images reaches, each piece of content once.
//!
//! [`Survey`] learns the manifests, [`Graph::build`] derives the graph from them in one fixed order: depth-first over
//! the images sorted by name. Nothing here touches network or disk but through a [`Source`](crate::store::Source) and
//! the survey's spool.

mod part;
pub mod patched;
pub mod reliance;
pub mod spool;
pub mod survey;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use indexmap::{IndexMap, IndexSet};

use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference, media_type};
use crate::select::{Reason, Select, choosable};
pub use part::Part;
use patched::Patches;
use reliance::Reliance;
use survey::{Survey, is_surveyed};

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
        let mut builder = Builder {
            graph: Self::default(),
            survey,
            select,
            type_ids: HashMap::new(),
            looked_through: HashSet::new(),
        };
        for root in &survey.roots {
            let way = Way { image: &root.name, source: root.source as u16, presence: Presence::Shipped };
            let id = builder.visit(&(&root.root).into(), &way)?;
            let mut image = Image {
                name: root.name.clone(),
                reference: root.reference.clone(),
                part: root.part,
                root: id,
                attached: Vec::new(),
            };
            let mut subjects = builder.shipped_manifests(id);
            let mut at = 0;
            // The list grows on the way: attachments may have attachments.
            while let Some(subject) = subjects.get_index(at).copied() {
                let digest = builder.graph.digest(subject).clone();
                for listed in survey.attached.get(&digest).map(Vec::as_slice).unwrap_or_default() {
                    let way = Way { source: listed.source as u16, ..way };
                    let node = builder.visit(&(&listed.brief).into(), &way)?;
                    image.attached.push(Attachment { subject, node, tag: listed.tag.clone() });
                    subjects.extend(builder.shipped_manifests(node));
                }
                at += 1;
            }
            builder.graph.images.push(image);
        }
        Ok(builder.graph)
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

/// How a visit came to a node.
struct Way<'a> {
    image: &'a Reference,
    source: u16,
    presence: Presence,
}

struct Builder<'a> {
    graph: Graph,
    survey: &'a Survey,
    select: &'a dyn Select,
    type_ids: HashMap<String, u16>,
    looked_through: HashSet<(NodeId, u16, Presence)>,
}

impl Builder<'_> {
    fn shipped_manifests(&self, root: NodeId) -> IndexSet<NodeId> {
        let travels = |id: &NodeId| {
            let node = self.graph.node(*id);
            node.kind.is_manifest() && node.presence == Presence::Shipped
        };
        self.graph.closure(root).into_iter().filter(travels).collect()
    }

    /// Adds a manifest or opaque child and all below it.
    fn visit(&mut self, descriptor: &Descriptor, way: &Way<'_>) -> Result<NodeId, GraphError> {
        let is_manifest = is_surveyed(descriptor) || self.survey.holds(&descriptor.digest);
        let is_lacking = self.survey.lacks(&descriptor.digest, usize::from(way.source));
        let held = self.survey.holds(&descriptor.digest) && !is_lacking;
        let left_out = self.select.left_out_at(&descriptor.digest, usize::from(way.source));
        let presence = match way.presence {
            _ if is_lacking => Presence::Absent(left_out.unwrap_or(Reason::Source)),
            // What a bundle kept of a platform that it does not hold is kept on.
            Presence::Shipped if left_out == Some(Reason::Platform) && is_manifest && held => {
                Presence::Unshipped
            }
            Presence::Shipped => left_out.map_or(Presence::Shipped, Presence::Absent),
            Presence::Unshipped if is_manifest && held => Presence::Unshipped,
            Presence::Unshipped => Presence::Absent(Reason::Platform),
            absent @ (Presence::Absent(_) | Presence::Patched) => absent,
        };
        let kind = match is_manifest {
            true if media_type::is_index(&descriptor.media_type) => Kind::Index,
            true => Kind::Manifest,
            false => Kind::Opaque,
        };
        // What was met as a layer only was not looked into.
        let known = self.graph.find(&descriptor.digest).map(|id| self.graph.node(id));
        let was_manifest = known.is_some_and(|node| node.kind.is_manifest());
        let id = self.add(descriptor, kind, presence, way)?;
        if is_manifest && !was_manifest {
            let media_type = self.media_type_id(&descriptor.media_type)?;
            let node = &mut self.graph.nodes[id as usize];
            (node.kind, node.media_type) = (kind, media_type);
        }
        // What one source lacks below a manifest, another may have: each is looked through by itself.
        let is_new = |presence| !self.looked_through.contains(&(id, way.source, presence));
        if !is_manifest
            || matches!(presence, Presence::Absent(_))
            || !(is_new(presence) && is_new(Presence::Shipped))
        {
            return Ok(id);
        }
        self.looked_through.insert((id, way.source, presence));
        let Some(bytes) = self.survey.content(&descriptor.digest)? else {
            return Ok(id);
        };
        // The survey parsed it before; an error can't come again.
        let Ok(manifest) = Manifest::parse(&bytes, &descriptor.media_type) else {
            return Ok(id);
        };
        let way = Way { presence, ..*way };
        let mut children = Vec::new();
        match &manifest {
            Manifest::Index(index) => {
                let keep = self.select.children(&index.manifests);
                for (child, keep) in index.manifests.iter().zip(keep) {
                    let way = Way { presence: if keep { way.presence } else { Presence::Unshipped }, ..way };
                    let child_id = self.visit(child, &way)?;
                    if let Some(platform) = choosable(child) {
                        self.graph.platforms.entry(child_id).or_insert_with(|| platform.clone());
                    }
                    // An attestation has an image's configuration and is none.
                    if child.attests().is_some() || child.platform.as_ref().is_some_and(Platform::is_unknown)
                    {
                        self.graph.runnable.insert(child_id, false);
                    }
                    children.push(child_id);
                }
            }
            Manifest::Image(image) => {
                self.graph.runnable.insert(id, image.is_runnable());
                let below = match way.presence {
                    Presence::Shipped => Presence::Shipped,
                    _ => Presence::Absent(Reason::Platform),
                };
                let presence = self.unless_left_out(&image.config.digest, below, &way);
                children.push(self.add(&image.config, Kind::Config, presence, &way)?);
                let by_config = self.config_platform(&image.config)?;
                if let Some(platform) = by_config.or_else(|| self.select.platform(&descriptor.digest)) {
                    self.graph.platforms.entry(id).or_insert(platform);
                }
                for layer in &image.layers {
                    let foreign =
                        media_type::is_foreign_layer(&layer.media_type) && !self.select.foreign_layers();
                    let presence = match below {
                        _ if foreign => Presence::Absent(Reason::Foreign),
                        below => self.unless_left_out(&layer.digest, below, &way),
                    };
                    children.push(self.add(layer, Kind::Layer, presence, &way)?);
                }
            }
        }
        if self.graph.children(id) != children {
            let start = self.graph.edges.len() as u32;
            self.graph.edges.extend(children);
            let end = self.graph.edges.len() as u32;
            self.graph.nodes[id as usize].edges = (start, end);
        }
        Ok(id)
    }

    /// Returns `presence`, or the reason for which the selector knows the content to be left out.
    fn unless_left_out(&self, digest: &Digest, presence: Presence, way: &Way<'_>) -> Presence {
        match self.select.left_out_at(digest, usize::from(way.source)) {
            Some(reason) if presence == Presence::Shipped => Presence::Absent(reason),
            _ => presence,
        }
    }

    fn add(
        &mut self,
        descriptor: &Descriptor,
        kind: Kind,
        presence: Presence,
        way: &Way<'_>,
    ) -> Result<NodeId, GraphError> {
        if let Some(id) = self.graph.find(&descriptor.digest) {
            let node = &mut self.graph.nodes[id as usize];
            if node.size != descriptor.size {
                return Err(GraphError::SizeClash {
                    image: way.image.clone(),
                    digest: descriptor.digest.clone(),
                    first: node.size,
                    second: descriptor.size,
                });
            }
            if presence > node.presence {
                node.presence = presence;
                node.source = way.source;
            }
            return Ok(id);
        }
        let media_type = self.media_type_id(&descriptor.media_type)?;
        let node =
            Node { size: descriptor.size, kind, presence, source: way.source, media_type, edges: (0, 0) };
        Ok(self.graph.nodes.insert_full(descriptor.digest.clone(), node).0 as NodeId)
    }

    fn media_type_id(&mut self, name: &str) -> Result<u16, GraphError> {
        if let Some(id) = self.type_ids.get(name) {
            return Ok(*id);
        }
        let id = u16::try_from(self.graph.media_types.len()).map_err(|_| GraphError::TooManyTypes)?;
        self.graph.media_types.push(name.to_owned());
        self.type_ids.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Returns the platform that an image configuration names, where the survey read it.
    fn config_platform(&self, config: &Descriptor) -> Result<Option<Platform>, GraphError> {
        let bytes = self.survey.content(&config.digest)?;
        let platform = bytes.and_then(|bytes| serde_json::from_slice::<Platform>(&bytes).ok());
        Ok(platform.filter(|platform| !platform.is_empty()))
    }
}
