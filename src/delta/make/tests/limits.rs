//! Layers that are made to take much memory or time: they get a patch as others do.

use super::*;

/// Extended headers of this kind, `count` of them with `size` bytes each, and the file that they are for.
fn extended(kind: u8, count: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..count {
        let mut extended = header(size, 5);
        extended.set_entry_type(::tar::EntryType::new(kind));
        extended.set_cksum();
        bytes.extend_from_slice(extended.as_bytes());
        bytes.extend(noise(at, size));
    }
    bytes.extend(tar(&[("file", noise(99, 3_000))]));
    bytes
}

#[test]
fn heads_beyond_a_mebibyte_are_plain_content() {
    for kind in *b"xgLK" {
        let members = |count, size| scan(&layer(&extended(kind, count, size)).plain).unwrap();
        // With the headers and the file's own, exactly a mebibyte.
        for (count, size) in [(1, (1 << 20) - 1_024), (2_047, 0)] {
            let (good, bad) = (members(count, size), members(count + 1, size));
            assert_eq!((good[0].content, good.len()), (1 << 20, 2));
            assert_eq!((bad[0].path, bad.len()), (0, 1), "{count} of {size} bytes");
        }
    }
    // What is before stays told apart, and nothing is planned that no frame can give.
    let a = noise(7, 1_000);
    let mut new = tar(&[("a", &a)]);
    new.truncate(512 + 1_024);
    new.extend(extended(b'x', 40, 1 << 20));
    assert_eq!(scan(&layer(&new).plain).unwrap().len(), 2);
    let old = tar(&[("a", &a)]);
    patch_of(&new, &[&old], USUAL);
    patch_of(&old, &[&new], USUAL);
    patch_of(&gzip(&new), &[&gzip(&old)], USUAL);
}
