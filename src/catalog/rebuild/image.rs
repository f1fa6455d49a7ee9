//! Configs and manifests of a rebuilt catalog: what must change is changed, all else stays as it is written.

use serde::Serialize;
use serde_json::value::RawValue;

use super::layer::FOLDER;
use super::object::Object;
use crate::catalog::FILES_LABEL;
use crate::oci::{Descriptor, Digest, media_type};

/// The time that the new layer's history says, since the same catalog is the same bytes.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// Docker's gzip-compressed layer.
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'a str,
}

/// A descriptor of new content.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
}

/// Adds a layer to a config and makes it serve the new folder.
pub(super) fn config(bytes: &[u8], diff_id: &Digest) -> Result<Vec<u8>, serde_json::Error> {
    let mut document = Object::parse(bytes)?;
    let mut rootfs = document.read::<Object>("rootfs")?.unwrap_or_default();
    let mut diff_ids = rootfs.read::<Vec<Box<RawValue>>>("diff_ids")?.unwrap_or_default();
    diff_ids.push(serde_json::value::to_raw_value(diff_id)?);
    rootfs.set("diff_ids", &diff_ids)?;
    document.set("rootfs", &rootfs)?;
    // Without any history there is none to go on with: one entry for many layers would be wrong.
    if let Some(mut history) = document.read::<Vec<Box<RawValue>>>("history")? {
        let entry = History { created: CREATED, created_by: "barge: the catalog filtered" };
        history.push(serde_json::value::to_raw_value(&entry)?);
        document.set("history", &history)?;
    }
    let mut config = document.read::<Object>("config")?.unwrap_or_default();
    let mut labels = config.read::<Object>("Labels")?.unwrap_or_default();
    labels.set(FILES_LABEL, &format!("/{FOLDER}"))?;
    config.set("Labels", &labels)?;
    let entrypoint = config.read::<Vec<String>>("Entrypoint")?.unwrap_or_default();
    let kept = without_cache(&entrypoint);
    let serves = kept.iter().any(|word| word == "serve");
    if kept.len() < entrypoint.len() {
        config.set("Entrypoint", &kept)?;
    }
    if serves {
        // `serve` twice would be a mistake; what follows it may be another folder, or nothing.
        let words: Vec<String> = kept.iter().take_while(|word| *word != "serve").cloned().collect();
        config.set("Entrypoint", &words)?;
    }
    config.set("Cmd", &["serve", &format!("/{FOLDER}")])?;
    document.set("config", &config)?;
    serde_json::to_vec(&document)
}

/// Leaves out the arguments by which opm uses a cache that was made before: that of the old catalog makes it fail.
fn without_cache(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cache-dir" => {
                words.next();
            }
            "--cache-enforce-integrity" => {}
            other if other.starts_with("--cache-dir=") || other.starts_with("--cache-enforce-integrity=") => {
            }
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// Replaces the config of a manifest and adds a layer.
pub(super) fn manifest(
    bytes: &[u8],
    media_type: &str,
    config: &[u8],
    layer: &[u8],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut document = Object::parse(bytes)?;
    let mut part = document.read::<Object>("config")?.unwrap_or_default();
    point(&mut part, &Digest::sha256(config), config.len() as u64)?;
    document.set("config", &part)?;
    let mut layers = document.read::<Vec<Box<RawValue>>>("layers")?.unwrap_or_default();
    let layer_type = match media_type {
        media_type::DOCKER_MANIFEST => DOCKER_LAYER_GZIP,
        _ => media_type::OCI_LAYER_GZIP,
    };
    let part = Part { media_type: layer_type, digest: &Digest::sha256(layer), size: layer.len() as u64 };
    layers.push(serde_json::value::to_raw_value(&part)?);
    document.set("layers", &layers)?;
    serde_json::to_vec(&document)
}

/// Replaces the manifests that an index lists: each by the descriptor given for it, or by nothing.
pub(super) fn index(bytes: &[u8], new: &[Option<Descriptor>]) -> Result<Vec<u8>, serde_json::Error> {
    let mut document = Object::parse(bytes)?;
    let entries = document.read::<Vec<Object>>("manifests")?.unwrap_or_default();
    let mut kept = Vec::new();
    for (mut entry, new) in entries.into_iter().zip(new) {
        if let Some(new) = new {
            point(&mut entry, &new.digest, new.size)?;
            kept.push(entry);
        }
    }
    document.set("manifests", &kept)?;
    serde_json::to_vec(&document)
}

/// Makes a descriptor point to other content; content in the descriptor itself is of what it was.
fn point(descriptor: &mut Object, digest: &Digest, size: u64) -> Result<(), serde_json::Error> {
    descriptor.set("digest", digest)?;
    descriptor.set("size", &size)?;
    descriptor.remove("data");
    descriptor.remove("urls");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn changed(config_json: &Value) -> Value {
        let document = json!({ "x": 1, "config": config_json, "rootfs": { "type": "layers", "diff_ids": ["sha256:a"] } });
        let bytes = config(&serde_json::to_vec(&document).unwrap(), &Digest::sha256(b"new")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_config_serves_the_new_folder_without_the_old_cache() {
        for (entrypoint, cmd, expected) in [
            (json!(["/bin/opm"]), json!(["serve", "/old", "--cache-dir=/tmp/cache"]), json!(["/bin/opm"])),
            (
                json!(["/bin/opm", "--cache-dir", "/c", "--cache-enforce-integrity=true", "--debug"]),
                json!(null),
                json!(["/bin/opm", "--debug"]),
            ),
            (
                json!(["/bin/opm", "serve", "/old", "--cache-enforce-integrity"]),
                json!([]),
                json!(["/bin/opm"]),
            ),
            (json!(null), json!(["x"]), json!(null)),
        ] {
            let result =
                changed(&json!({ "Entrypoint": entrypoint, "Cmd": cmd, "Env": ["A=b"], "Labels": null }));
            assert_eq!(result["config"]["Cmd"], json!(["serve", "/configs"]));
            assert_eq!(result["config"]["Entrypoint"], expected);
            assert_eq!(result["config"]["Env"], json!(["A=b"]));
            assert_eq!(result["config"]["Labels"], json!({ FILES_LABEL: "/configs" }));
            assert_eq!(result["rootfs"]["diff_ids"], json!(["sha256:a", Digest::sha256(b"new").to_string()]));
            assert_eq!((&result["x"], result.get("history")), (&json!(1), None));
        }
    }
}
