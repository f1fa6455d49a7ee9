//! Arguments where a registry, a repository or an image is allowed: spelling alone decides which of them is meant.
//!
//! A trailing slash always means everything below; without any slash a name with a dot, `localhost`, an address in
//! brackets or a port of four or five digits is a registry. All else is a repository, or with a tag or digest an image.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::argument::{InputError, OTHER_TRANSPORTS, is_file};
use super::is_attached_tag;
use super::open::OpenError;
use crate::graph::Part;
use crate::graph::survey::Wish;
use crate::oci::reference::{is_host, is_repository, shown};
use crate::oci::{Reference, RepositoryName};
use crate::store::registry::{Access, Client};
use crate::store::{Source, StoreError};

/// A registry, or a path at it below which everything is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryPlace {
    /// The registry's host with its port.
    pub registry: String,
    /// The path before every repository; empty for none.
    pub prefix: String,
}

impl RegistryPlace {
    /// Returns the place that the names of all `arguments` are relative to: the one path that all of them mean, else
    /// the registry.
    ///
    /// # Errors
    /// [`InputError::TwoRegistries`] if they name several registries.
    pub fn of(arguments: &[RegistryArgument]) -> Result<Option<Self>, InputError> {
        let Some(first) = arguments.first() else { return Ok(None) };
        for other in arguments {
            if other.registry() != first.registry() {
                return Err(InputError::TwoRegistries(
                    first.registry().to_owned(),
                    other.registry().to_owned(),
                ));
            }
        }
        Ok(Some(match first {
            RegistryArgument::Registry(place) if arguments.iter().all(|other| other == first) => {
                place.clone()
            }
            _ => Self { registry: first.registry().to_owned(), prefix: String::new() },
        }))
    }

    /// Returns the path of a repository relative to the place; none for one that does not lie below it.
    #[must_use]
    pub fn relative<'a>(&self, name: &'a RepositoryName) -> Option<&'a str> {
        if name.registry != self.registry {
            return None;
        }
        if self.prefix.is_empty() {
            return Some(&name.repository);
        }
        name.repository.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    /// Returns the repository that lies at a path relative to the place.
    #[must_use]
    pub fn full(&self, relative: &str) -> RepositoryName {
        let repository = match self.prefix.as_str() {
            "" => relative.to_owned(),
            prefix => format!("{prefix}/{relative}"),
        };
        RepositoryName { registry: self.registry.clone(), repository }
    }

    /// Returns the name of an image relative to the place, `team/app:v1` or `team/app@sha256:…`.
    #[must_use]
    pub fn relative_image(&self, name: &RepositoryName, selector: &str) -> Option<String> {
        let sign = if selector.contains(':') { '@' } else { ':' };
        Some(format!("{}{sign}{selector}", self.relative(name)?))
    }

    /// Lists the repositories below the place, sorted, as the registry's catalogue has them.
    ///
    /// # Errors
    /// [`OpenError::NoCatalogue`] if the registry does not offer one, else whatever kept it from answering.
    pub fn repositories(&self, client: &Client) -> Result<Vec<RepositoryName>, OpenError> {
        let names = client.catalog(&self.registry).map_err(|error| match error {
            // How registries without a catalogue, or with one for administrators only, answer its path.
            StoreError::NotFound { .. }
            | StoreError::Denied { .. }
            | StoreError::Invalid { .. }
            | StoreError::Refused { status: 400..=428 | 430..=499 | 501, .. } => {
                OpenError::NoCatalogue { registry: self.registry.clone(), source: error }
            }
            error => error.into(),
        })?;
        let names: BTreeSet<RepositoryName> = names
            .into_iter()
            .filter(|name| is_repository(name))
            .map(|repository| RepositoryName { registry: self.registry.clone(), repository })
            .filter(|name| self.relative(name).is_some())
            .collect();
        Ok(names.into_iter().collect())
    }
}

impl fmt::Display for RegistryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// An argument where a registry is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RegistryArgument {
    /// All that a registry has, or all that it has below a path.
    Registry(RegistryPlace),
    /// All tags of a repository.
    Repository(RepositoryName),
    /// One image.
    Image(Reference),
}

impl RegistryArgument {
    /// Parses `REGISTRY`, `REGISTRY/PATH/`, `REPOSITORY` or `IMAGE`, with or without `docker://` before it.
    ///
    /// # Errors
    /// [`InputError`] if it is none of them, or is spelled as a file.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        if let Some((transport, instead)) = OTHER_TRANSPORTS.iter().find(|(other, _)| text.starts_with(other))
        {
            let transport = (*transport).to_owned();
            return Err(InputError::Transport { text: shown(text), transport, instead });
        }
        let stripped = text.strip_prefix("docker://");
        let of_file = ["oci:", "oci-archive:", "docker-archive:"];
        if stripped.is_none() && (is_file(text) || of_file.iter().any(|start| text.starts_with(start))) {
            return Err(InputError::NoRegistry(shown(text)));
        }
        let text = stripped.unwrap_or(text);
        if let Some(rest) = text.strip_suffix('/') {
            let (registry, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if rest.ends_with('/') || !is_host(registry) || !(prefix.is_empty() || is_repository(prefix)) {
                return Err(InputError::NoRegistry(shown(text)));
            }
            let place = RegistryPlace { registry: registry.to_owned(), prefix: prefix.to_owned() };
            return Ok(Self::Registry(place));
        }
        if !text.contains(['/', '@']) && is_host(text) && looks_like_registry(text) {
            return Ok(Self::Registry(RegistryPlace { registry: text.to_owned(), prefix: String::new() }));
        }
        let reference: Reference = text.parse().map_err(|error| InputError::Reference(shown(text), error))?;
        Ok(match (&reference.tag, &reference.digest) {
            (None, None) => Self::Repository(reference.name),
            _ => Self::Image(reference),
        })
    }

    /// Returns the host that it is about.
    #[must_use]
    pub fn registry(&self) -> &str {
        match self {
            Self::Registry(place) => &place.registry,
            Self::Repository(name) => &name.registry,
            Self::Image(reference) => &reference.name.registry,
        }
    }
}

impl fmt::Display for RegistryArgument {
    /// Writes what [`RegistryArgument::parse`] reads as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(place) => write!(f, "{place}/"),
            Self::Repository(name) => write!(f, "{name}"),
            Self::Image(reference) => write!(f, "{reference}"),
        }
    }
}

/// Tells a host without a path from an image on the default registry.
fn looks_like_registry(text: &str) -> bool {
    if text.starts_with('[') {
        return true;
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    let is_port = (4..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    host.contains('.') || host == "localhost" || is_port
}

/// What some arguments mean, asked of the registry.
pub struct RegistryListing {
    /// What the relative names are relative to.
    pub place: RegistryPlace,
    /// The repositories, to be read.
    pub sources: Vec<Arc<dyn Source>>,
    /// The images, named as they are at the registry; none of them is what only belongs to another image.
    pub wishes: Vec<Wish>,
    /// For each wish, its name relative to the place.
    pub relative: Vec<String>,
}

/// Finds what `arguments` mean as wishes for a survey; none for no arguments.
///
/// # Errors
/// [`OpenError`]: they name several registries, there is no catalogue, or tags can't be listed. A repository that the
/// catalogue lists and that has no tags is none.
pub fn list_registry(
    client: &Client,
    arguments: &[RegistryArgument],
) -> Result<Option<RegistryListing>, OpenError> {
    let Some(place) = RegistryPlace::of(arguments)? else { return Ok(None) };
    let mut found: BTreeSet<(RepositoryName, String)> = BTreeSet::new();
    let tags_of = |name: &RepositoryName| -> Result<Vec<String>, StoreError> {
        let mut tags = client.repository(name, Access::Pull).tags()?;
        tags.retain(|tag| !is_attached_tag(tag));
        Ok(tags)
    };
    for argument in arguments {
        match argument {
            RegistryArgument::Registry(below) => {
                for name in below.repositories(client)? {
                    match tags_of(&name) {
                        Ok(tags) => found.extend(tags.into_iter().map(|tag| (name.clone(), tag))),
                        // Registries go on listing what was emptied.
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            RegistryArgument::Repository(name) => {
                found.extend(tags_of(name)?.into_iter().map(|tag| (name.clone(), tag)));
            }
            RegistryArgument::Image(reference) => {
                found.insert((reference.name.clone(), reference.selector()));
            }
        }
    }
    let mut listing =
        RegistryListing { place, sources: Vec::new(), wishes: Vec::new(), relative: Vec::new() };
    let mut last: Option<RepositoryName> = None;
    for (name, selector) in found {
        let Some(relative) = listing.place.relative_image(&name, &selector) else { continue };
        if last.as_ref() != Some(&name) {
            listing.sources.push(Arc::new(client.repository(&name, Access::Pull)));
            last = Some(name.clone());
        }
        listing.wishes.push(wish(&name, &selector, listing.sources.len() - 1));
        listing.relative.push(relative);
    }
    Ok(Some(listing))
}

/// Makes the wish for what a repository knows by a tag or digest.
pub(crate) fn wish(name: &RepositoryName, selector: &str, source: usize) -> Wish {
    let reference = match selector.parse() {
        Ok(digest) => Reference::pinned(name.clone(), digest),
        Err(_) => Reference::tagged(name.clone(), selector),
    };
    Wish {
        name: reference.clone(),
        reference: Some(reference),
        source,
        selector: selector.to_owned(),
        platforms: Vec::new(),
        part: Part::Image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn parsed(text: &str) -> RegistryArgument {
        RegistryArgument::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn place(registry: &str, prefix: &str) -> RegistryPlace {
        RegistryPlace { registry: registry.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn spelling_alone_decides_what_is_a_registry() {
        for (text, registry, prefix) in [
            ("registry.b", "registry.b", ""),
            ("registry.b:5000", "registry.b:5000", ""),
            ("docker://registry.b:443", "registry.b:443", ""),
            ("localhost", "localhost", ""),
            ("localhost:80", "localhost:80", ""),
            ("[::1]", "[::1]", ""),
            ("[::1]:5000", "[::1]:5000", ""),
            ("registry:5000", "registry:5000", ""),
            ("registry/", "registry", ""),
            ("registry:80/", "registry:80", ""),
            ("registry.b:5000/team/", "registry.b:5000", "team"),
            ("registry.b/a/b/", "registry.b", "a/b"),
            ("docker://b.json", "b.json", ""),
        ] {
            let found = parsed(text);
            assert_eq!(found, RegistryArgument::Registry(place(registry, prefix)), "{text}");
            assert_eq!(parsed(&found.to_string()), found, "{text}");
        }
        for (text, repository) in [
            ("registry.b:5000/team/app", "registry.b:5000/team/app"),
            ("docker://registry.b/app", "registry.b/app"),
            ("alpine", "docker.io/library/alpine"),
            ("tools/lint", "docker.io/tools/lint"),
        ] {
            let found = parsed(text);
            assert_eq!(found, RegistryArgument::Repository(repository.parse().unwrap()), "{text}");
            assert_eq!(parsed(&found.to_string()), found, "{text}");
        }
        let pinned = format!("r.example/app@{}", Digest::sha256(b"x"));
        for (text, image) in [
            ("registry.b:5000/team/app:v1", "registry.b:5000/team/app:v1"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("alpine:123456", "docker.io/library/alpine:123456"),
            ("my.app:v1", "docker.io/library/my.app:v1"),
            (&pinned, &pinned),
        ] {
            let found = parsed(text);
            assert_eq!(found, RegistryArgument::Image(image.parse().unwrap()), "{text}");
            assert_eq!(parsed(&found.to_string()), found, "{text}");
        }
    }

    #[test]
    fn files_and_other_transports_are_refused() {
        for bad in [
            "",
            "/",
            "//",
            "b.json",
            "./layout",
            "site.oci.tar",
            "oci:./layout",
            "oci-archive:x",
            "docker-archive:x",
            "https://registry.b/",
            "registry.b//",
            "registry.b/Team/",
            "registry.b/app:v1/",
            "registry.b/a b",
        ] {
            assert!(RegistryArgument::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_relative_to_what_all_arguments_mean() {
        let of = |texts: &[&str]| {
            RegistryPlace::of(&texts.iter().map(|text| parsed(text)).collect::<Vec<_>>())
                .map(|place| place.map(|place| place.to_string()))
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["r.b/team/"]).unwrap().unwrap(), "r.b/team");
        assert_eq!(of(&["r.b/team/", "r.b/team/"]).unwrap().unwrap(), "r.b/team");
        assert_eq!(of(&["r.b/team/", "r.b/other/"]).unwrap().unwrap(), "r.b");
        assert_eq!(of(&["r.b/team/", "r.b/team/app:v1"]).unwrap().unwrap(), "r.b");
        assert!(matches!(of(&["r.b/app", "r.c/app"]), Err(InputError::TwoRegistries(..))));
        let team = place("r.b", "team");
        let relative = |name: &str| team.relative(&name.parse().unwrap()).map(str::to_owned);
        assert_eq!(relative("r.b/team/app").as_deref(), Some("app"));
        for other in ["r.b/team", "r.b/teams/app", "r.c/team/app"] {
            assert_eq!(relative(other), None, "{other}");
        }
        let digest = Digest::sha256(b"x").to_string();
        let name = "r.b/team/x/y".parse().unwrap();
        assert_eq!(team.relative_image(&name, "v1").unwrap(), "x/y:v1");
        assert_eq!(team.relative_image(&name, &digest).unwrap(), format!("x/y@{digest}"));
    }
}
