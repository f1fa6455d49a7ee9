//! The workshop: where content is rebuilt from patches and what they build on.
//!
//! A base is read once and taken apart once, whatever number of patches build on it, and is kept as long as there is
//! room. What comes out is checked by whoever reads it, like any other content of a source.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::patches::CODEC;
use super::recipe::{Ingredient, Origin, Recipe};
use crate::delta::layer::{Form, Layer, TakeApartError};
use crate::delta::patch::{Patch, RebuildError, rebuild};
use crate::delta::scratch::{Scratch, Stream};
use crate::delta::shelf::Shelf;
use crate::oci::{Descriptor, Digest};
use crate::store::body::{Body, Start};
use crate::store::{Attached, Result, Source, StoreError};

/// What patches may take in memory where nobody says, in bytes.
const DEFAULT_MEMORY: u64 = 512 << 20;
/// What one rebuilding may take in memory, in bytes: the frames and prefixes of three streams.
const MEMORY_EACH: u64 = 256 << 20;
/// How much of what nobody uses at the moment is kept on disk, in bytes.
const SHELF: u64 = 4 << 30;
/// Length of the pieces in which rebuilt content is handed over, in bytes, and how many may wait.
const PIECE: usize = 256 * 1024;
const WAITING: usize = 4;

/// A workshop.
#[derive(Debug)]
pub struct Workshop {
    scratch: Scratch,
    shelf: Shelf,
    /// Who may work on content that somebody wants, with all that it builds on.
    orders: Arc<Benches>,
    /// Who may hold a rebuilding in memory.
    benches: Arc<Benches>,
}

/// How many may work at once.
#[derive(Debug)]
struct Benches {
    free: Mutex<u64>,
    freed: Condvar,
}

/// A place at which somebody works.
#[derive(Debug)]
struct Bench(Arc<Benches>);

impl Benches {
    fn take(self: &Arc<Self>) -> Bench {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.freed.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Bench(self.clone())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

impl Default for Workshop {
    /// A workshop in the system's folder for large working files that takes half a gibibyte.
    fn default() -> Self {
        Self::new(&default_folder(), DEFAULT_MEMORY)
    }
}

/// Returns the folder for large working files: `$TMPDIR`, else `/var/tmp`, which unlike `/tmp` is not kept in memory.
#[must_use]
pub fn default_folder() -> PathBuf {
    let var_tmp = || Some(PathBuf::from("/var/tmp")).filter(|folder| folder.is_dir());
    std::env::var_os("TMPDIR").map(PathBuf::from).or_else(var_tmp).unwrap_or_else(std::env::temp_dir)
}

/// Tells in which place content that a patch builds on is read; none where it is to be rebuilt itself.
pub type Places<'a> = dyn Fn(&Ingredient) -> Option<&'a dyn Source> + Sync + 'a;

impl Workshop {
    /// Opens a workshop in `folder` that takes about `memory` bytes, and most of what is free on its disk.
    #[must_use]
    pub fn new(folder: &Path, memory: u64) -> Self {
        let count = (memory / MEMORY_EACH).max(1);
        let benches = || Arc::new(Benches { free: Mutex::new(count), freed: Condvar::new() });
        // A base that unpacks to more than anybody expects must not fill a disk that others need too.
        let scratch = match rustix::fs::statvfs(folder) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                Scratch::with_limit(folder, free - free / 16)
            }
            Err(_) => Scratch::new(folder),
        };
        Self { scratch, shelf: Shelf::new(SHELF), orders: benches(), benches: benches() }
    }

    /// Returns the working folder.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Reads content from a place and takes it apart, or gives it as it was taken apart before.
    ///
    /// # Errors
    /// What the place says, [`StoreError::Damaged`] if the content is not what its digest says or has not the `form`,
    /// [`StoreError::Scratch`] if the working folder can't take it.
    pub fn layer(
        &self,
        source: &dyn Source,
        digest: &Digest,
        size: u64,
        form: Option<Form>,
    ) -> Result<Arc<Layer>> {
        self.shelf.layer(digest, form, || self.take_apart(source, digest, size, form, &|_| {}))
    }

    /// Reads content from a place and takes it apart; `advance` is told of bytes read.
    ///
    /// # Errors
    /// As [`Workshop::layer`].
    pub fn take_apart(
        &self,
        source: &dyn Source,
        digest: &Digest,
        size: u64,
        form: Option<Form>,
        advance: &dyn Fn(u64),
    ) -> Result<Layer> {
        let mut open = || -> Result<Box<dyn Read + '_>> {
            let body = Body::new(source, digest, size, Start::at_zero(digest));
            Ok(Box::new(Counting { body, advance }))
        };
        Layer::take_apart(&mut open, form, &self.scratch).map_err(|error| match error {
            TakeApartError::Open(error) => error,
            TakeApartError::Read(error) => {
                own(error).unwrap_or_else(|source_error| StoreError::Interrupted {
                    place: source.place(),
                    what: digest.to_string(),
                    source: source_error,
                })
            }
            TakeApartError::Scratch(error) => self.unusable(error),
            TakeApartError::Gzip(error) => StoreError::Damaged {
                place: source.place(),
                digest: digest.clone(),
                why: format!("a patch takes it for a gzip stream: {error}"),
            },
        })
    }

    fn unusable(&self, source: io::Error) -> StoreError {
        StoreError::Scratch { folder: self.scratch.folder().to_owned(), source }
    }

    /// Starts rebuilding; the content comes as it is made.
    ///
    /// # Errors
    /// What the places say, [`StoreError::Damaged`] if the patch makes no sense, [`StoreError::Scratch`] if the
    /// working folder can't take what is needed.
    pub fn open<'a>(
        &self,
        recipe: &Recipe,
        patches: &dyn Source,
        places: &Places<'a>,
    ) -> Result<Box<dyn Read + Send + 'a>> {
        // Before anything is read for it, so that what waits takes no room. What is rebuilt on the way needs no order of
        // its own, or two could wait for each other.
        let order = self.orders.take();
        self.rebuild(recipe, patches, places, Some(order))
    }

    fn rebuild<'a>(
        &self,
        recipe: &Recipe,
        patches: &dyn Source,
        places: &Places<'a>,
        order: Option<Bench>,
    ) -> Result<Box<dyn Read + Send + 'a>> {
        let damaged = |why: &dyn fmt::Display| StoreError::Damaged {
            place: patches.place(),
            digest: recipe.target.digest.clone(),
            why: format!("it can't be rebuilt by the patch {}: {why}", recipe.patch.digest),
        };
        if recipe.codec != CODEC {
            return Err(damaged(&format!("the codec `{}` is not known", recipe.codec)));
        }
        let patch = Patch::open(self.copy(patches, &recipe.patch)?).map_err(|error| damaged(&error))?;
        let head = patch.head();
        let named = head.bases.iter().map(|base| (&base.digest, base.size));
        let meant = recipe.bases.iter().map(|base| (&base.digest, base.size));
        let is_meant = head.target == recipe.target.digest && head.size == recipe.target.size;
        if !is_meant || !named.eq(meant) {
            return Err(damaged(&"it is a patch of other content than the record says"));
        }
        let mut bases = Vec::new();
        for (ingredient, base) in recipe.bases.iter().zip(&head.bases) {
            bases.push(self.ingredient(ingredient, base.form, patches, places)?);
        }
        let (sender, pieces) = sync_channel(WAITING);
        let bench = self.benches.take();
        std::thread::spawn(move || {
            let mut out = Sending { sender: &sender, piece: Vec::new() };
            let outcome =
                rebuild(&patch, &bases, &mut out).and_then(|()| out.flush().map_err(RebuildError::Out));
            // Nobody listens any more, or hears of it.
            sender.send(Piece::End(outcome)).ok();
        });
        Ok(Box::new(Rebuilding {
            pieces,
            piece: Vec::new(),
            at: 0,
            is_over: false,
            target: recipe.target.digest.clone(),
            patch: recipe.patch.digest.clone(),
            place: patches.place(),
            scratch: self.scratch.clone(),
            _bench: bench,
            _order: order,
        }))
    }

    /// Returns what a patch builds on, taken apart.
    fn ingredient(
        &self,
        ingredient: &Ingredient,
        form: Form,
        patches: &dyn Source,
        places: &Places<'_>,
    ) -> Result<Arc<Layer>> {
        let (digest, size) = (&ingredient.digest, ingredient.size);
        if let Some(source) = places(ingredient) {
            return self.layer(source, digest, size, Some(form));
        }
        let Origin::Rebuilt(recipe) = &ingredient.origin else {
            return Err(StoreError::NotFound {
                place: patches.place(),
                what: format!("the content {digest}, which a patch builds on"),
            });
        };
        let rebuilt = Rebuilt { is_ordered: true, ..Rebuilt::new(self, recipe.clone(), patches, places) };
        self.layer(&rebuilt, digest, size, Some(form))
    }

    /// Copies a patch to the working folder, so that nothing of it is used before all of it was hashed.
    fn copy(&self, patches: &dyn Source, patch: &Descriptor) -> Result<Stream> {
        let mut file = self.scratch.file().map_err(|error| self.unusable(error))?;
        let mut body = Body::new(patches, &patch.digest, patch.size, Start::at_zero(&patch.digest));
        let mut piece = vec![0; PIECE];
        loop {
            match body.next(&mut piece)? {
                0 => return file.finish().map_err(|error| self.unusable(error)),
                count => file.write_all(&piece[..count]).map_err(|error| self.unusable(error))?,
            }
        }
    }
}

/// Returns the store's error that an I/O error carries, or the error itself.
fn own(error: io::Error) -> std::result::Result<StoreError, io::Error> {
    error.downcast::<StoreError>()
}

/// Tells of bytes read.
struct Counting<'a> {
    body: Body<'a>,
    advance: &'a dyn Fn(u64),
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        (self.advance)(count as u64);
        Ok(count)
    }
}

/// What the rebuilding thread hands over.
enum Piece {
    Bytes(Vec<u8>),
    End(std::result::Result<(), RebuildError>),
}

struct Sending<'a> {
    sender: &'a SyncSender<Piece>,
    piece: Vec<u8>,
}

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE * 2));
        let sent = self.sender.send(Piece::Bytes(piece));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads what is rebuilt"))
    }
}

/// Reads content while it is rebuilt.
struct Rebuilding {
    pieces: Receiver<Piece>,
    piece: Vec<u8>,
    at: usize,
    is_over: bool,
    target: Digest,
    patch: Digest,
    place: String,
    scratch: Scratch,
    _bench: Bench,
    _order: Option<Bench>,
}

impl Rebuilding {
    fn error(&self, error: RebuildError) -> StoreError {
        match error {
            RebuildError::Scratch(source) => {
                StoreError::Scratch { folder: self.scratch.folder().to_owned(), source }
            }
            error => StoreError::Damaged {
                place: self.place.clone(),
                digest: self.target.clone(),
                why: format!("it can't be rebuilt by the patch {}: {error}", self.patch),
            },
        }
    }
}

impl Read for Rebuilding {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.is_over && !buffer.is_empty() {
            match self.pieces.recv() {
                Ok(Piece::Bytes(piece)) => (self.piece, self.at) = (piece, 0),
                Ok(Piece::End(Ok(()))) => self.is_over = true,
                Ok(Piece::End(Err(error))) => return Err(io::Error::other(self.error(error))),
                Err(_) => return Err(io::Error::other("rebuilding ended without a result")),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// A source of one piece of content, which it rebuilds.
pub struct Rebuilt<'w, 'a> {
    workshop: &'w Workshop,
    recipe: Arc<Recipe>,
    patches: &'w dyn Source,
    places: &'w Places<'a>,
    /// Whether it is part of an order.
    is_ordered: bool,
    /// What was begun and not read yet.
    begun: Mutex<Option<Box<dyn Read + Send + 'a>>>,
}

impl<'w, 'a> Rebuilt<'w, 'a> {
    /// Rebuilds in `workshop` by `recipe`; `places` tells where the bases are.
    #[must_use]
    pub fn new(
        workshop: &'w Workshop,
        recipe: Arc<Recipe>,
        patches: &'w dyn Source,
        places: &'w Places<'a>,
    ) -> Self {
        Self { workshop, recipe, patches, places, is_ordered: false, begun: Mutex::default() }
    }

    /// Gets everything that is needed, so that the content comes at once when it is read.
    ///
    /// # Errors
    /// As [`Workshop::open`].
    pub fn begin(&self) -> Result<()> {
        let content = self.open()?;
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(content);
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn Read + Send + 'a>> {
        match self.is_ordered {
            true => self.workshop.rebuild(&self.recipe, self.patches, self.places, None),
            false => self.workshop.open(&self.recipe, self.patches, self.places),
        }
    }

    fn nothing<T>(&self, what: &dyn fmt::Display) -> Result<T> {
        Err(StoreError::NotFound { place: self.place(), what: what.to_string() })
    }
}

impl Source for Rebuilt<'_, '_> {
    fn place(&self) -> String {
        self.patches.place()
    }

    fn resolve(&self, selector: &str) -> Result<Descriptor> {
        self.nothing(&selector)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.nothing(&descriptor.digest)
    }

    fn attached(&self, _: &Digest) -> Result<Vec<Attached>> {
        Ok(Vec::new())
    }

    fn open_blob(&self, digest: &Digest, _: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if *digest != self.recipe.target.digest {
            return self.nothing(digest);
        }
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut content = match begun {
            Some(content) => content,
            None => self.open()?,
        };
        skip(&mut content, offset)?;
        Ok(content)
    }
}

/// Passes over the first `offset` bytes.
pub(super) fn skip(content: &mut dyn Read, offset: u64) -> Result<()> {
    let skipped = io::copy(&mut content.take(offset), &mut io::sink());
    skipped.map(|_| ()).map_err(|error| {
        own(error).unwrap_or_else(|source| StoreError::Interrupted {
            place: "the working folder".to_owned(),
            what: "content that was being rebuilt".to_owned(),
            source,
        })
    })
}
