//! What users bring: arguments and lists, read into what a survey asks for.

mod argument;
mod open;

pub use crate::store::is_attached_tag;
pub use argument::{Argument, InputError, Place, parse_argument, read_list};
pub use open::{OpenError, Opened, Opener};
