//! The same inputs give the same bytes.

use std::fs;

use barge::oci::Descriptor;
use proptest::prelude::*;

use super::{Packed, pack, temp};
use crate::support::archives::write_layout;
use crate::support::hostile::{Config, Hostile};
use crate::support::images::{Blob, Content, layer, noise};

/// A set of images that share content: `shape` is where its randomness comes from.
fn images(shape: &[u8]) -> (Content, Vec<Descriptor>) {
    let mut content = Content::new();
    let layers: Vec<Blob> = (0..6)
        .map(|seed| {
            Blob::new("application/vnd.oci.image.layer.v1.tar", noise(seed, 40 + 9000 * seed as usize))
        })
        .collect();
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"];
    let mut made: Vec<Descriptor> = Vec::new();
    for (at, byte) in shape.iter().enumerate() {
        let byte = usize::from(*byte);
        let pick = |n: usize, of: usize| (byte / (1 + n * 3) + at * n) % of;
        let descriptor = match byte % 5 {
            0 | 1 => {
                let chosen: Vec<Blob> = (0..pick(1, 4)).map(|n| layers[pick(n + 1, 6)].clone()).collect();
                content.image(platforms[pick(2, 4)], &chosen)
            }
            2 | 3 if !made.is_empty() => {
                let chosen: Vec<Descriptor> =
                    (0..=pick(1, 4)).map(|n| made[pick(n + 1, made.len())].clone()).collect();
                content.index(&chosen)
            }
            4 if !made.is_empty() => {
                let subject = made[pick(1, made.len())].clone();
                content.artifact(&subject, "application/x-note", &[byte as u8])
            }
            _ => content.null_layers(),
        };
        made.push(descriptor);
    }
    (content, made)
}

/// Serves some images: the same content in repositories that each hold a part of it.
fn serve(content: &Content, made: &[Descriptor]) -> (Hostile, Vec<String>) {
    let hostile = Hostile::start(Config { referrers_api: true, ..Config::default() });
    let mut names = Vec::new();
    for (at, root) in made.iter().enumerate() {
        let repository = format!("set{}", at % 3);
        hostile.seed(&repository, content, root, Some(&format!("v{at}")));
        names.push(format!("r.example/{repository}:v{at}={}/{repository}:v{at}", hostile.host()));
    }
    (hostile, names)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_jobs_nor_the_order_of_arguments_shows(
        shape in prop::collection::vec(any::<u8>(), 1..14),
        seed in any::<u64>(),
    ) {
        let (content, made) = images(&shape);
        let (_hostile, names) = serve(&content, &made);
        let temp = temp();
        let mut shuffled: Vec<(u8, &String)> = noise(seed, names.len()).into_iter().zip(&names).collect();
        shuffled.sort();
        let other: Vec<&String> = shuffled.into_iter().map(|(_, name)| name).collect();
        let (one, two) = (temp.path().join("one.tar"), temp.path().join("two.tar"));
        let first = pack(&one, &names).args(["--jobs", "1"]).run();
        let second = pack(&two, &other).args(["--jobs", "8"]).run();
        prop_assert_eq!((first.code, second.code), (0, 0), "{}{}", first, second);
        prop_assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
        let packed = Packed::open(&one);
        for root in &made {
            packed.has_all(&content, root);
        }
    }
}

#[test]
fn packed_twice_with_other_jobs_from_other_places_is_the_same() {
    let (content, made) = images(&[0, 1, 5, 6, 10, 2, 7, 12, 4, 9, 11, 3]);
    let (_hostile, names) = serve(&content, &made);
    let temp = temp();
    let mut files = Vec::new();
    for (at, jobs) in ["1", "16", "16", "3"].iter().enumerate() {
        let path = temp.path().join(format!("{at}.tar"));
        let mut names = names.clone();
        names.rotate_left(at);
        pack(&path, &names).args(["--jobs", jobs]).run().success();
        files.push(fs::read(&path).unwrap());
    }
    assert!(files.windows(2).all(|pair| pair[0] == pair[1]));

    // A layout packed twice, and packed from a tar of itself, gives one bundle too.
    let layout = temp.path().join("layout");
    let roots: Vec<(String, Descriptor)> =
        made.iter().enumerate().map(|(at, root)| (format!("r.example/l:v{at}"), root.clone())).collect();
    let roots: Vec<(&str, Descriptor)> = roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    write_layout(&layout, &content, &roots);
    let (one, two) = (temp.path().join("l1.tar"), temp.path().join("l2.tar"));
    pack(&one, [&layout]).run().success();
    pack(&two, [&one]).run().success();
    assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
}

#[test]
fn one_name_for_one_image_from_two_repositories_does_not_depend_on_their_order() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(1, 100)]);
    let temp = temp();
    let mut names = ["b", "a"].map(|repository| {
        hostile.seed(repository, &content, &image, Some("v1"));
        format!("r.example/x:1={}/{repository}:v1", hostile.host())
    });
    let mut files = Vec::new();
    for at in 0..2 {
        let path = temp.path().join(format!("{at}.tar"));
        pack(&path, &names).run().success();
        files.push(fs::read(&path).unwrap());
        names.reverse();
    }
    assert!(files[0] == files[1]);
    // Two images under one name are refused.
    let other = content.image("linux/amd64", &[layer(2, 100)]);
    hostile.seed("a", &content, &other, Some("v1"));
    pack(&temp.path().join("clash.tar"), &names)
        .run()
        .code(3)
        .stderr_has("r.example/x:1")
        .stderr_has("NAME=SOURCE");
}
