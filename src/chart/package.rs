//! Packaged charts: what is in a `.tgz`, and making one of a chart's directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use ignore::gitignore::GitignoreBuilder;
use walkdir::WalkDir;

use super::ChartError;
use super::metadata::Metadata;
use crate::store::tar::Tarball;

/// The largest packaged chart that is read, in bytes; helm's own limit for what is in it is 100 MiB.
pub(super) const MAX_PACKAGE: u64 = 64 * 1024 * 1024;
/// How much a chart may unpack to, in bytes, with the charts packed in it.
const MAX_UNPACKED: u64 = 256 * 1024 * 1024;
/// How deep charts may be packed into each other.
const MAX_DEPTH: u32 = 8;
/// How many charts may be in a chart, all levels together; the field's largest have some dozens.
const MAX_SUBCHARTS: usize = 1000;
/// The largest `Chart.yaml`, in bytes: helm reads files of at most 5 MiB.
const MAX_FILE: u64 = 5 * 1024 * 1024;

/// What is read of a packaged chart.
#[derive(Debug)]
pub(super) struct Contents {
    /// Its own `Chart.yaml`.
    pub metadata: Metadata,
    /// Those of the charts in it, with their path below it.
    pub subcharts: Vec<(String, Metadata)>,
}

/// Reads a packaged chart; the error says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, String> {
    let mut walk = Walk { left: MAX_UNPACKED, packages: 0, found: BTreeMap::new() };
    walk.package(bytes, "", 0)?;
    let own = walk.found.remove("");
    let metadata = own.ok_or_else(|| "it has no `NAME/Chart.yaml`".to_owned())?;
    Ok(Contents { metadata, subcharts: walk.found.into_iter().collect() })
}

/// What was found so far of a package and of those in it.
struct Walk {
    /// How many bytes may still be unpacked.
    left: u64,
    /// How many packages there are in it.
    packages: usize,
    /// Each `Chart.yaml` by the path of its chart below the outermost package.
    found: BTreeMap<String, Metadata>,
}

/// Reads at most as much as is left over all, and fails where there is more.
struct Bounded<'a, R> {
    inner: R,
    left: &'a mut u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        *self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than the {MAX_UNPACKED} bytes that are read"))
        })?;
        Ok(count)
    }
}

impl Walk {
    /// Finds the `Chart.yaml` of a package and of all in it; `above` is the path of the package in the outermost one.
    fn package(&mut self, bytes: &[u8], above: &str, depth: u32) -> Result<(), String> {
        let broken = |error: io::Error| format!("its archive can't be read: {error}");
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Err("it is not compressed with gzip".to_owned());
        }
        let mut packed = Vec::new();
        {
            let reader = Bounded { inner: flate2::read::MultiGzDecoder::new(bytes), left: &mut self.left };
            let mut archive = tar::Archive::new(reader);
            for entry in archive.entries().map_err(broken)? {
                let mut entry = entry.map_err(broken)?;
                let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let path = path.trim_start_matches("./");
                let Some((_, below)) = path.split_once('/') else { continue };
                if !entry.header().entry_type().is_file() {
                    continue;
                }
                let Some(chart) = place(below) else { continue };
                let is_package = is_package_name(chart);
                let most = if is_package { MAX_PACKAGE } else { MAX_FILE };
                let mut content = Vec::new();
                entry.by_ref().take(most + 1).read_to_end(&mut content).map_err(broken)?;
                if content.len() as u64 > most {
                    return Err(format!("its `{}` has more than {most} bytes", below.escape_debug()));
                }
                let chart =
                    [above, chart].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
                // A package has a `Chart.yaml` of its own, or none.
                self.packages += usize::from(is_package);
                if self.packages > MAX_SUBCHARTS || self.found.len() > MAX_SUBCHARTS {
                    return Err(format!("more than {MAX_SUBCHARTS} charts are in it"));
                }
                if is_package {
                    packed.push((chart, content));
                } else {
                    let metadata = Metadata::parse(&content).map_err(|why| match chart.as_str() {
                        "" => why,
                        chart => format!("in `{}`, {why}", chart.escape_debug()),
                    })?;
                    if self.found.insert(chart, metadata).is_some() {
                        return Err(format!("`{}` is in it twice", below.escape_debug()));
                    }
                }
            }
        }
        for (path, content) in packed {
            if depth == MAX_DEPTH {
                return Err(format!("charts are packed into each other more than {MAX_DEPTH} times"));
            }
            self.package(&content, &path, depth + 1).map_err(|why| {
                if depth == 0 { format!("in `{}`, {why}", path.escape_debug()) } else { why }
            })?;
        }
        Ok(())
    }
}

/// Tells of a path below a chart's folder which chart it is the `Chart.yaml` or the package of: `charts/NAME` for each level,
/// nothing for the chart itself.
fn place(below: &str) -> Option<&str> {
    let mut rest = below;
    loop {
        if rest == "Chart.yaml" {
            return Some(below.strip_suffix("Chart.yaml")?.trim_end_matches('/'));
        }
        let (name, more) = rest.strip_prefix("charts/")?.split_once('/').unwrap_or_else(|| (&rest[7..], ""));
        // Helm passes over these too.
        if name.is_empty() || name.starts_with(['_', '.']) {
            return None;
        }
        if more.is_empty() {
            return is_package_name(name).then_some(below);
        }
        rest = more;
    }
}

/// Returns whether a file among a chart's subcharts is a packaged one.
fn is_package_name(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "tgz")
}

/// Makes a package of a chart's directory: the same bytes for the same files, whatever their times and modes.
pub(super) fn pack(folder: &Path) -> Result<Vec<u8>, ChartError> {
    let what = folder.display().to_string();
    let broken = |why: String| ChartError::Broken { chart: what.clone(), why };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| ChartError::Unreadable { path, source }
    };
    let file = folder.join("Chart.yaml");
    if !file.is_file() {
        return Err(broken("the folder has no `Chart.yaml`".to_owned()));
    }
    let metadata = Metadata::parse(&read_file(&file, MAX_FILE)?).map_err(broken)?;
    let name = metadata.name();
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(broken(format!("`{}` is no name for a chart", name.escape_debug())));
    }
    let mut rules = GitignoreBuilder::new(folder);
    let list = folder.join(".helmignore");
    let lines = match fs::read_to_string(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unreadable(&list)(error)),
    };
    // The last rule is helm's own.
    for line in lines.lines().chain(["templates/.?*"]) {
        rules
            .add_line(None, line)
            .map_err(|error| broken(format!("its `.helmignore`: `{}`: {error}", line.escape_debug())))?;
    }
    let rules = rules.build().map_err(|error| broken(format!("its `.helmignore`: {error}")))?;
    let mut files = Vec::new();
    let walk = WalkDir::new(folder).min_depth(1).into_iter().filter_entry(|entry| {
        let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        !rules.matched(below, entry.file_type().is_dir()).is_ignore()
    });
    for entry in walk {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            ChartError::Unreadable { path, source: error.into() }
        })?;
        let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        if entry.file_type().is_dir() {
            continue;
        }
        if !entry.file_type().is_file() {
            return Err(broken(format!(
                "`{}` is a link or no file: links are not followed, so put the file itself there",
                below.display()
            )));
        }
        let below = below
            .to_str()
            .ok_or_else(|| broken(format!("the name of `{}` is not UTF-8", below.display())))?;
        files.push((format!("{name}/{below}"), entry.into_path()));
    }
    files.sort();
    let mut tar = Tarball::new();
    let mut left = MAX_UNPACKED;
    for (name, path) in files {
        let bytes = read_file(&path, left)?;
        left -= bytes.len() as u64;
        tar.file(&name, &bytes).map_err(unreadable(&path))?;
    }
    let (bytes, _) = tar.into_gzip().map_err(unreadable(folder))?;
    Ok(bytes)
}

/// Reads a file of at most `most` bytes.
pub(super) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, ChartError> {
    let unreadable = |source| ChartError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(ChartError::Broken {
            chart: path.display().to_string(),
            why: format!("it has more than the {most} bytes that are read"),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = Tarball::new();
        for (name, bytes) in files {
            tar.file(name, bytes).unwrap();
        }
        tar.into_gzip().unwrap().0
    }

    fn yaml(name: &str) -> Vec<u8> {
        format!("name: {name}\nversion: 1.0.0\n").into_bytes()
    }

    #[test]
    fn subcharts_are_found_as_folders_and_as_packages() {
        let inner =
            packed(&[("deep/Chart.yaml", &yaml("deep")), ("deep/charts/deeper/Chart.yaml", &yaml("deeper"))]);
        let outer = packed(&[
            ("app/Chart.yaml", &yaml("app")),
            ("app/templates/Chart.yaml", b"{{ nothing }}"),
            ("app/charts/one/Chart.yaml", &yaml("one")),
            ("app/charts/_skipped/Chart.yaml", b"["),
            ("app/charts/deep-1.0.0.tgz", &inner),
        ]);
        let contents = read(&outer).unwrap();
        assert_eq!(contents.metadata.name(), "app");
        let names: Vec<(&str, &str)> =
            contents.subcharts.iter().map(|(path, chart)| (path.as_str(), chart.name())).collect();
        assert_eq!(
            names,
            [
                ("charts/deep-1.0.0.tgz", "deep"),
                ("charts/deep-1.0.0.tgz/charts/deeper", "deeper"),
                ("charts/one", "one")
            ]
        );
    }

    #[test]
    fn what_is_no_package_is_said() {
        assert!(read(b"PK\x03\x04").unwrap_err().contains("gzip"));
        assert!(read(&packed(&[("Chart.yaml", &yaml("app"))])).unwrap_err().contains("NAME/Chart.yaml"));
        assert!(read(&packed(&[("app/values.yaml", b"{}")])).unwrap_err().contains("NAME/Chart.yaml"));
        let whole = packed(&[("app/Chart.yaml", &yaml("app"))]);
        assert!(read(&whole[..whole.len() / 2]).unwrap_err().contains("can't be read"));
        let twice = packed(&[("app/Chart.yaml", &yaml("app")), ("b/Chart.yaml", &yaml("b"))]);
        assert!(read(&twice).unwrap_err().contains("twice"));
        let bad = packed(&[("app/Chart.yaml", &yaml("app")), ("app/charts/x.tgz", b"none")]);
        assert!(read(&bad).unwrap_err().contains("in `charts/x.tgz`"));
        let mut nest = packed(&[("app/Chart.yaml", &yaml("app"))]);
        for _ in 0..=MAX_DEPTH {
            nest = packed(&[("app/Chart.yaml", &yaml("app")), ("app/charts/x.tgz", &nest)]);
        }
        assert!(read(&nest).unwrap_err().contains("packed into each other"));
    }

    #[test]
    fn charts_without_number_are_refused_soon() {
        let yaml = yaml("x");
        let many = |count: usize, name: fn(usize) -> String, bytes: &[u8]| {
            let mut tar = Tarball::new();
            tar.file("app/Chart.yaml", &yaml).unwrap();
            for at in 0..count {
                tar.file(&name(at), bytes).unwrap();
            }
            tar.into_gzip().unwrap().0
        };
        let folder: fn(usize) -> String = |at| format!("app/charts/c{at}/Chart.yaml");
        let package: fn(usize) -> String = |at| format!("app/charts/c{at}.tgz");
        assert_eq!(read(&many(MAX_SUBCHARTS, folder, &yaml)).unwrap().subcharts.len(), MAX_SUBCHARTS);
        let begun = std::time::Instant::now();
        let empty = Tarball::new().into_gzip().unwrap().0;
        for bytes in [many(40_000, folder, &yaml), many(MAX_SUBCHARTS + 1, package, &empty)] {
            let error = read(&bytes).unwrap_err();
            assert!(error.contains("more than 1000 charts are in it"), "{error}");
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_package_that_unpacks_without_end_is_refused() {
        let mut tar = Tarball::new();
        tar.file("app/Chart.yaml", &yaml("app")).unwrap();
        let zeros = vec![0; 70 * 1024 * 1024];
        for at in 0..4 {
            tar.file(&format!("app/{at}"), &zeros).unwrap();
        }
        let (bytes, _) = tar.into_gzip().unwrap();
        assert!(bytes.len() < 1024 * 1024);
        assert!(read(&bytes).unwrap_err().contains("unpacks to more than"));
    }

    #[test]
    fn a_folder_is_packed_the_same_whatever_its_times_and_without_what_is_ignored() {
        let make = |order: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for name in order {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, name).unwrap();
            }
            fs::write(folder.path().join("Chart.yaml"), yaml("app")).unwrap();
            fs::write(folder.path().join(".helmignore"), "# notes\n*.bak\n/secret/\n!keep.bak\n").unwrap();
            pack(folder.path()).unwrap()
        };
        let files = [
            "values.yaml",
            "templates/a.yaml",
            "templates/.hidden",
            "x.bak",
            "keep.bak",
            "secret/a",
            "sub/secret/b",
        ];
        let mut backwards = files;
        backwards.reverse();
        let bytes = make(&files);
        assert_eq!(bytes, make(&backwards));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.mtime().unwrap(), header.uid().unwrap(), header.mode().unwrap()),
                (0, 0, 0o644)
            );
            names.push(entry.path().unwrap().display().to_string());
        }
        assert_eq!(
            names,
            [".helmignore", "Chart.yaml", "keep.bak", "sub/secret/b", "templates/a.yaml", "values.yaml"]
                .map(|name| format!("app/{name}"))
        );
    }

    #[test]
    fn links_and_folders_that_are_no_charts_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(pack(folder.path()).unwrap_err().to_string().contains("no `Chart.yaml`"));
        fs::write(folder.path().join("Chart.yaml"), yaml("app")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("values.yaml")).unwrap();
        let error = pack(folder.path()).unwrap_err().to_string();
        assert!(error.contains("`values.yaml` is a link"), "{error}");
    }
}
