//! What the far side has: the flags that `pack` and `diff` share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barge::base::{FarSide, Joining, Known, load_file};
use barge::input::{RegistryArgument, RegistryPlace, is_file};
use barge::pack::{Leftover, Relied};
use barge::request::Request;
use barge::stocktake::{Options, take};
use barge::store::registry::Client;

use super::failure::{BAD_INPUT, Failure, REGISTRY};
use super::printer::{Printer, quoted};

/// From what age on people are told how old a base is.
const OLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the far side has.
#[derive(clap::Args)]
#[command(next_help_heading = "What the far side has")]
pub struct BaseArgs {
    /// Leaves out what the far side has: an inventory, a receipt, a bundle or its sidecar, a layout, a registry or an
    /// image in one; repeatable
    #[arg(long, value_name = "BASE")]
    pub base: Vec<String>,
    #[command(flatten)]
    common: JoinArgs,
}

/// How bases are joined, and what is asked for.
#[derive(clap::Args)]
#[command(next_help_heading = "What the far side has")]
pub struct JoinArgs {
    /// What bases of different targets mean together
    #[arg(long, value_enum, value_name = "HOW")]
    bases: Option<BasesArg>,
    /// Packs only what a request asks for, with the manifests of the images that need it
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum BasesArg {
    /// What any of them has
    Union,
    /// What all of them have: one bundle fits every site
    Common,
}

impl BaseArgs {
    /// Reads the request, if one is named.
    pub fn request(&self) -> Result<Option<Request>, Failure> {
        if self.common.request.is_some() && !self.base.is_empty() {
            return Err(Failure::usage("--request and --base do not go together")
                .hint("a request says itself what the far side has: everything but what it asks for"));
        }
        self.common.request()
    }

    /// Returns what the far side is taken to have; none if nothing says that.
    pub fn relied(
        &self,
        request: Option<&Request>,
        client: &Client,
        jobs: usize,
        printer: &Printer,
    ) -> Result<Option<(Relied, Arc<FarSide>)>, Failure> {
        if request.is_none() && self.base.is_empty() {
            return Ok(None);
        }
        let far_side = Arc::new(self.common.far_side(&self.base, request, client, jobs, printer)?);
        let relied = Relied {
            bases: far_side.entries.clone(),
            holds: far_side.clone(),
            // Who packs one image says nothing of all the others.
            removed: Box::new(|_| std::collections::BTreeSet::new()),
            leftover: Leftover::Refused,
        };
        Ok(Some((relied, far_side)))
    }
}

impl JoinArgs {
    /// Returns whether a request is named.
    pub fn is_request(&self) -> bool {
        self.request.is_some()
    }

    /// Reads the request, if one is named.
    pub fn request(&self) -> Result<Option<Request>, Failure> {
        let Some(path) = &self.request else { return Ok(None) };
        Request::read(path)
            .map(Some)
            .map_err(|error| Failure::local(format!("the request {} can't be used", path.display()), &error))
    }

    /// Returns what is known of the far side.
    pub fn far_side(
        &self,
        bases: &[String],
        request: Option<&Request>,
        client: &Client,
        jobs: usize,
        printer: &Printer,
    ) -> Result<FarSide, Failure> {
        if let Some(request) = request {
            return Ok(FarSide::all_but(request.clone()));
        }
        let known = bases.iter().map(|text| load(text, client, jobs, printer));
        let known = known.collect::<Result<Vec<Known>, Failure>>()?;
        let joining = self.bases.map(|how| match how {
            BasesArg::Union => Joining::Union,
            BasesArg::Common => Joining::Common,
        });
        FarSide::join(known, joining).map_err(|error| {
            Failure::new(2, "different-targets", &error)
                .hint("--bases common leaves out what all of them have: one bundle that fits each of them")
                .hint("--bases union leaves out what any of them has, if they are one site after all")
                .hint("barge diff --each makes one bundle for each")
        })
    }
}

/// Looks at a registry, to take it for a base.
fn live(text: &str, client: &Client, jobs: usize, printer: &Printer) -> Result<Known, Failure> {
    let argument = RegistryArgument::parse(text)?;
    let options = Options { check_blobs: false, jobs, journal: None, restart: false };
    let taken = take(client, std::slice::from_ref(&argument), &options, &|_| {});
    let taken = taken.map_err(|error| super::inventory::failed(error, None))?;
    let failed: Vec<String> = taken
        .inventory
        .failed
        .iter()
        .map(|row| format!("{}: {}", row.name.as_deref().unwrap_or_default(), row.why))
        .collect();
    if !failed.is_empty() && !matches!(argument, RegistryArgument::Registry(_)) {
        let failure = Failure::usage(format!("the base {text} can't be read"));
        return Err(Failure { code: REGISTRY, kind: "base", causes: failed, ..failure }
            .hint("what was named must be there: without it everything would travel"));
    }
    if !failed.is_empty() {
        printer.warning("can't be read in the base, and is taken for absent", &failed);
    }
    match (&argument, RegistryPlace::of(std::slice::from_ref(&argument))?) {
        (RegistryArgument::Image(_), Some(place)) => Ok(Known::of_source(taken.inventory, &place)),
        _ => Ok(Known::of_registry(taken.inventory)),
    }
}

/// Loads a base.
pub fn load(text: &str, client: &Client, jobs: usize, printer: &Printer) -> Result<Known, Failure> {
    let path = ["oci:", "oci-archive:"].iter().find_map(|transport| text.strip_prefix(transport));
    let path = path.or_else(|| is_file(text).then_some(text));
    let Some(path) = path else { return live(text, client, jobs, printer) };
    let known = load_file(path.as_ref(), jobs);
    if let Ok(known) = &known
        && let Some(age) = barge::inventory::age(&known.taken).filter(|age| *age > OLD)
    {
        let days = age.as_secs() / (24 * 3600);
        printer.note(&format!(
            "note: {path} is {days} days old; what the far side lost since, push will ask for"
        ));
    }
    known.map_err(|error| {
        let failure = Failure::new(BAD_INPUT, "base", &error);
        match &error {
            barge::base::BaseError::Damaged { .. } => failure.next(format!("barge verify {}", quoted(path))),
            _ => failure.hint(
                "a base is an inventory, a receipt, a bundle, its .barge.json, a layout, or a registry",
            ),
        }
    })
}
