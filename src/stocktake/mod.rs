//! Takes the inventory of a live registry: what it holds, as the manifests of its images say.
//!
//! Only manifests are read, and the configurations of images that nothing else tells the platform of; blobs are proved
//! by a byte of each on request. Repositories are looked at one by one, several at once, and each in batches of images:
//! what a finished batch found is durable in a journal, so an interrupted run goes on where it stopped. What one
//! repository has says nothing about another: a registry may hold a blob and give it to one of them only.

mod journal;
mod look;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::look::Looked;

use self::journal::{Found, Journal, Line};
use self::look::Looker;
use crate::input::{InputError, OpenError, RegistryArgument, RegistryPlace};
use crate::inventory::{Content, FailedRow, Gathering, Inventory, Kind, Scope};
use crate::oci::{Digest, RepositoryName};
use crate::store::StoreError;
use crate::store::registry::Client;
use crate::transfer::{TransferError, for_each};

/// The most repositories that are looked at at once; within each, images are.
const MAX_REPOSITORIES: usize = 8;

/// How to take an inventory.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether every blob is proved by reading a byte of it.
    pub check_blobs: bool,
    /// How many requests at once.
    pub jobs: usize,
    /// Where the journal lies by which an interrupted run is taken up; none for one that starts over.
    pub journal: Option<PathBuf>,
    /// Whether the journal of an earlier run is begun anew, whatever its arguments.
    pub restart: bool,
}

/// Why an inventory can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum StocktakeError {
    /// Nothing was asked for.
    #[error("no registry, repository or image was named")]
    Nothing,
    /// Arguments that don't go together.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The registry does not say what it has.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The registry stopped answering. What was found before is in the journal.
    #[error("the inventory of {place} stopped{}", image.as_ref().map(|name| format!(" at {name}")).unwrap_or_default())]
    Stopped {
        /// The place.
        place: RegistryPlace,
        /// The repository or image that was looked at.
        image: Option<String>,
        /// What the registry said.
        #[source]
        source: Arc<StoreError>,
    },
    /// The journal was begun for another question.
    #[error("{} was begun with other arguments", .0.display())]
    OtherArguments(PathBuf),
    /// A local file can't be used.
    #[error(transparent)]
    Local(#[from] TransferError),
}

/// An inventory that was taken.
#[derive(Debug)]
pub struct Taken {
    /// The inventory. Its time is that of the first look, also of a run that was taken up.
    pub inventory: Inventory,
    /// Blobs that manifests list and that could not be read: repository relative to the place, digest.
    pub missing: BTreeSet<(String, Digest)>,
    /// How long ago an earlier run began, where this one went on from it.
    pub resumed: Option<Duration>,
    journal: Option<Journal>,
}

impl Taken {
    /// Returns whether everything was read and is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.inventory.failed.is_empty() && self.missing.is_empty()
    }

    /// Returns the number of bytes that the registry holds, each piece of content counted once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inventory.content.holdings.iter().fold(0, |sum, row| sum.saturating_add(row.size))
    }

    /// Removes the journal, once the inventory is written.
    ///
    /// # Errors
    /// [`TransferError::Local`] for what the system says.
    pub fn finish(self) -> Result<(), TransferError> {
        self.journal.map_or(Ok(()), Journal::remove)
    }
}

/// What is asked of one repository.
#[derive(Debug, Default)]
struct Ask {
    /// Whether all tags are meant.
    all: bool,
    /// Whether somebody named it, so that its absence is worth saying.
    is_named: bool,
    /// Tags and digests that are meant one by one.
    selectors: BTreeSet<String>,
}

/// Takes the inventory of what `arguments` name; `looked` is told after each batch, from any worker.
///
/// # Errors
/// [`StocktakeError`]. An image that can't be used is no error: it is among [`Inventory::failed`].
pub fn take(
    client: &Client,
    arguments: &[RegistryArgument],
    options: &Options,
    looked: &(dyn Fn(Looked) + Sync),
) -> Result<Taken, StocktakeError> {
    let place = RegistryPlace::of(arguments)?.ok_or(StocktakeError::Nothing)?;
    let asked = question(arguments, options.check_blobs);
    let journal =
        options.journal.as_deref().map(|path| Journal::open(path, &asked, options.restart)).transpose()?;
    let (journal, earlier) = match journal {
        Some((journal, earlier)) => (Some(journal), earlier),
        None => (None, journal::Earlier::new()),
    };
    let resumed = earlier.goes_on.then(|| age(&earlier.begun)).flatten();
    let asks = match asks(client, arguments, journal.as_ref(), &earlier) {
        Ok(asks) => asks,
        Err(error) => {
            // A mistyped registry leaves nothing behind that stands in the way of the right one.
            if let Some(journal) = journal.filter(|_| !earlier.goes_on) {
                journal.remove()?;
            }
            return Err(error);
        }
    };
    let begun = earlier.begun.clone();
    let looker = Looker::new(client, &place, options, journal.as_ref(), earlier, looked, asks.len());
    let (names, asks): (Vec<RepositoryName>, Vec<Ask>) = asks.into_iter().unzip();
    let at_once = options.jobs.clamp(1, MAX_REPOSITORIES);
    for_each(at_once, names.len(), |at| looker.look(&names[at], &asks[at]))?;
    let (found, failed) = looker.finish(&names)?;
    let (content, missing) = gather(&place, &names, &found);
    let mut inventory = Inventory::new(Kind::Inventory, place.to_string(), scope(arguments, &place), content);
    inventory.checked = options.check_blobs;
    inventory.taken = begun;
    inventory.failed = found.into_iter().flat_map(|found| found.failed).chain(failed).collect();
    inventory.failed.sort_by(|a, b| (&a.name, &a.why).cmp(&(&b.name, &b.why)));
    inventory.failed.dedup();
    Ok(Taken { inventory, missing, resumed, journal })
}

/// Returns a digest that is the same for the same question.
fn question(arguments: &[RegistryArgument], check_blobs: bool) -> Digest {
    let mut words: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    words.sort();
    words.dedup();
    words.push(format!("check-blobs {check_blobs}"));
    Digest::sha256(words.join("\n").as_bytes())
}

fn age(begun: &str) -> Option<Duration> {
    SystemTime::now().duration_since(humantime::parse_rfc3339(begun).ok()?).ok()
}

/// Finds the repositories that the arguments mean, asking for the catalogue where the journal does not have it.
fn asks(
    client: &Client,
    arguments: &[RegistryArgument],
    journal: Option<&Journal>,
    earlier: &journal::Earlier,
) -> Result<BTreeMap<RepositoryName, Ask>, StocktakeError> {
    let mut asks: BTreeMap<RepositoryName, Ask> = BTreeMap::new();
    for argument in arguments {
        match argument {
            RegistryArgument::Registry(below) => {
                let listed = if let Some(listed) = earlier.catalogues.get(&below.prefix) {
                    listed.clone()
                } else {
                    let names = below.repositories(client)?;
                    let listed: Vec<String> = names.into_iter().map(|name| name.repository).collect();
                    if let Some(journal) = journal {
                        let prefix = below.prefix.clone();
                        journal.append(&Line::Catalogue { prefix, repositories: listed.clone() })?;
                    }
                    listed
                };
                for repository in listed {
                    let name = RepositoryName { registry: below.registry.clone(), repository };
                    asks.entry(name).or_default().all = true;
                }
            }
            RegistryArgument::Repository(name) => {
                let ask = asks.entry(name.clone()).or_default();
                (ask.all, ask.is_named) = (true, true);
            }
            RegistryArgument::Image(reference) => {
                let ask = asks.entry(reference.name.clone()).or_default();
                ask.is_named = true;
                ask.selectors.insert(reference.selector());
            }
        }
    }
    Ok(asks)
}

/// Returns how much the arguments mean: the least of them.
fn scope(arguments: &[RegistryArgument], place: &RegistryPlace) -> Scope {
    let of = |argument: &RegistryArgument| match argument {
        RegistryArgument::Registry(below) if below == place => Scope::Registry,
        // One of several paths: what it lists is no statement about the others.
        RegistryArgument::Registry(_) | RegistryArgument::Repository(_) => Scope::Repositories,
        RegistryArgument::Image(_) => Scope::Images,
    };
    let rank = |scope: &Scope| match scope {
        Scope::Images => 0,
        Scope::Repositories => 1,
        Scope::Registry => 2,
    };
    arguments.iter().map(of).min_by_key(rank).unwrap_or(Scope::Images)
}

/// Puts together what the batches found, in an order that does not depend on theirs.
fn gather(
    place: &RegistryPlace,
    names: &[RepositoryName],
    found: &[Found],
) -> (Content, BTreeSet<(String, Digest)>) {
    let mut gathering = Gathering::default();
    names.iter().filter_map(|name| place.relative(name)).for_each(|name| gathering.repository(name));
    let mut rows: Vec<(&Digest, &str, u64, &str)> = found
        .iter()
        .flat_map(|found| {
            found.rows.iter().filter_map(|(digest, size, media_type)| {
                let media_type = found.media_types.get(*media_type as usize)?;
                Some((digest, media_type.as_str(), *size, found.repository.as_str()))
            })
        })
        .collect();
    rows.sort_unstable();
    // One digest under several types: the first by the alphabet stands, and the others are not listed.
    let mut first: Option<(&Digest, &str, u64)> = None;
    for (digest, media_type, size, repository) in rows {
        let (_, media_type, size) = match first {
            Some(first) if first.0 == digest => first,
            _ => *first.insert((digest, media_type, size)),
        };
        gathering.add(digest, size, media_type, Some(repository));
    }
    let images = found.iter().flat_map(|found| found.images.iter().cloned()).collect();
    let missing = found
        .iter()
        .flat_map(|found| found.missing.iter().map(|digest| (found.repository.clone(), digest.clone())))
        .collect();
    (Content::new(images, gathering.finish()), missing)
}

/// Makes the row of an image or repository that could not be read.
fn failed_row(name: impl Into<String>, why: impl Into<String>) -> FailedRow {
    FailedRow { name: Some(name.into()), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(texts: &[&str]) -> Vec<RegistryArgument> {
        texts.iter().map(|text| RegistryArgument::parse(text).unwrap()).collect()
    }

    #[test]
    fn the_scope_is_the_least_of_what_is_asked() {
        let of = |texts: &[&str]| {
            let arguments = arguments(texts);
            scope(&arguments, &RegistryPlace::of(&arguments).unwrap().unwrap())
        };
        assert_eq!(of(&["r.b"]), Scope::Registry);
        assert_eq!(of(&["r.b/team/"]), Scope::Registry);
        assert_eq!(of(&["r.b/team/", "r.b/other/"]), Scope::Repositories);
        assert_eq!(of(&["r.b", "r.b/app"]), Scope::Repositories);
        assert_eq!(of(&["r.b/app", "r.b/app:v1"]), Scope::Images);
    }

    #[test]
    fn the_question_does_not_depend_on_the_order_of_its_words() {
        let of = |texts: &[&str]| question(&arguments(texts), false);
        assert_eq!(of(&["r.b/a", "r.b/b", "r.b/a"]), of(&["r.b/b", "docker://r.b/a"]));
        assert_ne!(of(&["r.b/a"]), of(&["r.b/a/"]));
        assert_ne!(question(&arguments(&["r.b"]), true), of(&["r.b"]));
    }

    #[test]
    fn the_order_in_which_batches_end_does_not_show() {
        let place = RegistryPlace { registry: "r.b".to_owned(), prefix: String::new() };
        let found = |repository: &str, media_types: &[&str], sizes: &[u64]| Found {
            repository: repository.to_owned(),
            media_types: media_types.iter().map(|name| (*name).to_owned()).collect(),
            rows: sizes
                .iter()
                .map(|size| (Digest::sha256(&size.to_le_bytes()), *size, (*size % 2) as u32))
                .collect(),
            ..Found::default()
        };
        let mut batches = vec![
            found("a", &["t/one", "t/two"], &[1, 2, 3]),
            found("b", &["t/two", "t/one"], &[1, 2, 3]),
            found("a", &["t/three", "t/zero"], &[3, 4]),
        ];
        let text = |batches: &[Found]| serde_json::to_string(&gather(&place, &[], batches).0).unwrap();
        let forward = text(&batches);
        batches.reverse();
        assert_eq!(text(&batches), forward);
        assert!(!forward.contains("t/two"), "{forward}");
    }
}
