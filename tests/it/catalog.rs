//! Operator catalogs: what the filter chooses of each form, the command line, bad input, and the files in an image.

mod bad;
mod cli;
mod peer;
mod table;
