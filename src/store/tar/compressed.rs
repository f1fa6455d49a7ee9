//! Compressed archives: blobs in them have no offsets, so they are recognised and refused with the way out.

use std::path::Path;

/// How a file is compressed, judged by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip (RFC 1952, 2.3.1).
    Gzip,
    /// Zstandard (RFC 8878, 3.1.1).
    Zstd,
    /// xz (its file format specification, 2.1.1.1).
    Xz,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// Recognises compressed content by its first bytes (six are enough).
    ///
    /// No tar file is mistaken for one: its first bytes are those of a name, of which only bzip2's are text, so that
    /// form is asked for its block mark too (ten bytes).
    #[must_use]
    pub fn of(first: &[u8]) -> Option<Self> {
        if first.starts_with(b"\x1f\x8b") {
            Some(Self::Gzip)
        } else if first.starts_with(b"\x28\xb5\x2f\xfd") {
            Some(Self::Zstd)
        } else if first.starts_with(b"\xfd7zXZ\0") {
            Some(Self::Xz)
        } else if first.starts_with(b"BZh") && first.get(4..10) == Some(b"1AY&SY") {
            Some(Self::Bzip2)
        } else {
            None
        }
    }

    /// Returns the name of the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// Returns the command that makes a plain tar file of `path`, for a shell, and leaves `path` in place.
    #[must_use]
    pub fn command(self, path: &Path) -> String {
        let (in_place, to_output, suffix) = match self {
            Self::Gzip => ("gunzip -k", "gzip -dc", "gz"),
            Self::Zstd => ("zstd -d", "zstd -dc", "zst"),
            Self::Xz => ("xz -dk", "xz -dc", "xz"),
            Self::Bzip2 => ("bunzip2 -k", "bzip2 -dc", "bz2"),
        };
        let text = path.to_string_lossy();
        if path.extension().is_some_and(|found| found == suffix) {
            format!("{in_place} {}", quoted(&text))
        } else {
            // The tools refuse to choose a name where the suffix is not theirs.
            let stem = text.strip_suffix(".tar").unwrap_or(&text);
            format!("{to_output} {} > {}", quoted(&text), quoted(&format!("{stem}.plain.tar")))
        }
    }
}

/// Quotes a file name for a shell, where it needs it.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"./_-+,:@%".contains(&b);
    // A leading dash would be read as an option.
    let text = if text.starts_with('-') { format!("./{text}") } else { text.to_owned() };
    if !text.is_empty() && text.bytes().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_typed() {
        for (compression, path, command) in [
            (Compression::Zstd, "a.tar.zst", "zstd -d a.tar.zst"),
            (Compression::Gzip, "a.tar.gz", "gunzip -k a.tar.gz"),
            (Compression::Xz, "my a.xz", "xz -dk 'my a.xz'"),
            (Compression::Bzip2, "-a.bz2", "bunzip2 -k ./-a.bz2"),
            (Compression::Gzip, "a.tgz", "gzip -dc a.tgz > a.tgz.plain.tar"),
            (Compression::Zstd, "a'b.tar", "zstd -dc 'a'\\''b.tar' > 'a'\\''b.plain.tar'"),
        ] {
            assert_eq!(compression.command(Path::new(path)), command);
        }
    }

    #[test]
    fn names_are_not_taken_for_magic() {
        assert_eq!(Compression::of(b"BZhoo/blobs/sha256"), None);
        assert_eq!(Compression::of(b"BZh91AY&SY"), Some(Compression::Bzip2));
        assert_eq!(Compression::of(b""), None);
    }
}
