//! Which member of a base each member of the new layer is made from.

use std::io;

use super::sketch::{self, FEATURES, sketch};
use super::tar::Member;
use crate::delta::layer::Layer;

/// Most members that are compared by sketch, on each side: sketching reads them.
const SKETCHES_MAX: usize = 50_000;

/// How many members with the same masked path, or the same feature, are looked at.
const LIKELY: usize = 16;

/// A base with its members.
pub(super) struct BaseMembers<'a> {
    pub layer: &'a Layer,
    pub members: Vec<Member>,
}

/// A member of a base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub base: usize,
    pub member: Member,
}

/// What a member of the new layer is made from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Twin {
    /// A member with the same path, or else that of `content`.
    pub head: Option<Place>,
    /// A member with the same or similar content.
    pub content: Option<Place>,
}

/// The members of all bases, found by different keys. Indexes count through all bases, best first.
struct Index<'a> {
    bases: &'a [BaseMembers<'a>],
    starts: Vec<usize>,
    content: Vec<(u64, u32)>,
    path: Vec<(u64, u32)>,
    /// By masked path, then by size.
    masked: Vec<(u64, u64, u32)>,
}

/// Finds a twin for each of `members` of `new`.
pub(super) fn twins(new: &Layer, members: &[Member], bases: &[BaseMembers<'_>]) -> io::Result<Vec<Twin>> {
    let index = Index::new(bases);
    let mut twins = vec![Twin::default(); members.len()];
    let mut claimed = vec![false; index.count()];
    let mut lonely = Vec::new();
    let mut last = None;
    for (at, member) in members.iter().enumerate() {
        let path = index.by_path(member);
        let content = if member.size == 0 {
            None
        } else if let Some(same) = index.by_content(member, path, last) {
            last = Some(same);
            Some(same)
        } else {
            path.filter(|id| index.member(*id).size > 0).or_else(|| index.by_masked(member))
        };
        if let Some(id) = content.or(path) {
            claimed[id as usize] = true;
        }
        let head = path.or(content).or_else(|| index.by_masked(member));
        twins[at] = Twin { head: head.map(|id| index.place(id)), content: content.map(|id| index.place(id)) };
        if content.is_none() && member.size >= sketch::LEAST && lonely.len() < SKETCHES_MAX {
            lonely.push(at);
        }
    }
    if !lonely.is_empty() {
        let features = Features::new(&index, &claimed)?;
        let mut buffer = Vec::new();
        for at in lonely {
            let member = &members[at];
            let sketch = sketch(&new.plain, member.content, member.size, &mut buffer)?;
            if let Some(id) = features.nearest(&index, member, &sketch) {
                let place = index.place(id);
                twins[at] = Twin { head: twins[at].head.or(Some(place)), content: Some(place) };
            }
        }
    }
    Ok(twins)
}

impl<'a> Index<'a> {
    fn new(bases: &'a [BaseMembers<'a>]) -> Self {
        let mut starts = vec![0];
        for base in bases {
            starts.push(starts.last().copied().unwrap_or(0) + base.members.len());
        }
        let all = || bases.iter().flat_map(|base| &base.members).zip(0_u32..);
        let mut content: Vec<_> = all()
            .filter(|(member, _)| member.size > 0)
            .map(|(member, id)| (member.hash as u64, id))
            .collect();
        let mut path: Vec<_> = all().map(|(member, id)| (member.path, id)).collect();
        let mut masked: Vec<_> = all().map(|(member, id)| (member.masked, member.size, id)).collect();
        content.sort_unstable();
        path.sort_unstable();
        masked.sort_unstable();
        Self { bases, starts, content, path, masked }
    }

    fn count(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn place(&self, id: u32) -> Place {
        let id = id as usize;
        let base = self.starts.partition_point(|start| *start <= id) - 1;
        Place { base, member: self.bases[base].members[id - self.starts[base]] }
    }

    fn member(&self, id: u32) -> Member {
        self.place(id).member
    }

    /// The member with the same path in the best base that has it.
    fn by_path(&self, member: &Member) -> Option<u32> {
        let from = self.path.partition_point(|(path, _)| *path < member.path);
        self.path.get(from).filter(|(path, _)| *path == member.path).map(|(_, id)| *id)
    }

    /// A member with the same content: the one with the same path, or the one that follows the last one taken, or the
    /// first.
    fn by_content(&self, member: &Member, path: Option<u32>, last: Option<u32>) -> Option<u32> {
        let same = |id: &u32| {
            let other = self.member(*id);
            other.hash == member.hash && other.size == member.size
        };
        if let Some(id) = path.filter(same) {
            return Some(id);
        }
        let key = member.hash as u64;
        let from = self.content.partition_point(|(hash, _)| *hash < key);
        let first = self.content.get(from).filter(|(hash, id)| *hash == key && same(id))?.1;
        let next = last.map(|id| id + 1).filter(|id| (*id as usize) < self.count());
        next.filter(same).or(Some(first))
    }

    /// The member with the same masked path whose size is nearest.
    fn by_masked(&self, member: &Member) -> Option<u32> {
        let middle =
            self.masked.partition_point(|(masked, size, _)| (*masked, *size) < (member.masked, member.size));
        self.masked[middle.saturating_sub(LIKELY)..self.masked.len().min(middle + LIKELY)]
            .iter()
            .filter(|(masked, size, _)| *masked == member.masked && (*size > 0 || member.size == 0))
            .min_by_key(|(_, size, id)| (size.abs_diff(member.size), *id))
            .map(|(_, _, id)| *id)
    }
}

/// Sketches of the base members that nothing is made from yet.
struct Features {
    features: Vec<(u64, u32)>,
}

impl Features {
    fn new(index: &Index<'_>, claimed: &[bool]) -> io::Result<Self> {
        let mut features = Vec::new();
        let mut buffer = Vec::new();
        let free = (0_u32..).zip(claimed).filter(|(_, claimed)| !**claimed);
        let free = free.map(|(id, _)| (id, index.place(id)));
        for (id, place) in free.filter(|(_, place)| place.member.size >= sketch::LEAST).take(SKETCHES_MAX) {
            let plain = &index.bases[place.base].layer.plain;
            for feature in sketch(plain, place.member.content, place.member.size, &mut buffer)? {
                if feature != u64::MAX {
                    features.push((feature, id));
                }
            }
        }
        features.sort_unstable();
        Ok(Self { features })
    }

    /// The member that shares the most features; of several, the one nearest in size.
    fn nearest(&self, index: &Index<'_>, member: &Member, sketch: &[u64; FEATURES]) -> Option<u32> {
        let mut votes: Vec<(u32, u32)> = Vec::new();
        for feature in sketch {
            let from = self.features.partition_point(|(other, _)| other < feature);
            for (_, id) in self.features[from..].iter().take(LIKELY).take_while(|(other, _)| other == feature)
            {
                match votes.iter_mut().find(|(other, _)| other == id) {
                    Some((_, count)) => *count += 1,
                    None => votes.push((*id, 1)),
                }
            }
        }
        let nearest = votes
            .into_iter()
            .min_by_key(|(id, count)| (u32::MAX - count, index.member(*id).size.abs_diff(member.size), *id));
        nearest.map(|(id, _)| id)
    }
}
