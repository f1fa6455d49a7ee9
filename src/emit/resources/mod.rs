//! The files that make clusters and container engines take images from where a push put them.
//!
//! [`given`] reads what there is from bundles and receipts; [`make`] turns it into files, [`folder`] writes them. The same
//! images give the same bytes, in whatever order they were named. What a form can't express is said, not dropped.

mod engines;
pub mod folder;
pub mod given;
mod openshift;
pub mod scope;
pub mod signatures;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use self::scope::Scopes;
use self::signatures::Signature;
use crate::graph::Part;
use crate::oci::{Digest, Reference, RepositoryName};

/// How every file begins: by that, barge knows its own.
pub const MARK: &str = "# written by barge resources";

/// An image at the mirror.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mirrored {
    /// What it was pulled by; where that is not known, the name under which it travelled.
    pub reference: Reference,
    /// Its name at the mirror.
    pub target: Reference,
    /// Its root where it was pulled, which a rebuilt catalog does not have any more.
    pub root: Digest,
    /// Its root at the mirror.
    pub now: Digest,
    /// What it is in what was asked for.
    pub part: Part,
}

impl Mirrored {
    /// Returns whether the mirror has what a pull by the old digest asks for.
    #[must_use]
    pub fn answers_digest(&self) -> bool {
        self.root == self.now
    }

    /// Returns whether the mirror has what a pull by the old tag asks for: tags can't be renamed on the way.
    #[must_use]
    pub fn answers_tag(&self) -> bool {
        self.reference.tag.is_some() && self.reference.tag == self.target.tag
    }

    /// Returns the name to pull it by at the mirror: by tag where it has one, else by digest.
    #[must_use]
    pub fn pulled_by(&self) -> Reference {
        match &self.target.tag {
            Some(tag) => Reference::tagged(self.target.name.clone(), tag),
            None => Reference::pinned(self.target.name.clone(), self.now.clone()),
        }
    }

    fn pair(&self) -> (RepositoryName, RepositoryName) {
        (self.reference.name.clone(), self.target.name.clone())
    }

    /// Returns whether programs look for it under its old name and have to be told another one.
    fn is_elsewhere(&self) -> bool {
        self.part != Part::Chart && self.reference.name != self.target.name
    }
}

/// A version of `OpenShift`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenShift {
    /// Before the first point.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl OpenShift {
    /// The first version that has mirror sets; before it, there were content source policies.
    pub const MIRROR_SETS: Self = Self { major: 4, minor: 13 };
    /// The first version that has cluster catalogs.
    pub const CLUSTER_CATALOGS: Self = Self { major: 4, minor: 18 };
}

impl std::str::FromStr for OpenShift {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "it is no version of OpenShift 4 or later (expected e.g. 4.18)".to_owned();
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        match numbers.map_err(|_| wrong())?.as_slice() {
            [major, minor] | [major, minor, _] if *major >= 4 => Ok(Self { major: *major, minor: *minor }),
            _ => Err(wrong()),
        }
    }
}

/// What is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// For which version of `OpenShift`; none for all that have mirror sets.
    pub openshift: Option<OpenShift>,
    /// Whether the mirror is reached without TLS.
    pub is_insecure: bool,
}

/// For whom a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taker {
    /// A cluster takes it.
    OpenShift,
    /// podman, CRI-O, skopeo and buildah take it.
    Podman,
    /// containerd takes it.
    Containerd,
    /// k3s and RKE2 take it.
    Rancher,
    /// People and scripts read it.
    Everybody,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path in the folder.
    pub path: String,
    /// What it is.
    pub what: String,
    /// For whom it is.
    pub taker: Taker,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl File {
    fn new(path: impl Into<String>, what: impl Into<String>, taker: Taker, text: &str) -> Self {
        let bytes = format!("{MARK}\n{text}").into_bytes();
        Self { path: path.into(), what: what.into(), taker, bytes }
    }
}

/// Files, and what is not in them.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// The files, sorted by path.
    pub files: Vec<File>,
    /// What can't be expressed: causes, and what each concerns.
    pub said: BTreeMap<String, BTreeSet<String>>,
}

impl Made {
    fn say(&mut self, cause: &str, item: &impl ToString) {
        self.said.entry(cause.to_owned()).or_default().insert(item.to_string());
    }
}

/// Makes the files for images that are at the mirror.
#[must_use]
pub fn make(images: &[Mirrored], signatures: &[Signature], options: &Options) -> Made {
    let images: BTreeSet<&Mirrored> = images.iter().collect();
    let mut made = Made::default();
    for image in images.iter().filter(|image| image.is_elsewhere()) {
        say_of(image, &mut made);
    }
    let sets: Vec<&Mirrored> =
        images.iter().copied().filter(|image| image.is_elsewhere() && image.part != Part::Catalog).collect();
    let scopes = Scopes::of(&sets.iter().map(|image| image.pair()).collect());
    openshift::mirrors(&sets, &scopes, options, &mut made);
    openshift::catalogs(
        images.iter().copied().filter(|image| image.part == Part::Catalog),
        options,
        &mut made,
    );
    openshift::signatures(signatures, &mut made);
    let elsewhere: Vec<&Mirrored> = images.iter().copied().filter(|image| image.is_elsewhere()).collect();
    for item in scope::shared(elsewhere.iter().map(|image| (&image.reference.name, &image.target.name))) {
        made.say(scope::SHARED, &item);
    }
    engines::registries_conf(&elsewhere, options, &mut made);
    engines::hosts_toml(&elsewhere, options, &mut made);
    engines::registries_yaml(&elsewhere, options, &mut made);
    made.files.push(list(&images));
    made.files.sort_by(|a, b| a.path.cmp(&b.path));
    made
}

/// Says what no form can express: mirrors rename repositories and nothing else.
fn say_of(image: &Mirrored, made: &mut Made) {
    if !image.answers_digest() {
        made.say(
            "has another digest at the mirror: pulls by the old one find nothing there",
            &format!("{}@{} is {} now", image.reference.name, image.root, image.now),
        );
    }
    // What went without its tag was named by tag and digest, and its digest answers.
    let is_by_digest = image.target.tag.is_none() && image.answers_digest();
    if let Some(tag) = &image.reference.tag
        && !image.answers_tag()
        && !is_by_digest
    {
        made.say(
            "does not have its tag at the mirror, and mirrors rename no tags: pull it by its digest, or by its new name",
            &format!("{}:{tag} is {} there", image.reference.name, image.pulled_by()),
        );
    }
}

/// Lists what each image was called and what it is called now.
fn list(images: &BTreeSet<&Mirrored>) -> File {
    let mut rows = BTreeSet::new();
    for image in images {
        let (old, new) = (&image.reference.name, &image.target.name);
        // Several images that are pinned by digest may have one tag beside it: it says nothing of any of them.
        let tag = image.reference.tag.as_ref().filter(|_| image.target.tag.is_some());
        if let Some(tag) = tag {
            rows.insert(format!("{old}:{tag}\t{}", image.pulled_by()));
        }
        // By the old digest nothing is found any more where it changed: what is pinned needs the new one.
        if tag.is_none() || !image.answers_digest() {
            rows.insert(format!("{old}@{}\t{new}@{}", image.root, image.now));
        }
    }
    let rows: Vec<String> = rows.into_iter().collect();
    let text = format!("# old name\tnew name\n{}\n", rows.join("\n"));
    File::new("images.txt", "old and new names", Taker::Everybody, &text)
}
