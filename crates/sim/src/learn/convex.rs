//! A convex model of loss, with the noise of learning from samples: fast enough for thousands of windows.
//!
//! A sample s (a number) has, at the window t, the loss
//!
//! L_s(θ) = floor·(1 + 0.2·z_s) + ½ Σᵢ hᵢ (θᵢ − θ*ᵢ(t))² + Σᵢ nᵢ·r_sᵢ·(θᵢ − θ*ᵢ(t))
//!
//! with curvatures hᵢ that fall as a power of i (scattered over the coordinates), signs r_sᵢ = ±1 that belong to the sample, and
//! nᵢ = noise·√hᵢ: gradient noise aligned with curvature, as where labels are noisy. The optimum θ* swings slowly, each coordinate
//! with its own period, so that there is always something to learn and every window of a run is like every other.
//!
//! What it shares with a language model: a miner's update lowers the loss on all samples; it lowers that of the samples trained on more, by
//! the noise that it has learned by heart; whoever averages over miners gets less noise; AdamW, top-k, quantiser and error feedback act
//! as they do there. How close its figures come is in docs/simulator.md. The mean over samples is exact in expectation only: evaluations have
//! sampling noise, paired between before and after.

use crate::draw::{Draw, mix};
use crate::scenario::Fast;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use templar_codec::{SparseUpdate, simd};
use templar_model::{Batch, InnerHyper, ModelError, Moments, QueuedStep, Result, SequenceLoss, StepStats, Trainer};
use templar_protocol::ParamSpec;

/// Rows and columns of the parameters.
const SHAPES: [[usize; 2]; 3] = [[64, 32], [32, 32], [64, 16]];
/// Numbers in all.
const SIZE: usize = 64 * 32 + 32 * 32 + 64 * 16;
/// Spread of the samples' own difficulty, as a share of the floor.
const DIFFICULTY: f64 = 0.2;

/// The eight signs that a byte stands for.
static SIGNS: [[f32; 8]; 256] = signs();

const fn signs() -> [[f32; 8]; 256] {
    let mut table = [[1.0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte][bit] = -1.0;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}

/// The bytes of signs of `N` samples for the coordinates of one word.
#[inline(always)]
fn signs_of<const N: usize>(keys: [u64; N], word: usize) -> [[u8; 8]; N] {
    keys.map(|key| mix(key ^ (word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
}

/// The window that the optimum is asked for; shared between the trainer and whoever drives it.
pub type Epoch = Arc<AtomicU64>;

/// The learner.
pub struct Convex {
    specs: Vec<ParamSpec>,
    places: Vec<Range<usize>>,
    fast: Fast,
    /// Where samples are drawn.
    samples: Draw,
    epoch: Epoch,
    curvature: Vec<f32>,
    noise: Vec<f32>,
    pace: Vec<(f64, f64)>,
    /// θ* and the window that it is of.
    optimum: (Option<u64>, Vec<f32>),
    theta: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    step: u64,
    tried: Option<Vec<(usize, f32)>>,
}

impl Convex {
    /// The problem of `draw`; the optimum is that of the window in `epoch`.
    pub fn new(fast: Fast, draw: Draw, epoch: Epoch) -> Self {
        let specs: Vec<ParamSpec> =
            SHAPES.iter().enumerate().map(|(i, shape)| ParamSpec { name: format!("convex.{i}"), shape: shape.to_vec() }).collect();
        let mut places = Vec::new();
        for spec in &specs {
            let start = places.last().map_or(0, |range: &Range<usize>| range.end);
            places.push(start..start + spec.len());
        }
        let mut order: Vec<usize> = (0..SIZE).collect();
        order.sort_by_key(|&i| draw.of("order").at(i as u64).bits());
        let raw: Vec<f64> = (0..SIZE).map(|i| ((i + 1) as f64).powf(-fast.spectrum)).collect();
        let scale = fast.curvature * SIZE as f64 / raw.iter().sum::<f64>();
        let mut curvature = vec![0.0; SIZE];
        for (&place, value) in order.iter().zip(&raw) {
            curvature[place] = (scale * value) as f32;
        }
        let noise = curvature.iter().map(|h| fast.noise as f32 * h.sqrt()).collect();
        let [shortest, longest] = fast.period_windows.map(f64::ln);
        let pace = (0..SIZE as u64)
            .map(|i| {
                let place = draw.of("pace").at(i);
                let period = place.at(0).real(shortest, longest.max(shortest)).exp();
                (std::f64::consts::TAU / period, std::f64::consts::TAU * place.at(1).unit())
            })
            .collect();
        let zeros = || vec![0.0; SIZE];
        Self {
            specs,
            places,
            fast,
            samples: draw.of("sample"),
            epoch,
            curvature,
            noise,
            pace,
            optimum: (None, zeros()),
            theta: zeros(),
            first: zeros(),
            second: zeros(),
            step: 0,
            tried: None,
        }
    }

    /// The θ that a run starts from: zero.
    pub fn initial() -> Vec<Vec<f32>> {
        SHAPES.iter().map(|[rows, cols]| vec![0.0; rows * cols]).collect()
    }

    fn turn_to_epoch(&mut self) {
        let window = self.epoch.load(Ordering::Relaxed);
        if self.optimum.0 == Some(window) {
            return;
        }
        let swing = self.fast.swing;
        for (value, (speed, phase)) in self.optimum.1.iter_mut().zip(&self.pace) {
            *value = (swing * (speed * window as f64 + phase).sin()) as f32;
        }
        self.optimum.0 = Some(window);
    }

    /// Σᵢ weightᵢ·r_sᵢ.
    fn along(key: u64, weights: &[f32]) -> f64 {
        let sums = simd(
            #[inline(always)]
            || {
                let mut sums = [0.0f32; 8];
                for (word, weights) in weights.as_chunks::<64>().0.iter().enumerate() {
                    let [bytes] = signs_of([key], word);
                    for (byte, weights) in bytes.iter().zip(weights.as_chunks::<8>().0) {
                        let signs = &SIGNS[usize::from(*byte)];
                        for lane in 0..8 {
                            sums[lane] += signs[lane] * weights[lane];
                        }
                    }
                }
                sums
            },
        );
        sums.iter().map(|sum| f64::from(*sum)).sum()
    }

    /// gradientᵢ += scale·nᵢ·r_sᵢ of `N` samples, one after the other.
    fn add_noise<const N: usize>(keys: [u64; N], noise: &[f32], scale: f32, gradient: &mut [f32]) {
        simd(
            #[inline(always)]
            || {
                for (word, (noise, gradient)) in noise.as_chunks::<64>().0.iter().zip(gradient.as_chunks_mut::<64>().0).enumerate() {
                    let bytes = signs_of(keys, word);
                    for (at, (noise, gradient)) in noise.as_chunks::<8>().0.iter().zip(gradient.as_chunks_mut::<8>().0).enumerate() {
                        for i in 0..N {
                            let signs = &SIGNS[usize::from(bytes[i][at])];
                            for lane in 0..8 {
                                gradient[lane] += scale * signs[lane] * noise[lane];
                            }
                        }
                    }
                }
            },
        );
    }

    /// ½ Σ h (θ − θ*)², and n·(θ − θ*) for the samples' own part.
    fn excess(&self) -> (f64, Vec<f32>) {
        let (mut weighted, mut sums) = (vec![0.0f32; SIZE], [0.0f32; 8]);
        let [theta, optimum, curvature, noise] =
            [&self.theta, &self.optimum.1, &self.curvature, &self.noise].map(|all| all.as_chunks::<8>().0);
        let weighted_chunks = weighted.as_chunks_mut::<8>().0;
        simd(
            #[inline(always)]
            || {
                for i in 0..SIZE / 8 {
                    for lane in 0..8 {
                        let away = theta[i][lane] - optimum[i][lane];
                        sums[lane] += curvature[i][lane] * away * away;
                        weighted_chunks[i][lane] = noise[i][lane] * away;
                    }
                }
            },
        );
        (0.5 * sums.iter().map(|sum| f64::from(*sum)).sum::<f64>(), weighted)
    }

    /// The losses of the samples with these keys, in order.
    fn losses_of(&self, keys: &[u64], excess: f64, weighted: &[f32]) -> Vec<f64> {
        let floor = self.fast.floor;
        let loss = |key: &u64| {
            // A uniform difficulty has bounded tails: no sample is easier than nothing.
            let difficulty = DIFFICULTY * (2.0 * Draw::new(*key).unit() - 1.0);
            (floor * (1.0 + difficulty) + excess + Self::along(*key, weighted)).max(0.01 * floor)
        };
        keys.iter().map(loss).collect()
    }

    /// What the signs and the difficulty of a batch's samples are drawn from.
    fn noise_keys<'a>(&self, batches: impl IntoIterator<Item = &'a Batch>) -> Vec<u64> {
        let rows = batches.into_iter().flat_map(|batch| batch.tokens().chunks_exact(batch.seq_len()));
        rows.map(|row| self.samples.at(u64::from(row[0])).bits()).collect()
    }

    fn gradient(&self, batches: &[Batch]) -> (Vec<f32>, f64, u64) {
        let rows: u64 = batches.iter().map(|batch| batch.rows() as u64).sum();
        let (excess, weighted) = self.excess();
        let mut gradient: Vec<f32> =
            self.theta.iter().zip(&self.optimum.1).zip(&self.curvature).map(|((theta, optimum), h)| h * (theta - optimum)).collect();
        let scale = 1.0 / rows.max(1) as f32;
        let keys = self.noise_keys(batches);
        let (fours, rest) = keys.as_chunks::<4>();
        fours.iter().for_each(|four| Self::add_noise(*four, &self.noise, scale, &mut gradient));
        rest.iter().for_each(|key| Self::add_noise([*key], &self.noise, scale, &mut gradient));
        let loss = self.losses_of(&keys, excess, &weighted).into_iter().fold(0.0, |total, loss| total + loss);
        (gradient, loss / rows.max(1) as f64, rows)
    }

    fn flatten(&self, tensors: &[Vec<f32>], into: &mut Vec<f32>) -> Result<()> {
        let fits = tensors.len() == self.specs.len() && tensors.iter().zip(&self.specs).all(|(values, spec)| values.len() == spec.len());
        if !fits {
            return Err(ModelError::Batch { reason: "these are not the parameters of the convex model".into() });
        }
        into.clear();
        tensors.iter().for_each(|values| into.extend_from_slice(values));
        Ok(())
    }

    fn split(&self, flat: &[f32]) -> Vec<Vec<f32>> {
        self.places.iter().map(|place| flat[place.clone()].to_vec()).collect()
    }
}

impl Trainer for Convex {
    fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    fn load(&mut self, theta: &[Vec<f32>]) -> Result<()> {
        let mut flat = std::mem::take(&mut self.theta);
        let loaded = self.flatten(theta, &mut flat);
        self.theta = flat;
        self.tried = None;
        loaded
    }

    fn queue_step(&mut self, micro_batches: &[Batch], hyper: &InnerHyper) -> Result<QueuedStep> {
        hyper.validate()?;
        self.turn_to_epoch();
        let (mut gradient, loss, rows) = self.gradient(micro_batches);
        let norm = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt();
        if norm > hyper.clip_norm {
            let factor = (hyper.clip_norm / norm) as f32;
            gradient.iter_mut().for_each(|g| *g *= factor);
        }
        self.step += 1;
        let (beta1, beta2) = hyper.betas;
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        let (correct1, correct2) = ((1.0 - beta1.powi(exponent)) as f32, (1.0 - beta2.powi(exponent)) as f32);
        let (beta1, beta2, lr, eps) = (beta1 as f32, beta2 as f32, hyper.lr as f32, hyper.eps as f32);
        let decay = 1.0 - lr * hyper.weight_decay as f32;
        let (theta, first, second) = (&mut self.theta[..SIZE], &mut self.first[..SIZE], &mut self.second[..SIZE]);
        simd(
            #[inline(always)]
            || {
                for (i, &g) in gradient.iter().enumerate().take(SIZE) {
                    let m = beta1 * first[i] + (1.0 - beta1) * g;
                    let v = beta2 * second[i] + (1.0 - beta2) * g * g;
                    (first[i], second[i]) = (m, v);
                    theta[i] = decay * theta[i] - lr * (m / correct1) / ((v / correct2).sqrt() + eps);
                }
            },
        );
        Ok(QueuedStep { stats: StepStats { loss, grad_norm: norm, tokens: rows, targets: rows }, losses: vec![], grad_norm: None })
    }

    fn finish_step(&mut self, queued: QueuedStep) -> Result<StepStats> {
        Ok(queued.stats)
    }

    fn losses(&mut self, batch: &Batch) -> Result<Vec<SequenceLoss>> {
        self.turn_to_epoch();
        let (excess, weighted) = self.excess();
        let losses = self.losses_of(&self.noise_keys([batch]), excess, &weighted);
        Ok(losses.into_iter().map(|sum| SequenceLoss { sum, tokens: 1 }).collect())
    }

    fn apply_sparse(&mut self, update: &SparseUpdate) -> Result<()> {
        let refuse = |reason: &str| Err(ModelError::Batch { reason: reason.into() });
        if self.tried.is_some() {
            return refuse("an update is being tried already");
        }
        if update.params.len() != self.places.len() {
            return refuse("the update is another model's");
        }
        let mut tried = Vec::new();
        for (place, entries) in self.places.iter().zip(&update.params) {
            if entries.iter().any(|(index, _)| *index as usize >= place.len()) {
                return refuse("the update reaches beyond a parameter");
            }
            tried.extend(entries.iter().map(|(index, _)| {
                let at = place.start + *index as usize;
                (at, self.theta[at])
            }));
        }
        for (place, entries) in self.places.iter().zip(&update.params) {
            entries.iter().for_each(|(index, change)| self.theta[place.start + *index as usize] -= change);
        }
        self.tried = Some(tried);
        Ok(())
    }

    fn undo_sparse(&mut self) -> Result<()> {
        let Some(tried) = self.tried.take() else {
            return Err(ModelError::Batch { reason: "no update is being tried".into() });
        };
        tried.into_iter().for_each(|(at, value)| self.theta[at] = value);
        Ok(())
    }

    fn read(&mut self, index: usize, into: &mut Vec<f32>) -> Result<()> {
        let Some(place) = self.places.get(index) else {
            return Err(ModelError::Batch { reason: format!("the convex model has no parameter {index}") });
        };
        into.clear();
        into.extend_from_slice(&self.theta[place.clone()]);
        Ok(())
    }

    fn moments(&mut self) -> Result<Moments> {
        Ok(Moments { step: self.step, m: self.split(&self.first), v: self.split(&self.second) })
    }

    fn load_moments(&mut self, moments: Moments) -> Result<()> {
        if moments.m.is_empty() && moments.v.is_empty() {
            (self.first, self.second) = (vec![0.0; SIZE], vec![0.0; SIZE]);
        } else {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            self.flatten(&moments.m, &mut first)?;
            self.flatten(&moments.v, &mut second)?;
            (self.first, self.second) = (first, second);
        }
        self.step = moments.step;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Convex {
        let mut model = Convex::new(Fast::default(), Draw::new(3), Epoch::default());
        model.load(&Convex::initial()).unwrap();
        model
    }

    fn batch(samples: Range<u32>) -> Batch {
        let rows = samples.len();
        Batch::new(samples.flat_map(|sample| [sample, 0]).collect(), rows, 2).unwrap()
    }

    fn mean(model: &mut Convex, samples: Range<u32>) -> f64 {
        let losses = model.losses(&batch(samples)).unwrap();
        losses.iter().map(|loss| loss.sum).sum::<f64>() / losses.len() as f64
    }

    #[test]
    fn training_helps_everywhere_and_its_own_samples_more() {
        let mut model = model();
        let before = (mean(&mut model, 0..80), mean(&mut model, 10_000..12_000));
        for step in 0..10 {
            model.inner_step(&[batch(8 * step..8 * step + 8)], &InnerHyper { lr: 2e-3, ..InnerHyper::default() }).unwrap();
        }
        let after = (mean(&mut model, 0..80), mean(&mut model, 10_000..12_000));
        let (own, random) = (before.0 - after.0, before.1 - after.1);
        assert!(random > 0.0 && own > 1.05 * random, "own {own}, random {random}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut model = model();
        model.turn_to_epoch();
        let rows = batch(5..6);
        let (gradient, ..) = model.gradient(std::slice::from_ref(&rows));
        for at in [0, 77, 4095] {
            let mut at_loss = |change: f32| {
                model.theta[at] += change;
                let loss = model.losses(&rows).unwrap()[0].sum;
                model.theta[at] -= change;
                loss
            };
            let slope = (at_loss(0.05) - at_loss(-0.05)) / 0.1;
            assert!((slope - f64::from(gradient[at])).abs() < 2e-3, "{at}: {slope} is not {}", gradient[at]);
        }
    }

    #[test]
    fn an_update_is_tried_and_taken_back_bit_for_bit() {
        let mut model = model();
        let before = model.theta.clone();
        let update = SparseUpdate { params: vec![vec![(3, 0.1)], vec![], vec![(7, -0.2)]] };
        model.apply_sparse(&update).unwrap();
        assert!(model.apply_sparse(&update).is_err());
        assert_ne!(model.theta, before);
        model.undo_sparse().unwrap();
        assert_eq!(model.theta, before);
        assert!(model.undo_sparse().is_err());
        assert!(model.apply_sparse(&SparseUpdate { params: vec![vec![(9999, 0.1)], vec![], vec![]] }).is_err());
    }
}
