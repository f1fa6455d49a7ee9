//! `barge inspect`.

mod commands;
mod papers;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use barge::base::{BaseError, media_type_of};
use barge::bundle::Bundle;
use barge::bundle::inspect::{
    ImageSummary, Node, PatchNote, PatchSummary, Presence, Summary, find_images, of_record, summarize, tree,
};
use barge::bundle::record::{RECORD_TYPE, Record};
use barge::bundle::verify::Amount;
use barge::graph::Part;
use barge::inventory::{INVENTORY_TYPE, RECEIPT_TYPE};
use barge::oci::{Digest, Platform};
use barge::request::REQUEST_TYPE;
use barge::select::Reason;
use serde_json::json;

use self::commands::commands;
use super::carry::print_removed;
use super::failure::{BAD_INPUT, Failure, SOME_FAILED};
use super::printer::{Printer, bytes, counted, quoted};
use super::verify::{print_bases, reason_text};

/// How many images are listed before the rest is counted.
const SHOWN: usize = 20;

/// Says what is in a bundle, at once, however large it is; or in an inventory, receipt, request or sidecar.
///
/// Of a bundle, only the head and the end of the file are read, and manifests where they are asked for. Whether the
/// content is what it should be is told by `barge verify`.
#[derive(clap::Args)]
pub struct Args {
    /// A bundle, a layout tar file or a layout folder; or an inventory, a receipt, a request or a sidecar
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Shows only this image, in detail; repeatable
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    /// Shows everything in each image: indexes, manifests, configs and layers
    #[arg(long)]
    tree: bool,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    inspect(args, printer).map_err(|failure| failure.of("inspect"))
}

fn inspect(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    if args.file.is_dir() {
        return inspect_bundle(args, printer);
    }
    match media_type_of(&args.file) {
        Ok(Some(media_type)) => match media_type.as_str() {
            RECORD_TYPE => inspect_sidecar(args, printer),
            _ if args.tree || !args.image.is_empty() => {
                Err(Failure::usage("--image and --tree are about what is in a bundle")
                    .hint(format!("{} is another document", shown_path(args))))
            }
            INVENTORY_TYPE | RECEIPT_TYPE => papers::inventory(&args.file, printer),
            REQUEST_TYPE => papers::request(&args.file, printer),
            _ => Err(papers::foreign(&args.file, &media_type)),
        },
        Err(BaseError::NoBase { why, .. }) if Bundle::open(&args.file).is_err() => {
            Err(papers::unreadable(&args.file, &why))
        }
        // Whatever is wrong with the file, opening it says so.
        Ok(None) | Err(_) => inspect_bundle(args, printer),
    }
}

fn inspect_bundle(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let bundle = Bundle::open(&args.file)
        .map_err(|error| Failure::from(error).next(format!("barge verify {}", quoted(&shown_path(args)))))?;
    let mut summary = summarize(&bundle)?;
    let all = summary.images.len();
    if !args.image.is_empty() {
        keep_named(&mut summary, &args.image)?;
    }
    let is_detailed = args.tree || !args.image.is_empty();
    // What was left out of an image stands in its manifests, some kilobytes: they are read for the images that are
    // listed, and for all of them only where that was asked for.
    if is_detailed || all <= SHOWN {
        let trees: Vec<Node> = summary.images.iter().map(|image| tree(&bundle, image)).collect();
        for (image, tree) in summary.images.iter_mut().zip(trees) {
            image.tree = Some(tree);
        }
    }
    // What a delta holds is half of its images.
    let is_delta = !summary.bases.is_empty();
    let commands = if is_delta { Vec::new() } else { commands(&summary, &shown_path(args)) };
    let outcome = outcome(&summary);
    let what = match (&summary.bundle, outcome, is_delta) {
        (None, ..) => "is an OCI layout of another tool",
        (Some(_), "DONE", false) => "is a complete bundle, by its head and end",
        (Some(_), "DONE", true) => "is a complete delta bundle, by its head and end",
        (Some(_), ..) => "is a bundle that is not complete",
    };
    print_head(&summary, what, all, args, printer);
    print_images(&summary, args, printer);
    if !commands.is_empty() {
        printer.line("other tools take it with:");
        for command in &commands {
            printer.line(&format!("  {command}"));
        }
    }
    if is_delta {
        printer.line("other tools find nothing to import in it: it is a delta, which barge push takes");
    }
    let next = format!("barge verify {}", quoted(&shown_path(args)));
    finish(&summary, &commands, &next, printer)
}

/// Shows a sidecar: what its bundle says of itself, without the bundle.
fn inspect_sidecar(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let path = shown_path(args);
    if args.tree {
        return Err(
            Failure::usage("a sidecar has no manifests to show").hint("inspect its bundle with --tree")
        );
    }
    let unreadable = |error: &dyn std::error::Error| {
        Failure::local(format!("the sidecar {path} can't be read"), error)
            .hint("the bundle has the same record: inspect that")
    };
    let file = File::open(&args.file).map_err(|error| unreadable(&error))?;
    let (record, id, _) = Record::read_hashed(file).map_err(|error| unreadable(&error))?;
    let mut summary = of_record(&record, Some(id), &args.file);
    let all = summary.images.len();
    if !args.image.is_empty() {
        keep_named(&mut summary, &args.image)?;
    }
    let what = match (summary.failed.is_empty(), summary.bases.is_empty()) {
        (true, true) => "is the sidecar of a bundle",
        (true, false) => "is the sidecar of a delta bundle",
        (false, _) => "is the sidecar of a bundle that is not complete",
    };
    print_head(&summary, what, all, args, printer);
    print_images(&summary, args, printer);
    finish(&summary, &[], &format!("barge diff {} TARGET -o FILE.barge", quoted(&path)), printer)
}

fn outcome(summary: &Summary) -> &'static str {
    if summary.fault.is_none() && summary.failed.is_empty() { "DONE" } else { "PARTIAL" }
}

/// Says what to do next and prints the document; returns the exit code.
fn finish(summary: &Summary, commands: &[String], next: &str, printer: &Printer) -> Result<u8, Failure> {
    let outcome = outcome(summary);
    let code = if outcome == "DONE" { 0 } else { SOME_FAILED };
    printer.line(&format!("next: {next}"));
    let mut document = serde_json::to_value(summary)
        .map_err(|error| Failure::local("the summary can't be written".to_owned(), &error))?;
    document["outcome"] = json!(outcome);
    document["importCommands"] = json!(commands);
    document["next"] = json!(next);
    printer.document("inspect", code, document);
    Ok(code)
}

fn shown_path(args: &Args) -> String {
    args.file.display().to_string()
}

/// Takes away the images that were not asked for.
fn keep_named(summary: &mut Summary, names: &[String]) -> Result<(), Failure> {
    let mut keep = BTreeSet::new();
    for name in names {
        let found = find_images(summary, name);
        if found.is_empty() {
            let have: Vec<&str> =
                summary.images.iter().filter_map(|image| image.name.as_deref()).take(SHOWN).collect();
            return Err(Failure {
                code: BAD_INPUT,
                kind: "no-image",
                ..Failure::usage(format!("{} has no image `{name}`", summary.path.display()))
            }
            .hint(format!("it has {}", have.join(", "))));
        }
        keep.extend(found);
    }
    let images = std::mem::take(&mut summary.images);
    summary.images =
        images.into_iter().enumerate().filter(|(at, _)| keep.contains(at)).map(|(_, image)| image).collect();
    Ok(())
}

fn print_head(summary: &Summary, what: &str, all: usize, args: &Args, printer: &Printer) {
    let (outcome, path) = (outcome(summary), shown_path(args));
    let length = summary.length.map_or(String::new(), |length| format!(", {}", bytes(length)));
    printer.line(&format!("{outcome}: {path} {what}: {}{length}", counted(all, "image")));
    if let Some(fault) = &summary.fault {
        printer.line(&format!("  damage   {fault}"));
    }
    if let Some(bundle) = &summary.bundle {
        printer.line(&format!("  bundle   {bundle}"));
    }
    if let Some(version) = &summary.format_version {
        let length = summary.length.map_or(String::new(), |length| format!(", {length} bytes"));
        printer.line(&format!("  format   {version}{length}"));
    }
    if let Some(held) = &summary.held {
        printer.line(&format!("  holds    {}, {}", counted(held.count as usize, "blob"), bytes(held.bytes)));
    }
    if summary.unshipped.count > 0 {
        let manifests = counted(summary.unshipped.count as usize, "manifest");
        printer.line(&format!("  kept     {manifests} of platforms that were not selected, not pushed"));
    }
    print_bases(&summary.bases, printer);
    for (reason, amount) in &summary.absent {
        let blobs = counted(amount.count as usize, "blob");
        if *reason == Reason::Base {
            printer.line(&format!("  requires {blobs}, {}, that the far side has", bytes(amount.bytes)));
            continue;
        }
        printer.line(&format!(
            "  left out {blobs}, {}, on purpose: {}",
            bytes(amount.bytes),
            reason_text(*reason)
        ));
    }
    if let Some(patches) = &summary.patches {
        print_patches(patches, printer);
    }
    if summary.gaps.count > 0 {
        let blobs = counted(summary.gaps.count as usize, "blob");
        printer.line(&format!("  lacks    {blobs}, {}, that could not be had", bytes(summary.gaps.bytes)));
    }
    if let Some(state) = &summary.state {
        printer.line(&format!("  state    {state}, what push should read back"));
    }
    print_removed(&summary.removed, printer);
    if !summary.digest_map.is_empty() {
        let count = counted(summary.digest_map.len(), "digest");
        printer.line(&format!(
            "  changed  {count} on purpose, so what was signed with the old ones is not signed now"
        ));
        for change in summary.digest_map.iter().take(SHOWN) {
            printer.line(&format!("    {}  {} was {}", change.image, change.new.short(), change.old.short()));
        }
        if summary.digest_map.len() > SHOWN {
            printer.line(&format!("    and {} more (all with --json)", summary.digest_map.len() - SHOWN));
        }
    }
    if !summary.failed.is_empty() {
        printer.line(&format!("images that could not be had whole: {}", summary.failed.len()));
        print_some(&summary.failed, printer);
    }
}

fn print_patches(patches: &PatchSummary, printer: &Printer) {
    let amount =
        |amount: &Amount| format!("{}, {}", counted(amount.count as usize, "blob"), bytes(amount.bytes));
    printer.line(&format!(
        "  rebuilds {}, {}, by patches of {}: {} not sent",
        counted(patches.count as usize, "blob"),
        bytes(patches.content_bytes),
        bytes(patches.bytes),
        bytes(patches.saved_bytes)
    ));
    if patches.far_side.count > 0 {
        printer.line(&format!("  from     {}, that the far side has", amount(&patches.far_side)));
    }
    if patches.held.count > 0 {
        printer.line(&format!("  and from {}, here for that only", amount(&patches.held)));
    }
}

fn print_some(names: &[String], printer: &Printer) {
    for name in names.iter().take(SHOWN) {
        printer.line(&format!("  {name}"));
    }
    if names.len() > SHOWN {
        printer.line(&format!("  and {} more (all with --json)", names.len() - SHOWN));
    }
}

fn print_images(summary: &Summary, args: &Args, printer: &Printer) {
    if summary.images.is_empty() {
        return;
    }
    printer.line("images:");
    let is_limited = !args.tree && args.image.is_empty();
    let shown = if is_limited { SHOWN } else { usize::MAX };
    for image in summary.images.iter().take(shown) {
        let name = image.name.as_deref().unwrap_or("(no name)");
        printer.line(&format!("  {name}  {}", image.root.short()));
        print_image(image, printer);
        if let (true, Some(tree)) = (args.tree, &image.tree) {
            print_node(tree, 4, !summary.bases.is_empty(), printer);
        }
    }
    if summary.images.len() > shown {
        printer.line(&format!("  and {} more (all with --json)", summary.images.len() - shown));
    }
}

fn print_image(image: &ImageSummary, printer: &Printer) {
    if !image.part.is_image() {
        printer.line(&format!("    as        {}", part_text(image.part)));
    }
    if !image.platforms.is_empty() {
        printer.line(&format!("    platforms {}", list(&image.platforms)));
    }
    if let Some(tree) = &image.tree {
        let left_out = tree.platforms_left_out();
        if !left_out.is_empty() {
            printer.line(&format!("    left out  {}", list(&left_out)));
        }
        if let Some(note) = &tree.note {
            printer.line(&format!("    unknown   {note}"));
        }
        printer.line(&format!("    root      {} ({})", image.root, image.media_type));
    }
    if let Some(attached) = image.attached.filter(|attached| *attached > 0) {
        printer.line(&format!("    attached  {}", counted(attached, "manifest")));
    }
}

/// Says what an image is in what was asked for.
fn part_text(part: Part) -> &'static str {
    match part {
        Part::Image => "an image",
        Part::Chart => "a Helm chart",
        Part::Operator => "needed by an operator",
        Part::Component => "part of a release",
        Part::Catalog => "an operator catalog",
        Part::Release => "a release",
    }
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Shows content and what is below it; of a delta, it is said of layers that they are whole too.
fn print_node(node: &Node, indent: usize, is_delta: bool, printer: &Printer) {
    let platform = node.platform.as_ref().map_or(String::new(), |platform| format!(" {platform}"));
    let kind = node.artifact_type.as_deref().unwrap_or(&node.media_type);
    let tag = node.tag.as_ref().map_or(String::new(), |tag| format!(" by tag {tag}"));
    let mark = match node.presence {
        Presence::Held if is_delta && node.kind == "layer" => "  [whole]".to_owned(),
        Presence::Held => String::new(),
        Presence::Unshipped => "  [kept, not pushed: its platform was not selected]".to_owned(),
        Presence::Absent(reason) => format!("  [left out: {}]", reason_text(reason)),
        Presence::Patched => {
            node.patch.as_ref().map_or(String::new(), |patch| patched_text(patch, node.size))
        }
        Presence::Gap => "  [could not be had]".to_owned(),
        Presence::Unknown => "  [not here]".to_owned(),
    };
    let note = node.note.as_ref().map_or(String::new(), |note| format!("  ({note})"));
    let line = format!(
        "{:indent$}{}{platform} {} {} {kind}{tag}{mark}{note}",
        "",
        node.kind,
        node.digest.short(),
        bytes(node.size)
    );
    printer.line(&line);
    for child in &node.children {
        print_node(child, indent + 2, is_delta, printer);
    }
}

fn patched_text(patch: &PatchNote, size: u64) -> String {
    let bases: Vec<String> = patch.bases.iter().map(Digest::short).collect();
    format!("  [patched from {}: {} in place of {}]", bases.join(" and "), bytes(patch.size), bytes(size))
}
