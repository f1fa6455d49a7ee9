//! Sizes as people write them.

/// Parses a number of bytes: `20M`, `4G`, `1.5GiB`; units are powers of 1024.
///
/// # Errors
/// What is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let factor: u64 = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err("expected a number with K, M, G or T".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "expected a number with K, M, G or T".to_owned())?;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let size = number * factor as f64;
    if !(0.0..9e18).contains(&size) {
        return Err("is out of range".to_owned());
    }
    #[expect(clippy::cast_sign_loss, reason = "checked not to be negative")]
    let size = size as u64;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in
            [("0", 0), ("20M", 20 << 20), ("1.5GiB", 3 << 29), ("4gb", 4 << 30), ("7", 7), ("1T", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(size));
        }
        for bad in ["", "M", "-1", "1X", "1e30T", "nan"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
