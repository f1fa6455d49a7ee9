//! What a patch gives, and what it takes for that.

use std::io;

use super::{BASES_MAX, MAGIC, varint};
use crate::delta::layer::Form;
use crate::oci::digest::Digest;

/// The head of a patch: the target and its bases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The digest of the layer that the patch gives.
    pub target: Digest,
    /// The size of that layer in bytes.
    pub size: u64,
    /// How that layer is put together from its streams.
    pub form: Form,
    /// What it is rebuilt from, 1 to [`BASES_MAX`] layers.
    pub bases: Vec<BaseHead>,
}

/// A base layer of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseHead {
    /// Its digest.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// How it has to be taken apart.
    pub form: Form,
}

impl Form {
    /// The byte that stands for it in a patch (P-5).
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Gzip => 1,
        }
    }

    /// Undoes [`Form::code`].
    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Raw),
            1 => Some(Self::Gzip),
            _ => None,
        }
    }
}

impl Head {
    /// Returns the magic and the head as they start a patch.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for no base or too many.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        if self.bases.is_empty() || self.bases.len() > BASES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a patch has 1 to {BASES_MAX} bases, not {}", self.bases.len()),
            ));
        }
        let mut out = MAGIC.to_vec();
        push_blob(&mut out, &self.target, self.size, self.form);
        varint::push(&mut out, self.bases.len() as u64);
        for base in &self.bases {
            push_blob(&mut out, &base.digest, base.size, base.form);
        }
        Ok(out)
    }
}

fn push_blob(out: &mut Vec<u8>, digest: &Digest, size: u64, form: Form) {
    let text = digest.to_string();
    varint::push(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
    varint::push(out, size);
    out.push(form.code());
}
