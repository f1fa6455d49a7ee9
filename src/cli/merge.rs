//! `barge merge`.

use std::sync::Arc;

use barge::bundle::chain::Unfollowed;
use barge::pack::{Asked, HoldsNothing, Leftover, Relied};

use super::args::parse_jobs;
use super::bundles::{not_followed, note_failed, open_chain, sources, wishes};
use super::carry::{Carrier, CarryArgs, output};
use super::failure::Failure;
use super::printer::{Printer, typed};
use super::work::WorkArgs;

/// Makes one bundle of several that follow each other: of a full one and deltas a full one, of deltas alone a longer
/// delta.
///
/// The bundles may be named in any order. Under a name that several have, the image of the last one stands; names that
/// are no longer wanted are dropped, and all content that no image needs.
#[derive(clap::Args)]
pub struct Args {
    /// The bundles, in any order
    #[arg(value_name = "BUNDLE", required = true, num_args = 1..)]
    bundles: Vec<String>,
    /// Where the bundle goes: a file, a folder (the file gets a name of its own there), or oci:DIR for a layout
    #[arg(long, short, value_name = "OUTPUT")]
    output: Option<String>,
    /// Takes only this image, or all tags of this repository; repeatable
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    #[command(flatten)]
    carry: CarryArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// How many copies at once
    #[arg(long, short, value_name = "N", default_value_t = 8, value_parser = parse_jobs)]
    jobs: usize,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    merge(args, printer).map_err(|failure| failure.of("merge"))
}

fn merge(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let output = output(args.output.as_deref(), &args.carry)?;
    args.carry.facts.check()?;
    let chain = open_chain(&args.bundles, None)?;
    note_failed(&chain, printer);
    let (union, wishes) = wishes(&chain, &args.image, args.work.workshop()?)?;
    let all_deltas = chain.is_all_deltas();
    let command = |name: &str| format!("{} {name}", typed());
    let bases = chain.bases.clone();
    // Deltas alone make a longer delta on what the first of them builds on; the others must follow from it.
    let between: Vec<Unfollowed> = chain.unfollowed_between();
    if all_deltas && !between.is_empty() {
        let failure = Failure::usage("the bundles do not follow each other: one between them is missing");
        return Err(not_followed(&between, Failure { kind: "base-not-given", ..failure }, &command));
    }
    let removed = chain.removed.clone();
    let relied = Relied {
        bases,
        holds: Arc::new(HoldsNothing),
        removed: Box::new(move |_| removed.clone()),
        leftover: if all_deltas { Leftover::Kept } else { Leftover::Refused },
    };
    let mut options = args.carry.options(output, args.jobs);
    // What the bundles have is taken; what they left out stays left out.
    options.wanted.foreign_layers = true;
    let mut arguments: Vec<String> =
        chain.bundles.iter().filter_map(|bundle| bundle.id()).map(|id| format!("merge {id}")).collect();
    arguments.extend(args.image.iter().map(|name| format!("image {name}")));
    let asked = Asked {
        sources: sources(&union),
        wishes,
        union: Some(union),
        relied: all_deltas.then_some(relied),
        arguments,
        ..Asked::default()
    };
    if !all_deltas && !chain.unfollowed.is_empty() {
        let items = chain.unfollowed.iter().map(|one| {
            let base = one.base.name.as_deref().unwrap_or("a bundle without a name");
            format!("{} follows {base} ({})", one.bundle, one.base.id.short())
        });
        let items: Vec<String> = items.collect();
        printer.warning("not given; images that only that one has will not be in the result", &items);
    }
    let carrier = Carrier { verb: "merge", args: &args.carry, client: None, printer, tells: true };
    let carried = carrier.run(asked, options, None);
    carried.map(|carried| carried.code).map_err(|failure| match failure.kind {
        "base-not-given" => not_followed(&chain.unfollowed, failure, &command),
        _ => failure,
    })
}
