//! Release signatures: OpenPGP-signed messages (RFC 4880) that say which release they are about.
//!
//! Only the message's content is read, to tell whether a file belongs to a release. Whether the signature is good, and
//! whose it is, the cluster finds out: it has the keys, this side need not.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::oci::Digest;

/// The largest signature file, in bytes; the field's have about one kilobyte.
pub(super) const MAX_SIGNATURE: u64 = 1024 * 1024;
/// How much all compressed packets of a message together may unpack to, in bytes.
const MAX_MESSAGE: u64 = 4 * 1024 * 1024;
/// How many packets a message may have, with those in compressed ones; the field's have three or four.
const MAX_PACKETS: usize = 1000;
/// How deep compressed messages may lie in each other.
const MAX_DEPTH: u32 = 4;

/// The signed document (containers/image, `docs/containers-signature.5.md`).
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(default)]
    r#type: String,
    image: Image,
    #[serde(default)]
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Identity {
    docker_reference: String,
}

/// What a signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The manifest that it is about.
    pub digest: Digest,
    /// The name it was signed for; empty where there is none.
    pub reference: String,
}

/// Reads what a signature says; the error says what is wrong with the file.
///
/// # Errors
/// The text is no signed OpenPGP message with the content that signatures of images have.
pub fn read(bytes: &[u8]) -> Result<Statement, String> {
    let binary;
    let bytes = if bytes.trim_ascii_start().starts_with(b"-----BEGIN PGP") {
        binary = dearmoured(bytes)?;
        &binary
    } else {
        bytes
    };
    let mut message = Message { is_signed: false, content: None, left: MAX_MESSAGE, packets: 0 };
    message.read(bytes, 0)?;
    if !message.is_signed {
        return Err("it is no signed OpenPGP message".to_owned());
    }
    let content = message.content.ok_or("it has no content: a detached signature can't be used here")?;
    let payload: Payload = serde_json::from_slice(&content)
        .map_err(|_| "what it signs is no statement about an image".to_owned())?;
    let critical = payload.critical;
    if !matches!(critical.r#type.as_str(), "atomic container signature" | "") {
        return Err(format!("what it signs is a `{}`", critical.r#type.escape_debug()));
    }
    let digest = critical
        .image
        .docker_manifest_digest
        .parse()
        .map_err(|_| "what it signs names no digest of an image".to_owned())?;
    Ok(Statement { digest, reference: critical.identity.docker_reference })
}

/// Undoes ASCII armour (RFC 4880, section 6.2).
fn dearmoured(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "its ASCII armour is not text".to_owned())?;
    let mut lines = text.trim().lines().map(str::trim).skip(1).skip_while(|line| line.contains(':'));
    let body: String = lines.by_ref().take_while(|line| !line.starts_with(['-', '='])).collect();
    STANDARD.decode(body).map_err(|_| "its ASCII armour is damaged".to_owned())
}

/// What was found of a message.
struct Message {
    is_signed: bool,
    content: Option<Vec<u8>>,
    /// How many bytes may still be unpacked.
    left: u64,
    /// How many packets were read.
    packets: usize,
}

impl Message {
    /// Reads packets, of which those that are no part of a signed message are passed over.
    fn read(&mut self, mut bytes: &[u8], depth: u32) -> Result<(), String> {
        while !bytes.is_empty() {
            let (tag, body, rest) =
                packet(bytes).ok_or("it is no OpenPGP message, or one that is cut off")?;
            bytes = rest;
            self.packets += 1;
            if self.packets > MAX_PACKETS {
                return Err(format!("it has more than {MAX_PACKETS} packets"));
            }
            match tag {
                2 => self.is_signed = true,
                8 => {
                    if depth == MAX_DEPTH {
                        return Err(format!("it is compressed more than {MAX_DEPTH} times"));
                    }
                    let bytes = unpacked(&body, &mut self.left)?;
                    self.read(&bytes, depth + 1)?;
                }
                11 => {
                    if self.content.is_some() {
                        return Err("it has several contents".to_owned());
                    }
                    self.content = Some(literal(&body).ok_or("its content is cut off")?.to_vec());
                }
                // What announces a signature, markers, padding and whatever comes after RFC 4880.
                4 | 10 | 21 | 40..=63 => {}
                1 | 3 | 9 | 18 | 20 => return Err("it is encrypted".to_owned()),
                5..=7 | 13 | 14 | 17 => return Err("it is a key".to_owned()),
                _ => return Err("it is no OpenPGP message".to_owned()),
            }
        }
        Ok(())
    }
}

/// Takes a packet off the front (RFC 4880, section 4.2): its tag, its body put together, and what follows it.
fn packet(bytes: &[u8]) -> Option<(u8, Vec<u8>, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let take = |bytes: &mut &[u8], count: usize| -> Option<Vec<u8>> {
        let (head, tail) = bytes.split_at_checked(count)?;
        *bytes = tail;
        Some(head.to_vec())
    };
    let number = |bytes: &mut &[u8], count: usize| -> Option<usize> {
        Some(take(bytes, count)?.into_iter().fold(0, |number, byte| number << 8 | usize::from(byte)))
    };
    if first & 0x40 == 0 {
        let tag = first >> 2 & 15;
        let length = match first & 3 {
            0 => number(&mut rest, 1)?,
            1 => number(&mut rest, 2)?,
            2 => number(&mut rest, 4)?,
            // Up to the end.
            _ => rest.len(),
        };
        let body = take(&mut rest, length)?;
        return Some((tag, body, rest));
    }
    let mut body = Vec::new();
    loop {
        let (length, is_partial) = match number(&mut rest, 1)? {
            short @ ..192 => (short, false),
            two @ 192..224 => (((two - 192) << 8) + number(&mut rest, 1)? + 192, false),
            partial @ 224..255 => (1 << (partial & 31), true),
            _ => (number(&mut rest, 4)?, false),
        };
        body.extend(take(&mut rest, length)?);
        if !is_partial {
            return Some((first & 63, body, rest));
        }
    }
}

/// Unpacks a compressed packet (RFC 4880, section 5.6) to at most as much as is left over all.
fn unpacked(body: &[u8], left: &mut u64) -> Result<Vec<u8>, String> {
    let (algorithm, data) = body.split_first().ok_or("its content is cut off")?;
    let mut reader: Box<dyn Read> = match algorithm {
        0 => Box::new(data),
        1 => Box::new(flate2::read::DeflateDecoder::new(data)),
        2 => Box::new(flate2::read::ZlibDecoder::new(data)),
        _ => return Err("it is compressed in a way that is not read here (gzip's and zlib's are)".to_owned()),
    };
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(*left + 1).read_to_end(&mut bytes);
    read.map_err(|_| "its compressed content is damaged".to_owned())?;
    *left = left
        .checked_sub(bytes.len() as u64)
        .ok_or_else(|| format!("its content has more than the {MAX_MESSAGE} bytes that are read"))?;
    Ok(bytes)
}

/// Returns the content of a literal packet (RFC 4880, section 5.9), after its form, name and time.
fn literal(body: &[u8]) -> Option<&[u8]> {
    let name = usize::from(*body.get(1)?);
    body.get(2 + name + 4..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn new_packet(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xc0 | tag, 255];
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn content(text: &str) -> Vec<u8> {
        let mut body = b"b\x03xyz\0\0\0\0".to_vec();
        body.extend(text.as_bytes());
        body
    }

    fn payload(digest: &Digest) -> String {
        format!(
            r#"{{"critical":{{"type":"atomic container signature","image":{{"docker-manifest-digest":"{digest}"}},
            "identity":{{"docker-reference":"reg.test/release:4"}}}},"optional":{{"creator":"x"}}}}"#
        )
    }

    /// A signed message about a digest, whose signature nobody made.
    fn signed(digest: &Digest) -> Vec<u8> {
        [new_packet(4, &[3; 13]), new_packet(11, &content(&payload(digest))), new_packet(2, &[4; 70])]
            .concat()
    }

    #[test]
    fn the_content_is_found_however_it_is_packed() {
        let digest = Digest::sha256(b"release");
        let plain = signed(&digest);
        let statement = Statement { digest: digest.clone(), reference: "reg.test/release:4".to_owned() };
        let mut deflate = flate2::write::DeflateEncoder::new(vec![1], flate2::Compression::default());
        deflate.write_all(&plain).unwrap();
        let mut zlib = flate2::write::ZlibEncoder::new(vec![2], flate2::Compression::default());
        zlib.write_all(&plain).unwrap();
        // An old header of a length that is not said, as GnuPG writes around compressed data.
        let mut old = vec![0x80 | 8 << 2 | 3];
        old.extend(zlib.finish().unwrap());
        // Partial lengths: 512 bytes first, then the rest.
        let whole = content(&payload(&digest));
        let long = [whole.clone(), vec![b' '; 600 - whole.len().min(600)]].concat();
        let mut partial = new_packet(4, &[3; 13]);
        partial.extend([0xcb, 224 + 9]);
        partial.extend(&long[..512]);
        partial.push(u8::try_from(long.len() - 512).unwrap());
        partial.extend(&long[512..]);
        partial.extend(new_packet(2, &[4; 70]));
        let mut two = vec![0xcb];
        let length = whole.len() - 192;
        two.extend([192 + u8::try_from(length >> 8).unwrap(), u8::try_from(length & 255).unwrap()]);
        two.extend(&whole);
        two.extend(new_packet(2, &[4; 70]));
        let armoured = format!(
            "-----BEGIN PGP MESSAGE-----\nVersion: x\n\n{}\n=abcd\n-----END PGP MESSAGE-----\n",
            STANDARD.encode(&plain)
        );
        for bytes in [
            plain.clone(),
            new_packet(8, &deflate.finish().unwrap()),
            old,
            partial,
            [new_packet(4, &[3; 13]), two].concat(),
            armoured.into_bytes(),
        ] {
            assert_eq!(read(&bytes).as_ref(), Ok(&statement));
        }
    }

    #[test]
    fn what_a_message_unpacks_to_is_bounded_over_all_its_packets_and_depths() {
        let pack = |bytes: &[u8]| {
            let mut deflate = flate2::write::DeflateEncoder::new(vec![1], flate2::Compression::best());
            deflate.write_all(bytes).unwrap();
            new_packet(8, &deflate.finish().unwrap())
        };
        // Each level is filled with the one below it, and none has more than is read of a packet.
        let mut level = pack(&new_packet(21, &vec![0; 4_000_000]));
        for _ in 1..MAX_DEPTH {
            let most = if level.len() < 4000 { 1_000_000 } else { 4_000_000 };
            level = pack(&level.repeat(most / level.len()));
        }
        let bomb = level.repeat(1_000_000 / level.len());
        assert!(bomb.len() as u64 <= MAX_SIGNATURE);
        let begun = std::time::Instant::now();
        let error = read(&bomb).unwrap_err();
        assert!(error.contains("more than the 4194304 bytes"), "{error}");
        // Empty ones cost time as well.
        let error = read(&new_packet(21, b"").repeat(MAX_PACKETS + 1)).unwrap_err();
        assert!(error.contains("more than 1000 packets"), "{error}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_no_signature_is_said_and_never_a_panic() {
        let digest = Digest::sha256(b"release");
        let whole = signed(&digest);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        let bare = new_packet(11, &content(&payload(&digest)));
        let other = new_packet(11, &content("{}"));
        let sign = new_packet(2, &[4; 70]);
        let zeros = {
            let mut zlib = flate2::write::ZlibEncoder::new(vec![2], flate2::Compression::best());
            zlib.write_all(&vec![0; 5 << 20]).unwrap();
            new_packet(8, &zlib.finish().unwrap())
        };
        let mut nested = whole.clone();
        for _ in 0..=MAX_DEPTH {
            nested = new_packet(8, &[&[0], &nested[..]].concat());
        }
        for (bytes, why) in [
            (bare.clone(), "no signed OpenPGP message"),
            (sign.clone(), "detached"),
            ([sign.clone(), other].concat(), "no statement about an image"),
            ([sign.clone(), bare.clone(), bare].concat(), "several contents"),
            (b"{\"critical\":{}}".to_vec(), "no OpenPGP message"),
            (new_packet(6, b"key"), "it is a key"),
            (new_packet(18, b"x"), "encrypted"),
            (new_packet(8, &[3, 1, 2]), "not read here"),
            (new_packet(8, &[2, 1, 2]), "damaged"),
            (zeros, "more than the"),
            (nested, "more than 4 times"),
            (b"-----BEGIN PGP MESSAGE-----\n\n!!\n".to_vec(), "armour is damaged"),
        ] {
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(why), "{error} / {why}");
        }
    }
}
