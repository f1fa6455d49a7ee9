//! Patches that are made give the new layer, are small where the layers are alike, and don't depend on how they are made.

mod limits;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::differ::{Piece, differ};
use super::*;
use crate::delta::layer::Form;
use crate::delta::patch::{Patch, rebuild};

fn scratch() -> Scratch {
    Scratch::new(&std::env::temp_dir())
}

fn layer(bytes: &[u8]) -> Layer {
    let mut open = || Ok(Box::new(bytes) as Box<dyn Read>);
    Layer::take_apart::<io::Error>(&mut open, None, &scratch()).unwrap()
}

/// Bytes that nothing packs, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Bytes of which no long stretch occurs twice, but short ones do.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let words: Vec<String> = (0..200).map(|_| format!("{:x} ", random.u32(..))).collect();
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        text.extend_from_slice(words[random.usize(..words.len())].as_bytes());
    }
    text.truncate(length);
    text
}

fn scan(plain: &Stream) -> io::Result<Vec<tar::Member>> {
    tar::scan(plain, tar::MEMBERS_MAX)
}

fn header(size: usize, mtime: u64) -> ::tar::Header {
    let mut header = ::tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(mtime);
    header.set_size(size as u64);
    header
}

fn tar_at<P: AsRef<str>, C: AsRef<[u8]>>(mtime: u64, files: &[(P, C)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, content) in files {
        let content = content.as_ref();
        builder.append_data(&mut header(content.len(), mtime), path.as_ref(), content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn tar<P: AsRef<str>, C: AsRef<[u8]>>(files: &[(P, C)]) -> Vec<u8> {
    tar_at(1_700_000_000, files)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bytes_of(stream: &Stream) -> Vec<u8> {
    let mut bytes = vec![0; stream.len() as usize];
    stream.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// How a patch is made.
#[derive(Clone, Copy)]
struct How {
    effort: Effort,
    memory: u64,
    threads: usize,
}

const USUAL: How = How { effort: Effort::Auto, memory: 512 << 20, threads: 2 };

/// Makes the patch from `olds` to `new`, checks that it gives `new` and that progress adds up, and returns it.
fn patch_of(new: &[u8], olds: &[&[u8]], how: How) -> Vec<u8> {
    let scratch = scratch();
    let target = Digest::sha256(new);
    let new_layer = layer(new);
    let digests: Vec<Digest> = olds.iter().map(|old| Digest::sha256(old)).collect();
    let layers: Vec<Arc<Layer>> = olds.iter().map(|old| Arc::new(layer(old))).collect();
    let bases: Vec<Base<'_>> =
        digests.iter().zip(&layers).map(|(digest, layer)| Base { digest, layer }).collect();
    let done = AtomicU64::new(0);
    let advance = |count: u64| {
        done.fetch_add(count, Ordering::Relaxed);
    };
    let How { effort, memory, threads } = how;
    let options = Options { effort, memory, threads, scratch: &scratch, advance: &advance };
    let made = make(&target, &new_layer, &bases, &options).unwrap();
    assert_eq!(done.into_inner(), new_layer.plain.len());
    let bytes = bytes_of(&made);
    let patch = Patch::open(made).unwrap();
    assert_eq!(patch.head().target, target);
    let mut rebuilt = Vec::new();
    rebuild(&patch, &layers, &mut rebuilt).unwrap();
    assert!(rebuilt == new, "the patch gives other bytes");
    bytes
}

/// Checks the patches between two plain layers and the same ones gzipped, at both efforts; returns the size of the usual one
/// between the plain ones.
fn check(new: &[u8], olds: &[&[u8]]) -> usize {
    let packed: Vec<Vec<u8>> = olds.iter().map(|old| gzip(old)).collect();
    let packed: Vec<&[u8]> = packed.iter().map(Vec::as_slice).collect();
    let max = How { effort: Effort::Max, ..USUAL };
    let usual = patch_of(new, olds, USUAL).len();
    assert!(patch_of(new, olds, max).len() <= usual + usual / 8 + 64);
    patch_of(&gzip(new), &packed, USUAL);
    patch_of(&gzip(new), olds, USUAL);
    patch_of(new, &packed, USUAL);
    usual
}

#[test]
fn files_that_moved_are_copied() {
    let (a, b, c) = (noise(1, 100_000), noise(2, 70_001), noise(3, 30_000));
    let old = tar(&[("usr/a", &a), ("usr/b", &b), ("usr/c", &c)]);
    let new = tar(&[("opt/elsewhere/b", &b), ("usr/a", &a), ("usr/other", &c)]);
    let size = check(&new, &[&old]);
    assert!(size < 500, "{size}");
}

#[test]
fn files_come_from_several_bases() {
    let (a, b) = (noise(1, 100_000), noise(2, 100_000));
    let new = tar(&[("a", &a), ("b", &b)]);
    let size = check(&new, &[&tar(&[("a", &a)]), &tar(&[("x", &b)])]);
    assert!(size < 500, "{size}");
}

#[test]
fn only_headers_changed() {
    let files: Vec<_> = (0..200_u64).map(|at| (format!("etc/{at}"), noise(at, 500 + at as usize))).collect();
    let size = check(&tar_at(1_700_000_000, &files), &[&tar_at(1_600_000_000, &files)]);
    assert!(size < 3_000, "{size}");
}

#[test]
fn libraries_with_another_version_in_their_names() {
    let old_content = text(1, 300_000);
    let mut new_content = old_content.clone();
    new_content.splice(150_000..150_010, *b"inserted here");
    let old = tar(&[("lib/libfoo.so.1.2.3", &old_content), ("lib/z", &text(9, 1000))]);
    let new = tar(&[("lib/libfoo.so.1.2.14", &new_content), ("lib/z", &text(9, 1000))]);
    let size = check(&new, &[&old]);
    assert!(size < 700, "{size}");
}

#[test]
fn renamed_files_are_found_by_what_is_in_them() {
    let old_content = text(1, 100_000);
    let mut new_content = old_content.clone();
    new_content[70_000..70_005].copy_from_slice(b"other");
    let old = tar(&[("assets/index-a.js", &old_content), ("assets/b", &text(5, 100_000))]);
    let new = tar(&[("assets/main-x.js", &new_content)]);
    let size = check(&new, &[&old]);
    assert!(size < 700, "{size}");
}

/// Code with an address in each 32 bytes; all addresses are moved by `by`.
fn code(by: u32, insert: usize) -> Vec<u8> {
    let mut code = b"\x7fELF".to_vec();
    let mut random = fastrand::Rng::with_seed(7);
    for at in 0..8_000 {
        if at == 4_000 {
            code.extend_from_slice(&noise(8, insert));
        }
        (0..28).for_each(|_| code.push(random.u8(..)));
        code.extend_from_slice(&(random.u32(..1 << 24) + by).to_le_bytes());
    }
    code
}

#[test]
fn executables_are_told_by_differences() {
    let old = tar(&[("bin/tool", code(0, 0))]);
    let new = tar(&[("bin/tool", code(4_096, 48))]);
    // A frame would need some bytes for each of the 8,000 addresses.
    let size = check(&new, &[&old]);
    assert!(size < 10_000, "{size}");
}

#[test]
fn large_files_are_cut() {
    let old_content = noise(1, 33 << 20);
    let mut new_content = old_content.clone();
    new_content.splice(9_000_000..9_000_000, noise(2, 5_000));
    new_content[20_000_000] ^= 1;
    let old = tar(&[("data", &old_content)]);
    let new = tar(&[("data", &new_content)]);
    let size = patch_of(&new, &[&old], USUAL).len();
    assert!(size < 6_500, "{size}");
    // No twin at all: as it is.
    let size = patch_of(&new, &[&tar(&[("b", b"")])], USUAL).len();
    assert!(size < new.len() + 5_000, "{size}");
}

#[test]
fn nothing_in_common() {
    let new = tar(&[("a", noise(1, 100_000)), ("b", noise(2, 5))]);
    let size = check(&new, &[&tar(&[("c", noise(3, 50_000))])]);
    assert!(size < 101_000, "{size}");
    check(&new, &[&noise(5, 2_000)]);
}

#[test]
fn what_is_no_tar() {
    let old = noise(1, 3_000_000);
    let mut new = old.clone();
    new.splice(1_000_000..1_000_100, noise(2, 333));
    new[2_000_000] ^= 7;
    let size = check(&new, &[&old]);
    assert!(size < 1_000, "{size}");
    // Bytes behind the end of a tar, and a tar that is cut short.
    let tar = tar(&[("a", noise(1, 10_000)), ("b", noise(2, 10_000))]);
    check(&[tar.as_slice(), &old].concat(), &[&tar]);
    check(&tar[..15_000], &[&tar]);
    check(&tar, &[&tar[..15_000]]);
    check(&tar[..300], &[&tar]);
}

#[test]
fn empty_layers() {
    let tar = tar(&[("a", noise(1, 10_000))]);
    let none = tar_at::<&str, &str>(0, &[]);
    for (new, old) in [(&[][..], &tar[..]), (&tar, &[]), (&none, &tar), (&tar, &none), (&[], &[])] {
        check(new, &[old]);
    }
}

#[test]
fn extended_headers() {
    let content = noise(1, 50_000);
    let long = format!("{}/file", "folder/".repeat(40));
    let build = |mtime: u64, stamp: &str| {
        let mut builder = ::tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("path", long.as_bytes()), ("mtime", stamp.as_bytes())]).unwrap();
        let mut short = header(content.len(), mtime);
        short.set_path("short").unwrap();
        short.set_cksum();
        builder.append(&short, content.as_slice()).unwrap();
        builder.append_data(&mut header(content.len(), mtime), &long, content.as_slice()).unwrap();
        builder.into_inner().unwrap()
    };
    let (old, new) = (build(5, "5.5"), build(6, "6.25"));
    let members = scan(&layer(&new).plain).unwrap();
    assert_eq!(members.len(), 3);
    assert_eq!(members[0].path, members[1].path);
    assert!(members[0].path != 0 && members[2].path == 0);
    let size = check(&new, &[&old]);
    assert!(size < 600, "{size}");
}

#[test]
fn old_sparse_files_are_plain_content() {
    let mut sparse = header(5_000, 5);
    sparse.set_entry_type(::tar::EntryType::GNUSparse);
    sparse.set_path("sparse").unwrap();
    sparse.set_cksum();
    let mut bytes = tar(&[("a", noise(1, 1_000))]);
    bytes.truncate(512 + 1_024);
    bytes.extend_from_slice(sparse.as_bytes());
    bytes.extend_from_slice(&noise(2, 5_120));
    assert_eq!(scan(&layer(&bytes).plain).unwrap().len(), 2);
    let size = check(&bytes, &[&bytes]);
    assert!(size < 300, "{size}");
}

#[test]
fn members_cover_the_stream() {
    let plain = tar(&[("a", noise(1, 1_000)), ("b/", vec![]), ("c", noise(2, 512))]);
    let members = scan(&layer(&plain).plain).unwrap();
    let mut at = 0;
    for member in &members {
        assert_eq!(member.start, at);
        assert!(member.content >= member.start);
        at = member.end();
    }
    assert_eq!(at, plain.len() as u64);
    assert_eq!(members.len(), 4);
}

#[test]
fn the_same_bytes_with_any_threads_and_memory() {
    let mut old: Vec<_> = (0..60_u64).map(|at| (format!("f{at}"), text(at, 400_000))).collect();
    old.push(("bin".into(), code(0, 0)));
    let mut new = old.clone();
    for (at, (_, content)) in new.iter_mut().enumerate() {
        content.splice(at * 1_000..at * 1_000 + 9, noise(at as u64, 200));
    }
    let (old, new) = (gzip(&tar(&old)), gzip(&tar(&new)));
    let usual = patch_of(&new, &[&old], USUAL);
    assert!(usual.len() < new.len() / 20, "{} of {}", usual.len(), new.len());
    for (threads, memory) in [(1, 512), (2, 256), (3, 4_096), (1, 0)] {
        let how = How { threads, memory: memory << 20, ..USUAL };
        assert!(patch_of(&new, &[&old], how) == usual, "{threads} threads, {memory} MiB");
    }
}

#[test]
fn too_many_bases_and_none() {
    let scratch = scratch();
    let digest = Digest::sha256(b"");
    let one = layer(b"bytes");
    let options =
        Options { effort: Effort::Auto, memory: 0, threads: 1, scratch: &scratch, advance: &|_| () };
    for count in [0, 17] {
        let bases = vec![Base { digest: &digest, layer: &one }; count];
        let error = make(&digest, &one, &bases, &options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(one.form, Form::Raw);
}

#[test]
fn fingerprints() {
    let old = tar(&[("a", noise(1, 1_000)), ("lib.so.1", noise(2, 400)), ("c", noise(3, 60))]);
    let new =
        tar(&[("b", noise(1, 1_000)), ("lib.so.20", noise(4, 200)), ("d", noise(5, 90)), ("e", vec![])]);
    let of = |bytes: &[u8]| fingerprint(&layer(bytes)).unwrap();
    let (old_print, new_print) = (of(&old), of(&gzip(&new)));
    assert_eq!(new_print, of(&new));
    assert_eq!(new_print.len(), 3);
    assert_eq!(new_print.shared(&old_print), 1_000 + 100);
    assert_eq!(old_print.shared(&new_print), 1_000 + 200);
    assert!(of(&noise(1, 5_000)).is_empty());
    assert_eq!(new_print.shared(&Fingerprint::default()), 0);
}

#[test]
fn jobs_end_at_the_first_error_and_come_in_order() {
    let jobs: Vec<u64> = (0..100).collect();
    let mut seen = Vec::new();
    let run = |job: &u64| if *job == 60 { Err(io::Error::other("sixty")) } else { Ok(*job) };
    let take = |index: usize, job: u64| {
        assert_eq!(index as u64, job);
        seen.push(job);
        Ok(())
    };
    let error = pool::run_all(&jobs, 50, 3, |job| *job, run, |_| 10, take).unwrap_err();
    assert_eq!(error.to_string(), "sixty");
    assert_eq!(seen, jobs[..60]);
}

/// Edits content: cuts, inserts, changes bytes, turns parts.
fn edit(content: &mut Vec<u8>, edits: &[(u8, u16, u8)]) {
    for (kind, place, amount) in edits {
        let at = *place as usize % (content.len() + 1);
        let end = (at + *amount as usize).min(content.len());
        match kind % 4 {
            0 => drop(content.drain(at..end)),
            1 => drop(content.splice(at..at, noise(u64::from(*place), *amount as usize))),
            2 => content[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(*amount)),
            _ => content.rotate_left(at),
        }
    }
}

/// A few files: name, seed, size, whether executable.
fn files() -> impl Strategy<Value = Vec<(u8, u64, usize, bool)>> {
    prop::collection::vec((0..12_u8, 0..6_u64, 0..5_000_usize, any::<bool>()), 0..8)
}

fn built(files: &[(u8, u64, usize, bool)]) -> Vec<(String, Vec<u8>)> {
    let content = |seed, size, executable: bool| {
        let mut content = if executable { b"\x7fELF".to_vec() } else { Vec::new() };
        content.extend(text(seed, size));
        content
    };
    files
        .iter()
        .map(|(name, seed, size, executable)| (format!("n{name}"), content(*seed, *size, *executable)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn edited_tars(
        old in files(),
        more in files(),
        edits in prop::collection::vec((any::<u8>(), any::<u16>(), any::<u8>()), 0..6),
        tail_edits in prop::collection::vec((any::<u8>(), any::<u16>(), any::<u8>()), 0..2),
        max in any::<bool>(),
    ) {
        let mut contents = built(&old);
        let old = tar(&contents);
        for (at, (_, content)) in contents.iter_mut().enumerate() {
            edit(content, &edits[at.min(edits.len())..]);
        }
        let other = built(&more);
        contents.extend(other.iter().take(2).cloned());
        let mut new = tar_at(1_700_000_001, &contents);
        edit(&mut new, &tail_edits);
        let other = tar(&other);
        let effort = if max { Effort::Max } else { Effort::Auto };
        let how = How { effort, ..USUAL };
        patch_of(&new, &[&old, &other], how);
        patch_of(&gzip(&new), &[&gzip(&old), &gzip(&other)], how);
    }

    #[test]
    fn differences(
        seed in 0..50_u64,
        size in 0..20_000_usize,
        edits in prop::collection::vec((any::<u8>(), any::<u16>(), any::<u8>()), 0..12),
    ) {
        let old = if seed % 2 == 0 { text(seed, size) } else { noise(seed % 4, size) };
        let mut new = old.clone();
        edit(&mut new, &edits);
        let mut at = 0;
        differ(&new, &old, |piece| match piece {
            Piece::Copy { offset, length } => {
                assert_eq!(new[at..at + length], old[offset..offset + length]);
                at += length;
            }
            Piece::Add { offset, length } => {
                assert!(length > 0 && offset + length <= old.len());
                at += length;
            }
            Piece::New { length } => at += length,
        });
        prop_assert_eq!(at, new.len());
    }
}
