//! Lists of gather and reserve peers (spec validator §1.5): who is put on one, when one is published, and when a published one is
//! installed.

use super::rules::PeerRules;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use templar_protocol::{Uid, Window};

/// A list as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerList {
    /// Whose gradients form the update.
    pub peers: Vec<Uid>,
    /// Who replaces them, in this order.
    pub reserve_peers: Vec<Uid>,
    /// Whether it is a publisher's first.
    pub initial_selection: bool,
    /// The window in which it was made.
    pub sync_window: Window,
    /// The window from which it applies.
    pub first_effective_window: Window,
}

/// What is known of a peer that may be listed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The peer; it is active.
    pub uid: Uid,
    /// Its own present weight.
    pub weight: f32,
    /// Its incentive on the chain.
    pub incentive: f64,
    /// Whether it is in a time-out.
    pub timed_out: bool,
    /// Whether consecutive negatives exclude it.
    pub excluded: bool,
    /// Negative evaluations in a row.
    pub consecutive_negatives: u32,
}

/// Gather and reserve peers.
pub type Selection = (Vec<Uid>, Vec<Uid>);

fn cut(rules: &PeerRules, uids: Vec<Uid>) -> Option<Selection> {
    let reserve = uids.iter().skip(rules.gather).take(rules.reserve).copied().collect();
    (uids.len() >= rules.minimum).then(|| (uids.into_iter().take(rules.gather).collect(), reserve))
}

/// The first list of a publisher: peers by incentive, filled up at random with others. Peers in a time-out are not left out, as in the
/// reference. `draw` gives uniform numbers in [0, 1). None when there are too few.
pub fn select_first(rules: &PeerRules, active: &[Candidate], draw: &mut dyn FnMut() -> f64) -> Option<Selection> {
    let places = rules.gather.saturating_add(rules.reserve);
    let eligible = || active.iter().filter(|candidate| !candidate.excluded);
    let mut ranked: Vec<&Candidate> = eligible().filter(|candidate| candidate.incentive > 0.0).collect();
    ranked.sort_by(|a, b| b.incentive.total_cmp(&a.incentive));
    let mut uids: Vec<Uid> = ranked.iter().take(places).map(|candidate| candidate.uid).collect();
    let mut others: Vec<Uid> = eligible().map(|candidate| candidate.uid).filter(|uid| !uids.contains(uid)).collect();
    while uids.len() < places && !others.is_empty() {
        let position = ((draw() * others.len() as f64) as usize).min(others.len() - 1);
        uids.push(others.swap_remove(position));
    }
    cut(rules, uids)
}

/// Every later list: peers by weight, equal ones in the order given, which is ascending by uid. Excluded peers come in only as far as the
/// minimum needs them, those with the fewest consecutive negatives first. None when there are still too few.
pub fn select_next(rules: &PeerRules, active: &[Candidate]) -> Option<Selection> {
    let present = || active.iter().filter(|candidate| !candidate.timed_out);
    let missing = rules.minimum.saturating_sub(present().filter(|candidate| !candidate.excluded).count());
    let mut excluded: Vec<&Candidate> = present().filter(|candidate| candidate.excluded).collect();
    excluded.sort_by_key(|candidate| candidate.consecutive_negatives);
    let readmitted: BTreeSet<Uid> = excluded.iter().take(missing).map(|candidate| candidate.uid).collect();
    let mut chosen: Vec<&Candidate> = present().filter(|c| !c.excluded || readmitted.contains(&c.uid)).collect();
    chosen.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    cut(rules, chosen.iter().map(|candidate| candidate.uid).collect())
}

/// Which list object is to be fetched from the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// The one with the second largest first window.
    SecondNewest,
    /// The one with the largest.
    Newest,
}

/// The installed list, the one that waits, and when the last was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerLists {
    /// Whose gradients form the update now.
    pub gather: Vec<Uid>,
    /// Who replaces them now.
    pub reserve: Vec<Uid>,
    /// What replaces both from `update_window` on.
    pub pending: Option<Selection>,
    /// First window of the newest list seen.
    pub update_window: Option<Window>,
    /// The window in which this validator last published a list.
    pub published: Option<Window>,
}

impl PeerLists {
    /// Whether this validator publishes a list in `window`, and whether it is its first.
    pub fn publication_due(&self, rules: &PeerRules, window: Window) -> Option<Due> {
        match self.published {
            None => Some(Due::First),
            Some(last) => (window.0.saturating_sub(last.0) >= rules.replacement_windows).then_some(Due::Next),
        }
    }

    /// Notes that a list was published in `window` while the chain was in `current`, and returns the object.
    pub fn publish(&mut self, rules: &PeerRules, window: Window, current: Window, selection: Selection) -> PeerList {
        let initial_selection = self.published.replace(window).is_none();
        let first_effective_window = Window(current.0.saturating_add(rules.margin_windows));
        PeerList { peers: selection.0, reserve_peers: selection.1, initial_selection, sync_window: window, first_effective_window }
    }

    /// Which object [`PeerLists::consume`] would ask for next in `window`.
    pub fn wanted(&self, window: Window) -> Option<Fetch> {
        if self.gather.is_empty() {
            return Some(Fetch::SecondNewest);
        }
        // One window before the newest known list applies, or later, a newer one may be there.
        let near = self.update_window.is_none_or(|update| update < window);
        (self.pending.is_none() && near).then_some(Fetch::Newest)
    }

    /// Installs what is due in `window`. `fetch` returns the leader's object, none when there is none. Of a list that is longer than the
    /// rules make one, the beginning counts, and of a uid that is listed twice the first place.
    pub fn consume(&mut self, rules: &PeerRules, window: Window, mut fetch: impl FnMut(Fetch) -> Option<PeerList>) {
        if self.wanted(window) == Some(Fetch::SecondNewest)
            && let Some(list) = fetch(Fetch::SecondNewest)
        {
            (self.gather, self.reserve) = limited(rules, list);
        }
        let near = self.update_window.is_none_or(|update| update < window);
        if self.pending.is_none()
            && near
            && let Some(list) = fetch(Fetch::Newest)
            && self.update_window.is_none_or(|update| list.first_effective_window > update)
        {
            self.update_window = Some(list.first_effective_window);
            self.pending = Some(limited(rules, list));
        }
        if self.update_window.is_some_and(|update| window >= update)
            && let Some((gather, reserve)) = self.pending.take()
        {
            (self.gather, self.reserve) = (gather, reserve);
        }
    }
}

/// What counts of a list that somebody else has published.
fn limited(rules: &PeerRules, list: PeerList) -> Selection {
    let distinct = |uids: Vec<Uid>, most: usize| {
        let mut seen = BTreeSet::new();
        uids.into_iter().filter(|uid| seen.insert(*uid)).take(most).collect()
    };
    (distinct(list.peers, rules.gather), distinct(list.reserve_peers, rules.reserve))
}

/// Which selection a publication takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// [`select_first`].
    First,
    /// [`select_next`].
    Next,
}
