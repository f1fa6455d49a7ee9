//! `ImageSetConfiguration`, `mirror.openshift.io/v2alpha1`: what oc-mirror v2 reads.
//!
//! Targets become names to travel under: the source's host, so that nothing is lost, with the target's path; a push puts
//! its registry in place of the host. Paths in it are relative to its folder.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::FileError;
use super::packages::Package;
use super::page::{Page, inherit};
use super::yaml::{At, Items, List, line};
use crate::input::argument::{Argument, Place};
use crate::input::{Blocked, CatalogOrder, ChartOrder, ImageOrder, ReleaseOrder, Spot};
use crate::oci::reference::{is_repository, is_tag};
use crate::oci::{Platform, Reference, RepositoryName};

/// The group of oc-mirror's documents.
pub(super) const GROUP: &str = "mirror.openshift.io/";
/// The version that this reader knows.
pub(super) const API_VERSION: &str = "mirror.openshift.io/v2alpha1";
/// Its kind.
pub(super) const KIND: &str = "ImageSetConfiguration";
/// The kind of the file by which oc-mirror deletes.
pub(super) const DELETE_KIND: &str = "DeleteImageSetConfiguration";

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    archive_size: Option<At<u64>>,
    mirror: Option<Mirror>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mirror {
    platform: Option<ReleasePlatform>,
    operators: List<Operator>,
    additional_images: List<Image>,
    helm: Option<Helm>,
    blocked_images: List<BlockedImage>,
    samples: Option<At<Vec<IgnoredAny>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReleasePlatform {
    release: Option<At<String>>,
    graph: Option<At<bool>>,
    platforms: List<PlatformFields>,
    architectures: List<String>,
    channels: Option<At<Vec<IgnoredAny>>>,
    kube_virt_container: Option<At<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformFields {
    os: Option<String>,
    architecture: String,
    variant: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Operator {
    catalog: At<String>,
    full: Option<bool>,
    target_catalog: Option<At<String>>,
    target_tag: Option<At<String>>,
    target_catalog_source_template: Option<At<String>>,
    #[serde(rename = "skipDependencies")]
    _skip_dependencies: Option<bool>,
    platforms: List<PlatformFields>,
    packages: List<Package>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: At<String>,
    target_repo: Option<At<String>>,
    target_tag: Option<At<String>>,
    platforms: List<PlatformFields>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockedImage {
    name: At<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Helm {
    repositories: List<HelmRepository>,
    local: List<Chart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HelmRepository {
    #[serde(rename = "name")]
    _name: Option<String>,
    url: String,
    charts: List<Chart>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Chart {
    name: At<String>,
    version: Option<At<String>>,
    path: Option<At<String>>,
    image_paths: List<String>,
    values: Option<At<IgnoredAny>>,
}

/// Refuses the versions and kinds of oc-mirror's documents that are not read.
pub(super) fn check_version(
    page: &Page<'_>,
    at: usize,
    version: &str,
    kind: Option<&str>,
) -> Result<(), FileError> {
    if kind == Some(DELETE_KIND) {
        return Err(page.refused(
            at,
            format!("`kind: {DELETE_KIND}` asks for deletion, and barge deletes nothing"),
            "delete with the registry's own tools, or with oc-mirror",
        ));
    }
    if version != API_VERSION {
        return Err(page.refused(
            at,
            format!("`apiVersion: {version}` is not read, only {API_VERSION}"),
            format!(
                "write `apiVersion: {API_VERSION}`, and leave out `storageConfig`: nothing is kept between runs; names of packages, channels and images stay as they are"
            ),
        ));
    }
    match kind {
        Some(KIND) => Ok(()),
        Some(other) => {
            let why = format!("`kind: {other}` of {API_VERSION} is not known, only {KIND}");
            Err(FileError::Kind { at: page.spot(at), why })
        }
        None => {
            let why = format!("there is no `kind`, which is {KIND} with {API_VERSION}");
            Err(FileError::Kind { at: page.spot(at), why })
        }
    }
}

/// Adds what an `ImageSetConfiguration` asks for.
pub(super) fn read(page: &mut Page<'_>, document: &Document) -> Result<(), FileError> {
    if let Some(size) = &document.archive_size {
        let bytes = size.value.checked_mul(1 << 30).filter(|bytes| *bytes > 0);
        let wrong = || page.wrong(line(size), format!("`archiveSize: {}` is no size in GiB", size.value));
        page.order.volume_size = Some(bytes.ok_or_else(wrong)?);
        page.note(format_args!(
            "`archiveSize: {}` is kept for bundles in volumes; until there are such, bundles are one file",
            size.value
        ));
    }
    let Some(mirror) = &document.mirror else { return Ok(()) };
    if let Some(samples) = mirror.samples.as_ref().filter(|samples| !samples.value.is_empty()) {
        return Err(page.refused(
            line(samples),
            "`samples` means nothing to oc-mirror v2, and nothing here",
            "list the images under `additionalImages`",
        ));
    }
    if let Some(platform) = &mirror.platform {
        release(page, platform)?;
    }
    for operator in mirror.operators.items() {
        self::operator(page, line(operator), &operator.value)?;
    }
    for image in mirror.additional_images.items() {
        self::image(page, line(image), &image.value)?;
    }
    if let Some(helm) = &mirror.helm {
        for repository in helm.repositories.items() {
            for chart in repository.value.charts.items() {
                self::chart(page, line(chart), &chart.value, Some(&repository.value.url))?;
            }
        }
        for chart in helm.local.items() {
            self::chart(page, line(chart), &chart.value, None)?;
        }
    }
    for blocked in mirror.blocked_images.items() {
        let at = Some(page.spot(line(blocked)));
        let pattern = page.pattern(&blocked.value.name, line(blocked))?;
        page.order.blocked.push(Blocked { pattern, at });
    }
    Ok(())
}

/// Reads platforms in their fields.
fn platforms(page: &Page<'_>, list: &[At<PlatformFields>]) -> Result<Vec<Platform>, FileError> {
    let parse = |item: &At<PlatformFields>| {
        let PlatformFields { os, architecture, variant } = &item.value;
        let mut text = format!("{}/{architecture}", os.as_deref().unwrap_or("linux"));
        if let Some(variant) = variant.as_deref().filter(|variant| !variant.is_empty()) {
            text.push('/');
            text.push_str(variant);
        }
        let wrong = |error: crate::oci::platform::PlatformError| page.wrong(line(item), error.to_string());
        text.parse().map_err(wrong)
    };
    list.iter().map(parse).collect()
}

fn release(page: &mut Page<'_>, platform: &ReleasePlatform) -> Result<(), FileError> {
    const USE_RELEASE: &str = "name the release image itself: `platform: {release: \
        quay.io/openshift-release-dev/ocp-release:VERSION-x86_64}`; its components are read from it";
    if let Some(channels) = platform.channels.as_ref().filter(|channels| !channels.value.is_empty()) {
        let what = "`channels` needs the update graph, which is a service on the network";
        return Err(page.refused(line(channels), what, USE_RELEASE));
    }
    if let Some(graph) = platform.graph.as_ref().filter(|graph| graph.value) {
        let what = "`graph: true` needs the update graph, which is a service on the network";
        let instead = format!("leave `graph` out; {USE_RELEASE}");
        return Err(page.refused(line(graph), what, instead));
    }
    if let Some(wanted) = platform.kube_virt_container.as_ref().filter(|wanted| wanted.value) {
        return Err(page.refused(
            line(wanted),
            "`kubeVirtContainer: true` is not supported",
            "leave it out, and list that image under `additionalImages`",
        ));
    }
    let mut wanted = platforms(page, platform.platforms.items())?;
    let mut every = false;
    for architecture in platform.architectures.items() {
        if !platform.platforms.as_ref().is_none_or(Vec::is_empty) {
            let what = "`architectures` and `platforms` say the same: give `platforms` alone";
            return Err(page.wrong(line(architecture), what));
        }
        // The peer's word for the image of all architectures.
        if architecture.value == "multi" {
            every = true;
            continue;
        }
        let text = format!("linux/{}", architecture.value);
        let parsed = text.parse().map_err(|error: crate::oci::platform::PlatformError| {
            page.wrong(line(architecture), error.to_string())
        })?;
        wanted.push(parsed);
    }
    if every {
        wanted.clear();
    }
    let Some(release) = platform.release.as_ref().filter(|release| !release.value.is_empty()) else {
        return Ok(());
    };
    let mut argument = source(page, line(release), &release.value)?;
    super::name_release(&mut argument);
    let at = Some(page.spot(line(release)));
    page.order.releases.push(ReleaseOrder { argument, signatures: Vec::new(), platforms: wanted, at });
    Ok(())
}

/// Parses a reference, or `oci://DIR`.
fn source(page: &Page<'_>, at: usize, text: &str) -> Result<Argument, FileError> {
    if let Some(folder) = text.strip_prefix("oci://").or_else(|| text.strip_prefix("oci:")) {
        if folder.trim_matches('/').is_empty() {
            return Err(page.wrong(at, format!("`{text}` names no folder")));
        }
        let place = Place::Layout(page.place(folder));
        return Ok(Argument { name: None, place, selector: None, reference: None });
    }
    if text.contains('=') {
        return Err(page.wrong(at, format!("`{text}` is no reference; targets have fields of their own")));
    }
    page.argument(at, text)
}

/// Where something is to go: a path and a tag, each where it is given.
struct Target<'a> {
    path: Option<&'a At<String>>,
    tag: Option<&'a At<String>>,
}

impl Target<'_> {
    /// Gives the argument the name that this says.
    fn name(&self, page: &Page<'_>, at: usize, argument: &mut Argument) -> Result<(), FileError> {
        if let Some(path) = self.path
            && !is_repository(&path.value)
        {
            return Err(page.wrong(
                line(path),
                format!("`{}` is no path of a repository: no host, tag or digest belongs there", path.value),
            ));
        }
        if let Some(tag) = self.tag
            && !is_tag(&tag.value)
        {
            return Err(page.wrong(line(tag), format!("`{}` is no tag", tag.value)));
        }
        let tag = self.tag.map(|tag| tag.value.clone());
        let name = match (&argument.reference, &argument.place) {
            (Some(reference), _) => {
                let repository =
                    self.path.map_or(reference.name.repository.clone(), |path| path.value.clone());
                RepositoryName { registry: reference.name.registry.clone(), repository }
            }
            (None, Place::Layout(folder)) => {
                // The peer calls what comes from a folder by the folder's name.
                let own =
                    folder.file_name().and_then(|name| name.to_str()).filter(|name| is_repository(name));
                let Some(repository) = self.path.map(|path| path.value.as_str()).or(own) else {
                    let what = format!("what is in {} has no name: give `targetCatalog`", folder.display());
                    return Err(page.wrong(at, what));
                };
                RepositoryName { registry: "localhost".to_owned(), repository: repository.to_owned() }
            }
            _ => return Err(page.wrong(at, "a reference or oci://DIR is wanted here")),
        };
        argument.name = Some(inherit(Reference { name, tag, digest: None }, argument));
        Ok(())
    }
}

fn operator(page: &mut Page<'_>, at: usize, operator: &Operator) -> Result<(), FileError> {
    let mut argument = source(page, line(&operator.catalog), &operator.catalog.value)?;
    let target = Target { path: operator.target_catalog.as_ref(), tag: operator.target_tag.as_ref() };
    target.name(page, at, &mut argument)?;
    if let Some(template) = &operator.target_catalog_source_template {
        let at = line(template);
        page.note(format_args!("line {at}: `targetCatalogSourceTemplate` is not used"));
    }
    let filter = page.filter(operator.full.unwrap_or(false), operator.packages.items())?;
    let platforms = platforms(page, operator.platforms.items())?;
    let at: Option<Spot> = Some(page.spot(at));
    page.order.catalogs.push(CatalogOrder { argument, filter, rebuild: false, platforms, at });
    Ok(())
}

fn image(page: &mut Page<'_>, at: usize, image: &Image) -> Result<(), FileError> {
    let mut argument = source(page, line(&image.name), &image.name.value)?;
    if image.target_repo.is_some() || image.target_tag.is_some() {
        let target = Target { path: image.target_repo.as_ref(), tag: image.target_tag.as_ref() };
        target.name(page, at, &mut argument)?;
    }
    let platforms = platforms(page, image.platforms.items())?;
    let at = Some(page.spot(at));
    page.order.images.push(ImageOrder { argument, platforms, at });
    Ok(())
}

fn chart(page: &mut Page<'_>, at: usize, chart: &Chart, url: Option<&str>) -> Result<(), FileError> {
    if let Some(values) = &chart.values {
        return Err(page.refused(
            line(values),
            "values that stand in the file are not supported",
            "write them to a file of their own, and give the chart in a barge.yaml: `charts: [{chart: …, values: [FILE]}]`",
        ));
    }
    let place = match (url, &chart.path) {
        (None, Some(path)) => super::chart::place(page, line(path), &path.value, None, None)?,
        (None, None) => return Err(page.wrong(at, format!("the chart {} has no `path`", chart.name.value))),
        (Some(_), Some(path)) => {
            return Err(page.wrong(
                line(path),
                "a chart of a repository has no `path`; one with it belongs under `local`",
            ));
        }
        (Some(url), None) => {
            let version = chart.version.as_ref().map(|version| version.value.as_str());
            super::chart::place(page, line(&chart.name), &chart.name.value, Some(url), version)?
        }
    };
    page.order.charts.push(ChartOrder {
        place,
        name: None,
        images: None,
        render: false,
        image_paths: chart.image_paths.items().iter().map(|path| path.value.clone()).collect(),
        values: Vec::new(),
        platforms: Vec::new(),
        at: Some(page.spot(at)),
    });
    Ok(())
}
