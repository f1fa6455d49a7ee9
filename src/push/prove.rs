//! The preflight: what the source does not have is looked for at the target, by reading, before anything is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use indexmap::{IndexMap, IndexSet};

use super::rebuilt::Rebuild;
use super::source::Known;
use super::{Prepared, PushError, RepoId, lock};
use crate::graph::reliance::Seen;
use crate::graph::{Image, Kind, NodeId, Presence};
use crate::oci::reference::is_repository;
use crate::oci::{Digest, Reference, RepositoryName};
use crate::plan::file_order;
use crate::request::{Request, WantedBlob, WantedImage};
use crate::select::Reason;
use crate::store::StoreError;
use crate::store::registry::{Access, Client};
use crate::transfer::for_each;

/// Content that neither the source nor the target has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// Its digest.
    pub digest: Digest,
    /// The images that need it, sorted by name.
    pub images: Vec<WantedImage>,
    /// Its type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What a push can't go on for, and how far it could.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shortage {
    /// How many of the images need something of it.
    pub affected: usize,
    /// How many images there are.
    pub images: usize,
    /// What is missing, sorted by digest.
    pub missing: Vec<Missing>,
    /// How many pieces of content the push relies on and does not bring; all of them are missing where this is the
    /// length of `missing`.
    pub relied: usize,
}

/// Makes the request for what is missing, for the packing side to answer.
#[must_use]
pub fn request(missing: &[Missing], bundles: Vec<Digest>) -> Request {
    let wanted = missing.iter().map(|one| {
        let blob = WantedBlob {
            digest: one.digest.clone(),
            images: Vec::new(),
            media_type: one.media_type.clone(),
            size: one.size,
        };
        (blob, one.images.clone())
    });
    Request::new(wanted, bundles)
}

/// From where a blob comes that the source does not have.
enum Home {
    /// From a repository that has it.
    There(RepoId),
    /// From a patch.
    Made(Rebuild),
}

/// Blobs, each with the repositories that need it.
type Needs = IndexMap<NodeId, IndexSet<RepoId>>;

impl Prepared<'_> {
    /// Looks at the target for what the source does not have, and settles which blobs are to be brought where.
    ///
    /// # Errors
    /// [`PushError::Missing`] if an image can't go on and the others are not to, or none can;
    /// [`PushError::Repository`] if a repository can't be asked.
    pub(super) fn prove(&mut self, client: &Client, known: &dyn Known) -> Result<(), PushError> {
        if self.options.trust_manifests {
            self.trust()?;
        }
        let lacking = self.needs(|id| !self.is_held(id, known));
        let ids: Vec<NodeId> = lacking.keys().copied().collect();
        let (recipes, bases) = self.add_bases(known, &ids);
        let seen = ids.iter().map(|id| (*id, known.seen(self.graph.digest(*id))));
        let seen = seen.chain(bases).collect();
        let places = self.open_seen(client, seen);
        let work: Vec<(NodeId, Vec<RepoId>)> =
            lacking.into_iter().map(|(id, repos)| (id, repos.into_iter().collect())).collect();
        let found: Mutex<Vec<(NodeId, Home, Vec<RepoId>)>> = Mutex::default();
        let gone: Mutex<HashSet<NodeId>> = Mutex::default();
        for_each::<PushError>(self.options.jobs, work.len(), |at| {
            let (id, repos) = &work[at];
            let mut home = None;
            let mut without = Vec::new();
            for repo in repos {
                if self.look(*repo, *id)? {
                    home.get_or_insert(*repo);
                } else {
                    without.push(*repo);
                }
            }
            if without.is_empty() {
                return Ok(());
            }
            if home.is_none() {
                // Where it was seen, and the push's other repositories only where nothing says that: there may be
                // hundreds of them, and thousands of pieces that are gone.
                let seen = places.get(id).filter(|seen| !seen.is_empty());
                let elsewhere = if seen.is_some() { 0..0 } else { 0..self.own };
                let mut asked: HashSet<RepoId> = repos.iter().copied().collect();
                for place in seen.into_iter().flatten().copied().chain(elsewhere) {
                    if asked.insert(place) && self.look(place, *id)? {
                        home = Some(place);
                        break;
                    }
                }
            }
            let rebuild = match recipes.get(id) {
                Some(recipe) if home.is_none() => self.find_bases(recipe, repos, &places)?,
                _ => None,
            };
            match home.map(Home::There).or(rebuild.map(Home::Made)) {
                Some(home) => lock(&found).push((*id, home, without)),
                None => {
                    lock(&gone).insert(*id);
                }
            }
            Ok(())
        })?;
        self.leave_out_affected(gone.into_inner().unwrap_or_else(PoisonError::into_inner), work.len())?;
        let mut needed = self.needs(|id| self.is_held(id, known));
        let going = self.needs(|id| !self.is_held(id, known));
        for (id, home, without) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // What only images need that are left out is not brought.
            let Some(wanting) = going.get(&id) else { continue };
            match home {
                Home::There(repo) => {
                    self.relied.insert(id, repo);
                }
                Home::Made(rebuild) => {
                    self.rebuilds.insert(id, rebuild);
                }
            }
            needed.entry(id).or_default().extend(without.into_iter().filter(|repo| wanting.contains(repo)));
        }
        needed.retain(|_, repos| !repos.is_empty());
        let order: HashMap<NodeId, usize> =
            file_order(&self.graph).into_iter().enumerate().map(|(place, id)| (id, place)).collect();
        needed.sort_by_key(|id, _| order.get(id).copied().unwrap_or(usize::MAX));
        self.blobs = needed.into_iter().map(|(id, repos)| (id, repos.into_iter().collect())).collect();
        Ok(())
    }

    /// Returns whether the source has a blob to bring.
    fn is_held(&self, id: NodeId, known: &dyn Known) -> bool {
        self.graph.node(id).presence == Presence::Shipped && known.holds(self.graph.digest(id))
    }

    /// Lists the blobs that the images which go on need, with the repositories, as far as `wants` says.
    fn needs(&self, wants: impl Fn(NodeId) -> bool) -> Needs {
        let mut needs = Needs::new();
        for (image, (_, repo)) in self.going() {
            for id in self.required(image) {
                if wants(id) {
                    needs.entry(id).or_default().insert(*repo);
                }
            }
        }
        needs
    }

    /// Returns the blobs without which an image is not whole: those of its manifests that travel.
    pub(super) fn required(&self, image: &Image) -> IndexSet<NodeId> {
        let mut required = IndexSet::new();
        for id in self.graph.image_closure(image) {
            let node = self.graph.node(id);
            if node.presence != Presence::Shipped {
                continue;
            }
            for child in self.graph.children(id) {
                let below = self.graph.node(*child);
                let is_required = match node.kind {
                    // The target is not asked for foreign layers: registries take manifests without them.
                    Kind::Manifest => below.presence != Presence::Absent(Reason::Foreign),
                    _ => below.presence == Presence::Shipped,
                };
                if is_required && !below.kind.is_manifest() {
                    required.insert(*child);
                }
            }
        }
        required
    }

    /// Takes what the manifests that are there refer to for present, without reading it.
    fn trust(&self) -> Result<(), PushError> {
        let (own, attached) = self.manifest_work();
        let work: Vec<_> = own.into_iter().chain(attached).collect();
        for_each(self.options.jobs, work.len(), |at| {
            let (repo, id) = (work[at].repo, work[at].id);
            let node = self.graph.node(id);
            if node.kind != Kind::Manifest {
                return Ok(());
            }
            let there = self.repositories[repo]
                .head_manifest(&self.graph.digest(id).to_string())
                .map_err(|source| self.unusable(repo, source))?;
            let is_there = there.is_some_and(|there| there.size == node.size);
            lock(&self.state.there).insert((repo, id), is_there);
            if is_there {
                let mut proved = lock(&self.state.proved);
                for child in self.graph.children(id) {
                    proved.insert((repo, *child), true);
                }
            }
            Ok(())
        })
    }

    /// Opens the repositories where the bases saw what is lacking or built on, behind those of the push itself; returns
    /// for each blob which of them have it, as far as the bases know.
    fn open_seen(&mut self, client: &Client, seen: Vec<(NodeId, Vec<Seen>)>) -> HashMap<NodeId, Vec<RepoId>> {
        let mut by_name: HashMap<RepositoryName, RepoId> = HashMap::new();
        for (at, repository) in self.repositories.iter().enumerate() {
            by_name.insert(repository.name().clone(), at);
        }
        let mut places: HashMap<NodeId, Vec<RepoId>> = HashMap::new();
        for (id, seen) in seen {
            for seen in seen {
                for name in self.names_of(&seen) {
                    let at = *by_name.entry(name.clone()).or_insert_with(|| {
                        self.repositories.push(client.repository(&name, Access::Pull));
                        self.repositories.len() - 1
                    });
                    places.entry(id).or_default().push(at);
                }
            }
        }
        places
    }

    /// Returns what a place that a base saw may be called at the target.
    fn names_of(&self, seen: &Seen) -> Vec<RepositoryName> {
        let naming = &self.options.naming;
        let destination = &naming.destination;
        match seen {
            Seen::Path(path) => {
                let below = format!("{}/{path}", destination.prefix);
                let mut paths = if destination.prefix.is_empty() { vec![] } else { vec![below] };
                paths.push(path.clone());
                paths.retain(|path| is_repository(path));
                let named =
                    |repository| RepositoryName { registry: destination.registry.clone(), repository };
                paths.into_iter().map(named).collect()
            }
            Seen::Source(name) => {
                let image = Reference { name: name.clone(), tag: Some("latest".to_owned()), digest: None };
                naming.target(&image).map(|target| target.name).into_iter().collect()
            }
        }
    }

    /// Returns whether a repository has a blob; asks once.
    pub(super) fn look(&self, repo: RepoId, id: NodeId) -> Result<bool, PushError> {
        match self.was_present(repo, id) {
            // A repository that is only looked into may be closed, or not be there.
            Err(
                StoreError::Denied { .. }
                | StoreError::NotFound { .. }
                | StoreError::Refused { status: 400..=499, .. },
            ) if repo >= self.own => Ok(false),
            answer => answer.map_err(|source| self.unusable(repo, source)),
        }
    }

    /// Returns whether a repository has a blob, as the preflight found, or else asks.
    pub(super) fn was_present(&self, repo: RepoId, id: NodeId) -> crate::store::Result<bool> {
        if let Some(is_there) = lock(&self.state.proved).get(&(repo, id)) {
            return Ok(*is_there);
        }
        let is_there = self.is_present(repo, id)?;
        lock(&self.state.proved).insert((repo, id), is_there);
        Ok(is_there)
    }

    /// Leaves out the images that need what is nowhere, where the others are to go on.
    fn leave_out_affected(&mut self, gone: HashSet<NodeId>, relied: usize) -> Result<(), PushError> {
        if gone.is_empty() {
            return Ok(());
        }
        let affected: Vec<usize> = (0..self.graph.images.len())
            .filter(|at| self.required(&self.graph.images[*at]).iter().any(|id| gone.contains(id)))
            .collect();
        let shortage = Shortage {
            affected: affected.len(),
            images: self.graph.images.len(),
            missing: self.missing(&gone),
            relied,
        };
        if !self.options.keep_going || shortage.affected == shortage.images {
            return Err(PushError::Missing(Box::new(shortage)));
        }
        for at in affected {
            let repo = self.targets[at].1;
            for id in self.required(&self.graph.images[at]).iter().filter(|id| gone.contains(*id)) {
                self.fail(repo, *id, Arc::new(self.absence(repo, *id)), false);
            }
            self.left_out.insert(at);
        }
        lock(&self.state.lost).extend(gone);
        self.shortage = Some(shortage);
        Ok(())
    }

    /// Returns the error of content that is neither in the source nor in a repository.
    pub(super) fn absence(&self, repo: RepoId, id: NodeId) -> StoreError {
        let (digest, size) = (self.graph.digest(id), self.graph.node(id).size);
        StoreError::NotFound {
            place: self.repositories[repo].name().to_string(),
            what: format!("the content {digest} of {size} bytes, which the bundle does not hold"),
        }
    }

    /// Describes missing content, with the images that need it.
    pub(super) fn missing(&self, gone: &HashSet<NodeId>) -> Vec<Missing> {
        let mut by_digest: BTreeMap<&Digest, (NodeId, Vec<WantedImage>)> = BTreeMap::new();
        for id in gone {
            by_digest.insert(self.graph.digest(*id), (*id, Vec::new()));
        }
        for image in &self.graph.images {
            for id in self.required(image).iter().filter(|id| gone.contains(*id)) {
                if let Some((_, images)) = by_digest.get_mut(self.graph.digest(*id)) {
                    images.push(WantedImage {
                        name: Some(image.name.to_string()),
                        platforms: self.graph.image_platforms(image).0,
                        reference: image.reference.clone(),
                        root: Some(self.graph.digest(image.root).clone()),
                    });
                }
            }
        }
        let missing = by_digest.into_iter().map(|(digest, (id, images))| Missing {
            digest: digest.clone(),
            images,
            media_type: self.graph.media_type(id).to_owned(),
            size: self.graph.node(id).size,
        });
        missing.collect()
    }
}
