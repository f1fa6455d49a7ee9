//! Errors as people and scripts see them: a message, its causes, hints, and an exit code.

use std::error::Error;

use barge::catalog::files::ImageFilesError;
use barge::catalog::rebuild::RebuildError;
use barge::chart::ChartError;
use barge::graph::survey::SurveyError;
use barge::input::{FileError, InputError, OpenError};
use barge::oci::reference::NO_LOGIN;
use barge::pack::PackError;
use barge::release::ReleaseError;
use barge::store::StoreError;
pub use barge::store::chain;
use barge::transfer::TransferError;

use super::printer::{bytes, quoted};

/// Findings, or some images failed.
pub const SOME_FAILED: u8 = 1;
/// Bad input or local I/O.
pub const BAD_INPUT: u8 = 3;
/// A registry or the network.
pub const REGISTRY: u8 = 4;

/// The target lacks what the bundle builds on.
pub const BASE_MISSING: u8 = 5;

/// A failure that ends a command.
#[derive(Debug)]
pub struct Failure {
    /// The verb, for the result document.
    pub command: &'static str,
    /// The exit code.
    pub code: u8,
    /// A stable word for scripts.
    pub kind: &'static str,
    /// What happened.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What may help.
    pub hints: Vec<String>,
    /// The command to type next.
    pub next: Option<String>,
}

impl Failure {
    /// Makes a failure of an error and the errors behind it.
    pub fn new(code: u8, kind: &'static str, error: &dyn Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Transparent wrappers say the same thing twice.
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            cause = error.source();
        }
        Self { command: "", code, kind, message: error.to_string(), causes, hints: Vec::new(), next: None }
    }

    /// Makes a failure of local I/O.
    pub fn local(message: String, error: &dyn Error) -> Self {
        let failure = Self::new(BAD_INPUT, "local", error);
        let mut causes = vec![failure.message];
        causes.extend(failure.causes);
        Self { message, causes, ..failure }
    }

    /// Makes a failure of a command line that parses and makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            command: "",
            code: 2,
            kind: "usage",
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            next: None,
        }
    }

    /// Names the verb.
    #[must_use]
    pub fn of(self, command: &'static str) -> Self {
        Self { command, ..self }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// Says what to type next.
    #[must_use]
    pub fn next(self, command: impl Into<String>) -> Self {
        Self { next: Some(command.into()), ..self }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        let code = match error {
            InputError::List(..) | InputError::Empty { .. } => BAD_INPUT,
            _ => 2,
        };
        let failure = Self::new(code, "input", &error);
        let has_login = failure.causes.iter().any(|cause| cause.contains(NO_LOGIN));
        if has_login { failure.hint(super::naming::LOGIN) } else { failure }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let failure = Self::new(BAD_INPUT, "file", &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Input(error) => error.into(),
            OpenError::Store(error) => error.into(),
            OpenError::At { at, source } => {
                let failure = Self::from(*source);
                Self { message: format!("{at}: {}", failure.message), ..failure }
            }
            OpenError::Chart(error) => match error {
                ChartError::Store(error) => error.into(),
                error => Self::new(BAD_INPUT, "chart", &error),
            },
            OpenError::Release(error) => match error {
                ReleaseError::Store(error) => error.into(),
                ReleaseError::Files { source: ImageFilesError::Store(ref place), .. } => {
                    let (code, kind, hint) = store(place);
                    let failure = Self::new(code, kind, &error);
                    hint.into_iter().fold(failure, Self::hint)
                }
                error => Self::new(BAD_INPUT, "release", &error),
            },
            OpenError::Catalog(error) => error.into(),
            OpenError::Rebuild(error) => match error {
                RebuildError::Store(error) | RebuildError::Files(ImageFilesError::Store(error)) => {
                    error.into()
                }
                RebuildError::Catalog(error) => error.into(),
                error => Self::new(BAD_INPUT, "catalog", &error),
            },
            OpenError::Filter { ref catalog, .. } => {
                let next = format!("barge catalog list {}", quoted(catalog));
                Self::new(BAD_INPUT, "filter", &error).next(next)
            }
            OpenError::NotOne { .. } => Self::new(BAD_INPUT, "not-one", &error)
                .hint("say which: oci:DIR:NAME, or a reference with a tag or a digest"),
            OpenError::AllBlocked { .. } => {
                Self::usage(error.to_string()).hint("name other images, or take patterns out of `blocked`")
            }
            OpenError::NoTag { ref repository, .. } => Self::new(BAD_INPUT, "no-tag", &error)
                .hint(format!("look at the tags: `skopeo list-tags docker://{repository}`")),
            OpenError::NoCatalogue { .. } => Self::new(REGISTRY, "no-catalogue", &error)
                .hint("name repositories or images, or give an image list with --from-file")
                .hint("some registries show it to certain users only: is the login right?"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (code, kind, hint) = store(&error);
        let failure = Self::new(code, kind, &error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Returns exit code, kind and hint for a store's error.
pub fn store(error: &StoreError) -> (u8, &'static str, Option<&'static str>) {
    match error {
        StoreError::NotFound { .. } => {
            (REGISTRY, "not-found", Some("check the name, the tag and the spelling"))
        }
        StoreError::Denied { .. } => (
            REGISTRY,
            "denied",
            Some(
                "log in (`skopeo login HOST`, `docker login HOST`), or give --authfile FILE or --creds USER:PASSWORD",
            ),
        ),
        StoreError::Refused { .. } => (REGISTRY, "refused", None),
        StoreError::Unreachable { .. } => (
            REGISTRY,
            "unreachable",
            Some(
                "check the name and the network; for a registry without TLS give --insecure HOST, for a private \
                  certificate --cert-dir DIR",
            ),
        ),
        StoreError::Nowhere { .. } => {
            (REGISTRY, "nowhere", Some("check the mirrors under `registries`, and who may pull from them"))
        }
        StoreError::Interrupted { .. } => (REGISTRY, "interrupted", None),
        StoreError::Damaged { .. } | StoreError::Content { .. } => (BAD_INPUT, "damaged", None),
        StoreError::Manifest { .. } => (BAD_INPUT, "manifest", None),
        StoreError::Invalid { .. } => (BAD_INPUT, "invalid", None),
        StoreError::Io { .. } => (BAD_INPUT, "local", None),
        StoreError::Scratch { .. } => {
            (BAD_INPUT, "scratch", Some("--scratch DIR names a folder with more room for working files"))
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let (code, kind, hint) = match &error {
            TransferError::Blob { source, .. } | TransferError::Target(source) => {
                let (code, kind, hint) = store(source);
                (code, kind, hint.map(str::to_owned))
            }
            TransferError::Survey(SurveyError::Image { source, .. }) => {
                let (code, kind, hint) = store(source);
                (code, kind, hint.map(str::to_owned))
            }
            TransferError::Survey(SurveyError::NameClash { .. }) => {
                (BAD_INPUT, "name-clash", Some("give one of them another name: `NAME=SOURCE`".to_owned()))
            }
            TransferError::Exists { .. } => {
                (BAD_INPUT, "exists", Some("remove it or give another name with -o".to_owned()))
            }
            TransferError::Busy(_) => {
                (BAD_INPUT, "busy", Some("wait for it, or give another name with -o".to_owned()))
            }
            TransferError::OtherArguments(path) => (
                BAD_INPUT,
                "other-arguments",
                Some(format!(
                    "finish {} with the arguments it was begun with; where they are the same, a file, catalog, chart or \
                     release that they name says something else now: --restart packs it as it is, and takes over what \
                     was fetched",
                    path.display()
                )),
            ),
            TransferError::NoSpace { needed, free, .. } => {
                (BAD_INPUT, "no-space", Some(format!("{} more are needed", bytes(needed - free))))
            }
            TransferError::TooLong { .. } => (
                BAD_INPUT,
                "too-long",
                Some(
                    "format the medium with exFAT, ext4 or NTFS, or pack fewer images into one bundle"
                        .to_owned(),
                ),
            ),
            TransferError::ReadBack { .. } => {
                (BAD_INPUT, "read-back", Some("use another medium and pack again".to_owned()))
            }
            _ => (BAD_INPUT, "local", None),
        };
        let failure = Self::new(code, kind, &error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        match &error {
            PackError::Transfer(_) => {}
            PackError::NoImages => {
                return Self::usage(error.to_string()).hint(
                    "name images, layouts or archives, or give -f FILE, --from-file LIST or --all-tags REPOSITORY",
                );
            }
            PackError::NothingLeft(failures) => {
                let mut failure = Self::new(REGISTRY, "nothing-left", &error);
                for one in failures.iter().take(5) {
                    failure.causes.push(format!("{}: {}", one.name, chain(&*one.error)));
                }
                return failure;
            }
            PackError::TooBig { largest, .. } => {
                let mut failure = Self::new(BAD_INPUT, "too-big", &error);
                for item in largest {
                    failure.causes.push(format!("{} {} of {}", bytes(item.size), item.digest, item.image));
                }
                return failure.hint("leave out images or platforms, or raise --max-size");
            }
            PackError::NothingRequested => {
                return Self::new(BAD_INPUT, "nothing-requested", &error)
                    .hint("name the images that the request lists, from a place that still has them");
            }
            PackError::OthersRequested => {
                return Self::new(BAD_INPUT, "others-requested", &error)
                    .hint("name them by the digests that the request has: barge inspect REQUEST shows them");
            }
            PackError::BaseNotGiven { .. } => {
                return Self::new(BASE_MISSING, "base-not-given", &error)
                    .hint("name what it follows too; `barge inspect` shows what that is");
            }
            PackError::NoSuchPlatform { .. } => return Self::new(BAD_INPUT, "platform", &error),
            PackError::NothingOfImage(_) => {
                return Self::new(BAD_INPUT, "platform", &error).hint(
                    "name one of those too, leave the image out, or give --keep-going to go on without it",
                );
            }
            PackError::PlatformLacking { .. } => {
                return Self::new(BAD_INPUT, "platform", &error).hint(
                    "without --strict-platforms this is a warning and the image is packed with what it has",
                );
            }
        }
        match error {
            PackError::Transfer(error) => error.into(),
            other => Self::new(BAD_INPUT, "pack", &other),
        }
    }
}
