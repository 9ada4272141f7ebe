//! The leader dies for good: the next validator decides in its own slot, from the very next window on, and everybody follows.

use crate::lab::{Lab, Time, block_on, expect_participants};
use templar_node::journal::Entry;
use templar_protocol::{Uid, Window};

const SURVIVORS: [&str; 4] = ["miner-0", "miner-1", "miner-2", "validator-1"];

/// The slot in which `validator` published the manifest of `window`, and whom it accepted.
fn published(lab: &Lab, validator: &str, window: Window) -> Option<(u32, Vec<Uid>)> {
    lab.journal(validator).into_iter().find_map(|line| match line.entry {
        Entry::Published { window: of, slot, accepted, .. } if of == window => Some((slot, accepted)),
        _ => None,
    })
}

#[test]
fn the_second_validator_succeeds_a_dead_leader() {
    let lab = Lab::new();
    let mut net = lab.begin(&["--validators", "2", "--no-restart"]);
    net.pid("miner-2");
    let window = block_on(async {
        let time = Time::join(&lab, "observer").await;
        expect_participants(&lab, SURVIVORS.len() + 2);
        let window = Window(time.window().0 + 2);
        time.sleep_until(&net, time.start_ms(window) + 4000).await;
        net.kill("validator-0");
        expect_participants(&lab, SURVIVORS.len());
        window
    });
    let after = window.0 + 1;
    net.wait("two windows without the leader", |_| SURVIVORS.iter().all(|node| lab.windows(node).contains_key(&after)).then_some(()));
    assert_eq!(net.interrupt().status.code(), Some(130));

    let miners = vec![Uid(2), Uid(3), Uid(4)];
    assert_eq!(published(&lab, "validator-0", Window(window.0 - 1)), Some((0, miners.clone())), "the leader led while it lived");
    for window in [window, window.next()] {
        assert_eq!(published(&lab, "validator-1", window), Some((1, miners.clone())), "window {window}");
        for node in SURVIVORS {
            let entry = &lab.windows(node)[&window.0];
            assert!(entry.stepped && entry.gathered == miners, "{node}: {entry:?}");
        }
    }

    // The leader comes back, behind the others by then, and leads again.
    lab.localnet(&["--windows", "3"]).wait_for_end().report();
    let newest = *lab.windows("validator-0").keys().next_back().unwrap();
    assert!(newest > after + 1, "{newest}");
    assert_eq!(published(&lab, "validator-0", Window(newest)), Some((0, miners)));
    lab.assert_agreement(&[&SURVIVORS[..], &["validator-0"]].concat());
}
