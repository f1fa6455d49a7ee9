//! What an image is in what was asked for: who reads a bundle or a receipt later can't see it from the content.

use serde::{Deserialize, Serialize};

/// What an image is in what was asked for. What is asked for as several things is the greatest of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// Returns whether an image was named and is nothing else, which documents do not mention.
    #[must_use]
    pub fn is_image(&self) -> bool {
        *self == Self::Image
    }
}
