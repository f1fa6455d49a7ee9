//! `Chart.yaml`, and what `helm push` makes of it.

#![expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks by reference whether a field is left out"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::yaml;
use crate::oci::{Reference, RepositoryName, reference};

/// The annotation by which charts list their images.
pub(super) const IMAGES: &str = "artifacthub.io/images";

/// What a chart says of itself: the fields that helm knows (`chart.Metadata`), in the order in which it writes them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    #[serde(skip_serializing_if = "is_blank")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    home: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    sources: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_blank")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    description: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    keywords: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_empty")]
    maintainers: Option<Vec<Maintainer>>,
    #[serde(skip_serializing_if = "is_blank")]
    icon: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    api_version: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    condition: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    tags: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    app_version: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    deprecated: Option<bool>,
    #[serde(skip_serializing_if = "no_annotations")]
    pub annotations: Option<BTreeMap<String, Option<String>>>,
    #[serde(skip_serializing_if = "is_blank")]
    kube_version: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    pub dependencies: Option<Vec<Dependency>>,
    #[serde(rename = "type", skip_serializing_if = "is_blank")]
    kind: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Maintainer {
    #[serde(skip_serializing_if = "is_blank")]
    name: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    email: Option<String>,
    #[serde(skip_serializing_if = "is_blank")]
    url: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Dependency {
    pub name: String,
    #[serde(skip_serializing_if = "is_blank")]
    version: Option<String>,
    repository: String,
    #[serde(skip_serializing_if = "is_blank")]
    condition: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_false")]
    enabled: Option<bool>,
    #[serde(rename = "import-values", skip_serializing_if = "is_empty")]
    import_values: Option<Vec<serde_json::Value>>,
    #[serde(skip_serializing_if = "is_blank")]
    alias: Option<String>,
}

fn is_blank(text: &Option<String>) -> bool {
    text.as_ref().is_none_or(String::is_empty)
}

fn is_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn is_false(value: &Option<bool>) -> bool {
    *value != Some(true)
}

fn no_annotations(map: &Option<BTreeMap<String, Option<String>>>) -> bool {
    map.as_ref().is_none_or(BTreeMap::is_empty)
}

impl Metadata {
    /// Reads a `Chart.yaml`; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "its `Chart.yaml` is not UTF-8".to_owned())?;
        let metadata: Self = yaml::read(text).map_err(|why| format!("its `Chart.yaml`: {why}"))?;
        if is_blank(&metadata.name) || is_blank(&metadata.version) {
            return Err("its `Chart.yaml` says no name or no version".to_owned());
        }
        Ok(metadata)
    }

    /// Returns the chart's name.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Returns the chart's version.
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or_default()
    }

    /// Returns what the chart is called in messages.
    pub fn title(&self) -> String {
        let text = format!("{} {}", self.name(), self.version());
        crate::store::registry::clean_text(&text, 200)
    }

    /// Returns an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name)?.as_deref()
    }

    /// Returns the name that the chart has where none was given: `localhost/charts/NAME:VERSION`, `+` being `_` as helm
    /// has it, since tags have no `+`.
    pub fn reference(&self) -> Option<Reference> {
        let tag = tag_of(self.version());
        let name = RepositoryName {
            registry: "localhost".to_owned(),
            repository: format!("charts/{}", self.name()),
        };
        (reference::is_tag(&tag) && reference::is_repository(&name.repository))
            .then(|| Reference::tagged(name, tag))
    }

    /// Writes the config of the artifact: JSON as Go writes it.
    pub fn config(&self) -> Result<Vec<u8>, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        // Go's encoder escapes what would mean something in HTML, and two line ends of JavaScript.
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    out.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => out.push(c),
            }
        }
        Ok(out.into_bytes())
    }

    /// Returns the manifest's annotations as helm writes them (`registry.generateOCIAnnotations`), but for the time.
    pub fn oci_annotations(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in self.annotations.iter().flatten() {
            all.insert(name.clone(), value.clone().unwrap_or_default());
        }
        let people = self.maintainers.iter().flatten().map(|one| {
            let name = one.name.as_deref().unwrap_or_default();
            match one.email.as_deref().filter(|email| !email.is_empty()) {
                Some(email) => format!("{name} ({email})"),
                None => name.to_owned(),
            }
        });
        let people = people.collect::<Vec<String>>().join(", ");
        let source = self.sources.as_ref().and_then(|sources| sources.first());
        let own = [
            // The first two can't be replaced by annotations of the chart.
            ("title", self.name.as_deref()),
            ("version", self.version.as_deref()),
            ("description", self.description.as_deref()),
            ("url", self.home.as_deref()),
            ("source", source.map(String::as_str)),
            ("authors", Some(people.as_str())),
        ];
        for (at, (name, value)) in own.into_iter().enumerate() {
            if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
                let name = format!("org.opencontainers.image.{name}");
                if at < 2 {
                    all.insert(name, value.to_owned());
                } else {
                    all.entry(name).or_insert_with(|| value.to_owned());
                }
            }
        }
        all
    }
}

/// Returns the tag that helm gives to a version.
pub(super) fn tag_of(version: &str) -> String {
    version.replace('+', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHART: &str = "apiVersion: v2\nname: app\nversion: 1.2.3+build.4\nappVersion: 1.20\n\
        description: Fish & <chips>\nhome: https://app.example\nsources: [https://src.example/a, https://b.example]\n\
        future: [1, 2]\nkeywords:\nmaintainers:\n- name: First\n  email: first@app.example\n- name: Second\n\
        annotations:\n  org.opencontainers.image.title: other\n  org.opencontainers.image.url: https://x.example\n  a/b: c\n\
        dependencies:\n- name: sub\n  version: 1.x\n  repository: https://charts.example\n  import-values: [data]\n";

    #[test]
    fn the_config_is_what_helm_writes() {
        let metadata = Metadata::parse(CHART.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(metadata.config().unwrap()).unwrap(),
            "{\"name\":\"app\",\"home\":\"https://app.example\",\"sources\":[\"https://src.example/a\",\
             \"https://b.example\"],\"version\":\"1.2.3+build.4\",\"description\":\"Fish \\u0026 \\u003cchips\\u003e\",\
             \"maintainers\":[{\"name\":\"First\",\"email\":\"first@app.example\"},{\"name\":\"Second\"}],\
             \"apiVersion\":\"v2\",\"appVersion\":\"1.20\",\"annotations\":{\"a/b\":\"c\",\
             \"org.opencontainers.image.title\":\"other\",\"org.opencontainers.image.url\":\"https://x.example\"},\
             \"dependencies\":[{\"name\":\"sub\",\"version\":\"1.x\",\"repository\":\"https://charts.example\",\
             \"import-values\":[\"data\"]}]}"
        );
        assert_eq!(metadata.reference().unwrap().to_string(), "localhost/charts/app:1.2.3_build.4");
    }

    #[test]
    fn the_annotations_say_no_time_and_keep_the_charts_own() {
        let annotations = Metadata::parse(CHART.as_bytes()).unwrap().oci_annotations();
        let of =
            |name: &str| annotations.get(&format!("org.opencontainers.image.{name}")).map(String::as_str);
        assert_eq!((of("title"), of("version")), (Some("app"), Some("1.2.3+build.4")));
        assert_eq!((of("url"), of("source")), (Some("https://x.example"), Some("https://src.example/a")));
        assert_eq!(of("authors"), Some("First (first@app.example), Second"));
        assert_eq!(of("created"), None);
        assert_eq!(annotations["a/b"], "c");
    }

    #[test]
    fn what_is_no_chart_is_said() {
        for (text, why) in [
            ("name: a\n", "says no name or no version"),
            ("name: [", "`Chart.yaml`: "),
            ("- a\n", "`Chart.yaml`: "),
        ] {
            let error = Metadata::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why) && !error.contains('\n'), "{error}");
        }
        assert!(Metadata::parse(b"\xff").unwrap_err().contains("UTF-8"));
        let strange = Metadata::parse(b"name: App\nversion: 1.0.0\n").unwrap();
        assert_eq!(strange.reference(), None);
    }
}
