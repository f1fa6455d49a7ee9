//! `barge resources`.

use std::path::PathBuf;

use barge::emit::resources::folder::{self, FolderError};
use barge::emit::resources::given::{self, Given, GivenError, Names, Paper};
use barge::emit::resources::{Made, OpenShift, Options, Taker, make};
use barge::graph::Part;
use barge::push::names::NamingError;
use barge::store::StoreError;
use serde_json::json;

use super::failure::{BAD_INPUT, Failure, SOME_FAILED};
use super::naming::{NamingArgs, destination};
use super::printer::{Printer, clean, counted, quoted};

/// How many files for one taker are listed before the rest is counted.
const SHOWN: usize = 20;

/// Writes the files that make clusters and container engines pull from where a push put the images.
///
/// From a bundle (or its .barge.json) names are made as `barge push` makes them: give the same options. A receipt, which
/// `barge push --receipt` wrote, says what is in place, under which names and with which digests. With both, the bundle
/// counts for the signatures of releases only.
#[derive(clap::Args)]
pub struct Args {
    /// Bundles, their .barge.json records, and receipts of pushes
    #[arg(value_name = "BUNDLE|RECEIPT", required = true)]
    papers: Vec<String>,
    /// The mirror, as clusters reach it; without it, what the receipt says
    #[arg(long, value_name = "REGISTRY[/PREFIX]")]
    registry: Option<String>,
    /// The folder for the files; it is made if it does not exist
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    // As an attribute: in a comment, the names would need marks that help shows as they are.
    #[arg(
        long,
        value_name = "VERSION",
        help = "For this version of OpenShift, e.g. 4.8: up to 4.12 content source policies in place of mirror sets, up to \
                4.17 no ClusterCatalog"
    )]
    ocp: Option<OpenShift>,
    /// The mirror is reached by plain HTTP
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    naming: NamingArgs,
}

/// Returns how images are named, and whether that was asked for.
fn names(args: &Args) -> Result<Names, Failure> {
    let destination = args.registry.as_deref().map(destination).transpose()?;
    let naming = destination.map(|destination| args.naming.naming(destination, None));
    Ok(Names { naming, has_rules: args.naming.has_rules() })
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    resources(args, printer).map_err(|failure| failure.of("resources"))
}

fn resources(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let names = names(args)?;
    let mut papers = Vec::new();
    for text in &args.papers {
        let path = text.strip_prefix("oci-archive:").or_else(|| text.strip_prefix("oci:")).unwrap_or(text);
        papers.push(Paper::read(path.as_ref())?);
    }
    for paper in &papers {
        if let Paper::Bundle(bundle) = paper
            && let Some(fault) = bundle.fault()
        {
            printer.warning("the bundle is damaged", &[format!("{}: {fault}", bundle.path().display())]);
        }
    }
    let given = given::read(&papers, &names)?;
    if !given.left_out.is_empty() {
        let items: Vec<String> = given.left_out.values().cloned().collect();
        printer.warning("not at the mirror, and so in none of the files", &items);
    }
    if given.images.is_empty() {
        let failure = Failure::usage("no image is at the mirror, so there is nothing to write");
        return Err(Failure { code: BAD_INPUT, kind: "nothing", ..failure });
    }
    let options = Options { openshift: args.ocp, is_insecure: args.insecure };
    let made = make(&given.images, &given.signatures, &options);
    for (cause, items) in given.said.iter().chain(&made.said) {
        printer.warning(cause, &items.iter().cloned().collect::<Vec<_>>());
    }
    let written = folder::write(&made, &args.output)?;
    if !written.stale.is_empty() {
        printer.warning("left by an earlier run and not part of this one: remove it", &written.stale);
    }
    print_notes(args, &given, &made, printer);
    Ok(print(args, &given, &made, written.changed, &written.stale, printer))
}

/// Says what holds for whole kinds of files.
fn print_notes(args: &Args, given: &Given, made: &Made, printer: &Printer) {
    let has = |start: &str| made.files.iter().any(|file| file.path.starts_with(start));
    let charts = given.images.iter().filter(|image| image.part == Part::Chart).count();
    if charts > 0 {
        printer.note(&format!(
            "note: {} in images.txt only: no cluster or engine pulls charts",
            if charts == 1 { "1 chart is".to_owned() } else { format!("{charts} charts are") }
        ));
    }
    if has("cc-") && args.ocp.is_none() {
        printer.note("note: cc-*.yaml is for OpenShift 4.18 and later; --ocp VERSION leaves out what yours does not know");
    }
    if args.insecure && (has("idms-") || has("itms-") || has("icsp-") || has("cs-")) {
        printer.note(
            "note: OpenShift takes a registry without TLS only where `oc edit image.config.openshift.io/cluster` lists it \
             under registrySources.insecureRegistries",
        );
    }
}

fn print(args: &Args, given: &Given, made: &Made, changed: bool, stale: &[String], printer: &Printer) -> u8 {
    let folder = args.output.display().to_string();
    let (outcome, code) = match (given.left_out.is_empty(), changed) {
        (false, _) => ("PARTIAL", SOME_FAILED),
        (true, true) => ("DONE", 0),
        (true, false) => ("NOTHING CHANGED", 0),
    };
    printer.line(&format!(
        "{outcome}: {} for {} are in {folder}",
        counted(made.files.len(), "file"),
        counted(given.images.len(), "image")
    ));
    for (taker, title) in [
        (Taker::OpenShift, "OpenShift"),
        (Taker::Podman, "podman, CRI-O, skopeo: into /etc/containers"),
        (
            Taker::Containerd,
            "containerd: certs.d into /etc/containerd, with config_path = /etc/containerd/certs.d",
        ),
        (Taker::Rancher, "k3s, RKE2: into /etc/rancher/k3s or rke2"),
        (Taker::Everybody, "everybody"),
    ] {
        let files: Vec<_> = made.files.iter().filter(|file| file.taker == taker).collect();
        if !files.is_empty() {
            printer.line(&format!("  {title}"));
        }
        for file in files.iter().take(SHOWN) {
            printer.line(&format!("    {}  {}", file.path, file.what));
        }
        if files.len() > SHOWN {
            printer.line(&format!("    and {} more (all with --json)", files.len() - SHOWN));
        }
    }
    let is_openshift = args.ocp.is_some()
        || given.images.iter().any(|image| !matches!(image.part, Part::Image | Part::Chart));
    let applied = made.files.iter().any(|file| file.taker == Taker::OpenShift);
    let next = (is_openshift && applied).then(|| format!("oc apply -f {}", quoted(&folder)));
    if let Some(next) = &next {
        printer.line(&format!("next: {next}"));
    }
    let files: Vec<_> = made
        .files
        .iter()
        .map(|file| json!({ "path": file.path, "what": file.what, "bytes": file.bytes.len() }))
        .collect();
    printer.document(
        "resources",
        code,
        json!({
            "files": files,
            "folder": folder,
            "images": given.images.len(),
            "leftOut": given.left_out.values().map(|text| clean(text)).collect::<Vec<_>>(),
            "next": next,
            "outcome": outcome,
            "stale": stale,
        }),
    );
    code
}

fn naming(error: &NamingError) -> Failure {
    Failure::new(2, "input", error)
}

impl From<GivenError> for Failure {
    fn from(error: GivenError) -> Self {
        let failure = Self::new(BAD_INPUT, "input", &error);
        match error {
            GivenError::Store(error) => store(error),
            GivenError::Naming(error) => naming(&error),
            GivenError::NoRegistry(_) => Self { code: 2, kind: "usage", ..failure }
                .hint("give --registry HOST[:PORT][/PREFIX], as it was given to `barge push`")
                .hint("or give the receipt that `barge push --receipt FILE` wrote, in place of the bundle or with it"),
            GivenError::Unnamed => Self { code: 2, kind: "usage", ..failure }.hint("leave them out"),
            GivenError::OtherPath { ref wanted, .. } => Self { code: 2, kind: "usage", ..failure }
                .hint(format!("--registry {} keeps the paths of the receipt", wanted.registry)),
            GivenError::Nameless(_) => {
                failure.hint("have the push write another one without --omit-names, or give the bundle and --registry")
            }
            GivenError::Other { .. } => {
                failure.hint("give bundles, their .barge.json records, or receipts (`barge push --receipt FILE`)")
            }
            GivenError::Receipt(_) | GivenError::Record(..) | GivenError::Unreadable { .. } => Self {
                kind: "damaged",
                ..failure
            }
            .hint("if it was whole where it was written, copy it again"),
        }
    }
}

fn store(error: StoreError) -> Failure {
    error.into()
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        let failure = Self::new(BAD_INPUT, "local", &error);
        match error {
            FolderError::Foreign(_) => Self { kind: "exists", ..failure }
                .hint("NOTHING CHANGED: no file was written")
                .hint("remove it, or name another folder with -o"),
            FolderError::Io { .. } => failure.hint("name another folder with -o"),
            FolderError::Transfer(error) => error.into(),
        }
    }
}
