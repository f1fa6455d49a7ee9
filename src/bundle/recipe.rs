//! How content that does not travel itself is rebuilt: by which patch, from what, and where that is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Bundle;
use super::patches::PatchRow;
use crate::graph::reliance::Seen;
use crate::oci::{Descriptor, Digest};

/// How many patches may build on each other: one for each month of five years.
const MAX_DEPTH: usize = 64;

/// How content is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The content.
    pub target: Descriptor,
    /// How the patch is applied, with a version.
    pub codec: String,
    /// The patch.
    pub patch: Descriptor,
    /// What it builds on, in its order.
    pub bases: Vec<Ingredient>,
    /// Whether everything is in the bundles, what bases are rebuilt from counted.
    pub is_complete: bool,
}

/// Content that a patch builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingredient {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it is.
    pub origin: Origin,
    /// Where a base saw it at the far side.
    pub seen: Arc<[Seen]>,
}

/// Where content that a patch builds on is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a bundle.
    Held,
    /// It is rebuilt itself, if the far side does not have it.
    Rebuilt(Arc<Recipe>),
    /// At the far side only.
    FarSide,
}

impl Recipe {
    /// Lists everything that is built on and is in no bundle, what is rebuilt itself and what that builds on counted, each
    /// once.
    #[must_use]
    pub fn ingredients(&self) -> Vec<&Ingredient> {
        let (mut all, mut seen, mut work) = (Vec::new(), HashSet::new(), vec![self]);
        while let Some(recipe) = work.pop() {
            for base in recipe.bases.iter().filter(|base| base.origin != Origin::Held) {
                if seen.insert(&base.digest) {
                    all.push(base);
                    if let Origin::Rebuilt(below) = &base.origin {
                        work.push(below);
                    }
                }
            }
        }
        all
    }
}

/// Finds recipes in several bundles, each once.
#[derive(Debug, Default)]
pub(super) struct Recipes {
    /// By content, and by how many of the bundles were looked into.
    found: HashMap<(Digest, usize), Option<Arc<Recipe>>>,
    /// For each bundle all repositories that its record lists, for content of which it does not say more.
    anywhere: HashMap<usize, Arc<[Seen]>>,
}

impl Recipes {
    /// Finds how content is rebuilt by patches of `bundles`; none if no patch gives it. Of several ways one that needs
    /// nothing of the far side is taken.
    pub(super) fn find(&mut self, bundles: &[Arc<Bundle>], target: &Digest) -> Option<Arc<Recipe>> {
        self.below(bundles, bundles.len(), target, 0)
    }

    /// The same in the first `count` bundles: what a patch builds on was there when its bundle came, so that neither it
    /// nor what that builds on is made by a later one. Two months may be made of each other.
    fn below(
        &mut self,
        bundles: &[Arc<Bundle>],
        count: usize,
        target: &Digest,
        depth: usize,
    ) -> Option<Arc<Recipe>> {
        let key = (target.clone(), count);
        if let Some(known) = self.found.get(&key) {
            return known.clone();
        }
        if depth >= MAX_DEPTH {
            return None;
        }
        let mut found: Option<Recipe> = None;
        for (at, bundle) in bundles.iter().enumerate().take(count) {
            let Some(row) = bundle.record().and_then(|record| record.patches.find(target)) else { continue };
            let Some(recipe) = self.of(bundles, (at, bundle), row, depth) else { continue };
            if recipe.is_complete {
                found = Some(recipe);
                break;
            }
            found.get_or_insert(recipe);
        }
        let found = found.map(Arc::new);
        // Each is looked for once: many patches may build on one.
        self.found.insert(key, found.clone());
        found
    }

    fn of(
        &mut self,
        bundles: &[Arc<Bundle>],
        (at, bundle): (usize, &Bundle),
        row: &PatchRow,
        depth: usize,
    ) -> Option<Recipe> {
        let record = bundle.record()?;
        let (_, patch) = record.blobs.find(&row.patch).filter(|_| bundle.holds(&row.patch))?;
        let far = record.far_content();
        let all = || record.base.as_ref().map_or(Arc::default(), |base| base.repositories.clone().into());
        let anywhere = self.anywhere.entry(at).or_insert_with(all).clone();
        let mut base = |digest: &Digest| {
            let far = far.binary_search_by(|far| far.digest.cmp(digest)).ok().map(|at| &far[at]);
            let seen: Arc<[Seen]> = match far.map(|far| far.repositories.as_slice()) {
                None => Arc::default(),
                // Of which that is not known may be in any of them.
                Some([]) => anywhere.clone(),
                Some(places) => record.places(places).into(),
            };
            let held = bundles.iter().find_map(|bundle| bundle.size_of(digest));
            if let Some(size) = held {
                return Some(Ingredient { digest: digest.clone(), size, origin: Origin::Held, seen });
            }
            if let Some(recipe) = self.below(bundles, at + 1, digest, depth + 1) {
                let size = recipe.target.size;
                let origin = Origin::Rebuilt(recipe);
                return Some(Ingredient { digest: digest.clone(), size, origin, seen });
            }
            let size = far?.size;
            Some(Ingredient { digest: digest.clone(), size, origin: Origin::FarSide, seen })
        };
        let bases = row.bases.iter().map(&mut base).collect::<Option<Vec<_>>>()?;
        Some(Recipe {
            is_complete: bases.iter().all(|base| match &base.origin {
                Origin::Held => true,
                Origin::Rebuilt(recipe) => recipe.is_complete,
                Origin::FarSide => false,
            }),
            target: Descriptor::new(&row.media_type, row.target.clone(), row.size),
            codec: row.codec.clone(),
            bases,
            patch: Descriptor::new(patch.media_type, row.patch.clone(), patch.size),
        })
    }
}
