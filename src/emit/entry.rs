//! One image of a plan.

use std::sync::Arc;

use super::notes::Notes;
use super::origin::Origin;
use crate::graph::Part;
use crate::oci::{Descriptor, Digest, Platform, Reference, RepositoryName, media_type};

/// One image of a plan: from where to where, and what of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name under which it travels.
    pub name: Reference,
    /// The reference it was asked for by, or was packed by.
    pub reference: Option<Reference>,
    /// What it is in what was asked for.
    pub part: Part,
    /// Where its content is.
    pub origin: Arc<Origin>,
    /// Its root.
    pub root: Descriptor,
    /// The repository it goes into.
    pub target: RepositoryName,
    /// The tag it gets there.
    pub tag: String,
    /// Whether the tag was made of the digest because the image has none.
    pub tag_is_made: bool,
    /// The manifests below the root, depth-first; nothing for an image without an index.
    pub children: Vec<Child>,
    /// Platforms that travel.
    pub platforms: Vec<Platform>,
    /// Platforms that are left out.
    pub left_out: Vec<Platform>,
    /// What is attached to the manifests that travel.
    pub attached: Vec<Attachment>,
    /// How many pieces of its content its place does not have.
    pub lacking: usize,
    /// The one platform that goes under the tag in place of the index.
    pub single: Option<Digest>,
}

/// A manifest below the root of an image.
#[derive(Debug, Clone)]
pub struct Child {
    /// Type, digest and size.
    pub descriptor: Descriptor,
    /// Its platform as its index spells it, `linux/arm64/v8`; none where that says none, or nothing that can be
    /// written down safely.
    pub spelled: Option<String>,
    /// Its platform.
    pub platform: Option<Platform>,
    /// Whether it travels.
    pub kept: bool,
}

/// Content attached to a manifest of an image.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The attached manifest.
    pub descriptor: Descriptor,
    /// The tag it is found by; none for a referrer.
    pub tag: Option<String>,
    /// The manifest it is attached to.
    pub subject: Digest,
    /// Where its content is.
    pub origin: Arc<Origin>,
}

impl Attachment {
    /// Returns whether barge attaches it itself, so that no other tool finds it anywhere.
    #[must_use]
    pub fn is_made(&self) -> bool {
        matches!(*self.origin, Origin::Made)
    }
}

impl Entry {
    /// Returns whether some of the manifests below the root stay behind, and the root goes under the tag all the same.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.single.is_none() && self.children.iter().any(|child| !child.kept)
    }

    /// Returns whether an index below the root travels, which few tools know of.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        let is_index = |child: &Child| child.kept && media_type::is_index(&child.descriptor.media_type);
        self.single.is_none() && self.children.iter().any(is_index)
    }

    /// Returns the digest that the tag means at the target.
    #[must_use]
    pub fn tagged(&self) -> &Digest {
        self.single.as_ref().unwrap_or(&self.root.digest)
    }

    /// Returns the manifests that travel, the root last.
    pub fn manifests(&self) -> impl Iterator<Item = &Descriptor> {
        let kept = self.children.iter().filter(|child| child.kept).map(|child| &child.descriptor);
        let kept = kept.filter(|child| self.single.as_ref().is_none_or(|single| child.digest == *single));
        kept.chain(self.single.is_none().then_some(&self.root))
    }

    /// Returns what is attached to manifests that travel: with one platform under the tag, what is attached to it.
    pub fn travelling(&self) -> impl Iterator<Item = &Attachment> {
        self.attached.iter().filter(|attached| self.travels(attached))
    }

    /// Returns what is attached to manifests that travel and can be found where the image is; the rest is noted.
    pub fn found(&self, notes: &mut Notes) -> Vec<&Attachment> {
        let (made, found): (Vec<_>, Vec<_>) = self.travelling().partition(|attached| attached.is_made());
        for attached in made {
            let item = format!("{} of {}", attached.descriptor.digest, self.name);
            notes.add("left out: barge attaches it itself; `barge pack` and `barge push` carry it", item);
        }
        found
    }

    /// Returns what is attached to an index that does not travel.
    pub fn orphaned(&self) -> impl Iterator<Item = &Attachment> {
        self.attached.iter().filter(|attached| !self.travels(attached))
    }

    fn travels(&self, attached: &Attachment) -> bool {
        match &self.single {
            None => true,
            Some(single) => {
                let is_known =
                    |digest: &Digest| self.attached.iter().any(|other| other.descriptor.digest == *digest);
                // What is attached to something attached goes where that goes.
                attached.subject == *single
                    || (is_known(&attached.subject)
                        && self.attached.iter().any(|other| {
                            other.descriptor.digest == attached.subject && other.subject == *single
                        }))
            }
        }
    }

    /// Returns whether barge changed the image before it travelled, so that no registry has it that was not pushed to.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        let meant = self.reference.as_ref().and_then(|reference| reference.digest.as_ref());
        meant.is_some_and(|digest| *digest != self.root.digest)
    }

    /// Returns the registry's repository that has the content, or had it when it was packed.
    #[must_use]
    pub fn registry(&self) -> Option<&RepositoryName> {
        match &*self.origin {
            Origin::Registry(name) => Some(name),
            Origin::Layout(_) if self.is_changed() => None,
            Origin::Layout(_) => self.reference.as_ref().map(|reference| &reference.name),
            Origin::DockerArchive(_) | Origin::Made => None,
        }
    }

    /// Returns the image as people know it, with where it comes from if that is elsewhere.
    #[must_use]
    pub fn source(&self) -> String {
        match &*self.origin {
            Origin::Registry(name) => format!("{name}@{}", self.root.digest),
            Origin::Layout(layout) => format!("{} of {}", self.name, layout.path.display()),
            Origin::DockerArchive(path) => format!("{} of {}", self.name, path.display()),
            Origin::Made => self.name.to_string(),
        }
    }

    /// Returns the name at the target.
    #[must_use]
    pub fn destination(&self) -> String {
        format!("{}:{}", self.target, self.tag)
    }
}

/// Returns whether a manifest is of the standard's own types, which alone go into layouts unchanged.
pub(super) fn is_oci(descriptor: &Descriptor) -> bool {
    [media_type::OCI_INDEX, media_type::OCI_MANIFEST].contains(&descriptor.media_type.as_str())
}
