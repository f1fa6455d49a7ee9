//! Taking gzip streams apart and joining them again.
