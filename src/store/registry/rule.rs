//! Rules of how registries are reached, and the names under which a repository is asked for by them.
//!
//! They are those of `registries.conf`: the longest prefix that fits a name counts, its mirrors are asked in their order
//! and the place itself last.

use std::collections::HashSet;
use std::path::PathBuf;

use super::super::{Result, StoreError};
use crate::oci::RepositoryName;
use crate::oci::reference::{is_host, is_repository};

/// A place that stands for another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    /// A registry's host, or a path at it.
    pub location: String,
    /// Whether plain HTTP and unverified TLS are allowed for what is pulled from it in the other's place.
    pub insecure: bool,
}

impl From<&str> for Mirror {
    fn from(location: &str) -> Self {
        Self { location: location.to_owned(), insecure: false }
    }
}

/// How a registry, or what lies below a path of one, is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// A registry's host, or a path at it: `registry.example[:PORT][/PATH]`; `*.example` for all hosts below.
    pub prefix: String,
    /// Places that are asked first, in this order.
    pub mirrors: Vec<Mirror>,
    /// Whether the place itself is not asked.
    pub mirrors_only: bool,
    /// Whether plain HTTP and unverified TLS are allowed for what is pulled from the place itself: not from its mirrors,
    /// from nothing else at its host, and not for what is pushed.
    pub insecure: bool,
    /// A folder with certificates.
    pub cert_dir: Option<PathBuf>,
    /// A file with credentials.
    pub auth_file: Option<PathBuf>,
}

/// Returns how many bytes of a name a place stands for: a host, a host with a path, or `*.DOMAIN`.
fn covered(place: &str, name: &str) -> Option<usize> {
    if let Some(domain) = place.strip_prefix('*') {
        let host = name.split('/').next().unwrap_or(name);
        return host.ends_with(domain).then_some(host.len());
    }
    let rest = name.strip_prefix(place)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(place.len())
}

/// Returns whether a pattern, `HOST`, `HOST:PORT` or `*.DOMAIN`, means a host with or without its port.
pub(super) fn means_host(pattern: &str, authority: &str) -> bool {
    let host = super::url::split_port(authority).0;
    match pattern.strip_prefix('*') {
        Some(domain) if !domain.is_empty() => {
            let host = host.to_ascii_lowercase();
            host.ends_with(&domain.to_ascii_lowercase())
                || authority.to_ascii_lowercase().ends_with(&domain.to_ascii_lowercase())
        }
        Some(_) => true,
        None => pattern.eq_ignore_ascii_case(authority) || pattern.eq_ignore_ascii_case(host),
    }
}

impl Rule {
    /// Checks that the prefix and the mirrors are hosts, or paths at hosts.
    pub(super) fn check(&self) -> Result<()> {
        let is_place = |place: &str| match place.split_once('/') {
            Some((host, path)) => is_host(host) && is_repository(path),
            None => is_host(place),
        };
        let prefix = self.prefix.strip_prefix("*.").unwrap_or(&self.prefix);
        for (what, place) in [("prefix", prefix)]
            .into_iter()
            .chain(self.mirrors.iter().map(|m| ("mirror", m.location.as_str())))
        {
            if !is_place(place) {
                let why = format!("its {what} `{place}` is not HOST[:PORT][/PATH]");
                return Err(StoreError::Invalid { place: format!("the registry `{}`", self.prefix), why });
            }
        }
        Ok(())
    }

    fn places(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.prefix).chain(self.mirrors.iter().map(|mirror| &*mirror.location))
    }

    /// Returns the hosts of the place and its mirrors.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.places().map(host_of)
    }

    /// Returns the hosts of the mirrors, without that of the place itself.
    pub(super) fn mirror_hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts().filter(|mirror| !mirror.eq_ignore_ascii_case(host_of(&self.prefix)))
    }

    /// Returns how much of a name the place or one of its mirrors stands for.
    pub(super) fn speaks_of(&self, name: &str) -> Option<usize> {
        self.places().filter_map(|place| covered(place, name)).max()
    }
}

fn host_of(place: &str) -> &str {
    place.split('/').next().unwrap_or(place)
}

/// A name under which a repository is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stand {
    pub name: RepositoryName,
    /// Whether a rule allows plain HTTP and unverified TLS there.
    pub insecure: bool,
    /// Whether it is the repository's own name.
    pub is_itself: bool,
}

/// Returns the names under which a repository is asked for, in order.
pub(super) fn stands(rules: &[Rule], name: &RepositoryName) -> Vec<Stand> {
    let text = name.to_string();
    let fitting = rules.iter().filter_map(|rule| Some((covered(&rule.prefix, &text)?, rule)));
    // Of equal ones the first: `max_by_key` would take the last.
    let mut best: Option<(usize, &Rule)> = None;
    for (length, rule) in fitting {
        if best.is_none_or(|(longest, _)| length > longest) {
            best = Some((length, rule));
        }
    }
    let insecure = best.is_some_and(|(_, rule)| rule.insecure);
    let itself = Stand { name: name.clone(), insecure, is_itself: true };
    let Some((length, rule)) = best else { return vec![itself] };
    let mirrored = |mirror: &Mirror| {
        let full = format!("{}{}", mirror.location, &text[length..]);
        let (registry, repository) = full.split_once('/')?;
        let name = RepositoryName { registry: registry.to_owned(), repository: repository.to_owned() };
        let is_itself = name == itself.name;
        Some(Stand { name, insecure: mirror.insecure || (is_itself && insecure), is_itself })
    };
    let mut stands: Vec<Stand> = rule.mirrors.iter().filter_map(mirrored).collect();
    if !rule.mirrors_only || stands.is_empty() {
        stands.push(itself.clone());
    }
    let mut seen = HashSet::new();
    stands.retain(|stand| seen.insert(stand.name.clone()));
    stands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, mirrors: &[&str]) -> Rule {
        let mirrors = mirrors.iter().map(|mirror| Mirror::from(*mirror)).collect();
        Rule { prefix: prefix.to_owned(), mirrors, ..Rule::default() }
    }

    fn asked(rules: &[Rule], name: &str) -> Vec<String> {
        stands(rules, &name.parse().unwrap()).iter().map(|stand| stand.name.to_string()).collect()
    }

    #[test]
    fn the_longest_prefix_counts_and_whole_segments_only() {
        let rules = [
            rule("r.example", &["m.example/all"]),
            rule("r.example/team", &["m.example:5000", "n.example/x/y"]),
            rule("docker.io", &["m.example/hub"]),
            rule("*.wide.example", &["w.example/p"]),
        ];
        assert_eq!(asked(&rules, "r.example/app"), ["m.example/all/app", "r.example/app"]);
        assert_eq!(
            asked(&rules, "r.example/team/a/b"),
            ["m.example:5000/a/b", "n.example/x/y/a/b", "r.example/team/a/b"]
        );
        assert_eq!(asked(&rules, "r.example/teams/a"), ["m.example/all/teams/a", "r.example/teams/a"]);
        assert_eq!(asked(&rules, "alpine"), ["m.example/hub/library/alpine", "docker.io/library/alpine"]);
        assert_eq!(asked(&rules, "a.wide.example:1/x"), ["a.wide.example:1/x"]);
        assert_eq!(asked(&rules, "a.wide.example/x"), ["w.example/p/x", "a.wide.example/x"]);
        assert_eq!(asked(&rules, "wide.example/x"), ["wide.example/x"]);
        assert_eq!(asked(&rules, "r.example.org/app"), ["r.example.org/app"]);
    }

    #[test]
    fn mirrors_only_leaves_out_the_place_itself_and_no_place_is_asked_twice() {
        let only = Rule { mirrors_only: true, ..rule("r.example", &["m.example"]) };
        assert_eq!(asked(&[only], "r.example/a"), ["m.example/a"]);
        assert_eq!(asked(&[rule("r.example", &["r.example", "m.example"])], "r.example/a").len(), 2);
        // The mirror of one repository by its whole name has to name a repository.
        assert_eq!(asked(&[rule("r.example/a", &["m.example/b", "m.example"])], "r.example/a").len(), 2);
    }

    #[test]
    fn insecure_is_for_what_it_was_said_of_and_nothing_else() {
        let mirror = Mirror { insecure: true, ..Mirror::from("n.example") };
        let mut rules = [rule("r.example/team", &["m.example"]), rule("s.example", &[])];
        rules[0].mirrors.push(mirror);
        rules[1].insecure = true;
        let insecure = |name: &str| -> Vec<bool> {
            stands(&rules, &name.parse().unwrap()).iter().map(|stand| stand.insecure).collect()
        };
        assert_eq!(insecure("r.example/team/app"), [false, true, false]);
        assert_eq!(insecure("r.example/app"), [false]);
        assert_eq!(insecure("n.example/app"), [false]);
        assert_eq!(insecure("s.example/app"), [true]);
    }

    #[test]
    fn a_rule_speaks_of_its_mirrors_too() {
        let rule = rule("r.example/team", &["m.example:5000/x"]);
        assert_eq!(rule.speaks_of("r.example/team/a"), Some(14));
        assert_eq!(rule.speaks_of("m.example:5000/x/a"), Some(16));
        assert_eq!(rule.speaks_of("r.example/other"), None);
        assert_eq!(rule.mirror_hosts().collect::<Vec<_>>(), ["m.example:5000"]);
        assert_eq!(rule.hosts().collect::<Vec<_>>(), ["r.example", "m.example:5000"]);
    }

    #[test]
    fn places_that_are_none_are_refused() {
        for bad in ["", "http://m.example", "m.example/", "m.example/UP", "m.example:x", "a b"] {
            assert!(rule("r.example", &[bad]).check().is_err(), "{bad}");
        }
        assert!(rule("https://r.example", &[]).check().is_err());
        assert!(rule("*.example", &["m.example:5000/a/b", "localhost:5000"]).check().is_ok());
    }

    #[test]
    fn hosts_are_meant_with_any_port_unless_one_is_given() {
        assert!(means_host("r.example", "r.example:5000") && means_host("r.example:5000", "R.example:5000"));
        assert!(!means_host("r.example:5000", "r.example:5001") && means_host("*", "x:1"));
        assert!(means_host("*.example", "r.example:5000") && !means_host("*.example", "r.sample"));
    }
}
