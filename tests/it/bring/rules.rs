//! What files say that is no image: blocked patterns, registries, defaults; and what goes wrong.

use barge::bundle::Bundle;
use barge::store::Source;

use super::{Scene, everything, expected as meant, listing};

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
    scene.barge(&["mirror", "-f", "a.yaml", scene.b.host()]).run().success();
    assert_eq!(everything(&scene.b).len(), 1);
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
