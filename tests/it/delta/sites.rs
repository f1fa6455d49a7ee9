//! Two registries with nothing but files between them.

use std::path::Path;

use super::{Desk, Month, assert_image, brought, lacking, relied};
use crate::support::barge::barge;
use crate::support::peers::{RealRegistry, skopeo};

/// What the base of a delta can be, as it is given to `pack --base`, while A and B are as they were in January.
fn bases(desk: &Desk, january: &Month, a: &str, b: &str, kind: &str) -> Vec<String> {
    let jan = desk.text("jan.oci.tar");
    match kind {
        "inventory" => {
            barge(["inventory", &format!("{b}/{kind}/"), "-o"]).arg(desk.path("b.json")).run().success();
            vec![desk.text("b.json")]
        }
        "receipt" => vec![desk.text("receipt.json")],
        "bundle" => vec![jan],
        "sidecar" => vec![desk.text("jan.barge.json")],
        "registry" => vec![format!("{b}/{kind}/")],
        // By digest: by tag the base would be what A has by the time of packing.
        "images" => {
            let images = january.images.iter();
            images.map(|(repository, _, root)| format!("{a}/{repository}@{}", root.digest)).collect()
        }
        "layout" => {
            let layout = format!("oci:{}", desk.text("layout"));
            barge(["pack", &jan, "-o", &layout]).run().success();
            vec![layout]
        }
        "foreign layout" => {
            let layout = desk.text("foreign");
            for name in ["app:v1", "tool:v1"] {
                let (from, to) = (format!("docker://{a}/team/{name}"), format!("oci:{layout}:{name}"));
                skopeo(["copy", "--quiet", "--all", "--src-tls-verify=false", &from, &to]);
            }
            vec![layout]
        }
        _ => unreachable!("{kind}"),
    }
}

fn pack_on(bases: &[String], names: &[String], output: &Path) {
    let bases = bases.iter().flat_map(|base| ["--base", base]);
    barge(["pack", "-o"]).arg(output).args(bases).args(names).run().success();
}

#[test]
fn a_delta_on_any_kind_of_base_makes_b_what_a_is() {
    let (a, b) = (RealRegistry::start(), RealRegistry::start());
    let (january, february, march) = (Month::january(), Month::february(), Month::march());
    january.fill(a.host());
    let desk = Desk::new();
    january.pack(a.host(), &desk.path("jan.oci.tar"));
    let kinds =
        ["inventory", "receipt", "bundle", "sidecar", "registry", "images", "layout", "foreign layout"];
    let place = |kind: &str| kind.replace(' ', "-");
    for kind in kinds {
        let target = format!("{}/{}", b.host(), place(kind));
        let receipt = desk.text(&format!("{}.json", place(kind)));
        let push = barge(["push", &desk.text("jan.oci.tar"), &target, "--receipt", &receipt]);
        push.run().success().stdout_has("as the bundle says");
    }
    let given = kinds.map(|kind| bases(&desk, &january, a.host(), b.host(), kind));
    february.fill(a.host());
    let mut names = february.names(a.host());
    let mut sizes = Vec::new();
    for (kind, given) in kinds.iter().zip(given) {
        let file = desk.path(&format!("feb-{}.barge", place(kind)));
        names.reverse();
        pack_on(&given, &names, &file);
        let record = desk.record(file.file_name().unwrap().to_str().unwrap());
        let mut expected = lacking(&february, &january);
        if *kind == "foreign layout" {
            // skopeo leaves behind what is attached by tag.
            let signature = january.content.closure(&january.attached[0].2);
            let rest = signature.into_iter().map(|descriptor| descriptor.digest);
            expected.extend(rest.filter(|digest| !january.content.manifests.contains_key(digest)));
        }
        assert_eq!(brought(&record), expected, "{kind}");
        assert!(!relied(&record).is_empty());
        sizes.push(std::fs::metadata(&file).unwrap().len());
        let target = format!("{}/{}", b.host(), place(kind));
        barge(["push"])
            .arg(&file)
            .arg(&target)
            .run()
            .success()
            .stdout_has("DONE:")
            .stdout_has(&record.state());
        february.assert_at(b.host(), &format!("{}/", place(kind)));
        barge(["push"]).arg(&file).arg(&target).run().success().stdout_has("NOTHING CHANGED");
    }
    let full = std::fs::metadata(desk.path("jan.oci.tar")).unwrap().len();
    assert!(sizes.iter().all(|size| *size < full), "{sizes:?} and {full}");

    // A delta of the delta: what B has is known by the file that brought it.
    let first = format!("{}/bundle", b.host());
    march.fill(a.host());
    let base = desk.text("feb-bundle.barge");
    pack_on(&[base], &march.names(a.host()), &desk.path("mar.barge"));
    assert_eq!(brought(&desk.record("mar.barge")), lacking(&march, &february));
    barge(["push", &desk.text("mar.barge"), &first]).run().success();
    march.assert_at(b.host(), "bundle/");
    let inspected = |host: &str, name: &str| {
        skopeo(["inspect", "--raw", "--tls-verify=false", &format!("docker://{host}/{name}")])
    };
    assert_eq!(inspected(a.host(), "team/app:v3"), inspected(b.host(), "bundle/team/app:v3"));
    // What a foreign tool gets from B is an image, not only bytes.
    let to = format!("oci:{}:v3", desk.text("copied"));
    let from = format!("docker://{}/bundle/team/app:v3", b.host());
    skopeo(["copy", "--quiet", "--all", "--src-tls-verify=false", &from, &to]);
}

#[test]
fn from_mirror_to_mirror_by_diff() {
    let (a, b) = (RealRegistry::start(), RealRegistry::start());
    let (january, february) = (Month::january(), Month::february());
    january.fill(a.host());
    let desk = Desk::new();
    desk.run(&format!("diff {}/ {} -o first.barge", b.host(), a.host()));
    desk.run(&format!("push first.barge {}", b.host()));
    january.assert_at(b.host(), "");
    desk.run(&format!("inventory {} -o b.json", b.host()));
    desk.run(&format!("diff b.json {}", a.host())).stdout_has("NOTHING CHANGED");
    february.fill(a.host());
    desk.run(&format!("diff b.json {} --image team/app -o app.barge", a.host()));
    desk.run(&format!("push app.barge {}", b.host()));
    let app = february.image("team/app", "v2");
    assert_image(b.host(), "team/app", "v2", &february.content, app);
    assert_image(b.host(), "team/tool", "v1", &january.content, january.image("team/tool", "v1"));
    desk.run(&format!("inventory {} -o b.json", b.host()));
    desk.run(&format!("diff b.json {} -o rest.barge", a.host()));
    let record = desk.record("rest.barge");
    assert!(relied(&record).len() > brought(&record).len());
    desk.run(&format!("push rest.barge {} --receipt b-receipt.json", b.host()));
    february.assert_at(b.host(), "");
    desk.run(&format!("diff {}/ {}/ --exit-code", b.host(), a.host()));
}

#[test]
fn a_new_image_takes_its_layers_from_where_the_base_saw_them() {
    let (a, b) = (RealRegistry::start(), RealRegistry::start());
    let (january, february) = (Month::january(), Month::february());
    january.fill(a.host());
    february.fill(a.host());
    let desk = Desk::new();
    january.pack(a.host(), &desk.path("all.oci.tar"));
    desk.run(&format!("push all.oci.tar {} --receipt b.json", b.host()));
    let new = format!("{}/team/new:v1", a.host());
    desk.run(&format!("pack {new} --base b.json -o new.barge"));
    // Its shared layer and layer 10 are in team/app only; the push itself is of team/new.
    assert_eq!(relied(&desk.record("new.barge")).len(), 2);
    desk.run(&format!("push new.barge {}", b.host())).stdout_has("mounted 2 blobs");
    let root = february.image("team/new", "v1");
    assert_image(b.host(), "team/new", "v1", &february.content, root);
    // What the base saw is found too where the bundle goes below another path.
    desk.run(&format!("push new.barge {}/elsewhere", b.host())).stdout_has("mounted 2 blobs");
    assert_image(b.host(), "elsewhere/team/new", "v1", &february.content, root);
}

#[test]
fn receipts_close_the_loop() {
    let a = RealRegistry::start();
    let b = RealRegistry::start();
    let months = [Month::january(), Month::february(), Month::march()];
    let desk = Desk::new();
    let mut base = String::new();
    for (at, month) in months.iter().enumerate() {
        month.fill(a.host());
        let names = month.names(a.host()).join(" ");
        let packed = desk.run(&format!("pack {names} {base} -o {at}.barge"));
        let pushed = desk.run(&format!("push {at}.barge {}/site --receipt {at}.json", b.host()));
        let state = desk.record(&format!("{at}.barge")).state();
        packed.stdout_has(&format!("  state    {state}"));
        pushed.stdout_has(&format!("  state    {state}  as the bundle says"));
        month.assert_at(b.host(), "site/");
        if at > 0 {
            assert_eq!(brought(&desk.record(&format!("{at}.barge"))), lacking(month, &months[at - 1]));
        }
        base = format!("--base {at}.json");
    }
}
