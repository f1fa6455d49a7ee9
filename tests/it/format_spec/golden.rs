//! The golden files: what the library makes is what lies in `fixtures/golden/`, to the byte.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::made::{How, Made, site, site_that_lacks_a_layer};
use crate::support::fixtures::directory;

/// Where the golden files lie.
pub fn folder() -> PathBuf {
    directory().join("golden")
}

/// The golden bundle, as it lies in the repository.
pub fn whole() -> Made {
    golden("site")
}

/// The golden bundle that has a gap, as it lies in the repository.
pub fn with_gap() -> Made {
    golden("site-gap")
}

fn golden(name: &str) -> Made {
    let read = |suffix: &str| {
        let path = folder().join(format!("{name}{suffix}"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    Made::new(read(".oci.tar"), read(".barge.json"))
}

#[test]
fn the_golden_files_are_what_the_library_makes() {
    let whole = Made::of(&site(), How::default());
    let gap = Made::of(&site_that_lacks_a_layer(), How { keep_going: true, ..How::default() });
    let files = BTreeMap::from([
        ("site.oci.tar", whole.bytes),
        ("site.barge.json", whole.sidecar),
        ("site-gap.oci.tar", gap.bytes),
        ("site-gap.barge.json", gap.sidecar),
    ]);
    if std::env::var_os("BARGE_REMAKE_FIXTURES").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for (name, bytes) in &files {
            std::fs::write(folder().join(name), bytes).unwrap();
        }
    }
    let on_disk: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(on_disk.len(), files.len(), "{on_disk:?}");
    for (name, bytes) in &files {
        let stored = std::fs::read(folder().join(name)).unwrap();
        assert!(stored == *bytes, "`{name}` is not what the library makes; see fixtures/README.md");
    }
    let length: usize = files.values().map(Vec::len).sum();
    assert!(length < 128 * 1024, "golden files stay small: {length} bytes");
}
