//! Several bundles seen as one source: what any of them holds is there.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use super::Bundle;
use super::chain::Chain;
use crate::graph::reliance::Seen;
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::select::{Reason, Select};
use crate::store::{Attached, Result, Source, StoreError};

/// Something attached: the subject, what is attached to it, and the tag if there is one.
type Tie = (Digest, Digest, Option<String>);

/// A union of bundles.
pub struct Union {
    bundles: Vec<Arc<Bundle>>,
    /// The platforms of roots that have one, as the records say.
    platforms: HashMap<Digest, Platform>,
    /// For each bundle what is attached to the images that it has the last word on; none where all that it lists counts.
    standing: Vec<Option<HashSet<Tie>>>,
}

impl Union {
    /// Sees `bundles` as one.
    #[must_use]
    pub fn new(bundles: Vec<Arc<Bundle>>) -> Self {
        let standing = bundles.iter().map(|_| None).collect();
        Self { platforms: platforms(&bundles), bundles, standing }
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
        Self { platforms: platforms(&chain.bundles), bundles: chain.bundles.clone(), standing }
    }

    /// Returns the bundles.
    #[must_use]
    pub fn bundles(&self) -> &[Arc<Bundle>] {
        &self.bundles
    }

    /// Returns whether any of the bundles has the content to be pushed.
    #[must_use]
    pub fn ships(&self, digest: &Digest) -> bool {
        self.bundles.iter().any(|bundle| bundle.ships(digest))
    }

    /// Returns where content was seen that bundles left out because a base has it, sorted.
    #[must_use]
    pub fn seen(&self, digest: &Digest) -> Vec<Seen> {
        let records = self.bundles.iter().filter_map(|bundle| bundle.record());
        let seen = records.filter_map(|record| Some(record.seen(&record.absent.find(digest)?)));
        let mut seen: Vec<Seen> = seen.flatten().collect();
        seen.sort();
        seen.dedup();
        seen
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

/// Finds the platforms of roots that have one, as the records say.
fn platforms(bundles: &[Arc<Bundle>]) -> HashMap<Digest, Platform> {
    let images = bundles.iter().filter_map(|bundle| bundle.record()).flat_map(|record| record.images.iter());
    let platforms = images.filter_map(|image| match image.platforms.as_slice() {
        [only] => Some((image.root.clone(), only.clone())),
        _ => None,
    });
    platforms.collect()
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
        self.first(digest, |bundle| bundle.open_blob(digest, size, offset))
    }
}

/// Selects what a union of bundles has.
pub struct Held<'a>(pub &'a Union);

impl Select for Held<'_> {
    fn children(&self, children: &[Descriptor]) -> Vec<bool> {
        children.iter().map(|child| self.0.ships(&child.digest)).collect()
    }

    fn foreign_layers(&self) -> bool {
        // What the bundle holds goes; what it left out is told by `left_out`.
        true
    }

    fn left_out(&self, digest: &Digest) -> Option<Reason> {
        if self.0.ships(digest) {
            return None;
        }
        let reason = |bundle: &Arc<Bundle>| Some(bundle.record()?.absent.find(digest)?.reason);
        self.0.bundles.iter().filter_map(reason).max()
    }

    fn platform(&self, root: &Digest) -> Option<Platform> {
        self.0.platforms.get(root).cloned()
    }
}
