use proptest::prelude::*;
use semver::Version;

use super::*;
use crate::catalog::Form;
use crate::oci::Descriptor;
use crate::oci::media_type::OCI_MANIFEST;

fn entry(name: &str, replaces: &str, skips: &[&str]) -> Entry {
    Entry {
        name: name.to_owned(),
        replaces: (!replaces.is_empty()).then(|| replaces.to_owned()),
        skips: skips.iter().map(|name| (*name).to_owned()).collect(),
        skip_range: None,
    }
}

/// A package whose bundles are named by their versions, each with an image of its own.
fn package(default: &str, channels: &[(&str, &[Entry])]) -> Package {
    let mut package = Package { default_channel: Some(default.to_owned()), ..Package::default() };
    for (name, entries) in channels {
        for entry in *entries {
            let image = format!("r.example/bundle:{}", entry.name.replace('+', "_"));
            let bundle = Bundle { version: entry.name.clone(), image, related: Vec::new() };
            package.bundles.insert(entry.name.clone(), bundle);
        }
        package.channels.insert((*name).to_owned(), Channel { entries: entries.to_vec() });
    }
    package
}

fn catalog(packages: &[(&str, Package)]) -> Catalog {
    Catalog {
        place: "here".to_owned(),
        image: Descriptor::of(OCI_MANIFEST, b"{}"),
        form: Form::Files,
        path: "/configs".to_owned(),
        packages: packages.iter().map(|(name, package)| ((*name).to_owned(), package.clone())).collect(),
    }
}

fn one(channels: &[(&str, &[Entry])]) -> Catalog {
    catalog(&[("p", package(channels[0].0, channels))])
}

fn range(min: &str, max: &str) -> Range {
    let version = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    Range { min: version(min), max: version(max) }
}

/// What is asked for of the package `p`; a channel is named with its range.
fn asked(range: Range, channels: &[(&str, Range)]) -> Filter {
    let channels =
        channels.iter().map(|(name, range)| ChannelFilter { name: (*name).to_owned(), range: range.clone() });
    let wanted = PackageFilter {
        name: "p".to_owned(),
        channels: channels.collect(),
        range,
        ..PackageFilter::default()
    };
    Filter { full: false, packages: vec![wanted] }
}

fn refused(catalog: &Catalog, filter: &Filter) -> String {
    crate::store::chain(&catalog.select(filter).unwrap_err())
}

fn kept(selection: &Selection, channel: &str) -> Vec<String> {
    let names = selection.packages["p"].channels.get(channel).into_iter().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn what_is_not_there_is_a_warning_and_nothing_left_an_error() {
    let catalog = one(&[("a", &[entry("1.0.0", "", &[])]), ("b", &[entry("2.0.0", "", &[])])]);
    let mut filter = asked(Range::default(), &[("a", Range::default()), ("none", Range::default())]);
    filter.packages.push(PackageFilter { name: "q".to_owned(), ..PackageFilter::default() });
    let selection = catalog.select(&filter).unwrap();
    assert_eq!(
        selection.warnings,
        ["the catalog in here has no package `q`", "the package `p` has no channel `none`"]
    );
    assert_eq!(selection.images(), ["r.example/bundle:1.0.0"]);
    filter.packages.remove(0);
    assert!(
        refused(&catalog, &filter)
            .starts_with("nothing is left of the catalog in here: it has none of the packages q")
    );
    assert_eq!(refused(&self::catalog(&[]), &Filter::default()), "the catalog in here lists nothing");
    // Only unknown channels: the default is lost.
    let none = asked(Range::default(), &[("none", Range::default())]);
    assert!(refused(&catalog, &none).contains("`a`, which is the default of the package `p`, is not among"));
}

#[test]
fn contradictions_in_what_is_asked_for_are_errors() {
    let catalog = one(&[("a", &[entry("1.0.0", "", &[])])]);
    let both = asked(range("1.0.0", ""), &[("a", range("", "2.0.0"))]);
    assert!(refused(&catalog, &both).contains("of the package `p` and of its channel `a`"));
    let mut full = asked(range("1.0.0", ""), &[]);
    full.full = true;
    assert!(refused(&catalog, &full).contains("of which everything is asked for too"));
    let mut full = asked(Range::default(), &[("a", range("", "1.0.0"))]);
    full.full = true;
    assert!(refused(&catalog, &full).contains("of which everything is asked for too"));
    let mut twice = asked(Range::default(), &[]);
    twice.packages.push(twice.packages[0].clone());
    assert_eq!(refused(&catalog, &twice), "the package `p` is asked for twice");
    let twice = asked(Range::default(), &[("a", Range::default()), ("a", Range::default())]);
    assert_eq!(refused(&catalog, &twice), "the channel `a` of the package `p` is asked for twice");
}

#[test]
fn a_channel_without_one_head_is_an_error_that_names_it() {
    let none = one(&[("a", &[entry("1.0.0", "2.0.0", &[]), entry("2.0.0", "", &["1.0.0"])])]);
    let several = one(&[("a", &[entry("1.0.0", "", &[]), entry("2.0.0", "", &[])])]);
    let all_round = one(&[("a", &[entry("1.0.0", "2.0.0", &[]), entry("2.0.0", "1.0.0", &[])])]);
    let round = one(&[(
        "a",
        &[entry("3.0.0", "2.0.0", &[]), entry("2.0.0", "1.0.0", &[]), entry("1.0.0", "2.0.0", &[])],
    )]);
    let itself = one(&[("a", &[entry("1.0.0", "1.0.0", &[])])]);
    let empty = one(&[("a", &[])]);
    let some = asked(range("1.0.0", ""), &[]);
    for (catalog, why) in [
        (&none, "each of its entries is replaced or skipped by another one"),
        (&several, "2 entries are replaced by no other one: 1.0.0, 2.0.0"),
        (&all_round, "replacing goes in a circle: 1.0.0 → 2.0.0 → 1.0.0"),
        (&round, "replacing goes in a circle: 2.0.0 → 1.0.0 → 2.0.0"),
        (&itself, "replacing goes in a circle: 1.0.0 → 1.0.0"),
        (&empty, "it has no entry"),
    ] {
        let expected = format!("the channel `a` of the package `p` has no head: {why}");
        assert_eq!(refused(catalog, &some), expected);
        // Nor has it one when only heads are wanted.
        assert_eq!(refused(catalog, &Filter::default()), expected);
    }
    assert!(none.select(&Filter::default()).is_err() && several.select(&Filter::default()).is_err());
    // Of everything nobody needs to know the head.
    let full = Filter { full: true, packages: Vec::new() };
    assert_eq!(several.select(&full).unwrap().images().len(), 2);
}

#[test]
fn one_version_is_that_version_or_an_error() {
    let catalog = one(&[
        ("a", &[entry("1.0.0", "", &[]), entry("2.0.0+b", "1.0.0", &[])]),
        ("b", &[entry("2.0.0+b", "", &[]), entry("3.0.0", "2.0.0+b", &[])]),
    ]);
    let selection = catalog.select(&asked(range("2.0.0", "2.0.0+x"), &[])).unwrap();
    assert_eq!(
        (kept(&selection, "a"), kept(&selection, "b")),
        (vec!["2.0.0+b".to_owned()], vec!["2.0.0+b".to_owned()])
    );
    // In the default channel only.
    let selection = catalog.select(&asked(range("1.0.0", "1.0.0"), &[])).unwrap();
    assert_eq!(selection.packages["p"].channels.keys().collect::<Vec<_>>(), ["a"]);
    assert!(
        refused(&catalog, &asked(range("3.0.0", "3.0.0"), &[]))
            .contains("nothing is left of the channel `a`")
    );
    let channels = [("a", Range::default()), ("b", range("9.0.0", "9.0.0"))];
    assert_eq!(
        refused(&catalog, &asked(Range::default(), &channels)),
        "the version 9.0.0 was asked for of the channel `b` of the package `p` and is not there"
    );
    let mut gone = asked(range("9.0.0", "9.0.0"), &[("b", Range::default())]);
    gone.packages[0].default_channel = Some("b".to_owned());
    assert_eq!(
        refused(&catalog, &gone),
        "the version 9.0.0 was asked for of the package `p` and is not there"
    );
}

#[test]
fn the_default_channel_must_be_left() {
    let catalog = one(&[("a", &[entry("1.0.0", "", &[])]), ("b", &[entry("2.0.0", "", &[])])]);
    let mut filter = asked(Range::default(), &[("b", Range::default())]);
    assert!(refused(&catalog, &filter).contains("is not among the channels chosen"));
    filter.packages[0].default_channel = Some("b".to_owned());
    let selection = catalog.select(&filter).unwrap();
    assert_eq!(selection.packages["p"].default_channel.as_deref(), Some("b"));
    filter.packages[0].default_channel = Some("c".to_owned());
    assert!(refused(&catalog, &filter).ends_with("is not among what is left of it: b"));
    // The new default is emptied.
    let mut filter = asked(range("", "1.0.0"), &[]);
    filter.packages[0].default_channel = Some("b".to_owned());
    assert!(refused(&catalog, &filter).contains("`b` is to be the default of the package `p`"));
    // The old one is, and it was among those chosen.
    let mut filter = asked(range("2.0.0", ""), &[]);
    filter.packages[0].default_channel = Some("b".to_owned());
    assert!(refused(&catalog, &filter).contains("no version in it is >= 2.0.0"));
}

#[test]
fn pre_releases_count_only_where_a_bound_is_one_and_build_metadata_never() {
    let has = |range: &Range, version: &str| range.has(&version.parse::<Version>().unwrap());
    assert!(!has(&range("1.0.0", "3.0.0"), "2.0.0-rc.1"));
    assert!(has(&range("1.0.0-0", "3.0.0"), "2.0.0-rc.1"));
    assert!(has(&range("1.0.0", "3.0.0-0"), "2.0.0-rc.1"));
    assert!(has(&range("", "2.0.0-rc.2"), "2.0.0-rc.1"));
    assert!(!has(&range("2.0.0-rc.2", ""), "2.0.0-rc.1"));
    assert!(has(&range("1.0.0+b", "1.0.0+a"), "1.0.0+z"));
    assert!(has(&range("1.0.0+9", "2.0.0"), "1.0.0+1"));
    assert!(range("1.0.0+a", "1.0.0+b").single().is_some() && range("1.0.0", "").single().is_none());
}

#[test]
fn entries_are_kept_as_they_are_and_versions_of_other_forms_are_told() {
    let mut strange = entry("v1", "", &[]);
    strange.skip_range = Some("<1".to_owned());
    let top = entry("2.0.0", "v1", &["1.9.0", "gone"]);
    let catalog = one(&[("a", &[top.clone(), entry("1.9.0", "v1", &[]), strange])]);
    let selection = catalog.select(&Filter::default()).unwrap();
    // What it replaces and skips is not there any more.
    assert_eq!(selection.packages["p"].channels["a"], [top]);
    assert!(selection.warnings.is_empty() && !selection.is_everything());
    let selection = catalog.select(&asked(range("1.0.0", ""), &[])).unwrap();
    assert_eq!(kept(&selection, "a"), ["1.9.0", "2.0.0"]);
    assert_eq!(selection.warnings.len(), 1);
    assert!(selection.warnings[0].contains("the bundle `v1` of the package `p` has the version `v1`"));
}

#[test]
fn images_are_collected_and_bad_references_named() {
    let mut catalog = one(&[("a", &[entry("1.0.0", "", &[])])]);
    let mut with = |image: &str, related: &[&str]| {
        let bundle = catalog.packages.get_mut("p").unwrap().bundles.get_mut("1.0.0").unwrap();
        bundle.image = image.to_owned();
        bundle.related = related.iter().map(|image| (*image).to_owned()).collect();
        catalog.select(&Filter::default())
    };
    let images = with("", &["r.example/b:1", "", "r.example/a:1", "r.example/b:1"]).unwrap().images();
    assert_eq!(images, ["r.example/a:1", "r.example/b:1"]);
    let error = with("r.example/b:1", &["r.example/none"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image `r.example/none` of the bundle `1.0.0` has neither a tag nor a digest"
    );
    assert!(matches!(with("not an image", &[]), Err(FilterError::Reference { .. })));
}

#[test]
fn a_package_of_which_nothing_is_left_is_an_error_with_the_range() {
    let mut catalog = one(&[("a", &[entry("1.0.0", "", &[])])]);
    // As in a database.
    catalog.packages.get_mut("p").unwrap().default_channel = None;
    assert_eq!(
        refused(&catalog, &asked(range("2.0.0", ""), &[])),
        "nothing is left of the package `p`: no version in its channels is >= 2.0.0"
    );
    assert_eq!(
        refused(&catalog, &asked(Range::default(), &[("none", Range::default())])),
        "nothing is left of the package `p`: it has none of the channels that were asked for"
    );
    assert!(catalog.select(&Filter::default()).is_ok());
}

#[test]
fn what_a_range_empties_or_leaves_aside_is_told() {
    let catalog = one(&[("a", &[entry("1.0.0", "", &[])]), ("b", &[entry("2.0.0", "", &[])])]);
    let channels = [("a", Range::default()), ("b", range("3.0.0", ""))];
    let selection = catalog.select(&asked(Range::default(), &channels)).unwrap();
    assert_eq!(
        selection.warnings,
        ["nothing is left of the channel `b` of the package `p`: no version in it is >= 3.0.0"]
    );
    // Beside the chain: 1.1.0 leads to nothing, and only 2.0.0 skips it, which is not asked for.
    let entries = [
        entry("2.0.0", "1.0.0", &["1.1.0"]),
        entry("1.1.0", "1.0.5", &[]),
        entry("1.0.5", "1.0.0", &[]),
        entry("1.0.0", "", &[]),
    ];
    let selection = one(&[("a", &entries)]).select(&asked(range("", "1.0.5"), &[])).unwrap();
    assert_eq!(kept(&selection, "a"), ["1.0.0"]);
    assert_eq!(selection.warnings.len(), 1, "{:?}", selection.warnings);
    assert!(
        selection.warnings[0]
            .contains("of the channel `a` of the package `p` these are <= 1.0.5 and stay behind")
    );
    assert!(selection.warnings[0].ends_with(": 1.0.5"));
    for filter in
        [asked(range("2.0.0", "1.0.0"), &[]), asked(Range::default(), &[("a", range("2.0.0", "1.0.0"))])]
    {
        assert!(refused(&catalog, &filter).ends_with("of the package `p`, and no version is both"));
    }
    let strange = one(&[("a", &[entry("v2", "v1", &[]), entry("v1", "", &[])])]);
    assert!(
        refused(&strange, &asked(range("1.0.0", ""), &[])).ends_with(
            "no version in it is >= 1.0.0, and 2 of its bundles have no version of the form x.y.z"
        )
    );
}

#[test]
fn a_default_channel_that_stays_is_told() {
    let catalog = one(&[("a", &[entry("1.0.0", "", &[])]), ("b", &[entry("2.0.0", "", &[])])]);
    let platform = "linux/amd64".parse().unwrap();
    let catalogs = [crate::catalog::PlatformCatalog { platform, catalog }];
    let mut filter = asked(Range::default(), &[]);
    assert!(kept_defaults(&catalogs, &filter).is_empty());
    filter.packages[0].default_channel = Some("a".to_owned());
    assert!(kept_defaults(&catalogs, &filter).is_empty());
    filter.packages[0].default_channel = Some("b".to_owned());
    let told = kept_defaults(&catalogs, &filter).join("");
    assert!(told.contains("of the package `p` stays `a` in the catalog and is to be `b`"), "{told}");
    assert!(told.contains("`rebuildCatalog: true`"));
}

/// Rule 7 once more, in the simplest way: for each entry of the chain, what can be reached from it.
fn naive(channel: &Channel, in_range: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
    let find = |name: &str| channel.entries.iter().find(|entry| entry.name == name);
    let mut chain = vec![channel.head().unwrap().name.clone()];
    while let Some(next) =
        find(chain.last().unwrap()).unwrap().replaces.clone().filter(|name| find(name).is_some())
    {
        chain.push(next);
    }
    let reach = |from: usize| -> BTreeSet<String> {
        let nodes = chain[from..].iter();
        nodes
            .flat_map(|name| std::iter::once(name.clone()).chain(find(name).unwrap().skips.clone()))
            .filter(|name| find(name).is_some() && in_range(name))
            .collect()
    };
    let most = reach(0).len();
    if most == 0 {
        return BTreeSet::new();
    }
    let head = (0..chain.len()).filter(|at| reach(*at).len() == most).max().unwrap();
    let mut kept = BTreeSet::new();
    for (at, name) in chain.iter().enumerate().skip(head) {
        if reach(at).is_empty() {
            break;
        }
        kept.insert(name.clone());
        let skips = find(name).unwrap().skips.iter();
        kept.extend(skips.filter(|name| find(name).is_some() && in_range(name)).cloned());
    }
    kept
}

proptest! {
    #[test]
    fn ranges_keep_what_a_naive_reading_of_the_rule_keeps(
        chain in prop::collection::vec((0u64..9, prop::collection::vec(0u64..9, 0..3)), 1..8),
        min in prop::option::of(0u64..9),
        max in prop::option::of(0u64..9),
    ) {
        // Versions in the chain need not descend; each is there once.
        let mut seen = BTreeSet::new();
        let chain: Vec<_> = chain.into_iter().filter(|(version, _)| seen.insert(*version)).collect();
        let name = |version: u64| format!("{version}.0.0");
        let on_chain: BTreeSet<u64> = chain.iter().map(|(version, _)| *version).collect();
        let mut entries = Vec::new();
        let mut skipped = BTreeSet::new();
        for (at, (version, skips)) in chain.iter().enumerate() {
            let skips: Vec<u64> = skips.iter().copied().filter(|skip| !on_chain.contains(skip)).collect();
            // Some of what is skipped is an entry too.
            skipped.extend(skips.iter().copied().filter(|skip| skip % 3 != 0));
            let replaces = chain.get(at + 1).map_or("0.0.0-gone".to_owned(), |(version, _)| name(*version));
            let skips: Vec<String> = skips.into_iter().map(name).collect();
            entries.push(entry(&name(*version), &replaces, &skips.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        entries.extend(skipped.into_iter().map(|version| entry(&name(version), "", &[])));
        let channel = Channel { entries };
        let version = |name: &str| name.split('.').next().unwrap().parse::<u64>().unwrap();
        let in_range = |name: &str| min.is_none_or(|min| version(name) >= min) && max.is_none_or(|max| version(name) <= max);
        let kept = range_of(&channel, &|entry| in_range(&entry.name)).unwrap();
        let kept: BTreeSet<String> = kept.into_iter().map(str::to_owned).collect();
        prop_assert_eq!(kept, naive(&channel, &in_range));
    }
}
