//! `diff --each`: one source, several sites, one bundle for each state that they are in.

use super::{Desk, Month, brought, lacking};
use crate::support::hostile::Hostile;
use crate::support::peers::RealRegistry;

/// Three sites: one that has January, one that has nothing of it but the tool, and one like the first.
struct Sites {
    desk: Desk,
    a: Hostile,
    targets: [Hostile; 3],
    january: Month,
    february: Month,
}

fn sites() -> Sites {
    let (a, sites) = (Hostile::honest(), [Hostile::honest(), Hostile::honest(), Hostile::honest()]);
    let (january, february) = (Month::january(), Month::february());
    let desk = Desk::new();
    january.fill(a.host());
    january.pack(a.host(), &desk.path("jan.oci.tar"));
    for (site, more) in sites.iter().zip(["", "--image team/tool:v1", ""]) {
        let image = more.replace("team/", &format!("{}/team/", a.host()));
        desk.run(&format!("push jan.oci.tar {} {image}", site.host()));
    }
    for (site, name) in sites.iter().zip(["siteb", "sitec", "sited"]) {
        desk.run(&format!("inventory {} -o {name}.json", site.host()));
    }
    february.fill(a.host());
    february.pack(a.host(), &desk.path("feb.oci.tar"));
    Sites { desk, a, targets: sites, january, february }
}

impl Sites {
    /// Pushes to each site the file that was made for it, and asserts that all are as A is.
    fn deliver(&self, report: &serde_json::Value) {
        let rows = report["sites"].as_array().unwrap();
        assert_eq!(rows.len(), 3, "{report}");
        for (row, site) in rows.iter().zip(&self.targets) {
            let file = row["file"].as_str().unwrap();
            self.desk.run(&format!("push {file} {}", site.host())).stdout_has("DONE:");
            self.february.assert_at(site.host(), "");
        }
    }
}

#[test]
fn sites_in_the_same_state_share_a_file() {
    let scene = sites();
    let desk = &scene.desk;
    let done = desk.run("--json diff --each siteb.json sitec.json sited.json feb.oci.tar -o out").json();
    let rows = done["sites"].as_array().unwrap();
    assert_eq!(done["outcome"], "DONE");
    assert_eq!(rows[0]["file"], rows[2]["file"]);
    assert_ne!(rows[0]["file"], rows[1]["file"]);
    let names: Vec<&str> = rows.iter().map(|row| row["site"].as_str().unwrap()).collect();
    assert_eq!(names, ["siteb.json", "sitec.json", "sited.json"]);
    for (row, site) in rows.iter().zip(["siteb", "sitec", "sited"]) {
        assert_eq!(row["state"], desk.json(&format!("{site}.json"))["state"]);
        assert_eq!(row["expectedState"], desk.record("feb.oci.tar").state());
        let length = std::fs::metadata(desk.path(row["file"].as_str().unwrap())).unwrap().len();
        assert_eq!(row["length"], length);
    }
    let files: Vec<_> = std::fs::read_dir(desk.path("out")).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 4, "two bundles and their records: {files:?}");
    let record = desk.record(rows[0]["file"].as_str().unwrap());
    assert_eq!(brought(&record), lacking(&scene.february, &scene.january));
    scene.deliver(&done);
}

#[test]
fn the_table_says_what_each_site_gets() {
    let scene = sites();
    let desk = &scene.desk;
    let done = desk.run("diff --each siteb.json sitec.json sited.json feb.oci.tar -o out");
    assert!(done.stdout.starts_with("DONE: 2 bundles for 3 sites\n"), "{done}");
    for site in ["siteb", "sitec", "sited"] {
        let state = desk.json(&format!("{site}.json"))["state"].as_str().unwrap().to_owned();
        let row = done.stdout.lines().find(|line| line.contains(&format!("{site}.json"))).unwrap();
        assert!(row.contains(&state) && row.contains(" old ") && row.ends_with(".barge"), "{row}");
    }
    let state = desk.record("feb.oci.tar").state();
    let done = done.stdout_has(&format!("each should read back {state}"));
    // Again: everything is there already, and the table is the same but for the ages.
    let again = desk.run("diff --each siteb.json sitec.json sited.json feb.oci.tar -o out");
    let without_age = |text: &str| {
        let words = text.split_whitespace().filter(|word| !word.contains('.') || word.contains("barge"));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_age(&again.stdout), without_age(&done.stdout));
    // The order of the sites shows in the table only.
    desk.run("diff --each sited.json sitec.json siteb.json feb.oci.tar -o turned");
    let names = |folder: &str| {
        let entries = std::fs::read_dir(desk.path(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names("turned"), names("out"));
}

#[test]
fn from_a_registry_names_are_resolved_once() {
    let scene = sites();
    let (desk, a) = (&scene.desk, &scene.a);
    a.forget_requests();
    let line = format!("--json diff --each siteb.json sitec.json sited.json {} -o out", a.host());
    let done = desk.run(&line).json();
    for (repository, tag, _) in &scene.february.images {
        let mut asked = a.requests_on("*", &format!("/{repository}/manifests/{tag}"));
        asked.retain(|request| request.head.path.ends_with(&format!("/{tag}")));
        assert_eq!(asked.len(), 1, "{}", a.transcript());
    }
    scene.deliver(&done);
    // The same as from the bundle, in content.
    let rows = done["sites"].as_array().unwrap();
    let record = desk.record(rows[0]["file"].as_str().unwrap());
    assert_eq!(brought(&record), lacking(&scene.february, &scene.january));
}

#[test]
fn two_real_sites_in_different_states() {
    let (a, b, c) = (RealRegistry::start(), RealRegistry::start(), RealRegistry::start());
    let (january, february, march) = (Month::january(), Month::february(), Month::march());
    let desk = Desk::new();
    for (month, name, targets) in [(&january, "jan", &[&b, &c][..]), (&february, "feb", &[&c])] {
        month.fill(a.host());
        month.pack(a.host(), &desk.path(&format!("{name}.oci.tar")));
        for target in targets {
            desk.run(&format!("push {name}.oci.tar {}", target.host()));
        }
    }
    march.fill(a.host());
    march.pack(a.host(), &desk.path("month.oci.tar"));
    desk.run(&format!("inventory {} -o b.json", b.host()));
    desk.run(&format!("inventory {} -o c.json", c.host()));
    let done = desk.run("--json diff --each b.json c.json month.oci.tar -o out").json();
    for (at, (site, had)) in [(&b, &january), (&c, &february)].into_iter().enumerate() {
        let file = done["sites"][at]["file"].as_str().unwrap();
        assert_eq!(brought(&desk.record(file)), lacking(&march, had));
        desk.run(&format!("push {file} {}", site.host()));
        march.assert_at(site.host(), "");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let scene = sites();
    let desk = &scene.desk;
    desk.fails("diff --each feb.oci.tar -o out", 2).stderr_has("sites' inventories");
    desk.fails("diff --each siteb.json feb.oci.tar", 2).stderr_has("no output was named");
    desk.fails("diff --each siteb.json sitec.json -o out", 2).stderr_has("an inventory holds no content");
    desk.fails("diff --each siteb.json gone.json feb.oci.tar -o out", 3).stderr_has("gone.json");
    desk.fails("diff --each siteb.json feb.oci.tar -o no/out", 3).stderr_has("no/out can't be made");
    assert!(!desk.path("no").exists());
}
