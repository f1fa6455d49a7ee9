//! What goes first and what goes last, and that nothing goes twice.

use std::collections::HashMap;
use std::time::Duration;

use super::{pack, shop};
use crate::support::hostile::{Config, Hostile, Logged};
use crate::support::images::{Content, layer};
use crate::support::peers::push_content;

fn position(requests: &[Logged], what: impl Fn(&Logged) -> bool) -> Vec<usize> {
    let mut found: Vec<usize> = requests.iter().filter(|r| what(r)).map(|r| r.sequence).collect();
    found.sort_unstable();
    found
}

#[test]
fn blobs_then_children_then_parents_then_tags() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let to = Hostile::start(Config { latency: Duration::from_millis(5), ..Config::default() });
    bundle.push(to.host(), &["--jobs", "8"]).success();
    let writes = to.writes();
    let blobs = position(&writes, |r| r.is("*", "/blobs/"));
    let manifests = position(&writes, |r| r.is("PUT", "/manifests/sha256:"));
    let attached_tags = position(&writes, |r| r.is("PUT", "/manifests/sha256-"));
    let tags = position(&writes, |r| r.is("PUT", "/manifests/v1"));
    assert_eq!((manifests.len(), attached_tags.len(), tags.len()), (8, 3, 2), "{}", to.transcript());
    assert!(blobs.last() < manifests.first(), "{}", to.transcript());
    assert!(manifests.last() < attached_tags.first(), "{}", to.transcript());
    assert!(attached_tags.last() < tags.first(), "{}", to.transcript());
    // No manifest before what it lists has been answered for.
    let mut ended = HashMap::new();
    for put in to.requests_on("PUT", "/manifests/sha256:") {
        ended.insert(put.head.path.rsplit('/').next().unwrap().to_owned(), (put.started, put.ended));
    }
    for child in [&shop.amd64, &shop.arm64] {
        let (child, parent) = (ended[&child.digest.to_string()], ended[&shop.app.digest.to_string()]);
        assert!(child.1 <= parent.0, "{}", to.transcript());
    }
}

#[test]
fn a_blob_of_two_repositories_is_uploaded_once_and_mounted() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let to = Hostile::start(Config { latency: Duration::from_millis(5), ..Config::default() });
    let done = bundle.push(to.host(), &["--jobs", "8"]).success();
    let uploads = |digest: &str| {
        let mut puts = to.requests_on("PUT", "/blobs/uploads/");
        puts.retain(|put| put.head.query.replace("%3A", ":").contains(digest));
        puts.len()
    };
    for digest in shop.content.blobs.keys().filter(|digest| !shop.content.manifests.contains_key(digest)) {
        assert_eq!(uploads(&digest.to_string()), 1, "{digest}\n{}", to.transcript());
    }
    let mut mounts = to.requests_on("POST", "/blobs/uploads/");
    mounts.retain(|post| post.head.query.contains("mount="));
    assert_eq!(mounts.len(), 1, "{}", to.transcript());
    assert!(mounts[0].head.query.contains(&shop.shared.digest.hex()), "{}", to.transcript());
    assert!(done.stdout.contains("mounted 1 blob"), "{done}");
}

#[test]
fn two_images_of_a_repository_share_one_upload() {
    let mut content = Content::new();
    let shared = layer(1, 50_000);
    let one = content.image("linux/amd64", &[shared.clone(), layer(2, 100)]);
    let two = content.image("linux/amd64", &[shared.clone(), layer(3, 100)]);
    let from = Hostile::honest();
    push_content(from.host(), "app", &content, &one, Some("one"));
    push_content(from.host(), "app", &content, &two, Some("two"));
    let names = ["one", "two"].map(|tag| format!("{}/app:{tag}", from.host()));
    let bundle = pack(&[&names[0], &names[1]], &[]);
    let to = Hostile::start(Config { latency: Duration::from_millis(10), ..Config::default() });
    bundle.push(to.host(), &["--jobs", "8"]).success();
    let of_shared = |r: &&Logged| r.head.query.contains(&shared.digest.hex());
    let puts = to.requests_on("PUT", "/blobs/uploads/");
    assert_eq!(puts.iter().filter(of_shared).count(), 1, "{}", to.transcript());
    assert_eq!(puts.len(), 5, "{}", to.transcript());
}
