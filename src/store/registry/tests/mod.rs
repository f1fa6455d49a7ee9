//! Behaviour against servers that misbehave in one way each.

mod auth;
mod pull;
mod push;
mod server;
mod trouble;

use std::io::{self, Cursor, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use self::server::{Reply, Seen, Server, reply};
use super::limits::lock;
use super::*;
use crate::oci::{Descriptor, Digest, media_type};
use crate::store::{Source, StoreError, attached_tag};

const INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn manifest(body: &str) -> Reply {
    reply(200)
        .with("Content-Type", media_type::OCI_INDEX)
        .with("Docker-Content-Digest", Digest::sha256(body.as_bytes()))
        .body(body)
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 251) as u8).collect()
}

/// Uploads; the offsets at which the content was opened come back too.
fn upload(repository: &Repository, bytes: &[u8]) -> (crate::store::Result<()>, Vec<u64>) {
    let mut opened = Vec::new();
    let mut open = |offset: u64| {
        opened.push(offset);
        let mut cursor = Cursor::new(bytes);
        cursor.set_position(offset);
        Ok(Box::new(cursor) as Box<dyn Read + Send + '_>)
    };
    let result = repository.upload_blob(&Digest::sha256(bytes), bytes.len() as u64, None, &mut open);
    (result, opened)
}

#[test]
fn loopback_is_recognised_by_name_and_number() {
    for yes in
        ["localhost", "LOCALHOST:5000", "a.localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:5000"]
    {
        assert!(is_loopback(yes), "{yes}");
    }
    for no in
        ["localhost.example", "registry.example", "128.0.0.1", "[::2]:1", "127.0.0.1.example", "docker.io"]
    {
        assert!(!is_loopback(no), "{no}");
    }
}
