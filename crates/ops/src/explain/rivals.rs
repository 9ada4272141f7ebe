//! Against whom a miner lost: who has more weight, and which part of the weight makes the difference.

use super::LISTED_MAX;
use serde::Serialize;
use templar_gauntlet::{NativeRules, PeerWeight, Weights};
use templar_protocol::Uid;

/// A miner with more weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rival {
    /// Its uid.
    pub uid: Uid,
    /// Its weight.
    pub weight: f64,
    /// The part in which it is ahead most: `quality`, `credit`, `work` or `standing`.
    pub decided_by: String,
    /// That part of its.
    pub theirs: f64,
    /// That part of the miner that is explained.
    pub ours: f64,
    /// How many times as much weight that part alone makes; none where the miner has nothing.
    pub times: Option<f64>,
}

/// The parts of a weight by name, each as it enters the product.
pub(super) fn parts(rules: &NativeRules, peer: &PeerWeight) -> [(&'static str, f64); 4] {
    [("quality", peer.shrunk.powf(rules.exponent)), ("credit", peer.credit), ("work", peer.work), ("standing", peer.standing)]
}

/// The product that weights are proportional to.
pub(super) fn value(rules: &NativeRules, peer: &PeerWeight) -> f64 {
    let value: f64 = parts(rules, peer).iter().map(|part| part.1).product();
    if value.is_finite() { value } else { 0.0 }
}

/// Who has more weight than `uid`, the nearest first.
pub(super) fn rivals(rules: &NativeRules, weights: &Weights, uid: Uid) -> Vec<Rival> {
    let Some(own) = weights.of(uid) else { return Vec::new() };
    let mut ahead: Vec<&PeerWeight> = weights.peers.iter().filter(|peer| peer.weight > own.weight).collect();
    ahead.sort_by(|a, b| a.weight.total_cmp(&b.weight).then(a.uid.cmp(&b.uid)));
    ahead.into_iter().take(LISTED_MAX).map(|peer| rival(rules, peer, own)).collect()
}

fn rival(rules: &NativeRules, peer: &PeerWeight, own: &PeerWeight) -> Rival {
    let ratio = |theirs: f64, ours: f64| if ours > 0.0 { theirs / ours } else { f64::INFINITY };
    let pairs = parts(rules, peer).into_iter().zip(parts(rules, own)).map(|((name, theirs), (_, ours))| (name, theirs, ours));
    // The first of equals: quality comes before what multiplies it.
    let first = ("quality", 0.0, 0.0, f64::NEG_INFINITY);
    let (decided_by, theirs, ours, times) = pairs.fold(first, |best, (name, theirs, ours)| {
        let times = ratio(theirs, ours);
        if times > best.3 { (name, theirs, ours, times) } else { best }
    });
    Rival { uid: peer.uid, weight: peer.weight, decided_by: decided_by.to_owned(), theirs, ours, times: times.is_finite().then_some(times) }
}
