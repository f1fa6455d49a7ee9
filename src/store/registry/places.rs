//! Pulling through mirrors: the places that a repository's content may be asked of, and the repository as the source that
//! they are together.
//!
//! What comes from a mirror is checked against its digest like everything else, and keeps the name of the place that it
//! stands for. Which tags there are the place itself says, and what is attached all of them together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Attached, Result, Source, StoreError, chain};
use super::limits::lock;
use super::rule::{Stand, stands};
use super::{Access, Client, Repository};
use crate::oci::{Descriptor, Digest, RepositoryName};

/// How many things are kept to be said of one cause.
const MAX_SAID: usize = 1000;

/// Registries that could not be reached while there were others to ask, with the reason: they are not waited for again.
pub(super) type Lost = Mutex<HashMap<String, String>>;

/// What is to be said of places at the end: causes, and what each is about.
pub(super) type Said = Mutex<BTreeMap<String, BTreeSet<String>>>;

/// A repository as it is pulled: by way of its mirrors, where it has any.
pub struct Places {
    name: RepositoryName,
    client: Client,
    all: Vec<Repository>,
    /// Which of them is the repository under its own name.
    itself: Option<usize>,
    /// The place that answered last: what is asked for by digest is asked of it first.
    last: AtomicUsize,
    given: Mutex<HashMap<Digest, Given>>,
}

/// Where the content of a blob came from.
#[derive(Default)]
struct Given {
    /// The places of the present reading, in the order in which they took it up.
    by: Vec<usize>,
    /// Whether that reading began with the first byte.
    is_whole: bool,
    /// Places that gave something else.
    bad: BTreeSet<usize>,
}

impl Client {
    /// Returns a repository to be pulled from, by way of its mirrors. Talks to nobody.
    #[must_use]
    pub fn places(&self, name: &RepositoryName) -> Places {
        let stands = stands(&self.0.http.options.rules, name);
        let itself = stands.iter().position(|stand| stand.is_itself);
        let open = |stand: &Stand| self.repository_by(&stand.name, Access::Pull, stand.insecure);
        let all = stands.iter().map(open).collect();
        let (last, given) = (AtomicUsize::new(0), Mutex::default());
        Places { name: name.clone(), client: self.clone(), all, itself, last, given }
    }

    /// Returns what is to be said of pulling through mirrors: causes, each with what it is about.
    #[must_use]
    pub fn said_of_places(&self) -> Vec<(String, Vec<String>)> {
        let said = lock(&self.0.said);
        said.iter().map(|(cause, items)| (cause.clone(), items.iter().cloned().collect())).collect()
    }

    fn say(&self, cause: String, item: String) {
        let mut said = lock(&self.0.said);
        let items = said.entry(cause).or_default();
        if items.len() < MAX_SAID {
            items.insert(item);
        }
    }
}

type Errors = Vec<(usize, StoreError)>;

impl Places {
    /// Checks that one of the places can be reached and lets the user pull.
    ///
    /// # Errors
    /// What the places say.
    pub fn check(&self) -> Result<()> {
        self.first("pulling", &self.in_order(false), Repository::check).map(|(_, answer)| answer)
    }

    /// Lists the tags: those of the place itself; those of a mirror only where it does not say, or must not be asked.
    ///
    /// # Errors
    /// What the places say.
    pub fn tags(&self) -> Result<Vec<String>> {
        let mut errors = Vec::new();
        for at in self.itself_first() {
            match self.all[at].tags() {
                Ok(tags) => {
                    if self.itself.is_some_and(|itself| itself != at) {
                        let mut errors = self.with_lost("the tags", errors);
                        errors.retain(|(at, _)| Some(*at) == self.itself);
                        let cause = format!("the tags are those that {} lists", self.described(at));
                        self.client.say(cause, self.told(&errors));
                    }
                    return Ok(tags);
                }
                Err(error) => {
                    self.note(at, &error);
                    errors.push((at, error));
                }
            }
        }
        Err(self.failed("the tags", errors))
    }

    /// Returns the name of a place for messages.
    fn described(&self, at: usize) -> String {
        let name = self.all[at].name();
        if *name == self.name { name.to_string() } else { format!("{name} (a mirror of {})", self.name) }
    }

    fn host(&self, at: usize) -> &str {
        &self.all[at].name().registry
    }

    /// Leaves out the places that are lost, unless that leaves none.
    fn without_lost(&self, mut order: Vec<usize>) -> Vec<usize> {
        let lost = lock(&self.client.0.lost);
        let is_lost = |at: &usize| lost.contains_key(self.host(*at));
        if !order.iter().all(is_lost) {
            order.retain(|at| !is_lost(at));
        }
        order
    }

    /// Returns the places in the order in which they are asked for content.
    fn in_order(&self, by_digest: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        if by_digest {
            let last = self.last.load(Ordering::Relaxed);
            order.sort_by_key(|at| *at != last);
        }
        self.without_lost(order)
    }

    /// Returns the places in the order in which they are asked what there is.
    fn itself_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|at| Some(*at) != self.itself);
        self.without_lost(order)
    }

    fn note(&self, at: usize, error: &StoreError) {
        if matches!(error, StoreError::Unreachable { .. }) && self.all.len() > 1 {
            let mut lost = lock(&self.client.0.lost);
            lost.entry(self.host(at).to_owned()).or_insert_with(|| chain(error));
        }
    }

    /// Returns the first answer that is no error, and whose it is.
    fn first<'a, T>(
        &'a self,
        what: &str,
        order: &[usize],
        ask: impl Fn(&'a Repository) -> Result<T>,
    ) -> Result<(usize, T)> {
        let mut errors = Vec::new();
        for at in order.iter().copied() {
            match ask(&self.all[at]) {
                Ok(answer) => {
                    self.last.store(at, Ordering::Relaxed);
                    for (at, error) in errors {
                        self.pass_over(at, &error);
                    }
                    return Ok((at, answer));
                }
                Err(error) => {
                    self.note(at, &error);
                    errors.push((at, error));
                }
            }
        }
        Err(self.failed(what, errors))
    }

    /// Keeps why another place was asked; that a place lacks something is nothing to speak of.
    fn pass_over(&self, at: usize, error: &StoreError) {
        if !error.is_not_found() {
            self.client.say(format!("{} was passed over", self.host(at)), chain(error));
        }
    }

    /// Adds the places that were not asked because they are lost.
    fn with_lost(&self, what: &str, mut errors: Errors) -> Errors {
        let lost = lock(&self.client.0.lost);
        for at in 0..self.all.len() {
            if let (Some(why), false) =
                (lost.get(self.host(at)), errors.iter().any(|(asked, _)| *asked == at))
            {
                let (place, what) = (self.host(at).to_owned(), what.to_owned());
                let source = format!("it was not asked again: {why}").into();
                errors.push((at, StoreError::Unreachable { place, what, source }));
            }
        }
        errors
    }

    /// Says what places answered: `A: it has none; B: it could not be reached`.
    fn told(&self, errors: &Errors) -> String {
        let texts = errors.iter().map(|(at, error)| format!("{}: {}", self.all[*at].name(), chain(error)));
        texts.collect::<Vec<String>>().join("; ")
    }

    /// Makes one error of those of all places.
    fn failed(&self, what: &str, mut errors: Errors) -> StoreError {
        if self.all.len() == 1
            && let Some((_, only)) = errors.pop()
        {
            return only;
        }
        let errors: Vec<(String, StoreError)> = self
            .with_lost(what, errors)
            .into_iter()
            .map(|(at, error)| (self.all[at].name().to_string(), error))
            .collect();
        if errors.iter().all(|(_, error)| error.is_not_found()) {
            let places: Vec<&str> = errors.iter().map(|(place, _)| place.as_str()).collect();
            let what = format!("{what} of {} (asked of {})", self.name, places.join(", "));
            return StoreError::NotFound { place: "every place that stands for it".to_owned(), what };
        }
        StoreError::Nowhere { place: self.name.to_string(), what: what.to_owned(), errors }
    }
}

impl Source for Places {
    fn place(&self) -> String {
        self.name.to_string()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        let what = format!("manifest {selector}");
        let order = self.in_order(selector.contains(':'));
        self.first(&what, &order, |place| place.resolve(selector)).map(|(_, answer)| answer)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let what = format!("manifest {}", descriptor.digest);
        // A mirror that has other bytes is no reason to do without those of the next place.
        let ask = |place| match self.all.len() {
            1 => Repository::manifest(place, descriptor),
            _ => super::super::read_manifest(place, descriptor),
        };
        self.first(&what, &self.in_order(true), ask).map(|(_, answer)| answer)
    }

    /// Lists what any of the places lists: not every mirror keeps what is attached, and the place itself may not have
    /// what was attached elsewhere. Of what is attached by one tag, what the place itself has counts, then the first.
    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let mut all: Vec<Attached> = Vec::new();
        let (mut errors, mut answered) = (Vec::new(), Vec::new());
        for at in self.itself_first() {
            let list = match self.all[at].attached(subject) {
                Ok(list) => list,
                Err(error) => {
                    self.note(at, &error);
                    errors.push((at, error));
                    continue;
                }
            };
            answered.push(at);
            for attached in list {
                let same = |known: &&Attached| match (&known.tag, &attached.tag) {
                    (Some(known), Some(tag)) => known == tag,
                    (None, None) => known.descriptor.digest == attached.descriptor.digest,
                    _ => false,
                };
                match all.iter().find(same) {
                    None => all.push(attached),
                    Some(known) if known.descriptor.digest == attached.descriptor.digest => {}
                    Some(_) => {
                        let cause =
                            format!("{} has something else attached, which was left out", self.host(at));
                        let tag = attached.tag.unwrap_or_default();
                        self.client.say(cause, format!("{}:{tag}", self.all[at].name()));
                    }
                }
            }
        }
        let what = format!("what is attached to {subject}");
        if answered.is_empty() {
            return Err(self.failed(&what, errors));
        }
        let errors = self.with_lost(&what, errors);
        if !errors.is_empty() {
            let hosts: BTreeSet<&str> = answered.iter().map(|at| self.host(*at)).collect();
            let hosts = hosts.into_iter().collect::<Vec<_>>().join(" and ");
            let item = format!("{}@{subject}: {}", self.name, self.told(&errors));
            self.client.say(format!("attached content was asked of {hosts} only"), item);
        }
        Ok(all)
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if let [only] = &self.all[..] {
            return only.open_blob(digest, size, offset);
        }
        let mut order = self.in_order(true);
        if let Some(given) = lock(&self.given).get(digest) {
            if offset > 0 {
                order.sort_by_key(|at| Some(at) != given.by.last());
            }
            if !order.iter().all(|at| given.bad.contains(at)) {
                order.retain(|at| !given.bad.contains(at));
            }
        }
        let what = format!("blob {digest}");
        let (at, reader) = self.first(&what, &order, |place| place.open_blob(digest, size, offset))?;
        let mut given = lock(&self.given);
        let given = given.entry(digest.clone()).or_default();
        if offset == 0 {
            given.by.clear();
            given.is_whole = true;
        }
        if given.by.last() != Some(&at) {
            given.by.push(at);
        }
        Ok(reader)
    }

    fn giver(&self, digest: &Digest) -> String {
        let given = lock(&self.given);
        let Some(given) = given.get(digest).filter(|_| self.all.len() > 1) else { return self.place() };
        let places: BTreeSet<usize> = given.by.iter().chain(&given.bad).copied().collect();
        places.into_iter().map(|at| self.described(at)).collect::<Vec<_>>().join(" and ")
    }

    fn distrust(&self, digest: &Digest, error: &StoreError) -> bool {
        let mut given = lock(&self.given);
        // What an earlier run left may be what is wrong.
        let Some(given) = given.get_mut(digest).filter(|given| given.is_whole && self.all.len() > 1) else {
            return false;
        };
        let Some(at) = given.by.first().copied() else { return false };
        let is_new = given.bad.insert(at);
        let may_go_on = is_new && given.bad.len() < self.all.len();
        if may_go_on {
            self.pass_over(at, error);
        }
        may_go_on
    }
}
