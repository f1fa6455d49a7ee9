//! Repositories that share a layer: it is patched once, its base is read once, and the others get it by mount.

use std::collections::BTreeMap;

use barge::oci::{Descriptor, Digest};
use barge::request::Request;

use super::{Desk, TAG};
use crate::support::hostile::{Action, Fault, Hostile, Mount};
use crate::support::images::{Blob, Content};
use crate::support::layers::{Encoder, assert_copied, edited, image_of, layer, tree};
use crate::support::peers::RealRegistry;

/// Repositories whose images share a base; each has a layer of its own too.
struct Fleet {
    content: Content,
    base: Blob,
    images: BTreeMap<&'static str, Descriptor>,
}

const REPOSITORIES: [&str; 5] = ["fleet/a", "fleet/b", "fleet/c", "other/d", "other/e"];

impl Fleet {
    fn of(release: usize) -> Self {
        let mut content = Content::new();
        let changed = |seed, count| {
            (2..=release).fold(tree(seed, count, 25_000), |files, one| edited(&files, &[one], one as u64))
        };
        let base = layer(&changed(1, 20), Encoder::Flate2(6));
        let image = |(at, repository): (u64, &'static str)| {
            let own = layer(&changed(10 + at, 4), Encoder::Pigz);
            let lines = [("base", &base), ("own", &own)];
            (repository, image_of(&mut content, "linux/amd64", &lines))
        };
        let images = (0..).zip(REPOSITORIES).map(image).collect();
        Self { content, base, images }
    }

    fn fill(&self, host: &str, prefix: &str) {
        for (repository, root) in &self.images {
            let name = format!("{prefix}{repository}");
            crate::support::peers::push_content(host, &name, &self.content, root, Some(TAG));
        }
    }

    fn assert_copied(&self, host: &str, name: impl Fn(&str) -> String) {
        for (repository, root) in &self.images {
            assert_copied(host, &format!("{}:{TAG}", name(repository)), &self.content, root);
        }
    }
}

fn names(host: &str) -> String {
    REPOSITORIES.map(|repository| format!("{host}/{repository}:{TAG}")).join(" ")
}

/// How often the whole of a blob was sent; the preflight reads a byte.
fn reads(registry: &Hostile, digest: &Digest, size: usize) -> usize {
    let requests = registry.requests_on("GET", &format!("/blobs/{digest}"));
    requests.iter().filter(|request| request.sent * 2 > size as u64).count()
}

#[test]
fn one_patch_one_reading_of_the_base_and_mounts() {
    let (a, b) = (Hostile::honest(), Hostile::honest());
    let (first, second) = (Fleet::of(1), Fleet::of(2));
    let desk = Desk::new();
    first.fill(a.host(), "");
    first.fill(b.host(), "");
    desk.run(&format!("inventory {} -o b.json", b.host()));
    second.fill(a.host(), "");
    a.forget_requests();
    desk.run(&format!("pack {} --base b.json -o v2.barge", names(a.host())))
        .stdout_has(" in place of 6 layers, ");
    assert_eq!(reads(&a, &first.base.digest, first.base.bytes.len()), 1);
    assert_eq!(reads(&a, &second.base.digest, second.base.bytes.len()), 1);
    let rows = desk.record("v2.barge").patches;
    assert_eq!(rows.iter().filter(|row| row.target == second.base.digest).count(), 1);
    b.forget_requests();
    a.forget_requests();
    let pushed = desk.run(&format!("--json push v2.barge {}", b.host())).json();
    assert!(a.requests().is_empty());
    // All five repositories need the base; one upload, four mounts.
    let digest = &second.base.digest;
    assert_eq!(reads(&b, &first.base.digest, first.base.bytes.len()), 1, "{}", b.transcript());
    let completed = b.requests_on("PUT", "/blobs/uploads/");
    assert_eq!(completed.iter().filter(|put| put.head.query.contains(&digest.hex())).count(), 1);
    assert_eq!(pushed["counts"]["rebuiltBlobs"], 6, "{pushed:#}");
    assert_eq!(pushed["counts"]["mountedBlobs"], 4, "{pushed:#}");
    second.assert_copied(b.host(), str::to_owned);
    let rehearsed = desk.run(&format!("push v2.barge {} --dry-run", b.host()));
    rehearsed.never_says("rebuild");
}

#[test]
fn a_registry_that_does_not_mount_gets_it_rebuilt_again_from_one_reading() {
    let (a, b) = (Hostile::honest(), Hostile::honest());
    let (first, second) = (Fleet::of(1), Fleet::of(2));
    let desk = Desk::new();
    first.fill(a.host(), "");
    first.fill(b.host(), "");
    desk.run(&format!("inventory {} -o b.json", b.host()));
    second.fill(a.host(), "");
    desk.run(&format!("pack {} --base b.json -o v2.barge", names(a.host())));
    b.configure(|config| config.mount = Mount::Never);
    b.forget_requests();
    // The connection breaks in the midst of an upload once: it begins again.
    b.fault(
        Fault::on("PATCH|PUT", "fleet/b/blobs/uploads/", Action::CutUpload { after: 20_000, keep: false })
            .once(),
    );
    desk.run(&format!("push v2.barge {} --jobs 4", b.host())).stdout_has("DONE:");
    assert_eq!(reads(&b, &first.base.digest, first.base.bytes.len()), 1, "{}", b.transcript());
    second.assert_copied(b.host(), str::to_owned);
}

#[test]
fn a_base_that_goes_away_after_the_preflight_is_asked_for_then() {
    let (a, b) = (Hostile::honest(), Hostile::honest());
    let (first, second) = (Fleet::of(1), Fleet::of(2));
    let desk = Desk::new();
    first.fill(a.host(), "");
    first.fill(b.host(), "");
    desk.run(&format!("inventory {} -o b.json", b.host()));
    second.fill(a.host(), "");
    desk.run(&format!("pack {} --base b.json -o v2.barge", names(a.host())));
    let path = format!("/blobs/{}", first.base.digest);
    // The first request for it is the proof that it is there.
    let gone = Action::status(404);
    b.fault(Fault::on("GET", &path, gone).after(1));
    let failed = desk.fails(&format!("push v2.barge {} --request missing.json", b.host()), 1);
    failed.stdout_has("PARTIAL").stderr_has(&second.base.digest.to_string());
    for (repository, root) in &first.images {
        assert_eq!(b.tags(repository)[TAG], root.digest);
        assert!(!b.has_blob(repository, &second.base.digest));
    }
    let request = Request::read(&desk.path("missing.json")).unwrap();
    assert_eq!(request.blobs.iter().map(|blob| &blob.digest).collect::<Vec<_>>(), [&second.base.digest]);
    desk.run("pack --request missing.json -o topup.barge");
    desk.run(&format!("push v2.barge topup.barge {}", b.host())).stdout_has("DONE:");
    b.clear_faults();
    second.assert_copied(b.host(), str::to_owned);
}

#[test]
fn targets_with_other_names() {
    let (a, b) = (RealRegistry::start(), RealRegistry::start());
    let (first, second, third) = (Fleet::of(1), Fleet::of(2), Fleet::of(3));
    let desk = Desk::new();
    first.fill(a.host(), "");
    desk.run(&format!("pack {} -o v1.oci.tar", names(a.host())));
    // Below a path, and with a name that is mapped; the receipts know both.
    let map = format!("--map {}/fleet=ships", a.host());
    let targets = [(format!("{}/site", b.host()), ""), (b.host().to_owned(), map.as_str())];
    let named = |at: usize, repository: &str| match at {
        0 => format!("site/{repository}"),
        _ => repository.replace("fleet/", "ships/"),
    };
    for (at, (target, map)) in targets.iter().enumerate() {
        desk.run(&format!("push v1.oci.tar {target} {map} --receipt r{at}.json"));
        first.assert_copied(b.host(), |repository| named(at, repository));
    }
    second.fill(a.host(), "");
    for (at, (target, map)) in targets.iter().enumerate() {
        // By the receipt, and by an inventory of the target, which knows names there only.
        desk.run(&format!("pack {} --base r{at}.json -o v2-{at}.barge", names(a.host())))
            .stdout_has(" in place of 6 layers, ");
        desk.run(&format!("push v2-{at}.barge {target} {map} --receipt s{at}.json")).stdout_has("DONE:");
        second.assert_copied(b.host(), |repository| named(at, repository));
    }
    third.fill(a.host(), "");
    desk.run(&format!("inventory {}/site/ -o site.json", b.host()));
    desk.run(&format!("pack {} --base site.json -o v3.barge", names(a.host())))
        .stdout_has(" in place of 6 layers, ");
    // What was seen below `site` is found from another place at the same registry too.
    desk.run(&format!("push v3.barge {}/site", b.host())).stdout_has("DONE:");
    third.assert_copied(b.host(), |repository| named(0, repository));
    desk.run(&format!("push v3.barge {}/new", b.host())).stdout_has("DONE:");
    third.assert_copied(b.host(), |repository| format!("new/{repository}"));
}
