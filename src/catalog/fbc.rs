//! Reading a file-based catalog.
//!
//! Each file is parsed as it comes from its layer and let go: of a large catalog only what the model keeps stays. What is
//! not looked at, such as the manifests that bundles carry in base64, is skipped and never copied.

mod ignored;

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::document::{self, Document, DocumentHead, Fault};
use super::files::ImageFiles;
use super::{Bundle, Catalog, CatalogError, Channel, Entry, Form, Package};
use crate::oci::descriptor::null_is_default;
use crate::store::Source;

use self::ignored::Ignored;

/// How many bytes of documents are read of a catalog: the largest of the field have some hundred MiB.
const MAX_FILES: u64 = 512 * 1024 * 1024;
/// How many documents, entries of channels, names that those skip and images of bundles a catalog may have together: the
/// largest of the field have some hundred thousand.
const MAX_PARTS: usize = 2_000_000;

/// What matters of an `olm.package`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PackageDocument {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    default_channel: String,
}

/// What matters of an `olm.channel`.
#[derive(Debug, Deserialize)]
struct ChannelDocument {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    package: String,
    #[serde(default, deserialize_with = "null_is_default")]
    entries: Vec<EntryDocument>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryDocument {
    #[serde(deserialize_with = "filled")]
    name: String,
    #[serde(default)]
    replaces: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    skips: Vec<String>,
    #[serde(default)]
    skip_range: Option<String>,
}

/// What matters of an `olm.bundle`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleDocument<'a> {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    package: String,
    #[serde(default, deserialize_with = "null_is_default")]
    image: String,
    #[serde(borrow, default, deserialize_with = "null_is_default")]
    properties: Vec<PropertyDocument<'a>>,
    #[serde(default, deserialize_with = "null_is_default")]
    related_images: Vec<RelatedDocument>,
}

#[derive(Debug, Deserialize)]
struct PropertyDocument<'a> {
    #[serde(rename = "type", default, deserialize_with = "null_is_default")]
    kind: String,
    /// Only looked at where it is the version's: it may be all of a bundle's manifests.
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

/// What matters of an `olm.package` property.
#[derive(Debug, Deserialize)]
pub(super) struct VersionDocument {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) version: String,
}

#[derive(Debug, Deserialize)]
struct RelatedDocument {
    #[serde(default, deserialize_with = "null_is_default")]
    image: String,
}

/// What one document adds to the model.
#[derive(Debug, Clone)]
enum Item {
    Package { name: String, default_channel: String },
    Channel { package: String, name: String, entries: Vec<Entry> },
    Bundle { package: String, name: String, bundle: Bundle },
}

impl Item {
    /// Counts what the model keeps of it.
    fn parts(&self) -> usize {
        1 + match self {
            Self::Package { .. } => 0,
            Self::Channel { entries, .. } => entries.iter().map(|entry| 1 + entry.skips.len()).sum(),
            Self::Bundle { bundle, .. } => bundle.related.len(),
        }
    }
}

fn too_many() -> String {
    format!("the catalog lists more than {MAX_PARTS} bundles, entries and images, and no more are read")
}

/// Reads a text that must not be empty.
fn filled<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| serde::de::Error::custom("an entry has no `name`"))
}

/// What a file comes to.
#[derive(Clone)]
enum Parsed<T> {
    Documents(Result<Vec<T>, Fault>),
    Ignore(Vec<u8>),
}

/// Reads the catalog below `dir`.
pub(super) fn read(source: &dyn Source, files: &ImageFiles, dir: &str) -> Result<Catalog, CatalogError> {
    let mut catalog = Catalog {
        place: files.place().to_owned(),
        image: files.manifest().clone(),
        form: Form::Files,
        path: dir.to_owned(),
        packages: BTreeMap::new(),
    };
    let parts = Cell::new(0_usize);
    let parsed = parse(source, files, dir, &|_, head, json| {
        // As many parts as a document has, as many commas are between them.
        let text = json.get().as_bytes();
        let commas = || text.split(|byte| *byte == b',').count();
        let is_long = text.len() > MAX_PARTS && commas() > MAX_PARTS;
        let item = if is_long { return Err(too_many()) } else { item(&head, json)? };
        parts.set(parts.get() + item.as_ref().map_or(0, Item::parts));
        if parts.get() > MAX_PARTS { Err(too_many()) } else { Ok(item) }
    })?;
    if parsed.is_empty() {
        let (place, digest) = (files.place().to_owned(), files.manifest().digest.clone());
        return Err(CatalogError::NoDocument { place, digest, dir: dir.to_owned() });
    }
    let wrong = |why| CatalogError::Contradiction { place: files.place().to_owned(), why };
    add(&mut catalog, parsed).map_err(wrong)?;
    check(&catalog).map_err(wrong)?;
    Ok(catalog)
}

/// Reads a file-based catalog's documents once more and returns those that `keep` wants, by file and in the order in
/// which they stand there.
///
/// # Errors
/// As [`read`](super::read); none if the image is no file-based catalog.
pub fn documents(
    source: &dyn Source,
    files: &ImageFiles,
    keep: &dyn Fn(&DocumentHead) -> bool,
) -> Result<Vec<Document>, CatalogError> {
    let Some(dir) = files.labels().get(super::FILES_LABEL) else { return Ok(Vec::new()) };
    let parsed = parse(source, files, dir, &|file, head, json| {
        Ok(keep(&head).then(|| Document { file: file.to_owned(), head, json: json.to_owned() }))
    })?;
    Ok(parsed.into_iter().map(|(_, document)| document).collect())
}

/// What `make` is given of each document: its file, what it says it is, and its text.
type Make<'a, T> = dyn Fn(&str, DocumentHead, &RawValue) -> Result<Option<T>, String> + 'a;

/// Parses all files below a folder that are not ignored, and returns what `make` made, with the file each is from.
fn parse<T: Clone>(
    source: &dyn Source,
    files: &ImageFiles,
    dir: &str,
    make: &Make<'_, T>,
) -> Result<Vec<(Arc<str>, T)>, CatalogError> {
    let parsed: BTreeMap<String, Arc<Parsed<T>>> = files.collect(source, dir, MAX_FILES, |path, bytes| {
        if is_ignore_file(path) {
            return Arc::new(Parsed::Ignore(bytes));
        }
        let mut made = Vec::new();
        let outcome = document::each(&bytes, &mut |head, json| {
            made.extend(make(path, head, json)?);
            Ok(())
        });
        Arc::new(Parsed::Documents(outcome.map(|()| made)))
    })?;
    let file_name = |path: &str| format!("/{}/{path}", dir.trim_matches('/')).replace("//", "/");
    let mut ignored = Ignored::default();
    for (path, parsed) in &parsed {
        if let Parsed::Ignore(bytes) = &**parsed {
            ignored.add(path, bytes).map_err(|(line, why)| CatalogError::Ignore {
                place: files.place().to_owned(),
                file: file_name(path),
                line,
                why,
            })?;
        }
    }
    let mut all = Vec::new();
    for (path, parsed) in parsed {
        if ignored.has(&path) {
            continue;
        }
        // A hard link makes two of one.
        let made = match Arc::unwrap_or_clone(parsed) {
            Parsed::Documents(outcome) => outcome,
            Parsed::Ignore(_) => continue,
        };
        let made = made.map_err(|fault| CatalogError::Document {
            place: files.place().to_owned(),
            file: file_name(&path),
            number: fault.number,
            line: fault.line,
            why: fault.why,
        })?;
        let name: Arc<str> = file_name(&path).into();
        all.extend(made.into_iter().map(|made| (name.clone(), made)));
    }
    Ok(all)
}

fn is_ignore_file(path: &str) -> bool {
    path.rsplit('/').next() == Some(ignored::FILE_NAME)
}

/// Reads what matters of a document; nothing of kinds that are only carried along.
fn item(head: &DocumentHead, json: &RawValue) -> Result<Option<Item>, String> {
    let wrong = |error: serde_json::Error| {
        let text = error.to_string();
        format!("the `{}` {}can't be understood: {text}", head.schema, quoted(&head.name))
    };
    let item = match head.schema.as_str() {
        "olm.package" => {
            let document: PackageDocument = serde_json::from_str(json.get()).map_err(wrong)?;
            Item::Package { name: document.name, default_channel: document.default_channel }
        }
        "olm.channel" => {
            let document: ChannelDocument = serde_json::from_str(json.get()).map_err(wrong)?;
            let entries = document.entries.into_iter().map(|entry| Entry {
                name: entry.name,
                replaces: entry.replaces.filter(|name| !name.is_empty()),
                skips: entry.skips.into_iter().filter(|name| !name.is_empty()).collect(),
                skip_range: entry.skip_range.filter(|range| !range.is_empty()),
            });
            Item::Channel { package: document.package, name: document.name, entries: entries.collect() }
        }
        "olm.bundle" => {
            let document: BundleDocument<'_> = serde_json::from_str(json.get()).map_err(wrong)?;
            let version = document.properties.iter().find(|property| property.kind == "olm.package");
            let version = match version.and_then(|property| property.value) {
                Some(value) => serde_json::from_str::<VersionDocument>(value.get()).map_err(wrong)?.version,
                None => String::new(),
            };
            let related = document.related_images.into_iter().map(|related| related.image);
            let related = related.filter(|image| !image.is_empty()).collect();
            let bundle = Bundle { version, image: document.image, related };
            Item::Bundle { package: document.package, name: document.name, bundle }
        }
        _ => return Ok(None),
    };
    let (Item::Package { name, .. } | Item::Channel { name, .. } | Item::Bundle { name, .. }) = &item;
    if name.is_empty() {
        return Err(format!("the `{}` has no `name`", head.schema));
    }
    if let Item::Channel { package, .. } | Item::Bundle { package, .. } = &item
        && package.is_empty()
    {
        return Err(format!("the `{}` {}has no `package`", head.schema, quoted(name)));
    }
    Ok(Some(item))
}

fn quoted(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("`{name}` ") }
}

/// Adds what documents say: packages first, since files come in any order.
fn add(catalog: &mut Catalog, items: Vec<(Arc<str>, Item)>) -> Result<(), String> {
    for (file, item) in &items {
        if let Item::Package { name, default_channel } = item {
            let default_channel = Some(default_channel.clone()).filter(|channel| !channel.is_empty());
            let package = Package { default_channel, ..Package::default() };
            if catalog.packages.insert(name.clone(), package).is_some() {
                return Err(format!("there are two packages `{name}`, the second in `{file}`"));
            }
        }
    }
    for (file, item) in items {
        match item {
            Item::Package { .. } => {}
            Item::Channel { package, name, entries } => {
                let of = catalog.packages.get_mut(&package);
                let of = of.ok_or_else(|| stray("channel", &name, &package, &file))?;
                if of.channels.contains_key(&name) {
                    return Err(twice("channels", &name, &package, &file));
                }
                of.channels.insert(name, Channel { entries });
            }
            Item::Bundle { package, name, bundle } => {
                let of = catalog.packages.get_mut(&package);
                let of = of.ok_or_else(|| stray("bundle", &name, &package, &file))?;
                if of.bundles.contains_key(&name) {
                    return Err(twice("bundles", &name, &package, &file));
                }
                of.bundles.insert(name, bundle);
            }
        }
    }
    Ok(())
}

fn stray(what: &str, name: &str, package: &str, file: &str) -> String {
    format!(
        "the {what} `{name}` in `{file}` is of the package `{package}`, which has no `olm.package` document"
    )
}

fn twice(what: &str, name: &str, package: &str, file: &str) -> String {
    format!("the package `{package}` has two {what} `{name}`, the second in `{file}`")
}

/// Checks that all that is named is there.
fn check(catalog: &Catalog) -> Result<(), String> {
    for (name, package) in &catalog.packages {
        match &package.default_channel {
            None => return Err(format!("the package `{name}` has no `defaultChannel`")),
            Some(channel) if !package.channels.contains_key(channel) => {
                return Err(format!("the package `{name}` has no channel `{channel}`, its `defaultChannel`"));
            }
            Some(_) => {}
        }
        for (channel, entries) in &package.channels {
            let mut seen = HashSet::new();
            for entry in &entries.entries {
                if !package.bundles.contains_key(&entry.name) {
                    return Err(format!(
                        "the channel `{channel}` of the package `{name}` lists `{}`, which has no `olm.bundle` document",
                        entry.name
                    ));
                }
                if !seen.insert(&entry.name) {
                    return Err(format!(
                        "the channel `{channel}` of the package `{name}` lists `{}` twice",
                        entry.name
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
