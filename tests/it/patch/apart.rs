//! Layers taken apart, and gzip layers rebuilt.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use barge::delta::layer::{Form, Layer, TakeApartError};
use barge::delta::patch::{BaseHead, Head, RebuildError, StreamPatch, rebuild, write};
use barge::delta::scratch::{Scratch, Stream};
use barge::oci::digest::Digest;
use flate2::Compression;

use super::build::{Parts, SOME, assemble, decode, named, open, run, scratch};

/// Text that packs to something.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let words = ["lib", "usr", "share", "python3", "\n", "0000644", "root", "doc", "  "];
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        out.extend_from_slice(random.choice(words).unwrap().as_bytes());
    }
    out.truncate(length);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Takes `blob` apart; counts how often it is opened.
fn apart(blob: &[u8], form: Option<Form>, opened: &Cell<u32>) -> Result<Layer, TakeApartError<io::Error>> {
    let mut open = || {
        opened.set(opened.get() + 1);
        Ok(Box::new(blob) as Box<dyn Read>)
    };
    Layer::take_apart(&mut open, form, &scratch())
}

fn all(stream: &Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.reader(0).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A patch of a gzip layer of about so many plain bytes, its bases, and what it gives.
pub fn gzip_patch(length: usize) -> (Vec<u8>, Vec<Arc<Layer>>, Vec<u8>) {
    let old = text(1, length);
    let new = [&old[..length / 3], b"something new", &old[length / 2..]].concat();
    let (old_blob, target) = (gzip(&old), gzip(&new));
    let base = apart(&old_blob, None, &Cell::new(0)).unwrap();
    let layer = apart(&target, None, &Cell::new(0)).unwrap();
    let streams = [(&layer.plain, &base.plain), (&layer.tokens, &base.tokens), (&layer.blocks, &base.blocks)];
    let streams = streams.map(|(new, old)| {
        let (new, old) = (all(new), all(old));
        let mut patch = StreamPatch::new(&scratch()).unwrap();
        let same = new.iter().zip(&old).take_while(|(new, old)| new == old).count();
        let half = same / 2;
        patch.copy(0, 0, half as u64).unwrap();
        patch.add(0, half as u64, &vec![0; same - half]).unwrap();
        let prefix = barge::delta::patch::Segment { base: 0, offset: 0, length: old.len() as u64 };
        let rest = &new[same..];
        if !rest.is_empty() {
            patch.frame(&super::build::pack(rest, &old), rest.len() as u64, &[prefix]).unwrap();
            patch.data(rest.len() as u64).unwrap();
        }
        patch.finish().unwrap()
    });
    let head = Head {
        target: Digest::sha256(&target),
        size: target.len() as u64,
        form: Form::Gzip,
        bases: vec![BaseHead {
            digest: Digest::sha256(&old_blob),
            size: old_blob.len() as u64,
            form: Form::Gzip,
        }],
    };
    let mut blob = Vec::new();
    write(&mut blob, &head, streams).unwrap();
    (blob, vec![Arc::new(base)], target)
}

#[test]
fn p_8_p_24_gzip_layers_are_rebuilt_bit_for_bit() {
    let (blob, bases, target) = gzip_patch(3_000_000);
    assert!(blob.len() < target.len());
    let patch = open(&blob).unwrap();
    let mut out = Vec::new();
    rebuild(&patch, &bases, &mut out).unwrap();
    assert!(out == target);
    // The same by the text.
    let base = &bases[0];
    let streams = [&base.plain, &base.tokens, &base.blocks].map(all);
    let decoded = decode(&blob, &[[&streams[0], &streams[1], &streams[2]]]);
    let layer = apart(&target, Some(Form::Gzip), &Cell::new(0)).unwrap();
    assert!(decoded.streams == [&layer.plain, &layer.tokens, &layer.blocks].map(all));
}

#[test]
fn p_24_a_patch_that_gives_another_size_is_refused() {
    let (blob, bases, target) = gzip_patch(100_000);
    let head = open(&blob).unwrap().head().clone();
    let start = |size| {
        let target = named(&head.target.to_string(), size, 1);
        [b"BARGEPT1".to_vec(), target].concat()
    };
    let right = start(target.len() as u64);
    assert_eq!(&blob[..right.len()], right);
    for size in [0, 1, target.len() as u64 - 1, target.len() as u64 + 1] {
        let other = [start(size), blob[right.len()..].to_vec()].concat();
        let error = run(&other, &bases).unwrap_err();
        assert!(matches!(error, RebuildError::Invalid(_)), "{error:?}");
    }
}

#[test]
fn p_8_streams_that_are_no_gzip_are_refused() {
    let (_, bases, _) = gzip_patch(10_000);
    let copy_all = |stream: &Stream, less| {
        let length = stream.len() - less;
        Parts::new(length, &[super::build::copy(0, 0, length)], b"", b"")
    };
    let base = &bases[0];
    let head = [b"BARGEPT1".to_vec(), named(SOME, base.size, 1), vec![1], named(SOME, base.size, 1)].concat();
    let with = |less: [u64; 3]| {
        let streams = [
            copy_all(&base.plain, less[0]),
            copy_all(&base.tokens, less[1]),
            copy_all(&base.blocks, less[2]),
        ];
        run(&assemble(head.clone(), &streams), &bases)
    };
    with([0, 0, 0]).unwrap();
    for less in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 4, 0]] {
        let error = with(less).unwrap_err();
        assert!(matches!(error, RebuildError::Invalid(_)), "{error:?}");
    }
}

#[test]
fn errors_of_the_writer_pass_the_join_as_they_are() {
    struct Fails;
    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the very error"))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (blob, bases, _) = gzip_patch(10_000);
    let error = rebuild(&open(&blob).unwrap(), &bases, &mut Fails).unwrap_err();
    assert!(matches!(&error, RebuildError::Out(error) if error.kind() == io::ErrorKind::TimedOut));
}

#[test]
fn layers_are_taken_apart_by_what_they_are() {
    let plain = text(3, 300_000);
    let packed = gzip(&plain);
    for form in [None, Some(Form::Gzip)] {
        let opened = Cell::new(0);
        let layer = apart(&packed, form, &opened).unwrap();
        assert_eq!((layer.form, layer.size, opened.get()), (Form::Gzip, packed.len() as u64, 1));
        assert!(all(&layer.plain) == plain);
        assert!(!layer.tokens.is_empty() && !layer.blocks.is_empty());
        assert!(layer.marks.len() >= 3 && layer.marks.is_sorted_by_key(|mark| mark.plain));
    }
    for (blob, form) in [(&plain[..], None), (&packed, Some(Form::Raw)), (b"", None), (&[0x1f], None)] {
        let opened = Cell::new(0);
        let layer = apart(blob, form, &opened).unwrap();
        assert_eq!((layer.form, layer.size, opened.get()), (Form::Raw, blob.len() as u64, 1));
        assert!(all(&layer.plain) == blob);
        assert!(layer.tokens.is_empty() && layer.blocks.is_empty() && layer.marks.is_empty());
    }
}

#[test]
fn what_only_starts_as_gzip_is_taken_as_it_is_unless_gzip_is_asked_for() {
    let packed = gzip(&text(4, 500_000));
    let mut broken = packed.clone();
    // A block of the type that there is not.
    broken[10] |= 6;
    for blob in [&packed[..packed.len() - 1], &packed[..5], &broken] {
        let opened = Cell::new(0);
        let layer = apart(blob, None, &opened).unwrap();
        assert_eq!((layer.form, layer.size, opened.get()), (Form::Raw, blob.len() as u64, 2));
        assert!(all(&layer.plain) == blob);
        let error = apart(blob, Some(Form::Gzip), &Cell::new(0)).unwrap_err();
        assert!(matches!(error, TakeApartError::Gzip(_)), "{error:?}");
    }
    let error = apart(b"no gzip", Some(Form::Gzip), &Cell::new(0)).unwrap_err();
    assert!(matches!(error, TakeApartError::Gzip(_)), "{error:?}");
}

/// A reader that fails with an error of its own where `rest` ends, which is the end of the layer or before.
struct Fails<'a> {
    rest: &'a [u8],
}

#[derive(Debug, thiserror::Error)]
#[error("the very error")]
struct VeryError;

impl Read for Fails<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.rest.read(bytes)? {
            0 if !bytes.is_empty() => Err(io::Error::new(io::ErrorKind::InvalidData, VeryError)),
            count => Ok(count),
        }
    }
}

#[test]
fn errors_of_the_reader_come_back_as_they_are_even_at_the_very_end() {
    let packed = gzip(&text(5, 400_000));
    let mut broken = packed.clone();
    broken[10] |= 6;
    let plain = text(5, 1000);
    let cases: [(&[u8], Option<Form>); 8] = [
        (&packed, None),
        (&packed, Some(Form::Gzip)),
        (&packed, Some(Form::Raw)),
        (&packed[..1000], None),
        (&packed[..2], None),
        (&broken, Some(Form::Gzip)),
        (&broken, None),
        (&plain, None),
    ];
    for (rest, form) in cases {
        let mut open = || Ok::<_, io::Error>(Box::new(Fails { rest }) as Box<dyn Read>);
        match Layer::take_apart(&mut open, form, &scratch()) {
            Err(TakeApartError::Read(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert!(error.downcast::<VeryError>().is_ok());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn layers_that_cannot_be_opened_or_kept_are_told_apart() {
    let mut open = || Err::<Box<dyn Read>, _>(VeryError);
    let error = Layer::take_apart(&mut open, None, &scratch()).unwrap_err();
    assert!(matches!(error, TakeApartError::Open(VeryError)));
    let limited = Scratch::with_limit(Path::new(&std::env::temp_dir()), 100_000);
    for blob in [gzip(&text(6, 200_000)), text(6, 200_000)] {
        let mut open = || Ok::<_, io::Error>(Box::new(&blob[..]) as Box<dyn Read>);
        let error = Layer::take_apart(&mut open, None, &limited).unwrap_err();
        assert!(
            matches!(&error, TakeApartError::Scratch(error) if error.kind() == io::ErrorKind::StorageFull),
            "{error:?}"
        );
        assert_eq!(limited.used(), 0, "what was written before is given back");
    }
}
