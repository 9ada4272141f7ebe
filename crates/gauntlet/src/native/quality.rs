//! Quality: how much a miner's updates lower the loss, in units of what is common to all miners of a window.
//!
//! All miners of a window are evaluated on the same random sequences, so what they share (an easy batch, an early window
//! with large gains) says nothing about any of them. Each score is therefore compared with the *level* of its window:
//!
//! 1. The level of a window, b, is the self-weighted mean of its positive scores, Σy²/Σy: zeros and noise do not move it. Where most updates do
//!    harm, the sequences were hard for everybody; then it is the median level of before, so that such windows count like any other.
//! 2. A miner's quality is the ratio of sums q = Σy / Σb over those of its evaluations that count (`memory`): its mean score in
//!    units of the common level. (Windows of more than twice its median level are scaled down to that, so that the large gains of a run's
//!    beginning do not outweigh what came after; and no evaluation takes away more than ten typical ones give.) Its variance is that of a ratio estimator, from the centred scores y − q·b.
//! 3. Few windows make a poor estimate of a variance, so it is averaged with the median of all miners', which counts as
//!    `prior_observations` observations (a moderated variance).
//! 4. Who is not above zero by `useful_sigmas` standard errors (5 %, one-sided) has quality 0: a zero or harmful update earns nothing.
//! 5. The others' qualities are shrunk toward their common mean by se²/(se² + τ²), where τ² is the variance between miners
//!    beyond what noise explains (DerSimonian and Laird), by as much as heterogeneity exceeds what `difference_sigmas` allow to chance: equal
//!    miners would otherwise be told apart in every second window. Equal miners end up equal; a real difference stays.

use super::rules::NativeRules;
use crate::GradientScore;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use templar_protocol::Window;

/// Least relative variance: keeps precisions finite when all scores are exactly proportional.
const VARIANCE_MIN: f64 = 1e-12;
/// Windows whose level is above so many times the median of a miner's windows weigh as if it were so many times that.
const LEVEL_RATIO_MAX: f64 = 2.0;
/// Levels that one evaluation takes away at most: what a single ruinous update says of a miner, ten good ones answer.
const HARM_LEVELS_MAX: f64 = 10.0;

/// The gradient score of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowScore {
    /// The window.
    pub window: Window,
    /// The score on random data.
    pub score: GradientScore,
    /// The level of the window; 0 where there is none, and then the score says nothing.
    pub level: f64,
    /// The typical score of the window, which this one is taken beside: the lower median of its positive ones, or of all where most did harm.
    pub typical: f64,
}

/// What a window gave everybody.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Common {
    pub level: f64,
    pub typical: f64,
    /// Whether most of its updates did harm, so that the window is to blame.
    pub bad: bool,
}

/// What is common to `scores`, those of one window in any fixed order, after windows in which miners have `histories`.
pub(crate) fn common<'a>(scores: &[f64], histories: impl Iterator<Item = &'a [WindowScore]>) -> Common {
    let bad = 2 * scores.iter().filter(|score| **score > 0.0).count() < scores.len();
    let before = || {
        let levels: BTreeMap<Window, f64> = histories.flatten().map(|entry| (entry.window, entry.level)).collect();
        lower_median(levels.into_values().filter(|level| *level > 0.0).collect())
    };
    let own = level(scores.iter().copied());
    let level = if bad { before().unwrap_or(own) } else { own };
    let typical = lower_median(scores.iter().copied().filter(|score| bad || *score > 0.0).collect()).unwrap_or(0.0);
    Common { level, typical, bad }
}

/// The self-weighted mean of positive scores, Σy²/Σy; 0 when none is positive.
pub(crate) fn level(scores: impl Iterator<Item = f64>) -> f64 {
    let (mut squares, mut sum) = (0.0, 0.0);
    for positive in scores.filter(|score| *score > 0.0) {
        squares += positive * positive;
        sum += positive;
    }
    // A square may underflow where the sum does not; such a window carries no weight either way.
    if squares > 0.0 { squares / sum } else { 0.0 }
}

/// A score of a window with `level`, with the harm that counts.
pub(crate) fn bounded(score: f64, level: f64) -> f64 {
    score.max(-HARM_LEVELS_MAX * level)
}

/// What a window with `level` counts among windows whose median level is `median`: one with outsized gains, as the first ones of a run are, says little
/// about those that came after it.
pub(crate) fn scale(median: f64, level: f64) -> f64 {
    (LEVEL_RATIO_MAX * median / level).min(1.0)
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

fn raw(scores: &[WindowScore]) -> Option<Raw> {
    let entries: Vec<&WindowScore> = scores.iter().filter(|entry| entry.level > 0.0).collect();
    let median = lower_median(entries.iter().map(|entry| entry.level).collect())?;
    let rows: Vec<(f64, f64, f64)> = entries
        .iter()
        .map(|entry| {
            let scale = scale(median, entry.level);
            (scale * bounded(entry.score.value, entry.level), scale * entry.level, scale * entry.score.standard_error)
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
pub(crate) fn estimates(rules: &NativeRules, counted: &[&[WindowScore]]) -> Vec<Option<Estimate>> {
    let raws: Vec<Option<Raw>> = counted.iter().map(|scores| raw(scores)).collect();
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
pub(crate) fn pool(rules: &NativeRules, estimates: &[Estimate]) -> Pooled {
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
    let excess = heterogeneity - by_chance(estimates.len() - 1, rules.difference_sigmas);
    let between = if scale > 0.0 { (excess / scale).max(0.0) } else { 0.0 };
    let mean = mean_with(between);
    let shrunk = estimates.iter().map(|e| mean + (e.quality - mean) * between / (between + e.variance)).collect();
    Pooled { mean, between, shrunk }
}

/// What heterogeneity reaches by chance among equals: the point of the χ² distribution with `freedom` degrees that lies at `sigmas` of the normal one
/// (Wilson and Hilferty 1931).
fn by_chance(freedom: usize, sigmas: f64) -> f64 {
    let freedom = freedom.max(1) as f64;
    let ninth = 2.0 / (9.0 * freedom);
    freedom * (1.0 - ninth + sigmas * ninth.sqrt()).max(0.0).powi(3)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One miner's scores, beside a typical one of 1 in each window.
    pub fn history(scores: &[f64]) -> Vec<WindowScore> {
        let entry = |(window, value): (usize, &f64)| {
            let score = GradientScore { value: *value, standard_error: 0.0, sequences: 8 };
            WindowScore { window: Window(window as u64), score, level: 1.0, typical: 1.0 }
        };
        scores.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn the_lower_median_is_no_mean_of_two() {
        assert_eq!(lower_median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(lower_median(vec![]), None);
    }

    #[test]
    fn chance_is_that_of_chi_squared() {
        // 95 % points of χ² with 4, 19 and 60 degrees.
        for (freedom, point) in [(4, 9.488), (19, 30.144), (60, 79.082)] {
            assert!((by_chance(freedom, 1.645) / point - 1.0).abs() < 0.005, "{freedom}: {}", by_chance(freedom, 1.645));
        }
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
        let quality = raw(&scores).unwrap().quality;
        assert!((quality - 3.2 / 5.0).abs() < 1e-12, "{quality}");
    }

    #[test]
    fn a_window_that_is_hard_for_everybody_has_the_level_of_before() {
        let before = history(&[1.0, 1.0]);
        let common = |scores: &[f64]| common(scores, [&before[..]].into_iter());
        assert_eq!(common(&[2.0, 2.0, -1.0]), Common { level: 2.0, typical: 2.0, bad: false });
        assert_eq!(common(&[0.01, -2.0, -1.0]), Common { level: 1.0, typical: -1.0, bad: true });
        assert_eq!(common(&[2.0, 0.0]), Common { level: 2.0, typical: 2.0, bad: false });
        assert_eq!(super::common(&[-1.0], std::iter::empty()).level, 0.0);
    }

    #[test]
    fn one_ruinous_evaluation_is_answered_by_ten_good_ones() {
        let quality = |scores: &[f64]| raw(&history(scores)).unwrap().quality;
        assert_eq!(quality(&[&[1.0; 10][..], &[-1000.0]].concat()), 0.0);
    }
}
