//! Where the content is that the far side has: patches are made between that and what is new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::KnownImage;
use crate::input::RegistryPlace;
use crate::oci::{Reference, RepositoryName};
use crate::store::Source;

/// Opens a repository of a registry.
pub type OpenRepository = Box<dyn Fn(&RepositoryName) -> Arc<dyn Source> + Send + Sync>;

/// Places in which what the far side has may be found on this side.
pub struct Contents {
    files: Vec<Arc<dyn Source>>,
    registries: Vec<RegistryPlace>,
    open: OpenRepository,
    opened: Mutex<HashMap<RepositoryName, Arc<dyn Source>>>,
}

impl Contents {
    /// Looks in `files`, then below `registries`, then where the new images come from; `open` opens repositories.
    #[must_use]
    pub fn new(files: Vec<Arc<dyn Source>>, registries: Vec<RegistryPlace>, open: OpenRepository) -> Self {
        Self { files, registries, open, opened: Mutex::default() }
    }

    /// Lists the places in which an image of the far side may be, the likeliest first. `pulled` is where the image that
    /// follows it is pulled from now, if that is a registry.
    #[must_use]
    pub fn places(&self, old: &KnownImage, pulled: Option<&Reference>) -> Vec<Arc<dyn Source>> {
        let mut names: Vec<RepositoryName> = Vec::new();
        let paths = [old.source.as_ref().map(|source| source.name.repository.as_str()), old.repository()];
        for place in &self.registries {
            names.extend(paths.into_iter().flatten().map(|path| place.full(path)));
        }
        if let Some(pulled) = pulled {
            names.push(pulled.name.clone());
            // Another registry is asked only by whoever names it.
            let source = old.source.as_ref().map(|source| &source.name);
            names.extend(source.filter(|name| name.registry == pulled.name.registry).cloned());
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places = self.files.clone();
        for (at, name) in names.iter().enumerate() {
            if !names[..at].contains(name) {
                places.push(opened.entry(name.clone()).or_insert_with(|| (self.open)(name)).clone());
            }
        }
        places
    }
}
