//! Choosing what of a catalog travels, as oc-mirror does.

mod error;
mod union;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Bundle, Catalog, Channel, ChannelFilter, Entry, Filter, HeadError, Package, PackageFilter, Range,
};
use crate::oci::Reference;

pub use self::error::FilterError;
pub use self::union::{kept_defaults, select_all};

/// What of a catalog was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The packages by name.
    pub packages: BTreeMap<String, SelectedPackage>,
    /// What people should know.
    pub warnings: Vec<String>,
    everything: bool,
}

/// What of a package was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectedPackage {
    /// The default channel, as it is or as the filter says.
    pub default_channel: Option<String>,
    /// The entries that stay in each channel, as they are and in their order, even where what they replace is gone.
    pub channels: BTreeMap<String, Vec<Entry>>,
    /// The bundles that travel, with their images as they are written, none twice.
    pub bundles: BTreeMap<String, Vec<String>>,
}

impl Selection {
    /// Returns whether the whole catalog was chosen, as it is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Returns whether every bundle that a channel of the catalog lists was chosen.
    #[must_use]
    pub fn has_all_of(&self, catalog: &Catalog) -> bool {
        self.everything
            || catalog.packages.iter().all(|(name, package)| {
                let chosen = self.packages.get(name);
                let listed = package.channels.values().flat_map(|channel| &channel.entries);
                let mut listed = listed.filter(|entry| package.bundles.contains_key(&entry.name));
                listed.all(|entry| chosen.is_some_and(|chosen| chosen.bundles.contains_key(&entry.name)))
            })
    }

    /// Lists the images that travel, as they are written, sorted and none twice.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        let images: BTreeSet<&String> =
            self.packages.values().flat_map(|package| package.bundles.values()).flatten().collect();
        images.into_iter().cloned().collect()
    }
}

impl Catalog {
    /// Chooses what a filter wants.
    ///
    /// # Errors
    /// [`FilterError`] if that can't be, or what is left is no catalog.
    pub fn select(&self, filter: &Filter) -> Result<Selection, FilterError> {
        let everything = filter.full && filter.packages.is_empty();
        let mut selection = Selection { packages: BTreeMap::new(), warnings: Vec::new(), everything };
        let mut seen = BTreeSet::new();
        for wanted in &filter.packages {
            if !seen.insert(&wanted.name) {
                return Err(FilterError::Twice(format!("the package `{}`", wanted.name)));
            }
            check_filter(wanted, filter.full)?;
        }
        let mut choose = |name: &str, package: &Package, wanted: &PackageFilter| {
            let mut warnings = Vec::new();
            let chosen = Chooser { name, package, wanted, full: filter.full }.choose(&mut warnings)?;
            selection.packages.insert(name.to_owned(), chosen);
            selection.warnings.extend(warnings);
            Ok::<_, FilterError>(())
        };
        if filter.packages.is_empty() {
            for (name, package) in &self.packages {
                choose(name, package, &PackageFilter::default())?;
            }
            if selection.packages.is_empty() {
                return Err(FilterError::Empty { place: self.place.clone() });
            }
            return Ok(selection);
        }
        let mut unknown = Vec::new();
        for wanted in &filter.packages {
            match self.packages.get(&wanted.name) {
                Some(package) => choose(&wanted.name, package, wanted)?,
                None => unknown.push(wanted.name.clone()),
            }
        }
        if selection.packages.is_empty() {
            return Err(FilterError::NothingLeft { place: self.place.clone(), packages: unknown });
        }
        let unknown =
            unknown.iter().map(|name| format!("the catalog in {} has no package `{name}`", self.place));
        selection.warnings.splice(0..0, unknown);
        Ok(selection)
    }
}

/// Checks what can be wrong with a filter whatever the catalog has.
fn check_filter(wanted: &PackageFilter, full: bool) -> Result<(), FilterError> {
    let package = || wanted.name.clone();
    let mut seen = BTreeSet::new();
    for channel in &wanted.channels {
        if !seen.insert(&channel.name) {
            let what = format!("the channel `{}` of the package `{}`", channel.name, wanted.name);
            return Err(FilterError::Twice(what));
        }
        if channel.range.is_given() && wanted.range.is_given() {
            return Err(FilterError::TwoRanges { package: package(), channel: channel.name.clone() });
        }
        if channel.range.is_backwards() {
            let of = format!("the channel `{}` of the package `{}`", channel.name, wanted.name);
            return Err(FilterError::Backwards { of, range: channel.range.to_string() });
        }
    }
    if wanted.range.is_backwards() {
        let of = format!("the package `{}`", wanted.name);
        return Err(FilterError::Backwards { of, range: wanted.range.to_string() });
    }
    let has_range = wanted.range.is_given() || wanted.channels.iter().any(|channel| channel.range.is_given());
    if full && has_range {
        return Err(FilterError::FullWithRange { package: package() });
    }
    Ok(())
}

/// Chooses what is wanted of one package.
struct Chooser<'a> {
    name: &'a str,
    package: &'a Package,
    wanted: &'a PackageFilter,
    full: bool,
}

impl Chooser<'_> {
    fn choose(&self, warnings: &mut Vec<String>) -> Result<SelectedPackage, FilterError> {
        if let Some(why) = &self.package.fault {
            return Err(FilterError::Unusable { package: self.name.to_owned(), why: why.clone() });
        }
        let mut channels: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let (chosen, default) = (self.chosen(warnings), self.package.default_channel.as_deref());
        if let Some(default) = default
            && !chosen.contains_key(default)
            && self.wanted.default_channel.is_none()
        {
            return Err(FilterError::DefaultNotChosen {
                package: self.name.to_owned(),
                channel: default.to_owned(),
            });
        }
        let single = self.wanted.range.single();
        for (name, range) in &chosen {
            let kept = self.entries(name, &self.package.channels[*name], range)?;
            if !kept.is_empty() {
                channels.insert((*name).to_owned(), kept.into_iter().cloned().collect());
            } else if default == Some(*name) && !self.full {
                let (package, channel) = (self.name.to_owned(), (*name).to_owned());
                let strange = self.strange(name).len();
                return Err(FilterError::DefaultEmpty {
                    package,
                    channel,
                    range: range.to_string(),
                    strange,
                });
            } else if let (Some(version), true) = (range.single(), single.is_none()) {
                let of = format!("the channel `{name}` of the package `{}`", self.name);
                return Err(FilterError::NoSuchVersion { of, version: version.to_string() });
            } else if range.is_given() && !self.wanted.channels.is_empty() {
                warnings.push(format!(
                    "nothing is left of the channel `{name}` of the package `{}`: no version in it is {range}",
                    self.name
                ));
            }
        }
        if let (Some(version), true) = (single, channels.is_empty()) {
            let of = format!("the package `{}`", self.name);
            return Err(FilterError::NoSuchVersion { of, version: version.to_string() });
        }
        if let Some(channel) = &self.wanted.default_channel
            && !channels.contains_key(channel)
        {
            return Err(FilterError::NewDefaultNotChosen {
                package: self.name.to_owned(),
                channel: channel.clone(),
                left: channels.into_keys().collect(),
            });
        }
        if channels.is_empty() && (self.wanted.range.is_given() || !self.wanted.channels.is_empty()) {
            let ranges: BTreeSet<String> =
                chosen.values().filter(|range| range.is_given()).map(ToString::to_string).collect();
            let why = if ranges.is_empty() {
                "it has none of the channels that were asked for".to_owned()
            } else {
                let ranges = ranges.into_iter().collect::<Vec<_>>().join(", or ");
                format!("no version in its channels is {ranges}")
            };
            return Err(FilterError::PackageEmpty { package: self.name.to_owned(), why });
        }
        self.warn_of_versions(&chosen, warnings);
        self.warn_of_rest(&chosen, &channels, warnings);
        Ok(SelectedPackage {
            default_channel: self.wanted.default_channel.clone().or(default.map(str::to_owned)),
            bundles: self.bundles(&channels)?,
            channels,
        })
    }

    /// Returns the channels that are wanted, with the versions wanted of each.
    fn chosen(&self, warnings: &mut Vec<String>) -> BTreeMap<&str, &Range> {
        if self.wanted.channels.is_empty() {
            let names = self.package.channels.keys();
            return names.map(|name| (name.as_str(), &self.wanted.range)).collect();
        }
        let range = |channel: &'_ ChannelFilter| channel.range.is_given();
        let mut chosen = BTreeMap::new();
        for channel in &self.wanted.channels {
            match self.package.channels.get_key_value(&channel.name) {
                Some((name, _)) => {
                    let range = if range(channel) { &channel.range } else { &self.wanted.range };
                    chosen.insert(name.as_str(), range);
                }
                None => {
                    warnings.push(format!("the package `{}` has no channel `{}`", self.name, channel.name));
                }
            }
        }
        chosen
    }

    /// Returns what stays in a channel.
    fn entries<'c>(
        &self,
        name: &str,
        channel: &'c Channel,
        range: &Range,
    ) -> Result<Vec<&'c Entry>, FilterError> {
        let in_range = |entry: &Entry| self.is_in(entry, range);
        let head =
            |source| FilterError::Head { package: self.name.to_owned(), channel: name.to_owned(), source };
        if self.full {
            return Ok(channel.entries.iter().collect());
        }
        if !range.is_given() {
            return Ok(vec![channel.head().map_err(head)?]);
        }
        if range.single().is_some() {
            return Ok(channel.entries.iter().filter(|entry| in_range(entry)).collect());
        }
        let kept = range_of(channel, &in_range).map_err(head)?;
        Ok(channel.entries.iter().filter(|entry| kept.contains(entry.name.as_str())).collect())
    }

    fn is_in(&self, entry: &Entry, range: &Range) -> bool {
        let bundle = self.package.bundles.get(&entry.name);
        bundle.and_then(Bundle::semver).is_some_and(|version| range.has(&version))
    }

    /// Lists the bundles of a channel of which no range can tell anything.
    fn strange(&self, channel: &str) -> BTreeSet<&str> {
        let entries = self.package.channels.get(channel).into_iter().flat_map(|channel| &channel.entries);
        let is_strange = |entry: &&Entry| {
            self.package.bundles.get(&entry.name).is_none_or(|bundle| bundle.semver().is_none())
        };
        entries.filter(is_strange).map(|entry| entry.name.as_str()).collect()
    }

    /// Says of which bundles no range can tell anything.
    fn warn_of_versions(&self, chosen: &BTreeMap<&str, &Range>, warnings: &mut Vec<String>) {
        let asked = chosen.iter().filter(|(_, range)| range.is_given());
        let strange: BTreeSet<&str> = asked.flat_map(|(name, _)| self.strange(name)).collect();
        for name in strange {
            let version = self.package.bundles.get(name).map_or("", |bundle| &bundle.version);
            warnings.push(format!(
                "the bundle `{name}` of the package `{}` has the version `{version}`, which is none of the form x.y.z: \
                 it is in no range",
                self.name
            ));
        }
    }

    /// Says which bundles are of a version that was asked for and stay behind: nothing that leads to the head replaces them.
    fn warn_of_rest(
        &self,
        chosen: &BTreeMap<&str, &Range>,
        channels: &BTreeMap<String, Vec<Entry>>,
        warnings: &mut Vec<String>,
    ) {
        for (name, range) in chosen.iter().filter(|(_, range)| range.is_given()) {
            let kept: BTreeSet<&str> =
                channels.get(*name).into_iter().flatten().map(|entry| entry.name.as_str()).collect();
            let rest = self.package.channels[*name].entries.iter();
            let rest: Vec<&str> = rest
                .filter(|entry| !kept.contains(entry.name.as_str()) && self.is_in(entry, range))
                .map(|entry| entry.name.as_str())
                .collect();
            if !rest.is_empty() {
                warnings.push(format!(
                    "of the channel `{name}` of the package `{}` these are {range} and stay behind, as nothing on the way \
                     to its head replaces or skips them: {}",
                    self.name,
                    rest.join(", ")
                ));
            }
        }
    }

    /// Returns the bundles that travel, with their images.
    fn bundles(
        &self,
        channels: &BTreeMap<String, Vec<Entry>>,
    ) -> Result<BTreeMap<String, Vec<String>>, FilterError> {
        let listed = channels.values().flatten().map(|entry| entry.name.as_str());
        // Of everything, what no channel lists is a part too.
        let all = self.full && self.wanted.channels.is_empty();
        let rest = self.package.bundles.keys().map(String::as_str).filter(|_| all);
        let names: BTreeSet<&str> = listed.chain(rest).collect();
        let mut bundles = BTreeMap::new();
        for name in names {
            let Some(bundle) = self.package.bundles.get(name) else { continue };
            let mut images = Vec::new();
            for image in bundle.images() {
                check_reference(name, image)?;
                images.push(image.to_owned());
            }
            bundles.insert(name.to_owned(), images);
        }
        Ok(bundles)
    }
}

fn check_reference(bundle: &str, image: &str) -> Result<(), FilterError> {
    let reference: Reference =
        image.parse().map_err(|source| FilterError::Reference { bundle: bundle.to_owned(), source })?;
    if reference.tag.is_none() && reference.digest.is_none() {
        return Err(FilterError::NoTag { bundle: bundle.to_owned(), image: image.to_owned() });
    }
    Ok(())
}

/// Returns what stays in a channel of which a range of versions is wanted.
///
/// The new head is the lowest entry of the chain from which all versions wanted can be reached, by itself, by what it
/// skips, and by what is below it.
fn range_of<'c>(
    channel: &'c Channel,
    in_range: &dyn Fn(&Entry) -> bool,
) -> Result<BTreeSet<&'c str>, HeadError> {
    let (chain, entries) = (channel.chain()?, channel.by_name());
    // How many versions wanted are reached from each entry of the chain: counted from below.
    let mut reached = BTreeSet::new();
    let mut counts = vec![0; chain.len()];
    let mut wanted_skips = vec![Vec::new(); chain.len()];
    for (at, entry) in chain.iter().enumerate().rev() {
        let skips = entry.skips.iter().filter_map(|name| entries.get(name.as_str()).copied());
        wanted_skips[at] = skips.filter(|skipped| in_range(skipped)).collect();
        reached.extend(wanted_skips[at].iter().map(|skipped| skipped.name.as_str()));
        if in_range(entry) {
            reached.insert(&entry.name);
        }
        counts[at] = reached.len();
    }
    let most = counts[0];
    let mut kept = BTreeSet::new();
    if most == 0 {
        return Ok(kept);
    }
    let head = counts.iter().rposition(|count| *count == most).unwrap_or(0);
    for at in (head..chain.len()).take_while(|at| counts[*at] > 0) {
        kept.insert(chain[at].name.as_str());
        kept.extend(wanted_skips[at].iter().map(|skipped| skipped.name.as_str()));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;
