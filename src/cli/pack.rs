//! `barge pack`.

use std::path::PathBuf;

use barge::input::{Opened, Opener, parse_argument, read_list};
use barge::oci::RepositoryName;
use barge::pack::Asked;
use barge::request::Request;
use barge::store::registry::Client;

use super::args::RegistryArgs;
use super::base::BaseArgs;
use super::carry::{Carrier, CarryArgs, output};
use super::failure::Failure;
use super::patches::PatchArgs;
use super::printer::Printer;

/// Packs images from registries, layouts and archives into one file.
///
/// An image is a reference (`registry.example/app:v1`), `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`,
/// `docker-archive:FILE[:TAG]`, or a file by its path; `NAME=` before it gives it another name. The file is written
/// as FILE.partial; the same command goes on where an interrupted one stopped.
#[derive(clap::Args)]
pub struct Args {
    /// What to pack: [NAME=]SOURCE
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Packs what a list names: one image a line, `#` starts a comment
    #[arg(long, value_name = "LIST")]
    from_file: Vec<PathBuf>,
    /// Packs every tag of a repository
    #[arg(long, value_name = "REPOSITORY")]
    all_tags: Vec<String>,
    /// Where the bundle goes: a file, a folder (the file gets a name of its own there), or oci:DIR for a layout
    #[arg(long, short, value_name = "OUTPUT")]
    output: Option<String>,
    #[command(flatten)]
    carry: CarryArgs,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    patches: PatchArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the verb.
pub fn run(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    pack(args, printer).map_err(|failure| failure.of("pack"))
}

fn pack(args: &Args, printer: &Printer) -> Result<u8, Failure> {
    let output = output(args.output.as_deref(), &args.carry)?;
    let client = args.registry.client()?;
    let request = args.base.request()?;
    let opened = open(args, request.as_ref(), &client)?;
    for note in &opened.notes {
        printer.note(&format!("note: {note}"));
    }
    let relied = args.base.relied(request.as_ref(), &client, args.registry.jobs, printer)?;
    let options = args.carry.options(output, args.registry.jobs, request.as_ref());
    let Opened { sources, wishes, bundles, arguments, .. } = opened;
    let (relied, far_side) = relied.unzip();
    let is_request = request.is_some();
    let asked = Asked { sources, wishes, bundles, arguments, relied, request, ..Asked::default() };
    let maker = match far_side.filter(|_| !is_request && !args.carry.dry_run) {
        Some(far_side) => args.patches.maker(&args.base.base, &far_side, &asked, &client)?,
        None => None,
    };
    let carrier = Carrier { verb: "pack", args: &args.carry, client: Some(&client), printer, tells: true };
    carrier.run(asked, options, maker.as_ref()).map(|carried| carried.code)
}

fn open(args: &Args, request: Option<&Request>, client: &Client) -> Result<Opened, Failure> {
    let mut opener = Opener::new(client);
    for text in &args.images {
        opener.add(&parse_argument(text)?)?;
    }
    for list in &args.from_file {
        for argument in read_list(list)? {
            opener.add(&argument)?;
        }
    }
    for text in &args.all_tags {
        let name: RepositoryName =
            text.strip_prefix("docker://").unwrap_or(text).parse().map_err(|error| {
                Failure::new(2, "input", &barge::input::InputError::Reference(text.clone(), error))
            })?;
        opener.add_all_tags(&name)?;
    }
    let asked_for_nothing = args.images.is_empty() && args.from_file.is_empty() && args.all_tags.is_empty();
    if let (true, Some(request)) = (asked_for_nothing, request) {
        add_requested(&mut opener, request)?;
    }
    let opened = opener.finish();
    // Every repository is asked before anything else happens, so that a missing login shows at once.
    let mut checked = std::collections::HashSet::new();
    for wish in &opened.wishes {
        if let Some(reference) = &wish.reference
            && !opened.bundles.contains_key(&wish.source)
            && checked.insert(reference.name.clone())
            && let Err(error) = client.places(&reference.name).check()
            && !args.carry.keep_going
        {
            return Err(error.into());
        }
    }
    Ok(opened)
}

/// Adds the images of a request, from where they were packed.
fn add_requested(opener: &mut Opener<'_>, request: &Request) -> Result<(), Failure> {
    let mut lacking = Vec::new();
    for image in &request.images {
        match (&image.name, &image.reference) {
            (Some(name), Some(reference)) => opener.add(&parse_argument(&format!("{name}={reference}"))?)?,
            _ => lacking.push(image.name.clone().unwrap_or_else(|| "an image without a name".to_owned())),
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::usage("the request does not say where its images were packed from");
    failure.causes = lacking;
    Err(failure
        .hint("name the images, or a bundle that has them: barge pack --request FILE IMAGE… -o topup.barge"))
}
