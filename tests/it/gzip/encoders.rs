//! Streams of real encoders, at their levels and strategies.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Parts, apart, joined, there_and_back};
use crate::support::archives::write_layout;
use crate::support::images::{Content, noise, plain_layer, tar_of};
use crate::support::peers::{command, run, skopeo};

/// A tar like those of layers: this package's texts, a program, bytes that don't compress, many small files.
fn content() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for file in walkdir::WalkDir::new(root.join("src")).sort_by_file_name().into_iter().map(Result::unwrap) {
        if file.file_type().is_file() {
            let name = file.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read(file.path()).unwrap()));
        }
    }
    let mut program = fs::read(env!("CARGO_BIN_EXE_barge")).unwrap();
    program.truncate(3_000_000);
    files.push(("bin/program".to_owned(), program));
    files.push(("noise".to_owned(), noise(5, 300_000)));
    files.push(("zeros".to_owned(), vec![0; 400_000]));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    tar_of(&files)
}

/// Checks that a stream comes back from its parts, and that the plain bytes are among these.
#[track_caller]
fn check(what: &str, gzip: &[u8], plain: &[u8]) -> Parts {
    assert_eq!(&gzip[..3], &[0x1f, 0x8b, 8], "{what} is no gzip stream");
    let parts = apart(gzip).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(parts.plain == plain, "{what}: other plain bytes");
    assert!(joined(&parts).unwrap() == gzip, "{what}: joined to something else");
    parts
}

/// Checks also that the tokens and blocks of a stream with blocks of usual size are no larger than they should be.
#[track_caller]
fn check_usual(what: &str, gzip: &[u8], plain: &[u8]) {
    let parts = check(what, gzip, plain);
    assert!(parts.blocks.len() * 100 < gzip.len(), "{what}: {} bytes of blocks", parts.blocks.len());
    // They are packed later; texts compress so well that their tokens may be a little longer than the stream.
    assert!(
        parts.tokens.len() * 4 < gzip.len() * 5,
        "{what}: {} bytes of tokens for {}",
        parts.tokens.len(),
        gzip.len()
    );
}

/// The output of a program on a file, which is its last argument.
fn output(program: &str, args: &[&str], file: &Path) -> Vec<u8> {
    run(command(program).args(args).arg(file)).stdout
}

fn in_a_file(bytes: &[u8]) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("layer.tar");
    fs::write(&file, bytes).unwrap();
    (folder, file)
}

#[test]
fn g_1_gzip_and_pigz_come_back() {
    let plain = content();
    let (_folder, file) = in_a_file(&plain);
    for program in ["gzip", "pigz"] {
        for level in ["-1", "-6", "-9"] {
            check_usual(&format!("{program} {level}"), &output(program, &[level, "-c"], &file), &plain);
        }
    }
    // Blocks of its own, a member with a name, and streams of independent pieces.
    check("pigz -b", &output("pigz", &["-p", "4", "-b", "32", "-c"], &file), &plain);
    check("pigz -i", &output("pigz", &["-p", "2", "-i", "-N", "-c"], &file), &plain);
    check("gzip --rsyncable", &output("gzip", &["--rsyncable", "-N", "-c"], &file), &plain);
}

#[test]
fn g_1_zopfli_comes_back() {
    let plain = &content()[..200_000];
    let (_folder, file) = in_a_file(plain);
    check("zopfli", &output("zopfli", &["--i1", "-c"], &file), plain);
    // pigz has zopfli at level 11.
    check("pigz -11", &output("pigz", &["-11", "-I", "1", "-c"], &file), plain);
}

#[test]
fn g_1_go_comes_back() {
    const SOURCE: &str = r#"package main

import (
	"compress/gzip"
	"io"
	"os"
	"strconv"
)

func main() {
	level, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	file, err := os.Open(os.Args[2])
	if err != nil {
		panic(err)
	}
	out, err := gzip.NewWriterLevel(os.Stdout, level)
	if err != nil {
		panic(err)
	}
	if _, err := io.Copy(out, file); err != nil {
		panic(err)
	}
	if err := out.Close(); err != nil {
		panic(err)
	}
}
"#;
    let plain = content();
    let (folder, file) = in_a_file(&plain);
    let (source, program) = (folder.path().join("main.go"), folder.path().join("compress"));
    fs::write(&source, SOURCE).unwrap();
    let mut go = command("go");
    go.args(["build", "-o"]).arg(&program).arg(&source).current_dir(folder.path());
    go.env("GO111MODULE", "off").env("GOCACHE", folder.path().join("cache")).env("GOFLAGS", "");
    run(go.env("HOME", folder.path()));
    // Two is for Huffman codes only, as -2 is called.
    for level in ["1", "6", "9", "0", "-2"] {
        let gzip = output(program.to_str().unwrap(), &[level], &file);
        check_usual(&format!("Go at {level}"), &gzip, &plain);
    }
}

#[test]
fn g_1_pgzip_of_skopeo_comes_back() {
    let plain = content();
    let mut image = Content::new();
    let layer = crate::support::images::Blob::new("application/vnd.oci.image.layer.v1.tar", plain.clone());
    let root = image.image("linux/amd64", &[layer, plain_layer(3, 5000)]);
    let folder = TempDir::new().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    write_layout(&from, &image, &[("v1", root)]);
    let of = |path: &Path| format!("oci:{}:v1", path.display());
    skopeo(["copy", "--dest-compress", "--dest-compress-format", "gzip", &of(&from), &of(&to)]);
    let mut found = 0;
    for blob in fs::read_dir(to.join("blobs/sha256")).unwrap() {
        let bytes = fs::read(blob.unwrap().path()).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let parts = there_and_back(&bytes);
            found += usize::from(parts.plain == plain);
        }
    }
    assert_eq!(found, 1, "skopeo did not compress the layer");
}

#[test]
fn g_1_zlib_comes_back_at_all_levels_and_strategies() {
    const SCRIPT: &str = r"
import os, sys, zlib
plain = open(sys.argv[1], 'rb').read()
for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED):
    for level in range(10):
        memory = (8, 1, 9)[level % 3]
        z = zlib.compressobj(level, zlib.DEFLATED, 31 if level % 2 else 25, memory, strategy)
        out = b''
        flushes = (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_BLOCK)
        for part in range(0, len(plain), 100000):
            out += z.compress(plain[part:part + 100000])
            if level > 5:
                out += z.flush(flushes[part // 100000 % 4])
        out += z.flush()
        open(os.path.join(sys.argv[2], '%d-%d.gz' % (strategy, level)), 'wb').write(out)
";
    let plain = content();
    let plain = &plain[plain.len() - 2_300_000..plain.len() - 500_000];
    let (folder, file) = in_a_file(plain);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    run(command("python3").args(["-c", SCRIPT]).arg(&file).arg(&out));
    let mut found = 0;
    for gzip in fs::read_dir(&out).unwrap().map(Result::unwrap) {
        check(&gzip.file_name().into_string().unwrap(), &fs::read(gzip.path()).unwrap(), plain);
        found += 1;
    }
    assert_eq!(found, 50);
}

/// Bytes that compress, neither too well nor too badly.
fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        proptest::collection::vec(0_u8..4, 0..3000),
        (any::<u8>(), 0_usize..2000).prop_map(|(byte, count)| vec![byte; count]),
        "[a-e ]{0,300}".prop_map(String::into_bytes),
    ];
    (proptest::collection::vec(piece, 0..12), 1_usize..20)
        .prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_back(
        members in proptest::collection::vec((some_bytes(), 0_u32..10), 1..4),
        flushed in any::<bool>(),
    ) {
        let (mut gzip, mut plain) = (Vec::new(), Vec::new());
        for (bytes, level) in members {
            let mut out = GzBuilder::new().filename("a").write(&mut gzip, Compression::new(level));
            for part in bytes.chunks(999) {
                out.write_all(part).unwrap();
                if flushed {
                    out.flush().unwrap();
                }
            }
            out.finish().unwrap();
            plain.extend(bytes);
        }
        prop_assert!(there_and_back(&gzip).plain == plain);
    }
}
