//! Layers that are made to take much memory or time: they get a patch as others do.

use super::super::chunks::{Chunk, same};
use super::super::plain::{Link, Step};
use super::super::tar::{MEMBERS_MAX, Member};
use super::super::twins::Twin;
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

#[test]
fn members_beyond_the_limit_are_one_content() {
    let files: Vec<_> = (0..5).map(|at| (format!("f{at}"), noise(at, 700))).collect();
    let bytes = tar(&files);
    let layer = layer(&bytes);
    let all = scan(&layer.plain).unwrap();
    let some = super::super::tar::scan(&layer.plain, 3).unwrap();
    assert_eq!((all.len(), some.len()), (6, 4));
    assert_eq!(some[..3], all[..3]);
    assert_eq!((some[3].path, some[3].end()), (0, bytes.len() as u64));
}

#[test]
fn more_members_than_are_told_apart() {
    let tar_of = |count: usize, first: u64| {
        let mut files: Vec<_> = (0..count).map(|at| (format!("f{at}"), Vec::new())).collect();
        files[0].1 = noise(first, 1_000);
        files[count - 1].1 = noise(3, 1_000);
        tar(&files)
    };
    // More than of any layer, and more than of each of 16 bases.
    for (count, bases) in [(MEMBERS_MAX + 50, 1), (BASE_MEMBERS_MAX / 16 + 50, 16)] {
        let (old, new) = (tar_of(count, 1), tar_of(count, 2));
        let size = patch_of(&new, &vec![old.as_slice(); bases], USUAL).len();
        assert!(size < 3_500, "{size} bytes with {bases} bases");
    }
}

#[test]
fn tables_of_members_fit_into_the_least_memory() {
    // Lists, indexes by content, by path and by masked path, and what is claimed.
    let old = size_of::<Member>() + 2 * size_of::<(u64, u32)>() + size_of::<(u64, u64, u32)>() + 1;
    // Lists, twins, and up to three steps and links, in vectors that double.
    let new = size_of::<Member>() + size_of::<Twin>() + 2 * 3 * (size_of::<Step>() + size_of::<Link>());
    assert_eq!((old, new), (137, 848));
    assert!((BASE_MEMBERS_MAX * old + MEMBERS_MAX * new) as u64 <= MEMORY_MIN - RESERVE);
}
