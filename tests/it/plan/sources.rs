//! Images that are in no registry: layouts, archives, bundles.

use std::fs;

use super::run::run_script;
use super::{Stock, made, shop, stock};
use crate::support::archives::{
    DockerArchive, TarStyle, write_docker_archive, write_layout, write_layout_tar,
};
use crate::support::barge::{Outcome, barge};
use crate::support::peers::RealRegistry;

fn plan(folder: &std::path::Path, images: &[&str], to: &str, format: &str) -> Outcome {
    barge(["plan", "--to", to, "--format", format]).args(images).dir(folder).run()
}

/// A layout folder and a tar file of one, with the index and its signature.
fn roots(stock: &Stock) -> [(String, barge::oci::Descriptor); 3] {
    [
        ("registry.example/team/app:v1".to_owned(), stock.app.clone()),
        (format!("registry.example/team/app:{}", stock.signature.0), stock.signature.1.clone()),
        ("registry.example/team/db:1".to_owned(), stock.pinned[0].clone()),
    ]
}

#[test]
fn layouts_with_hostile_names_are_copied_by_skopeo() {
    let (stock, real) = (stock(), RealRegistry::start());
    let folder = tempfile::tempdir().unwrap();
    let roots = roots(&stock);
    let roots: Vec<(&str, _)> = roots.iter().map(|(name, root)| (name.as_str(), root.clone())).collect();
    let name = "it's a \"layout\" $(touch pwned) `touch pwned` & ; #\n x=y";
    write_layout(&folder.path().join(name), &stock.content, &roots);
    write_layout_tar(&folder.path().join("db $HOME.tar"), &stock.content, &roots[2..], TarStyle::default());
    let target = format!("{}/mirror", real.host());
    let layout = format!("oci:./{name}");
    let done = plan(folder.path(), &[&layout, "oci-archive:./db $HOME.tar"], &target, "skopeo").success();
    run_script(folder.path(), &done.stdout, &[]);
    assert!(!folder.path().join("pwned").exists());
    stock.assert_there(real.host(), "mirror/team/app", "v1", &stock.app);
    stock.assert_there(real.host(), "mirror/team/app", &stock.signature.0, &stock.signature.1);
    stock.assert_there(real.host(), "mirror/team/db", "1", &stock.pinned[0]);
    // A mapping names registries only; regsync reads folders, but none with such a name.
    let refused = plan(folder.path(), &[&layout], &target, "mapping").code(3);
    refused.stderr_has("none of the images can be said as a mapping").stderr_has("barge push");
    plan(folder.path(), &[&layout], &target, "regsync").code(3).stderr_has("layout folders only");
    fs::rename(folder.path().join(name), folder.path().join("layout")).unwrap();
    let source = format!("source: \"ocidir://./layout@{}\"", stock.app.digest);
    plan(folder.path(), &["oci:./layout"], &target, "regsync").success().stdout_has(&source);
    let document = plan(folder.path(), &["oci:./layout"], &target, "json").success().json();
    assert_eq!(document["images"][0]["source"], serde_json::json!({ "kind": "oci", "path": "./layout" }));
}

#[test]
fn bundles_are_copied_whole_or_not_at_all() {
    let (stock, from, images) = shop();
    let folder = tempfile::tempdir().unwrap();
    let pack = |name: &str, images: &[String], more: &[&str]| {
        barge(["pack", "-o", name]).args(images).args(more).dir(folder.path()).run().success();
    };
    let two = [images[0].clone(), images[2].clone()];
    pack("all.oci.tar", &two, &[]);
    pack("some.oci.tar", &two, &["--platform", "linux/amd64"]);
    pack("docker.oci.tar", &images[1..2], &[]);
    let mapping = plan(folder.path(), &["./all.oci.tar"], "reg.test", "mapping").success();
    let real = RealRegistry::start();
    let script = plan(folder.path(), &["./all.oci.tar"], real.host(), "skopeo").success();
    let app = format!("{}/team/app@{}=reg.test/team/app:v1\n", from.host(), stock.app.digest);
    mapping.stdout_has(&app).stderr_has("is taken from where it was packed");
    drop(from);
    run_script(folder.path(), &script.stdout, &[]);
    stock.assert_there(real.host(), "team/app", "v1", &stock.app);
    stock.assert_there(real.host(), "team/app", &stock.signature.0, &stock.signature.1);
    stock.assert_there(real.host(), "team/db", &made(&stock.pinned[0]), &stock.pinned[0]);
    // Of the other only the image that is whole goes; the rest is told.
    let some = plan(folder.path(), &["./some.oci.tar"], "reg.test", "skopeo").code(1);
    let some = some.stderr_has("PARTIAL: 1 image of what was asked for left out");
    let some =
        some.stderr_has("left out: skopeo copies no single platforms of a layout").stderr_has("team/app:v1");
    assert_eq!(some.stdout.matches("skopeo copy").count(), 1, "{some}");
    assert!(some.stdout.contains(&format!("reg.test/team/db:{}", made(&stock.pinned[0]))), "{some}");
    let docker = plan(folder.path(), &["./docker.oci.tar"], "reg.test", "skopeo").code(3);
    docker.stderr_has("no manifests of Docker's types in a layout").stderr_has("team/tool:v2");
}

#[test]
fn deltas_and_docker_archives_are_told() {
    let (stock, _from, images) = shop();
    let folder = tempfile::tempdir().unwrap();
    let pack = |name: &str, images: &[String], more: &[&str]| {
        barge(["pack", "-o", name]).args(images).args(more).dir(folder.path()).run().success();
    };
    pack("base.oci.tar", &images[1..2], &[]);
    pack("delta.barge", &images[..2], &["--base", "base.oci.tar"]);
    let delta = plan(folder.path(), &["./delta.barge"], "reg.test", "skopeo").code(3);
    delta.stderr_has("has not all of its content").stderr_has("barge push");
    plan(folder.path(), &["./delta.barge"], "reg.test", "mapping")
        .success()
        .stdout_has("reg.test/team/app:v1");
    write_docker_archive(
        &folder.path().join("old.tar"),
        &stock.content,
        DockerArchive::Old,
        &[(&stock.tool, &["registry.example/old:1"])],
    );
    let old = plan(folder.path(), &["docker-archive:./old.tar"], "reg.test", "skopeo").code(3);
    old.stderr_has("have no manifest").stderr_has("registry.example/old:1");
    let document = plan(folder.path(), &["./old.tar"], "reg.test", "json").success().json();
    assert_eq!(document["images"][0]["source"]["kind"], "docker-archive");
}

#[test]
fn what_is_left_out_whole_is_listed_and_is_no_success() {
    let (stock, _from, images) = shop();
    let folder = tempfile::tempdir().unwrap();
    let target = "registry.example/team/db:1";
    write_layout_tar(
        &folder.path().join("db.tar"),
        &stock.content,
        &[(target, stock.pinned[0].clone())],
        TarStyle::default(),
    );
    for format in ["mapping", "regsync"] {
        let done = plan(folder.path(), &[&images[1], "./db.tar"], "reg.test", format).code(1);
        done.stderr_has("PARTIAL: 1 image of what was asked for left out");
        let args = ["plan", "--to", "reg.test", "--format", format, "--json", &images[1], "./db.tar"];
        let told = barge(args).dir(folder.path()).run().code(1).json();
        assert_eq!(told["leftOut"], serde_json::json!([format!("{target} of ./db.tar")]), "{told}");
        assert_eq!(told["exitCode"], 1);
    }
    // Attachments alone are no image.
    plan(folder.path(), &[&images[0]], "reg.test", "mapping").success().stderr_has("copies no referrers");
    // A script reads the file, once for each image and from where it lies.
    let two = [(target, stock.pinned[0].clone()), ("registry.example/team/db:2", stock.pinned[1].clone())];
    write_layout_tar(&folder.path().join("two.tar"), &stock.content, &two, TarStyle::default());
    let script = plan(folder.path(), &["./two.tar"], "reg.test", "skopeo").success();
    let script = script.stderr_has("is found from the folder in which the plan was made");
    script.stderr_has("`barge push` reads it once: ./two.tar with 2 images");
    let one = folder.path().join("db.tar");
    let whole = plan(folder.path(), &[one.to_str().unwrap()], "reg.test", "skopeo").success();
    whole.never_says("is found from the folder").never_says("may be unpacked whole");
}
