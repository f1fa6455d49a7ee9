//! What a site should have: bundles, a registry, or the inventory of one.

use std::cell::RefCell;

use barge::base::{KnownImage, media_type_of};
use barge::bundle::chain::Chain;
use barge::graph::survey::Wish;
use barge::input::{Opened, RegistryArgument, RegistryListing, is_file, list_registry};
use barge::inventory::{INVENTORY_TYPE, Inventory, RECEIPT_TYPE};
use barge::oci::Reference;
use barge::pack::{Asked, Options, Output};
use barge::select::Attachments;
use barge::store::registry::Client;

use super::Args;
use crate::cli::bundles::{note_failed, open_chain, sources, wishes};
use crate::cli::failure::{BAD_INPUT, Failure};
use crate::cli::fill::{Named, Orders, announce, asked, check_access};
use crate::cli::printer::Printer;

/// What a site should have.
pub enum Target {
    /// Bundles, in order.
    Bundles(Box<Chain>),
    /// What a registry lists, and how it was named.
    Registry(RegistryListing, Vec<RegistryArgument>),
    /// What files ask for, taken once; and which attached content is wanted.
    Files(RefCell<Option<Opened>>, Attachments),
    /// What somebody found elsewhere; nothing can be packed of it.
    Inventory(Box<Inventory>),
}

/// Tells whether an image of the base is among what the target speaks of.
type Coverage = Box<dyn Fn(&KnownImage) -> bool + Send + Sync>;

impl Target {
    /// Opens what the arguments name.
    pub fn open(
        texts: &[String],
        only: &[String],
        client: &Client,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let in_file =
            |text: &&String| is_file(text) || text.starts_with("oci:") || text.starts_with("oci-archive:");
        let files = texts.iter().filter(in_file).count();
        if files > 0 && files < texts.len() {
            return Err(Failure::usage("the target is either files or places at one registry, not both")
                .hint("the first argument is the base; further bases go with --base"));
        }
        if files == 0 {
            let parsed = texts.iter().map(|text| RegistryArgument::parse(text));
            let arguments = parsed.collect::<Result<Vec<_>, _>>()?;
            let mut listing = list_registry(client, &arguments)?
                .ok_or_else(|| Failure::usage("no registry, repository or image was named"))?;
            keep_meant(&mut listing.wishes, only)?;
            return Ok(Self::Registry(listing, arguments));
        }
        if let [only_file] = texts
            && let Some(inventory) = inventory(only_file)?
        {
            return Ok(Self::Inventory(Box::new(inventory)));
        }
        let chain = open_chain(texts, None)?;
        note_failed(&chain, printer);
        Ok(Self::Bundles(Box::new(chain)))
    }

    /// Opens what files ask for.
    pub fn of_files(
        orders: &Orders,
        attachments: Attachments,
        args: &Args,
        client: &Client,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let opener = orders.open(Named::default(), &args.carry.platform, client)?;
        let mut opened = opener.finish()?;
        announce(&opened, printer);
        orders.note_for_later(printer);
        check_access(&opened, client, args.carry.keep_going)?;
        keep_meant(&mut opened.wishes, &args.image)?;
        Ok(Self::Files(RefCell::new(Some(opened)), attachments))
    }

    /// Returns what is asked for; the base is to be filled in.
    pub fn asked(&self, args: &Args) -> Result<Asked, Failure> {
        let mut arguments: Vec<String> = args.arguments.iter().map(|text| format!("diff {text}")).collect();
        arguments.extend(args.image.iter().map(|name| format!("image {name}")));
        match self {
            Self::Bundles(chain) => {
                let (union, wishes) = wishes(chain, &args.image, args.patches.workshop()?)?;
                arguments
                    .extend(chain.bundles.iter().filter_map(|bundle| bundle.id()).map(ToString::to_string));
                Ok(Asked {
                    sources: sources(&union),
                    wishes,
                    union: Some(union),
                    arguments,
                    ..Asked::default()
                })
            }
            Self::Registry(listing, _) => Ok(Asked {
                sources: listing.sources.clone(),
                wishes: listing.wishes.clone(),
                arguments,
                ..Asked::default()
            }),
            Self::Files(opened, _) => {
                let mut asked = opened.take().map(asked).unwrap_or_default();
                asked.arguments.extend(arguments);
                Ok(asked)
            }
            Self::Inventory(_) => Ok(Asked::default()),
        }
    }

    /// Returns how to pack.
    pub fn options(&self, args: &Args, output: Output) -> Options {
        let mut options = args.carry.options(output, args.registry.jobs);
        // What bundles have is taken; what they left out stays left out.
        options.wanted.foreign_layers |= matches!(self, Self::Bundles(_));
        if let Self::Files(_, attachments) = self {
            options.attachments = *attachments;
        }
        options
    }

    /// Tells which names of a base the target has or should have: of those alone it can be said that they are gone.
    pub fn coverage(&self, only: &[String]) -> Coverage {
        let only: Vec<String> = only.to_vec();
        let is_meant =
            move |image: &KnownImage| only.is_empty() || only.iter().any(|wanted| image.is_meant_by(wanted));
        match self {
            Self::Inventory(_) => Box::new(is_meant),
            // Files name images: of what else is at the place they came from they say nothing.
            Self::Files(..) => Box::new(|_| false),
            // Deltas speak of what they bring; of all else they say themselves what is no longer wanted.
            Self::Bundles(chain) if chain.is_all_deltas() => {
                let removed = chain.removed.clone();
                Box::new(move |image| {
                    is_meant(image) && image.shown().is_some_and(|name| removed.contains(&name))
                })
            }
            Self::Bundles(chain) => {
                let failed = chain.failed.clone();
                Box::new(move |image| {
                    // What could not be had when the bundles were packed is wanted all the same.
                    let is_failed = || match (&image.source, &image.path) {
                        (Some(source), _) => failed.contains(&source.to_string()),
                        (None, Some(path)) => failed
                            .iter()
                            .any(|name| name.parse::<Reference>().is_ok_and(|name| name.path() == *path)),
                        (None, None) => false,
                    };
                    is_meant(image) && !is_failed()
                })
            }
            Self::Registry(_, arguments) => {
                let arguments = arguments.clone();
                Box::new(move |image| {
                    is_meant(image) && arguments.iter().any(|argument| covers(argument, image))
                })
            }
        }
    }
}

/// Returns whether an argument names the place where an image would be, were it still wanted.
fn covers(argument: &RegistryArgument, image: &KnownImage) -> bool {
    match argument {
        RegistryArgument::Registry(place) => match &image.source {
            Some(source) => place.relative(&source.name).is_some(),
            None if place.prefix.is_empty() => true,
            None => image.repository().is_some_and(|name| name.starts_with(&format!("{}/", place.prefix))),
        },
        RegistryArgument::Repository(name) => match &image.source {
            Some(source) => source.name == *name,
            None => image.repository() == Some(name.repository.as_str()),
        },
        RegistryArgument::Image(_) => false,
    }
}

/// Takes away what was not asked for.
fn keep_meant(wishes: &mut Vec<Wish>, only: &[String]) -> Result<(), Failure> {
    for wanted in only {
        if !wishes.iter().any(|wish| wish.name.is_meant_by(wanted)) {
            let failure = Failure::usage(format!("the target has no image {wanted}"));
            let hints = wishes.iter().take(10).map(|wish| format!("it has {}", wish.name)).collect();
            return Err(Failure { code: BAD_INPUT, kind: "no-image", hints, ..failure });
        }
    }
    if !only.is_empty() {
        wishes.retain(|wish| only.iter().any(|wanted| wish.name.is_meant_by(wanted)));
    }
    Ok(())
}

/// Reads an inventory or receipt; none if the file is something else.
fn inventory(text: &str) -> Result<Option<Inventory>, Failure> {
    let path = std::path::Path::new(text);
    if !path.is_file() {
        return Ok(None);
    }
    let kind = media_type_of(path).map_err(|error| Failure::new(BAD_INPUT, "target", &error))?;
    match kind.as_deref() {
        Some(INVENTORY_TYPE | RECEIPT_TYPE) => {
            Inventory::read(path).map(Some).map_err(|error| Failure::new(BAD_INPUT, "target", &error))
        }
        Some(_) => {
            Err(Failure::usage(format!("{text} holds no images: it is a JSON document of another kind"))
                .hint("the target is a bundle, a layout, a registry, or an inventory"))
        }
        None => Ok(None),
    }
}
