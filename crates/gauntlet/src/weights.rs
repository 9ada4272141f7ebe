//! From gradient scores to weights, and from weights to the integers of the chain.
//!
//! All miners of a window are evaluated on the same random sequences, so what they share (an easy batch, an early window
//! with large gains) says nothing about any of them. Each score is therefore compared with the *level* of its window:
//!
//! 1. The level of a window, b, is the self-weighted mean of its positive scores, Σy²/Σy: zeros and noise do not move it.
//! 2. A miner's quality is the ratio of sums q = Σy / Σb over the windows in which it was evaluated: its mean score in
//!    units of the common level. Its variance is that of a ratio estimator, from the centred scores y − q·b.
//! 3. Few windows make a poor estimate of a variance, so it is averaged with the median of all miners', which counts as
//!    four observations (a moderated variance).
//! 4. Who is not above zero by 1.645 standard errors (5 %, one-sided) has weight 0: a zero or harmful update earns nothing.
//! 5. The others' qualities are shrunk toward their common mean by se²/(se² + τ²), where τ² is the variance between miners
//!    beyond what noise explains (DerSimonian and Laird). Equal miners end up equal; a real difference stays.
//! 6. Weights are the shrunk qualities, normalised to sum 1.

use crate::scorer::WindowScore;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use templar_protocol::{AccountId, Uid, Window};

/// One-sided 5 % point of the normal distribution.
const SIGNIFICANCE: f64 = 1.645;
/// Observations that the common variance counts as.
const PRIOR_WEIGHT: f64 = 4.0;
/// Least relative variance: keeps precisions finite when all scores are exactly proportional.
const VARIANCE_MIN: f64 = 1e-12;

/// The kept scores of one miner.
pub(crate) struct History<'a> {
    pub uid: Uid,
    pub hotkey: AccountId,
    pub scores: &'a VecDeque<WindowScore>,
}

/// The weight of one miner and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerWeight {
    /// The miner's uid.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// Share of the whole, in [0, 1].
    pub weight: f64,
    /// Mean gradient score over its windows.
    pub mean_score: f64,
    /// Standard error of the mean score over windows.
    pub standard_error: f64,
    /// Mean score in units of the common level of its windows.
    pub quality: f64,
    /// Quality after shrinking; 0 when not above zero beyond noise.
    pub shrunk: f64,
    /// Windows it was evaluated in.
    pub windows: usize,
    /// The sentence that explains the weight.
    pub reason: String,
}

/// The weights of all miners with state, by uid.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
}

/// Mean and squared standard error of a miner's quality.
#[derive(Clone, Copy)]
struct Estimate {
    quality: f64,
    variance: f64,
    /// Σb: what turns a quality into a sum of scores.
    level_sum: f64,
}

pub(crate) fn weigh(histories: &[History<'_>]) -> Weights {
    let levels = levels(histories);
    let estimates = moderate(histories, &levels);
    let useful: Vec<usize> = (0..histories.len())
        .filter(|&i| estimates[i].is_some_and(|e| e.quality > 0.0 && e.quality > SIGNIFICANCE * e.variance.sqrt()))
        .collect();
    let pooled = pool(&useful.iter().filter_map(|&i| estimates[i]).collect::<Vec<_>>());
    let mut shrunk = vec![0.0; histories.len()];
    for (&i, value) in useful.iter().zip(&pooled.shrunk) {
        shrunk[i] = *value;
    }
    let total: f64 = shrunk.iter().sum();
    let peers = histories
        .iter()
        .zip(&estimates)
        .zip(&shrunk)
        .map(|((history, estimate), &shrunk)| explain(history, *estimate, shrunk, if total > 0.0 { shrunk / total } else { 0.0 }, &pooled))
        .collect();
    let reason = if useful.is_empty() {
        format!("none of {} miners has improved the loss beyond noise, so there is no weight to set", histories.len())
    } else {
        format!(
            "{} of {} miners have improved the loss beyond noise; they differ from each other by {:.1} % beyond noise",
            useful.len(),
            histories.len(),
            100.0 * pooled.between.sqrt() / pooled.mean
        )
    };
    Weights { peers, reason }
}

/// The level of each window; windows in which nobody scored above 0 have none.
fn levels(histories: &[History<'_>]) -> BTreeMap<Window, f64> {
    let mut sums: BTreeMap<Window, (f64, f64)> = BTreeMap::new();
    for entry in histories.iter().flat_map(|history| history.scores) {
        let positive = entry.score.value.max(0.0);
        let (squares, sum) = sums.entry(entry.window).or_default();
        *squares += positive * positive;
        *sum += positive;
    }
    // A square may underflow where the sum does not; such a window carries no weight either way.
    sums.into_iter().filter(|(_, (squares, _))| *squares > 0.0).map(|(window, (squares, sum))| (window, squares / sum)).collect()
}

/// Estimates with moderated variances; none for a miner without a window that has a level.
fn moderate(histories: &[History<'_>], levels: &BTreeMap<Window, f64>) -> Vec<Option<Estimate>> {
    struct Raw {
        quality: f64,
        level_sum: f64,
        level_squares: f64,
        /// Variance of one window's centred score, relative to the mean squared level.
        relative: f64,
        freedom: f64,
        /// The same from the paired losses within windows, for when there is only one window.
        paired: f64,
    }
    let raws: Vec<Option<Raw>> = histories
        .iter()
        .map(|history| {
            let rows: Vec<(f64, f64, f64)> = history
                .scores
                .iter()
                .filter_map(|entry| levels.get(&entry.window).map(|level| (entry.score.value, *level, entry.score.standard_error)))
                .collect();
            let level_sum: f64 = rows.iter().map(|row| row.1).sum();
            let level_squares: f64 = rows.iter().map(|row| row.1 * row.1).sum();
            if rows.is_empty() || level_squares <= 0.0 {
                return None;
            }
            let quality = rows.iter().map(|row| row.0).sum::<f64>() / level_sum;
            let freedom = rows.len() as f64 - 1.0;
            let centred: f64 = rows.iter().map(|(score, level, _)| (score - quality * level).powi(2)).sum();
            let per_level = rows.len() as f64 / level_squares;
            let relative = if freedom > 0.0 { centred / freedom * per_level } else { 0.0 };
            let paired = rows.iter().map(|row| row.2 * row.2).sum::<f64>() / level_squares;
            Some(Raw { quality, level_sum, level_squares, relative, freedom, paired })
        })
        .collect();
    // Only miners that help tell how noisy help is; a miner that sends zeros has no noise at all.
    let helping = || raws.iter().flatten().filter(|raw| raw.quality > 0.0);
    let common = lower_median(helping().filter(|raw| raw.freedom > 0.0).map(|raw| raw.relative).collect())
        .or_else(|| lower_median(helping().map(|raw| raw.paired).collect()))
        .unwrap_or(0.0);
    raws.into_iter()
        .map(|raw| {
            let raw = raw?;
            let relative = (PRIOR_WEIGHT * common + raw.freedom * raw.relative) / (PRIOR_WEIGHT + raw.freedom);
            let variance = (relative * raw.level_squares / (raw.level_sum * raw.level_sum)).max(VARIANCE_MIN);
            let finite = raw.quality.is_finite() && variance.is_finite();
            finite.then_some(Estimate { quality: raw.quality, variance, level_sum: raw.level_sum })
        })
        .collect()
}

/// Element (n − 1)/2 of the sorted values.
fn lower_median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

struct Pooled {
    /// Common mean.
    mean: f64,
    /// Variance between miners beyond noise, τ².
    between: f64,
    shrunk: Vec<f64>,
}

/// Shrinks qualities toward their common mean.
fn pool(estimates: &[Estimate]) -> Pooled {
    let mean_with = |between: f64| {
        let precision = |e: &Estimate| 1.0 / (e.variance + between);
        let total: f64 = estimates.iter().map(precision).sum();
        estimates.iter().map(|e| e.quality * precision(e)).sum::<f64>() / total
    };
    if estimates.is_empty() {
        return Pooled { mean: 0.0, between: 0.0, shrunk: Vec::new() };
    }
    let fixed = mean_with(0.0);
    let precisions: Vec<f64> = estimates.iter().map(|e| 1.0 / e.variance).collect();
    let total: f64 = precisions.iter().sum();
    let heterogeneity: f64 = estimates.iter().zip(&precisions).map(|(e, p)| p * (e.quality - fixed).powi(2)).sum();
    let scale = total - precisions.iter().map(|p| p * p).sum::<f64>() / total;
    let excess = heterogeneity - (estimates.len() as f64 - 1.0);
    let between = if scale > 0.0 { (excess / scale).max(0.0) } else { 0.0 };
    let mean = mean_with(between);
    let shrunk = estimates.iter().map(|e| mean + (e.quality - mean) * between / (between + e.variance)).collect();
    Pooled { mean, between, shrunk }
}

fn explain(history: &History<'_>, estimate: Option<Estimate>, shrunk: f64, weight: f64, pooled: &Pooled) -> PeerWeight {
    let windows = history.scores.len();
    let mean_score = if windows > 0 { history.scores.iter().map(|e| e.score.value).sum::<f64>() / windows as f64 } else { 0.0 };
    let uid = history.uid;
    let (quality, error, level) = match estimate {
        Some(e) => (e.quality, e.variance.sqrt(), e.level_sum / windows.max(1) as f64),
        None => (0.0, 0.0, 0.0),
    };
    let reason = match estimate {
        None if windows == 0 => format!("uid {uid} was not evaluated in the windows that count, so it has no weight"),
        None => format!("uid {uid} has a mean gradient score of {mean_score:.6}, and nobody improved the loss in its windows: no weight"),
        Some(_) if weight == 0.0 => format!(
            "uid {uid} has a mean gradient score of {mean_score:.6} over {windows} windows, {quality:.3} ± {error:.3} of the common level: \
             not above zero beyond noise, so no weight"
        ),
        Some(e) => format!(
            "uid {uid} has a mean gradient score of {mean_score:.6} over {windows} windows, {quality:.3} ± {error:.3} of the common level; \
             {:.0} % of its distance from the mean {:.3} counts as noise, which leaves {shrunk:.3} and the weight {weight:.4}",
            100.0 * e.variance / (e.variance + pooled.between),
            pooled.mean,
        ),
    };
    let standard_error = error * level;
    PeerWeight { uid, hotkey: history.hotkey, weight, mean_score, standard_error, quality, shrunk, windows, reason }
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

    #[test]
    fn the_lower_median_is_no_mean_of_two() {
        assert_eq!(lower_median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(lower_median(vec![]), None);
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
