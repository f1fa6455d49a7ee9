//! Extension headers: PAX records (POSIX `pax`, "pax Extended Header") and GNU's long names.

/// The longest extension that is read, in bytes: what Go's `archive/tar` accepts (`maxSpecialFileSize`).
pub(super) const MAX_EXTENSION: u64 = 1024 * 1024;

/// What the extension headers before an entry say of it.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    /// Records of the PAX header.
    pub(super) pax: Option<Pax>,
    /// GNU long name.
    pub(super) name: Option<Vec<u8>>,
    /// GNU long link target.
    pub(super) link: Option<Vec<u8>>,
}

impl Extensions {
    /// Returns whether there is no extension.
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }

    /// Chooses among the three places that can name an entry or its link target.
    ///
    /// # Errors
    /// If a PAX record and a GNU long name contradict each other: Go obeys the second, others the first.
    pub(super) fn choose(
        pax: Option<Vec<u8>>,
        long: Option<Vec<u8>>,
        header: Vec<u8>,
    ) -> Result<Vec<u8>, &'static str> {
        match (pax, long) {
            (Some(pax), Some(long)) if pax != long => {
                Err("a PAX record and a GNU long name contradict each other")
            }
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) => Ok(header),
        }
    }
}

/// The PAX records that matter to a reader.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Whether any of GNU's sparse records is there.
    pub(super) sparse: bool,
}

/// Parses PAX records: `LENGTH KEY=VALUE\n`, the length counting the whole record.
///
/// # Errors
/// What is wrong with them. A repeated record is refused where it matters, since readers differ in which one they
/// obey.
pub(super) fn parse_pax(mut text: &[u8]) -> Result<Pax, &'static str> {
    const MALFORMED: &str = "its records are malformed";
    let mut pax = Pax::default();
    let mut seen = [false; 3];
    while !text.is_empty() {
        let space = text.iter().take(8).position(|b| *b == b' ').ok_or(MALFORMED)?;
        let length = decimal(&text[..space]).and_then(|n| usize::try_from(n).ok()).ok_or(MALFORMED)?;
        // At least the space, one character of key, `=` and the line end.
        if length > text.len() || length < space + 4 || text[length - 1] != b'\n' {
            return Err(MALFORMED);
        }
        let record = &text[space + 1..length - 1];
        text = &text[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or(MALFORMED)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() {
            return Err(MALFORMED);
        }
        let field = match key {
            b"path" => 0,
            b"linkpath" => 1,
            b"size" => 2,
            _ => {
                pax.sparse |= key.starts_with(b"GNU.sparse.");
                continue;
            }
        };
        if std::mem::replace(&mut seen[field], true) {
            return Err("a record is repeated");
        }
        // An empty value takes the record back.
        if value.is_empty() {
            continue;
        }
        match field {
            0 => pax.path = Some(value.to_vec()),
            1 => pax.link = Some(value.to_vec()),
            _ => pax.size = Some(decimal(value).ok_or("its size is no number of bytes")?),
        }
    }
    Ok(pax)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// Returns a GNU long name without the zero byte that ends it.
pub(super) fn long_name(mut data: Vec<u8>) -> Vec<u8> {
    while data.last() == Some(&0) {
        data.pop();
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_length() {
        let pax = parse_pax(b"12 path=a\nb\n22 size=8589934592000\n15 comment=a=b\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(pax.size, Some(8_589_934_592_000));
        assert!(!pax.sparse);
        assert!(parse_pax(b"22 GNU.sparse.major=1\n").unwrap().sparse);
        assert_eq!(parse_pax(b"8 path=\n"), Ok(Pax::default()));
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            &b"x"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"0 path=a\n",
            b"3 \n",
            b"99999999999999999999 path=a\n",
            b" path=a\n",
            b"11 size=-1\n",
            b"29 size=18446744073709551616\n",
            b"10 path=a\n10 path=b\n",
            b"6 =abc",
            b"7 =abc\n",
            b"8 abcde\n",
        ] {
            assert!(parse_pax(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
