//! YAML of charts and their repositories: read within bounds that real files never meet.

use serde::de::DeserializeOwned;

/// How many values a document may have: the largest public repositories list some hundred thousand.
const MAX_NODES: usize = 20_000_000;
/// How many documents a rendered chart may have.
const MAX_DOCUMENTS: usize = 100_000;
/// How much text all values may have together, in bytes.
const MAX_TEXT: usize = 256 * 1024 * 1024;

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_documents: MAX_DOCUMENTS,
            max_total_scalar_bytes: MAX_TEXT,
        },
    }
}

/// Reads one document; the error is a line of text.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| say(&error))
}

/// Reads all documents of a text; the error is a line of text.
pub(super) fn read_all(text: &str) -> Result<Vec<serde_json::Value>, String> {
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| say(&error))
}

/// Says what is wrong without quoting the text around it, which would take several lines.
fn say(error: &serde_saphyr::Error) -> String {
    crate::store::registry::clean_text(&error.without_snippet().to_string(), 300)
}
