//! Inventories: what a registry holds, small enough to be carried back; and receipts, which a push writes.
//!
//! The content part of either is canonical and says nothing of time or place: two sites in the same state have the same
//! [`Content::id`]. `format-spec/inventory.md` describes the files.

mod document;
mod holdings;
mod state;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use document::{
    FailedRow, INVENTORY_TYPE, Inventory, InventoryError, Kind, OutcomeRow, RECEIPT_TYPE, Scope, age, now,
};
pub(crate) use document::{MAX_SIZE, ZSTD_MAGIC};
pub use holdings::{Gathering, Held, Holdings, HoldingsError};
pub use state::state_code;

use crate::oci::{Algorithm, Digest, Hasher, Platform, Reference};

/// An image in an inventory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    /// Its name at the target, without the place below which everything lies: `team/app:v1`. None where names were
    /// omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Platforms that are there, sorted; empty where none is known.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Digest of its root as it travelled or was found.
    pub root: Digest,
    /// The name under which it travelled, where a push put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Reference>,
}

impl ImageRow {
    /// Returns the name that a state code is made of: the one it travelled under, else the one at the target.
    #[must_use]
    pub fn state_name(&self) -> String {
        match (&self.source, &self.name) {
            (Some(source), _) => source.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        }
    }
}

/// The content part of an inventory.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// The images, sorted.
    pub images: Vec<ImageRow>,
    /// What content is where.
    pub holdings: Holdings,
}

impl Content {
    /// Makes a content part; sorts the images.
    #[must_use]
    pub fn new(mut images: Vec<ImageRow>, holdings: Holdings) -> Self {
        images.sort();
        images.dedup();
        Self { images, holdings }
    }

    /// Returns the digest of the canonical bytes: the ID of the state that they describe.
    ///
    /// # Panics
    /// Never: hashing does no I/O.
    #[must_use]
    pub fn id(&self) -> Digest {
        struct Hashing(Hasher);
        impl Write for Hashing {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        // Buffered: the serializer writes a token at a time, and hashing is by blocks.
        let mut hashing = io::BufWriter::with_capacity(64 * 1024, Hashing(Hasher::new(Algorithm::Sha256)));
        serde_json::to_writer(&mut hashing, self).expect("hashing does no I/O");
        let Ok(Hashing(hasher)) = hashing.into_inner() else { unreachable!("hashing does no I/O") };
        hasher.finish()
    }

    /// Returns the state code of the images.
    #[must_use]
    pub fn state(&self) -> String {
        state_code(
            self.images.iter().map(|image| (image.state_name(), &image.root, image.platforms.as_slice())),
        )
    }

    /// Takes all names off: digests, sizes, types and platforms stay.
    pub fn omit_names(&mut self) {
        for image in &mut self.images {
            (image.name, image.source) = (None, None);
        }
        self.images.sort();
        self.images.dedup();
        self.holdings.omit_repositories();
    }
}

/// Fields in alphabetical order, as canonical JSON has them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    blobs: holdings::Rows,
    images: Vec<ImageRow>,
    media_types: Vec<String>,
    repositories: Vec<String>,
}

impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Content", 4)?;
        fields.serialize_field("blobs", &self.holdings.as_rows())?;
        fields.serialize_field("images", &self.images)?;
        fields.serialize_field("mediaTypes", self.holdings.media_types())?;
        fields.serialize_field("repositories", self.holdings.repositories())?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Read { blobs, images, media_types, repositories } = Read::deserialize(deserializer)?;
        let holdings =
            Holdings::assemble(blobs, media_types, repositories).map_err(serde::de::Error::custom)?;
        Ok(Self::new(images, holdings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(turned: bool) -> Content {
        let mut gathering = Gathering::default();
        gathering.repository("b/empty");
        let mut order: Vec<u32> = (0..40).collect();
        if turned {
            order.reverse();
        }
        for seed in order {
            let digest = Digest::sha256(&seed.to_le_bytes());
            let repositories = if turned { ["team/b", "team/a"] } else { ["team/a", "team/b"] };
            for repository in
                repositories.iter().take(if seed % 2 == 0 { 2 } else { 2 - usize::from(turned) })
            {
                gathering.add(
                    &digest,
                    u64::from(seed),
                    &format!("application/x.{}", seed % 3),
                    Some(repository),
                );
            }
        }
        Content::new(Vec::new(), gathering.finish())
    }

    #[test]
    fn the_bytes_are_canonical_and_round_trip() {
        let content = content(false);
        let text = serde_json::to_string(&content).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.to_string(), text);
        assert_eq!(content.id(), Digest::sha256(text.as_bytes()));
        let read: Content = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let row = read.holdings.find(&Digest::sha256(&4u32.to_le_bytes())).unwrap();
        assert_eq!(row.repositories().collect::<Vec<_>>(), ["team/a", "team/b"]);
        assert_eq!((row.size, row.media_type), (4, "application/x.1"));
    }

    #[test]
    fn the_order_in_which_content_was_met_does_not_show() {
        let even = |content: &Content| -> Vec<String> {
            let rows = content.holdings.iter().filter(|row| row.size % 2 == 0);
            rows.map(|row| format!("{:?} {:?}", row.digest, row.repositories().collect::<Vec<_>>())).collect()
        };
        assert_eq!(even(&content(false)), even(&content(true)));
    }

    #[test]
    fn rows_that_point_nowhere_or_are_out_of_order_are_refused() {
        let text = serde_json::to_string(&content(false)).unwrap();
        let broken = |edit: fn(&mut serde_json::Value)| {
            let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
            edit(&mut value);
            serde_json::from_value::<Content>(value).unwrap_err().to_string()
        };
        assert!(broken(|value| value["blobs"][3][2] = 9.into()).contains("not listed"));
        assert!(broken(|value| value["blobs"][3][3] = serde_json::json!([7])).contains("not listed"));
        assert!(broken(|value| value["blobs"][3] = value["blobs"][2].clone()).contains("twice"));
    }

    #[test]
    fn without_names_only_digests_sizes_and_types_are_left() {
        let mut content = content(false);
        content.images.push(ImageRow {
            name: Some("team/a:v1".to_owned()),
            platforms: Vec::new(),
            root: Digest::sha256(b"root"),
            source: Some("secret.example/a:v1".parse().unwrap()),
        });
        content.omit_names();
        let text = serde_json::to_string(&content).unwrap();
        assert!(!text.contains("team") && !text.contains("secret"), "{text}");
        let read: Content = serde_json::from_str(&text).unwrap();
        assert_eq!(read.holdings.len(), 40);
    }

    #[test]
    fn a_blob_takes_at_most_130_bytes() {
        let mut gathering = Gathering::default();
        let count = 2000u32;
        for seed in 0..count {
            let digest = Digest::sha256(&seed.to_le_bytes());
            let size = 1_000_000_000 + u64::from(seed);
            for image in 0..=seed % 3 {
                let name = format!("some/project/image-{}", (seed + image) % 300);
                gathering.add(&digest, size, "application/vnd.oci.image.layer.v1.tar+gzip", Some(&name));
            }
        }
        let length = serde_json::to_string(&Content::new(Vec::new(), gathering.finish())).unwrap().len();
        assert!(length <= 130 * count as usize, "{} bytes a blob", length / count as usize);
    }
}
