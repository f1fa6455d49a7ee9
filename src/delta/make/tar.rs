//! The members of a tar, as far as it can be followed.
//!
//! Nothing here is trusted to be a tar: whatever is not understood (a wrong checksum, an old sparse file, bytes behind the
//! end) ends the list, and the rest of the stream is one last member of content.

use std::io::{self, Read};

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use crate::delta::scratch::{Stream, StreamReader};

/// A tar header and the unit of padding.
const BLOCK: u64 = 512;

/// Most bytes of a head, extended headers and all: far more than any path needs. A head is held in memory and goes into one
/// frame; what has a longer one is taken as no tar.
const HEAD_MAX: u64 = 1 << 20;

/// Most members of a layer that are told apart; what follows is one piece of content. At 80 bytes each, a list of them takes
/// at most 8 MB.
pub(super) const MEMBERS_MAX: usize = 100_000;

/// What reading goes by.
const BUFFER: usize = 1 << 20;

/// A member: its head (padding of the member before, extended headers, the header itself) and its content behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// Where the head starts.
    pub start: u64,
    /// Where the content starts, which is where the head ends.
    pub content: u64,
    /// Length of the content.
    pub size: u64,
    /// Hash of the path; zero for what stands behind the last member.
    pub path: u64,
    /// Hash of the path with each run of digits as one sign.
    pub masked: u64,
    /// Hash of the content.
    pub hash: u128,
    /// Hash of the head.
    pub head: u64,
    /// Whether the content starts as an executable or object file does.
    pub executable: bool,
}

impl Member {
    /// Returns where the content ends.
    pub fn end(&self) -> u64 {
        self.content + self.size
    }
}

/// Lists the members of `plain`, at most as many as `most`, and what follows them as one more; they cover all of it.
pub(super) fn scan(plain: &Stream, most: usize) -> io::Result<Vec<Member>> {
    let mut scan =
        Scan { reader: plain.reader(0), buffer: Vec::new(), at: 0, position: 0, length: plain.len() };
    let mut members = Vec::new();
    let mut start = 0;
    while members.len() < most {
        scan.seek(plain, start);
        match scan.member(start)? {
            Some(member) => {
                start = member.end();
                members.push(member);
            }
            None => break,
        }
    }
    if start < plain.len() {
        scan.seek(plain, start);
        let (hash, executable) = scan.content(plain.len() - start)?;
        let size = plain.len() - start;
        members.push(Member {
            start,
            content: start,
            size,
            path: 0,
            masked: 0,
            hash,
            head: xxh3_64(&[]),
            executable,
        });
    }
    members.shrink_to_fit();
    Ok(members)
}

/// Reads a stream once, in order; going back a little (after a failed look at a header) is rare.
struct Scan {
    reader: StreamReader,
    buffer: Vec<u8>,
    /// How much of `buffer` is used up.
    at: usize,
    /// Where in the stream the unused bytes start.
    position: u64,
    length: u64,
}

/// What the headers before a member say of it.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Scan {
    fn seek(&mut self, plain: &Stream, position: u64) {
        if self.position != position {
            self.reader = plain.reader(position);
            self.buffer.clear();
            self.at = 0;
            self.position = position;
        }
    }

    /// Returns the next bytes, some but at most `most`; none at the end.
    fn some(&mut self, most: u64) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.buffer.resize(BUFFER, 0);
            let count = self.reader.read(&mut self.buffer)?;
            self.buffer.truncate(count);
            self.at = 0;
        }
        let count = most.min((self.buffer.len() - self.at) as u64) as usize;
        let bytes = &self.buffer[self.at..self.at + count];
        self.at += count;
        self.position += count as u64;
        Ok(bytes)
    }

    /// Appends exactly `count` bytes to `out`.
    fn take(&mut self, count: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let bytes = self.some(left)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.extend_from_slice(bytes);
            left -= bytes.len() as u64;
        }
        Ok(())
    }

    /// Reads content of `size` bytes; returns its hash and whether it is executable.
    fn content(&mut self, size: u64) -> io::Result<(u128, bool)> {
        let first = self.some(size)?;
        let executable = is_executable(first);
        if first.len() as u64 == size {
            return Ok((xxh3_128(first), executable));
        }
        let mut hash = Xxh3::new();
        hash.update(first);
        let mut left = size - first.len() as u64;
        while left > 0 {
            let bytes = self.some(left)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hash.update(bytes);
            left -= bytes.len() as u64;
        }
        Ok((hash.digest128(), executable))
    }

    /// Reads the member whose head starts at `start`; none if there is no further one that is understood.
    fn member(&mut self, start: u64) -> io::Result<Option<Member>> {
        let mut head = Vec::with_capacity(1024);
        let mut said = Said::default();
        // The content before is followed by padding. Members start at multiples of a block.
        let padding = start.next_multiple_of(BLOCK) - start;
        if padding > self.left() {
            return Ok(None);
        }
        self.take(padding, &mut head)?;
        loop {
            if self.left() < BLOCK || head.len() as u64 + BLOCK > HEAD_MAX {
                return Ok(None);
            }
            let from = head.len();
            self.take(BLOCK, &mut head)?;
            let Some(header) = Header::read(&head[from..]) else { return Ok(None) };
            match header.kind {
                b'x' | b'L' | b'g' | b'K' => {
                    let padded = header.size.saturating_add(BLOCK - 1) / BLOCK * BLOCK;
                    if padded > self.left() || padded > HEAD_MAX - head.len() as u64 {
                        return Ok(None);
                    }
                    let from = head.len();
                    self.take(padded, &mut head)?;
                    let content = &head[from..from + header.size as usize];
                    match header.kind {
                        b'x' => said.read(content),
                        b'L' => said.path = Some(up_to_nul(content).to_vec()),
                        _ => {}
                    }
                }
                // The map of an old sparse file goes on behind its header.
                b'S' => return Ok(None),
                kind => {
                    let size = match kind {
                        b'1'..=b'6' => 0,
                        _ => said.size.unwrap_or(header.size),
                    };
                    if size > self.left() {
                        return Ok(None);
                    }
                    let path = said.path.as_deref().unwrap_or(&header.path);
                    let (path, masked) = path_hashes(path);
                    let content = self.position;
                    let head = xxh3_64(&head);
                    let (hash, executable) = self.content(size)?;
                    return Ok(Some(Member { start, content, size, path, masked, hash, head, executable }));
                }
            }
        }
    }

    fn left(&self) -> u64 {
        self.length - self.position
    }
}

impl Said {
    /// Reads the records of a PAX header: `LENGTH KEY=VALUE\n`.
    fn read(&mut self, mut content: &[u8]) {
        while let Some(space) = content.iter().position(|byte| *byte == b' ') {
            let Some(length) = number(&content[..space], 10) else { return };
            let length = length as usize;
            if length <= space || length > content.len() {
                return;
            }
            let record = &content[space + 1..length];
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            if let Some(path) = record.strip_prefix(b"path=") {
                self.path = Some(path.to_vec());
            } else if let Some(size) = record.strip_prefix(b"size=") {
                self.size = number(size, 10);
            }
            content = &content[length..];
        }
    }
}

/// What a header block says.
struct Header {
    kind: u8,
    size: u64,
    path: Vec<u8>,
}

impl Header {
    /// Reads a block; none if its checksum is not right, which is so for zeros too.
    fn read(block: &[u8]) -> Option<Self> {
        let sum = number(&block[148..156], 8)?;
        let own: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let field: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        if own - field + 8 * u64::from(b' ') != sum {
            return None;
        }
        let size = if block[124] & 0x80 == 0 {
            number(&block[124..136], 8)?
        } else if block[124] == 0x80 && block[125..128] == [0; 3] {
            u64::from_be_bytes(block[128..136].try_into().ok()?)
        } else {
            return None;
        };
        let mut path = Vec::new();
        // GNU headers have other fields in place of the prefix.
        if &block[257..263] == b"ustar\0" && block[345] != 0 {
            path.extend_from_slice(up_to_nul(&block[345..500]));
            path.push(b'/');
        }
        path.extend_from_slice(up_to_nul(&block[..100]));
        Some(Self { kind: block[156], size, path })
    }
}

/// Reads a number of digits between spaces, up to a NUL; nothing at all is zero.
fn number(text: &[u8], radix: u64) -> Option<u64> {
    let text = up_to_nul(text).trim_ascii();
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        if digit >= radix { None } else { number.checked_mul(radix)?.checked_add(digit) }
    })
}

fn up_to_nul(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())]
}

/// Hashes a path as it is and with its digits masked; `./` and `/` before it don't count.
fn path_hashes(path: &[u8]) -> (u64, u64) {
    let mut path = path;
    while let Some(rest) = path.strip_prefix(b"./").or_else(|| path.strip_prefix(b"/")) {
        path = rest;
    }
    let mut masked = Vec::with_capacity(path.len());
    for byte in path {
        if !byte.is_ascii_digit() {
            masked.push(*byte);
        } else if masked.last() != Some(&b'0') {
            masked.push(b'0');
        }
    }
    // Zero stands for what is no member.
    (xxh3_64(path).max(1), xxh3_64(&masked).max(1))
}

/// Returns whether content starts as machine code comes: ELF, PE, Mach-O, WebAssembly, static libraries.
pub(super) fn is_executable(content: &[u8]) -> bool {
    const MAGICS: [&[u8]; 8] = [
        b"\x7fELF",
        b"MZ",
        b"\xfe\xed\xfa\xce",
        b"\xfe\xed\xfa\xcf",
        b"\xce\xfa\xed\xfe",
        b"\xcf\xfa\xed\xfe",
        b"\0asm",
        b"!<arch>\n",
    ];
    content.len() >= 64 && MAGICS.iter().any(|magic| content.starts_with(magic))
}
