//! Pulling through mirrors: another place gives the content, and every name stays what it was.

use std::path::Path;

use barge::input::{Opener, parse_argument};
use barge::oci::Descriptor;
use barge::pack::{Asked, Options, Output, PackError, Prepared};
use barge::select::{Attachments, Wanted};
use barge::store::chain;
use barge::store::registry::{Access, Client, Mirror, Options as ClientOptions, Rule};
use barge::transfer::Silent;
use base64::Engine as _;

use super::{Packed, temp};
use crate::support::images::{Content, layer};
use crate::support::peers::{PASSWORD, RealRegistry, RegistryOptions, USER};

/// A host that nobody answers at: port 9 is that of `discard`.
const GONE: &str = "127.0.0.1:9";

fn rule(prefix: &str, mirrors: &[&str]) -> Rule {
    let mirrors = mirrors.iter().map(|mirror| Mirror::from(*mirror)).collect();
    Rule { prefix: prefix.to_owned(), mirrors, ..Rule::default() }
}

fn client(rules: Vec<Rule>) -> Client {
    Client::new(ClientOptions { rules, retry_times: 1, ..ClientOptions::default() }).unwrap()
}

fn pack(folder: &Path, client: &Client, images: &[&str]) -> Result<Packed, PackError> {
    let mut opener = Opener::new(client);
    for image in images {
        opener.add(&parse_argument(image).unwrap()).unwrap();
    }
    let opened = opener.finish().unwrap();
    let asked = Asked {
        sources: opened.sources,
        wishes: opened.wishes,
        arguments: opened.arguments,
        ..Asked::default()
    };
    let path = folder.join("site.oci.tar");
    let options = Options {
        wanted: Wanted::default(),
        strict_platforms: false,
        attachments: Attachments::All,
        keep_going: false,
        jobs: 2,
        max_size: None,
        restart: false,
        output: Output::Archive(path.clone()),
    };
    Prepared::of(asked, options)?.write(&Silent)?;
    Ok(Packed::open(&path))
}

fn image(seed: u64) -> (Content, Descriptor) {
    let mut content = Content::new();
    let image = content.image("linux/amd64", &[layer(seed, 900), layer(seed + 1, 700)]);
    (content, image)
}

#[test]
fn a_mirror_stands_for_a_registry_that_does_not_exist() {
    let (empty, mirror, temp) = (RealRegistry::start(), RealRegistry::start(), temp());
    let (mut content, root) = image(1);
    let (tag, signature) = content.signature(&root.digest, "gone.example/team/app");
    mirror.push("proxy/gone/app", &content, &root, Some("v1"));
    mirror.push("proxy/gone/app", &content, &signature, Some(&tag));
    // The first mirror lacks the image, the second has it below a path.
    let second = format!("{}/proxy/gone", mirror.host());
    let client = client(vec![rule("gone.example/team", &[empty.host(), &second])]);
    assert_eq!(client.places(&"gone.example/team/app".parse().unwrap()).tags().unwrap().len(), 2);
    let by_digest = format!("gone.example/team/app@{}", root.digest);
    let packed = pack(temp.path(), &client, &["gone.example/team/app:v1", &by_digest]).unwrap();
    packed.has_all(&content, &root);
    packed.has_all(&content, &signature);
    let image = packed.image("gone.example/team/app:v1");
    let reference = image.reference.as_ref().unwrap().to_string();
    assert_eq!(reference, format!("gone.example/team/app:v1@{}", root.digest));
    assert_eq!(packed.image(&by_digest).root, root.digest);
    let record = serde_json::to_string(packed.record()).unwrap();
    assert!(!record.contains(mirror.host()) && !record.contains("proxy"), "{record}");
    assert!(empty.log().contains("/v2/app/manifests/v1"), "the first mirror was not asked first");
}

#[test]
fn the_place_itself_is_asked_last_and_only_where_it_may_be() {
    let (origin, mirror, temp) = (RealRegistry::start(), RealRegistry::start(), temp());
    let (here, there) = (image(1), image(5));
    origin.push("app", &here.0, &here.1, Some("v1"));
    let name = format!("{}/app:v1", origin.host());
    let one = |only| Rule { mirrors_only: only, ..rule(origin.host(), &[mirror.host()]) };
    let packed = pack(temp.path(), &client(vec![one(false)]), &[&name]).unwrap();
    packed.has_all(&here.0, &here.1);
    std::fs::remove_file(temp.path().join("site.oci.tar")).unwrap();
    let error = pack(temp.path(), &client(vec![one(true)]), &[&name]).err().unwrap();
    assert!(chain(&error).contains("app"), "{}", chain(&error));
    // What the mirror has under the tag goes before what the place itself has.
    mirror.push("app", &there.0, &there.1, Some("v1"));
    let packed = pack(temp.path(), &client(vec![one(false)]), &[&name]).unwrap();
    assert_eq!(packed.image(&name).root, there.1.digest);
}

#[test]
fn every_place_that_was_tried_is_named_with_what_it_said() {
    let (mirror, temp) = (RealRegistry::start(), temp());
    let place = format!("{}/x", mirror.host());
    let client = client(vec![rule(GONE, &[&place])]);
    let error = pack(temp.path(), &client, &[&format!("{GONE}/app:v1")]).err().unwrap();
    let text = chain(&error);
    let (first, second) = (format!("{place}/app: "), format!("{GONE}/app: {GONE} could not be reached"));
    assert!(text.contains(&first) && text.contains(&second), "{text}");
    assert!(
        text.contains(&format!("manifest v1 of {GONE}/app can't be had from any of the places")),
        "{text}"
    );
    assert!(!temp.path().join("site.oci.tar").exists());
    // Where all of them lack it, it is just not there.
    let other = RealRegistry::start();
    let client = self::client(vec![rule(other.host(), &[mirror.host()])]);
    let text = chain(&pack(temp.path(), &client, &[&format!("{}/app:v1", other.host())]).err().unwrap());
    let places = format!("(asked of {}/app, {}/app)", mirror.host(), other.host());
    assert!(text.contains(&places), "{text}");
}

#[test]
fn a_mirror_that_does_not_answer_is_not_waited_for_again() {
    let (origin, temp) = (RealRegistry::start(), temp());
    let (content, root) = image(1);
    origin.push("app", &content, &root, Some("v1"));
    let began = std::time::Instant::now();
    let client = client(vec![rule(origin.host(), &[GONE])]);
    pack(temp.path(), &client, &[&format!("{}/app:v1", origin.host())]).unwrap().has_all(&content, &root);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_mirror_has_certificates_and_credentials_of_its_own() {
    let options = RegistryOptions { auth: true, tls: true, ..RegistryOptions::default() };
    let (mirror, temp) = (RealRegistry::start_with(&options), temp());
    let (content, root) = image(1);
    mirror.push("app", &content, &root, Some("v1"));
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = temp.path().join("auth.json");
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, mirror.host());
    std::fs::write(&file, text).unwrap();
    let whole = Rule {
        cert_dir: Some(mirror.certificates()),
        auth_file: Some(file.clone()),
        ..rule("gone.example", &[mirror.host()])
    };
    let packed = pack(temp.path(), &client(vec![whole.clone()]), &["gone.example/app:v1"]).unwrap();
    packed.has_all(&content, &root);
    std::fs::remove_file(temp.path().join("site.oci.tar")).unwrap();
    // Each of them is needed.
    for lacking in [Rule { cert_dir: None, ..whole.clone() }, Rule { auth_file: None, ..whole.clone() }] {
        let lacking = Rule { mirrors_only: true, ..lacking };
        assert!(pack(temp.path(), &client(vec![lacking]), &["gone.example/app:v1"]).is_err());
    }
    // What is said of the place itself is not said of its mirror.
    let own = Rule { cert_dir: None, insecure: true, mirrors_only: true, ..whole.clone() };
    assert!(pack(temp.path(), &client(vec![own]), &["gone.example/app:v1"]).is_err());
    let mirrors = vec![Mirror { insecure: true, ..Mirror::from(mirror.host()) }];
    let insecure = Rule { cert_dir: None, mirrors, ..whole };
    pack(temp.path(), &client(vec![insecure]), &["gone.example/app:v1"]).unwrap();
}

/// What the client has to say of places, as one text.
fn said(client: &Client) -> String {
    let said = client.said_of_places().into_iter();
    let lines: Vec<String> = said.map(|(cause, items)| format!("{cause}: {}", items.join(", "))).collect();
    lines.join("\n")
}

#[test]
fn attached_content_comes_from_all_places_together() {
    let (origin, mirror, temp) = (RealRegistry::start(), RealRegistry::start(), temp());
    let (mut content, root) = image(1);
    let (tag, signature) = content.signature(&root.digest, "a.example/app");
    let (_, other) = content.signature(&root.digest, "b.example/app");
    let attestation = tag.replace(".sig", ".att");
    origin.push("app", &content, &root, Some("v1"));
    origin.push("app", &content, &signature, Some(&tag));
    mirror.push("app", &content, &root, Some("v1"));
    mirror.push("app", &content, &other, Some(&attestation));
    let name = format!("{}/app:v1", origin.host());
    let client = self::client(vec![rule(origin.host(), &[mirror.host()])]);
    let packed = pack(temp.path(), &client, &[&name]).unwrap();
    packed.has_all(&content, &signature);
    packed.has_all(&content, &other);
    assert_eq!((packed.image(&name).attached.len(), said(&client).as_str()), (2, ""));
    std::fs::remove_file(temp.path().join("site.oci.tar")).unwrap();
    // Of two contents of one tag the place itself has the right one.
    mirror.push("app", &content, &other, Some(&tag));
    let client = self::client(vec![rule(origin.host(), &[mirror.host()])]);
    let packed = pack(temp.path(), &client, &[&name]).unwrap();
    packed.has_all(&content, &signature);
    assert_eq!(packed.image(&name).attached.len(), 2);
    let text = format!(
        "{} has something else attached, which was left out: {}/app:{tag}",
        mirror.host(),
        mirror.host()
    );
    assert!(said(&client).contains(&text), "{}", said(&client));
    std::fs::remove_file(temp.path().join("site.oci.tar")).unwrap();
    // Where only mirrors may be asked, nobody else is.
    let only = Rule { mirrors_only: true, ..rule(origin.host(), &[mirror.host()]) };
    let client = self::client(vec![only]);
    let before = origin.log();
    pack(temp.path(), &client, &[&name]).unwrap();
    assert_eq!((origin.log(), said(&client)), (before, String::new()));
}

#[test]
fn a_place_that_can_not_say_what_is_attached_is_named() {
    let (mirror, temp) = (RealRegistry::start(), temp());
    let (content, root) = image(1);
    mirror.push("app", &content, &root, Some("v1"));
    let client = client(vec![rule(GONE, &[mirror.host()])]);
    pack(temp.path(), &client, &[&format!("{GONE}/app:v1")]).unwrap();
    let cause = format!("attached content was asked of {} only: {GONE}/app@{}", mirror.host(), root.digest);
    assert!(said(&client).contains(&cause), "{}", said(&client));
}

#[test]
fn a_damaged_blob_at_a_mirror_comes_from_the_next_place() {
    let (origin, mirror, temp) = (RealRegistry::start(), RealRegistry::start(), temp());
    let (content, root) = image(1);
    let layers = content.closure(&root).into_iter().filter(|blob| blob.media_type.contains("layer"));
    let blob = layers.map(|layer| layer.digest).next().unwrap();
    origin.push("app", &content, &root, Some("v1"));
    mirror.push("app", &content, &root, Some("v1"));
    let name = format!("{}/app:v1", origin.host());
    let good = std::fs::read(mirror.blob_file(&blob)).unwrap();
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for bad in [&changed[..], &good[..good.len() / 2], &[&good[..], b"more"].concat()] {
        std::fs::write(mirror.blob_file(&blob), bad).unwrap();
        let client = self::client(vec![rule(origin.host(), &[mirror.host()])]);
        pack(temp.path(), &client, &[&name]).unwrap().has_all(&content, &root);
        let (said, cause) = (said(&client), format!("{} was passed over: ", mirror.host()));
        assert!(said.contains(&cause) && said.contains(&blob.to_string()), "{said}");
        std::fs::remove_file(temp.path().join("site.oci.tar")).unwrap();
        let only = Rule { mirrors_only: true, ..rule(origin.host(), &[mirror.host(), GONE]) };
        let text = chain(&pack(temp.path(), &self::client(vec![only]), &[&name]).err().unwrap());
        let place = format!("{}/app (a mirror of {}/app)", mirror.host(), origin.host());
        // A place that breaks off is one that did not give it; one that gives other bytes is named as what it is.
        let place = if bad.len() < good.len() { &place[..place.find(" (").unwrap()] } else { &place };
        assert!(text.contains(place), "{text}");
        let _ = std::fs::remove_file(temp.path().join("site.oci.tar.partial"));
    }
    // A manifest likewise.
    std::fs::write(mirror.blob_file(&blob), good).unwrap();
    let manifest = std::fs::read_to_string(mirror.blob_file(&root.digest)).unwrap();
    std::fs::write(mirror.blob_file(&root.digest), manifest.replace("layers", "Layers")).unwrap();
    let client = self::client(vec![rule(origin.host(), &[mirror.host()])]);
    pack(temp.path(), &client, &[&name]).unwrap().has_all(&content, &root);
}

#[test]
fn tags_are_those_of_the_place_itself() {
    let (origin, mirror) = (RealRegistry::start(), RealRegistry::start());
    let (content, root) = image(1);
    for tag in ["v1", "v2"] {
        origin.push("app", &content, &root, Some(tag));
    }
    mirror.push("app", &content, &root, Some("v1"));
    let tags = |client: &Client, host: &str| client.places(&format!("{host}/app").parse().unwrap()).tags();
    let client = self::client(vec![rule(origin.host(), &[mirror.host()])]);
    assert_eq!((tags(&client, origin.host()).unwrap().len(), said(&client).as_str()), (2, ""));
    let only = Rule { mirrors_only: true, ..rule(origin.host(), &[mirror.host()]) };
    let client = self::client(vec![only]);
    assert_eq!((tags(&client, origin.host()).unwrap().len(), said(&client).as_str()), (1, ""));
    let client = self::client(vec![rule(GONE, &[mirror.host()])]);
    assert_eq!(tags(&client, GONE).unwrap(), ["v1"]);
    let cause =
        format!("the tags are those that {}/app (a mirror of {GONE}/app) lists: {GONE}/app: ", mirror.host());
    assert!(said(&client).contains(&cause), "{}", said(&client));
}

#[test]
fn a_mirror_that_fails_is_mentioned_once_with_its_reasons() {
    let (origin, temp) = (RealRegistry::start(), temp());
    let mirror = RealRegistry::start_with(&RegistryOptions { auth: true, ..RegistryOptions::default() });
    let (content, root) = image(1);
    origin.push("app", &content, &root, Some("v1"));
    let client = client(vec![rule(origin.host(), &[mirror.host()])]);
    pack(temp.path(), &client, &[&format!("{}/app:v1", origin.host())]).unwrap();
    let causes = client.said_of_places();
    let cause = format!("{} was passed over", mirror.host());
    let found: Vec<_> = causes.iter().filter(|(said, _)| *said == cause).collect();
    assert!(found.len() == 1 && found[0].1[0].contains("401"), "{causes:?}");
}

#[test]
fn insecure_is_for_pulls_below_the_prefix_alone() {
    let registry = RealRegistry::start_with(&RegistryOptions { tls: true, ..RegistryOptions::default() });
    let prefix = format!("{}/team", registry.host());
    let client = client(vec![Rule { insecure: true, ..rule(&prefix, &[]) }]);
    let name = |path: &str| format!("{}/{path}", registry.host()).parse().unwrap();
    client.places(&name("team/app")).check().unwrap();
    assert!(client.places(&name("other/app")).check().is_err());
    assert!(client.repository(&name("team/app"), Access::Push).check().is_err());
}
