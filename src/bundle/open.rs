//! Opening a bundle: its head and trailer are read, nothing else, however large it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::head::{DOCKER_MANIFEST_PATH, INDEX_PATH, LAYOUT_PATH, PAD_PATH};
use super::record::{ImageEntry, RECORD_PATH, Record, RecordError};
use super::table::Role;
use super::trailer::{TRAILER_SIZE, Trailer};
use crate::oci::{Descriptor, Digest};
use crate::store::archive::{END_OF_ARCHIVE, header};
use crate::store::layout::{
    Layout, LayoutArchive, LayoutDirectory, LayoutFiles, MAX_ROOT_FILE, open_archive,
};
use crate::store::tar::{EntryKind, FileSlice, Scan};
use crate::store::{Attached, Result, Source, StoreError};

/// A bundle, or any OCI layout in a file or folder.
pub struct Bundle {
    path: PathBuf,
    recorded: Option<Recorded>,
    content: Content,
}

/// What the record of a bundle says, and what the file says of the record.
struct Recorded {
    record: Record,
    id: Digest,
    size: u64,
    attached: HashMap<Digest, Vec<(Digest, Option<String>)>>,
}

enum Content {
    /// An archive with a record: blobs are found by its table.
    Archive(Archive),
    /// A tar file of another producer: blobs were found by a scan.
    LayoutArchive(LayoutArchive),
    /// A folder.
    LayoutDirectory(LayoutDirectory),
}

/// An archive whose blobs lie where its table says.
pub struct Archive {
    file: File,
    /// Length of the file in bytes.
    pub length: u64,
    /// Length of the head in bytes: where the offsets of the table count from.
    pub head_length: u64,
    /// What the trailer says; none if the file does not end in one.
    pub trailer: Option<Trailer>,
    /// The files of the head: path, offset of the data, length.
    pub head: Vec<(String, u64, u64)>,
}

impl Archive {
    /// Returns the open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Reads the head of an archive; none if it has no record before its first blob.
///
/// # Errors
/// [`StoreError::Io`] if the file can't be read. A damaged head is no error: what could be read of it is returned.
fn read_head(file: File, length: u64) -> Option<Archive> {
    let mut archive = Archive { file, length, head_length: 0, trailer: None, head: Vec::new() };
    for entry in Scan::new(&archive.file, length).until_end_mark() {
        let Ok(entry) = entry else { break };
        let is_head = [LAYOUT_PATH, INDEX_PATH, RECORD_PATH, DOCKER_MANIFEST_PATH, PAD_PATH]
            .contains(&entry.path.as_str());
        if !is_head || entry.kind != EntryKind::File {
            break;
        }
        archive.head_length = entry.end();
        archive.head.push((entry.path, entry.data_offset, entry.size));
    }
    if !archive.head.iter().any(|(path, ..)| path == RECORD_PATH) {
        return None;
    }
    let mut bytes = [0; TRAILER_SIZE as usize];
    if let Some(at) = length.checked_sub(END_OF_ARCHIVE + TRAILER_SIZE)
        && archive.file.read_exact_at(&mut bytes, at).is_ok()
    {
        archive.trailer = Trailer::parse(&bytes);
    }
    Some(archive)
}

impl Bundle {
    /// Opens a bundle, or any OCI layout, in a file or folder.
    ///
    /// A bundle that was cut off or whose trailer is damaged opens all the same: [`Bundle::fault`] tells.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if there is no layout or its record can't be used, [`StoreError::Io`] if it can't be
    /// read.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            action: "can't be opened",
            source,
        })?;
        if metadata.is_dir() {
            return Self::open_directory(path);
        }
        let (file, length) = open_archive(path, &path.display().to_string())?;
        let mut first = [0];
        if file.read_exact_at(&mut first, 0).is_ok() && first == *b"{" {
            let why = "it is a JSON document and no bundle; `barge inspect` shows what it is".to_owned();
            return Err(StoreError::Invalid { place: path.display().to_string(), why });
        }
        let Some(archive) = read_head(file, length) else {
            let content = Content::LayoutArchive(LayoutArchive::open(path)?);
            return Ok(Self { path: path.to_owned(), recorded: None, content });
        };
        let recorded = archive.head.iter().find(|(path, ..)| path == RECORD_PATH).map(|(_, offset, size)| {
            Record::read_hashed(FileSlice::new(&archive.file, *offset, *size, 0))
                .map_err(|error| invalid(path, &error))
        });
        let recorded = recorded.transpose()?.map(Recorded::new);
        Ok(Self { path: path.to_owned(), recorded, content: Content::Archive(archive) })
    }

    fn open_directory(path: &Path) -> Result<Self> {
        let layout = LayoutDirectory::open(path)?;
        let recorded = match layout.files().root_file(RECORD_PATH, MAX_ROOT_FILE)? {
            Some(bytes) => Some(Recorded::new(
                Record::read_hashed(bytes.as_slice()).map_err(|error| invalid(path, &error))?,
            )),
            None => None,
        };
        Ok(Self { path: path.to_owned(), recorded, content: Content::LayoutDirectory(layout) })
    }

    /// Returns the file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the record; none for a layout of another producer.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.recorded.as_ref().map(|recorded| &recorded.record)
    }

    /// Returns the bundle ID, as the record's bytes give it.
    #[must_use]
    pub fn id(&self) -> Option<&Digest> {
        self.recorded.as_ref().map(|recorded| &recorded.id)
    }

    /// Returns the archive, where the bundle is one with a record.
    #[must_use]
    pub fn archive(&self) -> Option<&Archive> {
        match &self.content {
            Content::Archive(archive) => Some(archive),
            _ => None,
        }
    }

    /// Returns what can be told of damage from head and trailer alone.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let (archive, recorded) = (self.archive()?, self.recorded.as_ref()?);
        match &archive.trailer {
            None => Some("the file was cut off or never finished: it does not end in a trailer".to_owned()),
            Some(trailer) if trailer.record != recorded.id || trailer.record_size != recorded.size => {
                Some(format!(
                    "the record does not hash to what the trailer says ({} instead of {})",
                    recorded.id, trailer.record
                ))
            }
            Some(trailer) if trailer.length != archive.length => Some(format!(
                "the file has {} bytes where its trailer says {}",
                archive.length, trailer.length
            )),
            Some(_) => None,
        }
    }

    /// Lists the images by name: those of the record, else what `index.json` names. Names that are no references are
    /// returned as they are.
    ///
    /// # Errors
    /// What reading the layout says.
    pub fn names(&self) -> Result<Vec<(Option<String>, Descriptor)>> {
        let from_index = |names: Vec<crate::store::layout::Named>| {
            names.into_iter().map(|named| (named.name, named.descriptor)).collect()
        };
        match (&self.recorded, &self.content) {
            (Some(recorded), _) => {
                let images = recorded.record.images.iter();
                Ok(images
                    .filter_map(|image| Some((Some(image.name.to_string()), recorded.root(image)?)))
                    .collect())
            }
            (None, Content::LayoutArchive(layout)) => Ok(from_index(layout.names()?)),
            (None, Content::LayoutDirectory(layout)) => Ok(from_index(layout.names()?)),
            (None, Content::Archive(_)) => Ok(Vec::new()),
        }
    }

    /// Returns whether the bundle holds the content of `digest`, as its table or its files say.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        match (&self.recorded, &self.content) {
            (Some(recorded), _) => {
                recorded.record.blobs.find(digest).is_some_and(|(_, row)| row.role != Role::Gap)
            }
            (None, Content::LayoutArchive(layout)) => layout.files().position(digest).is_some(),
            (None, Content::LayoutDirectory(layout)) => {
                matches!(layout.files().blob_size(digest), Ok(Some(_)))
            }
            (None, Content::Archive(_)) => false,
        }
    }

    /// Returns whether the content of `digest` is there to be pushed: held, and not only kept for later.
    #[must_use]
    pub fn ships(&self, digest: &Digest) -> bool {
        match &self.recorded {
            Some(recorded) => {
                recorded.record.blobs.find(digest).is_some_and(|(_, row)| row.role.is_shipped())
            }
            None => self.holds(digest),
        }
    }

    /// Returns the length in bytes of content that is held, kept for later or not; none of a patch, which is not the
    /// content.
    #[must_use]
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        match (&self.recorded, &self.content) {
            (Some(recorded), _) => {
                let (_, row) = recorded.record.blobs.find(digest)?;
                (!matches!(row.role, Role::Gap | Role::Patch)).then_some(row.size)
            }
            (None, Content::LayoutArchive(layout)) => layout.files().position(digest).map(|at| at.1),
            (None, Content::LayoutDirectory(layout)) => layout.files().blob_size(digest).ok().flatten(),
            (None, Content::Archive(_)) => None,
        }
    }

    fn not_found(&self, what: &dyn std::fmt::Display) -> StoreError {
        StoreError::NotFound { place: self.place(), what: what.to_string() }
    }

    fn read_small(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_blob(digest, size, 0)?
            .take(crate::oci::manifest::MAX_MANIFEST_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::Io {
                path: self.path.clone(),
                action: "a manifest could not be read",
                source,
            })?;
        Ok(bytes)
    }
}

impl Recorded {
    fn new((record, id, size): (Record, Digest, u64)) -> Self {
        let mut attached: HashMap<Digest, Vec<(Digest, Option<String>)>> = HashMap::new();
        for entry in record.images.iter().flat_map(|image| &image.attached) {
            let list = attached.entry(entry.subject.clone()).or_default();
            let item = (entry.digest.clone(), entry.tag.clone());
            if !list.contains(&item) {
                list.push(item);
            }
        }
        Self { record, id, size, attached }
    }

    fn root(&self, image: &ImageEntry) -> Option<Descriptor> {
        self.descriptor(&image.root)
    }

    /// Returns the descriptor of content that the record knows, held or absent.
    fn descriptor(&self, digest: &Digest) -> Option<Descriptor> {
        if let Some((_, row)) = self.record.blobs.find(digest) {
            return Some(Descriptor::new(row.media_type, digest.clone(), row.size));
        }
        let row = self.record.absent.find(digest)?;
        Some(Descriptor::new(row.media_type, row.digest, row.size))
    }
}

fn invalid(path: &Path, error: &RecordError) -> StoreError {
    let cause = std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    StoreError::Invalid { place: path.display().to_string(), why: format!("{error}{cause}") }
}

impl Source for Bundle {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        let Some(recorded) = &self.recorded else {
            return match &self.content {
                Content::LayoutArchive(layout) => layout.resolve(selector),
                Content::LayoutDirectory(layout) => layout.resolve(selector),
                Content::Archive(_) => Err(self.not_found(&selector)),
            };
        };
        if let Ok(digest) = selector.parse::<Digest>() {
            return recorded.descriptor(&digest).ok_or_else(|| self.not_found(&selector));
        }
        let images = &recorded.record.images;
        let exact = images.iter().find(|image| image.name.to_string() == selector);
        let wanted =
            selector.parse::<crate::oci::Reference>().ok().map(crate::oci::Reference::with_default_tag);
        let found = exact.or_else(|| images.iter().find(|image| wanted.as_ref() == Some(&image.name)));
        let found = found.or_else(|| match images.as_slice() {
            [only] if selector.is_empty() || only.name.tag.as_deref() == Some(selector) => Some(only),
            _ => None,
        });
        found
            .and_then(|image| recorded.root(image))
            .ok_or_else(|| self.not_found(&format!("an image `{selector}`")))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.read_small(&descriptor.digest, descriptor.size)
    }

    fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let Some(recorded) = &self.recorded else {
            return match &self.content {
                Content::LayoutArchive(layout) => layout.attached(subject),
                Content::LayoutDirectory(layout) => layout.attached(subject),
                Content::Archive(_) => Ok(Vec::new()),
            };
        };
        let mut list = Vec::new();
        for (digest, tag) in recorded.attached.get(subject).into_iter().flatten() {
            let mut descriptor = recorded.descriptor(digest).ok_or_else(|| self.not_found(&digest))?;
            // The artifact type stands in the manifest alone, and a selection may ask for it.
            if let Ok(bytes) = self.read_small(digest, descriptor.size)
                && let Ok(crate::oci::Manifest::Image(image)) =
                    crate::oci::Manifest::parse(&bytes, &descriptor.media_type)
            {
                descriptor.artifact_type = Some(image.referrer_type().to_owned());
            }
            list.push(Attached { descriptor, tag: tag.clone() });
        }
        Ok(list)
    }

    fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let archive = match &self.content {
            Content::Archive(archive) => archive,
            Content::LayoutArchive(layout) => return layout.open_blob(digest, size, offset),
            Content::LayoutDirectory(layout) => return layout.open_blob(digest, size, offset),
        };
        let row = self.recorded.as_ref().and_then(|recorded| recorded.record.blobs.find(digest));
        let Some((_, row)) = row.filter(|(_, row)| row.role != Role::Gap) else {
            return Err(self.not_found(&digest));
        };
        let damaged = |why: String| StoreError::Damaged { place: self.place(), digest: digest.clone(), why };
        if row.size != size {
            return Err(damaged(format!("the table says {} bytes where {size} were announced", row.size)));
        }
        let within = |at: &u64| at.checked_add(size).is_some_and(|end| end <= archive.length);
        let Some(data) = archive.head_length.checked_add(row.offset).filter(within) else {
            return Err(damaged(format!("the file ends at byte {}, before its place does", archive.length)));
        };
        // A table that points anywhere else than behind this blob's own header is not believed.
        let expected = header(&digest.blob_path(), size);
        let mut found = vec![0; expected.len()];
        let at = data.checked_sub(expected.len() as u64);
        let read = at.map(|at| archive.file.read_exact_at(&mut found, at));
        match read {
            Some(Ok(())) if found == expected => {}
            Some(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                let action = "could not be read";
                return Err(StoreError::Io { path: self.path.clone(), action, source: error });
            }
            _ => {
                return Err(damaged(format!("its tar header before byte {data} is missing or damaged")));
            }
        }
        Ok(Box::new(FileSlice::new(&archive.file, data, size, offset)))
    }
}

/// Keeps the two layouts' methods reachable through one name.
impl Bundle {
    /// Returns the layout of another producer's tar file.
    #[must_use]
    pub fn layout_archive(&self) -> Option<&LayoutArchive> {
        match &self.content {
            Content::LayoutArchive(layout) => Some(layout),
            _ => None,
        }
    }

    /// Returns the layout directory.
    #[must_use]
    pub fn layout_directory(&self) -> Option<&Layout<crate::store::layout::DirectoryFiles>> {
        match &self.content {
            Content::LayoutDirectory(layout) => Some(layout),
            _ => None,
        }
    }
}
