//! Cosines of sketches beside those of the updates themselves.

use super::{Plain, encode, layout, lcg, opened};
use crate::sketch::{Sketch, dot, dots};
use crate::{CodecConfig, Layout, compress};
use proptest::prelude::*;
use templar_protocol::Digest;

fn shapes() -> Layout {
    layout(&[&[256, 256], &[512, 128], &[256]], CodecConfig { topk: 64, target_chunk: 64, use_dct: false, bins: 4, range: 6.0 })
}

/// The payload of an update that is `common` of what `shared` draws and for the rest `own`.
fn payload(layout: &Layout, shared: u64, own: u64, common: f64) -> Vec<u8> {
    let theta: Vec<Vec<f32>> = layout.params().iter().map(|param| vec![0.0; param.len()]).collect();
    let trained: Vec<Vec<f32>> = (layout.params().iter().enumerate())
        .map(|(i, param)| {
            let (a, b) = (lcg(param.len(), 100 * shared + i as u64, 1.0), lcg(param.len(), 100 * own + i as u64, 1.0));
            a.iter().zip(&b).map(|(a, b)| (common as f32) * a + (1.0 - common as f32) * b).collect()
        })
        .collect();
    let mut residual: Vec<Vec<f32>> = theta.clone();
    compress(layout, &theta, &trained, &mut residual, 0.95, false).payload
}

fn sketch(layout: &Layout, payload: &[u8]) -> Sketch {
    Sketch::of(layout, &opened(layout, 3, payload), &Digest::of(b"run"))
}

/// The exact cosine: the mean of the parameters' cosines, by values sent.
fn exact(layout: &Layout, a: &[u8], b: &[u8]) -> f64 {
    let (a, b) = (super::dense(layout, a), super::dense(layout, b));
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (mut sum, mut weight) = (0.0, 0.0);
    for ((param, a), b) in layout.params().iter().zip(&a).zip(&b) {
        let sent = param.sent() as f64;
        sum += sent * product(a, b) / (product(a, a) * product(b, b)).sqrt();
        weight += sent;
    }
    sum / weight
}

#[test]
fn sketches_estimate_the_cosine() {
    let layout = shapes();
    let first = payload(&layout, 1, 2, 0.5);
    for (own, common) in [(3, 0.0), (4, 0.3), (5, 0.5), (6, 0.8), (2, 0.5)] {
        let second = payload(&layout, 1, own, common);
        let (estimate, truth) = (sketch(&layout, &first).cosine(&sketch(&layout, &second)), exact(&layout, &first, &second));
        assert!((estimate - truth).abs() < 0.04, "common {common}: {estimate} for {truth}");
    }
}

#[test]
fn scaling_is_not_seen_and_a_zero_update_is() {
    let layout = shapes();
    let original = payload(&layout, 1, 2, 0.5);
    let mut contents = super::decode(&layout, &original).unwrap();
    for (i, plain) in contents.iter_mut().enumerate() {
        let factor = [3.0, 0.25, 64.0][i];
        plain.table.shift *= factor;
        plain.table.lookup.iter_mut().for_each(|level| *level *= factor);
    }
    let rescaled = encode(&layout, &contents);
    assert!(sketch(&layout, &original).cosine(&sketch(&layout, &rescaled)) > 0.999_99);
    let nothing: Vec<Plain> = contents.into_iter().map(|plain| Plain { table: Default::default(), ..plain }).collect();
    let nothing = sketch(&layout, &encode(&layout, &nothing));
    assert!(nothing.is_zero() && nothing.cosine(&nothing) == 0.0);
}

#[test]
fn threads_make_no_difference_and_seeds_do() {
    let layout = shapes();
    let object = opened(&layout, 3, &payload(&layout, 1, 2, 0.5));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Sketch::of(&layout, &object, &Digest::of(b"run")))
    };
    assert!(with(1) == with(2) && with(2) == with(7));
    let other = Sketch::of(&layout, &object, &Digest::of(b"another run"));
    assert!(with(1).cosine(&other).abs() < 0.06);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn cosines_are_bounded(shared in 0u64..50, own in 0u64..50, common in 0.0f64..1.0) {
        let layout = shapes();
        let (a, b) = (sketch(&layout, &payload(&layout, shared, own, common)), sketch(&layout, &payload(&layout, shared, own + 1, common)));
        prop_assert!((a.cosine(&a) - 1.0).abs() < 1e-5);
        prop_assert!(a.cosine(&b).abs() <= 1.0 + 1e-5 && a.cosine(&b) == b.cosine(&a));
    }
}

proptest! {
    #[test]
    fn products_taken_together_are_those_taken_alone(seed in any::<u32>(), len in 0usize..1500, count in 0usize..10) {
        let value = |i: usize, j: usize| ((seed as usize + 31 * i + 17 * j) % 97) as f32 / 97.0 - 0.5;
        let all: Vec<Vec<f32>> = (0..=count).map(|i| (0..len).map(|j| value(i, j)).collect()).collect();
        let others: Vec<&[f32]> = all[1..].iter().map(Vec::as_slice).collect();
        let alone: Vec<u64> = others.iter().map(|other| dot(&all[0], other).to_bits()).collect();
        prop_assert_eq!(dots(&all[0], &others).into_iter().map(f64::to_bits).collect::<Vec<_>>(), alone);
    }
}
