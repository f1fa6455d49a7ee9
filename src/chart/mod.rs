//! Helm charts: as artifacts that travel like images, and the images that they need.
//!
//! A chart travels as what `helm push` makes of it, the packaged chart byte for byte as its layer; one that lies in a registry
//! stays as it is. A chart does not say which images it needs. What is known of them comes from an annotation that its authors
//! may have written, from a list, and on request from `helm template`; that nothing is known is said.

mod artifact;
mod images;
mod metadata;
mod package;
mod path;
mod render;
mod repository;
mod yaml;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::artifact::{CHART_CONFIG, CHART_CONTENT, CHART_PROVENANCE};
use self::images::Images;
use self::metadata::tag_of;
use self::package::{Contents, MAX_PACKAGE};
use self::path::ImagePath;
pub use self::render::Helm;
use self::repository::Found;
use crate::input::{ChartOrder, ChartPlace};
use crate::oci::reference::ReferenceError;
use crate::oci::{Reference, RepositoryName};
use crate::store::registry::{Access, Client};
use crate::store::{Source, StoreError};

/// How many missing dependencies are named.
const MOST_NAMED: usize = 20;

/// Gives the source that a repository of a registry is read from.
pub type Registries<'a> = dyn Fn(&RepositoryName) -> Arc<dyn Source> + 'a;

/// How charts are reached.
pub struct Reach<'a> {
    /// Asks chart repositories.
    pub client: &'a Client,
    /// Gives the source that a repository of a registry is read from.
    pub registry: Box<Registries<'a>>,
    /// The folder for working files: a chart that is rendered and lies on no disk.
    pub scratch: PathBuf,
    /// How helm is run.
    pub helm: Helm,
}

impl<'a> Reach<'a> {
    /// Reaches registries by a client, and the helm that the system finds.
    #[must_use]
    pub fn new(client: &'a Client, scratch: &Path) -> Self {
        Self {
            client,
            registry: Box::new(|name| Arc::new(client.repository(name, Access::Pull))),
            scratch: scratch.to_owned(),
            helm: Helm::default(),
        }
    }
}

/// A chart that was opened.
pub struct Charted {
    /// The place that the artifact is read from.
    pub source: Arc<dyn Source>,
    /// By what it is found there.
    pub selector: String,
    /// The name it travels under.
    pub name: Reference,
    /// What it is pulled by, where it lies in a registry.
    pub reference: Option<Reference>,
    /// The images that it needs as far as they are known, sorted, each once.
    pub images: Vec<ChartImage>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// An image that a chart needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartImage {
    /// The image, with the tag `latest` where it was named without tag and digest.
    pub reference: Reference,
    /// What names it.
    pub at: String,
}

/// Why a chart can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// A place can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file can't be read.
    #[error("{} can't be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something is not what it is said to be.
    #[error("{chart} can't be used as a Helm chart: {why}")]
    Broken {
        /// What.
        chart: String,
        /// What is wrong with it.
        why: String,
    },
    /// A repository does not list the chart, or not the version.
    #[error("{repository} lists no {}{}", wanted(chart, version.as_deref()), listed(known))]
    NoSuchVersion {
        /// The repository.
        repository: String,
        /// The chart.
        chart: String,
        /// The version that was asked for; none for the newest release.
        version: Option<String>,
        /// The newest versions that it lists.
        known: Vec<String>,
    },
    /// Name and version make no image name.
    #[error("chart {title} can't be named `localhost/charts/…` after itself; give it a name")]
    Nameless {
        /// The chart's own name and version.
        title: String,
    },
    /// A line of a list of images.
    #[error("line {line} of {}", .path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// An image path that is not understood.
    #[error("`{text}` is no image path: {why}; such as `{{.spec.image}}` and `{{.spec.parts[*].image}}` are")]
    ImagePath {
        /// The path.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Rendering was asked for where helm is not installed.
    #[error(
        "chart {chart} is to be rendered and `helm` is not installed; install it, or name the images in a file"
    )]
    NoHelm {
        /// The chart.
        chart: String,
    },
    /// Helm failed.
    #[error("chart {chart} could not be rendered by `helm template`: {why}{}", after(said))]
    Helm {
        /// The chart.
        chart: String,
        /// How it failed.
        why: String,
        /// What it said.
        said: String,
    },
}

fn wanted(chart: &str, version: Option<&str>) -> String {
    let chart = chart.escape_debug();
    match version {
        Some(version) => format!("chart `{chart}` of version `{}`", version.escape_debug()),
        None => format!("release of a chart `{chart}`"),
    }
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; the newest versions are {}", known.join(", ")) }
}

fn after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// A chart before its images are known.
struct Opened {
    source: Arc<dyn Source>,
    selector: String,
    reference: Option<Reference>,
    contents: Contents,
    /// What helm is to render: a path, or the package.
    rendered: Rendered,
    warnings: Vec<String>,
}

/// What helm renders.
enum Rendered {
    /// A chart on a disk.
    Path(PathBuf),
    /// A package that came from elsewhere.
    Package(Vec<u8>),
}

/// Opens a chart and finds its images. Helm is run only where the order says so.
///
/// # Errors
/// [`ChartError`]: it can't be read, is no chart, or its images can't be found the way that was asked for.
pub fn open(order: &ChartOrder, reach: &Reach<'_>) -> Result<Charted, ChartError> {
    // What was said wrong is said before anything is fetched.
    let paths = order.image_paths.iter().map(|path| ImagePath::parse(path)).collect::<Result<Vec<_>, _>>()?;
    let mut images = Images::default();
    if let Some(list) = &order.images {
        images.listed(list)?;
    }
    let found = match &order.place {
        ChartPlace::File(path) => from_file(path)?,
        ChartPlace::Registry(reference) => from_registry(reference, reach)?,
        ChartPlace::Repository { url, chart, version } => {
            from_repository(url, chart, version.as_deref(), reach)?
        }
    };
    let title = found.contents.metadata.title();
    let name = match (&order.name, &found.reference) {
        (Some(name), _) => name.clone(),
        // A tag names it; a digest beside it said which one was meant.
        (None, Some(Reference { name, tag: Some(tag), .. })) => Reference::tagged(name.clone(), tag.clone()),
        (None, Some(reference)) => reference.clone(),
        (None, None) => {
            let own = found.contents.metadata.reference();
            own.ok_or_else(|| ChartError::Nameless { title: title.clone() })?
        }
    };
    let Opened { source, selector, reference, contents, rendered, mut warnings } = found;
    images.annotated(&contents.metadata, &format!("chart {title}"));
    for (path, subchart) in &contents.subcharts {
        let place = crate::store::registry::clean_text(path, 200);
        images.annotated(subchart, &format!("chart {title} ({place})"));
    }
    if order.render {
        render(order, reach, &title, &rendered, &paths, &mut images)?;
    } else if !paths.is_empty() {
        images.warnings.push(format!(
            "chart {title}: image paths are for rendered charts, and this one is not rendered; `--render-charts` \
             does that"
        ));
    }
    warnings.extend(missing(&contents, &title));
    let (images, more) = images.finish();
    warnings.extend(more);
    if images.is_empty() {
        let how = if order.render { "its templates name none" } else { "it does not say which it needs" };
        let more = if order.render { "" } else { ", or have `helm template` find them: `--render-charts`" };
        warnings.push(format!(
            "chart {title} travels without images: {how}; name them in a file: `--chart-images FILE` \
             (`images: FILE`){more}"
        ));
    }
    Ok(Charted { source, selector, name, reference, images, warnings })
}

/// Names the dependencies that are neither in the chart nor can be: helm refuses to package or install such a chart.
fn missing(contents: &Contents, title: &str) -> Option<String> {
    let direct: HashSet<&str> = contents
        .subcharts
        .iter()
        .filter(|(path, _)| path.matches("charts/").count() == 1)
        .map(|(_, chart)| chart.name())
        .collect();
    let mut lacking: Vec<String> = contents
        .metadata
        .dependencies
        .iter()
        .flatten()
        .filter(|dependency| !direct.contains(dependency.name.as_str()))
        .map(|dependency| crate::store::registry::clean_text(&dependency.name, 100))
        .collect();
    if lacking.len() > MOST_NAMED {
        let more = lacking.len() - MOST_NAMED;
        lacking.truncate(MOST_NAMED);
        lacking.push(format!("{more} more"));
    }
    (!lacking.is_empty()).then(|| {
        format!(
            "chart {title} needs {}, which its `charts/` folder lacks; `helm dependency build` fetches them",
            lacking.join(", ")
        )
    })
}

fn from_file(path: &Path) -> Result<Opened, ChartError> {
    let is_folder = path.is_dir();
    let shown = path.display().to_string();
    let package = if is_folder { package::pack(path)? } else { package::read_file(path, MAX_PACKAGE)? };
    let mut signature = path.as_os_str().to_owned();
    signature.push(".prov");
    let signature = PathBuf::from(signature);
    let provenance = match is_folder || !signature.is_file() {
        true => None,
        false => Some(package::read_file(&signature, MAX_PACKAGE)?),
    };
    let rendered = std::path::absolute(path)
        .map_err(|source| ChartError::Unreadable { path: path.to_owned(), source })?;
    wrapped(&format!("chart:{shown}"), &shown, package, provenance, Rendered::Path(rendered))
}

/// Makes the artifact of a package.
fn wrapped(
    place: &str,
    shown: &str,
    package: Vec<u8>,
    provenance: Option<Vec<u8>>,
    rendered: Rendered,
) -> Result<Opened, ChartError> {
    let contents =
        package::read(&package).map_err(|why| ChartError::Broken { chart: shown.to_owned(), why })?;
    let (made, root) = artifact::make(place, &contents.metadata, package, provenance)?;
    Ok(Opened {
        source: Arc::new(made),
        selector: root.digest.to_string(),
        reference: None,
        contents,
        rendered,
        warnings: Vec::new(),
    })
}

fn from_registry(reference: &Reference, reach: &Reach<'_>) -> Result<Opened, ChartError> {
    let source = (reach.registry)(&reference.name);
    let selector = reference.selector();
    let package = artifact::read(&*source, &selector, &reference.to_string())?;
    let contents =
        package::read(&package).map_err(|why| ChartError::Broken { chart: reference.to_string(), why })?;
    Ok(Opened {
        source,
        selector,
        reference: Some(reference.clone()),
        contents,
        rendered: Rendered::Package(package),
        warnings: Vec::new(),
    })
}

fn from_repository(
    url: &str,
    chart: &str,
    version: Option<&str>,
    reach: &Reach<'_>,
) -> Result<Opened, ChartError> {
    let parse = |text: &str| {
        text.parse::<Reference>().map_err(|error| ChartError::Broken {
            chart: format!("oci://{}", text.escape_debug()),
            why: error.to_string(),
        })
    };
    if let Some(base) = url.strip_prefix("oci://") {
        let Some(version) = version else {
            return Err(ChartError::Broken {
                chart: format!("{url}/{chart}"),
                why: "a chart in a registry needs a version".to_owned(),
            });
        };
        let text = format!("{}/{chart}:{}", base.trim_end_matches('/'), tag_of(version));
        return from_registry(&parse(&text)?, reach);
    }
    match repository::fetch(reach.client, url, chart, version)? {
        Found::Registry(text) => from_registry(&parse(&text)?, reach),
        Found::Package { bytes, address, is_proved } => {
            let rendered = Rendered::Package(bytes.clone());
            let mut found = wrapped(&format!("chart:{address}"), &address, bytes, None, rendered)?;
            if found.contents.metadata.name() != chart {
                return Err(ChartError::Broken {
                    chart: address,
                    why: format!(
                        "chart `{}` was asked for, and it is {}",
                        chart.escape_debug(),
                        found.contents.metadata.title()
                    ),
                });
            }
            if !is_proved {
                found.warnings.push(format!(
                    "the index of {url} tells no digest of chart {}: nothing shows that what came is what it lists",
                    found.contents.metadata.title()
                ));
            }
            Ok(found)
        }
    }
}

/// Runs helm and adds the images of what it writes.
fn render(
    order: &ChartOrder,
    reach: &Reach<'_>,
    title: &str,
    rendered: &Rendered,
    paths: &[ImagePath],
    images: &mut Images,
) -> Result<(), ChartError> {
    let scratch = |source| ChartError::Store(StoreError::Scratch { folder: reach.scratch.clone(), source });
    let documents = match rendered {
        Rendered::Path(path) => reach.helm.template(title, path, &order.values)?,
        Rendered::Package(bytes) => {
            let folder = tempfile::Builder::new()
                .prefix("barge-chart-")
                .tempdir_in(&reach.scratch)
                .map_err(scratch)?;
            let path = folder.path().join("chart.tgz");
            std::fs::write(&path, bytes).map_err(scratch)?;
            reach.helm.template(title, &path, &order.values)?
        }
    };
    let at = format!("chart {title}, as rendered,");
    for document in &documents {
        for image in render::images(document) {
            images.add(image, &at);
        }
    }
    let (found, idle) = render::images_at(&documents, paths);
    for (image, path) in found {
        images.add(image, &format!("chart {title} at `{path}`"));
    }
    for path in idle {
        images.warnings.push(format!("chart {title}: `{path}` names nothing in what helm renders"));
    }
    Ok(())
}
