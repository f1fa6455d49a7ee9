//! Several bundles seen as one source: what any of them holds is there.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Bundle;
use super::chain::Chain;
use super::recipe::{Ingredient, Origin, Recipe, Recipes};
use super::workshop::{Workshop, skip};
use crate::graph::reliance::Seen;
use crate::oci::{Descriptor, Digest, Hasher, Platform, Reference};
use crate::select::{Reason, Select};
use crate::store::{Attached, Result, Source, StoreError};

/// Something attached: the subject, what is attached to it, and the tag if there is one.
type Tie = (Digest, Digest, Option<String>);

/// A union of bundles.
pub struct Union {
    bundles: Vec<Arc<Bundle>>,
    /// For each bundle what is attached to the images that it has the last word on; none where all that it lists counts.
    standing: Vec<Option<HashSet<Tie>>>,
    /// For each bundle, whether it has the last word on any image.
    speaks: Vec<bool>,
    /// Platforms of images that have one, by root; an index is among them only where it is sparse.
    platforms: OnceLock<HashMap<Digest, Platform>>,
    /// Which copies of content that several bundles have are sound.
    sound: Mutex<HashMap<(PathBuf, Digest), bool>>,
    recipes: Mutex<Recipes>,
    workshop: Arc<Workshop>,
}

impl Union {
    /// Sees `bundles` as one.
    #[must_use]
    pub fn new(bundles: Vec<Arc<Bundle>>) -> Self {
        let (standing, speaks) = bundles.iter().map(|_| (None, true)).unzip();
        Self::with(bundles, standing, speaks)
    }

    /// Sees the bundles of a chain as one. Of what is attached only that counts which goes with an image as it stands:
    /// what an earlier bundle says of an image that a later one has too, or no longer wants, is out of date.
    #[must_use]
    pub fn of(chain: &Chain) -> Self {
        let last_words: HashSet<(usize, &Reference)> =
            chain.images.values().map(|member| (member.bundle, &member.name)).collect();
        let ties = |(at, bundle): (usize, &Arc<Bundle>)| {
            let images = bundle.record()?.images.iter();
            let images = images.filter(|image| last_words.contains(&(at, &image.name)));
            let attached = images.flat_map(|image| &image.attached);
            Some(attached.map(|one| (one.subject.clone(), one.digest.clone(), one.tag.clone())).collect())
        };
        let standing = chain.bundles.iter().enumerate().map(ties).collect();
        let speakers: HashSet<usize> = chain.images.values().map(|member| member.bundle).collect();
        let speaks = (0..chain.bundles.len()).map(|at| speakers.contains(&at)).collect();
        Self::with(chain.bundles.clone(), standing, speaks)
    }

    fn with(bundles: Vec<Arc<Bundle>>, standing: Vec<Option<HashSet<Tie>>>, speaks: Vec<bool>) -> Self {
        Self {
            bundles,
            standing,
            speaks,
            platforms: OnceLock::new(),
            sound: Mutex::default(),
            recipes: Mutex::default(),
            workshop: Arc::default(),
        }
    }

    /// Rebuilds content in `workshop`.
    #[must_use]
    pub fn working_in(self, workshop: Arc<Workshop>) -> Self {
        Self { workshop, ..self }
    }

    /// Returns where content is rebuilt.
    #[must_use]
    pub fn workshop(&self) -> &Arc<Workshop> {
        &self.workshop
    }

    /// Returns how content is rebuilt that does not travel itself; none if no patch gives it.
    #[must_use]
    pub fn recipe(&self, digest: &Digest) -> Option<Arc<Recipe>> {
        self.recipes.lock().unwrap_or_else(PoisonError::into_inner).find(&self.bundles, digest)
    }

    /// Returns how content is rebuilt from what the bundles have, where none of them has it itself.
    fn complete_recipe(&self, digest: &Digest) -> Option<Arc<Recipe>> {
        self.recipe(digest).filter(|recipe| recipe.is_complete)
    }

    /// Returns the bundles.
    #[must_use]
    pub fn bundles(&self) -> &[Arc<Bundle>] {
        &self.bundles
    }

    /// Returns whether any of the bundles has the content to be pushed, or all that it is rebuilt from.
    #[must_use]
    pub fn ships(&self, digest: &Digest) -> bool {
        self.bundles.iter().any(|bundle| bundle.ships(digest)) || self.complete_recipe(digest).is_some()
    }

    /// Returns whether any bundle has the content to be pushed that has the last word on an image: a platform that only
    /// bundles have whose images were all replaced was left out since.
    #[must_use]
    pub fn still_ships(&self, digest: &Digest) -> bool {
        self.bundles.iter().zip(&self.speaks).any(|(bundle, speaks)| *speaks && bundle.ships(digest))
    }

    /// Returns the platform of an image without an index, as the record of a bundle says it: a delta may be without the
    /// configuration that says it too.
    #[must_use]
    pub fn platform(&self, root: &Digest) -> Option<Platform> {
        let read = || {
            let records = self.bundles.iter().filter_map(|bundle| bundle.record());
            let images = records.flat_map(|record| &record.images);
            let single = images.filter_map(|image| match image.platforms.as_slice() {
                [only] => Some((image.root.clone(), only.clone())),
                _ => None,
            });
            single.collect()
        };
        self.platforms.get_or_init(read).get(root).cloned()
    }

    /// Returns where content was seen that bundles left out because a base has it, sorted.
    #[must_use]
    pub fn seen(&self, digest: &Digest) -> Vec<Seen> {
        let records = self.bundles.iter().filter_map(|bundle| bundle.record());
        let mut seen: Vec<Seen> = Vec::new();
        for record in records {
            let Some(row) = record.absent.find(digest) else { continue };
            match (row.repositories.is_empty(), &record.base) {
                // Of which that is not known may be in any of them.
                (true, Some(base)) if row.reason == Reason::Base => {
                    seen.extend(base.repositories.iter().cloned());
                }
                _ => seen.extend(record.seen(&row)),
            }
        }
        seen.sort();
        seen.dedup();
        seen
    }

    /// Returns whether a bundle's copy of content hashes to its digest; reads it once.
    fn is_sound(&self, bundle: &Bundle, digest: &Digest, size: u64) -> bool {
        let key = (bundle.path().to_owned(), digest.clone());
        if let Some(known) = self.sound.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *known;
        }
        let is_sound = bundle.open_blob(digest, size, 0).is_ok_and(|mut from| {
            let mut hasher = Hasher::new(digest.algorithm());
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match from.read(&mut buffer) {
                    Ok(0) => return hasher.finish() == *digest,
                    Ok(count) => hasher.update(&buffer[..count]),
                    Err(_) => return false,
                }
            }
        });
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).insert(key, is_sound);
        is_sound
    }

    /// Asks those bundles that hold `digest` until one answers; the last error stands if none does.
    fn first<'a, T>(&'a self, digest: &Digest, ask: impl Fn(&'a Bundle) -> Result<T>) -> Result<T> {
        let mut error = StoreError::NotFound { place: self.place(), what: digest.to_string() };
        for bundle in self.bundles.iter().filter(|bundle| bundle.holds(digest)) {
            match ask(bundle) {
                Ok(answer) => return Ok(answer),
                Err(failure) => error = failure,
            }
        }
        Err(error)
    }
}

impl Source for Union {
    fn place(&self) -> String {
        self.bundles.iter().map(|bundle| bundle.place()).collect::<Vec<_>>().join(" + ")
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        let mut error = StoreError::NotFound { place: self.place(), what: selector.to_owned() };
        for bundle in &self.bundles {
            match bundle.resolve(selector) {
                Ok(descriptor) => return Ok(descriptor),
                Err(failure) if failure.is_not_found() => {}
                Err(failure) => error = failure,
            }
        }
        Err(error)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.first(&descriptor.digest, |bundle| {
            let bytes = bundle.manifest(descriptor)?;
            if descriptor.digest.matches(&bytes) {
                return Ok(bytes);
            }
            // Another bundle may have it undamaged.
            let why = "its bytes hash to something else".to_owned();
            Err(StoreError::Damaged { place: bundle.place(), digest: descriptor.digest.clone(), why })
        })
    }

    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let mut list: Vec<Attached> = Vec::new();
        for (bundle, standing) in self.bundles.iter().zip(&self.standing) {
            for attached in bundle.attached(subject)? {
                let tie = || (subject.clone(), attached.descriptor.digest.clone(), attached.tag.clone());
                let stands = standing.as_ref().is_none_or(|standing| standing.contains(&tie()));
                if stands && !list.contains(&attached) {
                    list.push(attached);
                }
            }
        }
        Ok(list)
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        // Of several copies one may be damaged: the one that is passed on is read through before. Content that one
        // bundle has alone is found out by whoever reads it.
        let mut holders = self.bundles.iter().filter(|bundle| bundle.holds(digest)).peekable();
        while let Some(bundle) = holders.next() {
            if holders.peek().is_none() || self.is_sound(bundle, digest, size) {
                return bundle.open_blob(digest, size, offset);
            }
        }
        if let Some(recipe) = self.complete_recipe(digest) {
            let places = |base: &Ingredient| -> Option<&dyn Source> {
                matches!(base.origin, Origin::Held).then_some(self)
            };
            let mut content = self.workshop.open(&recipe, self, &places)?;
            skip(&mut content, offset)?;
            return Ok(content);
        }
        Err(StoreError::NotFound { place: self.place(), what: digest.to_string() })
    }
}

/// Selects what a union of bundles has.
pub struct Held<'a>(pub &'a Union);

impl Select for Held<'_> {
    fn children(&self, children: &[Descriptor], _wanted: &[Platform]) -> Vec<bool> {
        children.iter().map(|child| self.0.ships(&child.digest)).collect()
    }

    fn foreign_layers(&self) -> bool {
        // What the bundle holds goes; what it left out is told by `left_out`.
        true
    }

    fn platform(&self, root: &Digest) -> Option<Platform> {
        self.0.platform(root)
    }

    fn left_out(&self, digest: &Digest) -> Option<Reason> {
        if self.0.ships(digest) {
            return None;
        }
        let reason = |bundle: &Arc<Bundle>| bundle.record()?.left_out(digest);
        self.0.bundles.iter().filter_map(reason).max()
    }
}
