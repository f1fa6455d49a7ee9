use std::fs::File;
use std::io::Write;
use std::process::Command;

use proptest::prelude::*;
use tar::{Builder, Header as TarHeader};

use super::*;

fn stored(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn scan(bytes: &[u8]) -> (Vec<Entry>, Vec<TarFault>) {
    let file = stored(bytes);
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for item in Scan::new(&file, bytes.len() as u64) {
        match item {
            Ok(entry) => entries.push(entry),
            Err(fault) => faults.push(fault),
        }
        // Each item takes at least a block, so a scan that runs longer does not move.
        assert!(entries.len() + faults.len() <= bytes.len() / 512 + 2);
    }
    (entries, faults)
}

/// A header with any name, type, size and link, valid or not.
fn raw(name: &[u8], type_flag: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut header = TarHeader::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.as_mut_bytes()[156] = type_flag;
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

fn file_entry(name: &str, data: &[u8]) -> Vec<u8> {
    [raw(name.as_bytes(), b'0', data.len() as u64, b""), padded(data)].concat()
}

fn pax(records: &[u8]) -> Vec<u8> {
    [raw(b"pax", b'x', records.len() as u64, b""), padded(records)].concat()
}

fn ended(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.extend([0; 1024]);
    bytes
}

fn paths(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn offsets_point_at_headers_and_data() {
    let long = format!("blobs/{}", "x".repeat(300));
    let mut builder = Builder::new(Vec::new());
    for (name, data) in [("a", &b"first"[..]), (&long, b"second"), ("./dir/c", b"")] {
        let mut header = TarHeader::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let (entries, faults) = scan(&bytes);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(paths(&entries), ["a", &long, "dir/c"]);
    assert_eq!((entries[0].start, entries[0].header_offset, entries[0].data_offset), (0, 0, 512));
    // A GNU long name takes a header and one block of data before the entry's own header.
    assert_eq!((entries[1].start, entries[1].header_offset), (1024, 2048));
    for (entry, data) in entries.iter().zip([&b"first"[..], b"second", b""]) {
        let start = entry.data_offset as usize;
        assert_eq!(&bytes[start..start + entry.size as usize], data);
        let block = bytes[entry.header_offset as usize..][..512].try_into().unwrap();
        assert!(parse_header_block(block).unwrap().is_some());
    }
    assert_eq!(entries[1].end(), entries[2].start);
    let file = stored(&bytes);
    let second: Vec<_> = Scan::at(&file, bytes.len() as u64, entries[1].start).collect();
    assert_eq!(second.len(), 2);
    assert_eq!(second[0].as_ref().unwrap(), &entries[1]);
}

#[test]
fn gnu_tar_archives_of_every_format_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let deep = "d".repeat(90);
    let long = format!("{deep}/{}", "f".repeat(80));
    std::fs::create_dir(folder.path().join(&deep)).unwrap();
    for name in ["short", &long] {
        std::fs::write(folder.path().join(name), name.repeat(20)).unwrap();
    }
    std::fs::hard_link(folder.path().join("short"), folder.path().join("z-hard")).unwrap();
    std::os::unix::fs::symlink("short", folder.path().join("z-soft")).unwrap();
    for format in ["gnu", "pax", "ustar", "oldgnu"] {
        let output = Command::new("tar")
            .args(["-c", "--sort=name", "--format", format, "-C"])
            .arg(folder.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success());
        let (entries, faults) = scan(&output.stdout);
        assert!(faults.is_empty(), "{format}: {faults:?}");
        assert_eq!(paths(&entries), ["", &deep, &long, "short", "z-hard", "z-soft"], "{format}");
        let link = EntryKind::Link { target: "short".to_owned() };
        assert_eq!((&entries[4].kind, &entries[5].kind), (&link, &link));
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            let data = &output.stdout[entry.data_offset as usize..][..entry.size as usize];
            assert_eq!(data, entry.path.repeat(20).as_bytes());
        }
    }
}

#[test]
fn sparse_files_of_every_form_are_refused_and_the_scan_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("a-holes")).unwrap();
    // Thirty islands: more than the four that fit the header and the 21 of the first extension block.
    for island in 0..30_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], island * 65_536).unwrap();
    }
    file.set_len(4 << 20).unwrap();
    std::fs::write(folder.path().join("b-plain"), "x").unwrap();
    for arguments in [
        &["--format=gnu", "-S"][..],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
    ] {
        let output = Command::new("tar")
            .args(arguments)
            .args(["-c", "-C"])
            .arg(folder.path())
            .args(["a-holes", "b-plain"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let (entries, faults) = scan(&output.stdout);
        assert!(matches!(&faults[..], [TarFault::Sparse { offset: 0, .. }]), "{arguments:?}: {faults:?}");
        assert_eq!(paths(&entries), ["b-plain"]);
    }
}

#[test]
fn pax_records_override_the_header() {
    let bytes = ended(&[
        pax(b"17 path=real/name\n9 size=3\n"),
        raw(b"other", b'0', 7, b""),
        padded(b"abc"),
        file_entry("next", b"n"),
    ]);
    // The records' lengths must be right for this test to mean anything.
    let (entries, faults) = scan(&bytes);
    assert!(
        matches!(&faults[..], [TarFault::BadExtension { .. }]),
        "17 is one too many for the first record: {faults:?} {entries:?}"
    );
    let bytes = ended(&[
        pax(b"18 path=real/name\n10 size=3\n"),
        raw(b"other", b'0', 7000, b""),
        padded(b"abc"),
        file_entry("next", b"n"),
    ]);
    let (entries, faults) = scan(&bytes);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(paths(&entries), ["real/name", "next"]);
    assert_eq!((entries[0].size, entries[0].start, entries[0].data_offset), (3, 0, 1536));
}

#[test]
fn what_readers_would_understand_differently_is_refused() {
    let long = |flag, name: &[u8]| [raw(b"long", flag, name.len() as u64, b""), padded(name)].concat();
    let global = [raw(b"g", b'g', 10, b""), padded(b"10 path=b\n")].concat();
    let file = file_entry("a", b"x");
    for parts in [
        vec![pax(b"10 path=b\n"), long(b'L', b"c\0"), file.clone()],
        vec![pax(b"10 path=b\n"), pax(b"10 path=b\n"), file.clone()],
        vec![long(b'L', b"c\0"), long(b'L', b"c\0"), file.clone()],
        vec![global, file.clone()],
        vec![pax(b"10 path=b\n")],
        vec![long(b'L', &vec![b'a'; (1 << 20) + 1]), file.clone()],
    ] {
        let (entries, faults) = scan(&ended(&parts));
        assert!(
            entries.is_empty() && matches!(&faults[..], [TarFault::BadExtension { .. }]),
            "{faults:?} {entries:?}"
        );
    }
    let comment = [raw(b"g", b'g', 13, b""), padded(b"13 comment=x\n")].concat();
    let agreeing = ended(&[comment, pax(b"10 path=b\n"), long(b'L', b"b\0"), file]);
    assert_eq!(paths(&scan(&agreeing).0), ["b"]);
}

#[test]
fn hostile_names_and_links_are_faults_and_the_scan_goes_on() {
    let names: [&[u8]; 5] = [b"../a", b"a/../../b", b"/etc/passwd", b"\xff", b"a/.."];
    for name in names {
        let bytes = ended(&[[raw(name, b'0', 1, b""), padded(b"x")].concat(), file_entry("after", b"y")]);
        let (entries, faults) = scan(&bytes);
        assert!(matches!(&faults[..], [TarFault::HostilePath { offset: 0, .. }]), "{name:?}: {faults:?}");
        assert_eq!(paths(&entries), ["after"]);
    }
    for (flag, target) in [(b'2', &b"../../x"[..]), (b'2', b"/x"), (b'1', b"../x"), (b'1', b"/x")] {
        let bytes = ended(&[raw(b"d/l", flag, 0, target), file_entry("after", b"y")]);
        let (entries, faults) = scan(&bytes);
        assert!(matches!(&faults[..], [TarFault::LinkOutside { path, .. }] if path == "d/l"), "{faults:?}");
        assert_eq!(paths(&entries), ["after"]);
    }
    let zero = ended(&[pax(b"12 path=b\0c\n"), file_entry("a", b"x")]);
    assert!(matches!(&scan(&zero).1[..], [TarFault::HostilePath { .. }]));
    // Escapes do not reach a terminal.
    let escape = ended(&[raw(b"../\x1b[2J", b'0', 0, b"")]);
    assert!(!scan(&escape).1[0].to_string().contains('\x1b'));
}

#[test]
fn links_and_folders_have_no_data_whatever_their_size_says() {
    let bytes = ended(&[
        raw(b"d/", b'5', 4096, b""),
        raw(b"h", b'1', 4096, b"d/f"),
        raw(b"d/s", b'2', 4096, b"f"),
        raw(b"v7dir/", 0, 0, b""),
        file_entry("f", b"x"),
    ]);
    let (entries, faults) = scan(&bytes);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(paths(&entries), ["d", "h", "d/s", "v7dir", "f"]);
    assert_eq!(entries[3].kind, EntryKind::Directory);
    let target = "d/f".to_owned();
    assert_eq!(entries[1].kind, EntryKind::Link { target: target.clone() });
    assert_eq!(entries[2].kind, EntryKind::Link { target });
}

#[test]
fn sizes_beyond_the_file_never_overflow() {
    for size in [2_000, 1 << 33, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX - 511, u64::MAX] {
        let (entries, faults) = scan(&ended(&[raw(b"a", b'0', size, b"")]));
        assert!(
            matches!(&faults[..], [TarFault::Truncated { offset: 0, path: Some(path), needed, .. }]
                if entries.is_empty() && path == "a" && *needed >= size),
            "{size}: {faults:?}"
        );
        let record = format!("size={size}\n");
        let length = record.len() + 3;
        let in_pax = ended(&[pax(format!("{length} {record}").as_bytes()), raw(b"a", b'0', 0, b"")]);
        assert!(matches!(&scan(&in_pax).1[..], [TarFault::Truncated { .. }]), "{size}");
        let extension = ended(&[raw(b"a", b'x', size, b"")]);
        assert!(!scan(&extension).1.is_empty());
    }
    let mut negative = raw(b"a", b'0', 0, b"");
    negative[124..136].copy_from_slice(&[0xff; 12]);
    let mut header = TarHeader::from_byte_slice(&negative).clone();
    header.set_cksum();
    let (_, faults) = scan(&ended(&[header.as_bytes().to_vec()]));
    assert!(matches!(&faults[..], [TarFault::BadSize { offset: 0 }]));
}

/// An archive with something of everything.
fn varied() -> Vec<u8> {
    let name = "n".repeat(700);
    ended(&[
        file_entry("a", &[7; 1300]),
        [raw(b"l", b'L', 700, b""), padded(name.as_bytes())].concat(),
        file_entry("short", b"x"),
        pax(b"18 path=real/name\n10 size=3\n"),
        file_entry("b", b"abc"),
        raw(b"d/", b'5', 0, b""),
        raw(b"d/s", b'2', 0, b"../a"),
    ])
}

#[test]
fn truncation_anywhere_is_a_fault_and_keeps_what_was_whole() {
    let whole = varied();
    let (all, faults) = scan(&whole);
    assert!(faults.is_empty() && all.len() == 5);
    let cuts = (0..whole.len()).step_by(512).chain((0..whole.len()).step_by(97));
    for cut in cuts {
        let (entries, faults) = scan(&whole[..cut]);
        assert_eq!(faults.len(), 1, "cut at {cut}: {faults:?}");
        let ends_between = matches!(faults[0], TarFault::MissingEnd { .. });
        assert!(ends_between || matches!(faults[0], TarFault::Truncated { .. }));
        let kept: Vec<_> = all.iter().filter(|e| e.data_offset + e.size <= cut as u64).collect();
        assert_eq!(entries.iter().collect::<Vec<_>>(), kept, "cut at {cut}");
    }
}

#[test]
fn a_file_that_shrank_is_cut_off_not_a_crash() {
    let whole = varied();
    let file = stored(&whole[..1000]);
    let items: Vec<_> = Scan::new(&file, whole.len() as u64).collect();
    assert!(matches!(items.last(), Some(Err(TarFault::Truncated { .. }))), "{items:?}");
}

#[test]
fn the_end_is_two_blocks_of_zeros_and_nothing_after() {
    let mut bytes = ended(&[file_entry("a", b"x")]);
    bytes.extend(vec![0; 200_000]);
    assert!(scan(&bytes).1.is_empty());
    bytes.extend(file_entry("b", b"x"));
    let (entries, faults) = scan(&bytes);
    assert_eq!(paths(&entries), ["a"]);
    // The entry's first block begins at a multiple of 512 after the zeros, which end inside a block.
    assert!(
        matches!(faults[..], [TarFault::TrailingData { offset }] if offset == (1024 + 1024 + 200_000) / 512 * 512),
        "{faults:?}"
    );
    let lone = [file_entry("a", b"x"), vec![0; 512], file_entry("b", b"x")].concat();
    assert!(matches!(scan(&lone).1[..], [TarFault::BadChecksum { offset: 1024 }]));
    assert!(matches!(scan(b"").1[..], [TarFault::MissingEnd { offset: 0 }]));
}

#[test]
fn a_hundred_thousand_entries_are_read_in_few_calls() {
    let one = file_entry("a", b"x");
    let bytes = ended(&[one.repeat(100_000)]);
    let file = stored(&bytes);
    let mut windows = std::collections::BTreeSet::new();
    let mut scan = Scan::new(&file, bytes.len() as u64);
    let mut count = 0;
    while let Some(item) = scan.next() {
        item.unwrap();
        windows.insert(scan.window_start());
        count += 1;
    }
    assert_eq!(count, 100_000);
    assert!(windows.len() < 2000, "{} reads", windows.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0_usize..6000, any::<u8>()), 1..8)) {
        let mut bytes = varied();
        for (position, value) in flips {
            let position = position % bytes.len();
            bytes[position] ^= value;
        }
        let length = bytes.len() as u64;
        for entry in scan(&bytes).0 {
            prop_assert!(entry.data_offset + entry.size <= length);
        }
    }

    #[test]
    fn random_fields_under_a_right_checksum_never_panic(
        fields in prop::collection::vec((0_usize..512, any::<u8>()), 0..40),
        tail in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut block = raw(b"a", b'0', 3, b"b");
        for (position, value) in fields {
            block[position] = value;
        }
        let mut header = TarHeader::from_byte_slice(&block).clone();
        header.set_cksum();
        let bytes = [header.as_bytes().to_vec(), tail].concat();
        let length = bytes.len() as u64;
        for entry in scan(&bytes).0 {
            prop_assert!(entry.data_offset + entry.size <= length);
        }
    }
}
