//! The operations, and what the writer makes of them.

use barge::delta::layer::Form;
use barge::delta::patch::{BaseHead, Head, Segment, StreamPatch, write};
use barge::oci::digest::Digest;
use proptest::prelude::*;

use super::build::{
    Parts, add, blob, copy, data, decode, frame, noise, nothing, pack, plain, raw_layer, refused, run,
    scratch, segment, written,
};

const OLD: &[u8] = b"the quick brown fox jumps over the lazy dog";

#[test]
fn p_12_p_14_a_stream_is_copied_from_bases() {
    let other = b"pack my box with five dozen jugs";
    let parts =
        Parts::new(5 + 5 + 3 + 3, &[copy(0, 4, 5), copy(0, 1, 5), copy(1, 5, 3), copy(0, -15, 3)], b"", b"");
    assert_eq!(plain(&[OLD, other], &parts).unwrap(), b"quickbrownmy the");
    let unknown = Parts::new(3, &[vec![4], segment(0, 0, 3)], b"", b"");
    assert!(refused(&[OLD], &unknown).contains("not known"));
}

#[test]
fn p_15_differences_are_added_modulo_256() {
    let parts = Parts::new(5, &[add(0, 0, 3), copy(0, 0, 1), add(0, 0, 1)], &[1, 255, 0, 128], b"");
    assert_eq!(plain(&[&[10, 20, 30, 40, 200]], &parts).unwrap(), [11, 19, 30, 40, 72]);
}

#[test]
fn p_16_offsets_count_from_the_last_end_of_the_same_base() {
    let base: Vec<u8> = (0..100).collect();
    let (a, b) = (pack(&[7; 20], &base[50..60]), pack(&[8; 2], b""));
    let ops = [
        copy(0, 10, 5),                                   // 10…14, ends at 15
        copy(1, 90, 1),                                   // 90, of another base
        frame(a.len() as u64, 20, &[segment(0, 35, 10)]), // 50…59, ends at 60
        data(20),
        copy(0, -60, 2), // 0…1
        add(1, 0, 1),    // 91
        frame(b.len() as u64, 2, &[]),
        data(2),
        copy(0, 0, 1), // 2
    ];
    let parts = Parts::new(5 + 1 + 20 + 2 + 1 + 2 + 1, &ops, &[0], &[a, b].concat());
    let want = [&[10, 11, 12, 13, 14, 90][..], &[7; 20], &[0, 1, 91, 8, 8, 2]].concat();
    assert_eq!(plain(&[&base, &base], &parts).unwrap(), want);
}

#[test]
fn p_18_p_19_frames_are_decoded_with_the_joined_segments_before_them() {
    let (one, two) = (noise(1, 70_000), noise(2, 50_000));
    let prefix = [&one[1000..60_000], &two[..], &one[..500]].concat();
    let new = [&prefix[30_000..80_000], b"and news", &one[1000..2000]].concat();
    let packed = pack(&new, &prefix);
    assert!(packed.len() < 1000, "{} bytes: the prefix is of no use", packed.len());
    let segments = [segment(0, 1000, 59_000), segment(1, 0, 50_000), segment(0, -60_000, 500)];
    let ops = [
        frame(packed.len() as u64, new.len() as u64, &segments),
        data(7),
        copy(1, -3, 3),
        data(new.len() as u64 - 7),
    ];
    let parts = Parts::new(new.len() as u64 + 3, &ops, b"", &packed);
    let want = [&new[..7], &two[49_997..], &new[7..]].concat();
    assert!(plain(&[&one, &two], &parts).unwrap() == want);
}

#[test]
fn the_writer_joins_what_adjoins() {
    let blob = written(&[OLD], |patch| {
        patch.copy(0, 0, 3).unwrap();
        patch.copy(0, 3, 0).unwrap();
        patch.copy(0, 3, 4).unwrap();
        patch.add(0, 7, &[1, 1]).unwrap();
        patch.add(0, 9, &[1]).unwrap();
        patch
            .frame(
                &pack(b"0123456789", &OLD[..20]),
                10,
                &[Segment { base: 0, offset: 0, length: 10 }, Segment { base: 0, offset: 10, length: 10 }],
            )
            .unwrap();
        patch.data(4).unwrap();
        patch.data(6).unwrap();
        patch.copy(0, 10, 1).unwrap();
    });
    let decoded = decode(&blob, &[[OLD, b"", b""]]);
    assert_eq!(decoded.kinds[0], [0, 1, 3, 2, 0]);
    assert_eq!(decoded.streams[0], b"the quidl!0123456789b");
}

#[test]
fn the_writer_refuses_what_no_patch_can_have() {
    let mut patch = StreamPatch::new(&scratch()).unwrap();
    patch.copy(16, 0, 1).unwrap_err();
    patch.copy(0, u64::MAX, 1).unwrap_err();
    patch.data(1).unwrap_err();
    patch.frame(b"", 1, &[]).unwrap_err();
    patch.frame(b"x", 0, &[]).unwrap_err();
    patch.frame(b"x", (32 << 20) + 1, &[]).unwrap_err();
    let large = Segment { base: 0, offset: 0, length: (64 << 20) + 1 };
    patch.frame(b"x", 32 << 20, &[large]).unwrap_err();
    // 64 KiB and 8,192 times what a frame gives; 256 segments and one for each byte.
    let long = Segment { length: 65_536 + 2 * 8192 + 1, ..large };
    patch.frame(&pack(b"xy", b""), 2, &[long]).unwrap_err();
    let many: Vec<_> = (0..259).map(|at| Segment { base: 0, offset: at * 2, length: 1 }).collect();
    patch.frame(&pack(b"xy", b""), 2, &many).unwrap_err();
    let exact = Segment { length: long.length - 1, ..large };
    patch.frame(&pack(b"xy", b""), 2, &[exact]).unwrap();
    patch.data(2).unwrap();
    patch.frame(&pack(b"xy", b""), 2, &many[1..]).unwrap();
    patch.data(2).unwrap();
    patch.frame(&pack(b"xy", b""), 2, &[]).unwrap();
    patch.data(1).unwrap();
    patch.frame(&pack(b"xy", b""), 2, &[]).unwrap_err();
    patch.finish().unwrap_err();
    for count in [0, 17] {
        let base = BaseHead { digest: Digest::sha256(b""), size: 0, form: Form::Raw };
        let head = Head { target: Digest::sha256(b""), size: 0, form: Form::Raw, bases: vec![base; count] };
        write(&mut Vec::new(), &head, [nothing(), nothing(), nothing()]).unwrap_err();
    }
}

/// What a test does to a stream.
#[derive(Debug, Clone)]
enum Edit {
    Copy(usize, u16, u16),
    Add(usize, u16, Vec<u8>),
    Frame(Vec<u8>, Vec<(usize, u16, u16)>),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let place = (0..3usize, any::<u16>(), any::<u16>());
    let edit = prop_oneof![
        4 => place.clone().prop_map(|(base, at, length)| Edit::Copy(base, at, length)),
        3 => (0..3usize, any::<u16>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(base, at, diff)| Edit::Add(base, at, diff)),
        2 => (prop::collection::vec(any::<u8>(), 1..400), prop::collection::vec(place, 0..5))
            .prop_map(|(new, prefix)| Edit::Frame(new, prefix)),
    ];
    prop::collection::vec(edit, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_rebuilt_and_decodes_by_the_text(edits in edits(), seed in any::<u64>()) {
        let bases = [noise(seed, 70_000), noise(seed ^ 1, 3000), Vec::new()];
        let of: Vec<&[u8]> = bases.iter().map(Vec::as_slice).collect();
        let range = |base: usize, at: u16, length: u16| {
            let all = bases[base].len();
            let start = usize::from(at) % (all + 1);
            start..start + usize::from(length) % (all - start + 1)
        };
        let mut want = Vec::new();
        let describe = |patch: &mut StreamPatch| {
            for edit in &edits {
                match edit {
                    Edit::Copy(base, at, length) => {
                        let range = range(*base, *at, *length);
                        patch.copy(*base, range.start as u64, range.len() as u64).unwrap();
                        want.extend_from_slice(&bases[*base][range]);
                    }
                    Edit::Add(base, at, diff) => {
                        let range = range(*base, *at, diff.len() as u16);
                        patch.add(*base, range.start as u64, &diff[..range.len()]).unwrap();
                        let old = bases[*base][range].iter();
                        want.extend(old.zip(diff).map(|(old, diff)| old.wrapping_add(*diff)));
                    }
                    Edit::Frame(new, prefix) => {
                        let mut bytes = Vec::new();
                        let mut segments = Vec::new();
                        for (base, at, length) in prefix {
                            let range = range(*base, *at, *length);
                            segments.push(Segment { base: *base, offset: range.start as u64, length: range.len() as u64 });
                            bytes.extend_from_slice(&bases[*base][range]);
                        }
                        patch.frame(&pack(new, &bytes), new.len() as u64, &segments).unwrap();
                        let half = new.len() as u64 / 2;
                        patch.data(half).unwrap();
                        patch.copy(1, 5, 2).unwrap();
                        patch.data(new.len() as u64 - half).unwrap();
                        want.extend_from_slice(&new[..half as usize]);
                        want.extend_from_slice(&bases[1][5..7]);
                        want.extend_from_slice(&new[half as usize..]);
                    }
                }
            }
        };
        let blob = written(&of, describe);
        let layers: Vec<_> = of.iter().map(|base| raw_layer(base)).collect();
        prop_assert!(run(&blob, &layers).unwrap() == want);
        let streams: Vec<[&[u8]; 3]> = of.iter().map(|base| [*base, &[][..], &[][..]]).collect();
        let decoded = decode(&blob, &streams);
        prop_assert!(decoded.streams[0] == want);
        prop_assert_eq!(decoded.bases.len(), 3);
        prop_assert_eq!(decoded.target.1, want.len() as u64);
    }
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let make = || {
        written(&[OLD], |patch| {
            for at in 0..40 {
                patch.copy(0, at, 2).unwrap();
                patch.add(0, at, &[at as u8; 3]).unwrap();
            }
        })
    };
    assert!(make() == make());
}

#[test]
fn many_small_pieces_and_large_ones() {
    // Every way to read a base: far and near, short and long, across the window's ends.
    let base = noise(9, 3 << 20);
    let mut random = fastrand::Rng::with_seed(3);
    let mut want = Vec::new();
    let mut ops = Vec::new();
    let mut end = 0;
    let mut at = 0_usize;
    for round in 0..4000 {
        at = match round % 5 {
            0 => random.usize(..base.len()),
            _ => (at + random.usize(..3000)).saturating_sub(random.usize(..500)) % base.len(),
        };
        let most = if round % 50 == 0 { 400_000 } else { 200 };
        let length = random.usize(1..=most).min(base.len() - at);
        ops.push(copy(0, at.cast_signed() as i64 - end, length as u64));
        want.extend_from_slice(&base[at..at + length]);
        end = (at + length).cast_signed() as i64;
    }
    let parts = Parts::new(want.len() as u64, &ops, b"", b"");
    assert!(run(&blob(&[base.len() as u64], &parts), &[raw_layer(&base)]).unwrap() == want);
}
