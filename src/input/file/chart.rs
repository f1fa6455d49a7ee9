//! Where a chart is, as files say it in two or three fields.

use super::error::FileError;
use super::page::Page;
use crate::input::ChartPlace;
use crate::oci::Reference;

/// Finds the place of a chart: a path, `oci://…`, or a name in a repository.
pub(super) fn place(
    page: &Page<'_>,
    at: usize,
    chart: &str,
    repository: Option<&str>,
    version: Option<&str>,
) -> Result<ChartPlace, FileError> {
    if chart.is_empty() {
        return Err(page.wrong(at, "the chart has an empty name"));
    }
    let Some(repository) = repository else {
        if let Some(text) = chart.strip_prefix("oci://") {
            return in_registry(page, at, text, version);
        }
        if chart.contains("://") {
            return Err(page.refused(
                at,
                format!("`{chart}` is neither a path nor a chart of a registry"),
                "give the chart's name, and its repository's address as `repository` (`repoURL`, `url`); or download it and give its path",
            ));
        }
        if version.is_some() {
            return Err(page.wrong(
                at,
                format!("`{chart}` is a file, which has its own version: leave `version` out, or say in which repository it is"),
            ));
        }
        return Ok(ChartPlace::File(page.place(chart)));
    };
    let repository = repository.trim_end_matches('/');
    if let Some(place) = repository.strip_prefix("oci://") {
        return in_registry(page, at, &format!("{place}/{chart}"), version);
    }
    if !["https://", "http://"].iter().any(|scheme| repository.starts_with(scheme)) {
        return Err(
            page.wrong(at, format!("`{repository}` is no repository: https://… or oci://… is wanted"))
        );
    }
    let version = version.map(str::to_owned);
    Ok(ChartPlace::Repository { url: repository.to_owned(), chart: chart.to_owned(), version })
}

fn in_registry(
    page: &Page<'_>,
    at: usize,
    text: &str,
    version: Option<&str>,
) -> Result<ChartPlace, FileError> {
    let mut reference: Reference = page.reference(at, text)?;
    // Tags have no `+`; helm writes `_` for it.
    let version = version.map(|version| version.replace('+', "_"));
    match (&reference.tag, &reference.digest, version) {
        (Some(_), _, Some(version)) if reference.tag.as_ref() != Some(&version) => {
            return Err(
                page.wrong(at, format!("`{text}` has a tag, and the version is {version}: give one of both"))
            );
        }
        (None, None, None) => {
            return Err(page.wrong(at, format!("which version of `{text}`? give `version`")));
        }
        (None, _, Some(version)) => {
            if !crate::oci::reference::is_tag(&version) {
                return Err(page.wrong(at, format!("`{version}` is no version of a chart")));
            }
            reference.tag = Some(version);
        }
        _ => {}
    }
    Ok(ChartPlace::Registry(reference))
}
