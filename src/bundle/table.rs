//! The packed tables of a record: what a bundle holds, and what is left out of it.
//!
//! A bundle may hold a hundred thousand blobs. The tables keep a row in well under 200 bytes, and are read and written
//! row by row, never as a tree of JSON values.

use std::fmt;

use indexmap::IndexSet;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::oci::{Digest, Platform};
use crate::select::Reason;

/// What an entry of the blob table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// An image index that travels.
    Index,
    /// An image manifest that travels.
    Manifest,
    /// An image's configuration, or an artifact's.
    Config,
    /// A layer.
    Layer,
    /// An entry of an index that is no manifest.
    Opaque,
    /// A manifest of a platform that was not selected: kept for later, not pushed.
    Unshipped,
    /// A place kept free for content that could not be had.
    Gap,
    /// By which content is rebuilt.
    Patch,
    /// Content that only patches need, and no image.
    Base,
}

impl Role {
    /// Returns whether the content travels to the target.
    #[must_use]
    pub fn is_shipped(self) -> bool {
        !matches!(self, Self::Unshipped | Self::Gap | Self::Patch | Self::Base)
    }
}

/// A row of the blob table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobRow {
    /// Digest of the content.
    pub digest: Digest,
    /// Type of the content.
    pub media_type: String,
    /// Where the content's first byte lies, counted from the end of the head.
    pub offset: u64,
    /// What the content is.
    pub role: Role,
    /// Length of the content in bytes.
    pub size: u64,
}

/// A row of the table of absent content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbsentRow {
    /// Digest of the content.
    pub digest: Digest,
    /// Type of the content.
    pub media_type: String,
    /// What the content runs on, if it is a manifest of which that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Why it is left out.
    pub reason: Reason,
    /// Where a base saw it: places in the record's list of repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<u32>,
    /// Length of the content in bytes.
    pub size: u64,
}

/// Media types, each kept once.
#[derive(Debug, Clone, Default)]
struct Types(Vec<String>);

impl Types {
    fn id(&mut self, name: &str) -> Option<u16> {
        // Newest first: runs of rows have the same type. Real bundles have a dozen types at most.
        let found = self.0.iter().rposition(|known| known == name);
        let id = found.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        u16::try_from(id).ok().filter(|id| *id < MAX_TYPES)
    }
}

/// How many media types a table may name: beyond what any set of images has, and few enough to search.
const MAX_TYPES: u16 = 4096;

#[derive(Debug, Clone)]
struct Packed {
    digest: Digest,
    size: u64,
    offset: u64,
    media_type: u16,
    role: Role,
}

/// The blob table, in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct BlobTable {
    rows: Vec<Packed>,
    by_digest: Vec<u32>,
    types: Types,
}

/// A table that can't be kept: its rows contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// One digest stands in two rows.
    #[error("{0} stands in the table twice")]
    Twice(Digest),
    /// More media types than a table may name.
    #[error("the table names more than {MAX_TYPES} media types")]
    TooManyTypes,
    /// More rows than can be numbered.
    #[error("the table has more than 4,294,967,295 rows")]
    TooLong,
}

impl BlobTable {
    /// Makes a table of rows in the order of the file.
    ///
    /// # Errors
    /// [`TableError`] if rows contradict each other.
    pub fn new(rows: impl IntoIterator<Item = BlobRow>) -> Result<Self, TableError> {
        let mut table = Self::default();
        for row in rows {
            table.push(row)?;
        }
        table.index()?;
        Ok(table)
    }

    fn push(&mut self, row: BlobRow) -> Result<(), TableError> {
        let media_type = self.types.id(&row.media_type).ok_or(TableError::TooManyTypes)?;
        self.rows.push(Packed {
            digest: row.digest,
            size: row.size,
            offset: row.offset,
            media_type,
            role: row.role,
        });
        Ok(())
    }

    fn index(&mut self) -> Result<(), TableError> {
        let count = u32::try_from(self.rows.len()).map_err(|_| TableError::TooLong)?;
        self.rows.shrink_to_fit();
        self.by_digest = (0..count).collect();
        let rows = &self.rows;
        self.by_digest.sort_unstable_by(|a, b| rows[*a as usize].digest.cmp(&rows[*b as usize].digest));
        let twice =
            self.by_digest.windows(2).find(|w| rows[w[0] as usize].digest == rows[w[1] as usize].digest);
        match twice {
            Some(pair) => Err(TableError::Twice(rows[pair[0] as usize].digest.clone())),
            None => Ok(()),
        }
    }

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

    /// Returns a row by its place in the file.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<BlobRef<'_>> {
        self.rows.get(at).map(|row| self.view(row))
    }

    /// Finds a row by its digest; returns its place in the file too.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<(usize, BlobRef<'_>)> {
        let found = self.by_digest.binary_search_by(|at| self.rows[*at as usize].digest.cmp(digest)).ok()?;
        let at = self.by_digest[found] as usize;
        Some((at, self.view(&self.rows[at])))
    }

    /// Returns the rows in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = BlobRef<'_>> {
        self.rows.iter().map(|row| self.view(row))
    }

    /// Marks a row's content as not had.
    pub fn set_gap(&mut self, at: usize) {
        if let Some(row) = self.rows.get_mut(at) {
            row.role = Role::Gap;
        }
    }

    fn view<'a>(&'a self, row: &'a Packed) -> BlobRef<'a> {
        BlobRef {
            digest: &row.digest,
            media_type: &self.types.0[usize::from(row.media_type)],
            offset: row.offset,
            role: row.role,
            size: row.size,
        }
    }
}

/// A row of a table, borrowed; see [`BlobRow`] for the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented on the owned form")]
pub struct BlobRef<'a> {
    pub digest: &'a Digest,
    pub media_type: &'a str,
    pub offset: u64,
    pub role: Role,
    pub size: u64,
}

impl Serialize for BlobTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in self.iter() {
            seq.serialize_element(&row)?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for BlobTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> Visitor<'de> for Rows {
            type Value = BlobTable;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the rows of a blob table")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BlobTable, A::Error> {
                let mut table = BlobTable::default();
                while let Some(row) = seq.next_element::<BlobRow>()? {
                    table.push(row).map_err(A::Error::custom)?;
                }
                table.index().map_err(A::Error::custom)?;
                Ok(table)
            }
        }
        deserializer.deserialize_seq(Rows)
    }
}

#[derive(Debug, Clone)]
struct PackedAbsent {
    digest: Digest,
    size: u64,
    platform: u16,
    media_type: u16,
    reason: Reason,
    /// Which of the sets of repositories; rows share them.
    set: u32,
}

/// The table of absent content, sorted by digest.
#[derive(Debug, Clone, Default)]
pub struct AbsentTable {
    rows: Vec<PackedAbsent>,
    types: Types,
    sets: Box<IndexSet<Vec<u32>>>,
    platforms: Vec<Option<Platform>>,
}

impl AbsentTable {
    /// Makes a table; sorts the rows.
    ///
    /// # Errors
    /// [`TableError`] if rows contradict each other.
    pub fn new(rows: impl IntoIterator<Item = AbsentRow>) -> Result<Self, TableError> {
        let mut table = Self::default();
        for row in rows {
            table.push(row)?;
        }
        table.sort()?;
        Ok(table)
    }

    fn push(&mut self, row: AbsentRow) -> Result<(), TableError> {
        let media_type = self.types.id(&row.media_type).ok_or(TableError::TooManyTypes)?;
        let known = self.platforms.iter().rposition(|known| *known == row.platform);
        let platform = known.unwrap_or_else(|| {
            self.platforms.push(row.platform);
            self.platforms.len() - 1
        });
        let platform =
            u16::try_from(platform).ok().filter(|id| *id < MAX_TYPES).ok_or(TableError::TooManyTypes)?;
        let set =
            u32::try_from(self.sets.insert_full(row.repositories).0).map_err(|_| TableError::TooLong)?;
        self.rows.push(PackedAbsent {
            digest: row.digest,
            size: row.size,
            platform,
            media_type,
            reason: row.reason,
            set,
        });
        Ok(())
    }

    fn sort(&mut self) -> Result<(), TableError> {
        self.rows.shrink_to_fit();
        self.rows.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        match self.rows.windows(2).find(|pair| pair[0].digest == pair[1].digest) {
            Some(pair) => Err(TableError::Twice(pair[0].digest.clone())),
            None => Ok(()),
        }
    }

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

    /// Finds a row by its digest.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<AbsentRow> {
        let at = self.rows.binary_search_by(|row| row.digest.cmp(digest)).ok()?;
        Some(self.view(&self.rows[at]))
    }

    /// Returns the rows, sorted by digest.
    pub fn iter(&self) -> impl Iterator<Item = AbsentRow> {
        self.rows.iter().map(|row| self.view(row))
    }

    fn view(&self, row: &PackedAbsent) -> AbsentRow {
        AbsentRow {
            digest: row.digest.clone(),
            media_type: self.types.0[usize::from(row.media_type)].clone(),
            platform: self.platforms[usize::from(row.platform)].clone(),
            reason: row.reason,
            repositories: self.sets.get_index(row.set as usize).cloned().unwrap_or_default(),
            size: row.size,
        }
    }
}

impl Serialize for AbsentTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in self.iter() {
            seq.serialize_element(&row)?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for AbsentTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> Visitor<'de> for Rows {
            type Value = AbsentTable;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the rows of a table of absent content")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AbsentTable, A::Error> {
                let mut table = AbsentTable::default();
                while let Some(row) = seq.next_element::<AbsentRow>()? {
                    table.push(row).map_err(A::Error::custom)?;
                }
                table.sort().map_err(A::Error::custom)?;
                Ok(table)
            }
        }
        deserializer.deserialize_seq(Rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u32) -> BlobRow {
        BlobRow {
            digest: Digest::sha256(&seed.to_le_bytes()),
            media_type: format!("application/x.{}", seed % 3),
            offset: u64::from(seed) * 1024,
            role: Role::Layer,
            size: 7,
        }
    }

    #[test]
    fn a_row_takes_less_than_200_bytes() {
        assert!(size_of::<Packed>() + size_of::<u32>() <= 80, "{}", size_of::<Packed>());
        assert!(size_of::<PackedAbsent>() <= 80);
    }

    #[test]
    fn rows_are_found_and_round_trip() {
        let table = BlobTable::new((0..50).map(row)).unwrap();
        for seed in 0..50 {
            let (at, found) = table.find(&row(seed).digest).unwrap();
            assert_eq!((at, found.offset), (seed as usize, u64::from(seed) * 1024));
            assert_eq!(found.media_type, row(seed).media_type);
        }
        assert!(table.find(&Digest::sha256(b"other")).is_none());
        let text = serde_json::to_string(&table).unwrap();
        let read: BlobTable = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn a_digest_in_two_rows_is_refused() {
        assert!(matches!(BlobTable::new([row(1), row(2), row(1)]), Err(TableError::Twice(_))));
    }
}
