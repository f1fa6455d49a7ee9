//! What a chart and those who bring it say of its images.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::metadata::{IMAGES, Metadata};
use super::package::read_file;
use super::{ChartError, ChartImage, yaml};
use crate::oci::Reference;
use crate::store::registry::clean_text;

/// The largest list of images, in bytes.
const MAX_LIST: u64 = 16 * 1024 * 1024;

/// How many texts that are no references are told one by one.
const MOST_TOLD: usize = 50;

/// Collects images, each once, with the first place that names it.
#[derive(Default)]
pub(super) struct Images {
    found: BTreeMap<Reference, String>,
    pub warnings: Vec<String>,
    /// Warnings of texts that are no references, each once.
    told: HashSet<String>,
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    image: Option<String>,
}

impl Images {
    /// Adds an image that something names; what is no reference becomes a warning.
    pub fn add(&mut self, text: &str, at: &str) {
        if let Ok(reference) = text.trim().parse::<Reference>() {
            return self.add_reference(reference, at);
        }
        let text = clean_text(text, 200);
        let warning = format!("{at} names `{text}`, which is no image reference: it does not travel");
        if self.told.insert(warning.clone()) && self.told.len() <= MOST_TOLD {
            self.warnings.push(warning);
        }
    }

    fn add_reference(&mut self, reference: Reference, at: &str) {
        self.found.entry(reference.with_default_tag()).or_insert_with(|| at.to_owned());
    }

    /// Adds what the annotation `artifacthub.io/images` of a chart lists.
    pub fn annotated(&mut self, metadata: &Metadata, at: &str) {
        let Some(text) = metadata.annotation(IMAGES).filter(|text| !text.trim().is_empty()) else {
            return;
        };
        let at = format!("annotation `{IMAGES}` of {at}");
        match yaml::read::<Vec<Annotated>>(text) {
            Ok(list) => {
                for image in list.iter().filter_map(|entry| entry.image.as_deref()) {
                    self.add(image, &at);
                }
            }
            Err(why) => self.warnings.push(format!("{at} can't be read: {why}")),
        }
    }

    /// Adds what a list names: a reference a line, `#` starts a comment.
    pub fn listed(&mut self, list: &Path) -> Result<(), ChartError> {
        let bytes = read_file(list, MAX_LIST)?;
        let text = String::from_utf8(bytes).map_err(|_| ChartError::Broken {
            chart: list.display().to_string(),
            why: "it is a list of images and not UTF-8".to_owned(),
        })?;
        for (at, line) in text.lines().enumerate() {
            let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
            if line.is_empty() {
                continue;
            }
            let reference = line.strip_prefix("docker://").unwrap_or(line).parse();
            let reference: Reference = reference.map_err(|source| ChartError::Line {
                path: list.to_owned(),
                line: at + 1,
                source,
            })?;
            self.add_reference(reference, &format!("{}:{}", list.display(), at + 1));
        }
        Ok(())
    }

    /// Returns the images, sorted.
    pub fn finish(mut self) -> (Vec<ChartImage>, Vec<String>) {
        if self.told.len() > MOST_TOLD {
            let more = self.told.len() - MOST_TOLD;
            self.warnings.push(format!("{more} more texts are no image references: they do not travel"));
        }
        let images = self.found.into_iter().map(|(reference, at)| ChartImage { reference, at }).collect();
        (images, self.warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(images: Images) -> Vec<String> {
        images.finish().0.into_iter().map(|image| image.reference.to_string()).collect()
    }

    #[test]
    fn annotations_list_images_and_broken_ones_are_warnings() {
        let metadata = |value: &str| {
            let text = format!("name: a\nversion: 1.0.0\nannotations:\n  {IMAGES}: |\n{value}");
            Metadata::parse(text.as_bytes()).unwrap()
        };
        let mut images = Images::default();
        images.annotated(
            &metadata(
                "    - name: web\n      image: r.example/web:1\n      platforms: [linux/amd64]\n    - name: none\n    - image: nginx\n",
            ),
            "chart a",
        );
        images.annotated(&metadata("    - image: \"{{ bad }}\"\n"), "chart b");
        images.annotated(&metadata("    not: a list\n"), "chart c");
        assert_eq!(images.warnings.len(), 2, "{:?}", images.warnings);
        assert!(
            images.warnings[0].contains("annotation `artifacthub.io/images` of chart b names `{{ bad }}`")
        );
        assert!(images.warnings[1].contains("of chart c can't be read"));
        assert_eq!(names(images), ["docker.io/library/nginx:latest", "r.example/web:1"]);
    }

    #[test]
    fn texts_without_number_that_are_no_references_are_told_in_a_few_lines() {
        let mut images = Images::default();
        let begun = std::time::Instant::now();
        for at in 0..100_000 {
            images.add(&format!("no reference {at}"), "chart a");
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
        let (_, warnings) = images.finish();
        assert_eq!(warnings.len(), MOST_TOLD + 1);
        assert!(warnings[MOST_TOLD].starts_with("99950 more texts are no image references"));
    }

    #[test]
    fn a_list_names_the_line_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("images.txt");
        std::fs::write(&list, "# all\nr.example/a:1 # one\n\ndocker://r.example/b\n").unwrap();
        let mut images = Images::default();
        images.listed(&list).unwrap();
        assert_eq!(names(images), ["r.example/a:1", "r.example/b:latest"]);
        std::fs::write(&list, "r.example/a:1\nr.example/A B\n").unwrap();
        let error = Images::default().listed(&list).unwrap_err();
        assert!(matches!(error, ChartError::Line { line: 2, .. }), "{error}");
        assert!(Images::default().listed(&folder.path().join("absent")).is_err());
    }
}
