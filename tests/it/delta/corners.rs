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
    shown.stdout_has("next: barge diff jan.oci.tar feb.oci.tar --creds - -o FILE.barge").never_says("secret");
}

/// Overwrites a layer of a bundle that is a file.
fn damage(desk: &Desk, name: &str, digest: &barge::oci::Digest) {
    let bundle = barge::bundle::Bundle::open(&desk.path(name)).unwrap();
    let (_, row) = bundle.record().unwrap().blobs.find(digest).unwrap();
    let at = (bundle.archive().unwrap().head_length + row.offset) as usize;
    let mut bytes = desk.bytes(name);
    bytes[at + 5] ^= 1;
    std::fs::write(desk.path(name), bytes).unwrap();
}

#[test]
fn a_damaged_bundle_and_its_top_up_are_as_good_as_a_whole_one() {
    let (desk, _) = months();
    let b = Hostile::honest();
    std::fs::copy(desk.path("feb.oci.tar"), desk.path("damaged.oci.tar")).unwrap();
    damage(&desk, "damaged.oci.tar", &super::shared().digest);
    desk.fails("verify damaged.oci.tar --request resend.json", 1);
    desk.run("pack --request resend.json feb.oci.tar -o topup.barge");
    for order in ["damaged.oci.tar topup.barge", "topup.barge damaged.oci.tar"] {
        desk.run(&format!("push {order} {}", b.host()));
    }
    Month::february().assert_at(b.host(), "");
    desk.run("merge damaged.oci.tar topup.barge -o mended.oci.tar");
    assert!(desk.bytes("mended.oci.tar") == desk.bytes("feb.oci.tar"));
}

#[test]
fn a_top_up_has_the_images_that_were_meant_and_no_others_of_their_names() {
    let (desk, _) = months();
    let b = Hostile::honest();
    desk.run(&format!("push jan.oci.tar {}", b.host()));
    desk.run(&format!("inventory {} -o b.json", b.host()));
    desk.run("diff b.json feb.oci.tar -o feb.barge");
    let empty = Hostile::honest();
    desk.fails(&format!("push feb.barge {} --request missing.json", empty.host()), 5);
    // January has what is missing too, under a tool that is another one.
    desk.run("pack --request missing.json jan.oci.tar -o topup.barge").stderr_has("in none of the images");
    let names: Vec<String> =
        desk.record("topup.barge").images.iter().map(|image| image.name.path()).collect();
    assert_eq!(names, ["team/app:v1"]);
    desk.run(&format!("pack {}/team/tool:v1 -o tool.oci.tar", b.host()));
    let others = desk.fails("pack --request missing.json tool.oci.tar -o x.barge", 3);
    others.stderr_has("not those that the request is for");
}

#[test]
fn names_below_the_same_path_are_the_same() {
    let (desk, a) = months();
    let same = desk.run(&format!("diff {0}/team/ {0}/team/", a.host()));
    same.stdout_has("NOTHING CHANGED");
}

#[test]
fn the_newest_receipt_says_what_a_name_means() {
    let (desk, _) = months();
    let b = Hostile::honest();
    desk.run(&format!("push jan.oci.tar {} --receipt jan.json", b.host()));
    let mut january = desk.json("jan.json");
    january["taken"] = "2026-01-01T00:00:00Z".into();
    std::fs::write(desk.path("jan.json"), january.to_string()).unwrap();
    desk.run(&format!("push feb.oci.tar {} --receipt feb.json", b.host()));
    for bases in ["jan.json feb.oci.tar --base feb.json", "feb.json feb.oci.tar --base jan.json"] {
        desk.run(&format!("diff {bases}")).stdout_has("NOTHING CHANGED");
    }
    desk.run("diff feb.json jan.oci.tar --base jan.json").stdout_has("changed");
}

#[test]
fn a_full_bundle_that_no_delta_follows_is_told_apart() {
    let (desk, a) = months();
    desk.run("diff jan.oci.tar feb.oci.tar -o feb.barge");
    Month::march().fill(a.host());
    desk.run(&format!("pack {} -o mar.oci.tar", Month::march().names(a.host()).join(" ")));
    let told = desk.run("merge jan.oci.tar feb.barge mar.oci.tar -o x.oci.tar");
    told.stderr_has("means different images in bundles that do not follow each other");
}

#[test]
fn a_document_is_told_from_a_bundle() {
    let (desk, a) = months();
    desk.run(&format!("inventory {} -o a.json", a.host()));
    desk.fails("merge a.json jan.oci.tar -o x.oci.tar", 3).stderr_has("it is a JSON document and no bundle");
}

#[test]
fn the_receipt_of_another_site_is_not_replaced() {
    let (desk, _) = months();
    let (b, c) = (Hostile::honest(), Hostile::honest());
    for _ in 0..2 {
        desk.run(&format!("push jan.oci.tar {} --receipt r.json", b.host()));
    }
    let before = desk.bytes("r.json");
    let refused = desk.fails(&format!("push jan.oci.tar {} --receipt r.json", c.host()), 3);
    refused.stderr_has("is not a receipt of this target");
    assert!(c.writes().is_empty() && desk.bytes("r.json") == before);
}
