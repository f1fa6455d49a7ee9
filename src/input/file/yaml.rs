//! YAML with a place for everything in it, and limits that no honest file comes near.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_saphyr::{Error, Location, Spanned, UserMessageFormatter};

use super::error::FileError;
use crate::input::Spot;

/// A value, and where it stands.
pub(super) type At<T> = Spanned<T>;
/// A list whose items know where they stand; nothing after the field's colon is an empty list.
pub(super) type List<T> = Option<Vec<At<T>>>;

/// Nodes that a file may have once its aliases are followed: 10,000 images with ten fields each are 210,000.
const MAX_NODES: usize = 500_000;
/// Nodes that aliases may add: a bomb has billions, an honest file repeats a list of platforms.
const MAX_REPEATED: usize = 100_000;
/// Lists and objects within each other; no kind of file has more than 10.
const MAX_DEPTH: usize = 32;
/// Documents of a file, which only hauler's manifests have several of.
const MAX_DOCUMENTS: usize = 256;

/// What is said where something else stands in place of fields.
pub(super) const NOT_FIELDS: &str = "fields are wanted here";

/// Returns the line of a value, or `line` where it has none of its own, as in the short form of an item.
pub(super) fn line_or<T>(value: &At<T>, line: usize) -> usize {
    match value.referenced.line() {
        0 => line.max(1),
        own => own as usize,
    }
}

/// Returns the line of a value.
pub(super) fn line<T>(value: &At<T>) -> usize {
    line_or(value, 1)
}

/// The items of a list, which may not be there.
pub(super) trait Items<T> {
    /// Returns the items.
    fn items(&self) -> &[At<T>];
}

impl<T> Items<T> for List<T> {
    fn items(&self) -> &[At<T>] {
        self.as_deref().unwrap_or_default()
    }
}

/// Reads all documents of a text.
///
/// # Errors
/// [`FileError`] with the line: it is no YAML, does not have the form of `T`, or goes beyond the limits.
pub(super) fn documents<T: DeserializeOwned>(
    path: &std::path::Path,
    text: &str,
) -> Result<Vec<At<T>>, FileError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: MAX_DOCUMENTS,
            max_recorded_anchor_events: MAX_REPEATED,
            // Thousands of images may share a list of platforms; what that makes is counted above.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| wrong(path, &error))
}

/// Puts the reader's errors into our words.
fn wrong(path: &std::path::Path, error: &Error) -> FileError {
    let line = error.location().map_or(1, |location| location.line().max(1) as usize);
    let at = Spot { file: path.to_owned(), line };
    // The line is said already.
    let why = error.render_with_formatter(&UserMessageFormatter);
    let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
    let what = match cause(error) {
        Error::SerdeUnknownField { field, expected, .. } => {
            return FileError::Field {
                at,
                field: field.chars().take(100).collect(),
                known: expected.clone(),
            };
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the field `{key}` stands here twice"),
        Error::SerdeMissingField { field, .. } => format!("the field `{field}` is missing"),
        Error::NullIntoString { .. } | Error::Unexpected { expected: "string scalar", .. } => {
            "a text is wanted here".to_owned()
        }
        Error::Unexpected { expected: "sequence start", .. } => "a list is wanted here".to_owned(),
        Error::Unexpected { expected: "mapping start", .. } => NOT_FIELDS.to_owned(),
        Error::InvalidBooleanStrict { .. } | Error::InvalidScalar { ty: "boolean", .. } => {
            "`true` or `false` is wanted here".to_owned()
        }
        Error::InvalidScalar { ty: "u64" | "usize", .. } => "a whole number is wanted here".to_owned(),
        Error::SerdeInvalidType { unexpected, expected, .. } if unexpected == "unit value" => {
            format!("{expected} is wanted here, and there is nothing")
        }
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("{expected} is wanted here, not {unexpected}")
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("`{variant}` is none of {}", expected.join(", "))
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => too_much(why),
        _ if why.contains("recursion limit") => too_much(why),
        _ => format!("this can't be read as YAML: {why}"),
    };
    FileError::Wrong { at, what, source: None }
}

fn too_much(why: &str) -> String {
    format!("this is more than a file may hold, through repetition, nesting or length: {why}")
}

/// Returns what went wrong within what an alias stands for.
fn cause(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    error
}

/// An item that may be written as a text alone.
pub(super) trait Short: Sized {
    /// What the item is, as an error calls it.
    const IS: &'static str;

    /// Makes the item of its text.
    fn short(text: At<String>) -> Self;
}

/// An item in its long or its short form.
#[derive(Debug)]
pub(super) struct Item<T>(pub(super) T);

impl<'de, T: Short + Deserialize<'de>> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor(PhantomData))
    }
}

struct ItemVisitor<T>(PhantomData<T>);

impl<'de, T: Short + Deserialize<'de>> Visitor<'de> for ItemVisitor<T> {
    type Value = Item<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, as a text or with fields,", T::IS)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let nowhere = Location::UNKNOWN;
        Ok(Item(T::short(Spanned { value: text.to_owned(), referenced: nowhere, defined: nowhere })))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Item)
    }
}
