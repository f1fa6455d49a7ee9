//! Operator catalogs: what the filter chooses of each form, and the command line.

mod bad;
mod cli;
mod table;
