//! Reading an `SQLite` catalog, the form that catalogs had up to `OpenShift` 4.10.
//!
//! The database is copied out of the image into a file of its own that is gone afterwards, and opened so that nothing in
//! it is trusted: read-only, only plain tables, no more rows than catalogs have, and not for longer than it takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row};
use tempfile::NamedTempFile;

use super::fbc::VersionDocument;
use super::files::ImageFiles;
use super::{Bundle, Catalog, CatalogError, Channel, Entry, Form, Package};
use crate::bundle::workshop::default_folder;
use crate::store::Source;

/// The longest database that is read, in bytes; the field's largest have some hundred MiB.
const MAX_DATABASE: u64 = 4 * 1024 * 1024 * 1024;
/// How many rows of a table are read; the field's largest have some hundred thousand.
const MAX_ROWS: usize = 5_000_000;
/// How long reading may take: some seconds are enough for the largest, and a damaged one may go in circles.
const MAX_TIME: Duration = Duration::from_secs(120);
/// The property of bundles that are no longer to be installed.
const DEPRECATED: &str = "olm.deprecated";

/// Reads the catalog in the database at `path`.
pub(super) fn read(source: &dyn Source, files: &ImageFiles, path: &str) -> Result<Catalog, CatalogError> {
    let scratch =
        |source| CatalogError::Scratch { place: files.place().to_owned(), file: path.to_owned(), source };
    let mut builder = tempfile::Builder::new();
    let mut file =
        builder.prefix(".barge-catalog-").suffix(".db").tempfile_in(default_folder()).map_err(scratch)?;
    files.extract(source, path, &mut file, MAX_DATABASE)?;
    let mut catalog = Catalog {
        place: files.place().to_owned(),
        image: files.manifest().clone(),
        form: Form::Database,
        path: path.to_owned(),
        packages: BTreeMap::new(),
    };
    fill(&mut catalog, file).map_err(|fault| CatalogError::Database {
        place: files.place().to_owned(),
        file: path.to_owned(),
        why: fault.0,
    })?;
    Ok(catalog)
}

/// What is wrong with a database.
struct Fault(String);

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        Self(match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => "it is no SQLite database".to_owned(),
            Some(ErrorCode::DatabaseCorrupt) => format!("it is damaged or cut off ({error})"),
            Some(ErrorCode::OperationInterrupted) => {
                format!("it could not be read within {} seconds", MAX_TIME.as_secs())
            }
            _ => error.to_string(),
        })
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self(why)
    }
}

fn fill(catalog: &mut Catalog, file: NamedTempFile) -> Result<(), Fault> {
    let tables = Tables::open(file.path())?;
    // It is open: without a name nothing stays behind, whatever happens.
    drop(file);
    let interrupt = tables.connection.get_interrupt_handle();
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            if is_done.recv_timeout(MAX_TIME) == Err(mpsc::RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let outcome = tables.fill(catalog);
        drop(done);
        outcome
    })
}

/// The tables of a catalog's database.
struct Tables {
    connection: Connection,
    /// The columns of each table that is there.
    columns: HashMap<&'static str, BTreeSet<String>>,
}

/// The tables that are read, and whether a catalog must have them.
const TABLES: [(&str, bool); 7] = [
    ("operatorbundle", true),
    ("package", true),
    ("channel", true),
    ("channel_entry", true),
    ("related_image", false),
    ("properties", false),
    ("deprecated", false),
];

impl Tables {
    fn open(path: &Path) -> Result<Self, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        // Nobody else has the file: no locks, and none of the files that its header may ask for beside it.
        let address = format!("file:{}?immutable=1", escaped(path));
        let connection = Connection::open_with_flags(address, flags)?;
        connection.execute_batch(
            "PRAGMA trusted_schema=OFF; PRAGMA query_only=ON; PRAGMA cell_size_check=ON; PRAGMA mmap_size=0;",
        )?;
        let mut columns = HashMap::new();
        for (table, is_needed) in TABLES {
            // A view or a virtual table of that name would run what it says.
            let query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1 \
                         AND sql NOT LIKE 'CREATE VIRTUAL%'";
            let count: i64 = connection.query_row(query, [table], |row| row.get(0))?;
            if count == 0 {
                if is_needed {
                    return Err(Fault(format!("it has no table `{table}`, which every catalog has")));
                }
                continue;
            }
            let mut statement = connection.prepare(&format!("PRAGMA table_info({table})"))?;
            let names = statement.query_map([], |row| row.get::<_, String>(1))?;
            columns.insert(table, names.take(1000).collect::<Result<BTreeSet<_>, _>>()?);
        }
        Ok(Self { connection, columns })
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.columns.get(table).is_some_and(|columns| columns.contains(column))
    }

    /// Reads some columns of all rows of a table; older databases lack some, which are null then.
    fn rows<T>(
        &self,
        table: &'static str,
        columns: &[&str],
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Fault> {
        if !self.columns.contains_key(table) {
            return Ok(Vec::new());
        }
        let list: Vec<&str> =
            columns.iter().map(|column| if self.has(table, column) { column } else { "NULL" }).collect();
        let query = format!("SELECT {} FROM {table} ORDER BY rowid", list.join(", "));
        // A table may be without rowids, but none of these is.
        let mut statement = self.connection.prepare(&query)?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            if all.len() == MAX_ROWS {
                return Err(Fault(format!("its table `{table}` has more than {MAX_ROWS} rows")));
            }
            all.push(read(row)?);
        }
        Ok(all)
    }

    fn fill(&self, catalog: &mut Catalog) -> Result<(), Fault> {
        for (name, default_channel) in self.rows("package", &["name", "default_channel"], two)? {
            let package = Package { default_channel: filled(default_channel), ..Package::default() };
            catalog.packages.insert(needed(name, "package", "name")?, package);
        }
        let (bundles, deprecated) = (self.bundles()?, self.deprecated()?);
        let mut links = self.links()?;
        let channels = self.rows("channel", &["name", "package_name", "head_operatorbundle_name"], three)?;
        for (name, package, head) in channels {
            let name = needed(name, "channel", "name")?;
            let package_name = needed(package, "channel", "package_name")?;
            let Some(package) = catalog.packages.get_mut(&package_name) else {
                return Err(Fault(format!(
                    "its channel `{name}` is of the package `{package_name}`, which is not there"
                )));
            };
            let own = links.remove(&(package_name, name.clone())).unwrap_or_default();
            let head = head.unwrap_or_default();
            let mut channel = match channel(&head, &own, &deprecated) {
                Ok(channel) => channel,
                // One bad package is nothing to those who take others.
                Err(why) => {
                    package.fault.get_or_insert(format!("the channel `{name}`: {why}"));
                    continue;
                }
            };
            if !bundles.contains_key(&head) {
                let why = format!("the channel `{name}`: its head `{head}` is no bundle of the catalog");
                package.fault.get_or_insert(why);
            }
            // opm writes an entry for whatever is skipped or replaced, also where there never was such a bundle.
            channel.entries.retain(|entry| bundles.contains_key(&entry.name));
            // Of a channel that is no longer to be followed nothing is left.
            if channel.entries.is_empty() && package.default_channel.as_ref() != Some(&name) {
                continue;
            }
            for entry in &channel.entries {
                if let Some(bundle) = bundles.get(&entry.name) {
                    package.bundles.insert(entry.name.clone(), bundle.clone());
                }
            }
            package.channels.insert(name, channel);
        }
        for package in catalog.packages.values_mut() {
            if let Some(channel) = &package.default_channel
                && !package.channels.contains_key(channel)
            {
                let why = format!("it has no channel `{channel}`, its default");
                package.fault.get_or_insert(why);
            }
        }
        Ok(())
    }

    /// Reads all bundles by name.
    fn bundles(&self) -> Result<HashMap<String, Bundle>, Fault> {
        let mut bundles = HashMap::new();
        let columns = ["name", "version", "bundlepath"];
        for (name, version, image) in self.rows("operatorbundle", &columns, three)? {
            let name = needed(name, "operatorbundle", "name")?;
            let (version, image) = (version.unwrap_or_default(), image.unwrap_or_default());
            bundles.insert(name, Bundle { version, image, related: Vec::new() });
        }
        let property = |row: &Row<'_>| {
            let (name, kind) = two(row)?;
            let is_wanted = kind.as_deref() == Some("olm.package");
            let value = if is_wanted { row.get_ref(2)?.as_bytes().ok().map(<[u8]>::to_vec) } else { None };
            Ok((name, value))
        };
        for (bundle, value) in self.rows("properties", &["operatorbundle_name", "type", "value"], property)? {
            let of = bundle.and_then(|bundle| bundles.get_mut(&bundle));
            if let (Some(bundle), Some(value)) = (of, value)
                && bundle.version.is_empty()
            {
                let version = serde_json::from_slice::<VersionDocument>(&value);
                bundle.version = version.map(|document| document.version).unwrap_or_default();
            }
        }
        for (bundle, image) in self.rows("related_image", &["operatorbundle_name", "image"], two)? {
            let of = bundle.and_then(|bundle| bundles.get_mut(&bundle));
            if let (Some(bundle), Some(image)) = (of, image) {
                bundle.related.push(image);
            }
        }
        Ok(bundles)
    }

    /// Reads the names of the bundles that are no longer to be installed.
    fn deprecated(&self) -> Result<BTreeSet<String>, Fault> {
        let properties = self.rows("properties", &["operatorbundle_name", "type"], two)?;
        let properties = properties.into_iter().filter(|(_, kind)| kind.as_deref() == Some(DEPRECATED));
        let table = self.rows("deprecated", &["operatorbundle_name"], |row| row.get(0))?;
        Ok(properties.map(|(name, _)| name).chain(table).flatten().collect())
    }

    /// Reads the entries of all channels, by package and channel.
    fn links(&self) -> Result<HashMap<(String, String), Vec<Link>>, Fault> {
        let columns =
            ["package_name", "channel_name", "entry_id", "operatorbundle_name", "replaces", "depth"];
        let read = |row: &Row<'_>| {
            let link = Link {
                id: row.get(2)?,
                bundle: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                replaces: row.get(4)?,
                depth: row.get::<_, Option<i64>>(5)?.unwrap_or_default(),
            };
            let key: (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok((key, link))
        };
        let mut links: HashMap<(String, String), Vec<Link>> = HashMap::new();
        for ((package, channel), link) in self.rows("channel_entry", &columns, read)? {
            let key = (package.unwrap_or_default(), channel.unwrap_or_default());
            links.entry(key).or_default().push(link);
        }
        Ok(links)
    }
}

/// A row of `channel_entry`.
struct Link {
    id: i64,
    bundle: String,
    replaces: Option<i64>,
    depth: i64,
}

/// Makes a channel of its rows: what is replaced from the head down is a chain, and all else that is replaced is skipped
/// by the bundle that replaces it.
fn channel(head: &str, links: &[Link], deprecated: &BTreeSet<String>) -> Result<Channel, String> {
    let by_id: HashMap<i64, &Link> = links.iter().map(|link| (link.id, link)).collect();
    let replaced = |link: &Link| match link.replaces {
        None => Ok(None),
        Some(id) => match by_id.get(&id) {
            Some(replaced) => Ok(Some(*replaced)),
            None => Err(format!("`{}` replaces the entry {id}, which is not there", link.bundle)),
        },
    };
    let mut next = links.iter().filter(|link| link.bundle == head).min_by_key(|link| (link.depth, link.id));
    if next.is_none() {
        return Err(format!("its head `{head}` is not among its entries"));
    }
    let (mut chain, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut entries: BTreeMap<&str, Entry> = BTreeMap::new();
    let mut order = Vec::new();
    while let Some(link) = next {
        if !seen.insert(link.bundle.as_str()) {
            return Err(format!("replacing goes in a circle: it comes back to `{}`", link.bundle));
        }
        chain.insert(link.id);
        next = replaced(link)?;
        let replaces = next.map(|link| link.bundle.clone());
        entries.insert(&link.bundle, Entry { name: link.bundle.clone(), replaces, ..Entry::default() });
        order.push(link.bundle.as_str());
    }
    for link in links.iter().filter(|link| !chain.contains(&link.id)) {
        let skipped = replaced(link)?;
        let entry = entries.entry(&link.bundle).or_insert_with(|| {
            order.push(&link.bundle);
            Entry { name: link.bundle.clone(), ..Entry::default() }
        });
        if let Some(skipped) = skipped
            && !entry.skips.contains(&skipped.bundle)
        {
            entry.skips.push(skipped.bundle.clone());
        }
    }
    order.retain(|name| !deprecated.contains(*name));
    Ok(Channel { entries: order.into_iter().filter_map(|name| entries.remove(name)).collect() })
}

type Text = Option<String>;

fn two(row: &Row<'_>) -> rusqlite::Result<(Text, Text)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn three(row: &Row<'_>) -> rusqlite::Result<(Text, Text, Text)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn needed(text: Option<String>, table: &str, column: &str) -> Result<String, Fault> {
    filled(text).ok_or_else(|| Fault(format!("its table `{table}` has a row without `{column}`")))
}

/// Writes a path so that it can stand in an address.
fn escaped(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => text.push(*byte as char),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests;
