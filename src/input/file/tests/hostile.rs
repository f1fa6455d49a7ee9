//! Files that are no files of what is wanted, and such as are made to hurt.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_none_of_the_kinds_is_refused_with_the_kinds() {
    for (text, words) in [
        ("apiVersion: v1\nkind: Pod\n", &["FILE:1: `apiVersion: v1` is none that barge reads"][..]),
        ("a: b\n", &["FILE:1: this YAML does not say its `apiVersion`"][..]),
        ("{\"mediaType\": \"x\"}\n", &["FILE:1: this YAML does not say its `apiVersion`"][..]),
        ("---\n", &["FILE:1: there is nothing in it"][..]),
    ] {
        faulty(text, words);
        faulty(
            text,
            &["hint: barge reads barge.yaml", "mapping files", "ImageSetConfiguration", "hauler", "lists"],
        );
    }
    for text in ["- a\n- b\n", "[a, b]\n", "\"x\"\n"] {
        faulty(text, &["FILE:1: this YAML has no fields", "hint: barge reads barge.yaml"]);
    }
    faulty("apiVersion:\tbarge/v1\n\timages: []\n", &["FILE:1:", "found a tab"]);
    faulty("apiVersion: barge/v1\nimages:\n\t- a\n", &["FILE:3:"]);
    faulty("apiVersion: barge/v1\nimages: [a\n", &["FILE:"]);
    faulty("apiVersion: 7\n", &["FILE:1: `apiVersion: 7` is none"]);
    faulty("apiVersion: {a: b}\n", &["FILE:1:"]);
}

#[test]
fn every_kind_is_told_by_its_content() {
    for text in [
        "\u{feff}# x\r\n\r\napiVersion: barge/v1\r\nimages:\r\n- reg.test/a:v1\r\n",
        "{\"apiVersion\": \"barge/v1\", \"images\": [\"reg.test/a:v1\"]}",
        "%YAML 1.2\n---\napiVersion: barge/v1\nimages: [reg.test/a:v1]\n...\n",
        "images: [reg.test/a:v1]\nkind: Bundle\napiVersion: barge/v1\n",
        "# apiVersion: v1\nreg.test/a:v1\n",
        "reg.test/a:v1 reg.test/a:v1",
    ] {
        assert_eq!(pulls(&order(text)), ["reg.test/a:v1 < reg.test/a:v1"], "{text:?}");
    }
}

#[test]
fn a_field_that_stands_twice_is_an_error() {
    for text in [
        "apiVersion: barge/v1\nimages: []\nimages: []\n",
        "apiVersion: barge/v1\napiVersion: barge/v1\n",
        "apiVersion: barge/v1\nimages: [{image: a, image: b}]\n",
        "apiVersion: barge/v1\nimages:\n- {image: a, \"image\": b}\n",
    ] {
        faulty(text, &["FILE:", "stands here twice"]);
    }
}

#[test]
fn bombs_and_depths_are_refused_in_time() {
    let mut bomb =
        "apiVersion: barge/v1\nimages:\n- &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let row = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("- &a{level} [{row}]\n"));
    }
    let flat =
        format!("apiVersion: barge/v1\nblocked:\n- &a {}\n", "x".repeat(1000)) + &"- *a\n".repeat(200_000);
    let merged = "apiVersion: barge/v1\na: &a {b: c}\nd: {<<: [*a, *a, *a, *a]}\n";
    let texts = [
        bomb,
        flat,
        format!("apiVersion: barge/v1\nimages: {}", "[".repeat(100_000)),
        format!("apiVersion: barge/v1\nimages: {}", "{a: ".repeat(100_000)),
        "apiVersion: barge/v1\nimages:\n".to_owned()
            + &(0..5000).map(|n| " ".repeat(n) + "- \n").collect::<String>(),
        "apiVersion: barge/v1\nimages: &a [*a]\n".to_owned(),
        "apiVersion: barge/v1\n".to_owned() + &"---\n{}\n".repeat(100_000),
        "apiVersion: barge/v1\nimages:\n".to_owned() + &"- {image: a}\n".repeat(400_000),
    ];
    for text in texts {
        let begun = Instant::now();
        let said = fault(&text);
        let shown: String = text.chars().take(60).collect();
        assert!(said.starts_with("FILE:"), "{shown}: {said}");
        assert!(said.len() < 1000, "{shown}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{shown}: {:?}", begun.elapsed());
    }
    // What barge's own fields leave out is looked at too.
    faulty(merged, &["FILE:2: unknown field `a`"]);
    faulty(&format!("apiVersion: barge/v1\nimages: {}", "[".repeat(100)), &["more than a file may hold"]);
}

#[test]
fn many_images_are_no_bomb_and_aliases_are_fine() {
    let many: String = (0..20_000)
        .map(|n| format!("- {{image: 'reg.test/a:{n}', platforms: *p}}\n"))
        .collect::<Vec<_>>()
        .concat();
    let text = format!("apiVersion: barge/v1\ndefaults: {{platforms: &p [linux/amd64]}}\nimages:\n{many}");
    let order = order(&text);
    assert_eq!(order.images.len(), 20_000);
    assert_eq!(order.images[19_999].at.as_ref().unwrap().line, 20_003);
    let lines: String =
        (0..100_000).map(|n| format!("reg.test/a:{n}=dst.test/a:{n}\n")).collect::<Vec<_>>().concat();
    assert_eq!(self::order(&lines).images.len(), 100_000);
}

#[test]
fn what_is_no_text_too_long_or_not_there_is_refused() {
    let said = read_text(b"reg.test/a\nreg.test/\xff\n").unwrap_err();
    assert_eq!(chain(&said), "FILE:2: this is not UTF-8 text");
    assert!(said.hint().is_some());
    let said = read_text(vec![b'\n'; MAX_FILE as usize + 1]).unwrap_err();
    assert!(said.to_string().contains("is longer than 16777216 bytes"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none"), folder.path().to_owned()] {
        let said = read(&path).unwrap_err();
        assert!(said.to_string().ends_with("can't be read") && said.at().is_none(), "{said}");
    }
}

/// One file of each kind, and one of what several have.
const SEEDS: [&str; 5] = [
    include_str!("../../../../fixtures/files/barge.yaml"),
    include_str!("../../../../fixtures/files/images-mapping.txt"),
    include_str!("../../../../fixtures/files/imageset.yaml"),
    include_str!("../../../../fixtures/files/hauler.yaml"),
    include_str!("../../../../fixtures/files/images.txt"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_change_of_a_file_makes_the_reader_panic(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3usize, "[ -~\n\t]{0,3}"), 1..6),
    ) {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        for (from, to, what, put) in edits {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let (from, to) = (from.min(to), from.max(to));
            match what {
                0 => drop(bytes.splice(from..(from + 1).min(bytes.len()), put.into_bytes())),
                1 => drop(bytes.drain(from..(from + 40).min(to))),
                _ => {
                    let copy = bytes[from..(from + 80).min(to)].to_vec();
                    bytes.splice(to..to, copy);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'a');
            }
        }
        if let Err(error) = read_text(&bytes) {
            prop_assert!(error.at().is_none_or(|at| at.line > 0), "{}", error);
            prop_assert!(error.to_string().len() < 2000);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(apiVersion: barge/v1\n|images:\n|- |[a-z:=@*&{}\\[\\]\"'#!|>%\r\n\t ./-]){0,40}") {
        let _ = read_text(text);
    }
}
