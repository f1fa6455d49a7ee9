//! Carrying out a plan that ends in a bundle, and telling what came of it: what `pack`, `diff` and `merge` share.

mod report;

use std::path::Path;
use std::time::Instant;

use barge::oci::Platform;
use barge::pack::{Asked, Making, Options, Outcome, Output, PackError, PatchReport, Prepared};
use barge::select::{Attachments, Wanted};
use barge::store::registry::Client;
use serde_json::json;

use super::args::{parse_platform, parse_size};
use super::failure::{Failure, SOME_FAILED, chain};
use super::patches::{self, Maker};
use super::printer::Printer;
use super::progress::Bars;
use super::target_facts::TargetFactsArgs;
use super::{interrupt, print_client_warnings};
use report::{Report, print_plan};
pub use report::{duration, print_removed};

/// What of the images to pack, and how.
#[derive(clap::Args)]
pub struct CarryArgs {
    /// Platforms to pack, e.g. linux/amd64,linux/arm/v7; all without it
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',', value_parser = parse_platform)]
    pub platform: Vec<Platform>,
    /// Makes it an error when an image lacks a platform
    #[arg(long)]
    strict_platforms: bool,
    /// Which attached content to pack: signatures, attestations, SBOMs and other referrers; all without it
    #[arg(long, value_enum)]
    attachments: Option<AttachmentsArg>,
    /// Packs layers whose type says that they may not be redistributed
    #[arg(long)]
    foreign_layers: bool,
    /// Fails before the first blob if the content is larger, and names the largest pieces
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Packs what can be had when some images fail; the same command later fetches only what is missing
    #[arg(long)]
    pub keep_going: bool,
    /// Resolves all names again, taking over the content of an unfinished run
    #[arg(long)]
    pub restart: bool,
    /// Says what would be packed, and writes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Reads the finished file from the medium, not from memory, and checks every byte
    #[arg(long)]
    read_back: bool,
    #[command(flatten)]
    pub facts: TargetFactsArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum AttachmentsArg {
    /// Everything
    All,
    /// Only signatures
    Signatures,
    /// Nothing
    None,
}

impl CarryArgs {
    /// Returns which attached content is asked for.
    pub fn attachments(&self) -> Option<Attachments> {
        self.attachments.map(|attachments| match attachments {
            AttachmentsArg::All => Attachments::All,
            AttachmentsArg::Signatures => Attachments::Signatures,
            AttachmentsArg::None => Attachments::None,
        })
    }

    /// Returns how to pack into `output`.
    pub fn options(&self, output: Output, jobs: usize) -> Options {
        Options {
            wanted: Wanted { platforms: self.platform.clone(), foreign_layers: self.foreign_layers },
            strict_platforms: self.strict_platforms,
            attachments: self.attachments().unwrap_or_default(),
            keep_going: self.keep_going,
            jobs,
            max_size: self.max_size,
            restart: self.restart,
            output,
        }
    }
}

/// How a plan is carried out.
pub struct Carrier<'a> {
    /// The verb.
    pub verb: &'static str,
    /// Its arguments.
    pub args: &'a CarryArgs,
    /// The registries asked, for what they warn of.
    pub client: Option<&'a Client>,
    /// Where it prints.
    pub printer: &'a Printer,
    /// Whether it tells what came of it; else only what is wrong.
    pub tells: bool,
}

/// A bundle that was written or was there.
pub struct Carried {
    /// The exit code.
    pub code: u8,
    /// Where it is; none for a dry run.
    pub path: Option<std::path::PathBuf>,
}

impl Carrier<'_> {
    /// Plans, carries the plan out and tells what came of it.
    ///
    /// # Errors
    /// What the plan or the transfer says.
    pub fn run(&self, asked: Asked, options: Options, maker: Option<&Maker>) -> Result<Carried, Failure> {
        let began = Instant::now();
        interrupt::says("the same command goes on where it stopped");
        let (jobs, output) = (options.jobs, options.output.clone());
        let prepared = Prepared::of(asked, options)?;
        self.carry_patched(prepared, &output, jobs, began, maker)
    }

    /// Makes patches in a spool of their own, carries the plan out and tells what came of it. The spool stays where that
    /// fails, for the next run.
    pub fn carry_patched(
        &self,
        prepared: Prepared,
        output: &Output,
        jobs: usize,
        began: Instant,
        maker: Option<&Maker>,
    ) -> Result<Carried, Failure> {
        let making = maker.map(|maker| maker.making(prepared.arguments())).transpose()?;
        let carried = self.carry(prepared, output, jobs, began, making.as_ref())?;
        if let Some(making) = making {
            making.spool.remove();
        }
        Ok(carried)
    }

    /// Makes patches, where there is anything to make them of.
    fn make_patches(&self, prepared: &mut Prepared, making: Option<&Making>) -> Result<PatchReport, Failure> {
        let Some(making) = making else { return Ok(PatchReport::default()) };
        let bars = Bars::new(self.printer, "comparing");
        let report = prepared.make_patches(making, &bars);
        bars.clear();
        let report = report?;
        patches::warn(&report, self.printer);
        Ok(report)
    }

    fn print_client_warnings(&self) {
        if let Some(client) = self.client {
            print_client_warnings(client, self.printer);
        }
    }

    /// Says what people should know of a plan before it is carried out.
    ///
    /// Who could not be had is told here unless `is_reported` says that a report does that at the end.
    pub fn announce(&self, prepared: &Prepared, is_reported: bool) {
        self.print_client_warnings();
        let failed: Vec<String> = prepared
            .failures
            .iter()
            .map(|failure| format!("{}: {}", failure.name, chain(&*failure.error)))
            .collect();
        if !failed.is_empty() && !is_reported {
            self.printer.warning("could not be had", &failed);
        }
        for warning in &prepared.warnings {
            self.printer.warning(&warning.cause, &warning.items);
        }
        if let Some(age) = prepared.resumed {
            self.printer.note(&format!("going on with the plan that was made {} ago", duration(age)));
        }
    }

    /// Carries a plan out and tells what came of it.
    pub fn carry(
        &self,
        mut prepared: Prepared,
        output: &Output,
        jobs: usize,
        began: Instant,
        making: Option<&Making>,
    ) -> Result<Carried, Failure> {
        let (verb, printer) = (self.verb, self.printer);
        let failures: Vec<(String, String)> = prepared
            .failures
            .iter()
            .map(|failure| (failure.name.to_string(), chain(&*failure.error)))
            .collect();
        self.announce(&prepared, !self.args.dry_run);
        if let Err(failure) = self.args.facts.judge(&prepared, printer) {
            prepared.give_up();
            return Err(failure);
        }
        if self.args.dry_run {
            return Ok(Carried { code: print_plan(verb, &prepared, &failures, printer), path: None });
        }
        let patches = self.make_patches(&mut prepared, making)?;
        // A bundle that says itself what it lacks may be there already.
        let unchanged = if failures.is_empty() { 0 } else { SOME_FAILED };
        let (images, summary) = (prepared.graph.images.len(), prepared.summary.clone());
        let bars = Bars::new(printer, "packing");
        let outcome = prepared.write(&bars);
        bars.clear();
        self.print_client_warnings();
        match outcome.map_err(|error| self.resumable(error, output))? {
            Outcome::Unchanged { path, .. } if !self.tells => {
                Ok(Carried { code: unchanged, path: Some(path) })
            }
            Outcome::Unchanged { path, id, state } => {
                printer.line(&format!("NOTHING CHANGED: {} is this bundle already ({id})", path.display()));
                printer.line(&format!("  state    {state}"));
                let failed: Vec<String> =
                    failures.iter().map(|(name, why)| format!("{name}: {why}")).collect();
                if !failed.is_empty() {
                    printer.warning("could not be had", &failed);
                }
                printer.document(
                    verb,
                    unchanged,
                    json!({
                        "outcome": "NOTHING CHANGED",
                        "file": path,
                        "bundle": id,
                        "state": state,
                        "failed": failed,
                    }),
                );
                Ok(Carried { code: unchanged, path: Some(path) })
            }
            Outcome::Written { path, written } => {
                if self.args.read_back {
                    super::verify::read_back(&path, jobs, printer)?;
                }
                let whole = written.record.images.len();
                let report = Report {
                    verb,
                    path: &path,
                    written: &written,
                    summary: &summary,
                    images,
                    began,
                    failures: &failures,
                    patches: &patches,
                    push: self.args.facts.push(&path.display().to_string()),
                };
                let code = if written.gaps.is_empty() && failures.is_empty() {
                    if self.tells {
                        report.print(printer, "DONE", whole);
                    }
                    0
                } else {
                    report.warn(printer);
                    if self.tells {
                        report.print_partial(printer, whole);
                    }
                    SOME_FAILED
                };
                Ok(Carried { code, path: Some(path) })
            }
        }
    }

    /// Says of a failed run that it can be taken up again.
    fn resumable(&self, error: PackError, output: &Output) -> Failure {
        let is_about_the_source =
            matches!(&error, PackError::Transfer(barge::transfer::TransferError::Blob { .. }));
        let failure = Failure::from(error);
        match output {
            Output::Archive(path) if is_about_the_source => {
                let failure = failure.hint(format!(
                    "what was fetched is kept in {}.partial; the same command goes on from there",
                    path.display()
                ));
                if self.args.keep_going {
                    failure
                } else {
                    failure.hint("--keep-going packs the other images")
                }
            }
            _ => failure,
        }
    }
}

/// Reads `-o`.
pub fn output(text: Option<&str>, args: &CarryArgs) -> Result<Output, Failure> {
    let text = match text {
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
