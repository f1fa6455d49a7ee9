//! Patches as `format-spec/patch.md` has them: what is written is decoded by these tests' own decoder, and what is wrong in
//! any way is refused.

mod apart;
mod build;
mod fuzz;
mod head;
mod limits;
mod ops;
