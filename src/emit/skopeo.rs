//! A POSIX shell script of `skopeo copy` lines.
//!
//! Every line names its source by digest and keeps digests, so that a script means what it meant when it was written. An
//! index of which platforms stay behind is copied child by child, each under its digest, and then alone: the registry has
//! to take an index of which some children are absent. So is an index inside an index. With a folder between the two ends an image is a layout there
//! (all share one folder of blobs), or a `dir:` where its manifests are Docker's, which a layout can't hold unchanged.
//!
//! Names from outside become quoted words; what goes between double quotes beside `$folder` has the letters of
//! repositories and tags only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::entry::{Attachment, Entry, is_oci};
use super::shell::quoted;
use super::{Context, Leg, Notes, Origin, Plan, PlanError, Written, counted};
use crate::oci::{Digest, media_type};

pub(super) const SINGLE: &str =
    "one platform goes under the tag, so the tag means another digest than at the source";
pub(super) const SPARSE: &str = "the target has to take an index of which platforms are absent; `--sparse single` puts one platform under the tag";
pub(super) const ORPHANED: &str = "left out: it is attached to an index that does not travel";
pub(super) const TAKEN: &str = "left out: another image's signature or attestation has this tag already";

/// Writes a plan as a script.
///
/// # Errors
/// [`PlanError::NothingToSay`].
pub fn write(plan: &Plan, context: &Context<'_>) -> Result<Written, PlanError> {
    let mut script = Script {
        context,
        lines: Vec::new(),
        folders: BTreeSet::new(),
        taken: HashMap::new(),
        notes: plan.notes.clone(),
    };
    let (mut images, mut attached) = (0, 0);
    let (mut said, mut left_out) = (Vec::new(), Vec::new());
    for entry in &plan.entries {
        match script.image(entry) {
            Ok(()) => {
                images += 1;
                said.push(entry);
            }
            Err(why) => {
                script.notes.add(format!("left out: {why}"), entry.source());
                left_out.push(entry.source());
            }
        }
    }
    for entry in &said {
        attached += script.attached(entry);
    }
    layouts(&said, &mut script.notes);
    left_out.sort();
    if images == 0 && !plan.entries.is_empty() {
        return Err(PlanError::NothingToSay { format: "a script for skopeo", notes: script.notes.finish() });
    }
    let (file, way, words) = match context.leg {
        Leg::Whole => ("copy.sh", format!("to {}", plan.destination), ""),
        Leg::ToFilesystem => ("to-filesystem.sh", "into a folder".to_owned(), " FOLDER"),
        Leg::FromFilesystem => {
            ("from-filesystem.sh", format!("from the folder to {}", plan.destination), " FOLDER")
        }
    };
    let command = format!("sh {file}{words}");
    let mut text = String::from("#!/bin/sh\n");
    text.push_str(&format!(
        "# Copies {} and {} {way}: {command}\n",
        counted(images, "image"),
        counted(attached, "attached tag")
    ));
    text.push_str("# Run again after a failure, it goes on: what is there is not copied again.\nset -eu\n");
    if context.leg != Leg::Whole {
        text.push_str("folder=${1:?say which folder: sh ");
        text.push_str(file);
        text.push_str(" FOLDER}\n");
        text.push_str(
            "case $folder in *:*) echo \"skopeo takes no folder with a colon in its name: $folder\" >&2; exit 2 ;; esac\n",
        );
    }
    if context.leg == Leg::ToFilesystem {
        for folder in &script.folders {
            text.push_str(&format!("mkdir -p \"$folder/{folder}\"\n"));
        }
    }
    for line in &script.lines {
        text.push_str(line);
        text.push('\n');
    }
    Ok(Written { text, notes: script.notes.finish(), left_out, images, attached, command })
}

/// Says what those who run the script have to know of the files it reads.
fn layouts(said: &[&Entry], notes: &mut Notes) {
    let mut count: BTreeMap<&Path, usize> = BTreeMap::new();
    for entry in said {
        let Origin::Layout(layout) = &*entry.origin else { continue };
        let path = layout.path.display().to_string();
        if layout.path.is_relative() {
            notes.add("is found from the folder in which the plan was made: run the script there", path);
        }
        if layout.is_archive {
            *count.entry(&layout.path).or_default() += 1;
        }
    }
    for (path, count) in count.into_iter().filter(|(_, count)| *count > 1) {
        notes.add(
            "may be unpacked whole for every image, which skopeo does; `barge push` reads it once",
            format!("{} with {count} images", path.display()),
        );
    }
}

/// How much of an image one line copies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Everything below it.
    All,
    /// The index alone.
    IndexOnly,
}

/// A copy under way.
struct Copy<'a> {
    depth: Depth,
    /// The source, as skopeo names it.
    from: String,
    /// The source's registry, if it is in one.
    from_host: Option<&'a str>,
    entry: &'a Entry,
    /// `:TAG` or `@DIGEST` at the target.
    to: String,
    /// Where it is in the folder, below the repository.
    place: String,
    /// Whether it can lie in a layout as it is.
    is_oci: bool,
}

struct Script<'a> {
    context: &'a Context<'a>,
    lines: Vec<String>,
    folders: BTreeSet<String>,
    taken: HashMap<String, Digest>,
    notes: Notes,
}

impl Script<'_> {
    fn image(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let (tag, place) = (format!(":{}", entry.tag), format!("_{}", entry.tag));
        self.taken.insert(entry.destination(), entry.tagged().clone());
        let whole = |depth: Depth, from: String, from_host| Copy {
            depth,
            from,
            from_host,
            entry,
            to: tag.clone(),
            place: place.clone(),
            is_oci: depth == Depth::All && entry.manifests().all(is_oci),
        };
        match &*entry.origin {
            Origin::Registry(name) => {
                let host = Some(name.registry.as_str());
                let source = |digest: &Digest| format!("docker://{name}@{digest}");
                if entry.is_sparse() || entry.is_nested() {
                    // Depth-first the other way round: what an index lists goes before it.
                    for child in entry.children.iter().rev().filter(|child| child.kept) {
                        let digest = &child.descriptor.digest;
                        let is_index = media_type::is_index(&child.descriptor.media_type);
                        self.copy(&Copy {
                            depth: if is_index { Depth::IndexOnly } else { Depth::All },
                            from: source(digest),
                            from_host: host,
                            entry,
                            to: format!("@{digest}"),
                            place: format!("_/{}", digest.hex()),
                            is_oci: !is_index && is_oci(&child.descriptor),
                        });
                    }
                    self.copy(&whole(Depth::IndexOnly, source(&entry.root.digest), host));
                    if entry.is_sparse() {
                        self.notes.add(SPARSE, entry.name.to_string());
                    }
                } else {
                    self.copy(&whole(Depth::All, source(entry.tagged()), host));
                }
                if let Some(single) = &entry.single {
                    let item = format!("{}: {single} for {}", entry.destination(), entry.root.digest);
                    self.notes.add(SINGLE, item);
                }
                Ok(())
            }
            Origin::Layout(_) if entry.is_sparse() || entry.single.is_some() => Err(
                "skopeo copies no single platforms of a layout by their digest; `barge push` carries these",
            ),
            Origin::Layout(_) if entry.is_nested() => {
                Err("skopeo copies no index inside an index out of a layout; `barge push` carries these")
            }
            Origin::Layout(_) if entry.lacking > 0 => {
                Err("its place has not all of its content; `barge push` carries these")
            }
            Origin::Layout(_) if !is_oci(&entry.root) => {
                Err("skopeo finds no manifests of Docker's types in a layout; `barge push` carries these")
            }
            Origin::Layout(layout) => {
                let from = layout.transport(&entry.root.digest, &entry.name.to_string())?;
                self.copy(&whole(Depth::All, from, None));
                Ok(())
            }
            Origin::DockerArchive(_) => {
                Err("images in docker archives have no manifest, and skopeo would make another than barge; \
                     `barge pack` and `barge push` carry these")
            }
            Origin::Made => Err("barge makes its content; `barge pack` and `barge push` carry these"),
        }
    }

    fn attached(&mut self, entry: &Entry) -> usize {
        let (mut copied, mut referrers) = (0, 0);
        for attached in entry.found(&mut self.notes) {
            match &attached.tag {
                Some(tag) => copied += usize::from(self.attached_tag(entry, attached, tag)),
                None => referrers += 1,
            }
        }
        if referrers > 0 {
            let item = format!("{}: {}", entry.name, counted(referrers, "referrer"));
            self.notes.add("left out: skopeo copies no referrers; `barge mirror` does", item);
        }
        for orphan in entry.orphaned() {
            self.notes.add(ORPHANED, format!("{} of {}", orphan.descriptor.digest, entry.name));
        }
        copied
    }

    /// Copies what is attached by a tag; returns whether it did.
    fn attached_tag(&mut self, entry: &Entry, attached: &Attachment, tag: &str) -> bool {
        let digest = &attached.descriptor.digest;
        let target = format!("{}:{tag}", entry.target);
        match self.taken.get(&target) {
            // Two tags of one image have one signature.
            Some(known) if known == digest => return false,
            Some(_) => {
                self.notes.add(TAKEN, target);
                return false;
            }
            None => self.taken.insert(target, digest.clone()),
        };
        let (from, from_host) = match &*attached.origin {
            Origin::Registry(name) => (format!("docker://{name}@{digest}"), Some(name.registry.as_str())),
            Origin::Layout(layout) => {
                let name = format!("{}:{tag}", entry.name.name);
                match layout.transport(digest, &name) {
                    Ok(from) => (from, None),
                    Err(why) => {
                        self.notes.add(format!("left out: {why}"), format!("{tag} of {}", entry.name));
                        return false;
                    }
                }
            }
            Origin::DockerArchive(_) | Origin::Made => return false,
        };
        let is_oci = is_oci(&attached.descriptor);
        let (to, place) = (format!(":{tag}"), format!("_{tag}"));
        self.copy(&Copy { depth: Depth::All, from, from_host, entry, to, place, is_oci });
        true
    }

    fn copy(&mut self, copy: &Copy<'_>) {
        let insecure = |host: Option<&str>| host.is_some_and(|host| (self.context.insecure)(host));
        let mut words = vec![match copy.depth {
            Depth::All => "skopeo copy --all --preserve-digests".to_owned(),
            Depth::IndexOnly => "skopeo copy --multi-arch=index-only --preserve-digests".to_owned(),
        }];
        let repository = &copy.entry.target.repository;
        let blobs = |end: &str| format!("--{end}-shared-blob-dir \"$folder/_blobs\"");
        let transport = if copy.is_oci { "oci" } else { "dir" };
        let in_folder = format!("\"{transport}:$folder/{repository}/{}\"", copy.place);
        if self.context.leg == Leg::FromFilesystem {
            words.extend(copy.is_oci.then(|| blobs("src")));
        } else if insecure(copy.from_host) {
            words.push("--src-tls-verify=false".to_owned());
        }
        if self.context.leg != Leg::FromFilesystem && copy.from_host.is_some() {
            let given =
                [("--src-authfile", self.context.auth_file), ("--src-cert-dir", self.context.cert_dir)];
            words.extend(
                given.into_iter().filter_map(|(flag, path)| Some(format!("{flag} {}", quoted(path?)))),
            );
        }
        if self.context.leg == Leg::ToFilesystem {
            words.extend(copy.is_oci.then(|| blobs("dest")));
        } else if insecure(Some(&copy.entry.target.registry)) {
            words.push("--dest-tls-verify=false".to_owned());
        }
        let to = quoted(&format!("docker://{}{}", copy.entry.target, copy.to));
        match self.context.leg {
            Leg::Whole => words.extend([quoted(&copy.from), to]),
            Leg::ToFilesystem => words.extend([quoted(&copy.from), in_folder]),
            Leg::FromFilesystem => words.extend([in_folder, to]),
        }
        let parent = copy.place.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("/{parent}"));
        self.folders.insert(format!("{repository}{parent}"));
        let line = words.join(" ");
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }
}
