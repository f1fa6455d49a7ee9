//! Carries container images across an air gap.
//!
//! One engine serves every verb: names are resolved to roots, a survey reads the manifests below them into a graph, a
//! selector says which parts of it travel, the plan puts them in order, and a transfer carries the plan out into a sink.
//!
//! ```text
//! names ──resolve──▶ roots ──survey──▶ graph ──select──▶ plan ──transfer──▶ sink + report
//! ```
//!
//! | room | what it is | may not |
//! | --- | --- | --- |
//! | `main.rs`, `cli/` | one file per verb, the printer, the bars, errors → exit codes | hold domain logic |
//! | [`pack`], [`push`] | the two journeys: from sources into a bundle; from bundles or a registry into a registry | know of terminals |
//! | [`stocktake`] | what a live registry holds, by its manifests → an [`inventory`] | know of terminals |
//! | [`doctor`] | what a target will do, found out before the transfer; what this machine can do | write without leave |
//! | [`base`] | what the far side is known to have, from whatever tells it; how that differs from what is wanted; where its content is on this side | believe it: a push proves it |
//! | [`request`] | what the receiving side lacks, on its way back | |
//! | [`emit`] | what users take: the work in the formats of other tools ← a plan; the files of clusters and engines ← bundles and receipts | touch the network, or read blobs but the signatures that it hands on |
//! | [`input`] | what users bring (arguments, files of every kind) → what a survey asks for | do blob I/O |
//! | [`chart`] | Helm charts as artifacts, and the images they need | run helm unasked |
//! | [`release`] | release payloads: their components, and signatures that travel with them | verify a signature |
//! | [`catalog`] | the files in an image; what an operator catalog lists, and which of it is wanted | know of registries |
//! | [`transfer`] | carries out a plan: workers, retries, verification of every byte, resume, progress events | know of terminals |
//! | [`graph`], [`select`], [`plan`] | the closure of the roots; which parts of it travel; in what order | touch network or disk but through a `Source` and the spool |
//! | [`bundle`] | what a bundle is beyond an OCI layout: record, trailer, what is absent or rebuilt and why, several that follow each other, the workshop in which content is rebuilt, `verify`, `inspect` | |
//! | [`inventory`] | the documents that are carried back: inventories, receipts, state codes | do network I/O |
//! | [`delta`] | rebuilding a layer from an old one: gzip streams taken apart and joined, patches, making them | know of registries |
//! | [`store`] | places that hold blobs: archives, layouts, docker archives, registries (the only HTTP); reading a blob to its proven end | know of verbs |
//! | [`oci`] | the standard's values: digest, reference, platform, descriptor, manifest views, media types | do I/O |
//!
//! What holds throughout: digests never change silently; no byte is trusted before it is hashed; nothing under its final
//! name is half-written; content goes before what refers to it, tags last; memory does not grow with the size of blobs;
//! the same inputs and options give the same bytes.

pub mod base;
pub mod bundle;
pub mod catalog;
pub mod chart;
pub mod delta;
pub mod doctor;
pub mod emit;
pub mod graph;
pub mod input;
pub mod inventory;
pub mod oci;
pub mod pack;
pub mod plan;
pub mod push;
pub mod release;
pub mod request;
pub mod select;
pub mod stocktake;
pub mod store;
pub mod transfer;
