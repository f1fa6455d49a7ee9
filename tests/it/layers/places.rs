//! Where base content is read when patches are made.

use super::{Desk, Release, digests};
use crate::support::images::Content;
use crate::support::peers::{RealRegistry, RegistryOptions, skopeo};

/// Makes the arguments of a run from the far side's registry.
type Arguments<'a> = &'a dyn Fn(&RealRegistry) -> String;

/// The layers that changed from release to release.
fn changed(release: &Release) -> std::collections::BTreeSet<barge::oci::Digest> {
    let new = &release.layers;
    digests([&new.base, &new.lib, &new.app, &new.data, &new.conf, &new.solo])
}

#[test]
fn a_bundle_a_layout_or_another_registry_gives_what_the_source_no_longer_has() {
    let (first, second) = (Release::of(1), Release::of(2));
    // What the source has now is the second release only; the first is in `old`, and in files.
    let (source, old) = (RealRegistry::start(), RealRegistry::start());
    first.fill(old.host());
    second.fill(source.host());
    let desk = Desk::new();
    let named = |host: &str| {
        let names = first.images.iter().map(|(repository, _)| {
            format!("{}/{repository}:stable={host}/{repository}:stable", source.host())
        });
        names.collect::<Vec<_>>().join(" ")
    };
    desk.run(&format!("pack {} -o v1.oci.tar", named(old.host())));
    desk.run("pack v1.oci.tar -o oci:layout");
    for (repository, _) in &first.images {
        let from = format!("docker://{}/{repository}:stable", old.host());
        let to = format!("oci:{}:{repository}", desk.path("foreign").display());
        skopeo(["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false", &from, &to]);
    }
    let inventory = |b: &RealRegistry| {
        desk.run(&format!("inventory {} -o b.json", b.host()));
        "--base b.json".to_owned()
    };
    let options: [(&str, Arguments<'_>); 7] = [
        ("bundle as base", &|_| "--base v1.oci.tar".to_owned()),
        ("layout as base", &|_| "--base oci:layout".to_owned()),
        ("bundle", &|b| format!("{} --base-content v1.oci.tar", inventory(b))),
        ("layout", &|b| format!("{} --base-content ./layout", inventory(b))),
        ("foreign layout", &|b| format!("{} --base-content oci:foreign", inventory(b))),
        ("registry", &|b| format!("{} --base-content {}/", inventory(b), old.host())),
        ("target", &|b| format!("--base {}/", b.host())),
    ];
    for (at, (what, arguments)) in options.iter().enumerate() {
        let b = RealRegistry::start();
        first.fill(b.host());
        let arguments = arguments(&b);
        let packed = desk.run(&format!("pack {} {arguments} -o {at}.barge", second.names(source.host())));
        packed.never_says("warning").stdout_has(" in place of 6 layers, ");
        assert_eq!(desk.rebuilt(&format!("{at}.barge")), changed(&second), "{what}");
        desk.run(&format!("push {at}.barge {}", b.host()));
        second.assert_copied(b.host(), "");
    }
}

#[test]
fn what_can_not_be_read_leaves_its_layer_whole_and_says_so() {
    let (first, second) = (Release::of(1), Release::of(2));
    let (source, b) = (RealRegistry::start(), RealRegistry::start());
    first.fill(b.host());
    second.fill(source.host());
    let desk = Desk::new();
    desk.run(&format!("inventory {} -o b.json", b.host()));
    let names = second.names(source.host());
    let packed = desk.run(&format!("pack {names} --base b.json -o whole.barge"));
    assert!(desk.rebuilt("whole.barge").is_empty());
    packed
        .stderr_has(&second.layers.base.digest.to_string())
        .stderr_has("travels whole")
        .stderr_has("--base-content")
        .stderr_has("does not have manifest team/app@")
        .stdout_has("whole    layers: 6 of which what they follow can't be read here");
    let json = desk.run(&format!("--json pack {names} --base b.json -o again.barge")).json();
    let unreadable = json["patches"]["unreadable"].as_array().unwrap();
    let named = unreadable.iter().map(|one| one["digest"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(changed(&second), named, "{json:#}");
    // A place that was named and can't be asked is told of before those that only do not have it.
    let closed = RealRegistry::start_with(&RegistryOptions { auth: true, ..Default::default() });
    let closed = format!("--base-content {}/", closed.host());
    let denied = desk.run(&format!("pack {names} --base b.json {closed} -o denied.barge"));
    denied
        .stderr_has("travels whole")
        .stderr_has(closed.split(' ').next_back().unwrap().trim_end_matches('/'));
    desk.run(&format!("push whole.barge {}", b.host()));
    second.assert_copied(b.host(), "");
}

#[test]
fn a_base_that_is_damaged_or_gone_here_leaves_its_layer_whole() {
    let (first, second) = (Release::of(1), Release::of(2));
    let (source, b) = (RealRegistry::start(), RealRegistry::start());
    first.fill(source.host());
    first.fill(b.host());
    second.fill(source.host());
    let desk = Desk::new();
    desk.run(&format!("inventory {} -o b.json", b.host()));
    // The manifests are all there.
    source.delete_blob_data(&first.layers.lib.digest);
    let file = source.blob_file(&first.layers.solo.digest);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let packed = desk.run(&format!("diff b.json {} -o v2.barge", source.host()));
    let mut expected = changed(&second);
    // What else the app has is of no use to its library.
    expected.remove(&second.layers.lib.digest);
    expected.remove(&second.layers.solo.digest);
    assert_eq!(desk.rebuilt("v2.barge"), expected, "{packed}");
    packed
        .stderr_has(&second.layers.solo.digest.to_string())
        .stderr_has("its bytes hash to")
        .stderr_has(&second.layers.lib.digest.to_string())
        .stderr_has(&first.layers.lib.digest.to_string());
    desk.run(&format!("push v2.barge {}", b.host()));
    second.assert_copied(b.host(), "");
}

#[test]
fn documents_hold_no_content() {
    let desk = Desk::new();
    let source = RealRegistry::start();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[crate::support::images::layer(1, 5000)]);
    source.push("team/app", &content, &image, Some("v1"));
    desk.run(&format!("inventory {} -o b.json", source.host()));
    let line = format!("pack {}/team/app:v1 --base b.json --base-content b.json -o x.barge", source.host());
    desk.fails(&line, 3).stderr_has("b.json holds no content").stderr_has("name the bundle");
    assert!(!desk.path("x.barge").exists());
}
