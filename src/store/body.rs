//! The content of one blob, read from its source: taken up where it breaks off, counted, hashed, and never handed out
//! whole unless it is what its digest says.

use std::io::{self, Read};
use std::time::Duration;

use crate::oci::{Digest, Hasher};
use crate::store::{Source, StoreError};

/// How many times a blob is taken up again after it broke off, without a byte gained in between.
const FRUITLESS_TRIES: u32 = 4;
/// The pause before the first repetition; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Where reading starts: at the beginning, or after bytes that are hashed already.
#[derive(Clone)]
pub struct Start {
    /// How many bytes are there.
    pub offset: u64,
    /// The hash over them.
    pub hasher: Hasher,
}

impl Start {
    /// The beginning of content with this digest.
    #[must_use]
    pub fn at_zero(digest: &Digest) -> Self {
        Self { offset: 0, hasher: Hasher::new(digest.algorithm()) }
    }
}

/// Reads a blob's content from its source.
///
/// An error from [`Read::read`] wraps a [`StoreError`]; after one nothing more can be read. The last bytes are handed
/// out only when the digest over everything is right.
pub struct Body<'a> {
    source: &'a dyn Source,
    digest: &'a Digest,
    size: u64,
    state: Start,
    reader: Option<Box<dyn Read + Send + 'a>>,
    answers: u32,
    fruitless: u32,
    is_over: bool,
    has_another: bool,
}

impl<'a> Body<'a> {
    /// Starts reading; nothing is opened yet.
    #[must_use]
    pub fn new(source: &'a dyn Source, digest: &'a Digest, size: u64, start: Start) -> Self {
        let (answers, fruitless, is_over, has_another) = (0, 0, false, false);
        Self { source, digest, size, state: start, reader: None, answers, fruitless, is_over, has_another }
    }

    /// Returns the state after the bytes handed out so far, from which another body can go on.
    #[must_use]
    pub fn state(&self) -> &Start {
        &self.state
    }

    /// Returns how many answers of the source the content was put together from.
    #[must_use]
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// Returns, after an error, whether the source has another place to read the content from, by a new body.
    #[must_use]
    pub fn has_another(&self) -> bool {
        self.has_another
    }

    fn damaged(&self, why: String) -> StoreError {
        StoreError::Damaged { place: self.source.giver(self.digest), digest: self.digest.clone(), why }
    }

    /// Reads the next bytes of the content.
    ///
    /// # Errors
    /// What the source says, or [`StoreError::Damaged`] if the content is not what its digest and size say.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        if self.is_over || buffer.is_empty() {
            return Ok(0);
        }
        let outcome = self.step(buffer);
        self.is_over = match &outcome {
            Ok(_) => self.state.offset == self.size,
            Err(_) => true,
        };
        if let Err(error @ (StoreError::Damaged { .. } | StoreError::Interrupted { .. })) = &outcome {
            self.reader = None;
            self.has_another = self.source.distrust(self.digest, error);
        }
        outcome
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        while self.state.offset < self.size {
            let reader = if let Some(reader) = &mut self.reader {
                reader
            } else {
                self.answers += 1;
                let opened = self.source.open_blob(self.digest, self.size, self.state.offset)?;
                self.reader.insert(opened)
            };
            let broke_off = match reader.read(buffer) {
                Ok(0) => None,
                Ok(count) if self.state.offset + count as u64 > self.size => {
                    return Err(self.damaged(format!("more than the announced {} bytes came", self.size)));
                }
                Ok(count) => {
                    self.fruitless = 0;
                    self.state.hasher.update(&buffer[..count]);
                    self.state.offset += count as u64;
                    if self.state.offset == self.size {
                        self.check_end()?;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A source that says itself what is wrong is not asked again.
                Err(error) => match error.downcast::<StoreError>() {
                    Ok(error) => return Err(error),
                    Err(error) => Some(error),
                },
            };
            self.reader = None;
            self.fruitless += 1;
            if self.fruitless >= FRUITLESS_TRIES {
                let offset = self.state.offset;
                return Err(match broke_off {
                    None => self.damaged(format!("it ends after {offset} of {} bytes", self.size)),
                    Some(source) => StoreError::Interrupted {
                        place: self.source.giver(self.digest),
                        what: format!("{}, after {offset} of {} bytes", self.digest, self.size),
                        source,
                    },
                });
            }
            std::thread::sleep(FIRST_PAUSE * 2u32.pow(self.fruitless - 1));
        }
        // Only content of no bytes, and content that was whole before, gets here.
        if self.answers == 0 && self.size == 0 {
            self.answers += 1;
            self.reader = Some(self.source.open_blob(self.digest, 0, 0)?);
        }
        self.check_end()?;
        Ok(0)
    }

    /// Checks that the content ends here and is the right one.
    fn check_end(&mut self) -> Result<(), StoreError> {
        if let Some(reader) = &mut self.reader
            && matches!(reader.read(&mut [0]), Ok(1))
        {
            return Err(self.damaged(format!("more than the announced {} bytes came", self.size)));
        }
        self.reader = None;
        let found = self.state.hasher.clone().finish();
        if found == *self.digest { Ok(()) } else { Err(self.damaged(format!("its bytes hash to {found}"))) }
    }
}

/// Reads a whole blob into memory, of as many places as the source has; the caller bounds its size.
///
/// # Errors
/// As [`Body::next`].
pub fn read_whole(source: &dyn Source, digest: &Digest, size: u64) -> Result<Vec<u8>, StoreError> {
    loop {
        let mut body = Body::new(source, digest, size, Start::at_zero(digest));
        // Room for one more: into none nothing is read, and the digest of nothing is to be checked too.
        let mut bytes = vec![0; size as usize + 1];
        let mut filled = 0;
        let error = loop {
            match body.next(&mut bytes[filled..]) {
                Ok(0) => {
                    bytes.truncate(filled);
                    return Ok(bytes);
                }
                Ok(count) => filled += count,
                Err(error) => break error,
            }
        };
        if !body.has_another() {
            return Err(error);
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
