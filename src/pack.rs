//! Packing: from what is asked for to a bundle.
//!
//! [`Prepared`] is the plan: every name resolved, every manifest read, nothing fetched. [`Prepared::write`] carries it
//! out. An unfinished earlier run with the same arguments is taken up without asking any source again for what its
//! journal pins.

mod asked;
mod patching;
mod reliance;
mod state;
mod warnings;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::bundle::head::Head;
use crate::graph::spool::Spool;
use crate::graph::survey::{self, Survey, SurveyError, Wish};
use crate::graph::{Graph, Node, NodeId};
use crate::inventory::state_code;
use crate::oci::{Digest, Platform, Reference};
use crate::plan::{self, Item, Summary};
use crate::select::{Attachments, Select, Wanted};
use crate::store::Source;
use crate::transfer::archive::{self, Files, Job, Reuse, Written};
use crate::transfer::journal::Mark;
use crate::transfer::{Progress, TransferError, layout};

use asked::Selection;
pub use asked::{Asked, HoldsNothing, Leftover, Relied, Removed};
pub use patching::{Making, PatchReport, PatchSpool, Unreadable};
use reliance::graph_of;
use state::{State, ended_with_gaps};
pub use warnings::{Empty, Warning};
use warnings::{absence_warnings, check_platforms, left_empty, platform_warnings, set_aside_empty, unmet};

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
    /// An image has none of the platforms that are wanted of it.
    #[error("nothing of {} would travel: it has {}, not {}", .0.name, list(&.0.have), list(&.0.wanted))]
    NothingOfImage(Empty),
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
    /// What was requested is there, and the images that were named are not those of the request.
    #[error("the images that were named are not those that the request is for")]
    OthersRequested,
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
    /// Which of the sources are bundles, by their number.
    bundle_sources: HashSet<usize>,
    unresolved: Vec<Reference>,
    options: Options,
    state: Option<State>,
    arguments: Digest,
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
        let asked = asked.with_requested(&options).sorted();
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
        let mut graph = graph_of(&mut survey, &asked, &select)?;
        check_platforms(&graph, &options)?;
        let empty = left_empty(&graph, &options);
        if !empty.is_empty() {
            for name in set_aside_empty(&mut survey, empty, &options)? {
                survey
                    .spool()
                    .append(&Mark::Unresolved { name: name.clone() })
                    .map_err(SurveyError::Spool)?;
                unresolved.push(name);
            }
            graph = graph_of(&mut survey, &asked, &select)?;
        }
        let mut warnings = platform_warnings(&graph, &options)?;
        warnings.extend(absence_warnings(&graph));
        warnings.extend(asked.request.as_ref().and_then(|request| unmet(&graph, request)));
        let summary = plan::summarize(&graph);
        // What relies on the far side gets smaller yet by patches: its size is known when they are made.
        if graph.reliance.is_none() || options.output == Output::Nowhere {
            check_size(&summary, options.max_size)?;
        }
        let order = plan::file_order(&graph);
        let failures = std::mem::take(&mut survey.failures);
        let bundle_sources = match &asked.union {
            Some(_) => (0..asked.sources.len()).collect(),
            None => asked.bundles.keys().copied().collect(),
        };
        Ok(Self {
            graph,
            summary,
            warnings,
            failures,
            resumed,
            survey,
            order,
            sources: asked.sources,
            bundle_sources,
            unresolved,
            options,
            state: None,
            arguments: arguments.clone(),
        })
    }

    /// Gives the plan up: no working file stays of it, but for those of an unfinished file that it belongs to.
    pub fn give_up(mut self) {
        if let Some(state) = self.state.take() {
            state.give_up();
        }
    }

    /// Returns the state code that a target should read back.
    #[must_use]
    pub fn state(&self) -> String {
        let graph = &self.graph;
        let images: Vec<(String, &Digest, Vec<Platform>)> = graph
            .images
            .iter()
            .map(|image| (image.name.to_string(), graph.digest(image.root), graph.image_platforms(image).0))
            .collect();
        state_code(images.iter().map(|(name, root, platforms)| (name.clone(), *root, platforms.as_slice())))
    }

    /// Returns a digest over everything that decides what the bundle is, but for how patches are made.
    #[must_use]
    pub fn arguments(&self) -> &Digest {
        &self.arguments
    }

    /// Returns which attached content was looked for.
    #[must_use]
    pub fn attachments(&self) -> Attachments {
        self.options.attachments
    }

    /// Returns the place that has a piece of content.
    #[must_use]
    pub fn source(&self, node: &Node) -> &Arc<dyn Source> {
        &self.sources[usize::from(node.source)]
    }

    /// Returns the content of a manifest or configuration that was read; none for anything else.
    ///
    /// # Errors
    /// What the system says on reading the working file.
    pub fn content(&self, digest: &Digest) -> std::io::Result<Option<Vec<u8>>> {
        self.survey.content(digest)
    }

    /// Returns the names that the bases have and that are no longer wanted.
    #[must_use]
    pub fn removed(&self) -> BTreeSet<String> {
        self.graph.reliance.iter().flat_map(|reliance| reliance.removed.iter().cloned()).collect()
    }

    /// Writes the bundle.
    ///
    /// # Errors
    /// [`PackError::Transfer`]; what was written so far stays for the next run to go on from.
    pub fn write(mut self, progress: &dyn Progress) -> Result<Outcome, PackError> {
        let state = self.state.take();
        if let Err(error) = check_size(&self.summary, self.options.max_size) {
            if let Some(state) = state {
                state.give_up();
            }
            return Err(error);
        }
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
        // The same arguments may mean another plan: a base under the same ID can say more of where it saw content.
        let same_plan = earlier.as_ref().is_some_and(|earlier| earlier.plan.as_ref() == Some(&head.id));
        let goes_on = same_plan && (files.partial.exists() || ended_with_gaps(&files.archive));
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
        if !goes_on {
            self.survey.spool().append(&Mark::Plan { head: head.id.clone() }).map_err(SurveyError::Spool)?;
        }
        let reuse = Reuse::open(&files);
        let job = Job { reuse: reuse.as_ref(), ..job };
        let written = archive::write(&job, &files, journal, earlier.as_ref().filter(|_| goes_on), progress)?;
        Reuse::discard(&files);
        Ok(Outcome::Written { path: files.archive, written })
    }
}

/// Checks that the content is not more than wanted.
fn check_size(summary: &Summary, limit: Option<u64>) -> Result<(), PackError> {
    match limit {
        Some(limit) if summary.bytes > limit => {
            Err(PackError::TooBig { bytes: summary.bytes, limit, largest: summary.largest.clone() })
        }
        _ => Ok(()),
    }
}

fn exists(path: PathBuf, what: &str) -> TransferError {
    TransferError::Exists { path, what: what.to_owned() }
}

/// Returns whether a file or folder is the whole bundle with this ID.
fn is_bundle(path: &Path, id: &Digest) -> bool {
    Bundle::open(path).is_ok_and(|bundle| bundle.fault().is_none() && bundle.id() == Some(id))
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
    let survey = Survey::run(&asked.sources, &asked.wishes, spool, &options);
    survey.map_err(|error| error.said_at(|name| asked.said.of(name)).into())
}
