//! The packages, channels and versions wanted of a catalog, which barge.yaml and `ImageSetConfiguration` say alike.
//!
//! What the text alone shows to be wrong is an error here, with its line; what takes the catalog to see is left to
//! [`crate::catalog`].

use std::collections::HashMap;

use semver::Version;
use serde::Deserialize;

use super::error::FileError;
use super::page::Page;
use super::yaml::{At, Items, List, line};
use crate::catalog::{ChannelFilter, Filter, PackageFilter, Range};

/// A package as files say it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Package {
    name: At<String>,
    default_channel: Option<At<String>>,
    min_version: Option<At<String>>,
    max_version: Option<At<String>>,
    channels: List<Channel>,
}

/// A channel as files say it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Channel {
    name: At<String>,
    min_version: Option<At<String>>,
    max_version: Option<At<String>>,
}

impl Page<'_> {
    /// Makes a filter of what a file says of a catalog.
    pub(super) fn filter(&self, full: bool, packages: &[At<Package>]) -> Result<Filter, FileError> {
        let mut filter = Filter { full, packages: Vec::new() };
        let mut seen = HashMap::new();
        for package in packages {
            self.once(&mut seen, "package", &package.value.name)?;
            filter.packages.push(self.package(full, &package.value)?);
        }
        Ok(filter)
    }

    fn package(&self, full: bool, package: &Package) -> Result<PackageFilter, FileError> {
        let name = &package.name.value;
        let range = self.range(full, package.min_version.as_ref(), package.max_version.as_ref())?;
        let mut seen = HashMap::new();
        let mut channels = Vec::new();
        for channel in package.channels.items().iter().map(|channel| &channel.value) {
            self.once(&mut seen, "channel", &channel.name)?;
            let bounds = [&channel.min_version, &channel.max_version];
            if let (Some(bound), true) = (bounds.into_iter().flatten().next(), range != Range::default()) {
                return Err(self.wrong(
                    line(bound),
                    format!(
                        "package {name} has versions of its own, and so has its channel {}: give them at one of both",
                        channel.name.value
                    ),
                ));
            }
            let range = self.range(full, channel.min_version.as_ref(), channel.max_version.as_ref())?;
            channels.push(ChannelFilter { name: channel.name.value.clone(), range });
        }
        let default = package.default_channel.as_ref();
        if let Some(default) = default
            && !channels.is_empty()
            && !seen.contains_key(&default.value)
        {
            return Err(self.wrong(
                line(default),
                format!(
                    "the default channel {} of package {name} is not among its channels here",
                    default.value
                ),
            ));
        }
        let default_channel = default.map(|default| default.value.clone());
        Ok(PackageFilter { name: name.clone(), default_channel, channels, range })
    }

    fn range(
        &self,
        full: bool,
        min: Option<&At<String>>,
        max: Option<&At<String>>,
    ) -> Result<Range, FileError> {
        let parse = |bound: Option<&At<String>>| bound.map(|bound| self.version(bound)).transpose();
        let range = Range { min: parse(min)?, max: parse(max)? };
        let Some(last) = max.or(min) else { return Ok(range) };
        if full {
            return Err(self.wrong(line(last), "`full` takes every version, so none can be given"));
        }
        // Build metadata has no part in which version is the higher (semver 10).
        if let (Some(min), Some(max)) = (&range.min, &range.max)
            && min.cmp_precedence(max).is_gt()
        {
            return Err(
                self.wrong(line(last), format!("the lowest version {min} is above the highest, {max}"))
            );
        }
        Ok(range)
    }

    fn version(&self, text: &At<String>) -> Result<Version, FileError> {
        Version::parse(&text.value).map_err(|error| FileError::Wrong {
            at: self.spot(line(text)),
            what: format!("`{}` is no version x.y.z", text.value),
            source: Some(Box::new(error)),
        })
    }

    fn once(
        &self,
        seen: &mut HashMap<String, usize>,
        what: &str,
        name: &At<String>,
    ) -> Result<(), FileError> {
        if name.value.is_empty() {
            return Err(self.wrong(line(name), format!("a {what} has an empty name")));
        }
        match seen.insert(name.value.clone(), line(name)) {
            Some(first) => {
                Err(self.twice(line(name), first, format!("{what} {} stands here twice", name.value)))
            }
            None => Ok(()),
        }
    }
}
