use std::fs;

use crate::catalog::testing::Memory;
use crate::catalog::{Catalog, CatalogError, DATABASE_LABEL, Filter, Form, read};
use crate::oci::Descriptor;
use crate::store::chain;

const TABLES: &str = "
    CREATE TABLE operatorbundle (name TEXT PRIMARY KEY, csv TEXT, bundle TEXT, bundlepath TEXT, version TEXT);
    CREATE TABLE package (name TEXT PRIMARY KEY, default_channel TEXT);
    CREATE TABLE channel (name TEXT, package_name TEXT, head_operatorbundle_name TEXT, PRIMARY KEY(name, package_name));
    CREATE TABLE channel_entry (entry_id INTEGER PRIMARY KEY, channel_name TEXT, package_name TEXT,
        operatorbundle_name TEXT, replaces INTEGER, depth INTEGER);
";
const ROWS: &str = "
    INSERT INTO package VALUES ('p', 'a');
    INSERT INTO channel VALUES ('a', 'p', 'p.v3');
    INSERT INTO operatorbundle (name, version, bundlepath) VALUES
        ('p.v1', '1.0.0', 'r.example/p:1'), ('p.v2', '2.0.0', ''), ('p.v3', '3.0.0', NULL);
    INSERT INTO channel_entry VALUES (1,'a','p','p.v3',2,0), (2,'a','p','p.v1',NULL,1), (3,'a','p','p.v2',NULL,1),
        (4,'a','p','p.v3',3,1);
";

fn database(statements: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(statements).unwrap();
    drop(connection);
    fs::read(path).unwrap()
}

fn image(memory: &mut Memory, bytes: &[u8]) -> Descriptor {
    let layer = memory.layer(&[("database/index.db", bytes)]);
    memory.image(&[(DATABASE_LABEL, "/database/index.db")], &[layer])
}

fn reading(bytes: &[u8]) -> Result<Catalog, CatalogError> {
    let mut memory = Memory::default();
    let image = image(&mut memory, bytes);
    read(&memory, &image)
}

fn refused(bytes: &[u8]) -> String {
    chain(&reading(bytes).unwrap_err())
}

#[test]
fn old_databases_without_later_tables_are_read() {
    let catalog = reading(&database(&format!("{TABLES}{ROWS}"))).unwrap();
    assert_eq!((catalog.form, catalog.path.as_str()), (Form::Database, "/database/index.db"));
    let package = &catalog.packages["p"];
    let channel = &package.channels["a"];
    let shown: Vec<_> = channel
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.replaces.as_deref(), entry.skips.join(",")))
        .collect();
    assert_eq!(
        shown,
        [
            ("p.v3", Some("p.v1"), "p.v2".to_owned()),
            ("p.v1", None, String::new()),
            ("p.v2", None, String::new())
        ]
    );
    assert_eq!(channel.head().unwrap().name, "p.v3");
    assert_eq!(
        catalog.select(&Filter { full: true, packages: Vec::new() }).unwrap().images(),
        ["r.example/p:1"]
    );
    // As old as can be: no version, no path of an image.
    let older = TABLES.replace(", bundlepath TEXT, version TEXT", "");
    let rows = ROWS.replace("(name, version, bundlepath)", "(name, csv, bundle)");
    assert_eq!(reading(&database(&format!("{older}{rows}"))).unwrap().packages["p"].bundles.len(), 3);
}

#[test]
fn deprecated_bundles_are_left_out() {
    let properties = "CREATE TABLE properties (type TEXT, value TEXT, operatorbundle_name TEXT);
        INSERT INTO properties VALUES ('olm.deprecated', '{}', 'p.v1'), ('olm.package', '{}', 'p.v2');";
    let table = "CREATE TABLE deprecated (operatorbundle_name TEXT PRIMARY KEY); INSERT INTO deprecated VALUES ('p.v1');";
    for more in [properties, table] {
        let catalog = reading(&database(&format!("{TABLES}{ROWS}{more}"))).unwrap();
        let entries = &catalog.packages["p"].channels["a"].entries;
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["p.v3", "p.v2"]);
        // What is kept is kept as it is.
        assert_eq!(entries[0].replaces.as_deref(), Some("p.v1"));
        assert!(!catalog.packages["p"].bundles.contains_key("p.v1"));
    }
    // A channel of nothing else is none.
    let old = "INSERT INTO channel VALUES ('old', 'p', 'p.v1'); INSERT INTO channel_entry VALUES (9,'old','p','p.v1',NULL,0);";
    let catalog = reading(&database(&format!("{TABLES}{ROWS}{table}{old}"))).unwrap();
    assert_eq!(catalog.packages["p"].channels.keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_is_no_whole_database_is_an_error_that_names_the_file() {
    let whole = database(&format!("{TABLES}{ROWS}"));
    let start = "the database `/database/index.db` of the catalog in memory can't be used: ";
    for (bytes, why) in [
        (b"no database at all, but long enough to be looked at".repeat(20), "it is no SQLite database"),
        (whole[..whole.len() / 2].to_vec(), "damaged or cut off"),
        (whole[..5000].to_vec(), "damaged or cut off"),
        (Vec::new(), "it has no table `operatorbundle`"),
        (database("CREATE TABLE x (y)"), "it has no table `operatorbundle`, which every catalog has"),
    ] {
        let shown = refused(&bytes);
        assert!(shown.starts_with(start) && shown.contains(why), "{shown}\nexpected {why}");
    }
    let mut memory = Memory::default();
    let image = memory.image(&[(DATABASE_LABEL, "/database/index.db")], &[]);
    let shown = chain(&read(&memory, &image).unwrap_err());
    assert!(shown.contains("has no file `/database/index.db`"), "{shown}");
}

#[test]
fn contradictions_in_a_database_are_errors() {
    for (change, why) in [
        ("DELETE FROM package", "is of the package `p`, which is not there"),
        ("UPDATE package SET name = NULL", "its table `package` has a row without `name`"),
        ("UPDATE package SET name = x'ff'", "Invalid column type"),
    ] {
        let shown = refused(&database(&format!("{TABLES}{ROWS}{change};")));
        assert!(shown.contains(why), "{shown}\nexpected {why}");
    }
}

#[test]
fn views_in_place_of_tables_are_not_run() {
    let view = "CREATE VIEW package AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x AS name, x AS default_channel FROM n;";
    let tables = TABLES.replace("CREATE TABLE package (name TEXT PRIMARY KEY, default_channel TEXT);", view);
    assert!(refused(&database(&tables)).contains("it has no table `package`"));
}

#[test]
fn a_database_in_wal_mode_needs_no_files_beside_it() {
    let bytes = database(&format!("PRAGMA journal_mode=WAL; {TABLES}{ROWS}"));
    assert_eq!(bytes[18], 2, "in WAL mode");
    assert!(reading(&bytes).is_ok());
}

#[test]
fn any_damage_is_an_error_or_a_catalog_and_never_a_crash() {
    let whole = database(&format!("{TABLES}{ROWS}"));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..20) {
            let at = random.usize(0..bytes.len());
            bytes[at] = random.u8(..);
        }
        drop(reading(&bytes));
    }
}

/// A second package, with which nothing is wrong.
const OTHER: &str = "
    INSERT INTO package VALUES ('q', 'a');
    INSERT INTO channel VALUES ('a', 'q', 'q.v1');
    INSERT INTO operatorbundle (name, version, bundlepath) VALUES ('q.v1', '1.0.0', 'r.example/q:1');
    INSERT INTO channel_entry VALUES (50,'a','q','q.v1',NULL,0);
";

fn only(package: &str) -> Filter {
    let wanted = crate::catalog::PackageFilter { name: package.to_owned(), ..Default::default() };
    Filter { full: false, packages: vec![wanted] }
}

#[test]
fn one_bad_package_is_an_error_for_those_who_take_it_only() {
    for (change, why) in [
        (
            "UPDATE channel_entry SET replaces = 1 WHERE entry_id = 2",
            "the channel `a`: replacing goes in a circle: it comes back to `p.v3`",
        ),
        (
            "UPDATE channel_entry SET replaces = 99 WHERE entry_id = 2",
            "`p.v1` replaces the entry 99, which is not there",
        ),
        (
            "UPDATE channel SET head_operatorbundle_name = 'none' WHERE package_name = 'p'",
            "its head `none` is not among its entries",
        ),
        ("DELETE FROM operatorbundle WHERE name = 'p.v3'", "its head `p.v3` is no bundle of the catalog"),
        (
            "UPDATE package SET default_channel = 'none' WHERE name = 'p'",
            "it has no channel `none`, its default",
        ),
    ] {
        let catalog = reading(&database(&format!("{TABLES}{ROWS}{OTHER}{change};"))).unwrap();
        assert_eq!(catalog.select(&only("q")).unwrap().images(), ["r.example/q:1"]);
        for filter in [only("p"), Filter::default(), Filter { full: true, packages: Vec::new() }] {
            let shown = catalog.select(&filter).unwrap_err().to_string();
            let start = "the package `p` can't be taken: ";
            assert!(shown.starts_with(start) && shown.contains(why), "{shown}\nexpected {why}");
        }
    }
}

#[test]
fn what_is_skipped_and_no_bundle_is_no_entry() {
    // As opm's loader writes `p.v2` where `p.v3` skips it and there never was one.
    let change = "DELETE FROM operatorbundle WHERE name IN ('p.v1', 'p.v2');";
    let catalog = reading(&database(&format!("{TABLES}{ROWS}{OTHER}{change}"))).unwrap();
    let channel = &catalog.packages["p"].channels["a"];
    let [entry] = &channel.entries[..] else { panic!("{channel:?}") };
    assert_eq!(
        (entry.name.as_str(), entry.replaces.as_deref(), entry.skips.join(",")),
        ("p.v3", Some("p.v1"), "p.v2".to_owned())
    );
    let full = Filter { full: true, packages: Vec::new() };
    for filter in [only("p"), Filter::default(), full] {
        assert!(catalog.select(&filter).is_ok());
    }
}

#[test]
fn a_version_is_read_from_the_property_where_its_column_is_empty() {
    let more = r#"CREATE TABLE properties (type TEXT, value TEXT, operatorbundle_name TEXT);
        INSERT INTO properties VALUES ('olm.package', '{"packageName":"p","version":"3.1.0"}', 'p.v3'),
            ('olm.package', '{"packageName":"p","version":"9.9.9"}', 'p.v1'), ('olm.package', 'no JSON', 'p.v2');
        UPDATE operatorbundle SET version = NULL WHERE name IN ('p.v3', 'p.v2');"#;
    let catalog = reading(&database(&format!("{TABLES}{ROWS}{more}"))).unwrap();
    let versions: Vec<&str> =
        catalog.packages["p"].bundles.values().map(|bundle| bundle.version.as_str()).collect();
    assert_eq!(versions, ["1.0.0", "", "3.1.0"]);
}
