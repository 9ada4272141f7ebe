//! How many sequences an evaluation needs, from the spread that is measured.
//!
//! `templar bench score` measures the spreads; docs/scoring.md has the table.

/// Standard deviations that leave out one case of a thousand (one-sided).
pub const MISS_SIGMAS: f64 = 3.09;

/// Random sequences with which an honest miner fails the gate "above zero by `gate` standard errors" after `evaluations` of them with the
/// chance of `miss` standard deviations ([`MISS_SIGMAS`] for one in a thousand): n ≥ (noise · (gate + miss))² / evaluations.
///
/// `noise` is the standard deviation of one sequence's gain in units of the mean gain. At least 2, so that there is a spread; `usize::MAX` when no number
/// suffices.
pub fn random_sequences(noise: f64, evaluations: usize, gate: f64, miss: f64) -> usize {
    at_least(2, (noise * (gate + miss)).powi(2) / evaluations.max(1) as f64)
}

/// Own sequences, with twice as many random ones, with which a miner that leaves out the share `missing` of its data is held to it after
/// `evaluations` in all but the chance of `miss` standard deviations, where full work has the advantage 0.5 + `mark`.
///
/// From the variance of an advantage without own data, (n + 2n + 1)/(12 · n · 2n) ≈ 1/(8n): n ≥ ((gate + miss)/(missing · mark))² / (8 · evaluations).
pub fn own_sequences(mark: f64, missing: f64, evaluations: usize, gate: f64, miss: f64) -> usize {
    at_least(1, ((gate + miss) / (missing * mark)).powi(2) / (8.0 * evaluations.max(1) as f64))
}

fn at_least(least: usize, needed: f64) -> usize {
    // A float beyond the range becomes the largest integer, and NaN zero: then no number suffices either.
    if needed.is_nan() { usize::MAX } else { (needed.ceil() as usize).max(least) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Losses;
    use crate::native::NativeRules;
    use crate::native::work::{Advantage, WorkMark, work};
    use crate::test_noise::Noise;

    /// Losses whose gains have the mean 1 (times a small scale) and the deviation `noise`, and for own ones `mark` deviations more.
    fn losses(draw: &mut Noise, sequences: usize, noise: f64, shift: f64) -> Losses {
        let before: Vec<f64> = (0..sequences).map(|_| 3.0 + 0.5 * draw.normal()).collect();
        let after = before.iter().map(|loss| loss - 0.01 * (1.0 + noise * (draw.normal() + shift))).collect();
        Losses { before, after }
    }

    #[test]
    fn the_numbers_follow_the_formulas() {
        // 1.2 · (1.645 + 3.09) = 5.68, squared 32.3.
        assert_eq!(random_sequences(1.2, 1, 1.645, 3.09), 33);
        assert_eq!(random_sequences(1.2, 10, 1.645, 3.09), 4);
        assert_eq!(own_sequences(0.2, 1.0, 10, 3.0, 1.645), 7);
        assert_eq!(random_sequences(f64::NAN, 1, 1.0, 1.0), usize::MAX);
    }

    #[test]
    fn an_honest_miner_fails_the_gate_as_rarely_as_stated() {
        let (mut draw, noise) = (Noise(11), 1.2);
        let gate = NativeRules::default().useful_sigmas;
        let sequences = random_sequences(noise, 1, gate, 3.09);
        let trials = 20_000;
        let fails = (0..trials).filter(|_| {
            let score = losses(&mut draw, sequences, noise, 0.0).gradient_score().unwrap();
            score.value <= gate * score.standard_error
        });
        let fails = fails.count();
        // One in a thousand is 20; a standard error that is itself estimated from 33 differences adds a few.
        assert!(fails <= 40, "{fails} of {trials} evaluations of an honest miner failed");
    }

    #[test]
    fn missing_work_is_seen_as_often_as_stated_and_full_work_is_not_held_against_anybody() {
        let (mut draw, evaluations, sigmas) = (Noise(5), 10, NativeRules::default().work_sigmas);
        // 0.76 deviations more make an advantage of 0.705.
        let (shift, mark) = (0.76, 0.205);
        let own = own_sequences(mark, 1.0, evaluations, sigmas, 1.645);
        let (mut seen, mut wronged) = (0, 0);
        for _ in 0..1000 {
            let mut marks = [WorkMark::default(); 2];
            for _ in 0..evaluations {
                let random = losses(&mut draw, 2 * own, 1.0, 0.0);
                for (mark, shift) in marks.iter_mut().zip([0.0, shift]) {
                    mark.add(Advantage::of(&losses(&mut draw, own, 1.0, shift), &random).unwrap(), 1.0);
                }
            }
            let factor = |mark: &WorkMark| work(mark, Some(0.5 + 0.205), sigmas).unwrap().factor;
            seen += usize::from(factor(&marks[0]) < 1.0);
            wronged += usize::from(factor(&marks[1]) < 1.0);
        }
        assert!(seen >= 930, "missing work was seen in {seen} of 1000");
        assert!(wronged <= 6, "full work was held against {wronged} of 1000");
    }
}
