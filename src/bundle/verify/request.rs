//! The request: what must be sent again, in the form that the far side's barge reads.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::report::{Report, Resend};
use crate::oci::Digest;
use crate::transfer::{TransferError, write_whole};

/// Media type of a request.
pub const REQUEST_TYPE: &str = "application/vnd.barge.request.v1+json";
/// Version of the request's form, `major.minor`.
pub const REQUEST_VERSION: &str = "1.0";

/// A request. The fields stand in alphabetical order, as canonical JSON has them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    blobs: Vec<Wanted<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<&'a Digest>,
    format_version: &'static str,
    images: Vec<&'a str>,
    media_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wanted<'a> {
    digest: &'a Digest,
    media_type: &'a str,
    size: u64,
}

fn wanted(resend: &Resend) -> Wanted<'_> {
    Wanted { digest: &resend.digest, media_type: &resend.media_type, size: resend.size }
}

/// Returns the canonical bytes of the request for what `report` found missing and damaged, with the images that are
/// not whole; none where nothing is to be sent again.
///
/// # Errors
/// None in practice: every value can be written.
pub fn request(report: &Report) -> serde_json::Result<Option<Vec<u8>>> {
    if report.resend.is_empty() {
        return Ok(None);
    }
    let mut images: Vec<&str> =
        report.images.iter().filter(|image| !image.whole).map(|image| image.name.as_str()).collect();
    images.sort_unstable();
    images.dedup();
    let request = Request {
        blobs: report.resend.iter().map(wanted).collect(),
        bundle: report.bundle.as_ref(),
        format_version: REQUEST_VERSION,
        images,
        media_type: REQUEST_TYPE,
    };
    serde_json::to_vec(&request).map(Some)
}

/// Writes the request to a file, whole or not at all; returns whether there was anything to request.
///
/// # Errors
/// [`TransferError::Local`] if the file can't be written.
pub fn write_request(report: &Report, path: &Path) -> Result<bool, TransferError> {
    let bytes = request(report).map_err(|error| TransferError::Local {
        path: path.to_owned(),
        action: "could not be made",
        source: error.into(),
    })?;
    match bytes {
        Some(bytes) => write_whole(path, |out| out.write_all(&bytes)).map(|()| true),
        None => Ok(false),
    }
}
