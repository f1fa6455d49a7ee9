//! Finding the image that is meant, and its config.

use super::ImageFilesError;
use crate::oci::manifest::{ImageIndex, ImageManifest, Manifest};
use crate::oci::{Descriptor, Platform};
use crate::store::body::read_whole;
use crate::store::{Source, StoreError, read_manifest};

/// The largest image config that is read, in bytes; the field's are some kilobytes.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;

/// Finds the image that a descriptor means; none for an index without one.
pub(super) fn find(
    source: &dyn Source,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
    depth: usize,
) -> Result<Option<(Descriptor, ImageManifest)>, ImageFilesError> {
    let bytes = read_manifest(source, descriptor)?;
    let manifest = Manifest::parse(&bytes, &descriptor.media_type).map_err(|error| StoreError::Manifest {
        place: source.place(),
        digest: descriptor.digest.clone(),
        source: error,
    })?;
    let index = match manifest {
        Manifest::Image(image) => return Ok(Some((descriptor.clone(), *image))),
        Manifest::Index(index) => index,
    };
    if depth == MAX_DEPTH {
        return Ok(None);
    }
    let mut missing = None;
    for child in in_order(&index, platform) {
        match find(source, child, platform, depth + 1) {
            Ok(Some((descriptor, image))) if image.is_runnable() => return Ok(Some((descriptor, image))),
            Ok(_) => {}
            // A sparse copy has some of the children only.
            Err(ImageFilesError::Store(error)) if error.is_not_found() => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    missing.map_or(Ok(None), |error| Err(error.into()))
}

/// Lists what may be images, the best for a platform first.
fn in_order<'a>(index: &'a ImageIndex, platform: Option<&Platform>) -> Vec<&'a Descriptor> {
    let is_unknown = |child: &&Descriptor| child.platform.as_ref().is_some_and(Platform::is_unknown);
    let mut children: Vec<&Descriptor> =
        index.manifests.iter().filter(|child| child.attests().is_none() && !is_unknown(child)).collect();
    if let Some(wanted) = platform {
        // The sort is stable: what answers equally well stays in the index's order.
        let rank = |child: &Descriptor| child.platform.as_ref().and_then(|platform| platform.answers(wanted));
        children.sort_by_key(|child| std::cmp::Reverse(rank(child)));
    }
    children
}

/// Reads an image config, which is hashed on the way.
pub(in crate::catalog) fn read_config(
    source: &dyn Source,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, ImageFilesError> {
    let unusable = |why: String| ImageFilesError::Config {
        place: source.place(),
        digest: descriptor.digest.clone(),
        why,
    };
    if descriptor.size > MAX_CONFIG {
        return Err(unusable(format!("it has {} bytes, and {MAX_CONFIG} are read", descriptor.size)));
    }
    Ok(read_whole(source, &descriptor.digest, descriptor.size)?)
}

/// Lists the images that a descriptor may mean: itself, or what an index and those in it list, but for attestations.
///
/// # Errors
/// [`ImageFilesError`] if an index can't be read; one below that is not there is left to whoever opens it.
pub(in crate::catalog) fn children(
    source: &dyn Source,
    root: &Descriptor,
) -> Result<Vec<Descriptor>, ImageFilesError> {
    let mut all = Vec::new();
    flatten(source, root, 0, &mut all)?;
    Ok(all)
}

fn flatten(
    source: &dyn Source,
    descriptor: &Descriptor,
    depth: usize,
    all: &mut Vec<Descriptor>,
) -> Result<(), ImageFilesError> {
    let bytes = match read_manifest(source, descriptor) {
        Err(error) if depth > 0 && error.is_not_found() => {
            all.push(descriptor.clone());
            return Ok(());
        }
        outcome => outcome?,
    };
    let manifest = Manifest::parse(&bytes, &descriptor.media_type).map_err(|error| StoreError::Manifest {
        place: source.place(),
        digest: descriptor.digest.clone(),
        source: error,
    })?;
    match manifest {
        Manifest::Image(_) => all.push(descriptor.clone()),
        Manifest::Index(index) if depth < MAX_DEPTH => {
            for child in in_order(&index, None) {
                flatten(source, child, depth + 1, all)?;
            }
        }
        Manifest::Index(_) => {}
    }
    Ok(())
}
