//! Reading a tar file as it comes, from what can't be sought in: the layers of images.
//!
//! Names are handed out as they are written; what becomes of them is the caller's matter. What an extension header may
//! make this reader allocate is bounded as in [`Scan`](super::Scan), and names that no system has are refused.

use std::io::{self, Read};

use super::extension::{Extensions, MAX_EXTENSION, Pax, long_name, parse_pax};
use super::header::{HeaderFault, parse_header_block};
use super::name::{MAX_NAME, printable};
use super::{BLOCK, TarFault};

/// Goes through the entries of a tar file that is read from its start.
///
/// After [`TarStream::next_entry`], reading from the stream gives that entry's data and ends with it.
#[derive(Debug)]
pub struct TarStream<R> {
    reader: R,
    /// Bytes read so far.
    position: u64,
    /// Data of the current entry not yet read.
    data: u64,
    /// Padding after the data.
    padding: u64,
}

/// An entry of a tar file that is read as it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// The name, as it is written.
    pub path: Vec<u8>,
    /// What a link names, as it is written.
    pub link: Vec<u8>,
    /// The type flag; `0` for a file also where old writers put a zero byte, `5` for a name that ends with a slash.
    pub type_flag: u8,
    /// Length of the data in bytes.
    pub size: u64,
    /// Whether the data is in one of GNU's sparse forms, not the content as it is.
    pub is_sparse: bool,
}

impl<R: Read> TarStream<R> {
    /// Starts at the beginning of a tar file.
    pub fn new(reader: R) -> Self {
        Self { reader, position: 0, data: 0, padding: 0 }
    }

    /// Returns the reader, wherever it has come to.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// Goes on to the next entry, skipping what is left of the current one; none at the end mark or the end of the file.
    ///
    /// # Errors
    /// A [`TarFault`] after which nothing can be read, [`TarFault::Io`] for what the reader says.
    pub fn next_entry(&mut self) -> Result<Option<StreamEntry>, TarFault> {
        self.skip_rest()?;
        let start = self.position;
        let mut extensions = Extensions::default();
        loop {
            let offset = self.position;
            let Some(block) = self.block(extensions.is_empty())? else { return Ok(None) };
            let header = match parse_header_block(&block) {
                Ok(Some(header)) => header,
                Ok(None) if extensions.is_empty() => return Ok(None),
                Ok(None) => {
                    return Err(TarFault::BadExtension { offset: start, why: "no entry follows it" });
                }
                Err(HeaderFault::Checksum) => return Err(TarFault::BadChecksum { offset }),
                Err(HeaderFault::Size) => return Err(TarFault::BadSize { offset }),
            };
            let bad = |why| TarFault::BadExtension { offset, why };
            let is_repeated = match header.type_flag {
                b'x' => {
                    let pax = parse_pax(&self.extension(offset, header.size)?).map_err(bad)?;
                    extensions.pax.replace(pax).is_some()
                }
                b'g' => {
                    if parse_pax(&self.extension(offset, header.size)?).map_err(bad)? != Pax::default() {
                        return Err(bad("it sets a name or a size for all entries"));
                    }
                    false
                }
                b'L' => extensions.name.replace(long_name(self.extension(offset, header.size)?)).is_some(),
                b'K' => extensions.link.replace(long_name(self.extension(offset, header.size)?)).is_some(),
                _ => {
                    if header.type_flag == b'S' && block[482] != 0 {
                        // Further blocks of the sparse map lie before the data; the last has a zero at byte 504.
                        while self.block(false)?.is_some_and(|block| block[504] != 0) {}
                    }
                    let pax = extensions.pax.unwrap_or_default();
                    let bad = |why| TarFault::BadExtension { offset: start, why };
                    let path = Extensions::choose(pax.path, extensions.name, header.path).map_err(bad)?;
                    let link = Extensions::choose(pax.link, extensions.link, header.link).map_err(bad)?;
                    for name in [&path, &link] {
                        if name.len() > MAX_NAME {
                            let (path, why) = (printable(name), "it is longer than 4096 bytes");
                            return Err(TarFault::HostilePath { offset: start, path, why });
                        }
                    }
                    let type_flag = match header.type_flag {
                        0 if path.ends_with(b"/") => b'5',
                        0 | b'7' => b'0',
                        flag => flag,
                    };
                    // As in a scan: these have no data whatever their size says.
                    let size =
                        if matches!(type_flag, b'1'..=b'6') { 0 } else { pax.size.unwrap_or(header.size) };
                    self.data = size;
                    self.padding = size.wrapping_neg() % BLOCK;
                    let is_sparse = type_flag == b'S' || pax.sparse;
                    return Ok(Some(StreamEntry { path, link, type_flag, size, is_sparse }));
                }
            };
            if is_repeated {
                return Err(bad("it is repeated"));
            }
        }
    }

    /// Reads a block; none at the end of the file, where that is allowed.
    fn block(&mut self, may_end: bool) -> Result<Option<[u8; BLOCK as usize]>, TarFault> {
        let mut block = [0; BLOCK as usize];
        match self.fill(&mut block)? {
            0 if may_end => Ok(None),
            read if read < block.len() => Err(self.cut_off(BLOCK, read as u64)),
            _ => Ok(Some(block)),
        }
    }

    /// Reads the content of an extension header.
    fn extension(&mut self, offset: u64, size: u64) -> Result<Vec<u8>, TarFault> {
        if size > MAX_EXTENSION {
            return Err(TarFault::BadExtension {
                offset,
                why: "it is longer than the 1 MiB that readers accept",
            });
        }
        let padded = size.next_multiple_of(BLOCK);
        let mut data = vec![0; padded as usize];
        let read = self.fill(&mut data)? as u64;
        if read < padded {
            return Err(self.cut_off(padded, read));
        }
        data.truncate(size as usize);
        Ok(data)
    }

    fn cut_off(&self, needed: u64, available: u64) -> TarFault {
        TarFault::Truncated { offset: self.position - available, path: None, needed, available }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarFault> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.position += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarFault::Io { offset: self.position, source }),
            }
        }
        Ok(filled)
    }

    /// Skips what is left of the current entry.
    fn skip_rest(&mut self) -> Result<(), TarFault> {
        let mut scrap = [0; 16 * 1024];
        let left = self.data.saturating_add(self.padding);
        let mut skipped = 0;
        while skipped < left {
            let wanted = usize::try_from(left - skipped).map_or(scrap.len(), |left| left.min(scrap.len()));
            match self.fill(&mut scrap[..wanted])? {
                0 => return Err(self.cut_off(left, skipped)),
                read => skipped += read as u64,
            }
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.data).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within an entry"));
        }
        self.position += read as u64;
        self.data -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn entries_come_with_their_data_and_long_names() {
        let long = "n".repeat(300);
        let bytes = archive(&[("a", b"first"), (&long, &[7; 2000]), ("b", b"")]);
        let mut stream = TarStream::new(&bytes[..]);
        let entry = stream.next_entry().unwrap().unwrap();
        assert_eq!((&entry.path[..], entry.size, entry.type_flag), (&b"a"[..], 5, b'0'));
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        assert_eq!(data, b"first");
        // Data that nobody reads is skipped.
        assert_eq!(stream.next_entry().unwrap().unwrap().path, long.as_bytes());
        assert_eq!(stream.next_entry().unwrap().unwrap().path, b"b");
        assert_eq!(stream.next_entry().unwrap(), None);
    }

    #[test]
    fn cut_files_and_long_extensions_are_faults() {
        let bytes = archive(&[("a", &[1; 3000])]);
        let mut stream = TarStream::new(&bytes[..1500]);
        stream.next_entry().unwrap();
        assert!(matches!(stream.next_entry(), Err(TarFault::Truncated { .. })));
        assert!(matches!(TarStream::new(&bytes[..100]).next_entry(), Err(TarFault::Truncated { .. })));
        let mut header = Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let fault = TarStream::new(&header.as_bytes()[..]).next_entry();
        assert!(matches!(fault, Err(TarFault::BadExtension { .. })), "{fault:?}");
    }

    #[test]
    fn names_longer_than_any_system_has_are_refused() {
        let long = "a/".repeat(2047);
        assert!(TarStream::new(&archive(&[(&long, b"")])[..]).next_entry().is_ok());
        let long = "a/".repeat(2049);
        let fault = TarStream::new(&archive(&[(&long, b"")])[..]).next_entry().unwrap_err();
        assert!(matches!(fault, TarFault::HostilePath { .. }), "{fault:?}");
        assert!(fault.to_string().ends_with("it is longer than 4096 bytes"), "{fault}");
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", &long).unwrap();
        let bytes = builder.into_inner().unwrap();
        assert!(matches!(TarStream::new(&bytes[..]).next_entry(), Err(TarFault::HostilePath { .. })));
    }
}
