//! Layers laid over each other: what an upper one hides of a lower one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::ops::Bound;

use crate::store::tar::{StreamEntry, TarFault};

use super::ImageFilesError;
use super::layer::Tar;

/// The start of the name of a file that hides another one (image-spec `layer.md`, "Whiteouts").
const WHITEOUT: &str = ".wh.";
/// The name of the file that hides what lower layers have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// What an entry costs beyond the bytes of its file and its name: places in tables.
const COST_OF_A_FILE: u64 = 128;
/// How many copies of its name are kept of an entry.
const COPIES_OF_A_NAME: u64 = 3;
/// How deep files may lie; catalogs have them three folders deep.
const MAX_FOLDERS: usize = 256;

/// What is wrong while a layer is read.
#[derive(Debug)]
pub(super) enum MergeError {
    /// With the tar file.
    Tar(TarFault),
    /// With what the layer has.
    Unusable(String),
    /// Something that is not about the layer.
    Other(Box<ImageFilesError>),
}

impl MergeError {
    /// Makes an error of what a reader said.
    pub(super) fn reading(source: io::Error) -> Self {
        Self::Tar(TarFault::Io { offset: 0, source })
    }
}

impl From<TarFault> for MergeError {
    fn from(fault: TarFault) -> Self {
        Self::Tar(fault)
    }
}

impl From<ImageFilesError> for MergeError {
    fn from(error: ImageFilesError) -> Self {
        Self::Other(Box::new(error))
    }
}

/// What is found at a path.
pub(super) enum Found<T> {
    /// A file, and its length.
    Content(T, u64),
    /// A hard link to something that the layer does not have in the folder.
    Link(String),
    /// A symbolic link, by where it leads from the root.
    Symbolic(String),
}

/// What looking for one file in a layer comes to.
pub(super) enum Looked {
    /// The file was written.
    Written,
    /// It is a hard link.
    Link(String),
    /// It is a symbolic link, or lies below one; this is where it leads from the root.
    Symbolic(String),
    /// The layer hides it.
    Gone,
}

/// Returns the one spelling of a name: relative to the root, which `..` does not leave.
pub(in crate::catalog) fn normalised(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns where the symbolic link at `path` leads, from the root.
fn target(path: &str, link: &[u8]) -> String {
    if link.starts_with(b"/") {
        return normalised(link);
    }
    normalised(&[split(path).0.as_bytes(), b"/", link].concat())
}

/// Returns the path of `path` below the folder `dir`; none if it is not below.
fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    if dir.is_empty() {
        return (!path.is_empty()).then_some(path);
    }
    path.strip_prefix(dir)?.strip_prefix('/')
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Lists a path's folders, the nearest first, without the root.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(split(path).0), |path| Some(split(path).0)).take_while(|path| !path.is_empty())
}

/// What upper layers hide.
#[derive(Default)]
struct Cover {
    /// What is hidden with everything below it.
    gone: BTreeSet<String>,
    /// Folders of which only what is in them is hidden.
    opaque: BTreeSet<String>,
    /// What is a folder, and so no file of a lower layer; all that it is in are folders too.
    folders: BTreeSet<String>,
}

impl Cover {
    /// Returns whether a path is that of a folder.
    fn has_folder(&self, path: &str) -> bool {
        let start = format!("{path}/");
        let mut next = self.folders.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        self.folders.contains(path) || next.next().is_some_and(|folder| folder.starts_with(&start))
    }

    /// Returns whether a path of a lower layer can't be seen.
    fn hides(&self, path: &str) -> bool {
        self.gone.contains(path) || self.hides_below(split(path).0)
    }

    /// Returns whether nothing of lower layers can be seen in a folder.
    fn hides_below(&self, folder: &str) -> bool {
        std::iter::once(folder)
            .chain(folders(folder))
            .chain(std::iter::once(""))
            .any(|folder| self.gone.contains(folder) || self.opaque.contains(folder))
    }

    fn add(&mut self, other: Self) {
        self.gone.extend(other.gone);
        self.opaque.extend(other.opaque);
        self.folders.extend(other.folders);
    }
}

/// Lays layers over each other, the last one first, and sees what is in one folder.
pub(super) struct Merge<'a> {
    dir: &'a str,
    cover: Cover,
    /// Where the folder is instead, if it is a symbolic link or in one.
    moved: Option<String>,
}

impl<'a> Merge<'a> {
    /// Starts above the last layer.
    pub(super) fn new(dir: &'a str) -> Self {
        Self { dir, cover: Cover::default(), moved: None }
    }

    /// Returns whether lower layers add nothing.
    pub(super) fn is_covered(&self) -> bool {
        self.cover.hides_below(self.dir)
    }

    /// Returns where the folder is instead, if it is a symbolic link or in one.
    pub(super) fn into_moved(self) -> Option<String> {
        self.moved
    }

    /// Goes through the next layer and returns what can be seen of it. `left` is how many bytes may be read still.
    pub(super) fn layer<T: Clone>(
        &mut self,
        tar: &mut Tar<'_>,
        left: &mut u64,
        too_large: &dyn Fn() -> ImageFilesError,
        take: &mut dyn FnMut(&str, Vec<u8>) -> T,
    ) -> Result<BTreeMap<String, Found<T>>, MergeError> {
        let mut own = Cover::default();
        let mut found: BTreeMap<String, Found<T>> = BTreeMap::new();
        while let Some(entry) = tar.next_entry()? {
            let path = normalised(&entry.path);
            let cost = COST_OF_A_FILE + COPIES_OF_A_NAME * path.len() as u64;
            if self.whiteout(&path, &mut own) {
                *left = left.checked_sub(cost).ok_or_else(too_large)?;
                continue;
            }
            if !self.concerns(&path) {
                continue;
            }
            *left = left.checked_sub(cost).ok_or_else(too_large)?;
            if folders(&path).nth(MAX_FOLDERS).is_some() {
                let start: String = path.chars().take(100).collect();
                let why = format!("`{start}…` lies more than {MAX_FOLDERS} folders deep");
                return Err(MergeError::Unusable(why));
            }
            let name = below(&path, self.dir);
            // The last entry of a name counts, and what is on the way to a file is a folder.
            for folder in name.into_iter().flat_map(folders) {
                found.remove(folder);
            }
            if entry.type_flag == b'5' {
                name.map(|name| found.remove(name));
                own.folders.insert(path);
                continue;
            }
            own.gone.insert(path.clone());
            own.folders.insert(split(&path).0.to_owned());
            let is_hidden = self.cover.hides(&path) || self.cover.has_folder(&path);
            let Some(name) = name else {
                found.clear();
                if entry.type_flag == b'2' && !is_hidden {
                    let rest = below(self.dir, &path).unwrap_or_default();
                    self.moved =
                        Some(normalised(format!("{}/{rest}", target(&path, &entry.link)).as_bytes()));
                }
                continue;
            };
            forget(&mut found, name);
            if is_hidden {
                continue;
            }
            match entry.type_flag {
                b'1' => drop(found.insert(name.to_owned(), Found::Link(normalised(&entry.link)))),
                b'0' | b'S' => {
                    let bytes = read_file(tar, &entry, &path, left, too_large)?;
                    let value = take(name, bytes);
                    found.insert(name.to_owned(), Found::Content(value, entry.size));
                }
                b'2' => drop(found.insert(name.to_owned(), Found::Symbolic(target(&path, &entry.link)))),
                // Devices and pipes have no content of their own.
                _ => {}
            }
        }
        self.cover.add(own);
        self.resolve(&mut found, left, too_large)?;
        Ok(found)
    }

    /// Returns whether a path is the folder, in it, or on the way to it.
    fn concerns(&self, path: &str) -> bool {
        path == self.dir || below(path, self.dir).is_some() || below(self.dir, path).is_some()
    }

    /// Takes note of a whiteout; returns whether the path is one.
    fn whiteout(&self, path: &str, own: &mut Cover) -> bool {
        let (folder, name) = split(path);
        if name == OPAQUE {
            if folder.is_empty() || self.concerns(folder) {
                own.opaque.insert(folder.to_owned());
            }
            return true;
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return false };
        // Names with a second `.wh.` are the notes of a file system for itself.
        if !hidden.is_empty() && !hidden.starts_with(WHITEOUT) {
            let hidden = if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
            if self.concerns(&hidden) {
                own.gone.insert(hidden);
            }
        }
        true
    }

    /// Puts content in place of the links to what the same layer has in the folder; each costs as a copy does.
    fn resolve<T: Clone>(
        &self,
        found: &mut BTreeMap<String, Found<T>>,
        left: &mut u64,
        too_large: &dyn Fn() -> ImageFilesError,
    ) -> Result<(), MergeError> {
        let links: Vec<(String, String)> = found
            .iter()
            .filter_map(|(path, node)| match node {
                Found::Link(target) => Some((path.clone(), target.clone())),
                Found::Content(..) | Found::Symbolic(_) => None,
            })
            .collect();
        for (path, target) in links {
            let target = below(&target, self.dir).and_then(|name| found.get(name));
            if let Some(Found::Content(value, size)) = target {
                *left = left.checked_sub(*size).ok_or_else(too_large)?;
                let node = Found::Content(value.clone(), *size);
                found.insert(path, node);
            }
        }
        Ok(())
    }
}

/// Takes away what a layer had at a path before, and below it.
fn forget<T>(found: &mut BTreeMap<String, T>, name: &str) {
    found.remove(name);
    let start = format!("{name}/");
    let range = (Bound::Included(start.clone()), Bound::Unbounded);
    let below: Vec<String> = found
        .range(range)
        .map(|(path, _)| path)
        .take_while(|path| path.starts_with(&start))
        .cloned()
        .collect();
    for path in below {
        found.remove(&path);
    }
}

fn read_file(
    tar: &mut Tar<'_>,
    entry: &StreamEntry,
    path: &str,
    left: &mut u64,
    too_large: &dyn Fn() -> ImageFilesError,
) -> Result<Vec<u8>, MergeError> {
    refuse_sparse(entry, path)?;
    *left = left.checked_sub(entry.size).ok_or_else(too_large)?;
    // A size is a claim until the bytes are there.
    let mut bytes = Vec::with_capacity(entry.size.min(1024 * 1024) as usize);
    tar.read_to_end(&mut bytes).map_err(MergeError::reading)?;
    Ok(bytes)
}

fn refuse_sparse(entry: &StreamEntry, path: &str) -> Result<(), MergeError> {
    if entry.is_sparse {
        return Err(MergeError::Unusable(format!(
            "`{path}` is a sparse file, a form that image layers do not have"
        )));
    }
    Ok(())
}

/// Looks for one file in a layer, whatever is above it, and writes it to `to`; none if lower layers decide.
pub(super) fn find_file(
    tar: &mut Tar<'_>,
    wanted: &str,
    to: &mut dyn Write,
    limit: u64,
    too_large: &dyn Fn() -> ImageFilesError,
) -> Result<Option<Looked>, MergeError> {
    let merge = Merge::new(wanted);
    let (mut looked, mut own) = (None, Cover::default());
    while let Some(entry) = tar.next_entry()? {
        let path = normalised(&entry.path);
        if merge.whiteout(&path, &mut own) {
            continue;
        }
        if path == wanted {
            if matches!(looked, Some(Looked::Written)) {
                return Err(MergeError::Unusable(format!("it has `{wanted}` twice")));
            }
            looked = Some(match entry.type_flag {
                b'0' | b'S' => {
                    refuse_sparse(&entry, wanted)?;
                    if entry.size > limit {
                        return Err(too_large().into());
                    }
                    copy(tar, to, wanted)?;
                    Looked::Written
                }
                b'1' => Looked::Link(normalised(&entry.link)),
                b'2' => Looked::Symbolic(target(wanted, &entry.link)),
                _ => Looked::Gone,
            });
        } else if let Some(rest) = below(wanted, &path)
            && entry.type_flag != b'5'
        {
            looked = Some(match entry.type_flag {
                b'2' => {
                    let target = format!("{}/{rest}", target(&path, &entry.link));
                    Looked::Symbolic(normalised(target.as_bytes()))
                }
                _ => Looked::Gone,
            });
        }
    }
    // Whiteouts are about lower layers only.
    let hides = own.hides(wanted);
    Ok(looked.or(hides.then_some(Looked::Gone)))
}

fn copy(tar: &mut Tar<'_>, to: &mut dyn Write, path: &str) -> Result<(), MergeError> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tar.read(&mut buffer).map_err(MergeError::reading)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])
            .map_err(|source| ImageFilesError::Write { path: path.to_owned(), source })?;
    }
}
