//! From final scores to weights (spec validator §4.2, §4.3): two tiers by rank, a share that burns, and what is submitted.
//!
//! Only the ranking matters: a score a thousand times the next one earns no more than one that is barely ahead. All arithmetic is float32.

use super::rules::{PeerRules, WeightRules};
use crate::to_u16;
use serde::Serialize;
use std::collections::BTreeMap;
use templar_protocol::{Uid, Window};

/// Where a weight comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Among the first `peers.gather` of the ranking.
    One,
    /// Among the next `peers.reserve`.
    Two,
    /// Behind those.
    Behind,
    /// Not above 0.
    NotPositive,
    /// The uid that burns; whatever it earned is overwritten.
    Burn,
}

/// The weight of one uid and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerWeight {
    /// The uid.
    pub uid: Uid,
    /// Share of the whole, in [0, 1].
    pub weight: f32,
    /// The final score that was ranked; 0 for a burn uid without one.
    pub final_score: f32,
    /// Place in the ranking of scores above 0, from 1 on.
    pub place: Option<usize>,
    /// Its tier.
    pub tier: Tier,
    /// The sentence that explains it.
    pub sentence: String,
}

/// The weights of all evaluated uids and of the one that burns, by uid.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Weights {
    /// One entry for each; the weights sum to 1 up to float32 rounding.
    pub peers: Vec<PeerWeight>,
}

impl Weights {
    /// The weight of `uid`; 0 when it has none.
    pub fn of(&self, uid: Uid) -> f32 {
        self.peers.iter().find(|peer| peer.uid == uid).map_or(0.0, |peer| peer.weight)
    }

    /// What is submitted: evaluated uids with a weight above 0, and the burn uid when anything burns, as the chain's integers.
    pub fn submission(&self, rules: &WeightRules, evaluated: impl Fn(Uid) -> bool) -> Vec<(Uid, u16)> {
        let burns = rules.burn_rate > 0.0;
        let sent = self.peers.iter().filter(|p| p.weight > 0.0 && (evaluated(p.uid) || burns && p.uid.0 == rules.burn_uid));
        to_u16(&sent.map(|peer| (peer.uid, f64::from(peer.weight))).collect::<Vec<_>>())
    }
}

/// Whether weights are submitted in this window.
pub fn is_due(rules: &WeightRules, window: Window) -> bool {
    window.0.is_multiple_of(rules.every_windows.max(1))
}

/// Turns the final scores of evaluated uids into weights. Equal scores rank by uid, ascending. A score that is not above 0 earns nothing.
pub fn weigh(rules: &WeightRules, peers: &PeerRules, finals: &BTreeMap<Uid, f32>) -> Weights {
    let mut ranked: Vec<(Uid, f32)> = finals.iter().map(|(uid, score)| (*uid, *score)).filter(|entry| entry.1 > 0.0).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let one = ranked.len().min(peers.gather);
    let two = (ranked.len() - one).min(peers.reserve);
    let burn = rules.burn_rate.clamp(0.0, 1.0);
    let mut shares = tiers(rules, burn, one, two);
    shares.resize(ranked.len(), 0.0);
    let burn_uid = Uid(rules.burn_uid);
    let weights = normalised(burn, burn_uid, ranked.iter().zip(shares).map(|((uid, _), share)| (*uid, share)));
    let mut uids: Vec<Uid> = finals.keys().copied().chain([burn_uid]).collect();
    uids.sort_unstable();
    uids.dedup();
    let explained = uids.into_iter().map(|uid| {
        let place = ranked.iter().position(|entry| entry.0 == uid).map(|place| place + 1);
        let tier = match place {
            _ if uid == burn_uid => Tier::Burn,
            None => Tier::NotPositive,
            Some(place) if place <= one => Tier::One,
            Some(place) if place <= one + two => Tier::Two,
            Some(_) => Tier::Behind,
        };
        let (weight, final_score) = (weights.get(usize::from(uid.0)).copied().unwrap_or(0.0), finals.get(&uid).copied().unwrap_or(0.0));
        let sentence = explain(uid, weight, final_score, tier, place.unwrap_or(0), (one, two));
        PeerWeight { uid, weight, final_score, place, tier, sentence }
    });
    Weights { peers: explained.collect() }
}

/// Weights by uid: what is not burned is scaled to 1 − `burn`. Without any, everything burns.
fn normalised(burn: f64, burn_uid: Uid, shares: impl Iterator<Item = (Uid, f32)>) -> Vec<f32> {
    let mut weights = vec![0.0f32; LANES * ACCUMULATORS];
    let mut earned = false;
    for (uid, share) in shares.chain([(burn_uid, burn as f32)]) {
        let slot = usize::from(uid.0);
        if slot >= weights.len() {
            weights.resize((slot + 1).next_multiple_of(LANES * ACCUMULATORS), 0.0);
        }
        weights[slot] = share;
        earned |= uid != burn_uid && share > 0.0;
    }
    let rest = f64::from(sum(&weights)) - burn;
    // Asked beside the sum, whose rounding could pretend that somebody earned something.
    let burned = if earned && rest > 0.0 {
        let factor = ((1.0 - burn) / rest) as f32;
        weights.iter_mut().for_each(|weight| *weight *= factor);
        burn as f32
    } else {
        1.0
    };
    weights[usize::from(burn_uid.0)] = burned;
    weights
}

/// Lanes of the vectors that the reference's tensor library sums with, and how many of those it fills in turn.
const LANES: usize = 8;
const ACCUMULATORS: usize = 4;

/// A float32 sum in the order of that library, so that weights are equal in their last bit: an integer of the chain may hang on it.
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [[0.0f32; LANES]; ACCUMULATORS];
    let (blocks, rest) = values.as_chunks::<LANES>();
    let whole = blocks.len() - blocks.len() % ACCUMULATORS;
    for (i, block) in blocks.iter().enumerate() {
        let accumulator = if i < whole { i % ACCUMULATORS } else { 0 };
        lanes[accumulator].iter_mut().zip(block).for_each(|(lane, value)| *lane += value);
    }
    let lane = |l: usize| lanes.iter().skip(1).fold(lanes[0][l], |sum, accumulator| sum + accumulator[l]);
    (0..LANES).map(lane).fold(sum_in_fours(rest), |sum, lane| sum + lane)
}

fn sum_in_fours(values: &[f32]) -> f32 {
    let mut parts = [0.0f32; ACCUMULATORS];
    let (blocks, rest) = values.as_chunks::<ACCUMULATORS>();
    blocks.iter().for_each(|block| parts.iter_mut().zip(block).for_each(|(part, value)| *part += value));
    rest.iter().for_each(|value| parts[0] += value);
    parts[1..].iter().fold(parts[0], |sum, part| sum + part)
}

/// Shares of both tiers before normalisation, best first.
fn tiers(rules: &WeightRules, burn: f64, one: usize, two: usize) -> Vec<f32> {
    let spread = |profile: Vec<f32>, share: f64| {
        let sum = sum(&profile);
        profile.into_iter().map(move |value| value / sum * share as f32)
    };
    let mut gather: Vec<f32> = spread(linear(rules.gather_top_ratio as f32, one), (1.0 - burn) * rules.gather_share).collect();
    let decay = (0..two).map(|i| rules.reserve_decay_ratio.powi(i as i32) as f32).collect();
    let mut reserve: Vec<f32> = spread(decay, (1.0 - burn) * (1.0 - rules.gather_share)).collect();
    let least = gather.iter().copied().fold(f32::INFINITY, f32::min);
    let most = reserve.iter().copied().fold(0.0, f32::max);
    if most > least && most > 0.0 {
        // The largest of tier two becomes that ratio of the smallest of tier one, as if one profile led on into the other.
        let factor = (f64::from(least) / f64::from(most) * rules.reserve_decay_ratio) as f32;
        reserve.iter_mut().for_each(|value| *value *= factor);
    }
    gather.append(&mut reserve);
    gather
}

/// `n` values from `top` down to 1 in equal steps, each reckoned from the nearer end.
fn linear(top: f32, n: usize) -> Vec<f32> {
    let step = if n > 1 { (1.0 - top) / (n - 1) as f32 } else { 0.0 };
    (0..n).map(|i| if n < 2 || i < n / 2 { top + step * i as f32 } else { 1.0 - step * (n - 1 - i) as f32 }).collect()
}

fn explain(uid: Uid, weight: f32, score: f32, tier: Tier, place: usize, (one, two): (usize, usize)) -> String {
    match tier {
        Tier::Burn if place > 0 => format!("uid {uid} burns {weight:.4}; its final score of {score:.6} earns it nothing"),
        Tier::Burn => format!("uid {uid} burns {weight:.4}"),
        Tier::NotPositive => format!("uid {uid} has the final score {score:.6}, which is not above 0: no weight"),
        Tier::One => format!("uid {uid} ranks {place} with the final score {score:.6}, in tier one of {one}: weight {weight:.6}"),
        Tier::Two => {
            format!("uid {uid} ranks {place} with the final score {score:.6}, {} in tier two of {two}: weight {weight:.6}", place - one)
        }
        Tier::Behind => format!("uid {uid} ranks {place} with the final score {score:.6}; only the first {} earn a weight", one + two),
    }
}
