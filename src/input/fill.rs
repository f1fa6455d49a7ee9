//! Filling orders: from what files ask for to what a survey asks for.

mod catalogs;
mod parts;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::open::{OpenError, Opened, Opener, Said};
use super::order::{Blocked, Order, RegistryOrder, Spot, TagChoice, TagOrder};
use crate::graph::Part;
use crate::graph::survey::Wish;
use crate::oci::{Platform, Reference};
use crate::store::registry::{Mirror, Rule};

/// How many places in files a note names.
const MOST_SPOTS: usize = 10;

/// What is said beside files.
#[derive(Debug, Clone, Default)]
pub struct Fill {
    /// The platforms that the command line wants of all: an item's own go before them, and they before a file's defaults.
    pub platforms: Vec<Platform>,
    /// A list of the images of charts for which there is no other.
    pub chart_images: Option<PathBuf>,
    /// Whether all charts are rendered to find their images.
    pub render_charts: bool,
    /// The folder for working files.
    pub scratch: PathBuf,
}

/// Where files say what travels under a name.
#[derive(Debug, Clone, Default)]
pub struct SaidAt(BTreeMap<String, BTreeSet<Spot>>);

impl SaidAt {
    /// Notes that something was said of a name.
    pub(super) fn note(&mut self, name: &Reference, at: Option<&Spot>) {
        if let Some(at) = at {
            self.0.entry(name.to_string()).or_default().insert(at.clone());
        }
    }

    /// Returns where something was said of a name, in order.
    #[must_use]
    pub fn of(&self, name: &Reference) -> Vec<String> {
        self.0.get(&name.to_string()).into_iter().flatten().map(ToString::to_string).collect()
    }
}

impl From<&RegistryOrder> for Rule {
    fn from(order: &RegistryOrder) -> Self {
        Self {
            prefix: order.prefix.clone(),
            mirrors: order
                .mirrors
                .iter()
                .map(|mirror| Mirror { location: mirror.location.clone(), insecure: mirror.insecure })
                .collect(),
            mirrors_only: order.mirrors_only,
            insecure: order.insecure,
            cert_dir: order.cert_dir.clone(),
            auth_file: order.auth_file.clone(),
        }
    }
}

impl Opener<'_> {
    /// Notes what a file blocks, whatever asks for it. That is to be known before anything is added.
    pub fn block(&mut self, order: &Order) {
        // What is left out decides what the result is.
        let patterns = order.blocked.iter().map(|blocked| format!("blocked {}", blocked.pattern));
        self.opened.arguments.extend(patterns);
        self.blocked.extend(order.blocked.iter().cloned());
    }

    /// Opens what a file asks for and adds it. What it says of registries is the client's to know beforehand, and what it
    /// blocks is [`Self::block`]'s.
    ///
    /// # Errors
    /// [`OpenError`], with the place in the file.
    pub fn add_order(&mut self, order: &Order, fill: &Fill) -> Result<(), OpenError> {
        let defaults: &[Platform] = if fill.platforms.is_empty() { &order.defaults.platforms } else { &[] };
        self.note_own_platforms(order, fill);
        let said = |own: &[Platform], part, at: &Option<Spot>| Said {
            platforms: if own.is_empty() { defaults } else { own }.to_vec(),
            part,
            at: at.clone(),
        };
        for image in &order.images {
            self.add_as(&image.argument, &said(&image.platforms, Part::Image, &image.at))?;
        }
        for tags in &order.tags {
            let said = said(&tags.platforms, Part::Image, &tags.at);
            self.add_tags(tags, &said).map_err(|error| error.at(tags.at.as_ref()))?;
        }
        for catalog in &order.catalogs {
            let said = said(&catalog.platforms, Part::Catalog, &catalog.at);
            self.add_catalog(catalog, &said, fill).map_err(|error| error.at(catalog.at.as_ref()))?;
        }
        for chart in &order.charts {
            let said = said(&chart.platforms, Part::Image, &chart.at);
            self.add_chart(chart, &said, fill).map_err(|error| error.at(chart.at.as_ref()))?;
        }
        for release in &order.releases {
            let said = said(&release.platforms, Part::Release, &release.at);
            self.add_release(release, &said, fill).map_err(|error| error.at(release.at.as_ref()))?;
        }
        self.opened.notes.extend(order.notes.iter().cloned());
        Ok(())
    }

    /// Says of which items the command line's platforms are not wanted.
    fn note_own_platforms(&mut self, order: &Order, fill: &Fill) {
        if fill.platforms.is_empty() {
            return;
        }
        let items = (order.images.iter().map(|one| (&one.platforms, &one.at)))
            .chain(order.tags.iter().map(|one| (&one.platforms, &one.at)))
            .chain(order.catalogs.iter().map(|one| (&one.platforms, &one.at)))
            .chain(order.charts.iter().map(|one| (&one.platforms, &one.at)))
            .chain(order.releases.iter().map(|one| (&one.platforms, &one.at)));
        let own = items.filter(|(own, _)| !own.is_empty() && **own != fill.platforms);
        let mut spots: Vec<String> = own.filter_map(|(_, at)| at.as_ref().map(ToString::to_string)).collect();
        if spots.len() > MOST_SPOTS {
            let more = spots.len() - MOST_SPOTS;
            spots.truncate(MOST_SPOTS);
            spots.push(format!("{more} more"));
        }
        if !spots.is_empty() {
            self.opened.notes.push(format!(
                "--platform is not used for what names platforms of its own: {}",
                spots.join(", ")
            ));
        }
    }

    /// Adds the tags of a repository that are wanted.
    fn add_tags(&mut self, order: &TagOrder, said: &Said) -> Result<(), OpenError> {
        let (from, choice) = (&order.repository, &order.choice);
        let platforms: Vec<String> = said.platforms.iter().map(ToString::to_string).collect();
        let name = order.name.as_ref().unwrap_or(from);
        self.opened
            .arguments
            .push(format!("tags of {from} as {name}: {} {platforms:?}", choice_text(choice)));
        let source = self.registry(from);
        let tags = self.client.places(from).tags()?;
        let count = tags.len();
        let wanted = choice.choose(tags);
        if wanted.is_empty() {
            let choice = choice_text(choice);
            return Err(OpenError::NoTag { repository: from.clone(), count, choice });
        }
        for tag in wanted {
            let wish = Wish {
                name: Reference::tagged(name.clone(), tag.clone()),
                reference: Some(Reference::tagged(from.clone(), tag.clone())),
                source,
                selector: tag,
                platforms: said.platforms.clone(),
                part: said.part,
            };
            self.opened.said.note(&wish.name, said.at.as_ref());
            self.opened.wishes.push(wish);
        }
        Ok(())
    }
}

/// Says in words which tags are wanted.
fn choice_text(choice: &TagChoice) -> String {
    let texts = [
        choice.matching.as_ref().map(|pattern| format!("`{pattern}`")),
        choice.range.as_ref().map(|range| format!("versions {range}")),
        choice.latest.map(|count| format!("the latest {count}")),
    ];
    let texts: Vec<String> = texts.into_iter().flatten().collect();
    if texts.is_empty() { "all".to_owned() } else { texts.join(", ") }
}

/// Makes one of wishes that ask for the same: many bundles need one image. It is the greatest of what they call it.
pub(super) fn join(wishes: &mut Vec<Wish>) {
    let mut first: HashMap<(Reference, usize, String, Vec<Platform>), usize> = HashMap::new();
    let all = std::mem::take(wishes);
    for wish in all {
        let key = (wish.name.clone(), wish.source, wish.selector.clone(), wish.platforms.clone());
        match first.entry(key) {
            Entry::Occupied(known) => {
                let known = &mut wishes[*known.get()];
                known.part = known.part.max(wish.part);
                // Which of them came first must not show: the same image may be named by tag and by digest.
                let references = [known.reference.take(), wish.reference].into_iter().flatten();
                known.reference = references.min_by_key(ToString::to_string);
            }
            Entry::Vacant(place) => {
                place.insert(wishes.len());
                wishes.push(wish);
            }
        }
    }
}

/// Returns the numbers of the patterns that block an image, by where it comes from or by what it is called.
pub(super) fn blocked_by(blocked: &[Blocked], wish: &Wish) -> Vec<usize> {
    let names: Vec<&Reference> = wish.reference.iter().chain([&wish.name]).collect();
    Blocked::is_blocked(blocked, &names)
}

/// Takes away what is blocked, and says so; and which patterns block nothing. Returns what blocks something, in words.
pub(super) fn leave_out(opened: &mut Opened, blocked: &[Blocked]) -> Vec<String> {
    let mut left_out: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut idle: BTreeSet<usize> = (0..blocked.len()).collect();
    opened.wishes.retain(|wish| {
        let by = blocked_by(blocked, wish);
        if let Some(first) = by.first() {
            left_out.entry(*first).or_default().push(wish.name.to_string());
        }
        idle.retain(|at| !by.contains(at));
        by.is_empty()
    });
    for at in idle {
        let Blocked { pattern, at } = &blocked[at];
        let pattern = format!("the pattern `{pattern}` blocks nothing that was named");
        let cause = at.as_ref().map_or(pattern.clone(), |at| format!("{at}: {pattern}"));
        opened.warnings.push((cause, Vec::new()));
    }
    let mut blocking = Vec::new();
    for (by, mut items) in left_out {
        items.sort();
        items.dedup();
        let by = blocked[by].place();
        opened.warnings.push((format!("left out because {by} blocks them"), items));
        blocking.push(by);
    }
    blocking
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn wish(name: &str, reference: Option<&str>) -> Wish {
        Wish {
            name: name.parse().unwrap(),
            reference: reference.map(|text| text.parse().unwrap()),
            source: 0,
            selector: String::new(),
            platforms: Vec::new(),
            part: Part::Image,
        }
    }

    #[test]
    fn one_image_that_many_need_is_asked_for_once_and_is_the_greatest_of_what_they_call_it() {
        let asked = wish("r.example/a:v1", Some("r.example/a:v1"));
        let parts = [Part::Image, Part::Catalog, Part::Operator];
        let mut wishes: Vec<Wish> = parts.map(|part| Wish { part, ..asked.clone() }).to_vec();
        wishes.push(Wish { platforms: vec!["linux/arm64".parse().unwrap()], ..asked.clone() });
        join(&mut wishes);
        assert_eq!(wishes.iter().map(|wish| wish.part).collect::<Vec<_>>(), [Part::Catalog, Part::Image]);
    }

    #[test]
    fn what_one_image_was_pulled_by_does_not_depend_on_who_asked_first() {
        let digest = crate::oci::Digest::sha256(b"a");
        let references =
            [Some(format!("r.example/a:v2@{digest}")), None, Some(format!("r.example/a:v1@{digest}"))];
        let wishes = references.each_ref().map(|one| wish("r.example/a", one.as_deref()));
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let mut all: Vec<Wish> = order.iter().map(|at| wishes[*at].clone()).collect();
            join(&mut all);
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].reference.as_ref().map(ToString::to_string), references[2], "{order:?}");
        }
    }

    #[test]
    fn what_is_blocked_is_left_out_by_where_it_comes_from_and_by_its_name() {
        let mut opened = Opened {
            wishes: vec![
                wish("m.example/good:v1", Some("r.example/good:v1")),
                wish("m.example/good:v2", Some("r.example/bad:v2")),
                wish("m.example/bad:v3", Some("r.example/good:v3")),
                wish("m.example/worse:v4", None),
            ],
            ..Opened::default()
        };
        let at = Some(Spot { file: "a.yaml".into(), line: 7 });
        let blocked = |text: &str, at| Blocked { pattern: Regex::new(text).unwrap(), at };
        let other = Some(Spot { file: "b.yaml".into(), line: 2 });
        let blocking = leave_out(
            &mut opened,
            &[
                blocked("bad", at),
                blocked("^m.example/worse", None),
                blocked("nobody", other),
                // Another one was first, and it is right too.
                blocked("m.example/bad", None),
                blocked("^good", None),
            ],
        );
        let names: Vec<String> = opened.wishes.iter().map(|wish| wish.name.to_string()).collect();
        assert_eq!(names, ["m.example/good:v1"]);
        let expected = [
            ("b.yaml:2: the pattern `nobody` blocks nothing that was named", vec![]),
            ("the pattern `^good` blocks nothing that was named", vec![]),
            ("left out because a.yaml:7 blocks them", vec!["m.example/bad:v3", "m.example/good:v2"]),
            ("left out because `^m.example/worse` blocks them", vec!["m.example/worse:v4"]),
        ];
        for ((cause, items), expected) in opened.warnings.iter().zip(expected) {
            assert_eq!((cause.as_str(), items.iter().map(String::as_str).collect()), expected);
        }
        assert_eq!(opened.warnings.len(), 4);
        assert_eq!(blocking, ["a.yaml:7", "`^m.example/worse`"]);
    }
}
