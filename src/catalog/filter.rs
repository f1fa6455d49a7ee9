//! Which bundles of a catalog are wanted.

use std::cmp::Ordering;
use std::fmt;

use semver::Version;

/// What is wanted of a catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whether whole channels are wanted, not only their heads.
    pub full: bool,
    /// The packages wanted; empty for all.
    pub packages: Vec<PackageFilter>,
}

/// What is wanted of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageFilter {
    /// Its name.
    pub name: String,
    /// The channel that becomes the default one.
    pub default_channel: Option<String>,
    /// The channels wanted; empty for all.
    pub channels: Vec<ChannelFilter>,
    /// The versions wanted of each channel.
    pub range: Range,
}

/// What is wanted of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelFilter {
    /// Its name.
    pub name: String,
    /// The versions wanted.
    pub range: Range,
}

/// Versions from one to another, both included; what is not given does not bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// The lowest.
    pub min: Option<Version>,
    /// The highest.
    pub max: Option<Version>,
}

impl Range {
    /// Returns whether anything is asked for.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.min.is_some() || self.max.is_some()
    }

    /// Returns the version, if just one is wanted.
    #[must_use]
    pub fn single(&self) -> Option<&Version> {
        let (min, max) = (self.min.as_ref()?, self.max.as_ref()?);
        (min.cmp_precedence(max) == Ordering::Equal).then_some(min)
    }

    /// Returns whether no version can be in it, since the lowest is above the highest.
    #[must_use]
    pub fn is_backwards(&self) -> bool {
        let (Some(min), Some(max)) = (&self.min, &self.max) else { return false };
        min.cmp_precedence(max) == Ordering::Greater
    }

    /// Returns whether a version is wanted. Build metadata counts for nothing, and a pre-release is only wanted if a bound
    /// is one.
    #[must_use]
    pub fn has(&self, version: &Version) -> bool {
        let bounds = || self.min.iter().chain(&self.max);
        if !version.pre.is_empty() && bounds().all(|bound| bound.pre.is_empty()) {
            return false;
        }
        let is_over = |min: &Version| version.cmp_precedence(min) != Ordering::Less;
        let is_under = |max: &Version| version.cmp_precedence(max) != Ordering::Greater;
        self.min.as_ref().is_none_or(is_over) && self.max.as_ref().is_none_or(is_under)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.min, &self.max) {
            (None, None) => f.write_str("any"),
            (Some(min), None) => write!(f, ">= {min}"),
            (None, Some(max)) => write!(f, "<= {max}"),
            (Some(min), Some(max)) => write!(f, ">= {min} and <= {max}"),
        }
    }
}
