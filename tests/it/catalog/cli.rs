//! `barge catalog list` and `barge catalog images`.

use std::path::Path;

use crate::support::archives::write_layout;
use crate::support::barge::{Outcome, barge};
use crate::support::catalogs::{CatalogImages, FORMS, Form, catalog_images};
use crate::support::peers::RealRegistry;

fn layout(form: Form, folder: &Path) -> CatalogImages {
    let images = catalog_images(form, "reg.test");
    write_layout(&folder.join("layout"), &images.content, &[("v1", images.root.clone())]);
    images
}

fn run(folder: &Path, args: &[&str]) -> Outcome {
    barge(["catalog"]).args(args).dir(folder).run()
}

#[test]
fn list_shows_packages_channels_heads_and_versions() {
    for form in FORMS {
        let temp = tempfile::tempdir().unwrap();
        layout(form, temp.path());
        let what = if form == Form::Sqlite { "a SQLite catalog" } else { "a file-based catalog" };
        let expected = format!(
            "\
DONE: oci:layout:v1 holds {what}: 2 packages, 4 channels, 7 bundles
  PACKAGE  CHANNEL           HEAD             VERSIONS
  bar      alpha (default)   bar.v0.1.0       0.1.0
  foo      candidate         foo.v2.2.0-rc.1  2.1.0, 2.2.0-rc.1
  foo      fast              foo.v2.1.0       1.2.0, 2.0.0, 2.1.0
  foo      stable (default)  foo.v2.0.0       1.0.0, 1.1.0, 1.2.0, 2.0.0
next: barge catalog images oci:layout:v1 --package NAME
"
        );
        let outcome = run(temp.path(), &["list", "oci:layout:v1"]).success();
        assert_eq!(outcome.stdout, expected);
        assert_eq!(outcome.stderr, "");
        // A layout with one image needs no tag.
        let document =
            run(temp.path(), &["list", "oci:layout", "--package", "foo", "--json"]).success().json();
        assert_eq!(document["outcome"], "DONE");
        assert_eq!(document["command"], "catalog list");
        assert_eq!(document["packages"].as_array().unwrap().len(), 1);
        let foo = &document["packages"][0];
        assert_eq!((&foo["name"], &foo["defaultChannel"]), (&"foo".into(), &"stable".into()));
        let stable = &foo["channels"][2];
        assert_eq!((&stable["head"], &stable["isDefault"]), (&"foo.v2.0.0".into(), &true.into()));
        assert_eq!(stable["bundles"][0]["version"], "1.0.0");
        run(temp.path(), &["list", "oci:layout", "--package", "fo"])
            .code(3)
            .stderr_has("the catalog oci:layout has no package `fo`")
            .stderr_has("hint: it has foo\n")
            .stderr_has("next: barge catalog list oci:layout");
    }
}

#[test]
fn images_prints_what_would_travel() {
    let temp = tempfile::tempdir().unwrap();
    let images = layout(Form::Yaml, temp.path());
    let lines = |args: &[&str]| -> Vec<String> {
        let outcome = run(temp.path(), &[&["images", "oci:layout"], args].concat()).success();
        assert!(outcome.stderr.contains("the catalog itself travels too: oci:layout"), "{outcome}");
        outcome.stdout.lines().map(str::to_owned).collect()
    };
    assert_eq!(
        lines(&[]),
        images.references_of(&["foo.v2.0.0", "foo.v2.1.0", "foo.v2.2.0-rc.1", "bar.v0.1.0"])
    );
    assert_eq!(lines(&["--package", "bar"]), images.references_of(&["bar.v0.1.0"]));
    assert_eq!(
        lines(&["--package", "foo", "--channel", "stable", "--min", "1.1.0"]),
        images.references_of(&["foo.v1.1.0", "foo.v1.2.0", "foo.v2.0.0"])
    );
    assert_eq!(
        lines(&["--package", "foo", "--channel", "fast", "--default-channel", "fast"]),
        images.references_of(&["foo.v2.1.0"])
    );
    assert_eq!(lines(&["--full"]).len(), 15);
    let document = run(
        temp.path(),
        &["images", "oci:layout", "--package", "foo", "--max", "1.1.0", "--channel", "stable", "--json"],
    )
    .success()
    .json();
    assert_eq!(document["images"].as_array().unwrap().len(), 7);
    let bundles = &document["packages"][0]["bundles"];
    assert_eq!(bundles["foo.v1.0.0"].as_array().unwrap().len(), 3);
    assert_eq!(document["packages"][0]["channels"][0]["bundles"].as_array().unwrap().len(), 3);
    assert_eq!(document["isEverything"], false);
}

#[test]
fn what_cannot_be_chosen_says_what_to_type() {
    let temp = tempfile::tempdir().unwrap();
    layout(Form::Json, temp.path());
    run(temp.path(), &["images", "oci:layout", "--package", "foo", "--channel", "fast"])
        .code(3)
        .stderr_has("the channel `stable`, which is the default of the package `foo`")
        .stderr_has("--default-channel NAME");
    run(temp.path(), &["images", "oci:layout", "--package", "none"])
        .code(3)
        .stderr_has("it has none of the packages none")
        .stderr_has("next: barge catalog list oci:layout");
    run(temp.path(), &["images", "oci:layout", "--package", "foo", "--package", "none"])
        .success()
        .stderr_has("has no package `none`");
    run(temp.path(), &["images", "oci:layout", "--min", "1.0.0"]).code(2).stderr_has("are about one package");
    run(temp.path(), &["images", "oci:layout", "--package", "foo", "--min", "1.0"])
        .code(2)
        .stderr_has("is no version of the form x.y.z");
    run(temp.path(), &["images", "oci:layout", "--package", "foo", "--min", "1.0.0", "--full"]).code(2);
}

#[test]
fn a_catalog_is_read_from_a_registry_and_found_in_a_bundle() {
    let registry = RealRegistry::start();
    let images = catalog_images(Form::Sqlite, registry.host());
    images.push(registry.host());
    let temp = tempfile::tempdir().unwrap();
    let reference = images.reference();
    run(temp.path(), &["list", &reference]).success().stdout_has("2 packages, 4 channels, 7 bundles");
    // The list is one that pack takes.
    let outcome = run(temp.path(), &["images", &reference, "--package", "bar"]).success();
    let mut expected = vec![reference.clone()];
    expected.extend(images.references_of(&["bar.v0.1.0"]));
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), expected);
    std::fs::write(temp.path().join("list"), &outcome.stdout).unwrap();
    let pack = ["pack", "--from-file", "list", "-o", "b.oci.tar"];
    barge(pack).dir(temp.path()).run().success().stdout_has("3 images");
    let inside = format!("oci-archive:b.oci.tar:{reference}");
    run(temp.path(), &["list", &inside]).success().stdout_has("2 packages, 4 channels, 7 bundles");
    run(temp.path(), &["list", "b.oci.tar"])
        .code(3)
        .stderr_has("b.oci.tar holds 3 images; which of them is the catalog?")
        .stderr_has("hint: say it: oci-archive:b.oci.tar:NAME");
    let bundle = expected[1].clone();
    run(temp.path(), &["list", &bundle]).code(3).stderr_has("is no operator catalog");
}
