//! `barge verify`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use barge::bundle::verify::{Finding, Form, Kind, Options, Report, VerifyError, verify};
use barge::graph::reliance::{BaseEntry, BaseKind};
use barge::request::Request;
use barge::select::Reason;
use serde_json::{Value, json};

use super::args::parse_jobs;
use super::failure::{BAD_INPUT, Failure, SOME_FAILED};
use super::interrupt;
use super::printer::{Printer, bytes, clean, counted, quoted};
use super::progress::Bars;

/// How many findings of one kind are shown, and how many images; the rest is counted and stands in the document.
const SHOWN: usize = 20;

/// Reads everything in a bundle and says what of it is whole.
///
/// Works on bundles, and on OCI layouts of other tools in a tar file or folder. Every byte is read from the medium and
/// hashed, and every image is followed through its manifests. Damage does not end the run: all of it is found.
#[derive(clap::Args)]
pub struct Args {
    /// Bundles, layout tar files or layout folders
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Verifies only this image, and reads only what it needs; repeatable
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    /// Writes what must be sent again into a file, for whoever packed the bundle
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Reads what the system has in memory too; without it, the medium itself is read
    #[arg(long)]
    cached: bool,
    /// How many blobs are read at once; as many as there are processors without it
    #[arg(long, short, value_name = "N", value_parser = parse_jobs)]
    jobs: Option<usize>,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    verify_all(args, printer).map_err(|failure| failure.of("verify"))
}

/// Reads a bundle that was just written back from its medium.
///
/// # Errors
/// A failure that says what is wrong, if anything is.
pub fn read_back(path: &std::path::Path, jobs: usize, printer: &Printer) -> Result<(), Failure> {
    let bars = Bars::new(printer, "reading back");
    let options = Options { jobs, ..Options::default() };
    let report = verify(path, &options, &bars);
    bars.clear();
    let report = report.map_err(|error| Failure::new(BAD_INPUT, "read-back", &error))?;
    // Gaps were said when they were left.
    let wrong: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| !matches!(finding.id, "gap" | "failed-image"))
        .map(|finding| format!("{}: {}", finding.id, finding.detail))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let mut failure =
        Failure::usage(format!("{} does not read back from the medium as it was written", path.display()));
    (failure.code, failure.kind, failure.causes) = (SOME_FAILED, "read-back", wrong);
    failure.causes.truncate(5);
    Err(failure
        .hint("the medium is failing: use another and pack again")
        .next(format!("barge verify {}", quoted(&path.display().to_string()))))
}

fn verify_all(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    if args.request.is_some() && args.files.len() > 1 {
        return Err(Failure::usage("a request is about one bundle")
            .hint("verify the files one by one with --request"));
    }
    interrupt::says("nothing was changed; verify again from the start");
    let mut code = 0;
    let mut documents = Vec::new();
    for file in &args.files {
        let options =
            Options { images: args.image.clone(), cached: args.cached, jobs: args.jobs.unwrap_or_default() };
        let bars = Bars::new(printer, "verifying");
        let report = verify(file, &options, &bars);
        bars.clear();
        let report = report.map_err(|error| failed(error, file))?;
        let requested = match (&args.request, Request::of_verification(&report)) {
            (Some(path), Some(request)) => {
                request.write(path)?;
                Some(path.as_path())
            }
            _ => None,
        };
        let shown = Shown { report: &report, file, requested, asked: args.request.is_some() };
        shown.print(printer);
        documents.push(shown.document());
        if !report.is_clean() {
            code = SOME_FAILED;
        }
    }
    let outcomes: BTreeSet<&str> =
        documents.iter().filter_map(|document| document["outcome"].as_str()).collect();
    let outcome = match outcomes.iter().collect::<Vec<_>>()[..] {
        [only] => *only,
        _ => "PARTIAL",
    };
    printer.document("verify", code, json!({ "outcome": outcome, "files": documents }));
    Ok(code)
}

fn failed(error: VerifyError, file: &Path) -> Failure {
    match error {
        VerifyError::Store(error) => error.into(),
        VerifyError::NoImage { ref have, .. } => {
            let mut hint =
                format!("it has {}", have.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "));
            if have.len() > SHOWN {
                hint.push_str(" and more");
            }
            Failure::new(BAD_INPUT, "no-image", &error).hint(hint)
        }
        VerifyError::NoLayout { .. } => Failure::new(BAD_INPUT, "no-bundle", &error).hint(format!(
            "compare the length of {} with that of the file it was copied from",
            file.display()
        )),
    }
}

struct Shown<'a> {
    report: &'a Report,
    file: &'a Path,
    /// The request that was written.
    requested: Option<&'a Path>,
    /// Whether a request was asked for.
    asked: bool,
}

impl Shown<'_> {
    fn outcome(&self) -> &'static str {
        match (self.report.is_clean(), self.report.images_whole().0) {
            (true, _) => "DONE",
            (false, 0) => "FAILED",
            (false, _) => "PARTIAL",
        }
    }

    fn document(&self) -> Value {
        let mut value = serde_json::to_value(self.report).unwrap_or_default();
        value["outcome"] = json!(self.outcome());
        value["request"] = json!(self.requested);
        value["next"] = json!(self.next());
        value
    }

    fn print(&self, printer: &Printer) {
        let report = self.report;
        let (whole, broken) = report.images_whole();
        let path = self.file.display();
        let what = match report.form {
            Form::Bundle => "the bundle",
            Form::Layout => "the layout",
            Form::Remains => "what remains of the bundle",
        };
        let outcome = self.outcome();
        let asked = if report.restricted { " that were asked for" } else { "" };
        printer.line(&match outcome {
            "DONE" if report.bases.is_empty() => {
                format!("DONE: {path} is whole: {}{asked}", counted(whole, "image"))
            }
            "DONE" => format!("DONE: {path} is whole as a delta: {}{asked}", counted(whole, "image")),
            "PARTIAL" => {
                format!(
                    "PARTIAL: {path} is not as it was sent: {whole} of {}{asked} whole",
                    counted(whole + broken, "image")
                )
            }
            _ => format!("FAILED: {path} is not as it was sent, and no image in it is whole"),
        });
        if let Some(bundle) = &report.bundle {
            printer.line(&format!("  bundle   {bundle}"));
        }
        print_bases(&report.bases, printer);
        let counts = &report.counts;
        printer.line(&format!(
            "  read     {} in {}",
            bytes(counts.checked.bytes),
            counted(counts.checked.count as usize, "blob")
        ));
        for (count, text) in [(&counts.damaged, "damaged"), (&counts.missing, "missing")] {
            if count.count > 0 {
                let blobs = counted(count.count as usize, "blob");
                printer.line(&format!("  {text:<9}{blobs}, {}", bytes(count.bytes)));
            }
        }
        if counts.rebuilt.count > 0 {
            let blobs = counted(counts.rebuilt.count as usize, "blob");
            printer.line(&format!(
                "  rebuilds {blobs}, {}, by patches; push proves that what they build on is there",
                bytes(counts.rebuilt.bytes)
            ));
        }
        for (reason, amount) in &counts.absent {
            let blobs = counted(amount.count as usize, "blob");
            if *reason == Reason::Base {
                let size = bytes(amount.bytes);
                printer.line(&format!(
                    "  relies on {blobs}, {size}, that the far side has; push proves it there"
                ));
                continue;
            }
            printer.line(&format!("  left out {blobs}, {}: {}", bytes(amount.bytes), reason_text(*reason)));
        }
        if let (Some(until), Some(length)) = (report.whole_until, report.length) {
            printer.line(&format!(
                "  cut off  {what} is whole up to byte {until} of the {length} that are here"
            ));
        }
        for (kind, findings) in report.by_kind() {
            print_kind(kind, findings, printer);
        }
        if report.more_findings > 0 {
            printer.line(&format!("and {} more findings, too many to keep", report.more_findings));
        }
        self.print_images(printer);
        if self.asked && self.requested.is_none() {
            let why =
                if report.is_clean() { "nothing must be sent again" } else { "no blob must be sent again" };
            printer.note(&format!("no request was written: {why}"));
        }
        printer.line(&format!("next: {}", self.next()));
    }

    fn print_images(&self, printer: &Printer) {
        let broken: Vec<&str> =
            self.report.images.iter().filter(|image| !image.whole).map(|image| image.name.as_str()).collect();
        if broken.is_empty() {
            return;
        }
        printer.line(&format!("images that are not whole: {}", broken.len()));
        for name in broken.iter().take(SHOWN) {
            printer.line(&format!("  {name}"));
        }
        if broken.len() > SHOWN {
            printer.line(&format!("  and {} more (all with --json)", broken.len() - SHOWN));
        }
    }

    /// Returns what to do next.
    fn next(&self) -> String {
        let file = quoted(&self.file.display().to_string());
        let report = self.report;
        if report.is_clean() {
            return format!("barge push {file} REGISTRY");
        }
        match (self.requested, report.resend.is_empty()) {
            (Some(request), _) => {
                let request = quoted(&request.display().to_string());
                format!(
                    "carry {request} back to where {file} was packed: barge pack --request {request} {file} -o \
                     topup.barge, with the whole file; then push both"
                )
            }
            (None, false) if !self.asked => format!("barge verify {file} --request resend.json"),
            _ => format!("copy {file} again from where it is whole, then: barge verify {file}"),
        }
    }
}

/// Says what a delta bundle builds on.
pub fn print_bases(bases: &[BaseEntry], printer: &Printer) {
    for base in bases.iter().take(SHOWN) {
        printer.line(&format!("  builds on {}", base_text(base)));
    }
    if bases.len() > SHOWN {
        printer.line(&format!("  builds on {} more (all with --json)", bases.len() - SHOWN));
    }
}

/// Returns what a base is, for people: `jan.oci.tar sha256:… (bundle, state WERC8-GMRZG)`.
fn base_text(base: &BaseEntry) -> String {
    let kind = match base.kind {
        BaseKind::Bundle => "bundle",
        BaseKind::Inventory => "inventory",
        BaseKind::Layout => "layout",
        BaseKind::Receipt => "receipt",
        BaseKind::Registry => "registry",
        BaseKind::Request => "request",
    };
    let name = base.name.as_ref().map_or(String::new(), |name| format!("{} ", clean(name)));
    let state = base.state.as_ref().map_or(String::new(), |state| format!(", state {}", clean(state)));
    format!("{name}{} ({kind}{state})", base.id)
}

fn print_kind(kind: &Kind, findings: &[Finding], printer: &Printer) {
    let images: BTreeSet<&str> =
        findings.iter().flat_map(|finding| &finding.costs).map(|cost| cost.image.as_str()).collect();
    let costs = if images.is_empty() {
        String::new()
    } else {
        format!(", concerns {}", counted(images.len(), "image"))
    };
    printer.line(&format!("{}: {}{costs}", kind.id, counted(findings.len(), "finding")));
    printer.line(&format!("  {}", kind.meaning));
    for finding in findings.iter().take(SHOWN) {
        let place = finding.offset.map_or(String::new(), |offset| format!("byte {offset}: "));
        let digest = finding.digest.as_ref().map_or(String::new(), |digest| format!("{digest} "));
        printer.line(&format!("  {place}{digest}{}", finding.detail));
        for cost in finding.costs.iter().take(SHOWN) {
            let platforms = match cost.platforms.is_empty() {
                true => String::new(),
                false => format!(" ({})", cost.platforms.join(", ")),
            };
            printer.line(&format!("      needed by {}{platforms}", cost.image));
        }
        if finding.costs.len() > SHOWN {
            printer.line(&format!("      and {} more images (all with --json)", finding.costs.len() - SHOWN));
        }
    }
    if findings.len() > SHOWN {
        printer.line(&format!("  and {} more (all with --json)", findings.len() - SHOWN));
    }
}

/// Returns why content is left out, in words.
pub fn reason_text(reason: Reason) -> &'static str {
    match reason {
        Reason::Platform => "platforms that were not selected",
        Reason::Foreign => "layers that may not be redistributed",
        Reason::Base => "the far side has it already",
        Reason::Source => "the source refers to it and does not have it",
    }
}
