//! Writers of OCI layouts, layout tars and docker archives, in the shapes that other tools write.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufWriter;
use std::path::Path;

use barge::oci::{Descriptor, Digest, media_type};
use serde_json::{Value, json};

use super::images::{Content, descriptor_json, gunzip};
use super::tarball::{TarFormat, TarWriter};

/// The content of `oci-layout`.
pub const LAYOUT_MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// How a layout tar is written.
#[derive(Debug, Clone, Copy)]
pub struct TarStyle {
    /// Blobs before `oci-layout` and `index.json`.
    pub blobs_first: bool,
    /// Names begin with `./`, as `tar -cf x.tar .` writes them.
    pub dot_slash: bool,
    /// Entries for the folders too.
    pub directories: bool,
    /// Dialect of tar.
    pub format: TarFormat,
}

impl Default for TarStyle {
    fn default() -> Self {
        Self { blobs_first: false, dot_slash: false, directories: false, format: TarFormat::Ustar }
    }
}

/// The generations of `docker save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DockerArchive {
    /// Since Docker 25: an OCI layout with a `manifest.json` that points into `blobs/`.
    New,
    /// Before: `<id>/layer.tar`, `<id>/json`, `<config>.json`, `repositories`.
    Old,
    /// The same, a layer that is there already being a symbolic link `../<id>/layer.tar`.
    OldWithLinks,
}

/// The `index.json` that names these roots; an empty name is left out.
pub fn layout_index(roots: &[(&str, Descriptor)]) -> Value {
    let manifests: Vec<Value> = roots
        .iter()
        .map(|(name, descriptor)| {
            let mut descriptor = descriptor.clone();
            if !name.is_empty() {
                let key = "org.opencontainers.image.ref.name".to_owned();
                descriptor.annotations.insert(key, (*name).to_owned());
            }
            descriptor_json(&descriptor)
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests })
}

/// Every file of the layout of `content`, all blobs included, reachable or not.
pub fn layout_files(content: &Content, roots: &[(&str, Descriptor)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([
        ("oci-layout".to_owned(), LAYOUT_MARKER.to_vec()),
        ("index.json".to_owned(), serde_json::to_vec(&layout_index(roots)).unwrap()),
    ]);
    for (digest, bytes) in &content.blobs {
        files.insert(digest.blob_path(), bytes.clone());
    }
    files
}

/// Writes an OCI layout directory.
pub fn write_layout(directory: &Path, content: &Content, roots: &[(&str, Descriptor)]) {
    for (name, bytes) in layout_files(content, roots) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Writes an OCI layout as one tar file.
pub fn write_layout_tar(path: &Path, content: &Content, roots: &[(&str, Descriptor)], style: TarStyle) {
    let mut tar = TarWriter::new(BufWriter::new(fs::File::create(path).unwrap()), style.format);
    let prefix = if style.dot_slash { "./" } else { "" };
    if style.directories {
        for folder in ["", "blobs/", "blobs/sha256/"] {
            if !(prefix.is_empty() && folder.is_empty()) {
                tar.directory(&format!("{prefix}{folder}"));
            }
        }
    }
    let (blobs, head): (Vec<_>, Vec<_>) =
        layout_files(content, roots).into_iter().partition(|(name, _)| name.starts_with("blobs/"));
    let mut head: Vec<_> = head.into_iter().rev().collect();
    if style.blobs_first {
        head.splice(0..0, blobs);
    } else {
        head.extend(blobs);
    }
    for (name, bytes) in head {
        tar.file(&format!("{prefix}{name}"), &bytes);
    }
    tar.finish();
}

/// Writes what `docker save` would: each image with its tags (`repo:tag`; none makes `RepoTags` null).
pub fn write_docker_archive(
    path: &Path,
    content: &Content,
    style: DockerArchive,
    images: &[(&Descriptor, &[&str])],
) {
    let mut tar = TarWriter::new(BufWriter::new(fs::File::create(path).unwrap()), TarFormat::Gnu);
    if style == DockerArchive::New {
        write_new(&mut tar, content, images);
    } else {
        write_old(&mut tar, content, style, images);
    }
    tar.finish();
}

type Tar = TarWriter<BufWriter<fs::File>>;

fn manifest_entry(config: &str, tags: &[&str], layers: &[String]) -> Value {
    let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
    json!({ "Config": config, "RepoTags": tags, "Layers": layers })
}

fn write_new(tar: &mut Tar, content: &Content, images: &[(&Descriptor, &[&str])]) {
    let mut roots = Vec::new();
    let mut entries = Vec::new();
    for (image, tags) in images {
        let (config, layers) = parts(content, &image.digest);
        let layers: Vec<String> = layers.iter().map(Digest::blob_path).collect();
        entries.push(manifest_entry(&config.blob_path(), tags, &layers));
        for tag in *tags {
            let mut root = (*image).clone();
            let full = format!("docker.io/library/{tag}");
            root.annotations.insert("io.containerd.image.name".to_owned(), full);
            roots.push((tag.rsplit_once(':').unwrap().1, root));
        }
        if tags.is_empty() {
            roots.push(("", (*image).clone()));
        }
    }
    let mut files: Vec<_> = layout_files(content, &roots).into_iter().collect();
    files.push(("manifest.json".to_owned(), serde_json::to_vec(&entries).unwrap()));
    // Docker writes the blobs first and the names in this order.
    files.sort_by_key(|(name, _)| match name.as_str() {
        "index.json" => 1,
        "manifest.json" => 2,
        "oci-layout" => 3,
        _ => 0,
    });
    tar.directory("blobs/");
    tar.directory("blobs/sha256/");
    for (name, bytes) in files {
        tar.file(&name, &bytes);
    }
}

fn write_old(tar: &mut Tar, content: &Content, style: DockerArchive, images: &[(&Descriptor, &[&str])]) {
    let mut entries = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut written: BTreeMap<Digest, String> = BTreeMap::new();
    for (image, tags) in images {
        let (config, layers) = parts(content, &image.digest);
        let mut paths = Vec::new();
        let mut parent = String::new();
        for (at, layer) in layers.iter().enumerate() {
            let plain = gunzip(&content.blobs[layer]);
            // Docker's v1 ids are hashes over the chain; any that differ will do.
            let id = Digest::sha256(format!("{config}{at}{parent}").as_bytes()).hex();
            tar.directory(&format!("{id}/"));
            tar.file(&format!("{id}/VERSION"), b"1.0");
            let v1 = json!({ "id": id, "parent": parent, "created": "2024-01-01T00:00:00Z" });
            tar.file(&format!("{id}/json"), &serde_json::to_vec(&v1).unwrap());
            let path = format!("{id}/layer.tar");
            let diff_id = Digest::sha256(&plain);
            match written.get(&diff_id) {
                Some(earlier) if style == DockerArchive::OldWithLinks => {
                    tar.symlink(&path, &format!("../{earlier}/layer.tar"));
                }
                _ => {
                    tar.file(&path, &plain);
                    written.insert(diff_id, id.clone());
                }
            }
            paths.push(path);
            parent = id;
        }
        let config_name = format!("{}.json", config.hex());
        tar.file(&config_name, &content.blobs[&config]);
        for tag in *tags {
            let (name, tag) = tag.rsplit_once(':').unwrap();
            repositories.entry(name.to_owned()).or_default().insert(tag.to_owned(), parent.clone());
        }
        entries.push(manifest_entry(&config_name, tags, &paths));
    }
    tar.file("manifest.json", &serde_json::to_vec(&entries).unwrap());
    if !repositories.is_empty() {
        tar.file("repositories", &serde_json::to_vec(&repositories).unwrap());
    }
}

/// The digests of an image's config and layers.
fn parts(content: &Content, image: &Digest) -> (Digest, Vec<Digest>) {
    let document: Value = serde_json::from_slice(&content.blobs[image]).unwrap();
    let mut digests = super::images::children(&document).into_iter().map(|d| d.digest);
    (digests.next().unwrap(), digests.collect())
}
