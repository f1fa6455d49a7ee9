//! Content that is rebuilt on its way: what a patch builds on is found at the target before anything is written, and
//! read there.

use std::collections::HashMap;
use std::sync::Arc;

use super::source::Known;
use super::{Prepared, PushError, RepoId};
use crate::bundle::recipe::{Ingredient, Origin, Recipe};
use crate::bundle::workshop::{Rebuilt, Workshop};
use crate::graph::NodeId;
use crate::graph::reliance::Seen;
use crate::oci::{Descriptor, Digest};
use crate::store::{Source, StoreError};
use crate::transfer::Progress;

/// How a blob is rebuilt, and in which repositories that is which a patch builds on.
#[derive(Debug, Clone)]
pub(super) struct Rebuild {
    pub(super) recipe: Arc<Recipe>,
    pub(super) homes: HashMap<Digest, RepoId>,
}

/// From this size on people are told that something is read before it is rebuilt from, in bytes.
const LARGE: u64 = 256 << 20;

/// Where a blob was seen at the target.
pub(super) type Sighting = (NodeId, Vec<Seen>);

impl Prepared<'_> {
    /// Makes nodes of what the patches of lacking blobs build on; returns where each was seen.
    pub(super) fn add_bases(
        &mut self,
        known: &dyn Known,
        lacking: &[NodeId],
    ) -> (HashMap<NodeId, Arc<Recipe>>, Vec<Sighting>) {
        let (mut recipes, mut seen) = (HashMap::new(), HashMap::new());
        for id in lacking {
            let Some(recipe) = known.recipe(self.graph.digest(*id)) else { continue };
            if recipe.target.size != self.graph.node(*id).size {
                continue;
            }
            for base in recipe.ingredients() {
                let descriptor = Descriptor::new(&recipe.target.media_type, base.digest.clone(), base.size);
                let node = self.graph.add_support(&descriptor, self.graph.node(*id).source);
                seen.entry(node).or_insert_with(|| base.seen.to_vec());
            }
            recipes.insert(*id, recipe);
        }
        (recipes, seen.into_iter().collect())
    }

    /// Finds in the repositories of the target what a recipe builds on; none if something is nowhere.
    ///
    /// # Errors
    /// [`PushError::Repository`] if a repository can't be asked.
    pub(super) fn find_bases(
        &self,
        recipe: &Arc<Recipe>,
        repos: &[RepoId],
        places: &HashMap<NodeId, Vec<RepoId>>,
    ) -> Result<Option<Rebuild>, PushError> {
        let mut homes = HashMap::new();
        let is_found = self.find_below(recipe, repos, places, &mut homes)?;
        let homes = homes.into_iter().filter_map(|(digest, home)| Some((digest, home?))).collect();
        Ok(is_found.then(|| Rebuild { recipe: recipe.clone(), homes }))
    }

    fn find_below(
        &self,
        recipe: &Recipe,
        repos: &[RepoId],
        places: &HashMap<NodeId, Vec<RepoId>>,
        homes: &mut HashMap<Digest, Option<RepoId>>,
    ) -> Result<bool, PushError> {
        for base in recipe.bases.iter().filter(|base| base.origin != Origin::Held) {
            // What was found before, or is rebuilt itself.
            if homes.contains_key(&base.digest) {
                continue;
            }
            let found = match self.graph.find(&base.digest) {
                Some(id) if self.graph.node(id).size == base.size => self.home_of(id, repos, places)?,
                _ => None,
            };
            match (found, &base.origin) {
                (Some(home), _) => {
                    homes.insert(base.digest.clone(), Some(home));
                }
                (None, Origin::Rebuilt(below)) if self.find_below(below, repos, places, homes)? => {
                    homes.insert(base.digest.clone(), None);
                }
                (None, _) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Finds a repository that has a blob: first those that need what is made of it, then those where it was seen, and
    /// where nothing says that, any of the push's own.
    fn home_of(
        &self,
        id: NodeId,
        repos: &[RepoId],
        places: &HashMap<NodeId, Vec<RepoId>>,
    ) -> Result<Option<RepoId>, PushError> {
        let seen = places.get(&id).filter(|seen| !seen.is_empty());
        let elsewhere = if seen.is_some() { 0..0 } else { 0..self.own };
        for repo in repos.iter().copied().chain(seen.into_iter().flatten().copied()).chain(elsewhere) {
            if self.look(repo, id)? {
                return Ok(Some(repo));
            }
        }
        Ok(None)
    }

    /// Uploads a blob that is rebuilt while it goes.
    pub(super) fn send_rebuilt(
        &self,
        repo: RepoId,
        id: NodeId,
        rebuild: &Rebuild,
        session: Option<crate::store::registry::UploadSession>,
        progress: &dyn Progress,
    ) -> crate::store::Result<()> {
        let (digest, node) = (self.graph.digest(id), self.graph.node(id));
        let patches: &dyn Source = &*self.sources[usize::from(node.source)];
        let places = |base: &Ingredient| -> Option<&dyn Source> {
            match rebuild.homes.get(&base.digest) {
                Some(home) => Some(&self.repositories[*home]),
                None => (base.origin == Origin::Held).then_some(patches),
            }
        };
        let workshop: &Workshop = &self.options.workshop;
        let bases: u64 = rebuild.recipe.bases.iter().map(|base| base.size).sum();
        if bases >= LARGE {
            // The bar stands still meanwhile.
            progress.note(&format!("reading {bases} bytes that {digest} is rebuilt from"));
        }
        let source = Rebuilt::new(workshop, rebuild.recipe.clone(), patches, &places);
        // Everything is at hand before the target is told that something comes: it would not wait for minutes.
        source.begin().map_err(|error| StoreError::Content {
            place: self.repositories[repo].name().to_string(),
            what: digest.to_string(),
            source: std::io::Error::other(error),
        })?;
        super::send::upload(&self.repositories[repo], &source, digest, node.size, session, progress)
    }
}
