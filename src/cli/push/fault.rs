//! What to say of a push that failed, and what to do next.

use barge::push::{Missing, PushError};

use super::job::Job;
use crate::cli::failure::{BAD_INPUT, BASE_MISSING, Failure, REGISTRY, chain, store};
use crate::cli::printer::bytes;

/// Turns a push's error into a failure with what to do next.
pub(super) fn failure_of(error: &PushError, job: &Job<'_>) -> Failure {
    let listed = |missing: &[Missing]| -> Vec<String> {
        missing
            .iter()
            .take(10)
            .map(|one| {
                let image = one.images.first().and_then(|image| image.name.as_deref()).unwrap_or("no image");
                let more = match one.images.len() {
                    0 | 1 => String::new(),
                    count => format!(" and {} more", count - 1),
                };
                format!("{} ({}) of {image}{more}", one.digest, bytes(one.size))
            })
            .collect()
    };
    match error {
        PushError::NoImages => Failure::new(BAD_INPUT, "empty", error),
        PushError::NothingLeft(failures) => {
            let mut failure = Failure::new(BAD_INPUT, "nothing-left", error);
            failure.causes =
                failures.iter().take(10).map(|one| format!("{}: {}", one.name, chain(&*one.error))).collect();
            failure
        }
        PushError::Naming(_) => {
            Failure::new(2, "naming", error).hint("--map SOURCE=TARGET gives other names")
        }
        PushError::Graph(_) => Failure::new(BAD_INPUT, "graph", error),
        PushError::Repository { source, .. } => {
            let (code, kind, hint) = store(source);
            let failure = Failure::new(code, kind, error);
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        PushError::Missing(shortage) => {
            let mut failure = Failure::new(BASE_MISSING, "base-missing", error);
            failure.causes = listed(&shortage.missing);
            match &job.papers {
                Some(papers) => papers.explain(failure, shortage, job.target.dry_run),
                None => failure.hint("NOTHING CHANGED: nothing was written to the target"),
            }
        }
        PushError::NoRepositories(repositories) => {
            let mut failure = Failure::new(REGISTRY, "no-repository", error);
            failure.causes.clone_from(repositories);
            failure.hint("make these repositories at the registry first").next(job.command.clone())
        }
        PushError::Blob { source, .. } => {
            let (code, kind, hint) = store(source);
            let mut failure = Failure::new(code, kind, error);
            if let Some(hint) = hint {
                failure = failure.hint(hint);
            }
            failure.hint("no tag was touched; --keep-going pushes the other images").next(job.command.clone())
        }
    }
}
