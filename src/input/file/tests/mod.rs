//! What each kind of file asks for, and what is wrong with those that are wrong.

mod hauler;
mod hostile;
mod image_set;
mod lines;
mod own;

use std::path::Path;

use super::*;
use crate::input::ImageOrder;
use crate::oci::Digest;

/// Reads a text as a file of a name that tells nothing.
fn read_text(text: impl AsRef<[u8]>) -> Result<Order, FileError> {
    let folder = tempfile::tempdir().unwrap();
    read_in(folder.path(), text)
}

fn read_in(folder: &Path, text: impl AsRef<[u8]>) -> Result<Order, FileError> {
    let path = folder.join("wanted");
    std::fs::write(&path, text).unwrap();
    read(&path)
}

#[track_caller]
fn order(text: &str) -> Order {
    read_text(text).unwrap_or_else(|error| panic!("{}\n{:.2000}", chain(&error), text))
}

/// What is wrong with a text: all causes in a line, with `FILE` for the file, and the hint.
#[track_caller]
fn fault(text: &str) -> String {
    let error =
        read_text(text).map(|order| panic!("{:.2000}\n{text:.2000}", format!("{order:?}"))).unwrap_err();
    let hint = error.hint().map(|hint| format!(" hint: {hint}")).unwrap_or_default();
    format!("{}{hint}", chain(&error))
}

fn chain(error: &FileError) -> String {
    let mut text = error.to_string();
    if let Some(at) = error.at() {
        text = text.replace(&at.file.display().to_string(), "FILE");
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// Checks that what is wrong with a text is said with all of these words.
#[track_caller]
fn faulty(text: &str, words: &[&str]) {
    let said = fault(text);
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}\n{text:.2000}");
    }
}

/// `NAME < REFERENCE` of images, in their order.
fn pulls(order: &Order) -> Vec<String> {
    let text = |image: &ImageOrder| {
        let argument = &image.argument;
        let name = argument.name.as_ref().map_or("-".to_owned(), ToString::to_string);
        let from = match (&argument.reference, &argument.place) {
            (Some(reference), _) => reference.to_string(),
            (None, place) => format!("{place:?} {}", argument.selector.as_deref().unwrap_or("*")),
        };
        format!("{name} < {from}")
    };
    order.images.iter().map(text).collect()
}

fn lines_of(order: &Order) -> Vec<usize> {
    order.images.iter().map(|image| image.at.as_ref().unwrap().line).collect()
}

fn digest() -> Digest {
    Digest::sha256(b"")
}
