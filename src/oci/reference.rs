//! Image references: `[registry/]repository[:tag][@digest]`, with the defaults that every client of the field applies.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::Digest;
use super::digest::DigestError;

/// A repository on a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName {
    /// Registry host with its port, e.g. `registry.example:5000` or `[::1]:5000`.
    pub registry: String,
    /// Path of the repository, e.g. `library/alpine`.
    pub repository: String,
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

/// A name for an image: a repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The repository.
    pub name: RepositoryName,
    /// The tag, if one was given.
    pub tag: Option<String>,
    /// The digest, if one was given; it decides what is meant, and the tag is then only a name.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Some part has a character or form that references don't allow.
    #[error("`{text}` is not an image reference: {why}")]
    Malformed {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The part after `@` is no digest.
    #[error("`{text}` is not an image reference")]
    Digest {
        /// The text as given.
        text: String,
        /// What is wrong with the digest.
        #[source]
        source: DigestError,
    },
}

/// The registry that a reference without a host means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a reference without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";
/// The longest repository path that registries accept, in bytes.
const MAX_REPOSITORY: usize = 255;
/// The longest tag (distribution-spec, "Pulling manifests").
const MAX_TAG: usize = 128;

impl Reference {
    /// Makes a reference to a tag.
    #[must_use]
    pub fn tagged(name: RepositoryName, tag: impl Into<String>) -> Self {
        Self { name, tag: Some(tag.into()), digest: None }
    }

    /// Makes a reference to a digest.
    #[must_use]
    pub fn pinned(name: RepositoryName, digest: Digest) -> Self {
        Self { name, tag: None, digest: Some(digest) }
    }

    /// Gives the reference the tag `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Returns the reference without its registry: the name that it has at another registry by default.
    #[must_use]
    pub fn path(&self) -> String {
        let full = self.to_string();
        let rest = full.strip_prefix(self.name.registry.as_str()).and_then(|rest| rest.strip_prefix('/'));
        rest.map(ToOwned::to_owned).unwrap_or(full)
    }

    /// Returns whether people mean this image when they say `wanted`: its full name, its name without the registry, or
    /// its repository, with or without the registry, for every tag in it.
    #[must_use]
    pub fn is_meant_by(&self, wanted: &str) -> bool {
        let full = || wanted.parse::<Self>().map(Self::with_default_tag);
        self.to_string() == wanted
            || self.path() == wanted
            || self.name.to_string() == wanted
            || self.name.repository == wanted
            || full().is_ok_and(|full| full == *self)
    }

    /// Returns what a manifest request names: the digest where there is one, else the tag, else `latest`.
    #[must_use]
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let malformed = |why| ReferenceError::Malformed { text: text.chars().take(300).collect(), why };
        if let Some(text) = without_login(text) {
            return Err(ReferenceError::Malformed { text, why: NO_LOGIN });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::Digest {
                    text: text.chars().take(300).collect(),
                    source,
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to the host's port.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].find(':') {
            Some(colon) if !rest.starts_with('[') || last > 0 => {
                (&rest[..last + colon], Some(&rest[last + colon + 1..]))
            }
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(malformed(
                "a tag has up to 128 letters, digits, `_`, `.` and `-`, and starts with none of the last two",
            ));
        }
        let name = parse_name(name).map_err(malformed)?;
        Ok(Self { name, tag: tag.map(str::to_owned), digest })
    }
}

impl FromStr for RepositoryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some(text) = without_login(text) {
            return Err(ReferenceError::Malformed { text, why: NO_LOGIN });
        }
        parse_name(text)
            .map_err(|why| ReferenceError::Malformed { text: text.chars().take(300).collect(), why })
    }
}

/// Parses `[registry/]repository`, applying `docker.io` and `library/`.
fn parse_name(name: &str) -> Result<RepositoryName, &'static str> {
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest)) if looks_like_host(host) => (host, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if !is_host(registry) {
        return Err("the registry is not a host name with an optional port");
    }
    let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    if !is_repository(&repository) {
        return Err("a repository is lowercase words of letters, digits, `.`, `_` and `-`, joined by `/`");
    }
    Ok(RepositoryName { registry: registry.to_owned(), repository })
}

/// What is said of names with credentials in them.
pub const NO_LOGIN: &str = "a user and a password are no part of a name";

/// Returns a name without the user and password that stand before an `@` in it, which must not be shown; none if there are
/// none. A digest stands after an `@` too.
#[must_use]
pub fn without_login(text: &str) -> Option<String> {
    let is_digest = |rest: &str| ["sha256", "sha512"].iter().any(|algorithm| rest.starts_with(algorithm));
    let end = match text.rfind('@') {
        Some(at) if is_digest(&text[at + 1..]) => at,
        _ => text.len(),
    };
    let (login, name) = text[..end].rsplit_once('@')?;
    let has_password = login.contains(':') && !name.is_empty();
    has_password.then(|| format!("\u{2026}@{name}{}", &text[end..]).chars().take(300).collect())
}

/// Returns a text that is to be a name as it may be shown.
#[must_use]
pub fn shown(text: &str) -> String {
    without_login(text).unwrap_or_else(|| text.to_owned())
}

/// Tells whether the first component of a name is a host: the rule of distribution's `reference` package.
fn looks_like_host(component: &str) -> bool {
    component == "localhost"
        || component.contains(['.', ':'])
        || component.starts_with('[')
        || component.bytes().any(|b| b.is_ascii_uppercase())
}

/// Tells whether `text` is a host name, an IPv4 address or a bracketed IPv6 address, with an optional port.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (None, port)
    } else {
        match text.split_once(':') {
            Some((host, _)) => (Some(host), &text[host.len()..]),
            None => (Some(text), ""),
        }
    };
    let port_fits =
        port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    let host_fits = host.is_none_or(|host| {
        host.len() <= 253
            && host.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
    });
    port_fits && host_fits
}

/// Tells whether `text` is a repository path (distribution-spec, "Pulling manifests").
#[must_use]
pub fn is_repository(text: &str) -> bool {
    text.len() <= MAX_REPOSITORY && text.split('/').all(is_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(word) || !bytes.last().is_some_and(word) {
        return false;
    }
    bytes
        .split(word)
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

/// Tells whether `text` is a tag.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(word)
        && bytes.iter().all(|b| word(b) || *b == b'.' || *b == b'-')
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepositoryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
    }

    #[test]
    fn the_defaults_of_the_field_apply() {
        let digest = Digest::sha256(b"x");
        for (given, meant) in [
            ("alpine", "docker.io/library/alpine"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("tools/lint:v3", "docker.io/tools/lint:v3"),
            ("index.docker.io/alpine", "docker.io/library/alpine"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("[::1]:5000/app:v1", "[::1]:5000/app:v1"),
            ("registry.example/app", "registry.example/app"),
            ("HOST/app", "HOST/app"),
            ("r.example:80/a__b/c--d.e_f:T_1.-x", "r.example:80/a__b/c--d.e_f:T_1.-x"),
        ] {
            assert_eq!(full(given), meant);
        }
        let both = format!("r.example/app:v1@{digest}");
        let reference: Reference = both.parse().unwrap();
        assert_eq!(reference.to_string(), both);
        assert_eq!(reference.selector(), digest.to_string());
        assert_eq!("app".parse::<Reference>().unwrap().with_default_tag().selector(), "latest");
    }

    #[test]
    fn malformed_references_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "a@",
            "a@sha256:00",
            "A",
            "a//b",
            "/a",
            "a/",
            "r.example:x/a",
            "r.example:0/a",
            "[::1/a",
            "a:-t",
            "a:b:c",
            "-a.example/x",
            "a___b",
            "a._b",
            "r.example/",
            "a b",
            "a:tag\n",
            "http://r.example/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
        assert!(format!("a/{}", "r".repeat(256)).parse::<Reference>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_and_what_parses_round_trips(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
