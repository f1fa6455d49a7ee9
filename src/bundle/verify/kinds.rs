//! The kinds of findings: their stable names, and what each means to the people who hold the medium.

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The stable name, in kebab case.
    pub id: &'static str,
    /// What it means and what helps, in a sentence for somebody who has to decide something.
    pub meaning: &'static str,
}

/// Every kind of finding, the gravest first: reports are sorted in this order.
pub const KINDS: [Kind; 30] = [
    kind(
        "truncated",
        "the file was cut off: what lies behind the cut is not here; copy the file again, or have the missing content sent",
    ),
    kind(
        "record-newer",
        "the bundle was made by a newer barge: use that one; only what every OCI layout has was checked",
    ),
    kind(
        "record-damaged",
        "the bundle's own record can't be relied on: copy the file again from where it is whole",
    ),
    kind(
        "layout-mismatch",
        "the file `oci-layout` is not as it was written: other tools may refuse the bundle",
    ),
    kind(
        "index-mismatch",
        "`index.json` is not as it was written: other tools may find the wrong images or none",
    ),
    kind(
        "index-unlisted",
        "`index.json` and the record disagree about the images: do not import this with other tools",
    ),
    kind(
        "docker-manifest-mismatch",
        "`manifest.json` is not as it was written: do not give this to `docker load`",
    ),
    kind(
        "blob-damaged",
        "content changed on the way: its bytes do not hash to its digest; have it sent again",
    ),
    kind(
        "blob-unreadable",
        "the medium failed while content was read: try another drive or cable, else have it sent again",
    ),
    kind("blob-missing", "content that the bundle says it holds is not there; have it sent again"),
    kind(
        "closure-missing",
        "an image needs content that the bundle neither holds nor leaves out on purpose; pack it again",
    ),
    kind(
        "gap",
        "content could not be had when the bundle was packed, and its place was kept free; pack again to fill it",
    ),
    kind(
        "failed-image",
        "the image was asked for and is not whole in this bundle; the bundle said so when it was packed",
    ),
    kind(
        "tar-header-damaged",
        "a tar header is not as it was written, so no tool finds what follows it; have it sent again",
    ),
    kind(
        "table-overlap",
        "the record puts two pieces of content in one place, which no bundle of barge's does; do not use it",
    ),
    kind(
        "table-misplaced",
        "the record puts content where it does not lie; copy the file again from where it is whole",
    ),
    kind(
        "size-mismatch",
        "a manifest gives content another size than it has: registries will refuse it; pack it again",
    ),
    kind(
        "data-mismatch",
        "a manifest carries a copy of content that differs from it: do not trust that manifest",
    ),
    kind(
        "patch-mismatch",
        "a patch gives other content, or needs other content, than the record says; have what it is to give sent whole",
    ),
    kind(
        "manifest-invalid",
        "a manifest arrived as it was sent and still makes no sense; ask where the image was built",
    ),
    kind(
        "hostile-path",
        "an entry has a name or link that leads out of the folder it is unpacked in; do not unpack this file",
    ),
    kind(
        "entry-duplicate",
        "an entry is there twice, and which of the two counts depends on the reader; do not use this file",
    ),
    kind(
        "entry-unlisted",
        "there is something in the file that the bundle does not list: it was put there later",
    ),
    kind("entry-unusable", "an entry has a form that most readers don't know, so they pass over its content"),
    kind("trailing-data", "something other than zeros follows the archive's end: it was put there later"),
    kind(
        "trailer-missing",
        "the file does not end as a finished bundle does: the end was overwritten or never written",
    ),
    kind("trailer-mismatch", "the trailer and the record are not of one bundle, or one of them was damaged"),
    kind("length-mismatch", "the file is not as long as it was when it was written"),
    kind(
        "end-mark",
        "the zeros that end the archive are damaged: some tools complain, the content is not touched",
    ),
    kind(
        "padding",
        "bytes that fill up blocks are not zero: no content is touched, but the medium or the way changed them",
    ),
];

const fn kind(id: &'static str, meaning: &'static str) -> Kind {
    Kind { id, meaning }
}

/// Finds a kind by its name.
#[must_use]
pub fn kind_of(id: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.id == id)
}

/// Returns the place of a kind in [`KINDS`], to sort by.
pub(super) fn rank(id: &str) -> usize {
    KINDS.iter().position(|kind| kind.id == id).unwrap_or(KINDS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_words_and_each_stands_once() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert!(kind.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", kind.id);
            assert_eq!(rank(kind.id), at, "{} stands twice", kind.id);
            assert!(!kind.meaning.ends_with('.') && kind.meaning.len() < 140, "{}", kind.meaning);
        }
    }
}
