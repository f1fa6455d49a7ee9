//! Delta bundles: what they rely on is proved, mounted, asked for, and told of.

use std::path::{Path, PathBuf};

use barge::bundle::Bundle;
use barge::graph::Graph;
use barge::graph::reliance::{BaseEntry, BaseKind, Holds, Seen};
use barge::graph::spool::Spool;
use barge::graph::survey::{Options, Survey};
use barge::input::{Opener, parse_argument};
use barge::inventory::{Inventory, Kind};
use barge::oci::{Descriptor, Digest};
use barge::plan::file_order;
use barge::request::Request;
use barge::select::{Attachments, Wanted};
use barge::store::registry::Client;
use barge::transfer::{Silent, archive, layout};
use tempfile::TempDir;

use super::{assert_tag, assert_whole};
use crate::support::barge::{Barge, barge};
use crate::support::hostile::{Action, Fault, Hostile, Mount};
use crate::support::images::{Blob, Content, layer};
use crate::support::peers::{RealRegistry, RegistryOptions, blob_exists};

/// What the far side has: these digests, seen there.
struct Far(Vec<Digest>, Vec<Seen>);

impl Holds for Far {
    fn seen(&self, digest: &Digest, _size: u64) -> Option<Vec<Seen>> {
        self.0.contains(digest).then(|| self.1.clone())
    }
}

/// Two images of one source: `app` builds on `base`, `tool` on `kept`; the far side has an image of both.
struct Month {
    source: Hostile,
    content: Content,
    base: Blob,
    kept: Blob,
    old: Descriptor,
    app: Descriptor,
    tool: Descriptor,
    folder: TempDir,
}

fn month() -> Month {
    let mut content = Content::new();
    let (base, kept) = (layer(1, 3000), layer(4, 2500));
    let old = content.image("linux/amd64", &[base.clone(), kept.clone()]);
    let app = content.image("linux/amd64", &[base.clone(), layer(2, 700)]);
    let tool = content.image("linux/amd64", &[kept.clone(), layer(3, 600)]);
    let source = Hostile::honest();
    source.seed("team/app", &content, &app, Some("v2"));
    source.seed("team/tool", &content, &tool, Some("v2"));
    Month { source, content, base, kept, old, app, tool, folder: tempfile::tempdir().unwrap() }
}

fn base_entry(kind: BaseKind, name: Option<&str>) -> BaseEntry {
    let state = (kind != BaseKind::Bundle).then(|| "AAAAA-BBBBB".to_owned());
    BaseEntry { id: Digest::sha256(b"the base"), kind, name: name.map(str::to_owned), state }
}

impl Month {
    /// Packs the images named as a delta bundle `mar` without the layers that the far side has.
    fn delta(&self, images: &[&str], entry: BaseEntry, seen: Vec<Seen>) -> PathBuf {
        self.delta_to(images, entry, &Far(vec![self.base.digest.clone(), self.kept.digest.clone()], seen))
    }

    /// Packs the images named as a delta bundle `mar` without what this far side has.
    fn delta_to(&self, images: &[&str], entry: BaseEntry, far: &Far) -> PathBuf {
        let client = Client::new(barge::store::registry::Options::default()).unwrap();
        let mut opener = Opener::new(&client);
        for image in images {
            opener.add(&parse_argument(&format!("{}/team/{image}:v2", self.source.host())).unwrap()).unwrap();
        }
        let opened = opener.finish().unwrap();
        let wanted = Wanted::default();
        let options = Options {
            select: &wanted,
            attachments: Attachments::None,
            keep_unselected: true,
            keep_going: false,
            jobs: 2,
        };
        let survey =
            Survey::run(&opened.sources, &opened.wishes, Spool::temporary().unwrap(), &options).unwrap();
        let mut graph = Graph::build(&survey, &wanted).unwrap();
        let removed = ["registry.example/team/gone:v1".to_owned()].into_iter().collect();
        graph.rely_on(vec![entry], removed, far, &Far(Vec::new(), Vec::new()));
        let order = file_order(&graph);
        let job = archive::Job {
            survey: &survey,
            graph: &graph,
            order: &order,
            sources: &opened.sources,
            unresolved: &[],
            jobs: 2,
            keep_going: false,
            reuse: None,
        };
        let path = self.folder.path().join("mar");
        layout::write(&job, &path, &Silent).unwrap();
        path
    }

    /// Begins a push in the folder of the bundle.
    fn push(&self, bundle: &Path, target: &str) -> Barge {
        barge(["push", &format!("./{}", bundle.file_name().unwrap().to_str().unwrap()), target])
            .dir(self.folder.path())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn wanted(path: &Path) -> (Vec<Digest>, Vec<String>) {
    let request = Request::read(path).unwrap();
    let blobs = request.blobs.iter().map(|blob| blob.digest.clone()).collect();
    (blobs, request.images.iter().map(|image| image.name.clone().unwrap()).collect())
}

#[test]
fn a_base_collected_behind_a_cache_changes_nothing_and_is_asked_for() {
    let month = month();
    let to =
        RealRegistry::start_with(&RegistryOptions { inmemory_cache: true, ..RegistryOptions::default() });
    to.push("team/app", &month.content, &month.old, Some("v1"));
    let entry = base_entry(BaseKind::Inventory, None);
    let bundle = month.delta(&["app", "tool"], entry, vec![Seen::Path("team/app".to_owned())]);
    let id = Bundle::open(&bundle).unwrap().id().unwrap().clone();
    assert!(blob_exists(to.host(), "team/app", &month.base.digest));
    to.delete_blob_data(&month.base.digest);

    let before = to.log().len();
    let failed = month.push(&bundle, to.host()).run().code(5).stderr_has("NOTHING CHANGED");
    let new = &to.log()[before..];
    assert!(!["POST", "PUT", "PATCH"].iter().any(|method| new.contains(method)), "{new}");
    failed
        .stderr_has("1 of 2 images need it; 1 could go on with --keep-going")
        .stderr_has("as after a garbage collection: carry the request back")
        .stderr_has("barge pack --request mar.request.json -o topup.barge");
    let request = month.file("mar.request.json");
    let app = format!("{}/team/app:v2", month.source.host());
    assert_eq!(wanted(&request), (vec![month.base.digest.clone()], vec![app.clone()]));
    let read = Request::read(&request).unwrap();
    assert_eq!((read.bundles, read.images[0].root.clone()), (vec![id], Some(month.app.digest.clone())));
    assert_eq!(read.images[0].reference.as_ref().unwrap().digest, Some(month.app.digest.clone()));

    // What is no request is not replaced.
    std::fs::write(&request, "notes").unwrap();
    month.push(&bundle, to.host()).run().code(5).stderr_has("is something else and stays");
    assert_eq!(std::fs::read_to_string(&request).unwrap(), "notes");

    let going = month
        .push(&bundle, to.host())
        .args(["--keep-going", "--request", "want.json", "--receipt", "receipt.json.zst", "--omit-names"])
        .run()
        .code(1);
    going.stdout_has("PARTIAL").stdout_has("1 image missing").stderr_has("nothing is deleted");
    assert_tag(to.host(), "team/tool", "v2", &month.content, &month.tool);
    assert!(to.client().manifest("team/app", "v2").is_none());
    assert!(to.client().manifest("team/app", &month.app.digest.to_string()).is_none());
    assert_eq!(wanted(&month.file("want.json")), (vec![month.base.digest.clone()], Vec::new()));
    let receipt = Inventory::read(&month.file("receipt.json.zst")).unwrap();
    assert_eq!((receipt.kind(), receipt.outcomes.len()), (Kind::Receipt, 2));
    assert_eq!(receipt.content.images.len(), 1);
    assert!(receipt.target.is_none() && receipt.content.images[0].name.is_none());
    assert!(receipt.content.holdings.find(&month.tool.digest).is_some());
    assert!(receipt.content.holdings.find(&month.app.digest).is_none());
}

#[test]
fn what_a_base_saw_elsewhere_is_mounted_and_the_receipt_tells() {
    let month = month();
    let to = RealRegistry::start();
    to.push("mirror/old/place", &month.content, &month.old, Some("v1"));
    let entry = base_entry(BaseKind::Receipt, None);
    let bundle = month.delta(&["app", "tool"], entry, vec![Seen::Path("old/place".to_owned())]);
    let target = format!("{}/mirror", to.host());
    let done = month.push(&bundle, &target).args(["--receipt", "receipt.json"]).run().success();
    done.stdout_has("mounted 2 blobs").stdout_has("as the bundle says");
    assert_whole(to.host(), "mirror/team/app", &month.content, &month.app);
    let receipt = Inventory::read(&month.file("receipt.json")).unwrap();
    assert_eq!(receipt.target.as_deref(), Some(&*target));
    assert_eq!(receipt.state, Bundle::open(&bundle).unwrap().record().unwrap().state());
    let names: Vec<&str> = receipt.content.images.iter().filter_map(|row| row.name.as_deref()).collect();
    assert_eq!(names, ["team/app:v2", "team/tool:v2"]);
    for root in [&month.app, &month.tool] {
        for one in month.content.closure(root) {
            let held = receipt.content.holdings.find(&one.digest).expect("all that is in place is listed");
            let path = if *root == month.app { "team/app" } else { "team/tool" };
            assert!(held.repositories().any(|found| found == path), "{}", one.digest);
        }
    }

    let before = to.log().len();
    let again = month.push(&bundle, &target).arg("--json").run().success();
    assert_eq!(again.json()["outcome"], "NOTHING CHANGED");
    assert_eq!(again.json()["receipt"]["state"], receipt.state);
    let new = &to.log()[before..];
    assert!(!["POST", "PUT", "PATCH"].iter().any(|method| new.contains(method)), "{new}");
}

#[test]
fn a_place_by_its_source_name_is_uploaded_from_where_mounts_are_refused() {
    let month = month();
    let to = Hostile::honest();
    to.configure(|config| config.mount = Mount::Never);
    to.seed("team/elsewhere", &month.content, &month.old, Some("v1"));
    let seen = Seen::Source(
        format!("{}/team/elsewhere", month.source.host()).parse::<barge::oci::Reference>().unwrap().name,
    );
    let bundle = month.delta(&["app"], base_entry(BaseKind::Bundle, Some("feb.barge")), vec![seen]);
    month.push(&bundle, to.host()).run().success();
    assert_whole(to.host(), "team/app", &month.content, &month.app);
}

#[test]
fn a_base_that_goes_away_in_between_costs_its_image_only() {
    let month = month();
    let to = Hostile::honest();
    to.configure(|config| config.mount = Mount::Never);
    to.seed("old/place", &month.content, &month.old, Some("v1"));
    let path = format!("/v2/old/place/blobs/{}", month.base.digest);
    to.fault(Fault::on("GET", &path, Action::status(404)).after(1));
    let entry = base_entry(BaseKind::Inventory, None);
    let bundle = month.delta(&["app", "tool"], entry, vec![Seen::Path("old/place".to_owned())]);
    month.push(&bundle, to.host()).run().code(1).stdout_has("PARTIAL");
    assert_tag(to.host(), "team/tool", "v2", &month.content, &month.tool);
    assert!(to.manifest("team/app", &month.app.digest.to_string()).is_none(), "{}", to.transcript());
    assert_eq!(wanted(&month.file("mar.request.json")).0, [month.base.digest.clone()]);
}

#[test]
fn each_cause_has_its_own_answer() {
    let month = month();
    let to = Hostile::honest();
    let seen = || vec![Seen::Path("team/app".to_owned())];
    let follows = month.delta(&["app"], base_entry(BaseKind::Bundle, Some("feb.barge")), seen());
    let answer = month.push(&follows, to.host()).run().code(5);
    let short = Digest::sha256(b"the base").short();
    let answer =
        answer.stderr_has(&format!("mar follows feb.barge ({short}…), which was not given: have it?"));
    answer.stderr_has(&format!("next: barge push feb.barge ./mar {}", to.host()));
    std::fs::remove_dir_all(&follows).unwrap();

    let other = month.delta(&["app"], base_entry(BaseKind::Receipt, None), seen());
    let answer = month.push(&other, to.host()).run().code(5).stderr_has("a bundle for another site");
    let answer =
        answer.stderr_has("was made for a site in state AAAAA-BBBBB").stderr_has("all of 1 image need it");
    // One piece may as well have been lost.
    answer.stderr_has("as after a garbage collection: carry the request back");
    assert!(to.writes().is_empty(), "{}", to.transcript());
}

#[test]
fn much_that_was_never_there_is_another_sites() {
    for (count, is_told) in [(8, true), (9, false)] {
        let mut month = month();
        let layers: Vec<Blob> = (0..count).map(|seed| layer(100 + seed, 300)).collect();
        month.app = month.content.image("linux/amd64", &layers);
        month.source.seed("team/app", &month.content, &month.app, Some("v2"));
        let far = layers.iter().map(|layer| layer.digest.clone()).collect();
        let bundle = month.delta_to(&["app"], base_entry(BaseKind::Receipt, None), &Far(far, Vec::new()));
        let answer = month.push(&bundle, Hostile::honest().host()).run().code(5);
        let answer = answer.stderr_has("a bundle for another site").stderr_has("in state AAAAA-BBBBB");
        assert_eq!(answer.stderr.contains("garbage collection"), is_told, "{answer}");
    }
}

#[test]
fn a_rehearsal_tells_which_images_would_be_left_out() {
    let month = month();
    let to = Hostile::honest();
    let mut content = Content::new();
    let kept = content.image("linux/amd64", std::slice::from_ref(&month.kept));
    to.seed("team/tool", &content, &kept, Some("v1"));
    let bundle = month.delta(&["app", "tool"], base_entry(BaseKind::Inventory, None), Vec::new());
    let app = format!("{}/team/app:v2", month.source.host());
    let rehearse = || month.push(&bundle, to.host()).args(["--dry-run", "--keep-going"]);
    let said = rehearse().run().code(1).stdout_has("NOTHING CHANGED: this was a dry run");
    said.stderr_has(&format!("1 of 2 images would be left out: 1 piece of content is nowhere: {app}"));
    assert!(!month.file("mar.request.json").exists(), "a rehearsal writes what it is told to only");
    let said = rehearse().args(["--json", "--request", "want.json"]).run().code(1).json();
    assert_eq!((&said["exitCode"], &said["leftOut"]), (&1.into(), &vec![&*app].into()), "{said}");
    assert_eq!(said["missing"][0]["digest"], month.base.digest.to_string(), "{said}");
    assert_eq!(wanted(&month.file("want.json")).0, [month.base.digest.clone()]);
    assert!(to.writes().is_empty(), "{}", to.transcript());
}

#[test]
fn going_on_needs_an_image_that_can() {
    let month = month();
    let to = Hostile::honest();
    let bundle = month.delta(&["app", "tool"], base_entry(BaseKind::Inventory, None), Vec::new());
    let failed = month.push(&bundle, to.host()).args(["--keep-going", "--receipt", "r.json"]).run().code(5);
    failed.stderr_has("all of 2 images need it").stderr_has("NOTHING CHANGED").never_says("could go on");
    let mut missing = vec![month.base.digest.clone(), month.kept.digest.clone()];
    missing.sort();
    assert_eq!(wanted(&month.file("mar.request.json")).0, missing);
    assert!(!month.file("r.json").exists() && to.writes().is_empty(), "{}", to.transcript());
}

#[test]
fn what_is_gone_is_looked_for_where_the_base_saw_it() {
    for (seen, elsewhere) in [(vec![Seen::Path("old/place".to_owned())], 0), (Vec::new(), 1)] {
        let month = month();
        let to = Hostile::honest();
        let bundle = month.delta(&["app", "tool"], base_entry(BaseKind::Inventory, None), seen);
        month.push(&bundle, to.host()).run().code(5);
        let asked =
            |repository| to.requests_on("*", &format!("/{repository}/blobs/{}", month.base.digest)).len();
        assert_eq!(asked("team/app"), 1, "{}", to.transcript());
        // Only the other image is pushed there.
        assert_eq!(asked("team/tool"), elsewhere, "{}", to.transcript());
        assert_eq!(asked("old/place"), 1 - elsewhere, "{}", to.transcript());
    }
}

#[test]
fn manifests_that_are_there_are_trusted_on_request_only() {
    let month = month();
    let to = Hostile::honest();
    let seen = vec![Seen::Path("team/app".to_owned())];
    to.seed("team/app", &month.content, &month.old, Some("v1"));
    let bundle = month.delta(&["app", "tool"], base_entry(BaseKind::Inventory, None), seen);
    month.push(&bundle, to.host()).run().success();
    for (more, blobs) in [(&[][..], 6), (&["--trust-manifests"][..], 0)] {
        to.forget_requests();
        month.push(&bundle, to.host()).args(more).run().success().stdout_has("NOTHING CHANGED");
        assert_eq!(to.requests_on("*", "/blobs/").len(), blobs, "{}", to.transcript());
        // Each of the two manifests once, and each of the two tags.
        assert_eq!(to.requests_on("*", "/manifests/").len(), 4, "{}", to.transcript());
    }
}

#[test]
fn more_platforms_bring_only_what_is_new() {
    let mut content = Content::new();
    let amd64 = content.image("linux/amd64", &[layer(1, 900)]);
    let arm64 = content.image("linux/arm64", &[layer(2, 800)]);
    let index = content.index(&[amd64.clone(), arm64.clone()]);
    let source = Hostile::honest();
    source.seed("team/app", &content, &index, Some("v1"));
    let name = format!("{}/team/app:v1", source.host());
    let (one, both) = (super::pack(&[&name], &["--platform", "linux/amd64"]), super::pack(&[&name], &[]));
    let to = Hostile::honest();
    one.push(to.host(), &[]).success();
    to.forget_requests();
    both.push(to.host(), &[]).success().stdout_has("uploaded 2 blobs").stdout_has("as the bundle says");
    assert_whole(to.host(), "team/app", &content, &index);
    let puts = to.requests_on("PUT", "/manifests/");
    assert!(puts.len() == 1 && puts[0].head.path.contains(&arm64.digest.hex()), "{}", to.transcript());
}
