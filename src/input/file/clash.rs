//! What stands in a file twice: the same is taken once, and one name for two images is an error.

use std::collections::HashMap;

use super::error::FileError;
use super::page::Page;
use crate::input::argument::Argument;
use crate::input::{ChartPlace, ImageOrder, Spot};
use crate::oci::{Platform, Reference};

/// What a name stands for, and the line that says so.
type Named = HashMap<String, (String, usize)>;

/// Takes what is said twice once.
///
/// # Errors
/// [`FileError::Twice`] with both lines: a name for two images, a catalog that is listed twice.
pub(super) fn settle(page: &mut Page<'_>) -> Result<(), FileError> {
    let mut named = Named::new();
    let mut said: HashMap<(Option<Reference>, String), (Vec<Platform>, usize)> = HashMap::new();
    let mut images: Vec<ImageOrder> = Vec::new();
    for order in std::mem::take(&mut page.order.images) {
        let line = line(order.at.as_ref());
        let source = source(&order.argument);
        let name = order.argument.name.clone();
        claim(page, &mut named, name.as_ref(), &source, line)?;
        match said.get(&(name.clone(), source.clone())) {
            None => {
                said.insert((name, source), (order.platforms.clone(), line));
                images.push(order);
            }
            Some((platforms, _)) if *platforms == order.platforms => {
                // A tag may stand beside the digest on one line alone; which line comes first must not show.
                let again = |known: &&mut ImageOrder| {
                    known.argument.name == name && self::source(&known.argument) == source
                };
                if let Some(known) = images.iter_mut().find(again) {
                    let text = |one: &ImageOrder| one.argument.reference.as_ref().map(ToString::to_string);
                    if text(&order) < text(known) {
                        known.argument = order.argument;
                    }
                }
            }
            Some((_, first)) => {
                let what = name.map_or(source, |name| name.to_string());
                return Err(page.twice(
                    line,
                    *first,
                    format!("{what} stands here again, with other platforms"),
                ));
            }
        }
    }
    page.order.images = images;
    let mut listed: HashMap<String, usize> = HashMap::new();
    for order in &page.order.catalogs {
        let line = line(order.at.as_ref());
        let source = source(&order.argument);
        claim(page, &mut named, order.argument.name.as_ref(), &source, line)?;
        if let Some(first) = listed.insert(source, line) {
            let what = order.argument.name.as_ref().map_or("the catalog".to_owned(), ToString::to_string);
            return Err(page.twice(
                line,
                first,
                format!("{what} is listed as a catalog twice: put its packages together"),
            ));
        }
    }
    for order in &page.order.releases {
        let line = line(order.at.as_ref());
        claim(page, &mut named, order.argument.name.as_ref(), &source(&order.argument), line)?;
    }
    for order in &page.order.charts {
        let own = match &order.place {
            ChartPlace::Registry(reference) => Some(reference),
            _ => None,
        };
        let name = order.name.as_ref().filter(|name| name.tag.is_some()).or(own);
        claim(page, &mut named, name, &chart_source(&order.place), line(order.at.as_ref()))?;
    }
    Ok(())
}

/// Notes what a name stands for.
fn claim(
    page: &Page<'_>,
    named: &mut Named,
    name: Option<&Reference>,
    source: &str,
    line: usize,
) -> Result<(), FileError> {
    let Some(name) = name else { return Ok(()) };
    let (known, first) = named.entry(name.to_string()).or_insert_with(|| (source.to_owned(), line));
    if known == source {
        return Ok(());
    }
    Err(page.twice(line, *first, format!("{name} is to name {source}, and names {known} already")))
}

/// Says where an image comes from, in words that are the same for the same image.
fn source(argument: &Argument) -> String {
    use crate::input::argument::Place;
    let place = match (&argument.place, &argument.reference) {
        (_, Some(reference)) => return pulled(reference),
        (Place::Registry(name), None) => name.to_string(),
        (Place::Layout(path), None) => format!("oci:{}", path.display()),
        (Place::LayoutArchive(path), None) => format!("oci-archive:{}", path.display()),
        (Place::DockerArchive(path), None) => format!("docker-archive:{}", path.display()),
        (Place::File(path), None) => path.display().to_string(),
    };
    match &argument.selector {
        Some(selector) => format!("{place}:{selector}"),
        None => place,
    }
}

/// Says what is pulled: by the digest where there is one, whatever tag stands beside it.
fn pulled(reference: &Reference) -> String {
    match &reference.digest {
        Some(_) => Reference { tag: None, ..reference.clone() }.to_string(),
        None => reference.to_string(),
    }
}

fn chart_source(place: &ChartPlace) -> String {
    match place {
        ChartPlace::File(path) => path.display().to_string(),
        ChartPlace::Registry(reference) => pulled(reference),
        ChartPlace::Repository { url, chart, version } => {
            format!("{url}/{chart}:{}", version.as_deref().unwrap_or("newest"))
        }
    }
}

fn line(at: Option<&Spot>) -> usize {
    at.map_or(1, |at| at.line)
}
