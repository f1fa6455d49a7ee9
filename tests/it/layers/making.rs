//! Which layers travel as patches, and of what.

use std::collections::BTreeMap;

use barge::bundle::patches::PatchRow;
use barge::oci::Digest;

use super::{Desk, TAG};
use crate::support::images::{Blob, Content, layer as noise_layer, noise};
use crate::support::layers::{Encoder, Files, assert_copied, edited, image_of, layer, tree};
use crate::support::peers::RealRegistry;

/// One image in two versions: B has the old one, and `new.barge` brings the new one.
struct Pair {
    desk: Desk,
    b: RealRegistry,
    packed: crate::support::barge::Outcome,
    content: Content,
    root: barge::oci::Descriptor,
}

/// Layers with their history lines.
type Line<'a> = (&'a str, &'a Blob);

impl Pair {
    fn of(old: &[Line<'_>], new: &[Line<'_>], options: &str) -> Self {
        let (a, b, desk) = (RealRegistry::start(), RealRegistry::start(), Desk::new());
        let mut content = Content::new();
        let before = image_of(&mut content, "linux/amd64", old);
        let root = image_of(&mut content, "linux/amd64", new);
        for host in [a.host(), b.host()] {
            crate::support::peers::push_content(host, "team/app", &content, &before, Some(TAG));
        }
        desk.run(&format!("inventory {} -o b.json", b.host()));
        a.push("team/app", &content, &root, Some(TAG));
        let line = format!("pack {}/team/app:{TAG} --base b.json -o new.barge {options}", a.host());
        let packed = desk.run(&line);
        Self { desk, b, packed, content, root }
    }

    /// How a layer is rebuilt, if it is.
    fn patch(&self, layer: &Blob) -> Option<PatchRow> {
        self.desk.record("new.barge").patches.find(&layer.digest).cloned()
    }

    fn patch_size(&self, layer: &Blob) -> u64 {
        let row = self.patch(layer).unwrap();
        self.desk.record("new.barge").blobs.find(&row.patch).unwrap().1.size
    }

    /// The bundle makes B what it should be.
    #[track_caller]
    fn arrives(&self) {
        self.desk.run(&format!("push new.barge {}", self.b.host())).stdout_has("DONE:");
        assert_copied(self.b.host(), &format!("team/app:{TAG}"), &self.content, &self.root);
    }
}

fn digests_of(row: Option<PatchRow>) -> Vec<Digest> {
    row.map(|row| row.bases).unwrap_or_default()
}

#[test]
fn a_layer_that_gains_less_than_a_tenth_travels_whole() {
    let files = tree(1, 10, 20_000);
    let old = layer(&files, Encoder::Flate2(6));
    // Nothing of it is in the old one.
    let other = noise_layer(5, 60_000);
    // One file in ten is the old one's.
    let mut mixed: Files = files.iter().take(1).map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    mixed.insert("zz/noise".to_owned(), noise(9, 120_000));
    let mixed = layer(&mixed, Encoder::Flate2(6));
    let old_own = noise_layer(6, 50_000);
    let near = layer(&edited(&files, &[4], 3), Encoder::Flate2(6));
    let pair = Pair::of(
        &[("a", &old), ("b", &old_own), ("c", &old)],
        &[("a", &mixed), ("b", &other), ("c", &near)],
        "",
    );
    assert_eq!(pair.desk.rebuilt("new.barge"), super::digests([&near]));
    let packed = pair.packed.clone();
    packed
        .stdout_has(" in place of 1 layer, ")
        .stdout_has("whole    layers: 2 that a patch would hardly make smaller");
    pair.arrives();
}

#[test]
fn small_layers_travel_whole_and_new_ones_have_nothing_older() {
    let tiny = |seed| layer(&tree(seed, 1, 300), Encoder::Flate2(6));
    let (old, new) = (tiny(1), tiny(2));
    let pair = Pair::of(&[("a", &old)], &[("a", &new)], "");
    assert!(pair.desk.rebuilt("new.barge").is_empty());
    pair.arrives();
}

#[test]
fn files_that_moved_to_another_layer_are_found_there() {
    let (first, second) = (tree(1, 8, 30_000), tree(2, 8, 30_000));
    let (mut to, mut from) = (first.clone(), second.clone());
    for name in second.keys().take(6) {
        let bytes = from.remove(name).unwrap();
        to.insert(name.replace("usr/lib", "opt/moved"), bytes);
    }
    let old = [layer(&first, Encoder::Flate2(6)), layer(&second, Encoder::Flate2(6))];
    let new = [layer(&to, Encoder::Flate2(6)), layer(&from, Encoder::Flate2(6))];
    let pair = Pair::of(&[("a", &old[0]), ("b", &old[1])], &[("a", &new[0]), ("b", &new[1])], "");
    let row = pair.patch(&new[0]).unwrap();
    assert_eq!(row.bases.len(), 2, "{row:?}");
    assert!(old.iter().all(|old| row.bases.contains(&old.digest)));
    // The six files of 30 kB are not in it: only how they were compressed.
    let (patch, whole) = (pair.patch_size(&new[0]), new[0].bytes.len() as u64);
    assert!(patch * 3 < whole, "{patch} of {whole}");
    pair.arrives();
}

#[test]
fn a_layer_is_found_by_its_history_line_wherever_it_stands() {
    let trees = [tree(1, 8, 25_000), tree(2, 8, 25_000), tree(3, 8, 25_000)];
    let old: Vec<Blob> = trees.iter().map(|files| layer(files, Encoder::Pigz)).collect();
    let new: Vec<Blob> = trees.iter().map(|files| layer(&edited(files, &[2], 5), Encoder::Pigz)).collect();
    let lines = ["RUN one", "RUN two", "RUN three"];
    let old: Vec<Line<'_>> = lines.into_iter().zip(&old).collect();
    let own = noise_layer(9, 9000);
    // A layer more at the front, and the others in another order.
    let turned = [("RUN zero", &own), (lines[2], &new[2]), (lines[0], &new[0]), (lines[1], &new[1])];
    let pair = Pair::of(&old, &turned, "");
    for at in 0..3 {
        assert_eq!(digests_of(pair.patch(&new[at])), [old[at].1.digest.clone()], "{at}");
        assert!(pair.patch_size(&new[at]) * 4 < new[at].bytes.len() as u64, "{at}");
    }
    assert!(pair.patch(&own).is_none());
    pair.arrives();
}

#[test]
fn of_many_layers_the_one_with_the_same_history_line_is_compared() {
    let files = tree(1, 8, 25_000);
    let (old, new) = (layer(&files, Encoder::Gzip), layer(&edited(&files, &[2], 5), Encoder::Gzip));
    let others = |seed| (seed..seed + 12).map(|seed| noise_layer(seed, 6000)).collect::<Vec<_>>();
    let (before, after) = (others(100), others(200));
    // From the last place to the first: by place alone it would be the least likely of thirteen.
    let olds: Vec<Line<'_>> = before.iter().map(|one| ("COPY", one)).chain([("RUN", &old)]).collect();
    let news: Vec<Line<'_>> =
        [("RUN", &new)].into_iter().chain(after.iter().map(|one| ("ADD", one))).collect();
    let pair = Pair::of(&olds, &news, "");
    assert_eq!(digests_of(pair.patch(&new)), [old.digest], "{}", pair.packed);
    pair.arrives();
}

#[test]
fn patches_are_made_across_encoders_and_levels() {
    let files = tree(1, 10, 30_000);
    let changed = edited(&files, &[3], 8);
    let old = layer(&files, Encoder::Flate2(6));
    let plain_old = layer(&files, Encoder::Plain);
    let kinds = [Encoder::Flate2(1), Encoder::Flate2(9), Encoder::Gzip, Encoder::Pigz];
    let new: Vec<Blob> = kinds.iter().map(|encoder| layer(&changed, *encoder)).collect();
    let lines = ["a", "b", "c", "d"];
    let olds: Vec<Line<'_>> = lines.iter().map(|line| (*line, &old)).collect();
    let news: Vec<Line<'_>> = lines.iter().copied().zip(&new).collect();
    for options in ["", "--layer-delta max"] {
        let pair = Pair::of(&olds, &news, options);
        let patched: BTreeMap<_, _> =
            lines.iter().zip(&new).filter_map(|(line, new)| Some((*line, pair.patch(new)?))).collect();
        // Another level chooses other matches, which travel; the content does not.
        assert!(patched.len() >= 3, "{patched:?}");
        pair.arrives();
    }
    // From compressed to plain: the content is in the base, whatever form the layer has.
    let plain_new = layer(&changed, Encoder::Plain);
    let pair = Pair::of(&[("a", &old)], &[("a", &plain_new)], "");
    assert_eq!(digests_of(pair.patch(&plain_new)), [old.digest.clone()], "{}", pair.packed);
    assert!(pair.patch_size(&plain_new) < 20_000);
    pair.arrives();
    // From plain to compressed: how it was compressed is in no base, so there is little to gain.
    let pair = Pair::of(&[("a", &plain_old)], &[("a", &new[2])], "");
    pair.arrives();
}
