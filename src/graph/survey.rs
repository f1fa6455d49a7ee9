//! The survey: everything that can be learnt about the wanted images from their manifests, before the first layer moves.
//!
//! Workers resolve the names, read the manifests below them and ask what is attached. What they learn is written to a
//! [`Spool`] as it comes, in any order; [`Graph::build`](super::Graph::build) then derives the graph from the survey
//! alone, in a fixed order. A survey read back from a journal therefore gives the same graph without asking anybody.

mod crew;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Part;
use super::spool::Spool;
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference, media_type};
use crate::select::{Attachments, Select, choosable};
use crate::store::{Source, StoreError};

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
    /// The platforms wanted of it; empty for those that are wanted of all.
    pub platforms: Vec<Platform>,
    /// What it is in what was asked for.
    pub part: Part,
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
        /// The platforms wanted of it alone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        platforms: Vec<Platform>,
        /// What it is in what was asked for.
        #[serde(default, skip_serializing_if = "Part::is_image")]
        part: Part,
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
    /// The platforms wanted of it; empty for those that are wanted of all.
    pub platforms: Vec<Platform>,
    /// What it is in what was asked for.
    pub part: Part,
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
    #[error("{name} was asked for twice and means two different images: {first} and {second}{}", places(.said))]
    NameClash {
        /// The name.
        name: Reference,
        /// One root.
        first: Digest,
        /// The other.
        second: Digest,
        /// Where it was asked for, as far as that is known.
        said: Vec<String>,
    },
    /// The spool could not be written or read.
    #[error("the working file of the plan can't be used")]
    Spool(#[from] std::io::Error),
}

impl SurveyError {
    /// Says of a name clash where files ask for the name.
    #[must_use]
    pub fn said_at(mut self, places: impl Fn(&Reference) -> Vec<String>) -> Self {
        if let Self::NameClash { name, said, .. } = &mut self {
            *said = places(name);
        }
        self
    }
}

/// ` (in PLACE and PLACE)`, or nothing.
fn places(said: &[String]) -> String {
    if said.is_empty() { String::new() } else { format!(" (in {})", said.join(" and ")) }
}

/// What was learnt.
#[derive(Debug)]
pub struct Survey {
    /// The resolved names, sorted by their text, each once for each choice of platforms.
    pub roots: Vec<Root>,
    /// The names that could not be had, with the reason.
    pub failures: Vec<Failure>,
    pub(super) contents: HashMap<Digest, (u64, u32)>,
    pub(super) attached: HashMap<Digest, Vec<Listed>>,
    absent: HashSet<(Digest, usize)>,
    failed: HashMap<(Digest, usize), Arc<StoreError>>,
    spool: Spool,
}

/// What one source listed as attached to a manifest.
pub(super) type Answer = (Digest, usize, Vec<(Brief, Option<String>)>);

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
        let shared = crew::survey(sources, wishes, &spool, options);
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
                Finding::Root { name, reference, source, root, platforms, part } => {
                    survey.roots.push(Root { name, reference, source, root, platforms, part });
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
    fn list_attached(&mut self, found: Vec<Answer>) {
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

/// Sorts by name; the same image under the same name is one (but for platforms, which add up), two images under one name
/// are an error.
fn sorted_roots(mut roots: Vec<Root>) -> Result<Vec<Root>, SurveyError> {
    roots.sort_by_cached_key(|root| {
        let reference = root.reference.as_ref().map(ToString::to_string);
        (root.name.to_string(), root.root.digest.clone(), root.platforms.clone(), reference, root.source)
    });
    let is_same = |a: &Root, b: &Root| a.name == b.name && a.root.digest == b.root.digest;
    roots.dedup_by(|second, first| {
        let is_again = is_same(first, second) && first.platforms == second.platforms;
        if is_again {
            first.part = first.part.max(second.part);
        }
        is_again
    });
    match roots.windows(2).find(|pair| pair[0].name == pair[1].name && !is_same(&pair[0], &pair[1])) {
        Some(pair) => Err(SurveyError::NameClash {
            name: pair[0].name.clone(),
            first: pair[0].root.digest.clone(),
            second: pair[1].root.digest.clone(),
            said: Vec::new(),
        }),
        None => Ok(roots),
    }
}

/// Returns whether an entry of an index is read as a manifest: entries of other types are opaque blobs.
#[must_use]
pub(super) fn is_surveyed(child: &Descriptor) -> bool {
    media_type::is_manifest(&child.media_type)
        || media_type::is_schema1(&child.media_type)
        || (child.media_type.is_empty() && choosable(child).is_some())
}
