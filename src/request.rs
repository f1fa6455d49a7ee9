//! The request: what the receiving side lacks, in the form that the packing side's barge reads.
//!
//! `verify` writes one of what a medium lost, `push` one of what the target lacks. `format-spec/request.md` describes it.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bundle::verify::Report;
use crate::oci::{Algorithm, Digest, Hasher, Platform, Reference};
use crate::transfer::{TransferError, write_whole};

/// Media type of a request.
pub const REQUEST_TYPE: &str = "application/vnd.barge.request.v1+json";
/// Version of the form that is written, `major.minor`.
const FORMAT_VERSION: &str = "1.0";
/// The major version that can be read.
const FORMAT_MAJOR: &str = "1";

/// A piece of content that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedBlob {
    /// Its digest.
    pub digest: Digest,
    /// The images that need it, as places in [`Request::images`]; empty where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<u32>,
    /// Its type; empty where nothing says it.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
}

/// An image that needs something of what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WantedImage {
    /// The name under which it travelled; none where names were omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The platforms of it that travelled, where it is known; nobody asks for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// What it was pulled by, where its bundle says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Digest of its root, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
}

/// A request. Fields in alphabetical order, as canonical JSON has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What is asked for, sorted by digest.
    pub blobs: Vec<WantedBlob>,
    /// IDs of the bundles that were read or pushed.
    #[serde(default)]
    pub bundles: Vec<Digest>,
    format_version: String,
    /// The images that need it, sorted.
    pub images: Vec<WantedImage>,
    media_type: String,
}

/// Why a request can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The file can't be read.
    #[error("it can't be read")]
    Io(#[from] std::io::Error),
    /// Not JSON, or of another shape.
    #[error("it is not a valid request")]
    Invalid(#[from] serde_json::Error),
    /// Another document.
    #[error("its media type is `{0}`, not `{REQUEST_TYPE}`")]
    MediaType(String),
    /// A newer form.
    #[error("it has format version {0}; this barge reads version {FORMAT_MAJOR}: use a newer barge")]
    Version(String),
}

impl Request {
    /// Makes a request; sorts what it is given, and joins what is given twice.
    #[must_use]
    pub fn new(
        wanted: impl IntoIterator<Item = (WantedBlob, Vec<WantedImage>)>,
        bundles: Vec<Digest>,
    ) -> Self {
        let mut wanted: Vec<(WantedBlob, Vec<WantedImage>)> = wanted.into_iter().collect();
        let mut images: Vec<WantedImage> = wanted.iter().flat_map(|(_, images)| images).cloned().collect();
        images.sort();
        images.dedup();
        for (blob, by) in &mut wanted {
            let places = by.iter().filter_map(|image| images.binary_search(image).ok());
            blob.images = places.map(|at| at as u32).collect();
        }
        wanted.sort_by(|(a, _), (b, _)| a.digest.cmp(&b.digest));
        let mut blobs: Vec<WantedBlob> = Vec::new();
        for (blob, _) in wanted {
            match blobs.last_mut() {
                Some(last) if last.digest == blob.digest => last.images.extend(blob.images),
                _ => blobs.push(blob),
            }
        }
        for blob in &mut blobs {
            blob.images.sort_unstable();
            blob.images.dedup();
        }
        Self {
            blobs,
            bundles,
            format_version: FORMAT_VERSION.to_owned(),
            images,
            media_type: REQUEST_TYPE.to_owned(),
        }
    }

    /// Makes the request for what a verification found missing and damaged, with the images that are not whole; none where
    /// nothing is to be sent again.
    #[must_use]
    pub fn of_verification(report: &Report) -> Option<Self> {
        if report.resend.is_empty() {
            return None;
        }
        let wanted = report.resend.iter().map(|one| WantedBlob {
            digest: one.digest.clone(),
            images: Vec::new(),
            media_type: one.media_type.clone(),
            size: one.size,
        });
        let mut request =
            Self::new(wanted.map(|blob| (blob, Vec::new())), report.bundle.iter().cloned().collect());
        let images = report.images.iter().filter(|image| !image.whole).map(|image| WantedImage {
            name: Some(image.name.clone()),
            platforms: image.platforms.iter().filter_map(|platform| platform.parse().ok()).collect(),
            reference: None,
            root: image.root.clone(),
        });
        request.add_images(images.collect());
        Some(request)
    }

    /// Adds images that need something, of which it is not known what.
    pub fn add_images(&mut self, images: Vec<WantedImage>) {
        let before = std::mem::take(&mut self.images);
        self.images = before.iter().cloned().chain(images).collect();
        self.images.sort();
        self.images.dedup();
        for place in self.blobs.iter_mut().flat_map(|blob| &mut blob.images) {
            let image = &before[*place as usize];
            *place = self.images.binary_search(image).unwrap_or_default() as u32;
        }
    }

    /// Takes all names off; digests, sizes and types stay.
    pub fn omit_names(&mut self) {
        self.images = Vec::new();
        self.blobs.iter_mut().for_each(|blob| blob.images = Vec::new());
    }

    /// Returns the canonical bytes.
    ///
    /// # Panics
    /// Never: every value can be written.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values")
    }

    /// Returns the digest of the canonical bytes.
    #[must_use]
    pub fn id(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&self.bytes());
        hasher.finish()
    }

    /// Returns the platforms that the image of a name travelled with; none if that is not known. An image of another name
    /// is one of those that all of them travelled with alike.
    #[must_use]
    pub fn platforms_of(&self, name: &str) -> Vec<Platform> {
        let is_it = |image: &&WantedImage| image.name.as_deref() == Some(name);
        let of_name: Vec<&WantedImage> = self.images.iter().filter(is_it).collect();
        let images = if of_name.is_empty() { self.images.iter().collect() } else { of_name.clone() };
        let is_unsure =
            of_name.is_empty() && images.windows(2).any(|two| two[0].platforms != two[1].platforms);
        if is_unsure || images.iter().any(|image| image.platforms.is_empty()) {
            return Vec::new();
        }
        let mut all: Vec<Platform> = images.into_iter().flat_map(|image| &image.platforms).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Returns the content that is asked for, if it is `digest`.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<&WantedBlob> {
        let at = self.blobs.binary_search_by(|blob| blob.digest.cmp(digest)).ok()?;
        Some(&self.blobs[at])
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(path: &Path) -> Result<Self, RequestError> {
        let mut request: Self = serde_json::from_reader(BufReader::new(File::open(path)?))?;
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(80).collect();
        if request.media_type != REQUEST_TYPE {
            return Err(RequestError::MediaType(shown(&request.media_type)));
        }
        if request.format_version.split('.').next() != Some(FORMAT_MAJOR) {
            return Err(RequestError::Version(shown(&request.format_version)));
        }
        let count = request.images.len();
        for blob in &mut request.blobs {
            blob.images.retain(|at| (*at as usize) < count);
        }
        request.blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
        Ok(request)
    }

    /// Writes the request to a file, whole or not at all.
    ///
    /// # Errors
    /// [`TransferError::Local`] if the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), TransferError> {
        write_whole(path, |out| out.write_all(&self.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(seed: &[u8]) -> WantedBlob {
        WantedBlob {
            digest: Digest::sha256(seed),
            images: Vec::new(),
            media_type: "application/x".to_owned(),
            size: 3,
        }
    }

    fn image(name: &str) -> WantedImage {
        WantedImage {
            name: Some(name.to_owned()),
            platforms: Vec::new(),
            reference: None,
            root: Some(Digest::sha256(name.as_bytes())),
        }
    }

    #[test]
    fn what_is_asked_for_twice_is_joined_and_the_bytes_are_canonical() {
        let wanted = [
            (blob(b"x"), vec![image("r.example/b:1")]),
            (blob(b"y"), vec![image("r.example/a:1")]),
            (blob(b"x"), vec![image("r.example/a:1")]),
        ];
        let mut request = Request::new(wanted, vec![Digest::sha256(b"bundle")]);
        assert_eq!(request.blobs.len(), 2);
        assert_eq!(request.find(&Digest::sha256(b"x")).unwrap().images, [0, 1]);
        request.add_images(vec![image("r.example/0:1")]);
        assert_eq!(request.find(&Digest::sha256(b"x")).unwrap().images, [1, 2]);
        let bytes = request.bytes();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value.to_string().as_bytes(), bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.json");
        request.write(&path).unwrap();
        assert_eq!(Request::read(&path).unwrap(), request);
        request.omit_names();
        assert!(!String::from_utf8(request.bytes()).unwrap().contains("example"));
    }

    #[test]
    fn each_image_has_platforms_of_its_own() {
        let of = |name: &str, platforms: &[&str]| WantedImage {
            platforms: platforms.iter().map(|text| text.parse().unwrap()).collect(),
            ..image(name)
        };
        let texts = |request: &Request, name: &str| -> Vec<String> {
            request.platforms_of(name).iter().map(ToString::to_string).collect()
        };
        let (amd64, arm64) = ("linux/amd64", "linux/arm64");
        let mut request = Request::new([], Vec::new());
        request.add_images(vec![of("r.example/a:1", &[amd64]), of("r.example/b:1", &[amd64])]);
        assert_eq!(texts(&request, "r.example/other:1"), [amd64]);
        request.add_images(vec![of("r.example/c:1", &[arm64]), of("r.example/d:1", &[])]);
        assert_eq!(texts(&request, "r.example/a:1"), [amd64]);
        assert_eq!(texts(&request, "r.example/c:1"), [arm64]);
        for unknown in ["r.example/d:1", "r.example/other:1"] {
            assert!(texts(&request, unknown).is_empty(), "{unknown}");
        }
    }

    #[test]
    fn another_document_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.json");
        let text = String::from_utf8(Request::new([], Vec::new()).bytes()).unwrap();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Request::read(&path)
        };
        assert!(read(&text).is_ok());
        assert!(matches!(read(&text.replace("request.v1", "wish.v1")), Err(RequestError::MediaType(_))));
        assert!(matches!(read(&text.replace("1.0", "2.0")), Err(RequestError::Version(_))));
        assert!(matches!(read("[]"), Err(RequestError::Invalid(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Request::read(&path), Err(RequestError::Io(_))));
    }
}
