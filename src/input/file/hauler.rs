//! hauler's manifests: `kind: Images` and `kind: Charts`, several to a file.
//!
//! What hauler verifies before it stores (`key`, `certificate-…`) is not verified here, and that is said.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::FileError;
use super::page::{Page, inherit};
use super::yaml::{At, List, line};
use crate::input::{ChartOrder, ImageOrder};
use crate::oci::Platform;

/// The group of hauler's documents.
pub(super) const GROUP: &str = "content.hauler.cattle.io/";
/// The versions that this reader knows, which say the same.
const API_VERSIONS: [&str; 2] = ["content.hauler.cattle.io/v1", "content.hauler.cattle.io/v1alpha1"];
/// How the annotations that speak to hauler begin.
const ANNOTATIONS: &str = "hauler.dev/";

/// A document of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "apiVersion")]
    api_version: At<String>,
    kind: At<String>,
    metadata: Option<Metadata>,
    spec: Option<Spec>,
}

/// Kubernetes' metadata, of which only the annotations mean something.
#[derive(Debug, Deserialize)]
struct Metadata {
    annotations: Option<BTreeMap<String, At<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    images: List<Image>,
    charts: List<Chart>,
    #[serde(rename = "files")]
    _files: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Image {
    name: At<String>,
    platform: Option<At<String>>,
    registry: Option<At<String>>,
    rewrite: Option<At<String>>,
    exclude_extras: Option<At<bool>>,
    key: Option<At<IgnoredAny>>,
    tlog: Option<At<IgnoredAny>>,
    use_tlog_verify: Option<At<IgnoredAny>>,
    certificate_identity: Option<At<IgnoredAny>>,
    certificate_identity_regexp: Option<At<IgnoredAny>>,
    certificate_oidc_issuer: Option<At<IgnoredAny>>,
    certificate_oidc_issuer_regexp: Option<At<IgnoredAny>>,
    certificate_github_workflow_repository: Option<At<IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chart {
    name: At<String>,
    #[serde(rename = "repoURL")]
    repository: Option<At<String>>,
    version: Option<At<String>>,
    rewrite: Option<At<String>>,
    #[serde(rename = "addImages")]
    add_images: Option<At<bool>>,
    #[serde(rename = "addDependencies")]
    add_dependencies: Option<At<bool>>,
}

/// What is said once of the whole file, with the lines it is about.
#[derive(Default)]
struct Notes(BTreeMap<&'static str, Vec<usize>>);

impl Notes {
    fn add<T>(&mut self, text: &'static str, value: Option<&At<T>>) {
        if let Some(value) = value {
            self.0.entry(text).or_default().push(line(value));
        }
    }
}

const UNVERIFIED: &str = "signatures are not verified when images are packed (`key`, `certificate-…`, `use-tlog-verify`); they \
    travel with their images: verify them where they arrive";
const EXTRAS: &str = "`exclude-extras` of an image is not done; `--attachments none` leaves out what is attached, for all images";
const ADD_IMAGES: &str =
    "`addImages` is not enough to run a chart's templates; `--render-charts` does, where helm is installed";
const ADD_DEPENDENCIES: &str =
    "`addDependencies` is not done: list the charts that it depends on, unless they are inside it";
const REWRITE_CHART: &str =
    "`rewrite` of a chart is not done: it keeps its name; a barge.yaml can give it another with `name`";

/// Adds what the documents of a file ask for.
pub(super) fn read(page: &mut Page<'_>, documents: &[At<Document>]) -> Result<(), FileError> {
    let mut notes = Notes::default();
    for document in documents {
        self::document(page, &document.value, &mut notes)?;
    }
    for (text, lines) in notes.0 {
        let lines: Vec<String> = lines
            .iter()
            .take(5)
            .map(ToString::to_string)
            .chain((lines.len() > 5).then(|| "…".to_owned()))
            .collect();
        page.note(format_args!("line {}: {text}", lines.join(", ")));
    }
    Ok(())
}

fn document(page: &mut Page<'_>, document: &Document, notes: &mut Notes) -> Result<(), FileError> {
    let version = &document.api_version;
    if !API_VERSIONS.contains(&version.value.as_str()) {
        let why =
            format!("`apiVersion: {}` is not known, only {}", version.value, API_VERSIONS.join(" and "));
        return Err(FileError::Kind { at: page.spot(line(version)), why });
    }
    let annotations = document.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let annotation =
        |name: &str| annotations.and_then(|annotations| annotations.get(&format!("{ANNOTATIONS}{name}")));
    let spec = document.spec.as_ref();
    let (images, charts) =
        (spec.and_then(|spec| spec.images.as_ref()), spec.and_then(|spec| spec.charts.as_ref()));
    let kind = &document.kind;
    match kind.value.as_str() {
        "Images" => {
            if let Some(stray) = charts.and_then(|charts| charts.first()) {
                return Err(page.wrong(line(stray), "`charts` belong into a document of `kind: Charts`"));
            }
            let all_of = All { platform: annotation("platform"), registry: annotation("registry") };
            for (name, value) in annotations.into_iter().flatten() {
                let known = [Some("platform"), Some("registry")].contains(&name.strip_prefix(ANNOTATIONS));
                if name.starts_with(ANNOTATIONS) && !known {
                    notes.add(UNVERIFIED, Some(value));
                }
            }
            for item in images.into_iter().flatten() {
                image(page, line(item), &item.value, &all_of, notes)?;
            }
            Ok(())
        }
        "Charts" => {
            if let Some(stray) = images.and_then(|images| images.first()) {
                return Err(page.wrong(line(stray), "`images` belong into a document of `kind: Images`"));
            }
            for item in charts.into_iter().flatten() {
                chart(page, line(item), &item.value, notes)?;
            }
            Ok(())
        }
        "Files" => Err(page.refused(
            line(kind),
            "`kind: Files` asks for plain files, and barge carries images and charts",
            "copy the files to the medium beside the bundle, or push them as artifacts (`oras push`) and list those as images",
        )),
        other => Err(page.refused(
            line(kind),
            format!("`kind: {other}` of hauler is not read, only Images and Charts"),
            "write the images that it stands for into a document of `kind: Images`",
        )),
    }
}

/// What a document says of all its images.
struct All<'a> {
    platform: Option<&'a At<String>>,
    registry: Option<&'a At<String>>,
}

fn image(
    page: &mut Page<'_>,
    at: usize,
    image: &Image,
    all_of: &All<'_>,
    notes: &mut Notes,
) -> Result<(), FileError> {
    for checked in [
        &image.key,
        &image.tlog,
        &image.use_tlog_verify,
        &image.certificate_identity,
        &image.certificate_identity_regexp,
        &image.certificate_oidc_issuer,
        &image.certificate_oidc_issuer_regexp,
        &image.certificate_github_workflow_repository,
    ] {
        notes.add(UNVERIFIED, checked.as_ref());
    }
    notes.add(EXTRAS, image.exclude_extras.as_ref().filter(|extras| extras.value));
    let text = &image.name.value;
    if text.contains('=') {
        return Err(page.wrong(line(&image.name), format!("`{text}` is no reference")));
    }
    // A name without a host is one of the registry that the document or the image names.
    let text = match image.registry.as_ref().or(all_of.registry) {
        Some(registry)
            if !text
                .split_once('/')
                .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost") =>
        {
            format!("{}/{text}", registry.value.trim_end_matches('/'))
        }
        _ => text.clone(),
    };
    let mut argument = page.argument(line(&image.name), &text)?;
    let Some(reference) = argument.reference.clone() else {
        return Err(page.wrong(line(&image.name), format!("`{text}` is no reference")));
    };
    if let Some(rewrite) = &image.rewrite {
        let path = rewrite.value.trim_start_matches('/');
        let name = page.reference(line(rewrite), &format!("{}/{path}", reference.name.registry))?;
        if name.digest.is_some() {
            return Err(
                page.wrong(line(rewrite), format!("`{path}` has a digest, and a digest can't be given"))
            );
        }
        argument.name = Some(inherit(name, &argument));
    }
    let platforms = match image.platform.as_ref().or(all_of.platform).filter(|text| !text.value.is_empty()) {
        None => Vec::new(),
        // hauler's word for what is wanted anyway.
        Some(text) if text.value == "all" => Vec::new(),
        Some(text) => vec![platform(page, text)?],
    };
    let at = Some(page.spot(at));
    page.order.images.push(ImageOrder { argument, platforms, at });
    Ok(())
}

fn platform(page: &Page<'_>, text: &At<String>) -> Result<Platform, FileError> {
    let wrong = |error: crate::oci::platform::PlatformError| page.wrong(line(text), error.to_string());
    text.value.parse().map_err(wrong)
}

fn chart(page: &mut Page<'_>, at: usize, chart: &Chart, notes: &mut Notes) -> Result<(), FileError> {
    notes.add(ADD_IMAGES, chart.add_images.as_ref().filter(|wanted| wanted.value));
    notes.add(ADD_DEPENDENCIES, chart.add_dependencies.as_ref().filter(|wanted| wanted.value));
    notes.add(REWRITE_CHART, chart.rewrite.as_ref());
    let text = |value: &Option<At<String>>| {
        value.as_ref().map(|value| value.value.clone()).filter(|text| !text.is_empty())
    };
    let (repository, version) = (text(&chart.repository), text(&chart.version));
    let named = line(&chart.name);
    let place = match &repository {
        // hauler takes a folder for a repository too.
        Some(folder) if !folder.contains("://") => {
            let path = std::path::Path::new(folder).join(&chart.name.value);
            super::chart::place(page, named, &path.to_string_lossy(), None, None)?
        }
        _ => super::chart::place(page, named, &chart.name.value, repository.as_deref(), version.as_deref())?,
    };
    page.order.charts.push(ChartOrder {
        place,
        name: None,
        images: None,
        render: false,
        image_paths: Vec::new(),
        values: Vec::new(),
        platforms: Vec::new(),
        at: Some(page.spot(at)),
    });
    Ok(())
}
