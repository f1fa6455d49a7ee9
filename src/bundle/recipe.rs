//! How content that does not travel itself is rebuilt: by which patch, from what, and where that is.

use std::collections::HashMap;
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
    pub seen: Vec<Seen>,
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
    /// Returns whether everything is in the bundles.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.bases.iter().all(|base| match &base.origin {
            Origin::Held => true,
            Origin::Rebuilt(recipe) => recipe.is_complete(),
            Origin::FarSide => false,
        })
    }
}

/// Finds recipes in several bundles.
#[derive(Debug, Default)]
pub(super) struct Recipes(HashMap<Digest, Option<Arc<Recipe>>>);

impl Recipes {
    /// Finds how content is rebuilt by patches of `bundles`; none if no patch gives it. Of several ways one that needs
    /// nothing of the far side is taken.
    pub(super) fn find(&mut self, bundles: &[Arc<Bundle>], target: &Digest) -> Option<Arc<Recipe>> {
        self.below(bundles, target, &mut Vec::new())
    }

    fn below(
        &mut self,
        bundles: &[Arc<Bundle>],
        target: &Digest,
        above: &mut Vec<Digest>,
    ) -> Option<Arc<Recipe>> {
        if let Some(known) = self.0.get(target) {
            return known.clone();
        }
        if above.contains(target) || above.len() >= MAX_DEPTH {
            return None;
        }
        above.push(target.clone());
        let mut found: Option<Recipe> = None;
        for bundle in bundles {
            let Some(row) = bundle.record().and_then(|record| record.patches.find(target)) else { continue };
            let Some(recipe) = self.of(bundles, bundle, row, above) else { continue };
            if recipe.is_complete() {
                found = Some(recipe);
                break;
            }
            found.get_or_insert(recipe);
        }
        above.pop();
        let found = found.map(Arc::new);
        // What was looked for below something else may have been cut short there.
        if above.is_empty() || found.as_ref().is_some_and(|recipe| recipe.is_complete()) {
            self.0.insert(target.clone(), found.clone());
        }
        found
    }

    fn of(
        &mut self,
        bundles: &[Arc<Bundle>],
        bundle: &Bundle,
        row: &PatchRow,
        above: &mut Vec<Digest>,
    ) -> Option<Recipe> {
        let record = bundle.record()?;
        let (_, patch) = record.blobs.find(&row.patch).filter(|_| bundle.holds(&row.patch))?;
        let far = record.far_content();
        let mut base = |digest: &Digest| {
            let far = far.binary_search_by(|far| far.digest.cmp(digest)).ok().map(|at| &far[at]);
            let seen = far.map_or(Vec::new(), |far| match far.repositories.as_slice() {
                // Of which that is not known may be in any of them.
                [] => record.base.as_ref().map_or(Vec::new(), |base| base.repositories.clone()),
                places => record.places(places),
            });
            let held = bundles.iter().find_map(|bundle| bundle.size_of(digest));
            if let Some(size) = held {
                return Some(Ingredient { digest: digest.clone(), size, origin: Origin::Held, seen });
            }
            if let Some(recipe) = self.below(bundles, digest, above) {
                let size = recipe.target.size;
                let origin = Origin::Rebuilt(recipe);
                return Some(Ingredient { digest: digest.clone(), size, origin, seen });
            }
            let size = far?.size;
            Some(Ingredient { digest: digest.clone(), size, origin: Origin::FarSide, seen })
        };
        Some(Recipe {
            target: Descriptor::new(&row.media_type, row.target.clone(), row.size),
            codec: row.codec.clone(),
            bases: row.bases.iter().map(&mut base).collect::<Option<Vec<_>>>()?,
            patch: Descriptor::new(patch.media_type, row.patch.clone(), patch.size),
        })
    }
}
