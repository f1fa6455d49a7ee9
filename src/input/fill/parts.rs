//! What consists of several images: charts and releases, with the images that they name.

use std::sync::Arc;

use super::Fill;
use crate::chart::{self, Reach};
use crate::graph::Part;
use crate::graph::survey::Wish;
use crate::input::argument::{Argument, Place};
use crate::input::open::{OpenError, Opener, Said};
use crate::input::order::{ChartOrder, ReleaseOrder};
use crate::oci::{Descriptor, Digest, Reference};
use crate::release;
use crate::store::Source;

impl Opener<'_> {
    /// Adds a chart and the images that it is known to need.
    pub(super) fn add_chart(
        &mut self,
        order: &ChartOrder,
        said: &Said,
        fill: &Fill,
    ) -> Result<(), OpenError> {
        let client = self.client;
        let reach = Reach {
            registry: Box::new(|name| Arc::new(client.places(name))),
            ..Reach::new(client, &fill.scratch)
        };
        let mut order = order.clone();
        if order.render && !fill.render_charts {
            // Who runs a chart's templates runs other people's programs: a file alone does not decide that.
            let warning = match &order.at {
                Some(at) => format!("{at} asks for rendering; say --render-charts to run `helm template`"),
                None => "rendering is asked for; say --render-charts to run `helm template`".to_owned(),
            };
            self.opened.warnings.push((warning, Vec::new()));
        }
        order.render = fill.render_charts;
        if order.images.is_none() {
            order.images.clone_from(&fill.chart_images);
        }
        let charted = chart::open(&order, &reach)?;
        let root = charted.source.resolve(&charted.selector)?;
        let source = match &charted.reference {
            Some(reference) => self.registry(&reference.name),
            None => self.made(charted.source, None),
        };
        // What a chart needs is found anew each time: another list is another command.
        let platforms: Vec<String> = said.platforms.iter().map(ToString::to_string).collect();
        let ChartOrder { render, values, image_paths, .. } = &order;
        self.opened.arguments.push(format!(
            "chart {} {} {platforms:?} {render} {values:?} {image_paths:?}",
            charted.name, root.digest
        ));
        self.wish(
            Wish {
                name: charted.name,
                reference: charted.reference,
                source,
                selector: root.digest.to_string(),
                platforms: Vec::new(),
                part: Part::Chart,
            },
            said,
        );
        for image in charted.images {
            let reference = &image.reference;
            self.opened.arguments.push(format!("chart {} needs {reference} {platforms:?}", root.digest));
            self.add_reference(&image.reference, Part::Image, said);
        }
        // Each of them names the chart already.
        let warnings = charted.warnings.into_iter().map(|warning| (warning, Vec::new()));
        self.opened.warnings.extend(warnings);
        Ok(())
    }

    /// Adds a release image and its components.
    pub(super) fn add_release(
        &mut self,
        order: &ReleaseOrder,
        said: &Said,
        fill: &Fill,
    ) -> Result<(), OpenError> {
        let (wish, below, root) = self.one(&order.argument, said)?;
        let own = order.argument.reference.as_ref().unwrap_or(&wish.name);
        let platform = said.platforms.first().or(fill.platforms.first());
        let mut release = release::open(below, &root, own, &order.signatures, platform)?;
        if let Some(name) = given_name(&order.argument) {
            release.rename(name)?;
        }
        let attached = release.source.attached(&root.digest)?;
        let attached: Vec<&Digest> = attached.iter().map(|one| &one.descriptor.digest).collect();
        let made = attached.iter().filter(|digest| release.source.bytes(digest).is_some());
        self.opened.made.extend(made.copied().cloned());
        let attached: Vec<String> = attached.into_iter().map(ToString::to_string).collect();
        self.opened.arguments.push(format!("release {} {} {attached:?}", release.name, root.digest));
        // The release itself is unchanged, and where it was.
        let source = self.made(release.source, Some(wish.source));
        let selector = root.digest.to_string();
        self.wish(Wish { name: release.name, source, selector, part: Part::Release, ..wish }, said);
        for component in release.components {
            let source = self.registry(&component.reference.name);
            let selector = component.reference.selector();
            let (name, reference) = (component.name, Some(component.reference));
            let platforms = said.platforms.clone();
            self.wish(Wish { name, reference, source, selector, platforms, part: Part::Component }, said);
        }
        self.opened.warnings.extend(release.warnings.into_iter().map(|warning| (warning, Vec::new())));
        Ok(())
    }

    /// Finds the one image that an argument names, without asking for it yet.
    pub(super) fn one(
        &mut self,
        argument: &Argument,
        said: &Said,
    ) -> Result<(Wish, Arc<dyn Source>, Descriptor), OpenError> {
        let before = self.opened.wishes.len();
        self.add_as(argument, &Said { at: None, ..said.clone() })?;
        let mut found = self.opened.wishes.split_off(before);
        let (Some(wish), true) = (found.pop(), found.is_empty()) else {
            let place = match &argument.place {
                Place::Registry(name) => name.to_string(),
                Place::Layout(path)
                | Place::LayoutArchive(path)
                | Place::DockerArchive(path)
                | Place::File(path) => path.display().to_string(),
            };
            return Err(OpenError::NotOne { place });
        };
        let source = Arc::clone(&self.opened.sources[wish.source]);
        let root = source.resolve(&wish.selector)?;
        Ok((wish, source, root))
    }

    /// Adds a source that no argument names; `over` is the one whose content it gives unchanged.
    pub(super) fn made(&mut self, source: Arc<dyn Source>, over: Option<usize>) -> usize {
        let at = self.opened.sources.len();
        self.opened.sources.push(source);
        if let Some(place) = over.and_then(|over| self.place(over)) {
            self.opened.places.insert(at, place);
        }
        at
    }

    /// Adds an image that something names by a full reference. With tag and digest the digest is what it is pulled by at
    /// the far side too, and several digests may have one tag.
    pub(super) fn add_reference(&mut self, reference: &Reference, part: Part, said: &Said) {
        let source = self.registry(&reference.name);
        let name = match &reference.digest {
            Some(digest) => Reference::pinned(reference.name.clone(), digest.clone()),
            None => reference.clone(),
        };
        let (selector, platforms) = (reference.selector(), said.platforms.clone());
        self.wish(Wish { name, reference: Some(reference.clone()), source, selector, platforms, part }, said);
    }

    pub(super) fn wish(&mut self, wish: Wish, said: &Said) {
        self.opened.said.note(&wish.name, said.at.as_ref());
        self.opened.wishes.push(wish);
    }
}

/// Returns the name that a release was given by `NAME=`, if it was.
fn given_name(argument: &Argument) -> Option<&Reference> {
    let name = argument.name.as_ref()?;
    let Some(reference) = &argument.reference else { return Some(name) };
    let is_its_own = name.name == reference.name && name.tag == reference.tag;
    // Files name a release after its host, and by its digest where there is no tag: its version is better.
    let is_after_its_host = name.tag.is_none() && name.name.repository == release::RELEASES;
    (!is_its_own && !is_after_its_host).then_some(name)
}
