//! The integration tests of barge.

#![allow(clippy::unwrap_used, reason = "in tests, helpers too, a panic is the report")]

mod format_spec;
mod pack;
mod support;
mod support_tests;
