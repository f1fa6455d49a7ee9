//! One argument: whether it is a file or a reference is decided by spelling alone.
//!
//! A mistyped `feb.tar` must not become an image on the default registry, and an image must not turn into a file because
//! a file of that name lies about. So an argument is a file with a transport, a leading `.` or `/`, or one of the
//! suffixes of [`FILE_SUFFIXES`]; everything else is a reference.

use std::fmt;
use std::path::PathBuf;

use crate::oci::reference::{ReferenceError, shown};
use crate::oci::{Reference, RepositoryName};

/// Suffixes by which an argument without a transport is a file.
pub const FILE_SUFFIXES: [&str; 5] = [".tar", ".tar.zst", ".barge", ".json", ".json.zst"];

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A repository of a registry.
    Registry(RepositoryName),
    /// An OCI layout directory.
    Layout(PathBuf),
    /// A tar file that holds an OCI layout.
    LayoutArchive(PathBuf),
    /// A `docker save` file.
    DockerArchive(PathBuf),
    /// A file or directory whose content tells what it is.
    File(PathBuf),
}

/// An argument, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The name given with `NAME=`.
    pub name: Option<Reference>,
    /// Where the image comes from.
    pub place: Place,
    /// Which image of the place: a tag, digest or name; none for all that it names.
    pub selector: Option<String>,
    /// The reference, where the place is a registry.
    pub reference: Option<Reference>,
}

/// As it is typed, without the name that it is to get.
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path) = match (&self.reference, &self.place) {
            (Some(reference), _) => return write!(f, "{reference}"),
            (None, Place::Registry(name)) => return write!(f, "{name}"),
            (None, Place::Layout(path)) => ("oci:", path),
            (None, Place::LayoutArchive(path)) => ("oci-archive:", path),
            (None, Place::DockerArchive(path)) => ("docker-archive:", path),
            (None, Place::File(path)) => return write!(f, "{}", path.display()),
        };
        write!(f, "{transport}{}", path.display())?;
        self.selector.iter().try_for_each(|selector| write!(f, ":{selector}"))
    }
}

/// Why an argument or list can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Neither a reference nor a file.
    #[error("`{0}` can't be understood")]
    Reference(String, #[source] ReferenceError),
    /// A transport that barge has no use for.
    #[error("`{text}`: the transport `{transport}` is not supported; {instead}")]
    Transport {
        /// The argument.
        text: String,
        /// Its transport.
        transport: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A transport without a path.
    #[error("`{0}` names no file")]
    NoPath(String),
    /// A list that can't be read.
    #[error("{} can't be read", .0.display())]
    List(PathBuf, #[source] std::io::Error),
    /// A line of a list.
    #[error("line {line} of {}", .path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: Box<InputError>,
    },
    /// Content without a name of its own.
    #[error(
        "{place} does not say what its image is called; give it a name: `registry.example/name:tag={place}`"
    )]
    Nameless {
        /// The place.
        place: String,
    },
    /// One name for several images.
    #[error("{place} holds {count} images and `{name}=` can name one; say which: `{name}={place}:WHICH`")]
    SeveralImages {
        /// The place.
        place: String,
        /// The name given.
        name: Reference,
        /// How many images there are.
        count: usize,
    },
    /// Spelled as a file, or not at all as what was wanted.
    #[error("`{0}` is no registry, repository or image (expected HOST[:PORT][/PATH/] or [HOST/]NAME[:TAG])")]
    NoRegistry(String),
    /// Several registries where one is wanted.
    #[error("{0} and {1} are two registries, and one is wanted")]
    TwoRegistries(String, String),
    /// A place without any image.
    #[error("{place} holds no image")]
    Empty {
        /// The place.
        place: String,
    },
}

/// Transports of other tools, with what to do instead.
pub(super) const OTHER_TRANSPORTS: [(&str, &str); 6] = [
    ("dir:", "copy it to a layout first: `skopeo copy dir:… oci:DIR:NAME`"),
    ("docker-daemon:", "save it first: `docker save -o FILE.tar IMAGE`, then `docker-archive:FILE.tar`"),
    ("containers-storage:", "copy it to a layout first: `skopeo copy containers-storage:… oci:DIR:NAME`"),
    ("http://", "give the reference without it and allow plain HTTP with `--insecure HOST`"),
    ("https://", "give the reference without it"),
    ("file://", "give the path itself"),
];

/// Returns whether an argument without a transport is a file, by its spelling.
#[must_use]
pub fn is_file(text: &str) -> bool {
    text.starts_with(['.', '/']) || FILE_SUFFIXES.iter().any(|suffix| text.ends_with(suffix))
}

/// Parses `[NAME=]SOURCE`.
///
/// # Errors
/// [`InputError`] if it is neither a reference nor a file.
pub fn parse_argument(text: &str) -> Result<Argument, InputError> {
    let is_source = |text: &str| {
        text.starts_with(['.', '/'])
            || ["docker://", "oci:", "oci-archive:", "docker-archive:"].iter().any(|t| text.starts_with(t))
    };
    let (name, source) = match text.split_once('=') {
        Some((name, source)) if !is_source(text) => (Some(reference(name)?.with_default_tag()), source),
        _ => (None, text),
    };
    if let Some((transport, instead)) =
        OTHER_TRANSPORTS.iter().find(|(transport, _)| source.starts_with(transport))
    {
        let transport = (*transport).to_owned();
        return Err(InputError::Transport { text: shown(text), transport, instead });
    }
    let in_file = |rest: &str, place: fn(PathBuf) -> Place| {
        let (path, selector) = match rest.split_once(':') {
            Some((path, selector)) => (path, Some(selector.to_owned())),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(InputError::NoPath(text.to_owned()));
        }
        let selector = selector.filter(|selector| !selector.is_empty());
        Ok(Argument { name: name.clone(), place: place(path.into()), selector, reference: None })
    };
    if let Some(rest) = source.strip_prefix("oci-archive:") {
        in_file(rest, Place::LayoutArchive)
    } else if let Some(rest) = source.strip_prefix("docker-archive:") {
        in_file(rest, Place::DockerArchive)
    } else if let Some(rest) = source.strip_prefix("oci:") {
        in_file(rest, Place::Layout)
    } else if is_file(source) {
        Ok(Argument { name, place: Place::File(source.into()), selector: None, reference: None })
    } else {
        let reference = reference(source.strip_prefix("docker://").unwrap_or(source))?.with_default_tag();
        let selector = reference.selector();
        // With tag and digest the digest decides what is pulled, and the tag is the name it travels under.
        let own = match (&reference.tag, &reference.digest) {
            (Some(_), Some(_)) => Reference { digest: None, ..reference.clone() },
            _ => reference.clone(),
        };
        Ok(Argument {
            name: Some(name.unwrap_or(own)),
            place: Place::Registry(reference.name.clone()),
            selector: Some(selector),
            reference: Some(reference),
        })
    }
}

fn reference(text: &str) -> Result<Reference, InputError> {
    text.parse().map_err(|error| InputError::Reference(shown(text), error))
}

/// Reads a list: an argument a line, `#` starts a comment, empty lines are skipped.
///
/// # Errors
/// [`InputError::List`] if it can't be read, [`InputError::Line`] for a line that can't be understood.
pub fn read_list(path: &std::path::Path) -> Result<Vec<Argument>, InputError> {
    let text = std::fs::read_to_string(path).map_err(|error| InputError::List(path.to_owned(), error))?;
    let mut arguments = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
        if line.is_empty() {
            continue;
        }
        let argument = parse_argument(line).map_err(|source| InputError::Line {
            path: path.to_owned(),
            line: at + 1,
            source: Box::new(source),
        })?;
        arguments.push(argument);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Argument {
        parse_argument(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn spelling_alone_decides_what_is_a_file() {
        for text in [
            "./layout",
            "/media/usb/site.oci.tar",
            "feb.tar",
            "feb.tar.zst",
            "feb.barge",
            "have.json",
            "../x",
        ] {
            assert!(matches!(parsed(text).place, Place::File(_)), "{text}");
        }
        for text in ["feb", "tar", "app.tar/x", "docker://feb.example/tar", "localhost:5000/feb"] {
            assert!(matches!(parsed(text).place, Place::Registry(_)), "{text}");
        }
    }

    #[test]
    fn transports_take_a_path_and_a_choice() {
        for (text, place, selector) in [
            ("oci:./layout", Place::Layout("./layout".into()), None),
            ("oci:layout:v1", Place::Layout("layout".into()), Some("v1")),
            (
                "oci-archive:/a.tar:r.example/x:v1",
                Place::LayoutArchive("/a.tar".into()),
                Some("r.example/x:v1"),
            ),
            ("docker-archive:./old.tar", Place::DockerArchive("./old.tar".into()), None),
        ] {
            let argument = parsed(text);
            assert_eq!(
                (argument.place, argument.selector.as_deref(), argument.name),
                (place, selector, None)
            );
        }
        for bad in ["oci:", "oci::v1", "dir:/x", "docker-daemon:x", "https://r.example/x"] {
            assert!(parse_argument(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_may_be_given_to_any_source() {
        let argument = parsed("tools/lint:v3=oci:./layout:lint");
        assert_eq!(argument.name.unwrap().to_string(), "docker.io/tools/lint:v3");
        assert_eq!(argument.selector.as_deref(), Some("lint"));
        let argument = parsed("r.example/new=r.example/old:v1");
        assert_eq!(argument.name.unwrap().to_string(), "r.example/new:latest");
        assert_eq!(argument.reference.unwrap().to_string(), "r.example/old:v1");
        assert_eq!(parsed("oci:./a=b").place, Place::Layout("./a=b".into()));
    }

    #[test]
    fn a_digest_decides_and_a_tag_beside_it_names() {
        let digest = crate::oci::Digest::sha256(b"x");
        let both = parsed(&format!("r.example/a:v1@{digest}"));
        assert_eq!(both.selector, Some(digest.to_string()));
        assert_eq!(both.name.unwrap().to_string(), "r.example/a:v1");
        let pinned = parsed(&format!("r.example/a@{digest}"));
        assert_eq!(pinned.name.unwrap().to_string(), format!("r.example/a@{digest}"));
    }

    #[test]
    fn a_list_names_the_line_that_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# images\n\nalpine:3 # base\n  r.example/a \n").unwrap();
        assert_eq!(read_list(file.path()).unwrap().len(), 2);
        std::fs::write(file.path(), "alpine\nA B\n").unwrap();
        assert!(matches!(read_list(file.path()), Err(InputError::Line { line: 2, .. })));
    }
}
