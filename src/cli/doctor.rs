//! `barge doctor`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barge::doctor::{Finding, Ledger, Machine, Options, Places, State, Target, examine, examine_machine};
use barge::oci::RepositoryName;
use barge::push::names::Destination;
use barge::store::registry;
use barge::transfer::write_whole;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::RegistryArgs;
use super::failure::{Failure, SOME_FAILED};
use super::interrupt;
use super::printer::{Printer, counted, quoted, typed};

/// How long the longest question may go without an answer.
const LONGEST_PATIENCE: u64 = 600;
/// How often a question is asked again: once, for a connection that was closed in between.
const MOST_RETRIES: u32 = 1;
/// The scratch repository's name below the target's path, where only --probe is given.
const USUAL_SCRATCH: &str = "barge-doctor";

/// Tells, before the day of the transfer, what a registry will do, and which flags to use.
///
/// Only reads, unless a scratch repository is given: then a few blobs and manifests, all tiny but for one of 4 MiB, are
/// pushed below it and deleted again where the registry allows; what stays is listed. Without a registry it looks at this
/// machine: room, open files, hashing speed, credential files. `--json` prints the document that `barge pack --for` reads.
#[derive(clap::Args)]
pub struct Args {
    /// The registry, and the path below which everything is to go: HOST[:PORT][/PREFIX]
    #[arg(value_name = "REGISTRY")]
    registry_name: Option<String>,
    /// Tries things out below this repository, and deletes them again where the registry allows
    #[arg(long, value_name = "SCRATCH", requires = "registry_name")]
    repo: Option<String>,
    /// The same below REGISTRY/PREFIX/barge-doctor
    #[arg(long, requires = "registry_name", conflicts_with = "repo")]
    probe: bool,
    /// Where the document goes that `barge pack --for` reads
    #[arg(long, short, value_name = "FILE", requires = "registry_name")]
    output: Option<PathBuf>,
    /// How many seconds the registry may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=LONGEST_PATIENCE))]
    timeout: u64,
    /// A further folder to look at: the one for working files
    #[arg(long, value_name = "DIR", conflicts_with = "registry_name")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let run = || match &args.registry_name {
        Some(registry) => of_registry(args, registry, printer),
        None => of_machine(args, printer),
    };
    run().map_err(|failure: Failure| failure.of("doctor"))
}

fn of_machine(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let current = std::env::current_dir()
        .map_err(|error| Failure::local("the current folder can't be found".to_owned(), &error))?;
    let places = Places {
        current,
        temporary: barge::bundle::workshop::default_folder(),
        scratch: args.scratch.clone(),
    };
    let machine = examine_machine(&places, &args.registry.options(Vec::new())?);
    let code = print_machine(&machine, printer);
    Ok(code)
}

fn print_machine(machine: &Machine, printer: &Printer) -> u8 {
    let mut findings = machine.findings.clone();
    findings.sort_by_key(|finding| finding.state);
    let (outcome, code) = outcome(&findings);
    printer.line(&format!("{outcome}: this machine: {}", tally(&findings)));
    print_findings(&findings, printer);
    printer.line("next: barge doctor REGISTRY   (for what the registry on the other side will do)");
    let mut document = json!(machine);
    document["outcome"] = json!(outcome);
    document["findings"] = json!(findings);
    printer.document("doctor", code, document);
    code
}

fn of_registry(args: &Args, text: &str, printer: &Printer) -> Result<u8, Failure> {
    let destination = super::naming::destination(text)?;
    let scratch = scratch(args, &destination)?;
    let patience = Duration::from_secs(args.timeout);
    let given = args.registry.options(Vec::new())?;
    let client = registry::Options {
        idle_timeout: patience,
        upload_patience: 1,
        longest_wait: patience,
        retry_times: given.retry_times.min(MOST_RETRIES),
        ..given
    };
    if let Some(scratch) = &scratch {
        printer.note(&format!(
            "writes 3 tiny blobs, 3 tiny manifests and up to 3 of 1 to 4 MiB below {scratch}, and deletes them again; \
             what the registry does not let be deleted is listed, and some registries keep the empty names"
        ));
    }
    let ledger = Arc::new(Ledger::default());
    let swept = Arc::clone(&ledger);
    interrupt::cleans(move || swept.sweep());
    let bar = bar(printer);
    let options = Options { client, destination, scratch, patience };
    let target = examine(&options, &ledger, &|check| bar.set_message(check));
    bar.finish_and_clear();
    interrupt::gives_way();
    interrupt::is_clean();
    let target = target?;
    if let Some(path) = &args.output {
        write_whole(path, |out| std::io::Write::write_all(out, format!("{:#}\n", json!(target)).as_bytes()))?;
    }
    Ok(print_target(&target, args, printer))
}

/// Reads where things may be tried out: a repository with the registry's name before it, or a path at the registry.
fn scratch(args: &Args, destination: &Destination) -> Result<Option<RepositoryName>, Failure> {
    let registry = &destination.registry;
    let path = match &args.repo {
        Some(text) => {
            let text = text.strip_prefix("docker://").unwrap_or(text).trim_end_matches('/');
            let below = text.strip_prefix(registry.as_str()).and_then(|rest| rest.strip_prefix('/'));
            below.unwrap_or(text).to_owned()
        }
        None if !args.probe => return Ok(None),
        None if destination.prefix.is_empty() => USUAL_SCRATCH.to_owned(),
        None => format!("{}/{USUAL_SCRATCH}", destination.prefix),
    };
    if !barge::oci::reference::is_repository(&path) {
        return Err(Failure::usage(format!("`{path}` is not a repository of {registry}"))
            .hint(format!("e.g. --repo {registry}/{USUAL_SCRATCH}")));
    }
    Ok(Some(RepositoryName { registry: registry.clone(), repository: path }))
}

fn bar(printer: &Printer) -> ProgressBar {
    if printer.is_quiet() || !Printer::is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("asking: {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    printer.bars().add(ProgressBar::new_spinner().with_style(style))
}

fn outcome(findings: &[Finding]) -> (&'static str, u8) {
    match findings.iter().any(|finding| finding.state == State::Failed) {
        true => ("PARTIAL", SOME_FAILED),
        false => ("DONE", 0),
    }
}

/// `12 checks ok, 1 warning, 1 unknown`.
fn tally(findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let others = [State::Failed, State::Warning, State::Unknown]
        .into_iter()
        .filter(|state| count(*state) > 0)
        .map(|state| format!(", {} {}", count(state), state.word()));
    format!("{} of {} ok{}", count(State::Ok), counted(findings.len(), "check"), others.collect::<String>())
}

/// Prints one finding a line; those that could not be made for one reason are one.
fn print_findings(findings: &[Finding], printer: &Printer) {
    let width = findings.iter().map(|finding| finding.id.len()).max().unwrap_or_default();
    let row = |state: State, id: &str, text: &str| {
        printer.line(&format!("  {:7}  {id:width$}  {text}", state.word()));
    };
    let is_plain = |finding: &Finding| finding.flags.is_empty() && finding.hint.is_none();
    for alike in findings.chunk_by(|a, b| {
        a.state == State::Unknown && (a.state, &a.seen) == (b.state, &b.seen) && is_plain(a) && is_plain(b)
    }) {
        let [finding] = alike else {
            let ids: Vec<&str> = alike.iter().map(|finding| finding.id.as_str()).collect();
            row(
                alike[0].state,
                &counted(alike.len(), "check"),
                &format!("{}: {}", alike[0].seen, ids.join(", ")),
            );
            continue;
        };
        let flags = words(&finding.flags);
        let arrow = if flags.is_empty() { String::new() } else { format!("  -> {flags}") };
        row(finding.state, &finding.id, &format!("{}{arrow}", finding.seen));
        if let Some(hint) = &finding.hint {
            printer.line(&format!("  {:7}  {:width$}  hint: {hint}", "", ""));
        }
    }
}

fn words(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Returns the same command with the flags that it lacks; they come as a word and its value.
fn again(typed: &str, flags: &[String]) -> String {
    let new = flags.chunks(2).map(words).filter(|flag| !format!("{typed} ").contains(&format!(" {flag} ")));
    let new: Vec<String> = new.collect();
    match new.is_empty() {
        true => format!("{typed}   (after the cause is mended)"),
        false => format!("{typed} {}", new.join(" ")),
    }
}

fn print_target(target: &Target, args: &Args, printer: &Printer) -> u8 {
    let (outcome, code) = outcome(&target.findings);
    printer.line(&format!("{outcome}: {}: {}", target.target, tally(&target.findings)));
    print_findings(&target.findings, printer);
    if !target.left.is_empty() {
        printer.line(&format!("  left at the registry: {}", counted(target.left.len(), "thing")));
        for left in &target.left {
            printer.line(&format!("    {left}"));
        }
    }
    let unknown = target.findings.iter().any(|finding| finding.state == State::Unknown);
    if target.scratch.is_none() && code == 0 && unknown {
        printer.line(&format!(
            "  what is unknown is found out by: {} --repo {}",
            typed(),
            quoted(&format!("{}/{USUAL_SCRATCH}", target.target))
        ));
    }
    if let Some(path) = &args.output {
        printer.line(&format!(
            "  written to {}; `barge pack --for {}` reads it",
            path.display(),
            quoted(&path.display().to_string())
        ));
    }
    let flags = words(&target.push);
    let space = if flags.is_empty() { "" } else { " " };
    let next = match code {
        0 => format!("barge push BUNDLE {}{space}{flags}", quoted(&target.target)),
        _ => again(&typed(), &target.push),
    };
    printer.line(&format!("next: {next}"));
    let mut document = json!(target);
    document["outcome"] = json!(outcome);
    printer.document("doctor", code, document);
    code
}
