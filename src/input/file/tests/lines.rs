//! Mapping files and lists.

use super::*;

#[test]
fn a_mapping_file_names_what_it_pulls_by_where_it_goes() {
    let digest = digest();
    let text = format!(
        "# ibm-pak\n\n\
         reg.test/cpopen/x@{digest}=dst.test/cpopen/x:v1.0.6\n\
         reg.test/a:v1 dst.test/b # comment\n\
         docker://reg.test/c:v1=docker://dst.test/c:v2\n\
         reg.test/d@{digest} dst.test/d\n\
         reg.test/e:v1@{digest}=dst.test/e\n\
         reg.test/f:v1 dst.test/f:1 dst.test/g dst.test/h:\n\
         reg.test/i:v1=dst.test/i:v1 reg.test/j:v1=dst.test/j:v1\n"
    );
    let order = order(&text);
    assert_eq!(
        pulls(&order),
        [
            format!("dst.test/cpopen/x:v1.0.6 < reg.test/cpopen/x@{digest}"),
            "dst.test/b:v1 < reg.test/a:v1".to_owned(),
            "dst.test/c:v2 < reg.test/c:v1".to_owned(),
            format!("dst.test/d@{digest} < reg.test/d@{digest}"),
            format!("dst.test/e:v1 < reg.test/e:v1@{digest}"),
            "dst.test/f:1 < reg.test/f:v1".to_owned(),
            "dst.test/g:v1 < reg.test/f:v1".to_owned(),
            "dst.test/h:v1 < reg.test/f:v1".to_owned(),
            "dst.test/i:v1 < reg.test/i:v1".to_owned(),
            "dst.test/j:v1 < reg.test/j:v1".to_owned(),
        ]
    );
    assert_eq!(lines_of(&order), [3, 4, 5, 6, 7, 8, 8, 8, 9, 9]);
    let selectors: Vec<_> = order.images.iter().map(|image| image.argument.selector.as_deref()).collect();
    assert_eq!(selectors[4], Some(digest.to_string().as_str()), "the digest decides what is pulled");
    assert_eq!(order.notes.len(), 1);
    assert!(order.notes[0].contains("the destination host dst.test is not used"), "{:?}", order.notes);
}

#[test]
fn a_bare_repository_is_all_its_tags_and_a_star_some() {
    let order = order("reg.test/a dst.test/b\nreg.test/c:v1.*=dst.test/c\nreg.test/d reg.test/d\n");
    let [a, c, d] = &order.tags[..] else { panic!("{:?}", order.tags) };
    assert_eq!(a.repository.to_string(), "reg.test/a");
    assert_eq!(a.name.as_ref().unwrap().to_string(), "dst.test/b");
    assert!(a.choice.matching.is_none());
    let tags = ["v1.0", "v1.10", "v10", "av1.0"].map(str::to_owned).to_vec();
    assert_eq!(c.choice.choose(tags), ["v1.0", "v1.10"]);
    assert_eq!(d.name, None);
    assert_eq!(d.at.as_ref().unwrap().line, 3);
    faulty("reg.test/a dst.test/b:v1", &["FILE:1: `reg.test/a` is all tags", "is one tag"]);
}

#[test]
fn a_folder_for_a_destination_gives_the_path() {
    let order = order("reg.test:80/a/b:v1=file://x/y\nreg.test/c:v1=file:///x/z:v2\n");
    assert_eq!(pulls(&order), ["reg.test:80/x/y:v1 < reg.test:80/a/b:v1", "reg.test/x/z:v2 < reg.test/c:v1"]);
    assert!(order.notes.is_empty(), "{:?}", order.notes);
    faulty("reg.test/a:v1=file://X/y", &["FILE:1: `file://X/y` is no path of a repository"]);
}

#[test]
fn what_a_mapping_file_can_not_do_is_refused_with_what_to_do() {
    let digest = digest();
    for (text, words) in [
        (
            "file://a/b:v1=dst.test/b:v1",
            &["FILE:1: `file://a/b:v1`", "hint: use the mapping file that reads"][..],
        ),
        ("s3://bucket/a:v1=dst.test/b:v1", &["FILE:1: `s3://bucket/a:v1` is in a bucket", "hint: use"][..]),
        ("reg.test/a:v1=s3://bucket/b", &["FILE:1: `s3://bucket/b`", "hint: pack into a bundle"][..]),
        (
            &format!("reg.test/a:v1=dst.test/a@{digest}"),
            &["FILE:1:", "has a digest", "give a tag or none"][..],
        ),
        (&format!("reg.test/a:v1 file://a@{digest}"), &["FILE:1:", "has a digest"][..]),
        ("reg.test/a:v1=", &["FILE:1: the source or the destination is empty"][..]),
        ("=dst.test/a:v1", &["FILE:1: the source or the destination is empty"][..]),
        ("a=b c", &["FILE:1: some words of this line have `=` and some have not"][..]),
        ("a b\nc", &["FILE:2: `c` says no destination", "hint: write SRC=DST"][..]),
        ("a=b\nc=oci:./x", &["FILE:2: `c=oci:./x` is NAME=SOURCE", "hint: put them into two files"][..]),
        (
            "a b\nreg.test/A=b",
            &["FILE:2: `reg.test/A` can't be used here: `reg.test/A` is not an image reference"][..],
        ),
        ("\n\nA:v1 b", &["FILE:3: `A:v1` can't be used here"][..]),
    ] {
        faulty(text, words);
    }
}

#[test]
fn a_destination_for_two_sources_names_both_lines_and_a_line_that_stands_twice_is_one() {
    faulty(
        "# x\nreg.test/a:v1=dst.test/a:v1\nreg.test/b:v1=dst.test/b:v1\nreg.test/c:v1=dst.test/a:v1\n",
        &[
            "FILE:4: dst.test/a:v1 is to name reg.test/c:v1, and names reg.test/a:v1 already",
            "(the first is in line 2)",
        ],
    );
    assert_eq!(order("reg.test/a:v1=dst.test/a:v1\n".repeat(3).as_str()).images.len(), 1);
    let digest = digest();
    // The digest decides what is pulled, whatever tag stands beside it.
    let same = format!("reg.test/a@{digest} dst.test/a:v1\nreg.test/a:v1@{digest} dst.test/a:v1\n");
    assert_eq!(order(&same).images.len(), 1);
}

#[test]
fn a_file_with_a_name_before_files_alone_is_a_list() {
    let order = order("reg.test/a\ntools/lint:v3=oci:./layout:lint\nx=y.tar # named\n./a=b\noci:./a=b\n");
    assert_eq!(
        pulls(&order),
        [
            "reg.test/a:latest < reg.test/a:latest",
            "docker.io/tools/lint:v3 < Layout(\"./layout\") lint",
            "docker.io/library/x:latest < File(\"y.tar\") *",
            "- < File(\"./a=b\") *",
            "- < Layout(\"./a=b\") *",
        ]
    );
    assert_eq!(lines_of(&order), [1, 2, 3, 4, 5]);
    assert!(order.notes.is_empty());
}

#[test]
fn the_first_line_can_say_that_it_is_a_list() {
    let text = "reg.test/new:v1=reg.test/old:v1\n";
    assert_eq!(pulls(&order(text)), ["reg.test/old:v1 < reg.test/new:v1"]);
    assert_eq!(
        pulls(&order(&format!("{}\n{text}", mapping::LIST_MARK))),
        ["reg.test/new:v1 < reg.test/old:v1"]
    );
    faulty(&format!("{}\na b", mapping::LIST_MARK), &["FILE:2: `a b` can't be used here"]);
}

#[test]
fn a_list_says_which_line_is_wrong() {
    faulty(
        "alpine:3\nreg.test/A\n",
        &["FILE:2: `reg.test/A` can't be used here: `reg.test/A` is not an image reference"],
    );
    faulty("dir:/x\n", &["FILE:1:", "the transport `dir:` is not supported"]);
}

#[test]
fn layouts_may_be_mapped_too() {
    let order = order(
        "oci:./layout:x dst.test/x:v1\noci-archive:a.tar dst.test/y\noci:///srv/cat=docker://dst.test/z:v1\n",
    );
    assert_eq!(
        pulls(&order),
        [
            "dst.test/x:v1 < Layout(\"./layout\") x",
            "dst.test/y:latest < LayoutArchive(\"a.tar\") *",
            "dst.test/z:v1 < Layout(\"///srv/cat\") *"
        ]
    );
}

#[test]
fn line_ends_marks_and_tabs_do_not_matter() {
    for text in [
        "\u{feff}# x\r\nreg.test/a:v1\tdst.test/a\r\n\r\n",
        "reg.test/a:v1=dst.test/a  \r\n",
        " reg.test/a:v1  dst.test/a",
    ] {
        assert_eq!(pulls(&order(text)), ["dst.test/a:v1 < reg.test/a:v1"], "{text:?}");
    }
    for text in ["\u{feff}reg.test/a:v1\r\n", "\treg.test/a:v1\t# x\r\n"] {
        assert_eq!(pulls(&order(text)), ["reg.test/a:v1 < reg.test/a:v1"], "{text:?}");
    }
}

#[test]
fn a_file_without_content_asks_for_nothing_and_says_so() {
    for text in ["", "\n\n", "# nothing\n", "apiVersion: barge/v1\n", "\u{feff}"] {
        let order = order(text);
        assert!(order.images.is_empty());
        assert_eq!(order.notes.len(), 1, "{text:?}");
        assert!(order.notes[0].ends_with("this asks for nothing"), "{:?}", order.notes);
    }
}
