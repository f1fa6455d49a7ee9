//! The judgement: which images are whole, what each finding costs, and what must be sent again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::report::{Amount, Cost, Counts, Finding, ImageState, Resend};
use super::subject::{State, Subject};
use super::walk::{Closure, Edge, NodeId};
use crate::bundle::table::Role;
use crate::oci::{Digest, Platform};
use crate::select::Reason;

/// Everything that follows from states and closure.
pub(super) struct Judgement {
    pub(super) images: Vec<ImageState>,
    pub(super) counts: Counts,
    pub(super) resend: Vec<Resend>,
}

/// Judges the images at the places `chosen` and fills in what each finding costs.
pub(super) fn judge(
    subject: &Subject,
    closure: &Closure,
    chosen: &[usize],
    restricted: bool,
    findings: &mut [Finding],
) -> Judgement {
    let broken = broken_images(subject, closure);
    let images = chosen.iter().map(|at| {
        let root = &subject.images[*at];
        ImageState {
            name: root.name.clone(),
            root: root.descriptor.as_ref().map(|descriptor| descriptor.digest.clone()),
            platforms: texts(&root.platforms),
            whole: !root.failed && !broken.contains(at),
        }
    });
    let mut images: Vec<ImageState> = images.collect();
    images.sort_by(|a, b| (&a.name, &a.root).cmp(&(&b.name, &b.root)));
    let roots = images_by_root(closure);
    for finding in findings.iter_mut() {
        let nodes = match &finding.digest {
            Some(digest) => closure.node(subject, digest).into_iter().collect(),
            None if finding.id == "truncated" => cut_off(subject, closure),
            None => Vec::new(),
        };
        finding.costs = costs(subject, closure, &roots, nodes);
    }
    Judgement {
        images,
        counts: counts(subject, closure, restricted),
        resend: resend(subject, closure, restricted),
    }
}

fn texts(platforms: &[Platform]) -> Vec<String> {
    platforms.iter().map(ToString::to_string).collect()
}

fn images_by_root(closure: &Closure) -> HashMap<NodeId, Vec<usize>> {
    let mut map: HashMap<NodeId, Vec<usize>> = HashMap::new();
    for (node, image) in &closure.roots {
        map.entry(*node).or_default().push(*image);
    }
    map
}

/// Returns the images that reach anything that is not whole.
fn broken_images(subject: &Subject, closure: &Closure) -> HashSet<usize> {
    let end = subject.first_lost() + closure.lost.len() as NodeId;
    let is_reached = |node: NodeId| closure.reached.get(node as usize).copied().unwrap_or(true);
    let mut stack: Vec<NodeId> =
        (0..end).filter(|node| is_reached(*node) && !closure.is_sound(subject, *node)).collect();
    let mut seen: HashSet<NodeId> = stack.iter().copied().collect();
    while let Some(node) = stack.pop() {
        stack.extend(
            closure.parents(node).iter().map(|edge| edge.parent).filter(|parent| seen.insert(*parent)),
        );
    }
    // Images whose root itself is left out or unknown have no node.
    let rooted: HashSet<usize> = closure.roots.iter().map(|(_, image)| *image).collect();
    let rootless = (0..subject.images.len()).filter(|image| !rooted.contains(image));
    closure
        .roots
        .iter()
        .filter(|(node, _)| seen.contains(node))
        .map(|(_, image)| *image)
        .chain(rootless)
        .collect()
}

/// Returns what is behind the place where the file was cut off.
fn cut_off(subject: &Subject, closure: &Closure) -> Vec<NodeId> {
    let rows =
        (0..subject.blobs.len()).filter(|at| closure.reached[*at] && subject.states[*at] == State::Missing);
    let lost = subject.first_lost()..subject.first_lost() + closure.lost.len() as NodeId;
    rows.map(|node| node as NodeId).chain(lost).collect()
}

/// Walks from nodes up to the images that need them.
fn costs(
    subject: &Subject,
    closure: &Closure,
    roots: &HashMap<NodeId, Vec<usize>>,
    nodes: Vec<NodeId>,
) -> Vec<Cost> {
    /// What is known on the way up: the platform of the manifest below, and whether the way came over an attachment.
    type Step<'a> = (NodeId, Option<&'a Platform>, bool);
    let mut costs: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let mut stack: Vec<Step<'_>> = nodes.into_iter().map(|node| (node, None, false)).collect();
    let mut seen: HashSet<Step<'_>> = stack.iter().copied().collect();
    while let Some((node, platform, attached)) = stack.pop() {
        let platform = platform.or_else(|| closure.platforms.get(&node));
        for image in roots.get(&node).into_iter().flatten() {
            let platforms = costs.entry(*image).or_default();
            match platform {
                Some(platform) => {
                    platforms.insert(platform.to_string());
                }
                // The image as a whole: all of its platforms.
                None if !attached => platforms.extend(texts(&subject.images[*image].platforms)),
                None => {}
            }
        }
        for edge in closure.parents(node) {
            let step = (edge.parent, platform, attached || edge.attached);
            if seen.insert(step) {
                stack.push(step);
            }
        }
    }
    let mut list: Vec<Cost> = costs
        .into_iter()
        .map(|(image, platforms)| Cost {
            image: subject.images[image].name.clone(),
            platforms: platforms.into_iter().collect(),
        })
        .collect();
    list.sort();
    list
}

fn counts(subject: &Subject, closure: &Closure, restricted: bool) -> Counts {
    let mut counts = Counts::default();
    for (at, row) in subject.blobs.iter().enumerate() {
        if restricted && !closure.reached[at] {
            continue;
        }
        match subject.states[at] {
            State::Whole => counts.whole.add(row.size),
            State::Damaged => counts.damaged.add(row.size),
            State::Missing => counts.missing.add(row.size),
            State::Unread => {}
        }
    }
    for lost in &closure.lost {
        counts.missing.add(lost.size);
    }
    for (at, row) in subject.patches.iter().enumerate() {
        if !restricted || !closure.parents(subject.target_node(at)).is_empty() {
            counts.rebuilt.add(row.size);
        }
    }
    if subject.recorded && !restricted {
        let mut absent: BTreeMap<Reason, Amount> = BTreeMap::new();
        for row in subject.absent.iter() {
            absent.entry(row.reason).or_default().add(row.size);
        }
        counts.absent = absent;
    } else {
        counts.absent.clone_from(&closure.absent);
    }
    counts
}

fn resend(subject: &Subject, closure: &Closure, restricted: bool) -> Vec<Resend> {
    let mut list: Vec<Resend> = Vec::new();
    // Which patches need what, for what is lost of them.
    let mut needed_by: HashMap<&Digest, Vec<usize>> = HashMap::new();
    for (at, row) in subject.patches.iter().enumerate() {
        for digest in std::iter::once(&row.patch).chain(&row.bases) {
            needed_by.entry(digest).or_default().push(at);
        }
    }
    let mut targets: BTreeSet<usize> = BTreeSet::new();
    for (at, row) in subject.blobs.iter().enumerate() {
        let is_lost = row.role == Role::Gap
            || matches!(subject.states[at], State::Damaged | State::Missing)
            || (row.role == Role::Patch && closure.unsound.contains(&(at as NodeId)));
        if !is_lost || (restricted && !closure.reached[at]) {
            continue;
        }
        let in_image = |edge: &Edge| (edge.parent as usize) < subject.blobs.len();
        let is_for_patches = match row.role {
            Role::Patch | Role::Base => true,
            Role::Gap => {
                needed_by.contains_key(row.digest) && !closure.parents(at as NodeId).iter().any(in_image)
            }
            _ => false,
        };
        if is_for_patches {
            targets.extend(lost_targets(subject, closure, &needed_by, row.digest));
        } else {
            let (digest, media_type) = (row.digest.clone(), row.media_type.to_owned());
            list.push(Resend { digest, media_type, size: row.size });
        }
    }
    list.extend(targets.into_iter().map(|at| {
        let row = &subject.patches[at];
        Resend { digest: row.target.clone(), media_type: row.media_type.clone(), size: row.size }
    }));
    list.extend(closure.lost.iter().map(|lost| Resend {
        digest: lost.digest.clone(),
        media_type: lost.media_type.clone(),
        size: lost.size,
    }));
    list.sort();
    list.dedup();
    list
}

/// Returns what of the images can't be rebuilt without a piece of content that only patches need. Whoever packed the
/// bundle may have nothing that only patches need, and has the images.
fn lost_targets(
    subject: &Subject,
    closure: &Closure,
    needed_by: &HashMap<&Digest, Vec<usize>>,
    lost: &Digest,
) -> Vec<usize> {
    let above = |digest: &Digest| needed_by.get(digest).map(Vec::as_slice).unwrap_or_default();
    let mut stack: Vec<usize> = above(lost).to_vec();
    let mut seen: HashSet<usize> = stack.iter().copied().collect();
    let mut found = Vec::new();
    while let Some(at) = stack.pop() {
        let parents = closure.parents(subject.target_node(at));
        let higher = above(&subject.patches[at].target);
        // With this one sent, everything above it can be rebuilt. Manifests that can't be read hide what is theirs.
        if higher.is_empty() || parents.iter().any(|edge| (edge.parent as usize) < subject.blobs.len()) {
            found.push(at);
        } else {
            stack.extend(higher.iter().copied().filter(|at| seen.insert(*at)));
        }
    }
    found
}
