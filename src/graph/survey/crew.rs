//! The workers of a survey: a queue of tasks, each of which may add others.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use indexmap::IndexSet;

use super::{Answer, Brief, Finding, Options, Root, Wish, is_surveyed};
use crate::graph::spool::Spool;
use crate::oci::{Digest, Manifest, Platform};
use crate::select::Attachments;
use crate::store::{Attached, Source, StoreError, read_manifest};

/// How deep indexes may nest, and how long a chain of attachments to attachments may be. Real images use two levels,
/// signed SBOMs three; the bound only stops what was built to be endless.
const MAX_DEPTH: u8 = 16;

/// The largest image configuration that is read while planning, in bytes; Docker's own limit is below it.
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// Surveys `wishes`: resolves, reads manifests, asks what is attached, on as many threads as the options say.
pub(super) fn survey(
    sources: &[Arc<dyn Source>],
    wishes: &[Wish],
    spool: &Spool,
    options: &Options<'_>,
) -> Shared {
    let shared = Shared { queue: (0..wishes.len()).map(Task::Resolve).collect(), ..Shared::default() };
    let choices: IndexSet<&[Platform]> = wishes.iter().map(|wish| wish.platforms.as_slice()).collect();
    let shared = Mutex::new(shared);
    let crew = Crew { sources, wishes, choices, options, spool, shared, wake: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| crew.work());
        }
    });
    crew.shared.into_inner().unwrap_or_else(PoisonError::into_inner)
}

enum Task {
    Resolve(usize),
    Manifest { brief: Brief, source: usize, choice: Choice, depth: u8 },
    Attached { subject: Digest, source: usize },
    Config { brief: Brief, source: usize },
}

/// Whether a manifest travels, and by which of the crew's lists of platforms it was chosen; none for what does not.
type Choice = Option<usize>;

/// What the workers share, and in the end what they found.
#[derive(Default)]
pub(super) struct Shared {
    queue: VecDeque<Task>,
    running: usize,
    stop: bool,
    seen: HashSet<(Digest, usize, Choice)>,
    /// What was seen to travel, by whatever list.
    selected: HashSet<(Digest, usize)>,
    /// Of what it is asked what is attached, by whom.
    asked: HashMap<(Digest, usize), Asking>,
    /// What was read from which source: one source's word on what it has is not another's.
    read: HashSet<(Digest, usize)>,
    pub(super) roots: Vec<Root>,
    pub(super) unresolved: BTreeMap<usize, StoreError>,
    pub(super) contents: HashMap<Digest, (u64, u32)>,
    pub(super) attached: Vec<Answer>,
    pub(super) absent: HashSet<(Digest, usize)>,
    pub(super) failed: HashMap<(Digest, usize), Arc<StoreError>>,
    pub(super) spool_error: Option<std::io::Error>,
}

/// Who wants to know what is attached to a manifest, and what it is, once it is known.
#[derive(Default)]
struct Asking {
    by: Vec<(Choice, u8)>,
    found: Vec<Brief>,
}

struct Crew<'a> {
    sources: &'a [Arc<dyn Source>],
    wishes: &'a [Wish],
    /// The lists of platforms that images have of their own.
    choices: IndexSet<&'a [Platform]>,
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
            Task::Manifest { brief, source, choice, depth } => self.manifest(&brief, source, choice, depth),
            Task::Attached { subject, source } => self.attached(subject, source),
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
                    platforms: wish.platforms.clone(),
                    part: wish.part,
                })?;
                let mut shared = self.lock();
                shared.roots.push(Root {
                    name: wish.name.clone(),
                    reference: wish.reference.clone(),
                    source: wish.source,
                    root: root.clone(),
                    platforms: wish.platforms.clone(),
                    part: wish.part,
                });
                let choice = self.choices.get_index_of(wish.platforms.as_slice()).unwrap_or_default();
                shared.queue_manifest(root, wish.source, Some(choice), 0);
            }
            Err(error) => {
                self.lock().unresolved.insert(at, error);
            }
        }
        Ok(())
    }

    fn manifest(&self, brief: &Brief, source: usize, choice: Choice, depth: u8) -> std::io::Result<()> {
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
                let wanted = choice.and_then(|choice| self.choices.get_index(choice)).copied();
                let keep = self.options.select.children(&index.manifests, wanted.unwrap_or_default());
                for (child, keep) in index.manifests.iter().zip(keep) {
                    let choice = choice.filter(|_| keep);
                    if is_surveyed(child) && (choice.is_some() || self.options.keep_unselected) {
                        shared.queue_manifest(child.into(), source, choice, depth + 1);
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
        if choice.is_some() && self.options.attachments != Attachments::None {
            shared.ask_attached(place, choice, depth);
        }
        Ok(())
    }

    fn attached(&self, subject: Digest, source: usize) -> std::io::Result<()> {
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
                let asking = shared.asked.entry((subject.clone(), source)).or_default();
                let briefs: Vec<Brief> = list.iter().map(|(brief, _)| brief.clone()).collect();
                asking.found.clone_from(&briefs);
                for (choice, depth) in asking.by.clone() {
                    for brief in &briefs {
                        shared.queue_manifest(brief.clone(), source, choice, depth + 1);
                    }
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
    /// Asks what is attached to a manifest, once; by each list of platforms that it was chosen by, what is attached is
    /// chosen from by itself.
    fn ask_attached(&mut self, place: (Digest, usize), choice: Choice, depth: u8) {
        let asking = self.asked.entry(place.clone()).or_default();
        if asking.by.iter().any(|(known, _)| *known == choice) {
            return;
        }
        asking.by.push((choice, depth));
        let (found, is_first) = (asking.found.clone(), asking.by.len() == 1);
        let (subject, source) = place;
        if is_first {
            self.queue.push_back(Task::Attached { subject, source });
        }
        for brief in found {
            self.queue_manifest(brief, source, choice, depth + 1);
        }
    }

    fn queue_manifest(&mut self, brief: Brief, source: usize, choice: Choice, depth: u8) {
        // What was surveyed as selected needs no second look as unselected.
        let place = (brief.digest.clone(), source);
        if (choice.is_none() && self.selected.contains(&place))
            || !self.seen.insert((brief.digest.clone(), source, choice))
        {
            return;
        }
        if choice.is_some() {
            self.selected.insert(place);
        }
        self.queue.push_back(Task::Manifest { brief, source, choice, depth });
    }
}
