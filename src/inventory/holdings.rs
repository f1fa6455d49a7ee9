//! The packed table of an inventory: what content is where, a row in well under 200 bytes.

use std::collections::HashMap;
use std::fmt;

use indexmap::IndexSet;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::oci::Digest;

/// A row as it stands in JSON: digest, size, place of the media type, places of the repositories.
type JsonRow = (Digest, u64, u32, Vec<u32>);

#[derive(Debug, Clone)]
struct Row {
    digest: Digest,
    size: u64,
    media_type: u32,
    /// Which of the sets of repositories; rows share them.
    set: u32,
}

/// Content with the repositories that have it, sorted by digest.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    rows: Vec<Row>,
    sets: Vec<Vec<u32>>,
    media_types: Vec<String>,
    repositories: Vec<String>,
}

/// A row, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'a> {
    /// Digest of the content.
    pub digest: &'a Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// Type of the content.
    pub media_type: &'a str,
    places: &'a [u32],
    repositories: &'a [String],
}

impl<'a> Held<'a> {
    /// Returns the repositories that have the content, sorted.
    pub fn repositories(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let repositories = self.repositories;
        self.places.iter().map(|at| repositories[*at as usize].as_str())
    }
}

/// Why a table can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldingsError {
    /// A row names a media type or repository that the lists do not have.
    #[error("the row of {0} names a media type or a repository that is not listed")]
    Place(Digest),
    /// One digest in two rows, or rows out of order.
    #[error("the row of {0} is not in its place, or is there twice")]
    Order(Digest),
}

impl Holdings {
    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the repositories that were looked at, sorted; some may hold nothing.
    #[must_use]
    pub fn repositories(&self) -> &[String] {
        &self.repositories
    }

    /// Returns the media types, sorted.
    #[must_use]
    pub fn media_types(&self) -> &[String] {
        &self.media_types
    }

    /// Finds a row.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<Held<'_>> {
        let at = self.rows.binary_search_by(|row| row.digest.cmp(digest)).ok()?;
        Some(self.view(&self.rows[at]))
    }

    /// Returns the rows, sorted by digest.
    pub fn iter(&self) -> impl Iterator<Item = Held<'_>> {
        self.rows.iter().map(|row| self.view(row))
    }

    /// Takes the names of the repositories off, and with them what is where.
    pub fn omit_repositories(&mut self) {
        self.repositories.clear();
        self.sets = vec![Vec::new()];
        self.rows.iter_mut().for_each(|row| row.set = 0);
    }

    fn view<'a>(&'a self, row: &'a Row) -> Held<'a> {
        Held {
            digest: &row.digest,
            size: row.size,
            media_type: &self.media_types[row.media_type as usize],
            places: &self.sets[row.set as usize],
            repositories: &self.repositories,
        }
    }

    /// Puts rows as they were read together with the lists that they name.
    pub(super) fn assemble(
        rows: Rows,
        media_types: Vec<String>,
        repositories: Vec<String>,
    ) -> Result<Self, HoldingsError> {
        let Rows { rows, sets } = rows;
        let sets: Vec<Vec<u32>> = sets.into_iter().collect();
        for row in &rows {
            let is_listed = |at: &u32| (*at as usize) < repositories.len();
            if row.media_type as usize >= media_types.len() || !sets[row.set as usize].iter().all(is_listed) {
                return Err(HoldingsError::Place(row.digest.clone()));
            }
        }
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].digest >= pair[1].digest) {
            return Err(HoldingsError::Order(pair[1].digest.clone()));
        }
        Ok(Self { rows, sets, media_types, repositories })
    }

    /// Returns the rows in the form that is written.
    pub(super) fn as_rows(&self) -> impl Serialize {
        struct AsRows<'a>(&'a Holdings);
        impl Serialize for AsRows<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut seq = serializer.serialize_seq(Some(self.0.rows.len()))?;
                for row in &self.0.rows {
                    let set = &self.0.sets[row.set as usize];
                    seq.serialize_element(&(&row.digest, row.size, row.media_type, set))?;
                }
                seq.end()
            }
        }
        AsRows(self)
    }
}

/// Rows as they are read, before the lists that they name are known.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    sets: IndexSet<Vec<u32>>,
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Rows;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the rows of an inventory")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rows, A::Error> {
                let mut rows = Rows::default();
                while let Some((digest, size, media_type, places)) = seq.next_element::<JsonRow>()? {
                    let set = rows.sets.insert_full(places).0 as u32;
                    rows.rows.push(Row { digest, size, media_type, set });
                }
                rows.rows.shrink_to_fit();
                Ok(rows)
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

/// Gathers what is where, in any order.
#[derive(Debug, Default)]
pub struct Gathering {
    media_types: IndexSet<String>,
    repositories: IndexSet<String>,
    rows: HashMap<Digest, (u64, u32, Vec<u32>)>,
}

impl Gathering {
    /// Notes that a repository was looked at.
    pub fn repository(&mut self, name: &str) {
        self.repository_place(name);
    }

    fn repository_place(&mut self, name: &str) -> u32 {
        match self.repositories.get_index_of(name) {
            Some(at) => at as u32,
            None => self.repositories.insert_full(name.to_owned()).0 as u32,
        }
    }

    /// Notes that a repository has content; no repository for content of which that is not known.
    ///
    /// What another row says of the size or type of the same digest stands.
    pub fn add(&mut self, digest: &Digest, size: u64, media_type: &str, repository: Option<&str>) {
        let media_type = match self.media_types.get_index_of(media_type) {
            Some(at) => at as u32,
            None => self.media_types.insert_full(media_type.to_owned()).0 as u32,
        };
        let place = repository.map(|name| self.repository_place(name));
        let (.., places) = self.rows.entry(digest.clone()).or_insert((size, media_type, Vec::new()));
        if let Some(place) = place
            && !places.contains(&place)
        {
            places.push(place);
        }
    }

    /// Returns the table.
    #[must_use]
    pub fn finish(self) -> Holdings {
        let sorted = |set: &IndexSet<String>| {
            let mut names: Vec<String> = set.iter().cloned().collect();
            names.sort();
            names
        };
        let (media_types, repositories) = (sorted(&self.media_types), sorted(&self.repositories));
        let moved = |set: &IndexSet<String>, names: &[String]| -> Vec<u32> {
            set.iter().map(|name| names.binary_search(name).unwrap_or_default() as u32).collect()
        };
        let type_of = moved(&self.media_types, &media_types);
        let repository_of = moved(&self.repositories, &repositories);
        let mut sets: IndexSet<Vec<u32>> = IndexSet::new();
        let mut rows: Vec<Row> = self
            .rows
            .into_iter()
            .map(|(digest, (size, media_type, places))| {
                let mut places: Vec<u32> = places.iter().map(|at| repository_of[*at as usize]).collect();
                places.sort_unstable();
                let set = sets.insert_full(places).0 as u32;
                Row { digest, size, media_type: type_of[media_type as usize], set }
            })
            .collect();
        rows.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        // A type that only a row named whose digest another row had first is named by none.
        Holdings { rows, sets: sets.into_iter().collect(), media_types, repositories }
    }
}
