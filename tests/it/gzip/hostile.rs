//! Streams and parts that somebody changed: no panic, nothing unbounded, and never parts that join to other bytes.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use super::made::{Block, Piece, Table, of_blocks};
use super::{Parts, apart, joined};

/// How long a test goes on at most. What it does until then is the same each time.
const TIME: Duration = Duration::from_secs(4);
/// How many changes a test tries at most.
const ROUNDS: u64 = 60_000;

/// Small streams that are not like each other.
fn seeds() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(7);
    let text: Vec<u8> = (0..3000).map(|_| b"abcde \n"[random.usize(..7)]).collect();
    let zlib = |bytes: &[u8], level| {
        let builder = GzBuilder::new().filename("name").extra(vec![1, 2, 3]).comment("said");
        let mut out: GzEncoder<Vec<u8>> = builder.write(Vec::new(), Compression::new(level));
        out.write_all(&bytes[..bytes.len() / 2]).unwrap();
        out.flush().unwrap();
        out.write_all(&bytes[bytes.len() / 2..]).unwrap();
        out.finish().unwrap()
    };
    let far = vec![
        Piece::Literals(text[..400].to_vec()),
        Piece::Match { length: 258, distance: 300, odd: true },
        Piece::Match { length: 258, distance: 1, odd: false },
        Piece::Match { length: 40, distance: 513, odd: false },
    ];
    let tables = [Table::Fixed, Table::Flat, Table::Skewed, Table::Single];
    let made = tables.map(|table| Block::Coded(table, far.clone())).to_vec();
    let stored = Block::Stored { padding: 3, bytes: text[..50].to_vec() };
    vec![
        zlib(&text, 9),
        zlib(&text, 1),
        zlib(&text[..300], 0),
        [zlib(&text[..900], 6), zlib(b"second", 6), b"trailing".to_vec()].concat(),
        of_blocks(&[&made[..], &[stored]].concat()).0,
        of_blocks(&made[..1]).0,
    ]
}

/// Changes bytes in one of a few ways.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        if bytes.is_empty() {
            bytes.push(random.u8(..));
            continue;
        }
        let at = random.usize(..bytes.len());
        let to = random.usize(at..bytes.len().min(at + 20));
        match random.u8(..8) {
            0..3 => bytes[at] ^= 1 << random.u32(..8),
            3 => bytes[at] = [0, 1, 127, 128, 254, 255][random.usize(..6)],
            4 => bytes[at] = random.u8(..),
            5 => drop(bytes.drain(at..to)),
            6 => bytes.extend_from_within(at..to),
            _ => bytes.insert(at, random.u8(..)),
        }
    }
}

#[test]
fn changed_streams_are_refused_or_come_back() {
    let (seeds, begun) = (seeds(), Instant::now());
    let (mut random, mut accepted, mut refused) = (fastrand::Rng::with_seed(1), 0, 0);
    for _ in 0..ROUNDS {
        let mut gzip = seeds[random.usize(..seeds.len())].clone();
        mutate(&mut gzip, &mut random);
        match apart(&gzip) {
            Ok(parts) => {
                assert!(joined(&parts).unwrap() == gzip, "joined to something else: {gzip:?}");
                accepted += 1;
            }
            Err(_) => refused += 1,
        }
        if begun.elapsed() > TIME {
            break;
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}

#[test]
fn changed_parts_are_refused_or_give_a_bounded_stream() {
    let (seeds, begun) = (seeds(), Instant::now());
    let seeds: Vec<Parts> = seeds.iter().map(|gzip| apart(gzip).unwrap()).collect();
    let (mut random, mut accepted, mut refused) = (fastrand::Rng::with_seed(2), 0, 0);
    for _ in 0..ROUNDS {
        let mut parts = seeds[random.usize(..seeds.len())].clone();
        let which = random.u8(1..8);
        for (bit, part) in [&mut parts.plain, &mut parts.tokens, &mut parts.blocks].into_iter().enumerate() {
            if which & 1 << bit != 0 {
                mutate(part, &mut random);
            }
        }
        match joined(&parts) {
            Ok(gzip) => {
                let read = parts.plain.len() + parts.tokens.len() + parts.blocks.len();
                assert!(gzip.len() <= 9 * read, "{} of {read}", gzip.len());
                // What is a stream has its own parts, which join to it.
                if let Ok(parts) = apart(&gzip) {
                    assert!(joined(&parts).unwrap() == gzip);
                }
                accepted += 1;
            }
            Err(_) => refused += 1,
        }
        if begun.elapsed() > TIME {
            break;
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}
