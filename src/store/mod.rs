//! Places that hold blobs, and what every such place can be asked.
//!
//! A [`Source`] hands out bytes as it has them: whoever asks checks them against the digest they were asked by
//! ([`read_manifest`] for manifests, the transfer for blobs). Stores know nothing of verbs or terminals.

pub mod archive;
pub mod body;
pub mod docker_archive;
mod error;
pub mod layout;
pub mod made;
pub mod registry;
pub mod tar;

use std::io::Read;

pub use error::{RegistryMessage, StoreError, chain};

use crate::oci::manifest::MAX_MANIFEST_SIZE;
use crate::oci::{Descriptor, Digest, ManifestError};

/// The result of asking a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Content attached to a manifest: a referrer, or what a tag derived from the digest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The attached manifest.
    pub descriptor: Descriptor,
    /// The tag it was found by (`sha256-<hex>.sig`, `.att`, `.sbom`); none for a referrer.
    pub tag: Option<String>,
}

/// The suffixes of the tags by which cosign attaches content to a digest.
pub const ATTACHED_TAG_SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

/// Returns the tag derived from a digest: the referrers fallback tag (distribution-spec, "Referrers Tag Schema") with
/// an empty suffix, cosign's with one of [`ATTACHED_TAG_SUFFIXES`].
#[must_use]
pub fn attached_tag(subject: &Digest, suffix: &str) -> String {
    // The specification cuts the encoded part at 64 characters, so that a sha512 digest makes a valid tag.
    let hex = subject.hex();
    format!("{}-{}{suffix}", subject.algorithm().as_str(), &hex[..64])
}

/// A place that images are read from: one repository of a registry, a layout, an archive.
pub trait Source: Send + Sync {
    /// Returns the name of the place for messages, e.g. `registry.example/app` or `oci:./layout`.
    fn place(&self) -> String;

    /// Finds what a tag, a digest or a name in this place means.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the place does not have it, or whatever kept it from being asked.
    fn resolve(&self, selector: &str) -> Result<Descriptor>;

    /// Reads a manifest's bytes as they are stored, at most [`MAX_MANIFEST_SIZE`]; use [`read_manifest`] to have them
    /// checked.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the place does not have it, or whatever kept it from being read.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;

    /// Lists what is attached to a manifest: referrers, and tags derived from the digest. The same content may be
    /// listed twice where the place does so.
    ///
    /// # Errors
    /// Whatever kept the place from answering; having nothing attached is an empty list.
    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>>;

    /// Opens a blob at byte `offset` of its content. The reader may end early or be wrong: the caller counts and
    /// hashes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the place does not have it, or whatever kept it from being opened.
    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// Returns the name of the place that gave a blob's content, for messages: of a source that stands for several.
    fn giver(&self, _digest: &Digest) -> String {
        self.place()
    }

    /// Takes note that what was given for a blob is not that blob, or broke off for good. Returns whether there is
    /// another place that will be asked from now on, so that it is worth to read the blob again from the beginning.
    fn distrust(&self, _digest: &Digest, _error: &StoreError) -> bool {
        false
    }
}

/// Reads a manifest and checks it against its descriptor's digest and size.
///
/// # Errors
/// [`StoreError::Damaged`] if the bytes are not what the descriptor names, [`StoreError::Manifest`] if it declares
/// more than [`MAX_MANIFEST_SIZE`], else what the source said.
pub fn read_manifest(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > MAX_MANIFEST_SIZE {
        return Err(StoreError::Manifest {
            place: source.place(),
            digest: descriptor.digest.clone(),
            source: ManifestError::TooLarge(descriptor.size),
        });
    }
    let bytes = source.manifest(descriptor)?;
    let damaged =
        |why: String| StoreError::Damaged { place: source.place(), digest: descriptor.digest.clone(), why };
    if bytes.len() as u64 != descriptor.size {
        return Err(damaged(format!("{} bytes came where {} were announced", bytes.len(), descriptor.size)));
    }
    let found = descriptor.digest.same_algorithm_over(&bytes);
    if found != descriptor.digest {
        return Err(damaged(format!("its bytes hash to {found}")));
    }
    Ok(bytes)
}

/// Returns whether a tag is derived from a digest: cosign's tags and the referrers fallback tag. Such tags travel as
/// attachments of what they are derived from, not as images.
#[must_use]
pub fn is_attached_tag(tag: &str) -> bool {
    let base = ATTACHED_TAG_SUFFIXES.iter().find_map(|suffix| tag.strip_suffix(suffix)).unwrap_or(tag);
    let hex = base.strip_prefix("sha256-").or_else(|| base.strip_prefix("sha512-"));
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_derived_from_digests_are_valid_tags() {
        let sha256 = Digest::sha256(b"x");
        assert_eq!(attached_tag(&sha256, ".sig"), format!("sha256-{}.sig", sha256.hex()));
        let sha512 = crate::oci::Hasher::new(crate::oci::Algorithm::Sha512).finish();
        assert!(crate::oci::reference::is_tag(&attached_tag(&sha512, ".sbom")));
    }

    #[test]
    fn derived_tags_are_no_images() {
        let hex = Digest::sha256(b"x").hex();
        for suffix in ["", ".sig", ".att", ".sbom"] {
            assert!(is_attached_tag(&format!("sha256-{hex}{suffix}")));
        }
        for tag in ["v1", "sha256-short.sig", &format!("sha256-{hex}.txt"), &hex] {
            assert!(!is_attached_tag(tag), "{tag}");
        }
    }
}
