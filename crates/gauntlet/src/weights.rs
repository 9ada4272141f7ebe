//! Weights with their reasons, and weights as the integers of the chain.

use serde::{Deserialize, Serialize};
use templar_protocol::{AccountId, Uid};

/// The weight of one miner and where it comes from: weight ∝ qualityᵖ · credit · work · standing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerWeight {
    /// The miner's uid.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// Share of the whole, in [0, 1].
    pub weight: f64,
    /// Mean gradient score over its evaluations.
    pub mean_score: f64,
    /// Standard error of the mean score over evaluations.
    pub standard_error: f64,
    /// Mean score in units of the common level of its windows.
    pub quality: f64,
    /// Standard error of quality, in the same unit; 0 where there is no quality.
    #[serde(default)]
    pub quality_error: f64,
    /// Quality after shrinking; 0 when not above zero beyond noise.
    pub shrunk: f64,
    /// Evaluations that count.
    pub evaluations: usize,
    /// Mean credit of the recent windows, in [0, 1].
    pub credit: f64,
    /// Averaged advantage of own over random sequences; none before the first evaluation.
    pub advantage: Option<f64>,
    /// The least advantage that is not held against it.
    pub advantage_required: Option<f64>,
    /// The factor that follows from it, in [0, 1].
    pub work: f64,
    /// The factor that offences have left, in (0, 1].
    pub standing: f64,
    /// The sentence that explains the weight.
    pub reason: String,
}

/// The weights of all miners with state, by rising uid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// One entry for each miner; the weights sum to 1, or all are 0 when nobody is above zero beyond noise.
    pub peers: Vec<PeerWeight>,
    /// The sentence that explains the whole.
    pub reason: String,
}

impl Weights {
    /// Uids with a weight above 0, ascending.
    pub fn nonzero(&self) -> Vec<(Uid, f64)> {
        self.peers.iter().filter(|peer| peer.weight > 0.0).map(|peer| (peer.uid, peer.weight)).collect()
    }

    /// The entry of `uid`.
    pub fn of(&self, uid: Uid) -> Option<&PeerWeight> {
        self.peers.iter().find(|peer| peer.uid == uid)
    }
}

/// Weights as the chain takes them (spec validator §4.3): divided by the largest, times 65535, rounded half to even,
/// zeros left out. Order is kept. A weight that is negative or not finite counts as zero.
pub fn to_u16(weights: &[(Uid, f64)]) -> Vec<(Uid, u16)> {
    let usable = |weight: f64| weight.is_finite() && weight > 0.0;
    let largest = weights.iter().map(|entry| entry.1).filter(|weight| usable(*weight)).fold(0.0, f64::max);
    weights
        .iter()
        .filter(|entry| usable(entry.1))
        .map(|(uid, weight)| (*uid, (weight / largest * f64::from(u16::MAX)).round_ties_even() as u16))
        .filter(|entry| entry.1 > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_equal_the_references_encoding() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/scoring.json"));
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["weights"].as_array().unwrap();
        assert_eq!(cases.len(), 17);
        for case in cases {
            let weights = case["expected_weights_nonzero"].as_object().unwrap().iter();
            let mut weights: Vec<(Uid, f64)> = weights.map(|(uid, w)| (uid.parse().unwrap(), w.as_f64().unwrap())).collect();
            weights.sort_by_key(|entry| entry.0);
            let expected: Vec<(Uid, u16)> = case["expected_chain_uids"]
                .as_array()
                .unwrap()
                .iter()
                .zip(case["expected_chain_u16"].as_array().unwrap())
                .map(|(uid, value)| (Uid(uid.as_u64().unwrap() as u16), value.as_u64().unwrap() as u16))
                .collect();
            assert_eq!(to_u16(&weights), expected, "{}", case["name"]);
        }
    }

    #[test]
    fn halves_round_to_even() {
        let largest = (Uid(0), 65535.0);
        let others: Vec<(Uid, f64)> = vec![largest, (Uid(1), 0.5), (Uid(2), 1.5), (Uid(3), 2.5)];
        assert_eq!(to_u16(&others), [(Uid(0), 65535), (Uid(2), 2), (Uid(3), 2)]);
    }

    #[test]
    fn what_is_no_weight_counts_as_zero() {
        let odd = [(Uid(0), f64::NAN), (Uid(1), f64::INFINITY), (Uid(2), -1.0), (Uid(3), 1e-300)];
        assert_eq!(to_u16(&odd), [(Uid(3), 65535)]);
        assert_eq!(to_u16(&[]), []);
    }

    proptest! {
        #[test]
        fn the_largest_weight_is_the_largest_integer(weights in proptest::collection::vec(any::<f64>(), 0..50)) {
            let weights: Vec<(Uid, f64)> = weights.into_iter().enumerate().map(|(i, w)| (Uid(i as u16), w)).collect();
            let encoded = to_u16(&weights);
            if weights.iter().any(|entry| entry.1.is_finite() && entry.1 > 0.0) {
                prop_assert_eq!(encoded.iter().map(|entry| entry.1).max(), Some(u16::MAX));
            } else {
                prop_assert!(encoded.is_empty());
            }
        }
    }
}
