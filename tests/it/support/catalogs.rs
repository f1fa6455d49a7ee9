//! Operator catalogs made by code: the same packages as JSON files, as YAML files and as an `SQLite` database, with all the
//! images that they name.
//!
//! Package `foo` (default `stable`) has the bundles 1.0.0, 1.1.0, 1.2.0, 2.0.0, 2.1.0 and 2.2.0-rc.1 in the channels
//! `stable`, `fast` and `candidate`; package `bar` has 0.1.0 in `alpha`.

use std::collections::BTreeMap;

use barge::catalog::{DATABASE_LABEL, FILES_LABEL};
use barge::oci::media_type::{OCI_CONFIG, OCI_MANIFEST};
use barge::oci::{Descriptor, Platform};
use serde_json::{Value, json};

use super::images::{Blob, Content, descriptor_json, layer, layer_of};
use super::peers::push_content;

/// The repository and the tag of the catalog itself, below the prefix.
pub const CATALOG: (&str, &str) = ("olm/index", "v1");
/// The platforms of catalogs and operators.
pub const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];
/// The versions of `foo`.
pub const VERSIONS: [&str; 6] = ["1.0.0", "1.1.0", "1.2.0", "2.0.0", "2.1.0", "2.2.0-rc.1"];

/// The form of a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON files in nested folders.
    Json,
    /// YAML files of several documents.
    Yaml,
    /// A database.
    Sqlite,
}

/// All forms.
pub const FORMS: [Form; 3] = [Form::Json, Form::Yaml, Form::Sqlite];

/// An image of the fixture.
#[derive(Debug, Clone)]
pub struct Image {
    /// The reference as the catalog writes it; of the catalog itself, as it would be pulled.
    pub reference: String,
    /// The repository, without the registry.
    pub repository: String,
    /// The tag; none for what is named by its digest.
    pub tag: Option<String>,
    /// Its manifest or index.
    pub root: Descriptor,
}

/// A catalog with everything that it names.
#[derive(Debug, Clone)]
pub struct CatalogImages {
    /// All content.
    pub content: Content,
    /// The catalog: an index of two architectures.
    pub root: Descriptor,
    /// The catalog, and every image it names, once each.
    pub images: Vec<Image>,
    prefix: String,
}

/// Makes the catalog of a form. `prefix` is the registry that its references name, e.g. `reg.test` or
/// `127.0.0.1:5000/ns`.
pub fn catalog_images(form: Form, prefix: &str) -> CatalogImages {
    let mut content = Content::new();
    let mut images = Vec::new();
    let path = prefix.split_once('/').map_or(String::new(), |(_, path)| format!("{path}/"));
    let mut add = |content: &mut Content, name: &str, tag: Option<String>, seed: u64| {
        let root = if tag.as_deref().is_some_and(|_| name.ends_with("bundle")) {
            // Bundles hold manifests only and have no architecture to speak of.
            content.image(PLATFORMS[0], &[layer(seed, 300)])
        } else {
            let children = PLATFORMS.map(|platform| {
                let seed = seed + 1000 * u64::from(platform == PLATFORMS[1]);
                content.image(platform, &[layer(seed, 300)])
            });
            content.index(&children)
        };
        let reference = match &tag {
            Some(tag) => format!("{prefix}/{name}:{tag}"),
            None => format!("{prefix}/{name}@{}", root.digest),
        };
        images.push(Image { reference: reference.clone(), repository: format!("{path}{name}"), tag, root });
        reference
    };
    let proxy = add(&mut content, "foo/proxy", Some("v1".to_owned()), 1);
    let mut bundles = BTreeMap::new();
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let seed = 10 + 2 * at as u64;
        let bundle = add(&mut content, "foo/bundle", Some(format!("v{version}")), seed);
        let operator = add(&mut content, "foo/operator", None, seed + 1);
        bundles.insert(format!("foo.v{version}"), vec![bundle, operator, proxy.clone()]);
    }
    let bundle = add(&mut content, "bar/bundle", Some("v0.1.0".to_owned()), 50);
    let operator = add(&mut content, "bar/operator", None, 51);
    bundles.insert("bar.v0.1.0".to_owned(), vec![bundle, operator]);

    let layers = match form {
        Form::Json => files_layers(&documents(&bundles), false),
        Form::Yaml => files_layers(&documents(&bundles), true),
        Form::Sqlite => vec![layer_of(&[("database/index.db", &database(&bundles))])],
    };
    let (label, command) = match form {
        Form::Sqlite => (
            (DATABASE_LABEL, "/database/index.db"),
            vec!["registry", "serve", "--database", "/database/index.db"],
        ),
        _ => ((FILES_LABEL, "/configs"), vec!["serve", "/configs", "--cache-dir=/tmp/cache"]),
    };
    let children = PLATFORMS.map(|platform| {
        let base = layer(90 + u64::from(platform == PLATFORMS[1]), 500);
        let layers: Vec<Blob> = std::iter::once(base).chain(layers.iter().cloned()).collect();
        labelled(&mut content, platform, &layers, &[label], &command)
    });
    let root = content.index(&children);
    images.push(Image {
        reference: format!("{prefix}/{}:{}", CATALOG.0, CATALOG.1),
        repository: format!("{path}{}", CATALOG.0),
        tag: Some(CATALOG.1.to_owned()),
        root: root.clone(),
    });
    CatalogImages { content, root, images, prefix: prefix.to_owned() }
}

impl CatalogImages {
    /// The reference of the catalog.
    pub fn reference(&self) -> String {
        format!("{}/{}:{}", self.prefix, CATALOG.0, CATALOG.1)
    }

    /// Pushes the catalog and every image that it names to a plain HTTP registry.
    pub fn push(&self, host: &str) {
        for image in &self.images {
            push_content(host, &image.repository, &self.content, &image.root, image.tag.as_deref());
        }
    }

    /// The references that these bundles (`foo.v1.0.0`) need, sorted and none twice.
    pub fn references_of(&self, bundles: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = bundles
            .iter()
            .flat_map(|bundle| {
                let (package, version) = bundle.split_once(".v").unwrap();
                let own = format!("{}/{package}/bundle:v{version}", self.prefix);
                let at = self.images.iter().position(|image| image.reference == own).unwrap();
                // Its operator is made after it.
                let mut needed = vec![own, self.images[at + 1].reference.clone()];
                if package == "foo" {
                    needed.push(format!("{}/foo/proxy:v1", self.prefix));
                }
                needed
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Adds an image with labels and a command.
pub fn labelled(
    content: &mut Content,
    platform: &str,
    layers: &[Blob],
    labels: &[(&str, &str)],
    command: &[&str],
) -> Descriptor {
    let (os, architecture) = platform.split_once('/').unwrap();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let config = json!({
        "os": os, "architecture": architecture, "created": "2024-01-01T00:00:00Z",
        "config": { "Entrypoint": ["/bin/opm"], "Cmd": command, "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = content.blob(&Blob::new(OCI_CONFIG, serde_json::to_vec(&config).unwrap()));
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor_json(&content.blob(layer))).collect();
    let document = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor_json(&config), "layers": layers,
    });
    let mut descriptor = content.manifest(OCI_MANIFEST, &document);
    descriptor.platform = Some(platform.parse::<Platform>().unwrap());
    descriptor
}

/// The layers of a file-based catalog: a lower one with an old package that the upper one hides.
fn files_layers(documents: &[(String, Vec<Value>)], is_yaml: bool) -> Vec<Blob> {
    let stale = json!({ "schema": "olm.package", "name": "foo", "defaultChannel": "old" }).to_string();
    let lower = layer_of(&[
        ("configs/.indexignore", b"README.md\ndrafts/\n"),
        ("configs/README.md", b"This is no document.\n"),
        ("configs/stale/catalog.json", stale.as_bytes()),
    ]);
    let mut files = vec![
        ("configs/.wh.stale".to_owned(), String::new()),
        ("configs/foo/drafts/next.json".to_owned(), "{ not finished".to_owned()),
        ("configs/foo/.indexignore".to_owned(), "*.txt\n".to_owned()),
        ("configs/foo/notes.txt".to_owned(), "nothing to read: either".to_owned()),
    ];
    for (path, documents) in documents {
        let texts: Vec<String> = match is_yaml {
            true => documents.iter().map(|document| format!("---\n{}", yaml(document, 0))).collect(),
            false => documents.iter().map(|document| format!("{document:#}\n")).collect(),
        };
        files.push((format!("configs/{path}.{}", if is_yaml { "yaml" } else { "json" }), texts.concat()));
    }
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
    vec![lower, layer_of(&files)]
}

/// Writes a value as block YAML, with strings in quotes.
pub fn yaml(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let nested = |value: &Value| match value {
        Value::Object(fields) if !fields.is_empty() => format!("\n{}", yaml(value, indent + 2)),
        Value::Array(items) if !items.is_empty() => format!("\n{}", yaml(value, indent + 2)),
        value => format!(" {value}\n"),
    };
    let lines: Vec<String> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{pad}{key}:{}", nested(value))).collect()
        }
        Value::Array(items) => items.iter().map(|value| format!("{pad}-{}", nested(value))).collect(),
        value => vec![format!("{pad}{value}\n")],
    };
    lines.concat()
}

/// The documents by the file they are in, without its suffix.
fn documents(bundles: &BTreeMap<String, Vec<String>>) -> Vec<(String, Vec<Value>)> {
    let bundle = |name: &str| {
        let (package, version) = name.split_once(".v").unwrap();
        let related = bundles[name].iter().map(|image| json!({ "name": "", "image": image }));
        json!({
            "schema": "olm.bundle", "name": name, "package": package, "image": bundles[name][0],
            "properties": [
                { "type": "olm.gvk", "value": { "group": "x.example", "kind": "Foo", "version": "v1" } },
                { "type": "olm.package", "value": { "packageName": package, "version": version } },
                { "type": "olm.csv.metadata", "value": { "annotations": { "n": 1.50, "t": true } } },
            ],
            "relatedImages": related.collect::<Vec<_>>(),
        })
    };
    let channel = |package: &str, name: &str, entries: Value| json!({ "schema": "olm.channel", "package": package, "name": name, "entries": entries });
    let package = json!({
        "schema": "olm.package", "name": "foo", "defaultChannel": "stable", "description": "a: b # c",
        "icon": { "base64data": "PHN2Zy8+", "mediatype": "image/svg+xml" },
    });
    let stable = json!([
        { "name": "foo.v1.0.0" },
        { "name": "foo.v1.1.0", "replaces": "foo.v1.0.0" },
        { "name": "foo.v1.2.0", "replaces": "foo.v1.0.0", "skips": ["foo.v1.1.0"] },
        { "name": "foo.v2.0.0", "replaces": "foo.v1.2.0", "skipRange": ">=1.0.0 <2.0.0" },
    ]);
    let fast = json!([
        { "name": "foo.v1.2.0" },
        { "name": "foo.v2.0.0", "replaces": "foo.v1.2.0" },
        { "name": "foo.v2.1.0", "replaces": "foo.v2.0.0" },
    ]);
    let candidate =
        json!([{ "name": "foo.v2.1.0" }, { "name": "foo.v2.2.0-rc.1", "replaces": "foo.v2.1.0" }]);
    let deprecations = json!({
        "schema": "olm.deprecations", "package": "foo",
        "entries": [{ "reference": { "schema": "olm.bundle", "name": "foo.v1.0.0" }, "message": "old" }],
    });
    let bar = json!({ "schema": "olm.package", "name": "bar", "defaultChannel": "alpha" });
    let free = json!({ "schema": "example.note", "text": "of no package" });
    vec![
        ("foo/package".to_owned(), vec![package, deprecations]),
        (
            "foo/channels/all".to_owned(),
            vec![
                channel("foo", "stable", stable),
                channel("foo", "fast", fast),
                channel("foo", "candidate", candidate),
            ],
        ),
        ("foo/bundles/v1".to_owned(), VERSIONS[..3].iter().map(|v| bundle(&format!("foo.v{v}"))).collect()),
        ("foo/bundles/v2".to_owned(), VERSIONS[3..].iter().map(|v| bundle(&format!("foo.v{v}"))).collect()),
        (
            "bar/catalog".to_owned(),
            vec![bar, channel("bar", "alpha", json!([{ "name": "bar.v0.1.0" }])), bundle("bar.v0.1.0"), free],
        ),
    ]
}

/// The tables of an `SQLite` catalog.
pub const TABLES: &str = "
    CREATE TABLE operatorbundle (name TEXT PRIMARY KEY, csv TEXT, bundle TEXT, bundlepath TEXT, skiprange TEXT,
        version TEXT, replaces TEXT, skips TEXT, substitutesfor TEXT);
    CREATE TABLE package (name TEXT PRIMARY KEY, default_channel TEXT);
    CREATE TABLE channel (name TEXT, package_name TEXT, head_operatorbundle_name TEXT, PRIMARY KEY (name, package_name));
    CREATE TABLE channel_entry (entry_id INTEGER PRIMARY KEY, channel_name TEXT, package_name TEXT,
        operatorbundle_name TEXT, replaces INTEGER, depth INTEGER);
    CREATE TABLE related_image (image TEXT, operatorbundle_name TEXT);
    CREATE TABLE properties (type TEXT, value TEXT, operatorbundle_name TEXT, operatorbundle_version TEXT,
        operatorbundle_path TEXT);
    CREATE TABLE dependencies (type TEXT, value TEXT, operatorbundle_name TEXT, operatorbundle_version TEXT,
        operatorbundle_path TEXT);
    CREATE TABLE deprecated (operatorbundle_name TEXT PRIMARY KEY);
    CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY, timestamp TIMESTAMP);
";

/// The database of the fixture.
fn database(bundles: &BTreeMap<String, Vec<String>>) -> Vec<u8> {
    let mut text = TABLES.to_owned();
    text += "INSERT INTO package VALUES ('foo', 'stable'), ('bar', 'alpha');
        INSERT INTO channel VALUES ('stable', 'foo', 'foo.v2.0.0'), ('fast', 'foo', 'foo.v2.1.0'),
            ('candidate', 'foo', 'foo.v2.2.0-rc.1'), ('alpha', 'bar', 'bar.v0.1.0');";
    for (name, images) in bundles {
        let version = name.split_once(".v").unwrap().1;
        text += &format!(
            "INSERT INTO operatorbundle (name, bundlepath, version) VALUES ('{name}', '{}', '{version}');",
            images[0]
        );
        for image in &images[1..] {
            text += &format!("INSERT INTO related_image VALUES ('{image}', '{name}');");
        }
    }
    let rows = [
        (1, "stable", "2.0.0", Some(2), 0),
        (2, "stable", "1.2.0", Some(5), 1),
        (3, "stable", "1.1.0", None, 2),
        (4, "stable", "1.2.0", Some(3), 2),
        (5, "stable", "1.0.0", None, 3),
        (6, "fast", "2.1.0", Some(7), 0),
        (7, "fast", "2.0.0", Some(8), 1),
        (8, "fast", "1.2.0", None, 2),
        (9, "candidate", "2.2.0-rc.1", Some(10), 0),
        (10, "candidate", "2.1.0", None, 1),
    ];
    for (id, channel, version, replaces, depth) in rows {
        let replaces = replaces.map_or("NULL".to_owned(), |id| id.to_string());
        text += &format!(
            "INSERT INTO channel_entry VALUES ({id}, '{channel}', 'foo', 'foo.v{version}', {replaces}, {depth});"
        );
    }
    text += "INSERT INTO channel_entry VALUES (11, 'alpha', 'bar', 'bar.v0.1.0', NULL, 0);";
    sqlite(&text)
}

/// The bytes of the database that some statements make.
pub fn sqlite(statements: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(statements).unwrap();
    drop(connection);
    std::fs::read(path).unwrap()
}
