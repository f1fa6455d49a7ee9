//! Rendering: what helm is told, what is found in what it writes, and what is said when it fails.
//!
//! Helm itself is no Debian package, so a script stands in for it and writes down its arguments.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barge::chart::{self, Reach};
use barge::input::ChartPlace;
use barge::oci::Digest;

use super::repository::{Repository, index};
use super::{client, names, order, package, refused};
use crate::support::peers::{command, run};

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
