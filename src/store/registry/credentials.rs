//! Who the user is at a registry: from options, credential files, and the helpers these name.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::super::{Result, StoreError};
use super::limits::lock;
use super::options::Options;
use super::rule::Rule;
use crate::oci::reference::DEFAULT_REGISTRY;

/// The user name by which Docker's files and helpers mark an identity token.
const TOKEN_USER: &str = "<token>";

/// What to show a registry. No `Debug`: it must not end up in a message.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// User and password.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// A refresh token for the registry's token server (distribution's "oauth" page).
    Identity(String),
}

impl Credential {
    fn new(user: &str, password: &str) -> Self {
        if user == TOKEN_USER {
            Self::Identity(password.to_owned())
        } else {
            Self::Basic { user: user.to_owned(), password: password.to_owned() }
        }
    }

    /// Returns the value of a `Basic` authorization header (RFC 7617).
    pub fn basic(&self) -> String {
        let (user, password) = match self {
            Self::Basic { user, password } => (user.as_str(), password.as_str()),
            Self::Identity(token) => (TOKEN_USER, token.as_str()),
        };
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }
}

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// They were given directly.
    Given,
    /// They stand in this file, or in a helper's keeping that it names.
    File(PathBuf),
}

/// One credential file, read once.
struct File {
    path: PathBuf,
    content: Vec<u8>,
    keys: HashSet<String>,
    /// Registries whose credentials a helper keeps.
    helped: HashSet<String>,
}

/// The credentials of all registries, looked up when first asked for.
pub(super) struct Credentials {
    given: Vec<(Option<String>, Credential)>,
    /// Hosts that only a rule calls upon, as mirrors: they are not shown what was given without a host.
    mirrors: HashSet<String>,
    /// The files of certain registries, each for what its rule speaks of.
    own: Vec<(Rule, File)>,
    files: Vec<File>,
    found: Mutex<HashMap<Key, Arc<Found>>>,
}

/// What was looked up: a namespace or registry, and in which of the files of certain registries; none for those for all.
type Key = (String, Option<usize>);

/// The result of one look-up, made while its lock is held: helpers can take seconds.
type Found = Mutex<Option<Option<(Credential, CredentialSource)>>>;

impl Credentials {
    /// Reads the files. One that was named must be there and be valid; a default one may be absent, and becomes a
    /// warning when it is broken.
    pub fn new(options: &Options, warnings: &mut Vec<String>) -> Result<Self> {
        let mut files = Vec::new();
        if let Some(path) = &options.auth_file {
            files.push(read(path)?);
        } else {
            for path in &options.default_auth_files {
                match read(path) {
                    Ok(file) => files.push(file),
                    Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => warnings.push(format!("credentials are not used: {error}")),
                }
            }
        }
        let given = options
            .credentials
            .iter()
            .map(|(host, user, password)| (host.clone(), Credential::new(user, password)))
            .collect();
        let mut own = Vec::new();
        for rule in &options.rules {
            if let Some(path) = &rule.auth_file {
                own.push((rule.clone(), read(path)?));
            }
        }
        let mirrors =
            options.rules.iter().flat_map(Rule::mirror_hosts).map(str::to_ascii_lowercase).collect();
        Ok(Self { given, mirrors, own, files, found: Mutex::default() })
    }

    /// Finds the credential for a repository: given ones first, then the files' entries, the longest matching
    /// namespace first (containers-auth.json, "auths").
    pub fn find(&self, registry: &str, repository: &str, warn: &dyn Fn(String)) -> Option<Credential> {
        self.look_up(registry, repository, warn).map(|(credential, _)| credential)
    }

    /// Tells where the credential for a repository comes from.
    pub fn source(
        &self,
        registry: &str,
        repository: &str,
        warn: &dyn Fn(String),
    ) -> Option<CredentialSource> {
        self.look_up(registry, repository, warn).map(|(_, source)| source)
    }

    fn look_up(
        &self,
        registry: &str,
        repository: &str,
        warn: &dyn Fn(String),
    ) -> Option<(Credential, CredentialSource)> {
        let given = |exact: bool| {
            self.given.iter().find(|(host, _)| match host {
                Some(host) => exact && same_registry(host, registry),
                None => !exact,
            })
        };
        // Whoever wrote `--creds USER:PASSWORD` thought of the registries of the images, not of hosts that a file
        // brings in.
        let is_mirror = self.mirrors.contains(&registry.to_ascii_lowercase());
        let for_all = given(false);
        if let Some((_, credential)) = given(true).or(for_all.filter(|_| !is_mirror)) {
            return Some((credential.clone(), CredentialSource::Given));
        }
        let found = self.in_files(registry, repository, warn);
        if found.is_none() && for_all.is_some() {
            warn(format!(
                "{registry}: it is a mirror, and credentials given without a host are not shown to mirrors; \
                 HOST=USER:PASSWORD gives it some"
            ));
        }
        found
    }

    /// Finds the credential that is for exactly this host: not one that was given for every registry.
    pub fn of_host(&self, host: &str, warn: &dyn Fn(String)) -> Option<Credential> {
        let mut given = self.given.iter();
        match given.find(|(name, _)| name.as_deref().is_some_and(|name| same_registry(name, host))) {
            Some((_, credential)) => Some(credential.clone()),
            None => self.in_files(host, "", warn).map(|(credential, _)| credential),
        }
    }

    fn in_files(
        &self,
        registry: &str,
        repository: &str,
        warn: &dyn Fn(String),
    ) -> Option<(Credential, CredentialSource)> {
        let path = format!("{registry}/{repository}");
        // A file of the registry's own goes before those for all, whatever namespaces these know.
        let speaks = |(at, (rule, _)): (usize, &(Rule, File))| Some((rule.speaks_of(&path)?, at));
        if let Some((_, at)) = self.own.iter().enumerate().filter_map(speaks).max()
            && let Some(found) = self.in_group(Some(at), &[&self.own[at].1], registry, &path, warn)
        {
            return Some(found);
        }
        let files: Vec<&File> = self.files.iter().collect();
        self.in_group(None, &files, registry, &path, warn)
    }

    /// Looks files of one rank up by namespace, the longest first, then by the registry.
    fn in_group(
        &self,
        own: Option<usize>,
        files: &[&File],
        registry: &str,
        path: &str,
        warn: &dyn Fn(String),
    ) -> Option<(Credential, CredentialSource)> {
        let mut rest = path;
        let mut namespace = None;
        while rest.len() > registry.len() {
            if files.iter().any(|file| file.keys.contains(rest)) {
                namespace = Some(rest.to_owned());
                break;
            }
            rest = &rest[..rest.rfind('/').unwrap_or_default()];
        }
        let key = (namespace.clone().unwrap_or_else(|| registry.to_owned()), own);
        let slot = Arc::clone(lock(&self.found).entry(key).or_default());
        let mut slot = lock(&slot);
        if let Some(known) = &*slot {
            return known.clone();
        }
        let names: Vec<String> = match namespace {
            Some(path) => vec![path],
            // Docker Hub's entry has a name of its own (Docker's `IndexServer`).
            None if registry == DEFAULT_REGISTRY => {
                ["https://index.docker.io/v1/", "index.docker.io", DEFAULT_REGISTRY, "registry-1.docker.io"]
                    .map(str::to_owned)
                    .to_vec()
            }
            None => vec![registry.to_owned(), format!("https://{registry}")],
        };
        let credential = ask(files, &names, registry, warn);
        *slot = Some(credential.clone());
        credential
    }
}

/// Looks a registry up in files, by any of its names.
fn ask(
    files: &[&File],
    names: &[String],
    registry: &str,
    warn: &dyn Fn(String),
) -> Option<(Credential, CredentialSource)> {
    for file in files {
        let found = |credential| Some((credential, CredentialSource::File(file.path.clone())));
        for name in names {
            match docker_credential::get_credential_from_reader(&file.content[..], name) {
                Ok(DockerCredential::IdentityToken(token)) if token.is_empty() => {}
                Ok(DockerCredential::IdentityToken(token)) => return found(Credential::Identity(token)),
                Ok(DockerCredential::UsernamePassword(user, password)) => {
                    // Docker pads the decoded text with NUL bytes.
                    return found(Credential::new(&user, password.trim_end_matches('\0')));
                }
                Err(CredentialRetrievalError::NoCredentialConfigured) => {}
                // The helpers' own words for "nothing stored" (docker-credential-helpers).
                Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
                    if stdout.contains("credentials not found")
                        || stderr.contains("credentials not found") => {}
                // Never what the helper wrote: it may be a secret.
                Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
                    warn(format!("{registry}: the credential helper `{helper}` failed"));
                    break;
                }
                Err(error) => {
                    warn(format!("{registry}: credentials could not be read: {error}"));
                    break;
                }
            }
        }
    }
    None
}

fn same_registry(given: &str, registry: &str) -> bool {
    let hub = |name: &str| matches!(name, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    given.eq_ignore_ascii_case(registry) || (hub(given) && hub(registry))
}

fn read(path: &Path) -> Result<File> {
    let content = std::fs::read(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        action: "the credentials could not be read",
        source,
    })?;
    // Nothing of the parser's message is kept: it can quote the content.
    let parsed: serde_json::Value = serde_json::from_slice(&content).map_err(|_| StoreError::Invalid {
        place: path.display().to_string(),
        why: "it is not a credential file (JSON)".to_owned(),
    })?;
    let keys = |field: &str| {
        parsed
            .get(field)
            .and_then(serde_json::Value::as_object)
            .map(|auths| auths.keys().cloned().collect())
            .unwrap_or_default()
    };
    Ok(File { path: path.to_owned(), content, keys: keys("auths"), helped: keys("credHelpers") })
}

/// A credential file, without what it keeps.
#[derive(Debug)]
pub struct CredentialFile {
    /// Where it is.
    pub path: PathBuf,
    /// The registries and namespaces that it or a helper has credentials for, sorted; or why it can't be read.
    pub entries: Result<Vec<String>>,
}

/// Lists the credential files that are there. No secret is handed out, and no helper run.
#[must_use]
pub fn credential_files(options: &Options) -> Vec<CredentialFile> {
    let paths = match &options.auth_file {
        Some(path) => std::slice::from_ref(path),
        None => &options.default_auth_files[..],
    };
    let files = paths.iter().map(|path| CredentialFile {
        path: path.clone(),
        entries: read(path).map(|file| {
            let mut entries: Vec<String> = file.keys.union(&file.helped).cloned().collect();
            entries.sort();
            entries
        }),
    });
    files
        .filter(|file| {
            !matches!(&file.entries, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(
        file: &str,
        given: &[(Option<&str>, &str, &str)],
        registry: &str,
        repository: &str,
    ) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        std::fs::write(&path, file).unwrap();
        let options = Options {
            auth_file: Some(path),
            credentials: given
                .iter()
                .map(|(host, user, password)| {
                    (host.map(str::to_owned), (*user).to_owned(), (*password).to_owned())
                })
                .collect(),
            ..Options::default()
        };
        let credentials = Credentials::new(&options, &mut Vec::new()).unwrap();
        let found = credentials.find(registry, repository, &|warning| panic!("{warning}"))?;
        Some(match found {
            Credential::Basic { user, password } => format!("{user}:{password}"),
            Credential::Identity(token) => format!("token {token}"),
        })
    }

    fn entry(text: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(text))
    }

    #[test]
    fn files_are_searched_by_namespace_then_registry() {
        let file = format!(
            r#"{{"auths":{{"r.example":{},"r.example/team":{},"https://index.docker.io/v1/":{},
               "t.example":{{"identitytoken":"abc"}},"n.example":{{}}}}}}"#,
            entry("u:p:q"),
            entry("t:s\0\0"),
            entry("hub:pw"),
        );
        let find = |registry, repository| find(&file, &[], registry, repository);
        assert_eq!(find("r.example", "app").as_deref(), Some("u:p:q"));
        assert_eq!(find("r.example", "team/app").as_deref(), Some("t:s"));
        assert_eq!(find("r.example", "teams/app").as_deref(), Some("u:p:q"));
        assert_eq!(find("docker.io", "library/x").as_deref(), Some("hub:pw"));
        assert_eq!(find("t.example", "x").as_deref(), Some("token abc"));
        assert_eq!(find("n.example", "x"), None);
        assert_eq!(find("other.example", "x"), None);
    }

    #[test]
    fn given_credentials_win_and_those_for_a_host_before_those_for_all() {
        let file = format!(r#"{{"auths":{{"r.example":{}}}}}"#, entry("file:f"));
        let given = [(None, "all", "a"), (Some("r.example"), "<token>", "tok")];
        assert_eq!(find(&file, &given, "r.example", "x").as_deref(), Some("token tok"));
        assert_eq!(find(&file, &given, "s.example", "x").as_deref(), Some("all:a"));
        assert_eq!(
            find("{}", &[(Some("index.docker.io"), "h", "p")], "docker.io", "library/x").as_deref(),
            Some("h:p")
        );
    }

    #[test]
    fn credentials_for_all_are_not_shown_to_mirrors() {
        let rules = |prefix: &str| {
            vec![Rule {
                prefix: prefix.to_owned(),
                mirrors: vec!["M.example:5000/cache".into()],
                ..Rule::default()
            }]
        };
        let of = |host: Option<&str>| (host.map(str::to_owned), "all".to_owned(), "a".to_owned());
        let found = |rules, given, registry: &str| {
            let options = Options { credentials: given, rules, ..Options::default() };
            let warnings = Mutex::new(Vec::new());
            let credentials = Credentials::new(&options, &mut Vec::new()).unwrap();
            let found = credentials.find(registry, "cache/app", &|text| lock(&warnings).push(text)).is_some();
            (found, warnings.into_inner().unwrap())
        };
        assert_eq!(found(rules("r.example"), vec![of(None)], "r.example"), (true, Vec::new()));
        let (is_shown, warnings) = found(rules("r.example"), vec![of(None)], "m.example:5000");
        assert!(!is_shown && warnings[0].contains("m.example:5000: it is a mirror"), "{warnings:?}");
        let both = vec![of(None), of(Some("m.example:5000"))];
        assert_eq!(found(rules("r.example"), both, "m.example:5000"), (true, Vec::new()));
        // A registry that stands for another path of itself is nobody else.
        assert!(found(rules("m.example:5000/team"), vec![of(None)], "m.example:5000").0);
    }

    #[test]
    fn a_file_of_a_place_of_its_own_goes_before_those_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, user: &str| {
            let path = folder.path().join(name);
            let content = format!(r#"{{"auths":{{"r.example":{0},"m.example":{0}}}}}"#, entry(user));
            std::fs::write(&path, content).unwrap();
            path
        };
        let rule = |prefix: &str, mirror: &str, path| Rule {
            prefix: prefix.to_owned(),
            mirrors: vec![mirror.into()],
            auth_file: Some(path),
            ..Rule::default()
        };
        let options = Options {
            auth_file: Some(file("all", "all:a")),
            rules: vec![
                rule("r.example/team", "m.example/team", file("team", "team:t")),
                rule("r.example/team/deep", "n.example", file("deep", "deep:d")),
            ],
            ..Options::default()
        };
        let credentials = Credentials::new(&options, &mut Vec::new()).unwrap();
        let user = |registry, repository| match credentials.find(registry, repository, &|w| panic!("{w}")) {
            Some(Credential::Basic { user, .. }) => user,
            _ => "nobody".to_owned(),
        };
        for (registry, repository, expected) in [
            ("r.example", "app", "all"),
            ("r.example", "team/app", "team"),
            ("r.example", "team/deep/app", "deep"),
            ("m.example", "team/app", "team"),
            ("m.example", "app", "all"),
            ("n.example", "app", "nobody"),
        ] {
            assert_eq!(user(registry, repository), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn a_file_of_a_place_of_its_own_goes_before_longer_namespaces_of_those_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let (own, all) = (folder.path().join("own"), folder.path().join("all"));
        std::fs::write(&own, format!(r#"{{"auths":{{"r.example":{}}}}}"#, entry("own:o"))).unwrap();
        let content = format!(
            r#"{{"auths":{{"r.example/team":{},"s.example/team":{}}}}}"#,
            entry("all:a"),
            entry("far:f")
        );
        std::fs::write(&all, content).unwrap();
        let rule = Rule { prefix: "r.example".to_owned(), auth_file: Some(own), ..Rule::default() };
        let other = Rule { prefix: "s.example".to_owned(), ..rule.clone() };
        let options = Options { auth_file: Some(all), rules: vec![rule, other], ..Options::default() };
        let credentials = Credentials::new(&options, &mut Vec::new()).unwrap();
        let user = |registry| match credentials.find(registry, "team/app", &|w| panic!("{w}")) {
            Some(Credential::Basic { user, .. }) => user,
            _ => "nobody".to_owned(),
        };
        assert_eq!(user("r.example"), "own");
        // What a file of its own does not know is looked up in those for all.
        assert_eq!(user("s.example"), "far");
    }

    #[test]
    fn a_named_file_must_be_there_and_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let mut options = Options { auth_file: Some(path.clone()), ..Options::default() };
        assert!(Credentials::new(&options, &mut Vec::new()).is_err());
        std::fs::write(&path, "secret!").unwrap();
        let error = Credentials::new(&options, &mut Vec::new()).err().unwrap();
        assert!(!format!("{error:?}").contains("secret"));
        options.auth_file = None;
        options.default_auth_files = vec![folder.path().join("absent"), path];
        let mut warnings = Vec::new();
        Credentials::new(&options, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
    }
}
