//! Who is evaluated (spec validator §2.1): a bin of peers of like rating, then a draw weighted by how long each has waited.

use super::rules::EvaluationRules;
use crate::Rating;
use templar_protocol::Uid;

/// Splits the pool, given in its order with each peer's rating, into bins. A pool of fewer than `bins · uids_per_window` peers is one
/// bin. Otherwise peers are sorted by ordinal, best first, equal ones in pool order; who has no rating counts as 0.
pub fn bins(rules: &EvaluationRules, pool: &[(Uid, Option<Rating>)]) -> Vec<Vec<Uid>> {
    if pool.len() < rules.bins.saturating_mul(rules.uids_per_window) {
        return vec![pool.iter().map(|peer| peer.0).collect()];
    }
    let mut ranked: Vec<(Uid, f64)> = pool.iter().map(|(uid, rating)| (*uid, rating.map_or(0.0, |r| r.ordinal()))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (size, larger) = (ranked.len() / rules.bins, ranked.len() % rules.bins);
    let mut rest = ranked.as_slice();
    (0..rules.bins)
        .map(|bin| {
            let (head, tail) = rest.split_at(size + usize::from(bin < larger));
            rest = tail;
            head.iter().map(|peer| peer.0).collect()
        })
        .collect()
}

/// Index of the bin for a uniform `draw` in [0, 1); 0 when the drawn bin does not exist.
pub fn bin_index(rules: &EvaluationRules, draw: f64, existing: usize) -> usize {
    let index = (draw * rules.bins as f64) as usize;
    if index < existing { index } else { 0 }
}

/// Draws up to `count` of `candidates` without replacement, each with a probability proportional to its weight. `draw` gives a uniform
/// number in [0, 1) for each: the fraction of the remaining total at which the walk through the remaining candidates stops.
/// Weights that are not finite and positive count as 0; a total of 0 ends the draw.
pub fn weighted_sample(candidates: &[(Uid, f64)], count: usize, draw: &mut dyn FnMut() -> f64) -> Vec<Uid> {
    let usable = |weight: f64| if weight.is_finite() && weight > 0.0 { weight } else { 0.0 };
    let mut left: Vec<(Uid, f64)> = candidates.iter().map(|(uid, weight)| (*uid, usable(*weight))).collect();
    let mut drawn = Vec::with_capacity(count.min(left.len()));
    while drawn.len() < count {
        let total: f64 = left.iter().map(|candidate| candidate.1).sum();
        if left.is_empty() || total <= 0.0 {
            break;
        }
        let stop = draw() * total;
        let mut walked = 0.0;
        let position = left.iter().position(|candidate| {
            walked += candidate.1;
            walked >= stop
        });
        // Rounding may leave the sum a little short of the stop: then it is the last.
        drawn.push(left.remove(position.unwrap_or(left.len() - 1)).0);
    }
    drawn
}
