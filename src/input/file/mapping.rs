//! Files of lines: mapping files as `oc image mirror -f` and ibm-pak have them, and plain lists.
//!
//! In a mapping file a line is `SRC=DST` or `SRC DST [DST…]`, in a plain list it is `[NAME=]SOURCE`. Both may have one `=`, so
//! the whole file decides. It is a mapping file if any line has two words, or `=` between two references (or a
//! transport that only mapping files have). It is a list if no line has that: each `NAME=` stands before something
//! spelled as a file (`oci:…`, `docker-archive:…`, `./…`, `….tar`). A file with lines of both sorts is an error. A list of
//! `NAME=REFERENCE` is read as one with `--from-file`, or if its first line is [`LIST_MARK`].

use std::collections::BTreeSet;

use super::error::FileError;
use super::page::{Page, inherit};
use crate::input::argument::{Argument, is_file};
use crate::input::{ImageOrder, TagChoice, TagOrder};
use crate::oci::reference::is_repository;
use crate::oci::{Reference, RepositoryName};

/// The first line of a file that is a list of `[NAME=]SOURCE`, whatever it looks like.
pub(super) const LIST_MARK: &str = "# barge: list";

/// Starts of what is no reference but a file or folder.
const FILE_TRANSPORTS: [&str; 3] = ["oci:", "oci-archive:", "docker-archive:"];
/// Starts of what only mapping files have.
const MAPPING_TRANSPORTS: [&str; 3] = ["docker://", "file://", "s3://"];

/// A line with something in it.
struct Line<'t> {
    number: usize,
    words: Vec<&'t str>,
}

/// What the spelling of a line shows it to be.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Sort {
    /// A source.
    Source,
    /// A source with a name: `NAME=FILE`.
    NamedFile,
    /// A source and where it goes.
    Mapping,
}

/// Adds what a file of lines asks for.
pub(super) fn read(page: &mut Page<'_>, text: &str) -> Result<(), FileError> {
    let content = |(at, line)| {
        let line: &str = line;
        let line = line.split_once('#').map_or(line, |(before, _)| before);
        Line { number: at + 1, words: line.split_whitespace().collect() }
    };
    let lines: Vec<Line<'_>> =
        text.lines().enumerate().map(content).filter(|line| !line.words.is_empty()).collect();
    let marked = text.lines().next().is_some_and(|line| line.trim() == LIST_MARK);
    if marked || !lines.iter().any(|line| sort(&line.words) == Sort::Mapping) {
        return list(page, &lines);
    }
    let mut hosts = BTreeSet::new();
    for line in &lines {
        match sort(&line.words) {
            Sort::Mapping => mapping(page, line, &mut hosts)?,
            Sort::Source => {
                return Err(page.refused(
                    line.number,
                    format!(
                        "`{}` says no destination, and other lines of this mapping file do",
                        line.words[0]
                    ),
                    "write SRC=DST, or put the sources without a destination into a file of their own",
                ));
            }
            Sort::NamedFile => {
                return Err(page.refused(
                    line.number,
                    format!("`{}` is NAME=SOURCE, and other lines of this file are SRC=DST", line.words[0]),
                    format!("put them into two files; a list that starts with the line `{LIST_MARK}` is read as NAME=SOURCE"),
                ));
            }
        }
    }
    if !hosts.is_empty() {
        let hosts: Vec<&str> = hosts.iter().take(5).map(String::as_str).collect();
        page.note(format_args!(
            "the destination host {} is not used: images go to the registry that is given to push or mirror",
            hosts.join(", ")
        ));
    }
    Ok(())
}

fn sort(words: &[&str]) -> Sort {
    let [word] = words else { return Sort::Mapping };
    // A destination with its transport, as dry runs of oc-mirror write it; the source may be a folder.
    if word.contains("=docker://") {
        return Sort::Mapping;
    }
    if word.starts_with(['.', '/']) || FILE_TRANSPORTS.iter().any(|start| word.starts_with(start)) {
        return Sort::Source;
    }
    match word.split_once('=') {
        None => Sort::Source,
        Some((_, source)) if MAPPING_TRANSPORTS[1..].iter().any(|start| source.starts_with(start)) => {
            Sort::Mapping
        }
        Some((name, _)) if MAPPING_TRANSPORTS.iter().any(|start| name.starts_with(start)) => Sort::Mapping,
        Some((_, source))
            if is_file(source) || FILE_TRANSPORTS.iter().any(|start| source.starts_with(start)) =>
        {
            Sort::NamedFile
        }
        Some(_) => Sort::Mapping,
    }
}

/// Reads a list, as [`crate::input::read_list`] does; paths are relative to where barge runs.
fn list(page: &mut Page<'_>, lines: &[Line<'_>]) -> Result<(), FileError> {
    for line in lines {
        // Words stay apart, so that the error shows the line as it is.
        let text = line.words.join(" ");
        let argument = page.as_typed(line.number, &text)?;
        let at = Some(page.spot(line.number));
        page.order.images.push(ImageOrder { argument, platforms: Vec::new(), at });
    }
    Ok(())
}

/// Adds a line of a mapping file.
fn mapping(page: &mut Page<'_>, line: &Line<'_>, hosts: &mut BTreeSet<String>) -> Result<(), FileError> {
    let pairs: Vec<Option<(&str, &str)>> = line.words.iter().map(|word| word.split_once('=')).collect();
    let wanted = "SRC=DST or SRC DST [DST…] is wanted";
    match (line.words.as_slice(), pairs.iter().filter(|pair| pair.is_some()).count()) {
        (words, count) if count == words.len() => {
            for (source, destination) in pairs.into_iter().flatten() {
                pair(page, line.number, source, destination, hosts)?;
            }
            Ok(())
        }
        ([source, destinations @ ..], 0) => {
            for destination in destinations {
                pair(page, line.number, source, destination, hosts)?;
            }
            Ok(())
        }
        _ => {
            Err(page
                .wrong(line.number, format!("some words of this line have `=` and some have not: {wanted}")))
        }
    }
}

/// Adds a source and a destination.
fn pair(
    page: &mut Page<'_>,
    at: usize,
    source: &str,
    destination: &str,
    hosts: &mut BTreeSet<String>,
) -> Result<(), FileError> {
    if source.is_empty() || destination.is_empty() {
        return Err(
            page.wrong(at, "the source or the destination is empty: SRC=DST or SRC DST [DST…] is wanted")
        );
    }
    if source.starts_with("file://") {
        return Err(page.refused(
            at,
            format!("`{source}` is in a folder that `oc image mirror` filled"),
            "use the mapping file that reads from a registry (ibm-pak: images-mapping-to-filesystem.txt or \
             images-mapping.txt), or copy the images to a layout and name that: `oci:DIR`",
        ));
    }
    if source.starts_with("s3://") {
        return Err(page.refused(
            at,
            format!("`{source}` is in a bucket, which is not read"),
            "use the mapping file that reads from a registry, or copy the images to a layout and name that: `oci:DIR`",
        ));
    }
    if destination.starts_with("s3://") {
        return Err(page.refused(
            at,
            format!("`{destination}` is in a bucket, which is not written"),
            "pack into a bundle, and copy that to the bucket",
        ));
    }
    if FILE_TRANSPORTS.iter().any(|start| source.starts_with(start)) || source.starts_with(['.', '/']) {
        let argument = page.as_typed(at, source)?;
        let destination = Destination::parse(page, at, destination, &Home::Local, hosts)?;
        image(page, at, argument, &destination);
        return Ok(());
    }
    let text = source.strip_prefix("docker://").unwrap_or(source);
    let (text, pattern) = match text.rsplit_once(':') {
        Some((repository, tag)) if tag.contains('*') && !tag.contains('/') => (repository, Some(tag)),
        _ => (text, None),
    };
    let reference = page.reference(at, text)?;
    let destination = Destination::parse(page, at, destination, &Home::Registry(&reference.name), hosts)?;
    if reference.tag.is_some() || reference.digest.is_some() {
        let argument = page.argument(at, text)?;
        image(page, at, argument, &destination);
        return Ok(());
    }
    // Tags of a repository: all, or those that fit `*`.
    if destination.tag.is_some() {
        let what = format!("`{source}` is all tags of a repository, and `{}` is one tag", destination.text);
        return Err(page.wrong(at, what));
    }
    let matching = match pattern {
        None => None,
        Some(pattern) => {
            let parts: Vec<String> = pattern.split('*').map(regex::escape).collect();
            let compiled = regex::Regex::new(&format!("^(?:{})$", parts.join(".*")));
            Some(compiled.map_err(|error| page.unusable(at, source, error))?)
        }
    };
    let name = Some(destination.name).filter(|name| *name != reference.name);
    let choice = TagChoice { matching, ..TagChoice::default() };
    let spot = Some(page.spot(at));
    page.order.tags.push(TagOrder {
        repository: reference.name,
        name,
        choice,
        platforms: Vec::new(),
        at: spot,
    });
    Ok(())
}

/// Adds an image under its destination.
fn image(page: &mut Page<'_>, at: usize, mut argument: Argument, destination: &Destination) {
    let name = Reference { name: destination.name.clone(), tag: destination.tag.clone(), digest: None };
    argument.name = Some(inherit(name, &argument));
    let at = Some(page.spot(at));
    page.order.images.push(ImageOrder { argument, platforms: Vec::new(), at });
}

/// What a destination is read against.
enum Home<'a> {
    Registry(&'a RepositoryName),
    Local,
}

/// Where something is to go.
struct Destination {
    text: String,
    name: RepositoryName,
    tag: Option<String>,
}

impl Destination {
    fn parse(
        page: &Page<'_>,
        at: usize,
        text: &str,
        home: &Home<'_>,
        hosts: &mut BTreeSet<String>,
    ) -> Result<Self, FileError> {
        // `DST:` says as much as `DST`.
        let bare = text.strip_suffix(':').unwrap_or(text);
        if let Some(path) = bare.strip_prefix("file://") {
            return Self::in_folder(page, at, path, home);
        }
        let bare = bare.strip_prefix("docker://").unwrap_or(bare);
        let reference = page.reference(at, bare)?;
        if reference.digest.is_some() {
            let what = format!(
                "the destination `{text}` has a digest, and a digest can't be given: give a tag or none"
            );
            return Err(page.wrong(at, what));
        }
        hosts.insert(reference.name.registry.clone());
        Ok(Self { text: text.to_owned(), name: reference.name, tag: reference.tag })
    }

    /// A path below a folder: the image keeps its own host and has that path.
    fn in_folder(page: &Page<'_>, at: usize, path: &str, home: &Home<'_>) -> Result<Self, FileError> {
        let registry = match home {
            Home::Registry(name) => name.registry.clone(),
            Home::Local => "localhost".to_owned(),
        };
        let path = path.trim_start_matches('/');
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        if repository.contains('@') {
            let what = format!(
                "the destination `file://{path}` has a digest, and a digest can't be given: give a tag or none"
            );
            return Err(page.wrong(at, what));
        }
        let is_tag = tag.as_deref().is_none_or(crate::oci::reference::is_tag);
        if !is_repository(repository) || !is_tag {
            return Err(
                page.wrong(at, format!("`file://{path}` is no path of a repository, with or without a tag"))
            );
        }
        let name = RepositoryName { registry, repository: repository.to_owned() };
        Ok(Self { text: format!("file://{path}"), name, tag })
    }
}
