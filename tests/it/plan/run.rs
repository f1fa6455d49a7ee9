//! Scripts that real skopeo runs, from a real registry into another.

use std::fs;
use std::path::Path;

use super::{Stock, made, stock};
use crate::support::barge::barge;
use crate::support::client::Client;
use crate::support::images::{layer, plain_layer};
use crate::support::peers::{RealRegistry, command, push_content, run_any};

/// Runs a script by `sh` in a folder, where skopeo finds a policy that takes everything.
#[track_caller]
pub(super) fn run_script(folder: &Path, text: &str, words: &[&str]) {
    let output = try_script(folder, text, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n---\n{said}");
}

pub(super) fn try_script(folder: &Path, text: &str, words: &[&str]) -> std::process::Output {
    let policy = folder.join("home/.config/containers");
    fs::create_dir_all(&policy).unwrap();
    fs::write(policy.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let script = folder.join("script.sh");
    fs::write(&script, text).unwrap();
    run_any(command("sh").current_dir(folder).env("HOME", folder.join("home")).arg(&script).args(words))
}

/// What the target must hold in the end.
#[track_caller]
fn assert_all(stock: &Stock, host: &str) {
    stock.assert_there(host, "mirror/team/app", "v1", &stock.app);
    stock.assert_there(host, "mirror/team/tool", "v2", &stock.tool);
    stock.assert_there(host, "mirror/team/app", &stock.signature.0, &stock.signature.1);
    for root in &stock.pinned {
        stock.assert_there(host, "mirror/team/db", &made(root), root);
    }
    let mut tags = Client::plain(host).tags("mirror/team/app");
    tags.sort();
    assert_eq!(tags, [stock.signature.0.clone(), "v1".to_owned()]);
    assert_eq!(Client::plain(host).tags("mirror/team/db").len(), 2);
}

fn script(images: &[String], to: &RealRegistry, more: &[&str]) -> String {
    let target = format!("{}/mirror", to.host());
    barge(["plan", "--to", &target, "--format", "skopeo"]).args(images).args(more).run().success().stdout
}

#[test]
fn skopeo_copies_every_digest_and_tag() {
    let (stock, from, to) = (stock(), RealRegistry::start(), RealRegistry::start());
    stock.fill(from.host());
    let logged = from.log().len();
    let text = script(&stock.images(from.host()), &to, &[]);
    let log = from.log().split_off(logged);
    assert!(!["POST", "PUT", "PATCH", "DELETE"].iter().any(|method| log.contains(method)), "{log}");
    assert!(!to.log().contains("mirror"), "{}", to.log());
    let folder = tempfile::tempdir().unwrap();
    run_script(folder.path(), &text, &[]);
    assert_all(&stock, to.host());
    // Again, as it says.
    run_script(folder.path(), &text, &[]);
    assert_all(&stock, to.host());
}

#[test]
fn skopeo_carries_both_legs_through_a_folder() {
    let (mut stock, from, to) = (stock(), RealRegistry::start(), RealRegistry::start());
    stock.fill(from.host());
    // A layer that skopeo would compress if it were let.
    let plain = stock.content.image("linux/amd64", &[plain_layer(9, 600)]);
    push_content(from.host(), "plain", &stock.content, &plain, Some("__x.y"));
    let mut images = stock.images(from.host());
    images.push(format!("{}/plain:__x.y", from.host()));
    let away = script(&images, &to, &["--leg", "to-filesystem"]);
    let back = script(&images, &to, &["--leg", "from-filesystem"]);
    assert!(!away.contains(to.host()) && !back.contains(from.host()), "{away}{back}");
    let folder = tempfile::tempdir().unwrap();
    let medium = folder.path().join("it's a $(medium)");
    let words = [medium.to_str().unwrap()];
    for _ in 0..2 {
        run_script(folder.path(), &away, &words);
    }
    assert!(!to.log().contains("mirror"), "{}", to.log());
    drop(from);
    run_script(folder.path(), &back, &words);
    assert_all(&stock, to.host());
    stock.assert_there(to.host(), "mirror/plain", "__x.y", &plain);
    // The layer that all share is there once, and once more for Docker's.
    let shared = layer(1, 3000).digest.hex();
    let copies = walkdir::WalkDir::new(&medium).into_iter().filter_map(Result::ok);
    let copies: Vec<_> = copies.filter(|file| file.file_name().to_str() == Some(&shared)).collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    // Without the folder it says what it wants, and a folder that skopeo can't name is refused.
    assert!(!try_script(folder.path(), &back, &[]).status.success());
    let refused = try_script(folder.path(), &back, &["a:b"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("colon"), "{refused:?}");
}

#[test]
fn an_index_inside_an_index_is_copied_from_the_inside_out() {
    let (mut stock, from, to) = (stock(), RealRegistry::start(), RealRegistry::start());
    let outer = stock.content.index(&[stock.pinned[0].clone(), stock.app.clone()]);
    push_content(from.host(), "nested", &stock.content, &outer, Some("v1"));
    let images = [format!("{}/nested:v1", from.host())];
    let folder = tempfile::tempdir().unwrap();
    run_script(folder.path(), &script(&images, &to, &[]), &[]);
    stock.assert_there(to.host(), "mirror/nested", "v1", &outer);
    let again = RealRegistry::start();
    let [away, back] =
        ["to-filesystem", "from-filesystem"].map(|leg| script(&images, &again, &["--leg", leg]));
    run_script(folder.path(), &away, &["medium"]);
    run_script(folder.path(), &back, &["medium"]);
    stock.assert_there(again.host(), "mirror/nested", "v1", &outer);
    let mapping = super::plan(&images, "mapping", &[]).success();
    mapping.stderr_has("has an index inside its index, which `oc image mirror` may not copy");
}
