//! A site over three months, and the delta bundles and documents of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barge::base::{FarSide, Known, load_file};
use barge::graph::Part;
use barge::inventory::{Content as Held, Gathering, ImageRow, Inventory, Kind, OutcomeRow, Scope};
use barge::oci::media_type::{OCI_LAYER, OCI_LAYER_GZIP};
use barge::oci::{Descriptor, Digest};
use barge::pack::{Asked, Leftover, Outcome, Output, Prepared, Relied};
use barge::request::{Request, WantedBlob, WantedImage};
use barge::store::Source;
use barge::store::layout::LayoutDirectory;
use barge::transfer::Silent;
use serde_json::Value;

use super::made::{How, Made, Site, WEB, WORKER, options, site, wishes};
use crate::support::archives::write_layout;
use crate::support::barge::barge;
use crate::support::images::{Blob, Content, gzip, plain_layer};

/// The repository of an image that comes in February.
pub const TOOL: &str = "registry.example/site/tool";

/// The site a month later than [`site`]: `web:v2` in place of `web:v1`, `worker:v1` as it was, and `tool:v1`, which shares
/// nothing with any other image.
pub fn february() -> Site {
    let mut site = site();
    let content = &mut site.content;
    let amd64 = content.image("linux/amd64", &[plain_layer(1, 3000), plain_layer(8, 1000)]);
    let web = content.index(&[amd64]);
    let (tag, signature) = content.signature(&web.digest, WEB);
    let tool = content.image("linux/amd64", &[plain_layer(9, 700)]);
    site.roots.extend([
        (format!("{WEB}:v2"), web),
        (format!("{WEB}:{tag}"), signature),
        (format!("{TOOL}:v1"), tool),
    ]);
    site.images = vec![format!("{WORKER}:v1"), format!("{WEB}:v2"), format!("{TOOL}:v1")];
    site
}

/// The site two months later: only `worker:v1` is left, and it is another image, with a layer that came in January and
/// one that came in February.
pub fn march() -> Site {
    let mut site = february();
    let layers = [plain_layer(1, 3000), plain_layer(8, 1000), plain_layer(10, 600)];
    let worker = site.content.image("linux/amd64", &layers);
    site.roots.retain(|(name, _)| !name.starts_with(WORKER));
    site.roots.push((format!("{WORKER}:v1"), worker));
    site.images = vec![format!("{WORKER}:v1")];
    site
}

/// Another state of the site: `worker:v2`, of the shared layer, its own layer with some bytes changed, and a gzip layer with
/// the files of both.
fn changed_site() -> Site {
    let (base, mut own) = (plain_layer(1, 3000), plain_layer(6, 2500).bytes);
    let files = gzip(&[&base.bytes[..base.bytes.len() - 1024], &own].concat());
    for at in [700, 1400, 1401, 2100] {
        own[at] ^= 0x55;
    }
    let layers = [base, Blob::new(OCI_LAYER, own), Blob::new(OCI_LAYER_GZIP, files)];
    let mut content = Content::new();
    let worker = content.image("linux/amd64", &layers);
    let name = format!("{WORKER}:v2");
    let own_layer = layers[1].digest.clone();
    Site {
        content,
        roots: vec![(name.clone(), worker)],
        images: vec![name],
        platforms: Vec::new(),
        own_layer,
    }
}

/// Packs the other state as a whole.
pub fn changed_bundle() -> Made {
    Made::of(&changed_site(), How::default())
}

/// The delta bundle, with patches, that takes whoever has the golden bundle to the other state.
pub fn changed(whole: &Made) -> Made {
    let temp = tempfile::tempdir().unwrap();
    whole.write(temp.path(), "site.oci.tar");
    changed_bundle().write(temp.path(), "next.oci.tar");
    let diff = barge(["diff", "site.oci.tar", "next.oci.tar", "-o", "site-patch.barge"]);
    diff.dir(temp.path()).env("TMPDIR", temp.path()).run().success();
    let file = |name: &str| std::fs::read(temp.path().join(name)).unwrap();
    Made::new(file("site-patch.barge"), file("site-patch.barge.barge.json"))
}

/// Packs what a far side lacks of a site.
pub fn pack_for(far_side: FarSide, request: Option<Request>, site: &Site, output: Output) -> PathBuf {
    let temp = tempfile::tempdir().unwrap();
    let roots: Vec<(&str, Descriptor)> = site.roots.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    write_layout(temp.path(), &site.content, &roots);
    let source: Arc<dyn Source> = Arc::new(LayoutDirectory::open(temp.path()).unwrap());
    let far_side = Arc::new(far_side);
    let compared = far_side.clone();
    let relied = Relied {
        bases: far_side.entries.clone(),
        holds: far_side,
        removed: Box::new(move |graph| compared.removed(graph, &|_| true)),
        leftover: Leftover::Refused,
    };
    let asked = Asked {
        sources: vec![source],
        wishes: wishes(&site.images),
        relied: Some(relied),
        request,
        ..Asked::default()
    };
    let options = options(&site.platforms, How::default(), output);
    match Prepared::of(asked, options).unwrap().write(&Silent).unwrap() {
        Outcome::Written { path, .. } | Outcome::Unchanged { path, .. } => path,
    }
}

/// Packs the delta bundle that takes whoever has `base` to a site.
pub fn delta(base: &Path, site: &Site, output: PathBuf) -> PathBuf {
    let known = load_file(base, 2).unwrap();
    pack_for(FarSide::join(vec![known], None).unwrap(), None, site, Output::Archive(output))
}

/// The bundles of three months in a folder: a full one and two deltas, each on the one before.
pub struct Months {
    pub temp: tempfile::TempDir,
    pub jan: PathBuf,
    pub feb: PathBuf,
    pub mar: PathBuf,
}

/// Packs the bundles of three months.
pub fn months() -> Months {
    let temp = tempfile::tempdir().unwrap();
    let jan = temp.path().join("site.oci.tar");
    super::made::pack(&site(), How::default(), Output::Archive(jan.clone())).unwrap();
    let feb = delta(&jan, &february(), temp.path().join("site-delta.barge"));
    let mar = delta(&feb, &march(), temp.path().join("mar.barge"));
    Months { temp, jan, feb, mar }
}

impl Months {
    /// The bundle of February, in memory.
    pub fn february(&self) -> Made {
        let sidecar = std::fs::read(self.temp.path().join("site-delta.barge.barge.json")).unwrap();
        Made::new(std::fs::read(&self.feb).unwrap(), sidecar)
    }

    /// What the bundle of January says as a base.
    pub fn known(&self) -> Known {
        load_file(&self.jan, 2).unwrap()
    }
}

/// What a target holds once the golden bundle is pushed below `prefix`, as its record says.
pub fn held(made: &Made) -> Held {
    let mut gathering = Gathering::default();
    gathering.repository("site/empty");
    let mut images = Vec::new();
    for image in made.record["images"].as_array().unwrap() {
        let source: barge::oci::Reference = image["name"].as_str().unwrap().parse().unwrap();
        let repository = source.name.repository.clone();
        images.push(ImageRow {
            name: Some(format!("{repository}:{}", source.tag.clone().unwrap())),
            platforms: serde_json::from_value(image["platforms"].clone()).unwrap(),
            root: digest(&image["root"]),
            source: Some(source),
        });
        let attached = image["attached"].as_array().unwrap().iter().map(|one| digest(&one["digest"]));
        let mut stack: Vec<Digest> = attached.chain([digest(&image["root"])]).collect();
        while let Some(at) = stack.pop() {
            let Some(row) = made.rows().iter().find(|row| row["digest"] == at.to_string().as_str()) else {
                continue;
            };
            if row["role"] == "unshipped" {
                continue;
            }
            let media_type = row["mediaType"].as_str().unwrap();
            gathering.add(&at, row["size"].as_u64().unwrap(), media_type, Some(&repository));
            if ["index", "manifest"].contains(&row["role"].as_str().unwrap()) {
                let document: Value = serde_json::from_slice(made.content(&at.blob_path())).unwrap();
                stack.extend(
                    crate::support::images::children(&document).into_iter().map(|child| child.digest),
                );
            }
        }
    }
    Held::new(images, gathering.finish())
}

fn digest(value: &Value) -> Digest {
    value.as_str().unwrap().parse().unwrap()
}

/// The inventory of a target that holds the golden bundle.
pub fn inventory(made: &Made) -> Inventory {
    let mut held = held(made);
    // An inventory does not know under which names things travelled.
    held.images.iter_mut().for_each(|image| image.source = None);
    let content = Held::new(held.images, held.holdings);
    let mut found =
        Inventory::new(Kind::Inventory, "target.example:5000".to_owned(), Scope::Registry, content);
    "2026-02-01T06:30:00Z".clone_into(&mut found.taken);
    found
}

/// The receipt of a push of the golden bundle, with an image that failed.
pub fn receipt(made: &Made) -> Inventory {
    let content = held(made);
    let mut outcomes: Vec<OutcomeRow> = content
        .images
        .iter()
        .map(|image| OutcomeRow {
            image: image.source.clone(),
            new_root: None,
            outcome: "pushed".to_owned(),
            part: Part::Image,
            reference: None,
            root: image.root.clone(),
            target: format!("target.example:5000/{}", image.name.as_ref().unwrap()).parse().ok(),
            why: None,
        })
        .collect();
    outcomes.push(OutcomeRow {
        image: "registry.example/site/zero:v1".parse().ok(),
        new_root: None,
        outcome: "failed".to_owned(),
        part: Part::Image,
        reference: None,
        root: Digest::sha256(b"zero"),
        target: "target.example:5000/site/zero:v1".parse().ok(),
        why: Some("the target refused the manifest".to_owned()),
    });
    let mut found = Inventory::new(Kind::Receipt, "target.example:5000".to_owned(), Scope::Images, content);
    "2026-02-01T06:00:00Z".clone_into(&mut found.taken);
    found.bundles = vec![Digest::sha256(made.content("barge.json"))];
    found.outcomes = outcomes;
    found
}

/// A request for the layer that only `worker:v1` has, and for one of which nobody knows which image needs it.
pub fn request(made: &Made) -> Request {
    let image = |at: usize| {
        let image = &made.record["images"][at];
        WantedImage {
            name: image["name"].as_str().map(str::to_owned),
            platforms: serde_json::from_value(image["platforms"].clone()).unwrap(),
            reference: None,
            root: Some(digest(&image["root"])),
        }
    };
    let blob = |wanted: &Digest| {
        let row = made.row(wanted);
        WantedBlob {
            digest: wanted.clone(),
            images: Vec::new(),
            media_type: row["mediaType"].as_str().unwrap().to_owned(),
            size: row["size"].as_u64().unwrap(),
        }
    };
    let shared = plain_layer(1, 3000).digest;
    let wanted = [
        (blob(&site().own_layer), vec![image(1)]),
        (blob(&shared), vec![image(0), image(1)]),
        (blob(&plain_layer(2, 2000).digest), Vec::new()),
    ];
    Request::new(wanted, vec![Digest::sha256(made.content("barge.json"))])
}
