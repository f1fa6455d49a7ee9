//! The head of a patch, and where its parts are.

use barge::delta::layer::Form;
use barge::delta::patch::{BaseHead, Head, Invalid, MAGIC, PatchError, StreamPatch, write};
use barge::oci::digest::Digest;

use super::build::{
    Parts, SOME, assemble, blob, copy, decode, named, nothing, open, scratch, varint, written,
};

/// A good patch, and the base that it takes.
fn good() -> (Vec<u8>, &'static [u8]) {
    let base = b"some base";
    (blob(&[9], &Parts::new(4, &[copy(0, 5, 4)], b"", b"")), base)
}

/// Why opening refuses a blob.
fn invalid(blob: &[u8]) -> Invalid {
    match open(blob) {
        Err(PatchError::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn p_1_p_9_a_patch_is_head_lengths_and_parts_and_nothing_else() {
    let old: &[u8] = b"what was there before";
    let bytes = written(&[old], |patch| {
        patch.copy(0, 5, 9).unwrap();
        patch.add(0, 0, b"abc").unwrap();
    });
    // This decoder takes the parts in their order, and panics where something is left.
    let decoded = decode(&bytes, &[[old, b"", b""]]);
    assert_eq!(decoded.streams[0].len(), 12);
    assert!(matches!(invalid(&[&bytes[..], b"x"].concat()), Invalid::Lengths(_)));
    assert!(matches!(invalid(&bytes[..bytes.len() - 1]), Invalid::Lengths(_)));
}

#[test]
fn p_2_other_magics_are_refused() {
    let (blob, _) = good();
    assert_eq!(&blob[..8], &MAGIC);
    open(&blob).unwrap();
    for at in 0..8 {
        let mut other = blob.clone();
        other[at] ^= 1;
        assert!(matches!(invalid(&other), Invalid::Magic));
    }
    for length in 0..8 {
        assert!(matches!(invalid(&blob[..length]), Invalid::Magic));
    }
}

#[test]
fn p_3_longer_forms_of_integers_are_refused() {
    // In the head.
    let head = [&MAGIC[..], &named(SOME, 4, 0), &[0x81, 0], &named(SOME, 9, 0)].concat();
    let plain = Parts::new(4, &[copy(0, 5, 4)], b"", b"");
    let streams = [plain, Parts::default(), Parts::default()];
    assert!(matches!(invalid(&assemble(head, &streams)), Invalid::Number));
    let head = [&MAGIC[..], &[0xff; 10]].concat();
    assert!(matches!(invalid(&assemble(head, &streams)), Invalid::Number));
    // In the operations.
    let ops = [vec![0, 0, 10], vec![0x84, 0]];
    let text = super::build::refused(&[b"some base"], &Parts::new(4, &ops, b"", b""));
    assert!(text.contains("badly formed"), "{text}");
}

#[test]
fn p_4_p_5_p_6_the_head_names_target_and_bases() {
    let target = Digest::sha256(b"new").same_algorithm_over(b"new");
    let sha512: Digest = format!("sha512:{}", "7".repeat(128)).parse().unwrap();
    let mut bases = vec![
        BaseHead { digest: sha512.clone(), size: u64::MAX / 32, form: Form::Gzip },
        BaseHead { digest: SOME.parse().unwrap(), size: 0, form: Form::Raw },
    ];
    while bases.len() < 16 {
        bases.push(bases[0].clone());
    }
    let head = Head { target, size: 300, form: Form::Gzip, bases };
    let mut bytes = Vec::new();
    write(&mut bytes, &head, [nothing(), nothing(), nothing()]).unwrap();
    assert_eq!(open(&bytes).unwrap().head(), &head);
    let decoded = decode(&bytes, &[[&[][..]; 3]; 16]);
    assert_eq!(decoded.target, (head.target.to_string(), 300, 1));
    assert_eq!(decoded.bases[0], (sha512.to_string(), u64::MAX / 32, 1));
    assert_eq!(decoded.bases[1], (SOME.to_owned(), 0, 0));

    let empty: [Parts; 3] = Default::default();
    let with = |target: Vec<u8>, bases: &[Vec<u8>]| {
        let head = [&MAGIC[..], &target, &varint(bases.len() as u64), &bases.concat()].concat();
        invalid(&assemble(head, &empty))
    };
    let fine = named(SOME, 0, 0);
    assert!(matches!(with(named(SOME, 0, 2), &[fine.clone()]), Invalid::Form(2)));
    assert!(matches!(with(fine.clone(), &[named(SOME, 0, 9)]), Invalid::Form(9)));
    for text in ["", "sha256:", "sha256:aa", "md5:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &SOME.to_uppercase()] {
        assert!(matches!(with(named(text, 0, 0), &[fine.clone()]), Invalid::Digest), "{text}");
    }
    assert!(matches!(with(named(&"a".repeat(136), 0, 0), &[fine.clone()]), Invalid::Digest));
    assert!(matches!(with(fine.clone(), &[]), Invalid::Bases(0)));
    assert!(matches!(with(fine.clone(), &vec![fine; 17]), Invalid::Bases(17)));
}

#[test]
fn p_7_a_layer_that_is_no_gzip_has_plain_bytes_only() {
    let part = || Parts::new(4, &[copy(0, 5, 4)], b"", b"");
    let with = |size, streams: &[Parts; 3]| {
        let head = [&MAGIC[..], &named(SOME, size, 0), &[1], &named(SOME, 9, 0)].concat();
        open(&assemble(head, streams))
    };
    let none = Parts::default;
    with(4, &[part(), none(), none()]).unwrap();
    for (size, streams) in
        [(5, [part(), none(), none()]), (4, [part(), part(), none()]), (4, [part(), none(), part()])]
    {
        assert!(matches!(with(size, &streams), Err(PatchError::Invalid(Invalid::Lengths(_)))));
    }
}

#[test]
fn p_9_p_10_lengths_that_contradict_each_other_are_refused() {
    let good = Parts::new(4, &[copy(0, 5, 4)], b"", b"");
    let beyond = u64::MAX / 16;
    let bad = [
        Parts { ops_raw: 0, ..good.clone() },
        Parts { ops: Vec::new(), ..good.clone() },
        Parts { diff_raw: 1, ..good.clone() },
        Parts { diff: vec![1], ..good.clone() },
        Parts { diff_raw: 5, diff: vec![1], ..good.clone() },
        Parts { ops_raw: beyond, ..good.clone() },
        Parts { length: 0, ..good },
        Parts { data: vec![1], ..Parts::default() },
    ];
    for parts in bad {
        assert!(matches!(invalid(&blob(&[9], &parts)), Invalid::Lengths(_)), "{parts:?}");
    }
}

#[test]
fn a_patch_cut_at_every_byte_is_refused() {
    let old: &[u8] = b"what was there before";
    let blob = written(&[old], |patch| {
        patch.copy(0, 5, 9).unwrap();
        patch.frame(&super::build::pack(b"news", b"ol"), 4, &[]).unwrap();
        patch.data(4).unwrap();
    });
    for length in 0..blob.len() {
        open(&blob[..length]).map(|_| length).unwrap_err();
    }
    open(&blob).unwrap();
}

#[test]
fn an_empty_layer_has_an_empty_patch() {
    let bytes = written(&[b"base"], |_: &mut StreamPatch| {});
    let layer = super::build::raw_layer(b"base");
    assert_eq!(super::build::run(&bytes, &[layer]).unwrap(), b"");
    assert_eq!(StreamPatch::new(&scratch()).unwrap().described(), 0);
}
