//! Layers that are made to take much memory or time: they get a patch as others do.

use super::super::chunks::{Chunk, same};
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

#[test]
fn large_files_of_one_content_repeated_are_copied() {
    // All chunks but the last are equal: wherever one stands, the copies go on as one.
    let files = |length: usize| tar(&[("data", vec![0; length])]);
    let (old, new) = (files(65 << 20), files((66 << 20) + 5));
    for (old, new) in [(&old, &new), (&new, &old)] {
        let size = patch_of(new, &[old], USUAL).len();
        assert!(size < 600, "{size}");
    }
}

#[test]
fn equal_chunks_are_found_without_looking_at_each() {
    let chunk = |hash, offset| Chunk { hash, offset, length: 4 };
    // One by one, this would be some 10¹¹ steps.
    let many: u64 = 1 << 19;
    let mut known: Vec<_> = (0..many).map(|at| chunk(5, at * 4)).collect();
    known.extend([chunk(3, many * 4), chunk(9, many * 4 + 4)]);
    known.sort_unstable();
    for at in 0..many {
        assert_eq!(same(&known, &chunk(5, 1), at * 4), Some(&chunk(5, at * 4)));
        assert_eq!(same(&known, &chunk(5, 1), at * 4 + 1), Some(&chunk(5, 0)));
    }
    assert_eq!(same(&known, &chunk(9, 0), 0), Some(&chunk(9, many * 4 + 4)));
    for other in [0, 4, 10] {
        assert_eq!(same(&known, &chunk(other, 0), 0), None);
    }
    assert_eq!(same(&known, &Chunk { length: 3, ..chunk(5, 0) }, 0), None);
}
