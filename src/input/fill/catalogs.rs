//! Operator catalogs, with the images that their bundles need.

use std::sync::Arc;

use super::{Fill, blocked_by};
use crate::catalog::{self, Form, rebuild};
use crate::graph::survey::Wish;
use crate::graph::{Change, Part};
use crate::input::argument::InputError;
use crate::input::open::{OpenError, Opener, Said};
use crate::input::order::CatalogOrder;
use crate::oci::reference::shown;
use crate::oci::{Descriptor, Platform, Reference};
use crate::store::Source;

/// What is said of a catalog that lists more than travels.
const LISTS_MORE: &str = "lists operators that are not carried; the console at the far side will show them too \
                          (`rebuildCatalog: true` makes a catalog of what is)";
/// What is said of a database that lists more than travels.
const DATABASE_LISTS_MORE: &str = "an SQLite catalog travels as it is, so that every version of OpenShift can serve it: the \
                                   console will list operators that are not carried";

impl Opener<'_> {
    /// Adds a catalog and the images of those of its bundles that are wanted.
    pub(super) fn add_catalog(
        &mut self,
        order: &CatalogOrder,
        said: &Said,
        fill: &Fill,
    ) -> Result<(), OpenError> {
        let (wish, below, root) = self.one(&order.argument, said)?;
        let platforms = if said.platforms.is_empty() { &fill.platforms } else { &said.platforms };
        let catalogs = catalog::read_all(&*below, &root, platforms)?;
        let at = |source| OpenError::Filter { catalog: order.argument.to_string(), source };
        let mut selection = catalog::select_all(&catalogs, &order.filter).map_err(at)?;
        self.opened
            .arguments
            .push(format!("catalog {} {} {:?} {}", wish.name, root.digest, order.filter, order.rebuild));
        let name = wish.name.clone();
        for text in selection.images() {
            let unusable = |source| OpenError::Input(InputError::Reference(shown(&text), source));
            let reference: Reference = text.parse().map_err(unusable)?;
            self.add_reference(&reference, Part::Operator, said);
        }
        // What is left out is neither rebuilt nor warned of.
        let is_blocked = !blocked_by(&self.blocked, &wish).is_empty();
        let is_database = catalogs.iter().all(|one| one.catalog.form == Form::Database);
        if (!order.rebuild || is_database) && !is_blocked {
            let kept = catalog::kept_defaults(&catalogs, &order.filter);
            selection.warnings.extend(kept);
        }
        if order.rebuild && !is_database && !is_blocked {
            self.add_rebuilt(order, wish, (below, &root), platforms, &selection.warnings, said)?;
        } else {
            let selector = root.digest.to_string();
            self.wish(Wish { selector, part: Part::Catalog, ..wish }, said);
            if !is_blocked && !catalogs.iter().all(|one| selection.has_all_of(&one.catalog)) {
                let cause = if is_database { DATABASE_LISTS_MORE } else { LISTS_MORE };
                self.warn(cause, name.to_string());
            }
        }
        for warning in selection.warnings {
            self.warn(&format!("of the catalog {name}"), warning);
        }
        Ok(())
    }

    /// Adds the catalog image that lists nothing but what was chosen; `known` are warnings that are given anyway.
    fn add_rebuilt(
        &mut self,
        order: &CatalogOrder,
        wish: Wish,
        (below, root): (Arc<dyn Source>, &Descriptor),
        platforms: &[Platform],
        known: &[String],
        said: &Said,
    ) -> Result<(), OpenError> {
        let rebuilt = rebuild::rebuild(below, root, &order.filter, platforms)?;
        self.opened.arguments.push(format!("rebuilt {}", rebuilt.root.digest));
        let selector = rebuilt.root.digest.to_string();
        let (name, has_changed) = (wish.name.clone(), !rebuilt.changed.is_empty());
        let source = if has_changed { self.made(rebuilt.source, None) } else { wish.source };
        // What was pulled was another image.
        self.wish(Wish { source, selector, part: Part::Catalog, ..wish }, said);
        let changes = rebuilt.changed.into_iter();
        self.opened.changed.extend(changes.map(|(old, new)| Change { image: name.clone(), new, old }));
        let new = rebuilt.warnings.into_iter().filter(|warning| !known.contains(warning));
        self.opened.warnings.extend(new.map(|warning| (warning, Vec::new())));
        Ok(())
    }

    /// Says something of an item, together with all of which the same is said.
    fn warn(&mut self, cause: &str, item: String) {
        match self.opened.warnings.iter_mut().find(|(known, _)| known == cause) {
            Some((_, items)) => items.push(item),
            None => self.opened.warnings.push((cause.to_owned(), vec![item])),
        }
    }
}
