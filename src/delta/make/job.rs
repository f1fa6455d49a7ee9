//! The work on one group: reading, comparing, packing.

use std::io;

use super::differ::{self, Piece, differ};
use super::follow::Stretch;
use super::frame::{self, Maker, Part};
use super::plain::{Group, Step};
use super::runs::{self, runs};
use crate::delta::layer::Layer;
use crate::delta::patch::Segment;

/// Shortest run of tokens or blocks that is copied; zstd tells shorter ones with fewer bytes.
const RUN: usize = 512;

/// Part of a stream that is worked on by itself.
#[derive(Debug)]
pub(super) enum Job {
    Plain(Group),
    Follow(Stretch),
}

impl Job {
    /// Returns the memory in bytes that it takes at most.
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
                let work =
                    (stretch.length + runs::memory(prefix)).max(frame::memory(prefix, stretch.length, max));
                prefix + stretch.length + work
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
                executable(&mut maker, &content, twin);
            }
            Step::Content { at, length, .. } => maker.read(&new.plain, *at, *length)?,
        }
    }
    drop((content, old_content));
    maker.finish(frame::PLAIN, max)
}

/// Describes an executable by its twin.
fn executable(maker: &mut Maker, content: &[u8], twin: &Segment) {
    let range = maker.find(twin);
    let mut pieces = Vec::new();
    differ(content, &maker.base()[range.clone()], |piece| pieces.push(piece));
    let part = |offset: usize, length: usize| Segment {
        base: twin.base,
        offset: twin.offset + offset as u64,
        length: length as u64,
    };
    let mut at = 0;
    for piece in pieces {
        match piece {
            Piece::Copy { offset, length } => {
                maker.copy(part(offset, length));
                at += length;
            }
            Piece::Add { offset, length } => {
                let start = range.start + offset;
                maker.add_found(part(offset, length), &content[at..at + length], start);
                at += length;
            }
            Piece::New { length } => {
                maker.data(&content[at..at + length]);
                at += length;
            }
        }
    }
}

fn follow(stretch: &Stretch, new: &Layer, bases: &[&Layer], max: bool) -> io::Result<Part> {
    let which = stretch.which;
    let mut content = vec![0; stretch.length as usize];
    which.stream(new).read_at(&mut content, stretch.at)?;
    let ranges = stretch.prefix.iter().copied();
    let mut maker = Maker::new(ranges, stretch.length, |base| which.stream(bases[base]))?;
    let mut at = 0;
    for run in runs(&content, maker.base(), RUN) {
        maker.data(&content[at..run.new]);
        maker.copy_found(run.old, run.length);
        at = run.new + run.length;
    }
    maker.data(&content[at..]);
    drop(content);
    maker.finish(frame::FOLLOW, max)
}
