//! Arguments that several verbs share.

use std::path::PathBuf;

pub use barge::input::parse_size;
use barge::oci::Platform;
use barge::store::registry::{Client, Options, Rule};

use super::failure::Failure;

/// How to talk to registries.
#[derive(clap::Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArgs {
    /// File with credentials, as `podman login` or `docker login` writes it
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Credentials for one registry or, without HOST=, for all but the mirrors that files name; `-` reads them from
    /// standard input
    #[arg(long, value_name = "[HOST=]USER:PASSWORD")]
    creds: Vec<String>,
    /// Allows plain HTTP and unverified TLS for this host; repeatable
    #[arg(long, value_name = "HOST")]
    insecure: Vec<String>,
    /// `false` allows plain HTTP and unverified TLS for every host
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
    /// Folder with certificates to trust (*.crt) and client certificates (*.cert with *.key)
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// How many times a failed request is tried again
    #[arg(long, value_name = "N", default_value_t = 4)]
    retry_times: u32,
    /// Bytes a second over all transfers, e.g. 10M
    #[arg(long, value_name = "RATE", value_parser = parse_size)]
    limit_rate: Option<u64>,
    /// How many transfers at once
    #[arg(long, short, value_name = "N", default_value_t = 8, value_parser = parse_jobs)]
    pub jobs: usize,
}

impl RegistryArgs {
    /// Makes the client.
    pub fn client(&self) -> Result<Client, Failure> {
        self.client_with(Vec::new())
    }

    /// Returns the file with credentials and the folder with certificates, and whether there are credentials beside them.
    pub fn given(&self) -> (Option<&str>, Option<&str>, bool) {
        let auth_file = self.authfile.as_deref().and_then(std::path::Path::to_str);
        let cert_dir = self.cert_dir.as_deref().and_then(std::path::Path::to_str);
        (auth_file, cert_dir, !self.creds.is_empty())
    }

    /// Makes the client, with what files say of certain registries.
    pub fn client_with(&self, rules: Vec<Rule>) -> Result<Client, Failure> {
        Ok(Client::new(self.options(rules)?)?)
    }

    /// Returns how to talk to registries, with what files say of certain ones.
    pub fn options(&self, rules: Vec<Rule>) -> Result<Options, Failure> {
        let mut credentials = Vec::new();
        for text in &self.creds {
            let text = match text.as_str() {
                "-" => {
                    let mut line = String::new();
                    std::io::stdin()
                        .read_line(&mut line)
                        .map_err(|error| Failure::local("standard input can't be read".to_owned(), &error))?;
                    line.trim_end_matches(['\r', '\n']).to_owned()
                }
                text => text.to_owned(),
            };
            let (host, rest) = match text.split_once('=') {
                Some((host, rest)) if barge::oci::reference::is_host(host) => {
                    (Some(host.to_owned()), rest.to_owned())
                }
                _ => (None, text.clone()),
            };
            // The text is not repeated: it is a secret that was typed wrong.
            let (user, password) =
                rest.split_once(':').ok_or_else(|| Failure::usage("--creds needs USER:PASSWORD"))?;
            credentials.push((host, user.to_owned(), password.to_owned()));
        }
        let mut insecure = self.insecure.clone();
        if !self.tls_verify {
            insecure.push("*".to_owned());
        }
        Ok(Options {
            auth_file: self.authfile.clone(),
            credentials,
            rules,
            insecure,
            cert_dir: self.cert_dir.clone(),
            retry_times: self.retry_times,
            jobs: self.jobs,
            limit_rate: self.limit_rate,
            ..Options::from_environment()
        })
    }
}

/// Parses a number of workers.
pub fn parse_jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=256) => Ok(jobs),
        _ => Err("expected a number from 1 to 256".to_owned()),
    }
}

/// Parses one platform; clap splits lists at commas.
pub fn parse_platform(text: &str) -> Result<Platform, String> {
    text.parse().map_err(|error: barge::oci::platform::PlatformError| error.to_string())
}
