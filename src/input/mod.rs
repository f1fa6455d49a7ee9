//! What users bring: arguments and lists, read into what a survey asks for.

mod argument;
mod fill;
mod open;
mod order;
mod pin;
mod registry;

pub use crate::store::is_attached_tag;
pub use argument::{Argument, InputError, Place, is_file, parse_argument, read_list};
pub use fill::{Fill, SaidAt};
pub use open::{OpenError, Opened, Opener, Said};
pub use order::{
    Blocked, CatalogOrder, ChartOrder, ChartPlace, Defaults, ImageOrder, Order, RegistryOrder, ReleaseOrder,
    Spot, TagChoice, TagOrder,
};
pub use pin::pin;
pub(crate) use registry::wish;
pub use registry::{RegistryArgument, RegistryListing, RegistryPlace, list_registry};
