//! Packing: from what is asked for to a bundle.
//!
//! [`Prepared`] is the plan: every name resolved, every manifest read, nothing fetched. [`Prepared::write`] carries it
//! out. An unfinished earlier run with the same arguments is taken up without asking any source again for what its
//! journal pins.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::bundle::head::Head;
use crate::graph::spool::Spool;
use crate::graph::survey::{self, Survey, SurveyError, Wish};
use crate::graph::{Graph, NodeId, Presence};
use crate::oci::{Digest, Hasher, Platform, Reference};
use crate::plan::{self, Item, Summary};
use crate::select::{Attachments, Reason, Wanted};
use crate::store::{Source, StoreError};
use crate::transfer::archive::{self, Files, Job, Reuse, Written};
use crate::transfer::journal::{Earlier, Journal, Mark};
use crate::transfer::{Progress, TransferError, layout};

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
    reuse: Option<Reuse>,
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
    },
}

impl Prepared {
    /// Plans a bundle: surveys the sources, or takes up the plan of an unfinished earlier run.
    ///
    /// # Errors
    /// [`PackError`]; nothing was written but the journal.
    pub fn new(sources: Vec<Arc<dyn Source>>, wishes: &[Wish], options: Options) -> Result<Self, PackError> {
        if wishes.is_empty() {
            return Err(PackError::NoImages);
        }
        let arguments = arguments_digest(&sources, wishes, &options);
        let state = State::open(&options, &arguments)?;
        let files = state.as_ref().map(|state| state.files.clone());
        let prepared = Self::plan(sources, wishes, options, &arguments, state);
        // A plan that was not made leaves nothing behind, unless its journal belongs to an unfinished file.
        if let (Err(_), Some(files)) = (&prepared, &files)
            && !files.partial.exists()
            && !ended_with_gaps(files)
        {
            std::fs::remove_file(&files.journal).ok();
        }
        prepared
    }

    fn plan(
        sources: Vec<Arc<dyn Source>>,
        wishes: &[Wish],
        options: Options,
        arguments: &Digest,
        mut state: Option<State>,
    ) -> Result<Self, PackError> {
        let mut unresolved = Vec::new();
        let mut resumed = None;
        let earlier_survey = state.as_mut().and_then(State::take_survey).transpose()?;
        let survey = match earlier_survey {
            Some((survey, earlier)) if !options.restart && earlier.unresolved.is_empty() => {
                resumed = Some(earlier.age);
                if let Some(state) = &mut state {
                    state.earlier = Some(earlier);
                }
                survey
            }
            before => {
                if let (Some(state), Some((survey, earlier))) = (&mut state, before) {
                    state.reuse_content_of(&survey, &earlier, &options)?;
                    state.journal.start_over(arguments)?;
                }
                let spool = match &state {
                    Some(state) => state.journal.spool()?,
                    None => Spool::temporary().map_err(SurveyError::Spool)?,
                };
                let survey = survey_sources(&sources, wishes, spool, &options)?;
                for failure in &survey.failures {
                    unresolved.push(failure.name.clone());
                    let mark = Mark::Unresolved { name: failure.name.clone() };
                    survey.spool().append(&mark).map_err(SurveyError::Spool)?;
                }
                survey
            }
        };
        let mut survey = survey;
        if survey.roots.is_empty() {
            return Err(PackError::NothingLeft(std::mem::take(&mut survey.failures)));
        }
        let graph = Graph::build(&survey, &options.wanted).map_err(TransferError::from)?;
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
            sources,
            unresolved,
            options,
            state,
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
        if let Output::Layout(folder) = &self.options.output {
            let written = layout::write(&job, folder, progress)?;
            return Ok(Outcome::Written { path: folder.clone(), written });
        }
        let Some(State { mut files, journal, earlier, reuse }) = state else {
            return Err(PackError::NoImages);
        };
        let job = Job { reuse: reuse.as_ref(), ..job };
        let head = Head::compose(&self.graph, &self.order, &HashSet::new(), &self.unresolved)
            .map_err(TransferError::from)?;
        if let Output::Folder(folder) = &self.options.output {
            files = Files::new(&folder.join(own_name(&head.id)), &with_suffix_cut(&files.partial));
        }
        let goes_on = earlier.is_some() && (files.partial.exists() || ended_with_gaps(&files));
        if !goes_on && files.archive.exists() {
            return match Bundle::open(&files.archive) {
                Ok(bundle) if bundle.fault().is_none() && bundle.id() == Some(&head.id) => {
                    journal.remove()?;
                    Ok(Outcome::Unchanged { path: files.archive, id: head.id })
                }
                Ok(bundle) if bundle.id().is_some() => Err(exists(files.archive, "another bundle").into()),
                _ => Err(exists(files.archive, "something else").into()),
            };
        }
        let written = archive::write(&job, &files, journal, earlier.as_ref().filter(|_| goes_on), progress)?;
        if let Some(reuse) = &reuse {
            reuse.discard();
        }
        Ok(Outcome::Written { path: files.archive, written })
    }
}

fn exists(path: PathBuf, what: &str) -> TransferError {
    TransferError::Exists { path, what: what.to_owned() }
}

/// Returns whether the file under the final name is what an earlier run ended with gaps.
fn ended_with_gaps(files: &Files) -> bool {
    Bundle::open(&files.archive)
        .is_ok_and(|bundle| bundle.record().is_some_and(|record| !record.failed.is_empty()))
}

/// Returns the name that a bundle gets in a folder: short, and of letters that FAT and Joliet take.
fn own_name(id: &Digest) -> String {
    format!("barge-{}.oci.tar", id.short())
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
        let journal = Journal::open(&files.journal, &files.partial, arguments)?;
        Ok(Some(Self { files, journal, earlier: None, reuse: None }))
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

    /// Moves the earlier run's file aside, to copy from it what the new plan needs too.
    fn reuse_content_of(
        &mut self,
        survey: &Survey,
        earlier: &Earlier,
        options: &Options,
    ) -> Result<(), PackError> {
        let from = [&self.files.partial, &self.files.archive].into_iter().find(|path| path.exists());
        let Some(from) = from else { return Ok(()) };
        let aside = PathBuf::from(format!("{}.old", self.files.partial.display()));
        let graph = Graph::build(survey, &options.wanted).map_err(TransferError::from)?;
        let order = plan::file_order(&graph);
        let head = Head::compose(&graph, &order, &HashSet::new(), &earlier.unresolved)
            .map_err(TransferError::from)?;
        std::fs::rename(from, &aside).map_err(|source| TransferError::Local {
            path: from.clone(),
            action: "the earlier file can't be moved aside",
            source,
        })?;
        self.reuse = Some(Reuse::new(&aside, &head, &earlier.done)?);
        Ok(())
    }
}

fn survey_sources(
    sources: &[Arc<dyn Source>],
    wishes: &[Wish],
    spool: Spool,
    options: &Options,
) -> Result<Survey, PackError> {
    let survey = Survey::run(
        sources,
        wishes,
        spool,
        &survey::Options {
            select: &options.wanted,
            attachments: options.attachments,
            keep_unselected: true,
            keep_going: options.keep_going,
            jobs: options.jobs,
        },
    )?;
    Ok(survey)
}

/// Returns a digest over everything that decides what the bundle is.
fn arguments_digest(sources: &[Arc<dyn Source>], wishes: &[Wish], options: &Options) -> Digest {
    let mut lines: Vec<String> = wishes
        .iter()
        .map(|wish| format!("image {} {} {}", wish.name, sources[wish.source].place(), wish.selector))
        .collect();
    lines.extend(options.wanted.platforms.iter().map(|platform| format!("platform {platform}")));
    lines.sort();
    lines.dedup();
    lines.push(format!("foreign {} attachments {:?}", options.wanted.foreign_layers, options.attachments));
    // Another version may lay out the same content otherwise.
    lines.push(format!("version {}", env!("CARGO_PKG_VERSION")));
    let mut hasher = Hasher::new(crate::oci::Algorithm::Sha256);
    hasher.update(lines.join("\n").as_bytes());
    hasher.finish()
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

/// Returns the error that a store gave, where a pack failed by one.
#[must_use]
pub fn store_error(error: &PackError) -> Option<&StoreError> {
    match error {
        PackError::Transfer(TransferError::Blob { source, .. } | TransferError::Target(source)) => {
            Some(source)
        }
        PackError::Transfer(TransferError::Survey(SurveyError::Image { source, .. })) => Some(source),
        _ => None,
    }
}
