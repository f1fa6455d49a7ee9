//! Helm charts: the artifacts they become, where they come from, and how their images are found.
//!
//! Helm itself is no Debian package, so rendering is tested with a script that stands in for it and writes down its arguments.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barge::chart::{self, CHART_CONFIG, CHART_CONTENT, CHART_PROVENANCE, ChartError, Charted, Reach};
use barge::input::{ChartOrder, ChartPlace};
use barge::oci::Digest;
use barge::store::read_manifest;
use barge::store::registry::{Client, Options};
use serde_json::{Value, json};

use crate::support::hostile::{Action, Fault, Hostile, Response};
use crate::support::images::{Blob, Content, gzip, layer, tar_of};
use crate::support::peers::{RealRegistry, command, run, skopeo};

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

/// A repository at `/stable` of a server that answers what it is told.
struct Repository(Hostile);

impl Repository {
    fn new(index: &str) -> Self {
        let server = Hostile::honest();
        server.fault(Fault::on("GET", "/stable/index.yaml", Action::Respond(Response::text(200, index))));
        Self(server)
    }

    fn url(&self) -> String {
        format!("http://{}/stable", self.0.host())
    }

    fn has(&self, path: &str, bytes: &[u8]) {
        self.0.fault(Fault::on("GET", path, Action::Respond(Response::new(200).body(bytes))));
    }

    fn order(&self, version: Option<&str>) -> ChartOrder {
        order(ChartPlace::Repository {
            url: self.url(),
            chart: "app".to_owned(),
            version: version.map(ToOwned::to_owned),
        })
    }
}

fn index(entries: &[(&str, &str, &str)]) -> String {
    let mut text = "apiVersion: v1\nentries:\n  other:\n  - version: 9.0.0\n  app:\n".to_owned();
    for (version, url, digest) in entries {
        text += &format!(
            "  - version: {version}\n    urls: [{url:?}]\n    digest: {digest:?}\n    created: 2024-01-01\n"
        );
    }
    text
}

#[test]
fn a_repository_gives_the_newest_release_or_the_version_named_and_its_digest_is_checked() {
    let old = package("app", "1.0.0", Some("r.example/a:1"));
    let new = package("app", "1.10.0", Some("r.example/a:10"));
    let hex = |bytes: &[u8]| Digest::sha256(bytes).hex();
    let repository = Repository::new(&index(&[
        ("1.0.0", "../files/app-1.0.0.tgz", &format!("sha256:{}", hex(&old))),
        ("1.10.0", "app-1.10.0.tgz", &hex(&new)),
        ("2.0.0-rc.1", "app-2.tgz", ""),
        ("1.9.0", "app-1.9.0.tgz", &hex(b"other")),
    ]));
    repository.has("/files/app-1.0.0.tgz", &old);
    repository.has("/stable/app-1.10.0.tgz", &new);
    repository.has("/stable/app-1.9.0.tgz", &old);
    repository.has("/stable/app-2.tgz", &package("app", "2.0.0-rc.1", Some("r.example/a:2")));
    let charted = open(&repository.order(None)).unwrap();
    assert_eq!(charted.name.to_string(), "localhost/charts/app:1.10.0");
    assert_eq!((names(&charted), charted.warnings.len()), (vec!["r.example/a:10".to_owned()], 0));
    assert_eq!(blob(&charted, &manifest(&charted).1["layers"][0]), new);
    assert_eq!(names(&open(&repository.order(Some("1.0.0"))).unwrap()), ["r.example/a:1"]);
    let unproved = open(&repository.order(Some("2.0.0-rc.1"))).unwrap();
    assert_eq!(unproved.name.to_string(), "localhost/charts/app:2.0.0-rc.1");
    assert!(
        refused(open(&repository.order(Some("1.9.0"))))
            .contains("its `index.yaml` announces it, and the bytes hash to")
    );
    let error = refused(open(&repository.order(Some("3.0.0"))));
    assert!(
        error.contains("lists no chart `app` of version `3.0.0`; the newest versions are 2.0.0-rc.1, 1.10.0"),
        "{error}"
    );
    let mut absent = repository.order(None);
    absent.place = ChartPlace::Repository { url: repository.url(), chart: "gone".to_owned(), version: None };
    assert!(refused(open(&absent)).contains("lists no release of a chart `gone`"));
}

#[test]
fn credentials_stay_with_the_repository_and_hosts_that_are_not_allowed_are_not_asked() {
    let bytes = package("app", "1.0.0", Some("r.example/a:1"));
    let other = Hostile::honest();
    other.fault(Fault::on("GET", "/app.tgz", Action::Respond(Response::new(200).body(bytes.clone()))));
    let repository = Hostile::honest();
    let text =
        index(&[("1.0.0", &format!("http://{}/app.tgz", other.host()), &Digest::sha256(&bytes).hex())]);
    repository.fault(Fault::on(
        "GET",
        "/index.yaml",
        Action::Custom(Arc::new(move |head| match head.header("authorization") {
            Some("Basic bWU6c2VjcmV0") => Response::text(200, &text),
            _ => Response::text(401, "who are you").with("WWW-Authenticate", "Basic realm=\"x\""),
        })),
    ));
    let place = |url: String| order(ChartPlace::Repository { url, chart: "app".to_owned(), version: None });
    let with = |credentials: Vec<(Option<String>, String, String)>| {
        let client = Client::new(Options { credentials, retry_times: 1, ..Options::default() }).unwrap();
        let reach = Reach::new(&client, &std::env::temp_dir());
        chart::open(&place(format!("http://{}", repository.host())), &reach)
    };
    let me = |host: Option<&str>| (host.map(ToOwned::to_owned), "me".to_owned(), "secret".to_owned());
    // What was given for every registry is not shown to a chart repository.
    let error = refused(with(vec![me(None)]));
    assert!(error.contains("denied access") && !error.contains("secret"), "{error}");
    assert!(repository.requests().iter().all(|request| request.head.header("authorization").is_none()));
    let charted = with(vec![me(Some(repository.host())), me(Some(other.host()))]).unwrap();
    assert_eq!(names(&charted), ["r.example/a:1"]);
    assert!(other.requests().iter().all(|request| request.head.header("authorization").is_none()));
    assert!(repository.requests().iter().any(|request| request.head.header("authorization").is_some()));
    // Plain HTTP to a host that is not on this machine, other schemes, user names in the address.
    for (url, why) in [
        ("http://charts.registry.example/x", "plain HTTP is not allowed for charts.registry.example"),
        ("file:///etc", "neither http nor https"),
        ("https://me:secret@charts.registry.example", "user information"),
    ] {
        let error = refused(open(&place(url.to_owned())));
        assert!(error.contains(why) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn an_index_that_is_broken_endless_or_elsewhere_is_said() {
    let repository = Repository::new("entries: [");
    let error = refused(open(&repository.order(None)));
    assert!(error.contains(&repository.url()) && error.contains("its `index.yaml`: "), "{error}");
    let repository = Repository::new("entries: {}");
    repository.0.clear_faults();
    assert!(refused(open(&repository.order(None))).contains("does not have /stable/index.yaml"));
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, last) in
        [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f"), ("h", "g"), ("i", "h")]
    {
        bomb += &format!(
            "{name}: &{name} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"
        );
    }
    bomb += "entries: *i\n";
    let start = Instant::now();
    let error = refused(open(&Repository::new(&bomb).order(None)));
    assert!(error.contains("`index.yaml`") && start.elapsed() < Duration::from_secs(20), "{error}");
    // More than is read: known by the announced length, before the body.
    let large = Response {
        wire: crate::support::hostile::http::Wire { announced: Some(65 << 20), ..Default::default() },
        ..Response::text(200, "")
    };
    let repository = Repository::new("");
    repository.0.clear_faults();
    repository.0.fault(Fault::on("GET", "/stable/index.yaml", Action::Respond(large)));
    assert!(
        refused(open(&repository.order(None))).contains("has more than the 67108864 bytes that are read")
    );
    // The file is another chart than the one asked for.
    let bytes = package("evil", "1.0.0", None);
    let repository = Repository::new(&index(&[("1.0.0", "a.tgz", &Digest::sha256(&bytes).hex())]));
    repository.has("/stable/a.tgz", &bytes);
    assert!(
        refused(open(&repository.order(None))).contains("chart `app` was asked for, and it is evil 1.0.0")
    );
}

#[test]
fn an_index_may_point_into_a_registry() {
    let registry = RealRegistry::start();
    let bytes = package("app", "1.0.0+x", Some("r.example/a:1"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tgz");
    fs::write(&path, bytes).unwrap();
    let local = open(&order(ChartPlace::File(path))).unwrap();
    let (text, document) = manifest(&local);
    let mut content = Content::new();
    for part in [&document["config"], &document["layers"][0]] {
        content.blob(&Blob::new(part["mediaType"].as_str().unwrap(), blob(&local, part)));
    }
    let root = content.manifest_bytes("application/vnd.oci.image.manifest.v1+json", text);
    registry.push("charts/app", &content, &root, Some("1.0.0_x"));
    let name = format!("{}/charts/app:1.0.0_x", registry.host());
    let repository =
        Repository::new(&index(&[("1.0.0+x", &format!("oci://{}/charts/app:1.0.0+x", registry.host()), "")]));
    let place = |url: &str, version: Option<&str>| {
        order(ChartPlace::Repository {
            url: url.to_owned(),
            chart: "app".to_owned(),
            version: version.map(ToOwned::to_owned),
        })
    };
    for wanted in
        [place(&repository.url(), None), place(&format!("oci://{}/charts", registry.host()), Some("1.0.0+x"))]
    {
        let charted = open(&wanted).unwrap();
        assert_eq!(
            (charted.name.to_string(), charted.reference.unwrap().to_string()),
            (name.clone(), name.clone())
        );
    }
    let error = refused(open(&place(&format!("oci://{}/charts", registry.host()), None)));
    assert!(error.contains("needs a version"), "{error}");
}

/// A script in the place of helm; written by another process, for one that is open for writing can't be run.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("helm");
    let write = "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    run(command("sh").args(["-c", write, "sh", text]).arg(&path));
    path
}

const RENDERED: &str = "---\n# Source: app\nkind: Deployment\nspec:\n  template:\n    spec:\n      initContainers:\n      \
    - {name: i, image: 'r.example/init:1'}\n      containers:\n      - {name: c, image: r.example/main}\n      \
    - {name: d, image: 'r.example/main:latest'}\n      ephemeralContainers: [{image: 'r.example/debug:1'}]\n      \
    volumes: [{name: v, image: {reference: 'r.example/data:1'}}, {name: w}]\n---\n---\nkind: List\nitems:\n\
    - kind: CronJob\n  spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: 'r.example/job:1'}, \
    {image: 'two words'}]}}}}}\n---\nkind: Custom\nspec: {parts: [{image: 'r.example/custom:1'}], other: 7}\n";

#[test]
fn rendering_runs_helm_with_a_list_of_arguments_and_finds_images_of_all_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app; touch x.tgz");
    fs::write(&path, package("app", "1.0.0", Some("r.example/annotated:1"))).unwrap();
    fs::write(folder.path().join("rendered.yaml"), RENDERED).unwrap();
    let shown = folder.path().display();
    let helm = script(
        folder.path(),
        &format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {shown}/arguments\ncat {shown}/rendered.yaml\n"),
    );
    let client = client();
    let mut reach = Reach::new(&client, folder.path());
    reach.helm.program = helm.into();
    let mut wanted = order(ChartPlace::File(path.clone()));
    wanted.values = vec!["one.yaml".into(), "two.yaml".into()];
    // Not without being asked.
    assert_eq!(names(&chart::open(&wanted, &reach).unwrap()), ["r.example/annotated:1"]);
    assert!(!folder.path().join("arguments").exists());

    wanted.render = true;
    wanted.image_paths = vec!["{.spec.parts[*].image}".to_owned(), "{.spec.absent}".to_owned()];
    let charted = chart::open(&wanted, &reach).unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("arguments")).unwrap(),
        format!("template\nrelease-name\n{}\n--values\none.yaml\n--values\ntwo.yaml\n", path.display())
    );
    assert_eq!(
        names(&charted),
        [
            "r.example/annotated:1",
            "r.example/custom:1",
            "r.example/data:1",
            "r.example/debug:1",
            "r.example/init:1",
            "r.example/job:1",
            "r.example/main:latest",
        ]
    );
    assert_eq!(charted.images[1].at, "chart app 1.0.0 at `{.spec.parts[*].image}`");
    assert_eq!(charted.warnings.len(), 2, "{:?}", charted.warnings);
    assert!(charted.warnings[0].contains("names `two words`, which is no image reference"));
    assert!(charted.warnings[1].contains("`{.spec.absent}` names nothing"));
    wanted.image_paths = vec!["{.spec[?(@.a)]}".to_owned()];
    assert!(refused(chart::open(&wanted, &reach)).contains("`{.spec[?(@.a)]}` is no image path"));

    // A chart from a repository is rendered from a working file, which does not stay.
    let bytes = package("app", "1.0.0", None);
    let repository = Repository::new(&index(&[("1.0.0", "a.tgz", &Digest::sha256(&bytes).hex())]));
    repository.has("/stable/a.tgz", &bytes);
    let mut wanted = repository.order(None);
    wanted.render = true;
    assert_eq!(chart::open(&wanted, &reach).unwrap().images.len(), 5);
    let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
    let chart = arguments.lines().nth(2).unwrap();
    assert!(chart.starts_with(&shown.to_string()) && !Path::new(chart).exists(), "{chart}");
}

#[test]
fn helm_that_is_missing_fails_or_does_not_end_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tgz");
    fs::write(&path, package("app", "1.0.0", None)).unwrap();
    let mut wanted = order(ChartPlace::File(path));
    wanted.render = true;
    let client = client();
    let mut reach = Reach::new(&client, folder.path());
    reach.helm.program = folder.path().join("none").into();
    let error = refused(chart::open(&wanted, &reach));
    assert!(error.contains("`helm` is not installed") && error.contains("app 1.0.0"), "{error}");
    let mut try_script = |text: &str| {
        reach.helm.program = script(folder.path(), text).into();
        refused(chart::open(&wanted, &reach))
    };
    let error = try_script("#!/bin/sh\nprintf 'Error: \\033[31mvalues don'\\''t fit\\n' >&2\nexit 3\n");
    assert!(error.contains("exit status: 3: Error: [31mvalues don't fit"), "{error}");
    let error = try_script("#!/bin/sh\necho 'a: ['\n");
    assert!(error.contains("what it wrote can't be read"), "{error}");
    let error = try_script("#!/bin/sh\nhead -c 70000000 /dev/zero\n");
    assert!(error.contains("it wrote more than 67108864 bytes"), "{error}");
}

#[test]
fn helm_that_does_not_end_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tgz");
    fs::write(&path, package("app", "1.0.0", None)).unwrap();
    let mut wanted = order(ChartPlace::File(path));
    wanted.render = true;
    let client = client();
    let mut reach = Reach::new(&client, folder.path());
    reach.helm.patience = Duration::from_secs(1);
    reach.helm.program = script(folder.path(), "#!/bin/sh\nsleep 30\n").into();
    let start = Instant::now();
    let error = refused(chart::open(&wanted, &reach));
    assert!(error.contains("did not end within 1 seconds"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    // Templates that name nothing: said, with what else helps.
    reach.helm.program = script(folder.path(), "#!/bin/sh\necho 'kind: None'\n").into();
    let charted = chart::open(&wanted, &reach).unwrap();
    assert!(charted.warnings[0].contains("its templates name none"), "{:?}", charted.warnings);
}
