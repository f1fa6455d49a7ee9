//! Platforms (image-spec `image-index.md`, "platform") and how a wanted one is matched.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on, normalised as containerd does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Raw")]
pub struct Platform {
    /// CPU architecture in Go's names, e.g. `amd64`.
    pub architecture: String,
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Version of the operating system; only Windows images have it.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// CPU variant, e.g. `v7`; none where the architecture's default is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A platform as images write it: any field may be missing or null.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
}

impl From<Raw> for Platform {
    fn from(raw: Raw) -> Self {
        let text = Option::unwrap_or_default;
        let mut platform = Self::new(&text(raw.os), &text(raw.architecture), &text(raw.variant));
        platform.os_version = raw.os_version.filter(|version| !version.is_empty());
        platform
    }
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform (expected os/architecture[/variant], e.g. linux/amd64 or linux/arm/v7)")]
pub struct PlatformError(String);

/// How well an image's platform answers a wanted one; greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Same system and architecture, a variant newer than wanted; the number is the distance.
    Newer(std::cmp::Reverse<u8>),
    /// Same system and architecture, an older variant, which runs on what was wanted.
    Older(std::cmp::Reverse<u8>),
    /// The same platform.
    Exact,
}

impl Platform {
    /// Makes a platform from its parts, applying containerd's normalisation (`platforms/database.go`): aliases of
    /// systems and architectures, and a default variant is no variant (`arm64/v8`, `amd64/v1`) but for `arm`, where
    /// none means `v7`.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0" | "") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7" | "v7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Self {
            os,
            architecture: architecture.to_owned(),
            variant: (!variant.is_empty()).then(|| variant.to_owned()),
            os_version: None,
        }
    }

    /// Returns whether this is the `unknown/unknown` that buildx gives to attestation manifests.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// Returns whether nothing is said at all, as in an empty `platform` object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.os.is_empty() && self.architecture.is_empty()
    }

    /// Tells how well `self`, an image's platform, answers `wanted`; never across architectures.
    #[must_use]
    pub fn answers(&self, wanted: &Self) -> Option<Match> {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return None;
        }
        if self.variant == wanted.variant {
            return Some(Match::Exact);
        }
        let (have, want) = (self.variant_level(), wanted.variant_level());
        let distance = std::cmp::Reverse(have.abs_diff(want));
        Some(if have <= want { Match::Older(distance) } else { Match::Newer(distance) })
    }

    /// The number in the variant (`v7` is 7); no variant is the architecture's default, or 0.
    fn variant_level(&self) -> u8 {
        let default = match self.architecture.as_str() {
            "arm64" => 8,
            "amd64" => 1,
            _ => 0,
        };
        let digits = |v: &str| v.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok());
        self.variant.as_deref().map_or(default, |v| digits(v).unwrap_or(0))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        if let Some(version) = &self.os_version {
            write!(f, " ({version})")?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |w: &&str| {
            !w.is_empty()
                && w.len() <= 64
                && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(word) {
            return Err(PlatformError(text.chars().take(100).collect()));
        }
        Ok(Self::new(parts[0], parts[1], parts.get(2).copied().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_normalised_as_containerd_does() {
        for (given, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("Linux/I386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(platform(given).to_string(), normal, "{given}");
        }
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_exact_variant_beats_an_older_one_and_that_a_newer_one() {
        let wanted = platform("linux/arm/v7");
        let rank = |text: &str| platform(text).answers(&wanted);
        assert_eq!(rank("linux/arm/v7"), Some(Match::Exact));
        assert!(rank("linux/arm/v7") > rank("linux/arm/v6"));
        assert!(rank("linux/arm/v6") > rank("linux/arm/v5"));
        assert!(rank("linux/arm/v5") > rank("linux/arm/v8"));
        assert_eq!(rank("linux/arm64"), None);
        assert_eq!(rank("windows/arm/v7"), None);
    }

    #[test]
    fn a_platform_with_null_fields_is_read() {
        let read: Platform =
            serde_json::from_str(r#"{"os":null,"architecture":"amd64","os.version":"10.0"}"#).unwrap();
        assert_eq!((read.os.as_str(), read.os_version.as_deref()), ("", Some("10.0")));
    }
}
