//! What users bring: arguments and lists, read into what a survey asks for.

mod argument;
mod open;
mod registry;

pub use argument::{Argument, InputError, Place, parse_argument, read_list};
pub use open::{OpenError, Opened, Opener, is_attached_tag};
pub(crate) use registry::wish;
pub use registry::{RegistryArgument, RegistryListing, RegistryPlace, list_registry};
