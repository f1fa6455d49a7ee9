//! Content digests (OCI image-spec, `descriptor.md`, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm registered by the image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which every registry speaks.
    Sha256,
    /// SHA-512, which layouts and archives may hold and few registries accept.
    Sha512,
}

impl Algorithm {
    /// Returns the identifier used before the colon of a digest and as a folder name under `blobs/`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// The digest of some content: an algorithm and its output.
///
/// Digests order as their text does, so sorted output is the same whether text or values were sorted.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// A SHA-256 digest.
    Sha256([u8; 32]),
    /// A SHA-512 digest; boxed, since it is rare and would double every row of every table.
    Sha512(Box<[u8; 64]>),
}

/// Why a text is not a digest this crate can check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text has no `algorithm:hex` form.
    #[error("`{0}` is not a digest (expected `sha256:` and 64 hex digits)")]
    Malformed(String),
    /// The algorithm is well-formed but none that can be verified.
    #[error("digest algorithm `{0}` is not supported (only sha256 and sha512 can be verified)")]
    UnknownAlgorithm(String),
}

impl Digest {
    /// Computes the SHA-256 digest of `content`.
    #[must_use]
    pub fn sha256(content: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(content).into())
    }

    /// Computes the digest of `content` with the algorithm of `self`, to compare the two.
    #[must_use]
    pub fn same_algorithm_over(&self, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(self.algorithm());
        hasher.update(content);
        hasher.finish()
    }

    /// Returns whether `content` has this digest.
    #[must_use]
    pub fn matches(&self, content: &[u8]) -> bool {
        self.same_algorithm_over(content) == *self
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Returns the part after the colon: lowercase hex.
    #[must_use]
    pub fn hex(&self) -> String {
        let bytes = self.bytes();
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text
    }

    /// Returns the first twelve hex digits, enough for people to tell digests apart in a message.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// Returns the place of this content in a layout: `blobs/<algorithm>/<hex>` (`image-layout.md`, "Blobs").
    #[must_use]
    pub fn blob_path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm().as_str(), self.hex())
    }

    /// Reads back what [`Digest::blob_path`] writes.
    #[must_use]
    pub fn from_blob_path(path: &str) -> Option<Self> {
        let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
        format!("{algorithm}:{hex}").parse().ok()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes.as_slice(),
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed(text.chars().take(160).collect());
        let (algorithm, hex) = text.split_once(':').ok_or_else(malformed)?;
        match algorithm {
            "sha256" => decode_hex::<32>(hex).map(Self::Sha256).ok_or_else(malformed),
            "sha512" => decode_hex::<64>(hex).map(|b| Self::Sha512(Box::new(b))).ok_or_else(malformed),
            "" => Err(malformed()),
            other if other.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b)) => {
                Err(DigestError::UnknownAlgorithm(other.chars().take(64).collect()))
            }
            _ => Err(malformed()),
        }
    }
}

/// Decodes exactly `N` bytes of lowercase hex; the specification forbids uppercase.
fn decode_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let hex = hex.as_bytes();
    if hex.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest such as `sha256:<64 hex digits>`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Computes a digest over content that arrives in pieces.
#[derive(Clone)]
pub struct Hasher(Inner);

#[derive(Clone)]
enum Inner {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Starts a digest over no content.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Inner::Sha256(Sha256::new()),
            Algorithm::Sha512 => Inner::Sha512(Box::new(Sha512::new())),
        })
    }

    /// Adds the next piece of the content.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            Inner::Sha256(state) => state.update(piece),
            Inner::Sha512(state) => state.update(piece),
        }
    }

    /// Returns the digest of everything added.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            Inner::Sha256(state) => Digest::Sha256(state.finalize().into()),
            Inner::Sha512(state) => Digest::Sha512(Box::new(state.finalize().into())),
        }
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_for_both_algorithms() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Hasher::new(algorithm).finish();
            assert_eq!(digest.to_string().parse(), Ok(digest.clone()));
            assert_eq!(Digest::from_blob_path(&digest.blob_path()), Some(digest));
        }
        assert_eq!(
            Digest::sha256(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn only_lowercase_hex_of_the_right_length_is_a_digest() {
        let hex = Digest::sha256(b"").hex();
        for bad in ["", "sha256", "sha256:", ":abc", &hex, &format!("sha256:{}", &hex[1..])] {
            assert!(matches!(bad.parse::<Digest>(), Err(DigestError::Malformed(_))), "{bad}");
        }
        assert!(format!("sha256:{}", hex.to_uppercase()).parse::<Digest>().is_err());
        assert!(format!("sha512:{hex}").parse::<Digest>().is_err());
        assert!(matches!(
            format!("blake3:{hex}").parse::<Digest>(),
            Err(DigestError::UnknownAlgorithm(name)) if name == "blake3"
        ));
    }

    #[test]
    fn digests_sort_as_their_text() {
        let mut digests = [
            Hasher::new(Algorithm::Sha512).finish(),
            Digest::sha256(b"b"),
            Digest::sha256(b"a"),
            Digest::sha256(b"c"),
        ];
        let mut texts: Vec<String> = digests.iter().map(ToString::to_string).collect();
        digests.sort();
        texts.sort();
        assert_eq!(digests.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
    }
}
