//! Taking gzip streams apart and joining them: streams of real encoders, streams made bit by bit, and hostile ones.

mod encoders;
mod form;
mod hostile;
mod made;
mod refused;

use std::io::{self, Read, Write};

use barge::delta::gzip::{JoinError, SplitError, join, split};
use barge::delta::layer::Mark;

/// A stream taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
    plain: Vec<u8>,
    tokens: Vec<u8>,
    blocks: Vec<u8>,
}

/// Reads and writes a few bytes at a time.
struct Drops<T>(T, usize);

impl<T: Read> Read for Drops<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.1);
        self.0.read(&mut bytes[..count])
    }
}

impl<T: Write> Write for Drops<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(self.1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn apart_by(gzip: &[u8], drop: usize) -> Result<(Parts, Vec<Mark>), SplitError> {
    let (mut parts, mut marks) = (Parts::default(), Vec::new());
    split(
        &mut Drops(gzip, drop),
        &mut Drops(&mut parts.plain, drop),
        &mut Drops(&mut parts.tokens, drop),
        &mut Drops(&mut parts.blocks, drop),
        &mut |mark| marks.push(mark),
    )?;
    Ok((parts, marks))
}

/// Takes a stream apart.
fn apart(gzip: &[u8]) -> Result<Parts, SplitError> {
    Ok(apart_by(gzip, usize::MAX)?.0)
}

fn joined_by(parts: &Parts, drop: usize) -> Result<Vec<u8>, JoinError> {
    let mut out = Vec::new();
    join(
        &mut Drops(parts.plain.as_slice(), drop),
        &mut Drops(parts.tokens.as_slice(), drop),
        &mut Drops(parts.blocks.as_slice(), drop),
        &mut Drops(&mut out, drop),
    )?;
    Ok(out)
}

/// Joins parts.
fn joined(parts: &Parts) -> Result<Vec<u8>, JoinError> {
    joined_by(parts, usize::MAX)
}

/// Checks that a stream comes back, and returns its parts.
#[track_caller]
fn there_and_back(gzip: &[u8]) -> Parts {
    let parts = apart(gzip).unwrap();
    assert!(joined(&parts).unwrap() == gzip, "joined to something else");
    parts
}
