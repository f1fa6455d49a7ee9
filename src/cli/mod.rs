//! The command line: one file a verb, the printer, the bars, and errors turned into exit codes.

mod args;
mod base;
mod bundles;
mod carry;
mod catalog;
mod diff;
mod doctor;
mod failure;
mod fill;
mod inspect;
mod interrupt;
mod inventory;
mod merge;
mod naming;
mod pack;
mod patches;
mod plan;
mod printer;
mod progress;
mod push;
mod resources;
mod target_facts;
mod verify;
mod work;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;
use printer::Printer;

/// Carries container images across an air gap: packs them into one file, tells what of the file arrived whole, and
/// pushes it into the registry on the other side.
#[derive(Parser)]
#[command(name = "barge", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// Prints one JSON document on standard output instead of text
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// Shows no progress and no notes, only results, warnings and errors
    #[arg(long, short, global = true, help_heading = "Output")]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  findings, or some images failed and the others are done
    2  the command line is wrong
    3  bad input, or a local file can't be read or written
    4  a registry or the network failed, or every image was refused
    5  the target lacks what the bundle builds on
  130  interrupted; the same command goes on where it stopped";

#[derive(Subcommand)]
enum Verb {
    // What is said of each stands on its arguments, where the long help belongs too.
    Pack(Box<pack::Args>),
    Diff(Box<diff::Args>),
    Merge(Box<merge::Args>),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Push(Box<push::PushArgs>),
    Mirror(Box<push::MirrorArgs>),
    Inventory(Box<inventory::Args>),
    Resources(Box<resources::Args>),
    Doctor(Box<doctor::Args>),
    Plan(Box<plan::Args>),
    Catalog(catalog::Args),
    /// Prints the completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages into a folder
    Man {
        /// The folder; it is made if it does not exist
        folder: std::path::PathBuf,
    },
}

/// Runs the command line and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap's own exit prints help to stdout with 0 and errors to stderr with 2.
        Err(error) => error.exit(),
    };
    let printer = Printer::new(cli.json, cli.quiet);
    interrupt::listen();
    let result = match cli.verb {
        Verb::Pack(args) => pack::run(&args, &printer),
        Verb::Diff(args) => diff::run(&args, &printer),
        Verb::Merge(args) => merge::run(&args, &printer),
        Verb::Verify(args) => verify::run(&args, &printer),
        Verb::Inspect(args) => inspect::run(&args, &printer),
        Verb::Push(args) => push::run_push(&args, &printer),
        Verb::Mirror(args) => push::run_mirror(&args, &printer),
        Verb::Inventory(args) => inventory::run(&args, &printer),
        Verb::Resources(args) => resources::run(&args, &printer),
        Verb::Doctor(args) => doctor::run(&args, &printer),
        Verb::Plan(args) => plan::run(&args, &printer),
        Verb::Catalog(args) => catalog::run(&args, &printer),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "barge", &mut script);
            printer.raw(&script);
            Ok(0)
        }
        Verb::Man { folder } => manual_pages(&folder, &printer),
    };
    match result {
        Ok(code) => code.into(),
        Err(failure) => printer.failure(&failure).into(),
    }
}

fn manual_pages(folder: &std::path::Path, printer: &Printer) -> Result<u8, Failure> {
    std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder)).map_err(
        |error| Failure::local(format!("the manual pages can't be written to {}", folder.display()), &error),
    )?;
    printer.line(&format!("DONE: manual pages are in {}", folder.display()));
    Ok(0)
}

/// Prints what registries warned of, each text once, and what there is to say of mirrors.
fn print_client_warnings(client: &barge::store::registry::Client, printer: &Printer) {
    for warning in client.warnings() {
        printer.warning("a registry says", &[warning]);
    }
    for (cause, items) in client.said_of_places() {
        printer.warning(&cause, &items);
    }
}
