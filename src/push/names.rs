//! Under which name each image goes to the target.

use std::collections::HashMap;

use crate::oci::reference::{NO_LOGIN, is_host, is_repository, without_login};
use crate::oci::{Digest, Reference, RepositoryName};

/// A place at a registry below which repositories go: `REGISTRY[/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The registry's host.
    pub registry: String,
    /// The path before every repository; empty for none.
    pub prefix: String,
}

/// Renames repositories: what lies at or below `from` goes at or below `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRule {
    /// A repository or a path above repositories, registry included.
    pub from: String,
    /// A path below the destination.
    pub to: String,
}

/// How names are made.
#[derive(Debug, Clone)]
pub struct Naming {
    /// Where everything goes.
    pub destination: Destination,
    /// Rules; the longest that fits is taken.
    pub rules: Vec<MapRule>,
    /// Whether the source registry's host is left out of the path.
    pub strip_registry: bool,
    /// How many components a path may have, the prefix among them.
    pub max_components: Option<usize>,
    /// The whole repository for a single image, in place of everything above.
    pub exact: Option<Reference>,
}

/// Why names can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamingError {
    /// Not a registry with an optional path.
    #[error("`{0}` is not a registry (expected HOST[:PORT][/PREFIX])")]
    Destination(String),
    /// Credentials in the name of a registry, which is without them here.
    #[error("`{0}` is not a registry: {NO_LOGIN}")]
    Login(String),
    /// Not a rule.
    #[error("`{0}` is not a renaming rule (expected SOURCE=TARGET, both paths)")]
    Rule(String),
    /// A name that no registry takes.
    #[error("{image} would become `{path}`, which is not a repository name")]
    NotARepository {
        /// The image.
        image: Reference,
        /// The path.
        path: String,
    },
    /// Two different images under one name.
    #[error("{first} and {second} would both become {target}")]
    Collision {
        /// One image.
        first: Reference,
        /// The other.
        second: Reference,
        /// The name.
        target: Reference,
    },
    /// The prefix alone is deeper than paths may be.
    #[error("a path of at most {0} components leaves no room below the prefix")]
    TooDeep(usize),
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.registry)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl std::str::FromStr for Destination {
    type Err = NamingError;

    fn from_str(text: &str) -> Result<Self, NamingError> {
        if let Some(text) = without_login(text) {
            return Err(NamingError::Login(text));
        }
        let wrong = || NamingError::Destination(text.chars().take(200).collect());
        let rest = text.strip_prefix("docker://").unwrap_or(text).trim_end_matches('/');
        let (registry, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_host(registry) || !(prefix.is_empty() || is_repository(prefix)) {
            return Err(wrong());
        }
        Ok(Self { registry: registry.to_owned(), prefix: prefix.to_owned() })
    }
}

impl std::str::FromStr for MapRule {
    type Err = NamingError;

    fn from_str(text: &str) -> Result<Self, NamingError> {
        match text.split_once('=') {
            Some((from, to)) if !from.is_empty() && is_repository(to) => {
                Ok(Self { from: from.trim_end_matches('/').to_owned(), to: to.to_owned() })
            }
            _ => Err(NamingError::Rule(text.chars().take(200).collect())),
        }
    }
}

impl Naming {
    /// Returns the name of an image at the target; a tag stays, a digest is kept only where there is no tag.
    ///
    /// # Errors
    /// [`NamingError::NotARepository`] or [`NamingError::TooDeep`].
    pub fn target(&self, image: &Reference) -> Result<Reference, NamingError> {
        if let Some(exact) = &self.exact {
            let tag = exact.tag.clone().or_else(|| image.tag.clone());
            let digest = if tag.is_none() { image.digest.clone() } else { None };
            return Ok(Reference { name: exact.name.clone(), tag, digest });
        }
        let full = image.name.to_string();
        let below = |from: &str| match full.strip_prefix(from) {
            Some("") => Some(""),
            Some(rest) if rest.starts_with('/') => Some(rest),
            _ => None,
        };
        let rule =
            self.rules.iter().filter(|rule| below(&rule.from).is_some()).max_by_key(|rule| rule.from.len());
        let path = match rule {
            Some(rule) => format!("{}{}", rule.to, below(&rule.from).unwrap_or_default()),
            None if self.strip_registry => image.name.repository.clone(),
            // A host is no path component where it has a port, brackets or capitals.
            None => format!("{}/{}", host_as_component(&image.name.registry), image.name.repository),
        };
        let prefix = &self.destination.prefix;
        let path = match self.max_components {
            Some(limit) => {
                let taken = if prefix.is_empty() { 0 } else { prefix.split('/').count() };
                flatten(
                    &path,
                    limit.checked_sub(taken).filter(|left| *left > 0).ok_or(NamingError::TooDeep(limit))?,
                )
            }
            None => path,
        };
        let repository = if prefix.is_empty() { path } else { format!("{prefix}/{path}") };
        if !is_repository(&repository) {
            return Err(NamingError::NotARepository { image: image.clone(), path: repository });
        }
        let name = RepositoryName { registry: self.destination.registry.clone(), repository };
        let digest = if image.tag.is_none() { image.digest.clone() } else { None };
        Ok(Reference { name, tag: image.tag.clone(), digest })
    }

    /// Names all images.
    ///
    /// # Errors
    /// [`NamingError`]; also if two different images would get one name.
    pub fn targets<'a>(
        &self,
        images: impl Iterator<Item = (&'a Reference, &'a Digest)>,
    ) -> Result<Vec<Reference>, NamingError> {
        let mut targets = Vec::new();
        let mut taken: HashMap<Reference, (&Reference, &Digest)> = HashMap::new();
        for (image, root) in images {
            let target = self.target(image)?;
            match taken.get(&target) {
                Some((first, other)) if *other != root => {
                    let (first, second) = ((*first).clone(), image.clone());
                    return Err(NamingError::Collision { first, second, target });
                }
                _ => taken.insert(target.clone(), (image, root)),
            };
            targets.push(target);
        }
        Ok(targets)
    }
}

fn host_as_component(host: &str) -> String {
    host.to_ascii_lowercase().replace([':'], "-").replace(['[', ']'], "")
}

/// Joins the last components of a path so that at most `limit` are left, injectively: a single `-` stands for the
/// slash, and the dashes that were there are doubled. Components neither begin nor end with a dash, so a run of one is a
/// slash and every other run is even.
fn flatten(path: &str, limit: usize) -> String {
    let components: Vec<&str> = path.split('/').collect();
    if components.len() <= limit && !components[components.len() - 1].contains('-') {
        return path.to_owned();
    }
    let (front, rest) = components.split_at(components.len().min(limit) - 1);
    let joined: Vec<String> = rest.iter().map(|component| component.replace('-', "--")).collect();
    front
        .iter()
        .map(|component| (*component).to_owned())
        .chain([joined.join("-")])
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naming(destination: &str) -> Naming {
        Naming {
            destination: destination.parse().unwrap(),
            rules: Vec::new(),
            strip_registry: true,
            max_components: None,
            exact: None,
        }
    }

    fn target(naming: &Naming, image: &str) -> String {
        naming.target(&image.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn a_password_in_the_name_of_a_registry_is_never_repeated() {
        for text in
            ["me:s3cret@reg.test:5000/m", "docker://me:s3@cret@reg.test", "https://me:s3cret@reg.test"]
        {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains("@reg.test") && !error.contains("cret@"), "{error}");
            let error = format!("{text}/app:v1").parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains("@reg.test") && !error.contains("cret@"), "{error}");
        }
        for fine in ["r.test/a:v1@sha256:short", "r.test/a@sha256:short"] {
            assert!(fine.parse::<Reference>().unwrap_err().to_string().contains(fine));
        }
    }

    #[test]
    fn names_go_below_the_prefix_without_the_source_host() {
        let plain = naming("r.local:5000/mirror");
        assert_eq!(target(&plain, "registry.example/app:v1"), "r.local:5000/mirror/app:v1");
        assert_eq!(target(&plain, "alpine:3"), "r.local:5000/mirror/library/alpine:3");
        let digest = Digest::sha256(b"x");
        assert_eq!(
            target(&plain, &format!("r.example/db@{digest}")),
            format!("r.local:5000/mirror/db@{digest}")
        );
        let whole = Naming { strip_registry: false, ..naming("r.local") };
        assert_eq!(target(&whole, "registry.example:5000/app:v1"), "r.local/registry.example-5000/app:v1");
    }

    #[test]
    fn the_longest_rule_that_fits_renames() {
        let rules = ["r.example=all", "r.example/team=team", "r.example/team/app=app"];
        let naming =
            Naming { rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(), ..naming("r.local") };
        assert_eq!(target(&naming, "r.example/x:1"), "r.local/all/x:1");
        assert_eq!(target(&naming, "r.example/team/y:1"), "r.local/team/y:1");
        assert_eq!(target(&naming, "r.example/team/app:1"), "r.local/app:1");
        assert_eq!(target(&naming, "r.example/teams/y:1"), "r.local/all/teams/y:1");
        assert!("no-rule".parse::<MapRule>().is_err() && "a=B".parse::<MapRule>().is_err());
    }

    #[test]
    fn two_images_never_share_a_name() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let (one, other) = ("a.example/x:1".parse().unwrap(), "b.example/x:1".parse().unwrap());
        let naming = naming("r.local");
        assert!(matches!(
            naming.targets([(&one, &a), (&other, &b)].into_iter()),
            Err(NamingError::Collision { .. })
        ));
        assert_eq!(naming.targets([(&one, &a), (&other, &a)].into_iter()).unwrap().len(), 2);
    }

    #[test]
    fn depth_is_limited_without_collisions() {
        let flat = Naming { max_components: Some(2), ..naming("r.local/m") };
        assert_eq!(target(&flat, "r.example/a/b-c:1"), "r.local/m/a-b--c:1");
        assert_eq!(target(&flat, "r.example/a-b/c:1"), "r.local/m/a--b-c:1");
        assert_eq!(target(&flat, "r.example/a-b-c:1"), "r.local/m/a--b--c:1");
        let none = Naming { max_components: Some(1), ..naming("r.local/m") };
        assert_eq!(none.target(&"a".parse().unwrap()), Err(NamingError::TooDeep(1)));
    }

    proptest! {
        #[test]
        fn flattening_is_injective(
            a in "[a-c]{1,2}(-{1,3}[a-c]){0,2}(/[a-c](-{1,3}[a-c]){0,2}){0,4}",
            b in "[a-c]{1,2}(-{1,3}[a-c]){0,2}(/[a-c](-{1,3}[a-c]){0,2}){0,4}",
            limit in 1..4usize,
        ) {
            prop_assert_eq!(a == b, flatten(&a, limit) == flatten(&b, limit));
            prop_assert!(flatten(&a, limit).split('/').count() <= limit);
        }
    }
}
