//! The trailer: the last entry of an archive, by which a complete file is told from one that was cut.

use crate::oci::Digest;

/// Path of the trailer's entry.
pub const TRAILER_PATH: &str = ".barge-trailer";
/// Length of the trailer's content in bytes: one tar block.
pub const TRAILER_SIZE: u64 = 512;
/// First line of a trailer of this version.
const MAGIC: &str = "barge-trailer 1";

/// What a trailer says (`format-spec/`, "Trailer").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Digest of `barge.json`: the bundle ID.
    pub record: Digest,
    /// Length of `barge.json` in bytes.
    pub record_size: u64,
    /// Length of the whole file in bytes, end-of-archive blocks included.
    pub length: u64,
    /// Which volume of the set this file is, from 1.
    pub volume: u32,
    /// How many volumes the set has.
    pub volumes: u32,
}

impl Trailer {
    /// Writes the trailer's content: text lines, filled up with spaces, a line feed as the last byte.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TRAILER_SIZE as usize] {
        let text = format!(
            "{MAGIC}\nrecord {} {}\nlength {}\nvolume {} of {}\n",
            self.record, self.record_size, self.length, self.volume, self.volumes
        );
        let mut bytes = [b' '; TRAILER_SIZE as usize];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes[TRAILER_SIZE as usize - 1] = b'\n';
        bytes
    }

    /// Reads what [`Trailer::to_bytes`] writes; `None` for anything else, to the byte.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        if lines.next()? != MAGIC {
            return None;
        }
        let (record, record_size) = lines.next()?.strip_prefix("record ")?.split_once(' ')?;
        let length = lines.next()?.strip_prefix("length ")?;
        let (volume, volumes) = lines.next()?.strip_prefix("volume ")?.split_once(" of ")?;
        let trailer = Self {
            record: record.parse().ok()?,
            record_size: record_size.parse().ok()?,
            length: length.parse().ok()?,
            volume: volume.parse().ok()?,
            volumes: volumes.parse().ok()?,
        };
        (trailer.to_bytes() == bytes).then_some(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_bytes_are_a_trailer() {
        let trailer = Trailer {
            record: Digest::sha256(b"record"),
            record_size: 12_345_678,
            length: u64::MAX,
            volume: 1,
            volumes: 1,
        };
        let bytes = trailer.to_bytes();
        assert_eq!(Trailer::parse(&bytes), Some(trailer.clone()));
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80] {
                let mut damaged = bytes;
                damaged[at] ^= flip;
                assert_ne!(Trailer::parse(&damaged), Some(trailer.clone()), "byte {at}");
            }
            assert_eq!(Trailer::parse(&bytes[..at]), None);
        }
    }
}
