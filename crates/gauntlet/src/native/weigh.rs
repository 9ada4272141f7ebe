//! From what is kept to weights.

use super::credit;
use super::memory;
use super::quality::{self, Estimate, Pooled, WindowScore};
use super::scorer::{PeerState, Scorer};
use super::work::{self, Work};
use crate::weights::{PeerWeight, Weights};
use templar_protocol::AccountId;

/// A miner with what its weight is made of.
struct Parts<'a> {
    hotkey: &'a AccountId,
    state: &'a PeerState,
    /// Its evaluations that count.
    counted: &'a [WindowScore],
    estimate: Option<Estimate>,
    shrunk: f64,
    credit: f64,
    work: Option<Work>,
}

impl Parts<'_> {
    /// Its weight before all are made to sum to 1.
    fn value(&self, exponent: f64) -> f64 {
        let value = self.shrunk.powf(exponent) * self.credit * self.work.map_or(1.0, |work| work.factor) * self.state.standing;
        if value.is_finite() { value } else { 0.0 }
    }
}

impl Scorer {
    /// The weights that the kept state gives now.
    pub fn weights(&self) -> Weights {
        let rules = self.rules();
        let memory = memory::recall(rules, &self.histories());
        let estimates = quality::estimates(rules, &memory.counted);
        let useful: Vec<usize> =
            (0..estimates.len()).filter(|&i| estimates[i].is_some_and(|estimate| quality::is_useful(rules, &estimate))).collect();
        let pooled = quality::pool(rules, &useful.iter().filter_map(|&i| estimates[i]).collect::<Vec<_>>());
        let mut shrunk = vec![0.0; estimates.len()];
        for (&i, value) in useful.iter().zip(&pooled.shrunk) {
            shrunk[i] = value.max(0.0);
        }
        let crowd = self.crowd(&useful);
        let parts: Vec<Parts> = (self.peers.iter().enumerate())
            .map(|(i, (hotkey, state))| Parts {
                hotkey,
                state,
                counted: memory.counted[i],
                estimate: estimates[i],
                shrunk: shrunk[i],
                credit: credit::mean(&state.credits, &self.counted),
                work: work::work(&state.work, crowd, rules.work_sigmas),
            })
            .collect();
        let values: Vec<f64> = parts.iter().map(|parts| parts.value(rules.exponent)).collect();
        let total: f64 = values.iter().sum();
        let share = |value: f64| if total > 0.0 { value / total } else { 0.0 };
        let mut peers: Vec<PeerWeight> = parts.iter().zip(&values).map(|(parts, value)| explain(parts, share(*value), &pooled)).collect();
        peers.sort_by_key(|peer| peer.uid);
        let earning = peers.iter().filter(|peer| peer.weight > 0.0).count();
        let reason = if earning == 0 {
            format!("none of {} miners has improved the loss beyond noise by work of its own, so there is no weight to set", peers.len())
        } else {
            format!(
                "{earning} of {} miners have improved the loss beyond noise; they differ from each other by {:.1} % beyond noise",
                peers.len(),
                100.0 * pooled.between.sqrt() / pooled.mean
            )
        };
        Weights { peers, reason }
    }

    /// The typical advantage of own data among the miners that help (`useful`, by position); none when there is none.
    fn crowd(&self, useful: &[usize]) -> Option<f64> {
        let states: Vec<&PeerState> = self.peers.values().collect();
        let marks = useful.iter().filter_map(|&i| states[i].work.mean()).map(|(advantage, _)| advantage);
        quality::lower_median(marks.collect())
    }
}

fn explain(parts: &Parts, weight: f64, pooled: &Pooled) -> PeerWeight {
    let Parts { hotkey, state, counted, estimate, shrunk, credit, work } = parts;
    let (uid, evaluations, shrunk, credit) = (state.uid, counted.len(), *shrunk, *credit);
    let mean_score = memory::mean_score(counted);
    let quality = estimate.map_or(0.0, |e| e.quality);
    let error = estimate.map_or(0.0, |e| e.variance.sqrt());
    let level = estimate.map_or(0.0, |e| e.level);
    let factor = work.map_or(1.0, |work| work.factor);
    let mut reason = match estimate {
        None if evaluations == 0 => format!("uid {uid} was not evaluated in the last windows, so it has no weight"),
        None => format!("uid {uid} was evaluated only where nobody improved the loss, so it has no weight"),
        Some(_) if shrunk == 0.0 => format!(
            "uid {uid} has a mean gradient score of {mean_score:.6} over {evaluations} evaluations, {quality:.3} ± {error:.3} of the common \
             level: not above zero beyond noise, so no weight"
        ),
        Some(e) => format!(
            "uid {uid} has a mean gradient score of {mean_score:.6} over {evaluations} evaluations, {quality:.3} ± {error:.3} of the common \
             level; {:.0} % of its distance from the mean {:.3} counts as noise, which leaves {shrunk:.3}; times credit {credit:.3}, work \
             {factor:.3} and standing {:.3} it is the weight {weight:.4}",
            100.0 * e.variance / (e.variance + pooled.between),
            pooled.mean,
            state.standing,
        ),
    };
    if let Some(work) = work.filter(|work| work.factor < 1.0) {
        reason += &format!(
            "; its own data gained more in {:.1} % of the pairs, where contributors reach at least {:.1} %: it trained on a part at most",
            100.0 * work.advantage,
            100.0 * work.required
        );
    }
    PeerWeight {
        uid,
        hotkey: **hotkey,
        weight,
        mean_score,
        standard_error: error * level,
        quality,
        quality_error: error,
        shrunk,
        evaluations,
        credit,
        advantage: work.map(|work| work.advantage),
        advantage_required: work.map(|work| work.required),
        work: factor,
        standing: state.standing,
        reason,
    }
}
