//! Cases in which a delta would claim too much or too little.

use super::{Desk, Month, relied};
use crate::support::hostile::{Action, Fault, Hostile};
use crate::support::images::{Content, layer};

/// A registry with January and February, and both as bundles.
fn months() -> (Desk, Hostile) {
    let (desk, a) = (Desk::new(), Hostile::honest());
    for (month, name) in [(Month::january(), "jan.oci.tar"), (Month::february(), "feb.oci.tar")] {
        month.fill(a.host());
        month.pack(a.host(), &desk.path(name));
    }
    (desk, a)
}

#[test]
fn an_unfinished_delta_is_begun_anew_where_its_base_says_something_else_by_now() {
    let (desk, a) = months();
    let names = Month::february().names(a.host()).join(" ");
    // The sidecar has the ID of the bundle, and does not say which repository has what: the same arguments, another head.
    desk.run(&format!("pack {names} --base jan.barge.json -o expected.barge"));
    a.fault(Fault::on("GET", "/blobs/", Action::error(500, "UNKNOWN")).after(5).once());
    let line = format!("pack {names} --base jan.oci.tar -o delta.barge --retry-times 0 --jobs 1");
    let stopped = desk.fails(&line, 4);
    assert!(desk.path("delta.barge.partial").exists(), "{stopped}");
    desk.run(&format!("pack {names} --base jan.barge.json -o delta.barge"));
    assert!(desk.bytes("delta.barge") == desk.bytes("expected.barge"));
    assert!(!desk.names().iter().any(|name| name.contains(".partial")), "{:?}", desk.names());
}

#[test]
fn a_base_that_was_named_and_is_not_there_is_an_error() {
    let (desk, a) = months();
    let host = a.host();
    let line = format!("pack {host}/team/app:v2 --base {host}/team/app:v1.O -o x.barge");
    desk.fails(&line, 4).stderr_has("the base").stderr_has("v1.O");
    assert!(!desk.path("x.barge").exists());
}

#[test]
fn a_delta_as_target_says_nothing_of_what_it_does_not_speak_of() {
    let (desk, a) = months();
    desk.run(&format!("pack {}/team/app:v2 --base jan.oci.tar -o update.barge", a.host()));
    desk.run("diff jan.oci.tar update.barge").never_says("no longer wanted");
    desk.run("diff jan.oci.tar update.barge -o x.barge");
    assert!(desk.record("x.barge").base.unwrap().removed.is_empty());
}

#[test]
fn a_path_at_a_registry_says_nothing_of_other_paths() {
    let (desk, a) = months();
    let other = Hostile::honest();
    Month::january().fill(other.host());
    let mut content = Content::new();
    let root = content.image("linux/amd64", &[layer(99, 300)]);
    crate::support::peers::push_content(other.host(), "else/where", &content, &root, Some("v1"));
    desk.run(&format!("inventory {} -o b.json", other.host()));
    let shown = desk.run(&format!("diff b.json {}/team/", a.host()));
    shown.never_says("else/where");
    desk.run(&format!("diff b.json {}", a.host())).stdout_has("    else/where:v1");
}

#[test]
fn a_layer_that_only_a_sidecar_speaks_of_is_found_in_any_repository_of_its_images() {
    let (desk, a) = months();
    let b = Hostile::honest();
    desk.run(&format!("push jan.oci.tar {}", b.host()));
    // What `new` shares with `app` and `tool` lies at B in their repositories only.
    desk.run(&format!("pack {}/team/new:v1 --base jan.barge.json -o new.barge", a.host()));
    assert!(!relied(&desk.record("new.barge")).is_empty());
    desk.run(&format!("push new.barge {}", b.host())).stdout_has("DONE").stdout_has("as the bundle says");
}

#[test]
fn the_inventory_of_a_path_holds_for_a_push_to_the_whole_registry() {
    let (desk, a) = months();
    let b = Hostile::honest();
    desk.run(&format!("push jan.oci.tar {}/mirror", b.host()));
    desk.run(&format!("inventory {}/mirror/ -o b.json", b.host()));
    desk.run(&format!("pack {}/team/new:v1 --base b.json -o new.barge", a.host()));
    for target in [b.host().to_owned(), format!("{}/elsewhere", b.host())] {
        desk.run(&format!("push new.barge {target}")).stdout_has("DONE");
    }
}

#[test]
fn bundles_that_do_not_follow_each_other_are_told_apart() {
    let (desk, _) = months();
    let told = "means different images in bundles that do not follow each other";
    desk.run("merge jan.oci.tar feb.oci.tar -o both.oci.tar").stderr_has(told).stderr_has("team/tool:v1");
    desk.run("diff jan.oci.tar feb.oci.tar -o feb.barge");
    desk.run("merge feb.barge jan.oci.tar -o chain.oci.tar").never_says(told);
}

#[test]
fn a_rehearsal_for_each_site_writes_nothing() {
    let (desk, _) = months();
    let before = desk.names();
    desk.run("diff --each jan.oci.tar feb.oci.tar feb.oci.tar -o out/ --dry-run")
        .stdout_has("NOTHING CHANGED");
    assert_eq!(desk.names(), before);
    desk.fails("diff --each jan.oci.tar feb.oci.tar -o out/ --exit-code", 2);
}

#[test]
fn several_bases_of_a_diff_are_joined_as_told() {
    let (desk, a) = months();
    let b = Hostile::honest();
    desk.run(&format!("push jan.oci.tar {}", b.host()));
    desk.run(&format!("inventory {} -o b.json", b.host()));
    desk.run(&format!("inventory {}/ -o a.json", a.host()));
    desk.fails("diff b.json feb.oci.tar --base a.json", 2).stderr_has("different targets");
    desk.run("diff b.json feb.oci.tar --base a.json --bases union").stdout_has("to send  0 blobs");
    desk.run("diff b.json feb.oci.tar --base a.json --bases common").stdout_has("relies on");
}

#[test]
fn credentials_are_in_no_command_that_is_suggested() {
    let (desk, _) = months();
    let shown = desk.run("diff jan.oci.tar feb.oci.tar --creds registry.example=robot:secret");
    shown.stdout_has("next: barge diff jan.oci.tar feb.oci.tar -o FILE.barge").never_says("secret");
}
