//! The layer that a filtered catalog has on top: the old folder whited out, and the documents that stay.

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::object::Object;
use crate::catalog::{Document, SelectedPackage, Selection};
use crate::oci::Digest;
use crate::store::tar::Tarball;

/// The folder that the documents are written to, in the image.
pub(super) const FOLDER: &str = "configs";
/// The file of a package's documents, and of those of none.
const FILE: &str = "catalog.json";

/// Returns whether a document may stay; its parts that go are taken out by [`shortened`].
pub(super) fn stays(selection: &Selection, schema: &str, package: Option<&str>, name: &str) -> bool {
    let Some(package) = package else { return true };
    let Some(chosen) = selection.packages.get(package) else { return false };
    match schema {
        "olm.channel" => chosen.channels.contains_key(name),
        "olm.bundle" => chosen.bundles.contains_key(name),
        _ => true,
    }
}

/// What a deprecation is about.
#[derive(Deserialize)]
struct Deprecation {
    #[serde(default)]
    reference: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    schema: Option<String>,
    name: Option<String>,
}

/// Takes out of a document what does not stay: a channel's other entries, deprecations of what is gone, which opm refuses, and
/// another default channel. A document of which all stays is returned as it is written.
pub(super) fn shortened(
    document: &Document,
    selection: &Selection,
) -> Result<Box<RawValue>, serde_json::Error> {
    let chosen = document.head.of_package().and_then(|package| selection.packages.get(package));
    let Some(chosen) = chosen else { return Ok(document.json.clone()) };
    let mut object = Object::parse(document.json.get().as_bytes())?;
    let has_changed = match document.head.schema.as_str() {
        "olm.package" => {
            let default = object.read::<String>("defaultChannel")?;
            match &chosen.default_channel {
                Some(channel) if default.as_ref() != Some(channel) => {
                    object.set("defaultChannel", channel)?;
                    true
                }
                _ => false,
            }
        }
        "olm.channel" => {
            let kept = chosen.channels.get(&document.head.name).into_iter().flatten();
            let kept: Vec<&str> = kept.map(|entry| entry.name.as_str()).collect();
            retain(&mut object, |entry: &Named| {
                entry.name.as_deref().is_some_and(|name| kept.contains(&name))
            })?
        }
        "olm.deprecations" => retain(&mut object, |entry: &Deprecation| is_about(entry, chosen))?,
        _ => false,
    };
    if has_changed { to_raw_value(&object) } else { Ok(document.json.clone()) }
}

/// Keeps some `entries` of a document; tells whether any went.
fn retain<T: for<'a> Deserialize<'a>>(
    object: &mut Object,
    keep: impl Fn(&T) -> bool,
) -> Result<bool, serde_json::Error> {
    let Some(entries) = object.read::<Vec<Box<RawValue>>>("entries")? else { return Ok(false) };
    let count = entries.len();
    let mut kept = Vec::new();
    for entry in entries {
        if keep(&serde_json::from_str(entry.get())?) {
            kept.push(entry);
        }
    }
    let has_changed = kept.len() < count;
    if has_changed {
        object.set("entries", &kept)?;
    }
    Ok(has_changed)
}

/// Returns whether a deprecation is about something that stays.
fn is_about(entry: &Deprecation, chosen: &SelectedPackage) -> bool {
    let Some(Named { schema, name }) = &entry.reference else { return true };
    let name = name.as_deref().unwrap_or_default();
    match schema.as_deref() {
        Some("olm.channel") => chosen.channels.contains_key(name),
        Some("olm.bundle") => chosen.bundles.contains_key(name),
        _ => true,
    }
}

/// Writes the layer: gzip, and the digest of the tar in it. `old` is the folder that the catalog had its documents in, as it
/// is named from the root.
pub(super) fn write(
    old: &str,
    documents: &[Document],
    selection: &Selection,
) -> Result<(Vec<u8>, Digest), String> {
    let mut files: BTreeMap<Option<&str>, Vec<u8>> = BTreeMap::new();
    for document in documents {
        let package = document.head.of_package();
        if let Some(package) = package
            && !is_file_name(package)
        {
            return Err(format!("its package `{}` can't be the name of a folder", package.escape_debug()));
        }
        let json = shortened(document, selection).map_err(|error| {
            format!(
                "`{}` of `{}`: {error}",
                document.head.schema.escape_debug(),
                document.file.escape_debug()
            )
        })?;
        let file = files.entry(package).or_default();
        file.extend(json.get().as_bytes());
        file.push(b'\n');
    }
    pack(old, files).map_err(|error| format!("its layer can't be written: {error}"))
}

fn pack(old: &str, files: BTreeMap<Option<&str>, Vec<u8>>) -> io::Result<(Vec<u8>, Digest)> {
    let mut tar = Tarball::new();
    let mut hidden = vec![format!(".wh.{FOLDER}")];
    // What is in the new folder goes with the old one of its name.
    if old != FOLDER && !old.starts_with(&format!("{FOLDER}/")) {
        let (above, name) = old.rsplit_once('/').map_or(("", old), |(above, name)| (above, name));
        let slash = if above.is_empty() { "" } else { "/" };
        hidden.push(format!("{above}{slash}.wh.{name}"));
    }
    hidden.sort();
    for name in hidden {
        tar.file(&name, &[])?;
    }
    tar.folder(FOLDER)?;
    for (package, bytes) in files {
        match package {
            None => tar.file(&format!("{FOLDER}/{FILE}"), &bytes)?,
            Some(package) => {
                tar.folder(&format!("{FOLDER}/{package}"))?;
                tar.file(&format!("{FOLDER}/{package}/{FILE}"), &bytes)?;
            }
        }
    }
    tar.into_gzip()
}

/// Returns whether a package's name can be that of a folder beside the others.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && name != FILE
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_folder_is_whited_out_and_the_new_one_stands() {
        for (old, hidden) in [
            ("configs", vec![".wh.configs"]),
            ("configs/sub", vec![".wh.configs"]),
            ("catalog", vec![".wh.catalog", ".wh.configs"]),
            ("a/b", vec![".wh.configs", "a/.wh.b"]),
        ] {
            let (bytes, _) = pack(old, BTreeMap::from([(None, b"{}".to_vec())])).unwrap();
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
            let names =
                archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
            let names: Vec<String> = names.collect();
            assert_eq!(names[..hidden.len()], hidden[..], "{old}");
            assert_eq!(names[hidden.len()..], ["configs/", "configs/catalog.json"]);
        }
    }
}
