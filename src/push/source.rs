//! What is known of the content of a push before the target is asked.

use std::sync::Arc;

use crate::bundle::Union;
use crate::bundle::recipe::Recipe;
use crate::graph::reliance::Seen;
use crate::oci::Digest;

/// What is known of content before the target is asked.
pub trait Known: Sync {
    /// Returns whether the source has the content to push.
    fn holds(&self, digest: &Digest) -> bool;

    /// Returns how content is rebuilt that travels as a patch; none of anything else.
    fn recipe(&self, _digest: &Digest) -> Option<Arc<Recipe>> {
        None
    }

    /// Returns where content was seen at the target when it was left out; nothing where that is not known.
    fn seen(&self, _digest: &Digest) -> Vec<Seen> {
        Vec::new()
    }
}

/// Knows of a source that has all that it refers to, as a registry does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everything;

impl Known for Everything {
    fn holds(&self, _digest: &Digest) -> bool {
        true
    }
}

impl Known for Union {
    fn holds(&self, digest: &Digest) -> bool {
        self.ships(digest)
    }

    fn recipe(&self, digest: &Digest) -> Option<Arc<Recipe>> {
        Self::recipe(self, digest)
    }

    fn seen(&self, digest: &Digest) -> Vec<Seen> {
        Self::seen(self, digest)
    }
}
