//! A tar writer that can write what real tools write, and what no tool should: any name, any link, three formats.

use std::io::Write;

use tar::{EntryType, Header};

/// How names and sizes that a plain header can't hold are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarFormat {
    /// POSIX ustar only; a name that doesn't fit is a panic.
    Ustar,
    /// GNU long names (`L` entries).
    Gnu,
    /// A PAX header with a `path` record before every entry, as Go and Python write.
    Pax,
}

/// Writes tar entries with mode 0644, owner 0 and time 0.
pub struct TarWriter<W> {
    out: W,
    format: TarFormat,
}

impl<W: Write> TarWriter<W> {
    /// Starts a tar.
    pub fn new(out: W, format: TarFormat) -> Self {
        Self { out, format }
    }

    /// Writes a regular file; the name is taken as it is, `./` and `..` included.
    pub fn file(&mut self, name: &str, bytes: &[u8]) {
        self.entry(name, EntryType::Regular, "", bytes);
    }

    /// Writes a directory.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, EntryType::Directory, "", b"");
    }

    /// Writes a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, EntryType::Symlink, target, b"");
    }

    /// Writes a hard link.
    pub fn hardlink(&mut self, name: &str, target: &str) {
        self.entry(name, EntryType::Link, target, b"");
    }

    /// Writes an entry of any kind.
    pub fn entry(&mut self, name: &str, kind: EntryType, link: &str, bytes: &[u8]) {
        match self.format {
            TarFormat::Pax => {
                let records = pax_record("path", name);
                self.raw("PaxHeaders/entry", EntryType::XHeader, "", records.as_bytes());
            }
            TarFormat::Gnu if name.len() > 100 => {
                let mut long = name.as_bytes().to_vec();
                long.push(0);
                self.raw("././@LongLink", EntryType::GNULongName, "", &long);
            }
            TarFormat::Gnu | TarFormat::Ustar => {}
        }
        self.raw(name, kind, link, bytes);
    }

    fn raw(&mut self, name: &str, kind: EntryType, link: &str, bytes: &[u8]) {
        let mut header = match self.format {
            TarFormat::Gnu => Header::new_gnu(),
            TarFormat::Ustar | TarFormat::Pax => Header::new_ustar(),
        };
        let (prefix, base) = self.split_name(name);
        let fields = header.as_old_mut();
        fields.name[..base.len()].copy_from_slice(base.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.prefix[..prefix.len()].copy_from_slice(prefix.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).unwrap();
        self.out.write_all(bytes).unwrap();
        let padding = bytes.len().next_multiple_of(512) - bytes.len();
        self.out.write_all(&[0; 512][..padding]).unwrap();
    }

    /// Splits a name into ustar's prefix and name; where an extension carries the whole name, cuts it.
    fn split_name<'n>(&self, name: &'n str) -> (&'n str, &'n str) {
        if name.len() <= 100 {
            return ("", name);
        }
        if self.format != TarFormat::Ustar {
            return ("", &name[..100]);
        }
        name.match_indices('/')
            .map(|(at, _)| (&name[..at], &name[at + 1..]))
            .find(|(prefix, base)| prefix.len() <= 155 && base.len() <= 100)
            .unwrap_or_else(|| panic!("`{name}` does not fit a ustar header"))
    }

    /// Ends the tar with its two empty blocks.
    pub fn finish(mut self) -> W {
        self.out.write_all(&[0; 1024]).unwrap();
        self.out.flush().unwrap();
        self.out
    }
}

/// One PAX record; its length counts its own digits.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}
