//! Views of image manifests and image indexes (image-spec `manifest.md`, `image-index.md`; Docker's `manifest-v2-2`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::descriptor::{Descriptor, null_is_default};
use super::media_type;

/// The largest manifest that is read, in bytes: what the distribution specification asks registries to accept
/// ("Pushing Manifests") and what distribution enforces.
pub const MAX_MANIFEST_SIZE: u64 = 4 * 1024 * 1024;

/// A parsed manifest: an image's or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// An image manifest or an artifact's.
    Image(Box<ImageManifest>),
    /// An image index.
    Index(Box<ImageIndex>),
}

/// A view of an image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Type of the document: as its body says, else as it was declared.
    pub media_type: String,
    /// The configuration, or whatever an artifact put in its place.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is attached to.
    pub subject: Option<Descriptor>,
    /// Type of the artifact, if the body names one.
    pub artifact_type: Option<String>,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// Returns whether this is an image that a runtime can start, as opposed to an artifact.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        self.artifact_type.is_none() && media_type::is_image_config(&self.config.media_type)
    }

    /// Returns the artifact type by which referrers are listed: `artifactType`, else the config's media type
    /// (distribution-spec, "Listing Referrers").
    #[must_use]
    pub fn referrer_type(&self) -> &str {
        self.artifact_type.as_deref().unwrap_or(&self.config.media_type)
    }
}

/// A view of an image index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    /// Type of the document: as its body says, else as it was declared.
    pub media_type: String,
    /// What the index lists, in its order.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is attached to.
    pub subject: Option<Descriptor>,
    /// Type of the artifact, if the body names one.
    pub artifact_type: Option<String>,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Why a manifest's bytes can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or JSON of another shape (also: nested deeper than 128 levels).
    #[error("the manifest is not valid: {0}")]
    Invalid(#[from] serde_json::Error),
    /// Docker schema 1, whose digests cover only a part of it.
    #[error(
        "the image is in Docker schema 1, a format that registries dropped and that no signature or digest protects; \
         have it rebuilt, or pull and push it again with a current tool at the source"
    )]
    Schema1,
    /// A document that could be read as an index and as an image: what it means depends on the reader.
    #[error(
        "the manifest has both `manifests` and `{0}`: it would mean different things to different readers"
    )]
    Ambiguous(&'static str),
    /// The body's own type and the type by which it was referred to are different kinds.
    #[error("the manifest calls itself `{body}` but was referred to as `{declared}`")]
    TypeConflict {
        /// Type in the body.
        body: String,
        /// Type in the descriptor or in the `Content-Type` header.
        declared: String,
    },
    /// A type that is none of the four manifest types.
    #[error("`{0}` is not a manifest type")]
    NotAManifest(String),
    /// Longer than [`MAX_MANIFEST_SIZE`].
    #[error("the manifest has {0} bytes; registries accept at most {MAX_MANIFEST_SIZE}")]
    TooLarge(u64),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default, deserialize_with = "null_is_default")]
    media_type: String,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses a manifest.
    ///
    /// `declared` is the type by which it was referred to (descriptor or `Content-Type`), empty where nothing was said.
    ///
    /// # Errors
    /// Every [`ManifestError`]; the bytes are never altered.
    pub fn parse(bytes: &[u8], declared: &str) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge(bytes.len() as u64));
        }
        if media_type::is_schema1(declared) {
            return Err(ManifestError::Schema1);
        }
        let body: Body = serde_json::from_slice(bytes)?;
        if body.schema_version == Some(1) || media_type::is_schema1(&body.media_type) {
            return Err(ManifestError::Schema1);
        }
        let media_type = match (body.media_type.as_str(), declared) {
            ("", "") if body.manifests.is_some() => media_type::OCI_INDEX,
            ("", "") => media_type::OCI_MANIFEST,
            ("", declared) => declared,
            (own, declared) => {
                if media_type::is_manifest(declared)
                    && media_type::is_index(own) != media_type::is_index(declared)
                {
                    return Err(ManifestError::TypeConflict {
                        body: own.to_owned(),
                        declared: declared.to_owned(),
                    });
                }
                own
            }
        }
        .to_owned();
        if media_type::is_index(&media_type) {
            if body.config.is_some() {
                return Err(ManifestError::Ambiguous("config"));
            }
            if body.layers.is_some() {
                return Err(ManifestError::Ambiguous("layers"));
            }
            Ok(Self::Index(Box::new(ImageIndex {
                media_type,
                manifests: body.manifests.unwrap_or_default(),
                subject: body.subject,
                artifact_type: body.artifact_type.filter(|name| !name.is_empty()),
                annotations: body.annotations,
            })))
        } else if media_type::is_image_manifest(&media_type) {
            if body.manifests.is_some() {
                return Err(ManifestError::Ambiguous(if body.layers.is_some() {
                    "layers"
                } else {
                    "config"
                }));
            }
            let config = body
                .config
                .ok_or_else(|| serde::de::Error::missing_field("config"))
                .map_err(ManifestError::Invalid)?;
            Ok(Self::Image(Box::new(ImageManifest {
                media_type,
                config,
                layers: body.layers.unwrap_or_default(),
                subject: body.subject,
                artifact_type: body.artifact_type.filter(|name| !name.is_empty()),
                annotations: body.annotations,
            })))
        } else {
            Err(ManifestError::NotAManifest(media_type))
        }
    }

    /// Returns the document's media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Image(image) => &image.media_type,
            Self::Index(index) => &index.media_type,
        }
    }

    /// Returns the manifest that this one is attached to.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// Returns every descriptor that the document's content is made of (the subject is not).
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, list) = match self {
            Self::Image(image) => (Some(&image.config), &image.layers),
            Self::Index(index) => (None, &index.manifests),
        };
        config.into_iter().chain(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":2}}"#, Digest::sha256(b"{}"))
    }

    #[test]
    fn null_layers_and_unknown_fields_are_read() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":null,"annotations":null,"future":[1]}}"#,
            descriptor("application/vnd.example+json")
        );
        let Manifest::Image(image) = Manifest::parse(text.as_bytes(), "").unwrap() else {
            panic!("an index")
        };
        assert!(image.layers.is_empty() && !image.is_runnable());
        assert_eq!(image.media_type, media_type::OCI_MANIFEST);
        assert_eq!(image.referrer_type(), "application/vnd.example+json");
    }

    #[test]
    fn schema_1_is_refused_however_it_is_declared() {
        for (text, declared) in [
            (r#"{"schemaVersion":1,"name":"x"}"#, ""),
            (r#"{"schemaVersion":1,"name":"x"}"#, media_type::OCI_MANIFEST),
            ("{}", media_type::DOCKER_SCHEMA1_SIGNED),
        ] {
            assert!(
                matches!(Manifest::parse(text.as_bytes(), declared), Err(ManifestError::Schema1)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_document_of_two_meanings_is_refused() {
        let config = descriptor(media_type::OCI_CONFIG);
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"manifests":[]}}"#);
        for declared in [media_type::OCI_INDEX, media_type::OCI_MANIFEST] {
            assert!(matches!(Manifest::parse(both.as_bytes(), declared), Err(ManifestError::Ambiguous(_))));
        }
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
        assert!(matches!(
            Manifest::parse(index.as_bytes(), media_type::OCI_MANIFEST),
            Err(ManifestError::TypeConflict { .. })
        ));
    }

    #[test]
    fn deep_nesting_and_oversize_are_errors_not_crashes() {
        let bomb = format!("{}{}", "{\"manifests\":[".repeat(100_000), "");
        assert!(matches!(Manifest::parse(bomb.as_bytes(), ""), Err(ManifestError::Invalid(_))));
        let large = vec![b' '; MAX_MANIFEST_SIZE as usize + 1];
        assert!(matches!(Manifest::parse(&large, ""), Err(ManifestError::TooLarge(_))));
    }
}
