//! Layers that change a little from release to release, as real encoders write them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use barge::oci::media_type::{OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST};
use barge::oci::{Descriptor, Digest, Platform};
use serde_json::{Value, json};

use super::images::{Blob, Content, config, descriptor_json, noise, tar_of};
use super::peers::{command, run, skopeo};

/// The type of a layer that zstd compressed.
pub const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// The files of a layer by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What writes a layer.
#[derive(Debug, Clone, Copy)]
pub enum Encoder {
    /// The crate of this name, at a level.
    Flate2(u32),
    /// GNU gzip, at its best.
    Gzip,
    /// pigz, with two threads.
    Pigz,
    /// zstd at its usual level.
    Zstd,
    /// Nothing: a plain tar.
    Plain,
}

/// Files that a compressor makes a third of: `each` bytes of words, with a little that is random between.
pub fn tree(seed: u64, count: usize, each: usize) -> Files {
    let file = |at: usize| {
        // Names of several trees differ in more than numbers.
        let name = char::from(b'a' + (seed % 26) as u8);
        (format!("usr/lib/{name}{at:03}.so"), words(seed * 1000 + at as u64, each))
    };
    (0..count).map(file).collect()
}

/// Text of a few hundred words.
pub fn words(seed: u64, size: usize) -> Vec<u8> {
    let letters = noise(7, 4096);
    let mut text = Vec::with_capacity(size + 16);
    for pick in noise(seed, size / 2).chunks_exact(2) {
        let word = usize::from(pick[0]) * 16;
        let length = 3 + usize::from(pick[1] % 6);
        text.extend(letters[word..word + length].iter().map(|letter| b'a' + letter % 26));
        text.push(if pick[1] > 240 { b'\n' } else { b' ' });
        if text.len() >= size {
            break;
        }
    }
    text.truncate(size);
    text
}

/// The same with another line in the middle of the files at these places.
pub fn edited(files: &Files, places: &[usize], seed: u64) -> Files {
    let mut files = files.clone();
    for (at, bytes) in files.values_mut().enumerate().filter(|(at, _)| places.contains(at)) {
        let middle = bytes.len() / 2;
        let line = words(seed * 100 + at as u64 + 17, 120);
        bytes.splice(middle..middle, line);
    }
    files
}

/// Writes a layer.
pub fn layer(files: &Files, encoder: Encoder) -> Blob {
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    layer_of_tar(&tar_of(&files), encoder)
}

/// Writes a tar as a layer.
pub fn layer_of_tar(tar: &[u8], encoder: Encoder) -> Blob {
    let (media_type, bytes) = match encoder {
        Encoder::Flate2(level) => {
            let level = flate2::Compression::new(level);
            let mut out = flate2::GzBuilder::new().mtime(0).write(Vec::new(), level);
            out.write_all(tar).unwrap();
            (OCI_LAYER_GZIP, out.finish().unwrap())
        }
        Encoder::Gzip => (OCI_LAYER_GZIP, piped(&["gzip", "-n", "-9", "-c"], tar)),
        Encoder::Pigz => (OCI_LAYER_GZIP, piped(&["pigz", "-n", "-p", "2", "-c"], tar)),
        Encoder::Zstd => (ZSTD_LAYER, zstd::bulk::compress(tar, 3).unwrap()),
        Encoder::Plain => (OCI_LAYER, tar.to_vec()),
    };
    let mut blob = Blob::new(media_type, bytes);
    blob.diff_id = Digest::sha256(tar);
    blob
}

/// What a program makes of a file.
fn piped(program: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    run(command(program[0]).args(&program[1..]).arg(file.path())).stdout
}

/// Adds an image of which every layer comes with its history line.
pub fn image_of(content: &mut Content, platform: &str, layers: &[(&str, &Blob)]) -> Descriptor {
    let diff_ids: Vec<Digest> = layers.iter().map(|(_, layer)| layer.diff_id.clone()).collect();
    let mut config = config(platform, &diff_ids);
    let mut document: Value = serde_json::from_slice(&config.bytes).unwrap();
    document["history"] = layers.iter().map(|(line, _)| json!({ "created_by": line })).collect();
    config = Blob::new(&config.media_type, serde_json::to_vec(&document).unwrap());
    let config = descriptor_json(&content.blob(&config));
    let layers: Vec<Value> = layers.iter().map(|(_, layer)| descriptor_json(&content.blob(layer))).collect();
    let document =
        json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers });
    let mut descriptor = content.manifest(OCI_MANIFEST, &document);
    descriptor.platform = Some(platform.parse::<Platform>().unwrap());
    descriptor
}

/// Asserts that skopeo copies an image from a registry, byte for byte what it should be: all manifests and all blobs.
#[track_caller]
pub fn assert_copied(host: &str, name: &str, content: &Content, root: &Descriptor) {
    let folder = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", folder.path().join("copy").display());
    let from = format!("docker://{host}/{name}");
    skopeo(["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false", &from, &to]);
    for descriptor in content.closure(root) {
        let digest = &descriptor.digest;
        let file = match content.manifests.contains_key(digest) {
            true if *digest == root.digest => "manifest.json".to_owned(),
            true => format!("{}.manifest.json", digest.hex()),
            false => digest.hex(),
        };
        let found = fs::read(folder.path().join("copy").join(&file));
        let found = found.unwrap_or_else(|error| panic!("{file} of {name}: {error}"));
        assert!(found == content.blobs[digest], "{file} of {name} is not what it was");
    }
}

/// Every file below a folder with its bytes: what a registry stores.
pub fn snapshot(folder: &Path) -> BTreeMap<String, Digest> {
    let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    let names = files.filter(|entry| entry.file_type().is_file()).map(|entry| {
        let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        (name, Digest::sha256(&fs::read(entry.path()).unwrap()))
    });
    names.collect()
}
