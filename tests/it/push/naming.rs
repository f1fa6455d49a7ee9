//! Which name images get at the target, which are chosen, and what a dry run says.

use super::{assert_tag, pack, shop};
use crate::support::barge::barge;
use crate::support::hostile::Hostile;
use crate::support::images::{Content, layer};
use crate::support::peers::push_content;

#[test]
fn names_follow_prefix_rules_and_depth() {
    let shop = shop();
    let from = Hostile::honest();
    shop.fill(from.host());
    let bundle = pack(&[&format!("{}/team/tool:v1", from.host())], &[]);
    let host = from.host().replace(':', "-");
    let map = format!("{}/team=group", from.host());
    for (target, more, name) in [
        ("", vec![], "team/tool".to_owned()),
        ("/a/b", vec![], "a/b/team/tool".to_owned()),
        ("/a", vec!["--map", &map], "a/group/tool".to_owned()),
        ("/a", vec!["--strip-registry", "false"], format!("a/{host}/team/tool")),
        ("/a", vec!["--max-path-components", "2"], "a/team-tool".to_owned()),
    ] {
        let to = Hostile::honest();
        bundle.push(&format!("{}{target}", to.host()), &more).success();
        assert_eq!(to.repositories(), std::slice::from_ref(&name), "{more:?}");
        assert_tag(to.host(), &name, "v1", &shop.content, &shop.tool);
    }
}

#[test]
fn a_collision_is_an_error_before_any_request() {
    let shop = shop();
    let (one, other) = (Hostile::honest(), Hostile::honest());
    push_content(one.host(), "x", &shop.content, &shop.amd64, Some("v1"));
    push_content(other.host(), "x", &shop.content, &shop.tool, Some("v1"));
    let names = [&one, &other].map(|host| format!("{}/x:v1", host.host()));
    let bundle = pack(&[&names[0], &names[1]], &[]);
    let to = Hostile::honest();
    let failed = bundle.push(to.host(), &[]).code(2).stderr_has("would both become");
    assert!(names.iter().all(|name| failed.stderr.contains(name)), "{failed}");
    assert!(to.requests().is_empty(), "{}", to.transcript());
    let more = ["--map", &format!("{}/x=y", other.host())];
    bundle.push(to.host(), &more).success();
    assert_eq!(to.repositories(), ["x", "y"]);
}

#[test]
fn images_without_tags_stay_without() {
    let mut content = Content::new();
    let one = content.image("linux/amd64", &[layer(1, 100)]);
    let two = content.image("linux/amd64", &[layer(2, 100)]);
    let from = Hostile::honest();
    for image in [&one, &two] {
        push_content(from.host(), "x", &content, image, None);
    }
    let names = [&one, &two].map(|image| format!("{}/x@{}", from.host(), image.digest));
    let bundle = pack(&[&names[0], &names[1]], &[]);
    let to = Hostile::honest();
    bundle.push(to.host(), &[]).success().stdout_has("DONE:");
    for image in [&one, &two] {
        assert_eq!(to.manifest("x", &image.digest.to_string()).as_ref(), content.blobs.get(&image.digest));
    }
    assert!(to.tags("x").is_empty(), "{:?}", to.tags("x"));
    bundle.push(to.host(), &[]).success().stdout_has("NOTHING CHANGED");
}

#[test]
fn one_image_is_chosen_and_an_unknown_one_refused() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let opened = barge::bundle::Bundle::open(&bundle.path).unwrap();
    let names: Vec<String> = opened.names().unwrap().into_iter().filter_map(|(name, _)| name).collect();
    let tool = names.iter().find(|name| name.ends_with("/team/tool:v1")).unwrap();
    let to = Hostile::honest();
    let failed = bundle.push(to.host(), &["--image", "registry.example/none:v1"]).code(3);
    assert!(failed.stderr.contains("no image registry.example/none:v1"), "{failed}");
    assert!(to.requests().is_empty());
    bundle.push(to.host(), &["--image", tool]).success();
    assert_eq!(to.repositories(), ["team/tool"]);
}

#[test]
fn children_get_tags_of_their_own_when_asked_for() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let to = Hostile::honest();
    bundle.push(to.host(), &["--tag-children"]).success();
    let tags = to.tags("team/app");
    assert_eq!(tags["v1-linux-amd64"], shop.amd64.digest, "{tags:?}");
    assert_eq!(tags["v1-linux-arm64"], shop.arm64.digest, "{tags:?}");
    bundle.push(to.host(), &["--tag-children"]).success().stdout_has("NOTHING CHANGED");
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_would_be() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let to = Hostile::honest();
    let json = barge(["push", "--json", "--dry-run", bundle.path(), to.host()]).run().success().json();
    assert!(to.writes().is_empty(), "{}", to.transcript());
    let count = |document: &serde_json::Value, action: &str| {
        document["steps"].as_array().unwrap().iter().filter(|step| step["action"] == action).count()
    };
    assert_eq!([count(&json, "mount"), count(&json, "skip"), count(&json, "tag")], [1, 0, 2], "{json}");
    assert_eq!([count(&json, "upload"), count(&json, "put")], [15, 8], "{json}");
    bundle.push(to.host(), &[]).success();
    let json = barge(["push", "--json", "--dry-run", bundle.path(), to.host()]).run().success().json();
    assert_eq!(count(&json, "skip"), json["steps"].as_array().unwrap().len(), "{json}");
}
