//! Several bases at once: of one target their union, of several only when told how.

use super::{Desk, Month, brought, lacking};
use crate::support::hostile::Hostile;

/// A source that has February, and two targets: B has January's app, C its tool.
struct Scene {
    desk: Desk,
    a: Hostile,
    targets: [Hostile; 2],
    january: Month,
    february: Month,
}

fn scene() -> Scene {
    let (a, targets) = (Hostile::honest(), [Hostile::honest(), Hostile::honest()]);
    let (january, february) = (Month::january(), Month::february());
    january.fill(a.host());
    let desk = Desk::new();
    january.pack(a.host(), &desk.path("jan.oci.tar"));
    for ((target, image), name) in targets.iter().zip(["team/app:v1", "team/tool:v1"]).zip(["b", "c"]) {
        desk.run(&format!("push jan.oci.tar {} --image {}/{image}", target.host(), a.host()));
        desk.run(&format!("inventory {} -o {name}.json", target.host()));
    }
    february.fill(a.host());
    february.pack(a.host(), &desk.path("feb.oci.tar"));
    Scene { desk, a, targets, january, february }
}

impl Scene {
    fn pack(&self, line: &str, output: &str, code: i32) -> crate::support::barge::Outcome {
        let names = self.february.names(self.a.host()).join(" ");
        self.desk.fails(&format!("pack {names} {line} -o {output}"), code)
    }
}

#[test]
fn bases_of_one_target_are_joined() {
    let scene = scene();
    let (desk, b) = (&scene.desk, scene.targets[0].host());
    desk.run(&format!("push jan.oci.tar {b}"));
    // Each names a part of what B has.
    desk.run(&format!("inventory {b}/team/app -o app.json"));
    desk.run(&format!("inventory {b}/team/tool -o tool.json"));
    scene.pack("--base app.json --base tool.json", "feb.barge", 0);
    let record = desk.record("feb.barge");
    assert_eq!(brought(&record), lacking(&scene.february, &scene.january));
    assert_eq!(record.base.unwrap().bases.len(), 2);
    scene.pack("--base tool.json --base app.json", "turned.barge", 0);
    assert!(desk.bytes("turned.barge") == desk.bytes("feb.barge"));
    desk.run(&format!("push feb.barge {b}"));
    scene.february.assert_at(b, "");
}

#[test]
fn bases_of_different_targets_are_refused_unless_it_is_said_what_they_mean() {
    let scene = scene();
    let (desk, [b, c]) = (&scene.desk, &scene.targets);
    let refused = scene.pack("--base b.json --base c.json", "feb.barge", 2);
    let refused = refused.stderr_has(b.host()).stderr_has(c.host());
    refused.stderr_has("--bases common").stderr_has("--bases union").stderr_has("--each");
    assert!(!desk.path("feb.barge").exists());
    desk.fails("diff --bases common b.json feb.oci.tar -o one.barge", 0);

    // What both have is the shared layer: one bundle that fits both.
    scene.pack("--base b.json --base c.json --bases common", "common.barge", 0);
    let wanted = super::blobs(&scene.february);
    let common = brought(&desk.record("common.barge"));
    let kept: Vec<_> = wanted.difference(&common).collect();
    assert_eq!(kept, [&super::shared().digest]);
    for target in [b, c] {
        desk.run(&format!("push common.barge {}", target.host()));
        scene.february.assert_at(target.host(), "");
    }
    scene.pack("--base b.json --base c.json --bases union", "union.barge", 0);
    assert_eq!(brought(&desk.record("union.barge")), lacking(&scene.february, &scene.january));
}

#[test]
fn the_newest_inventory_replaces_what_was_known_before() {
    let scene = scene();
    let (desk, b) = (&scene.desk, &scene.targets[0]);
    desk.run(&format!("push jan.oci.tar {}", b.host()));
    desk.run(&format!("inventory {} -o all.json", b.host()));
    // The tool is deleted, and the inventory of its repository is taken again.
    let tool = &scene.january.image("team/tool", "v1").digest;
    b.remove("team/tool", tool);
    let mut later = {
        // The tag is listed still, and names nothing.
        desk.fails(&format!("inventory {} -o later.json", b.host()), 1);
        desk.json("later.json")
    };
    // Times are of a second; these must not be the same.
    later["taken"] = "2999-01-01T00:00:00Z".into();
    std::fs::write(desk.path("later.json"), later.to_string()).unwrap();
    for order in ["--base all.json --base later.json", "--base later.json --base all.json"] {
        scene.pack(order, "feb.barge", 0);
        let record = desk.record("feb.barge");
        let app = scene.january.image("team/app", "v1");
        let held = scene.january.content.closure(app).into_iter().map(|one| one.digest);
        let held: std::collections::BTreeSet<_> = held.collect();
        let signature = scene.january.content.closure(&scene.january.attached[0].2);
        let signature: Vec<_> = signature.into_iter().map(|one| one.digest).collect();
        let mut expected = super::blobs(&scene.february);
        expected.retain(|digest| !held.contains(digest) && !signature.contains(digest));
        assert_eq!(brought(&record), expected, "{order}");
        std::fs::remove_file(desk.path("feb.barge")).unwrap();
        std::fs::remove_file(desk.path("feb.barge.json")).ok();
    }
}

#[test]
fn what_is_no_base_is_named() {
    let scene = scene();
    let desk = &scene.desk;
    std::fs::write(desk.path("other.json"), r#"{"mediaType":"application/x"}"#).unwrap();
    std::fs::write(desk.path("half.barge"), &desk.bytes("jan.oci.tar")[..60_000]).unwrap();
    scene.pack("--base other.json", "out.barge", 3).stderr_has("other.json is no base");
    scene
        .pack("--base half.barge", "out.barge", 3)
        .stderr_has("half.barge is damaged")
        .stderr_has("barge verify");
    scene.pack("--base gone.json", "out.barge", 3).stderr_has("gone.json");
    assert!(!desk.names().iter().any(|name| name.starts_with("out.")));
}

#[test]
fn without_names_and_compressed_an_inventory_is_as_good() {
    let scene = scene();
    let (desk, b) = (&scene.desk, scene.targets[0].host());
    desk.run(&format!("push jan.oci.tar {b}"));
    desk.run(&format!("inventory {b} -o bare.json --omit-names"));
    desk.run(&format!("inventory {b} -o small.json.zst"));
    let text = String::from_utf8(desk.bytes("bare.json")).unwrap();
    assert!(!text.contains("team") && !text.contains(b));
    for (base, name) in [("bare.json", "bare.barge"), ("small.json.zst", "small.barge")] {
        scene.pack(&format!("--base {base}"), name, 0);
        let record = desk.record(name);
        assert_eq!(brought(&record), lacking(&scene.february, &scene.january), "{base}");
        // Where it was seen nothing says; it is looked for in what the push itself is about.
        desk.run(&format!("push {name} {b}"));
        scene.february.assert_at(b, "");
    }
    // Nothing tells whether two without names are of one target.
    let refused = scene.pack("--base bare.json --base b.json", "two.barge", 2);
    refused.stderr_has("an unnamed target").stderr_has("--bases union");
}
