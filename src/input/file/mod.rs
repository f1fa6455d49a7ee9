//! Files of what is wanted, of five kinds: barge.yaml, mapping files, `ImageSetConfiguration`, hauler's manifests, and lists.
//!
//! The kind is told by the content, never by the name. Reading touches nothing but the file: paths that it names are not
//! opened, registries are not asked. What a file says that can't be done is an error with its line, or a note in the
//! [`Order`], never passed over. Paths in YAML files are relative to the file's folder, those in lists and mapping
//! files to where barge runs, as on the command line.
//!
//! | module | what it reads |
//! | --- | --- |
//! | `own` | barge.yaml |
//! | `mapping` | mapping files, and plain lists |
//! | `image_set` | `ImageSetConfiguration` |
//! | `hauler` | hauler's manifests |
//! | `packages`, `chart` | what several of them say alike |
//! | `yaml`, `page` | YAML with lines and limits; a file while it is read |
//! | `clash` | what stands in a file twice |

mod chart;
mod clash;
mod error;
mod hauler;
mod image_set;
mod mapping;
mod own;
mod packages;
mod page;
#[cfg(test)]
mod tests;
mod yaml;

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

pub use error::FileError;

use self::page::Page;
use self::yaml::{At, line};
use super::argument::Argument;
use super::{Order, Spot};
use crate::oci::{Reference, RepositoryName};

/// The longest file, in bytes: 100,000 lines of 160 bytes.
const MAX_FILE: u64 = 16 << 20;

/// What tells a YAML document's kind; everything else in it is passed over.
#[derive(Debug, Deserialize)]
struct Head {
    #[serde(rename = "apiVersion")]
    api_version: Option<At<String>>,
    kind: Option<At<String>>,
}

/// Reads a file of what is wanted, whatever kind it is.
///
/// # Errors
/// [`FileError`], with the line where there is one: it can't be read, is none of the kinds, or is wrong.
pub fn read(path: &Path) -> Result<Order, FileError> {
    let text = text_of(path)?;
    // The mark that some editors begin files with is no content.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut page = Page::new(path);
    if is_yaml(text) {
        read_yaml(&mut page, text)?;
    } else {
        mapping::read(&mut page, text)?;
    }
    clash::settle(&mut page)?;
    if is_empty(&page.order) {
        page.note("this asks for nothing");
    }
    Ok(page.order)
}

fn text_of(path: &Path) -> Result<String, FileError> {
    let failed = |error| FileError::Read(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLong { path: path.to_owned(), limit: MAX_FILE });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        FileError::NotText(Spot { file: path.to_owned(), line })
    })
}

/// Tells YAML (and JSON, which is YAML) from lines of references, by the first line that says anything.
fn is_yaml(text: &str) -> bool {
    let says = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let Some(line) = text.lines().map(str::trim).find(says) else { return false };
    // No reference has a colon before a space or the end of a line, as the key of a field has.
    let is_key = |line: &str| {
        line.find(':').is_some_and(|colon| {
            let (key, rest) = line.split_at(colon);
            !key.contains(char::is_whitespace)
                && (rest.len() == 1 || rest[1..].starts_with(char::is_whitespace))
        })
    };
    line.starts_with(['{', '[', '%', '"', '\'', '&', '!', '?'])
        || line == "-"
        || ["---", "- ", "apiVersion"].iter().any(|start| line.starts_with(start))
        || is_key(line)
}

fn read_yaml(page: &mut Page<'_>, text: &str) -> Result<(), FileError> {
    let heads: Vec<At<Head>> = yaml::documents(page.path, text).map_err(|error| match error {
        FileError::Wrong { at, what, .. } if what == yaml::NOT_FIELDS => {
            FileError::Kind { at, why: "this YAML has no fields, and every kind of file has".to_owned() }
        }
        other => other,
    })?;
    let unknown = |at: usize, why: String| FileError::Kind { at: page.spot(at), why };
    let Some(head) = heads.first() else {
        return Err(unknown(1, "there is nothing in it".to_owned()));
    };
    let Some(version) = &head.value.api_version else {
        return Err(unknown(line(head), "this YAML does not say its `apiVersion`".to_owned()));
    };
    let kind = head.value.kind.as_ref();
    let single = || match heads.get(1) {
        None => Ok(()),
        Some(second) => {
            Err(page.wrong(line(second), "there is a second document here, and a file of this kind has one"))
        }
    };
    match version.value.as_str() {
        own::API_VERSION => {
            if let Some(kind) = kind.filter(|kind| kind.value != own::KIND) {
                let why =
                    format!("`kind: {}` of {} is not known, only {}", kind.value, version.value, own::KIND);
                return Err(unknown(line(kind), why));
            }
            single()?;
            let documents: Vec<At<own::Document>> = yaml::documents(page.path, text)?;
            documents.iter().try_for_each(|document| own::read(page, &document.value))
        }
        other if other.starts_with(image_set::GROUP) => {
            let at = kind.filter(|kind| kind.value != image_set::KIND).map_or(line(version), line);
            image_set::check_version(page, at, other, kind.map(|kind| kind.value.as_str()))?;
            single()?;
            let documents: Vec<At<image_set::Document>> = yaml::documents(page.path, text)?;
            documents.iter().try_for_each(|document| image_set::read(page, &document.value))
        }
        other if other.starts_with(hauler::GROUP) => {
            let documents: Vec<At<hauler::Document>> = yaml::documents(page.path, text)?;
            hauler::read(page, &documents)
        }
        other => {
            let other: String = other.chars().take(100).collect();
            Err(unknown(line(version), format!("`apiVersion: {other}` is none that barge reads")))
        }
    }
}

/// Names a release image as a cluster expects it: `HOST/openshift/release-images:TAG`.
fn name_release(argument: &mut Argument) {
    if let Some(reference) = &argument.reference {
        let registry = reference.name.registry.clone();
        let name = RepositoryName { registry, repository: "openshift/release-images".to_owned() };
        argument.name = Some(page::inherit(Reference { name, tag: None, digest: None }, argument));
    }
}

/// Tells whether nothing is asked for.
fn is_empty(order: &Order) -> bool {
    let Order { images, tags, catalogs, charts, releases, .. } = order;
    images.is_empty() && tags.is_empty() && catalogs.is_empty() && charts.is_empty() && releases.is_empty()
}
