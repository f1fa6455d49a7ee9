//! What is wanted, as the command line and files say it: what `pack`, `mirror`, `diff` and `plan` share.

use std::collections::HashSet;
use std::path::PathBuf;

use barge::input::{Fill, InputError, Opened, Opener, Order, parse_argument, read_list, read_order};
use barge::oci::RepositoryName;
use barge::pack::Asked;
use barge::push::sparse::Policy;
use barge::select::Attachments;
use barge::store::registry::{Client, Rule};

use super::failure::Failure;
use super::printer::Printer;

/// Files that say what is wanted.
#[derive(clap::Args)]
pub struct FillArgs {
    /// Takes what a file asks for: barge.yaml, a mapping file, an ImageSetConfiguration, hauler's Images, or a list;
    /// repeatable
    #[arg(long, short, value_name = "FILE")]
    file: Vec<PathBuf>,
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
}

impl FillArgs {
    /// Reads the files; nothing is opened or asked.
    pub fn read(&self) -> Result<Orders, Failure> {
        let files = self.file.iter().map(|path| Ok((path.clone(), read_order(path)?)));
        Ok(Orders { files: files.collect::<Result<_, Failure>>()? })
    }
}

impl Orders {
    /// Returns whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns how registries are reached.
    pub fn rules(&self) -> Vec<Rule> {
        self.files.iter().flat_map(|(_, order)| &order.registries).map(Rule::from).collect()
    }

    /// Returns which attached content the files want.
    pub fn attachments(&self) -> Result<Option<Attachments>, Failure> {
        self.agreed("attached content", "--attachments", |order| order.defaults.attachments)
    }

    /// Returns what the files want of a push that meets a sparse index.
    pub fn sparse(&self) -> Result<Option<Policy>, Failure> {
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
        has_platforms: bool,
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
                .map_err(|error| Failure::new(2, "input", &InputError::Reference(text.clone(), error)))?;
            opener.add_all_tags(&name)?;
        }
        let fill = Fill { has_platforms };
        for (_, order) in &self.files {
            opener.add_order(order, &fill)?;
        }
        Ok(opener)
    }

    /// Returns whether nothing at all is named.
    pub fn ask_for_nothing(&self, named: Named<'_>) -> bool {
        self.is_empty() && named.is_empty()
    }
}

/// Says what people should know of what was opened.
pub fn announce(opened: &Opened, printer: &Printer) {
    let mut notes: Vec<&String> = opened.notes.iter().collect();
    notes.dedup();
    notes.iter().for_each(|note| printer.note(&format!("note: {note}")));
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
