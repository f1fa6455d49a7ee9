//! Several bundles in the order in which they follow each other, whatever the order in which they were named.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Bundle, Record};
use crate::graph::reliance::{BaseEntry, BaseKind};
use crate::oci::{Digest, Reference};
use crate::store::{Result, is_attached_tag};

/// An image of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name under which it travels.
    pub name: Reference,
    /// What it was pulled by, where a record says that.
    pub reference: Option<Reference>,
    /// Digest of its root.
    pub root: Digest,
}

/// A bundle that follows one which is not among those given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfollowed {
    /// File name of the bundle.
    pub bundle: String,
    /// What it follows.
    pub base: BaseEntry,
}

/// Bundles in order.
#[derive(Default)]
pub struct Chain {
    /// The bundles, each after those it builds on; each once.
    pub bundles: Vec<Arc<Bundle>>,
    /// The images by name; of several under one name, that of the last bundle.
    pub images: BTreeMap<String, Member>,
    /// The names that are no longer wanted.
    pub removed: BTreeSet<String>,
    /// What the bundles follow and is not among them.
    pub unfollowed: Vec<Unfollowed>,
    links: Vec<Link>,
}

/// A bundle with the state code that a target has once it was pushed.
struct Link {
    bundle: Arc<Bundle>,
    state: Option<String>,
}

impl Link {
    fn leads_to(&self, base: &BaseEntry) -> bool {
        self.bundle.id() == Some(&base.id) || (base.state.is_some() && base.state == self.state)
    }
}

impl Chain {
    /// Puts bundles in order: full ones before deltas, and each delta after what it follows; otherwise as given.
    ///
    /// A delta follows the bundle that its record names, and any that leaves a target in the same state: what was packed
    /// whole and kept, and what was sent of it, lead to the same.
    ///
    /// # Errors
    /// What reading the index of a layout says.
    pub fn of(given: Vec<Arc<Bundle>>) -> Result<Self> {
        let mut seen = HashSet::new();
        let mut left: Vec<Link> = given
            .into_iter()
            .filter(|bundle| bundle.id().is_none_or(|id| seen.insert(id.clone())))
            .map(|bundle| Link { state: bundle.record().map(Record::state), bundle })
            .collect();
        left.sort_by_key(|link| is_delta(&link.bundle));
        let mut chain = Self::default();
        while !left.is_empty() {
            let waits = |link: &Link| {
                bases(&link.bundle).any(|base| {
                    let leads =
                        |other: &&Link| !Arc::ptr_eq(&other.bundle, &link.bundle) && other.leads_to(base);
                    !chain.links.iter().any(|link| link.leads_to(base))
                        && left.iter().any(|other| leads(&other))
                })
            };
            // Bundles that lead back to an earlier state may wait for each other; then the order given counts.
            let free = left.iter().position(|link| !waits(link)).unwrap_or(0);
            chain.links.push(left.remove(free));
        }
        let bundles: Vec<Arc<Bundle>> = chain.links.iter().map(|link| link.bundle.clone()).collect();
        for bundle in &bundles {
            let unfollowed: Vec<Unfollowed> = bases(bundle)
                .filter(|base| base.kind == BaseKind::Bundle && !chain.has(base))
                .map(|base| Unfollowed { bundle: file_name(bundle), base: base.clone() })
                .collect();
            chain.unfollowed.extend(unfollowed);
            chain.take(bundle)?;
        }
        chain.bundles = bundles;
        Ok(chain)
    }

    /// Returns whether one of the bundles is a base, or leads to the same state.
    #[must_use]
    pub fn has(&self, base: &BaseEntry) -> bool {
        self.links.iter().any(|link| link.leads_to(base))
    }

    /// Takes over what a bundle says of names.
    fn take(&mut self, bundle: &Bundle) -> Result<()> {
        let record = bundle.record();
        let removed = record.and_then(|record| record.base.as_ref()).map(|base| base.removed.as_slice());
        for name in removed.unwrap_or_default() {
            self.images.retain(|known, member| known != name && member.name.path() != *name);
            self.removed.insert(name.clone());
        }
        let images = record.into_iter().flat_map(|record| &record.images);
        let references: HashMap<&Reference, &Option<Reference>> =
            images.map(|image| (&image.name, &image.reference)).collect();
        for (name, descriptor) in bundle.names()? {
            let named = name.and_then(|name| name.parse::<Reference>().ok());
            let Some(name) = named.map(Reference::with_default_tag) else { continue };
            if name.tag.as_deref().is_some_and(is_attached_tag) {
                continue;
            }
            let text = name.to_string();
            self.removed.remove(&text);
            self.removed.remove(&name.path());
            let reference = references.get(&name).and_then(|reference| (*reference).clone());
            self.images.insert(text, Member { name, reference, root: descriptor.digest });
        }
        Ok(())
    }

    /// Returns whether every bundle is a delta.
    #[must_use]
    pub fn is_all_deltas(&self) -> bool {
        self.bundles.iter().all(|bundle| is_delta(bundle))
    }

    /// Returns what the bundles after the first follow and is not among them, nor what the first follows.
    #[must_use]
    pub fn unfollowed_between(&self) -> Vec<Unfollowed> {
        let Some(first) = self.bundles.first() else { return Vec::new() };
        let is_below = |one: &&Unfollowed| !bases(first).any(|base| base.id == one.base.id);
        self.unfollowed.iter().filter(is_below).cloned().collect()
    }

    /// Returns what the bundles together build on: the bases that are not among them, sorted.
    #[must_use]
    pub fn bases(&self) -> Vec<BaseEntry> {
        let all = self.bundles.iter().flat_map(|bundle| bases(bundle));
        let mut all: Vec<BaseEntry> = all.filter(|base| !self.has(base)).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

fn bases(bundle: &Bundle) -> impl Iterator<Item = &BaseEntry> {
    bundle.record().and_then(|record| record.base.as_ref()).into_iter().flat_map(|base| &base.bases)
}

/// Returns whether a bundle builds on something.
fn is_delta(bundle: &Bundle) -> bool {
    bundle.record().is_some_and(|record| record.base.is_some())
}

/// Returns the name by which people know a bundle.
#[must_use]
pub fn file_name(bundle: &Bundle) -> String {
    let path = bundle.path();
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
