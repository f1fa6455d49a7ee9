//! What is said of one image holds for it alone, and what is said otherwise the next time is another command.

use super::Scene;

#[test]
fn the_order_of_two_references_to_one_image_does_not_show() {
    let scene = Scene::new();
    let digest = &scene.index.digest;
    let lines = [
        format!("{{A}}/team/app:v1@{digest}=there.example/x/app:1\n"),
        format!("{{A}}/team/app@{digest}=there.example/x/app:1\n"),
    ];
    let mut bytes = Vec::new();
    for (at, text) in [lines.concat(), format!("{}{}", lines[1], lines[0])].iter().enumerate() {
        scene.file("wanted", text);
        let file = format!("{at}.oci.tar");
        scene.barge(&["pack", "-f", "wanted", "-o", &file]).run().success();
        bytes.push(std::fs::read(scene.path(&file)).unwrap());
    }
    assert!(bytes[0] == bytes[1]);
}
