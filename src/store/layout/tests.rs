use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::oci::media_type::{DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::store::read_manifest;

/// A layout in memory, to be written as a folder or as a tar file.
#[derive(Default, Clone)]
struct Model {
    blobs: BTreeMap<String, Vec<u8>>,
    entries: Vec<serde_json::Value>,
}

impl Model {
    fn blob(&mut self, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        self.blobs.insert(digest.blob_path(), content.to_vec());
        digest
    }

    /// Adds an image whose content differs by `seed`, optionally attached to another.
    fn image(&mut self, seed: &str, subject: Option<&Digest>) -> Descriptor {
        let config = format!("{{\"seed\":\"{seed}\"}}");
        let config_digest = self.blob(config.as_bytes());
        let mut body = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": config.len()},
            "layers": [],
        });
        if let Some(subject) = subject {
            body["subject"] = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 2});
        }
        let bytes = body.to_string();
        self.blob(bytes.as_bytes());
        Descriptor::of(OCI_MANIFEST, bytes.as_bytes())
    }

    fn index(&mut self, children: &[&Descriptor]) -> Descriptor {
        let children: Vec<_> = children.iter().map(|child| json(child, None)).collect();
        let bytes = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
            .to_string();
        self.blob(bytes.as_bytes());
        Descriptor::of(OCI_INDEX, bytes.as_bytes())
    }

    fn list(&mut self, descriptor: &Descriptor, name: Option<&str>) {
        self.entries.push(json(descriptor, name));
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": self.entries}).to_string();
        let mut files: Vec<_> = self.blobs.clone().into_iter().collect();
        // After the blobs, as many producers write it.
        files.push(("index.json".to_owned(), index.into_bytes()));
        files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in self.files() {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn archive(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in self.files() {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("./{name}"), &content[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Opens the model in both forms.
    fn both(&self) -> (TempDir, Vec<Box<dyn Source>>) {
        let folder = self.folder();
        let file = folder.path().join("layout.tar");
        fs::write(&file, self.archive()).unwrap();
        let sources: Vec<Box<dyn Source>> = vec![
            Box::new(LayoutDirectory::open(folder.path()).unwrap()),
            Box::new(LayoutArchive::open(&file).unwrap()),
        ];
        (folder, sources)
    }
}

fn json(descriptor: &Descriptor, name: Option<&str>) -> serde_json::Value {
    let mut value = serde_json::json!({
        "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
    });
    if let Some(name) = name {
        value["annotations"] = serde_json::json!({REF_NAME: name});
    }
    value
}

fn opened(bytes: &[u8]) -> Result<LayoutArchive> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    fs::write(&path, bytes).unwrap();
    LayoutArchive::open(&path)
}

fn message<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn selectors_mean_names_references_tags_and_digests() {
    let mut model = Model::default();
    let (a, b, child) = (model.image("a", None), model.image("b", None), model.image("child", None));
    let index = model.index(&[&child]);
    model.list(&a, Some("registry.example/app:v1"));
    model.list(&b, Some("v2"));
    model.list(&index, Some("docker.io/library/tool:latest"));
    let (_folder, sources) = model.both();
    for source in &sources {
        for (selector, wanted) in [
            ("registry.example/app:v1", &a),
            ("v1", &a),
            ("v2", &b),
            ("tool", &index),
            ("tool:latest", &index),
            ("latest", &index),
            (&b.digest.to_string(), &b),
            (&format!("anything.example/x:y@{}", a.digest), &a),
            // Listed nowhere but in the nested index.
            (&child.digest.to_string(), &child),
        ] {
            assert_eq!(source.resolve(selector).unwrap().digest, wanted.digest, "{selector}");
        }
        for missing in
            ["v3", "app", "other.example/app:v1", "registry.example/app", &Digest::sha256(b"no").to_string()]
        {
            assert!(source.resolve(missing).unwrap_err().is_not_found(), "{missing}");
        }
        let bytes = read_manifest(&**source, &child).unwrap();
        assert!(child.digest.matches(&bytes));
        assert_eq!(source.resolve(&child.digest.to_string()).unwrap().media_type, OCI_MANIFEST);
        // A blob that is no manifest can't be resolved.
        let config = Digest::sha256(br#"{"seed":"a"}"#);
        assert!(matches!(source.resolve(&config.to_string()), Err(StoreError::Manifest { .. })));
    }
}

#[test]
fn a_name_of_two_images_is_refused_with_both_digests() {
    let mut model = Model::default();
    let (a, b) = (model.image("a", None), model.image("b", None));
    model.list(&a, Some("one.example/app:v1"));
    model.list(&b, Some("two.example/app:v1"));
    model.list(&a, Some("one.example/app:v1"));
    let (_folder, sources) = model.both();
    for source in &sources {
        for selector in ["v1", ""] {
            let text = message(source.resolve(selector));
            assert!(text.contains(&a.digest.to_string()) && text.contains(&b.digest.to_string()), "{text}");
        }
        // The same digest twice is one image.
        assert_eq!(source.resolve("one.example/app:v1").unwrap().digest, a.digest);
    }
}

#[test]
fn an_empty_selector_means_the_only_image() {
    let mut model = Model::default();
    let image = model.image("a", None);
    let signature = model.image("s", None);
    model.list(&image, None);
    let tag = crate::store::attached_tag(&image.digest, ".sig");
    model.list(&signature, Some(&tag));
    let (_folder, sources) = model.both();
    for source in &sources {
        assert_eq!(source.resolve("").unwrap().digest, image.digest);
    }
}

#[test]
fn names_keep_order_and_prefer_the_full_reference() {
    let mut model = Model::default();
    let image = model.image("a", None);
    model.list(&image, Some("b.example/x:1"));
    model.list(&image, None);
    model.list(&image, Some("v1"));
    model.entries[2]["annotations"][CONTAINERD_NAME] = "docker.io/library/app:v1".into();
    model.list(&Descriptor::of("application/x-unknown", b"?"), Some("odd"));
    let folder = model.folder();
    let layout = LayoutDirectory::open(folder.path()).unwrap();
    let names: Vec<_> = layout.names().unwrap().into_iter().map(|n| n.name).collect();
    let expected = [Some("b.example/x:1"), None, Some("docker.io/library/app:v1"), Some("odd")];
    assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
    assert_eq!(layout.resolve("app:v1").unwrap().digest, image.digest);
    assert_eq!(layout.resolve("v1").unwrap().digest, image.digest);
}

#[test]
fn attached_content_is_found_by_subject_by_tag_and_by_fallback_index() {
    let mut model = Model::default();
    let image = model.image("a", None);
    let referrer = model.image("sbom", Some(&image.digest));
    let signature = model.image("sig", None);
    let listed = model.image("listed", Some(&image.digest));
    // Lists one that is also found by its subject, one twice, and the subject itself.
    let fallback = model.index(&[&referrer, &listed, &listed, &image]);
    let other = model.image("other", Some(&Digest::sha256(b"something else")));
    model.list(&image, Some("registry.example/app:v1"));
    model.list(&referrer, None);
    model.list(&referrer, None);
    model.list(&other, None);
    let tag = |suffix| crate::store::attached_tag(&image.digest, suffix);
    model.list(&signature, Some(&format!("registry.example/app:{}", tag(".sig"))));
    model.list(&signature, Some(&tag(".att")));
    model.list(&fallback, Some(&tag("")));
    // A missing blob and an unparsable one say nothing of what they are attached to.
    model.list(&Descriptor::of(OCI_MANIFEST, b"missing"), Some("gone"));
    model.blob(b"not json");
    model.list(&Descriptor::of(OCI_MANIFEST, b"not json"), Some("broken"));
    let (_folder, sources) = model.both();
    for source in &sources {
        let found: Vec<_> = source
            .attached(&image.digest)
            .unwrap()
            .into_iter()
            .map(|one| (one.descriptor.digest, one.tag))
            .collect();
        let expected = [
            (referrer.digest.clone(), None),
            (listed.digest.clone(), None),
            (signature.digest.clone(), Some(tag(".sig"))),
            (signature.digest.clone(), Some(tag(".att"))),
        ];
        assert_eq!(found, expected);
        assert!(source.attached(&signature.digest).unwrap().is_empty());
    }
}

#[test]
fn a_fallback_tag_that_is_the_subject_itself_attaches_nothing() {
    let mut model = Model::default();
    let child = model.image("c", None);
    let index = model.index(&[&child]);
    model.list(&index, Some(&crate::store::attached_tag(&index.digest, "")));
    let (_folder, sources) = model.both();
    for source in &sources {
        assert!(source.attached(&index.digest).unwrap().is_empty());
    }
}

#[test]
fn blobs_are_read_from_any_offset_and_their_size_is_checked() {
    let mut model = Model::default();
    let blob = model.blob(b"0123456789");
    let empty = model.blob(b"");
    let image = model.image("a", None);
    model.list(&image, None);
    let (_folder, sources) = model.both();
    for source in &sources {
        for (offset, wanted) in [(0, "0123456789"), (4, "456789"), (10, ""), (u64::MAX, "")] {
            let mut text = String::new();
            source.open_blob(&blob, 10, offset).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, wanted);
        }
        assert!(source.open_blob(&empty, 0, 0).is_ok());
        assert!(matches!(source.open_blob(&blob, 11, 0).err(), Some(StoreError::Damaged { .. })));
        let missing = source.open_blob(&Digest::sha256(b"no"), 2, 0).err().unwrap();
        assert!(missing.is_not_found());
    }
}

#[test]
fn one_entry_that_is_no_descriptor_leaves_the_others() {
    let mut model = Model::default();
    let image = model.image("a", None);
    model.entries.push(serde_json::json!({"digest": "blake3:00", "size": 1}));
    model.entries.push(serde_json::json!(7));
    model.list(&image, Some("v1"));
    let folder = model.folder();
    let layout = LayoutDirectory::open(folder.path()).unwrap();
    assert!(layout.resolve("v1").is_ok());
    assert_eq!(layout.unreadable().len(), 2);
    assert!(layout.unreadable()[0].contains("blake3"), "{:?}", layout.unreadable());
}

#[test]
fn what_is_no_layout_is_refused_with_the_reason() {
    for (name, content, reason) in [
        ("oci-layout", None, "`oci-layout` is missing"),
        ("index.json", None, "`index.json` is missing"),
        ("oci-layout", Some(r#"{"imageLayoutVersion":"2.0.0"}"#), "version is `2.0.0`"),
        ("oci-layout", Some("{}"), "malformed"),
        ("index.json", Some("[]"), "malformed"),
        ("index.json", Some("{}"), "malformed"),
        ("index.json", Some(r#"{"manifests":[],"manifests":[]}"#), "malformed"),
    ] {
        let folder = Model::default().folder();
        let path = folder.path().join(name);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let text = message(LayoutDirectory::open(folder.path()));
        assert!(text.contains(reason), "{text}");
    }
    let null = Model::default().folder();
    fs::write(null.path().join("index.json"), r#"{"manifests":null}"#).unwrap();
    assert!(LayoutDirectory::open(null.path()).unwrap().names().unwrap().is_empty());
    let bomb = Model::default().folder();
    fs::write(bomb.path().join("index.json"), format!("{{\"manifests\":{}", "[".repeat(200_000))).unwrap();
    assert!(LayoutDirectory::open(bomb.path()).is_err());
}

#[test]
fn links_and_pipes_in_a_folder_are_refused() {
    let mut model = Model::default();
    let (linked, piped) = (model.blob(b"linked"), model.blob(b"piped"));
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), b"linked").unwrap();
    let folder = model.folder();
    let path = |digest: &Digest| folder.path().join(digest.blob_path());
    fs::remove_file(path(&linked)).unwrap();
    symlink(outside.path(), path(&linked)).unwrap();
    fs::remove_file(path(&piped)).unwrap();
    assert!(Command::new("mkfifo").arg(path(&piped)).status().unwrap().success());
    let layout = LayoutDirectory::open(folder.path()).unwrap();
    assert!(message(layout.open_blob(&linked, 6, 0)).contains("symbolic link"));
    assert!(message(layout.open_blob(&piped, 5, 0)).contains("pipe"));

    // A folder on the way, and the files at the root.
    let blobs = folder.path().join("blobs");
    fs::rename(&blobs, folder.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &blobs).unwrap();
    assert!(message(layout.open_blob(&linked, 6, 0)).contains("symbolic link"));
    let marker = folder.path().join("oci-layout");
    fs::rename(&marker, folder.path().join("real")).unwrap();
    symlink("real", &marker).unwrap();
    assert!(message(LayoutDirectory::open(folder.path())).contains("symbolic link"));
    fs::remove_file(&marker).unwrap();
    assert!(Command::new("mkfifo").arg(&marker).status().unwrap().success());
    assert!(message(LayoutDirectory::open(folder.path())).contains("pipe"));
    // And a pipe in the place of an archive does not hang either.
    assert!(message(LayoutArchive::open(&marker)).contains("regular file"));
}

#[test]
fn links_in_an_archive_are_no_blobs() {
    let mut model = Model::default();
    let image = model.image("a", None);
    model.list(&image, None);
    let linked = [Digest::sha256(b"soft"), Digest::sha256(b"hard"), Digest::sha256(b"out")];
    let mut builder = tar::Builder::new(Vec::new());
    for (digest, kind, target) in [
        (&linked[0], tar::EntryType::Symlink, "other"),
        (&linked[1], tar::EntryType::Link, "index.json"),
        (&linked[2], tar::EntryType::Symlink, "../../../outside"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, digest.blob_path(), target).unwrap();
    }
    let links = builder.into_inner().unwrap();
    let bytes = [&links[..links.len() - 1024], &model.archive()].concat();
    let layout = opened(&bytes).unwrap();
    for digest in &linked {
        assert!(message(layout.open_blob(digest, 4, 0)).contains("is a link"));
    }
    assert!(layout.resolve("").is_ok());
}

#[test]
fn archives_that_could_mean_two_things_or_are_cut_off_are_refused() {
    let mut model = Model::default();
    let image = model.image("a", None);
    model.list(&image, None);
    let whole = model.archive();
    let body = &whole[..whole.len() - 1024];
    assert!(message(opened(&[body, &whole].concat())).contains("two files"));
    for cut in (0..whole.len()).step_by(512) {
        assert!(opened(&whole[..cut]).is_err(), "cut at {cut}");
    }
    // What follows the end is nobody's business here.
    assert!(opened(&[&whole[..], &[1; 700]].concat()).is_ok());
}

#[test]
fn of_two_equal_blobs_the_later_counts() {
    let mut model = Model::default();
    let digest = model.blob(b"content");
    let good = model.archive();
    model.blobs.insert(digest.blob_path(), b"CONTENT".to_vec());
    model.entries.clear();
    let bad = model.archive();
    // The blob is the first entry of each, one header and one block long.
    let bytes = [&bad[..1024], &good].concat();
    let layout = opened(&bytes).unwrap();
    let mut text = String::new();
    layout.open_blob(&digest, 7, 0).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    assert_eq!(layout.files().position(&digest), Some((1536, 7)));
}

#[test]
fn compressed_archives_are_refused_with_the_command_that_works() {
    let mut model = Model::default();
    let image = model.image("a", None);
    model.list(&image, None);
    let folder = tempfile::tempdir().unwrap();
    for (tool, suffix) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2")] {
        let plain = folder.path().join(format!("{tool} it.tar"));
        fs::write(&plain, model.archive()).unwrap();
        let Ok(status) = Command::new(tool).arg(&plain).stderr(std::process::Stdio::null()).status() else {
            continue;
        };
        assert!(status.success());
        let packed = folder.path().join(format!("{tool} it.tar.{suffix}"));
        let _ = fs::remove_file(&plain);
        let text = message(LayoutArchive::open(&packed));
        let command = text.rsplit_once(": ").unwrap().1;
        let ran =
            Command::new("sh").args(["-c", command]).stderr(std::process::Stdio::null()).status().unwrap();
        assert!(ran.success(), "{command}");
        assert!(LayoutArchive::open(&plain).is_ok());
    }
    assert!(message(LayoutArchive::open(folder.path())).contains("oci:DIR"));
}

#[test]
fn a_manifest_over_the_limit_is_refused_before_it_is_read() {
    let mut model = Model::default();
    let large = model.blob(&vec![b' '; MAX_MANIFEST_SIZE as usize + 1]);
    let (_folder, sources) = model.both();
    for source in &sources {
        assert!(matches!(
            source.manifest(&Descriptor::new(OCI_MANIFEST, large.clone(), 3)),
            Err(StoreError::Manifest { .. })
        ));
    }
}

#[test]
fn layouts_of_umoci_and_skopeo_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(folder.path()).output();
        match output {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{program} {arguments:?}: {errors}");
                true
            }
            // Not installed: nothing to compare with.
            Err(_) => false,
        }
    };
    if !run("umoci", &["init", "--layout", "made"]) || !run("umoci", &["new", "--image", "made:tool"]) {
        return;
    }
    let directory = LayoutDirectory::open(&folder.path().join("made")).unwrap();
    let root = directory.resolve("tool").unwrap();
    read_manifest(&directory, &root).unwrap();
    run("tar", &["-cf", "made.tar", "-C", "made", "."]);
    let archive = LayoutArchive::open(&folder.path().join("made.tar")).unwrap();
    assert_eq!(archive.resolve("tool").unwrap(), root);
    if run("skopeo", &["copy", "-q", "oci:made:tool", "oci-archive:copy.tar:r.example/tool:v1"]) {
        let copy = LayoutArchive::open(&folder.path().join("copy.tar")).unwrap();
        let root = copy.resolve("r.example/tool:v1").unwrap();
        let bytes = read_manifest(&copy, &root).unwrap();
        let manifest = Manifest::parse(&bytes, &root.media_type).unwrap();
        for blob in manifest.descriptors() {
            assert!(copy.open_blob(&blob.digest, blob.size, 0).is_ok());
        }
    }
}

#[test]
fn a_manifest_of_docker_type_is_read_like_any_other() {
    let mut model = Model::default();
    let image = model.image("a", None);
    let declared = Descriptor { media_type: DOCKER_MANIFEST.to_owned(), ..image };
    model.list(&declared, Some("v1"));
    let (_folder, sources) = model.both();
    assert_eq!(sources[0].resolve("v1").unwrap().media_type, DOCKER_MANIFEST);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn flipped_bytes_in_an_archive_never_panic(flips in prop::collection::vec((any::<usize>(), 1_u8..), 1..6)) {
        let mut model = Model::default();
        let image = model.image("a", None);
        let referrer = model.image("b", Some(&image.digest));
        model.list(&image, Some("v1"));
        model.list(&referrer, None);
        let mut bytes = model.archive();
        let length = bytes.len();
        for (position, value) in flips {
            bytes[position % length] ^= value;
        }
        if let Ok(layout) = opened(&bytes) {
            let _ = layout.attached(&image.digest);
            if let Ok(root) = layout.resolve("v1") {
                // What is handed out as checked is what its digest says.
                if let Ok(manifest) = read_manifest(&layout, &root) {
                    prop_assert!(root.digest.matches(&manifest));
                }
            }
        }
    }
}
