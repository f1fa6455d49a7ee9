//! A push or mirror with its arguments resolved: surveying, pushing or rehearsing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use barge::bundle::workshop::Workshop;
use barge::graph::Change;
use barge::graph::spool::Spool;
use barge::graph::survey::{self, Survey, Wish};
use barge::input::SaidAt;
use barge::push::names::Naming;
use barge::push::report::Report;
use barge::push::source::Known;
use barge::push::sparse::Policy;
use barge::push::{Prepared, PushError, pieces_are};
use barge::select::{Attachments, Select};
use barge::store::Source;
use barge::store::registry::Client;
use serde_json::json;

use super::fault::failure_of;
use super::papers::Papers;
use super::print::digest_map;
use super::target::TargetArgs;
use crate::cli::failure::{Failure, SOME_FAILED, chain};
use crate::cli::printer::{Printer, bytes, counted};
use crate::cli::progress::Bars;
use crate::cli::{interrupt, print_client_warnings};

/// A push or mirror with its arguments resolved.
pub(super) struct Job<'a> {
    pub(super) verb: &'static str,
    pub(super) command: String,
    pub(super) sources: Vec<Arc<dyn Source>>,
    pub(super) wishes: Vec<Wish>,
    pub(super) select: &'a dyn Select,
    pub(super) attachments: Attachments,
    /// What files want where the command line says nothing of sparse indexes.
    pub(super) sparse: Option<Policy>,
    /// Digests that were changed on purpose before this.
    pub(super) changed: Vec<Change>,
    /// Where files say what travels under a name.
    pub(super) said: SaidAt,
    pub(super) naming: Naming,
    pub(super) target: &'a TargetArgs,
    pub(super) client: Client,
    pub(super) jobs: usize,
    pub(super) known: &'a dyn Known,
    pub(super) workshop: Arc<Workshop>,
    /// What a push of bundles hands back; nothing for a mirror.
    pub(super) papers: Option<Papers<'a>>,
}

impl Job<'_> {
    /// Surveys the sources, then pushes, or says what would be pushed.
    pub(super) fn run(&self, printer: &Printer) -> Result<u8, Failure> {
        let began = Instant::now();
        interrupt::says("the same command goes on: what the registry has is not sent again");
        if self.wishes.is_empty() {
            return Err(failure_of(&PushError::NoImages, self));
        }
        if let Some(papers) = &self.papers {
            papers.check()?;
        }
        let spool = Spool::temporary()
            .map_err(|error| Failure::local("no temporary file can be made".to_owned(), &error))?;
        let options = survey::Options {
            select: self.select,
            attachments: self.attachments,
            keep_unselected: false,
            keep_going: self.target.keep_going,
            jobs: self.jobs,
        };
        let mut survey = Survey::run(&self.sources, &self.wishes, spool, &options).map_err(|error| {
            let error = error.said_at(|name| self.said.of(name));
            Failure::from(barge::transfer::TransferError::from(error))
        })?;
        let failures = std::mem::take(&mut survey.failures);
        if survey.roots.is_empty() {
            return Err(failure_of(&PushError::NothingLeft(failures), self));
        }
        let unread: Vec<String> =
            failures.iter().map(|failure| format!("{}: {}", failure.name, chain(&*failure.error))).collect();
        if !unread.is_empty() {
            printer.warning("can't be read from the source", &unread);
        }
        let mut options = self.target.options(self.naming.clone(), self.jobs, self.workshop.clone());
        if let Some(policy) = self.sparse {
            options.policy = policy;
        }
        let prepared = Prepared::new(&survey, self.select, &self.sources, &self.client, options, self.known)
            .map_err(|error| failure_of(&error, self))?;
        print_client_warnings(&self.client, printer);
        if self.target.dry_run {
            return self.rehearse(&prepared, printer);
        }
        let changes = prepared.graph().changes_among(&self.changed);
        let bars = Bars::new(printer, if self.verb == "push" { "pushing" } else { "mirroring" });
        let report = prepared.run(&bars);
        bars.clear();
        print_client_warnings(&self.client, printer);
        let report = report.map_err(|error| failure_of(&error, self))?;
        let mapped = self.write_digest_map(&report, &changes);
        let receipt = self.papers.as_ref().map(|papers| papers.receipt(self, &report, &failures));
        // What was pushed is told whatever becomes of the files.
        let written = match (&self.papers, &receipt) {
            (Some(papers), Some(receipt)) => papers.write_receipt(receipt),
            _ => Ok(()),
        };
        let code = self.print(&report, &changes, &failures, receipt.as_ref(), began, printer);
        written.and(mapped).map(|()| code)
    }

    fn rehearse(&self, prepared: &Prepared<'_>, printer: &Printer) -> Result<u8, Failure> {
        let rehearsal = prepared.rehearse().map_err(|error| failure_of(&error, self))?;
        for step in &rehearsal.steps {
            printer.line(&format!(
                "{:6} {}  {}  {}",
                step.action,
                step.repository,
                step.what,
                bytes(step.size)
            ));
        }
        let uploads = rehearsal.steps.iter().filter(|step| matches!(step.action, "upload" | "rebuild"));
        let (count, size) = uploads.fold((0, 0), |(count, size), step| (count + 1, size + step.size));
        printer.line(&format!("{} to upload, {}", counted(count, "blob"), bytes(size)));
        let mut document = json!({ "outcome": "NOTHING CHANGED", "dryRun": true, "steps": rehearsal.steps });
        let mut code = 0;
        let mut next = None;
        if let Some(shortage) = prepared.shortage() {
            code = SOME_FAILED;
            let left_out: BTreeSet<String> = shortage
                .missing
                .iter()
                .flat_map(|one| &one.images)
                .filter_map(|image| image.name.clone())
                .collect();
            let left_out: Vec<String> = left_out.into_iter().collect();
            printer.warning(
                &format!(
                    "{} of {} would be left out: {} nowhere",
                    shortage.affected,
                    counted(shortage.images, "image"),
                    pieces_are(shortage.missing.len())
                ),
                &left_out,
            );
            next = self.papers.as_ref().and_then(|papers| papers.request_rehearsed(shortage, printer));
            if let Some(fields) = document.as_object_mut() {
                fields.insert("leftOut".to_owned(), json!(left_out));
                fields.insert("missing".to_owned(), json!(shortage.missing));
            }
        }
        printer.line("NOTHING CHANGED: this was a dry run");
        if let Some(next) = next {
            printer.line(&format!("next: {next}"));
        }
        printer.document(self.verb, code, document);
        Ok(code)
    }

    fn write_digest_map(&self, report: &Report, changes: &[Change]) -> Result<(), Failure> {
        let Some(path) = &self.target.digest_map else { return Ok(()) };
        let map = digest_map(report, changes);
        barge::transfer::write_whole(path, |out| {
            std::io::Write::write_all(out, format!("{map:#}\n").as_bytes())
        })?;
        Ok(())
    }
}
