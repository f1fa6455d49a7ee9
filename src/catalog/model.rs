//! What a catalog lists, whatever form it is in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use semver::Version;

use crate::oci::Descriptor;

/// A catalog as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The place it was read from, for messages.
    pub place: String,
    /// The manifest of the image that was read: of an index, one of its children.
    pub image: Descriptor,
    /// The form it is in.
    pub form: Form,
    /// Where in the image it is, as the label says: a folder, or the database's file.
    pub path: String,
    /// The packages by name.
    pub packages: BTreeMap<String, Package>,
}

/// The form of a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A folder of JSON and YAML documents.
    Files,
    /// An `SQLite` database.
    Database,
}

/// A package: an operator with all its versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// The channel that is followed where none is chosen; databases may lack it.
    pub default_channel: Option<String>,
    /// The channels by name.
    pub channels: BTreeMap<String, Channel>,
    /// The bundles by name, those in no channel too.
    pub bundles: BTreeMap<String, Bundle>,
    /// Why nothing of it can be taken, if so; others can.
    pub fault: Option<String>,
}

/// A channel: bundles, and which of them replaces which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// The entries as they are listed.
    pub entries: Vec<Entry>,
}

/// A bundle's place in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The bundle.
    pub name: String,
    /// The bundle that it replaces.
    pub replaces: Option<String>,
    /// The bundles that it replaces as well, and that are not installed on the way.
    pub skips: Vec<String>,
    /// The versions that it replaces as well.
    pub skip_range: Option<String>,
}

/// A bundle: one version of an operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Its version as it is written; empty where nothing is.
    pub version: String,
    /// Its own image; empty where there is none.
    pub image: String,
    /// The images that it needs, as they are listed.
    pub related: Vec<String>,
}

/// Why a channel has no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A channel without entries.
    #[error("it has no entry")]
    Empty,
    /// Each entry is replaced or skipped by another one.
    #[error("each of its entries is replaced or skipped by another one")]
    None,
    /// Several entries that no other one replaces or skips.
    #[error("{} entries are replaced by no other one: {}", .0.len(), .0.join(", "))]
    Several(Vec<String>),
    /// Replacing comes back to where it was.
    #[error("replacing goes in a circle: {}", .0.join(" → "))]
    Cycle(Vec<String>),
}

impl Bundle {
    /// Returns the version, if it is one of the form x.y.z.
    #[must_use]
    pub fn semver(&self) -> Option<Version> {
        Version::parse(&self.version).ok()
    }

    /// Lists the bundle's own image and those that it needs, none twice, without empty ones.
    #[must_use]
    pub fn images(&self) -> BTreeSet<&str> {
        let own = std::iter::once(&self.image);
        own.chain(&self.related).map(String::as_str).filter(|image| !image.is_empty()).collect()
    }
}

impl Channel {
    /// Returns the head: the one entry that no other one replaces or skips.
    ///
    /// # Errors
    /// [`HeadError`] if there is no such entry, or not just one.
    pub fn head(&self) -> Result<&Entry, HeadError> {
        let replaced: BTreeSet<&str> = self
            .entries
            .iter()
            .flat_map(|entry| {
                let names = entry.replaces.iter().chain(&entry.skips).map(String::as_str);
                names.filter(|name| *name != entry.name)
            })
            .collect();
        let heads: Vec<&Entry> =
            self.entries.iter().filter(|entry| !replaced.contains(entry.name.as_str())).collect();
        match heads[..] {
            // What goes in a circle further down has no end that can be installed from.
            [only] => walk(only, &self.by_name()).map(|_| only),
            [] if self.entries.is_empty() => Err(HeadError::Empty),
            [] => {
                let entries = self.by_name();
                // From any entry at all, as each is followed by another one.
                match walk(&self.entries[0], &entries) {
                    Err(error) => Err(error),
                    Ok(_) => Err(HeadError::None),
                }
            }
            _ => Err(HeadError::Several(heads.iter().map(|entry| entry.name.clone()).collect())),
        }
    }

    /// Lists the entries from the head down, each replaced by the one before it.
    ///
    /// # Errors
    /// [`HeadError`], [`HeadError::Cycle`] if that does not end.
    pub fn chain(&self) -> Result<Vec<&Entry>, HeadError> {
        walk(self.head()?, &self.by_name())
    }

    /// Returns the entries by the bundles they are about.
    #[must_use]
    pub fn by_name(&self) -> HashMap<&str, &Entry> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry)).collect()
    }
}

/// Follows `replaces` until it leads out of the channel.
fn walk<'a>(from: &'a Entry, entries: &HashMap<&str, &'a Entry>) -> Result<Vec<&'a Entry>, HeadError> {
    let (mut chain, mut seen) = (vec![from], BTreeSet::from([from.name.as_str()]));
    let mut next = from.replaces.as_deref();
    while let Some(entry) = next.and_then(|name| entries.get(name)) {
        chain.push(entry);
        if !seen.insert(&entry.name) {
            let names: Vec<String> = chain.iter().map(|entry| entry.name.clone()).collect();
            // What leads into the circle is no part of it.
            let start = names.iter().position(|name| *name == entry.name).unwrap_or(0);
            return Err(HeadError::Cycle(names[start..].to_vec()));
        }
        next = entry.replaces.as_deref();
    }
    Ok(chain)
}
