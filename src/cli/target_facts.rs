//! `--for target.json`: what is known of the target, used where a bundle is made.

use std::path::PathBuf;
use std::sync::OnceLock;

use barge::doctor::{Decision, Target, TargetError, decide};
use barge::pack::Prepared;

use super::failure::{BAD_INPUT, Failure};
use super::printer::{Printer, quoted};

/// What is known of the target.
#[derive(clap::Args)]
pub struct TargetFactsArgs {
    /// Decides by what `barge doctor` found out of the target: names, platforms left out, sizes
    #[arg(long = "for", value_name = "TARGET.json")]
    target: Option<PathBuf>,
    /// Makes it an error when the target takes an image only with a flag of push
    #[arg(long, requires = "target")]
    strict_target: bool,
    #[arg(skip)]
    read: OnceLock<Target>,
    #[arg(skip)]
    flags: OnceLock<Vec<String>>,
}

impl TargetFactsArgs {
    /// Reads the document, so that a bad one is known before anything is asked.
    pub fn check(&self) -> Result<(), Failure> {
        let Some(path) = &self.target else { return Ok(()) };
        let target = Target::read(path).map_err(|error| {
            let kind = match &error {
                TargetError::Io { .. } => "local",
                _ => "target",
            };
            Failure::new(BAD_INPUT, kind, &error)
                .hint("barge doctor REGISTRY --repo SCRATCH -o target.json makes one")
        })?;
        self.read.get_or_init(|| target);
        Ok(())
    }

    /// Says what the target makes of a plan.
    ///
    /// # Errors
    /// What a push would fail at.
    pub fn judge(&self, prepared: &Prepared, printer: &Printer) -> Result<(), Failure> {
        let Some(target) = self.read.get() else { return Ok(()) };
        let Decision { mut errors, warnings, flags } = decide(target, &prepared.graph, &prepared.summary);
        if self.strict_target {
            errors.extend(warnings);
        } else {
            for warning in &warnings {
                printer.warning(&warning.cause, &warning.items);
            }
        }
        if let Some(first) = errors.first() {
            let mut failure = Failure::new(BAD_INPUT, "target", &Refused(target.target.clone()));
            for error in &errors {
                failure.causes.extend(error.items.iter().map(|item| format!("{}: {item}", error.cause)));
            }
            return Err(failure.hint(format!("what is known of it was found out at {}", target.taken)))
                .map_err(|failure| match errors.len() {
                    1 => failure,
                    _ => failure.hint(format!("the first of {} causes is: {}", errors.len(), first.cause)),
                });
        }
        self.flags.get_or_init(|| flags);
        Ok(())
    }

    /// Returns the push that follows at the target, for the bundle at `path`.
    pub fn push(&self, path: &str) -> Option<String> {
        let target = self.read.get()?;
        let mut words = vec!["barge push".to_owned(), quoted(path), quoted(&target.target)];
        words.extend(self.flags.get().into_iter().flatten().map(|word| quoted(word)));
        Some(words.join(" "))
    }
}

/// The plan does not go with the target.
#[derive(Debug, thiserror::Error)]
#[error("{0} would not take all of it")]
struct Refused(String);
