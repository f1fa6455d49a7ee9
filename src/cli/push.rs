//! `barge push` and `barge mirror`.

mod fault;
mod job;
mod papers;
mod print;
mod target;

use std::path::PathBuf;

use barge::bundle::Held;
use barge::input::{InputError, SaidAt};
use barge::oci::reference::shown;
use barge::oci::{Platform, Reference};
use barge::push::names::Destination;
use barge::push::source::Everything;
use barge::select::{Attachments, Wanted};

use self::job::Job;
use self::papers::{PaperArgs, Papers};
use self::target::TargetArgs;
use super::args::{RegistryArgs, parse_platform};
use super::bundles::{note_failed, open_chain, sources, wishes};
use super::failure::Failure;
use super::fill::{FillArgs, Named, announce};
use super::naming::destination;
use super::printer::{Printer, quoted};
use super::work::WorkArgs;

/// Pushes bundles into a registry.
///
/// Several bundles are one source, in any order. Nothing is written before all of them fit together; content goes
/// first, tags last, so that no image is ever half there. The same command goes on where an interrupted one stopped.
#[derive(clap::Args)]
pub struct PushArgs {
    /// The bundles, then the registry: BUNDLE… HOST[:PORT][/PREFIX]
    #[arg(value_name = "BUNDLE|REGISTRY", required = true, num_args = 2..)]
    arguments: Vec<String>,
    /// Pushes only this image, or all tags of this repository; repeatable
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    #[command(flatten)]
    papers: PaperArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Copies images from registry to registry, through memory only.
///
/// With one image, a target with a path names the repository it becomes (HOST/REPOSITORY[:TAG]); with several, or with
/// a slash at its end, everything goes below it under its own name.
#[derive(clap::Args)]
pub struct MirrorArgs {
    /// The images, then the target: [NAME=]IMAGE… TARGET
    #[arg(value_name = "IMAGE|TARGET", required = true, num_args = 1..)]
    arguments: Vec<String>,
    /// Mirrors what a list names too
    #[arg(long, value_name = "LIST")]
    from_file: Vec<PathBuf>,
    #[command(flatten)]
    fill: FillArgs,
    /// Platforms to mirror, e.g. linux/amd64,linux/arm/v7; all without it
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',', value_parser = parse_platform)]
    platform: Vec<Platform>,
    /// Leaves out signatures, attestations, SBOMs and other referrers
    #[arg(long)]
    no_attachments: bool,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs `push`.
pub fn run_push(args: &PushArgs, printer: &Printer) -> Result<u8, Failure> {
    push(args, printer).map_err(|failure| failure.of("push"))
}

/// Runs `mirror`.
pub fn run_mirror(args: &MirrorArgs, printer: &Printer) -> Result<u8, Failure> {
    mirror(args, printer).map_err(|failure| failure.of("mirror"))
}

fn push(args: &PushArgs, printer: &Printer) -> Result<u8, Failure> {
    let Some((target, files)) = args.arguments.split_last() else {
        return Err(Failure::usage("name the bundles, then the registry"));
    };
    let destination = destination(target)?;
    let chain =
        open_chain(files, args.target.keep_going.then_some(printer)).map_err(|failure| {
            match failure.kind {
                "damaged" => failure
                    .hint("--keep-going pushes what is whole; together with a top-up that may be everything"),
                _ => failure,
            }
        })?;
    note_failed(&chain, printer);
    let workshop = args.work.workshop()?;
    let (union, wishes) = wishes(&chain, &args.image, workshop.clone())?;
    let select = Held(&union);
    let job = Job {
        verb: "push",
        command: format!(
            "barge push {}",
            args.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        ),
        sources: sources(&union),
        wishes,
        select: &select,
        attachments: Attachments::All,
        sparse: None,
        changed: union
            .bundles()
            .iter()
            .filter_map(|bundle| bundle.record())
            .flat_map(|record| record.digest_map.iter().cloned())
            .collect(),
        said: SaidAt::default(),
        naming: args.target.naming(destination, None),
        target: &args.target,
        client: args.registry.client()?,
        jobs: args.registry.jobs,
        known: &*union,
        workshop,
        papers: Some(Papers { args: &args.papers, chain: &chain, union: &union, files, target }),
    };
    job.run(printer)
}

fn mirror(args: &MirrorArgs, printer: &Printer) -> Result<u8, Failure> {
    let Some((target, images)) = args.arguments.split_last() else {
        return Err(Failure::usage("name the images, then the target"));
    };
    let orders = args.fill.read()?;
    let attachments =
        orders.attachments(args.no_attachments.then_some(Attachments::None), "--no-attachments")?;
    let sparse = orders.sparse(args.target.sparse.is_some())?;
    let client = args.registry.client_with(orders.rules()?)?;
    let named = Named { images, lists: &args.from_file, ..Named::default() };
    let opened = orders.open(named, &args.platform, &client)?.finish()?;
    announce(&opened, printer);
    let exact = match target.strip_prefix("docker://").unwrap_or(target) {
        text if opened.wishes.len() == 1
            && orders.is_empty()
            && text.contains('/')
            && !text.ends_with('/') =>
        {
            Some(text.parse::<Reference>().map_err(|error| InputError::Reference(shown(text), error))?)
        }
        _ => None,
    };
    let destination = match &exact {
        Some(exact) => Destination { registry: exact.name.registry.clone(), prefix: String::new() },
        None => destination(target)?,
    };
    let select = Wanted { platforms: args.platform.clone(), foreign_layers: false };
    let job = Job {
        verb: "mirror",
        command: format!(
            "barge mirror {}",
            args.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        ),
        sources: opened.sources,
        wishes: opened.wishes,
        select: &select,
        attachments,
        sparse,
        changed: opened.changed,
        said: opened.said,
        naming: args.target.naming(destination, exact),
        target: &args.target,
        client,
        jobs: args.registry.jobs,
        known: &Everything,
        workshop: std::sync::Arc::default(),
        papers: None,
    };
    job.run(printer)
}
