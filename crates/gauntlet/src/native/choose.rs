//! Who is evaluated: an unpredictable choice in which everybody has a turn.
//!
//! With M candidates and k places, half of the places go to whoever has waited longest, so nobody waits more than ⌈2M/k⌉ windows in which it
//! took part. Up to a quarter go to miners whose objects disagree with everybody else's, and the rest are drawn evenly, so that also who has
//! just been evaluated is evaluated again with a chance of at least k/4M: there is no window in which a miner knows that nobody looks.
//! All order comes from a seed that did not exist when the objects were committed.

use super::rules::NativeRules;
use serde::{Deserialize, Serialize};
use templar_protocol::{AccountId, Digest, Uid, Window};

/// Why a miner is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// There are places for all.
    Everybody,
    /// It has waited longest.
    Waited,
    /// Its object disagrees with the others'.
    Suspect,
    /// It was drawn.
    Drawn,
}

/// A miner that is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Its uid.
    pub uid: Uid,
    /// Why.
    pub turn: Turn,
}

/// A miner that may be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub uid: Uid,
    pub hotkey: AccountId,
    pub last_evaluated: Option<Window>,
    pub suspect: bool,
}

/// A number that nobody knew before the seed, for a hotkey and a purpose.
fn lot(seed: &Digest, purpose: &[u8], hotkey: &AccountId) -> Digest {
    Digest::of(&[seed.0.as_slice(), purpose, hotkey.0.as_slice()].concat())
}

/// Chooses among `candidates`, whatever their order, and gives the order of evaluation.
pub(crate) fn choose(rules: &NativeRules, seed: &Digest, candidates: &[Candidate]) -> Vec<Chosen> {
    let places = rules.uids_per_window.max(1);
    let share = |share: f64| (share.clamp(0.0, 1.0) * places as f64).floor() as usize;
    let mut left: Vec<Candidate> = candidates.to_vec();
    left.sort_by_key(|candidate| lot(seed, b"draw", &candidate.hotkey));
    let mut chosen: Vec<(AccountId, Chosen)> = Vec::new();
    let mut take = |left: &mut Vec<Candidate>, most: usize, turn: Turn, fits: &dyn Fn(&Candidate) -> bool| {
        let mut taken = 0;
        left.retain(|candidate| {
            let take = taken < most && fits(candidate);
            taken += usize::from(take);
            if take {
                chosen.push((candidate.hotkey, Chosen { uid: candidate.uid, turn }));
            }
            !take
        });
        taken
    };
    if left.len() <= places {
        take(&mut left, places, Turn::Everybody, &|_| true);
    } else {
        // A stable sort: equal waits stay in the order of their lots. None, never evaluated, comes first.
        left.sort_by_key(|candidate| candidate.last_evaluated);
        let waited = take(&mut left, share(rules.longest_wait_share), Turn::Waited, &|_| true);
        left.sort_by_key(|candidate| lot(seed, b"draw", &candidate.hotkey));
        let suspects = take(&mut left, share(rules.suspect_share), Turn::Suspect, &|candidate| candidate.suspect);
        take(&mut left, places - waited - suspects, Turn::Drawn, &|_| true);
    }
    chosen.sort_by_key(|(hotkey, _)| lot(seed, b"order", hotkey));
    chosen.into_iter().map(|(_, chosen)| chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn candidates(count: u16) -> Vec<Candidate> {
        let candidate = |uid: u16| {
            let hotkey = AccountId(Digest::of(&uid.to_le_bytes()).0);
            Candidate { uid: Uid(uid), hotkey, last_evaluated: None, suspect: false }
        };
        (0..count).map(candidate).collect()
    }

    /// The windows in which each candidate was chosen.
    fn rotate(count: u16, windows: u64) -> Vec<Vec<u64>> {
        let (rules, mut all) = (NativeRules::default(), candidates(count));
        let mut turns = vec![vec![]; usize::from(count)];
        for window in 0..windows {
            for chosen in choose(&rules, &Digest::of(&window.to_le_bytes()), &all) {
                all[usize::from(chosen.uid.0)].last_evaluated = Some(Window(window));
                turns[usize::from(chosen.uid.0)].push(window);
            }
        }
        turns
    }

    #[test]
    fn nobody_waits_longer_than_stated() {
        for count in [21, 64, 250] {
            let longest = u64::from(2 * count).div_ceil(20);
            for (uid, turns) in rotate(count, 4 * longest).iter().enumerate() {
                let gaps = turns.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX);
                assert!(turns[0] <= longest && gaps <= longest, "uid {uid} of {count}: first {}, then after {gaps}", turns[0]);
            }
        }
    }

    #[test]
    fn who_was_just_evaluated_may_be_evaluated_again() {
        let turns = rotate(256, 600);
        let evaluations: usize = turns.iter().map(Vec::len).sum();
        let again: usize = turns.iter().map(|turns| turns.windows(2).filter(|pair| pair[1] == pair[0] + 1).count()).sum();
        let rate = again as f64 / evaluations as f64;
        assert!(rate > 0.25 * 20.0 / 256.0, "{rate}");
    }

    #[test]
    fn suspects_are_looked_at_first_and_do_not_take_all_places() {
        let mut all = candidates(100);
        all.iter_mut().take(50).for_each(|candidate| candidate.suspect = true);
        all.iter_mut().for_each(|candidate| candidate.last_evaluated = Some(Window(1)));
        let chosen = choose(&NativeRules::default(), &Digest::of(b"seed"), &all);
        assert_eq!(chosen.len(), 20);
        assert_eq!(chosen.iter().filter(|chosen| chosen.turn == Turn::Suspect).count(), 5);
        assert_eq!(chosen.iter().filter(|chosen| chosen.turn == Turn::Waited).count(), 10);
    }

    proptest! {
        #[test]
        fn the_choice_does_not_depend_on_the_order_of_candidates(count in 0u16..60, seed in any::<u64>(), turn in 0usize..60) {
            let (rules, seed, mut all) = (NativeRules::default(), Digest::of(&seed.to_le_bytes()), candidates(count));
            for candidate in &mut all {
                candidate.last_evaluated = (candidate.uid.0 % 3 > 0).then_some(Window(u64::from(candidate.uid.0 % 5)));
            }
            let chosen = choose(&rules, &seed, &all);
            prop_assert_eq!(chosen.len(), usize::from(count).min(20));
            prop_assert_eq!(chosen.iter().map(|chosen| chosen.uid).collect::<BTreeSet<_>>().len(), chosen.len());
            all.rotate_left(turn.min(usize::from(count)));
            all.reverse();
            prop_assert_eq!(choose(&rules, &seed, &all), chosen);
        }
    }
}
