//! The two files that make a folder a layout: `oci-layout` and `index.json`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{LayoutFiles, MAX_ROOT_FILE};
use crate::oci::Descriptor;
use crate::store::{Result, StoreError};

/// The largest `oci-layout` that is read, in bytes; it holds one object with one field.
const MAX_MARKER: u64 = 64 * 1024;

/// How many unusable entries are told of; a last line says that there are more.
const MAX_UNREADABLE: usize = 20;

/// What `index.json` lists.
#[derive(Default)]
pub(super) struct Index {
    pub(super) entries: Vec<Descriptor>,
    pub(super) unreadable: Vec<String>,
}

/// Checks `oci-layout` (image-spec `image-layout.md`, "oci-layout file").
pub(super) fn check_version(files: &dyn LayoutFiles) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let invalid = |why: String| StoreError::Invalid { place: files.place(), why };
    let bytes = files
        .root_file("oci-layout", MAX_MARKER)?
        .ok_or_else(|| invalid("it is no OCI layout: the file `oci-layout` is missing".to_owned()))?;
    let marker: Marker = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("its file `oci-layout` is malformed: {error}")))?;
    let version: String = marker.image_layout_version.chars().take(40).flat_map(char::escape_debug).collect();
    if !version.starts_with("1.") {
        return Err(invalid(format!("its layout version is `{version}`; this program reads 1.x")));
    }
    Ok(())
}

/// Reads `index.json`.
///
/// Entries that are no descriptors are set aside: one of them must not take the others along.
pub(super) fn read(files: &dyn LayoutFiles) -> Result<Index> {
    let invalid = |why: String| StoreError::Invalid { place: files.place(), why };
    let bytes = files
        .root_file("index.json", MAX_ROOT_FILE)?
        .ok_or_else(|| invalid("it is no OCI layout: the file `index.json` is missing".to_owned()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("its file `index.json` is malformed: {error}")))
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Document;
        impl<'de> Visitor<'de> for Document {
            type Value = Index;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image index")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Index, A::Error> {
                let mut index: Option<Index> = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "manifests" {
                        map.next_value::<IgnoredAny>()?;
                    } else if index.is_some() {
                        return Err(serde::de::Error::duplicate_field("manifests"));
                    } else {
                        // Go writes `null` for an empty list.
                        index = Some(map.next_value::<Option<List>>()?.unwrap_or_default().0);
                    }
                }
                index.ok_or_else(|| serde::de::Error::missing_field("manifests"))
            }
        }
        deserializer.deserialize_map(Document)
    }
}

/// The array `manifests`.
#[derive(Default)]
struct List(Index);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = List;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<List, A::Error> {
                let mut index = Index::default();
                let mut position = 0_usize;
                // Through a value, one entry at a time: whether an entry is a descriptor shows at its end.
                while let Some(entry) = list.next_element::<serde_json::Value>()? {
                    match Descriptor::deserialize(entry) {
                        Ok(descriptor) => index.entries.push(descriptor),
                        Err(error) if index.unreadable.len() < MAX_UNREADABLE => {
                            let why: String = error.to_string().chars().take(200).collect();
                            let why: String = why.escape_debug().collect();
                            index.unreadable.push(format!("entry {position}: {why}"));
                        }
                        Err(_) if index.unreadable.len() == MAX_UNREADABLE => {
                            index.unreadable.push("and more".to_owned());
                        }
                        Err(_) => {}
                    }
                    position += 1;
                }
                Ok(List(index))
            }
        }
        deserializer.deserialize_seq(Array)
    }
}
