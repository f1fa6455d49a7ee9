//! Which parts of a graph travel: platforms wanted, foreign layers, attached content.
//!
//! A selector sees descriptors only; what it leaves out is recorded by the graph, never forgotten.

use serde::{Deserialize, Serialize};

use crate::oci::platform::Match;
use crate::oci::{Descriptor, Digest, Platform, media_type};

/// Why content of the closure is left out on purpose; the greater one is what a record gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Its platform was not selected.
    Platform,
    /// A layer that may not be redistributed.
    Foreign,
    /// The far side has it.
    Base,
    /// The source refers to it and does not have it.
    Source,
}

/// Which attached content is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attachments {
    /// Everything: signatures, attestations, SBOMs, any referrer.
    #[default]
    All,
    /// Signatures only.
    Signatures,
    /// Nothing.
    None,
}

impl Attachments {
    /// Returns whether attached content found by `tag` (none for a referrer) and of this artifact type is wanted.
    #[must_use]
    pub fn wants(self, tag: Option<&str>, artifact_type: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Signatures => match tag {
                Some(tag) => tag.strip_suffix(".sig").is_some(),
                None => artifact_type.is_some_and(is_signature_type),
            },
        }
    }
}

/// Artifact types by which signing tools mark signatures among referrers: cosign (both forms) and notation; and those of
/// releases.
fn is_signature_type(artifact_type: &str) -> bool {
    artifact_type == "application/vnd.cncf.notary.signature"
        || artifact_type == media_type::RELEASE_SIGNATURE
        || artifact_type == "application/vnd.dev.cosign.artifact.sig.v1+json"
        || artifact_type.starts_with("application/vnd.dev.sigstore.bundle")
}

/// Decides which entries of an image index travel.
pub trait Select: Sync {
    /// Returns, for each of `children`, whether it travels. `wanted` are the platforms wanted of the image by which they are
    /// reached; where it is empty, those that are wanted of all.
    fn children(&self, children: &[Descriptor], wanted: &[Platform]) -> Vec<bool>;

    /// Returns whether the content of a non-distributable layer travels.
    fn foreign_layers(&self) -> bool;

    /// Returns why content that would travel is known to be left out, as a bundle's record says. Selectors that have
    /// no record know of nothing.
    fn left_out(&self, _digest: &Digest) -> Option<Reason> {
        None
    }

    /// Returns the platform of an image without an index whose configuration is not at hand, as a bundle's record says.
    fn platform(&self, _root: &Digest) -> Option<Platform> {
        None
    }

    /// The same of content that is to come from the survey's source number `source`, where sources differ in what
    /// they left out.
    fn left_out_at(&self, digest: &Digest, _source: usize) -> Option<Reason> {
        self.left_out(digest)
    }
}

/// Selects by platform, as a user asks for it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Platforms wanted; empty for all.
    pub platforms: Vec<Platform>,
    /// Whether non-distributable layers travel.
    pub foreign_layers: bool,
}

impl Wanted {
    /// Returns the platforms wanted of an image that has such a list of its own.
    #[must_use]
    pub fn of<'a>(&'a self, own: &'a [Platform]) -> &'a [Platform] {
        if own.is_empty() { &self.platforms } else { own }
    }
}

/// Returns the platforms of `wanted` that none of `have` answers, and those answered by another variant only.
#[must_use]
pub fn unanswered<'a>(wanted: &'a [Platform], have: &[&Platform]) -> (Vec<&'a Platform>, Vec<&'a Platform>) {
    let (mut lacking, mut inexact) = (Vec::new(), Vec::new());
    for wanted in wanted {
        match have.iter().filter_map(|platform| platform.answers(wanted)).max() {
            None => lacking.push(wanted),
            Some(Match::Exact) => {}
            Some(_) => inexact.push(wanted),
        }
    }
    (lacking, inexact)
}

/// Returns the platform that an entry of an index is chosen by: none for entries that always travel.
#[must_use]
pub fn choosable(child: &Descriptor) -> Option<&Platform> {
    child.platform.as_ref().filter(|platform| !platform.is_unknown() && !platform.is_empty())
}

impl Select for Wanted {
    fn children(&self, children: &[Descriptor], wanted: &[Platform]) -> Vec<bool> {
        let wanted = self.of(wanted);
        if wanted.is_empty() {
            return vec![true; children.len()];
        }
        let have: Vec<&Platform> = children.iter().filter_map(choosable).collect();
        let best = |wanted| have.iter().filter_map(|platform| platform.answers(wanted)).max();
        let best: Vec<Option<Match>> = wanted.iter().map(best).collect();
        let chosen = |platform: &Platform| {
            let mut each = wanted.iter().zip(&best);
            each.any(|(wanted, best)| best.is_some() && platform.answers(wanted) == *best)
        };
        let mut keep: Vec<bool> = children.iter().map(|child| choosable(child).is_none_or(chosen)).collect();
        // An attestation goes with the child it describes; one whose child is not in this index stays.
        for at in 0..children.len() {
            if let Some(subject) = children[at].attests()
                && choosable(&children[at]).is_none()
                && let Some(described) = children.iter().position(|child| child.digest == subject)
            {
                keep[at] = keep[described];
            }
        }
        keep
    }

    fn foreign_layers(&self) -> bool {
        self.foreign_layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(platform: &str) -> Descriptor {
        let mut child = Descriptor::of("application/vnd.oci.image.manifest.v1+json", platform.as_bytes());
        child.platform = (!platform.is_empty()).then(|| platform.parse().unwrap());
        child
    }

    fn attestation_of(digest: &Digest) -> Descriptor {
        let mut child = child("unknown/unknown");
        child.annotations.insert("vnd.docker.reference.digest".to_owned(), digest.to_string());
        child
    }

    fn kept(wanted: &[&str], children: &[Descriptor]) -> Vec<bool> {
        let platforms = wanted.iter().map(|text| text.parse().unwrap()).collect();
        Wanted { platforms, foreign_layers: false }.children(children, &[])
    }

    #[test]
    fn only_wanted_platforms_travel_and_the_platform_less_always_do() {
        let children = [child("linux/amd64"), child("linux/arm64/v8"), child(""), child("linux/s390x")];
        assert_eq!(kept(&["linux/arm64"], &children), [false, true, true, false]);
        assert_eq!(kept(&[], &children), [true; 4]);
        assert_eq!(kept(&["linux/riscv64"], &children), [false, false, true, false]);
    }

    #[test]
    fn the_best_variant_is_taken_and_never_another_architecture() {
        let children = [child("linux/arm/v5"), child("linux/arm/v6"), child("linux/arm64")];
        assert_eq!(kept(&["linux/arm/v7"], &children), [false, true, false]);
        assert_eq!(kept(&["linux/arm/v5"], &children), [true, false, false]);
    }

    #[test]
    fn every_version_of_a_system_travels() {
        let mut versions = [child("windows/amd64"), child("windows/amd64")];
        versions[1].platform.as_mut().unwrap().os_version = Some("10.0.17763".to_owned());
        assert_eq!(kept(&["windows/amd64"], &versions), [true, true]);
    }

    #[test]
    fn what_an_image_says_itself_goes_before_what_is_wanted_of_all() {
        let children = [child("linux/amd64"), child("linux/arm64"), child("linux/s390x")];
        let of_all = Wanted { platforms: vec!["linux/amd64".parse().unwrap()], foreign_layers: false };
        let own = ["linux/s390x".parse().unwrap(), "linux/arm64".parse().unwrap()];
        assert_eq!(of_all.children(&children, &own), [false, true, true]);
        assert_eq!(of_all.children(&children, &[]), [true, false, false]);
        assert_eq!(Wanted::default().children(&children, &own[..1]), [false, false, true]);
    }

    #[test]
    fn an_attestation_follows_its_child() {
        let (amd, arm) = (child("linux/amd64"), child("linux/arm64"));
        let stray = attestation_of(&Digest::sha256(b"elsewhere"));
        let children = [
            amd.clone(),
            arm.clone(),
            attestation_of(&amd.digest),
            attestation_of(&arm.digest),
            stray,
            child("unknown/unknown"),
        ];
        assert_eq!(kept(&["linux/amd64"], &children), [true, false, true, false, true, true]);
    }

    #[test]
    fn signatures_are_told_from_other_attachments() {
        let signatures = Attachments::Signatures;
        assert!(signatures.wants(Some("sha256-00.sig"), None));
        assert!(!signatures.wants(Some("sha256-00.att"), None));
        assert!(signatures.wants(None, Some("application/vnd.cncf.notary.signature")));
        assert!(signatures.wants(None, Some("application/vnd.barge.release-signature.v1")));
        assert!(!signatures.wants(None, Some("application/spdx+json")));
        assert!(!Attachments::None.wants(Some("sha256-00.sig"), None));
    }
}
