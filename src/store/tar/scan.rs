//! The scan over a tar file's headers.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::extension::{Extensions, MAX_EXTENSION, long_name, parse_pax};
use super::header::{Header, HeaderFault, parse_header_block};
use super::name::{normalise, printable, symbolic_target};
use super::{BLOCK, Entry, EntryKind, TarFault};

/// How much is read at once while headers lie close together, in bytes: as much as Linux reads ahead of a sequential
/// reader in half a step (128 KiB by default), so a scan over small entries costs one call in some dozens of entries.
const WINDOW: usize = 64 * 1024;

/// How much is read at once after a jump over a large entry, in bytes: a page, which the system reads anyway. It holds
/// a PAX header, its records and the header that follows.
const GLANCE: usize = 4096;

/// Iterates over the entries and the faults of a tar file, in file order.
///
/// After a fault that loses the position ([`TarFault::ends_scan`]) the iterator ends; [`Scan::at`] starts another one
/// elsewhere. A scan that meets no fault has seen the end mark and nothing but zeros after it.
#[derive(Debug)]
pub struct Scan<'f> {
    file: &'f File,
    length: u64,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
    state: State,
    /// Whether what follows the end mark is looked at.
    looks_behind: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Entries,
    AfterEnd,
    Done,
}

impl<'f> Scan<'f> {
    /// Scans from the start. `length` is the file's length in bytes; nothing beyond it is read.
    #[must_use]
    pub fn new(file: &'f File, length: u64) -> Self {
        Self::at(file, length, 0)
    }

    /// Scans from byte `offset`, where an entry must begin.
    #[must_use]
    pub fn at(file: &'f File, length: u64, offset: u64) -> Self {
        Self {
            file,
            length,
            position: offset.min(length),
            window: Vec::new(),
            window_start: 0,
            state: State::Entries,
            looks_behind: true,
        }
    }

    /// Ends the scan at the end mark, without reading what follows it: that may be all of a large file, where zeros
    /// stand in place of a header.
    #[must_use]
    pub fn until_end_mark(mut self) -> Self {
        self.looks_behind = false;
        self
    }

    /// Returns the offset that the scan has come to.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns where the last read began, for tests that count reads.
    #[cfg(test)]
    pub(super) fn window_start(&self) -> u64 {
        self.window_start
    }

    /// Reads the block at `offset`. The borrow is of the window, so it is copied.
    fn block(&mut self, offset: u64) -> Result<[u8; BLOCK as usize], TarFault> {
        let available = self.length.saturating_sub(offset);
        let truncated = |available| TarFault::Truncated { offset, path: None, needed: BLOCK, available };
        if available < BLOCK {
            return Err(truncated(available));
        }
        if let Some(block) = self.windowed(offset) {
            return Ok(block);
        }
        let window_end = self.window_start + self.window.len() as u64;
        let near = offset >= self.window_start && offset - window_end.min(offset) < WINDOW as u64;
        let wanted = if near { WINDOW } else { GLANCE };
        let wanted = usize::try_from(available).map_or(wanted, |available| available.min(wanted));
        self.window.resize(wanted, 0);
        let read = read_full(self.file, &mut self.window, offset);
        self.window_start = offset;
        match read {
            Ok(read) => self.window.truncate(read),
            Err(source) => {
                self.window.clear();
                return Err(TarFault::Io { offset, source });
            }
        }
        // The file may have shrunk since its length was taken.
        self.windowed(offset).ok_or_else(|| truncated(self.window.len() as u64))
    }

    fn windowed(&self, offset: u64) -> Option<[u8; BLOCK as usize]> {
        let start = usize::try_from(offset.checked_sub(self.window_start)?).ok()?;
        self.window.get(start..start.checked_add(BLOCK as usize)?)?.try_into().ok()
    }

    /// Checks that `size` bytes lie at `start` and returns the offset after them and their padding, at most the file's
    /// length. `offset` and `path` are for the fault.
    fn after(&self, start: u64, size: u64, offset: u64, path: Option<&[u8]>) -> Result<u64, TarFault> {
        let available = self.length.saturating_sub(start);
        if size > available {
            return Err(TarFault::Truncated {
                offset,
                path: path.map(printable),
                needed: size.saturating_add(start - offset),
                available: self.length - offset,
            });
        }
        // No overflow: the sum is at most the length, and a length near `u64::MAX` is no file's.
        Ok((start + size).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX).min(self.length))
    }

    /// Reads the content of an extension header.
    fn extension(&mut self, offset: u64, size: u64) -> Result<Vec<u8>, TarFault> {
        if size > MAX_EXTENSION {
            return Err(TarFault::BadExtension {
                offset,
                why: "it is longer than the 1 MiB that readers accept",
            });
        }
        let start = offset + BLOCK;
        let next = self.after(start, size, offset, None)?;
        let mut data = Vec::with_capacity(size as usize);
        let mut position = start;
        // By blocks through the window: extensions are short and lie beside the headers.
        while (data.len() as u64) < size {
            let left = size - data.len() as u64;
            if self.length - position < BLOCK {
                // Data without its padding, at the very end: no entry can follow.
                return Err(TarFault::Truncated {
                    offset,
                    path: None,
                    needed: (position - offset) + BLOCK,
                    available: self.length - offset,
                });
            }
            let block = self.block(position)?;
            data.extend_from_slice(&block[..left.min(BLOCK) as usize]);
            position += BLOCK;
        }
        self.position = next;
        Ok(data)
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, TarFault> {
        let start = self.position;
        let mut extensions = Extensions::default();
        loop {
            let offset = self.position;
            if offset == self.length && extensions.is_empty() {
                return Err(TarFault::MissingEnd { offset });
            }
            let block = self.block(offset)?;
            let header = match parse_header_block(&block) {
                Ok(Some(header)) => header,
                Ok(None) if extensions.is_empty() => return self.end(offset),
                Ok(None) => {
                    return Err(TarFault::BadExtension { offset: start, why: "no entry follows it" });
                }
                Err(HeaderFault::Checksum) => return Err(TarFault::BadChecksum { offset }),
                Err(HeaderFault::Size) => return Err(TarFault::BadSize { offset }),
            };
            let bad = |why| TarFault::BadExtension { offset, why };
            match header.type_flag {
                b'x' => {
                    let data = self.extension(offset, header.size)?;
                    let pax = parse_pax(&data).map_err(bad)?;
                    if extensions.pax.replace(pax).is_some() {
                        return Err(bad("it is repeated"));
                    }
                }
                b'g' => {
                    let data = self.extension(offset, header.size)?;
                    let pax = parse_pax(&data).map_err(bad)?;
                    if pax != super::extension::Pax::default() {
                        // GNU tar would obey it for all that follows, Go would not.
                        return Err(bad("it sets a name or a size for all entries"));
                    }
                }
                b'L' | b'K' => {
                    let data = long_name(self.extension(offset, header.size)?);
                    let place =
                        if header.type_flag == b'L' { &mut extensions.name } else { &mut extensions.link };
                    if place.replace(data).is_some() {
                        return Err(bad("it is repeated"));
                    }
                }
                _ => return self.entry(start, offset, header, extensions, &block).map(Some),
            }
        }
    }

    /// Makes the entry that a header and the extensions before it describe, and moves on to the next.
    fn entry(
        &mut self,
        start: u64,
        header_offset: u64,
        header: Header,
        extensions: Extensions,
        block: &[u8; BLOCK as usize],
    ) -> Result<Entry, TarFault> {
        let pax = extensions.pax.unwrap_or_default();
        let contradiction = |why| TarFault::BadExtension { offset: start, why };
        let raw = Extensions::choose(pax.path, extensions.name, header.path).map_err(contradiction)?;
        let raw_link = Extensions::choose(pax.link, extensions.link, header.link).map_err(contradiction)?;
        let declared = pax.size.unwrap_or(header.size);
        // Links, devices, directories and pipes have no data whatever their size says, as in Go: old writers put the
        // linked file's size there, or the space that a directory may take.
        let size = match header.type_flag {
            b'1'..=b'6' => 0,
            _ => declared,
        };
        let old_sparse = header.type_flag == b'S';
        let mut data_offset = header_offset + BLOCK;
        if old_sparse && block[482] != 0 {
            // Further blocks of the sparse map lie before the data; the last has a zero at byte 504.
            while self.block(data_offset)?[504] != 0 {
                data_offset += BLOCK;
            }
            data_offset += BLOCK;
        }
        self.position = self.after(data_offset, size, start, Some(&raw))?;

        let path = normalise(&raw).map_err(|why| TarFault::HostilePath {
            offset: start,
            path: printable(&raw),
            why,
        })?;
        if old_sparse || pax.sparse {
            return Err(TarFault::Sparse { offset: start, path: printable(&raw) });
        }
        let kind = match header.type_flag {
            // Before POSIX a directory was a file whose name ends with a slash.
            0 if raw.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File,
            b'5' => EntryKind::Directory,
            flag @ (b'1' | b'2') => {
                // A hard link names from the root, a symbolic one from its own folder.
                let target =
                    if flag == b'1' { normalise(&raw_link).ok() } else { symbolic_target(&path, &raw_link) };
                let target = target.ok_or_else(|| TarFault::LinkOutside {
                    offset: start,
                    path: path.clone(),
                    target: printable(&raw_link),
                })?;
                EntryKind::Link { target }
            }
            other => EntryKind::Other(other),
        };
        Ok(Entry { path, kind, start, header_offset, data_offset, size })
    }

    /// Handles the zero block at `offset`: the end mark is two of them.
    fn end(&mut self, offset: u64) -> Result<Option<Entry>, TarFault> {
        let second = offset + BLOCK;
        if self.length - second < BLOCK {
            return Err(TarFault::MissingEnd { offset });
        }
        if self.block(second)?.iter().any(|byte| *byte != 0) {
            return Err(TarFault::BadChecksum { offset });
        }
        self.position = second + BLOCK;
        self.state = State::AfterEnd;
        Ok(None)
    }

    /// Looks for anything but zeros after the end mark; writers pad with zeros to their record size.
    fn trailing(&mut self) -> Option<TarFault> {
        let mut piece = vec![0; WINDOW];
        while self.position < self.length {
            let left = self.length - self.position;
            let wanted = usize::try_from(left).map_or(WINDOW, |left| left.min(WINDOW));
            let offset = self.position;
            match read_full(self.file, &mut piece[..wanted], offset) {
                Ok(0) => return None,
                Ok(read) => {
                    if let Some(found) = piece[..read].iter().position(|byte| *byte != 0) {
                        let offset = offset + found as u64;
                        return Some(TarFault::TrailingData { offset: offset - offset % BLOCK });
                    }
                    self.position += read as u64;
                }
                Err(source) => return Some(TarFault::Io { offset, source }),
            }
        }
        None
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry, TarFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Entries {
            match self.next_entry() {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(fault) => {
                    if fault.ends_scan() {
                        self.state = State::Done;
                    }
                    return Some(Err(fault));
                }
            }
        }
        if self.state == State::AfterEnd {
            self.state = State::Done;
            return if self.looks_behind { self.trailing().map(Err) } else { None };
        }
        None
    }
}

/// Reads until the buffer is full or the file ends, and returns how much came.
pub(in crate::store) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
