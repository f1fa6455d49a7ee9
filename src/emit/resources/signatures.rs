//! The signatures of releases, which travel as artifacts attached to the release image.

use std::io::Read;

use crate::oci::media_type::RELEASE_SIGNATURE;
use crate::oci::{Descriptor, Digest, Manifest};
use crate::store::body::{Body, Start};
use crate::store::{Result, Source, StoreError, read_manifest};

/// More than any signature has; all of them together have to fit into one `ConfigMap`, which holds a mebibyte.
const MAX_SIGNATURE: u64 = 128 * 1024;

/// A signature of a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// The release image that it signs, by the digest of its root.
    pub release: Digest,
    /// The signature.
    pub bytes: Vec<u8>,
}

/// Reads the signatures that are attached to a release image.
///
/// # Errors
/// What the source says; [`StoreError::Damaged`] for a signature that is not what a release signature is.
pub fn signatures(source: &dyn Source, release: &Digest) -> Result<Vec<Signature>> {
    let mut found = Vec::new();
    for attached in source.attached(release)? {
        if attached.descriptor.artifact_type.as_deref() != Some(RELEASE_SIGNATURE) {
            continue;
        }
        let bytes = signature(source, &attached.descriptor)?;
        found.push(Signature { release: release.clone(), bytes });
    }
    Ok(found)
}

fn signature(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let damaged = |why: String| StoreError::Damaged {
        place: source.place(),
        digest: descriptor.digest.clone(),
        why: format!("as a release signature: {why}"),
    };
    let manifest = read_manifest(source, descriptor)?;
    let parsed = Manifest::parse(&manifest, &descriptor.media_type).map_err(|error| {
        StoreError::Manifest { place: source.place(), digest: descriptor.digest.clone(), source: error }
    })?;
    let Manifest::Image(image) = parsed else { return Err(damaged("it is an index".to_owned())) };
    let [layer] = image.layers.as_slice() else {
        return Err(damaged(format!("it has {} layers, not one", image.layers.len())));
    };
    if layer.size > MAX_SIGNATURE {
        return Err(damaged(format!("{} bytes are more than any signature has", layer.size)));
    }
    let mut body = Body::new(source, &layer.digest, layer.size, Start::at_zero(&layer.digest));
    let mut bytes = Vec::new();
    match body.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.downcast().unwrap_or_else(|error| damaged(error.to_string()))),
    }
}
