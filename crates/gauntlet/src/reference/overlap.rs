//! Copies by their indices (spec validator §2.8): which pairs of gathered objects send mostly the same positions, and who of
//! a pair is blamed.
//!
//! Two properties of the reference are weaknesses and kept for equality (§10.3 20 and 22): upload times are those of the window before,
//! and an offender's level is that of its last pair. Native rules do neither.

use super::rules::OverlapRules;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use templar_protocol::Uid;

/// Positions in a chunk: twelve bits.
const POSITIONS: usize = 4096;

/// Indices of one parameter of one peer: as many per chunk, chunk by chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indices {
    /// Indices of each chunk; at least 1.
    pub per_chunk: usize,
    /// All indices, each below 4096; a multiple of `per_chunk`.
    pub values: Vec<u16>,
}

/// A gathered peer, as the check needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The peer.
    pub uid: Uid,
    /// When its object *of the window before* was uploaded, in seconds; 0 when that is unknown.
    pub uploaded: f64,
    /// Its indices by parameter, all peers in the same order of parameters. A parameter that a peer lacks is none.
    pub params: Vec<Option<Indices>>,
}

/// How much two peers overlap at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Flagged.
    High,
    /// Reset.
    Max,
    /// Reset and timed out.
    Mega,
}

/// A pair over the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The earlier in the order of the gather.
    pub first: Uid,
    /// The later.
    pub second: Uid,
    /// The share of common indices, in [0, 1].
    pub overlap: f64,
}

/// What the check has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlaps {
    /// Pairs compared.
    pub pairs: usize,
    /// Pairs over the threshold, in order.
    pub over: Vec<Pair>,
    /// Weighted mean overlap of all pairs; 0 without one.
    pub mean: f64,
    /// Least overlap; 0 when all pairs overlap wholly, as in the reference.
    pub min: f64,
    /// Largest overlap.
    pub max: f64,
    /// Offenders with their level and the overlap of their last pair.
    pub offenders: BTreeMap<Uid, (Level, f64)>,
}

impl Overlaps {
    /// Share of pairs over the threshold.
    pub fn ratio(&self) -> f64 {
        if self.pairs == 0 { 0.0 } else { self.over.len() as f64 / self.pairs as f64 }
    }
}

/// The level of an overlap over the threshold.
pub fn level(rules: &OverlapRules, overlap: f64) -> Level {
    match overlap {
        o if o >= rules.mega => Level::Mega,
        o if o >= rules.max => Level::Max,
        _ => Level::High,
    }
}

/// Compares all pairs of gathered peers, given in the order of the gather: gather peers ascending by uid, then reserve peers likewise.
///
/// A pair is compared in the parameters that both have in the same shape; where the reference fails for a partial object, such a pair
/// merely has less to compare.
pub fn check(rules: &OverlapRules, peers: &[Subject]) -> Overlaps {
    let mut found = Overlaps { min: 1.0, ..Overlaps::default() };
    let (mut weighted, mut weights) = (0.0, 0.0);
    for (i, first) in peers.iter().enumerate() {
        for second in &peers[i + 1..] {
            let (sum, weight) = pair_overlap(first, second);
            let overlap = if weight > 0.0 { sum / weight } else { 0.0 };
            (weighted, weights) = (weighted + sum, weights + weight);
            found.pairs += 1;
            (found.min, found.max) = (found.min.min(overlap), found.max.max(overlap));
            if overlap >= rules.high {
                found.over.push(Pair { first: first.uid, second: second.uid, overlap });
                let offender = if first.uploaded >= second.uploaded { first.uid } else { second.uid };
                found.offenders.insert(offender, (level(rules, overlap), overlap));
            }
        }
    }
    if found.min >= 1.0 {
        found.min = 0.0;
    }
    found.mean = if weights > 0.0 { weighted / weights } else { 0.0 };
    found
}

/// Overlap of two peers summed over parameters, each times its number of indices, and the sum of those numbers.
fn pair_overlap(first: &Subject, second: &Subject) -> (f64, f64) {
    let (mut sum, mut weights) = (0.0, 0.0);
    for pair in first.params.iter().zip(&second.params) {
        let (Some(a), Some(b)) = pair else { continue };
        if a.per_chunk == 0 || a.per_chunk != b.per_chunk || a.values.len() != b.values.len() || a.values.is_empty() {
            continue;
        }
        let weight = a.values.len() as f64;
        // The share of a parameter is float32 in the reference, which decides at the thresholds themselves.
        sum += weight * f64::from((common(a, b) as f64 / weight) as f32);
        weights += weight;
    }
    (sum, weights)
}

/// How many indices of `a`, repeats counted, occur in the same chunk of `b`.
fn common(a: &Indices, b: &Indices) -> usize {
    let mut present = [false; POSITIONS];
    let chunks = a.values.chunks(a.per_chunk).zip(b.values.chunks(b.per_chunk));
    let slot = |index: &u16| usize::from(*index) % POSITIONS;
    chunks
        .map(|(ours, theirs)| {
            theirs.iter().for_each(|index| present[slot(index)] = true);
            let common = ours.iter().filter(|index| present[slot(index)]).count();
            theirs.iter().for_each(|index| present[slot(index)] = false);
            common
        })
        .sum()
}
