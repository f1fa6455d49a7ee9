//! Printing how a push ended: the report, refused images, changed digests.

use std::time::Instant;

use barge::emit::resources::scope::{SHARED, shared};
use barge::graph::survey::Failure as Unread;
use barge::graph::{Change, Part};
use barge::inventory::Inventory;
use barge::oci::Digest;
use barge::push::report::{ImageOutcome, ImageReport, Report};
use serde_json::json;

use super::job::Job;
use crate::cli::carry::duration;
use crate::cli::failure::{REGISTRY, SOME_FAILED, chain};
use crate::cli::printer::{Printer, bytes, counted};

impl Job<'_> {
    /// Prints how it ended; returns the exit code.
    pub(super) fn print(
        &self,
        report: &Report,
        changes: &[Change],
        failures: &[Unread],
        receipt: Option<&Inventory>,
        began: Instant,
        printer: &Printer,
    ) -> u8 {
        let unread: Vec<String> =
            failures.iter().map(|failure| format!("{}: {}", failure.name, chain(&*failure.error))).collect();
        let counts = report.counts;
        let (failed, refused) =
            (report.count(ImageOutcome::Failed) + unread.len(), report.count(ImageOutcome::Refused));
        let total = report.images.len() + unread.len();
        let good = total - failed - refused;
        let (code, outcome) = match () {
            () if failed + refused == 0 && !counts.changed() => (0, "NOTHING CHANGED"),
            () if failed + refused == 0 => (0, "DONE"),
            () if good == 0 && failed == 0 => (REGISTRY, "PARTIAL"),
            () => (SOME_FAILED, "PARTIAL"),
        };
        let by_outcome = |outcome| report.images.iter().filter(move |image| image.outcome == outcome);
        let with_reason = |image: &ImageReport| {
            format!("{}: {}", image.name, image.why.as_deref().unwrap_or("no reason is known"))
        };
        let not_pushed: Vec<String> = by_outcome(ImageOutcome::Failed).map(with_reason).collect();
        if !not_pushed.is_empty() {
            printer.warning("not pushed; the tag is what it was", &not_pushed);
        }
        print_refusals(report, printer);
        let destination = &self.naming.destination;
        let place = match &self.naming.exact {
            Some(exact) => exact.name.to_string(),
            None if destination.prefix.is_empty() => destination.registry.clone(),
            None => format!("{}/{}", destination.registry, destination.prefix),
        };
        match outcome {
            "NOTHING CHANGED" => {
                printer.line(&format!(
                    "NOTHING CHANGED: {place} has all of {} already",
                    counted(total, "image")
                ));
            }
            "DONE" => printer.line(&format!("DONE: {place} has {}", counted(total, "image"))),
            _ => printer.line(&format!("PARTIAL: {place} has {good} of {}", counted(total, "image"))),
        }
        for image in by_outcome(ImageOutcome::Pushed) {
            let digest = image.new_root.as_ref().unwrap_or(&image.root);
            printer.line(&format!("  {}  {digest}", image.target));
        }
        printer.line(&format!(
            "  uploaded {}, {}; mounted {}, {}; there before {}, {}",
            counted(counts.uploaded_blobs as usize, "blob"),
            bytes(counts.uploaded_bytes),
            counted(counts.mounted_blobs as usize, "blob"),
            bytes(counts.mounted_bytes),
            counted(counts.present_blobs as usize, "blob"),
            bytes(counts.present_bytes),
        ));
        if counts.rebuilt_blobs > 0 {
            printer.line(&format!(
                "  rebuilt  {} of them, {}, from patches and what the registry has",
                counts.rebuilt_blobs,
                bytes(counts.rebuilt_bytes)
            ));
        }
        printer.line(&format!(
            "  manifests {} written, {} there before; {} written; {}",
            counts.manifests_written,
            counts.manifests_present,
            counted(counts.tags_written as usize, "tag"),
            duration(began.elapsed()),
        ));
        let top_up = match &self.papers {
            Some(papers) => {
                papers.print_state(self, report, printer);
                papers.print_removed(printer);
                papers.request_rest(report, failures, printer)
            }
            None => None,
        };
        let next = match () {
            () if top_up.is_some() => top_up,
            () if failed > 0 => Some(format!("{} --keep-going   (after the cause is mended)", self.command)),
            () if refused > 0 => Some(format!("{} --sparse rewrite", self.command)),
            () => None,
        };
        if let Some(next) = next {
            printer.line(&format!("next: {next}"));
        }
        let mut document = json!({
            "outcome": outcome,
            "images": report.images,
            "unread": unread,
            "counts": counts,
            "digestMap": digest_map(report, changes),
            "seconds": began.elapsed().as_secs_f64(),
        });
        if let Some(fields) = document.as_object_mut() {
            fields.insert("target".to_owned(), json!(place));
            fields.insert("missing".to_owned(), json!(report.missing));
            if let Some(receipt) = receipt {
                fields.insert("receipt".to_owned(), json!(receipt));
                fields.insert("state".to_owned(), json!(report.content.state()));
            }
        }
        printer.document(self.verb, code, document);
        code
    }
}

/// Says which hosts container engines will not tell apart at the target.
fn print_shared(report: &Report, printer: &Printer) {
    let carried = report.images.iter().filter(|image| image.part != Part::Chart);
    let pairs =
        carried.map(|image| (&image.reference.as_ref().unwrap_or(&image.name).name, &image.target.name));
    for item in shared(pairs) {
        printer.note(&format!("note: {item} {SHARED}"));
    }
}

/// Says of refused sparse indexes what can be done about them, and of what else people may stumble over.
fn print_refusals(report: &Report, printer: &Printer) {
    print_shared(report, printer);
    let refused: Vec<&ImageReport> =
        report.images.iter().filter(|image| image.outcome == ImageOutcome::Refused).collect();
    let rewritten: Vec<String> = report
        .images
        .iter()
        .filter_map(|image| {
            Some(format!("{}: {} is now {}", image.name, image.root, image.new_root.as_ref()?))
        })
        .collect();
    if !rewritten.is_empty() {
        printer
            .warning("has another digest at the target; signatures of the old one do not fit it", &rewritten);
    }
    let dropped: Vec<String> = report
        .images
        .iter()
        .flat_map(|image| image.dropped.iter().map(move |digest| format!("{digest} of {}", image.name)))
        .collect();
    if !dropped.is_empty() {
        printer.warning("attached to an index that was changed, so it was not pushed", &dropped);
    }
    if refused.is_empty() {
        return;
    }
    let items: Vec<String> = refused
        .iter()
        .map(|image| format!("{}: {}", image.name, image.why.as_deref().unwrap_or_default()))
        .collect();
    printer.warning("the registry refuses an index of which platforms were left out", &items);
    printer.note(
        "hint: the registry may have a setting for it: distribution 3 `validation.manifests.indexes.platforms: none`, \
         quay `FEATURE_SPARSE_INDEX: true`; docker-registry 2.8, Harbor, Nexus, Gitea and GitLab have none",
    );
    printer.note(
        "hint: --sparse rewrite makes a new index of what is there; --sparse single pushes the one platform",
    );
    printer.note("hint: or pack all platforms: without --platform nothing is left out");
    let pinned: Vec<String> = refused
        .iter()
        .filter(|image| image.name.digest.is_some())
        .map(|image| image.name.to_string())
        .collect();
    if !pinned.is_empty() {
        printer.warning("asked for by digest, which --sparse rewrite would change", &pinned);
    }
}

/// Returns old and new digests, image by image: what was changed before it travelled, then what the push changed.
pub(super) fn digest_map(report: &Report, changes: &[Change]) -> serde_json::Value {
    let rows = report.images.iter().flat_map(|image| {
        let row = move |old: &Digest, new: &Digest| json!({ "image": image.name, "target": image.target, "old": old, "new": new });
        let is_there = matches!(image.outcome, ImageOutcome::Pushed | ImageOutcome::Unchanged);
        let before = changes.iter().filter(move |change| is_there && change.image == image.name);
        let now = image.new_root.iter();
        before.map(move |change| row(&change.old, &change.new)).chain(now.map(move |new| row(&image.root, new)))
    });
    serde_json::Value::Array(rows.collect())
}
