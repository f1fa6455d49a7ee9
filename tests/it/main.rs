//! The integration tests of barge.
