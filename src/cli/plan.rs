//! `barge plan`.

use std::path::PathBuf;

use barge::emit::{Context, Leg, Options, Places, Plan, PlanError, Written, json, mapping, regsync, skopeo};
use barge::input::Opened;
use barge::oci::Platform;
use barge::pack::{Asked, HoldsNothing, Leftover, Options as Packing, Output, Prepared, Relied, Warning};
use barge::push::sparse::Policy;
use barge::select::{Attachments, Wanted};
use barge::store::registry::Rule;
use serde_json::json;

use super::args::{RegistryArgs, parse_platform};
use super::failure::{BAD_INPUT, Failure, SOME_FAILED};
use super::fill::{FillArgs, Named, Orders, announce, asked};
use super::naming::{NamingArgs, destination};
use super::print_client_warnings;
use super::printer::{Printer, counted};

/// Writes down the work for another tool, and does none of it.
///
/// Names are resolved and manifests read; nothing is transferred, and the target is not asked. Standard output has the
/// text; what the format can't say is told on standard error.
#[derive(clap::Args)]
pub struct Args {
    /// What to copy, as for pack: [NAME=]SOURCE
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    fill: FillArgs,
    /// Copies what a list names: one image a line, `#` starts a comment
    #[arg(long, value_name = "LIST")]
    from_file: Vec<PathBuf>,
    /// Copies every tag of a repository
    #[arg(long, value_name = "REPOSITORY")]
    all_tags: Vec<String>,
    /// The registry where everything goes, and the path below it: HOST[:PORT][/PREFIX]
    #[arg(long, value_name = "REGISTRY")]
    to: String,
    /// What to write
    #[arg(long, value_enum)]
    format: FormatArg,
    /// Writes one half of the way through a folder; run it once for each, with the same arguments
    #[arg(long, value_enum)]
    leg: Option<LegArg>,
    /// Platforms to copy, e.g. linux/amd64,linux/arm/v7; all without it
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',', value_parser = parse_platform)]
    platform: Vec<Platform>,
    /// Leaves out signatures, attestations, SBOMs and other referrers
    #[arg(long)]
    no_attachments: bool,
    /// What goes under the tag of an image of which platforms are left out
    #[arg(long, value_enum)]
    sparse: Option<SparseArg>,
    /// Plans what can be had when some images fail
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    names: NamingArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// A mapping file of `oc image mirror -f`, as ibm-pak has it too
    Mapping,
    /// A shell script of `skopeo copy` lines
    Skopeo,
    /// A configuration of regsync
    Regsync,
    /// Everything, for programs
    Json,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LegArg {
    /// From the sources into a folder
    ToFilesystem,
    /// From the folder to the target
    FromFilesystem,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SparseArg {
    /// The exact index, as it is without this option
    Require,
    /// The one platform that is left
    Single,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    plan(args, printer).map_err(|failure| failure.of("plan"))
}

fn plan(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let naming = args.names.naming(destination(&args.to)?, None);
    let has_legs = matches!(args.format, FormatArg::Mapping | FormatArg::Skopeo);
    if args.leg.is_some() && !has_legs {
        return Err(Failure::usage("--leg is for --format mapping and --format skopeo"));
    }
    let orders = args.fill.read()?;
    let attachments =
        orders.attachments(args.no_attachments.then_some(Attachments::None), "--no-attachments")?;
    let sparse = sparse(args, &orders)?;
    let rules = orders.rules()?;
    let client = args.registry.client_with(rules.clone())?;
    let named = Named { images: &args.images, lists: &args.from_file, all_tags: &args.all_tags };
    let opened = orders.open(named, &args.platform, &client)?.finish()?;
    announce(&opened, printer);
    let warnings = opened.warnings.clone();
    let places = Places::of(&opened)?;
    let options = Options { naming, sparse, said: opened.said.clone() };
    let prepared = prepare(args, opened, attachments)?;
    print_client_warnings(&client, printer);
    let mut plan = Plan::of(&prepared, &places, &options).map_err(|error| failure_of(&error))?;
    for rule in rules.iter().filter(|rule| !rule.mirrors.is_empty()) {
        let cause = "read through mirrors here; the other tool has to know of them itself";
        plan.notes.add(cause, rule.prefix.clone());
    }
    note_access(args, &rules, &mut plan);
    // These were told when they came up, and belong to the document too.
    for (cause, items) in &warnings {
        for item in items {
            plan.notes.add(cause.clone(), item.clone());
        }
    }
    let tell = |notes: &[Warning]| {
        for note in notes.iter().filter(|note| warnings.iter().all(|(cause, _)| *cause != note.cause)) {
            printer.warning(&note.cause, &note.items);
        }
    };
    let mut code = if plan.failed.is_empty() { 0 } else { SOME_FAILED };
    let failed: Vec<String> = plan.failed.iter().map(|(image, why)| format!("{image}: {why}")).collect();
    if !failed.is_empty() {
        printer.warning("could not be had", &failed);
    }
    let is_insecure = |host: &str| client.is_insecure(host);
    let leg = match args.leg {
        None => Leg::Whole,
        Some(LegArg::ToFilesystem) => Leg::ToFilesystem,
        Some(LegArg::FromFilesystem) => Leg::FromFilesystem,
    };
    let (auth_file, cert_dir, _) = args.registry.given();
    let context = Context { leg, insecure: &is_insecure, auth_file, cert_dir };
    let written = match args.format {
        FormatArg::Json => {
            let document = json::document(&plan);
            tell(&plan.notes.clone().finish());
            // One document, whether --json is given or not.
            printer.raw(format!("{document:#}\n").as_bytes());
            return Ok(code);
        }
        FormatArg::Mapping => mapping::write(&plan, &context),
        FormatArg::Skopeo => skopeo::write(&plan, &context),
        FormatArg::Regsync => regsync::write(&plan, &context),
    };
    let written = written.map_err(|error| failure_of(&error))?;
    tell(&written.notes);
    if !written.left_out.is_empty() {
        code = SOME_FAILED;
    }
    print(&written, code, &failed, printer);
    Ok(code)
}

/// Notes how sources are reached that the other tool does not know of.
fn note_access(args: &Args, rules: &[Rule], plan: &mut Plan) {
    let (auth_file, cert_dir, has_credentials) = args.registry.given();
    let is_skopeo = args.format == FormatArg::Skopeo;
    let takes_auth_file = is_skopeo || args.format == FormatArg::Mapping;
    for (flag, is_lost) in [
        ("--creds", has_credentials),
        ("--authfile", auth_file.is_some() && !takes_auth_file),
        ("--cert-dir", cert_dir.is_some() && !is_skopeo),
    ] {
        if is_lost {
            plan.notes.add("was given to barge; the other tool needs its own", flag);
        }
    }
    for rule in rules.iter().filter(|rule| rule.auth_file.is_some() || rule.cert_dir.is_some()) {
        let cause =
            "is reached with credentials or certificates that a file names; the other tool needs its own";
        plan.notes.add(cause, rule.prefix.clone());
    }
}

/// Returns what goes under the tag of an image of which platforms are left out.
fn sparse(args: &Args, orders: &Orders) -> Result<Policy, Failure> {
    match args.sparse {
        Some(SparseArg::Require) => Ok(Policy::Require),
        Some(SparseArg::Single) => Ok(Policy::Single),
        None => match orders.sparse(false)?.unwrap_or_default() {
            Policy::Rewrite => Err(Failure::usage("no other tool rewrites an index, as the file asks for")
                .hint("--sparse require plans the exact index, --sparse single one platform in its place")),
            policy => Ok(policy),
        },
    }
}

/// Surveys what was opened, as a pack would that writes nothing.
fn prepare(args: &Args, opened: Opened, attachments: Attachments) -> Result<Prepared, Failure> {
    // What a delta bundle builds on is the business of whoever has it: only that it lacks something counts here.
    let is_delta =
        |bundle: &barge::bundle::Bundle| bundle.record().is_some_and(|record| record.base.is_some());
    let relied = opened.bundles.values().any(|bundle| is_delta(bundle)).then(|| Relied {
        bases: Vec::new(),
        holds: std::sync::Arc::new(HoldsNothing),
        removed: Box::new(|_| std::collections::BTreeSet::new()),
        leftover: Leftover::Kept,
    });
    let options = Packing {
        // Other tools have their own ways with layers of which the type says that they may not be redistributed.
        wanted: Wanted { platforms: args.platform.clone(), foreign_layers: true },
        strict_platforms: false,
        attachments,
        keep_going: args.keep_going,
        jobs: args.registry.jobs,
        max_size: None,
        restart: false,
        output: Output::Nowhere,
    };
    Ok(Prepared::of(Asked { relied, ..asked(opened) }, options)?)
}

fn print(written: &Written, code: u8, failed: &[String], printer: &Printer) {
    if !printer.is_json() {
        printer.raw(written.text.as_bytes());
    }
    printer.note(&format!(
        "{} and {} in the plan; nothing was transferred",
        counted(written.images, "image"),
        counted(written.attached, "attachment")
    ));
    if !written.left_out.is_empty() {
        let count = counted(written.left_out.len(), "image");
        printer.note(&format!("PARTIAL: {count} of what was asked for left out: see the warnings above"));
    }
    printer.note(&format!("next: {}", written.command));
    printer.document(
        "plan",
        code,
        json!({
            "plan": written.text,
            "images": written.images,
            "attached": written.attached,
            "failed": failed,
            "leftOut": written.left_out,
            "notes": written.notes,
            "next": written.command,
        }),
    );
}

fn failure_of(error: &PlanError) -> Failure {
    match error {
        PlanError::Naming(_) => {
            Failure::new(2, "naming", error).hint("--map SOURCE=TARGET gives other names")
        }
        PlanError::Collision { .. } => Failure::new(BAD_INPUT, "name-clash", error).hint(
            "--map SOURCE=TARGET gives one of them another name, --strip-registry=false keeps the hosts apart",
        ),
        PlanError::SeveralPlatforms { .. } => Failure::new(BAD_INPUT, "platform", error)
            .hint("name one with --platform, or leave out --sparse single"),
        PlanError::NothingToSay { notes, .. } => {
            let mut failure = Failure::new(BAD_INPUT, "nothing-to-say", error);
            failure.causes = notes
                .iter()
                .filter(|note| note.cause.starts_with("left out"))
                .flat_map(|note| note.items.iter().take(5).map(move |item| format!("{item}: {}", note.cause)))
                .collect();
            failure
        }
        PlanError::Spool(_) => Failure::new(BAD_INPUT, "local", error),
    }
}
