//! Tags for images that have none: other tools push under tags only, and a registry may delete what has none.

use std::collections::{BTreeSet, HashMap};

use crate::oci::{Digest, Reference, RepositoryName};

/// The shortest part of a digest that a made tag has: 48 bits, which tell the images of any repository apart.
const SHORTEST: usize = 12;
/// The longest: with all 64 a tag would be the one under which registries look for referrers.
const LONGEST: usize = 60;

/// Returns the tag that each image gets: its own, or one made of its digest (`sha256-<12 digits or more>`) that no
/// other image of the repository has. The second value tells whether it was made.
pub(super) fn tags(images: &[(Reference, Digest)]) -> Vec<(String, bool)> {
    let mut taken: HashMap<(&RepositoryName, String), &Digest> = HashMap::new();
    for (target, root) in images {
        if let Some(tag) = &target.tag {
            taken.insert((&target.name, tag.clone()), root);
        }
    }
    // In the order of the digests, so that the order of the images does not matter.
    let untagged: BTreeSet<(&RepositoryName, &Digest)> = images
        .iter()
        .filter(|(target, _)| target.tag.is_none())
        .map(|(target, root)| (&target.name, root))
        .collect();
    let mut made = HashMap::new();
    for (name, root) in untagged {
        let hex = root.hex();
        let tag = |length: usize| format!("{}-{}", root.algorithm().as_str(), &hex[..length]);
        let is_free = |tag: &String| taken.get(&(name, tag.clone())).is_none_or(|other| *other == root);
        let tag = (SHORTEST..LONGEST).map(tag).find(is_free).unwrap_or_else(|| tag(LONGEST));
        taken.insert((name, tag.clone()), root);
        made.insert((name, root), tag);
    }
    images
        .iter()
        .map(|(target, root)| match (&target.tag, made.get(&(&target.name, root))) {
            (Some(tag), _) => (tag.clone(), false),
            (None, made) => (made.cloned().unwrap_or_default(), true),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_tags_never_meet_others() {
        let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let hex = one.hex();
        let twin: Digest = format!("sha256:{}{}", &hex[..20], "0".repeat(44)).parse().unwrap();
        let pinned =
            |digest: &Digest| (format!("r.test/a@{digest}").parse::<Reference>().unwrap(), digest.clone());
        let short = format!("sha256-{}", &hex[..12]);
        // Alone it is short; beside a twin or a tag of that name it is as long as it must be.
        assert_eq!(tags(&[pinned(&one)]), [(short.clone(), true)]);
        let named = (format!("r.test/a:{short}").parse::<Reference>().unwrap(), other);
        let both = [pinned(&one), pinned(&twin), named.clone()];
        let found: Vec<String> = tags(&both).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 3, "{found:?}");
        assert_eq!(found[2], short);
        let turned: Vec<String> =
            tags(&[named, pinned(&twin), pinned(&one)]).into_iter().map(|(t, _)| t).collect();
        assert_eq!(turned, [found[2].clone(), found[1].clone(), found[0].clone()]);
        // The same image under both is no collision, and another repository is another matter.
        let same = (format!("r.test/a:{short}").parse().unwrap(), one.clone());
        assert_eq!(tags(&[pinned(&one), same])[0].0, short);
    }
}
