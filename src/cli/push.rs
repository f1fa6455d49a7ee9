//! `barge push` and `barge mirror`.

mod fault;
mod job;
mod papers;
mod print;
mod target;

use std::path::PathBuf;
use std::sync::Arc;

use barge::bundle::Bundle;
use barge::graph::survey::Wish;
use barge::input::{Opener, parse_argument, read_list};
use barge::oci::{Platform, Reference};
use barge::push::names::Destination;
use barge::push::source::{Everything, Held, Union};
use barge::select::{Attachments, Wanted};
use barge::store::Source;

use self::job::Job;
use self::papers::{PaperArgs, Papers};
use self::target::{TargetArgs, destination};
use super::args::{RegistryArgs, parse_platform};
use super::failure::Failure;
use super::printer::{Printer, quoted};

/// Pushes bundles into a registry.
///
/// Several bundles are one source, in any order. Nothing is written before all of them fit together; content goes
/// first, tags last, so that no image is ever half there. The same command goes on where an interrupted one stopped.
#[derive(clap::Args)]
pub struct PushArgs {
    /// The bundles, then the registry: BUNDLE… HOST[:PORT][/PREFIX]
    #[arg(value_name = "BUNDLE|REGISTRY", required = true, num_args = 2..)]
    arguments: Vec<String>,
    /// Pushes only this image; repeatable
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    #[command(flatten)]
    papers: PaperArgs,
    #[command(flatten)]
    target: TargetArgs,
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
    let mut bundles = Vec::new();
    for file in files {
        let path = file.strip_prefix("oci-archive:").or_else(|| file.strip_prefix("oci:")).unwrap_or(file);
        let bundle = Bundle::open(path.as_ref())?;
        if let Some(fault) = bundle.fault() {
            let failure = Failure::usage(format!("{file}: {fault}"));
            if !args.target.keep_going {
                return Err(Failure { code: super::failure::BAD_INPUT, kind: "damaged", ..failure }
                    .hint("--keep-going pushes the images that are whole")
                    .next(format!("barge verify {} --request resend.json", quoted(file))));
            }
            printer.warning("the bundle is damaged", &[failure.message]);
        }
        bundles.push(Arc::new(bundle));
    }
    let wishes = wishes_of(&bundles, &args.image)?;
    let failed: Vec<String> = bundles
        .iter()
        .filter_map(|bundle| bundle.record())
        .flat_map(|record| record.failed.iter().map(|failed| failed.name.to_string()))
        .collect();
    if !failed.is_empty() {
        printer.warning("not in the bundle, because it could not be had when it was packed", &failed);
    }
    let union = Arc::new(Union::new(bundles));
    let select = Held(&union);
    let sources: Vec<Arc<dyn Source>> = vec![union.clone()];
    let job = Job {
        verb: "push",
        command: format!(
            "barge push {}",
            args.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        ),
        sources,
        wishes,
        select: &select,
        attachments: Attachments::All,
        naming: args.target.naming(destination, None),
        target: &args.target,
        client: args.registry.client()?,
        jobs: args.registry.jobs,
        known: &*union,
        papers: Some(Papers { args: &args.papers, union: &union, files, target }),
    };
    job.run(printer)
}

/// Returns what the bundles hold by name. A name in several bundles means what the last one says.
fn wishes_of(bundles: &[Arc<Bundle>], only: &[String]) -> Result<Vec<Wish>, Failure> {
    let mut by_name: std::collections::BTreeMap<String, Wish> = std::collections::BTreeMap::new();
    for bundle in bundles {
        for (name, descriptor) in bundle.names()? {
            let reference = name.as_deref().and_then(|name| name.parse::<Reference>().ok());
            let is_attached =
                |reference: &Reference| reference.tag.as_deref().is_some_and(barge::input::is_attached_tag);
            let Some(name) = reference.filter(|reference| !is_attached(reference)) else { continue };
            let name = name.with_default_tag();
            let selector = descriptor.digest.to_string();
            let entry = bundle.record().and_then(|record| {
                record.images.iter().find(|image| image.root == descriptor.digest && image.name == name)
            });
            let reference = entry.and_then(|image| image.reference.clone());
            by_name.insert(name.to_string(), Wish { name, reference, source: 0, selector });
        }
    }
    let mut chosen = Vec::new();
    for wanted in only {
        let full = wanted.parse::<Reference>().map(|reference| reference.with_default_tag().to_string());
        let found = by_name.get(wanted).or_else(|| by_name.get(full.as_deref().unwrap_or_default()));
        let Some(wish) = found else {
            let mut failure = Failure::usage(format!("the bundle holds no image {wanted}"));
            (failure.code, failure.kind) = (super::failure::BAD_INPUT, "no-image");
            failure.hints = by_name.keys().take(10).map(|name| format!("it holds {name}")).collect();
            return Err(failure);
        };
        chosen.push(wish.clone());
    }
    Ok(if only.is_empty() { by_name.into_values().collect() } else { chosen })
}

fn mirror(args: &MirrorArgs, printer: &Printer) -> Result<u8, Failure> {
    let Some((target, images)) = args.arguments.split_last() else {
        return Err(Failure::usage("name the images, then the target"));
    };
    let client = args.registry.client()?;
    let mut opener = Opener::new(&client);
    for text in images {
        opener.add(&parse_argument(text)?)?;
    }
    for list in &args.from_file {
        for argument in read_list(list)? {
            opener.add(&argument)?;
        }
    }
    let opened = opener.finish();
    for note in &opened.notes {
        printer.note(&format!("note: {note}"));
    }
    let exact = match target.strip_prefix("docker://").unwrap_or(target) {
        text if opened.wishes.len() == 1 && text.contains('/') && !text.ends_with('/') => {
            Some(text.parse::<Reference>().map_err(|error| Failure::new(2, "input", &error))?)
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
        attachments: if args.no_attachments { Attachments::None } else { Attachments::All },
        naming: args.target.naming(destination, exact),
        target: &args.target,
        client,
        jobs: args.registry.jobs,
        known: &Everything,
        papers: None,
    };
    job.run(printer)
}
