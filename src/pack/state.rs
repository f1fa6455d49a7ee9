//! The working files of an archive: what an earlier run left, and what this one takes up.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{Options, Output, PackError, own_name};
use crate::bundle::Bundle;
use crate::bundle::head::Head;
use crate::graph::Graph;
use crate::graph::survey::Survey;
use crate::oci::Digest;
use crate::plan;
use crate::select::Select;
use crate::transfer::TransferError;
use crate::transfer::archive::Files;
use crate::transfer::journal::{Earlier, Journal};

/// The working files of an archive.
pub(super) struct State {
    pub(super) files: Files,
    pub(super) journal: Journal,
    pub(super) earlier: Option<Earlier>,
    /// A file under a final name that an earlier run ended with gaps, and that this run replaces.
    pub(super) replaces: Option<PathBuf>,
}

impl State {
    /// Opens the journal of the archive that is wanted; none where no archive is.
    pub(super) fn open(options: &Options, arguments: &Digest) -> Result<Option<Self>, TransferError> {
        let files = match &options.output {
            Output::Archive(path) => Files::new(path, path),
            Output::Folder(folder) => {
                let stem = folder.join(format!("barge-{}", arguments.short()));
                Files::new(&stem, &stem)
            }
            Output::Layout(_) | Output::Nowhere => return Ok(None),
        };
        let is_unfinished = files.partial.exists() || ended_with_gaps(&files.archive);
        let journal =
            Journal::open(&files.journal, &files.partial, is_unfinished, arguments, options.restart)?;
        // Without a journal that speaks of it, what stands under either name is not barge's to touch.
        let replaces = [&files.partial, &files.archive].into_iter().find(|path| path.exists());
        let replaces = replaces.filter(|_| is_unfinished && journal.is_taken_up).cloned();
        Ok(Some(Self { files, journal, earlier: None, replaces }))
    }

    /// Leaves nothing behind of a plan that failed, unless there is an unfinished file that it belongs to.
    pub(super) fn give_up(self) {
        if self.replaces.is_none() {
            // That it stays is no harm: the next run starts it over.
            self.journal.remove().ok();
        }
    }

    /// Takes the survey of an earlier run out of the journal.
    pub(super) fn take_survey(&mut self) -> Option<Result<(Survey, Earlier), PackError>> {
        let mut earlier = self.journal.earlier.take()?;
        let findings = std::mem::take(&mut earlier.findings);
        let survey = self
            .journal
            .spool()
            .map_err(PackError::from)
            .and_then(|spool| Survey::from_findings(findings, spool).map_err(PackError::from));
        Some(survey.map(|survey| (survey, earlier)))
    }

    /// Finds the file that an earlier run ended with gaps in a folder, where its name depends on the plan.
    pub(super) fn find_replaced(
        &mut self,
        survey: &Survey,
        earlier: &Earlier,
        select: &dyn Select,
        options: &Options,
    ) -> Result<(), PackError> {
        let Output::Folder(folder) = &options.output else { return Ok(()) };
        if self.replaces.is_some() || survey.roots.is_empty() {
            return Ok(());
        }
        let graph = Graph::build(survey, select).map_err(TransferError::from)?;
        let order = plan::file_order(&graph);
        let head = Head::compose(&graph, &order, &HashSet::new(), &earlier.unresolved)
            .map_err(TransferError::from)?;
        let path = folder.join(own_name(&head.id));
        self.replaces = Some(path).filter(|path| ended_with_gaps(path));
        Ok(())
    }
}

/// Returns whether a file is what an earlier run ended with gaps.
pub(super) fn ended_with_gaps(path: &Path) -> bool {
    path.is_file()
        && Bundle::open(path)
            .is_ok_and(|bundle| bundle.record().is_some_and(|record| !record.failed.is_empty()))
}
