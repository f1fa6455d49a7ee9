//! Jobs on several threads within a budget of memory, their results in order.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is done, and what is waiting.
struct State<R> {
    /// The next job to be taken.
    next: usize,
    /// Bytes of memory that jobs and their waiting results take.
    used: u64,
    /// Results that are not taken yet, each with the memory that it gives back.
    done: Vec<Option<(io::Result<R>, u64)>>,
    /// Set when no further job is to be taken.
    stop: bool,
}

struct Pool<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

impl<R> Pool<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the others however a thread ends, so that nobody waits for what never comes.
struct StopOnPanic<'a, R>(&'a Pool<R>);

impl<R> Drop for StopOnPanic<'_, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().stop = true;
            self.0.changed.notify_all();
        }
    }
}

/// Runs `run` for each of `jobs` on `threads` threads, and gives each result to `take` in the order of the jobs.
///
/// `cost` says how many bytes of memory a job takes at most. Jobs are started in order, each when all that run and all
/// results that wait fit into `memory` with it, or when there are none: so a job that is too large runs alone.
pub(super) fn run_all<J, R>(
    jobs: &[J],
    memory: u64,
    threads: usize,
    cost: impl Fn(&J) -> u64 + Sync,
    run: impl Fn(&J) -> io::Result<R> + Sync,
    size: impl Fn(&R) -> u64 + Sync,
    mut take: impl FnMut(usize, R) -> io::Result<()>,
) -> io::Result<()>
where
    J: Sync,
    R: Send,
{
    let done = jobs.iter().map(|_| None).collect();
    let pool =
        Pool { state: Mutex::new(State { next: 0, used: 0, done, stop: false }), changed: Condvar::new() };
    let work = || {
        let _guard = StopOnPanic(&pool);
        loop {
            let mut state = pool.lock();
            let (index, bytes) = loop {
                if state.stop || state.next == jobs.len() {
                    return;
                }
                let bytes = cost(&jobs[state.next]);
                if state.used == 0 || state.used.saturating_add(bytes) <= memory {
                    break (state.next, bytes);
                }
                state = pool.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.next += 1;
            state.used += bytes;
            drop(state);
            let result = run(&jobs[index]);
            let kept = result.as_ref().map_or(0, &size).min(bytes);
            let mut state = pool.lock();
            state.used -= bytes - kept;
            state.done[index] = Some((result, kept));
            drop(state);
            pool.changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
        let outcome = (0..jobs.len()).try_for_each(|index| {
            let mut state = pool.lock();
            let (result, kept) = loop {
                if let Some(done) = state.done[index].take() {
                    break done;
                }
                if state.stop {
                    return Err(io::Error::other("a thread that makes a patch ended early"));
                }
                state = pool.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            take(index, result?)?;
            pool.lock().used -= kept;
            pool.changed.notify_all();
            Ok(())
        });
        pool.lock().stop = true;
        pool.changed.notify_all();
        outcome
    })
}
