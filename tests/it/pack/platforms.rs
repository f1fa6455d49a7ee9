//! `--platform`: what is kept, what is left out, and how it is said.

use barge::bundle::table::Role;
use barge::oci::Descriptor;
use barge::select::Reason;

use super::{Packed, pack, temp};
use crate::support::hostile::Hostile;
use crate::support::images::{Blob, Content, layer};

#[test]
fn a_sparse_index_keeps_its_bytes_and_the_manifests_left_out() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let shared = layer(1, 3000);
    let children: Vec<Descriptor> = ["linux/amd64", "linux/arm64", "linux/s390x"]
        .iter()
        .zip(2..)
        .map(|(platform, seed)| content.image(platform, &[shared.clone(), layer(seed, 3000)]))
        .collect();
    let attestations: Vec<Descriptor> = children.iter().map(|child| content.attestation(child)).collect();
    let cache = content.blob(&Blob::new("application/vnd.buildkit.cacheconfig.v0", "cache"));
    let mut plain = content.image("linux/riscv64", &[layer(8, 500)]);
    plain.platform = None;
    let all = [&children[..], &attestations, &[cache.clone(), plain.clone()]].concat();
    let index = content.index(&all);
    hostile.seed("app", &content, &index, Some("v1"));
    let temp = temp();
    let path = temp.path().join("site.tar");
    let name = format!("{}/app:v1", hostile.host());
    let outcome = pack(&path, [&name, "--platform", "linux/amd64,linux/arm64"]).run().success();
    outcome.stdout_has("left out");
    let packed = Packed::open(&path);
    assert_eq!(packed.blob(&index.digest), Some(&content.blobs[&index.digest]));
    for kept in [&children[0], &children[1], &attestations[0], &attestations[1], &cache, &plain] {
        packed.has_all(&content, kept);
    }
    assert_eq!(packed.role(&cache.digest), Some(Role::Opaque));
    for left in [&children[2], &attestations[2]] {
        assert_eq!(packed.role(&left.digest), Some(Role::Unshipped));
        assert_eq!(packed.blob(&left.digest), Some(&content.blobs[&left.digest]));
        packed.lacks_all(&content, left, Reason::Platform, &[&left.digest, &shared.digest]);
    }
    let platforms: Vec<String> = packed.image(&name).platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    // What was left out was never asked for, but for the manifests.
    let config = content.closure(&children[2])[0].digest.clone();
    assert_eq!(hostile.requests_on("GET", &config.to_string()).len(), 0, "{}", hostile.transcript());
}

#[test]
fn variants_and_versions_of_windows() {
    let hostile = Hostile::honest();
    let mut content = Content::new();
    let arms: Vec<Descriptor> =
        ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/amd64"]
            .iter()
            .zip(1..)
            .map(|(platform, seed)| content.image(platform, &[layer(seed, 300)]))
            .collect();
    let index = content.index(&arms);
    hostile.seed("arm", &content, &index, Some("v1"));
    let windows: Vec<Descriptor> = ["10.0.17763.1", "10.0.20348.2"]
        .iter()
        .zip(10..)
        .map(|(version, seed)| {
            let mut child = content.image("windows/amd64", &[layer(seed, 300)]);
            let platform = child.platform.as_mut().unwrap();
            platform.os_version = Some((*version).to_owned());
            child
        })
        .collect();
    let windows_index = content.index(&windows);
    hostile.seed("win", &content, &windows_index, Some("v1"));
    let temp = temp();
    let kept = |wanted: &str, repository: &str, children: &[Descriptor]| -> Vec<bool> {
        let path = temp.path().join(format!("{}.tar", wanted.replace(['/', ','], "-")));
        let name = format!("{}/{repository}:v1", hostile.host());
        pack(&path, [&name, "--platform", wanted]).run().success();
        let packed = Packed::open(&path);
        children.iter().map(|child| packed.role(&child.digest) == Some(Role::Manifest)).collect()
    };
    assert_eq!(kept("linux/arm/v7", "arm", &arms), [false, false, true, false, false]);
    assert_eq!(kept("linux/arm", "arm", &arms), [false, false, true, false, false]);
    assert_eq!(kept("linux/arm/v6,linux/aarch64", "arm", &arms), [false, true, false, true, false]);
    // None has it: the best of the same architecture stands in, never another architecture.
    assert_eq!(kept("linux/arm/v8", "arm", &arms), [false, false, true, false, false]);
    // Neither version of Windows is more wanted than the other.
    assert_eq!(kept("windows/amd64", "win", &windows), [true, true]);
}

#[test]
fn a_platform_that_is_lacking_is_said() {
    let hostile = Hostile::honest();
    let host = hostile.host();
    let mut content = Content::new();
    let both = ["linux/amd64", "linux/arm64"].map(|p| content.image(p, &[layer(1, 300)]));
    let both = content.index(&both);
    let one = content.image("linux/amd64", &[layer(2, 300)]);
    let one_index = content.index(&[one]);
    let bare = content.image("linux/s390x", &[layer(3, 300)]);
    let artifact = content.null_layers();
    for (name, root) in [("both", &both), ("one", &one_index), ("bare", &bare), ("art", &artifact)] {
        hostile.seed(name, &content, root, Some("v1"));
    }
    let temp = temp();
    let path = temp.path().join("site.tar");
    let names = ["both", "one", "bare", "art"].map(|name| format!("{host}/{name}:v1"));
    // An index of which nothing would be left is not packed as if it were an image.
    let empty = format!("nothing of {} would travel: it has linux/amd64, not linux/arm64", names[1]);
    let outcome = pack(&path, &names).args(["--platform", "linux/arm64"]).run().code(3);
    outcome.stderr_has(&empty).stderr_has("give --keep-going");
    assert!(super::listing(temp.path()).is_empty());
    let outcome = pack(&path, &names).args(["--platform", "linux/arm64", "--keep-going"]).run().code(1);
    let outcome = outcome
        .stdout_has("PARTIAL")
        .stderr_has("nothing of it would travel: it has linux/amd64, not linux/arm64")
        .stderr_has("warning: without the platform linux/arm64")
        .stderr_has(&format!("{host}/bare:v1 (has only linux/s390x, which is packed)"));
    for fine in [&names[0], &names[3]] {
        assert!(!outcome.stderr.contains(fine.as_str()), "{outcome}");
    }
    let packed = Packed::open(&path);
    packed.has_all(&content, &bare);
    packed.has_all(&content, &artifact);
    assert!(!packed.names().contains(&names[1]), "{:?}", packed.names());
    // Nor is it what the same command does later.
    pack(&path, &names).args(["--platform", "linux/arm64", "--keep-going"]).run().code(1);
    let strict = temp.path().join("strict.tar");
    let some = [&names[0], &names[2]];
    let run = pack(&strict, some).args(["--platform", "linux/arm64", "--strict-platforms"]).run();
    run.code(3).stderr_has(&names[2]).stderr_has("linux/arm64").stderr_has("hint: ");
    pack(&strict, &names[..2])
        .args(["--platform", "linux/amd64,plan9/mips"])
        .run()
        .code(3)
        .stderr_has("no image has the platform plan9/mips; they have linux/amd64, linux/arm64");
    // A plan that failed leaves nothing behind.
    let left = super::listing(temp.path());
    assert!(left.iter().all(|name| name.starts_with("site.")), "{left:?}");
}
