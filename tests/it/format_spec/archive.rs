//! §2: the tar.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use barge::oci::Digest;
use barge::store::archive::{header, header_length};

use super::build::{block, pax};
use super::golden;
use super::made::{How, Made, one_image};
use super::walk::BLOCK;
use crate::support::images::plain_layer;
use crate::support::peers::{command, gnu_tar, run};

/// One more than the largest size of a ustar header.
const EIGHT_GIB: u64 = 8 << 30;

/// A bundle with a sha512 blob, whose path is too long for a ustar header.
fn with_sha512() -> (Made, Digest) {
    let layer = plain_layer(1, 1000).by_sha512();
    (Made::of(&one_image(&layer), How::default()), layer.digest)
}

fn all() -> [Made; 3] {
    [golden::whole(), golden::with_gap(), with_sha512().0]
}

/// What Python's tarfile sees: path, size, mode, owner and time of each entry.
fn python_view(path: &std::path::Path) -> Vec<String> {
    let script = "import sys, tarfile\n\
        for m in tarfile.open(sys.argv[1], 'r:'):\n    \
        print(m.name, m.size, oct(m.mode), m.uid, m.gid, m.mtime, m.isreg() and not m.issparse())";
    let output = run(command("python3").args(["-c", script]).arg(path));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn b_1_head_body_trailer_and_zero_blocks_stand_in_order_without_anything_between() {
    for made in all() {
        let mut at = 0;
        for entry in &made.entries {
            assert_eq!(entry.start, at, "{}", entry.path);
            at = entry.end();
        }
        assert_eq!(made.bytes[at as usize..], [0; 2 * BLOCK]);
        let part = |path: &str| match path {
            ".barge-trailer" => 2,
            path if path.starts_with("blobs/") || path.starts_with(".barge-gap/") => 1,
            _ => 0,
        };
        let parts: Vec<u32> = made.entries.iter().map(|entry| part(&entry.path)).collect();
        assert!(parts.is_sorted(), "{parts:?}");
        assert_eq!(parts.iter().filter(|part| **part == 2).count(), 1);
    }
}

#[test]
fn b_2_headers_are_the_bytes_of_the_table() {
    for made in [golden::whole(), golden::with_gap()] {
        for entry in &made.entries {
            assert!(entry.header == block(&entry.path, entry.size, b'0'), "{}", entry.path);
        }
    }
}

#[test]
fn b_2_python_and_gnu_tar_see_files_of_nobody_and_no_time() {
    let temp = tempfile::tempdir().unwrap();
    let made = golden::whole();
    let path = made.write(temp.path(), "a.tar");
    let expected: Vec<String> =
        made.entries.iter().map(|entry| format!("{} {} 0o644 0 0 0 True", entry.path, entry.size)).collect();
    assert_eq!(python_view(&path), expected);
    let output = run(command("tar").arg("-tvf").arg(&path).env("TZ", "UTC"));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    for (line, entry) in String::from_utf8(output.stdout).unwrap().lines().zip(&made.entries) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let size = entry.size.to_string();
        assert_eq!(words, ["-rw-r--r--", "0/0", &size, "1970-01-01", "00:00", &entry.path]);
    }
}

#[test]
fn b_3_padding_is_zero() {
    for made in all() {
        for entry in &made.entries {
            let padding = &made.bytes[(entry.data + entry.size) as usize..entry.end() as usize];
            assert!(padding.len() < BLOCK && padding.iter().all(|byte| *byte == 0), "{}", entry.path);
        }
    }
}

#[test]
fn b_4_sizes_from_8_gib_on_stand_in_a_pax_header() {
    let path = Digest::sha256(b"large").blob_path();
    assert_eq!(header(&path, EIGHT_GIB - 1), block(&path, EIGHT_GIB - 1, b'0'));
    let mut expected = pax("19 size=8589934592\n");
    expected.extend(block(&path, 0, b'0'));
    assert_eq!(header(&path, EIGHT_GIB), expected);
    assert_eq!(header_length(&path, EIGHT_GIB), 3 * BLOCK as u64);
}

#[test]
fn b_4_gnu_tar_and_python_read_entries_on_both_sides_of_8_gib() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("large.tar");
    let file = File::create(&path).unwrap();
    let names = ["a", "b", "c"].map(|name| Digest::sha256(name.as_bytes()).blob_path());
    let (mut at, mut expected) = (0, Vec::new());
    for (name, size) in names.iter().zip([EIGHT_GIB - 1, EIGHT_GIB, 5]) {
        let bytes = header(name, size);
        file.write_all_at(&bytes, at).unwrap();
        at = (at + bytes.len() as u64 + size).next_multiple_of(BLOCK as u64);
        expected.push(format!("{name} {size}"));
    }
    // The contents are holes: nothing large is written.
    file.set_len(at + 2 * BLOCK as u64).unwrap();
    let seen = python_view(&path);
    let seen: Vec<String> =
        seen.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(seen, expected);
    let listing = gnu_tar(["-tvf", path.to_str().unwrap()]);
    for (line, expected) in listing.lines().zip(&expected) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(format!("{} {}", words[5], words[2]), *expected);
    }
    assert_eq!(listing.lines().count(), 3);
}

#[test]
fn b_5_paths_of_more_than_100_bytes_stand_in_a_pax_header() {
    let (made, digest) = with_sha512();
    let path = digest.blob_path();
    assert_eq!(path.len(), 141);
    let entry = made.entry(&path);
    let mut expected = pax(&format!("151 path={path}\n"));
    expected.extend(block(&path[41..], entry.size, b'0'));
    assert_eq!(made.bytes[entry.start as usize..entry.data as usize], expected);
    assert_eq!(entry.content(&made.bytes), plain_layer(1, 1000).bytes);

    let both = header(&path, EIGHT_GIB);
    let mut expected = pax(&format!("151 path={path}\n19 size=8589934592\n"));
    expected.extend(block(&path[41..], 0, b'0'));
    assert_eq!(both, expected);

    let temp = tempfile::tempdir().unwrap();
    let file = made.write(temp.path(), "a.tar");
    assert!(gnu_tar(["-tf", file.to_str().unwrap()]).lines().any(|line| line == path));
    assert!(python_view(&file).iter().any(|line| line.starts_with(&path)));
    let mut extract = Command::new("tar");
    extract.args(["-xOf", file.to_str().unwrap(), &path]);
    assert_eq!(run(&mut extract).stdout, plain_layer(1, 1000).bytes);
}

#[test]
fn b_6_entries_are_regular_files_and_extensions_are_paths_and_sizes() {
    for made in all() {
        for entry in &made.entries {
            assert_eq!(entry.header[156], b'0', "{}", entry.path);
            for record in entry.pax.iter().flat_map(|records| records.lines()) {
                let key = record.split(' ').nth(1).unwrap().split('=').next().unwrap();
                assert_eq!(key, "path");
            }
            assert_eq!(entry.pax.is_some(), entry.path.len() > 100);
        }
    }
}

#[test]
fn b_7_no_path_occurs_twice() {
    for made in all() {
        let mut paths: Vec<&str> = made.entries.iter().map(|entry| entry.path.as_str()).collect();
        paths.sort_unstable();
        assert!(paths.windows(2).all(|pair| pair[0] != pair[1]), "{paths:?}");
    }
}
