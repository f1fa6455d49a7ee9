//! What files ask for, of whatever kind they are: read from text alone, before anything is opened or asked.
//!
//! Every reader of a file makes an [`Order`]; [`Opener`](super::Opener) turns orders and arguments into what a survey asks
//! for. What a file says of a catalog, a chart or a release stays as it was said until then: only their content tells
//! which images they mean.

use std::fmt;
use std::path::PathBuf;

use super::argument::Argument;
use crate::catalog::Filter;
use crate::oci::{Platform, Reference, RepositoryName};
use crate::select::Attachments;

/// Where in a file something was said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The file.
    pub file: PathBuf,
    /// Number of the line, from 1.
    pub line: usize,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Everything that a file asks for.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Images, and all that an image's argument can name.
    pub images: Vec<ImageOrder>,
    /// Repositories of which tags are chosen.
    pub tags: Vec<TagOrder>,
    /// Operator catalogs.
    pub catalogs: Vec<CatalogOrder>,
    /// Helm charts.
    pub charts: Vec<ChartOrder>,
    /// Release payloads.
    pub releases: Vec<ReleaseOrder>,
    /// Images that are left out whatever asks for them.
    pub blocked: Vec<Blocked>,
    /// How registries are reached.
    pub registries: Vec<RegistryOrder>,
    /// What is wanted where an item says nothing itself.
    pub defaults: Defaults,
    /// The size of a volume in bytes, for media that hold one at a time.
    pub volume_size: Option<u64>,
    /// What people should know, e.g. that a file's destination host is not used.
    pub notes: Vec<String>,
}

/// What is wanted where neither an item nor the command line says anything: an item's own word goes before the command
/// line's, and that before these.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Platforms; empty for all.
    pub platforms: Vec<Platform>,
    /// Attached content.
    pub attachments: Option<Attachments>,
    /// What a push does when the target refuses a sparse index.
    pub sparse: Option<crate::push::sparse::Policy>,
}

/// An image.
#[derive(Debug, Clone)]
pub struct ImageOrder {
    /// Which, and under which names it travels: one for each, the first of them its own.
    pub argument: Argument,
    /// Platforms; empty for what is wanted of all.
    pub platforms: Vec<Platform>,
    /// Where it was said.
    pub at: Option<Spot>,
}

/// Some tags of a repository.
#[derive(Debug, Clone)]
pub struct TagOrder {
    /// The repository.
    pub repository: RepositoryName,
    /// The repository that it is to be named after; none for its own name.
    pub name: Option<RepositoryName>,
    /// Which tags.
    pub choice: TagChoice,
    /// Platforms; empty for what is wanted of all.
    pub platforms: Vec<Platform>,
    /// Where it was said.
    pub at: Option<Spot>,
}

/// Which tags of a repository are wanted; what is not said does not restrict.
#[derive(Debug, Clone, Default)]
pub struct TagChoice {
    /// Only tags that match as a whole.
    pub matching: Option<regex::Regex>,
    /// Only tags that are versions in a range; a leading `v` is allowed.
    pub range: Option<semver::VersionReq>,
    /// Only so many, the highest versions first.
    pub latest: Option<usize>,
}

/// An operator catalog.
#[derive(Debug, Clone)]
pub struct CatalogOrder {
    /// The catalog image, and the name it travels under.
    pub argument: Argument,
    /// Which of its bundles travel.
    pub filter: Filter,
    /// Whether a catalog image is made that lists nothing else.
    pub rebuild: bool,
    /// Platforms; empty for what is wanted of all.
    pub platforms: Vec<Platform>,
    /// Where it was said.
    pub at: Option<Spot>,
}

/// A Helm chart that is no image argument.
#[derive(Debug, Clone)]
pub struct ChartOrder {
    /// Where it is.
    pub place: ChartPlace,
    /// The name it travels under; none for `localhost/charts/NAME:VERSION`.
    pub name: Option<Reference>,
    /// A list of the images it needs.
    pub images: Option<PathBuf>,
    /// Whether `helm template` is to be run to find the images; it is, only where the command line says so too.
    pub render: bool,
    /// Where else in rendered documents images are named, as `{.spec.image}`.
    pub image_paths: Vec<String>,
    /// Values files for rendering.
    pub values: Vec<PathBuf>,
    /// Platforms of the chart's images; empty for what is wanted of all.
    pub platforms: Vec<Platform>,
    /// Where it was said.
    pub at: Option<Spot>,
}

/// Where a chart is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChartPlace {
    /// A `.tgz` or a chart's directory.
    File(PathBuf),
    /// A chart in a registry.
    Registry(Reference),
    /// A chart in a repository with an `index.yaml`.
    Repository {
        /// The repository's address.
        url: String,
        /// The chart's name.
        chart: String,
        /// Its version; none for the newest that is no pre-release.
        version: Option<String>,
    },
}

/// A release payload of `OpenShift`.
#[derive(Debug, Clone)]
pub struct ReleaseOrder {
    /// The release image.
    pub argument: Argument,
    /// Signature files.
    pub signatures: Vec<PathBuf>,
    /// Platforms; empty for what is wanted of all.
    pub platforms: Vec<Platform>,
    /// Where it was said.
    pub at: Option<Spot>,
}

/// A pattern of images that are left out.
#[derive(Debug, Clone)]
pub struct Blocked {
    /// The pattern, which need not match as a whole.
    pub pattern: regex::Regex,
    /// Where it was said.
    pub at: Option<Spot>,
}

/// How a registry, or what lies below a path of one, is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryOrder {
    /// A registry's host, or a path at it: `registry.example[:PORT][/PATH]`; `*.example` for all hosts below.
    pub prefix: String,
    /// Places that are asked first, in this order.
    pub mirrors: Vec<MirrorOrder>,
    /// Whether the place itself is not asked.
    pub mirrors_only: bool,
    /// Whether plain HTTP and unverified TLS are allowed for what is pulled from the place itself.
    pub insecure: bool,
    /// A folder with certificates.
    pub cert_dir: Option<PathBuf>,
    /// A file with credentials.
    pub auth_file: Option<PathBuf>,
    /// Where it was said.
    pub at: Option<Spot>,
}

/// A place that stands for another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorOrder {
    /// A registry's host, or a path at it.
    pub location: String,
    /// Whether plain HTTP and unverified TLS are allowed for what is pulled from it.
    pub insecure: bool,
}
