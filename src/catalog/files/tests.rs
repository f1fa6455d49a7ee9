use std::time::Instant;

use tar::EntryType;

use super::*;
use crate::catalog::testing::{Memory, gzip, link, put};
use crate::oci::media_type::{OCI_LAYER, OCI_LAYER_GZIP};

const PLENTY: u64 = 1 << 30;

fn opened(memory: &mut Memory, layers: &[Descriptor]) -> ImageFiles {
    let image = memory.image(&[("a.label", "its value")], layers);
    ImageFiles::open(memory, &image, None).unwrap()
}

/// The files below `configs`, as texts.
fn tree(memory: &Memory, files: &ImageFiles) -> Vec<String> {
    let tree = files.read_tree(memory, "/configs", PLENTY).unwrap();
    tree.iter().map(|(path, bytes)| format!("{path}={}", String::from_utf8_lossy(bytes))).collect()
}

fn layer_of(memory: &mut Memory, make: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Descriptor {
    let mut tar = tar::Builder::new(Vec::new());
    make(&mut tar);
    memory.add(OCI_LAYER_GZIP, gzip(&tar.into_inner().unwrap()))
}

#[test]
fn upper_layers_win_and_hide() {
    let mut memory = Memory::default();
    let base = memory.layer(&[
        ("configs/", b""),
        ("configs/a", b"1"),
        ("configs/b", b"1"),
        ("configs/sub/c", b"1"),
        ("configs/gone/d", b"1"),
        ("configs/opaque/e", b"1"),
        ("configs/file", b"1"),
        ("configs/folder/g", b"1"),
        ("elsewhere/configs/x", b"1"),
    ]);
    let upper = memory.layer(&[
        ("./configs/b", b"2"),
        // A whiteout is about lower layers only, wherever in the layer it stands.
        ("configs/gone/new", b"2"),
        ("configs/.wh.gone", b""),
        ("configs/opaque/.wh..wh..opq", b""),
        ("configs/opaque/f", b"2"),
        ("configs/sub/.wh.c", b""),
        ("configs/file/inside", b"2"),
        ("configs/folder", b"2"),
        ("configs/.wh..wh.plnk", b""),
    ]);
    let files = opened(&mut memory, &[base, upper]);
    assert_eq!(
        tree(&memory, &files),
        ["a=1", "b=2", "file/inside=2", "folder=2", "gone/new=2", "opaque/f=2"]
    );
    assert_eq!(files.labels()["a.label"], "its value");
    assert_eq!(files.config()["architecture"], "amd64");
}

#[test]
fn a_folder_is_replaced_whole() {
    let mut memory = Memory::default();
    let base = memory.layer(&[("configs/old", b"1"), ("configs/deep/old", b"1")]);
    // As a filtered catalog is made: the whiteout first, then the folder again.
    let upper = memory.layer(&[(".wh.configs", b""), ("configs/", b""), ("configs/new", b"2")]);
    let last = memory.layer(&[("configs/last", b"3")]);
    let files = opened(&mut memory, &[base.clone(), upper, last]);
    assert_eq!(tree(&memory, &files), ["last=3", "new=2"]);
    // A symbolic link in its place hides it.
    let linked = layer_of(&mut memory, |tar| link(tar, "configs", EntryType::Symlink, "/etc", b""));
    let files = opened(&mut memory, &[base, linked]);
    assert!(tree(&memory, &files).is_empty());
}

#[test]
fn names_stay_inside_and_the_last_entry_of_a_name_counts() {
    let mut memory = Memory::default();
    let layer = layer_of(&mut memory, |tar| {
        put(tar, "/configs/absolute", b"1");
        put(tar, "../../configs/up", b"1");
        put(tar, "configs/../configs/./round", b"1");
        put(tar, "configs/../secret", b"1");
        put(tar, "configs/twice", b"1");
        put(tar, "configs/twice", b"2");
        put(tar, "configs/was", b"1");
        put(tar, "configs/was/now", b"2");
    });
    let files = opened(&mut memory, &[layer]);
    assert_eq!(tree(&memory, &files), ["absolute=1", "round=1", "twice=2", "up=1", "was/now=2"]);
}

#[test]
fn hard_links_are_content() {
    let mut memory = Memory::default();
    let base = memory.layer(&[("share/lower", b"lower"), ("configs/own", b"first")]);
    let upper = layer_of(&mut memory, |tar| {
        put(tar, "share/here", b"here");
        put(tar, "configs/own", b"second");
        link(tar, "configs/a", EntryType::Link, "configs/own", b"");
        link(tar, "configs/b", EntryType::Link, "/share/here", b"");
        link(tar, "configs/c", EntryType::Link, "share/lower", b"");
        link(tar, "share/again", EntryType::Link, "share/here", b"");
        link(tar, "configs/e", EntryType::Link, "share/again", b"");
    });
    let files = opened(&mut memory, &[base.clone(), upper]);
    assert_eq!(tree(&memory, &files), ["a=second", "b=here", "c=lower", "e=here", "own=second"]);
    let round = layer_of(&mut memory, |tar| link(tar, "configs/x", EntryType::Link, "configs/x", b""));
    let files = opened(&mut memory, &[base.clone(), round]);
    let error = files.read_tree(&memory, "configs", PLENTY).unwrap_err();
    assert!(matches!(error, ImageFilesError::Link { .. }), "{error}");
    let nowhere = layer_of(&mut memory, |tar| link(tar, "configs/x", EntryType::Link, "none", b""));
    let files = opened(&mut memory, &[base, nowhere]);
    let error = files.read_tree(&memory, "configs", PLENTY).unwrap_err();
    assert!(matches!(error, ImageFilesError::Link { .. }), "{error}");
}

#[test]
fn layers_may_be_plain_gzip_or_zstd_whatever_they_are_called() {
    let mut memory = Memory::default();
    let mut layers = Vec::new();
    for (at, name) in ["plain", "zstd", "gzip"].into_iter().enumerate() {
        let mut tar = tar::Builder::new(Vec::new());
        put(&mut tar, &format!("configs/{name}"), b"x");
        let bytes = tar.into_inner().unwrap();
        let bytes = match at {
            0 => bytes,
            1 => zstd::encode_all(&bytes[..], 3).unwrap(),
            // Two members are one stream (RFC 1952, 2.2).
            _ => [gzip(&bytes[..300]), gzip(&bytes[300..])].concat(),
        };
        layers.push(memory.add(OCI_LAYER, bytes));
    }
    let files = opened(&mut memory, &layers);
    assert_eq!(tree(&memory, &files), ["gzip=x", "plain=x", "zstd=x"]);
    let other = memory.add(OCI_LAYER, &b"\xfd7zXZ\0rest"[..]);
    let error = opened(&mut memory, &[other]).read_tree(&memory, "", PLENTY).unwrap_err();
    assert!(error.to_string().contains("is compressed with xz"), "{error}");
}

#[test]
fn a_layer_that_is_not_its_digest_is_named() {
    let mut memory = Memory::default();
    let layer = memory.layer(&[("configs/a", b"1")]);
    let other = gzip(&vec![7; 4096]);
    for damaged in [other, gzip(b""), b"short".to_vec()] {
        let mut bytes = damaged;
        bytes.resize(layer.size as usize, 0);
        memory.damage(&layer.digest, bytes);
        let files = opened(&mut memory, std::slice::from_ref(&layer));
        for error in [
            files.read_tree(&memory, "configs", PLENTY).unwrap_err(),
            files.extract(&memory, "configs/a", &mut Vec::new(), PLENTY).unwrap_err(),
        ] {
            assert!(matches!(error, ImageFilesError::Store(StoreError::Damaged { .. })), "{error:?}");
            assert!(error.to_string().contains(&layer.digest.to_string()), "{error}");
        }
    }
    // Right bytes that are no tar file.
    let junk = memory.add(OCI_LAYER, vec![7; 4096]);
    let error = opened(&mut memory, &[junk]).read_tree(&memory, "configs", PLENTY).unwrap_err();
    assert!(matches!(error, ImageFilesError::Layer { .. }), "{error:?}");
}

#[test]
fn one_file_is_the_uppermost() {
    let mut memory = Memory::default();
    let base = memory.layer(&[("database/index.db", b"old"), ("other", b"1")]);
    let middle = memory.layer(&[("database/index.db", b"new")]);
    let top = memory.layer(&[("unrelated", b"1")]);
    let take = |memory: &Memory, files: &ImageFiles, path: &str, limit| {
        let mut bytes = Vec::new();
        files.extract(memory, path, &mut bytes, limit).map(|()| String::from_utf8(bytes).unwrap())
    };
    let files = opened(&mut memory, &[base.clone(), middle.clone(), top]);
    assert_eq!(take(&memory, &files, "/database/index.db", 3).unwrap(), "new");
    let error = take(&memory, &files, "database/index.db", 2).unwrap_err();
    assert!(matches!(error, ImageFilesError::TooLarge { limit: 2, .. }), "{error}");
    assert!(matches!(take(&memory, &files, "none", 9), Err(ImageFilesError::NoFile { .. })));
    for (name, is_there) in [
        ("database/.wh.index.db", false),
        (".wh.database", false),
        ("database/.wh..wh..opq", false),
        ("database/.wh.other", true),
    ] {
        let hide = memory.layer(&[(name, b"")]);
        let files = opened(&mut memory, &[base.clone(), hide]);
        assert_eq!(take(&memory, &files, "database/index.db", 9).is_ok(), is_there, "{name}");
    }
    let linked = layer_of(&mut memory, |tar| link(tar, "db", EntryType::Link, "database/index.db", b""));
    let files = opened(&mut memory, &[base, linked, middle]);
    assert_eq!(take(&memory, &files, "db", 9).unwrap(), "old");
}

#[test]
fn bombs_are_refused_in_bounded_time() {
    let began = Instant::now();
    let mut memory = Memory::default();
    let limit = 64 * 1024 * 1024;
    // Zeros are the end mark of a tar file, so the bomb is a file of zeros.
    let bomb = |memory: &mut Memory, name: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_size(1 << 30);
        header.set_cksum();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..1024 {
            encoder.write_all(&zeros).unwrap();
        }
        memory.add(OCI_LAYER_GZIP, encoder.finish().unwrap())
    };
    let within = bomb(&mut memory, "configs/bomb");
    let files = opened(&mut memory, std::slice::from_ref(&within));
    let error = files.read_tree(&memory, "configs", limit).unwrap_err();
    assert!(matches!(error, ImageFilesError::TooLarge { .. }), "{error}");
    let beside = bomb(&mut memory, "elsewhere/bomb");
    let good = memory.layer(&[("configs/a", b"1")]);
    let files = opened(&mut memory, &[beside.clone(), good]);
    let error = files.read_tree(&memory, "configs", limit).unwrap_err();
    assert!(error.to_string().contains("it unpacks to more than "), "{error}");
    assert!(error.to_string().contains(&beside.digest.to_string()));
    // Many small files are no way around.
    let many: Vec<(String, &[u8])> = (0..2000).map(|at| (format!("configs/{at}"), &b""[..])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let many = memory.layer(&many);
    let error = opened(&mut memory, &[many]).read_tree(&memory, "configs", 200_000).unwrap_err();
    assert!(matches!(error, ImageFilesError::TooLarge { .. }), "{error}");
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn the_platform_is_chosen_and_else_the_first_that_runs() {
    let mut memory = Memory::default();
    let amd = memory.image(&[("which", "amd64")], &[]);
    let arm = memory.image(&[("which", "arm64")], &[]);
    let config = memory.add("application/vnd.example+json", "{}");
    let artifact = memory.image_of(&config, &[]);
    let index = memory.index(&[
        (&artifact, "linux/amd64"),
        (&artifact, "unknown/unknown"),
        (&amd, "linux/amd64"),
        (&arm, "linux/arm64"),
    ]);
    let which = |memory: &Memory, root: &Descriptor, platform: Option<&str>| {
        let platform = platform.map(|text| text.parse().unwrap());
        ImageFiles::open(memory, root, platform.as_ref()).map(|files| files.labels()["which"].clone())
    };
    assert_eq!(which(&memory, &index, None).unwrap(), "amd64");
    assert_eq!(which(&memory, &index, Some("linux/arm64")).unwrap(), "arm64");
    assert_eq!(which(&memory, &index, Some("linux/s390x")).unwrap(), "amd64");
    let outer = memory.index(&[(&index, "linux/amd64")]);
    assert_eq!(which(&memory, &outer, Some("linux/arm64")).unwrap(), "arm64");
    // A sparse copy.
    memory.remove(&amd.digest);
    assert_eq!(which(&memory, &index, None).unwrap(), "arm64");
    memory.remove(&arm.digest);
    assert!(
        matches!(which(&memory, &index, None), Err(ImageFilesError::Store(error)) if error.is_not_found())
    );

    let empty = memory.index(&[(&artifact, "linux/amd64")]);
    assert!(matches!(which(&memory, &empty, None), Err(ImageFilesError::NoRunnable { .. })));
    assert!(matches!(which(&memory, &artifact, None), Err(ImageFilesError::NotAnImage { .. })));
}

/// An entry of any name, however long.
fn long(tar: &mut tar::Builder<Vec<u8>>, name: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    let long = [name.as_bytes(), b"\0"].concat();
    let mut extension = tar::Header::new_gnu();
    extension.set_entry_type(EntryType::GNULongName);
    extension.set_size(long.len() as u64);
    extension.set_cksum();
    tar.append(&extension, &long[..]).unwrap();
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
}

#[test]
fn deep_paths_and_long_whiteouts_are_bounded() {
    let mut memory = Memory::default();
    let endless = layer_of(&mut memory, |tar| long(tar, &format!("configs/{}x", "a/".repeat(100_000))));
    let error = opened(&mut memory, &[endless]).read_tree(&memory, "configs", PLENTY).unwrap_err();
    assert!(crate::store::chain(&error).contains("it is longer than 4096 bytes"), "{error}");
    let deep = layer_of(&mut memory, |tar| long(tar, &format!("configs/{}x", "a/".repeat(1000))));
    let error = opened(&mut memory, &[deep]).read_tree(&memory, "configs", PLENTY).unwrap_err();
    assert!(error.to_string().contains("more than 256 folders deep"), "{error}");
    // What hides costs what its name is long.
    let whiteouts = layer_of(&mut memory, |tar| {
        for at in 0..50 {
            long(tar, &format!("configs/.wh.{at}-{}", "w".repeat(3000)));
        }
    });
    let files = opened(&mut memory, &[whiteouts]);
    assert!(files.read_tree(&memory, "configs", PLENTY).is_ok());
    let error = files.read_tree(&memory, "configs", 50 * 3000).unwrap_err();
    assert!(matches!(error, ImageFilesError::TooLarge { .. }), "{error}");
    // A folder of an upper layer is no file of a lower one, however it is known.
    let base = memory.layer(&[("configs/a", b"1"), ("configs/a-b", b"1")]);
    let upper = memory.layer(&[("configs/a/b/c", b"2"), ("configs/a-c", b"2")]);
    let files = opened(&mut memory, &[base, upper]);
    assert_eq!(tree(&memory, &files), ["a-b=1", "a-c=2", "a/b/c=2"]);
}

#[test]
fn what_all_layers_come_to_is_bounded() {
    let began = Instant::now();
    let mut memory = Memory::default();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut header = tar::Header::new_gnu();
    header.set_path("elsewhere/zeros").unwrap();
    header.set_size(200 << 20);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    for _ in 0..200 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let zeros = memory.add(OCI_LAYER_GZIP, encoder.finish().unwrap());
    let good = memory.layer(&[("configs/a", b"1")]);
    let layers = |count| [vec![good.clone()], vec![zeros.clone(); count]].concat();
    let files = opened(&mut memory, &layers(500));
    for error in [
        files.read_tree(&memory, "configs", PLENTY).unwrap_err(),
        files.extract(&memory, "configs/a", &mut Vec::new(), PLENTY).unwrap_err(),
    ] {
        assert!(matches!(error, ImageFilesError::TooMuch { .. }), "{error}");
    }
    // A layer that is longer by its word only allows nothing more.
    let files = opened(&mut memory, &layers(2));
    assert!(files.read_tree(&memory, "configs", PLENTY).is_ok());
    let image = memory.image(&[], &layers(10_000));
    let error = ImageFiles::open(&memory, &image, None).unwrap_err();
    assert!(matches!(error, ImageFilesError::TooManyLayers { count: 10_001, .. }), "{error}");
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn symbolic_links_are_followed_within_the_image() {
    let mut memory = Memory::default();
    let base = memory.layer(&[("shared/a", b"old"), ("catalog/sub/x", b"1"), ("database/v1.db", b"db")]);
    let upper = layer_of(&mut memory, |tar| {
        put(tar, "shared/a", b"new");
        link(tar, "catalog/a", EntryType::Symlink, "../shared/a", b"");
        link(tar, "catalog/b", EntryType::Symlink, "/linked/a", b"");
        link(tar, "linked", EntryType::Symlink, "shared", b"");
        link(tar, "configs", EntryType::Symlink, "catalog", b"");
        link(tar, "database/index.db", EntryType::Symlink, "v1.db", b"");
    });
    let files = opened(&mut memory, &[base.clone(), upper]);
    assert_eq!(tree(&memory, &files), ["a=new", "b=new", "sub/x=1"]);
    let mut bytes = Vec::new();
    files.extract(&memory, "/database/index.db", &mut bytes, PLENTY).unwrap();
    assert_eq!(bytes, b"db");
    for (target, why) in [
        (
            "none",
            "`/configs/x` of the image in memory is a link that can't be followed: the image has no file `/configs/none`",
        ),
        ("x", "or in a circle"),
        ("../../../etc/passwd", "the image has no file `/etc/passwd`"),
    ] {
        let bad = layer_of(&mut memory, |tar| link(tar, "configs/x", EntryType::Symlink, target, b""));
        let error =
            opened(&mut memory, &[base.clone(), bad]).read_tree(&memory, "configs", PLENTY).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn many_links_to_one_file_are_one_reading_and_to_many_an_error_of_its_own() {
    let mut memory = Memory::default();
    let names: Vec<String> = (0..65).map(|at| format!("shared/{at}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"1"[..])).collect();
    let base = memory.layer(&files);
    let linked = |memory: &mut Memory, same: bool| {
        layer_of(memory, |tar| {
            for (at, name) in names.iter().enumerate() {
                let to = if same { "shared/0" } else { name };
                link(tar, &format!("configs/{at}"), EntryType::Link, to, b"");
            }
        })
    };
    let upper = linked(&mut memory, true);
    let files = opened(&mut memory, &[base.clone(), upper]);
    assert_eq!(tree(&memory, &files).len(), 65);
    let upper = linked(&mut memory, false);
    let error = opened(&mut memory, &[base, upper]).read_tree(&memory, "configs", PLENTY).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has links to 65 files outside it or in lower layers, and no more than 64"),
        "{error}"
    );
}
