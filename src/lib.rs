//! Carries container images across an air gap.

pub mod bundle;
pub mod graph;
pub mod input;
pub mod oci;
pub mod pack;
pub mod plan;
pub mod push;
pub mod select;
pub mod store;
pub mod transfer;
