//! `barge pack`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barge::input::{Opened, Opener, parse_argument, read_list};
use barge::oci::{Platform, RepositoryName};
use barge::pack::{Asked, Options, Outcome, Output, PackError, Prepared};
use barge::select::{Attachments, Reason, Wanted};
use barge::store::registry::{Access, Client};
use barge::transfer::archive::Written;
use serde_json::json;

use super::args::{RegistryArgs, parse_platform, parse_size};
use super::failure::{Failure, SOME_FAILED, chain};
use super::printer::{Printer, bytes, counted, quoted};
use super::progress::Bars;
use super::{interrupt, print_client_warnings};

/// Packs images from registries, layouts and archives into one file.
///
/// An image is a reference (`registry.example/app:v1`), `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`,
/// `docker-archive:FILE[:TAG]`, or a file by its path; `NAME=` before it gives it another name. The file is written
/// as FILE.partial; the same command goes on where an interrupted one stopped.
#[derive(clap::Args)]
pub struct Args {
    /// What to pack: [NAME=]SOURCE
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Packs what a list names: one image a line, `#` starts a comment
    #[arg(long, value_name = "LIST")]
    from_file: Vec<PathBuf>,
    /// Packs every tag of a repository
    #[arg(long, value_name = "REPOSITORY")]
    all_tags: Vec<String>,
    /// Where the bundle goes: a file, a folder (the file gets a name of its own there), or oci:DIR for a layout
    #[arg(long, short, value_name = "OUTPUT")]
    output: Option<String>,
    /// Platforms to pack, e.g. linux/amd64,linux/arm/v7; all without it
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',', value_parser = parse_platform)]
    platform: Vec<Platform>,
    /// Makes it an error when an image lacks a platform
    #[arg(long)]
    strict_platforms: bool,
    /// Which attached content to pack: signatures, attestations, SBOMs and other referrers
    #[arg(long, value_enum, default_value_t)]
    attachments: AttachmentsArg,
    /// Packs layers whose type says that they may not be redistributed
    #[arg(long)]
    foreign_layers: bool,
    /// Fails before the first blob if the content is larger, and names the largest pieces
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Packs what can be had when some images fail; the same command later fetches only what is missing
    #[arg(long)]
    keep_going: bool,
    /// Resolves all names again, taking over the content of an unfinished run
    #[arg(long)]
    restart: bool,
    /// Says what would be packed, and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Reads the finished file from the medium, not from memory, and checks every byte
    #[arg(long)]
    read_back: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum AttachmentsArg {
    /// Everything
    #[default]
    All,
    /// Only signatures
    Signatures,
    /// Nothing
    None,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    pack(args, printer).map_err(|failure| failure.of("pack"))
}

fn pack(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let began = Instant::now();
    let output = output(args)?;
    let client = args.registry.client()?;
    let opened = open(args, &client)?;
    for note in &opened.notes {
        printer.note(&format!("note: {note}"));
    }
    let options = Options {
        wanted: Wanted { platforms: args.platform.clone(), foreign_layers: args.foreign_layers },
        strict_platforms: args.strict_platforms,
        attachments: match args.attachments {
            AttachmentsArg::All => Attachments::All,
            AttachmentsArg::Signatures => Attachments::Signatures,
            AttachmentsArg::None => Attachments::None,
        },
        keep_going: args.keep_going,
        jobs: args.registry.jobs,
        max_size: args.max_size,
        restart: args.restart,
        output: output.clone(),
    };
    interrupt::says("the same command goes on where it stopped");
    let Opened { sources, wishes, bundles, arguments, .. } = opened;
    let prepared = Prepared::of(Asked { sources, wishes, bundles, arguments, ..Asked::default() }, options)?;
    print_client_warnings(&client, printer);
    for warning in &prepared.warnings {
        printer.warning(&warning.cause, &warning.items);
    }
    if let Some(age) = prepared.resumed {
        printer.note(&format!("going on with the plan that was made {} ago", duration(age)));
    }
    if args.dry_run {
        print_plan(&prepared, printer);
        return Ok(0);
    }
    let failures: Vec<(String, String)> =
        prepared.failures.iter().map(|failure| (failure.name.to_string(), chain(&*failure.error))).collect();
    let (images, summary) = (prepared.graph.images.len(), prepared.summary.clone());
    let bars = Bars::new(printer, "packing");
    let outcome = prepared.write(&bars);
    bars.clear();
    print_client_warnings(&client, printer);
    match outcome.map_err(|error| resumable(error, args, &output))? {
        Outcome::Unchanged { path, id } => {
            printer.line(&format!("NOTHING CHANGED: {} is this bundle already ({id})", path.display()));
            printer.document("pack", 0, json!({ "outcome": "NOTHING CHANGED", "file": path, "bundle": id }));
            Ok(0)
        }
        Outcome::Written { path, written } => {
            if args.read_back {
                super::verify::read_back(&path, args.registry.jobs, printer)?;
            }
            let whole = written.record.images.len();
            let report = Report {
                path: &path,
                written: &written,
                summary: &summary,
                images,
                began,
                failures: &failures,
            };
            if written.gaps.is_empty() && failures.is_empty() {
                report.print(printer, "DONE", whole);
                Ok(0)
            } else {
                report.print_partial(printer, whole);
                Ok(SOME_FAILED)
            }
        }
    }
}

/// Reads `-o`.
fn output(args: &Args) -> Result<Output, Failure> {
    let text = match &args.output {
        _ if args.dry_run => return Ok(Output::Nowhere),
        Some(text) => text,
        None => {
            return Err(
                Failure::usage("no output was named").hint("give -o FILE.oci.tar, -o FOLDER/ or -o oci:DIR")
            );
        }
    };
    if let Some(folder) = text.strip_prefix("oci:") {
        return Ok(Output::Layout(folder.into()));
    }
    let path = Path::new(text.strip_prefix("oci-archive:").unwrap_or(text));
    if path.is_dir() || text.ends_with('/') {
        if !path.is_dir() {
            return Err(Failure::usage(format!("the folder {} does not exist", path.display()))
                .hint("is the medium mounted?"));
        }
        return Ok(Output::Folder(path.to_owned()));
    }
    Ok(Output::Archive(path.to_owned()))
}

fn open(args: &Args, client: &Client) -> Result<Opened, Failure> {
    let mut opener = Opener::new(client);
    for text in &args.images {
        opener.add(&parse_argument(text)?)?;
    }
    for list in &args.from_file {
        for argument in read_list(list)? {
            opener.add(&argument)?;
        }
    }
    for text in &args.all_tags {
        let name: RepositoryName =
            text.strip_prefix("docker://").unwrap_or(text).parse().map_err(|error| {
                Failure::new(2, "input", &barge::input::InputError::Reference(text.clone(), error))
            })?;
        opener.add_all_tags(&name)?;
    }
    let opened = opener.finish();
    // Every repository is asked before anything else happens, so that a missing login shows at once.
    let mut checked = std::collections::HashSet::new();
    for wish in &opened.wishes {
        if let Some(reference) = &wish.reference
            && !opened.bundles.contains_key(&wish.source)
            && checked.insert(reference.name.clone())
            && let Err(error) = client.repository(&reference.name, Access::Pull).check()
            && !args.keep_going
        {
            return Err(error.into());
        }
    }
    Ok(opened)
}

/// Says of a failed run that it can be taken up again.
fn resumable(error: PackError, args: &Args, output: &Output) -> Failure {
    let is_about_the_source =
        matches!(&error, PackError::Transfer(barge::transfer::TransferError::Blob { .. }));
    let failure = Failure::from(error);
    match output {
        Output::Archive(path) if is_about_the_source => {
            let failure = failure.hint(format!(
                "what was fetched is kept in {}.partial; the same command goes on from there",
                path.display()
            ));
            if args.keep_going { failure } else { failure.hint("--keep-going packs the other images") }
        }
        _ => failure,
    }
}

fn print_plan(prepared: &Prepared, printer: &Printer) {
    let summary = &prepared.summary;
    for image in &summary.images {
        printer.line(&format!("{}  {}", image.name, image.root));
        let platforms =
            |list: &[Platform]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !image.platforms.is_empty() {
            printer.line(&format!("    platforms {}", platforms(&image.platforms)));
        }
        if !image.left_out.is_empty() {
            printer.line(&format!("    left out  {}", platforms(&image.left_out)));
        }
        printer.line(&format!("    {}, {} attached", bytes(image.bytes), image.attached));
    }
    printer.line(&format!(
        "{}, {}, {} to pack; {} saved because images share content",
        counted(summary.images.len(), "image"),
        counted(summary.blobs, "blob"),
        bytes(summary.bytes),
        bytes(summary.deduplicated_bytes),
    ));
    printer.line("NOTHING CHANGED: this was a dry run");
    printer.document("pack", 0, json!({ "outcome": "NOTHING CHANGED", "dryRun": true, "plan": summary }));
}

struct Report<'a> {
    path: &'a Path,
    written: &'a Written,
    summary: &'a barge::plan::Summary,
    images: usize,
    began: Instant,
    failures: &'a [(String, String)],
}

impl Report<'_> {
    fn print(&self, printer: &Printer, outcome: &str, whole: usize) {
        let path = self.path.display().to_string();
        let of = if whole == self.images + self.failures.len() {
            counted(whole, "image")
        } else {
            format!("{whole} of {}", counted(self.images + self.failures.len(), "image"))
        };
        printer.line(&format!("{outcome}: {path} holds {of} in {}", bytes(self.written.length)));
        printer.line(&format!("  bundle   {}", self.written.id));
        printer.line(&format!(
            "  content  {}, {}; {} saved because images share content",
            counted(self.summary.blobs, "blob"),
            bytes(self.summary.bytes),
            bytes(self.summary.deduplicated_bytes),
        ));
        let platform = self.summary.absent.get(&Reason::Platform);
        if let Some((count, size)) = platform {
            printer.line(&format!(
                "  left out {} of other platforms, {}",
                counted(*count, "blob"),
                bytes(*size)
            ));
        }
        let kept = match self.written.kept {
            0 => String::new(),
            kept => format!(", {} were there from before", bytes(kept)),
        };
        printer.line(&format!(
            "  moved    {} in {}{kept}; the medium took {} of it",
            bytes(self.written.fetched),
            duration(self.began.elapsed()),
            duration(self.written.sync_time),
        ));
        if outcome == "DONE" {
            printer.line(&format!("next: barge verify {}", quoted(&path)));
        }
        let code = if outcome == "DONE" { 0 } else { SOME_FAILED };
        printer.document(
            "pack",
            code,
            json!({
                "outcome": outcome,
                "file": self.path,
                "bundle": self.written.id,
                "length": self.written.length,
                "images": self.written.record.images,
                "failed": self.failed(),
                "plan": self.summary,
                "fetchedBytes": self.written.fetched,
                "keptBytes": self.written.kept,
                "syncSeconds": self.written.sync_time.as_secs_f64(),
                "seconds": self.began.elapsed().as_secs_f64(),
            }),
        );
    }

    fn failed(&self) -> Vec<serde_json::Value> {
        let names = self.failures.iter().map(|(name, why)| json!({ "image": name, "why": why }));
        let gaps =
            self.written.gaps.iter().map(
                |(digest, image, error)| json!({ "image": image, "digest": digest, "why": chain(error) }),
            );
        names.chain(gaps).collect()
    }

    fn print_partial(&self, printer: &Printer, whole: usize) {
        let mut items: Vec<String> =
            self.failures.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        items.extend(
            self.written
                .gaps
                .iter()
                .map(|(digest, image, error)| format!("{image} needs {digest}: {}", chain(error))),
        );
        printer.warning("could not be had", &items);
        self.print(printer, "PARTIAL", whole);
        printer.line("next: the same command again; it fetches only what is missing");
    }
}

/// Returns a duration for people.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 60..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
