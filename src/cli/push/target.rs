//! How to write to the target, as the command line says it.

use std::path::PathBuf;
use std::sync::Arc;

use barge::bundle::workshop::Workshop;
use barge::oci::Reference;
use barge::push::names::{Destination, Naming};
use barge::push::sparse::Policy;
use barge::push::{Options, PresenceProof};

use crate::cli::naming::NamingArgs;

/// How to write to the target.
#[derive(clap::Args)]
#[command(next_help_heading = "Target")]
pub(super) struct TargetArgs {
    #[command(flatten)]
    names: NamingArgs,
    /// What to do when the registry refuses an index of which platforms were left out; require without it
    #[arg(long, value_enum)]
    pub(super) sparse: Option<SparseArg>,
    /// Tags the images of each platform too, for registries that delete what has no tag
    #[arg(long)]
    tag_children: bool,
    /// How to find out what the target has: by reading a byte, or by asking
    #[arg(long, value_enum, default_value_t)]
    presence: PresenceArg,
    /// Takes for present what a manifest at the target refers to, without reading it: fewer requests, and wrong after some
    /// garbage collections
    #[arg(long)]
    trust_manifests: bool,
    /// Goes on with the other images when some fail
    #[arg(long)]
    pub(super) keep_going: bool,
    /// Says what would be uploaded, mounted and skipped, and writes nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Writes the digests that were changed on purpose, old and new, as JSON: rebuilt catalogs, and --sparse rewrite or
    /// single
    #[arg(long, value_name = "FILE")]
    pub(super) digest_map: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum SparseArg {
    /// The exact index, or the image fails
    #[default]
    Require,
    /// A new index of what is there, under a new digest
    Rewrite,
    /// The one platform that is there, under the tag
    Single,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum PresenceArg {
    /// Reads a byte: registries' caches lie
    #[default]
    Read,
    /// Asks (HEAD): faster, and wrong after some garbage collections
    Head,
}

impl TargetArgs {
    /// Returns how images are named below `destination`, or what the one image is called.
    pub(super) fn naming(&self, destination: Destination, exact: Option<Reference>) -> Naming {
        self.names.naming(destination, exact)
    }

    /// Returns how to push.
    pub(super) fn options(&self, naming: Naming, jobs: usize, workshop: Arc<Workshop>) -> Options {
        Options {
            naming,
            policy: match self.sparse.unwrap_or_default() {
                SparseArg::Require => Policy::Require,
                SparseArg::Rewrite => Policy::Rewrite,
                SparseArg::Single => Policy::Single,
            },
            tag_children: self.tag_children,
            presence: match self.presence {
                PresenceArg::Read => PresenceProof::Read,
                PresenceArg::Head => PresenceProof::Head,
            },
            trust_manifests: self.trust_manifests,
            keep_going: self.keep_going,
            jobs,
            workshop,
        }
    }
}
