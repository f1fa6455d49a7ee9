//! The work on one group: reading, comparing, packing.

use std::io;
use std::ops::Range;

use super::differ::{self, Piece, differ};
use super::follow::Stretch;
use super::frame::{self, Maker, Part};
use super::plain::{Group, Step};
use crate::delta::layer::Layer;
use crate::delta::patch::Segment;

/// Part of a stream that is worked on by itself.
#[derive(Debug)]
pub(super) enum Job {
    Plain(Group),
    Follow(Stretch),
}

impl Job {
    /// Returns how many bytes of memory it takes before it is done.
    pub fn size(&self) -> u64 {
        let inside = match self {
            Self::Plain(group) => group.steps.capacity() * size_of::<Step>(),
            Self::Follow(stretch) => stretch.prefix.capacity() * size_of::<Segment>(),
        };
        (size_of::<Self>() + inside) as u64
    }

    /// Returns the memory in bytes that it takes at most while it is done.
    pub fn cost(&self, max: bool) -> u64 {
        match self {
            Self::Plain(group) => {
                let buffer = group.prefix + group.data;
                let differ = if group.executable > 0 { differ::memory(group.executable) } else { 0 };
                let steps = group.steps.len() as u64 * 64;
                let work = (group.data + differ).max(frame::memory(group.prefix, group.data, max));
                buffer + 2 * group.heads + steps + work + group.data
            }
            Self::Follow(stretch) => {
                let prefix: u64 = stretch.prefix.iter().map(|range| range.length).sum();
                let differ = stretch.length + differ::memory(prefix);
                let work = differ.max(frame::memory(prefix, stretch.length, max));
                prefix + 2 * stretch.length + work
            }
        }
    }

    /// Does it.
    pub fn run(&self, new: &Layer, bases: &[&Layer], max: bool) -> io::Result<Part> {
        match self {
            Self::Plain(group) => plain(group, new, bases, max),
            Self::Follow(stretch) => follow(stretch, new, bases, max),
        }
    }
}

fn plain(group: &Group, new: &Layer, bases: &[&Layer], max: bool) -> io::Result<Part> {
    let twins = group.steps.iter().filter_map(|step| match step {
        Step::Content { twin, .. } => *twin,
        _ => None,
    });
    let mut maker = Maker::new(twins, group.data, |base| &bases[base].plain)?;
    let (mut content, mut old_content) = (Vec::new(), Vec::new());
    for step in &group.steps {
        match step {
            Step::Copy(old) => maker.copy(*old),
            Step::Head { at, old } => {
                content.resize(old.length as usize, 0);
                old_content.resize(old.length as usize, 0);
                new.plain.read_at(&mut content, *at)?;
                bases[old.base].plain.read_at(&mut old_content, old.offset)?;
                maker.add(*old, &content, &old_content);
            }
            Step::Content { at, length, twin: Some(twin), executable: true } => {
                content.resize(*length as usize, 0);
                new.plain.read_at(&mut content, *at)?;
                let range = maker.find(twin);
                compare(&mut maker, &content, range);
            }
            Step::Content { at, length, .. } => maker.read(&new.plain, *at, *length)?,
        }
    }
    drop((content, old_content));
    maker.finish(max)
}

/// Describes content by what stands at `range` in the base content.
fn compare(maker: &mut Maker, content: &[u8], range: Range<usize>) {
    let mut pieces = Vec::new();
    differ(content, &maker.base()[range.clone()], |piece| pieces.push(piece));
    let mut at = 0;
    for piece in pieces {
        let length = piece.length();
        let new = &content[at..at + length];
        match piece {
            Piece::Copy { offset, .. } => maker.copy_found(range.start + offset, length),
            Piece::Add { offset, .. } => maker.add_found(range.start + offset, new),
            Piece::New { .. } => maker.data(new),
        }
        at += length;
    }
}

/// Tokens of changed content are often the same but for a distance or a length here and there, as addresses in code are, so
/// that the same method serves: it takes up to a third off what zstd alone makes of them.
fn follow(stretch: &Stretch, new: &Layer, bases: &[&Layer], max: bool) -> io::Result<Part> {
    let which = stretch.which;
    let mut content = vec![0; stretch.length as usize];
    which.stream(new).read_at(&mut content, stretch.at)?;
    let ranges = stretch.prefix.iter().copied();
    let mut maker = Maker::new(ranges, stretch.length, |base| which.stream(bases[base]))?;
    let all = 0..maker.base().len();
    compare(&mut maker, &content, all);
    drop(content);
    maker.finish(max)
}
