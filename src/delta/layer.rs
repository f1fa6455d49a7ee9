//! A layer taken apart.

use std::cell::Cell;
use std::io::{self, Read, Write};

use super::gzip::{self, SplitError};
use super::scratch::{Scratch, Stream, StreamWriter};

/// How a blob is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Not at all: the plain bytes are the blob's own.
    Raw,
    /// As a gzip stream (RFC 1952): plain bytes, tokens, blocks.
    Gzip,
}

/// Where the three streams stand at one moment of taking a gzip stream apart: what comes before in one belongs to what
/// comes before in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Plain bytes so far.
    pub plain: u64,
    /// Bytes of tokens so far.
    pub tokens: u64,
    /// Bytes of blocks so far.
    pub blocks: u64,
}

/// A layer taken apart, in working files.
#[derive(Debug, Clone)]
pub struct Layer {
    /// How it was taken apart.
    pub form: Form,
    /// Length of the blob in bytes.
    pub size: u64,
    /// The plain bytes.
    pub plain: Stream,
    /// The tokens; empty unless the form is [`Form::Gzip`].
    pub tokens: Stream,
    /// The blocks; empty unless the form is [`Form::Gzip`].
    pub blocks: Stream,
    /// Where the streams stand, about every 64 KiB of plain bytes, ascending.
    pub marks: Vec<Mark>,
}

/// Why a layer can't be taken apart; `E` is what opening it may say.
#[derive(Debug, thiserror::Error)]
pub enum TakeApartError<E> {
    /// It can't be opened.
    #[error(transparent)]
    Open(E),
    /// The error of its reader, as it is.
    #[error(transparent)]
    Read(io::Error),
    /// The error of a working file.
    #[error("can't write a working file")]
    Scratch(#[source] io::Error),
    /// It should be a gzip stream and can't be taken apart as one.
    #[error("the layer can't be taken apart as a gzip stream")]
    Gzip(#[source] SplitError),
}

/// How gzip streams start: the magic, and `deflate`, the one method there is (RFC 1952, 2.3.1).
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// How much of a layer that is no gzip is taken at a time, in bytes.
const BUFFER: usize = 256 * 1024;

impl Layer {
    /// Takes the layer that `open` gives apart into working files of `scratch`: as `form` says, or, without one, as a gzip
    /// stream if it is one that can be taken apart and else as it is.
    ///
    /// Opens a second time if what starts as gzip can't be taken apart and no form is asked for. The reader that the layer
    /// comes from is read to its very end, so it may compute a digest on the way and fail at the end if it is another one.
    ///
    /// # Errors
    /// [`TakeApartError`]. If both the bytes are no gzip stream and the reader fails on them later, its error is told, since
    /// damaged bytes are the cause.
    pub fn take_apart<'a, E>(
        open: &mut dyn FnMut() -> Result<Box<dyn Read + 'a>, E>,
        form: Option<Form>,
        scratch: &Scratch,
    ) -> Result<Self, TakeApartError<E>> {
        let mut reader = open().map_err(TakeApartError::Open)?;
        let mut start = Vec::with_capacity(GZIP.len());
        if form != Some(Form::Raw) {
            reader.by_ref().take(GZIP.len() as u64).read_to_end(&mut start).map_err(TakeApartError::Read)?;
        }
        if form == Some(Form::Gzip) || start == GZIP {
            match Self::split(&mut io::Cursor::new(start).chain(&mut reader), scratch) {
                Err(TakeApartError::Gzip(_)) if form.is_none() => {}
                Err(TakeApartError::Gzip(error)) => {
                    io::copy(&mut reader, &mut io::sink()).map_err(TakeApartError::Read)?;
                    return Err(TakeApartError::Gzip(error));
                }
                done => return done,
            }
            // The one before may hold a connection or a file.
            drop(reader);
            reader = open().map_err(TakeApartError::Open)?;
            start = Vec::new();
        }
        Self::raw(&mut io::Cursor::new(start).chain(reader), scratch)
    }

    /// Takes a gzip stream apart.
    fn split<E>(reader: &mut dyn Read, scratch: &Scratch) -> Result<Self, TakeApartError<E>> {
        let fault = Cell::new(None);
        let file = || scratch.file().map_err(TakeApartError::Scratch);
        let mut counted = Counted { reader, size: 0, fault: &fault };
        let mut plain = Kept { file: file()?, fault: &fault };
        let mut tokens = Kept { file: file()?, fault: &fault };
        let mut blocks = Kept { file: file()?, fault: &fault };
        let mut marks = Vec::new();
        let mut mark = |mark| marks.push(mark);
        let split = gzip::split(&mut counted, &mut plain, &mut tokens, &mut blocks, &mut mark);
        match fault.take() {
            Some(Fault::Read(error)) => return Err(TakeApartError::Read(error)),
            Some(Fault::Scratch(error)) => return Err(TakeApartError::Scratch(error)),
            None => split.map_err(TakeApartError::Gzip)?,
        }
        // The streams have all of it by now; this is for readers that find out at the end.
        io::copy(&mut counted, &mut io::sink()).map_err(|error| match fault.take() {
            Some(Fault::Read(error)) => TakeApartError::Read(error),
            _ => TakeApartError::Read(error),
        })?;
        let size = counted.size;
        let done = |kept: Kept<'_>| kept.file.finish().map_err(TakeApartError::Scratch);
        marks.shrink_to_fit();
        Ok(Self {
            form: Form::Gzip,
            size,
            plain: done(plain)?,
            tokens: done(tokens)?,
            blocks: done(blocks)?,
            marks,
        })
    }

    /// Takes a layer as it is.
    fn raw<E>(reader: &mut dyn Read, scratch: &Scratch) -> Result<Self, TakeApartError<E>> {
        let file = || scratch.file().map_err(TakeApartError::Scratch);
        let mut plain = file()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => plain.write_all(&buffer[..count]).map_err(TakeApartError::Scratch)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TakeApartError::Read(error)),
            }
        }
        let done = |file: StreamWriter| file.finish().map_err(TakeApartError::Scratch);
        let plain = done(plain)?;
        Ok(Self {
            form: Form::Raw,
            size: plain.len(),
            plain,
            tokens: done(file()?)?,
            blocks: done(file()?)?,
            marks: Vec::new(),
        })
    }
}

/// What went wrong below the codec, as it was.
enum Fault {
    Read(io::Error),
    Scratch(io::Error),
}

/// Leaves `error` where it is found unchanged, and tells the codec that there is one.
fn leave(slot: &Cell<Option<Fault>>, error: io::Error, fault: fn(io::Error) -> Fault) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    slot.set(Some(fault(error)));
    io::Error::other("see the fault")
}

/// A reader whose bytes are counted.
struct Counted<'a> {
    reader: &'a mut dyn Read,
    size: u64,
    fault: &'a Cell<Option<Fault>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(bytes).map_err(|error| leave(self.fault, error, Fault::Read))?;
        self.size += count as u64;
        Ok(count)
    }
}

/// A working file that one of the streams goes to.
struct Kept<'a> {
    file: StreamWriter,
    fault: &'a Cell<Option<Fault>>,
}

impl Write for Kept<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| leave(self.fault, error, Fault::Scratch))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| leave(self.fault, error, Fault::Scratch))
    }
}
