//! Making patches: finding out what a new layer has of old ones.
//!
//! The plain bytes are followed along the tar: what is unchanged is copied, wherever it stands in a base; executables are
//! compared by bytes, addresses apart; all else is packed by zstd behind the base content that it resembles. Tokens and
//! blocks are compared, in the same way as executables, to those of the base's plain bytes that the new ones come from. Only finding is done here: what is
//! found is told by the operations of [`super::patch`], so this may get better without a new format.
//!
//! The same inputs and effort give the same bytes; threads and memory only decide how much is done at a time.

mod chunks;
mod differ;
mod fingerprint;
mod follow;
mod frame;
mod job;
mod plain;
mod pool;
mod sketch;
mod tar;
#[cfg(test)]
mod tests;
mod twins;

use std::io::{self, Write};

pub use fingerprint::{Fingerprint, fingerprint};

use super::layer::Layer;
use super::patch::{self, BaseHead, Head, StreamPatch};
use super::scratch::{Scratch, Stream};
use crate::oci::Digest;
use follow::Which;
use job::Job;
use twins::BaseMembers;

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// What pays: zstd level 12, executables compared by bytes.
    Auto,
    /// All that may help: level 19 too, every changed file compared by bytes too; several times slower.
    Max,
}

/// A base layer.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// Its digest.
    pub digest: &'a Digest,
    /// Its streams.
    pub layer: &'a Layer,
}

/// How to make a patch.
pub struct Options<'a> {
    /// How hard to try.
    pub effort: Effort,
    /// Most memory to take, in bytes; not less than [`MEMORY_MIN`] is taken.
    pub memory: u64,
    /// How many threads work.
    pub threads: usize,
    /// Where the patch and what it consists of go.
    pub scratch: &'a Scratch,
    /// Is told how many more plain bytes are done; in all, the length of the plain bytes.
    pub advance: &'a (dyn Fn(u64) + Sync),
}

/// The least memory that a patch is made in, in bytes.
pub const MEMORY_MIN: u64 = 256 << 20;

/// What is set aside for small things, and for what the system's allocator keeps of the tables that jobs are planned by.
const RESERVE: u64 = 64 << 20;

/// Most members that are told apart in all bases together.
///
/// Planning has a table entry of 137 bytes for each, 55 MB in all, and for each of the new layer's
/// [`MEMBERS_MAX`](tar::MEMBERS_MAX) members at most 848 bytes, 85 MB in all. No job runs meanwhile, so these 140 MB are within
/// [`MEMORY_MIN`]. What is left of them then are the steps of the jobs, which are taken off the memory that jobs have.
const BASE_MEMBERS_MAX: usize = 400_000;

/// Makes the patch that gives the layer `target`, taken apart as `new`, from `bases`, the likeliest first.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for no base or more than [`patch::BASES_MAX`], else what reading and writing working files
/// says.
pub fn make(target: &Digest, new: &Layer, bases: &[Base<'_>], options: &Options<'_>) -> io::Result<Stream> {
    if bases.is_empty() || bases.len() > patch::BASES_MAX {
        let most = patch::BASES_MAX;
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a patch has 1 to {most} bases, not {}", bases.len()),
        ));
    }
    let head = Head {
        target: target.clone(),
        size: new.size,
        form: new.form,
        bases: bases
            .iter()
            .map(|base| BaseHead {
                digest: base.digest.clone(),
                size: base.layer.size,
                form: base.layer.form,
            })
            .collect(),
    };
    let max = options.effort == Effort::Max;
    let layers: Vec<&Layer> = bases.iter().map(|base| base.layer).collect();
    let tasks = plan(new, &layers, options)?;

    let scratch = options.scratch;
    let mut patches = [StreamPatch::new(scratch)?, StreamPatch::new(scratch)?, StreamPatch::new(scratch)?];
    let planned: u64 = tasks.iter().map(|task| task.job.size()).sum();
    let memory = (options.memory.max(MEMORY_MIN) - RESERVE).saturating_sub(planned);
    pool::run_all(
        &tasks,
        memory,
        options.threads,
        |task| task.job.cost(max),
        |task| task.job.run(new, &layers, max),
        frame::Part::size,
        |index, part| {
            let task = &tasks[index];
            part.write(&mut patches[task.stream])?;
            (options.advance)(task.plain);
            Ok(())
        },
    )?;
    drop(tasks);

    let [plain, tokens, blocks] = patches;
    let streams = [plain.finish()?, tokens.finish()?, blocks.finish()?];
    let mut out = scratch.file()?;
    patch::write(&mut out, &head, streams)?;
    out.flush()?;
    out.finish()
}

/// A job and what it is for.
struct Task {
    job: Job,
    /// Plain bytes, tokens, blocks.
    stream: usize,
    /// How many plain bytes are told as done with it.
    plain: u64,
}

/// Plans all jobs: those of plain bytes, then of tokens, then of blocks.
fn plan(new: &Layer, bases: &[&Layer], options: &Options<'_>) -> io::Result<Vec<Task>> {
    let layers: Vec<&Layer> = std::iter::once(new).chain(bases.iter().copied()).collect();
    let base_members = (BASE_MEMBERS_MAX / bases.len().max(1)).min(tar::MEMBERS_MAX);
    let most = |index| if index == 0 { tar::MEMBERS_MAX } else { base_members };
    let lists: Vec<_> = layers.iter().enumerate().map(|(index, layer)| (*layer, most(index))).collect();
    let mut scans = Vec::new();
    let scan = |(layer, most): &(&Layer, usize)| tar::scan(&layer.plain, *most);
    pool::run_all(
        &lists,
        u64::MAX,
        options.threads,
        |_| 0,
        scan,
        |_| 0,
        |_, members| {
            scans.push(members);
            Ok(())
        },
    )?;
    let members = scans.remove(0);
    let bases_members: Vec<_> =
        bases.iter().zip(scans).map(|(layer, members)| BaseMembers { layer, members }).collect();
    let plain = plain::plan(new, &members, &bases_members, options.effort == Effort::Max)?;
    drop((members, bases_members));

    let mut tasks = Vec::new();
    // Where there are tokens, plain bytes count half when they are done and half when their tokens are.
    let with_tokens = !new.tokens.is_empty();
    let mut left = new.plain.len();
    let links = plain.links;
    for group in plain.groups {
        let length: u64 = group.steps.iter().map(plain::Step::length).sum();
        let count = if with_tokens { length / 2 } else { length };
        left -= count;
        tasks.push(Task { job: Job::Plain(group), stream: 0, plain: count });
    }
    for (stream, which) in [(1, Which::Tokens), (2, Which::Blocks)] {
        for stretch in follow::plan(which, new, bases, &links) {
            let count = if stream == 1 { left.min(stretch.plain.div_ceil(2)) } else { 0 };
            left -= count;
            tasks.push(Task { job: Job::Follow(stretch), stream, plain: count });
        }
    }
    if let Some(task) = tasks.last_mut() {
        task.plain += left;
    }
    Ok(tasks)
}
