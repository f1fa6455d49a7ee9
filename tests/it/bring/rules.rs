//! What files say that is no image: blocked patterns, registries, defaults; and what goes wrong.

use barge::bundle::Bundle;
use barge::store::Source;

use super::{Scene, everything, expected as meant, listing};
use crate::support::peers::RealRegistry;

#[test]
fn colliding_destinations_are_an_error_before_anything_is_written() {
    let scene = Scene::new();
    scene.file("one.txt", "{A}/team/tool:v1.0.0=there.example/tool:x\n");
    scene.file("two.txt", "# a comment\n{A}/team/tool:v2.0.0=there.example/tool:x\n");
    let files = ["-f", "one.txt", "-f", "two.txt"];
    let told = scene.barge(&["pack"]).args(files).args(["-o", "site.oci.tar"]).run().code(3);
    let told = told.stderr_has("there.example/tool:x was asked for twice and means two different images");
    told.stderr_has("(in one.txt:1 and two.txt:2)");
    assert_eq!(listing(scene.temp.path()), ["one.txt", "two.txt"]);
    let told = scene.barge(&["mirror"]).args(files).arg(scene.b.host()).run().code(3);
    told.stderr_has("(in one.txt:1 and two.txt:2)");
    assert!(everything(&scene.b).is_empty());
    // The same image under the same name is one, wherever it is asked for.
    scene.file("two.txt", "{A}/team/tool:v1.0.0=there.example/tool:x\n");
    scene.barge(&["pack"]).args(files).args(["-o", "site.oci.tar"]).run().success();
    // Names that only lose their hosts on the way collide when they are pushed, and nothing is.
    scene.file("two.txt", "{A}/team/tool:v2.0.0=elsewhere.example/tool:x\n");
    scene.barge(&["pack"]).args(files).args(["-o", "b.oci.tar"]).run().success();
    scene.barge(&["push", "b.oci.tar", scene.b.host()]).run().code(2);
    assert!(everything(&scene.b).is_empty());
}

#[test]
fn what_is_blocked_is_left_out_wherever_it_is_asked_for() {
    let scene = Scene::new();
    let text = "apiVersion: barge/v1\nimages: ['{A}/team/tool:v1.0.0', '{A}/team/app:v1']\nblocked:\n  - team/tool:v1\n";
    scene.file("a.yaml", text);
    let direct = format!("{}/team/tool:v1.1.0", scene.a.host());
    let told = scene.barge(&["pack", "-f", "a.yaml", &direct, "-o", "site.oci.tar"]).run().success();
    told.stderr_has("warning: left out because a.yaml:4 blocks them (2)").stderr_has(&direct);
    let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
    let names: Vec<String> =
        bundle.record().unwrap().images.iter().map(|image| image.name.to_string()).collect();
    assert_eq!(names, [format!("{}/team/app:v1", scene.a.host())]);
    scene.file("a.yaml", &text.replace("- team/tool:v1", "- ."));
    scene
        .barge(&["pack", "-f", "a.yaml", "-o", "none.oci.tar"])
        .run()
        .code(2)
        .stderr_has("every image that was named is blocked (a.yaml:4)");
    // A pattern that blocks nothing is a slip.
    scene.file("a.yaml", &text.replace("- team/tool:v1", "- team/tool:v1.0\n  - team/tol:v1"));
    let told = scene.barge(&["pack", "-f", "a.yaml", "-o", "slip.oci.tar"]).run().success();
    let told = told.stderr_has("warning: a.yaml:5: the pattern `team/tol:v1` blocks nothing that was named");
    assert!(!told.stderr.contains("a.yaml:4: the pattern"), "{told}");
}

#[test]
fn an_item_goes_before_the_command_line_and_that_before_the_defaults_and_platforms_of_one_image_unite() {
    let scene = Scene::new();
    let text = "apiVersion: barge/v1\ndefaults: {platforms: [linux/s390x]}\nimages:\n  - {image: '{A}/team/app:v1', platforms: [linux/arm64]}\n  - '{A}/team/tool:v1.0.0'\n";
    scene.file("a.yaml", text);
    scene.file("b.yaml", &text.replace("arm64", "amd64"));
    let shipped = |flags: &[&str]| {
        let told = scene
            .barge(&["pack", "-o", "site.oci.tar", "--platform", "linux/amd64"])
            .args(flags)
            .run()
            .success();
        let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
        // Manifests travel whatever is chosen; what they are of does not.
        let has = |at: usize| {
            let closure = scene.content.closure(&scene.children[at]);
            closure
                .iter()
                .filter(|one| !scene.content.manifests.contains_key(&one.digest))
                .all(|one| bundle.open_blob(&one.digest, one.size, 0).is_ok())
        };
        let held = (has(0), has(1));
        std::fs::remove_file(scene.path("site.oci.tar")).unwrap();
        (held, told)
    };
    let (held, told) = shipped(&["-f", "a.yaml"]);
    assert_eq!(held, (false, true), "{told}");
    told.stderr_has("note: --platform is not used for what names platforms of its own: a.yaml:4\n")
        .never_says("s390x");
    let (held, told) = shipped(&["-f", "b.yaml"]);
    assert!(held == (true, false) && !told.stderr.contains("is not used"), "{told}");
    assert_eq!(shipped(&["-f", "a.yaml", "-f", "b.yaml"]).0, (true, true));
}

#[test]
fn files_say_how_registries_are_reached() {
    let scene = Scene::new();
    let text = "\
apiVersion: barge/v1
images: [gone.example/team/app:v1]
registries:
  - prefix: gone.example
    mirrors: ['127.0.0.1:9/nobody', '{A}']
    mirrorsOnly: true
";
    scene.file("a.yaml", text);
    scene.barge(&["pack", "-f", "a.yaml", "-o", "site.oci.tar", "--retry-times", "0"]).run().success();
    scene.barge(&["push", "site.oci.tar", scene.b.host()]).run().success();
    assert_eq!(everything(&scene.b), meant(&[("team/app:v1", &scene.index)]));
    let bundle = Bundle::open(&scene.path("site.oci.tar")).unwrap();
    assert_eq!(bundle.record().unwrap().images[0].name.to_string(), "gone.example/team/app:v1");
    // What the mirrors lack is said with each of them.
    scene.file("a.yaml", &text.replace("app:v1", "other:v1"));
    let told = scene.barge(&["pack", "-f", "a.yaml", "-o", "b.oci.tar", "--retry-times", "0"]).run().code(4);
    told.stderr_has("127.0.0.1:9/nobody/team/other").stderr_has(&format!("{}/team/other", scene.a.host()));
}

#[test]
fn defaults_of_attachments_hold_unless_the_command_line_says_otherwise() {
    let mut scene = Scene::new();
    let root = scene.tools["v1.0.0"].clone();
    let repository = format!("{}/team/tool", scene.a.host());
    let (tag, signature) = scene.content.signature(&root.digest, &repository);
    scene.a.push("team/tool", &scene.content, &signature, Some(&tag));
    scene.file(
        "a.yaml",
        "apiVersion: barge/v1\ndefaults: {attachments: none}\nimages: ['{A}/team/tool:v1.0.0']\n",
    );
    scene.file(
        "b.yaml",
        "apiVersion: barge/v1\ndefaults: {attachments: signatures}\nimages: ['{A}/team/tool:v1.0.0']\n",
    );
    let attached = |flags: &[&str]| {
        scene.barge(&["pack", "-o", "site.oci.tar"]).args(flags).run().success();
        let count =
            Bundle::open(&scene.path("site.oci.tar")).unwrap().record().unwrap().images[0].attached.len();
        std::fs::remove_file(scene.path("site.oci.tar")).unwrap();
        count
    };
    assert_eq!(attached(&["-f", "a.yaml"]), 0);
    assert_eq!(attached(&["-f", "b.yaml"]), 1);
    assert_eq!(attached(&["-f", "a.yaml", "--attachments", "all"]), 1);
    let both = ["pack", "-f", "a.yaml", "-f", "b.yaml", "-o", "site.oci.tar"];
    let told = scene.barge(&both).run().code(2);
    told.stderr_has("a.yaml and b.yaml want attached content differently").stderr_has("--attachments");
    // What the command line says is for both, and files that can't agree are told before anything is asked.
    assert_eq!(attached(&["-f", "a.yaml", "-f", "b.yaml", "--attachments", "signatures"]), 1);
    let both = ["-f", "a.yaml", "-f", "b.yaml"];
    let told = scene.barge(&["mirror", scene.b.host()]).args(both).run().code(2);
    told.stderr_has("hint: --no-attachments says it for both").never_says("--attachments says");
    let told = scene.barge(&["plan", "--to", "to.example", "--format", "json"]).args(both).run().code(2);
    told.stderr_has("--no-attachments says it for both");
    scene.barge(&["mirror", "-f", "a.yaml", scene.b.host()]).run().success();
    assert_eq!(everything(&scene.b).len(), 1);
    let third = RealRegistry::start();
    scene.barge(&["mirror", "--no-attachments", third.host()]).args(both).run().success();
    assert_eq!(everything(&third).len(), 1);
    for (name, policy) in [("a.yaml", "require"), ("b.yaml", "single")] {
        let text = "apiVersion: barge/v1\ndefaults: {sparse: POLICY}\nimages: ['{A}/team/gone:v1.0.0']\n";
        scene.file(name, &text.replace("POLICY", policy));
    }
    let told = scene.barge(&["mirror", third.host()]).args(both).run().code(2);
    told.stderr_has("a.yaml and b.yaml want sparse indexes differently").stderr_has("--sparse");
    scene.barge(&["mirror", "--sparse", "single", third.host()]).args(both).run().code(4);
}

#[test]
fn what_is_wrong_in_a_file_is_said_with_its_line() {
    let scene = Scene::new();
    for (text, code, what) in [
        ("apiVersion: barge/v1\nimages:\n  - image: {A}/team/app:v1\n    plattforms: []\n", 3, "a.yaml:4"),
        (
            "apiVersion: barge/v1\nimages:\n  - image: {A}/team/tool\n    tags: {match: nothing}\n",
            3,
            "a.yaml:3",
        ),
        ("apiVersion: barge/v1\nlayouts:\n  - path: not-there\n", 3, "a.yaml:3"),
    ] {
        scene.file("a.yaml", text);
        let told = scene.barge(&["pack", "-f", "a.yaml", "-o", "site.oci.tar"]).run().code(code);
        told.stderr_has(what);
        assert_eq!(listing(scene.temp.path()), ["a.yaml"]);
    }
    scene.barge(&["pack", "-f", "none.yaml", "-o", "site.oci.tar"]).run().code(3).stderr_has("none.yaml");
}

#[test]
fn y_16_files_that_say_differently_how_a_registry_is_reached_are_refused() {
    let scene = Scene::new();
    let text = "apiVersion: barge/v1\nimages: ['{A}/team/app:v1']\nregistries:\n- prefix: r.example\n";
    scene.file("a.yaml", text);
    scene.file("b.yaml", &format!("{text}  insecure: true\n"));
    let pack =
        |second: &str| scene.barge(&["pack", "-f", "a.yaml", "-f", second, "-o", "site.oci.tar"]).run();
    let told = pack("b.yaml").code(2);
    told.stderr_has("a.yaml:4 and b.yaml:4 say differently how r.example is reached").stderr_has("hint");
    assert_eq!(listing(scene.temp.path()), ["a.yaml", "b.yaml"]);
    scene.file("b.yaml", text);
    pack("b.yaml").success();
}

#[test]
fn what_a_mirror_did_is_said_at_the_end_and_damage_goes_round_it() {
    let scene = Scene::new();
    let mirror = RealRegistry::start();
    let layers = scene.content.closure(&scene.index).into_iter();
    let blob =
        layers.filter(|blob| blob.media_type.contains("layer")).map(|layer| layer.digest).next().unwrap();
    mirror.push("team/app", &scene.content, &scene.index, Some("v1"));
    let mut bytes = std::fs::read(mirror.blob_file(&blob)).unwrap();
    bytes[0] ^= 1;
    std::fs::write(mirror.blob_file(&blob), bytes).unwrap();
    let text = "apiVersion: barge/v1\nimages: ['{A}/team/app:v1']\nregistries:\n- {prefix: '{A}', mirrors: ['{M}']}\n";
    scene.file("a.yaml", &text.replace("{M}", mirror.host()));
    let told = scene.barge(&["mirror", "-f", "a.yaml", scene.b.host()]).run().success();
    told.stderr_has(&format!("warning: {} was passed over", mirror.host())).stderr_has(&blob.to_string());
    assert_eq!(everything(&scene.b), meant(&[("team/app:v1", &scene.index)]));
    scene.barge(&["pack", "--help"]).run().success().stdout_has("all but the mirrors");
}
