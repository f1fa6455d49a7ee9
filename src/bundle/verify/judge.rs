//! The judgement: which images are whole, what each finding costs, and what must be sent again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::report::{Amount, Cost, Counts, Finding, ImageState, Resend};
use super::subject::{State, Subject};
use super::walk::{Closure, NodeId};
use crate::bundle::table::Role;
use crate::oci::Platform;
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
    let rows = subject.blobs.len();
    let mut stack: Vec<NodeId> = (0..(rows + closure.lost.len()) as NodeId)
        .filter(|node| {
            let is_row = (*node as usize) < rows;
            (!is_row || closure.reached[*node as usize]) && !closure.is_sound(subject, *node)
        })
        .collect();
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
    let lost = subject.blobs.len()..subject.blobs.len() + closure.lost.len();
    rows.chain(lost).map(|node| node as NodeId).collect()
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
    let rows = subject.blobs.iter().enumerate().filter(|(at, row)| {
        let is_wanted = !restricted || closure.reached[*at];
        is_wanted && (row.role == Role::Gap || matches!(subject.states[*at], State::Damaged | State::Missing))
    });
    let mut list: Vec<Resend> = rows
        .map(|(_, row)| Resend {
            digest: row.digest.clone(),
            media_type: row.media_type.to_owned(),
            size: row.size,
        })
        .collect();
    list.extend(closure.lost.iter().map(|lost| Resend {
        digest: lost.digest.clone(),
        media_type: lost.media_type.clone(),
        size: lost.size,
    }));
    list.sort();
    list
}
