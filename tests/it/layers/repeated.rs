//! The same patches whatever happens: memory, jobs, being killed, several sites at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use barge::oci::Digest;

use super::{Desk, Release};
use crate::support::hostile::{Action, Fault, Hostile};
use crate::support::images::layer as noise_layer;
use crate::support::peers::RealRegistry;

/// A source that counts, with both releases, and the first one's inventory.
fn scene() -> (Desk, Hostile, Release, Release) {
    let source = Hostile::honest();
    let (first, second) = (Release::of(1), Release::of(2));
    first.fill(source.host());
    let desk = Desk::new();
    desk.run(&format!("pack {} -o v1.oci.tar", first.names(source.host())));
    desk.run(&format!("inventory {} -o v1.json", source.host()));
    second.fill(source.host());
    source.forget_requests();
    (desk, source, first, second)
}

/// How often a blob was read from its beginning.
fn reads(registry: &Hostile, digest: &Digest) -> usize {
    registry.requests_on("GET", &format!("/blobs/{digest}")).len()
}

#[test]
fn neither_memory_nor_jobs_nor_the_order_of_names_decides_about_bytes() {
    let (desk, source, _, second) = scene();
    let names = second.names(source.host());
    let turned = names.split(' ').rev().collect::<Vec<_>>().join(" ");
    desk.run(&format!("pack {names} --base v1.json -o one.barge"));
    let others = [
        format!("pack {turned} --base v1.json"),
        format!("pack {names} --base v1.json --memory 256M"),
        format!("pack {names} --base v1.json --memory 2G"),
        format!("pack {names} --base v1.json --jobs 1"),
        format!("pack {names} --base v1.json --jobs 8"),
        format!("pack {names} --base v1.json --base-content v1.oci.tar"),
    ];
    for (at, other) in others.iter().enumerate() {
        desk.run(&format!("{other} -o other{at}.barge"));
        assert!(desk.bytes(&format!("other{at}.barge")) == desk.bytes("one.barge"), "{other}");
    }
    let again = format!("pack {names} --base v1.json -o one.barge");
    desk.run(&again).stdout_has("NOTHING CHANGED");
    let max = format!("pack {names} --base v1.json --layer-delta max");
    desk.run(&format!("{max} -o max.barge"));
    desk.run(&format!("{max} --memory 256M -o max2.barge"));
    assert!(desk.bytes("max.barge") == desk.bytes("max2.barge"));
    assert_eq!(desk.rebuilt("max.barge"), desk.rebuilt("one.barge"));
}

/// The patches in the spool below the folder for working files.
fn spooled(desk: &Desk) -> BTreeSet<PathBuf> {
    let files = walkdir::WalkDir::new(desk.path("scratch")).into_iter().filter_map(Result::ok);
    let patches = files.filter(|entry| entry.file_type().is_file() && entry.file_name().len() == 64);
    patches.map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn a_run_that_was_killed_goes_on_and_makes_no_patch_twice() {
    let (desk, source, _, second) = scene();
    let names = second.names(source.host());
    desk.run(&format!("pack {names} --base v1.json -o whole.barge"));
    let line = format!("pack {names} --base v1.json --memory 256M -o out.barge");
    for count in 1..=4 {
        source.forget_requests();
        let mut running = desk.barge(&line).spawn();
        super::wait_for("a patch", || spooled(&desk).len() >= count || running.has_ended());
        running.kill();
        assert_eq!(running.wait().code, -1, "it was done before it was killed");
        let kept = spooled(&desk);
        assert!(kept.len() >= count && kept.len() < 6, "{kept:?}");
        assert!(!desk.path("out.barge").exists());
        // What was made is made no more: its layer is not read again.
        let read: Vec<Digest> = desk.rebuilt("whole.barge").into_iter().collect();
        source.forget_requests();
        let mut running = desk.barge(&line).spawn();
        super::wait_for("another patch", || spooled(&desk).len() > kept.len() || running.has_ended());
        running.kill();
        running.wait();
        let again = read.iter().filter(|digest| reads(&source, digest) > 0).count();
        assert!(again <= 6 - kept.len(), "{again} layers read with {} patches there", kept.len());
        assert!(kept.is_subset(&spooled(&desk)));
        desk.run(&line);
        assert!(desk.bytes("out.barge") == desk.bytes("whole.barge"), "after {count}");
        std::fs::remove_file(desk.path("out.barge")).unwrap();
        std::fs::remove_file(desk.path("out.barge.barge.json")).unwrap();
    }
    assert!(!desk.path("out.barge.partial").exists());
}

#[test]
fn a_run_that_was_killed_while_writing_takes_the_patches_it_has() {
    let (desk, source, first, mut second) = scene();
    // Something that travels whole, and that the source takes its time for.
    let own = noise_layer(77, 50_000);
    let root = second.content.image("linux/amd64", std::slice::from_ref(&own));
    source.seed("team/whole", &second.content, &root, Some(super::TAG));
    second.images.push(("team/whole", root));
    let names = second.names(source.host());
    desk.run(&format!("pack {names} --base v1.json -o whole.barge"));
    let line = format!("pack {names} --base v1.json -o out.barge");
    let slow = Action::Stall(Duration::from_secs(60));
    source.fault(Fault::on("GET", &format!("/blobs/{}", own.digest), slow));
    let mut running = desk.barge(&line).spawn();
    super::wait_for("the archive", || desk.path("out.barge.partial").exists() || running.has_ended());
    running.kill();
    assert_eq!(running.wait().code, -1, "it was done before it was killed");
    assert_eq!(spooled(&desk).len(), 6);
    source.clear_faults();
    source.forget_requests();
    desk.run(&line);
    assert!(desk.bytes("out.barge") == desk.bytes("whole.barge"));
    for digest in desk.rebuilt("whole.barge") {
        assert_eq!(reads(&source, &digest), 0, "{digest}");
    }
    assert_eq!(reads(&source, &first.layers.base.digest), 0);
}

#[test]
fn what_lies_in_the_spool_and_makes_no_sense_is_made_again() {
    let (desk, source, _, second) = scene();
    let names = second.names(source.host());
    desk.run(&format!("pack {names} --base v1.json -o whole.barge"));
    let line = format!("pack {names} --base v1.json -o out.barge");
    let killed = || {
        let mut running = desk.barge(&line).spawn();
        super::wait_for("a patch", || !spooled(&desk).is_empty() || running.has_ended());
        running.kill();
        running.wait();
        spooled(&desk).first().unwrap().clone()
    };
    std::fs::write(killed(), b"BARGEPT1 and nothing that makes sense").unwrap();
    desk.run(&line);
    assert!(desk.bytes("out.barge") == desk.bytes("whole.barge"));
    std::fs::remove_file(desk.path("out.barge")).unwrap();
    // A folder that others may write to is not read at all.
    let folder = killed().parent().unwrap().to_owned();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    desk.barge(&line).run().code(0);
    assert!(desk.bytes("out.barge") == desk.bytes("whole.barge"));
    let left = folder.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(desk.working_files(), [left], "what others may write to is left alone, and all else is gone");
}

#[test]
fn each_site_gets_its_bundle_and_each_patch_is_made_once() {
    let (desk, source, first, second) = scene();
    let sites = [RealRegistry::start(), RealRegistry::start()];
    first.fill(sites[0].host());
    first.fill(sites[1].host());
    // The second has the new image that shares nothing with the others.
    sites[1].push("team/solo", &second.content, second.root("team/solo"), Some(super::TAG));
    for (at, site) in sites.iter().enumerate() {
        desk.run(&format!("inventory {} -o site{at}.json", site.host()));
    }
    desk.run(&format!("diff site0.json {} -o alone0.barge", source.host()));
    desk.run(&format!("diff site1.json {} -o alone1.barge", source.host()));
    source.forget_requests();
    let line = format!("--json diff --each site0.json site1.json {} -o out", source.host());
    let made = desk.run(&line).json();
    let rows = made["sites"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{made:#}");
    let files: Vec<&str> = rows.iter().map(|row| row["file"].as_str().unwrap()).collect();
    for (at, file) in files.iter().enumerate() {
        assert!(desk.bytes(file) == desk.bytes(&format!("alone{at}.barge")), "site {at}");
        assert_eq!(desk.rebuilt(file).len(), 6 - at);
    }
    // Every layer is read once to make its patch, though two bundles have it.
    for digest in desk.rebuilt(files[1]) {
        assert_eq!(reads(&source, &digest), 1, "{digest}: {}", source.transcript());
    }
    assert_eq!(reads(&source, &first.layers.base.digest), 1);
    for (at, site) in sites.iter().enumerate() {
        desk.run(&format!("push {} {}", files[at], site.host())).stdout_has("DONE:");
        second.assert_copied(site.host(), "");
    }
}
