//! Pushes that are killed, and run again.

use std::thread::sleep;
use std::time::Duration;

use super::{assert_tag, assert_whole, shop};
use crate::support::barge::barge;
use crate::support::hostile::{Action, Config, Fault, Hostile};

/// Waits until a registry has seen so many writes.
fn wait_for_writes(to: &Hostile, count: usize, mut has_ended: impl FnMut() -> bool) {
    while to.writes().len() < count && !has_ended() {
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_push_leaves_old_tags_or_whole_images_and_goes_on() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let images = [("team/app", &shop.app), ("team/tool", &shop.tool)];
    for count in [1, 7, 20, 33, 38, 40, 43, 44] {
        let to = Hostile::start(Config { latency: Duration::from_millis(3), ..Config::default() });
        for (repository, _) in images {
            to.seed(repository, &shop.content, &shop.arm64, None);
            to.tag(repository, "v1", &shop.arm64.digest);
        }
        let mut running = barge(["push", "--jobs", "2", bundle.path(), to.host()]).spawn();
        wait_for_writes(&to, count, || running.has_ended());
        running.kill();
        running.wait();
        for (repository, root) in images {
            let tagged = &to.tags(repository)["v1"];
            if *tagged != shop.arm64.digest {
                assert_eq!(*tagged, root.digest, "after {count}");
                assert_whole(to.host(), repository, &shop.content, root);
            }
        }
        to.forget_requests();
        bundle.push(to.host(), &[]).success();
        for (repository, root) in images {
            assert_tag(to.host(), repository, "v1", &shop.content, root);
            assert_whole(to.host(), repository, &shop.content, root);
        }
        bundle.push(to.host(), &[]).success().stdout_has("NOTHING CHANGED");
    }
}

#[test]
fn an_interrupted_push_says_how_to_go_on() {
    let shop = shop();
    let bundle = shop.pack(&[]);
    let to = Hostile::honest();
    // It can't end by itself before the signal comes.
    to.fault(Fault::on("PUT", "/manifests/v1", Action::Stall(Duration::from_secs(30))));
    let mut running = barge(["push", bundle.path(), to.host()]).spawn();
    wait_for_writes(&to, 30, || running.has_ended());
    running.signal("INT");
    let outcome = running.wait().code(130);
    assert!(outcome.stderr.contains("the same command goes on"), "{outcome}");
    to.clear_faults();
    assert!(!to.tags("team/app").contains_key("v1"));
    bundle.push(to.host(), &[]).success();
    assert_tag(to.host(), "team/app", "v1", &shop.content, &shop.app);
}
