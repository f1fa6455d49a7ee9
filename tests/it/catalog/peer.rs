//! The merged file system of an image, as umoci unpacks it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use barge::catalog::files::ImageFiles;
use barge::store::Source;
use barge::store::layout::LayoutDirectory;

use crate::support::archives::write_layout;
use crate::support::catalogs::labelled;
use crate::support::images::{Blob, Content, gzip};
use crate::support::peers::umoci;
use crate::support::tarball::{TarFormat, TarWriter};

fn layer(make: impl FnOnce(&mut TarWriter<Vec<u8>>)) -> Blob {
    let mut tar = TarWriter::new(Vec::new(), TarFormat::Pax);
    make(&mut tar);
    let tar = tar.finish();
    let mut blob = Blob::new(barge::oci::media_type::OCI_LAYER_GZIP, gzip(&tar));
    blob.diff_id = barge::oci::Digest::sha256(&tar);
    blob
}

fn unpacked(folder: &Path, below: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        // What links lead to is read too, as opm reads it.
        let path = entry.unwrap().path();
        if path.is_dir() {
            unpacked(&path, below, files);
        } else {
            files.insert(
                path.strip_prefix(below).unwrap().to_str().unwrap().to_owned(),
                fs::read(&path).unwrap(),
            );
        }
    }
}

#[test]
fn files_are_those_that_umoci_unpacks() {
    let layers = [
        layer(|tar| {
            tar.directory("configs/");
            for name in
                ["a", "b", "gone/one", "gone/two/three", "opaque/old", "folder/x", "file", "kept/deep/y"]
            {
                tar.file(&format!("configs/{name}"), format!("lower {name}").as_bytes());
            }
            tar.hardlink("configs/link", "configs/a");
            tar.symlink("configs/symbolic", "a");
            tar.file("share/outside", b"outside");
        }),
        layer(|tar| {
            tar.file("configs/b", b"upper b");
            tar.file("configs/.wh.gone", b"");
            tar.directory("configs/opaque/");
            tar.file("configs/opaque/.wh..wh..opq", b"");
            tar.file("configs/opaque/new", b"new");
            tar.file("configs/kept/deep/.wh.y", b"");
            tar.file("configs/kept/deep/z", b"z");
            tar.file("configs/.wh.folder", b"");
            tar.file(&format!("configs/{}end", "long-name/".repeat(20)), b"long");
        }),
        layer(|tar| {
            tar.file("configs/folder", b"a file now");
            tar.file("configs/.wh.file", b"");
            tar.file("configs/gone/again", b"again");
            tar.file("share/here", b"here");
            tar.hardlink("configs/from-here", "share/here");
            tar.hardlink("configs/from-below", "share/outside");
        }),
    ];
    let mut content = Content::new();
    let root = labelled(&mut content, "linux/amd64", &layers, &[], &["/bin/true"]);
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("layout");
    write_layout(&folder, &content, &[("v1", root)]);

    let layout = LayoutDirectory::open(&folder).unwrap();
    let files = ImageFiles::open(&layout, &layout.resolve("v1").unwrap(), None).unwrap();
    let read = files.read_tree(&layout, "/configs", 1 << 20).unwrap();

    let bundle = temp.path().join("bundle");
    umoci(["unpack", "--rootless", "--image", &format!("{}:v1", folder.display()), bundle.to_str().unwrap()]);
    let configs = bundle.join("rootfs/configs");
    let mut expected = BTreeMap::new();
    unpacked(&configs, &configs, &mut expected);
    assert_eq!(read, expected);
    assert_eq!(read["from-below"], b"outside");
    let mut one = Vec::new();
    files.extract(&layout, "configs/folder", &mut one, 100).unwrap();
    assert_eq!(one, b"a file now");
}
