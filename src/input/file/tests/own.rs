//! barge.yaml.

use super::*;
use crate::input::{ChartPlace, MirrorOrder, RegistryOrder};
use crate::push::sparse::Policy;
use crate::select::Attachments;

/// A barge.yaml with these lines, of which the first is the file's second.
fn own(lines: &str) -> String {
    format!("apiVersion: barge/v1\n{lines}")
}

fn platform(text: &str) -> crate::oci::Platform {
    text.parse().unwrap()
}

#[test]
fn images_come_as_text_or_with_names_platforms_and_tags() {
    let digest = digest();
    let text = own(&format!(
        "images:\n\
         - reg.test/a:v1\n\
         - tools/x:v3=oci:./layout:x\n\
         - image: reg.test/b:v2\n  name: reg.test/public/b\n  platforms: [linux/amd64, linux/arm64]\n\
         - {{image: 'reg.test/c@{digest}', names: ['reg.test/c:1', reg.test/c]}}\n\
         - image: reg.test/d\n  tags: {{match: 'v.*|1', semver: '<2', latest: 2}}\n\
         - {{image: reg.test/e, names: [reg.test/f, reg.test/g], tags: {{}}}}\n\
         - docker-archive:/abs/old.tar\n"
    ));
    let folder = tempfile::tempdir().unwrap();
    let order = read_in(folder.path(), text).unwrap();
    let at = folder.path().display();
    assert_eq!(
        pulls(&order),
        [
            "reg.test/a:v1 < reg.test/a:v1".to_owned(),
            format!("docker.io/tools/x:v3 < Layout(\"{at}/./layout\") x"),
            "reg.test/public/b:v2 < reg.test/b:v2".to_owned(),
            format!("reg.test/c:1 < reg.test/c@{digest}"),
            format!("reg.test/c@{digest} < reg.test/c@{digest}"),
            "- < DockerArchive(\"/abs/old.tar\") *".to_owned(),
        ]
    );
    assert_eq!(lines_of(&order), [3, 4, 5, 8, 8, 12]);
    assert_eq!(order.images[2].platforms, [platform("linux/amd64"), platform("linux/arm64")]);
    let tags: Vec<String> = order
        .tags
        .iter()
        .map(|tags| format!("{} {:?}", tags.repository, tags.name.as_ref().map(ToString::to_string)))
        .collect();
    assert_eq!(
        tags,
        ["reg.test/d None", "reg.test/e Some(\"reg.test/f\")", "reg.test/e Some(\"reg.test/g\")"]
    );
    let offered = ["v1.0.0", "1.1.0", "v0.9.0", "v1.2.0", "v2.0.0"].map(str::to_owned).to_vec();
    assert_eq!(order.tags[0].choice.choose(offered), ["v1.2.0", "v1.0.0"]);
}

#[test]
fn places_of_their_own_are_relative_to_the_folder() {
    let text =
        own("layouts:\n- a:b\n- {path: /abs, image: x, name: 'reg.test/x:v1'}\narchives: [last.oci.tar]\n");
    let folder = tempfile::tempdir().unwrap();
    let order = read_in(folder.path(), text).unwrap();
    let at = folder.path().display();
    assert_eq!(
        pulls(&order),
        [
            format!("- < Layout(\"{at}/a:b\") *"),
            "reg.test/x:v1 < Layout(\"/abs\") x".to_owned(),
            format!("- < File(\"{at}/last.oci.tar\") *")
        ]
    );
    assert_eq!(lines_of(&order), [3, 4, 5]);
}

#[test]
fn catalogs_charts_and_releases_are_read_whole() {
    let text = own("catalogs:\n- reg.test/index:v1\n\
         - catalog: reg.test/other:v1\n  name: reg.test/small\n  full: false\n  rebuildCatalog: true\n  packages:\n  \
         - {name: foo, defaultChannel: fast, channels: [{name: fast, minVersion: 1.0.0, maxVersion: 1.0.0+b1}, {name: old}]}\n  \
         - {name: bar, minVersion: 1.2.3-rc.1}\n\
         charts:\n- ./app.tgz\n- {chart: 'oci://reg.test/db', version: 1.0.0+b2}\n\
         - {chart: web, repository: 'https://charts.test/x/', name: reg.test/web, images: l.txt, render: true, values: [v.yaml], imagePaths: ['{.x}'], platforms: [linux/arm]}\n\
         - {chart: db, repository: 'oci://reg.test/charts', version: 2.0.0}\n\
         releases:\n- {release: 'reg.test/ocp/release:4.18.1', signatures: [sig]}\n");
    let folder = tempfile::tempdir().unwrap();
    let order = read_in(folder.path(), text).unwrap();
    let [all, small] = &order.catalogs[..] else { panic!("{:?}", order.catalogs) };
    assert!(!all.rebuild && all.filter == crate::catalog::Filter::default());
    assert_eq!(small.argument.name.as_ref().unwrap().to_string(), "reg.test/small:v1");
    assert!(small.rebuild && !small.filter.full);
    let [foo, bar] = &small.filter.packages[..] else { panic!("{:?}", small.filter) };
    assert_eq!(
        (foo.name.as_str(), foo.default_channel.as_deref(), foo.channels.len()),
        ("foo", Some("fast"), 2)
    );
    assert_eq!(foo.channels[0].range.min.as_ref().unwrap().to_string(), "1.0.0");
    assert_eq!(bar.range.min.as_ref().unwrap().to_string(), "1.2.3-rc.1");
    assert_eq!(small.at.as_ref().unwrap().line, 4);
    let places: Vec<&ChartPlace> = order.charts.iter().map(|chart| &chart.place).collect();
    assert_eq!(
        places,
        [
            &ChartPlace::File(folder.path().join("./app.tgz")),
            &ChartPlace::Registry("reg.test/db:1.0.0_b2".parse().unwrap()),
            &ChartPlace::Repository {
                url: "https://charts.test/x".to_owned(),
                chart: "web".to_owned(),
                version: None
            },
            &ChartPlace::Registry("reg.test/charts/db:2.0.0".parse().unwrap()),
        ]
    );
    let web = &order.charts[2];
    assert_eq!(
        (&web.images, &web.values),
        (&Some(folder.path().join("l.txt")), &vec![folder.path().join("v.yaml")])
    );
    assert!(web.render && web.image_paths == ["{.x}"] && web.platforms == [platform("linux/arm/v7")]);
    assert_eq!(web.name.as_ref().unwrap().to_string(), "reg.test/web");
    let release = &order.releases[0];
    assert_eq!(
        release.argument.name.as_ref().unwrap().to_string(),
        "reg.test/openshift/release-images:4.18.1"
    );
    assert_eq!(release.argument.reference.as_ref().unwrap().to_string(), "reg.test/ocp/release:4.18.1");
    assert_eq!(release.signatures, [folder.path().join("sig")]);
}

#[test]
fn the_rest_says_how() {
    let text = own(
        "kind: Bundle\ndefaults: {platforms: [linux/amd64], attachments: signatures, sparse: single}\n\
         blocked: ['a', '^b$']\nvolumeSize: 4GiB\nregistries:\n\
         - {prefix: 'reg.test:80/a', mirrors: [m.test/x, {location: n.test, insecure: true}], mirrorsOnly: true, insecure: true, certDir: /c, authFile: /a}\n\
         - prefix: '*.test'\nimages:\n",
    );
    let order = order(&text);
    assert_eq!(order.defaults.platforms, [platform("linux/amd64")]);
    assert_eq!(order.defaults.attachments, Some(Attachments::Signatures));
    assert_eq!(order.defaults.sparse, Some(Policy::Single));
    assert_eq!(order.volume_size, Some(4 << 30));
    let blocked: Vec<_> =
        order.blocked.iter().map(|b| (b.pattern.as_str(), b.at.as_ref().unwrap().line)).collect();
    assert_eq!(blocked, [("a", 4), ("^b$", 4)]);
    let expected = RegistryOrder {
        prefix: "reg.test:80/a".to_owned(),
        mirrors: vec![
            MirrorOrder { location: "m.test/x".to_owned(), insecure: false },
            MirrorOrder { location: "n.test".to_owned(), insecure: true },
        ],
        mirrors_only: true,
        insecure: true,
        cert_dir: Some("/c".into()),
        auth_file: Some("/a".into()),
        at: order.registries[0].at.clone(),
    };
    assert_eq!(order.registries[0], expected);
    assert_eq!(order.registries[0].at.as_ref().unwrap().line, 7);
    let at = order.registries[1].at.clone();
    assert_eq!(
        order.registries[1],
        RegistryOrder { prefix: "*.test".to_owned(), at, ..RegistryOrder::default() }
    );
    assert_eq!(self::order(&own("volumeSize: 1024\n")).volume_size, Some(1024));
    assert!(order.notes[0].ends_with("asks for nothing"));
}

#[test]
fn unknown_fields_are_named_with_file_line_and_the_nearest_one() {
    faulty(
        &own("images:\n- image: reg.test/a\n  platfroms: [linux/amd64]\n"),
        &[
            "FILE:4: unknown field `platfroms`; did you mean `platforms`?",
            "hint: fields that exist here: `image`, `name`",
        ],
    );
    faulty(&own("image: x\n"), &["FILE:2: unknown field `image`; did you mean `images`?"]);
    faulty(
        &own("defaults: {platform: []}\n"),
        &["FILE:2: unknown field `platform`; did you mean `platforms`?"],
    );
    faulty(
        &own(
            "catalogs:\n- catalog: reg.test/a\n  packages:\n  - name: x\n    channels:\n    - name: y\n      colour: z\n",
        ),
        &["FILE:8: unknown field `colour` hint: fields that exist here: `name`, `minVersion`, `maxVersion`"],
    );
}

#[test]
fn what_is_wrong_with_an_item_is_said_with_its_line() {
    let digest = digest();
    for (lines, words) in [
        ("images:\n- reg.test/A\n", &["FILE:3: `reg.test/A` can't be used here"][..]),
        ("images: [{name: x}]\n", &["FILE:2: the field `image` is missing"][..]),
        ("images:\n- 3.10\n", &["FILE:3: an image, as a text or with fields, is wanted here"][..]),
        ("images: x\n", &["FILE:2: a list is wanted here"][..]),
        (
            "images:\n-\n",
            &["FILE:3: an image, as a text or with fields, is wanted here, and there is nothing"][..],
        ),
        ("images: [{image: }]\n", &["FILE:2: a text is wanted here"][..]),
        ("images: ['']\n", &["FILE:2: `` can't be used here"][..]),
        ("defaults: []\n", &["FILE:2: fields are wanted here"][..]),
        ("images:\n- image: a\n  tags: {latest: many}\n", &["FILE:4: a whole number is wanted here"][..]),
        ("images: *x\n", &["FILE:2: this can't be read as YAML: reference to unknown value"][..]),
        ("images:\n- {image: a, name: b, names: [c]}\n", &["FILE:3: `name` and `names` say the same"][..]),
        ("images:\n- {image: x=a, name: b}\n", &["FILE:3: `x=a` has a name of its own"][..]),
        (&format!("images:\n- image: a\n  name: b@{digest}\n"), &["FILE:4: the name", "has a digest"][..]),
        (
            "images:\n- image: a\n  platforms:\n  - linux/amd64\n  - amd64\n",
            &["FILE:6: `amd64` is not a platform"][..],
        ),
        ("images:\n- image: a:v1\n  tags: {latest: 1}\n", &["FILE:3: `image` `a:v1` has a tag"][..]),
        (
            "images:\n- {image: a, name: 'b:1', tags: {latest: 1}}\n",
            &["FILE:3: the name `b:1` has a tag"][..],
        ),
        (
            "images:\n- {image: oci:./a, tags: {latest: 1}}\n",
            &["FILE:3:", "is no repository of a registry"][..],
        ),
        ("images:\n- image: a\n  tags: {latest: 0}\n", &["FILE:4: `latest: 0` leaves no tag"][..]),
        (
            "images:\n- image: a\n  tags:\n    match: '('\n",
            &["FILE:5: `(` is no regular expression: unclosed group"][..],
        ),
        (
            "images:\n- image: a\n  tags: {match: 'a)|(b'}\n",
            &["FILE:4: `a)|(b` is no regular expression"][..],
        ),
        ("images:\n- image: a\n  tags: {semver: new}\n", &["FILE:4: `new` is no range of versions"][..]),
        ("blocked:\n- '['\n", &["FILE:3: `[` is no regular expression"][..]),
        (
            "defaults: {attachments: some}\n",
            &["FILE:2: `some` is none of `all`, `signatures` and `none`"][..],
        ),
        ("defaults: {sparse: x}\n", &["FILE:2: `x` is none of `require`, `rewrite` and `single`"][..]),
        ("volumeSize: 4 apples\n", &["FILE:2: `4 apples` is no size"][..]),
        ("volumeSize: 0\n", &["FILE:2: a volume holds nothing"][..]),
        ("layouts: ['']\n", &["FILE:2: the path is empty"][..]),
        ("kind: Basket\n", &["FILE:2: `kind: Basket` of barge/v1 is not known, only Bundle"][..]),
        ("---\napiVersion: barge/v1\n", &["FILE:3: there is a second document"][..]),
        ("registries: [{prefix: a.test}, {prefix: a.test}]\n", &["the prefix a.test stands here twice"][..]),
        (
            "registries: [{prefix: a.test, mirrorsOnly: true}]\n",
            &["FILE:2: `mirrorsOnly` leaves nothing"][..],
        ),
        ("registries: [{prefix: 'https://a.test'}]\n", &["FILE:2: `https://a.test` is no place"][..]),
        ("registries: [{prefix: a.test, mirrors: ['*.b.test']}]\n", &["FILE:2: `*.b.test` is no place"][..]),
        (
            "registries: [{prefix: a.test, mirrors: [{location: 'b.test/A'}]}]\n",
            &["FILE:2: `b.test/A` is no place"][..],
        ),
        ("registries: [{prefix: a.test, mirrors: [{insecure: true}]}]\n", &["`location` is missing"][..]),
        ("registries: [{prefix: a.test, insecure: 3}]\n", &["FILE:2: `true` or `false` is wanted here"][..]),
    ] {
        faulty(&own(lines), words);
    }
}

#[test]
fn a_chart_that_is_nowhere_is_an_error() {
    for (lines, words) in [
        ("charts: ['']\n", &["FILE:2: the chart has an empty name"][..]),
        (
            "charts: ['https://x.test/a.tgz']\n",
            &["FILE:2: `https://x.test/a.tgz` is neither", "hint: give the chart's name"][..],
        ),
        (
            "charts: [{chart: a.tgz, version: 1.0.0}]\n",
            &["FILE:2: `a.tgz` is a file, which has its own version"][..],
        ),
        ("charts: ['oci://reg.test/a']\n", &["FILE:2: which version of `reg.test/a`?"][..]),
        (
            "charts: [{chart: 'oci://reg.test/a:1', version: '2'}]\n",
            &["FILE:2: `reg.test/a:1` has a tag"][..],
        ),
        (
            "charts: [{chart: a, repository: ftp://x.test}]\n",
            &["FILE:2: `ftp://x.test` is no repository"][..],
        ),
        (
            "charts: [{chart: a, repository: 'oci://x.test', version: 'a b'}]\n",
            &["FILE:2: `a b` is no version"][..],
        ),
        ("charts: [{name: x}]\n", &["FILE:2: the field `chart` is missing"][..]),
    ] {
        faulty(&own(lines), words);
    }
}

#[test]
fn what_contradicts_itself_in_a_catalog_is_an_error() {
    for (lines, words) in [
        (
            "  - {name: a}\n  - {name: a}\n",
            &["FILE:6: package a stands here twice (the first is in line 5)"][..],
        ),
        (
            "  - name: a\n    channels:\n    - name: b\n    - name: b\n",
            &["FILE:8: channel b stands here twice", "line 7"][..],
        ),
        ("  - {name: ''}\n", &["FILE:5: a package has an empty name"][..]),
        (
            "  - {name: a, defaultChannel: c, channels: [{name: b}]}\n",
            &["FILE:5: the default channel c of package a is not among"][..],
        ),
        ("  - {name: a, minVersion: '1.2'}\n", &["FILE:5: `1.2` is no version x.y.z"][..]),
        ("  - {name: a, minVersion: v1.2.3}\n", &["FILE:5: `v1.2.3` is no version x.y.z"][..]),
        (
            "  - {name: a, minVersion: 2.0.0, maxVersion: 1.0.0}\n",
            &["FILE:5: the lowest version 2.0.0 is above the highest, 1.0.0"][..],
        ),
        (
            "  - name: a\n    minVersion: 1.0.0\n    channels:\n    - {name: b, maxVersion: 2.0.0}\n",
            &["FILE:8: package a has versions of its own, and so has its channel b"][..],
        ),
    ] {
        faulty(&own(&format!("catalogs:\n- catalog: reg.test/i:v1\n  packages:\n{lines}")), words);
    }
    let full =
        "catalogs:\n- catalog: reg.test/i:v1\n  full: true\n  packages: [{name: a, minVersion: 1.0.0}]\n";
    faulty(&own(full), &["FILE:5: `full` takes every version"]);
    let whole = full.replace(", minVersion: 1.0.0", "");
    assert!(order(&own(&whole)).catalogs[0].filter.full);
    // Build metadata has no part in the order of versions.
    let same = "catalogs:\n- catalog: a\n  packages: [{name: a, minVersion: 1.0.0+b, maxVersion: 1.0.0+a}]\n";
    assert_eq!(order(&own(same)).catalogs.len(), 1);
}

#[test]
fn one_name_for_two_sources_names_both_lines() {
    for lines in [
        "images:\n- reg.test/a:v1\n- reg.test/a:v1=reg.test/b:v1\n",
        "images:\n- reg.test/a:v1\ncatalogs:\n- {catalog: reg.test/b:v1, name: reg.test/a}\n",
        "images:\n- reg.test/a:v1\ncharts:\n- {chart: ./x.tgz, name: 'reg.test/a:v1'}\n",
        "images:\n- reg.test/a:v1\nlayouts:\n- {path: x, name: 'reg.test/a:v1'}\n",
        "images:\n- reg.test/openshift/release-images:v1\nreleases:\n- reg.test/x:v1\n",
    ] {
        faulty(&own(lines), &["is to name", "(the first is in line 3)"]);
    }
    faulty(
        &own("images:\n- reg.test/a:v1\n- {image: 'reg.test/a:v1', platforms: [linux/arm64]}\n"),
        &["FILE:4: reg.test/a:v1 stands here again, with other platforms (the first is in line 3)"],
    );
    faulty(
        &own("catalogs:\n- reg.test/a:v1\n- {catalog: 'reg.test/a:v1', full: true}\n"),
        &["FILE:4: reg.test/a:v1 is listed as a catalog twice", "line 3"],
    );
    assert_eq!(order(&own("images: [a, a, 'a:latest', {image: a}]\n")).images.len(), 1);
}
