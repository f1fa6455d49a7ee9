//! The survey: everything that can be learnt about the wanted images from their manifests, before the first layer moves.
//!
//! Workers resolve the names, read the manifests below them and ask what is attached. What they learn is written to a
//! [`Spool`] as it comes, in any order; [`Graph::build`](super::Graph::build) then derives the graph from the survey
//! alone, in a fixed order. A survey read back from a journal therefore gives the same graph without asking anybody.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::spool::Spool;
use crate::oci::{Descriptor, Digest, Manifest, Reference, media_type};
use crate::select::{Attachments, Select, choosable};
use crate::store::{Attached, Source, StoreError, read_manifest};

/// How deep indexes may nest, and how long a chain of attachments to attachments may be. Real images use two levels,
/// signed SBOMs three; the bound only stops what was built to be endless.
const MAX_DEPTH: u8 = 16;

/// The largest image configuration that is read while planning, in bytes; Docker's own limit is below it.
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// One image that is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The name under which it travels.
    pub name: Reference,
    /// The reference it is pulled by, where the source is a registry.
    pub reference: Option<Reference>,
    /// Which of the survey's sources has it.
    pub source: usize,
    /// What the source knows it by: a tag, a digest, a name.
    pub selector: String,
}

/// How to survey.
pub struct Options<'a> {
    /// Which children of indexes travel.
    pub select: &'a dyn Select,
    /// Which attached content is looked for.
    pub attachments: Attachments,
    /// Whether manifests that do not travel are read too, to be kept on media.
    pub keep_unselected: bool,
    /// Whether one image's failure leaves the others going.
    pub keep_going: bool,
    /// How many requests at once.
    pub jobs: usize,
}

/// One line of the spool about what the survey found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Finding {
    /// A name, resolved.
    Root {
        /// The name under which the image travels.
        name: Reference,
        /// What it was pulled by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
        /// Which source has it.
        source: usize,
        /// Type, digest and size of the root.
        root: Brief,
    },
    /// Content of a manifest or an image configuration, in the bytes that follow.
    Content {
        /// Its digest.
        digest: Digest,
        /// Its length.
        size: u64,
    },
    /// What is attached to a manifest.
    Attached {
        /// The manifest.
        subject: Digest,
        /// Which source was asked.
        source: usize,
        /// Its attachments there, sorted.
        list: Vec<(Brief, Option<String>)>,
    },
    /// A manifest that the source refers to and does not have.
    Absent {
        /// Its digest.
        digest: Digest,
        /// Which source.
        source: usize,
    },
    /// The survey is complete.
    Complete,
}

/// The part of a descriptor that a graph needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Brief {
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// Type of the content.
    pub media_type: String,
}

impl From<&Descriptor> for Brief {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
        }
    }
}

impl From<&Brief> for Descriptor {
    fn from(brief: &Brief) -> Self {
        Self::new(brief.media_type.clone(), brief.digest.clone(), brief.size)
    }
}

/// A resolved name.
#[derive(Debug, Clone)]
pub struct Root {
    /// The name under which the image travels.
    pub name: Reference,
    /// What it was pulled by.
    pub reference: Option<Reference>,
    /// Which source has it.
    pub source: usize,
    /// Type, digest and size of the root.
    pub root: Brief,
}

/// An image that could not be surveyed.
#[derive(Debug)]
pub struct Failure {
    /// The image's name.
    pub name: Reference,
    /// What kept it from being surveyed; shared where one cause costs several images.
    pub error: Arc<StoreError>,
}

/// An image could not be surveyed, and the others were not to go on without it.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// An image failed.
    #[error("{name} can't be had")]
    Image {
        /// The image's name.
        name: Reference,
        /// Why.
        #[source]
        source: Arc<StoreError>,
    },
    /// Two different things are to travel under one name.
    #[error("{name} was asked for twice and means two different images: {first} and {second}")]
    NameClash {
        /// The name.
        name: Reference,
        /// One root.
        first: Digest,
        /// The other.
        second: Digest,
    },
    /// The spool could not be written or read.
    #[error("the working file of the plan can't be used")]
    Spool(#[from] std::io::Error),
}

/// What was learnt.
#[derive(Debug)]
pub struct Survey {
    /// The resolved names, sorted by their text, each once.
    pub roots: Vec<Root>,
    /// The names that could not be had, with the reason.
    pub failures: Vec<Failure>,
    pub(super) contents: HashMap<Digest, (u64, u32)>,
    pub(super) attached: HashMap<Digest, Vec<Listed>>,
    absent: HashSet<(Digest, usize)>,
    failed: HashMap<(Digest, usize), Arc<StoreError>>,
    spool: Spool,
}

/// Content attached to a manifest, with the source that listed it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) brief: Brief,
    pub(super) tag: Option<String>,
    pub(super) source: usize,
}

impl Survey {
    /// Surveys `wishes`, writing what is found to `spool`.
    ///
    /// # Errors
    /// The first failure, unless `keep_going`; a name clash or a failing spool always.
    pub fn run(
        sources: &[Arc<dyn Source>],
        wishes: &[Wish],
        spool: Spool,
        options: &Options<'_>,
    ) -> Result<Self, SurveyError> {
        let crew = Crew {
            sources,
            wishes,
            options,
            spool: &spool,
            shared: Mutex::new(Shared {
                queue: (0..wishes.len()).map(Task::Resolve).collect(),
                ..Shared::default()
            }),
            wake: Condvar::new(),
        };
        std::thread::scope(|scope| {
            for _ in 0..options.jobs.max(1) {
                scope.spawn(|| crew.work());
            }
        });
        let shared = crew.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = shared.spool_error {
            return Err(error.into());
        }
        let mut survey = Self {
            roots: sorted_roots(shared.roots)?,
            failures: Vec::new(),
            contents: shared.contents,
            attached: HashMap::new(),
            absent: shared.absent,
            failed: shared.failed,
            spool,
        };
        survey.list_attached(shared.attached);
        let unresolved = shared
            .unresolved
            .into_iter()
            .map(|(at, error)| Failure { name: wishes[at].name.clone(), error: Arc::new(error) });
        survey.failures.extend(unresolved);
        survey.set_aside_failed();
        if !options.keep_going && !survey.failures.is_empty() {
            let first = survey.failures.swap_remove(0);
            return Err(SurveyError::Image { name: first.name, source: first.error });
        }
        survey.spool.append(&Finding::Complete)?;
        Ok(survey)
    }

    /// Puts a survey together again from what a spool holds.
    ///
    /// # Errors
    /// [`SurveyError::NameClash`], which a spool written by [`Survey::run`] can't hold.
    pub fn from_findings(findings: Vec<(Finding, u64)>, spool: Spool) -> Result<Self, SurveyError> {
        let mut survey = Self {
            roots: Vec::new(),
            failures: Vec::new(),
            contents: HashMap::new(),
            attached: HashMap::new(),
            absent: HashSet::new(),
            failed: HashMap::new(),
            spool,
        };
        let mut attached = Vec::new();
        for (finding, at) in findings {
            match finding {
                Finding::Root { name, reference, source, root } => {
                    survey.roots.push(Root { name, reference, source, root });
                }
                Finding::Content { digest, size } => {
                    survey.contents.insert(digest, (at, size as u32));
                }
                Finding::Attached { subject, source, list } => attached.push((subject, source, list)),
                Finding::Absent { digest, source } => {
                    survey.absent.insert((digest, source));
                }
                Finding::Complete => {}
            }
        }
        survey.list_attached(attached);
        survey.roots = sorted_roots(survey.roots)?;
        Ok(survey)
    }

    /// Returns the content of a manifest or configuration that the survey read; none for anything else.
    ///
    /// # Errors
    /// What the system says on reading the spool.
    pub fn content(&self, digest: &Digest) -> std::io::Result<Option<Vec<u8>>> {
        match self.contents.get(digest) {
            Some((at, length)) => self.spool.read(*at, *length as usize).map(Some),
            None => Ok(None),
        }
    }

    /// Returns whether the survey holds the content of `digest`.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.contents.contains_key(digest)
    }

    /// Returns whether a source refers to `digest` and does not have it.
    #[must_use]
    pub fn lacks(&self, digest: &Digest, source: usize) -> bool {
        self.absent.contains(&(digest.clone(), source))
    }

    /// Joins what the sources list: content is attached to a digest wherever the digest is. What several sources list
    /// is taken from the first that has it.
    fn list_attached(&mut self, found: Vec<AttachedAt>) {
        for (subject, source, list) in found {
            let known = self.attached.entry(subject).or_default();
            known.extend(list.into_iter().map(|(brief, tag)| Listed { brief, tag, source }));
        }
        let absent = &self.absent;
        for list in self.attached.values_mut() {
            list.sort_by_cached_key(|listed| {
                let Listed { brief, tag, source } = listed.clone();
                let is_absent = absent.contains(&(brief.digest.clone(), source));
                (tag, brief, is_absent, source)
            });
            list.dedup_by(|second, first| second.tag == first.tag && second.brief == first.brief);
        }
    }

    /// Returns the spool, which goes on as the journal of the transfer.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Moves the roots that reach a failed manifest from `roots` to `failures`.
    fn set_aside_failed(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for root in std::mem::take(&mut self.roots) {
            match self.first_failure_below(&root) {
                None => good.push(root),
                Some(error) => bad.push(Failure { name: root.name, error }),
            }
        }
        self.roots = good;
        self.failures.extend(bad);
        self.failures.sort_by_key(|failure| failure.name.to_string());
    }

    fn first_failure_below(&self, root: &Root) -> Option<Arc<StoreError>> {
        let (mut stack, mut seen) = (vec![(root.root.clone(), root.source)], HashSet::new());
        while let Some((brief, source)) = stack.pop() {
            let place = (brief.digest.clone(), source);
            if let Some(error) = self.failed.get(&place) {
                return Some(error.clone());
            }
            if !seen.insert(place) {
                continue;
            }
            let attached = self.attached.get(&brief.digest).into_iter().flatten();
            stack.extend(attached.map(|listed| (listed.brief.clone(), listed.source)));
            if let Ok(Some(bytes)) = self.content(&brief.digest)
                && let Ok(manifest) = Manifest::parse(&bytes, &brief.media_type)
            {
                stack.extend(manifest.descriptors().map(|child| (Brief::from(child), source)));
            }
        }
        None
    }
}

/// Sorts by name; the same image under the same name is one, two images under one name are an error.
fn sorted_roots(mut roots: Vec<Root>) -> Result<Vec<Root>, SurveyError> {
    roots.sort_by_cached_key(|root| {
        let reference = root.reference.as_ref().map(ToString::to_string);
        (root.name.to_string(), root.root.digest.clone(), reference, root.source)
    });
    roots.dedup_by(|second, first| second.name == first.name && second.root.digest == first.root.digest);
    match roots.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(SurveyError::NameClash {
            name: pair[0].name.clone(),
            first: pair[0].root.digest.clone(),
            second: pair[1].root.digest.clone(),
        }),
        None => Ok(roots),
    }
}

/// What one source lists as attached to a manifest: the manifest, the source, manifests with the tags they are found by.
type AttachedAt = (Digest, usize, Vec<(Brief, Option<String>)>);

enum Task {
    Resolve(usize),
    Manifest { brief: Brief, source: usize, selected: bool, depth: u8 },
    Attached { subject: Digest, source: usize, depth: u8 },
    Config { brief: Brief, source: usize },
}

#[derive(Default)]
struct Shared {
    queue: VecDeque<Task>,
    running: usize,
    stop: bool,
    seen: HashSet<(Digest, usize, bool)>,
    /// What was read from which source: one source's word on what it has is not another's.
    read: HashSet<(Digest, usize)>,
    roots: Vec<Root>,
    unresolved: BTreeMap<usize, StoreError>,
    contents: HashMap<Digest, (u64, u32)>,
    attached: Vec<AttachedAt>,
    absent: HashSet<(Digest, usize)>,
    failed: HashMap<(Digest, usize), Arc<StoreError>>,
    spool_error: Option<std::io::Error>,
}

struct Crew<'a> {
    sources: &'a [Arc<dyn Source>],
    wishes: &'a [Wish],
    options: &'a Options<'a>,
    spool: &'a Spool,
    shared: Mutex<Shared>,
    wake: Condvar,
}

impl Crew<'_> {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut shared = self.lock();
            let task = loop {
                if shared.stop {
                    return;
                }
                if let Some(task) = shared.queue.pop_front() {
                    break task;
                }
                if shared.running == 0 {
                    return;
                }
                shared = self.wake.wait(shared).unwrap_or_else(PoisonError::into_inner);
            };
            shared.running += 1;
            drop(shared);
            let outcome = self.carry_out(task);
            let mut shared = self.lock();
            shared.running -= 1;
            if let Err(error) = outcome {
                shared.spool_error = Some(error);
                shared.stop = true;
            }
            let has_failed = !shared.failed.is_empty() || !shared.unresolved.is_empty();
            if has_failed && !self.options.keep_going {
                shared.stop = true;
            }
            drop(shared);
            self.wake.notify_all();
        }
    }

    /// Does one task; only a failing spool is an error, all else is recorded.
    fn carry_out(&self, task: Task) -> std::io::Result<()> {
        match task {
            Task::Resolve(at) => self.resolve(at),
            Task::Manifest { brief, source, selected, depth } => {
                self.manifest(&brief, source, selected, depth)
            }
            Task::Attached { subject, source, depth } => self.attached(subject, source, depth),
            Task::Config { brief, source } => self.config(&brief, source),
        }
    }

    fn resolve(&self, at: usize) -> std::io::Result<()> {
        let wish = &self.wishes[at];
        match self.sources[wish.source].resolve(&wish.selector) {
            Ok(descriptor) => {
                let root = Brief::from(&descriptor);
                self.spool.append(&Finding::Root {
                    name: wish.name.clone(),
                    reference: wish.reference.clone(),
                    source: wish.source,
                    root: root.clone(),
                })?;
                let mut shared = self.lock();
                shared.roots.push(Root {
                    name: wish.name.clone(),
                    reference: wish.reference.clone(),
                    source: wish.source,
                    root: root.clone(),
                });
                shared.queue_manifest(root, wish.source, true, 0);
            }
            Err(error) => {
                self.lock().unresolved.insert(at, error);
            }
        }
        Ok(())
    }

    fn manifest(&self, brief: &Brief, source: usize, selected: bool, depth: u8) -> std::io::Result<()> {
        let from = self.sources[source].as_ref();
        let place = (brief.digest.clone(), source);
        let (held, was_read) = {
            let shared = self.lock();
            (shared.contents.get(&brief.digest).copied(), shared.read.contains(&place))
        };
        let bytes = match held {
            Some((at, length)) if was_read => Ok(self.spool.read(at, length as usize)?),
            _ => read_manifest(from, &brief.into()),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            // Depth 0 is a name that was resolved and is gone: its failure. Below it, the source is sparse.
            Err(error) if error.is_not_found() && depth > 0 => {
                self.spool.append(&Finding::Absent { digest: brief.digest.clone(), source })?;
                self.lock().absent.insert(place);
                return Ok(());
            }
            Err(error) => {
                self.lock().failed.insert(place, Arc::new(error));
                return Ok(());
            }
        };
        let manifest = Manifest::parse(&bytes, &brief.media_type);
        self.keep(&brief.digest, &bytes)?;
        self.lock().read.insert(place.clone());
        let unusable =
            |source| StoreError::Manifest { place: from.place(), digest: brief.digest.clone(), source };
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) => {
                self.lock().failed.insert(place, Arc::new(unusable(error)));
                return Ok(());
            }
        };
        if depth >= MAX_DEPTH {
            let why = format!("manifests are nested deeper than {MAX_DEPTH} levels below it or above it");
            let error = StoreError::Invalid { place: format!("{} {}", from.place(), brief.digest), why };
            self.lock().failed.insert(place, Arc::new(error));
            return Ok(());
        }
        let mut shared = self.lock();
        match &manifest {
            Manifest::Index(index) => {
                let keep = self.options.select.children(&index.manifests);
                for (child, keep) in index.manifests.iter().zip(keep) {
                    let selected = selected && keep;
                    if is_surveyed(child) && (selected || self.options.keep_unselected) {
                        shared.queue_manifest(child.into(), source, selected, depth + 1);
                    }
                }
            }
            // The platform of an image without an index stands in its configuration alone.
            Manifest::Image(image)
                if depth == 0 && image.is_runnable() && image.config.size <= MAX_CONFIG =>
            {
                shared.queue.push_back(Task::Config { brief: (&image.config).into(), source });
            }
            Manifest::Image(_) => {}
        }
        if selected && self.options.attachments != Attachments::None {
            shared.queue.push_back(Task::Attached { subject: brief.digest.clone(), source, depth });
        }
        Ok(())
    }

    fn attached(&self, subject: Digest, source: usize, depth: u8) -> std::io::Result<()> {
        match self.sources[source].attached(&subject) {
            Ok(list) => {
                let wants = |a: &Attached| {
                    self.options.attachments.wants(a.tag.as_deref(), a.descriptor.artifact_type.as_deref())
                        && a.descriptor.digest != subject
                };
                let mut list: Vec<(Brief, Option<String>)> =
                    list.into_iter().filter(wants).map(|a| (Brief::from(&a.descriptor), a.tag)).collect();
                list.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
                list.dedup();
                if list.is_empty() {
                    return Ok(());
                }
                let finding = Finding::Attached { subject: subject.clone(), source, list: list.clone() };
                self.spool.append(&finding)?;
                let mut shared = self.lock();
                for (brief, _) in &list {
                    shared.queue_manifest(brief.clone(), source, true, depth + 1);
                }
                shared.attached.push((subject, source, list));
            }
            Err(error) => {
                self.lock().failed.insert((subject, source), Arc::new(error));
            }
        }
        Ok(())
    }

    fn config(&self, brief: &Brief, source: usize) -> std::io::Result<()> {
        if self.lock().contents.contains_key(&brief.digest) {
            return Ok(());
        }
        // Only a help for the platform: what is wrong with a configuration is found, and said, when it is transferred.
        let mut bytes = Vec::new();
        if let Ok(reader) = self.sources[source].open_blob(&brief.digest, brief.size, 0)
            && std::io::Read::read_to_end(&mut std::io::Read::take(reader, MAX_CONFIG + 1), &mut bytes)
                .is_ok()
            && bytes.len() as u64 == brief.size
            && brief.digest.matches(&bytes)
        {
            self.keep(&brief.digest, &bytes)?;
        }
        Ok(())
    }

    fn keep(&self, digest: &Digest, bytes: &[u8]) -> std::io::Result<()> {
        if !bytes.is_empty() && !self.lock().contents.contains_key(digest) {
            let finding = Finding::Content { digest: digest.clone(), size: bytes.len() as u64 };
            let at = self.spool.append_content(&finding, bytes)?;
            self.lock().contents.insert(digest.clone(), (at, bytes.len() as u32));
        }
        Ok(())
    }
}

impl Shared {
    fn queue_manifest(&mut self, brief: Brief, source: usize, selected: bool, depth: u8) {
        // What was surveyed as selected needs no second look as unselected.
        if self.seen.contains(&(brief.digest.clone(), source, true))
            || !self.seen.insert((brief.digest.clone(), source, selected))
        {
            return;
        }
        self.queue.push_back(Task::Manifest { brief, source, selected, depth });
    }
}

/// Returns whether an entry of an index is read as a manifest: entries of other types are opaque blobs.
#[must_use]
pub(super) fn is_surveyed(child: &Descriptor) -> bool {
    media_type::is_manifest(&child.media_type)
        || media_type::is_schema1(&child.media_type)
        || (child.media_type.is_empty() && choosable(child).is_some())
}
