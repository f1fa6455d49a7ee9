//! What a push left in place, as the content part of a receipt.

use super::names::Naming;
use super::report::{ImageOutcome, ImageReport, Report};
use super::{Prepared, RepoId, lock};
use crate::graph::{Image, Presence};
use crate::inventory::{Content, Gathering, ImageRow, Inventory, Kind, OutcomeRow, Scope};
use crate::oci::{Digest, Reference};

impl Prepared<'_> {
    /// Lists what the images that are in place have at the target; `reports` are in the order of the graph's images.
    pub(super) fn content_in_place(&self, reports: &[ImageReport]) -> Content {
        let prefix = &self.options.naming.destination.prefix;
        let mut gathering = Gathering::default();
        let mut images = Vec::new();
        for (at, report) in reports.iter().enumerate() {
            if !matches!(report.outcome, ImageOutcome::Pushed | ImageOutcome::Unchanged) {
                continue;
            }
            let image = &self.graph.images[at];
            let (target, repo) = &self.targets[at];
            self.gather(image, *repo, &mut gathering);
            images.push(ImageRow {
                name: Some(relative_name(target, prefix)),
                platforms: self.graph.image_platforms(image).0,
                root: report.root.clone(),
                source: Some(report.name.clone()),
            });
        }
        Content::new(images, gathering.finish())
    }

    /// Notes everything of an image that is in its repository: what travelled, and what was relied on.
    fn gather(&self, image: &Image, repo: RepoId, gathering: &mut Gathering) {
        let path =
            relative(&self.repositories[repo].name().repository, &self.options.naming.destination.prefix);
        gathering.repository(path);
        let rewritten = lock(&self.state.rewritten);
        // What was attached to an index that is another one now was not pushed.
        let attached = image.attached.iter().filter(|one| !rewritten.contains_key(&(repo, one.subject)));
        let kept = Image { attached: attached.cloned().collect(), ..image.clone() };
        for id in self.graph.image_closure(&kept) {
            let node = self.graph.node(id);
            if !node.kind.is_manifest() || node.presence != Presence::Shipped {
                continue;
            }
            let descriptor = rewritten.get(&(repo, id)).cloned();
            let descriptor = descriptor.unwrap_or_else(|| self.graph.descriptor(id));
            gathering.add(&descriptor.digest, descriptor.size, &descriptor.media_type, Some(path));
        }
        for id in self.required(&kept) {
            let descriptor = self.graph.descriptor(id);
            gathering.add(&descriptor.digest, descriptor.size, &descriptor.media_type, Some(path));
        }
    }
}

/// Returns a repository's path below the prefix of the destination.
fn relative<'a>(repository: &'a str, prefix: &str) -> &'a str {
    match repository.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !prefix.is_empty() => rest,
        _ => repository,
    }
}

fn relative_name(target: &Reference, prefix: &str) -> String {
    let path = relative(&target.name.repository, prefix);
    match (&target.tag, &target.digest) {
        (Some(tag), _) => format!("{path}:{tag}"),
        (None, Some(digest)) => format!("{path}@{digest}"),
        (None, None) => path.to_owned(),
    }
}

/// Makes the receipt of a push of `bundles`.
#[must_use]
pub fn receipt(report: &Report, naming: &Naming, bundles: Vec<Digest>) -> Inventory {
    let mut receipt =
        Inventory::new(Kind::Receipt, naming.destination.to_string(), Scope::Images, report.content.clone());
    receipt.bundles = bundles;
    receipt.checked = report.proved;
    let outcomes = report.images.iter().map(|image| OutcomeRow {
        image: Some(image.name.clone()),
        new_root: image.new_root.clone(),
        outcome: image.outcome.as_str().to_owned(),
        part: image.part,
        reference: image.reference.clone(),
        root: image.root.clone(),
        target: Some(image.target.clone()),
        why: image.why.clone(),
    });
    receipt.outcomes = outcomes.collect();
    receipt
}
