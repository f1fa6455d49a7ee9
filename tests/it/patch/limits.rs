//! Every limit, at the last number that is fine and the first that is not; and bases that are others than the patch says.

use std::io::{self, Write};
use std::sync::Arc;

use barge::delta::layer::{Form, Layer};
use barge::delta::patch::{RebuildError, rebuild};

use super::build::{
    Parts, add, blob, copy, data, frame, noise, open, pack, plain, raw_layer, refused, segment, stream,
    varint,
};

const MIB: u64 = 1 << 20;

/// A frame of the text's own, packed with a window of a power of two.
fn pack_with_window(raw: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn p_10_operations_and_differences_are_one_frame_each() {
    let good = Parts::new(6, &[copy(0, 5, 4), add(0, 0, 2)], &[1, 1], b"");
    let base: &[u8] = b"some longer base";
    plain(&[base], &good).unwrap();
    let empty_frame = pack(b"", b"");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0][..], b"xx"].concat();
    let bad: [fn(&mut Parts, &[u8]); 4] = [
        |parts, more| parts.ops.extend(more),
        |parts, more| parts.diff.extend(more),
        |parts, more| parts.ops = [more, &parts.ops].concat(),
        |parts, more| parts.diff = [more, &parts.diff].concat(),
    ];
    for change in bad {
        for more in [&empty_frame[..], &skippable, b"x"] {
            let mut parts = good.clone();
            change(&mut parts, more);
            let text = refused(&[base], &parts);
            assert!(text.contains("unpacked"), "{text}");
        }
    }
    for longer in [1, 2, 100_000] {
        refused(&[base], &Parts { ops_raw: good.ops_raw + longer, ..good.clone() });
        refused(&[base], &Parts { ops_raw: good.ops_raw.saturating_sub(longer).max(1), ..good.clone() });
    }
    refused(&[base], &Parts { diff_raw: 1, ..good.clone() });
    refused(&[base], &Parts { diff_raw: 3, ..good.clone() });
    // Cut off within the frame.
    let cut = Parts { ops: good.ops[..good.ops.len() - 1].to_vec(), ..good };
    refused(&[base], &cut);
}

#[test]
fn p_11_windows_beyond_8_mib_are_refused() {
    let base = noise(4, 100);
    let long: Vec<Vec<u8>> = vec![copy(0, -100, 100); 10_000];
    let ops = [vec![copy(0, 0, 100)], long].concat();
    let mut parts = Parts::new(100 * 10_001, &ops, b"", b"");
    let raw = ops.concat();
    parts.ops = pack_with_window(&raw, 23);
    assert_eq!(plain(&[&base], &parts).unwrap().len(), 1_000_100);
    parts.ops = pack_with_window(&raw, 24);
    let text = refused(&[&base], &parts);
    assert!(text.contains("unpacked"), "{text}");
}

#[test]
fn p_13_p_17_ranges_beyond_a_base_or_the_stream_are_refused() {
    let base: &[u8] = b"0123456789";
    let one = |op: Vec<u8>, length| Parts::new(length, &[op], b"", b"");
    assert_eq!(plain(&[base], &one(copy(0, 0, 10), 10)).unwrap(), base);
    let beyond = [
        copy(0, 0, 11),
        copy(0, 10, 1),
        copy(0, -1, 1),
        copy(0, i64::MAX, 1),
        copy(0, i64::MIN + 1, 1),
        copy(1, 0, 1),
        copy(16, 0, 1),
        copy(u64::MAX, 0, 1),
        copy(0, 0, u64::MAX),
        copy(0, 9, u64::MAX),
        [vec![0], varint(0), vec![0xff; 9], vec![1], varint(1)].concat(),
        add(0, 0, 11),
    ];
    for op in beyond {
        // Long enough for all of them, so that only the base ends too early.
        let parts = Parts { length: MIB * MIB, ..one(op.clone(), 1) };
        let text = refused(&[base], &parts);
        assert!(text.contains("base") || text.contains("range"), "{op:?}: {text}");
    }
    refused(&[base], &one(copy(0, 0, 10), 9));
    refused(&[base], &one(copy(0, 0, 0), 1));
    refused(&[base], &Parts { diff: pack(&[1; 9], b""), diff_raw: 9, ..one(add(0, 0, 10), 9) });
    // Base streams of other lengths than what the patch was made from.
    refused(&[&base[..9]], &one(copy(0, 0, 10), 10));
}

#[test]
fn p_20_p_21_all_is_used_up_and_nothing_is_missing() {
    let base: &[u8] = b"0123456789";
    let (two, one) = (pack(b"ab", b""), pack(b"c", b""));
    let (two_at, one_at) = (two.len() as u64, one.len() as u64);
    let both = [&two[..], &one].concat();
    let ops = [frame(two_at, 2, &[]), data(2), frame(one_at, 1, &[]), data(1), copy(0, 0, 1), add(0, 0, 1)];
    let good = |ops: &[Vec<u8>]| Parts::new(5, ops, &[2], &both);
    assert_eq!(plain(&[base], &good(&ops)).unwrap(), b"abc03");
    let other = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut ops = ops.to_vec();
        change(&mut ops);
        refused(&[base], &good(&ops))
    };
    // The next frame before this one is used up; a frame at the end that is not; more than a frame has.
    let text = other(&|ops| ops[1] = data(1));
    assert!(text.contains("used up"), "{text}");
    other(&|ops| ops[1] = data(3));
    other(&|ops| {
        ops[3] = copy(0, 0, 1);
    });
    other(&|ops| ops[3] = data(2));
    other(&|ops| ops.insert(0, data(1)));
    // Operations after the stream is given, and too few of them.
    other(&|ops| ops.push(copy(0, 0, 1)));
    other(&|ops| ops.push(vec![2, 0]));
    other(&|ops| {
        ops.pop();
    });
    // Differences and frames that nobody takes.
    refused(&[base], &Parts::new(5, &ops, &[2, 2], &both));
    refused(&[base], &Parts::new(5, &ops, b"", &both));
    refused(&[base], &Parts::new(5, &ops, &[2], &[&both[..], b"x"].concat()));
    refused(&[base], &Parts::new(5, &ops, &[2], &both[..both.len() - 1]));
    // A stream of another length.
    for length in [4, 6] {
        refused(&[base], &Parts { length, ..good(&ops) });
    }
}

#[test]
fn p_22_frames_give_at_most_32_mib() {
    let raw = vec![7; 32 << 20];
    let packed = pack(&raw, b"");
    let parts = |length: u64, packed: &[u8], recorded: u64| {
        Parts::new(length, &[frame(recorded, length, &[]), data(length)], b"", packed)
    };
    let exact = parts(32 * MIB, &packed, packed.len() as u64);
    assert!(plain(&[b""], &exact).unwrap() == raw);
    let more = pack(&vec![7; (32 << 20) + 1], b"");
    let text = refused(&[b""], &parts(32 * MIB + 1, &more, more.len() as u64));
    assert!(text.contains("larger"), "{text}");

    let ab = pack(b"ab", b"");
    let len = ab.len() as u64;
    plain(&[b""], &parts(2, &ab, len)).unwrap();
    // Empty; longer than the stream; recorded with other lengths; two frames; something after it; what only skips.
    refused(&[b""], &Parts::new(2, &[frame(0, 2, &[]), data(2)], b"", b""));
    refused(&[b""], &Parts::new(2, &[frame(len, 0, &[]), data(2)], b"", &ab));
    refused(&[b""], &Parts::new(1, &[frame(len, 2, &[]), data(1)], b"", &ab));
    refused(&[b""], &parts(3, &ab, len));
    refused(&[b""], &parts(1, &ab, len));
    refused(&[b""], &parts(2, &ab, len - 1));
    refused(&[b""], &parts(2, &ab, len + 1));
    refused(&[b""], &parts(2, &ab, u64::MAX));
    let halves = [pack(b"a", b""), pack(b"b", b"")].concat();
    let text = refused(&[b""], &parts(2, &halves, halves.len() as u64));
    assert!(text.contains("not as long"), "{text}");
    let more = [&ab[..], b"x"].concat();
    refused(&[b""], &parts(2, &more, len + 1));
    // Packed to more than zstd ever needs.
    let mut padded = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
    for _ in 0..1000 {
        padded.extend([0, 0, 0]);
    }
    padded.extend([0x11, 0, 0, b'a', b'b']);
    refused(&[b""], &parts(2, &padded, padded.len() as u64));
}

#[test]
fn p_23_prefixes_are_at_most_64_mib_in_a_million_segments() {
    let base = vec![1; 33 << 20];
    // Enough for a prefix of any length in any number of segments.
    let packed = pack(&vec![2; 2 << 20], b"");
    let length = packed.len() as u64;
    let with = |prefix: &[Vec<u8>]| {
        Parts::new(2 * MIB, &[frame(length, 2 * MIB, prefix), data(2 * MIB)], b"", &packed)
    };
    let half = || segment(0, 0, 32 * MIB);
    let again = || segment(0, -32 * (MIB.cast_signed()), 32 * MIB);
    plain(&[&base], &with(&[half(), again()])).unwrap();
    let text = refused(&[&base], &with(&[half(), again(), segment(0, 0, 1)]));
    assert!(text.contains("longer"), "{text}");
    let one = segment(0, -1, 1);
    let many = [vec![segment(0, 0, 1)], vec![one; (1 << 20) - 1]].concat();
    plain(&[&base], &with(&many)).unwrap();
    refused(&[&base], &with(&[many, vec![segment(0, 0, 1)]].concat()));
    // A count with nothing behind it.
    let op = [vec![3], varint(length), varint(2 * MIB), varint(u64::MAX)].concat();
    let text = refused(&[&base], &Parts::new(2 * MIB, &[op], b"", &packed));
    assert!(text.contains("too many"), "{text}");
}

/// A frame that gives `raw` bytes behind these segments.
fn behind(raw: u64, prefix: &[Vec<u8>]) -> Parts {
    let packed = pack(&vec![2; raw as usize], b"");
    Parts::new(raw, &[frame(packed.len() as u64, raw, prefix), data(raw)], b"", &packed)
}

#[test]
fn p_26_prefixes_are_no_longer_than_what_frames_give_is_worth() {
    let base = vec![1; 1 << 20];
    for raw in [1, 2, 100] {
        let most = 65_536 + 8192 * raw;
        plain(&[&base], &behind(raw, &[segment(0, 0, most)])).unwrap();
        plain(&[&base], &behind(raw, &[segment(0, 0, most - 1), segment(0, 0, 1)])).unwrap();
        for prefix in [vec![segment(0, 0, most + 1)], vec![segment(0, 0, most), segment(0, 0, 1)]] {
            let text = refused(&[&base], &behind(raw, &prefix));
            assert!(text.contains("longer") && text.contains("prefix"), "{text}");
        }
    }
}

#[test]
fn p_27_prefixes_have_no_more_segments_than_what_frames_give_is_worth() {
    let base = vec![1; 2000];
    for raw in [1, 2, 500] {
        let segments = |count: u64| vec![segment(0, 1, 1); count as usize];
        plain(&[&base], &behind(raw, &segments(256 + raw))).unwrap();
        let text = refused(&[&base], &behind(raw, &segments(257 + raw)));
        assert!(text.contains("too many"), "{text}");
    }
}

#[test]
fn p_24_bases_that_are_others_than_the_patch_says_are_told() {
    let parts = Parts::new(4, &[copy(0, 5, 4)], b"", b"");
    let patch = open(&blob(&[9, 9], &parts)).unwrap();
    let good = raw_layer(b"some base");
    rebuild(&patch, &[good.clone(), good.clone()], &mut io::sink()).unwrap();
    let gzip = Layer { form: Form::Gzip, ..Layer::clone(&good) };
    let cases: [(&[Arc<Layer>], &str); 4] = [
        (&[good.clone()], "not there"),
        (&[], "not there"),
        (&[good.clone(), raw_layer(b"some bas")], "size"),
        (&[good.clone(), Arc::new(gzip)], "taken apart"),
    ];
    for (bases, expected) in cases {
        let error = rebuild(&patch, bases, &mut io::sink()).unwrap_err();
        assert!(matches!(error, RebuildError::Base { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(super::build::SOME), "{text}");
    }
}

#[test]
fn a_base_whose_working_file_is_shorter_is_refused() {
    // The blob's size fits, what it was taken apart to does not.
    let short = Layer { size: 9, plain: stream(b"some"), ..Layer::clone(&raw_layer(b"")) };
    let blob = blob(&[9], &Parts::new(4, &[copy(0, 5, 4)], b"", b""));
    let error = super::build::run(&blob, &[Arc::new(short)]).unwrap_err();
    assert!(matches!(error, RebuildError::Invalid(_)), "{error:?}");
}

/// A writer that fails after some bytes.
struct Fails(usize);

impl Write for Fails {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the very error"));
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_the_writer_come_back_as_they_are() {
    let patch = open(&blob(&[9], &Parts::new(4, &[copy(0, 5, 4)], b"", b""))).unwrap();
    let error = rebuild(&patch, &[raw_layer(b"some base")], &mut Fails(3)).unwrap_err();
    assert!(matches!(&error, RebuildError::Out(error) if error.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(error.to_string(), "the very error");
}
