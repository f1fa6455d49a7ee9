//! Which tags a choice leaves, and what is blocked.

use semver::Version;

use super::order::{Blocked, TagChoice};
use crate::oci::Reference;
use crate::store::is_attached_tag;

impl TagChoice {
    /// Returns the tags that are chosen: versions first, the highest first, then the others in the order given.
    ///
    /// A version is `x.y.z`, with `v` before it or not. With a range or a count, only versions are left; pre-releases among
    /// them only where the range has one. Tags of attached content are no images, and never chosen.
    #[must_use]
    pub fn choose(&self, tags: Vec<String>) -> Vec<String> {
        let fits = |tag: &String| {
            !is_attached_tag(tag) && self.matching.as_ref().is_none_or(|pattern| matches_whole(pattern, tag))
        };
        let by_version = self.range.is_some() || self.latest.is_some();
        let mut chosen: Vec<(Option<Version>, String)> = tags
            .into_iter()
            .filter(fits)
            .map(|tag| (version(&tag), tag))
            .filter(|(version, _)| !by_version || version.as_ref().is_some_and(|version| self.has(version)))
            .collect();
        chosen.sort_by(|(one, _), (other, _)| match (one, other) {
            (Some(one), Some(other)) => other.cmp_precedence(one),
            (one, other) => other.is_some().cmp(&one.is_some()),
        });
        chosen.truncate(self.latest.unwrap_or(usize::MAX));
        chosen.into_iter().map(|(_, tag)| tag).collect()
    }

    fn has(&self, version: &Version) -> bool {
        match &self.range {
            Some(range) => range.matches(version),
            None => version.pre.is_empty(),
        }
    }
}

/// Tells whether a pattern matches all of a text, and not only a part.
fn matches_whole(pattern: &regex::Regex, text: &str) -> bool {
    pattern.find(text).is_some_and(|found| found.len() == text.len())
}

/// Returns the version that a tag is.
fn version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

impl Blocked {
    /// Returns where it was said, or else the pattern.
    pub(super) fn place(&self) -> String {
        self.at.as_ref().map_or_else(|| format!("`{}`", self.pattern), ToString::to_string)
    }

    /// Returns the numbers of the patterns that one of an image's references matches: where there is any, it is blocked.
    #[must_use]
    pub fn is_blocked(blocked: &[Self], references: &[&Reference]) -> Vec<usize> {
        if blocked.is_empty() {
            return Vec::new();
        }
        let texts: Vec<String> = references.iter().map(ToString::to_string).collect();
        let matches = |one: &Self| texts.iter().any(|text| one.pattern.is_match(text));
        (0..blocked.len()).filter(|at| matches(&blocked[*at])).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(choice: &TagChoice, tags: &[&str]) -> Vec<String> {
        choice.choose(tags.iter().map(|tag| (*tag).to_owned()).collect())
    }

    fn pattern(text: &str) -> regex::Regex {
        regex::Regex::new(text).unwrap()
    }

    const TAGS: [&str; 9] =
        ["latest", "v1.9.0", "1.10.0", "v1.10.1-rc.1", "1.10", "edge", "v2.0.0", "2.1.0-beta", "v1.2.3"];

    #[test]
    fn all_tags_are_chosen_where_nothing_is_said_but_those_of_attached_content() {
        let attached = format!("sha256-{}.sig", "0".repeat(64));
        let mut tags = TAGS.to_vec();
        tags.push(&attached);
        let all = chosen(&TagChoice::default(), &tags);
        assert_eq!(
            all,
            ["2.1.0-beta", "v2.0.0", "v1.10.1-rc.1", "1.10.0", "v1.9.0", "v1.2.3", "latest", "1.10", "edge"]
        );
    }

    #[test]
    fn a_pattern_matches_the_whole_tag() {
        let choice = TagChoice { matching: Some(pattern("^(?:1|1\\.10)$")), ..TagChoice::default() };
        assert_eq!(chosen(&choice, &TAGS), ["1.10"]);
        let loose = TagChoice { matching: Some(pattern("1\\.10")), ..TagChoice::default() };
        assert_eq!(chosen(&loose, &TAGS), ["1.10"]);
    }

    #[test]
    fn a_range_takes_versions_and_pre_releases_only_where_it_names_one() {
        let range = |text: &str| TagChoice { range: Some(text.parse().unwrap()), ..TagChoice::default() };
        assert_eq!(chosen(&range(">=1.9, <2"), &TAGS), ["1.10.0", "v1.9.0"]);
        assert_eq!(chosen(&range(">=1.10.1-rc.0, <2"), &TAGS), ["v1.10.1-rc.1"]);
        assert_eq!(chosen(&range("*"), &TAGS), ["v2.0.0", "1.10.0", "v1.9.0", "v1.2.3"]);
        assert_eq!(chosen(&range("=3.0.0"), &TAGS), [""; 0]);
    }

    #[test]
    fn the_latest_are_the_highest_versions_not_the_last_words() {
        let latest = |count| TagChoice { latest: Some(count), ..TagChoice::default() };
        assert_eq!(chosen(&latest(2), &TAGS), ["v2.0.0", "1.10.0"]);
        assert_eq!(chosen(&latest(99), &TAGS), ["v2.0.0", "1.10.0", "v1.9.0", "v1.2.3"]);
        let both = TagChoice { range: Some("<2".parse().unwrap()), latest: Some(1), matching: None };
        assert_eq!(chosen(&both, &TAGS), ["1.10.0"]);
        let three = TagChoice { matching: Some(pattern("^(?:v.*)$")), ..both };
        assert_eq!(chosen(&three, &TAGS), ["v1.9.0"]);
        // Equal versions stay in the order given.
        assert_eq!(chosen(&latest(9), &["1.0.0", "v1.0.0"]), ["1.0.0", "v1.0.0"]);
        assert_eq!(chosen(&latest(9), &["v1.0.0", "1.0.0"]), ["v1.0.0", "1.0.0"]);
    }

    #[test]
    fn a_pattern_blocks_what_it_matches_a_part_of() {
        let blocked: Vec<Blocked> =
            ["debug", "^quay\\.test/"].map(|text| Blocked { pattern: pattern(text), at: None }).into();
        let by = |text: &str| Blocked::is_blocked(&blocked, &[&text.parse().unwrap()]);
        assert_eq!(by("reg.test/app-debug:v1"), [0]);
        assert_eq!(by("quay.test/app:v1"), [1]);
        assert_eq!(by("quay.test/debug:v1"), [0, 1]);
        assert_eq!(by("reg.test/quay.test/app:v1"), [0; 0]);
        let names = ["reg.test/a", "quay.test/a"].map(|text| text.parse::<Reference>().unwrap());
        assert_eq!(Blocked::is_blocked(&blocked, &[&names[0], &names[1]]), [1]);
        assert_eq!(Blocked::is_blocked(&[], &[&names[0]]), [0; 0]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_was_there_and_is_there_once(
            tags in prop::collection::vec("v?[0-2]{1,2}(\\.[0-2]){0,3}(-[a-z]{1,2})?", 0..12),
            latest in prop::option::of(1usize..4),
        ) {
            let choice = TagChoice { latest, ..TagChoice::default() };
            let mut left = choice.choose(tags.clone());
            prop_assert!(left.len() <= latest.unwrap_or(tags.len()));
            prop_assert_eq!(&choice.choose(left.clone()), &left);
            let mut tags = tags;
            tags.sort();
            left.sort();
            for tag in left {
                let at = tags.binary_search(&tag);
                prop_assert!(at.is_ok());
                tags.remove(at.unwrap());
            }
        }
    }
}
