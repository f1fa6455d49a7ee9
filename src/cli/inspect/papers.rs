//! Inspection of the documents that travel without content: inventories, receipts and requests.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use barge::bundle::verify::Amount;
use barge::inventory::{Inventory, Kind, OutcomeRow, Scope};
use barge::oci::{Digest, media_type};
use barge::request::{Request, WantedImage};
use serde_json::json;

use super::SHOWN;
use crate::cli::failure::{BAD_INPUT, Failure, SOME_FAILED};
use crate::cli::printer::{Printer, bytes, clean, counted, quoted};

/// What `inspect` reads.
const READABLE: &str =
    "inspect reads bundles and layouts, inventories, receipts, requests and .barge.json sidecars";

/// A JSON document that is none of barge's.
pub(super) fn foreign(path: &Path, media_type: &str) -> Failure {
    let why = match media_type.is_empty() {
        true => "it does not say its media type".to_owned(),
        false => format!("its media type is `{}`", clean(media_type).chars().take(80).collect::<String>()),
    };
    failure("no-document", format!("{} is no document of barge's: {why}", path.display()))
}

/// A file that begins like a JSON document and is none.
pub(super) fn unreadable(path: &Path, why: &str) -> Failure {
    failure("damaged", format!("{} can't be read: {}", path.display(), clean(why)))
        .hint("if it was whole where it was written, copy it again")
}

fn failure(kind: &'static str, message: String) -> Failure {
    Failure { code: BAD_INPUT, kind, ..Failure::usage(message) }.hint(READABLE)
}

/// Says how much of the target was looked at, and how closely.
fn print_scope(found: &Inventory, target: &str, printer: &Printer) {
    if found.kind() == Kind::Receipt {
        if !found.checked {
            printer.line("  checked  what was there before was not read, as the push was told");
        }
        return;
    }
    let scope = match found.scope {
        Scope::Registry if target.contains('/') => {
            format!("everything that the registry lists below {target}")
        }
        Scope::Registry => "everything that the registry lists".to_owned(),
        Scope::Repositories => {
            format!("all tags of {}", repositories_text(found.content.holdings.repositories().len()))
        }
        Scope::Images => "some images only".to_owned(),
    };
    let checked =
        if found.checked { "every blob was read" } else { "blobs as manifests list them, not read" };
    printer.line(&format!("  scope    {scope}"));
    printer.line(&format!("  checked  {checked}"));
}

/// Shows an inventory or a receipt.
pub(super) fn inventory(path: &Path, printer: &Printer) -> Result<u8, Failure> {
    let found = Inventory::read(path).map_err(|error| {
        Failure::new(BAD_INPUT, "damaged", &error).hint("if it was whole where it was written, copy it again")
    })?;
    let is_receipt = found.kind() == Kind::Receipt;
    let problems: Vec<&OutcomeRow> =
        found.outcomes.iter().filter(|row| !matches!(row.outcome.as_str(), "pushed" | "unchanged")).collect();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    found.outcomes.iter().for_each(|row| *outcomes.entry(&row.outcome).or_default() += 1);
    // Names are part of the state: without them the code can't be made again.
    let made = found.content.state();
    let fault = (found.target.is_some() && made != found.state)
        .then(|| format!("it says state {}, and its images make {made}", clean(&found.state)));
    let (mut manifests, mut blobs) = (Amount::default(), Amount::default());
    for row in found.content.holdings.iter() {
        let amount = if media_type::is_manifest(row.media_type) { &mut manifests } else { &mut blobs };
        count(amount, row.size);
    }
    let is_whole = problems.is_empty() && found.failed.is_empty() && fault.is_none();
    let (outcome, code) = if is_whole { ("DONE", 0) } else { ("PARTIAL", SOME_FAILED) };
    let target = found.target.as_deref().map_or_else(|| "a target that it does not name".to_owned(), clean);
    let age = found.age().map_or(String::new(), |age| format!(", {} ago", age_text(age)));
    let what = if is_receipt { "a receipt of a push to" } else { "an inventory of" };
    printer.line(&format!(
        "{outcome}: {} is {what} {target}, taken {}{age}",
        path.display(),
        clean(&found.taken)
    ));
    let id = found.content.id();
    if let Some(fault) = &fault {
        printer.line(&format!("  damage   {fault}"));
    }
    printer.line(&format!("  content  {id}"));
    print_bundles(&found.bundles, printer);
    if is_receipt {
        let counts: Vec<String> =
            outcomes.iter().map(|(outcome, count)| format!("{count} {}", clean(outcome))).collect();
        let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        printer.line(&format!("  images   {counts}"));
    }
    let images = found.content.images.len();
    printer.line(&format!(
        "  holds    {}, {}, {}",
        counted(images, "image"),
        counted(blobs.count as usize, "blob"),
        bytes(blobs.bytes)
    ));
    print_scope(&found, &target, printer);
    printer.line(&format!("  state    {}", clean(&found.state)));
    if !found.failed.is_empty() {
        printer.line(&format!("could not be read: {}", found.failed.len()));
        let rows = found.failed.iter();
        print_rows(rows.map(|row| (row.name.clone(), row.why.clone())), found.failed.len(), printer);
    }
    if !problems.is_empty() {
        printer.line(&format!("not in place: {}", counted(problems.len(), "image")));
        let rows = problems.iter().map(|row| {
            let why = row.why.clone().unwrap_or_else(|| "it is not said why".to_owned());
            (row.image.as_ref().map(ToString::to_string), format!("{}: {why}", row.outcome))
        });
        print_rows(rows, problems.len(), printer);
    }
    let shown = quoted(&path.display().to_string());
    let next = format!("barge diff {shown} TARGET -o FILE.barge");
    printer.line(&format!("next: {next}"));
    let document = json!({
        "age": found.age().map(|age| age.as_secs()),
        "blobs": blobs,
        "bundles": found.bundles,
        "checked": found.checked,
        "content": id,
        "failed": found.failed,
        "fault": fault,
        "images": images,
        "kind": if is_receipt { "receipt" } else { "inventory" },
        "manifests": manifests,
        "next": next,
        "outcome": outcome,
        "outcomes": outcomes,
        "path": path,
        "problems": problems,
        "repositories": found.content.holdings.repositories().len(),
        "scope": found.scope,
        "state": found.state,
        "taken": found.taken,
        "target": found.target,
    });
    printer.document("inspect", code, document);
    Ok(code)
}

/// Shows a request.
pub(super) fn request(path: &Path, printer: &Printer) -> Result<u8, Failure> {
    let shown = path.display();
    let found = Request::read(path).map_err(|error| {
        Failure::local(format!("the request {shown} can't be read"), &error)
            .hint("if it was whole where it was written, copy it again")
    })?;
    let (mut all, mut unowned) = (Amount::default(), Amount::default());
    let mut wanted = vec![Amount::default(); found.images.len()];
    for blob in &found.blobs {
        count(&mut all, blob.size);
        if blob.images.is_empty() {
            count(&mut unowned, blob.size);
        }
        for at in &blob.images {
            if let Some(amount) = wanted.get_mut(*at as usize) {
                count(amount, blob.size);
            }
        }
    }
    let amount =
        |amount: &Amount| format!("{}, {}", counted(amount.count as usize, "blob"), bytes(amount.bytes));
    printer.line(&format!("DONE: {shown} is a request for {}", amount(&all)));
    printer.line(&format!("  request  {}", found.id()));
    print_bundles(&found.bundles, printer);
    if !found.images.is_empty() {
        printer.line("images that need it:");
    }
    for (image, wanted) in found.images.iter().zip(&wanted).take(SHOWN) {
        printer.line(&format!("  {}", image_text(image)));
        if wanted.count > 0 {
            printer.line(&format!("    {}", amount(wanted)));
        }
    }
    if found.images.len() > SHOWN {
        printer.line(&format!("  and {} more (all with --json)", found.images.len() - SHOWN));
    }
    if unowned.count > 0 {
        printer.line(&format!("  it does not say which images need {}", amount(&unowned)));
    }
    let next = format!("barge pack --request {} -o topup.barge", quoted(&shown.to_string()));
    printer.line(&format!("next: {next}"));
    let images: Vec<serde_json::Value> = found
        .images
        .iter()
        .zip(&wanted)
        .map(|(image, wanted)| {
            json!({ "image": image.name, "reference": image.reference, "root": image.root, "wanted": wanted })
        })
        .collect();
    let document = json!({
        "blobs": all,
        "bundles": found.bundles,
        "images": images,
        "kind": "request",
        "next": next,
        "outcome": "DONE",
        "path": path,
        "request": found.id(),
        "withoutImage": unowned,
    });
    printer.document("inspect", 0, document);
    Ok(0)
}

fn count(amount: &mut Amount, bytes: u64) {
    amount.count += 1;
    amount.bytes = amount.bytes.saturating_add(bytes);
}

fn image_text(image: &WantedImage) -> String {
    let name = image.name.as_deref().map_or_else(|| "(no name)".to_owned(), clean);
    let root = image.root.as_ref().map_or(String::new(), |root| format!("  {}", root.short()));
    let reference = image.reference.as_ref().map_or(String::new(), |reference| format!("  from {reference}"));
    format!("{name}{root}{reference}")
}

fn print_bundles(bundles: &[Digest], printer: &Printer) {
    for bundle in bundles.iter().take(SHOWN) {
        printer.line(&format!("  bundle   {bundle}"));
    }
    if bundles.len() > SHOWN {
        printer.line(&format!("  bundle   and {} more (all with --json)", bundles.len() - SHOWN));
    }
}

fn print_rows(rows: impl Iterator<Item = (Option<String>, String)>, count: usize, printer: &Printer) {
    for (name, why) in rows.take(SHOWN) {
        printer.line(&format!("  {}: {}", clean(name.as_deref().unwrap_or("(no name)")), clean(&why)));
    }
    if count > SHOWN {
        printer.line(&format!("  and {} more (all with --json)", count - SHOWN));
    }
}

fn repositories_text(count: usize) -> String {
    match count {
        0 => "repositories that it does not name".to_owned(),
        1 => "1 repository".to_owned(),
        count => format!("{count} repositories"),
    }
}

/// Returns an age for people: of what is days old, hours say nothing.
fn age_text(age: Duration) -> String {
    match age.as_secs() / 3600 {
        0..48 => crate::cli::carry::duration(age),
        hours => counted((hours / 24) as usize, "day"),
    }
}
