//! Opening several bundles that follow each other.

use std::sync::Arc;

use barge::bundle::chain::{Chain, Unfollowed};
use barge::bundle::workshop::Workshop;
use barge::bundle::{Bundle, Union};
use barge::graph::survey::Wish;
use barge::store::Source;

use super::failure::{BAD_INPUT, BASE_MISSING, Failure};
use super::printer::{Printer, quoted};

/// Opens bundles and puts them in order. A damaged one is an error, or only told where there is `tolerant` to tell it:
/// then what is whole in it counts.
pub fn open_chain(files: &[String], tolerant: Option<&Printer>) -> Result<Chain, Failure> {
    let mut bundles = Vec::new();
    for file in files {
        let path = file.strip_prefix("oci-archive:").or_else(|| file.strip_prefix("oci:")).unwrap_or(file);
        let bundle = Bundle::open(path.as_ref())?;
        if let Some(fault) = bundle.fault() {
            let failure = Failure::usage(format!("{file}: {fault}"));
            let Some(printer) = tolerant else {
                return Err(Failure { code: BAD_INPUT, kind: "damaged", ..failure }
                    .next(format!("barge verify {} --request resend.json", quoted(file))));
            };
            printer.warning("the bundle is damaged", &[failure.message]);
        }
        bundles.push(Arc::new(bundle));
    }
    Ok(Chain::of(bundles)?)
}

/// Returns the bundles of a chain seen as one, and its images, or those of them that are meant.
pub fn wishes(
    chain: &Chain,
    only: &[String],
    workshop: Arc<Workshop>,
) -> Result<(Arc<Union>, Vec<Wish>), Failure> {
    let union = Arc::new(Union::of(chain).working_in(workshop));
    let is_meant = |wish: &Wish| only.is_empty() || only.iter().any(|wanted| wish.name.is_meant_by(wanted));
    let all = chain.images.values().map(|member| Wish {
        name: member.name.clone(),
        reference: member.reference.clone(),
        source: 0,
        selector: member.root.to_string(),
        platforms: Vec::new(),
        part: member.part,
    });
    let wishes: Vec<Wish> = all.filter(is_meant).collect();
    for wanted in only {
        if !wishes.iter().any(|wish| wish.name.is_meant_by(wanted)) {
            let failure = Failure::usage(format!("the bundles hold no image {wanted}"));
            let hints = chain.images.keys().take(10).map(|name| format!("they hold {name}")).collect();
            return Err(Failure { code: BAD_INPUT, kind: "no-image", hints, ..failure });
        }
    }
    Ok((union, wishes))
}

/// Returns the sources that a union stands for.
pub fn sources(union: &Arc<Union>) -> Vec<Arc<dyn Source>> {
    vec![union.clone()]
}

/// Says which bundle is missing between those given.
pub fn not_followed(
    unfollowed: &[Unfollowed],
    failure: Failure,
    command: &dyn Fn(&str) -> String,
) -> Failure {
    let Some(first) = unfollowed.first() else { return failure };
    let name = first.base.name.as_deref().unwrap_or("a bundle without a name");
    let mut failure = Failure { code: BASE_MISSING, ..failure };
    for one in unfollowed {
        let base = one.base.name.as_deref().unwrap_or("a bundle without a name");
        failure.causes.push(format!("{} follows {base} ({}), not given", one.bundle, one.base.id.short()));
    }
    failure.hint(format!("have {name}? name it too")).next(command(&quoted(name)))
}

/// Notes what a failed image of a bundle means to whoever takes it for whole.
pub fn note_failed(chain: &Chain, printer: &Printer) {
    let failed: Vec<String> = chain.failed.iter().cloned().collect();
    if !failed.is_empty() {
        printer.warning("not in the bundles, because it could not be had when they were packed", &failed);
    }
    let ambiguous: Vec<String> = chain
        .ambiguous
        .iter()
        .map(|(name, earlier, later)| format!("{name}: that of {later} is taken, not that of {earlier}"))
        .collect();
    if !ambiguous.is_empty() {
        printer.warning(
            "means different images in bundles that do not follow each other; the last named counts",
            &ambiguous,
        );
    }
}
