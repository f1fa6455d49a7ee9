//! Classic chart repositories: a site with an `index.yaml`.

use std::collections::BTreeMap;

use semver::Version;
use serde::Deserialize;

use super::package::MAX_PACKAGE;
use super::{ChartError, yaml};
use crate::oci::Digest;
use crate::store::registry::{Client, Site};
use crate::store::{Result as StoreResult, StoreError};

/// The largest `index.yaml` that is read, in bytes; the largest public ones have some 20 MiB.
const MAX_INDEX: u64 = 64 * 1024 * 1024;

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    entries: Option<BTreeMap<String, Option<Vec<Entry>>>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    digest: Option<String>,
}

/// Where a repository has a chart.
pub(super) enum Found {
    /// It handed it out.
    Package {
        /// The packaged chart.
        bytes: Vec<u8>,
        /// Where it was.
        address: String,
        /// Whether the index told its digest.
        is_proved: bool,
    },
    /// In a registry, by this reference.
    Registry(String),
}

/// Finds a chart in a repository and fetches it.
pub(super) fn fetch(
    client: &Client,
    url: &str,
    chart: &str,
    version: Option<&str>,
) -> Result<Found, ChartError> {
    let site = client.site(url)?;
    let invalid = |why: String| ChartError::Store(StoreError::Invalid { place: site.address(), why });
    let bytes = site.read("index.yaml", MAX_INDEX)?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("its `index.yaml` is not UTF-8".to_owned()))?;
    let index: Index = yaml::read(&text).map_err(|why| invalid(format!("its `index.yaml`: {why}")))?;
    drop(text);
    let mut entries = index.entries.unwrap_or_default();
    let entries = entries.remove(chart).flatten().unwrap_or_default();
    let entry = choose(&entries, version).ok_or_else(|| ChartError::NoSuchVersion {
        repository: site.address(),
        chart: chart.to_owned(),
        version: version.map(ToOwned::to_owned),
        known: newest(&entries),
    })?;
    let mut failure = None;
    for address in entry.urls.iter().flatten() {
        if let Some(reference) = address.strip_prefix("oci://") {
            return Ok(Found::Registry(reference.replace('+', "_")));
        }
        match package(&site, address, entry.digest.as_deref()) {
            Ok(bytes) => {
                return Ok(Found::Package {
                    bytes,
                    address: site.address_of(address),
                    is_proved: entry.digest.is_some(),
                });
            }
            // The others are other places of the same file.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.map_or_else(
        || invalid(format!("its `index.yaml` does not say where chart `{}` is", chart.escape_debug())),
        ChartError::Store,
    ))
}

fn package(site: &Site<'_>, address: &str, digest: Option<&str>) -> StoreResult<Vec<u8>> {
    let bytes = site.read(address, MAX_PACKAGE)?;
    let Some(said) = digest.filter(|digest| !digest.is_empty()) else {
        return Ok(bytes);
    };
    let hex = said.strip_prefix("sha256:").unwrap_or(said).to_ascii_lowercase();
    let digest: Digest = format!("sha256:{hex}").parse().map_err(|_| StoreError::Invalid {
        place: site.address(),
        why: format!("its `index.yaml` has no SHA-256 for {}", site.address_of(address)),
    })?;
    if digest.matches(&bytes) {
        return Ok(bytes);
    }
    Err(StoreError::Damaged {
        place: site.address_of(address),
        why: format!("its `index.yaml` announces it, and the bytes hash to {}", Digest::sha256(&bytes)),
        digest,
    })
}

/// Reads a version, with or without a leading `v`.
fn parse(version: &str) -> Option<Version> {
    Version::parse(version.strip_prefix('v').unwrap_or(version)).ok()
}

/// Chooses the entry of a version; without one the newest that is no pre-release.
fn choose<'e>(entries: &'e [Entry], version: Option<&str>) -> Option<&'e Entry> {
    let of = |entry: &'e Entry| entry.version.as_deref().unwrap_or_default();
    let Some(wanted) = version else {
        return entries
            .iter()
            .filter_map(|entry| Some((parse(of(entry))?, entry)))
            .filter(|(version, _)| version.pre.is_empty())
            .max_by(|a, b| a.0.cmp(&b.0))
            .map(|(_, entry)| entry);
    };
    let exact = entries.iter().find(|entry| of(entry) == wanted);
    exact.or_else(|| {
        let wanted = parse(wanted)?;
        entries.iter().find(|entry| parse(of(entry)).as_ref() == Some(&wanted))
    })
}

/// Returns the newest versions, for a message.
fn newest(entries: &[Entry]) -> Vec<String> {
    let mut versions: Vec<Version> =
        entries.iter().filter_map(|entry| parse(entry.version.as_deref()?)).collect();
    versions.sort();
    versions.iter().rev().take(5).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_chosen_unless_a_version_is_named() {
        let entries: Vec<Entry> = ["1.9.0", "v1.10.0", "2.0.0-rc.1", "latest", "1.2.3+b"]
            .into_iter()
            .map(|version| Entry { version: Some(version.to_owned()), urls: None, digest: None })
            .collect();
        let chosen = |version| choose(&entries, version).and_then(|entry| entry.version.as_deref());
        assert_eq!(chosen(None), Some("v1.10.0"));
        assert_eq!(chosen(Some("1.10.0")), Some("v1.10.0"));
        assert_eq!(chosen(Some("2.0.0-rc.1")), Some("2.0.0-rc.1"));
        assert_eq!(chosen(Some("latest")), Some("latest"));
        assert_eq!(chosen(Some("3.0.0")), None);
        assert_eq!(newest(&entries)[0], "2.0.0-rc.1");
    }
}
