//! A view of a content descriptor (image-spec `descriptor.md`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{Digest, Platform};

/// What a manifest says of a piece of content it refers to.
///
/// A view: unknown fields are skipped, `null` reads as absent, and it is never written back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Type of the content; empty where an old writer left it out.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// What the content runs on, in the entries of an image index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Free annotations.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Type of the artifact that the content is.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The content itself, base64; to be checked against digest and size, never added or stripped.
    #[serde(default)]
    pub data: Option<String>,
    /// Other places the content may be had from.
    #[serde(default, deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Makes a descriptor that says type, digest and size only.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            artifact_type: None,
            data: None,
            urls: Vec::new(),
        }
    }

    /// Makes the descriptor of `content`, with a SHA-256 digest.
    #[must_use]
    pub fn of(media_type: impl Into<String>, content: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(content), content.len() as u64)
    }

    /// Returns the digest of the manifest that this attestation describes
    /// (buildkit's `vnd.docker.reference.digest`), if the descriptor is that of an attestation.
    #[must_use]
    pub fn attests(&self) -> Option<Digest> {
        self.annotations.get("vnd.docker.reference.digest")?.parse().ok()
    }
}

/// Reads `null` as the type's default: Go encoders write it for empty lists and maps.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
