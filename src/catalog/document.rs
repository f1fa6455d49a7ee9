//! The documents of a file-based catalog: concatenated JSON, or YAML documents between lines of `---`.
//!
//! Every document is handed on as JSON text, as it stands where it is JSON, so that there is one reader of what it means.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use serde_saphyr::DuplicateKeyPolicy;

/// The least that a YAML document may cost, in nodes and bytes; beyond it, what its own length explains.
const SMALL: usize = 64 * 1024;

/// How many nodes a YAML document may have; bundles have some thousand.
const MAX_NODES: usize = 2_000_000;

/// A document of a catalog.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file it is in, below the catalog's folder.
    pub file: String,
    /// What it says it is.
    pub head: DocumentHead,
    /// The document as JSON: as it stands there, or a YAML document written as JSON.
    pub json: Box<RawValue>,
}

/// What any document of a catalog says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DocumentHead {
    /// Its kind, e.g. `olm.bundle`.
    #[serde(deserialize_with = "or_empty")]
    pub schema: String,
    /// The package it belongs to; empty for packages themselves, and for what belongs to none.
    #[serde(deserialize_with = "or_empty")]
    pub package: String,
    /// Its name.
    #[serde(deserialize_with = "or_empty")]
    pub name: String,
}

impl DocumentHead {
    /// Returns the package that the document is or belongs to; none if it belongs to none.
    #[must_use]
    pub fn of_package(&self) -> Option<&str> {
        match self.schema.as_str() {
            "olm.package" => Some(&self.name),
            _ => Some(self.package.as_str()).filter(|package| !package.is_empty()),
        }
    }
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Number of the document, from 1.
    pub(super) number: usize,
    /// A line of the file, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) why: String,
}

/// Reads `null` as an empty text.
fn or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Gives each document of a file to `take`, as JSON and with what it says it is.
///
/// # Errors
/// The first [`Fault`]: text that can't be read, a document without `schema`, or what `take` says.
pub(super) fn each(
    bytes: &[u8],
    take: &mut dyn FnMut(DocumentHead, &RawValue) -> Result<(), String>,
) -> Result<(), Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault {
        number: 1,
        line: line_at(bytes, error.valid_up_to()),
        why: "the file is not UTF-8".to_owned(),
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut number = 0;
    for chunk in chunks(text) {
        let start = chunk.as_ptr() as usize - text.as_ptr() as usize;
        let fault = |number, offset: usize, why: String| Fault {
            number,
            line: line_at(text.as_bytes(), start + offset),
            why,
        };
        let mut one = |json: &RawValue, number: usize, offset: usize| {
            if !json.get().starts_with('{') {
                return Err(fault(number, offset, "it is no object with keys and values".to_owned()));
            }
            let head: DocumentHead = serde_json::from_str(json.get())
                .map_err(|error| fault(number, offset, clean(&error.to_string())))?;
            if head.schema.is_empty() {
                return Err(fault(number, offset, "the document has no `schema`".to_owned()));
            }
            take(head, json).map_err(|why| fault(number, offset, why))
        };
        let body = chunk.trim_start();
        let offset = chunk.len() - body.len();
        if body.starts_with('{') {
            let before = number;
            match each_json(body, &mut |json, at| {
                number += 1;
                one(json, number, offset + at)
            }) {
                Ok(()) => continue,
                Err(JsonFault::Document(fault)) => return Err(fault),
                Err(JsonFault::Syntax { at, why }) => {
                    // A flow mapping of YAML starts like JSON.
                    match yaml(chunk) {
                        Ok(Some(json)) if number == before => {
                            number += 1;
                            one(&json, number, offset)?;
                        }
                        _ => return Err(fault(number + 1, offset + at, why)),
                    }
                }
            }
            continue;
        }
        match yaml(chunk) {
            Ok(None) => {}
            Ok(Some(json)) => {
                number += 1;
                one(&json, number, offset)?;
            }
            Err((line, why)) => {
                let line = line_at(text.as_bytes(), start) + line.saturating_sub(1);
                return Err(Fault { number: number + 1, line, why });
            }
        }
    }
    Ok(())
}

enum JsonFault {
    Document(Fault),
    Syntax { at: usize, why: String },
}

/// Gives each of the JSON documents in a text to `take`, with its offset.
fn each_json(
    text: &str,
    take: &mut dyn FnMut(&RawValue, usize) -> Result<(), Fault>,
) -> Result<(), JsonFault> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    loop {
        let at = stream.byte_offset();
        match stream.next() {
            None => return Ok(()),
            Some(Ok(json)) => {
                let at = json.get().as_ptr() as usize - text.as_ptr() as usize;
                take(json, at).map_err(JsonFault::Document)?;
            }
            Some(Err(error)) => {
                let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1));
                let at = line_start.map(str::len).sum::<usize>().max(at);
                // The line is told by the file.
                let why = clean(&error.to_string());
                let why = why.split(" at line ").next().unwrap_or_default().to_owned();
                return Err(JsonFault::Syntax { at, why: format!("it is not JSON: {why}") });
            }
        }
    }
}

/// Cuts a text at the lines that begin a YAML document: neither JSON nor YAML can have such a line within one.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut from = 0;
        loop {
            let found = match text[from..].find("\n---") {
                _ if from == 0 && text.starts_with("---") => Some(0),
                found => found.map(|at| from + at + 1),
            };
            let Some(at) = found else {
                rest = None;
                return Some(text);
            };
            let after = &text[at + 3..];
            if after.is_empty() || after.starts_with(|c: char| c.is_ascii_whitespace()) {
                rest = Some(after);
                return Some(&text[..at]);
            }
            from = at + 3;
        }
    })
}

/// Writes a YAML document as JSON; none if there is nothing in it. The error is a line of the text and what is wrong.
fn yaml(text: &str) -> Result<Option<Box<RawValue>>, (usize, String)> {
    let is_empty = |line: &str| {
        let line = line.trim();
        // Directives stand before the line that begins a document.
        line.is_empty() || line.starts_with(['#', '%']) || line == "..."
    };
    if text.lines().all(is_empty) {
        return Ok(None);
    }
    // A document costs what its length explains, but for its aliases: those may double it, not multiply it.
    let fair = text.len().saturating_mul(2).max(SMALL);
    // A node costs many times what it is long.
    let nodes = fair.min(MAX_NODES);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: nodes,
            max_nodes: nodes,
            max_total_scalar_bytes: fair,
            max_documents: 2,
            max_depth: 100,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: fair },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: false,
        with_snippet: false,
    };
    let fault = |line: u64, why: &str| (line as usize, clean(why));
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        fault(line, &format!("it is not YAML that can be read: {error}"))
    })?;
    if value.is_null() {
        return Ok(None);
    }
    serde_json::value::to_raw_value(&value).map(Some).map_err(|error| (1, error.to_string()))
}

/// Returns the number of the line at an offset.
fn line_at(bytes: &[u8], offset: usize) -> usize {
    bytes[..offset.min(bytes.len())].split(|byte| *byte == b'\n').count()
}

/// Puts a message of a library in one line.
fn clean(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
