//! Working files and memory: the flags of all verbs that make or apply patches.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use barge::bundle::workshop::{Workshop, default_folder};
use barge::delta::make::MEMORY_MIN;

use super::args::parse_size;
use super::failure::{BAD_INPUT, Failure};

/// Where patches are made and applied.
#[derive(clap::Args)]
#[command(next_help_heading = "Changed layers")]
pub struct WorkArgs {
    /// How much memory patches may take, 256M at least
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, default_value = "512M")]
    pub memory: u64,
    /// Folder for working files: room for the unpacked layers in work, old and new; $TMPDIR or /var/tmp without it
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// One for the whole command: what is taken apart for one end is at hand for the other.
    #[arg(skip)]
    workshop: OnceLock<Arc<Workshop>>,
}

fn parse_memory(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size if size < MEMORY_MIN => Err("is less than 256M".to_owned()),
        size => Ok(size),
    }
}

impl WorkArgs {
    /// Returns where patches are made and applied.
    pub fn workshop(&self) -> Result<Arc<Workshop>, Failure> {
        if let Some(open) = self.workshop.get() {
            return Ok(open.clone());
        }
        let folder = self.scratch.clone().unwrap_or_else(default_folder);
        if !folder.is_dir() {
            let failure =
                Failure::usage(format!("the folder {} for working files does not exist", folder.display()));
            return Err(Failure { code: BAD_INPUT, kind: "scratch", ..failure }
                .hint("--scratch DIR names one that does"));
        }
        Ok(self.workshop.get_or_init(|| Arc::new(Workshop::new(&folder, self.memory))).clone())
    }
}
