//! What of a graph travels, where the far side has some of it or asks only for some.

use std::collections::HashSet;
use std::sync::Arc;

use super::asked::Recorded;
use super::{Asked, Leftover, PackError};
use crate::bundle::Union;
use crate::bundle::recipe::{Origin, Recipe};
use crate::graph::patched::{FarContent, Patch};
use crate::graph::survey::{Failure, Survey};
use crate::graph::{Graph, Image, NodeId, Presence};
use crate::oci::{Descriptor, Digest, Reference};
use crate::request::Request;
use crate::select::{Reason, Select};
use crate::transfer::{TransferError, archive};

/// Derives the graph of what is to travel.
pub(super) fn graph_of(survey: &mut Survey, asked: &Asked, select: &dyn Select) -> Result<Graph, PackError> {
    let mut graph = Graph::build(survey, select).map_err(TransferError::from)?;
    if let Some(request) = &asked.request {
        let needing = images_needing(&graph, request)?;
        survey.roots.retain(|root| needing.contains(&root.name));
        graph = Graph::build(survey, select).map_err(TransferError::from)?;
    }
    graph.changed = asked.changes_of(&graph);
    rely_on(&mut graph, &survey.failures, asked)?;
    Ok(graph)
}

/// Returns the names of the images that need something of what is asked for, of those that the request is about: another
/// image of the same name may need it too, and would turn the tag at the far side back to itself.
fn images_needing(graph: &Graph, request: &Request) -> Result<HashSet<Reference>, PackError> {
    let is_wanted = |id: &NodeId| request.find(graph.digest(*id)).is_some();
    let mut needing: Vec<&Image> =
        graph.images.iter().filter(|image| graph.image_closure(image).iter().any(is_wanted)).collect();
    if needing.is_empty() {
        return Err(PackError::NothingRequested);
    }
    let meant: HashSet<&Digest> = request.images.iter().filter_map(|image| image.root.as_ref()).collect();
    needing.retain(|image| meant.is_empty() || meant.contains(graph.digest(image.root)));
    if needing.is_empty() {
        return Err(PackError::OthersRequested);
    }
    Ok(needing.into_iter().map(|image| image.name.clone()).collect())
}

/// Leaves out what the far side has.
fn rely_on(graph: &mut Graph, failures: &[Failure], asked: &Asked) -> Result<(), PackError> {
    let holds = |digest: &Digest, size: u64| match &asked.relied {
        Some(relied) => relied.holds.seen(digest, size).is_some(),
        None => false,
    };
    let leftover: Vec<NodeId> = graph
        .nodes()
        .filter(|(_, digest, node)| {
            node.presence == Presence::Absent(Reason::Base) && !holds(digest, node.size)
        })
        .map(|(id, ..)| id)
        .collect();
    let policy = asked.relied.as_ref().map_or(Leftover::Refused, |relied| relied.leftover);
    if let (Some(first), Leftover::Refused) = (leftover.first(), policy) {
        return Err(PackError::BaseNotGiven {
            count: leftover.len(),
            digest: graph.digest(*first).clone(),
            image: archive::owner(graph, *first),
        });
    }
    if let Some(relied) = &asked.relied {
        let mut removed = (relied.removed)(graph);
        // What could not be had is wanted all the same.
        for failure in failures {
            removed.remove(&failure.name.to_string());
            removed.remove(&failure.name.path());
        }
        graph.rely_on(relied.bases.clone(), removed, &*relied.holds, &Recorded::of(asked));
        if let (Leftover::Kept, Some(union)) = (relied.leftover, &asked.union) {
            carry_patches(graph, union);
        }
    }
    Ok(())
}

/// Lets the patches of bundles travel on that build on something which none of the bundles has, with all in between.
fn carry_patches(graph: &mut Graph, union: &Union) {
    let relied: Vec<(NodeId, Arc<Recipe>)> = graph
        .nodes()
        .filter(|(_, _, node)| node.presence == Presence::Absent(Reason::Base))
        .filter_map(|(id, digest, _)| Some((id, union.recipe(digest)?)))
        .collect();
    let mut far = FarContent::new();
    for (_, recipe) in &relied {
        let only_there = recipe.ingredients().into_iter().filter(|base| base.origin == Origin::FarSide);
        far.extend(only_there.map(|base| (base.digest.clone(), (base.size, base.seen.to_vec()))));
    }
    for (id, recipe) in relied {
        // Where a month goes back to what was there before the first delta, that is relied on as it is.
        if !far.contains_key(graph.digest(id)) {
            carry(graph, id, &recipe, &mut far);
        }
    }
    // What the patches that were carried build on, and nothing else.
    let built_on: HashSet<Digest> =
        graph.patched().into_iter().flat_map(|(_, patch)| patch.bases.iter().cloned()).collect();
    far.retain(|digest, _| built_on.contains(digest));
    if let Some(reliance) = &mut graph.reliance {
        reliance.add_content(far);
    }
}

/// Lets the patch of a node travel on, and what it builds on unless that is among what the far side has.
fn carry(graph: &mut Graph, id: NodeId, recipe: &Recipe, far: &mut FarContent) {
    if graph.patch_of(id).is_some() {
        return;
    }
    let bases = recipe.bases.iter().map(|base| base.digest.clone()).collect();
    let (digest, size) = (recipe.patch.digest.clone(), recipe.patch.size);
    graph.patch(id, Patch { digest, size, codec: recipe.codec.clone(), bases, source: 0 });
    for base in &recipe.bases {
        if far.contains_key(&base.digest) {
            continue;
        }
        let content = Descriptor::new(&recipe.target.media_type, base.digest.clone(), base.size);
        let is_there = graph.find(&base.digest).map(|id| graph.node(id).presence);
        match (&base.origin, is_there) {
            (_, Some(Presence::Shipped | Presence::Patched)) => {}
            (Origin::Held, None) => {
                graph.add_support(&content, 0);
            }
            (Origin::Rebuilt(below), _) => {
                let id = graph.add_support(&content, 0);
                carry(graph, id, below, far);
            }
            (Origin::Held | Origin::FarSide, _) => {
                far.insert(base.digest.clone(), (base.size, base.seen.to_vec()));
            }
        }
    }
}
