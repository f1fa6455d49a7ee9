//! A tar reader of the tests' own, that knows the forms of `bundle.md` and takes nothing else.

/// A block of tar.
pub const BLOCK: usize = 512;

/// An entry of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: String,
    /// Where its first header block lies.
    pub start: u64,
    /// Where its content lies.
    pub data: u64,
    pub size: u64,
    /// The header block that stands before the content.
    pub header: [u8; BLOCK],
    /// The records of its PAX header.
    pub pax: Option<String>,
}

impl Entry {
    /// Its content.
    pub fn content<'a>(&self, archive: &'a [u8]) -> &'a [u8] {
        &archive[self.data as usize..(self.data + self.size) as usize]
    }

    /// Where the next entry starts.
    pub fn end(&self) -> u64 {
        self.data + self.size.next_multiple_of(BLOCK as u64)
    }
}

/// Reads octal digits up to a zero byte.
pub fn octal(field: &[u8]) -> u64 {
    let digits = std::str::from_utf8(field).unwrap().trim_end_matches('\0');
    u64::from_str_radix(digits, 8).unwrap()
}

/// The text before the first zero byte.
pub fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8(field[..end].to_vec()).unwrap()
}

/// The value of a PAX record.
fn pax_value(records: &str, key: &str) -> Option<String> {
    let (mut rest, mut found) = (records, None);
    while !rest.is_empty() {
        let length: usize = rest.split(' ').next().unwrap().parse().unwrap();
        let record = rest[..length].split_once(' ').unwrap().1.strip_suffix('\n').expect("a line feed");
        let (name, value) = record.split_once('=').unwrap();
        if name == key {
            found = Some(value.to_owned());
        }
        rest = &rest[length..];
    }
    found
}

/// Reads an archive up to its zero blocks.
pub fn walk(archive: &[u8]) -> Vec<Entry> {
    let (mut entries, mut at, mut pax, mut start) = (Vec::new(), 0, None, 0);
    while let Some(block) = archive.get(at..at + BLOCK) {
        let header: [u8; BLOCK] = block.try_into().unwrap();
        if header == [0; BLOCK] {
            break;
        }
        let (size, name) = (octal(&header[124..136]), text(&header[..100]));
        at += BLOCK;
        if header[156] == b'x' {
            pax = Some(text(&archive[at..at + size as usize]));
            at += (size as usize).next_multiple_of(BLOCK);
            continue;
        }
        let value = |key| pax.as_deref().and_then(|records| pax_value(records, key));
        let size = value("size").map_or(size, |size| size.parse().unwrap());
        let path = value("path").unwrap_or(name);
        entries.push(Entry { path, start, data: at as u64, size, header, pax: pax.take() });
        at += (size as usize).next_multiple_of(BLOCK);
        start = at as u64;
    }
    entries
}
