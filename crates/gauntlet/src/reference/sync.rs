//! Whether a peer has the validator's model: two elements of each parameter, in units of how much they change in an outer step
//! (spec validator §2.9).
//!
//! What a peer publishes is of no fixed form. A list of another length, or of something else than numbers, ends the reference's
//! process; here it counts as no debug object at all.

use super::rules::SyncRules;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a peer publishes for one parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// A list of numbers.
    Numbers(Vec<f64>),
    /// A list that holds something else as well.
    OtherList,
    /// No list; left out of the comparison.
    NoList,
}

/// One parameter of the comparison: the validator's elements and, by the same name, what the peer publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The validator's elements of the compared range.
    pub own: Vec<f32>,
    /// What the peer publishes.
    pub published: Published,
    /// Smoothed absolute change of each element in an outer step, where there is a history.
    pub change: Option<Vec<f32>>,
}

/// How a peer's model differs from the validator's. Numbers may be infinite or NaN, as the peer's may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// L2 norm of all differences.
    pub l2_norm: f64,
    /// That norm over the number of elements; infinite when nothing was compared.
    pub avg_l2_norm: f64,
    /// Mean absolute difference; infinite when nothing was compared.
    pub avg_abs_diff: f64,
    /// Largest absolute difference.
    pub max_diff: f64,
    /// Mean of the ratios between the quartiles, both included: how many outer steps the peer is behind. Infinite when nothing was
    /// compared, NaN when no ratio lies between the quartiles.
    pub steps_behind: f64,
    /// The largest ratio; infinite when nothing was compared.
    pub max_steps_behind: f64,
    /// Elements compared.
    pub elements: usize,
}

/// Why there is no comparison.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// The list has neither as many entries as the validator's nor one.
    #[error("its list for parameter number {parameter} has {found} entries, {expected} are expected")]
    Length {
        /// Index of the parameter.
        parameter: usize,
        /// Entries found.
        found: usize,
        /// Entries expected.
        expected: usize,
    },
    /// The list holds something that is no number.
    #[error("its list for parameter number {parameter} holds something that is no number")]
    NoNumber {
        /// Index of the parameter.
        parameter: usize,
    },
}

/// Compares a peer's published elements with the validator's own, parameter by parameter. All arithmetic is float32, sums are float64.
///
/// # Errors
/// A list that the reference cannot compare either.
pub fn compare(rules: &SyncRules, learning_rate: f64, params: &[Compared]) -> Result<Comparison, SyncError> {
    let (mut squares, mut absolute, mut elements) = (0.0f64, 0.0f64, 0);
    let (mut max_diff, mut max_ratio) = (0.0f32, 0.0f32);
    let mut ratios = Vec::new();
    for (parameter, compared) in params.iter().enumerate() {
        let published = match &compared.published {
            Published::NoList => continue,
            Published::OtherList => return Err(SyncError::NoNumber { parameter }),
            Published::Numbers(numbers) => numbers,
        };
        let (found, expected) = (published.len(), compared.own.len());
        if found != expected && found != 1 {
            return Err(SyncError::Length { parameter, found, expected });
        }
        // One published number is compared with every element.
        let theirs = |i: usize| published[if found == 1 { 0 } else { i }] as f32;
        let diffs: Vec<f32> = compared.own.iter().enumerate().map(|(i, own)| (own - theirs(i)).abs()).collect();
        let change = compared.change.as_ref().filter(|change| change.len() == diffs.len());
        let step = |i: usize| change.map_or(learning_rate as f32, |change| change[i].max(rules.step_min as f32));
        let start = ratios.len();
        ratios.extend(diffs.iter().enumerate().map(|(i, diff)| diff / step(i)));
        squares += diffs.iter().map(|diff| f64::from(diff * diff)).sum::<f64>();
        absolute += diffs.iter().map(|diff| f64::from(*diff)).sum::<f64>();
        elements += diffs.len();
        raise(&mut max_diff, &diffs);
        raise(&mut max_ratio, &ratios[start..]);
    }
    let count = elements as f64;
    let per_element = |sum: f64| if elements == 0 { f64::INFINITY } else { sum / count };
    let l2_norm = squares.sqrt();
    Ok(Comparison {
        l2_norm,
        avg_l2_norm: per_element(l2_norm),
        avg_abs_diff: per_element(absolute),
        max_diff: max_diff.into(),
        steps_behind: if elements == 0 { f64::INFINITY } else { interquartile_mean(&ratios).into() },
        max_steps_behind: if elements == 0 { f64::INFINITY } else { max_ratio.into() },
        elements,
    })
}

/// Raises `max` to the largest of `values`; a parameter with a NaN among them does not count, since no comparison with NaN holds.
fn raise(max: &mut f32, values: &[f32]) {
    let largest = values.iter().copied().fold(0.0f32, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) });
    if largest > *max {
        *max = largest;
    }
}

/// Mean of the values between the first and the third quartile, both included; NaN when there is none or a value is NaN.
fn interquartile_mean(values: &[f32]) -> f32 {
    if values.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let (low, high) = (quantile(&sorted, 0.25), quantile(&sorted, 0.75));
    let within: Vec<f64> = sorted.iter().filter(|value| **value >= low && **value <= high).map(|value| f64::from(*value)).collect();
    (within.iter().sum::<f64>() / within.len() as f64) as f32
}

/// A quantile of sorted values by linear interpolation, rounded as a float32 interpolation from the nearer end rounds.
fn quantile(sorted: &[f32], q: f32) -> f32 {
    let rank = q * (sorted.len() as f32 - 1.0);
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    let weight = rank - rank.floor();
    if weight < 0.5 { below + weight * (above - below) } else { above - (above - below) * (1.0 - weight) }
}

/// The sync score for a number of steps behind: 1 for none, 0 from `score_steps` on; 0 for NaN and for no debug object.
pub fn sync_score(rules: &SyncRules, steps_behind: Option<f64>) -> f64 {
    match steps_behind {
        Some(steps) if !steps.is_nan() => (1.0 - steps.clamp(0.0, rules.score_steps) / rules.score_steps).max(0.0).powf(rules.score_power),
        _ => 0.0,
    }
}

/// Whether a gather peer is slashed for it: no debug object, or more than `steps_behind_max` behind. NaN is not, as in the reference.
pub fn is_out_of_sync(rules: &SyncRules, steps_behind: Option<f64>) -> bool {
    steps_behind.is_none_or(|steps| steps > rules.steps_behind_max)
}

/// The compared elements of one parameter and their smoothed change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamChange {
    /// The elements after the last outer step.
    pub last: Vec<f32>,
    /// Smoothed absolute change in an outer step; none before the second step.
    pub change: Option<Vec<f32>>,
}

/// How much the validator's own parameters change in an outer step, by parameter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParamChanges(BTreeMap<String, ParamChange>);

impl ParamChanges {
    /// Takes in the elements of one parameter after an outer step. A parameter that is too short, whose elements are not finite, or
    /// whose shape differs from before starts anew.
    pub fn observe(&mut self, rules: &SyncRules, name: &str, elements: &[f32]) {
        if elements.len() != rules.end_element - rules.first_element || elements.iter().any(|element| !element.is_finite()) {
            self.0.remove(name);
            return;
        }
        let Some(known) = self.0.get_mut(name).filter(|known| known.last.len() == elements.len()) else {
            self.0.insert(name.to_owned(), ParamChange { last: elements.to_vec(), change: None });
            return;
        };
        let deltas = known.last.iter().zip(elements).map(|(last, new)| (new - last).abs().min(f32::MAX));
        known.change = Some(match &known.change {
            None => deltas.collect(),
            Some(change) => {
                let (kept, taken) = ((1.0 - rules.smoothing) as f32, rules.smoothing as f32);
                change.iter().zip(deltas).map(|(old, delta)| kept * old + taken * delta).collect()
            }
        });
        known.last = elements.to_vec();
    }

    /// The smoothed change of a parameter, when there is one.
    pub fn change(&self, name: &str) -> Option<&[f32]> {
        self.0.get(name)?.change.as_deref()
    }
}
