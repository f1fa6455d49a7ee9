//! Charts as registries hold them: the artifact that `helm push` makes of a packaged chart.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ChartError;
use super::metadata::Metadata;
use super::package::MAX_PACKAGE;
use crate::oci::{Descriptor, Digest, Manifest, media_type};
use crate::store::body::read_whole;
use crate::store::made::Made;
use crate::store::{Source, read_manifest};

/// The config of a chart (helm's `registry.ConfigMediaType`).
pub const CHART_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// The packaged chart (helm's `registry.ChartLayerMediaType`).
pub const CHART_CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// The signature of a packaged chart (helm's `registry.ProvLayerMediaType`).
pub const CHART_PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

/// The manifest as it is written; the order of the fields is fixed, for the digest depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u8,
    media_type: &'static str,
    config: Part,
    layers: Vec<Part>,
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: String,
    digest: Digest,
    size: u64,
}

impl From<&Descriptor> for Part {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        }
    }
}

/// Makes the artifact of a packaged chart; its manifest says no time, so that the same chart is the same artifact.
pub(super) fn make(
    place: &str,
    metadata: &Metadata,
    package: Vec<u8>,
    provenance: Option<Vec<u8>>,
) -> Result<(Made, Descriptor), ChartError> {
    let broken = |error: serde_json::Error| ChartError::Broken {
        chart: place.to_owned(),
        why: format!("no artifact can be made of it: {error}"),
    };
    let mut made = Made::new(place);
    let config = made.add_blob(CHART_CONFIG, metadata.config().map_err(broken)?);
    let mut layers = vec![made.add_blob(CHART_CONTENT, package)];
    if let Some(provenance) = provenance {
        layers.push(made.add_blob(CHART_PROVENANCE, provenance));
    }
    let document = Document {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        config: Part::from(&config),
        layers: layers.iter().map(Part::from).collect(),
        annotations: metadata.oci_annotations(),
    };
    let bytes = serde_json::to_vec(&document).map_err(broken)?;
    let root = made.add_manifest(media_type::OCI_MANIFEST, bytes);
    Ok((made, root))
}

/// Reads the packaged chart of an artifact.
pub(super) fn read(source: &dyn Source, selector: &str, name: &str) -> Result<Vec<u8>, ChartError> {
    let broken = |why: String| ChartError::Broken { chart: name.to_owned(), why };
    let root = source.resolve(selector)?;
    let bytes = read_manifest(source, &root)?;
    let manifest = Manifest::parse(&bytes, &root.media_type).map_err(|error| broken(error.to_string()))?;
    let Manifest::Image(image) = manifest else {
        return Err(broken("it is an image index".to_owned()));
    };
    if image.config.media_type != CHART_CONFIG {
        return Err(broken(format!("its config is `{}`", image.config.media_type.escape_debug())));
    }
    let layer = image.layers.iter().find(|layer| layer.media_type == CHART_CONTENT);
    let layer = layer.ok_or_else(|| broken(format!("it has no layer `{CHART_CONTENT}`")))?;
    if layer.size > MAX_PACKAGE {
        return Err(broken(format!("it has {} bytes, and {MAX_PACKAGE} are read at most", layer.size)));
    }
    read_whole(source, &layer.digest, layer.size).map_err(ChartError::Store)
}
