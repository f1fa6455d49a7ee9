//! How patches for changed layers are made: the flags that `pack` and `diff` share.

use std::path::Path;
use std::sync::Arc;

use barge::base::{Contents, FarSide, media_type_of};
use barge::bundle::workshop::Workshop;
use barge::bundle::{Bundle, Union};
use barge::delta::make::Effort;
use barge::input::{RegistryArgument, RegistryPlace, is_file};
use barge::oci::Digest;
use barge::pack::{Asked, Making, PatchReport, PatchSpool};
use barge::store::Source;
use barge::store::registry::{Access, Client};

use super::failure::{BAD_INPUT, Failure};
use super::printer::{Printer, bytes, counted};
use super::work::WorkArgs;

/// How changed layers travel.
#[derive(clap::Args)]
#[command(next_help_heading = "Changed layers")]
pub struct PatchArgs {
    /// Sends only the changed bytes of layers that are like what the far side has
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    layer_delta: LayerDelta,
    /// Where layers of the base can be read, to find what changed: a bundle, a layout, a registry; repeatable
    #[arg(long, value_name = "PLACE")]
    base_content: Vec<String>,
    #[command(flatten)]
    work: WorkArgs,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum LayerDelta {
    /// Where that saves a tenth or more
    #[default]
    Auto,
    /// Never: every layer travels whole
    Off,
    /// As auto, trying more: several times slower, somewhat smaller
    Max,
}

/// Makes patches.
pub struct Maker {
    effort: Effort,
    far_side: Arc<FarSide>,
    contents: Arc<Contents>,
    workshop: Arc<Workshop>,
    memory: u64,
}

impl PatchArgs {
    /// Returns where patches are made and applied.
    pub fn workshop(&self) -> Result<Arc<Workshop>, Failure> {
        self.work.workshop()
    }

    /// Returns what makes patches against the far side; none where that is switched off. `bases` are what the far side
    /// was told by, `asked` what is to be packed: both may hold what it has.
    pub fn maker(
        &self,
        bases: &[String],
        far_side: &Arc<FarSide>,
        asked: &Asked,
        client: &Client,
    ) -> Result<Option<Maker>, Failure> {
        let effort = match self.layer_delta {
            LayerDelta::Off => return Ok(None),
            LayerDelta::Auto => Effort::Auto,
            LayerDelta::Max => Effort::Max,
        };
        let workshop = self.work.workshop()?;
        let mut places = Places::default();
        for text in &self.base_content {
            places.add(text, true, client)?;
        }
        for text in bases {
            places.add(text, false, client)?;
        }
        let mut files = places.sources;
        if !places.bundles.is_empty() {
            files.push(Arc::new(Union::new(places.bundles).working_in(workshop.clone())));
        }
        let from_files: std::collections::BTreeSet<usize> =
            asked.wishes.iter().filter(|wish| wish.reference.is_none()).map(|wish| wish.source).collect();
        let is_file =
            |at: &usize| asked.union.is_some() || asked.bundles.contains_key(at) || from_files.contains(at);
        files.extend((0..asked.sources.len()).filter(is_file).map(|at| asked.sources[at].clone()));
        let client = client.clone();
        let open =
            Box::new(move |name: &_| -> Arc<dyn Source> { Arc::new(client.repository(name, Access::Pull)) });
        let contents = Arc::new(Contents::new(files, places.registries, open));
        Ok(Some(Maker { effort, far_side: far_side.clone(), contents, workshop, memory: self.work.memory }))
    }
}

impl Maker {
    /// Returns how patches are made for the work that `name` stands for.
    pub fn making(&self, name: &Digest) -> Result<Making, Failure> {
        let spool = PatchSpool::open(self.workshop.scratch().folder(), name)?;
        Ok(self.making_in(Arc::new(spool)))
    }

    /// Returns how patches are made that are kept in a spool which others use too.
    pub fn making_in(&self, spool: Arc<PatchSpool>) -> Making {
        Making {
            effort: self.effort,
            far_side: self.far_side.clone(),
            contents: self.contents.clone(),
            workshop: self.workshop.clone(),
            memory: self.memory,
            spool,
        }
    }
}

/// Places that may hold what the far side has.
#[derive(Default)]
struct Places {
    bundles: Vec<Arc<Bundle>>,
    sources: Vec<Arc<dyn Source>>,
    registries: Vec<RegistryPlace>,
}

impl Places {
    /// Adds what an argument names. Documents that only say what the far side has hold nothing: that is an error only
    /// where content is asked for.
    fn add(&mut self, text: &str, is_content: bool, client: &Client) -> Result<(), Failure> {
        let path = ["oci:", "oci-archive:"].iter().find_map(|transport| text.strip_prefix(transport));
        let Some(path) = path.or_else(|| is_file(text).then_some(text)) else {
            match RegistryArgument::parse(text)? {
                RegistryArgument::Registry(place) => self.registries.push(place),
                RegistryArgument::Repository(name) => {
                    self.sources.push(Arc::new(client.repository(&name, Access::Pull)));
                }
                RegistryArgument::Image(image) => {
                    self.sources.push(Arc::new(client.repository(&image.name, Access::Pull)));
                }
            }
            return Ok(());
        };
        let path = Path::new(path);
        let unusable = |error: &dyn std::error::Error| Failure::new(BAD_INPUT, "base-content", error);
        let is_document = !path.is_dir() && media_type_of(path).map_err(|error| unusable(&error))?.is_some();
        match is_document {
            false => self.bundles.push(Arc::new(Bundle::open(path).map_err(|error| unusable(&error))?)),
            true if is_content => {
                let failure = Failure::usage(format!("{text} holds no content: it is a JSON document"));
                return Err(Failure { code: BAD_INPUT, kind: "base-content", ..failure }
                    .hint("name the bundle, a layout, or a registry that has the layers"));
            }
            true => {}
        }
        Ok(())
    }
}

/// Says what travels whole and why, where people should know.
pub fn warn(report: &PatchReport, printer: &Printer) {
    let lists = [
        (
            &report.unreadable,
            "travels whole, because the layer that it follows can't be read here (--base-content names a place that has it)",
        ),
        (&report.failed, "travels whole, because no patch could be made of it"),
    ];
    for (layers, cause) in lists {
        let items: Vec<String> =
            layers.iter().map(|one| format!("{} of {}: {}", one.digest, one.image, one.why)).collect();
        if !items.is_empty() {
            printer.warning(cause, &items);
        }
    }
}

/// Says what travels as patches.
pub fn print(report: &PatchReport, patched: &barge::plan::Patched, printer: &Printer) {
    if patched.count > 0 {
        printer.line(&format!(
            "  patches  {} in place of {}, {}: {} not sent",
            bytes(patched.bytes),
            counted(patched.count, "layer"),
            bytes(patched.content_bytes),
            bytes(patched.content_bytes.saturating_sub(patched.bytes)),
        ));
    }
    let parts = [
        (report.without_base, "with nothing older at the far side"),
        (report.without_gain, "that a patch would hardly make smaller"),
        (report.unreadable.len(), "of which what they follow can't be read here"),
        (report.failed.len(), "of which no patch could be made"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    let is_told = patched.count + report.unreadable.len() + report.failed.len() > 0;
    if !parts.is_empty() && is_told {
        printer.line(&format!("  whole    layers: {}", parts.join(", ")));
    }
}
