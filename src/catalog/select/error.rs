//! Why nothing can be chosen.

use crate::catalog::HeadError;
use crate::oci::reference::ReferenceError;

/// Why nothing can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Versions for a package and for one of its channels.
    #[error(
        "versions are asked for of the package `{package}` and of its channel `{channel}`; only one of them can count"
    )]
    TwoRanges {
        /// The package.
        package: String,
        /// The channel.
        channel: String,
    },
    /// Versions, and everything.
    #[error("versions are asked for of the package `{package}` of which everything is asked for too")]
    FullWithRange {
        /// The package.
        package: String,
    },
    /// A package or channel that is asked for twice.
    #[error("{0} is asked for twice")]
    Twice(String),
    /// Nothing of what was asked for is there.
    #[error("nothing is left of the catalog in {place}: it has none of the packages {}", .packages.join(", "))]
    NothingLeft {
        /// The catalog's place.
        place: String,
        /// What was asked for.
        packages: Vec<String>,
    },
    /// The catalog is empty.
    #[error("the catalog in {place} lists nothing")]
    Empty {
        /// The catalog's place.
        place: String,
    },
    /// The default channel is none of those chosen.
    #[error(
        "the channel `{channel}`, which is the default of the package `{package}`, is not among the channels chosen"
    )]
    DefaultNotChosen {
        /// The package.
        package: String,
        /// Its default channel.
        channel: String,
    },
    /// The channel that was to be the default is none of those chosen, or not there at all.
    #[error("the channel `{channel}` is to be the default of the package `{package}` and is not among what is left of it: {}", listed(.left))]
    NewDefaultNotChosen {
        /// The package.
        package: String,
        /// The channel.
        channel: String,
        /// The channels that are left.
        left: Vec<String>,
    },
    /// Nothing is left of the default channel.
    #[error(
        "nothing is left of the channel `{channel}`, the default of the package `{package}`: no version in it is {range}{}",
        unread(*.strange)
    )]
    DefaultEmpty {
        /// The package.
        package: String,
        /// Its default channel.
        channel: String,
        /// What was asked for.
        range: String,
        /// How many of its bundles have a version of another form, or none.
        strange: usize,
    },
    /// Nothing is left of a package that has no default channel.
    #[error("nothing is left of the package `{package}`: {why}")]
    PackageEmpty {
        /// The package.
        package: String,
        /// What was asked for.
        why: String,
    },
    /// A package that can't be taken.
    #[error("the package `{package}` can't be taken: {why}")]
    Unusable {
        /// The package.
        package: String,
        /// What is wrong with it.
        why: String,
    },
    /// Versions from a higher one to a lower one.
    #[error("versions {range} are asked for of {of}, and no version is both")]
    Backwards {
        /// The package or channel.
        of: String,
        /// What was asked for.
        range: String,
    },
    /// A channel without one head.
    #[error("the channel `{channel}` of the package `{package}` has no head")]
    Head {
        /// The package.
        package: String,
        /// The channel.
        channel: String,
        /// Why.
        #[source]
        source: HeadError,
    },
    /// The one version that was asked for is not there.
    #[error("the version {version} was asked for of {of} and is not there")]
    NoSuchVersion {
        /// The package or channel.
        of: String,
        /// The version.
        version: String,
    },
    /// A reference that says no more than a repository.
    #[error("the image `{image}` of the bundle `{bundle}` has neither a tag nor a digest")]
    NoTag {
        /// The bundle.
        bundle: String,
        /// The image.
        image: String,
    },
    /// Something that is no reference.
    #[error("the image of the bundle `{bundle}` can't be pulled")]
    Reference {
        /// The bundle.
        bundle: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Says how many bundles no range can tell anything of.
fn unread(strange: usize) -> String {
    match strange {
        0 => String::new(),
        1 => ", and 1 of its bundles has no version of the form x.y.z".to_owned(),
        count => format!(", and {count} of its bundles have no version of the form x.y.z"),
    }
}
