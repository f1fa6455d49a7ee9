//! Rebuilding a layer from its patch and its bases.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::sequence::Sequence;
use super::{Invalid, Patch, RebuildError};
use crate::delta::gzip;
use crate::delta::layer::{Form, Layer};
use crate::delta::scratch::Stream;

/// How much of a layer that is no gzip is given at a time, in bytes.
const BUFFER: usize = 256 * 1024;

/// Writes the target of `patch` to `out`: never more than the recorded size, and exactly that unless there is an error.
///
/// `bases` are the layers that the patch's head names, in its order; those of one that can't be had end the rebuilding.
/// The caller flushes `out` and compares the digest of what it got.
///
/// Holds up to 300 MiB while it works: a frame of each stream, the prefix of one, and the windows of the other parts.
///
/// # Errors
/// [`RebuildError`], which tells apart whose fault it is. The error of `out` comes back as it is.
pub fn rebuild(patch: &Patch, bases: &[Arc<Layer>], out: &mut dyn Write) -> Result<(), RebuildError> {
    check_bases(patch, bases)?;
    let sequence = |index: usize, name, stream: fn(&Layer) -> &Stream| {
        let bases = bases.iter().map(move |base| stream(base));
        Sequence::new(name, &patch.blob, patch.streams[index], bases)
    };
    let mut plain = sequence(0, "plain bytes", |base| &base.plain);
    let mut tokens = sequence(1, "tokens", |base| &base.tokens);
    let mut blocks = sequence(2, "blocks", |base| &base.blocks);
    match patch.head.form {
        Form::Raw => give(&mut plain, out)?,
        Form::Gzip => join(patch.head.size, [&mut plain, &mut tokens, &mut blocks], out)?,
    }
    // The readers do so at their ends; this is for streams that were not read up to there, such as empty ones.
    plain.finish()?;
    tokens.finish()?;
    blocks.finish()
}

/// Compares the bases with what the patch says of them.
fn check_bases(patch: &Patch, bases: &[Arc<Layer>]) -> Result<(), RebuildError> {
    for (index, named) in patch.head.bases.iter().enumerate() {
        let what = match bases.get(index) {
            None => "it is not there",
            Some(base) if base.form != named.form => "it was taken apart in another way",
            Some(base) if base.size != named.size => "it has another size",
            Some(_) => continue,
        };
        return Err(RebuildError::Base { digest: named.digest.clone(), what });
    }
    if bases.len() > patch.head.bases.len() {
        return Err(Invalid::Bases(bases.len() as u64).into());
    }
    Ok(())
}

/// Writes the plain bytes as they are; the head says that they have the layer's size.
fn give(plain: &mut Sequence<'_>, out: &mut dyn Write) -> Result<(), RebuildError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = plain.fill(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..count]).map_err(RebuildError::Out)?;
    }
}

/// Joins the three streams to a gzip stream of `size` bytes.
fn join(size: u64, streams: [&mut Sequence<'_>; 3], out: &mut dyn Write) -> Result<(), RebuildError> {
    let fault = Cell::new(None);
    let [plain, tokens, blocks] = streams.map(|sequence| Tap { sequence, fault: &fault });
    let [mut plain, mut tokens, mut blocks] = [plain, tokens, blocks];
    let mut capped = Capped { out, size, left: size, fault: &fault };
    let joined = gzip::join(&mut plain, &mut tokens, &mut blocks, &mut capped);
    let left = capped.left;
    if let Some(fault) = fault.take() {
        return Err(fault);
    }
    joined.map_err(Invalid::Join)?;
    if left > 0 {
        return Err(Invalid::Size(size).into());
    }
    Ok(())
}

/// Where a reader or writer leaves what went wrong: the join knows only of I/O errors.
type Fault = Cell<Option<RebuildError>>;

/// A stream as the join reads it.
struct Tap<'a, 'b> {
    sequence: &'a mut Sequence<'b>,
    fault: &'a Fault,
}

impl Read for Tap<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.sequence.fill(out).map_err(|error| {
            self.fault.set(Some(error));
            io::Error::other("see the fault")
        })
    }
}

/// The caller's writer, which gets no more than the layer's size.
struct Capped<'a> {
    out: &'a mut dyn Write,
    size: u64,
    left: u64,
    fault: &'a Fault,
}

impl Capped<'_> {
    fn fail(&self, error: RebuildError) -> io::Error {
        self.fault.set(Some(error));
        io::Error::other("see the fault")
    }
}

impl Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(self.fail(Invalid::Size(self.size).into()));
        }
        match self.out.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(self.fail(RebuildError::Out(io::ErrorKind::WriteZero.into()))),
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.fail(RebuildError::Out(error))),
        }
    }

    /// The caller flushes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
