//! The integration tests of barge.

#![allow(clippy::unwrap_used, reason = "in tests, helpers too, a panic is the report")]
#![allow(
    clippy::needless_for_each,
    clippy::cloned_ref_to_slice_refs,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "matters of taste, which tests are spared"
)]

mod bring;
mod bundles;
mod catalog;
mod charts;
mod damage;
mod delta;
mod files;
mod format_spec;
mod gzip;
mod inspect;
mod inventory;
mod layers;
mod pack;
mod patch;
mod patched;
mod plan;
mod push;
mod rebuild;
mod releases;
mod support;
mod support_tests;
mod verify;
