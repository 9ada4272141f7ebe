//! Many runs: over seeds, on all cores, and their figures with intervals.

use crate::report::Report;
use crate::run::simulate;
use crate::scenario::Scenario;
use crate::world::WorldError;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// 97.5 % points of Student's distribution for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
    2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A figure over several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// Half of the 95 % interval of the mean (Student's distribution).
    pub half: f64,
    /// Least.
    pub least: f64,
    /// Most.
    pub most: f64,
    /// Runs.
    pub runs: usize,
}

impl Interval {
    /// Of these values; all zero for none.
    pub fn of(values: &[f64]) -> Self {
        let runs = values.len();
        if runs == 0 {
            return Self::default();
        }
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let student = STUDENT.get(runs.saturating_sub(2)).copied().unwrap_or(1.96);
        let half = if runs > 1 { student * (squares / (runs - 1) as f64 / runs as f64).sqrt() } else { 0.0 };
        let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(*value), b.max(*value)));
        Self { mean, half, least, most, runs }
    }

    /// The upper end of the 95 % interval.
    pub fn upper(&self) -> f64 {
        self.mean + self.half
    }
}

/// One run that is asked for.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
}

/// Runs all jobs on `threads` threads; gives their reports in the jobs' order.
///
/// # Errors
/// The first scenario that cannot be played.
pub fn run_all(jobs: &[Job], threads: usize, told: impl Fn(usize) + Sync) -> Result<Vec<Report>, WorldError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Report, WorldError>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(place) else { return };
                    let report = simulate(&job.scenario, job.seed, None);
                    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    done.push((place, report));
                    told(done.len());
                }
            });
        }
    });
    let mut reports = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.sort_by_key(|(place, _)| *place);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// The figures of several runs, by name; one that a run lacks is left out there.
pub fn figures(reports: &[Report]) -> BTreeMap<String, Interval> {
    let mut values: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
    for (name, value) in reports.iter().flat_map(|report| &report.figures) {
        values.entry(name).or_default().push(*value);
    }
    values.into_iter().map(|(name, values)| (name.clone(), Interval::of(&values))).collect()
}

/// Threads that this machine has.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        let interval = Interval::of(&[1.0, 2.0, 3.0]);
        assert_eq!((interval.mean, interval.least, interval.most), (2.0, 1.0, 3.0));
        assert!((interval.half - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert_eq!(Interval::of(&[5.0]).half, 0.0);
        assert_eq!(Interval::of(&[]), Interval::default());
    }
}
