//! A layer's bytes, decompressed within bounds.

use std::io::{self, BufReader, Read};

use crate::store::tar::{Compression, TarStream};

use super::merge::MergeError;

/// A layer's tar file.
pub(super) type Tar<'a> = TarStream<Bounded<Box<dyn Read + 'a>>>;

/// How many bytes any layer may unpack to.
const ALWAYS_ALLOWED: u64 = 256 * 1024 * 1024;
/// How many times its own length a layer may unpack to, beyond [`ALWAYS_ALLOWED`]: deflate comes to 1032 with zeros, file
/// systems to 2 to 20.
const MAX_RATIO: u64 = 100;
/// How much of a layer is read at once, in bytes.
const BUFFER: usize = 64 * 1024;

/// A layer that unpacks to more than is read.
#[derive(Debug, thiserror::Error)]
#[error("it unpacks to more than {0} bytes, many times its size")]
pub(super) struct TooMuch(u64);

/// Reads at most so many bytes and then fails.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    reader: R,
    left: u64,
    limit: u64,
}

impl<R> Bounded<R> {
    /// Returns how many bytes were read.
    pub(super) fn count(&self) -> u64 {
        self.limit - self.left
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, TooMuch(self.limit))),
        }
        Ok(read)
    }
}

/// Opens a layer by its first bytes, whatever its media type says: writers are not careful with it.
pub(super) fn unpack<'a>(mut layer: impl Read + 'a, size: u64) -> Result<Tar<'a>, MergeError> {
    let mut first = Vec::with_capacity(10);
    layer.by_ref().take(10).read_to_end(&mut first).map_err(MergeError::reading)?;
    let compression = Compression::of(&first);
    let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(first).chain(layer));
    let reader: Box<dyn Read + 'a> = match compression {
        None => Box::new(whole),
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Some(Compression::Zstd) => Box::new(zstd::Decoder::with_buffer(whole).map_err(MergeError::reading)?),
        Some(other) => {
            let why = format!("it is compressed with {}, which image layers are not", other.name());
            return Err(MergeError::Unusable(why));
        }
    };
    let limit = ALWAYS_ALLOWED.max(size.saturating_mul(MAX_RATIO));
    Ok(TarStream::new(Bounded { reader, left: limit, limit }))
}
