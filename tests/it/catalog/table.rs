//! The outcomes of the filter that are agreed on, for every form of the same catalog.

use barge::catalog::{self, Catalog, ChannelFilter, Filter, PackageFilter, Range, Selection};
use barge::store::layout::LayoutDirectory;
use barge::store::{Source, chain};

use crate::support::archives::write_layout;
use crate::support::catalogs::{CatalogImages, FORMS, Form, catalog_images};

/// The fixture in a form, and how barge reads it.
fn fixture(form: Form) -> (CatalogImages, Catalog) {
    let images = catalog_images(form, "reg.test");
    let folder = tempfile::tempdir().unwrap();
    write_layout(folder.path(), &images.content, &[("v1", images.root.clone())]);
    let layout = LayoutDirectory::open(folder.path()).unwrap();
    let root = layout.resolve("v1").unwrap();
    let catalog = catalog::read(&layout, &root).unwrap();
    (images, catalog)
}

fn range(min: &str, max: &str) -> Range {
    let version = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    Range { min: version(min), max: version(max) }
}

fn none() -> Range {
    Range::default()
}

/// A filter for `foo`: its range, its channels with theirs, and the default channel.
fn foo(range: Range, channels: &[(&str, Range)], default_channel: Option<&str>) -> Filter {
    let channels =
        channels.iter().map(|(name, range)| ChannelFilter { name: (*name).to_owned(), range: range.clone() });
    let package = PackageFilter {
        name: "foo".to_owned(),
        default_channel: default_channel.map(str::to_owned),
        channels: channels.collect(),
        range,
    };
    Filter { full: false, packages: vec![package] }
}

/// The channels of `foo` with what stays in each, as `stable[1.0.0 2.0.0]`.
fn channels(selection: &Selection) -> String {
    let channels = selection.packages["foo"].channels.iter().map(|(name, entries)| {
        let mut versions: Vec<&str> =
            entries.iter().map(|entry| entry.name.strip_prefix("foo.v").unwrap()).collect();
        versions.sort_unstable();
        format!("{name}[{}]", versions.join(" "))
    });
    channels.collect::<Vec<_>>().join(" ")
}

/// Checks an outcome for every form: the channels of `foo`, and exactly the images of these bundles.
#[track_caller]
fn gives(filter: &Filter, expected_channels: &str, bundles: &[&str]) {
    for form in FORMS {
        let (images, catalog) = fixture(form);
        let selection = catalog.select(filter).unwrap_or_else(|error| panic!("{form:?}: {}", chain(&error)));
        assert_eq!(channels(&selection), expected_channels, "{form:?}");
        assert_eq!(selection.images(), images.references_of(bundles), "{form:?}");
        let mut chosen: Vec<&str> = selection
            .packages
            .values()
            .flat_map(|package| package.bundles.keys())
            .map(String::as_str)
            .collect();
        chosen.sort_unstable();
        let mut bundles = bundles.to_vec();
        bundles.sort_unstable();
        assert_eq!(chosen, bundles, "{form:?}");
        assert_eq!(selection.warnings, [""; 0], "{form:?}");
        assert_eq!(selection.is_everything(), filter.full && filter.packages.is_empty());
    }
}

#[track_caller]
fn refused(filter: &Filter, why: &str) {
    for form in FORMS {
        let shown = chain(&fixture(form).1.select(filter).unwrap_err());
        assert!(shown.contains(why), "{form:?}: {shown}");
    }
}

const ALL: [&str; 7] =
    ["bar.v0.1.0", "foo.v1.0.0", "foo.v1.1.0", "foo.v1.2.0", "foo.v2.0.0", "foo.v2.1.0", "foo.v2.2.0-rc.1"];
const HEADS: &str = "candidate[2.2.0-rc.1] fast[2.1.0] stable[2.0.0]";

#[test]
fn row_1_nothing_asked_gives_the_heads_of_everything() {
    gives(&Filter::default(), HEADS, &["foo.v2.0.0", "foo.v2.1.0", "foo.v2.2.0-rc.1", "bar.v0.1.0"]);
}

#[test]
fn row_2_full_gives_everything_untouched() {
    let all = "candidate[2.1.0 2.2.0-rc.1] fast[1.2.0 2.0.0 2.1.0] stable[1.0.0 1.1.0 1.2.0 2.0.0]";
    gives(&Filter { full: true, packages: Vec::new() }, all, &ALL);
}

#[test]
fn row_3_a_package_gives_the_heads_of_its_channels() {
    gives(&foo(none(), &[], None), HEADS, &["foo.v2.0.0", "foo.v2.1.0", "foo.v2.2.0-rc.1"]);
}

#[test]
fn row_4_a_channel_without_the_default_one_is_refused() {
    let why =
        "the channel `stable`, which is the default of the package `foo`, is not among the channels chosen";
    refused(&foo(none(), &[("fast", none())], None), why);
}

#[test]
fn row_5_another_default_channel_may_be_named() {
    gives(&foo(none(), &[("fast", none())], Some("fast")), "fast[2.1.0]", &["foo.v2.1.0"]);
}

#[test]
fn row_6_versions_from_one_on_keep_what_is_skipped() {
    let filter = foo(none(), &[("stable", range("1.1.0", ""))], None);
    gives(&filter, "stable[1.1.0 1.2.0 2.0.0]", &["foo.v1.1.0", "foo.v1.2.0", "foo.v2.0.0"]);
}

#[test]
fn row_7_versions_up_to_one_keep_what_carries_the_skip() {
    let filter = foo(none(), &[("stable", range("", "1.1.0"))], None);
    gives(&filter, "stable[1.0.0 1.1.0 1.2.0]", &["foo.v1.0.0", "foo.v1.1.0", "foo.v1.2.0"]);
}

#[test]
fn row_8_a_range_of_a_package_is_that_of_its_channels() {
    let channels = "candidate[2.1.0] fast[2.0.0 2.1.0] stable[2.0.0]";
    gives(&foo(range("2.0.0", ""), &[], None), channels, &["foo.v2.0.0", "foo.v2.1.0"]);
}

#[test]
fn row_9_an_emptied_default_channel_is_refused() {
    let why = "nothing is left of the channel `stable`, the default of the package `foo`: no version in it is >= 2.1.0";
    refused(&foo(range("2.1.0", ""), &[], None), why);
}

#[test]
fn row_10_other_channels_may_be_emptied() {
    let bundles = ["foo.v1.0.0", "foo.v1.1.0", "foo.v1.2.0"];
    gives(&foo(range("", "1.2.0"), &[], None), "fast[1.2.0] stable[1.0.0 1.1.0 1.2.0]", &bundles);
}

#[test]
fn row_11_a_pre_release_needs_one_in_the_range() {
    let filter = foo(none(), &[("candidate", range("2.2.0-rc.0", ""))], Some("candidate"));
    gives(&filter, "candidate[2.2.0-rc.1]", &["foo.v2.2.0-rc.1"]);
}

#[test]
fn row_12_one_version_is_that_one() {
    let filter = foo(none(), &[("stable", range("1.1.0", "1.1.0"))], None);
    gives(&filter, "stable[1.1.0]", &["foo.v1.1.0"]);
}

#[test]
fn what_is_kept_is_kept_as_it_stands() {
    for form in FORMS {
        let (_, catalog) = fixture(form);
        let selection = catalog.select(&foo(none(), &[("stable", none())], None)).unwrap();
        let [head] = &selection.packages["foo"].channels["stable"][..] else { panic!("one head") };
        // What it replaces is gone, and it says so still.
        assert_eq!(head.replaces.as_deref(), Some("foo.v1.2.0"));
        assert!(form == Form::Sqlite || head.skip_range.as_deref() == Some(">=1.0.0 <2.0.0"));
    }
}

#[test]
fn both_architectures_hold_the_same_catalog() {
    for form in FORMS {
        let images = catalog_images(form, "reg.test");
        let folder = tempfile::tempdir().unwrap();
        write_layout(folder.path(), &images.content, &[("v1", images.root.clone())]);
        let layout = LayoutDirectory::open(folder.path()).unwrap();
        let of = |platform: &str| {
            let platform = platform.parse().unwrap();
            let files = catalog::files::ImageFiles::open(&layout, &images.root, Some(&platform)).unwrap();
            (files.manifest().digest.clone(), catalog::read_files(&layout, &files).unwrap().packages)
        };
        let (amd64, arm64) = (of("linux/amd64"), of("linux/arm64"));
        assert_ne!(amd64.0, arm64.0);
        assert_eq!(amd64.1, arm64.1);
    }
}
