//! Opening the places that arguments name, and finding what is to be taken from each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::argument::{Argument, InputError, Place};
use super::fill::{SaidAt, join, leave_out};
use super::order::{Blocked, Spot};
use crate::bundle::Bundle;
use crate::bundle::record::ImageEntry;
use crate::catalog::rebuild::RebuildError;
use crate::catalog::{CatalogError, FilterError};
use crate::chart::ChartError;
use crate::graph::survey::Wish;
use crate::graph::{Change, Part};
use crate::oci::{Digest, Platform, Reference, RepositoryName};
use crate::release::ReleaseError;
use crate::store::docker_archive::DockerArchive;
use crate::store::registry::Client;
use crate::store::{Source, StoreError, is_attached_tag};

/// Opens places, each once.
pub struct Opener<'a> {
    pub(super) client: &'a Client,
    pub(super) opened: Opened,
    /// Patterns of what is left out whatever asks for it.
    pub(super) blocked: Vec<Blocked>,
    places: HashMap<Place, usize>,
}

/// What is said of an item beside the argument.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Platforms wanted of it; empty for those that are wanted of all.
    pub platforms: Vec<Platform>,
    /// What it is.
    pub part: Part,
    /// Where it was said; none for the command line.
    pub at: Option<Spot>,
}

/// Places that were opened, and what is asked of them.
#[derive(Default)]
pub struct Opened {
    /// The places.
    pub sources: Vec<Arc<dyn Source>>,
    /// What is asked.
    pub wishes: Vec<Wish>,
    /// The bundles with a record among the places, by their number.
    pub bundles: HashMap<usize, Arc<Bundle>>,
    /// What was named to open them, by their number; nothing for what barge made itself.
    pub places: HashMap<usize, Place>,
    /// Manifests that barge attached itself to what is at a place, which does not have them.
    pub made: HashSet<Digest>,
    /// The arguments themselves, in words that say the same for the same meaning.
    pub arguments: Vec<String>,
    /// What people should know, e.g. that a manifest was made.
    pub notes: Vec<String>,
    /// What people should know of several things alike: the cause, and what it concerns.
    pub warnings: Vec<(String, Vec<String>)>,
    /// Digests that were changed on purpose.
    pub changed: Vec<Change>,
    /// Where files say what travels under a name.
    pub said: SaidAt,
}

/// Why arguments can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An argument can't be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A place can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that a file asks for can't be opened.
    #[error("what {at} asks for can't be had")]
    At {
        /// Where it was said.
        at: Spot,
        /// Why.
        #[source]
        source: Box<OpenError>,
    },
    /// A chart can't be opened.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A catalog can't be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What is wanted of a catalog can't be had.
    #[error("what is wanted of the catalog {catalog} can't be chosen")]
    Filter {
        /// The catalog.
        catalog: String,
        /// Why.
        #[source]
        source: FilterError,
    },
    /// A catalog can't be rebuilt.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// A release can't be opened.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A place that is to hold one image holds several.
    #[error("{place} holds several images, and one is wanted")]
    NotOne {
        /// The place.
        place: String,
    },
    /// None of a repository's tags is wanted.
    #[error("none of the {count} tags of {repository} fits {choice}")]
    NoTag {
        /// The repository.
        repository: RepositoryName,
        /// How many tags it has.
        count: usize,
        /// What was wanted.
        choice: String,
    },
    /// Everything is blocked.
    #[error("every image that was named is blocked ({})", .by.join(", "))]
    AllBlocked {
        /// What blocks them: the places of the patterns, or themselves.
        by: Vec<String>,
    },
    /// A registry does not say what it has.
    #[error("{registry} does not offer a catalogue of its repositories")]
    NoCatalogue {
        /// The registry.
        registry: String,
        /// What it answered.
        #[source]
        source: StoreError,
    },
}

impl OpenError {
    /// Says where in a file it was asked for.
    pub(super) fn at(self, at: Option<&Spot>) -> Self {
        match at {
            Some(at) => Self::At { at: at.clone(), source: Box::new(self) },
            None => self,
        }
    }
}

impl<'a> Opener<'a> {
    /// Starts with nothing opened.
    #[must_use]
    pub fn new(client: &'a Client) -> Self {
        Self { client, opened: Opened::default(), blocked: Vec::new(), places: HashMap::new() }
    }

    /// Opens what an argument names and adds what it asks for.
    ///
    /// # Errors
    /// [`OpenError`]: the place can't be opened, or the argument does not fit what it holds.
    pub fn add(&mut self, argument: &Argument) -> Result<(), OpenError> {
        self.add_as(argument, &Said::default())
    }

    /// Opens what an argument names and adds what it asks for, with what else is said of it.
    ///
    /// # Errors
    /// As [`Self::add`], with the place where it was said.
    pub fn add_as(&mut self, argument: &Argument, said: &Said) -> Result<(), OpenError> {
        let mut text = format!("{argument:?}");
        said.platforms.iter().for_each(|platform| text.push_str(&format!(" {platform}")));
        self.opened.arguments.push(text);
        let before = self.opened.wishes.len();
        self.open(argument).map_err(|error| error.at(said.at.as_ref()))?;
        for wish in &mut self.opened.wishes[before..] {
            wish.platforms.clone_from(&said.platforms);
            wish.part = wish.part.max(said.part);
            self.opened.said.note(&wish.name, said.at.as_ref());
        }
        Ok(())
    }

    fn open(&mut self, argument: &Argument) -> Result<(), OpenError> {
        match &argument.place {
            Place::Registry(name) => {
                let source = self.registry(name);
                if let (Some(name), Some(selector)) = (&argument.name, &argument.selector) {
                    self.opened.wishes.push(Wish {
                        name: name.clone(),
                        reference: argument.reference.clone(),
                        source,
                        selector: selector.clone(),
                        platforms: Vec::new(),
                        part: Part::Image,
                    });
                }
                Ok(())
            }
            Place::Layout(path) | Place::LayoutArchive(path) => {
                let bundle = Bundle::open(path)?;
                self.bundle(argument, bundle)
            }
            Place::DockerArchive(path) => self.docker_archive(argument, DockerArchive::open(path)?),
            Place::File(path) => match Bundle::open(path) {
                Ok(bundle) => self.bundle(argument, bundle),
                // A docker archive is no layout; if it is none either, the first error says more.
                Err(error @ StoreError::Invalid { .. }) if path.is_file() => {
                    match DockerArchive::open(path) {
                        Ok(archive) => self.docker_archive(argument, archive),
                        Err(_) => Err(error.into()),
                    }
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Adds every tag of a repository.
    ///
    /// # Errors
    /// [`OpenError`]: the tags can't be listed, or there are none.
    pub fn add_all_tags(&mut self, name: &RepositoryName) -> Result<(), OpenError> {
        self.opened.arguments.push(format!("all tags of {name}"));
        let source = self.registry(name);
        let mut tags = self.client.places(name).tags()?;
        tags.retain(|tag| !is_attached_tag(tag));
        if tags.is_empty() {
            return Err(InputError::Empty { place: name.to_string() }.into());
        }
        for tag in tags {
            let reference = Reference::tagged(name.clone(), &tag);
            self.opened.wishes.push(Wish {
                name: reference.clone(),
                reference: Some(reference),
                source,
                selector: tag,
                platforms: Vec::new(),
                part: Part::Image,
            });
        }
        Ok(())
    }

    /// Returns what was opened, without what is blocked.
    ///
    /// # Errors
    /// [`OpenError::AllBlocked`]: nothing is left of what was named.
    pub fn finish(mut self) -> Result<Opened, OpenError> {
        let blocked = std::mem::take(&mut self.blocked);
        let any = !self.opened.wishes.is_empty();
        let by = leave_out(&mut self.opened, &blocked);
        if any && self.opened.wishes.is_empty() {
            return Err(OpenError::AllBlocked { by });
        }
        join(&mut self.opened.wishes);
        self.keep_old();
        self.opened.places.extend(self.places.into_iter().map(|(place, at)| (at, place)));
        // The order of the arguments does not show.
        self.opened.notes.sort();
        self.opened.notes.dedup();
        for (_, items) in &mut self.opened.warnings {
            items.sort();
            items.dedup();
        }
        self.opened.warnings.sort();
        self.opened.warnings.dedup();
        Ok(self.opened)
    }

    /// Gives the references of changed images the digests that they meant: what travels was never at the source.
    fn keep_old(&mut self) {
        let Opened { wishes, changed, .. } = &mut self.opened;
        for wish in wishes.iter_mut() {
            let is_it =
                |change: &&Change| change.image == wish.name && change.new.to_string() == wish.selector;
            let old = changed.iter().find(is_it).map(|change| change.old.clone());
            if let (Some(reference), Some(old)) = (&mut wish.reference, old) {
                reference.digest = Some(old);
            }
        }
    }

    /// Returns what was named to open a source; none for what barge made itself.
    pub(super) fn place(&self, source: usize) -> Option<Place> {
        let named = self.places.iter().find(|(_, at)| **at == source).map(|(place, _)| place.clone());
        named.or_else(|| self.opened.places.get(&source).cloned())
    }

    pub(super) fn registry(&mut self, name: &RepositoryName) -> usize {
        let client = self.client;
        self.source(Place::Registry(name.clone()), || Arc::new(client.places(name)))
    }

    pub(super) fn source(&mut self, place: Place, open: impl FnOnce() -> Arc<dyn Source>) -> usize {
        let sources = &mut self.opened.sources;
        *self.places.entry(place).or_insert_with(|| {
            sources.push(open());
            sources.len() - 1
        })
    }

    fn bundle(&mut self, argument: &Argument, bundle: Bundle) -> Result<(), OpenError> {
        if let Some(fault) = bundle.fault() {
            return Err(StoreError::Invalid { place: bundle.place(), why: fault }.into());
        }
        let names = bundle.names()?;
        let bundle = Arc::new(bundle);
        let source = self.source(argument.place.clone(), || bundle.clone());
        if bundle.record().is_some() {
            self.opened.bundles.entry(source).or_insert_with(|| bundle.clone());
        }
        let before = self.opened.wishes.len();
        self.wishes(
            argument,
            source,
            names.into_iter().map(|(name, descriptor)| (name, descriptor.digest)).collect(),
        )?;
        // What a bundle says of where its images came from stays true of a copy.
        let images = bundle.record().into_iter().flat_map(|record| &record.images);
        let known: HashMap<String, &ImageEntry> = images
            .flat_map(|image| [(image.name.to_string(), image), (image.root.to_string(), image)])
            .collect();
        for wish in &mut self.opened.wishes[before..] {
            if let Some(image) = known.get(&wish.selector) {
                (wish.reference, wish.part) = (image.reference.clone(), image.part);
            }
        }
        Ok(())
    }

    fn docker_archive(&mut self, argument: &Argument, archive: DockerArchive) -> Result<(), OpenError> {
        let archive = Arc::new(archive);
        let names = archive.names()?;
        let source = self.source(argument.place.clone(), || archive.clone());
        let before = self.opened.wishes.len();
        self.wishes(
            argument,
            source,
            names.into_iter().map(|named| (named.name, named.descriptor.digest)).collect(),
        )?;
        for wish in &self.opened.wishes[before..] {
            if archive.resolve(&wish.selector).is_ok_and(|descriptor| archive.is_made(&descriptor.digest)) {
                let note = format!(
                    "{}: {} has no manifest for its uncompressed layers, so one was made; the diff IDs are as they were",
                    wish.name,
                    archive.place()
                );
                self.opened.notes.push(note);
            }
        }
        Ok(())
    }

    /// Adds what an argument asks of a place that lists its images.
    fn wishes(
        &mut self,
        argument: &Argument,
        source: usize,
        listed: Vec<(Option<String>, Digest)>,
    ) -> Result<(), OpenError> {
        let place = self.opened.sources[source].place();
        let is_image = |name: &Option<String>| {
            let tag = name.as_deref().map(|name| name.rsplit(':').next().unwrap_or(name));
            !tag.is_some_and(is_attached_tag)
        };
        let images: Vec<_> = listed.into_iter().filter(|(name, _)| is_image(name)).collect();
        let mut wish = |name: Reference, selector: String| {
            self.opened.wishes.push(Wish {
                name,
                reference: None,
                source,
                selector,
                platforms: Vec::new(),
                part: Part::Image,
            });
        };
        if let Some(selector) = &argument.selector {
            let name = match &argument.name {
                Some(name) => name.clone(),
                None => full_name(selector)
                    .ok_or(InputError::Nameless { place: format!("{place}:{selector}") })?,
            };
            wish(name, selector.clone());
            return Ok(());
        }
        if let Some(name) = &argument.name {
            let mut digests: Vec<&Digest> = images.iter().map(|(_, digest)| digest).collect();
            digests.sort();
            digests.dedup();
            return match digests[..] {
                [] => Err(InputError::Empty { place }.into()),
                [only] => {
                    wish(name.clone(), only.to_string());
                    Ok(())
                }
                _ => {
                    Err(InputError::SeveralImages { place, name: name.clone(), count: digests.len() }.into())
                }
            };
        }
        // Nameless entries beside named ones are attachments, which come with what they are attached to.
        let named: Vec<&String> = images.iter().filter_map(|(name, _)| name.as_ref()).collect();
        match (named.is_empty(), images.is_empty()) {
            (true, true) => return Err(InputError::Empty { place }.into()),
            (true, false) => return Err(InputError::Nameless { place }.into()),
            (false, _) => {}
        }
        for name in named {
            let full = full_name(name).ok_or(InputError::Nameless { place: format!("{place}:{name}") })?;
            wish(full, name.clone());
        }
        Ok(())
    }
}

/// Returns the reference that a layout's name is, if it is more than a bare tag.
fn full_name(name: &str) -> Option<Reference> {
    if !name.contains(['/', ':', '@']) {
        return None;
    }
    name.parse().ok().map(Reference::with_default_tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_tag_is_no_name() {
        assert!(full_name("latest").is_none());
        assert_eq!(full_name("alpine:3").unwrap().to_string(), "docker.io/library/alpine:3");
    }
}
