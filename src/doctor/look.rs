//! The checks that only read: is it there, is it trusted, does it let us in, what does it offer.

use std::time::{Duration, Instant};

use super::{Finding, Options, SHORT_LIVED, State, Target, why};
use crate::oci::RepositoryName;
use crate::store::registry::{
    self, Access, Certificate, Client, CredentialSource, Distrust, Hello, Reach, Repository, Wants,
    is_loopback,
};
use crate::store::{Result, StoreError, chain};

/// The last component of the repository that is asked about where no scratch repository is given.
const USUAL_NAME: &str = "barge-doctor";

/// Looks at a registry; returns the client, where the registry lets us in.
///
/// # Errors
/// [`StoreError`] for local files that can't be read.
pub(super) fn look(
    options: &Options,
    target: &mut Target,
    progress: &dyn Fn(&'static str),
) -> Result<Option<Client>> {
    let client = Client::new(options.client.clone())?;
    let looker = Looker { options, client: &client, registry: &options.destination.registry };
    progress("reachable");
    let Some(hello) = looker.reach(target) else { return Ok(None) };
    progress("auth");
    if !introduce(&hello, target) || !looker.authenticate(&hello, target) {
        return Ok(None);
    }
    progress("catalogue");
    let answers = looker.catalogue(target) && (options.scratch.is_some() || looker.rights(target));
    Ok(answers.then_some(client))
}

struct Looker<'a> {
    options: &'a Options,
    client: &'a Client,
    registry: &'a str,
}

impl Looker<'_> {
    /// Connects, and says how; `None` where the registry can't be talked to.
    fn reach(&self, target: &mut Target) -> Option<Hello> {
        let patience = self.options.patience;
        let reach = self.client.reach(self.registry, patience);
        if let Some(Reach { took: Err(why), place, .. }) = &reach {
            let seen = format!("{place} can't be connected to: {why}");
            target.add(
                Finding::new("reachable", State::Failed, seen)
                    .hint("check the name, the port, the network and its firewalls"),
            );
            return None;
        }
        let connected = match &reach {
            Some(Reach { took: Ok(took), place, addresses }) if *addresses > 1 => {
                format!("{place} ({addresses} addresses), connected in {}", short(*took))
            }
            Some(Reach { took: Ok(took), place, .. }) => {
                format!("{place}, connected in {}", short(*took))
            }
            _ => "through the proxy of the environment".to_owned(),
        };
        let begun = Instant::now();
        match self.client.hello(self.registry) {
            Ok(hello) => {
                let seen = format!("{connected}, answers in {}", short(hello.took));
                target.add(Finding::new("reachable", State::Ok, seen));
                self.tls(&hello, target);
                Some(hello)
            }
            Err(error) => {
                self.explain(&connected, &error, begun.elapsed() >= patience, target);
                None
            }
        }
    }

    /// Says of TLS that works what there is to know.
    fn tls(&self, hello: &Hello, target: &mut Target) {
        let host = self.registry;
        if !hello.tls {
            target.add(if is_loopback(host) {
                Finding::new("tls", State::Ok, "plain HTTP, on this machine only")
            } else {
                let seen = "plain HTTP: content and passwords travel in the clear";
                Finding::new("tls", State::Warning, seen).flags(["--insecure", host])
            });
            return;
        }
        let certificate = self.client.certificate(host, self.options.patience);
        let mut finding = match certificate {
            Some(Ok(certificate)) => match (&certificate.distrust, hello.insecure) {
                (None, _) => {
                    let short_lived = certificate.left().is_some_and(|left| left < SHORT_LIVED);
                    let state = if short_lived { State::Warning } else { State::Ok };
                    let finding = Finding::new(
                        "tls",
                        state,
                        format!("the certificate is trusted{}", until(&certificate)),
                    );
                    if short_lived { finding.hint("have it renewed before the transfer") } else { finding }
                }
                (Some(distrust), _) => {
                    let seen =
                        format!("the certificate was accepted unverified: {distrust}{}", until(&certificate));
                    Finding::new("tls", State::Warning, seen).flags(["--insecure", host])
                }
            },
            _ if hello.insecure => {
                Finding::new("tls", State::Warning, "TLS, the certificate accepted unverified")
                    .flags(["--insecure", host])
            }
            _ => Finding::new("tls", State::Ok, "TLS, the certificate is trusted"),
        };
        if let (Some(folder), false) = (&self.options.client.cert_dir, hello.insecure) {
            finding.flags = vec!["--cert-dir".to_owned(), folder.display().to_string()];
        }
        target.add(finding);
    }

    /// Finds out why a registry that can be connected to can't be talked to.
    fn explain(&self, connected: &str, error: &StoreError, slow: bool, target: &mut Target) {
        let host = self.registry;
        if let StoreError::Refused { status, .. } = error {
            target.add(Finding::new("reachable", State::Ok, connected));
            let seen = format!("answers {status} to `GET /v2/`: {}", why(error));
            target.add(Finding::new("api", State::Failed, seen).hint("is the registry up?"));
            return;
        }
        if !slow {
            match self.client.certificate(host, self.options.patience) {
                Some(Ok(certificate)) => {
                    target.add(Finding::new("reachable", State::Ok, connected));
                    target.add(untrusted(host, &certificate, error));
                    return;
                }
                Some(Err(_)) if self.speaks_plain_http() => {
                    target.add(Finding::new("reachable", State::Ok, connected));
                    target.add(
                        Finding::new("tls", State::Failed, "speaks plain HTTP only")
                            .flags(["--insecure", host])
                            .hint("content and passwords then travel in the clear"),
                    );
                    return;
                }
                _ => {}
            }
        }
        let seen = format!("{connected}, and no answer to `GET /v2/`: {}", why(error));
        target.add(Finding::new("reachable", State::Failed, seen).hint("is it a registry, and is it up?"));
    }

    /// Asks without TLS, and without credentials.
    fn speaks_plain_http(&self) -> bool {
        let stranger = registry::Options {
            auth_file: None,
            default_auth_files: Vec::new(),
            credentials: Vec::new(),
            insecure: vec![self.registry.to_owned()],
            cert_dir: None,
            ..self.options.client.clone()
        };
        let hello = Client::new(stranger).and_then(|client| client.hello(self.registry));
        hello.is_ok_and(|hello| !hello.tls && matches!(hello.status, 200 | 401))
    }

    fn repository(&self, access: Access) -> Repository {
        let prefix = &self.options.destination.prefix;
        let usual = || RepositoryName {
            registry: self.registry.to_owned(),
            repository: if prefix.is_empty() {
                USUAL_NAME.to_owned()
            } else {
                format!("{prefix}/{USUAL_NAME}")
            },
        };
        let name = self.options.scratch.clone().unwrap_or_else(usual);
        self.client.repository(&name, access)
    }

    /// Says who we are to it.
    fn authenticate(&self, hello: &Hello, target: &mut Target) -> bool {
        let repository = self.repository(Access::Pull);
        let source = self.client.credential_source(self.registry, &repository.name().repository);
        let from = match &source {
            Some(CredentialSource::Given) => "the credentials given by --creds".to_owned(),
            Some(CredentialSource::File(path)) => format!("the credentials of {}", path.display()),
            None => "no credentials".to_owned(),
        };
        let scheme = match &hello.wants {
            Wants::Nothing => {
                target.add(Finding::new("auth", State::Ok, "asks nobody who they are"));
                return true;
            }
            Wants::Basic => "a password (basic)".to_owned(),
            Wants::Bearer(realm) => format!("a token of {realm} (bearer)"),
            Wants::Unknown => "something, and does not say what".to_owned(),
        };
        let login = "log in (`skopeo login HOST`, `docker login HOST`), or give --authfile FILE or --creds -";
        let finding = match repository.check() {
            Ok(()) => {
                let seen = format!("wants {scheme}; {from} are accepted");
                let seen =
                    if source.is_none() { format!("wants {scheme}, and gives one to anybody") } else { seen };
                Finding::new("auth", State::Ok, seen)
            }
            Err(error @ StoreError::Denied { .. }) if source.is_some() => {
                let seen = format!("wants {scheme}; {from} are rejected ({})", why(&error));
                Finding::new("auth", State::Failed, seen).hint(login)
            }
            Err(StoreError::Denied { .. }) => {
                Finding::new("auth", State::Failed, format!("wants {scheme}, and no credentials are known"))
                    .hint(login)
            }
            Err(error) => Finding::new("auth", State::Failed, format!("wants {scheme}: {}", chain(&error))),
        };
        let mut finding = finding;
        if let (Some(CredentialSource::File(path)), Some(file)) = (&source, &self.options.client.auth_file)
            && path == file
        {
            finding = finding.flags(["--authfile", &file.display().to_string()]);
        }
        if source == Some(CredentialSource::Given) {
            // Who they are is a secret: `-` has them read from standard input.
            finding = finding.flags(["--creds", "-"]);
        }
        let accepted = finding.state == State::Ok;
        target.add(finding);
        accepted
    }

    fn catalogue(&self, target: &mut Target) -> bool {
        let finding = match self.client.has_catalog(self.registry) {
            Ok(()) => {
                target.facts.catalogue = Some(true);
                Finding::new("catalogue", State::Ok, "offered: `barge inventory` can list everything")
            }
            Err(error @ StoreError::Unreachable { .. }) => {
                target.add(Finding::new("catalogue", State::Unknown, why(&error)));
                return true;
            }
            Err(error) => {
                target.facts.catalogue = Some(false);
                let seen = match &error {
                    StoreError::NotFound { .. } => "not offered (404)".to_owned(),
                    error => format!("not offered ({})", why(error)),
                };
                Finding::new("catalogue", State::Warning, seen)
                    .hint("name repositories to `barge inventory` and `barge diff`, or give them a receipt")
            }
        };
        target.add(finding);
        true
    }

    /// Says what can be told of the right to push, and of referrers, without writing.
    fn rights(&self, target: &mut Target) -> bool {
        let repository = self.repository(Access::Push);
        let finding = match repository.grants_push() {
            Ok(Some(true)) => {
                Finding::new("push", State::Ok, format!("the token for {} grants it", repository.name()))
            }
            Ok(Some(false)) => {
                let seen = format!("the token for {} does not grant it", repository.name());
                Finding::new("push", State::Failed, seen)
                    .hint("ask for the right to push, or log in as another user")
            }
            Ok(None) => return true,
            Err(error @ StoreError::Denied { .. }) => {
                let seen = format!("no token for {} ({})", repository.name(), why(&error));
                Finding::new("push", State::Failed, seen)
                    .hint("ask for the right to push, or log in as another user")
            }
            Err(error) => Finding::new("push", State::Unknown, why(&error)),
        };
        target.add(finding);
        true
    }
}

/// Says whether it is a registry.
fn introduce(hello: &Hello, target: &mut Target) -> bool {
    let version = hello.version.as_deref();
    let finding = match hello.status {
        200 | 401 | 403 => {
            let mut seen = match version {
                Some(version) => format!("distribution API, {version}"),
                None => "distribution API; it names no version".to_owned(),
            };
            if let Some(sparse) = &hello.sparse {
                seen.push_str(&format!("; X-Sparse-Manifest-Support: {sparse}"));
            }
            Finding::new("api", State::Ok, seen)
        }
        status => {
            Finding::new("api", State::Failed, format!("answers {status} to `GET /v2/`: it is no registry"))
                .hint("check the host and the port; the path after them goes into repository names")
        }
    };
    let is_registry = finding.state == State::Ok;
    target.add(finding);
    is_registry
}

fn untrusted(host: &str, certificate: &Certificate, error: &StoreError) -> Finding {
    let print = &certificate.fingerprint;
    let Some(distrust) = &certificate.distrust else {
        return Finding::new("tls", State::Failed, format!("TLS fails: {}", why(error)));
    };
    let seen =
        format!("the certificate is not trusted: {distrust}{}; fingerprint {print}", until(certificate));
    let finding = Finding::new("tls", State::Failed, seen);
    match distrust {
        // Which folder that is, nobody knows yet: a flag would not be one.
        Distrust::Authority => finding.hint(
            "put the authority's certificate as a .crt file into a folder DIR, and give --cert-dir DIR; \
             `openssl s_client -showcerts` shows it",
        ),
        _ => finding
            .flags(["--insecure", host])
            .hint("better: have the registry's certificate renewed; --insecure trusts whoever answers"),
    }
}

fn until(certificate: &Certificate) -> String {
    match certificate.ends {
        Some(ends) => {
            let date = humantime::format_rfc3339_seconds(ends).to_string();
            format!(", valid until {}", date.split('T').next().unwrap_or_default())
        }
        None => String::new(),
    }
}

/// Returns a short time for people.
fn short(time: Duration) -> String {
    match time.as_millis() {
        0 => "less than 1 ms".to_owned(),
        millis @ 1..10_000 => format!("{millis} ms"),
        millis => format!("{} s", millis / 1000),
    }
}
