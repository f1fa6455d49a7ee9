//! Notes, grouped by cause.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::pack::Warning;

/// Collects what people should know, grouped by cause in the order in which the causes came up; items are sorted.
#[derive(Debug, Clone, Default)]
pub struct Notes(IndexMap<String, BTreeSet<String>>);

impl Notes {
    /// Notes that `cause` concerns `item`.
    pub fn add(&mut self, cause: impl Into<String>, item: impl Into<String>) {
        self.0.entry(cause.into()).or_default().insert(item.into());
    }

    /// Returns the notes.
    #[must_use]
    pub fn finish(self) -> Vec<Warning> {
        let warning = |(cause, items): (String, BTreeSet<String>)| Warning {
            cause,
            items: items.into_iter().collect(),
        };
        self.0.into_iter().map(warning).collect()
    }
}

impl From<Vec<Warning>> for Notes {
    fn from(warnings: Vec<Warning>) -> Self {
        let mut notes = Self::default();
        for warning in warnings {
            notes.0.entry(warning.cause).or_default().extend(warning.items);
        }
        notes
    }
}
