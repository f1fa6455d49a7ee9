//! What a push writes for the way back: where it may go, and what it tells.

use super::shop;
use crate::support::barge::barge;
use crate::support::hostile::Hostile;

#[test]
fn files_for_the_way_back_replace_nothing_else() {
    let bundle = shop().pack(&[]);
    let before = std::fs::read(&bundle.path).unwrap();
    let count = || std::fs::read_dir(bundle.folder.path()).unwrap().count();
    let files = count();
    let to = Hostile::honest();
    let lacking = bundle.folder.path().join("none/paper.json");
    for flag in ["--receipt", "--request"] {
        let refused = bundle.push(to.host(), &[flag, bundle.path()]).code(3);
        refused.stderr_has(bundle.path()).stderr_has(&format!("{flag} FILE names another file"));
        let refused = bundle.push(to.host(), &[flag, lacking.to_str().unwrap()]).code(3);
        refused.stderr_has("none/paper.json can't be written").stderr_has("NOTHING CHANGED");
        bundle.push(to.host(), &[flag, bundle.folder.path().to_str().unwrap()]).code(3);
    }
    assert!(std::fs::read(&bundle.path).unwrap() == before, "the bundle was replaced");
    assert!(to.requests().is_empty(), "{}", to.transcript());

    // A receipt replaces an earlier one, and nothing else is left in its folder.
    for outcome in ["DONE:", "NOTHING CHANGED"] {
        let push = barge(["push", bundle.path(), to.host(), "--receipt", "receipt.json"]);
        push.dir(bundle.folder.path()).run().success().stdout_has(outcome);
    }
    assert_eq!(count(), files + 1);
}
