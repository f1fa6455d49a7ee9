//! Catalogs that can't be used, as the command line tells it.

use std::time::Instant;

use barge::catalog::{DATABASE_LABEL, FILES_LABEL};
use barge::oci::media_type::OCI_LAYER_GZIP;

use crate::support::archives::write_layout;
use crate::support::barge::{Outcome, barge};
use crate::support::catalogs::{TABLES, labelled, sqlite};
use crate::support::images::{Blob, Content, gzip, layer_of, tar_of};

fn listed(content: &Content, root: &barge::oci::Descriptor) -> Outcome {
    let temp = tempfile::tempdir().unwrap();
    write_layout(&temp.path().join("layout"), content, &[("v1", root.clone())]);
    barge(["catalog", "list", "oci:layout"]).dir(temp.path()).run()
}

/// What listing an image with one label and one layer comes to.
fn list_of(label: (&str, &str), layers: &[Blob]) -> Outcome {
    let mut content = Content::new();
    let root = labelled(&mut content, "linux/amd64", layers, &[label], &["serve"]);
    listed(&content, &root).code(3)
}

const FILES: (&str, &str) = (FILES_LABEL, "/configs");
const DATABASE: (&str, &str) = (DATABASE_LABEL, "/database/index.db");

#[test]
fn an_image_without_labels_is_no_catalog() {
    list_of(("other", "label"), &[layer_of(&[("a", b"1")])])
        .stderr_has("error: the image sha256:")
        .stderr_has("is no operator catalog")
        .stderr_has(FILES_LABEL)
        .stderr_has("hint: name the image that a CatalogSource names");
}

#[test]
fn a_truncated_database_names_image_and_file() {
    let rows: Vec<String> = (0..500)
        .map(|at| format!("INSERT INTO operatorbundle (name, csv) VALUES ('b{at}', '{}');", "x".repeat(200)))
        .collect();
    let rows = rows.concat();
    let whole = sqlite(&format!("{TABLES}{rows}"));
    let cut = &whole[..whole.len() / 3];
    list_of(DATABASE, &[layer_of(&[("database/index.db", cut)])])
        .stderr_has("the database `/database/index.db` of the catalog in")
        .stderr_has("it is damaged or cut off")
        .stderr_has("hint: its bytes are what its digest says");
    list_of(DATABASE, &[layer_of(&[("database/index.db", b"nothing of the kind, at some length")])])
        .stderr_has("it is no SQLite database");
    list_of(DATABASE, &[layer_of(&[("other", b"1")])]).stderr_has("has no file `/database/index.db`");
}

#[test]
fn cyclic_replaces_are_told_with_package_and_channel() {
    let rows = "INSERT INTO package VALUES ('p', 'a'); INSERT INTO channel VALUES ('a', 'p', 'one');
        INSERT INTO operatorbundle (name) VALUES ('one'), ('two');
        INSERT INTO channel_entry VALUES (1, 'a', 'p', 'one', 2, 0), (2, 'a', 'p', 'two', 1, 1);";
    // It does not keep the catalog from being listed, only from being chosen from.
    let mut content = Content::new();
    let layers = [layer_of(&[("database/index.db", &sqlite(&format!("{TABLES}{rows}")))])];
    let root = labelled(&mut content, "linux/amd64", &layers, &[DATABASE], &["serve"]);
    let circle = "the channel `a`: replacing goes in a circle: it comes back to `one`";
    listed(&content, &root).success().stderr_has("a package can't be taken: `p`").stderr_has(circle);
    let temp = tempfile::tempdir().unwrap();
    write_layout(&temp.path().join("layout"), &content, &[("v1", root)]);
    let chosen = barge(["catalog", "images", "oci:layout", "--package", "p"]).dir(temp.path()).run();
    chosen.code(3).stderr_has("`p`").stderr_has("replacing goes in a circle: it comes back to `one`");
    let text = r#"{"schema":"olm.package","name":"p","defaultChannel":"a"}
        {"schema":"olm.channel","package":"p","name":"a","entries":[{"name":"one","replaces":"two"},{"name":"two","replaces":"one"}]}
        {"schema":"olm.bundle","package":"p","name":"one"}{"schema":"olm.bundle","package":"p","name":"two"}"#;
    let mut content = Content::new();
    let layers = [layer_of(&[("configs/c.json", text.as_bytes())])];
    let root = labelled(&mut content, "linux/amd64", &layers, &[FILES], &["serve"]);
    listed(&content, &root)
        .success()
        .stderr_has("warning: a channel has no head, so it can only be taken whole: `a` of `p`: replacing goes in a circle");
    let temp = tempfile::tempdir().unwrap();
    write_layout(&temp.path().join("layout"), &content, &[("v1", root)]);
    barge(["catalog", "images", "oci:layout"])
        .dir(temp.path())
        .run()
        .code(3)
        .stderr_has("the channel `a` of the package `p` has no head")
        .stderr_has("because: replacing goes in a circle: one → two → one")
        .stderr_has("--full");
}

#[test]
fn documents_that_are_none_are_named() {
    list_of(FILES, &[layer_of(&[("configs/p/c.json", b"{\"schema\":\"x\"}\n{\"name\":\"y\"}")])])
        .stderr_has("`/configs/p/c.json` of the catalog in")
        .stderr_has("document 2 (line 2): the document has no `schema`")
        .stderr_has(".indexignore");
    let mut bomb = "schema: x\na0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for level in 1..12 {
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(","));
    }
    let began = Instant::now();
    list_of(FILES, &[layer_of(&[("configs/bomb.yaml", bomb.as_bytes())])])
        .stderr_has("`/configs/bomb.yaml`")
        .stderr_has("it is not YAML that can be read");
    assert!(began.elapsed().as_secs() < 20);
    list_of(FILES, &[layer_of(&[("elsewhere/c.json", b"{}")])]).stderr_has("no document below `/configs`");
}

#[test]
fn a_layer_that_is_not_its_digest_is_named() {
    let layer = layer_of(&[("configs/c.json", b"{\"schema\":\"x\"}")]);
    let mut content = Content::new();
    let root = labelled(&mut content, "linux/amd64", std::slice::from_ref(&layer), &[FILES], &["serve"]);
    // Another good layer of the same length would be believed if nobody looked.
    let mut bytes = gzip(&tar_of(&[("configs/c.json", b"{\"schema\":\"y\"}")]));
    bytes.resize(layer.bytes.len(), 0);
    content.lie(&layer.digest, OCI_LAYER_GZIP, bytes);
    listed(&content, &root).code(3).stderr_has(&layer.digest.to_string()).stderr_has("is not that content");
}

#[test]
fn a_layer_of_a_gigabyte_of_zeros_is_refused_in_bounded_time() {
    use std::io::Write;
    let bomb = |name: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(1 << 30);
        header.set_mode(0o644);
        header.set_cksum();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..1024 {
            encoder.write_all(&zeros).unwrap();
        }
        Blob::new(OCI_LAYER_GZIP, encoder.finish().unwrap())
    };
    let good = layer_of(&[("configs/c.json", b"{\"schema\":\"x\"}")]);
    // What is below the folder is bounded by itself, before any of it is unpacked.
    let told = "is longer than the 536870912 bytes that are read of it";
    let unpacks = "it unpacks to more than 268435456 bytes, many times its size";
    for (name, told) in [("configs/bomb", told), ("elsewhere/bomb", unpacks)] {
        let bomb = bomb(name);
        let began = Instant::now();
        let refused = list_of(FILES, &[bomb.clone(), good.clone()]).stderr_has(told);
        if told == unpacks {
            refused.stderr_has(&bomb.digest.to_string());
        }
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    }
}
