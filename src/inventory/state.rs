//! The state code: ten characters that two people compare by telephone.

use crate::oci::{Algorithm, Digest, Hasher, Platform};

/// Crockford's base 32: no I, L, O or U, which are misheard and misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a state code.
const LENGTH: usize = 10;

/// Returns the state code of images that are live, given as name, root digest and kept platforms, in any order.
///
/// It is made of the first 50 bits of the SHA-256 over the sorted lines `NAME ROOT PLATFORM,PLATFORM…`, and written with a
/// dash in the middle. It finds errors; it authenticates nothing.
pub fn state_code<'a>(images: impl IntoIterator<Item = (String, &'a Digest, &'a [Platform])>) -> String {
    let mut lines: Vec<String> = images
        .into_iter()
        .map(|(name, root, platforms)| {
            let mut platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            platforms.sort();
            format!("{name} {root} {}\n", platforms.join(","))
        })
        .collect();
    lines.sort();
    lines.dedup();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for line in lines {
        hasher.update(line.as_bytes());
    }
    let hex = hasher.finish().hex();
    // 13 hex digits are 52 bits, of which the first 50 count.
    let bits = u64::from_str_radix(&hex[..13], 16).unwrap_or_default() >> 2;
    let character = |at: usize| char::from(ALPHABET[(bits >> (5 * (LENGTH - 1 - at)) & 31) as usize]);
    let mut code: String = (0..LENGTH).map(character).collect();
    code.insert(LENGTH / 2, '-');
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_images_and_platforms_does_not_matter_and_their_content_does() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let platforms: Vec<Platform> = vec!["linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap()];
        let turned: Vec<Platform> = platforms.iter().rev().cloned().collect();
        let code = |images: [(&str, &Digest, &[Platform]); 2]| {
            state_code(images.map(|(name, root, platforms)| (name.to_owned(), root, platforms)))
        };
        let one = code([("x/a:1", &a, &platforms), ("x/b:1", &b, &[])]);
        assert_eq!(one.len(), LENGTH + 1);
        assert_eq!(one, code([("x/b:1", &b, &[]), ("x/a:1", &a, &turned)]));
        assert_ne!(one, code([("x/b:1", &a, &[]), ("x/a:1", &b, &platforms)]));
        assert_ne!(one, code([("x/a:1", &a, &platforms[..1]), ("x/b:1", &b, &[])]));
    }

    #[test]
    fn the_code_is_what_the_specification_says() {
        // printf '' | sha256sum begins with e3b0c44298fc1…: 11100 01110 11000 01100 01000 10000 10100 11000 11111 10000.
        assert_eq!(state_code([]), "WERC8-GMRZG");
    }
}
