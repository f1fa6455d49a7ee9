//! The `barge` command.

fn main() {}
