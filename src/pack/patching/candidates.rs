//! Which layers of the far side a new layer may be like: those of older images of its repository, by history and place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use serde::Deserialize;

use crate::base::{Contents, FarSide, KnownImage};
use crate::graph::reliance::Holds;
use crate::graph::survey::Survey;
use crate::graph::{Graph, Image, Kind, NodeId, Presence};
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference};
use crate::store::body::{Body, Start};
use crate::store::{Source, StoreError, chain, read_manifest};

/// How many older images of a repository are looked at for each new one.
const OLDER: usize = 3;
/// How many layers are compared with a new one.
const MOST: usize = 8;
/// How large a configuration may be that is read for its history, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

/// A layer that the far side has.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Where it may be read.
    pub(super) places: Vec<Arc<dyn Source>>,
    /// How unlikely it is to be of use: by what its history says, then by its place.
    rank: (u8, usize),
}

/// What new layers may be like.
#[derive(Default)]
pub(super) struct Candidates {
    /// The layers of the far side for each new one, the likeliest first.
    pub(super) by_layer: BTreeMap<NodeId, Vec<Candidate>>,
    /// Layers whose older images can't be read, and why.
    pub(super) unreadable: BTreeMap<NodeId, String>,
}

/// An image manifest of the far side.
struct Old {
    platform: Option<Platform>,
    layers: Vec<Descriptor>,
    history: Vec<String>,
    places: Vec<Arc<dyn Source>>,
}

/// Finds candidates for the layers of a graph that travel.
pub(super) struct Finder<'a> {
    pub(super) graph: &'a Graph,
    pub(super) survey: &'a Survey,
    pub(super) far_side: &'a FarSide,
    pub(super) contents: &'a Contents,
    /// Tells where an image is pulled from, if that is a registry.
    pub(super) pulled: &'a dyn Fn(&Image) -> Option<Reference>,
}

impl Finder<'_> {
    /// Finds candidates for every layer that `wants` says.
    pub(super) fn find(&self, wants: &dyn Fn(NodeId) -> bool) -> Candidates {
        let mut found = Candidates::default();
        let mut by_repository: HashMap<String, Vec<&KnownImage>> = HashMap::new();
        for image in &self.far_side.images {
            for key in keys(image) {
                by_repository.entry(key).or_default().push(image);
            }
        }
        let mut read: HashMap<Digest, Result<Arc<Vec<Old>>, String>> = HashMap::new();
        for image in &self.graph.images {
            let manifests = self.manifests(image);
            let wanted = |id: &&NodeId| wants(**id);
            let layers: Vec<NodeId> =
                manifests.iter().flat_map(|(_, layers)| layers).filter(wanted).copied().collect();
            if layers.is_empty() {
                continue;
            }
            for old in older(&by_repository, &image.name) {
                let pulled = (self.pulled)(image);
                let known = read.entry(old.root.clone());
                let known = known.or_insert_with(|| self.read(old, pulled.as_ref()).map(Arc::new));
                match known {
                    Ok(manifests_there) => {
                        for (id, layers) in &manifests {
                            self.compare(*id, layers, manifests_there, wants, &mut found);
                        }
                    }
                    Err(why) => {
                        for layer in &layers {
                            found.unreadable.entry(*layer).or_insert_with(|| why.clone());
                        }
                    }
                }
            }
        }
        for candidates in found.by_layer.values_mut() {
            candidates.sort_by(|a, b| (&a.digest, a.rank).cmp(&(&b.digest, b.rank)));
            candidates.dedup_by(|other, kept| {
                let is_same = other.digest == kept.digest;
                if is_same {
                    let more = other
                        .places
                        .drain(..)
                        .filter(|place| !kept.places.iter().any(|known| Arc::ptr_eq(known, place)));
                    kept.places.extend(more.collect::<Vec<_>>());
                }
                is_same
            });
            candidates.sort_by(|a, b| (a.rank, &a.digest).cmp(&(b.rank, &b.digest)));
            candidates.truncate(MOST);
        }
        found.unreadable.retain(|id, _| !found.by_layer.contains_key(id));
        found
    }

    /// Lists the image manifests of an image that travel, with their layers.
    fn manifests(&self, image: &Image) -> Vec<(NodeId, Vec<NodeId>)> {
        let closure = self.graph.closure(image.root);
        let is_manifest = |id: &NodeId| {
            self.graph.node(*id).kind == Kind::Manifest && self.graph.node(*id).presence == Presence::Shipped
        };
        let layers = |id: NodeId| (id, self.graph.children(id).iter().skip(1).copied().collect());
        closure.into_iter().filter(is_manifest).map(layers).collect()
    }

    /// Compares a new manifest with those of an older image.
    fn compare(
        &self,
        id: NodeId,
        layers: &[NodeId],
        older: &[Old],
        wants: &dyn Fn(NodeId) -> bool,
        found: &mut Candidates,
    ) {
        let platform = self.graph.platform(id);
        let old = older.iter().find(|old| old.platform.as_ref() == platform);
        let Some(old) = old.or(older.first().filter(|_| older.len() == 1)) else { return };
        let config = self.graph.children(id).first().map(|config| self.graph.digest(*config));
        let config = config.and_then(|digest| self.survey.content(digest).ok().flatten());
        let history = config.map(|bytes| layer_history(&bytes)).unwrap_or_default();
        let kept: HashSet<&Digest> = layers.iter().map(|layer| self.graph.digest(*layer)).collect();
        for (at, layer) in layers.iter().enumerate().filter(|(_, layer)| wants(**layer)) {
            for (old_at, there) in old.layers.iter().enumerate() {
                let line = history.get(at).filter(|line| !line.is_empty());
                let rank = match () {
                    () if line.is_some() && line == old.history.get(old_at) => 0,
                    () if at == old_at => 1,
                    // What the image still has is nothing that the new layer came of.
                    () if kept.contains(&there.digest) => continue,
                    () => 2,
                };
                if there.size == 0 || self.far_side.seen(&there.digest, there.size).is_none() {
                    continue;
                }
                found.by_layer.entry(*layer).or_default().push(Candidate {
                    digest: there.digest.clone(),
                    size: there.size,
                    places: old.places.clone(),
                    rank: (rank, at.abs_diff(old_at)),
                });
            }
        }
    }

    /// Reads the manifests of an image of the far side, wherever they are.
    fn read(&self, old: &KnownImage, pulled: Option<&Reference>) -> Result<Vec<Old>, String> {
        let places = self.contents.places(old, pulled);
        let mut why: Option<StoreError> = None;
        for place in &places {
            match read_image(&**place, &old.root, &places) {
                Ok(manifests) => return Ok(manifests),
                // That a place can't be asked says more than that another does not have it.
                Err(error) if why.as_ref().is_none_or(StoreError::is_not_found) => why = Some(error),
                Err(_) => {}
            }
        }
        Err(why.map_or_else(|| "no place is known that may have it".to_owned(), |error| chain(&error)))
    }
}

/// Returns the repositories under which an image of the far side is looked for.
fn keys(image: &KnownImage) -> Vec<String> {
    match &image.source {
        Some(source) => vec![source.name.to_string()],
        None => image.repository().map(|path| format!("/{path}")).into_iter().collect(),
    }
}

/// Lists the older images of a repository: that with the same tag first, then those with the greatest tags.
fn older<'a>(by_repository: &HashMap<String, Vec<&'a KnownImage>>, name: &Reference) -> Vec<&'a KnownImage> {
    let same = by_repository.get(&name.name.to_string());
    let below = by_repository.get(&format!("/{}", name.name.repository));
    let mut images: Vec<&KnownImage> = same.or(below).cloned().unwrap_or_default();
    let is_same = |image: &KnownImage| match &image.source {
        Some(source) => *source == *name,
        None => image.path.as_deref() == Some(name.path().as_str()),
    };
    images.sort_by_key(|image| (!is_same(image), std::cmp::Reverse(image.shown()), image.root.clone()));
    let mut seen = HashSet::new();
    images.retain(|image| seen.insert(&image.root));
    images.truncate(OLDER);
    images
}

/// Reads all image manifests below a root.
fn read_image(place: &dyn Source, root: &Digest, places: &[Arc<dyn Source>]) -> Result<Vec<Old>, StoreError> {
    let root = place.resolve(&root.to_string())?;
    let mut work = vec![(root, None)];
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    while let Some((descriptor, platform)) = work.pop() {
        if !seen.insert(descriptor.digest.clone()) {
            continue;
        }
        let bytes = match read_manifest(place, &descriptor) {
            Ok(bytes) => bytes,
            // A sparse index: what is not here is of no use.
            Err(error) if error.is_not_found() && !found.is_empty() => continue,
            Err(error) if error.is_not_found() && seen.len() > 1 => continue,
            Err(error) => return Err(error),
        };
        let parsed = Manifest::parse(&bytes, &descriptor.media_type).map_err(|source| {
            StoreError::Manifest { place: place.place(), digest: descriptor.digest.clone(), source }
        })?;
        match parsed {
            Manifest::Index(index) => {
                work.extend(index.manifests.into_iter().rev().map(|child| {
                    let platform = child.platform.clone();
                    (child, platform)
                }));
            }
            Manifest::Image(image) => {
                let config = read_config(place, &image.config).unwrap_or_default();
                let by_config =
                    || serde_json::from_slice::<Platform>(&config).ok().filter(|one| !one.is_empty());
                found.push(Old {
                    platform: platform.or_else(by_config),
                    history: layer_history(&config),
                    layers: image.layers,
                    places: places.to_vec(),
                });
            }
        }
    }
    Ok(found)
}

fn read_config(place: &dyn Source, config: &Descriptor) -> Option<Vec<u8>> {
    if config.size > MAX_CONFIG {
        return None;
    }
    let mut bytes = Vec::new();
    let start = Start::at_zero(&config.digest);
    Body::new(place, &config.digest, config.size, start).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns the history line of each layer, as an image configuration has them (image-spec `config.md`, "history").
fn layer_history(config: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        history: Vec<Line>,
    }
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        created_by: String,
        #[serde(default)]
        empty_layer: bool,
    }
    let config: Option<Config> = serde_json::from_slice(config).ok();
    let lines = config.map(|config| config.history).unwrap_or_default();
    lines.into_iter().filter(|line| !line.empty_layer).map(|line| line.created_by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_lines_are_those_of_layers() {
        let config =
            br#"{"history":[{"created_by":"a"},{"created_by":"env","empty_layer":true},{"created_by":"b"}]}"#;
        assert_eq!(layer_history(config), ["a", "b"]);
        assert!(layer_history(b"no JSON").is_empty());
    }

    #[test]
    fn older_images_are_those_of_the_repository_the_same_tag_first() {
        let known = |source: &str, seed: &str| KnownImage {
            path: None,
            full_path: None,
            source: Some(source.parse().unwrap()),
            root: Digest::sha256(seed.as_bytes()),
        };
        let all = [
            known("r.example/a:v1", "1"),
            known("r.example/a:v3", "3"),
            known("r.example/a:v2", "2"),
            known("r.example/a:v4", "3"),
            known("r.example/a:v0", "0"),
            known("r.example/b:v1", "b"),
        ];
        let mut by_repository: HashMap<String, Vec<&KnownImage>> = HashMap::new();
        for image in &all {
            by_repository.entry(keys(image).remove(0)).or_default().push(image);
        }
        let found = older(&by_repository, &"r.example/a:v1".parse().unwrap());
        let shown: Vec<String> = found.iter().filter_map(|image| image.shown()).collect();
        assert_eq!(shown, ["r.example/a:v1", "r.example/a:v4", "r.example/a:v2"]);
    }
}
