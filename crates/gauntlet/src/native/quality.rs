//! Quality: how much a miner's updates lower the loss, in units of what is common to all miners of a window.
//!
//! All miners of a window are evaluated on the same random sequences, so what they share (an easy batch, an early window
//! with large gains) says nothing about any of them. Each score is therefore compared with the *level* of its window:
//!
//! 1. The level of a window, b, is the self-weighted mean of its positive scores, Σy²/Σy: zeros and noise do not move it.
//! 2. A miner's quality is the ratio of sums q = Σy / Σb over the windows in which it was evaluated: its mean score in
//!    units of the common level. (Windows of more than twice its median level are scaled down to that, so that the large gains of a run's
//!    beginning do not outweigh what came after.) Its variance is that of a ratio estimator, from the centred scores y − q·b.
//! 3. Few windows make a poor estimate of a variance, so it is averaged with the median of all miners', which counts as
//!    `prior_observations` observations (a moderated variance).
//! 4. Who is not above zero by `useful_sigmas` standard errors (5 %, one-sided) has quality 0: a zero or harmful update earns nothing.
//! 5. The others' qualities are shrunk toward their common mean by se²/(se² + τ²), where τ² is the variance between miners
//!    beyond what noise explains (DerSimonian and Laird). Equal miners end up equal; a real difference stays.

use super::rules::NativeRules;
use crate::GradientScore;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use templar_protocol::Window;

/// Least relative variance: keeps precisions finite when all scores are exactly proportional.
const VARIANCE_MIN: f64 = 1e-12;
/// Windows whose level is above so many times the median of a miner's windows weigh as if it were so many times that.
const LEVEL_RATIO_MAX: f64 = 2.0;
/// Least relative deviation of one evaluation that a change is judged by: proportional scores are no proof of a miner without noise.
const CHANGE_DEVIATION_MIN: f64 = 0.05;
/// Evaluations before a change that are needed to speak of one.
const CHANGE_BEFORE_MIN: usize = 3;

/// The gradient score of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowScore {
    /// The window.
    pub window: Window,
    /// The score on random data.
    pub score: GradientScore,
    /// The level of the window, Σy²/Σy over its positive scores; 0 when nobody's was positive, and then the score says nothing.
    pub level: f64,
}

/// The level of a window, from its scores in any fixed order.
pub(crate) fn level(scores: impl Iterator<Item = f64>) -> f64 {
    let (mut squares, mut sum) = (0.0, 0.0);
    for positive in scores.filter(|score| *score > 0.0) {
        squares += positive * positive;
        sum += positive;
    }
    // A square may underflow where the sum does not; such a window carries no weight either way.
    if squares > 0.0 { squares / sum } else { 0.0 }
}

/// Mean and squared standard error of a miner's quality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub quality: f64,
    pub variance: f64,
    /// Mean level of its windows: what turns a quality into a score.
    pub level: f64,
}

/// A ratio estimate before its variance is moderated.
#[derive(Clone, Copy, Debug)]
struct Raw {
    quality: f64,
    /// Mean level of the windows, in the scores' units.
    mean_level: f64,
    level_sum: f64,
    level_squares: f64,
    /// Variance of one window's centred score, relative to the mean squared level.
    relative: f64,
    freedom: f64,
    /// The same from the paired losses within windows, for when there is only one window.
    paired: f64,
}

fn raw<'a>(scores: impl Iterator<Item = &'a WindowScore>) -> Option<Raw> {
    let entries: Vec<&WindowScore> = scores.filter(|entry| entry.level > 0.0).collect();
    // A window with outsized gains, as the first ones of a run are, says little about those that came after it.
    let most = LEVEL_RATIO_MAX * lower_median(entries.iter().map(|entry| entry.level).collect())?;
    let rows: Vec<(f64, f64, f64)> = entries
        .iter()
        .map(|entry| {
            let scale = (most / entry.level).min(1.0);
            (scale * entry.score.value, scale * entry.level, scale * entry.score.standard_error)
        })
        .collect();
    let mean_level = entries.iter().map(|entry| entry.level).sum::<f64>() / entries.len().max(1) as f64;
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
    Some(Raw { quality, mean_level, level_sum, level_squares, relative, freedom, paired })
}

/// Estimates with moderated variances; none for a miner without a window that has a level.
pub(crate) fn estimates(rules: &NativeRules, histories: &[&VecDeque<WindowScore>]) -> Vec<Option<Estimate>> {
    let raws: Vec<Option<Raw>> = histories.iter().map(|scores| raw(scores.iter())).collect();
    // Only miners that help tell how noisy help is; a miner that sends zeros has no noise at all.
    let helping = || raws.iter().flatten().filter(|raw| raw.quality > 0.0);
    let common = lower_median(helping().filter(|raw| raw.freedom > 0.0).map(|raw| raw.relative).collect())
        .or_else(|| lower_median(helping().map(|raw| raw.paired).collect()))
        .unwrap_or(0.0);
    let prior = rules.prior_observations.max(0.0);
    let moderated = |raw: Option<Raw>| {
        let raw = raw?;
        let relative = if prior + raw.freedom > 0.0 { (prior * common + raw.freedom * raw.relative) / (prior + raw.freedom) } else { 0.0 };
        let variance = (relative * raw.level_squares / (raw.level_sum * raw.level_sum)).max(VARIANCE_MIN);
        let finite = raw.quality.is_finite() && variance.is_finite();
        finite.then_some(Estimate { quality: raw.quality, variance, level: raw.mean_level })
    };
    raws.into_iter().map(moderated).collect()
}

/// Whether an estimate lies above zero beyond noise.
pub(crate) fn is_useful(rules: &NativeRules, estimate: &Estimate) -> bool {
    estimate.quality > 0.0 && estimate.quality > rules.useful_sigmas * estimate.variance.sqrt()
}

/// A sudden fall of a miner's scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change {
    /// Evaluations since it, the newest ones.
    pub newest: usize,
    /// Standard errors between the newest and those before.
    pub sigmas: f64,
}

/// The clearest fall among the newest evaluations of `scores`, where one evaluation of a typical miner has the relative deviation `deviation`.
pub(crate) fn fall(rules: &NativeRules, scores: &VecDeque<WindowScore>, deviation: Option<f64>) -> Option<Change> {
    let changes = (1..=rules.change_evaluations).filter_map(|newest| {
        let older = scores.len().checked_sub(newest).filter(|older| *older >= CHANGE_BEFORE_MIN)?;
        let (before, after) = (raw(scores.iter().take(older))?, raw(scores.iter().skip(older))?);
        let one = deviation.unwrap_or_else(|| before.relative.sqrt()).max(CHANGE_DEVIATION_MIN);
        let error = one * (1.0 / newest as f64 + 1.0 / older as f64).sqrt();
        Some(Change { newest, sigmas: (before.quality - after.quality) / error })
    });
    changes.filter(|change| change.sigmas.is_finite()).max_by(|a, b| a.sigmas.total_cmp(&b.sigmas).then(b.newest.cmp(&a.newest)))
}

/// Relative deviation of one evaluation of a typical helping miner with at least three; none when there is none.
pub(crate) fn typical_deviation(histories: &[&VecDeque<WindowScore>]) -> Option<f64> {
    let raws = histories.iter().filter_map(|scores| raw(scores.iter()));
    lower_median(raws.filter(|raw| raw.quality > 0.0 && raw.freedom >= 2.0).map(|raw| raw.relative).collect()).map(f64::sqrt)
}

/// Element (n − 1)/2 of the sorted values.
pub(crate) fn lower_median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// Qualities drawn toward each other.
pub(crate) struct Pooled {
    /// Common mean.
    pub mean: f64,
    /// Variance between miners beyond noise, τ².
    pub between: f64,
    /// The shrunk qualities, in the order given.
    pub shrunk: Vec<f64>,
}

/// Shrinks qualities toward their common mean.
pub(crate) fn pool(estimates: &[Estimate]) -> Pooled {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn history(scores: &[f64]) -> VecDeque<WindowScore> {
        let entry = |(window, value): (usize, &f64)| {
            let score = GradientScore { value: *value, standard_error: 0.0, sequences: 8 };
            WindowScore { window: Window(window as u64), score, level: 1.0 }
        };
        scores.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn the_lower_median_is_no_mean_of_two() {
        assert_eq!(lower_median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(lower_median(vec![]), None);
    }

    #[test]
    fn a_level_is_not_moved_by_zeros_and_harm() {
        assert_eq!(level([2.0, 2.0].into_iter()), 2.0);
        assert_eq!(level([2.0, 0.0, -5.0, 2.0].into_iter()), 2.0);
        assert_eq!(level([0.0, -1.0].into_iter()), 0.0);
    }

    #[test]
    fn a_great_beginning_does_not_hide_what_came_after() {
        let mut scores = history(&[1.0, 0.4, 0.4, 0.4]);
        (scores[0].score.value, scores[0].level) = (50.0, 50.0);
        let quality = raw(scores.iter()).unwrap().quality;
        assert!((quality - 3.2 / 5.0).abs() < 1e-12, "{quality}");
    }

    #[test]
    fn a_fall_is_seen_and_a_bad_day_is_not() {
        let rules = NativeRules::default();
        let steady = [1.0, 1.2, 0.8, 1.1, 0.9, 1.0];
        let sigmas = |newest: &[f64]| fall(&rules, &history(&[&steady[..], newest].concat()), Some(0.2)).unwrap().sigmas;
        assert!(sigmas(&[0.6]) < rules.change_sigmas, "{}", sigmas(&[0.6]));
        assert!(sigmas(&[0.0]) > rules.change_sigmas, "{}", sigmas(&[0.0]));
        assert!(sigmas(&[0.4, 0.35, 0.4]) > rules.change_sigmas, "{}", sigmas(&[0.4, 0.35, 0.4]));
        assert_eq!(fall(&rules, &history(&[1.0, 1.0, 0.0]), None), None, "two evaluations are no history");
    }
}
