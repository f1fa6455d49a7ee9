//! Looks at repositories: lists tags, surveys batches of images, and proves blobs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexSet;

use super::journal::{Earlier, Found, Journal, Line};
use super::source::{Halt, Watched, is_consequence, is_fatal};
use super::{Ask, Options, StocktakeError, failed_row};
use crate::graph::spool::Spool;
use crate::graph::survey::{self, Survey, SurveyError};
use crate::graph::{Graph, GraphError, Image, Presence};
use crate::input::{RegistryPlace, is_attached_tag, wish};
use crate::inventory::{FailedRow, ImageRow};
use crate::oci::{Digest, RepositoryName};
use crate::select::{Attachments, Reason, Wanted};
use crate::store::registry::{Access, Client};
use crate::store::{Source, StoreError, chain};
use crate::transfer::{TransferError, for_each};

/// Images that are looked at before what was found is made durable: seconds of work, and a line of the journal that
/// stays well below what memory holds.
const BATCH: usize = 64;

/// How far a stocktake came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looked {
    /// Images that were looked at, those of earlier runs among them.
    pub images: usize,
    /// Repositories that are done.
    pub repositories: usize,
    /// All repositories.
    pub of_repositories: usize,
}

/// Digest → size, media type, and whether manifests are taken without it.
type Rows = BTreeMap<Digest, Row>;

struct Row {
    size: u64,
    media_type: String,
    is_blob: bool,
    /// Foreign: a registry takes manifests without it, so nothing but reading tells that it is there.
    is_foreign: bool,
}

/// What was found so far, and by whom it can be asked.
pub(super) struct Looker<'a> {
    client: &'a Client,
    place: &'a RegistryPlace,
    options: &'a Options,
    journal: Option<&'a Journal>,
    looked: &'a (dyn Fn(Looked) + Sync),
    halt: Arc<Halt>,
    earlier_tags: HashMap<String, Vec<String>>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    progress: Looked,
    /// Whether blobs are proved.
    checks: bool,
    found: Vec<Found>,
    /// Repositories that could not be listed; asked again by a run that goes on.
    failed: Vec<FailedRow>,
    denied: Vec<(String, StoreError)>,
    /// What is done of each repository.
    done: HashMap<String, HashSet<String>>,
    /// What is known of blobs: per repository, whether each is there.
    proved: HashMap<String, HashMap<Digest, bool>>,
}

impl<'a> Looker<'a> {
    pub fn new(
        client: &'a Client,
        place: &'a RegistryPlace,
        options: &'a Options,
        journal: Option<&'a Journal>,
        earlier: Earlier,
        looked: &'a (dyn Fn(Looked) + Sync),
        of_repositories: usize,
    ) -> Self {
        let mut shared = Shared {
            progress: Looked { of_repositories, ..Looked::default() },
            checks: options.check_blobs,
            ..Shared::default()
        };
        earlier.found.into_iter().for_each(|found| shared.add(found));
        Self {
            client,
            place,
            options,
            journal,
            looked,
            halt: Arc::default(),
            earlier_tags: earlier.tags,
            shared: Mutex::new(shared),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self, image: impl Into<String>, source: Arc<StoreError>) -> StocktakeError {
        StocktakeError::Stopped { place: self.place.clone(), image: Some(image.into()), source }
    }

    fn append(&self, line: &Line) -> Result<(), TransferError> {
        self.journal.map_or(Ok(()), |journal| journal.append(line))
    }

    /// Returns all that was found, and what could not be looked at.
    ///
    /// # Errors
    /// [`StocktakeError::Stopped`] if every one of `names` was denied: a login is missing, and nothing was seen.
    pub fn finish(self, names: &[RepositoryName]) -> Result<(Vec<Found>, Vec<FailedRow>), StocktakeError> {
        let place = self.place.clone();
        let mut shared = self.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if shared.denied.len() == names.len()
            && let Some((image, error)) = shared.denied.pop()
        {
            return Err(StocktakeError::Stopped { place, image: Some(image), source: Arc::new(error) });
        }
        let denied = shared.denied.iter().map(|(name, error)| failed_row(name.clone(), chain(error)));
        shared.failed.extend(denied);
        Ok((shared.found, shared.failed))
    }

    /// Looks at what is asked of a repository.
    pub fn look(&self, name: &RepositoryName, ask: &Ask) -> Result<(), StocktakeError> {
        let Some(relative) = self.place.relative(name) else { return Ok(()) };
        let tags = if ask.all { self.tags(name, relative, ask)? } else { None };
        let mut selectors = ask.selectors.clone();
        selectors.extend(tags.iter().flatten().filter(|tag| !is_attached_tag(tag)).cloned());
        if let Some(done) = self.lock().done.get(relative) {
            selectors.retain(|selector| !done.contains(selector));
        }
        let selectors: Vec<String> = selectors.into_iter().collect();
        let tags = tags.map(|tags| Arc::new(tags.into_iter().collect::<HashSet<String>>()));
        let watched = Arc::new(Watched {
            repository: self.client.repository(name, Access::Pull),
            tags,
            halt: Arc::clone(&self.halt),
        });
        for batch in selectors.chunks(BATCH) {
            self.batch(&watched, name, relative, batch)?;
        }
        let mut shared = self.lock();
        shared.progress.repositories += 1;
        (self.looked)(shared.progress);
        Ok(())
    }

    /// Lists the tags; none where there is nothing to list.
    fn tags(
        &self,
        name: &RepositoryName,
        relative: &str,
        ask: &Ask,
    ) -> Result<Option<Vec<String>>, StocktakeError> {
        if let Some(tags) = self.earlier_tags.get(relative) {
            return Ok(Some(tags.clone()));
        }
        match self.client.repository(name, Access::Pull).tags() {
            Ok(tags) => {
                let (repository, listed) = (relative.to_owned(), tags.clone());
                self.append(&Line::Tags { repository, tags: listed })?;
                Ok(Some(tags))
            }
            // Registries go on listing what was emptied.
            Err(error) if error.is_not_found() && !ask.is_named => Ok(None),
            Err(error @ StoreError::Denied { .. }) if !ask.is_named => {
                self.lock().denied.push((relative.to_owned(), error));
                Ok(None)
            }
            Err(error) if is_fatal(&error) => Err(self.stopped(relative, Arc::new(error))),
            Err(error) => {
                self.lock().failed.push(failed_row(relative, chain(&error)));
                Ok(None)
            }
        }
    }

    /// Looks at some images. What could be learnt is kept, also where the registry fails on the way.
    fn batch(
        &self,
        watched: &Arc<Watched>,
        name: &RepositoryName,
        relative: &str,
        selectors: &[String],
    ) -> Result<(), StocktakeError> {
        let names: HashMap<_, &String> =
            selectors.iter().map(|selector| (wish(name, selector, 0).name, selector)).collect();
        let shown = |image: &crate::oci::Reference| -> String {
            let selector = names.get(image).map(|selector| selector.as_str()).unwrap_or_default();
            self.place.relative_image(name, selector).unwrap_or_default()
        };
        let mut survey = self.survey(watched, name, selectors)?;
        let mut found = Found { repository: relative.to_owned(), ..Found::default() };
        let mut fatal: Option<(String, Arc<StoreError>)> = None;
        for failure in std::mem::take(&mut survey.failures) {
            if is_fatal(&failure.error) {
                // What others failed by afterwards is only that nothing more was asked.
                if fatal.as_ref().is_none_or(|(_, error)| is_consequence(error)) {
                    fatal = Some((shown(&failure.name), failure.error));
                }
            } else {
                found.failed.push(failed_row(shown(&failure.name), chain(&*failure.error)));
                found.selectors.extend(names.get(&failure.name).map(|selector| (*selector).clone()));
            }
        }
        let graph = Self::graph(&mut survey, |image, why| {
            found.failed.push(failed_row(shown(image), why));
            found.selectors.extend(names.get(image).map(|selector| (*selector).clone()));
        })?;
        let rows = rows(&graph, self.options.check_blobs);
        let lacking =
            if self.options.check_blobs { self.prove(watched, relative, &rows)? } else { HashSet::new() };
        for image in &graph.images {
            found.selectors.extend(names.get(&image.name).map(|selector| (*selector).clone()));
            match lost(&graph, image, &rows, &lacking) {
                Some(why) => found.failed.push(failed_row(shown(&image.name), why)),
                None => found.images.push(ImageRow {
                    name: Some(shown(&image.name)),
                    platforms: graph.image_platforms(image).0,
                    root: graph.digest(image.root).clone(),
                    source: None,
                }),
            }
        }
        let mut types: IndexSet<String> = IndexSet::new();
        for (digest, row) in rows {
            if !lacking.contains(&digest) {
                let media_type = types.insert_full(row.media_type).0 as u32;
                found.rows.push((digest, row.size, media_type));
            } else if !row.is_foreign {
                found.missing.push(digest);
            }
        }
        found.media_types = types.into_iter().collect();
        let line = Line::Found(found);
        self.append(&line)?;
        let Line::Found(found) = line else { return Ok(()) };
        let mut shared = self.lock();
        shared.add(found);
        (self.looked)(shared.progress);
        drop(shared);
        match fatal {
            Some((image, error)) => Err(self.stopped(image, error)),
            None => Ok(()),
        }
    }

    fn survey(
        &self,
        watched: &Arc<Watched>,
        name: &RepositoryName,
        selectors: &[String],
    ) -> Result<Survey, StocktakeError> {
        let source: Arc<dyn Source> = Arc::clone(watched) as Arc<dyn Source>;
        let wishes: Vec<_> = selectors.iter().map(|selector| wish(name, selector, 0)).collect();
        let options = survey::Options {
            select: &Wanted::default(),
            attachments: Attachments::All,
            keep_unselected: false,
            keep_going: true,
            jobs: self.options.jobs,
        };
        let spool = Spool::temporary().map_err(|error| TransferError::from(SurveyError::Spool(error)))?;
        Ok(Survey::run(&[source], &wishes, spool, &options).map_err(TransferError::from)?)
    }

    /// Derives the graph of all images that do not contradict each other; `set_aside` is told of the others.
    fn graph(
        survey: &mut Survey,
        mut set_aside: impl FnMut(&crate::oci::Reference, String),
    ) -> Result<Graph, StocktakeError> {
        loop {
            match Graph::build(survey, &Wanted::default()) {
                Ok(graph) => return Ok(graph),
                Err(error @ GraphError::Spool(_)) => return Err(TransferError::from(error).into()),
                Err(ref error @ GraphError::SizeClash { ref image, .. })
                    if survey.roots.iter().any(|root| root.name == *image) =>
                {
                    set_aside(image, error.to_string());
                    survey.roots.retain(|root| root.name != *image);
                }
                Err(error) => {
                    for root in std::mem::take(&mut survey.roots) {
                        set_aside(&root.name, error.to_string());
                    }
                }
            }
        }
    }

    /// Reads a byte of every blob; returns those that are not there. An empty blob has no byte and is taken as there.
    fn prove(
        &self,
        watched: &Watched,
        relative: &str,
        rows: &Rows,
    ) -> Result<HashSet<Digest>, StocktakeError> {
        let (mut ask, mut lacking) = (Vec::new(), HashSet::new());
        {
            let shared = self.lock();
            let known = shared.proved.get(relative);
            for (digest, row) in rows.iter().filter(|(_, row)| row.is_blob && row.size > 0) {
                match known.and_then(|known| known.get(digest)) {
                    Some(true) => {}
                    Some(false) => {
                        lacking.insert(digest.clone());
                    }
                    None => ask.push((digest, row.size)),
                }
            }
        }
        let answers = Mutex::new(Vec::new());
        for_each(self.options.jobs, ask.len(), |at| {
            let (digest, size) = ask[at];
            let is_there = match watched.proves(digest, size) {
                Ok(is_there) => is_there,
                Err(error) if is_fatal(&error) => {
                    return Err(self.stopped(format!("{relative}@{digest}"), Arc::new(error)));
                }
                // The registry can't give it: as good as not there.
                Err(_) => false,
            };
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((digest.clone(), is_there));
            Ok(())
        })?;
        let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        lacking.extend(answers.iter().filter(|(_, is_there)| !is_there).map(|(digest, _)| digest.clone()));
        self.lock().proved.entry(relative.to_owned()).or_default().extend(answers);
        Ok(lacking)
    }
}

impl Shared {
    fn add(&mut self, found: Found) {
        self.progress.images += found.selectors.len();
        let done = self.done.entry(found.repository.clone()).or_default();
        done.extend(found.selectors.iter().cloned());
        if self.checks {
            let proved = self.proved.entry(found.repository.clone()).or_default();
            proved.extend(found.rows.iter().map(|(digest, ..)| (digest.clone(), true)));
            proved.extend(found.missing.iter().map(|digest| (digest.clone(), false)));
        }
        self.found.push(found);
    }
}

/// Lists what the images of a graph have, and with `foreign` also the layers that registries need not have.
fn rows(graph: &Graph, foreign: bool) -> Rows {
    let nodes = graph.nodes().filter_map(|(id, digest, node)| {
        let is_foreign = match node.presence {
            Presence::Shipped => false,
            Presence::Absent(Reason::Foreign) if foreign => true,
            _ => return None,
        };
        let media_type = graph.media_type(id).to_owned();
        let row = Row { size: node.size, media_type, is_blob: !node.kind.is_manifest(), is_foreign };
        Some((digest.clone(), row))
    });
    nodes.collect()
}

/// Says what an image lacks of what it can't be run without; nothing of an image that is whole.
fn lost(graph: &Graph, image: &Image, rows: &Rows, lacking: &HashSet<Digest>) -> Option<String> {
    let lost: Vec<&Digest> = graph
        .image_closure(image)
        .into_iter()
        .map(|id| graph.digest(id))
        .filter(|digest| lacking.contains(*digest) && rows.get(*digest).is_some_and(|row| !row.is_foreign))
        .collect();
    match lost[..] {
        [] => None,
        [only] => Some(format!("{only} is listed by manifests and not there")),
        [first, ..] => {
            Some(format!("{first} and {} more are listed by manifests and not there", lost.len() - 1))
        }
    }
}
