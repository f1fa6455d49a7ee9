//! A catalog image that lists only what was chosen: the old one with a layer on top.
//!
//! Every wanted child of an index gets a layer that whites out the catalog's folder and has the documents that stay, and a
//! config that serves it. The same catalog and filter give the same bytes. All digests from there up change, so that
//! signatures of the old image say nothing of the new one; the pairs are returned. A catalog in a database is never rebuilt:
//! the tool in its image serves what it was made for, and only that.

mod image;
mod layer;
mod object;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::files::{ImageFiles, ImageFilesError, normalised, read_config};
use super::{CatalogError, Filter, FilterError, Form, documents, read_files};
use crate::oci::manifest::{ImageIndex, ImageManifest};
use crate::oci::{Descriptor, Digest, Manifest, Platform};
use crate::store::made::Made;
use crate::store::{Source, StoreError, read_manifest};

/// How deep indexes may lie in each other.
const MAX_DEPTH: u32 = 4;

/// A catalog that was rebuilt.
#[derive(Debug)]
pub struct Rebuilt {
    /// The new content, over the source of the old.
    pub source: Arc<Made>,
    /// The new root, found in the source by its digest.
    pub root: Descriptor,
    /// The manifests that were replaced: old digest, new digest; sorted, the root among them. Empty where the whole catalog was
    /// chosen, which is left as it is.
    pub changed: Vec<(Digest, Digest)>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Why a catalog can't be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// A place can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files of an image can't be read.
    #[error(transparent)]
    Files(#[from] ImageFilesError),
    /// The image is no catalog that can be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The filter does not fit the catalog.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A catalog in a database.
    #[error(
        "the catalog {digest} in {place} is a database, which is never rebuilt: its image serves it as it is; leave out \
         `rebuildCatalog`, and only the images of what was chosen travel with it"
    )]
    Database {
        /// The place.
        place: String,
        /// The image.
        digest: Digest,
    },
    /// None of its images is for a wanted platform.
    #[error("the catalog {digest} in {place} has no image for {}", listed(.wanted))]
    NoPlatform {
        /// The place.
        place: String,
        /// The index.
        digest: Digest,
        /// The platforms.
        wanted: Vec<Platform>,
    },
    /// Something about an image keeps it from being rebuilt.
    #[error("the catalog {digest} in {place} can't be rebuilt: {why}")]
    Unusable {
        /// The place.
        place: String,
        /// The image.
        digest: Digest,
        /// What.
        why: String,
    },
}

fn listed(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "any platform".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Rebuilds a catalog so that it lists what a filter chooses, for these platforms; none means all.
///
/// # Errors
/// [`RebuildError`]: the image is no file-based catalog, the filter does not fit it, or it can't be read.
pub fn rebuild(
    source: Arc<dyn Source>,
    root: &Descriptor,
    filter: &Filter,
    platforms: &[Platform],
) -> Result<Rebuilt, RebuildError> {
    let made = Made::over(Arc::clone(&source));
    let mut builder =
        Builder { source, made, filter, platforms, changed: Vec::new(), warnings: BTreeSet::new() };
    let new = builder.rebuild(root, 0)?;
    let Builder { made, mut changed, warnings, .. } = builder;
    let mut warnings: Vec<String> = warnings.into_iter().collect();
    if let Some(new) = &new {
        warnings.push(format!(
            "the catalog {} in {} was rebuilt and is {} now: what is attached to the old one, signatures among it, does \
             not travel with it",
            root.digest,
            made.place(),
            new.digest
        ));
    }
    changed.sort();
    changed.dedup();
    let mut descriptor = new.unwrap_or_else(|| root.clone());
    descriptor.annotations.clone_from(&root.annotations);
    descriptor.platform.clone_from(&root.platform);
    Ok(Rebuilt { source: Arc::new(made), root: descriptor, changed, warnings })
}

struct Builder<'a> {
    source: Arc<dyn Source>,
    made: Made,
    filter: &'a Filter,
    platforms: &'a [Platform],
    changed: Vec<(Digest, Digest)>,
    /// What all images say, each once.
    warnings: BTreeSet<String>,
}

impl Builder<'_> {
    /// Rebuilds an index or an image; nothing if all of it was chosen.
    fn rebuild(&mut self, old: &Descriptor, depth: u32) -> Result<Option<Descriptor>, RebuildError> {
        let bytes = read_manifest(&*self.source, old)?;
        let manifest = Manifest::parse(&bytes, &old.media_type).map_err(|source| StoreError::Manifest {
            place: self.source.place(),
            digest: old.digest.clone(),
            source,
        })?;
        let new = match &manifest {
            Manifest::Image(image) => self.image(old, &bytes, image)?,
            Manifest::Index(_) if depth == MAX_DEPTH => {
                return Err(self.unusable(old, "indexes lie in each other too deep".to_owned()));
            }
            Manifest::Index(index) => self.index(old, &bytes, index, depth)?,
        };
        let Some(bytes) = new else { return Ok(None) };
        let new = self.made.add_manifest(manifest.media_type(), bytes);
        self.changed.push((old.digest.clone(), new.digest.clone()));
        Ok(Some(new))
    }

    /// Rebuilds the wanted children of an index; all others go, attestations among them, for they are about the old ones.
    fn index(
        &mut self,
        old: &Descriptor,
        bytes: &[u8],
        index: &ImageIndex,
        depth: u32,
    ) -> Result<Option<Vec<u8>>, RebuildError> {
        let wanted = self.wanted(index)?;
        if !wanted.contains(&true) {
            return Err(RebuildError::NoPlatform {
                place: self.source.place(),
                digest: old.digest.clone(),
                wanted: self.platforms.to_vec(),
            });
        }
        let mut new = Vec::new();
        for (child, wanted) in index.manifests.iter().zip(wanted) {
            new.push(match wanted {
                true => self.rebuild(child, depth + 1)?,
                false => None,
            });
        }
        if new.iter().all(Option::is_none) {
            return Ok(None);
        }
        image::index(bytes, &new).map(Some).map_err(|error| self.unusable(old, error.to_string()))
    }

    /// Tells of each child whether it is an image that was asked for: of each platform wanted the best that there is.
    fn wanted(&self, index: &ImageIndex) -> Result<Vec<bool>, RebuildError> {
        let mut platforms = Vec::new();
        for child in &index.manifests {
            platforms.push(self.platform(child)?);
        }
        if self.platforms.is_empty() {
            return Ok(platforms.iter().map(Option::is_some).collect());
        }
        let mut wanted = vec![false; platforms.len()];
        for asked in self.platforms {
            let ranks: Vec<_> = platforms
                .iter()
                .map(|platform| platform.as_ref().and_then(|platform| platform.answers(asked)))
                .collect();
            let best = ranks.iter().flatten().max();
            for (wanted, rank) in wanted.iter_mut().zip(&ranks) {
                *wanted |= rank.is_some() && rank.as_ref() == best;
            }
        }
        Ok(wanted)
    }

    /// Returns what a child runs on; none if it is no image that can run. An index says nothing of its own.
    fn platform(&self, child: &Descriptor) -> Result<Option<Platform>, RebuildError> {
        if child.attests().is_some() || child.platform.as_ref().is_some_and(Platform::is_unknown) {
            return Ok(None);
        }
        if let Some(platform) = child.platform.as_ref().filter(|platform| !platform.is_empty()) {
            return Ok(Some(platform.clone()));
        }
        match ImageFiles::open(&*self.source, child, None) {
            Ok(files) => {
                let text = |name: &str| files.config()[name].as_str().unwrap_or_default().to_owned();
                Ok(Some(Platform::new(&text("os"), &text("architecture"), &text("variant"))))
            }
            Err(ImageFilesError::NotAnImage { .. } | ImageFilesError::NoRunnable { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Rebuilds one image.
    fn image(
        &mut self,
        old: &Descriptor,
        bytes: &[u8],
        manifest: &ImageManifest,
    ) -> Result<Option<Vec<u8>>, RebuildError> {
        let files = ImageFiles::open(&*self.source, old, None)?;
        let catalog = read_files(&*self.source, &files)?;
        if catalog.form == Form::Database {
            return Err(RebuildError::Database { place: self.source.place(), digest: old.digest.clone() });
        }
        let selection = catalog.select(self.filter)?;
        if selection.is_everything() {
            return Ok(None);
        }
        let folder = normalised(catalog.path.as_bytes());
        if folder.is_empty() {
            let why = format!("its label says that it lies in `{}`, the whole file system", catalog.path);
            return Err(self.unusable(old, why));
        }
        self.warnings.extend(selection.warnings.iter().cloned());
        let documents = documents(&*self.source, &files, &|head| {
            layer::stays(&selection, &head.schema, head.of_package(), &head.name)
        })?;
        let (layer, diff_id) =
            layer::write(&folder, &documents, &selection).map_err(|why| self.unusable(old, why))?;
        let broken = |error: serde_json::Error| self.unusable(old, error.to_string());
        let config =
            image::config(&read_config(&*self.source, &manifest.config)?, &diff_id).map_err(broken)?;
        let new = image::manifest(bytes, &manifest.media_type, &config, &layer).map_err(broken)?;
        self.made.add_blob(&manifest.config.media_type, config);
        self.made.add_blob(&manifest.media_type, layer);
        Ok(Some(new))
    }

    fn unusable(&self, what: &Descriptor, why: String) -> RebuildError {
        RebuildError::Unusable { place: self.source.place(), digest: what.digest.clone(), why }
    }
}
