//! What a graph relies on: content that does not travel because the far side has it, and where it was seen there.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use super::patched::FarContent;
use super::{Graph, Kind, NodeId, Presence};
use crate::oci::{Digest, RepositoryName};
use crate::select::Reason;

/// What a base is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseKind {
    /// A bundle, or its sidecar.
    Bundle,
    /// An inventory that was taken of a registry.
    Inventory,
    /// An OCI layout of another producer.
    Layout,
    /// What a push wrote about what it left in place.
    Receipt,
    /// A registry that was looked at while packing.
    Registry,
    /// A request: everything but what it asks for is taken for present.
    Request,
}

/// A base, as a record names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BaseEntry {
    /// The bundle ID, or the digest of the content part of anything else.
    pub id: Digest,
    /// What the base is.
    pub kind: BaseKind,
    /// File name of a bundle, by which people know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// State code of the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A repository in which a base saw content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// A path at the target, below the place that was looked at.
    Path(String),
    /// A repository that content came from, whatever it is called at the target.
    Source(RepositoryName),
}

/// What is known of a far side, as far as a graph needs it.
pub trait Holds {
    /// Returns where content was seen; none if the far side is not known to have it.
    fn seen(&self, digest: &Digest, size: u64) -> Option<Vec<Seen>>;

    /// Returns where content may be of which that is not known: a sidecar says what a bundle brought, and not where.
    fn anywhere(&self) -> Vec<Seen> {
        Vec::new()
    }
}

/// What a graph relies on.
#[derive(Debug, Clone, Default)]
pub struct Reliance {
    /// The bases, sorted.
    pub bases: Vec<BaseEntry>,
    /// Names that the bases have and that are no longer wanted, sorted.
    pub removed: Vec<String>,
    /// The repositories where content was seen, sorted.
    pub repositories: Vec<Seen>,
    /// Content that patches build on, sorted by digest: length in bytes, and places in the list of repositories.
    pub content: Vec<(Digest, u64, Vec<u32>)>,
    places: HashMap<NodeId, Vec<u32>>,
}

impl Reliance {
    /// Returns where content was seen, as places in [`Reliance::repositories`].
    #[must_use]
    pub fn places(&self, id: NodeId) -> &[u32] {
        self.places.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// Notes places where content may be of which that is not known.
    pub fn add_places(&mut self, places: Vec<Seen>) {
        self.renumber(places);
    }

    /// Adds to the list of repositories, keeping it sorted.
    fn renumber(&mut self, more: impl IntoIterator<Item = Seen>) {
        let old = std::mem::take(&mut self.repositories);
        let mut all: IndexSet<Seen> = old.iter().cloned().collect();
        all.extend(more);
        all.sort();
        let place = |seen: &Seen| all.get_index_of(seen).unwrap_or_default() as u32;
        let moved: Vec<u32> = old.iter().map(place).collect();
        // The list stays sorted, so what is moved keeps its order.
        let rows = self.content.iter_mut().map(|(_, _, places)| places);
        for at in self.places.values_mut().chain(rows).flatten() {
            *at = moved[*at as usize];
        }
        self.repositories = all.into_iter().collect();
    }

    /// Notes content that patches build on, and where it was seen.
    pub fn add_content(&mut self, content: FarContent) {
        self.renumber(content.values().flat_map(|(_, seen)| seen).cloned().collect::<Vec<_>>());
        for (digest, (size, seen)) in content {
            let place = |seen: &Seen| self.repositories.binary_search(seen).ok().map(|at| at as u32);
            let places: BTreeSet<u32> = seen.iter().filter_map(place).collect();
            self.content.push((digest, size, places.into_iter().collect()));
        }
        self.content.sort();
        self.content.dedup_by(|a, b| a.0 == b.0);
    }
}

/// Returns whether content of a kind is left out where the far side has it: what an image manifest refers to. Entries of
/// an index that are no manifests are few, and nobody proves them.
fn is_reliable(kind: Kind) -> bool {
    matches!(kind, Kind::Config | Kind::Layer)
}

impl Graph {
    /// Leaves out the configs and layers that the far side has. Manifests stay, so that what the rest belongs to can be
    /// read offline; so does content of no bytes, whose presence nothing can prove.
    ///
    /// Content that was left out before because of a base, as the record of a delta bundle says, is relied on all the
    /// same; `known` tells where it was seen.
    pub fn rely_on(
        &mut self,
        bases: Vec<BaseEntry>,
        removed: BTreeSet<String>,
        holds: &dyn Holds,
        known: &dyn Holds,
    ) {
        let mut seen_at: HashMap<NodeId, Vec<Seen>> = HashMap::new();
        for (id, digest, node) in self.nodes() {
            let seen = match node.presence {
                Presence::Shipped if is_reliable(node.kind) && node.size > 0 => holds.seen(digest, node.size),
                Presence::Absent(Reason::Base) => {
                    let mut all = holds.seen(digest, node.size).unwrap_or_default();
                    all.extend(known.seen(digest, node.size).unwrap_or_default());
                    Some(all)
                }
                _ => None,
            };
            if let Some(seen) = seen {
                seen_at.insert(id, seen);
            }
        }
        for id in seen_at.keys() {
            self.leave_out(*id, Reason::Base);
        }
        let mut repositories: IndexSet<Seen> = seen_at.values().flatten().cloned().collect();
        if seen_at.values().any(Vec::is_empty) {
            repositories.extend(holds.anywhere());
            repositories.extend(known.anywhere());
        }
        repositories.sort();
        let places = seen_at.into_iter().map(|(id, seen)| {
            let places: BTreeSet<u32> =
                seen.iter().filter_map(|one| repositories.get_index_of(one)).map(|at| at as u32).collect();
            (id, places.into_iter().collect())
        });
        let mut bases = bases;
        bases.sort();
        bases.dedup();
        self.reliance = Some(Reliance {
            bases,
            removed: removed.into_iter().collect(),
            content: Vec::new(),
            places: places.collect(),
            repositories: repositories.into_iter().collect(),
        });
    }
}
