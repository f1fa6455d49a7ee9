//! Where the content of an image is, in words that other tools understand.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::input::{Opened, Place};
use crate::oci::{Digest, RepositoryName};
use crate::store::layout::{LayoutArchive, LayoutDirectory, Named, REF_NAME};
use crate::store::{Source, StoreError};

/// Where the content of an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A repository of a registry.
    Registry(RepositoryName),
    /// An OCI layout, as a folder or in a tar file; bundles are such.
    Layout(Layout),
    /// A `docker save` file, whose images have no manifest of their own.
    DockerArchive(PathBuf),
    /// Content that barge makes itself, which nobody else can fetch.
    Made,
}

/// An OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The folder or file, as it was typed.
    pub path: PathBuf,
    /// Whether it is a tar file.
    pub is_archive: bool,
    /// What its `index.json` lists, with the names that other tools look for.
    pub listed: Vec<(Option<String>, Digest)>,
}

impl Layout {
    fn of(path: &Path, is_archive: bool) -> Result<Self, StoreError> {
        let named = match is_archive {
            true => LayoutArchive::open(path)?.names()?,
            false => LayoutDirectory::open(path)?.names()?,
        };
        let listed = |named: Named| {
            let name = named.descriptor.annotations.get(REF_NAME).filter(|name| !name.is_empty()).cloned();
            (name, named.descriptor.digest)
        };
        Ok(Self { path: path.to_owned(), is_archive, listed: named.into_iter().map(listed).collect() })
    }

    /// Returns `oci:PATH[:NAME]` or `oci-archive:PATH[:NAME]` for what is listed under `digest`, the entry called
    /// `wanted` before others.
    ///
    /// # Errors
    /// Why it can't be said so.
    pub fn transport(&self, digest: &Digest, wanted: &str) -> Result<String, &'static str> {
        let path = self.path.to_str().ok_or("its path is not written in UTF-8")?;
        if path.contains(':') {
            return Err("its path has a colon, which ends a path in these tools");
        }
        let transport = if self.is_archive { "oci-archive" } else { "oci" };
        let mut names: Vec<&String> = self
            .listed
            .iter()
            .filter(|(_, listed)| listed == digest)
            .filter_map(|(n, _)| n.as_ref())
            .collect();
        names.retain(|name| is_oci_name(name));
        match names.iter().find(|name| **name == wanted).or(names.first()) {
            Some(name) => Ok(format!("{transport}:{path}:{name}")),
            None if self.listed.len() == 1 && self.listed[0].1 == *digest => {
                Ok(format!("{transport}:{path}"))
            }
            None => Err("its index.json gives it no name that these tools take"),
        }
    }
}

/// Returns whether the tools of the `containers` organisation take a text as a name in a layout: words of letters and
/// digits, joined by one of `-._:@+` or by `--`, in components separated by slashes.
fn is_oci_name(name: &str) -> bool {
    name.split('/').all(|component| {
        let word = |byte: &u8| byte.is_ascii_alphanumeric();
        let bytes = component.as_bytes();
        bytes.first().is_some_and(word)
            && bytes.last().is_some_and(word)
            && bytes
                .split(word)
                .filter(|separator| !separator.is_empty())
                .all(|separator| separator == b"--" || matches!(separator, [one] if b"-._:@+".contains(one)))
    })
}

/// The places that were opened, with what they are to other tools.
pub struct Places {
    all: Vec<(Arc<dyn Source>, Arc<Origin>)>,
    /// What barge attached itself to what they have.
    made: HashSet<Digest>,
}

impl Places {
    /// Looks at the places that were opened.
    ///
    /// # Errors
    /// A layout that can't be read.
    pub fn of(opened: &Opened) -> Result<Self, StoreError> {
        let mut places = Vec::new();
        for (at, source) in opened.sources.iter().enumerate() {
            let origin = match opened.places.get(&at) {
                Some(Place::Registry(name)) => Origin::Registry(name.clone()),
                Some(Place::Layout(path) | Place::LayoutArchive(path)) => {
                    Origin::Layout(Layout::of(path, !path.is_dir())?)
                }
                Some(Place::DockerArchive(path)) => Origin::DockerArchive(path.clone()),
                Some(Place::File(path)) if path.is_dir() => Origin::Layout(Layout::of(path, false)?),
                // A file that is no layout was opened as the only other thing that a file can be.
                Some(Place::File(path)) => match Layout::of(path, true) {
                    Ok(layout) => Origin::Layout(layout),
                    Err(StoreError::Invalid { .. }) => Origin::DockerArchive(path.clone()),
                    Err(error) => return Err(error),
                },
                None => Origin::Made,
            };
            places.push((source.clone(), Arc::new(origin)));
        }
        Ok(Self { all: places, made: opened.made.clone() })
    }

    /// Returns a repository, if it is among the places.
    pub(super) fn registry(&self, name: &RepositoryName) -> Option<Arc<Origin>> {
        let is_it = |origin: &Arc<Origin>| matches!(&**origin, Origin::Registry(known) if known == name);
        self.all.iter().map(|(_, origin)| origin).find(|origin| is_it(origin)).cloned()
    }

    /// Returns what the source of some content is to other tools.
    pub(super) fn origin(&self, source: &Arc<dyn Source>, digest: &Digest) -> Arc<Origin> {
        if self.made.contains(digest) {
            return Arc::new(Origin::Made);
        }
        let is_it = |known: &Arc<dyn Source>| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(source));
        let found = self.all.iter().find(|(known, _)| is_it(known));
        found.map_or_else(|| Arc::new(Origin::Made), |(_, origin)| origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_only_where_other_tools_take_them() {
        for good in ["latest", "registry.example/team/app:v1", "r.example:5000/a--b:1.2-rc.1", "a@b+c"] {
            assert!(is_oci_name(good), "{good}");
        }
        for bad in ["", "a__b:v1", "app:_v1", "app:v1-", "a//b", "a b", "a:$x"] {
            assert!(!is_oci_name(bad), "{bad}");
        }
        let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let name = |text: &str| Some(text.to_owned());
        let mut layout = Layout {
            path: "./a b".into(),
            is_archive: false,
            listed: vec![(name("x:1"), one.clone()), (name("x:2"), one.clone()), (None, other.clone())],
        };
        assert_eq!(layout.transport(&one, "x:2").unwrap(), "oci:./a b:x:2");
        assert_eq!(layout.transport(&one, "y").unwrap(), "oci:./a b:x:1");
        assert!(layout.transport(&other, "y").is_err());
        layout.listed.drain(..2);
        assert_eq!(layout.transport(&other, "y").unwrap(), "oci:./a b");
        layout.path = "./a:b".into();
        assert!(layout.transport(&other, "y").is_err());
    }
}
