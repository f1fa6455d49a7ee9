//! Content that is rebuilt: what the record says of it, and whether the patches say the same.

use std::collections::{HashMap, HashSet};

use super::report::Findings;
use super::subject::{State, Subject};
use super::walk::{Closure, NodeId};
use crate::bundle::patches::{ContentRow, FEATURE, PatchRow};
use crate::bundle::record::Record;
use crate::bundle::table::{BlobTable, Role};
use crate::delta::patch::{HEAD_MAX, Head, MEDIA_TYPE};
use crate::oci::Digest;

/// Checks what a record says of content that is rebuilt, beyond what makes it impossible to use.
///
/// That the rows are sorted follows from the record's bytes being canonical.
pub(super) fn check_rows(record: &Record, findings: &mut Findings) {
    let has_feature = record.requires.iter().any(|feature| feature == FEATURE);
    if record.patches.is_empty() == has_feature {
        let text = match has_feature {
            true => "it requires readers to know of patches, and has none",
            false => "it has patches, and does not require readers to know of them",
        };
        findings.whole("record-damaged", text);
    }
    if !record.patches.is_empty() && record.base.is_none() {
        findings.whole("record-damaged", "it has patches, and nothing says what the bundle builds on");
    }
    let built_on: HashSet<&Digest> = record.patches.iter().flat_map(|row| &row.bases).collect();
    check_content(record.far_content(), &built_on, findings);
    let named: HashSet<&Digest> = record.patches.iter().map(|row| &row.patch).collect();
    for row in record.blobs.iter() {
        let text = match row.role {
            Role::Patch if !named.contains(row.digest) => {
                "it is listed as a patch, and nothing is rebuilt by it"
            }
            Role::Patch if row.media_type != MEDIA_TYPE => {
                "it is listed as a patch, with the type of something else"
            }
            Role::Base if !built_on.contains(row.digest) => {
                "it is listed as content that patches build on, and none does"
            }
            _ => continue,
        };
        findings.content("record-damaged", row.digest, None, text);
    }
    for row in record.patches.iter() {
        check_bases(row, &record.blobs, findings);
    }
}

/// Checks the list of what patches build on at the far side.
fn check_content(content: &[ContentRow], built_on: &HashSet<&Digest>, findings: &mut Findings) {
    if !content.is_sorted_by(|a, b| a.digest < b.digest) {
        let text = "its list of content that patches build on is out of order, or has something twice";
        findings.whole("record-damaged", text);
    }
    for row in content {
        let text = if !built_on.contains(&row.digest) {
            "it is listed because patches build on it, and none does"
        } else if row.size == 0 {
            "patches build on it at the far side, and it has no bytes by which that could be proved"
        } else if !row.repositories.is_sorted_by(|a, b| a < b) {
            "the repositories listed for it are out of order, or one is there twice"
        } else {
            continue;
        };
        findings.content("record-damaged", &row.digest, None, text);
    }
}

/// Checks what a patch builds on: layers only, each once.
fn check_bases(row: &PatchRow, blobs: &BlobTable, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for base in &row.bases {
        let role = blobs.find(base).map(|(_, base)| base.role);
        let text = match role {
            _ if !seen.insert(base) => format!("it is rebuilt from {base} twice over"),
            Some(Role::Patch | Role::Index | Role::Manifest | Role::Unshipped) => {
                format!("it is rebuilt from {base}, which is no layer")
            }
            _ => continue,
        };
        findings.content("record-damaged", &row.target, None, text);
    }
}

/// Compares each patch that is whole with its rows: what it gives and what it takes for that. One that says something
/// else is as good as lost.
pub(super) fn check_heads(
    subject: &Subject,
    closure: &mut Closure,
    restricted: bool,
    findings: &mut Findings,
) {
    let sizes: HashMap<&Digest, u64> =
        subject.far_content.iter().map(|row| (&row.digest, row.size)).collect();
    let size_of = |digest: &Digest| {
        let held = subject.blobs.find(digest).map(|(_, row)| row.size);
        let rebuilt = || subject.rebuilt(digest).map(|at| subject.patches[at].size);
        held.or_else(rebuilt).or_else(|| sizes.get(digest).copied())
    };
    for row in &subject.patches {
        let Some((at, blob)) = subject.blobs.find(&row.patch) else { continue };
        if subject.states[at] != State::Whole || (restricted && !closure.reached[at]) {
            continue;
        }
        let Some(start) = subject.start_of(at, HEAD_MAX as u64) else { continue };
        let text = match Head::read(&start, blob.size) {
            Err(invalid) => format!("it is no patch: {invalid}"),
            Ok(head) => match difference(&head, row, &size_of) {
                Some(text) => text,
                None => continue,
            },
        };
        findings.content("patch-mismatch", &row.patch, None, text);
        closure.unsound.insert(at as NodeId);
    }
}

/// Returns in what a patch differs from its row.
fn difference(head: &Head, row: &PatchRow, size_of: &dyn Fn(&Digest) -> Option<u64>) -> Option<String> {
    if head.target != row.target {
        return Some(format!("it gives {}; the record rebuilds {} by it", head.target, row.target));
    }
    if head.size != row.size {
        return Some(format!(
            "it gives {} with {} bytes, the record with {}",
            head.target, head.size, row.size
        ));
    }
    if !head.bases.iter().map(|base| &base.digest).eq(&row.bases) {
        return Some(format!("it gives {} from other content than the record says", head.target));
    }
    let base = head.bases.iter().find(|base| size_of(&base.digest) != Some(base.size))?;
    Some(format!(
        "it builds on {} with {} bytes, the record has it with another size",
        base.digest, base.size
    ))
}
