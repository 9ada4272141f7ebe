//! A peer's object as a trial update (spec validator §2.4, §2.6): clipped to the gather's lower-median norm, scattered into the
//! parameter, taken off with a fraction of the outer learning rate.

use super::{
    object::{DecodedParam, Grid},
    rules::{EvaluationRules, ObjectRules},
};

/// L2 norm of all values that a peer sends for a parameter.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// The norm that values are clipped to: the lower median of the gathered peers' norms, or the peer's own when nobody was gathered.
pub fn clip_norm(gathered: &[f64], own: f64) -> f64 {
    if gathered.is_empty() { own } else { templar_codec::aggregate::lower_median(gathered) }
}

/// `min(1, clip / (norm + guard))`, in float32.
pub fn clip_factor(rules: &ObjectRules, clip: f64, norm: f64) -> f32 {
    (clip / (norm + rules.norm_guard)).min(1.0) as f32
}

/// Step size of a trial update.
pub fn trial_step(rules: &EvaluationRules) -> f64 {
    rules.outer_learning_rate * rules.step_factor
}

/// The dense update of one parameter, row-major: `factor` times the values at their places, the mean where several fall on one, 0
/// elsewhere. None when an element is not finite: then the gradient is an invalid one.
///
/// What lies outside the grid is left out.
pub fn dense_update(grid: &Grid, param: &DecodedParam, factor: f32) -> Option<Vec<f32>> {
    let positions = grid.positions();
    let (rows, cols) = match grid.chunk[..] {
        [cols] => (1, cols),
        [rows, cols] => (rows, cols),
        _ => return None,
    };
    let across = *grid.chunks.last()?;
    let chunks: usize = grid.chunks.iter().product();
    let per_chunk = (param.values.len() / chunks.max(1)).max(1);
    let mut dense = vec![0.0f32; chunks * positions];
    let (mut sums, mut hits) = (vec![0.0f32; positions], vec![0u32; positions]);
    let pairs = param.indices.chunks(per_chunk).zip(param.values.chunks(per_chunk)).take(chunks);
    for (chunk, (indices, values)) in pairs.enumerate() {
        sums.fill(0.0);
        hits.fill(0);
        for (index, value) in indices.iter().zip(values) {
            if let (Some(sum), Some(hit)) = (sums.get_mut(usize::from(*index)), hits.get_mut(usize::from(*index))) {
                (*sum, *hit) = (*sum + factor * value, *hit + 1);
            }
        }
        let corner = (chunk / across) * rows * across * cols + (chunk % across) * cols;
        for (p, (sum, hit)) in sums.iter().zip(&hits).enumerate().filter(|(_, (_, hit))| **hit > 0) {
            dense[corner + (p / cols) * across * cols + p % cols] = sum / *hit as f32;
        }
    }
    dense.iter().all(|value| value.is_finite()).then_some(dense)
}
