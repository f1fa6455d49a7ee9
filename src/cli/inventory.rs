//! `barge inventory`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use barge::input::{Place, RegistryArgument, read_list};
use barge::inventory::{Inventory, Kind};
use barge::oci::media_type::is_manifest;
use barge::stocktake::{Looked, Options, StocktakeError, Taken, take};
use barge::transfer::{TransferError, write_whole};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::RegistryArgs;
use super::carry::duration;
use super::failure::{self, BAD_INPUT, Failure, SOME_FAILED};
use super::printer::{Printer, bytes, counted, quoted};
use super::{interrupt, print_client_warnings};

/// How often a line says how far it is where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Takes the inventory of a registry, small enough to be carried back.
///
/// `HOST[:PORT]` is everything that the registry's catalogue lists, `HOST[:PORT]/PATH/` everything below a path,
/// `HOST/NAME` all tags of a repository, `HOST/NAME:TAG` one image. Only manifests are read. What was found is kept in
/// FILE.partial; the same command goes on where an interrupted one stopped.
#[derive(clap::Args)]
pub struct Args {
    /// What to look at: REGISTRY, REGISTRY/PATH/, REPOSITORY or IMAGE
    #[arg(value_name = "PLACE")]
    places: Vec<String>,
    /// Looks at what a list names: one image a line, `#` starts a comment
    #[arg(long, value_name = "LIST")]
    from_file: Vec<PathBuf>,
    /// Where the inventory goes; compressed if the name ends with .zst
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Proves every blob by reading a byte of it, and does not only trust the manifests
    #[arg(long)]
    check_blobs: bool,
    /// Leaves all names out: only digests, sizes, types and platforms leave this place
    #[arg(long)]
    omit_names: bool,
    /// Asks everything again, forgetting what an unfinished run found
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    inventory(args, printer).map_err(|failure| failure.of("inventory"))
}

fn inventory(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let began = Instant::now();
    if args.output.is_none() && !printer.is_json() {
        return Err(Failure::usage("no output was named").hint(
            "give -o FILE.json or -o FILE.json.zst; with --json the document can go to standard output",
        ));
    }
    let arguments = arguments(args)?;
    let before = args.output.as_deref().map(before).transpose()?.flatten();
    let client = args.registry.client()?;
    let options = Options {
        check_blobs: args.check_blobs,
        jobs: args.registry.jobs,
        journal: args.output.as_deref().map(journal_path),
        restart: args.restart,
    };
    if options.journal.is_some() {
        interrupt::says("what was found is kept; the same command goes on where it stopped");
    }
    let progress = Progress::new(printer);
    let taken = take(&client, &arguments, &options, &|looked| progress.show(looked));
    progress.bar.finish_and_clear();
    print_client_warnings(&client, printer);
    let mut taken = taken.map_err(|error| failed(error, options.journal.as_deref()))?;
    if let Some(age) = taken.resumed {
        printer.note(&format!("went on with what was found {} ago", duration(age)));
    }
    warn(&taken, args.omit_names, printer);
    if args.omit_names {
        taken.inventory.omit_names();
    }
    let length = match &args.output {
        Some(path) => Some(write(&taken.inventory, path)?),
        None => None,
    };
    let unchanged = before.is_some_and(|before| is_same(&before, &taken.inventory));
    let report = Report { taken: &taken, file: args.output.as_deref(), length, unchanged, began };
    let code = report.print(printer);
    taken.finish()?;
    Ok(code)
}

/// Reads the places and lists; a list names images, as everywhere.
fn arguments(args: &Args) -> Result<Vec<RegistryArgument>, Failure> {
    let mut arguments = Vec::new();
    for text in &args.places {
        arguments.push(RegistryArgument::parse(text)?);
    }
    for list in &args.from_file {
        for argument in read_list(list)? {
            match (argument.place, argument.reference) {
                (Place::Registry(_), Some(reference)) => arguments.push(RegistryArgument::Image(reference)),
                _ => {
                    return Err(Failure::usage(format!("{} names a file or layout", list.display()))
                        .hint("an inventory is taken of images at a registry"));
                }
            }
        }
    }
    if arguments.is_empty() {
        return Err(Failure::usage("no registry, repository or image was named")
            .hint("e.g. `barge inventory registry.example:5000 -o site.json`"));
    }
    Ok(arguments)
}

/// Reads the inventory that stands where the new one goes; what is none is not written over.
fn before(path: &Path) -> Result<Option<Inventory>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let what = match Inventory::read(path) {
        Ok(inventory) if inventory.kind() == Kind::Inventory => return Ok(Some(inventory)),
        Ok(_) => "a receipt",
        Err(_) => "something else than an inventory",
    };
    Err(TransferError::Exists { path: path.to_owned(), what: what.to_owned() }.into())
}

fn journal_path(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(".partial");
    path.into()
}

/// Writes the document and returns the length of the file.
fn write(inventory: &Inventory, path: &Path) -> Result<u64, Failure> {
    let is_compressed = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("zst"));
    write_whole(path, |out| inventory.write(out, is_compressed))?;
    let metadata = std::fs::metadata(path)
        .map_err(|error| Failure::local(format!("{} can't be read", path.display()), &error))?;
    Ok(metadata.len())
}

fn is_same(before: &Inventory, now: &Inventory) -> bool {
    (&before.target, before.scope, before.checked, &before.failed)
        == (&now.target, now.scope, now.checked, &now.failed)
        && before.content.id() == now.content.id()
}

/// Says what is not in order; without names where they must not leave.
fn warn(taken: &Taken, omit_names: bool, printer: &Printer) {
    let missing: Vec<String> = taken
        .missing
        .iter()
        .map(|(repository, digest)| match omit_names {
            true => digest.to_string(),
            false => format!("{digest} in {repository}"),
        })
        .collect();
    if !missing.is_empty() {
        printer.warning("listed by manifests and not there", &missing);
    }
    let failed: Vec<String> = match (omit_names, taken.inventory.failed.len()) {
        (true, 0) => Vec::new(),
        (true, count) => vec![counted(count, "image")],
        (false, _) => taken
            .inventory
            .failed
            .iter()
            .map(|row| format!("{}: {}", row.name.as_deref().unwrap_or_default(), row.why))
            .collect(),
    };
    if !failed.is_empty() {
        printer.warning("could not be read, and so not in the inventory", &failed);
    }
}

pub fn failed(error: StocktakeError, journal: Option<&Path>) -> Failure {
    match error {
        StocktakeError::Nothing => Failure::usage(error.to_string()),
        StocktakeError::Input(error) => Failure::from(error),
        StocktakeError::Open(error) => error.into(),
        StocktakeError::Local(error) => error.into(),
        StocktakeError::OtherArguments(_) => Failure::new(BAD_INPUT, "other-arguments", &error)
            .hint("finish it with the arguments it was begun with, or give --restart to begin anew"),
        StocktakeError::Stopped { ref source, .. } => {
            let (code, kind, hint) = failure::store(source);
            let mut failure = Failure::new(code, kind, &error);
            failure.hints.extend(hint.map(str::to_owned));
            match journal {
                Some(path) => failure.hint(format!(
                    "what was found is kept in {}; the same command goes on from there",
                    path.display()
                )),
                None => failure,
            }
        }
    }
}

struct Report<'a> {
    taken: &'a Taken,
    file: Option<&'a Path>,
    length: Option<u64>,
    unchanged: bool,
    began: Instant,
}

impl Report<'_> {
    /// Prints the result and returns the exit code.
    fn print(&self, printer: &Printer) -> u8 {
        let inventory = &self.taken.inventory;
        let holdings = &inventory.content.holdings;
        let (outcome, code) = match (self.taken.is_whole(), self.unchanged) {
            (false, _) => ("PARTIAL", SOME_FAILED),
            (true, true) => ("NOTHING CHANGED", 0),
            (true, false) => ("DONE", 0),
        };
        let images = inventory.content.images.len();
        let place = inventory.target.as_deref().unwrap_or("the registry");
        if let (Some(file), Some(length)) = (self.file, self.length) {
            let path = file.display().to_string();
            let of = match inventory.failed.len() {
                0 => counted(images, "image"),
                failed => format!("{images} of {}", counted(images + failed, "image")),
            };
            let says = if self.unchanged { "says again" } else { "says" };
            printer.line(&format!("{outcome}: {path} {says} what {place} holds: {of}, in {}", bytes(length)));
            let how = if inventory.checked { "each blob proved by reading" } else { "as its manifests say" };
            // Without names, what lies where is not told either.
            let repositories = match holdings.repositories().len() {
                0 => String::new(),
                count => format!(
                    " in {}",
                    if count == 1 { "1 repository".to_owned() } else { format!("{count} repositories") }
                ),
            };
            let manifests = holdings.iter().filter(|row| is_manifest(row.media_type)).count();
            printer.line(&format!(
                "  content  {} and {}{repositories}, {}, {how}",
                counted(holdings.len() - manifests, "blob"),
                counted(manifests, "manifest"),
                bytes(self.taken.bytes()),
            ));
            printer.line(&format!("  state    {}, of the names that it has here", inventory.state));
            if images == 0 && inventory.failed.is_empty() {
                let told = format!("{place} lists nothing: with this base everything travels");
                printer.warning("no image was found", &[told]);
            }
            printer.line(&format!(
                "next: carry {path} to the packing side: barge diff {} TARGET -o FILE.barge",
                quoted(&path)
            ));
        }
        let mut result = json!({
            "outcome": outcome,
            "file": self.file,
            "length": self.length,
            "target": inventory.target,
            "scope": inventory.scope,
            "checked": inventory.checked,
            "state": inventory.state,
            "content": inventory.content.id(),
            "images": images,
            "repositories": holdings.repositories().len(),
            "blobs": holdings.len(),
            "bytes": self.taken.bytes(),
            "failed": inventory.failed,
            "missing": self.taken.missing.iter().map(|(_, digest)| digest).collect::<Vec<_>>(),
            "seconds": self.began.elapsed().as_secs_f64(),
        });
        if self.file.is_none() {
            result["inventory"] = json!(inventory);
        }
        printer.document("inventory", code, result);
        code
    }
}

/// Shows how far it is: a line that moves on a terminal, else a line now and then.
struct Progress<'a> {
    printer: &'a Printer,
    bar: ProgressBar,
    line_at: Mutex<Instant>,
}

impl<'a> Progress<'a> {
    fn new(printer: &'a Printer) -> Self {
        let shown = Printer::is_terminal() && !printer.is_quiet();
        let bar = if shown { printer.bars().add(ProgressBar::new(0)) } else { ProgressBar::hidden() };
        if let Ok(style) =
            ProgressStyle::with_template("looking {bar:30} {pos}/{len} repositories, {msg}, {elapsed}")
        {
            bar.set_style(style);
        }
        Self { printer, bar, line_at: Mutex::new(Instant::now() + LINE_EVERY) }
    }

    fn show(&self, looked: Looked) {
        let images = counted(looked.images, "image");
        self.bar.set_length(looked.of_repositories as u64);
        self.bar.set_position(looked.repositories as u64);
        self.bar.set_message(images.clone());
        let mut line_at = self.line_at.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && Instant::now() >= *line_at {
            *line_at = Instant::now() + LINE_EVERY;
            self.printer.note(&format!(
                "looking: {images}; {} of {} repositories",
                looked.repositories, looked.of_repositories
            ));
        }
    }
}
