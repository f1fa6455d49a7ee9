//! Which bundles of a catalog are wanted.

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
