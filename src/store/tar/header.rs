//! One header block (POSIX `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").

use super::BLOCK;

/// What a header block says, before extension headers are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name as stored, prefix included.
    pub path: Vec<u8>,
    /// Type flag: `b'0'` or 0 for a file, `b'5'` for a directory and so on.
    pub type_flag: u8,
    /// Declared size in bytes, whatever the type.
    pub size: u64,
    /// Link target as stored, empty where there is none.
    pub link: Vec<u8>,
    /// Whether the block has GNU tar's own magic.
    pub is_gnu: bool,
}

/// Why a block is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFault {
    /// The checksum is no number, or not that of the block.
    Checksum,
    /// The size is no number, negative, or beyond 64 bits.
    Size,
}

/// Parses a header block; a block of zeros (a half of the end mark) is none.
///
/// # Errors
/// A [`HeaderFault`]; the checksum is looked at first, so that damage is not reported as something stranger.
pub fn parse_header_block(block: &[u8; BLOCK as usize]) -> Result<Option<Header>, HeaderFault> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let stored = number(&block[148..156]).ok_or(HeaderFault::Checksum)?;
    // The field itself counts as spaces. Old writers summed signed bytes, and Go and GNU tar accept both.
    let (mut unsigned, mut signed) = (0_u64, 0_i64);
    for (position, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&position) { b' ' } else { *byte };
        unsigned += u64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stored != unsigned && i64::try_from(stored) != Ok(signed) {
        return Err(HeaderFault::Checksum);
    }
    let is_gnu = &block[257..265] == b"ustar  \0";
    let mut path = until_zero(&block[..100]).to_vec();
    // GNU tar's own form keeps times where ustar has the prefix.
    if &block[257..263] == b"ustar\0" {
        let prefix = until_zero(&block[345..500]);
        if !prefix.is_empty() {
            path = [prefix, b"/", &path].concat();
        }
    }
    Ok(Some(Header {
        path,
        type_flag: block[156],
        size: number(&block[124..136]).ok_or(HeaderFault::Size)?,
        link: until_zero(&block[157..257]).to_vec(),
        is_gnu,
    }))
}

/// Parses a numeric field: octal digits between spaces and zeros, or GNU's base-256 form with the first bit set.
/// An empty field is zero.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        // The second bit is the sign in two's complement.
        if field[0] & 0x40 != 0 {
            return None;
        }
        return field.iter().enumerate().try_fold(0_u64, |value, (position, byte)| {
            let byte = if position == 0 { byte & 0x3f } else { *byte };
            value.checked_mul(256)?.checked_add(u64::from(byte))
        });
    }
    let padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !padding(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(padding).unwrap_or(digits.len());
    if !digits[end..].iter().all(padding) {
        return None;
    }
    digits[..end].iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Returns a text field's content.
fn until_zero(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000000012\0 "[..], Some(10)),
            (b"   12 \0\0\0\0\0\0", Some(10)),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", Some(0)),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX >> 1)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"-00000000001", None),
            (b"12 3\0\0\0\0\0\0\0\0", None),
            (b"00000000008\0", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}
