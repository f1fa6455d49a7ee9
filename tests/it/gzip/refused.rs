//! What both sides refuse: streams that are none, and parts that don't fit.

use barge::delta::gzip::{JoinError, Part, SplitError};

use super::made::{self, Bits, Block, HEADER, Piece, Table, of_blocks};
use super::{Parts, apart, joined, there_and_back};

/// A small stream with a match in each block, and its parts.
fn small() -> (Vec<u8>, Parts) {
    let pieces =
        vec![Piece::Literals(b"abcab".to_vec()), Piece::Match { length: 4, distance: 3, odd: false }];
    of_blocks(&[Block::Coded(Table::Fixed, pieces.clone()), Block::Coded(Table::Flat, pieces)])
}

/// A stream of one block, whose bits come from `f`, and a right end.
fn one_block(f: impl FnOnce(&mut Bits)) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.bytes.extend(HEADER);
    f(&mut bits);
    bits.pad(0);
    bits.bytes.extend([0; 8]);
    bits.bytes
}

#[track_caller]
fn refused(gzip: &[u8], reason: &str) {
    let error = apart(gzip).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[track_caller]
fn unfit(parts: &Parts, reason: &str) {
    let error = joined(parts).unwrap_err();
    assert!(matches!(error, JoinError::Unfit(_)), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

/// Parts of one member, whose blocks' part is header, `middle`.
fn with_blocks(plain: &[u8], tokens: &[u8], middle: &[u8]) -> Parts {
    Parts { plain: plain.to_vec(), tokens: tokens.to_vec(), blocks: [&HEADER[..], middle].concat() }
}

#[test]
fn g_2_what_is_no_whole_stream_is_refused() {
    let (gzip, _) = small();
    assert!(matches!(apart(b"plain text that is long enough"), Err(SplitError::NotGzip)));
    for other in
        [&b""[..], b"\x1f", b"\x1f\x8b\x08", b"\x1f\x8b\x07\0\0\0\0\0\0\0", b"\x1f\x8b\x08\x20\0\0\0\0\0\0"]
    {
        assert!(matches!(apart(other), Err(SplitError::NotGzip)), "{other:?}");
    }
    for length in 4..gzip.len() {
        let error = apart(&gzip[..length]).unwrap_err();
        assert!(matches!(error, SplitError::CutOff), "{length}: {error}");
    }
    // A second member that is cut off.
    refused(&[&gzip[..], &gzip[..gzip.len() - 1]].concat(), "cut off");
    refused(&one_block(|bits| bits.put(7, 3)), "unknown type");
    refused(
        &one_block(|bits| {
            bits.put(1, 3);
            bits.pad(0);
            bits.bytes.extend([1, 0, 0, 0, 9]);
        }),
        "complement",
    );
    // Fixed codes of symbols without meaning: 286 and 287, and distances 30 and 31 after a literal and a length.
    for symbol in [0b1100_0110, 0b1100_0111] {
        refused(&one_block(|bits| (bits.put(3, 3), bits.code((symbol, 8))).0), "not defined");
    }
    for distance in [30, 31] {
        let block = |bits: &mut Bits| {
            bits.put(3, 3);
            bits.code((0x30, 8));
            bits.code((1, 7));
            bits.code((distance, 5));
        };
        refused(&one_block(block), "not defined");
    }
    // Back beyond the start, of the stream and of a member.
    let beyond = one_block(|bits| {
        bits.put(3, 3);
        bits.code((0x30, 8));
        bits.code((1, 7));
        bits.code((1, 5));
        bits.code((0, 7));
    });
    refused(&beyond, "before the start");
    refused(&[&gzip[..], &beyond].concat(), "before the start");
}

#[test]
fn g_13_what_starts_no_member_is_trailing() {
    let (gzip, parts) = small();
    let zeros = vec![0; 200_000];
    for trailing in [&b"\0"[..], b"\x1f", b"\x1f\x8b\x08", b"\x1f\x8b\x09\0\0", b"\x1f\x8b\x08\x80", &zeros] {
        let found = there_and_back(&[&gzip[..], trailing].concat());
        assert!(found.blocks == [&parts.blocks[..], &[2], trailing].concat());
    }
    there_and_back(&[&gzip[..], &gzip, &gzip].concat());
    unfit(&Parts { blocks: [&parts.blocks[..], &[0]].concat(), ..parts }, "neither a member nor");
}

#[test]
fn g_15_bad_codes_are_refused_on_both_sides() {
    let (flat, distances) = made::lengths(Table::Flat);
    let change = |symbol: usize, length: u32| {
        let mut lengths = flat.clone();
        lengths[symbol] = length;
        lengths
    };
    let mut no_end = change(256, 0);
    no_end[255] = 8;
    let cases = [
        (change(0, 7), distances.clone(), "over-subscribed"),
        (change(0, 9), distances.clone(), "incomplete"),
        (flat.clone(), [&distances[..29], &[3]].concat(), "over-subscribed"),
        (flat.clone(), vec![2], "incomplete"),
        (flat.clone(), vec![1, 2], "incomplete"),
        (no_end, distances.clone(), "end of the block"),
        ([&flat[..], &[0]].concat(), distances.clone(), "too many symbols"),
        (flat.clone(), [&distances[..], &[0]].concat(), "too many symbols"),
    ];
    for (literals, distances, reason) in cases {
        let end = made::codes(&literals)[256].unwrap_or((0, 1));
        let gzip = one_block(|bits| {
            bits.put(5, 3);
            made::dynamic_header(bits, &literals, &distances);
            bits.code(end);
        });
        refused(&gzip, reason);
        let mut header = Bits::default();
        made::dynamic_header(&mut header, &literals, &distances);
        unfit(&with_blocks(&[], &[], &[&[5, 0, 0][..], &header.bytes, &[0]].concat()), reason);
    }
    // Bit by bit: codes for code lengths, and what they repeat. Symbols 18 and 16 have one bit each, or 18 alone.
    let small = |lengths: &[(usize, u32)], codes: &[(u32, u32)]| {
        let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let mut bits = Bits::default();
        bits.put(0, 10);
        bits.put(15, 4);
        for symbol in order {
            bits.put(lengths.iter().find(|(of, _)| *of == symbol).map_or(0, |(_, length)| *length), 3);
        }
        codes.iter().for_each(|&(value, count)| bits.put(value, count));
        bits
    };
    let cases = [
        (small(&[(16, 1), (18, 1)], &[(0, 1)]), "before the first"),
        (small(&[(16, 1), (18, 1)], &[(1, 1), (127, 7), (1, 1), (127, 7)]), "too many lengths"),
        (small(&[(16, 1), (18, 1), (0, 1)], &[]), "over-subscribed"),
        (small(&[(16, 2), (18, 2)], &[]), "incomplete"),
        (small(&[(18, 1)], &[(1, 1), (127, 7)]), "not defined"),
        (small(&[], &[(0, 30)]), "not defined"),
    ];
    for (header, reason) in cases {
        let mut gzip = one_block(|bits| {
            bits.put(5, 3);
            header.bytes.iter().for_each(|&byte| bits.put(u32::from(byte), 8));
        });
        gzip.extend([0; 20]);
        refused(&gzip, reason);
        unfit(&with_blocks(&[], &[], &[&[5, 0, 0][..], &header.bytes, &[0; 20]].concat()), reason);
    }
}

#[test]
fn g_17_every_part_is_used_up_and_none_is_short() {
    let (_, parts) = small();
    for of in [Part::Plain, Part::Tokens, Part::Blocks] {
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut parts = parts.clone();
            change(match of {
                Part::Plain => &mut parts.plain,
                Part::Tokens => &mut parts.tokens,
                Part::Blocks => &mut parts.blocks,
            });
            joined(&parts)
        };
        let length = [parts.plain.len(), parts.tokens.len(), parts.blocks.len()][of as usize];
        for length in 0..length {
            let error = changed(&|part| part.truncate(length)).unwrap_err();
            assert!(matches!(error, JoinError::Short(part) if part == of), "{of} cut to {length}: {error}");
        }
        if of != Part::Blocks {
            let error = changed(&|part| part.push(0)).unwrap_err();
            assert!(matches!(error, JoinError::Long(part) if part == of), "{error}");
        }
    }
}

#[test]
fn g_18_parts_that_fit_no_stream_are_refused() {
    let odd = |tokens: &[u8]| with_blocks(b"a\0\0\0\0", tokens, &[3, 1, 0, 0]);
    assert!(joined(&odd(&[1, 1, 0, 0])).is_ok());
    unfit(&odd(&[1, 1, 0, 0x80]), "no code");
    unfit(&Parts { blocks: b"\x1f\x8b\x08\xff\0\0\0\0\0\0".to_vec(), ..Parts::default() }, "start as one");
    let fixed = |middle: &[u8]| with_blocks(b"", b"", middle);
    for head in [4 | 2, 8 | 2, 8 | 4, 16, 32, 64, 128] {
        unfit(&fixed(&[head, 0, 0, 0]), "unknown type");
    }
    assert!(joined(&fixed(&[3, 0, 0, 0])).is_ok());
    // Ten bits are used, six are free.
    assert!(joined(&fixed(&[3, 0, 0, 63 << 1])).is_ok());
    unfit(&fixed(&[3, 0, 0, 64 << 1]), "padding");
    unfit(&fixed(&[9, 0, 0, 0, 0]), "padding");
    unfit(&fixed(&[9, 32, 0, 0, 0]), "padding");
    assert!(joined(&fixed(&[9, 31, 0, 0, 0])).is_ok());
    // Numbers.
    unfit(&fixed(&[3, 0x80, 0, 0, 0]), "number");
    unfit(&fixed(&[3, 0, 0x80, 0x80, 0, 0]), "number");
    unfit(&fixed(&[&[3, 0][..], &[255; 9], &[2, 0]].concat()), "number");
    unfit(&fixed(&[&[3, 0][..], &[255; 10], &[1, 0]].concat()), "number");
    unfit(&with_blocks(b"a", &[255, 0x80, 0, 0, 0, 0], &[3, 1, 0, 0]), "number");
    // Symbols without a code: a literal, a length, the last run's literal.
    let mut header = Bits::default();
    let (literals, distances) = made::lengths(Table::Single);
    made::dynamic_header(&mut header, &literals, &distances);
    let single = |plain: &[u8], tokens: &[u8], run: u8| {
        let matches = (tokens.len() / 4) as u8;
        with_blocks(plain, tokens, &[&[5, matches, run][..], &header.bytes, &[0]].concat())
    };
    assert!(joined(&single(&[0, 0], &[], 2)).is_ok());
    unfit(&single(&[0, 1], &[], 2), "no code");
    unfit(&single(&[0; 700], &[1, 0, 0, 0], 0), "no code");
    unfit(&single(&[1; 700], &[1, 0, 0, 0], 0), "no code");
    let mut trailed = single(&[0, 0], &[], 2);
    // 1,103 bits leave the highest one of the last byte.
    let last = 10 + 3 + header.bytes.len() - 1;
    trailed.blocks[last] |= 0x80;
    unfit(&trailed, "behind the header");
}

#[test]
fn g_19_large_numbers_make_no_room() {
    let most = [&[255; 9][..], &[1]].concat();
    let short = |parts: &Parts, of: Part| {
        let error = joined(parts).unwrap_err();
        assert!(matches!(error, JoinError::Short(part) if part == of), "{error}");
    };
    short(&with_blocks(b"a", b"", &[&[3][..], &most, &[0, 0]].concat()), Part::Tokens);
    short(&with_blocks(b"a", b"", &[&[3, 0][..], &most, &[0]].concat()), Part::Plain);
    let run = [&[255][..], &most[..], &[0, 0, 0]].concat();
    unfit(&with_blocks(b"a", &run, &[3, 1, 0, 0]), "longer than a stream");
    let run = [&[255, 254][..], &[255; 7], &[127, 0, 0, 0]].concat();
    short(&with_blocks(b"a", &run, &[3, 1, 0, 0]), Part::Plain);
}

#[test]
fn errors_of_readers_and_writers_stay_what_they_are() {
    use std::io::{self, ErrorKind, Read, Write};

    use barge::delta::gzip::{join, split};

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::PermissionDenied.into())
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (gzip, parts) = small();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let mut ignore = |_| ();
    let read = split(&mut Broken, &mut io::sink(), &mut a, &mut b, &mut ignore);
    assert!(matches!(read, Err(SplitError::Read(error)) if error.kind() == ErrorKind::PermissionDenied));
    for broken in 0..3 {
        let mut writers: [Box<dyn Write>; 3] =
            [Box::new(io::sink()), Box::new(io::sink()), Box::new(io::sink())];
        writers[broken] = Box::new(Broken);
        let [plain, tokens, blocks] = &mut writers;
        let written = split(&mut &gzip[..], plain, tokens, blocks, &mut ignore);
        assert!(matches!(written, Err(SplitError::Write(error)) if error.kind() == ErrorKind::StorageFull));
    }
    for (broken, of) in [Part::Plain, Part::Tokens, Part::Blocks].into_iter().enumerate() {
        let mut readers: [Box<dyn Read>; 3] =
            [Box::new(&parts.plain[..]), Box::new(&parts.tokens[..]), Box::new(&parts.blocks[..])];
        readers[broken] = Box::new(Broken);
        let [plain, tokens, blocks] = &mut readers;
        let read = join(plain, tokens, blocks, &mut io::sink());
        assert!(matches!(read, Err(JoinError::Read(part, _)) if part == of));
    }
    let written = join(&mut &parts.plain[..], &mut &parts.tokens[..], &mut &parts.blocks[..], &mut Broken);
    assert!(matches!(written, Err(JoinError::Write(error)) if error.kind() == ErrorKind::StorageFull));
}
