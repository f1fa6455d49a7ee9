//! The standard's values: digests, references, platforms, descriptors and manifests.
//!
//! Nothing here does I/O. Manifests from elsewhere are kept as the bytes they came in and looked at through the
//! lenient views of [`manifest`]: a field this crate does not know is never lost, because nothing is written back.

pub mod descriptor;
pub mod digest;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher};
pub use manifest::{ImageIndex, ImageManifest, Manifest, ManifestError};
pub use platform::Platform;
pub use reference::{Reference, RepositoryName};
