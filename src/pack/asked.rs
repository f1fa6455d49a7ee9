//! What a pack is asked for, in an order that does not depend on how it was typed.

use std::collections::HashMap;
use std::sync::Arc;

use super::Options;
use crate::bundle::Bundle;
use crate::graph::survey::Wish;
use crate::oci::{Algorithm, Descriptor, Digest, Hasher};
use crate::select::{Reason, Select, Wanted};
use crate::store::Source;

/// What is asked for, of which places.
#[derive(Default)]
pub struct Asked {
    /// The places.
    pub sources: Vec<Arc<dyn Source>>,
    /// The images; each names its place by its number among the sources.
    pub wishes: Vec<Wish>,
    /// The bundles among the places, by their number: what they left out on purpose is left out again.
    pub bundles: HashMap<usize, Arc<Bundle>>,
    /// What was asked for in the user's words, in any order; by it an unfinished run is known again even if a place
    /// now holds more than it did. Without it the wishes stand for themselves.
    pub arguments: Vec<String>,
}

impl Asked {
    /// Puts everything into an order of its own, so that the order of the arguments does not show.
    pub(super) fn sorted(mut self) -> Self {
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_cached_key(|at| (self.sources[*at].place(), *at));
        let mut moved = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            moved[*old] = new;
        }
        self.sources = order.iter().map(|at| self.sources[*at].clone()).collect();
        self.bundles = self.bundles.into_iter().map(|(at, bundle)| (moved[at], bundle)).collect();
        self.wishes.iter_mut().for_each(|wish| wish.source = moved[wish.source]);
        self.wishes.sort_by_cached_key(|wish| (wish.name.to_string(), wish.source, wish.selector.clone()));
        self.arguments.sort();
        self.arguments.dedup();
        self
    }

    /// Returns a digest over everything that decides what the bundle is.
    pub(super) fn digest(&self, options: &Options) -> Digest {
        let mut lines = self.arguments.clone();
        if lines.is_empty() {
            let place = |wish: &Wish| self.sources[wish.source].place();
            lines.extend(
                self.wishes.iter().map(|wish| format!("{} {} {}", wish.name, place(wish), wish.selector)),
            );
            lines.dedup();
        }
        let mut platforms: Vec<String> =
            options.wanted.platforms.iter().map(|platform| format!("platform {platform}")).collect();
        platforms.sort();
        platforms.dedup();
        lines.extend(platforms);
        lines
            .push(format!("foreign {} attachments {:?}", options.wanted.foreign_layers, options.attachments));
        // Another version may lay out the same content otherwise.
        lines.push(format!("version {}", env!("CARGO_PKG_VERSION")));
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(lines.join("\n").as_bytes());
        hasher.finish()
    }
}

/// Selects by platform, and what the bundles among the places have.
pub(super) struct Selection<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) bundles: &'a HashMap<usize, Arc<Bundle>>,
}

impl Select for Selection<'_> {
    fn children(&self, children: &[Descriptor]) -> Vec<bool> {
        self.wanted.children(children)
    }

    fn foreign_layers(&self) -> bool {
        self.wanted.foreign_layers
    }

    fn left_out_at(&self, digest: &Digest, source: usize) -> Option<Reason> {
        let bundle = self.bundles.get(&source)?;
        match bundle.record()?.absent.find(digest) {
            Some(row) => Some(row.reason),
            None if bundle.holds(digest) && !bundle.ships(digest) => Some(Reason::Platform),
            None => None,
        }
    }
}
