//! The golden files: what the library makes is what lies in `fixtures/golden/`, to the byte.
//!
//! Inventories and receipts are made of the record of the golden bundle: what a target would hold once it is pushed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::made::{How, Made, site, site_that_lacks_a_layer};
use super::months;
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

/// The golden delta bundle, as it lies in the repository.
pub fn delta() -> Made {
    Made::new(file("site-delta.barge"), file("site-delta.barge.barge.json"))
}

/// The golden delta bundle with patches, as it lies in the repository.
pub fn patched() -> Made {
    Made::new(file("site-patch.barge"), file("site-patch.barge.barge.json"))
}

/// A golden file.
pub fn file(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A golden document.
pub fn document(name: &str) -> serde_json::Value {
    serde_json::from_slice(&file(name)).unwrap()
}

fn golden(name: &str) -> Made {
    Made::new(file(&format!("{name}.oci.tar")), file(&format!("{name}.barge.json")))
}

#[test]
fn the_golden_files_are_what_the_library_makes() {
    let whole = Made::of(&site(), How::default());
    let gap = Made::of(&site_that_lacks_a_layer(), How { keep_going: true, ..How::default() });
    let delta = months::months().february();
    let patched = months::changed(&whole);
    let written = |inventory: &barge::inventory::Inventory| {
        let mut bytes = Vec::new();
        inventory.write(&mut bytes, false).unwrap();
        bytes
    };
    let inventory = written(&months::inventory(&whole));
    let receipt = written(&months::receipt(&whole));
    let request = months::request(&whole).bytes();
    let files = BTreeMap::from([
        ("site-delta.barge", delta.bytes),
        ("site-delta.barge.barge.json", delta.sidecar),
        ("site-patch.barge", patched.bytes),
        ("site-patch.barge.barge.json", patched.sidecar),
        ("site.inventory.json", inventory),
        ("site.receipt.json", receipt),
        ("site.request.json", request),
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
    assert!(length < 160 * 1024, "golden files stay small: {length} bytes");
}
