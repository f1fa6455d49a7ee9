//! The patch format, and rebuilding by it.
