//! `barge diff --each`: one bundle for each state that sites are in.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use barge::base::FarSide;
use barge::graph::survey::Wish;
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
    let folder = folder(args)?;
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
    let mut roots: Option<BTreeMap<String, Digest>> = None;
    let mut made: HashMap<Digest, Made> = HashMap::new();
    let mut code = 0;
    for one in &known {
        if made.contains_key(&one.id) {
            continue;
        }
        let far_side = &states[&one.id];
        let mut asked = target.asked(args)?;
        let mut relied = relied(far_side, &target, args);
        // The arguments name every site; an unfinished bundle is known by its own.
        asked.arguments.retain(|argument| !argument.starts_with("diff "));
        asked.arguments.push(format!("each {}", args.arguments.last().map_or("", String::as_str)));
        if let Some(roots) = &roots {
            // Names are resolved once: all sites get the same images, whatever the registry says meanwhile.
            let is_known = |wish: &Wish| roots.contains_key(&wish.name.to_string());
            let failed = asked.wishes.iter().filter(|wish| !is_known(wish));
            let failed: Vec<String> =
                failed.flat_map(|wish| [wish.name.to_string(), wish.name.path()]).collect();
            asked.wishes.retain(is_known);
            // What could not be had for the first site is wanted at all of them.
            let removed = relied.removed;
            relied.removed = Box::new(move |graph| {
                let mut removed = removed(graph);
                removed.retain(|name| !failed.contains(name));
                removed
            });
            for wish in &mut asked.wishes {
                wish.selector = roots[&wish.name.to_string()].to_string();
            }
        }
        asked.relied = Some(relied);
        let began = Instant::now();
        let output = Output::Folder(folder.into());
        let options = target.options(args, output.clone());
        let jobs = options.jobs;
        let prepared = Prepared::of(asked, options)?;
        if roots.is_none() {
            let graph = &prepared.graph;
            let images = graph.images.iter();
            roots = Some(
                images.map(|image| (image.name.to_string(), graph.digest(image.root).clone())).collect(),
            );
        }
        let expected = prepared.state();
        let carrier =
            Carrier { verb: "diff", args: &args.carry, client: Some(client), printer, tells: false };
        let carried = carrier.carry(prepared, &output, jobs, began)?;
        code = code.max(carried.code);
        if let Some(path) = carried.path {
            let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            made.insert(one.id.clone(), Made { file: path.display().to_string(), length, expected });
        }
    }
    print_table(&known, &made, printer, code);
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

fn print_table(known: &[Site], made: &HashMap<Digest, Made>, printer: &Printer, code: u8) {
    let outcome = if code == 0 { "DONE" } else { "PARTIAL" };
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
    if let Some(made) = made.values().next() {
        printer.line(&format!("  after the push each should read back {}", made.expected));
    }
    printer.document("diff", code, json!({ "outcome": outcome, "sites": rows }));
}
