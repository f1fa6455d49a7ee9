//! Pushing: from bundles, or from another registry, into a registry.
//!
//! [`Prepared`] only reads: it names the images, looks at rights, and checks that everything is either in the source or
//! proved to be at the target. [`Prepared::run`] then brings all blobs, the manifests by digest with children before
//! parents, what is attached, and the tags last. An image any part of which failed keeps its old tag.

mod blobs;
mod manifests;
pub mod names;
mod prove;
mod rebuilt;
mod receipt;
mod referrers;
pub mod report;
mod send;
pub mod source;
pub mod sparse;
mod tags;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;

use crate::bundle::workshop::Workshop;
use crate::graph::survey::{Failure, Survey};
use crate::graph::{Graph, GraphError, NodeId, Presence};
use crate::oci::{Descriptor, Digest, Reference};
use crate::select::Select;
use crate::store::registry::{Access, Client, Repository};
use crate::store::{Source, StoreError};
use crate::transfer::{Progress, for_each};
use names::{Naming, NamingError};
pub use prove::{Missing, Shortage, request};
use rebuilt::Rebuild;
pub use receipt::receipt;
use report::{Counters, ImageReport, Report};
use source::Known;
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
    /// Whether what a manifest at the target refers to is taken for present, without reading it.
    pub trust_manifests: bool,
    /// Whether damage that costs some images leaves the others going.
    pub keep_going: bool,
    /// How many transfers at once.
    pub jobs: usize,
    /// Where content is rebuilt that travels as patches.
    pub workshop: Arc<Workshop>,
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
    #[error("{} neither in the bundle nor at the target", pieces_are(.0.missing.len()))]
    Missing(Box<Shortage>),
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

/// Returns `1 piece of content is`, `2 pieces of content are`.
#[must_use]
pub fn pieces_are(count: usize) -> String {
    if count == 1 { "1 piece of content is".to_owned() } else { format!("{count} pieces of content are") }
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
    /// The repositories that are written to, then those that are only looked into.
    repositories: Vec<Repository>,
    /// How many are written to.
    own: usize,
    /// For each image of the graph: its target and the repository.
    targets: Vec<(Reference, RepoId)>,
    /// Images that are not touched, because content of theirs is nowhere.
    left_out: HashSet<usize>,
    /// What the images need that are not touched.
    shortage: Option<Shortage>,
    /// Blobs in the order of the source's file, with the repositories that need each.
    blobs: IndexMap<NodeId, Vec<RepoId>>,
    /// Blobs that the source does not have, by the repository where they were proved.
    relied: HashMap<NodeId, RepoId>,
    /// Blobs that are rebuilt from patches and what the target has.
    rebuilds: HashMap<NodeId, Rebuild>,
    state: State,
}

/// What has come of the parts so far.
#[derive(Default)]
struct State {
    failed: Mutex<HashMap<(RepoId, NodeId), Cause>>,
    rewritten: Mutex<HashMap<(RepoId, NodeId), Descriptor>>,
    /// Blobs that were looked for, and whether they were there.
    proved: Mutex<HashMap<(RepoId, NodeId), bool>>,
    /// Manifests that were asked for before anything was written, and whether they were there.
    there: Mutex<HashMap<(RepoId, NodeId), bool>>,
    /// Manifests that this run wrote.
    written: Mutex<HashSet<(RepoId, NodeId)>>,
    /// Content that neither the source nor the target could give.
    lost: Mutex<HashSet<NodeId>>,
    counters: Counters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Prepared<'a> {
    /// Prepares a push of what was surveyed; reads only.
    ///
    /// `known` tells whether the source has a blob; what it has not must be at the target, and `known` tells where it
    /// was seen there.
    ///
    /// # Errors
    /// [`PushError`]: names collide, a repository can't be used, or content is nowhere.
    pub fn new(
        survey: &'a Survey,
        select: &dyn Select,
        sources: &'a [Arc<dyn Source>],
        client: &Client,
        options: Options,
        known: &dyn Known,
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
        let own = repositories.len();
        let mut prepared = Self {
            graph,
            survey,
            sources,
            options,
            repositories,
            own,
            targets,
            left_out: HashSet::new(),
            shortage: None,
            blobs: IndexMap::new(),
            relied: HashMap::new(),
            rebuilds: HashMap::new(),
            state: State::default(),
        };
        prepared.prove(client, known)?;
        Ok(prepared)
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

    /// Returns the images that go on, with their targets: all but those of which content is nowhere.
    fn going(&self) -> impl Iterator<Item = (&crate::graph::Image, &(Reference, RepoId))> {
        let all = self.graph.images.iter().zip(&self.targets).enumerate();
        all.filter(|(at, _)| !self.left_out.contains(at)).map(|(_, one)| one)
    }

    /// Returns what is neither in the source nor at the target, where images without it go on.
    #[must_use]
    pub fn shortage(&self) -> Option<&Shortage> {
        self.shortage.as_ref()
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
        let content = self.content_in_place(&images);
        let missing = self.missing(&lock(&self.state.lost));
        let proved = !self.options.trust_manifests && self.options.presence == PresenceProof::Read;
        Report { proved, content, images, missing, counts: self.state.counters.snapshot() }
    }
}
