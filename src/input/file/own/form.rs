//! The fields of barge.yaml; `format-spec/barge-yaml.schema.json` describes the same ones, which a test checks.

use serde::Deserialize;

use crate::input::file::packages::Package;
use crate::input::file::yaml::{At, Item, List, Short};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::input::file) struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    pub(super) defaults: Option<Defaults>,
    pub(super) images: List<Item<Image>>,
    pub(super) layouts: List<Item<Local>>,
    pub(super) archives: List<Item<Local>>,
    pub(super) catalogs: List<Item<Catalog>>,
    pub(super) charts: List<Item<Chart>>,
    pub(super) releases: List<Item<Release>>,
    pub(super) blocked: List<String>,
    pub(super) registries: List<Registry>,
    pub(super) volume_size: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::input::file) struct Defaults {
    pub(super) platforms: List<String>,
    pub(super) attachments: Option<At<String>>,
    pub(super) sparse: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::input::file) struct Image {
    #[serde(rename = "image")]
    pub(super) source: At<String>,
    pub(super) name: Option<At<String>>,
    pub(super) names: List<String>,
    pub(super) platforms: List<String>,
    pub(super) tags: Option<At<Tags>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::input::file) struct Tags {
    #[serde(rename = "match")]
    pub(super) matching: Option<At<String>>,
    pub(super) semver: Option<At<String>>,
    pub(super) latest: Option<At<usize>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::input::file) struct Local {
    pub(super) path: At<String>,
    pub(super) name: Option<At<String>>,
    pub(super) image: Option<String>,
    pub(super) platforms: List<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::input::file) struct Catalog {
    #[serde(rename = "catalog")]
    pub(super) source: At<String>,
    pub(super) name: Option<At<String>>,
    pub(super) full: Option<bool>,
    #[serde(rename = "rebuildCatalog")]
    pub(super) rebuild: Option<bool>,
    pub(super) platforms: List<String>,
    pub(super) packages: List<Package>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::input::file) struct Chart {
    #[serde(rename = "chart")]
    pub(super) source: At<String>,
    pub(super) repository: Option<At<String>>,
    pub(super) version: Option<At<String>>,
    pub(super) name: Option<At<String>>,
    pub(super) images: Option<String>,
    pub(super) render: Option<bool>,
    pub(super) values: List<String>,
    pub(super) image_paths: List<String>,
    pub(super) platforms: List<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::input::file) struct Release {
    #[serde(rename = "release")]
    pub(super) source: At<String>,
    pub(super) signatures: List<String>,
    pub(super) platforms: List<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::input::file) struct Registry {
    pub(super) prefix: At<String>,
    pub(super) mirrors: List<Item<Mirror>>,
    pub(super) mirrors_only: Option<bool>,
    pub(super) insecure: Option<bool>,
    pub(super) cert_dir: Option<String>,
    pub(super) auth_file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::input::file) struct Mirror {
    pub(super) location: At<String>,
    pub(super) insecure: Option<bool>,
}

impl Short for Mirror {
    const IS: &'static str = "a mirror";

    fn short(location: At<String>) -> Self {
        Self { location, insecure: None }
    }
}

impl Short for Image {
    const IS: &'static str = "an image";

    fn short(source: At<String>) -> Self {
        Self { source, name: None, names: None, platforms: None, tags: None }
    }
}

impl Short for Local {
    const IS: &'static str = "a path";

    fn short(path: At<String>) -> Self {
        Self { path, name: None, image: None, platforms: None }
    }
}

impl Short for Catalog {
    const IS: &'static str = "a catalog";

    fn short(source: At<String>) -> Self {
        Self { source, name: None, full: None, rebuild: None, platforms: None, packages: None }
    }
}

impl Short for Chart {
    const IS: &'static str = "a chart";

    fn short(source: At<String>) -> Self {
        Self {
            source,
            repository: None,
            version: None,
            name: None,
            images: None,
            render: None,
            values: None,
            image_paths: None,
            platforms: None,
        }
    }
}

impl Short for Release {
    const IS: &'static str = "a release image";

    fn short(source: At<String>) -> Self {
        Self { source, signatures: None, platforms: None }
    }
}
