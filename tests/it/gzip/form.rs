//! The form of the parts: what is taken apart, compared with parts made from the text.

use barge::delta::layer::Mark;
use proptest::prelude::*;

use super::made::{Block, HEADER, Member, Piece, Table, of_blocks, stream, varint};
use super::{apart, apart_by, joined, joined_by, there_and_back};

fn a_match(length: usize, distance: usize) -> Piece {
    Piece::Match { length, distance, odd: false }
}

fn text(bytes: &[u8]) -> Piece {
    Piece::Literals(bytes.to_vec())
}

fn piece() -> impl Strategy<Value = Piece> {
    let any_match = (3_usize..=258, 1_usize..=32768, any::<bool>())
        .prop_map(|(length, distance, odd)| Piece::Match { length, distance, odd });
    let longest =
        (1_usize..600, any::<bool>()).prop_map(|(distance, odd)| Piece::Match { length: 258, distance, odd });
    prop_oneof![
        2 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Piece::Literals),
        2 => proptest::collection::vec(b'a'..b'j', 0..40).prop_map(Piece::Literals),
        1 => (any::<u8>(), 200_usize..700).prop_map(|(byte, count)| Piece::Literals(vec![byte; count])),
        3 => any_match,
        3 => (3_usize..20, 1_usize..20).prop_map(|(length, distance)| a_match(length, distance)),
        1 => longest,
    ]
}

fn block() -> impl Strategy<Value = Block> {
    let table = prop_oneof![Just(Table::Fixed), Just(Table::Flat), Just(Table::Skewed), Just(Table::Single)];
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        1 => (any::<u8>(), bytes, 1_usize..200)
            .prop_map(|(padding, bytes, times)| Block::Stored { padding, bytes: bytes.repeat(times) }),
        4 => (table, proptest::collection::vec(piece(), 0..80))
            .prop_map(|(table, pieces)| Block::Coded(table, pieces)),
    ]
}

/// A header with any of its fields.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let name = || proptest::collection::vec(1_u8..=255, 0..30);
    let extra = proptest::collection::vec(any::<u8>(), 0..400);
    (0_u8..32, any::<[u8; 6]>(), extra, name(), name(), any::<[u8; 2]>()).prop_map(
        |(flags, fixed, extra, name, comment, check)| {
            let mut header = [&[0x1f, 0x8b, 8, flags], &fixed[..]].concat();
            if flags & 4 != 0 {
                header.extend((extra.len() as u16).to_le_bytes());
                header.extend(extra);
            }
            for (flag, text) in [(8, name), (16, comment)] {
                if flags & flag != 0 {
                    header.extend(text);
                    header.push(0);
                }
            }
            if flags & 2 != 0 {
                header.extend(check);
            }
            header
        },
    )
}

fn member() -> impl Strategy<Value = Member> {
    let wrong = proptest::option::weighted(0.2, any::<[u8; 8]>());
    (header(), proptest::collection::vec(block(), 1..6), any::<u8>(), wrong)
        .prop_map(|(header, blocks, padding, wrong)| Member { header, blocks, padding, wrong })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_has_the_parts_of_the_text_and_comes_back(
        members in proptest::collection::vec(member(), 1..4),
        trailing in proptest::collection::vec(any::<u8>(), 0..20),
        drop in prop_oneof![1_usize..40, Just(usize::MAX)],
    ) {
        let (gzip, parts) = stream(&members, &trailing);
        let (found, _) = apart_by(&gzip, drop).unwrap();
        prop_assert!(found == parts, "other parts");
        prop_assert!(joined_by(&parts, drop).unwrap() == gzip, "joined to something else");
    }
}

#[test]
fn g_3_g_4_g_7_g_9_g_13_the_parts_of_a_small_stream_are_these() {
    let first = Block::Coded(Table::Fixed, vec![text(b"banana"), a_match(5, 2), text(b"!?"), a_match(3, 1)]);
    let empty = Block::Coded(Table::Fixed, vec![]);
    let second = Block::Coded(Table::Fixed, vec![text(b"x"), a_match(10, 1), text(b"yz")]);
    let member = |blocks: &[Block]| Member {
        header: HEADER.to_vec(),
        blocks: blocks.to_vec(),
        padding: 0,
        wrong: None,
    };
    let (gzip, _) = stream(&[member(&[first, empty]), member(&[second])], b"rest");
    let parts = there_and_back(&gzip);
    assert_eq!(parts.plain, b"bananananan!????xxxxxxxxxxxyz");
    assert_eq!(parts.tokens, [6, 2, 1, 0, 2, 0, 0, 0, 1, 7, 0, 0]);
    let blocks = [&HEADER[..], &[2, 2, 0], &[3, 0, 0], &[0], &[1], &HEADER, &[3, 1, 2], &[0], b"\x02rest"];
    assert_eq!(parts.blocks, blocks.concat());
}

#[test]
fn g_5_g_14_long_runs_are_escaped_and_numbers_are_short() {
    for run in [0, 1, 254, 255, 256, 255 + 127, 255 + 128, 70_000, 255 + (1 << 21), 3_000_000] {
        let literals: Vec<u8> = (0..run).map(|index| ((index * index) >> 3) as u8).collect();
        let pieces = vec![text(b"ab"), a_match(3, 2), Piece::Literals(literals), a_match(4, 1), text(b"z")];
        let (gzip, made) = of_blocks(&[Block::Coded(Table::Flat, pieces)]);
        let parts = there_and_back(&gzip);
        let coded = if run < 255 { vec![run as u8] } else { [vec![255], varint(run - 255)].concat() };
        assert_eq!(parts.tokens, [&[2, 0, 1, 0], &coded[..], &[1, 0, 0]].concat(), "{run}");
        assert!(parts == made, "{run}");
    }
}

#[test]
fn g_6_length_258_as_symbol_284_is_marked() {
    let odd = Piece::Match { length: 258, distance: 1, odd: true };
    for table in [Table::Fixed, Table::Flat] {
        let pieces = vec![text(b"a"), odd.clone(), a_match(258, 1), a_match(257, 1)];
        let (gzip, _) = of_blocks(&[Block::Coded(table, pieces)]);
        assert_eq!(there_and_back(&gzip).tokens, [1, 255, 0, 0x80, 0, 255, 0, 0, 0, 254, 0, 0]);
    }
}

#[test]
fn g_8_headers_travel_byte_for_byte() {
    let mut header = vec![0x1f, 0x8b, 8, 31, 1, 2, 3, 4, 9, 255, 3, 0, 0, 1, 2];
    header.extend(b"a name\0a comment\0\xaa\xbb");
    let blocks = vec![Block::Stored { padding: 0, bytes: vec![7] }];
    let (gzip, _) = stream(&[Member { header: header.clone(), blocks, padding: 0, wrong: None }], &[]);
    assert_eq!(there_and_back(&gzip).blocks, [&header[..], &[1, 1, 0, 0]].concat());
}

#[test]
fn g_10_headers_of_dynamic_codes_travel_bit_for_bit() {
    let pieces = vec![text(&[0; 5]), a_match(3, 1)];
    // One distance of one bit, and no length to go with it.
    let (gzip, _) = of_blocks(&[Block::Coded(Table::Single, pieces)]);
    let parts = there_and_back(&gzip);
    // 14 bits, 19 times three, and 258 times four are 1,103: 138 bytes.
    let header = &parts.blocks[10 + 3..parts.blocks.len() - 1];
    assert_eq!(parts.blocks[10..13], [5, 0, 5]);
    assert_eq!(header.len(), 138);
    // HLIT 0, HDIST 0, HCLEN 15; the three zero lengths of the symbols 16 to 18, then fours.
    assert_eq!(header[..4], [0, 0b0011_1100, 0b0000_0000, 0b1001_0010], "{header:02x?}");
}

#[test]
fn g_11_stored_blocks_keep_their_padding() {
    let stored = |padding, bytes: &[u8]| Block::Stored { padding, bytes: bytes.to_vec() };
    let (gzip, _) = of_blocks(&[stored(0b1_0101, b"ab"), stored(0, b"")]);
    let parts = there_and_back(&gzip);
    assert_eq!(parts.blocks[10..], [8, 0b1_0101, 2, 0, 1, 0, 0, 0]);
    assert_eq!((parts.plain.as_slice(), parts.tokens.len()), (&b"ab"[..], 0));
}

#[test]
fn g_12_g_16_checks_travel_only_where_they_are_wrong() {
    let blocks = vec![Block::Coded(Table::Fixed, vec![text(b"abc")])];
    for wrong in [None, Some(*b"whatever")] {
        let member = Member { header: HEADER.to_vec(), blocks: blocks.clone(), padding: 0b11_1111, wrong };
        let (gzip, _) = stream(&[member], &[]);
        let parts = there_and_back(&gzip);
        // Three bits, three literals of eight and the end of seven leave six of the fifth byte.
        let end = if wrong.is_some() { &b"\x7fwhatever"[..] } else { &[0x7e] };
        assert_eq!(parts.blocks[13..], *end);
    }
}

#[test]
fn marks_are_at_records_and_tell_the_plain_place() {
    // Records of many kinds in few fixed blocks, so that places can be counted here.
    let pieces = |seed: u64, count: usize| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pieces = vec![text(b"start")];
        for _ in 0..count {
            let run = if random.u8(..) == 0 { random.usize(..70_000) } else { random.usize(..20) };
            pieces.push(Piece::Literals((0..run).map(|_| random.u8(..)).collect()));
            pieces.push(a_match(random.usize(3..=258), random.usize(1..=5)));
        }
        pieces
    };
    let fixed = |seed, count| Block::Coded(Table::Fixed, pieces(seed, count));
    let noise = Block::Stored { padding: 0, bytes: vec![9; 65535] };
    let all = [fixed(1, 9000), noise.clone(), fixed(2, 300), noise.clone(), noise, fixed(3, 4000)];
    let (gzip, parts) = of_blocks(&all);
    let (found, marks) = apart_by(&gzip, 5000).unwrap();
    assert!(found == parts);

    // Where a block or record starts.
    let mut places = std::collections::BTreeSet::new();
    let (mut plain, mut tokens, mut blocks) = (0_u64, 0_usize, 10_usize);
    let number = |bytes: &[u8], at: &mut usize| {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            value |= u64::from(bytes[*at] & 127) << shift;
            *at += 1;
            if bytes[*at - 1] < 128 {
                break;
            }
        }
        value
    };
    while blocks < parts.blocks.len() - 1 {
        let start = blocks;
        let head = parts.blocks[blocks];
        places.insert((plain, tokens as u64, start as u64));
        blocks += 1;
        if head < 2 {
            plain += u64::from(u16::from_le_bytes([parts.blocks[blocks], parts.blocks[blocks + 1]]));
            blocks += 2;
            continue;
        }
        let (matches, run) = (number(&parts.blocks, &mut blocks), number(&parts.blocks, &mut blocks));
        for _ in 0..matches {
            let mut run = u64::from(parts.tokens[tokens]);
            tokens += 1;
            if run == 255 {
                run += number(&parts.tokens, &mut tokens);
            }
            plain += run + u64::from(parts.tokens[tokens]) + 3;
            tokens += 3;
            places.insert((plain, tokens as u64, start as u64));
        }
        plain += run;
    }
    assert_eq!((plain as usize, tokens), (parts.plain.len(), parts.tokens.len()));
    for Mark { plain, tokens, blocks } in &marks {
        assert!(places.contains(&(*plain, *tokens, *blocks)), "{plain} {tokens} {blocks}");
    }
    let steps: Vec<u64> = marks.windows(2).map(|pair| pair[1].plain - pair[0].plain).collect();
    assert!(steps.iter().all(|&step| step > 0 && step < 3 * 65536), "{steps:?}");
    assert!(marks.len() > parts.plain.len() / 65536 * 8 / 10, "{} marks", marks.len());
}

#[test]
fn nothing_at_all_is_a_stream_too_if_a_member_says_so() {
    let (gzip, _) = of_blocks(&[Block::Coded(Table::Fixed, vec![])]);
    let parts = there_and_back(&gzip);
    assert!(parts.plain.is_empty() && parts.tokens.is_empty());
    assert!(apart(&[]).is_err() && joined(&super::Parts::default()).is_err());
}
