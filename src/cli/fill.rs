//! What is wanted, as the command line and files say it: what `pack`, `mirror`, `diff` and `plan` share.

use std::collections::HashSet;
use std::path::PathBuf;

use barge::input::{
    ChartOrder, ChartPlace, Fill, InputError, Opened, Opener, Order, RegistryOrder, ReleaseOrder,
    parse_argument, read_list, read_order,
};
use barge::oci::reference::shown;
use barge::oci::{Platform, RepositoryName};
use barge::pack::Asked;
use barge::push::sparse::Policy;
use barge::select::Attachments;
use barge::store::registry::{Client, Rule};

use super::failure::Failure;
use super::printer::Printer;

/// Files that say what is wanted.
#[derive(clap::Args)]
pub struct FillArgs {
    /// Takes what a file asks for: barge.yaml, a mapping file, an `ImageSetConfiguration`, hauler's `Images`, or a list;
    /// repeatable. What an item says itself goes before the command line, and that before a file's `defaults`
    #[arg(long, short, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Takes a Helm chart and its images: a .tgz, a chart's folder, or `oci://REGISTRY/CHART:VERSION`; repeatable
    #[arg(long, value_name = "CHART")]
    chart: Vec<String>,
    /// The images of charts that don't say which they need: one a line
    #[arg(long, value_name = "LIST")]
    chart_images: Option<PathBuf>,
    /// Runs `helm template` to find the images of charts; templates of a chart are its authors' programs
    #[arg(long)]
    render_charts: bool,
    /// Takes an OpenShift release with its components; repeatable
    #[arg(long, value_name = "IMAGE")]
    release: Vec<String>,
    /// A signature file of the release; repeatable
    #[arg(long, value_name = "FILE")]
    release_signature: Vec<PathBuf>,
}

/// What the command line names itself.
#[derive(Default, Clone, Copy)]
pub struct Named<'a> {
    /// Arguments.
    pub images: &'a [String],
    /// Lists of arguments.
    pub lists: &'a [PathBuf],
    /// Repositories of which every tag is wanted.
    pub all_tags: &'a [String],
}

impl Named<'_> {
    fn is_empty(self) -> bool {
        self.images.is_empty() && self.lists.is_empty() && self.all_tags.is_empty()
    }
}

/// What the files ask for, read and not yet opened.
pub struct Orders {
    files: Vec<(PathBuf, Order)>,
    /// What flags ask for that files can ask for too.
    flags: Order,
    fill: Fill,
}

impl FillArgs {
    /// Reads the files; nothing is opened or asked.
    pub fn read(&self) -> Result<Orders, Failure> {
        let files = self.file.iter().map(|path| Ok((path.clone(), read_order(path)?)));
        let mut files: Vec<(PathBuf, Order)> = files.collect::<Result<_, Failure>>()?;
        let mut flags = Order::default();
        for text in &self.chart {
            flags.charts.push(chart(text)?);
        }
        for text in &self.release {
            flags.releases.push(ReleaseOrder {
                argument: parse_argument(text)?,
                signatures: Vec::new(),
                platforms: Vec::new(),
                at: None,
            });
        }
        let orders = || files.iter().map(|(_, order)| order).chain([&flags]);
        let has_charts = orders().any(|order| !order.charts.is_empty());
        if !has_charts && (self.chart_images.is_some() || self.render_charts) {
            return Err(Failure::usage(
                "--chart-images and --render-charts are about charts, and none is named",
            )
            .hint("name one with --chart, or in a file given with -f"));
        }
        let releases = orders().map(|order| order.releases.len()).sum::<usize>();
        match (self.release_signature.is_empty(), releases) {
            (true, _) => {}
            (false, 1) => files
                .iter_mut()
                .map(|(_, order)| order)
                .chain([&mut flags])
                .flat_map(|order| &mut order.releases)
                .for_each(|release| release.signatures.extend(self.release_signature.iter().cloned())),
            (false, 0) => {
                return Err(Failure::usage("--release-signature is about a release, and none is named")
                    .hint("name it with --release, or in a file given with -f"));
            }
            (false, _) => {
                return Err(Failure::usage(
                    "--release-signature does not say which of the releases it is of",
                )
                .hint("in a barge.yaml each release has `signatures` of its own"));
            }
        }
        let fill = Fill {
            platforms: Vec::new(),
            chart_images: self.chart_images.clone(),
            render_charts: self.render_charts,
            scratch: std::env::temp_dir(),
        };
        Ok(Orders { files, flags, fill })
    }
}

impl Orders {
    /// Returns whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.flags.charts.is_empty() && self.flags.releases.is_empty()
    }

    /// Returns how registries are reached: what files say of one prefix must be the same.
    pub fn rules(&self) -> Result<Vec<Rule>, Failure> {
        let mut orders: Vec<(&RegistryOrder, Rule)> = Vec::new();
        for order in self.files.iter().flat_map(|(_, order)| &order.registries) {
            let rule = Rule::from(order);
            match orders.iter().find(|(_, known)| known.prefix == rule.prefix) {
                None => orders.push((order, rule)),
                Some((_, known)) if *known == rule => {}
                Some((first, _)) => {
                    let [first, second] = [first, order]
                        .map(|order| order.at.as_ref().map_or_else(String::new, ToString::to_string));
                    let prefix = &rule.prefix;
                    return Err(Failure::usage(format!(
                        "{first} and {second} say differently how {prefix} is reached"
                    ))
                    .hint("let one of the files say it, or both the same"));
                }
            }
        }
        Ok(orders.into_iter().map(|(_, rule)| rule).collect())
    }

    /// Returns which attached content is wanted: what the command line says of it with `flag`, else what the files say.
    pub fn attachments(&self, own: Option<Attachments>, flag: &str) -> Result<Attachments, Failure> {
        let attachments = match own {
            Some(own) => own,
            None => {
                self.agreed("attached content", flag, |order| order.defaults.attachments)?.unwrap_or_default()
            }
        };
        let mut orders = self.files.iter().map(|(_, order)| order).chain([&self.flags]);
        let is_signed = orders.any(|order| order.releases.iter().any(|one| !one.signatures.is_empty()));
        if attachments == Attachments::None && is_signed {
            return Err(Failure::usage(
                "a release's signature is given, and attached content is to be left out",
            )
            .hint("ask for signatures as attached content, or leave the signature file out"));
        }
        Ok(attachments)
    }

    /// Returns what the files want of a push that meets a sparse index, where the command line does not say it.
    pub fn sparse(&self, is_said: bool) -> Result<Option<Policy>, Failure> {
        if is_said {
            return Ok(None);
        }
        self.agreed("sparse indexes", "--sparse", |order| order.defaults.sparse)
    }

    /// Returns what all files say that say anything.
    fn agreed<T: PartialEq + Copy>(
        &self,
        what: &str,
        flag: &str,
        said: impl Fn(&Order) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let mut found: Option<(&PathBuf, T)> = None;
        for (path, order) in &self.files {
            let Some(value) = said(order) else { continue };
            match found {
                Some((first, known)) if known != value => {
                    let (first, second) = (first.display(), path.display());
                    return Err(Failure::usage(format!("{first} and {second} want {what} differently"))
                        .hint(format!("{flag} says it for both")));
                }
                _ => found = Some((path, value)),
            }
        }
        Ok(found.map(|(_, value)| value))
    }

    /// Says what of the files is about something else than packing.
    pub fn note_for_later(&self, printer: &Printer) {
        for (path, order) in &self.files {
            let path = path.display();
            if let Some(policy) = order.defaults.sparse {
                let word = match policy {
                    Policy::Require => "require",
                    Policy::Rewrite => "rewrite",
                    Policy::Single => "single",
                };
                printer.note(&format!(
                    "note: what {path} says of sparse indexes is for the push: say --sparse {word} to push"
                ));
            }
            if order.volume_size.is_some() {
                printer.note(&format!(
                    "note: {path} asks for volumes of a size: one file is written, and --max-size bounds it"
                ));
            }
        }
    }

    /// Opens everything that the command line and the files ask for.
    pub fn open<'a>(
        &self,
        named: Named<'_>,
        platforms: &[Platform],
        client: &'a Client,
    ) -> Result<Opener<'a>, Failure> {
        let mut opener = Opener::new(client);
        for text in named.images {
            opener.add(&parse_argument(text)?)?;
        }
        for list in named.lists {
            for argument in read_list(list)? {
                opener.add(&argument)?;
            }
        }
        for text in named.all_tags {
            let name: RepositoryName = text
                .strip_prefix("docker://")
                .unwrap_or(text)
                .parse()
                .map_err(|error| Failure::new(2, "input", &InputError::Reference(shown(text), error)))?;
            opener.add_all_tags(&name)?;
        }
        let fill = Fill { platforms: platforms.to_vec(), ..self.fill.clone() };
        let orders = || self.files.iter().map(|(_, order)| order).chain([&self.flags]);
        orders().for_each(|order| opener.block(order));
        for order in orders() {
            opener.add_order(order, &fill)?;
        }
        Ok(opener)
    }

    /// Returns whether nothing at all is named.
    pub fn ask_for_nothing(&self, named: Named<'_>) -> bool {
        self.is_empty() && named.is_empty()
    }
}

/// Reads what `--chart` names.
fn chart(text: &str) -> Result<ChartOrder, Failure> {
    let place = match text.strip_prefix("oci://") {
        Some(reference) => ChartPlace::Registry(
            reference.parse().map_err(|error| InputError::Reference(shown(text), error))?,
        ),
        None if text.contains("://") => {
            return Err(Failure::usage(format!("`{text}` is neither a path nor a chart of a registry")).hint(
                "charts of other repositories are named in a barge.yaml: `charts: [{repository: URL, chart: NAME, version: X}]`",
            ));
        }
        None => ChartPlace::File(text.into()),
    };
    Ok(ChartOrder {
        place,
        name: None,
        images: None,
        render: false,
        image_paths: Vec::new(),
        values: Vec::new(),
        platforms: Vec::new(),
        at: None,
    })
}

/// Says what people should know of what was opened.
pub fn announce(opened: &Opened, printer: &Printer) {
    for note in &opened.notes {
        printer.note(&format!("note: {note}"));
    }
    for (cause, items) in &opened.warnings {
        printer.warning(cause, items);
    }
}

/// Returns what was opened as what a plan is made of.
pub fn asked(opened: Opened) -> Asked {
    let Opened { sources, wishes, bundles, arguments, changed, said, .. } = opened;
    Asked { sources, wishes, bundles, arguments, changed, said, ..Asked::default() }
}

/// Asks every repository before anything else happens, so that a missing login shows at once.
pub fn check_access(opened: &Opened, client: &Client, keep_going: bool) -> Result<(), Failure> {
    let mut checked = HashSet::new();
    for wish in &opened.wishes {
        if let Some(reference) = &wish.reference
            && !opened.bundles.contains_key(&wish.source)
            && checked.insert(reference.name.clone())
            && let Err(error) = client.places(&reference.name).check()
            && !keep_going
        {
            return Err(error.into());
        }
    }
    Ok(())
}
