//! `diff`: what differs, and what would travel.

use super::{Desk, Month, blobs, lacking};
use crate::support::hostile::{Action, Fault, Hostile};

struct Scene {
    desk: Desk,
    a: Hostile,
    b: Hostile,
    january: Month,
    february: Month,
    march: Month,
}

fn scene() -> Scene {
    let (a, b) = (Hostile::honest(), Hostile::honest());
    let (january, february, march) = (Month::january(), Month::february(), Month::march());
    let desk = Desk::new();
    for (month, name) in [(&january, "jan"), (&february, "feb"), (&march, "mar")] {
        month.fill(a.host());
        month.pack(a.host(), &desk.path(&format!("{name}.oci.tar")));
    }
    Scene { desk, a, b, january, february, march }
}

#[test]
fn it_says_what_is_new_changed_and_gone_and_writes_nothing() {
    let scene = scene();
    let desk = &scene.desk;
    let before = desk.names();
    let host = scene.a.host();
    let shown = desk.run("diff jan.oci.tar feb.oci.tar");
    let shown = shown
        .stdout_has("DONE: the base lacks something of 3 of 4 images")
        .stdout_has(&format!("  new      {host}/team/app:v2"))
        .stdout_has(&format!("  new      {host}/team/new:v1"))
        .stdout_has(&format!("  changed  {host}/team/tool:v1"))
        .stdout_has(&format!("  state    {}", desk.record("feb.oci.tar").state()))
        .stdout_has("next: barge diff jan.oci.tar feb.oci.tar -o FILE.barge");
    shown.never_says("widened").never_says("no longer wanted");
    let gone = desk.run("diff jan.oci.tar mar.oci.tar").stdout_has("never deleted: 2 names");
    gone.stdout_has(&format!("    {host}/team/app:v1")).stdout_has(&format!("    {host}/team/tool:v1"));
    desk.run("diff feb.oci.tar feb.oci.tar").stdout_has("NOTHING CHANGED: the base has all of 4 images");
    assert_eq!(desk.names(), before);
}

#[test]
fn the_exit_code_and_the_document() {
    let scene = scene();
    let desk = &scene.desk;
    desk.fails("diff --exit-code jan.oci.tar feb.oci.tar", 1);
    desk.fails("diff --exit-code feb.oci.tar feb.oci.tar", 0);
    desk.fails("diff --exit-code feb.oci.tar jan.oci.tar", 1);
    desk.fails("diff --exit-code jan.oci.tar feb.oci.tar -o feb.barge", 1);
    assert_eq!(super::brought(&desk.record("feb.barge")), lacking(&scene.february, &scene.january));
    let document = desk.run("--json diff jan.oci.tar mar.oci.tar").json();
    let host = scene.a.host();
    let comparison = &document["comparison"];
    let named = |names: &[&str]| -> serde_json::Value {
        names.iter().map(|name| format!("{host}/team/{name}")).collect()
    };
    assert_eq!(comparison["new"], named(&["app:v2", "app:v3", "new:v1"]), "{document}");
    assert_eq!(comparison["removed"], named(&["app:v1", "tool:v1"]));
    assert_eq!(comparison["changed"], named(&[]));
    assert_eq!(comparison["same"], 0);
    let lacking = lacking(&scene.march, &scene.january);
    let size: usize = lacking.iter().map(|digest| scene.march.content.blobs[digest].len()).sum();
    assert_eq!(
        (&comparison["blobs"]["count"], &comparison["blobs"]["bytes"]),
        (&lacking.len().into(), &size.into())
    );
    let relied = blobs(&scene.march).len() - lacking.len();
    assert_eq!(comparison["relied"]["count"], relied);
}

#[test]
fn inventories_are_compared_with_each_other_and_with_registries() {
    let scene = scene();
    let (desk, a, b) = (&scene.desk, scene.a.host(), scene.b.host());
    desk.run(&format!("push feb.oci.tar {b}/mirror"));
    desk.run(&format!("inventory {b}/mirror/ -o have.json"));
    desk.run(&format!("inventory {a} -o want.json"));
    // A has two images more than February: the third app, and another under `team/new:v1`.
    let shown =
        desk.run("diff have.json want.json").stdout_has("DONE: the base lacks something of 2 of 5 images");
    let shown = shown.stdout_has("  new      team/app:v3").stdout_has("  changed  team/new:v1");
    shown.never_says("no longer wanted");
    let by_registry = desk.run(&format!("--json diff have.json {a}")).json();
    let by_inventory = desk.run("--json diff have.json want.json").json();
    for field in ["blobs", "relied", "same"] {
        assert_eq!(by_registry["comparison"][field], by_inventory["comparison"][field], "{field}");
    }
    desk.fails("diff --exit-code have.json want.json", 1);
    desk.fails("diff --exit-code want.json have.json", 1);
    desk.run("diff want.json have.json").stdout_has("never deleted: 1 name");
    desk.fails("diff --exit-code have.json have.json", 0).stdout_has("NOTHING CHANGED");
    // Of one image nothing is said of the others.
    let one = desk.run("diff have.json want.json --image team/new:v1");
    one.stdout_has("DONE: the base lacks something of 1 of 1 image")
        .never_says("team/app")
        .never_says("no longer wanted");
    let app = desk.run("diff want.json have.json --image team/app");
    app.stdout_has("never deleted: 1 name").stdout_has("team/app:v3").never_says("team/new");
    let refused = desk.fails("diff have.json want.json -o out.barge", 2);
    refused.stderr_has("an inventory holds no content to pack").stderr_has("hint: name the registry");
    assert!(!desk.path("out.barge").exists());
}

#[test]
fn what_is_only_wider_is_said_to_be() {
    let scene = scene();
    let (desk, a, b) = (&scene.desk, scene.a.host(), scene.b.host());
    desk.run(&format!("pack {} -o narrow.oci.tar --platform linux/arm64", scene.january.names(a)[0]));
    desk.run(&format!("push narrow.oci.tar {b}"));
    for base in ["narrow.oci.tar".to_owned(), "narrow.barge.json".to_owned(), format!("{b}/")] {
        let shown = desk.fails(&format!("diff --exit-code {base} jan.oci.tar --image team/app"), 1);
        shown.stdout_has(&format!("widened  {a}/team/app:v1")).never_says("changed ");
    }
    // What was signed since is wider too: the name means the same.
    desk.run("pack jan.oci.tar -o bare.oci.tar --attachments none");
    let shown = desk.fails("diff --exit-code bare.oci.tar jan.oci.tar", 1);
    shown
        .stdout_has(&format!("widened  {a}/team/app:v1"))
        .stdout_has("DONE: the base lacks something of 1 of 2 images");
}

#[test]
fn one_image_of_a_target_and_its_removal() {
    let scene = scene();
    let (desk, a) = (&scene.desk, scene.a.host());
    desk.run("diff jan.oci.tar mar.oci.tar --image team/app -o app.barge");
    let record = desk.record("app.barge");
    let names: Vec<_> = record.images.iter().map(|image| image.name.path()).collect();
    assert_eq!(names, ["team/app:v2", "team/app:v3"]);
    assert_eq!(record.base.unwrap().removed, [format!("{a}/team/app:v1")]);
    let none = desk.fails("diff jan.oci.tar mar.oci.tar --image team/tool", 3);
    none.stderr_has("team/tool").stderr_has("hint: ");
    // Of a registry: the repository that was named is spoken of, the others are not.
    let shown = desk.run(&format!("diff jan.oci.tar {a}/team/new"));
    shown.stdout_has("new      ").never_says("no longer wanted").never_says("team/tool");
}

#[test]
fn the_command_line_is_checked_before_anything_is_asked() {
    let desk = Desk::new();
    desk.fails("diff b.json", 2).stderr_has("BASE TARGET");
    desk.fails("diff have.json gone.oci.tar", 3).stderr_has("have.json");
    desk.fails("merge", 2);
    desk.fails("merge gone.barge", 2).stderr_has("no output was named");
    desk.fails("merge gone.barge -o out.barge", 3).stderr_has("gone.barge");
}

#[test]
fn what_could_not_be_had_is_not_said_to_be_unwanted() {
    let scene = scene();
    let (desk, a, b) = (&scene.desk, &scene.a, &scene.b);
    desk.run(&format!("push jan.oci.tar {}", b.host()));
    desk.run(&format!("inventory {} -o b.json", b.host()));
    let tool = a.fault(Fault::on("*", "/team/tool/manifests/", Action::status(404)));
    let line = format!("diff b.json {} --keep-going -o from-registry.barge", a.host());
    desk.fails(&line, 1).stderr_has("team/tool:v1").never_says("no longer wanted");
    assert!(a.struck(tool) > 0);
    // The same by way of a bundle that lacks it, and for several sites.
    let names = scene.march.names(a.host()).join(" ");
    desk.fails(&format!("pack {names} {}/team/tool:v1 --keep-going -o part.oci.tar", a.host()), 1);
    desk.run("diff b.json part.oci.tar -o from-bundle.barge");
    let line = format!("diff --each b.json jan.oci.tar {} --keep-going -o out", a.host());
    desk.fails(&line, 1);
    let out = std::fs::read_dir(desk.path("out")).unwrap().map(|entry| entry.unwrap().file_name());
    let out = out.map(|name| format!("out/{}", name.to_str().unwrap()));
    let mut bundles: Vec<String> = out.filter(|name| name.ends_with(".barge")).collect();
    assert_eq!(bundles.len(), 2);
    bundles.extend(["from-registry.barge", "from-bundle.barge"].map(str::to_owned));
    for bundle in bundles {
        let removed = desk.record(&bundle).base.unwrap().removed;
        assert!(!removed.iter().any(|name| name.contains("team/tool")), "{bundle}: {removed:?}");
    }
}
