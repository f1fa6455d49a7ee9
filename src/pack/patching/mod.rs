//! Patches for layers that are like what the far side has: made and spooled before the archive is planned, since their
//! sizes go into its head.

mod candidates;
mod spool;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::{PackError, Prepared};
use crate::base::{Contents, FarSide};
use crate::bundle::patches::CODEC;
use crate::bundle::workshop::Workshop;
use crate::delta::layer::Layer;
use crate::delta::make::{Base, Effort, MEMORY_MIN, Options, fingerprint, make};
use crate::delta::patch::{Patch as PatchFile, PatchError, RebuildError, rebuild};
use crate::delta::scratch::Stream;
use crate::graph::patched::{FarContent, Patch};
use crate::graph::reliance::Holds;
use crate::graph::{Image, Kind, NodeId, Presence};
use crate::oci::{Digest, Hasher, Reference};
use crate::plan;
use crate::store::{StoreError, chain};
use crate::transfer::{Progress, TransferError, for_each, room};

use candidates::{Candidate, Candidates, Finder};
use spool::Kept;
pub use spool::PatchSpool;

/// The smallest layer that a patch is made for, in bytes: below this its place in the record is most of it.
const SMALLEST: u64 = 4096;
/// How many bases one patch is made with: each is read and unpacked at the far side.
const BASES: usize = 4;
/// How many layers are worked on at once, where there is the memory.
const AT_ONCE: usize = 2;
/// How much longer a layer is, taken apart, than it was: plain bytes and tokens of what gzip makes of programs.
const UNPACKED: u64 = 4;

/// How patches are made.
pub struct Making {
    /// How hard to try.
    pub effort: Effort,
    /// What the far side has.
    pub far_side: Arc<FarSide>,
    /// Where that is on this side.
    pub contents: Arc<Contents>,
    /// Where layers are taken apart.
    pub workshop: Arc<Workshop>,
    /// How much memory to take, in bytes.
    pub memory: u64,
    /// Where patches are kept.
    pub spool: Arc<PatchSpool>,
}

/// What came of making patches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchReport {
    /// Layers for which a patch travels.
    pub patched: usize,
    /// Layers of which nothing older is known at the far side.
    pub without_base: usize,
    /// Layers that a patch would hardly make smaller.
    pub without_gain: usize,
    /// Layers that travel whole because what they are like can't be read here.
    pub unreadable: Vec<Unreadable>,
    /// Layers that travel whole because no patch could be made of them, for want of room or otherwise.
    pub failed: Vec<Unreadable>,
}

/// A layer that travels whole for a reason that people should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The layer.
    pub digest: Digest,
    /// An image that needs it.
    pub image: Reference,
    /// Why.
    pub why: String,
}

/// What came of one layer.
enum Outcome {
    Patched(Made),
    WithoutGain,
    Unreadable(String),
    Failed(String),
}

/// A base: digest, length in bytes, taken apart.
type Unpacked = (Digest, u64, Arc<Layer>);

/// A patch that was made.
#[derive(Debug, Clone)]
struct Made {
    digest: Digest,
    size: u64,
    bases: Vec<(Digest, u64)>,
}

impl Prepared {
    /// Makes patches for the layers that travel, and lets them travel in their place.
    ///
    /// # Errors
    /// [`PackError::Transfer`] if working files can't be kept. What can't be read leaves its layer whole.
    pub fn make_patches(
        &mut self,
        making: &Making,
        progress: &dyn Progress,
    ) -> Result<PatchReport, PackError> {
        let mut report = PatchReport::default();
        if self.graph.reliance.is_none() {
            return Ok(report);
        }
        let wants = |id: NodeId| {
            let node = self.graph.node(id);
            node.kind == Kind::Layer && node.presence == Presence::Shipped && node.size >= SMALLEST
        };
        let bundles = &self.bundle_sources;
        let pulled = |image: &Image| {
            let source = usize::from(self.graph.node(image.root).source);
            image.reference.clone().filter(|_| !bundles.contains(&source))
        };
        let Candidates { by_layer, unreadable } = Finder {
            graph: &self.graph,
            survey: &self.survey,
            far_side: &making.far_side,
            contents: &making.contents,
            pulled: &pulled,
        }
        .find(&wants);
        let all = self.graph.nodes().filter(|(id, ..)| wants(*id)).count();
        report.without_base = all - by_layer.len() - unreadable.len();
        // In the order of the graph, so that layers of one image, and what they are like, come together.
        let work: Vec<(NodeId, Vec<Candidate>)> = by_layer.into_iter().collect();
        let made = self.make_all(&work, making, progress)?;
        let whole = |(id, why): (NodeId, String)| Unreadable {
            digest: self.graph.digest(id).clone(),
            image: crate::transfer::archive::owner(&self.graph, id),
            why,
        };
        report.unreadable = unreadable.into_iter().map(whole).collect();
        let mut far = FarContent::new();
        let mut patches: Vec<(NodeId, Patch)> = Vec::new();
        let source = self.sources.len() as u16;
        for (id, outcome) in made {
            match outcome {
                Outcome::Patched(made) => {
                    for (digest, size) in &made.bases {
                        let seen = making.far_side.seen(digest, *size).unwrap_or_default();
                        far.insert(digest.clone(), (*size, seen));
                    }
                    let bases = made.bases.into_iter().map(|(digest, _)| digest).collect();
                    let codec = CODEC.to_owned();
                    patches.push((id, Patch { digest: made.digest, size: made.size, codec, bases, source }));
                }
                Outcome::WithoutGain => report.without_gain += 1,
                Outcome::Unreadable(why) => report.unreadable.push(whole((id, why))),
                Outcome::Failed(why) => report.failed.push(whole((id, why))),
            }
        }
        report.patched = patches.len();
        if patches.is_empty() {
            return Ok(report);
        }
        self.sources.push(making.spool.clone());
        for (id, patch) in patches {
            self.graph.patch(id, patch);
        }
        if let Some(reliance) = &mut self.graph.reliance {
            if far.values().any(|(_, seen)| seen.is_empty()) {
                reliance.add_places(making.far_side.anywhere());
            }
            reliance.add_content(far);
        }
        self.summary = plan::summarize(&self.graph);
        self.order = plan::file_order(&self.graph);
        Ok(report)
    }

    fn make_all(
        &self,
        work: &[(NodeId, Vec<Candidate>)],
        making: &Making,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<NodeId, Outcome>, PackError> {
        let at_once = AT_ONCE.min((making.memory / MEMORY_MIN) as usize).clamp(1, work.len().max(1));
        let bytes = work.iter().map(|(id, _)| self.graph.node(*id).size).sum();
        progress.begin(work.len(), bytes, 0);
        let outcomes: Mutex<BTreeMap<NodeId, Outcome>> = Mutex::default();
        for_each(at_once, work.len(), |at| {
            let (id, candidates) = &work[at];
            let digest = self.graph.digest(*id);
            progress.start(digest, self.graph.node(*id).size);
            let layer = making.layer(self, *id, candidates, at_once, progress);
            progress.finish(digest);
            let outcome = match layer {
                Ok(outcome) => outcome,
                Err(error @ StoreError::Scratch { .. }) => {
                    return Err(PackError::Transfer(TransferError::Target(error)));
                }
                // Whoever writes the archive meets it again, and tells.
                Err(error) => Outcome::Failed(chain(&error)),
            };
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, outcome);
            Ok(())
        })?;
        Ok(outcomes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Making {
    /// Makes the patch of one layer, or takes one up that was made before.
    fn layer(
        &self,
        prepared: &Prepared,
        id: NodeId,
        candidates: &[Candidate],
        at_once: usize,
        progress: &dyn Progress,
    ) -> Result<Outcome, StoreError> {
        let (target, size) = (prepared.graph.digest(id), prepared.graph.node(id).size);
        let source = &*prepared.sources[usize::from(prepared.graph.node(id).source)];
        let digests: Vec<&Digest> = candidates.iter().map(|candidate| &candidate.digest).collect();
        let key = spool::key(target, &digests, self.effort);
        let kept = match self.spool.kept(&key)? {
            Kept::Nothing => None,
            Kept::NoUse => Some(Outcome::WithoutGain),
            Kept::Patch(made) => Some(Outcome::Patched(made)),
        };
        if let Some(kept) = kept {
            progress.advance(target, size);
            return Ok(kept);
        }
        if let Some(why) = self.lack_of_room(size, candidates, at_once)? {
            return Ok(Outcome::Failed(why));
        }
        // Half of the bar is for reading the layer, half for the work on it.
        let (half, done) = (size / 2, AtomicU64::new(0));
        let advance = |to: u64| {
            let before = done.fetch_max(to, Ordering::Relaxed);
            progress.advance(target, to.saturating_sub(before));
        };
        let read = AtomicU64::new(0);
        let new = self.workshop.take_apart(source, target, size, None, &|count| {
            let read = read.fetch_add(count, Ordering::Relaxed) + count;
            advance(read / 2);
        })?;
        let (bases, why) = self.best(&new, candidates)?;
        if bases.is_empty() {
            return Ok(Outcome::Unreadable(why.unwrap_or_default()));
        }
        let (plain, worked) = (new.plain.len().max(1), AtomicU64::new(0));
        let options = Options {
            effort: self.effort,
            memory: self.memory / at_once as u64,
            threads: AT_ONCE / at_once,
            scratch: self.workshop.scratch(),
            advance: &|count| {
                let worked = (worked.fetch_add(count, Ordering::Relaxed) + count).min(plain);
                advance(half + (u128::from(worked) * u128::from(size - half) / u128::from(plain)) as u64);
            },
        };
        let named: Vec<Base<'_>> = bases.iter().map(|(digest, _, layer)| Base { digest, layer }).collect();
        let patch = match make(target, &new, &named, &options) {
            Ok(patch) => patch,
            // Something about the layer that no patch can say.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Ok(Outcome::Failed(error.to_string()));
            }
            Err(error) => return Err(self.unusable(error)),
        };
        advance(size);
        if patch.len() > size - size / 10 {
            if let Some(why) = why {
                return Ok(Outcome::Unreadable(why));
            }
            self.spool.keep(&key, None)?;
            return Ok(Outcome::WithoutGain);
        }
        if !rebuilds(target, &patch, &bases).map_err(|source| self.unusable(source))? {
            return Ok(Outcome::Failed("the patch that was made of it does not give it back".to_owned()));
        }
        let digest = self.spool.keep(&key, Some(&patch))?;
        let bases = bases.into_iter().map(|(digest, size, _)| (digest, size)).collect();
        Ok(Outcome::Patched(Made { digest, size: patch.len(), bases }))
    }

    /// Returns why a layer and what it is like can't be unpacked in the working folder, if they can't.
    fn lack_of_room(
        &self,
        size: u64,
        candidates: &[Candidate],
        at_once: usize,
    ) -> Result<Option<String>, StoreError> {
        let mut sizes: Vec<u64> = candidates.iter().map(|one| one.size).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        // The one in question, and those that are kept.
        let packed = size + sizes.iter().take(BASES + 1).sum::<u64>();
        let needed = packed.saturating_mul(UNPACKED).saturating_mul(at_once as u64);
        let folder = self.workshop.scratch().folder();
        let file = File::open(folder).map_err(|source| self.unusable(source))?;
        match room::check(folder, &file, room::Need { longest: 0, bytes: needed }) {
            Err(TransferError::NoSpace { folder, needed, free }) => Ok(Some(format!(
                "it may need {needed} bytes of working files, and {} has {free} free; --scratch names another folder",
                folder.display()
            ))),
            _ => Ok(None),
        }
    }

    /// Finds the bases that have the most of a layer's content, those that add little left out; and why the likeliest of
    /// all could not be read, if it could not.
    fn best(
        &self,
        new: &Layer,
        candidates: &[Candidate],
    ) -> Result<(Vec<Unpacked>, Option<String>), StoreError> {
        let unusable = |source| self.unusable(source);
        let wanted = fingerprint(new).map_err(unusable)?;
        let mut bases: Vec<(u64, Digest, u64, Arc<Layer>)> = Vec::new();
        let mut why = None;
        for (at, candidate) in candidates.iter().enumerate() {
            let layer = match self.base(candidate) {
                Ok(layer) => layer,
                Err(error @ StoreError::Scratch { .. }) => return Err(error),
                Err(error) => {
                    why = why.or((at == 0).then(|| chain(&error)));
                    continue;
                }
            };
            let shared = wanted.shared(&fingerprint(&layer).map_err(unusable)?);
            bases.push((shared, candidate.digest.clone(), candidate.size, layer));
            // The sort is stable: of equals the likelier stays first. What is cut off takes no room.
            bases.sort_by_key(|(shared, ..)| std::cmp::Reverse(*shared));
            bases.truncate(BASES);
        }
        let least = new.plain.len() / 50;
        let mut at = 0;
        bases.retain(|(shared, ..)| {
            at += 1;
            at == 1 || *shared > least
        });
        Ok((bases.into_iter().map(|(_, digest, size, layer)| (digest, size, layer)).collect(), why))
    }

    /// Reads a base from the first place that has it.
    fn base(&self, candidate: &Candidate) -> Result<Arc<Layer>, StoreError> {
        let mut error = StoreError::NotFound {
            place: "this side".to_owned(),
            what: format!("the layer {}", candidate.digest),
        };
        for place in &candidate.places {
            match self.workshop.layer(&**place, &candidate.digest, candidate.size, None) {
                Ok(layer) => return Ok(layer),
                Err(failure @ StoreError::Scratch { .. }) => return Err(failure),
                Err(failure) if error.is_not_found() => error = failure,
                Err(_) => {}
            }
        }
        Err(error)
    }

    fn unusable(&self, source: io::Error) -> StoreError {
        StoreError::Scratch { folder: self.workshop.scratch().folder().to_owned(), source }
    }
}

/// Returns whether a patch gives its target, bit for bit. Only then does it travel.
fn rebuilds(target: &Digest, patch: &Stream, bases: &[Unpacked]) -> io::Result<bool> {
    let layers: Vec<Arc<Layer>> = bases.iter().map(|(_, _, layer)| layer.clone()).collect();
    let mut out = Hasher::new(target.algorithm());
    let rebuilt = match PatchFile::open(patch.clone()) {
        Ok(patch) => rebuild(&patch, &layers, &mut out),
        Err(PatchError::Scratch(error)) => return Err(error),
        Err(PatchError::Invalid(_)) => return Ok(false),
    };
    match rebuilt {
        Ok(()) => Ok(out.finish() == *target),
        Err(RebuildError::Scratch(error)) => Err(error),
        Err(_) => Ok(false),
    }
}
