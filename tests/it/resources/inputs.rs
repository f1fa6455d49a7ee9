//! What is refused, and that nothing is written then.

use barge::bundle::record::{BaseRecord, FailedEntry};
use barge::graph::Part;
use barge::graph::reliance::{BaseEntry, BaseKind};
use barge::inventory::{Inventory, Kind, OutcomeRow, Scope};
use barge::oci::Digest;
use barge::oci::media_type::RELEASE_SIGNATURE;

use super::{Cargo, Place, sidecar};

fn place() -> Place {
    let place = Place::new();
    let mut cargo = Cargo::default();
    cargo.image(Part::Image, "reg.test/team/app:v1", "reg.test/team/app:v1", 1);
    cargo.pack(&place.path("a.barge"));
    place
}

fn receipt(target: &str) -> Inventory {
    let mut receipt =
        Inventory::new(Kind::Receipt, target.to_owned(), Scope::Images, barge::inventory::Content::default());
    receipt.outcomes.push(OutcomeRow {
        image: Some("reg.test/team/app:v1".parse().unwrap()),
        new_root: None,
        outcome: "pushed".to_owned(),
        part: Part::Image,
        reference: None,
        root: Digest::sha256(b"root"),
        target: Some(format!("{target}/team/app:v1").parse().unwrap()),
        why: None,
    });
    receipt
}

fn write(place: &Place, name: &str, receipt: &Inventory) {
    receipt.write(std::fs::File::create(place.path(name)).unwrap(), false).unwrap();
}

#[test]
fn a_command_line_that_makes_no_sense_writes_nothing() {
    let place = place();
    write(&place, "r.json", &receipt("m.example/site"));
    for (args, code, said) in [
        (&["a.barge"][..], 2, "does not say to which registry it was pushed"),
        (&["a.barge", "r.json"], 2, "hint: give --registry"),
        (
            &["r.json", "--map", "reg.test=x"],
            2,
            "--map, --strip-registry and --max-path-components have no say",
        ),
        (
            &["r.json", "--registry", "other.example/else"],
            2,
            "hint: --registry other.example keeps the paths",
        ),
        (&["a.barge", "--registry", "m.example/UPPER"], 2, "`m.example/UPPER` is not a registry"),
        (&["a.barge", "--registry", "m.example", "--ocp", "3.11"], 2, "expected e.g. 4.18"),
        (&["a.barge", "--registry", "m.example", "--ocp", "latest"], 2, "expected e.g. 4.18"),
        (&["a.barge", "--registry", "m.example", "--max-path-components", "0"], 2, "leaves no room"),
        (&["none.barge", "--registry", "m.example"], 3, "none.barge"),
        (&[], 2, "BUNDLE|RECEIPT"),
    ] {
        place.resources(args).code(code).stderr_has(said);
        assert!(!place.path("out").exists(), "{args:?}");
    }
    // The same path is no contradiction.
    place.resources(&["r.json", "--registry", "other.example/site"]).success();
    assert!(place.files("out")["images.txt"].contains("\tother.example/site/team/app:v1\n"));
}

#[test]
fn other_documents_and_damaged_ones_are_named() {
    let place = place();
    let inventory = Inventory::new(
        Kind::Inventory,
        "m.example".to_owned(),
        Scope::Images,
        barge::inventory::Content::default(),
    );
    write(&place, "inventory.json", &inventory);
    let mut nameless = receipt("m.example");
    nameless.omit_names();
    write(&place, "nameless.json", &nameless);
    std::fs::write(place.path("other.json"), "{\"mediaType\": \"application/x.\\u001b[31mred\"}").unwrap();
    std::fs::write(place.path("cut.json"), "{\"mediaType\": \"appl").unwrap();
    std::fs::write(place.path("text.barge"), "nothing").unwrap();
    sidecar(&place.path("a.barge"), &place.path("newer.json"), |record| {
        record.format_version = "9.0".to_owned();
    });
    for (name, said) in [
        (
            "inventory.json",
            "inventory.json is an inventory, which does not know by which names images were pulled",
        ),
        ("nameless.json", "nameless.json has no names"),
        ("other.json", "other.json is no bundle, no record of one and no receipt"),
        ("cut.json", "cut.json can't be read"),
        ("text.barge", "text.barge"),
        ("newer.json", "newer.json can't be read"),
    ] {
        let failed = place.resources(&[name, "--registry", "m.example"]).code(3).stderr_has(said);
        assert!(!failed.stderr.contains('\u{1b}'), "{failed}");
        assert!(!place.path("out").exists(), "{name}");
    }
    let json = place.resources(&["cut.json", "--registry", "m.example", "--json"]).code(3).json();
    assert_eq!((&json["outcome"], &json["error"]["kind"]), (&"FAILED".into(), &"damaged".into()));
}

#[test]
fn hostile_names_and_texts_reach_neither_files_nor_terminal() {
    let place = place();
    let good = serde_json::to_value(receipt("m.example")).unwrap();
    for bad in [
        "m.example/a:v1\u{1b}[31m",
        "m.example/../../etc:v1",
        "../x/y:v1",
        "m.example/a:v1\nb",
        "m.example/a b",
    ] {
        let mut value = good.clone();
        value["outcomes"][0]["target"] = bad.into();
        std::fs::write(place.path("bad.json"), value.to_string()).unwrap();
        let failed = place.resources(&["bad.json"]).code(3);
        assert!(!failed.stderr.contains('\u{1b}'), "{failed}");
        assert!(!place.path("out").exists(), "{bad}");
    }
    let mut value = good;
    let mut failed = value["outcomes"][0].clone();
    failed["outcome"] = "failed".into();
    failed["target"] = "m.example/other:v1".into();
    failed["why"] = "it said \u{1b}[2J\nnext: rm -rf /".into();
    value["outcomes"].as_array_mut().unwrap().push(failed);
    std::fs::write(place.path("r.json"), value.to_string()).unwrap();
    let done = place.resources(&["r.json"]).code(1).stderr_has("it said [2Jnext: rm");
    assert!(!done.stderr.contains('\u{1b}') && !done.stdout.contains('\u{1b}'), "{done}");
    let json = place.resources(&["r.json", "--json"]).code(1).json();
    assert_eq!(json["outcome"], "PARTIAL");
    assert!(!json["leftOut"][0].as_str().unwrap().contains(char::is_control), "{json}");
    assert!(!json["files"].as_array().unwrap().is_empty());
}

#[test]
fn names_that_no_dns_label_allows_become_ones_that_are_told_apart() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    let long = "l".repeat(70);
    for (seed, name) in (1..).zip([
        "reg.test/a/index:v1".to_owned(),
        "reg.test/b/index:v1".to_owned(),
        "reg.test/b/index:V1".to_owned(),
        format!("reg.test/c/{long}:v1"),
        format!("reg.test/c/{long}:v2"),
        "reg.test/d/in__dex.x:_Odd_.".to_owned(),
        "reg.test/e/one:v4.18".to_owned(),
    ]) {
        cargo.image(Part::Catalog, &name, &name, seed);
    }
    cargo.pack(&place.path("c.barge"));
    place.resources(&["c.barge", "--registry", "m.example"]).success();
    let files = place.files("out");
    let names: Vec<&String> = files.keys().filter(|name| name.starts_with("cs-")).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    for name in &names {
        let label = name.strip_suffix(".yaml").unwrap();
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(label.len() <= 63 && label.bytes().all(fits) && !label.ends_with('-'), "{label}");
        assert!(files[*name].contains(&format!("name: {label}\n")), "{}", files[*name]);
        assert!(files.contains_key(&name.replacen("cs-", "cc-", 1)));
    }
    assert!(names.iter().any(|name| **name == "cs-one-v4-18.yaml"), "{names:?}");
    assert!(names.iter().any(|name| **name == "cs-in--dex-x--odd.yaml"), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("cs-index-v1-")).count(), 3, "{names:?}");
    // Catalogs are in no mirror set, and k3s finds them all the same.
    assert!(
        !files.keys().any(|name| name.starts_with("idms") || name.starts_with("itms")),
        "{:?}",
        files.keys()
    );
    assert!(files.contains_key("k3s/registries.yaml"));
}

#[test]
fn hosts_that_mirror_sets_can_not_name_are_said() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    cargo.image(Part::Image, "[::1]:5000/a/b:v1", "[::1]:5000/a/b:v1", 1);
    cargo.image(Part::Image, "reg.test/a/c:v1", "reg.test/a/c:v1", 2);
    cargo.pack(&place.path("c.barge"));
    let done = place.resources(&["c.barge", "--registry", "m.example/x"]).success();
    done.stderr_has("is at a host that no mirror set of OpenShift can name").never_says("oc apply -f out\n");
    let files = place.files("out");
    assert!(!files["itms-generic-0.yaml"].contains("::1"));
    assert!(files["registries.conf.d/50-barge.conf"].contains("prefix = \"[::1]:5000/a/b\""));
}

#[test]
fn files_of_others_stay_and_those_of_an_earlier_run_are_named() {
    let place = place();
    let args = ["a.barge", "--registry", "m.example/x"];
    std::fs::create_dir(place.path("out")).unwrap();
    std::fs::write(place.path("out/images.txt"), "mine").unwrap();
    let refused =
        place.resources(&args).code(3).stderr_has("images.txt is there and was not written by barge");
    refused.stderr_has("NOTHING CHANGED");
    assert_eq!(place.files("out").len(), 1);
    std::fs::remove_file(place.path("out/images.txt")).unwrap();
    std::fs::write(place.path("out/notes.txt"), "mine").unwrap();
    place.resources(&args).success();
    let said = place.resources(&[&args[..], &["--ocp", "4.10"]].concat()).success().stdout_has("DONE");
    said.stderr_has("left by an earlier run").stderr_has("idms-generic-0.yaml").never_says("notes.txt");
    assert_eq!(place.files("out")["notes.txt"], "mine");
}

#[test]
fn later_bundles_replace_what_they_follow_and_others_are_said_to_differ() {
    let place = place();
    let other = |name: &str, root: &[u8], tag: &str| {
        sidecar(&place.path("a.barge"), &place.path(name), |record| {
            record.images[0].root = Digest::sha256(root);
            record.images[0].name.tag = Some(tag.to_owned());
        });
    };
    other("b.json", b"other", "v1");
    let mut seen = Vec::new();
    for papers in [["a.barge", "b.json"], ["b.json", "a.barge"]] {
        let _ = std::fs::remove_dir_all(place.path("out"));
        let done = place.resources(&[&papers[..], &["--registry", "m.example/x"]].concat()).success();
        seen.push((done.stderr.clone(), place.files("out")));
        done.stderr_has("means different images in bundles of which neither follows the other");
    }
    assert_eq!(seen[0], seen[1]);
    // Two images for one name at the mirror: push refuses that too.
    let mut cargo = Cargo::default();
    cargo.image(Part::Image, "else.test/team/app:v1", "else.test/team/app:v1", 2);
    cargo.pack(&place.path("c.barge"));
    let _ = std::fs::remove_dir_all(place.path("out"));
    place
        .resources(&["a.barge", "c.barge", "--registry", "m.example"])
        .code(2)
        .stderr_has("would both become");
    place
        .resources(&["a.barge", "c.barge", "--registry", "m.example", "--strip-registry", "false"])
        .success();
    assert!(place.files("out")["images.txt"].contains("\tm.example/else.test/team/app:v1\n"));
    let map = ["--map", "else.test=moved", "--max-path-components", "1"];
    let _ = std::fs::remove_dir_all(place.path("out"));
    place.resources(&[&["a.barge", "c.barge", "--registry", "m.example"], &map[..]].concat()).success();
    assert!(place.files("out")["images.txt"].contains("\tm.example/moved-team-app:v1\n"));
}

#[test]
fn a_delta_says_what_is_wanted_now() {
    let place = place();
    let mut cargo = Cargo::default();
    cargo.image(Part::Image, "reg.test/team/app:v2", "reg.test/team/app:v2", 2);
    cargo.image(Part::Catalog, "reg.test/team/index@", "reg.test/team/index@", 3);
    cargo.image(Part::Image, "reg.test/team/kept:v1", "reg.test/team/kept:v1", 4);
    cargo.pack(&place.path("b.oci.tar"));
    let bundle = barge::bundle::Bundle::open(&place.path("a.barge")).unwrap();
    let id = bundle.id().unwrap().clone();
    sidecar(&place.path("b.oci.tar"), &place.path("delta.json"), |record| {
        record.base = Some(Box::new(BaseRecord {
            bases: vec![BaseEntry {
                id,
                kind: BaseKind::Bundle,
                name: Some("a.barge".to_owned()),
                state: None,
            }],
            content: Vec::new(),
            removed: vec!["reg.test/team/app:v1".to_owned()],
            repositories: Vec::new(),
        }));
        record.failed = vec![FailedEntry { name: "reg.test/team/lost:v1".parse().unwrap(), root: None }];
    });
    for papers in [["a.barge", "delta.json"], ["delta.json", "a.barge"]] {
        let _ = std::fs::remove_dir_all(place.path("out"));
        let done = place.resources(&[&papers[..], &["--registry", "m.example/x"]].concat()).code(1);
        let done = done.stdout_has("PARTIAL: ").stdout_has("for 3 images");
        let done = done.stderr_has("reg.test/team/lost:v1: it could not be had when it was packed");
        done.never_says("means different images");
        let list = &place.files("out")["images.txt"];
        assert!(!list.contains("app:v1") && list.contains("app:v2"), "{list}");
    }
}

#[test]
fn layouts_of_other_tools_are_read_too() {
    let place = Place::new();
    let mut content = crate::support::images::Content::new();
    let image = content.image("linux/amd64", &[crate::support::images::layer(1, 100)]);
    let (tag, signature) = content.signature(&image.digest, "reg.test/team/app");
    let signature_name = format!("reg.test/team/app:{tag}");
    let roots = [("reg.test/team/app:v1", image), (signature_name.as_str(), signature)];
    crate::support::archives::write_layout(&place.path("layout"), &content, &roots);
    for layout in ["layout", "oci:layout"] {
        let _ = std::fs::remove_dir_all(place.path("out"));
        place.resources(&[layout, "--registry", "m.example/x"]).success().stdout_has("for 1 image ");
        let files = place.files("out");
        // Nobody knows what it was pulled by, and whether by digest: both find it.
        let names: Vec<&String> = files.keys().filter(|name| name.ends_with("-0.yaml")).collect();
        assert_eq!(names, ["idms-generic-0.yaml", "itms-generic-0.yaml"]);
        assert!(files["images.txt"].ends_with("reg.test/team/app:v1\tm.example/x/team/app:v1\n"));
    }
}

/// Attaches something to an image.
type Make<'a> = &'a dyn Fn(&mut Cargo, &barge::oci::Descriptor) -> barge::oci::Descriptor;

#[test]
fn what_is_no_signature_is_never_taken_for_one() {
    let place = Place::new();
    let release = "q.test/openshift/release-images:4.18.1";
    let args = ["s.barge", "--registry", "m.example"];
    let two = |cargo: &mut Cargo, root: &barge::oci::Descriptor| {
        let signed = cargo.content.artifact(root, RELEASE_SIGNATURE, b"one");
        let mut value: serde_json::Value =
            serde_json::from_slice(&cargo.content.blobs[&signed.digest]).unwrap();
        let layer = value["layers"][0].clone();
        value["layers"].as_array_mut().unwrap().push(layer);
        let mut two = cargo.content.manifest(barge::oci::media_type::OCI_MANIFEST, &value);
        two.artifact_type = signed.artifact_type;
        two
    };
    let long = |cargo: &mut Cargo, root: &barge::oci::Descriptor| {
        cargo.content.artifact(root, RELEASE_SIGNATURE, &vec![7; 128 * 1024 + 1])
    };
    let makes: [(Make<'_>, &str); 2] = [
        (&two, "as a release signature: it has 2 layers, not one"),
        (&long, "131073 bytes are more than any signature has"),
    ];
    for (make, said) in makes {
        let mut cargo = Cargo::default();
        let root = cargo.image(Part::Release, release, "", 1);
        let artifact = make(&mut cargo, &root);
        cargo.attached.push(artifact);
        let _ = std::fs::remove_file(place.path("s.barge"));
        cargo.pack(&place.path("s.barge"));
        place.resources(&args).code(3).stderr_has(said);
        assert!(!place.path("out").exists());
    }
    // A flipped bit.
    let mut cargo = Cargo::default();
    let root = cargo.image(Part::Release, release, "", 1);
    cargo.sign(&root, b"a signature that is long enough to be found in the file");
    let _ = std::fs::remove_file(place.path("s.barge"));
    cargo.pack(&place.path("s.barge"));
    let mut bytes = std::fs::read(place.path("s.barge")).unwrap();
    let at = bytes.windows(11).position(|part| part == b"a signature").unwrap();
    bytes[at] ^= 1;
    std::fs::write(place.path("s.barge"), bytes).unwrap();
    place.resources(&args).code(3).stderr_has("its bytes hash to");
    assert!(!place.path("out").exists());
    // Other artifacts are other things.
    let mut cargo = Cargo::default();
    let root = cargo.image(Part::Release, release, "", 1);
    let sbom = cargo.content.artifact(&root, "application/vnd.example.sbom", b"parts");
    cargo.attached.push(sbom);
    let _ = std::fs::remove_file(place.path("s.barge"));
    cargo.pack(&place.path("s.barge"));
    place.resources(&args).success().stderr_has("has no signature with it");
    assert!(!place.path("out/signature-configmap.yaml").exists());
}

#[test]
fn a_large_set_takes_a_moment() {
    let place = place();
    sidecar(&place.path("a.barge"), &place.path("many.json"), |record| {
        let first = record.images[0].clone();
        record.images = (0..20_000)
            .map(|at| {
                let mut image = first.clone();
                image.part = Part::Operator;
                image.name.name.repository = format!("team-{}/image-{at:05}", at % 400);
                image.reference.as_mut().unwrap().name.repository = image.name.name.repository.clone();
                image
            })
            .collect();
    });
    let began = std::time::Instant::now();
    place.resources(&["many.json", "--registry", "m.example/x"]).success();
    // An unoptimised build on a busy machine; what is quadratic takes minutes.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    assert_eq!(place.files("out")["idms-operator-0.yaml"].matches("source:").count(), 400);
}

#[test]
fn the_later_receipt_knows_better_whatever_the_order() {
    let place = Place::new();
    let (old, new) = (Digest::sha256(b"before"), Digest::sha256(b"after"));
    for (name, taken, root) in
        [("a.json", "2024-03-01T00:00:00Z", &new), ("b.json", "2024-02-01T00:00:00Z", &old)]
    {
        let mut receipt = receipt("m.example/site");
        taken.clone_into(&mut receipt.taken);
        receipt.outcomes[0].new_root = Some(root.clone());
        write(&place, name, &receipt);
    }
    for papers in [["a.json", "b.json"], ["b.json", "a.json"]] {
        let _ = std::fs::remove_dir_all(place.path("out"));
        place.resources(&papers).success().stdout_has("for 1 image ");
        let list = &place.files("out")["images.txt"];
        assert!(list.contains(&format!("\tm.example/site/team/app@{new}\n")), "{list}");
        assert!(!list.contains(&old.to_string()), "{list}");
    }
}

#[test]
fn references_with_tag_and_digest_have_a_row_each_by_their_digests() {
    let place = Place::new();
    let mut cargo = Cargo::default();
    let [one, two] =
        [1, 2].map(|seed| cargo.image(Part::Operator, "a.test/ops/run@", "a.test/ops/run:any@", seed));
    cargo.pack(&place.path("a.barge"));
    let done = place.resources(&["a.barge", "--registry", "m.test"]).success();
    done.never_says("does not have its tag at the mirror");
    let text = place.files("out").remove("images.txt").unwrap();
    let mut rows = [one, two].map(|root| format!("a.test/ops/run@{0}\tm.test/ops/run@{0}", root.digest));
    rows.sort();
    assert_eq!(text.lines().skip(2).collect::<Vec<_>>(), rows, "{text}");
}
