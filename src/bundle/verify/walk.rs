//! The walk: what each image reaches, through the manifests that the bundle holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine;

use super::report::{Amount, Findings, shown};
use super::subject::{State, Subject};
use crate::bundle::table::Role;
use crate::oci::{Descriptor, Digest, Manifest, Platform, media_type};
use crate::select::{Reason, choosable};

/// A node: a row of the table, then a piece of content that is rebuilt by a patch, and beyond these one of the pieces of
/// content that are in no table.
pub(super) type NodeId = u32;

/// That one node needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) child: NodeId,
    pub(super) parent: NodeId,
    /// Whether the child is attached to the parent, not part of it.
    pub(super) attached: bool,
}

/// What some images reach.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Whether each row of the table is reached.
    pub(super) reached: Vec<bool>,
    /// What is needed and in no table; node ids go on here after those of the rows and of what is rebuilt.
    pub(super) lost: Vec<Descriptor>,
    lost_ids: HashMap<Digest, NodeId>,
    /// Who needs whom, sorted by child.
    pub(super) edges: Vec<Edge>,
    /// The platforms of manifests, as their indexes say.
    pub(super) platforms: HashMap<NodeId, Platform>,
    /// Nodes that are there and contradict what refers to them.
    pub(super) unsound: HashSet<NodeId>,
    /// The images by their roots.
    pub(super) roots: Vec<(NodeId, usize)>,
    /// What is left out, each once, by reason.
    pub(super) absent: BTreeMap<Reason, Amount>,
    absent_seen: HashSet<Digest>,
    /// Manifests that need content which is left out because the far side has it, or is rebuilt there.
    relying: HashSet<NodeId>,
    /// Manifests that can't be read, so that it can't be told what they need.
    unread: HashSet<NodeId>,
}

/// Which nodes need content that is left out because the far side has it, or is rebuilt there, themselves or by what they
/// list.
pub(super) struct Reliance {
    relying: HashSet<NodeId>,
    unread: HashSet<NodeId>,
}

impl Reliance {
    /// Returns whether an image needs such content, what is attached to it counted; none where that can't be told.
    pub(super) fn of(&self, subject: &Subject, closure: &Closure, image: usize) -> Option<bool> {
        let root = &subject.images[image];
        let attached = root.attached.iter().map(|entry| &entry.digest);
        let digests = root.descriptor.iter().map(|descriptor| &descriptor.digest).chain(attached);
        let nodes: Vec<NodeId> = digests.filter_map(|digest| closure.node(subject, digest)).collect();
        if nodes.iter().any(|node| self.relying.contains(node)) {
            return Some(true);
        }
        (!nodes.iter().any(|node| self.unread.contains(node))).then_some(false)
    }
}

/// How a descriptor was come upon.
struct Way {
    parent: Option<NodeId>,
    attached: bool,
    /// Whether it is part of a manifest that travels.
    kept: bool,
    /// Whether it belongs to a platform that the producer of a layout seems to have left out.
    left_out: bool,
}

struct Task {
    node: NodeId,
    media_type: String,
    /// Whether an index lists it.
    is_child: bool,
}

/// Walks the images at the places `chosen`.
pub(super) fn walk(subject: &Subject, chosen: &[usize], findings: &mut Findings) -> Closure {
    let mut walk = Walk {
        subject,
        findings,
        closure: Closure { reached: vec![false; subject.blobs.len()], ..Closure::default() },
        parsed: HashSet::new(),
        rebuilt: HashSet::new(),
        left_out: HashSet::new(),
        indexes: Vec::new(),
    };
    for at in chosen {
        walk.image(*at);
    }
    walk.check_indexes();
    let mut closure = walk.closure;
    closure.edges.sort_unstable();
    closure.edges.dedup();
    closure
}

struct Walk<'a> {
    subject: &'a Subject,
    findings: &'a mut Findings,
    closure: Closure,
    parsed: HashSet<NodeId>,
    /// Rows of patches that were followed to what they build on.
    rebuilt: HashSet<usize>,
    /// Manifests of platforms that the producer of a layout seems to have left out.
    left_out: HashSet<NodeId>,
    /// Indexes of a layout without a record, with their children that are here.
    indexes: Vec<(NodeId, Vec<NodeId>)>,
}

impl Walk<'_> {
    fn image(&mut self, at: usize) {
        let root = &self.subject.images[at];
        let Some(descriptor) = &root.descriptor else { return };
        let way = Way { parent: None, attached: false, kept: true, left_out: false };
        let Some((node, task)) = self.meet(descriptor, &way, true) else {
            let name = shown(&root.name);
            self.findings.content(
                "closure-missing",
                &descriptor.digest,
                None,
                format!("the root of {name} is left out"),
            );
            return;
        };
        self.closure.roots.push((node, at));
        self.below(task);
        for entry in &root.attached {
            let parent = self.subject.blobs.find(&entry.subject).map(|(row, _)| row as NodeId);
            if parent.is_none() && self.subject.absent.find(&entry.subject).is_none() {
                let name = shown(&root.name);
                let text =
                    format!("for {name} it is attached to {}, which the record does not know", entry.subject);
                self.findings.content("closure-missing", &entry.digest, None, text);
            }
            // Below a damaged manifest its own attachments are not reached: they are the image's all the same.
            let parent = parent.filter(|row| self.closure.reached[*row as usize]);
            let descriptor = match self.subject.blobs.find(&entry.digest) {
                Some((_, row)) => Descriptor::new(row.media_type, entry.digest.clone(), row.size),
                None => match self.subject.absent.find(&entry.digest) {
                    Some(row) => Descriptor::new(row.media_type, row.digest, row.size),
                    None => Descriptor::new(media_type::OCI_MANIFEST, entry.digest.clone(), 0),
                },
            };
            let way = Way { parent: parent.or(Some(node)), attached: true, kept: true, left_out: false };
            if let Some((_, task)) = self.meet(&descriptor, &way, true) {
                self.below(task);
            }
        }
    }

    /// Walks everything below a manifest.
    fn below(&mut self, task: Option<Task>) {
        let mut tasks: Vec<Task> = task.into_iter().collect();
        while let Some(task) = tasks.pop() {
            if !self.parsed.insert(task.node) {
                continue;
            }
            let at = task.node as usize;
            let (Some(row), Some(bytes)) = (self.subject.blobs.get(at), self.subject.manifest(at)) else {
                self.closure.unread.insert(task.node);
                continue;
            };
            let manifest = match Manifest::parse(&bytes, &task.media_type) {
                Ok(manifest) => manifest,
                Err(error) => {
                    self.findings.content("manifest-invalid", row.digest, None, shown(&error.to_string()));
                    self.closure.unsound.insert(task.node);
                    self.closure.unread.insert(task.node);
                    continue;
                }
            };
            let kept = row.role != Role::Unshipped;
            // Other producers leave a platform out by its content and may keep its manifest.
            let left_out = match &manifest {
                Manifest::Image(image) => {
                    task.is_child
                        && !self.subject.strict
                        && self.subject.blobs.find(&image.config.digest).is_none()
                }
                Manifest::Index(_) => false,
            };
            let way = Way { parent: Some(task.node), attached: false, kept, left_out };
            if left_out {
                self.left_out.insert(task.node);
            }
            let mut there = Vec::new();
            let is_index = matches!(manifest, Manifest::Index(_));
            for child in manifest.descriptors() {
                self.check_data(child, row.digest);
                let Some((node, task)) = self.meet(child, &way, is_index) else { continue };
                there.push(node);
                if is_index && let Some(platform) = choosable(child) {
                    self.closure.platforms.entry(node).or_insert_with(|| platform.clone());
                }
                tasks.extend(task);
            }
            if let Some(subject) = manifest.subject() {
                self.check_data(subject, row.digest);
            }
            if is_index && !self.subject.recorded && manifest.descriptors().next().is_some() {
                self.indexes.push((task.node, there));
            }
        }
    }

    /// Finds indexes of which nothing is here: leaving out every platform is no purpose anybody has.
    fn check_indexes(&mut self) {
        for (node, children) in std::mem::take(&mut self.indexes) {
            if children.iter().all(|child| self.left_out.contains(child))
                && let Some(row) = self.subject.blobs.get(node as usize)
            {
                let text = "no image that this index lists is here with its content";
                self.findings.content("closure-missing", row.digest, None, text);
                self.closure.unsound.insert(node);
            }
        }
    }

    /// Takes note of a descriptor; returns its node, unless it is left out, and the manifest to go on with.
    fn meet(
        &mut self,
        descriptor: &Descriptor,
        way: &Way,
        may_be_manifest: bool,
    ) -> Option<(NodeId, Option<Task>)> {
        let digest = &descriptor.digest;
        if let Some((at, row)) = self.subject.blobs.find(digest) {
            let node = at as NodeId;
            if row.size != descriptor.size {
                let text = match way.parent.and_then(|parent| self.digest(parent)) {
                    Some(parent) => {
                        format!("{parent} gives it {} bytes; it has {}", descriptor.size, row.size)
                    }
                    None => format!("`index.json` gives it {} bytes; it has {}", descriptor.size, row.size),
                };
                self.findings.content("size-mismatch", digest, None, text);
                self.closure.unsound.insert(node);
            }
            if matches!(row.role, Role::Patch | Role::Base) {
                let text = "an image needs it, and the record has it as something that only patches need";
                self.findings.content("closure-missing", digest, None, text);
                self.closure.unsound.insert(node);
            }
            // What others need too, a manifest that does not travel does not.
            if (way.kept && !way.left_out) || row.role == Role::Unshipped {
                self.link(node, way);
                self.closure.reached[at] = true;
            }
            let kept_as_manifest = matches!(row.role, Role::Index | Role::Manifest | Role::Unshipped);
            let is_manifest = may_be_manifest && (kept_as_manifest || is_manifest(descriptor));
            let is_child = way.parent.is_some() && !way.attached;
            let task =
                is_manifest.then(|| Task { node, media_type: descriptor.media_type.clone(), is_child });
            return Some((node, task));
        }
        if let Some(row) = self.subject.absent.find(digest) {
            if row.size != descriptor.size {
                let text = format!("a manifest gives it {} bytes, the record {}", descriptor.size, row.size);
                self.findings.content("size-mismatch", digest, None, text);
            }
            if row.reason == Reason::Base && may_be_manifest && is_manifest(descriptor) {
                let text =
                    "the record leaves it out because the far side has it, and manifests always travel";
                return Some((self.lose(descriptor, way, text), None));
            }
            if row.reason == Reason::Base {
                self.closure.relying.extend(way.parent);
            }
            // Platforms are left out by their manifests: a manifest that travels has all of its own content.
            if row.reason != Reason::Platform || may_be_manifest || !way.kept {
                self.leave_out(digest, row.reason, row.size);
                return None;
            }
            let text = "the record leaves it out with its platform, but a manifest that travels needs it";
            return Some((self.lose(descriptor, way, text), None));
        }
        if let Some(at) = self.subject.rebuilt(digest) {
            return Some((self.rebuild(at, descriptor, way, may_be_manifest), None));
        }
        if !self.subject.recorded {
            // Who packed this does not say what is left out. Other producers leave out platforms and foreign layers.
            let reason = match may_be_manifest {
                true if way.parent.is_some() && !self.subject.strict => Some(Reason::Source),
                false if way.left_out => Some(Reason::Platform),
                false if media_type::is_foreign_layer(&descriptor.media_type) => Some(Reason::Foreign),
                _ => None,
            };
            if let Some(reason) = reason {
                self.leave_out(digest, reason, descriptor.size);
                return None;
            }
            return Some((self.lose(descriptor, way, "a manifest needs it and it is not here"), None));
        }
        let text = match way.parent.and_then(|parent| self.digest(parent)) {
            Some(parent) => format!("{parent} needs it; the record lists it neither as held nor as left out"),
            None => "an image's root, which the record lists neither as held nor as left out".to_owned(),
        };
        Some((self.lose(descriptor, way, &text), None))
    }

    /// Takes note of content that is rebuilt by the patch in row `at`; returns its node.
    fn rebuild(&mut self, at: usize, descriptor: &Descriptor, way: &Way, may_be_manifest: bool) -> NodeId {
        let row = &self.subject.patches[at];
        // What a root or an attachment is, only the record says here.
        let is_named = way.parent.is_none() || way.attached;
        if may_be_manifest && (is_named || is_manifest(descriptor)) {
            let text = "the record has it rebuilt by a patch, and manifests always travel";
            return self.lose(descriptor, way, text);
        }
        let node = self.subject.target_node(at);
        if row.size != descriptor.size {
            let text = format!(
                "a manifest gives it {} bytes, and the record rebuilds it with {}",
                descriptor.size, row.size
            );
            self.findings.content("size-mismatch", &row.target, None, text);
            self.closure.unsound.insert(node);
        }
        self.closure.relying.extend(way.parent);
        if way.kept && !way.left_out {
            self.link(node, way);
            self.follow(at);
        }
        node
    }

    /// Reaches a patch and what it builds on, and what that is rebuilt from in turn.
    fn follow(&mut self, at: usize) {
        let mut stack = vec![at];
        while let Some(at) = stack.pop() {
            if !self.rebuilt.insert(at) {
                continue;
            }
            let row = &self.subject.patches[at];
            let parent = self.subject.target_node(at);
            for digest in std::iter::once(&row.patch).chain(&row.bases) {
                let child = if let Some((held, _)) = self.subject.blobs.find(digest) {
                    self.closure.reached[held] = true;
                    held as NodeId
                } else if let Some(below) = self.subject.rebuilt(digest) {
                    stack.push(below);
                    self.subject.target_node(below)
                } else {
                    continue;
                };
                self.closure.edges.push(Edge { child, parent, attached: false });
            }
        }
    }

    fn link(&mut self, child: NodeId, way: &Way) {
        if let Some(parent) = way.parent.filter(|parent| *parent != child) {
            self.closure.edges.push(Edge { child, parent, attached: way.attached });
        }
    }

    fn lose(&mut self, descriptor: &Descriptor, way: &Way, text: &str) -> NodeId {
        let first = self.subject.first_lost();
        let node = if let Some(node) = self.closure.lost_ids.get(&descriptor.digest) {
            *node
        } else {
            let node = first + self.closure.lost.len() as NodeId;
            let mut brief = descriptor.clone();
            brief.data = None;
            self.closure.lost.push(brief);
            self.closure.lost_ids.insert(descriptor.digest.clone(), node);
            self.findings.content("closure-missing", &descriptor.digest, None, text);
            node
        };
        self.link(node, way);
        node
    }

    fn leave_out(&mut self, digest: &Digest, reason: Reason, size: u64) {
        if self.closure.absent_seen.insert(digest.clone()) {
            self.closure.absent.entry(reason).or_default().add(size);
        }
    }

    fn digest(&self, node: NodeId) -> Option<&Digest> {
        self.subject.blobs.get(node as usize).map(|row| row.digest)
    }

    /// Checks the copy of content that a descriptor may carry.
    fn check_data(&mut self, descriptor: &Descriptor, manifest: &Digest) {
        let Some(data) = &descriptor.data else { return };
        let text = match base64::engine::general_purpose::STANDARD.decode(data) {
            Err(_) => format!("its copy in {manifest} is no base64"),
            Ok(bytes) if bytes.len() as u64 != descriptor.size => {
                format!("its copy in {manifest} has {} bytes where {} belong", bytes.len(), descriptor.size)
            }
            Ok(bytes) if !descriptor.digest.matches(&bytes) => {
                format!("its copy in {manifest} is other content")
            }
            Ok(_) => return,
        };
        self.findings.content("data-mismatch", &descriptor.digest, None, text);
        if let Some((at, _)) = self.subject.blobs.find(&descriptor.digest) {
            self.closure.unsound.insert(at as NodeId);
        }
    }
}

impl Closure {
    /// Finds the node of a digest.
    pub(super) fn node(&self, subject: &Subject, digest: &Digest) -> Option<NodeId> {
        let row = subject.blobs.find(digest).map(|(at, _)| at as NodeId);
        let rebuilt = || subject.rebuilt(digest).map(|at| subject.target_node(at));
        // Of what is in a table and lost all the same, the loss counts.
        self.lost_ids.get(digest).copied().or(row).or_else(rebuilt)
    }

    /// Returns what needs a node.
    pub(super) fn parents(&self, child: NodeId) -> &[Edge] {
        let start = self.edges.partition_point(|edge| edge.child < child);
        let count = self.edges[start..].partition_point(|edge| edge.child == child);
        &self.edges[start..start + count]
    }

    /// Returns which nodes need content that is left out because the far side has it.
    pub(super) fn reliance(&self, subject: &Subject) -> Reliance {
        let lost =
            self.lost.iter().enumerate().filter(|(_, lost)| lost.media_type.is_empty() || is_manifest(lost));
        let lost = lost.map(|(at, _)| subject.first_lost() + at as NodeId);
        let unread = self.unread.iter().copied().chain(lost);
        Reliance { relying: self.above(self.relying.iter().copied()), unread: self.above(unread) }
    }

    /// Returns nodes with all that list them.
    fn above(&self, nodes: impl Iterator<Item = NodeId>) -> HashSet<NodeId> {
        let mut seen: HashSet<NodeId> = nodes.collect();
        let mut stack: Vec<NodeId> = seen.iter().copied().collect();
        while let Some(node) = stack.pop() {
            let listing = self.parents(node).iter().filter(|edge| !edge.attached).map(|edge| edge.parent);
            stack.extend(listing.filter(|parent| seen.insert(*parent)));
        }
        seen
    }

    /// Returns whether a node is whole.
    pub(super) fn is_sound(&self, subject: &Subject, node: NodeId) -> bool {
        let is_there = match subject.states.get(node as usize) {
            Some(state) => matches!(state, State::Whole | State::Unread),
            // What is rebuilt is as good as what it is rebuilt from.
            None => node < subject.first_lost(),
        };
        is_there && !self.unsound.contains(&node)
    }
}

/// Returns whether a child of an index is read as a manifest, as when packing.
fn is_manifest(child: &Descriptor) -> bool {
    media_type::is_manifest(&child.media_type)
        || media_type::is_schema1(&child.media_type)
        || (child.media_type.is_empty() && choosable(child).is_some())
}
