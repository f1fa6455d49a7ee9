//! What differs between a far side and what is wanted there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{FarSide, KnownImage};
use crate::graph::reliance::Holds;
use crate::graph::{Graph, Presence};
use crate::inventory::{Inventory, Scope};
use crate::oci::{Digest, media_type};
use crate::select::Reason;

/// Content, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many pieces.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Names that the far side does not have.
    pub new: Vec<String>,
    /// Names that mean something else there.
    pub changed: Vec<String>,
    /// Names that mean the same there, of which it lacks some content: platforms, or attached content.
    pub widened: Vec<String>,
    /// How many names mean the same there, with all their content.
    pub same: usize,
    /// Names that it has and that are no longer wanted.
    pub removed: Vec<String>,
    /// Manifests that travel.
    pub manifests: Amount,
    /// Configs and layers that travel.
    pub blobs: Amount,
    /// Configs and layers that stay behind because the far side has them.
    pub relied: Amount,
}

impl Comparison {
    /// Returns whether the far side lacks or has anything that it should not.
    #[must_use]
    pub fn differs(&self) -> bool {
        !(self.new.is_empty()
            && self.changed.is_empty()
            && self.widened.is_empty()
            && self.removed.is_empty())
    }

    fn sort(&mut self, name: String, root: &Digest, there: Option<&Digest>, is_whole: bool) {
        match there {
            None => self.new.push(name),
            Some(other) if other != root => self.changed.push(name),
            Some(_) if !is_whole => self.widened.push(name),
            Some(_) => self.same += 1,
        }
    }
}

impl FarSide {
    /// Compares with a graph that was told to rely on this far side.
    #[must_use]
    pub fn compare(&self, graph: &Graph, removed: BTreeSet<String>) -> Comparison {
        let there = self.by_name();
        // Of a base without names only what it holds can be compared.
        let is_nameless = there.is_empty() && !self.is_empty();
        let mut comparison = Comparison { removed: removed.into_iter().collect(), ..Comparison::default() };
        for (_, _, node) in graph.nodes() {
            match node.presence {
                Presence::Shipped if node.kind.is_manifest() => comparison.manifests.add(node.size),
                // Content of no bytes travels always and says nothing.
                Presence::Shipped if node.size > 0 => comparison.blobs.add(node.size),
                Presence::Absent(Reason::Base) => comparison.relied.add(node.size),
                _ => {}
            }
        }
        for image in &graph.images {
            let travels = |id: &u32| {
                let node = graph.node(*id);
                let is_lacking = !node.kind.is_manifest() && node.size > 0;
                is_lacking && node.presence == Presence::Shipped
            };
            let is_whole = !graph.image_closure(image).iter().any(travels);
            let name = image.name.to_string();
            let found = there.get(&name).or_else(|| there.get(&image.name.path())).copied();
            if is_nameless && is_whole {
                comparison.same += 1;
                continue;
            }
            comparison.sort(name, graph.digest(image.root), found, is_whole);
        }
        comparison
    }

    fn by_name(&self) -> BTreeMap<String, &Digest> {
        let mut names = BTreeMap::new();
        for image in &self.images {
            for key in image.keys() {
                names.entry(key).or_insert(&image.root);
            }
        }
        names
    }
}

/// Compares a far side with the inventory of what is wanted there. Which image needs which content an inventory does not
/// say, so nothing is told of images that are only widened.
#[must_use]
pub fn compare_inventory(far_side: &FarSide, wanted: &Inventory, only: &[String]) -> Comparison {
    let there = far_side.by_name();
    let is_meant =
        |image: &KnownImage| only.is_empty() || only.iter().any(|wanted| image.is_meant_by(wanted));
    let images: Vec<KnownImage> = super::Known::of_inventory_images(wanted).filter(is_meant).collect();
    let mut comparison = Comparison::default();
    let mut names = BTreeSet::new();
    let mut repositories = BTreeSet::new();
    for image in &images {
        names.extend(image.keys().chain(image.path.clone()));
        repositories.extend(image.repository().map(ToOwned::to_owned));
        let found = image.keys().chain(image.path.clone()).find_map(|key| there.get(&key).copied());
        let name = image.shown().unwrap_or_else(|| image.root.to_string());
        comparison.sort(name, &image.root, found, true);
    }
    for row in wanted.content.holdings.iter() {
        let is_meant = || only.is_empty() || row.repositories().any(|name| repositories.contains(name));
        if !is_meant() {
            continue;
        }
        let is_held = far_side.seen(row.digest, row.size).is_some();
        match (media_type::is_manifest(row.media_type), is_held) {
            (true, false) => comparison.manifests.add(row.size),
            (true, true) => {}
            (false, true) => comparison.relied.add(row.size),
            (false, false) => comparison.blobs.add(row.size),
        }
    }
    // An inventory says of what it looked at that it is gone, and of nothing else.
    let looked_at = wanted.content.holdings.repositories();
    let failed: BTreeSet<&str> = wanted.failed.iter().filter_map(|row| row.name.as_deref()).collect();
    let covers = |image: &KnownImage| match wanted.scope {
        Scope::Registry => !image.path.as_deref().is_some_and(|path| failed.contains(path)),
        Scope::Repositories => {
            let listed = |name: &str| looked_at.iter().any(|known| known == name);
            image.repository().is_some_and(listed)
                && !image.path.as_deref().is_some_and(|path| failed.contains(path))
        }
        Scope::Images => false,
    };
    let gone = far_side.images.iter().filter(|image| is_meant(image) && covers(image));
    let gone = gone.filter(|image| !image.keys().any(|key| names.contains(&key)));
    comparison.removed = gone.filter_map(KnownImage::shown).collect();
    comparison
}
