//! How much is asked of a host at a time, and how many bytes a second may flow.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many answers in a row, per place there is, win back one place after a 429: slow, since the limit that was hit
/// is usually counted over minutes.
const ANSWERS_PER_PLACE: f64 = 16.0;
/// How long after a cut further 429s are taken to belong to requests that were already on their way.
const CUT_PAUSE: Duration = Duration::from_secs(1);

/// The requests that may be waiting for an answer from one host at the same time; halved by a 429, slowly recovering.
///
/// A place is held from the request to the head of its answer, not while a body is read: a worker that reads a blob
/// from a host may at the same time need to write to it.
pub(super) struct Places {
    state: Mutex<State>,
    freed: Condvar,
    most: f64,
}

struct State {
    limit: f64,
    taken: usize,
    /// No request starts before this.
    not_before: Option<Instant>,
    last_cut: Option<Instant>,
}

/// A place that is held.
pub(super) struct Place<'a>(&'a Places);

impl Places {
    pub fn new(most: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a number of threads")]
        let most = most.max(1) as f64;
        Self {
            state: Mutex::new(State { limit: most, taken: 0, not_before: None, last_cut: None }),
            freed: Condvar::new(),
            most,
        }
    }

    /// Waits for a place.
    pub fn take(&self) -> Place<'_> {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let pause = state.not_before.and_then(|time| time.checked_duration_since(now));
            #[expect(clippy::cast_sign_loss, reason = "the limit is at least 1")]
            if state.taken < state.limit as usize {
                match pause.filter(|pause| !pause.is_zero()) {
                    None => {
                        state.taken += 1;
                        return Place(self);
                    }
                    Some(pause) => {
                        state =
                            self.freed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
                        continue;
                    }
                }
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes an answer that was no 429.
    pub fn answered(&self) {
        let mut state = lock(&self.state);
        if state.limit < self.most {
            state.limit = (state.limit + 1.0 / (ANSWERS_PER_PLACE * state.limit)).min(self.most);
            self.freed.notify_all();
        }
    }

    /// Notes a 429: halves the limit and lets nobody start before `wait` has passed.
    pub fn too_many(&self, wait: Duration) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.not_before = state.not_before.max(now.checked_add(wait));
        if state.last_cut.is_none_or(|cut| now.duration_since(cut) >= CUT_PAUSE) {
            state.limit = (state.limit / 2.0).max(1.0);
            state.last_cut = Some(now);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).taken -= 1;
        self.0.freed.notify_all();
    }
}

/// A token bucket over all readers and writers of a client.
pub(super) struct Rate {
    bytes_per_second: f64,
    /// The time up to which the allowance is used; in the past when there is some left.
    used_until: Mutex<Instant>,
}

/// How much allowance may pile up while nothing flows.
const BURST: Duration = Duration::from_millis(100);

impl Rate {
    pub fn new(bytes_per_second: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact beyond 2^53")]
        let bytes_per_second = bytes_per_second.max(1) as f64;
        Self { bytes_per_second, used_until: Mutex::new(Instant::now()) }
    }

    /// Returns the largest piece to move at once: a tenth of a second's worth, so that the flow is even.
    fn piece(&self) -> usize {
        #[expect(clippy::cast_sign_loss, reason = "the rate is positive")]
        let tenth = (self.bytes_per_second / 10.0) as usize;
        tenth.clamp(1, 64 * 1024)
    }

    /// Accounts for bytes that were moved and sleeps until they are paid for.
    fn pay(&self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "the size of a buffer")]
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let now = Instant::now();
        let until = {
            let mut used_until = lock(&self.used_until);
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            *used_until = (*used_until).max(earliest) + cost;
            *used_until
        };
        if let Some(wait) = until.checked_duration_since(now) {
            std::thread::sleep(wait);
        }
    }
}

/// Reads, through the rate limit where there is one.
pub(super) fn read_limited(
    rate: Option<&Arc<Rate>>,
    from: &mut dyn Read,
    into: &mut [u8],
) -> io::Result<usize> {
    let Some(rate) = rate else {
        return from.read(into);
    };
    let piece = rate.piece().min(into.len());
    let count = from.read(&mut into[..piece])?;
    rate.pay(count);
    Ok(count)
}

/// A reader under a rate limit.
pub(super) struct Limited<R> {
    pub inner: R,
    pub rate: Arc<Rate>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_limited(Some(&self.rate), &mut self.inner, into)
    }
}

/// Locks a mutex whose content is valid whatever a panicking thread was doing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_429_halves_the_places_once_and_answers_win_them_back() {
        let places = Places::new(8);
        let limit = || lock(&places.state).limit;
        places.too_many(Duration::ZERO);
        places.too_many(Duration::ZERO);
        assert!((limit() - 4.0).abs() < 0.01, "one burst of 429s is one cut: {}", limit());
        for _ in 0..20 {
            places.answered();
        }
        assert!(limit() < 5.0, "recovery is slow: {}", limit());
        for _ in 0..2000 {
            places.answered();
        }
        assert!((limit() - 8.0).abs() < 0.01);
    }

    #[test]
    fn places_are_never_more_than_the_limit_and_a_pause_holds_everybody() {
        let places = Places::new(2);
        let most = Mutex::new((0, 0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let place = places.take();
                        {
                            let mut most = lock(&most);
                            most.0 += 1;
                            most.1 = most.1.max(most.0);
                        }
                        std::thread::sleep(Duration::from_millis(1));
                        lock(&most).0 -= 1;
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(lock(&most).1, 2);
        let start = Instant::now();
        places.too_many(Duration::from_millis(80));
        drop(places.take());
        assert!(start.elapsed() >= Duration::from_millis(80));
    }

    #[test]
    fn the_rate_holds_over_several_readers() {
        let rate = Arc::new(Rate::new(400_000));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut limited = Limited { inner: io::repeat(1).take(60_000), rate: Arc::clone(&rate) };
                    io::copy(&mut limited, &mut io::sink()).unwrap();
                });
            }
        });
        // 120 kB at 400 kB/s are 300 ms, less what may burst.
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(3), "{took:?}");
    }
}
