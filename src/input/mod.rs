//! What users bring: arguments and lists, read into what a survey asks for.

mod argument;
mod open;
mod pin;
mod registry;

pub use crate::store::is_attached_tag;
pub use argument::{Argument, InputError, Place, is_file, parse_argument, read_list};
pub use open::{OpenError, Opened, Opener};
pub use pin::pin;
pub(crate) use registry::wish;
pub use registry::{RegistryArgument, RegistryListing, RegistryPlace, list_registry};
