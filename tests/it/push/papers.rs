//! What a push writes for the way back: where it may go, and what it tells.

use barge::inventory::Inventory;
use barge::oci::Digest;

use super::shop;
use crate::support::barge::barge;
use crate::support::hostile::{Config, Hostile, SparsePolicy};

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

#[test]
fn a_receipt_tells_what_was_rewritten() {
    let shop = shop();
    let bundle = shop.pack(&["--platform", "linux/amd64"]);
    let to = Hostile::start(Config { sparse: SparsePolicy::RefuseLikeV2, ..Config::default() });
    let path = bundle.folder.path().join("receipt.json");
    // The second run finds the new index there.
    for outcome in ["DONE:", "NOTHING CHANGED"] {
        let more = ["--sparse", "rewrite", "--receipt", path.to_str().unwrap()];
        bundle.push(to.host(), &more).success().stdout_has(outcome);
        let receipt = Inventory::read(&path).unwrap();
        let new = Digest::sha256(&to.manifest("team/app", "v1").unwrap());
        let roots: Vec<_> = receipt.outcomes.iter().map(|row| (&row.root, row.new_root.as_ref())).collect();
        assert_eq!(roots, [(&shop.app.digest, Some(&new)), (&shop.tool.digest, None)]);
        let held = receipt.content.holdings.find(&new).expect("the new index is listed");
        assert!(held.repositories().eq(["team/app"]));
        assert!(receipt.content.holdings.find(&shop.amd64.digest).is_some());
        // The old index is not there as a manifest, nor is its signature.
        for gone in [&shop.app, &shop.arm64, &shop.signatures[0].1] {
            assert!(receipt.content.holdings.find(&gone.digest).is_none(), "{}", gone.digest);
        }
    }
}
