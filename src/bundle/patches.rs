//! The patches of a delta bundle: which content is rebuilt from which.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::table::{BlobTable, Role};
use crate::delta::patch::BASES_MAX;
use crate::oci::Digest;

/// The codec that this version makes and applies, with its version.
pub const CODEC: &str = "layer/1";
/// The feature that a reader of a bundle with patches must know.
pub const FEATURE: &str = "patches";

/// Content that does not travel itself: it is rebuilt at the far side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchRow {
    /// Digests of what it is rebuilt from, in the order of the patch.
    pub bases: Vec<Digest>,
    /// How, with a version.
    pub codec: String,
    /// Type of the content.
    pub media_type: String,
    /// Digest of the patch.
    pub patch: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// Digest of the content.
    pub target: Digest,
}

/// Content at the far side that patches build on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRow {
    /// Its digest.
    pub digest: Digest,
    /// Where a base saw it: places in the record's list of repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<u32>,
    /// Its length in bytes.
    pub size: u64,
}

/// The patches, sorted by target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PatchTable(Vec<PatchRow>);

impl<'de> Deserialize<'de> for PatchTable {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<PatchRow>::deserialize(deserializer).map(Self::new)
    }
}

/// Why patches can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchesError {
    /// A codec of a newer version.
    #[error("the bundle rebuilds {0} by `{1}`, which this barge does not know: use a newer barge")]
    Codec(Digest, String),
    /// Content that is rebuilt in two ways.
    #[error("`barge.json` says twice how {0} is rebuilt")]
    Twice(Digest),
    /// Content that is rebuilt and travels too, or is left out.
    #[error("`barge.json` says that {0} is rebuilt, and that it travels or is left out too")]
    Both(Digest),
    /// A patch that the bundle does not list.
    #[error("`barge.json` rebuilds {0} by a patch that it does not list")]
    NoPatch(Digest),
    /// No base, or too many.
    #[error("`barge.json` rebuilds {0} from {1} bases, where 1 to {BASES_MAX} are allowed")]
    Bases(Digest, usize),
    /// A base that is nowhere.
    #[error("`barge.json` rebuilds {0} from {1}, and does not say where that is")]
    NoBase(Digest, Digest),
    /// Content that is rebuilt from itself.
    #[error("`barge.json` rebuilds {0} from itself")]
    Cycle(Digest),
}

impl PatchTable {
    /// Makes a table; sorts the rows.
    #[must_use]
    pub fn new(mut rows: Vec<PatchRow>) -> Self {
        rows.sort_by(|a, b| a.target.cmp(&b.target));
        Self(rows)
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the rows, sorted by target.
    pub fn iter(&self) -> impl Iterator<Item = &PatchRow> {
        self.0.iter()
    }

    /// Finds how content is rebuilt.
    #[must_use]
    pub fn find(&self, target: &Digest) -> Option<&PatchRow> {
        let at = self.0.binary_search_by(|row| row.target.cmp(target)).ok()?;
        self.0.get(at)
    }

    /// Checks that all patches can be understood, and that everything they build on is accounted for.
    ///
    /// # Errors
    /// [`PatchesError`] about the first row that is wrong.
    pub fn check(
        &self,
        blobs: &BlobTable,
        is_absent: impl Fn(&Digest) -> bool,
        far: &[ContentRow],
    ) -> Result<(), PatchesError> {
        if let Some(row) = self.0.iter().find(|row| row.codec != CODEC) {
            let codec = row.codec.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(PatchesError::Codec(row.target.clone(), codec));
        }
        if let Some(pair) = self.0.windows(2).find(|pair| pair[0].target == pair[1].target) {
            return Err(PatchesError::Twice(pair[0].target.clone()));
        }
        let far: HashSet<&Digest> = far.iter().map(|row| &row.digest).collect();
        for row in &self.0 {
            let target = || row.target.clone();
            if blobs.find(&row.target).is_some() || is_absent(&row.target) {
                return Err(PatchesError::Both(target()));
            }
            let patch = blobs.find(&row.patch);
            if !patch.is_some_and(|(_, patch)| matches!(patch.role, Role::Patch | Role::Gap)) {
                return Err(PatchesError::NoPatch(target()));
            }
            if row.bases.is_empty() || row.bases.len() > BASES_MAX {
                return Err(PatchesError::Bases(target(), row.bases.len()));
            }
            let is_somewhere =
                |base: &Digest| far.contains(base) || blobs.find(base).is_some() || self.find(base).is_some();
            if let Some(base) = row.bases.iter().find(|base| !is_somewhere(base)) {
                return Err(PatchesError::NoBase(target(), base.clone()));
            }
        }
        self.check_order()
    }

    /// Checks that nothing is rebuilt from itself, by way of whatever else.
    fn check_order(&self) -> Result<(), PatchesError> {
        // What is being looked into, and what was found to be in order.
        let mut seen: HashMap<&Digest, bool> = HashMap::new();
        for row in &self.0 {
            let mut stack = vec![(row, 0)];
            if seen.contains_key(&row.target) {
                continue;
            }
            seen.insert(&row.target, false);
            while let Some((row, at)) = stack.last_mut() {
                let Some(base) = row.bases.get(*at) else {
                    seen.insert(&row.target, true);
                    stack.pop();
                    continue;
                };
                *at += 1;
                let Some(below) = self.find(base) else { continue };
                match seen.get(&below.target) {
                    Some(true) => {}
                    Some(false) => return Err(PatchesError::Cycle(below.target.clone())),
                    None => {
                        seen.insert(&below.target, false);
                        stack.push((below, 0));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::BlobRow;
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn row(target: &str, bases: &[&str]) -> PatchRow {
        PatchRow {
            bases: bases.iter().map(|base| digest(base)).collect(),
            codec: CODEC.to_owned(),
            media_type: "application/x".to_owned(),
            patch: digest(&format!("patch of {target}")),
            size: 7,
            target: digest(target),
        }
    }

    fn checked(rows: Vec<PatchRow>) -> Result<(), PatchesError> {
        let blob = |digest: Digest, role| BlobRow {
            digest,
            media_type: "application/x".to_owned(),
            offset: 512,
            role,
            size: 3,
        };
        let mut blobs = vec![blob(digest("held"), Role::Base)];
        for name in ["a", "b", "c"] {
            blobs.push(blob(digest(&format!("patch of {name}")), Role::Patch));
        }
        let far = [ContentRow { digest: digest("far"), repositories: Vec::new(), size: 5 }];
        let blobs = BlobTable::new(blobs).unwrap();
        PatchTable::new(rows).check(&blobs, |absent| *absent == digest("absent"), &far)
    }

    #[test]
    fn patches_build_on_what_the_bundle_or_the_far_side_has_and_on_each_other() {
        let chain = vec![row("a", &["far", "held"]), row("b", &["a"]), row("c", &["b", "a"])];
        assert_eq!(checked(chain), Ok(()));
        assert_eq!(checked(vec![row("a", &["no"])]), Err(PatchesError::NoBase(digest("a"), digest("no"))));
        assert!(matches!(checked(vec![row("a", &["b"]), row("b", &["a"])]), Err(PatchesError::Cycle(_))));
        assert_eq!(checked(vec![row("a", &["a"])]), Err(PatchesError::Cycle(digest("a"))));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert_eq!(checked(vec![row("held", &["far"])]), Err(PatchesError::Both(digest("held"))));
        assert_eq!(checked(vec![row("absent", &["far"])]), Err(PatchesError::Both(digest("absent"))));
        assert_eq!(checked(vec![row("d", &["far"])]), Err(PatchesError::NoPatch(digest("d"))));
        assert_eq!(checked(vec![row("a", &[])]), Err(PatchesError::Bases(digest("a"), 0)));
        assert_eq!(checked(vec![row("a", &["far"]); 2]), Err(PatchesError::Twice(digest("a"))));
        let newer = PatchRow { codec: "layer/2".to_owned(), ..row("a", &["far"]) };
        assert_eq!(checked(vec![newer]), Err(PatchesError::Codec(digest("a"), "layer/2".to_owned())));
    }
}
