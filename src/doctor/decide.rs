//! What is known of a target, held against what is to be packed: what goes wrong there is said here, before the trip.

use super::{Referring, SparseAnswer, State, Target};
use crate::graph::{Graph, Kind, NodeId, Presence};
use crate::pack::Warning;
use crate::plan::Summary;
use crate::push::names::{Naming, NamingError};
use crate::select::Reason;

/// What a target makes of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// What a push fails at, whatever flags it has.
    pub errors: Vec<Warning>,
    /// What a push fails at without the flags below, or what may go wrong.
    pub warnings: Vec<Warning>,
    /// What the push is to be told.
    pub flags: Vec<String>,
}

impl Decision {
    fn flag(&mut self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let is_there = self.flags.windows(words.len()).any(|window| window == words);
        if !is_there {
            self.flags.extend(words);
        }
    }
}

/// Holds a plan against what is known of its target.
#[must_use]
pub fn decide(target: &Target, graph: &Graph, summary: &Summary) -> Decision {
    let mut decision = Decision::default();
    // What it takes to talk to the target; what it takes of this plan is found out below.
    let mut words = target.push.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--sparse" | "--max-path-components" => drop(words.next()),
            word => decision.flags.push(word.to_owned()),
        }
    }
    let failed = target.findings.iter().filter(|finding| finding.state == State::Failed);
    add(
        &mut decision.warnings,
        "as things stood when the target was asked, a push fails; ask again by `barge doctor` when the cause is mended",
        failed.map(|finding| format!("{}: {}", finding.id, finding.seen)).collect(),
    );
    sparse(target, graph, &mut decision);
    names(target, graph, &mut decision);
    sizes(target, graph, &mut decision);
    if target.facts.referrers == Some(Referring::Refused) {
        let items: Vec<String> = graph
            .images
            .iter()
            .filter(|image| image.attached.iter().any(|attached| attached.tag.is_none()))
            .map(|image| image.name.to_string())
            .collect();
        add(
            &mut decision.warnings,
            "the target refuses what is attached to these; pack with --attachments none, or push the rest with \
             --keep-going",
            items,
        );
    }
    if let Some(most) = target.facts.volume_size.filter(|most| summary.bytes > *most) {
        let items = vec![format!("{} bytes of content, {most} bytes fit", summary.bytes)];
        add(&mut decision.warnings, "the bundle is larger than the medium takes in one file", items);
    }
    decision
}

fn add(list: &mut Vec<Warning>, cause: &str, items: Vec<String>) {
    if !items.is_empty() {
        list.push(Warning { cause: cause.to_owned(), items });
    }
}

/// Whether a push puts an index that lists manifests it does not put.
fn is_sparse(graph: &Graph, root: NodeId) -> bool {
    graph.closure(root).into_iter().any(|id| {
        let node = graph.node(id);
        node.kind == Kind::Index
            && node.presence == Presence::Shipped
            && graph.children(id).iter().any(|child| {
                matches!(
                    graph.node(*child).presence,
                    Presence::Unshipped | Presence::Absent(Reason::Platform | Reason::Source)
                )
            })
    })
}

fn sparse(target: &Target, graph: &Graph, decision: &mut Decision) {
    let items = || -> Vec<String> {
        let sparse = graph.images.iter().filter(|image| is_sparse(graph, image.root));
        sparse.map(|image| image.name.to_string()).collect()
    };
    match target.facts.sparse {
        Some(SparseAnswer::Accepted) => {}
        Some(SparseAnswer::Refused | SparseAnswer::Stubbed) => {
            let items = items();
            if !items.is_empty() {
                decision.flag(&["--sparse", "rewrite"]);
            }
            add(
                &mut decision.warnings,
                "the target takes no index of which platforms were left out; push with --sparse rewrite, which changes \
                 the digest, or pack all platforms",
                items,
            );
        }
        None | Some(SparseAnswer::Other) => add(
            &mut decision.warnings,
            "it is not known whether the target takes an index of which platforms were left out; \
             `barge doctor REGISTRY --repo SCRATCH` finds out",
            items(),
        ),
    }
}

fn names(target: &Target, graph: &Graph, decision: &mut Decision) {
    let Ok(destination) = target.destination() else { return };
    let mut naming =
        Naming { destination, rules: Vec::new(), strip_registry: true, max_components: None, exact: None };
    let images = || graph.images.iter().map(|image| (&image.name, graph.digest(image.root)));
    if let Some(most) = target.facts.max_path_components {
        let too_deep: Vec<String> = images()
            .filter_map(|(name, _)| naming.target(name).ok())
            .filter(|target| target.name.repository.split('/').count() > most)
            .map(|target| target.to_string())
            .collect();
        if !too_deep.is_empty() {
            naming.max_components = Some(most);
            let limit = most.to_string();
            decision.flag(&["--max-path-components", &limit]);
            let cause = format!(
                "the target takes paths of {most} components; push with --max-path-components {most}, which joins the \
                 last ones"
            );
            add(&mut decision.warnings, &cause, too_deep);
        }
    }
    match naming.targets(images()) {
        Ok(targets) if target.facts.creates_repositories == Some(false) => {
            let mut items: Vec<String> = targets.iter().map(|target| target.name.to_string()).collect();
            items.sort();
            items.dedup();
            add(&mut decision.warnings, "must be made at the target before the push", items);
        }
        Ok(_) => {}
        Err(error) => {
            let cause = match &error {
                NamingError::Collision { .. } => {
                    "two images would have one name at the target; give one another name: NAME=SOURCE"
                }
                NamingError::TooDeep(_) => "the target's path has no room left below it",
                _ => "a name can't be used at the target; give another name: NAME=SOURCE",
            };
            add(&mut decision.errors, cause, vec![error.to_string()]);
        }
    }
}

fn sizes(target: &Target, graph: &Graph, decision: &mut Decision) {
    let too_large = |limit: Option<u64>, is_manifest: bool| -> Vec<String> {
        let Some(limit) = limit else { return Vec::new() };
        let mut items = Vec::new();
        for image in &graph.images {
            for id in graph.image_closure(image) {
                let node = graph.node(id);
                let travels = matches!(node.presence, Presence::Shipped | Presence::Patched);
                if travels && node.kind.is_manifest() == is_manifest && node.size > limit {
                    items.push(format!("{} of {}, {} bytes", graph.digest(id), image.name, node.size));
                }
            }
        }
        items
    };
    let (manifests, blobs) = (target.facts.max_manifest_bytes, target.facts.max_blob_bytes);
    add(&mut decision.errors, "the target refuses manifests this large", too_large(manifests, true));
    add(&mut decision.errors, "the target refuses blobs this large", too_large(blobs, false));
}
