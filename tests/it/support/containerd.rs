//! A containerd of the test's own: private socket, root and state, no plugins that reach outside. Needs root.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::peers::{Process, command, run, run_any, spawn};

/// A running containerd.
pub struct Containerd {
    // Dropped in this order: the process ends before its folders go.
    process: Process,
    socket: PathBuf,
    directory: TempDir,
}

impl Containerd {
    /// Starts a daemon and waits until it answers.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("barge-ctrd-").tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let socket = at("s");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {socket:?}\n",
            at("root"),
            at("state")
        );
        fs::write(at("config.toml"), config).unwrap();
        let log = at("log");
        let process = spawn(
            command("containerd")
                .arg("--config")
                .arg(at("config.toml"))
                // containerd mounts a layer here while it unpacks it.
                .env("TMPDIR", directory.path()),
            &log,
        );
        let mut daemon = Self { process, socket, directory };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !daemon.try_ctr(["version"]).status.success() {
            let log = fs::read_to_string(&log).unwrap_or_default();
            assert!(daemon.process.is_running(), "containerd ended (it needs root):\n{log}");
            assert!(Instant::now() < deadline, "containerd does not answer:\n{log}");
            thread::sleep(Duration::from_millis(30));
        }
        daemon
    }

    /// Runs `ctr` against this daemon and returns its standard output.
    pub fn ctr<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = run(command("ctr").arg("--address").arg(&self.socket).args(args));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same whatever the outcome.
    pub fn try_ctr<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        run_any(command("ctr").arg("--address").arg(&self.socket).args(args))
    }
}
