//! Archives put together byte by byte from the text of `bundle.md`, right ones and wrong ones.

use barge::oci::Digest;

use super::made::Made;
use super::walk::BLOCK;

/// A header block as B-2 has it.
pub fn block(name: &str, size: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\0");
    put(263, b"00");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    block
}

/// A PAX header with these records, which must fit a block.
pub fn pax(records: &str) -> Vec<u8> {
    let mut bytes = block("PaxHeaders/size", records.len() as u64, b'x').to_vec();
    bytes.extend_from_slice(records.as_bytes());
    bytes.resize(2 * BLOCK, 0);
    bytes
}

/// An entry with a short path.
pub fn entry(path: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = block(path, content.len() as u64, b'0').to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// The content of a trailer as B-20 has it.
pub fn trailer(record: &[u8], length: u64) -> Vec<u8> {
    let digest = Digest::sha256(record);
    let mut text =
        format!("barge-trailer 1\nrecord {digest} {}\nlength {length}\nvolume 1 of 1\n", record.len());
    text.push_str(&" ".repeat(511 - text.len()));
    text.push('\n');
    text.into_bytes()
}

/// An archive of these head entries and this body, with the right trailer for `record`.
pub fn archive(head: &[(&str, &[u8])], body: &[u8], record: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = head.iter().flat_map(|(path, content)| entry(path, content)).collect();
    bytes.extend_from_slice(body);
    let length = bytes.len() + 4 * BLOCK;
    bytes.extend(entry(".barge-trailer", &trailer(record, length as u64)));
    bytes.resize(length, 0);
    bytes
}

/// The body of an archive.
pub fn body(made: &Made) -> &[u8] {
    let end = made.entry(".barge-trailer").start;
    &made.bytes[made.head_length() as usize..end as usize]
}

/// The archive with another record, otherwise right.
pub fn with_record(made: &Made, record: &[u8]) -> Vec<u8> {
    let head = [
        ("oci-layout", made.content("oci-layout")),
        ("index.json", made.content("index.json")),
        ("barge.json", record),
    ];
    archive(&head, body(made), record)
}

/// The archive with an edited record, otherwise right.
pub fn with_edited_record(made: &Made, edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut record = made.record.clone();
    edit(&mut record);
    with_record(made, record.to_string().as_bytes())
}

/// The archive with other content in the place of a blob, otherwise right.
pub fn replaced(made: &Made, old: &Digest, content: &[u8]) -> Vec<u8> {
    let new = Digest::sha256(content);
    let text = made.record.to_string().replace(&old.to_string(), &new.to_string());
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut body = Vec::new();
    for row in record["blobs"].as_array_mut().unwrap() {
        let digest: Digest = row["digest"].as_str().unwrap().parse().unwrap();
        let bytes = if digest == new { content } else { made.content(&digest.blob_path()) };
        row["offset"] = (body.len() + BLOCK).into();
        row["size"] = bytes.len().into();
        body.extend(entry(&digest.blob_path(), bytes));
    }
    let record = record.to_string();
    let head = [
        ("oci-layout", made.content("oci-layout")),
        ("index.json", made.content("index.json")),
        ("barge.json", record.as_bytes()),
    ];
    archive(&head, &body, record.as_bytes())
}
