//! Reading a patch's head, and finding its parts.

use super::head::{BaseHead, Head};
use super::varint::{LONGEST, Partial, Step};
use super::{BASES_MAX, Invalid, MAGIC, PatchError};
use crate::delta::layer::Form;
use crate::delta::scratch::Stream;
use crate::oci::digest::Digest;

/// The longest text of a digest: `sha512:` and 128 hex digits.
const DIGEST_MAX: u64 = 135;

/// Most bytes before the parts: the magic, a target and its bases, their count, and six lengths a stream.
pub const HEAD_MAX: usize =
    MAGIC.len() + (BASES_MAX + 1) * (LONGEST + DIGEST_MAX as usize + LONGEST + 1) + LONGEST + 3 * 6 * LONGEST;

/// A patch whose head was read and whose parts are where the head says.
#[derive(Debug, Clone)]
pub struct Patch {
    pub(super) blob: Stream,
    pub(super) head: Head,
    pub(super) streams: [StreamParts; 3],
}

/// The patch of one stream, in the blob.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamParts {
    /// Length of the stream that it gives.
    pub length: u64,
    pub ops: Part,
    pub diff: Part,
    pub data: Part,
}

/// A range of the blob.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    pub offset: u64,
    pub length: u64,
    /// What it unpacks to; of no meaning for `data`.
    pub raw: u64,
}

impl Patch {
    /// Reads the head of a patch blob. The caller has compared the blob's digest.
    ///
    /// # Errors
    /// [`PatchError::Invalid`] if it is no patch or its lengths do not add up to the blob's.
    pub fn open(blob: Stream) -> Result<Self, PatchError> {
        let length = HEAD_MAX.min(usize::try_from(blob.len()).unwrap_or(HEAD_MAX));
        let mut bytes = vec![0; length];
        blob.read_at(&mut bytes, 0).map_err(PatchError::Scratch)?;
        let mut cursor = Cursor { bytes: &bytes, at: 0 };
        let (head, streams) = cursor.all(blob.len()).map_err(PatchError::Invalid)?;
        Ok(Self { blob, head, streams })
    }

    /// Returns what the patch gives and what it takes for that.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }
}

impl Head {
    /// Reads the head of a patch of `length` bytes from its start: its first [`HEAD_MAX`] bytes, or all if it has fewer.
    ///
    /// # Errors
    /// What is wrong, if it is no patch or its lengths do not add up to `length`.
    pub fn read(start: &[u8], length: u64) -> Result<Self, Invalid> {
        Cursor { bytes: start, at: 0 }.all(length).map(|(head, _)| head)
    }
}

/// Takes a head apart, byte for byte.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn all(&mut self, blob: u64) -> Result<(Head, [StreamParts; 3]), Invalid> {
        let magic = self.take(MAGIC.len()).map_err(|_| Invalid::Magic)?;
        if magic != MAGIC {
            return Err(Invalid::Magic);
        }
        let BaseHead { digest: target, size, form } = self.blob()?;
        let count = self.number()?;
        if count == 0 || count > BASES_MAX as u64 {
            return Err(Invalid::Bases(count));
        }
        let bases = (0..count).map(|_| self.blob()).collect::<Result<_, _>>()?;
        let head = Head { target, size, form, bases };
        let streams = self.streams(blob)?;
        if form == Form::Raw {
            let [plain, tokens, blocks] = &streams;
            if plain.length != size {
                return Err(Invalid::Lengths("the plain bytes of a layer that is no gzip are the layer"));
            }
            if tokens.length + blocks.length > 0 {
                return Err(Invalid::Lengths("a layer that is no gzip has no tokens and no blocks"));
            }
        }
        Ok((head, streams))
    }

    fn blob(&mut self) -> Result<BaseHead, Invalid> {
        let length = self.number()?;
        if length > DIGEST_MAX {
            return Err(Invalid::Digest);
        }
        let text = std::str::from_utf8(self.take(length as usize)?).map_err(|_| Invalid::Digest)?;
        let digest: Digest = text.parse().map_err(|_| Invalid::Digest)?;
        let size = self.number()?;
        let code = self.byte()?;
        let form = Form::from_code(code).ok_or(Invalid::Form(code))?;
        Ok(BaseHead { digest, size, form })
    }

    fn streams(&mut self, blob: u64) -> Result<[StreamParts; 3], Invalid> {
        let mut numbers = [[0; 6]; 3];
        for number in numbers.as_flattened_mut() {
            *number = self.number()?;
            // What a file can hold; so sums of some of them can't overflow.
            if *number > i64::MAX.cast_unsigned() / 16 {
                return Err(Invalid::Lengths("one is beyond what files can hold"));
            }
        }
        let mut end = self.at as u64;
        let mut part = |length: u64, raw: u64| {
            let offset = end;
            end += length;
            Part { offset, length, raw }
        };
        let streams = numbers.map(|[length, ops, ops_raw, diff, diff_raw, data]| StreamParts {
            length,
            ops: part(ops, ops_raw),
            diff: part(diff, diff_raw),
            data: part(data, 0),
        });
        if end != blob {
            return Err(Invalid::Lengths("its parts do not fill it"));
        }
        for StreamParts { length, ops, diff, data } in &streams {
            if (ops.length == 0) != (ops.raw == 0) || (diff.length == 0) != (diff.raw == 0) {
                return Err(Invalid::Lengths("an empty part is no frame, and no other part is nothing"));
            }
            if (*length == 0) != (ops.raw == 0) || diff.raw > *length || (*length == 0 && data.length > 0) {
                return Err(Invalid::Lengths("the parts of a stream can't give its length"));
            }
        }
        Ok(streams)
    }

    fn number(&mut self) -> Result<u64, Invalid> {
        let mut partial = Partial::default();
        loop {
            match partial.take(self.byte()?) {
                Step::More(more) => partial = more,
                Step::Done(value) => return Ok(value),
                Step::Bad => return Err(Invalid::Number),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Invalid> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Invalid> {
        let taken = self.bytes.get(self.at..self.at + count).ok_or(Invalid::ShortHead)?;
        self.at += count;
        Ok(taken)
    }
}
