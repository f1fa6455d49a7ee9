//! What users take: files that make other programs do with the images what barge knows of them.

pub mod resources;
