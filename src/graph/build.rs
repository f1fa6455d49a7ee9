//! Deriving a graph from a survey, in one fixed order.

use std::collections::{BTreeSet, HashMap, HashSet};

use indexmap::IndexSet;

use super::survey::{Survey, is_surveyed};
use super::{Attachment, Graph, GraphError, Image, Kind, Node, NodeId, Presence};
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference, media_type};
use crate::select::{Reason, Select, choosable};

/// Derives the graph of a survey.
pub(super) fn build(survey: &Survey, select: &dyn Select) -> Result<Graph, GraphError> {
    let mut builder = Builder {
        graph: Graph::default(),
        survey,
        select,
        type_ids: HashMap::new(),
        looked_through: HashSet::new(),
        choices: IndexSet::new(),
        chosen_by: HashMap::new(),
    };
    // Who asks twice for an image, of other platforms, gets them all.
    for roots in survey.roots.chunk_by(|one, next| one.name == next.name) {
        let [first, ..] = roots else { continue };
        let way = |source, choice| Way { image: &first.name, source, presence: Presence::Shipped, choice };
        let mut root = None;
        for one in roots {
            let choice = builder.choices.insert_full(one.platforms.as_slice()).0;
            root = Some(builder.visit(&(&one.root).into(), &way(one.source as u16, choice))?);
        }
        let Some(root) = root else { continue };
        let mut image = Image {
            name: first.name.clone(),
            reference: first.reference.clone(),
            part: roots.iter().map(|root| root.part).max().unwrap_or_default(),
            wanted: roots.iter().map(|root| root.platforms.clone()).collect(),
            root,
            attached: Vec::new(),
        };
        let mut subjects = builder.shipped_manifests(root);
        let mut at = 0;
        // The list grows on the way: attachments may have attachments.
        while let Some(subject) = subjects.get_index(at).copied() {
            let digest = builder.graph.digest(subject).clone();
            // What is attached is chosen from as what it is attached to was, by each who wants that: so it was surveyed.
            let choices = builder.choices_of(subject);
            for listed in survey.attached.get(&digest).map(Vec::as_slice).unwrap_or_default() {
                for choice in &choices {
                    let way = way(listed.source as u16, *choice);
                    let node = builder.visit(&(&listed.brief).into(), &way)?;
                    let attachment = Attachment { subject, node, tag: listed.tag.clone() };
                    if image.attached.last() != Some(&attachment) {
                        image.attached.push(attachment);
                    }
                    subjects.extend(builder.shipped_manifests(node));
                }
            }
            at += 1;
        }
        builder.graph.images.push(image);
    }
    Ok(builder.graph)
}

/// How a visit came to a node.
struct Way<'a> {
    image: &'a Reference,
    source: u16,
    presence: Presence,
    /// Which of the builder's lists of platforms it chooses by.
    choice: usize,
}

struct Builder<'a> {
    graph: Graph,
    survey: &'a Survey,
    select: &'a dyn Select,
    type_ids: HashMap<String, u16>,
    looked_through: HashSet<(NodeId, u16, Presence)>,
    /// The lists of platforms that images have of their own.
    choices: IndexSet<&'a [Platform]>,
    /// What was looked through to be shipped: of which source, by which of them.
    chosen_by: HashMap<NodeId, BTreeSet<(u16, usize)>>,
}

impl Builder<'_> {
    /// Returns by which lists of platforms a manifest was chosen to be shipped.
    fn choices_of(&self, id: NodeId) -> BTreeSet<usize> {
        self.chosen_by.get(&id).into_iter().flatten().map(|(_, choice)| *choice).collect()
    }

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
        let is_new = match presence {
            Presence::Shipped => {
                !self.chosen_by.get(&id).is_some_and(|by| by.contains(&(way.source, way.choice)))
            }
            presence => is_new(presence) && is_new(Presence::Shipped),
        };
        if !is_manifest || matches!(presence, Presence::Absent(_)) || !is_new {
            return Ok(id);
        }
        self.looked_through.insert((id, way.source, presence));
        if presence == Presence::Shipped {
            self.chosen_by.entry(id).or_default().insert((way.source, way.choice));
        }
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
                let wanted = self.choices.get_index(way.choice).copied().unwrap_or_default();
                let keep = self.select.children(&index.manifests, wanted);
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
