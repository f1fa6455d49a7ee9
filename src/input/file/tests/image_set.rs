//! `ImageSetConfiguration`.

use super::*;
use crate::input::ChartPlace;

const HEAD: &str = "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\n";

/// An `ImageSetConfiguration` with these lines, of which the first is the file's third.
fn set(lines: &str) -> String {
    format!("{HEAD}{lines}")
}

#[test]
fn targets_become_names_with_the_hosts_of_their_sources() {
    let digest = digest();
    let order = order(&set(&format!(
        "mirror:\n  additionalImages:\n\
         \x20 - name: reg.test/a/b:1\n\
         \x20 - {{name: 'reg.test/a/b:1', targetRepo: x/y, targetTag: '2', platforms: [{{os: linux, architecture: arm, variant: v6}}]}}\n\
         \x20 - {{name: 'reg.test/a/c:1', targetTag: '2'}}\n\
         \x20 - {{name: 'reg.test/a/d:1@{digest}', targetRepo: d}}\n\
         \x20 - {{name: 'docker://reg.test/a/e@{digest}', targetRepo: e, platforms: [{{architecture: amd64}}]}}\n"
    )));
    assert_eq!(
        pulls(&order),
        [
            "reg.test/a/b:1 < reg.test/a/b:1".to_owned(),
            "reg.test/x/y:2 < reg.test/a/b:1".to_owned(),
            "reg.test/a/c:2 < reg.test/a/c:1".to_owned(),
            format!("reg.test/d:1 < reg.test/a/d:1@{digest}"),
            format!("reg.test/e@{digest} < reg.test/a/e@{digest}"),
        ]
    );
    assert_eq!(lines_of(&order), [5, 6, 7, 8, 9]);
    assert_eq!(order.images[1].platforms, ["linux/arm/v6".parse().unwrap()]);
    assert_eq!(order.images[4].platforms, ["linux/amd64".parse().unwrap()]);
}

#[test]
fn operators_keep_their_filter_and_take_their_target() {
    let text = set("archiveSize: 4\nmirror:\n  operators:\n\
         \x20 - catalog: reg.test/ns/index:v1\n    targetCatalog: ns2/index\n    packages:\n\
         \x20   - {name: foo, defaultChannel: a, channels: [{name: a, minVersion: 1.0.0}]}\n\
         \x20 - {catalog: 'reg.test/ns/other:v1', targetTag: v2, full: true, skipDependencies: true}\n\
         \x20 - {catalog: 'oci:///srv/cats/old', targetCatalogSourceTemplate: t.yaml}\n\
         \x20 - {catalog: 'oci://near/by', targetCatalog: ns3/near, targetTag: v1}\n");
    let folder = tempfile::tempdir().unwrap();
    let order = read_in(folder.path(), text).unwrap();
    let said: Vec<String> = order
        .catalogs
        .iter()
        .map(|catalog| format!("{} {:?}", catalog.argument.name.as_ref().unwrap(), catalog.argument.place))
        .collect();
    assert_eq!(said[0].split(' ').next(), Some("reg.test/ns2/index:v1"));
    assert_eq!(said[1].split(' ').next(), Some("reg.test/ns/other:v2"));
    assert_eq!(said[2], "localhost/old:latest Layout(\"/srv/cats/old\")");
    assert_eq!(said[3], format!("localhost/ns3/near:v1 Layout(\"{}/near/by\")", folder.path().display()));
    assert_eq!(order.catalogs[0].filter.packages[0].channels[0].name, "a");
    assert!(order.catalogs[1].filter.full && !order.catalogs[1].rebuild);
    assert_eq!(order.volume_size, Some(4 << 30));
    assert!(order.notes.iter().any(|note| note.contains("`archiveSize: 4` is kept")), "{:?}", order.notes);
    assert!(
        order.notes.iter().any(|note| note.contains("line 11: `targetCatalogSourceTemplate` is not used"))
    );
}

#[test]
fn releases_charts_and_blocked_images_are_read() {
    let order = order(&set(
        "mirror:\n  platform:\n    release: reg.test/ocp/release:4.18.1-x86_64\n    graph: false\n    channels: []\n\
         \x20   architectures: [amd64, arm64]\n\
         \x20 helm:\n    repositories:\n    - {name: r, url: 'https://charts.test', charts: [{name: c, version: 1.10, imagePaths: ['{.x}']}]}\n\
         \x20   local: [{name: l, path: /c.tgz}]\n\
         \x20 blockedImages: [{name: 'deb.g'}]\n",
    ));
    let release = &order.releases[0];
    assert_eq!(
        release.argument.name.as_ref().unwrap().to_string(),
        "reg.test/openshift/release-images:4.18.1-x86_64"
    );
    assert_eq!(release.platforms, ["linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap()]);
    assert_eq!(order.charts[0].image_paths, ["{.x}"]);
    let version = Some("1.10".to_owned());
    let chart = "c".to_owned();
    assert_eq!(
        order.charts[0].place,
        ChartPlace::Repository { url: "https://charts.test".to_owned(), chart, version }
    );
    assert_eq!(order.charts[1].place, ChartPlace::File("/c.tgz".into()));
    assert!(order.blocked[0].pattern.is_match("reg.test/x-debug:v1"));
    let every = "mirror: {platform: {release: 'reg.test/r:1', architectures: [amd64, multi]}}\n";
    assert!(self::order(&set(every)).releases[0].platforms.is_empty());
}

#[test]
fn what_needs_the_network_or_deletes_is_refused_with_what_to_do() {
    for (lines, words) in [
        (
            "mirror:\n  platform:\n    channels:\n    - {name: stable-4.18}\n",
            &[
                "FILE:6: `channels` needs the update graph",
                "hint: name the release image itself",
                "platform: {release:",
            ][..],
        ),
        (
            "mirror:\n  platform:\n    graph: true\n",
            &["FILE:5: `graph: true` needs the update graph", "hint: leave `graph` out", "release:"][..],
        ),
        (
            "mirror: {platform: {kubeVirtContainer: true}}\n",
            &["FILE:3: `kubeVirtContainer: true` is not supported", "hint: leave it out"][..],
        ),
        ("mirror: {samples: [{name: x}]}\n", &["FILE:3: `samples` means nothing", "additionalImages"][..]),
        (
            "mirror: {helm: {local: [{name: x, path: y, values: {a: b}}]}}\n",
            &["FILE:3: values that stand in the file", "hint: write them to a file"][..],
        ),
        ("mirror: {helm: {local: [{name: x}]}}\n", &["FILE:3: the chart x has no `path`"][..]),
        (
            "mirror: {helm: {repositories: [{url: 'https://x.test', charts: [{name: x, path: y}]}]}}\n",
            &["FILE:3: a chart of a repository has no `path`"][..],
        ),
        ("archiveSize: 0\n", &["FILE:3: `archiveSize: 0` is no size"][..]),
        ("archiveSize: big\n", &["FILE:3: a whole number is wanted here"][..]),
        (
            "mirror: {additionalImages: [{name: a, targetRepo: 'x.test:80/y'}]}\n",
            &["FILE:3: `x.test:80/y` is no path"][..],
        ),
        ("mirror: {additionalImages: [{name: a, targetTag: ':x'}]}\n", &["FILE:3: `:x` is no tag"][..]),
        ("mirror: {additionalImages: [{name: a=b}]}\n", &["FILE:3: `a=b` is no reference"][..]),
        ("mirror: {additionalImages: [{name: 'oci://'}]}\n", &["FILE:3: `oci://` names no folder"][..]),
        (
            "mirror: {operators: [{catalog: 'oci:///A_B'}]}\n",
            &["FILE:3: what is in /A_B has no name: give `targetCatalog`"][..],
        ),
        (
            "mirror: {platform: {release: a, platforms: [{architecture: 'a b'}]}}\n",
            &["FILE:3: `linux/a b` is not a platform"][..],
        ),
        (
            "mirror: {platform: {release: a, platforms: [{architecture: amd64}], architectures: [amd64]}}\n",
            &["FILE:3: `architectures` and `platforms` say the same"][..],
        ),
        (
            "mirror:\n  additionalImages:\n  - {name: 'reg.test/a:1', targetTag: '3'}\n  - {name: 'reg.test/a:2', targetTag: '3'}\n",
            &["FILE:6: reg.test/a:3 is to name", "line 5"][..],
        ),
        (
            "mirror: {operators: [{catalog: a, packages: [{name: x}, {name: x}]}]}\n",
            &["FILE:3: package x stands here twice"][..],
        ),
        ("mirror:\n  operatrs: []\n", &["FILE:4: unknown field `operatrs`; did you mean `operators`?"][..]),
        ("storageConfig: {}\n", &["FILE:3: unknown field `storageConfig`"][..]),
        ("mirror: {}\n---\na: b\n", &["a second document"][..]),
    ] {
        faulty(&set(lines), words);
    }
    let delete = "apiVersion: mirror.openshift.io/v2alpha1\nkind: DeleteImageSetConfiguration\ndelete: {}\n";
    faulty(
        delete,
        &[
            "FILE:2: `kind: DeleteImageSetConfiguration` asks for deletion, and barge deletes nothing",
            "hint:",
        ],
    );
    let old = HEAD.replace("v2alpha1", "v1alpha2") + "storageConfig: {local: {path: x}}\n";
    faulty(
        &old,
        &[
            "FILE:1: `apiVersion: mirror.openshift.io/v1alpha2` is not read",
            "hint: write `apiVersion: mirror.openshift.io/v2alpha1`, and leave out `storageConfig`",
        ],
    );
    faulty("apiVersion: mirror.openshift.io/v2alpha1\nkind: Thing\n", &["FILE:2: `kind: Thing` of"]);
    faulty("apiVersion: mirror.openshift.io/v2alpha1\n", &["FILE:1: there is no `kind`"]);
}
