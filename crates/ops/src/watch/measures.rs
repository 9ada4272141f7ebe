//! Figures of the last windows by which health is judged: one definition for the doctor, the diagnosis, alerts and the monitor.

use templar_node::journal::WindowEntry;
use templar_protocol::Window;

/// A share of gathered objects below this is low.
pub const GATHER_GOOD: f64 = 0.85;
/// A share below this means trouble.
pub const GATHER_LOW: f64 = 0.75;
/// A clock may differ from the chain's by so much, ms.
pub const CLOCK_TOLERANCE_MS: i64 = 2000;
/// Share of the upload window that an object should have left.
pub const MARGIN_SHARE: f64 = 0.2;

/// Phases that are work, as opposed to waiting for others.
const WORK: [&str; 8] = ["look", "train", "compress", "persist", "commit", "gather", "apply", "evaluate"];

/// Mean share of the announced objects that were gathered, over the windows that a manifest decided; none without any.
pub fn gather_success<'a>(windows: impl IntoIterator<Item = &'a WindowEntry>) -> Option<(f64, usize)> {
    mean(windows.into_iter().filter(|entry| entry.manifest.is_some()).map(|entry| entry.gather_success))
}

/// Inner steps of the windows with training: mean, least, and the number of windows.
pub fn inner_steps<'a>(windows: impl IntoIterator<Item = &'a WindowEntry>) -> Option<(f64, u32, usize)> {
    let steps: Vec<u32> = windows.into_iter().filter_map(|entry| entry.training.as_ref()).map(|training| training.steps).collect();
    let steps: Vec<u32> = steps.into_iter().filter(|steps| *steps > 0).collect();
    let (mean, count) = mean(steps.iter().map(|steps| f64::from(*steps)))?;
    Some((mean, steps.iter().copied().min()?, count))
}

/// Time that a window's work took, waiting left out, ms.
pub fn work_ms(entry: &WindowEntry) -> u64 {
    WORK.iter().filter_map(|name| entry.phases_ms.get(*name)).fold(0, |sum, ms| sum.saturating_add(*ms))
}

/// For each window with training, the time between its upload and the deadline, ms; none: not uploaded.
pub fn upload_margins<'a>(windows: impl IntoIterator<Item = &'a WindowEntry>) -> Vec<(Window, Option<i64>)> {
    windows.into_iter().filter_map(|entry| Some((entry.window, entry.training.as_ref()?.upload_margin_ms))).collect()
}

/// The last loss against those before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossTrend {
    /// The last, nats per token.
    pub last: f64,
    /// Mean of those before.
    pub mean: f64,
    /// Their standard deviation, at least a hundredth.
    pub deviation: f64,
    /// How many there are before it.
    pub before: usize,
    /// Whether all are numbers.
    pub finite: bool,
}

impl LossTrend {
    /// Whether the last lies above the others by more than three deviations.
    pub fn runs_away(&self) -> bool {
        self.last > self.mean + 3.0 * self.deviation
    }
}

/// The trend of the training loss; none without training.
pub fn loss_trend<'a>(windows: impl IntoIterator<Item = &'a WindowEntry>) -> Option<LossTrend> {
    let losses: Vec<f64> = windows.into_iter().filter_map(|entry| Some(entry.training.as_ref()?.last_loss)).collect();
    let (last, before) = losses.split_last()?;
    let (mean, _) = mean(before.iter().copied()).unwrap_or((*last, 0));
    let variance = before.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / before.len().max(1) as f64;
    // At least a hundredth, so that a run of equal losses does not make the smallest rise an alarm.
    let deviation = variance.sqrt().max(0.01);
    Some(LossTrend { last: *last, mean, deviation, before: before.len(), finite: losses.iter().all(|loss| loss.is_finite()) })
}

/// Windows in which θ took no step.
pub fn missed_steps<'a>(windows: impl IntoIterator<Item = &'a WindowEntry>) -> usize {
    windows.into_iter().filter(|entry| !entry.stepped).count()
}

/// What the clock is wrong by in a window, ms: negative when it is behind the chain's; none where nothing is known, 0 within what blocks need
/// to arrive.
pub fn clock_error_ms(entry: &WindowEntry) -> Option<i64> {
    let [least, _] = entry.health.chain_age_ms?;
    let block_ms = i64::try_from(entry.plan.block_ms).unwrap_or(i64::MAX);
    Some(match least {
        // A block cannot come from the future.
        ..0 if least < -CLOCK_TOLERANCE_MS => least,
        // The newest block is asked for when it is due, so an age that never falls below this is no waiting.
        0.. if least > CLOCK_TOLERANCE_MS + block_ms / 4 => least,
        _ => 0,
    })
}

/// Requests between two windows: all, failed, throttled. A process that began in between has counted from 0.
pub fn requests_between(before: Option<&WindowEntry>, entry: &WindowEntry) -> [u64; 3] {
    let now = entry.health.requests;
    match before.map(|before| before.health.requests) {
        Some(before) if before.iter().zip(&now).all(|(before, now)| before <= now) => [0, 1, 2].map(|of| now[of] - before[of]),
        _ => now,
    }
}

fn mean(values: impl IntoIterator<Item = f64>) -> Option<(f64, usize)> {
    let (sum, count) = values.into_iter().fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| (sum / count as f64, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_node::journal::{HealthEntry, PlanEntry, TrainingEntry};

    fn aged(least: i64) -> WindowEntry {
        let health = HealthEntry { chain_age_ms: Some([least, least + 9]), ..HealthEntry::default() };
        WindowEntry { health, plan: PlanEntry { block_ms: 12_000, ..PlanEntry::default() }, ..WindowEntry::default() }
    }

    #[test]
    fn a_clock_is_wrong_only_beyond_what_blocks_need_to_arrive() {
        let errors = [-2001, -2000, 0, 5000, 5001].map(|least| clock_error_ms(&aged(least)));
        assert_eq!(errors, [Some(-2001), Some(0), Some(0), Some(0), Some(5001)]);
        assert_eq!(clock_error_ms(&WindowEntry::default()), None);
    }

    #[test]
    fn requests_are_counted_between_windows_and_from_a_new_start() {
        let with = |requests| WindowEntry { health: HealthEntry { requests, ..HealthEntry::default() }, ..WindowEntry::default() };
        assert_eq!(requests_between(Some(&with([5, 1, 0])), &with([9, 2, 1])), [4, 1, 1]);
        assert_eq!(requests_between(Some(&with([5, 1, 0])), &with([3, 0, 0])), [3, 0, 0]);
        assert_eq!(requests_between(None, &with([3, 0, 0])), [3, 0, 0]);
    }

    #[test]
    fn a_loss_that_jumps_runs_away() {
        let windows = |losses: &[f64]| -> Vec<WindowEntry> {
            let entry = |last_loss: &f64| {
                let training = TrainingEntry { last_loss: *last_loss, ..TrainingEntry::default() };
                WindowEntry { training: Some(training), ..WindowEntry::default() }
            };
            losses.iter().map(entry).collect()
        };
        assert!(!loss_trend(&windows(&[4.0, 3.9, 3.8, 3.7])).unwrap().runs_away());
        assert!(loss_trend(&windows(&[4.0, 3.9, 3.8, 9.0])).unwrap().runs_away());
        assert!(!loss_trend(&windows(&[4.0, f64::NAN])).unwrap().finite);
        assert_eq!(loss_trend(&windows(&[])), None);
    }
}
