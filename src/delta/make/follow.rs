//! The plan for tokens and blocks: which base ranges belong to the same plain bytes.

use super::plain::Link;
use crate::delta::layer::{Layer, Mark};
use crate::delta::patch::Segment;
use crate::delta::scratch::Stream;

/// One of the two streams that go along with the plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Tokens,
    Blocks,
}

impl Which {
    pub fn stream(self, layer: &Layer) -> &Stream {
        match self {
            Self::Tokens => &layer.tokens,
            Self::Blocks => &layer.blocks,
        }
    }

    fn at(self, mark: &Mark) -> u64 {
        match self {
            Self::Tokens => mark.tokens,
            Self::Blocks => mark.blocks,
        }
    }
}

/// Bytes of tokens or blocks that make a group: enough that zstd's start does not count, and few enough that its tables
/// hold what is before them.
const GROUP: u64 = 8 << 20;

/// Most bytes of a group, where marks are far apart.
const GROUP_MAX: u64 = 16 << 20;

/// Most bytes of a group's prefix.
const PREFIX: u64 = 32 << 20;

/// How many plain bytes around a range have their tokens in the prefix: what an encoder looks back by is 32 KiB, and
/// blocks reach over some 64.
const MARGIN: u64 = 128 << 10;

/// A part of tokens or blocks that gets a frame.
#[derive(Debug)]
pub(super) struct Stretch {
    pub which: Which,
    pub at: u64,
    pub length: u64,
    /// Base ranges that are likely to have the same bytes, ascending by base and offset, apart from each other.
    pub prefix: Vec<Segment>,
    /// How many plain bytes go with it.
    pub plain: u64,
}

/// Plans one of the streams of `new`.
pub(super) fn plan(which: Which, new: &Layer, bases: &[&Layer], links: &[Link]) -> Vec<Stretch> {
    let end = Mark { plain: new.plain.len(), tokens: new.tokens.len(), blocks: new.blocks.len() };
    let mut stretches = Vec::new();
    let (mut at, mut plain) = (0, 0);
    let mut marks = new.marks.iter().chain([&end]).peekable();
    while let Some(mark) = marks.next() {
        let last = marks.peek().is_none();
        let to = which.at(mark);
        if to <= at || (to - at < GROUP && !last) {
            continue;
        }
        let prefix = prefix(which, plain, mark.plain, bases, links);
        let mut covers = mark.plain.saturating_sub(plain);
        while at < to {
            let length = GROUP_MAX.min(to - at);
            stretches.push(Stretch { which, at, length, prefix: prefix.clone(), plain: covers });
            covers = 0;
            at += length;
        }
        plain = mark.plain;
    }
    stretches
}

/// Returns the base ranges for the plain bytes `from..to`.
fn prefix(which: Which, from: u64, to: u64, bases: &[&Layer], links: &[Link]) -> Vec<Segment> {
    let first = links.partition_point(|link| link.new + link.length <= from);
    let mut ranges: Vec<(Segment, u64)> = Vec::new();
    for link in links[first..].iter().take_while(|link| link.new < to) {
        let (start, end) = (from.max(link.new), to.min(link.new + link.length));
        // Lengths differ if it is not a copy; then the place is known as exactly only.
        let slack = link.length.abs_diff(link.old.length);
        let old_end = link.old.offset + link.old.length;
        let old_start = (link.old.offset + (start - link.new)).saturating_sub(slack).max(link.old.offset);
        let old_stop = (link.old.offset + (end - link.new)).saturating_add(slack).min(old_end);
        let segment = map(which, bases[link.old.base], old_start.min(old_stop), old_stop);
        ranges.push((Segment { base: link.old.base, ..segment }, end - start));
    }
    let ranges = join(ranges);
    let total: u64 = ranges.iter().map(|(segment, _)| segment.length).sum();
    if total <= PREFIX {
        return ranges.into_iter().map(|(segment, _)| segment).collect();
    }
    // The ranges that most plain bytes come from.
    let mut ranges = ranges;
    ranges.sort_by_key(|(segment, weight)| (u64::MAX - weight, segment.base, segment.offset));
    let mut left = PREFIX;
    let mut kept = Vec::new();
    for (mut segment, _) in ranges {
        segment.length = segment.length.min(left);
        left -= segment.length;
        if segment.length > 0 {
            kept.push(segment);
        }
    }
    kept.sort_by_key(|segment| (segment.base, segment.offset));
    kept
}

/// Returns the range that belongs to the plain bytes `from..to` of a base, by its marks.
fn map(which: Which, base: &Layer, from: u64, to: u64) -> Segment {
    let before = base.marks.partition_point(|mark| mark.plain <= from.saturating_sub(MARGIN));
    let behind = base.marks.partition_point(|mark| mark.plain < to.saturating_add(MARGIN));
    let offset = if before == 0 { 0 } else { which.at(&base.marks[before - 1]) };
    let end = base.marks.get(behind).map_or(which.stream(base).len(), |mark| which.at(mark));
    Segment { base: 0, offset, length: end.saturating_sub(offset) }
}

/// Sorts ranges and joins those that touch; their weights add up.
pub(super) fn join(mut ranges: Vec<(Segment, u64)>) -> Vec<(Segment, u64)> {
    ranges.sort_by_key(|(segment, _)| (segment.base, segment.offset));
    let mut joined: Vec<(Segment, u64)> = Vec::with_capacity(ranges.len());
    for (segment, weight) in ranges.into_iter().filter(|(segment, _)| segment.length > 0) {
        match joined.last_mut() {
            Some((last, sum)) if last.base == segment.base && segment.offset <= last.offset + last.length => {
                let end = (last.offset + last.length).max(segment.offset + segment.length);
                last.length = end - last.offset;
                *sum += weight;
            }
            _ => joined.push((segment, weight)),
        }
    }
    joined
}
