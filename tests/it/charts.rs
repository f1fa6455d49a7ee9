//! Helm charts: the artifacts they become, where they come from, and how their images are found.

mod rendering;
mod repository;

use std::fs;

use barge::chart::{self, CHART_CONFIG, CHART_CONTENT, CHART_PROVENANCE, ChartError, Charted, Reach};
use barge::input::{ChartOrder, ChartPlace};
use barge::oci::Digest;
use barge::store::read_manifest;
use barge::store::registry::{Client, Options};
use serde_json::{Value, json};

use crate::support::images::{Blob, Content, gzip, layer, tar_of};
use crate::support::peers::{RealRegistry, skopeo};

fn order(place: ChartPlace) -> ChartOrder {
    ChartOrder {
        place,
        name: None,
        images: None,
        render: false,
        image_paths: Vec::new(),
        values: Vec::new(),
        platforms: Vec::new(),
        at: None,
    }
}

fn client() -> Client {
    Client::new(Options { retry_times: 1, ..Options::default() }).unwrap()
}

fn open(order: &ChartOrder) -> Result<Charted, ChartError> {
    let client = client();
    let reach = Reach::new(&client, &std::env::temp_dir());
    chart::open(order, &reach)
}

/// The error's whole text.
fn refused(result: Result<Charted, ChartError>) -> String {
    barge::store::chain(&result.err().expect("it is refused"))
}

/// A packaged chart with an annotation for its image.
fn package(name: &str, version: &str, image: Option<&str>) -> Vec<u8> {
    let mut text = format!("apiVersion: v2\nname: {name}\nversion: {version}\ndescription: A chart\n");
    if let Some(image) = image {
        text +=
            &format!("annotations:\n  artifacthub.io/images: |\n    - name: main\n      image: {image}\n");
    }
    gzip(&tar_of(&[
        (&format!("{name}/Chart.yaml"), text.as_bytes()),
        (&format!("{name}/templates/a.yaml"), b"kind: None\n"),
    ]))
}

fn blob(charted: &Charted, part: &Value) -> Vec<u8> {
    let digest: Digest = part["digest"].as_str().unwrap().parse().unwrap();
    let mut bytes = Vec::new();
    let mut reader = charted.source.open_blob(&digest, part["size"].as_u64().unwrap(), 0).unwrap();
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    assert!(digest.matches(&bytes));
    bytes
}

fn manifest(charted: &Charted) -> (Vec<u8>, Value) {
    let root = charted.source.resolve(&charted.selector).unwrap();
    let bytes = read_manifest(&*charted.source, &root).unwrap();
    let document = serde_json::from_slice(&bytes).unwrap();
    (bytes, document)
}

fn names(charted: &Charted) -> Vec<String> {
    charted.images.iter().map(|image| image.reference.to_string()).collect()
}

#[test]
fn a_local_package_becomes_the_artifact_that_helm_pushes_byte_for_byte_and_real_peers_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app-1.2.3.tgz");
    let bytes = package("app", "1.2.3+build.5", Some("r.example/web:2"));
    fs::write(&path, &bytes).unwrap();
    fs::write(folder.path().join("app-1.2.3.tgz.prov"), "signed").unwrap();
    let charted = open(&order(ChartPlace::File(path.clone()))).unwrap();
    assert_eq!(charted.name.to_string(), "localhost/charts/app:1.2.3_build.5");
    assert_eq!((charted.reference.as_ref(), charted.warnings.len()), (None, 0), "{:?}", charted.warnings);
    assert_eq!(names(&charted), ["r.example/web:2"]);
    assert!(charted.images[0].at.contains("artifacthub.io/images"), "{}", charted.images[0].at);

    let (text, document) = manifest(&charted);
    assert_eq!(document["config"]["mediaType"], CHART_CONFIG);
    let types: Vec<&str> = document["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["mediaType"].as_str().unwrap())
        .collect();
    assert_eq!(types, [CHART_CONTENT, CHART_PROVENANCE]);
    assert_eq!(blob(&charted, &document["layers"][0]), bytes);
    assert_eq!(blob(&charted, &document["layers"][1]), b"signed");
    let config: Value = serde_json::from_slice(&blob(&charted, &document["config"])).unwrap();
    assert_eq!((&config["name"], &config["version"]), (&json!("app"), &json!("1.2.3+build.5")));
    assert_eq!(document["annotations"]["org.opencontainers.image.title"], "app");
    assert_eq!(document["annotations"]["org.opencontainers.image.version"], "1.2.3+build.5");
    assert_eq!(document["annotations"]["org.opencontainers.image.description"], "A chart");
    assert!(document["annotations"].get("org.opencontainers.image.created").is_none());
    // The same again is the same bytes.
    assert_eq!(manifest(&open(&order(ChartPlace::File(path))).unwrap()).0, text);

    // A registry takes it, skopeo copies it, and it is read back from there as a chart.
    let registry = RealRegistry::start();
    let mut content = Content::new();
    for part in [&document["config"], &document["layers"][0], &document["layers"][1]] {
        content.blob(&Blob::new(part["mediaType"].as_str().unwrap(), blob(&charted, part)));
    }
    let root = content.manifest_bytes("application/vnd.oci.image.manifest.v1+json", text.clone());
    registry.push("charts/app", &content, &root, Some("1.2.3_build.5"));
    let name = format!("{}/charts/app:1.2.3_build.5", registry.host());
    let raw = skopeo(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    assert_eq!(raw.as_bytes(), text);
    let layout = format!("oci:{}:app", folder.path().join("layout").display());
    skopeo(["copy", "--src-tls-verify=false", "--preserve-digests", &format!("docker://{name}"), &layout]);
    let pulled = open(&order(ChartPlace::Registry(name.parse().unwrap()))).unwrap();
    assert_eq!(pulled.name.to_string(), name);
    assert_eq!(pulled.reference.as_ref().unwrap().to_string(), name);
    assert_eq!((names(&pulled), manifest(&pulled).0), (names(&charted), text));
}

#[test]
fn a_folder_is_a_chart_too_and_its_subcharts_images_count() {
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join("work").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write(
            "Chart.yaml",
            b"name: app\nversion: 2.0.0\ndependencies:\n- {name: db, version: 1.0.0, repository: ''}\n\
              - {name: cache, version: 1.0.0, repository: ''}\n",
        );
        write("charts/db-1.0.0.tgz", &package("db", "1.0.0", Some("r.example/db:1")));
        write("values.yaml", b"{}");
        write("notes.txt", b"ignored");
        write(".helmignore", b"notes.txt\n");
        folder
    };
    let (first, second) = (make(), make());
    let place = |folder: &tempfile::TempDir| ChartPlace::File(folder.path().join("work"));
    let charted = open(&order(place(&first))).unwrap();
    assert_eq!(charted.name.to_string(), "localhost/charts/app:2.0.0");
    assert_eq!(names(&charted), ["r.example/db:1"]);
    assert_eq!(charted.warnings.len(), 1, "{:?}", charted.warnings);
    assert!(
        charted.warnings[0].contains("app 2.0.0 needs cache")
            && charted.warnings[0].contains("helm dependency build")
    );
    let (text, document) = manifest(&charted);
    assert_eq!(text, manifest(&open(&order(place(&second))).unwrap()).0);
    let files = crate::support::images::gunzip(&blob(&charted, &document["layers"][0]));
    let mut archive = tar::Archive::new(&files[..]);
    let listed: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(listed, ["app/.helmignore", "app/Chart.yaml", "app/charts/db-1.0.0.tgz", "app/values.yaml"]);
}

#[test]
fn a_chart_that_says_nothing_of_images_is_a_warning_and_a_list_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bare.tgz");
    fs::write(&path, package("bare", "0.1.0", None)).unwrap();
    let mut wanted = order(ChartPlace::File(path));
    let charted = open(&wanted).unwrap();
    assert!(charted.images.is_empty());
    assert!(
        charted.warnings[0].contains("chart bare 0.1.0 travels without images")
            && charted.warnings[0].contains("--chart-images FILE")
            && charted.warnings[0].contains("--render-charts"),
        "{:?}",
        charted.warnings
    );
    let list = folder.path().join("images.txt");
    fs::write(&list, "r.example/a:1\nnginx # the proxy\nr.example/a:1\n").unwrap();
    wanted.images = Some(list.clone());
    wanted.name = Some("reg.test/charts/own:7".parse().unwrap());
    let charted = open(&wanted).unwrap();
    assert_eq!(names(&charted), ["docker.io/library/nginx:latest", "r.example/a:1"]);
    assert_eq!(charted.images[1].at, format!("{}:1", list.display()));
    assert_eq!((charted.name.to_string().as_str(), charted.warnings.len()), ("reg.test/charts/own:7", 0));
    fs::write(&list, "r.example/a:1\n?\n").unwrap();
    assert!(refused(open(&wanted)).contains(&format!("line 2 of {}", list.display())));
}

#[test]
fn what_is_no_chart_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        ChartPlace::File(path)
    };
    let whole = package("app", "1.0.0", None);
    for (place, why) in [
        (
            path("zip.tgz", b"PK\x03\x04"),
            "zip.tgz can't be used as a Helm chart: it is not compressed with gzip",
        ),
        (path("cut.tgz", &whole[..40]), "cut.tgz can't be used as a Helm chart: its archive can't be read"),
        (path("bare.tgz", &gzip(&tar_of(&[("a/b", b"")]))), "it has no `NAME/Chart.yaml`"),
        (path("name.tgz", &package("Upper", "1.0.0", None)), "chart Upper 1.0.0 can't be named"),
        (ChartPlace::File(folder.path().join("absent.tgz")), "absent.tgz can't be read"),
        (ChartPlace::File(folder.path().to_owned()), "the folder has no `Chart.yaml`"),
    ] {
        let error = refused(open(&order(place)));
        assert!(error.contains(why), "{error}");
    }
    // An image in a registry is no chart.
    let registry = RealRegistry::start();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 2000)]);
    registry.push("demo/app", &content, &image, Some("v1"));
    let name = format!("{}/demo/app:v1", registry.host());
    let error = refused(open(&order(ChartPlace::Registry(name.parse().unwrap()))));
    assert!(error.contains(&format!("{name} can't be used as a Helm chart: its config is")), "{error}");
}
