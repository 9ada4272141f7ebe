//! The kept inputs are run again: none does what ended a worker once, and they still reach what they were kept for.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::PathBuf};
use templar_fuzz::{corpus, targets};

fn replay(name: &str) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(name);
    let inputs = corpus::read(&dir).unwrap();
    assert!(inputs.len() >= 10 && inputs.len() <= corpus::FILES_MAX, "{} inputs are kept of {name}", inputs.len());
    let mut target = targets::named(name).unwrap();
    let mut shapes = BTreeSet::new();
    for input in &inputs {
        assert!(input.len() <= corpus::FILE_BYTES_MAX);
        target.renew();
        let run = target.run(input);
        assert_eq!(
            run,
            {
                target.renew();
                target.run(input)
            },
            "a run says the same each time"
        );
        shapes.extend(run);
    }
    // Each was kept for a shape of its own.
    assert!(shapes.len() >= inputs.len() / 2, "{} inputs of {name} have {} shapes", inputs.len(), shapes.len());
}

#[test]
fn requests() {
    replay("rpc");
}

#[test]
fn extrinsics() {
    replay("extrinsics");
}

#[test]
fn keyfiles() {
    replay("keyfiles");
}

#[test]
fn commitments() {
    replay("commitments");
}

#[test]
fn objects() {
    replay("objects");
}
