//! `barge diff --each`: one bundle for each state that sites are in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use barge::base::FarSide;
use barge::input::pin;
use barge::inventory::Inventory;
use barge::oci::Digest;
use barge::pack::{Output, Prepared};
use barge::store::registry::Client;
use serde_json::json;

use super::target::Target;
use super::{Args, relied, site};
use crate::cli::carry::{Carrier, duration};
use crate::cli::failure::{BAD_INPUT, Failure};
use crate::cli::printer::{Printer, bytes};

/// A site.
struct Site {
    /// What its base was named as.
    name: String,
    /// State code of its base.
    state: String,
    /// How old what is known of it is.
    age: String,
    /// By which sites in the same state are known.
    id: Digest,
}

/// A bundle that was made.
struct Made {
    file: String,
    length: u64,
    expected: String,
}

/// Makes the bundles.
pub fn run(args: &Args, client: &Client, printer: &Printer) -> Result<u8, Failure> {
    let Some((target, sites)) = args.arguments.split_last().filter(|(_, sites)| !sites.is_empty()) else {
        return Err(Failure::usage("name the sites' inventories or receipts, then the target"));
    };
    if args.join.is_request() || args.exit_code || !args.base.is_empty() {
        return Err(Failure::usage("--each goes with none of --request, --exit-code and --base"));
    }
    let output = if args.carry.dry_run { Output::Nowhere } else { Output::Folder(folder(args)?.into()) };
    let target = Target::open(std::slice::from_ref(target), &args.image, client, printer)?;
    if matches!(target, Target::Inventory(_)) {
        return Err(Failure::usage("an inventory holds no content to pack")
            .hint("name the registry, or the bundles, that it was taken of"));
    }
    let (mut known, mut states): (Vec<Site>, HashMap<Digest, Arc<FarSide>>) = Default::default();
    for text in sites {
        let far_side = site(text, args, client, printer)?;
        let Some(entry) = far_side.entries.first().cloned() else { continue };
        let age = Inventory::read(Path::new(text)).ok().and_then(|inventory| inventory.age());
        known.push(Site {
            name: text.clone(),
            state: entry.state.unwrap_or_else(|| "-".to_owned()),
            age: age.map_or_else(|| "-".to_owned(), |age| format!("{} old", duration(age))),
            id: entry.id.clone(),
        });
        states.entry(entry.id).or_insert_with(|| Arc::new(far_side));
    }
    // Names are resolved once: all sites get the same images, whatever the registry says meanwhile.
    let mut wishes = target.asked(args)?;
    pin(&wishes.sources, &mut wishes.wishes, args.registry.jobs);
    let wishes = wishes.wishes;
    let mut made: HashMap<Digest, Made> = HashMap::new();
    let mut code = 0;
    // One spool for all: what one site's patch was made of another's is too.
    let spooled = Digest::sha256(crate::cli::printer::typed().as_bytes());
    let mut spool = None;
    for one in &known {
        if made.contains_key(&one.id) {
            continue;
        }
        let mut asked = target.asked(args)?;
        asked.wishes.clone_from(&wishes);
        // The arguments name every site; an unfinished bundle is known by its own.
        asked.arguments.retain(|argument| !argument.starts_with("diff "));
        asked.arguments.push(format!("each {}", args.arguments.last().map_or("", String::as_str)));
        asked.relied = Some(relied(&states[&one.id], &target, args));
        let began = Instant::now();
        let options = target.options(args, output.clone());
        let jobs = options.jobs;
        let maker = match args.carry.dry_run {
            false => args.patches.maker(std::slice::from_ref(&one.name), &states[&one.id], &asked, client)?,
            true => None,
        };
        let prepared = Prepared::of(asked, options)?;
        let expected = prepared.state();
        if args.carry.dry_run {
            let length = prepared.summary.bytes;
            made.insert(one.id.clone(), Made { file: "-".to_owned(), length, expected });
            continue;
        }
        let carrier =
            Carrier { verb: "diff", args: &args.carry, client: Some(client), printer, tells: false };
        let making = match (maker, &spool) {
            (None, _) => None,
            (Some(maker), Some(spool)) => Some(maker.making_in(Arc::clone(spool))),
            (Some(maker), None) => Some(maker.making(&spooled)?),
        };
        let carried = carrier.carry(prepared, &output, jobs, began, making.as_ref())?;
        spool = making.map(|making| making.spool).or(spool);
        code = code.max(carried.code);
        if let Some(path) = carried.path {
            let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            made.insert(one.id.clone(), Made { file: path.display().to_string(), length, expected });
        }
    }
    if let Some(spool) = spool {
        spool.remove();
    }
    print_table(&known, &made, args.carry.dry_run, printer, code);
    Ok(code)
}

/// Returns the folder in which the bundles go.
fn folder(args: &Args) -> Result<&str, Failure> {
    match args.output.as_deref() {
        Some(folder) if Path::new(folder).is_dir() => Ok(folder),
        Some(folder) => std::fs::create_dir(folder).map(|()| folder).map_err(|error| {
            let failure = Failure::local(format!("the folder {folder} can't be made"), &error);
            Failure { code: BAD_INPUT, ..failure }.hint("is the medium mounted?")
        }),
        None => Err(Failure::usage("no output was named")
            .hint("give -o FOLDER/: one bundle goes there for each state")),
    }
}

fn print_table(
    known: &[Site],
    made: &HashMap<Digest, Made>,
    is_rehearsal: bool,
    printer: &Printer,
    code: u8,
) {
    let outcome = match code {
        _ if is_rehearsal => "NOTHING CHANGED",
        0 => "DONE",
        _ => "PARTIAL",
    };
    printer.line(&format!(
        "{outcome}: {} for {}",
        crate::cli::printer::counted(made.len(), "bundle"),
        crate::cli::printer::counted(known.len(), "site")
    ));
    let width = known.iter().map(|site| site.name.len()).max().unwrap_or(0).max(4);
    printer.line(&format!("  {:width$}  {:11}  {:>16}  {:>10}  file", "site", "state", "age", "size"));
    let mut rows = Vec::new();
    for site in known {
        let Some(made) = made.get(&site.id) else { continue };
        printer.line(&format!(
            "  {:width$}  {:11}  {:>16}  {:>10}  {}",
            site.name,
            site.state,
            site.age,
            bytes(made.length),
            made.file
        ));
        rows.push(json!({
            "site": site.name,
            "state": site.state,
            "base": site.id,
            "file": made.file,
            "length": made.length,
            "expectedState": made.expected,
        }));
    }
    if let Some(made) = known.iter().find_map(|site| made.get(&site.id)) {
        printer.line(&format!("  after the push each should read back {}", made.expected));
    }
    printer.document("diff", code, json!({ "outcome": outcome, "sites": rows }));
}
