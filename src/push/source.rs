//! Several bundles seen as one source: what any of them holds is there.

use std::io::Read;
use std::sync::Arc;

use crate::bundle::Bundle;
use crate::graph::reliance::Seen;
use crate::oci::{Descriptor, Digest};
use crate::select::{Reason, Select};
use crate::store::{Attached, Result, Source, StoreError};

/// What is known of content before the target is asked.
pub trait Known: Sync {
    /// Returns whether the source has the content to push.
    fn holds(&self, digest: &Digest) -> bool;

    /// Returns where content was seen at the target when it was left out; nothing where that is not known.
    fn seen(&self, _digest: &Digest) -> Vec<Seen> {
        Vec::new()
    }
}

/// Knows of a source that has all that it refers to, as a registry does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everything;

impl Known for Everything {
    fn holds(&self, _digest: &Digest) -> bool {
        true
    }
}

/// A union of bundles.
pub struct Union {
    bundles: Vec<Arc<Bundle>>,
}

impl Union {
    /// Sees `bundles` as one.
    #[must_use]
    pub fn new(bundles: Vec<Arc<Bundle>>) -> Self {
        Self { bundles }
    }

    /// Returns the bundles.
    #[must_use]
    pub fn bundles(&self) -> &[Arc<Bundle>] {
        &self.bundles
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
        for bundle in &self.bundles {
            for attached in bundle.attached(subject)? {
                if !list.contains(&attached) {
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

impl Known for Union {
    fn holds(&self, digest: &Digest) -> bool {
        self.bundles.iter().any(|bundle| bundle.ships(digest))
    }

    fn seen(&self, digest: &Digest) -> Vec<Seen> {
        let mut seen: Vec<Seen> = Vec::new();
        for record in self.bundles.iter().filter_map(|bundle| bundle.record()) {
            let (Some(base), Some(row)) = (&record.base, record.absent.find(digest)) else { continue };
            let places = row.repositories.iter().filter_map(|at| base.repositories.get(*at as usize));
            seen.extend(places.cloned());
        }
        seen.sort();
        seen.dedup();
        seen
    }
}

/// Selects what a union of bundles has.
pub struct Held<'a>(pub &'a Union);

impl Select for Held<'_> {
    fn children(&self, children: &[Descriptor]) -> Vec<bool> {
        let ships = |child: &Descriptor| self.0.bundles.iter().any(|bundle| bundle.ships(&child.digest));
        children.iter().map(ships).collect()
    }

    fn foreign_layers(&self) -> bool {
        // What the bundle holds goes; what it left out is told by `left_out`.
        true
    }

    fn left_out(&self, digest: &Digest) -> Option<Reason> {
        if self.0.bundles.iter().any(|bundle| bundle.ships(digest)) {
            return None;
        }
        let reason = |bundle: &Arc<Bundle>| Some(bundle.record()?.absent.find(digest)?.reason);
        self.0.bundles.iter().filter_map(reason).max()
    }
}
