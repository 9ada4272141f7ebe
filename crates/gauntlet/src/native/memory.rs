//! Memory: which of the kept evaluations count.
//!
//! What a single update gains shrinks during a run, what it is measured with does not. So the memory is as long as the noise asks for, and no longer,
//! because a long one is slow to see that somebody has stopped working:
//!
//! 1. The newest `score_evaluations` of each miner count, or twice as many, four times…, up to `score_evaluations_max`: the least with which the typical miner
//!    that helps lies so far above zero that it fails the test of usefulness in one window of a thousand.
//! 2. Of a miner that is then neither above zero nor below `hold.share` of a typical one beyond noise, more count, up to as many as are kept.
//! 3. Where a miner's scores have fallen, only those since the fall count. Each score is taken beside the typical one of its window, because a
//!    window whose sequences are hard for everybody is nobody's fall. Nothing is forgotten for it: when a fall turns out to be chance, or has mended, what was before counts again.

use super::power::MISS_SIGMAS;
use super::quality::{self, Estimate, WindowScore, lower_median};
use super::rules::NativeRules;

/// Least relative deviation of one evaluation that a fall is judged by: proportional scores are no proof of a miner without noise.
const DEVIATION_MIN: f64 = 0.05;
/// Newest evaluations that are needed to speak of a fall: single evaluations have heavy tails, and one bad one is a bad day.
const SINCE_MIN: usize = 2;
/// Newest evaluations among which a fall is looked for: more than the shipped rules remember, and a bound on the work that somebody else's rules cause.
const SINCE_MAX: usize = 128;
/// Evaluations before a fall that are needed to speak of one.
const BEFORE_MIN: usize = 3;

/// What counts of the miners' evaluations, in the order in which their histories were given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Memory<'a> {
    /// Evaluations of a typical miner that the noise asks for.
    pub evaluations: usize,
    /// Those that count, oldest first.
    pub counted: Vec<&'a [WindowScore]>,
    /// The clearest fall of each, whether clear enough or not; none where there are too few evaluations.
    pub falls: Vec<Option<Fall>>,
}

/// A fall of a miner's scores beside the others'.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fall {
    /// Evaluations since.
    pub since: usize,
    /// Standard errors between those before and those since.
    pub sigmas: f64,
}

/// Most evaluations of a miner that may ever count.
pub(crate) fn evaluations_max(rules: &NativeRules) -> usize {
    rules.score_evaluations.max(rules.score_evaluations_max)
}

/// Evaluations of a miner that are kept where `evaluations` of a typical one count: enough for the memory to grow twice.
pub(crate) fn kept(rules: &NativeRules, evaluations: usize) -> usize {
    doubled(rules, doubled(rules, evaluations))
}

fn doubled(rules: &NativeRules, evaluations: usize) -> usize {
    evaluations.saturating_mul(2).min(evaluations_max(rules))
}

/// Recalls what counts of `histories`, each oldest first.
pub(crate) fn recall<'a>(rules: &NativeRules, histories: &[&'a [WindowScore]]) -> Memory<'a> {
    let longest = histories.iter().map(|scores| scores.len()).max().unwrap_or(0);
    let mut evaluations = rules.score_evaluations.max(1);
    let mut counted = all_newest(histories, evaluations);
    while evaluations < longest.min(evaluations_max(rules)) && !is_clear(rules, &counted) {
        evaluations = doubled(rules, evaluations);
        counted = all_newest(histories, evaluations);
    }
    let typical = typical_deviation(&counted);
    let falls: Vec<Option<Fall>> = counted.iter().map(|scores| clearest_fall(&beside_the_typical(scores), typical)).collect();
    let has_fallen = |fall: &Option<Fall>| fall.is_some_and(|fall| fall.sigmas >= rules.change_sigmas);
    for (scores, fall) in counted.iter_mut().zip(&falls).filter(|(_, fall)| has_fallen(fall)) {
        *scores = newest(scores, fall.map_or(0, |fall| fall.since));
    }
    let mut reach = evaluations;
    while reach < longest.min(evaluations_max(rules)) {
        let undecided = undecided(rules, &counted);
        if undecided.is_empty() {
            break;
        }
        reach = doubled(rules, reach);
        for miner in undecided {
            let longer = newest(histories[miner], reach);
            if !has_fallen(&falls[miner]) && !has_fallen(&clearest_fall(&beside_the_typical(longer), typical)) {
                counted[miner] = longer;
            }
        }
    }
    Memory { evaluations, counted, falls }
}

/// Miners of which it is not known whether they help, by position.
fn undecided(rules: &NativeRules, counted: &[&[WindowScore]]) -> Vec<usize> {
    let estimates = quality::estimates(rules, counted);
    let useful = estimates.iter().flatten().filter(|estimate| quality::is_useful(rules, estimate));
    let Some(typical) = lower_median(useful.map(|estimate| estimate.quality).collect()) else { return Vec::new() };
    let is_undecided = |estimate: &Estimate| {
        !quality::is_useful(rules, estimate)
            && estimate.quality + rules.useful_sigmas * estimate.variance.sqrt() >= rules.hold.share * typical
    };
    (0..estimates.len()).filter(|&miner| estimates[miner].as_ref().is_some_and(is_undecided)).collect()
}

/// Relative deviation of one evaluation of a typical miner that helps, beside the others; none when nobody is known.
fn typical_deviation(counted: &[&[WindowScore]]) -> Option<f64> {
    let helping = counted.iter().filter(|scores| mean_score(scores) > 0.0).map(|scores| beside_the_typical(scores));
    lower_median(helping.filter(|relative| relative.len() >= BEFORE_MIN).map(|relative| deviation(&relative)).collect())
}

fn newest(scores: &[WindowScore], evaluations: usize) -> &[WindowScore] {
    &scores[scores.len().saturating_sub(evaluations)..]
}

fn all_newest<'a>(histories: &[&'a [WindowScore]], evaluations: usize) -> Vec<&'a [WindowScore]> {
    histories.iter().map(|scores| newest(scores, evaluations)).collect()
}

/// Whether the typical miner that helps is found useful but once in a thousand windows.
fn is_clear(rules: &NativeRules, counted: &[&[WindowScore]]) -> bool {
    let estimates = quality::estimates(rules, counted);
    let helping = estimates.iter().flatten().filter(|estimate| estimate.quality > 0.0);
    lower_median(helping.map(|estimate| estimate.quality / estimate.variance.sqrt()).collect())
        .is_some_and(|sigmas| sigmas >= rules.useful_sigmas + MISS_SIGMAS)
}

/// Mean gradient score; 0 without one.
pub(crate) fn mean_score(scores: &[WindowScore]) -> f64 {
    scores.iter().map(|entry| entry.score.value).sum::<f64>() / scores.len().max(1) as f64
}

/// Each score less the typical one of its window, in units of the median level; outsized windows are scaled down as they are for quality.
fn beside_the_typical(scores: &[WindowScore]) -> Vec<f64> {
    let Some(unit) = lower_median(scores.iter().map(|entry| entry.level).filter(|level| *level > 0.0).collect()) else { return Vec::new() };
    let levelled = scores.iter().filter(|entry| entry.level > 0.0);
    let beside = |entry: &WindowScore| {
        let of_window = |score| quality::bounded(score, entry.level);
        quality::scale(unit, entry.level) * (of_window(entry.score.value) - of_window(entry.typical)) / unit
    };
    levelled.map(beside).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation of one of `values`; 0 for fewer than two.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}

/// The clearest fall in `relative`, where one evaluation of a typical helping miner has the deviation `typical`.
fn clearest_fall(relative: &[f64], typical: Option<f64>) -> Option<Fall> {
    let most = relative.len().checked_sub(BEFORE_MIN)?.min(SINCE_MAX);
    let falls = (SINCE_MIN..=most).map(|since| {
        let (before, after) = relative.split_at(relative.len() - since);
        let one = deviation(before).max(typical.unwrap_or(0.0)).max(DEVIATION_MIN);
        let error = one * (1.0 / since as f64 + 1.0 / before.len() as f64).sqrt();
        Fall { since, sigmas: (mean(before) - mean(after)) / error }
    });
    falls.filter(|fall| fall.sigmas.is_finite()).max_by(|a, b| a.sigmas.total_cmp(&b.sigmas).then(b.since.cmp(&a.since)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::quality::tests::history;
    use crate::test_noise::Noise;

    fn fall(scores: &[f64]) -> Option<Fall> {
        clearest_fall(&beside_the_typical(&history(scores)), Some(0.2))
    }

    #[test]
    fn a_fall_is_seen_and_a_bad_day_is_not() {
        let rules = NativeRules::default();
        let steady = [1.0, 1.2, 0.8, 1.1, 0.9, 1.0];
        let sigmas = |newest: &[f64]| fall(&[&steady[..], newest].concat()).unwrap().sigmas;
        assert!(sigmas(&[0.6]) < rules.change_sigmas, "{}", sigmas(&[0.6]));
        assert!(sigmas(&[0.0]) < rules.change_sigmas, "one evaluation, however bad: {}", sigmas(&[0.0]));
        assert!(sigmas(&[0.0, 0.0]) > rules.change_sigmas, "{}", sigmas(&[0.0, 0.0]));
        assert!(sigmas(&[0.4, 0.35, 0.4]) > rules.change_sigmas, "{}", sigmas(&[0.4, 0.35, 0.4]));
        assert_eq!(fall(&[1.0, 1.0, 0.0]), None, "two evaluations are no history");
    }

    #[test]
    fn only_what_came_since_a_fall_counts_until_it_has_mended() {
        let rules = NativeRules::default();
        let steady: Vec<f64> = (0..8).map(|i| if i % 2 == 0 { 0.9 } else { 1.1 }).collect();
        let counts = |newest: &[f64]| {
            let (other, fallen) = (history(&steady), history(&[&steady[..], newest].concat()));
            recall(&rules, &[&other, &fallen]).counted[1].len()
        };
        assert_eq!(counts(&[0.0, 0.0]), 2);
        assert_eq!(counts(&[0.0, 0.0, 0.1, 0.0]), 4);
        assert_eq!(counts(&[0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), 10, "the memory's whole length");
    }

    #[test]
    fn a_window_that_is_hard_for_everybody_is_nobodys_fall() {
        let rules = NativeRules::default();
        let mut scores = history(&[0.9, 1.1, 0.9, 1.1, 0.9, 1.1, -0.5, -0.6, -0.5]);
        scores[6..].iter_mut().for_each(|entry| entry.typical = -0.5);
        let memory = recall(&rules, &[&scores, &scores]);
        assert_eq!(memory.counted[0].len(), 9, "{memory:?}");
    }

    #[test]
    fn the_memory_is_as_long_as_the_noise_asks_for() {
        let rules = NativeRules::default();
        let mut noise = Noise(5);
        let mut evaluations = |spread: f64, count: usize| {
            let histories: Vec<Vec<WindowScore>> =
                (0..5).map(|_| history(&(0..count).map(|_| 1.0 + spread * noise.normal()).collect::<Vec<f64>>())).collect();
            recall(&rules, &histories.iter().map(Vec::as_slice).collect::<Vec<_>>()).evaluations
        };
        assert_eq!([evaluations(0.2, 80), evaluations(1.0, 80), evaluations(5.0, 80)], [10, 40, 80]);
        assert_eq!([evaluations(5.0, 8), evaluations(5.0, 15), evaluations(0.0, 80)], [10, 20, 10], "no longer than there are evaluations");
    }

    #[test]
    fn who_is_undecided_is_judged_by_more() {
        let rules = NativeRules::default();
        let wave = |mean: f64, spread: f64| move |i: usize| if i.is_multiple_of(2) { mean + spread } else { mean - spread };
        let steady = history(&(0..40).map(wave(1.0, 0.6)).collect::<Vec<_>>());
        let counted = |newest: f64| {
            let values: Vec<f64> = (0..30).map(wave(1.0, 0.6)).chain((30..40).map(wave(newest, 0.6))).collect();
            let unsure = history(&values);
            let memory = recall(&rules, &[&steady, &steady, &unsure]);
            (memory.evaluations, memory.counted[0].len(), memory.counted[2].len(), memory.falls[2].is_some_and(|fall| fall.sigmas > 4.0))
        };
        assert_eq!(counted(1.0), (10, 10, 10, false));
        assert_eq!(counted(0.3), (10, 10, 20, false), "neither nothing nor half of what is typical");
        assert_eq!(counted(-0.2), (10, 10, 10, false), "decided: it does not help");
    }
}
