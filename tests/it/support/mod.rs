//! What all integration tests stand on: content made by code, real peers, and a hostile registry in this process.
//!
//! Nothing leaves the loopback interface, everything started is ended when its value is dropped, and a tool that is
//! missing fails the test: tests are never skipped.

#![allow(dead_code, unused_imports, reason = "each item serves some test modules, not all of them")]
#![allow(
    clippy::format_push_string,
    clippy::unnecessary_debug_formatting,
    reason = "nothing here is hot, and paths are quoted as strings"
)]
#![allow(
    clippy::struct_excessive_bools,
    reason = "what a registry does or leaves undone is a list of switches"
)]

pub mod archives;
pub mod barge;
pub mod catalogs;
pub mod client;
pub mod containerd;
pub mod fixtures;
pub mod hostile;
pub mod images;
pub mod layers;
pub mod peers;
pub mod tarball;
