//! `barge push` and `barge mirror`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use barge::bundle::Bundle;
use barge::graph::spool::Spool;
use barge::graph::survey::{self, Survey, Wish};
use barge::input::{Opener, parse_argument, read_list};
use barge::oci::{Platform, Reference};
use barge::push::names::{Destination, MapRule, Naming};
use barge::push::report::{ImageOutcome, Report};
use barge::push::source::{Everything, Held, Known, Union};
use barge::push::sparse::Policy;
use barge::push::{Missing, Options, Prepared, PresenceProof, PushError};
use barge::select::{Attachments, Select, Wanted};
use barge::store::Source;
use barge::store::registry::Client;
use serde_json::json;

use super::args::{RegistryArgs, parse_platform};
use super::failure::{BASE_MISSING, Failure, REGISTRY, SOME_FAILED, chain};
use super::pack::duration;
use super::printer::{Printer, bytes, counted, quoted};
use super::progress::Bars;
use super::{interrupt, print_client_warnings};

/// How to write to the target.
#[derive(clap::Args)]
#[command(next_help_heading = "Target")]
struct TargetArgs {
    /// What to do when the registry refuses an index of which platforms were left out
    #[arg(long, value_enum, default_value_t)]
    sparse: SparseArg,
    /// Puts repositories at or below SOURCE at or below TARGET; the longest rule that fits is taken
    #[arg(long, value_name = "SOURCE=TARGET")]
    map: Vec<MapRule>,
    /// `false` keeps the host of the source registry as the first part of the path
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    strip_registry: bool,
    /// Joins the last parts of longer paths, so that no two become one
    #[arg(long, value_name = "N")]
    max_path_components: Option<usize>,
    /// Tags the images of each platform too, for registries that delete what has no tag
    #[arg(long)]
    tag_children: bool,
    /// How to find out what the target has: by reading a byte, or by asking
    #[arg(long, value_enum, default_value_t)]
    presence: PresenceArg,
    /// Goes on with the other images when some fail
    #[arg(long)]
    keep_going: bool,
    /// Says what would be uploaded, mounted and skipped, and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Writes the digests that --sparse rewrite or single changed, old and new, as JSON
    #[arg(long, value_name = "FILE")]
    digest_map: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum SparseArg {
    /// The exact index, or the image fails
    #[default]
    Require,
    /// A new index of what is there, under a new digest
    Rewrite,
    /// The one platform that is there, under the tag
    Single,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum PresenceArg {
    /// Reads a byte: registries' caches lie
    #[default]
    Read,
    /// Asks (HEAD): faster, and wrong after some garbage collections
    Head,
}

/// Pushes bundles into a registry.
///
/// Several bundles are one source, in any order. Nothing is written before all of them fit together; content goes
/// first, tags last, so that no image is ever half there. The same command goes on where an interrupted one stopped.
#[derive(clap::Args)]
pub struct PushArgs {
    /// The bundles, then the registry: BUNDLE… HOST[:PORT][/PREFIX]
    #[arg(value_name = "BUNDLE|REGISTRY", required = true, num_args = 2..)]
    arguments: Vec<String>,
    /// Pushes only this image; repeatable
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Copies images from registry to registry, through memory only.
///
/// With one image, a target with a path names the repository it becomes (HOST/REPOSITORY[:TAG]); with several, or with
/// a slash at its end, everything goes below it under its own name.
#[derive(clap::Args)]
pub struct MirrorArgs {
    /// The images, then the target: [NAME=]IMAGE… TARGET
    #[arg(value_name = "IMAGE|TARGET", required = true, num_args = 1..)]
    arguments: Vec<String>,
    /// Mirrors what a list names too
    #[arg(long, value_name = "LIST")]
    from_file: Vec<PathBuf>,
    /// Platforms to mirror, e.g. linux/amd64,linux/arm/v7; all without it
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',', value_parser = parse_platform)]
    platform: Vec<Platform>,
    /// Leaves out signatures, attestations, SBOMs and other referrers
    #[arg(long)]
    no_attachments: bool,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs `push`.
pub fn run_push(args: &PushArgs, printer: &Printer) -> Result<u8, Failure> {
    push(args, printer).map_err(|failure| failure.of("push"))
}

/// Runs `mirror`.
pub fn run_mirror(args: &MirrorArgs, printer: &Printer) -> Result<u8, Failure> {
    mirror(args, printer).map_err(|failure| failure.of("mirror"))
}

fn push(args: &PushArgs, printer: &Printer) -> Result<u8, Failure> {
    let Some((target, files)) = args.arguments.split_last() else {
        return Err(Failure::usage("name the bundles, then the registry"));
    };
    let destination = destination(target)?;
    let mut bundles = Vec::new();
    for file in files {
        let path = file.strip_prefix("oci-archive:").or_else(|| file.strip_prefix("oci:")).unwrap_or(file);
        let bundle = Bundle::open(path.as_ref())?;
        if let Some(fault) = bundle.fault() {
            let failure = Failure::usage(format!("{file}: {fault}"));
            if !args.target.keep_going {
                return Err(Failure { code: super::failure::BAD_INPUT, kind: "damaged", ..failure }
                    .hint("--keep-going pushes the images that are whole")
                    .next(format!("barge verify {} --request resend.json", quoted(file))));
            }
            printer.warning("the bundle is damaged", &[failure.message]);
        }
        bundles.push(Arc::new(bundle));
    }
    let wishes = wishes_of(&bundles, &args.image)?;
    let failed: Vec<String> = bundles
        .iter()
        .filter_map(|bundle| bundle.record())
        .flat_map(|record| record.failed.iter().map(|failed| failed.name.to_string()))
        .collect();
    if !failed.is_empty() {
        printer.warning("not in the bundle, because it could not be had when it was packed", &failed);
    }
    let union = Arc::new(Union::new(bundles));
    let select = Held(&union);
    let sources: Vec<Arc<dyn Source>> = vec![union.clone()];
    let job = Job {
        verb: "push",
        command: format!(
            "barge push {}",
            args.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        ),
        sources,
        wishes,
        select: &select,
        attachments: Attachments::All,
        naming: naming(&args.target, destination, None),
        target: &args.target,
        client: args.registry.client()?,
        jobs: args.registry.jobs,
        known: &*union,
    };
    job.run(printer)
}

/// Returns what the bundles hold by name. A name in several bundles means what the last one says.
fn wishes_of(bundles: &[Arc<Bundle>], only: &[String]) -> Result<Vec<Wish>, Failure> {
    let mut by_name: std::collections::BTreeMap<String, Wish> = std::collections::BTreeMap::new();
    for bundle in bundles {
        for (name, descriptor) in bundle.names()? {
            let reference = name.as_deref().and_then(|name| name.parse::<Reference>().ok());
            let is_attached =
                |reference: &Reference| reference.tag.as_deref().is_some_and(barge::input::is_attached_tag);
            let Some(name) = reference.filter(|reference| !is_attached(reference)) else { continue };
            let name = name.with_default_tag();
            let selector = descriptor.digest.to_string();
            by_name.insert(name.to_string(), Wish { name, reference: None, source: 0, selector });
        }
    }
    let mut chosen = Vec::new();
    for wanted in only {
        let full = wanted.parse::<Reference>().map(|reference| reference.with_default_tag().to_string());
        let found = by_name.get(wanted).or_else(|| by_name.get(full.as_deref().unwrap_or_default()));
        let Some(wish) = found else {
            let mut failure = Failure::usage(format!("the bundle holds no image {wanted}"));
            (failure.code, failure.kind) = (super::failure::BAD_INPUT, "no-image");
            failure.hints = by_name.keys().take(10).map(|name| format!("it holds {name}")).collect();
            return Err(failure);
        };
        chosen.push(wish.clone());
    }
    Ok(if only.is_empty() { by_name.into_values().collect() } else { chosen })
}

fn mirror(args: &MirrorArgs, printer: &Printer) -> Result<u8, Failure> {
    let Some((target, images)) = args.arguments.split_last() else {
        return Err(Failure::usage("name the images, then the target"));
    };
    let client = args.registry.client()?;
    let mut opener = Opener::new(&client);
    for text in images {
        opener.add(&parse_argument(text)?)?;
    }
    for list in &args.from_file {
        for argument in read_list(list)? {
            opener.add(&argument)?;
        }
    }
    let opened = opener.finish();
    for note in &opened.notes {
        printer.note(&format!("note: {note}"));
    }
    let exact = match target.strip_prefix("docker://").unwrap_or(target) {
        text if opened.wishes.len() == 1 && text.contains('/') && !text.ends_with('/') => {
            Some(text.parse::<Reference>().map_err(|error| Failure::new(2, "input", &error))?)
        }
        _ => None,
    };
    let destination = match &exact {
        Some(exact) => Destination { registry: exact.name.registry.clone(), prefix: String::new() },
        None => destination(target)?,
    };
    let select = Wanted { platforms: args.platform.clone(), foreign_layers: false };
    let job = Job {
        verb: "mirror",
        command: format!(
            "barge mirror {}",
            args.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        ),
        sources: opened.sources,
        wishes: opened.wishes,
        select: &select,
        attachments: if args.no_attachments { Attachments::None } else { Attachments::All },
        naming: naming(&args.target, destination, exact),
        target: &args.target,
        client,
        jobs: args.registry.jobs,
        known: &Everything,
    };
    job.run(printer)
}

fn destination(text: &str) -> Result<Destination, Failure> {
    text.parse().map_err(|error: barge::push::names::NamingError| Failure::new(2, "input", &error))
}

fn naming(args: &TargetArgs, destination: Destination, exact: Option<Reference>) -> Naming {
    Naming {
        destination,
        rules: args.map.clone(),
        strip_registry: args.strip_registry,
        max_components: args.max_path_components,
        exact,
    }
}

/// A push or mirror with its arguments resolved.
struct Job<'a> {
    verb: &'static str,
    command: String,
    sources: Vec<Arc<dyn Source>>,
    wishes: Vec<Wish>,
    select: &'a dyn Select,
    attachments: Attachments,
    naming: Naming,
    target: &'a TargetArgs,
    client: Client,
    jobs: usize,
    known: &'a dyn Known,
}

impl Job<'_> {
    fn run(&self, printer: &Printer) -> Result<u8, Failure> {
        let began = Instant::now();
        interrupt::says("the same command goes on: what the registry has is not sent again");
        if self.wishes.is_empty() {
            return Err(failure_of(&PushError::NoImages, self));
        }
        let spool = Spool::temporary()
            .map_err(|error| Failure::local("no temporary file can be made".to_owned(), &error))?;
        let options = survey::Options {
            select: self.select,
            attachments: self.attachments,
            keep_unselected: false,
            keep_going: self.target.keep_going,
            jobs: self.jobs,
        };
        let mut survey = Survey::run(&self.sources, &self.wishes, spool, &options)
            .map_err(|error| Failure::from(barge::transfer::TransferError::from(error)))?;
        let failures = std::mem::take(&mut survey.failures);
        if survey.roots.is_empty() {
            return Err(failure_of(&PushError::NothingLeft(failures), self));
        }
        let unread: Vec<String> =
            failures.iter().map(|failure| format!("{}: {}", failure.name, chain(&*failure.error))).collect();
        if !unread.is_empty() {
            printer.warning("can't be read from the source", &unread);
        }
        let options = Options {
            naming: self.naming.clone(),
            policy: match self.target.sparse {
                SparseArg::Require => Policy::Require,
                SparseArg::Rewrite => Policy::Rewrite,
                SparseArg::Single => Policy::Single,
            },
            tag_children: self.target.tag_children,
            presence: match self.target.presence {
                PresenceArg::Read => PresenceProof::Read,
                PresenceArg::Head => PresenceProof::Head,
            },
            trust_manifests: false,
            keep_going: self.target.keep_going,
            jobs: self.jobs,
        };
        let prepared = Prepared::new(&survey, self.select, &self.sources, &self.client, options, self.known)
            .map_err(|error| failure_of(&error, self))?;
        print_client_warnings(&self.client, printer);
        if self.target.dry_run {
            return self.rehearse(&prepared, printer);
        }
        let bars = Bars::new(printer, if self.verb == "push" { "pushing" } else { "mirroring" });
        let report = prepared.run(&bars);
        bars.clear();
        print_client_warnings(&self.client, printer);
        let report = report.map_err(|error| failure_of(&error, self))?;
        self.write_digest_map(&report)?;
        Ok(self.print(&report, &unread, began, printer))
    }

    fn rehearse(&self, prepared: &Prepared<'_>, printer: &Printer) -> Result<u8, Failure> {
        let rehearsal = prepared.rehearse().map_err(|error| failure_of(&error, self))?;
        for step in &rehearsal.steps {
            printer.line(&format!(
                "{:6} {}  {}  {}",
                step.action,
                step.repository,
                step.what,
                bytes(step.size)
            ));
        }
        let uploads = rehearsal.steps.iter().filter(|step| step.action == "upload");
        let (count, size) = uploads.fold((0, 0), |(count, size), step| (count + 1, size + step.size));
        printer.line(&format!("{} to upload, {}", counted(count, "blob"), bytes(size)));
        printer.line("NOTHING CHANGED: this was a dry run");
        printer.document(
            self.verb,
            0,
            json!({ "outcome": "NOTHING CHANGED", "dryRun": true, "steps": rehearsal.steps }),
        );
        Ok(0)
    }

    fn write_digest_map(&self, report: &Report) -> Result<(), Failure> {
        let Some(path) = &self.target.digest_map else { return Ok(()) };
        let map = digest_map(report);
        barge::transfer::write_whole(path, |out| {
            std::io::Write::write_all(out, format!("{map:#}\n").as_bytes())
        })?;
        Ok(())
    }

    fn print(&self, report: &Report, unread: &[String], began: Instant, printer: &Printer) -> u8 {
        let counts = report.counts;
        let (failed, refused) =
            (report.count(ImageOutcome::Failed) + unread.len(), report.count(ImageOutcome::Refused));
        let total = report.images.len() + unread.len();
        let good = total - failed - refused;
        let (code, outcome) = match () {
            () if failed + refused == 0 && !counts.changed() => (0, "NOTHING CHANGED"),
            () if failed + refused == 0 => (0, "DONE"),
            () if good == 0 && failed == 0 => (REGISTRY, "PARTIAL"),
            () => (SOME_FAILED, "PARTIAL"),
        };
        let by_outcome = |outcome| report.images.iter().filter(move |image| image.outcome == outcome);
        let with_reason = |image: &barge::push::report::ImageReport| {
            format!("{}: {}", image.name, image.why.as_deref().unwrap_or("no reason is known"))
        };
        let failures: Vec<String> = by_outcome(ImageOutcome::Failed).map(with_reason).collect();
        if !failures.is_empty() {
            printer.warning("not pushed; the tag is what it was", &failures);
        }
        print_refusals(report, printer);
        let destination = &self.naming.destination;
        let place = match &self.naming.exact {
            Some(exact) => exact.name.to_string(),
            None if destination.prefix.is_empty() => destination.registry.clone(),
            None => format!("{}/{}", destination.registry, destination.prefix),
        };
        match outcome {
            "NOTHING CHANGED" => {
                printer.line(&format!(
                    "NOTHING CHANGED: {place} has all of {} already",
                    counted(total, "image")
                ));
            }
            "DONE" => printer.line(&format!("DONE: {place} has {}", counted(total, "image"))),
            _ => printer.line(&format!("PARTIAL: {place} has {good} of {}", counted(total, "image"))),
        }
        for image in by_outcome(ImageOutcome::Pushed) {
            let digest = image.new_root.as_ref().unwrap_or(&image.root);
            printer.line(&format!("  {}  {digest}", image.target));
        }
        printer.line(&format!(
            "  uploaded {}, {}; mounted {}, {}; there before {}, {}",
            counted(counts.uploaded_blobs as usize, "blob"),
            bytes(counts.uploaded_bytes),
            counted(counts.mounted_blobs as usize, "blob"),
            bytes(counts.mounted_bytes),
            counted(counts.present_blobs as usize, "blob"),
            bytes(counts.present_bytes),
        ));
        printer.line(&format!(
            "  manifests {} written, {} there before; {} written; {}",
            counts.manifests_written,
            counts.manifests_present,
            counted(counts.tags_written as usize, "tag"),
            duration(began.elapsed()),
        ));
        let next = match () {
            () if failed > 0 => Some(format!("{} --keep-going   (after the cause is mended)", self.command)),
            () if refused > 0 => Some(format!("{} --sparse rewrite", self.command)),
            () => None,
        };
        if let Some(next) = next {
            printer.line(&format!("next: {next}"));
        }
        let mut document = json!({
            "outcome": outcome,
            "images": report.images,
            "unread": unread,
            "counts": counts,
            "digestMap": digest_map(report),
            "seconds": began.elapsed().as_secs_f64(),
        });
        if let Some(fields) = document.as_object_mut() {
            fields.insert("target".to_owned(), json!(place));
        }
        printer.document(self.verb, code, document);
        code
    }
}

/// Says of refused sparse indexes what can be done about them.
fn print_refusals(report: &Report, printer: &Printer) {
    let refused: Vec<&barge::push::report::ImageReport> =
        report.images.iter().filter(|image| image.outcome == ImageOutcome::Refused).collect();
    let rewritten: Vec<String> = report
        .images
        .iter()
        .filter_map(|image| {
            Some(format!("{}: {} is now {}", image.name, image.root, image.new_root.as_ref()?))
        })
        .collect();
    if !rewritten.is_empty() {
        printer
            .warning("has another digest at the target; signatures of the old one do not fit it", &rewritten);
    }
    let dropped: Vec<String> = report
        .images
        .iter()
        .flat_map(|image| image.dropped.iter().map(move |digest| format!("{digest} of {}", image.name)))
        .collect();
    if !dropped.is_empty() {
        printer.warning("attached to an index that was changed, so it was not pushed", &dropped);
    }
    if refused.is_empty() {
        return;
    }
    let items: Vec<String> = refused
        .iter()
        .map(|image| format!("{}: {}", image.name, image.why.as_deref().unwrap_or_default()))
        .collect();
    printer.warning("the registry refuses an index of which platforms were left out", &items);
    printer.note(
        "hint: the registry may have a setting for it: distribution 3 `validation.manifests.indexes.platforms: none`, \
         quay `FEATURE_SPARSE_INDEX: true`; docker-registry 2.8, Harbor, Nexus, Gitea and GitLab have none",
    );
    printer.note(
        "hint: --sparse rewrite makes a new index of what is there; --sparse single pushes the one platform",
    );
    printer.note("hint: or pack all platforms: without --platform nothing is left out");
    let pinned: Vec<String> = refused
        .iter()
        .filter(|image| image.name.digest.is_some())
        .map(|image| image.name.to_string())
        .collect();
    if !pinned.is_empty() {
        printer.warning("asked for by digest, which --sparse rewrite would change", &pinned);
    }
}

/// Returns old and new digests, image by image.
fn digest_map(report: &Report) -> serde_json::Value {
    let changed = report.images.iter().filter_map(|image| {
        let new = image.new_root.as_ref()?;
        Some(json!({ "image": image.name, "target": image.target, "old": image.root, "new": new }))
    });
    serde_json::Value::Array(changed.collect())
}

/// Turns a push's error into a failure with what to do next.
fn failure_of(error: &PushError, job: &Job<'_>) -> Failure {
    let listed = |missing: &[Missing]| -> Vec<String> {
        missing
            .iter()
            .take(10)
            .map(|one| {
                let image = one.images.first().and_then(|image| image.name.as_deref()).unwrap_or("no image");
                format!("{} ({}) of {image}", one.digest, bytes(one.size))
            })
            .collect()
    };
    match error {
        PushError::NoImages => Failure::new(super::failure::BAD_INPUT, "empty", error),
        PushError::NothingLeft(failures) => {
            let mut failure = Failure::new(super::failure::BAD_INPUT, "nothing-left", error);
            failure.causes =
                failures.iter().take(10).map(|one| format!("{}: {}", one.name, chain(&*one.error))).collect();
            failure
        }
        PushError::Naming(_) => {
            Failure::new(2, "naming", error).hint("--map SOURCE=TARGET gives other names")
        }
        PushError::Graph(_) => Failure::new(super::failure::BAD_INPUT, "graph", error),
        PushError::Repository { source, .. } => {
            let (code, kind, hint) = super::failure::store(source);
            let failure = Failure::new(code, kind, error);
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        PushError::Missing(shortage) => {
            let mut failure = Failure::new(BASE_MISSING, "base-missing", error);
            failure.causes = listed(&shortage.missing);
            failure
                .hint("nothing was changed at the target")
                .hint("push the bundle that holds them first, or together")
        }
        PushError::NoRepositories(repositories) => {
            let mut failure = Failure::new(REGISTRY, "no-repository", error);
            failure.causes.clone_from(repositories);
            failure.hint("make these repositories at the registry first").next(job.command.clone())
        }
        PushError::Blob { source, .. } => {
            let (code, kind, hint) = super::failure::store(source);
            let mut failure = Failure::new(code, kind, error);
            if let Some(hint) = hint {
                failure = failure.hint(hint);
            }
            failure.hint("no tag was touched; --keep-going pushes the other images").next(job.command.clone())
        }
    }
}
