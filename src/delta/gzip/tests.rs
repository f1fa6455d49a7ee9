//! Tests of taking apart and joining, on streams made here bit by bit and by flate2.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use proptest::prelude::*;

use super::*;
use crate::delta::layer::Mark;

/// The parts of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
    plain: Vec<u8>,
    tokens: Vec<u8>,
    blocks: Vec<u8>,
    marks: Vec<Mark>,
}

fn apart(gzip: &[u8]) -> Result<Parts, SplitError> {
    let mut parts = Parts::default();
    let mut reader = gzip;
    split(&mut reader, &mut parts.plain, &mut parts.tokens, &mut parts.blocks, &mut |mark| {
        parts.marks.push(mark);
    })?;
    Ok(parts)
}

fn joined(parts: &Parts) -> Result<Vec<u8>, JoinError> {
    let mut out = Vec::new();
    join(&mut parts.plain.as_slice(), &mut parts.tokens.as_slice(), &mut parts.blocks.as_slice(), &mut out)?;
    Ok(out)
}

/// Checks that a stream is joined to what it was, and returns its parts.
#[track_caller]
fn there_and_back(gzip: &[u8]) -> Parts {
    let parts = apart(gzip).unwrap();
    assert!(joined(&parts).unwrap() == gzip, "joined to something else");
    parts
}

fn zlib(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut out = GzBuilder::new().write(Vec::new(), Compression::new(level));
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Bytes that compress, neither too well nor too badly.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        proptest::collection::vec(0_u8..4, 0..5000),
        (any::<u8>(), 0_usize..2000).prop_map(|(byte, count)| vec![byte; count]),
        "[a-e ]{0,300}".prop_map(String::into_bytes),
    ];
    (proptest::collection::vec(piece, 0..12), 1_usize..20)
        .prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_of_all_levels_come_back(bytes in content(), level in 0_u32..10) {
        let gzip = zlib(&bytes, level);
        let parts = there_and_back(&gzip);
        prop_assert!(parts.plain == bytes);
    }
}
