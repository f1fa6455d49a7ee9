//! Progress for people: bars on a terminal, a line now and then elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use barge::oci::Digest;
use barge::transfer::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use super::printer::{Printer, bytes};

/// Blobs from this size on get a bar of their own, in bytes: smaller ones are gone before they are read.
const LARGE: u64 = 32 * 1024 * 1024;
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows progress on standard error.
pub struct Bars<'a> {
    printer: &'a Printer,
    verb: &'static str,
    shown: bool,
    total: ProgressBar,
    state: Mutex<State>,
}

struct State {
    large: HashMap<Digest, ProgressBar>,
    line_at: Instant,
    began: Instant,
    blobs: usize,
    finished: usize,
    bytes: u64,
    moved: u64,
    kept: u64,
}

impl<'a> Bars<'a> {
    /// Makes bars for a verb, e.g. `packing`.
    pub fn new(printer: &'a Printer, verb: &'static str) -> Self {
        let now = Instant::now();
        let shown = Printer::is_terminal() && !printer.is_quiet();
        let total = if shown { printer.bars().add(ProgressBar::new(0)) } else { ProgressBar::hidden() };
        let style = "{prefix} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            total.set_style(style);
        }
        total.set_prefix(verb);
        Self {
            printer,
            verb,
            shown,
            total,
            state: Mutex::new(State {
                large: HashMap::new(),
                line_at: now + LINE_EVERY,
                began: now,
                blobs: 0,
                finished: 0,
                bytes: 0,
                moved: 0,
                kept: 0,
            }),
        }
    }

    /// Takes the bars away.
    pub fn clear(&self) {
        self.total.finish_and_clear();
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Prints a line where there is no terminal and the last line is a while ago.
    fn line(&self, state: &mut State) {
        if self.shown || self.printer.is_quiet() || Instant::now() < state.line_at {
            return;
        }
        state.line_at = Instant::now() + LINE_EVERY;
        let seconds = state.began.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "for people to read")]
        let rate = (state.moved as f64 / seconds) as u64;
        let left = state.bytes.saturating_sub(state.moved + state.kept);
        let eta = left.checked_div(rate).map_or(String::new(), |eta| format!(", about {eta} s left"));
        let text = format!(
            "{}: {} of {} blobs, {} of {}, {}/s{eta}",
            self.verb,
            state.finished,
            state.blobs,
            bytes(state.moved + state.kept),
            bytes(state.bytes),
            bytes(rate),
        );
        self.printer.note(&text);
    }
}

impl Progress for Bars<'_> {
    fn begin(&self, blobs: usize, bytes: u64, done_bytes: u64) {
        self.total.set_length(bytes);
        self.total.set_position(done_bytes);
        self.total.reset_eta();
        self.with(|state| {
            (state.blobs, state.bytes, state.kept) = (blobs, bytes, done_bytes);
            state.began = Instant::now();
        });
    }

    fn start(&self, digest: &Digest, size: u64) {
        if self.shown && size >= LARGE {
            let bar = self.printer.bars().insert_before(&self.total, ProgressBar::new(size));
            if let Ok(style) =
                ProgressStyle::with_template("  {prefix} {bar:30} {binary_bytes}/{binary_total_bytes}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(digest.short());
            self.with(|state| state.large.insert(digest.clone(), bar));
        }
    }

    fn advance(&self, digest: &Digest, bytes: u64) {
        self.total.inc(bytes);
        self.with(|state| {
            state.moved += bytes;
            if let Some(bar) = state.large.get(digest) {
                bar.inc(bytes);
            }
            self.line(state);
        });
    }

    fn restart(&self, digest: &Digest, bytes: u64) {
        self.total.dec(bytes);
        self.with(|state| {
            state.moved = state.moved.saturating_sub(bytes);
            if let Some(bar) = state.large.get(digest) {
                bar.set_position(0);
            }
        });
    }

    fn finish(&self, digest: &Digest) {
        self.with(|state| {
            state.finished += 1;
            if let Some(bar) = state.large.remove(digest) {
                bar.finish_and_clear();
            }
        });
    }

    fn note(&self, text: &str) {
        self.printer.note(text);
    }
}
