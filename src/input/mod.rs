//! What users bring: arguments and files, read into what a survey asks for.

mod argument;
mod choice;
pub mod file;
mod fill;
mod open;
mod order;
mod pin;
mod registry;
mod size;

pub use crate::store::is_attached_tag;
pub use argument::{Argument, InputError, Place, is_file, parse_argument, read_list};
pub use file::{FileError, read as read_order};
pub use fill::{Fill, SaidAt};
pub use open::{OpenError, Opened, Opener, Said};
pub use order::{
    Blocked, CatalogOrder, ChartOrder, ChartPlace, Defaults, ImageOrder, MirrorOrder, Order, RegistryOrder,
    ReleaseOrder, Spot, TagChoice, TagOrder,
};
pub use pin::pin;
pub(crate) use registry::wish;
pub use registry::{RegistryArgument, RegistryListing, RegistryPlace, list_registry};
pub use size::parse_size;
