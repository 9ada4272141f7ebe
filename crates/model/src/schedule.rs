//! Learning-rate schedules as pure functions of the number of scheduler ticks (§7).
//!
//! A tick is one inner step. The position of a node in the schedule is a function of the global step, so a restart
//! or a joiner needs no scheduler state: `lr(ticks_at(global_step, inner_steps) + k)` is the rate of inner step `k`.

use crate::{ModelError, Result};
use serde::{Deserialize, Serialize};

/// Where every warm-up starts, relative to the base rate.
const WARMUP_START_FACTOR: f64 = 1e-6;

/// A span of ticks in which the schedule stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flatten {
    /// First tick at which the schedule does not advance (the reference: 2740 windows of 30 inner steps, 82200).
    pub start_ticks: u64,
    /// How many ticks it stands still (the reference: 450 windows, 13500).
    pub duration_ticks: u64,
}

/// Warm-up, then a cosine between the base rate and a floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cosine {
    /// The highest rate.
    pub base_lr: f64,
    /// Ticks of linear warm-up from a millionth of the base rate.
    pub warmup_ticks: u64,
    /// Ticks from the top of the cosine to its floor; beyond it the cosine rises again, as the reference's does.
    pub t_max_ticks: u64,
    /// The floor, relative to the base rate.
    pub floor_factor: f64,
    /// Where the schedule stands still, if it does.
    pub flatten: Option<Flatten>,
}

/// Warm-up to a share of the base rate, then a straight line down, on the last shard of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anneal {
    /// The rate that the factors below refer to.
    pub base_lr: f64,
    /// The global step at which ticks begin to count.
    pub start_global_step: u64,
    /// Ticks of linear warm-up.
    pub warmup_ticks: u64,
    /// Ticks of decay after the warm-up.
    pub decay_ticks: u64,
    /// The highest rate, relative to the base rate.
    pub peak_factor: f64,
    /// The last rate, relative to the base rate.
    pub floor_factor: f64,
}

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum Schedule {
    /// The normal mode.
    Cosine(Cosine),
    /// The anneal mode.
    Anneal(Anneal),
}

impl Schedule {
    /// The learning rate of the inner step that follows `ticks` raw ticks.
    pub fn lr(&self, ticks: u64) -> f64 {
        match self {
            Self::Cosine(cosine) => cosine.lr(ticks),
            Self::Anneal(anneal) => anneal.lr(ticks),
        }
    }

    /// Raw ticks at the start of the window with this global step, for `inner_steps` ticks a window. Saturates.
    pub fn ticks_at(&self, global_step: u64, inner_steps: u64) -> u64 {
        match self {
            Self::Cosine(_) => global_step.saturating_mul(inner_steps),
            Self::Anneal(anneal) => global_step.saturating_sub(anneal.start_global_step).saturating_mul(inner_steps),
        }
    }

    /// The learning rate with the extra warm-up after a start: step `k` since the start of the process, of `warmup`
    /// steps, has `(k + 1) / warmup` of it. The anneal mode has no such warm-up.
    pub fn lr_after_start(&self, ticks: u64, steps_since_start: u64, warmup: u64) -> f64 {
        match self {
            Self::Cosine(cosine) => cosine.lr(ticks) * resume_factor(steps_since_start, warmup),
            Self::Anneal(anneal) => anneal.lr(ticks),
        }
    }

    /// Checks that every rate will be finite and not negative.
    ///
    /// # Errors
    /// [`ModelError::Schedule`] names the first hyper-parameter that is not usable.
    pub fn validate(&self) -> Result<()> {
        let (base, factors, t_max) = match self {
            Self::Cosine(cosine) => (cosine.base_lr, [cosine.floor_factor, 1.0], cosine.t_max_ticks),
            Self::Anneal(anneal) => (anneal.base_lr, [anneal.floor_factor, anneal.peak_factor], 1),
        };
        let reason = if !(base.is_finite() && base >= 0.0) {
            format!("the base learning rate is {base}, it must be at least 0")
        } else if factors.iter().any(|factor| !(factor.is_finite() && *factor >= 0.0)) {
            format!("the factors {factors:?} must be at least 0")
        } else if t_max == 0 {
            "the cosine's length is 0 ticks".into()
        } else {
            return Ok(());
        };
        Err(ModelError::Schedule { reason })
    }
}

impl Cosine {
    /// Ticks that moved the schedule, of `raw` ticks.
    pub fn effective_ticks(&self, raw: u64) -> u64 {
        match self.flatten {
            Some(flatten) if raw > flatten.start_ticks => {
                flatten.start_ticks + (raw - flatten.start_ticks).saturating_sub(flatten.duration_ticks)
            }
            _ => raw,
        }
    }

    fn lr(&self, raw: u64) -> f64 {
        let ticks = self.effective_ticks(raw);
        if ticks < self.warmup_ticks {
            return self.base_lr * ramp(1.0, ticks, self.warmup_ticks);
        }
        // Reduced to one period first, so that precision does not fade with the length of the run.
        let phase = (ticks - self.warmup_ticks) % self.t_max_ticks.saturating_mul(2).max(1);
        let angle = std::f64::consts::PI * phase as f64 / self.t_max_ticks.max(1) as f64;
        let floor = self.floor_factor * self.base_lr;
        floor + (self.base_lr - floor) * (1.0 + angle.cos()) / 2.0
    }
}

impl Anneal {
    fn lr(&self, ticks: u64) -> f64 {
        if ticks < self.warmup_ticks {
            return self.base_lr * ramp(self.peak_factor, ticks, self.warmup_ticks);
        }
        let gone = (ticks - self.warmup_ticks).min(self.decay_ticks);
        let share = if self.decay_ticks == 0 { 1.0 } else { gone as f64 / self.decay_ticks as f64 };
        self.base_lr * (self.peak_factor * (1.0 - share) + self.floor_factor * share)
    }
}

/// Linear warm-up from [`WARMUP_START_FACTOR`] to `peak` over `length` ticks, which is not 0.
fn ramp(peak: f64, ticks: u64, length: u64) -> f64 {
    WARMUP_START_FACTOR + (peak - WARMUP_START_FACTOR) * ticks as f64 / length as f64
}

/// The share of the learning rate in inner step `steps_since_start` (from 0) after a start with `warmup` steps of
/// extra warm-up; 1 from step `warmup − 1` on.
pub fn resume_factor(steps_since_start: u64, warmup: u64) -> f64 {
    if steps_since_start >= warmup { 1.0 } else { (steps_since_start as f64 + 1.0) / warmup as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: f64 = 1.17e-4;

    fn normal(flatten: bool) -> Schedule {
        let flatten = flatten.then_some(Flatten { start_ticks: 82_200, duration_ticks: 13_500 });
        Schedule::Cosine(Cosine { base_lr: BASE, warmup_ticks: 1500, t_max_ticks: 140_000, floor_factor: 0.1, flatten })
    }

    fn anneal() -> Schedule {
        Schedule::Anneal(Anneal {
            base_lr: BASE,
            start_global_step: 6100,
            warmup_ticks: 100,
            decay_ticks: 4500,
            peak_factor: 0.25,
            floor_factor: 0.0,
        })
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs() + 1e-20, "{a} != {b}");
    }

    #[test]
    fn known_values_of_the_normal_mode() {
        let schedule = normal(true);
        close(schedule.lr(0), BASE * 1e-6);
        close(schedule.lr(750), BASE * (1e-6 + (1.0 - 1e-6) * 0.5));
        close(schedule.lr(1500), BASE);
        for raw in [82_200, 82_201, 90_000, 95_699, 95_700] {
            assert!((schedule.lr(raw) - 5.18295e-5).abs() < 5e-11, "{}", schedule.lr(raw));
        }
        assert!(schedule.lr(95_701) < schedule.lr(95_700));
        close(schedule.lr(1500 + 140_000 + 13_500), 0.1 * BASE);
        // No clamp: the cosine rises again and is back at the base rate after another half period.
        assert!(schedule.lr(1500 + 150_000 + 13_500) > schedule.lr(1500 + 140_000 + 13_500));
        close(schedule.lr(1500 + 280_000 + 13_500), BASE);
    }

    #[test]
    fn the_closed_form_equals_the_recursion_of_the_reference() {
        // PyTorch's chained form: lr ← η + (lr − η)·(1 + cos(πt/T))/(1 + cos(π(t−1)/T)), which has no clamp either.
        let (eta, t_max) = (0.1 * BASE, 140_000.0_f64);
        let mut lr = BASE;
        for t in 1..80_000_u64 {
            let cos = |t: u64| (std::f64::consts::PI * t as f64 / t_max).cos();
            lr = eta + (lr - eta) * (1.0 + cos(t)) / (1.0 + cos(t - 1));
            let closed = normal(false).lr(1500 + t);
            assert!((closed - lr).abs() < 1e-10 * BASE, "tick {t}: {closed} and {lr}");
        }
    }

    #[test]
    fn known_values_of_the_anneal_mode() {
        let schedule = anneal();
        close(schedule.lr(0), BASE * 1e-6);
        close(schedule.lr(100), 2.925e-5);
        close(schedule.lr(100 + 2250), 2.925e-5 / 2.0);
        assert_eq!(schedule.lr(4600), 0.0);
        assert_eq!(schedule.lr(u64::MAX), 0.0);
        assert_eq!(schedule.ticks_at(6000, 30), 0);
        assert_eq!(schedule.ticks_at(6101, 30), 30);
        assert_eq!(schedule.lr_after_start(100, 0, 30), schedule.lr(100));
    }

    #[test]
    fn resume_warmup_multiplies_the_first_steps_only() {
        let schedule = normal(true);
        close(schedule.lr_after_start(5000, 0, 30), schedule.lr(5000) / 30.0);
        close(schedule.lr_after_start(5000, 14, 30), schedule.lr(5000) / 2.0);
        assert_eq!(schedule.lr_after_start(5000, 29, 30), schedule.lr(5000));
        assert_eq!(schedule.lr_after_start(5000, 30, 30), schedule.lr(5000));
        assert_eq!(schedule.lr_after_start(5000, 0, 0), schedule.lr(5000));
        assert_eq!(schedule.ticks_at(7, 30), 210);
    }

    #[test]
    fn unusable_schedules_are_refused() {
        let Schedule::Cosine(cosine) = normal(false) else { unreachable!("normal mode is the cosine") };
        for bad in [
            Cosine { base_lr: f64::NAN, ..cosine },
            Cosine { base_lr: -1.0, ..cosine },
            Cosine { floor_factor: f64::INFINITY, ..cosine },
            Cosine { t_max_ticks: 0, ..cosine },
        ] {
            assert!(Schedule::Cosine(bad).validate().is_err(), "{bad:?}");
        }
        normal(true).validate().unwrap();
        anneal().validate().unwrap();
    }

    proptest! {
        #[test]
        fn rates_stay_between_nothing_and_the_base(raw in 0_u64..3_000_000) {
            for schedule in [normal(true), normal(false), anneal()] {
                let lr = schedule.lr(raw);
                prop_assert!((0.0..=BASE * (1.0 + 1e-15)).contains(&lr), "{lr}");
            }
            if raw >= 1500 {
                prop_assert!(normal(true).lr(raw) >= 0.1 * BASE * (1.0 - 1e-12));
            }
        }

        #[test]
        fn flattening_only_delays(raw in 0_u64..500_000) {
            let Schedule::Cosine(cosine) = normal(true) else { unreachable!("normal mode is the cosine") };
            let expected = if raw <= 82_200 { raw } else if raw < 95_700 { 82_200 } else { raw - 13_500 };
            prop_assert_eq!(cosine.effective_ticks(raw), expected);
            prop_assert_eq!(normal(true).lr(raw), normal(false).lr(expected));
        }
    }
}
