//! The binary moving average: how often a miner's update helped more on its own assignment than on random data.

use serde::{Deserialize, Serialize};

/// Exponential average of indicators that are +1 or −1, in float32 as the reference keeps it (spec validator §0.3, §2.6 9).
/// Always within [−1, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BinaryMovingAverage(f32);

impl BinaryMovingAverage {
    /// The average so far; 0 before the first indicator.
    pub fn value(self) -> f32 {
        self.0
    }

    /// An average that stands at `value`, clamped to [−1, 1]; NaN becomes 0.
    pub fn of(value: f32) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(-1.0, 1.0) })
    }

    /// Multiplies the average with `factor`, in [0, 1].
    pub fn scale(&mut self, factor: f32) {
        *self = Self::of(self.0 * factor);
    }

    /// Takes in one indicator, `better` for +1, with weight `alpha` in (0, 1].
    pub fn update(&mut self, better: bool, alpha: f64) {
        let indicator = if better { 1.0 } else { -1.0 };
        self.0 = ((1.0 - alpha) as f32 * self.0 + alpha as f32 * indicator).clamp(-1.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equals_the_reference() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/scoring.json"));
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["binary_moving_average"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let mut average = BinaryMovingAverage::default();
            let steps = case["indicators"].as_array().unwrap().iter().zip(case["expected_bma"].as_array().unwrap());
            for (indicator, expected) in steps {
                average.update(indicator.as_i64() == Some(1), case["alpha"].as_f64().unwrap());
                assert_eq!(average.value(), expected.as_f64().unwrap() as f32, "{}", case["name"]);
            }
        }
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds(indicators in proptest::collection::vec(any::<bool>(), 0..200), alpha in 0.001f64..1.0) {
            let mut average = BinaryMovingAverage::default();
            for better in indicators {
                average.update(better, alpha);
                prop_assert!((-1.0..=1.0).contains(&average.value()));
            }
        }
    }
}
