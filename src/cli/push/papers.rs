//! What a push hands back: the receipt, the request for what is missing, the state code, and the names no longer wanted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use barge::bundle::chain::{Chain, file_name};
use barge::bundle::{Bundle, Union};
use barge::graph::reliance::{BaseEntry, BaseKind};
use barge::graph::survey::Failure as Unread;
use barge::inventory::{Inventory, OutcomeRow, state_code};
use barge::oci::{Digest, Platform, Reference};
use barge::push::report::{ImageOutcome, Report};
use barge::push::{Missing, Shortage, pieces_are};
use barge::request::{Request, WantedBlob, WantedImage};
use barge::select::Reason;
use barge::store::StoreError;

use super::job::Job;
use crate::cli::failure::{BAD_INPUT, Failure};
use crate::cli::printer::{Printer, counted, quoted};

/// Up to how many pieces of content may all have been lost, so that it does not tell that they never were there.
const FEW: usize = 8;

/// What is written for the way back.
#[derive(clap::Args)]
#[command(next_help_heading = "For the way back")]
pub(super) struct PaperArgs {
    /// Writes what the target holds now, as a base for the next bundle; compressed if FILE ends in .zst
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Where to write what is missing, if something is; `BUNDLE.request.json` in this folder without it
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Leaves all names out of the receipt and the request
    #[arg(long)]
    omit_names: bool,
}

/// The papers of one push of bundles.
pub(super) struct Papers<'a> {
    pub(super) args: &'a PaperArgs,
    pub(super) chain: &'a Chain,
    pub(super) union: &'a Union,
    /// The arguments that name the bundles.
    pub(super) files: &'a [String],
    /// The argument that names the target.
    pub(super) target: &'a str,
}

impl Papers<'_> {
    fn bundles(&self) -> Vec<Digest> {
        self.union.bundles().iter().filter_map(|bundle| bundle.id()).cloned().collect()
    }

    /// Refuses, before anything is pushed, files for the way back that could not be written, or that would replace
    /// something else.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(path) = &self.args.receipt {
            // That of another site is what its next bundle is made on.
            let target = self.target.strip_prefix("docker://").unwrap_or(self.target).trim_end_matches('/');
            let fits = |receipt: Inventory| receipt.target.is_none_or(|of| of == target);
            check_file(path, "--receipt", "a receipt of this target", |path| {
                Inventory::read(path).is_ok_and(fits)
            })?;
        }
        if let Some(path) = &self.args.request {
            check_file(path, "--request", "a request", |path| Request::read(path).is_ok())?;
        }
        Ok(())
    }

    /// Returns the bundles as they were typed.
    fn words(&self) -> String {
        self.files.iter().map(|file| quoted(file)).collect::<Vec<_>>().join(" ")
    }

    /// Returns where the request goes.
    fn request_path(&self) -> PathBuf {
        if let Some(path) = &self.args.request {
            return path.clone();
        }
        let name = self.union.bundles().first().and_then(|bundle| bundle.path().file_name());
        let name = name.map_or_else(|| "push".to_owned(), |name| name.to_string_lossy().into_owned());
        let stem = [".oci.tar", ".tar.zst", ".tar", ".barge"].iter().find_map(|end| name.strip_suffix(end));
        PathBuf::from(format!("{}.request.json", stem.unwrap_or(&name)))
    }

    /// Writes the request for what is missing; returns the file, or why there is none.
    fn write_request(&self, mut request: Request) -> Result<PathBuf, String> {
        let path = self.request_path();
        let shown = path.display();
        if std::fs::symlink_metadata(&path).is_ok() && Request::read(&path).is_err() {
            return Err(format!("{shown} is something else and stays: --request FILE names another file"));
        }
        if self.args.omit_names {
            request.omit_names();
        }
        match request.write(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err(format!(
                "the request could not be written: {}; --request FILE names another place",
                barge::store::chain(&error)
            )),
        }
    }

    /// Completes the failure of a push that found content missing: what happened, and what to do next.
    pub(super) fn explain(&self, failure: Failure, shortage: &Shortage, is_rehearsal: bool) -> Failure {
        let mut failure = failure.hint("NOTHING CHANGED: nothing was written to the target");
        let going = shortage.images - shortage.affected;
        failure = match going {
            0 => failure.hint(format!("all of {} need it", counted(shortage.images, "image"))),
            _ => failure.hint(format!(
                "{} of {} need it; {going} could go on with --keep-going",
                shortage.affected,
                counted(shortage.images, "image")
            )),
        };
        let mut next = None;
        if !is_rehearsal || self.args.request.is_some() {
            match self.write_request(barge::push::request(&shortage.missing, self.bundles())) {
                Ok(path) => {
                    failure = failure.hint(format!("{} lists what is missing", path.display()));
                    next = Some(top_up(&path));
                }
                Err(why) => failure = failure.hint(why),
            }
        }
        let relied = self.relied_on(&shortage.missing);
        let not_given: Vec<(&Bundle, &BaseEntry)> = relied
            .iter()
            .copied()
            .filter(|(_, base)| base.kind == BaseKind::Bundle && !self.chain.has(base))
            .collect();
        if let Some((bundle, _)) = relied.iter().find(|(_, base)| base.kind == BaseKind::Request) {
            return failure
                .hint(format!(
                    "{} only tops up a bundle that lacked something: name that bundle too",
                    file_name(bundle)
                ))
                .next(format!("barge push BUNDLE {} {}", self.words(), quoted(self.target)));
        }
        if let [(bundle, base), ..] = not_given[..] {
            let own = file_name(bundle);
            let name = base.name.clone().unwrap_or_else(|| format!("barge-{}.oci.tar", base.id.short()));
            failure = failure
                .hint(format!("{own} follows {name} ({}…), which was not given: have it?", base.id.short()))
                .hint("if not, carry the list back; what comes of it is pushed together with this");
            let names: BTreeSet<&str> =
                not_given.iter().filter_map(|(_, base)| base.name.as_deref()).collect();
            let mut words: Vec<&str> =
                if names.is_empty() { vec![&name] } else { names.into_iter().collect() };
            words.extend(self.files.iter().map(String::as_str));
            words.push(self.target);
            let words: Vec<String> = words.into_iter().map(quoted).collect();
            return failure.next(format!("barge push {}", words.join(" ")));
        }
        if relied.is_empty() {
            return Failure { next, ..failure };
        }
        let states: BTreeSet<&str> = relied.iter().filter_map(|(_, base)| base.state.as_deref()).collect();
        let states: Vec<&str> = states.into_iter().collect();
        let site = match states.is_empty() {
            true => "it was made for another state".to_owned(),
            false => format!("it was made for a site in state {}", states.join(" or ")),
        };
        let lost = "as after a garbage collection: carry the request back, and push the top-up that it gives together \
                    with this";
        let is_all = shortage.missing.len() == shortage.relied;
        failure = failure.hint(match () {
            () if is_all && shortage.relied > FEW => format!(
                "nothing of what it relies on is there: it looks like a bundle for another site; {site}"
            ),
            // One lost layer may be all that a small bundle relies on.
            () if is_all => format!(
                "nothing of what it relies on is there: either the target had it when the base was taken and has it \
                 no more, {lost}; or it is a bundle for another site: {site}"
            ),
            () => format!("the target had it when the base was taken and has it no more, {lost}"),
        });
        Failure { next, ..failure }
    }

    /// Returns the bases of those bundles that rely on some of what is missing.
    fn relied_on(&self, missing: &[Missing]) -> Vec<(&Bundle, &BaseEntry)> {
        let mut bases = Vec::new();
        for bundle in self.union.bundles() {
            let Some(record) = bundle.record() else { continue };
            let relies = missing
                .iter()
                .any(|one| record.absent.find(&one.digest).is_some_and(|row| row.reason == Reason::Base));
            if relies && let Some(base) = &record.base {
                bases.extend(base.bases.iter().map(|base| (&**bundle, base)));
            }
        }
        bases
    }

    /// Makes the receipt.
    pub(super) fn receipt(&self, job: &Job<'_>, report: &Report, unread: &[Unread]) -> Inventory {
        let mut receipt = barge::push::receipt(report, &job.naming, self.bundles());
        for one in unread {
            let wish = job.wishes.iter().find(|wish| wish.name == one.name);
            let Some(root) = wish.and_then(|wish| wish.selector.parse::<Digest>().ok()) else { continue };
            receipt.outcomes.push(OutcomeRow {
                image: Some(one.name.clone()),
                new_root: None,
                outcome: ImageOutcome::Failed.as_str().to_owned(),
                part: wish.map(|wish| wish.part).unwrap_or_default(),
                reference: wish.and_then(|wish| wish.reference.clone()),
                root,
                target: job.naming.target(&one.name).ok(),
                why: Some(barge::store::chain(&*one.error)),
            });
        }
        receipt.outcomes.sort_by_cached_key(|row| row.image.as_ref().map(ToString::to_string));
        if self.args.omit_names {
            receipt.omit_names();
        }
        receipt
    }

    /// Writes the receipt where it was asked for.
    pub(super) fn write_receipt(&self, receipt: &Inventory) -> Result<(), Failure> {
        let Some(path) = &self.args.receipt else { return Ok(()) };
        let is_compressed = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("zst"));
        barge::transfer::write_whole(path, |out| receipt.write(out.by_ref(), is_compressed))?;
        Ok(())
    }

    /// Writes the request for content that images failed for; returns what to type next, if there is such content.
    pub(super) fn request_rest(
        &self,
        report: &Report,
        unread: &[Unread],
        printer: &Printer,
    ) -> Option<String> {
        let mut request = barge::push::request(&report.missing, self.bundles());
        let mut wanted = Vec::new();
        for one in unread {
            if let StoreError::Damaged { digest, .. } = &*one.error
                && let Some((size, media_type)) = self.described(digest)
            {
                let blob = WantedBlob { digest: digest.clone(), images: Vec::new(), media_type, size };
                let image = WantedImage {
                    name: Some(one.name.to_string()),
                    platforms: Vec::new(),
                    reference: None,
                    root: None,
                };
                wanted.push((blob, vec![image]));
            }
        }
        if !wanted.is_empty() {
            let known = request.blobs.iter().map(|blob| {
                let images = blob.images.iter().map(|at| request.images[*at as usize].clone());
                (WantedBlob { images: Vec::new(), ..blob.clone() }, images.collect())
            });
            wanted.extend(known);
            request = Request::new(wanted, self.bundles());
        }
        if request.blobs.is_empty() {
            return None;
        }
        self.hand_out(request, printer)
    }

    /// Writes a request and says so; returns what to type next.
    fn hand_out(&self, request: Request, printer: &Printer) -> Option<String> {
        let count = request.blobs.len();
        match self.write_request(request) {
            Ok(path) => {
                printer.line(&format!("  {} missing, listed in {}", pieces_are(count), path.display()));
                Some(top_up(&path))
            }
            Err(why) => {
                printer.warning("the list of what is missing was not written", &[why]);
                None
            }
        }
    }

    /// Writes the request for what a rehearsal found missing, where a file for it was named; returns what to type next.
    pub(super) fn request_rehearsed(&self, shortage: &Shortage, printer: &Printer) -> Option<String> {
        self.args.request.as_ref()?;
        self.hand_out(barge::push::request(&shortage.missing, self.bundles()), printer)
    }

    /// Returns size and type of content, as a record has it.
    fn described(&self, digest: &Digest) -> Option<(u64, String)> {
        self.union.bundles().iter().find_map(|bundle| {
            let (_, row) = bundle.record()?.blobs.find(digest)?;
            Some((row.size, row.media_type.to_owned()))
        })
    }

    /// Says the state code of what is in place, and whether it is what the bundles say.
    pub(super) fn print_state(&self, job: &Job<'_>, report: &Report, printer: &Printer) {
        let state = report.content.state();
        let wanted: HashSet<(&Reference, &str)> =
            job.wishes.iter().map(|wish| (&wish.name, wish.selector.as_str())).collect();
        let mut expected: BTreeMap<(String, &Digest), BTreeSet<&Platform>> = BTreeMap::new();
        let records = self.union.bundles().iter().filter_map(|bundle| bundle.record());
        for image in records.flat_map(|record| &record.images) {
            if wanted.contains(&(&image.name, image.root.to_string().as_str())) {
                let key = (image.name.to_string(), &image.root);
                expected.entry(key).or_default().extend(&image.platforms);
            }
        }
        // Layouts of others have no record that says what is expected.
        let verdict = if expected.len() < job.wishes.len() {
            String::new()
        } else {
            let rows: Vec<(String, &Digest, Vec<Platform>)> = expected
                .into_iter()
                .map(|((name, root), platforms)| (name, root, platforms.into_iter().cloned().collect()))
                .collect();
            let code =
                state_code(rows.iter().map(|(name, root, platforms)| (name.clone(), *root, &platforms[..])));
            match job.wishes.len() - report.content.images.len().min(job.wishes.len()) {
                _ if code == state => "  as the bundle says".to_owned(),
                0 => format!("  where the bundle says {code}"),
                lacking => format!("  where the bundle says {code}: {} missing", counted(lacking, "image")),
            }
        };
        printer.line(&format!("  state    {state}{verdict}"));
    }

    /// Lists the names that the packing side no longer wants.
    pub(super) fn print_removed(&self, printer: &Printer) {
        if !self.chain.removed.is_empty() {
            let removed: Vec<String> = self.chain.removed.iter().cloned().collect();
            printer.warning("no longer wanted by the packing side; nothing is deleted", &removed);
        }
    }
}

/// Refuses a file that is there and is not what is to be written, and one in a folder that takes none.
fn check_file(path: &Path, flag: &str, what: &str, fits: impl Fn(&Path) -> bool) -> Result<(), Failure> {
    let shown = path.display();
    let refused = |why: String| Failure { code: BAD_INPUT, kind: "output", ..Failure::usage(why) };
    // A device or a pipe is not read: it may never end.
    if std::fs::symlink_metadata(path).is_ok() && !(path.is_file() && fits(path)) {
        return Err(refused(format!("{shown} is there and is not {what}: it stays, and nothing was pushed"))
            .hint(format!("{flag} FILE names another file")));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Rights alone do not tell: the medium may be mounted read-only.
    tempfile::Builder::new().prefix(".barge-").tempfile_in(folder).map(drop).map_err(|error| {
        Failure { causes: vec![error.to_string()], ..refused(format!("{shown} can't be written")) }
            .hint("NOTHING CHANGED: nothing was written to the target")
            .hint(format!("make the folder first, or {flag} FILE names another place"))
    })
}

fn top_up(path: &Path) -> String {
    let path = quoted(&path.display().to_string());
    format!("carry {path} to the packing side: barge pack --request {path} -o topup.barge")
}
