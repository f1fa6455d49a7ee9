//! Bases: what the far side is known to have, from whatever tells it.
//!
//! An inventory, a receipt, a bundle or its sidecar, a layout, a live registry and a request are all loaded into a
//! [`Known`]; [`FarSide`] joins several. Nothing here is believed: what a bundle leaves out because of a base is proved
//! at the target before a push changes anything.

mod compare;
mod contents;
mod known;
mod load;

use std::collections::{BTreeMap, BTreeSet};

pub use compare::{Amount, Comparison, compare_inventory};
pub use contents::{Contents, OpenRepository};
pub use known::{Known, KnownImage, Table};
pub use load::{BaseError, load_file, media_type_of};

use crate::graph::Graph;
use crate::graph::reliance::{BaseEntry, BaseKind, Holds, Seen};
use crate::inventory::Scope;
use crate::oci::Digest;
use crate::request::Request;

/// What several bases together mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// What any of them has: for one target of which several things are known.
    Union,
    /// What all of them have: for one bundle that fits several targets.
    Common,
}

/// Bases that can't be joined without being told how.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bases are of different targets: {}", .0.join(", "))]
pub struct DifferentTargets(pub Vec<String>);

/// What is known of the far side.
#[derive(Debug, Default)]
pub struct FarSide {
    /// The bases, as a record names them.
    pub entries: Vec<BaseEntry>,
    /// The images it has, where that is known.
    pub images: Vec<KnownImage>,
    table: Table,
    /// What alone is not taken for present.
    request: Option<Request>,
}

impl FarSide {
    /// Joins bases. One target's inventories and receipts are taken together, the newest word on each repository
    /// counting; bundles and layouts add up.
    ///
    /// # Errors
    /// [`DifferentTargets`] if they are of several targets and `joining` does not say what that means.
    pub fn join(mut bases: Vec<Known>, joining: Option<Joining>) -> Result<Self, DifferentTargets> {
        let targets: BTreeSet<String> = bases.iter().map(Known::target_name).collect();
        if targets.len() > 1 && joining.is_none() {
            return Err(DifferentTargets(targets.into_iter().collect()));
        }
        let entries = bases.iter().map(|base| base.entry.clone()).collect();
        bases.sort_by(|a, b| a.taken.cmp(&b.taken));
        let mut by_target: BTreeMap<String, Vec<Known>> = BTreeMap::new();
        for base in bases {
            by_target.entry(base.target_name()).or_default().push(base);
        }
        let mut whole: Option<Self> = None;
        for (_, of_one) in by_target {
            let one = Self::of_one_target(of_one);
            whole = Some(match (whole, joining) {
                (None, _) => one,
                (Some(whole), Some(Joining::Common)) => whole.common(&one),
                (Some(whole), _) => whole.union(one),
            });
        }
        Ok(Self { entries, ..whole.unwrap_or_default() })
    }

    /// Everything but what a request asks for.
    #[must_use]
    pub fn all_but(request: Request) -> Self {
        let entry = BaseEntry { id: request.id(), kind: BaseKind::Request, name: None, state: None };
        Self { entries: vec![entry], request: Some(request), ..Self::default() }
    }

    /// Joins what is known of one target, oldest first.
    fn of_one_target(bases: Vec<Known>) -> Self {
        let mut joined = Self::default();
        let mut bases = std::collections::VecDeque::from(bases);
        while let Some(Known { mut table, mut images, .. }) = bases.pop_front() {
            let later: Vec<(Scope, BTreeSet<String>)> = bases
                .iter()
                .filter(|base| matches!(base.entry.kind, BaseKind::Inventory | BaseKind::Registry))
                .filter_map(|base| Some((base.scope?, base.table.paths())))
                .collect();
            let is_replaced = |path: &str| {
                later.iter().any(|(scope, paths)| match scope {
                    Scope::Registry => true,
                    Scope::Repositories => paths.contains(path),
                    Scope::Images => false,
                })
            };
            if !later.is_empty() {
                table.retain_places(|seen| !matches!(seen, Seen::Path(path) if is_replaced(path)));
                images.retain(|image| !image.repository().is_some_and(is_replaced));
            }
            // What a name means is what the newest says.
            let named: BTreeSet<String> = images.iter().flat_map(KnownImage::keys).collect();
            joined.images.retain(|image| !image.keys().any(|key| named.contains(&key)));
            joined = joined.union(Self { images, table, ..Self::default() });
        }
        joined
    }

    fn union(mut self, other: Self) -> Self {
        self.table.add_all(&other.table);
        self.images.extend(other.images);
        self.images.sort();
        self.images.dedup();
        self
    }

    fn common(mut self, other: &Self) -> Self {
        self.table.keep_common(&other.table);
        self.images.retain(|image| other.images.contains(image));
        self
    }

    /// Returns how many pieces of content are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lists the names that the far side has and `graph` has not, among those that `covered` says are in question.
    #[must_use]
    pub fn removed(&self, graph: &Graph, covered: &dyn Fn(&KnownImage) -> bool) -> BTreeSet<String> {
        let names: BTreeSet<String> =
            graph.images.iter().flat_map(|image| [image.name.to_string(), image.name.path()]).collect();
        self.images
            .iter()
            .filter(|image| covered(image) && !image.keys().any(|key| names.contains(&key)))
            .filter_map(KnownImage::shown)
            .collect()
    }
}

impl Holds for FarSide {
    fn seen(&self, digest: &Digest, size: u64) -> Option<Vec<Seen>> {
        match &self.request {
            Some(request) => request.find(digest).is_none().then(Vec::new),
            None => self.table.seen(digest, size),
        }
    }

    fn anywhere(&self) -> Vec<Seen> {
        self.table.loose_places().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Content, Gathering, ImageRow, Inventory, Kind};

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn document(kind: Kind, target: &str, taken: &str, scope: Scope, held: &[(&str, &str)]) -> Known {
        let mut gathering = Gathering::default();
        let mut images = Vec::new();
        for (blob, repository) in held {
            gathering.add(&digest(blob), 1, "application/x", Some(repository));
            images.push(ImageRow {
                name: Some(format!("{repository}:v1")),
                platforms: Vec::new(),
                root: digest(repository),
                source: None,
            });
        }
        let content = Content::new(images, gathering.finish());
        let mut inventory = Inventory::new(kind, target.to_owned(), scope, content);
        inventory.taken = taken.to_owned();
        Known::of_inventory(inventory)
    }

    fn inventory(target: &str, taken: &str, scope: Scope, held: &[(&str, &str)]) -> Known {
        document(Kind::Inventory, target, taken, scope, held)
    }

    fn has(far_side: &FarSide, names: &[&str]) -> Vec<bool> {
        names.iter().map(|name| far_side.seen(&digest(name), 1).is_some()).collect()
    }

    const JAN: &str = "2026-01-01T00:00:00Z";
    const FEB: &str = "2026-02-01T00:00:00Z";

    #[test]
    fn the_newest_inventory_replaces_older_ones_per_repository_and_later_receipts_add() {
        let old = || inventory("b", JAN, Scope::Registry, &[("x", "app"), ("y", "tool")]);
        let join = |bases| FarSide::join(bases, None).unwrap();
        let of_app = || inventory("b", FEB, Scope::Repositories, &[("z", "app")]);
        assert_eq!(has(&join(vec![of_app(), old()]), &["x", "y", "z"]), [false, true, true]);
        let of_all = inventory("b", FEB, Scope::Registry, &[("z", "app")]);
        assert_eq!(has(&join(vec![old(), of_all]), &["x", "y", "z"]), [false, false, true]);
        let of_image = inventory("b", FEB, Scope::Images, &[("z", "app")]);
        assert_eq!(has(&join(vec![old(), of_image]), &["x", "y", "z"]), [true, true, true]);
        let receipt = |taken| document(Kind::Receipt, "b", taken, Scope::Images, &[("r", "app")]);
        assert_eq!(has(&join(vec![receipt(FEB), old()]), &["x", "r"]), [true, true]);
        assert_eq!(has(&join(vec![receipt(JAN), of_app()]), &["z", "r"]), [true, false]);
    }

    #[test]
    fn bases_of_different_targets_are_joined_only_when_told_how() {
        let both = || {
            vec![
                inventory("b", JAN, Scope::Registry, &[("x", "app"), ("y", "app")]),
                inventory("c", FEB, Scope::Registry, &[("y", "app"), ("z", "app")]),
            ]
        };
        let error = FarSide::join(both(), None).unwrap_err();
        assert_eq!(error, DifferentTargets(vec!["b".to_owned(), "c".to_owned()]));
        let union = FarSide::join(both(), Some(Joining::Union)).unwrap();
        assert_eq!(has(&union, &["x", "y", "z"]), [true, true, true]);
        let common = FarSide::join(both(), Some(Joining::Common)).unwrap();
        assert_eq!(has(&common, &["x", "y", "z"]), [false, true, false]);
        assert_eq!((common.entries.len(), common.images.len()), (2, 1));
    }

    #[test]
    fn content_of_another_size_is_not_taken_for_the_same() {
        let far_side =
            FarSide::join(vec![inventory("b", JAN, Scope::Registry, &[("x", "app")])], None).unwrap();
        assert_eq!(far_side.seen(&digest("x"), 1), Some(vec![Seen::Path("app".to_owned())]));
        assert_eq!(far_side.seen(&digest("x"), 2), None);
    }
}
