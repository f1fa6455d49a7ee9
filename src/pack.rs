//! Packing: from what is asked for to a bundle.
//!
//! [`Prepared`] is the plan: every name resolved, every manifest read, nothing fetched. [`Prepared::write`] carries it
//! out. An unfinished earlier run with the same arguments is taken up without asking any source again for what its
//! journal pins.

mod asked;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::bundle::head::Head;
use crate::graph::spool::Spool;
use crate::graph::survey::{self, Survey, SurveyError, Wish};
use crate::graph::{Graph, NodeId, Presence};
use crate::oci::{Digest, Platform, Reference};
use crate::plan::{self, Item, Summary};
use crate::request::Request;
use crate::select::{Attachments, Reason, Select, Wanted};
use crate::store::Source;
use crate::transfer::archive::{self, Files, Job, Reuse, Written};
use crate::transfer::journal::{Earlier, Journal, Mark};
use crate::transfer::{Progress, TransferError, layout};

pub use asked::{Asked, HoldsNothing, Leftover, Relied, Removed};
use asked::{Recorded, Selection};

/// Where the bundle goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// One archive under this name.
    Archive(PathBuf),
    /// One archive in this folder, under a name made of the bundle ID.
    Folder(PathBuf),
    /// An OCI layout directory.
    Layout(PathBuf),
    /// Nowhere: only the plan is wanted.
    Nowhere,
}

/// How to pack.
#[derive(Debug, Clone)]
pub struct Options {
    /// Platforms and foreign layers.
    pub wanted: Wanted,
    /// Whether a platform that an image lacks is an error.
    pub strict_platforms: bool,
    /// Which attached content is looked for.
    pub attachments: Attachments,
    /// Whether what can't be had leaves the rest going.
    pub keep_going: bool,
    /// How many transfers at once.
    pub jobs: usize,
    /// The largest bundle that is wanted, in bytes of content.
    pub max_size: Option<u64>,
    /// Whether to plan anew and only take over the content of an unfinished earlier run.
    pub restart: bool,
    /// Where the bundle goes.
    pub output: Output,
}

/// Why a bundle can't be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Nothing was asked for.
    #[error("no image was named")]
    NoImages,
    /// None of the images could be had.
    #[error("none of the {} images can be had", .0.len())]
    NothingLeft(Vec<survey::Failure>),
    /// A wanted platform that no image has.
    #[error("no image has the platform {platform}; they have {}", list(.have))]
    NoSuchPlatform {
        /// The platform.
        platform: Platform,
        /// What there is.
        have: Vec<Platform>,
    },
    /// An image lacks a wanted platform, and that was to be an error.
    #[error("{image} does not have the platform {}", list(.lacking))]
    PlatformLacking {
        /// The image.
        image: Reference,
        /// What it lacks.
        lacking: Vec<Platform>,
    },
    /// Nothing of what was requested is in any of the images.
    #[error("none of the images needs anything of what is requested")]
    NothingRequested,
    /// A source is a delta bundle, and what it builds on is not given.
    #[error(
        "{count} pieces of content, {digest} of {image} first, are in what the bundle builds on, which is not given"
    )]
    BaseNotGiven {
        /// How many pieces.
        count: usize,
        /// The first of them.
        digest: Digest,
        /// An image that needs it.
        image: Reference,
    },
    /// The bundle would be larger than wanted.
    #[error("the bundle would hold {bytes} bytes, more than the {limit} allowed")]
    TooBig {
        /// Bytes of content.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// The largest pieces.
        largest: Vec<Item>,
    },
    /// The plan could not be made or carried out.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl From<SurveyError> for PackError {
    fn from(error: SurveyError) -> Self {
        Self::Transfer(error.into())
    }
}

fn list(platforms: &[Platform]) -> String {
    let texts: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none that is known".to_owned() } else { texts.join(", ") }
}

/// A warning: one cause, and everything it concerns.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// What is the matter, for all items alike.
    pub cause: String,
    /// What it concerns.
    pub items: Vec<String>,
}

/// A plan that can be carried out.
pub struct Prepared {
    /// The graph.
    pub graph: Graph,
    /// What the plan amounts to.
    pub summary: Summary,
    /// What people should know.
    pub warnings: Vec<Warning>,
    /// Images that could not be had.
    pub failures: Vec<survey::Failure>,
    /// How long ago an earlier run resolved the names, where this one goes on from it.
    pub resumed: Option<Duration>,
    survey: Survey,
    order: Vec<NodeId>,
    sources: Vec<Arc<dyn Source>>,
    unresolved: Vec<Reference>,
    options: Options,
    state: Option<State>,
}

/// The working files of an archive.
struct State {
    files: Files,
    journal: Journal,
    earlier: Option<Earlier>,
    /// A file under a final name that an earlier run ended with gaps, and that this run replaces.
    replaces: Option<PathBuf>,
}

/// How a pack ended.
pub enum Outcome {
    /// An archive or layout was written.
    Written {
        /// Where it is.
        path: PathBuf,
        /// What was written.
        written: Written,
    },
    /// A bundle with the same ID is there already.
    Unchanged {
        /// Where it is.
        path: PathBuf,
        /// The bundle ID.
        id: Digest,
        /// The state code that a target should read back.
        state: String,
    },
}

impl Prepared {
    /// Plans a bundle of what `wishes` ask of `sources`; see [`Prepared::of`].
    ///
    /// # Errors
    /// As [`Prepared::of`].
    pub fn new(sources: Vec<Arc<dyn Source>>, wishes: &[Wish], options: Options) -> Result<Self, PackError> {
        Self::of(Asked { sources, wishes: wishes.to_vec(), ..Asked::default() }, options)
    }

    /// Plans a bundle: surveys the sources, or takes up the plan of an unfinished earlier run.
    ///
    /// # Errors
    /// [`PackError`]; nothing was written, but for the journal of a run that can be taken up.
    pub fn of(asked: Asked, options: Options) -> Result<Self, PackError> {
        if asked.wishes.is_empty() {
            return Err(PackError::NoImages);
        }
        let asked = asked.sorted();
        let arguments = asked.digest(&options);
        let mut state = State::open(&options, &arguments)?;
        match Self::plan(asked, options, &arguments, state.as_mut()) {
            Ok(prepared) => Ok(Self { state, ..prepared }),
            Err(error) => {
                if let Some(state) = state {
                    state.give_up();
                }
                Err(error)
            }
        }
    }

    fn plan(
        asked: Asked,
        options: Options,
        arguments: &Digest,
        mut state: Option<&mut State>,
    ) -> Result<Self, PackError> {
        let union = asked.union.clone();
        let select = Selection { wanted: &options.wanted, bundles: &asked.bundles, union: union.as_deref() };
        let mut unresolved = Vec::new();
        let mut resumed = None;
        let earlier_survey = state.as_mut().and_then(|state| state.take_survey()).transpose()?;
        let mut survey = match earlier_survey {
            Some((survey, earlier)) if !options.restart && earlier.unresolved.is_empty() => {
                resumed = Some(earlier.age);
                if let Some(state) = &mut state {
                    state.earlier = Some(earlier);
                }
                survey
            }
            before => {
                if let Some(state) = &mut state {
                    if let Some((mut survey, earlier)) = before
                        && !survey.roots.is_empty()
                    {
                        let graph = graph_of(&mut survey, &asked, &select)?;
                        state.find_replaced(&graph, &earlier, &options)?;
                    }
                    state.journal.start_over(arguments)?;
                }
                let spool = match &state {
                    Some(state) => state.journal.spool()?,
                    None => Spool::temporary().map_err(SurveyError::Spool)?,
                };
                let survey = survey_sources(&asked, spool, &select, &options)?;
                for failure in &survey.failures {
                    unresolved.push(failure.name.clone());
                    let mark = Mark::Unresolved { name: failure.name.clone() };
                    survey.spool().append(&mark).map_err(SurveyError::Spool)?;
                }
                survey
            }
        };
        if survey.roots.is_empty() {
            return Err(PackError::NothingLeft(std::mem::take(&mut survey.failures)));
        }
        let graph = graph_of(&mut survey, &asked, &select)?;
        let mut warnings = platform_warnings(&graph, &options)?;
        warnings.extend(absence_warnings(&graph));
        let summary = plan::summarize(&graph);
        if let Some(limit) = options.max_size
            && summary.bytes > limit
        {
            return Err(PackError::TooBig { bytes: summary.bytes, limit, largest: summary.largest });
        }
        let order = plan::file_order(&graph);
        let failures = std::mem::take(&mut survey.failures);
        Ok(Self {
            graph,
            summary,
            warnings,
            failures,
            resumed,
            survey,
            order,
            sources: asked.sources,
            unresolved,
            options,
            state: None,
        })
    }

    /// Writes the bundle.
    ///
    /// # Errors
    /// [`PackError::Transfer`]; what was written so far stays for the next run to go on from.
    pub fn write(mut self, progress: &dyn Progress) -> Result<Outcome, PackError> {
        let state = self.state.take();
        let job = Job {
            survey: &self.survey,
            graph: &self.graph,
            order: &self.order,
            sources: &self.sources,
            unresolved: &self.unresolved,
            jobs: self.options.jobs,
            keep_going: self.options.keep_going,
            reuse: None,
        };
        let head = Head::compose(&self.graph, &self.order, &HashSet::new(), &self.unresolved)
            .map_err(TransferError::from)?;
        if let Output::Layout(folder) = &self.options.output {
            if is_bundle(folder, &head.id) {
                return Ok(Outcome::Unchanged {
                    path: folder.clone(),
                    state: head.record.state(),
                    id: head.id,
                });
            }
            let written = layout::write(&job, folder, progress)?;
            return Ok(Outcome::Written { path: folder.clone(), written });
        }
        let Some(State { mut files, journal, earlier, replaces }) = state else {
            return Err(PackError::NoImages);
        };
        if let Output::Folder(folder) = &self.options.output {
            files = Files::new(&folder.join(own_name(&head)), &with_suffix_cut(&files.partial));
        }
        let goes_on = earlier.is_some() && (files.partial.exists() || ended_with_gaps(&files.archive));
        if !goes_on {
            if let Some(unfinished) = replaces.filter(|path| path.exists()) {
                files.set_aside(&unfinished)?;
            }
            if files.partial.exists() {
                journal.remove()?;
                return Err(exists(files.partial, "nothing that a journal speaks of").into());
            }
            if files.archive.exists() {
                if is_bundle(&files.archive, &head.id) {
                    journal.remove()?;
                    return Ok(Outcome::Unchanged {
                        path: files.archive,
                        state: head.record.state(),
                        id: head.id,
                    });
                }
                let is_ours = Bundle::open(&files.archive).is_ok_and(|bundle| bundle.id().is_some());
                journal.remove()?;
                let what = if is_ours { "another bundle" } else { "something else" };
                return Err(exists(files.archive, what).into());
            }
        }
        let reuse = Reuse::open(&files);
        let job = Job { reuse: reuse.as_ref(), ..job };
        let written = archive::write(&job, &files, journal, earlier.as_ref().filter(|_| goes_on), progress)?;
        Reuse::discard(&files);
        Ok(Outcome::Written { path: files.archive, written })
    }
}

fn exists(path: PathBuf, what: &str) -> TransferError {
    TransferError::Exists { path, what: what.to_owned() }
}

/// Returns whether a file or folder is the whole bundle with this ID.
fn is_bundle(path: &Path, id: &Digest) -> bool {
    Bundle::open(path).is_ok_and(|bundle| bundle.fault().is_none() && bundle.id() == Some(id))
}

/// Returns whether a file is what an earlier run ended with gaps.
fn ended_with_gaps(path: &Path) -> bool {
    path.is_file()
        && Bundle::open(path)
            .is_ok_and(|bundle| bundle.record().is_some_and(|record| !record.failed.is_empty()))
}

/// Returns the name that a bundle gets in a folder: short, and of letters that FAT and Joliet take. Other tools pick up
/// full bundles by their suffix, and must not pick up deltas.
fn own_name(head: &Head) -> String {
    let suffix = if head.record.base.is_some() { "barge" } else { "oci.tar" };
    format!("barge-{}.{suffix}", head.id.short())
}

fn with_suffix_cut(partial: &Path) -> PathBuf {
    let text = partial.to_string_lossy();
    PathBuf::from(text.strip_suffix(".partial").unwrap_or(&text))
}

impl State {
    fn open(options: &Options, arguments: &Digest) -> Result<Option<Self>, TransferError> {
        let files = match &options.output {
            Output::Archive(path) => Files::new(path, path),
            Output::Folder(folder) => {
                let stem = folder.join(format!("barge-{}", arguments.short()));
                Files::new(&stem, &stem)
            }
            Output::Layout(_) | Output::Nowhere => return Ok(None),
        };
        let is_unfinished = files.partial.exists() || ended_with_gaps(&files.archive);
        let journal =
            Journal::open(&files.journal, &files.partial, is_unfinished, arguments, options.restart)?;
        // Without a journal that speaks of it, what stands under either name is not barge's to touch.
        let replaces = [&files.partial, &files.archive].into_iter().find(|path| path.exists());
        let replaces = replaces.filter(|_| is_unfinished && journal.is_taken_up).cloned();
        Ok(Some(Self { files, journal, earlier: None, replaces }))
    }

    /// Leaves nothing behind of a plan that failed, unless there is an unfinished file that it belongs to.
    fn give_up(self) {
        if self.replaces.is_none() {
            // That it stays is no harm: the next run starts it over.
            self.journal.remove().ok();
        }
    }

    /// Takes the survey of an earlier run out of the journal.
    fn take_survey(&mut self) -> Option<Result<(Survey, Earlier), PackError>> {
        let mut earlier = self.journal.earlier.take()?;
        let findings = std::mem::take(&mut earlier.findings);
        let survey = self
            .journal
            .spool()
            .map_err(PackError::from)
            .and_then(|spool| Survey::from_findings(findings, spool).map_err(PackError::from));
        Some(survey.map(|survey| (survey, earlier)))
    }

    /// Finds the file that an earlier run ended with gaps in a folder, where its name depends on the plan.
    fn find_replaced(
        &mut self,
        graph: &Graph,
        earlier: &Earlier,
        options: &Options,
    ) -> Result<(), PackError> {
        let Output::Folder(folder) = &options.output else { return Ok(()) };
        if self.replaces.is_some() {
            return Ok(());
        }
        let order = plan::file_order(graph);
        let head = Head::compose(graph, &order, &HashSet::new(), &earlier.unresolved)
            .map_err(TransferError::from)?;
        let path = folder.join(own_name(&head));
        self.replaces = Some(path).filter(|path| ended_with_gaps(path));
        Ok(())
    }
}

/// Derives the graph of what is to travel.
fn graph_of(survey: &mut Survey, asked: &Asked, select: &dyn Select) -> Result<Graph, PackError> {
    let mut graph = Graph::build(survey, select).map_err(TransferError::from)?;
    if let Some(request) = &asked.request {
        let needing = images_needing(&graph, request);
        if needing.is_empty() {
            return Err(PackError::NothingRequested);
        }
        survey.roots.retain(|root| needing.contains(&root.name));
        graph = Graph::build(survey, select).map_err(TransferError::from)?;
    }
    rely_on(&mut graph, asked)?;
    Ok(graph)
}

/// Returns the names of the images that need something of what is asked for.
fn images_needing(graph: &Graph, request: &Request) -> HashSet<Reference> {
    let is_wanted = |id: &NodeId| request.find(graph.digest(*id)).is_some();
    let needing = graph.images.iter().filter(|image| graph.image_closure(image).iter().any(is_wanted));
    needing.map(|image| image.name.clone()).collect()
}

/// Leaves out what the far side has.
fn rely_on(graph: &mut Graph, asked: &Asked) -> Result<(), PackError> {
    let holds = |digest: &Digest, size: u64| match &asked.relied {
        Some(relied) => relied.holds.seen(digest, size).is_some(),
        None => false,
    };
    let leftover: Vec<NodeId> = graph
        .nodes()
        .filter(|(_, digest, node)| {
            node.presence == Presence::Absent(Reason::Base) && !holds(digest, node.size)
        })
        .map(|(id, ..)| id)
        .collect();
    let policy = asked.relied.as_ref().map_or(Leftover::Refused, |relied| relied.leftover);
    if let (Some(first), Leftover::Refused) = (leftover.first(), policy) {
        return Err(PackError::BaseNotGiven {
            count: leftover.len(),
            digest: graph.digest(*first).clone(),
            image: archive::owner(graph, *first),
        });
    }
    match &asked.relied {
        Some(relied) if policy != Leftover::KeptIfAny || !leftover.is_empty() => {
            let removed = (relied.removed)(graph);
            graph.rely_on(relied.bases.clone(), removed, &*relied.holds, &Recorded(asked));
        }
        _ => {}
    }
    Ok(())
}

fn survey_sources(
    asked: &Asked,
    spool: Spool,
    select: &dyn Select,
    options: &Options,
) -> Result<Survey, PackError> {
    let options = survey::Options {
        select,
        attachments: options.attachments,
        keep_unselected: true,
        keep_going: options.keep_going,
        jobs: options.jobs,
    };
    Ok(Survey::run(&asked.sources, &asked.wishes, spool, &options)?)
}

/// Says which images lack a wanted platform.
fn platform_warnings(graph: &Graph, options: &Options) -> Result<Vec<Warning>, PackError> {
    let mut lacking_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut inexact_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut all: Vec<Platform> = Vec::new();
    for image in &graph.images {
        let (mut have, left) = graph.image_platforms(image);
        have.extend(left);
        all.extend(have.iter().cloned());
        if have.is_empty() {
            continue;
        }
        let (lacking, inexact) = options.wanted.unanswered(&have.iter().collect::<Vec<_>>());
        if options.strict_platforms && !lacking.is_empty() {
            let lacking = lacking.into_iter().cloned().collect();
            return Err(PackError::PlatformLacking { image: image.name.clone(), lacking });
        }
        // An image without an index is packed whatever its platform is; it must not pass for the wanted one.
        let has_no_choice = !graph.node(image.root).kind.is_manifest() || graph.is_runnable(image.root);
        for platform in lacking {
            let note = if has_no_choice {
                format!(" (has only {}, which is packed)", list(&have))
            } else {
                String::new()
            };
            lacking_by.entry(platform.to_string()).or_default().push(format!("{}{note}", image.name));
        }
        for platform in inexact {
            inexact_by.entry(platform.to_string()).or_default().push(image.name.to_string());
        }
    }
    all.sort();
    all.dedup();
    if !all.is_empty() {
        let (nowhere, _) = options.wanted.unanswered(&all.iter().collect::<Vec<_>>());
        if let Some(platform) = nowhere.first() {
            return Err(PackError::NoSuchPlatform { platform: (*platform).clone(), have: all });
        }
    }
    let lacking = lacking_by
        .into_iter()
        .map(|(platform, items)| Warning { cause: format!("without the platform {platform}"), items });
    let inexact = inexact_by.into_iter().map(|(platform, items)| Warning {
        cause: format!("another variant stands in for {platform}"),
        items,
    });
    Ok(lacking.chain(inexact).collect())
}

/// Says what is left out that nobody asked to leave out.
fn absence_warnings(graph: &Graph) -> Vec<Warning> {
    let (mut foreign, mut source) = (Vec::new(), Vec::new());
    for (id, digest, node) in graph.nodes() {
        let list = match node.presence {
            Presence::Absent(Reason::Foreign) => &mut foreign,
            Presence::Absent(Reason::Source) => &mut source,
            _ => continue,
        };
        list.push(format!("{digest} of {}", archive::owner(graph, id)));
    }
    let warning = |cause: &str, items: Vec<String>| {
        (!items.is_empty()).then(|| Warning { cause: cause.to_owned(), items })
    };
    [
        warning("non-distributable layer left out (`--foreign-layers` includes it)", foreign),
        warning("listed by the source, which does not have it", source),
    ]
    .into_iter()
    .flatten()
    .collect()
}
