//! Patches that were changed anywhere: refused or not, they end, and give no more than the recorded size.

use std::sync::Arc;

use barge::delta::layer::Layer;
use barge::delta::patch::Segment;

use super::apart::gzip_patch;
use super::build::{Parts, add, blob, copy, data, frame, noise, pack, raw_layer, run, segment, written};

/// Changes some bytes of `blob`, cuts some out, or puts some in.
fn mutate(blob: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = blob.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..out.len());
        match random.u8(..8) {
            0 => out[at] = random.u8(..),
            1 => out[at] = out[at].wrapping_add(1),
            2 => out[at] = *random.choice(&[0, 1, 127, 128, 255]).unwrap(),
            3 => drop(out.drain(at..(at + random.usize(1..9)).min(out.len()))),
            4 => out.insert(at, random.u8(..)),
            5 => {
                let from = random.usize(..out.len());
                out[at] = out[from];
            }
            _ => out[at] ^= 1 << random.u8(..8),
        }
        if out.is_empty() {
            out.push(0);
        }
    }
    out
}

/// Rebuilds by `rounds` changed forms of `blob`; [`run`] panics where too much comes out. Returns how many gave something.
fn rounds(blob: &[u8], bases: &[Arc<Layer>], rounds: usize, seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..rounds).filter(|_| run(&mutate(blob, &mut random), bases).is_ok()).count()
}

#[test]
fn changed_patches_end_within_their_size() {
    let base = noise(5, 5000);
    let blob = written(&[&base, b"short"], |patch| {
        for at in 0..20 {
            patch.copy(0, at * 200, 100).unwrap();
            patch.add(0, at * 100, &noise(at, 30)).unwrap();
            let prefix = [Segment { base: 0, offset: at * 10, length: 500 }];
            let (from, to) = (at as usize * 10, at as usize * 10 + 500);
            patch.frame(&pack(&noise(at, 60), &base[from..to]), 60, &prefix).unwrap();
            patch.data(60).unwrap();
            patch.copy(1, at % 5, 1).unwrap();
        }
    });
    let bases = [raw_layer(&base), raw_layer(b"short")];
    run(&blob, &bases).unwrap();
    rounds(&blob, &bases, 6000, 1);
}

/// Changes come before packing here, so that they reach the operations.
#[test]
fn changed_operations_end_within_their_size() {
    let base = noise(6, 3000);
    let prefix = [&base[0..400], b"hor"].concat();
    let packed = pack(&base[10..500], &prefix);
    let length = packed.len() as u64;
    let ops = [
        copy(0, 100, 700),
        add(0, -300, 200),
        frame(length, 490, &[segment(0, -700, 400), segment(1, 1, 3)]),
        data(300),
        copy(1, -1, 2),
        data(190),
        copy(0, 40, 1000),
    ]
    .concat();
    let total = 700 + 200 + 490 + 2 + 1000;
    let bases = [raw_layer(&base), raw_layer(b"short")];
    let sizes = [3000, 5];
    let mut random = fastrand::Rng::with_seed(7);
    let good = Parts::new(total, &[ops.clone()], &noise(1, 200), &packed);
    run(&blob(&sizes, &good), &bases).unwrap();
    let mut gave = 0;
    for _ in 0..4000 {
        let parts = Parts::new(total, &[mutate(&ops, &mut random)], &noise(1, 200), &packed);
        gave += usize::from(run(&blob(&sizes, &parts), &bases).is_ok());
    }
    // An offset that was changed is as good as the other; the digest finds those.
    assert!(gave > 0, "changes of offsets give other bytes of the same length");
}

#[test]
fn changed_patches_of_gzip_layers_end_within_their_size() {
    let (blob, bases, target) = gzip_patch(20_000);
    assert!(run(&blob, &bases).unwrap() == target);
    rounds(&blob, &bases, 3000, 2);
}
