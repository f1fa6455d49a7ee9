//! Trust roots, client certificates, and the HTTP agents built on them.

use std::net::TcpStream;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, Proxy};

use super::super::{Result, StoreError};
use super::certificate::{self, Certificate as Shown};
use super::connector::{self, Identity, TlsConnector, check_identity};
use super::endpoint::HUB_API;
use super::options::Options;
use super::rule::means_host;
use super::url::Origin;
use crate::oci::reference::DEFAULT_REGISTRY;

/// How long name, TCP and TLS together may take: several round trips to the far side of the world.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for `100 Continue` before sending a body regardless (curl's value).
pub(super) const EXPECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The socket buffers kept per connection, in bytes: fewer system calls than with ureq's 128 KiB.
const BUFFER: usize = 256 * 1024;
/// How long an idle connection is kept: below the 60 s after which common balancers drop them.
const IDLE_AGE: Duration = Duration::from_secs(50);

/// What each server is trusted by.
pub(super) struct Trusts {
    of_all: Trust,
    /// For hosts that have a folder of their own, and the one for all.
    own: Vec<(Vec<String>, Trust)>,
}

impl Trusts {
    /// Reads the certificate folders.
    pub fn new(options: &Options) -> Result<Self> {
        let mut own = Vec::new();
        for rule in &options.rules {
            if let Some(folder) = &rule.cert_dir {
                let mut trust = Trust::new(Some(folder))?;
                trust.add(options.cert_dir.as_deref())?;
                own.push((rule.hosts().map(str::to_owned).collect(), trust));
            }
        }
        Ok(Self { of_all: Trust::new(options.cert_dir.as_deref())?, own })
    }

    /// Returns what a server is trusted by.
    pub fn of(&self, origin: &Origin) -> &Trust {
        let is_meant = |host: &String| {
            means_host(host, &origin.authority)
                || (host == DEFAULT_REGISTRY && means_host(HUB_API, &origin.authority))
        };
        self.own.iter().find(|(hosts, _)| hosts.iter().any(is_meant)).map_or(&self.of_all, |(_, trust)| trust)
    }
}

/// What servers are trusted by, and what they may be shown.
pub(super) struct Trust {
    extra: Vec<Certificate<'static>>,
    client: Option<(ClientCert, Identity)>,
    roots: OnceLock<RootCerts>,
}

impl Trust {
    /// Reads a certificate folder laid out as Docker's `certs.d/HOST`.
    pub fn new(cert_dir: Option<&Path>) -> Result<Self> {
        let mut trust = Self { extra: Vec::new(), client: None, roots: OnceLock::new() };
        trust.add(cert_dir)?;
        Ok(trust)
    }

    /// Reads a further folder.
    fn add(&mut self, cert_dir: Option<&Path>) -> Result<()> {
        let trust = self;
        let Some(folder) = cert_dir else {
            return Ok(());
        };
        let io = |path: &Path, source| StoreError::Io {
            path: path.to_owned(),
            action: "the certificates could not be read",
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|source| io(folder, source))? {
            paths.push(entry.map_err(|source| io(folder, source))?.path());
        }
        paths.sort();
        for path in paths {
            let kind = path.extension().and_then(|kind| kind.to_str());
            if kind == Some("crt") {
                trust.extra.extend(certificates(&path)?);
            } else if kind == Some("cert") {
                let chain = certificates(&path)?;
                let key_path = path.with_extension("key");
                let pem = std::fs::read(&key_path).map_err(|source| io(&key_path, source))?;
                let key = PrivateKey::from_pem(&pem).map_err(|_| invalid(&key_path, "a private key"))?;
                // TLS has room for one client certificate; the first by name is used.
                let identity: Identity = (
                    chain
                        .iter()
                        .map(|certificate| CertificateDer::from(certificate.der().to_vec()))
                        .collect(),
                    PrivateKeyDer::try_from(key.der().to_vec())
                        .map_err(|_| invalid(&key_path, "a private key"))?,
                );
                check_identity(&identity)
                    .map_err(|_| invalid(&key_path, "the private key of the certificate beside it,"))?;
                // TLS has room for one client certificate; the first by name is used.
                if trust.client.is_none() {
                    trust.client = Some((ClientCert::new_with_certs(&chain, key), identity));
                }
            }
        }
        Ok(())
    }

    /// Returns the system's roots and the folder's; the system's are read when first needed.
    fn roots(&self) -> RootCerts {
        let read = || {
            let system = rustls_native_certs::load_native_certs().certs;
            let system = system.iter().map(|der| Certificate::from_der(der).to_owned());
            RootCerts::from(self.extra.iter().cloned().chain(system))
        };
        self.roots.get_or_init(read).clone()
    }

    /// Makes the agent for one origin.
    pub fn agent(&self, options: &Options, origin: &Origin, unverified: bool) -> Agent {
        let mut tls = TlsConfig::builder()
            .disable_verification(unverified)
            .client_cert(self.client.as_ref().map(|(client, _)| client.clone()));
        if origin.tls && !unverified {
            tls = tls.root_certs(self.roots());
        }
        let proxy = if options.proxy_from_environment && !super::is_loopback(&origin.authority) {
            Proxy::try_from_env()
        } else {
            None
        };
        let idle = options.idle_timeout.max(Duration::from_millis(1));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls.build())
            .proxy(proxy)
            .user_agent(concat!("barge/", env!("CARGO_PKG_VERSION")))
            // A proxy that compresses what it passes on would break digests.
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT_TIMEOUT.min(idle.max(Duration::from_secs(1)))))
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(idle))
            .timeout_await_100(Some(EXPECT_TIMEOUT.min(idle / 2)))
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(options.jobs.max(1) * 2)
            .max_idle_connections_per_host(options.jobs.max(1) * 2)
            .max_idle_age(IDLE_AGE)
            .build();
        if !origin.tls || unverified || self.extra.is_empty() {
            return config.into();
        }
        let own: Vec<CertificateDer<'static>> =
            self.extra.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
        let system = rustls_native_certs::load_native_certs().certs;
        let identity = self.client.as_ref().map(|(_, identity)| identity);
        let chain =
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(TlsConnector(connector::config(&own, &system, identity)));
        Agent::with_parts(config, chain, DefaultResolver::default())
    }
}

impl Trust {
    /// Begins TLS on a connection and reads the certificate that comes, trusted or not.
    pub fn certificate(&self, stream: TcpStream, host: &str) -> std::result::Result<Shown, String> {
        let own: Vec<CertificateDer<'static>> =
            self.extra.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
        let system = rustls_native_certs::load_native_certs().certs;
        certificate::read(stream, host, &connector::verifier(&own, &system)?)
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        action: "the certificates could not be read",
        source,
    })?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| invalid(path, "certificates"))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(invalid(path, "certificates"));
    }
    Ok(found)
}

fn invalid(path: &Path, what: &str) -> StoreError {
    StoreError::Invalid {
        place: path.display().to_string(),
        why: format!("it does not hold {what} in PEM form"),
    }
}
