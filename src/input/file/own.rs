//! barge.yaml: barge's own file of what is wanted (`format-spec/barge-yaml.md`).

mod form;

pub(super) use self::form::Document;
use self::form::{Catalog, Chart, Defaults, Image, Local, Mirror, Registry, Release, Tags};
use super::error::FileError;
use super::page::Page;
use super::yaml::{At, Items, line, line_or};
use crate::input::argument::{Argument, Place};
use crate::input::file::chart;
use crate::input::{
    Blocked, CatalogOrder, ChartOrder, ImageOrder, MirrorOrder, RegistryOrder, ReleaseOrder, TagChoice,
    TagOrder, parse_size,
};
use crate::oci::RepositoryName;
use crate::push::sparse::Policy;
use crate::select::Attachments;

/// The version of the format that this reader knows.
pub(super) const API_VERSION: &str = "barge/v1";
/// Its kind, where one is given.
pub(super) const KIND: &str = "Bundle";

/// Adds what a barge.yaml asks for.
pub(super) fn read(page: &mut Page<'_>, document: &Document) -> Result<(), FileError> {
    if let Some(defaults) = &document.defaults {
        set_defaults(page, defaults)?;
    }
    for item in document.images.items() {
        image(page, line(item), &item.value.0)?;
    }
    for item in document.layouts.items() {
        local(page, line(item), &item.value.0, Place::Layout)?;
    }
    for item in document.archives.items() {
        local(page, line(item), &item.value.0, Place::File)?;
    }
    for item in document.catalogs.items() {
        catalog(page, line(item), &item.value.0)?;
    }
    for item in document.charts.items() {
        let made = chart_order(page, line(item), &item.value.0)?;
        page.order.charts.push(made);
    }
    for item in document.releases.items() {
        release(page, line(item), &item.value.0)?;
    }
    for text in document.blocked.items() {
        let pattern = page.pattern(text, line(text))?;
        let at = Some(page.spot(line(text)));
        page.order.blocked.push(Blocked { pattern, at });
    }
    registries(page, document.registries.items())?;
    if let Some(size) = &document.volume_size {
        let bytes = parse_size(&size.value)
            .map_err(|why| page.wrong(line(size), format!("`{}` is no size: {why}", size.value)))?;
        if bytes == 0 {
            return Err(page.wrong(line(size), "a volume holds nothing if its size is 0"));
        }
        page.order.volume_size = Some(bytes);
    }
    Ok(())
}

fn set_defaults(page: &mut Page<'_>, defaults: &Defaults) -> Result<(), FileError> {
    page.order.defaults.platforms = page.platforms(defaults.platforms.items())?;
    let none_of =
        |text: &At<String>, words| page.wrong(line(text), format!("`{}` is none of {words}", text.value));
    let attachments = match &defaults.attachments {
        None => None,
        Some(text) => Some(match text.value.as_str() {
            "all" => Attachments::All,
            "signatures" => Attachments::Signatures,
            "none" => Attachments::None,
            _ => return Err(none_of(text, "`all`, `signatures` and `none`")),
        }),
    };
    let sparse = match &defaults.sparse {
        None => None,
        Some(text) => Some(match text.value.as_str() {
            "require" => Policy::Require,
            "rewrite" => Policy::Rewrite,
            "single" => Policy::Single,
            _ => return Err(none_of(text, "`require`, `rewrite` and `single`")),
        }),
    };
    page.order.defaults.attachments = attachments;
    page.order.defaults.sparse = sparse;
    Ok(())
}

fn image(page: &mut Page<'_>, at: usize, image: &Image) -> Result<(), FileError> {
    let platforms = page.platforms(image.platforms.items())?;
    let source = line_or(&image.source, at);
    let names: Vec<&At<String>> = image.name.iter().chain(image.names.items()).collect();
    if let (Some(name), false) = (&image.name, image.names.items().is_empty()) {
        return Err(page.wrong(line(name), "`name` and `names` say the same: give one of both"));
    }
    if let Some(tags) = &image.tags {
        let repository = repository(page, source, &image.source.value, "`image`")?;
        let choice = choice(page, &tags.value)?;
        let spot = Some(page.spot(at));
        let mut order = TagOrder { repository, name: None, choice, platforms, at: spot };
        if names.is_empty() {
            page.order.tags.push(order);
        } else {
            for name in names {
                order.name = Some(repository_name(page, line(name), &name.value, "the name")?);
                page.order.tags.push(order.clone());
            }
        }
        return Ok(());
    }
    let argument = page.argument(source, &image.source.value)?;
    named(page, at, &argument, &image.source.value, &names, &platforms)
}

/// Adds an image under each of its names, or under its own.
fn named(
    page: &mut Page<'_>,
    at: usize,
    argument: &Argument,
    text: &str,
    names: &[&At<String>],
    platforms: &[crate::oci::Platform],
) -> Result<(), FileError> {
    let spot = Some(page.spot(at));
    if let Some(name) = names.first()
        && has_name(text, argument)
    {
        return Err(page.wrong(line(name), format!("`{text}` has a name of its own: give one of both")));
    }
    let mut arguments = vec![argument.clone()];
    if !names.is_empty() {
        arguments.clear();
        for name in names {
            let name = page.name(line(name), &name.value, argument)?;
            arguments.push(Argument { name: Some(name), ..argument.clone() });
        }
    }
    page.order.images.extend(arguments.into_iter().map(|argument| ImageOrder {
        argument,
        platforms: platforms.to_vec(),
        at: spot.clone(),
    }));
    Ok(())
}

/// Tells whether an argument gives a name: `NAME=SOURCE`.
fn has_name(text: &str, argument: &Argument) -> bool {
    match argument.place {
        // A reference has no `=`.
        Place::Registry(_) => text.contains('='),
        _ => argument.name.is_some(),
    }
}

fn choice(page: &Page<'_>, tags: &Tags) -> Result<TagChoice, FileError> {
    let mut choice = TagChoice::default();
    if let Some(text) = &tags.matching {
        // On its own first: what is no pattern may become one between brackets.
        page.pattern(text, 1)?;
        let whole = At { value: format!("^(?:{})$", text.value), ..text.clone() };
        choice.matching = Some(page.pattern(&whole, 1)?);
    }
    if let Some(text) = &tags.semver {
        let range = text.value.parse().map_err(|error: semver::Error| FileError::Wrong {
            at: page.spot(line(text)),
            what: format!("`{}` is no range of versions, like `>=1.2, <2`", text.value),
            source: Some(Box::new(error)),
        })?;
        choice.range = Some(range);
    }
    if let Some(count) = &tags.latest {
        if count.value == 0 {
            return Err(page.wrong(line(count), "`latest: 0` leaves no tag"));
        }
        choice.latest = Some(count.value);
    }
    Ok(choice)
}

/// Parses the repository of which tags are chosen.
fn repository(page: &Page<'_>, at: usize, text: &str, what: &str) -> Result<RepositoryName, FileError> {
    if let Place::Registry(_) = page.argument(at, text)?.place {
        return repository_name(page, at, text.strip_prefix("docker://").unwrap_or(text), what);
    }
    Err(page
        .wrong(at, format!("`{text}` is no repository of a registry, and `tags` chooses of nothing else")))
}

fn repository_name(page: &Page<'_>, at: usize, text: &str, what: &str) -> Result<RepositoryName, FileError> {
    let reference = page.reference(at, text)?;
    if reference.tag.is_some() || reference.digest.is_some() {
        return Err(page.wrong(at, format!("{what} `{text}` has a tag or digest, which `tags` is to choose")));
    }
    Ok(reference.name)
}

fn local(
    page: &mut Page<'_>,
    at: usize,
    local: &Local,
    place: fn(std::path::PathBuf) -> Place,
) -> Result<(), FileError> {
    let platforms = page.platforms(local.platforms.items())?;
    let path = &local.path.value;
    if path.is_empty() {
        return Err(page.wrong(line_or(&local.path, at), "the path is empty"));
    }
    let place = place(page.place(path));
    let argument = Argument { name: None, place, selector: local.image.clone(), reference: None };
    let names: Vec<&At<String>> = local.name.iter().collect();
    named(page, at, &argument, path, &names, &platforms)
}

fn catalog(page: &mut Page<'_>, at: usize, catalog: &Catalog) -> Result<(), FileError> {
    let text = &catalog.source.value;
    let mut argument = page.argument(line_or(&catalog.source, at), text)?;
    if let Some(name) = &catalog.name {
        if has_name(text, &argument) {
            return Err(page.wrong(line(name), format!("`{text}` has a name of its own: give one of both")));
        }
        argument.name = Some(page.name(line(name), &name.value, &argument)?);
    }
    let filter = page.filter(catalog.full.unwrap_or(false), catalog.packages.items())?;
    let platforms = page.platforms(catalog.platforms.items())?;
    let rebuild = catalog.rebuild.unwrap_or(false);
    let at = Some(page.spot(at));
    page.order.catalogs.push(CatalogOrder { argument, filter, rebuild, platforms, at });
    Ok(())
}

fn chart_order(page: &Page<'_>, at: usize, chart: &Chart) -> Result<ChartOrder, FileError> {
    let line_of_chart = line_or(&chart.source, at);
    let place = chart::place(
        page,
        line_of_chart,
        &chart.source.value,
        chart.repository.as_ref().map(|url| url.value.as_str()),
        chart.version.as_ref().map(|version| version.value.as_str()),
    )?;
    let name = match &chart.name {
        None => None,
        Some(name) => {
            let parsed = page.reference(line(name), &name.value)?;
            if parsed.digest.is_some() {
                return Err(page.wrong(
                    line(name),
                    format!("the name `{}` has a digest, and a digest can't be given", name.value),
                ));
            }
            // Without a tag, the tag is the chart's version, which only the chart knows.
            Some(parsed)
        }
    };
    Ok(ChartOrder {
        place,
        name,
        images: chart.images.as_ref().map(|images| page.place(images)),
        render: chart.render.unwrap_or(false),
        image_paths: chart.image_paths.items().iter().map(|path| path.value.clone()).collect(),
        values: chart.values.items().iter().map(|values| page.place(&values.value)).collect(),
        platforms: page.platforms(chart.platforms.items())?,
        at: Some(page.spot(at)),
    })
}

fn release(page: &mut Page<'_>, at: usize, release: &Release) -> Result<(), FileError> {
    let text = &release.source.value;
    let mut argument = page.argument(line_or(&release.source, at), text)?;
    if !has_name(text, &argument) {
        super::name_release(&mut argument);
    }
    let signatures = release.signatures.items().iter().map(|file| page.place(&file.value)).collect();
    let platforms = page.platforms(release.platforms.items())?;
    let at = Some(page.spot(at));
    page.order.releases.push(ReleaseOrder { argument, signatures, platforms, at });
    Ok(())
}

fn registries(page: &mut Page<'_>, list: &[At<Registry>]) -> Result<(), FileError> {
    let mut seen = std::collections::HashMap::new();
    for item in list {
        let Registry { prefix, mirrors, mirrors_only, insecure, cert_dir, auth_file } = &item.value;
        check_location(page, line(item), prefix, true)?;
        for mirror in mirrors.items() {
            check_location(page, line(mirror), &mirror.value.0.location, false)?;
        }
        let mirrors_only = mirrors_only.unwrap_or(false);
        if mirrors_only && mirrors.items().is_empty() {
            return Err(
                page.wrong(line(item), "`mirrorsOnly` leaves nothing to ask where there are no `mirrors`")
            );
        }
        if let Some(first) = seen.insert(prefix.value.clone(), line(prefix)) {
            return Err(page.twice(
                line(prefix),
                first,
                format!("the prefix {} stands here twice", prefix.value),
            ));
        }
        let order = RegistryOrder {
            prefix: prefix.value.clone(),
            mirrors: mirrors.items().iter().map(|mirror| mirrored(&mirror.value.0)).collect(),
            mirrors_only,
            insecure: insecure.unwrap_or(false),
            cert_dir: cert_dir.as_ref().map(|path| page.place(path)),
            auth_file: auth_file.as_ref().map(|path| page.place(path)),
            at: Some(page.spot(line(item))),
        };
        page.order.registries.push(order);
    }
    Ok(())
}

fn mirrored(mirror: &Mirror) -> MirrorOrder {
    MirrorOrder { location: mirror.location.value.clone(), insecure: mirror.insecure.unwrap_or(false) }
}

/// Checks that a text is `HOST[:PORT][/PATH]`, or, for a prefix, `*.HOST`.
fn check_location(page: &Page<'_>, at: usize, text: &At<String>, prefix: bool) -> Result<(), FileError> {
    let (host, path) = match text.value.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (text.value.as_str(), None),
    };
    let plain = match host.strip_prefix("*.") {
        Some(rest) if prefix && path.is_none() => rest,
        _ => host,
    };
    if crate::oci::reference::is_host(plain) && path.is_none_or(crate::oci::reference::is_repository) {
        return Ok(());
    }
    let forms = if prefix { "HOST[:PORT][/PATH] or *.HOST" } else { "HOST[:PORT][/PATH]" };
    Err(page
        .wrong(line_or(text, at), format!("`{}` is no place at a registry: {forms} is wanted", text.value)))
}
