//! An examination that is broken off cleans up before it goes.

use std::time::{Duration, Instant};

use super::hostile::assert_empty;
use crate::support::barge::barge;
use crate::support::hostile::{Config, Hostile};

#[test]
fn signals_leave_nothing_at_the_registry() {
    for (signal, path) in [("INT", "/manifests/"), ("TERM", "/blobs/uploads/")] {
        let registry = Hostile::start(Config { latency: Duration::from_millis(150), ..Config::default() });
        let running = barge(["doctor", registry.host(), "--repo", "scratch"]).spawn();
        let begun = Instant::now();
        while registry.requests_on("PUT", path).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", registry.transcript());
            std::thread::sleep(Duration::from_millis(5));
        }
        running.signal(signal);
        let said = running.wait().code(130).stderr_has("cleaning up").stderr_has("is deleted again");
        let said = said
            .stderr_has(&format!("{}/scratch", registry.host()))
            .stderr_has("may stay in the catalogue, empty");
        assert!(said.stdout.is_empty(), "{said}");
        assert_empty(&registry);
    }
}
