//! OCI image layouts (image-spec `image-layout.md`): directories, and tar files of any producer.
//!
//! What a layout means is one implementation, [`Layout`]; where its files lie is behind [`LayoutFiles`]. Blobs that
//! `index.json` refers to may be missing (the specification allows it), nested indexes and unknown media types are
//! content like any other, and links are never followed.

mod archive;
mod attached;
mod directory;
mod index;
mod names;

use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

pub(in crate::store) use archive::refusal;
pub use archive::{ArchiveFiles, LayoutArchive, open_archive};
pub use directory::{DirectoryFiles, LayoutDirectory};
pub use names::Named;
pub(in crate::store) use names::{Found, Listed, ambiguous, digest_in, find, quoted};

use self::attached::Attachments;
use super::{Attached, Result, Source, StoreError};
use crate::oci::manifest::MAX_MANIFEST_SIZE;
use crate::oci::{Descriptor, Digest, Manifest, ManifestError};

/// The largest `index.json` or `manifest.json` that is read, in bytes. A descriptor with two long names takes some
/// 500 bytes, so this is more than 100,000 images.
pub const MAX_ROOT_FILE: u64 = 64 * 1024 * 1024;

/// The annotation that names an entry of `index.json` (image-spec `annotations.md`).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation by which containerd names an entry of `index.json`: a full reference.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A blob that was opened.
pub struct OpenBlob<'a> {
    /// Length of the whole blob in bytes, as the place has it.
    pub size: u64,
    /// The content from the offset asked for; empty if that lies beyond the end.
    pub reader: Box<dyn Read + Send + 'a>,
}

/// The files of a layout, wherever they lie.
///
/// An implementor follows no links, hands out regular content only, and answers `None` only for what it surely does
/// not have: a blob that is there as a link or a pipe is an error that says so.
pub trait LayoutFiles: Send + Sync {
    /// Returns the name of the place for messages, e.g. `oci:./layout`.
    fn place(&self) -> String;

    /// Returns the file or folder, for messages about I/O.
    fn path(&self) -> &Path;

    /// Reads a file at the layout's root whole, e.g. `index.json`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if it is longer than `limit` bytes or no regular file, [`StoreError::Io`] if it can't
    /// be read.
    fn root_file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Returns a blob's length in bytes.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if it is no regular file, [`StoreError::Io`] if that can't be told.
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Opens a blob at byte `offset` of its content. The content is as stored, not checked.
    ///
    /// # Errors
    /// As [`LayoutFiles::blob_size`].
    fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Option<OpenBlob<'_>>>;
}

/// An image layout.
///
/// `index.json` is read once, when the layout is opened.
pub struct Layout<F> {
    files: F,
    listed: Vec<Listed>,
    unreadable: Vec<String>,
    attachments: OnceLock<Attachments>,
}

impl<F: LayoutFiles> Layout<F> {
    /// Opens a layout over its files.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if `oci-layout` or `index.json` is missing or malformed, or the version is not 1.x.
    pub fn new(files: F) -> Result<Self> {
        index::check_version(&files)?;
        let index = index::read(&files)?;
        Ok(Self {
            listed: index.entries.into_iter().map(Listed::from_annotations).collect(),
            unreadable: index.unreadable,
            files,
            attachments: OnceLock::new(),
        })
    }

    /// Returns the files under the layout.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// Lists what `index.json` lists, in its order, nameless entries included.
    ///
    /// # Errors
    /// None today: `index.json` was read when the layout was opened.
    pub fn names(&self) -> Result<Vec<Named>> {
        Ok(self.listed.iter().map(Listed::named).collect())
    }

    /// Returns what is wrong with entries of `index.json` that are no descriptors (for instance, one with a digest
    /// algorithm that can't be verified). They are left out of everything else.
    #[must_use]
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Reads a blob that is a manifest, or none if it is missing.
    fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(blob) = self.files.open_blob(digest, 0)? else {
            return Ok(None);
        };
        if blob.size > MAX_MANIFEST_SIZE {
            return Err(StoreError::Manifest {
                place: self.files.place(),
                digest: digest.clone(),
                source: ManifestError::TooLarge(blob.size),
            });
        }
        let mut bytes = Vec::new();
        // The limit holds even if the file grows meanwhile.
        blob.reader.take(MAX_MANIFEST_SIZE).read_to_end(&mut bytes).map_err(|source| StoreError::Io {
            path: self.files.path().to_owned(),
            action: "a manifest could not be read",
            source,
        })?;
        Ok(Some(bytes))
    }

    /// Finds a digest: as `index.json` lists it, else the manifest of that digest if its blob is there.
    fn resolve_digest(&self, digest: &Digest) -> Result<Descriptor> {
        if let Some(entry) = self.listed.iter().find(|entry| entry.descriptor.digest == *digest) {
            return Ok(entry.descriptor.clone());
        }
        let Some(bytes) = self.manifest_bytes(digest)? else {
            return Err(self.not_found(&digest.to_string()));
        };
        if !digest.matches(&bytes) {
            return Err(StoreError::Damaged {
                place: self.files.place(),
                digest: digest.clone(),
                why: format!("its bytes hash to {}", digest.same_algorithm_over(&bytes)),
            });
        }
        let manifest = Manifest::parse(&bytes, "").map_err(|source| StoreError::Manifest {
            place: self.files.place(),
            digest: digest.clone(),
            source,
        })?;
        Ok(Descriptor::new(manifest.media_type(), digest.clone(), bytes.len() as u64))
    }

    fn not_found(&self, what: &str) -> StoreError {
        StoreError::NotFound { place: self.files.place(), what: what.to_owned() }
    }
}

impl<F: LayoutFiles> Source for Layout<F> {
    fn place(&self) -> String {
        self.files.place()
    }

    /// A selector is a digest, a name as `index.json` has it, a reference that means the same as such a name, or the
    /// tag of such a name. An empty one means the only image there is.
    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        if let Some(digest) = digest_in(selector) {
            return self.resolve_digest(&digest);
        }
        match find(&self.listed, selector) {
            Found::One(descriptor) => Ok(descriptor.clone()),
            Found::None => Err(self.not_found(&quoted(selector))),
            Found::Many(digests) => Err(ambiguous(self.files.place(), selector, &digests)),
        }
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.manifest_bytes(&descriptor.digest)?.ok_or_else(|| self.not_found(&descriptor.digest.to_string()))
    }

    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let attachments = if let Some(known) = self.attachments.get() {
            known
        } else {
            // Two threads may both do this at first; the result is the same.
            let found = Attachments::read(self)?;
            self.attachments.get_or_init(|| found)
        };
        attachments.of(self, subject)
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let blob =
            self.files.open_blob(digest, offset)?.ok_or_else(|| self.not_found(&digest.to_string()))?;
        // Said before gigabytes are read for nothing.
        if blob.size != size {
            return Err(StoreError::Damaged {
                place: self.files.place(),
                digest: digest.clone(),
                why: format!("it has {} bytes where {size} were announced", blob.size),
            });
        }
        Ok(blob.reader)
    }
}

#[cfg(test)]
mod tests;
