//! The catalogs in the images of an index, one for each platform that is wanted.

use super::files::{ImageFiles, ImageFilesError, children};
use super::{Catalog, CatalogError, read_files};
use crate::oci::{Descriptor, Platform};
use crate::store::Source;

/// A catalog, and the platform whose image lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformCatalog {
    /// The platform.
    pub platform: Platform,
    /// The catalog.
    pub catalog: Catalog,
}

impl PlatformCatalog {
    /// Names it by its platform, for messages.
    #[must_use]
    pub fn named(&self) -> String {
        if self.platform.is_empty() { "an unknown platform".to_owned() } else { self.platform.to_string() }
    }
}

/// Reads the catalogs in an image's children for these platforms, all of them if none is given; what lists the same as one
/// before it is left out. Where none is for a wanted platform, the first child is read, as an image without platforms is.
///
/// # Errors
/// As [`read`](super::read).
pub fn read_all(
    source: &dyn Source,
    root: &Descriptor,
    platforms: &[Platform],
) -> Result<Vec<PlatformCatalog>, CatalogError> {
    let mut opened: Vec<(Platform, ImageFiles)> = Vec::new();
    let mut missing = None;
    let mut not_an_image = None;
    for child in children(source, root)? {
        match ImageFiles::open(source, &child, None) {
            Ok(files) => {
                let text = |name: &str| files.config()[name].as_str().unwrap_or_default().to_owned();
                let own = || Platform::new(&text("os"), &text("architecture"), &text("variant"));
                let said = child.platform.clone().filter(|platform| !platform.is_empty());
                opened.push((said.unwrap_or_else(own), files));
            }
            // A sparse copy has some of the children only.
            Err(ImageFilesError::Store(error)) if error.is_not_found() => {
                missing = Some(ImageFilesError::Store(error));
            }
            Err(error @ ImageFilesError::NotAnImage { .. }) => not_an_image = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let is_wanted: Vec<bool> = wanted(&opened, platforms);
    let count = opened.len();
    let mut read: Vec<(ImageFiles, PlatformCatalog)> = Vec::new();
    for ((platform, files), is_wanted) in opened.into_iter().zip(is_wanted) {
        let is_same =
            |known: &ImageFiles| known.layers() == files.layers() && known.labels() == files.labels();
        if !is_wanted || read.iter().any(|(known, _)| is_same(known)) {
            continue;
        }
        let catalog = read_files(source, &files)?;
        if read.iter().any(|(_, known)| known.catalog.packages == catalog.packages) {
            continue;
        }
        read.push((files, PlatformCatalog { platform, catalog }));
    }
    if count == 0 {
        let alone = not_an_image.filter(
            |error| matches!(error, ImageFilesError::NotAnImage { digest, .. } if *digest == root.digest),
        );
        let error = missing.or(alone).unwrap_or_else(|| ImageFilesError::NoRunnable {
            place: source.place(),
            digest: root.digest.clone(),
        });
        return Err(error.into());
    }
    Ok(read.into_iter().map(|(_, catalog)| catalog).collect())
}

/// Tells which images are wanted: for each platform those that answer best, and the first if none answers any.
fn wanted(opened: &[(Platform, ImageFiles)], platforms: &[Platform]) -> Vec<bool> {
    let mut wanted = vec![platforms.is_empty(); opened.len()];
    for asked in platforms {
        let ranks: Vec<_> = opened.iter().map(|(platform, _)| platform.answers(asked)).collect();
        let best = ranks.iter().flatten().max();
        for (wanted, rank) in wanted.iter_mut().zip(&ranks) {
            *wanted |= rank.is_some() && rank.as_ref() == best;
        }
    }
    if !wanted.contains(&true)
        && let Some(first) = wanted.first_mut()
    {
        *first = true;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::testing::Memory;
    use crate::catalog::{FILES_LABEL, Filter, select_all};

    fn child(memory: &mut Memory, version: &str, base: &str) -> Descriptor {
        let text = format!(
            r#"{{"schema":"olm.package","name":"p","defaultChannel":"a"}}
               {{"schema":"olm.channel","package":"p","name":"a","entries":[{{"name":"{version}"}}]}}
               {{"schema":"olm.bundle","package":"p","name":"{version}","image":"r.example/p:{version}"}}"#
        );
        let layers =
            [memory.layer(&[("base", base.as_bytes())]), memory.layer(&[("configs/a", text.as_bytes())])];
        memory.image(&[(FILES_LABEL, "/configs")], &layers)
    }

    #[test]
    fn what_any_wanted_child_lists_travels_and_differences_are_told() {
        let mut memory = Memory::default();
        let amd = child(&mut memory, "v1", "amd");
        let s390x = child(&mut memory, "v2", "s390x");
        let arm = child(&mut memory, "v1", "arm");
        let index = memory.index(&[(&amd, "linux/amd64"), (&s390x, "linux/s390x"), (&arm, "linux/arm64")]);
        let images = |memory: &Memory, platforms: &[&str]| {
            let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
            let catalogs = read_all(memory, &index, &platforms).unwrap();
            let selection = select_all(&catalogs, &Filter::default()).unwrap();
            (selection.images().join(" "), selection.warnings.join(" "))
        };
        let told = "the catalog lists other things for linux/s390x than for linux/amd64: what was chosen of each of them travels";
        let both = ("r.example/p:v1 r.example/p:v2".to_owned(), told.to_owned());
        assert_eq!(images(&memory, &[]), both);
        assert_eq!(images(&memory, &["linux/s390x", "linux/amd64"]), both);
        assert_eq!(images(&memory, &["linux/s390x"]), ("r.example/p:v2".to_owned(), String::new()));
        assert_eq!(
            images(&memory, &["linux/amd64", "linux/arm64"]),
            ("r.example/p:v1".to_owned(), String::new())
        );
        assert_eq!(images(&memory, &["linux/ppc64le"]), ("r.example/p:v1".to_owned(), String::new()));
        // A sparse copy.
        memory.remove(&amd.digest);
        assert_eq!(images(&memory, &["linux/s390x"]), ("r.example/p:v2".to_owned(), String::new()));
        memory.remove(&s390x.digest);
        memory.remove(&arm.digest);
        assert!(read_all(&memory, &index, &[]).is_err());
    }
}
