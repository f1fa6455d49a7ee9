//! Catalog images rebuilt: what is in them as real tools see it, which bytes stay, and which digests change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use barge::catalog::files::ImageFiles;
use barge::catalog::rebuild::{RebuildError, Rebuilt, rebuild};
use barge::catalog::{self, ChannelFilter, Filter, PackageFilter, Range};
use barge::oci::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST};
use barge::oci::{Descriptor, Digest, Platform};
use barge::store::made::Made;
use barge::store::{Source, read_manifest};
use serde_json::{Value, json};

use crate::support::archives::write_layout;
use crate::support::catalogs::{Form, catalog_images};
use crate::support::images::{Blob, Content, DOCKER_LAYER_GZIP, layer, layer_of};
use crate::support::peers::{skopeo, umoci};

const LABEL: &str = "operators.operatorframework.io.index.configs.v1";

fn reference(name: &str) -> String {
    format!("reg.test/foo/{name}@{}", Digest::sha256(name.as_bytes()))
}

fn bundle(package: &str, version: &str) -> String {
    let name = format!("{package}.v{version}");
    // Numbers and unknown fields that no type of a reader keeps as they are written.
    format!(
        "{{ \"schema\":\"olm.bundle\",\"name\":\"{name}\",\"package\":\"{package}\", \"image\":\"{}\",\n  \
         \"properties\":[{{\"type\":\"olm.package\",\"value\":{{\"packageName\":\"{package}\",\"version\":\"{version}\"}}}}, \
         {{\"type\":\"x\",\"value\":1.50}}],\"relatedImages\":[{{\"name\":\"\",\"image\":\"{}\"}}]}}",
        reference(&name),
        reference("operator")
    )
}

/// The catalog's files: JSON, and a package in YAML.
fn files() -> Vec<(String, String)> {
    let package = [
        r#"{"schema":"olm.package","name":"foo","defaultChannel":"stable","icon":{"base64data":"eA==","mediatype":"x/y"}}"#
            .to_owned(),
        r#"{"schema":"olm.channel","package":"foo","name":"stable","entries":[
            {"name":"foo.v1.0.0"}, {"name":"foo.v1.1.0","replaces":"foo.v1.0.0"},
            {"name":"foo.v1.2.0","replaces":"foo.v1.0.0","skips":["foo.v1.1.0"],"future":1.10},
            {"name":"foo.v2.0.0","replaces":"foo.v1.2.0","skipRange":">=1.0.0 <2.0.0"}],"properties":[{"type":"p","value":1}]}"#
            .to_owned(),
        r#"{"schema":"olm.channel","package":"foo","name":"fast","entries":[{"name":"foo.v2.0.0"},{"name":"foo.v2.1.0","replaces":"foo.v2.0.0"}]}"#
            .to_owned(),
        r#"{"schema":"olm.deprecations","package":"foo","entries":[
            {"reference":{"schema":"olm.bundle","name":"foo.v1.0.0"},"message":"old"},
            {"reference":{"schema":"olm.bundle","name":"foo.v1.2.0"},"message":"older than new"},
            {"reference":{"schema":"olm.channel","name":"fast"},"message":"too fast"},
            {"reference":{"schema":"olm.package"},"message":"all of it"}]}"#
            .to_owned(),
        r#"{"schema":"x.notes","package":"foo","text":"kept"}"#.to_owned(),
    ]
    .into_iter()
    .chain(["1.0.0", "1.1.0", "1.2.0", "2.0.0", "2.1.0"].map(|version| bundle("foo", version)))
    .collect::<Vec<String>>()
    .join("\n");
    let bar = "---\nschema: olm.package\nname: bar\ndefaultChannel: alpha\n---\nschema: olm.channel\npackage: bar\n\
        name: alpha\nentries:\n- name: bar.v0.1.0\n---\nschema: olm.bundle\nname: bar.v0.1.0\npackage: bar\nimage: "
        .to_owned()
        + &reference("bar")
        + "\nproperties:\n- type: olm.package\n  value: {packageName: bar, version: 0.1.0}\n";
    vec![
        ("configs/foo/catalog.json".to_owned(), package),
        ("configs/bar/deep/index.yaml".to_owned(), bar),
        ("configs/all.json".to_owned(), r#"{"schema":"x.global","name":"g"}"#.to_owned()),
        ("configs/.indexignore".to_owned(), "*.txt\n".to_owned()),
        ("configs/readme.txt".to_owned(), "no document".to_owned()),
        ("tmp/cache/pogreb/db".to_owned(), "stale".to_owned()),
    ]
}

fn part(descriptor: &Descriptor) -> Value {
    json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size })
}

/// Adds a catalog image: a layer of programs, and two of documents.
fn image(content: &mut Content, architecture: &str, docker: bool) -> Descriptor {
    let files = files();
    let pairs: Vec<(&str, &[u8])> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let layers = [layer(architecture.len() as u64, 3000), layer_of(&pairs[..3]), layer_of(&pairs[3..])];
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "future": { "big": 1.5 },
        "config": {
            "Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs", "--cache-dir=/tmp/cache", "--cache-enforce-integrity=true"],
            "Env": ["PATH=/bin"], "Labels": { LABEL: "/configs", "other": "kept" },
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [{ "created_by": "a" }, { "created_by": "b" }, { "created_by": "c" }],
    });
    let (config_type, layer_type, manifest_type) = match docker {
        true => ("application/vnd.docker.container.image.v1+json", DOCKER_LAYER_GZIP, DOCKER_MANIFEST),
        false => ("application/vnd.oci.image.config.v1+json", OCI_LAYER_GZIP, OCI_MANIFEST),
    };
    let config = content.blob(&Blob::new(config_type, serde_json::to_vec_pretty(&config).unwrap()));
    let layers: Vec<Value> =
        layers.iter().map(|layer| part(&content.blob(&layer.clone().typed(layer_type)))).collect();
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type, "config": part(&config), "layers": layers,
    });
    if !docker {
        manifest["annotations"] = json!({ "kept": "yes" });
    }
    let mut descriptor = content.manifest(manifest_type, &manifest);
    descriptor.platform = Some(format!("linux/{architecture}").parse().unwrap());
    descriptor
}

fn source(content: &Content) -> Arc<dyn Source> {
    let mut made = Made::new("reg.test/ns/index:v1");
    for (digest, bytes) in &content.blobs {
        match content.manifests.get(digest) {
            Some(media_type) => made.add_manifest(media_type, bytes.clone()),
            None => made.add_blob("application/octet-stream", bytes.clone()),
        };
    }
    Arc::new(made)
}

/// `foo`, its channel `stable` from 1.1.0 on: 1.1.0, 1.2.0, 2.0.0.
fn filter() -> Filter {
    let range = Range { min: Some("1.1.0".parse().unwrap()), max: None };
    let channels = vec![ChannelFilter { name: "stable".to_owned(), range }];
    Filter {
        full: false,
        packages: vec![PackageFilter { name: "foo".to_owned(), channels, ..PackageFilter::default() }],
    }
}

fn platforms(texts: &[&str]) -> Vec<Platform> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// An index of two architectures with an attestation.
fn index() -> (Content, Descriptor, [Descriptor; 2]) {
    let mut content = Content::new();
    let children = ["amd64", "s390x"].map(|architecture| image(&mut content, architecture, false));
    let attestation = content.attestation(&children[0]);
    let mut document: Value = {
        let plain = content.index(&[children[0].clone(), children[1].clone(), attestation]);
        serde_json::from_slice(&content.blobs[&plain.digest]).unwrap()
    };
    document["annotations"] = json!({ "index": "kept" });
    document["manifests"][1]["future"] = json!(7);
    let root = content.manifest(OCI_INDEX, &document);
    (content, root, children)
}

fn manifest_of(source: &dyn Source, descriptor: &Descriptor) -> Value {
    serde_json::from_slice(&read_manifest(source, descriptor).unwrap()).unwrap()
}

fn pointed(value: &Value) -> Descriptor {
    Descriptor::new(
        value["mediaType"].as_str().unwrap(),
        value["digest"].as_str().unwrap().parse().unwrap(),
        value["size"].as_u64().unwrap(),
    )
}

fn blob(source: &dyn Source, value: &Value) -> Vec<u8> {
    let descriptor = pointed(value);
    let mut bytes = Vec::new();
    let mut reader = source.open_blob(&descriptor.digest, descriptor.size, 0).unwrap();
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    assert!(descriptor.digest.matches(&bytes));
    bytes
}

/// Everything a root reaches, for a layout on a disk.
fn collected(source: &dyn Source, root: &Descriptor) -> Content {
    let mut content = Content::new();
    collect(source, root, &mut content);
    content
}

fn collect(source: &dyn Source, root: &Descriptor, content: &mut Content) {
    let bytes = read_manifest(source, root).unwrap();
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    content.manifest_bytes(&root.media_type, bytes);
    for child in document["manifests"].as_array().into_iter().flatten() {
        collect(source, &pointed(child), content);
    }
    for value in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
        content.blobs.insert(pointed(value).digest, blob(source, value));
    }
}

/// The files below a folder, by their path in it.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(folder).unwrap().display().to_string();
            (path, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn real_tools_see_exactly_the_filtered_tree_on_every_architecture() {
    let (content, root, _) = index();
    let Rebuilt { source, root, .. } = rebuild(source(&content), &root, &filter(), &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    let children: Vec<Descriptor> =
        manifest_of(&*source, &root)["manifests"].as_array().unwrap().iter().map(pointed).collect();
    let names = ["amd64", "s390x"];
    let mut roots: Vec<(&str, Descriptor)> = names.iter().copied().zip(children).collect();
    roots.push(("all", root.clone()));
    write_layout(&layout, &collected(&*source, &root), &roots);
    let all = format!("oci:{}:all", layout.display());
    for name in names {
        let shown = skopeo(["inspect", "--override-arch", name, "--override-os", "linux", &all]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["Labels"], json!({ LABEL: "/configs", "other": "kept" }));
        assert_eq!((&shown["Architecture"], shown["Layers"].as_array().unwrap().len()), (&json!(name), 4));
        let config = skopeo(["inspect", "--config", "--override-arch", name, "--override-os", "linux", &all]);
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Cmd"], json!(["serve", "/configs"]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/bin/opm"]));

        let unpacked = folder.path().join(name);
        let image = format!("{}:{name}", layout.display());
        umoci(["unpack", "--rootless", "--image", &image, unpacked.to_str().unwrap()]);
        let files = tree(&unpacked.join("rootfs/configs"));
        assert_eq!(files.keys().collect::<Vec<_>>(), ["catalog.json", "foo/catalog.json"]);
        assert!(unpacked.join("rootfs/tmp/cache/pogreb/db").exists(), "all else stays");
        assert_eq!(files["catalog.json"], b"{\"schema\":\"x.global\",\"name\":\"g\"}\n");
        let text = String::from_utf8(files["foo/catalog.json"].clone()).unwrap();
        // Kept documents, and the entries of those that lost some, in their own words.
        for kept in [
            bundle("foo", "1.1.0"),
            bundle("foo", "1.2.0"),
            bundle("foo", "2.0.0"),
            r#"{"schema":"x.notes","package":"foo","text":"kept"}"#.to_owned(),
            r#"{"name":"foo.v1.2.0","replaces":"foo.v1.0.0","skips":["foo.v1.1.0"],"future":1.10}"#
                .to_owned(),
            r#"{"name":"foo.v1.1.0","replaces":"foo.v1.0.0"}"#.to_owned(),
            r#""properties":[{"type":"p","value":1}]"#.to_owned(),
            r#"{"reference":{"schema":"olm.bundle","name":"foo.v1.2.0"},"message":"older than new"}"#
                .to_owned(),
            r#""message":"all of it""#.to_owned(),
            files_line("olm.package"),
        ] {
            assert!(text.contains(&kept), "{kept} in {text}");
        }
        for gone in ["2.1.0", "fast", "{\"name\":\"foo.v1.0.0\"}", "\"message\":\"old\"", "bar"] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
    }
}

/// The document of a schema in `foo`, as it stands in the fixture.
fn files_line(schema: &str) -> String {
    let (_, text) = &files()[0];
    text.lines().find(|line| line.contains(&format!("\"schema\":\"{schema}\""))).unwrap().to_owned()
}

#[test]
fn the_rebuilt_catalog_reads_as_exactly_what_was_chosen() {
    let (content, root, _) = index();
    let source = source(&content);
    let selection = catalog::read(&*source, &root).unwrap().select(&filter()).unwrap();
    let rebuilt = rebuild(source, &root, &filter(), &[]).unwrap();
    for child in manifest_of(&*rebuilt.source, &rebuilt.root)["manifests"].as_array().unwrap() {
        let read = catalog::read(&*rebuilt.source, &pointed(child)).unwrap();
        assert_eq!((read.path.as_str(), read.packages.len()), ("/configs", 1));
        let (package, chosen) = (&read.packages["foo"], &selection.packages["foo"]);
        assert_eq!(package.default_channel, chosen.default_channel);
        let channels: BTreeMap<String, Vec<_>> =
            package.channels.iter().map(|(name, channel)| (name.clone(), channel.entries.clone())).collect();
        assert_eq!(channels, chosen.channels);
        assert_eq!(
            package.bundles.keys().collect::<BTreeSet<_>>(),
            chosen.bundles.keys().collect::<BTreeSet<_>>()
        );
        // Choosing all of what is left needs the same images.
        let full = Filter { full: true, packages: Vec::new() };
        assert_eq!(read.select(&full).unwrap().images(), selection.images());
    }
}

#[test]
fn every_outcome_of_the_fixture_survives_in_json_and_yaml() {
    let version = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    let range = |min: &str, max: &str| Range { min: version(min), max: version(max) };
    let only = |default: Option<&str>, channels: &[&str], range: Range| {
        let channels =
            channels.iter().map(|name| ChannelFilter { name: (*name).to_owned(), range: Range::default() });
        Filter {
            full: false,
            packages: vec![PackageFilter {
                name: "foo".to_owned(),
                default_channel: default.map(ToOwned::to_owned),
                channels: channels.collect(),
                range,
            }],
        }
    };
    let filters = [
        Filter::default(),
        only(None, &[], Range::default()),
        only(Some("fast"), &["fast"], Range::default()),
        only(None, &["stable"], range("1.1.0", "")),
        only(None, &["stable"], range("", "1.1.0")),
        only(None, &[], range("2.0.0", "")),
        only(None, &[], range("", "1.2.0")),
        only(Some("candidate"), &["candidate"], range("2.2.0-rc.0", "")),
        only(None, &["stable"], range("1.1.0", "1.1.0")),
    ];
    let full = Filter { full: true, packages: Vec::new() };
    for form in [Form::Json, Form::Yaml] {
        let images = catalog_images(form, "reg.test");
        let source = source(&images.content);
        for filter in &filters {
            let selection = catalog::read(&*source, &images.root).unwrap().select(filter).unwrap();
            let rebuilt = rebuild(Arc::clone(&source), &images.root, filter, &[]).unwrap();
            let read = catalog::read(&*rebuilt.source, &rebuilt.root).unwrap();
            // All of what is left is what was chosen: packages, default channels, entries, bundles, images.
            assert_eq!(read.select(&full).unwrap().packages, selection.packages, "{filter:?}");
        }
    }
}

#[test]
fn the_same_again_is_the_same_and_only_what_must_changes() {
    let (content, root, children) = index();
    let rebuilt = rebuild(source(&content), &root, &filter(), &[]).unwrap();
    let again = rebuild(source(&content), &root, &filter(), &[]).unwrap();
    assert_eq!((&rebuilt.root, &rebuilt.changed), (&again.root, &again.changed));
    let new = collected(&*rebuilt.source, &rebuilt.root);
    assert_eq!(new.blobs, collected(&*again.source, &again.root).blobs);

    let document = manifest_of(&*rebuilt.source, &rebuilt.root);
    assert_eq!(document["annotations"], json!({ "index": "kept" }));
    let entries = document["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "the attestation is about the old image");
    assert_eq!(entries[1]["future"], 7);
    assert_eq!(entries[0]["platform"], json!({ "architecture": "amd64", "os": "linux" }));
    // Every manifest that changed is in the map, and nothing else.
    let mut expected: Vec<(Digest, Digest)> = children
        .iter()
        .zip(entries)
        .map(|(old, new)| (old.digest.clone(), pointed(new).digest))
        .chain([(root.digest.clone(), rebuilt.root.digest.clone())])
        .collect();
    expected.sort();
    assert_eq!(rebuilt.changed, expected);
    assert!(
        rebuilt
            .warnings
            .iter()
            .any(|warning| warning.contains("signatures") && warning.contains(&root.digest.to_string()))
    );

    for (old, entry) in children.iter().zip(entries) {
        let old: Value = serde_json::from_slice(&content.blobs[&old.digest]).unwrap();
        let new = manifest_of(&*rebuilt.source, &pointed(entry));
        assert_eq!(new["annotations"], json!({ "kept": "yes" }));
        let (layers, old_layers) = (new["layers"].as_array().unwrap(), old["layers"].as_array().unwrap());
        assert_eq!((&layers[..3], layers.len()), (&old_layers[..], 4));
        assert_eq!(layers[3]["mediaType"], OCI_LAYER_GZIP);
        let config: Value = serde_json::from_slice(&blob(&*rebuilt.source, &new["config"])).unwrap();
        let old_config: Value =
            serde_json::from_slice(&content.blobs[&pointed(&old["config"]).digest]).unwrap();
        assert_eq!(
            (&config["future"], &config["config"]["Env"]),
            (&json!({ "big": 1.5 }), &json!(["PATH=/bin"]))
        );
        assert_eq!(config["history"].as_array().unwrap().len(), 4);
        let (ids, old_ids) = (&config["rootfs"]["diff_ids"], &old_config["rootfs"]["diff_ids"]);
        assert_eq!(ids.as_array().unwrap()[..3], old_ids.as_array().unwrap()[..]);
        let gzip = blob(&*rebuilt.source, &layers[3]);
        let tar = crate::support::images::gunzip(&gzip);
        assert_eq!(ids[3], json!(Digest::sha256(&tar)));
        let listed: Vec<(String, u32, u64, u64)> = tar::Archive::new(&tar[..])
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (
                    entry.path().unwrap().display().to_string(),
                    header.mode().unwrap(),
                    header.uid().unwrap() + header.gid().unwrap(),
                    header.mtime().unwrap(),
                )
            })
            .collect();
        let expected = [
            (".wh.configs", 0o644),
            ("configs/", 0o755),
            ("configs/catalog.json", 0o644),
            ("configs/foo/", 0o755),
            ("configs/foo/catalog.json", 0o644),
        ];
        assert_eq!(listed, expected.map(|(name, mode)| (name.to_owned(), mode, 0, 0)));
    }
}

#[test]
fn only_the_platforms_asked_for_stay_in_the_index() {
    let (content, root, children) = index();
    let rebuilt = rebuild(source(&content), &root, &filter(), &platforms(&["linux/s390x"])).unwrap();
    let document = manifest_of(&*rebuilt.source, &rebuilt.root);
    assert_eq!(document["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(document["manifests"][0]["platform"]["architecture"], "s390x");
    let old: BTreeSet<&Digest> = rebuilt.changed.iter().map(|(old, _)| old).collect();
    assert_eq!(old, BTreeSet::from([&children[1].digest, &root.digest]));
    let error = rebuild(source(&content), &root, &filter(), &platforms(&["linux/ppc64le"])).unwrap_err();
    assert!(matches!(&error, RebuildError::NoPlatform { .. }), "{error}");
    assert!(error.to_string().contains("has no image for linux/ppc64le"), "{error}");
}

#[test]
fn a_single_image_of_dockers_types_keeps_them() {
    let mut content = Content::new();
    let mut root = image(&mut content, "amd64", true);
    root.platform = None;
    let rebuilt = rebuild(source(&content), &root, &filter(), &platforms(&["linux/amd64"])).unwrap();
    assert_eq!(rebuilt.root.media_type, DOCKER_MANIFEST);
    assert_eq!(rebuilt.changed, [(root.digest, rebuilt.root.digest.clone())]);
    let document = manifest_of(&*rebuilt.source, &rebuilt.root);
    assert_eq!(document["mediaType"], DOCKER_MANIFEST);
    assert_eq!(document["layers"][3]["mediaType"], DOCKER_LAYER_GZIP);
    assert_eq!(document["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(catalog::read(&*rebuilt.source, &rebuilt.root).unwrap().packages.len(), 1);
    // An index of Docker's type too.
    let mut content = Content::new();
    let child = image(&mut content, "amd64", true);
    let root = content.docker_index(&[child]);
    let rebuilt = rebuild(source(&content), &root, &filter(), &[]).unwrap();
    assert_eq!(manifest_of(&*rebuilt.source, &rebuilt.root)["mediaType"], DOCKER_INDEX);
}

#[test]
fn another_default_channel_is_written_into_the_package() {
    let mut content = Content::new();
    let root = image(&mut content, "amd64", false);
    let filter = Filter {
        full: false,
        packages: vec![PackageFilter {
            name: "foo".to_owned(),
            default_channel: Some("fast".to_owned()),
            channels: vec![ChannelFilter { name: "fast".to_owned(), range: Range::default() }],
            range: Range::default(),
        }],
    };
    let rebuilt = rebuild(source(&content), &root, &filter, &[]).unwrap();
    let read = catalog::read(&*rebuilt.source, &rebuilt.root).unwrap();
    let package = &read.packages["foo"];
    assert_eq!(package.default_channel.as_deref(), Some("fast"));
    assert_eq!(package.channels.keys().collect::<Vec<_>>(), ["fast"]);
    assert_eq!(package.bundles.keys().collect::<Vec<_>>(), ["foo.v2.1.0"]);
}

#[test]
fn a_whole_catalog_stays_as_it_is_and_a_database_is_never_rebuilt() {
    let (mut content, root, _) = index();
    let full = Filter { full: true, packages: Vec::new() };
    let rebuilt = rebuild(source(&content), &root, &full, &[]).unwrap();
    assert_eq!((&rebuilt.root, rebuilt.changed.len()), (&root, 0));

    let database = catalog_images(Form::Sqlite, "reg.test");
    let before = catalog::read(&*source(&database.content), &database.root).unwrap();
    assert_eq!(before.form, catalog::Form::Database);
    let error = rebuild(source(&database.content), &database.root, &filter(), &[]).unwrap_err();
    assert!(matches!(error, RebuildError::Database { .. }), "{error}");
    assert!(error.to_string().contains("`rebuildCatalog`"), "{error}");

    let plain = content.image("linux/amd64", &[layer(1, 2000)]);
    let error = rebuild(source(&content), &plain, &filter(), &[]).unwrap_err();
    assert!(matches!(error, RebuildError::Catalog(_)), "{error}");

    let mut absent = filter();
    absent.packages[0].name = "none".to_owned();
    let error = rebuild(source(&content), &root, &absent, &[]).unwrap_err();
    assert!(matches!(error, RebuildError::Filter(_)), "{error}");
}

/// A catalog image whose label is this.
fn labelled_image(content: &mut Content, label: &str, prefix: &str) -> Descriptor {
    let files = files();
    let named: Vec<(String, &str)> = files
        .iter()
        .map(|(name, text)| (name.replacen("configs/", prefix, 1), text.as_str()))
        .filter(|(name, _)| !name.starts_with("tmp"))
        .collect();
    let pairs: Vec<(&str, &[u8])> =
        named.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    crate::support::catalogs::labelled(
        content,
        "linux/amd64",
        &[layer_of(&pairs)],
        &[(LABEL, label)],
        &["serve"],
    )
}

#[test]
fn a_label_in_any_spelling_is_the_folder_and_the_whole_file_system_is_refused() {
    for label in ["./configs/.", "/x/../configs/", "configs//"] {
        let mut content = Content::new();
        let root = labelled_image(&mut content, label, "configs/");
        let rebuilt = rebuild(source(&content), &root, &filter(), &[]).unwrap();
        let files = ImageFiles::open(&*rebuilt.source, &rebuilt.root, None).unwrap();
        let top = rebuilt_names(&rebuilt, files.layers().last().unwrap());
        assert_eq!(top[..2], [".wh.configs".to_owned(), "configs/".to_owned()], "{label}");
        assert_eq!(catalog::read(&*rebuilt.source, &rebuilt.root).unwrap().packages.len(), 1);
    }
    let mut content = Content::new();
    let root = labelled_image(&mut content, "/", "");
    let error = rebuild(source(&content), &root, &filter(), &[]).unwrap_err();
    assert!(error.to_string().contains("lies in `/`, the whole file system"), "{error}");
}

/// The names in a layer.
fn rebuilt_names(rebuilt: &Rebuilt, layer: &Descriptor) -> Vec<String> {
    let blob = rebuilt.source.open_blob(&layer.digest, layer.size, 0).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(blob));
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    names.collect()
}
