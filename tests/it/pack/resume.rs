//! A run that was killed, failed or interrupted is gone on with, and what comes out does not show it.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barge::oci::{Descriptor, Digest};
use serde_json::json;

use super::{Packed, listing, pack, temp};
use crate::support::hostile::{Action, Config, Fault, Hostile, Matcher};
use crate::support::images::{Blob, Content, layer, noise};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MIB: usize = 1024 * 1024;

/// Several images of layers of all sizes, in one registry.
struct Scene {
    hostile: Hostile,
    content: Content,
    images: Vec<Descriptor>,
    names: Vec<String>,
    temp: tempfile::TempDir,
}

impl Scene {
    fn new(sizes: &[usize]) -> Self {
        let hostile = Hostile::honest();
        let mut content = Content::new();
        let (mut images, mut names) = (Vec::new(), Vec::new());
        for (at, size) in sizes.iter().enumerate() {
            let layers = [Blob::new(LAYER, noise(at as u64, *size)), layer(90, 3000)];
            let image = content.image("linux/amd64", &layers);
            hostile.seed(&format!("app{at}"), &content, &image, Some("v1"));
            names.push(format!("{}/app{at}:v1", hostile.host()));
            images.push(image);
        }
        Self { hostile, content, images, names, temp: temp() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// What an undisturbed run writes.
    fn undisturbed(&self) -> Vec<u8> {
        let path = self.path("undisturbed.tar");
        pack(&path, &self.names).run().success();
        fs::read(path).unwrap()
    }

    /// The large layer of an image.
    fn large(&self, at: usize) -> Digest {
        let document: serde_json::Value =
            serde_json::from_slice(&self.content.blobs[&self.images[at].digest]).unwrap();
        document["layers"][0]["digest"].as_str().unwrap().parse().unwrap()
    }

    /// How often a blob was asked for, and with which `Range`.
    fn asked(&self, digest: &Digest) -> Vec<Option<String>> {
        let requests = self.hostile.requests_on("GET", &format!("/blobs/{digest}"));
        requests.iter().map(|request| request.head.header("range").map(str::to_owned)).collect()
    }
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn journal(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial.journal", path.display()))
}

#[test]
fn killed_at_random_moments_it_goes_on_and_ends_the_same() {
    let scene = Scene::new(&[400_000, 700_000, 50_000, 2_000_000, 1000, 300_000]);
    let expected = scene.undisturbed();
    scene.hostile.fault(Fault::on("GET", "/blobs/", Action::Throttle(8_000_000)));
    for seed in 0..12 {
        let path = scene.path(&format!("killed{seed}.tar"));
        let mut kills = 0;
        for byte in noise(seed, 6) {
            let mut running = pack(&path, &scene.names).args(["--jobs", "2"]).spawn();
            std::thread::sleep(Duration::from_millis(u64::from(byte)));
            if running.has_ended() {
                break;
            }
            running.kill();
            running.wait();
            kills += 1;
            let finished = path.exists() && fs::read(&path).unwrap() != expected;
            assert!(!finished, "a file under the final name is whole");
        }
        let outcome = pack(&path, &scene.names).run().success();
        assert!(fs::read(&path).unwrap() == expected, "{seed} after {kills} kills: {outcome}");
        let sidecar = fs::read(scene.path(&format!("killed{seed}.barge.json"))).unwrap();
        assert!(sidecar == fs::read(scene.path("undisturbed.barge.json")).unwrap());
        assert!(!journal(&path).exists());
    }
    let left = listing(scene.temp.path());
    assert!(left.iter().all(|name| !name.contains(".partial")), "{left:?}");
}

#[test]
fn whole_blobs_are_not_fetched_again_however_short_the_run_was() {
    let scene = Scene::new(&[300_000, 500_000, 40_000, 600_000]);
    let expected = scene.undisturbed();
    // The last large layer stops in its middle: everything else is there by then.
    let last = scene.large(3);
    let stall = Action::StallBody(100_000, Duration::from_secs(60));
    scene.hostile.fault(Fault::on("GET", &last.to_string(), stall).once());
    scene.hostile.forget_requests();
    let path = scene.path("killed.tar");
    let mut running = pack(&path, &scene.names).spawn();
    let others = [scene.large(0), scene.large(1), scene.large(2)];
    let partial = scene.path("killed.tar.partial");
    let contains = |digest: &Digest| {
        let bytes = fs::read(&partial).unwrap_or_default();
        let content = &scene.content.blobs[digest];
        bytes.windows(64).any(|window| window == &content[content.len() - 64..])
    };
    wait_for("the other layers", || others.iter().all(contains));
    running.kill();
    running.wait();
    scene.hostile.clear_faults();
    scene.hostile.forget_requests();
    let outcome = pack(&path, &scene.names).run().success();
    outcome.stderr_has("going on with the plan that was made").stdout_has("were there from before");
    for digest in &others {
        assert_eq!(scene.asked(digest), [], "{}", scene.hostile.transcript());
    }
    assert_eq!(scene.asked(&last), [None]);
    assert!(scene.hostile.requests_on("*", "/manifests/").is_empty(), "names are not resolved again");
    assert!(fs::read(&path).unwrap() == expected);
}

/// Packs until the large layer fails for good after 20 MiB.
fn broken_off(scene: &Scene, path: &Path) {
    let large = scene.large(0);
    let ranged = Matcher::on("GET", &large.to_string()).header("range");
    scene.hostile.fault(Fault::new(ranged, Action::status(503)));
    scene.hostile.fault(Fault::on("GET", &large.to_string(), Action::CutBody(20 * MIB)));
    pack(path, &scene.names).args(["--retry-times", "0"]).run().code(4).stderr_has(&large.to_string());
    scene.hostile.clear_faults();
    scene.hostile.forget_requests();
}

#[test]
fn a_large_blob_goes_on_by_range() {
    let scene = Scene::new(&[40 * MIB, 5000]);
    let expected = scene.undisturbed();
    let path = scene.path("out.tar");
    broken_off(&scene, &path);
    let mode = fs::metadata(journal(&path)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    pack(&path, &scene.names).run().success();
    let [Some(range)] = &scene.asked(&scene.large(0))[..] else {
        panic!("{}", scene.hostile.transcript());
    };
    let start: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert!((16 * MIB..=20 * MIB).contains(&start), "{range}");
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn what_was_damaged_in_between_is_found_and_fetched_again() {
    let scene = Scene::new(&[40 * MIB, 5000]);
    let expected = scene.undisturbed();
    let path = scene.path("out.tar");
    broken_off(&scene, &path);
    let large = &scene.content.blobs[&scene.large(0)];
    let at = expected.windows(64).position(|window| window == &large[..64]).unwrap() + 5 * MIB;
    let file = fs::OpenOptions::new().write(true).open(scene.path("out.tar.partial")).unwrap();
    file.write_all_at(b"damage", at as u64).unwrap();
    drop(file);
    pack(&path, &scene.names).run().success();
    let asked = scene.asked(&scene.large(0));
    assert_eq!((asked.len(), asked.last().unwrap()), (2, &None), "first the rest, then all of it");
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn names_keep_the_meaning_they_had_when_the_work_began() {
    let scene = Scene::new(&[300_000, 400_000]);
    let expected = scene.undisturbed();
    let path = scene.path("out.tar");
    scene.hostile.fault(Fault::on("GET", &scene.large(1).to_string(), Action::status(404)));
    let outcome = pack(&path, &scene.names).run().code(4);
    outcome.stderr_has(&scene.large(1).to_string()).stderr_has(&scene.names[1]);
    assert!(!path.exists());
    scene.hostile.clear_faults();
    let mut other = Content::new();
    let moved = other.image("linux/amd64", &[layer(66, 100)]);
    scene.hostile.seed("app0", &other, &moved, Some("v1"));
    // In another order and with other jobs it is the same command.
    let mut names = scene.names.clone();
    names.reverse();
    pack(&path, &names).args(["--jobs", "2", "--keep-going"]).run().success();
    assert!(fs::read(&path).unwrap() == expected);
    // A finished bundle is another matter: its names are resolved, and it is not overwritten.
    let outcome = pack(&path, &scene.names).run().code(3);
    outcome.stderr_has("exists and is another bundle");
    assert!(!journal(&path).exists());
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn a_repository_that_gained_a_tag_does_not_make_it_another_command() {
    let scene = Scene::new(&[300_000]);
    let path = scene.path("out.tar");
    let all = || pack(&path, ["--all-tags", &format!("{}/app0", scene.hostile.host())]);
    scene.hostile.fault(Fault::on("GET", &scene.large(0).to_string(), Action::status(404)));
    all().run().code(4);
    scene.hostile.clear_faults();
    scene.hostile.tag("app0", "v2", &scene.images[0].digest);
    all().run().success();
    assert_eq!(Packed::open(&path).names(), scene.names);
}

#[test]
fn other_arguments_are_refused_and_a_restart_takes_over_the_content() {
    let scene = Scene::new(&[300_000, 400_000]);
    let path = scene.path("out.tar");
    let missing = scene.large(1).to_string();
    scene.hostile.fault(Fault::on("GET", &missing, Action::status(404)));
    let two = &scene.names[..2];
    pack(&path, two).args(["--jobs", "1"]).run().code(4);
    scene.hostile.clear_faults();
    let others: [Vec<String>; 3] = [
        vec![scene.names[0].clone()],
        [two, &["--platform".to_owned(), "linux/amd64".to_owned()]].concat(),
        [two, &["--attachments".to_owned(), "none".to_owned()]].concat(),
    ];
    for other in &others {
        let outcome = pack(&path, other).run().code(3);
        outcome.stderr_has("was begun with other arguments").stderr_has("hint: ");
    }
    // The refusals spoilt nothing.
    let undisturbed = scene.path("undisturbed.tar");
    pack(&undisturbed, two).run().success();
    scene.hostile.forget_requests();
    pack(&path, two).arg("--restart").run().success();
    assert!(scene.asked(&scene.large(0)).is_empty(), "{}", scene.hostile.transcript());
    assert!(!scene.hostile.requests_on("*", "/manifests/").is_empty(), "names are resolved again");
    assert!(fs::read(&path).unwrap() == fs::read(&undisturbed).unwrap());
    assert!(!scene.path("out.tar.partial.old").exists());
}

#[test]
fn a_file_that_no_journal_speaks_of_is_not_touched() {
    let scene = Scene::new(&[300_000]);
    for args in [&[][..], &["--restart"]] {
        fs::write(scene.path("out.tar.partial"), "somebody's notes").unwrap();
        let outcome = pack(&scene.path("out.tar"), &scene.names).args(args).run().code(3);
        outcome.stderr_has("out.tar.partial exists and is nothing that a journal speaks of");
        assert_eq!(listing(scene.temp.path()), ["out.tar.partial"]);
        assert_eq!(fs::read(scene.path("out.tar.partial")).unwrap(), b"somebody's notes");
    }
}

#[test]
fn a_restart_may_ask_for_more_and_be_killed_itself() {
    let scene = Scene::new(&[300_000, 400_000, 500_000]);
    let expected = scene.undisturbed();
    let path = scene.path("out.tar");
    let missing = [scene.large(1).to_string(), scene.large(2).to_string()];
    scene.hostile.fault(Fault::on("GET", &missing[0], Action::status(404)));
    pack(&path, &scene.names[..2]).args(["--jobs", "1"]).run().code(4);
    scene.hostile.clear_faults();
    scene.hostile.fault(Fault::on("GET", &missing[1], Action::status(404)));
    scene.hostile.forget_requests();
    pack(&path, &scene.names).args(["--restart", "--jobs", "1"]).run().code(4);
    scene.hostile.clear_faults();
    pack(&path, &scene.names).run().success();
    assert!(fs::read(&path).unwrap() == expected);
    assert!(scene.asked(&scene.large(0)).is_empty(), "{}", scene.hostile.transcript());
    assert_eq!(scene.asked(&scene.large(1)).len(), 1);
    let left = listing(scene.temp.path());
    assert!(left.iter().all(|name| !name.contains(".partial")), "{left:?}");
}

#[test]
fn two_at_once_are_one_too_many() {
    let scene = Scene::new(&[300_000]);
    let large = scene.large(0).to_string();
    scene.hostile.fault(Fault::on("GET", &large, Action::StallBody(1000, Duration::from_secs(60))).once());
    for output in [scene.path("out.tar"), format!("oci:{}", scene.path("layout").display()).into()] {
        scene.hostile.clear_faults();
        scene.hostile.forget_requests();
        let stall = Action::Stall(Duration::from_secs(60));
        let id = scene.hostile.fault(Fault::on("GET", &large, stall).once());
        let mut first = pack(&output, &scene.names).spawn();
        wait_for("the first request", || scene.hostile.struck(id) == 1);
        pack(&output, &scene.names).run().code(3).stderr_has("another barge is writing").stderr_has("hint: ");
        first.kill();
        first.wait();
        pack(&output, &scene.names).run().success();
    }
}

#[test]
fn an_interruption_says_how_to_go_on() {
    let scene = Scene::new(&[300_000, 20_000]);
    let expected = scene.undisturbed();
    let path = scene.path("out.tar");
    for signal in ["INT", "TERM"] {
        let stall = Action::StallBody(1000, Duration::from_secs(60));
        let id = scene.hostile.fault(Fault::on("GET", &scene.large(0).to_string(), stall).once());
        let running = pack(&path, &scene.names).spawn();
        wait_for("the stall", || scene.hostile.struck(id) == 1);
        running.signal(signal);
        running.wait().code(130).stderr_has("interrupted; the same command goes on where it stopped");
        assert!(!path.exists());
        assert!(journal(&path).exists());
        scene.hostile.clear_faults();
    }
    pack(&path, &scene.names).run().success();
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn a_token_is_in_no_journal() {
    let scene = Scene::new(&[300_000]);
    let (user, password) = (crate::support::peers::USER, crate::support::peers::PASSWORD);
    scene.hostile.configure(|config| {
        *config = Config { auth: crate::support::hostile::Auth::Basic, ..Config::default() };
    });
    scene.hostile.fault(Fault::on("GET", &scene.large(0).to_string(), Action::status(404)));
    let path = scene.path("out.tar");
    pack(&path, &scene.names).args(["--creds", &format!("{user}:{password}")]).run().code(4);
    let text = String::from_utf8_lossy(&fs::read(journal(&path)).unwrap()).into_owned();
    assert!(!text.contains(password) && text.contains(&json!(scene.names[0]).to_string()));
}
