//! What a pack is asked for, in an order that does not depend on how it was typed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Options;
use crate::bundle::Bundle;
use crate::bundle::{Held, Union};
use crate::graph::reliance::{BaseEntry, BaseKind, Holds, Seen};
use crate::graph::survey::Wish;
use crate::graph::{Change, Graph};
use crate::input::SaidAt;
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, Platform, Reference};
use crate::request::Request;
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
    /// The bundles that all wishes are taken from, seen as one; `sources` then holds them alone.
    pub union: Option<Arc<Union>>,
    /// What the far side has, where only what it lacks is to travel.
    pub relied: Option<Relied>,
    /// Content without which an image is left out, where only that is asked for.
    pub request: Option<Request>,
    /// Digests that were changed on purpose before anything is packed.
    pub changed: Vec<Change>,
    /// Where files say what travels under a name, for messages.
    pub said: SaidAt,
    /// What was asked for in the user's words, in any order; by it an unfinished run is known again even if a place
    /// now holds more than it did. Without it the wishes stand for themselves.
    pub arguments: Vec<String>,
}

/// What the far side is taken to have.
pub struct Relied {
    /// The bases, as the record names them.
    pub bases: Vec<BaseEntry>,
    /// What they have.
    pub holds: Arc<dyn Holds + Send + Sync>,
    /// Which names they have that are no longer wanted.
    pub removed: Removed,
    /// What happens with content that the sources left out because of a base of their own, and that this one has not.
    pub leftover: Leftover,
}

/// Finds the names that the bases have and that a graph has not.
pub type Removed = Box<dyn Fn(&Graph) -> BTreeSet<String> + Send + Sync>;

/// What happens with content that is left out and that no base given has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// It is an error: something is missing between the base and what follows it.
    Refused,
    /// It is relied on too: the result builds on what the sources built on.
    Kept,
}

/// Nothing is held.
pub struct HoldsNothing;

impl Holds for HoldsNothing {
    fn seen(&self, _: &Digest, _: u64) -> Option<Vec<Seen>> {
        None
    }
}

/// Where the bases of delta bundles among the sources saw what these left out.
pub(super) struct Recorded {
    all: Vec<Arc<Union>>,
}

impl Recorded {
    pub(super) fn of(asked: &Asked) -> Self {
        let single: Vec<Arc<Bundle>> = asked.bundles.values().cloned().collect();
        Self { all: asked.union.iter().cloned().chain([Arc::new(Union::new(single))]).collect() }
    }
}

impl Holds for Recorded {
    fn seen(&self, digest: &Digest, _: u64) -> Option<Vec<Seen>> {
        Some(self.all.iter().flat_map(|union| union.seen(digest)).collect())
    }
}

impl Asked {
    /// Takes of each image that a request is for the platforms of it that travelled, where nothing else is said.
    pub(super) fn with_requested(mut self, options: &Options) -> Self {
        if let (Some(request), true) = (&self.request, options.wanted.platforms.is_empty()) {
            for wish in self.wishes.iter_mut().filter(|wish| wish.platforms.is_empty()) {
                wish.platforms = request.platforms_of(&wish.name.to_string());
            }
        }
        self
    }

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

    /// Returns the digests that were changed on purpose of the images of a graph, here or where they were packed before.
    pub(super) fn changes_of(&self, graph: &Graph) -> Vec<Change> {
        let bundles = self.union.iter().flat_map(|union| union.bundles()).chain(self.bundles.values());
        let mut changes = graph.changes_among(&self.changed);
        for record in bundles.filter_map(|bundle| bundle.record()) {
            let roots: HashMap<&Reference, &Digest> =
                record.images.iter().map(|image| (&image.name, &image.root)).collect();
            for change in record.digest_map.iter().filter(|change| graph.find(&change.new).is_some()) {
                // By its digest an image is known under whatever name it goes on.
                let is_it = |root: &Digest| *root == change.new || roots.get(&change.image) == Some(&root);
                let images = graph.images.iter().filter(|image| is_it(graph.digest(image.root)));
                changes.extend(images.map(|image| Change { image: image.name.clone(), ..change.clone() }));
            }
        }
        changes
            .sort_by_cached_key(|change| (change.image.to_string(), change.old.clone(), change.new.clone()));
        changes.dedup();
        changes
    }

    /// Returns a digest over everything that decides what the bundle is.
    pub(super) fn digest(&self, options: &Options) -> Digest {
        let mut lines = self.arguments.clone();
        if lines.is_empty() {
            let place = |wish: &Wish| self.sources[wish.source].place();
            lines.extend(self.wishes.iter().map(|wish| {
                let own: Vec<String> = wish.platforms.iter().map(|platform| format!(" {platform}")).collect();
                format!("{} {} {}{}", wish.name, place(wish), wish.selector, own.concat())
            }));
            lines
                .extend(self.changed.iter().map(|change| format!("changed {} {}", change.image, change.new)));
            lines.dedup();
        }
        // A survey is kept by the numbers of the places.
        lines.extend(self.sources.iter().map(|source| format!("place {}", source.place())));
        let mut platforms: Vec<String> =
            options.wanted.platforms.iter().map(|platform| format!("platform {platform}")).collect();
        platforms.sort();
        platforms.dedup();
        lines.extend(platforms);
        lines
            .push(format!("foreign {} attachments {:?}", options.wanted.foreign_layers, options.attachments));
        if let Some(relied) = &self.relied {
            // What a live registry holds changes while a pack is interrupted, and is another plan then.
            let named = relied.bases.iter().map(|base| match base.kind {
                BaseKind::Registry => "base registry".to_owned(),
                _ => format!("base {}", base.id),
            });
            let mut bases: Vec<String> = named.collect();
            bases.sort();
            lines.extend(bases);
        }
        lines.extend(self.request.iter().map(|request| format!("request {}", request.id())));
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
    pub(super) union: Option<&'a Union>,
}

impl Select for Selection<'_> {
    fn children(&self, children: &[Descriptor], wanted: &[Platform]) -> Vec<bool> {
        let mut keep = self.wanted.children(children, wanted);
        if let Some(union) = self.union {
            for (keep, child) in keep.iter_mut().zip(children) {
                *keep &= union.still_ships(&child.digest);
            }
        }
        keep
    }

    fn foreign_layers(&self) -> bool {
        self.wanted.foreign_layers
    }

    fn left_out_at(&self, digest: &Digest, source: usize) -> Option<Reason> {
        if let Some(union) = self.union {
            return Held(union).left_out(digest);
        }
        let bundle = self.bundles.get(&source)?;
        match bundle.record()?.left_out(digest) {
            Some(reason) => Some(reason),
            None if bundle.holds(digest) && !bundle.ships(digest) => Some(Reason::Platform),
            None => None,
        }
    }

    fn platform(&self, root: &Digest) -> Option<Platform> {
        self.union.and_then(|union| union.platform(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Output;
    use crate::select::Attachments;
    use crate::store::made::Made;

    #[test]
    fn the_same_words_of_other_places_are_another_command() {
        let options = Options {
            wanted: Wanted::default(),
            strict_platforms: false,
            attachments: Attachments::All,
            keep_going: false,
            jobs: 1,
            max_size: None,
            restart: false,
            output: Output::Nowhere,
        };
        let digest = |places: &[&str]| {
            let sources = places.iter().map(|place| Arc::new(Made::new(*place)) as Arc<dyn Source>).collect();
            let asked = Asked { sources, arguments: vec!["the same".to_owned()], ..Asked::default() };
            asked.sorted().digest(&options)
        };
        assert_eq!(digest(&["a", "b"]), digest(&["b", "a"]));
        assert_ne!(digest(&["a", "b"]), digest(&["a", "b", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["a", "c"]));
    }
}
