//! Release payloads: the images that an OpenShift release consists of, and the signatures that vouch for it.
//!
//! A release image names its components in `release-manifests/image-references`, by digest. They travel under the names that
//! a mirrored release has. A signature is no part of any registry; it travels as an artifact attached to the release image.

mod signature;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::signature::MAX_SIGNATURE;
pub use self::signature::Statement;
use crate::catalog::files::{ImageFiles, ImageFilesError};
use crate::oci::reference::is_tag;
use crate::oci::{
    Descriptor, Digest, Manifest, ManifestError, Platform, Reference, RepositoryName, media_type,
};
use crate::store::made::Made;
use crate::store::registry::clean_text;
use crate::store::{Source, StoreError, read_manifest};

/// The folder of a release's manifests in its image.
const MANIFESTS: &str = "release-manifests";
/// The file that names the components.
const REFERENCES: &str = "image-references";
/// The largest such file, in bytes; today's have a few hundred kilobytes.
const MAX_REFERENCES: u64 = 32 * 1024 * 1024;
/// The label that has a release's version.
const VERSION_LABEL: &str = "io.openshift.release";
/// The repository that components travel under.
const COMPONENTS: &str = "openshift/release";
/// The repository that release images travel under.
pub(crate) const RELEASES: &str = "openshift/release-images";

pub use crate::oci::media_type::RELEASE_SIGNATURE;
/// The type of its one layer: the signature file as it was given.
pub const RELEASE_SIGNATURE_CONTENT: &str = "application/vnd.barge.release-signature.content.v1";
/// The config of artifacts that have none (image-spec `manifest.md`, "Guidance for an Empty Descriptor").
const EMPTY_CONFIG: &[u8] = b"{}";

/// A release payload.
#[derive(Debug)]
pub struct Release {
    /// The release's version as tags have it, e.g. `4.18.1-x86_64`.
    pub tag: String,
    /// The name that the release image travels under.
    pub name: Reference,
    /// Its components, sorted by their names.
    pub components: Vec<Component>,
    /// The release's source with the signatures attached to its root.
    pub source: Arc<Made>,
    /// How many signatures there are.
    pub signatures: usize,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// An image that a release consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What the release calls it, e.g. `etcd`.
    pub part: String,
    /// What it is pulled by; always with a digest.
    pub reference: Reference,
    /// The name it travels under.
    pub name: Reference,
}

/// Why a release can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A place can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest can't be used.
    #[error("the manifest of release image {release} can't be used")]
    Manifest {
        /// The release image.
        release: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The files of the image can't be read.
    #[error("the files of release image {release} can't be read")]
    Files {
        /// The release image.
        release: String,
        /// What is wrong.
        #[source]
        source: ImageFilesError,
    },
    /// No list of components in the image.
    #[error("{release} is no release image: it has no file `{MANIFESTS}/{REFERENCES}`")]
    NoRelease {
        /// The image.
        release: String,
    },
    /// A list of components that can't be used.
    #[error("`{MANIFESTS}/{REFERENCES}` of release image {release} can't be used: {why}")]
    References {
        /// The release image.
        release: String,
        /// What is wrong.
        why: String,
    },
    /// A component that is not named by its digest.
    #[error(
        "release image {release} names its component `{part}` as `{reference}`, without a digest; a release's components \
         are named by digest"
    )]
    NoDigest {
        /// The release image.
        release: String,
        /// The component.
        part: String,
        /// What it is named by.
        reference: String,
    },
    /// Neither the reference nor the image tells the release's version.
    #[error(
        "nothing tells the version of release image {release}; name it by a tag, with the digest after it if need be"
    )]
    NoVersion {
        /// The release image.
        release: String,
    },
    /// A signature file can't be read.
    #[error("{} can't be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no signature.
    #[error("{} is no release signature: {why}", .path.display())]
    NoSignature {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A signature about something else.
    #[error("{} is a signature of {signed}, and release image {release} is {root}", .path.display())]
    OtherRelease {
        /// The file.
        path: PathBuf,
        /// What it is about.
        signed: Digest,
        /// The release image.
        release: String,
        /// Its digest.
        root: Digest,
    },
}

/// The list of components: an `ImageStream` of OpenShift.
#[derive(Deserialize)]
struct ImageStream {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    tags: Option<Vec<StreamTag>>,
}

#[derive(Deserialize)]
struct StreamTag {
    name: String,
    #[serde(default)]
    from: Option<Origin>,
}

#[derive(Deserialize)]
struct Origin {
    #[serde(default)]
    kind: String,
    name: String,
}

impl Release {
    /// Gives the release another name; its components travel beside it, under the name's host and tag.
    ///
    /// # Errors
    /// [`ReleaseError::References`]: the tag makes no tag of a component.
    pub fn rename(&mut self, name: &Reference) -> Result<(), ReleaseError> {
        let tag = name.tag.clone().unwrap_or_else(|| self.tag.clone());
        for component in &mut self.components {
            let own = format!("{tag}-{}", component.part);
            if !is_tag(&own) {
                let why = format!("its component can't be named `{COMPONENTS}:{}`", clean_text(&own, 200));
                return Err(ReleaseError::References { release: name.to_string(), why });
            }
            let registry = name.name.registry.clone();
            component.name =
                Reference::tagged(RepositoryName { registry, repository: COMPONENTS.to_owned() }, own);
        }
        (self.tag, self.name) = (tag, name.clone());
        Ok(())
    }
}

/// Opens a release: reads which images it consists of, and attaches signatures to it.
///
/// `reference` is the release image's own, where it has one: its host is that of all names, its tag theirs.
///
/// # Errors
/// [`ReleaseError`]: the image is no release, names components without digests, or a signature is of another release.
pub fn open(
    source: Arc<dyn Source>,
    root: &Descriptor,
    reference: &Reference,
    signatures: &[PathBuf],
    platform: Option<&Platform>,
) -> Result<Release, ReleaseError> {
    let release = reference.to_string();
    let files_error = |source| ReleaseError::Files { release: release.clone(), source };
    let files = ImageFiles::open(&*source, root, platform).map_err(files_error)?;
    let mut tree = files.read_tree(&*source, MANIFESTS, MAX_REFERENCES).map_err(files_error)?;
    let bytes =
        tree.remove(REFERENCES).ok_or_else(|| ReleaseError::NoRelease { release: release.clone() })?;
    let broken = |why: String| ReleaseError::References { release: release.clone(), why };
    let stream: ImageStream =
        serde_json::from_slice(&bytes).map_err(|error| broken(clean_text(&error.to_string(), 200)))?;
    if stream.kind != "ImageStream" {
        return Err(broken(format!("it is a `{}`, no `ImageStream`", clean_text(&stream.kind, 60))));
    }
    let tag = tag_of(reference, &files, &stream)
        .ok_or_else(|| ReleaseError::NoVersion { release: release.clone() })?;
    let named = |repository: &str, tag: String| {
        let registry = reference.name.registry.clone();
        Reference::tagged(RepositoryName { registry, repository: repository.to_owned() }, tag)
    };
    let mut components: BTreeMap<String, Component> = BTreeMap::new();
    for StreamTag { name: part, from } in stream.spec.tags.unwrap_or_default() {
        let shown = clean_text(&part, 100);
        let from = from.ok_or_else(|| broken(format!("its component `{shown}` names no image")))?;
        let no_digest = || ReleaseError::NoDigest {
            release: release.clone(),
            part: shown.clone(),
            reference: clean_text(&from.name, 300),
        };
        let reference: Reference = from
            .name
            .parse()
            .map_err(|_| broken(format!("its component `{shown}` is `{}`", clean_text(&from.name, 300))))?;
        if reference.digest.is_none() || !matches!(from.kind.as_str(), "DockerImage" | "") {
            return Err(no_digest());
        }
        let component_tag = format!("{tag}-{part}");
        if !is_tag(&component_tag) {
            return Err(broken(format!(
                "its component `{shown}` can't be named `{COMPONENTS}:{tag}-{shown}`"
            )));
        }
        let name = named(COMPONENTS, component_tag);
        if components.insert(part.clone(), Component { part, reference, name }).is_some() {
            return Err(broken(format!("its component `{shown}` is there twice")));
        }
    }
    if components.is_empty() {
        return Err(broken("it names no component".to_owned()));
    }
    let mut warnings = Vec::new();
    if let Some(note) = architectures(&*source, root, &release, &files)? {
        warnings.push(note);
    }
    let mut made = Made::over(source);
    for path in signatures {
        attach(&mut made, root, path, &release)?;
    }
    Ok(Release {
        name: named(RELEASES, tag.clone()),
        tag,
        components: components.into_values().collect(),
        source: Arc::new(made),
        signatures: signatures.len(),
        warnings,
    })
}

/// Returns the tag of the release: that of its reference, else the version that the image tells, with its architecture.
fn tag_of(reference: &Reference, files: &ImageFiles, stream: &ImageStream) -> Option<String> {
    if let Some(tag) = &reference.tag {
        return Some(tag.clone());
    }
    let label = files.labels().get(VERSION_LABEL).map(String::as_str);
    let version = label.filter(|version| !version.is_empty()).unwrap_or(&stream.metadata.name);
    let architecture = match files.config().get("architecture").and_then(serde_json::Value::as_str) {
        // The names that release tags have.
        Some("amd64") | None => "x86_64",
        Some("arm64") => "aarch64",
        Some(other) => other,
    };
    let tag = format!("{version}-{architecture}");
    (!version.is_empty() && is_tag(&tag)).then_some(tag)
}

/// Tells of a release of several architectures that its list was read from one of them.
fn architectures(
    source: &dyn Source,
    root: &Descriptor,
    release: &str,
    files: &ImageFiles,
) -> Result<Option<String>, ReleaseError> {
    if !media_type::is_index(&root.media_type) {
        return Ok(None);
    }
    let bytes = read_manifest(source, root)?;
    let manifest = Manifest::parse(&bytes, &root.media_type)
        .map_err(|source| ReleaseError::Manifest { release: release.to_owned(), source })?;
    let Manifest::Index(index) = manifest else { return Ok(None) };
    let runnable = index.manifests.iter().filter(|child| {
        child.attests().is_none() && !child.platform.as_ref().is_some_and(Platform::is_unknown)
    });
    let count = runnable.count();
    Ok((count > 1).then(|| {
        let of = files.config().get("architecture").and_then(serde_json::Value::as_str).unwrap_or("one of them");
        format!(
            "release image {release} is of {count} architectures; its components were read from that of {}, and name images \
             of all of them",
            clean_text(of, 40)
        )
    }))
}

/// The artifact of a signature; the order of the fields is fixed, for the digest depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u8,
    media_type: &'static str,
    artifact_type: &'static str,
    config: Part<'a>,
    layers: [Part<'a>; 1],
    subject: Part<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
}

impl<'a> Part<'a> {
    fn of(descriptor: &'a Descriptor) -> Self {
        Self { media_type: &descriptor.media_type, digest: &descriptor.digest, size: descriptor.size }
    }
}

/// Reads a signature file and attaches it to the release, if it is about it.
fn attach(made: &mut Made, root: &Descriptor, path: &PathBuf, release: &str) -> Result<(), ReleaseError> {
    use std::io::Read;
    let unreadable = |source| ReleaseError::Unreadable { path: path.clone(), source };
    let no_signature = |why: String| ReleaseError::NoSignature { path: path.clone(), why };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_SIGNATURE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SIGNATURE {
        return Err(no_signature(format!("it has more than the {MAX_SIGNATURE} bytes that are read")));
    }
    let statement = signature::read(&bytes).map_err(no_signature)?;
    if statement.digest != root.digest {
        return Err(ReleaseError::OtherRelease {
            path: path.clone(),
            signed: statement.digest,
            release: release.to_owned(),
            root: root.digest.clone(),
        });
    }
    let layer = made.add_blob(RELEASE_SIGNATURE_CONTENT, bytes);
    let config = made.add_blob(media_type::OCI_EMPTY, EMPTY_CONFIG.to_vec());
    let document = Document {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        artifact_type: RELEASE_SIGNATURE,
        config: Part::of(&config),
        layers: [Part::of(&layer)],
        subject: Part::of(root),
    };
    let bytes = serde_json::to_vec(&document).map_err(|error| no_signature(error.to_string()))?;
    let mut artifact = made.add_manifest(media_type::OCI_MANIFEST, bytes);
    artifact.artifact_type = Some(RELEASE_SIGNATURE.to_owned());
    made.attach(&root.digest, artifact);
    Ok(())
}

/// Returns the signature files among what is attached to a release, as they were given.
///
/// # Errors
/// Whatever kept the place from being read.
pub fn signatures(source: &dyn Source, root: &Digest) -> Result<Vec<Vec<u8>>, StoreError> {
    use crate::store::body::read_whole;
    let mut found = Vec::new();
    for attached in source.attached(root)? {
        let descriptor = attached.descriptor;
        if !media_type::is_image_manifest(&descriptor.media_type) {
            continue;
        }
        let bytes = read_manifest(source, &descriptor)?;
        let Ok(Manifest::Image(image)) = Manifest::parse(&bytes, &descriptor.media_type) else { continue };
        let [layer] = &image.layers[..] else { continue };
        if image.artifact_type.as_deref() != Some(RELEASE_SIGNATURE) || layer.size > MAX_SIGNATURE {
            continue;
        }
        found.push(read_whole(source, &layer.digest, layer.size)?);
    }
    found.sort();
    found.dedup();
    Ok(found)
}
