use std::time::Instant;

use crate::catalog::files::ImageFiles;
use crate::catalog::testing::Memory;
use crate::catalog::{Catalog, CatalogError, DocumentHead, FILES_LABEL, documents, read, read_files};
use crate::store::chain;

const GOOD: &str = r#"{"schema":"olm.package","name":"p","defaultChannel":"a"}
{"schema":"olm.channel","package":"p","name":"a","entries":[{"name":"p.v1"}]}
{"schema":"olm.bundle","package":"p","name":"p.v1","image":"r.example/p:1",
 "properties":[{"type":"other","value":[1]},{"type":"olm.package","value":{"packageName":"p","version":"1.0.0"}}],
 "relatedImages":[{"name":"x","image":"r.example/x:1"}]}"#;

fn memory(files: &[(&str, &str)]) -> (Memory, crate::oci::Descriptor) {
    let mut memory = Memory::default();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    let layer = memory.layer(&files);
    let image = memory.image(&[(FILES_LABEL, "/configs")], &[layer]);
    (memory, image)
}

fn reading(files: &[(&str, &str)]) -> Result<Catalog, CatalogError> {
    let (memory, image) = memory(files);
    read(&memory, &image)
}

fn refused(files: &[(&str, &str)]) -> String {
    chain(&reading(files).unwrap_err())
}

#[test]
fn json_and_yaml_say_the_same_in_any_file() {
    let yaml = "\
# a comment
%YAML 1.2
---
schema: olm.package
name: p
defaultChannel: a
--- # another
{schema: olm.channel, package: p, name: a, entries: [{name: p.v1}]}
---
{\"schema\":\"other.kind\",\"entries\":3}
{\"schema\":\"other.kind\",\"name\":\"second\"}
---
schema: olm.bundle
package: p
name: p.v1
image: r.example/p:1
properties:
- {type: other, value: [1]}
- type: olm.package
  value:
    packageName: p
    version: 1.0.0
relatedImages:
- name: x
  image: r.example/x:1
- name: block
  image: |-
    r.example/y:1
---
";
    let json = reading(&[("configs/p/catalog.json", GOOD)]).unwrap();
    let mut yaml = reading(&[("configs/p/deep/catalog.anything", yaml)]).unwrap();
    assert_eq!(yaml.packages["p"].bundles["p.v1"].related, ["r.example/x:1", "r.example/y:1"]);
    yaml.packages.get_mut("p").unwrap().bundles.get_mut("p.v1").unwrap().related.pop();
    assert_eq!(json.packages, yaml.packages);
    assert_eq!(json.packages["p"].bundles["p.v1"].version, "1.0.0");
    assert_eq!(json.packages["p"].default_channel.as_deref(), Some("a"));
}

#[test]
fn what_is_ignored_is_not_read() {
    let files = [
        ("configs/.indexignore", "*.md\n"),
        ("configs/catalog.json", GOOD),
        ("configs/README.md", "No document.\n"),
        ("configs/sub/.indexignore", "drafts/\n"),
        ("configs/sub/drafts/x.yaml", "no: schema\n"),
        ("elsewhere/x.json", "{}"),
    ];
    assert_eq!(reading(&files).unwrap().packages.len(), 1);
    let shown = refused(&files[1..]);
    assert!(shown.starts_with("`/configs/README.md` of the catalog in memory"), "{shown}");
    assert!(
        refused(&[("configs/.indexignore", "{a\n")])
            .contains("`/configs/.indexignore` of the catalog in memory, line 1")
    );
}

#[test]
fn a_document_that_cannot_be_understood_is_named_by_file_number_and_line() {
    for (text, number, line, why) in [
        (format!("{GOOD}\n{{\"name\":\"x\"}}\n"), 4, 6, "the document has no `schema`"),
        (format!("{GOOD}\n\n{{\"schema\":\"a\",\n\"b\":}}"), 4, 8, "it is not JSON: expected value"),
        (format!("{GOOD}\n---\nschema: a\n---\nname: x\n"), 5, 9, "the document has no `schema`"),
        (format!("{GOOD}\n---\na: [1\n"), 4, 7, "it is not YAML that can be read"),
        ("schema: a\n---\nplain text\n".to_owned(), 2, 3, "it is no object"),
        (
            "schema: a\n---\nschema: olm.bundle\npackage: p\n".to_owned(),
            2,
            3,
            "the `olm.bundle` has no `name`",
        ),
        (
            "{\"schema\":\"olm.channel\",\"name\":\"c\"}".to_owned(),
            1,
            1,
            "the `olm.channel` `c` has no `package`",
        ),
        (
            "{\"schema\":\"olm.channel\",\"name\":\"c\",\"entries\":3}".to_owned(),
            1,
            1,
            "the `olm.channel` `c` can't be understood",
        ),
        ("{\"schema\":7}".to_owned(), 1, 1, "invalid type: integer"),
        ("schema: a\nschema: b\n".to_owned(), 1, 2, "duplicate"),
    ] {
        let shown = refused(&[("configs/a.json", &text)]);
        let start = format!("`/configs/a.json` of the catalog in memory, document {number} (line {line}): ");
        assert!(shown.starts_with(&start) && shown.contains(why), "{shown}\nexpected {start}{why}");
    }
    let bad = "schema: \u{0}".as_bytes().to_vec();
    assert!(refused(&[("configs/a", std::str::from_utf8(&bad).unwrap())]).contains("document 1"));
}

#[test]
fn documents_that_contradict_each_other_are_errors() {
    let package = "{\"schema\":\"olm.package\",\"name\":\"p\",\"defaultChannel\":\"a\"}";
    let channel = |entry: &str| {
        format!("{{\"schema\":\"olm.channel\",\"package\":\"p\",\"name\":\"a\",\"entries\":[{entry}]}}")
    };
    let bundle = "{\"schema\":\"olm.bundle\",\"package\":\"p\",\"name\":\"p.v1\"}";
    for (more, why) in [
        (package.to_owned(), "there are two packages `p`, the second in `/configs/b`"),
        (channel(""), "the package `p` has two channels `a`, the second in `/configs/b`"),
        (bundle.to_owned(), "the package `p` has two bundles `p.v1`, the second in `/configs/b`"),
        (
            bundle.replace("\"p\"", "\"q\""),
            "the bundle `p.v1` in `/configs/b` is of the package `q`, which has no",
        ),
        (
            channel("{\"name\":\"p.v2\"}").replace("\"a\"", "\"b\""),
            "the channel `b` of the package `p` lists `p.v2`, which has no `olm.bundle` document",
        ),
        (
            channel("{\"name\":\"p.v1\"},{\"name\":\"p.v1\"}").replace("\"a\"", "\"b\""),
            "the channel `b` of the package `p` lists `p.v1` twice",
        ),
        (
            "{\"schema\":\"olm.package\",\"name\":\"q\",\"defaultChannel\":\"none\"}".to_owned(),
            "the package `q` has no channel `none`, its `defaultChannel`",
        ),
        ("{\"schema\":\"olm.package\",\"name\":\"q\"}".to_owned(), "the package `q` has no `defaultChannel`"),
    ] {
        let shown = refused(&[("configs/a", GOOD), ("configs/b", &more)]);
        assert!(shown.starts_with("the catalog in memory contradicts itself: "), "{shown}");
        assert!(shown.contains(why), "{shown}\nexpected {why}");
    }
}

#[test]
fn yaml_that_grows_is_refused_at_once() {
    let began = Instant::now();
    let mut bomb = "schema: x\na0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    let shown = refused(&[("configs/bomb.yaml", &bomb)]);
    assert!(shown.contains("`/configs/bomb.yaml`") && shown.contains("can be read"), "{shown}");
    let deep = format!("schema: x\na: {}", "[".repeat(100_000));
    assert!(refused(&[("configs/deep.yaml", &deep)]).contains("`/configs/deep.yaml`"));
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn documents_come_back_as_they_are_and_yaml_as_json() {
    let json = "{\"schema\":\"olm.package\", \"name\":\"p\",\n \"defaultChannel\":\"a\",\"n\":1.10}";
    let yaml = "schema: olm.channel\npackage: p\nname: a\nproperties:\n- {n: 12345678901234567890, f: 1.5, s: '1.10', t: 1.2.3, b: true}\n";
    let (memory, image) =
        memory(&[("configs/b.yaml", yaml), ("configs/a.json", json), ("configs/c", "schema: free\n")]);
    let files = ImageFiles::open(&memory, &image, None).unwrap();
    let all = documents(&memory, &files, &|_: &DocumentHead| true).unwrap();
    let shown: Vec<(&str, &str)> =
        all.iter().map(|document| (document.file.as_str(), document.json.get())).collect();
    assert_eq!(
        shown,
        [
            ("a.json", json),
            (
                "b.yaml",
                r#"{"name":"a","package":"p","properties":[{"b":true,"f":1.5,"n":12345678901234567890,"s":"1.10","t":"1.2.3"}],"schema":"olm.channel"}"#
            ),
            ("c", r#"{"schema":"free"}"#),
        ]
    );
    assert_eq!(all[0].head.of_package(), Some("p"));
    assert_eq!(all[1].head.of_package(), Some("p"));
    assert_eq!(all[2].head.of_package(), None);
    let some = documents(&memory, &files, &|head: &DocumentHead| head.of_package().is_none()).unwrap();
    assert_eq!(some.len(), 1);
    assert!(read_files(&memory, &files).is_ok());
}

#[test]
fn an_image_that_is_no_catalog_is_an_error() {
    let mut memory = Memory::default();
    let layer = memory.layer(&[("configs/a", GOOD.as_bytes())]);
    let image = memory.image(&[("other", "x")], std::slice::from_ref(&layer));
    let shown = chain(&read(&memory, &image).unwrap_err());
    assert!(shown.contains(&image.digest.to_string()) && shown.contains(FILES_LABEL), "{shown}");
    let image = memory.image(&[(FILES_LABEL, "/other")], &[layer]);
    let shown = chain(&read(&memory, &image).unwrap_err());
    assert!(shown.contains("no document below `/other`"), "{shown}");
}

#[test]
fn hard_links_within_the_catalog_are_read_like_files() {
    use crate::catalog::testing::{gzip, link, put};
    use tar::EntryType;
    let linked = |target: &str| {
        let mut memory = Memory::default();
        let mut tar = tar::Builder::new(Vec::new());
        put(&mut tar, "configs/a.json", GOOD.as_bytes());
        put(&mut tar, "configs/.gitkeep", b"");
        link(&mut tar, "configs/sub/linked", EntryType::Link, target, b"");
        let layer = memory.add(crate::oci::media_type::OCI_LAYER_GZIP, gzip(&tar.into_inner().unwrap()));
        let image = memory.image(&[(FILES_LABEL, "/configs")], &[layer]);
        read(&memory, &image)
    };
    assert_eq!(linked("configs/.gitkeep").unwrap().packages.len(), 1);
    let shown = chain(&linked("configs/a.json").unwrap_err());
    assert!(shown.contains("there are two packages `p`, the second in `/configs/sub/linked`"), "{shown}");
}

#[test]
fn entries_without_a_name_and_too_many_parts_are_refused() {
    for entry in ["{}", "{\"name\":\"\"}", "{\"name\":null}", "{\"replaces\":\"x\"}"] {
        let more =
            format!("{{\"schema\":\"olm.channel\",\"package\":\"p\",\"name\":\"b\",\"entries\":[{entry}]}}");
        let shown = refused(&[("configs/a", GOOD), ("configs/b", &more)]);
        assert!(shown.contains("`/configs/b`") && shown.contains("`name`"), "{shown}");
    }
    let started = Instant::now();
    let many = |count: usize, item: &str| vec![item; count].join(",");
    let bundle = |count| {
        format!(
            "{{\"schema\":\"olm.bundle\",\"package\":\"p\",\"name\":\"x\",\"relatedImages\":[{}]}}",
            many(count, "{\"image\":\"a\"}")
        )
    };
    let one = bundle(2_100_000);
    let half = bundle(1_100_000);
    let skips = format!(
        "{{\"schema\":\"olm.channel\",\"package\":\"p\",\"name\":\"b\",\"entries\":[{{\"name\":\"x\",\"skips\":[{}]}}]}}",
        many(2_100_000, "\"\"")
    );
    for files in [
        vec![("configs/a", GOOD), ("configs/b", one.as_str())],
        vec![("configs/b", half.as_str()), ("configs/c", half.as_str())],
        vec![("configs/b", skips.as_str())],
    ] {
        assert!(refused(&files).contains("lists more than 2000000 bundles, entries and images"));
    }
    let yaml = format!("schema: x\nv: [{}]\n", many(2_100_000, "1"));
    assert!(refused(&[("configs/b", &yaml)]).contains("`/configs/b`"));
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
