//! Chance as a pure function: every number follows from the seed and the place that it is drawn for.
//!
//! There is no state to advance, so a draw does not depend on what was drawn before: a node that crashes, or an attacker more, leaves
//! every other node's luck as it was.

/// A place in the space of draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(u64);

/// The finaliser of splitmix64: a bijection whose output bits each depend on all input bits.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draw {
    /// The root of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(GOLDEN)))
    }

    /// The place named `label` below this one.
    #[must_use]
    pub fn of(self, label: &str) -> Self {
        label.bytes().fold(self.at(label.len() as u64), |draw, byte| draw.at(u64::from(byte)))
    }

    /// The place with this number below this one.
    #[must_use]
    pub fn at(self, number: u64) -> Self {
        Self(mix(self.0.wrapping_add(GOLDEN) ^ mix(number.wrapping_mul(GOLDEN).wrapping_add(1))))
    }

    /// 64 bits.
    pub fn bits(self) -> u64 {
        mix(self.0.wrapping_add(GOLDEN))
    }

    /// Uniform in [0, 1).
    pub fn unit(self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `low..=high`; `low` where the range is empty.
    pub fn between(self, low: u64, high: u64) -> u64 {
        low + (self.unit() * (high.saturating_sub(low) + 1) as f64) as u64
    }

    /// Uniform in [low, high).
    pub fn real(self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Standard normal (Box and Muller).
    pub fn normal(self) -> f64 {
        let radius = (-2.0 * (1.0 - self.at(0).unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.at(1).unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_independent_and_repeatable() {
        let root = Draw::new(7);
        assert_eq!(root.of("a").at(3).bits(), root.of("a").at(3).bits());
        let all: std::collections::BTreeSet<u64> =
            (0..1000).map(|i| root.of("a").at(i).bits()).chain([root.of("b").at(0).bits()]).collect();
        assert_eq!(all.len(), 1001);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let root = Draw::new(1);
        let n = 20_000;
        let mean = |f: &dyn Fn(u64) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        assert!((mean(&|i| root.at(i).unit()) - 0.5).abs() < 0.01);
        assert!(mean(&|i| root.at(i).normal()).abs() < 0.03);
        assert!((mean(&|i| root.at(i).normal().powi(2)) - 1.0).abs() < 0.05);
        assert!((0..100).all(|i| (3..=5).contains(&root.at(i).between(3, 5))));
    }
}
