//! Patches byte for byte, made and read by the text only.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use barge::delta::layer::{Form, Layer};
use barge::delta::patch::{
    BaseHead, FinishedStreamPatch, Head, Patch, PatchError, RebuildError, StreamPatch, rebuild, write,
};
use barge::delta::scratch::{Scratch, Stream};
use barge::oci::digest::Digest;
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

/// Working space in the system's folder for such.
pub fn scratch() -> Scratch {
    Scratch::new(Path::new(&std::env::temp_dir()))
}

/// A working file with `bytes`.
pub fn stream(bytes: &[u8]) -> Stream {
    let mut file = scratch().file().unwrap();
    file.write_all(bytes).unwrap();
    file.finish().unwrap()
}

/// A layer that is no gzip.
pub fn raw_layer(bytes: &[u8]) -> Arc<Layer> {
    let (plain, tokens, blocks) = (stream(bytes), stream(b""), stream(b""));
    Arc::new(Layer { form: Form::Raw, size: bytes.len() as u64, plain, tokens, blocks, marks: Vec::new() })
}

/// Bytes that zstd can't pack, always the same for a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Packs `raw` as one frame, with `prefix` as what comes before it.
pub fn pack(raw: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(5)).unwrap();
    context.set_parameter(CParameter::WindowLog(26)).unwrap();
    context.ref_prefix(prefix).unwrap();
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
    context.compress2(&mut out, raw).unwrap();
    out
}

/// An integer (P-3).
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push((value % 128) as u8 + 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

/// A segment (P-16), `away` from the end of the one before.
pub fn segment(base: u64, away: i64, length: u64) -> Vec<u8> {
    let away = if away < 0 { away.unsigned_abs() * 2 - 1 } else { away.unsigned_abs() * 2 };
    [varint(base), varint(away), varint(length)].concat()
}

/// COPY.
pub fn copy(base: u64, away: i64, length: u64) -> Vec<u8> {
    [vec![0], segment(base, away, length)].concat()
}

/// ADD.
pub fn add(base: u64, away: i64, length: u64) -> Vec<u8> {
    [vec![1], segment(base, away, length)].concat()
}

/// DATA.
pub fn data(length: u64) -> Vec<u8> {
    [vec![2], varint(length)].concat()
}

/// FRAME.
pub fn frame(packed: u64, raw: u64, prefix: &[Vec<u8>]) -> Vec<u8> {
    [vec![3], varint(packed), varint(raw), varint(prefix.len() as u64), prefix.concat()].concat()
}

/// The parts of one stream; what is packed and how long it is can be set to anything.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    pub length: u64,
    pub ops: Vec<u8>,
    pub ops_raw: u64,
    pub diff: Vec<u8>,
    pub diff_raw: u64,
    pub data: Vec<u8>,
}

impl Parts {
    /// A stream of `length` bytes by these, packed as they should be.
    pub fn new(length: u64, ops: &[Vec<u8>], diff: &[u8], data: &[u8]) -> Self {
        let packed = |part: &[u8]| if part.is_empty() { Vec::new() } else { pack(part, b"") };
        let ops = ops.concat();
        Self {
            length,
            ops: packed(&ops),
            ops_raw: ops.len() as u64,
            diff: packed(diff),
            diff_raw: diff.len() as u64,
            data: data.to_vec(),
        }
    }
}

/// Digest, size and form as a head has them.
pub fn named(digest: &str, size: u64, form: u8) -> Vec<u8> {
    [varint(digest.len() as u64), digest.as_bytes().to_vec(), varint(size), vec![form]].concat()
}

/// The digest of nothing in particular.
pub const SOME: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A patch of a layer that is no gzip, of bases of these sizes that are none either.
pub fn blob(bases: &[u64], plain: &Parts) -> Vec<u8> {
    let mut head = [b"BARGEPT1".to_vec(), named(SOME, plain.length, 0), varint(bases.len() as u64)].concat();
    for size in bases {
        head.extend(named(SOME, *size, 0));
    }
    assemble(head, &[plain.clone(), Parts::default(), Parts::default()])
}

/// A patch of this head and these streams.
pub fn assemble(mut blob: Vec<u8>, streams: &[Parts; 3]) -> Vec<u8> {
    for Parts { length, ops, ops_raw, diff, diff_raw, data } in streams {
        let numbers = [*length, ops.len() as u64, *ops_raw, diff.len() as u64, *diff_raw, data.len() as u64];
        blob.extend(numbers.map(varint).concat());
    }
    for parts in streams {
        blob.extend([&parts.ops[..], &parts.diff, &parts.data].concat());
    }
    blob
}

/// Opens a patch.
pub fn open(blob: &[u8]) -> Result<Patch, PatchError> {
    Patch::open(stream(blob))
}

/// Opens a patch and rebuilds by it.
pub fn run(blob: &[u8], bases: &[Arc<Layer>]) -> Result<Vec<u8>, RebuildError> {
    let mut out = Vec::new();
    let patch = open(blob)?;
    let done = rebuild(&patch, bases, &mut out);
    assert!(out.len() as u64 <= patch.head().size, "more than the recorded size");
    done.map(|()| out)
}

/// Rebuilds a plain stream from bases that are no gzip.
pub fn plain(bases: &[&[u8]], parts: &Parts) -> Result<Vec<u8>, RebuildError> {
    let sizes: Vec<u64> = bases.iter().map(|base| base.len() as u64).collect();
    let layers: Vec<_> = bases.iter().map(|base| raw_layer(base)).collect();
    run(&blob(&sizes, parts), &layers)
}

/// What refuses a plain stream, as text.
pub fn refused(bases: &[&[u8]], parts: &Parts) -> String {
    match plain(bases, parts) {
        Ok(bytes) => panic!("gave {} bytes", bytes.len()),
        Err(error @ RebuildError::Invalid(_)) => error.to_string(),
        Err(error) => panic!("another error: {error:?}"),
    }
}

/// A patch by the writer, of a layer that is no gzip.
pub fn written(bases: &[&[u8]], describe: impl FnOnce(&mut StreamPatch)) -> Vec<u8> {
    let mut plain = StreamPatch::new(&scratch()).unwrap();
    describe(&mut plain);
    let plain = plain.finish().unwrap();
    let head = Head {
        target: SOME.parse().unwrap(),
        size: plain.described(),
        form: Form::Raw,
        bases: bases
            .iter()
            .map(|base| BaseHead { digest: Digest::sha256(base), size: base.len() as u64, form: Form::Raw })
            .collect(),
    };
    let mut out = Vec::new();
    let length = write(&mut out, &head, [plain, nothing(), nothing()]).unwrap();
    assert_eq!(length, out.len() as u64);
    out
}

/// The patch of an empty stream.
pub fn nothing() -> FinishedStreamPatch {
    StreamPatch::new(&scratch()).unwrap().finish().unwrap()
}

/// Takes bytes from the start of others.
struct Taken<'a>(&'a [u8]);

impl<'a> Taken<'a> {
    fn bytes(&mut self, count: u64) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count as usize);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.bytes(1)[0];
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    }

    fn named(&mut self) -> (String, u64, u8) {
        let length = self.number();
        let text = String::from_utf8(self.bytes(length).to_vec()).unwrap();
        (text, self.number(), self.bytes(1)[0])
    }
}

/// A patch decoded by the text: target, bases, and the three streams, from the bases' streams.
pub struct Decoded {
    pub target: (String, u64, u8),
    pub bases: Vec<(String, u64, u8)>,
    pub streams: [Vec<u8>; 3],
    /// The first bytes of the operations of each.
    pub kinds: [Vec<u8>; 3],
}

/// Decodes a good patch; a bad one panics.
pub fn decode(blob: &[u8], bases: &[[&[u8]; 3]]) -> Decoded {
    let mut rest = Taken(blob);
    assert_eq!(rest.bytes(8), b"BARGEPT1");
    let target = rest.named();
    let count = rest.number();
    let named = (0..count).map(|_| rest.named()).collect();
    let lengths: Vec<[u64; 6]> = (0..3).map(|_| std::array::from_fn(|_| rest.number())).collect();
    let mut streams: [Vec<u8>; 3] = Default::default();
    let mut kinds: [Vec<u8>; 3] = Default::default();
    for (index, [length, ops, ops_raw, diff, diff_raw, data]) in lengths.into_iter().enumerate() {
        let unpack = |packed: &[u8], raw: u64| match raw {
            0 => Vec::new(),
            _ => zstd::bulk::decompress(packed, raw as usize).unwrap(),
        };
        let ops = unpack(rest.bytes(ops), ops_raw);
        let diff = unpack(rest.bytes(diff), diff_raw);
        let of: Vec<&[u8]> = bases.iter().map(|base| base[index]).collect();
        (streams[index], kinds[index]) = follow(&of, Taken(&ops), Taken(&diff), Taken(rest.bytes(data)));
        assert_eq!(streams[index].len() as u64, length);
    }
    assert_eq!(rest.0, b"", "after the last part");
    Decoded { target, bases: named, streams, kinds }
}

/// Follows the operations of one stream.
fn follow(bases: &[&[u8]], mut ops: Taken, mut diff: Taken, mut data: Taken) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut kinds, mut ends, mut frame) = (Vec::new(), Vec::new(), [0; 16], Vec::new());
    let mut segment = |ops: &mut Taken| {
        let base = ops.number() as usize;
        let away = ops.number();
        let half = (away / 2).cast_signed();
        let away = if away % 2 == 1 { -half - 1 } else { half };
        let offset = (ends[base] + away).unsigned_abs() as usize;
        let end = offset + ops.number() as usize;
        ends[base] = end.cast_signed() as i64;
        bases[base][offset..end].to_vec()
    };
    while !ops.0.is_empty() {
        let kind = ops.bytes(1)[0];
        kinds.push(kind);
        match kind {
            0 => out.extend(segment(&mut ops)),
            1 => {
                let old = segment(&mut ops);
                let new = diff.bytes(old.len() as u64);
                out.extend(old.iter().zip(new).map(|(old, new)| old.wrapping_add(*new)));
            }
            2 => out.extend(frame.drain(..ops.number() as usize)),
            3 => {
                assert!(frame.is_empty(), "the frame before is not used up");
                let (packed, raw, count) = (ops.number(), ops.number(), ops.number());
                let prefix: Vec<u8> = (0..count).flat_map(|_| segment(&mut ops)).collect();
                let mut context = DCtx::create();
                context.ref_prefix(&prefix).unwrap();
                frame = Vec::with_capacity(raw as usize);
                context.decompress(&mut frame, data.bytes(packed)).unwrap();
                assert_eq!(frame.len() as u64, raw);
            }
            other => panic!("operation {other}"),
        }
    }
    assert!(frame.is_empty() && diff.0.is_empty() && data.0.is_empty(), "all is used");
    (out, kinds)
}
