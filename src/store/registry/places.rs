//! Pulling through mirrors: the places that a repository's content may be asked of, and the repository as the source that
//! they are together.
//!
//! The rules are those of `registries.conf`: the longest prefix that fits a name counts, its mirrors are asked in their
//! order and the place itself last. What comes from a mirror is checked against its digest like everything else, and
//! keeps the name of the place that it stands for.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Attached, Result, Source, StoreError, chain};
use super::limits::lock;
use super::{Access, Client, Repository};
use crate::oci::reference::{is_host, is_repository};
use crate::oci::{Descriptor, Digest, RepositoryName};

/// How a registry, or what lies below a path of one, is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// A registry's host, or a path at it: `registry.example[:PORT][/PATH]`; `*.example` for all hosts below.
    pub prefix: String,
    /// Places of the same form that are asked first, in this order.
    pub mirrors: Vec<String>,
    /// Whether the place itself is not asked.
    pub mirrors_only: bool,
    /// Whether plain HTTP and unverified TLS are allowed for the host and its mirrors.
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
        for (what, place) in
            [("prefix", prefix)].into_iter().chain(self.mirrors.iter().map(|m| ("mirror", m.as_str())))
        {
            if !is_place(place) {
                let why = format!("its {what} `{place}` is not HOST[:PORT][/PATH]");
                return Err(StoreError::Invalid { place: format!("the registry `{}`", self.prefix), why });
            }
        }
        Ok(())
    }

    /// Returns the hosts of the place and its mirrors.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        let places = std::iter::once(&self.prefix).chain(&self.mirrors);
        places.map(|place| place.split('/').next().unwrap_or(place))
    }

    /// Returns the hosts of the mirrors, without that of the place itself.
    pub(super) fn mirror_hosts(&self) -> impl Iterator<Item = &str> {
        let host = self.prefix.split('/').next().unwrap_or(&self.prefix);
        self.hosts().filter(move |mirror| !mirror.eq_ignore_ascii_case(host))
    }

    /// Returns how much of a name the place or one of its mirrors stands for.
    pub(super) fn speaks_of(&self, name: &str) -> Option<usize> {
        std::iter::once(&self.prefix).chain(&self.mirrors).filter_map(|place| covered(place, name)).max()
    }
}

/// Returns the names under which a repository is asked for, in order.
fn names(rules: &[Rule], name: &RepositoryName) -> Vec<RepositoryName> {
    let text = name.to_string();
    let fitting = rules.iter().filter_map(|rule| Some((covered(&rule.prefix, &text)?, rule)));
    // Of equal ones the first: `max_by_key` would take the last.
    let mut best: Option<(usize, &Rule)> = None;
    for (length, rule) in fitting {
        if best.is_none_or(|(longest, _)| length > longest) {
            best = Some((length, rule));
        }
    }
    let Some((length, rule)) = best else { return vec![name.clone()] };
    let mirrored = |mirror: &String| {
        let full = format!("{mirror}{}", &text[length..]);
        let (registry, repository) = full.split_once('/')?;
        Some(RepositoryName { registry: registry.to_owned(), repository: repository.to_owned() })
    };
    let mut names: Vec<RepositoryName> = rule.mirrors.iter().filter_map(mirrored).collect();
    if !rule.mirrors_only || names.is_empty() {
        names.push(name.clone());
    }
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// A repository as it is pulled: by way of its mirrors, where it has any.
pub struct Places {
    name: RepositoryName,
    client: Client,
    all: Vec<Repository>,
    /// The place that answered last: what is asked for by digest is asked of it first.
    last: AtomicUsize,
}

impl Client {
    /// Returns a repository to be pulled from, by way of its mirrors. Talks to nobody.
    #[must_use]
    pub fn places(&self, name: &RepositoryName) -> Places {
        let names = names(&self.0.http.options.rules, name);
        let all = names.iter().map(|name| self.repository(name, Access::Pull)).collect();
        Places { name: name.clone(), client: self.clone(), all, last: AtomicUsize::new(0) }
    }
}

/// Registries that could not be reached while there were others to ask, with the reason: they are not waited for again.
pub(super) type Lost = Mutex<HashMap<String, String>>;

impl Places {
    /// Checks that one of the places can be reached and lets the user pull.
    ///
    /// # Errors
    /// What the places say.
    pub fn check(&self) -> Result<()> {
        self.first("pulling", false, Repository::check)
    }

    /// Lists the tags, as the first place that knows the repository has them.
    ///
    /// # Errors
    /// What the places say.
    pub fn tags(&self) -> Result<Vec<String>> {
        self.first("the tags", false, Repository::tags)
    }

    /// Returns the places in the order in which they are asked.
    fn in_order(&self, by_digest: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        if by_digest {
            let last = self.last.load(Ordering::Relaxed);
            order.sort_by_key(|at| *at != last);
        }
        let lost = lock(&self.client.0.lost);
        let is_lost = |at: &usize| lost.contains_key(&self.all[*at].name().registry);
        if !order.iter().all(is_lost) {
            order.retain(|at| !is_lost(at));
        }
        order
    }

    fn note(&self, at: usize, error: &StoreError) {
        if matches!(error, StoreError::Unreachable { .. }) && self.all.len() > 1 {
            let mut lost = lock(&self.client.0.lost);
            lost.entry(self.all[at].name().registry.clone()).or_insert_with(|| chain(error));
        }
    }

    /// Returns the first answer that is no error.
    fn first<'a, T>(
        &'a self,
        what: &str,
        by_digest: bool,
        ask: impl Fn(&'a Repository) -> Result<T>,
    ) -> Result<T> {
        let mut errors = Vec::new();
        for at in self.in_order(by_digest) {
            match ask(&self.all[at]) {
                Ok(answer) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => {
                    self.note(at, &error);
                    errors.push((self.all[at].name().to_string(), error));
                }
            }
        }
        Err(self.failed(what, errors))
    }

    /// Makes one error of those of all places.
    fn failed(&self, what: &str, mut errors: Vec<(String, StoreError)>) -> StoreError {
        if self.all.len() == 1
            && let Some((_, only)) = errors.pop()
        {
            return only;
        }
        for place in &self.all {
            let (name, registry) = (place.name().to_string(), &place.name().registry);
            let why = lock(&self.client.0.lost).get(registry).cloned();
            if let (Some(why), false) = (why, errors.iter().any(|(asked, _)| *asked == name)) {
                let (place, what) = (registry.clone(), what.to_owned());
                let source = format!("it was not asked again: {why}").into();
                errors.push((name, StoreError::Unreachable { place, what, source }));
            }
        }
        if errors.iter().all(|(_, error)| error.is_not_found()) {
            let places: Vec<&str> = errors.iter().map(|(place, _)| place.as_str()).collect();
            let what = format!("{what} of {} (asked of {})", self.name, places.join(", "));
            return StoreError::NotFound { place: "every place that stands for it".to_owned(), what };
        }
        StoreError::Nowhere { place: self.name.to_string(), what: what.to_owned(), errors }
    }
}

impl Source for Places {
    fn place(&self) -> String {
        self.name.to_string()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        let what = format!("manifest {selector}");
        self.first(&what, selector.contains(':'), |place| place.resolve(selector))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let what = format!("manifest {}", descriptor.digest);
        // A mirror that has other bytes is no reason to do without those of the next place.
        self.first(&what, true, |place| match self.all.len() {
            1 => place.manifest(descriptor),
            _ => super::super::read_manifest(place, descriptor),
        })
    }

    /// Lists what the first place lists that lists anything: not every mirror keeps what is attached.
    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let (mut errors, mut has_answered) = (Vec::new(), false);
        for at in self.in_order(true) {
            match self.all[at].attached(subject) {
                Ok(list) if !list.is_empty() => return Ok(list),
                Ok(_) => has_answered = true,
                Err(error) => {
                    self.note(at, &error);
                    errors.push((self.all[at].name().to_string(), error));
                }
            }
        }
        if has_answered {
            return Ok(Vec::new());
        }
        Err(self.failed(&format!("what is attached to {subject}"), errors))
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.first(&format!("blob {digest}"), true, |place| place.open_blob(digest, size, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, mirrors: &[&str]) -> Rule {
        let mirrors = mirrors.iter().map(|mirror| (*mirror).to_owned()).collect();
        Rule { prefix: prefix.to_owned(), mirrors, ..Rule::default() }
    }

    fn asked(rules: &[Rule], name: &str) -> Vec<String> {
        names(rules, &name.parse().unwrap()).iter().map(ToString::to_string).collect()
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
    fn a_rule_speaks_of_its_mirrors_too() {
        let rule = rule("r.example/team", &["m.example:5000/x"]);
        assert_eq!(rule.speaks_of("r.example/team/a"), Some(14));
        assert_eq!(rule.speaks_of("m.example:5000/x/a"), Some(16));
        assert_eq!(rule.speaks_of("r.example/other"), None);
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
