//! Runs the built `barge` in an environment of its own.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::peers::command;

/// A `barge` command line in the making: clean home, no credentials, no proxies, no colour.
pub struct Barge {
    command: Command,
    home: TempDir,
    input: Vec<u8>,
}

/// Begins a `barge` command line.
pub fn barge<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Barge {
    let home = tempfile::Builder::new().prefix("barge-home-").tempdir().unwrap();
    let mut command = command(env!("CARGO_BIN_EXE_barge"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["BARGE_", "DOCKER_", "XDG_", "SSL_CERT_"].iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join(".config"))
        .env("XDG_CACHE_HOME", home.path().join(".cache"))
        .env("XDG_DATA_HOME", home.path().join(".local/share"))
        .env("XDG_RUNTIME_DIR", home.path().join("run"))
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        // What a run leaves in its folder goes with the home.
        .current_dir(home.path())
        .args(args);
    Barge { command, home, input: Vec::new() }
}

impl Barge {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in this folder.
    pub fn dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Gives this to its standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Its home folder, gone when the value is.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs to the end.
    pub fn run(self) -> Outcome {
        let mut running = self.spawn();
        let mut stdin = running.child.stdin.take().unwrap();
        let input = std::mem::take(&mut running.input);
        let feeder = std::thread::spawn(move || {
            // Closed early is the program's right.
            let _ = stdin.write_all(&input);
        });
        let outcome = running.wait();
        feeder.join().unwrap();
        outcome
    }

    /// Starts without waiting, to send it signals or to watch it; the input stays open and unfed.
    pub fn spawn(mut self) -> Running {
        let child =
            self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { shown: format!("{:?}", self.command), child, input: self.input, home: self.home }
    }
}

/// A `barge` that runs; killed by its pid if it still does when dropped.
pub struct Running {
    child: Child,
    shown: String,
    input: Vec<u8>,
    home: TempDir,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Sends it a signal by name (`INT`, `TERM`).
    pub fn signal(&self, name: &str) {
        super::peers::run(command("kill").args(["-s", name, &self.pid().to_string()]));
    }

    /// Returns whether it ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Outcome {
        drop(self.child.stdin.take());
        let mut stdout = self.child.stdout.take().unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut stderr, &mut bytes).map(|_| bytes)
        });
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut stdout, &mut out).unwrap();
        let err = reader.join().unwrap().unwrap();
        let output = Output { status: self.child.wait().unwrap(), stdout: out, stderr: err };
        Outcome::of(&self.shown, &output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of barge came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    shown: String,
}

impl Outcome {
    /// What a run came to that was started in another way.
    pub fn of(shown: &str, output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            shown: shown.to_owned(),
        }
    }

    /// Asserts exit code 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// Asserts that standard output has this text.
    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no `{text}` on the stdout of {self}");
        self
    }

    /// Asserts that standard error has this text.
    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no `{text}` on the stderr of {self}");
        self
    }

    /// Asserts that neither stream has this text.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        assert!(!self.stdout.contains(text) && !self.stderr.contains(text), "`{text}` in {self}");
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: stdout of {self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.shown, self.code, self.stdout, self.stderr
        )
    }
}
