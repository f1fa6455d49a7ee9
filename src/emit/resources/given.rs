//! What is at a mirror, as bundles, their records and receipts of pushes tell it.
//!
//! A receipt knows better than a bundle: it says what was put in place, under which names and digests. So a bundle that a
//! receipt is about counts for its signatures only.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Mirrored;
use super::signatures::{Signature, signatures};
use crate::base::{BaseError, media_type_of};
use crate::bundle::Bundle;
use crate::bundle::chain::file_name;
use crate::bundle::record::{RECORD_TYPE, Record, RecordError};
use crate::graph::Part;
use crate::graph::reliance::BaseEntry;
use crate::inventory::{INVENTORY_TYPE, Inventory, InventoryError, RECEIPT_TYPE};
use crate::oci::{Digest, Reference};
use crate::push::names::{Destination, Naming, NamingError};
use crate::select::Reason;
use crate::store::{StoreError, is_attached_tag};

/// Something that tells what is at a mirror.
pub enum Paper {
    /// A bundle, or a layout of another tool.
    Bundle(Arc<Bundle>),
    /// The record of a bundle, without it.
    Record {
        /// The file.
        path: PathBuf,
        /// The record.
        record: Box<Record>,
        /// The bundle ID.
        id: Digest,
    },
    /// The receipt of a push.
    Receipt {
        /// The file.
        path: PathBuf,
        /// The receipt.
        receipt: Box<Inventory>,
    },
}

/// Why it can't be told what is at a mirror.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// A bundle can't be read, or a signature in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A receipt can't be read.
    #[error(transparent)]
    Receipt(#[from] InventoryError),
    /// A record can't be read.
    #[error("the record {} can't be read", .0.display())]
    Record(PathBuf, #[source] RecordError),
    /// A file can't be read.
    #[error("{} can't be read: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another document.
    #[error("{} is {what}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A receipt from which names were left out.
    #[error("{} has no names: they were left out of it", .0.display())]
    Nameless(PathBuf),
    /// Names can't be made.
    #[error(transparent)]
    Naming(#[from] NamingError),
    /// A bundle, and no registry.
    #[error("{0} does not say to which registry it was pushed")]
    NoRegistry(String),
    /// Rules for names, and nothing to name.
    #[error(
        "receipts say under which names images are: --map, --strip-registry and --max-path-components have no say"
    )]
    Unnamed,
    /// A registry with a path that is not that of the receipt.
    #[error("{} is of a push to {target}, and {wanted} has another path", .path.display())]
    OtherPath {
        /// The receipt.
        path: PathBuf,
        /// The target it names.
        target: Destination,
        /// The one that was given.
        wanted: Destination,
    },
}

/// How images are called at the mirror.
#[derive(Debug, Clone)]
pub struct Names {
    /// As a push of bundles would call them; none where no registry was given.
    pub naming: Option<Naming>,
    /// Whether anything but the registry was said.
    pub has_rules: bool,
}

/// What is at the mirror, and what is not.
#[derive(Debug, Default)]
pub struct Given {
    /// The images, sorted.
    pub images: Vec<Mirrored>,
    /// Signatures of releases.
    pub signatures: Vec<Signature>,
    /// What is to be said: causes, and what each concerns.
    pub said: BTreeMap<String, BTreeSet<String>>,
    /// Images that are not in place: their names, and why.
    pub left_out: BTreeMap<String, String>,
}

impl Paper {
    /// Reads a bundle, a record or a receipt.
    ///
    /// # Errors
    /// [`GivenError`].
    pub fn read(path: &Path) -> Result<Self, GivenError> {
        let other = |what| GivenError::Other { path: path.to_owned(), what };
        let media_type = if path.is_dir() { Ok(None) } else { media_type_of(path) };
        match media_type {
            Ok(Some(media_type)) => match media_type.as_str() {
                RECORD_TYPE => {
                    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
                    let (record, id, _) = Record::read_hashed(file)
                        .map_err(|error| GivenError::Record(path.to_owned(), error))?;
                    Ok(Self::Record { path: path.to_owned(), record: Box::new(record), id })
                }
                RECEIPT_TYPE => {
                    Ok(Self::Receipt { path: path.to_owned(), receipt: Box::new(Inventory::read(path)?) })
                }
                INVENTORY_TYPE => {
                    Err(other("an inventory, which does not know by which names images were pulled"))
                }
                _ => Err(other("no bundle, no record of one and no receipt")),
            },
            Err(BaseError::NoBase { why, .. }) if Bundle::open(path).is_err() => {
                Err(GivenError::Unreadable { path: path.to_owned(), why })
            }
            Ok(None) | Err(_) => Ok(Self::Bundle(Arc::new(Bundle::open(path)?))),
        }
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> GivenError {
    GivenError::Unreadable { path: path.to_owned(), why: error.to_string() }
}

/// Reads from all papers together what is at the mirror.
///
/// # Errors
/// [`GivenError`].
pub fn read(papers: &[Paper], names: &Names) -> Result<Given, GivenError> {
    let mut given = Given::default();
    let told: HashSet<&Digest> = papers
        .iter()
        .flat_map(|paper| match paper {
            Paper::Receipt { receipt, .. } => receipt.bundles.as_slice(),
            _ => &[],
        })
        .collect();
    let mut lots = Vec::new();
    for paper in papers {
        let lot = Lot::of(paper)?;
        lots.extend(lot.filter(|lot| lot.id.as_ref().is_none_or(|id| !told.contains(id))));
    }
    if lots.is_empty() && names.has_rules {
        return Err(GivenError::Unnamed);
    }
    if let (Some(lot), None) = (lots.first(), &names.naming) {
        return Err(GivenError::NoRegistry(lot.label.clone()));
    }
    let mut found: BTreeMap<(Reference, Reference), Mirrored> = BTreeMap::new();
    if let Some(naming) = &names.naming {
        for lot in lots.iter().filter(|lot| lot.is_sparse) {
            let cause = "left platforms out: if its push had --sparse rewrite or single, digests are others, which only its \
                         receipt knows: give that";
            given.said.entry(cause.to_owned()).or_default().insert(lot.label.clone());
        }
        let entries = merge(lots, &mut given);
        let targets = naming.targets(entries.iter().map(|entry| (&entry.name, &entry.root)))?;
        for (entry, target) in entries.into_iter().zip(targets) {
            let (root, now) = (meant(entry.reference.as_ref(), &entry.root), entry.root);
            let reference = entry.reference.unwrap_or(entry.name);
            let key = (without_digest(&reference), target.clone());
            found.insert(key, Mirrored { reference, target, root, now, part: entry.part });
        }
    }
    let mut receipts: Vec<(&PathBuf, &Inventory)> = papers
        .iter()
        .filter_map(|paper| match paper {
            Paper::Receipt { path, receipt } => Some((path, &**receipt)),
            _ => None,
        })
        .collect();
    // What was taken later knows better; of two of one second, the order must not depend on that of the arguments.
    receipts.sort_by_cached_key(|(_, receipt)| {
        (receipt.taken.clone(), receipt.content.id(), receipt.target.clone())
    });
    for (path, receipt) in receipts {
        take_receipt(path, receipt, names, &mut found, &mut given)?;
    }
    given.images = found.into_values().collect();
    let in_place: BTreeSet<String> = given.images.iter().map(|image| image.target.to_string()).collect();
    given.left_out.retain(|target, _| !in_place.contains(target));
    read_signatures(papers, &mut given)?;
    Ok(given)
}

/// Returns the digest that an image had where it was pulled, of which `root` may be a changed copy.
fn meant(reference: Option<&Reference>, root: &Digest) -> Digest {
    reference.and_then(|reference| reference.digest.as_ref()).unwrap_or(root).clone()
}

/// Returns what keeps references apart: what a tag meant when it was pulled is no name.
fn without_digest(reference: &Reference) -> Reference {
    let digest = if reference.tag.is_some() { None } else { reference.digest.clone() };
    Reference { digest, ..reference.clone() }
}

fn take_receipt(
    path: &Path,
    receipt: &Inventory,
    names: &Names,
    found: &mut BTreeMap<(Reference, Reference), Mirrored>,
    given: &mut Given,
) -> Result<(), GivenError> {
    if receipt.target.is_none() && !receipt.outcomes.is_empty() {
        return Err(GivenError::Nameless(path.to_owned()));
    }
    let own: Option<Destination> = receipt.target.as_deref().and_then(|target| target.parse().ok());
    let wanted = names.naming.as_ref().map(|naming| &naming.destination);
    if let (Some(target), Some(wanted)) = (&own, wanted)
        && !wanted.prefix.is_empty()
        && wanted.prefix != target.prefix
    {
        let (path, target, wanted) = (path.to_owned(), target.clone(), wanted.clone());
        return Err(GivenError::OtherPath { path, target, wanted });
    }
    for row in &receipt.outcomes {
        let (Some(image), Some(target)) = (&row.image, &row.target) else {
            return Err(GivenError::Nameless(path.to_owned()));
        };
        let mut target = target.clone();
        if let Some(wanted) = wanted {
            target.name.registry.clone_from(&wanted.registry);
        }
        if !matches!(row.outcome.as_str(), "pushed" | "unchanged") {
            let why = row.why.clone().unwrap_or_else(|| format!("it was {}", row.outcome));
            given.left_out.insert(target.to_string(), format!("{image}: {why}"));
            continue;
        }
        let reference = row.reference.clone().unwrap_or_else(|| image.clone());
        let now = row.new_root.clone().unwrap_or_else(|| row.root.clone());
        let root = meant(row.reference.as_ref(), &row.root);
        let mirrored = Mirrored { reference, target, root, now, part: row.part };
        found.insert((without_digest(&mirrored.reference), mirrored.target.clone()), mirrored);
    }
    Ok(())
}

/// Reads the signatures of the releases that are at the mirror, and says which have none.
fn read_signatures(papers: &[Paper], given: &mut Given) -> Result<(), GivenError> {
    let bundles: Vec<&Arc<Bundle>> = papers
        .iter()
        .filter_map(|paper| match paper {
            Paper::Bundle(bundle) => Some(bundle),
            _ => None,
        })
        .collect();
    for image in given.images.iter().filter(|image| image.part == Part::Release) {
        let mut found = Vec::new();
        for bundle in &bundles {
            found.extend(signatures(&***bundle, &image.root)?);
        }
        if !found.is_empty() && !image.answers_digest() {
            let cause = "is signed by the digest that it had: clusters will not take it for signed";
            given.said.entry(cause.to_owned()).or_default().insert(image.reference.to_string());
        }
        if found.is_empty() {
            let cause = match bundles.as_slice() {
                [] => {
                    "its signatures are in the bundle, which was not given: name that too for the ConfigMap of signatures"
                }
                _ => {
                    "has no signature with it, and clusters update to signed releases only: pack it with one"
                }
            };
            given.said.entry(cause.to_owned()).or_default().insert(image.reference.to_string());
        }
        given.signatures.extend(found);
    }
    given.signatures.sort();
    given.signatures.dedup();
    Ok(())
}

/// An image as a bundle has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: Reference,
    reference: Option<Reference>,
    part: Part,
    root: Digest,
}

/// What a bundle or record says.
struct Lot {
    label: String,
    id: Option<Digest>,
    state: Option<String>,
    bases: Vec<BaseEntry>,
    removed: Vec<String>,
    failed: Vec<String>,
    images: Vec<Entry>,
    is_sparse: bool,
}

impl Lot {
    /// Reads the names; none of a receipt, which is another thing.
    fn of(paper: &Paper) -> Result<Option<Self>, GivenError> {
        Ok(match paper {
            Paper::Receipt { .. } => None,
            Paper::Record { path, record, id } => {
                let label = path.file_name().map(|name| name.to_string_lossy().into_owned());
                Some(Self::of_record(label.unwrap_or_default(), record, id.clone()))
            }
            Paper::Bundle(bundle) => Some(match (bundle.record(), bundle.id()) {
                (Some(record), Some(id)) => Self::of_record(file_name(bundle), record, id.clone()),
                _ => Self::of_layout(bundle)?,
            }),
        })
    }

    fn of_record(label: String, record: &Record, id: Digest) -> Self {
        let base = record.base.as_deref();
        let images = record.images.iter().map(|image| Entry {
            name: image.name.clone().with_default_tag(),
            reference: image.reference.clone(),
            part: image.part,
            root: image.root.clone(),
        });
        Self {
            label,
            id: Some(id),
            state: Some(record.state()),
            bases: base.map(|base| base.bases.clone()).unwrap_or_default(),
            removed: base.map(|base| base.removed.clone()).unwrap_or_default(),
            failed: record.failed.iter().map(|entry| entry.name.to_string()).collect(),
            images: images.filter(|entry| is_image(&entry.name)).collect(),
            is_sparse: record.absent.iter().any(|row| row.reason == Reason::Platform),
        }
    }

    fn of_layout(bundle: &Bundle) -> Result<Self, GivenError> {
        let named = bundle.names()?.into_iter().filter_map(|(name, descriptor)| {
            let name = name?.parse::<Reference>().ok()?.with_default_tag();
            Some(Entry { name, reference: None, part: Part::default(), root: descriptor.digest })
        });
        Ok(Self {
            label: file_name(bundle),
            id: None,
            state: None,
            bases: Vec::new(),
            removed: Vec::new(),
            failed: Vec::new(),
            images: named.filter(|entry| is_image(&entry.name)).collect(),
            is_sparse: false,
        })
    }

    /// Returns whether it builds on another one, or on what leads to the same state.
    fn follows(&self, other: &Self) -> bool {
        self.bases.iter().any(|base| {
            other.id.as_ref() == Some(&base.id) || (base.state.is_some() && base.state == other.state)
        })
    }
}

/// Returns whether a name is that of an image, and not of what is attached to one.
fn is_image(name: &Reference) -> bool {
    !name.tag.as_deref().is_some_and(is_attached_tag)
}

/// Puts what several bundles say into one list by name, each after those that it follows, otherwise by their IDs.
fn merge(mut lots: Vec<Lot>, given: &mut Given) -> Vec<Entry> {
    lots.sort_by_cached_key(|lot| {
        let id = lot.id.as_ref().map(ToString::to_string);
        (!lot.bases.is_empty(), id, lot.label.clone())
    });
    lots.dedup_by(|a, b| a.id.is_some() && a.id == b.id);
    let mut ordered: Vec<(Lot, HashSet<usize>)> = Vec::new();
    while !lots.is_empty() {
        let is_free = |lot: &Lot| {
            !lots.iter().any(|other| other.id != lot.id && lot.follows(other) && !other.follows(lot))
        };
        let at = lots.iter().position(is_free).unwrap_or(0);
        let lot = lots.remove(at);
        let mut before = HashSet::new();
        for (at, (other, its)) in ordered.iter().enumerate() {
            if lot.follows(other) {
                before.insert(at);
                before.extend(its);
            }
        }
        ordered.push((lot, before));
    }
    let mut images: BTreeMap<String, (usize, Entry)> = BTreeMap::new();
    let mut failed: BTreeSet<String> = BTreeSet::new();
    for (at, (lot, before)) in ordered.iter().enumerate() {
        for name in &lot.removed {
            images.retain(|known, (_, entry)| known != name && entry.name.path() != *name);
        }
        failed.extend(lot.failed.iter().cloned());
        for entry in &lot.images {
            let replaced = images.insert(entry.name.to_string(), (at, entry.clone()));
            if let Some((earlier, other)) = replaced
                && other.root != entry.root
                && !before.contains(&earlier)
            {
                let cause = "means different images in bundles of which neither follows the other";
                let item = format!(
                    "{}: that of {} is taken, not that of {}",
                    entry.name, lot.label, ordered[earlier].0.label
                );
                given.said.entry(cause.to_owned()).or_default().insert(item);
            }
        }
    }
    for name in failed.into_iter().filter(|name| !images.contains_key(name)) {
        let why = format!("{name}: it could not be had when it was packed");
        given.left_out.insert(name, why);
    }
    images.into_values().map(|(_, entry)| entry).collect()
}
