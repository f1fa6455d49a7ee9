//! Arguments that several verbs share.

use std::path::PathBuf;

use barge::oci::Platform;
use barge::store::registry::{Client, Options};

use super::failure::Failure;

/// How to talk to registries.
#[derive(clap::Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArgs {
    /// File with credentials, as `podman login` or `docker login` writes it
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Credentials for one registry or, without HOST=, for all of them; `-` reads them from standard input
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
        Ok(Client::new(self.options()?)?)
    }

    /// Returns how to talk to registries.
    pub fn options(&self) -> Result<Options, Failure> {
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
            insecure,
            cert_dir: self.cert_dir.clone(),
            retry_times: self.retry_times,
            jobs: self.jobs,
            limit_rate: self.limit_rate,
            ..Options::from_environment()
        })
    }
}

/// Parses a number of bytes: `20M`, `4G`, `1.5GiB`; units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let factor: u64 = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err("expected a number with K, M, G or T".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "expected a number with K, M, G or T".to_owned())?;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let size = number * factor as f64;
    if !(0.0..9e18).contains(&size) {
        return Err("is out of range".to_owned());
    }
    #[expect(clippy::cast_sign_loss, reason = "checked not to be negative")]
    let size = size as u64;
    Ok(size)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in
            [("0", 0), ("20M", 20 << 20), ("1.5GiB", 3 << 29), ("4gb", 4 << 30), ("7", 7), ("1T", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(size));
        }
        for bad in ["", "M", "-1", "1X", "1e30T", "nan"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
