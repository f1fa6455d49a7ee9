//! Carries container images across an air gap.

pub mod oci;
pub mod store;
