//! `barge pack`.

use std::path::PathBuf;

use barge::input::{Opened, Opener, parse_argument};
use barge::pack::Asked;
use barge::request::Request;
use barge::store::registry::Client;

use super::args::RegistryArgs;
use super::base::BaseArgs;
use super::carry::{Carrier, CarryArgs, output};
use super::failure::Failure;
use super::fill::{FillArgs, Named, Orders, announce, asked, check_access};
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
    fill: FillArgs,
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
    args.carry.facts.check()?;
    let orders = args.fill.read()?;
    let attachments = orders.attachments(args.carry.attachments(), "--attachments")?;
    let client = args.registry.client_with(orders.rules()?)?;
    let request = args.base.request()?;
    let opened = open(args, &orders, request.as_ref(), &client)?;
    announce(&opened, printer);
    orders.note_for_later(printer);
    let relied = args.base.relied(request.as_ref(), &client, args.registry.jobs, printer)?;
    let mut options = args.carry.options(output, args.registry.jobs);
    options.attachments = attachments;
    let (relied, far_side) = relied.unzip();
    let is_request = request.is_some();
    let asked = Asked { relied, request, ..asked(opened) };
    let maker = match far_side.filter(|_| !is_request && !args.carry.dry_run) {
        Some(far_side) => args.patches.maker(&args.base.base, &far_side, &asked, &client)?,
        None => None,
    };
    let carrier = Carrier { verb: "pack", args: &args.carry, client: Some(&client), printer, tells: true };
    carrier.run(asked, options, maker.as_ref()).map(|carried| carried.code)
}

fn open(args: &Args, orders: &Orders, request: Option<&Request>, client: &Client) -> Result<Opened, Failure> {
    let named = Named { images: &args.images, lists: &args.from_file, all_tags: &args.all_tags };
    let mut opener = orders.open(named, &args.carry.platform, client)?;
    if let (true, Some(request)) = (orders.ask_for_nothing(named), request) {
        add_requested(&mut opener, request)?;
    }
    let opened = opener.finish()?;
    check_access(&opened, client, args.carry.keep_going)?;
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
