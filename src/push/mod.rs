//! Pushing: from bundles, or from another registry, into a registry.
//!
//! [`Prepared`] only reads: it names the images, looks at rights, and checks that everything is either in the source or
//! proved to be at the target. [`Prepared::run`] then brings all blobs, the manifests by digest with children before
//! parents, what is attached, and the tags last. An image any part of which failed keeps its old tag.

mod blobs;
mod manifests;
pub mod names;
mod referrers;
pub mod report;
mod send;
pub mod source;
pub mod sparse;
mod tags;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::{IndexMap, IndexSet};

use crate::graph::survey::{Failure, Survey};
use crate::graph::{Graph, GraphError, NodeId, Presence};
use crate::oci::{Descriptor, Digest, Reference};
use crate::plan::file_order;
use crate::select::{Reason, Select};
use crate::store::registry::{Access, Client, Repository};
use crate::store::{Source, StoreError};
use crate::transfer::{Progress, for_each};
use names::{Naming, NamingError};
use report::{Counters, ImageReport, Report};
use sparse::Policy;

/// How the presence of a blob at the target is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PresenceProof {
    /// By reading one byte: what a registry's cache says is not believed.
    #[default]
    Read,
    /// By asking.
    Head,
}

/// How to push.
#[derive(Debug, Clone)]
pub struct Options {
    /// How images are named at the target.
    pub naming: Naming,
    /// What to do when the target refuses a sparse index.
    pub policy: Policy,
    /// Whether children of indexes get tags of their own, for registries that collect what has none.
    pub tag_children: bool,
    /// How presence is found out.
    pub presence: PresenceProof,
    /// Whether damage that costs some images leaves the others going.
    pub keep_going: bool,
    /// How many transfers at once.
    pub jobs: usize,
}

/// Content that neither the source nor the target has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Missing {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// An image that needs it.
    pub image: Reference,
}

/// Why a push can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is nothing to push.
    #[error("there is no image to push")]
    NoImages,
    /// None of the images can be read from the source.
    #[error("none of the {} images can be read", .0.len())]
    NothingLeft(Vec<Failure>),
    /// Names can't be made.
    #[error(transparent)]
    Naming(#[from] NamingError),
    /// The graph of the source contradicts itself.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A repository of the target can't be used.
    #[error("{repository} can't be pushed to")]
    Repository {
        /// The repository.
        repository: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Content is neither in the source nor at the target.
    #[error("{} pieces of content are neither in the bundle nor at the target", .0.len())]
    Missing(Vec<Missing>),
    /// The registry does not make repositories by itself.
    #[error("the target has no repository for {} of the images, and makes none by itself", .0.len())]
    NoRepositories(Vec<String>),
    /// Content of an image could not be delivered.
    #[error("{image} needs {digest}, which can't be delivered")]
    Blob {
        /// The image.
        image: Reference,
        /// The content's digest.
        digest: Digest,
        /// Why.
        #[source]
        source: Arc<StoreError>,
    },
}

/// Index of a repository of the target.
type RepoId = usize;

/// A part of an image that could not be put in place.
#[derive(Debug, Clone)]
struct Cause {
    /// What was not put in place.
    digest: Digest,
    /// Why.
    error: Arc<StoreError>,
    /// Whether the target refused an index because children of it are left out.
    is_sparse: bool,
}

/// A push that can be carried out.
pub struct Prepared<'a> {
    graph: Graph,
    survey: &'a Survey,
    sources: &'a [Arc<dyn Source>],
    options: Options,
    repositories: Vec<Repository>,
    /// For each image of the graph: its target and the repository.
    targets: Vec<(Reference, RepoId)>,
    /// Blobs in the order of the source's file, with the repositories that need each.
    blobs: IndexMap<NodeId, Vec<RepoId>>,
    /// Blobs that the source does not have, by the repository where they were proved.
    relied: HashMap<NodeId, RepoId>,
    state: State,
}

/// What has come of the parts so far.
#[derive(Default)]
struct State {
    failed: Mutex<HashMap<(RepoId, NodeId), Cause>>,
    rewritten: Mutex<HashMap<(RepoId, NodeId), Descriptor>>,
    counters: Counters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Prepared<'a> {
    /// Prepares a push of what was surveyed; reads only.
    ///
    /// `holds` tells whether the source has a blob; what it has not must be at the target.
    ///
    /// # Errors
    /// [`PushError`]: names collide, a repository can't be used, or content is nowhere.
    pub fn new(
        survey: &'a Survey,
        select: &dyn Select,
        sources: &'a [Arc<dyn Source>],
        client: &Client,
        options: Options,
        holds: &(dyn Fn(&Digest) -> bool + Sync),
    ) -> Result<Self, PushError> {
        let graph = Graph::build(survey, select)?;
        let names = graph.images.iter().map(|image| (&image.name, graph.digest(image.root)));
        let names = options.naming.targets(names)?;
        let mut repositories = IndexMap::new();
        for name in &names {
            repositories
                .entry(name.name.clone())
                .or_insert_with(|| client.repository(&name.name, Access::Push));
        }
        let targets: Vec<(Reference, RepoId)> = names
            .into_iter()
            .map(|name| {
                let at = repositories.get_index_of(&name.name).unwrap_or_default();
                (name, at)
            })
            .collect();
        let repositories: Vec<Repository> = repositories.into_values().collect();
        for_each(options.jobs, repositories.len(), |at| {
            let repository = &repositories[at];
            repository
                .check()
                .map_err(|source| PushError::Repository { repository: repository.name().to_string(), source })
        })?;
        let mut needed: IndexMap<NodeId, IndexSet<RepoId>> = IndexMap::new();
        let mut order: HashMap<NodeId, usize> = HashMap::new();
        for (place, id) in file_order(&graph).into_iter().enumerate() {
            order.insert(id, place);
        }
        let mut lacking: BTreeMap<(RepoId, NodeId), Reference> = BTreeMap::new();
        for (image, (_, repo)) in graph.images.iter().zip(&targets) {
            for id in graph.image_closure(image) {
                let node = graph.node(id);
                if !node.kind.is_manifest() && node.presence == Presence::Shipped {
                    if holds(graph.digest(id)) {
                        needed.entry(id).or_default().insert(*repo);
                    } else {
                        lacking.insert((*repo, id), image.name.clone());
                    }
                }
                if node.kind == crate::graph::Kind::Manifest && node.presence == Presence::Shipped {
                    for child in graph.children(id) {
                        // The target is not asked for foreign layers: registries take manifests without them.
                        let presence = graph.node(*child).presence;
                        if matches!(presence, Presence::Absent(reason) if reason != Reason::Foreign) {
                            lacking.insert((*repo, *child), image.name.clone());
                        }
                    }
                }
            }
        }
        needed.sort_by_key(|id, _| order.get(id).copied().unwrap_or(usize::MAX));
        let blobs = needed.into_iter().map(|(id, repos)| (id, repos.into_iter().collect())).collect();
        let mut prepared = Self {
            graph,
            survey,
            sources,
            options,
            repositories,
            targets,
            blobs,
            relied: HashMap::new(),
            state: State::default(),
        };
        prepared.prove(&lacking)?;
        Ok(prepared)
    }

    /// Looks at the target for what the source does not have: in the repository itself, then in the others of this push.
    fn prove(&mut self, lacking: &BTreeMap<(RepoId, NodeId), Reference>) -> Result<(), PushError> {
        let wanted: Vec<(&(RepoId, NodeId), &Reference)> = lacking.iter().collect();
        let found: Mutex<Vec<(RepoId, NodeId, RepoId)>> = Mutex::default();
        let missing: Mutex<Vec<Missing>> = Mutex::default();
        for_each::<PushError>(self.options.jobs, wanted.len(), |at| {
            let ((repo, id), image) = wanted[at];
            let others = (0..self.repositories.len()).filter(|other| other != repo);
            for place in std::iter::once(*repo).chain(others) {
                if self.is_present(place, *id).map_err(|source| self.unusable(place, source))? {
                    lock(&found).push((*repo, *id, place));
                    return Ok(());
                }
            }
            let digest = self.graph.digest(*id).clone();
            lock(&missing).push(Missing { digest, size: self.graph.node(*id).size, image: image.clone() });
            Ok(())
        })?;
        let mut missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !missing.is_empty() {
            missing.sort();
            missing.dedup();
            return Err(PushError::Missing(missing));
        }
        for (repo, id, place) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if repo != place {
                self.relied.insert(id, place);
                self.blobs.entry(id).or_default().push(repo);
            }
        }
        Ok(())
    }

    fn unusable(&self, repo: RepoId, source: StoreError) -> PushError {
        PushError::Repository { repository: self.repositories[repo].name().to_string(), source }
    }

    /// Returns what would be done for each blob, without doing it.
    ///
    /// # Errors
    /// [`PushError::Repository`] if the target can't be asked.
    pub fn rehearse(&self) -> Result<report::Rehearsal, PushError> {
        report::rehearse(self)
    }

    /// Returns the images with their targets.
    pub fn images(&self) -> impl Iterator<Item = (&crate::graph::Image, &Reference)> {
        self.graph.images.iter().zip(self.targets.iter().map(|(target, _)| target))
    }

    /// Returns the graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Carries the push out.
    ///
    /// # Errors
    /// [`PushError`] where nothing can go on; what failed for single images is in the report.
    pub fn run(self, progress: &dyn Progress) -> Result<Report, PushError> {
        self.bring_blobs(progress)?;
        let (own, attached) = self.manifest_work();
        self.put_manifests(&own, progress)?;
        let attached: Vec<_> = attached.into_iter().filter(|work| !self.is_below_rewritten(work)).collect();
        self.put_manifests(&attached, progress)?;
        self.list_referrers()?;
        self.tag_attached()?;
        let images = self.tag_images()?;
        Ok(self.report(images))
    }

    /// Returns whether a node is a sparse index: a child of it is not pushed.
    fn absent_children(&self, id: NodeId) -> Vec<Digest> {
        let is_absent = |child: &&NodeId| self.graph.node(**child).presence != Presence::Shipped;
        match self.graph.node(id).kind {
            crate::graph::Kind::Index => self
                .graph
                .children(id)
                .iter()
                .filter(is_absent)
                .map(|child| self.graph.digest(*child).clone())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn fail(&self, repo: RepoId, id: NodeId, error: Arc<StoreError>, is_sparse: bool) {
        let digest = self.graph.digest(id).clone();
        lock(&self.state.failed).entry((repo, id)).or_insert(Cause { digest, error, is_sparse });
    }

    /// Returns why an image can't be tagged, if a part of it failed.
    fn failure_of(&self, at: usize) -> Option<Cause> {
        let repo = self.targets[at].1;
        let failed = lock(&self.state.failed);
        if failed.is_empty() {
            return None;
        }
        let closure = self.graph.image_closure(&self.graph.images[at]);
        let causes: Vec<&Cause> = closure.iter().filter_map(|id| failed.get(&(repo, *id))).collect();
        // A refusal is told only of images that nothing else is the matter with.
        causes.iter().find(|cause| !cause.is_sparse).or(causes.first()).map(|cause| (*cause).clone())
    }

    fn report(self, images: Vec<ImageReport>) -> Report {
        Report { images, counts: self.state.counters.snapshot() }
    }
}
