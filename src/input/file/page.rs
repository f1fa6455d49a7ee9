//! A file while it is read: where it is, what it asks for so far, and the values that all kinds share.

use std::path::{Path, PathBuf};

use regex::Regex;

use super::error::FileError;
use super::yaml::{At, line, line_or};
use crate::input::argument::{Argument, InputError, Place, parse_argument};
use crate::input::{Order, Spot};
use crate::oci::{Platform, Reference};

/// A file while it is read.
pub(super) struct Page<'a> {
    /// The file.
    pub(super) path: &'a Path,
    /// What it asks for so far.
    pub(super) order: Order,
}

impl<'a> Page<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, order: Order::default() }
    }

    /// Returns a line of the file.
    pub(super) fn spot(&self, line: usize) -> Spot {
        Spot { file: self.path.to_owned(), line }
    }

    /// Says what is wrong with a line.
    pub(super) fn wrong(&self, line: usize, what: impl Into<String>) -> FileError {
        FileError::Wrong { at: self.spot(line), what: what.into(), source: None }
    }

    /// Says that a value can't be used, and why.
    pub(super) fn unusable(
        &self,
        line: usize,
        text: &str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> FileError {
        let text: String = text.chars().take(300).collect();
        let what = format!("`{text}` can't be used here");
        FileError::Wrong { at: self.spot(line), what, source: Some(Box::new(source)) }
    }

    /// Says what is not done, and what to do instead.
    pub(super) fn refused(
        &self,
        line: usize,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> FileError {
        FileError::Refused { at: self.spot(line), what: what.into(), instead: instead.into() }
    }

    /// Says that something is there a second time.
    pub(super) fn twice(&self, line: usize, first: usize, what: impl Into<String>) -> FileError {
        FileError::Twice { at: self.spot(line), first, what: what.into() }
    }

    /// Adds something that people should know.
    pub(super) fn note(&mut self, text: impl std::fmt::Display) {
        self.order.notes.push(format!("{}: {text}", self.path.display()));
    }

    /// Returns a path as the file means it: relative to the file's folder.
    pub(super) fn place(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match self.path.parent() {
            Some(folder) if path.is_relative() && !folder.as_os_str().is_empty() => folder.join(path),
            _ => path.to_owned(),
        }
    }

    /// Parses an argument; its path is relative to the file's folder.
    pub(super) fn argument(&self, line: usize, text: &str) -> Result<Argument, FileError> {
        let mut argument = self.as_typed(line, text)?;
        match &mut argument.place {
            Place::Registry(_) => {}
            Place::Layout(path)
            | Place::LayoutArchive(path)
            | Place::DockerArchive(path)
            | Place::File(path) => {
                *path = self.place(&*path);
            }
        }
        Ok(argument)
    }

    /// Parses an argument; its path is relative to where barge runs, as on the command line.
    pub(super) fn as_typed(&self, line: usize, text: &str) -> Result<Argument, FileError> {
        parse_argument(text).map_err(|error| match error {
            InputError::Reference(text, source) => self.unusable(line, &text, source),
            other => self.unusable(line, text, other),
        })
    }

    /// Parses a reference.
    pub(super) fn reference(&self, line: usize, text: &str) -> Result<Reference, FileError> {
        text.parse().map_err(|error: crate::oci::reference::ReferenceError| self.unusable(line, text, error))
    }

    /// Parses a name to travel under, which takes over the tag or digest of what it names where it has none.
    pub(super) fn name(&self, line: usize, text: &str, of: &Argument) -> Result<Reference, FileError> {
        let name = self.reference(line, text)?;
        if name.digest.is_some() {
            return Err(
                self.wrong(line, format!("the name `{text}` has a digest, and a digest can't be given"))
            );
        }
        Ok(inherit(name, of))
    }

    /// Parses platforms.
    pub(super) fn platforms(&self, list: &[At<String>]) -> Result<Vec<Platform>, FileError> {
        let parse = |item: &At<String>| {
            item.value.parse().map_err(|error: crate::oci::platform::PlatformError| {
                self.wrong(line(item), error.to_string())
            })
        };
        list.iter().map(parse).collect()
    }

    /// Compiles a pattern.
    pub(super) fn pattern(&self, text: &At<String>, line: usize) -> Result<Regex, FileError> {
        let line = line_or(text, line);
        Regex::new(&text.value).map_err(|error| {
            // The crate draws the place over several lines, and says why in the last.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            self.wrong(line, format!("`{}` is no regular expression: {why}", text.value))
        })
    }
}

/// Gives a name that has no tag the tag or else the digest of what it names.
pub(super) fn inherit(name: Reference, of: &Argument) -> Reference {
    match (&name.tag, &of.reference) {
        (None, Some(Reference { tag: Some(tag), .. })) => Reference { tag: Some(tag.clone()), ..name },
        (None, Some(Reference { digest, .. })) => {
            Reference { digest: digest.clone(), ..name }.with_default_tag()
        }
        _ => name.with_default_tag(),
    }
}
