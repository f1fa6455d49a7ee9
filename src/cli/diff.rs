//! `barge diff`.

mod each;
mod target;

use std::sync::Arc;
use std::time::Instant;

use barge::base::{Comparison, FarSide, compare_inventory};
use barge::pack::{Leftover, Output, Prepared, Relied};
use barge::store::registry::Client;
use serde_json::json;

use super::args::RegistryArgs;
use super::base::JoinArgs;
use super::bundles::not_followed;
use super::carry::{Carrier, CarryArgs, output, print_removed};
use super::failure::{Failure, SOME_FAILED};
use super::fill::FillArgs;
use super::patches::PatchArgs;
use super::printer::{Printer, bytes, clean, counted, typed};
use target::Target;

/// How many names are listed before the rest is counted.
const SHOWN: usize = 20;

/// Packs what a site lacks of what it should have, or only says what that is.
///
/// BASE is what the site has: an inventory, a receipt, a bundle or its sidecar, a layout, or a registry. TARGET is what it
/// should have: bundles, a layout, a registry, repositories or images; without -o an inventory too. Without -o nothing is
/// written.
#[derive(clap::Args)]
pub struct Args {
    /// BASE, then TARGET…; with --each the sites' bases, then TARGET; with --request only TARGET…; with -f no TARGET
    #[arg(value_name = "BASE|TARGET", num_args = 0..)]
    arguments: Vec<String>,
    /// Where the bundle goes: a file, a folder (the file gets a name of its own there), or oci:DIR for a layout
    #[arg(long, short, value_name = "OUTPUT")]
    output: Option<String>,
    /// A further base: what the site has too; repeatable
    #[arg(long, value_name = "BASE")]
    base: Vec<String>,
    /// Takes only this image of the target, or all tags of this repository; repeatable
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    /// Takes every argument but the last for a site, and makes one bundle for each state that sites are in
    #[arg(long)]
    each: bool,
    /// Exits with 1 if anything differs
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    fill: FillArgs,
    #[command(flatten)]
    carry: CarryArgs,
    #[command(flatten)]
    join: JoinArgs,
    #[command(flatten)]
    patches: PatchArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    diff(args, printer).map_err(|failure| failure.of("diff"))
}

fn diff(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    args.carry.facts.check()?;
    let orders = args.fill.read()?;
    let attachments = orders.attachments(args.carry.attachments(), "--attachments")?;
    let client = args.registry.client_with(orders.rules()?)?;
    if args.each {
        if !orders.is_empty() {
            return Err(Failure::usage("--each does not go with -f")
                .hint("pack the files into a bundle first: that is a target"));
        }
        return each::run(args, &client, printer);
    }
    let request = args.join.request()?;
    let (bases, targets) = args.arguments.split_at(args.arguments.len().min(usize::from(request.is_none())));
    if bases.is_empty() && request.is_none() {
        return Err(Failure::usage("name what the site has and what it should have: BASE TARGET"));
    }
    if !targets.is_empty() && !orders.is_empty() {
        return Err(Failure::usage(format!(
            "with -f the files are the target, and `{}` is one too",
            targets[0]
        ))
        .hint("further bases go with --base"));
    }
    if targets.is_empty() && orders.is_empty() {
        return Err(Failure::usage("name what the site has and what it should have: BASE TARGET"));
    }
    let bases: Vec<String> = bases.iter().chain(&args.base).cloned().collect();
    let far_side = args.join.far_side(&bases, request.as_ref(), &client, args.registry.jobs, printer)?;
    let target = match orders.is_empty() {
        true => Target::open(targets, &args.image, &client, printer)?,
        false => Target::of_files(&orders, attachments, args, &client, printer)?,
    };
    let far_side = Arc::new(far_side);
    if let Target::Inventory(wanted) = &target {
        if args.output.is_some() {
            return Err(Failure::usage("an inventory holds no content to pack")
                .hint("name the registry, or the bundles, that it was taken of"));
        }
        let comparison = compare_inventory(&far_side, wanted, &args.image);
        return Ok(print_comparison(&comparison, &wanted.state, args, None, printer));
    }
    let mut asked = target.asked(args)?;
    asked.relied = Some(relied(&far_side, &target, args));
    asked.request.clone_from(&request);
    let began = Instant::now();
    let explain = |failure: Failure| match (failure.kind, &target) {
        ("base-not-given", Target::Bundles(chain)) => {
            not_followed(&chain.unfollowed, failure, &|name| format!("{} {name}", typed()))
        }
        _ => failure,
    };
    let carrier = Carrier { verb: "diff", args: &args.carry, client: Some(&client), printer, tells: true };
    let Some(output_text) = args.output.as_deref() else {
        let options = target.options(args, Output::Nowhere);
        let prepared = Prepared::of(asked, options).map_err(|error| explain(error.into()))?;
        carrier.announce(&prepared, false);
        args.carry.facts.judge(&prepared, printer)?;
        let comparison = far_side.compare(&prepared.graph, prepared.removed());
        let next = format!("{} -o FILE.barge", typed());
        let code = print_comparison(&comparison, &prepared.state(), args, Some(next), printer);
        return Ok(if prepared.failures.is_empty() { code } else { SOME_FAILED });
    };
    let output = output(Some(output_text), &args.carry)?;
    let options = target.options(args, output.clone());
    let jobs = options.jobs;
    super::interrupt::says("the same command goes on where it stopped");
    let maker = match request {
        None if !args.carry.dry_run => args.patches.maker(&bases, &far_side, &asked, &client)?,
        _ => None,
    };
    let prepared = Prepared::of(asked, options).map_err(|error| explain(error.into()))?;
    let comparison = far_side.compare(&prepared.graph, prepared.removed());
    let carried = carrier.carry_patched(prepared, &output, jobs, began, maker.as_ref())?;
    Ok(if carried.code == 0 && args.exit_code && comparison.differs() { SOME_FAILED } else { carried.code })
}

/// Says what the far side is taken to have, and which of its names are no longer wanted.
fn relied(far_side: &Arc<FarSide>, target: &Target, args: &Args) -> Relied {
    let (compared, covered) = (far_side.clone(), target.coverage(&args.image));
    Relied {
        bases: far_side.entries.clone(),
        holds: far_side.clone(),
        removed: Box::new(move |graph| compared.removed(graph, &*covered)),
        leftover: Leftover::Refused,
    }
}

/// Says what differs; returns the exit code.
fn print_comparison(
    comparison: &Comparison,
    state: &str,
    args: &Args,
    next: Option<String>,
    printer: &Printer,
) -> u8 {
    let differs = comparison.differs();
    let code = if args.exit_code && differs { SOME_FAILED } else { 0 };
    let total = comparison.new.len() + comparison.changed.len() + comparison.widened.len() + comparison.same;
    let (all, lacking) = (counted(total, "image"), total - comparison.same);
    match (lacking, comparison.removed.len()) {
        (0, 0) => printer.line(&format!("NOTHING CHANGED: the base has all of {all}")),
        (0, gone) => printer.line(&format!("DONE: the base has all of {all}, and {gone} no longer wanted")),
        _ => printer.line(&format!("DONE: the base lacks something of {lacking} of {all}")),
    }
    let known = comparison.changed.len() + comparison.widened.len() + comparison.same;
    if known == 0 && !comparison.removed.is_empty() {
        let told = "the order is BASE, what the site has, then TARGET, what it should have".to_owned();
        printer.warning("no name of the base is among those of the target", &[told]);
    }
    let lists =
        [("new", &comparison.new), ("changed", &comparison.changed), ("widened", &comparison.widened)];
    for (what, names) in lists {
        for name in names.iter().take(SHOWN) {
            printer.line(&format!("  {what:8} {}", clean(name)));
        }
        if names.len() > SHOWN {
            printer.line(&format!("  {what:8} and {} more (all with --json)", names.len() - SHOWN));
        }
    }
    print_removed(&comparison.removed, printer);
    let amount = |amount: &barge::base::Amount, noun: &str| {
        format!("{}, {}", counted(amount.count as usize, noun), bytes(amount.bytes))
    };
    printer.line(&format!(
        "  to send  {}; {}",
        amount(&comparison.blobs, "blob"),
        amount(&comparison.manifests, "manifest")
    ));
    printer.line(&format!("  relies on {}, that the far side has", amount(&comparison.relied, "blob")));
    printer.line(&format!("  state    {state}, what push should read back"));
    if let (true, Some(next)) = (differs, next) {
        printer.line(&format!("next: {next}"));
    }
    let mut document = json!({ "outcome": if differs { "DONE" } else { "NOTHING CHANGED" }, "state": state });
    document["comparison"] = json!(comparison);
    printer.document("diff", code, document);
    code
}

/// Loads a site's base by itself.
fn site(text: &str, args: &Args, client: &Client, printer: &Printer) -> Result<FarSide, Failure> {
    args.join.far_side(std::slice::from_ref(&text.to_owned()), None, client, args.registry.jobs, printer)
}
