//! Choosing from what the images of one catalog list, each for its platform.

use std::collections::BTreeSet;

use super::{FilterError, Selection};
use crate::catalog::{Filter, PlatformCatalog};

/// Chooses what a filter wants of each of a catalog's images, and joins that: what any of them lists travels.
///
/// # Errors
/// As [`Catalog::select`](crate::catalog::Catalog::select), for any of them.
pub fn select_all(catalogs: &[PlatformCatalog], filter: &Filter) -> Result<Selection, FilterError> {
    let Some((first, rest)) = catalogs.split_first() else {
        return Err(FilterError::Empty { place: "no image".to_owned() });
    };
    let mut all = first.catalog.select(filter)?;
    let mut said: BTreeSet<String> = all.warnings.iter().cloned().collect();
    for other in rest {
        let selection = other.catalog.select(filter)?;
        let warnings = selection.warnings.into_iter().filter(|warning| said.insert(warning.clone()));
        all.warnings.extend(warnings);
        for (name, package) in selection.packages {
            let known = all.packages.entry(name).or_default();
            known.default_channel = known.default_channel.take().or(package.default_channel);
            for (name, entries) in package.channels {
                let known = known.channels.entry(name).or_default();
                for entry in entries {
                    if !known.contains(&entry) {
                        known.push(entry);
                    }
                }
            }
            for (name, images) in package.bundles {
                let known = known.bundles.entry(name).or_default();
                let images: BTreeSet<String> = known.drain(..).chain(images).collect();
                known.extend(images);
            }
        }
        all.warnings.push(format!(
            "the catalog lists other things for {} than for {}: what was chosen of each of them travels",
            other.named(),
            first.named()
        ));
    }
    Ok(all)
}

/// Says which default channels stay what they are in a catalog that is not rebuilt, though others were asked for.
#[must_use]
pub fn kept_defaults(catalogs: &[PlatformCatalog], filter: &Filter) -> Vec<String> {
    let mut said = Vec::new();
    for wanted in &filter.packages {
        let Some(channel) = &wanted.default_channel else { continue };
        let packages = catalogs.iter().filter_map(|one| one.catalog.packages.get(&wanted.name));
        let old: BTreeSet<&str> = packages.filter_map(|package| package.default_channel.as_deref()).collect();
        for old in old.into_iter().filter(|old| *old != channel.as_str()) {
            said.push(format!(
                "the default channel of the package `{}` stays `{old}` in the catalog and is to be `{channel}`: only \
                 `rebuildCatalog: true` makes a file-based catalog that says so",
                wanted.name
            ));
        }
    }
    said
}
