//! Running `helm template`, and finding the images in what it writes.
//!
//! Rendering runs the templates of whoever wrote the chart, in helm's sandbox of functions; it is done only where it was asked
//! for. Helm gets its arguments as a list: no shell sees them.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ChartError;
use super::path::{ImagePath, children};
use super::yaml;
use crate::store::registry::clean_text;

/// How long helm may take; charts of hundreds of templates take a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much helm may write, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024 * 1024;
/// How much of helm's complaints is read, in bytes.
const MAX_SAID: u64 = 64 * 1024;
/// How much of them is shown, in characters.
const SHOWN: usize = 600;
/// How often a running helm is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// How helm is run.
#[derive(Debug, Clone)]
pub struct Helm {
    /// The program: a name that is looked up as the system does, or a path.
    pub program: OsString,
    /// How long it may take.
    pub patience: Duration,
}

impl Default for Helm {
    /// The `helm` that the system finds, for two minutes.
    fn default() -> Self {
        Self { program: "helm".into(), patience: PATIENCE }
    }
}

impl Helm {
    /// Runs `helm template release-name CHART [--values FILE]…` and returns the documents that it writes.
    pub(super) fn template(
        &self,
        title: &str,
        chart: &Path,
        values: &[PathBuf],
    ) -> Result<Vec<Value>, ChartError> {
        let failed = |why: String, said: &[u8]| ChartError::Helm {
            chart: title.to_owned(),
            why,
            said: clean_text(&String::from_utf8_lossy(said), SHOWN),
        };
        let mut command = Command::new(&self.program);
        command.arg("template").arg("release-name").arg(chart);
        for file in values {
            command.arg("--values").arg(file);
        }
        let mut child =
            match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
                Ok(child) => child,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(ChartError::NoHelm { chart: title.to_owned() });
                }
                Err(error) => return Err(failed(format!("it could not be run: {error}"), &[])),
            };
        let output = child.stdout.take().map(|pipe| listen(pipe, MAX_OUTPUT));
        let said = child.stderr.take().map(|pipe| listen(pipe, MAX_SAID));
        let deadline = Instant::now() + self.patience;
        let status: Option<ExitStatus> = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Ok(None) | Err(_) => break None,
            }
        };
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // What helm started may keep the pipes open; nobody waits for that longer than for helm itself.
        let rest = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
        let said = said.and_then(|said| said.recv_timeout(rest()).ok()).unwrap_or_default();
        let Some(status) = status else {
            return Err(failed(format!("it did not end within {} seconds", self.patience.as_secs()), &said));
        };
        let output = output.and_then(|output| output.recv_timeout(rest()).ok());
        if output.as_ref().is_some_and(|bytes| bytes.len() as u64 > MAX_OUTPUT) {
            return Err(failed(format!("it wrote more than {MAX_OUTPUT} bytes"), &said));
        }
        if !status.success() {
            return Err(failed(format!("it ended with {status}"), &said));
        }
        let output = output.ok_or_else(|| failed("its output has no end".to_owned(), &said))?;
        let text =
            String::from_utf8(output).map_err(|_| failed("it wrote what is not UTF-8".to_owned(), &said))?;
        yaml::read_all(&text).map_err(|why| failed(format!("what it wrote can't be read: {why}"), &said))
    }
}

/// Reads a pipe in the background, one byte more than `most` at most.
fn listen(pipe: impl Read + Send + 'static, most: u64) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came until it failed is what there is.
        let _ = pipe.take(most + 1).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Finds the images that a document names where workloads name them: of containers of all kinds, and of image volumes.
pub(super) fn images(document: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    collect(document, &mut found);
    found
}

fn collect<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    for name in ["containers", "initContainers", "ephemeralContainers"] {
        for container in value.get(name).and_then(Value::as_array).into_iter().flatten() {
            found.extend(container.get("image").and_then(Value::as_str));
        }
    }
    for volume in value.get("volumes").and_then(Value::as_array).into_iter().flatten() {
        found.extend(volume.pointer("/image/reference").and_then(Value::as_str));
    }
    for child in children(value) {
        collect(child, found);
    }
}

/// Finds the images that paths name; the second list has the paths that named nothing in any document.
pub(super) fn images_at<'v, 'p>(
    documents: &'v [Value],
    paths: &'p [ImagePath],
) -> (Vec<(&'v str, &'p str)>, Vec<&'p str>) {
    let (mut found, mut idle) = (Vec::new(), Vec::new());
    for path in paths {
        let before = found.len();
        for document in documents {
            found.extend(
                path.find(document).into_iter().filter_map(Value::as_str).map(|image| (image, path.text())),
            );
        }
        if found.len() == before {
            idle.push(path.text());
        }
    }
    (found, idle)
}
