//! What real container engines make of the files: they pull from the mirror what is called after a host that does not exist.

use barge::graph::Part;
use barge::oci::Descriptor;

use super::{Cargo, Place};
use crate::support::barge::barge;
use crate::support::containerd::Containerd;
use crate::support::peers::{RealRegistry, command, run, run_any};

/// Images of hosts that nobody has, pushed into a real registry below `site`.
fn pushed(place: &Place) -> (RealRegistry, [Descriptor; 4]) {
    let mut cargo = Cargo::default();
    let images = [
        cargo.image(Part::Image, "gone.invalid/team/app:v1", "gone.invalid/team/app:v1", 1),
        cargo.image(Part::Image, "gone.invalid/team/tool@", "gone.invalid/team/tool@", 2),
        cargo.image(Part::Image, "lost.invalid:5000/deep/er/app:v2", "lost.invalid:5000/deep/er/app:v2", 3),
        cargo.image(Part::Image, "gone.invalid/renamed:v9", "gone.invalid/team/old@", 4),
    ];
    cargo.pack(&place.path("site.barge"));
    let real = RealRegistry::start();
    let target = format!("{}/site", real.host());
    let push = barge(["push", "site.barge", &target, "--receipt", "receipt.json"]).dir(place.0.path());
    push.run().success();
    place.resources(&["receipt.json", "--insecure"]).success();
    (real, images)
}

fn pull_names([app, tool, deep, old]: &[Descriptor; 4]) -> [(String, &Descriptor); 5] {
    [
        ("gone.invalid/team/app:v1".to_owned(), app),
        (format!("gone.invalid/team/app@{}", app.digest), app),
        (format!("gone.invalid/team/tool@{}", tool.digest), tool),
        ("lost.invalid:5000/deep/er/app:v2".to_owned(), deep),
        (format!("gone.invalid/team/old@{}", old.digest), old),
    ]
}

#[test]
fn skopeo_finds_everything_by_its_old_name() {
    let place = Place::new();
    let (_real, images) = pushed(&place);
    let conf = place.text("out/registries.conf.d/50-barge.conf");
    let skopeo = |conf: &str, name: &str| {
        let mut skopeo = command("skopeo");
        skopeo.args([
            "--insecure-policy",
            "--registries-conf",
            conf,
            "inspect",
            "--raw",
            &format!("docker://{name}"),
        ]);
        skopeo
    };
    for (name, root) in pull_names(&images) {
        let raw = run(&mut skopeo(&conf, &name)).stdout;
        assert!(root.digest.matches(&raw), "{name}");
    }
    // It is the file that does it.
    let empty = place.text("empty.conf");
    std::fs::write(&empty, "").unwrap();
    assert!(!run_any(&mut skopeo(&empty, "gone.invalid/team/app:v1")).status.success());
}

#[test]
fn containerd_pulls_what_is_not_renamed() {
    let place = Place::new();
    let (_real, images) = pushed(&place);
    let daemon = Containerd::start();
    let hosts = place.text("out/certs.d");
    let names = pull_names(&images);
    for (name, root) in &names[..4] {
        daemon.ctr(["images", "pull", "--snapshotter", "native", "--hosts-dir", &hosts, name]);
        let listed = daemon.ctr(["images", "ls"]);
        let line = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.contains(&root.digest.to_string())), "{name}\n{listed}");
    }
    // What it can't express was said, and is so.
    let again = place.resources(&["receipt.json", "--insecure"]).success();
    again.stderr_has("is renamed, which containerd can't do").stderr_has("gone.invalid/team/old is ");
    assert!(!daemon.try_ctr(["content", "fetch", "--hosts-dir", &hosts, &names[4].0]).status.success());
}

#[test]
fn what_containerd_and_k3s_can_not_say_is_said() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    let app = cargo.image(Part::Image, "a.test/team/app:v1", "a.test/team/app:v1", 1);
    // The same repository under two names.
    cargo.add(Part::Image, "a.test/copy/app:v1", "a.test/team/app:v1", &app);
    // Two paths within one host.
    cargo.image(Part::Image, "a.test/below/other/x:v1", "a.test/other/x:v1", 2);
    cargo.image(Part::Image, "a.test/other/y:v1", "a.test/other/y:v1", 3);
    // Where a path would give the images of another host.
    cargo.image(Part::Image, "b.test/p/q:v1", "b.test/p/q:v1", 4);
    cargo.image(Part::Image, "c.test/p/q:v2", "c.test/p/q:v2", 5);
    cargo.image(Part::Image, "c.test/z/p/r:v1", "c.test/p/r:v1", 6);
    cargo.image(Part::Image, "b.test/z/p/q:v9", "b.test/else@", 7);
    cargo.pack(&place.path("site.barge"));
    let done = place.resources(&["site.barge", "--registry", "m.test"]).success();
    let done = done.stderr_has("is renamed, which containerd can't do: pull it by its new name (2):");
    let done = done.stderr_has("is at more than one path, of which k3s and RKE2 look at one");
    assert!(done.stderr.contains("a.test/team/app is team/app and copy/app"), "{done}");
    assert!(done.stderr.contains("would find other images for names of the same host"), "{done}");
    assert!(done.stderr.contains("c.test/p/r is m.test/z/p/r"), "{done}");
    let files = place.files("out");
    let a = &files["certs.d/a.test/hosts.toml"];
    let hosts: Vec<&str> = a.lines().filter(|line| line.starts_with("[host")).collect();
    assert_eq!(hosts, ["[host.\"https://m.test\"]", "[host.\"https://m.test/v2/below\"]"], "{a}");
    let c = &files["certs.d/c.test/hosts.toml"];
    assert!(!c.contains("/v2/z"), "{c}");
    let k3s: serde_json::Value = serde_saphyr::from_str(&files["k3s/registries.yaml"]).unwrap();
    assert_eq!(k3s["mirrors"]["a.test"]["rewrite"], serde_json::json!({ "^other/x$": "below/other/x" }));
    assert_eq!(k3s["mirrors"]["a.test"]["endpoint"], serde_json::json!(["https://m.test"]));
}

#[test]
fn nothing_is_found_by_the_name_of_what_was_renamed_away() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    for (at, name) in (1..).zip(["a.test/ns/a:1", "a.test/ns/a/b:1", "b.test/a/x:1"]) {
        cargo.image(Part::Image, name, name, at);
    }
    cargo.pack(&place.path("site.barge"));
    let maps = ["--map", "a.test/ns/a=other", "--map", "a.test/ns/a/b=ns/a/b", "--map", "b.test/a/x=ns/a"];
    let done = place.resources(&[&["site.barge", "--registry", "m.test"], &maps[..]].concat()).success();
    // `a.test/ns/a` would be the image of b.test there.
    let done = done.stderr_has("would find other images for names of the same host");
    let files = place.files("out");
    assert!(!files.contains_key("certs.d/a.test/hosts.toml"), "{done}\n{files:?}");
    for file in ["idms-generic-0.yaml", "itms-generic-0.yaml"] {
        let set: serde_json::Value = serde_saphyr::from_str(&files[file]).unwrap();
        let field = if file.starts_with("idms") { "imageDigestMirrors" } else { "imageTagMirrors" };
        let expected = serde_json::json!([
            { "mirrors": ["m.test/other"], "source": "a.test/ns/a" },
            { "mirrors": ["m.test/ns/a/b"], "source": "a.test/ns/a/b" },
            { "mirrors": ["m.test/ns/a"], "source": "b.test/a/x" },
        ]);
        assert_eq!(set["spec"][field], expected, "{file}");
    }
}

#[test]
fn hosts_that_share_a_path_at_the_mirror_are_told_with_the_remedy() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    cargo.image(Part::Image, "a.test/team/app:v1", "a.test/team/app:v1", 1);
    cargo.image(Part::Image, "b.test/team/tool:v1", "b.test/team/tool:v1", 2);
    cargo.pack(&place.path("site.barge"));
    let real = RealRegistry::start();
    let target = format!("{}/site", real.host());
    let said = format!("a.test, b.test at {target}");
    let push =
        |more: &[&str]| barge(["push", "site.barge", &target]).args(more).dir(place.0.path()).run().success();
    push(&[]).stderr_has(&said).stderr_has("`--strip-registry=false` at the push keeps hosts apart");
    let apart = ["--strip-registry", "false"];
    push(&apart).never_says("keeps hosts apart");
    let paper = ["site.barge", "--registry", &target];
    place.resources(&paper).success().stderr_has(&said).stderr_has("`--strip-registry=false`");
    let apart = place.resources(&[&paper[..], &apart].concat()).success().never_says("keeps hosts apart");
    apart.stdout_has("containerd: certs.d into /etc/containerd, with config_path = /etc/containerd/certs.d");
}
