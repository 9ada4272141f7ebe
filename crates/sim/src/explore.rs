//! What some hyper-parameters cost and bring: short runs of the simulator's real model, in which one number is another than usual.
//!
//! Every run trains the small Llama of [`crate::learn::real`] by our own method on the same sequences: `workers` workers, error feedback, top-k and two-bit
//! values through the real codec. All workers use the number that is tried. What is found holds for this small model; it shows the direction and the shape of a
//! trade-off, not the best value for a large one.

use crate::lab::LabError;
use crate::sparseloco::{Size, hparams, sparse_run};
use crate::sweep::Interval;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use templar_protocol::hparams::Hparams;

/// A number that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// Rate of the inner optimiser. Each miner's own choice: nobody can see it but by what it does.
    LearningRate,
    /// What the residual is multiplied with from window to window. Each miner's own choice.
    MomentumDecay,
    /// Values sent of each chunk. The protocol's: objects with another number are refused.
    TopK,
}

impl Knob {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LearningRate, Self::MomentumDecay, Self::TopK];

    /// The key of the hyper-parameter.
    pub fn key(self) -> &'static str {
        match self {
            Self::LearningRate => "optimizer.adamw.learning_rate",
            Self::MomentumDecay => "momentum_decay",
            Self::TopK => "topk_compression",
        }
    }

    /// Whether all nodes of a run must agree on it.
    pub fn is_protocol(self) -> bool {
        self == Self::TopK
    }

    fn of(self, hparams: &Hparams) -> f64 {
        match self {
            Self::LearningRate => hparams.optimizer.adamw.learning_rate,
            Self::MomentumDecay => hparams.momentum_decay,
            Self::TopK => hparams.topk_compression as f64,
        }
    }

    fn set(self, hparams: &mut Hparams, value: f64) {
        match self {
            Self::LearningRate => hparams.optimizer.adamw.learning_rate = value,
            Self::MomentumDecay => hparams.momentum_decay = value,
            Self::TopK => hparams.topk_compression = value as usize,
        }
    }

    /// The values that are tried, the usual one among them.
    fn values(self, usual: f64) -> Vec<f64> {
        match self {
            Self::LearningRate => [0.25, 0.5, 1.0, 2.0, 4.0].map(|factor| factor * usual).to_vec(),
            Self::MomentumDecay => {
                let mut values = vec![0.0, 0.8, 0.9, 0.99, 1.0, usual];
                values.sort_by(f64::total_cmp);
                values.dedup();
                values
            }
            Self::TopK => [0.25, 0.5, 1.0, 2.0].map(|factor| (factor * usual).max(1.0).round()).to_vec(),
        }
    }
}

/// One value, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Which number.
    pub knob: Knob,
    /// Its value.
    pub value: f64,
    /// Whether it is the usual one.
    pub usual: bool,
    /// Held-out loss at the end, nats per token.
    pub loss: Interval,
    /// Loss relative to the usual value's, seed by seed.
    pub against_usual: Interval,
    /// Bytes of an object.
    pub object_bytes: f64,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exploration {
    /// Outer steps, workers and seeds of each run.
    pub size: Size,
    /// The points, by knob and rising value.
    pub points: Vec<Point>,
}

/// Tries the values of every knob on `threads` threads; `told` hears of each run that is done, and of how many there are.
///
/// # Errors
/// The model cannot be built, or there is no place for its data.
pub fn explore(size: &Size, threads: usize, told: impl Fn(usize, usize) + Sync) -> Result<Exploration, LabError> {
    let usual = hparams();
    let tried: Vec<(Knob, f64)> =
        Knob::ALL.iter().flat_map(|knob| knob.values(knob.of(&usual)).into_iter().map(|value| (*knob, value))).collect();
    // The usual values are one and the same run.
    let is_usual = |(knob, value): &(Knob, f64)| *value == knob.of(&usual);
    let mut jobs: Vec<(Option<(Knob, f64)>, u64)> = (1..=size.seeds).map(|seed| (None, seed)).collect();
    jobs.extend(tried.iter().filter(|at| !is_usual(at)).flat_map(|at| (1..=size.seeds).map(|seed| (Some(*at), seed))));
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some((at, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    let mut hparams = usual.clone();
                    if let Some((knob, value)) = at {
                        knob.set(&mut hparams, value);
                    }
                    let run = sparse_run(size, hparams, seed);
                    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    done.push((at, seed, run));
                    told(done.len(), jobs.len());
                }
            });
        }
    });
    let mut results = Vec::new();
    for (at, seed, run) in done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let run = run?;
        results.push((at, seed, run.course.last().copied().unwrap_or(f64::NAN), run.bytes));
    }
    results.sort_by_key(|(_, seed, _, _)| *seed);
    let of = |wanted: Option<(Knob, f64)>| -> Vec<(f64, f64)> {
        results.iter().filter(|(at, ..)| *at == wanted).map(|(_, _, loss, bytes)| (*loss, *bytes)).collect()
    };
    let base = of(None);
    let points = tried.iter().map(|at| {
        let runs = if is_usual(at) { base.clone() } else { of(Some(*at)) };
        let losses: Vec<f64> = runs.iter().map(|(loss, _)| *loss).collect();
        let against: Vec<f64> = runs.iter().zip(&base).map(|((loss, _), (base, _))| loss / base - 1.0).collect();
        Point {
            knob: at.0,
            value: at.1,
            usual: is_usual(at),
            loss: Interval::of(&losses),
            against_usual: Interval::of(&against),
            object_bytes: runs.iter().map(|(_, bytes)| bytes).sum::<f64>() / runs.len().max(1) as f64,
        }
    });
    Ok(Exploration { size: size.clone(), points: points.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_is_tried_around_its_usual_value() {
        let usual = hparams();
        for knob in Knob::ALL {
            let values = knob.values(knob.of(&usual));
            assert!(values.contains(&knob.of(&usual)) && values.is_sorted() && values.len() >= 4, "{knob:?}: {values:?}");
            let mut changed = usual.clone();
            knob.set(&mut changed, values[0]);
            let differences = usual.diff(&changed);
            assert_eq!(differences.iter().map(|difference| difference.key.as_str()).collect::<Vec<_>>(), [knob.key()]);
        }
    }

    #[test]
    fn fewer_values_are_smaller_objects_and_the_usual_ones_are_their_own_measure() {
        let size = Size { outer_steps: 2, workers: 1, seeds: 1, ..Size::default() };
        let found = explore(&size, 2, |_, _| ()).unwrap();
        let of = |knob: Knob| found.points.iter().filter(move |point| point.knob == knob).collect::<Vec<_>>();
        assert!(of(Knob::TopK).windows(2).all(|pair| pair[0].object_bytes < pair[1].object_bytes));
        assert_eq!(found.points.iter().filter(|point| point.usual).count(), 3);
        for point in found.points.iter().filter(|point| point.usual) {
            assert_eq!(point.against_usual.mean, 0.0);
        }
        let rates = of(Knob::LearningRate);
        assert!(rates[0].loss.mean != rates[4].loss.mean, "the rate is really used");
        let decays = of(Knob::MomentumDecay);
        assert!(decays[0].loss.mean != decays[4].loss.mean, "the decay is really used");
    }
}
