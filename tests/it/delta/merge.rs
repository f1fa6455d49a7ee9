//! `barge merge`: of a base and deltas the bundle that packing the last state would have made.

use super::{Desk, Month, brought, lacking, relied};
use crate::support::archives::write_layout;
use crate::support::hostile::Hostile;
use crate::support::images::{Content, layer};

/// Three months, packed whole and as deltas on each other.
struct Year {
    desk: Desk,
    months: [Month; 3],
    source: Hostile,
}

fn year() -> Year {
    let source = Hostile::honest();
    let months = [Month::january(), Month::february(), Month::march()];
    let desk = Desk::new();
    for (month, name) in months.iter().zip(["jan", "feb", "mar"]) {
        month.fill(source.host());
        month.pack(source.host(), &desk.path(&format!("{name}.oci.tar")));
    }
    desk.run("diff jan.oci.tar feb.oci.tar -o feb.barge");
    desk.run("diff feb.oci.tar mar.oci.tar -o mar.barge");
    Year { desk, months, source }
}

#[test]
fn a_base_and_deltas_in_any_order_are_the_last_state_packed() {
    let Year { desk, .. } = year();
    let orders = [
        "jan.oci.tar feb.barge mar.barge",
        "jan.oci.tar mar.barge feb.barge",
        "mar.barge feb.barge jan.oci.tar",
        "feb.barge mar.barge jan.oci.tar",
        "mar.barge jan.oci.tar feb.barge mar.barge",
    ];
    for (at, order) in orders.iter().enumerate() {
        desk.run(&format!("merge {order} -o merged{at}.oci.tar"));
        assert!(desk.bytes(&format!("merged{at}.oci.tar")) == desk.bytes("mar.oci.tar"), "{order}");
    }
    desk.run("merge feb.barge jan.oci.tar -o feb-merged.oci.tar");
    assert!(desk.bytes("feb-merged.oci.tar") == desk.bytes("feb.oci.tar"));
    assert_eq!(desk.json("feb-merged.barge.json")["images"].as_array().unwrap().len(), 4);
    // Into a layout, too.
    desk.run("merge feb.barge mar.barge jan.oci.tar -o oci:layout");
    assert_eq!(desk.id("layout"), desk.id("mar.oci.tar"));
    desk.run("verify layout");
}

#[test]
fn deltas_alone_are_a_longer_delta() {
    let Year { desk, months, .. } = year();
    for (at, order) in ["feb.barge mar.barge", "mar.barge feb.barge"].iter().enumerate() {
        desk.run(&format!("merge {order} -o long{at}.barge"));
    }
    assert!(desk.bytes("long0.barge") == desk.bytes("long1.barge"));
    let record = desk.record("long0.barge");
    let base = record.base.as_ref().unwrap();
    assert_eq!(base.bases[0].id, desk.id("jan.oci.tar"));
    assert_eq!(base.bases.len(), 1);
    // What February brought for images that March no longer has is not in it.
    assert_eq!(brought(&record), lacking(&months[2], &months[0]));
    let names: Vec<String> = record.images.iter().map(|image| image.name.path()).collect();
    assert_eq!(names, ["team/app:v2", "team/app:v3", "team/new:v1"]);
    let target = Hostile::honest();
    desk.run(&format!("push jan.oci.tar {}", target.host()));
    desk.run(&format!("push long0.barge {}", target.host()));
    months[2].assert_at(target.host(), "");
    // On the base it is the last state again.
    desk.run("merge long0.barge jan.oci.tar -o again.oci.tar");
    assert!(desk.bytes("again.oci.tar") == desk.bytes("mar.oci.tar"));
}

#[test]
fn names_that_are_no_longer_wanted_are_dropped_and_only_listed() {
    let Year { desk, months, .. } = year();
    let host = desk.record("jan.oci.tar").images[0].name.name.registry.clone();
    let removed = &desk.record("mar.barge").base.unwrap().removed;
    assert_eq!(*removed, [format!("{host}/team/app:v1"), format!("{host}/team/tool:v1")]);
    let longer = desk.run("merge feb.barge mar.barge -o long.barge");
    longer.stdout_has("no longer wanted, and never deleted: 2 names");
    assert_eq!(desk.record("long.barge").base.unwrap().removed, *removed);
    let whole = desk.record("mar.oci.tar");
    assert!(whole.blobs.find(&months[0].image("team/app", "v1").digest).is_none());
    // A name that comes back is not gone, and what leads back makes no circle.
    desk.run("diff feb.barge jan.oci.tar -o back.barge");
    for (at, order) in ["feb.barge back.barge", "back.barge feb.barge"].iter().enumerate() {
        desk.run(&format!("merge {order} -o long{at}.barge"));
        let record = desk.record(&format!("long{at}.barge"));
        let base = record.base.as_ref().unwrap();
        assert_eq!(base.removed, ["app:v2", "new:v1"].map(|name| format!("{host}/team/{name}")));
        assert_eq!(base.bases.iter().map(|base| &base.id).collect::<Vec<_>>(), [&desk.id("jan.oci.tar")]);
        desk.run(&format!("merge long{at}.barge jan.oci.tar -o again{at}.oci.tar"));
        assert!(desk.bytes(&format!("again{at}.oci.tar")) == desk.bytes("jan.oci.tar"));
    }
}

#[test]
fn one_image_and_only_what_it_needs() {
    let Year { desk, months, source } = year();
    desk.run("merge jan.oci.tar feb.barge mar.barge --image team/app -o app.oci.tar");
    let names = ["v2", "v3"].map(|tag| format!("{}/team/app:{tag}", source.host()));
    desk.run(&format!("pack {} {} -o packed.oci.tar", names[0], names[1]));
    assert!(desk.bytes("app.oci.tar") == desk.bytes("packed.oci.tar"));
    desk.run("merge jan.oci.tar feb.barge --image team/tool:v1 -o tool.oci.tar");
    let record = desk.record("tool.oci.tar");
    assert_eq!(record.images[0].root, months[1].image("team/tool", "v1").digest);
    assert_eq!(record.images.len(), 1);
    assert!(relied(&record).is_empty() && record.base.is_none());
    let gone = desk.fails("merge jan.oci.tar feb.barge mar.barge --image team/tool -o none.oci.tar", 3);
    gone.stderr_has("team/tool").stderr_has("they hold ");
    assert!(!desk.path("none.oci.tar").exists());
}

#[test]
fn one_that_is_missing_in_between_is_named() {
    let Year { desk, .. } = year();
    let id = desk.id("feb.oci.tar");
    let missing = desk.fails("merge jan.oci.tar mar.barge -o out.oci.tar", 5);
    missing
        .stderr_has(&format!("mar.barge follows feb.oci.tar ({}), not given", id.short()))
        .stderr_has("barge merge jan.oci.tar mar.barge -o out.oci.tar feb.oci.tar");
    let json = desk.fails("--json merge mar.barge jan.oci.tar -o out.oci.tar", 5).json();
    assert_eq!(json["error"]["kind"], "base-not-given", "{json}");
    assert!(!desk.names().iter().any(|name| name.starts_with("out.")), "{:?}", desk.names());

    // Deltas alone, of which the middle one is not there.
    let app = desk.record("mar.oci.tar").images[0].name.clone();
    desk.run(&format!("merge mar.oci.tar --image {app} -o apr.oci.tar"));
    desk.run("diff mar.oci.tar apr.oci.tar -o apr.barge");
    let missing = desk.fails("merge feb.barge apr.barge -o out.barge", 5);
    missing.stderr_has(&format!("apr.barge follows mar.oci.tar ({})", desk.id("mar.oci.tar").short()));
    // What is there by way of another bundle is there; that one is missing is said all the same.
    let whole = desk.run("merge jan.oci.tar feb.barge apr.barge -o april.oci.tar");
    whole.stderr_has("apr.barge follows mar.oci.tar (");
    desk.run("merge jan.oci.tar feb.barge mar.barge apr.barge -o quiet.oci.tar").never_says("not given");
}

#[test]
fn deltas_that_were_made_on_deltas_follow_them() {
    let Year { desk, .. } = year();
    // On the sidecar of the delta, which is all that the packing side kept.
    desk.run("diff feb.barge.barge.json mar.oci.tar -o mar-on-delta.barge");
    assert_eq!(brought(&desk.record("mar-on-delta.barge")), brought(&desk.record("mar.barge")));
    for order in ["mar-on-delta.barge feb.barge jan.oci.tar", "jan.oci.tar feb.barge mar-on-delta.barge"] {
        desk.run(&format!("merge {order} -o merged.oci.tar"));
        assert!(desk.bytes("merged.oci.tar") == desk.bytes("mar.oci.tar"), "{order}");
        std::fs::remove_file(desk.path("merged.oci.tar")).unwrap();
        std::fs::remove_file(desk.path("merged.barge.json")).unwrap();
    }
    let missing = desk.fails("merge mar-on-delta.barge jan.oci.tar -o out.oci.tar", 5);
    missing.stderr_has(&format!("follows feb.barge ({})", desk.id("feb.barge").short()));
}

#[test]
fn sparse_indexes_stay_sparse_and_widened_ones_become_wide() {
    let source = Hostile::honest();
    let (january, february) = (Month::january(), Month::february());
    january.fill(source.host());
    february.fill(source.host());
    let desk = Desk::new();
    let pack = |month: &Month, name: &str, more: &str| {
        desk.run(&format!("pack {} -o {name} {more}", month.names(source.host()).join(" ")));
    };
    pack(&january, "jan.oci.tar", "--platform linux/amd64");
    pack(&february, "feb.oci.tar", "--platform linux/amd64");
    pack(&february, "wide.oci.tar", "");
    desk.run("diff jan.oci.tar feb.oci.tar -o feb.barge");
    desk.run("merge feb.barge jan.oci.tar -o merged.oci.tar");
    assert!(desk.bytes("merged.oci.tar") == desk.bytes("feb.oci.tar"));
    let shown = desk.run("diff feb.oci.tar wide.oci.tar");
    shown.stdout_has(&format!("widened  {}/team/app:v1", source.host())).never_says("changed ");
    desk.run("diff feb.oci.tar wide.oci.tar -o wide.barge");
    for order in ["feb.oci.tar wide.barge", "wide.barge feb.barge jan.oci.tar"] {
        desk.run(&format!("merge {order} -o {}.oci.tar", order.len()));
        assert!(desk.bytes(&format!("{}.oci.tar", order.len())) == desk.bytes("wide.oci.tar"), "{order}");
    }
    desk.run("merge wide.barge feb.oci.tar --platform linux/amd64 -o narrowed.oci.tar");
    assert!(desk.bytes("narrowed.oci.tar") == desk.bytes("feb.oci.tar"));
    // A target's root says nothing of what is below it: the children and blobs are brought all the same.
    let target = Hostile::honest();
    desk.run(&format!("push feb.oci.tar {}", target.host()));
    desk.run(&format!("push wide.barge {}", target.host()));
    february.assert_at(target.host(), "");
}

#[test]
fn what_is_attached_is_what_the_last_bundle_says() {
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 1000)]);
    let name = "r.example/app:v1";
    let (tag, first) = content.signature(&image.digest, "first");
    let (_, second) = content.signature(&image.digest, "second");
    let sbom = content.artifact(&image, "application/vnd.example.sbom", b"parts");
    let signature = format!("r.example/app:{tag}");
    let desk = Desk::new();
    let both = [(name, image.clone()), (&signature, first), ("", sbom)];
    write_layout(&desk.path("one"), &content, &both);
    // The signature is another one, and the SBOM is gone.
    write_layout(&desk.path("two"), &content, &[(name, image.clone()), (&signature, second.clone())]);
    desk.run("pack oci:one -o one.oci.tar");
    desk.run("pack oci:two -o two.oci.tar");
    desk.run("diff one.oci.tar two.oci.tar -o two.barge");
    desk.run("merge two.barge one.oci.tar -o merged.oci.tar");
    let attached = &desk.record("merged.oci.tar").images[0].attached;
    let digests: Vec<_> = attached.iter().map(|attached| attached.digest.clone()).collect();
    assert_eq!(digests, [second.digest], "{attached:?}");
    assert!(desk.bytes("merged.oci.tar") == desk.bytes("two.oci.tar"));
}

#[test]
fn where_it_goes() {
    let Year { desk, .. } = year();
    let before = ["jan.oci.tar", "feb.barge"].map(|name| desk.bytes(name));
    for name in ["jan.oci.tar", "feb.barge"] {
        desk.fails(&format!("merge jan.oci.tar feb.barge -o {name}"), 3).stderr_has("another bundle");
    }
    assert!(before == ["jan.oci.tar", "feb.barge"].map(|name| desk.bytes(name)));
    desk.run("merge jan.oci.tar feb.barge -o merged.oci.tar");
    desk.run("merge feb.barge jan.oci.tar -o merged.oci.tar").stdout_has("NOTHING CHANGED");
    // In a folder full bundles and deltas are told apart by their suffix: other tools pick up the one only.
    std::fs::create_dir(desk.path("out")).unwrap();
    desk.run("merge jan.oci.tar feb.barge -o out/");
    desk.run("merge feb.barge mar.barge -o out/");
    let short = desk.id("merged.oci.tar").short();
    assert!(desk.path(&format!("out/barge-{short}.oci.tar")).exists());
    let entries = std::fs::read_dir(desk.path("out")).unwrap().map(|entry| entry.unwrap().file_name());
    let deltas = entries.filter(|name| name.to_str().unwrap().ends_with(".barge")).count();
    assert_eq!(deltas, 1);
    assert!(desk.run("merge jan.oci.tar feb.barge --dry-run").stdout.contains("dry run"));
}

#[test]
fn what_is_attached_is_later_too_where_the_state_code_is_the_same() {
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 1000)]);
    let name = "r.example/app:v1";
    let sbom = content.artifact(&image, "application/vnd.example.sbom", b"parts");
    let desk = Desk::new();
    write_layout(&desk.path("x"), &content, &[(name, image.clone())]);
    write_layout(&desk.path("y"), &content, &[(name, image.clone()), ("", sbom)]);
    let other = content.image("linux/amd64", &[layer(2, 1000)]);
    write_layout(&desk.path("z"), &content, &[(name, other)]);
    for at in ["x", "y", "z"] {
        desk.run(&format!("pack oci:{at} -o {at}.oci.tar"));
    }
    desk.run("diff x.oci.tar y.oci.tar -o 1.barge");
    desk.run("diff y.oci.tar z.oci.tar -o 2.barge");
    desk.run("merge 2.barge 1.barge x.oci.tar -o merged.oci.tar");
    assert!(desk.bytes("merged.oci.tar") == desk.bytes("z.oci.tar"));
}
