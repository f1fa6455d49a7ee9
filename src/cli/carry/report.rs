//! What a plan amounts to and what came of it, in words and as a document.

use std::path::Path;
use std::time::{Duration, Instant};

use barge::graph::reliance::{BaseEntry, BaseKind};
use barge::oci::Platform;
use barge::pack::{PatchReport, Prepared};
use barge::select::Reason;
use barge::transfer::archive::Written;
use serde_json::json;

use crate::cli::failure::{SOME_FAILED, chain};
use crate::cli::patches;
use crate::cli::printer::{Printer, bytes, counted, quoted};

/// Says what would be packed; returns the exit code.
pub(super) fn print_plan(
    verb: &str,
    prepared: &Prepared,
    failures: &[(String, String)],
    printer: &Printer,
) -> u8 {
    let summary = &prepared.summary;
    for image in &summary.images {
        printer.line(&format!("{}  {}", image.name, image.root));
        let platforms =
            |list: &[Platform]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !image.platforms.is_empty() {
            printer.line(&format!("    platforms {}", platforms(&image.platforms)));
        }
        if !image.left_out.is_empty() {
            printer.line(&format!("    left out  {}", platforms(&image.left_out)));
        }
        printer.line(&format!("    {}, {} attached", bytes(image.bytes), image.attached));
    }
    printer.line(&format!(
        "{}, {}, {} to pack; {} saved because images share content",
        counted(summary.images.len(), "image"),
        counted(summary.blobs, "blob"),
        bytes(summary.bytes),
        bytes(summary.deduplicated_bytes),
    ));
    print_reliance(&summary.absent, printer);
    printer.line("NOTHING CHANGED: this was a dry run");
    let code = if failures.is_empty() { 0 } else { SOME_FAILED };
    let document = json!({
        "outcome": "NOTHING CHANGED", "dryRun": true, "plan": summary, "failed": failed(failures),
    });
    printer.document(verb, code, document);
    code
}

/// Returns the images that could not be had at all, for a document.
fn failed(failures: &[(String, String)]) -> Vec<serde_json::Value> {
    failures.iter().map(|(name, why)| json!({ "image": name, "why": why })).collect()
}

/// Says how much is left to what the far side has.
fn print_reliance(absent: &std::collections::BTreeMap<Reason, (usize, u64)>, printer: &Printer) {
    if let Some((count, size)) = absent.get(&Reason::Base) {
        printer.line(&format!(
            "  relies on {}, {}, that the far side has",
            counted(*count, "blob"),
            bytes(*size)
        ));
    }
}

/// What came of a plan that was carried out.
pub(super) struct Report<'a> {
    pub(super) verb: &'static str,
    pub(super) path: &'a Path,
    pub(super) written: &'a Written,
    pub(super) summary: &'a barge::plan::Summary,
    /// How many images were found.
    pub(super) images: usize,
    pub(super) began: Instant,
    pub(super) failures: &'a [(String, String)],
    pub(super) patches: &'a PatchReport,
    /// The push that follows, where the target is known.
    pub(super) push: Option<String>,
}

impl Report<'_> {
    pub(super) fn print(&self, printer: &Printer, outcome: &str, whole: usize) {
        let path = self.path.display().to_string();
        let of = if whole == self.images + self.failures.len() {
            counted(whole, "image")
        } else {
            format!("{whole} of {}", counted(self.images + self.failures.len(), "image"))
        };
        printer.line(&format!("{outcome}: {path} holds {of} in {}", bytes(self.written.length)));
        printer.line(&format!("  bundle   {}", self.written.id));
        printer.line(&format!(
            "  content  {}, {}; {} saved because images share content",
            counted(self.summary.blobs, "blob"),
            bytes(self.summary.bytes),
            bytes(self.summary.deduplicated_bytes),
        ));
        let platform = self.summary.absent.get(&Reason::Platform);
        if let Some((count, size)) = platform {
            printer.line(&format!(
                "  left out {} of other platforms, {}",
                counted(*count, "blob"),
                bytes(*size)
            ));
        }
        print_reliance(&self.summary.absent, printer);
        patches::print(self.patches, &self.summary.patched, printer);
        if let Some(base) = &self.written.record.base {
            for base in &base.bases {
                printer.line(&format!("  builds on {}", base_text(base)));
            }
            print_removed(&base.removed, printer);
        }
        let kept = match self.written.kept {
            0 => String::new(),
            kept => format!(", {} were there from before", bytes(kept)),
        };
        printer.line(&format!(
            "  moved    {} in {}{kept}; the medium took {} of it",
            bytes(self.written.fetched),
            duration(self.began.elapsed()),
            duration(self.written.sync_time),
        ));
        printer.line(&format!("  state    {}, what push should read back", self.written.record.state()));
        if outcome == "DONE" {
            let then =
                self.push.as_ref().map_or(String::new(), |push| format!("   (then, at the target: {push})"));
            printer.line(&format!("next: barge verify {}{then}", quoted(&path)));
        }
        let code = if outcome == "DONE" { 0 } else { SOME_FAILED };
        printer.document(
            self.verb,
            code,
            json!({
                "base": self.written.record.base,
                "state": self.written.record.state(),
                "outcome": outcome,
                "file": self.path,
                "bundle": self.written.id,
                "length": self.written.length,
                "images": self.written.record.images,
                "failed": self.failed(),
                "plan": self.summary,
                "patches": self.patches,
                "push": self.push,
                "fetchedBytes": self.written.fetched,
                "keptBytes": self.written.kept,
                "syncSeconds": self.written.sync_time.as_secs_f64(),
                "seconds": self.began.elapsed().as_secs_f64(),
            }),
        );
    }

    fn failed(&self) -> Vec<serde_json::Value> {
        let names = failed(self.failures).into_iter();
        let gaps =
            self.written.gaps.iter().map(
                |(digest, image, error)| json!({ "image": image, "digest": digest, "why": chain(error) }),
            );
        names.chain(gaps).collect()
    }

    pub(super) fn warn(&self, printer: &Printer) {
        let mut items: Vec<String> =
            self.failures.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        items.extend(
            self.written
                .gaps
                .iter()
                .map(|(digest, image, error)| format!("{image} needs {digest}: {}", chain(error))),
        );
        printer.warning("could not be had", &items);
    }

    pub(super) fn print_partial(&self, printer: &Printer, whole: usize) {
        self.print(printer, "PARTIAL", whole);
        printer.line("next: the same command again; it fetches only what is missing");
    }
}

/// Returns a duration for people.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 60..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Returns how people know a base.
fn base_text(base: &BaseEntry) -> String {
    let kind = match base.kind {
        BaseKind::Bundle => "the bundle",
        BaseKind::Inventory => "the inventory",
        BaseKind::Layout => "the layout",
        BaseKind::Receipt => "the receipt",
        BaseKind::Registry => "what a registry held,",
        BaseKind::Request => "all but what was requested,",
    };
    let name =
        base.name.as_deref().map_or(String::new(), |name| format!(" {}", crate::cli::printer::clean(name)));
    let state = base.state.as_deref().map_or(String::new(), |state| format!(", state {state}"));
    format!("{kind}{name} {}{state}", base.id)
}

/// How many removed names are listed before the rest is counted.
const SHOWN: usize = 20;

/// Lists the names that are no longer wanted.
pub fn print_removed(removed: &[String], printer: &Printer) {
    if removed.is_empty() {
        return;
    }
    printer.line(&format!("  no longer wanted, and never deleted: {}", counted(removed.len(), "name")));
    for name in removed.iter().take(SHOWN) {
        printer.line(&format!("    {}", crate::cli::printer::clean(name)));
    }
    if removed.len() > SHOWN {
        printer.line(&format!("    and {} more (all with --json)", removed.len() - SHOWN));
    }
}
