//! What one base says.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexSet;

use crate::graph::reliance::{BaseEntry, BaseKind, Seen};
use crate::input::RegistryPlace;
use crate::inventory::{Inventory, Kind, Scope};
use crate::oci::{Digest, Reference, RepositoryName};

/// Content with the places where it was seen.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Size, and which of the sets of places; rows share them.
    rows: HashMap<Digest, (u64, u32)>,
    sets: IndexSet<Vec<u32>>,
    places: IndexSet<Seen>,
    /// Places of content of which it is not known in which of them it is.
    loose: BTreeSet<Seen>,
}

impl Table {
    /// Returns how many pieces of content there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds content, or places to content that is known. Where two sizes are given for a digest, the first stands.
    pub fn add(&mut self, digest: &Digest, size: u64, seen: impl IntoIterator<Item = Seen>) {
        let places = seen.into_iter().map(|seen| self.places.insert_full(seen).0 as u32);
        let mut places: BTreeSet<u32> = places.collect();
        if let Some((_, set)) = self.rows.get(digest) {
            places.extend(&self.sets[*set as usize]);
        }
        let set = self.sets.insert_full(places.into_iter().collect()).0 as u32;
        self.rows.entry(digest.clone()).or_insert((size, set)).1 = set;
    }

    /// Notes a place that was looked at, whatever it holds.
    pub fn add_place(&mut self, seen: Seen) {
        self.places.insert(seen);
    }

    /// Notes a place where content may be of which no place is known.
    pub fn add_loose_place(&mut self, seen: Seen) {
        self.loose.insert(seen);
    }

    /// Returns the places where content may be of which no place is known, sorted.
    pub fn loose_places(&self) -> impl Iterator<Item = &Seen> {
        self.loose.iter()
    }

    /// Returns where content of this size was seen; none if it was not.
    #[must_use]
    pub fn seen(&self, digest: &Digest, size: u64) -> Option<Vec<Seen>> {
        let (known, set) = self.rows.get(digest)?;
        (*known == size).then(|| self.places_of(*set).cloned().collect())
    }

    fn places_of(&self, set: u32) -> impl Iterator<Item = &Seen> {
        self.sets[set as usize].iter().map(|at| &self.places[*at as usize])
    }

    /// Returns the digests with their sizes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.rows.iter().map(|(digest, (size, _))| (digest, *size))
    }

    /// Returns the paths that were looked at.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<String> {
        let paths = self.places.iter().filter_map(|seen| match seen {
            Seen::Path(path) => Some(path.clone()),
            Seen::Source(_) => None,
        });
        paths.collect()
    }

    /// Takes paths for repositories of a source.
    fn rename_places(&mut self, source: impl Fn(&str) -> RepositoryName) {
        let places = std::mem::take(&mut self.places);
        self.places = places
            .into_iter()
            .map(|seen| match seen {
                Seen::Path(path) => Seen::Source(source(&path)),
                seen @ Seen::Source(_) => seen,
            })
            .collect();
    }

    /// Forgets places, and content that was seen in none but them.
    pub(super) fn retain_places(&mut self, keep: impl Fn(&Seen) -> bool) {
        let kept: Vec<bool> = self.places.iter().map(keep).collect();
        let old = std::mem::take(&mut self.sets);
        let mut moved: Vec<Option<u32>> = Vec::with_capacity(old.len());
        for set in old {
            let had_places = !set.is_empty();
            let left: Vec<u32> = set.into_iter().filter(|at| kept[*at as usize]).collect();
            // Content of which no place is known was seen at the target all the same.
            moved.push((!had_places || !left.is_empty()).then(|| self.sets.insert_full(left).0 as u32));
        }
        self.rows.retain(|_, (_, set)| match moved[*set as usize] {
            Some(new) => {
                *set = new;
                true
            }
            None => false,
        });
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (digest, (size, set)) in &other.rows {
            self.add(digest, *size, other.places_of(*set).cloned());
        }
        self.places.extend(other.places.iter().cloned());
        self.loose.extend(other.loose.iter().cloned());
    }

    pub(super) fn keep_common(&mut self, other: &Self) {
        self.loose.extend(other.loose.iter().cloned());
        self.rows.retain(|digest, (size, _)| other.rows.get(digest).is_some_and(|(same, _)| same == size));
        let shared: Vec<Digest> = self.rows.keys().cloned().collect();
        for digest in shared {
            if let Some((size, set)) = other.rows.get(&digest) {
                self.add(&digest, *size, other.places_of(*set).cloned());
            }
        }
    }
}

/// An image that a far side has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownImage {
    /// Its name at the target, below the place that was looked at.
    pub path: Option<String>,
    /// Its name at the target's registry, where it lies below a path there.
    pub full_path: Option<String>,
    /// The name under which it travelled there.
    pub source: Option<Reference>,
    /// Digest of its root.
    pub root: Digest,
}

impl KnownImage {
    /// Returns the names by which it is the same as an image that is to travel, the surest first: the one it travelled
    /// under and what that is without its registry, or where that is not known the one at the target.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        let keys = match (&self.source, &self.path) {
            (Some(source), _) => [Some(source.to_string()), Some(source.path())],
            (None, path) => [path.clone(), self.full_path.clone()],
        };
        keys.into_iter().flatten()
    }

    /// Returns the name that people are shown.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        self.source.as_ref().map(ToString::to_string).or_else(|| self.path.clone())
    }

    /// Returns whether people mean this image when they say `wanted`; see [`Reference::is_meant_by`].
    #[must_use]
    pub fn is_meant_by(&self, wanted: &str) -> bool {
        self.source.as_ref().is_some_and(|source| source.is_meant_by(wanted))
            || self.path.as_deref() == Some(wanted)
            || self.repository() == Some(wanted)
    }

    /// Returns the repository at the target.
    #[must_use]
    pub fn repository(&self) -> Option<&str> {
        let path = self.path.as_deref()?;
        let name = path.split('@').next().unwrap_or(path);
        Some(name.rsplit_once(':').map_or(name, |(repository, _)| repository))
    }
}

/// What one base says.
#[derive(Debug)]
pub struct Known {
    /// What the record calls it.
    pub entry: BaseEntry,
    /// The target that it is about; none for bundles and layouts.
    pub target: Option<String>,
    /// When it was looked at; empty for bundles and layouts.
    pub taken: String,
    /// How much of the target was looked at.
    pub scope: Option<Scope>,
    /// The images.
    pub images: Vec<KnownImage>,
    /// The content.
    pub table: Table,
}

impl Known {
    /// Takes an inventory or receipt for a base.
    #[must_use]
    pub fn of_inventory(inventory: Inventory) -> Self {
        let kind = match inventory.kind() {
            Kind::Inventory => BaseKind::Inventory,
            Kind::Receipt => BaseKind::Receipt,
        };
        let mut table = Table::default();
        // A push to another place at the same registry finds it by its path there.
        let prefix = inventory.target.as_deref().and_then(|target| target.split_once('/'));
        let full = |name: &str| prefix.map(|(_, prefix)| Seen::Path(format!("{prefix}/{name}")));
        for row in inventory.content.holdings.iter() {
            let seen = row.repositories().flat_map(|name| [Some(Seen::Path(name.to_owned())), full(name)]);
            table.add(row.digest, row.size, seen.flatten());
        }
        for name in inventory.content.holdings.repositories() {
            table.add_place(Seen::Path(name.clone()));
        }
        let images = Self::of_inventory_images(&inventory).collect();
        Self {
            entry: BaseEntry {
                id: inventory.content.id(),
                kind,
                name: None,
                state: Some(inventory.state.clone()),
            },
            images,
            table,
            target: inventory.target,
            taken: inventory.taken,
            scope: Some(inventory.scope),
        }
    }

    /// Lists the images of an inventory.
    pub(super) fn of_inventory_images(inventory: &Inventory) -> impl Iterator<Item = KnownImage> {
        let prefix = inventory.target.as_deref().and_then(|target| target.split_once('/'));
        inventory.content.images.iter().map(move |image| KnownImage {
            path: image.name.clone(),
            full_path: prefix.and_then(|(_, prefix)| Some(format!("{prefix}/{}", image.name.as_deref()?))),
            source: image.source.clone(),
            root: image.root.clone(),
        })
    }

    /// Takes the inventory of everything at a target, or in some of its repositories, for a base.
    #[must_use]
    pub fn of_registry(inventory: Inventory) -> Self {
        let known = Self::of_inventory(inventory);
        Self { entry: BaseEntry { kind: BaseKind::Registry, ..known.entry }, ..known }
    }

    /// Takes images of a source registry for a base: whoever runs them has them under the names that a push gives them.
    #[must_use]
    pub fn of_source(inventory: Inventory, place: &RegistryPlace) -> Self {
        let mut known = Self::of_registry(inventory);
        known.table.rename_places(|path| place.full(path));
        for image in &mut known.images {
            let path = image.path.take();
            image.full_path = None;
            image.source = path.and_then(|path| format!("{place}/{path}").parse().ok());
        }
        known
    }

    /// Returns what people are told of the target.
    pub(super) fn target_name(&self) -> String {
        match (&self.target, self.entry.kind) {
            (Some(target), _) => target.clone(),
            (None, BaseKind::Bundle | BaseKind::Layout) => "bundles, which are of no target".to_owned(),
            // Without a name nothing tells whether two are of the same target.
            (None, _) => format!("an unnamed target ({})", self.entry.id.short()),
        }
    }
}
