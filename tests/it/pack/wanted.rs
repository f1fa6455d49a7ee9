//! Platforms that are wanted of one image alone.

use std::path::Path;
use std::sync::Arc;

use barge::bundle::table::Role;
use barge::graph::Part;
use barge::graph::survey::Wish;
use barge::oci::Descriptor;
use barge::pack::{Asked, Options, Output, PackError, Prepared};
use barge::select::{Attachments, Reason, Wanted};
use barge::store::layout::LayoutDirectory;
use barge::transfer::Silent;

use super::{Packed, temp};
use crate::support::archives::write_layout;
use crate::support::images::{Content, layer};

const NAMES: [&str; 3] = ["r.example/a:v1", "r.example/b:v1", "r.example/c:v1"];

/// An index of three platforms, each with a signature as a referrer, under three names.
struct Site {
    content: Content,
    children: Vec<Descriptor>,
    signatures: Vec<Descriptor>,
    index: Descriptor,
}

impl Site {
    fn new() -> Self {
        let mut content = Content::new();
        let platforms = ["linux/amd64", "linux/arm64", "linux/s390x"];
        let children: Vec<Descriptor> =
            platforms.iter().zip(1..).map(|(one, seed)| content.image(one, &[layer(seed, 500)])).collect();
        let sign = |child: &Descriptor| (child.clone(), "application/vnd.cncf.notary.signature");
        let signatures = children
            .iter()
            .map(sign)
            .map(|(child, kind)| content.artifact(&child, kind, child.digest.hex().as_bytes()))
            .collect();
        let index = content.index(&children);
        Self { content, children, signatures, index }
    }

    /// Plans an archive of wishes: name, and the platforms of its own.
    fn prepare(
        &self,
        folder: &Path,
        wishes: &[(&str, &[&str])],
        of_all: &[&str],
        strict: bool,
    ) -> Result<Prepared, PackError> {
        let mut roots: Vec<(&str, Descriptor)> = NAMES.map(|name| (name, self.index.clone())).to_vec();
        roots.extend(self.signatures.iter().map(|one| ("", one.clone())));
        write_layout(&folder.join("layout"), &self.content, &roots);
        let parsed = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let wish = |(name, platforms): &(&str, &[&str])| Wish {
            name: name.parse().unwrap(),
            reference: None,
            source: 0,
            selector: (*name).to_owned(),
            platforms: parsed(platforms),
            part: Part::Image,
        };
        let asked = Asked {
            sources: vec![Arc::new(LayoutDirectory::open(&folder.join("layout")).unwrap())],
            wishes: wishes.iter().map(wish).collect(),
            ..Asked::default()
        };
        let options = Options {
            wanted: Wanted { platforms: parsed(of_all), foreign_layers: false },
            strict_platforms: strict,
            attachments: Attachments::All,
            keep_going: false,
            jobs: 3,
            max_size: None,
            restart: true,
            output: Output::Archive(folder.join("site.oci.tar")),
        };
        Prepared::of(asked, options)
    }

    fn pack(&self, wishes: &[(&str, &[&str])], of_all: &[&str]) -> Packed {
        let temp = temp();
        let prepared = self.prepare(temp.path(), wishes, of_all, true).unwrap();
        prepared.write(&Silent).unwrap();
        Packed::open(&temp.path().join("site.oci.tar"))
    }

    /// Checks that of the children, and of what is attached to them, just these travel.
    #[track_caller]
    fn travels(&self, packed: &Packed, kept: [bool; 3]) {
        for (at, kept) in kept.into_iter().enumerate() {
            let (child, signature) = (&self.children[at], &self.signatures[at]);
            if kept {
                packed.has_all(&self.content, child);
                packed.has_all(&self.content, signature);
            } else {
                assert_eq!(packed.role(&child.digest), Some(Role::Unshipped), "{at}");
                packed.lacks_all(&self.content, child, Reason::Platform, &[&child.digest]);
                assert_eq!(packed.role(&signature.digest), None, "{at}");
            }
        }
    }
}

fn platforms(packed: &Packed, name: &str) -> Vec<String> {
    packed.image(name).platforms.iter().map(ToString::to_string).collect()
}

#[test]
fn an_image_has_the_platforms_it_asks_for_and_not_those_asked_for_of_all() {
    let site = Site::new();
    let packed = site.pack(&[(NAMES[0], &["linux/arm64"])], &["linux/amd64"]);
    site.travels(&packed, [false, true, false]);
    assert_eq!(platforms(&packed, NAMES[0]), ["linux/arm64"]);
    assert_eq!(packed.image(NAMES[0]).attached.len(), 1);
    site.travels(&site.pack(&[(NAMES[0], &["linux/s390x"])], &[]), [false, false, true]);
}

#[test]
fn what_several_images_ask_for_adds_up_in_whatever_order() {
    let site = Site::new();
    for (first, second) in [("linux/arm64", "linux/amd64"), ("linux/amd64", "linux/arm64")] {
        let packed = site.pack(&[(NAMES[0], &[first]), (NAMES[1], &[second])], &["linux/s390x"]);
        site.travels(&packed, [true, true, false]);
    }
    // One image with a list of its own and one without.
    let packed = site.pack(&[(NAMES[0], &["linux/arm64"]), (NAMES[2], &[])], &["linux/s390x"]);
    site.travels(&packed, [false, true, true]);
    // One image that is asked for twice.
    let packed = site.pack(&[(NAMES[1], &["linux/arm64"]), (NAMES[1], &["linux/amd64"])], &[]);
    site.travels(&packed, [true, true, false]);
    assert_eq!(platforms(&packed, NAMES[1]), ["linux/amd64", "linux/arm64"]);
    assert_eq!(packed.image(NAMES[1]).attached.len(), 2);
    let packed = site.pack(&[(NAMES[1], &["linux/arm64"]), (NAMES[1], &[])], &[]);
    site.travels(&packed, [true; 3]);
}

#[test]
fn a_platform_that_one_image_lacks_is_said_of_that_image() {
    let (site, temp) = (Site::new(), temp());
    // No other image of which it is wanted has it either: that is a slip of the pen, whatever the others have.
    let wishes: [(&str, &[&str]); 2] = [(NAMES[0], &["linux/arm64", "linux/riscv64"]), (NAMES[1], &[])];
    for strict in [false, true] {
        match site.prepare(temp.path(), &wishes, &["linux/amd64"], strict) {
            Err(error @ PackError::NoSuchPlatform { .. }) => assert_eq!(
                error.to_string(),
                "no image has the platform linux/riscv64; they have linux/amd64, linux/arm64, linux/s390x"
            ),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was packed"),
        }
    }
    // What nobody is asked for is lacking nowhere.
    let own: [(&str, &[&str]); 1] = [(NAMES[0], &["linux/arm64"])];
    assert!(site.prepare(temp.path(), &own, &["windows/amd64"], true).unwrap().warnings.is_empty());
}

#[test]
fn other_platforms_of_one_image_are_another_plan() {
    let (site, temp) = (Site::new(), temp());
    let arguments = |own: &[&str]| {
        let prepared = site.prepare(temp.path(), &[(NAMES[0], own)], &[], false).unwrap();
        prepared.arguments().clone()
    };
    assert_ne!(arguments(&["linux/arm64"]), arguments(&["linux/amd64"]));
    assert_eq!(arguments(&["linux/arm64"]), arguments(&["linux/arm64"]));
}
