//! The checks that write: each tries one thing below the scratch repository, tiny, and notes it in the ledger.

mod images;

use std::io::Cursor;
use std::time::Duration;

use serde_json::json;

use super::ledger::Trace;
use super::{Finding, Ledger, State, Target, wants_repository, why};
use crate::oci::{Digest, RepositoryName};
use crate::store::registry::{Access, Client, Mount, Repository};
use crate::store::{Result, StoreError};

/// How many components deeper than the scratch repository a path is tried: deeper than names in use are.
const DEEPER: usize = 6;
/// Chunks larger than this are not sent to find out whether they are taken.
const LARGEST_CHUNK: u64 = 64 * 1024;
/// After how many checks without an answer the others are not made.
const MOST_SILENT: u32 = 2;
/// What is told where a repository must be made by hand.
const MAKE_FIRST: &str = "make the repositories before the push; `barge push --dry-run` lists them";

/// Tries things out in a scratch repository.
pub(super) struct Prober<'a> {
    client: &'a Client,
    scratch: &'a RepositoryName,
    repository: Repository,
    patience: Duration,
    ledger: &'a Ledger,
    target: &'a mut Target,
    /// A text of this run only: content that was there before proves nothing.
    run: String,
    silent: u32,
}

/// What a manifest is made of.
struct Blobs {
    config: (Digest, Vec<u8>),
    layer: (Digest, Vec<u8>),
}

impl<'a> Prober<'a> {
    pub(super) fn new(
        client: &'a Client,
        scratch: &'a RepositoryName,
        patience: Duration,
        ledger: &'a Ledger,
        target: &'a mut Target,
    ) -> Self {
        let repository = client.repository(scratch, Access::Push);
        let run = format!("{:016x}", fastrand::u64(..));
        Self { client, scratch, repository, patience, ledger, target, run, silent: 0 }
    }

    /// Makes all checks that can be made.
    pub(super) fn run(mut self, progress: &dyn Fn(&'static str)) {
        progress("push");
        let Some(was_there) = self.push() else { return };
        if !was_there {
            self.ledger.note(Trace::Repository(self.repository.clone()));
        }
        let blobs = match self.blobs() {
            Ok(blobs) => blobs,
            Err(error) => {
                let seen = format!("an upload can be opened, and a blob is not taken: {}", why(&error));
                self.replace(Finding::new("push", State::Failed, seen));
                return;
            }
        };
        let deeper = [
            ("repositories", Self::repositories as fn(&mut Self, bool)),
            ("depth", |it, _| it.depth()),
            ("chunks", |it, _| it.chunks()),
        ];
        for (id, check) in deeper {
            if self.answers(id) {
                progress(id);
                check(&mut self, was_there);
            }
        }
        let of_images = [
            ("mount", Self::mount as fn(&mut Self, &Blobs)),
            ("sparse", Self::sparse),
            ("referrers", Self::referrers),
            ("manifest-size", Self::manifest_size),
        ];
        for (id, check) in of_images {
            if self.answers(id) {
                progress(id);
                check(&mut self, &blobs);
            }
        }
    }

    /// Whether it is any use to ask further.
    fn answers(&mut self, id: &str) -> bool {
        if self.silent >= MOST_SILENT {
            self.replace(
                Finding::new(
                    "reachable",
                    State::Failed,
                    "answered first, and stopped answering in the middle",
                )
                .hint("ask again when it is less busy, or give it longer by --timeout"),
            );
            self.add(Finding::new(id, State::Unknown, "the registry stopped answering"));
        }
        self.silent < MOST_SILENT
    }

    fn add(&mut self, finding: Finding) {
        self.target.add(finding);
    }

    fn replace(&mut self, finding: Finding) {
        self.target.findings.retain(|known| known.id != finding.id);
        self.target.add(finding);
    }

    /// Adds that something can't be told, and counts it where the registry was silent.
    fn unknown(&mut self, id: &str, error: &StoreError) {
        let busy = matches!(error, StoreError::Refused { status: 429 | 500..=599, .. });
        self.silent += u32::from(busy || matches!(error, StoreError::Unreachable { .. }));
        self.add(Finding::new(id, State::Unknown, why(error)));
    }

    fn below(&self, path: &str) -> Repository {
        let repository = format!("{}/{path}", self.scratch.repository);
        let name = RepositoryName { registry: self.scratch.registry.clone(), repository };
        self.client.repository(&name, Access::Push)
    }

    /// Opens an upload and gives it up; returns whether the repository was there before.
    fn push(&mut self) -> Option<bool> {
        // Who may push and not read is met at some places; what is there is then not known.
        let was_there = match self.repository.tags() {
            Err(StoreError::NotFound { .. }) => false,
            Err(error @ StoreError::Unreachable { .. }) => {
                self.unknown("push", &error);
                return None;
            }
            _ => true,
        };
        let name = self.scratch.to_string();
        let error = match self.ledger.try_upload(&self.repository) {
            Ok(smallest) => {
                self.target.facts.min_chunk_bytes = (smallest > 0).then_some(smallest);
                let seen = format!("an upload to {name} was opened and given up");
                self.add(Finding::new("push", State::Ok, seen));
                return Some(was_there);
            }
            Err(error) => error,
        };
        let finding = match &error {
            StoreError::Denied { .. } => {
                Finding::new("push", State::Failed, format!("denied ({})", why(&error)))
                    .hint("ask for the right to push, or log in as another user")
            }
            error if wants_repository(error) => {
                self.target.facts.creates_repositories = Some(false);
                self.add(
                    Finding::new("repositories", State::Warning, "must be made before they are pushed to")
                        .hint(MAKE_FIRST),
                );
                let seen = format!("the scratch repository {name} does not exist ({})", why(error));
                Finding::new("push", State::Failed, seen)
                    .hint("make it at the registry, or give another one by --repo; then ask again")
            }
            error @ StoreError::Refused { status, .. } if *status < 500 => {
                let seen = format!("uploads are refused ({})", why(error));
                Finding::new("push", State::Failed, seen).hint("is the registry read-only, or full?")
            }
            error => {
                self.unknown("push", error);
                return None;
            }
        };
        self.add(finding);
        None
    }

    fn upload(&self, repository: &Repository, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256(bytes);
        let trace = Trace::Blob(repository.clone(), digest.clone());
        self.ledger.write(trace, || {
            repository.upload_blob(&digest, bytes.len() as u64, None, &mut |offset| {
                let mut content = Cursor::new(bytes.to_vec());
                content.set_position(offset);
                Ok(Box::new(content))
            })
        })?;
        Ok(digest)
    }

    /// Uploads what the manifests refer to.
    fn blobs(&mut self) -> Result<Blobs> {
        let layer = format!("barge doctor was here: {}\n", self.run).into_bytes();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Labels": { "made.by": "barge doctor" } },
            "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(&layer)] },
        })
        .to_string()
        .into_bytes();
        let config = (self.upload(&self.repository, &config)?, config);
        Ok(Blobs { config, layer: (self.upload(&self.repository, &layer)?, layer) })
    }

    fn repositories(&mut self, was_there: bool) {
        if !was_there {
            self.target.facts.creates_repositories = Some(true);
            self.add(Finding::new("repositories", State::Ok, "made by the push itself"));
            return;
        }
        match self.ledger.try_upload(&self.below("new")) {
            Ok(_) => {
                self.target.facts.creates_repositories = Some(true);
                self.add(Finding::new("repositories", State::Ok, "made by the push itself"));
            }
            Err(error) if wants_repository(&error) => {
                self.target.facts.creates_repositories = Some(false);
                let seen = format!("must be made before they are pushed to ({})", why(&error));
                self.add(Finding::new("repositories", State::Warning, seen).hint(MAKE_FIRST));
            }
            Err(error @ StoreError::Unreachable { .. }) => self.unknown("repositories", &error),
            Err(error) => {
                let seen = format!("another one below the scratch repository is refused ({})", why(&error));
                self.add(Finding::new("repositories", State::Unknown, seen));
            }
        }
    }

    /// Finds out how deep paths may be; the scratch repository's own depth is known to be taken.
    fn depth(&mut self) {
        if self.target.facts.creates_repositories == Some(false) {
            self.add(Finding::new("depth", State::Unknown, "repositories can't be made to try it"));
            return;
        }
        let own = self.scratch.repository.split('/').count();
        let (mut taken, mut refused) = (own, own + DEEPER + 1);
        let mut last = None;
        let mut next = own + DEEPER;
        while taken + 1 < refused {
            let path: Vec<&str> = ["a", "b", "c", "d", "e", "f"].into_iter().take(next - own).collect();
            match self.ledger.try_upload(&self.below(&path.join("/"))) {
                Ok(_) => taken = next,
                Err(error @ StoreError::Refused { status: 400..=428, .. }) => {
                    refused = next;
                    last = Some(error);
                }
                Err(error @ StoreError::Denied { .. }) => {
                    let seen = format!("a path of {next} components is denied ({})", why(&error));
                    let hint = format!(
                        "that may be the rights, or a limit: if deep paths are refused, push with \
                         --max-path-components {taken}"
                    );
                    self.add(Finding::new("depth", State::Unknown, seen).hint(hint));
                    return;
                }
                Err(error) => return self.unknown("depth", &error),
            }
            next = usize::midpoint(taken, refused);
        }
        let finding = match last {
            None => Finding::new("depth", State::Ok, format!("paths of {taken} components are taken")),
            Some(error) => {
                self.target.facts.max_path_components = Some(taken);
                let seen = format!("paths of more than {taken} components are refused ({})", why(&error));
                Finding::new("depth", State::Warning, seen)
                    .flags(["--max-path-components", &taken.to_string()])
            }
        };
        self.add(finding);
    }

    fn chunks(&mut self) {
        let smallest = self.target.facts.min_chunk_bytes.unwrap_or_default();
        if smallest > LARGEST_CHUNK {
            let seen = format!("taken from {smallest} bytes on, the registry says; not tried");
            self.add(Finding::new("chunks", State::Ok, seen));
            return;
        }
        let text = format!("barge doctor in chunks: {}\n", self.run);
        let first = text.repeat(1 + smallest as usize / text.len()).into_bytes();
        let whole = [first.clone(), b"end\n".to_vec()].concat();
        let digest = Digest::sha256(&whole);
        let outcome = self.ledger.upload_chunks(&self.repository, &digest, &[&first, b"end\n"]);
        let kept = outcome.as_ref().is_ok()
            && self.repository.proves_blob(&digest, whole.len() as u64).unwrap_or(false);
        match outcome {
            Ok(counted) if kept => {
                self.target.facts.chunks = Some(true);
                let seen = match (counted, smallest) {
                    (false, _) => "taken, though the registry counts their bytes wrongly".to_owned(),
                    (true, 0) => "taken".to_owned(),
                    (true, smallest) => format!("taken, of {smallest} bytes at least"),
                };
                self.add(Finding::new("chunks", State::Ok, seen));
            }
            Err(
                error
                @ (StoreError::Unreachable { .. } | StoreError::Refused { status: 429 | 500..=599, .. }),
            ) => {
                self.unknown("chunks", &error);
            }
            other => {
                self.target.facts.chunks = Some(false);
                let reason = match &other {
                    Ok(_) => "a blob sent so is not there afterwards".to_owned(),
                    Err(error) => why(error),
                };
                let seen = format!("not taken ({reason}): each blob must go in one request");
                self.add(
                    Finding::new("chunks", State::Warning, seen)
                        .hint("proxies before the registry must let bodies of the largest layer pass"),
                );
            }
        }
    }

    fn mount(&mut self, blobs: &Blobs) {
        let other = self.below("mount");
        let was_there = other.tags().is_ok();
        let (digest, bytes) = &blobs.layer;
        let again = "content that images share is uploaded once for each repository";
        match self.ledger.mount(&other, digest, &self.scratch.repository) {
            Ok(Mount::Mounted) => {
                if !was_there {
                    self.ledger.note(Trace::Repository(other.clone()));
                }
                let proved = other.proves_blob(digest, bytes.len() as u64);
                self.target.facts.mounts = Some(matches!(proved, Ok(true)));
                self.add(match proved {
                    Ok(true) => Finding::new("mount", State::Ok, "done (201): shared content is sent once"),
                    _ => Finding::new(
                        "mount",
                        State::Warning,
                        "said to be done (201), and the blob is not there",
                    ),
                });
            }
            Ok(Mount::Upload(_)) => {
                self.target.facts.mounts = Some(false);
                self.add(Finding::new("mount", State::Warning, format!("not done (202): {again}")));
            }
            Ok(Mount::Refused) => {
                self.target.facts.mounts = Some(false);
                self.add(Finding::new("mount", State::Warning, format!("refused: {again}")));
            }
            Err(error) => self.unknown("mount", &error),
        }
    }
}
