//! `barge inventory` through the program: what real registries hold, and what hostile ones say.

mod asking;
mod journal;

use std::collections::BTreeSet;
use std::path::Path;

use barge::inventory::{Inventory, Kind, Scope};
use barge::oci::{Descriptor, Digest};
use tempfile::TempDir;

use crate::support::barge::{Barge, barge};
use crate::support::hostile::Hostile;
use crate::support::images::{Blob, Content, layer, noise};
use crate::support::peers::{RealRegistry, push_content};

/// Two images of `team/app` and `team/tool`, with all that can be attached, and one of `other/base`.
struct Shop {
    content: Content,
    /// Layer of all images.
    shared: Blob,
    /// Index of two platforms and an attestation.
    app: Descriptor,
    tool: Descriptor,
    /// Layer of the tool alone.
    own: Blob,
    base: Descriptor,
    /// By tag: a signature of the index, and a fallback index that lists an artifact of it.
    attached: [(String, Descriptor); 2],
    artifact: Descriptor,
}

fn shop() -> Shop {
    let mut content = Content::new();
    let (shared, own) = (layer(1, 3000), layer(4, 900));
    let amd64 = content.image("linux/amd64", &[shared.clone(), layer(2, 2000)]);
    let arm64 = content.image("linux/arm64", &[shared.clone(), layer(3, 1800)]);
    let attestation = content.attestation(&amd64);
    let app = content.index(&[amd64, arm64, attestation]);
    let tool = content.image("linux/amd64", &[shared.clone(), own.clone()]);
    let base = content.docker_image("linux/s390x", &[shared.clone()]);
    let signature = content.signature(&app.digest, "registry.example/team/app");
    let artifact = content.artifact(&app, "application/vnd.example.sbom", b"parts");
    let referrers = content.referrers_index(&app.digest, std::slice::from_ref(&artifact));
    Shop { content, shared, app, tool, own, base, attached: [signature, referrers], artifact }
}

impl Shop {
    /// Fills a registry, below a path if that is not empty.
    fn fill(&self, host: &str, prefix: &str) {
        let push = |repository: &str, root: &Descriptor, tag: &str| {
            push_content(host, &format!("{prefix}{repository}"), &self.content, root, Some(tag));
        };
        push("team/tool", &self.tool, "v1");
        push("team/app", &self.app, "v1");
        push("team/app", &self.app, "latest");
        push("other/base", &self.base, "v1");
        self.attached.iter().for_each(|(tag, attached)| push("team/app", attached, tag));
    }

    /// Everything that a repository has of these.
    fn closures(&self, roots: &[&Descriptor]) -> BTreeSet<Digest> {
        let closures = roots.iter().flat_map(|root| self.content.closure(root));
        closures.map(|descriptor| descriptor.digest).collect()
    }
}

/// A folder for results.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Begins `barge inventory … -o FOLDER/NAME`.
    fn take(&self, name: &str, places: &[&str]) -> Barge {
        barge(["inventory", "-o"]).arg(self.file(name)).args(places)
    }

    #[track_caller]
    fn read(&self, name: &str) -> Inventory {
        Inventory::read(&self.file(name)).unwrap()
    }

    fn listing(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn names(inventory: &Inventory) -> Vec<&str> {
    inventory.content.images.iter().map(|image| image.name.as_deref().unwrap_or("-")).collect()
}

/// What an inventory says that a repository has.
fn held(inventory: &Inventory, repository: &str) -> BTreeSet<Digest> {
    let rows = inventory.content.holdings.iter();
    rows.filter(|row| row.repositories().any(|name| name == repository))
        .map(|row| row.digest.clone())
        .collect()
}

#[test]
fn a_catalogue_is_taken_down_whole() {
    let (registry, shop, desk) = (RealRegistry::start(), shop(), Desk::new());
    shop.fill(registry.host(), "");
    let said = desk.take("b.json", &[registry.host()]).run().success();
    assert!(said.stdout.starts_with("DONE: "), "{said}");
    let found = desk.read("b.json");
    let said = said.stdout_has("4 images").stdout_has("3 repositories").stdout_has(&found.state);
    assert!(said.stdout.lines().last().unwrap().starts_with("next: carry "), "{said}");
    assert_eq!(desk.listing(), ["b.json"]);
    assert_eq!((found.kind(), found.scope, found.checked), (Kind::Inventory, Scope::Registry, false));
    assert_eq!(found.target.as_deref(), Some(registry.host()));
    assert_eq!(names(&found), ["other/base:v1", "team/app:latest", "team/app:v1", "team/tool:v1"]);
    let rows: Vec<(Digest, String)> = found
        .content
        .images
        .iter()
        .map(|image| {
            let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
            (image.root.clone(), platforms.join(" "))
        })
        .collect();
    let row = |root: &Descriptor, platforms: &str| (root.digest.clone(), platforms.to_owned());
    let app = row(&shop.app, "linux/amd64 linux/arm64");
    assert_eq!(rows, [row(&shop.base, "linux/s390x"), app.clone(), app, row(&shop.tool, "linux/amd64")]);
    assert_eq!(held(&found, "other/base"), shop.closures(&[&shop.base]));
    assert_eq!(held(&found, "team/tool"), shop.closures(&[&shop.tool]));
    let attached = [&shop.app, &shop.attached[0].1, &shop.artifact];
    assert_eq!(held(&found, "team/app"), shop.closures(&attached));
    let shared = found.content.holdings.find(&shop.shared.digest).unwrap();
    assert_eq!(shared.size, shop.shared.bytes.len() as u64);
    assert_eq!(shared.repositories().collect::<Vec<_>>(), ["other/base", "team/app", "team/tool"]);
    let again = desk.take("b.json", &[registry.host()]).run().success();
    assert!(again.stdout.starts_with("NOTHING CHANGED: "), "{again}");
    registry.push("team/tool", &shop.content, &shop.base, Some("v2"));
    let changed = desk.take("b.json", &[registry.host()]).run().success();
    assert!(changed.stdout.starts_with("DONE: "), "{changed}");
}

#[test]
fn paths_repositories_images_and_lists_are_what_is_looked_at() {
    let (registry, shop, desk) = (RealRegistry::start(), shop(), Desk::new());
    let host = registry.host();
    shop.fill(host, "");
    let take = |name: &str, places: &[&str]| {
        desk.take(name, places).run().success();
        desk.read(name)
    };
    let team = take("team.json", &[&format!("{host}/team/")]);
    assert_eq!(names(&team), ["app:latest", "app:v1", "tool:v1"]);
    assert_eq!(team.target, Some(format!("{host}/team")));
    assert_eq!(team.scope, Scope::Registry);
    assert_eq!(team.content.holdings.repositories(), ["app", "tool"]);
    let tool = take("tool.json", &[&format!("{host}/team/tool"), &format!("docker://{host}/other/base")]);
    assert_eq!(names(&tool), ["other/base:v1", "team/tool:v1"]);
    assert_eq!((tool.target.as_deref(), tool.scope), (Some(host), Scope::Repositories));
    let pinned = format!("{host}/team/tool@{}", shop.tool.digest);
    let list = desk.file("images.txt");
    std::fs::write(&list, format!("# what we run\n{host}/team/app:v1\n{pinned}\n")).unwrap();
    let listed = take("listed.json", &["--from-file", list.to_str().unwrap()]);
    assert_eq!(names(&listed), ["team/app:v1", &format!("team/tool@{}", shop.tool.digest)]);
    assert_eq!(listed.scope, Scope::Images);
    assert_eq!(held(&listed, "other/base"), BTreeSet::new());
    assert_eq!(held(&listed, "team/tool"), shop.closures(&[&shop.tool]));
}

#[test]
fn sites_in_one_state_give_one_inventory() {
    let (a, b, shop, desk) = (RealRegistry::start(), Hostile::honest(), shop(), Desk::new());
    shop.fill(a.host(), "");
    b.configure(|config| config.page_size = 1);
    shop.fill(b.host(), "mirror/of/");
    desk.take("a.json", &[a.host()]).run().success();
    desk.take("b.json", &[&format!("{}/mirror/of/", b.host()), "--jobs", "1"]).run().success();
    let (a, b) = (desk.read("a.json"), desk.read("b.json"));
    assert_eq!(a.content.id(), b.content.id());
    assert_eq!(a.state, b.state);
    assert_ne!(a.target, b.target);
}

#[test]
fn an_inventory_is_small_and_smaller_compressed() {
    let (registry, desk) = (Hostile::honest(), Desk::new());
    let mut content = Content::new();
    for image in 0..60u64 {
        let layers: Vec<Blob> = (0..8).map(|at| layer(100 + image * 8 + at, 60)).collect();
        let root = content.image("linux/amd64", &layers);
        let repository = format!("project/of/some/length/image-{}", image / 4);
        registry.seed(&repository, &content, &root, Some(&format!("v1.{image}")));
    }
    desk.take("b.json", &[registry.host()]).run().success();
    desk.take("b.json.zst", &[registry.host()]).run().success();
    let found = desk.read("b.json");
    assert_eq!(found.content.holdings.len(), 60 * 10);
    assert_eq!(found.content.id(), desk.read("b.json.zst").content.id());
    let length = |name: &str| std::fs::metadata(desk.file(name)).unwrap().len();
    assert!(length("b.json") <= 130 * 600, "{} bytes a blob", length("b.json") / 600);
    assert!(length("b.json.zst") <= 60 * 600, "{} bytes a blob", length("b.json.zst") / 600);
    assert_eq!(std::fs::read(desk.file("b.json.zst")).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
}

#[test]
fn without_names_none_leaves() {
    let (registry, shop, desk) = (RealRegistry::start(), shop(), Desk::new());
    shop.fill(registry.host(), "");
    std::fs::remove_dir_all(registry.blob_file(&shop.tool.digest).parent().unwrap()).unwrap();
    let said = desk.take("b.json", &[registry.host(), "--omit-names", "--json"]).run().code(1);
    let text = std::fs::read_to_string(desk.file("b.json")).unwrap();
    for name in ["team", "tool", "other", "latest", registry.host()] {
        assert!(!text.contains(name), "{name} in {text}");
        assert!(!said.stdout.contains(name) && !said.stderr.contains(name), "{name} in {said}");
    }
    let found = desk.read("b.json");
    assert_eq!((found.failed.len(), found.content.images.len(), found.target), (1, 2, None));
    assert!(found.content.holdings.find(&shop.shared.digest).is_some());
}

#[test]
fn blobs_that_went_away_are_found_by_reading() {
    let (registry, shop, desk) = (RealRegistry::start(), shop(), Desk::new());
    shop.fill(registry.host(), "");
    desk.take("whole.json", &[registry.host(), "--check-blobs"]).run().success();
    let whole = desk.read("whole.json");
    desk.take("believed.json", &[registry.host()]).run().success();
    assert!(whole.checked);
    assert_eq!(whole.content.id(), desk.read("believed.json").content.id());
    registry.delete_blob_data(&shop.own.digest);
    desk.take("believed.json", &[registry.host()]).run().success().stdout_has("NOTHING CHANGED");
    let said = desk.take("b.json", &[registry.host(), "--check-blobs"]).run().code(1);
    assert!(said.stdout.starts_with("PARTIAL: "), "{said}");
    said.stderr_has(&format!("listed by manifests and not there: {} in team/tool", shop.own.digest))
        .stdout_has("3 of 4 images");
    let found = desk.read("b.json");
    assert_eq!(names(&found), ["other/base:v1", "team/app:latest", "team/app:v1"]);
    assert!(found.checked && found.content.holdings.find(&shop.own.digest).is_none());
    assert!(found.content.holdings.find(&shop.shared.digest).is_some());
    let [row] = &found.failed[..] else { panic!("{:?}", found.failed) };
    assert_eq!(row.name.as_deref(), Some("team/tool:v1"));
    assert!(row.why.contains(&shop.own.digest.to_string()), "{row:?}");
    assert_ne!(found.state, whole.state);
}

/// The length of a file that is there.
fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn without_a_file_the_document_is_in_the_result() {
    let (registry, shop, desk) = (RealRegistry::start(), shop(), Desk::new());
    shop.fill(registry.host(), "");
    let said = barge(["inventory", registry.host(), "--json"]).run().success().json();
    std::fs::write(desk.file("x.json"), said["inventory"].to_string()).unwrap();
    let found = desk.read("x.json");
    let counts =
        [&said["images"], &said["repositories"], &said["blobs"]].map(|count| count.as_u64().unwrap());
    assert_eq!(counts, [4, 3, found.content.holdings.len() as u64]);
    assert_eq!(said["state"], found.state);
    let said = desk.take("b.json", &[registry.host(), "--json"]).run().success().json();
    assert_eq!((&said["outcome"], &said["inventory"]), (&"DONE".into(), &serde_json::Value::Null));
    assert_eq!(said["length"].as_u64().unwrap(), size(&desk.file("b.json")));
    assert_eq!(said["content"], found.content.id().to_string());
}
