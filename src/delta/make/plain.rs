//! The plan for the plain bytes: what is copied, what is made from what.

use std::io;

use super::chunks::{Chunk, average_log, cut, same};
use super::tar::Member;
use super::twins::{BaseMembers, Place, Twin, twins};
use crate::delta::layer::Layer;
use crate::delta::patch::Segment;

/// New bytes that go into one frame. Frames of this size still share enough, and zstd's tables hold what is before them.
pub(super) const FRAME: u64 = 8 << 20;

/// Largest content that is taken as a whole; larger ones are cut.
pub(super) const WHOLE_MAX: u64 = 24 << 20;

/// Most bytes of base content in the prefix of a frame.
pub(super) const PREFIX: u64 = 40 << 20;

/// Most bytes of heads that one group describes by difference; they are held in memory.
const HEADS: u64 = 4 << 20;

/// The parts that large content is cut into.
const PART: u64 = 4 << 20;

/// How much base content before and behind the likely range goes into a prefix.
const MARGIN: u64 = 64 << 10;

/// Likely ranges that lie so near are one.
const NEAR: u64 = 256 << 10;

/// A step that gives the next plain bytes.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The base's bytes.
    Copy(Segment),
    /// The bytes of a head by their difference to a base's, from `at` on.
    Head { at: u64, old: Segment },
    /// Content.
    Content { at: u64, length: u64, twin: Option<Segment>, executable: bool },
}

impl Step {
    /// Returns how many plain bytes it gives.
    pub fn length(&self) -> u64 {
        match self {
            Self::Copy(old) | Self::Head { old, .. } => old.length,
            Self::Content { length, .. } => *length,
        }
    }
}

/// Steps that share a frame.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub steps: Vec<Step>,
    /// Bytes of content, all of which may go into the frame.
    pub data: u64,
    /// Bytes of twins.
    pub prefix: u64,
    /// Bytes of heads.
    pub heads: u64,
    /// The largest twin of an executable.
    pub executable: u64,
}

/// Which range of a base's plain bytes a range of the new ones comes from or resembles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub new: u64,
    pub length: u64,
    pub old: Segment,
}

/// The plan for the plain bytes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub groups: Vec<Group>,
    /// Ascending in `new`.
    pub links: Vec<Link>,
    group: Group,
    /// How many plain bytes are planned.
    done: u64,
}

/// Plans how to make the plain bytes of `new`, whose members are `members`, from those of `bases`.
pub(super) fn plan(
    new: &Layer,
    members: &[Member],
    bases: &[BaseMembers<'_>],
    max: bool,
) -> io::Result<Plan> {
    let mut plan = Plan::default();
    let mut near: Option<Place> = None;
    for (member, twin) in members.iter().zip(twins(new, members, bases)?) {
        near = twin.head.or(near);
        plan.head(member, near);
        plan.content(new, member, &twin, bases, max)?;
    }
    plan.close();
    Ok(plan)
}

/// Returns a segment of a base that covers `length` bytes at `offset`.
fn segment(base: usize, offset: u64, length: u64) -> Segment {
    Segment { base, offset, length }
}

impl Plan {
    fn head(&mut self, member: &Member, near: Option<Place>) {
        let length = member.content - member.start;
        let Some(Place { base, member: old }) = near.filter(|near| near.member.path != 0 && length > 0)
        else {
            return self.push(Step::Content { at: member.start, length, twin: None, executable: false });
        };
        let old_length = old.content - old.start;
        if old_length == length && old.head == member.head {
            return self.push(Step::Copy(segment(base, old.start, length)));
        }
        // What is alike stands at the end: the header itself.
        let alike = length.min(old_length);
        let other = length - alike;
        self.push(Step::Content { at: member.start, length: other, twin: None, executable: false });
        self.push(Step::Head { at: member.start + other, old: segment(base, old.content - alike, alike) });
    }

    fn content(
        &mut self,
        new: &Layer,
        member: &Member,
        twin: &Twin,
        bases: &[BaseMembers<'_>],
        max: bool,
    ) -> io::Result<()> {
        let &Member { content: at, size: length, .. } = member;
        let Some(Place { base, member: old }) = twin.content else {
            let mut at = at;
            while at < member.end() {
                let part = if length > WHOLE_MAX { PART.min(member.end() - at) } else { length };
                self.push(Step::Content { at, length: part, twin: None, executable: false });
                at += part;
            }
            return Ok(());
        };
        if old.hash == member.hash && old.size == length {
            self.push(Step::Copy(segment(base, old.content, length)));
        } else if length > WHOLE_MAX || old.size > WHOLE_MAX {
            let old_plain = Place { base, member: old };
            self.large(new, at, length, &old_plain, bases)?;
        } else {
            let executable = max || (member.executable && old.executable);
            let twin = Some(segment(base, old.content, old.size));
            self.push(Step::Content { at, length, twin, executable });
        }
        Ok(())
    }

    /// Plans content that is too large to be taken as a whole: equal chunks are copied, what is between them is made from
    /// what is between them in the base.
    fn large(
        &mut self,
        new: &Layer,
        at: u64,
        length: u64,
        old: &Place,
        bases: &[BaseMembers<'_>],
    ) -> io::Result<()> {
        let &Place { base, member: Member { content: old_at, size: old_length, .. } } = old;
        let average = average_log(length.max(old_length));
        let mut known: Vec<Chunk> = Vec::new();
        cut(&bases[base].layer.plain, old_at, old_length, average, |chunk| known.push(chunk))?;
        known.sort_unstable();
        let mut between = Between { base, start: at, from: 0, offset: 0, length, old_at, old_length };
        let mut cursor = at;
        cut(&new.plain, at, length, average, |chunk| {
            cursor = chunk.offset + u64::from(chunk.length);
            let Some(found) = same(&known, &chunk, old_at + between.from) else { return };
            self.between(&mut between, chunk.offset, Some(found.offset));
            self.push(Step::Copy(segment(base, found.offset, u64::from(chunk.length))));
            between.offset = cursor - at;
            between.from = found.offset + u64::from(found.length) - old_at;
        })?;
        self.between(&mut between, cursor, None);
        Ok(())
    }

    /// Plans what is between two copied chunks, up to `end`; the second one is copied from `next`.
    fn between(&mut self, between: &mut Between, end: u64, next: Option<u64>) {
        let mut at = between.start + between.offset;
        let length = end - at;
        while at < end {
            let part = PART.min(end - at);
            let twin = between.twin(at - between.start, part, length, next);
            self.push(Step::Content { at, length: part, twin: Some(twin), executable: false });
            at += part;
        }
    }

    /// Adds a step, to the group before if it fits.
    fn push(&mut self, step: Step) {
        let length = step.length();
        if length == 0 {
            return;
        }
        let (mut data, mut prefix, mut heads) = (0, 0, 0);
        match &step {
            Step::Copy(old) => {
                self.link(length, *old);
                if let Some(Step::Copy(last)) = self.group.steps.last_mut()
                    && last.base == old.base
                    && last.offset + last.length == old.offset
                {
                    last.length += length;
                    self.done += length;
                    return;
                }
            }
            Step::Head { old, .. } => {
                heads = length;
                self.link(length, *old);
            }
            Step::Content { twin, .. } => {
                data = length;
                prefix = twin.map_or(0, |twin| twin.length);
                if let Some(twin) = twin {
                    self.link(length, *twin);
                }
            }
        }
        let group = &self.group;
        let full = group.data > 0 && group.data + data > FRAME || group.prefix + prefix > PREFIX;
        if full || group.heads + heads > HEADS {
            self.close();
        }
        if let Step::Content { twin: Some(twin), executable: true, .. } = &step {
            self.group.executable = self.group.executable.max(twin.length);
        }
        self.group.data += data;
        self.group.prefix += prefix;
        self.group.heads += heads;
        self.group.steps.push(step);
        self.done += length;
    }

    /// Notes where the next `length` bytes come from.
    fn link(&mut self, length: u64, old: Segment) {
        if let Some(last) = self.links.last_mut() {
            let end = last.old.offset + last.old.length;
            let near = last.old.base == old.base
                && old.offset + NEAR >= end
                && old.offset <= end + NEAR
                && self.done <= last.new + last.length + NEAR;
            if near {
                let start = last.old.offset.min(old.offset);
                last.length = self.done + length - last.new;
                last.old.length = end.max(old.offset + old.length) - start;
                last.old.offset = start;
                return;
            }
        }
        self.links.push(Link { new: self.done, length, old });
    }

    fn close(&mut self) {
        if !self.group.steps.is_empty() {
            self.group.steps.shrink_to_fit();
            self.groups.push(std::mem::take(&mut self.group));
        }
    }
}

/// Large content that is being planned.
struct Between {
    base: usize,
    /// Where it starts.
    start: u64,
    /// Where the last copied chunk ends in the base's content.
    from: u64,
    /// Where it ends in the new content.
    offset: u64,
    /// Length of the new content.
    length: u64,
    old_at: u64,
    old_length: u64,
}

impl Between {
    /// Returns the range of the base that `part` bytes at `at` of the content are likely to resemble; they are of `length`
    /// bytes between two copied chunks.
    fn twin(&self, at: u64, part: u64, length: u64, next: Option<u64>) -> Segment {
        let to = next.map_or(self.old_length, |next| next - self.old_at);
        let ordered = to >= self.from;
        let gap = to.saturating_sub(self.from);
        let (from, to) = if ordered && gap <= PART * 2 {
            (self.from, to)
        } else {
            // By position: between the chunks if they are in order, else in the whole.
            let (from, gap, at, length) = if ordered {
                (self.from, gap, at - self.offset, length)
            } else {
                (0, self.old_length, at, self.length)
            };
            let middle = from + (u128::from(at) * u128::from(gap) / u128::from(length.max(1))) as u64;
            (middle.saturating_sub(PART), middle + part + PART)
        };
        let from = from.saturating_sub(MARGIN);
        let to = to.saturating_add(MARGIN).min(self.old_length);
        let from = from.min(to);
        Segment { base: self.base, offset: self.old_at + from, length: to - from }
    }
}
