//! What an image is in what was asked for: who reads a bundle or a receipt later can't see it from the content.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::oci::{Digest, Reference};

/// What an image is in what was asked for. What is asked for as several things is the greatest of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Part {
    /// An image that was named.
    #[default]
    Image,
    /// A Helm chart.
    Chart,
    /// An image that a bundle of an operator catalog needs.
    Operator,
    /// An image that a release consists of.
    Component,
    /// An operator catalog.
    Catalog,
    /// A release image.
    Release,
}

impl Part {
    /// All of them, the least first.
    const ALL: [Self; 6] =
        [Self::Image, Self::Chart, Self::Operator, Self::Component, Self::Catalog, Self::Release];

    /// Returns the word that documents have for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Chart => "chart",
            Self::Operator => "operator",
            Self::Component => "component",
            Self::Catalog => "catalog",
            Self::Release => "release",
        }
    }

    /// Returns whether an image was named and is nothing else, which documents do not mention.
    #[must_use]
    pub fn is_image(&self) -> bool {
        *self == Self::Image
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a later version may call an image is an image to this one.
impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(Self::ALL.into_iter().find(|part| part.as_str() == word).unwrap_or_default())
    }
}

/// A digest of an image that was changed on purpose before it travelled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The name under which the image travels.
    pub image: Reference,
    /// The digest that it has now.
    pub new: Digest,
    /// The digest that it had where it came from.
    pub old: Digest,
}
