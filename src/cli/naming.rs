//! How images are named at a target: the arguments of all verbs that name one.

use barge::oci::Reference;
use barge::push::names::{Destination, MapRule, Naming, NamingError};

use super::failure::Failure;

/// Where credentials are given.
pub const LOGIN: &str = "log in with --authfile FILE or --creds USER:PASSWORD";

/// How images are named at the target.
#[derive(clap::Args)]
#[command(next_help_heading = "Target")]
pub struct NamingArgs {
    /// Puts repositories at or below SOURCE at or below TARGET; the longest rule that fits is taken
    #[arg(long, value_name = "SOURCE=TARGET")]
    map: Vec<MapRule>,
    /// `false` keeps the host of the source registry as the first part of the path
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    strip_registry: bool,
    /// Joins the last parts of longer paths, so that no two become one
    #[arg(long, value_name = "N")]
    max_path_components: Option<usize>,
}

impl NamingArgs {
    /// Returns how images are named below `destination`, or what the one image is called.
    pub fn naming(&self, destination: Destination, exact: Option<Reference>) -> Naming {
        Naming {
            destination,
            rules: self.map.clone(),
            strip_registry: self.strip_registry,
            max_components: self.max_path_components,
            exact,
        }
    }

    /// Returns whether any of them was given.
    pub fn has_rules(&self) -> bool {
        !self.map.is_empty() || !self.strip_registry || self.max_path_components.is_some()
    }
}

/// Reads the registry and the path below it.
pub fn destination(text: &str) -> Result<Destination, Failure> {
    text.parse().map_err(|error: NamingError| {
        let failure = Failure::new(2, "input", &error);
        match error {
            NamingError::Login(_) => failure.hint(LOGIN),
            _ => failure,
        }
    })
}
