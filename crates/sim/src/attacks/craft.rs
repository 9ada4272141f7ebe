//! Tools of attackers: updates as dense tensors, and back to payloads.

use crate::draw::Draw;
use templar_codec::{Layout, Opened, compress, norms, sparse_update};
use templar_protocol::Theta;

/// Zeros of the layout's shapes.
pub fn zeros(layout: &Layout) -> Theta {
    layout.params().iter().map(|param| vec![0.0; param.len()]).collect()
}

/// What an object takes off θ, unclipped and at rate 1.
pub fn dense(layout: &Layout, object: &Opened) -> Theta {
    let own: Vec<f32> = norms(object).iter().map(|norm| *norm as f32).collect();
    let mut update = zeros(layout);
    for (values, entries) in update.iter_mut().zip(sparse_update(layout, object, &own, 1.0).params) {
        entries.into_iter().for_each(|(index, value)| values[index as usize] = value);
    }
    update
}

/// The payload that sends the largest values of `update`.
pub fn payload(layout: &Layout, update: &Theta) -> Vec<u8> {
    let mut residual = zeros(layout);
    compress(layout, update, &zeros(layout), &mut residual, 0.0, false).payload
}

/// As dense as the payload would be: what of `update` is sent.
pub fn sent(layout: &Layout, update: &Theta) -> Theta {
    let mut residual = zeros(layout);
    compress(layout, update, &zeros(layout), &mut residual, 0.0, false);
    update.iter().zip(residual).map(|(all, rest)| all.iter().zip(rest).map(|(all, rest)| all - rest).collect()).collect()
}

/// L2 norm of each parameter.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Multiplies all values.
pub fn scale(update: &mut Theta, factor: f32) {
    update.iter_mut().flatten().for_each(|value| *value *= factor);
}

/// Noise of the given norm for each parameter.
pub fn noise(layout: &Layout, norms: &[f64], draw: Draw) -> Theta {
    let mut update = zeros(layout);
    for (place, (values, norm_wanted)) in update.iter_mut().zip(norms).enumerate() {
        let at = draw.at(place as u64);
        values.iter_mut().enumerate().for_each(|(i, value)| *value = at.at(i as u64).normal() as f32);
        let factor = norm_wanted / norm(values).max(1e-12);
        values.iter_mut().for_each(|value| *value *= factor as f32);
    }
    update
}

/// Replaces those values of `update` that are not 0 and whose size is below the given quantile of them, if `take` says so, by `with(i)`.
pub fn overwrite_small(update: &mut Theta, quantile: f64, take: impl Fn(u64) -> bool, with: impl Fn(u64, f32) -> f32) {
    let mut counter = 0u64;
    for values in update.iter_mut() {
        let mut sizes: Vec<f32> = values.iter().map(|value| value.abs()).filter(|size| *size > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        let Some(bound) = sizes.get(((sizes.len() as f64 * quantile) as usize).min(sizes.len().saturating_sub(1))).copied() else {
            continue;
        };
        for value in values.iter_mut() {
            counter += 1;
            if value.abs() <= bound && *value != 0.0 && take(counter) {
                *value = with(counter, bound);
            }
        }
    }
}
