//! Loading bases from files.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::known::{Known, KnownImage, Table};
use crate::bundle::Bundle;
use crate::bundle::record::{RECORD_TYPE, Record, RecordError};
use crate::bundle::{Held, Union};
use crate::graph::reliance::{BaseEntry, BaseKind, Seen};
use crate::graph::spool::Spool;
use crate::graph::survey::{Options, Survey, SurveyError, Wish};
use crate::graph::{Graph, GraphError, NodeId, Part, Presence};
use crate::inventory::{INVENTORY_TYPE, Inventory, InventoryError, MAX_SIZE, RECEIPT_TYPE, ZSTD_MAGIC};
use crate::oci::{Algorithm, Digest, Hasher, Reference, RepositoryName};
use crate::select::{Attachments, Reason};
use crate::store::{Source, StoreError};

/// Why a base can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The file can't be read.
    #[error("{} can't be read", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A JSON document that is no base.
    #[error("{} is no base: {why}", .path.display())]
    NoBase {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// An inventory or receipt that can't be used.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A sidecar that can't be used.
    #[error("the sidecar {} can't be used", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// A bundle that is not whole.
    #[error("{} is damaged: {fault}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// A bundle or layout that can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bundle or layout whose manifests can't be read.
    #[error("the manifests of {} can't be read", .path.display())]
    Survey {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: SurveyError,
    },
    /// A bundle or layout that contradicts itself.
    #[error("{} contradicts itself", .path.display())]
    Graph {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: GraphError,
    },
}

/// Loads a base from a file or folder: an inventory, a receipt, a sidecar, a bundle or a layout, told by its content.
///
/// # Errors
/// [`BaseError`].
pub fn load_file(path: &Path, jobs: usize) -> Result<Known, BaseError> {
    let metadata =
        std::fs::metadata(path).map_err(|source| BaseError::Io { path: path.to_owned(), source })?;
    if metadata.is_dir() {
        return of_bundle(Bundle::open(path)?, jobs);
    }
    match media_type_of(path)? {
        None => of_bundle(Bundle::open(path)?, jobs),
        Some(kind) if [INVENTORY_TYPE, RECEIPT_TYPE].contains(&kind.as_str()) => {
            Ok(Known::of_inventory(Inventory::read(path)?))
        }
        Some(kind) if kind == RECORD_TYPE => {
            let file = File::open(path).map_err(|source| BaseError::Io { path: path.to_owned(), source })?;
            let (record, id, _) = Record::read_hashed(file)
                .map_err(|source| BaseError::Record { path: path.to_owned(), source })?;
            if !record.failed.is_empty() {
                let why = "it is of a bundle that has images which are not whole; name the bundle itself";
                return Err(BaseError::NoBase { path: path.to_owned(), why: why.to_owned() });
            }
            Ok(of_record(&record, id, path))
        }
        Some(kind) => {
            let shown: String = kind.chars().filter(|c| !c.is_control()).take(80).collect();
            Err(BaseError::NoBase { path: path.to_owned(), why: format!("its media type is `{shown}`") })
        }
    }
}

/// Returns what a JSON document, plain or compressed, says it is; none where it is no JSON object.
///
/// # Errors
/// [`BaseError::Io`] or [`BaseError::NoBase`] if it can't be read.
pub fn media_type_of(path: &Path) -> Result<Option<String>, BaseError> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType", default)]
        media_type: String,
    }
    let io = |source| BaseError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut start = Vec::new();
    Read::take(&mut file, 64).read_to_end(&mut start).map_err(io)?;
    let whole = io::Cursor::new(start.clone()).chain(file);
    let typed: Result<Typed, serde_json::Error> = if start.starts_with(&ZSTD_MAGIC) {
        let decoder = zstd::Decoder::new(whole).map_err(io)?;
        let decoder = Read::take(decoder, MAX_SIZE);
        serde_json::from_reader(BufReader::with_capacity(256 * 1024, decoder))
    } else if start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        serde_json::from_reader(BufReader::with_capacity(256 * 1024, whole))
    } else {
        return Ok(None);
    };
    match typed {
        Ok(typed) => Ok(Some(typed.media_type)),
        Err(error) if start.starts_with(&ZSTD_MAGIC) => Err(BaseError::NoBase {
            path: path.to_owned(),
            why: format!("it is compressed, and not JSON: {error}"),
        }),
        Err(error) => {
            Err(BaseError::NoBase { path: path.to_owned(), why: format!("it is not JSON: {error}") })
        }
    }
}

/// Takes a record without its bundle for a base. Which repository has what is not known of it.
fn of_record(record: &Record, id: Digest, path: &Path) -> Known {
    let mut table = Table::default();
    for row in record.blobs.iter().filter(|row| row.role.is_shipped()) {
        table.add(row.digest, row.size, []);
    }
    // What other patches are made of may have been in between only: it travels again if it is wanted.
    let between: BTreeSet<&Digest> = record.patches.iter().flat_map(|row| &row.bases).collect();
    for row in record.patches.iter().filter(|row| !between.contains(&row.target)) {
        table.add(&row.target, row.size, []);
    }
    add_relied(&mut table, record);
    for image in &record.images {
        table.add_loose_place(Seen::Source(image.name.name.clone()));
    }
    // A sidecar does not say what its bundle is called; the suffix of a delta stays in its name.
    let name = file_name(path).map(|name| match name.strip_suffix(".barge.json") {
        Some(stem) if stem.strip_suffix(".barge").is_some() => stem.to_owned(),
        Some(stem) => format!("{stem}.oci.tar"),
        None => name,
    });
    Known {
        entry: BaseEntry { id, kind: BaseKind::Bundle, name, state: Some(record.state()) },
        target: None,
        taken: String::new(),
        scope: None,
        images: images_of(record),
        table,
    }
}

/// Adds what a delta bundle relies on: whoever has what it brought has that too.
fn add_relied(table: &mut Table, record: &Record) {
    for row in record.absent.iter().filter(|row| row.reason == Reason::Base) {
        table.add(&row.digest, row.size, record.seen(&row));
    }
}

fn images_of(record: &Record) -> Vec<KnownImage> {
    let image = |image: &crate::bundle::record::ImageEntry| KnownImage {
        path: None,
        full_path: None,
        source: Some(image.name.clone()),
        root: image.root.clone(),
    };
    record.images.iter().map(image).collect()
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Takes what the images of a bundle or layout reach for a base.
fn of_bundle(bundle: Bundle, jobs: usize) -> Result<Known, BaseError> {
    let path = bundle.path().to_owned();
    if let Some(fault) = bundle.fault() {
        return Err(BaseError::Damaged { path, fault });
    }
    let bundle = Arc::new(bundle);
    let wishes: Vec<Wish> = bundle
        .names()?
        .into_iter()
        .map(|(name, descriptor)| {
            let named = name.and_then(|name| name.parse::<Reference>().ok()).map(Reference::with_default_tag);
            let selector = descriptor.digest.to_string();
            let name = named.unwrap_or_else(|| nameless(descriptor.digest));
            Wish { name, reference: None, source: 0, selector, platforms: Vec::new(), part: Part::Image }
        })
        .collect();
    let union = Arc::new(Union::new(vec![bundle.clone()]));
    let sources: Vec<Arc<dyn Source>> = vec![union.clone()];
    let select = Held(&union);
    let survey = Spool::temporary().map_err(SurveyError::Spool).and_then(|spool| {
        let options = Options {
            select: &select,
            attachments: Attachments::All,
            keep_unselected: false,
            keep_going: false,
            jobs,
        };
        Survey::run(&sources, &wishes, spool, &options)
    });
    let survey = survey.map_err(|source| BaseError::Survey { path: path.clone(), source })?;
    let graph =
        Graph::build(&survey, &select).map_err(|source| BaseError::Graph { path: path.clone(), source })?;
    let mut table = Table::default();
    let mut needed_by: HashMap<NodeId, BTreeSet<&RepositoryName>> = HashMap::new();
    for image in &graph.images {
        for id in graph.image_closure(image) {
            let needed_by = needed_by.entry(id).or_default();
            if !is_nameless(&image.name) {
                needed_by.insert(&image.name.name);
            }
        }
    }
    for (id, repositories) in needed_by {
        let (digest, node) = (graph.digest(id), graph.node(id));
        let is_here = node.presence == Presence::Shipped && bundle.ships(digest);
        if is_here || node.presence == Presence::Absent(Reason::Base) {
            table.add(digest, node.size, repositories.into_iter().cloned().map(Seen::Source));
        }
    }
    let Some((record, id)) = bundle.record().zip(bundle.id()) else {
        let images = graph.images.iter().filter(|image| !is_nameless(&image.name));
        let images: Vec<KnownImage> = images
            .map(|image| KnownImage {
                path: None,
                full_path: None,
                source: Some(image.name.clone()),
                root: graph.digest(image.root).clone(),
            })
            .collect();
        let id = content_id(&table, &images);
        let entry = BaseEntry { id, kind: BaseKind::Layout, name: file_name(&path), state: None };
        return Ok(Known { entry, target: None, taken: String::new(), scope: None, images, table });
    };
    add_relied(&mut table, record);
    Ok(Known {
        entry: BaseEntry {
            id: id.clone(),
            kind: BaseKind::Bundle,
            name: file_name(&path),
            state: Some(record.state()),
        },
        target: None,
        taken: String::new(),
        scope: None,
        images: images_of(record),
        table,
    })
}

/// A name for what has none, so that it can be surveyed.
fn nameless(digest: Digest) -> Reference {
    let name = RepositoryName { registry: "localhost".to_owned(), repository: "unnamed".to_owned() };
    Reference { name, tag: None, digest: Some(digest) }
}

fn is_nameless(name: &Reference) -> bool {
    *name == nameless(name.digest.clone().unwrap_or_else(|| Digest::sha256(b"")))
}

/// Returns a digest over what a layout holds, which has no ID of its own.
fn content_id(table: &Table, images: &[KnownImage]) -> Digest {
    let mut lines: Vec<String> = table.iter().map(|(digest, size)| format!("{digest} {size}\n")).collect();
    lines.extend(images.iter().filter_map(|image| Some(format!("{} {}\n", image.shown()?, image.root))));
    lines.sort();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for line in lines {
        hasher.update(line.as_bytes());
    }
    hasher.finish()
}
