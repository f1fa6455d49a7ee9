//! What can be wrong with a file of what is wanted.

use std::error::Error as StdError;
use std::path::PathBuf;

use crate::input::Spot;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{} can't be read", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It is longer than any such file.
    #[error("{} is longer than {limit} bytes, which no file of what is wanted is", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It is no text.
    #[error("{0}: this is not UTF-8 text")]
    NotText(Spot),
    /// It is none of the kinds that are known.
    #[error("{at}: {why}")]
    Kind {
        /// Where that shows.
        at: Spot,
        /// What it is, or what it does not say.
        why: String,
    },
    /// A field that does not exist.
    #[error("{at}: unknown field `{field}`{}", nearest(.field, .known))]
    Field {
        /// Where it stands.
        at: Spot,
        /// The field.
        field: String,
        /// The fields that exist there.
        known: Vec<&'static str>,
    },
    /// Something that is no YAML, or says what can't be.
    #[error("{at}: {what}")]
    Wrong {
        /// Where it stands.
        at: Spot,
        /// What is wrong.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// Something that barge does not do.
    #[error("{at}: {what}")]
    Refused {
        /// Where it stands.
        at: Spot,
        /// What is refused, and why.
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// One name for two images, or one thing said twice.
    #[error("{at}: {what} (the first is in line {first})")]
    Twice {
        /// Where it stands the second time.
        at: Spot,
        /// The line of the first.
        first: usize,
        /// What is there twice.
        what: String,
    },
}

impl FileError {
    /// Returns what to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Field { known, .. } if !known.is_empty() => {
                let known: Vec<String> = known.iter().map(|field| format!("`{field}`")).collect();
                Some(format!("fields that exist here: {}", known.join(", ")))
            }
            Self::Kind { .. } => Some(
                "barge reads barge.yaml (`apiVersion: barge/v1`), mapping files (SRC=DST), ImageSetConfiguration \
                 (`apiVersion: mirror.openshift.io/v2alpha1`), hauler manifests (`apiVersion: \
                 content.hauler.cattle.io/v1`) and lists of images"
                    .to_owned(),
            ),
            Self::Refused { instead, .. } => Some(instead.clone()),
            Self::NotText(_) => Some(
                "a list or manifest is wanted here; name bundles, layouts and archives without -f".to_owned(),
            ),
            _ => None,
        }
    }

    /// Returns where in the file it is, where it is in a line.
    #[must_use]
    pub fn at(&self) -> Option<&Spot> {
        match self {
            Self::Read(..) | Self::TooLong { .. } => None,
            Self::NotText(at)
            | Self::Kind { at, .. }
            | Self::Field { at, .. }
            | Self::Wrong { at, .. }
            | Self::Refused { at, .. }
            | Self::Twice { at, .. } => Some(at),
        }
    }
}

/// The end of the message about an unknown field: the known one that is spelled most like it, if any is.
fn nearest(field: &str, known: &[&'static str]) -> String {
    let close = known
        .iter()
        .map(|name| (distance(&field.to_lowercase(), &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= name.len() / 3)
        .min();
    close.map(|(_, name)| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// How many characters have to be put in, taken out or changed to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    // A field's name is short; what is very long is far from all of them.
    for (i, a) in one.chars().take(64).enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_that_is_spelled_most_like_it_is_named() {
        let known = ["image", "name", "names", "platforms"];
        assert_eq!(nearest("platfroms", &known), "; did you mean `platforms`?");
        assert_eq!(nearest("Image", &known), "; did you mean `image`?");
        assert_eq!(nearest("colour", &known), "");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
