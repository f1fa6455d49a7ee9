//! What this machine can do: room, open files, how fast it hashes, whose credentials it has.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Finding, State};
use crate::store::chain;
use crate::store::registry::{self, credential_files};

/// How long hashing is measured, once with one core and once with all.
const MEASURED: Duration = Duration::from_millis(300);
/// Less room than this is a warning: a bundle of one larger image.
const LITTLE_ROOM: u64 = 10 << 30;
/// Fewer open files than this is a warning: workers, their sockets and the files of several bundles.
const FEW_FILES: u64 = 256;
/// What a speed is told by.
const EXAMPLE: f64 = 100e9;
/// Where Linux says what a process may do.
const LIMITS: &str = "/proc/self/limits";

/// Folders to look at.
#[derive(Debug, Clone)]
pub struct Places {
    /// The current folder, where bundles go.
    pub current: PathBuf,
    /// The folder for temporary files.
    pub temporary: PathBuf,
    /// The folder for working files, where one was named.
    pub scratch: Option<PathBuf>,
}

/// What was found out of this machine.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The findings, in the order of the checks.
    pub findings: Vec<Finding>,
    /// Bytes a second that one core hashes.
    pub hash_one_core: u64,
    /// Bytes a second that all cores together hash.
    pub hash_all_cores: u64,
    /// How many cores there are.
    pub cores: usize,
}

/// Examines this machine.
#[must_use]
pub fn examine_machine(places: &Places, client: &registry::Options) -> Machine {
    let mut findings = vec![Finding::new("version", State::Ok, concat!("barge ", env!("CARGO_PKG_VERSION")))];
    let folders = [
        ("space", Some(&places.current), "the current folder"),
        ("space-temporary", Some(&places.temporary), "the folder for temporary files"),
        ("space-scratch", places.scratch.as_ref(), "the folder for working files"),
    ];
    for (id, folder, what) in folders {
        findings.extend(folder.map(|folder| space(id, folder, what)));
    }
    findings.push(open_files(&std::fs::read_to_string(LIMITS).unwrap_or_default()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (one, all) = (hashing(1), hashing(cores));
    findings.push(Finding::new("cpus", State::Ok, format!("{cores}")));
    findings.push(Finding::new(
        "hashing",
        State::Ok,
        format!(
            "{} MB/s on one core, {} MB/s on all: 100 GB are checked in {} and {}",
            one / 1_000_000,
            all / 1_000_000,
            time_for(one),
            time_for(all)
        ),
    ));
    findings.push(credentials(client));
    Machine { findings, hash_one_core: one, hash_all_cores: all, cores }
}

/// How long the example takes at this speed.
fn time_for(speed: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
    let seconds = EXAMPLE / speed.max(1) as f64;
    if seconds < 120.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

fn space(id: &str, folder: &Path, what: &str) -> Finding {
    let shown = folder.display();
    let stat = match rustix::fs::statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => {
            return Finding::new(id, State::Failed, format!("{what}, {shown}, can't be looked at: {error}"));
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let gib = |bytes: u64| bytes >> 30;
    let state = if free < LITTLE_ROOM { State::Warning } else { State::Ok };
    let seen = match gib(free) {
        0 => format!("{} MiB free in {what}, {shown}", free >> 20),
        free => format!("{free} GiB free in {what}, {shown}"),
    };
    let finding = Finding::new(id, state, seen);
    match (state, id) {
        (State::Ok, _) => finding,
        (_, "space") => finding.hint("write bundles elsewhere by -o, or delete what is not needed"),
        _ => finding.hint("name a folder with more room: --scratch DIR, or TMPDIR in the environment"),
    }
}

/// Reads the limit of open files out of Linux's table: `Max open files  1024  524288  files`.
fn open_files(limits: &str) -> Finding {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = line.and_then(|line| line.split_ascii_whitespace().next());
    match limit.map(str::parse::<u64>) {
        Some(Ok(limit)) if limit < FEW_FILES => {
            Finding::new("open-files", State::Warning, format!("{limit} at a time"))
                .hint("raise it by `ulimit -n 1024`, or work with fewer --jobs")
        }
        Some(Ok(limit)) => Finding::new("open-files", State::Ok, format!("{limit} at a time")),
        Some(Err(_)) => Finding::new("open-files", State::Ok, "without limit"),
        None => Finding::new("open-files", State::Unknown, "the system does not tell"),
    }
}

/// Measures how many bytes a second so many threads hash.
fn hashing(threads: usize) -> u64 {
    let piece = vec![0x5a; 1 << 20];
    let begun = Instant::now();
    let work = || {
        let mut hasher = Sha256::new();
        let mut bytes = 0;
        while begun.elapsed() < MEASURED {
            hasher.update(&piece);
            bytes += piece.len() as u64;
        }
        std::hint::black_box(hasher.finalize());
        bytes
    };
    let bytes: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).sum()
    });
    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a speed for people")]
    let speed = (bytes as f64 / begun.elapsed().as_secs_f64()) as u64;
    speed
}

/// Lists credential files and the registries they are for; never what they hold.
fn credentials(client: &registry::Options) -> Finding {
    let files = credential_files(client);
    if files.is_empty() {
        return Finding::new("credentials", State::Ok, "no credential file; `skopeo login HOST` makes one");
    }
    let mut state = State::Ok;
    let texts: Vec<String> = files
        .iter()
        .map(|file| match &file.entries {
            Ok(entries) if entries.is_empty() => format!("{} (for no registry)", file.path.display()),
            Ok(entries) => format!("{} (for {})", file.path.display(), entries.join(", ")),
            Err(error) => {
                state = State::Warning;
                chain(error)
            }
        })
        .collect();
    Finding::new("credentials", state, texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_read_from_the_system_s_table() {
        let table = |limit: &str| {
            format!(
                "Limit  Soft Limit  Hard\nMax processes  1 2 p\nMax open files            {limit}   524288   files\n"
            )
        };
        let state = |text: &str| open_files(text).state;
        assert_eq!((state(&table("1024")), state(&table("64"))), (State::Ok, State::Warning));
        assert_eq!((state(&table("unlimited")), state("")), (State::Ok, State::Unknown));
        assert_eq!(open_files(&table("1024")).seen, "1024 at a time");
    }

    #[test]
    fn speeds_are_told_by_what_they_mean() {
        assert_eq!(time_for(1_000_000_000), "100 s");
        assert_eq!(time_for(100_000_000), "17 min");
        assert!(hashing(1) > 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_failure() {
        assert_eq!(space("space", Path::new("/nowhere/at/all"), "x").state, State::Failed);
    }
}
