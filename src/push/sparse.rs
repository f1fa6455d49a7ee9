//! Sparse indexes at targets that refuse them: telling such a refusal from a broken upload, and making an index that
//! lists only what is there.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::oci::{Descriptor, Digest};
use crate::store::StoreError;

/// What to do when a target refuses an index whose children are not all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The exact index or none: the image fails.
    #[default]
    Require,
    /// An index that lists only what is there, under a new digest.
    Rewrite,
    /// The one child that is there, under the tag.
    Single,
}

/// Codes by which registries refuse an index without saying which child is missing.
const GENERIC_CODES: [&str; 6] = [
    "MANIFEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_UNKNOWN",
    "BLOB_UNKNOWN",
    "UNSUPPORTED",
    "ReferencedImagesNotFoundException",
];

/// What a refused manifest was refused for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Because children are absent that were left out on purpose.
    Sparse,
    /// Content that is meant to be there is not: these digests, or some that the registry does not name.
    Missing(Vec<Digest>),
    /// Something else.
    Other,
}

/// Tells what a PUT was refused for.
///
/// `absent` are the children left out on purpose, `present` those that are meant to be there. Whether the present ones
/// are really there is for the caller to ask, where this returns [`Refusal::Sparse`] by a generic code.
#[must_use]
pub fn refusal(error: &StoreError, absent: &[Digest], present: &[Digest]) -> Refusal {
    let (status, messages) = match error {
        StoreError::Refused { status, messages, .. } => (*status, messages),
        // A registry whose handler crashes over a sparse index drops the connection.
        StoreError::Unreachable { .. } if !absent.is_empty() => return Refusal::Sparse,
        _ => return Refusal::Other,
    };
    if !(400..500).contains(&status) {
        return Refusal::Other;
    }
    let texts: Vec<String> =
        messages.iter().map(|m| format!("{} {} {}", m.code, m.message, m.detail)).collect();
    let text = texts.join(" ");
    let missing: Vec<Digest> =
        present.iter().filter(|digest| text.contains(&digest.hex())).cloned().collect();
    if !missing.is_empty() {
        return Refusal::Missing(missing);
    }
    let names_absent = absent.iter().any(|digest| text.contains(&digest.hex()));
    let is_generic = messages.iter().any(|m| GENERIC_CODES.contains(&m.code.as_str()))
        || GENERIC_CODES.iter().any(|code| text.contains(code));
    let is_unknown = |code: &str| code.ends_with("BLOB_UNKNOWN") || code == "MANIFEST_UNKNOWN";
    match () {
        () if names_absent || (is_generic && !absent.is_empty()) => Refusal::Sparse,
        () if messages.iter().any(|message| is_unknown(&message.code)) => Refusal::Missing(Vec::new()),
        () => Refusal::Other,
    }
}

/// An index made of another by leaving entries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The new bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

/// Makes an index without the entries that `keep` refuses and with the entries of `replaced` under their new digest
/// and size. Everything else stays as it is, to the byte: order, unknown fields, white space.
///
/// # Errors
/// What the parser says, for bytes that are no index.
pub fn rewrite(
    bytes: &[u8],
    keep: impl Fn(&Digest) -> bool,
    replaced: &BTreeMap<Digest, Descriptor>,
) -> serde_json::Result<Rewritten> {
    #[derive(Deserialize)]
    struct Index<'a> {
        #[serde(borrow)]
        manifests: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        digest: &'a RawValue,
        #[serde(borrow)]
        size: &'a RawValue,
    }
    let index: Index<'_> = serde_json::from_slice(bytes)?;
    // Places in the original: the raw values are slices of it.
    let place = |raw: &RawValue| {
        let start = raw.get().as_ptr() as usize - bytes.as_ptr() as usize;
        start..start + raw.get().len()
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    let mut is_first = true;
    let mut previous_end = None;
    for raw in &index.manifests {
        let range = place(raw);
        let entry: Entry<'_> = serde_json::from_str(raw.get())?;
        let digest: Digest = serde_json::from_str(entry.digest.get())?;
        // What stands before an entry, a comma and white space, goes and stays with it, but for the first one kept.
        let before = previous_end.unwrap_or(range.start)..range.start;
        if previous_end.is_none() {
            out.extend_from_slice(&bytes[copied..range.start]);
        }
        previous_end = Some(range.end);
        copied = range.end;
        if !keep(&digest) {
            continue;
        }
        if !is_first {
            out.extend_from_slice(&bytes[before]);
        }
        is_first = false;
        match replaced.get(&digest) {
            None => out.extend_from_slice(raw.get().as_bytes()),
            Some(new) => {
                let mut edits = [
                    (place(entry.digest), format!("\"{}\"", new.digest)),
                    (place(entry.size), new.size.to_string()),
                ];
                edits.sort_by_key(|(range, _)| range.start);
                let mut at = range.start;
                for (edit, text) in edits {
                    out.extend_from_slice(&bytes[at..edit.start]);
                    out.extend_from_slice(text.as_bytes());
                    at = edit.end;
                }
                out.extend_from_slice(&bytes[at..range.end]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    let digest = Digest::sha256(&out);
    Ok(Rewritten { bytes: out, digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RegistryMessage;

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn index(names: &[&str]) -> String {
        let entry = |name: &&str| {
            format!(
                "    {{ \"x\": [1], \"size\" : 7,\n \"digest\": \"{}\", \"mediaType\": \"m\" }}",
                digest(name)
            )
        };
        let entries: Vec<String> = names.iter().map(entry).collect();
        format!(
            "{{\n  \"future\": {{\"b\":1,\"a\":2}},\n  \"manifests\": [\n{}\n  ],\n \"z\": 1}}\n",
            entries.join(",\n")
        )
    }

    #[test]
    fn what_is_left_stays_as_it_was() {
        let all = index(&["a", "b", "c", "d"]);
        for kept in [&["a", "b", "c", "d"][..], &["a"], &["d"], &["b", "c"], &["a", "d"]] {
            let keep: Vec<Digest> = kept.iter().map(|name| digest(name)).collect();
            let new = rewrite(all.as_bytes(), |digest| keep.contains(digest), &BTreeMap::new()).unwrap();
            assert_eq!(String::from_utf8(new.bytes.clone()).unwrap(), index(kept), "{kept:?}");
            assert_eq!(new.digest, Digest::sha256(&new.bytes));
        }
        let none = rewrite(all.as_bytes(), |_| false, &BTreeMap::new()).unwrap();
        assert!(
            serde_json::from_slice::<serde_json::Value>(&none.bytes).unwrap()["manifests"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_replaced_entry_changes_only_digest_and_size() {
        let new = Descriptor::new("m", digest("new"), 99);
        let replaced = BTreeMap::from([(digest("a"), new)]);
        let rewritten = rewrite(index(&["a", "b"]).as_bytes(), |_| true, &replaced).unwrap();
        let expected = index(&["a", "b"])
            .replacen("\"size\" : 7", "\"size\" : 99", 1)
            .replace(&digest("a").to_string(), &digest("new").to_string());
        assert_eq!(String::from_utf8(rewritten.bytes).unwrap(), expected);
    }

    fn refused(status: u16, code: &str, text: &str) -> StoreError {
        let messages =
            vec![RegistryMessage { code: code.to_owned(), message: text.to_owned(), detail: String::new() }];
        StoreError::Refused { place: "r".to_owned(), what: "m".to_owned(), status, messages }
    }

    #[test]
    fn a_sparse_refusal_is_told_from_a_broken_upload() {
        let (absent, present) = ([digest("absent")], [digest("present")]);
        let tell = |error: &StoreError| refusal(error, &absent, &present);
        assert_eq!(
            tell(&refused(400, "MANIFEST_BLOB_UNKNOWN", &digest("absent").to_string())),
            Refusal::Sparse
        );
        assert_eq!(tell(&refused(400, "MANIFEST_INVALID", "manifest invalid")), Refusal::Sparse);
        assert_eq!(tell(&refused(404, "", "ReferencedImagesNotFoundException: x")), Refusal::Sparse);
        let fault =
            refused(400, "MANIFEST_BLOB_UNKNOWN", &format!("{} {}", digest("absent"), digest("present")));
        assert_eq!(tell(&fault), Refusal::Missing(vec![digest("present")]));
        assert_eq!(tell(&refused(500, "MANIFEST_INVALID", "")), Refusal::Other);
        assert_eq!(tell(&refused(405, "DENIED", "read only")), Refusal::Other);
        let whole = refusal(&refused(400, "MANIFEST_BLOB_UNKNOWN", "x"), &[], &present);
        assert_eq!(whole, Refusal::Missing(Vec::new()));
    }
}
