//! hauler's manifests.

use super::*;
use crate::input::ChartPlace;

/// A document of `kind: Images` with these items, of which the first is in the sixth line.
fn images(items: &str) -> String {
    format!(
        "apiVersion: content.hauler.cattle.io/v1\nkind: Images\nmetadata: {{name: x}}\nspec:\n  images:\n{items}"
    )
}

#[test]
fn several_documents_are_one_file() {
    let text = images(
        "  - name: reg.test/a:v1\n  - {name: 'reg.test/b:v1', platform: linux/arm64, rewrite: /public/b}\n",
    ) + "---\napiVersion: content.hauler.cattle.io/v1\nkind: Charts\nmetadata: {name: y}\nspec:\n  charts:\n\
           \x20 - {name: web, repoURL: 'https://charts.test', version: 1.0.0}\n\
           \x20 - {name: db, repoURL: 'oci://reg.test/charts', version: 2.0.0}\n\
           \x20 - {name: app.tgz, repoURL: .}\n  - name: ./dir/app2.tgz\n\
           ---\napiVersion: content.hauler.cattle.io/v1alpha1\nkind: Images\nspec:\n  images: [{name: alpine}]\n";
    let folder = tempfile::tempdir().unwrap();
    let order = read_in(folder.path(), text).unwrap();
    assert_eq!(
        pulls(&order),
        [
            "reg.test/a:v1 < reg.test/a:v1",
            "reg.test/public/b:v1 < reg.test/b:v1",
            "docker.io/library/alpine:latest < docker.io/library/alpine:latest"
        ]
    );
    assert_eq!(lines_of(&order), [6, 7, 22]);
    assert_eq!(order.images[1].platforms, ["linux/arm64".parse().unwrap()]);
    let places: Vec<&ChartPlace> = order.charts.iter().map(|chart| &chart.place).collect();
    let web = ChartPlace::Repository {
        url: "https://charts.test".to_owned(),
        chart: "web".to_owned(),
        version: Some("1.0.0".to_owned()),
    };
    assert_eq!(
        places,
        [
            &web,
            &ChartPlace::Registry("reg.test/charts/db:2.0.0".parse().unwrap()),
            &ChartPlace::File(folder.path().join("./app.tgz")),
            &ChartPlace::File(folder.path().join("./dir/app2.tgz")),
        ]
    );
    assert!(order.notes.is_empty(), "{:?}", order.notes);
}

#[test]
fn annotations_speak_for_all_images_of_a_document() {
    let text = images("  - name: team/a:v1\n  - {name: other.test/b:v1, platform: all}\n  - {name: c, registry: third.test}\n")
        .replace("{name: x}", "{name: x, annotations: {hauler.dev/platform: linux/amd64, hauler.dev/registry: reg.test, hauler.dev/key: k}}");
    let order = order(&text);
    assert_eq!(
        pulls(&order),
        [
            "reg.test/team/a:v1 < reg.test/team/a:v1",
            "other.test/b:v1 < other.test/b:v1",
            "third.test/c:latest < third.test/c:latest"
        ]
    );
    let platforms: Vec<usize> = order.images.iter().map(|image| image.platforms.len()).collect();
    assert_eq!(platforms, [1, 0, 1]);
    assert!(order.notes[0].contains("line 3: signatures are not verified"), "{:?}", order.notes);
}

#[test]
fn what_is_not_done_is_said_with_its_lines() {
    let text = images(
        "  - {name: a, key: k.pub, use-tlog-verify: true}\n  - name: b\n    certificate-identity: x\n    exclude-extras: true\n",
    ) + "---\napiVersion: content.hauler.cattle.io/v1\nkind: Charts\nspec: {charts: [{name: x.tgz, addImages: true, addDependencies: true, rewrite: y}]}\n";
    let notes = order(&text).notes;
    for words in [
        "line 6, 6, 8: signatures are not verified",
        "line 9: `exclude-extras`",
        "line 13: `addImages`",
        "line 13: `addDependencies`",
        "line 13: `rewrite` of a chart",
    ] {
        assert_eq!(notes.iter().filter(|note| note.contains(words)).count(), 1, "{words}: {notes:?}");
    }
    let quiet = images("  - {name: a, exclude-extras: false}\n");
    assert!(order(&quiet).notes.is_empty());
}

#[test]
fn other_kinds_are_refused_with_what_to_do() {
    let of = |kind: &str| images("  - name: a\n").replace("kind: Images", &format!("kind: {kind}"));
    faulty(&of("Files"), &["FILE:2: `kind: Files` asks for plain files", "hint: copy the files"]);
    faulty(&of("ImageTxts"), &["FILE:2: `kind: ImageTxts` of hauler is not read", "hint:"]);
    faulty(&images("  - name: a=b\n"), &["FILE:6: `a=b` is no reference"]);
    faulty(&images("  - name: ./a.tar\n"), &["FILE:6: `./a.tar` is no reference"]);
    faulty(&images("  - name: A\n"), &["FILE:6: `A` can't be used here"]);
    faulty(&images("  - {name: a, platform: amd64}\n"), &["FILE:6: `amd64` is not a platform"]);
    faulty(&images("  - {name: a, rewrite: 'B'}\n"), &["FILE:6:", "can't be used here"]);
    faulty(&images("  - {name: a, nme: b}\n"), &["FILE:6: unknown field `nme`; did you mean `name`?"]);
    faulty(&images("  - {platform: linux/amd64}\n"), &["FILE:6: the field `name` is missing"]);
    faulty(
        &images("  - name: a\n").replace("v1\n", "v3\n"),
        &["FILE:1: `apiVersion: content.hauler.cattle.io/v3` is not known"],
    );
    faulty(
        &images("  - name: a\n  charts: [{name: b}]\n"),
        &["FILE:7: `charts` belong into a document of `kind: Charts`"],
    );
    let second = images("  - name: a\n") + "---\napiVersion: barge/v1\nkind: Images\n";
    faulty(&second, &["FILE:8: `apiVersion: barge/v1` is not known"]);
}
