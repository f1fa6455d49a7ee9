//! `barge catalog`.

use barge::catalog::files::ImageFilesError;
use barge::catalog::{
    Catalog, CatalogError, ChannelFilter, Filter, FilterError, Form, Package, PackageFilter, PlatformCatalog,
    Range, Selection, read_all, select_all,
};
use barge::graph::Part;
use barge::graph::survey::Wish;
use barge::input::{Argument, InputError, OpenError, Opened, Opener, Place, parse_argument};
use barge::oci::{Descriptor, Platform};
use semver::Version;
use serde_json::{Value, json};

use super::args::RegistryArgs;
use super::failure::{BAD_INPUT, Failure};
use super::print_client_warnings;
use super::printer::{Printer, clean, counted, quoted};

/// How many versions of a channel are listed before the middle is left out.
const SHOWN: usize = 6;

/// Says what an operator catalog lists, and what of it would travel.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    List(Box<ListArgs>),
    Images(Box<ImagesArgs>),
}

/// Lists the packages of a catalog with their channels, heads and versions.
#[derive(clap::Args)]
struct ListArgs {
    /// The catalog image: REGISTRY/NAME:TAG, oci:DIR[:TAG], oci-archive:FILE[:TAG] or a bundle
    image: String,
    /// Lists only this package, with all its versions; repeatable
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// Lists what the image for this platform lists; without it, the first one
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Prints the images that a selection of a catalog needs, one reference a line.
///
/// Without options that is the head of every channel of every package.
#[derive(clap::Args)]
struct ImagesArgs {
    /// The catalog image: REGISTRY/NAME:TAG, oci:DIR[:TAG], oci-archive:FILE[:TAG] or a bundle
    image: String,
    /// Only this package; repeatable
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// Only this channel of the package; repeatable
    #[arg(long, value_name = "NAME")]
    channel: Vec<String>,
    /// The channel that becomes the package's default
    #[arg(long, value_name = "NAME")]
    default_channel: Option<String>,
    /// Only versions from this one on
    #[arg(long, value_name = "VERSION", value_parser = parse_version)]
    min: Option<Version>,
    /// Only versions up to this one
    #[arg(long, value_name = "VERSION", value_parser = parse_version)]
    max: Option<Version>,
    /// All versions, not only the head of every channel
    #[arg(long, conflicts_with_all = ["min", "max"])]
    full: bool,
    /// Only of the catalog's image for this platform; repeatable; without it, of all
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
}

fn parse_version(text: &str) -> Result<Version, String> {
    Version::parse(text).map_err(|error| format!("is no version of the form x.y.z: {error}"))
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    match &args.verb {
        Verb::List(args) => list(args, printer).map_err(|failure| failure.of("catalog list")),
        Verb::Images(args) => images(args, printer).map_err(|failure| failure.of("catalog images")),
    }
}

/// A catalog that was opened.
struct Read {
    /// The first of those that differ.
    catalog: Catalog,
    all: Vec<PlatformCatalog>,
    root: Descriptor,
    /// What it was pulled by, if it comes from a registry.
    reference: Option<String>,
}

/// Opens and reads the one catalog that an argument means.
fn read(
    image: &str,
    platforms: &[Platform],
    registry: &RegistryArgs,
    printer: &Printer,
) -> Result<Read, Failure> {
    let argument = parse_argument(image)?;
    let client = registry.client()?;
    let (opened, wish) = open(image, &argument, &client)?;
    let source = &*opened.sources[wish.source];
    let root = source.resolve(&wish.selector)?;
    let outcome = read_all(source, &root, platforms);
    print_client_warnings(&client, printer);
    let reference = argument.reference.as_ref().map(ToString::to_string);
    let all = outcome.map_err(Failure::from)?;
    let Some(first) = all.first() else {
        return Err(Failure::usage(format!("{image} holds no catalog")));
    };
    Ok(Read { catalog: first.catalog.clone(), all, root, reference })
}

/// Opens a place and finds the catalog among its images.
fn open(
    text: &str,
    argument: &Argument,
    client: &barge::store::registry::Client,
) -> Result<(Opened, Wish), Failure> {
    let opening = |argument: &Argument| {
        let mut opener = Opener::new(client);
        opener.add(argument)?;
        opener.finish()
    };
    let opened = match opening(argument) {
        // What is only looked at needs no name.
        Err(OpenError::Input(InputError::Nameless { .. })) => {
            let name = parse_argument("localhost/catalog")?.name;
            opening(&Argument { name, ..argument.clone() })
        }
        outcome => outcome,
    };
    let opened = match opened {
        Err(OpenError::Input(InputError::SeveralImages { place, count, .. })) => {
            return Err(several(text, argument, &place, count, &[]));
        }
        opened => opened?,
    };
    let mut wishes = opened.wishes.clone();
    if wishes.len() > 1 && wishes.iter().any(|wish| wish.part == Part::Catalog) {
        wishes.retain(|wish| wish.part == Part::Catalog);
    }
    match &wishes[..] {
        [wish] => Ok((opened, wish.clone())),
        wishes => {
            let names: Vec<String> = wishes.iter().map(|wish| wish.name.to_string()).collect();
            Err(several(text, argument, text, names.len(), &names))
        }
    }
}

fn several(text: &str, argument: &Argument, place: &str, count: usize, names: &[String]) -> Failure {
    let transport = match &argument.place {
        Place::File(path) if path.is_dir() => "oci:",
        Place::File(_) => "oci-archive:",
        _ => "",
    };
    let failure = Failure::usage(format!("{place} holds {count} images; which of them is the catalog?"))
        .hint(format!("say it: {transport}{text}:NAME"));
    let names = names.iter().take(5).map(|name| format!("it holds {name}"));
    names.fold(Failure { code: BAD_INPUT, kind: "several-images", ..failure }, Failure::hint)
}

fn form(catalog: &Catalog) -> &'static str {
    match catalog.form {
        Form::Files => "file-based",
        Form::Database => "SQLite",
    }
}

fn about(read: &Read) -> Value {
    json!({
        "place": read.catalog.place,
        "reference": read.reference,
        "root": read.root.digest,
        "manifest": read.catalog.image.digest,
        "form": match read.catalog.form { Form::Files => "files", Form::Database => "database" },
        "path": read.catalog.path,
    })
}

fn list(args: &ListArgs, printer: &Printer) -> Result<u8, Failure> {
    let platforms: Vec<Platform> = args.platform.iter().cloned().collect();
    let read = read(&args.image, &platforms, &args.registry, printer)?;
    let catalog = &read.catalog;
    if let Some((first, rest)) = read.all.split_first().filter(|(_, rest)| !rest.is_empty()) {
        let rest: Vec<String> = rest.iter().map(|one| format!("--platform {}", one.named())).collect();
        let cause = format!("this is what is listed for {}; others list other things", first.named());
        printer.warning(&cause, &rest);
    }
    for name in &args.package {
        if !catalog.packages.contains_key(name) {
            return Err(no_package(catalog, name, &args.image));
        }
    }
    let is_shown = |name: &String| args.package.is_empty() || args.package.contains(name);
    let shown: Vec<(&String, &Package)> =
        catalog.packages.iter().filter(|(name, _)| is_shown(name)).collect();
    let (mut rows, mut packages) = (Vec::new(), Vec::new());
    let (mut headless, mut broken) = (Vec::new(), Vec::new());
    for (name, package) in &shown {
        let mut channels = Vec::new();
        for (channel, entries) in &package.channels {
            let is_default = package.default_channel.as_ref() == Some(channel);
            let (head, why) = match entries.head() {
                Ok(head) => (Some(head.name.as_str()), None),
                Err(why) => (None, Some(why.to_string())),
            };
            headless.extend(why.as_ref().map(|why| format!("`{channel}` of `{name}`: {why}")));
            let bundles = bundles(package, entries);
            rows.push([
                (*name).clone(),
                format!("{channel}{}", if is_default { " (default)" } else { "" }),
                head.unwrap_or("-").to_owned(),
                versions(&bundles, !args.package.is_empty()),
            ]);
            let bundles = bundles.iter().map(|(name, version)| json!({ "name": name, "version": version }));
            channels.push(json!({
                "name": channel, "isDefault": is_default, "head": head, "headless": why,
                "bundles": bundles.collect::<Vec<_>>(),
            }));
        }
        broken.extend(package.fault.as_ref().map(|why| format!("`{name}`: {why}")));
        packages.push(json!({
            "name": name, "fault": package.fault, "defaultChannel": package.default_channel, "bundles": package.bundles.len(),
            "channels": channels,
        }));
    }
    if !broken.is_empty() {
        printer.warning("a package can't be taken", &broken);
    }
    if !headless.is_empty() {
        printer.warning("a channel has no head, so it can only be taken whole", &headless);
    }
    let count = |each: fn(&Package) -> usize| shown.iter().map(|(_, package)| each(package)).sum();
    printer.line(&format!(
        "DONE: {} holds a {} catalog: {}, {}, {}",
        args.image,
        form(catalog),
        counted(shown.len(), "package"),
        counted(count(|package| package.channels.len()), "channel"),
        counted(count(|package| package.bundles.len()), "bundle"),
    ));
    print_table(["PACKAGE", "CHANNEL", "HEAD", "VERSIONS"], &rows, printer);
    let package = args.package.first().map_or("NAME", String::as_str);
    let next = format!("barge catalog images {} --package {package}", quoted(&args.image));
    printer.line(&format!("next: {next}"));
    printer.document(
        "catalog list",
        0,
        json!({ "outcome": "DONE", "catalog": about(&read), "packages": packages, "next": next }),
    );
    Ok(0)
}

fn no_package(catalog: &Catalog, name: &str, image: &str) -> Failure {
    let failure = Failure::usage(format!("the catalog {image} has no package `{name}`"));
    let failure = Failure { code: BAD_INPUT, kind: "no-package", ..failure };
    let have: Vec<&str> = catalog.packages.keys().map(String::as_str).collect();
    // A piece of a name is what people remember.
    let near: Vec<&str> = have.iter().copied().filter(|have| have.contains(name)).collect();
    let near = if near.is_empty() { &have } else { &near };
    let shown = near.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    let more = if near.len() > 10 { format!(" and {} more", near.len() - 10) } else { String::new() };
    failure.hint(format!("it has {shown}{more}")).next(format!("barge catalog list {}", quoted(image)))
}

/// Lists the bundles of a channel, the lowest version first, those without one before.
fn bundles<'a>(package: &'a Package, channel: &'a barge::catalog::Channel) -> Vec<(&'a str, &'a str)> {
    let mut bundles: Vec<(&str, &str, Option<Version>)> = channel
        .entries
        .iter()
        .map(|entry| {
            let bundle = package.bundles.get(&entry.name);
            let version = bundle.map_or("", |bundle| &bundle.version);
            (entry.name.as_str(), version, bundle.and_then(barge::catalog::Bundle::semver))
        })
        .collect();
    bundles.sort_by(|(name, _, version), (other_name, _, other)| (version, name).cmp(&(other, other_name)));
    bundles.into_iter().map(|(name, version, _)| (name, version)).collect()
}

fn versions(bundles: &[(&str, &str)], all: bool) -> String {
    let texts: Vec<&str> =
        bundles.iter().map(|(name, version)| if version.is_empty() { *name } else { *version }).collect();
    if all || texts.len() <= SHOWN {
        return texts.join(", ");
    }
    let end = texts.len() - SHOWN / 2;
    format!("{}, … {} more …, {}", texts[..2].join(", "), end - 2, texts[end..].join(", "))
}

fn print_table(head: [&str; 4], rows: &[[String; 4]], printer: &Printer) {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(clean(cell).chars().count());
        }
    }
    let line = |cells: [&str; 4]| {
        let [package, channel, top, versions] = cells;
        let [first, second, third, _] = widths;
        printer.line(&format!("  {package:first$}  {channel:second$}  {top:third$}  {versions}"));
    };
    line(head);
    for row in rows {
        let cells = row.each_ref().map(|cell| clean(cell));
        line(cells.each_ref().map(String::as_str));
    }
}

fn images(args: &ImagesArgs, printer: &Printer) -> Result<u8, Failure> {
    let filter = filter(args)?;
    let read = read(&args.image, &args.platform, &args.registry, printer)?;
    let selection = select_all(&read.all, &filter).map_err(|error| {
        let is_lost = matches!(
            error,
            FilterError::NothingLeft { .. }
                | FilterError::NoSuchVersion { .. }
                | FilterError::DefaultEmpty { .. }
                | FilterError::PackageEmpty { .. }
                | FilterError::NewDefaultNotChosen { .. }
        );
        let failure = Failure::from(error);
        match is_lost {
            true => failure.next(format!("barge catalog list {}", quoted(&args.image))),
            false => failure,
        }
    })?;
    if !selection.warnings.is_empty() {
        printer.warning("of what was asked for, something is not there", &selection.warnings);
    }
    let images = selection.images();
    match &read.reference {
        Some(reference) => printer.line(reference),
        None => printer.note(&format!("the catalog itself travels too: {}", args.image)),
    }
    for image in &images {
        printer.line(image);
    }
    let count: usize = selection.packages.values().map(|package| package.bundles.len()).sum();
    printer.note(&format!(
        "{} of {} and the catalog",
        counted(images.len(), "image"),
        counted(count, "bundle")
    ));
    let document = json!({
        "outcome": "DONE", "catalog": about(&read), "isEverything": selection.is_everything(),
        "images": images, "packages": packages(&selection),
    });
    printer.document("catalog images", 0, document);
    Ok(0)
}

fn filter(args: &ImagesArgs) -> Result<Filter, Failure> {
    let range = Range { min: args.min.clone(), max: args.max.clone() };
    let is_about_one = !args.channel.is_empty() || args.default_channel.is_some() || range.is_given();
    if is_about_one && args.package.len() != 1 {
        return Err(Failure::usage("--channel, --default-channel, --min and --max are about one package")
            .hint("name it with --package NAME, and run the command once for each package"));
    }
    let channel = |name: &String| ChannelFilter { name: name.clone(), range: Range::default() };
    let package = |name: &String| PackageFilter {
        name: name.clone(),
        default_channel: args.default_channel.clone(),
        channels: args.channel.iter().map(channel).collect(),
        range: range.clone(),
    };
    Ok(Filter { full: args.full, packages: args.package.iter().map(package).collect() })
}

fn packages(selection: &Selection) -> Vec<Value> {
    let packages = selection.packages.iter().map(|(name, package)| {
        let channels = package.channels.iter().map(|(name, entries)| {
            let bundles: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            json!({ "name": name, "bundles": bundles })
        });
        json!({
            "name": name, "defaultChannel": package.default_channel,
            "channels": channels.collect::<Vec<_>>(), "bundles": package.bundles,
        })
    });
    packages.collect()
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        let (kind, hint) = match &error {
            CatalogError::Files(ImageFilesError::Store(_)) => ("", ""),
            CatalogError::Files(_) => (
                "image-files",
                "its bytes are what its digest says: have the image built again, or take another one",
            ),
            CatalogError::NoLabel { .. } => (
                "no-catalog",
                "name the image that a CatalogSource names, not that of an operator or of a bundle",
            ),
            CatalogError::NoDocument { .. }
            | CatalogError::Contradiction { .. }
            | CatalogError::Ignore { .. } => (
                "catalog",
                "the catalog was published like this: take another version of it, or have it mended",
            ),
            CatalogError::Document { .. } => (
                "catalog",
                "the catalog was published like this: have it mended; what is no document of it belongs into its \
                 .indexignore",
            ),
            CatalogError::Database { .. } => (
                "database",
                "its bytes are what its digest says, so it was published like this: take another version of the catalog",
            ),
            CatalogError::Scratch { .. } => ("scratch", "set TMPDIR to a folder with room for it"),
        };
        match error {
            CatalogError::Files(ImageFilesError::Store(error)) => error.into(),
            error => Self::new(BAD_INPUT, kind, &error).hint(hint),
        }
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        let hint = match &error {
            FilterError::TwoRanges { .. } => {
                "give the versions with the channels only, or with the package only"
            }
            FilterError::FullWithRange { .. } => "leave out `full`, or the versions",
            FilterError::Twice(_) => "name it once, with all that is wanted of it",
            FilterError::NothingLeft { .. }
            | FilterError::Empty { .. }
            | FilterError::NoSuchVersion { .. } => "`barge catalog list` shows what there is",
            FilterError::DefaultNotChosen { .. } => {
                "choose it too, or say which channel is to be the default: `defaultChannel: NAME`, --default-channel NAME"
            }
            FilterError::PackageEmpty { .. } => "widen the versions, or name other channels",
            FilterError::Unusable { .. } => {
                "the catalog was published like this: name the packages to take, without this one"
            }
            FilterError::Backwards { .. } => "give the lower version first",
            FilterError::NewDefaultNotChosen { .. } => "choose one of those that are left",
            FilterError::DefaultEmpty { .. } => {
                "widen the versions, or name other channels and one of them as `defaultChannel` (--default-channel NAME)"
            }
            FilterError::Head { .. } => {
                "name other channels of the package, or take it whole with `full: true` (--full)"
            }
            FilterError::NoTag { .. } | FilterError::Reference { .. } => {
                "the catalog was published like this: leave the bundle out by channels or versions"
            }
        };
        Self::new(BAD_INPUT, "filter", &error).hint(hint)
    }
}
