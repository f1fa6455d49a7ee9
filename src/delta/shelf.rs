//! Layers taken apart, kept for as long as there is room: a base serves many patches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layer::{Form, Layer};
use crate::oci::Digest;

/// Which layer, taken apart how; none for what its bytes say.
type Key = (Digest, Option<Form>);
/// A place of the shelf; whoever holds the lock fills it.
type Place = Arc<Mutex<Option<Arc<Layer>>>>;

/// A shelf of layers.
#[derive(Debug)]
pub struct Shelf {
    limit: u64,
    places: Mutex<Vec<(Key, Place)>>,
    sizes: Mutex<HashMap<Key, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    /// Makes a shelf that keeps up to `limit` bytes of what nobody uses at the moment.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, places: Mutex::default(), sizes: Mutex::default() }
    }

    /// Returns a layer, by `take_apart` if it is not there. Who asks for one that somebody else is taking apart waits
    /// for it.
    ///
    /// # Errors
    /// What `take_apart` says; the next one who asks tries again.
    pub fn layer<E>(
        &self,
        digest: &Digest,
        form: Option<Form>,
        take_apart: impl FnOnce() -> Result<Layer, E>,
    ) -> Result<Arc<Layer>, E> {
        let key = (digest.clone(), form);
        let place = {
            let mut places = lock(&self.places);
            let known = places.iter().position(|(known, _)| *known == key);
            // Last used last.
            let entry = known.map_or_else(|| (key.clone(), Place::default()), |at| places.remove(at));
            let place = entry.1.clone();
            places.push(entry);
            place
        };
        let mut content = lock(&place);
        if let Some(layer) = &*content {
            return Ok(layer.clone());
        }
        let layer = Arc::new(take_apart()?);
        *content = Some(layer.clone());
        let size = layer.plain.len() + layer.tokens.len() + layer.blocks.len();
        lock(&self.sizes).insert(key, size);
        drop(content);
        drop(place);
        self.make_room();
        Ok(layer)
    }

    /// Lets go of what was not used for longest, until the rest is within the limit. What was used last stays however large
    /// it is: a second try of an upload needs it again.
    fn make_room(&self) {
        let mut places = lock(&self.places);
        let mut sizes = lock(&self.sizes);
        let mut total: u64 = sizes.values().sum();
        let (mut at, last) = (0, places.len());
        places.retain(|(key, place)| {
            at += 1;
            // Somebody waits for it, or fills it.
            if total <= self.limit || at == last || Arc::strong_count(place) > 1 {
                return true;
            }
            total -= sizes.remove(key).unwrap_or(0);
            false
        });
    }
}
