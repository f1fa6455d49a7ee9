//! Several bundles in the order in which they follow each other, whatever the order in which they were named.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Bundle;
use super::record::ImageEntry;
use crate::graph::Part;
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
    /// What it is in what was asked for.
    pub part: Part,
    /// Digest of its root.
    pub root: Digest,
    /// Place in [`Chain::bundles`] of the bundle that says so.
    pub bundle: usize,
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
    /// The names of images that could not be had when the bundles were packed, and that none of them has.
    pub failed: BTreeSet<String>,
    /// What the bundles follow and is not among them.
    pub unfollowed: Vec<Unfollowed>,
    /// Names that mean different images in bundles of which neither follows the other: the name, the earlier bundle, and
    /// the later, which counts.
    pub ambiguous: Vec<(String, String, String)>,
    /// What the bundles together build on: the bases that none of them stands for, sorted.
    pub bases: Vec<BaseEntry>,
    given: Given,
}

/// The IDs of bundles, by the state in which they leave a target.
#[derive(Default)]
struct Given {
    ids: HashSet<Digest>,
    by_state: HashMap<String, Vec<Digest>>,
}

impl Given {
    fn of(bundles: &[Arc<Bundle>]) -> Self {
        let mut given = Self { ids: HashSet::new(), by_state: HashMap::new() };
        for (id, record) in bundles.iter().filter_map(|bundle| Some((bundle.id()?, bundle.record()?))) {
            given.ids.insert(id.clone());
            given.by_state.entry(record.state()).or_default().push(id.clone());
        }
        given
    }

    /// Returns the bundle that is `base`; if it is not given, those that lead to the same state: who was told of
    /// February by the full bundle may have got it by a delta.
    fn standing_for(&self, base: &BaseEntry) -> Vec<Digest> {
        if self.ids.contains(&base.id) {
            return vec![base.id.clone()];
        }
        let same = base.state.as_ref().and_then(|state| self.by_state.get(state));
        same.cloned().unwrap_or_default()
    }
}

/// What a bundle comes after, of the bundles that lead to its base.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    All,
    One,
    Named,
}

impl Chain {
    /// Puts bundles in order: full ones before deltas, and each delta after what it follows; otherwise as given.
    ///
    /// # Errors
    /// What reading the index of a layout says.
    pub fn of(given: Vec<Arc<Bundle>>) -> Result<Self> {
        let mut seen = HashSet::new();
        let mut left: Vec<Arc<Bundle>> =
            given.into_iter().filter(|bundle| bundle.id().is_none_or(|id| seen.insert(id.clone()))).collect();
        left.sort_by_key(|bundle| is_delta(bundle));
        let given = Given::of(&left);
        let mut bundles: Vec<Arc<Bundle>> = Vec::new();
        while !left.is_empty() {
            let is_way = |bundle: &Arc<Bundle>, other: &Arc<Bundle>, ways: &[Digest]| {
                other.id() != bundle.id() && other.id().is_some_and(|id| ways.contains(id))
            };
            // Waits for all that lead to its base, for one of them, or only for what its record names.
            let waits = |bundle: &Arc<Bundle>, how: Waiting| {
                bases(bundle).any(|base| {
                    let ways = match how {
                        Waiting::Named => vec![base.id.clone()],
                        Waiting::All | Waiting::One => given.standing_for(base),
                    };
                    let came = || bundles.iter().any(|other| is_way(bundle, other, &ways));
                    left.iter().any(|other| is_way(bundle, other, &ways)) && !(how == Waiting::One && came())
                })
            };
            // IDs are digests and make no circle; states may, where a delta leads back to one that was before.
            let free = [Waiting::All, Waiting::One, Waiting::Named]
                .into_iter()
                .find_map(|how| left.iter().position(|bundle| !waits(bundle, how)))
                .unwrap_or(0);
            bundles.push(left.remove(free));
        }
        let mut chain = Self::default();
        let mut earlier: HashSet<&Digest> = HashSet::new();
        let mut follows: Vec<HashSet<usize>> = Vec::new();
        for (at, bundle) in bundles.iter().enumerate() {
            for base in bases(bundle) {
                if given.standing_for(base).iter().any(|id| earlier.contains(id)) {
                    continue;
                }
                if base.kind == BaseKind::Bundle {
                    chain.unfollowed.push(Unfollowed { bundle: file_name(bundle), base: base.clone() });
                }
                chain.bases.push(base.clone());
            }
            let ways: Vec<Digest> = bases(bundle).flat_map(|base| given.standing_for(base)).collect();
            let mut before: HashSet<usize> = HashSet::new();
            for (other, followed) in follows.iter().enumerate() {
                if bundles[other].id().is_some_and(|id| ways.contains(id)) {
                    before.insert(other);
                    before.extend(followed);
                }
            }
            // A delta of which no base is given comes after what a full bundle says.
            let is_loose = is_delta(bundle) && before.is_empty();
            let comes_after =
                |other: usize| before.contains(&other) || (is_loose && !is_delta(&bundles[other]));
            chain.take(at, bundle, &comes_after, &bundles)?;
            follows.push(before);
            earlier.extend(bundle.id());
        }
        chain.bases.sort();
        chain.bases.dedup();
        chain.bundles = bundles;
        chain.given = given;
        Ok(chain)
    }

    /// Returns whether one of the bundles is a base, or leads to the same state. What builds on the base and changes
    /// nothing leads to its state too, and does not stand for it.
    #[must_use]
    pub fn has(&self, base: &BaseEntry) -> bool {
        let ways = self.given.standing_for(base);
        let stands = |bundle: &Arc<Bundle>| bundle.id().is_some_and(|id| ways.contains(id));
        self.bundles.iter().any(|bundle| stands(bundle) && !bases(bundle).any(|own| own.id == base.id))
    }

    /// Takes over what a bundle says of names; `follows` tells whether it comes after another one for a reason.
    fn take(
        &mut self,
        at: usize,
        bundle: &Bundle,
        follows: &dyn Fn(usize) -> bool,
        bundles: &[Arc<Bundle>],
    ) -> Result<()> {
        let record = bundle.record();
        let removed = record.and_then(|record| record.base.as_ref()).map(|base| base.removed.as_slice());
        for name in removed.unwrap_or_default() {
            self.images.retain(|known, member| known != name && member.name.path() != *name);
            self.removed.insert(name.clone());
        }
        let failed = record.into_iter().flat_map(|record| &record.failed).map(|entry| entry.name.to_string());
        self.failed.extend(failed.filter(|name| !self.images.contains_key(name)));
        let images = record.into_iter().flat_map(|record| &record.images);
        let entries: HashMap<&Reference, &ImageEntry> = images.map(|image| (&image.name, image)).collect();
        for (name, descriptor) in bundle.names()? {
            let named = name.and_then(|name| name.parse::<Reference>().ok());
            let Some(name) = named.map(Reference::with_default_tag) else { continue };
            if name.tag.as_deref().is_some_and(is_attached_tag) {
                continue;
            }
            let text = name.to_string();
            self.removed.remove(&text);
            self.failed.remove(&text);
            self.removed.remove(&name.path());
            let entry = entries.get(&name);
            let reference = entry.and_then(|entry| entry.reference.clone());
            let part = entry.map(|entry| entry.part).unwrap_or_default();
            let member = Member { name, reference, part, root: descriptor.digest, bundle: at };
            let root = member.root.clone();
            if let Some(replaced) = self.images.insert(text.clone(), member)
                && replaced.root != root
                && !follows(replaced.bundle)
            {
                let (earlier, later) = (file_name(&bundles[replaced.bundle]), file_name(bundle));
                self.ambiguous.push((text, earlier, later));
            }
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
