//! The integration tests of barge.

#![allow(clippy::unwrap_used, reason = "in tests, helpers too, a panic is the report")]

mod bundles;
mod damage;
mod format_spec;
mod inspect;
mod pack;
mod push;
mod support;
mod support_tests;
mod verify;
