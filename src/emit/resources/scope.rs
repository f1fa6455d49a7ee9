//! How far a mirror reaches: over the namespace of a repository where that says the same, else over the repository alone.
//!
//! Clusters look only at the entry with the longest source that fits a name. So a repository has one scope in all sets,
//! whatever it is pulled by, and is listed itself as soon as anything else makes an entry of its own name.

use std::collections::{BTreeMap, BTreeSet};

use crate::oci::RepositoryName;

/// A source and what mirrors it, each a host with a path or without.
pub type Entry = (String, String);

/// The scopes of all repositories.
#[derive(Debug, Default)]
pub struct Scopes {
    entries: BTreeMap<(RepositoryName, RepositoryName), Entry>,
}

impl Scopes {
    /// Decides for each source repository and its target.
    #[must_use]
    pub fn of(pairs: &BTreeSet<(RepositoryName, RepositoryName)>) -> Self {
        let wide: BTreeMap<_, _> =
            pairs.iter().filter_map(|pair| Some((pair, namespace(&pair.0, &pair.1)?))).collect();
        // A namespace of the mirror that holds what came from elsewhere would answer for names that were never mirrored.
        let candidates: BTreeSet<&Entry> = wide.values().collect();
        let by_target: BTreeSet<(String, String)> =
            pairs.iter().map(|(from, to)| (to.to_string(), from.to_string())).collect();
        let mixed: BTreeSet<Entry> =
            candidates.into_iter().filter(|entry| is_mixed(entry, &by_target)).cloned().collect();
        let entry = |pair: &(RepositoryName, RepositoryName)| match wide.get(pair) {
            Some(entry) if !mixed.contains(entry) => entry.clone(),
            _ => (pair.0.to_string(), pair.1.to_string()),
        };
        let mut entries: BTreeMap<_, _> = pairs.iter().map(|pair| (pair.clone(), entry(pair))).collect();
        let sources: BTreeSet<String> = entries.values().map(|(source, _)| source.clone()).collect();
        for ((source, target), entry) in &mut entries {
            if sources.contains(&source.to_string()) {
                *entry = (source.to_string(), target.to_string());
            }
        }
        Self { entries }
    }

    /// Returns the entry by which a repository finds its target; none for a pair that was not decided on.
    #[must_use]
    pub fn entry(&self, source: &RepositoryName, target: &RepositoryName) -> Option<&Entry> {
        self.entries.get(&(source.clone(), target.clone()))
    }
}

/// What is said of hosts that share a path at a mirror.
pub const SHARED: &str = "are not told apart at the mirror: containerd, k3s and RKE2 go by host, and find an image of one by \
                          the same name at another; `--strip-registry=false` at the push keeps hosts apart";

/// Returns the paths of mirrors at which repositories of several hosts lie under their own names, with the hosts; for
/// pairs of what a repository was called and what it is called there.
#[must_use]
pub fn shared<'a>(pairs: impl Iterator<Item = (&'a RepositoryName, &'a RepositoryName)>) -> Vec<String> {
    let mut hosts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (source, target) in pairs.filter(|(source, target)| source != target) {
        if let Some(path) = before(&target.repository, &source.repository) {
            hosts.entry(joined(&target.registry, path)).or_default().insert(&source.registry);
        }
    }
    let several = hosts.into_iter().filter(|(_, hosts)| hosts.len() > 1);
    several.map(|(path, hosts)| format!("{} at {path}", Vec::from_iter(hosts).join(", "))).collect()
}

/// Returns what lies before `path` at the end of another path; none if it does not end so.
#[must_use]
pub fn before<'a>(whole: &'a str, path: &str) -> Option<&'a str> {
    let rest = whole.strip_suffix(path)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('/') }
}

/// Joins a host and a path, either side of which may be empty.
#[must_use]
pub fn joined(first: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first.to_owned(),
        (true, _) => second.to_owned(),
        _ => format!("{first}/{second}"),
    }
}

fn namespace(source: &RepositoryName, target: &RepositoryName) -> Option<Entry> {
    before(&target.repository, &source.repository)?;
    let parent = |name: &RepositoryName| {
        joined(&name.registry, name.repository.rsplit_once('/').map_or("", |(parent, _)| parent))
    };
    Some((parent(source), parent(target)))
}

/// Returns whether something else lies at or below a mirror than the source says; `by_target` has targets with their
/// sources.
fn is_mixed((source, mirror): &Entry, by_target: &BTreeSet<(String, String)>) -> bool {
    let mut here = by_target.range((mirror.clone(), String::new())..).take_while(|(to, _)| to == mirror);
    if here.any(|(_, from)| from != source) {
        return true;
    }
    let start = format!("{mirror}/");
    by_target
        .range((start.clone(), String::new())..)
        .map_while(|(to, from)| Some((to.strip_prefix(&start)?, from)))
        .any(|(below, from)| *from != joined(source, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let name = |text: &str| text.parse::<crate::oci::Reference>().unwrap().name;
        let pairs: BTreeSet<_> = pairs.iter().map(|(from, to)| (name(from), name(to))).collect();
        let scopes = Scopes::of(&pairs);
        pairs.iter().map(|(from, to)| scopes.entry(from, to).unwrap().clone()).collect()
    }

    fn entries(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn a_namespace_where_the_path_stays_else_the_repository() {
        for (from, to, entry) in [
            ("reg.test/ns/a", "dst.test/ns/a", ("reg.test/ns", "dst.test/ns")),
            ("reg.test/ns/a", "dst.test/m/ns/a", ("reg.test/ns", "dst.test/m/ns")),
            ("reg.test/ns/a", "dst.test/other/a", ("reg.test/ns/a", "dst.test/other/a")),
            // The end of a component is not the end of a path.
            ("reg.test/ns/a", "dst.test/xns/a", ("reg.test/ns/a", "dst.test/xns/a")),
            ("reg.test/a", "dst.test/m/a", ("reg.test", "dst.test/m")),
            ("reg.test/a", "dst.test/a", ("reg.test", "dst.test")),
        ] {
            assert_eq!(scopes(&[(from, to)]), entries(&[entry]), "{from} {to}");
        }
    }

    #[test]
    fn a_repository_with_an_entry_of_its_own_name_is_never_found_in_its_namespace() {
        // Two targets for one repository, one of which has another path.
        let found = scopes(&[("reg.test/ns/a", "dst.test/ns/a"), ("reg.test/ns/a", "dst.test/new/a")]);
        assert_eq!(
            found,
            entries(&[("reg.test/ns/a", "dst.test/new/a"), ("reg.test/ns/a", "dst.test/ns/a")])
        );
        // The namespace of another repository has the name of this one.
        let found = scopes(&[("reg.test/ns/a", "dst.test/ns/a"), ("reg.test/ns/a/b", "dst.test/ns/a/b")]);
        assert_eq!(found, entries(&[("reg.test/ns/a", "dst.test/ns/a"), ("reg.test/ns/a", "dst.test/ns/a")]));
    }

    #[test]
    fn a_namespace_whose_own_name_another_repository_has_at_the_mirror_is_none() {
        let found = scopes(&[
            ("a.test/ns/a", "dst.test/other"),
            ("a.test/ns/a/b", "dst.test/ns/a/b"),
            ("b.test/a/x", "dst.test/ns/a"),
        ]);
        let expected = [
            ("a.test/ns/a", "dst.test/other"),
            ("a.test/ns/a/b", "dst.test/ns/a/b"),
            ("b.test/a/x", "dst.test/ns/a"),
        ];
        assert_eq!(found, entries(&expected));
    }

    #[test]
    fn a_namespace_that_two_sources_share_at_the_mirror_answers_for_neither() {
        let found = scopes(&[("a.test/ns/x", "dst.test/ns/x"), ("b.test/ns/y", "dst.test/ns/y")]);
        assert_eq!(found, entries(&[("a.test/ns/x", "dst.test/ns/x"), ("b.test/ns/y", "dst.test/ns/y")]));
    }
}
