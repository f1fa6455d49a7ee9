//! Real peers: Debian's `docker-registry`, and the command-line tools that read what barge writes.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use barge::oci::{Descriptor, Digest};
use tempfile::TempDir;

pub use super::client::{Client, Reply};
use super::images::Content;

/// The name that registries with authentication know.
pub const USER: &str = "tester";
/// Its password.
pub const PASSWORD: &str = "secret";
/// An htpasswd line of the two (bcrypt, the only form that 2.8 reads).
const HTPASSWD: &str = "tester:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Runs a command and returns its output; a failure panics with everything it said.
pub fn run(command: &mut Command) -> Output {
    let output = run_any(command);
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command whatever its outcome; a program that is not installed panics with what to install.
pub fn run_any(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{}", explain(command, &error)))
}

/// Says why a program did not start, with the package to install.
fn explain(command: &Command, error: &std::io::Error) -> String {
    let program = command.get_program().to_string_lossy();
    if error.kind() != ErrorKind::NotFound {
        return format!("can't run `{program}`: {error}");
    }
    let package = match program.as_ref() {
        "containerd" | "ctr" => "containerd",
        other => other,
    };
    format!("`{program}` is needed by this test: apt-get install {package}")
}

/// Makes a command without the caller's proxies and credentials.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name);
        command.env_remove(name.to_uppercase());
    }
    command.env_remove("REGISTRY_AUTH_FILE").env("LC_ALL", "C.UTF-8");
    command
}

/// Starts a program that runs beside the test; `log` receives what it says.
pub(super) fn spawn(command: &mut Command, log: &Path) -> Process {
    let file = fs::File::create(log).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap_or_else(|error| panic!("{}", explain(command, &error)));
    Process(child)
}

/// A child process, ended by its pid when dropped.
pub(super) struct Process(Child);

impl Process {
    /// Returns whether it runs still.
    pub(super) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tool<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = run(command(program).args(args));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs skopeo without a signature policy and returns its standard output.
pub fn skopeo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let output = run(command("skopeo").arg("--insecure-policy").args(args));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs umoci and returns its standard output.
pub fn umoci<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    tool("umoci", args)
}

/// Runs GNU tar and returns its standard output.
pub fn gnu_tar<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    tool("tar", args)
}

/// Makes a certificate authority (`ca.crt`) and a certificate of it for 127.0.0.1 and localhost (`tls.crt`, `tls.key`).
pub fn make_certificate(directory: &Path) {
    make_certificate_for(directory, 3650);
}

/// The same, good for so many days.
pub fn make_certificate_for(directory: &Path, days: u32) {
    let text = "[req]\ndistinguished_name = dn\n[dn]\n\
        [ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\nsubjectKeyIdentifier = hash\n\
        [leaf]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1, DNS:localhost\n\
        keyUsage = critical, digitalSignature\nextendedKeyUsage = serverAuth\n";
    fs::write(directory.join("openssl.cnf"), text).unwrap();
    let request = |name: &str, extensions: &str, more: &[&str]| {
        run(command("openssl")
            .current_dir(directory)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", &days.to_string(), "-config", "openssl.cnf", "-extensions", extensions])
            .args(["-subj", &format!("/CN=barge test {name}")])
            .args(["-out", &format!("{name}.crt"), "-keyout", &format!("{name}.key")])
            .args(more));
    };
    request("ca", "ca", &[]);
    request("tls", "leaf", &["-CA", "ca.crt", "-CAkey", "ca.key"]);
}

/// How a [`RealRegistry`] is set up.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Wants [`USER`] and [`PASSWORD`] by basic authentication.
    pub auth: bool,
    /// Serves TLS with a certificate of its own authority; see [`RealRegistry::certificates`].
    pub tls: bool,
    /// Caches blob descriptors in memory, as Debian's stock configuration does: it then goes on saying that a blob is
    /// there after its data went away.
    pub inmemory_cache: bool,
    /// The certificate of [`RegistryOptions::tls`] ends in a few days.
    pub short_lived: bool,
    /// Takes nothing: maintenance mode.
    pub read_only: bool,
    /// Deleting is disabled, as without a word about it in the configuration.
    pub keeps: bool,
    /// Starts on this storage folder, one that another registry of the test left (and keeps it).
    pub storage: Option<PathBuf>,
}

/// Debian's `docker-registry` 2.8 on a free loopback port with its own storage; deleting is enabled.
pub struct RealRegistry {
    process: Process,
    host: String,
    storage: PathBuf,
    options: RegistryOptions,
    directory: TempDir,
}

impl RealRegistry {
    /// Starts a plain HTTP registry without authentication.
    pub fn start() -> Self {
        Self::start_with(&RegistryOptions::default())
    }

    /// Starts a registry and waits until it answers.
    pub fn start_with(options: &RegistryOptions) -> Self {
        let mut directory = tempfile::Builder::new().prefix("barge-registry-").tempdir().unwrap();
        let storage = options.storage.clone().unwrap_or_else(|| directory.path().join("storage"));
        fs::create_dir_all(&storage).unwrap();
        if options.tls {
            make_certificate_for(directory.path(), if options.short_lived { 5 } else { 3650 });
        }
        if options.auth {
            fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        }
        let log = directory.path().join("registry.log");
        for _ in 0..20 {
            let port = free_port();
            let nonce = format!("{}-{port}-{:p}", std::process::id(), &raw const directory);
            let config = directory.path().join("config.yml");
            let text = configuration(directory.path(), &storage, options, port, &nonce);
            fs::write(&config, text).unwrap();
            let process = spawn(
                command("docker-registry").arg("serve").arg(&config).env_remove("REGISTRY_HTTP_ADDR"),
                &log,
            );
            let mut registry = Self {
                process,
                host: format!("127.0.0.1:{port}"),
                storage: storage.clone(),
                options: options.clone(),
                directory,
            };
            if registry.wait(&nonce) {
                return registry;
            }
            // Someone else took the port in between: again with another.
            directory = registry.directory;
        }
        panic!("docker-registry did not start:\n{}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Waits for an answer that carries `nonce`; false if the process ended first.
    fn wait(&mut self, nonce: &str) -> bool {
        let client = self.client();
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let answer = client.try_request("GET", "/v2/", &[], None);
            if answer.is_ok_and(|reply| reply.header("x-barge-test") == Some(nonce)) {
                return true;
            }
            if !self.process.is_running() {
                return false;
            }
            thread::sleep(Duration::from_millis(15));
        }
        false
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The folder that holds what it stores.
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// A folder with `ca.crt`, in the form that `--cert-dir` of skopeo wants.
    pub fn certificates(&self) -> PathBuf {
        assert!(self.options.tls, "this registry serves no TLS");
        let folder = self.directory.path().join("certs");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(self.directory.path().join("ca.crt"), folder.join("ca.crt")).unwrap();
        folder
    }

    /// A client that has the right scheme, trust and credentials.
    pub fn client(&self) -> Client {
        let authority = self.options.tls.then(|| fs::read(self.directory.path().join("ca.crt")).unwrap());
        let credentials = self.options.auth.then_some((USER, PASSWORD));
        Client::new(&self.host, authority.as_deref(), credentials)
    }

    /// Pushes the whole of `root`, with a tag if there is one.
    pub fn push(&self, repository: &str, content: &Content, root: &Descriptor, tag: Option<&str>) {
        self.client().push(repository, content, root, tag);
    }

    /// Where the bytes of a blob or manifest lie.
    pub fn blob_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.storage.join(format!(
            "docker/registry/v2/blobs/{}/{}/{hex}/data",
            digest.algorithm().as_str(),
            &hex[..2]
        ))
    }

    /// Removes the bytes of a blob behind the registry's back, as its garbage collection does.
    pub fn delete_blob_data(&self, digest: &Digest) {
        fs::remove_dir_all(self.blob_file(digest).parent().unwrap()).unwrap();
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("registry.log")).unwrap_or_default()
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn configuration(
    directory: &Path,
    storage: &Path,
    options: &RegistryOptions,
    port: u16,
    nonce: &str,
) -> String {
    let mut text = format!(
        "version: 0.1\nlog: {{ level: warn, accesslog: {{ disabled: false }} }}\nstorage:\n  \
         filesystem: {{ rootdirectory: {storage:?} }}\n  delete: {{ enabled: {} }}\n",
        !options.keeps
    );
    if options.read_only {
        text += "  maintenance: { readonly: { enabled: true } }\n";
    }
    if options.inmemory_cache {
        text += "  cache: { blobdescriptor: inmemory }\n";
    }
    text += &format!(
        "http:\n  addr: \"127.0.0.1:{port}\"\n  secret: test\n  headers: {{ X-Barge-Test: [\"{nonce}\"] }}\n"
    );
    if options.tls {
        let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
        text += &format!("  tls: {{ certificate: {certificate:?}, key: {key:?} }}\n");
    }
    if options.auth {
        let file = directory.join("htpasswd");
        text += &format!("auth: {{ htpasswd: {{ realm: test, path: {file:?} }} }}\n");
    }
    text
}

/// Pushes content to a plain HTTP registry.
pub fn push_content(host: &str, repository: &str, content: &Content, root: &Descriptor, tag: Option<&str>) {
    Client::plain(host).push(repository, content, root, tag);
}

/// Reads a manifest's bytes from a plain HTTP registry, by tag or digest.
pub fn get_manifest_bytes(host: &str, repository: &str, selector: &str) -> Option<Vec<u8>> {
    Client::plain(host).manifest(repository, selector)
}

/// Returns whether a plain HTTP registry hands out the blob, every byte of it.
pub fn blob_exists(host: &str, repository: &str, digest: &Digest) -> bool {
    let reply =
        Client::plain(host).try_request("GET", &format!("/v2/{repository}/blobs/{digest}"), &[], None);
    reply.is_ok_and(|reply| reply.status == 200 && digest.matches(&reply.body))
}
